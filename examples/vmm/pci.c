/* SPDX-License-Identifier: MIT */
/*
 * PCI configuration, mechanism 1: ports 0xcf8 (address) and 0xcfc to 0xcff (data), and on bus 0 the
 * functions 00:00.0, 00:01.0 and 00:01.3. Absent ones read as ones. There are no BARs: they read 0
 * after being written with ones, which is how firmware learns it.
 * Not here: what the registers do (host-bridge.c, pm.c).
 */
#include <string.h>

#include "machine.h"

#define ADDRESS_PORT 0xcf8
#define ADDRESS_ENABLE (1u << 31)
#define DATA_PORT 0xcfc

static struct pci_function *find_function(struct pci *pci)
{
	struct pci_function *functions[] = {&pci->host_bridge, &pci->isa_bridge, &pci->pm};
	unsigned bus_devfn = pci->address >> 8 & 0xffff;

	if (!(pci->address & ADDRESS_ENABLE))
		return NULL;
	for (unsigned i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (functions[i]->devfn == bus_devfn)
			return functions[i];
	return NULL;
}

static unsigned register_of(const struct pci *pci, const struct kvmas_access *access)
{
	return (pci->address & 0xfc) + (unsigned)access->offset;
}

static int read_address(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	const struct machine *machine = opaque;

	(void)access;
	*value = machine->pci.address;
	return 0;
}

static int write_address(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;

	(void)access;
	machine->pci.address = (uint32_t)value;
	return 0;
}

/* All four bytes at once: single ones at 0xcf9 belong to the reset control, which is not built. */
static const struct kvmas_ops address_ops = {
	.struct_size = sizeof(address_ops),
	.read = read_address,
	.write = write_address,
	.valid = {.min = 4, .max = 4},
};

static int read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct machine *machine = opaque;
	struct pci_function *function = find_function(&machine->pci);

	*value = UINT64_MAX;
	if (function)
		*value = load_le(function->config + register_of(&machine->pci, access),
				 access->size);
	return 0;
}

static int write_config(struct machine *machine, const struct kvmas_access *access, uint64_t value)
{
	struct pci_function *function = find_function(&machine->pci);
	unsigned first = register_of(&machine->pci, access);
	uint8_t *config, writable;

	if (!function)
		return 0;
	for (unsigned i = 0; i < access->size; i++) {
		config = &function->config[first + i];
		writable = function->writable[first + i];
		*config = (uint8_t)((*config & ~writable) | (value >> 8 * i & writable));
	}
	if (!function->written)
		return 0;
	return function->written(machine, first, first + access->size - 1);
}

static int write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;
	int rc = write_config(machine, access, value);

	if (!rc)
		return 0;
	/* The guest believes that its map has changed: to go on would be to run another machine. */
	complain("cannot switch the map as PCI register 0x%x says: %s", machine->pci.address,
		 strerror(-rc));
	machine_end(machine, 1);
	return rc;
}

static const struct kvmas_ops ops = {
	.struct_size = sizeof(ops),
	.read = read,
	.write = write,
};

/* Without a function 0 that says "more functions here" nobody looks for 00:01.3. */
static void reset_isa_bridge(struct pci_function *function)
{
	function->devfn = 1 << 3;
	store_le(function->config + 0x00, 4, 0x70008086);
	store_le(function->config + 0x0a, 2, 0x0601);
	function->config[0x0e] = 0x80;
	/* Interrupt routing: stored, for nothing on this bus interrupts. */
	memset(function->writable + 0x60, 0xff, 4);
}

void pci_map(struct machine *machine)
{
	reset_isa_bridge(&machine->pci.isa_bridge);
	map_ports(machine, "pci-address", ADDRESS_PORT, 4, &address_ops);
	map_ports(machine, "pci-data", DATA_PORT, 4, &ops);
}

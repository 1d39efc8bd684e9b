/* SPDX-License-Identifier: MIT */
/*
 * PCI configuration, mechanism 1: ports 0xcf8 (address) and 0xcfc to 0xcff (data), and on bus 0 the
 * functions 00:00.0, 00:01.0 and 00:01.3. Absent ones read as ones. There are no BARs: they read 0
 * after being written with ones, which is how firmware learns it.
 * Not here: what the registers do (host-bridge.c, pm.c).
 */
#include <string.h>

#include "machine.h"

#define PORT 0xcf8
#define ADDRESS_ENABLE (1u << 31)
#define DATA_OFFSET 4

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
	return (pci->address & 0xfc) + ((unsigned)access->offset & 3);
}

/* Only a write or read of all four bytes is one of the address register: bytes at 0xcf9 belong to
 * the reset control, which is not built. */
static bool is_address(const struct kvmas_access *access)
{
	return !access->offset && access->size == 4;
}

static int read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct machine *machine = opaque;
	struct pci_function *function;

	*value = UINT64_MAX;
	if (is_address(access))
		*value = machine->pci.address;
	if (access->offset < DATA_OFFSET)
		return 0;
	function = find_function(&machine->pci);
	if (function)
		*value = load_le(function->config + register_of(&machine->pci, access),
				 access->size);
	return 0;
}

static int write_config(struct machine *machine, const struct kvmas_access *access, uint64_t value)
{
	struct pci_function *function = find_function(&machine->pci);
	unsigned first = register_of(&machine->pci, access);
	uint8_t bytes[8], *config;

	if (!function)
		return 0;
	store_le(bytes, access->size, value);
	for (unsigned i = 0; i < access->size; i++) {
		config = &function->config[first + i];
		*config = (uint8_t)((*config & ~function->writable[first + i]) |
				    (bytes[i] & function->writable[first + i]));
	}
	if (!function->written)
		return 0;
	return function->written(machine, first, first + access->size - 1);
}

static int write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;
	int rc;

	if (is_address(access))
		machine->pci.address = (uint32_t)value;
	if (access->offset < DATA_OFFSET)
		return 0;
	rc = write_config(machine, access, value);
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
	map_ports(machine, "pci-config", PORT, 8, &ops);
}

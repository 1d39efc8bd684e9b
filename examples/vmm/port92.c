/* SPDX-License-Identifier: MIT */
/*
 * System control port A, 0x92: the A20 gate, stored only (A20 is always on), and the fast reset,
 * which ends the run: this machine is started anew by starting the program anew.
 */
#include "machine.h"

#define PORT 0x92
#define RESET 0x01
#define A20 0x02

static int read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct machine *machine = opaque;

	(void)access;
	*value = machine->port92;
	return 0;
}

static int write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;

	(void)access;
	machine->port92 = value & A20;
	if (!(value & RESET))
		return 0;
	complain("the guest asked for a reset; see its output for why");
	machine_end(machine, 1);
	return 0;
}

static const struct kvmas_ops ops = {
	.struct_size = sizeof(ops),
	.read = read,
	.write = write,
};

void port92_map(struct machine *machine)
{
	machine->port92 = A20;
	map_ports(machine, "port92", PORT, 1, &ops);
}

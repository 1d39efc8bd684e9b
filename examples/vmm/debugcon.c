/* SPDX-License-Identifier: MIT */
/*
 * Two ports for firmware: 0x402, whose bytes go to stdout, and 0x501, where a status ends the run.
 * Each byte of 0x402 is kept for check.c, with the mark of whether it came from SMM.
 *
 * There are thousands of these bytes, and nothing depends on when one is printed, but on their
 * order: so they wait in KVM's ring (a coalesced zone), until an exit or a tick has the library
 * hand them on. What waits does not say in which mode it was written: the mark is that of the exit
 * at which it was handed on. A guest that enters SMM by the APM port has one there; and own.S reads
 * this port before it leaves SMM. So no byte of own.S waits across that.
 */
#include "machine.h"

#define DEBUG_PORT 0x402
#define DEBUG_PRESENT 0xe9 /* what reads give, so that firmware knows the port */
#define EXIT_PORT 0x501

static int read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	(void)opaque;
	(void)access;
	*value = DEBUG_PRESENT;
	return 0;
}

static int write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;
	struct debugcon *debugcon = &machine->debugcon;

	(void)access;
	output_keep(&debugcon->kept, (uint8_t)value, kvmas_vcpu_get_as_id(machine->vcpu.tie) == 1);
	if (output_guest(&debugcon->tail, machine->options->until, (uint8_t)value)) {
		machine->until_seen = true;
		machine_end(machine, 0);
	}
	return 0;
}

static const struct kvmas_ops debug_ops = {
	.struct_size = sizeof(debug_ops),
	.read = read,
	.write = write,
};

static int write_exit(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;

	(void)access;
	machine->guest_ended = true;
	machine_end(machine, (uint8_t)value);
	return 0;
}

static const struct kvmas_ops exit_ops = {
	.struct_size = sizeof(exit_ops),
	.write = write_exit,
};

void debugcon_map(struct machine *machine)
{
	coalesce(machine, map_ports(machine, "debugcon", DEBUG_PORT, 1, &debug_ops), 1);
	map_ports(machine, "exit", EXIT_PORT, 1, &exit_ops);
}

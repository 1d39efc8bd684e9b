/* SPDX-License-Identifier: MIT */
/*
 * What --trace-slots, --dump and --stats print. The trace's lines are read by tests/slots.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

static const char *const operation_names[] = {
	[KVMAS_SLOT_CREATE] = "create",
	[KVMAS_SLOT_DELETE] = "delete",
	[KVMAS_SLOT_MOVE] = "move",
	[KVMAS_SLOT_FLAGS] = "flags",
};

void report_slot_operation(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
			   int result)
{
	char error[32] = "";

	(void)data;
	if (result)
		snprintf(error, sizeof(error), " error=%d", result);
	output_line("slot %s as=%u id=%u gpa=0x%" PRIx64 " size=0x%" PRIx64 " ram=%s+0x%" PRIx64
		    " flags=0x%" PRIx32 "%s",
		    operation_names[kind], slot->as_id, slot->id, slot->gpa, slot->size,
		    kvmas_ram_get_name(slot->ram), slot->ram_offset, slot->flags, error);
}

static void print_stats(struct machine *machine)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};

	kvmas_kvm_get_stats(machine->tie, &stats);
	const struct {
		const char *name;
		uint64_t value;
	} lines[] = {
		{"commits", stats.commits},
		{"slot_creates", stats.slot_creates},
		{"slot_deletes", stats.slot_deletes},
		{"slot_moves", stats.slot_moves},
		{"slot_flags", stats.slot_flags},
		/* Each drops every mapping that the guest has, of every space. */
		{"zap_events", stats.slot_deletes + stats.slot_moves},
		{"bytes_torn_live", stats.bytes_torn_live},
		{"vcpu_stops", stats.vcpu_stops},
		{"vcpu_stop_ns", stats.vcpu_stop_ns},
		{"log_reads", stats.log_reads},
		{"log_clears", stats.log_clears},
		{"ring_entries", stats.ring_entries},
		{"ring_strays", stats.ring_strays},
		{"ring_resets", stats.ring_resets},
		{"ring_full", stats.ring_full},
		{"unassigned", stats.unassigned},
		{"refused", stats.refused},
		{"mmio_exits", stats.mmio_exits},
		{"pio_exits", stats.pio_exits},
		{"channels_in_kvm", stats.channels_in_kvm},
		{"channels_by_hand", stats.channels_by_hand},
		/* Writes that the guest made without an exit: those to the debug port and the
		 * screen, and those to port 0x80 less the events that dispatch signalled. */
		{"coalesced_writes", stats.coalesced_writes},
		{"coalesced_strays", stats.coalesced_strays},
		{"post_codes", post_count(machine)},
		{"events_by_hand", stats.events},
		{"exits", machine->vcpu.exits},
		{"exits_in_smm", machine->vcpu.exits_in_smm},
		{"smis", machine->vcpu.smis},
	};

	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		output_line("%s %" PRIu64, lines[i].name, lines[i].value);
}

static int print_dump(struct machine *machine)
{
	int rc;

	output_new_line();
	rc = kvmas_dump(machine->kvmas, stdout);
	if (rc)
		complain("cannot print the dump: %s", strerror(-rc));
	return rc;
}

int report_at_end(struct machine *machine)
{
	int rc = watch_end(machine), dumped;

	text_print(machine);
	if (machine->options->dump) {
		dumped = print_dump(machine);
		rc = rc ? rc : dumped;
	}
	if (machine->options->stats)
		print_stats(machine);
	output_new_line();
	return rc;
}

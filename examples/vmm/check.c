/* SPDX-License-Identifier: MIT */
/*
 * --check: what the firmware must have done, verified from the host's side at the end of the run:
 * in KVM's MSRs, in the RAM block's bytes, in the spaces of the exits, in the views. Each check is
 * a line "check NAME: ok" or "check NAME: FAILED (what was seen)".
 *
 * Not here: the slots (tests/slots compares them with QEMU's).
 *
 * own.S of examples/firmware, and SeaBIOS 1.13 or later, are known by what they leave:
 *
 *   0xa0000  own: the word that its handler wrote there in SMM
 *   0xa8000  the SMI handler's first instruction, for SMBASE is 0xa0000 (Intel SDM volume 3, "SMM")
 *
 * Read check_run first.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define MSR_SMI_COUNT 0x34
#define MSR_SMBASE 0x9e

#define SMBASE SMRAM_GPA
#define HANDLER_GPA (SMBASE + 0x8000)

/* own.S: what it writes, how often it makes an SMI, how often it reads 0xa0000 outside of SMM while
 * SMRAM is closed: once before opening it, and once after the lock, the second and third SMI. */
#define OWN_WORD 0x5ec2e7aa
#define OWN_SMIS 3
#define OWN_READS_BEFORE 1
#define OWN_READS_AFTER 3

/* own.S: the table near the end of the ROM. */
#define TABLE_FROM_END 0x40
#define TABLE_MAGIC "kvmasfw1"

#define MAX_SEEN 160

/* What a check saw, for the line that says it failed. */
struct seen {
	char text[MAX_SEEN];
};

static bool saw(struct seen *seen, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For return: this check failed. */
static bool saw(struct seen *seen, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(seen->text, sizeof(seen->text), format, args);
	va_end(args);
	return false;
}

static const uint8_t *ram_at(const struct machine *machine, uint64_t gpa)
{
	return (const uint8_t *)kvmas_ram_get_hva(machine->ram) + gpa;
}

static bool smbase_moved(struct machine *machine, struct seen *seen)
{
	uint64_t smbase;

	if (vcpu_get_msr(machine, MSR_SMBASE, &smbase))
		return saw(seen, "KVM does not give MSR 0x%x", MSR_SMBASE);
	return smbase == SMBASE || saw(seen, "SMBASE is 0x%" PRIx64, smbase);
}

static bool exits_in_smm(struct machine *machine, struct seen *seen)
{
	return machine->vcpu.exits_in_smm || saw(seen, "no exit in SMM");
}

/* KVM's own count where it gives it: without, the VMM's, for each of which an exit in SMM is asked
 * by other checks. */
static bool three_smis(struct machine *machine, struct seen *seen)
{
	uint64_t raised = machine->vcpu.smis;
	uint64_t taken = raised;

	if (vcpu_get_msr(machine, MSR_SMI_COUNT, &taken))
		output_line("check smis: MSR 0x%x cannot be read, so the VMM's own count is taken",
			    MSR_SMI_COUNT);
	if (raised == OWN_SMIS && taken == OWN_SMIS)
		return true;
	return saw(seen, "%" PRIu64 " raised, %" PRIu64 " taken", raised, taken);
}

static bool guest_ended(struct machine *machine, struct seen *seen)
{
	return (machine->guest_ended && !machine->status) ||
	       saw(seen, "status %d, %s", machine->status,
		   machine->guest_ended ? "given by the guest" : "and not by the guest");
}

static bool word_in_ram(struct machine *machine, struct seen *seen)
{
	uint64_t word = load_le(ram_at(machine, SMRAM_GPA), 4);

	return word == OWN_WORD || saw(seen, "the RAM block has 0x%08" PRIx64 " there", word);
}

static bool handler_in_ram(struct machine *machine, struct seen *seen)
{
	const uint8_t *rom = kvmas_ram_get_hva(machine->rom);
	uint64_t size = kvmas_ram_get_size(machine->rom);
	const uint8_t *table = rom + size - TABLE_FROM_END;
	/* Offsets count from the ROM's last 64 KiB, or its begin if it is smaller. */
	const uint8_t *segment = size > 0x10000 ? rom + size - 0x10000 : rom;
	uint64_t offset = load_le(table + 8, 2), length = load_le(table + 10, 2);

	if (memcmp(table, TABLE_MAGIC, 8) != 0 || !length || segment + offset + length > rom + size)
		return saw(seen, "this ROM has no table of own.S");
	return !memcmp(ram_at(machine, HANDLER_GPA), segment + offset, length) ||
	       saw(seen, "the RAM block has other bytes there");
}

/* Every line that begins with "smm: " was printed by the handler, all others outside of it. */
static bool bytes_in_their_space(struct machine *machine, struct seen *seen)
{
	const struct kept *kept = &machine->debugcon.kept;
	bool of_handler = false;
	size_t handler_bytes = 0;

	for (size_t i = 0; i < kept->size; i++) {
		if (!i || kept->bytes[i - 1] == '\n')
			of_handler = !strncmp(kept->bytes + i, "smm: ", 5);
		handler_bytes += of_handler;
		if (kept->in_smm[i] != of_handler)
			return saw(seen, "byte %zu of the debug port came %s SMM", i,
				   of_handler ? "outside" : "in");
	}
	return handler_bytes || saw(seen, "the handler printed nothing");
}

/* What the debug port printed, from the first such text on. */
static const char *find_text(const struct machine *machine, const char *text)
{
	return strstr(machine->debugcon.kept.bytes, text);
}

/* Read back in the second SMI, and found again in the third. */
static bool word_seen_in_smm(struct machine *machine, struct seen *seen)
{
	const char *first = find_text(machine, "smm: reads 5ec2e7aa\n");
	const char *again = first ? strstr(first + 1, "smm: reads 5ec2e7aa\n") : NULL;

	return again || saw(seen, "the handler did not read it %s", first ? "again" : "back");
}

/* An MMIO exit proves that no memory was there; a read that is none leaves the count short. */
static bool closed_reads(struct machine *machine, bool locked, unsigned expected, struct seen *seen)
{
	const struct vcpu *vcpu = &machine->vcpu;
	const struct window_exit *exit;
	unsigned found = 0;

	for (unsigned i = 0; i < vcpu->nwindow; i++) {
		exit = &vcpu->window[i];
		if (exit->in_smm || !(exit->smram & SMRAM_D_LCK) == locked)
			continue;
		if (exit->value != UINT32_MAX)
			return saw(seen, "a read gave 0x%" PRIx64, exit->value);
		found++;
	}
	return found == expected ||
	       saw(seen, "%u of %u reads came as MMIO exits outside SMM", found, expected);
}

static bool closed_before(struct machine *machine, struct seen *seen)
{
	return closed_reads(machine, false, OWN_READS_BEFORE, seen);
}

static bool closed_after(struct machine *machine, struct seen *seen)
{
	return closed_reads(machine, true, OWN_READS_AFTER, seen);
}

static bool register_locked(struct machine *machine, struct seen *seen)
{
	uint8_t smram = host_bridge_get_smram(machine);

	return (smram & (SMRAM_D_LCK | SMRAM_D_OPEN)) == SMRAM_D_LCK ||
	       saw(seen, "the SMRAM register is 0x%02x", smram);
}

/* What a space shows at the window, in host memory; NULL for no memory. */
static const uint8_t *look_up_window(struct machine *machine, struct kvmas_space *space)
{
	struct kvmas_reader *reader = kvmas_vcpu_get_reader(machine->vcpu.tie);
	const struct kvmas_view *view = kvmas_view_acquire(reader, space);
	struct kvmas_place place;
	int rc = kvmas_reader_lookup(reader, view, SMRAM_GPA, &place);

	kvmas_view_release(reader, view);
	return rc ? NULL : place.hva;
}

static bool hidden_in_system(struct machine *machine, struct seen *seen)
{
	return !look_up_window(machine, machine->system) ||
	       saw(seen, "space 0 shows memory at 0x%x", SMRAM_GPA);
}

static bool shown_in_smm(struct machine *machine, struct seen *seen)
{
	return look_up_window(machine, machine->smm) == ram_at(machine, SMRAM_GPA) ||
	       saw(seen, "space 1 shows other memory, or none, at 0x%x", SMRAM_GPA);
}

/* mov %cs,%ax; ljmp $0xf000,$somewhere: where depends on how SeaBIOS was built. */
static bool seabios_handler_in_ram(struct machine *machine, struct seen *seen)
{
	const uint8_t *bytes = ram_at(machine, HANDLER_GPA);

	return (load_le(bytes, 3) == 0xeac88c && load_le(bytes + 5, 2) == 0xf000) ||
	       saw(seen, "the RAM block has 0x%016" PRIx64 " there", load_le(bytes, 8));
}

static bool seabios_banner(struct machine *machine, struct seen *seen)
{
	return find_text(machine, "SeaBIOS (version") || saw(seen, "the guest did not print it");
}

static bool seabios_end(struct machine *machine, struct seen *seen)
{
	const char *banner = find_text(machine, "SeaBIOS (version");

	return (banner && strstr(banner, "No bootable device")) ||
	       saw(seen, "the guest did not print \"No bootable device\"");
}

struct named_check {
	const char *name;
	bool needs_smm; /* left out with --no-smm */
	bool (*holds)(struct machine *machine, struct seen *seen);
};

static const struct named_check own_checks[] = {
	{"guest-ended", false, guest_ended},
	{"smbase", true, smbase_moved},
	{"smis", true, three_smis},
	{"exits-in-smm", true, exits_in_smm},
	{"handler-at-a8000", false, handler_in_ram},
	{"word-at-a0000", true, word_in_ram},
	{"word-seen-in-smm", true, word_seen_in_smm},
	{"output-spaces", true, bytes_in_their_space},
	{"closed-before-opening", false, closed_before},
	{"closed-after-lock", false, closed_after},
	{"smram-locked", false, register_locked},
	{"space-0-hides-smram", false, hidden_in_system},
	{"space-1-shows-smram", true, shown_in_smm},
};

static const struct named_check seabios_checks[] = {
	{"banner", false, seabios_banner},
	{"no-bootable-device", false, seabios_end},
	{"smbase", true, smbase_moved},
	{"handler-at-a8000", true, seabios_handler_in_ram},
	{"exits-in-smm", true, exits_in_smm},
	{"space-0-hides-smram", true, hidden_in_system},
	{"space-1-shows-smram", true, shown_in_smm},
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
	const struct named_check *checks;
	size_t count;
} firmwares[] = {
	[CHECK_NONE] = {NULL, 0},
	[CHECK_OWN] = {own_checks, COUNT_OF(own_checks)},
	[CHECK_SEABIOS] = {seabios_checks, COUNT_OF(seabios_checks)},
};

static bool run_one(struct machine *machine, const struct named_check *check)
{
	struct seen seen = {""};

	if (check->holds(machine, &seen)) {
		output_line("check %s: ok", check->name);
		return true;
	}
	output_line("check %s: FAILED (%s)", check->name, seen.text);
	return false;
}

int check_run(struct machine *machine)
{
	const struct named_check *checks = firmwares[machine->options->check].checks;
	size_t count = firmwares[machine->options->check].count;
	bool all = true;

	for (size_t i = 0; i < count; i++)
		if (!checks[i].needs_smm || !machine->options->no_smm)
			all &= run_one(machine, &checks[i]);
	return !all;
}

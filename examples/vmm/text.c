/* SPDX-License-Identifier: MIT */
/*
 * The text screen at 0xb8000: 25 lines of 80 cells, a character and its colour each. What is on it
 * is printed at the end.
 *
 * Nobody looks at it meanwhile, so writes wait in KVM's ring: a coalesced zone, as for QEMU's VGA.
 * In SMM the same addresses are SMRAM, and while SMRAM is open they are so for everybody: the
 * library sees to it that the zone is in KVM only while it is right there.
 * Not here: all else that makes a VGA. Firmware that asks for one finds none.
 */
#include "machine.h"

#define TEXT_GPA 0xb8000
#define ROWS 25
#define COLUMNS 80

static int read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	const struct machine *machine = opaque;

	*value = load_le(machine->text.cells + access->offset, access->size);
	return 0;
}

static int write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;

	store_le(machine->text.cells + access->offset, access->size, value);
	return 0;
}

static const struct kvmas_ops ops = {
	.struct_size = sizeof(ops),
	.read = read,
	.write = write,
};

/* Seen through vga-hole while SMRAM is closed. */
void text_map(struct machine *machine)
{
	uint64_t size = sizeof(machine->text.cells);

	coalesce(machine,
		 map_region(machine, machine->pci_region, TEXT_GPA, 0,
			    KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "text",
					 .size = size, .ops = &ops, .opaque = machine)),
		 size);
}

void text_print(const struct machine *machine)
{
	const uint8_t *cell = machine->text.cells;

	for (int row = 0; row < ROWS; row++) {
		char line[COLUMNS];
		int length = 0;

		for (int i = 0; i < COLUMNS; i++, cell += 2) {
			line[i] = ' ';
			if (*cell <= ' ' || *cell >= 0x7f)
				continue;
			line[i] = (char)*cell;
			length = i + 1;
		}
		if (length)
			output_line("screen: %.*s", length, line);
	}
}

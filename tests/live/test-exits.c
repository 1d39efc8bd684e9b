/* SPDX-License-Identifier: MIT */
/*
 * Accesses of a real vCPU that no slot answers, or not alone: unaligned, across the ends of pages
 * and regions, of 8 bytes, by string instructions; each byte is compared with the model's
 * (cells.h).
 * Where KVM has a second address space all of it is done in SMM as well, where other things are
 * shown.
 *
 *   page   80  a device in space 0, RAM in space 1        96  one that is called with 4 bytes only
 *          84  RAM in space 0, a device in space 1        98  one that is called with single bytes
 *          88  two devices side by side, in the middle    98.8  one that takes all, unaligned
 *              of a page; the second ends in another      9a  a block whose end is in a page
 *          8c  a ROM that ends in a page                  a0  a device of space 1 only
 *          90  a ROM device                               a4  a block that is on no page's bound
 *          94  a small device, big-endian                 else RAM, and from a0 on nothing
 */
#include "cells.h"

enum {
	SMALL = 13,
	STEPS = 6000,
	PORT = 0x300,
	NO_PORT = 0x400,
	FIFO_SIZE = 1 << 14,
	BUFFER = 0x1100, /* of strings, in bytes */
};

/* ---- the scene ---- */

static struct kvmas_region *put_device(struct cells *cells, unsigned as_id, uint64_t gpa,
				       size_t size, struct kvmas_ops ops)
{
	return cells_put(cells, as_id, gpa,
			 (struct kvmas_region_config){.kind = KVMAS_REGION_MMIO, .name = "device"},
			 cells_device(cells, size, ops), NULL);
}

static void put_block(struct cells *cells, uint64_t gpa, enum kvmas_region_kind kind, size_t size)
{
	struct row *device = NULL;

	if (kind == KVMAS_REGION_ROMD)
		device = cells_device(cells, size, (struct kvmas_ops){0});
	cells_put(cells, 0, gpa, (struct kvmas_region_config){.kind = kind, .name = "block"},
		  device, cells_block(cells, size));
}

static struct cells *make_scene(void **state)
{
	const struct kvmas_ops big = {.endian = KVMAS_BIG_ENDIAN};
	const struct kvmas_ops wide = {.impl = {.min = 4, .max = 4}};
	const struct kvmas_ops narrow = {.impl = {.max = 1}};
	const struct kvmas_ops any = {.valid = {.unaligned = true}, .impl = {.unaligned = true}};
	struct cells *cells = cells_make(state);

	put_device(cells, 0, 0x80000, 2 * PAGE, (struct kvmas_ops){0});
	put_device(cells, 0, 0x88000, 0x800, (struct kvmas_ops){0});
	put_device(cells, 0, 0x88800, 0x17fd, big);
	put_block(cells, 0x8c000, KVMAS_REGION_ROM, 0x1345);
	put_block(cells, 0x90000, KVMAS_REGION_ROMD, 2 * PAGE);
	put_device(cells, 0, 0x94123, SMALL, big);
	put_device(cells, 0, 0x96000, PAGE, wide);
	put_device(cells, 0, 0x98000, 0x800, narrow);
	put_device(cells, 0, 0x98800, 0x800, any);
	put_block(cells, 0x9a000, KVMAS_REGION_RAM, 0x1801);
	put_block(cells, 0xa4123, KVMAS_REGION_RAM, 0x1f01);
	if (cells->g->nspaces < 2)
		return cells;
	cells_put_ram(cells, 0x80000, 2 * PAGE);
	put_device(cells, 1, 0x84000, 2 * PAGE, (struct kvmas_ops){0});
	put_device(cells, 1, 0xa0000, 0x1800, (struct kvmas_ops){0});
	return cells;
}

/* ---- single accesses ---- */

static void choose_space(struct cells *cells)
{
	cells->steps.mode = steps_chance(&cells->steps, cells->g->nspaces) ? STEP_SMM : STEP_FLAT;
}

static uint64_t choose_value(struct cells *cells)
{
	return (uint64_t)steps_chance(&cells->steps, UINT32_MAX) << 32 |
	       steps_chance(&cells->steps, UINT32_MAX);
}

static void step_once(struct cells *cells)
{
	unsigned size = 1U << steps_chance(&cells->steps, 4);
	uint64_t gpa = cells_near_seam(cells, size);

	choose_space(cells);
	if (steps_chance(&cells->steps, 2))
		cells_step_read(cells, gpa, size);
	else
		cells_step_write(cells, gpa, size, choose_value(cells));
}

/* Reads leave a trail only in devices, so all are compared now and then. */
static void accesses_near_every_seam_find_the_models_bytes(void **state)
{
	struct cells *cells = make_scene(state);

	for (unsigned i = 0; i < STEPS; i++) {
		step_once(cells);
		if (i % 100 == 99)
			cells_check(cells);
	}
	print_message("exits: %u steps, %llu exits, %llu accesses that nothing answered\n", STEPS,
		      (unsigned long long)cells->steps.exits, (unsigned long long)cells->traces);
	assert_true(cells->steps.exits > STEPS / 2 && cells->traces > STEPS / 100);
	for (unsigned i = 1; i < cells->nrows; i++) {
		const struct row *row = &cells->rows[i];

		/* A ROM device is not asked for what memory answers. */
		if (!row->ram)
			assert_true(row->writes[0] + row->writes[1] > 0);
	}
}

/* The control: one byte that is not the model's. */
static void byte_that_is_wrong_anywhere_is_found(void **state)
{
	struct cells *cells = make_scene(state);

	for (unsigned i = 0; i < cells->nrows; i++) {
		struct row *row = &cells->rows[i];
		unsigned char *byte = &row->bytes[steps_chance(&cells->steps, (uint32_t)row->size)];

		*byte ^= 1;
		assert_false(cells_are_right(cells));
		*byte ^= 1;
		assert_true(cells_are_right(cells));
	}
	for (uint64_t gpa = 0x88000; gpa < 0x88800; gpa += 0x100) {
		uint64_t expected = 0;

		cells_read(cells, gpa, &expected, 4);
		cells->rows[2].bytes[gpa - 0x88000] ^= 1;
		assert_int_equal(step_read(&cells->steps, gpa, 4), expected ^ 1);
	}
}

/* Bits of a client, of a whole block. */
static void take_pages(struct kvmas_client *client, const struct row *row, uint64_t *bits)
{
	uint64_t npages = kvmas_ram_get_size(row->ram) / PAGE;

	assert_true(npages <= 256);
	assert_true(kvmas_client_take(client, row->ram, 0, npages, bits) >= 0);
}

static void assert_told(const struct cells *cells, const struct row *row,
			const unsigned char *before, const uint64_t *bits)
{
	size_t first = row == cells->rows ? CELLS_FIRST : 0;
	unsigned changed = 0;

	for (size_t i = 0; i < row->size; i++) {
		if (row->bytes[i] == before[i])
			continue;
		changed++;
		assert_true(bits[(first + i / PAGE) / 64] >> (first + i / PAGE) % 64 & 1);
	}
	assert_true(changed > 0);
}

/* By KVM in slots, by the library elsewhere: none is missing. */
static void pages_written_by_any_access_are_dirty(void **state)
{
	struct cells *cells = make_scene(state);
	unsigned char *before = malloc(sizeof(cells->arena));
	uint64_t bits[4] = {0};
	struct kvmas_client *client;

	assert_non_null(before);
	memcpy(before, cells->arena, sizeof(cells->arena));
	must(kvmas_client_new(cells->g->f->kvmas, "migration", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	for (unsigned i = 0; i < STEPS / 3; i++)
		step_once(cells);
	must(guest_sync_all(cells->g));
	for (unsigned i = 0; i < cells->nrows; i++) {
		const struct row *row = &cells->rows[i];

		if (!row->ram)
			continue;
		take_pages(client, row, bits);
		if (memcmp(row->bytes, before + (row->expected - cells->arena), row->size) != 0)
			assert_told(cells, row, before + (row->expected - cells->arena), bits);
	}
	cells_check(cells);
	kvmas_client_unref(client);
	free(before);
}

/* ---- strings in memory ---- */

struct string {
	unsigned size; /* of an element: 1, 2 or 4 */
	unsigned count;
	bool down;
};

static struct string choose_string(struct cells *cells)
{
	struct string string = {.size = 1U << steps_chance(&cells->steps, 3),
				.count = 1 + steps_chance(&cells->steps, 9),
				.down = steps_chance(&cells->steps, 2)};

	return string;
}

/* Where an element lies, in bytes from the first. */
static uint64_t element(const struct string *string, unsigned i)
{
	return (uint64_t)(string->down ? -(int64_t)i : (int64_t)i) * string->size;
}

static unsigned code_of(const struct string *string, unsigned up, unsigned down)
{
	return (string->down ? down : up) + (unsigned)__builtin_ctz(string->size);
}

/* From seams, with room to go in both directions. */
static uint64_t choose_begin(struct cells *cells)
{
	uint64_t gpa = cells_near_seam(cells, 64);

	return gpa < CELLS_FIRST * PAGE + 64 ? CELLS_FIRST * PAGE + 64 : gpa;
}

static void assert_strings_end(const struct kvm_regs *regs, const struct string *string,
			       uint64_t begin, uint64_t end)
{
	assert_int_equal(regs->rcx, 0);
	assert_int_equal(end, begin + element(string, string->count));
}

static void move_string(struct cells *cells)
{
	struct string string = choose_string(cells);
	uint64_t from = choose_begin(cells), to = choose_begin(cells);
	struct kvm_regs regs = {.rsi = from, .rdi = to, .rcx = string.count};
	unsigned char bytes[8];

	choose_space(cells);
	step(&cells->steps, code_of(&string, STEP_MOVS, STEP_MOVS_DOWN), &regs);
	assert_strings_end(&regs, &string, from, regs.rsi);
	assert_strings_end(&regs, &string, to, regs.rdi);
	for (unsigned i = 0; i < string.count; i++) {
		cells_read(cells, from + element(&string, i), bytes, string.size);
		cells_write(cells, to + element(&string, i), bytes, string.size);
	}
}

static void strings_moved_between_any_two_places_are_the_models(void **state)
{
	struct cells *cells = make_scene(state);

	for (unsigned i = 0; i < STEPS / 10; i++) {
		move_string(cells);
		cells_check(cells);
	}
}

/* ---- ports ---- */

/* What is written to one of four ports is kept, in order; reads give ever new bytes. */
struct fifo {
	struct cells *cells;
	struct kvmas_space *space;
	unsigned char written[FIFO_SIZE];
	size_t nwritten;
	unsigned char next; /* byte to be read */
};

static int read_fifo(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct fifo *fifo = opaque;

	assert_ptr_equal(access->space, fifo->space);
	assert_int_equal(access->smm, steps_as_id(&fifo->cells->steps) == 1);
	*value = 0;
	for (unsigned i = 0; i < access->size; i++)
		*value |= (uint64_t)fifo->next++ << 8 * i;
	return 0;
}

static int write_fifo(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct fifo *fifo = opaque;

	assert_ptr_equal(access->space, fifo->space);
	assert_int_equal(access->smm, steps_as_id(&fifo->cells->steps) == 1);
	assert_true(fifo->nwritten + access->size <= FIFO_SIZE);
	for (unsigned i = 0; i < access->size; i++)
		fifo->written[fifo->nwritten++] = (unsigned char)(value >> 8 * i);
	return 0;
}

static const struct kvmas_ops fifo_ops = {
	.struct_size = sizeof(fifo_ops),
	.read = read_fifo,
	.write = write_fifo,
};

/* Ended by the test's end of its heap: nothing refers to it when the guest has ended. */
static void put_fifo(struct cells *cells, struct fifo *fifo)
{
	struct kvmas_region *ports = make_container(cells->g->f, "pio", 0x10000), *region;

	fifo->cells = cells;
	must(kvmas_region_new(cells->g->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "fifo",
					   .size = 4, .ops = &fifo_ops, .opaque = fifo),
			      &region));
	must(kvmas_region_add(ports, region, PORT, 0));
	kvmas_region_unref(region);
	fifo->space = make_space(cells->g->f, "pio", ports);
	cells->pio = fifo->space;
	must(kvmas_kvm_set_pio_space(cells->g->kvm, fifo->space));
}

/* A count that may be more than KVM hands on at once; the string begins anywhere near a seam, or,
 * if it is long, in RAM, where it crosses pages. */
static struct string choose_long_string(struct cells *cells, uint64_t *begin)
{
	struct string string = choose_string(cells);

	*begin = choose_begin(cells);
	if (steps_chance(&cells->steps, 4))
		return string;
	string.count = 1 + steps_chance(&cells->steps, BUFFER / string.size);
	*begin = 0x9e000 + steps_chance(&cells->steps, 64);
	return string;
}

static void output_string(struct cells *cells, struct fifo *fifo)
{
	uint64_t begin;
	struct string string = choose_long_string(cells, &begin);
	struct kvm_regs regs = {.rsi = begin, .rcx = string.count, .rdx = PORT};
	unsigned char bytes[BUFFER];

	choose_space(cells);
	fifo->nwritten = 0;
	step(&cells->steps, code_of(&string, STEP_OUTS, STEP_OUTS_DOWN), &regs);
	assert_strings_end(&regs, &string, begin, regs.rsi);
	assert_int_equal(fifo->nwritten, string.size * string.count);
	for (unsigned i = 0; i < string.count; i++)
		cells_read(cells, begin + element(&string, i), bytes + (size_t)i * string.size,
			   string.size);
	assert_memory_equal(fifo->written, bytes, fifo->nwritten);
}

/* Downwards into RAM only: KVM reads ahead from the port, and forgets what it has when an element
 * is to be written by an exit (arch/x86/kvm/emulate.c, pio_in_emulated). */
static void input_string(struct cells *cells, struct fifo *fifo)
{
	uint64_t begin;
	struct string string = choose_long_string(cells, &begin);
	unsigned char next = fifo->next, bytes[4];
	struct kvm_regs regs = {.rcx = string.count, .rdx = PORT};

	if (string.down)
		begin = 0x9e000 + steps_chance(&cells->steps, 64);
	regs.rdi = begin;
	choose_space(cells);
	step(&cells->steps, code_of(&string, STEP_INS, STEP_INS_DOWN), &regs);
	assert_strings_end(&regs, &string, begin, regs.rdi);
	assert_int_equal(fifo->next, (unsigned char)(next + string.size * string.count));
	for (unsigned i = 0; i < string.count; i++) {
		for (unsigned j = 0; j < string.size; j++)
			bytes[j] = next++;
		cells_write(cells, begin + element(&string, i), bytes, string.size);
	}
}

static void strings_to_and_from_a_port_are_the_models(void **state)
{
	struct cells *cells = make_scene(state);
	struct fifo fifo = {.next = 1};

	put_fifo(cells, &fifo);
	for (unsigned i = 0; i < STEPS / 20; i++) {
		output_string(cells, &fifo);
		input_string(cells, &fifo);
		cells_check(cells);
	}
}

static void ports_are_answered_in_every_size_and_elsewhere_by_nothing(void **state)
{
	struct cells *cells = make_scene(state);
	struct fifo fifo = {.next = 0x11};
	uint64_t nothing;

	put_fifo(cells, &fifo);
	for (unsigned i = 0; i < cells->g->nspaces; i++) {
		cells->steps.mode = i ? STEP_SMM : STEP_FLAT;
		fifo.next = 0x11;
		fifo.nwritten = 0;
		assert_int_equal(step_in(&cells->steps, PORT, 1), 0x11);
		assert_int_equal(step_in(&cells->steps, PORT, 2), 0x1312);
		assert_int_equal(step_in(&cells->steps, PORT, 4), 0x17161514);
		step_out(&cells->steps, PORT, 4, 0x44434241);
		step_out(&cells->steps, PORT + 2, 2, 0x4645);
		step_out(&cells->steps, PORT + 3, 1, 0x47);
		assert_memory_equal(fifo.written, "ABCDEFG", 7);
		nothing = guest_stats(cells->g).unassigned;
		assert_int_equal(step_in(&cells->steps, NO_PORT, 4), UINT32_MAX);
		step_out(&cells->steps, NO_PORT, 2, 1);
		assert_int_equal(guest_stats(cells->g).unassigned, nothing + 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CELLS_TEST(accesses_near_every_seam_find_the_models_bytes),
		CELLS_TEST(byte_that_is_wrong_anywhere_is_found),
		CELLS_TEST(pages_written_by_any_access_are_dirty),
		CELLS_TEST(strings_moved_between_any_two_places_are_the_models),
		CELLS_TEST(strings_to_and_from_a_port_are_the_models),
		CELLS_TEST(ports_are_answered_in_every_size_and_elsewhere_by_nothing),
	};

	return guest_main("live-exits", tests, LENGTH(tests), 1);
}

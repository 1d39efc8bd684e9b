/* SPDX-License-Identifier: MIT */
/*
 * Exits in SMM and outside of it, at the same addresses, on a real vCPU: each is answered in the
 * space that the vCPU was in, and devices are told which (cells.c checks that at every call).
 */
#include "cells.h"

#define GPA UINT64_C(0x90004)

static void enter(struct cells *cells, unsigned as_id)
{
	cells->steps.mode = as_id ? STEP_SMM : STEP_FLAT;
}

static struct row *put_device(struct cells *cells, unsigned as_id, uint64_t gpa)
{
	struct row *row = cells_device(cells, PAGE, (struct kvmas_ops){0});

	cells_put(cells, as_id, gpa,
		  (struct kvmas_region_config){.kind = KVMAS_REGION_MMIO, .name = "device"}, row,
		  NULL);
	return row;
}

static void assert_calls(const struct row *row, unsigned as_id, unsigned reads, unsigned writes)
{
	assert_int_equal(row->reads[as_id], reads);
	assert_int_equal(row->writes[as_id], writes);
	assert_int_equal(row->reads[!as_id], 0);
	assert_int_equal(row->writes[!as_id], 0);
}

/* Write and read in both spaces, by turns. */
static void access_in_both(struct cells *cells)
{
	for (unsigned i = 0; i < 8; i++) {
		enter(cells, i % 2);
		cells_step_write(cells, GPA, 1U << i / 2, UINT64_C(0x1122334455667788) * (i + 1));
		cells_step_read(cells, GPA, 1U << i / 2);
	}
	cells_check(cells);
}

static void same_gpa_is_ram_in_smm_and_a_device_outside(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *device = put_device(cells, 0, 0x90000);

	cells_put_ram(cells, 0x90000, PAGE);
	access_in_both(cells);
	/* 8 bytes at 4 modulo 8 are two accesses. */
	assert_calls(device, 0, 5, 5);
}

static void same_gpa_is_a_device_in_smm_and_ram_outside(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *device = put_device(cells, 1, 0x90000);

	access_in_both(cells);
	assert_calls(device, 1, 5, 5);
}

static void same_gpa_is_another_device_in_smm(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *outside = put_device(cells, 0, 0x90000);
	struct row *inside = put_device(cells, 1, 0x90000);

	access_in_both(cells);
	assert_calls(outside, 0, 5, 5);
	assert_calls(inside, 1, 5, 5);
}

static void device_of_smm_alone_is_unassigned_outside(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *device = put_device(cells, 1, 0xa0000);

	for (unsigned size = 1; size <= 8; size *= 2) {
		cells_step_read(cells, 0xa0010, size);
		cells_step_write(cells, 0xa0010, size, 0);
	}
	assert_calls(device, 0, 0, 0);
	assert_int_equal(guest_stats(cells->g).unassigned, 8);
	assert_int_equal(cells->told, 30);
	cells_check(cells);
	enter(cells, 1);
	cells_step_write(cells, 0xa0010, 4, 0x600d);
	cells_step_read(cells, 0xa0010, 4);
	assert_calls(device, 1, 1, 1);
	assert_int_equal(guest_stats(cells->g).unassigned, 8);
	cells_check(cells);
}

static void rom_and_rom_device_are_told_of_writes_with_their_space(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *device = cells_device(cells, PAGE, (struct kvmas_ops){0});

	cells_put(cells, 0, 0x90000,
		  (struct kvmas_region_config){.kind = KVMAS_REGION_ROMD, .name = "flash"}, device,
		  cells_block(cells, PAGE));
	cells_put(cells, 0, 0x92000,
		  (struct kvmas_region_config){.kind = KVMAS_REGION_ROM, .name = "rom"}, NULL,
		  cells_block(cells, PAGE));
	for (unsigned as_id = 0; as_id < 2; as_id++) {
		enter(cells, as_id);
		cells_step_write(cells, 0x90008, 4, 0x1234 + as_id);
		cells_step_read(cells, 0x90008, 4);
		cells_step_write(cells, 0x92008, 4, 0x1234 + as_id);
		cells_step_read(cells, 0x92008, 4);
		assert_int_equal(device->writes[as_id], 1);
		assert_int_equal(device->reads[as_id], 0);
		cells_check(cells);
	}
	assert_int_equal(guest_stats(cells->g).unassigned, 0);
}

/* As firmware closes SMRAM: between two exits of one vCPU. */
static void space_changed_between_two_exits_answers_the_second_anew(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *device = put_device(cells, 0, 0x90000);
	struct kvmas_region *hole = guest_put_hole(cells->g, 1, 0x90, 1);

	for (unsigned i = 0; i < 20; i++) {
		must(kvmas_region_set_enabled(hole, i % 2));
		enter(cells, 0);
		cells_step_read(cells, GPA, 4);
		enter(cells, 1);
		if (i % 2)
			assert_int_equal(step_read(&cells->steps, GPA, 4), UINT32_MAX);
		else
			cells_step_read(cells, GPA, 4);
	}
	assert_int_equal(device->reads[0], 20);
	assert_int_equal(device->reads[1], 10);
	/* A reserved region is someone else's: that is not unassigned in the model. */
}

/* ---- what a device refuses ---- */

static void refused_access_reads_ones_and_is_counted(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *device = put_device(cells, 0, 0x90000);

	device->result = -EIO;
	for (unsigned as_id = 0; as_id < 2; as_id++) {
		enter(cells, as_id);
		assert_int_equal(step_read(&cells->steps, GPA, 4), UINT32_MAX);
		step_write(&cells->steps, GPA, 4, 1);
	}
	assert_int_equal(guest_stats(cells->g).refused, 4);
	assert_int_equal(guest_stats(cells->g).unassigned, 0);
	device->result = 0;
	cells_step_read(cells, GPA, 4);
	cells_check(cells);
}

static void access_below_the_least_valid_size_is_refused_without_a_call(void **state)
{
	struct cells *cells = cells_make(state);
	struct row *device =
		cells_device(cells, PAGE, (struct kvmas_ops){.valid = {.min = 4, .max = 4}});

	cells_put(cells, 0, 0x90000,
		  (struct kvmas_region_config){.kind = KVMAS_REGION_MMIO, .name = "device"}, device,
		  NULL);
	for (unsigned as_id = 0; as_id < 2; as_id++) {
		enter(cells, as_id);
		assert_int_equal(step_read(&cells->steps, GPA, 2), UINT16_MAX);
		step_write(&cells->steps, GPA, 1, 0);
		assert_int_equal(device->reads[as_id] + device->writes[as_id], 0);
		cells_step_write(cells, GPA, 8, UINT64_C(0x0102030405060708));
		cells_step_read(cells, GPA, 8);
		assert_int_equal(device->reads[as_id], 2);
		assert_int_equal(device->writes[as_id], 2);
	}
	assert_int_equal(guest_stats(cells->g).refused, 4);
	cells_check(cells);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CELLS_TEST(same_gpa_is_ram_in_smm_and_a_device_outside),
		CELLS_TEST(same_gpa_is_a_device_in_smm_and_ram_outside),
		CELLS_TEST(same_gpa_is_another_device_in_smm),
		CELLS_TEST(device_of_smm_alone_is_unassigned_outside),
		CELLS_TEST(rom_and_rom_device_are_told_of_writes_with_their_space),
		CELLS_TEST(space_changed_between_two_exits_answers_the_second_anew),
		CELLS_TEST(refused_access_reads_ones_and_is_counted),
		CELLS_TEST(access_below_the_least_valid_size_is_refused_without_a_call),
	};

	return guest_main("live-exits-smm", tests, LENGTH(tests), 2);
}

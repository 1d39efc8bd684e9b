/* SPDX-License-Identifier: MIT */
/*
 * Devices' access rules: what kvmas.h says of struct kvmas_ops, sentence by sentence. The scene is
 * that of access-fixture.h.
 */
#include "access-fixture.h"

#define U8                                                                                         \
	{                                                                                          \
		.min = 1, .max = 1                                                                 \
	}
#define U4                                                                                         \
	{                                                                                          \
		.min = 4, .max = 4                                                                 \
	}

/* ---- rules of regions ---- */

static int new_region_with(struct fixture *f, struct kvmas_ops ops)
{
	struct kvmas_region *region;
	int err;

	ops.struct_size = sizeof(ops);
	err = kvmas_region_new(f->kvmas,
			       KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "x",
					    .size = 8, .ops = &ops),
			       &region);
	if (!err)
		kvmas_region_unref(region);
	return err;
}

static void rules_that_are_none_return_einval(void **state)
{
	static const struct kvmas_access_rules wrong[] = {
		{.min = 3},           {.max = 3},           {.min = 16, .max = 16}, {.max = 16},
		{.min = 4, .max = 2}, {.min = 8, .max = 1}, {.min = UINT32_MAX},    {.max = 7},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < LENGTH(wrong); i++) {
		assert_int_equal(new_region_with(f, (struct kvmas_ops){.valid = wrong[i]}),
				 -EINVAL);
		assert_int_equal(new_region_with(f, (struct kvmas_ops){.impl = wrong[i]}), -EINVAL);
	}
	assert_int_equal(new_region_with(f, (struct kvmas_ops){.endian = KVMAS_BIG_ENDIAN + 1}),
			 -EINVAL);
}

static void every_pair_of_sizes_is_a_rule(void **state)
{
	struct fixture *f = *state;

	for (unsigned min = 1; min <= 8; min *= 2) {
		must(new_region_with(f, (struct kvmas_ops){.valid = {.min = min}}));
		must(new_region_with(f, (struct kvmas_ops){.impl = {.max = min}}));
		for (unsigned max = min; max <= 8; max *= 2)
			must(new_region_with(f, (struct kvmas_ops){.valid = {min, max, true},
								   .impl = {min, max, false}}));
	}
}

static void guard_is_for_devices_only(void **state)
{
	static const enum kvmas_region_kind kinds[] = {KVMAS_REGION_CONTAINER,
						       KVMAS_REGION_RESERVED};
	struct fixture *f = *state;
	struct kvmas_region *region;

	for (size_t i = 0; i < LENGTH(kinds); i++)
		assert_int_equal(kvmas_region_new(f->kvmas,
						  KVMAS_CONFIG(region, .kind = kinds[i],
							       .name = "x", .size = 8, .guard = f),
						  &region),
				 -EINVAL);
}

/* ---- cutting ---- */

struct cut {
	struct kvmas_ops ops;
	uint64_t offset;
	unsigned size;
	const char *calls;
};

static void assert_cuts(struct fixture *f, const struct cut *cuts, size_t count)
{
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < count; i++) {
		unsigned char bytes[16];

		s.ops.valid = cuts[i].ops.valid;
		s.ops.impl = cuts[i].ops.impl;
		make_device(&s, REGISTERS, NULL);
		must(dma(&s, false, GPA + cuts[i].offset, bytes, cuts[i].size));
		assert_int_equal(s.done, cuts[i].size);
		assert_memory_equal(bytes, s.registers + cuts[i].offset, cuts[i].size);
		assert_notes(f, cuts[i].calls);
		drop_device(&s);
	}
}

static void access_is_cut_into_what_is_valid(void **state)
{
	static const struct cut cuts[] = {
		{{0}, 0, 8, "r8@0 "},
		{{0}, 1, 8, "r1@1 r2@2 r4@4 r1@8 "},
		{{0}, 4, 8, "r4@4 r4@8 "},
		{{0}, 0, 16, "r8@0 r8@8 "},
		{{0}, 6, 3, "r2@6 r1@8 "},
		{{.valid = {.max = 4}}, 0, 8, "r4@0 r4@4 "},
		{{.valid = {.max = 2}}, 1, 4, "r1@1 r2@2 r1@4 "},
		{{.valid = U8}, 3, 3, "r1@3 r1@4 r1@5 "},
		{{.valid = {.unaligned = true}, .impl = {.unaligned = true}}, 1, 8, "r8@1 "},
		{{.valid = {.unaligned = true}, .impl = {.unaligned = true}},
		 3,
		 7,
		 "r4@3 r2@7 r1@9 "},
		{{.valid = {.min = 2, .unaligned = true}, .impl = {.unaligned = true}},
		 3,
		 6,
		 "r4@3 r2@7 "},
	};

	assert_cuts(*state, cuts, LENGTH(cuts));
}

static void piece_is_cut_into_what_is_implemented(void **state)
{
	static const struct cut cuts[] = {
		{{.impl = U8}, 0, 4, "r1@0 r1@1 r1@2 r1@3 "},
		{{.impl = {.max = 4}}, 0, 8, "r4@0 r4@4 "},
		{{.valid = {.min = 8}, .impl = {.max = 4}}, 8, 8, "r4@8 r4@c "},
		{{.valid = {.unaligned = true}}, 1, 8, "r1@1 r2@2 r4@4 r1@8 "},
		{{.valid = {.unaligned = true}, .impl = {.max = 2, .unaligned = true}},
		 1,
		 4,
		 "r2@1 r2@3 "},
	};

	assert_cuts(*state, cuts, LENGTH(cuts));
}

static void piece_below_what_is_implemented_is_widened(void **state)
{
	static const struct cut cuts[] = {
		{{.impl = U4}, 0, 1, "r4@0 "},
		{{.impl = U4}, 7, 1, "r4@4 "},
		{{.impl = U4}, 2, 2, "r4@0 "},
		{{.impl = U4}, 0, 8, "r4@0 r4@4 "},
		{{.impl = {.min = 8}}, 12, 4, "r8@8 "},
		{{.impl = {.min = 2}}, 3, 1, "r2@2 "},
		{{.valid = {.unaligned = true}, .impl = U4}, 2, 4, "r4@0 r4@4 "},
		{{.valid = {.unaligned = true}, .impl = U4}, 1, 2, "r4@0 "},
		{{.valid = {.unaligned = true}, .impl = U4}, 2, 8, "r4@0 r4@4 r4@8 "},
		{{.valid = {.unaligned = true}, .impl = {.min = 4, .unaligned = true}},
		 2,
		 4,
		 "r4@2 "},
		{{.valid = {.unaligned = true}, .impl = {.min = 4, .unaligned = true}},
		 3,
		 2,
		 "r4@0 r4@4 "},
	};

	assert_cuts(*state, cuts, LENGTH(cuts));
}

static void widened_write_puts_back_what_lies_beside_it(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){.impl = U4});
	assert_dma_write(&s, GPA + 5, 1, 0, 1);
	assert_notes(s.f, "r4@4 w4@4=17160114 ");
	assert_dma_write(&s, GPA + 2, 2, 0, 2);
	assert_notes(s.f, "r4@0 w4@0=2011110 ");
	assert_dma_write(&s, GPA + 8, 4, 0, 4);
	assert_notes(s.f, "w4@8=4030201 ");
	drop_device(&s);
}

static void what_cannot_be_read_is_written_as_0(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){.impl = U4});
	s.refuses_at = 4;
	assert_dma_write(&s, GPA + 5, 1, -ENODEV, 0);
	assert_notes(s.f, "r4@4 w4@4=100 ");
	drop_device(&s);
	s.refuses_at = REGISTERS;
	s.ops.read = NULL;
	make_device(&s, REGISTERS, NULL);
	assert_dma_write(&s, GPA + 6, 1, 0, 1);
	assert_notes(s.f, "w4@4=10000 ");
	drop_device(&s);
}

static void big_endian_device_has_its_high_byte_first(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){.endian = KVMAS_BIG_ENDIAN});
	assert_dma_write(&s, GPA, 8, 0, 8);
	assert_dma_write(&s, GPA, 4, 0, 4);
	assert_dma_write(&s, GPA, 2, 0, 2);
	assert_dma_write(&s, GPA, 1, 0, 1);
	assert_notes(s.f, "w8@0=102030405060708 w4@0=1020304 w2@0=102 w1@0=1 ");
	assert_whole(&s, GPA, "\x17\x16\x15\x14\x13\x12\x11\x10", 8, 0);
	assert_whole(&s, GPA, "\x13\x12\x11\x10", 4, 0);
	assert_whole(&s, GPA, "\x11\x10", 2, 0);
	assert_whole(&s, GPA, "\x10", 1, 0);
	drop_device(&s);
}

/* Each call is a number of its own. */
static void big_endian_device_is_cut_by_address(void **state)
{
	struct scene s;

	set_scene_with(*state, &s,
		       (struct kvmas_ops){.endian = KVMAS_BIG_ENDIAN, .impl = {2, 2, false}});
	assert_dma_write(&s, GPA, 4, 0, 4);
	assert_dma_write(&s, GPA + 4, 1, 0, 1);
	assert_notes(s.f, "w2@0=102 w2@2=304 r2@4 w2@4=114 ");
	drop_device(&s);
}

static int read_all_ones(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	(void)opaque;
	(void)access;
	*value = UINT64_MAX - 0xff;
	return 0;
}

static void high_bits_of_a_value_are_ignored(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	s.ops.read = read_all_ones;
	make_device(&s, REGISTERS, NULL);
	assert_whole(&s, GPA, "\x00\xff", 2, 0);
	assert_whole(&s, GPA, "\x00", 1, 0);
	drop_device(&s);
	s.ops.endian = KVMAS_BIG_ENDIAN;
	make_device(&s, REGISTERS, NULL);
	assert_whole(&s, GPA, "\xff\x00", 2, 0);
	drop_device(&s);
}

/* ---- refusals ---- */

static void piece_below_what_is_valid_is_refused_unheard(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){.valid = U4});
	assert_dma_read(&s, GPA, 2, -EINVAL, 0);
	assert_dma_write(&s, GPA + 2, 4, -EINVAL, 0);
	assert_whole(&s, GPA + 2, "\xff\xff\xff\xff", 4, 2);
	assert_notes(s.f, "");
	assert_dma_read(&s, GPA, 6, -EINVAL, 4);
	assert_whole(&s, GPA + 2, "\xff\xff\x14\x15\x16\x17\xff\xff", 8, 2);
	assert_notes(s.f, "r4@0 r4@4 ");
	drop_device(&s);
}

static void unit_past_the_regions_end_is_refused(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	s.ops.impl = (struct kvmas_access_rules)U4;
	make_device(&s, 6, NULL);
	assert_dma_read(&s, GPA + 4, 2, -EINVAL, 0);
	assert_dma_write(&s, GPA + 5, 1, -EINVAL, 0);
	assert_notes(s.f, "");
	assert_whole(&s, GPA, "\x10\x11\x12\x13\xff\xff", 6, 1);
	assert_notes(s.f, "r4@0 ");
	drop_device(&s);
}

/* Where a range ends is not where its region does. */
static void unit_past_the_ranges_end_is_the_regions(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene_with(f, &s, (struct kvmas_ops){.impl = U4});
	add(s.root, make_alias(f, "window", s.device, 6, 1), 0x8000, 0);
	assert_whole(&s, 0x8000, "\x16", 1, 0);
	assert_notes(s.f, "r4@4 ");
	drop_device(&s);
}

static void access_is_cut_where_the_region_ends(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	make_device(&s, 6, NULL);
	assert_dma_read(&s, GPA, 8, -ENXIO, 6);
	assert_notes(s.f, "r4@0 r2@4 ");
	drop_device(&s);
}

/* A unit of a piece is as good as a piece: what came before is done. */
static void piece_that_is_refused_halfway_is_half_done(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){.impl = {.max = 2}});
	s.refuses_at = 5;
	assert_dma_read(&s, GPA, 8, -ENODEV, 4);
	assert_notes(s.f, "r2@0 r2@2 r2@4 ");
	assert_dma_write(&s, GPA, 8, -ENODEV, 4);
	assert_notes(s.f, "w2@0=201 w2@2=403 w2@4=605 ");
	assert_whole(&s, GPA, "\x10\x11\x12\x13\xff\xff\x16\x17", 8, 1);
	drop_device(&s);
}

static void positive_result_is_no_refusal(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){0});
	s.result = 1;
	assert_dma_read(&s, GPA, 4, 0, 4);
	assert_dma_write(&s, GPA, 4, 0, 4);
	assert_whole(&s, GPA, "\x10", 1, 0);
	drop_device(&s);
}

static void device_without_callbacks_refuses_nothing(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	s.ops.read = NULL;
	s.ops.write = NULL;
	s.ops.impl = (struct kvmas_access_rules)U4;
	make_device(&s, REGISTERS, NULL);
	assert_dma_write(&s, GPA + 1, 3, 0, 3);
	assert_whole(&s, GPA + 1, "\xff\xff\xff", 3, 0);
	drop_device(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rules_that_are_none_return_einval),
		TEST(every_pair_of_sizes_is_a_rule),
		TEST(guard_is_for_devices_only),
		TEST(access_is_cut_into_what_is_valid),
		TEST(piece_is_cut_into_what_is_implemented),
		TEST(piece_below_what_is_implemented_is_widened),
		TEST(widened_write_puts_back_what_lies_beside_it),
		TEST(what_cannot_be_read_is_written_as_0),
		TEST(big_endian_device_has_its_high_byte_first),
		TEST(big_endian_device_is_cut_by_address),
		TEST(high_bits_of_a_value_are_ignored),
		TEST(piece_below_what_is_valid_is_refused_unheard),
		TEST(unit_past_the_regions_end_is_refused),
		TEST(unit_past_the_ranges_end_is_the_regions),
		TEST(access_is_cut_where_the_region_ends),
		TEST(piece_that_is_refused_halfway_is_half_done),
		TEST(positive_result_is_no_refusal),
		TEST(device_without_callbacks_refuses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * From views to mappings: spaces of real regions, the log table and the reserved ranges made by
 * hand; and what becomes of them in KVM. Lines are those of slots without ids, in pages: "4-7 ram+4
 * ro log".
 */
#include "kvm-fixture.h"

#include "kvm/vm.h"
#include "kvm/mapping.h"

struct maps {
	struct fixture *f;
	struct kvmas_region *root;
	struct kvmas_space *space;
	struct kvmas_ram *block; /* "ram", 64 pages */
	struct reserved reserved[4];
	unsigned nreserved;
	struct log_table *table; /* room for two wishes */
	bool no_readonly_mem;
};

static int maps_setup(void **state)
{
	struct maps *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->f = fixture_new((struct kvmas_config){0});
	m->root = make_container(m->f, "root", KVMAS_SIZE_MAX);
	m->space = make_space(m->f, "space", m->root);
	m->block = make_block(m->f, "ram", 64);
	m->table = calloc(1, sizeof(*m->table) + 2 * sizeof(m->table->wishes[0]));
	assert_non_null(m->table);
	*state = m;
	return 0;
}

static int maps_teardown(void **state)
{
	struct maps *m = *state;

	kvmas_ram_unref(m->block);
	fixture_free(m->f);
	free(m->table);
	free(m);
	return 0;
}

#define MAPS_TEST(name) cmocka_unit_test_setup_teardown(name, maps_setup, maps_teardown)

/* A window of the block, of this many bytes, at this address. */
static struct kvmas_region *put_bytes(struct maps *m, uint64_t gpa, uint64_t first, uint64_t size)
{
	struct kvmas_region *window =
		make_region(m->f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							       .name = "window",
							       .size = size,
							       .ram = m->block,
							       .ram_offset = pages(first)});

	add(m->root, window, gpa, 0);
	return window;
}

static struct kvmas_region *put(struct maps *m, uint64_t gfn, uint64_t first, uint64_t npages)
{
	return put_bytes(m, pages(gfn), first, pages(npages));
}

static struct kvmas_region *put_other(struct maps *m, struct kvmas_region *region, uint64_t gfn)
{
	add(m->root, region, pages(gfn), 0);
	return region;
}

static void wish(struct maps *m, struct kvmas_region *region, struct kvmas_space *space)
{
	m->table->wishes[m->table->count++] = (struct log_wish){.region = region, .space = space};
}

static void reserve(struct maps *m, uint64_t gfn, uint64_t npages)
{
	struct reserved *reserved = &m->reserved[m->nreserved];

	reserved->range = (struct range){pages(gfn), pages(gfn + npages) - 1};
	reserved->next = m->nreserved ? reserved - 1 : NULL;
	m->nreserved++;
}

static int make(struct maps *m, struct mappings *mappings)
{
	struct mapping_source source = {
		.space = m->space,
		.view = m->space->root->view,
		.logging = m->table,
		.reserved = m->nreserved ? &m->reserved[m->nreserved - 1] : NULL,
		.as_id = 1,
		.page_size = page_size(),
		.readonly_mem = !m->no_readonly_mem,
	};

	return kas_mappings_make(mappings, &source);
}

static void assert_mappings(struct maps *m, const char *expected)
{
	struct mappings mappings = {0};
	char *text = NULL;

	must(make(m, &mappings));
	text_add(&text, "%s", "");
	for (size_t i = 0; i < mappings.count; i++) {
		assert_int_equal(mappings.at[i].as_id, 1);
		slot_text(&text, &mappings.at[i]);
		text_add(&text, "\n");
	}
	assert_string_equal(text, expected);
	free(text);
	kas_mappings_fini(m->f->kvmas, &mappings);
}

static void empty_view_gives_nothing(void **state)
{
	assert_mappings(*state, "");
}

static void ram_and_rom_are_mapped_and_mmio_is_not(void **state)
{
	struct maps *m = *state;

	put(m, 0, 0, 4);
	put_other(m, make_mmio(m->f, "mmio", pages(4)), 4);
	put_other(m, make_rom(m->f, "rom", pages(2)), 8);
	assert_mappings(m, "0-3 ram+0\n"
			   "8-9 rom+0 ro\n");
}

/* ---- whole pages ---- */

static void unaligned_edges_are_trimmed(void **state)
{
	/* gpa, size, and what is mapped of it; ram page 1 is at gpa, in bytes */
	const uint64_t p = page_size();
	const struct {
		uint64_t gpa;
		uint64_t size;
		const char *expected;
	} table[] = {
		{4 * p, 2 * p + 1, "4-5 ram+1\n"},
		{4 * p, 3 * p - 1, "4-5 ram+1\n"},
		{4 * p, p, "4-4 ram+1\n"},
		{4 * p, p - 1, ""},
		{4 * p, 1, ""},
		{0, p - 1, ""},
		{0, p + 1, "0-0 ram+1\n"},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct maps *m;

		maps_teardown(state);
		maps_setup(state);
		m = *state;
		put_bytes(m, table[i].gpa, 1, table[i].size);
		assert_mappings(m, table[i].expected);
	}
}

/* Bytes 256 ... are seen at 256 ...: the first page that is whole is page 1 of both. */
static void unaligned_start_is_trimmed(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "a", pages(4));

	add(m->root, make_alias(m->f, "alias", ram, 256, pages(4) - 256), pages(8) + 256, 0);
	assert_mappings(m, "9-11 a+1\n");
}

static void pages_of_the_guest_that_are_none_of_the_host_are_not_mapped(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "a", pages(8));

	put_bytes(m, pages(4) + 256, 0, pages(4));
	add(m->root, make_alias(m->f, "alias", ram, 512, pages(4)), pages(16), 0);
	add(m->root, make_alias(m->f, "alias", ram, 512, pages(4)), pages(24) + 256, 0);
	assert_mappings(m, "");
}

static void range_inside_one_page_is_not_mapped(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "a", pages(8));

	add(m->root, make_alias(m->f, "alias", ram, 16, 32), pages(4) + 16, 0);
	/* Two pages touched, none whole. */
	add(m->root, make_alias(m->f, "alias", ram, page_size() - 16, 32), pages(9) - 16, 0);
	assert_mappings(m, "");
}

static void device_in_a_page_of_ram_leaves_this_page_out(void **state)
{
	struct maps *m = *state;

	put(m, 0, 0, 8);
	add(m->root, make_mmio(m->f, "mmio", 16), pages(3) + 64, 1);
	assert_mappings(m, "0-2 ram+0\n"
			   "4-7 ram+4\n");
}

/* ---- the top of the 64-bit space ---- */

static void assert_top(struct maps *m, uint64_t gpa, uint64_t npages)
{
	struct mappings mappings = {0};

	must(make(m, &mappings));
	assert_int_equal(mappings.count, npages ? 1 : 0);
	if (npages) {
		assert_int_equal(mappings.at[0].gpa, gpa);
		assert_int_equal(mappings.at[0].size, pages(npages));
	}
	kas_mappings_fini(m->f->kvmas, &mappings);
}

static void last_page_of_the_64_bit_space_has_no_slot(void **state)
{
	/* How many pages before the top it begins, how many it has, how many are mapped. */
	static const struct {
		unsigned before;
		unsigned npages;
		unsigned mapped;
	} table[] = {
		{4, 4, 3}, {4, 3, 3}, {4, 2, 2}, {4, 8, 3}, {2, 2, 1}, {1, 1, 0}, {1, 8, 0},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		uint64_t gpa = -pages(table[i].before);
		struct maps *m;

		maps_teardown(state);
		maps_setup(state);
		m = *state;
		put_bytes(m, gpa, 0, pages(table[i].npages));
		assert_top(m, gpa, table[i].mapped);
	}
}

static void unaligned_ends_near_the_top_are_trimmed(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "a", pages(8));

	/* From the middle of the page before the last, to the very end. */
	add(m->root, make_alias(m->f, "alias", ram, 16, pages(2) - 16), -pages(2) + 16, 0);
	assert_top(m, 0, 0);
	/* From two pages before that. */
	add(m->root, make_alias(m->f, "alias", ram, 16, pages(4) - 16), -pages(4) + 16, 1);
	assert_top(m, -pages(3), 2);
}

/* ---- merging ---- */

static void neighbours_on_one_block_are_one_mapping(void **state)
{
	struct maps *m = *state;

	put(m, 0, 0, 4);
	put(m, 4, 4, 4);
	put(m, 8, 8, 1);
	assert_mappings(m, "0-8 ram+0\n");
}

static void aliases_of_one_region_that_continue_are_one_mapping(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "a", pages(16));

	put_other(m, make_alias(m->f, "low", ram, 0, pages(8)), 4);
	put_other(m, make_alias(m->f, "high", ram, pages(8), pages(8)), 12);
	assert_mappings(m, "4-19 a+0\n");
}

static void what_does_not_continue_is_not_merged(void **state)
{
	struct maps *m = *state;

	put(m, 0, 0, 4);
	put(m, 4, 5, 4); /* a page of the block is missing */
	put(m, 9, 9, 4); /* a page of the guest is */
	put(m, 13, 0, 4);
	assert_mappings(m, "0-3 ram+0\n"
			   "4-7 ram+5\n"
			   "9-12 ram+9\n"
			   "13-16 ram+0\n");
}

/* Even where the second continues the first in the host's memory. */
static void two_blocks_are_two_mappings(void **state)
{
	struct maps *m = *state;
	unsigned char *whole = kvmas_ram_get_hva(m->block);

	for (unsigned i = 0; i < 2; i++) {
		struct kvmas_ram *half;

		must(kvmas_ram_new(m->f->kvmas,
				   KVMAS_CONFIG(ram, .name = i ? "b" : "a", .size = pages(4),
						.source = KVMAS_RAM_CALLER,
						.hva = whole + pages(4 * i)),
				   &half));
		put_other(m, make_window(m->f, KVMAS_REGION_RAM, "half", half, 0, 4), 4 * i);
		kvmas_ram_unref(half);
	}
	assert_mappings(m, "0-3 a+0\n"
			   "4-7 b+0\n");
}

static void other_flags_are_another_mapping(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *middle;

	put(m, 0, 0, 4);
	middle = put(m, 4, 4, 4);
	put(m, 8, 8, 4);
	must(kvmas_region_set_readonly(middle, true));
	assert_mappings(m, "0-3 ram+0\n"
			   "4-7 ram+4 ro\n"
			   "8-11 ram+8\n");
	must(kvmas_region_set_readonly(middle, false));
	wish(m, middle, NULL);
	assert_mappings(m, "0-3 ram+0\n"
			   "4-7 ram+4 log\n"
			   "8-11 ram+8\n");
}

/* ---- readonly ---- */

static void readonly_alias_is_readonly_in_its_place_only(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "a", pages(4));
	struct kvmas_region *alias = make_alias(m->f, "alias", ram, 0, pages(4));

	put_other(m, ram, 0);
	put_other(m, alias, 8);
	must(kvmas_region_set_readonly(alias, true));
	assert_mappings(m, "0-3 a+0\n"
			   "8-11 a+0 ro\n");
}

static void without_readonly_memory_in_kvm_it_is_not_mapped(void **state)
{
	struct maps *m = *state;

	m->no_readonly_mem = true;
	put(m, 0, 0, 4);
	must(kvmas_region_set_readonly(put(m, 4, 4, 4), true));
	put_other(m, make_rom(m->f, "rom", pages(4)), 16);
	put(m, 8, 8, 4);
	assert_mappings(m, "0-3 ram+0\n"
			   "8-11 ram+8\n");
}

/* ---- LOG ---- */

static void wish_for_a_region_logs_it_wherever_it_is_seen(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "a", pages(4));

	put(m, 0, 0, 4);
	put_other(m, ram, 4);
	put_other(m, make_alias(m->f, "alias", ram, pages(1), pages(2)), 16);
	wish(m, ram, NULL);
	assert_mappings(m, "0-3 ram+0\n"
			   "4-7 a+0 log\n"
			   "16-17 a+1 log\n");
}

static void wish_for_all_regions_logs_all_that_is_writable(void **state)
{
	struct maps *m = *state;

	put(m, 0, 0, 4);
	put_other(m, make_rom(m->f, "rom", pages(4)), 4);
	must(kvmas_region_set_readonly(put(m, 8, 8, 4), true));
	wish(m, NULL, NULL);
	assert_mappings(m, "0-3 ram+0 log\n"
			   "4-7 rom+0 ro\n"
			   "8-11 ram+8 ro\n");
}

static void wish_for_a_space_logs_there_only(void **state)
{
	struct maps *m = *state;
	struct kvmas_space *other = make_space(m->f, "other", m->root);
	struct kvmas_region *a = put(m, 0, 0, 4);

	put(m, 8, 8, 4);
	wish(m, NULL, other);
	assert_mappings(m, "0-3 ram+0\n"
			   "8-11 ram+8\n");
	wish(m, a, m->space);
	assert_mappings(m, "0-3 ram+0 log\n"
			   "8-11 ram+8\n");
}

/* ---- reserved ranges ---- */

static void reserved_ranges_cut(void **state)
{
	/* RAM is at 8-15; up to three ranges are reserved, in pages. */
	static const struct {
		struct {
			unsigned gfn;
			unsigned npages;
		} reserved[3];
		const char *expected;
	} table[] = {
		{{{10, 2}}, "8-9 ram+0\n12-15 ram+4\n"},
		{{{8, 2}}, "10-15 ram+2\n"},
		{{{4, 5}}, "9-15 ram+1\n"},
		{{{14, 2}}, "8-13 ram+0\n"},
		{{{15, 9}}, "8-14 ram+0\n"},
		{{{8, 8}}, ""},
		{{{0, 64}}, ""},
		{{{0, 8}, {16, 8}}, "8-15 ram+0\n"},
		{{{9, 1}, {11, 1}}, "8-8 ram+0\n10-10 ram+2\n12-15 ram+4\n"},
		{{{11, 1}, {9, 1}}, "8-8 ram+0\n10-10 ram+2\n12-15 ram+4\n"},
		{{{9, 4}, {11, 1}}, "8-8 ram+0\n13-15 ram+5\n"},
		{{{9, 4}, {11, 3}}, "8-8 ram+0\n14-15 ram+6\n"},
		{{{11, 3}, {9, 4}, {9, 4}}, "8-8 ram+0\n14-15 ram+6\n"},
		{{{9, 2}, {11, 2}}, "8-8 ram+0\n13-15 ram+5\n"},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct maps *m;

		maps_teardown(state);
		maps_setup(state);
		m = *state;
		put(m, 8, 0, 8);
		for (size_t k = 0; k < 3 && table[i].reserved[k].npages; k++)
			reserve(m, table[i].reserved[k].gfn, table[i].reserved[k].npages);
		assert_mappings(m, table[i].expected);
	}
}

static void reserved_range_between_mappings_changes_nothing(void **state)
{
	struct maps *m = *state;

	put(m, 0, 0, 4);
	put(m, 8, 8, 4);
	reserve(m, 4, 4);
	assert_mappings(m, "0-3 ram+0\n"
			   "8-11 ram+8\n");
}

static void all_of_the_64_bit_space_can_be_reserved(void **state)
{
	struct maps *m = *state;

	put(m, 0, 0, 4);
	put_bytes(m, -pages(4), 8, pages(4));
	m->reserved[0].range = (struct range){0, UINT64_MAX};
	m->nreserved = 1;
	assert_mappings(m, "");
}

/* ---- in KVM: through a machine ---- */

static void reserve_range_refuses(void **state)
{
	struct machine *m = *state;
	const struct {
		uint64_t gpa;
		uint64_t size;
	} table[] = {
		{0, 0},
		{1, pages(1)},
		{1, pages(1) - 1},
		{0, 1},
		{pages(1), pages(1) + 1},
		{-pages(1), pages(2)},
		{pages(1), KVMAS_SIZE_MAX},
		{pages(1), UINT64_MAX - page_size() + 2},
	};

	for (size_t i = 0; i < LENGTH(table); i++)
		assert_int_equal(kvmas_kvm_reserve_range(m->kvm, table[i].gpa, table[i].size),
				 -EINVAL);
}

static void reserved_range_is_free_of_slots_in_every_space(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 16);

	put_alias(m, SMM, ram, 0, 0, 16);
	must(kvmas_kvm_reserve_range(m->kvm, pages(4), pages(2)));
	assert_slots(m, "0:0 0-3 ram+0\n"
			"0:1 6-15 ram+6\n"
			"1:0 0-3 ram+0\n"
			"1:1 6-15 ram+6\n");
	must(kvmas_kvm_reserve_range(m->kvm, -pages(1), pages(1)));
	must(kvmas_kvm_reserve_range(m->kvm, 0, KVMAS_SIZE_MAX));
	assert_slots(m, "");
}

static void collision_with_a_slot_of_the_kernels_is_eexist_until_reserved(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(16));
	struct fake_kvm *before;

	must(fake_kvm_add_private(m->vm, 2, pages(8), pages(1)));
	before = fake_kvm_snapshot(m->vm);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(kvmas_region_add(m->root[NORMAL], ram, 0, 0), -EEXIST);
		assert_true(fake_kvm_equal(m->vm, before));
		assert_right(m);
		assert_view(m->f, m->space[NORMAL], "");
	}
	must(kvmas_kvm_reserve_range(m->kvm, pages(8), pages(1)));
	must(kvmas_region_add(m->root[NORMAL], ram, 0, 0));
	assert_slots(m, "0:0 0-7 ram+0\n"
			"0:1 9-15 ram+9\n");
	fake_kvm_free(before);
}

static void ram_past_the_last_gfn_is_refused_with_kvms_errno(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(4));
	uint64_t top = pages(m->vm->config.max_gfn + 1);

	assert_int_equal(kvmas_region_add(m->root[NORMAL], ram, top - pages(2), 0), -EINVAL);
	assert_right(m);
	must(kvmas_region_add(m->root[NORMAL], ram, top - pages(4), 0));
	assert_right(m);
}

/* ---- memory ---- */

static void every_allocation_that_fails_gives_enomem(void **state)
{
	struct maps *m = *state;
	unsigned failed = 0;
	int err;

	for (unsigned i = 0; i < 40; i++)
		put(m, 2 * i, i, 1);
	do {
		struct mappings mappings = {0};

		m->f->heap.fail_in = failed + 1;
		err = make(m, &mappings);
		m->f->heap.fail_in = 0;
		assert_true(err == 0 || err == -ENOMEM);
		assert_true(err || mappings.count == 40);
		kas_mappings_fini(m->f->kvmas, &mappings);
	} while (err && ++failed);
	assert_int_equal(failed, 3); /* 16, 32, 64 */
}

/* ---- size ---- */

/* KVM takes 2^31 - 1 pages at the most. There is no memory at that address: nobody touches it. */
static void mapping_larger_than_a_slot_is_cut(void **state)
{
	struct machine *m = *state;
	uint64_t npages = UINT64_C(5) << 29;
	struct kvmas_ram *block;
	struct kvmas_region *region;

	must(kvmas_ram_new(m->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "large", .source = KVMAS_RAM_CALLER,
					.hva = (void *)(uintptr_t)(UINT64_C(1) << 32),
					.size = pages(npages)),
			   &block));
	must(kvmas_region_new(m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "large",
					   .size = pages(npages), .ram = block),
			      &region));
	must(kvmas_region_add(m->root[NORMAL], region, 0, 0));
	assert_slots(m, "0:0 0-1073741823 large+0\n0:1 1073741824-2147483647 large+1073741824\n"
			"0:2 2147483648-2684354559 large+2147483648\n");
	must(kvmas_region_del(region));
	kvmas_region_unref(region);
	kvmas_ram_unref(block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MAPS_TEST(empty_view_gives_nothing),
		MAPS_TEST(ram_and_rom_are_mapped_and_mmio_is_not),
		MAPS_TEST(unaligned_edges_are_trimmed),
		MAPS_TEST(unaligned_start_is_trimmed),
		MAPS_TEST(pages_of_the_guest_that_are_none_of_the_host_are_not_mapped),
		MAPS_TEST(range_inside_one_page_is_not_mapped),
		MAPS_TEST(device_in_a_page_of_ram_leaves_this_page_out),
		MAPS_TEST(last_page_of_the_64_bit_space_has_no_slot),
		MAPS_TEST(unaligned_ends_near_the_top_are_trimmed),
		MAPS_TEST(neighbours_on_one_block_are_one_mapping),
		MAPS_TEST(aliases_of_one_region_that_continue_are_one_mapping),
		MAPS_TEST(what_does_not_continue_is_not_merged),
		MAPS_TEST(two_blocks_are_two_mappings),
		MAPS_TEST(other_flags_are_another_mapping),
		MAPS_TEST(readonly_alias_is_readonly_in_its_place_only),
		MAPS_TEST(without_readonly_memory_in_kvm_it_is_not_mapped),
		MAPS_TEST(wish_for_a_region_logs_it_wherever_it_is_seen),
		MAPS_TEST(wish_for_all_regions_logs_all_that_is_writable),
		MAPS_TEST(wish_for_a_space_logs_there_only),
		MAPS_TEST(reserved_ranges_cut),
		MAPS_TEST(reserved_range_between_mappings_changes_nothing),
		MAPS_TEST(all_of_the_64_bit_space_can_be_reserved),
		MAPS_TEST(every_allocation_that_fails_gives_enomem),
		KVM_TEST(reserve_range_refuses),
		KVM_TEST(reserved_range_is_free_of_slots_in_every_space),
		KVM_TEST(collision_with_a_slot_of_the_kernels_is_eexist_until_reserved),
		KVM_TEST(ram_past_the_last_gfn_is_refused_with_kvms_errno),
		KVM_TEST(mapping_larger_than_a_slot_is_cut),
	};

	return cmocka_run_group_tests_name("mapping", tests, NULL, NULL);
}

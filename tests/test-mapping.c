/* SPDX-License-Identifier: MIT */
/*
 * From views to mappings: spaces of real regions; the log table, the reserved ranges and the policy
 * made by hand. Lines are those of slots without ids, in pages: "4-7 ram+4 ro log".
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
	struct policy policy;    /* KVMAS_MERGE_EAGER */
	struct boundary boundaries[4];
	uint64_t last_gpa;
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
	m->policy = (struct policy){.merge = KVMAS_MERGE_EAGER, .boundaries = m->boundaries};
	m->last_gpa = UINT64_MAX;
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

static int make_in(struct maps *m, struct mappings *mappings, struct range window)
{
	struct mapping_source source = {
		.space = m->space,
		.view = m->space->root->view,
		.logging = m->table,
		.reserved = m->nreserved ? &m->reserved[m->nreserved - 1] : NULL,
		.policy = &m->policy,
		.last_gpa = m->last_gpa,
		.as_id = 1,
		.page_size = page_size(),
		.readonly_mem = !m->no_readonly_mem,
	};

	return kas_mappings_add(mappings, &source, window);
}

static int make(struct maps *m, struct mappings *mappings)
{
	return make_in(m, mappings, (struct range){0, UINT64_MAX});
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

/* ---- policies ---- */

static void declare(struct maps *m, uint64_t gfn)
{
	m->boundaries[m->policy.nboundaries++] = (struct boundary){pages(gfn), 1};
}

static void boundaries_cut(void **state)
{
	/* RAM is at 8-15, in two regions. */
	static const struct {
		unsigned boundaries[3];
		const char *expected;
	} table[] = {
		{{10}, "8-9 ram+0\n10-15 ram+2\n"},
		{{12}, "8-11 ram+0\n12-15 ram+4\n"},
		{{9, 15}, "8-8 ram+0\n9-14 ram+1\n15-15 ram+7\n"},
		{{9, 10, 11}, "8-8 ram+0\n9-9 ram+1\n10-10 ram+2\n11-15 ram+3\n"},
		{{8, 16}, "8-15 ram+0\n"},
		{{4, 7, 40}, "8-15 ram+0\n"},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct maps *m;

		maps_teardown(state);
		maps_setup(state);
		m = *state;
		put(m, 8, 0, 4);
		put(m, 12, 4, 4);
		for (unsigned k = 0; k < 3 && table[i].boundaries[k]; k++)
			declare(m, table[i].boundaries[k]);
		assert_mappings(m, table[i].expected);
	}
}

static void without_merging_each_range_stands_alone(void **state)
{
	struct maps *m = *state;

	m->policy.merge = KVMAS_MERGE_NONE;
	put(m, 0, 0, 4);
	put(m, 4, 4, 4);
	put(m, 8, 8, 4);
	declare(m, 10);
	reserve(m, 1, 1);
	assert_mappings(m, "0-0 ram+0\n"
			   "2-3 ram+2\n"
			   "4-7 ram+4\n"
			   "8-9 ram+8\n"
			   "10-11 ram+10\n");
}

static void unmergeable_range_stands_alone(void **state)
{
	struct maps *m = *state;
	struct kvmas_region *middle;

	put(m, 0, 0, 4);
	middle = put(m, 4, 4, 4);
	put(m, 8, 8, 4);
	put(m, 12, 12, 4);
	must(kvmas_region_set_unmergeable(middle, true));
	assert_mappings(m, "0-3 ram+0\n"
			   "4-7 ram+4\n"
			   "8-15 ram+8\n");
}

static void memory_past_the_last_gpa_is_erange(void **state)
{
	struct maps *m = *state;
	struct mappings mappings = {0};

	m->last_gpa = pages(16) - 1;
	put(m, 8, 0, 8);
	put_other(m, make_mmio(m->f, "mmio", pages(4)), 20);
	assert_mappings(m, "8-15 ram+0\n");
	put(m, 16, 8, 1);
	assert_int_equal(make(m, &mappings), -ERANGE);
	kas_mappings_fini(m->f->kvmas, &mappings);
	reserve(m, 16, 1);
	assert_mappings(m, "8-15 ram+0\n");
}

/* ---- windows ---- */

/* Mappings as pages: what each shows, and whether it begins there. */
static void mark_pages(const struct mappings *mappings, struct range window, uint64_t *ret)
{
	for (size_t i = 0; i < mappings->count; i++) {
		const struct kvmas_slot *slot = &mappings->at[i];

		for (uint64_t at = 0; at < slot->size; at += page_size()) {
			uint64_t gpa = slot->gpa + at;

			if (gpa >= window.first && gpa <= window.last)
				ret[gpa / page_size()] = slot->ram_offset + at + slot->flags + 1 +
							 (gpa == slot->gpa) * pages(1000);
		}
	}
}

/* I3 of src/kvm/mapping.c: but at the window's first page, where each begins. */
static void window_gives_what_the_whole_view_gives_there(void **state)
{
	const struct range whole = {0, UINT64_MAX};
	struct maps *m = *state;
	struct mappings all = {0};

	put(m, 2, 0, 4);
	put(m, 6, 4, 4);
	must(kvmas_region_set_readonly(put(m, 10, 8, 4), true));
	must(kvmas_region_set_unmergeable(put(m, 14, 12, 4), true));
	put(m, 18, 16, 6);
	declare(m, 20);
	reserve(m, 7, 1);
	must(make(m, &all));
	for (uint64_t first = 0; first < 26; first++) {
		for (uint64_t last = first; last < 26; last++) {
			struct range window = {pages(first), pages(last + 1) - 1};
			uint64_t expected[26] = {0}, seen[26] = {0};
			struct mappings some = {0};

			must(make_in(m, &some, window));
			mark_pages(&all, window, expected);
			mark_pages(&some, whole, seen);
			if (expected[first] && expected[first] < pages(1000))
				expected[first] += pages(1000);
			assert_memory_equal(seen, expected, sizeof(seen));
			kas_mappings_fini(m->f->kvmas, &some);
		}
	}
	kas_mappings_fini(m->f->kvmas, &all);
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
		MAPS_TEST(boundaries_cut),
		MAPS_TEST(without_merging_each_range_stands_alone),
		MAPS_TEST(unmergeable_range_stands_alone),
		MAPS_TEST(memory_past_the_last_gpa_is_erange),
		MAPS_TEST(window_gives_what_the_whole_view_gives_there),
		MAPS_TEST(every_allocation_that_fails_gives_enomem),
	};

	return cmocka_run_group_tests_name("mapping", tests, NULL, NULL);
}

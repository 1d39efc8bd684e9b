/* SPDX-License-Identifier: MIT */
/*
 * Rendering, by small trees and the lines they show. Each tree is rendered twice, by the library
 * and by the oracle: the lines stand here, so that neither is tested by the other alone.
 */
#include "fixture.h"

#include <limits.h>
#include <stdio.h>

#include "oracle.h"

#define C KVMAS_REGION_CONTAINER
#define RAM KVMAS_REGION_RAM
#define ROM KVMAS_REGION_ROM
#define MMIO KVMAS_REGION_MMIO
#define ALIAS KVMAS_REGION_ALIAS
#define ALL KVMAS_SIZE_MAX
#define TOP UINT64_MAX

/* The first node is the root of the space; the order of rows is the order of adding. */
struct picture {
	const char *name;
	struct node nodes[8];
	const char *lines;
};

static const struct picture pictures[] = {
	{"empty container shows nothing", {{"root", C, ALL, NONE}}, ""},
	{"ram alone shows itself", {{"a", RAM, 0x1000, NONE}}, "0000-0fff ram a+0x0\n"},
	{"child lies at its offset",
	 {{"root", C, 0x10000, NONE}, {"a", RAM, 0x1000, 0, 0x2000}},
	 "2000-2fff ram a+0x0\n"},
	{"higher priority wins",
	 {{"root", C, 0x10000, NONE},
	  {"a", MMIO, 0x1000, 0, 0x1000, 1},
	  {"b", RAM, 0x3000, 0, 0, 0}},
	 "0000-0fff ram b+0x0\n1000-1fff mmio a+0x0\n2000-2fff ram b+0x2000\n"},
	{"priorities are signed",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 0, 0, -1},
	  {"b", MMIO, 0x800, 0, 0, -2},
	  {"c", MMIO, 0x1800, 0, 0, INT_MIN}},
	 "0000-0fff ram a+0x0\n1000-17ff mmio c+0x1000\n"},
	{"priorities reach from INT_MIN to INT_MAX",
	 {{"root", C, 0x10000, NONE},
	  {"a", MMIO, 0x1000, 0, 0, INT_MAX},
	  {"b", MMIO, 0x2000, 0, 0, INT_MAX - 1},
	  {"c", MMIO, 0x3000, 0, 0, INT_MIN + 1},
	  {"d", MMIO, 0x4000, 0, 0, INT_MIN}},
	 "0000-0fff mmio a+0x0\n1000-1fff mmio b+0x1000\n2000-2fff mmio c+0x2000\n"
	 "3000-3fff mmio d+0x3000\n"},
	{"among equals the one added later wins",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x2000, 0, 0},
	  {"b", RAM, 0x1000, 0, 0x800},
	  {"c", RAM, 0x100, 0, 0x800}},
	 "0000-07ff ram a+0x0\n0800-08ff ram c+0x0\n0900-17ff ram b+0x100\n"
	 "1800-1fff ram a+0x1800\n"},
	{"hole of a container shows what lies below",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x4000, 0, 0, 0},
	  {"high", C, 0x4000, 0, 0, 1},
	  {"a", MMIO, 0x1000, 2, 0x1000}},
	 "0000-0fff ram low+0x0\n1000-1fff mmio a+0x0\n2000-3fff ram low+0x2000\n"},
	{"hole of nested containers shows what lies below",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x3000, 0, 0, -5},
	  {"outer", C, 0x3000, 0, 0, 1},
	  {"inner", C, 0x2000, 2, 0x800, 0},
	  {"a", MMIO, 0x400, 3, 0x100}},
	 "0000-08ff ram low+0x0\n0900-0cff mmio a+0x0\n0d00-2fff ram low+0xd00\n"},
	{"priority counts among siblings only",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0, 5},
	  {"a", MMIO, 0x1000, 1, 0, -1000},
	  {"b", RAM, 0x2000, 0, 0, 4}},
	 "0000-0fff mmio a+0x0\n1000-1fff ram b+0x1000\n"},
	{"mmio is the background of its children",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x3000, 0, 0, -1},
	  {"dev", MMIO, 0x2000, 0, 0},
	  {"a", RAM, 0x400, 2, 0x800, -7}},
	 "0000-07ff mmio dev+0x0\n0800-0bff ram a+0x0\n0c00-1fff mmio dev+0xc00\n"
	 "2000-2fff ram low+0x2000\n"},
	{"ram and rom are the background of their children",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 0, 0},
	  {"x", MMIO, 0x10, 1, 0},
	  {"b", ROM, 0x1000, 0, 0x1000},
	  {"y", MMIO, 0x10, 3, 0x10}},
	 "0000-000f mmio x+0x0\n0010-0fff ram a+0x10\n1000-100f rom b+0x0\n"
	 "1010-101f rom y+0x0\n1020-1fff rom b+0x20\n"},
	{"disabled region shows nothing, nor what is below it",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x2000, 0, 0, -1},
	  {"box", C, 0x1000, 0, 0, .disabled = true},
	  {"a", MMIO, 0x1000, 2, 0},
	  {"b", MMIO, 0x1000, 0, 0x1000, .disabled = true}},
	 "0000-1fff ram low+0x0\n"},
	{"disabled root shows nothing",
	 {{"root", C, 0x10000, NONE, .disabled = true}, {"a", RAM, 0x1000, 0, 0}},
	 ""},
	{"alias to a disabled target shows nothing",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE, .disabled = true},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 1}},
	 ""},
	{"disabled alias shows nothing",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 1, .disabled = true}},
	 ""},
	{"disabled container does not hide a target in it",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0x4000, .disabled = true},
	  {"a", RAM, 0x1000, 1, 0x800},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 2}},
	 "0000-0fff ram a+0x0\n"},
	{"parent clips",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0x1000},
	  {"a", RAM, 0x1000, 1, 0x800},
	  {"b", MMIO, 0x1000, 1, 0x1000}},
	 "1800-1fff ram a+0x0\n"},
	{"root clips",
	 {{"root", C, 0x1800, NONE}, {"a", RAM, 0x1000, 0, 0x1000}},
	 "1000-17ff ram a+0x0\n"},
	{"alias shows a window of its target",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"al", ALIAS, 0x1000, 0, 0x2000, .target = 1, .target_offset = 0x1800}},
	 "2000-2fff ram a+0x1800\n"},
	{"alias shows no more than its target has",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE},
	  {"al", ALIAS, 0x4000, 0, 0x2000, .target = 1, .target_offset = 0x800}},
	 "2000-27ff ram a+0x800\n"},
	{"alias past its target shows nothing",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE},
	  {"al", ALIAS, 0x4000, 0, 0, .target = 1, .target_offset = 0x1000}},
	 ""},
	{"alias into a container shows its children clipped",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x8000, NONE},
	  {"a", RAM, 0x2000, 1, 0x0},
	  {"b", MMIO, 0x2000, 1, 0x3000},
	  {"al", ALIAS, 0x3000, 0, 0x8000, .target = 1, .target_offset = 0x1000}},
	 "8000-8fff ram a+0x1000\na000-afff mmio b+0x0\n"},
	{"alias whose target begins below address 0",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 1, .target_offset = 0x3000}},
	 "0000-0fff ram a+0x3000\n"},
	{"alias of an alias adds their offsets",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"in", ALIAS, 0x2000, NONE, .target = 1, .target_offset = 0x1000},
	  {"out", ALIAS, 0x2000, 0, 0x4000, .target = 2, .target_offset = 0x800}},
	 "4000-57ff ram a+0x1800\n"},
	{"place of the target in its container does not matter",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 1, 0xff00},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 2}},
	 "0000-0fff ram a+0x0\n"},
	{"region of 2^64 bytes", {{"a", MMIO, ALL, NONE}}, "0000-ffffffffffffffff mmio a+0x0\n"},
	{"region of 2^64 bytes with a child at the top",
	 {{"a", MMIO, ALL, NONE}, {"b", RAM, 0x1000, 0, TOP - 0xfff}},
	 "0000-ffffffffffffefff mmio a+0x0\nfffffffffffff000-ffffffffffffffff ram b+0x0\n"},
	{"child that runs past 2^64 is clipped",
	 {{"root", C, ALL, NONE}, {"a", RAM, 0x1000, 0, TOP - 0x7ff}},
	 "fffffffffffff800-ffffffffffffffff ram a+0x0\n"},
	{"child of 2^64 bytes at an offset is clipped",
	 {{"root", C, ALL, NONE}, {"a", MMIO, ALL, 0, 0x1000}},
	 "1000-ffffffffffffffff mmio a+0x0\n"},
	{"one byte at the very top",
	 {{"root", C, ALL, NONE}, {"a", MMIO, 1, 0, TOP}},
	 "ffffffffffffffff-ffffffffffffffff mmio a+0x0\n"},
	{"alias whose window runs past 2^64 of the target",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"al", ALIAS, 0x2000, 0, 0, .target = 1, .target_offset = TOP - 0xfff}},
	 "0000-0fff mmio a+0xfffffffffffff000\n"},
	{"alias at an offset whose target begins at a negative address",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"al", ALIAS, ALL, 0, 0x1000, .target = 1, .target_offset = TOP - 0xfff}},
	 "1000-1fff mmio a+0xfffffffffffff000\n"},
	{"nested offsets that pass 2^64 show nothing",
	 {{"root", C, ALL, NONE},
	  {"box", C, ALL, 0, TOP - 0xfff},
	  {"a", RAM, 0x1000, 1, 0x1000},
	  {"b", MMIO, 0x1000, 1, 0xf00}},
	 "ffffffffffffff00-ffffffffffffffff mmio b+0x0\n"},
	{"readonly flows down through containers",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x4000, 0, 0, .readonly = true},
	  {"inner", C, 0x4000, 1, 0},
	  {"a", RAM, 0x1000, 2, 0},
	  {"b", MMIO, 0x1000, 2, 0x1000}},
	 "0000-0fff rom a+0x0\n1000-1fff rom b+0x0\n"},
	{"readonly of the root flows down",
	 {{"root", C, 0x10000, NONE, .readonly = true}, {"a", RAM, 0x1000, 0, 0}},
	 "0000-0fff rom a+0x0\n"},
	{"readonly flows through an alias, in its place only",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 0, 0},
	  {"al", ALIAS, 0x1000, 0, 0x4000, .target = 1, .readonly = true}},
	 "0000-0fff ram a+0x0\n4000-4fff rom a+0x0\n"},
	{"readonly of the target's container stays there",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0, .readonly = true},
	  {"a", RAM, 0x1000, 1, 0},
	  {"al", ALIAS, 0x1000, 0, 0x4000, .target = 2}},
	 "0000-0fff rom a+0x0\n4000-4fff ram a+0x0\n"},
	{"readonly does not flow up or aside",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x2000, 0, 0},
	  {"b", RAM, 0x1000, 1, 0, .readonly = true}},
	 "0000-0fff rom b+0x0\n1000-1fff ram a+0x1000\n"},
	{"rom is readonly by kind",
	 {{"root", C, 0x10000, NONE}, {"a", ROM, 0x1000, 0, 0}},
	 "0000-0fff rom a+0x0\n"},
	{"ranges that continue across aliases are one",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0x0, 3, .target = 1},
	  {"mid", ALIAS, 0x1000, 0, 0x1000, -3, .target = 1, .target_offset = 0x1000},
	  {"hi", ALIAS, 0x2000, 0, 0x2000, 9, .target = 1, .target_offset = 0x2000}},
	 "0000-3fff ram a+0x0\n"},
	{"range that goes on behind an alias to itself is one",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, 0, 0, 0},
	  {"al", ALIAS, 0x1000, 0, 0x1000, 1, .target = 1, .target_offset = 0x1000}},
	 "0000-3fff ram a+0x0\n"},
	{"ranges whose readonly differs stay apart",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, 0, 0, 0},
	  {"al", ALIAS, 0x1000, 0, 0x1000, 1, .target = 1, .target_offset = 0x1000,
	   .readonly = true}},
	 "0000-0fff ram a+0x0\n1000-1fff rom a+0x1000\n2000-3fff ram a+0x2000\n"},
	{"ranges whose offsets do not continue stay apart",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0x0, .target = 1, .target_offset = 0x1000},
	  {"hi", ALIAS, 0x1000, 0, 0x1000, .target = 1, .target_offset = 0x0}},
	 "0000-0fff ram a+0x1000\n1000-1fff ram a+0x0\n"},
	{"neighbours of different regions stay apart",
	 {{"root", C, 0x10000, NONE}, {"a", RAM, 0x1000, 0, 0}, {"a", RAM, 0x1000, 0, 0x1000}},
	 "0000-0fff ram a+0x0\n1000-1fff ram a+0x0\n"},
	{"ranges with a gap stay apart",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0x0, .target = 1},
	  {"hi", ALIAS, 0xfff, 0, 0x1001, .target = 1, .target_offset = 0x1001}},
	 "0000-0fff ram a+0x0\n1001-1fff ram a+0x1001\n"},
	{"range at 0 does not continue one at the top",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"top", ALIAS, 0x1000, 0, TOP - 0xfff, .target = 1},
	  {"low", ALIAS, 0x1000, 0, 0, .target = 1, .target_offset = 0x1000}},
	 "0000-0fff mmio a+0x1000\nfffffffffffff000-ffffffffffffffff mmio a+0x0\n"},
	{"many pieces fill around what is taken",
	 {{"root", C, 0x10000, NONE},
	  {"a", MMIO, 0x100, 0, 0x100, 1},
	  {"b", MMIO, 0x100, 0, 0x200, 1},
	  {"c", MMIO, 0x100, 0, 0x400, 1},
	  {"bg", RAM, 0x1000, 0, 0x180}},
	 "0100-01ff mmio a+0x0\n0200-02ff mmio b+0x0\n0300-03ff ram bg+0x180\n"
	 "0400-04ff mmio c+0x0\n0500-117f ram bg+0x380\n"},
};

static int count_nodes(const struct picture *picture)
{
	int count = 0;

	while (count < (int)LENGTH(picture->nodes) && picture->nodes[count].name)
		count++;
	return count;
}

static struct kvmas_region *make_node(struct fixture *f, const struct node *node,
				      struct kvmas_region *const *regions)
{
	switch (node->kind) {
	case RAM:
		return make_ram(f, node->name, node->size);
	case ROM:
		return make_rom(f, node->name, node->size);
	case MMIO:
		return make_mmio(f, node->name, node->size);
	case ALIAS:
		return make_alias(f, node->name, regions[node->target], node->target_offset,
				  node->size);
	default:
		return make_container(f, node->name, node->size);
	}
}

static struct kvmas_space *build(struct fixture *f, const struct picture *picture)
{
	struct kvmas_region *regions[LENGTH(picture->nodes)];

	for (int i = 0; i < count_nodes(picture); i++) {
		const struct node *node = &picture->nodes[i];

		regions[i] = make_node(f, node, regions);
		must(kvmas_region_set_enabled(regions[i], !node->disabled));
		must(kvmas_region_set_readonly(regions[i], node->readonly));
		if (node->parent != NONE)
			add(regions[node->parent], regions[i], node->offset, node->priority);
	}
	return make_space(f, picture->name, regions[0]);
}

static char *ask_oracle(const struct picture *picture)
{
	struct node nodes[LENGTH(picture->nodes)];
	struct tree tree = {.nodes = nodes, .count = count_nodes(picture)};

	for (int i = 0; i < tree.count; i++) {
		nodes[i] = picture->nodes[i];
		nodes[i].order = (unsigned)i;
	}
	return oracle_text(&tree, 0);
}

static void picture_shows_its_lines(void **state)
{
	for (size_t i = 0; i < LENGTH(pictures); i++) {
		struct fixture *f = fixture_new((struct kvmas_config){0});
		char *text = space_text(f, build(f, &pictures[i]));

		if (strcmp(text, pictures[i].lines) != 0)
			print_error("picture: %s\n", pictures[i].name);
		assert_string_equal(text, pictures[i].lines);
		free(text);
		fixture_free(f);
	}
	(void)state;
}

static void oracle_shows_its_lines(void **state)
{
	for (size_t i = 0; i < LENGTH(pictures); i++) {
		char *text = ask_oracle(&pictures[i]);

		if (strcmp(text, pictures[i].lines) != 0)
			print_error("picture: %s\n", pictures[i].name);
		assert_string_equal(text, pictures[i].lines);
		free(text);
	}
	(void)state;
}

/* ---- caps ---- */

static struct fixture *fixture_with_caps(uint64_t max_ranges, uint64_t max_nodes)
{
	return fixture_new((struct kvmas_config){.max_ranges = max_ranges, .max_nodes = max_nodes});
}

/* Each shows the one before twice. */
static struct kvmas_region *double_up(struct fixture *f, struct kvmas_region *region,
				      unsigned levels)
{
	for (unsigned i = 0; i < levels; i++) {
		struct kvmas_region *box = make_container(f, "box", KVMAS_SIZE_MAX);

		add(box, make_alias(f, "once", region, 0, KVMAS_SIZE_MAX), 0, 0);
		add(box, make_alias(f, "twice", region, 0, KVMAS_SIZE_MAX), 0, 0);
		region = box;
	}
	return region;
}

static void doubling_aliases_past_the_cap_return_e2big(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *top = double_up(f, make_ram(f, "a", 0x1000), 30);
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_space *space = make_space(f, "s", root);
	char *before = state_text(f);
	char *after;

	assert_int_equal(kvmas_region_add(root, top, 0, 0), -E2BIG);
	after = state_text(f);
	assert_string_equal(after, before);
	assert_view(f, space, "");
	free(before);
	free(after);
}

static void nodes_up_to_the_cap_render(void **state)
{
	struct fixture *f = fixture_with_caps(0, 4);
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_space *space = make_space(f, "s", root);

	add(root, make_ram(f, "a", 0x1000), 0, 0);
	add(root, make_ram(f, "b", 0x1000), 0x1000, 0);
	add(root, make_ram(f, "c", 0x1000), 0x2000, 0);
	assert_int_equal(kvmas_region_add(root, make_ram(f, "d", 0x1000), 0x3000, 0), -E2BIG);
	assert_view(f, space, "0000-0fff ram a+0x0\n1000-1fff ram b+0x0\n2000-2fff ram c+0x0\n");
	fixture_free(f);
	(void)state;
}

static void ranges_up_to_the_cap_render(void **state)
{
	struct fixture *f = fixture_with_caps(2, 0);
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_space *space = make_space(f, "s", root);

	add(root, make_ram(f, "a", 0x1000), 0, 0);
	add(root, make_ram(f, "b", 0x1000), 0x2000, 0);
	assert_int_equal(kvmas_region_add(root, make_ram(f, "c", 0x1000), 0x4000, 0), -E2BIG);
	assert_view(f, space, "0000-0fff ram a+0x0\n2000-2fff ram b+0x0\n");
	fixture_free(f);
	(void)state;
}

/* 512 regions on the way down: root, boxes, and the ram. */
static struct kvmas_region *nest(struct fixture *f, unsigned boxes)
{
	struct kvmas_region *region = make_ram(f, "a", 0x1000);

	for (unsigned i = 0; i < boxes; i++) {
		struct kvmas_region *box = make_container(f, "box", 0x1000);

		add(box, region, 0, 0);
		region = box;
	}
	return region;
}

static void nesting_to_the_limit_renders(void **state)
{
	struct fixture *f = *state;

	assert_view(f, make_space(f, "s", nest(f, 511)), "0000-0fff ram a+0x0\n");
}

static void nesting_too_deep_returns_e2big(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *deep = nest(f, 512);
	struct kvmas_space *space;

	assert_int_equal(kvmas_space_new(f->kvmas, "s", deep, &space), -E2BIG);
}

/* A view of many ranges: as many as it takes for every array to grow. */
static int change_much(struct fixture *f)
{
	return kvmas_region_set_enabled(f->made, true);
}

static void every_allocation_of_a_render_fails(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x100000);
	struct kvmas_region *box = make_container(f, "box", 0x100000);

	add(root, make_ram(f, "low", 0x80000), 0, -1);
	for (unsigned i = 0; i < 100; i++)
		add(box, make_mmio(f, "m", 0x100), i * UINT64_C(0x1000), 0);
	must(kvmas_region_set_enabled(box, false));
	add(root, box, 0, 0);
	make_space(f, "s", root);
	make_space(f, "t", root);
	f->made = box;
	assert_true(fail_each_allocation(f, change_much) >= 6);
}

/* ---- many ---- */

/* Added upwards and downwards: quadratic painting would take minutes. */
static void many_regions_render_in_either_order(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){.max_ranges = 200000});
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *target = make_mmio(f, "target", 0x1000);
	struct kvmas_region *alias;

	(void)state;
	must(kvmas_begin(f->kvmas));
	for (uint64_t i = 0; i < 40000; i++) {
		uint64_t at = i < 20000 ? 100000 + i : 40000 - i;

		must(kvmas_region_new(f->kvmas,
				      KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "a",
						   .size = 0x1000, .target = target),
				      &alias));
		must(kvmas_region_add(root, alias, at << 12, 0));
		kvmas_region_unref(alias);
	}
	make_space(f, "s", root);
	must(kvmas_commit(f->kvmas));
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(picture_shows_its_lines),
		cmocka_unit_test(oracle_shows_its_lines),
		TEST(doubling_aliases_past_the_cap_return_e2big),
		cmocka_unit_test(nodes_up_to_the_cap_render),
		cmocka_unit_test(ranges_up_to_the_cap_render),
		TEST(nesting_to_the_limit_renders),
		TEST(nesting_too_deep_returns_e2big),
		TEST(every_allocation_of_a_render_fails),
		cmocka_unit_test(many_regions_render_in_either_order),
	};

	return cmocka_run_group_tests_name("render", tests, NULL, NULL);
}

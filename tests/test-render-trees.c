/* SPDX-License-Identifier: MIT */
/*
 * Rendering of trees that are too large or too deep for a picture (test-render.c), that change, or
 * that must be refused.
 */
#include "fixture.h"

#include <stdio.h>

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
	struct kvmas_region *top = double_up(f, make_ram(f, "a", 0x1000), 40);
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

/* In so many places that carrying the change there is given up: all is looked at instead. */
static void change_above_which_there_are_very_many_aliases_shows(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *ram = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", root);

	add(root, ram, 0x1000, 0);
	double_up(f, root, 18); /* no space shows that */
	must(kvmas_region_set_offset(ram, 0x3000));
	assert_view(f, space, "3000-3fff ram a+0x0\n");
	must(kvmas_region_del(ram));
	assert_view(f, space, "");
}

static void nodes_up_to_the_cap_render(void **state)
{
	struct fixture *f = fixture_with_caps(0, 4);
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_space *space = make_space(f, "s", root);

	add(root, make_ram(f, "a", 0x1000), 0, 0);
	add(root, make_ram(f, "b", 0x1000), 0x1000, 0);
	add(root, make_ram(f, "c", 0x1000), 0x2000, 0);
	must(kvmas_region_set_enabled(root, false));
	must(kvmas_region_set_enabled(root, true)); /* four: all is seen anew */
	assert_view(f, space, "0000-0fff ram a+0x0\n1000-1fff ram b+0x0\n2000-2fff ram c+0x0\n");
	must(kvmas_region_set_enabled(root, false));
	add(root, make_ram(f, "d", 0x1000), 0x3000, 0);
	assert_int_equal(kvmas_region_set_enabled(root, true), -E2BIG);
	assert_view(f, space, "");
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

/* ---- depth ---- */

/* Containers, each in the one before. Returns the innermost. */
static struct kvmas_region *nest(struct fixture *f, struct kvmas_region *box, unsigned depth)
{
	for (unsigned i = 0; i < depth; i++) {
		struct kvmas_region *inner = make_container(f, "box", 0x1000000);

		add(box, inner, 1, 0);
		box = inner;
	}
	return box;
}

/* Aliases, each onto the one before. Returns the last. */
static struct kvmas_region *chain(struct fixture *f, struct kvmas_region *region, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		region = make_alias(f, "see", region, 1, 0x1000000);
	return region;
}

static void a_thousand_nested_containers_render(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);

	add(nest(f, root, 1000), make_ram(f, "a", 0x1000), 0, 0);
	assert_view(f, make_space(f, "s", root), "03e8-13e7 ram a+0x0\n");
}

static void a_thousand_aliases_of_aliases_render(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *last = chain(f, make_ram(f, "a", 0x1000), 1000);

	assert_view(f, make_space(f, "s", last), "0000-0c17 ram a+0x3e8\n");
}

static void a_thousand_containers_and_aliases_in_turns_render(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *region = make_ram(f, "a", 0x1000);

	for (unsigned i = 0; i < 500; i++) {
		struct kvmas_region *box = make_container(f, "box", 0x1000000);

		add(box, region, 1, 0);
		region = make_alias(f, "see", box, 1, 0x1000000);
	}
	assert_view(f, make_space(f, "s", region), "0000-0fff ram a+0x0\n");
}

/* It may be refused, and then nothing has changed. */
static void expect_view_or_e2big(struct fixture *f, struct kvmas_region *root, const char *lines)
{
	struct kvmas_space *space;
	int err = kvmas_space_new(f->kvmas, "s", root, &space);

	if (err) {
		assert_int_equal(err, -E2BIG);
		return;
	}
	assert_view(f, space, lines);
	kvmas_space_unref(space);
}

static void twenty_thousand_nested_containers_do_no_harm(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);

	add(nest(f, root, 20000), make_ram(f, "a", 0x1000), 0, 0);
	expect_view_or_e2big(f, root, "4e20-5e1f ram a+0x0\n");
	assert_view(f, make_space(f, "t", make_ram(f, "b", 0x1000)), "0000-0fff ram b+0x0\n");
}

static void twenty_thousand_aliases_of_aliases_do_no_harm(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *last = chain(f, make_ram(f, "a", 0x8000), 20000);

	expect_view_or_e2big(f, last, "0000-31df ram a+0x4e20\n");
	assert_view(f, make_space(f, "t", make_ram(f, "b", 0x1000)), "0000-0fff ram b+0x0\n");
}

/* A change at the bottom must find its way up to the space as well. */
static void change_below_a_thousand_containers_shows(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *ram = make_ram(f, "a", 0x1000);
	struct kvmas_space *space;

	add(nest(f, root, 1000), ram, 0, 0);
	space = make_space(f, "s", chain(f, root, 100));
	assert_view(f, space, "0384-1383 ram a+0x0\n");
	must(kvmas_region_set_offset(ram, 0x100));
	assert_view(f, space, "0484-1483 ram a+0x0\n");
	must(kvmas_region_set_size(ram, 0x10));
	assert_view(f, space, "0484-0493 ram a+0x0\n");
}

/* ---- loops ---- */

/* a in b in c; d is an alias to c, e one to d; f is apart. */
struct loop_cast {
	struct kvmas_region *a, *b, *c, *d, *e, *f;
	struct kvmas_space *space;
};

static void make_cast(struct fixture *f, struct loop_cast *cast)
{
	struct kvmas_region *root = make_container(f, "root", 0x10000);

	cast->a = make_container(f, "a", 0x1000);
	cast->b = make_container(f, "b", 0x1000);
	cast->c = make_container(f, "c", 0x1000);
	cast->f = make_mmio(f, "f", 0x1000);
	add(cast->c, cast->b, 0, 0);
	add(cast->b, cast->a, 0, 0);
	add(cast->a, make_ram(f, "ram", 0x100), 0, 0);
	cast->d = make_alias(f, "d", cast->c, 0, 0x1000);
	cast->e = make_alias(f, "e", cast->d, 0, 0x1000);
	add(root, cast->c, 0, 0);
	add(root, cast->f, 0x4000, 0);
	cast->space = make_space(f, "s", root);
}

static void loop_by_adding_returns_eloop(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *top = make_container(f, "top", 0x1000);
	struct kvmas_region *in = make_container(f, "in", 0x1000);
	struct loop_cast cast;

	make_cast(f, &cast);
	add(top, in, 0, 0);
	assert_int_equal(kvmas_region_add(top, top, 0, 0), -ELOOP);
	assert_int_equal(kvmas_region_add(in, top, 0, 0), -ELOOP);
	assert_int_equal(kvmas_region_add(cast.c, cast.d, 0, 0), -ELOOP);
	assert_int_equal(kvmas_region_add(cast.a, cast.d, 0, 0), -ELOOP);
	assert_int_equal(kvmas_region_add(cast.a, cast.e, 0, 0), -ELOOP);
	must(kvmas_region_del(cast.c));
	must(kvmas_region_add(top, cast.e, 0, 0));
	assert_int_equal(kvmas_region_add(cast.a, top, 0, 0), -ELOOP);
	assert_view(f, cast.space, "4000-4fff mmio f+0x0\n");
	must(kvmas_region_add(cast.f, top, 0, 0));
	assert_view(f, cast.space, "4000-40ff ram ram+0x0\n4100-4fff mmio f+0x100\n");
	assert_int_equal(kvmas_region_add(cast.c, kvmas_region_ref(cast.f), 0, 0), -EEXIST);
	kvmas_region_unref(cast.f);
}

static void loop_by_an_alias_returns_eloop(void **state)
{
	struct fixture *f = *state;
	struct loop_cast cast;

	make_cast(f, &cast);
	assert_int_equal(kvmas_region_set_alias(cast.d, cast.d, 0), -ELOOP);
	assert_int_equal(kvmas_region_set_alias(cast.d, cast.e, 0), -ELOOP);
	must(kvmas_region_add(cast.f, cast.e, 0, 0));
	assert_int_equal(kvmas_region_set_alias(cast.e, cast.f, 0), -ELOOP);
	assert_int_equal(kvmas_region_set_alias(cast.d, cast.f, 0), -ELOOP);
	assert_view(f, cast.space,
		    "0000-00ff ram ram+0x0\n4000-40ff ram ram+0x0\n4100-4fff mmio f+0x100\n");
	must(kvmas_region_set_alias(cast.d, cast.a, 0x80));
	assert_view(f, cast.space,
		    "0000-00ff ram ram+0x0\n4000-407f ram ram+0x80\n4080-4fff mmio f+0x80\n");
}

/* Two levels make it, neither of them alone; and the second must see the first, in a transaction.
 */
static void loop_made_in_one_transaction_returns_eloop(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *one = make_container(f, "one", 0x1000);
	struct kvmas_region *two = make_container(f, "two", 0x1000);
	struct kvmas_region *see = make_alias(f, "see", one, 0, 0x1000);

	must(kvmas_begin(f->kvmas));
	must(kvmas_region_add(two, see, 0, 0));
	assert_int_equal(kvmas_region_add(one, two, 0, 0), -ELOOP);
	must(kvmas_region_del(see));
	must(kvmas_region_add(one, two, 0, 0));
	assert_int_equal(kvmas_region_add(two, see, 0, 0), -ELOOP);
	must(kvmas_commit(f->kvmas));
	assert_int_equal(kvmas_region_add(two, see, 0, 0), -ELOOP);
}

/* ---- order among equals ---- */

static void region_that_comes_back_is_on_top_of_its_equals(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *a = make_mmio(f, "a", 0x2000);
	struct kvmas_region *b = make_mmio(f, "b", 0x2000);
	struct kvmas_space *space = make_space(f, "s", root);

	add(root, a, 0, 0);
	add(root, b, 0x1000, 0);
	assert_view(f, space, "0000-0fff mmio a+0x0\n1000-2fff mmio b+0x0\n");
	must(kvmas_region_del(a));
	add(root, a, 0, 0);
	assert_view(f, space, "0000-1fff mmio a+0x0\n2000-2fff mmio b+0x1000\n");
	must(kvmas_region_set_priority(b, 1));
	must(kvmas_region_set_priority(b, 0));
	assert_view(f, space, "0000-0fff mmio a+0x0\n1000-2fff mmio b+0x0\n");
	must(kvmas_region_set_offset(a, 0x800));
	assert_view(f, space, "0800-27ff mmio a+0x0\n2800-2fff mmio b+0x1800\n");
	/* What is set already, and a size, change no order. */
	must(kvmas_region_set_offset(b, 0x1000));
	must(kvmas_region_set_priority(b, 0));
	must(kvmas_region_set_size(b, 0x3000));
	assert_view(f, space, "0800-27ff mmio a+0x0\n2800-3fff mmio b+0x1800\n");
}

static void abort_brings_the_order_among_equals_back(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *equals[3];
	struct kvmas_space *space = make_space(f, "s", root);
	static const char *const names[] = {"a", "b", "c"};
	char *before;
	char *after;

	for (unsigned i = 0; i < LENGTH(equals); i++) {
		equals[i] = make_mmio(f, names[i], 0x2000);
		add(root, equals[i], i * UINT64_C(0x800), 0);
	}
	before = space_text(f, space);
	must(kvmas_begin(f->kvmas));
	for (unsigned i = 0; i < LENGTH(equals); i++) {
		must(kvmas_region_del(equals[i]));
		add(root, equals[i], i * UINT64_C(0x800), (int)i % 2);
	}
	must(kvmas_abort(f->kvmas));
	/* All is painted anew, so that what the tree is like can be seen. */
	must(kvmas_region_set_enabled(root, false));
	must(kvmas_region_set_enabled(root, true));
	after = space_text(f, space);
	assert_string_equal(after, before);
	free(before);
	free(after);
}

/* ---- allocations ---- */

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

/* One region in a thousand places: as one range where they go on, else as many. */
static void a_thousand_aliases_of_one_region_render(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *target = make_mmio(f, "a", 0x400000);
	struct kvmas_space *space;
	struct kvmas_section section;
	const struct kvmas_view *view;
	unsigned count = 0;

	for (uint64_t i = 0; i < 1000; i++) {
		add(root, make_alias(f, "on", target, i << 12, 0x1000), i << 12, (int)(i % 7));
		add(root, make_alias(f, "far", target, 0, 0x1000), (i + 2000) << 12, 0);
	}
	space = make_space(f, "s", root);
	view = kvmas_view_acquire(f->reader, space);
	for (int err = kvmas_view_find(view, 0, &section); !err;
	     err = kvmas_view_next(view, &section)) {
		assert_int_equal(section.gpa, count ? (count + 1999) * UINT64_C(0x1000) : 0);
		assert_int_equal(section.size, count ? 0x1000 : 1000 * 0x1000);
		assert_int_equal(section.offset, 0);
		count++;
	}
	assert_int_equal(count, 1001);
	kvmas_view_release(f->reader, view);
}

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
		TEST(doubling_aliases_past_the_cap_return_e2big),
		TEST(change_above_which_there_are_very_many_aliases_shows),
		cmocka_unit_test(nodes_up_to_the_cap_render),
		cmocka_unit_test(ranges_up_to_the_cap_render),
		TEST(a_thousand_nested_containers_render),
		TEST(a_thousand_aliases_of_aliases_render),
		TEST(a_thousand_containers_and_aliases_in_turns_render),
		TEST(change_below_a_thousand_containers_shows),
		TEST(twenty_thousand_nested_containers_do_no_harm),
		TEST(twenty_thousand_aliases_of_aliases_do_no_harm),
		TEST(loop_by_adding_returns_eloop),
		TEST(loop_by_an_alias_returns_eloop),
		TEST(loop_made_in_one_transaction_returns_eloop),
		TEST(region_that_comes_back_is_on_top_of_its_equals),
		TEST(abort_brings_the_order_among_equals_back),
		TEST(every_allocation_of_a_render_fails),
		TEST(a_thousand_aliases_of_one_region_render),
		cmocka_unit_test(many_regions_render_in_either_order),
	};

	return cmocka_run_group_tests_name("render-trees", tests, NULL, NULL);
}

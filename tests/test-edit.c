/* SPDX-License-Identifier: MIT */
/* The functions that change the tree: what each does, what it refuses, and that refusal is free. */
#include "fixture.h"

#include <limits.h>

#include "region.h"

/* A tree to edit: box 0-0xffff in root, with two rams in it; a target outside. */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *box;
	struct kvmas_region *a;
	struct kvmas_region *b;
	struct kvmas_region *target; /* in no container */
	struct kvmas_region *alias;  /* of target, in root at 0x20000 */
	struct kvmas_space *space;
};

static void set_scene(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", KVMAS_SIZE_MAX);
	s->box = make_container(f, "box", 0x10000);
	s->a = make_ram(f, "a", 0x1000);
	s->b = make_mmio(f, "b", 0x1000);
	s->target = make_ram(f, "t", 0x2000);
	s->alias = make_alias(f, "alias", s->target, 0, 0x1000);
	add(s->root, s->box, 0, 0);
	add(s->box, s->a, 0, 0);
	add(s->box, s->b, 0x800, -1);
	add(s->root, s->alias, 0x20000, 0);
	s->space = make_space(f, "s", s->root);
	f->with = s;
}

#define SCENE_LINES "0000-0fff ram a+0x0\n1000-17ff mmio b+0x800\n20000-20fff ram t+0x0\n"

static void scene_shows_its_lines(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_view(f, s.space, SCENE_LINES);
}

/* ---- what is refused ---- */

/* Refused by itself, and inside a transaction, which goes on: nothing changes in either. */
static void assert_refused(struct fixture *f, int (*edit)(struct scene *s), int result)
{
	char *before = state_text(f);
	char *after;

	assert_int_equal(edit(f->with), result);
	must(kvmas_begin(f->kvmas));
	assert_int_equal(edit(f->with), result);
	must(kvmas_commit(f->kvmas));
	after = state_text(f);
	assert_string_equal(after, before);
	free(before);
	free(after);
}

static int add_to_alias(struct scene *s)
{
	return kvmas_region_add(s->alias, s->target, 0, 0);
}

static int add_what_is_here(struct scene *s)
{
	return kvmas_region_add(s->box, s->a, 0x8000, 0);
}

static int add_what_is_elsewhere(struct scene *s)
{
	return kvmas_region_add(s->root, s->a, 0x8000, 0);
}

static int add_to_itself(struct scene *s)
{
	return kvmas_region_add(s->target, s->target, 0, 0);
}

static int add_to_own_child(struct scene *s)
{
	return kvmas_region_add(s->a, s->root, 0, 0);
}

static int set_alias_to_itself(struct scene *s)
{
	return kvmas_region_set_alias(s->alias, s->alias, 0);
}

static int set_alias_to_own_container(struct scene *s)
{
	return kvmas_region_set_alias(s->alias, s->root, 0x1f800);
}

static int set_alias_of_another_kind(struct scene *s)
{
	return kvmas_region_set_alias(s->box, s->target, 0);
}

static int del_from_nowhere(struct scene *s)
{
	return kvmas_region_del(s->target);
}

static int set_offset_nowhere(struct scene *s)
{
	return kvmas_region_set_offset(s->target, 1);
}

static int set_priority_nowhere(struct scene *s)
{
	return kvmas_region_set_priority(s->target, 1);
}

static int set_size_0(struct scene *s)
{
	return kvmas_region_set_size(s->box, 0);
}

static int set_ram_size_0(struct scene *s)
{
	return kvmas_region_set_size(s->a, 0);
}

static int set_size_past_block(struct scene *s)
{
	return kvmas_region_set_size(s->a, kvmas_ram_get_size(block_of(s->a)) + 1);
}

static int set_ram_size_to_all(struct scene *s)
{
	return kvmas_region_set_size(s->a, KVMAS_SIZE_MAX);
}

static void edit_that_makes_no_sense_is_refused_and_changes_nothing(void **state)
{
	static const struct {
		int (*edit)(struct scene *s);
		int result;
	} cases[] = {
		{add_to_alias, -EINVAL},
		{add_what_is_here, -EEXIST},
		{add_what_is_elsewhere, -EEXIST},
		{add_to_itself, -ELOOP},
		{add_to_own_child, -ELOOP},
		{set_alias_to_itself, -ELOOP},
		{set_alias_to_own_container, -ELOOP},
		{set_alias_of_another_kind, -EINVAL},
		{del_from_nowhere, -ENOENT},
		{set_offset_nowhere, -ENOENT},
		{set_priority_nowhere, -ENOENT},
		{set_size_0, -EINVAL},
		{set_ram_size_0, -EINVAL},
		{set_size_past_block, -EINVAL},
		{set_ram_size_to_all, -EINVAL},
	};
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < LENGTH(cases); i++)
		assert_refused(f, cases[i].edit, cases[i].result);
}

static void regions_of_two_kvmas_return_exdev(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_region *theirs = make_mmio(other, "theirs", 1);
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(kvmas_region_add(s.root, theirs, 0, 0), -EXDEV);
	assert_int_equal(kvmas_region_set_alias(s.alias, theirs, 0), -EXDEV);
	assert_view(f, s.space, SCENE_LINES);
	fixture_free(other);
}

static void loop_through_a_chain_of_aliases_returns_eloop(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", 0x1000);
	struct kvmas_region *first = make_alias(f, "first", box, 0, 0x1000);
	struct kvmas_region *second = make_alias(f, "second", first, 0, 0x1000);
	struct kvmas_region *holder = make_container(f, "holder", 0x1000);
	struct kvmas_region *third = make_alias(f, "third", holder, 0, 0x1000);

	add(holder, second, 0, 0);
	assert_int_equal(kvmas_region_add(box, third, 0, 0), -ELOOP);
	assert_int_equal(kvmas_region_add(box, second, 0, 0), -EEXIST);
	assert_int_equal(kvmas_region_set_alias(first, third, 0), -ELOOP);
	assert_int_equal(kvmas_region_set_alias(first, second, 0), -ELOOP);
	assert_int_equal(kvmas_region_add(box, holder, 0, 0), -ELOOP);
}

static void diamond_is_no_loop(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *a = make_ram(f, "a", 0x1000);

	add(root, a, 0, 0);
	add(root, make_alias(f, "x", a, 0, 0x1000), 0x1000, 0);
	add(root, make_alias(f, "y", a, 0, 0x1000), 0x2000, 0);
	assert_view(f, make_space(f, "s", root),
		    "0000-0fff ram a+0x0\n1000-1fff ram a+0x0\n2000-2fff ram a+0x0\n");
}

static void alias_of_its_own_container_shows_another_part_of_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", 0x10000);
	struct kvmas_region *alias = make_alias(f, "alias", box, 0, 0x2000);
	struct kvmas_space *space = make_space(f, "s", box);

	add(box, make_mmio(f, "a", 0x1000), 0x1000, 0);
	add(box, alias, 0x8000, 0);
	assert_view(f, space, "1000-1fff mmio a+0x0\n9000-9fff mmio a+0x0\n");
	assert_int_equal(kvmas_region_set_offset(alias, 0x1fff), -ELOOP);
	assert_int_equal(kvmas_region_set_alias_offset(alias, 0x6001), -ELOOP);
	assert_int_equal(kvmas_region_set_alias(alias, box, UINT64_C(0x9fff)), -ELOOP);
	assert_int_equal(kvmas_region_set_size(alias, 0x8001), -ELOOP);
	must(kvmas_region_set_alias_offset(alias, 0xa000));
	assert_view(f, space, "1000-1fff mmio a+0x0\n");
	must(kvmas_region_set_alias_offset(alias, 0));
	must(kvmas_region_set_offset(alias, 0x2000));
	assert_view(f, space, "1000-1fff mmio a+0x0\n3000-3fff mmio a+0x0\n");
	must(kvmas_region_del(alias));
}

static void disabled_loop_is_refused_all_the_same(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", 0x1000);
	struct kvmas_region *alias = make_alias(f, "alias", box, 0, 0x1000);

	must(kvmas_region_set_enabled(alias, false));
	assert_int_equal(kvmas_region_add(box, alias, 0, 0), -ELOOP);
}

/* ---- what is done ---- */

static void del_shows_what_lies_below(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_del(s.a));
	assert_view(f, s.space, "0800-17ff mmio b+0x0\n20000-20fff ram t+0x0\n");
}

static void del_and_add_elsewhere_moves(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.a));
	add(s.root, s.a, 0x30000, 0);
	must(kvmas_commit(f->kvmas));
	assert_view(f, s.space,
		    "0800-17ff mmio b+0x0\n20000-20fff ram t+0x0\n30000-30fff ram a+0x0\n");
}

static void set_enabled_hides_and_shows(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_enabled(s.box, false));
	assert_view(f, s.space, "20000-20fff ram t+0x0\n");
	must(kvmas_region_set_enabled(s.box, true));
	assert_view(f, s.space, SCENE_LINES);
}

static void set_readonly_flows_down(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_readonly(s.box, true));
	assert_view(f, s.space,
		    "0000-0fff rom a+0x0\n1000-17ff rom b+0x800\n20000-20fff ram t+0x0\n");
	must(kvmas_region_set_readonly(s.box, false));
	assert_view(f, s.space, SCENE_LINES);
}

static void rom_stays_readonly(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_rom(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", a);

	must(kvmas_region_set_readonly(a, true));
	must(kvmas_region_set_readonly(a, false));
	assert_view(f, space, "0000-0fff rom a+0x0\n");
}

static void set_offset_moves_in_the_container(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_offset(s.a, 0xf800));
	assert_view(f, s.space,
		    "0800-17ff mmio b+0x0\nf800-ffff ram a+0x0\n20000-20fff ram t+0x0\n");
}

static void set_size_resizes(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_size(s.a, 0x400));
	must(kvmas_region_set_size(s.box, 0x1000));
	must(kvmas_region_set_size(s.alias, KVMAS_SIZE_MAX));
	assert_view(f, s.space,
		    "0000-03ff ram a+0x0\n0800-0fff mmio b+0x0\n20000-21fff ram t+0x0\n");
}

static void set_size_of_ram_reaches_to_the_end_of_its_block(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *block = make_block(f, "block", 4);
	struct kvmas_region *a =
		make_region(f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							    .name = "a",
							    .size = 1,
							    .ram = block,
							    .ram_offset = page_size()});

	kvmas_ram_unref(block);
	must(kvmas_region_set_size(a, 3 * page_size()));
	assert_int_equal(kvmas_region_set_size(a, 3 * page_size() + 1), -EINVAL);
}

static void set_priority_reorders(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_priority(s.b, INT_MAX));
	assert_view(f, s.space,
		    "0000-07ff ram a+0x0\n0800-17ff mmio b+0x0\n20000-20fff ram t+0x0\n");
	must(kvmas_region_set_priority(s.b, INT_MIN));
	assert_view(f, s.space, SCENE_LINES);
}

static void set_alias_changes_target_and_offset_together(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_alias(s.alias, s.b, 0x800));
	assert_view(f, s.space,
		    "0000-0fff ram a+0x0\n1000-17ff mmio b+0x800\n20000-207ff mmio b+0x800\n");
	must(kvmas_region_set_alias(s.alias, s.target, 0x1000));
	assert_view(f, s.space,
		    "0000-0fff ram a+0x0\n1000-17ff mmio b+0x800\n20000-20fff ram t+0x1000\n");
}

static void loop_through_an_alias_set_later_returns_eloop(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_alias(s.alias, s.a, 0));
	add(s.target, make_alias(f, "back", s.box, 0, 0x1000), 0, 0);
	assert_int_equal(kvmas_region_add(s.box, s.target, 0, 0), -ELOOP);
}

/* ---- order among equals ---- */

static void equals(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", 0x10000);
	s->a = make_ram(f, "a", 0x1000);
	s->b = make_ram(f, "b", 0x1000);
	s->box = make_ram(f, "c", 0x1000);
	add(s->root, s->a, 0, 0);
	add(s->root, s->b, 0, 0);
	add(s->root, s->box, 0, 0);
	s->space = make_space(f, "s", s->root);
	assert_view(f, s->space, "0000-0fff ram c+0x0\n");
}

static void set_offset_ends_on_top_of_equals(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	equals(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_offset(s.a, 0x1000));
	must(kvmas_region_set_offset(s.a, 0));
	must(kvmas_commit(f->kvmas));
	assert_view(f, s.space, "0000-0fff ram a+0x0\n");
}

static void set_priority_ends_on_top_of_equals(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	equals(f, &s);
	must(kvmas_region_set_priority(s.b, 1));
	must(kvmas_region_set_priority(s.b, 0));
	assert_view(f, s.space, "0000-0fff ram b+0x0\n");
}

static void setting_what_is_set_keeps_the_order(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	equals(f, &s);
	must(kvmas_region_set_offset(s.a, 0));
	must(kvmas_region_set_priority(s.a, 0));
	must(kvmas_region_set_enabled(s.a, true));
	must(kvmas_region_set_size(s.a, 0x1000));
	assert_view(f, s.space, "0000-0fff ram c+0x0\n");
}

static void other_setters_keep_the_order(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	equals(f, &s);
	must(kvmas_region_set_enabled(s.a, false));
	must(kvmas_region_set_enabled(s.a, true));
	must(kvmas_region_set_size(s.a, 0x800));
	must(kvmas_region_set_readonly(s.a, true));
	assert_view(f, s.space, "0000-0fff ram c+0x0\n");
}

static void del_and_add_ends_on_top_of_equals(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	equals(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.a));
	add(s.root, s.a, 0, 0);
	must(kvmas_commit(f->kvmas));
	assert_view(f, s.space, "0000-0fff ram a+0x0\n");
}

/* ---- nothing changed ---- */

static void setting_what_is_set_needs_no_memory_and_tells_nobody(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	unsigned long calls;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	calls = f->heap.calls;
	must(kvmas_region_set_enabled(s.a, true));
	must(kvmas_region_set_readonly(s.a, false));
	must(kvmas_region_set_offset(s.a, 0));
	must(kvmas_region_set_size(s.a, 0x1000));
	must(kvmas_region_set_priority(s.a, 0));
	must(kvmas_region_set_alias(s.alias, s.target, 0));
	assert_int_equal(f->heap.calls, calls);
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "");
}

/* ---- every allocation ---- */

static int fail_add(struct fixture *f)
{
	struct scene *s = f->with;

	return kvmas_region_add(s->root, s->target, 0x40000, 0);
}

static int fail_del(struct fixture *f)
{
	return kvmas_region_del(((struct scene *)f->with)->a);
}

static int fail_set_enabled(struct fixture *f)
{
	return kvmas_region_set_enabled(((struct scene *)f->with)->a, false);
}

static int fail_set_readonly(struct fixture *f)
{
	return kvmas_region_set_readonly(((struct scene *)f->with)->a, true);
}

static int fail_set_offset(struct fixture *f)
{
	return kvmas_region_set_offset(((struct scene *)f->with)->a, 0x4000);
}

static int fail_set_size(struct fixture *f)
{
	return kvmas_region_set_size(((struct scene *)f->with)->a, 0x800);
}

static int fail_set_priority(struct fixture *f)
{
	return kvmas_region_set_priority(((struct scene *)f->with)->a, -5);
}

static int fail_set_alias(struct fixture *f)
{
	struct scene *s = f->with;

	return kvmas_region_set_alias(s->alias, s->b, 0);
}

static void every_allocation_of_every_edit_fails_cleanly(void **state)
{
	static int (*const edits[])(struct fixture * f) = {
		fail_add,        fail_del,      fail_set_enabled,  fail_set_readonly,
		fail_set_offset, fail_set_size, fail_set_priority, fail_set_alias,
	};

	for (size_t i = 0; i < LENGTH(edits); i++) {
		struct fixture *f = fixture_new((struct kvmas_config){0});
		struct scene s;

		set_scene(f, &s);
		assert_true(fail_each_allocation(f, edits[i]) >= 3);
		fixture_free(f);
	}
	(void)state;
}

static void edit_past_a_cap_changes_nothing(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){.max_ranges = 3});
	struct scene s;
	char *before;
	char *after;

	set_scene(f, &s);
	before = state_text(f);
	assert_int_equal(kvmas_region_add(s.root, s.target, 0x40000, 0), -E2BIG);
	assert_int_equal(kvmas_region_set_priority(s.b, 1), 0);
	must(kvmas_region_set_priority(s.b, -1));
	after = state_text(f);
	assert_string_equal(after, before);
	free(before);
	free(after);
	fixture_free(f);
	(void)state;
}

/* ---- a container that only waits for its end ---- */

static void child_of_a_dropped_container_is_in_none(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *dropped = make_container(f, "dropped", 0x10000);
	struct kvmas_region *other = make_container(f, "other", 0x10000);
	struct kvmas_region *child = make_mmio(f, "child", 0x1000);

	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	add(dropped, child, 0, 0);
	drop_region(f, dropped);
	assert_int_equal(kvmas_region_del(child), -ENOENT);
	add(other, child, 0, 0);
	must(kvmas_region_set_offset(child, 0x1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(scene_shows_its_lines),
		TEST(edit_that_makes_no_sense_is_refused_and_changes_nothing),
		TEST(regions_of_two_kvmas_return_exdev),
		TEST(loop_through_a_chain_of_aliases_returns_eloop),
		TEST(diamond_is_no_loop),
		TEST(alias_of_its_own_container_shows_another_part_of_it),
		TEST(disabled_loop_is_refused_all_the_same),
		TEST(del_shows_what_lies_below),
		TEST(del_and_add_elsewhere_moves),
		TEST(set_enabled_hides_and_shows),
		TEST(set_readonly_flows_down),
		TEST(rom_stays_readonly),
		TEST(set_offset_moves_in_the_container),
		TEST(set_size_resizes),
		TEST(set_size_of_ram_reaches_to_the_end_of_its_block),
		TEST(set_priority_reorders),
		TEST(set_alias_changes_target_and_offset_together),
		TEST(loop_through_an_alias_set_later_returns_eloop),
		TEST(set_offset_ends_on_top_of_equals),
		TEST(set_priority_ends_on_top_of_equals),
		TEST(setting_what_is_set_keeps_the_order),
		TEST(other_setters_keep_the_order),
		TEST(del_and_add_ends_on_top_of_equals),
		TEST(setting_what_is_set_needs_no_memory_and_tells_nobody),
		TEST(every_allocation_of_every_edit_fails_cleanly),
		cmocka_unit_test(edit_past_a_cap_changes_nothing),
		TEST(child_of_a_dropped_container_is_in_none),
	};

	return cmocka_run_group_tests_name("edit", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The planner, which is pure: slots and mappings are given as text (planner.h) and plans compared
 * as text, all in pages.
 *
 *     plan    "delete 0:0 8-9 b+4 ro\n"         operations; flags as they are afterwards
 *
 * Whether plans are the cheapest is shown in test-plan-tour.c, large ones in test-plan-random.c.
 */
#include "planner.h"

/* ---- what is done ---- */

static void equal_gives_no_operation(void **state)
{
	have_in(*state, 0, "5 0-7 a+0, 1 8-15 b+0 ro, 2 20-29 b+8 log");
	want_in(*state, 0, "0-7 a+0, 8-15 b+0 ro, 20-29 b+8 log");
	assert_plan(*state, 1, "");
}

static void empty_spaces_give_no_operation(void **state)
{
	assert_plan(*state, 3, "");
}

static void first_mappings_are_created_with_ids_from_zero(void **state)
{
	want_in(*state, 0, "0-7 a+0, 8-15 b+0 ro log");
	assert_plan(*state, 1,
		    "create 0:0 0-7 a+0\n"
		    "create 0:1 8-15 b+0 ro log\n");
}

static void nothing_wanted_deletes_all(void **state)
{
	have_in(*state, 0, "5 0-7 a+0, 1 8-15 b+0 ro");
	assert_plan(*state, 1,
		    "delete 0:1 8-15 b+0 ro\n"
		    "delete 0:5 0-7 a+0\n");
}

static void log_alone_is_a_change_of_flags(void **state)
{
	have_in(*state, 0, "5 0-7 a+0, 1 8-15 b+0 log, 2 16-17 a+8 log");
	want_in(*state, 0, "0-7 a+0 log, 8-15 b+0, 16-17 a+8 log");
	assert_plan(*state, 1,
		    "flags 0:5 0-7 a+0 log\n"
		    "flags 0:1 8-15 b+0\n");
}

/* Each must be deleted and made anew: KVM changes neither. */
static void other_memory_or_readonly_is_made_anew(void **state)
{
	static const char *const wants[] = {"0-7 b+0", "0-7 a+1", "0-7 a+0 ro"};
	static const char *const plans[] = {
		"delete 0:0 0-7 a+0\ncreate 0:0 0-7 b+0\n",
		"delete 0:0 0-7 a+0\ncreate 0:0 0-7 a+1\n",
		"delete 0:0 0-7 a+0\ncreate 0:0 0-7 a+0 ro\n",
	};

	for (size_t i = 0; i < LENGTH(wants); i++) {
		planner_teardown(state);
		planner_setup(state);
		have_in(*state, 0, "0 0-7 a+0");
		want_in(*state, 0, wants[i]);
		assert_plan(*state, 1, plans[i]);
	}
}

static void deletions_then_creations_then_flags_over_all_spaces(void **state)
{
	struct planner *p = *state;

	have_in(p, 0, "0 0-7 a+0, 1 8-15 a+8");
	have_in(p, 1, "0 0-7 b+0, 1 8-15 b+8");
	have_in(p, 2, "0 0-7 a+0");
	want_in(p, 0, "8-15 a+8 log, 20-21 a+20");
	want_in(p, 1, "8-15 b+8 log, 20-21 b+20");
	assert_plan(p, 3,
		    "delete 0:0 0-7 a+0\n"
		    "delete 1:0 0-7 b+0\n"
		    "delete 2:0 0-7 a+0\n"
		    "create 0:0 20-21 a+20\n"
		    "create 1:0 20-21 b+20\n"
		    "flags 0:1 8-15 a+8 log\n"
		    "flags 1:1 8-15 b+8 log\n");
}

/* ---- ids ---- */

static void lowest_free_ids_are_given_by_gpa(void **state)
{
	have_in(*state, 0, "1 8-15 a+0, 3 20-21 a+20");
	want_in(*state, 0, "0-1 b+0, 8-15 a+0, 20-21 a+20, 24-25 b+2, 28-29 b+8");
	assert_plan(*state, 1,
		    "create 0:0 0-1 b+0\n"
		    "create 0:2 24-25 b+2\n"
		    "create 0:4 28-29 b+8\n");
}

static void ids_that_the_plan_frees_are_given_again(void **state)
{
	have_in(*state, 0, "0 0-1 a+0, 1 2-3 a+8, 2 4-5 a+16");
	want_in(*state, 0, "2-3 a+8, 8-9 b+0, 10-11 b+8, 12-13 b+16");
	assert_plan(*state, 1,
		    "delete 0:2 4-5 a+16\n"
		    "delete 0:0 0-1 a+0\n"
		    "create 0:0 8-9 b+0\n"
		    "create 0:2 10-11 b+8\n"
		    "create 0:3 12-13 b+16\n");
}

static void reserved_ids_are_never_given(void **state)
{
	struct planner *p = *state;

	kas_slots_reserve_id(&p->have[0], 0);
	kas_slots_reserve_id(&p->have[0], 2);
	want_in(p, 0, "0-1 a+0, 2-3 b+0");
	want_in(p, 1, "0-1 a+0");
	assert_plan(p, 2,
		    "create 0:1 0-1 a+0\n"
		    "create 0:3 2-3 b+0\n"
		    "create 1:0 0-1 a+0\n");
}

/* All but *left* ids of space 0 are reserved. */
static void leave_ids(struct planner *p, unsigned left)
{
	for (unsigned id = left; id < p->limit; id++)
		kas_slots_reserve_id(&p->have[0], id);
}

static void too_few_ids_give_enospc(void **state)
{
	leave_ids(*state, 2);
	want_in(*state, 0, "0-1 a+0, 2-3 b+0, 4-5 a+8");
	assert_int_equal(make_plan(*state, 1), -ENOSPC);
}

static void ids_that_just_suffice_are_enough(void **state)
{
	leave_ids(*state, 3);
	have_in(*state, 0, "0 40-41 a+40, 2 50-51 a+50");
	want_in(*state, 0, "0-1 a+0, 2-3 b+0, 4-5 a+8");
	assert_plan(*state, 1,
		    "delete 0:2 50-51 a+50\n"
		    "delete 0:0 40-41 a+40\n"
		    "create 0:0 0-1 a+0\n"
		    "create 0:1 2-3 b+0\n"
		    "create 0:2 4-5 a+8\n");
}

static void pieces_that_do_not_fit_are_merged(void **state)
{
	leave_ids(*state, 2);
	have_in(*state, 0, "0 0-3 a+0, 1 8-11 a+8");
	want_in(*state, 0, "0-11 a+0");
	assert_plan(*state, 1,
		    "delete 0:1 8-11 a+8\n"
		    "delete 0:0 0-3 a+0\n"
		    "create 0:0 0-11 a+0\n");
}

static void spaces_have_ids_of_their_own(void **state)
{
	leave_ids(*state, 1);
	want_in(*state, 0, "0-1 a+0");
	want_in(*state, 1, "0-1 a+0, 2-3 b+0");
	assert_plan(*state, 2,
		    "create 0:0 0-1 a+0\n"
		    "create 1:0 0-1 a+0\n"
		    "create 1:1 2-3 b+0\n");
}

/* ---- slots are sticky ---- */

static void slot_inside_what_is_wanted_stays(void **state)
{
	have_in(*state, 0, "0 0-3 a+0, 1 8-11 a+8");
	want_in(*state, 0, "0-15 a+0");
	assert_plan(*state, 1,
		    "create 0:2 4-7 a+4\n"
		    "create 0:3 12-15 a+12\n");
}

static void slot_that_stays_takes_the_flags_wanted(void **state)
{
	have_in(*state, 0, "0 0-3 a+0, 1 8-11 a+8 log");
	want_in(*state, 0, "0-11 a+0 log");
	assert_plan(*state, 1,
		    "create 0:2 4-7 a+4 log\n"
		    "flags 0:0 0-3 a+0 log\n");
}

static void slot_inside_that_shows_something_else_goes(void **state)
{
	have_in(*state, 0, "0 0-3 a+0, 1 4-7 b+4, 2 8-11 a+0, 3 12-15 a+12 ro");
	want_in(*state, 0, "0-15 a+0");
	assert_plan(*state, 1,
		    "delete 0:3 12-15 a+12 ro\n"
		    "delete 0:2 8-11 a+0\n"
		    "delete 0:1 4-7 b+4\n"
		    "create 0:1 4-15 a+4\n");
}

static void slot_that_straddles_a_change_is_made_anew_at_its_sides(void **state)
{
	struct planner *p = *state;

	have_in(p, 0, "0 0-63 a+0");
	want_in(p, 0, "0-9 a+0, 16-63 a+16");
	assert_plan(p, 1,
		    "delete 0:0 0-63 a+0\n"
		    "create 0:0 0-9 a+0\n"
		    "create 0:1 16-63 a+16\n");
	assert_int_equal(p->plan.bytes_torn, pages(58));
}

/* A slot that begins before the mapping it reaches into cannot stay, nor one that ends after. */
static void slot_that_reaches_out_of_what_is_wanted_goes(void **state)
{
	have_in(*state, 0, "0 0-7 a+0, 1 12-20 a+12");
	want_in(*state, 0, "4-15 a+4");
	assert_plan(*state, 1,
		    "delete 0:1 12-20 a+12\n"
		    "delete 0:0 0-7 a+0\n"
		    "create 0:0 4-15 a+4\n");
}

static void second_flip_touches_only_the_window(void **state)
{
	struct planner *p = *state;
	static const char *const flips[] = {"0-63 a+0", "0-9 a+0, 16-63 a+16"};
	static const unsigned ops[] = {1, 3, 1, 1, 1, 1};
	static const unsigned torn[] = {0, 58, 0, 0, 0, 0};

	for (unsigned i = 0; i < LENGTH(ops); i++) {
		want_in(p, 0, flips[i % 2]);
		check_plan(p, 1);
		assert_int_equal(p->plan.count, ops[i]);
		assert_int_equal(p->plan.bytes_torn, pages(torn[i]));
		planner_reset(p);
	}
}

static void what_merges_in_one_space_need_not_in_another(void **state)
{
	struct planner *p = *state;

	have_in(p, 0, "0 0-3 a+0, 1 8-15 a+8");
	want_in(p, 0, "0-15 a+0");
	want_in(p, 1, "0-15 a+0");
	assert_plan(p, 2,
		    "create 0:2 4-7 a+4\n"
		    "create 1:0 0-15 a+0\n");
}

static void mappings_that_may_not_be_cut_are_merged(void **state)
{
	struct planner *p = *state;

	p->spaces[0].cut = false;
	have_in(p, 0, "0 0-3 a+0, 1 8-11 a+8, 2 16-19 b+0");
	want_in(p, 0, "0-11 a+0, 16-19 b+0 log");
	assert_plan(p, 1,
		    "delete 0:1 8-11 a+8\n"
		    "delete 0:0 0-3 a+0\n"
		    "create 0:0 0-11 a+0\n"
		    "flags 0:2 16-19 b+0 log\n");
}

/* ---- the whole ---- */

static void all_kinds_are_in_order_over_all_spaces(void **state)
{
	struct planner *p = *state;

	for (unsigned i = 0; i < 2; i++) {
		have_in(p, i, "0 0-3 a+0, 1 4-7 b+0, 2 8-11 a+8");
		want_in(p, i, "8-11 a+8 log, 12-15 b+0, 16-19 b+8");
	}
	assert_plan(p, 2,
		    "delete 0:0 0-3 a+0\n"
		    "delete 1:0 0-3 a+0\n"
		    "move 0:1 12-15 b+0\n"
		    "move 1:1 12-15 b+0\n"
		    "create 0:0 16-19 b+8\n"
		    "create 1:0 16-19 b+8\n"
		    "flags 0:2 8-11 a+8 log\n"
		    "flags 1:2 8-11 a+8 log\n");
}

/* What is made or moved is born now; what changes its flags is as old as it was. */
static void slots_are_born_when_they_are_made_or_moved(void **state)
{
	static const uint64_t born[] = {42, 42, 7};
	struct planner *p = *state;

	p->now = 7;
	have_in(p, 0, "0 0-3 a+0, 1 4-7 b+0");
	p->now = 42;
	want_in(p, 0, "4-7 b+0 log, 8-11 a+0, 12-15 b+8");
	must(make_plan(p, 1));
	assert_int_equal(p->plan.count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(p->plan.ops[i].after.born, born[i]);
}

/* ---- windows ---- */

static void only_slots_in_windows_are_looked_at(void **state)
{
	struct range windows[] = {{pages(4), pages(8) - 1}, {pages(16), pages(24) - 1}};
	struct planner *p = *state;

	have_in(p, 0, "0 0-3 a+0, 1 4-7 a+4, 2 8-11 b+0, 3 20-21 b+8");
	want_in(p, 0, "4-5 a+4, 16-17 b+8, 22-23 a+4");
	p->spaces[0].windows = windows;
	p->spaces[0].nwindows = LENGTH(windows);
	assert_plan(p, 1,
		    "delete 0:1 4-7 a+4\n"
		    "move 0:3 16-17 b+8\n"
		    "create 0:1 4-5 a+4\n"
		    "create 0:4 22-23 a+4\n");
	assert_int_equal(p->spaces[0].count, 5);
	assert_int_equal(p->spaces[0].made, 3);
}

static void space_without_a_window_stays_as_it_is(void **state)
{
	static const struct range nowhere;
	struct planner *p = *state;

	have_in(p, 0, "0 0-3 a+0");
	p->spaces[0].windows = &nowhere;
	assert_plan(p, 1, "");
	assert_int_equal(p->spaces[0].count, 1);
}

/* ---- when vCPUs must be held out ---- */

static void stop_is_asked_for_where_memory_goes_for_a_moment_or_a_log_is_lost(void **state)
{
	static const struct {
		const char *have;
		const char *want;
		bool stop;
	} table[] = {
		{"", "0-7 a+0 log", false},
		{"0 0-7 a+0", "", false},
		{"0 0-7 a+0 log", "", true},
		{"0 0-7 a+0", "0-7 a+0 log", false},
		{"0 0-7 a+0 log", "0-7 a+0", true},
		{"0 0-7 a+0 log", "0-7 a+0 log, 8-9 b+0", false},
		{"0 0-7 a+0", "0-7 b+0", true},
		{"0 0-7 a+0", "0-7 a+0 ro", true},
		{"0 0-7 a+0", "0-3 a+0", true},
		{"0 0-7 a+0", "7-7 b+0", true},
		{"0 0-7 a+0", "8-15 b+0", false},
		{"0 0-7 a+0", "8-15 a+0", false},
		{"0 0-7 a+0 log", "8-15 a+0 log", true},
		{"0 0-7 a+0", "1-8 a+0", true},
		{"0 0-7 a+0, 1 8-15 b+0", "8-15 a+0", true},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct planner *p = *state;

		planner_clear(p);
		have_in(p, 0, table[i].have);
		want_in(p, 0, table[i].want);
		must(make_plan(p, 1));
		assert_null(plan_wrong(p, 1));
		if (p->plan.stop != table[i].stop)
			fail_msg("%s, then %s", table[i].have, table[i].want);
	}
}

/* ---- bytes torn ---- */

static void bytes_torn_are_those_mapped_alike_before_and_after(void **state)
{
	static const struct {
		const char *have;
		const char *want;
		unsigned torn;
	} table[] = {
		{"0 0-7 a+0", "0-7 a+0", 0},
		{"0 0-7 a+0", "0-7 a+0 log", 0},
		{"0 0-7 a+0", "", 0},
		{"0 0-7 a+0", "0-7 b+0", 0},
		{"0 0-7 a+0", "0-7 a+0 ro", 0},
		{"0 0-7 a+0", "8-15 a+0", 0},
		{"0 0-7 a+0", "0-7 a+1", 0},
		{"0 0-7 a+0", "0-3 a+0", 4},
		{"0 0-7 a+0", "2-3 a+2 log", 2},
		{"0 0-7 a+0", "0-1 a+0, 2-3 b+0, 4-5 a+4, 6-7 a+6 ro", 4},
		{"0 4-11 a+4", "0-5 a+0", 2},
		{"0 4-11 a+4", "0-15 a+0", 0},
		{"0 4-11 a+4, 1 12-19 a+12", "0-5 a+0, 16-19 a+16", 6},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct planner *p;

		planner_teardown(state);
		planner_setup(state);
		p = *state;
		have_in(p, 0, table[i].have);
		want_in(p, 0, table[i].want);
		check_plan(p, 1);
		assert_int_equal(p->plan.bytes_torn, pages(table[i].torn));
	}
}

/* ---- memory ---- */

static void every_allocation_that_fails_gives_enomem(void **state)
{
	struct planner *p = *state;
	unsigned failed = 0;
	int err;

	have_in(p, 0, "0 0-3 a+0, 1 8-11 a+8");
	have_in(p, 1, "0 0-3 b+0");
	do {
		planner_reset(p);
		want_in(p, 0, "0-11 a+0");
		want_in(p, 1, "0-3 a+0");
		p->f->heap.fail_in = failed + 1;
		err = make_plan(p, 2);
		p->f->heap.fail_in = 0;
		assert_true(err == 0 || err == -ENOMEM);
	} while (err && ++failed);
	assert_true(failed >= 6); /* slots, gaps and movers of each space; operations; ids */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAN_TEST(equal_gives_no_operation),
		PLAN_TEST(empty_spaces_give_no_operation),
		PLAN_TEST(first_mappings_are_created_with_ids_from_zero),
		PLAN_TEST(nothing_wanted_deletes_all),
		PLAN_TEST(log_alone_is_a_change_of_flags),
		PLAN_TEST(other_memory_or_readonly_is_made_anew),
		PLAN_TEST(deletions_then_creations_then_flags_over_all_spaces),
		PLAN_TEST(lowest_free_ids_are_given_by_gpa),
		PLAN_TEST(ids_that_the_plan_frees_are_given_again),
		PLAN_TEST(reserved_ids_are_never_given),
		PLAN_TEST(too_few_ids_give_enospc),
		PLAN_TEST(ids_that_just_suffice_are_enough),
		PLAN_TEST(pieces_that_do_not_fit_are_merged),
		PLAN_TEST(spaces_have_ids_of_their_own),
		PLAN_TEST(slot_inside_what_is_wanted_stays),
		PLAN_TEST(slot_that_stays_takes_the_flags_wanted),
		PLAN_TEST(slot_inside_that_shows_something_else_goes),
		PLAN_TEST(slot_that_straddles_a_change_is_made_anew_at_its_sides),
		PLAN_TEST(slot_that_reaches_out_of_what_is_wanted_goes),
		PLAN_TEST(second_flip_touches_only_the_window),
		PLAN_TEST(what_merges_in_one_space_need_not_in_another),
		PLAN_TEST(mappings_that_may_not_be_cut_are_merged),
		PLAN_TEST(all_kinds_are_in_order_over_all_spaces),
		PLAN_TEST(slots_are_born_when_they_are_made_or_moved),
		PLAN_TEST(only_slots_in_windows_are_looked_at),
		PLAN_TEST(space_without_a_window_stays_as_it_is),
		PLAN_TEST(stop_is_asked_for_where_memory_goes_for_a_moment_or_a_log_is_lost),
		PLAN_TEST(bytes_torn_are_those_mapped_alike_before_and_after),
		PLAN_TEST(every_allocation_that_fails_gives_enomem),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}

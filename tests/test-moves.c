/* SPDX-License-Identifier: MIT */
/*
 * Slots that move: which do, in which order, and what is done about those in each other's way.
 * Slots and mappings are given as text (planner.h).
 */
#include "planner.h"

#include <stdio.h>

static void slot_wanted_elsewhere_moves(void **state)
{
	have_in(*state, 0, "3 0-7 a+0");
	want_in(*state, 0, "16-23 a+0");
	assert_plan(*state, 1, "move 0:3 16-23 a+0\n");
}

static void log_changes_with_the_move(void **state)
{
	have_in(*state, 0, "3 0-7 a+0, 1 8-9 b+0 log");
	want_in(*state, 0, "16-23 a+0 log, 32-33 b+0");
	assert_plan(*state, 1,
		    "move 0:3 16-23 a+0 log\n"
		    "move 0:1 32-33 b+0\n");
}

static void slot_moves_over_its_own_old_place(void **state)
{
	have_in(*state, 0, "3 0-7 a+0");
	want_in(*state, 0, "1-8 a+0");
	assert_plan(*state, 1, "move 0:3 1-8 a+0\n");
}

static void chain_moves_from_its_free_end(void **state)
{
	have_in(*state, 0, "0 0-3 a+0, 1 4-7 b+0, 2 8-11 a+8");
	want_in(*state, 0, "4-7 a+0, 8-11 b+0, 12-15 a+8");
	assert_plan(*state, 1,
		    "move 0:2 12-15 a+8\n"
		    "move 0:1 8-11 b+0\n"
		    "move 0:0 4-7 a+0\n");
}

static void move_waits_for_a_deletion(void **state)
{
	have_in(*state, 0, "0 0-3 a+0, 1 4-7 b+0");
	want_in(*state, 0, "4-7 a+0");
	assert_plan(*state, 1,
		    "delete 0:1 4-7 b+0\n"
		    "move 0:0 4-7 a+0\n");
}

/* One of them, whichever, is deleted and made anew. */
static void cycle_costs_one_call_more(void **state)
{
	struct planner *p = *state;

	have_in(p, 0, "0 0-3 a+0, 1 4-7 b+0, 2 8-11 a+8");
	want_in(p, 0, "0-3 b+0, 4-7 a+8, 8-11 a+0");
	check_plan(p, 1);
	assert_int_equal(p->plan.count, 4);
	assert_int_equal(p->plan.ops[0].kind, KVMAS_SLOT_DELETE);
	assert_int_equal(p->plan.ops[1].kind, KVMAS_SLOT_MOVE);
	assert_int_equal(p->plan.ops[2].kind, KVMAS_SLOT_MOVE);
	assert_int_equal(p->plan.ops[3].kind, KVMAS_SLOT_CREATE);
}

/* Slots of a page that move to free places: with twelve, ways are too many to be tried all. */
static void move_twelve_others(struct planner *p)
{
	char text[32];

	for (unsigned i = 0; i < 12; i++) {
		snprintf(text, sizeof(text), "%u %u-%u a+%u", i, 40 + i, 40 + i, 40 + 2 * i);
		have_in(p, 0, text);
		snprintf(text, sizeof(text), "%u-%u a+%u", 60 + i, 60 + i, 40 + 2 * i);
		want_in(p, 0, text);
	}
}

/* A slot's memory is wanted at two places. At the first, a slot waits for it; at the second, none
 * does. Others move as well, more than are tried in all ways. */
static void slot_moves_to_the_one_of_two_places_that_closes_no_cycle(void **state)
{
	struct planner *p = *state;

	have_in(p, 0, "20 0-0 b+0, 21 4-4 a+0");
	want_in(p, 0, "0-0 a+0, 4-4 b+0, 8-8 a+0");
	move_twelve_others(p);
	check_plan(p, 1);
	assert_int_equal(p->plan.count, 12 + 3); /* two moves and a creation */
}

/* Two slots are to fill 0-7, and the second is in a cycle with the one in its way: both are deleted
 * and made anew as one. The first has made way for another when that turns out, or waits as well.
 */
static void mapping_that_slots_of_a_cycle_would_fill_is_made_anew(void **state)
{
	static const char *const haves[] = {
		"20 4-7 b+0, 21 8-11 a+0, 22 20-23 a+4, 23 30-33 b+8",
		"20 0-3 b+8, 21 4-7 b+0, 22 8-11 a+0, 23 20-23 a+4",
	};

	for (size_t i = 0; i < LENGTH(haves); i++) {
		struct planner *p = *state;

		planner_clear(p);
		have_in(p, 0, haves[i]);
		want_in(p, 0, "0-7 a+0, 8-11 b+8, 20-23 b+0");
		move_twelve_others(p);
		check_plan(p, 1);
		assert_int_equal(p->plan.count, 12 + 5); /* two deletions, two moves, a creation */
		assert_int_equal(p->plan.ops[0].kind, KVMAS_SLOT_DELETE);
		assert_int_equal(p->plan.ops[1].kind, KVMAS_SLOT_DELETE);
		assert_int_equal(p->plan.ops[2].kind, KVMAS_SLOT_MOVE);
	}
}

/* Neither size nor host memory nor READONLY may change. */
static void what_kvm_cannot_move_is_made_anew(void **state)
{
	static const char *const wants[] = {"16-22 a+0", "16-23 a+1", "16-23 a+0 ro", "16-23 b+0"};

	for (size_t i = 0; i < LENGTH(wants); i++) {
		struct planner *p = *state;

		planner_clear(p);
		have_in(p, 0, "0 0-7 a+0");
		want_in(p, 0, wants[i]);
		check_plan(p, 1);
		assert_int_equal(p->plan.count, 2);
		assert_int_equal(p->plan.ops[0].kind, KVMAS_SLOT_DELETE);
		assert_int_equal(p->plan.ops[1].kind, KVMAS_SLOT_CREATE);
	}
}

static void slots_never_move_to_another_space(void **state)
{
	have_in(*state, 0, "0 0-3 a+0");
	want_in(*state, 1, "4-7 a+0");
	assert_plan(*state, 2,
		    "delete 0:0 0-3 a+0\n"
		    "create 1:0 4-7 a+0\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAN_TEST(slot_wanted_elsewhere_moves),
		PLAN_TEST(log_changes_with_the_move),
		PLAN_TEST(slot_moves_over_its_own_old_place),
		PLAN_TEST(chain_moves_from_its_free_end),
		PLAN_TEST(move_waits_for_a_deletion),
		PLAN_TEST(cycle_costs_one_call_more),
		PLAN_TEST(slot_moves_to_the_one_of_two_places_that_closes_no_cycle),
		PLAN_TEST(mapping_that_slots_of_a_cycle_would_fill_is_made_anew),
		PLAN_TEST(what_kvm_cannot_move_is_made_anew),
		PLAN_TEST(slots_never_move_to_another_space),
	};

	return cmocka_run_group_tests_name("moves", tests, NULL, NULL);
}

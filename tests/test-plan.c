/* SPDX-License-Identifier: MIT */
/*
 * The planner, which is pure: slots and mappings are given as text and plans compared as text, all
 * in pages.
 *
 *     have    "3 0-7 a+0 log, 0 8-9 b+4 ro"     id, first-last, block+page, flags
 *     want    "0-7 a+0, 12-15 b+4"              the same without ids
 *     plan    "delete 0:0 8-9 b+4 ro\n"         operations; flags as they are afterwards
 *
 * Random plans are in test-plan-random.c.
 */
#include "planner.h"

#include <inttypes.h>
#include <stdio.h>

enum { BUDGET = 256 }; /* plan.c, STICKY_BUDGET */

/* The next slot of a text; false at its end. */
static bool parse(const struct planner *p, const char **text, bool with_id, struct kvmas_slot *slot)
{
	uint64_t first, last, offset;
	char block;
	int used = 0;

	*text += strspn(*text, ", ");
	if (**text == 0)
		return false;
	*slot = (struct kvmas_slot){0};
	if (with_id)
		slot->id = (unsigned)strtoul(*text, (char **)(uintptr_t)text, 10);
	assert_int_equal(sscanf(*text, "%" SCNu64 "-%" SCNu64 " %c+%" SCNu64 "%n", &first, &last,
				&block, &offset, &used),
			 4);
	*text += used;
	slot->gpa = pages(first);
	slot->size = pages(last + 1 - first);
	slot->ram = p->blocks[block - 'a'];
	slot->ram_offset = pages(offset);
	for (; **text && **text != ','; ++*text)
		slot->flags |= **text == 'g' ? LOG : **text == 'r' ? RO : 0;
	return true;
}

static void have_in(struct planner *p, unsigned as_id, const char *text)
{
	struct kvmas_slot slot;

	while (parse(p, &text, true, &slot)) {
		slot.as_id = as_id;
		insert(p, &slot);
	}
}

static void want_in(struct planner *p, unsigned as_id, const char *text)
{
	struct kvmas_slot slot;

	while (parse(p, &text, false, &slot)) {
		slot.as_id = as_id;
		want(p, &slot);
	}
}

static void assert_plan(struct planner *p, size_t nspaces, const char *expected)
{
	char *text = NULL;

	must(make_plan(p, nspaces));
	text_add(&text, "%s", "");
	for (size_t i = 0; i < p->plan.count; i++) {
		op_text(&text, p->plan.ops[i].kind, slot_of(&p->plan.ops[i]));
		text_add(&text, "\n");
	}
	assert_string_equal(text, expected);
	free(text);
}

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
		    "delete 0:5 0-7 a+0\n"
		    "delete 0:1 8-15 b+0 ro\n");
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
		    "delete 0:0 0-1 a+0\n"
		    "delete 0:2 4-5 a+16\n"
		    "create 0:0 8-9 b+0\n"
		    "create 0:2 10-11 b+8\n"
		    "create 0:3 12-13 b+16\n");
}

static void reserved_ids_are_never_given(void **state)
{
	struct planner *p = *state;

	kas_id_set(p->have[0].reserved, 0, true);
	kas_id_set(p->have[0].reserved, 2, true);
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
		kas_id_set(p->have[0].reserved, id, true);
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
		    "delete 0:0 40-41 a+40\n"
		    "delete 0:2 50-51 a+50\n"
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
		    "delete 0:0 0-3 a+0\n"
		    "delete 0:1 8-11 a+8\n"
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
		    "delete 0:1 4-7 b+4\n"
		    "delete 0:2 8-11 a+0\n"
		    "delete 0:3 12-15 a+12 ro\n"
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
		    "delete 0:0 0-7 a+0\n"
		    "delete 0:1 12-20 a+12\n"
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

/* ---- the budget ---- */

/* Have n slots of one page that could be one. */
static void have_crumbs(struct planner *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct kvmas_slot slot = {.id = i,
					  .gpa = pages(i),
					  .size = pages(1),
					  .ram = p->blocks[0],
					  .ram_offset = pages(i)};

		insert(p, &slot);
	}
}

static void slots_within_the_budget_stay(void **state)
{
	struct planner *p = *state;

	have_crumbs(p, BUDGET);
	want_in(p, 0, "0-256 a+0"); /* 257 pieces: merging needs 1 */
	assert_plan(p, 1, "create 0:256 256-256 a+256\n");
}

static void space_past_the_budget_is_merged_whole(void **state)
{
	struct planner *p = *state;

	have_crumbs(p, BUDGET + 1);
	have_in(p, 1, "0 0-3 a+0, 1 4-7 a+4");
	want_in(p, 0, "0-257 a+0"); /* 258 pieces */
	want_in(p, 1, "0-7 a+0");
	must(make_plan(p, 2));
	assert_int_equal(p->plan.count, BUDGET + 2);
	assert_int_equal(p->plan.ops[BUDGET + 1].after.size, pages(258));
	assert_int_equal(p->plan.bytes_torn, pages(BUDGET + 1));
}

static void slots_never_exceed_the_budget(void **state)
{
	struct planner *p = *state;
	unsigned merges = 0;

	/* A hole of one page wanders through one mapping, and leaves boundaries. */
	for (unsigned i = 0; i < 800; i++) {
		uint64_t hole = 1 + (i * 37) % 798;
		char text[64];

		snprintf(text, sizeof(text), "0-%" PRIu64 " a+0, %" PRIu64 "-799 a+%" PRIu64,
			 hole - 1, hole + 1, hole + 1);
		want_in(p, 0, text);
		must(make_plan(p, 1));
		for (size_t k = 0; k < p->plan.count; k++)
			follow(p, &p->plan.ops[k]);
		planner_reset(p);
		assert_true(p->have[0].count <= 2 + BUDGET);
		merges += p->have[0].count == 2;
	}
	assert_true(merges >= 2);
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
	assert_int_equal(failed, 5); /* the cut and the ids of each space; operations */
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
		PLAN_TEST(slots_within_the_budget_stay),
		PLAN_TEST(space_past_the_budget_is_merged_whole),
		PLAN_TEST(slots_never_exceed_the_budget),
		PLAN_TEST(bytes_torn_are_those_mapped_alike_before_and_after),
		PLAN_TEST(every_allocation_that_fails_gives_enomem),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}

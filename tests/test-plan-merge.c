/* SPDX-License-Identifier: MIT */
/*
 * When slots are too many: they are merged, the oldest boundaries first. At random, plans keep to
 * the budget and the ids, and no boundary goes that is younger than one that stays.
 *
 * KVMAS_SEED and KVMAS_RUNS choose the run.
 */
#include "planner.h"

#include <inttypes.h>
#include <stdio.h>

enum { BUDGET = 256 }; /* of the fixture's spaces */

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

/* Down to half of the budget: 1 mapping and 128. */
static void space_past_the_budget_is_merged_down_to_half(void **state)
{
	struct planner *p = *state;

	p->merges = true;
	have_crumbs(p, BUDGET + 1);
	have_in(p, 1, "0 0-3 a+0, 1 4-7 a+4");
	want_in(p, 0, "0-257 a+0"); /* 258 pieces */
	want_in(p, 1, "0-7 a+0");
	check_plan(p, 2);
	assert_int_equal(p->have[0].count, 1 + BUDGET / 2);
	assert_int_equal(p->have[1].count, 2);
}

static void slots_never_exceed_the_budget(void **state)
{
	struct planner *p = *state;
	unsigned merges = 0;

	p->merges = true;
	/* A hole of one page wanders through one mapping, and leaves boundaries. */
	for (unsigned i = 0; i < 800; i++) {
		uint64_t hole = 1 + (i * 37) % 798;
		size_t before = p->have[0].count;
		char text[64];

		snprintf(text, sizeof(text), "0-%" PRIu64 " a+0, %" PRIu64 "-799 a+%" PRIu64,
			 hole - 1, hole + 1, hole + 1);
		want_in(p, 0, text);
		p->now++;
		check_plan(p, 1);
		planner_reset(p);
		assert_true(p->have[0].count <= 2 + BUDGET);
		merges += p->have[0].count < before;
	}
	assert_true(merges >= 2);
}

/* Slots born at these times, of one page each. */
static void have_born(struct planner *p, const unsigned *born, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct kvmas_slot slot = {.id = n - 1 - i,
					  .gpa = pages(i),
					  .size = pages(1),
					  .ram = p->blocks[0],
					  .ram_offset = pages(i)};

		p->now = born[i];
		insert(p, &slot);
	}
	p->now = 100;
}

/* The slots of space 0 by gpa, as "0-1 2-2 ". */
static void assert_cuts(struct planner *p, const char *expected)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (size_t i = 0; i < p->have[0].count; i++) {
		const struct kvmas_slot *slot = kas_slots_at(&p->have[0], i);

		text_add(&text, "%" PRIu64 "-%" PRIu64 " ", slot->gpa / page_size(),
			 (slot->gpa + slot->size) / page_size() - 1);
	}
	assert_string_equal(text, expected);
	free(text);
}

/* 6 slots that could be 1, and may be 5: they become 3, so 3 boundaries go. */
static void oldest_boundaries_go_first(void **state)
{
	static const struct {
		unsigned born[6];
		const char *cuts;
	} table[] = {
		{{1, 1, 2, 3, 4, 5}, "0-3 4-4 5-5 "},
		{{5, 4, 3, 2, 1, 1}, "0-0 1-1 2-5 "},
		{{1, 1, 9, 8, 1, 1}, "0-1 2-2 3-5 "},
		{{9, 1, 1, 1, 8, 1}, "0-0 1-4 5-5 "},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct planner *p = *state;

		planner_clear(p);
		p->merges = true;
		p->spaces[0].budget = 4;
		have_born(p, table[i].born, 6);
		want_in(p, 0, "0-5 a+0");
		check_plan(p, 1);
		assert_cuts(p, table[i].cuts);
	}
}

/* Slots of 1, 4, 1, 1, 2 and 2 pages: seams of 5, 5, 2, 3 and 4. */
static void smallest_slots_go_first_where_a_zap_is_for_one_slot(void **state)
{
	struct planner *p = *state;

	p->merges = true;
	p->spaces[0].budget = 4;
	p->spaces[0].smallest_first = true;
	p->now = 1;
	have_in(p, 0, "0 0-0 a+0, 1 1-4 a+1, 2 5-5 a+5, 3 6-6 a+6, 4 7-8 a+7, 5 9-10 a+9");
	want_in(p, 0, "0-10 a+0");
	check_plan(p, 1);
	assert_cuts(p, "0-0 1-4 5-10 ");
}

/* What is merged does not stay apart because another slot fills what is missing. */
static void slot_that_is_merged_never_moves_to_its_own_place(void **state)
{
	struct planner *p = *state;

	p->merges = true;
	p->spaces[0].budget = 9;
	have_in(p, 0,
		"0 0-0 a+0, 1 1-1 a+1, 2 3-3 a+3, 3 4-4 a+4, 4 6-6 a+6, 5 7-7 a+7, 6 9-9 a+9, "
		"7 10-10 a+10, 8 20-29 a+1");
	want_in(p, 0, "0-10 a+0");
	check_plan(p, 1);
}

static void budget_that_is_just_kept_merges_nothing(void **state)
{
	struct planner *p = *state;

	p->spaces[0].budget = 2;
	have_in(p, 0, "0 0-3 a+0, 1 4-7 a+4");
	want_in(p, 0, "0-11 a+0");
	assert_plan(p, 1, "create 0:2 8-11 a+8\n");
}

static void budget_of_none_is_eager(void **state)
{
	struct planner *p = *state;

	p->merges = true;
	p->spaces[0].budget = 0;
	have_in(p, 0, "0 0-3 a+0, 1 4-7 a+4, 2 12-12 b+0");
	want_in(p, 0, "0-7 a+0, 12-12 b+0");
	assert_plan(p, 1,
		    "delete 0:1 4-7 a+4\n"
		    "delete 0:0 0-3 a+0\n"
		    "create 0:0 0-7 a+0\n");
}

/* ---- at random ---- */

enum { CRUMBS = 40 };

/* Slots of a page or two that mostly go on in each other, some with a hole before them, and some
 * that show what is elsewhere. */
static void roll_crumbs(struct planner *p, struct dice *dice)
{
	unsigned gfn = 0;

	for (unsigned i = 0; i < CRUMBS; i++) {
		struct kvmas_slot slot = {.id = CRUMBS - 1 - i, .ram = p->blocks[0]};
		unsigned npages = 1 + roll(dice, 2);

		gfn += roll(dice, 5) == 0;
		slot.gpa = pages(gfn);
		slot.size = pages(npages);
		slot.ram_offset = pages(roll(dice, 8) ? gfn : roll(dice, CRUMBS));
		gfn += npages;
		p->now = 1 + roll(dice, 6);
		insert(p, &slot);
	}
	p->now = 10;
}

/* Mappings over all that, mostly few, which show what most of the slots do. */
static void want_mappings(struct planner *p, struct dice *dice)
{
	unsigned gfn = 0, largest = roll(dice, 8) ? 30 : 1;

	while (gfn < 2 * CRUMBS) {
		struct kvmas_slot slot = {.ram = p->blocks[0]};
		unsigned npages = 1 + roll(dice, largest);

		slot.gpa = pages(gfn);
		slot.size = pages(npages);
		slot.ram_offset = slot.gpa;
		gfn += npages + roll(dice, 2);
		want(p, &slot);
	}
}

/* A slot that ends where another begins; both are wanted as they are, in one mapping. */
struct seam {
	uint64_t gpa;
	uint64_t age;
};

static bool is_inside(const struct kvmas_slot *slot, const struct kvmas_slot *want)
{
	return want->gpa <= slot->gpa && slot->gpa + slot->size <= want->gpa + want->size &&
	       slot->ram_offset - slot->gpa == want->ram_offset - want->gpa;
}

static size_t list_seams(const struct planner *p, struct seam seams[CRUMBS])
{
	const struct mappings *want = &p->spaces[0].want;
	const struct slots *have = &p->have[0];
	size_t count = 0;

	for (size_t i = 0; i + 1 < have->count; i++) {
		const struct slot_entry *left = kas_slots_entry(have, i);
		const struct slot_entry *right = kas_slots_entry(have, i + 1);
		bool wanted = false;

		for (size_t k = 0; k < want->count; k++)
			wanted |= is_inside(&left->slot, &want->at[k]) &&
				  is_inside(&right->slot, &want->at[k]);
		if (wanted && left->slot.gpa + left->slot.size == right->slot.gpa)
			seams[count++] = (struct seam){
				right->slot.gpa,
				left->born > right->born ? left->born : right->born,
			};
	}
	return count;
}

/* Whether what is left of the seams is younger than what has gone, or as old. */
static bool oldest_went(const struct planner *p, const struct seam *seams, size_t count)
{
	uint64_t gone = 0, left = UINT64_MAX;

	for (size_t i = 0; i < count; i++) {
		size_t index = kas_slots_seek(&p->have[0], seams[i].gpa);

		if (kas_slots_at(&p->have[0], index)->gpa != seams[i].gpa)
			gone = gone > seams[i].age ? gone : seams[i].age;
		else
			left = left < seams[i].age ? left : seams[i].age;
	}
	return gone <= left;
}

/* How many slots there would be without limits. */
static size_t count_unlimited(struct planner *p)
{
	p->spaces[0].budget = PLAN_IDS;
	must(make_plan(p, 1));
	kas_plan_fini(p->f->kvmas, &p->plan);
	return p->spaces[0].count;
}

struct sums {
	unsigned merged, refused, kept;
};

static void check_merge(struct planner *p, struct dice *dice, struct sums *sums)
{
	struct plan_space *space = &p->spaces[0];
	struct seam seams[CRUMBS];
	size_t nseams, most, unlimited;

	roll_crumbs(p, dice);
	want_mappings(p, dice);
	nseams = list_seams(p, seams);
	unlimited = count_unlimited(p);
	planner_shrink(p, roll(dice, 3) ? p->limit : CRUMBS + roll(dice, 8), p->npages);
	space->budget = roll(dice, 2 * CRUMBS);
	most = space->want.count + space->budget;
	most = most < p->limit ? most : p->limit;
	if (space->want.count > p->limit) {
		assert_int_equal(make_plan(p, 1), -ENOSPC);
		sums->refused++;
		return;
	}
	check_plan(p, 1);
	/* Fewer than without limits: no gap is filled by several slots where that is too many. */
	assert_true(p->have[0].count <= (unlimited < most ? unlimited : most));
	assert_true(oldest_went(p, seams, nseams));
	sums->merged += unlimited > most;
	sums->kept += unlimited <= most;
}

static void random_merges_keep_to_the_limits_and_take_the_oldest_first(void **state)
{
	uint64_t seed = number_from("KVMAS_SEED", 1), runs = number_from("KVMAS_RUNS", 5000);
	struct planner *p = *state;
	unsigned limit = p->limit;
	struct sums sums = {0};

	p->merges = true;
	for (uint64_t i = 0; i < runs; i++) {
		struct dice dice = {seed + i};

		p->seed = seed + i;
		planner_clear(p);
		planner_shrink(p, limit, p->npages);
		check_merge(p, &dice, &sums);
	}
	p->seed = 0;
	print_message("%" PRIu64 " plans: %u merged, %u did not need to, %u had too few ids\n",
		      runs, sums.merged, sums.kept, sums.refused);
	assert_true(sums.merged > runs / 8 && sums.kept > runs / 8 && sums.refused > runs / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAN_TEST(slots_within_the_budget_stay),
		PLAN_TEST(space_past_the_budget_is_merged_down_to_half),
		PLAN_TEST(slots_never_exceed_the_budget),
		PLAN_TEST(oldest_boundaries_go_first),
		PLAN_TEST(smallest_slots_go_first_where_a_zap_is_for_one_slot),
		PLAN_TEST(slot_that_is_merged_never_moves_to_its_own_place),
		PLAN_TEST(budget_that_is_just_kept_merges_nothing),
		PLAN_TEST(budget_of_none_is_eager),
		PLAN_TEST(random_merges_keep_to_the_limits_and_take_the_oldest_first),
	};

	return cmocka_run_group_tests_name("plan-merge", tests, NULL, NULL);
}

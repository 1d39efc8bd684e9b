/* SPDX-License-Identifier: MIT */
/*
 * The search itself (plan-search.c), and the checkers of plans: on examples that are known, against
 * each other, and on planted faults. What they say of the planner is in test-plan-tour.c.
 *
 * KVMAS_SEED and KVMAS_RUNS choose the random puzzles.
 */
#include "plan-puzzle.h"

/* ---- the search ---- */

static const struct example {
	const char *name;
	const char *have;
	const char *want;
	struct cost whole; /* mappings may not be cut */
	struct cost cut;
} examples[] = {
	{"nothing", "", "", {0, 0}, {0, 0}},
	{"equal", "0 0-1 a+0", "0-1 a+0", {0, 0}, {0, 0}},
	{"created", "", "0-1 a+0, 4-5 b+0", {0, 2}, {0, 2}},
	{"deleted", "0 0-1 a+0", "", {1, 1}, {1, 1}},
	{"log", "0 0-1 a+0", "0-1 a+0 log", {0, 1}, {0, 1}},
	{"readonly", "0 0-1 a+0", "0-1 a+0 ro", {1, 2}, {1, 2}},
	{"other memory", "0 0-1 a+0", "0-1 a+1", {1, 2}, {1, 2}},
	{"moved", "0 0-1 a+0", "4-5 a+0", {1, 1}, {1, 1}},
	{"moved over itself", "0 0-2 a+0", "1-3 a+0", {1, 1}, {1, 1}},
	{"moved, and logged", "0 0-1 a+0", "4-5 a+0 log", {1, 1}, {1, 1}},
	{"moved, but readonly", "0 0-1 a+0", "4-5 a+0 ro", {1, 2}, {1, 2}},
	{"moved into the place of another", "0 0-1 a+0, 1 2-3 b+0", "2-3 a+0", {2, 2}, {2, 2}},
	{"chain", "0 0-1 a+0, 1 2-3 b+0, 2 4-5 a+8", "2-3 a+0, 4-5 b+0, 6-7 a+8", {3, 3}, {3, 3}},
	{"cycle of 2", "0 0-0 a+0, 1 1-1 b+0", "0-0 b+0, 1-1 a+0", {2, 3}, {2, 3}},
	{"cycle of 3",
	 "0 0-0 a+0, 1 1-1 b+0, 2 2-2 a+4",
	 "0-0 b+0, 1-1 a+4, 2-2 a+0",
	 {3, 4},
	 {3, 4}},
	{"two cycles",
	 "0 0-0 a+0, 1 1-1 b+0, 2 2-2 a+4, 3 3-3 b+4",
	 "0-0 b+0, 1-1 a+0, 2-2 b+4, 3-3 a+4",
	 {4, 6},
	 {4, 6}},
	{"two cycles that share memory are one",
	 "0 0-0 a+0, 1 1-1 b+0, 2 2-2 a+0, 3 3-3 b+4",
	 "0-0 b+0, 1-1 a+0, 2-2 b+4, 3-3 a+0",
	 {4, 5},
	 {4, 5}},
	{"alias that stays", "0 0-0 a+0, 1 4-4 a+0", "0-0 a+0, 8-8 a+0", {1, 1}, {1, 1}},
	{"alias that is new", "0 0-0 a+0", "0-0 a+0, 8-8 a+0", {0, 1}, {0, 1}},
	{"alias instead", "0 0-0 a+0", "4-4 a+0, 8-8 a+0", {1, 2}, {1, 2}},
	{"hole is filled", "0 0-0 a+0, 1 2-2 a+2", "0-2 a+0", {2, 3}, {0, 1}},
	{"hole opens", "0 0-2 a+0", "0-0 a+0, 2-2 a+2", {1, 3}, {1, 3}},
	{"two moved make one", "0 0-0 a+0, 1 8-8 a+1", "4-5 a+0", {2, 3}, {2, 2}},
	{"two moved around one that stays",
	 "0 0-0 a+0, 1 5-5 a+1, 2 8-8 a+2",
	 "4-6 a+0",
	 {3, 4},
	 {2, 2}},
	{"one moved makes half", "0 0-0 a+0", "4-5 a+0", {1, 2}, {1, 2}},
	{"hole is filled by one moved",
	 "0 0-0 a+0, 1 2-2 a+2, 2 8-8 a+1",
	 "0-2 a+0",
	 {3, 4},
	 {1, 1}},
	{"split, nothing moves", "0 0-1 a+0", "0-0 a+0 log, 1-1 a+1", {1, 3}, {1, 3}},
	{"merged", "0 0-0 a+0, 1 1-1 a+1", "0-1 a+0", {2, 3}, {0, 0}},
	{"boundary", "0 0-1 a+0", "0-0 a+0, 1-1 a+1", {1, 3}, {1, 3}},
};

static void set_example(struct planner *p, const struct example *example, bool cut)
{
	planner_clear(p);
	have_in(p, 0, example->have);
	want_in(p, 0, example->want);
	p->spaces[0].cut = cut;
}

static void search_finds_what_is_known_to_be_cheapest(void **state)
{
	struct planner *p = *state;

	for (size_t i = 0; i < 2 * LENGTH(examples); i++) {
		const struct example *example = &examples[i / 2];
		struct cost known = i % 2 ? example->cut : example->whole;
		struct puzzle puzzle;
		struct cost cost;

		set_example(p, example, i % 2);
		puzzle = puzzle_from(p);
		cost = search_plans(&puzzle);
		if (!same_cost(cost, known))
			fail_msg("%s%s: %u zaps, %u ioctls", example->name, i % 2 ? ", cut" : "",
				 cost.zaps, cost.ioctls);
	}
}

static void planner_finds_what_is_known_to_be_cheapest(void **state)
{
	struct planner *p = *state;

	for (size_t i = 0; i < 2 * LENGTH(examples); i++) {
		const struct example *example = &examples[i / 2];
		const char *lacks;

		set_example(p, example, i % 2);
		must(make_plan(p, 1));
		lacks = plan_lacks(p, i % 2 ? example->cut : example->whole);
		if (lacks)
			fail_msg("%s%s: %s\n%s", example->name, i % 2 ? ", cut" : "", lacks,
				 plan_text(&p->plan));
	}
}

/* ---- the checkers ---- */

static void swap_first_two(struct plan *plan)
{
	struct slot_op first = plan->ops[0];

	plan->ops[0] = plan->ops[1];
	plan->ops[1] = first;
}

static void forget_last(struct plan *plan)
{
	kvmas_ram_unref(slot_of(&plan->ops[--plan->count])->ram);
}

static void give_another_id(struct plan *plan)
{
	plan->ops[plan->count - 1].after.slot.id ^= 1;
}

static void give_id_past_limit(struct plan *plan)
{
	plan->ops[plan->count - 1].after.slot.id = 16;
}

static void take_another_block(struct plan *plan)
{
	plan->ops[plan->count - 1].after.slot.ram_offset += page_size();
}

static void flip_log(struct plan *plan)
{
	plan->ops[plan->count - 1].after.slot.flags ^= LOG;
}

static void flip_stop(struct plan *plan)
{
	plan->stop = !plan->stop;
}

static void tear_more(struct plan *plan)
{
	plan->bytes_torn += page_size();
}

static void tear_less(struct plan *plan)
{
	plan->bytes_torn -= page_size();
}

/* The last operation, in two halves. */
static void make_in_two(struct plan *plan)
{
	struct kvmas_slot *first = &plan->ops[plan->count - 1].after.slot;
	struct slot_op second = plan->ops[plan->count - 1];

	assert_true(plan->count < plan->capacity);
	second.after.slot.id += 3;
	second.after.slot.gpa += page_size();
	second.after.slot.ram_offset += page_size();
	second.after.slot.size -= page_size();
	first->size = page_size();
	kvmas_ram_ref(second.after.slot.ram);
	plan->ops[plan->count++] = second;
}

/* The first operation, a move, as two. */
static void delete_and_create(struct plan *plan)
{
	struct slot_op create = {KVMAS_SLOT_CREATE, .after = plan->ops[0].after};

	assert_true(plan->count < plan->capacity);
	plan->ops[0].kind = KVMAS_SLOT_DELETE;
	kvmas_ram_ref(create.after.slot.ram);
	plan->ops[plan->count++] = create;
}

static void checker_finds_planted_faults(void **state)
{
	static const struct {
		const char *have;
		const char *want;
		void (*plant)(struct plan *plan);
		const char *wrong;
	} table[] = {
		{"0 0-1 a+0, 1 2-3 b+0", "2-3 a+0, 4-5 b+0", swap_first_two, "slots overlap"},
		{"0 0-1 a+0, 1 4-4 b+0", "4-5 a+0", swap_first_two, "slots overlap"},
		{"0 0-1 a+0, 1 4-5 b+0", "8-9 a+0", swap_first_two, "the kinds are not in order"},
		{"0 0-1 a+0", "", forget_last, "a page is not as wanted"},
		{"", "0-1 a+0", forget_last, "a page is not as wanted"},
		{"0 0-1 a+0", "0-1 a+0, 4-5 b+0", give_another_id, "an id is given twice"},
		{"", "4-5 b+0", give_id_past_limit, "an id is given that is not ours to give"},
		{"0 0-1 a+0", "4-5 a+0", give_another_id, "a move is none"},
		{"0 0-1 a+0", "4-5 a+0", take_another_block, "a move is none"},
		{"", "4-5 a+0", take_another_block, "a page is not as wanted"},
		{"", "4-5 a+0", flip_log, "a page is not as wanted"},
		{"0 0-1 a+0", "4-5 a+0", flip_log, "a page is not as wanted"},
		{"0 0-1 a+0", "0-1 a+0 log", flip_log, "a change of flags is none"},
		{"0 0-1 a+0", "4-5 a+0", flip_stop, "a stop is not needed"},
		{"0 0-1 a+0", "1-2 a+0", flip_stop, "a stop is needed"},
		{"0 0-1 a+0 log", "", flip_stop, "a stop is needed"},
		{"0 0-1 a+0 log", "0-1 a+0", flip_stop, "a stop is needed"},
		{"0 0-1 a+0", "0-1 a+0 log", flip_stop, "a stop is not needed"},
		{"", "0-1 a+0", tear_more, "the bytes torn are miscounted"},
		{"0 0-1 a+0", "0-0 a+0", tear_less, "the bytes torn are miscounted"},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct planner *p = *state;
		const char *wrong;

		planner_clear(p);
		have_in(p, 0, table[i].have);
		want_in(p, 0, table[i].want);
		must(make_plan(p, 1));
		assert_null(plan_wrong(p, 1));
		table[i].plant(&p->plan);
		wrong = plan_wrong(p, 1);
		if (!wrong || strcmp(wrong, table[i].wrong) != 0)
			fail_msg("fault %zu: %s", i, wrong ? wrong : "nothing");
	}
}

static void checker_finds_miscounts(void **state)
{
	static const char *const wrong[] = {"the slots afterwards are miscounted",
					    "those made are miscounted"};
	struct planner *p = *state;
	size_t *answers[] = {&p->spaces[0].count, &p->spaces[0].made};

	want_in(p, 0, "0-2 a+0");
	must(make_plan(p, 1));
	for (size_t i = 0; i < LENGTH(answers); i++) {
		++*answers[i];
		assert_string_equal(plan_wrong(p, 1), wrong[i]);
		--*answers[i];
	}
}

/* Right, but not the cheapest. */
static void checker_finds_dear_plans(void **state)
{
	struct planner *p = *state;
	struct puzzle puzzle;

	have_in(p, 0, "0 0-1 a+0");
	want_in(p, 0, "4-5 a+0");
	puzzle = puzzle_from(p);
	must(make_plan(p, 1));
	assert_null(plan_lacks(p, search_plans(&puzzle)));
	delete_and_create(&p->plan);
	assert_null(plan_wrong(p, 1));
	assert_string_equal(plan_lacks(p, search_plans(&puzzle)), "there is a cheaper plan");
}

static void checker_finds_slots_that_are_cut(void **state)
{
	static const char *const wrong[] = {"a mapping is cut that may not be",
					    "slots are made that could be one"};
	struct planner *p = *state;

	for (unsigned cut = 0; cut < 2; cut++) {
		planner_clear(p);
		want_in(p, 0, "0-2 a+0");
		p->spaces[0].cut = cut;
		must(make_plan(p, 1));
		make_in_two(&p->plan);
		assert_string_equal(plan_wrong(p, 1), wrong[cut]);
	}
}

static void checker_finds_slots_across_mappings(void **state)
{
	struct planner *p = *state;

	want_in(p, 0, "0-2 a+0, 3-4 a+3");
	must(make_plan(p, 1));
	p->plan.ops[0].after.slot.size = pages(5);
	forget_last(&p->plan);
	assert_string_equal(plan_wrong(p, 1), "a slot shows two mappings");
}

/* ---- the quick search against the slow one ---- */

/* Small enough for the slow one: up to 3 of each, of 1 or 2 pages, on 6. */
static void roll_pieces(struct dice *dice, struct piece *pieces, unsigned *count)
{
	unsigned gpa = roll(dice, 2);

	for (*count = 0; *count < 3 && gpa < 5 && roll(dice, 8); ++*count) {
		struct piece *piece = &pieces[*count];

		*piece = (struct piece){
			.gpa = gpa,
			.npages = 1 + roll(dice, 2),
			.page = roll(dice, 3),
			.ro = !roll(dice, 8),
			.log = !roll(dice, 4),
		};
		gpa += piece->npages + roll(dice, 2);
	}
}

static void quick_search_finds_what_the_slow_one_does(void **state)
{
	uint64_t runs = number_from("KVMAS_RUNS", 150);
	struct dice dice = {number_from("KVMAS_SEED", 1)};
	struct planner *p = *state;

	for (uint64_t i = 0; i < runs; i++) {
		struct puzzle puzzle = {.cut = roll(&dice, 2)};
		struct cost quick, slow;

		roll_pieces(&dice, puzzle.have, &puzzle.nhave);
		roll_pieces(&dice, puzzle.want, &puzzle.nwant);
		quick = search_plans(&puzzle);
		if (!search_operations(&puzzle, quick, &slow))
			fail_msg("nothing so cheap\n%s", puzzle_text(p, &puzzle));
		if (!same_cost(quick, slow))
			fail_msg("%u zaps and %u ioctls, not %u and %u\n%s", slow.zaps, slow.ioctls,
				 quick.zaps, quick.ioctls, puzzle_text(p, &puzzle));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PUZZLE_TEST(search_finds_what_is_known_to_be_cheapest),
		PUZZLE_TEST(planner_finds_what_is_known_to_be_cheapest),
		PUZZLE_TEST(checker_finds_planted_faults),
		PUZZLE_TEST(checker_finds_miscounts),
		PUZZLE_TEST(checker_finds_dear_plans),
		PUZZLE_TEST(checker_finds_slots_that_are_cut),
		PUZZLE_TEST(checker_finds_slots_across_mappings),
		PUZZLE_TEST(quick_search_finds_what_the_slow_one_does),
	};

	return cmocka_run_group_tests_name("plan-search", tests, NULL, NULL);
}

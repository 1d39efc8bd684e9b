/* SPDX-License-Identifier: MIT */
/*
 * The planner on random slots and views of 50 to 500 ranges, in three spaces (plan-view.c):
 *   - the plan is right (planner.h),
 *   - its zap events are the slots that do not show what is wanted, no more,
 *   - its calls are no more than the bound: with M a largest matching of old and final slots that
 *     show the same host memory alike, best at the same place,
 *         old + final - M - those in M that are equal + cycles
 *     where for each call that is counted as a cycle, one is shown: a slot that is deleted while
 *     the like is created could not have been moved there, since it would have had to wait for
 *     moves that are made, and one of these for it,
 *   - planned in windows it costs the same.
 * Small plans are in test-plan-tour.c, plans written down in test-plan.c.
 *
 * KVMAS_SEED and KVMAS_RUNS choose the run; with KVMAS_TIMED=1 no plan may take a millisecond.
 */
#include "plan-view.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

/* ---- zap events ---- */

static bool alike(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	return a->ram == b->ram && a->ram_offset - a->gpa == b->ram_offset - b->gpa &&
	       !((a->flags ^ b->flags) & RO);
}

static bool can_stay(const struct plan_space *space, const struct kvmas_slot *slot)
{
	for (size_t i = 0; i < space->want.count; i++) {
		const struct kvmas_slot *want = &space->want.at[i];
		bool same = slot->gpa == want->gpa && slot->size == want->size;
		bool inside =
			want->gpa <= slot->gpa && slot->gpa + slot->size <= want->gpa + want->size;

		if (alike(slot, want) && (space->cut ? inside : same))
			return true;
	}
	return false;
}

static size_t count_going(const struct planner *p)
{
	size_t going = 0;

	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		for (size_t k = 0; k < p->have[i].count; k++)
			going += !can_stay(&p->spaces[i], kas_slots_at(&p->have[i], k));
	}
	return going;
}

static size_t count_zaps(const struct plan *plan)
{
	size_t zaps = 0;

	for (size_t i = 0; i < plan->count; i++)
		zaps += plan->ops[i].kind == KVMAS_SLOT_DELETE ||
			plan->ops[i].kind == KVMAS_SLOT_MOVE;
	return zaps;
}

/* ---- the bound ---- */

/* All slots of all spaces. */
struct census {
	struct kvmas_slot slots[PLAN_SPACES * PLAN_IDS];
	size_t count;
};

static void take_census(const struct planner *p, struct census *census)
{
	census->count = 0;
	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		for (size_t k = 0; k < p->have[i].count; k++)
			census->slots[census->count++] = *kas_slots_at(&p->have[i], k);
	}
}

static int compare(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* By space and what KVM cannot change: by class. */
static int compare_classes(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	int order = compare(a->as_id, b->as_id);

	order = order ? order : compare((uintptr_t)a->ram, (uintptr_t)b->ram);
	order = order ? order : compare(a->ram_offset, b->ram_offset);
	order = order ? order : compare(a->size, b->size);
	return order ? order : compare(a->flags & RO, b->flags & RO);
}

static int compare_slots(const void *left, const void *right)
{
	const struct kvmas_slot *a = left, *b = right;
	int order = compare_classes(a, b);

	order = order ? order : compare(a->gpa, b->gpa);
	return order ? order : compare(a->flags, b->flags);
}

/* How many slots two tables have in common, as *order* compares them. */
static size_t count_common(const struct census *a, const struct census *b,
			   int (*order)(const struct kvmas_slot *, const struct kvmas_slot *))
{
	size_t common = 0, k = 0;

	for (size_t i = 0; i < a->count && k < b->count;) {
		int sign = order(&a->slots[i], &b->slots[k]);

		common += sign == 0;
		i += sign <= 0;
		k += sign >= 0;
	}
	return common;
}

static int compare_whole(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	return compare_slots(a, b);
}

/* The calls that are needed if there are no cycles. */
static size_t bound_of(struct census *old, struct census *final)
{
	qsort(old->slots, old->count, sizeof(old->slots[0]), compare_slots);
	qsort(final->slots, final->count, sizeof(final->slots[0]), compare_slots);
	return old->count + final->count - count_common(old, final, compare_classes) -
	       count_common(old, final, compare_whole);
}

/* ---- cycles ---- */

static bool overlap(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	return a->as_id == b->as_id && a->gpa < b->gpa + b->size && b->gpa < a->gpa + a->size;
}

/* Whether a move to where *created* is would have had to wait for moves of the plan, and one of
 * these for *deleted* to be gone. */
static bool closes_cycle(const struct plan *plan, const struct kvmas_slot *deleted,
			 const struct kvmas_slot *created)
{
	const struct kvmas_slot **waiting = calloc(plan->count + 1, sizeof(struct kvmas_slot *));
	bool *seen = calloc(plan->count, sizeof(*seen));
	size_t count = 0;
	bool found = false;

	assert_true(waiting && seen);
	waiting[count++] = created;
	while (count && !found) {
		const struct kvmas_slot *place = waiting[--count];

		found = place != created && overlap(place, deleted);
		for (size_t i = 0; i < plan->count; i++) {
			const struct slot_op *op = &plan->ops[i];

			if (op->kind != KVMAS_SLOT_MOVE || seen[i] ||
			    !overlap(&op->before.slot, place))
				continue;
			seen[i] = true;
			waiting[count++] = &op->after.slot;
		}
	}
	free(waiting);
	free(seen);
	return found;
}

/* How many slots are deleted while the like is created. None of them could have moved to where any
 * of these is. */
static size_t count_cycles(const struct plan *plan)
{
	bool *used = calloc(plan->count + 1, sizeof(*used));
	size_t cycles = 0;

	assert_non_null(used);
	for (size_t i = 0; i < plan->count; i++) {
		const struct slot_op *del = &plan->ops[i];
		bool paired = false;

		for (size_t k = i; del->kind == KVMAS_SLOT_DELETE && k < plan->count; k++) {
			const struct slot_op *new = &plan->ops[k];

			if (new->kind != KVMAS_SLOT_CREATE ||
			    compare_classes(&del->before.slot, &new->after.slot) != 0)
				continue;
			if (!closes_cycle(plan, &del->before.slot, &new->after.slot))
				fail_msg("slot %u:%u could have moved", del->before.slot.as_id,
					 del->before.slot.id);
			if (paired || used[k])
				continue;
			paired = used[k] = true;
			cycles++;
		}
	}
	free(used);
	return cycles;
}

/* ---- windows ---- */

/* What each page of a space shows; 0 for nothing. */
static void paint(const struct planner *p, uint64_t *map, const struct kvmas_slot *slot)
{
	uint64_t gfn = slot->gpa >> p->page_shift, page = slot->ram_offset >> p->page_shift;

	for (uint64_t i = 0; i < slot->size >> p->page_shift; i++)
		map[gfn + i] = (page + i + 1) << 8 | slot->flags;
}

/* Whether one of a slot's pages is marked; if so, or if it shall be, all of them are. */
static bool mark(const struct planner *p, bool *marks, const struct kvmas_slot *slot, bool shall)
{
	uint64_t gfn = slot->gpa >> p->page_shift, npages = slot->size >> p->page_shift;
	uint64_t marked = 0;

	for (uint64_t i = 0; i < npages; i++)
		marked += marks[gfn + i];
	if (marked || shall)
		memset(&marks[gfn], true, npages);
	return (marked || shall) && marked < npages;
}

static bool is_there(const struct slots *have, const struct kvmas_slot *want)
{
	size_t index = kas_slots_seek(have, want->gpa);
	const struct kvmas_slot *slot = index < have->count ? kas_slots_at(have, index) : NULL;

	return slot && slot->gpa == want->gpa && slot->size == want->size && alike(slot, want);
}

/* From the first mark to the last. */
static void mark_hull(const struct planner *p, bool *marks)
{
	unsigned first = p->npages, last = 0;

	for (unsigned i = 0; i < p->npages; i++) {
		if (!marks[i])
			continue;
		first = first < i ? first : i;
		last = i;
	}
	for (unsigned i = first; i <= last && i < p->npages; i++)
		marks[i] = true;
}

/* Marks pages of what changes, and of all that would be cut by that. */
static void mark_changes(const struct planner *p, unsigned as_id, bool hull, bool *marks)
{
	const struct plan_space *space = &p->spaces[as_id];
	const struct slots *have = &p->have[as_id];
	uint64_t *before = calloc(p->npages, sizeof(*before));
	uint64_t *after = calloc(p->npages, sizeof(*after));
	bool first = true, more = true;

	assert_true(before && after);
	for (size_t i = 0; i < have->count; i++)
		paint(p, before, kas_slots_at(have, i));
	for (size_t i = 0; i < space->want.count; i++)
		paint(p, after, &space->want.at[i]);
	for (unsigned i = 0; i < p->npages; i++)
		marks[i] = before[i] != after[i];
	if (hull)
		mark_hull(p, marks);
	for (; more; first = false) {
		more = false;
		for (size_t i = 0; i < have->count; i++) {
			const struct kvmas_slot *slot = kas_slots_at(have, i);

			more |= mark(p, marks, slot, first && !can_stay(space, slot));
		}
		for (size_t i = 0; i < space->want.count && !space->cut; i++) {
			const struct kvmas_slot *want = &space->want.at[i];

			more |= mark(p, marks, want, first && !is_there(have, want));
		}
	}
	free(before);
	free(after);
}

/* Runs of marks, as windows; for free(). */
static struct range *make_windows(const struct planner *p, const bool *marks, size_t *ret)
{
	struct range *windows = calloc(p->npages + 1, sizeof(*windows));
	size_t count = 0;

	assert_non_null(windows);
	for (unsigned i = 0; i < p->npages; i++) {
		uint64_t gpa = (uint64_t)i << p->page_shift;

		if (!marks[i])
			continue;
		if (!count || windows[count - 1].last != gpa - 1)
			windows[count++].first = gpa;
		windows[count - 1].last = gpa + page_size() - 1;
	}
	*ret = count;
	return windows;
}

static void clip_want(struct planner *p, unsigned as_id)
{
	struct plan_space *space = &p->spaces[as_id];
	struct mappings whole = space->want;

	space->want = (struct mappings){0};
	for (size_t i = 0; i < whole.count; i++) {
		for (size_t k = 0; k < space->nwindows; k++) {
			struct kvmas_slot part = whole.at[i];
			uint64_t first = space->windows[k].first;
			uint64_t end = space->windows[k].last + 1;

			if (part.gpa >= end || part.gpa + part.size <= first)
				continue;
			if (part.gpa < first) {
				part.ram_offset += first - part.gpa;
				part.size -= first - part.gpa;
				part.gpa = first;
			}
			if (part.gpa + part.size > end)
				part.size = end - part.gpa;
			want(p, &part);
		}
	}
	kas_mappings_fini(p->f->kvmas, &whole);
}

/* Plan once more, in windows around what changes: how many are there? */
static size_t check_windows(struct plan_round *round)
{
	bool marks[PLAN_PAGES];
	struct range *windows[PLAN_SPACES];
	struct planner *p = round->p;
	struct plan whole = p->plan;
	const char *wrong;
	size_t count = 0;

	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		mark_changes(p, i, roll(&round->dice, 2), marks);
		windows[i] = make_windows(p, marks, &p->spaces[i].nwindows);
		p->spaces[i].windows = windows[i];
		count += p->spaces[i].nwindows;
		clip_want(p, i);
	}
	p->plan = (struct plan){0};
	must(make_plan(p, PLAN_SPACES));
	wrong = plan_wrong(p, PLAN_SPACES);
	if (wrong)
		fail_msg("in windows: %s", wrong);
	assert_int_equal(count_zaps(&p->plan), count_zaps(&whole));
	assert_int_equal(p->plan.count, whole.count);
	assert_int_equal(p->plan.bytes_torn, whole.bytes_torn);
	assert_int_equal(p->plan.stop, whole.stop);
	kas_plan_fini(p->f->kvmas, &whole);
	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		free(windows[i]);
		p->spaces[i].windows = NULL;
	}
	return count;
}

/* ---- time ---- */

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare_times(const void *a, const void *b)
{
	return compare(*(const uint64_t *)a, *(const uint64_t *)b);
}

/* The median must do on any machine, if the build is made for speed. */
static void check_times(uint64_t *times, size_t count)
{
	qsort(times, count, sizeof(*times), compare_times);
	if (!count)
		return;
	print_message("%zu plans of 450 to 500 ranges: median %" PRIu64 " us, worst %" PRIu64
		      " us\n",
		      count, times[count / 2] / 1000, times[count - 1] / 1000);
	assert_true(SANITIZED || times[count / 2] < 1000000);
	if (number_from("KVMAS_TIMED", 0))
		assert_true(times[count - 1] < 1000000);
}

/* ---- the rounds ---- */

/* What all rounds did, so that none of it is missed. */
struct sums {
	size_t plans, moves, deletes, creates, flags, cycles, stops, cuts, windows;
	uint64_t torn;
};

static void add_up(struct sums *sums, const struct planner *p, size_t cycles)
{
	size_t *const counts[] = {
		[KVMAS_SLOT_CREATE] = &sums->creates,
		[KVMAS_SLOT_DELETE] = &sums->deletes,
		[KVMAS_SLOT_MOVE] = &sums->moves,
		[KVMAS_SLOT_FLAGS] = &sums->flags,
	};

	for (size_t i = 0; i < p->plan.count; i++)
		++*counts[p->plan.ops[i].kind];
	for (unsigned i = 0; i < PLAN_SPACES; i++)
		sums->cuts += p->spaces[i].count > p->spaces[i].want.count;
	sums->plans++;
	sums->cycles += cycles;
	sums->stops += p->plan.stop;
	sums->torn += p->plan.bytes_torn;
}

static void check_round(struct plan_round *round, struct sums *sums)
{
	static struct census old, final;
	struct planner *p = round->p;
	const char *wrong = plan_wrong(p, PLAN_SPACES);
	size_t cycles;

	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(count_zaps(&p->plan), count_going(p));
	cycles = count_cycles(&p->plan);
	add_up(sums, p, cycles);
	sums->windows += check_windows(round);
	take_census(p, &old);
	follow(p);
	take_census(p, &final);
	assert_true(p->plan.count <= bound_of(&old, &final) + cycles);
}

static void print_sums(const struct sums *sums)
{
	print_message("%zu plans: %zu moves, %zu deletions, %zu creations, %zu changes of flags, "
		      "%zu cycles, %zu stops, %zu spaces cut, %zu windows\n",
		      sums->plans, sums->moves, sums->deletes, sums->creates, sums->flags,
		      sums->cycles, sums->stops, sums->cuts, sums->windows);
}

static void random_plans_are_right_and_within_the_bound(void **state)
{
	static struct plan_round round;
	uint64_t seed = number_from("KVMAS_SEED", 1);
	uint64_t runs = number_from("KVMAS_RUNS", SANITIZED ? 2000 : 10000);
	uint64_t *times = calloc(runs, sizeof(*times));
	struct sums sums = {0};
	size_t ntimes = 0;

	assert_non_null(times);
	round.p = *state;
	for (uint64_t i = 0; i < runs; i++) {
		size_t nranges;
		uint64_t begin;

		round.p->seed = seed + i;
		round.dice.state = seed + i;
		nranges = 50 + roll(&round.dice, MAX_RANGES - 49);
		roll_plan_round(&round, nranges);
		begin = cpu_ns();
		must(make_plan(round.p, PLAN_SPACES));
		if (nranges >= 450)
			times[ntimes++] = cpu_ns() - begin;
		check_round(&round, &sums);
	}
	round.p->seed = 0;
	print_sums(&sums);
	check_times(times, ntimes);
	free(times);
}

/* ---- the checkers ---- */

static const struct kvmas_slot *find_op(const struct plan *plan, enum kvmas_slot_op_kind kind)
{
	for (size_t i = 0; i < plan->count; i++) {
		if (plan->ops[i].kind == kind)
			return slot_of(&plan->ops[i]);
	}
	return NULL;
}

/* One that others wait for, and one that could have gone first. */
static void cycle_is_told_from_a_move_that_was_not_made(void **state)
{
	static struct census old, final;
	struct planner *p = *state;
	struct kvmas_slot elsewhere;

	have_in(p, 0, "0 0-3 a+0, 1 4-7 b+0, 2 8-11 a+8");
	want_in(p, 0, "0-3 b+0, 4-7 a+8, 8-11 a+0");
	must(make_plan(p, 1));
	elsewhere = *find_op(&p->plan, KVMAS_SLOT_CREATE);
	assert_true(closes_cycle(&p->plan, find_op(&p->plan, KVMAS_SLOT_DELETE), &elsewhere));
	elsewhere.gpa = pages(40);
	assert_false(closes_cycle(&p->plan, find_op(&p->plan, KVMAS_SLOT_DELETE), &elsewhere));
	assert_int_equal(count_cycles(&p->plan), 1);
	take_census(p, &old);
	follow(p);
	take_census(p, &final);
	assert_int_equal(bound_of(&old, &final), 3);
}

/* Two that are equal, one of other flags, one elsewhere, one that is new. */
static void bound_counts_what_differs(void **state)
{
	static struct census old, final;
	struct planner *p = *state;

	have_in(p, 0, "0 0-3 a+0, 1 4-7 b+0, 2 8-11 a+8, 3 12-15 a+40");
	take_census(p, &old);
	planner_clear(p);
	have_in(p, 0, "0 0-3 a+0, 1 4-7 b+0, 2 8-11 a+8 log, 3 20-23 a+40, 4 24-27 a+50");
	take_census(p, &final);
	assert_int_equal(bound_of(&old, &final), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAN_TEST(cycle_is_told_from_a_move_that_was_not_made),
		PLAN_TEST(bound_counts_what_differs),
		PLAN_TEST(random_plans_are_right_and_within_the_bound),
	};

	return cmocka_run_group_tests_name("plan-random", tests, NULL, NULL);
}

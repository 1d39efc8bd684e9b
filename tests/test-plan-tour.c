/* SPDX-License-Identifier: MIT */
/*
 * Plans of a few slots against exhaustive search (plan-search.c): the planner's plan is right
 * (planner.h), and no other has fewer zap events or, with as few, fewer ioctls.
 *
 * What a policy and boundaries make of a view is, to the planner, what is wanted: eager and sticky
 * merge what continues but for boundaries, none does not, and only under sticky may mappings be cut
 * (src/kvm/mapping.c). So a tour of all mappings that can be wanted, with pages that continue and
 * ones that do not, each as it is and cut, is one of all policies and boundaries. The random
 * puzzles begin with views, policies and boundaries.
 *
 * A tour goes over all ways to put up to so many wanted mappings and slots, of up to so many pages,
 * on a grid of so many guest pages. What a mapping shows is memory of its own, or begins at one of
 * the first pages that several share. What a slot shows is any part of what is wanted, at any
 * place; or what is wanted there, reaching out of it; or nothing wanted: more there is not. Flags
 * are left to chance, but for one tour that has all.
 *
 * KVMAS_SEED and KVMAS_RUNS choose the random puzzles; KVMAS_FULL=1 adds tours of more than 30
 * million plans, which take ten minutes.
 */
#include "plan-puzzle.h"

#include <inttypes.h>
#include <stdio.h>

enum { OWN = 64 }; /* pages of a block from here on are shown by nobody else */

/* ---- tours ---- */

struct tour {
	unsigned nhave; /* up to so many */
	unsigned nwant;
	unsigned grid;
	unsigned npages; /* of each, up to so many */
	unsigned starts; /* what mappings show may begin at so many pages, or is their own */
	bool all_flags;
	struct planner *p;
	struct dice dice;
	struct puzzle puzzle;
	uint64_t count;
};

/* One way to give flags: what is wanted says what is readonly; a slot that shows it is so, too, or
 * for once it is not. */
static void solve_both(struct tour *tour, struct puzzle puzzle)
{
	for (unsigned cut = 0; cut < 2; cut++) {
		puzzle.cut = cut;
		solve(tour->p, &puzzle);
		tour->count++;
	}
}

static void solve_with_some_flags(struct tour *tour)
{
	struct puzzle puzzle = tour->puzzle;

	for (unsigned i = 0; i < puzzle.nwant; i++) {
		puzzle.want[i].ro = !roll(&tour->dice, 4);
		puzzle.want[i].log = !roll(&tour->dice, 4);
	}
	for (unsigned i = 0; i < puzzle.nhave; i++) {
		struct piece *have = &puzzle.have[i];

		have->log = !roll(&tour->dice, 4);
		for (unsigned k = 0; k < puzzle.nwant; k++) {
			const struct piece *want = &puzzle.want[k];

			if (want->block == have->block && want->page <= have->page &&
			    have->page + have->npages <= want->page + want->npages)
				have->ro = want->ro;
		}
		have->ro ^= !roll(&tour->dice, 16);
	}
	solve_both(tour, puzzle);
}

static void solve_with_all_flags(struct tour *tour)
{
	struct puzzle puzzle = tour->puzzle;
	unsigned n = puzzle.nhave + puzzle.nwant;

	for (unsigned flags = 0; flags < 1u << 2 * n; flags++) {
		for (unsigned i = 0; i < n; i++) {
			struct piece *piece =
				i < puzzle.nhave ? &puzzle.have[i] : &puzzle.want[i - puzzle.nhave];

			piece->ro = flags >> 2 * i & 1;
			piece->log = flags >> (2 * i + 1) & 1;
		}
		solve_both(tour, puzzle);
	}
}

static void tour_have(struct tour *tour, unsigned from);

/* Go on with this slot, if it shows something else than those before, at the same place. */
static void try_have(struct tour *tour, const struct piece *piece, struct piece *tried,
		     unsigned *ntried)
{
	for (unsigned i = 0; i < *ntried; i++) {
		if (tried[i].block == piece->block && tried[i].page == piece->page)
			return;
	}
	tried[(*ntried)++] = *piece;
	tour->puzzle.have[tour->puzzle.nhave++] = *piece;
	tour_have(tour, piece->gpa + piece->npages);
	tour->puzzle.nhave--;
}

/* All that a slot at this place can show: what is wanted anywhere, in whole; what is wanted here,
 * in part; and what is not wanted. */
static void try_memory(struct tour *tour, struct piece piece)
{
	struct piece tried[32];
	unsigned ntried = 0;

	piece.block = 1;
	piece.page = 16 * OWN;
	try_have(tour, &piece, tried, &ntried);
	for (unsigned i = 0; i < tour->puzzle.nwant; i++) {
		const struct piece *want = &tour->puzzle.want[i];

		piece.block = want->block;
		for (piece.page = want->page;
		     piece.page + piece.npages <= want->page + want->npages; piece.page++)
			try_have(tour, &piece, tried, &ntried);
		piece.page = want->page + piece.gpa - want->gpa;
		if (piece.gpa < want->gpa + want->npages && want->gpa < piece.gpa + piece.npages)
			try_have(tour, &piece, tried, &ntried);
	}
}

static void tour_have(struct tour *tour, unsigned from)
{
	if (tour->all_flags)
		solve_with_all_flags(tour);
	else
		solve_with_some_flags(tour);
	for (unsigned gpa = from; gpa < tour->grid && tour->puzzle.nhave < tour->nhave; gpa++) {
		for (unsigned n = 1; n <= tour->npages && gpa + n <= tour->grid; n++)
			try_memory(tour, (struct piece){.gpa = gpa, .npages = n});
	}
}

/* Of mappings that show the same but for where it stands in the block, only one is looked at. */
static bool is_canonical(const struct tour *tour)
{
	unsigned shared = 0, first = OWN;

	for (unsigned i = 0; i < tour->puzzle.nwant; i++) {
		const struct piece *want = &tour->puzzle.want[i];

		shared += want->block == 0;
		if (want->block == 0 && want->page < first)
			first = want->page;
	}
	return !shared || (shared > 1 && first == 16);
}

static void tour_want(struct tour *tour, unsigned from)
{
	unsigned index = tour->puzzle.nwant;
	struct piece *want = &tour->puzzle.want[index];

	if (is_canonical(tour))
		tour_have(tour, 0);
	for (unsigned gpa = from; gpa < tour->grid && index < tour->nwant; gpa++) {
		for (unsigned i = 0; i < tour->npages * (tour->starts + 1); i++) {
			unsigned npages = 1 + i % tour->npages, start = i / tour->npages;
			bool own = start == tour->starts;

			if (gpa + npages > tour->grid)
				continue;
			*want = (struct piece){.gpa = gpa, .npages = npages, .block = own};
			want->page = own ? OWN * (index + 1) : 16 + start;
			tour->puzzle.nwant++;
			tour_want(tour, gpa + npages);
			tour->puzzle.nwant--;
		}
	}
}

static void all_small_plans_are_the_cheapest(void **state)
{
	static const struct tour tours[] = {
		{2, 2, 4, 2, 2, true},
		{3, 3, 5, 3, 2, false},
		{4, 4, 4, 1, 4, false},
	};
	static const struct tour full[] = {
		{4, 4, 5, 1, 4, false},
		{3, 3, 5, 3, 4, false},
		{4, 4, 5, 2, 2, false},
	};
	/* What sanitizers look for a part of the first does as well as all. */
	size_t ntours = SANITIZED ? 1 : LENGTH(tours);

	if (number_from("KVMAS_FULL", 0))
		ntours = LENGTH(tours) + LENGTH(full);
	for (size_t i = 0; i < ntours; i++) {
		struct tour tour = i < LENGTH(tours) ? tours[i] : full[i - LENGTH(tours)];

		tour.p = *state;
		tour.all_flags &= !SANITIZED;
		tour.dice.state = number_from("KVMAS_SEED", 1);
		tour_want(&tour, 0);
		print_message("up to %u slots, %u mappings of %u pages, on %u: %" PRIu64 " plans\n",
			      tour.nhave, tour.nwant, tour.npages, tour.grid, tour.count);
	}
}

/* ---- views, policies, boundaries ---- */

enum { VIEW_PAGES = 24, OBJECTS = 6 };

/* What a view shows, and slots have shown: pieces that continue, or are the same, or neither. */
static void roll_objects(struct dice *dice, struct piece objects[OBJECTS])
{
	unsigned npages = 1 + roll(dice, 3);

	for (unsigned i = 0; i < OBJECTS; i++) {
		const struct piece *before = i ? &objects[i - 1] : NULL;

		if (!roll(dice, 3))
			npages = 1 + roll(dice, 3);
		objects[i] = (struct piece){.npages = npages, .block = 1, .page = OWN * (i + 1)};
		if (before && roll(dice, 2)) {
			objects[i].block = before->block;
			objects[i].page = before->page + before->npages;
			objects[i].ro = before->ro;
		} else if (before && roll(dice, 2)) {
			objects[i] = *before;
		}
		objects[i].ro ^= !roll(dice, 12);
	}
}

/* Put up to 4 objects somewhere: mostly in the order of their numbers. */
static unsigned place_objects(struct dice *dice, const struct piece objects[OBJECTS],
			      struct piece pieces[4])
{
	unsigned gpa = roll(dice, 3), count = 0, object = roll(dice, OBJECTS);

	for (unsigned i = 0; i < 4 && roll(dice, 6); i++) {
		object = roll(dice, 3) ? object + 1 : roll(dice, OBJECTS);
		pieces[count] = objects[object % OBJECTS];
		pieces[count].gpa = gpa;
		pieces[count].log = !roll(dice, 6);
		gpa += pieces[count++].npages + (roll(dice, 2) ? 0 : roll(dice, 3));
	}
	return count;
}

static bool continues(const struct piece *a, const struct piece *b)
{
	return a->gpa + a->npages == b->gpa && a->block == b->block &&
	       a->page + a->npages == b->page && a->ro == b->ro && a->log == b->log;
}

/* Cut a range at boundaries, and merge it with what is wanted before, as a policy would. */
static void want_range(struct puzzle *puzzle, struct piece range, enum kvmas_merge merge,
		       uint32_t boundaries)
{
	while (range.npages) {
		struct piece *last = puzzle->nwant ? &puzzle->want[puzzle->nwant - 1] : NULL;
		struct piece part = range;

		part.npages = 1;
		while (part.npages < range.npages && !(boundaries >> (part.gpa + part.npages) & 1))
			part.npages++;
		if (last && merge != KVMAS_MERGE_NONE && continues(last, &part) &&
		    !(boundaries >> part.gpa & 1))
			last->npages += part.npages;
		else
			puzzle->want[puzzle->nwant++] = part;
		range.gpa += part.npages;
		range.page += part.npages;
		range.npages -= part.npages;
	}
}

/* Some of the view's ranges are as the slots were before. */
static unsigned roll_view(struct dice *dice, const struct puzzle *puzzle,
			  const struct piece objects[OBJECTS], struct piece view[4])
{
	unsigned count = place_objects(dice, objects, view);

	if (roll(dice, 2))
		return count;
	for (unsigned i = 0; i < puzzle->nhave; i++)
		view[i] = puzzle->have[i];
	if (puzzle->nhave > 1 && roll(dice, 2)) { /* two exchange what they show */
		unsigned a = roll(dice, puzzle->nhave), b = roll(dice, puzzle->nhave);
		struct piece first = view[a];

		if (view[a].npages != view[b].npages)
			return puzzle->nhave;
		view[a] = view[b];
		view[a].gpa = first.gpa;
		first.gpa = view[b].gpa;
		view[b] = first;
	}
	return puzzle->nhave;
}

static void plans_for_views_under_all_policies_are_the_cheapest(void **state)
{
	uint64_t runs = number_from("KVMAS_RUNS", SANITIZED ? 20000 : 200000);
	struct dice dice = {number_from("KVMAS_SEED", 1)};
	unsigned cuts = 0, moves = 0;
	struct planner *p = *state;

	for (uint64_t i = 0; i < runs; i++) {
		uint32_t boundaries = roll(&dice, 3) ? 0 : 1u << roll(&dice, VIEW_PAGES);
		struct piece objects[OBJECTS], view[4];
		struct puzzle puzzle = {0};
		unsigned nview;

		boundaries |= boundaries && roll(&dice, 2) ? 1u << roll(&dice, VIEW_PAGES) : 0;
		roll_objects(&dice, objects);
		puzzle.nhave = place_objects(&dice, objects, puzzle.have);
		nview = roll_view(&dice, &puzzle, objects, view);
		for (unsigned merge = 0; merge < 3; merge++) {
			puzzle.nwant = 0;
			puzzle.cut = merge == KVMAS_MERGE_STICKY;
			for (unsigned k = 0; k < nview; k++)
				want_range(&puzzle, view[k], merge, boundaries);
			solve(p, &puzzle);
			cuts += p->spaces[0].count > puzzle.nwant;
			moves += p->plan.count && p->plan.ops[0].kind == KVMAS_SLOT_MOVE;
		}
	}
	print_message("%" PRIu64 " views: %u plans cut mappings, %u begin with a move\n", runs,
		      cuts, moves);
	assert_true(cuts > runs / 50 && moves > runs / 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PUZZLE_TEST(all_small_plans_are_the_cheapest),
		PUZZLE_TEST(plans_for_views_under_all_policies_are_the_cheapest),
	};

	return cmocka_run_group_tests_name("plan-tour", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * What the planner should find, found by trying: for a few slots of one space.
 *
 * search_operations tries all that KVM can do: delete any slot, move it anywhere, make any slot,
 * change LOG of any. It finds the cheapest sequence as Dijkstra would, and no idea of what a plan
 * should look like is in it. It is slow.
 *
 * search_plans leaves out what can be in no cheapest sequence, and is fast enough for millions of
 * cases:
 *   P1  A slot that is created is never moved or deleted: made later, at its last place, it saves
 *       that call, and until then is in nobody's way. So creations stand at the end, and make just
 *       what is missing; and a slot that is created has the right flags at once.
 *   P2  Flags are changed last, and only of slots that never moved: a move changes LOG as well.
 *   P3  A slot that moves goes to where it is wanted, or out of the way, to a place that nobody
 *       wants (of which there are always enough), or back home: any other place is no better than
 *       the one out of the way.
 *   P4  A slot where it is not wanted must be moved or deleted yet. So where more are left than
 *       zaps, the search turns back.
 * What is left is tried with 0 zaps, then 1, and so on, each in every order: slots are deleted,
 * moved home, away, or to any place that wants them. test-plan-search.c compares the two.
 */
#include "plan-search.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool overlap(unsigned a, unsigned a_npages, unsigned b, unsigned b_npages)
{
	return a < b + b_npages && b < a + a_npages;
}

/* Whether a mapping that is wanted wants this slot, at this gpa. */
static bool wants(const struct puzzle *puzzle, const struct piece *want, const struct piece *slot,
		  unsigned gpa)
{
	if (want->block != slot->block || want->ro != slot->ro ||
	    want->page + gpa != slot->page + want->gpa)
		return false;
	if (!puzzle->cut)
		return gpa == want->gpa && slot->npages == want->npages;
	return want->gpa <= gpa && gpa + slot->npages <= want->gpa + want->npages;
}

/* The mapping that wants this slot there; NULL if none does. */
static const struct piece *who_wants(const struct puzzle *puzzle, const struct piece *slot,
				     unsigned gpa)
{
	for (unsigned i = 0; i < puzzle->nwant; i++) {
		if (wants(puzzle, &puzzle->want[i], slot, gpa))
			return &puzzle->want[i];
	}
	return NULL;
}

/* ---- the quick one ---- */

/* Where a slot is: from PLACES on, at a place that it was moved to. */
enum { HOME, GONE, AWAY, PLACES, MAX_PLACES = 1 << 4 };

struct search {
	const struct puzzle *puzzle;
	unsigned gpa[MAX_HAVE][MAX_PLACES]; /* where slots can be */
	unsigned nplaces[MAX_HAVE];
	unsigned at[MAX_HAVE]; /* where they are, an index of the above */
	bool found;
	unsigned fewest; /* ioctls that are no zaps */
	/* How many zaps were left when all slots were so, plus 1. */
	uint8_t seen[1 << 4 * MAX_HAVE];
};

static void list_places(struct search *search, unsigned slot)
{
	const struct piece *piece = &search->puzzle->have[slot];
	unsigned count = PLACES;

	search->gpa[slot][HOME] = piece->gpa;
	for (unsigned i = 0; i < search->puzzle->nwant; i++) {
		const struct piece *want = &search->puzzle->want[i];
		unsigned gpa = want->gpa + piece->page - want->page;

		if (piece->page >= want->page && wants(search->puzzle, want, piece, gpa))
			search->gpa[slot][count++] = gpa;
	}
	search->gpa[slot][count++] = piece->gpa;
	search->nplaces[slot] = count;
}

static bool is_mapped(const struct search *search, unsigned slot)
{
	return search->at[slot] != GONE && search->at[slot] != AWAY;
}

static unsigned place_of(const struct search *search, unsigned slot)
{
	return search->gpa[slot][search->at[slot]];
}

static bool is_free_for(const struct search *search, unsigned slot, unsigned gpa)
{
	const struct puzzle *puzzle = search->puzzle;

	for (unsigned i = 0; i < puzzle->nhave; i++) {
		if (i != slot && is_mapped(search, i) &&
		    overlap(gpa, puzzle->have[slot].npages, place_of(search, i),
			    puzzle->have[i].npages))
			return false;
	}
	return true;
}

/* How many slots must be moved or deleted yet (P4). */
static unsigned count_wrong(const struct search *search)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < search->puzzle->nhave; i++)
		wrong +=
			search->at[i] == AWAY ||
			(is_mapped(search, i) &&
			 !who_wants(search->puzzle, &search->puzzle->have[i], place_of(search, i)));
	return wrong;
}

static bool is_covered(const struct search *search, unsigned gpa)
{
	for (unsigned i = 0; i < search->puzzle->nhave; i++) {
		if (is_mapped(search, i) &&
		    overlap(gpa, 1, place_of(search, i), search->puzzle->have[i].npages))
			return true;
	}
	return false;
}

/* Where all slots are wanted: what is missing yet, and flags (P1, P2). */
static unsigned count_rest(const struct search *search)
{
	const struct puzzle *puzzle = search->puzzle;
	unsigned count = 0;

	for (unsigned i = 0; i < puzzle->nwant; i++) {
		const struct piece *want = &puzzle->want[i];
		bool covered = true;

		for (unsigned gpa = want->gpa; gpa < want->gpa + want->npages; gpa++) {
			bool now = is_covered(search, gpa);

			count += covered && !now;
			covered = now;
		}
	}
	for (unsigned i = 0; i < puzzle->nhave; i++) {
		const struct piece *slot = &puzzle->have[i];

		count += search->at[i] == HOME &&
			 who_wants(puzzle, slot, slot->gpa)->log != slot->log;
	}
	return count;
}

static bool was_here(struct search *search, unsigned left)
{
	unsigned key = 0;

	for (unsigned i = 0; i < search->puzzle->nhave; i++)
		key = key << 4 | search->at[i];
	if (search->seen[key] > left)
		return true;
	search->seen[key] = (uint8_t)(left + 1);
	return false;
}

static void try_zaps(struct search *search, unsigned left);

static void try_slot(struct search *search, unsigned slot, unsigned left)
{
	unsigned from = search->at[slot];

	for (unsigned to = GONE; to < search->nplaces[slot]; to++) {
		if (to >= PLACES && !is_free_for(search, slot, search->gpa[slot][to]))
			continue;
		search->at[slot] = to;
		try_zaps(search, left - 1);
		search->at[slot] = from;
	}
}

/* Use up the zaps that are left, in every way. */
static void try_zaps(struct search *search, unsigned left)
{
	unsigned wrong = count_wrong(search);

	if (wrong > left || was_here(search, left))
		return;
	if (wrong == 0) {
		unsigned rest = count_rest(search);

		if (!search->found || rest < search->fewest)
			search->fewest = rest;
		search->found = true;
	}
	for (unsigned i = 0; i < search->puzzle->nhave && left; i++) {
		if (search->at[i] != GONE)
			try_slot(search, i, left);
	}
}

struct cost search_plans(const struct puzzle *puzzle)
{
	struct search search;
	unsigned zaps = 0;

	search.puzzle = puzzle;
	search.found = false;
	for (unsigned i = 0; i < puzzle->nhave; i++) {
		search.at[i] = HOME;
		list_places(&search, i);
	}
	for (;; zaps++) {
		memset(search.seen, 0, (size_t)1 << 4 * puzzle->nhave);
		try_zaps(&search, zaps);
		if (search.found)
			return (struct cost){zaps, zaps + search.fewest};
	}
}

/* ---- the slow one ---- */

/*
 * A table of slots is up to TABLE of these, sorted, and zeros:
 *     there is one: 1   -: 1   gpa: 4   pages less 1: 3   block: 1   page: 4   ro: 1   log: 1
 * Guest pages from GRID on are those that nobody wants. A cost is zaps * ZAP + ioctls.
 */
enum {
	SLOT = 1 << 15,
	RO_BIT = 2,
	LOG_BIT = 1,
	GRID = 10,
	GPAS = 16,
	TABLE = 8,
	ZAP = 64,
	COSTS = 8 * ZAP,
	HASH = 1 << 16,
};

struct table {
	uint16_t slot[TABLE];
};

/* A table that can be reached. */
struct node {
	struct table table;
	unsigned cost;
	unsigned next; /* in its list; 0: none */
};

struct walk {
	const struct puzzle *puzzle;
	unsigned limit;
	struct node *nodes; /* the first is none */
	unsigned nnodes;
	unsigned best[HASH];   /* the cheapest node of each table */
	unsigned lists[COSTS]; /* nodes not yet looked at, by the least that they can lead to */
};

static uint16_t pack(const struct piece *piece)
{
	return (uint16_t)(SLOT | piece->gpa << 10 | (piece->npages - 1) << 7 | piece->block << 6 |
			  piece->page << 2 | (unsigned)piece->ro << 1 | piece->log);
}

static struct piece unpack(uint16_t slot)
{
	return (struct piece){
		.gpa = slot >> 10 & 15,
		.npages = (slot >> 7 & 7) + 1,
		.block = slot >> 6 & 1,
		.page = slot >> 2 & 15,
		.ro = slot & RO_BIT,
		.log = slot & LOG_BIT,
	};
}

static int descending(const void *a, const void *b)
{
	return *(const uint16_t *)b - *(const uint16_t *)a;
}

/* The table with another slot in the place of that one; 0 for none. */
static struct table with(struct table table, unsigned index, uint16_t slot)
{
	table.slot[index] = slot;
	qsort(table.slot, TABLE, sizeof(table.slot[0]), descending);
	return table;
}

static bool overlaps_another(const struct table *table, unsigned index, const struct piece *slot)
{
	for (unsigned i = 0; i < TABLE && table->slot[i]; i++) {
		struct piece other = unpack(table->slot[i]);

		if (i != index && overlap(other.gpa, other.npages, slot->gpa, slot->npages))
			return true;
	}
	return false;
}

/* What must yet be paid at least for a slot, or for none: one that is not wanted where it is needs
 * a call, and a zap. */
static unsigned rest_of_slot(const struct walk *walk, uint16_t packed)
{
	struct piece slot = unpack(packed);

	return packed && !who_wants(walk->puzzle, &slot, slot.gpa) ? ZAP + 1 : 0;
}

static unsigned rest_of(const struct walk *walk, const struct table *table)
{
	unsigned rest = 0;

	for (unsigned i = 0; i < TABLE; i++)
		rest += rest_of_slot(walk, table->slot[i]);
	return rest;
}

static bool is_goal(const struct walk *walk, const struct table *table)
{
	unsigned npages = 0;

	for (unsigned i = 0; i < TABLE && table->slot[i]; i++) {
		struct piece slot = unpack(table->slot[i]);
		const struct piece *want = who_wants(walk->puzzle, &slot, slot.gpa);

		if (!want || want->log != slot.log)
			return false;
		npages += slot.npages;
	}
	for (unsigned i = 0; i < walk->puzzle->nwant; i++)
		npages -= walk->puzzle->want[i].npages;
	return npages == 0;
}

/* Where the cheapest node of this table is, or should be. */
static unsigned *find_best(struct walk *walk, const struct table *table)
{
	uint64_t hash = 0;

	for (unsigned i = 0; i < TABLE; i++)
		hash = (hash ^ table->slot[i]) * UINT64_C(0x9e3779b97f4a7c15);
	for (unsigned i = (unsigned)(hash >> 48);; i = (i + 1) % HASH) {
		const struct node *node = &walk->nodes[walk->best[i]];

		if (!walk->best[i] || !memcmp(&node->table, table, sizeof(*table)))
			return &walk->best[i];
	}
}

/* A table can be reached at this cost. */
static void reach(struct walk *walk, const struct table *table, unsigned cost, unsigned rest)
{
	unsigned *best = find_best(walk, table);

	if (*best && walk->nodes[*best].cost <= cost)
		return;
	if (walk->nnodes == HASH / 2)
		abort();
	*best = walk->nnodes++;
	walk->nodes[*best] = (struct node){*table, cost, walk->lists[cost + rest]};
	walk->lists[cost + rest] = *best;
}

/* Go on from a table by one operation, that puts a slot in the place of that one. */
static void go_on(struct walk *walk, const struct node *from, unsigned index, uint16_t slot,
		  unsigned price)
{
	unsigned cost = from->cost + price;
	unsigned rest = rest_of(walk, &from->table) + rest_of_slot(walk, slot) -
			rest_of_slot(walk, from->table.slot[index]);
	struct table table;

	if (cost + rest > walk->limit)
		return;
	table = with(from->table, index, slot);
	reach(walk, &table, cost, rest);
}

/* Delete or move this slot, to any place, or change its flags. */
static void change_slot(struct walk *walk, const struct node *from, unsigned index)
{
	uint16_t old = from->table.slot[index];
	struct piece slot = unpack(old);

	go_on(walk, from, index, 0, ZAP + 1);
	go_on(walk, from, index, old ^ LOG_BIT, 1);
	for (slot.gpa = 0; slot.gpa + slot.npages <= GPAS; slot.gpa++) {
		uint16_t moved = pack(&slot);

		if (overlaps_another(&from->table, index, &slot))
			continue;
		go_on(walk, from, index, moved, ZAP + 1);
		go_on(walk, from, index, moved ^ LOG_BIT, ZAP + 1);
	}
}

/* Make a slot of this place and size, of any memory. */
static void create_slot(struct walk *walk, const struct node *from, struct piece slot)
{
	if (from->table.slot[TABLE - 1] || overlaps_another(&from->table, TABLE, &slot))
		return;
	for (slot.block = 0; slot.block < 2; slot.block++) {
		for (slot.page = 0; slot.page < 16; slot.page++) {
			for (uint16_t flags = 0; flags <= (RO_BIT | LOG_BIT); flags++)
				go_on(walk, from, TABLE - 1, pack(&slot) ^ flags, 1);
		}
	}
}

static void try_all(struct walk *walk, struct node from)
{
	struct piece slot = {0};

	for (unsigned i = 0; i < TABLE && from.table.slot[i]; i++)
		change_slot(walk, &from, i);
	for (slot.gpa = 0; slot.gpa < GPAS; slot.gpa++) {
		for (slot.npages = 1; slot.npages <= 8 && slot.gpa + slot.npages <= GPAS;
		     slot.npages++)
			create_slot(walk, &from, slot);
	}
}

/* The first goal, by cost. */
static bool walk_on(struct walk *walk, unsigned *ret)
{
	for (unsigned cost = 0; cost <= walk->limit; cost++) {
		while (walk->lists[cost]) {
			unsigned index = walk->lists[cost];
			const struct node *node = &walk->nodes[index];

			walk->lists[cost] = node->next;
			if (*find_best(walk, &node->table) != index)
				continue;
			*ret = node->cost;
			if (is_goal(walk, &node->table))
				return true;
			try_all(walk, *node);
		}
	}
	return false;
}

bool search_operations(const struct puzzle *puzzle, struct cost limit, struct cost *ret)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	struct table start = {0};
	unsigned cost = 0;
	bool found;

	if (!walk)
		abort();
	walk->nodes = calloc(HASH / 2, sizeof(*walk->nodes));
	if (!walk->nodes)
		abort();
	walk->puzzle = puzzle;
	walk->limit = limit.zaps * ZAP + limit.ioctls;
	walk->nnodes = 1;
	for (unsigned i = 0; i < puzzle->nhave; i++)
		start = with(start, TABLE - 1, pack(&puzzle->have[i]));
	if (rest_of(walk, &start) <= walk->limit)
		reach(walk, &start, 0, rest_of(walk, &start));
	found = walk_on(walk, &cost);
	if (found)
		*ret = (struct cost){cost / ZAP, cost % ZAP};
	free(walk->nodes);
	free(walk);
	return found;
}

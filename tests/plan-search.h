/* SPDX-License-Identifier: MIT */
/* The cheapest way from some slots to others, by search: see plan-search.c. */
#ifndef PLAN_SEARCH_H
#define PLAN_SEARCH_H

#include <stdbool.h>

/* A slot, or a mapping that is wanted, in pages. */
struct piece {
	unsigned gpa;
	unsigned npages;
	unsigned block; /* of host memory */
	unsigned page;  /* of the block */
	bool ro;
	bool log;
};

enum { MAX_HAVE = 4, MAX_WANT = 8 };

/* One space. Both are sorted by gpa, and disjoint. */
struct puzzle {
	struct piece have[MAX_HAVE];
	unsigned nhave;
	struct piece want[MAX_WANT];
	unsigned nwant;
	bool cut; /* a wanted mapping may be several slots; else it is one */
};

/* What counts, the first first. */
struct cost {
	unsigned zaps;   /* deletions and moves */
	unsigned ioctls; /* these, creations and changes of flags */
};

/* The least there is. */
struct cost search_plans(const struct puzzle *puzzle);

/*
 * Whether any sequence at all of KVM's operations that costs no more than *limit* ends with what is
 * wanted; if so, the least. For puzzles below page 10 of the guest and page 16 of blocks 0 and 1,
 * of pieces up to 8 pages; small ones: it takes its time.
 */
bool search_operations(const struct puzzle *puzzle, struct cost limit, struct cost *ret);

#endif

/* SPDX-License-Identifier: MIT */
/* Which slots move, and in which order: see moves.c. */
#ifndef KAS_MOVES_H
#define KAS_MOVES_H

#include "slots.h"

#define KAS_NO_GAP SIZE_MAX

/* A slot that cannot stay where it is: it moves into a gap, or it is deleted. */
struct mover {
	const struct slot_entry *entry;
	size_t gap;      /* where it moves to; KAS_NO_GAP: it is deleted */
	uint64_t target; /* the gpa there */

	/* While they are put in order: */
	bool dropped; /* it could move there, but for a cycle */
	size_t waits; /* movers in its way */
	size_t seen;  /* the search that came here last */
};

/* Something wanted that no slot shows. */
struct gap {
	struct kvmas_slot slot;
	bool filled; /* by slots that move: nothing is to be created */
};

struct moves {
	struct kvmas *kvmas;
	struct mover *movers; /* by gpa */
	size_t nmovers;
	struct gap *gaps; /* by gpa */
	size_t ngaps;
	bool cut; /* several slots may fill a gap */

	/* The answer: those that move, in this order, once the others are deleted. */
	struct mover **order;
	size_t norder;

	/* For moves.c alone. */
	struct mover **by_content;
	size_t *next; /* by_content: the index of who is free, there or behind */
	size_t *tiles;

	/* For order.c alone. */
	struct mover **by_target;
	size_t ntargets;
	struct mover **path;
	size_t searches;
};

/* Fill as many gaps as possible by moving slots. Movers come with gap == KAS_NO_GAP. -ENOMEM. Free
 * with kas_moves_fini. */
int kas_moves_find(struct moves *moves);
void kas_moves_fini(struct moves *moves);

#endif

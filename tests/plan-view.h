/* SPDX-License-Identifier: MIT */
/* Random slots, and what is wanted in their place, for the planner: see plan-view.c. */
#ifndef PLAN_VIEW_H
#define PLAN_VIEW_H

#include "planner.h"

enum { MAX_RANGES = 500 };

/* What a view shows, in pages, of which the first *gap* are not its. */
struct view_range {
	unsigned gap;
	unsigned npages;
	unsigned page; /* of block a */
	uint32_t flags;
};

struct plan_view {
	struct view_range ranges[2 * MAX_RANGES];
	size_t count;
};

struct plan_round {
	struct planner *p;
	struct dice dice;
	struct plan_view view[PLAN_SPACES];
	unsigned next_page; /* of the block, that nothing shows yet */
};

/* Give all spaces of the planner slots, *nranges* in all, and something that is wanted. */
void roll_plan_round(struct plan_round *round, size_t nranges);

#endif

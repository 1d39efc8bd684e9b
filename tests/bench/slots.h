/* SPDX-License-Identifier: MIT */
/* What `kvmas-bench slots` finds out, what it must be, and how it is told. See slots.c. */
#ifndef SLOTS_H
#define SLOTS_H

#include <stdio.h>

#include "pair.h"
#include "stats.h"

enum { SLOTS_1, SLOTS_100, SLOTS_10000, NSLOTS_SIZES };

extern const unsigned slots_sizes[NSLOTS_SIZES];

struct slots_cell {
	struct summary library; /* whole transactions */
	struct summary bare;    /* the same without a KVM: no planning, no applying */
	struct summary raw;     /* the ioctls that were issued */
	/* To the ioctls: medians of the rounds' ratios. */
	double whole; /* library / raw */
	double ratio; /* planning and applying, ioctls included: (library - bare) / raw */
};

struct slots_results {
	struct budget budget;
	struct slots_cell cells[NSLOTS_SIZES][NWORKS];
};

/* Print each ratio that is too high, and how many are not; tell how many are. */
unsigned slots_check(FILE *stream, const struct slots_results *results);

void slots_print_table(FILE *stream, const struct slots_results *results);
void slots_print_csv(FILE *stream, const struct slots_results *results);

#endif

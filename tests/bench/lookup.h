/* SPDX-License-Identifier: MIT */
/* What `kvmas-bench lookup` finds out, what it must be, and how it is told. See lookup.c. */
#ifndef LOOKUP_H
#define LOOKUP_H

#include <stdio.h>

#include "field.h"

enum { LOOKUP_10, LOOKUP_100, LOOKUP_1000, LOOKUP_10000, LOOKUP_NSIZES };
extern const unsigned lookup_sizes[LOOKUP_NSIZES];

/* One size, one pattern, one thread: medians of the rounds. */
struct lookup_cell {
	double ns[NWAYS];      /* of one lookup */
	double times_held;     /* as fast as vm-memory, in a view, or snapshot, that is held */
	double times_each;     /* in one of its own for each lookup */
	double times_array[2]; /* as fast as a binary search of an array, likewise */
};

/* One size, a second thread: medians of the rounds. */
struct lookup_company {
	double one_space, two_spaces; /* ns of one of a thread's lookups */
	double scaling;               /* the throughput of the former, by that of the latter */
	double committing, busy;      /* ns, beside a thread that commits, there or elsewhere */
	double slowdown;
	double commits; /* of that thread, a second */
};

struct lookup_results {
	unsigned rounds;
	bool vm_memory; /* it was there */
	struct lookup_cell cells[LOOKUP_NSIZES][NPATTERNS];
	struct lookup_company company[LOOKUP_NSIZES];
};

/* Measure that. The fields are alike, and of kvmas objects of their own. */
void lookup_measure_company(struct lookup_company *company, struct field *field,
			    struct field *elsewhere, unsigned rounds);

void lookup_print_table(FILE *stream, const struct lookup_results *results);
void lookup_print_csv(FILE *stream, const struct lookup_results *results);

/* Print each limit that does not hold, and how many there were; tell how many do not hold. */
unsigned lookup_check(FILE *stream, const struct lookup_results *results);

#endif

/* SPDX-License-Identifier: MIT */
/* What `kvmas-bench dirty` finds out, what it must be, and how it is told. See dirty.c. */
#ifndef DIRTY_H
#define DIRTY_H

#include <stdbool.h>
#include <stdio.h>

#include <kvmas.h>

#include "stats.h"

enum dirty_group {
	DIRTY_CYCLES,  /* sync, take, watch again: beside a VMM without the library */
	DIRTY_SYNCS,   /* what one more client adds to a sync: beside the OR that it takes */
	DIRTY_CLIENTS, /* what it adds in all, by its own take as well: beside the same */
	DIRTY_SPACES,  /* what an idle second space adds: beside its logs' ioctls */
	NDIRTY_GROUPS,
};

/* One figure. */
struct dirty_line {
	enum dirty_group group;
	enum kvmas_kvm_log log;
	char what[32];
	bool measured;                  /* else this KVM cannot do it */
	struct summary library, beside; /* times */
	double ratio;                   /* of the two, round by round */
	unsigned calls, beside_calls;   /* ioctls about dirty pages, in one round */
};

enum { MAX_DIRTY_LINES = 64 };

struct dirty_results {
	struct budget budget;
	double mib; /* of RAM */
	struct dirty_line lines[MAX_DIRTY_LINES];
	unsigned count;
};

/* What a group's ratios may be at most. */
double dirty_limit(enum dirty_group group);

/* Print each line that costs too much, and how many do not; tell how many do. */
unsigned dirty_check(FILE *stream, const struct dirty_results *results);

void dirty_print_table(FILE *stream, const struct dirty_results *results);
void dirty_print_csv(FILE *stream, const struct dirty_results *results);

#endif

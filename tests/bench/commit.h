/* SPDX-License-Identifier: MIT */
/* What `kvmas-bench commit` finds out, what it must be, and how it is told. See commit.c. */
#ifndef COMMIT_H
#define COMMIT_H

#include <stdio.h>

#include "channels.h"
#include "footprint.h"
#include "move.h"

/* The trees that are measured, and by whom they are shown. */
enum { SIZE_10, SIZE_100, SIZE_1000, SIZE_10000, NSIZES };
enum { GROUP_1, GROUP_TIED, GROUP_2, GROUP_17, NGROUPS };

extern const unsigned commit_sizes[NSIZES];
extern const struct commit_group {
	const char *name;
	unsigned nspaces;
	bool tied;
} commit_groups[NGROUPS];

struct commit_cell {
	struct cost moves[NMOVES];
	struct summary full; /* the full renderer, of all spaces */
};

struct commit_results {
	struct budget budget;
	double clock; /* microseconds to read it */
	struct commit_cell cells[NGROUPS][NSIZES];
	struct footprint footprints[NSIZES];
	struct growth growth;
	struct channel_costs channels;
};

void commit_print_table(FILE *stream, const struct commit_results *results);
void commit_print_csv(FILE *stream, const struct commit_results *results);

/* Calls of the realloc hook by commits that changed nothing visible, and how many commits. */
uint64_t commit_idle_calls(const struct commit_results *results, uint64_t *ret_commits);

/* Which limits are meant: those on memory are the same on any machine. */
enum commit_limits {
	COMMIT_LIMITS_NONE,
	COMMIT_LIMITS_MEMORY,
	COMMIT_LIMITS_ALL,
};

/* Print each limit that does not hold, and how many there were; tell how many do not hold. */
unsigned commit_check(FILE *stream, const struct commit_results *results,
		      enum commit_limits limits);

#endif

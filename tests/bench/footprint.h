/* SPDX-License-Identifier: MIT */
/* The memory that the library holds. See footprint.c. */
#ifndef FOOTPRINT_H
#define FOOTPRINT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes for one more of each. */
struct footprint {
	double region; /* in the tree */
	double range;  /* of a view: when first rendered, or after many moves if that is more */
};

/* For a tree of *ndevices*, at least 2. */
struct footprint footprint_measure(unsigned ndevices);

/* Bytes held. */
struct growth {
	uint64_t commits;
	size_t early; /* after the first EARLY_COMMITS */
	size_t late;  /* after all */
	size_t peak;  /* the most in between */
};

enum { EARLY_COMMITS = 1000 };

/* Of a mix of moves; at least EARLY_COMMITS. */
struct growth growth_measure(unsigned ndevices, uint64_t commits);

#endif

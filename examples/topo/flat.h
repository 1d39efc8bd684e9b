/* SPDX-License-Identifier: MIT */
/* The views of a machine's spaces, equal ones taken together: what a .flat file says. */
#ifndef FLAT_H
#define FLAT_H

#include "live.h"

struct flat_range {
	uint64_t first;
	uint64_t last;
	const char *kind; /* a word of the format */
	bool nonvolatile;
	const struct topo_region *region;
	uint64_t offset; /* in region, of first */
};

struct flat_view {
	struct flat_range *ranges;
	size_t count;
	uint64_t hash;
};

struct flat {
	struct flat_view *views; /* by first use */
	size_t nviews;
	size_t *view_of; /* which one each space of the topo has */
	size_t nspaces;
};

/* Take down what the spaces show since the last step. 0 or a negative errno; flat_fini is owed in
 * any case. The machine's topo must live as long as the result. */
int flat_take(struct flat *flat, const struct live *live);

void flat_fini(struct flat *flat);

#endif

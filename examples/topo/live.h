/* SPDX-License-Identifier: MIT */
/* A machine that runs: regions and spaces of the library, brought from one file's state to the
 * next's. */
#ifndef LIVE_H
#define LIVE_H

#include "topo.h"

/* What stands for a region of the files, as long as its id stays. A region's opaque pointer. */
struct live_region {
	struct kvmas_region *region;
	const struct topo_region *now;  /* what the last step made of it; NULL before its first */
	const struct topo_region *next; /* what this step makes of it; NULL: it goes */
	uint64_t placed;                /* when it was last put on top of its equals */
	TAILQ_ENTRY(live_region) all;
};

struct live {
	struct kvmas *kvmas;
	struct kvmas_ram *block;      /* behind all RAM */
	struct kvmas_region *parking; /* where aliases point while their targets change */
	struct kvmas_reader *reader;
	const struct topo *now; /* the last step; NULL before the first */
	TAILQ_HEAD(, live_region) regions;
	uint64_t clock; /* counts placings */
};

/* Begin with a machine that has nothing. Caps as in struct kvmas_config; max_regions is that of one
 * file. 0 or a negative errno; then, too, live_fini is owed. */
int live_init(struct live *live, uint64_t max_regions, uint64_t max_ranges, uint64_t max_nodes);

void live_fini(struct live *live);

/*
 * Bring the machine to the state of a file in one transaction: a region whose id stays is changed,
 * never made anew. A topo can be used for one step only, and must live until the one after it
 * has been taken, or the machine has ended.
 *
 * 0; or a negative errno, with the fault set: the machine can then only be ended.
 */
int live_step(struct live *live, struct topo *next, struct fault *fault);

#endif

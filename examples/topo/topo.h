/* SPDX-License-Identifier: MIT */
/*
 * A .topo file in memory (tests/corpus/FORMAT.md has the format): regions, the places that they
 * have in others, and address spaces. What it says, not what the library made of it.
 */
#ifndef TOPO_H
#define TOPO_H

#include <kvmas.h>
#include <sys/queue.h>

#include "fault.h"

struct live_region;

/* Of all regions, of those that are placed, and of the children of one. */
TAILQ_HEAD(topo_regions, topo_region);
TAILQ_HEAD(topo_spaces, topo_space);

struct topo_region {
	uint32_t id; /* first: the lookup compares pointers to it */
	enum kvmas_region_kind kind;
	uint64_t size; /* KVMAS_SIZE_MAX for 2^64 */
	bool enabled;
	bool readonly;
	bool nonvolatile;
	bool switches;              /* MMIO here, and a ROM device in another file of the series */
	struct topo_region *target; /* alias: the region shown, else NULL */
	uint64_t target_offset;
	bool in_circle; /* links down from it may lead back to it: see topo_find_circles */
	struct topo_region *parent; /* NULL: in no container */
	uint64_t offset;            /* in parent, as is priority */
	int priority;
	TAILQ_ENTRY(topo_region) all;
	TAILQ_ENTRY(topo_region) place;
	TAILQ_ENTRY(topo_region) sibling;
	struct topo_regions children; /* in the order of adding */
	size_t nchildren;
	size_t nlinks;               /* from above, of those that may be in a circle */
	struct topo_region *no_link; /* the next one that has none (topo_find_circles) */
	unsigned long line;          /* of `region` */
	unsigned long place_line;    /* of the `sub` that placed it */
	struct live_region *live;    /* what stands for it in the library (live.c) */
	uint64_t newest;             /* of the children placed so far (live.c) */
	const char *name;            /* behind the struct, in the same allocation */
};

struct topo_space {
	uint32_t id; /* first, as above */
	struct topo_region *root;
	unsigned long line;
	TAILQ_ENTRY(topo_space) all;
	struct kvmas_space *space; /* live.c */
	const char *name;          /* behind the struct, in the same allocation */
};

struct topo {
	struct topo_regions regions; /* in the order of the file */
	struct topo_regions placed;  /* in the order of their `sub` lines */
	struct topo_spaces spaces;   /* in the order of the file */
	uint64_t nregions;
	uint64_t nspaces;
	unsigned long end_line;
	void *regions_by_id; /* of tsearch(3) */
	void *spaces_by_id;
};

/* What a file may hold. */
struct topo_limits {
	uint64_t max_regions;
	uint64_t max_spaces;
};

/* Read a file. 0; or a negative errno, with the fault set. */
int topo_read(FILE *stream, const struct topo_limits *limits, struct topo **ret,
	      struct fault *fault);

struct topo *topo_new(void);

/* NULL is ignored. */
void topo_free(struct topo *topo);

/* NULL where there is none of this id. */
struct topo_region *topo_find_region(const struct topo *topo, uint32_t id);
struct topo_space *topo_find_space(const struct topo *topo, uint32_t id);

/* Make a region or a space, with its id and name, and add it at the end. NULL without memory. */
struct topo_region *topo_add_region(struct topo *topo, uint32_t id, const char *name);
struct topo_space *topo_add_space(struct topo *topo, uint32_t id, const char *name);

/* Put a child into its parent, after the other children. */
void topo_place(struct topo *topo, struct topo_region *parent, struct topo_region *child);

/* Set in_circle of all regions through which a circle of links leads, from containers to children
 * and from aliases to targets, and of some below these: of none if there is no circle. Once only,
 * when all is placed. */
void topo_find_circles(struct topo *topo);

/* Find the regions that change between MMIO and ROM device in a series: they are ROM devices in all
 * of its files. 0 or -ENOMEM. */
int topo_find_switching(struct topo *const *series, size_t n);

/* The word of the format for a kind. */
const char *topo_kind_name(enum kvmas_region_kind kind);

/* The kind of this word; a negative errno if it is none. */
int topo_kind_find(const char *word);

/* A region's last byte, which is size - 1 in every case. */
static inline uint64_t topo_region_last(const struct topo_region *region)
{
	return region->size == KVMAS_SIZE_MAX ? UINT64_MAX : region->size - 1;
}

#endif

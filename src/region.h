/* SPDX-License-Identifier: MIT */
/* The region tree, as data: see region.c. Who changes it does so through edit.c. */
#ifndef KAS_REGION_H
#define KAS_REGION_H

#include "object.h"
#include "ram.h"
#include "range.h"

/* Attributes, as bits. */
enum {
	ATTR_READONLY = 1u << 0,
	ATTR_NONVOLATILE = 1u << 1,
	ATTR_UNMERGEABLE = 1u << 2,
	ATTRS_FLOWING = 7u,  /* those above: they flow down to all that is seen through a region */
	ATTR_ROMD = 1u << 3, /* a ROM device in its readable state */
};

/* All of a region that can change, so that one saved copy undoes any edit. */
struct region_state {
	uint64_t last;   /* of its own bytes: size - 1 */
	uint64_t offset; /* in the parent */
	int priority;
	bool enabled;
	unsigned attrs;
	struct kvmas_region *target; /* alias: held */
	uint64_t target_offset;
	struct kvmas_region *parent; /* not held: the parent holds its children */
};

struct kvmas_region {
	struct object object;
	enum kvmas_region_kind kind;
	char *name;
	struct kvmas_ram *ram; /* held */
	uint64_t ram_offset;
	struct ram_user ram_user; /* of ram, until the region's end */
	struct kvmas_ops ops;     /* a copy; what its caller did not know is NULL */
	void *opaque;
	void (*destroy)(void *opaque);

	struct region_state state;
	TAILQ_HEAD(region_list, kvmas_region) children; /* topmost first */
	TAILQ_ENTRY(kvmas_region) sibling;
	TAILQ_ENTRY(kvmas_region) all;

	struct kvmas_region *next_visit; /* kas_region_reaches */
	uint64_t visited;
};

/* Whether *to* is *from*, or is seen below it through children and aliases. The transaction lock
 * is held. Cost: each region below *from* once. */
bool kas_region_reaches(struct kvmas_region *from, const struct kvmas_region *to);

/* Put a region into a container by its state's offset and priority, on top of its equals; or right
 * above a sibling. Takes no reference. */
void kas_region_link(struct kvmas_region *region, struct kvmas_region *parent);
void kas_region_link_above(struct kvmas_region *region, struct kvmas_region *parent,
			   struct kvmas_region *below);
void kas_region_unlink(struct kvmas_region *region);

/* Whether a region of this many bytes fits its block; true for kinds without one. */
bool kas_region_fits(const struct kvmas_region *region, uint64_t last);

#endif

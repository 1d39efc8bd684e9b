/* SPDX-License-Identifier: MIT */
/* The region tree, as data: see region.c. Who changes it does so through edit.c. */
#ifndef KAS_REGION_H
#define KAS_REGION_H

#include "object.h"
#include "ram.h"
#include "range.h"

struct channels;
struct root;

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
	uint64_t place; /* in the parent: larger when added later, so on top among equals */
};

/* Where a child hangs in its parent's tree: children.c. */
struct child_node {
	struct kvmas_region *up;
	struct kvmas_region *left;
	struct kvmas_region *right;
	uint64_t end;
	uint64_t weight;
};

struct kvmas_region {
	struct object object;
	enum kvmas_region_kind kind;
	char *name;
	struct kvmas_ram *ram; /* held */
	uint64_t ram_offset;
	struct ram_user ram_user; /* of ram, until the region's end */
	struct kvmas_ops ops;     /* a copy, settled; what its caller did not know is NULL */
	void *opaque;
	const void *guard; /* NULL: none */
	void (*destroy)(void *opaque);

	struct region_state state;
	_Atomic(uint64_t) last;        /* that of state, for those without the transaction lock */
	struct kvmas_region *children; /* the top of their tree */
	struct child_node node;
	LIST_HEAD(, kvmas_region) aliases; /* those that show this one; not held */
	LIST_ENTRY(kvmas_region) alias;
	TAILQ_ENTRY(kvmas_region) all;
	struct root *root; /* of the spaces whose root this is; NULL if there are none */
	uint64_t shown;    /* ranges in pages of views; while there are any, they hold it once */

	struct channels *channels;  /* of the transaction that is open: held; NULL: none */
	struct published answering; /* the same, as dispatch sees them */
	TAILQ_ENTRY(kvmas_region) channelled;
	bool is_channelled; /* edited in this transaction, and so on the list */

	struct kvmas_region *next_visit; /* walks upwards: kas_region_visit_above */
	uint64_t visited;
	bool on_path; /* kas_loop_check */
};

/* Whether links lead down from one region to another, through children and aliases, whatever their
 * windows show: in no step, if the two are one. The transaction lock is held. Cost: each region
 * above *to* once. */
bool kas_region_reaches(const struct kvmas_region *from, struct kvmas_region *to);
/* Whether links lead from a region back to it. */
bool kas_region_is_in_circle(struct kvmas_region *region);

/* Put what is one step above a region, its container and aliases, on the list of a walk, but for
 * what that has seen. A walk is a number of its own, from txn.walks. */
void kas_region_visit_above(struct kvmas_region *region, uint64_t walk, struct kvmas_region **list);

/* Put a region into a state, and where that says, among its siblings and its target's aliases.
 * Takes no reference. */
void kas_region_put(struct kvmas_region *region, const struct region_state *state);

/* Whether a region of this many bytes fits its block; true for kinds without one. */
bool kas_region_fits(const struct kvmas_region *region, uint64_t last);

#endif

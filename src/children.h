/* SPDX-License-Identifier: MIT */
/* The children of a container, found by address: see children.c. */
#ifndef KAS_CHILDREN_H
#define KAS_CHILDREN_H

#include "region.h"

/* Put a region among its parent's children, or take it out, by its state: offset, last and place.
 * Neither allocates. */
void kas_children_insert(struct kvmas_region *child);
void kas_children_remove(struct kvmas_region *child);

/* A child's last has changed. */
void kas_children_resized(struct kvmas_region *child);

/* The first child, by offset, of those with a byte in *window* (the parent's bytes), and the one
 * after it; NULL if there is none. */
struct kvmas_region *kas_children_first(const struct kvmas_region *parent, struct range window);
struct kvmas_region *kas_children_next(const struct kvmas_region *child, struct range window);

/* A child's extent in its parent's bytes; what would lie past 2^64 is cut off. */
static inline struct range kas_child_extent(const struct region_state *state)
{
	return (struct range){state->offset, kas_add_saturating(state->offset, state->last)};
}

#endif

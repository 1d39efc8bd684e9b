/* SPDX-License-Identifier: MIT */
/* Painting a tree flat: see render.c. */
#ifndef KAS_RENDER_H
#define KAS_RENDER_H

#include "range.h"
#include "region.h"

/* One range of a flat rendering. */
struct flat_range {
	struct range range;
	struct kvmas_region *region; /* who answers: no container, no alias */
	uint64_t offset;             /* in region, at range.first */
	bool readonly;
};

/* Sorted, disjoint ranges, merged where they continue each other. */
struct flat {
	struct flat_range *ranges;
	size_t count;
	size_t capacity;
	size_t gap; /* while painting: where the free room is; afterwards at the end */
};

/*
 * Render the tree below *root*, its byte 0 at address 0. The transaction lock is held; regions are
 * not referenced. -ENOMEM; -E2BIG past the caps of the kvmas_config, or when nested too deep.
 * Free with kas_flat_fini, also after an error.
 */
int kas_render(struct kvmas_region *root, struct flat *flat);
void kas_flat_fini(struct kvmas *kvmas, struct flat *flat);

#endif

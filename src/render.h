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
	unsigned attrs;
};

/* The block that reads of a range reach; NULL for a device. */
static inline struct kvmas_ram *kas_range_ram(const struct flat_range *range)
{
	if (range->region->kind == KVMAS_REGION_ROMD && !(range->attrs & ATTR_ROMD))
		return NULL;
	return range->region->ram;
}

/* Whether a guest's writes reach that block. */
static inline bool kas_range_is_writable(const struct flat_range *range)
{
	return kas_range_ram(range) && !(range->attrs & (ATTR_READONLY | ATTR_ROMD));
}

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

/* SPDX-License-Identifier: MIT */
/* Painting a part of a tree flat: see render.c. */
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

/* Whether *after* lies right behind *before*, goes on where that ends, and looks alike. */
static inline bool kas_range_goes_on(const struct flat_range *before,
				     const struct flat_range *after)
{
	uint64_t length = after->range.first - before->range.first;

	return before->range.last + 1 == after->range.first && before->region == after->region &&
	       before->offset + length == after->offset && before->attrs == after->attrs;
}

/* What is painted: sorted, disjoint pieces. Those that go on from each other are mostly joined, and
 * unmergeable ones never. */
struct canvas {
	struct kvmas *kvmas;
	size_t count;
	size_t gap;     /* while painting: where the free room is */
	uint64_t nodes; /* visited so far, over all windows */
};

/*
 * Paint what *root*, its byte 0 at address 0, shows in *window*, on an empty canvas. The
 * transaction lock is held; regions are not referenced. -ENOMEM; -E2BIG past the caps of the
 * kvmas_config.
 */
int kas_render(struct kvmas_region *root, struct range window, struct canvas *canvas);

/* What has been painted, until the next painting. */
const struct flat_range *kas_canvas_ranges(const struct canvas *canvas);

#endif

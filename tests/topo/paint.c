/* SPDX-License-Identifier: MIT */
/*
 * The painter that the tests believe: it shares no line with the library, works on the file alone,
 * counts in 128 bits so that nothing wraps, and looks for every address range through all that was
 * painted before. It is slow, and that is all right.
 *
 * Loops are found by painting, too: all that an alias would show, were nothing disabled.
 *
 * Read paint first.
 */
#include "paint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANGES 4096
#define MAX_STEPS 100000
#define MAX_DEPTH 4096

typedef __int128 wide;

struct canvas {
	struct flat_range *ranges; /* sorted, disjoint; NULL: only loops are looked for */
	size_t count;
	unsigned steps;
	unsigned depth;
};

/* An alias that is looked through, and the one through which that is seen. */
struct path {
	const struct topo_region *alias;
	const struct path *up;
};

/* How a region is looked at: where its byte 0 falls, through which addresses and aliases, with what
 * flags. */
struct look {
	wide origin;
	wide first;
	wide last;
	const struct path *path;
	bool readonly;
	bool nonvolatile;
};

static int insert(struct canvas *canvas, size_t at, const struct flat_range *range)
{
	if (canvas->count == MAX_RANGES)
		return -E2BIG;
	memmove(canvas->ranges + at + 1, canvas->ranges + at,
		(canvas->count - at) * sizeof(*canvas->ranges));
	canvas->ranges[at] = *range;
	canvas->count++;
	return 0;
}

static bool is_on(const struct path *path, const struct topo_region *alias)
{
	while (path && path->alias != alias)
		path = path->up;
	return path;
}

/* Step 5: give a region what nobody has got yet, gap by gap. */
static int fill(struct canvas *canvas, const struct topo_region *region, const struct look *look)
{
	struct flat_range range = {
		.kind = topo_kind_name(look->readonly ? KVMAS_REGION_ROM : region->kind),
		.nonvolatile = look->nonvolatile,
		.region = region,
	};
	wide at = look->first;
	int err = 0;

	for (size_t i = 0; !err && at <= look->last; i++) {
		bool end = i == canvas->count;
		wide next = end ? look->last + 1 : (wide)canvas->ranges[i].first;
		wide after = end ? next : (wide)canvas->ranges[i].last + 1;

		if (after <= at && !end)
			continue;
		if (next > look->last + 1)
			next = look->last + 1;
		if (at < next) {
			range.first = (uint64_t)at;
			range.last = (uint64_t)(next - 1);
			range.offset = (uint64_t)(at - look->origin);
			err = insert(canvas, i, &range);
			at = next;
		} else {
			at = after;
		}
	}
	return err;
}

static int paint(struct canvas *canvas, const struct topo_region *region, struct look look);

/* Step 4: by descending priority, among equals the last added first. */
static int paint_children(struct canvas *canvas, const struct topo_region *region,
			  const struct look *look)
{
	const struct topo_region *child;
	struct look inner = *look;
	wide priority, lower;
	int err = 0;

	for (priority = INT32_MAX; priority >= INT32_MIN; priority = lower) {
		lower = (wide)INT32_MIN - 1;
		TAILQ_FOREACH_REVERSE(child, &region->children, topo_regions, sibling) {
			if (child->priority < priority && child->priority > lower)
				lower = child->priority;
			if (child->priority != priority)
				continue;
			inner.origin = look->origin + child->offset;
			err = paint(canvas, child, inner);
			if (err)
				return err;
		}
	}
	return 0;
}

static int paint_inside(struct canvas *canvas, const struct topo_region *region,
			const struct look *look)
{
	const struct path path = {region, look->path};
	struct look inner = *look;
	int err;

	if (region->target) {
		if (is_on(look->path, region))
			return -ELOOP;
		inner.path = &path;
		inner.origin -= region->target_offset;
		return paint(canvas, region->target, inner);
	}
	err = paint_children(canvas, region, look);
	if (err || region->kind == KVMAS_REGION_CONTAINER || !canvas->ranges)
		return err;
	return fill(canvas, region, look);
}

static int paint(struct canvas *canvas, const struct topo_region *region, struct look look)
{
	wide last = look.origin + topo_region_last(region);
	int err;

	if (++canvas->steps > MAX_STEPS || canvas->depth > MAX_DEPTH)
		return -E2BIG;
	if (!region->enabled && canvas->ranges)
		return 0;
	if (look.first < look.origin)
		look.first = look.origin;
	if (look.last > last)
		look.last = last;
	if (look.first > look.last)
		return 0;
	look.readonly |= region->readonly;
	look.nonvolatile |= region->nonvolatile;
	canvas->depth++;
	err = paint_inside(canvas, region, &look);
	canvas->depth--;
	return err;
}

static bool goes_on(const struct flat_range *a, const struct flat_range *b)
{
	return a->last + 1 == b->first && a->region == b->region && a->kind == b->kind &&
	       a->nonvolatile == b->nonvolatile && a->offset + (b->first - a->first) == b->offset;
}

static void merge(struct canvas *canvas)
{
	size_t kept = 0;

	for (size_t i = 1; i < canvas->count; i++) {
		if (goes_on(&canvas->ranges[kept], &canvas->ranges[i]))
			canvas->ranges[kept].last = canvas->ranges[i].last;
		else
			canvas->ranges[++kept] = canvas->ranges[i];
	}
	if (canvas->count)
		canvas->count = kept + 1;
}

int paint_space(const struct topo_space *space, struct flat_view *ret)
{
	struct canvas canvas = {
		.ranges = calloc(MAX_RANGES, sizeof(*canvas.ranges)),
	};
	struct look look = {.last = UINT64_MAX};
	int err;

	if (!canvas.ranges)
		return -ENOMEM;
	err = paint(&canvas, space->root, look);
	if (err) {
		free(canvas.ranges);
		return err;
	}
	merge(&canvas);
	*ret = (struct flat_view){.ranges = canvas.ranges, .count = canvas.count};
	return 0;
}

/* Whether a region is in itself through containers alone. */
static bool is_in_itself(const struct topo *topo, const struct topo_region *region)
{
	uint64_t above = 0;

	while ((region = region->parent) && above <= topo->nregions)
		above++;
	return above > topo->nregions;
}

int paint_find_loop(const struct topo *topo)
{
	const struct topo_region *region;
	struct canvas none = {0};
	struct look whole = {0};
	int err = 0;

	TAILQ_FOREACH(region, &topo->regions, all)
		if (is_in_itself(topo, region))
			return -ELOOP;
	TAILQ_FOREACH(region, &topo->regions, all) {
		whole.last = topo_region_last(region);
		if (region->target)
			err = paint(&none, region, whole);
		if (err)
			return err;
	}
	return 0;
}

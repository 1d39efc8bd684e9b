/* SPDX-License-Identifier: MIT */
/*
 * Rendering: a tree of regions, painted flat.
 *
 * Painting goes from the top down: a region's children by descending priority, then the region
 * itself; the first to paint an address keeps it. Everything is painted through a window, in the
 * coordinates of the region at hand, so that cutting to a region's extent is one clip and an alias
 * only shifts:
 *
 *     parent     |-------[first .......... last]-----|       window, in the parent's bytes
 *     child            |-[0 ...............]---------|       minus the child's offset
 *     alias target  |....[+target_offset ...]........|       plus the target offset
 *
 * A window never wraps: it is clipped before it is shifted, and each shift keeps it inside 64 bits.
 * The address of byte x is x + delta modulo 2^64, where delta collects the shifts; it may pass
 * through "negative" values when the target's byte 0 would lie below address 0.
 *
 * Invariants:
 *   I1  the canvas is sorted and disjoint after every fill.
 *   I2  a window, once shifted to addresses, lies inside its parent's.
 *
 * Cost: each region once for every path to it that is not clipped away; each range of the result is
 * inserted into an array. Read paint first.
 */
#include "render.h"

#include <errno.h>
#include <string.h>

/* Far beyond any machine, and a depth at which the stack of a small thread still holds. */
#define MAX_DEPTH 512

struct canvas {
	struct kvmas *kvmas;
	struct flat *flat;
	uint64_t nodes;
};

/* How a region is being looked at. */
struct look {
	struct range window; /* in the region's bytes */
	uint64_t delta;      /* the address of byte x is x + delta, modulo 2^64 */
	unsigned attrs;      /* flowing down to here */
	unsigned depth;
};

/* The canvas is an array with a gap where the last range was inserted: neighbours are mostly
 * painted one after the other, upwards or downwards, and then little moves. */
static struct flat_range *range_at(const struct flat *flat, size_t index)
{
	return &flat->ranges[index < flat->gap ? index : index + (flat->capacity - flat->count)];
}

static void move_gap(struct flat *flat, size_t to)
{
	size_t free = flat->capacity - flat->count;
	struct flat_range *gap = flat->ranges + flat->gap;

	if (to < flat->gap)
		memmove(gap + free - (flat->gap - to), flat->ranges + to,
			(flat->gap - to) * sizeof(*gap));
	else
		memmove(gap, gap + free, (to - flat->gap) * sizeof(*gap));
	flat->gap = to;
}

/* The first range of the canvas that ends at *address* or after it. */
static size_t find(const struct flat *flat, uint64_t address)
{
	size_t low = 0;
	size_t high = flat->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (range_at(flat, middle)->range.last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert(struct canvas *canvas, size_t at, const struct flat_range *range)
{
	struct flat *flat = canvas->flat;
	void *ranges;

	if (flat->count >= canvas->kvmas->config.max_ranges)
		return -E2BIG;
	if (flat->count == flat->capacity)
		flat->gap = flat->count; /* new room comes at the end */
	ranges =
		kas_grow(canvas->kvmas, flat->ranges, flat->count, &flat->capacity, sizeof(*range));
	if (!ranges)
		return -ENOMEM;
	flat->ranges = ranges;
	move_gap(flat, at);
	flat->ranges[at] = *range;
	flat->count++;
	flat->gap++;
	return 0;
}

/* Give *piece* every address of its range that nobody has got yet. */
static int fill(struct canvas *canvas, const struct flat_range *piece)
{
	size_t at = find(canvas->flat, piece->range.first);
	uint64_t next = piece->range.first;

	for (;;) {
		const struct range *taken =
			at < canvas->flat->count ? &range_at(canvas->flat, at)->range : NULL;
		bool ends_here = !taken || taken->first > piece->range.last;

		if (ends_here || taken->first > next) {
			struct flat_range hole = *piece;
			int err;

			hole.range.first = next;
			hole.range.last = ends_here ? piece->range.last : taken->first - 1;
			hole.offset = piece->offset + (next - piece->range.first);
			err = insert(canvas, at, &hole);
			if (err || ends_here)
				return err;
			at++; /* past the hole, to what ended it */
		}
		if (range_at(canvas->flat, at)->range.last >= piece->range.last)
			return 0;
		next = range_at(canvas->flat, at)->range.last + 1;
		at++;
	}
}

static int paint(struct canvas *canvas, struct kvmas_region *region, struct look look);

static int paint_target(struct canvas *canvas, const struct kvmas_region *alias, struct look look)
{
	uint64_t shift = alias->state.target_offset;

	if (look.window.first + shift < shift)
		return 0; /* past the target's last possible byte */
	look.window.first += shift;
	look.window.last = kas_add_saturating(look.window.last, shift);
	look.delta -= shift;
	return paint(canvas, alias->state.target, look);
}

static int paint_children(struct canvas *canvas, const struct kvmas_region *region,
			  struct look look)
{
	struct kvmas_region *child;

	TAILQ_FOREACH(child, &region->children, sibling) {
		uint64_t offset = child->state.offset;
		struct look below = look;
		int err;

		if (!kas_range_clip(&below.window, (struct range){offset, UINT64_MAX}))
			continue;
		below.window.first -= offset;
		below.window.last -= offset;
		below.delta += offset;
		err = paint(canvas, child, below);
		if (err)
			return err;
	}
	return 0;
}

static int paint_self(struct canvas *canvas, struct kvmas_region *region, const struct look *look)
{
	struct flat_range piece = {
		.range = {look->window.first + look->delta, look->window.last + look->delta},
		.region = region,
		.offset = look->window.first,
		.attrs = look->attrs | (region->state.attrs & ATTR_ROMD),
	};

	return fill(canvas, &piece);
}

static int paint(struct canvas *canvas, struct kvmas_region *region, struct look look)
{
	int err;

	if (++canvas->nodes > canvas->kvmas->config.max_nodes || ++look.depth > MAX_DEPTH)
		return -E2BIG;
	if (!region->state.enabled ||
	    !kas_range_clip(&look.window, (struct range){0, region->state.last}))
		return 0;
	look.attrs |= region->state.attrs & ATTRS_FLOWING;
	if (region->kind == KVMAS_REGION_ALIAS)
		return paint_target(canvas, region, look);
	err = paint_children(canvas, region, look);
	if (err || region->kind == KVMAS_REGION_CONTAINER)
		return err;
	return paint_self(canvas, region, &look);
}

/* Whether *after* continues *before*: then they are one range, whichever way each was painted. */
static bool continues(const struct flat_range *before, const struct flat_range *after)
{
	uint64_t length = after->range.first - before->range.first;

	return before->range.last + 1 == after->range.first && before->region == after->region &&
	       before->offset + length == after->offset && before->attrs == after->attrs &&
	       !(before->attrs & ATTR_UNMERGEABLE);
}

static void merge(struct flat *flat)
{
	size_t kept = 0;

	if (flat->count == 0)
		return;
	move_gap(flat, flat->count);
	for (size_t i = 1; i < flat->count; i++) {
		if (continues(&flat->ranges[kept], &flat->ranges[i]))
			flat->ranges[kept].range.last = flat->ranges[i].range.last;
		else
			flat->ranges[++kept] = flat->ranges[i];
	}
	flat->count = kept + 1;
}

int kas_render(struct kvmas_region *root, struct flat *flat)
{
	struct canvas canvas = {.kvmas = root->object.kvmas, .flat = flat};
	struct look all = {.window = {0, UINT64_MAX}};
	int err = paint(&canvas, root, all);

	if (!err)
		merge(flat);
	return err;
}

void kas_flat_fini(struct kvmas *kvmas, struct flat *flat)
{
	kas_free(kvmas, flat->ranges);
	*flat = (struct flat){0};
}

/* SPDX-License-Identifier: MIT */
/*
 * Damage: a window in which something changes is carried up to the roots, through the container and
 * through every alias of each region on the way, cut at each step to what it enters.
 *
 *     [space root] <- [container] <- [alias of pci]
 *                                         |
 *          [space root "dma"] <-  ... <- [pci] <- [bridge] <- [bar: moves]
 *
 * Who changes something carries the window when the change can be seen: what a region leaves is
 * damaged before it leaves, what it comes to afterwards. Then each step may look at the tree as it
 * stands:
 *
 *   - it is cut to the extent of what it enters, and stops at what is disabled there: if that grows
 *     or is enabled later, this damages all that comes to be seen by it;
 *   - it is not cut to the region it starts from: that may just have shrunk, or been disabled.
 *
 * No region remembers that it has been visited: a note "this window is known above" would be wrong
 * as soon as something above changes. What keeps this short is that little lies above most regions.
 * Where a window would come out in very many places (aliases of aliases, doubled again and again)
 * all roots are damaged whole instead: that is never wrong, and what is too large to be rendered is
 * refused by the commit.
 *
 * The climb itself (kas_climb) serves whoever must know where something may be seen: a sync of one
 * region asks by it which logs have to be read.
 */
#include "damage.h"

#include <errno.h>

#include "children.h"

/* Where a window is to be carried from. */
struct spot {
	struct kvmas_region *region;
	struct range window;
};

struct climb {
	struct kvmas *kvmas;
	size_t count; /* spots yet to be visited */
	size_t visited;
};

/* Where a region is seen in more places than this, all that there is counts as damaged. */
#define MAX_SPOTS 65536

static struct spot *spots_of(const struct climb *climb)
{
	return climb->kvmas->txn.buffers[BUFFER_CLIMB].at;
}

static int push(struct climb *climb, const struct spot *spot)
{
	climb->visited++;
	if (!kas_buffer_grow(climb->kvmas, BUFFER_CLIMB, climb->count, sizeof(*spot)))
		return -ENOMEM;
	spots_of(climb)[climb->count++] = *spot;
	return 0;
}

/* Carry a spot into the region's container; false if nothing of it can be seen there. */
static bool enter_parent(struct spot *spot)
{
	uint64_t offset = spot->region->state.offset;
	struct kvmas_region *parent = spot->region->state.parent;

	if (!parent || !parent->state.enabled || spot->window.first + offset < offset)
		return false;
	spot->region = parent;
	spot->window.first += offset;
	spot->window.last = kas_add_saturating(spot->window.last, offset);
	return kas_range_clip(&spot->window, (struct range){0, parent->state.last});
}

static bool enter_alias(struct spot *spot, struct kvmas_region *alias)
{
	uint64_t shift = alias->state.target_offset;
	struct range shown = {shift, kas_add_saturating(shift, alias->state.last)};

	if (!alias->state.enabled || !kas_range_clip(&spot->window, shown))
		return false;
	spot->region = alias;
	spot->window.first -= shift;
	spot->window.last -= shift;
	return true;
}

static int push_aliases(struct climb *climb, const struct spot *spot)
{
	struct kvmas_region *alias;
	int err = 0;

	LIST_FOREACH(alias, &spot->region->aliases, alias) {
		struct spot above = *spot;

		if (!err && enter_alias(&above, alias))
			err = push(climb, &above);
	}
	return err;
}

static int reach_everything(struct kvmas *kvmas, kas_climb_fn *fn, void *data)
{
	struct kvmas_space *space;
	int result = 0;

	TAILQ_FOREACH(space, &kvmas->spaces, all) {
		if (space->root && !result)
			result = fn(data, space->root, (struct range){0, UINT64_MAX});
	}
	return result;
}

int kas_climb(struct kvmas_region *region, struct range window, kas_climb_fn *fn, void *data)
{
	struct climb climb = {.kvmas = region->object.kvmas};
	struct spot spot = {region, window};
	int result = 0;

	while (climb.visited <= MAX_SPOTS) {
		if (spot.region->root)
			result = fn(data, spot.region->root, spot.window);
		if (!result)
			result = push_aliases(&climb, &spot);
		if (result)
			return result;
		if (enter_parent(&spot))
			continue;
		if (climb.count == 0)
			return 0;
		spot = spots_of(&climb)[--climb.count];
	}
	return reach_everything(climb.kvmas, fn, data);
}

static int damage_root(void *data, struct root *root, struct range window)
{
	(void)data;
	kas_root_damage(root, window);
	return 0;
}

int kas_damage(struct kvmas_region *region, struct range window)
{
	return kas_climb(region, window, damage_root, NULL);
}

int kas_damage_place(struct kvmas_region *region)
{
	struct spot spot = {region, {0, region->state.last}};

	return enter_parent(&spot) ? kas_damage(spot.region, spot.window) : 0;
}

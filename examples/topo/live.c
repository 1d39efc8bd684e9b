/* SPDX-License-Identifier: MIT */
/*
 * The running machine: reaching a state from the one before it, by mutators on the live tree. The
 * first step begins with nothing, so that loading a file is a step like others.
 *
 * Between two steps anything may have changed, and the library refuses loops and second parents at
 * every call, not only at the commit. A step therefore takes out and lets go before it adds:
 *
 *     match     regions by id; those that are new are made
 *     take out  what goes, changes its container or, in a circle, its place
 *     park      aliases whose target changes or, in a circle, whose window does
 *     shrink    what becomes smaller, in a circle
 *     set       attributes and sizes
 *     aim       aliases at their targets
 *     place     regions in containers, from the lowest sibling up
 *     show      new spaces
 *
 * So the tree is part of the old one up to shrinking, and of the new one from then on, and no part
 * of a tree has a loop that the whole has not. In a circle of links, which is legal while no window
 * leads all around it, this goes for windows and places too: an alias of its own container may move
 * to where its window was. What is in no circle moves, and is aimed, in place.
 *
 * Siblings of equal priority lie on top of each other in the order of placing, and a region that
 * moves ends on top. One that did not move is placed again only where it must be: if a sibling
 * that belongs below it, and overlaps it, was placed later. So a BAR that moves is one
 * kvmas_region_set_offset, and not the placing of all its siblings.
 *
 * Memory: RAM is never touched here, so none is needed. See make_block.
 *
 * Invariants, between two steps:
 *   I1  each region of the last topo has its live region, and no other live region exists.
 *   I2  where two siblings of one priority overlap, `placed` is higher for the one that comes
 *       later in the file.
 *
 * Read live_step first.
 */
#include "live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* From here on, siblings are not searched for overlaps, but placed again at once. */
#define MANY_SIBLINGS 4096

/*
 * One block for all RAM, of the largest size that there can be, at addresses where nothing is
 * mapped. A block of the caller's memory (KVMAS_RAM_CALLER) is neither mapped nor touched by the
 * library, and no vCPU runs here that would: the addresses are only counted with.
 */
static int make_block(struct live *live)
{
	uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
	uint64_t size = INT64_MAX & ~((uint64_t)page_size - 1);

	return kvmas_ram_new(live->kvmas,
			     KVMAS_CONFIG(ram, .name = "ram", .size = size,
					  .source = KVMAS_RAM_CALLER, .hva = (void *)page_size),
			     &live->block);
}

/* During a step there are the regions of two files, and the parking. */
static uint64_t regions_at_once(uint64_t max_regions)
{
	return max_regions < UINT64_MAX / 2 ? 2 * max_regions + 1 : UINT64_MAX;
}

int live_init(struct live *live, uint64_t max_regions, uint64_t max_ranges, uint64_t max_nodes)
{
	const struct kvmas_config config = {
		.struct_size = sizeof(config),
		.max_regions = regions_at_once(max_regions),
		.max_ranges = max_ranges,
		.max_nodes = max_nodes,
	};
	int err;

	*live = (struct live){0};
	TAILQ_INIT(&live->regions);
	err = kvmas_new(&config, &live->kvmas);
	if (!err)
		err = make_block(live);
	if (!err)
		err = kvmas_region_new(live->kvmas,
				       KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER,
						    .name = "parking", .size = 1),
				       &live->parking);
	if (!err)
		err = kvmas_reader_add(live->kvmas, &live->reader);
	return err;
}

/* Let go of the regions that the next step does not have. They are in no container any more. What
 * dies would count as a region until the next commit, that of a step which has made others by then.
  */
static void sweep(struct live *live)
{
	struct live_region *region, *after;

	for (region = TAILQ_FIRST(&live->regions); region; region = after) {
		after = TAILQ_NEXT(region, all);
		region->now = region->next;
		region->next = NULL;
		if (region->now)
			continue;
		TAILQ_REMOVE(&live->regions, region, all);
		kvmas_region_unref(region->region);
		free(region);
	}
	kvmas_reclaim(live->kvmas);
}

static void drop_spaces(const struct topo *topo)
{
	struct topo_space *space;

	if (!topo)
		return;
	TAILQ_FOREACH(space, &topo->spaces, all) {
		kvmas_space_unref(space->space);
		space->space = NULL;
	}
}

/* What is in a circle of links holds itself: to let go of it is not enough. Last in, first out:
 * then nothing is seen in more places than it was when it came. */
static void break_circles(const struct topo *topo)
{
	struct topo_region *region;

	if (!topo)
		return;
	TAILQ_FOREACH_REVERSE(region, &topo->placed, topo_regions, place)
		if (region->in_circle)
			kvmas_region_del(region->live->region);
}

void live_fini(struct live *live)
{
	struct live_region *region, *after;

	drop_spaces(live->now);
	break_circles(live->now);
	for (region = TAILQ_FIRST(&live->regions); region; region = after) {
		after = TAILQ_NEXT(region, all);
		kvmas_region_unref(region->region);
		free(region);
	}
	kvmas_reader_del(live->reader);
	kvmas_region_unref(live->parking);
	kvmas_ram_unref(live->block);
	kvmas_unref(live->kvmas);
}

/* Hand on the result of a call that was made for a line, with a sentence if it failed. */
static int answer(struct fault *fault, unsigned long line, int err)
{
	if (!err)
		return 0;
	if (err == -ELOOP)
		return fault_set(fault, line, err, "a region would be inside itself");
	if (err == -E2BIG)
		return fault_set(fault, line, err,
				 "too large or too deep to render; see --max-ranges, --max-nodes");
	return fault_set(fault, line, err, "the library refuses this: %s", strerror(-err));
}

/* Match: which live regions stay. */

static enum kvmas_region_kind live_kind(const struct topo_region *region)
{
	return region->switches ? KVMAS_REGION_ROMD : region->kind;
}

static bool is_memory(enum kvmas_region_kind kind)
{
	return kind == KVMAS_REGION_RAM || kind == KVMAS_REGION_ROM || kind == KVMAS_REGION_ROMD;
}

static int check_block(const struct live *live, const struct topo_region *region,
		       struct fault *fault)
{
	if (!is_memory(live_kind(region)) || region->size <= kvmas_ram_get_size(live->block))
		return 0;
	return fault_set(fault, region->line, -EINVAL, "more memory than a RAM block can have");
}

static int make_region(struct live *live, struct topo_region *region)
{
	enum kvmas_region_kind kind = live_kind(region);
	struct live_region *made = calloc(1, sizeof(*made));
	int err;

	if (!made)
		return -ENOMEM;
	err = kvmas_region_new(
		live->kvmas,
		KVMAS_CONFIG(region, .kind = kind, .name = region->name, .size = region->size,
			     .ram = is_memory(kind) ? live->block : NULL, .opaque = made,
			     .target = region->target ? region->target->live->region : NULL,
			     .target_offset = region->target_offset),
		&made->region);
	if (err) {
		free(made);
		return err;
	}
	region->live = made;
	TAILQ_INSERT_TAIL(&live->regions, made, all);
	return 0;
}

/* What cannot be changed in a region makes it another one. */
static bool same_region(const struct topo_region *a, const struct topo_region *b)
{
	return live_kind(a) == live_kind(b) && !strcmp(a->name, b->name);
}

static int match_regions(struct live *live, struct topo *next, struct fault *fault)
{
	struct topo_region *region;
	int err = 0;

	TAILQ_FOREACH(region, &next->regions, all) {
		const struct topo_region *now =
			live->now ? topo_find_region(live->now, region->id) : NULL;

		err = check_block(live, region, fault);
		if (err)
			return err;
		if (now && same_region(now, region))
			region->live = now->live;
		else
			err = make_region(live, region);
		if (err)
			return answer(fault, region->line, err);
		region->live->next = region;
	}
	return 0;
}

/* A space cannot change its root: then it goes, and another one comes. Those that go are let go
 * before the transaction, so that it need not render them any more. */
static void match_spaces(struct live *live, struct topo *next)
{
	struct topo_space *space;

	if (!live->now)
		return;
	TAILQ_FOREACH(space, &next->spaces, all) {
		struct topo_space *now = topo_find_space(live->now, space->id);

		if (!now || now->root->live != space->root->live ||
		    strcmp(now->name, space->name) != 0)
			continue;
		space->space = now->space;
		now->space = NULL;
	}
	drop_spaces(live->now);
}

/* Take out. */

static const struct live_region *parent_of(const struct topo_region *region)
{
	return region && region->parent ? region->parent->live : NULL;
}

/* Whether a region leaves the place in a container that it has now. */
static bool must_leave(const struct topo_region *now)
{
	const struct topo_region *next = now->live->next;

	return parent_of(next) != parent_of(now) ||
	       (next->in_circle && next->offset != now->offset);
}

static int take_out(struct live *live, struct fault *fault)
{
	struct topo_region *region;
	int err = 0;

	TAILQ_FOREACH(region, &live->now->placed, place) {
		if (must_leave(region))
			err = kvmas_region_del(region->live->region);
		if (err)
			return answer(fault, region->place_line, err);
	}
	return 0;
}

/* Whether an alias may not show what it shows now while others change. */
static bool must_park(const struct topo_region *now)
{
	const struct topo_region *next = now->live->next;

	return next->target && (next->target->live != now->target->live ||
				(next->in_circle && next->target_offset != now->target_offset));
}

static int park_and_shrink(struct live *live, struct fault *fault)
{
	struct topo_region *region;
	int err = 0;

	TAILQ_FOREACH(region, &live->now->regions, all) {
		const struct topo_region *next = region->live->next;

		if (!next)
			continue;
		if (must_park(region))
			err = kvmas_region_set_alias(region->live->region, live->parking, 0);
		if (!err && next->in_circle && next->size < region->size)
			err = kvmas_region_set_size(region->live->region, next->size);
		if (err)
			return answer(fault, next->line, err);
	}
	return 0;
}

/* Set and aim. Setting what is set already changes nothing, so there is no need to compare. */

static int set_attributes(const struct topo_region *to)
{
	struct kvmas_region *region = to->live->region;
	int err = kvmas_region_set_size(region, to->size);

	if (!err)
		err = kvmas_region_set_enabled(region, to->enabled);
	if (!err)
		err = kvmas_region_set_readonly(region, to->readonly);
	if (!err)
		err = kvmas_region_set_nonvolatile(region, to->nonvolatile);
	if (!err && live_kind(to) == KVMAS_REGION_ROMD)
		err = kvmas_region_set_romd(region, to->kind == KVMAS_REGION_ROMD);
	return err;
}

static int aim(const struct topo_region *to)
{
	if (!to->target)
		return 0;
	return kvmas_region_set_alias(to->live->region, to->target->live->region,
				      to->target_offset);
}

static int for_each_region(struct topo *topo, int (*change)(const struct topo_region *to),
			   struct fault *fault)
{
	struct topo_region *region;
	int err;

	TAILQ_FOREACH(region, &topo->regions, all) {
		err = change(region);
		if (err)
			return answer(fault, region->line, err);
	}
	return 0;
}

/* Place. */

static bool overlap(const struct topo_region *a, const struct topo_region *b)
{
	const struct topo_region *low = a->offset <= b->offset ? a : b;
	const struct topo_region *high = low == a ? b : a;

	return high->offset - low->offset <= topo_region_last(low);
}

/* Whether a region that did not move is covered by a sibling that belongs below it. */
static bool must_rise(const struct topo_region *region)
{
	const struct topo_region *parent = region->parent;
	const struct topo_region *below;
	uint64_t placed = region->live->placed;

	if (parent->newest < placed)
		return false;
	if (parent->nchildren > MANY_SIBLINGS)
		return true;
	TAILQ_FOREACH(below, &parent->children, sibling) {
		if (below == region)
			return false;
		if (below->priority == region->priority && below->live->placed > placed &&
		    overlap(below, region))
			return true;
	}
	return false;
}

static int add(const struct topo_region *to)
{
	return kvmas_region_add(to->parent->live->region, to->live->region, to->offset,
				to->priority);
}

/* 0 also if there was nothing to do; *placed tells. */
static int place(const struct topo_region *to, bool *placed)
{
	const struct topo_region *now = to->live->now;
	struct kvmas_region *region = to->live->region;
	int err;

	*placed = true;
	if (!now || must_leave(now))
		return add(to);
	if (now->offset != to->offset || now->priority != to->priority) {
		err = kvmas_region_set_offset(region, to->offset);
		return err ? err : kvmas_region_set_priority(region, to->priority);
	}
	*placed = must_rise(to);
	if (!*placed)
		return 0;
	err = kvmas_region_del(region);
	return err ? err : add(to);
}

static int place_all(struct live *live, struct topo *next, struct fault *fault)
{
	struct topo_region *region;
	bool placed;
	int err;

	TAILQ_FOREACH(region, &next->placed, place) {
		err = place(region, &placed);
		if (err)
			return answer(fault, region->place_line, err);
		if (placed)
			region->live->placed = ++live->clock;
		if (region->live->placed > region->parent->newest)
			region->parent->newest = region->live->placed;
	}
	return 0;
}

/* Show. */

static int show(struct live *live, struct topo *next, struct fault *fault)
{
	struct topo_space *space;
	int err = 0;

	TAILQ_FOREACH(space, &next->spaces, all) {
		if (!space->space)
			err = kvmas_space_new(live->kvmas, space->name, space->root->live->region,
					      &space->space);
		if (err)
			return answer(fault, space->line, err);
	}
	return 0;
}

static int change(struct live *live, struct topo *next, struct fault *fault)
{
	int err = 0;

	if (live->now)
		err = take_out(live, fault);
	if (!err && live->now)
		err = park_and_shrink(live, fault);
	if (!err)
		err = for_each_region(next, set_attributes, fault);
	if (!err)
		err = for_each_region(next, aim, fault);
	if (!err)
		err = place_all(live, next, fault);
	if (!err)
		err = show(live, next, fault);
	return err;
}

static int commit(struct live *live, struct topo *next, struct fault *fault)
{
	int err = kvmas_begin(live->kvmas);

	if (err)
		return answer(fault, next->end_line, err);
	err = change(live, next, fault);
	if (err) {
		kvmas_abort(live->kvmas);
		return err;
	}
	return answer(fault, next->end_line, kvmas_commit(live->kvmas));
}

int live_step(struct live *live, struct topo *next, struct fault *fault)
{
	int err = match_regions(live, next, fault);

	if (err)
		return err;
	match_spaces(live, next);
	err = commit(live, next, fault);
	if (err) {
		drop_spaces(next);
		return err;
	}
	sweep(live);
	live->now = next;
	return 0;
}

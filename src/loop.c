/* SPDX-License-Identifier: MIT */
/*
 * Loops. A container may hold an alias of itself, as real machines have them, that shows one part
 * of it in another:
 *
 *     container   |--------[part]------------[alias of part]---|        fine
 *     container   |--------[alias of       [itself]        ]---|        no end to it: -ELOOP
 *
 * So what matters is not whether links lead back to where they began, but whether a window does: an
 * alias must not be seen inside itself. What is disabled counts as if it were not, so that enabling
 * never fails.
 *
 * The walk goes down through children and targets, with windows cut at each step, and marks each
 * alias while it is on the path; to be met again there is a loop. It begins at each alias from
 * which links lead down to the region that changes, with all that the alias shows: whoever looks at
 * the alias from elsewhere, now or later, sees no more than that. Containers alone, or aliases
 * alone, form no circle: edit.c sees to that.
 */
#include "loop.h"

#include <errno.h>

#include "children.h"

struct visit {
	struct kvmas_region *region;
	struct range window; /* in the region's bytes */
	bool leaves;         /* all below it has been seen */
};

struct walk {
	struct kvmas *kvmas;
	size_t count; /* visits to come */
	uint64_t nodes;
};

static struct visit *visits_of(const struct walk *walk)
{
	return walk->kvmas->txn.buffers[BUFFER_VISITS].at;
}

static int push(struct walk *walk, struct kvmas_region *region, struct range window, bool leaves)
{
	if (++walk->nodes > walk->kvmas->config.max_nodes)
		return -E2BIG;
	if (!kas_buffer_grow(walk->kvmas, BUFFER_VISITS, walk->count, sizeof(struct visit)))
		return -ENOMEM;
	visits_of(walk)[walk->count++] = (struct visit){region, window, leaves};
	return 0;
}

static int enter_alias(struct walk *walk, struct kvmas_region *alias, struct range window)
{
	uint64_t shift = alias->state.target_offset;
	int err;

	if (alias->on_path)
		return -ELOOP;
	if (window.first + shift < shift)
		return 0;
	err = push(walk, alias, window, true);
	if (err)
		return err;
	alias->on_path = true;
	window.first += shift;
	window.last = kas_add_saturating(window.last, shift);
	return push(walk, alias->state.target, window, false);
}

static int enter_children(struct walk *walk, const struct kvmas_region *parent, struct range window)
{
	struct kvmas_region *child = kas_children_first(parent, window);
	int err = 0;

	for (; child && !err; child = kas_children_next(child, window)) {
		uint64_t offset = child->state.offset;
		struct range below = {offset < window.first ? window.first - offset : 0,
				      window.last - offset};

		err = push(walk, child, below, false);
	}
	return err;
}

static int visit(struct walk *walk, struct visit visit)
{
	struct kvmas_region *region = visit.region;

	if (visit.leaves) {
		region->on_path = false;
		return 0;
	}
	if (!kas_range_clip(&visit.window, (struct range){0, region->state.last}))
		return 0;
	if (region->kind == KVMAS_REGION_ALIAS)
		return enter_alias(walk, region, visit.window);
	return enter_children(walk, region, visit.window);
}

/* Look at all that one alias shows. */
static int check_alias(struct kvmas_region *alias, struct walk *walk)
{
	int err = push(walk, alias, (struct range){0, alias->state.last}, false);

	while (!err && walk->count)
		err = visit(walk, visits_of(walk)[--walk->count]);
	for (; walk->count; walk->count--) {
		const struct visit *left = &visits_of(walk)[walk->count - 1];

		if (left->leaves)
			left->region->on_path = false;
	}
	return err;
}

int kas_loop_check(struct kvmas_region *region)
{
	struct walk walk = {.kvmas = region->object.kvmas};
	uint64_t number = ++walk.kvmas->txn.walks;
	struct kvmas_region *list = NULL;
	int err = 0;

	/* The region itself is above itself: it is in a circle. */
	kas_region_visit_above(region, number, &list);
	while (list && !err) {
		struct kvmas_region *above = list;

		list = above->next_visit;
		if (above->kind == KVMAS_REGION_ALIAS)
			err = check_alias(above, &walk);
		kas_region_visit_above(above, number, &list);
	}
	return err;
}

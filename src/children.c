/* SPDX-License-Identifier: MIT */
/*
 * Children: an interval tree in each container, so that those under a window are found without
 * walking all. It is a treap: a search tree by (offset, place), and a heap by a weight that is
 * drawn from the place, which keeps it balanced whatever the order of adding. Each node knows how
 * far the farthest child below it reaches, so that whole subtrees that end before a window are
 * passed by.
 *
 *                       [4000-4fff] end 8fff
 *                      /                    \
 *       [0000-0fff] end 1fff          [6000-8fff] end 8fff
 *                      \
 *                  [1000-1fff] end 1fff
 *
 * The links are in the regions: adding and removing allocate nothing, so that undoing cannot fail.
 *
 * Invariants:
 *   I1  in order, (offset, place) ascends; no two are equal, since no place is given out twice.
 *   I2  no node is heavier than the one above it.
 *   I3  end is the largest last byte, in the parent's bytes, of the node and all below it.
 *
 * Cost: the logarithm of the number of children, for each function. Read find_first first.
 */
#include "children.h"

static uint64_t end_of(const struct kvmas_region *child)
{
	return kas_child_extent(&child->state).last;
}

/* Spread by splitmix64's finalizer: places count up, weights must not. */
static uint64_t weight_of(const struct kvmas_region *child)
{
	uint64_t x = child->state.place * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static bool comes_before(const struct kvmas_region *a, const struct kvmas_region *b)
{
	if (a->state.offset != b->state.offset)
		return a->state.offset < b->state.offset;
	return a->state.place < b->state.place;
}

/* The link that leads to a node. */
static struct kvmas_region **link_to(const struct kvmas_region *child)
{
	struct kvmas_region *up = child->node.up;

	if (!up)
		return &child->state.parent->children;
	return up->node.left == child ? &up->node.left : &up->node.right;
}

static void refresh_end(struct kvmas_region *child)
{
	uint64_t end = end_of(child);

	if (child->node.left && child->node.left->node.end > end)
		end = child->node.left->node.end;
	if (child->node.right && child->node.right->node.end > end)
		end = child->node.right->node.end;
	child->node.end = end;
}

static void refresh_upwards(struct kvmas_region *child)
{
	for (; child; child = child->node.up)
		refresh_end(child);
}

/* Turn a node and the one above it round: the order stays, the levels swap. */
static void rotate_up(struct kvmas_region *child)
{
	struct kvmas_region *up = child->node.up;
	bool was_left = up->node.left == child;
	struct kvmas_region *between = was_left ? child->node.right : child->node.left;

	*link_to(up) = child;
	child->node.up = up->node.up;
	up->node.up = child;
	if (was_left) {
		child->node.right = up;
		up->node.left = between;
	} else {
		child->node.left = up;
		up->node.right = between;
	}
	if (between)
		between->node.up = up;
	refresh_end(up);
	refresh_end(child);
}

void kas_children_insert(struct kvmas_region *child)
{
	struct kvmas_region **link = &child->state.parent->children;
	struct kvmas_region *up = NULL;

	while (*link) {
		up = *link;
		link = comes_before(child, up) ? &up->node.left : &up->node.right;
	}
	*link = child;
	child->node = (struct child_node){.up = up, .weight = weight_of(child)};
	refresh_upwards(child);
	while (child->node.up && child->node.up->node.weight < child->node.weight)
		rotate_up(child);
}

static struct kvmas_region *heavier(struct kvmas_region *a, struct kvmas_region *b)
{
	if (!a || !b)
		return a ? a : b;
	return a->node.weight > b->node.weight ? a : b;
}

void kas_children_remove(struct kvmas_region *child)
{
	struct kvmas_region *below;

	while ((below = heavier(child->node.left, child->node.right)))
		rotate_up(below);
	*link_to(child) = NULL;
	refresh_upwards(child->node.up);
}

void kas_children_resized(struct kvmas_region *child)
{
	refresh_upwards(child);
}

/*
 * The first in a subtree. On the way down:
 *
 *   Case 1: something on the left reaches the window. It comes first, or, if it begins behind the
 *           window, so does all that follows: go left, and never come back.
 *   Case 2: the node itself begins behind the window, and with it all on its right: none.
 *   Case 3: the node reaches the window: this one.
 *   Case 4: go right, if anything there reaches the window.
 */
static struct kvmas_region *find_first(struct kvmas_region *node, struct range window)
{
	while (node) {
		struct kvmas_region *left = node->node.left;
		struct kvmas_region *right = node->node.right;

		if (left && left->node.end >= window.first) {
			node = left;
			continue;
		}
		if (node->state.offset > window.last)
			return NULL;
		if (end_of(node) >= window.first)
			return node;
		node = right && right->node.end >= window.first ? right : NULL;
	}
	return NULL;
}

struct kvmas_region *kas_children_first(const struct kvmas_region *parent, struct range window)
{
	return find_first(parent->children, window);
}

struct kvmas_region *kas_children_next(const struct kvmas_region *child, struct range window)
{
	const struct kvmas_region *from;
	struct kvmas_region *right = child->node.right;
	struct kvmas_region *up;

	/* Case 1 of find_first holds here, too: if the right side has none, nothing later has. */
	if (right && right->node.end >= window.first)
		return find_first(right, window);
	for (from = child; (up = from->node.up); from = up) {
		if (up->node.right == from)
			continue;
		if (up->state.offset > window.last)
			return NULL;
		if (end_of(up) >= window.first)
			return up;
		right = up->node.right;
		if (right && right->node.end >= window.first)
			return find_first(right, window);
	}
	return NULL;
}

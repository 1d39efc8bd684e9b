/* SPDX-License-Identifier: MIT */
/*
 * Edits: the public functions that change the tree. Each is a level of a transaction; all go the
 * same way, so that one undo fits all of them:
 *
 *     begin; copy the region's state; change the copy, or find an error;
 *     end: if the copy differs, record an undo with the old state and put the region into the new
 *
 * A region that moves in its container, or whose priority changes, ends on top of its equals, as if
 * it had been taken out and added again.
 *
 * Invariants:
 *   I1  an undo restores exactly: also the place among siblings, since `below` stands where it
 *       stood when the change was made (undos run newest first).
 *   I2  an undo holds all that it names but `below`, which its parent holds then.
 *
 * Read edit_end first.
 */
#include <errno.h>

#include "region.h"
#include "space.h"
#include "txn.h"

struct region_undo {
	struct undo undo;
	struct kvmas_region *region;
	struct region_state saved;
	struct kvmas_region *below; /* the sibling that it was on top of, if it had a parent */
};

/* Also holds the region's container, which a child does not: edit_end lets go. A container that is
 * dead, and only waits for its end, has no children any more. */
static int edit_begin(struct kvmas_region *region, struct region_state *next)
{
	struct kvmas_region *parent;
	int err = kvmas_begin(region->object.kvmas);

	if (err)
		return err;
	parent = region->state.parent;
	if (parent && !kas_object_try_ref(&parent->object)) {
		kas_region_unlink(region);
		kvmas_region_unref(region);
	}
	*next = region->state;
	return 0;
}

static bool same_place(const struct region_state *a, const struct region_state *b)
{
	return a->parent == b->parent && a->offset == b->offset && a->priority == b->priority;
}

static bool same_state(const struct region_state *a, const struct region_state *b)
{
	return same_place(a, b) && a->last == b->last && a->enabled == b->enabled &&
	       a->attrs == b->attrs && a->target == b->target &&
	       a->target_offset == b->target_offset;
}

/* Put a region into a state, with the references that parents and aliases hold; among its siblings
 * where an undo says, or on top of its equals without one. */
static void put(struct kvmas_region *region, const struct region_state *next,
		const struct region_undo *undo)
{
	struct region_state old = region->state;
	bool moves = !same_place(&old, next);

	if (next->parent)
		kvmas_region_ref(region);
	if (next->target)
		kvmas_region_ref(next->target);
	if (old.parent && moves)
		kas_region_unlink(region);
	region->state = *next;
	if (next->parent && moves) {
		if (undo)
			kas_region_link_above(region, next->parent, undo->below);
		else
			kas_region_link(region, next->parent);
	}
	kvmas_region_unref(old.target);
	if (old.parent)
		kvmas_region_unref(region);
}

static void free_undo(struct undo *undo)
{
	struct region_undo *edit = kas_container_of(undo, struct region_undo, undo);
	struct kvmas_region *region = edit->region;
	struct kvmas *kvmas = region->object.kvmas;

	kvmas_region_unref(edit->saved.parent);
	kvmas_region_unref(edit->saved.target);
	kas_free(kvmas, edit);
	kvmas_region_unref(region);
}

static void restore(struct undo *undo)
{
	struct region_undo *edit = kas_container_of(undo, struct region_undo, undo);

	put(edit->region, &edit->saved, edit);
	free_undo(undo);
}

static int record(struct kvmas_region *region)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct region_undo *edit = kas_alloc(kvmas, sizeof(*edit));

	if (!edit)
		return -ENOMEM;
	edit->undo.restore = restore;
	edit->undo.release = free_undo;
	edit->region = kvmas_region_ref(region);
	edit->saved = region->state;
	if (edit->saved.parent) {
		kvmas_region_ref(edit->saved.parent);
		edit->below = TAILQ_NEXT(region, sibling);
	}
	if (edit->saved.target)
		kvmas_region_ref(edit->saved.target);
	kas_txn_record(kvmas, &edit->undo);
	return 0;
}

static int edit_end(struct kvmas_region *region, const struct region_state *next, int err)
{
	struct kvmas_region *held = region->state.parent;

	if (!err && !same_state(&region->state, next)) {
		err = record(region);
		if (!err)
			put(region, next, NULL);
	}
	kvmas_region_unref(held);
	return kas_txn_end(region->object.kvmas, err);
}

static int check_add(const struct kvmas_region *parent, struct kvmas_region *child)
{
	if (parent->kind == KVMAS_REGION_ALIAS)
		return -EINVAL;
	if (parent->object.kvmas != child->object.kvmas)
		return -EXDEV;
	if (child->state.parent)
		return -EEXIST;
	return kas_region_reaches(child, parent) ? -ELOOP : 0;
}

int kvmas_region_add(struct kvmas_region *parent, struct kvmas_region *child, uint64_t offset,
		     int priority)
{
	struct region_state next;
	int err = edit_begin(child, &next);

	if (err)
		return err;
	next.parent = parent;
	next.offset = offset;
	next.priority = priority;
	return edit_end(child, &next, check_add(parent, child));
}

int kvmas_region_del(struct kvmas_region *region)
{
	struct region_state next;
	int err = edit_begin(region, &next);

	if (err)
		return err;
	err = next.parent ? 0 : -ENOENT;
	next.parent = NULL;
	return edit_end(region, &next, err);
}

int kvmas_region_set_enabled(struct kvmas_region *region, bool enabled)
{
	struct region_state next;
	int err = edit_begin(region, &next);

	if (err)
		return err;
	next.enabled = enabled;
	return edit_end(region, &next, 0);
}

/* Set or clear one attribute; err is what is wrong with the request, or 0. */
static int set_attr(struct kvmas_region *region, unsigned attr, bool on, int wrong)
{
	struct region_state next;
	int err = edit_begin(region, &next);

	if (err)
		return err;
	if (on)
		next.attrs |= attr;
	else
		next.attrs &= ~attr;
	return edit_end(region, &next, wrong);
}

int kvmas_region_set_readonly(struct kvmas_region *region, bool readonly)
{
	return set_attr(region, ATTR_READONLY, readonly || region->kind == KVMAS_REGION_ROM, 0);
}

int kvmas_region_set_nonvolatile(struct kvmas_region *region, bool nonvolatile)
{
	return set_attr(region, ATTR_NONVOLATILE, nonvolatile, 0);
}

int kvmas_region_set_unmergeable(struct kvmas_region *region, bool unmergeable)
{
	return set_attr(region, ATTR_UNMERGEABLE, unmergeable, 0);
}

int kvmas_region_set_romd(struct kvmas_region *region, bool romd)
{
	return set_attr(region, ATTR_ROMD, romd, region->kind == KVMAS_REGION_ROMD ? 0 : -EINVAL);
}

int kvmas_region_set_offset(struct kvmas_region *region, uint64_t offset)
{
	struct region_state next;
	int err = edit_begin(region, &next);

	if (err)
		return err;
	next.offset = offset;
	return edit_end(region, &next, next.parent ? 0 : -ENOENT);
}

int kvmas_region_set_size(struct kvmas_region *region, uint64_t size)
{
	struct region_state next;
	int err = edit_begin(region, &next);

	if (err)
		return err;
	next.last = kas_size_to_last(size);
	return edit_end(region, &next, size && kas_region_fits(region, next.last) ? 0 : -EINVAL);
}

int kvmas_region_set_priority(struct kvmas_region *region, int priority)
{
	struct region_state next;
	int err = edit_begin(region, &next);

	if (err)
		return err;
	next.priority = priority;
	return edit_end(region, &next, next.parent ? 0 : -ENOENT);
}

static int check_alias(struct kvmas_region *alias, struct kvmas_region *target)
{
	if (alias->kind != KVMAS_REGION_ALIAS)
		return -EINVAL;
	if (alias->object.kvmas != target->object.kvmas)
		return -EXDEV;
	return kas_region_reaches(target, alias) ? -ELOOP : 0;
}

int kvmas_region_set_alias(struct kvmas_region *alias, struct kvmas_region *target,
			   uint64_t target_offset)
{
	struct region_state next;
	int err = edit_begin(alias, &next);

	if (err)
		return err;
	next.target = target;
	next.target_offset = target_offset;
	return edit_end(alias, &next, check_alias(alias, target));
}

int kvmas_region_set_alias_offset(struct kvmas_region *alias, uint64_t target_offset)
{
	struct region_state next;
	int err = edit_begin(alias, &next);

	if (err)
		return err;
	next.target_offset = target_offset;
	return edit_end(alias, &next, alias->kind == KVMAS_REGION_ALIAS ? 0 : -EINVAL);
}

int kvmas_space_new(struct kvmas *kvmas, const char *name, struct kvmas_region *root,
		    struct kvmas_space **ret)
{
	struct kvmas_space *space;
	int err;

	if (!name || !root)
		return -EINVAL;
	if (root->object.kvmas != kvmas)
		return -EXDEV;
	err = kvmas_begin(kvmas);
	if (err)
		return err;
	err = kas_space_create(kvmas, name, root, &space);
	if (err)
		return kas_txn_end(kvmas, err);
	kas_txn_touch(kvmas);
	err = kvmas_commit(kvmas);
	if (err) {
		kvmas_space_unref(space);
		return err;
	}
	*ret = space;
	return 0;
}

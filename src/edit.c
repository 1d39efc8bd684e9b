/* SPDX-License-Identifier: MIT */
/*
 * Edits: the public functions that change the tree. Each is a level of a transaction; all go the
 * same way, so that one undo fits all of them:
 *
 *     begin; copy the region's state; change the copy, or find an error;
 *     end: if the copy differs, record an undo with the old state, put the region into the new, and
 *     damage what either may show in
 *
 * A region that moves in its container, or whose priority changes, ends on top of its equals, as if
 * it had been taken out and added again.
 *
 * Invariants:
 *   I1  an undo restores exactly: also the place among siblings, which is part of the state.
 *   I2  what an undo names is alive, or dead and not ended, until it is restored or released.
 *   I3  what a change may show in is damaged, in the state before it and in the state after it.
 *
 * Read edit_end first.
 */
#include <errno.h>

#include "damage.h"
#include "loop.h"
#include "space.h"
#include "txn.h"

/*
 * References that a change takes away, those of a parent on its child and of an alias on its
 * target, are kept by its undo until that is released. More need not be held: nothing ends while a
 * transaction is open, since reclaim waits for its lock.
 */
struct region_undo {
	struct undo undo;
	struct kvmas_region *region;
	struct region_state before;
	struct region_state after;
};

/* How many undos are kept for later transactions. */
#define MAX_SPARES 64

static bool same_place(const struct region_state *a, const struct region_state *b)
{
	return a->parent == b->parent && a->offset == b->offset && a->priority == b->priority;
}

static bool same_content(const struct region_state *a, const struct region_state *b)
{
	return a->enabled == b->enabled && a->attrs == b->attrs && a->target == b->target &&
	       a->target_offset == b->target_offset;
}

/* Take the references that a region in the state *to* has on others, and they on it, and did not
 * have in the state *from*; or drop them. */
static void change_references(struct kvmas_region *region, const struct region_state *from,
			      const struct region_state *to, void (*change)(struct object *object))
{
	if (to->parent && !from->parent)
		change(&region->object);
	if (to->target && to->target != from->target)
		change(&to->target->object);
}

static struct region_undo *new_undo(struct kvmas *kvmas)
{
	struct spare *spare = kvmas->txn.spares;

	if (!spare)
		return kas_resize(kvmas, NULL, sizeof(struct region_undo));
	kvmas->txn.spares = spare->next;
	kvmas->txn.nspares--;
	return (struct region_undo *)(void *)spare;
}

static void free_undo(struct region_undo *edit)
{
	struct kvmas *kvmas = edit->region->object.kvmas;
	struct spare *spare = (struct spare *)(void *)edit;

	if (kvmas->txn.nspares >= MAX_SPARES) {
		kas_free(kvmas, edit);
		return;
	}
	spare->next = kvmas->txn.spares;
	kvmas->txn.spares = spare;
	kvmas->txn.nspares++;
}

static void restore(struct undo *undo)
{
	struct region_undo *edit = kas_container_of(undo, struct region_undo, undo);

	kas_region_put(edit->region, &edit->before);
	change_references(edit->region, &edit->before, &edit->after, kas_object_unref);
	free_undo(edit);
}

static void release(struct undo *undo)
{
	struct region_undo *edit = kas_container_of(undo, struct region_undo, undo);

	change_references(edit->region, &edit->after, &edit->before, kas_object_unref);
	free_undo(edit);
}

/* Put a region into a state, and record how it was. */
static int put(struct kvmas_region *region, const struct region_state *next)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct region_undo *edit = new_undo(kvmas);

	if (!edit)
		return -ENOMEM;
	*edit = (struct region_undo){
		.undo = {.restore = restore, .release = release},
		.region = region,
		.before = region->state,
		.after = *next,
	};
	change_references(region, &edit->before, next, kas_object_ref);
	kas_region_put(region, next);
	kas_txn_record(kvmas, &edit->undo);
	return 0;
}

/* A container that is dead, and only waits for its end, has no children any more. */
static int leave_dead_parent(struct kvmas_region *region)
{
	struct region_state state = region->state;

	if (!state.parent || !kas_object_is_dead(&state.parent->object))
		return 0;
	state.parent = NULL;
	return put(region, &state);
}

static int edit_begin(struct kvmas_region *region, struct region_state *next)
{
	int err = kvmas_begin(region->object.kvmas);

	if (err)
		return err;
	err = leave_dead_parent(region);
	if (err) {
		kas_txn_end(region->object.kvmas, err);
		return err;
	}
	*next = region->state;
	return 0;
}

/* Only a region in a circle of links can have an alias come to be seen inside itself. */
static int check_loop(struct kvmas_region *region)
{
	if (!region->object.kvmas->txn.circular || !kas_region_is_in_circle(region))
		return 0;
	return kas_loop_check(region);
}

/* Damage all that a change may show in that has just been made; what a region has left was damaged
 * before. What is disabled before and after shows nothing. */
static int damage(struct kvmas_region *region, const struct region_state *old)
{
	const struct region_state *now = &region->state;
	int err = 0;

	if (!old->enabled && !now->enabled)
		return 0;
	if (!same_place(old, now))
		err = kas_damage_place(region);
	if (!err && !same_content(old, now))
		err = kas_damage(region, (struct range){0, old->last});
	if (!err && old->last < now->last)
		err = kas_damage(region, (struct range){old->last + 1, now->last});
	else if (!err && old->last > now->last)
		err = kas_damage(region, (struct range){now->last + 1, old->last});
	return err;
}

static int change(struct kvmas_region *region, struct region_state *next)
{
	const struct region_state old = region->state;
	struct kvmas *kvmas = region->object.kvmas;
	bool moves = !same_place(&old, next);
	int err = 0;

	if (!moves && same_content(&old, next) && old.last == next->last)
		return 0;
	if (moves) {
		next->place = ++kvmas->txn.places;
		if (old.enabled)
			err = kas_damage_place(region);
	}
	if (!err)
		err = put(region, next);
	if (err)
		return err;
	err = check_loop(region);
	if (!err)
		err = damage(region, &old);
	if (err)
		kas_txn_take_back(kvmas);
	return err;
}

static int edit_end(struct kvmas_region *region, struct region_state *next, int err)
{
	if (!err)
		err = change(region, next);
	return kas_txn_end(region->object.kvmas, err);
}

/* A new link down from *above* to *below* is asked for: does it close a circle? */
static void note_circle(const struct kvmas_region *below, struct kvmas_region *above)
{
	if (kas_region_reaches(below, above))
		above->object.kvmas->txn.circular = true;
}

static int check_add(struct kvmas_region *parent, struct kvmas_region *child)
{
	if (parent->kind == KVMAS_REGION_ALIAS)
		return -EINVAL;
	if (parent->object.kvmas != child->object.kvmas)
		return -EXDEV;
	if (child->state.parent)
		return -EEXIST;
	for (const struct kvmas_region *up = parent; up; up = up->state.parent) {
		if (up == child)
			return -ELOOP;
	}
	note_circle(child, parent);
	return 0;
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
	/* A circle of aliases alone shows nothing that would not be shown without it, and would
	 * hold itself for good: there is no container to take it out of. */
	for (const struct kvmas_region *next = target; next; next = next->state.target) {
		if (next == alias)
			return -ELOOP;
	}
	note_circle(target, alias);
	return 0;
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
	err = kvmas_commit(kvmas);
	if (err) {
		kvmas_space_unref(space);
		return err;
	}
	*ret = space;
	return 0;
}

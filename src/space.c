/* SPDX-License-Identifier: MIT */
/*
 * Spaces. A space is a name for a root region, and the listeners that are told how it changes. Its
 * view is its root's, which spaces with the same root share.
 *
 * kvmas_space_new, which is an edit, stands in edit.c, and kvmas_space_sync, which asks listeners,
 * in listener.c: both need what is above a space.
 */
#include "space.h"

#include <errno.h>

static void retire(struct kvmas_space *space)
{
	if (!space->root)
		return;
	LIST_REMOVE(space, of_root);
	kas_root_put(space->root);
	space->root = NULL;
}

static void space_end(struct object *object)
{
	struct kvmas_space *space = kas_container_of(object, struct kvmas_space, object);
	struct kvmas *kvmas = object->kvmas;

	TAILQ_REMOVE(&kvmas->spaces, space, all);
	retire(space);
	kas_object_unref(&space->shown->object);
	kas_free(kvmas, space->name);
	kas_free(kvmas, space);
}

int kas_space_create(struct kvmas *kvmas, const char *name, struct kvmas_region *root,
		     struct kvmas_space **ret)
{
	struct kvmas_space *space = kas_alloc(kvmas, sizeof(*space));
	int err = -ENOMEM;

	if (!space)
		return err;
	space->name = kas_strdup(kvmas, name);
	if (!space->name)
		goto free_space;
	err = kas_root_get(root, &space->root);
	if (err)
		goto free_name;
	space->shown = space->root;
	kas_object_ref(&space->shown->object);
	TAILQ_INIT(&space->listeners);
	space->age = ++kvmas->ages;
	LIST_INSERT_HEAD(&space->root->spaces, space, of_root);
	TAILQ_INSERT_TAIL(&kvmas->spaces, space, all);
	kas_object_init(&space->object, kvmas, space_end);
	space->object.pinnable = true;
	*ret = space;
	return 0;

free_name:
	kas_free(kvmas, space->name);
free_space:
	kas_free(kvmas, space);
	return err;
}

void kas_spaces_retire(struct kvmas *kvmas)
{
	struct kvmas_space *space;

	if (!atomic_load_explicit(&kvmas->dead, memory_order_relaxed) && !kvmas->txn.retired)
		return;
	TAILQ_FOREACH(space, &kvmas->spaces, all) {
		if (kas_object_is_dead(&space->object))
			retire(space);
	}
}

/* Roots are damaged in an order that is mostly that of their spaces, or its reverse: either costs a
 * step for each. */
static void add_changing(struct kvmas *kvmas, struct kvmas_space *space)
{
	struct kvmas_space *before = TAILQ_LAST(&kvmas->changing, space_list);
	struct kvmas_space *first = TAILQ_FIRST(&kvmas->changing);

	if (!first || first->age > space->age) {
		TAILQ_INSERT_HEAD(&kvmas->changing, space, changing);
		return;
	}
	while (before->age > space->age)
		before = TAILQ_PREV(before, space_list, changing);
	TAILQ_INSERT_AFTER(&kvmas->changing, before, space, changing);
}

void kas_spaces_find_changing(struct kvmas *kvmas)
{
	struct kvmas_space *space;
	struct root *root;

	/* What is logged is a matter of every space. */
	if (kvmas->txn.logging) {
		TAILQ_FOREACH(space, &kvmas->spaces, all) {
			if (space->root)
				TAILQ_INSERT_TAIL(&kvmas->changing, space, changing);
		}
		return;
	}
	TAILQ_FOREACH(root, &kvmas->damaged, of_damaged) {
		if (!root->next)
			continue;
		LIST_FOREACH(space, &root->spaces, of_root)
			add_changing(kvmas, space);
	}
}

void kas_spaces_forget_changing(struct kvmas *kvmas)
{
	TAILQ_INIT(&kvmas->changing);
}

struct kvmas_space *kvmas_space_ref(struct kvmas_space *space)
{
	kas_object_ref(&space->object);
	return space;
}

void kvmas_space_unref(struct kvmas_space *space)
{
	if (space)
		kas_object_drop(&space->object);
}

const char *kvmas_space_get_name(const struct kvmas_space *space)
{
	return space->name;
}

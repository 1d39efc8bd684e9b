/* SPDX-License-Identifier: MIT */
/*
 * Spaces. A space joins a root region to the view that was last published for it. Rendering makes
 * the next view beside it; publishing swaps the pointer, and readers that hold the old view keep
 * it.
 *
 * kvmas_space_new, which is an edit, stands in edit.c, and kvmas_space_sync, which asks listeners,
 * in listener.c: both need what is above a space.
 *
 * Invariants:
 *   I1  view is never NULL once the space exists, and shows the last committed tree.
 *   I2  next_view is set only inside a commit.
 */
#include "space.h"

#include <errno.h>

static void space_end(struct object *object)
{
	struct kvmas_space *space = kas_container_of(object, struct kvmas_space, object);
	struct kvmas *kvmas = object->kvmas;

	TAILQ_REMOVE(&kvmas->spaces, space, all);
	kas_view_unref(space->view);
	pthread_mutex_destroy(&space->view_lock);
	kvmas_region_unref(space->root);
	kas_free(kvmas, space->name);
	kas_free(kvmas, space);
}

int kas_space_create(struct kvmas *kvmas, const char *name, struct kvmas_region *root,
		     struct kvmas_space **ret)
{
	struct kvmas_space *space = kas_alloc(kvmas, sizeof(*space));
	struct flat empty = {0};
	int err = -ENOMEM;

	if (!space)
		return err;
	space->name = kas_strdup(kvmas, name);
	if (!space->name)
		goto free_space;
	err = kas_view_new(kvmas, &empty, &space->view);
	if (err)
		goto free_name;
	space->root = kvmas_region_ref(root);
	pthread_mutex_init(&space->view_lock, NULL);
	TAILQ_INIT(&space->listeners);
	TAILQ_INSERT_TAIL(&kvmas->spaces, space, all);
	kas_object_init(&space->object, kvmas, space_end);
	*ret = space;
	return 0;

free_name:
	kas_free(kvmas, space->name);
free_space:
	kas_free(kvmas, space);
	return err;
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

struct kvmas_view *kas_space_get_view(struct kvmas_space *space)
{
	struct kvmas_view *view;

	pthread_mutex_lock(&space->view_lock);
	view = space->view;
	kas_view_ref(view);
	pthread_mutex_unlock(&space->view_lock);
	return view;
}

int kas_space_render(struct kvmas_space *space)
{
	struct flat flat = {0};
	int err = kas_render(space->root, &flat);

	if (!err && !kas_view_shows(space->view, &flat))
		err = kas_view_new(space->object.kvmas, &flat, &space->next_view);
	kas_flat_fini(space->object.kvmas, &flat);
	return err;
}

void kas_space_drop_next(struct kvmas_space *space)
{
	kas_view_unref(space->next_view);
	space->next_view = NULL;
}

struct kvmas_view *kas_space_publish(struct kvmas_space *space)
{
	struct kvmas_view *old = space->view;

	pthread_mutex_lock(&space->view_lock);
	space->view = space->next_view;
	pthread_mutex_unlock(&space->view_lock);
	space->next_view = NULL;
	return old;
}

/* SPDX-License-Identifier: MIT */
/*
 * Spaces. A space joins a root region to the view that was last published for it. Rendering makes
 * the next view beside it, and notes how the two differ; publishing swaps the pointer, and readers
 * that hold the old view keep it.
 *
 * kvmas_space_new, which is an edit, stands in edit.c, and kvmas_space_sync, which asks listeners,
 * in listener.c: both need what is above a space.
 *
 * Invariants:
 *   I1  view is never NULL once the space exists, and shows the last committed tree.
 *   I2  next_view, old_view and changes are set only inside a commit, or a dry run of one; changes
 *       are empty exactly if the view stays.
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

/* Compare two views; dels and adds have room for all of either. Ranges that are equal begin at the
 * same address, so that the walk meets them together. */
static void compare(const struct kvmas_view *view, const struct kvmas_view *next,
		    struct flat_range *dels, struct flat_range *adds, struct changes *changes)
{
	const struct flat_range *gone = view->ranges;
	const struct flat_range *added = next->ranges;

	while (gone < view->ranges + view->count && added < next->ranges + next->count) {
		if (kas_flat_range_equal(gone, added)) {
			gone++;
			added++;
		} else if (gone->range.first <= added->range.first) {
			dels[changes->ndels++] = *gone++;
		} else {
			adds[changes->nadds++] = *added++;
		}
	}
	while (gone < view->ranges + view->count)
		dels[changes->ndels++] = *gone++;
	while (added < next->ranges + next->count)
		adds[changes->nadds++] = *added++;
	changes->dels = dels;
	changes->adds = adds;
}

static int note_changes(struct kvmas_space *space)
{
	size_t count = space->view->count + space->next_view->count;

	space->differing = kas_alloc(space->object.kvmas, count * sizeof(space->differing[0]));
	if (!space->differing)
		return -ENOMEM;
	compare(space->view, space->next_view, space->differing,
		space->differing + space->view->count, &space->changes);
	return 0;
}

static void forget_changes(struct kvmas_space *space)
{
	kas_free(space->object.kvmas, space->differing);
	space->differing = NULL;
	space->changes = (struct changes){0};
}

int kas_space_render(struct kvmas_space *space)
{
	struct flat flat = {0};
	int err = kas_render(space->root, &flat);

	if (!err && !kas_view_shows(space->view, &flat)) {
		err = kas_view_new(space->object.kvmas, &flat, &space->next_view);
		if (!err)
			err = note_changes(space);
	}
	kas_flat_fini(space->object.kvmas, &flat);
	return err;
}

void kas_space_drop_next(struct kvmas_space *space)
{
	forget_changes(space);
	kas_view_unref(space->next_view);
	space->next_view = NULL;
}

void kas_space_publish(struct kvmas_space *space)
{
	if (!space->next_view)
		return;
	space->old_view = space->view;
	pthread_mutex_lock(&space->view_lock);
	space->view = space->next_view;
	pthread_mutex_unlock(&space->view_lock);
	space->next_view = NULL;
}

void kas_space_forget_old(struct kvmas_space *space)
{
	forget_changes(space);
	kas_view_unref(space->old_view);
	space->old_view = NULL;
}

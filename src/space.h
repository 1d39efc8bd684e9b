/* SPDX-License-Identifier: MIT */
/* Spaces: a root, and the view published for it. See space.c. */
#ifndef KAS_SPACE_H
#define KAS_SPACE_H

#include "view.h"

/* How a commit changes a view: what was there and is no more, and what is new, by ascending address.
 * What is the same before and after is in neither. Their regions are held by the two views. */
struct changes {
	const struct flat_range *dels;
	size_t ndels;
	const struct flat_range *adds;
	size_t nadds;
};

struct kvmas_space {
	struct object object;
	char *name;
	struct kvmas_region *root; /* held */
	TAILQ_ENTRY(kvmas_space) all;
	TAILQ_HEAD(listener_list, kvmas_listener) listeners; /* by ascending priority */

	pthread_mutex_t view_lock; /* for readers: the pointer and its first reference */
	struct kvmas_view *view;
	struct kvmas_view *next_view; /* rendered, not yet published; NULL if nothing changes */
	struct kvmas_view *old_view;  /* what was published before, while listeners are told */
	struct changes changes;       /* from rendering to the end of the telling */
	struct flat_range *differing; /* their memory */
};

/* The view that this space has once the commit that goes on has succeeded. */
static inline const struct kvmas_view *kas_space_next_view(const struct kvmas_space *space)
{
	return space->next_view ? space->next_view : space->view;
}

/* The view published last, held for the caller. Any thread. */
struct kvmas_view *kas_space_get_view(struct kvmas_space *space);

/* Render the space; next_view is set if it looks different now. -ENOMEM, -E2BIG. */
int kas_space_render(struct kvmas_space *space);
void kas_space_drop_next(struct kvmas_space *space);

/* What the commit that goes on changes in the view, from rendering to kas_space_forget_old; empty if
 * it stays. */
static inline const struct changes *kas_space_changes(const struct kvmas_space *space)
{
	return &space->changes;
}

/* Publish next_view, if there is one, and keep the view it replaces until all are told. */
void kas_space_publish(struct kvmas_space *space);
void kas_space_forget_old(struct kvmas_space *space);

/* Make a space with an empty view, known to the context. The transaction lock is held. */
int kas_space_create(struct kvmas *kvmas, const char *name, struct kvmas_region *root,
		     struct kvmas_space **ret);

#endif

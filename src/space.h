/* SPDX-License-Identifier: MIT */
/* Spaces: a root, and the view published for it. See space.c. */
#ifndef KAS_SPACE_H
#define KAS_SPACE_H

#include "view.h"

struct kvmas_space {
	struct object object;
	char *name;
	struct kvmas_region *root; /* held */
	TAILQ_ENTRY(kvmas_space) all;
	TAILQ_HEAD(listener_list, kvmas_listener) listeners; /* by ascending priority */

	pthread_mutex_t view_lock; /* for readers: the pointer and its first reference */
	struct kvmas_view *view;
	struct kvmas_view *next_view; /* rendered, not yet published; NULL if nothing changes */
	struct kvmas_view *told_view; /* what listeners know, while they are told of the next */
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

/* Publish next_view; returns the view it replaces, the caller's to drop. */
struct kvmas_view *kas_space_publish(struct kvmas_space *space);

/* Make a space with an empty view, known to the context. The transaction lock is held. */
int kas_space_create(struct kvmas *kvmas, const char *name, struct kvmas_region *root,
		     struct kvmas_space **ret);

#endif

/* SPDX-License-Identifier: MIT */
/* Spaces: a name, a root, and who listens. See space.c. */
#ifndef KAS_SPACE_H
#define KAS_SPACE_H

#include "root.h"

/*
 * A space lives while it is held. Then it is dead, and waits for its end like any object; a commit
 * meanwhile retires it, so that its root is not rendered for nobody: root is NULL from then on.
 */
struct kvmas_space {
	struct object object;
	char *name;
	uint64_t age;       /* larger for those made later */
	struct root *root;  /* NULL once the space is retired */
	struct root *shown; /* the same to the end, for readers: its object is held */
	LIST_ENTRY(kvmas_space) of_root;
	TAILQ_ENTRY(kvmas_space) all;
	TAILQ_ENTRY(kvmas_space) changing;                   /* inside a commit, or a dry run */
	TAILQ_HEAD(listener_list, kvmas_listener) listeners; /* by ascending priority */
};

/* The view that this space has once the commit that goes on has succeeded. */
static inline const struct kvmas_view *kas_space_next_view(const struct kvmas_space *space)
{
	return space->root->next ? space->root->next : space->root->view;
}

/* What the commit that goes on changes in the view, from rendering until all are told; empty if it
 * stays. */
static inline const struct changes *kas_space_changes(const struct kvmas_space *space)
{
	return &space->root->changes;
}

/* The view published last, held for the caller. Any thread. */
static inline struct kvmas_view *kas_space_get_view(struct kvmas_space *space)
{
	return kas_root_get_view(space->shown);
}

/* Pin the view published last. NULL: the space is dead; or *full*, as kas_pin says. */
static inline struct kvmas_view *kas_space_pin_view(struct kvmas_space *space, struct pins *pins,
						    bool *full)
{
	struct object *object = kas_pin(pins, &space->shown->published, full);

	return object ? kas_view_of(object) : NULL;
}

/* Retire the spaces that are dead. */
void kas_spaces_retire(struct kvmas *kvmas);

/* All is rendered: put the spaces that may change on kvmas->changing, by age. And, when all is
 * told, take them off. */
void kas_spaces_find_changing(struct kvmas *kvmas);
void kas_spaces_forget_changing(struct kvmas *kvmas);

/* Make a space with an empty view, known to the context. The transaction lock is held. */
int kas_space_create(struct kvmas *kvmas, const char *name, struct kvmas_region *root,
		     struct kvmas_space **ret);

#endif

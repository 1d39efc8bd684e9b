/* SPDX-License-Identifier: MIT */
/* Roots: the views of a region that spaces have as their root. See root.c. */
#ifndef KAS_ROOT_H
#define KAS_ROOT_H

#include "splice.h"

struct root {
	struct object object;        /* held by its spaces, together and each, and by its views */
	struct kvmas_region *region; /* held while there are spaces */
	unsigned nspaces;
	LIST_HEAD(, kvmas_space) spaces;
	struct lineage lineage;

	struct kvmas_view *view; /* the newest published; held while there are spaces */
	/* The same for who has no transaction lock: to be pinned, or counted under the lock. */
	struct published published;
	pthread_mutex_t view_lock;

	bool unseen;            /* nothing of it was ever rendered */
	bool damaged;           /* is in kvmas->damaged */
	struct windows windows; /* what may have changed in this transaction */
	TAILQ_ENTRY(root) of_damaged;

	/* Inside a commit, or a dry run of one: */
	struct kvmas_view *next; /* rendered, not yet published; NULL if nothing changes */
	struct page *dropped;    /* what next does not have of view's pages */
	struct kvmas_view *old;  /* published before, until all are told */
	struct changes changes;  /* from rendering until all are told, else empty */
};

/* Count one more space on a region, or one less. All under the transaction lock. -ENOMEM. */
int kas_root_get(struct kvmas_region *region, struct root **ret);
void kas_root_put(struct root *root);

/* What the root shows in *window*, its own bytes, may have changed. */
void kas_root_damage(struct root *root, struct range window);

/* Of all damaged roots: render what was damaged; take that back; publish what came of it; and, when
 * all are told, let go of what was before. */
int kas_roots_render(struct kvmas *kvmas);
void kas_roots_unrender(struct kvmas *kvmas);
void kas_roots_publish(struct kvmas *kvmas);
void kas_roots_let_go(struct kvmas *kvmas);

/* Forget the damage of a transaction that failed: all is as it was. */
void kas_roots_forget_damage(struct kvmas *kvmas);

/* The view published last, held for the caller. Any thread. */
struct kvmas_view *kas_root_get_view(struct root *root);

#endif

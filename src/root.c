/* SPDX-License-Identifier: MIT */
/*
 * Roots: what a region looks like to the spaces that have it as their root, which share it. A root
 * collects windows while a transaction changes the tree; the commit renders these and no more, and
 * splices the result into a successor of the view.
 *
 *     damage      windows grow                                       (edits)
 *     render      next view beside the view, changes between them    (commit, dry run)
 *     publish     the pointer is swapped, `old` keeps what was before
 *     let go      all are told
 *
 * A root ends in two steps, since views outlive spaces: the last space takes its region and view
 * away, the last view the root itself.
 *
 * Invariants, when the transaction lock is free:
 *   I1  view is not NULL while there are spaces, and shows the last committed tree, unless unseen.
 *   I2  next, dropped and old are NULL, changes are empty.
 *   I3  a root is in kvmas->damaged, with a window, if and only if it is unseen.
 */
#include "root.h"

#include <errno.h>

static void root_end(struct object *object)
{
	struct root *root = kas_container_of(object, struct root, object);

	kas_changes_fini(object->kvmas, &root->changes);
	pthread_mutex_destroy(&root->view_lock);
	kas_free(object->kvmas, root);
}

/* *view* is what readers see from now on; NULL once there are no spaces. */
static void publish(struct root *root, struct kvmas_view *view)
{
	pthread_mutex_lock(&root->view_lock);
	atomic_store(&root->published.object, view ? &view->object : NULL);
	pthread_mutex_unlock(&root->view_lock);
}

static int root_new(struct kvmas_region *region, struct root **ret)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct root *root = kas_alloc(kvmas, sizeof(*root));
	int err;

	if (!root)
		return -ENOMEM;
	kas_object_init(&root->object, kvmas, root_end);
	pthread_mutex_init(&root->view_lock, NULL);
	root->lineage.holder = &root->object;
	TAILQ_INIT(&root->lineage.views);
	LIST_INIT(&root->spaces);
	err = kas_view_new(&root->lineage, NULL, 0, 0, &root->view);
	if (err) {
		kas_object_unref(&root->object);
		return err;
	}
	kas_view_publish(root->view, NULL);
	publish(root, root->view);
	root->region = kvmas_region_ref(region);
	root->unseen = true;
	region->root = root;
	kas_root_damage(root, (struct range){0, UINT64_MAX});
	*ret = root;
	return 0;
}

int kas_root_get(struct kvmas_region *region, struct root **ret)
{
	int err = 0;

	if (region->root)
		*ret = region->root;
	else
		err = root_new(region, ret);
	if (!err)
		(*ret)->nspaces++;
	return err;
}

static void forget_damage(struct root *root)
{
	if (root->damaged)
		TAILQ_REMOVE(&root->object.kvmas->damaged, root, of_damaged);
	root->damaged = false;
	root->windows.count = 0;
}

void kas_root_put(struct root *root)
{
	if (--root->nspaces)
		return;
	forget_damage(root);
	root->region->root = NULL;
	kas_object_unref(&root->region->object);
	publish(root, NULL);
	kas_view_unref(root->view);
	kas_object_unref(&root->object);
}

void kas_root_damage(struct root *root, struct range window)
{
	kas_windows_add(&root->windows, window);
	if (root->damaged)
		return;
	root->damaged = true;
	TAILQ_INSERT_TAIL(&root->object.kvmas->damaged, root, of_damaged);
}

static int render(struct root *root)
{
	struct splice splice = {
		.root = root->region,
		.lineage = &root->lineage,
		.old = root->view,
		.windows = &root->windows,
		.changes = &root->changes,
	};
	int err = kas_splice(&splice);

	root->next = splice.next;
	root->dropped = splice.dropped;
	return err;
}

int kas_roots_render(struct kvmas *kvmas)
{
	struct root *root;

	TAILQ_FOREACH(root, &kvmas->damaged, of_damaged) {
		int err = render(root);

		if (err)
			return err;
	}
	return 0;
}

void kas_roots_unrender(struct kvmas *kvmas)
{
	struct root *root;

	TAILQ_FOREACH(root, &kvmas->damaged, of_damaged) {
		if (root->next)
			kas_view_discard(root->next);
		root->next = NULL;
		root->dropped = NULL;
		kas_changes_clear(root->object.kvmas, &root->changes);
	}
}

void kas_roots_forget_damage(struct kvmas *kvmas)
{
	struct root *root;
	struct root *next;

	for (root = TAILQ_FIRST(&kvmas->damaged); root; root = next) {
		next = TAILQ_NEXT(root, of_damaged);
		if (!root->unseen)
			forget_damage(root);
	}
}

void kas_roots_publish(struct kvmas *kvmas)
{
	struct root *root;

	TAILQ_FOREACH(root, &kvmas->damaged, of_damaged) {
		root->unseen = false;
		if (!root->next)
			continue;
		kas_view_publish(root->next, root->dropped);
		root->old = root->view;
		root->view = root->next;
		publish(root, root->view);
		root->next = NULL;
		root->dropped = NULL;
	}
}

void kas_roots_let_go(struct kvmas *kvmas)
{
	struct root *root;

	while ((root = TAILQ_FIRST(&kvmas->damaged))) {
		forget_damage(root);
		kas_changes_clear(root->object.kvmas, &root->changes);
		if (root->old)
			kas_view_unref(root->old);
		root->old = NULL;
	}
}

struct kvmas_view *kas_root_get_view(struct root *root)
{
	struct kvmas_view *view;
	struct object *object;

	pthread_mutex_lock(&root->view_lock);
	object = atomic_load_explicit(&root->published.object, memory_order_relaxed);
	view = object ? kas_view_of(object) : NULL;
	if (view)
		kas_view_ref(view);
	pthread_mutex_unlock(&root->view_lock);
	return view;
}

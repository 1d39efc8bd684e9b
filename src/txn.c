/* SPDX-License-Identifier: MIT */
/*
 * Transactions: begin, commit, abort; one commit for all spaces, all or nothing.
 *
 * Edits change the tree in place and leave an undo each; nobody but the thread in the transaction
 * sees the tree: readers see views, which do not change before publication.
 *
 *     begin ... edits ... commit
 *                           render     each damaged root's next view, beside its view may fail
 *                           ask        listeners of the spaces that change            may refuse
 *                           prepare    each tie follows: KVM's slots move             may fail
 *                           publish    views and logging become the new ones
 *                           tell       listeners of the spaces that changed
 *                           release    undos, old views; reclaim the dead
 *     on failure: ties, then listeners, cancelled in reverse order; next views dropped; undos
 *     restored, newest first
 *
 * A dry run renders, walks what would change, and drops the next views: the tree, the undos and
 * the damage stay as they are.
 *
 * Levels nest on one thread. An inner abort cannot undo its part alone, since edits outside may
 * build on it: it dooms the whole, which the outermost commit undoes.
 *
 * Invariants, when the lock is free:
 *   I1  depth is 0, undo is empty, txn.logging and the next of every root are NULL, doomed is
 *   false.
 *   I2  every view shows its tree, but for roots that are damaged: of spaces made in a transaction
 *       that failed. The next commit renders them, whatever it changes.
 *
 * Read commit_outermost first.
 */
#include "txn.h"

#include <errno.h>

#include "answering.h"
#include "listener.h"
#include "logging.h"
#include "space.h"

void kas_txn_record(struct kvmas *kvmas, struct undo *undo)
{
	undo->next = kvmas->txn.undo;
	kvmas->txn.undo = undo;
}

void kas_txn_take_back(struct kvmas *kvmas)
{
	struct undo *undo = kvmas->txn.undo;

	kvmas->txn.undo = undo->next;
	undo->restore(undo);
}

int kvmas_begin(struct kvmas *kvmas)
{
	int err = kas_lock(kvmas);

	/* An open transaction holds its context, which may lose all others meanwhile. */
	if (!err && kvmas->txn.depth++ == 0)
		kas_hold(kvmas);
	return err;
}

/* Newest first: each finds the tree as its change left it. */
static void undo_all(struct kvmas *kvmas)
{
	while (kvmas->txn.undo)
		kas_txn_take_back(kvmas);
	kas_channels_forget_edits(kvmas);
	kas_roots_forget_damage(kvmas);
	kas_logging_drop_next(kvmas);
}

static void release_all(struct kvmas *kvmas)
{
	struct undo *undo;

	while ((undo = kvmas->txn.undo)) {
		kvmas->txn.undo = undo->next;
		undo->release(undo);
	}
}

/* Cancel the ties before the one that refused, last first. */
static int cancel_ties_before(struct tie *tie)
{
	int err = 0;

	while ((tie = TAILQ_PREV(tie, tie_list, all))) {
		int result = tie->cancel(tie);

		if (!err)
			err = result;
	}
	return err;
}

static int prepare_ties(struct kvmas *kvmas)
{
	struct tie *tie;

	TAILQ_FOREACH(tie, &kvmas->ties, all) {
		int err = tie->prepare(tie);
		int undone;

		if (!err)
			continue;
		undone = cancel_ties_before(tie);
		return undone ? undone : err;
	}
	return 0;
}

void kas_tie_add(struct tie *tie)
{
	struct kvmas *kvmas = tie->object->kvmas;

	pthread_mutex_lock(&kvmas->lists_lock);
	TAILQ_INSERT_TAIL(&kvmas->ties, tie, all);
	pthread_mutex_unlock(&kvmas->lists_lock);
}

void kas_tie_del(struct tie *tie)
{
	struct kvmas *kvmas = tie->object->kvmas;

	pthread_mutex_lock(&kvmas->lists_lock);
	TAILQ_REMOVE(&kvmas->ties, tie, all);
	pthread_mutex_unlock(&kvmas->lists_lock);
}

/* The one after *tie*, or the first, held; *tie* is no more. */
static struct tie *hold_next(struct kvmas *kvmas, struct tie *tie)
{
	struct tie *next;

	pthread_mutex_lock(&kvmas->lists_lock);
	next = tie ? TAILQ_NEXT(tie, all) : TAILQ_FIRST(&kvmas->ties);
	while (next && !kas_object_try_ref(next->object))
		next = TAILQ_NEXT(next, all);
	pthread_mutex_unlock(&kvmas->lists_lock);
	if (tie)
		kas_object_unref(tie->object);
	return next;
}

void kas_ties_drain(struct kvmas *kvmas, struct kvmas_reader *reader)
{
	struct tie *tie = NULL;

	while ((tie = hold_next(kvmas, tie)))
		tie->drain(tie, reader);
}

/* Publish each space that changed, tell the listeners, then free what was before. */
static void publish(struct kvmas *kvmas)
{
	struct log_table *logging_before = kas_logging_publish(kvmas);
	struct tie *tie;

	kas_roots_publish(kvmas);
	kas_channels_publish(kvmas);
	TAILQ_FOREACH(tie, &kvmas->ties, all)
		tie->finish(tie);
	kas_channels_forget_edits(kvmas);
	kas_listeners_tell(kvmas, logging_before);
	kas_spaces_forget_changing(kvmas);
	kas_roots_let_go(kvmas);
	if (logging_before != kvmas->logging)
		kas_log_table_free(kvmas, logging_before);
}

/* Up to what is ahead: the next views and logging are ready. */
static int make_ready(struct kvmas *kvmas)
{
	int err;

	kas_logging_forget_gone(kvmas);
	if (kvmas->txn.doomed)
		return -ECANCELED;
	kas_spaces_retire(kvmas);
	err = kas_roots_render(kvmas);
	if (!err)
		kas_spaces_find_changing(kvmas);
	return err;
}

static void make_unready(struct kvmas *kvmas)
{
	kas_spaces_forget_changing(kvmas);
	kas_roots_unrender(kvmas);
}

static int commit_outermost(struct kvmas *kvmas)
{
	int err = make_ready(kvmas);

	if (!err)
		err = kas_listeners_prepare(kvmas);
	if (!err)
		err = prepare_ties(kvmas);
	if (err) {
		kas_listeners_cancel(kvmas);
		make_unready(kvmas);
		undo_all(kvmas);
		return err;
	}
	publish(kvmas);
	release_all(kvmas);
	return 0;
}

/* The outermost level is over, whichever way. */
static void finish(struct kvmas *kvmas)
{
	kvmas->txn.doomed = false;
	kas_logging_close_locked(kvmas);
	kas_buffers_trim(kvmas);
	kas_reclaim_due(kvmas);
}

/* End one level of a begin of this thread's: the outermost by *end*. */
static int end_level(struct kvmas *kvmas, int (*end)(struct kvmas *kvmas))
{
	bool outermost;
	int err = 0;

	if (!kas_alive(kvmas))
		return -EIO;
	if (!kas_lock_is_mine(kvmas) || kvmas->txn.depth == 0)
		return -EINVAL;
	if (kvmas->txn.calling)
		return -EBUSY;
	outermost = kvmas->txn.depth == 1;
	if (outermost) {
		kas_round_begin(kvmas);
		err = end(kvmas);
		kas_round_end(kvmas);
	}
	kvmas->txn.depth--;
	if (outermost)
		finish(kvmas);
	kas_unlock(kvmas);
	if (outermost)
		kas_let_go(kvmas);
	return err;
}

int kvmas_commit(struct kvmas *kvmas)
{
	return end_level(kvmas, commit_outermost);
}

static int abort_outermost(struct kvmas *kvmas)
{
	undo_all(kvmas);
	return 0;
}

static void doom(struct kvmas *kvmas)
{
	if (kas_alive(kvmas) && kas_lock_is_mine(kvmas) && !kvmas->txn.calling &&
	    kvmas->txn.depth > 1)
		kvmas->txn.doomed = true;
}

int kvmas_abort(struct kvmas *kvmas)
{
	doom(kvmas);
	return end_level(kvmas, abort_outermost);
}

int kas_txn_end(struct kvmas *kvmas, int err)
{
	/* What failed as a transaction by itself must not make others' changes real either. */
	bool back = err && kvmas->txn.depth == 1;
	int result = back ? kvmas_abort(kvmas) : kvmas_commit(kvmas);

	return err ? err : result;
}

int kas_txn_preview(struct kvmas *kvmas, int (*look)(struct kvmas *kvmas, void *data), void *data)
{
	/* What is not in a transaction may still have something to render (I2): not of the
	 * caller's. */
	bool open;
	int result = kas_lock(kvmas);

	if (result)
		return result;
	open = kvmas->txn.depth > 0;
	kvmas->txn.calling = true;
	if (open)
		result = make_ready(kvmas);
	if (!result)
		result = look(kvmas, data);
	if (open)
		make_unready(kvmas);
	kvmas->txn.calling = false;
	kas_hold(kvmas);
	kas_unlock(kvmas);
	kas_logging_close(kvmas); /* *look* may have dropped the last handle */
	kas_let_go(kvmas);
	return result;
}

struct walk {
	kvmas_change_fn *fn;
	void *data;
};

static int walk_ahead(struct kvmas *kvmas, void *data)
{
	const struct walk *walk = data;
	struct kvmas_space *space;
	int result = 0;

	TAILQ_FOREACH(space, &kvmas->changing, changing) {
		struct kvmas_changes changes = kas_changes_ahead(space);

		if (!result && walk->fn && !kas_object_is_dead(&space->object))
			result = kas_changes_walk(&changes, walk->fn, walk->data);
	}
	return result;
}

int kvmas_dry_run(struct kvmas *kvmas, kvmas_change_fn *fn, void *data)
{
	struct walk walk = {fn, data};

	return kas_txn_preview(kvmas, walk_ahead, &walk);
}

/* SPDX-License-Identifier: MIT */
/*
 * Listeners: who is asked what is to change in a space, and told what changed.
 *
 *     prepare                of all spaces that change, ascending priority; may refuse
 *       ... KVM's slots move, the views are published; or
 *       cancel               those who agreed, in the reverse order; nothing else is told
 *     for each space
 *       begin                     all, ascending priority
 *       each change, in the order of changes.c
 *         region_add, log_start   all, ascending priority
 *         region_del, log_stop    all, descending priority
 *       commit                    all, ascending priority
 *
 * All calls of one commit, one sync, one adding or deleting are a round. While it goes on, its
 * thread may not change topology: kas_lock refuses it (-EBUSY), since the tree and the views that
 * are being told about must agree. Listeners that are added or deleted meanwhile wait for the
 * round's end, so that lists do not change under those who walk them, and nobody hears half of a
 * round; their own replays belong to the round and may bring forth more of them.
 *
 * Invariants:
 *   I1  without a round nobody waits, and nobody has agreed.
 *   I2  a listener that waits is either not linked, or linked and deleted.
 *   I3  a listener, waiting or linked, holds its space.
 *
 * Read kas_listeners_tell first, then settle.
 */
#include "listener.h"

#include <errno.h>

typedef void (*section_fn)(void *data, const struct kvmas_section *section);

/* How each kind of change is told: which callback, by its place in the config, in which order. */
static const struct {
	size_t callback;
	bool descending;
} tellings[] = {
	[KVMAS_CHANGE_DEL] = {offsetof(struct kvmas_listener_config, region_del), true},
	[KVMAS_CHANGE_ADD] = {offsetof(struct kvmas_listener_config, region_add), false},
	[KVMAS_CHANGE_LOG_START] = {offsetof(struct kvmas_listener_config, log_start), false},
	[KVMAS_CHANGE_LOG_STOP] = {offsetof(struct kvmas_listener_config, log_stop), true},
};

/* A kvmas_change_fn; data is the listener. */
static int tell_one(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
		    const struct kvmas_section *section)
{
	const struct kvmas_listener *listener = data;
	const char *config = (const char *)&listener->config;
	section_fn call = *(const section_fn *)(const void *)(config + tellings[kind].callback);

	(void)space;
	if (call)
		call(listener->config.data, section);
	return 0;
}

/* A kvmas_change_fn: all listeners of the space, in the order of priorities or against it. */
static int tell_all(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
		    const struct kvmas_section *section)
{
	struct kvmas_listener *listener;

	(void)data;
	if (tellings[kind].descending) {
		TAILQ_FOREACH_REVERSE(listener, &space->listeners, listener_list, of_space)
			tell_one(listener, space, kind, section);
	} else {
		TAILQ_FOREACH(listener, &space->listeners, of_space)
			tell_one(listener, space, kind, section);
	}
	return 0;
}

static void tell_begin(const struct kvmas_listener *listener)
{
	if (listener->config.begin)
		listener->config.begin(listener->config.data);
}

static void tell_commit(struct kvmas_listener *listener)
{
	listener->agreed = false;
	if (listener->config.commit)
		listener->config.commit(listener->config.data);
}

static int ask(struct kvmas_listener *listener, const struct kvmas_changes *changes)
{
	int result;

	if (!listener->config.prepare)
		return 0;
	result = listener->config.prepare(listener->config.data, changes);
	listener->agreed = result >= 0;
	return result < 0 ? result : 0;
}

static int ask_space(struct kvmas_space *space, const struct kvmas_changes *changes)
{
	struct kvmas_listener *listener;

	TAILQ_FOREACH(listener, &space->listeners, of_space) {
		int err = ask(listener, changes);

		if (err)
			return err;
	}
	return 0;
}

int kas_listeners_prepare(struct kvmas *kvmas)
{
	struct kvmas_space *space;
	int err = 0;

	TAILQ_FOREACH(space, &kvmas->changing, changing) {
		struct kvmas_changes changes = kas_changes_ahead(space);

		if (!err && !TAILQ_EMPTY(&space->listeners) && kas_changes_any(&changes))
			err = ask_space(space, &changes);
	}
	return err;
}

void kas_listeners_cancel(struct kvmas *kvmas)
{
	struct kvmas_listener *listener;
	struct kvmas_space *space;

	TAILQ_FOREACH_REVERSE(space, &kvmas->changing, space_list, changing) {
		TAILQ_FOREACH_REVERSE(listener, &space->listeners, listener_list, of_space) {
			if (listener->agreed && listener->config.cancel)
				listener->config.cancel(listener->config.data);
			listener->agreed = false;
		}
	}
}

static void tell_space(struct kvmas_space *space, const struct kvmas_changes *changes)
{
	struct kvmas_listener *listener;

	TAILQ_FOREACH(listener, &space->listeners, of_space)
		tell_begin(listener);
	kas_changes_walk(changes, tell_all, NULL);
	TAILQ_FOREACH(listener, &space->listeners, of_space)
		tell_commit(listener);
}

void kas_listeners_tell(struct kvmas *kvmas, const struct log_table *logging_before)
{
	struct kvmas_space *space;

	TAILQ_FOREACH(space, &kvmas->changing, changing) {
		struct kvmas_changes changes = kas_changes_made(space, logging_before);

		if (!TAILQ_EMPTY(&space->listeners) && kas_changes_any(&changes))
			tell_space(space, &changes);
	}
}

/* Tell one listener the whole view, as if it had just come, or gone. */
static void replay(struct kvmas_listener *listener, bool added)
{
	tell_begin(listener);
	kas_changes_replay(listener->space, added, tell_one, listener);
	tell_commit(listener);
}

void kas_listener_link(struct kvmas_listener *listener)
{
	struct kvmas_listener *after;

	TAILQ_FOREACH(after, &listener->space->listeners, of_space) {
		if (after->config.priority > listener->config.priority)
			break;
	}
	if (after)
		TAILQ_INSERT_BEFORE(after, listener, of_space);
	else
		TAILQ_INSERT_TAIL(&listener->space->listeners, listener, of_space);
	listener->linked = true;
	if (listener->config.log_clear)
		atomic_fetch_add(&listener->space->object.kvmas->armers, 1);
}

void kas_listener_unlink(struct kvmas_listener *listener)
{
	TAILQ_REMOVE(&listener->space->listeners, listener, of_space);
	listener->linked = false;
	if (listener->config.log_clear)
		atomic_fetch_sub(&listener->space->object.kvmas->armers, 1);
}

static void attach(struct kvmas_listener *listener)
{
	kas_listener_link(listener);
	replay(listener, true);
}

static void detach(struct kvmas_listener *listener)
{
	if (!listener->linked)
		return;
	replay(listener, false);
	kas_listener_unlink(listener);
}

static void free_listener(struct kvmas_listener *listener)
{
	struct kvmas_space *space = listener->space;

	kas_free(space->object.kvmas, listener);
	/* Whoever ends the round reclaims. */
	kas_object_unref(&space->object);
}

/* Add and delete those who wait, in the order in which that was asked for. Who was deleted can be
 * asked about as long as anybody is called. */
static void settle(struct kvmas *kvmas)
{
	struct listener_queue gone = TAILQ_HEAD_INITIALIZER(gone);
	struct kvmas_listener *listener;

	while ((listener = TAILQ_FIRST(&kvmas->txn.waiting))) {
		TAILQ_REMOVE(&kvmas->txn.waiting, listener, waiting);
		if (listener->deleted) {
			detach(listener);
			TAILQ_INSERT_TAIL(&gone, listener, waiting);
		} else {
			attach(listener);
		}
	}
	while ((listener = TAILQ_FIRST(&gone))) {
		TAILQ_REMOVE(&gone, listener, waiting);
		free_listener(listener);
	}
}

void kas_round_begin(struct kvmas *kvmas)
{
	kvmas->txn.calling = true;
	kvmas->txn.round = true;
}

void kas_round_end(struct kvmas *kvmas)
{
	settle(kvmas);
	kvmas->txn.round = false;
	kvmas->txn.calling = false;
}

/* Take the lock, unless a round of this thread's goes on, whose end does the rest. */
static int enter(struct kvmas *kvmas)
{
	if (kas_alive(kvmas) && kas_lock_is_mine(kvmas) && kvmas->txn.round)
		return 0;
	return kas_lock_outside(kvmas);
}

/* End a round and let go of the lock. Callbacks may have dropped all that held the context, and
 * what is left to nobody has to end. */
void kas_round_end_and_unlock(struct kvmas *kvmas)
{
	kas_hold(kvmas);
	kas_round_end(kvmas);
	kas_unlock(kvmas);
	kas_logging_close(kvmas);
	kas_let_go(kvmas);
}

static void leave(struct kvmas *kvmas)
{
	if (kvmas->txn.round)
		return;
	kas_round_begin(kvmas);
	kas_round_end_and_unlock(kvmas);
}

static int new_listener(struct kvmas_space *space, const struct kvmas_listener_config *config,
			struct kvmas_listener **ret)
{
	struct kvmas *kvmas = space->object.kvmas;
	struct kvmas_listener *listener = kas_alloc(kvmas, sizeof(*listener));
	int err;

	if (!listener)
		return -ENOMEM;
	err = kas_config_copy(&listener->config, sizeof(listener->config), config);
	if (err) {
		kas_free(kvmas, listener);
		return err;
	}
	listener->space = kvmas_space_ref(space);
	*ret = listener;
	return 0;
}

int kvmas_listener_add(struct kvmas_space *space, const struct kvmas_listener_config *config,
		       struct kvmas_listener **ret)
{
	struct kvmas *kvmas = space->object.kvmas;
	struct kvmas_listener *listener;
	int err = enter(kvmas);

	if (err)
		return err;
	err = new_listener(space, config, &listener);
	if (!err) {
		TAILQ_INSERT_TAIL(&kvmas->txn.waiting, listener, waiting);
		*ret = listener;
	}
	leave(kvmas);
	return err;
}

int kvmas_listener_del(struct kvmas_listener *listener)
{
	struct kvmas *kvmas = listener->space->object.kvmas;
	int err = enter(kvmas);

	if (err)
		return err;
	if (listener->deleted) {
		err = -EALREADY;
	} else {
		listener->deleted = true;
		if (listener->linked)
			TAILQ_INSERT_TAIL(&kvmas->txn.waiting, listener, waiting);
	}
	leave(kvmas);
	return err;
}

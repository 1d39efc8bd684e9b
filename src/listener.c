/* SPDX-License-Identifier: MIT */
/*
 * Listeners: the difference of two looks of a space, told in a fixed order.
 *
 *     begin                              all, ascending priority
 *     region_del    descending address   what was there and is no more; descending priority
 *     region_add    ascending address    what is new; ascending priority
 *       log_start                        right after, if it is logged
 *     log_start     ascending address    what stayed and is logged now
 *     log_stop      ascending address    what stayed and is logged no more; descending priority
 *     commit                             all, ascending priority
 *
 * A section is the same before and after if its range, region, offset and readonly are; any other
 * change is a deletion of exactly what was added and an addition. While telling, the thread that
 * commits may not change topology: kas_lock refuses it (-EBUSY), since the tree and the views that
 * are being told about must agree.
 *
 * Cost: one pass over both views for each of deletions and additions.
 * Read kas_listeners_tell first.
 */
#include "listener.h"

#include <errno.h>

typedef void (*section_fn)(void *data, const struct kvmas_section *section);

/* Which callback, by its place in the config. */
#define CALLBACK(name) offsetof(struct kvmas_listener_config, name)

static section_fn section_callback(const struct kvmas_listener *listener, size_t callback)
{
	const char *config = (const char *)&listener->config;

	return *(const section_fn *)(const void *)(config + callback);
}

/* Whom to tell: all listeners of a space, or one of them alone (a replay). */
struct audience {
	struct kvmas_space *space;
	struct kvmas_listener *only;
};

/* In the order of priorities, or against it. */
static void tell_section(const struct audience *audience, size_t callback, bool reverse,
			 const struct kvmas_section *section)
{
	struct listener_list *list = &audience->space->listeners;
	struct kvmas_listener *listener =
		reverse ? TAILQ_LAST(list, listener_list) : TAILQ_FIRST(list);

	while (listener) {
		section_fn call = section_callback(listener, callback);

		if (call && (!audience->only || audience->only == listener))
			call(listener->config.data, section);
		listener = reverse ? TAILQ_PREV(listener, listener_list, of_space)
				   : TAILQ_NEXT(listener, of_space);
	}
}

static void tell_bounds(const struct audience *audience, bool begin)
{
	struct kvmas_listener *listener;

	TAILQ_FOREACH(listener, &audience->space->listeners, of_space) {
		void (*call)(void *) = begin ? listener->config.begin : listener->config.commit;

		if (call && (!audience->only || audience->only == listener))
			call(listener->config.data);
	}
}

/* The range of *view* that is the same as *range*; NULL if there is none. */
static const struct flat_range *same_range(const struct kvmas_view *view,
					   const struct flat_range *range)
{
	size_t index = kas_view_find(view, range->range.first);

	if (index == view->count || !kas_flat_range_equal(&view->ranges[index], range))
		return NULL;
	return &view->ranges[index];
}

static void fill_section(struct kvmas_section *section, const struct audience *audience,
			 const struct looks *looks, const struct flat_range *range)
{
	kas_section_fill(section, range);
	section->logged = kas_logging_wanted(looks->logging, audience->space, range);
	section->was_logged = section->logged;
}

static void tell_deletions(const struct audience *audience, const struct looks *before,
			   const struct looks *after)
{
	for (size_t i = before->view->count; i-- > 0;) {
		const struct flat_range *range = &before->view->ranges[i];
		struct kvmas_section section;

		if (same_range(after->view, range))
			continue;
		fill_section(&section, audience, before, range);
		tell_section(audience, CALLBACK(region_del), true, &section);
	}
}

static void tell_additions(const struct audience *audience, const struct looks *before,
			   const struct looks *after)
{
	for (size_t i = 0; i < after->view->count; i++) {
		const struct flat_range *range = &after->view->ranges[i];
		bool stayed = same_range(before->view, range);
		struct kvmas_section section;
		bool was_logged;

		was_logged = stayed && kas_logging_wanted(before->logging, audience->space, range);
		fill_section(&section, audience, after, range);
		section.was_logged = was_logged;
		if (!stayed)
			tell_section(audience, CALLBACK(region_add), false, &section);
		if (section.logged && !was_logged)
			tell_section(audience, CALLBACK(log_start), false, &section);
		else if (!section.logged && was_logged)
			tell_section(audience, CALLBACK(log_stop), true, &section);
	}
}

static bool logging_differs(const struct kvmas_space *space, const struct looks *before,
			    const struct looks *after)
{
	if (before->logging == after->logging)
		return false;
	for (size_t i = 0; i < after->view->count; i++) {
		const struct flat_range *range = &after->view->ranges[i];

		if (kas_logging_wanted(before->logging, space, range) !=
		    kas_logging_wanted(after->logging, space, range))
			return true;
	}
	return false;
}

static void tell(const struct audience *audience, const struct looks *before,
		 const struct looks *after)
{
	struct kvmas *kvmas = audience->space->object.kvmas;
	bool calling = kvmas->txn.calling; /* already, in a commit */

	kvmas->txn.calling = true;
	tell_bounds(audience, true);
	tell_deletions(audience, before, after);
	tell_additions(audience, before, after);
	tell_bounds(audience, false);
	kvmas->txn.calling = calling;
}

void kas_listeners_tell(struct kvmas_space *space, struct looks before, struct looks after)
{
	struct audience everybody = {.space = space};

	if (before.view == after.view && !logging_differs(space, &before, &after))
		return;
	tell(&everybody, &before, &after);
}

/* Tell one listener the whole view, as if it had just come, or gone. */
static void replay(struct kvmas_listener *listener, bool added)
{
	struct kvmas_view nothing = {.count = 0};
	struct looks without = {.view = &nothing};
	struct looks with = {.view = listener->space->view,
			     .logging = listener->space->object.kvmas->logging};
	struct audience audience = {.space = listener->space, .only = listener};

	if (added)
		tell(&audience, &without, &with);
	else
		tell(&audience, &with, &without);
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
}

void kas_listener_unlink(struct kvmas_listener *listener)
{
	TAILQ_REMOVE(&listener->space->listeners, listener, of_space);
}

int kvmas_listener_add(struct kvmas_space *space, const struct kvmas_listener_config *config,
		       struct kvmas_listener **ret)
{
	struct kvmas *kvmas = space->object.kvmas;
	struct kvmas_listener *listener;
	int err = kas_lock_outside(kvmas);

	if (err)
		return err;
	err = -ENOMEM;
	listener = kas_alloc(kvmas, sizeof(*listener));
	if (!listener)
		goto unlock;
	err = kas_config_copy(&listener->config, sizeof(listener->config), config);
	if (err) {
		kas_free(kvmas, listener);
		goto unlock;
	}
	listener->space = kvmas_space_ref(space);
	kas_listener_link(listener);
	replay(listener, true);
	*ret = listener;
unlock:
	kas_unlock(kvmas);
	return err;
}

int kvmas_listener_del(struct kvmas_listener *listener)
{
	struct kvmas_space *space = listener->space;
	struct kvmas *kvmas = space->object.kvmas;
	int err = kas_lock_outside(kvmas);

	if (err)
		return err;
	replay(listener, false);
	kas_listener_unlink(listener);
	kas_free(kvmas, listener);
	kas_unlock(kvmas);
	kvmas_space_unref(space);
	return 0;
}

int kvmas_space_sync(struct kvmas_space *space, uint64_t gpa, uint64_t size)
{
	struct kvmas *kvmas = space->object.kvmas;
	struct kvmas_listener *listener;
	struct range range;
	int result;
	int err = kas_range_from(gpa, size, &range);

	if (err)
		return err;
	err = kas_lock(kvmas);
	if (err)
		return err;
	kvmas->txn.calling = true;
	TAILQ_FOREACH(listener, &space->listeners, of_space) {
		if (!listener->config.log_sync)
			continue;
		result = listener->config.log_sync(listener->config.data, range.first, range.last);
		if (result < 0 && !err)
			err = result;
	}
	kvmas->txn.calling = false;
	kas_unlock(kvmas);
	return err;
}

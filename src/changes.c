/* SPDX-License-Identifier: MIT */
/*
 * Changes: what a commit changes in a space, for those who are asked before it, told after it, or
 * only want to know. The space says which ranges come and go; here logging is added, and the order,
 * which is one and the same for all:
 *
 *     DEL           descending address   what was there and is no more
 *     ADD           ascending address    what is new
 *       LOG_START                        right after, if it is logged
 *     LOG_START     ascending address    what stayed and is logged now
 *     LOG_STOP      ascending address    what stayed and is logged no more
 *
 * where all but the first are one pass. A range is the same before and after if its addresses,
 * region, offset and attributes are; any other change is a DEL of exactly what was an ADD, and an
 * ADD.
 *
 * Cost: what changes. Only if another table says what is logged the view is walked, since what
 * stayed may have to be told of. Read kas_changes_walk first.
 */
#include "changes.h"

#include <errno.h>

/* A walk that goes on. */
struct walk {
	struct kvmas_space *space;
	kvmas_change_fn *fn;
	void *data;
};

static int call(const struct walk *walk, enum kvmas_change_kind kind,
		const struct flat_range *range, bool was_logged, bool logged)
{
	struct kvmas_section section;

	kas_section_fill(&section, range);
	section.was_logged = was_logged;
	section.logged = logged;
	return walk->fn(walk->data, walk->space, kind, &section);
}

static int walk_del(const struct walk *walk, const struct log_table *logging,
		    const struct flat_range *range)
{
	bool logged = kas_logging_wanted(logging, walk->space, range);

	return call(walk, KVMAS_CHANGE_DEL, range, logged, logged);
}

static int walk_add(const struct walk *walk, const struct log_table *logging,
		    const struct flat_range *range)
{
	bool logged = kas_logging_wanted(logging, walk->space, range);
	int result = call(walk, KVMAS_CHANGE_ADD, range, false, logged);

	if (!result && logged)
		result = call(walk, KVMAS_CHANGE_LOG_START, range, false, true);
	return result;
}

static int walk_stayed(const struct walk *walk, const struct kvmas_changes *changes,
		       const struct flat_range *range)
{
	bool was_logged = kas_logging_wanted(changes->logging_before, walk->space, range);
	bool logged = kas_logging_wanted(changes->logging_after, walk->space, range);

	if (was_logged == logged)
		return 0;
	return call(walk, logged ? KVMAS_CHANGE_LOG_START : KVMAS_CHANGE_LOG_STOP, range,
		    was_logged, logged);
}

/* The ascending half where logging changed: additions are part of the view, so both go together. */
static int walk_view(const struct walk *walk, const struct kvmas_changes *changes)
{
	const struct flat_range *add = changes->ranges->adds;
	size_t left = changes->ranges->nadds;
	const struct flat_range *range;
	struct view_at at;
	int result = 0;

	kas_view_for_each(changes->view, at, range) {
		if (result)
			break;
		if (left && add->range.first == range->range.first) {
			result = walk_add(walk, changes->logging_after, add++);
			left--;
		} else {
			result = walk_stayed(walk, changes, range);
		}
	}
	return result;
}

int kas_changes_walk(const struct kvmas_changes *changes, kvmas_change_fn *fn, void *data)
{
	const struct changes *ranges = changes->ranges;
	const struct walk walk = {changes->space, fn, data};
	int result = 0;

	for (size_t i = ranges->ndels; !result && i-- > 0;)
		result = walk_del(&walk, changes->logging_before, &ranges->dels[i]);
	if (!result && changes->logging_before != changes->logging_after)
		return walk_view(&walk, changes);
	for (size_t i = 0; !result && i < ranges->nadds; i++)
		result = walk_add(&walk, changes->logging_after, &ranges->adds[i]);
	return result;
}

int kvmas_changes_for_each(const struct kvmas_changes *changes, kvmas_change_fn *fn, void *data)
{
	if (!kas_alive(changes->space->object.kvmas))
		return -EIO;
	return kas_changes_walk(changes, fn, data);
}

static int stop_at_first(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
			 const struct kvmas_section *section)
{
	(void)data;
	(void)space;
	(void)kind;
	(void)section;
	return 1;
}

bool kas_changes_any(const struct kvmas_changes *changes)
{
	return kas_changes_walk(changes, stop_at_first, NULL);
}

struct kvmas_changes kas_changes_ahead(struct kvmas_space *space)
{
	const struct kvmas *kvmas = space->object.kvmas;

	return (struct kvmas_changes){
		.space = space,
		.ranges = kas_space_changes(space),
		.view = kas_space_next_view(space),
		.logging_before = kvmas->logging,
		.logging_after = kas_logging_next(kvmas),
	};
}

struct kvmas_changes kas_changes_made(struct kvmas_space *space,
				      const struct log_table *logging_before)
{
	return (struct kvmas_changes){
		.space = space,
		.ranges = kas_space_changes(space),
		.view = space->root->view,
		.logging_before = logging_before,
		.logging_after = space->object.kvmas->logging,
	};
}

void kas_changes_replay(struct kvmas_space *space, bool added, kvmas_change_fn *fn, void *data)
{
	const struct log_table *logging = space->object.kvmas->logging;
	const struct kvmas_view *view = space->root->view;
	const struct walk walk = {space, fn, data};
	const struct flat_range *range;
	struct view_at at;

	if (added) {
		kas_view_for_each(view, at, range)
			walk_add(&walk, logging, range);
		return;
	}
	for (at = kas_view_end(view); kas_view_step_back(view, &at);)
		walk_del(&walk, logging, kas_view_get(view, at));
}

/* SPDX-License-Identifier: MIT */
/*
 * Syncing and arming: listeners that know of writes, KVM's and others', hand over what they know,
 * and hear what clients have taken.
 *
 *     sync of a space     log_sync of its listeners, for the range asked for
 *     sync of a region    the same in all spaces, for each place in which the region may be seen
 *     arm                 log_clear of the listeners of all spaces that show what was taken
 *
 * Where a region is seen is found by climbing the tree, as damage is carried (damage.c): no view is
 * walked, and nothing is asked about memory that another region shows. That is the tree as it is,
 * and so as the views are: inside a transaction, where they may differ, it is refused.
 *
 * A listener with log_clear marks a page once, and then no more until it is armed. It counts among
 * kvmas->armers as long as it is in its space's list, and so before it can mark anything: who has
 * taken a page that it marked sees it there, since both went through the lock of the page's bitmap.
 *
 * All calls of one sync, or of one taking, are a round (listener.c). Read kvmas_region_sync first.
 */
#include "sync.h"

#include <errno.h>
#include <stdlib.h>

#include "damage.h"
#include "logging.h"

/* All are called; the first error counts. */
static int sync_space(struct kvmas_space *space, struct range range)
{
	struct kvmas_listener *listener;
	int err = 0;

	TAILQ_FOREACH(listener, &space->listeners, of_space) {
		int result;

		if (!listener->config.log_sync)
			continue;
		result = listener->config.log_sync(listener->config.data, range.first, range.last);
		if (result < 0 && !err)
			err = result;
	}
	return err;
}

int kvmas_space_sync(struct kvmas_space *space, uint64_t gpa, uint64_t size)
{
	struct kvmas *kvmas = space->object.kvmas;
	struct range range;
	int err = kas_range_from(gpa, size, &range);

	if (err)
		return err;
	err = kas_lock(kvmas);
	if (err)
		return err;
	kas_round_begin(kvmas);
	err = sync_space(space, range);
	kas_round_end_and_unlock(kvmas);
	return err;
}

/* ---- regions ---- */

/* Where a region may be seen. */
struct place {
	struct root *root;
	struct range window;
};

struct places {
	struct kvmas *kvmas;
	size_t count;
};

static struct place *places_of(const struct places *places)
{
	return places->kvmas->txn.buffers[BUFFER_SEEN].at;
}

/* A kas_climb_fn. */
static int add_place(void *data, struct root *root, struct range window)
{
	struct places *places = data;

	if (!kas_buffer_grow(places->kvmas, BUFFER_SEEN, places->count, sizeof(struct place)))
		return -ENOMEM;
	places_of(places)[places->count++] = (struct place){root, window};
	return 0;
}

/* By root, in any order of these, then by address. */
static int compare_places(const void *a, const void *b)
{
	const struct place *one = a;
	const struct place *two = b;

	if (one->root != two->root)
		return (uintptr_t)one->root < (uintptr_t)two->root ? -1 : 1;
	return (one->window.first > two->window.first) - (one->window.first < two->window.first);
}

static bool touches(const struct place *before, const struct place *after)
{
	return before->root == after->root &&
	       after->window.first <= kas_add_saturating(before->window.last, 1);
}

/* Sort them, and make one of those that overlap or touch. */
static void join_places(struct places *places)
{
	struct place *at = places_of(places);
	size_t count = 0;

	if (places->count == 0)
		return;
	qsort(at, places->count, sizeof(*at), compare_places);
	for (size_t i = 1; i < places->count; i++) {
		if (!touches(&at[count], &at[i]))
			at[++count] = at[i];
		else if (at[i].window.last > at[count].window.last)
			at[count].window.last = at[i].window.last;
	}
	places->count = count + 1;
}

/* The first place of a root, or behind. */
static size_t seek(const struct places *places, const struct root *root)
{
	const struct place *at = places_of(places);
	size_t low = 0, high = places->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if ((uintptr_t)at[middle].root < (uintptr_t)root)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int sync_places(const struct places *places)
{
	struct kvmas_space *space;
	int err = 0;

	TAILQ_FOREACH(space, &places->kvmas->spaces, all) {
		size_t i = space->root ? seek(places, space->root) : places->count;

		for (; i < places->count && places_of(places)[i].root == space->root; i++) {
			int result = sync_space(space, places_of(places)[i].window);

			if (!err)
				err = result;
		}
	}
	return err;
}

/* What is disabled is cut off where it lies, but not where it begins. */
static int sync_window(struct kvmas_region *region, struct range window)
{
	struct places places = {.kvmas = region->object.kvmas};
	int err = region->state.enabled ? kas_climb(region, window, add_place, &places) : 0;

	if (err)
		return err;
	join_places(&places);
	return sync_places(&places);
}

int kvmas_region_sync(struct kvmas_region *region, uint64_t offset, uint64_t size)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct range window = {offset, UINT64_MAX};
	int err;

	if (size == 0)
		return -EINVAL;
	err = kas_lock_outside(kvmas);
	if (err)
		return err;
	window.last = kas_add_saturating(offset, kas_size_to_last(size));
	kas_round_begin(kvmas);
	if (kas_range_clip(&window, (struct range){0, region->state.last}))
		err = sync_window(region, window);
	else
		err = -EINVAL;
	kas_buffers_trim(kvmas);
	kas_round_end_and_unlock(kvmas);
	return err;
}

/* ---- arming ---- */

static bool needs_arming(const struct kvmas_space *space)
{
	const struct kvmas_listener *listener;

	TAILQ_FOREACH(listener, &space->listeners, of_space) {
		if (listener->config.log_clear)
			return true;
	}
	return false;
}

/* Cut a range to these bytes of its block; false if it shows none. */
static bool cut_to_bytes(struct flat_range *range, struct range bytes)
{
	uint64_t start = range->region->ram_offset + range->offset;
	struct range shown = {start, start + (range->range.last - range->range.first)};

	if (!kas_range_clip(&shown, bytes))
		return false;
	range->range.last = range->range.first + (shown.last - start);
	range->range.first += shown.first - start;
	range->offset += shown.first - start;
	return true;
}

static int arm_range(struct kvmas_space *space, const struct flat_range *range)
{
	bool logged = kas_logging_wanted(space->object.kvmas->logging, space, range);
	struct kvmas_listener *listener;
	struct kvmas_section section;

	kas_section_fill(&section, range);
	section.logged = logged;
	section.was_logged = logged;
	TAILQ_FOREACH(listener, &space->listeners, of_space) {
		int result = 0;

		if (listener->config.log_clear)
			result = listener->config.log_clear(listener->config.data, &section);
		if (result < 0)
			return result;
	}
	return 0;
}

static int arm_space(struct kvmas_space *space, const struct kvmas_ram *ram, struct range bytes)
{
	const struct kvmas_view *view = space->root->view;
	const struct flat_range *range;
	struct view_at at;
	int err = 0;

	kas_view_for_each(view, at, range) {
		struct flat_range part = *range;

		if (!kas_range_ram(range) || (ram && kas_range_ram(range) != ram))
			continue;
		if (cut_to_bytes(&part, bytes))
			err = arm_range(space, &part);
		if (err)
			break;
	}
	return err;
}

int kas_listeners_arm(struct kvmas *kvmas, const struct kvmas_ram *ram, struct range bytes)
{
	struct kvmas_space *space;
	int err = kas_lock(kvmas);

	if (err)
		return err;
	kas_round_begin(kvmas);
	TAILQ_FOREACH(space, &kvmas->spaces, all) {
		if (!err && needs_arming(space))
			err = arm_space(space, ram, bytes);
	}
	kas_round_end_and_unlock(kvmas);
	return err;
}

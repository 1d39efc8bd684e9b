/* SPDX-License-Identifier: MIT */
/*
 * Which memory is to be logged. Clients wish for a region's pages, or all, as written through one
 * space, or all; what anybody wishes for is logged. The wishes stand in one table, which is
 * replaced whole by a commit, so that they change together with the views: a section's `logged` is
 * a question to (table, space, range), not a part of the view, and turning logging on or off
 * renders nothing.
 *
 *     region  all   all   a     a     a     b      ascending, "all" first; by address, which means
 *     space   all   s     all   s     s     t      nothing: what is alike stands together
 *     owner   x     x     y     x     y     x
 *
 * Whether a range is logged is answered by looking for four kinds of wishes: its region or all, in
 * its space or all.
 *
 * Invariants, under the transaction lock:
 *   I1  kvmas->logging is what listeners and KVM have been told.
 *   I2  a table is sorted, and no wish stands twice in it.
 *   I3  a table holds the owner, region and space of each wish.
 */
#include "logging.h"

#include <errno.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	return ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

/* By region, space and owner; NULL comes first. */
static int compare_wishes(const struct log_wish *a, const struct log_wish *b)
{
	int order = compare(a->region, b->region);

	if (!order)
		order = compare(a->space, b->space);
	return order ? order : compare(a->owner, b->owner);
}

/* The first wish that is not before this one. */
static size_t seek_wish(const struct log_table *table, const struct log_wish *wish)
{
	size_t low = 0, high = table->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_wishes(&table->wishes[middle], wish) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Whether anybody has just this wish. */
static bool is_wished(const struct log_table *table, struct kvmas_region *region,
		      struct kvmas_space *space)
{
	const struct log_wish wish = {NULL, region, space};
	size_t index = seek_wish(table, &wish);

	return index < table->count && table->wishes[index].region == region &&
	       table->wishes[index].space == space;
}

bool kas_logging_wanted(const struct log_table *table, const struct kvmas_space *space,
			const struct flat_range *range)
{
	struct kvmas_space *here = (struct kvmas_space *)(uintptr_t)space;

	if (!table || !kas_range_is_writable(range))
		return false;
	return is_wished(table, NULL, NULL) || is_wished(table, NULL, here) ||
	       is_wished(table, range->region, NULL) || is_wished(table, range->region, here);
}

const struct log_table *kas_logging_next(const struct kvmas *kvmas)
{
	return kvmas->txn.logging ? kvmas->txn.logging : kvmas->logging;
}

static void hold_wish(const struct log_wish *wish)
{
	kas_object_ref(wish->owner->object);
	if (wish->region)
		kvmas_region_ref(wish->region);
	if (wish->space)
		kvmas_space_ref(wish->space);
}

static void drop_wish(const struct log_wish *wish)
{
	kvmas_region_unref(wish->region);
	kvmas_space_unref(wish->space);
	kas_object_unref(wish->owner->object);
}

void kas_log_table_free(struct kvmas *kvmas, struct log_table *table)
{
	for (size_t i = 0; table && i < table->count; i++)
		drop_wish(&table->wishes[i]);
	kas_free(kvmas, table);
}

static const struct log_wish *find_wish(const struct log_table *table, const struct log_wish *wish)
{
	size_t index = table ? seek_wish(table, wish) : 0;

	if (!table || index == table->count || compare_wishes(&table->wishes[index], wish) != 0)
		return NULL;
	return &table->wishes[index];
}

static void insert_wish(struct log_table *table, const struct log_wish *wish)
{
	struct log_wish *at = &table->wishes[seek_wish(table, wish)];

	memmove(at + 1, at, (size_t)(&table->wishes[table->count] - at) * sizeof(*at));
	*at = *wish;
	table->count++;
	hold_wish(wish);
}

/* Replace the next table by a copy: without one wish, without those who are gone, or with one more;
 * any may be left out. */
static int replace_next(struct kvmas *kvmas, const struct log_wish *without, bool without_gone,
			const struct log_wish *with)
{
	const struct log_table *old = kas_logging_next(kvmas);
	size_t count = old ? old->count : 0;
	struct log_table *table =
		kas_alloc(kvmas, sizeof(*table) + (count + 1) * sizeof(table->wishes[0]));

	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct log_wish *wish = &old->wishes[i];

		if (wish == without || (without_gone && atomic_load(&wish->owner->gone)))
			continue;
		table->wishes[table->count++] = *wish;
		hold_wish(wish);
	}
	if (with)
		insert_wish(table, with);
	kas_log_table_free(kvmas, kvmas->txn.logging);
	kvmas->txn.logging = table;
	return 0;
}

int kas_logging_add(struct kvmas *kvmas, const struct log_wish *wish)
{
	if (find_wish(kas_logging_next(kvmas), wish))
		return -EEXIST;
	return replace_next(kvmas, NULL, false, wish);
}

int kas_logging_remove(struct kvmas *kvmas, const struct log_wish *wish)
{
	const struct log_wish *found = find_wish(kas_logging_next(kvmas), wish);

	return found ? replace_next(kvmas, found, false, NULL) : -ENOENT;
}

void kas_logging_forget_gone(struct kvmas *kvmas)
{
	/* Without memory for it the wishes stay until another commit: more is logged than need be.
	 */
	if (!atomic_load_explicit(&kvmas->logging_stale, memory_order_relaxed))
		return;
	if (atomic_exchange(&kvmas->logging_stale, false) && replace_next(kvmas, NULL, true, NULL))
		atomic_store(&kvmas->logging_stale, true);
}

struct log_table *kas_logging_publish(struct kvmas *kvmas)
{
	struct log_table *old = kvmas->logging;

	if (kvmas->txn.logging)
		kvmas->logging = kvmas->txn.logging;
	kvmas->txn.logging = NULL;
	return old;
}

void kas_logging_drop_next(struct kvmas *kvmas)
{
	if (!kvmas->txn.logging)
		return;
	/* It may have been without those who are gone, and the table is still with them. */
	atomic_store(&kvmas->logging_stale, true);
	kas_log_table_free(kvmas, kvmas->txn.logging);
	kvmas->txn.logging = NULL;
}

void kas_logging_close_locked(struct kvmas *kvmas)
{
	struct log_table *table;
	size_t i = 0;

	if (atomic_load(&kvmas->handles))
		return;
	/* A wish leaves the table before it is dropped: what ends by that may commit, and replace
	 * the table. */
	while ((table = kvmas->logging) && i < table->count) {
		struct log_wish wish = table->wishes[i];

		if (!atomic_load(&wish.owner->gone)) {
			i++;
			continue;
		}
		memmove(&table->wishes[i], &table->wishes[i + 1],
			(--table->count - i) * sizeof(wish));
		drop_wish(&wish);
	}
	if (table && table->count == 0) {
		kvmas->logging = NULL;
		kas_free(kvmas, table);
	}
}

void kas_logging_close(struct kvmas *kvmas)
{
	if (atomic_load(&kvmas->handles) || kas_lock_outside(kvmas))
		return;
	kas_logging_close_locked(kvmas);
	kas_reclaim(kvmas);
	kas_unlock(kvmas);
}

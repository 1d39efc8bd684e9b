/* SPDX-License-Identifier: MIT */
/*
 * Which event channels a region answers by, for threads that look without a lock.
 *
 *     region->channels    as the transaction has them          held
 *     region->answering   as dispatch sees them: published     held; pinned, or counted
 *
 * A look takes the view first and then the channels, each as it is published at that moment: one
 * that a commit overtakes, which changes both, may see one of before and the other of after.
 *
 * Invariant, when the transaction lock is free: the two are the same table, and no region is on
 * the list of those edited.
 */
#include "answering.h"

#include "channel.h"

static void unref_table(struct channels *channels)
{
	if (channels)
		kas_object_unref(&channels->object);
}

static struct channels *table_of(struct object *object)
{
	return object ? kas_container_of(object, struct channels, object) : NULL;
}

static void publish(struct kvmas_region *region)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct channels *old =
		table_of(atomic_load_explicit(&region->answering.object, memory_order_relaxed));

	if (old == region->channels)
		return;
	if (region->channels)
		kas_object_ref(&region->channels->object);
	pthread_mutex_lock(&kvmas->lists_lock);
	atomic_store(&region->answering.object,
		     region->channels ? &region->channels->object : NULL);
	pthread_mutex_unlock(&kvmas->lists_lock);
	unref_table(old);
}

void kas_channels_publish(struct kvmas *kvmas)
{
	struct kvmas_region *region;

	TAILQ_FOREACH(region, &kvmas->txn.channelled, channelled)
		publish(region);
}

void kas_channels_forget_edits(struct kvmas *kvmas)
{
	struct kvmas_region *region;

	while ((region = TAILQ_FIRST(&kvmas->txn.channelled))) {
		TAILQ_REMOVE(&kvmas->txn.channelled, region, channelled);
		region->is_channelled = false;
	}
}

static struct channels *count(struct pins *pins, struct kvmas_region *region)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct channels *channels;

	kas_pins_count(pins);
	pthread_mutex_lock(&kvmas->lists_lock);
	channels = table_of(atomic_load_explicit(&region->answering.object, memory_order_relaxed));
	if (channels)
		kas_object_ref(&channels->object);
	pthread_mutex_unlock(&kvmas->lists_lock);
	if (!channels)
		kas_pins_uncount(pins);
	return channels;
}

struct channels *kas_channels_pin(struct pins *pins, struct kvmas_region *region)
{
	struct object *object;
	bool full;

	if (!atomic_load_explicit(&region->answering.object, memory_order_relaxed))
		return NULL;
	object = kas_pin(pins, &region->answering, &full);
	return full ? count(pins, region) : table_of(object);
}

void kas_channels_unpin(struct pins *pins, struct channels *channels)
{
	if (kas_unpin(pins, &channels->object))
		return;
	unref_table(channels);
	kas_pins_uncount(pins);
}

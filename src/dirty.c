/* SPDX-License-Identifier: MIT */
/*
 * The dirty bitmaps of one RAM block: one for each client, one bit for each host page. This is the
 * place where the logs of all slots, of all spaces, come together: whatever shows a host page feeds
 * the same bit, so that no code needs to know all spaces.
 *
 *     struct dirty (held by the block and by each bitmap)
 *       bitmaps --> bitmap of client A --> bitmap of client B ...      by dirty->lock
 *     client A
 *       bitmaps --> its bitmap on block 1 --> its bitmap on block 2    by kvmas->lists_lock
 *       orphans --> those of them whose block has ended                a stack, taken whole
 *
 * Blocks and clients end in any order, on any thread, and a block may serve several kvmas objects:
 * so a bitmap belongs to its client, and an ending block only cuts its own list.
 *
 * Invariants, under dirty->lock:
 *   I1  a client has at most one bitmap in dirty->bitmaps.
 *   I2  bits at npages and beyond are 0 in every word.
 *   I3  nbitmaps is the length of the list; a mark may skip the lock when it reads 0, since a
 *       client whose bitmap is not there yet has not asked for anything yet.
 *   I4  while a bitmap is linked its owner is there: that ends by unlinking all of its own.
 *
 * Marking costs one lock and npages / 64 words for each client. A log costs one look at each of its
 * words, whatever the number of clients, and no lock where it is clean; what is not clean goes into
 * each bitmap. Taking costs the words that are dirty (bitmap.c). The lock is a mutex, with plain
 * ORs under it, many words at a time; but it is let go of now and then, since vCPUs that complete a
 * write wait for it.
 *
 * Read kas_dirty_mark_log first.
 */
#include "dirty.h"

#include <errno.h>
#include <string.h>

#include "bitmap.h"

#define BITS KAS_WORD_BITS

/* Words that are dealt with under one lock. */
#define STRETCH UINT64_C(4096)

struct dirty {
	struct kvmas *home;
	atomic_uint refs;
	uint64_t npages;
	pthread_mutex_t lock;
	atomic_uint nbitmaps;
	TAILQ_HEAD(, dirty_bitmap) bitmaps;
};

struct dirty_bitmap {
	struct dirty *dirty;
	struct dirty_client *owner;
	bool linked;
	TAILQ_ENTRY(dirty_bitmap) of_block;
	TAILQ_ENTRY(dirty_bitmap) of_client;
	struct dirty_bitmap *next_orphan;
	struct bitmap bits;
	uint64_t room[]; /* theirs */
};

int kas_dirty_new(struct kvmas *home, uint64_t npages, struct dirty **ret)
{
	struct dirty *dirty = kas_alloc(home, sizeof(*dirty));

	if (!dirty)
		return -ENOMEM;
	kas_hold(home);
	dirty->home = home;
	dirty->npages = npages;
	atomic_init(&dirty->refs, 1);
	pthread_mutex_init(&dirty->lock, NULL);
	TAILQ_INIT(&dirty->bitmaps);
	*ret = dirty;
	return 0;
}

static void dirty_unref(struct dirty *dirty)
{
	struct kvmas *home = dirty->home;

	if (atomic_fetch_sub_explicit(&dirty->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&dirty->lock);
	kas_free(home, dirty);
	kas_let_go(home);
}

/* Under dirty->lock. */
static void unlink_bitmap(struct dirty *dirty, struct dirty_bitmap *bitmap)
{
	if (!bitmap->linked)
		return;
	TAILQ_REMOVE(&dirty->bitmaps, bitmap, of_block);
	bitmap->linked = false;
	atomic_fetch_sub(&dirty->nbitmaps, 1);
}

/* Under dirty->lock. */
static void orphan_bitmap(struct dirty *dirty, struct dirty_bitmap *bitmap)
{
	struct dirty_client *owner = bitmap->owner;

	unlink_bitmap(dirty, bitmap);
	bitmap->next_orphan = atomic_load_explicit(&owner->orphans, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&owner->orphans, &bitmap->next_orphan, bitmap))
		;
}

void kas_dirty_end(struct dirty *dirty)
{
	struct dirty_bitmap *bitmap;

	pthread_mutex_lock(&dirty->lock);
	while ((bitmap = TAILQ_FIRST(&dirty->bitmaps)))
		orphan_bitmap(dirty, bitmap);
	pthread_mutex_unlock(&dirty->lock);
	dirty_unref(dirty);
}

/* Under dirty->lock. */
static struct dirty_bitmap *bitmap_of(struct dirty *dirty, const struct dirty_client *owner)
{
	struct dirty_bitmap *bitmap;

	TAILQ_FOREACH(bitmap, &dirty->bitmaps, of_block) {
		if (bitmap->owner == owner)
			return bitmap;
	}
	return NULL;
}

static void free_bitmap(struct dirty_client *owner, struct dirty_bitmap *bitmap,
			struct kvmas *kvmas)
{
	struct dirty *dirty = bitmap->dirty;

	pthread_mutex_lock(&dirty->lock);
	unlink_bitmap(dirty, bitmap);
	pthread_mutex_unlock(&dirty->lock);
	TAILQ_REMOVE(&owner->bitmaps, bitmap, of_client);
	kas_free(kvmas, bitmap);
	dirty_unref(dirty);
}

/* The bitmaps of blocks that have ended. */
static void free_orphans(struct dirty_client *owner, struct kvmas *kvmas)
{
	struct dirty_bitmap *bitmap = NULL;

	if (atomic_load_explicit(&owner->orphans, memory_order_relaxed))
		bitmap = atomic_exchange(&owner->orphans, NULL);
	while (bitmap) {
		struct dirty_bitmap *next = bitmap->next_orphan;

		free_bitmap(owner, bitmap, kvmas);
		bitmap = next;
	}
}

static struct dirty_bitmap *new_bitmap(struct dirty *dirty, struct dirty_client *owner,
				       struct kvmas *kvmas)
{
	size_t room = kas_bitmap_room(dirty->npages) * sizeof(uint64_t);
	struct dirty_bitmap *bitmap = kas_alloc(kvmas, sizeof(*bitmap) + room);

	if (!bitmap)
		return NULL;
	bitmap->dirty = dirty;
	bitmap->owner = owner;
	kas_bitmap_init(&bitmap->bits, bitmap->room, dirty->npages);
	return bitmap;
}

int kas_dirty_add_bitmap(struct dirty *dirty, struct dirty_client *client, struct kvmas *kvmas)
{
	struct dirty_bitmap *bitmap;
	bool there;

	client->added = NULL;
	free_orphans(client, kvmas);
	pthread_mutex_lock(&dirty->lock);
	there = bitmap_of(dirty, client);
	pthread_mutex_unlock(&dirty->lock);
	if (there)
		return 0;

	/* Nobody else adds for this client: its list's lock is held. */
	bitmap = new_bitmap(dirty, client, kvmas);
	if (!bitmap)
		return -ENOMEM;
	bitmap->linked = true;
	client->added = bitmap;
	atomic_fetch_add_explicit(&dirty->refs, 1, memory_order_relaxed);
	TAILQ_INSERT_TAIL(&client->bitmaps, bitmap, of_client);
	pthread_mutex_lock(&dirty->lock);
	TAILQ_INSERT_TAIL(&dirty->bitmaps, bitmap, of_block);
	atomic_fetch_add(&dirty->nbitmaps, 1);
	pthread_mutex_unlock(&dirty->lock);
	return 0;
}

int kas_dirty_add_bitmaps(struct dirty *dirty, struct kvmas *kvmas)
{
	struct dirty_client *client;
	int err = 0;

	TAILQ_FOREACH(client, &kvmas->clients, all) {
		err = kas_dirty_add_bitmap(dirty, client, kvmas);
		if (err)
			break;
	}
	while (err && (client = TAILQ_PREV(client, dirty_clients, all))) {
		if (client->added)
			free_bitmap(client, client->added, kvmas);
	}
	return err;
}

void kas_dirty_free_bitmaps(struct dirty_client *client, struct kvmas *kvmas)
{
	struct dirty_bitmap *bitmap;

	while ((bitmap = TAILQ_FIRST(&client->bitmaps)))
		free_bitmap(client, bitmap, kvmas);
}

void kas_dirty_mark(struct dirty *dirty, uint64_t first, uint64_t npages)
{
	struct dirty_bitmap *bitmap;

	if (atomic_load(&dirty->nbitmaps) == 0 || npages == 0)
		return;
	pthread_mutex_lock(&dirty->lock);
	TAILQ_FOREACH(bitmap, &dirty->bitmaps, of_block) {
		if (npages == 1)
			kas_bitmap_set(&bitmap->bits, first);
		else
			kas_bitmap_set_run(&bitmap->bits, first, npages);
	}
	pthread_mutex_unlock(&dirty->lock);
}

void kas_dirty_mark_pages(struct dirty *dirty, const uint64_t *pages, size_t count)
{
	struct dirty_bitmap *bitmap;

	if (atomic_load(&dirty->nbitmaps) == 0)
		return;
	pthread_mutex_lock(&dirty->lock);
	TAILQ_FOREACH(bitmap, &dirty->bitmaps, of_block) {
		for (size_t i = 0; i < count; i++)
			kas_bitmap_set(&bitmap->bits, pages[i]);
	}
	pthread_mutex_unlock(&dirty->lock);
}

/* ---- logs ---- */

/* A log on its way into one bitmap of a block, or into all. Its bit 0 is page *first*. */
struct feed {
	struct dirty *dirty;
	const struct dirty_bitmap *only; /* NULL: all */
	uint64_t first;
	uint64_t npages;
	const uint64_t *log;
};

/* Up to 64 words of a log, as a bitmap can take them. */
struct portion {
	const uint64_t *words;
	unsigned count;
	uint64_t some; /* which of them are not 0 */
	uint64_t own[BITS];
};

/* The words of the log from *at* on: false if they are clean. */
static bool cut_portion(const struct feed *feed, uint64_t at, struct portion *portion)
{
	uint64_t left = kas_nwords(feed->npages) - at;

	portion->words = &feed->log[at];
	portion->count = left < BITS ? (unsigned)left : BITS;
	if (left <= BITS && feed->npages % BITS) {
		memcpy(portion->own, portion->words, (size_t)left * sizeof(portion->own[0]));
		portion->own[left - 1] &= ~(~UINT64_C(0) << (feed->npages % BITS));
		portion->words = portion->own;
	}
	portion->some = kas_words_that_are_set(portion->words, portion->count);
	return portion->some;
}

/* Move all bits up by less than a word; what leaves the last word is returned. */
static uint64_t shift_up(struct portion *portion, unsigned shift)
{
	uint64_t carry = 0;

	for (unsigned i = 0; i < portion->count; i++) {
		uint64_t word = portion->words[i];

		portion->own[i] = word << shift | carry;
		carry = word >> (BITS - shift);
	}
	portion->words = portion->own;
	portion->some = kas_words_that_are_set(portion->own, portion->count);
	return carry;
}

/* Under dirty->lock. */
static void feed_portion(const struct feed *feed, uint64_t at, struct portion *portion)
{
	uint64_t index = feed->first / BITS + at;
	unsigned shift = feed->first % BITS;
	uint64_t carry = shift ? shift_up(portion, shift) : 0;
	struct dirty_bitmap *bitmap;

	TAILQ_FOREACH(bitmap, &feed->dirty->bitmaps, of_block) {
		if (feed->only && bitmap != feed->only)
			continue;
		kas_bitmap_or(&bitmap->bits, index, portion->words, portion->count, portion->some);
		if (carry)
			kas_bitmap_or(&bitmap->bits, index + portion->count, &carry, 1, 1);
	}
}

/* Whether there was anything in it. */
static bool feed_all(const struct feed *feed)
{
	pthread_mutex_t *lock = &feed->dirty->lock;
	uint64_t count = kas_nwords(feed->npages);
	struct portion portion;
	uint64_t unlock_at = 0; /* 0: not locked */
	bool some = false;

	for (uint64_t at = 0; at < count; at += BITS) {
		if (unlock_at && at >= unlock_at) {
			pthread_mutex_unlock(lock);
			unlock_at = 0;
		}
		if (!cut_portion(feed, at, &portion))
			continue;
		if (!unlock_at) {
			pthread_mutex_lock(lock);
			unlock_at = at + STRETCH;
		}
		feed_portion(feed, at, &portion);
		some = true;
	}
	if (unlock_at)
		pthread_mutex_unlock(lock);
	return some;
}

bool kas_dirty_mark_log(struct dirty *dirty, uint64_t first, uint64_t npages, const uint64_t *log)
{
	const struct feed feed = {.dirty = dirty, .first = first, .npages = npages, .log = log};

	return atomic_load(&dirty->nbitmaps) != 0 && feed_all(&feed);
}

/* ---- taking and putting back ---- */

/* Whether a run is one of pages of the block. */
static bool has_run(const struct dirty *dirty, uint64_t first, uint64_t npages)
{
	return first <= dirty->npages && npages <= dirty->npages - first;
}

int64_t kas_dirty_take(struct dirty *dirty, const struct dirty_client *client, uint64_t first,
		       uint64_t npages, uint64_t *words)
{
	struct dirty_bitmap *bitmap;
	uint64_t base = first / BITS;
	int64_t count = 0;

	if (!has_run(dirty, first, npages))
		return -EINVAL;
	do {
		uint64_t most = STRETCH * BITS - first % BITS;
		uint64_t part = npages < most ? npages : most;

		pthread_mutex_lock(&dirty->lock);
		bitmap = bitmap_of(dirty, client);
		if (bitmap && part)
			count += kas_bitmap_take(&bitmap->bits, first, part,
						 &words[first / BITS - base]);
		pthread_mutex_unlock(&dirty->lock);
		first += part;
		npages -= part;
	} while (npages && bitmap);
	return bitmap ? count : -ENOENT;
}

int kas_dirty_put(struct dirty *dirty, const struct dirty_client *client, uint64_t first,
		  uint64_t npages, const uint64_t *words)
{
	struct feed feed = {.dirty = dirty, .first = first, .npages = npages, .log = words};
	uint64_t room = BITS - first % BITS;
	uint64_t head;

	if (!has_run(dirty, first, npages))
		return -EINVAL;
	pthread_mutex_lock(&dirty->lock);
	feed.only = bitmap_of(dirty, client);
	pthread_mutex_unlock(&dirty->lock);
	if (!feed.only)
		return -ENOENT;
	if (room < BITS && npages) {
		head = words[0] >> first % BITS;
		feed.npages = npages < room ? npages : room;
		feed.log = &head;
		feed_all(&feed);
		feed.first += feed.npages;
		feed.npages = npages - feed.npages;
		feed.log = words + 1;
	}
	feed_all(&feed);
	return 0;
}

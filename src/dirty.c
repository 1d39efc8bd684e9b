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
 *
 * Blocks and clients end in any order, on any thread, and a block may serve several kvmas objects:
 * so a bitmap belongs to its client, and an ending block only cuts its own list.
 *
 * Invariants, under dirty->lock:
 *   I1  a client has at most one bitmap in dirty->bitmaps.
 *   I2  bits at npages and beyond are 0 in every word.
 *   I3  nbitmaps is the length of the list; a mark may skip the lock when it reads 0, since a
 *       client whose bitmap is not there yet has not asked for anything yet.
 *
 * Marking costs one lock and npages / 64 words for each client; reading which pages are dirty costs
 * the words read. Read kas_dirty_mark_log first.
 */
#include "dirty.h"

#include <errno.h>
#include <string.h>

#define BITS 64

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
	const struct dirty_client *owner;
	bool linked;
	TAILQ_ENTRY(dirty_bitmap) of_block;
	TAILQ_ENTRY(dirty_bitmap) of_client;
	uint64_t words[];
};

static uint64_t nwords(uint64_t npages)
{
	return (npages + BITS - 1) / BITS;
}

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

void kas_dirty_end(struct dirty *dirty)
{
	struct dirty_bitmap *bitmap;

	pthread_mutex_lock(&dirty->lock);
	while ((bitmap = TAILQ_FIRST(&dirty->bitmaps)))
		unlink_bitmap(dirty, bitmap);
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

/* The bitmaps of blocks that have ended. Only a block's end clears `linked` of a bitmap in *owner*,
 * and it is never set again. */
static void free_orphans(struct dirty_client *owner, struct kvmas *kvmas)
{
	struct dirty_bitmap *bitmap = TAILQ_FIRST(&owner->bitmaps);

	while (bitmap) {
		struct dirty_bitmap *next = TAILQ_NEXT(bitmap, of_client);
		bool linked;

		pthread_mutex_lock(&bitmap->dirty->lock);
		linked = bitmap->linked;
		pthread_mutex_unlock(&bitmap->dirty->lock);
		if (!linked)
			free_bitmap(owner, bitmap, kvmas);
		bitmap = next;
	}
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
	bitmap = kas_alloc(kvmas, sizeof(*bitmap) + nwords(dirty->npages) * sizeof(uint64_t));
	if (!bitmap)
		return -ENOMEM;
	bitmap->dirty = dirty;
	bitmap->owner = client;
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

/* The bits of word *index* that lie in the run of *npages* from *first*. */
static uint64_t run_mask(uint64_t index, uint64_t first, uint64_t npages)
{
	uint64_t start = index * BITS;
	uint64_t end = first + npages;
	uint64_t mask = ~UINT64_C(0);

	if (first > start)
		mask &= ~UINT64_C(0) << (first - start);
	if (end < start + BITS)
		mask &= ~UINT64_C(0) >> (start + BITS - end);
	return mask;
}

void kas_dirty_mark(struct dirty *dirty, uint64_t first, uint64_t npages)
{
	struct dirty_bitmap *bitmap;

	if (atomic_load(&dirty->nbitmaps) == 0 || npages == 0)
		return;
	pthread_mutex_lock(&dirty->lock);
	TAILQ_FOREACH(bitmap, &dirty->bitmaps, of_block) {
		for (uint64_t i = first / BITS; i <= (first + npages - 1) / BITS; i++)
			bitmap->words[i] |= run_mask(i, first, npages);
	}
	pthread_mutex_unlock(&dirty->lock);
}

/* OR one word of a log, its bit 0 being page *page*, into a bitmap: at most two words of it. */
static void or_word(struct dirty_bitmap *bitmap, uint64_t page, uint64_t word)
{
	unsigned shift = page % BITS;

	bitmap->words[page / BITS] |= word << shift;
	if (shift && word >> (BITS - shift))
		bitmap->words[page / BITS + 1] |= word >> (BITS - shift);
}

void kas_dirty_mark_log(struct dirty *dirty, uint64_t first, uint64_t npages, const uint64_t *log)
{
	if (atomic_load(&dirty->nbitmaps) == 0)
		return;
	pthread_mutex_lock(&dirty->lock);
	for (uint64_t i = 0; i < nwords(npages); i++) {
		struct dirty_bitmap *bitmap;
		uint64_t word = log[i] & run_mask(i, 0, npages);

		if (!word)
			continue;
		TAILQ_FOREACH(bitmap, &dirty->bitmaps, of_block)
			or_word(bitmap, first + i * BITS, word);
	}
	pthread_mutex_unlock(&dirty->lock);
}

static int check_run(const struct dirty *dirty, uint64_t first, uint64_t npages)
{
	if (first % BITS || first > dirty->npages || npages > dirty->npages - first)
		return -EINVAL;
	return 0;
}

int64_t kas_dirty_take(struct dirty *dirty, const struct dirty_client *client, uint64_t first,
		       uint64_t npages, uint64_t *words)
{
	struct dirty_bitmap *bitmap;
	int64_t count = check_run(dirty, first, npages);

	if (count)
		return count;
	pthread_mutex_lock(&dirty->lock);
	bitmap = bitmap_of(dirty, client);
	for (uint64_t i = 0; bitmap && i < nwords(npages); i++) {
		uint64_t *word = &bitmap->words[first / BITS + i];

		words[i] = *word & run_mask(i, 0, npages);
		*word &= ~words[i];
		count += __builtin_popcountll(words[i]);
	}
	pthread_mutex_unlock(&dirty->lock);
	return bitmap ? count : -ENOENT;
}

int kas_dirty_put(struct dirty *dirty, const struct dirty_client *client, uint64_t first,
		  uint64_t npages, const uint64_t *words)
{
	struct dirty_bitmap *bitmap;
	int err = check_run(dirty, first, npages);

	if (err)
		return err;
	pthread_mutex_lock(&dirty->lock);
	bitmap = bitmap_of(dirty, client);
	for (uint64_t i = 0; bitmap && i < nwords(npages); i++)
		bitmap->words[first / BITS + i] |= words[i] & run_mask(i, 0, npages);
	pthread_mutex_unlock(&dirty->lock);
	return bitmap ? 0 : -ENOENT;
}

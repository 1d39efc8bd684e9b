/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a RAM block are dirty, for each client: see dirty.c. Pages are host pages, counted
 * from the block's first byte.
 */
#ifndef KAS_DIRTY_H
#define KAS_DIRTY_H

#include "object.h"

struct dirty;

/* A block's tracker, without bitmaps. *home*'s allocator is used and held. */
int kas_dirty_new(struct kvmas *home, uint64_t npages, struct dirty **ret);

/* The block ends: from now on its bitmaps are nobody's but their clients'. */
void kas_dirty_end(struct dirty *dirty);

/* What the trackers know of a client: its bitmaps, one for each block. Guarded by lists_lock. */
struct dirty_client {
	TAILQ_ENTRY(dirty_client) all;
	TAILQ_HEAD(, dirty_bitmap) bitmaps;
	_Atomic(struct dirty_bitmap *) orphans; /* those whose block has ended; any thread */
	struct dirty_bitmap *added; /* by the last kas_dirty_add_bitmap; NULL if it was there */
};

/* See that a client has a bitmap on a block: clean if it is new. *kvmas* is the client's, whose
 * allocator is used; its lists_lock is held. */
int kas_dirty_add_bitmap(struct dirty *dirty, struct dirty_client *client, struct kvmas *kvmas);

/* The same for all clients there are, or for none. */
int kas_dirty_add_bitmaps(struct dirty *dirty, struct kvmas *kvmas);

/* Free all of a client's bitmaps, under lists_lock. */
void kas_dirty_free_bitmaps(struct dirty_client *client, struct kvmas *kvmas);

/* Set bits in every bitmap of the block: a run of pages; some pages, in any order, repeated or not,
 * all of them the block's; or those of a kernel log, whose bit 0 is page *first* (any alignment),
 * *npages* bits of it: whether there was any, and a bitmap to set it in. */
void kas_dirty_mark(struct dirty *dirty, uint64_t first, uint64_t npages);
void kas_dirty_mark_pages(struct dirty *dirty, const uint64_t *pages, size_t count);
bool kas_dirty_mark_log(struct dirty *dirty, uint64_t first, uint64_t npages, const uint64_t *log);

/* Fetch and clear, or put back, one client's bits of a run of pages. Bit 0 of words[0] is page
 * *first*, rounded down to a multiple of 64; bits outside of the run are left alone, and 0 in what
 * is fetched. -EINVAL past the block's end; -ENOENT if the client has no bitmap here. Taking
 * returns how many were set. */
int64_t kas_dirty_take(struct dirty *dirty, const struct dirty_client *client, uint64_t first,
		       uint64_t npages, uint64_t *words);
int kas_dirty_put(struct dirty *dirty, const struct dirty_client *client, uint64_t first,
		  uint64_t npages, const uint64_t *words);

#endif

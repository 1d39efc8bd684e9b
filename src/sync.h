/* SPDX-License-Identifier: MIT */
/* Listeners that know of dirty pages: see sync.c. */
#ifndef KAS_SYNC_H
#define KAS_SYNC_H

#include "listener.h"

/* Whether there is a listener that must be told when pages are taken: one that is there when this
 * is asked, or has marked none of the pages that were taken before. Any thread. */
static inline bool kas_listeners_need_arming(const struct kvmas *kvmas)
{
	return atomic_load(&kvmas->armers) != 0;
}

/* A client is about to read pages of a block, which lie in these bytes of it: tell all listeners of
 * spaces that show some of them, in a round. NULL is for all blocks. Takes the transaction lock.
 * The first error, after which nobody else is told; -EBUSY in a callback; -EIO. */
int kas_listeners_arm(struct kvmas *kvmas, const struct kvmas_ram *ram, struct range bytes);

#endif

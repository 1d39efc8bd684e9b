/* SPDX-License-Identifier: MIT */
/* An access by address, answered by whoever is there in a view: see dispatch.c. */
#ifndef KAS_DISPATCH_H
#define KAS_DISPATCH_H

#include "reader.h"

/* Who makes an access, where, and how. */
struct dispatch {
	struct kvmas_reader *reader; /* this thread's */
	struct kvmas_space *space;   /* held, or pinned */
	/* Where it looks: held, or pinned by this reader. NULL: the view of this moment. */
	struct kvmas_view *view;
	void *requester;
	bool smm;
	bool write;
	bool whole; /* go on where nothing can be had: reads give what config.unassigned says */
	/* It comes from a ring, into which KVM puts only what signals nothing: so an ioeventfd that
	 * is there by now was not when it was made. */
	bool coalesced;
	unsigned unassigned; /* how many pieces nothing answered */
	unsigned refused;    /* how many a device, or its rules, refused */
	unsigned events;     /* how many signalled an eventfd */
};

/*
 * Read *size* bytes at *address* into *bytes*, or write them, in the view of this moment. Takes no
 * lock, and allocates nothing. What was written to *bytes* behind *done* is undefined.
 *
 * @done: how many were had before the first that could not; NULL if nobody asks.
 * @return 0, or what the first was refused with: see DMA in kvmas.h. With whole always 0.
 */
int kas_dispatch(struct dispatch *dispatch, uint64_t address, void *bytes, size_t size,
		 size_t *done);

/* What reads give where nothing answers. */
static inline unsigned char kas_unassigned_byte(const struct kvmas *kvmas)
{
	return kvmas->config.unassigned == KVMAS_UNASSIGNED_ZEROS ? 0 : 0xff;
}

#endif

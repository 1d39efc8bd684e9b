/* SPDX-License-Identifier: MIT */
/* An access by address, answered by whoever is there in a view: see dispatch.c. */
#ifndef KAS_DISPATCH_H
#define KAS_DISPATCH_H

#include "reader.h"

/* Who makes an access, where, and how. */
struct dispatch {
	struct kvmas_reader *reader; /* this thread's */
	struct kvmas_space *space;   /* held, or pinned */
	void *requester;
	bool smm;
	bool write;
	unsigned unassigned; /* how many pieces nothing answered */
};

/* Read *size* bytes at *address* into *bytes*, or write them, in the view of this moment. Where
 * nothing answers, or a device refuses, reads give ones and writes are dropped. Takes no lock. */
void kas_dispatch(struct dispatch *dispatch, uint64_t address, unsigned char *bytes, unsigned size);

#endif

/* SPDX-License-Identifier: MIT */
/* An access by address, answered by whoever is there in a view: see dispatch.c. */
#ifndef KAS_DISPATCH_H
#define KAS_DISPATCH_H

#include "space.h"

struct dispatch {
	struct kvmas_space *space;
	void *requester;
	bool smm;
	bool write;
};

/*
 * Read *size* bytes at *address* into *bytes*, or write them. Where nothing answers, or a device
 * refuses, reads give ones and writes are dropped. Takes no lock while a device is called.
 * @return the number of pieces that nothing answered.
 */
unsigned kas_dispatch(const struct dispatch *dispatch, uint64_t address, unsigned char *bytes,
		      unsigned size);

#endif

/* SPDX-License-Identifier: MIT */
/* Readers: see reader.c. */
#ifndef KAS_READER_H
#define KAS_READER_H

#include "space.h"

/* The range that was found last, and all that a lookup in it tells: none of it is looked at again,
 * but the view's serial. */
struct hit {
	uint64_t serial; /* of the view; 0 for none */
	uint64_t first;
	uint64_t length; /* less 1 */
	uint64_t offset; /* in the region, at first */
	struct kvmas_region *region;
	unsigned char *hva; /* at first; NULL for a device */
	const struct flat_range *range;
	bool writable;
};

/* An access to a device that goes on, and those around it: see dispatch.c. */
struct frame {
	const struct frame *outer;
	const void *guard;
	unsigned depth;
};

/* What is around it, of other threads perhaps, is on other cache lines. */
struct kvmas_reader {
	unsigned char before[64];
	struct kvmas *kvmas;        /* held by its owner */
	const unsigned char *alive; /* its kvmas's, at hand */
	struct pins pins;
	struct hit hit;
	const struct frame *innermost; /* NULL outside of callbacks */
	unsigned char behind[64];
};

/* One inside another struct. Its kvmas is held by that. */
void kas_reader_init(struct kvmas_reader *reader, struct kvmas *kvmas);
void kas_reader_fini(struct kvmas_reader *reader);

/* kvmas_view_acquire for a space that may be dead: NULL then. It need not be held, but pinned. */
struct kvmas_view *kas_reader_pin(struct kvmas_reader *reader, struct kvmas_space *space);
void kas_reader_unpin(struct kvmas_reader *reader, struct kvmas_view *view);

/* kas_view_find, by way of the last hit. */
const struct flat_range *kas_reader_find(struct kvmas_reader *reader, const struct kvmas_view *view,
					 uint64_t address);

#endif

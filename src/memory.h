/* SPDX-License-Identifier: MIT */
/* Guest memory as host memory: see memory.c. */
#ifndef KAS_MEMORY_H
#define KAS_MEMORY_H

#include "view.h"

/* Some bytes of a view that lie side by side on the host, in blocks that the view keeps. */
struct memory {
	struct kvmas_ram *ram; /* of the first; of all if they are to be written */
	uint64_t ram_offset;
	uint64_t last; /* the address of its last byte in the view */
	unsigned char *hva;
};

/*
 * The part of *window* from its first byte on that *range* shows as memory; *range* is the one that
 * was found there, or NULL. -ENXIO where nothing answers; -EROFS for a write to what is readonly;
 * -EOPNOTSUPP for what a device answers.
 */
int kas_memory_of(const struct flat_range *range, struct range window, bool write,
		  struct memory *ret);

/* All of *window*, if it lies side by side: else -EOPNOTSUPP, or what kas_memory_of says of the
 * first byte that cannot be had. */
int kas_memory_whole(const struct kvmas_view *view, struct range window, bool write,
		     struct memory *ret);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Ranges of addresses, inclusive [first, last]: the top of the 64-bit space needs no special case
 * and nothing overflows. Public ranges, (start, size), are turned into these at the border.
 */
#ifndef KAS_RANGE_H
#define KAS_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct range {
	uint64_t first;
	uint64_t last; /* >= first */
};

/* *range* cut to *window*; false if nothing is left, and *range* is undefined then. */
bool kas_range_clip(struct range *range, struct range window);

/* The last of *size* bytes from 0; size is not 0, and KVMAS_SIZE_MAX is 2^64. */
uint64_t kas_size_to_last(uint64_t size);

/* The public size of [0, last]: KVMAS_SIZE_MAX for 2^64. */
uint64_t kas_last_to_size(uint64_t last);

/* A public (start, size) as a range: -EINVAL for size 0 or an end past 2^64. */
int kas_range_from(uint64_t start, uint64_t size, struct range *ret);

static inline uint64_t kas_add_saturating(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

#endif

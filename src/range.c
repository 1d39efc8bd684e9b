/* SPDX-License-Identifier: MIT */
/*
 * Range arithmetic that cannot wrap. Nothing here knows what the addresses mean.
 */
#include "range.h"

#include <errno.h>

#include <kvmas.h>

bool kas_range_clip(struct range *range, struct range window)
{
	if (range->first < window.first)
		range->first = window.first;
	if (range->last > window.last)
		range->last = window.last;
	return range->first <= range->last;
}

uint64_t kas_size_to_last(uint64_t size)
{
	return size == KVMAS_SIZE_MAX ? UINT64_MAX : size - 1;
}

uint64_t kas_last_to_size(uint64_t last)
{
	return last == UINT64_MAX ? KVMAS_SIZE_MAX : last + 1;
}

int kas_range_from(uint64_t start, uint64_t size, struct range *ret)
{
	uint64_t last;

	if (size == 0)
		return -EINVAL;
	last = start + kas_size_to_last(size);
	if (last < start)
		return -EINVAL;
	*ret = (struct range){start, last};
	return 0;
}

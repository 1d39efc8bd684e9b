/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as host memory: which bytes of a view are memory, for reads or for writes, and where
 * they lie in their block.
 *
 *     RAM                  memory
 *     readonly, ROM        memory when read
 *     ROM device           memory when read, if it is in that state; else a device
 *     MMIO                 a device; readonly there, nobody when written
 *     reserved, nothing    nobody
 *
 * Sections whose memory goes on from one to the next on the host are one piece, whatever their
 * regions. To be written, it must be one block as well: two, which may be neighbours if they are
 * the caller's memory, have dirty bitmaps each.
 *
 * Read kas_memory_of first.
 */
#include "memory.h"

#include <errno.h>

#include "ram.h"

static int check(const struct flat_range *range, bool write)
{
	if (range->region->kind == KVMAS_REGION_RESERVED)
		return -ENXIO;
	if (write && range->attrs & ATTR_READONLY)
		return -EROFS;
	if (!kas_range_ram(range) || (write && range->attrs & ATTR_ROMD))
		return -EOPNOTSUPP;
	return 0;
}

int kas_memory_of(const struct flat_range *range, struct range window, bool write,
		  struct memory *ret)
{
	uint64_t offset;
	int err;

	if (!range || range->range.first > window.first)
		return -ENXIO;
	err = check(range, write);
	if (err)
		return err;
	offset = range->offset + (window.first - range->range.first);
	*ret = (struct memory){
		.ram = range->region->ram,
		.ram_offset = range->region->ram_offset + offset,
		.last = window.last < range->range.last ? window.last : range->range.last,
		.hva = kas_region_hva(range->region, offset),
	};
	return 0;
}

/* Whether *after*, *distance* bytes on, lies so far behind *before* on the host too. */
static bool goes_on(const struct memory *before, const struct memory *after, uint64_t distance,
		    bool write)
{
	return after->hva == before->hva + distance && (!write || after->ram == before->ram);
}

int kas_memory_whole(const struct kvmas_view *view, struct range window, bool write,
		     struct memory *ret)
{
	struct view_at at = kas_view_seek(view, window.first);
	struct memory whole;
	int err = kas_memory_of(kas_view_get(view, at), window, write, &whole);

	while (!err && whole.last < window.last) {
		struct range rest = {whole.last + 1, window.last};
		struct memory next;

		at = kas_view_after(view, at);
		err = kas_memory_of(kas_view_get(view, at), rest, write, &next);
		if (err)
			break;
		if (!goes_on(&whole, &next, rest.first - window.first, write))
			err = -EOPNOTSUPP;
		whole.last = next.last;
	}
	if (!err)
		*ret = whole;
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * Dispatch: an access by a vCPU, answered in the view of the space it was made in.
 *
 * The access is cut where sections begin and end, and for devices into pieces of 1, 2, 4 or 8
 * bytes. Each piece goes to memory, to a device, or nowhere:
 *
 *     RAM                  host memory, marked dirty when written
 *     readonly, ROM        host memory when read; a write is dropped
 *     ROM device           host memory when read; a write goes to the device's ops
 *     MMIO                 the device's ops; a write to what is readonly is dropped
 *     reserved, nothing    reads give ones, writes are dropped
 *
 * An access to RAM comes here for the edges of pages that no slot can show, and when memory
 * appeared between the exit and this look: it is completed on host memory, never dropped.
 *
 * The view is held throughout, so that a device whose own write removes it stays valid until its
 * callback has returned. Values are the guest's bytes in little-endian order; big-endian hosts
 * swap.
 */
#include "dispatch.h"

#include <endian.h>
#include <string.h>

#include "ram.h"

/* The largest piece for a device: a power of two that is not more than *size*. */
static unsigned piece_size(uint64_t size)
{
	return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

static uint64_t load(const unsigned char *bytes, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size);
	return le64toh(value);
}

static void store(unsigned char *bytes, unsigned size, uint64_t value)
{
	value = htole64(value);
	memcpy(bytes, &value, size);
}

/* Guest memory is shared with vCPUs and other threads: an aligned piece is one access, as it would
 * be on a bus, and none is a data race. */
#define copy_piece(type, to, from)                                                                 \
	do {                                                                                       \
		type value =                                                                       \
			__atomic_load_n((const type *)(const void *)(from), __ATOMIC_RELAXED);     \
		__atomic_store_n((type *)(void *)(to), value, __ATOMIC_RELAXED);                   \
	} while (0)

/* Copy to or from host memory; *bytes* is ours, and of any alignment. */
static void copy_aligned(unsigned char *to, const unsigned char *from, unsigned size)
{
	switch (size) {
	case 8:
		copy_piece(uint64_t, to, from);
		break;
	case 4:
		copy_piece(uint32_t, to, from);
		break;
	case 2:
		copy_piece(uint16_t, to, from);
		break;
	default:
		copy_piece(uint8_t, to, from);
	}
}

/* The largest piece of *size* bytes that is aligned at *hva*. */
static unsigned aligned_piece(const unsigned char *hva, unsigned size)
{
	unsigned low = (uintptr_t)hva & 7;
	unsigned alignment = low ? low & -low : 8;
	unsigned piece = piece_size(size);

	return piece < alignment ? piece : alignment;
}

static void access_host(unsigned char *hva, unsigned char *bytes, unsigned size, bool write)
{
	uint64_t piece;

	for (unsigned step; size; size -= step, hva += step, bytes += step) {
		step = aligned_piece(hva, size);
		if (write) {
			memcpy(&piece, bytes, step);
			copy_aligned(hva, (unsigned char *)&piece, step);
		} else {
			copy_aligned((unsigned char *)&piece, hva, step);
			memcpy(bytes, &piece, step);
		}
	}
}

static void access_memory(const struct dispatch *dispatch, const struct flat_range *range,
			  uint64_t offset, unsigned char *bytes, unsigned size)
{
	struct kvmas_region *region = range->region;

	if (dispatch->write && !kas_range_is_writable(range))
		return;
	access_host(kas_region_hva(region, offset), bytes, size, dispatch->write);
	if (dispatch->write)
		kvmas_ram_mark(region->ram, region->ram_offset + offset, size);
}

/* One piece to a device. An error of its own reads as ones, like nothing there. */
static void access_device(const struct dispatch *dispatch, const struct flat_range *range,
			  uint64_t offset, unsigned char *bytes, unsigned size)
{
	const struct kvmas_region *region = range->region;
	const struct kvmas_ops *ops = &region->ops;
	struct kvmas_access access = {
		.offset = offset,
		.size = size,
		.smm = dispatch->smm,
		.space = dispatch->space,
		.requester = dispatch->requester,
		.reader = dispatch->reader,
	};
	uint64_t value = UINT64_MAX;

	if (dispatch->write) {
		if (ops->write && !(range->attrs & ATTR_READONLY))
			ops->write(region->opaque, &access, load(bytes, size));
		return;
	}
	if (ops->read && ops->read(region->opaque, &access, &value) < 0)
		value = UINT64_MAX;
	store(bytes, size, value);
}

/* What lies at *address*: the range there or NULL, and how many of *size* bytes it goes on for. */
static const struct flat_range *range_at(const struct kvmas_view *view, uint64_t address,
					 unsigned *size)
{
	const struct flat_range *range = kas_view_find(view, address);
	uint64_t left;

	if (!range)
		return NULL;
	if (range->range.first > address) {
		left = range->range.first - address;
		*size = left < *size ? (unsigned)left : *size;
		return NULL;
	}
	left = range->range.last - address;
	*size = left < *size ? (unsigned)left + 1 : *size;
	return range;
}

void kas_dispatch(struct dispatch *dispatch, uint64_t address, unsigned char *bytes, unsigned size)
{
	struct kvmas_view *view = kas_reader_pin(dispatch->reader, dispatch->space);

	for (unsigned done = 0; done < size;) {
		unsigned piece = size - done;
		const struct flat_range *range = NULL;
		uint64_t offset;

		if (view)
			range = range_at(view, address + done, &piece);
		if (!range) {
			dispatch->unassigned++;
			if (!dispatch->write)
				memset(bytes + done, 0xff, piece);
			done += piece;
			continue;
		}
		offset = range->offset + (address + done - range->range.first);
		if (kas_range_ram(range) && !(dispatch->write && range->attrs & ATTR_ROMD)) {
			access_memory(dispatch, range, offset, bytes + done, piece);
		} else {
			piece = piece_size(piece);
			access_device(dispatch, range, offset, bytes + done, piece);
		}
		done += piece;
	}
	if (view)
		kas_reader_unpin(dispatch->reader, view);
}

/* SPDX-License-Identifier: MIT */
/*
 * DMA: a device's accesses to the memory of a space, and to other devices there. Reading and
 * writing is dispatched, as for a vCPU, but ends at the first byte that cannot be had. Maps, for
 * those who want host memory, are in map.c, caches in cache.c.
 *
 * All bytes of one read or write are looked up in one view. A fill, which may be larger than any
 * buffer, is a row of writes that are cut only where a single one would be: the device cannot tell.
 *
 * Read access_space first.
 */
#include "dma.h"

#include <errno.h>
#include <string.h>

#include "memory.h"
#include "ram.h"

/* How much of a fill is written at a time; a multiple of 8. */
#define STRETCH 4096

static int access_space(struct dispatch dispatch, uint64_t gpa, void *bytes, size_t size,
			size_t *done)
{
	if (kas_alive(dispatch.reader->kvmas))
		return kas_dispatch(&dispatch, gpa, bytes, size, done);
	if (done)
		*done = 0;
	return -EIO;
}

int kvmas_dma_read(const struct kvmas_dma *dma, uint64_t gpa, void *bytes, size_t size,
		   size_t *done)
{
	return access_space(kas_dma_dispatch(dma, false), gpa, bytes, size, done);
}

int kvmas_dma_write(const struct kvmas_dma *dma, uint64_t gpa, const void *bytes, size_t size,
		    size_t *done)
{
	return access_space(kas_dma_dispatch(dma, true), gpa, (void *)(uintptr_t)bytes, size, done);
}

/* ---- fill ---- */

/* Have a range end at 2^64. False if it does already. */
static bool clip(uint64_t gpa, uint64_t *size)
{
	if (*size == 0 || *size - 1 <= UINT64_MAX - gpa)
		return false;
	*size = UINT64_MAX - gpa + 1;
	return true;
}

/* How many of *left* bytes at *gpa*, of a section in the middle of which they can be cut: where a
 * write of all of them would be cut, too. What takes accesses at any offset counts from where they
 * begin, all else from where the region does. */
static uint64_t cut(const struct flat_range *range, uint64_t gpa)
{
	const struct kvmas_region *region = range->region;

	if (!kas_range_is_writable(range) && region->ops.valid.unaligned)
		return STRETCH;
	return STRETCH - (range->offset + (gpa - range->range.first)) % 8;
}

/* How many of *left* bytes are written at a time. */
static size_t stretch(const struct kvmas_dma *dma, uint64_t gpa, uint64_t left)
{
	struct kvmas_view *view = kas_reader_pin(dma->reader, dma->space);
	const struct flat_range *range = kas_reader_find(dma->reader, view, gpa);
	uint64_t size = left;

	if (range && range->range.first <= gpa && size - 1 > range->range.last - gpa)
		size = range->range.last - gpa + 1;
	if (size > STRETCH)
		size = range && range->range.first <= gpa ? cut(range, gpa) : STRETCH;
	kas_reader_unpin(dma->reader, view);
	return (size_t)size;
}

int kvmas_dma_fill(const struct kvmas_dma *dma, uint64_t gpa, unsigned char byte, uint64_t size,
		   uint64_t *done)
{
	struct dispatch dispatch = kas_dma_dispatch(dma, true);
	unsigned char bytes[STRETCH];
	bool past = clip(gpa, &size);
	int err = kas_alive(dma->reader->kvmas) ? 0 : -EIO;
	uint64_t filled = 0;
	size_t step;

	memset(bytes, byte, size < STRETCH ? (size_t)size : STRETCH);
	for (; !err && filled < size; filled += step)
		err = kas_dispatch(&dispatch, gpa + filled, bytes,
				   stretch(dma, gpa + filled, size - filled), &step);
	if (done)
		*done = filled;
	return !err && past ? -ENXIO : err;
}

/* ---- compare and exchange ---- */

#define exchange_as(type, hva, expected, desired)                                                  \
	({                                                                                         \
		type found = (type) * (expected);                                                  \
		bool same = __atomic_compare_exchange_n((type *)(void *)(hva), &found,             \
							(type)(desired), false, __ATOMIC_SEQ_CST,  \
							__ATOMIC_SEQ_CST);                         \
		*(expected) = found;                                                               \
		same;                                                                              \
	})

static bool exchange(unsigned char *hva, unsigned size, uint64_t *expected, uint64_t desired)
{
	switch (size) {
	case 8:
		return exchange_as(uint64_t, hva, expected, desired);
	case 4:
		return exchange_as(uint32_t, hva, expected, desired);
	case 2:
		return exchange_as(uint16_t, hva, expected, desired);
	default:
		return exchange_as(uint8_t, hva, expected, desired);
	}
}

/* Memory that is in pieces on the host, or not aligned there, as no machine has it, cannot be
 * exchanged at once either. */
int kvmas_dma_compare_exchange(const struct kvmas_dma *dma, uint64_t gpa, unsigned size,
			       uint64_t *expected, uint64_t desired)
{
	struct kvmas_view *view;
	struct memory memory;
	int result;

	if (!kas_alive(dma->reader->kvmas))
		return -EIO;
	if (size == 0 || size > 8 || size & (size - 1) || gpa % size)
		return -EINVAL;
	view = kas_reader_pin(dma->reader, dma->space);
	result = kas_memory_whole(view, (struct range){gpa, gpa + (size - 1)}, true, &memory);
	if (!result && (uintptr_t)memory.hva % size)
		result = -EOPNOTSUPP;
	if (!result && exchange(memory.hva, size, expected, desired)) {
		kvmas_ram_mark(memory.ram, memory.ram_offset, size);
		result = 1;
	}
	kas_reader_unpin(dma->reader, view);
	return result;
}

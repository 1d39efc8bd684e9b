/* SPDX-License-Identifier: MIT */
/*
 * Copies to and from guest memory. vCPUs and other threads read and write it at the same time, and
 * some of it is how they talk to each other (a ring's index, a descriptor's flags): so what is
 * naturally aligned there, 2, 4 or 8 bytes, is one access, as it would be on a bus.
 *
 *     guest   ..|x 2 3 4 5 6 7 8|8 8 8 8 8 8 8 8|8 8 8 8 8 8 8 8|4 4 4 4 ..
 *               the largest that are aligned, then words, then the largest that are left
 *
 * All of them are relaxed atomic accesses: an order among them is the caller's to ask for, and no
 * copy is a data race. memcpy(3) promises nothing of the kind: its ends overlap, and it may go by
 * single bytes. A word at a time is as fast as memory is; where both sides are in the cache,
 * memcpy is twice as fast, and several times slower for some alignments.
 *
 * Read kas_copy_from_guest first.
 */
#include "copy.h"

#include <stdint.h>
#include <string.h>

/* The largest of 1, 2, 4 or 8 bytes, of *size* at most, that is aligned at *hva*. */
static unsigned aligned_step(const unsigned char *hva, size_t size)
{
	unsigned low = (uintptr_t)hva & 7;
	unsigned step = low ? low & -low : 8;

	while (step > size)
		step /= 2;
	return step;
}

#define load(type, hva) __atomic_load_n((const type *)(const void *)(hva), __ATOMIC_RELAXED)
#define store(type, hva, value) __atomic_store_n((type *)(void *)(hva), value, __ATOMIC_RELAXED)

#define copy_from(type, bytes, hva)                                                                \
	do {                                                                                       \
		type piece = load(type, hva);                                                      \
		memcpy(bytes, &piece, sizeof(piece));                                              \
	} while (0)

#define copy_to(type, hva, bytes)                                                                  \
	do {                                                                                       \
		type piece;                                                                        \
		memcpy(&piece, bytes, sizeof(piece));                                              \
		store(type, hva, piece);                                                           \
	} while (0)

static void step_from(unsigned char *bytes, const unsigned char *hva, unsigned step)
{
	if (step == 8)
		copy_from(uint64_t, bytes, hva);
	else if (step == 4)
		copy_from(uint32_t, bytes, hva);
	else if (step == 2)
		copy_from(uint16_t, bytes, hva);
	else
		copy_from(uint8_t, bytes, hva);
}

static void step_to(unsigned char *hva, const unsigned char *bytes, unsigned step)
{
	if (step == 8)
		copy_to(uint64_t, hva, bytes);
	else if (step == 4)
		copy_to(uint32_t, hva, bytes);
	else if (step == 2)
		copy_to(uint16_t, hva, bytes);
	else
		copy_to(uint8_t, hva, bytes);
}

void kas_copy_from_guest(void *bytes, const unsigned char *hva, size_t size)
{
	unsigned char *to = bytes;

	while (size) {
		unsigned step = aligned_step(hva, size);

		for (; size >= step + 8 && step == 8; size -= 8, hva += 8, to += 8)
			copy_from(uint64_t, to, hva);
		step_from(to, hva, step);
		size -= step, hva += step, to += step;
	}
}

void kas_copy_to_guest(unsigned char *hva, const void *bytes, size_t size)
{
	const unsigned char *from = bytes;

	while (size) {
		unsigned step = aligned_step(hva, size);

		for (; size >= step + 8 && step == 8; size -= 8, hva += 8, from += 8)
			copy_to(uint64_t, hva, from);
		step_to(hva, from, step);
		size -= step, hva += step, from += step;
	}
}

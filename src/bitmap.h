/* SPDX-License-Identifier: MIT */
/* Bitmaps with a summary: see bitmap.c. Nothing here is locked or checked. */
#ifndef KAS_BITMAP_H
#define KAS_BITMAP_H

#include <stddef.h>
#include <stdint.h>

enum { KAS_WORD_BITS = 64 };

struct bitmap {
	uint64_t *words;
	uint64_t *summary; /* a bit for each word: set if that is not 0 */
};

static inline uint64_t kas_nwords(uint64_t nbits)
{
	return (nbits + KAS_WORD_BITS - 1) / KAS_WORD_BITS;
}

/* The words that a bitmap and its summary take together; and where they are to be, all 0. */
size_t kas_bitmap_room(uint64_t nbits);
void kas_bitmap_init(struct bitmap *bitmap, uint64_t *room, uint64_t nbits);

/* Set a run of bits; count is not 0. Or one. */
void kas_bitmap_set_run(const struct bitmap *bitmap, uint64_t first, uint64_t count);

static inline void kas_bitmap_set(const struct bitmap *bitmap, uint64_t bit)
{
	uint64_t index = bit / KAS_WORD_BITS;

	bitmap->words[index] |= UINT64_C(1) << (bit % KAS_WORD_BITS);
	bitmap->summary[index / KAS_WORD_BITS] |= UINT64_C(1) << (index % KAS_WORD_BITS);
}

/* Which of up to 64 words are not 0. */
uint64_t kas_words_that_are_set(const uint64_t *words, unsigned count);

/* OR up to 64 words into those from *index* on; *some* says which of them are not 0. */
void kas_bitmap_or(const struct bitmap *bitmap, uint64_t index, const uint64_t *from,
		   unsigned count, uint64_t some);

/* Fetch and clear a run of bits; count is not 0. Bit 0 of words[0] is *first*, rounded down to a
 * multiple of 64; all words of the run are written. Returns how many bits were set. */
int64_t kas_bitmap_take(const struct bitmap *bitmap, uint64_t first, uint64_t count,
			uint64_t *words);

#endif

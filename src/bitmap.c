/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps that are mostly clean, and sometimes full. One bit of a summary stands for each word:
 *
 *     summary   0...........010 0...........000 1...........111
 *     words     64 of them      64 of them      64 of them        a group each
 *                 one is set      clean           most are set
 *
 * What comes in is looked at eight words at a time, ORed to one: most are clean. What goes out is
 * found by the summary: a group that is clean is not looked at, of others the words that are set,
 * one by one. Where many are, that costs more than to move all 64, without a branch for each, and
 * to count their bits together.
 *
 * Invariant:
 *   I1  a bit of the summary is set if its word is not 0.
 *
 * Read kas_bitmap_take first.
 */
#include "bitmap.h"

#include <string.h>

#define BITS KAS_WORD_BITS
#define ONES (~UINT64_C(0))

enum {
	BLOCK = 8,  /* words that are dealt with together */
	CROWD = 16, /* words of a group that are more work one by one than all 64 together */
};

size_t kas_bitmap_room(uint64_t nbits)
{
	return (size_t)(kas_nwords(nbits) + kas_nwords(kas_nwords(nbits)));
}

void kas_bitmap_init(struct bitmap *bitmap, uint64_t *room, uint64_t nbits)
{
	bitmap->words = room;
	bitmap->summary = room + kas_nwords(nbits);
}

/* The bits of word *index* that lie in the run of *count* from *first* on; count is not 0. */
static uint64_t run_mask(uint64_t index, uint64_t first, uint64_t count)
{
	uint64_t last = first + count - 1;
	uint64_t mask = ONES;

	if (index == first / BITS)
		mask <<= first % BITS;
	if (index == last / BITS)
		mask &= ONES >> (BITS - 1 - last % BITS);
	return mask;
}

static void set_run(uint64_t *words, uint64_t first, uint64_t count)
{
	uint64_t end = (first + count - 1) / BITS;

	for (uint64_t index = first / BITS; index <= end; index++)
		words[index] |= run_mask(index, first, count);
}

void kas_bitmap_set_run(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
	uint64_t index = first / BITS;
	uint64_t end = (first + count - 1) / BITS;

	set_run(bitmap->words, first, count);
	set_run(bitmap->summary, index, end - index + 1);
}

/* ---- in ---- */

static inline uint64_t or_of_block(const uint64_t *at)
{
	return (at[0] | at[1]) | (at[2] | at[3]) | ((at[4] | at[5]) | (at[6] | at[7]));
}

static inline uint64_t is_set(const uint64_t *at, unsigned i)
{
	return (uint64_t)(at[i] != 0) << i;
}

static inline uint64_t set_of_block(const uint64_t *at)
{
	return is_set(at, 0) | is_set(at, 1) | is_set(at, 2) | is_set(at, 3) | is_set(at, 4) |
	       is_set(at, 5) | is_set(at, 6) | is_set(at, 7);
}

uint64_t kas_words_that_are_set(const uint64_t *words, unsigned count)
{
	uint64_t some = 0;
	unsigned i = 0;

	for (; i + BLOCK <= count; i += BLOCK) {
		if (or_of_block(&words[i]))
			some |= set_of_block(&words[i]) << i;
	}
	for (; i < count; i++)
		some |= (uint64_t)(words[i] != 0) << i;
	return some;
}

/* What lies a group ahead is likely to be written soon. It may lie past the end: no access is made
 * that could fail. */
static inline void fetch_ahead(const void *at)
{
	__builtin_prefetch((const void *)((uintptr_t)at + BITS * sizeof(uint64_t)), 1);
}

/* The two do not overlap: so the compiler may take several words at once. */
static inline void or_block(uint64_t *restrict to, const uint64_t *restrict from)
{
	for (unsigned k = 0; k < BLOCK; k++)
		to[k] |= from[k];
}

/* OR 64 bits into those from *first* on: at most two words, the second only if it gets any. */
static void or_bits(uint64_t *words, uint64_t first, uint64_t bits)
{
	unsigned shift = first % BITS;

	words[first / BITS] |= bits << shift;
	if (shift && bits >> (BITS - shift))
		words[first / BITS + 1] |= bits >> (BITS - shift);
}

void kas_bitmap_or(const struct bitmap *bitmap, uint64_t index, const uint64_t *from,
		   unsigned count, uint64_t some)
{
	uint64_t *to = &bitmap->words[index];
	unsigned i = 0;

	or_bits(bitmap->summary, index, some);
	for (; i + BLOCK <= count; i += BLOCK) {
		fetch_ahead(&to[i]);
		if (some >> i & 0xff)
			or_block(&to[i], &from[i]);
	}
	for (; i < count; i++)
		to[i] |= from[i];
}

/* ---- out ---- */

/* How many bits are set; without a call, which the compiler makes of __builtin_popcountll where it
 * cannot count on an instruction. */
static inline unsigned count_bits(uint64_t word)
{
	word -= word >> 1 & 0x5555555555555555;
	word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return (unsigned)((word * 0x0101010101010101) >> 56);
}

/* Two words side by side, for processors that deal with both at once. */
typedef uint64_t pair __attribute__((vector_size(16), aligned(8), may_alias));

/* Add three bits in each of 128 places: *sum* becomes the sum of itself, a and b, the carry is
 * returned. */
static inline pair add_bits(pair *sum, pair a, pair b)
{
	pair half = *sum ^ a;
	pair carry = (*sum & a) | (half & b);

	*sum = half ^ b;
	return carry;
}

static inline unsigned count_pair(pair words)
{
	return count_bits(words[0]) + count_bits(words[1]);
}

static inline pair move_pair(pair *to, pair *from)
{
	pair words = *from;

	*to = words;
	*from = (pair){0};
	return words;
}

/* Add up two pairs, moved: the carry is returned. */
static inline pair move_two(pair *sum, pair *to, pair *from)
{
	pair first = move_pair(&to[0], &from[0]);

	return add_bits(sum, first, move_pair(&to[1], &from[1]));
}

/* Move 64 words, leaving 0, and count their bits: eight pairs are added up in each place at once,
 * so that one pair in eight is counted as such, which Harley and Seal came upon. */
static unsigned move_group(uint64_t *to_words, uint64_t *from_words)
{
	pair *restrict to = (pair *)(void *)to_words;
	pair *restrict from = (pair *)(void *)from_words;
	pair ones = {0}, twos = {0}, fours = {0};
	unsigned eights = 0;

	for (unsigned i = 0; i < BITS / 2; i += BLOCK, to += BLOCK, from += BLOCK) {
		pair twos_a = move_two(&ones, &to[0], &from[0]);
		pair twos_b = move_two(&ones, &to[2], &from[2]);
		pair fours_a = add_bits(&twos, twos_a, twos_b);
		pair fours_b;

		twos_a = move_two(&ones, &to[4], &from[4]);
		twos_b = move_two(&ones, &to[6], &from[6]);
		fours_b = add_bits(&twos, twos_a, twos_b);
		eights += count_pair(add_bits(&fours, fours_a, fours_b));
	}
	return 8 * eights + 4 * count_pair(fours) + 2 * count_pair(twos) + count_pair(ones);
}

/* Take the words of group *at* for which *some* has bits, whole; words[0] is the one at *index*. */
static unsigned take_some(const struct bitmap *bitmap, uint64_t at, uint64_t some, uint64_t index,
			  uint64_t *words)
{
	unsigned count = 0;

	bitmap->summary[at] &= ~some;
	for (; some; some &= some - 1) {
		uint64_t i = at * BITS + (uint64_t)__builtin_ctzll(some);
		uint64_t word = bitmap->words[i];

		bitmap->words[i] = 0;
		words[i - index] = word;
		count += count_bits(word);
	}
	return count;
}

/* Take all 64 words of group *at*. */
static unsigned take_all(const struct bitmap *bitmap, uint64_t at, uint64_t *words)
{
	bitmap->summary[at] = 0;
	return move_group(words, &bitmap->words[at * BITS]);
}

/* Take whole words, from *index* to *end*. */
static int64_t take_words(const struct bitmap *bitmap, uint64_t index, uint64_t end,
			  uint64_t *words)
{
	int64_t count = 0;

	for (uint64_t next, i = index; i <= end; i = next) {
		uint64_t at = i / BITS;
		uint64_t mask = run_mask(at, index, end - index + 1);
		uint64_t some = bitmap->summary[at] & mask;

		next = (at + 1) * BITS;
		if (mask == ONES && count_bits(some) >= CROWD) {
			count += take_all(bitmap, at, &words[i - index]);
			continue;
		}
		memset(&words[i - index], 0,
		       ((next <= end ? next : end + 1) - i) * sizeof(words[0]));
		if (some)
			count += take_some(bitmap, at, some, index, words);
	}
	return count;
}

/* Take some bits of one word. */
static int64_t take_part(const struct bitmap *bitmap, uint64_t index, uint64_t mask, uint64_t *word)
{
	uint64_t bits = bitmap->words[index] & mask;

	bitmap->words[index] &= ~mask;
	*word = bits;
	return count_bits(bits);
}

int64_t kas_bitmap_take(const struct bitmap *bitmap, uint64_t first, uint64_t count,
			uint64_t *words)
{
	uint64_t base = first / BITS, index = base, end = (first + count - 1) / BITS;
	uint64_t head = run_mask(index, first, count);
	uint64_t tail = run_mask(end, first, count);
	int64_t taken = 0;

	if (head != ONES)
		taken += take_part(bitmap, index++, head, words);
	if (index <= end && tail != ONES) {
		taken += take_part(bitmap, end, tail, &words[end - base]);
		end--; /* it was not 0: the head would be the tail */
	}
	if (index <= end)
		taken += take_words(bitmap, index, end, &words[index - base]);
	return taken;
}

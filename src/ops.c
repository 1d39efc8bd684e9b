/* SPDX-License-Identifier: MIT */
/*
 * What a device's ops say of accesses: which sizes and offsets it takes, and which its callbacks
 * are written for. Pure: who calls them is dispatch.c.
 *
 *     access        |. . 2 3 4 5 6 7|8 9 . .          8 bytes at offset 2
 *     valid         |   [2 3 4 5 6 7|8 9]             unaligned: one piece
 *                   |   [2 3][4 5 6 7|[8 9]           aligned: three
 *     impl 4, 4     |(0 1)2 3|4 5 6 7|8 9(a b)|       three calls of 4; () is read and written back
 *
 * Both are cut in one way: the largest of 1, 2, 4 or 8 bytes that max and what is left allow, and
 * that is aligned where it must be. They differ in what becomes of a piece that is below min: the
 * guest may not make it, or the callback is given more than that.
 *
 * Invariants, of ops that are settled:
 *   I1  min and max are 1, 2, 4 or 8, and min <= max.
 */
#include "ops.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static bool is_size(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static int settle_rules(struct kvmas_access_rules *rules)
{
	if (!rules->min)
		rules->min = 1;
	if (!rules->max)
		rules->max = 8;
	return is_size(rules->min) && is_size(rules->max) && rules->min <= rules->max ? 0 : -EINVAL;
}

int kas_ops_settle(struct kvmas_ops *ops)
{
	int err = settle_rules(&ops->valid);

	if (!err)
		err = settle_rules(&ops->impl);
	return !err && (unsigned)ops->endian > KVMAS_BIG_ENDIAN ? -EINVAL : err;
}

unsigned kas_rules_cut(const struct kvmas_access_rules *rules, uint64_t offset, uint64_t size)
{
	unsigned piece = rules->max;

	while (piece > size)
		piece /= 2;
	if (!rules->unaligned && offset & (piece - 1))
		piece = (unsigned)(offset & -offset);
	return piece;
}

struct unit kas_rules_unit(const struct kvmas_access_rules *impl, uint64_t offset, unsigned size)
{
	unsigned piece = kas_rules_cut(impl, offset, size);
	unsigned skip, rest;

	if (piece >= impl->min)
		return (struct unit){offset, piece, 0, piece};
	skip = (unsigned)offset & (impl->min - 1);
	rest = impl->min - skip;
	return (struct unit){offset - skip, impl->min, skip, size < rest ? size : rest};
}

uint64_t kas_value_load(enum kvmas_endian endian, const unsigned char *bytes, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size);
	if (endian == KVMAS_BIG_ENDIAN)
		return be64toh(value) >> (64 - 8 * size);
	return le64toh(value);
}

void kas_value_store(enum kvmas_endian endian, unsigned char *bytes, unsigned size, uint64_t value)
{
	if (endian == KVMAS_BIG_ENDIAN)
		value = htobe64(value << (64 - 8 * size));
	else
		value = htole64(value);
	memcpy(bytes, &value, size);
}

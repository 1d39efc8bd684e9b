/* SPDX-License-Identifier: MIT */
/* The access rules of devices: see ops.c. */
#ifndef KAS_OPS_H
#define KAS_OPS_H

#include <kvmas.h>

/* One call of a device's callbacks, for *count* bytes of an access: all that the callback is asked
 * for, or, widened, those from *skip* on. */
struct unit {
	uint64_t offset;
	unsigned size;
	unsigned skip;
	unsigned count;
};

/* Put defaults into ops that are 0. -EINVAL for rules that are none, or allow nothing. */
int kas_ops_settle(struct kvmas_ops *ops);

/* How long the next piece is of an access to *size* bytes, at least one: the largest that rules
 * allow. It may be shorter than rules->min: then they allow none. */
unsigned kas_rules_cut(const struct kvmas_access_rules *rules, uint64_t offset, uint64_t size);

/* The next call for a piece of *size* bytes. */
struct unit kas_rules_unit(const struct kvmas_access_rules *impl, uint64_t offset, unsigned size);

/* A value of 1, 2, 4 or 8 bytes, from guest memory's order and to it. */
uint64_t kas_value_load(enum kvmas_endian endian, const unsigned char *bytes, unsigned size);
void kas_value_store(enum kvmas_endian endian, unsigned char *bytes, unsigned size, uint64_t value);

#endif

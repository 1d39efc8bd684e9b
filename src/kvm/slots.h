/* SPDX-License-Identifier: MIT */
/* The slots of one KVM address space: see slots.c. */
#ifndef KAS_SLOTS_H
#define KAS_SLOTS_H

#include "object.h"

/* Sorted by gpa, disjoint; each holds its RAM block. */
struct slots {
	unsigned limit; /* ids are below */
	size_t count;
	size_t capacity;
	struct kvmas_slot *at;
	uint64_t *used;     /* one bit for each id */
	uint64_t *reserved; /* ids that are not ours to give */
};

int kas_slots_init(struct kvmas *kvmas, struct slots *slots, unsigned limit);
void kas_slots_fini(struct kvmas *kvmas, struct slots *slots);

/* See that the table can grow to *count* slots without allocating. */
int kas_slots_reserve_room(struct kvmas *kvmas, struct slots *slots, size_t count);

/* The kernel has made, or deleted, this slot. Inserting needs room. */
void kas_slots_insert(struct slots *slots, const struct kvmas_slot *slot);
void kas_slots_remove(struct slots *slots, unsigned id);
/* It has changed its place or its flags. */
void kas_slots_replace(struct slots *slots, const struct kvmas_slot *slot);

/* How many ids are neither used nor reserved. */
unsigned kas_slots_free_ids(const struct slots *slots);

int kas_slots_validate(const struct slots *slots);

#define KAS_ID_BITS 64
static inline bool kas_id_test(const uint64_t *bits, unsigned id)
{
	return bits[id / KAS_ID_BITS] >> (id % KAS_ID_BITS) & 1;
}
static inline void kas_id_set(uint64_t *bits, unsigned id, bool value)
{
	uint64_t bit = UINT64_C(1) << (id % KAS_ID_BITS);

	bits[id / KAS_ID_BITS] =
		value ? bits[id / KAS_ID_BITS] | bit : bits[id / KAS_ID_BITS] & ~bit;
}
static inline size_t kas_id_words(unsigned limit)
{
	return (limit + KAS_ID_BITS - 1) / KAS_ID_BITS;
}

#endif

/* SPDX-License-Identifier: MIT */
/* The slots of one KVM address space: see slots.c. */
#ifndef KAS_SLOTS_H
#define KAS_SLOTS_H

#include "object.h"

struct slot_log;

/* A slot that KVM has; its RAM block is held. */
struct slot_entry {
	struct kvmas_slot slot;
	uint64_t born;        /* larger for those made later: the commit that made or moved it */
	struct slot_log *log; /* the entry's own; NULL if nothing is to be armed: log.h */
};

struct slots {
	unsigned limit; /* ids are below */
	size_t count;
	size_t nlogged;
	size_t seams;             /* neighbours that touch and show memory that goes on alike */
	uint16_t *order;          /* the ids of the slots, by gpa */
	struct slot_entry *by_id; /* what is at an id that is not used is undefined */
	unsigned room;            /* both have it for ids below */
	uint64_t *used;           /* one bit for each id */
	uint64_t *reserved;       /* ids that are not ours to give */
	unsigned nreserved;
};

int kas_slots_init(struct kvmas *kvmas, struct slots *slots, unsigned limit);
void kas_slots_fini(struct kvmas *kvmas, struct slots *slots);

/* See that the table can take every id below *room*, which is at most its limit. -ENOMEM. */
int kas_slots_reserve_room(struct kvmas *kvmas, struct slots *slots, unsigned room);

/* The kernel has made, or deleted, this slot. Inserting needs room for the id. Its log is its
 * user's to set, and to free. */
void kas_slots_insert(struct slots *slots, const struct kvmas_slot *slot, uint64_t born);
void kas_slots_remove(struct slots *slots, unsigned id);
/* It has changed its place or its flags. */
void kas_slots_replace(struct slots *slots, const struct kvmas_slot *slot, uint64_t born);

/* The index-th slot by gpa. */
static inline const struct slot_entry *kas_slots_entry(const struct slots *slots, size_t index)
{
	return &slots->by_id[slots->order[index]];
}
static inline const struct kvmas_slot *kas_slots_at(const struct slots *slots, size_t index)
{
	return &kas_slots_entry(slots, index)->slot;
}

/* Whether two slots show the same host bytes at the same addresses, wherever they overlap, and are
 * readonly or not alike. */
bool kas_slots_alike(const struct kvmas_slot *a, const struct kvmas_slot *b);

/* The index of the first slot that ends behind *gpa*; count if there is none. */
size_t kas_slots_seek(const struct slots *slots, uint64_t gpa);

/* Never use this id, which is neither used nor reserved. */
void kas_slots_reserve_id(struct slots *slots, unsigned id);

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

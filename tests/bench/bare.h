/* SPDX-License-Identifier: MIT */
/* The dirty log of a VM, kept without the library. See bare.c. */
#ifndef BARE_H
#define BARE_H

#include <stdbool.h>

#include "writer.h"

enum { BARE_MAX_SPACES = 2, BARE_MAX_IDS = 80 };

struct bare_slot {
	struct kvm_userspace_memory_region region;
	uint64_t first; /* its first page's bit */
	uint64_t npages;
};

/* From the first word that is not zero to behind the last; none if they are equal. */
struct bare_span {
	uint64_t begin;
	uint64_t end;
};

struct bare {
	struct writer *writer;
	bool manual; /* KVM watches pages again when it is told to */
	uint64_t page;
	struct bare_slot slots[BARE_MAX_SPACES][BARE_MAX_IDS]; /* by id */
	unsigned nids[BARE_MAX_SPACES];
	uint64_t npages;
	uint64_t *words;  /* what KVM_GET_DIRTY_LOG writes */
	uint64_t *bitmap; /* what has been told, a bit for each page */
	uint32_t next;    /* entry of the ring */
	unsigned ioctls;
};

/* A log of *npages* pages, a bit each. */
void bare_open(struct bare *bare, struct writer *writer, uint64_t npages);
void bare_close(struct bare *bare);

/* Have KVM do what this says, and remember it. A slot's first page has the bit *first*. */
void bare_set_slot(struct bare *bare, const struct kvm_userspace_memory_region *region,
		   uint64_t first);

/* Read the log of each logged slot of a space, OR what is not zero into the bitmap, and have KVM
 * watch these pages again. */
void bare_harvest(struct bare *bare, unsigned as_id);
/* The same with a ring, for all spaces. */
void bare_harvest_ring(struct bare *bare);

/* Demand that just these pages have been told of since the last time. */
void bare_expect(struct bare *bare, const struct load *load);

/* OR words into a bitmap that others may write to as well: those that are not zero. */
struct bare_span bare_or(uint64_t *bitmap, const uint64_t *words, uint64_t nwords);

/* Demand that a bitmap has just these pages. */
void bare_expect_bits(const uint64_t *bitmap, uint64_t npages, const struct load *load);

#endif

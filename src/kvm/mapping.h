/* SPDX-License-Identifier: MIT */
/* What KVM should map for a space, from its view: see mapping.c. */
#ifndef KAS_MAPPING_H
#define KAS_MAPPING_H

#include "logging.h"
#include "range.h"
#include "space.h"

/* A gpa range that no slot of ours may touch, in any address space; whole pages. */
struct reserved {
	struct range range;
	struct reserved *next;
};

/* Slots that are wanted: sorted by gpa, disjoint, without ids. Blocks are not held. */
struct mappings {
	struct kvmas_slot *at;
	size_t count;
	size_t capacity;
};

/* From what mappings are made. */
struct mapping_source {
	const struct kvmas_space *space;
	const struct kvmas_view *view;
	const struct log_table *logging;
	const struct reserved *reserved;
	unsigned as_id;
	uint64_t page_size;
	bool readonly_mem; /* KVM_CAP_READONLY_MEM: without it, what is readonly is not mapped */
};

/* Pure, but for memory: -ENOMEM. Free with kas_mappings_fini, also after an error. */
int kas_mappings_make(struct mappings *mappings, const struct mapping_source *source);
void kas_mappings_fini(struct kvmas *kvmas, struct mappings *mappings);

#endif

/* SPDX-License-Identifier: MIT */
/* What KVM should map for a space, from its view: see mapping.c. */
#ifndef KAS_MAPPING_H
#define KAS_MAPPING_H

#include "logging.h"
#include "policy.h"
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
	bool closed; /* the last one goes on in no other */
};

/* From what mappings are made. */
struct mapping_source {
	const struct kvmas_space *space;
	const struct kvmas_view *view;
	const struct log_table *logging;
	const struct reserved *reserved;
	const struct policy *policy;
	uint64_t last_gpa; /* that the guest can reach */
	unsigned as_id;
	uint64_t page_size;
	bool readonly_mem; /* KVM_CAP_READONLY_MEM: without it, what is readonly is not mapped */
	bool guest_memfd;  /* KVM_CAP_GUEST_MEMFD: without it, what has one is refused */
};

/* Whether *from* comes to be mapped writable in all of these pages: what a guest writes there does
 * not leave it. */
bool kas_mapping_has(const struct mapping_source *source, const struct flat_range *from,
		     struct range pages);

/* Add what is wanted in a window of whole pages, behind those before. Pure, but for memory:
 * -ENOMEM; -ERANGE for memory past the last gpa; -EOPNOTSUPP for what KVM does not do with a
 * guest_memfd. Free with kas_mappings_fini, also after an error. */
int kas_mappings_add(struct mappings *mappings, const struct mapping_source *source,
		     struct range window);
void kas_mappings_fini(struct kvmas *kvmas, struct mappings *mappings);

#endif

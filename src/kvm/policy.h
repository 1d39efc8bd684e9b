/* SPDX-License-Identifier: MIT */
/* When the slots of an address space are merged: see policy.c. */
#ifndef KAS_POLICY_H
#define KAS_POLICY_H

#include "object.h"

struct boundary {
	uint64_t gpa;
	unsigned count; /* times it was declared */
};

struct policy {
	enum kvmas_merge merge;
	unsigned budget;
	bool merge_now;              /* asked for, in the transaction that goes on */
	struct boundary *boundaries; /* sorted by gpa */
	size_t nboundaries;
	size_t capacity;
};

void kas_policy_init(struct policy *policy);
void kas_policy_fini(struct kvmas *kvmas, struct policy *policy);

/* The first boundary behind *gpa*; UINT64_MAX if there is none. */
uint64_t kas_policy_next_boundary(const struct policy *policy, uint64_t gpa);

#endif

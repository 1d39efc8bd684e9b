/* SPDX-License-Identifier: MIT */
/* The plan: how the slots that KVM has become those that are wanted. See plan.c. */
#ifndef KAS_PLAN_H
#define KAS_PLAN_H

#include "mapping.h"
#include "slots.h"

/* One slot operation. before is not set for CREATE, after not for DELETE. A plan holds the blocks
 * of its operations: the slot table may let the last reference go. */
struct slot_op {
	enum kvmas_slot_op_kind kind;
	struct kvmas_slot before;
	struct kvmas_slot after;
};

struct plan {
	struct slot_op *ops;
	size_t count;
	size_t capacity;
	uint64_t bytes_torn; /* unmapped by an operation though mapped alike before and after */
};

/* One space: what KVM has, and what it should have. */
struct plan_space {
	const struct slots *have;
	struct mappings want; /* planning may cut it finer, to keep slots */
};

/* Plan all spaces together. Pure, but for memory: -ENOMEM; -ENOSPC if slot ids do not suffice. Free
 * with kas_plan_fini, also after an error. */
int kas_plan_make(struct kvmas *kvmas, struct plan *plan, struct plan_space *spaces,
		  size_t nspaces);
void kas_plan_fini(struct kvmas *kvmas, struct plan *plan);

#endif

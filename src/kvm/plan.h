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
	struct slot_entry before;
	struct slot_entry after;
};

struct plan {
	uint64_t now; /* set by the caller: when slots are born that it makes */
	struct slot_op *ops;
	size_t count;
	size_t capacity;
	uint64_t bytes_torn; /* unmapped by an operation though mapped alike before and after */
	size_t excess[KVMAS_KVM_MAX_SPACES]; /* draft.c: slots that merging could save, at most */
	bool stop; /* something mapped is unmapped for a moment, or a log is lost, unless vCPUs of
		      other threads are held out */
};

/* One space: what KVM has, and what it should have. */
struct plan_space {
	const struct slots *have;
	struct mappings want; /* inside the windows; no two neighbours could be one */
	/* Where something may change: ascending, disjoint, none cuts a slot. The slots outside stay
	 * as they are. NULL: the whole space. */
	const struct range *windows;
	size_t nwindows;
	/* What is wanted may be cut, to keep slots that show it. */
	bool cut;
	/* With cut, for a whole space: there may be so many slots more than mappings wanted, and no
	 * more than there are ids. Where there would be, merge until they are half of that more:
	 * oldest boundaries first, or smallest slots. */
	size_t budget;
	bool smallest_first;
	/* The planner's answer: how many slots there are afterwards, in the whole space, and how
	 * many of them were made or moved; how many were in the windows before, and how many
	 * mappings are wanted there. */
	size_t count;
	size_t made;
	size_t nolds;
	size_t wanted;
};

/* Plan all spaces together. Pure, but for memory: -ENOMEM; -ENOSPC if slot ids do not suffice. Free
 * with kas_plan_fini, also after an error. */
int kas_plan_make(struct kvmas *kvmas, struct plan *plan, struct plan_space *spaces,
		  size_t nspaces);
void kas_plan_fini(struct kvmas *kvmas, struct plan *plan);

#endif

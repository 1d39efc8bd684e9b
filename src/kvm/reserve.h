/* SPDX-License-Identifier: MIT */
/* What is reserved of the guest's addresses: see reserve.c. */
#ifndef KAS_RESERVE_H
#define KAS_RESERVE_H

#include "range.h"

struct kvmas_kvm;

/* A gpa range that no slot of ours may touch, in any address space; whole pages. */
struct reserved {
	struct range range;
	struct reserved *next;
};

void kas_kvm_free_reserved(struct kvmas_kvm *kvm);

#endif

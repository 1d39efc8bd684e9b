/* SPDX-License-Identifier: MIT */
/* Executing a plan, so that it can be taken back: see apply.c. */
#ifndef KAS_APPLY_H
#define KAS_APPLY_H

#include "plan.h"

struct kvmas_kvm;

/* All that can fail for want of memory; undoing needs room for what was deleted, which it left.
 * -ENOMEM. */
int kas_apply_reserve(struct kvmas_kvm *kvm, struct plan *plan);

/*
 * Execute a plan that this was done for. On an error everything is as before, or, if KVM refused to
 * go back, -ENOTRECOVERABLE: the slot tables say what KVM has even then.
 */
int kas_apply(struct kvmas_kvm *kvm, const struct plan *plan);

/* The plan is over, whichever way: free what no slot has any more. */
void kas_apply_end(const struct plan *plan);

/*
 * Have KVM forget where it has found no memory. Its vCPUs remember the last such page as long as no
 * slot of address space 0 changes (arch/x86/kvm/x86.h, vcpu_match_mmio_gen): memory that comes in
 * another one is not seen by a vCPU that stays there. Its writes go on to the bus. What KVM
 * refuses; then the slots are as they were, but for -ENOTRECOVERABLE. -EOPNOTSUPP if address space
 * 0 has no slot to change.
 */
int kas_apply_renew(struct kvmas_kvm *kvm);

/* Take back a plan that was executed: 0 or -ENOTRECOVERABLE. */
int kas_apply_undo(struct kvmas_kvm *kvm, const struct plan *plan);

#endif

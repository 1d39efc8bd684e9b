/* SPDX-License-Identifier: MIT */
/* The plan of a commit, for all spaces of a VM: see draft.c. */
#ifndef KAS_DRAFT_H
#define KAS_DRAFT_H

#include "vm.h"

/* Whether the slots may differ from what the commit that goes on, or a dry run of it, wants. */
bool kas_draft_is_needed(const struct kvmas_kvm *kvm);

/* From what the mappings of a bound space are made, in the commit that goes on. */
struct mapping_source kas_draft_source(const struct kvm_space *space);

/* Plan the commit that goes on, into an empty plan. -ENOMEM; -ENOSPC; -ERANGE; -EOPNOTSUPP.
 * Free the plan with kas_plan_fini, also after an error. */
int kas_draft_make(struct kvmas_kvm *kvm, struct plan *plan);

#endif

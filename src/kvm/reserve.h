/* SPDX-License-Identifier: MIT */
/* What is reserved of the guest's addresses and of slot ids: see reserve.c. */
#ifndef KAS_RESERVE_H
#define KAS_RESERVE_H

#include "vm.h"

/* Free the list of reserved ranges, recording nothing. */
void kas_kvm_free_reserved(struct kvmas_kvm *kvm);

#endif

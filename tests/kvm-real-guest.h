/* SPDX-License-Identifier: MIT */
/*
 * A vCPU of a real KVM that does one access at a time, for the steps of kvm-table.h: in protected
 * mode without paging, its code in the page KVM_TABLE_CODE. x86 only.
 *
 * Prints nothing and depends on no test framework.
 */
#ifndef KVM_REAL_GUEST_H
#define KVM_REAL_GUEST_H

#include "kvm-table.h"

/*
 * Make the memory from KVM_FROM_MEM on, with the code, once and for all VMs: 0, or a negative errno
 * (-EOPNOTSUPP: other processors). *system_fd* is that of /dev/kvm.
 */
int kvm_guest_init(int system_fd);

/* How the vCPU of a VM whose data is NULL is made and used. */
extern const struct kvm_guest kvm_real_guest;

#endif

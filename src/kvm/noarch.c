/* SPDX-License-Identifier: MIT */
/*
 * Architectures other than x86: KVM has one address space there (KVM_MAX_NR_ADDRESS_SPACES is
 * defined for x86 only).
 */
#include "vm.h"

#include <errno.h>

unsigned kas_kvm_exit_as_id(const struct kvm_run *run)
{
	(void)run;
	return 0;
}

int kas_kvm_zap_slot(struct kvmas_kvm *kvm)
{
	(void)kvm;
	return -EOPNOTSUPP;
}

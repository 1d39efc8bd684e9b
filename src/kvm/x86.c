/* SPDX-License-Identifier: MIT */
/*
 * What is x86: a vCPU in system management mode is in address space 1, otherwise in 0
 * (arch/x86/include/asm/kvm_host.h, kvm_arch_vcpu_memslots_id). KVM_RUN_X86_SMM is set anew at
 * every exit, since Linux 4.2. And since 6.12 it can be chosen what a deletion drops
 * (arch/x86/kvm/mmu/mmu.c, kvm_arch_flush_shadow_memslot).
 */
#include "vm.h"

#include <errno.h>

unsigned kas_kvm_exit_as_id(const struct kvm_run *run)
{
	return run->flags & KVM_RUN_X86_SMM ? 1 : 0;
}

int kas_kvm_zap_slot(struct kvmas_kvm *kvm)
{
	int quirks = kas_kvm_check_extension(kvm, KVM_CAP_DISABLE_QUIRKS2);

	if (quirks < 0)
		return quirks;
	if (!(quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL))
		return -EOPNOTSUPP;
	return kas_kvm_enable_cap(kvm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL);
}

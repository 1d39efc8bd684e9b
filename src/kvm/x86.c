/* SPDX-License-Identifier: MIT */
/*
 * What is x86: a vCPU in system management mode is in address space 1, otherwise in 0
 * (arch/x86/include/asm/kvm_host.h, kvm_arch_vcpu_memslots_id). KVM_RUN_X86_SMM is set anew at
 * every exit, since Linux 4.2.
 */
#include "vm.h"

unsigned kas_kvm_exit_as_id(const struct kvm_run *run)
{
	return run->flags & KVM_RUN_X86_SMM ? 1 : 0;
}

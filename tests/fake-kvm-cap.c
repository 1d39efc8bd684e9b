/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: which capabilities it says it has, and the one that can be enabled. What
 * they change is in fake-kvm.c and fake-kvm-dirty.c.
 */
#include "fake-kvm-inner.h"

#include <errno.h>
#include <linux/kvm.h>

/* kvm_vm_ioctl_enable_cap_generic. INITIALLY_SET goes with PROTECT_ENABLE only. */
int fake_kvm_enable_cap(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_enable_cap *cap = arg;
	uint64_t allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	call->flags = cap->flags;
	if (cap->args[0] & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
	if (cap->cap != KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 || cap->flags || cap->args[0] & ~allowed)
		return -EINVAL;
	kvm->manual_protect = cap->args[0];
	return 0;
}

int fake_kvm_check_extension(const struct fake_kvm *kvm, uintptr_t cap)
{
	const struct fake_kvm_config *config = &kvm->config;
	const struct {
		uintptr_t cap;
		int value;
	} caps[] = {
		{KVM_CAP_USER_MEMORY, 1},
		{KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1},
		{KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1},
		{KVM_CAP_SYNC_MMU, 1},
		{KVM_CAP_CHECK_EXTENSION_VM, 1},
		{KVM_CAP_ENABLE_CAP_VM, 1},
		{KVM_CAP_IMMEDIATE_EXIT, 1},
		{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		 KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET},
		{KVM_CAP_NR_MEMSLOTS, (int)config->nr_memslots},
		{KVM_CAP_READONLY_MEM, !config->no_readonly_mem},
		{KVM_CAP_X86_SMM, config->spaces > 1},
		/* Generic code does not even know the question where there is one space. */
		{KVM_CAP_MULTI_ADDRESS_SPACE, config->spaces > 1 ? (int)config->spaces : 0},
	};

	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++)
		if (caps[i].cap == cap)
			return caps[i].value;
	return 0;
}

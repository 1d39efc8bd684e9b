/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: which capabilities it says it has, and those that can be enabled. What
 * they change is in fake-kvm-region.c, fake-kvm-dirty.c and fake-kvm-ring.c.
 */
#include "fake-kvm-inner.h"
#include "fake-kvm-uapi.h"

#include <errno.h>

/* Bytes: 65536 entries. */
enum { MAX_RING_SIZE = 1 << 20 };

/* kvm_vm_ioctl_enable_cap_generic. INITIALLY_SET goes with PROTECT_ENABLE only. */
static int enable_manual_protect(struct fake_kvm *kvm, uint64_t options)
{
	uint64_t allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (kvm->config.no_manual)
		return -EINVAL;
	if (options & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE && !kvm->config.no_initially_set)
		allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
	if (options & ~allowed)
		return -EINVAL;
	kvm->manual_protect = options;
	return 0;
}

/*
 * kvm_vm_ioctl_enable_cap (arch/x86/kvm/x86.c). The older capability looks at nothing. A quirk that
 * is missing in a later call was switched on again until 6.15.
 */
static int disable_quirks(struct fake_kvm *kvm, uint64_t quirks)
{
	if (kvm->config.version < FAKE_KVM_6_18)
		kvm->disabled_quirks = 0;
	kvm->disabled_quirks |= quirks & kvm->config.quirks;
	return 0;
}

static int enable_flagless(struct fake_kvm *kvm, const struct kvm_enable_cap *cap)
{
	uint64_t options = cap->args[0];

	switch (cap->cap) {
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return enable_manual_protect(kvm, options);
	case KVM_CAP_DISABLE_QUIRKS:
		return disable_quirks(kvm, options);
	case KVM_CAP_DISABLE_QUIRKS2:
		return options & ~kvm->config.quirks ? -EINVAL : disable_quirks(kvm, options);
	default:
		return -EINVAL;
	}
}

int fake_kvm_enable_cap(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_enable_cap *cap = arg;
	uint64_t options = cap->args[0];

	call->flags = cap->flags;
	switch (cap->cap) {
	case KVM_CAP_DIRTY_LOG_RING: /* looks at no flags */
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return fake_kvm_check_extension(kvm, cap->cap) ? fake_kvm_enable_ring(kvm, options)
							       : -EINVAL;
	default:
		return cap->flags ? -EINVAL : enable_flagless(kvm, cap);
	}
}

static int manual_options(const struct fake_kvm_config *config)
{
	if (config->no_manual)
		return 0;
	return KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
	       (config->no_initially_set ? 0 : KVM_DIRTY_LOG_INITIALLY_SET);
}

/* A bit for each; the plain one is bit 0. */
static int vm_types(const struct fake_kvm_config *config)
{
	if (config->version < FAKE_KVM_6_12)
		return 0;
	return 1 | (config->private_vm ? 1 << KVM_X86_SW_PROTECTED_VM : 0);
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
		{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, manual_options(config)},
		{KVM_CAP_DIRTY_LOG_RING, config->no_ring ? 0 : MAX_RING_SIZE},
		{KVM_CAP_DIRTY_LOG_RING_ACQ_REL, config->no_ring_acq_rel ? 0 : MAX_RING_SIZE},
		{KVM_CAP_DISABLE_QUIRKS, 1},
		{KVM_CAP_DISABLE_QUIRKS2, (int)config->quirks},
		{KVM_CAP_USER_MEMORY2, config->version >= FAKE_KVM_6_12},
		{KVM_CAP_GUEST_MEMFD, fake_kvm_has_gmem(config)},
		{KVM_CAP_GUEST_MEMFD_FLAGS, (int)fake_kvm_gmem_flags(config)},
		{KVM_CAP_MEMORY_FAULT_INFO, config->version >= FAKE_KVM_6_12},
		{KVM_CAP_MEMORY_ATTRIBUTES,
		 config->private_vm ? (int)KVM_MEMORY_ATTRIBUTE_PRIVATE : 0},
		{KVM_CAP_VM_TYPES, vm_types(config)},
		{KVM_CAP_NR_MEMSLOTS, (int)config->nr_memslots},
		{KVM_CAP_READONLY_MEM, !config->no_readonly_mem},
		{KVM_CAP_X86_SMM, config->spaces > 1},
		{KVM_CAP_IOEVENTFD, !config->no_ioeventfd},
		{KVM_CAP_IOEVENTFD_NO_LENGTH, !config->no_any_length},
		{KVM_CAP_IOEVENTFD_ANY_LENGTH, !config->no_any_length},
		{KVM_CAP_COALESCED_MMIO, config->no_coalesced_mmio ? 0 : FAKE_KVM_RING_PAGE},
		{KVM_CAP_COALESCED_PIO, !config->no_coalesced_pio && !config->no_coalesced_mmio},
		/* Generic code does not even know the question where there is one space. */
		{KVM_CAP_MULTI_ADDRESS_SPACE, config->spaces > 1 ? (int)config->spaces : 0},
	};

	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++)
		if (caps[i].cap == cap)
			return caps[i].value;
	return 0;
}

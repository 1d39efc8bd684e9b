/* SPDX-License-Identifier: MIT */
/*
 * The ioctl funnel: all ioctls of the library are issued here, through the function that a VMM with
 * a sandbox, or a test, may have replaced. Nothing here decides anything.
 *
 * KVM_SET_USER_MEMORY_REGION checks gpa, hva and flags of a deletion too and then ignores them
 * (virt/kvm/kvm_main.c, __kvm_set_memory_region): 0 is safe for all.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "vm.h"

static int vm_ioctl(struct kvmas_kvm *kvm, unsigned long request, void *arg)
{
	int result;

	if (kvm->config.ioctl)
		return kvm->config.ioctl(kvm->config.ioctl_data, kvm->config.vm_fd, request, arg);
	result = ioctl(kvm->config.vm_fd, request, arg);
	return result < 0 ? -errno : result;
}

int kas_kvm_check_extension(struct kvmas_kvm *kvm, unsigned long capability)
{
	return vm_ioctl(kvm, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
}

static uint32_t kernel_id(unsigned as_id, unsigned id)
{
	return (uint32_t)as_id << 16 | id;
}

int kas_kvm_set_slot(struct kvmas_kvm *kvm, const struct kvmas_slot *slot)
{
	struct kvm_userspace_memory_region region = {
		.slot = kernel_id(slot->as_id, slot->id),
		.flags = slot->flags,
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size,
		.userspace_addr = (uintptr_t)slot->ram->hva + slot->ram_offset,
	};

	return vm_ioctl(kvm, KVM_SET_USER_MEMORY_REGION, &region);
}

int kas_kvm_delete_slot(struct kvmas_kvm *kvm, unsigned as_id, unsigned id)
{
	struct kvm_userspace_memory_region region = {.slot = kernel_id(as_id, id)};

	return vm_ioctl(kvm, KVM_SET_USER_MEMORY_REGION, &region);
}

int kas_kvm_get_dirty_log(struct kvmas_kvm *kvm, const struct kvmas_slot *slot, void *bitmap)
{
	struct kvm_dirty_log log = {
		.slot = kernel_id(slot->as_id, slot->id),
		.dirty_bitmap = bitmap,
	};

	return vm_ioctl(kvm, KVM_GET_DIRTY_LOG, &log);
}

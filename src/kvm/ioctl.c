/* SPDX-License-Identifier: MIT */
/*
 * The ioctl funnel: all ioctls of the library are issued here, through the function that a VMM with
 * a sandbox, or a test, may have replaced. Nothing here decides anything, but that what no ioctl
 * returns is no result: -EPROTO, a refusal. Of a slot operation it counts as not done.
 *
 * KVM_SET_USER_MEMORY_REGION checks gpa, hva and flags of a deletion too and then ignores them
 * (virt/kvm/kvm_main.c, __kvm_set_memory_region): 0 is safe for all.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "vm.h"

/* The largest errno that a system call can return (include/linux/err.h, MAX_ERRNO). */
#define LARGEST_ERRNO 4095

static int do_ioctl(struct kvmas_kvm *kvm, int fd, unsigned long request, void *arg)
{
	int result;

	if (!kvm->config.ioctl) {
		result = ioctl(fd, request, arg);
		return result < 0 ? -errno : result;
	}
	result = kvm->config.ioctl(kvm->config.ioctl_data, fd, request, arg);
	return result < -LARGEST_ERRNO ? -EPROTO : result;
}

/* For requests that return 0 when they are granted. That slots and views differ is the library's
 * own word: from a hook it would tell a caller what is not so. */
static int no_count(int result)
{
	return result > 0 || result == -ENOTRECOVERABLE ? -EPROTO : result;
}

static int vm_ioctl(struct kvmas_kvm *kvm, unsigned long request, void *arg)
{
	return do_ioctl(kvm, kvm->config.vm_fd, request, arg);
}

int kas_kvm_check_extension(struct kvmas_kvm *kvm, unsigned long capability)
{
	return vm_ioctl(kvm, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
}

int kas_kvm_enable_cap(struct kvmas_kvm *kvm, uint32_t capability, uint64_t arg)
{
	struct kvm_enable_cap cap = {.cap = capability, .args = {arg}};

	return no_count(vm_ioctl(kvm, KVM_ENABLE_CAP, &cap));
}

static uint32_t kernel_id(unsigned as_id, unsigned id)
{
	return (uint32_t)as_id << 16 | id;
}

/* With memory on another side: the pages that only the guest may see. */
static int set_private_slot(struct kvmas_kvm *kvm, const struct kvmas_slot *slot)
{
	const struct guest_memfd *file = &slot->ram->guest_memfd;
	struct kvm_userspace_memory_region2 region = {
		.slot = kernel_id(slot->as_id, slot->id),
		.flags = slot->flags,
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size,
		.userspace_addr = (uintptr_t)slot->ram->hva + slot->ram_offset,
		.guest_memfd = (uint32_t)file->fd,
		.guest_memfd_offset = file->offset + slot->ram_offset,
	};

	return no_count(vm_ioctl(kvm, KVM_SET_USER_MEMORY_REGION2, &region));
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

	if (slot->flags & KVM_MEM_GUEST_MEMFD)
		return set_private_slot(kvm, slot);
	return no_count(vm_ioctl(kvm, KVM_SET_USER_MEMORY_REGION, &region));
}

int kas_kvm_delete_slot(struct kvmas_kvm *kvm, unsigned as_id, unsigned id)
{
	struct kvm_userspace_memory_region region = {.slot = kernel_id(as_id, id)};

	return no_count(vm_ioctl(kvm, KVM_SET_USER_MEMORY_REGION, &region));
}

int kas_kvm_get_dirty_log(struct kvmas_kvm *kvm, const struct kvmas_slot *slot, void *bitmap)
{
	struct kvm_dirty_log log = {
		.slot = kernel_id(slot->as_id, slot->id),
		.dirty_bitmap = bitmap,
	};

	return no_count(vm_ioctl(kvm, KVM_GET_DIRTY_LOG, &log));
}

int kas_kvm_clear_dirty_log(const struct slot_log *log, uint64_t first, uint64_t npages)
{
	struct kvm_clear_dirty_log clear = {
		.slot = kernel_id(log->as_id, log->id),
		.num_pages = (uint32_t)npages,
		.first_page = first,
		.dirty_bitmap = (void *)(uintptr_t)&log->pending[first / 64],
	};

	return no_count(vm_ioctl(log->kvm, KVM_CLEAR_DIRTY_LOG, &clear));
}

int kas_kvm_reset_rings(struct kvmas_kvm *kvm)
{
	return vm_ioctl(kvm, KVM_RESET_DIRTY_RINGS, NULL);
}

static int set_event(struct kvmas_kvm *kvm, const struct placement *placement, bool made)
{
	const struct channel *channel = placement->channel;
	struct kvm_ioeventfd event = {
		.datamatch = channel->kvm_match,
		.addr = placement->bytes.first,
		.len = channel->size,
		.fd = channel->fd,
	};

	if (channel->flags & KVMAS_CHANNEL_DATAMATCH)
		event.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	if (placement->pio)
		event.flags |= KVM_IOEVENTFD_FLAG_PIO;
	if (!made)
		event.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	return no_count(vm_ioctl(kvm, KVM_IOEVENTFD, &event));
}

static int set_zone(struct kvmas_kvm *kvm, const struct placement *placement, bool made)
{
	struct kvm_coalesced_mmio_zone zone = {
		.addr = placement->bytes.first,
		.size = (uint32_t)(placement->bytes.last - placement->bytes.first + 1),
		.pio = placement->pio,
	};

	return no_count(vm_ioctl(
		kvm, made ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &zone));
}

int kas_kvm_set_channel(struct kvmas_kvm *kvm, const struct placement *placement, bool made)
{
	if (placement->channel->fd < 0)
		return set_zone(kvm, placement, made);
	return set_event(kvm, placement, made);
}

int kas_kvm_run(struct kvmas_kvm *kvm, int vcpu_fd)
{
	return no_count(do_ioctl(kvm, vcpu_fd, KVM_RUN, NULL));
}

int kas_kvm_create_guest_memfd(struct kvmas_kvm *kvm, uint64_t size, uint64_t flags)
{
	struct kvm_create_guest_memfd create = {.size = size, .flags = flags};

	return vm_ioctl(kvm, KVM_CREATE_GUEST_MEMFD, &create);
}

int kas_kvm_set_attributes(struct kvmas_kvm *kvm, uint64_t gpa, uint64_t size, uint64_t attributes)
{
	struct kvm_memory_attributes set = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return no_count(vm_ioctl(kvm, KVM_SET_MEMORY_ATTRIBUTES, &set));
}

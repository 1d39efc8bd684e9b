/* SPDX-License-Identifier: MIT */
/*
 * Private memory: files for it (guest_memfd), which of a guest's pages are private (attributes),
 * and the exit by which a guest asks for the other.
 *
 *     guest touches a page that is shared, as private  ->  KVM_EXIT_MEMORY_FAULT, PRIVATE
 *     attributes of the page                           ->  PRIVATE
 *     its page of the block's hva                      ->  back to the host
 *
 * and the same the other way round, where the page of the guest_memfd goes back. Attributes are the
 * VM's, by gpa (virt/kvm/kvm_main.c, kvm_vm_set_mem_attributes): slots come and go, and attributes
 * stay. So they are no part of a transaction, and no view knows them.
 *
 * Whether an exit is the library's to answer is read off the view of that moment, without a lock;
 * the view is pinned until all is done, so that blocks stay. Two vCPUs may want a page, one as
 * private and one as shared, or a thread of the VMM's calls kvmas_kvm_set_private: what goes back
 * to the host must be the side that the guest has left last, so attributes are set, and pages given
 * back, under one lock (private_lock). The hook that is asked whether to is called before.
 *
 * Read handle first.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "binding.h"
#include "memory.h"

/* As KVM has it in struct kvm_run, from Linux 6.8 on. */
struct memory_fault {
	uint64_t flags;
	uint64_t gpa;
	uint64_t size;
};

int kas_private_init(struct kvmas_kvm *kvm)
{
	int files = kas_kvm_check_extension(kvm, KVM_CAP_GUEST_MEMFD);
	int regions = kas_kvm_check_extension(kvm, KVM_CAP_USER_MEMORY2);
	int attributes = kas_kvm_check_extension(kvm, KVM_CAP_MEMORY_ATTRIBUTES);

	if (files < 0 || regions < 0)
		return files < 0 ? files : regions;
	if (attributes < 0)
		return attributes;
	kvm->guest_memfd = files > 0 && regions > 0;
	kvm->attributes = (unsigned)attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE;
	return 0;
}

/* ---- files ---- */

static const struct {
	unsigned ours;
	unsigned kernels;
} file_flags[] = {
	{KVMAS_GUEST_MEMFD_MMAP, GUEST_MEMFD_FLAG_MMAP},
	{KVMAS_GUEST_MEMFD_INIT_SHARED, GUEST_MEMFD_FLAG_INIT_SHARED},
};

/* In the kernel's words: -EINVAL for flags that are none; -EOPNOTSUPP for what it does not have. */
static int file_flags_of(struct kvmas_kvm *kvm, unsigned flags)
{
	unsigned kernels = 0;
	int offered = 0;

	for (size_t i = 0; i < sizeof(file_flags) / sizeof(file_flags[0]); i++) {
		if (flags & file_flags[i].ours)
			kernels |= file_flags[i].kernels;
		flags &= ~file_flags[i].ours;
	}
	if (flags)
		return -EINVAL;
	if (kernels)
		offered = kas_kvm_check_extension(kvm, KVM_CAP_GUEST_MEMFD_FLAGS);
	if (offered < 0)
		return offered;
	return kernels & ~(unsigned)offered ? -EOPNOTSUPP : (int)kernels;
}

int kvmas_kvm_create_guest_memfd(struct kvmas_kvm *kvm, uint64_t size, unsigned flags)
{
	int kernels, fd;

	if (!kas_alive(kvm->object.kvmas))
		return -EIO;
	if (size == 0 || size & (kas_page_size() - 1))
		return -EINVAL;
	kernels = file_flags_of(kvm, flags);
	if (kernels < 0)
		return kernels;
	if (!kvm->guest_memfd)
		return -EOPNOTSUPP;
	fd = kas_kvm_create_guest_memfd(kvm, size, (unsigned)kernels);
	/* KVM makes it to be inherited: no program that is run is to have the guest's memory. */
	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

/* ---- attributes ---- */

static int set_private(struct kvmas_kvm *kvm, struct range range, bool is_private)
{
	return kas_kvm_set_attributes(kvm, range.first, range.last - range.first + 1,
				      is_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0);
}

/* Whole pages that end at 2^64 or before it. */
static bool find_range(uint64_t gpa, uint64_t size, struct range *ret)
{
	if (size == 0 || (gpa | size) & (kas_page_size() - 1) || size - 1 > UINT64_MAX - gpa)
		return false;
	*ret = (struct range){gpa, gpa + (size - 1)};
	return true;
}

int kvmas_kvm_set_private(struct kvmas_kvm *kvm, uint64_t gpa, uint64_t size, bool is_private)
{
	struct range range;
	int err;

	if (!kas_alive(kvm->object.kvmas))
		return -EIO;
	if (!find_range(gpa, size, &range))
		return -EINVAL;
	if (!kvm->attributes)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&kvm->private_lock);
	err = set_private(kvm, range, is_private);
	pthread_mutex_unlock(&kvm->private_lock);
	return err;
}

/* ---- exits ---- */

/* An exit of before would be taken for this one's: KVM does not touch the reason if it does not
 * exit to say so. Any other is left, since KVM may look at it (arch/arm64/kvm/arm.c). */
int kas_private_run(struct kvmas_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->config.run;
	int result;

	if (run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		run->exit_reason = KVM_EXIT_UNKNOWN;
	result = kas_kvm_run(vcpu->kvm, vcpu->config.fd);
	return result == -EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT ? 0 : result;
}

struct conversion {
	struct kvmas_kvm *kvm;
	const struct kvmas_view *view; /* pinned */
	struct range range;
	bool is_private;
};

/* The memory from rest.first on, all that is in one block with a guest_memfd, in pages that have a
 * slot; false if there is none. */
static bool find_piece(const struct conversion *c, struct range rest, struct memory *ret)
{
	const struct flat_range *range = kas_view_find(c->view, rest.first);
	uint64_t mask = kas_page_size() - 1;

	return !kas_memory_of(range, rest, true, ret) &&
	       kas_guest_memfd_is_there(&ret->ram->guest_memfd) && !(ret->ram_offset & mask) &&
	       (ret->last & mask) == mask;
}

static bool has_two_sides(const struct conversion *c)
{
	struct range rest = c->range;
	struct memory piece;

	while (find_piece(c, rest, &piece)) {
		if (piece.last >= rest.last)
			return true;
		rest.first = piece.last + 1;
	}
	return false;
}

/* The guest has left this side of a piece. What is not given back is lost to the host, no more. */
static void leave_side(const struct conversion *c, const struct memory *piece, uint64_t size)
{
	struct kvmas_ram *ram = piece->ram;
	int err = kas_ram_give_back_side(ram, piece->ram_offset, size, !c->is_private);

	if (err)
		kas_log(ram->home, KVMAS_LOG_WARNING,
			"ram %s: what is %s from 0x%" PRIx64 " on keeps its other side: errno %d",
			ram->name, c->is_private ? "private" : "shared", piece->ram_offset, -err);
	if (!c->is_private)
		kvmas_ram_mark(ram, piece->ram_offset, size);
}

static int carry_out(const struct conversion *c)
{
	struct range rest = c->range;
	struct memory piece;
	int err;

	pthread_mutex_lock(&c->kvm->private_lock);
	err = set_private(c->kvm, rest, c->is_private);
	while (!err && rest.first <= rest.last && find_piece(c, rest, &piece)) {
		leave_side(c, &piece, piece.last - rest.first + 1);
		if (piece.last == rest.last)
			break;
		rest.first = piece.last + 1;
	}
	pthread_mutex_unlock(&c->kvm->private_lock);
	return err;
}

static int handle(const struct conversion *c)
{
	const struct kvmas_kvm_config *config = &c->kvm->config;
	uint64_t size = c->range.last - c->range.first + 1;
	int err = 0;

	if (!has_two_sides(c))
		return 0;
	if (config->convert)
		err = config->convert(config->convert_data, c->range.first, size, c->is_private);
	if (err >= 0)
		err = carry_out(c);
	if (err < 0)
		return err;
	kas_kvm_count(c->kvm, conversions, 1);
	return 1;
}

int kas_private_handle_fault(struct kvmas_vcpu *vcpu)
{
	unsigned as_id = kas_kvm_exit_as_id(vcpu->config.run);
	struct conversion c = {.kvm = vcpu->kvm};
	struct kvmas_space *space;
	struct kvmas_view *view;
	struct memory_fault fault;
	int result = 0;

	memcpy(&fault, vcpu->config.run->padding, sizeof(fault));
	if (!c.kvm->attributes || fault.flags & ~KVM_MEMORY_EXIT_FLAG_PRIVATE)
		return 0;
	if (!find_range(fault.gpa, fault.size, &c.range))
		return -EINVAL;
	c.is_private = fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE;
	space = kas_kvm_pin_answering(c.kvm, &vcpu->reader, as_id);
	if (!space)
		return 0;
	view = kas_reader_pin(&vcpu->reader, space);
	c.view = view;
	if (view) {
		result = handle(&c);
		kas_reader_unpin(&vcpu->reader, view);
	}
	kas_kvm_unpin_answering(&vcpu->reader, space);
	return result;
}

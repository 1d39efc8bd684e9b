/* SPDX-License-Identifier: MIT */
/*
 * The steps of kvm-table.h for which a VM has a vCPU: what that writes and reads, and what its
 * dirty ring has. How a vCPU is made to do so is told by struct kvm_guest: by a double, or by a
 * real KVM (kvm-real-guest.h).
 */
#include "kvm-table.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

static int run_reset(struct kvm_vm *vm, const struct kvm_step *step)
{
	(void)step;
	return vm->ioctl(vm->data, vm->fd, KVM_RESET_DIRTY_RINGS, NULL);
}

static int run_vcpu(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_step code = {
		.kind = KVM_STEP_SET,
		.id = KVM_CODE_ID,
		.gpa = {KVM_FROM_ZERO, KVM_TABLE_CODE, 0},
		.size = {KVM_FROM_ZERO, 1, 0},
		.hva = {KVM_FROM_MEM, KVM_TABLE_PAGES - 1, 0},
	};

	(void)step;
	for (; code.as_id < vm->limits.spaces; code.as_id++) {
		int r = kvm_step_run(vm, &code);

		if (r < 0)
			return r;
	}
	return vm->guest->make(vm);
}

/* The pages before the first that could not be had; why that was, if it is the first. */
static int run_access(struct kvm_vm *vm, const struct kvm_step *step)
{
	bool writes = step->kind == KVM_STEP_WRITE;

	for (uint32_t i = 0; i < step->num_pages; i++) {
		uint64_t gpa = (step->first_page + i) * vm->limits.page_size;
		int r = vm->guest->access(vm, writes, step->as_id, gpa);

		if (r != 0)
			return r < 0 && i == 0 ? r : (int)i;
	}
	return (int)step->num_pages;
}

static int run_clock(struct kvm_vm *vm, const struct kvm_step *step)
{
	return vm->guest->clock(vm, step->first_page * vm->limits.page_size);
}

static int run_smi(struct kvm_vm *vm, const struct kvm_step *step)
{
	(void)step;
	return vm->guest->smi(vm);
}

static struct kvm_dirty_gfn *next_entry(const struct kvm_vm *vm)
{
	uint32_t mask = vm->ring_size / (uint32_t)sizeof(*vm->ring) - 1;
	struct kvm_dirty_gfn *entry = &vm->ring[vm->next & mask];
	uint32_t flags = __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE);

	return flags == KVM_DIRTY_GFN_F_DIRTY ? entry : NULL;
}

static int run_harvest(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_dirty_gfn *entry = next_entry(vm);
	struct kvm_dirty_gfn first;

	(void)step;
	if (!entry)
		return -ENOENT;
	first = *entry;
	while (entry && entry->slot == first.slot && entry->offset == first.offset) {
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		vm->next++;
		entry = next_entry(vm);
	}
	return (int)KVM_ENTRY(first.slot >> 16, first.slot & 0xffff, first.offset);
}

static int run_forge(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_dirty_gfn *entry = next_entry(vm);

	if (!entry)
		return -ENOENT;
	entry->slot = step->as_id << 16 | step->id;
	entry->offset = step->first_page;
	__atomic_store_n(&entry->flags, step->flags, __ATOMIC_RELEASE);
	vm->next++;
	return 0;
}

int kvm_access_run(struct kvm_vm *vm, const struct kvm_step *step)
{
	static int (*const runs[])(struct kvm_vm * vm, const struct kvm_step *step) = {
		[KVM_STEP_RESET] = run_reset,     [KVM_STEP_VCPU] = run_vcpu,
		[KVM_STEP_WRITE] = run_access,    [KVM_STEP_READ] = run_access,
		[KVM_STEP_CLOCK] = run_clock,     [KVM_STEP_SMI] = run_smi,
		[KVM_STEP_HARVEST] = run_harvest, [KVM_STEP_FORGE] = run_forge,
	};

	return runs[step->kind](vm, step);
}

/* ---- limits ---- */

static int access_page(struct kvm_vm *vm, enum kvm_step_kind kind, unsigned as_id, uint64_t page)
{
	const struct kvm_step step = {
		.kind = kind, .as_id = as_id, .first_page = page, .num_pages = 1};

	return kvm_step_run(vm, &step);
}

static int do_alone(struct kvm_vm *vm, enum kvm_step_kind kind)
{
	return kvm_step_run(vm, &(struct kvm_step){.kind = kind});
}

/* Whether a page of space 0 is among what the ring has, which is emptied. */
static bool is_in_ring(struct kvm_vm *vm, int page)
{
	bool found = false;

	for (;;) {
		int entry = do_alone(vm, KVM_STEP_HARVEST);

		if (entry < 0)
			return found;
		found |= entry == page;
	}
}

/* A vCPU, and 8 logged pages for it. */
static int make_guest(struct kvm_vm *vm)
{
	const struct kvm_step step = {
		.kind = KVM_STEP_SET,
		.size = {KVM_FROM_ZERO, 8, 0},
		.hva = {KVM_FROM_MEM, 0, 0},
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
	};
	int r = do_alone(vm, KVM_STEP_VCPU);

	return r == 0 ? kvm_step_run(vm, &step) : r;
}

static int probe_by_ring(struct kvm_vm *vm)
{
	struct kvm_limits *limits = &vm->limits;
	int r = make_guest(vm);

	if (r < 0)
		return r;
	access_page(vm, KVM_STEP_READ, 0, 1);
	limits->reads_mark = is_in_ring(vm, 1);
	access_page(vm, KVM_STEP_WRITE, 0, 2);
	if (!is_in_ring(vm, 2))
		return -EPROTO;
	access_page(vm, KVM_STEP_WRITE, 0, 2);
	limits->watches = !is_in_ring(vm, 2);
	return 0;
}

/* Stores in a zone, until one exits. */
static int probe_room(struct kvm_vm *vm)
{
	struct kvm_step zone = {
		.kind = KVM_STEP_ZONE,
		.gpa = {KVM_FROM_ZERO, KVM_TABLE_CODE + 1, 0},
		.size = {KVM_FROM_ZERO, 0, 4},
	};
	struct kvm_transfer store = {
		.writes = true,
		.addr = kvm_value_of(&vm->limits, &zone.gpa),
		.size = 4,
	};
	int r = kvm_step_run(vm, &zone);

	for (; r == 0 && store.nexits == 0; vm->limits.room++)
		r = vm->guest->transfer(vm, &store);
	vm->limits.room--;
	zone.kind = KVM_STEP_UNZONE;
	return r == 0 ? kvm_step_run(vm, &zone) : r;
}

int kvm_vm_probe_guest(struct kvm_vm *vm)
{
	struct kvm_step ring = {.kind = KVM_STEP_RING, .options = 4096};
	int r;

	if (!vm->guest || !vm->limits.ring)
		return 0;
	vm->limits.small_ring = kvm_step_run(vm, &ring) == 0;
	ring.options = 16384;
	if (!vm->limits.small_ring && kvm_step_run(vm, &ring) < 0)
		return -EPROTO;
	r = probe_by_ring(vm);
	return r == 0 && vm->limits.channels ? probe_room(vm) : r;
}

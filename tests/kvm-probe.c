/* SPDX-License-Identifier: MIT */
/*
 * See kvm-probe.h: how it is found out which slots a VM has, and why that finds every difference.
 *
 * Read compare_spaces first.
 */
#include "kvm-probe.h"

#include "fake-kvm-uapi.h"

#include <errno.h>
#include <string.h>

/* The last one is among those of the random steps. */
static unsigned spare_id(const struct kvm_limits *limits)
{
	return limits->nr_memslots - 2;
}

static struct kvm_value bytes(uint64_t n)
{
	return (struct kvm_value){KVM_FROM_ZERO, 0, (int64_t)n};
}

/* ---- where ---- */

/* 1 if a page of these is taken, 0 if none; otherwise what KVM said and should not have. */
static int is_taken(struct kvm_vm *vm, unsigned as_id, uint64_t gfn, uint64_t npages)
{
	struct kvm_step step = {
		.kind = KVM_STEP_SET,
		.as_id = as_id,
		.id = spare_id(&vm->limits),
		.gpa = {KVM_FROM_ZERO, (int64_t)gfn, 0},
		.size = {KVM_FROM_ZERO, (int64_t)npages, 0},
		.hva = {KVM_FROM_MEM, 0, 0},
	};
	int r = kvm_step_run(vm, &step);

	if (r != 0)
		return r == -EEXIST ? 1 : r;
	step.size = (struct kvm_value){KVM_FROM_ZERO, 0, 0};
	return kvm_step_run(vm, &step);
}

/*
 * Every page from first on, one byte each: aligned blocks of a power of two, a block that is taken
 * halved, one that is free left behind.
 */
static int find_taken(struct kvm_vm *vm, unsigned as_id, uint64_t first,
		      unsigned char taken[KVM_PROBE_PAGES])
{
	uint64_t at = 0, npages = KVM_PROBE_PAGES;

	memset(taken, 0, KVM_PROBE_PAGES);
	while (at < KVM_PROBE_PAGES) {
		int r = is_taken(vm, as_id, first + at, npages);

		if (r < 0)
			return r;
		if (r > 0 && npages > 1) {
			npages /= 2;
			continue;
		}
		taken[at] = r > 0;
		at += npages;
		while (at % (2 * npages) == 0 && npages < KVM_PROBE_PAGES)
			npages *= 2;
	}
	return 0;
}

static const char *compare_places(const struct fake_kvm *kvm, struct kvm_vm *vm,
				  struct kvm_vm *other, unsigned as_id, uint64_t first)
{
	unsigned char ours[KVM_PROBE_PAGES], theirs[KVM_PROBE_PAGES];

	if (find_taken(vm, as_id, first, ours) < 0)
		return "the double does not take a new slot, or not back";
	for (uint64_t i = 0; i < KVM_PROBE_PAGES; i++)
		if (ours[i] != !!fake_kvm_find(kvm, as_id, (first + i) * vm->limits.page_size))
			return "the double's answers are not as its slots are";
	if (!other)
		return NULL;
	if (find_taken(other, as_id, first, theirs) < 0)
		return "the other VM does not take a new slot, or not back";
	return memcmp(ours, theirs, sizeof(ours)) == 0 ? NULL : "other pages are taken";
}

/* ---- which ---- */

/* A logged slot of more pages than a step's words have bits cannot be asked for. */
static const char *compare_logs(struct kvm_vm *vm, struct kvm_vm *other, unsigned as_id,
				unsigned id)
{
	const struct kvm_step step = {.kind = KVM_STEP_GET, .as_id = as_id, .id = id};

	if (kvm_step_run(vm, &step) != kvm_step_run(other, &step))
		return "another slot is logged, or it has other bits";
	return memcmp(vm->words, other->words, sizeof(vm->words)) == 0 ? NULL : "other bits";
}

static const char *compare_slot(struct kvm_vm *vm, struct kvm_vm *other,
				const struct fake_kvm_slot *slot)
{
	const struct kvm_step step = {
		.kind = KVM_STEP_SET,
		.as_id = slot->as_id,
		.id = slot->id,
		.gpa = bytes(slot->gpa),
		.size = bytes(slot->size),
		.hva = bytes(slot->hva),
		.flags = slot->flags & ~(uint32_t)KVM_MEM_GUEST_MEMFD,
	};
	/* With a file it cannot be set again, not even to what it is. */
	int expected = slot->gmem ? -EINVAL : 0;

	if (kvm_step_run(vm, &step) != expected)
		return "the double refuses what it has";
	return kvm_step_run(other, &step) == expected ? NULL : "a slot differs";
}

static const char *compare_slots(const struct fake_kvm *kvm, struct kvm_vm *vm,
				 struct kvm_vm *other, unsigned as_id)
{
	const struct fake_kvm_space *space = &kvm->spaces[as_id];
	const char *difference = NULL;

	/* Most ids have no slot, and no log in either. */
	for (unsigned id = 0; id < 16 && !difference; id++)
		difference = compare_logs(vm, other, as_id, id);
	for (unsigned i = 0; i < space->nslots && !difference; i++) {
		const struct fake_kvm_slot *slot = space->by_gpa[i];

		if (slot->id >= vm->limits.nr_memslots)
			continue;
		difference = compare_logs(vm, other, as_id, slot->id);
		if (!difference)
			difference = compare_slot(vm, other, slot);
	}
	return difference;
}

static const char *compare_spaces(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	uint64_t end = vm->limits.max_gfn + 1;
	const char *difference = NULL;

	for (unsigned as_id = 0; as_id < vm->limits.spaces && !difference; as_id++) {
		difference = compare_places(kvm, vm, other, as_id, 0);
		if (!difference)
			difference = compare_places(kvm, vm, other, as_id, end - KVM_PROBE_PAGES);
		if (!difference && other)
			difference = compare_slots(kvm, vm, other, as_id);
	}
	return difference;
}

const char *kvm_probe_compare(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	const struct fake_kvm before = *kvm;
	const char *difference = compare_spaces(kvm, vm, other);

	memcpy(kvm->count, before.count, sizeof(kvm->count));
	kvm->refused = before.refused;
	kvm->swaps = before.swaps;
	kvm->zaps = before.zaps;
	kvm->array_pages = before.array_pages;
	kvm->bitmap_pages = before.bitmap_pages;
	kvm->ncalls = before.ncalls;
	return difference;
}

/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: the two ioctls that set a slot, in the kernel's order of checks, and what
 * they cost (virt/kvm/kvm_main.c: kvm_vm_ioctl_set_memory_region, __kvm_set_memory_region,
 * kvm_set_memslot; arch/x86/kvm/x86.c: kvm_arch_prepare_memory_region; Linux 6.1 to 6.18).
 *
 *    1      EFAULT  the argument                        (the hook, fake-kvm.c)
 *    2      EINVAL  flags that the first ioctl lacks
 *    3 - 11 EINVAL  what is wrong whatever there is     made for a DELETE too
 *   12      EINVAL  DELETE of what is not there
 *   14      EINVAL  other memory, size or READONLY than the slot has
 *   15      0       nothing differs
 *   16      EEXIST  CREATE, MOVE: another slot of the space is in the way
 *   17      ENOMEM  CREATE, MOVE, FLAGS: the slot
 *   18      EBADF, EINVAL   the guest_memfd
 *   19      ENOMEM  DELETE, MOVE: the INVALID slot      here guest mappings are dropped
 *   20      ENOMEM  a new dirty bitmap
 *   22      EINVAL  CREATE, MOVE: past the last gfn
 *   23      ENOMEM  CREATE, MOVE: per-page arrays
 *
 * A MOVE that is refused from 20 on has been paid like one that succeeds: the slot was made INVALID
 * and is made valid again. Everything else that is refused costs nothing. (13 cannot fail on a
 * 64-bit host, and 21 is for graphics cards.)
 *
 * Read fake_kvm_set_region2 first.
 */
#include "fake-kvm-inner.h"
#include "fake-kvm-uapi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The kernel counts a slot's pages in a signed int's range (KVM_MEM_MAX_NR_PAGES). */
#define MAX_SLOT_PAGES ((UINT64_C(1) << 31) - 1)

/* ---- costs ---- */

/* A slot that goes or moves is first made INVALID, which is a swap of its own (kvm_set_memslot). */
static const struct {
	unsigned swaps;
	unsigned zaps;
} costs[FAKE_KVM_NOPS] = {
	[FAKE_KVM_CREATE] = {1, 0},
	[FAKE_KVM_DELETE] = {2, 1},
	[FAKE_KVM_MOVE] = {2, 1},
	[FAKE_KVM_FLAGS] = {1, 0},
};

static bool zaps_slot_only(const struct fake_kvm *kvm)
{
	return kvm->config.zap == FAKE_KVM_ZAP_SLOT ||
	       kvm->disabled_quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL;
}

static void zap(struct fake_kvm *kvm, struct fake_kvm_slot *slot)
{
	if (zaps_slot_only(kvm))
		fake_kvm_drop_mappings(slot);
	else
		fake_kvm_drop_all_mappings(kvm);
}

static void pay(struct fake_kvm *kvm, enum fake_kvm_op op, struct fake_kvm_slot *slot)
{
	kvm->swaps += costs[op].swaps;
	kvm->zaps += costs[op].zaps;
	if (costs[op].zaps)
		zap(kvm, slot);
}

/* ---- what is wrong whatever there is ---- */

/* check_memory_region_flags: a guest_memfd goes with nothing else. */
static uint64_t allowed_flags(const struct fake_kvm_config *config, uint64_t flags)
{
	if (fake_kvm_has_gmem(config) && flags & KVM_MEM_GUEST_MEMFD)
		return KVM_MEM_GUEST_MEMFD;
	return KVM_MEM_LOG_DIRTY_PAGES | (config->no_readonly_mem ? 0 : KVM_MEM_READONLY);
}

/* Check 8: nothing is looked at without the flag. */
static bool has_wrong_offset(const struct fake_kvm *kvm,
			     const struct kvm_userspace_memory_region2 *region)
{
	uint64_t offset = region->guest_memfd_offset;

	return region->flags & KVM_MEM_GUEST_MEMFD &&
	       (offset & (kvm->page_size - 1) || offset + region->memory_size < offset);
}

/* Checks 3 to 11. All give EINVAL, and all are made for a DELETE too. */
static bool is_valid(const struct fake_kvm *kvm, const struct kvm_userspace_memory_region2 *region)
{
	const struct fake_kvm_config *config = &kvm->config;
	uint64_t in_page = kvm->page_size - 1;
	const bool wrong[] = {
		(region->slot & 0xffff) >= config->nr_memslots,
		(region->flags & ~allowed_flags(config, region->flags)) != 0,
		(region->memory_size & in_page) != 0,
		(region->guest_phys_addr & in_page) != 0,
		(region->userspace_addr & in_page) != 0,
		region->userspace_addr > config->hva_limit,
		region->memory_size > config->hva_limit - region->userspace_addr,
		has_wrong_offset(kvm, region),
		region->slot >> 16 >= config->spaces,
		(region->guest_phys_addr + region->memory_size < region->guest_phys_addr),
		(region->memory_size / kvm->page_size > MAX_SLOT_PAGES),
	};

	return !memchr(wrong, 1, sizeof(wrong));
}

/* Check 22: below the end of guest physical memory. */
static bool is_too_high(const struct fake_kvm *kvm, uint64_t gpa, uint64_t size)
{
	return (gpa + (size - 1)) / kvm->page_size > kvm->config.max_gfn;
}

bool fake_kvm_is_within_limits(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot)
{
	const struct fake_kvm_config *config = &kvm->config;
	uint64_t in_page = kvm->page_size - 1;

	return slot->size != 0 && !((slot->gpa | slot->size | slot->hva) & in_page) &&
	       !(slot->flags & ~allowed_flags(config, slot->flags)) &&
	       slot->gpa + slot->size > slot->gpa && slot_pages(kvm, slot) <= MAX_SLOT_PAGES &&
	       !is_too_high(kvm, slot->gpa, slot->size) && slot->hva <= config->hva_limit &&
	       slot->size <= config->hva_limit - slot->hva;
}

/* ---- which operation it is ---- */

/* Checks 12, 14 and 15. */
static int recognise(const struct kvm_userspace_memory_region2 *region,
		     const struct fake_kvm_slot *slot, enum fake_kvm_op *op)
{
	if (region->memory_size == 0) {
		*op = FAKE_KVM_DELETE;
		return slot ? 0 : -EINVAL;
	}
	if (!slot) {
		*op = FAKE_KVM_CREATE;
		return 0;
	}
	if (region->flags & KVM_MEM_GUEST_MEMFD || region->userspace_addr != slot->hva ||
	    region->memory_size != slot->size ||
	    (region->flags ^ slot->flags) & (KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD))
		return -EINVAL;
	if (region->guest_phys_addr != slot->gpa)
		*op = FAKE_KVM_MOVE;
	else
		*op = region->flags == slot->flags ? FAKE_KVM_SAME : FAKE_KVM_FLAGS;
	return 0;
}

static bool settles(enum fake_kvm_op op)
{
	return op == FAKE_KVM_CREATE || op == FAKE_KVM_MOVE;
}

/* ---- what can fail late ---- */

static bool lacks_memory(struct fake_kvm *kvm, enum fake_kvm_alloc what)
{
	if (kvm->no_memory[what].at == 0 || --kvm->no_memory[what].at > 0)
		return false;
	kvm->no_memory[what].hits++;
	return true;
}

/* Checks 17 to 19. A file is bound to nothing as long as there is no slot. */
static int check_before_swap(struct fake_kvm *kvm, enum fake_kvm_op op,
			     const struct kvm_userspace_memory_region2 *region)
{
	struct fake_kvm_slot bound = {.size = region->memory_size};

	if (op != FAKE_KVM_DELETE && lacks_memory(kvm, FAKE_KVM_ALLOC_SLOT))
		return -ENOMEM;
	if (op == FAKE_KVM_CREATE && region->flags & KVM_MEM_GUEST_MEMFD)
		return fake_kvm_bind_gmem(kvm, (int)region->guest_memfd, region->guest_memfd_offset,
					  &bound);
	if (costs[op].zaps && lacks_memory(kvm, FAKE_KVM_ALLOC_INVALID))
		return -ENOMEM;
	return 0;
}

/* With rings there is none, but that of a slot which had it before (kvm_use_dirty_bitmap). */
static bool needs_bitmap(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot,
			 uint32_t flags)
{
	return flags & KVM_MEM_LOG_DIRTY_PAGES && !kvm->ring_size && !(slot && slot->bitmap);
}

/* Checks 20 to 23 (kvm_prepare_memory_region). */
static int check_after_swap(struct fake_kvm *kvm, enum fake_kvm_op op,
			    const struct fake_kvm_slot *slot,
			    const struct kvm_userspace_memory_region2 *region)
{
	if (op == FAKE_KVM_DELETE)
		return 0;
	if (needs_bitmap(kvm, slot, region->flags) && lacks_memory(kvm, FAKE_KVM_ALLOC_BITMAP))
		return -ENOMEM;
	if (!settles(op))
		return 0;
	if (is_too_high(kvm, region->guest_phys_addr, region->memory_size))
		return -EINVAL;
	return lacks_memory(kvm, FAKE_KVM_ALLOC_ARRAYS) ? -ENOMEM : 0;
}

/* ---- doing it ---- */

/* kvm_mmu_slot_apply_flags: writes are noticed from now on, but where all is dirty at first. */
static void watch_writes(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint32_t flags)
{
	bool begins = flags & ~slot->flags & KVM_MEM_LOG_DIRTY_PAGES;

	if (!begins || kvm->manual_protect & KVM_DIRTY_LOG_INITIALLY_SET)
		return;
	for (size_t i = 0; i < bitmap_words(slot_pages(kvm, slot)); i++)
		fake_kvm_arm(slot, i, UINT64_MAX);
}

/* A bitmap stays while LOG does; a new one is all clean or all dirty. */
static void set_flags(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint32_t flags)
{
	bool ones = kvm->manual_protect & KVM_DIRTY_LOG_INITIALLY_SET;

	if (needs_bitmap(kvm, slot, flags)) {
		slot->bitmap = fake_kvm_new_bitmap(slot_pages(kvm, slot), ones);
		kvm->bitmap_pages += slot_pages(kvm, slot);
	}
	if (!(flags & KVM_MEM_LOG_DIRTY_PAGES)) {
		free(slot->bitmap);
		slot->bitmap = NULL;
	}
	watch_writes(kvm, slot, flags);
	slot->flags = flags;
}

static struct fake_kvm_slot *new_slot(const struct fake_kvm *kvm,
				      const struct kvm_userspace_memory_region2 *region)
{
	struct fake_kvm_slot *slot = fake_kvm_allocate(1, sizeof(*slot));

	slot->as_id = region->slot >> 16;
	slot->id = region->slot & 0xffff;
	slot->size = region->memory_size;
	slot->hva = region->userspace_addr;
	if (region->flags & KVM_MEM_GUEST_MEMFD)
		fake_kvm_bind_gmem(kvm, (int)region->guest_memfd, region->guest_memfd_offset, slot);
	return slot;
}

static void apply(struct fake_kvm *kvm, enum fake_kvm_op op, struct fake_kvm_slot *slot,
		  const struct kvm_userspace_memory_region2 *region)
{
	if (op == FAKE_KVM_CREATE)
		slot = new_slot(kvm, region);
	else if (op != FAKE_KVM_FLAGS)
		fake_kvm_take_out(kvm, slot);
	if (op == FAKE_KVM_DELETE) {
		fake_kvm_free_slot(slot);
		return;
	}
	slot->gpa = region->guest_phys_addr;
	set_flags(kvm, slot, region->flags);
	if (settles(op)) {
		fake_kvm_put_in(kvm, slot);
		kvm->array_pages += slot_pages(kvm, slot);
	}
}

/* From 17 on. */
static int prepare_and_apply(struct fake_kvm *kvm, enum fake_kvm_op op, struct fake_kvm_slot *slot,
			     const struct kvm_userspace_memory_region2 *region)
{
	int r = check_before_swap(kvm, op, region);

	if (r < 0)
		return r;
	r = check_after_swap(kvm, op, slot, region);
	if (r == 0 || op == FAKE_KVM_MOVE)
		pay(kvm, op, slot);
	if (r == 0)
		apply(kvm, op, slot, region);
	return r;
}

int fake_kvm_set_region2(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_userspace_memory_region2 *region = arg;
	const struct fake_kvm_space *space;
	struct fake_kvm_slot *slot;
	int r;

	if (!is_valid(kvm, region)) /* 3 ... 11 */
		return -EINVAL;
	space = &kvm->spaces[call->as_id];
	slot = fake_kvm_find_id(space, call->id);
	r = recognise(region, slot, &call->op); /* 12, 14, 15 */
	if (r < 0 || call->op == FAKE_KVM_SAME)
		return r;
	if (settles(call->op) &&
	    fake_kvm_is_taken(space, region->guest_phys_addr, region->memory_size, slot)) /* 16 */
		return -EEXIST;
	return prepare_and_apply(kvm, call->op, slot, region);
}

int fake_kvm_set_region(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const uint32_t known = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;
	const struct kvm_userspace_memory_region *old = arg;
	struct kvm_userspace_memory_region2 region = {
		.slot = old->slot,
		.flags = old->flags,
		.guest_phys_addr = old->guest_phys_addr,
		.memory_size = old->memory_size,
		.userspace_addr = old->userspace_addr,
	};

	if (old->flags & ~known) /* 2 */
		return -EINVAL;
	return fake_kvm_set_region2(kvm, &region, call);
}

/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: dirty bitmaps, the ioctls that read and clear them, and the guest's
 * accesses that mark them. Slots, and when a bitmap comes and goes, are in fake-kvm.c.
 *
 * Dirtiness belongs to a slot and a page of it, never to host memory: another slot on the same
 * memory, in this space or another, is not marked (mark_page_dirty_in_slot). Guest mappings are
 * kept page by page, which is exact for logged slots; a real KVM may map more than was touched in
 * others.
 */
#include "fake-kvm-inner.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

/* ---- bits ---- */

static bool has_bit(const uint64_t *bitmap, uint64_t bit)
{
	return bitmap && (bitmap[bit / 64] >> bit % 64 & 1);
}

static void set_bit(uint64_t *bitmap, uint64_t bit)
{
	bitmap[bit / 64] |= UINT64_C(1) << bit % 64;
}

uint64_t *fake_kvm_new_bitmap(uint64_t nbits, bool ones)
{
	size_t words = bitmap_words(nbits);
	uint64_t *bitmap = fake_kvm_allocate(words, sizeof(*bitmap));

	if (ones) {
		memset(bitmap, 0xff, words * sizeof(*bitmap));
		bitmap[words - 1] = tail_mask(nbits);
	}
	return bitmap;
}

uint64_t *fake_kvm_copy_bitmap(const uint64_t *bitmap, uint64_t nbits)
{
	uint64_t *copy;

	if (!bitmap)
		return NULL;
	copy = fake_kvm_new_bitmap(nbits, false);
	memcpy(copy, bitmap, bitmap_words(nbits) * sizeof(*copy));
	return copy;
}

/* ---- the dirty log ---- */

static int find_logged(const struct fake_kvm *kvm, const struct fake_kvm_call *call,
		       struct fake_kvm_slot **ret)
{
	struct fake_kvm_slot *slot = fake_kvm_find_id(&kvm->spaces[call->as_id], call->id);

	if (!slot || !slot->bitmap)
		return -ENOENT;
	*ret = slot;
	return 0;
}

static bool has_place(const struct fake_kvm *kvm, const struct fake_kvm_call *call)
{
	return call->as_id < kvm->config.spaces && call->id < kvm->config.nr_memslots;
}

/* kvm_get_dirty_log_protect. In automatic mode bits are gone before they are copied out. */
int fake_kvm_get_dirty_log(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_dirty_log *log = arg;
	struct fake_kvm_slot *slot;
	bool faults;
	size_t size;
	int r;

	if (!has_place(kvm, call))
		return -EINVAL;
	r = find_logged(kvm, call, &slot);
	if (r < 0)
		return r;
	size = bitmap_words(slot_pages(kvm, slot)) * sizeof(*slot->bitmap);
	faults = kvm->fault_copy_out || !log->dirty_bitmap;
	kvm->fault_copy_out = false;
	if (!faults)
		memcpy(log->dirty_bitmap, slot->bitmap, size);
	if (!kvm->manual_protect)
		memset(slot->bitmap, 0, size);
	return faults ? -EFAULT : 0;
}

/* Whole words, or up to exactly the end of the slot. */
static bool is_clearable(const struct fake_kvm_call *call, uint64_t npages)
{
	uint64_t left;

	if (call->first_page > npages)
		return false;
	left = npages - call->first_page;
	return call->num_pages == left || (call->num_pages < left && call->num_pages % 64 == 0);
}

/* kvm_clear_dirty_log_protect. */
int fake_kvm_clear_dirty_log(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_clear_dirty_log *log = arg;
	const uint64_t *bits = log->dirty_bitmap;
	struct fake_kvm_slot *slot;
	int r;

	if (!has_place(kvm, call) || call->first_page % 64)
		return -EINVAL;
	r = find_logged(kvm, call, &slot);
	if (r < 0)
		return r;
	if (!is_clearable(call, slot_pages(kvm, slot)))
		return -EINVAL;
	if (call->num_pages && !bits)
		return -EFAULT;
	for (size_t i = 0; i < bitmap_words(call->num_pages); i++)
		slot->bitmap[call->first_page / 64 + i] &= ~bits[i];
	return 0;
}

/* ---- the guest ---- */

bool fake_kvm_is_dirty(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	const struct fake_kvm_slot *slot = fake_kvm_find(kvm, as_id, gpa);

	return slot && has_bit(slot->bitmap, (gpa - slot->gpa) / kvm->page_size);
}

static bool is_reachable(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, bool writes)
{
	const struct fake_kvm_slot *slot = fake_kvm_find(kvm, as_id, gpa);

	return slot && !(writes && slot->flags & KVM_MEM_READONLY);
}

/* A fault that maps a page the host may write maps it writable, and dirty (make_spte). */
static void touch(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint64_t page, bool writes)
{
	bool maps_dirty = !kvm->config.shadow_mmu && !(slot->flags & KVM_MEM_READONLY) &&
			  !has_bit(slot->mapped, page);

	if (slot->bitmap && (writes || maps_dirty))
		set_bit(slot->bitmap, page);
	if (!slot->mapped)
		slot->mapped = fake_kvm_new_bitmap(slot_pages(kvm, slot), false);
	set_bit(slot->mapped, page);
}

static int access_pages(struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, uint64_t size,
			bool writes)
{
	uint64_t first = gpa / kvm->page_size;
	uint64_t last = (gpa + (size ? size - 1 : 0)) / kvm->page_size;
	int r = 0;

	if (as_id >= kvm->config.spaces || last < first)
		return -EFAULT;
	pthread_mutex_lock(&kvm->lock);
	for (uint64_t gfn = first; gfn <= last && r == 0; gfn++)
		if (!is_reachable(kvm, as_id, gfn * kvm->page_size, writes))
			r = -EFAULT;
	for (uint64_t gfn = first; gfn <= last && r == 0; gfn++) {
		struct fake_kvm_slot *slot = fake_kvm_find(kvm, as_id, gfn * kvm->page_size);

		touch(kvm, slot, gfn - slot->gpa / kvm->page_size, writes);
	}
	pthread_mutex_unlock(&kvm->lock);
	return r;
}

int fake_kvm_write(struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, uint64_t size)
{
	return access_pages(kvm, as_id, gpa, size, true);
}

int fake_kvm_read(struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, uint64_t size)
{
	return access_pages(kvm, as_id, gpa, size, false);
}

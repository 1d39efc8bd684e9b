/* SPDX-License-Identifier: MIT */
/*
 * What the files of the double share, and nobody else needs: tests include fake-kvm.h. Read
 * fake-kvm.c first.
 */
#ifndef FAKE_KVM_INNER_H
#define FAKE_KVM_INNER_H

#include "fake-kvm.h"

static inline uint64_t slot_pages(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot)
{
	return slot->size / kvm->page_size;
}

static inline size_t bitmap_words(uint64_t nbits)
{
	return (nbits + 63) / 64;
}

/* The bits of the last word that are pages. */
static inline uint64_t tail_mask(uint64_t nbits)
{
	return nbits % 64 ? (UINT64_C(1) << nbits % 64) - 1 : UINT64_MAX;
}

/* fake-kvm.c. Zeroed; out of memory aborts. */
void *fake_kvm_allocate(size_t n, size_t size);
/* By its id, private ones included; NULL for none. */
struct fake_kvm_slot *fake_kvm_find_id(const struct fake_kvm_space *space, unsigned id);
/* Whether a slot other than this one is in [gpa, gpa + size). */
bool fake_kvm_is_taken(const struct fake_kvm_space *space, uint64_t gpa, uint64_t size,
		       const struct fake_kvm_slot *but);
/* The VM owns the slot from here on; and until there. */
void fake_kvm_put_in(struct fake_kvm *kvm, struct fake_kvm_slot *slot);
void fake_kvm_take_out(struct fake_kvm *kvm, struct fake_kvm_slot *slot);
void fake_kvm_free_slot(struct fake_kvm_slot *slot);

/* fake-kvm-region.c. The ioctls, under the VM's lock: 0 or a negative errno. */
int fake_kvm_set_region(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_set_region2(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
/* Whether KVM would create such a slot (I6). */
bool fake_kvm_is_within_limits(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot);

/* fake-kvm-dirty.c. Bitmaps for free(); the copy of NULL is NULL. */
uint64_t *fake_kvm_new_bitmap(uint64_t nbits, bool ones);
uint64_t *fake_kvm_copy_bitmap(const uint64_t *bitmap, uint64_t nbits);
/* The ioctls, under the VM's lock: 0 or a negative errno. */
int fake_kvm_get_dirty_log(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_clear_dirty_log(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);

/* fake-kvm-cap.c. The same; and what KVM says of a capability, 0 of one it does not know. */
int fake_kvm_enable_cap(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_check_extension(const struct fake_kvm *kvm, uintptr_t cap);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files of the double share, and nobody else needs: tests include fake-kvm.h. Read
 * fake-kvm.c first.
 */
#ifndef FAKE_KVM_INNER_H
#define FAKE_KVM_INNER_H

#include "fake-kvm.h"

/* What of a ring is for what comes while the vCPU is on its way out. */
enum { FAKE_KVM_RING_RESERVED = 64 };

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

/* fake-kvm-dirty.c. Bitmaps for free(); the copy of NULL is NULL, which has no bit. */
uint64_t *fake_kvm_new_bitmap(uint64_t nbits, bool ones);
uint64_t *fake_kvm_copy_bitmap(const uint64_t *bitmap, uint64_t nbits);
bool fake_kvm_has_bit(const uint64_t *bitmap, uint64_t bit);
void fake_kvm_drop_mappings(struct fake_kvm_slot *slot);
void fake_kvm_drop_all_mappings(struct fake_kvm *kvm);
/* From now on writes to pages of these 64 are noticed. */
void fake_kvm_arm(struct fake_kvm_slot *slot, uint64_t word, uint64_t bits);
/* A page of a slot has been written: by a vCPU, or by none (NULL). */
void fake_kvm_mark(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint64_t page,
		   struct fake_kvm_vcpu *vcpu);
/* The ioctls, under the VM's lock: 0 or a negative errno. */
int fake_kvm_get_dirty_log(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_clear_dirty_log(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);

/* By a vCPU: 0, 1 or -EFAULT, as fake_kvm_vcpu_write. Under the VM's lock. */
int fake_kvm_touch(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, uint64_t size,
		   bool writes);

/* A write on its way to a bus: 1 ... 8 bytes. */
struct fake_kvm_write {
	uint64_t addr;
	unsigned len;
	const void *bytes;
};

/* fake-kvm-bus.c. The ioctls, under the VM's lock: 0 or a negative errno. */
bool fake_kvm_has_zones(const struct fake_kvm_config *config);
int fake_kvm_ioeventfd(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_register_zone(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_unregister_zone(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
/* Whether an eventfd was signalled, or the ring has a new entry. Under the VM's lock. */
bool fake_kvm_bus_takes(struct fake_kvm *kvm, enum fake_kvm_bus_id id,
			const struct fake_kvm_write *write);
/* Whether two ioeventfds of a bus would take the same write; false for zones. */
bool fake_kvm_collides(const struct fake_kvm_device *a, const struct fake_kvm_device *b);
/* The ring of coalesced zones, made when it is first asked for; and its entries. */
struct kvm_coalesced_mmio_ring *fake_kvm_coalesced(struct fake_kvm *kvm);
uint32_t fake_kvm_coalesced_max(const struct fake_kvm *kvm);
/* The pages of a vCPU, FAKE_KVM_RUN_PAGES of them. */
void *fake_kvm_map_run(struct fake_kvm *kvm);
/* To a VM that has nothing on its buses yet. */
void fake_kvm_copy_buses(const struct fake_kvm *from, struct fake_kvm *to);
void fake_kvm_free_buses(struct fake_kvm *kvm);

/* fake-kvm-gmem.c. What a VM like this has. */
bool fake_kvm_has_gmem(const struct fake_kvm_config *config);
bool fake_kvm_has_attributes(const struct fake_kvm_config *config);
uint64_t fake_kvm_gmem_flags(const struct fake_kvm_config *config);
/* The ioctls, under the VM's lock: 0, a descriptor or a negative errno. */
int fake_kvm_create_gmem(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_set_attributes(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
/* Set a new slot's file: 0, -EBADF or -EINVAL. */
int fake_kvm_bind_gmem(const struct fake_kvm *kvm, int fd, uint64_t offset,
		       struct fake_kvm_slot *slot);
/* Of a slot with a file: whether that has all its pages; whether another slot has one of them. */
bool fake_kvm_is_in_gmem(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot);
bool fake_kvm_shares_gmem(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot);
/* The file in which a guest finds the page; NULL: the slot's memory. */
const struct fake_kvm_gmem *fake_kvm_gmem_at(const struct fake_kvm *kvm,
					     const struct fake_kvm_slot *slot, uint64_t gpa);
/* To a VM that has none yet. */
void fake_kvm_copy_gmems(const struct fake_kvm *from, struct fake_kvm *to);
void fake_kvm_free_gmems(struct fake_kvm *kvm);

/* fake-kvm-ring.c. Under the VM's lock, all of them. */
int fake_kvm_reset_rings(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_enable_ring(struct fake_kvm *kvm, uint64_t size);
/* An ioctl on a vCPU's fd; NULL for the fd of none. */
int fake_kvm_vcpu_ioctl(struct fake_kvm_vcpu *vcpu, unsigned long request);
struct fake_kvm_vcpu *fake_kvm_find_vcpu(const struct fake_kvm *kvm, int fd);
void fake_kvm_push(struct fake_kvm_vcpu *vcpu, uint32_t slot, uint64_t offset);
bool fake_kvm_has_room(const struct fake_kvm_vcpu *vcpu, uint64_t nentries);
void fake_kvm_flush(struct fake_kvm_vcpu *vcpu);
void fake_kvm_log_in_buffer(struct fake_kvm_vcpu *vcpu, uint64_t gpa);
void fake_kvm_free_vcpu(struct fake_kvm_vcpu *vcpu);

/* fake-kvm-cap.c. The same; and what KVM says of a capability, 0 of one it does not know. */
int fake_kvm_enable_cap(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
int fake_kvm_check_extension(const struct fake_kvm *kvm, uintptr_t cap);

#endif

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
#include <stdlib.h>
#include <string.h>

/* ---- bits ---- */

bool fake_kvm_has_bit(const uint64_t *bitmap, uint64_t bit)
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

/* ---- what is mapped, and what is noticed ---- */

void fake_kvm_drop_mappings(struct fake_kvm_slot *slot)
{
	free(slot->mapped);
	free(slot->writable);
	slot->mapped = NULL;
	slot->writable = NULL;
}

void fake_kvm_drop_all_mappings(struct fake_kvm *kvm)
{
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++)
		for (unsigned i = 0; i < kvm->spaces[as_id].nslots; i++)
			fake_kvm_drop_mappings(kvm->spaces[as_id].by_gpa[i]);
}

void fake_kvm_arm(struct fake_kvm_slot *slot, uint64_t word, uint64_t bits)
{
	if (slot->writable)
		slot->writable[word] &= ~bits;
}

/* mark_page_dirty_in_slot. */
void fake_kvm_mark(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint64_t page,
		   struct fake_kvm_vcpu *vcpu)
{
	if (!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return;
	if (!kvm->ring_size)
		set_bit(slot->bitmap, page);
	else if (vcpu)
		fake_kvm_push(vcpu, slot->as_id << 16 | slot->id, page);
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

/* Clear these bits, or all (NULL), and have the pages watched again that had one. */
static void clear_words(struct fake_kvm_slot *slot, uint64_t first_page, uint64_t num_pages,
			const uint64_t *bits)
{
	for (size_t i = 0; i < bitmap_words(num_pages); i++) {
		uint64_t *word = &slot->bitmap[first_page / 64 + i];
		uint64_t found = bits ? *word & bits[i] : *word;

		*word &= ~found;
		fake_kvm_arm(slot, first_page / 64 + i, found);
	}
}

/* kvm_get_dirty_log_protect. In automatic mode bits are gone before they are copied out. */
int fake_kvm_get_dirty_log(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_dirty_log *log = arg;
	struct fake_kvm_slot *slot;
	bool faults;
	size_t size;
	int r;

	if (kvm->ring_size)
		return -ENXIO;
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
		clear_words(slot, 0, slot_pages(kvm, slot), NULL);
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

	if (kvm->ring_size)
		return -ENXIO;
	if (!has_place(kvm, call) || call->first_page % 64)
		return -EINVAL;
	r = find_logged(kvm, call, &slot);
	if (r < 0)
		return r;
	if (!is_clearable(call, slot_pages(kvm, slot)))
		return -EINVAL;
	if (call->num_pages && !bits)
		return -EFAULT;
	if (call->num_pages)
		clear_words(slot, call->first_page, call->num_pages, bits);
	return 0;
}

/* ---- the guest ---- */

bool fake_kvm_is_dirty(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	const struct fake_kvm_slot *slot = fake_kvm_find(kvm, as_id, gpa);

	return slot && fake_kvm_has_bit(slot->bitmap, (gpa - slot->gpa) / kvm->page_size);
}

/* By a vCPU, or by none. Pages. */
struct guest_access {
	struct fake_kvm_vcpu *vcpu;
	unsigned as_id;
	uint64_t first;
	uint64_t last;
	bool writes;
};

static void map(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint64_t page, bool writable)
{
	if (!slot->mapped) {
		slot->mapped = fake_kvm_new_bitmap(slot_pages(kvm, slot), false);
		slot->writable = fake_kvm_new_bitmap(slot_pages(kvm, slot), false);
	}
	set_bit(slot->mapped, page);
	if (writable)
		set_bit(slot->writable, page);
}

/*
 * A fault that maps a page the host may write maps it writable, and dirty (make_spte). What is
 * writable is not noticed again.
 */
static void fault(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint64_t page,
		  const struct guest_access *access)
{
	bool maps_dirty = !kvm->config.shadow_mmu && !(slot->flags & KVM_MEM_READONLY) &&
			  !fake_kvm_has_bit(slot->mapped, page);
	bool notices = (access->writes || maps_dirty) && !fake_kvm_has_bit(slot->writable, page);

	map(kvm, slot, page, notices);
	if (!notices)
		return;
	if (access->vcpu && kvm->config.pml && access->writes) {
		fake_kvm_log_in_buffer(access->vcpu, slot->gpa + page * kvm->page_size);
		return;
	}
	if (access->vcpu)
		fake_kvm_flush(access->vcpu); /* a fault is an exit */
	fake_kvm_mark(kvm, slot, page, access->vcpu);
}

static void touch(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint64_t page,
		  const struct guest_access *access)
{
	if (!kvm->config.emulates)
		fault(kvm, slot, page, access);
	else if (access->writes)
		fake_kvm_mark(kvm, slot, page, access->vcpu);
}

static struct fake_kvm_slot *slot_of(const struct fake_kvm *kvm, const struct guest_access *access,
				     uint64_t gfn)
{
	return fake_kvm_find(kvm, access->as_id, gfn * kvm->page_size);
}

static bool can_reach(const struct fake_kvm *kvm, const struct guest_access *access)
{
	for (uint64_t gfn = access->first; gfn <= access->last; gfn++) {
		const struct fake_kvm_slot *slot = slot_of(kvm, access, gfn);

		if (!slot || (access->writes && slot->flags & KVM_MEM_READONLY))
			return false;
	}
	return true;
}

/* KVM_RUN would exit with a full ring. An exit empties the buffer, a change of space is one. */
static bool cannot_run(const struct guest_access *access)
{
	struct fake_kvm_vcpu *vcpu = access->vcpu;

	if (!vcpu)
		return false;
	if (vcpu->as_id != access->as_id)
		fake_kvm_flush(vcpu);
	if (!fake_kvm_has_room(vcpu, access->last - access->first + 1))
		return true;
	vcpu->as_id = access->as_id;
	return false;
}

static int touch_all(struct fake_kvm *kvm, const struct guest_access *access)
{
	if (cannot_run(access))
		return 1;
	if (!can_reach(kvm, access))
		return -EFAULT;
	if (kvm->ring_size && !access->vcpu)
		return 0;
	for (uint64_t gfn = access->first; gfn <= access->last; gfn++) {
		struct fake_kvm_slot *slot = slot_of(kvm, access, gfn);

		touch(kvm, slot, gfn - slot->gpa / kvm->page_size, access);
	}
	return 0;
}

static int mark_all(struct fake_kvm *kvm, const struct guest_access *access)
{
	if (!fake_kvm_has_room(access->vcpu, access->last - access->first + 1))
		return 1;
	if (!can_reach(kvm, access))
		return -EFAULT;
	for (uint64_t gfn = access->first; gfn <= access->last; gfn++) {
		struct fake_kvm_slot *slot = slot_of(kvm, access, gfn);

		fake_kvm_mark(kvm, slot, gfn - slot->gpa / kvm->page_size, access->vcpu);
	}
	return 0;
}

static int touch_range(struct fake_kvm *kvm, struct guest_access access, uint64_t gpa,
		       uint64_t size)
{
	access.first = gpa / kvm->page_size;
	access.last = (gpa + (size ? size - 1 : 0)) / kvm->page_size;
	if (access.as_id >= kvm->config.spaces || access.last < access.first)
		return -EFAULT;
	return touch_all(kvm, &access);
}

static int access_pages(struct fake_kvm *kvm, struct guest_access access, uint64_t gpa,
			uint64_t size)
{
	int r;

	pthread_mutex_lock(&kvm->lock);
	r = touch_range(kvm, access, gpa, size);
	pthread_mutex_unlock(&kvm->lock);
	return r;
}

int fake_kvm_touch(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, uint64_t size,
		   bool writes)
{
	struct guest_access access = {.vcpu = vcpu, .as_id = as_id, .writes = writes};

	return touch_range(vcpu->kvm, access, gpa, size);
}

int fake_kvm_write(struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, uint64_t size)
{
	return access_pages(kvm, (struct guest_access){.as_id = as_id, .writes = true}, gpa, size);
}

int fake_kvm_read(struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, uint64_t size)
{
	return access_pages(kvm, (struct guest_access){.as_id = as_id}, gpa, size);
}

int fake_kvm_vcpu_write(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, uint64_t size)
{
	struct guest_access access = {.vcpu = vcpu, .as_id = as_id, .writes = true};

	return access_pages(vcpu->kvm, access, gpa, size);
}

int fake_kvm_vcpu_read(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, uint64_t size)
{
	return access_pages(vcpu->kvm, (struct guest_access){.vcpu = vcpu, .as_id = as_id}, gpa,
			    size);
}

/* ---- KVM itself ---- */

/* Through the host's mapping, not the guest's: never unnoticed, and nothing becomes mapped. */
static int write_for(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, uint64_t size)
{
	struct fake_kvm *kvm = vcpu->kvm;
	const struct guest_access access = {
		.vcpu = vcpu,
		.as_id = as_id,
		.first = gpa / kvm->page_size,
		.last = (gpa + size - 1) / kvm->page_size,
		.writes = true,
	};

	fake_kvm_flush(vcpu);
	return mark_all(kvm, &access);
}

int fake_kvm_clock(struct fake_kvm_vcpu *vcpu, uint64_t gpa)
{
	int r;

	pthread_mutex_lock(&vcpu->kvm->lock);
	r = write_for(vcpu, 0, gpa, 32);
	pthread_mutex_unlock(&vcpu->kvm->lock);
	return r;
}

int fake_kvm_smm_save(struct fake_kvm_vcpu *vcpu)
{
	struct fake_kvm *kvm = vcpu->kvm;
	int r;

	if (kvm->config.spaces < 2)
		return -EFAULT;
	pthread_mutex_lock(&kvm->lock);
	r = write_for(vcpu, 1, vcpu->smbase + 0xfe00, 0x200);
	if (r == 0)
		vcpu->as_id = 1;
	if (r == -EFAULT && kvm->config.version >= FAKE_KVM_6_12)
		kvm->dead = true;
	pthread_mutex_unlock(&kvm->lock);
	return r;
}

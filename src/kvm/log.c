/* SPDX-License-Identifier: MIT */
/*
 * KVM's dirty logs: read slot by slot, and fed into the bitmaps of the RAM block behind the slot. A
 * page seen by slots of several spaces is dirty if any of them says so: they all feed its one bit.
 *
 * KVM_GET_DIRTY_LOG fetches and clears in one step, before it copies out: a copy that faults loses
 * what it cleared (virt/kvm/kvm_main.c, kvm_get_dirty_log_protect). So the buffer is the library's
 * own, large enough for every logged slot before that slot exists, and touched.
 */
#include <errno.h>
#include <string.h>

#include "vm.h"

/* KVM writes whole 64-bit words: ALIGN(npages, 64) / 8 bytes. */
static size_t log_bytes(const struct kvmas_slot *slot)
{
	uint64_t npages = slot->size >> slot->ram->page_shift;

	return (size_t)((npages + 63) / 64 * sizeof(uint64_t));
}

int kas_kvm_log_reserve(struct kvmas_kvm *kvm, const struct kvmas_slot *slot)
{
	size_t size = log_bytes(slot);
	uint64_t *grown;

	if (size <= kvm->log_size)
		return 0;
	grown = kas_resize(kvm->object.kvmas, kvm->log, size);
	if (!grown)
		return -ENOMEM;
	memset(grown, 0, size);
	kvm->log = grown;
	kvm->log_size = size;
	return 0;
}

void kas_kvm_log_mark_all(const struct kvmas_slot *slot)
{
	const struct kvmas_ram *ram = slot->ram;

	kas_dirty_mark(ram->dirty, slot->ram_offset >> ram->page_shift,
		       slot->size >> ram->page_shift);
}

int kas_kvm_log_read(struct kvmas_kvm *kvm, const struct kvmas_slot *slot)
{
	const struct kvmas_ram *ram = slot->ram;
	int result = kas_kvm_get_dirty_log(kvm, slot, kvm->log);

	kas_kvm_count(kvm, log_reads, 1);
	if (result < 0)
		kas_kvm_log_mark_all(slot);
	else
		kas_dirty_mark_log(ram->dirty, slot->ram_offset >> ram->page_shift,
				   slot->size >> ram->page_shift, kvm->log);
	return result < 0 ? result : 0;
}

int kas_kvm_log_sync(void *data, uint64_t first, uint64_t last)
{
	struct kvm_space *space = data;
	int err = 0;

	/* The tie has no holder any more, so its fd may be closed, or another file's. */
	if (kas_object_is_dead(&space->kvm->object))
		return 0;
	for (size_t i = 0; i < space->slots.count; i++) {
		const struct kvmas_slot *slot = kas_slots_at(&space->slots, i);
		int result;

		if (!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES) || slot->gpa > last ||
		    slot->gpa + (slot->size - 1) < first)
			continue;
		result = kas_kvm_log_read(space->kvm, slot);
		if (!err)
			err = result;
	}
	return err;
}

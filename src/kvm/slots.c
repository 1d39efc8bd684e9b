/* SPDX-License-Identifier: MIT */
/*
 * The slots of one KVM address space: what the kernel has, as far as this library made it, changed
 * only after the kernel has agreed. So the table is the truth even when a commit fails half way and
 * its undoing is refused: the next plan starts from here.
 *
 *     order   [ 2 | 0 | 3 ]                   ids by gpa: two bytes each, so that a slot that comes
 *     by_id   [ slot 0 |  -  | slot 2 | slot 3 ]       or goes moves little, among 10000 others
 *
 * Slot ids are per space; the lowest free id is used first, which keeps them dense: KVM finds a
 * slot by id through a hash of 128 chains (virt/kvm/kvm_main.c, id_to_memslot).
 *
 * Invariants (kas_slots_validate):
 *   I1  sorted by gpa, disjoint, no slot empty.
 *   I2  an id is used if and only if a slot has it; used ids are below the limit.
 *   I3  no slot has a reserved id; there are nreserved of them.
 *   I4  the slot at an id has this id.
 *   I5  merging could save `seams` slots at most: that many slots touch the one before them and
 *       show what comes behind it.
 */
#include "slots.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

int kas_slots_init(struct kvmas *kvmas, struct slots *slots, unsigned limit)
{
	size_t size = kas_id_words(limit) * sizeof(uint64_t);

	*slots = (struct slots){.limit = limit};
	slots->used = kas_alloc(kvmas, size);
	slots->reserved = kas_alloc(kvmas, size);
	if (slots->used && slots->reserved)
		return 0;
	kas_slots_fini(kvmas, slots);
	return -ENOMEM;
}

void kas_slots_fini(struct kvmas *kvmas, struct slots *slots)
{
	for (size_t i = 0; i < slots->count; i++)
		kvmas_ram_unref(kas_slots_at(slots, i)->ram);
	kas_free(kvmas, slots->order);
	kas_free(kvmas, slots->by_id);
	kas_free(kvmas, slots->used);
	kas_free(kvmas, slots->reserved);
	*slots = (struct slots){0};
}

int kas_slots_reserve_room(struct kvmas *kvmas, struct slots *slots, unsigned room)
{
	struct slot_entry *by_id;
	uint16_t *order;

	if (room <= slots->room)
		return 0;
	/* Half as much again, so that growing one by one costs little. */
	room = room + room / 2 < slots->limit ? room + room / 2 : slots->limit;
	order = kas_resize(kvmas, slots->order, room * sizeof(*order));
	if (!order)
		return -ENOMEM;
	slots->order = order;
	by_id = kas_resize(kvmas, slots->by_id, room * sizeof(*by_id));
	if (!by_id)
		return -ENOMEM;
	slots->by_id = by_id;
	slots->room = room;
	return 0;
}

size_t kas_slots_seek(const struct slots *slots, uint64_t gpa)
{
	size_t low = 0, high = slots->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct kvmas_slot *slot = kas_slots_at(slots, middle);

		if (slot->gpa + (slot->size - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool kas_slots_alike(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	return a->ram == b->ram && a->ram_offset - a->gpa == b->ram_offset - b->gpa &&
	       !((a->flags ^ b->flags) & KVM_MEM_READONLY);
}

/* Whether there is a seam between the index-th slot and the one before. */
static bool is_seam(const struct slots *slots, size_t index)
{
	const struct kvmas_slot *left, *right;

	if (index == 0 || index == slots->count)
		return false;
	left = kas_slots_at(slots, index - 1);
	right = kas_slots_at(slots, index);
	return left->gpa + left->size == right->gpa && kas_slots_alike(left, right);
}

void kas_slots_insert(struct slots *slots, const struct kvmas_slot *slot, uint64_t born)
{
	size_t at = kas_slots_seek(slots, slot->gpa);
	uint16_t *order = &slots->order[at];

	memmove(order + 1, order, (slots->count - at) * sizeof(*order));
	*order = (uint16_t)slot->id;
	slots->by_id[slot->id] = (struct slot_entry){*slot, born, NULL};
	slots->count++;
	slots->nlogged += !!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES);
	slots->seams += is_seam(slots, at) + is_seam(slots, at + 1);
	kas_id_set(slots->used, slot->id, true);
	kvmas_ram_ref(slot->ram);
}

void kas_slots_remove(struct slots *slots, unsigned id)
{
	const struct kvmas_slot *slot = &slots->by_id[id].slot;
	struct kvmas_ram *ram = slot->ram;
	size_t at = kas_slots_seek(slots, slot->gpa);
	uint16_t *order = &slots->order[at];

	slots->seams -= is_seam(slots, at) + is_seam(slots, at + 1);
	slots->count--;
	slots->nlogged -= !!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES);
	memmove(order, order + 1, (slots->count - at) * sizeof(*order));
	kas_id_set(slots->used, id, false);
	kvmas_ram_unref(ram);
}

void kas_slots_replace(struct slots *slots, const struct kvmas_slot *slot, uint64_t born)
{
	kvmas_ram_ref(slot->ram);
	kas_slots_remove(slots, slot->id);
	kas_slots_insert(slots, slot, born);
	kvmas_ram_unref(slot->ram);
}

void kas_slots_reserve_id(struct slots *slots, unsigned id)
{
	kas_id_set(slots->reserved, id, true);
	slots->nreserved++;
}

unsigned kas_slots_free_ids(const struct slots *slots)
{
	return slots->limit - slots->nreserved - (unsigned)slots->count;
}

int kas_slots_validate(const struct slots *slots)
{
	unsigned used = 0, reserved = 0;
	size_t seams = 0, logged = 0;
	uint64_t end = 0;

	for (size_t i = 0; i < slots->count; i++) {
		const struct kvmas_slot *slot = kas_slots_at(slots, i);

		if (slot->size == 0 || slot->id >= slots->limit || slot->id != slots->order[i])
			return -EINVAL;
		if (slot->gpa < end)
			return -EINVAL;
		end = slot->gpa + slot->size;
		seams += is_seam(slots, i);
		logged += !!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES);
		if (!kas_id_test(slots->used, slot->id) || kas_id_test(slots->reserved, slot->id))
			return -EINVAL;
	}
	for (unsigned id = 0; id < slots->limit; id++) {
		used += kas_id_test(slots->used, id);
		reserved += kas_id_test(slots->reserved, id);
	}
	if (used != slots->count || reserved != slots->nreserved || seams != slots->seams ||
	    logged != slots->nlogged)
		return -EINVAL;
	return 0;
}

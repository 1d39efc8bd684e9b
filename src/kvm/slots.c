/* SPDX-License-Identifier: MIT */
/*
 * The slots of one KVM address space: what the kernel has, as far as this library made it, changed
 * only after the kernel has agreed. So the table is the truth even when a commit fails half way and
 * its undoing is refused: the next plan starts from here.
 *
 * Slot ids are per space; the lowest free id is used first, which keeps them dense: KVM finds a
 * slot by id through a hash of 128 chains (virt/kvm/kvm_main.c, id_to_memslot).
 *
 * Invariants (kas_slots_validate):
 *   I1  sorted by gpa, disjoint, no slot empty.
 *   I2  an id is used if and only if a slot has it; used ids are below the limit.
 *   I3  no slot has a reserved id.
 */
#include "slots.h"

#include <errno.h>
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
		kvmas_ram_unref(slots->at[i].ram);
	kas_free(kvmas, slots->at);
	kas_free(kvmas, slots->used);
	kas_free(kvmas, slots->reserved);
	*slots = (struct slots){0};
}

int kas_slots_reserve_room(struct kvmas *kvmas, struct slots *slots, size_t count)
{
	struct kvmas_slot *grown;

	if (count <= slots->capacity)
		return 0;
	grown = kas_resize(kvmas, slots->at, count * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	slots->at = grown;
	slots->capacity = count;
	return 0;
}

void kas_slots_insert(struct slots *slots, const struct kvmas_slot *slot)
{
	size_t at = slots->count;

	while (at > 0 && slots->at[at - 1].gpa > slot->gpa) {
		slots->at[at] = slots->at[at - 1];
		at--;
	}
	slots->at[at] = *slot;
	slots->count++;
	kas_id_set(slots->used, slot->id, true);
	kvmas_ram_ref(slot->ram);
}

void kas_slots_remove(struct slots *slots, unsigned id)
{
	size_t at = 0;
	struct kvmas_ram *ram;

	while (slots->at[at].id != id)
		at++;
	ram = slots->at[at].ram;
	slots->count--;
	memmove(&slots->at[at], &slots->at[at + 1], (slots->count - at) * sizeof(slots->at[0]));
	kas_id_set(slots->used, id, false);
	kvmas_ram_unref(ram);
}

void kas_slots_replace(struct slots *slots, const struct kvmas_slot *slot)
{
	kvmas_ram_ref(slot->ram);
	kas_slots_remove(slots, slot->id);
	kas_slots_insert(slots, slot);
	kvmas_ram_unref(slot->ram);
}

unsigned kas_slots_free_ids(const struct slots *slots)
{
	unsigned taken = 0;

	for (size_t i = 0; i < kas_id_words(slots->limit); i++)
		taken += (unsigned)__builtin_popcountll(slots->used[i] | slots->reserved[i]);
	return slots->limit - taken;
}

int kas_slots_validate(const struct slots *slots)
{
	unsigned used = 0;

	for (size_t i = 0; i < slots->count; i++) {
		const struct kvmas_slot *slot = &slots->at[i];

		if (slot->size == 0 || slot->id >= slots->limit)
			return -EINVAL;
		if (i && slots->at[i - 1].gpa + slots->at[i - 1].size > slot->gpa)
			return -EINVAL;
		if (!kas_id_test(slots->used, slot->id) || kas_id_test(slots->reserved, slot->id))
			return -EINVAL;
	}
	for (unsigned id = 0; id < slots->limit; id++)
		used += kas_id_test(slots->used, id);
	return used == slots->count ? 0 : -EINVAL;
}

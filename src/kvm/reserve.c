/* SPDX-License-Identifier: MIT */
/*
 * Reservations: slot ids and gpa ranges that are not the library's to use, because the VMM or the
 * kernel has slots of its own there. A range is part of a transaction, since slots may have to make
 * way; ids are not, since none in use can be reserved.
 */
#include "reserve.h"

#include <errno.h>

struct reserve_undo {
	struct undo undo;
	struct kvmas_kvm *kvm; /* held */
};

static void free_reserve_undo(struct undo *undo)
{
	struct reserve_undo *reserve = kas_container_of(undo, struct reserve_undo, undo);
	struct kvmas_kvm *kvm = reserve->kvm;

	kas_free(kvm->object.kvmas, reserve);
	kvmas_kvm_unref(kvm);
}

/* Slots of every space may have to make way, or may come back. */
static void set_changed(struct kvmas_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nspaces; i++)
		kvm->spaces[i].changed = true;
}

/* Undos run newest first: the range that this one added is the list's first. */
static void restore_reserved(struct undo *undo)
{
	struct kvmas_kvm *kvm = kas_container_of(undo, struct reserve_undo, undo)->kvm;
	struct reserved *reserved = kvm->reserved;

	kvm->reserved = reserved->next;
	kas_free(kvm->object.kvmas, reserved);
	set_changed(kvm);
	free_reserve_undo(undo);
}

static bool is_reserved(const struct kvmas_kvm *kvm, struct range range)
{
	for (const struct reserved *r = kvm->reserved; r; r = r->next) {
		if (r->range.first <= range.last && range.first <= r->range.last)
			return true;
	}
	return false;
}

static int reserve_range(struct kvmas_kvm *kvm, struct range range)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	struct reserve_undo *undo;
	struct reserved *reserved;

	if (is_reserved(kvm, range))
		return -EEXIST;
	undo = kas_alloc(kvmas, sizeof(*undo));
	reserved = kas_alloc(kvmas, sizeof(*reserved));
	if (!undo || !reserved) {
		kas_free(kvmas, undo);
		kas_free(kvmas, reserved);
		return -ENOMEM;
	}
	*reserved = (struct reserved){range, kvm->reserved};
	kvm->reserved = reserved;
	set_changed(kvm);
	undo->undo.restore = restore_reserved;
	undo->undo.release = free_reserve_undo;
	undo->kvm = kvmas_kvm_ref(kvm);
	kas_txn_record(kvmas, &undo->undo);
	return 0;
}

int kvmas_kvm_reserve_range(struct kvmas_kvm *kvm, uint64_t gpa, uint64_t size)
{
	uint64_t mask = kas_page_size() - 1;
	struct range range;
	int err = kas_range_from(gpa, size, &range);

	if (err || range.first & mask || ~range.last & mask)
		return -EINVAL;
	err = kvmas_begin(kvm->object.kvmas);
	if (err)
		return err;
	return kas_txn_end(kvm->object.kvmas, reserve_range(kvm, range));
}

int kvmas_kvm_reserve_ids(struct kvmas_kvm *kvm, unsigned as_id, unsigned first, unsigned count)
{
	struct slots *slots;
	int err;

	if (as_id >= kvm->nspaces)
		return -EOPNOTSUPP;
	slots = &kvm->spaces[as_id].slots;
	if (first > slots->limit || count > slots->limit - first)
		return -EINVAL;
	err = kas_lock(kvm->object.kvmas);
	if (err)
		return err;
	for (unsigned id = first; !err && id < first + count; id++) {
		if (kas_id_test(slots->used, id))
			err = -EBUSY;
		else if (kas_id_test(slots->reserved, id))
			err = -EEXIST;
	}
	for (unsigned id = first; !err && id < first + count; id++)
		kas_slots_reserve_id(slots, id);
	kas_unlock(kvm->object.kvmas);
	return err;
}

void kas_kvm_free_reserved(struct kvmas_kvm *kvm)
{
	while (kvm->reserved) {
		struct reserved *next = kvm->reserved->next;

		kas_free(kvm->object.kvmas, kvm->reserved);
		kvm->reserved = next;
	}
}

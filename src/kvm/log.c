/* SPDX-License-Identifier: MIT */
/*
 * KVM's dirty logs: read slot by slot, or ring by ring, and fed into the bitmaps of the RAM block
 * behind the slot. A page seen by slots of several spaces is dirty if any of them says so: they all
 * feed its one bit.
 *
 *              reading a slot's log                    before taken pages are read
 *     AUTO     GET: fetches, clears, arms              nothing
 *     MANUAL   GET: copies; noted as yet to be armed   CLEAR what is noted of those pages
 *     RING     all rings, all slots, then RESET        that RESET must have succeeded
 *
 * To arm a page is to have KVM see the next write to it. What is to be done before pages are read
 * is done by a source (sources.h), one for each logged slot.
 *
 * KVM_GET_DIRTY_LOG without manual protection fetches and clears in one step, before it copies out:
 * a copy that faults loses what it cleared (virt/kvm/kvm_main.c, kvm_get_dirty_log_protect). So the
 * buffer is the library's own, large enough for every logged slot before that slot exists, and
 * touched.
 *
 * KVM_CLEAR_DIRTY_LOG takes whole words of a slot's log, from a multiple of 64 pages on, up to
 * exactly the slot's end if that lies inside a word; bits that are not set do nothing (same file,
 * kvm_clear_dirty_log_protect). Only what a GET has told, and the clients' bitmaps have, is ever
 * cleared.
 *
 * Invariant, under the lock of the block's sources:
 *   I1  a bit of `pending` that is set is set in KVM's log too, and its page was marked for all
 *       clients since it was last armed.
 *
 * Read kas_kvm_log_read and clear_noted first.
 */
#include "log.h"

#include <errno.h>
#include <string.h>

#include "vm.h"

#define BITS 64

static size_t log_words(const struct kvmas_slot *slot)
{
	uint64_t npages = slot->size >> slot->ram->page_shift;

	return (size_t)((npages + BITS - 1) / BITS);
}

static bool is_manual(const struct kvmas_kvm *kvm)
{
	return kvm->config.log == KVMAS_KVM_LOG_MANUAL ||
	       kvm->config.log == KVMAS_KVM_LOG_MANUAL_SET;
}

static int enable_manual(struct kvmas_kvm *kvm)
{
	int options = kas_kvm_check_extension(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	int wanted = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (options < 0)
		return options;
	if (kvm->config.log == KVMAS_KVM_LOG_MANUAL_SET)
		wanted |= KVM_DIRTY_LOG_INITIALLY_SET;
	if ((options & wanted) != wanted)
		return -EOPNOTSUPP;
	return kas_kvm_enable_cap(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, (uint64_t)wanted);
}

int kas_kvm_log_init(struct kvmas_kvm *kvm)
{
	if (kvm->config.log == KVMAS_KVM_LOG_RING)
		return kas_rings_enable(kvm);
	return is_manual(kvm) ? enable_manual(kvm) : 0;
}

void kas_kvm_log_fini(struct kvmas_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		const struct slots *slots = &kvm->spaces[i].slots;

		for (size_t k = 0; k < slots->count; k++)
			kas_slot_log_free(kas_slots_entry(slots, k)->log);
	}
	kas_free(kvm->object.kvmas, kvm->log);
}

int kas_kvm_log_reserve(struct kvmas_kvm *kvm, const struct kvmas_slot *slot)
{
	/* KVM writes whole words. */
	size_t size = log_words(slot) * sizeof(uint64_t);
	uint64_t *grown;

	if (size <= kvm->log_size || kvm->rings.entries)
		return 0;
	grown = kas_resize(kvm->object.kvmas, kvm->log, size);
	if (!grown)
		return -ENOMEM;
	memset(grown, 0, size);
	kvm->log = grown;
	kvm->log_size = size;
	return 0;
}

/* ---- what is to be armed ---- */

/* KVM is asked once for all that lies between the first and the last page noted. */
static int clear_noted(struct source *source, uint64_t first, uint64_t npages)
{
	struct slot_log *log = kas_container_of(source, struct slot_log, source);
	uint64_t begin = (first - source->first) / BITS;
	uint64_t end = (first - source->first + npages + BITS - 1) / BITS;
	bool whole = first == source->first && npages == source->npages;
	uint64_t page, count;
	int err;

	if (!log->any || kas_object_is_dead(&log->kvm->object))
		return 0;
	while (begin < end && !log->pending[begin])
		begin++;
	while (begin < end && !log->pending[end - 1])
		end--;
	if (begin == end)
		return 0;
	page = begin * BITS;
	count = end * BITS < source->npages ? end * BITS - page : source->npages - page;
	err = kas_kvm_clear_dirty_log(log, page, count);
	kas_kvm_count(log->kvm, log_clears, 1);
	if (err)
		return err;
	if (whole)
		log->any = false;
	else
		memset(&log->pending[begin], 0, (end - begin) * sizeof(log->pending[0]));
	return 0;
}

/* They are all armed together. */
static int settle_rings(struct source *source, uint64_t first, uint64_t npages)
{
	struct slot_log *log = kas_container_of(source, struct slot_log, source);

	(void)first;
	(void)npages;
	return kas_object_is_dead(&log->kvm->object) ? 0 : kas_rings_settle(log->kvm);
}

int kas_slot_log_new(struct kvmas_kvm *kvm, const struct kvmas_slot *slot, struct slot_log **ret)
{
	size_t words = is_manual(kvm) ? log_words(slot) : 0;
	struct slot_log *log;
	int err;

	*ret = NULL;
	if (kvm->config.log == KVMAS_KVM_LOG_AUTO)
		return 0;
	log = kas_alloc(kvm->object.kvmas, sizeof(*log) + words * sizeof(log->pending[0]));
	if (!log)
		return -ENOMEM;
	log->source.first = slot->ram_offset >> slot->ram->page_shift;
	log->source.npages = slot->size >> slot->ram->page_shift;
	log->source.clear = is_manual(kvm) ? clear_noted : settle_rings;
	log->kvm = kvm;
	log->sources = &slot->ram->sources;
	log->dirty = slot->ram->dirty;
	log->as_id = slot->as_id;
	log->id = slot->id;
	err = kas_source_add(log->sources, &log->source);
	if (err) {
		kas_free(kvm->object.kvmas, log);
		return err;
	}
	*ret = log;
	return 0;
}

void kas_slot_log_free(struct slot_log *log)
{
	if (!log)
		return;
	kas_source_del(log->sources, &log->source);
	kas_free(log->kvm->object.kvmas, log);
}

void kas_slot_log_attach(struct slot_log *log)
{
	if (!log)
		return;
	log->any = false;
	kas_source_attach(log->sources, &log->source);
	/* Pages that rings told of may have been taken while nobody had them armed. */
	if (kas_rings_owe(log->kvm))
		kas_dirty_mark(log->dirty, log->source.first, log->source.npages);
}

void kas_slot_log_detach(struct slot_log *log)
{
	if (log)
		kas_source_detach(log->sources, &log->source);
}

/* ---- reading ---- */

void kas_kvm_log_mark_all(const struct kvmas_slot *slot)
{
	const struct kvmas_ram *ram = slot->ram;

	kas_dirty_mark(ram->dirty, slot->ram_offset >> ram->page_shift,
		       slot->size >> ram->page_shift);
}

static void note(struct slot_log *log, const uint64_t *told)
{
	uint64_t words = (log->source.npages + BITS - 1) / BITS;

	if (!log->any)
		memcpy(log->pending, told, words * sizeof(told[0]));
	for (uint64_t i = 0; log->any && i < words; i++)
		log->pending[i] |= told[i];
	log->any = true;
}

/* Read the log of one slot, and mark what it tells. */
static int read_slot(struct kvmas_kvm *kvm, const struct slot_entry *entry)
{
	const struct kvmas_slot *slot = &entry->slot;
	const struct kvmas_ram *ram = slot->ram;
	/* Nobody has reserved for a slot that KVM goes on to log (kas_apply_renew). */
	bool fits = log_words(slot) * sizeof(uint64_t) <= kvm->log_size;
	int err = fits ? kas_kvm_get_dirty_log(kvm, slot, kvm->log) : -ENOMEM;
	bool some;

	kas_kvm_count(kvm, log_reads, 1);
	if (err) {
		kas_kvm_log_mark_all(slot);
		return err;
	}
	some = kas_dirty_mark_log(ram->dirty, slot->ram_offset >> ram->page_shift,
				  slot->size >> ram->page_shift, kvm->log);
	if (some && entry->log)
		note(entry->log, kvm->log);
	return 0;
}

int kas_kvm_log_read(struct kvmas_kvm *kvm, const struct slot_entry *entry)
{
	int err;

	if (kvm->rings.entries)
		return kas_rings_harvest(kvm);
	if (!entry->log)
		return read_slot(kvm, entry);
	pthread_mutex_lock(&entry->log->sources->lock);
	err = read_slot(kvm, entry);
	pthread_mutex_unlock(&entry->log->sources->lock);
	return err;
}

int kas_kvm_log_sync(void *data, uint64_t first, uint64_t last)
{
	struct kvm_space *space = data;
	const struct slots *slots = &space->slots;
	int err = 0;

	/* The tie has no holder any more, so its fd may be closed, or another file's. */
	if (kas_object_is_dead(&space->kvm->object))
		return 0;
	if (space->kvm->rings.entries)
		return kas_rings_harvest(space->kvm);
	for (size_t i = slots->nlogged ? kas_slots_seek(slots, first) : slots->count;
	     i < slots->count; i++) {
		const struct slot_entry *entry = kas_slots_entry(slots, i);
		int result;

		if (entry->slot.gpa > last)
			break;
		if (!(entry->slot.flags & KVM_MEM_LOG_DIRTY_PAGES))
			continue;
		result = kas_kvm_log_read(space->kvm, entry);
		if (!err)
			err = result;
	}
	return err;
}

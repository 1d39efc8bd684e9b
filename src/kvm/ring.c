/* SPDX-License-Identifier: MIT */
/*
 * Dirty rings: KVM writes each page that it sees written to the ring of the vCPU that wrote it, as
 * a slot and a page of it, and watches the page no more; until its entry has been read, marked as
 * read, and KVM_RESET_DIRTY_RINGS has it watched again (Documentation/virt/kvm/api.rst;
 * virt/kvm/dirty_ring.c).
 *
 *     harvest   lock, read each ring and mark the pages in their blocks' bitmaps, reset, unlock
 *     take      fetch and clear a client's bits; wait for the lock; read the pages
 *
 * So whoever takes a page that a harvest has just marked waits for the reset before it reads the
 * page: a write between the two would be told to nobody. If KVM refuses the reset, it is owed: it
 * is tried again by who takes, and nothing can be taken until it has succeeded.
 *
 * An entry names a slot by its id alone. That a late one never hits the next slot of that id is the
 * commit's doing: rings are empty, and all vCPUs held out, before a logged slot goes (apply.c).
 *
 * The rings are memory that the kernel shares with whoever maps the vCPU's fd: what stands there is
 * read once, and checked; what names no page of a logged slot is dropped, and counted. Where KVM
 * goes on in a ring is not known if that was in use before (a vCPU that was taken away, and is
 * added again), or something was dropped: then all of it is looked at, until KVM has gone on where
 * it should.
 *
 * The lock is taken with or without the transaction lock, and under that of a block's sources;
 * under it only that of a block's bitmaps. Read kas_rings_harvest first.
 */
#include "ring.h"

#include <errno.h>
#include <signal.h>

#include "vm.h"

/* Pages of one slot that are marked at once. */
#define BATCH 256

/* KVM may do less at a time than it has to. */
#define MAX_TRIES 64

struct batch {
	struct kvmas_kvm *kvm;
	uint32_t slot; /* as KVM names it */
	size_t count;
	uint64_t pages[BATCH]; /* of that slot */
};

void kas_rings_init(struct rings *rings)
{
	pthread_mutex_init(&rings->lock, NULL);
	TAILQ_INIT(&rings->all);
}

void kas_rings_fini(struct rings *rings)
{
	pthread_mutex_destroy(&rings->lock);
}

int kas_rings_enable(struct kvmas_kvm *kvm)
{
	uint32_t capability = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
	int result = kas_kvm_check_extension(kvm, capability);

	/* On x86 the older one is the same. */
	if (result == 0) {
		capability = KVM_CAP_DIRTY_LOG_RING;
		result = kas_kvm_check_extension(kvm, capability);
	}
	if (result <= 0)
		return result < 0 ? result : -EOPNOTSUPP;
	result = kas_kvm_enable_cap(kvm, capability, kvm->config.ring_size);
	if (!result)
		kvm->rings.entries = kvm->config.ring_size / sizeof(struct kvm_dirty_gfn);
	return result;
}

static bool is_dirty(const struct kvm_dirty_gfn *entry)
{
	uint32_t flags = __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE);

	return (flags & (KVM_DIRTY_GFN_F_DIRTY | KVM_DIRTY_GFN_F_RESET)) == KVM_DIRTY_GFN_F_DIRTY;
}

/* The slot that KVM names so, if it is logged; else NULL. */
static const struct kvmas_slot *find_slot(const struct kvmas_kvm *kvm, uint32_t name)
{
	unsigned as_id = name >> 16, id = name & UINT16_MAX;
	const struct slots *slots;
	const struct kvmas_slot *slot;

	if (as_id >= kvm->nspaces)
		return NULL;
	slots = &kvm->spaces[as_id].slots;
	if (id >= slots->limit || !kas_id_test(slots->used, id))
		return NULL;
	slot = &slots->by_id[id].slot;
	return slot->flags & KVM_MEM_LOG_DIRTY_PAGES ? slot : NULL;
}

/* How many entries named no page of a logged slot. */
static size_t mark_batch(struct batch *batch)
{
	const struct kvmas_slot *slot = find_slot(batch->kvm, batch->slot);
	size_t strays = batch->count;
	uint64_t first, npages;
	size_t count = 0;

	if (slot) {
		first = slot->ram_offset >> slot->ram->page_shift;
		npages = slot->size >> slot->ram->page_shift;
		for (size_t i = 0; i < batch->count; i++) {
			if (batch->pages[i] < npages)
				batch->pages[count++] = first + batch->pages[i];
		}
		kas_dirty_mark_pages(slot->ram->dirty, batch->pages, count);
	}
	strays -= count;
	kas_kvm_count(batch->kvm, ring_entries, batch->count);
	kas_kvm_count(batch->kvm, ring_strays, strays);
	batch->count = 0;
	return strays;
}

/* KVM has written over entries that were not read: it warns, and goes on (virt/kvm/dirty_ring.c,
 * kvm_dirty_ring_push). Nobody knows which. */
static void mark_all(struct kvmas_kvm *kvm)
{
	kas_log(kvm->object.kvmas, KVMAS_LOG_WARNING,
		"a dirty ring has no room left: all that is logged counts as dirty");
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		const struct slots *slots = &kvm->spaces[i].slots;

		for (size_t k = 0; k < slots->count; k++) {
			const struct kvmas_slot *slot = kas_slots_at(slots, k);

			if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
				kas_kvm_log_mark_all(slot);
		}
	}
}

/* Read the entries from ring->next on, once around at most, and leave ring->next behind them: how
 * many there were. Those that name no page are nothing that KVM owes us. */
static uint32_t read_run(struct kvmas_kvm *kvm, struct ring *ring)
{
	uint32_t mask = kvm->rings.entries - 1;
	struct batch batch = {.kvm = kvm};
	size_t strays = 0;
	uint32_t count = 0;

	for (; count <= mask && is_dirty(&ring->at[ring->next]); count++) {
		struct kvm_dirty_gfn *entry = &ring->at[ring->next];
		uint32_t slot = __atomic_load_n(&entry->slot, __ATOMIC_RELAXED);

		if (batch.count == BATCH || (batch.count && slot != batch.slot))
			strays += mark_batch(&batch);
		batch.slot = slot;
		batch.pages[batch.count++] = __atomic_load_n(&entry->offset, __ATOMIC_RELAXED);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		ring->next = (ring->next + 1) & mask;
	}
	if (batch.count)
		strays += mark_batch(&batch);
	if (count > mask)
		mark_all(kvm);
	if (strays)
		ring->place = RING_LOST;
	kvm->rings.owed += count - strays;
	return count;
}

/* Read what there is in a ring, wherever, in KVM's order: so it does not begin amid what goes on
 * over the ring's end. How many entries there were. */
static uint32_t search_once(struct kvmas_kvm *kvm, struct ring *ring)
{
	uint32_t mask = kvm->rings.entries - 1;
	uint32_t start = 0, guess = ring->next, count = 0;

	while (start < mask && is_dirty(&ring->at[start]))
		start++;
	for (uint32_t i = 1; i <= mask + 1; i++) {
		ring->next = (start + i) & mask;
		if (is_dirty(&ring->at[ring->next])) {
			count += read_run(kvm, ring);
			guess = ring->next;
		}
	}
	ring->next = guess;
	return count;
}

/* What KVM has written behind the search while it went on comes before what that found: the reset
 * would stop there. So until nothing is found, or as much as a ring holds. */
static void search_ring(struct kvmas_kvm *kvm, struct ring *ring)
{
	uint32_t found, count = 0;

	do {
		found = search_once(kvm, ring);
		count += found;
	} while (found && count < kvm->rings.entries);
	if (count)
		ring->place = RING_GUESSED;
}

/* A guess was right if KVM has gone on there. */
static void read_ring(struct kvmas_kvm *kvm, struct ring *ring)
{
	uint32_t mask = kvm->rings.entries - 1;

	if (ring->place == RING_GUESSED && is_dirty(&ring->at[ring->next]) &&
	    !is_dirty(&ring->at[(ring->next - 1) & mask]))
		ring->place = RING_LOCATED;
	if (ring->place == RING_LOCATED)
		read_run(kvm, ring);
	else
		search_ring(kvm, ring);
}

/* Since Linux 6.16 a signal ends this early, and pages of the last entries it came to are then not
 * watched again, ever: so no signal comes. */
static int reset_undisturbed(struct kvmas_kvm *kvm)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = kas_kvm_reset_rings(kvm);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	kas_kvm_count(kvm, ring_resets, 1);
	return result;
}

/* Have KVM watch all pages again that were read. It says how many it did; if that never comes to
 * what is owed, its idea of the rings is another than ours. The lock is held. */
static int reset(struct kvmas_kvm *kvm)
{
	struct rings *rings = &kvm->rings;

	for (unsigned i = 0; rings->owed && i < MAX_TRIES; i++) {
		int result = reset_undisturbed(kvm);

		if (result < 0 && result != -EINTR)
			return result;
		if (result < 0)
			rings->interrupted = true;
		else if ((unsigned)result >= rings->owed || (result == 0 && rings->interrupted))
			rings->owed = 0;
		else
			rings->owed -= (unsigned)result;
	}
	if (rings->owed)
		return rings->interrupted ? -EINTR : -EIO;
	rings->interrupted = false;
	return 0;
}

/* The lock is held. */
static int harvest(struct kvmas_kvm *kvm)
{
	struct ring *ring;

	TAILQ_FOREACH(ring, &kvm->rings.all, all)
		read_ring(kvm, ring);
	return reset(kvm);
}

int kas_rings_harvest(struct kvmas_kvm *kvm)
{
	int err;

	pthread_mutex_lock(&kvm->rings.lock);
	err = harvest(kvm);
	pthread_mutex_unlock(&kvm->rings.lock);
	return err;
}

int kas_ring_empty(struct kvmas_kvm *kvm, struct ring *ring)
{
	int err;

	pthread_mutex_lock(&kvm->rings.lock);
	ring->place = RING_LOST;
	err = harvest(kvm);
	pthread_mutex_unlock(&kvm->rings.lock);
	return err;
}

bool kas_rings_owe(struct kvmas_kvm *kvm)
{
	bool owed;

	pthread_mutex_lock(&kvm->rings.lock);
	owed = kvm->rings.owed > 0;
	pthread_mutex_unlock(&kvm->rings.lock);
	return owed;
}

int kas_rings_settle(struct kvmas_kvm *kvm)
{
	int err;

	pthread_mutex_lock(&kvm->rings.lock);
	err = reset(kvm);
	pthread_mutex_unlock(&kvm->rings.lock);
	return err;
}

void kas_ring_add(struct kvmas_kvm *kvm, struct ring *ring)
{
	/* It may look as if it had never been used: an entry of page 0 of slot 0:0 leaves zeroes.
	 */
	ring->place = RING_GUESSED;
	pthread_mutex_lock(&kvm->rings.lock);
	TAILQ_INSERT_TAIL(&kvm->rings.all, ring, all);
	pthread_mutex_unlock(&kvm->rings.lock);
}

void kas_ring_del(struct kvmas_kvm *kvm, struct ring *ring)
{
	/* What cannot be armed now is owed: KVM keeps a vCPU's ring as long as the VM. */
	kas_rings_harvest(kvm);
	pthread_mutex_lock(&kvm->rings.lock);
	TAILQ_REMOVE(&kvm->rings.all, ring, all);
	pthread_mutex_unlock(&kvm->rings.lock);
}

/* SPDX-License-Identifier: MIT */
/*
 * Coalesced writes: KVM's vCPUs leave them in a ring, one for the VM, in the order in which they
 * were made; here they are handed on to dispatch in that order.
 *
 *     vCPUs -> ring -> [kept]  -> dispatch            kept: taken from the ring by a commit, which
 *              next     head                          changes where they lead
 *
 * KVM does not say in which address space a write was made. A zone is in KVM only where all spaces
 * show the same region, or memory that KVM maps (placement.c): so it was made in one that does not
 * show memory there.
 *
 * Who answers an exit hands on first what waits: all that the vCPU, or another one that it knows
 * of, wrote before. Only one thread hands on at a time; others wait until it is done, since their
 * accesses come after what it has in its hands. Its callbacks may commit, and so wait for the
 * transaction lock: who has that never waits here. A commit does not hand on, either: it keeps
 * what is in the ring, with the views that it was written to.
 *
 * `first` in the ring is ours to write, `last` is KVM's (virt/kvm/coalesced_mmio.c). Both are in
 * memory that a guest cannot reach but others can: what they say is checked before it is used.
 *
 * `first` never becomes 0. Before 6.12 KVM takes its distance from `last` of numbers that wrap at
 * 2^32, no multiple of the ring's 170 entries: while `first` is not above `last`, the ring looks
 * full when 85 entries are taken, but not when more are. Where that goes on past the ring's end, it
 * looks right again; but with `first` at 0, `last` catches up with it, and a full ring is taken for
 * an empty one. So the end's entry stays taken until the one at 0 is free.
 *
 * Invariants:
 *   I1  a write is in the ring, or kept, or counted by `pending`, or has been handed on: it is
 *       counted before it leaves the ring.
 *   I2  what is kept is older than what is in the ring.
 *   I3  who takes a write out of the ring knows its view when the lock is free again.
 *
 * Read kas_coalesced_drain first.
 */
#include "coalesced.h"

#include <errno.h>
#include <string.h>

#include "binding.h"
#include "dispatch.h"

/* How many entries KVM's ring has; one of them is always free. */
#define ENTRIES                                                                                    \
	((kas_page_size() - sizeof(struct kvm_coalesced_mmio_ring)) /                              \
	 sizeof(struct kvm_coalesced_mmio))

struct coalesced_write {
	uint64_t address;
	bool pio;
	unsigned size;
	unsigned char bytes[8];
};

/* Where a write leads; both NULL if nowhere. */
struct target {
	struct kvmas_space *space;
	struct kvmas_view *view;
	bool smm;
};

struct kept_write {
	struct coalesced_write write;
	bool led;             /* it is known where it leads */
	struct target target; /* held */
};

/* ---- the ring ---- */

static struct kvm_coalesced_mmio_ring *ring_of(const struct coalesced *coalesced)
{
	const struct coalesced_ring *any = LIST_FIRST(&coalesced->rings);

	return any ? any->at : NULL;
}

static uint32_t load_first(const struct kvm_coalesced_mmio_ring *ring)
{
	return __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
}

static uint32_t load_last(const struct kvm_coalesced_mmio_ring *ring)
{
	return __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
}

/* All before *next* is free, but for what keeps `first` from 0. Under the lock. */
static void set_next(struct coalesced *coalesced, struct kvm_coalesced_mmio_ring *ring,
		     uint32_t next)
{
	atomic_store(&coalesced->next, next);
	atomic_store(&coalesced->first, next ? next : ENTRIES - 1);
	__atomic_store_n(&ring->first, coalesced->first, __ATOMIC_RELEASE);
}

/* Where things are at first: as they are found. */
static void locate(struct coalesced *coalesced, const struct kvm_coalesced_mmio_ring *ring)
{
	if (coalesced->located)
		return;
	atomic_store(&coalesced->first, load_first(ring));
	atomic_store(&coalesced->next, coalesced->first);
	coalesced->located = true;
}

/* KVM writes nothing while `last` is none of its entries: it comes right last. */
static void empty(struct coalesced *coalesced, struct kvm_coalesced_mmio_ring *ring)
{
	uint32_t last = load_last(ring);
	bool wrong = last >= ENTRIES;

	set_next(coalesced, ring, wrong ? 0 : last);
	if (wrong)
		__atomic_store_n(&ring->last, 0, __ATOMIC_RELEASE);
}

/* How many entries wait. A ring that makes no sense is emptied: whoever asks next is told. Under
 * the lock. */
static size_t count_entries(struct coalesced *coalesced)
{
	struct kvm_coalesced_mmio_ring *ring = ring_of(coalesced);
	uint32_t last;

	if (!ring)
		return 0;
	last = load_last(ring);
	locate(coalesced, ring);
	if (last >= ENTRIES || load_first(ring) != coalesced->first || coalesced->next >= ENTRIES) {
		empty(coalesced, ring);
		atomic_store(&coalesced->broken, true);
		return 0;
	}
	return (last + ENTRIES - coalesced->next) % ENTRIES;
}

/* Take the next entry, which is there, out of the ring. False if it makes no sense. It is read
 * before the ring is told that it is free, and its length once. */
static bool take_entry(struct coalesced *coalesced, struct coalesced_write *ret)
{
	struct kvm_coalesced_mmio_ring *ring = ring_of(coalesced);
	const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[coalesced->next];

	*ret = (struct coalesced_write){
		.address = entry->phys_addr,
		.pio = entry->pio,
		.size = __atomic_load_n(&entry->len, __ATOMIC_RELAXED),
	};
	memcpy(ret->bytes, entry->data, sizeof(ret->bytes));
	atomic_fetch_add(&coalesced->pending, 1);
	set_next(coalesced, ring, (coalesced->next + 1) % ENTRIES);
	return ret->size > 0 && ret->size <= sizeof(ret->bytes);
}

/* ---- where a write leads ---- */

static bool is_memory(const struct kvmas_view *view, uint64_t address)
{
	const struct flat_range *range = view ? kas_view_find(view, address) : NULL;

	return range && range->range.first <= address && kas_range_is_writable(range);
}

static void unpin_target(struct kvmas_reader *reader, const struct target *target)
{
	if (target->view)
		kas_reader_unpin(reader, target->view);
	if (target->space)
		kas_kvm_unpin_answering(reader, target->space);
}

static struct target pin_target(struct kvmas_kvm *kvm, struct kvmas_reader *reader, unsigned as_id)
{
	struct target target = {
		.space = kas_kvm_pin_answering(kvm, reader, as_id),
		.smm = as_id == 1,
	};

	if (target.space)
		target.view = kas_reader_pin(reader, target.space);
	return target;
}

/* As it is now, for a thread without the transaction lock. */
static struct target find_target(struct kvmas_kvm *kvm, struct kvmas_reader *reader,
				 const struct coalesced_write *write)
{
	struct target target = {0};

	if (write->pio)
		return pin_target(kvm, reader, KAS_KVM_PIO);
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		target = pin_target(kvm, reader, i);
		if (target.view && !is_memory(target.view, write->address))
			return target;
		unpin_target(reader, &target);
	}
	return pin_target(kvm, reader, 0);
}

static struct target hold(struct kvmas_space *space, bool smm)
{
	struct target target = {.smm = smm};

	if (!space)
		return target;
	target.space = kvmas_space_ref(space);
	target.view = space->root->view;
	kas_view_ref(target.view);
	return target;
}

/* The same under the transaction lock: held. */
static struct target hold_target(struct kvmas_kvm *kvm, const struct coalesced_write *write)
{
	struct kvmas_space *space;

	if (write->pio)
		return hold(kas_kvm_answering(kvm, KAS_KVM_PIO), false);
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		space = kas_kvm_answering(kvm, i);
		if (space && !is_memory(space->root->view, write->address))
			return hold(space, i == 1);
	}
	return hold(kas_kvm_answering(kvm, 0), false);
}

static void let_go_of(const struct target *target)
{
	if (!target->space)
		return;
	kas_view_unref(target->view);
	kas_object_unref(&target->space->object);
}

/* ---- handing on ---- */

static void hand_on(struct kvmas_kvm *kvm, struct kvmas_reader *reader,
		    struct coalesced_write *write, const struct target *target)
{
	struct dispatch dispatch = {
		.reader = reader,
		.space = target->space,
		.view = target->view,
		.smm = target->smm,
		.write = true,
		.whole = true,
		.coalesced = true,
	};

	if (target->view)
		kas_dispatch(&dispatch, write->address, write->bytes, write->size, NULL);
	else
		dispatch.unassigned = 1;
	kas_kvm_count(kvm, coalesced_writes, 1);
	kas_kvm_count(kvm, unassigned, dispatch.unassigned);
	kas_kvm_count(kvm, refused, dispatch.refused);
}

/* A write that leads somewhere by a view that is held: pinned as well, so that this thread is known
 * to be in an access (kvmas_synchronize). */
static void hand_on_kept(struct kvmas_kvm *kvm, struct kvmas_reader *reader,
			 struct kept_write *kept)
{
	struct published held = {kept->target.view ? &kept->target.view->object : NULL};
	struct object *pinned = NULL;
	bool full = false;

	if (kept->target.view)
		pinned = kas_pin(&reader->pins, &held, &full);
	hand_on(kvm, reader, &kept->write, &kept->target);
	if (pinned)
		kas_unpin(&reader->pins, pinned);
	let_go_of(&kept->target);
}

/* Take what comes next: what is kept comes first. Where it leads is found out under the lock: once
 * it is out of the ring, a commit that changes that does not keep it any more (I3). 1; 0 if there
 * is nothing. */
static int take_next(struct kvmas_kvm *kvm, struct kvmas_reader *reader, struct kept_write *ret,
		     bool *kept)
{
	struct coalesced *coalesced = &kvm->coalesced;
	bool good = true;

	*kept = false;
	if (coalesced->count) {
		*ret = coalesced->kept[coalesced->head++];
		coalesced->count--;
		*kept = ret->led;
	} else if (count_entries(coalesced) > 0) {
		good = take_entry(coalesced, &ret->write);
	} else {
		return 0;
	}
	ret->led = good;
	if (good && !*kept)
		ret->target = find_target(kvm, reader, &ret->write);
	return 1;
}

/* False if there is nothing. */
static bool hand_on_next(struct kvmas_kvm *kvm, struct kvmas_reader *reader)
{
	struct coalesced *coalesced = &kvm->coalesced;
	struct kept_write next = {0};
	bool kept;
	int found;

	pthread_mutex_lock(&coalesced->lock);
	found = take_next(kvm, reader, &next, &kept);
	pthread_mutex_unlock(&coalesced->lock);
	if (!found)
		return false;
	if (kept) {
		hand_on_kept(kvm, reader, &next);
	} else if (next.led) {
		hand_on(kvm, reader, &next.write, &next.target);
		unpin_target(reader, &next.target);
	} else {
		kas_kvm_count(kvm, coalesced_strays, 1);
	}
	atomic_fetch_sub(&coalesced->pending, 1);
	return true;
}

/* What is there now, and not what comes while it is handed on. */
static size_t count_all(struct coalesced *coalesced)
{
	size_t count;

	pthread_mutex_lock(&coalesced->lock);
	count = count_entries(coalesced);
	count += coalesced->count;
	pthread_mutex_unlock(&coalesced->lock);
	return count;
}

/* Whoever has the transaction lock may not wait: who hands on may be waiting for it. Nor would
 * callbacks be called then as they are else. */
static bool take_turn(struct kvmas_kvm *kvm)
{
	struct coalesced *coalesced = &kvm->coalesced;

	if (kas_lock_is_mine(kvm->object.kvmas) ||
	    atomic_load_explicit(&coalesced->who, memory_order_relaxed) == kas_this_thread())
		return false;
	pthread_mutex_lock(&coalesced->turn);
	atomic_store_explicit(&coalesced->who, kas_this_thread(), memory_order_relaxed);
	return true;
}

void kas_coalesced_drain(struct kvmas_kvm *kvm, struct kvmas_reader *reader)
{
	struct coalesced *coalesced = &kvm->coalesced;

	if (!atomic_load_explicit(&coalesced->used, memory_order_relaxed) || !take_turn(kvm))
		return;
	for (size_t left = count_all(coalesced); left > 0; left--) {
		if (!hand_on_next(kvm, reader))
			break;
	}
	atomic_store_explicit(&coalesced->who, 0, memory_order_relaxed);
	pthread_mutex_unlock(&coalesced->turn);
}

static bool is_as_left(const struct coalesced *coalesced,
		       const struct kvm_coalesced_mmio_ring *ring)
{
	return load_first(ring) == atomic_load(&coalesced->first) &&
	       load_last(ring) == atomic_load(&coalesced->next);
}

bool kas_coalesced_waits(const struct kvmas_kvm *kvm, const struct coalesced_ring *ring)
{
	const struct coalesced *coalesced = &kvm->coalesced;

	if (!atomic_load_explicit(&coalesced->used, memory_order_relaxed))
		return false;
	/* In this order: I1. */
	return (ring->at && !is_as_left(coalesced, ring->at)) ||
	       atomic_load(&coalesced->pending) > 0 || atomic_load(&coalesced->broken);
}

int kas_coalesced_check(struct kvmas_kvm *kvm)
{
	if (!atomic_load_explicit(&kvm->coalesced.broken, memory_order_relaxed))
		return 0;
	if (!atomic_exchange(&kvm->coalesced.broken, false))
		return 0;
	kas_log(kvm->object.kvmas, KVMAS_LOG_ERROR,
		"the ring of coalesced writes made no sense, and has been emptied");
	return -EPROTO;
}

int kvmas_kvm_drain(struct kvmas_kvm *kvm, struct kvmas_reader *reader)
{
	struct kvmas *kvmas = kvm->object.kvmas;

	if (!kas_alive(kvmas))
		return -EIO;
	if (kas_lock_is_mine(kvmas) || reader->innermost ||
	    atomic_load_explicit(&kvm->coalesced.who, memory_order_relaxed) == kas_this_thread())
		return -EBUSY;
	kas_coalesced_drain(kvm, reader);
	return kas_coalesced_check(kvm);
}

/* ---- keeping ---- */

/* Room for a ring that a commit keeps, and for one that the last vCPU leaves behind while that
 * commit goes on. Under the lock: false without memory. */
static bool reserve(struct kvmas *kvmas, struct coalesced *coalesced)
{
	struct kept_write *kept;
	size_t capacity;

	if (coalesced->head)
		memmove(coalesced->kept, coalesced->kept + coalesced->head,
			coalesced->count * sizeof(*kept));
	coalesced->head = 0;
	capacity = coalesced->count + 2 * ENTRIES;
	if (coalesced->capacity >= capacity)
		return true;
	kept = kas_resize(kvmas, coalesced->kept, capacity * sizeof(*kept));
	if (!kept)
		return false;
	coalesced->kept = kept;
	coalesced->capacity = capacity;
	return true;
}

int kas_coalesced_reserve(struct kvmas_kvm *kvm, bool begins)
{
	struct coalesced *coalesced = &kvm->coalesced;
	bool reserved;

	if (!begins && !atomic_load_explicit(&coalesced->used, memory_order_relaxed))
		return 0;
	pthread_mutex_lock(&coalesced->lock);
	reserved = reserve(kvm->object.kvmas, coalesced);
	pthread_mutex_unlock(&coalesced->lock);
	return reserved ? 0 : -ENOMEM;
}

static size_t room_of(const struct coalesced *coalesced)
{
	return coalesced->capacity - (coalesced->head + coalesced->count);
}

/* Under the lock: all of the ring comes behind what is kept, as far as there is room. */
static void keep_entries(struct kvmas_kvm *kvm)
{
	struct coalesced *coalesced = &kvm->coalesced;

	for (size_t left = count_entries(coalesced); left > 0 && room_of(coalesced); left--) {
		struct kept_write *kept = &coalesced->kept[coalesced->head + coalesced->count];

		*kept = (struct kept_write){0};
		if (take_entry(coalesced, &kept->write)) {
			coalesced->count++;
		} else {
			kas_kvm_count(kvm, coalesced_strays, 1);
			atomic_fetch_sub(&coalesced->pending, 1);
		}
	}
}

void kas_coalesced_keep(struct kvmas_kvm *kvm)
{
	struct coalesced *coalesced = &kvm->coalesced;

	if (!atomic_load_explicit(&coalesced->used, memory_order_relaxed))
		return;
	pthread_mutex_lock(&coalesced->lock);
	keep_entries(kvm);
	for (size_t i = 0; i < coalesced->count; i++) {
		struct kept_write *kept = &coalesced->kept[coalesced->head + i];

		if (!kept->led)
			kept->target = hold_target(kvm, &kept->write);
		kept->led = true;
	}
	pthread_mutex_unlock(&coalesced->lock);
}

/* ---- coming and going ---- */

bool kas_coalesced_begin(struct kvmas_kvm *kvm)
{
	struct coalesced *coalesced = &kvm->coalesced;
	bool begins;

	pthread_mutex_lock(&coalesced->lock);
	begins = coalesced->page && !coalesced->nwithout;
	if (begins)
		atomic_store(&coalesced->used, true);
	pthread_mutex_unlock(&coalesced->lock);
	return begins;
}

int kas_coalesced_add(struct kvmas_kvm *kvm, struct coalesced_ring *ring, void *run,
		      size_t run_size)
{
	struct coalesced *coalesced = &kvm->coalesced;
	size_t offset = coalesced->page * kas_page_size();
	int err = 0;

	if (coalesced->page && run_size >= offset + kas_page_size())
		ring->at = (void *)((char *)run + offset);
	pthread_mutex_lock(&coalesced->lock);
	if (ring->at)
		LIST_INSERT_HEAD(&coalesced->rings, ring, all);
	else if (atomic_load(&coalesced->used))
		err = -EINVAL;
	else
		coalesced->nwithout++;
	pthread_mutex_unlock(&coalesced->lock);
	return err;
}

void kas_coalesced_del(struct kvmas_kvm *kvm, struct coalesced_ring *ring)
{
	struct coalesced *coalesced = &kvm->coalesced;

	pthread_mutex_lock(&coalesced->lock);
	/* The last mapping goes: what waits is kept, but where it leads is found out later. Without
	 * memory, and when the last commit's reserve is used up, it waits in the ring. */
	if (ring->at && !LIST_NEXT(LIST_FIRST(&coalesced->rings), all) &&
	    atomic_load(&coalesced->used) &&
	    (reserve(kvm->object.kvmas, coalesced) || room_of(coalesced) >= ENTRIES))
		keep_entries(kvm);
	if (ring->at)
		LIST_REMOVE(ring, all);
	else
		coalesced->nwithout--;
	pthread_mutex_unlock(&coalesced->lock);
}

void kas_coalesced_init(struct kvmas_kvm *kvm)
{
	pthread_mutex_init(&kvm->coalesced.turn, NULL);
	pthread_mutex_init(&kvm->coalesced.lock, NULL);
	LIST_INIT(&kvm->coalesced.rings);
}

int kas_coalesced_ask(struct kvmas_kvm *kvm)
{
	int page = kas_kvm_check_extension(kvm, KVM_CAP_COALESCED_MMIO);
	int pio = page > 0 ? kas_kvm_check_extension(kvm, KVM_CAP_COALESCED_PIO) : 0;

	if (page < 0 || pio < 0)
		return page < 0 ? page : pio;
	kvm->coalesced.page = (unsigned)page;
	kvm->coalesced.pio = pio > 0;
	return 0;
}

void kas_coalesced_fini(struct kvmas_kvm *kvm)
{
	struct coalesced *coalesced = &kvm->coalesced;

	for (size_t i = 0; i < coalesced->count; i++)
		let_go_of(&coalesced->kept[coalesced->head + i].target);
	kas_free(kvm->object.kvmas, coalesced->kept);
	pthread_mutex_destroy(&coalesced->turn);
	pthread_mutex_destroy(&coalesced->lock);
}

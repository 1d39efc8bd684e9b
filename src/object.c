/* SPDX-License-Identifier: MIT */
/*
 * Contexts and counted objects.
 *
 * A struct kvmas is held by its user's handles (together one holder) and by every object made
 * from it (one holder each); the last holder frees it. Objects die in two steps:
 *
 *     refs 1 -> 0        any thread, also a reader that drops the last view of a region
 *       pushed to kvmas->dead, a stack that is only ever taken whole: no ABA
 *     kas_reclaim        at the end of a commit or an abort, in kvmas_reclaim, in kvmas_unref
 *       retired          if readers may have it pinned: until none has
 *       object->end      drops what the object held (more may die), runs destroy hooks, frees
 *
 * so that no destroy hook runs inside a lookup or a release, and none concurrently with another.
 * To know what is pinned costs a membarrier(2), which disturbs the readers: commits do it once for
 * KAS_RETIRED views, and when something else has a single holder left, which may be one of these
 * views. (So a region's destroy hook runs in the commit that takes it away, or, if a reader has the
 * view, in the first one later when that has been released, or in kvmas_reclaim.)
 *
 * Without a handle nobody may commit any more, and whoever drops an object reclaims at once
 * (kas_object_drop). That one and the last kvmas_unref must not miss each other: pushes to the dead
 * stack and the taking of it have one order (acq_rel), so that either the push is seen, or the
 * pusher sees that the handles are gone.
 *
 * A forked child shares neither the lock's state nor the VM with its parent (KVM answers -EIO to
 * another mm, virt/kvm/kvm_main.c): one page under MADV_WIPEONFORK tells it for the price of a
 * load.
 *
 * Invariants:
 *   I1  refs never rises from 0: whoever takes a reference holds one, or something that does, or
 *       tries (kas_object_try_ref).
 *   I2  an object is on the dead stack at most once, because of I1.
 *   I3  kvmas outlives every object: each is a holder until its end has run.
 *
 * Read kas_object_unref first.
 */
#include "object.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *kas_resize(struct kvmas *kvmas, void *ptr, size_t size)
{
	return kvmas->config.realloc(kvmas->config.realloc_data, ptr, size);
}

void *kas_alloc(struct kvmas *kvmas, size_t size)
{
	void *ptr = kas_resize(kvmas, NULL, size);

	return ptr ? memset(ptr, 0, size) : NULL;
}

void *kas_grow(struct kvmas *kvmas, void *array, size_t count, size_t *capacity, size_t item)
{
	size_t wanted = *capacity ? 2 * *capacity : 16;
	void *grown;

	if (count < *capacity)
		return array;
	grown = kas_resize(kvmas, array, wanted * item);
	if (grown)
		*capacity = wanted;
	return grown;
}

void *kas_buffer_enlarge(struct kvmas *kvmas, unsigned buffer, size_t count, size_t item)
{
	struct buffer *room = &kvmas->txn.buffers[buffer];
	void *at = kas_grow(kvmas, room->at, count, &room->capacity, item);

	if (at)
		room->at = at;
	room->item = item;
	kvmas->txn.oversized |= room->capacity * item > KAS_KEPT_BYTES;
	return at;
}

int kas_buffer_reserve(struct kvmas *kvmas, unsigned buffer, size_t total, size_t item)
{
	const struct buffer *room = &kvmas->txn.buffers[buffer];

	while (room->capacity < total) {
		if (!kas_buffer_grow(kvmas, buffer, room->capacity, item))
			return -ENOMEM;
	}
	return 0;
}

static void trim_buffers(struct kvmas *kvmas, size_t most_bytes)
{
	for (unsigned i = 0; i < NBUFFERS; i++) {
		struct buffer *room = &kvmas->txn.buffers[i];

		if (room->capacity * room->item <= most_bytes)
			continue;
		kas_free(kvmas, room->at);
		*room = (struct buffer){0};
	}
}

void kas_buffers_trim(struct kvmas *kvmas)
{
	if (kvmas->txn.oversized)
		trim_buffers(kvmas, KAS_KEPT_BYTES);
	kvmas->txn.oversized = false;
}

static void free_spares(struct kvmas *kvmas)
{
	struct spare *spare;

	while ((spare = kvmas->txn.spares)) {
		kvmas->txn.spares = spare->next;
		kas_free(kvmas, spare);
	}
	kvmas->txn.nspares = 0;
}

void kas_kept_free(struct kvmas *kvmas)
{
	trim_buffers(kvmas, 0);
	free_spares(kvmas);
}

char *kas_strdup(struct kvmas *kvmas, const char *string)
{
	size_t size = strlen(string) + 1;
	char *copy = kas_resize(kvmas, NULL, size);

	return copy ? memcpy(copy, string, size) : NULL;
}

void kas_free(struct kvmas *kvmas, const void *ptr)
{
	if (ptr)
		kas_resize(kvmas, (void *)(uintptr_t)ptr, 0);
}

void kas_log(struct kvmas *kvmas, enum kvmas_log_level level, const char *format, ...)
{
	char line[256];
	va_list args;

	if (!kvmas->config.log)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	kvmas->config.log(kvmas->config.log_data, level, line);
}

int kas_config_copy(void *config, size_t size, const void *caller)
{
	const unsigned char *bytes = caller;
	size_t known;

	if (!caller)
		return -EINVAL;
	memcpy(&known, caller, sizeof(known));
	if (known < sizeof(known))
		return -EINVAL;
	for (size_t i = size; i < known; i++) {
		if (bytes[i])
			return -EOPNOTSUPP;
	}
	memset(config, 0, size);
	memcpy(config, caller, known < size ? known : size);
	return 0;
}

void kas_hold(struct kvmas *kvmas)
{
	atomic_fetch_add_explicit(&kvmas->holders, 1, memory_order_relaxed);
}

void kas_let_go(struct kvmas *kvmas)
{
	if (atomic_fetch_sub_explicit(&kvmas->holders, 1, memory_order_acq_rel) != 1)
		return;
	kas_kept_free(kvmas);
	kas_pinboard_fini(&kvmas->pinboard);
	pthread_mutex_destroy(&kvmas->txn.lock);
	pthread_mutex_destroy(&kvmas->lists_lock);
	munmap((void *)(uintptr_t)kvmas->alive, (size_t)sysconf(_SC_PAGESIZE));
	kas_free(kvmas, kvmas);
}

int kas_lock(struct kvmas *kvmas)
{
	uintptr_t self = (uintptr_t)pthread_self();

	if (!kas_alive(kvmas))
		return -EIO;
	if (kas_lock_is_mine(kvmas)) {
		if (kvmas->txn.calling)
			return -EBUSY;
	} else {
		pthread_mutex_lock(&kvmas->txn.lock);
		atomic_store_explicit(&kvmas->txn.owner, self, memory_order_relaxed);
	}
	kvmas->txn.nesting++;
	return 0;
}

int kas_lock_outside(struct kvmas *kvmas)
{
	int err = kas_lock(kvmas);

	if (!err && kvmas->txn.depth) {
		kas_unlock(kvmas);
		return -EBUSY;
	}
	return err;
}

void kas_unlock(struct kvmas *kvmas)
{
	if (--kvmas->txn.nesting)
		return;
	atomic_store_explicit(&kvmas->txn.owner, 0, memory_order_relaxed);
	pthread_mutex_unlock(&kvmas->txn.lock);
}

bool kas_lock_is_mine(const struct kvmas *kvmas)
{
	return atomic_load_explicit(&kvmas->txn.owner, memory_order_relaxed) ==
	       (uintptr_t)pthread_self();
}

void kas_object_init(struct object *object, struct kvmas *kvmas, void (*end)(struct object *))
{
	object->kvmas = kvmas;
	object->end = end;
	atomic_init(&object->refs, 1);
	kas_hold(kvmas);
}

void kas_object_ref(struct object *object)
{
	atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
}

bool kas_object_try_ref(struct object *object)
{
	unsigned refs = atomic_load_explicit(&object->refs, memory_order_relaxed);

	while (refs &&
	       !atomic_compare_exchange_weak_explicit(&object->refs, &refs, refs + 1,
						      memory_order_relaxed, memory_order_relaxed))
		;
	return refs;
}

void kas_object_unref(struct object *object)
{
	struct kvmas *kvmas = object->kvmas;
	struct object *top;
	unsigned refs;

	if (!kas_alive(kvmas))
		return;
	/* Who is not the last may touch nothing afterwards. */
	refs = atomic_load_explicit(&object->refs, memory_order_relaxed);
	do {
		if (refs == 2)
			atomic_store_explicit(&kvmas->lingering, true, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(
		&object->refs, &refs, refs - 1, memory_order_acq_rel, memory_order_relaxed));
	if (refs != 1)
		return;
	/* Held across the push: another thread's reclaim may end the object as soon as it is seen.
	 */
	kas_hold(kvmas);
	top = atomic_load_explicit(&kvmas->dead, memory_order_relaxed);
	do {
		object->next_dead = top;
	} while (!atomic_compare_exchange_weak_explicit(
		&kvmas->dead, &top, object, memory_order_acq_rel, memory_order_relaxed));
	kas_let_go(kvmas);
}

void kas_object_drop(struct object *object)
{
	struct kvmas *kvmas = object->kvmas;

	if (!kas_alive(kvmas))
		return;
	kas_hold(kvmas);
	kas_object_unref(object);
	kas_reclaim_if_closed(kvmas);
	kas_let_go(kvmas);
}

void kas_reclaim_if_closed(struct kvmas *kvmas)
{
	/* -EBUSY is for a reclaim or a transaction that goes on, which ends with one. */
	if (kas_alive(kvmas) && atomic_load(&kvmas->handles) == 0)
		kas_try_reclaim(kvmas);
}

/* ---- ending what is dead ---- */

static void end(struct object *object)
{
	struct kvmas *kvmas = object->kvmas;

	object->end(object);
	kas_let_go(kvmas);
}

static bool end_dead(struct kvmas *kvmas)
{
	struct object *dead = NULL;

	if (atomic_load_explicit(&kvmas->dead, memory_order_acquire))
		dead = atomic_exchange_explicit(&kvmas->dead, NULL, memory_order_acq_rel);
	if (!dead)
		return false;
	while (dead) {
		struct object *next = dead->next_dead;

		if (dead->pinnable) {
			dead->next_dead = kvmas->txn.retired;
			kvmas->txn.retired = dead;
			kvmas->txn.nretired++;
		} else {
			end(dead);
		}
		dead = next;
	}
	return true;
}

static bool is_pinned(struct pinboard *board, const struct object *object)
{
	struct object *held;
	struct pins *pins;
	unsigned i;

	kas_pinboard_for_each(board, pins, i, held)
	{
		if (held == object)
			return true;
	}
	return false;
}

/* Take those off the list that no reader has pinned. */
static struct object *find_unpinned(struct kvmas *kvmas)
{
	struct object **link = &kvmas->txn.retired;
	struct object *unpinned = NULL;
	struct object *object;

	if (kas_pinboard_lock(&kvmas->pinboard)) {
		while ((object = *link)) {
			if (is_pinned(&kvmas->pinboard, object)) {
				link = &object->next_dead;
				continue;
			}
			*link = object->next_dead;
			kvmas->txn.nretired--;
			object->next_dead = unpinned;
			unpinned = object;
		}
	}
	kas_pinboard_unlock(&kvmas->pinboard);
	kvmas->txn.npinned = kvmas->txn.nretired;
	return unpinned;
}

/* Without the board's lock: an end may call hooks, and these the library. */
static bool end_unpinned(struct kvmas *kvmas)
{
	struct object *unpinned = kvmas->txn.retired ? find_unpinned(kvmas) : NULL;
	bool any = unpinned;

	while (unpinned) {
		struct object *next = unpinned->next_dead;

		end(unpinned);
		unpinned = next;
	}
	return any;
}

static bool has_dead(const struct kvmas *kvmas)
{
	return kvmas->txn.retired || atomic_load_explicit(&kvmas->dead, memory_order_acquire);
}

static void reclaim(struct kvmas *kvmas, bool all)
{
	if (kvmas->txn.reclaiming || !has_dead(kvmas))
		return;
	kvmas->txn.reclaiming = true;
	kas_hold(kvmas);
	do {
		while (end_dead(kvmas))
			;
		all |= atomic_exchange_explicit(&kvmas->lingering, false, memory_order_relaxed);
		all |= kvmas->txn.nretired >= kvmas->txn.npinned + KAS_RETIRED;
	} while (all && end_unpinned(kvmas));
	kvmas->txn.reclaiming = false;
	kas_let_go(kvmas);
}

void kas_reclaim(struct kvmas *kvmas)
{
	reclaim(kvmas, true);
}

void kas_reclaim_due(struct kvmas *kvmas)
{
	reclaim(kvmas, false);
}

int kas_try_reclaim(struct kvmas *kvmas)
{
	int err = kas_lock_outside(kvmas);

	if (err)
		return err;
	kas_reclaim(kvmas);
	kas_unlock(kvmas);
	return 0;
}

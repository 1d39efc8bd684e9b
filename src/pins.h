/* SPDX-License-Identifier: MIT */
/* Pins: how a thread keeps an object without counting it. See pins.c. */
#ifndef KAS_PINS_H
#define KAS_PINS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* For branches whose cost is felt. */
#define kas_rarely(condition) __builtin_expect(!!(condition), 0)

/* How many objects one thread can pin at a time. */
#define KAS_PINS 8

struct object;

/* Where an object is published, for threads that hold nothing yet; NULL for none. */
struct published {
	_Atomic(struct object *) object;
};

/* All that threads have pinned, as who ends objects sees it. */
struct pinboard {
	pthread_mutex_t lock; /* guards the list, and who looks through it */
	LIST_HEAD(, pins) all;
	atomic_bool fenced; /* membarrier(2) is refused: threads order their pins themselves */
};

/* Of one thread, which alone writes all but `board`, `fence`, and what comes after `all`. */
struct pins {
	struct pinboard *board;
	atomic_bool fence;                       /* the board's `fenced`, at hand */
	_Atomic(struct object *) held[KAS_PINS]; /* in any order, NULL between them */
	atomic_uint counted;                     /* what is held in another way, for want of room */
	_Atomic(uintptr_t) owner;                /* the thread that pinned last */
	atomic_bool fenced;                      /* has ordered a pin itself, and always will */
	atomic_uint releases[KAS_PINS + 1]; /* of each of held; and how often counted came to 0 */
	LIST_ENTRY(pins) all;
	/* Under the board's lock: a bit for each of releases that somebody waits for, to go on from
	 * here. */
	unsigned awaited;
	unsigned releases_before[KAS_PINS + 1];
};

void kas_pinboard_init(struct pinboard *board);
void kas_pinboard_fini(struct pinboard *board);

void kas_pins_add(struct pinboard *board, struct pins *pins);
void kas_pins_del(struct pins *pins);

/* A number for this thread, as long as it lives. A call would cost as much as the rest of a pin. */
static inline uintptr_t kas_this_thread(void)
{
	return (uintptr_t)__builtin_thread_pointer();
}

/* Nobody else counts here. One number for each place, and nothing is counted that a thread pins:
 * each number that is read, changed and soon read again is a wait. */
static inline void kas_count_release(atomic_uint *releases)
{
	unsigned count = atomic_load_explicit(releases, memory_order_relaxed);

	atomic_store_explicit(releases, count + 1, memory_order_release);
}

static inline struct object *kas_pin_by_fence(struct pins *pins, _Atomic(struct object *) *held,
					      const struct published *from)
{
	struct object *object = atomic_load(&from->object);
	struct object *seen;

	do {
		seen = object;
		atomic_store(held, seen);
		object = atomic_load(&from->object);
	} while (object != seen);
	atomic_store_explicit(&pins->fenced, true, memory_order_release);
	return object;
}

/* The barrier between the two accesses is on the other side: pinboard_order in pins.c. */
static inline struct object *kas_pin_unfenced(_Atomic(struct object *) *held,
					      const struct published *from)
{
	struct object *object = atomic_load_explicit(&from->object, memory_order_acquire);
	struct object *seen;

	do {
		seen = object;
		atomic_store_explicit(held, seen, memory_order_release);
		atomic_signal_fence(memory_order_seq_cst);
		object = atomic_load_explicit(&from->object, memory_order_acquire);
	} while (kas_rarely(object != seen));
	return object;
}

/* Pin what is published: it is whole until it is unpinned. NULL if there is nothing, or if no more
 * can be pinned (*full* is set then). */
static inline struct object *kas_pin(struct pins *pins, const struct published *from, bool *full)
{
	struct object *object;
	unsigned i = 0;

	*full = false;
	while (kas_rarely(atomic_load_explicit(&pins->held[i], memory_order_relaxed))) {
		*full = ++i == KAS_PINS;
		if (*full)
			return NULL;
	}
	atomic_store_explicit(&pins->owner, kas_this_thread(), memory_order_relaxed);
	if (kas_rarely(atomic_load_explicit(&pins->fence, memory_order_relaxed)))
		object = kas_pin_by_fence(pins, &pins->held[i], from);
	else
		object = kas_pin_unfenced(&pins->held[i], from);
	/* What came to nothing may have been seen, too. */
	if (kas_rarely(!object))
		kas_count_release(&pins->releases[i]);
	return object;
}

/* False if it is not pinned. */
static inline bool kas_unpin(struct pins *pins, const struct object *object)
{
	for (unsigned i = 0; i < KAS_PINS; i++) {
		if (kas_rarely(atomic_load_explicit(&pins->held[i], memory_order_relaxed) !=
			       object))
			continue;
		atomic_store_explicit(&pins->held[i], NULL, memory_order_release);
		kas_count_release(&pins->releases[i]);
		return true;
	}
	return false;
}

/* Around what is held in another way, since no more can be pinned: before it is got, and when it
 * has been dropped. */
static inline void kas_pins_count(struct pins *pins)
{
	atomic_fetch_add(&pins->counted, 1);
}

static inline void kas_pins_uncount(struct pins *pins)
{
	if (atomic_fetch_sub(&pins->counted, 1) == 1)
		kas_count_release(&pins->releases[KAS_PINS]);
}

/*
 * Objects are about to be ended that are published nowhere any more. After this call whoever has
 * pinned one before it was taken away is seen, and nobody can pin one. False if that cannot be
 * known: nothing may be ended. The board is locked until kas_pinboard_unlock.
 */
bool kas_pinboard_lock(struct pinboard *board);
void kas_pinboard_unlock(struct pinboard *board);

/* for each object that is pinned, some twice; NULLs among them. The board is locked. */
#define kas_pinboard_for_each(board, pins, i, object)                                              \
	LIST_FOREACH(pins, &(board)->all, all)                                                     \
		for ((i) = 0; (i) < KAS_PINS && ((object) = atomic_load(&(pins)->held[i]), true);  \
		     (i)++)

/* Whether this thread has something pinned: it is in an access, or a look. */
bool kas_pinboard_has_mine(struct pinboard *board);

/* Wait until whatever other threads have pinned now they have released. -EDEADLK if this thread has
 * something pinned; -EAGAIN if nobody can know. */
int kas_pinboard_wait(struct pinboard *board);

#endif

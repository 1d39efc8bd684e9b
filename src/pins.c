/* SPDX-License-Identifier: MIT */
/*
 * Pins (hazard pointers: M. M. Michael, 2004): a thread that looks at an object says so in memory
 * of its own, and looks again whether the object is still the one published. Who ends objects takes
 * them away from where they were published first, and then looks at what all threads say:
 *
 *     reader                         who ends
 *     held = object                  published = next
 *     (1)                            (2)
 *     published == object?           held == object?
 *
 * One of the two sees the other, if neither of these pairs is reordered. That the reader's is not
 * costs it a fence at each look, unless membarrier(2) makes all threads of the process pass one at
 * (2): then (1) need only bind the compiler. Where the kernel or a sandbox refuses membarrier, also
 * when it did not at first, `fenced` tells readers to order the pair themselves. Pins made until
 * then may not be seen, so that nothing is ended until each reader has made one in the new way: it
 * says that it does, and its earlier stores come before that word.
 *
 * Invariants:
 *   I1  an object that can be pinned is ended only under the board's lock, after a
 *       kas_pinboard_lock that returned true, and when nobody has it in held[].
 *   I2  held[] may name what has ended (a reader that has not yet looked again): it is compared,
 *       and never followed.
 *   I3  a reader that has set its `fenced` fences from then on: the board's never goes back.
 *
 * Nothing here is a thread fence: those are what ThreadSanitizer does not know.
 */
#include "pins.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int membarrier(int command)
{
	return (int)syscall(SYS_membarrier, command, 0, 0);
}

void kas_pinboard_init(struct pinboard *board)
{
	pthread_mutex_init(&board->lock, NULL);
	LIST_INIT(&board->all);
	atomic_init(&board->fenced, membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0);
}

void kas_pinboard_fini(struct pinboard *board)
{
	pthread_mutex_destroy(&board->lock);
}

void kas_pins_add(struct pinboard *board, struct pins *pins)
{
	pins->board = board;
	pthread_mutex_lock(&board->lock);
	/* Under the lock: what was taken away before is not seen any more, nor an old `fenced`. */
	atomic_init(&pins->fence, atomic_load(&board->fenced));
	atomic_init(&pins->fenced, atomic_load(&board->fenced));
	LIST_INSERT_HEAD(&board->all, pins, all);
	pthread_mutex_unlock(&board->lock);
}

void kas_pins_del(struct pins *pins)
{
	pthread_mutex_lock(&pins->board->lock);
	LIST_REMOVE(pins, all);
	pthread_mutex_unlock(&pins->board->lock);
}

static void have_them_fence(struct pinboard *board)
{
	struct pins *pins;

	atomic_store(&board->fenced, true);
	LIST_FOREACH(pins, &board->all, all)
		atomic_store(&pins->fence, true);
}

/* (2) above. */
static bool order(struct pinboard *board)
{
	const struct pins *pins;

	if (LIST_EMPTY(&board->all))
		return true;
	if (!atomic_load(&board->fenced)) {
		if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0)
			return true;
		have_them_fence(board);
	}
	LIST_FOREACH(pins, &board->all, all) {
		if (!atomic_load_explicit(&pins->fenced, memory_order_acquire))
			return false;
	}
	return true;
}

bool kas_pinboard_lock(struct pinboard *board)
{
	pthread_mutex_lock(&board->lock);
	return order(board);
}

void kas_pinboard_unlock(struct pinboard *board)
{
	pthread_mutex_unlock(&board->lock);
}

/* ---- waiting ---- */

/* A bit for each place in which something is held. What is released and held again while we look is
 * not from before. */
static unsigned find_held(const struct pins *pins)
{
	unsigned held = atomic_load(&pins->counted) ? 1u << KAS_PINS : 0;

	for (unsigned i = 0; i < KAS_PINS; i++)
		held |= atomic_load(&pins->held[i]) ? 1u << i : 0;
	return held;
}

static bool is_mine(const struct pins *pins)
{
	return atomic_load(&pins->owner) == kas_this_thread();
}

static bool has_mine(struct pinboard *board)
{
	struct pins *pins;

	LIST_FOREACH(pins, &board->all, all) {
		if (is_mine(pins) && find_held(pins))
			return true;
	}
	return false;
}

bool kas_pinboard_has_mine(struct pinboard *board)
{
	bool has;

	pthread_mutex_lock(&board->lock);
	has = has_mine(board);
	pthread_mutex_unlock(&board->lock);
	return has;
}

static void note_held(struct pins *pins)
{
	for (unsigned i = 0; i <= KAS_PINS; i++)
		pins->releases_before[i] = atomic_load(&pins->releases[i]);
	pins->awaited = find_held(pins);
}

/* Note who has something pinned. Another wait may be going on: what it waits for comes before. */
static int note_holders(struct pinboard *board)
{
	struct pins *pins;

	if (has_mine(board))
		return -EDEADLK;
	if (!order(board))
		return -EAGAIN;
	LIST_FOREACH(pins, &board->all, all)
		note_held(pins);
	return 0;
}

static bool is_any_awaited(struct pinboard *board)
{
	struct pins *pins;
	bool any = false;

	LIST_FOREACH(pins, &board->all, all) {
		for (unsigned i = 0; i <= KAS_PINS; i++) {
			if (atomic_load(&pins->releases[i]) != pins->releases_before[i])
				pins->awaited &= ~(1u << i);
		}
		any |= pins->awaited;
	}
	return any;
}

int kas_pinboard_wait(struct pinboard *board)
{
	const struct timespec pause = {.tv_nsec = 50000};
	bool any;
	int err;

	pthread_mutex_lock(&board->lock);
	err = note_holders(board);
	any = !err && is_any_awaited(board);
	pthread_mutex_unlock(&board->lock);
	while (any) {
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&board->lock);
		any = is_any_awaited(board);
		pthread_mutex_unlock(&board->lock);
	}
	return err;
}

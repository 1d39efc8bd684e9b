/* SPDX-License-Identifier: MIT */
/*
 * Pins by themselves (pins.c), and their one race: a thread pins what another takes away. Objects
 * here are made once and ended again and again, which is a flag: so a pin that was not seen is.
 *
 * KVMAS_SECONDS (1): how long the race takes, of each of two kinds. A busy machine, on which those
 * who race take turns, shows less.
 */
#include "pins.h"

#include <stdio.h>
#include <time.h>

#include "fixture.h"
#include "object.h"

/* ---- one thread ---- */

struct bench {
	struct pinboard board;
	struct pins pins;
	struct published published;
	struct object objects[KAS_PINS + 1];
};

static int set_up(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	if (!bench)
		return -1;
	kas_pinboard_init(&bench->board);
	kas_pins_add(&bench->board, &bench->pins);
	*state = bench;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *bench = *state;

	kas_pins_del(&bench->pins);
	kas_pinboard_fini(&bench->board);
	free(bench);
	return 0;
}

static bool is_pinned(struct pinboard *board, const struct object *object)
{
	bool known = kas_pinboard_lock(board);
	const struct object *held;
	struct pins *pins;
	bool pinned = false;
	unsigned i;

	kas_pinboard_for_each(board, pins, i, held) pinned |= held == object;
	kas_pinboard_unlock(board);
	assert_true(known);
	return pinned;
}

static bool pin(struct bench *bench, struct object *object)
{
	bool full;

	atomic_store(&bench->published.object, object);
	assert_true(kas_pin(&bench->pins, &bench->published, &full) == (full ? NULL : object));
	return !full;
}

static void pin_of_nothing_uses_no_room(void **state)
{
	struct bench *bench = *state;

	for (int i = 0; i < 3 * KAS_PINS; i++)
		assert_true(pin(bench, NULL));
	for (int i = 0; i < KAS_PINS; i++)
		assert_true(pin(bench, &bench->objects[i]));
	assert_false(pin(bench, NULL));
}

static void pin_too_many_is_refused(void **state)
{
	struct bench *bench = *state;

	for (int i = 0; i < KAS_PINS; i++)
		assert_true(pin(bench, &bench->objects[i]));
	assert_false(pin(bench, &bench->objects[KAS_PINS]));
	assert_false(is_pinned(&bench->board, &bench->objects[KAS_PINS]));
	assert_false(kas_unpin(&bench->pins, &bench->objects[KAS_PINS]));
	for (int i = 0; i < KAS_PINS; i++)
		assert_true(is_pinned(&bench->board, &bench->objects[i]));
}

/* In steps of 1, 3, 5 and 7, which are prime to the number of pins. */
static void pins_are_released_in_any_order(void **state)
{
	struct bench *bench = *state;

	for (unsigned step = 1; step < KAS_PINS; step += 2) {
		unsigned at = 0;

		for (unsigned i = 0; i < KAS_PINS; i++)
			assert_true(pin(bench, &bench->objects[i]));
		for (unsigned i = 0; i < KAS_PINS; i++, at = (at + step) % KAS_PINS) {
			assert_int_equal(atomic_load(&bench->pins.releases[at]), step / 2);
			assert_true(is_pinned(&bench->board, &bench->objects[at]));
			assert_true(kas_unpin(&bench->pins, &bench->objects[at]));
			assert_false(is_pinned(&bench->board, &bench->objects[at]));
			assert_false(kas_unpin(&bench->pins, &bench->objects[at]));
			assert_int_equal(atomic_load(&bench->pins.releases[at]), step / 2 + 1);
		}
	}
}

static void object_pinned_twice_is_so_until_both_are_released(void **state)
{
	struct bench *bench = *state;

	assert_true(pin(bench, &bench->objects[0]));
	assert_true(pin(bench, &bench->objects[0]));
	assert_true(kas_unpin(&bench->pins, &bench->objects[0]));
	assert_true(is_pinned(&bench->board, &bench->objects[0]));
	assert_int_equal(atomic_load(&bench->pins.releases[0]), 1);
	assert_int_equal(atomic_load(&bench->pins.releases[1]), 0);
	assert_true(kas_unpin(&bench->pins, &bench->objects[0]));
	assert_false(is_pinned(&bench->board, &bench->objects[0]));
	assert_int_equal(atomic_load(&bench->pins.releases[1]), 1);
}

static void pins_of_all_threads_are_seen(void **state)
{
	struct bench *bench = *state;
	struct pins others[3] = {0};

	for (unsigned i = 0; i < LENGTH(others); i++) {
		bool full;

		kas_pins_add(&bench->board, &others[i]);
		atomic_store(&bench->published.object, &bench->objects[i]);
		assert_non_null(kas_pin(&others[i], &bench->published, &full));
	}
	for (unsigned i = 0; i < LENGTH(others); i++) {
		assert_true(is_pinned(&bench->board, &bench->objects[i]));
		kas_unpin(&others[i], &bench->objects[i]);
		kas_pins_del(&others[i]);
		assert_false(is_pinned(&bench->board, &bench->objects[i]));
	}
}

/* ---- the race ---- */

/* Glances enough for another processor to hear of an end. */
enum { NLOOKERS = 2, NOBJECTS = 8, NGLANCES = 1000 };

struct race {
	struct pinboard board;
	struct published published;
	struct object objects[NOBJECTS];
	atomic_bool ended[NOBJECTS];
	atomic_bool stop;
	atomic_ulong looks;
	atomic_ulong early; /* ended though pinned */
};

static void *look_on(void *data)
{
	struct race *race = data;
	struct pins pins = {0};
	unsigned long looks = 0;

	kas_pins_add(&race->board, &pins);
	while (!atomic_load_explicit(&race->stop, memory_order_relaxed)) {
		bool full;
		struct object *object = kas_pin(&pins, &race->published, &full);
		const atomic_bool *ended = &race->ended[object - race->objects];

		for (int i = 0; i < NGLANCES; i++) {
			if (!atomic_load_explicit(ended, memory_order_relaxed))
				continue;
			atomic_fetch_add(&race->early, 1);
			break;
		}
		kas_unpin(&pins, object);
		looks++;
	}
	kas_pins_del(&pins);
	atomic_fetch_add(&race->looks, looks);
	return NULL;
}

/* As kas_reclaim does: who is ended is not published, and nobody has it pinned. */
static bool may_end(struct race *race, const struct object *object)
{
	const struct object *held;
	struct pins *pins;
	unsigned i;

	kas_pinboard_for_each(&race->board, pins, i, held)
	{
		if (held == object)
			return false;
	}
	return true;
}

static void end_unpinned(struct race *race, unsigned published)
{
	for (unsigned i = 0; i < NOBJECTS; i++) {
		if (i != published && !atomic_load(&race->ended[i]) &&
		    may_end(race, &race->objects[i]))
			atomic_store(&race->ended[i], true);
	}
}

/* Publish one that had ended, if there is any, and end what was published. */
static unsigned take_away(struct race *race, unsigned now)
{
	unsigned next = now;

	for (unsigned i = 1; next == now && i < NOBJECTS; i++) {
		if (atomic_load(&race->ended[(now + i) % NOBJECTS]))
			next = (now + i) % NOBJECTS;
	}
	atomic_store(&race->ended[next], false);
	atomic_store(&race->published.object, &race->objects[next]);
	if (kas_pinboard_lock(&race->board))
		end_unpinned(race, next);
	kas_pinboard_unlock(&race->board);
	return next;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void run_race(struct race *race, double seconds)
{
	pthread_t threads[NLOOKERS];
	unsigned long steps = 0;
	unsigned at = 0;
	double end = now() + seconds;

	for (unsigned i = 1; i < NOBJECTS; i++)
		atomic_init(&race->ended[i], true);
	atomic_store(&race->published.object, &race->objects[0]);
	for (int i = 0; i < NLOOKERS; i++)
		must(pthread_create(&threads[i], NULL, look_on, race));
	for (; steps % 64 || now() < end; steps++)
		at = take_away(race, at);
	atomic_store(&race->stop, true);
	for (int i = 0; i < NLOOKERS; i++)
		must(pthread_join(threads[i], NULL));
	print_message("%lu looks, %lu taken away, %lu too early\n", atomic_load(&race->looks),
		      steps, atomic_load(&race->early));
}

static double seconds(void)
{
	const char *text = getenv("KVMAS_SECONDS");

	return text ? strtod(text, NULL) : 1;
}

static void race(bool fenced)
{
	struct race *race = calloc(1, sizeof(*race));

	assert_non_null(race);
	kas_pinboard_init(&race->board);
	atomic_store(&race->board.fenced, fenced || atomic_load(&race->board.fenced));
	run_race(race, seconds());
	assert_true(atomic_load(&race->looks) > 0);
	assert_int_equal(atomic_load(&race->early), 0);
	kas_pinboard_fini(&race->board);
	free(race);
}

static void nothing_ends_that_is_pinned(void **state)
{
	(void)state;
	race(false);
}

/* The same as where membarrier(2) is refused from the start. */
static void nothing_ends_that_is_pinned_by_fences(void **state)
{
	(void)state;
	race(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pin_of_nothing_uses_no_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pin_too_many_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pins_are_released_in_any_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(object_pinned_twice_is_so_until_both_are_released,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(pins_of_all_threads_are_seen, set_up, tear_down),
		cmocka_unit_test(nothing_ends_that_is_pinned),
		cmocka_unit_test(nothing_ends_that_is_pinned_by_fences),
	};

	return cmocka_run_group_tests_name("pins", tests, NULL, NULL);
}

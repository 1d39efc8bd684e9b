/* SPDX-License-Identifier: MIT */
/*
 * What happens to a published object between the two looks of a pin (pins.h): the compiler's fence
 * that stands there, and does nothing at run time, is where these tests do theirs.
 */
#include <stdatomic.h>
#include <time.h>

#include "fixture.h"

static void be_between(void);

#undef atomic_signal_fence
#define atomic_signal_fence(order) be_between()

#include "object.h"
#include "pins.h"

struct bench {
	struct pinboard board;
	struct pins pins;
	struct published published;
	struct object objects[2];
	void (*between)(struct bench *bench); /* called once */
	pthread_t waiter;
};

static struct bench *bench_of_now; /* the fence has no argument */

static void be_between(void)
{
	void (*between)(struct bench * bench) = bench_of_now->between;

	bench_of_now->between = NULL;
	if (between)
		between(bench_of_now);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static int set_up(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	if (!bench)
		return -1;
	kas_pinboard_init(&bench->board);
	atomic_store(&bench->board.fenced, false);
	kas_pins_add(&bench->board, &bench->pins);
	atomic_store(&bench->published.object, &bench->objects[0]);
	bench_of_now = bench;
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

static void *wait_for_pins(void *data)
{
	struct bench *bench = data;

	return kas_pinboard_wait(&bench->board) ? bench : NULL;
}

static void start_waiter(struct bench *bench)
{
	must(pthread_create(&bench->waiter, NULL, wait_for_pins, bench));
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static void assert_waiter_returns(struct bench *bench)
{
	struct timespec end;
	void *failed;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 10;
	must(pthread_timedjoin_np(bench->waiter, &failed, &end));
	assert_null(failed);
}

static void publish_another(struct bench *bench)
{
	atomic_store(&bench->published.object, &bench->objects[1]);
}

static void pin_is_of_what_was_published_meanwhile(void **state)
{
	struct bench *bench = *state;
	bool full;

	bench->between = publish_another;
	assert_ptr_equal(kas_pin(&bench->pins, &bench->published, &full), &bench->objects[1]);
	assert_ptr_equal(atomic_load(&bench->pins.held[0]), &bench->objects[1]);
	assert_true(kas_unpin(&bench->pins, &bench->objects[1]));
	assert_null(atomic_load(&bench->pins.held[0]));
}

static void take_away(struct bench *bench)
{
	atomic_store(&bench->published.object, NULL);
}

static void pin_of_what_was_taken_away_meanwhile_holds_nothing(void **state)
{
	struct bench *bench = *state;
	bool full;

	bench->between = take_away;
	assert_null(kas_pin(&bench->pins, &bench->published, &full));
	assert_false(full);
	assert_null(atomic_load(&bench->pins.held[0]));
	assert_null(atomic_load(&bench->pins.held[0]));
}

static void publish_another_and_wait(struct bench *bench)
{
	publish_another(bench);
	start_waiter(bench);
}

static void wait_meanwhile_is_for_the_release(void **state)
{
	struct bench *bench = *state;
	bool full;

	bench->between = publish_another_and_wait;
	kas_unpin(&bench->pins, kas_pin(&bench->pins, &bench->published, &full));
	assert_waiter_returns(bench);
}

static void take_away_and_wait(struct bench *bench)
{
	take_away(bench);
	start_waiter(bench);
}

/* It was seen, and is never released. */
static void wait_meanwhile_ends_though_the_pin_came_to_nothing(void **state)
{
	struct bench *bench = *state;
	bool full;

	bench->between = take_away_and_wait;
	assert_null(kas_pin(&bench->pins, &bench->published, &full));
	assert_waiter_returns(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pin_is_of_what_was_published_meanwhile, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(pin_of_what_was_taken_away_meanwhile_holds_nothing,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(wait_meanwhile_is_for_the_release, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(wait_meanwhile_ends_though_the_pin_came_to_nothing,
						set_up, tear_down),
	};

	return cmocka_run_group_tests_name("pins-between", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Random stores among random event channels, each compared with a model: see channel-model.h.
 *
 * KVMAS_SEED and KVMAS_STEPS set the run; each world's seed is the one before plus 1. A run that
 * fails says how its world is repeated alone.
 */
#include "channel-model.h"

#include <inttypes.h>

enum { WORLD_STEPS = 400, DEFAULT_STEPS = 20000 };

static void run_world(struct choices choices, unsigned nsteps, void *tally)
{
	struct channel_world *w = channel_world_new(choices, tally);

	for (unsigned i = 0; i < nsteps; i++)
		channel_world_step(w);
	channel_world_free(w);
}

/* What a long run must have met. */
static void check_tally(const struct channel_tally *tally)
{
	uint64_t some = tally->steps / 1000;

	assert_true(tally->commits > 50 * some);
	assert_true(tally->failed > 3 * some);
	assert_true(tally->broken > 0);
	assert_true(tally->aborted > some);
	assert_true(tally->refused_edits > 10 * some);
	assert_true(tally->from_callbacks > some);
	assert_true(tally->memory > 10 * some);
	assert_true(tally->nothing > 10 * some);
	assert_true(tally->events_in_kvm > 5 * some);
	assert_true(tally->events_by_hand > 5 * some);
	assert_true(tally->waited > 10 * some);
	assert_true(tally->called > 50 * some);
	assert_true(tally->drains > 10 * some);
	assert_true(tally->dmas > 10 * some);
	assert_true(tally->in_kvm > 50 * some);
	assert_true(tally->by_hand > 50 * some);
}

static void random_stores_do_what_the_model_says(void **state)
{
	static const struct worlds worlds = {WORLD_STEPS, DEFAULT_STEPS, run_world};
	struct channel_tally tally = {0};
	uint64_t nsteps = worlds_run(&worlds, &tally, state);

	print_message("%" PRIu64 " commits, %" PRIu64 " from callbacks, %" PRIu64
		      " failed, %" PRIu64 " not undone, %" PRIu64 " aborted, %" PRIu64
		      " edits refused\n",
		      tally.commits, tally.from_callbacks, tally.failed, tally.broken,
		      tally.aborted, tally.refused_edits);
	print_message("stores to memory %" PRIu64 ", nothing %" PRIu64 ", eventfds %" PRIu64
		      " by KVM and %" PRIu64 " by hand, %" PRIu64 " waited, %" PRIu64
		      " calls, %" PRIu64 " dma, %" PRIu64 " drains\n",
		      tally.memory, tally.nothing, tally.events_in_kvm, tally.events_by_hand,
		      tally.waited, tally.called, tally.dmas, tally.drains);
	print_message("places after all commits: %" PRIu64 " in KVM, %" PRIu64 " by hand\n",
		      tally.in_kvm, tally.by_hand);
	if (nsteps >= DEFAULT_STEPS)
		check_tally(&tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_stores_do_what_the_model_says,
					  worlds_tell_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

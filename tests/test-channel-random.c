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

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_world(uint64_t seed, unsigned nsteps, struct channel_tally *tally)
{
	struct choices choices = {.random = seed * UINT64_C(0x9e3779b97f4a7c15)};
	struct channel_world *w = channel_world_new(choices, tally);

	for (unsigned i = 0; i < nsteps; i++)
		channel_world_step(w);
	channel_world_free(w);
}

static int tell_failure(void **state)
{
	const uint64_t *seed = *state;

	if (seed)
		print_error("to repeat: KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%d\n", *seed,
			    WORLD_STEPS);
	return 0;
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
	uint64_t nsteps = number_from("KVMAS_STEPS", DEFAULT_STEPS);
	static uint64_t seed; /* which the teardown looks at */
	struct channel_tally tally = {0};

	seed = number_from("KVMAS_SEED", 1);
	print_message("KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%" PRIu64 "\n", seed, nsteps);
	*state = &seed;
	for (uint64_t done = 0; done < nsteps; done += WORLD_STEPS, seed++)
		run_world(seed, nsteps - done < WORLD_STEPS ? nsteps - done : WORLD_STEPS, &tally);
	*state = NULL;
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
		cmocka_unit_test_teardown(random_stores_do_what_the_model_says, tell_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

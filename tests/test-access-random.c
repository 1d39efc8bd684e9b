/* SPDX-License-Identifier: MIT */
/*
 * Random accesses to random maps of random devices, each compared byte by byte with a model: see
 * access-model.h.
 *
 * KVMAS_SEED and KVMAS_STEPS set the run; each world's seed is the one before plus 1. A run that
 * fails says how its world is repeated alone.
 */
#include "access-model.h"

#include <inttypes.h>
#include <stdio.h>

enum { WORLD_STEPS = 200, DEFAULT_STEPS = 60000 };

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_world(uint64_t seed, unsigned nsteps, struct access_tally *tally)
{
	struct choices choices = {.random = seed * UINT64_C(0x9e3779b97f4a7c15)};
	struct access_world *w = access_world_new(choices, tally);

	for (unsigned i = 0; i < nsteps; i++)
		access_world_step(w);
	access_world_free(w);
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
static void check_tally(const struct access_tally *tally)
{
	static const int errors[] = {ENXIO, EROFS, EINVAL, ENODEV, EPERM};
	uint64_t some = tally->accesses / 1000;

	for (size_t i = 0; i < LENGTH(errors); i++)
		assert_true(tally->errors[errors[i]] > some);
	assert_true(tally->inner_errors[EBUSY] > some);
	assert_true(tally->inner_errors[ELOOP] > some);
	assert_true(tally->errors[0] > tally->accesses / 2);
	assert_true(tally->refused > 50 * some);
	assert_true(tally->unassigned > 50 * some);
	assert_true(tally->partial > 10 * some);
	assert_true(tally->calls > tally->accesses / 2);
	assert_true(tally->widened > 50 * some);
	assert_true(tally->inner > 50 * some);
	assert_true(tally->dirtied > 50 * some);
}

static void random_accesses_do_what_the_model_says(void **state)
{
	uint64_t nsteps = number_from("KVMAS_STEPS", DEFAULT_STEPS);
	static uint64_t seed; /* which the teardown looks at */
	struct access_tally tally = {0};

	seed = number_from("KVMAS_SEED", 1);
	print_message("KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%" PRIu64 "\n", seed, nsteps);
	*state = &seed;
	for (uint64_t done = 0; done < nsteps; done += WORLD_STEPS, seed++)
		run_world(seed, nsteps - done < WORLD_STEPS ? nsteps - done : WORLD_STEPS, &tally);
	*state = NULL;
	print_message("%" PRIu64 " accesses, %" PRIu64 " edits, %" PRIu64 " calls, %" PRIu64
		      " of them widened, %" PRIu64 " accesses from inside, %" PRIu64
		      " refused, %" PRIu64 " unassigned, %" PRIu64 " cut at an odd byte\n",
		      tally.accesses, tally.edits, tally.calls, tally.widened, tally.inner,
		      tally.refused, tally.unassigned, tally.partial);
	for (int err = 0; err < (int)LENGTH(tally.errors); err++) {
		if (tally.errors[err] + tally.inner_errors[err])
			print_message("error %d: %" PRIu64 ", from inside %" PRIu64 "\n", err,
				      tally.errors[err], tally.inner_errors[err]);
	}
	if (nsteps >= DEFAULT_STEPS)
		check_tally(&tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_accesses_do_what_the_model_says, tell_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

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

static void run_world(struct choices choices, unsigned nsteps, void *tally)
{
	struct access_world *w = access_world_new(choices, tally);

	for (unsigned i = 0; i < nsteps; i++)
		access_world_step(w);
	access_world_free(w);
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
	static const struct worlds worlds = {WORLD_STEPS, DEFAULT_STEPS, run_world};
	struct access_tally tally = {0};
	uint64_t nsteps = worlds_run(&worlds, &tally, state);

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
		cmocka_unit_test_teardown(random_accesses_do_what_the_model_says,
					  worlds_tell_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Random steps on the library and on a model of it, side by side (model.h), in many runs that each
 * begin with a tree of another size.
 *
 * KVMAS_SEED is the first run's seed, and each run's is the one before plus 1. There are KVMAS_RUNS
 * runs, or as many as it takes for KVMAS_STEPS steps. With KVMAS_VERBOSE each step is printed. A
 * run that fails says how it is repeated alone.
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>

/* The run is left in *current* until it is over, so that a failure can be told. */
static void run(uint64_t seed, struct tally *tally, struct model **current)
{
	struct choices choices = {.random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15)};
	struct model *m = model_new(seed, choices, tally);
	uint64_t nsteps = 200 + draw(m, 20 * m->nregions + 1000);

	*current = m;
	while (m->nsteps < nsteps && model_step(m))
		;
	model_free(m);
	*current = NULL;
}

static int tell_failure(void **state)
{
	const struct model *m = *state;

	if (m)
		print_error("to repeat: KVMAS_SEED=%" PRIu64
			    " KVMAS_RUNS=1 KVMAS_VERBOSE=1, it failed in step %" PRIu64 "\n",
			    m->seed, m->nsteps);
	return 0;
}

/* What a long run must have met, in thousandths of its steps. */
static void check_shares(const struct tally *tally)
{
	static const int errnos[] = {EINVAL, EEXIST, ENOENT, ELOOP,    EXDEV,
				     ENOMEM, E2BIG,  EBUSY,  ECANCELED};

	for (unsigned i = 0; i < LENGTH(errnos); i++) {
		if (tally_share(tally, NSTEPS, errnos[i]) < 10)
			fail_msg("too few calls returned errno %d", errnos[i]);
	}
	for (unsigned i = 0; i < NSTEPS; i++) {
		if (tally_share(tally, i, 0) < 10)
			fail_msg("too few calls of %s", step_at(i)->name);
	}
	assert_true(tally->publishing * 3 > tally->commits);
	assert_true(tally->largest >= 100);
}

static void random_steps_agree_with_the_model(void **state)
{
	uint64_t seed = number_from("KVMAS_SEED", 1);
	uint64_t nruns = number_from("KVMAS_RUNS", UINT64_MAX);
	uint64_t nsteps = number_from("KVMAS_STEPS", 200000);
	struct tally tally = {0};

	while (tally.runs < nruns && tally.steps < nsteps)
		run(seed++, &tally, (struct model **)state);
	tally_print(&tally);
	if (tally.steps >= 100000)
		check_shares(&tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_steps_agree_with_the_model, tell_failure),
	};

	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}

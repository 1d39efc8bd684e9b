/* SPDX-License-Identifier: MIT */
/*
 * Random sequences over the public interface, on a double of KVM that fails at random: see
 * kvm-model.h. After every step the tables are what the double has, and, unless KVM has refused an
 * undoing, the slots are what the views show, as policies and boundaries say. A step that failed
 * has changed nothing.
 *
 * KVMAS_SEED and KVMAS_STEPS set the run; each world's seed is the one before plus 1. A run that
 * fails says how its world is repeated alone.
 */
#include "kvm-model.h"

#include <inttypes.h>
#include <stdio.h>

enum { WORLD_STEPS = 400, DEFAULT_STEPS = 30000 };

static void run_world(struct choices choices, unsigned nsteps, void *tally)
{
	struct world *w = world_new(choices, tally);

	for (unsigned i = 0; i < nsteps; i++)
		world_step(w);
	world_free(w);
}

/* What a long run must have met. */
static void check_tally(const struct kvm_tally *tally)
{
	unsigned some = tally->steps / 1000;

	assert_true(tally->changed > tally->steps / 10);
	assert_true(tally->failed > 10 * some);
	assert_true(tally->refused > some / 2);
	assert_true(tally->broken > some);
	assert_true(tally->repaired > some);
	assert_true(tally->moves > 10 * some);
	assert_true(tally->merges > some);
	assert_true(tally->stops > 10 * some);
	assert_true(tally->torn > 10 * some);
	assert_true(tally->taken > tally->steps / 2);
	assert_true(tally->runs > 3 * some);
	assert_true(tally->put_back > 2 * some);
	assert_true(tally->refused_takes > some / 3);
	assert_true(tally->cleared > 10 * some);
	assert_true(tally->full > some / 10);
}

static void random_steps_keep_slots_in_step_and_lose_no_page(void **state)
{
	static const struct worlds worlds = {WORLD_STEPS, DEFAULT_STEPS, run_world};
	struct kvm_tally tally = {0};

	worlds_run(&worlds, &tally, state);
	print_message(
		"%u steps, %u commits, %u of them changed slots, with %u moves, %u stops, "
		"%u that tore and %u that merged; %u failed, %u as foretold, %u left slots and "
		"views apart, %u were repaired; %" PRIu64 " pages taken, %u runs of them handed "
		"out, %u put back, %u takes refused, %u clears, %u rings full\n",
		tally.steps, tally.commits, tally.changed, tally.moves, tally.stops, tally.torn,
		tally.merges, tally.failed, tally.refused, tally.broken, tally.repaired,
		tally.taken, tally.runs, tally.put_back, tally.refused_takes, tally.cleared,
		tally.full);
	if (tally.steps >= DEFAULT_STEPS)
		check_tally(&tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_steps_keep_slots_in_step_and_lose_no_page,
					  worlds_tell_failure),
	};

	return cmocka_run_group_tests_name("kvm-model", tests, NULL, NULL);
}

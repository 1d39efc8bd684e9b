/* SPDX-License-Identifier: MIT */
/*
 * All or nothing, through the public interface: each scenario (kvm-scenarios.c) is run with each of
 * its ioctls refused, with each errno and with results that KVM never gives; with everything
 * refused from there on; with the undoing refused at one step; with vCPUs that cannot be held out;
 * with listeners that refuse; and with each of its allocations failing. Whoever agreed is told what
 * became of it.
 */
#include "kvm-attempt.h"

#include <limits.h>

/* ---- refusals ---- */

/* What the hook returns, and what the commit then does. */
static const struct {
	int result;
	int commit;
} verdicts[] = {
	{-ENOMEM, -ENOMEM},
	{-EEXIST, -EEXIST},
	{-EINVAL, -EINVAL},
	{-ENOSPC, -ENOSPC},
	{-EIO, -EIO},
	{-EPROTO, -EPROTO},
	{-4095, -4095},
	{1, -EPROTO},
	{INT_MAX, -EPROTO},
	{-4096, -EPROTO},
	{-100000, -EPROTO},
	{INT_MIN, -EPROTO},
	{-ENOTRECOVERABLE, -EPROTO},
};

/* Whether there was a k-th ioctl. A log that cannot be read counts as all dirty. */
static bool refuse_one(const struct scenario *scenario, unsigned k, unsigned verdict)
{
	struct refusal refusal = {.first = k, .result = verdicts[verdict].result};
	struct attempt *t = begin_attempt(scenario);
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	if (!refusal.hits || refusal.first_is_log) {
		assert_attempt(t, result == 0, k, "fails for no reason");
		assert_as_planned(t, k);
	} else {
		assert_attempt(t, result == verdicts[verdict].commit, k, "gives another errno");
		assert_as_before(t, k);
		assert_goes_on(t, k);
	}
	end_attempt(t);
	return refusal.hits;
}

static void refused_ioctl_changes_nothing(void **state)
{
	unsigned nruns = 0;

	(void)state;
	for (size_t i = 0; i < nscenarios; i++) {
		for (unsigned v = 0; v < LENGTH(verdicts); v++) {
			unsigned k = 1;

			while (refuse_one(&scenarios[i], k, v))
				k++;
			if (k == 1)
				fail_msg("%s issues no ioctl", scenarios[i].name);
			nruns += k;
		}
	}
	print_message("%u runs\n", nruns);
}

static bool refuse_from(const struct scenario *scenario, unsigned k)
{
	struct refusal refusal = {.first = k, .second = UINT_MAX, .result = -ENOSPC};
	struct attempt *t = begin_attempt(scenario);
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	if (refusal.hits == refusal.logs) {
		assert_attempt(t, result == 0, k, "fails for no reason");
	} else if (!has_moved(t->m)) {
		assert_attempt(t, result == -ENOSPC, k, "gives another errno");
		assert_as_before(t, k);
	} else {
		assert_attempt(t, result == -ENOTRECOVERABLE, k, "gives another errno");
		assert_is_repaired(t, k);
	}
	end_attempt(t);
	return refusal.hits;
}

static void refused_undo_is_enotrecoverable_until_the_next_commit(void **state)
{
	(void)state;
	for (size_t i = 0; i < nscenarios; i++) {
		for (unsigned k = 1; refuse_from(&scenarios[i], k);)
			k++;
	}
}

/* How many of the two were reached. */
static unsigned refuse_undo_step(const struct scenario *scenario, unsigned first, unsigned second)
{
	struct refusal refusal = {.first = first, .second = second, .result = -ENOMEM};
	struct attempt *t = begin_attempt(scenario);
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	if (refusal.hits == 0 || refusal.first_is_log) {
		assert_attempt(t, result == 0 || result == -ENOMEM, first, "gives another errno");
	} else if (refusal.hits == 2 && !refusal.second_is_log) {
		assert_attempt(t, result == -ENOTRECOVERABLE, first,
			       "undoing was refused unnoticed");
		assert_is_repaired(t, first);
	} else {
		assert_attempt(t, result == -ENOMEM, first, "gives another errno");
		assert_as_before(t, first);
	}
	end_attempt(t);
	return refusal.hits;
}

/* Undoing goes on after what was refused: each step by itself may be the one. */
static void tables_follow_when_one_step_of_the_undoing_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < nscenarios; i++) {
		unsigned first = 0;
		unsigned second;

		do {
			second = ++first + 1;
			while (refuse_undo_step(&scenarios[i], first, second) == 2)
				second++;
		} while (refuse_undo_step(&scenarios[i], first, 0));
	}
}

/* ---- who refuses before KVM is asked ---- */

static void vcpus_that_cannot_be_held_out_fail_the_commit(void **state)
{
	unsigned nrefused = 0;

	(void)state;
	for (unsigned i = 0; i < nscenarios; i++) {
		struct attempt *t = begin_attempt(&scenarios[i]);
		int result;

		t->m->pause_result = -EAGAIN;
		result = scenario_run(t->scenario, t->m);
		t->m->pause_result = 0;
		if (result) {
			assert_attempt(t, result == -EAGAIN, 0, "gives another errno");
			assert_attempt(t, t->m->nioctls == 0, 0, "an ioctl came first");
			assert_as_before(t, 0);
			assert_goes_on(t, 0);
			assert_int_equal(t->m->npauses, 1);
			nrefused++;
		}
		assert_attempt(t, machine_wrong(t->m) == NULL, 0, "is wrong at the end");
		end_attempt(t);
	}
	assert_true(nrefused > nscenarios / 3);
}

/* The first listener, or the last, or both. */
static void veto_of_a_listener_leaves_kvm_alone(void **state)
{
	unsigned nrefused = 0;

	(void)state;
	for (unsigned i = 0; i < 2 * nscenarios; i++) {
		struct attempt *t = begin_attempt(&scenarios[i / 2]);
		int result;

		t->judges[i % 2].verdict = -EPERM;
		result = scenario_run(t->scenario, t->m);
		t->judges[i % 2].verdict = 0;
		if (result) {
			assert_attempt(t, result == -EPERM, i % 2, "gives another errno");
			assert_attempt(t, t->m->nioctls == 0 && t->m->npauses == 0, i % 2,
				       "KVM or vCPUs were bothered");
			assert_as_before(t, i % 2);
			assert_goes_on(t, i % 2);
			nrefused++;
		}
		end_attempt(t);
	}
	assert_true(nrefused > nscenarios / 2);
}

static void abort_and_dry_run_change_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nscenarios; i++) {
		struct attempt *t = begin_attempt(&scenarios[i]);
		char *plan = scenario_foretell(t->scenario, t->m);

		assert_string_equal(plan, t->plan);
		free(plan);
		assert_attempt(t, t->m->nioctls == 0 && t->m->npauses == 0, 0,
			       "KVM or vCPUs were bothered");
		assert_as_before(t, 0);
		assert_goes_on(t, 0);
		end_attempt(t);
	}
}

/* ---- allocations ---- */

static bool starve_one(const struct scenario *scenario, unsigned k, enum way way)
{
	struct attempt *t = begin_attempt(scenario);
	bool failed = starve_attempt(t, k, way);

	end_attempt(t);
	return failed;
}

static void failed_allocation_comes_before_the_first_ioctl(void **state)
{
	(void)state;
	for (size_t i = 0; i < nscenarios * NWAYS; i++) {
		const struct scenario *scenario = &scenarios[i / NWAYS];
		enum way way = (enum way)(i % NWAYS);
		unsigned k = 1;

		while ((way != ALONE || scenario->single) && starve_one(scenario, k, way))
			k++;
		assert_true(k > 1 || way == ALONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_ioctl_changes_nothing),
		cmocka_unit_test(refused_undo_is_enotrecoverable_until_the_next_commit),
		cmocka_unit_test(tables_follow_when_one_step_of_the_undoing_is_refused),
		cmocka_unit_test(vcpus_that_cannot_be_held_out_fail_the_commit),
		cmocka_unit_test(veto_of_a_listener_leaves_kvm_alone),
		cmocka_unit_test(abort_and_dry_run_change_nothing),
		cmocka_unit_test(failed_allocation_comes_before_the_first_ioctl),
	};

	return cmocka_run_group_tests_name("apply", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * No page is forgotten, whatever fails: each scenario (kvm-scenarios.c), with all its slots logged
 * in each of the four ways, is run with each of its ioctls refused, and with each of its
 * allocations failing, while a guest writes before and between whenever it is not held. Afterwards
 * the state is agreed, and each client finds all that was written since it last took.
 */
#include "kvm-attempt.h"

#include <limits.h>

static const enum kvmas_kvm_log logs[] = {
	KVMAS_KVM_LOG_AUTO,
	KVMAS_KVM_LOG_MANUAL,
	KVMAS_KVM_LOG_MANUAL_SET,
	KVMAS_KVM_LOG_RING,
};

static const int errors[] = {ENOMEM, EFAULT, ENOENT, EINTR};

/* ---- without a fault ---- */

/* What a log tells besides is what a slot that is made under MANUAL_SET is dirty with. */
static void nothing_is_lost_and_nothing_is_told_that_nobody_wrote(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nloggable * LENGTH(logs); i++) {
		enum kvmas_kvm_log log = logs[i % LENGTH(logs)];
		struct attempt *t = begin_logged_attempt(&scenarios[i / LENGTH(logs)], log);

		assert_attempt(t, scenario_run(t->scenario, t->m) == 0, log, "fails");
		assert_as_planned(t, log);
		assert_attempt(t,
			       t->ledger->nwritten > 0 || !strcmp(t->scenario->name, "initial map"),
			       log, "nobody wrote");
		if (log == KVMAS_KVM_LOG_MANUAL_SET)
			ledger_assert_settled(t->ledger, t->scenario->name, log);
		else
			ledger_assert_exact(t->ledger, t->scenario->name, log);
		ledger_write_some(t->ledger, 0, 2);
		ledger_assert_exact(t->ledger, t->scenario->name, log);
		ledger_assert_exact(t->ledger, t->scenario->name, log);
		end_attempt(t);
	}
}

/* ---- refused ioctls ---- */

/* Whether there was a k-th ioctl. */
static bool refuse_one(const struct scenario *scenario, enum kvmas_kvm_log log, unsigned k,
		       int error)
{
	struct attempt *t = begin_logged_attempt(scenario, log);
	struct refusal refusal = {.first = k, .result = -error};
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	machine_refuse(t->m, NULL);
	if (refusal.hits == refusal.logs) {
		assert_attempt(t, result == 0, k, "fails for no reason");
		assert_as_planned(t, k);
		ledger_assert_settled(t->ledger, scenario->name, k);
	} else {
		assert_attempt(t, result == -error, k, "gives another errno");
		assert_as_before(t, k);
		ledger_write_some(t->ledger, 0, 1);
		ledger_assert_settled(t->ledger, scenario->name, k);
		ledger_write_some(t->ledger, 0, 2);
		assert_goes_on(t, k);
		ledger_assert_settled(t->ledger, scenario->name, k);
	}
	end_attempt(t);
	return refusal.hits;
}

static void refused_ioctl_loses_no_page(void **state)
{
	unsigned nruns = 0;

	(void)state;
	for (unsigned i = 0; i < nloggable * LENGTH(logs) * LENGTH(errors); i++) {
		const struct scenario *scenario = &scenarios[i / LENGTH(errors) / LENGTH(logs)];
		unsigned k = 1;

		while (refuse_one(scenario, logs[i / LENGTH(errors) % LENGTH(logs)], k,
				  errors[i % LENGTH(errors)]))
			k++;
		nruns += k;
	}
	print_message("%u runs\n", nruns);
}

/* From the k-th on none is granted: no log can be read, and nothing undone. */
static bool refuse_from(const struct scenario *scenario, enum kvmas_kvm_log log, unsigned k)
{
	struct attempt *t = begin_logged_attempt(scenario, log);
	struct refusal refusal = {.first = k, .second = UINT_MAX, .result = -ENOMEM};
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	machine_refuse(t->m, NULL);
	assert_attempt(t, !result == (refusal.hits == refusal.logs), k, "fails for no reason");
	if (result == -ENOTRECOVERABLE)
		assert_is_repaired(t, k);
	else if (result)
		assert_as_before(t, k);
	ledger_write_some(t->ledger, 0, 1);
	ledger_assert_settled(t->ledger, scenario->name, k);
	end_attempt(t);
	return refusal.hits;
}

static void undoing_that_is_refused_loses_no_page(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nloggable * LENGTH(logs); i++) {
		unsigned k = 1;

		while (refuse_from(&scenarios[i / LENGTH(logs)], logs[i % LENGTH(logs)], k))
			k++;
	}
}

/* ---- allocations ---- */

static bool starve_one(const struct scenario *scenario, enum kvmas_kvm_log log, unsigned k,
		       enum way way)
{
	struct attempt *t = begin_logged_attempt(scenario, log);
	bool failed = starve_attempt(t, k, way);

	ledger_assert_settled(t->ledger, scenario->name, k);
	end_attempt(t);
	return failed;
}

/* Of a dry run nothing is logged. */
static void failed_allocation_comes_before_the_first_ioctl(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nloggable * LENGTH(logs); i++) {
		unsigned k = 1;

		while (starve_one(&scenarios[i / LENGTH(logs)], logs[i % LENGTH(logs)], k, WHOLE))
			k++;
		assert_true(k > 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_and_nothing_is_told_that_nobody_wrote),
		cmocka_unit_test(refused_ioctl_loses_no_page),
		cmocka_unit_test(undoing_that_is_refused_loses_no_page),
		cmocka_unit_test(failed_allocation_comes_before_the_first_ioctl),
	};

	return cmocka_run_group_tests_name("log-apply", tests, NULL, NULL);
}

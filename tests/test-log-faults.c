/* SPDX-License-Identifier: MIT */
/*
 * No page is forgotten, whatever fails: what clients and the VMM do with dirty pages
 * (log-scenarios.c), in each of the four ways of logging, with each ioctl refused with each errno,
 * and each allocation failing; the guest writes before, between and after.
 */
#include "kvm-scenarios.h"
#include "log-scenarios.h"

#include <limits.h>

static const int errors[] = {ENOMEM, EFAULT, ENOENT, EINTR};

struct run {
	const struct log_scenario *scenario;
	struct ledger ledger;
	char *state;
	struct fake_kvm *before;
	unsigned k;
};

static bool has_log(const struct log_scenario *scenario, enum kvmas_kvm_log log)
{
	return scenario->logs >> log & 1;
}

static void begin(struct run *run, const struct log_scenario *scenario, enum kvmas_kvm_log log,
		  unsigned k)
{
	*run = (struct run){.scenario = scenario, .k = k};
	log_scenario_prepare(&run->ledger, log);
	run->state = machine_text(run->ledger.m);
	run->before = fake_kvm_snapshot(run->ledger.m->vm);
}

static void end(struct run *run)
{
	ledger_close(&run->ledger);
	machine_free(run->ledger.m);
	fake_kvm_free(run->before);
	free(run->state);
}

static void assert_run(const struct run *run, bool holds, const char *what)
{
	if (!holds)
		fail_msg("%s, %u: %s", run->scenario->name, run->k, what);
}

static void assert_as_before(struct run *run)
{
	char *state = machine_text(run->ledger.m);

	assert_run(run, fake_kvm_equal_slots(run->ledger.m->vm, run->before), "other slots");
	assert_run(run, strcmp(state, run->state) == 0, "another state");
	free(state);
}

/* Nothing is lost, and the machine is right, at once and after more has been written. */
static void assert_settled(struct run *run)
{
	const char *wrong = machine_wrong(run->ledger.m);

	assert_run(run, wrong == NULL, wrong);
	assert_run(run, !run->ledger.m->paused, "vCPUs are still held out");
	ledger_write_some(&run->ledger, 0, 1);
	ledger_assert_settled(&run->ledger, run->scenario->name, run->k);
	ledger_write_some(&run->ledger, 0, 3);
	ledger_assert_settled(&run->ledger, run->scenario->name, run->k);
}

static void nothing_fails_and_nothing_is_lost(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nlog_scenarios * 4; i++) {
		struct run run;
		enum kvmas_kvm_log log = (enum kvmas_kvm_log)(i % 4);

		if (!has_log(&log_scenarios[i / 4], log))
			continue;
		begin(&run, &log_scenarios[i / 4], log, log);
		assert_run(&run, run.ledger.nwritten > 20, "nobody wrote");
		assert_run(&run, run.scenario->run(&run.ledger) >= 0, "fails for no reason");
		if (run.scenario->keeps)
			assert_as_before(&run);
		assert_settled(&run);
		end(&run);
	}
}

/* ---- refused ioctls ---- */

/* From the k-th on as many as are left are refused, or it alone. Whether there was one. */
static bool refuse(const struct log_scenario *scenario, enum kvmas_kvm_log log,
		   struct refusal refusal)
{
	struct run run;
	int64_t result;

	begin(&run, scenario, log, refusal.first);
	machine_refuse(run.ledger.m, &refusal);
	result = scenario->run(&run.ledger);
	machine_refuse(run.ledger.m, NULL);
	assert_run(&run, result >= 0 || refusal.hits, "fails for no reason");
	assert_run(&run, result >= 0 || !scenario->unfailing, "fails");
	assert_run(&run, result >= 0 || result == refusal.result || result == -ENOTRECOVERABLE,
		   "gives another errno");
	/* Of more than one call the first may have been granted. */
	if (scenario->keeps)
		assert_as_before(&run);
	if (result == -ENOTRECOVERABLE) {
		must(kvmas_begin(run.ledger.m->f->kvmas));
		must(kvmas_commit(run.ledger.m->f->kvmas));
	}
	assert_settled(&run);
	end(&run);
	return refusal.hits;
}

static void refuse_all(unsigned second)
{
	for (unsigned i = 0; i < nlog_scenarios * 4 * LENGTH(errors); i++) {
		const struct log_scenario *scenario = &log_scenarios[i / LENGTH(errors) / 4];
		enum kvmas_kvm_log log = (enum kvmas_kvm_log)(i / LENGTH(errors) % 4);
		struct refusal refusal = {
			.first = 1, .second = second, .result = -errors[i % LENGTH(errors)]};

		while (has_log(scenario, log) && refuse(scenario, log, refusal))
			refusal.first++;
	}
}

static void refused_ioctl_loses_no_page(void **state)
{
	(void)state;
	refuse_all(0);
}

static void refused_ioctls_from_one_on_lose_no_page(void **state)
{
	(void)state;
	refuse_all(UINT_MAX);
}

/* ---- allocations ---- */

/* Whether there was a k-th allocation. */
static bool starve(const struct log_scenario *scenario, enum kvmas_kvm_log log, unsigned k)
{
	struct run run;
	struct heap *heap;
	int64_t result;
	bool failed;

	begin(&run, scenario, log, k);
	heap = &run.ledger.m->f->heap;
	heap->failed = false;
	heap->fail_in = k;
	result = scenario->run(&run.ledger);
	heap->fail_in = 0;
	failed = heap->failed;
	assert_run(&run, !failed || !scenario->needs_none, "allocates");
	assert_run(&run, failed ? result == -ENOMEM : result >= 0, "gives another errno");
	if (failed && (scenario->keeps || scenario->single))
		assert_as_before(&run);
	assert_settled(&run);
	end(&run);
	return failed;
}

static void failed_allocation_changes_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nlog_scenarios * 4; i++) {
		const struct log_scenario *scenario = &log_scenarios[i / 4];
		enum kvmas_kvm_log log = (enum kvmas_kvm_log)(i % 4);
		unsigned k = 1;

		while (has_log(scenario, log) && starve(scenario, log, k))
			k++;
		if (k == 1 && !scenario->needs_none && has_log(scenario, log))
			fail_msg("%s allocates nothing", scenario->name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_fails_and_nothing_is_lost),
		cmocka_unit_test(refused_ioctl_loses_no_page),
		cmocka_unit_test(refused_ioctls_from_one_on_lose_no_page),
		cmocka_unit_test(failed_allocation_changes_nothing),
	};

	return cmocka_run_group_tests_name("log-faults", tests, NULL, NULL);
}

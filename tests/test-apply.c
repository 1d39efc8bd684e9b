/* SPDX-License-Identifier: MIT */
/*
 * All or nothing, through the public interface: each scenario (kvm-scenarios.c) is run with each of
 * its ioctls refused, with each errno and with results that KVM never gives; with everything
 * refused from there on; with the undoing refused at one step; with vCPUs that cannot be held out;
 * with listeners that refuse; and with each of its allocations failing. Whoever agreed is told what
 * became of it.
 */
#include "judge.h"
#include "kvm-scenarios.h"

#include <limits.h>

/* ---- one run ---- */

struct trial {
	const struct scenario *scenario;
	struct machine *m;
	struct fake_kvm *before[2]; /* of both ties */
	struct judge judges[NSPACES];
	char *state;
	char *plan;
};

static struct trial *begin_trial(const struct scenario *scenario)
{
	static const char *const names[NSPACES] = {"n", "s"};
	struct trial *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->scenario = scenario;
	t->m = scenario_machine(scenario);
	for (unsigned i = 0; i < NSPACES; i++)
		add_judge(&t->judges[i], t->m->f, t->m->space[i], names[i], 0);
	t->state = machine_text(t->m);
	t->plan = scenario_foretell(scenario, t->m);
	/* The abort in that has left the next commit something to do, if it has memory. */
	must(kvmas_begin(t->m->f->kvmas));
	must(kvmas_commit(t->m->f->kvmas));
	t->before[0] = fake_kvm_snapshot(t->m->vm);
	t->before[1] = t->m->vm2 ? fake_kvm_snapshot(t->m->vm2) : NULL;
	return t;
}

static void assert_trial(const struct trial *t, bool holds, unsigned k, const char *what)
{
	if (!holds)
		fail_msg("%s, %u: %s", t->scenario->name, k, what);
}

static void check_judges(struct trial *t)
{
	for (unsigned i = 0; i < NSPACES; i++)
		assert_judge(&t->judges[i], t->m->space[i]);
}

static void end_trial(struct trial *t)
{
	for (unsigned i = 0; i < NSPACES; i++)
		del_judge(&t->judges[i]);
	free(t->state);
	free(t->plan);
	fake_kvm_free(t->before[0]);
	fake_kvm_free(t->before[1]);
	machine_free(t->m);
	free(t);
}

/* State before is state after: all that machine_text tells, and what the doubles have. */
static void assert_as_before(struct trial *t, unsigned k)
{
	char *state = machine_text(t->m);
	const char *wrong = machine_wrong(t->m);

	assert_trial(t, fake_kvm_equal_slots(t->m->vm, t->before[0]), k, "other slots than before");
	assert_trial(t, !t->m->vm2 || fake_kvm_equal_slots(t->m->vm2, t->before[1]), k,
		     "other slots than before in the second VM");
	if (strcmp(state, t->state) != 0)
		print_error("before:\n%s\nafter:\n%s\n", t->state, state);
	assert_trial(t, strcmp(state, t->state) == 0, k, "another state than before");
	assert_trial(t, wrong == NULL, k, wrong);
	assert_trial(t, !t->m->paused, k, "vCPUs are still held out");
	check_judges(t);
	free(state);
}

/* It went as a dry run had foretold. */
static void assert_as_planned(struct trial *t, unsigned k)
{
	const char *wrong = machine_wrong(t->m);

	assert_trial(t, wrong == NULL, k, wrong);
	if (t->plan)
		assert_string_equal(t->m->traced ? t->m->traced : "", t->plan);
	check_judges(t);
}

/* What was refused is granted now, and does just what it would have done before. */
static void assert_goes_on(struct trial *t, unsigned k)
{
	machine_refuse(t->m, NULL);
	forget_trace(t->m);
	assert_trial(t, scenario_run(t->scenario, t->m) == 0, k, "cannot be repeated");
	assert_as_planned(t, k);
}

/* Outside of transactions a dry run tells what an empty commit will do. */
static char *foretell_repair(struct machine *m)
{
	struct kvmas_kvm_plan plan;
	char *text = dry_run_text(m->kvm, &plan);

	if (m->kvm2) {
		char *second = dry_run_text(m->kvm2, &plan);

		text_add(&text, "%s", second);
		free(second);
	}
	return text;
}

/* An empty commit brings slots and views in step, and leaves all else as it was. */
static void assert_is_repaired(struct trial *t, unsigned k)
{
	struct machine *m = t->m;
	char *repair;

	machine_refuse(m, NULL);
	assert_trial(t, tables_wrong(m) == NULL, k, "tables are not what KVM has");
	check_judges(t);
	repair = foretell_repair(m);
	forget_trace(m);
	must(kvmas_begin(m->f->kvmas));
	assert_trial(t, kvmas_commit(m->f->kvmas) == 0, k, "is not repaired");
	assert_trial(t, machine_wrong(m) == NULL, k, "is wrong when repaired");
	assert_string_equal(m->traced ? m->traced : "", repair);
	free(repair);
	for (unsigned i = 0; i < NSPACES; i++) {
		char *view = space_text(m->f, m->space[i]);

		assert_trial(t, strstr(t->state, view) != NULL, k, "views changed");
		free(view);
	}
	/* The slots may be cut elsewhere now. */
	free(t->plan);
	t->plan = NULL;
	assert_goes_on(t, k);
}

/* Whether an operation has been granted. */
static bool has_moved(const struct machine *m)
{
	for (size_t i = 0; i < m->nops; i++) {
		if (m->ops[i].result == 0)
			return true;
	}
	return false;
}

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
	struct trial *t = begin_trial(scenario);
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	if (!refusal.hits || refusal.first_is_log) {
		assert_trial(t, result == 0, k, "fails for no reason");
		assert_as_planned(t, k);
	} else {
		assert_trial(t, result == verdicts[verdict].commit, k, "gives another errno");
		assert_as_before(t, k);
		assert_goes_on(t, k);
	}
	end_trial(t);
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
	struct trial *t = begin_trial(scenario);
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	if (refusal.hits == refusal.logs) {
		assert_trial(t, result == 0, k, "fails for no reason");
	} else if (!has_moved(t->m)) {
		assert_trial(t, result == -ENOSPC, k, "gives another errno");
		assert_as_before(t, k);
	} else {
		assert_trial(t, result == -ENOTRECOVERABLE, k, "gives another errno");
		assert_is_repaired(t, k);
	}
	end_trial(t);
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
	struct trial *t = begin_trial(scenario);
	int result;

	machine_refuse(t->m, &refusal);
	result = scenario_run(scenario, t->m);
	if (refusal.hits == 0 || refusal.first_is_log) {
		assert_trial(t, result == 0 || result == -ENOMEM, first, "gives another errno");
	} else if (refusal.hits == 2 && !refusal.second_is_log) {
		assert_trial(t, result == -ENOTRECOVERABLE, first, "undoing was refused unnoticed");
		assert_is_repaired(t, first);
	} else {
		assert_trial(t, result == -ENOMEM, first, "gives another errno");
		assert_as_before(t, first);
	}
	end_trial(t);
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
		struct trial *t = begin_trial(&scenarios[i]);
		int result;

		t->m->pause_result = -EAGAIN;
		result = scenario_run(t->scenario, t->m);
		t->m->pause_result = 0;
		if (result) {
			assert_trial(t, result == -EAGAIN, 0, "gives another errno");
			assert_trial(t, t->m->nioctls == 0, 0, "an ioctl came first");
			assert_as_before(t, 0);
			assert_goes_on(t, 0);
			assert_int_equal(t->m->npauses, 1);
			nrefused++;
		}
		assert_trial(t, machine_wrong(t->m) == NULL, 0, "is wrong at the end");
		end_trial(t);
	}
	assert_true(nrefused > nscenarios / 3);
}

/* The first listener, or the last, or both. */
static void veto_of_a_listener_leaves_kvm_alone(void **state)
{
	unsigned nrefused = 0;

	(void)state;
	for (unsigned i = 0; i < 2 * nscenarios; i++) {
		struct trial *t = begin_trial(&scenarios[i / 2]);
		int result;

		t->judges[i % 2].verdict = -EPERM;
		result = scenario_run(t->scenario, t->m);
		t->judges[i % 2].verdict = 0;
		if (result) {
			assert_trial(t, result == -EPERM, i % 2, "gives another errno");
			assert_trial(t, t->m->nioctls == 0 && t->m->npauses == 0, i % 2,
				     "KVM or vCPUs were bothered");
			assert_as_before(t, i % 2);
			assert_goes_on(t, i % 2);
			nrefused++;
		}
		end_trial(t);
	}
	assert_true(nrefused > nscenarios / 2);
}

static void abort_and_dry_run_change_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nscenarios; i++) {
		struct trial *t = begin_trial(&scenarios[i]);
		char *plan = scenario_foretell(t->scenario, t->m);

		assert_string_equal(plan, t->plan);
		free(plan);
		assert_trial(t, t->m->nioctls == 0 && t->m->npauses == 0, 0,
			     "KVM or vCPUs were bothered");
		assert_as_before(t, 0);
		assert_goes_on(t, 0);
		end_trial(t);
	}
}

/* ---- allocations ---- */

/* Of a transaction, or of its one call; of the dry run in it. */
enum way { WHOLE, ALONE, DRY, NWAYS };

static int go(struct trial *t, enum way way)
{
	struct kvmas_kvm_plan plan = {.struct_size = sizeof(plan)};
	struct kvmas *kvmas = t->m->f->kvmas;
	int err;

	if (way == WHOLE)
		return scenario_run(t->scenario, t->m);
	if (way == ALONE)
		return t->scenario->edit(t->m);
	err = kvmas_begin(kvmas);
	if (err)
		return err;
	err = t->scenario->edit(t->m);
	if (!err)
		err = kvmas_kvm_dry_run(t->m->kvm, NULL, NULL, &plan);
	if (!err && t->m->kvm2)
		err = kvmas_kvm_dry_run(t->m->kvm2, NULL, NULL, &plan);
	must(kvmas_abort(kvmas));
	return err;
}

static bool starve(const struct scenario *scenario, unsigned k, enum way way)
{
	struct trial *t = begin_trial(scenario);
	int result;

	t->m->f->heap.failed = false;
	t->m->f->heap.fail_in = k;
	result = go(t, way);
	t->m->f->heap.fail_in = 0;
	if (!t->m->f->heap.failed) {
		assert_trial(t, result == 0, k, "fails for no reason");
		end_trial(t);
		return false;
	}
	assert_trial(t, result == -ENOMEM, k, "a failed allocation gives another errno");
	assert_trial(t, t->m->nioctls == 0 || t->m->kvm2, k,
		     "an ioctl was issued before all was allocated");
	assert_as_before(t, k);
	assert_goes_on(t, k);
	end_trial(t);
	return true;
}

static void failed_allocation_comes_before_the_first_ioctl(void **state)
{
	(void)state;
	for (size_t i = 0; i < nscenarios * NWAYS; i++) {
		const struct scenario *scenario = &scenarios[i / NWAYS];
		enum way way = (enum way)(i % NWAYS);
		unsigned k = 1;

		while ((way != ALONE || scenario->single) && starve(scenario, k, way))
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

/* SPDX-License-Identifier: MIT */
/* See kvm-attempt.h. Read begin_attempt first. */
#include "kvm-attempt.h"

static struct attempt *begin_on(const struct scenario *scenario, struct machine *m)
{
	static const char *const names[NSPACES] = {"n", "s"};
	struct attempt *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->scenario = scenario;
	t->m = m;
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

struct attempt *begin_attempt(const struct scenario *scenario)
{
	return begin_on(scenario, scenario_machine(scenario));
}

struct attempt *begin_logged_attempt(const struct scenario *scenario, enum kvmas_kvm_log log)
{
	struct attempt *t = begin_on(scenario, scenario_machine_logged(scenario, log));

	t->ledger = calloc(1, sizeof(*t->ledger));
	assert_non_null(t->ledger);
	ledger_open(t->ledger, t->m);
	for (unsigned tie = 0; tie < (t->m->vm2 ? 2 : 1); tie++)
		ledger_write_some(t->ledger, tie, 2);
	return t;
}

void assert_attempt(const struct attempt *t, bool holds, unsigned k, const char *what)
{
	if (!holds)
		fail_msg("%s, %u: %s", t->scenario->name, k, what);
}

static void check_judges(struct attempt *t)
{
	for (unsigned i = 0; i < NSPACES; i++)
		assert_judge(&t->judges[i], t->m->space[i]);
}

void end_attempt(struct attempt *t)
{
	for (unsigned i = 0; i < NSPACES; i++)
		del_judge(&t->judges[i]);
	if (t->ledger)
		ledger_close(t->ledger);
	free(t->ledger);
	free(t->state);
	free(t->plan);
	fake_kvm_free(t->before[0]);
	fake_kvm_free(t->before[1]);
	machine_free(t->m);
	free(t);
}

void assert_as_before(struct attempt *t, unsigned k)
{
	char *state = machine_text(t->m);
	const char *wrong = machine_wrong(t->m);

	assert_attempt(t, fake_kvm_equal_slots(t->m->vm, t->before[0]), k,
		       "other slots than before");
	assert_attempt(t, !t->m->vm2 || fake_kvm_equal_slots(t->m->vm2, t->before[1]), k,
		       "other slots than before in the second VM");
	if (strcmp(state, t->state) != 0)
		print_error("before:\n%s\nafter:\n%s\n", t->state, state);
	assert_attempt(t, strcmp(state, t->state) == 0, k, "another state than before");
	assert_attempt(t, wrong == NULL, k, wrong);
	assert_attempt(t, !t->m->paused, k, "vCPUs are still held out");
	check_judges(t);
	free(state);
}

void assert_as_planned(struct attempt *t, unsigned k)
{
	const char *wrong = machine_wrong(t->m);

	assert_attempt(t, wrong == NULL, k, wrong);
	if (t->plan)
		assert_string_equal(t->m->traced ? t->m->traced : "", t->plan);
	check_judges(t);
}

void assert_goes_on(struct attempt *t, unsigned k)
{
	machine_refuse(t->m, NULL);
	forget_trace(t->m);
	assert_attempt(t, scenario_run(t->scenario, t->m) == 0, k, "cannot be repeated");
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

void assert_is_repaired(struct attempt *t, unsigned k)
{
	struct machine *m = t->m;
	char *repair;

	machine_refuse(m, NULL);
	assert_attempt(t, tables_wrong(m) == NULL, k, "tables are not what KVM has");
	check_judges(t);
	repair = foretell_repair(m);
	forget_trace(m);
	must(kvmas_begin(m->f->kvmas));
	assert_attempt(t, kvmas_commit(m->f->kvmas) == 0, k, "is not repaired");
	assert_attempt(t, machine_wrong(m) == NULL, k, "is wrong when repaired");
	assert_string_equal(m->traced ? m->traced : "", repair);
	free(repair);
	for (unsigned i = 0; i < NSPACES; i++) {
		char *view = space_text(m->f, m->space[i]);

		assert_attempt(t, strstr(t->state, view) != NULL, k, "views changed");
		free(view);
	}
	/* The slots may be cut elsewhere now. */
	free(t->plan);
	t->plan = NULL;
	assert_goes_on(t, k);
}

bool has_moved(const struct machine *m)
{
	for (size_t i = 0; i < m->nops; i++) {
		if (m->ops[i].result == 0)
			return true;
	}
	return false;
}

/* ---- allocations ---- */

static int go(struct attempt *t, enum way way)
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

bool starve_attempt(struct attempt *t, unsigned k, enum way way)
{
	int result;

	t->m->f->heap.failed = false;
	t->m->f->heap.fail_in = k;
	result = go(t, way);
	t->m->f->heap.fail_in = 0;
	if (!t->m->f->heap.failed) {
		assert_attempt(t, result == 0, k, "fails for no reason");
		return false;
	}
	assert_attempt(t, result == -ENOMEM, k, "a failed allocation gives another errno");
	assert_attempt(t, t->m->nioctls == 0 || t->m->kvm2, k,
		       "an ioctl was issued before all was allocated");
	assert_as_before(t, k);
	assert_goes_on(t, k);
	return true;
}

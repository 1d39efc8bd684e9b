/* SPDX-License-Identifier: MIT */
/*
 * All or nothing, through the public interface: each scenario is run with each of its ioctls
 * refused, with each errno; with everything refused from there on; with the undoing refused at one
 * step; and with each of its allocations failing.
 */
#include "kvm-fixture.h"

#include "kvm/apply.h"
#include "kvm/vm.h"

/* region[] of the scenarios' machine. */
enum { RAM, VGA, PAM, BAR, BAR_IN_SMM, SMRAM, ROM };

struct scenario {
	const char *name;
	void (*prepare)(struct machine *m);
	int (*run)(struct machine *m);
};

/* ---- scenarios ---- */

/* A small PC: RAM with a window for a device and one for shadow RAM, ROM, a BAR; in SMM all of that
 * again, but SMRAM in the place of the device. */
static void make_pc(struct machine *m)
{
	struct kvmas_region *vga = make_mmio(m->f, "vga", pages(2));

	m->region[RAM] = make_ram(m->f, "ram", pages(64));
	m->region[VGA] = vga;
	m->region[PAM] = make_alias(m->f, "pam", m->region[RAM], pages(12), pages(4));
	m->region[BAR] = make_ram(m->f, "bar", pages(8));
	m->region[BAR_IN_SMM] = make_alias(m->f, "bar-in-smm", m->region[BAR], 0, pages(8));
	m->region[SMRAM] = make_alias(m->f, "smram", m->region[RAM], pages(10), pages(2));
	m->region[ROM] = make_rom(m->f, "rom", pages(4));
}

static int place_pc(struct machine *m)
{
	const struct {
		struct kvmas_region *parent;
		struct kvmas_region *child;
		unsigned gfn;
		int priority;
	} places[] = {
		{m->root[NORMAL], m->region[RAM], 0, 0},
		{m->root[NORMAL], m->region[VGA], 10, 1},
		{m->root[NORMAL], m->region[PAM], 12, 1},
		{m->root[NORMAL], m->region[BAR], 80, 0},
		{m->root[NORMAL], m->region[ROM], 120, 0},
		{m->root[SMM], m->region[SMRAM], 10, 1},
		{m->root[SMM], m->region[BAR_IN_SMM], 80, 0},
	};
	int err = 0;

	for (size_t i = 0; i < LENGTH(places) && !err; i++)
		err = kvmas_region_add(places[i].parent, places[i].child, pages(places[i].gfn),
				       places[i].priority);
	return err;
}

static int in_transaction(struct machine *m, int (*body)(struct machine *m))
{
	int err = kvmas_begin(m->f->kvmas);

	if (err)
		return err;
	err = body(m);
	if (err)
		must(kvmas_abort(m->f->kvmas));
	return err ? err : kvmas_commit(m->f->kvmas);
}

static void prepare_pc(struct machine *m)
{
	make_pc(m);
	must(in_transaction(m, place_pc));
}

/* As it is when the guest has never seen the device. */
static void prepare_closed(struct machine *m)
{
	make_pc(m);
	must(kvmas_region_set_enabled(m->region[VGA], false));
	must(in_transaction(m, place_pc));
}

static void prepare_logged(struct machine *m)
{
	prepare_pc(m);
	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
}

static void prepare_client(struct machine *m)
{
	prepare_pc(m);
	make_client(m, "c");
}

static void prepare_one_bound(struct machine *m)
{
	prepare_logged(m);
	must(kvmas_kvm_unbind(m->kvm, SMM));
}

static int map_all(struct machine *m)
{
	return in_transaction(m, place_pc);
}

static int flip_smram(struct machine *m)
{
	return kvmas_region_set_enabled(m->region[VGA], false);
}

static int flip_smram_first(struct machine *m)
{
	return kvmas_region_set_enabled(m->region[VGA], true);
}

static int make_pam_readonly(struct machine *m)
{
	return kvmas_region_set_readonly(m->region[PAM], true);
}

static int move_bar_in_both(struct machine *m)
{
	int err = kvmas_region_set_offset(m->region[BAR], pages(90));

	return err ? err : kvmas_region_set_offset(m->region[BAR_IN_SMM], pages(70));
}

static int move_bars(struct machine *m)
{
	return in_transaction(m, move_bar_in_both);
}

static int start_log(struct machine *m)
{
	return kvmas_client_log_start(m->clients[0], NULL, NULL);
}

static int stop_log(struct machine *m)
{
	return kvmas_client_log_stop(m->clients[0], NULL, NULL);
}

static int bind_smm(struct machine *m)
{
	return kvmas_kvm_bind(m->kvm, m->space[SMM], SMM);
}

static int unbind_normal(struct machine *m)
{
	return kvmas_kvm_unbind(m->kvm, NORMAL);
}

static int exchange(struct machine *m)
{
	int err = kvmas_kvm_unbind(m->kvm, NORMAL);

	if (!err)
		err = kvmas_kvm_unbind(m->kvm, SMM);
	if (!err)
		err = kvmas_kvm_bind(m->kvm, m->space[SMM], NORMAL);
	return err ? err : kvmas_kvm_bind(m->kvm, m->space[NORMAL], SMM);
}

static int exchange_spaces(struct machine *m)
{
	return in_transaction(m, exchange);
}

static int reserve_middle(struct machine *m)
{
	return kvmas_kvm_reserve_range(m->kvm, pages(20), pages(2));
}

static int edit_both(struct machine *m)
{
	int err = kvmas_region_del(m->region[RAM]);

	if (!err)
		err = kvmas_region_add(m->root[SMM], m->region[RAM], 0, 0);
	if (!err)
		err = kvmas_region_set_enabled(m->region[SMRAM], false);
	if (!err)
		err = kvmas_client_log_stop(m->clients[0], NULL, NULL);
	if (!err)
		err = kvmas_client_log_start(m->clients[0], m->region[BAR], m->space[SMM]);
	return err ? err : kvmas_kvm_reserve_range(m->kvm, pages(84), pages(1));
}

static int change_both(struct machine *m)
{
	return in_transaction(m, edit_both);
}

static const struct scenario scenarios[] = {
	{"initial map", make_pc, map_all},
	{"SMRAM flip", prepare_pc, flip_smram},
	{"first SMRAM flip", prepare_closed, flip_smram_first},
	{"PAM to readonly", prepare_pc, make_pam_readonly},
	{"PAM to readonly, logged", prepare_logged, make_pam_readonly},
	{"BARs move", prepare_pc, move_bars},
	{"BARs move, logged", prepare_logged, move_bars},
	{"log starts", prepare_client, start_log},
	{"log stops", prepare_logged, stop_log},
	{"bind", prepare_one_bound, bind_smm},
	{"unbind", prepare_logged, unbind_normal},
	{"spaces exchanged", prepare_logged, exchange_spaces},
	{"reserved range", prepare_pc, reserve_middle},
	{"both spaces", prepare_logged, change_both},
};

/* ---- one run ---- */

struct trial {
	const struct scenario *scenario;
	struct machine *m;
	struct fake_kvm *before;
	char *state;
};

static struct trial begin_trial(const struct scenario *scenario)
{
	struct trial t = {.scenario = scenario, .m = machine_new(NULL)};

	scenario->prepare(t.m);
	assert_right(t.m);
	fake_kvm_reset(t.m->vm);
	forget_trace(t.m);
	t.before = fake_kvm_snapshot(t.m->vm);
	t.state = state_text(t.m->f);
	return t;
}

static void end_trial(struct trial *t)
{
	free(t->state);
	fake_kvm_free(t->before);
	machine_free(t->m);
}

static void assert_trial(const struct trial *t, bool holds, unsigned k, const char *what)
{
	if (!holds)
		fail_msg("%s, ioctl %u: %s", t->scenario->name, k, what);
}

static void assert_as_before(const struct trial *t, unsigned k)
{
	char *state = state_text(t->m->f);
	const char *wrong = machine_wrong(t->m);

	assert_trial(t, fake_kvm_equal_slots(t->m->vm, t->before), k, "other slots than before");
	if (strcmp(state, t->state) != 0)
		print_error("before:\n%s\nafter:\n%s\n", t->state, state);
	assert_trial(t, strcmp(state, t->state) == 0, k, "other views or tables than before");
	assert_trial(t, wrong == NULL, k, wrong);
	free(state);
}

/* What was refused is granted now. */
static void assert_goes_on(const struct trial *t, unsigned k)
{
	fake_kvm_fail_never(t->m->vm);
	t->m->on_ioctl = NULL;
	assert_trial(t, t->scenario->run(t->m) == 0, k, "cannot be repeated");
	assert_trial(t, machine_wrong(t->m) == NULL, k, "is wrong when repeated");
}

/* An empty commit brings slots and views in step. */
static void assert_is_repaired(const struct trial *t, unsigned k)
{
	struct kvmas *kvmas = t->m->f->kvmas;
	char *views;

	fake_kvm_fail_never(t->m->vm);
	t->m->on_ioctl = NULL;
	assert_trial(t, tables_wrong(t->m) == NULL, k, "tables are not what KVM has");
	must(kvmas_begin(kvmas));
	assert_trial(t, kvmas_commit(kvmas) == 0, k, "is not repaired");
	assert_trial(t, machine_wrong(t->m) == NULL, k, "is wrong when repaired");
	for (unsigned i = 0; i < NSPACES; i++) {
		views = space_text(t->m->f, t->m->space[i]);
		assert_trial(t, strstr(t->state, views) != NULL, k, "views changed");
		free(views);
	}
	assert_goes_on(t, k);
}

/* Whether the k-th ioctl read a log. */
static bool is_get(const struct machine *m, unsigned k)
{
	return m->vm->calls[k - 1].op == FAKE_KVM_GET;
}

/* How many of the calls moved slots, and succeeded. */
static unsigned count_moved(const struct fake_kvm *vm)
{
	return vm->count[FAKE_KVM_CREATE] + vm->count[FAKE_KVM_DELETE] + vm->count[FAKE_KVM_FLAGS] +
	       vm->count[FAKE_KVM_MOVE];
}

/* ---- refusals ---- */

static const int errors[] = {ENOMEM, EEXIST, EINVAL, ENOSPC, EIO};

/* Whether there was a k-th ioctl. */
static bool refuse_one(const struct scenario *scenario, unsigned k, int error)
{
	struct trial t = begin_trial(scenario);
	bool hit;
	int result;

	fake_kvm_fail_at(t.m->vm, k, error);
	result = scenario->run(t.m);
	hit = t.m->vm->fail.hits;
	if (!hit || is_get(t.m, k)) {
		/* A log that cannot be read counts as all dirty. */
		assert_trial(&t, result == 0, k, "fails for no reason");
		assert_trial(&t, machine_wrong(t.m) == NULL, k, "is wrong at the end");
	} else {
		assert_trial(&t, result == -error, k, "gives another errno");
		assert_as_before(&t, k);
		assert_goes_on(&t, k);
	}
	end_trial(&t);
	return hit;
}

static void refused_ioctl_changes_nothing(void **state)
{
	unsigned nruns = 0;

	(void)state;
	for (size_t i = 0; i < LENGTH(scenarios); i++) {
		for (size_t e = 0; e < LENGTH(errors); e++) {
			unsigned k = 1;

			while (refuse_one(&scenarios[i], k, errors[e]))
				k++;
			assert_true(k > 1);
			nruns += k;
		}
	}
	print_message("%u runs\n", nruns);
}

static bool refuse_from(const struct scenario *scenario, unsigned k)
{
	struct trial t = begin_trial(scenario);
	bool hit;
	int result;

	fake_kvm_fail_from(t.m->vm, k, ENOSPC);
	result = scenario->run(t.m);
	hit = t.m->vm->fail.hits;
	if (!hit) {
		assert_trial(&t, result == 0, k, "fails for no reason");
	} else if (count_moved(t.m->vm) == 0) {
		assert_trial(&t, result == -ENOSPC, k, "gives another errno");
		assert_as_before(&t, k);
	} else {
		assert_trial(&t, result == -ENOTRECOVERABLE, k, "gives another errno");
		assert_is_repaired(&t, k);
	}
	end_trial(&t);
	return hit;
}

static void refused_undo_is_enotrecoverable_until_the_next_commit(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(scenarios); i++) {
		for (unsigned k = 1; refuse_from(&scenarios[i], k);)
			k++;
	}
}

/* The ioctls to refuse: two of them. */
struct pair {
	unsigned first;
	unsigned second;
};

static void refuse_pair(struct machine *m, unsigned long request, void *arg)
{
	const struct pair *pair = m->data;

	(void)request;
	(void)arg;
	if (m->nioctls == pair->first || m->nioctls == pair->second)
		fake_kvm_fail_at(m->vm, 1, ENOMEM);
}

/* 0 if there was no such operation, 1 if no such undoing, 2 if there were both. A log that cannot
 * be read fails nothing. */
static unsigned refuse_undo_step(const struct scenario *scenario, struct pair pair)
{
	struct trial t = begin_trial(scenario);
	unsigned k = pair.first;
	unsigned reached;
	int result;

	t.m->data = &pair;
	t.m->nioctls = 0;
	t.m->on_ioctl = refuse_pair;
	result = scenario->run(t.m);
	reached = t.m->nioctls < pair.first ? 0 : t.m->nioctls < pair.second ? 1 : 2;
	if (reached == 0 || is_get(t.m, pair.first)) {
		assert_trial(&t, result == 0 || result == -ENOMEM, k, "gives another errno");
	} else if (reached == 2 && !is_get(t.m, pair.second)) {
		assert_trial(&t, result == -ENOTRECOVERABLE, k, "undoing was refused unnoticed");
		assert_is_repaired(&t, k);
	} else {
		assert_trial(&t, result == -ENOMEM, k, "gives another errno");
		assert_as_before(&t, k);
	}
	end_trial(&t);
	return reached;
}

/* Undoing goes on after what was refused: each step by itself may be the one. */
static void tables_follow_when_one_step_of_the_undoing_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(scenarios); i++) {
		struct pair pair = {1, 2};
		unsigned reached;

		do {
			pair.second = pair.first + 1;
			while ((reached = refuse_undo_step(&scenarios[i], pair)) == 2)
				pair.second++;
			pair.first++;
		} while (reached);
	}
}

/* ---- allocations ---- */

static bool starve(const struct scenario *scenario, unsigned k)
{
	struct trial t = begin_trial(scenario);
	int result;

	t.m->f->heap.failed = false;
	t.m->f->heap.fail_in = k;
	result = scenario->run(t.m);
	t.m->f->heap.fail_in = 0;
	if (!t.m->f->heap.failed) {
		assert_trial(&t, result == 0, k, "fails for no reason");
		end_trial(&t);
		return false;
	}
	assert_trial(&t, result == -ENOMEM, k, "a failed allocation gives another errno");
	assert_trial(&t, t.m->vm->ncalls == 0, k, "an ioctl was issued before all was allocated");
	assert_as_before(&t, k);
	assert_goes_on(&t, k);
	end_trial(&t);
	return true;
}

static void failed_allocation_comes_before_the_first_ioctl(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(scenarios); i++) {
		unsigned k = 1;

		while (starve(&scenarios[i], k))
			k++;
		assert_true(k > 1);
	}
}

/* ---- what the hooks hear ---- */

static void trace_tells_each_operation_and_its_undoing(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	forget_trace(m);
	fake_kvm_fail_at(m->vm, 3, ENOMEM);
	assert_int_equal(flip_smram_first(m), -ENOMEM);
	assert_trace(m, "delete 0:0 0-63 ram+0 = 0\n"
			"create 0:0 0-9 ram+0 = 0\n"
			"create 0:3 12-63 ram+12 = -12\n"
			"delete 0:0 0-9 ram+0 = 0\n"
			"create 0:0 0-63 ram+0 = 0\n");
}

static void log_names_the_operation_that_was_refused(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	forget_notes(m->f);
	fake_kvm_fail_from(m->vm, 2, ENOMEM);
	assert_int_equal(flip_smram_first(m), -ENOTRECOVERABLE);
	assert_notes(m->f, "log 1 KVM refuses operation 2 of 3, on slot 0:0 at 0x0: errno 12\n"
			   "log 0 KVM refuses to undo an operation on slot 0:0: errno 12\n");
	fake_kvm_fail_never(m->vm);
	must(kvmas_region_set_enabled(m->region[RAM], true));
}

static void undone_operations_count_and_tear_nothing(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm_stats before, after;

	prepare_closed(m);
	before = stats_of(m);
	fake_kvm_fail_at(m->vm, 3, ENOMEM);
	assert_int_equal(flip_smram_first(m), -ENOMEM);
	after = stats_of(m);
	assert_int_equal(after.slot_deletes - before.slot_deletes, 2);
	assert_int_equal(after.slot_creates - before.slot_creates, 2);
	assert_int_equal(after.bytes_torn_live, before.bytes_torn_live);
}

/* ---- repair ---- */

static void repair_that_is_refused_is_tried_again(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	fake_kvm_fail_from(m->vm, 3, ENOMEM);
	assert_int_equal(flip_smram_first(m), -ENOTRECOVERABLE);
	for (unsigned i = 0; i < 3; i++) {
		must(kvmas_begin(m->f->kvmas));
		assert_int_equal(kvmas_commit(m->f->kvmas), -ENOMEM);
		assert_null(tables_wrong(m));
	}
	fake_kvm_fail_never(m->vm);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_right(m);
}

static void commit_that_changes_something_repairs_as_well(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	fake_kvm_fail_from(m->vm, 3, ENOMEM);
	assert_int_equal(flip_smram_first(m), -ENOTRECOVERABLE);
	fake_kvm_fail_never(m->vm);
	must(kvmas_region_set_enabled(m->region[SMRAM], false));
	assert_right(m);
}

static void abort_does_not_repair(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	fake_kvm_fail_from(m->vm, 3, ENOMEM);
	assert_int_equal(flip_smram_first(m), -ENOTRECOVERABLE);
	fake_kvm_fail_never(m->vm);
	fake_kvm_reset(m->vm);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_abort(m->f->kvmas));
	assert_int_equal(m->vm->ncalls, 0);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_right(m);
}

static void repaired_machine_issues_no_more_ioctls(void **state)
{
	struct machine *m = *state;

	repair_that_is_refused_is_tried_again(state);
	assert_false(m->kvm->broken);
	fake_kvm_reset(m->vm);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_int_equal(m->vm->ncalls, 0);
}

/* The slot of a block that nothing else holds: what deletes it must be able to make it anew. */
static void undo_remakes_the_slot_of_a_block_that_only_the_table_held(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *last = make_ram(m->f, "last", pages(1));
	struct kvmas_region *other = make_ram(m->f, "other", pages(1));

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_add(m->root[NORMAL], last, pages(4), 0));
	must(kvmas_region_add(m->root[NORMAL], other, pages(8), 0));
	fake_kvm_fail_from(m->vm, 2, ENOMEM);
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOTRECOVERABLE);
	drop_region(m->f, last);
	must(kvmas_reclaim(m->f->kvmas));
	assert_slots(m, "0:0 4-4 last+0\n");
	fake_kvm_fail_at(m->vm, 2, ENOMEM);
	assert_int_equal(kvmas_region_add(m->root[NORMAL], other, pages(8), 0), -ENOMEM);
	assert_slots(m, "0:0 4-4 last+0\n");
	must(kvmas_region_add(m->root[NORMAL], other, pages(8), 0));
	assert_right(m);
}

/* The planner makes no moves yet; the rest knows them. */
static void move_is_executed_and_taken_back(void **state)
{
	struct machine *m = *state;
	struct slot_op op = {KVMAS_SLOT_MOVE};
	struct plan plan = {.ops = &op, .count = 1};

	put_ram(m, NORMAL, "ram", 4, 4);
	op.before = m->kvm->spaces[NORMAL].slots.at[0];
	op.after = op.before;
	op.after.gpa = pages(6);
	must(kas_apply(m->kvm, &plan));
	assert_slots(m, "0:0 6-9 ram+0\n");
	assert_int_equal(m->vm->count[FAKE_KVM_MOVE], 1);
	assert_null(tables_wrong(m));
	must(kas_apply_undo(m->kvm, &plan));
	assert_slots(m, "0:0 4-7 ram+0\n");
	assert_int_equal(stats_of(m).slot_moves, 2);
	assert_right(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_ioctl_changes_nothing),
		cmocka_unit_test(refused_undo_is_enotrecoverable_until_the_next_commit),
		cmocka_unit_test(tables_follow_when_one_step_of_the_undoing_is_refused),
		cmocka_unit_test(failed_allocation_comes_before_the_first_ioctl),
		KVM_TEST(undo_remakes_the_slot_of_a_block_that_only_the_table_held),
		KVM_TEST(move_is_executed_and_taken_back),
		KVM_TEST(trace_tells_each_operation_and_its_undoing),
		KVM_TEST(log_names_the_operation_that_was_refused),
		KVM_TEST(undone_operations_count_and_tear_nothing),
		KVM_TEST(repair_that_is_refused_is_tried_again),
		KVM_TEST(commit_that_changes_something_repairs_as_well),
		KVM_TEST(abort_does_not_repair),
		KVM_TEST(repaired_machine_issues_no_more_ioctls),
	};

	return cmocka_run_group_tests_name("apply", tests, NULL, NULL);
}

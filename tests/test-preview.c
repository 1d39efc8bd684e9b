/* SPDX-License-Identifier: MIT */
/*
 * Slot operations told before they are done: a commit does what the dry run told, after random
 * changes of views, policies and logging; and a dry run leaves no trace. All on the double.
 */
#include "hole-scene.h"

#include "kvm/vm.h"

static int add_op(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot)
{
	char **text = data;

	op_text(text, kind, slot);
	text_add(text, " = 0\n");
	return 0;
}

/* What a dry run tells; for free(). */
static char *dry_text(struct machine *m, struct kvmas_kvm_plan *plan)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	plan->struct_size = sizeof(*plan);
	must(kvmas_kvm_dry_run(m->kvm, add_op, &text, plan));
	return text;
}

static void assert_counts(const struct kvmas_kvm_plan *plan, const struct kvmas_kvm_stats *before,
			  const struct kvmas_kvm_stats *after)
{
	assert_int_equal(plan->slot_creates, after->slot_creates - before->slot_creates);
	assert_int_equal(plan->slot_deletes, after->slot_deletes - before->slot_deletes);
	assert_int_equal(plan->slot_moves, after->slot_moves - before->slot_moves);
	assert_int_equal(plan->slot_flags, after->slot_flags - before->slot_flags);
	assert_int_equal(plan->zap_events, plan->slot_deletes + plan->slot_moves);
	assert_int_equal(plan->bytes_torn_live, after->bytes_torn_live - before->bytes_torn_live);
	assert_int_equal(plan->stop, after->vcpu_stops - before->vcpu_stops);
}

/* The open transaction does what it was told to do. */
static void commit_as_told(struct machine *m)
{
	struct kvmas_kvm_stats before = stats_of(m), after;
	struct kvmas_kvm_plan plan;
	char *text;

	forget_trace(m);
	text = dry_text(m, &plan);
	assert_trace(m, "");
	must(kvmas_commit(m->f->kvmas));
	assert_trace(m, text);
	after = stats_of(m);
	assert_counts(&plan, &before, &after);
	for (unsigned i = 0; i < NSPACES; i++)
		assert_int_equal(plan.slots[i], m->kvm->spaces[i].slots.count);
	for (unsigned i = NSPACES; i < KVMAS_KVM_MAX_SPACES; i++)
		assert_int_equal(plan.slots[i], 0);
	assert_right(m);
	free(text);
}

static void step_hole(struct machine *m, unsigned chance)
{
	must(kvmas_region_set_enabled(m->region[HOLE], chance % 2));
}

static void step_move(struct machine *m, unsigned chance)
{
	must(kvmas_region_set_offset(m->region[HOLE], pages(chance % 60)));
}

static void step_readonly(struct machine *m, unsigned chance)
{
	must(kvmas_region_set_readonly(m->region[RAM], chance % 2));
}

static void step_ram(struct machine *m, unsigned chance)
{
	must(kvmas_region_set_offset(m->region[RAM], pages(chance % 3)));
}

static void step_merge(struct machine *m, unsigned chance)
{
	must(kvmas_kvm_set_merge(m->kvm, chance % 2, chance / 2 % 3));
}

static void step_boundary(struct machine *m, unsigned chance)
{
	uint64_t gpa = pages(1 + chance / 2 % 70);
	int err;

	if (chance % 2)
		err = kvmas_kvm_add_boundary(m->kvm, NORMAL, gpa);
	else
		err = kvmas_kvm_del_boundary(m->kvm, NORMAL, gpa);
	assert_true(err == 0 || err == (chance % 2 ? 0 : -ENOENT));
}

static void step_budget(struct machine *m, unsigned chance)
{
	must(kvmas_kvm_set_budget(m->kvm, chance % 2, chance / 2 % 12));
}

static void step_merge_now(struct machine *m, unsigned chance)
{
	must(kvmas_kvm_merge(m->kvm, chance % 2));
}

static void step_log(struct machine *m, unsigned chance)
{
	int err;

	if (chance % 2)
		err = kvmas_client_log_start(m->clients[0], NULL, NULL);
	else
		err = kvmas_client_log_stop(m->clients[0], NULL, NULL);
	assert_true(err == 0 || err == (chance % 2 ? -EEXIST : -ENOENT));
}

static void commits_do_what_the_dry_run_told(void **state)
{
	static void (*const steps[])(struct machine *, unsigned) = {
		step_hole, step_move,      step_move,   step_readonly, step_ram,      step_merge,
		step_log,  step_merge_now, step_budget, step_boundary, step_boundary, step_budget,
	};
	struct machine *m = *state;
	uint64_t chance = 1;

	make_client(m, "c");
	for (unsigned i = 0; i < 3000; i++) {
		must(kvmas_begin(m->f->kvmas));
		do {
			chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407;
			steps[(chance >> 40) % LENGTH(steps)](m, (unsigned)(chance >> 52));
		} while (chance >> 33 & 1);
		commit_as_told(m);
	}
	assert_true(stats_of(m).slot_moves > 50 && stats_of(m).slot_flags > 50);
}

static void dry_run_outside_a_transaction_is_empty(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm_plan plan;
	char *text = dry_text(m, &plan);

	assert_string_equal(text, "");
	assert_int_equal(plan.slot_creates + plan.zap_events + plan.slot_flags + plan.stop, 0);
	assert_int_equal(plan.slots[NORMAL], 1);
	assert_int_equal(plan.slots[SMM], 1);
	free(text);
}

static void dry_run_grows_with_the_transaction_and_leaves_no_trace(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm_plan plan;
	char *before = state_text(m->f), *after, *text;

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(10)));
	for (unsigned i = 0; i < 2; i++) {
		text = dry_text(m, &plan);
		assert_string_equal(text, "delete 0:0 0-63 ram+0 = 0\n"
					  "create 0:0 0-9 ram+0 = 0\n"
					  "create 0:1 10-63 ram+10 = 0\n");
		assert_int_equal(plan.bytes_torn_live, pages(64));
		assert_int_equal(plan.stop, 1);
		free(text);
	}
	must(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(10)));
	text = dry_text(m, &plan);
	assert_string_equal(text, "");
	free(text);
	must(kvmas_abort(m->f->kvmas));
	after = state_text(m->f);
	assert_string_equal(before, after);
	assert_trace(m, "");
	assert_int_equal(m->vm->ncalls, 0);
	free(before);
	free(after);
}

static int stop_at_second(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot)
{
	unsigned *count = data;

	(void)kind, (void)slot;
	return ++*count == 2 ? 42 : 0;
}

static void dry_run_stops_at_what_fn_returns(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm_plan plan = {.struct_size = sizeof(plan), .stop = 77};
	unsigned count = 0;

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(10)));
	assert_int_equal(kvmas_kvm_dry_run(m->kvm, stop_at_second, &count, &plan), 42);
	assert_int_equal(count, 2);
	assert_int_equal(plan.stop, 77); /* written on success only */
	must(kvmas_kvm_dry_run(m->kvm, NULL, NULL, NULL));
	must(kvmas_abort(m->f->kvmas));
}

static void dry_run_writes_no_more_than_the_caller_has(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm_plan plan = {.struct_size = offsetof(struct kvmas_kvm_plan, slot_deletes),
				      .slot_deletes = 77};

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(10)));
	must(kvmas_kvm_dry_run(m->kvm, NULL, NULL, &plan));
	assert_int_equal(plan.slot_creates, 2);
	assert_int_equal(plan.slot_deletes, 77);
	plan.struct_size = 0;
	assert_int_equal(kvmas_kvm_dry_run(m->kvm, NULL, NULL, &plan), -EINVAL);
	must(kvmas_abort(m->f->kvmas));
}

static void dry_run_tells_that_slots_do_not_suffice(void **state)
{
	const struct fake_kvm_config config = {.nr_memslots = 2};
	struct machine *m = machine_new(&config);

	(void)state;
	put_ram(m, NORMAL, "a", 0, 1);
	put_ram(m, NORMAL, "b", 10, 1);
	must(kvmas_begin(m->f->kvmas));
	put_ram(m, NORMAL, "c", 20, 1);
	assert_int_equal(kvmas_kvm_dry_run(m->kvm, NULL, NULL, NULL), -ENOSPC);
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOSPC);
	machine_free(m);
}

static int try_to_change(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot)
{
	struct machine *m = data;

	(void)kind, (void)slot;
	assert_int_equal(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER), -EBUSY);
	assert_int_equal(kvmas_kvm_set_budget(m->kvm, NORMAL, 1), -EBUSY);
	assert_int_equal(kvmas_kvm_merge(m->kvm, NORMAL), -EBUSY);
	assert_int_equal(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(1)), -EBUSY);
	assert_int_equal(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(1)), -EBUSY);
	assert_int_equal(kvmas_begin(m->f->kvmas), -EBUSY);
	return 7;
}

static void change_inside_a_dry_run_is_ebusy(void **state)
{
	struct machine *m = *state;

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(10)));
	assert_int_equal(kvmas_kvm_dry_run(m->kvm, try_to_change, m, NULL), 7);
	must(kvmas_abort(m->f->kvmas));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(commits_do_what_the_dry_run_told),
		SCENE_TEST(dry_run_outside_a_transaction_is_empty),
		SCENE_TEST(dry_run_grows_with_the_transaction_and_leaves_no_trace),
		SCENE_TEST(dry_run_stops_at_what_fn_returns),
		SCENE_TEST(dry_run_writes_no_more_than_the_caller_has),
		cmocka_unit_test(dry_run_tells_that_slots_do_not_suffice),
		SCENE_TEST(change_inside_a_dry_run_is_ebusy),
	};

	return cmocka_run_group_tests_name("preview", tests, NULL, NULL);
}

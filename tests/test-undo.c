/* SPDX-License-Identifier: MIT */
/*
 * Taking back what KVM has granted: in which order, what hooks and counters hear of it, what
 * becomes of logs; repairing where that was refused as well; two ties, of which the second refuses.
 */
#include "kvm-scenarios.h"

#include "kvm/apply.h"
#include "kvm/vm.h"

/* ---- what the hooks hear ---- */

static void trace_tells_each_operation_and_its_undoing(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	forget_trace(m);
	fake_kvm_fail_at(m->vm, 3, ENOMEM);
	assert_int_equal(open_vga(m), -ENOMEM);
	assert_trace(m, "delete 0:0 0-63 ram+0 = 0\n"
			"create 0:0 0-9 ram+0 = 0\n"
			"create 0:4 12-63 ram+12 = -12\n"
			"delete 0:0 0-9 ram+0 = 0\n"
			"create 0:0 0-63 ram+0 = 0\n");
}

static void log_names_the_operation_that_was_refused(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	forget_notes(m->f);
	fake_kvm_fail_from(m->vm, 2, ENOMEM);
	assert_int_equal(open_vga(m), -ENOTRECOVERABLE);
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
	assert_int_equal(open_vga(m), -ENOMEM);
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
	assert_int_equal(open_vga(m), -ENOTRECOVERABLE);
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
	assert_int_equal(open_vga(m), -ENOTRECOVERABLE);
	fake_kvm_fail_never(m->vm);
	must(kvmas_region_set_enabled(m->region[SMRAM], false));
	assert_right(m);
}

static void abort_does_not_repair(void **state)
{
	struct machine *m = *state;

	prepare_closed(m);
	fake_kvm_fail_from(m->vm, 3, ENOMEM);
	assert_int_equal(open_vga(m), -ENOTRECOVERABLE);
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
	assert_false(m->kvm->spaces[NORMAL].broken);
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

/* A block on memory that another one has, too. */
static struct kvmas_region *put_twin(struct machine *m, struct kvmas_region *other, uint64_t gfn)
{
	struct kvmas_ram *block;
	struct kvmas_region *twin;

	must(kvmas_ram_new(m->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "twin", .source = KVMAS_RAM_CALLER,
					.hva = kvmas_ram_get_hva(block_of(other)),
					.size = pages(4)),
			   &block));
	twin = make_window(m->f, KVMAS_REGION_RAM, "twin", block, 0, 4);
	kvmas_ram_unref(block);
	must(kvmas_region_set_enabled(twin, false));
	add(m->root[NORMAL], twin, pages(gfn), 0);
	return twin;
}

/* KVM looks at hva, size and id only: it would take the making of one for a move of the other. */
static void undo_does_not_change_a_slot_that_has_the_id(void **state)
{
	struct refusal refusal = {.first = 3, .second = 4, .result = -ENOMEM};
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);
	struct kvmas_region *twin = put_twin(m, ram, 8);
	struct kvmas_region *last = make_ram(m->f, "last", pages(1));

	machine_refuse(m, &refusal);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_del(ram));
	must(kvmas_region_set_enabled(twin, true));
	must(kvmas_region_add(m->root[NORMAL], last, pages(16), 0));
	forget_trace(m);
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOTRECOVERABLE);
	machine_refuse(m, NULL);
	assert_trace(m, "delete 0:0 0-3 ram+0 = 0\n"
			"create 0:0 8-11 twin+0 = 0\n"
			"create 0:1 16-16 last+0 = -12\n"
			"delete 0:0 8-11 twin+0 = -12\n");
	assert_null(tables_wrong(m));
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_slots(m, "0:0 0-3 ram+0\n");
}

/* A page of a new, logged slot is written before the next operation is refused. */
static void write_to_the_new_slot(struct machine *m, unsigned long request, void *arg)
{
	(void)request;
	(void)arg;
	if (m->nioctls == 2)
		must(fake_kvm_write(m->vm, NORMAL, pages(1), 8));
}

static void what_the_guest_wrote_to_a_slot_that_is_undone_is_not_lost(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *a = make_ram(m->f, "a", pages(4));
	struct kvmas_region *b = make_ram(m->f, "b", pages(4));

	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
	must(kvmas_begin(m->f->kvmas));
	add(m->root[NORMAL], a, 0, 0);
	add(m->root[NORMAL], b, pages(8), 0);
	m->nioctls = 0;
	m->on_ioctl = write_to_the_new_slot;
	fake_kvm_fail_at(m->vm, 2, ENOMEM);
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOMEM);
	m->on_ioctl = NULL;
	assert_slots(m, "");
	assert_taken(m->clients[0], block_of(a), "1 ");
}

static void what_can_be_undone_is_though_one_step_is_refused(void **state)
{
	struct refusal refusal = {.first = 3, .second = 4, .result = -ENOMEM};
	struct machine *m = *state;

	prepare_closed(m);
	forget_trace(m);
	machine_refuse(m, &refusal);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_set_enabled(m->region[BAR], false));
	must(kvmas_region_set_enabled(m->region[CARD], false));
	must(kvmas_region_set_enabled(m->region[ROM], false));
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOTRECOVERABLE);
	machine_refuse(m, NULL);
	assert_int_equal(refusal.hits, 2);
	assert_int_equal(m->nops, 5);
	assert_int_equal(m->ops[4].result, 0);
	assert_int_equal(m->ops[4].slot.id, m->ops[0].slot.id);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_right(m);
}

/* It is planned only when the first has been carried out. */
static void second_tie_without_ids_has_the_first_undone(void **state)
{
	static const struct fake_kvm_config few = {.nr_memslots = 4};
	struct machine *m = *state;
	char *before, *after;

	prepare_closed(m);
	machine_add_tie(m, &few);
	must(kvmas_kvm_bind(m->kvm2, m->space[NORMAL], NORMAL));
	fake_kvm_reset(m->vm2);
	before = slots_text(m->kvm);
	assert_int_equal(open_vga(m), -ENOSPC);
	after = slots_text(m->kvm);
	assert_string_equal(after, before);
	free(before);
	free(after);
	assert_int_equal(m->npauses, 1);
	assert_false(m->paused);
	assert_int_equal(m->vm2->ncalls, 0);
	assert_null(machine_wrong(m));
}

/* ---- moves ---- */

static struct plan plan_of(struct slot_op *op)
{
	return (struct plan){.ops = op, .count = 1};
}

static void move_is_executed_and_taken_back(void **state)
{
	struct machine *m = *state;
	struct slot_op op = {KVMAS_SLOT_MOVE};
	struct plan plan = plan_of(&op);

	put_ram(m, NORMAL, "ram", 4, 4);
	op.before = *kas_slots_entry(&m->kvm->spaces[NORMAL].slots, 0);
	op.after = op.before;
	op.after.slot.gpa = pages(6);
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
		KVM_TEST(trace_tells_each_operation_and_its_undoing),
		KVM_TEST(log_names_the_operation_that_was_refused),
		KVM_TEST(undone_operations_count_and_tear_nothing),
		KVM_TEST(repair_that_is_refused_is_tried_again),
		KVM_TEST(commit_that_changes_something_repairs_as_well),
		KVM_TEST(abort_does_not_repair),
		KVM_TEST(repaired_machine_issues_no_more_ioctls),
		KVM_TEST(undo_remakes_the_slot_of_a_block_that_only_the_table_held),
		KVM_TEST(undo_does_not_change_a_slot_that_has_the_id),
		KVM_TEST(what_the_guest_wrote_to_a_slot_that_is_undone_is_not_lost),
		KVM_TEST(what_can_be_undone_is_though_one_step_is_refused),
		KVM_TEST(second_tie_without_ids_has_the_first_undone),
		KVM_TEST(move_is_executed_and_taken_back),
	};

	return cmocka_run_group_tests_name("undo", tests, NULL, NULL);
}

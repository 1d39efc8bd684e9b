/* SPDX-License-Identifier: MIT */
/* Listeners beside KVM: asked before a slot moves, cancelled when KVM refuses. */
#include "judge.h"
#include "kvm-fixture.h"

static void note_ioctl(struct machine *m, unsigned long request, void *arg)
{
	(void)arg;
	note(m->f, "ioctl%s", request == KVM_SET_USER_MEMORY_REGION ? "" : " other");
}

/* Sections are left out: how large a page is differs. */
static void assert_notes_begin(struct fixture *f, const char *expected)
{
	assert_non_null(f->notes);
	assert_int_equal(strncmp(f->notes, expected, strlen(expected)), 0);
	forget_notes(f);
}

/* A judge for each space, and a ram in both. */
static struct kvmas_region *open_machine(struct machine *m, struct judge judges[NSPACES])
{
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	put_alias(m, SMM, ram, 8, 0, 4);
	add_judge(&judges[NORMAL], m->f, m->space[NORMAL], "n", 0);
	add_judge(&judges[SMM], m->f, m->space[SMM], "s", 0);
	forget_notes(m->f);
	return ram;
}

static void close_machine(struct machine *m, struct judge judges[NSPACES])
{
	for (unsigned i = 0; i < NSPACES; i++) {
		assert_judge(&judges[i], m->space[i]);
		del_judge(&judges[i]);
	}
}

static void judges_are_asked_before_any_slot_moves(void **state)
{
	struct machine *m = *state;
	struct judge judges[NSPACES];
	struct kvmas_region *ram = open_machine(m, judges);

	m->on_ioctl = note_ioctl;
	judges[SMM].verdict = -EPERM;
	assert_int_equal(kvmas_region_set_enabled(ram, false), -EPERM);
	assert_notes(m->f, "n prepare\ns prepare\nn cancel\n");
	judges[SMM].verdict = 0;
	must(kvmas_region_set_enabled(ram, false));
	assert_notes_begin(m->f, "n prepare\ns prepare\nioctl\nioctl\nn begin\n");
	m->on_ioctl = NULL;
	close_machine(m, judges);
}

static void refusal_of_any_operation_cancels_all_in_reverse(void **state)
{
	struct machine *m = *state;
	struct judge judges[NSPACES];
	struct kvmas_region *ram = open_machine(m, judges);
	unsigned refused = 0;

	for (;;) {
		int err;

		fake_kvm_fail_at(m->vm, refused + 1, ENOMEM);
		err = kvmas_region_set_size(ram, pages(2));
		if (!err)
			break;
		refused++;
		assert_int_equal(err, -ENOMEM);
		assert_non_null(m->f->notes);
		assert_non_null(strstr(m->f->notes, "n prepare\ns prepare\n"));
		assert_non_null(strstr(m->f->notes, "s cancel\nn cancel\n"));
		assert_null(strstr(m->f->notes, "begin"));
		forget_notes(m->f);
		assert_right(m);
		for (unsigned i = 0; i < NSPACES; i++)
			assert_judge(&judges[i], m->space[i]);
	}
	assert_int_equal(refused, 4); /* each slot deleted, and made anew */
	fake_kvm_fail_never(m->vm);
	close_machine(m, judges);
}

static void refusal_to_go_back_cancels_too(void **state)
{
	struct machine *m = *state;
	struct judge judges[NSPACES];
	struct kvmas_region *ram = open_machine(m, judges);

	fake_kvm_fail_from(m->vm, 2, EIO);
	assert_int_equal(kvmas_region_set_enabled(ram, false), -ENOTRECOVERABLE);
	fake_kvm_fail_never(m->vm);
	assert_int_equal(judges[NORMAL].dropped, 1);
	assert_int_equal(judges[SMM].dropped, 1);
	must(kvmas_begin(m->f->kvmas)); /* repairs */
	must(kvmas_commit(m->f->kvmas));
	close_machine(m, judges);
}

static void refused_binding_is_undone(void **state)
{
	struct machine *m = *state;
	struct judge judges[NSPACES];

	open_machine(m, judges);
	judges[SMM].verdict = -EPERM;
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_unbind(m->kvm, 1));
	put_ram(m, SMM, "smram", 0, 1);
	assert_int_equal(kvmas_commit(m->f->kvmas), -EPERM);
	judges[SMM].verdict = 0;
	assert_slots(m, "0:0 0-3 ram+0\n1:0 8-11 ram+0\n");
	assert_int_equal(kvmas_kvm_bind(m->kvm, m->space[SMM], 1), -EEXIST);
	close_machine(m, judges);
}

static void every_allocation_of_a_bound_commit_fails_with_nothing_owed(void **state)
{
	struct machine *m = *state;
	struct judge judges[NSPACES];
	struct kvmas_region *ram = open_machine(m, judges);
	unsigned failed = 0;

	for (;;) {
		int err;

		m->f->heap.fail_in = failed + 1;
		err = kvmas_region_set_size(ram, pages(2));
		m->f->heap.fail_in = 0;
		if (!err)
			break;
		failed++;
		assert_int_equal(err, -ENOMEM);
		assert_slots(m, "0:0 0-3 ram+0\n1:0 8-11 ram+0\n");
		for (unsigned i = 0; i < NSPACES; i++)
			assert_judge(&judges[i], m->space[i]);
	}
	assert_true(judges[NORMAL].dropped > 0); /* the plan is made after all agreed */
	close_machine(m, judges);
}

/* ---- from the hooks of a tie ---- */

static void add_judge_once(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
			   int result)
{
	struct judge *judge = data;

	(void)kind;
	(void)slot;
	assert_int_equal(result, 0);
	if (judge->listener)
		return;
	add_judge(judge, judge->f, judge->data, "j", 0);
	note(judge->f, "added");
}

static void add_in_a_trace_hook_is_told_the_new_view(void **state)
{
	struct machine *m = *state;
	struct judge judge = {.f = m->f};
	struct fake_kvm *vm = fake_kvm_new(NULL);
	struct kvmas_kvm *kvm;

	must(kvmas_kvm_new(m->f->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = vm->fd, .ioctl = fake_kvm_ioctl,
					.ioctl_data = vm, .trace = add_judge_once,
					.trace_data = &judge),
			   &kvm));
	must(kvmas_kvm_bind(kvm, m->space[SMM], 0));
	judge.data = m->space[SMM];
	put_ram(m, SMM, "ram", 0, 1);
	assert_notes_begin(m->f, "added\nj begin\nj add ");
	assert_judge(&judge, m->space[SMM]);
	del_judge(&judge);
	must(kvmas_kvm_unbind(kvm, 0));
	kvmas_kvm_unref(kvm);
	must(kvmas_reclaim(m->f->kvmas));
	fake_kvm_free(vm);
}

static int add_and_del_refused(void *data, const struct kvmas_slot *slot)
{
	struct judge *judge = data;
	struct kvmas_listener *listener;

	(void)slot;
	assert_int_equal(
		kvmas_listener_add(judge->data, KVMAS_CONFIG(listener, .priority = 0), &listener),
		-EBUSY);
	assert_int_equal(kvmas_listener_del(judge->listener), -EBUSY);
	return 42;
}

static void add_and_del_while_slots_are_walked_return_ebusy(void **state)
{
	struct machine *m = *state;
	struct judge judge;

	put_ram(m, NORMAL, "ram", 0, 1);
	add_judge(&judge, m->f, m->space[NORMAL], "j", 0);
	judge.data = m->space[NORMAL];
	assert_int_equal(kvmas_kvm_for_each_slot(m->kvm, add_and_del_refused, &judge), 42);
	del_judge(&judge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(judges_are_asked_before_any_slot_moves),
		KVM_TEST(refusal_of_any_operation_cancels_all_in_reverse),
		KVM_TEST(refusal_to_go_back_cancels_too),
		KVM_TEST(refused_binding_is_undone),
		KVM_TEST(every_allocation_of_a_bound_commit_fails_with_nothing_owed),
		KVM_TEST(add_in_a_trace_hook_is_told_the_new_view),
		KVM_TEST(add_and_del_while_slots_are_walked_return_ebusy),
	};

	return cmocka_run_group_tests_name("listener-kvm", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The tie between spaces and a VM: bindings, life, several VMs, calls from where they are refused,
 * counters. How it is made is in test-kvm-new.c, reservations in test-slots.c and test-reserve.c,
 * failures in test-apply.c and test-undo.c.
 */
#include "kvm-fixture.h"

#include <sys/wait.h>
#include <unistd.h>

#include "kvm/vm.h"

static const struct fake_kvm_config one_space = {.spaces = 1};

static void commit_nothing(struct machine *m)
{
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
}

/* ---- bind ---- */

static void bind_to_an_as_id_that_the_vm_has_not_returns_eopnotsupp(void **state)
{
	struct machine *m = *state;

	assert_int_equal(kvmas_kvm_bind(m->kvm, m->space[SMM], 2), -EOPNOTSUPP);
	m = machine_new_unbound(&one_space);
	assert_int_equal(kvmas_kvm_bind(m->kvm, m->space[SMM], 1), -EOPNOTSUPP);
	must(kvmas_kvm_bind(m->kvm, m->space[NORMAL], 0));
	put_ram(m, NORMAL, "ram", 0, 4);
	assert_slots(m, "0:0 0-3 ram+0\n");
	machine_free(m);
}

static void bind_to_an_as_id_that_is_bound_returns_eexist(void **state)
{
	struct machine *m = *state;

	put_ram(m, NORMAL, "ram", 0, 4);
	assert_int_equal(kvmas_kvm_bind(m->kvm, m->space[SMM], 0), -EEXIST);
	assert_slots(m, "0:0 0-3 ram+0\n");
}

static void bind_of_a_space_of_another_kvmas_returns_exdev(void **state)
{
	struct machine *m = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_space *space =
		make_space(other, "other", make_container(other, "root", pages(1)));

	must(kvmas_kvm_unbind(m->kvm, 1));
	assert_int_equal(kvmas_kvm_bind(m->kvm, space, 1), -EXDEV);
	assert_int_equal(kvmas_kvm_set_pio_space(m->kvm, space), -EXDEV);
	fixture_free(other);
}

static void bind_maps_what_the_space_shows(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_unbind(m->kvm, 0));
	put_ram(m, NORMAL, "ram", 0, 4);
	assert_slots(m, "");
	must(kvmas_kvm_bind(m->kvm, m->space[NORMAL], 0));
	assert_slots(m, "0:0 0-3 ram+0\n");
}

static void unbind_deletes_the_slots_of_its_as_id(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	put_alias(m, SMM, ram, 0, 0, 4);
	must(kvmas_kvm_unbind(m->kvm, 0));
	assert_slots(m, "1:0 0-3 ram+0\n");
	assert_right(m);
	assert_int_equal(kvmas_kvm_unbind(m->kvm, 0), -ENOENT);
	assert_int_equal(kvmas_kvm_unbind(m->kvm, 2), -ENOENT);
}

static void space_of_two_as_ids_is_kept_in_both(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_unbind(m->kvm, SMM));
	must(kvmas_kvm_bind(m->kvm, m->space[NORMAL], SMM));
	put_ram(m, NORMAL, "ram", 0, 4);
	put_mmio(m, NORMAL, "mmio", 2, 1);
	assert_slots(m, "0:0 0-1 ram+0\n"
			"0:1 3-3 ram+3\n"
			"1:0 0-1 ram+0\n"
			"1:1 3-3 ram+3\n");
	must(kvmas_kvm_unbind(m->kvm, NORMAL));
	assert_slots(m, "1:0 0-1 ram+0\n"
			"1:1 3-3 ram+3\n");
}

static void same_memory_is_mapped_in_each_space_by_itself(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 16);

	put_mmio(m, NORMAL, "vga", 10, 2);
	put_alias(m, SMM, ram, 0, 0, 16);
	put_alias(m, SMM, ram, 32, 4, 2);
	assert_slots(m, "0:0 0-9 ram+0\n"
			"0:1 12-15 ram+12\n"
			"1:0 0-15 ram+0\n"
			"1:1 32-33 ram+4\n");
	assert_ptr_equal(fake_kvm_hva(m->vm, SMM, pages(33)),
			 fake_kvm_hva(m->vm, NORMAL, pages(5)));
}

static void change_in_one_space_issues_no_call_for_the_other(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 16);
	struct kvmas_region *smram = put_alias(m, SMM, ram, 10, 10, 2);

	fake_kvm_reset(m->vm);
	for (unsigned i = 0; i < 4; i++)
		must(kvmas_region_set_enabled(smram, i % 2));
	assert_int_equal(calls_in(m->vm, NORMAL, FAKE_KVM_NOPS), 0);
	assert_int_equal(calls_in(m->vm, SMM, FAKE_KVM_NOPS), 4);
}

static void commit_of_nothing_issues_no_call(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *mmio;

	put_ram(m, NORMAL, "ram", 0, 16);
	mmio = put_mmio(m, NORMAL, "mmio", 64, 1);
	fake_kvm_reset(m->vm);
	commit_nothing(m);
	must(kvmas_region_set_offset(mmio, pages(65)));
	assert_int_equal(m->vm->ncalls, 0);
}

/* ---- aborted ---- */

static void aborted_bind_unbind_and_reserve_leave_all_as_it_was(void **state)
{
	struct machine *m = *state;
	struct fake_kvm *before;

	put_ram(m, NORMAL, "ram", 0, 4);
	put_ram(m, SMM, "smram", 0, 4);
	before = fake_kvm_snapshot(m->vm);
	fake_kvm_reset(m->vm);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_unbind(m->kvm, 0));
	must(kvmas_kvm_unbind(m->kvm, 1));
	must(kvmas_kvm_bind(m->kvm, m->space[SMM], 0));
	must(kvmas_kvm_reserve_range(m->kvm, 0, pages(1)));
	must(kvmas_kvm_reserve_range(m->kvm, pages(2), pages(1)));
	must(kvmas_abort(m->f->kvmas));
	commit_nothing(m);
	assert_int_equal(m->vm->ncalls, 0);
	assert_true(fake_kvm_equal_slots(m->vm, before));
	assert_right(m);
	assert_int_equal(kvmas_kvm_bind(m->kvm, m->space[NORMAL], 1), -EEXIST);
	fake_kvm_free(before);
}

/* ---- life ---- */

static void unref_of_the_tie_leaves_the_slots_and_issues_no_more_ioctls(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_kvm *kvm = m->kvm;

	put_ram(m, NORMAL, "ram", 0, 4);
	must(kvmas_client_log_start(client, NULL, NULL));
	fake_kvm_reset(m->vm);
	m->kvm = NULL;
	kvmas_kvm_unref(kvm);
	put_ram(m, NORMAL, "more", 8, 4);
	put_ram(m, SMM, "more", 8, 4);
	must(kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX));
	assert_int_equal(m->vm->ncalls, 0);
	assert_int_equal(m->vm->spaces[NORMAL].nslots, 1);
}

/* The VMM may have closed the VM's fd by then; the tie has not ended before a commit. */
static void sync_after_the_last_unref_issues_no_ioctl(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_kvm *kvm = m->kvm;

	put_ram(m, NORMAL, "ram", 0, 4);
	must(kvmas_client_log_start(client, NULL, NULL));
	fake_kvm_reset(m->vm);
	m->kvm = NULL;
	kvmas_kvm_unref(kvm);
	must(kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX));
	assert_int_equal(m->vm->ncalls, 0);
}

static void unref_inside_a_transaction_ends_the_tie_with_it(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm *kvm = m->kvm;

	fake_kvm_reset(m->vm);
	must(kvmas_begin(m->f->kvmas));
	put_ram(m, NORMAL, "ram", 0, 4);
	m->kvm = NULL;
	kvmas_kvm_unref(kvm);
	must(kvmas_commit(m->f->kvmas));
	assert_int_equal(m->vm->ncalls, 0);
}

static void *unref_tie(void *data)
{
	kvmas_kvm_unref(data);
	return NULL;
}

static void unref_in_a_thread(struct machine *m, unsigned long request, void *arg)
{
	pthread_t thread;

	(void)request;
	(void)arg;
	if (!m->kvm)
		return;
	must(pthread_create(&thread, NULL, unref_tie, m->kvm));
	must(pthread_join(thread, NULL));
	m->kvm = NULL;
}

static void last_unref_by_another_thread_during_a_commit_leaks_nothing(void **state)
{
	struct machine *m = *state;

	m->on_ioctl = unref_in_a_thread;
	put_ram(m, NORMAL, "ram", 0, 4);
	put_ram(m, NORMAL, "more", 8, 4);
	assert_null(m->kvm);
}

static void reference_keeps_the_tie(void **state)
{
	struct machine *m = *state;

	assert_ptr_equal(kvmas_kvm_ref(m->kvm), m->kvm);
	kvmas_kvm_unref(m->kvm);
	put_ram(m, NORMAL, "ram", 0, 4);
	assert_slots(m, "0:0 0-3 ram+0\n");
	kvmas_kvm_unref(NULL);
}

static void bound_space_is_kept_by_its_binding(void **state)
{
	struct machine *m = *state;

	drop_space(m->f, m->space[NORMAL]);
	put_ram(m, NORMAL, "ram", 0, 4);
	assert_slots(m, "0:0 0-3 ram+0\n");
}

/* The table holds the block: KVM still has its memory when deleting is refused. */
static void memory_of_a_slot_outlives_its_region_while_kvm_has_it(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	put_ram(m, NORMAL, "other", 8, 4);
	fake_kvm_fail_from(m->vm, 2, ENOMEM);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_del(ram));
	put_ram(m, NORMAL, "third", 16, 4);
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOTRECOVERABLE);
	fake_kvm_fail_never(m->vm);
	drop_region(m->f, ram);
	commit_nothing(m);
	must(kvmas_region_del(ram));
	commit_nothing(m);
	assert_slots(m, "0:1 8-11 other+0\n");
}

/* ---- two VMs ---- */

struct second_vm {
	struct fake_kvm *vm;
	struct kvmas_kvm *kvm;
};

static struct second_vm add_vm(struct machine *m)
{
	struct second_vm second = {.vm = fake_kvm_new(NULL)};

	must(kvmas_kvm_new(m->f->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = second.vm->fd, .ioctl = fake_kvm_ioctl,
					.ioctl_data = second.vm),
			   &second.kvm));
	must(kvmas_kvm_bind(second.kvm, m->space[NORMAL], 0));
	return second;
}

static void drop_vm(struct second_vm *second)
{
	kvmas_kvm_unref(second->kvm);
	fake_kvm_free(second->vm);
}

static void refusal_of_the_second_vm_takes_back_the_first(void **state)
{
	struct machine *m = *state;
	struct second_vm second = add_vm(m);
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(4));
	struct fake_kvm *before;

	put_ram(m, NORMAL, "low", 32, 4);
	before = fake_kvm_snapshot(m->vm);
	fake_kvm_fail_at(second.vm, 1, ENOMEM);
	assert_int_equal(kvmas_region_add(m->root[NORMAL], ram, 0, 0), -ENOMEM);
	assert_true(fake_kvm_equal_slots(m->vm, before));
	assert_true(fake_kvm_equal_slots(second.vm, before));
	assert_right(m);
	must(kvmas_region_add(m->root[NORMAL], ram, 0, 0));
	assert_true(fake_kvm_equal_slots(m->vm, second.vm));
	fake_kvm_free(before);
	drop_vm(&second);
}

static void first_vm_that_refuses_to_go_back_is_repaired_by_the_next_commit(void **state)
{
	struct machine *m = *state;
	struct second_vm second = add_vm(m);
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(4));

	fake_kvm_fail_at(second.vm, 1, EINVAL);
	fake_kvm_fail_from(m->vm, 2, ENOMEM);
	assert_int_equal(kvmas_region_add(m->root[NORMAL], ram, 0, 0), -ENOTRECOVERABLE);
	assert_int_equal(second.vm->spaces[0].nslots, 0);
	assert_slots(m, "0:0 0-3 ram+0\n");
	fake_kvm_fail_never(m->vm);
	commit_nothing(m);
	assert_slots(m, "");
	drop_vm(&second);
}

/* ---- looking ---- */

static int stop_at_second(void *data, const struct kvmas_slot *slot)
{
	unsigned *count = data;

	(void)slot;
	return ++*count == 2 ? 42 : 0;
}

static struct machine *calling;

static void call_inside(struct fixture *f)
{
	unsigned count = 0;

	(void)f;
	assert_int_equal(kvmas_kvm_bind(calling->kvm, calling->space[SMM], 0), -EBUSY);
	assert_int_equal(kvmas_kvm_unbind(calling->kvm, 0), -EBUSY);
	assert_int_equal(kvmas_kvm_set_pio_space(calling->kvm, NULL), -EBUSY);
	assert_int_equal(kvmas_kvm_reserve_ids(calling->kvm, 0, 9, 1), -EBUSY);
	assert_int_equal(kvmas_kvm_reserve_range(calling->kvm, 0, pages(1)), -EBUSY);
	assert_int_equal(kvmas_kvm_slots_free(calling->kvm, 0), -EBUSY);
	assert_int_equal(kvmas_kvm_for_each_slot(calling->kvm, stop_at_second, &count), -EBUSY);
	assert_int_equal(kvmas_kvm_set_merge(calling->kvm, 0, KVMAS_MERGE_NONE), -EBUSY);
	assert_int_equal(kvmas_kvm_set_budget(calling->kvm, 0, 1), -EBUSY);
	assert_int_equal(kvmas_kvm_add_boundary(calling->kvm, 0, pages(1)), -EBUSY);
	assert_int_equal(kvmas_kvm_del_boundary(calling->kvm, 0, pages(1)), -EBUSY);
	assert_int_equal(kvmas_kvm_merge(calling->kvm, 0), -EBUSY);
	assert_int_equal(kvmas_kvm_dry_run(calling->kvm, NULL, NULL, NULL), -EBUSY);
	assert_int_equal(kvmas_kvm_get_as_count(calling->kvm), 2);
	note(calling->f, "inside");
}

static void call_inside_a_listener_callback_is_ebusy(void **state)
{
	struct machine *m = *state;

	make_listener(m->f, m->space[NORMAL], "x", 0);
	calling = m;
	m->f->inside = call_inside;
	forget_notes(m->f);
	put_ram(m, NORMAL, "ram", 0, 1);
	m->f->inside = NULL;
	assert_non_null(strstr(m->f->notes, "inside"));
}

/* ---- ZAP_SLOT ---- */

static int new_with_zap_slot(struct machine *m, struct fake_kvm *vm)
{
	struct kvmas_kvm *kvm;
	int err = kvmas_kvm_new(m->f->kvmas,
				KVMAS_CONFIG(kvm, .vm_fd = vm->fd, .ioctl = fake_kvm_ioctl,
					     .ioctl_data = vm, .flags = KVMAS_KVM_ZAP_SLOT),
				&kvm);

	if (!err)
		kvmas_kvm_unref(kvm);
	return err;
}

static void zap_slot_switches_the_quirk_off_where_there_is_one(void **state)
{
	struct fake_kvm *old = fake_kvm_new(NULL);
	struct fake_kvm *new = fake_kvm_new(&(struct fake_kvm_config){.version = FAKE_KVM_6_12});

	assert_int_equal(new_with_zap_slot(*state, old), -EOPNOTSUPP);
	must(new_with_zap_slot(*state, new));
	assert_int_equal(new->disabled_quirks, KVM_X86_QUIRK_SLOT_ZAP_ALL);
	fake_kvm_free(old);
	fake_kvm_free(new);
}

static struct fake_kvm *quirky;

static void new_inside(struct fixture *f)
{
	(void)f;
	assert_int_equal(new_with_zap_slot(calling, quirky), -EBUSY);
	note(calling->f, "inside");
}

static void zap_slot_that_is_refused_leaves_the_quirk_on(void **state)
{
	struct machine *m = *state;

	quirky = fake_kvm_new(&(struct fake_kvm_config){.version = FAKE_KVM_6_12});
	make_listener(m->f, m->space[NORMAL], "x", 0);
	calling = m;
	m->f->inside = new_inside;
	forget_notes(m->f);
	put_ram(m, NORMAL, "ram", 0, 1);
	m->f->inside = NULL;
	assert_non_null(strstr(m->f->notes, "inside"));
	assert_int_equal(quirky->disabled_quirks, 0);
	fake_kvm_free(quirky);
}

static void call_in_a_forked_child_is_eio(void **state)
{
	struct machine *m = *state;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct kvmas_kvm *kvm;
		bool right = kvmas_kvm_bind(m->kvm, m->space[SMM], 0) == -EIO &&
			     kvmas_kvm_unbind(m->kvm, 0) == -EIO &&
			     kvmas_kvm_set_pio_space(m->kvm, NULL) == -EIO &&
			     kvmas_kvm_reserve_ids(m->kvm, 0, 9, 1) == -EIO &&
			     kvmas_kvm_reserve_range(m->kvm, 0, page_size()) == -EIO &&
			     kvmas_kvm_slots_free(m->kvm, 0) == -EIO &&
			     kvmas_kvm_for_each_slot(m->kvm, stop_at_second, NULL) == -EIO &&
			     kvmas_kvm_set_merge(m->kvm, 0, KVMAS_MERGE_NONE) == -EIO &&
			     kvmas_kvm_set_budget(m->kvm, 0, 1) == -EIO &&
			     kvmas_kvm_add_boundary(m->kvm, 0, page_size()) == -EIO &&
			     kvmas_kvm_del_boundary(m->kvm, 0, page_size()) == -EIO &&
			     kvmas_kvm_merge(m->kvm, 0) == -EIO &&
			     kvmas_kvm_dry_run(m->kvm, NULL, NULL, NULL) == -EIO &&
			     kvmas_kvm_new(m->f->kvmas,
					   KVMAS_CONFIG(kvm, .vm_fd = m->vm->fd,
							.ioctl = machine_ioctl, .ioctl_data = m),
					   &kvm) == -EIO;

		_exit(right ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- hooks and counters ---- */

static void trace_tells_each_operation_with_its_result(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *rom = make_rom(m->f, "rom", pages(1));

	put_ram(m, NORMAL, "ram", 0, 4);
	must(kvmas_client_log_start(client, NULL, m->space[NORMAL]));
	add(m->root[SMM], rom, pages(8), 0);
	must(kvmas_region_del(rom));
	fake_kvm_fail_at(m->vm, 1, EIO);
	assert_int_equal(kvmas_region_add(m->root[NORMAL], rom, pages(9), 0), -EIO);
	assert_trace(m, "create 0:0 0-3 ram+0 = 0\n"
			"flags 0:0 0-3 ram+0 log = 0\n"
			"create 1:0 8-8 rom+0 ro = 0\n"
			"delete 1:0 8-8 rom+0 ro = 0\n"
			"create 0:1 9-9 rom+0 ro = -5\n");
}

static void counters_are_exact(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_kvm_stats expected = {.struct_size = sizeof(expected),
					   .commits = 7,
					   .slot_creates = 6,
					   .slot_deletes = 2,
					   .slot_flags = 4,
					   .bytes_torn_live = pages(14),
					   .vcpu_stops = 2,
					   .log_reads = 5};
	struct kvmas_kvm_stats stats;
	struct kvmas_region *vga;

	put_ram(m, NORMAL, "ram", 0, 16);                 /* create */
	put_ram(m, NORMAL, "far", 32, 1);                 /* create */
	vga = put_mmio(m, NORMAL, "vga", 10, 2);          /* delete, create, create: 14 torn */
	must(kvmas_region_set_enabled(vga, false));       /* create */
	must(kvmas_client_log_start(client, NULL, NULL)); /* flags, four times */
	must(kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX)); /* four reads */
	must(kvmas_region_set_enabled(vga, true));                   /* read, delete */
	fake_kvm_fail_at(m->vm, 1, ENOMEM);
	assert_int_equal(kvmas_kvm_reserve_range(m->kvm, pages(64), pages(1)), 0);
	assert_int_equal(kvmas_region_set_enabled(vga, false), -ENOMEM);
	must(kvmas_region_set_readonly(vga, true)); /* nothing */
	must(kvmas_region_set_enabled(vga, false)); /* create, logged */
	stats = stats_of(m);
	assert_true(stats.vcpu_stop_ns > 0);
	expected.vcpu_stop_ns = stats.vcpu_stop_ns;
	assert_memory_equal(&stats, &expected, sizeof(stats));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(bind_to_an_as_id_that_the_vm_has_not_returns_eopnotsupp),
		KVM_TEST(bind_to_an_as_id_that_is_bound_returns_eexist),
		KVM_TEST(bind_of_a_space_of_another_kvmas_returns_exdev),
		KVM_TEST(bind_maps_what_the_space_shows),
		KVM_TEST(unbind_deletes_the_slots_of_its_as_id),
		KVM_TEST(space_of_two_as_ids_is_kept_in_both),
		KVM_TEST(same_memory_is_mapped_in_each_space_by_itself),
		KVM_TEST(change_in_one_space_issues_no_call_for_the_other),
		KVM_TEST(commit_of_nothing_issues_no_call),
		KVM_TEST(aborted_bind_unbind_and_reserve_leave_all_as_it_was),
		KVM_TEST(unref_of_the_tie_leaves_the_slots_and_issues_no_more_ioctls),
		KVM_TEST(sync_after_the_last_unref_issues_no_ioctl),
		KVM_TEST(unref_inside_a_transaction_ends_the_tie_with_it),
		KVM_TEST(last_unref_by_another_thread_during_a_commit_leaks_nothing),
		KVM_TEST(reference_keeps_the_tie),
		KVM_TEST(bound_space_is_kept_by_its_binding),
		KVM_TEST(memory_of_a_slot_outlives_its_region_while_kvm_has_it),
		KVM_TEST(refusal_of_the_second_vm_takes_back_the_first),
		KVM_TEST(first_vm_that_refuses_to_go_back_is_repaired_by_the_next_commit),
		KVM_TEST(call_inside_a_listener_callback_is_ebusy),
		KVM_TEST(zap_slot_switches_the_quirk_off_where_there_is_one),
		KVM_TEST(zap_slot_that_is_refused_leaves_the_quirk_on),
		KVM_TEST(call_in_a_forked_child_is_eio),
		KVM_TEST(trace_tells_each_operation_with_its_result),
		KVM_TEST(counters_are_exact),
	};

	return cmocka_run_group_tests_name("kvm", tests, NULL, NULL);
}

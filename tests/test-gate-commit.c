/* SPDX-License-Identifier: MIT */
/*
 * The gate as commits use it: when it is closed and when not, who counts as outside, who hears of
 * it, and what becomes of it when the commit fails. vCPUs are as in test-gate.c.
 */
#include "gate-fixture.h"

#define PER_VCPU 100

/* RAM in both spaces, to be flipped. A readonly slot is deleted and made anew, and back. */
static void put_flipping_ram(struct stage *s)
{
	s->ram = put_ram(s->m, NORMAL, "ram", 0, 8);
	put_alias(s->m, SMM, s->ram, 16, 2, 4);
}

static int flip(struct stage *s, bool readonly)
{
	return kvmas_region_set_readonly(s->ram, readonly);
}

static uint64_t stops(struct stage *s)
{
	return stats_of(s->m).vcpu_stops;
}

static unsigned runs_ended(const struct cpu *cpu)
{
	return atomic_load(&cpu->ends[END_GATE]) + atomic_load(&cpu->ends[END_EINTR]);
}

/* ---- when ---- */

static void commit_that_takes_away_nothing_that_stays_does_not_stop_vcpus(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_CALLBACK);
	struct kvmas_client *client = make_client(s->m, "client");
	struct kvmas_region *device;

	put_flipping_ram(s);
	must(kvmas_region_set_enabled(s->ram, false));
	must(kvmas_region_set_enabled(s->ram, true));
	put_ram(s->m, SMM, "more", 64, 4);
	device = put_mmio(s->m, NORMAL, "device", 128, 1);
	must(kvmas_region_set_offset(device, pages(130)));
	must(kvmas_client_log_start(client, s->ram, NULL));
	assert_true(stats_of(s->m).slot_deletes > 0);
	assert_true(stats_of(s->m).slot_flags > 0);
	assert_int_equal(stops(s), 0);
	assert_int_equal(stats_of(s->m).vcpu_stop_ns, 0);
	assert_int_equal(atomic_load(&cpu->kicks), 0);
	assert_int_equal(runs_ended(cpu), 0);
}

static void flip_of_memory_in_two_spaces_stops_once(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_CALLBACK);

	put_flipping_ram(s);
	for (unsigned i = 1; i <= 20; i++) {
		must(flip(s, i % 2));
		assert_int_equal(stops(s), i);
		eventually(runs_ended(cpu) == i && atomic_load(&cpu->running));
	}
	assert_int_equal(atomic_load(&cpu->ends[END_GATE]), 20);
	assert_int_equal(stats_of(s->m).slot_deletes, 40);
	assert_true(stats_of(s->m).vcpu_stop_ns > 0);
}

static void logged_slot_that_goes_or_stops_being_logged_stops_vcpus(void **state)
{
	struct stage *s = *state;
	struct kvmas_client *client = make_client(s->m, "client");

	put_flipping_ram(s);
	add_running_cpu(s, WAY_HANDLER);
	must(kvmas_client_log_start(client, s->ram, NULL));
	assert_int_equal(stops(s), 0);
	must(kvmas_region_set_enabled(s->ram, false));
	assert_int_equal(stops(s), 1);
	must(kvmas_region_set_enabled(s->ram, true));
	assert_int_equal(stops(s), 1);
	must(kvmas_client_log_stop(client, s->ram, NULL));
	assert_int_equal(stops(s), 2);
}

static void dry_run_foretells_a_stop_and_stops_nobody(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_CALLBACK);
	struct kvmas_kvm_plan plan = {.struct_size = sizeof(plan)};

	put_flipping_ram(s);
	must(kvmas_begin(s->m->f->kvmas));
	must(flip(s, true));
	must(kvmas_kvm_dry_run(s->m->kvm, NULL, NULL, &plan));
	assert_int_equal(plan.stop, 1);
	assert_int_equal(atomic_load(&cpu->kicks), 0);
	must(kvmas_abort(s->m->f->kvmas));
	assert_int_equal(atomic_load(&cpu->kicks), 0);
}

/* ---- who ---- */

static void count_running(struct stage *s, unsigned long request)
{
	atomic_uint *seen = s->data;

	if (request != KVM_SET_USER_MEMORY_REGION && request != KVM_GET_DIRTY_LOG)
		return;
	for (unsigned i = 0; i < s->ncpus; i++) {
		if (atomic_load(&s->cpus[i].running))
			atomic_fetch_add(seen, 1);
	}
}

static void nobody_runs_while_slots_are_replaced(void **state)
{
	struct stage *s = *state;
	atomic_uint seen = 0;

	put_flipping_ram(s);
	for (unsigned i = 0; i < 6; i++)
		add_running_cpu(s, i % NWAYS);
	s->data = &seen;
	s->on_ioctl = count_running;
	for (unsigned i = 1; i <= 200; i++)
		must(flip(s, i % 2));
	s->on_ioctl = NULL;
	s->data = NULL;
	assert_int_equal(atomic_load(&seen), 0);
	assert_int_equal(stops(s), 200);
}

static void begin_and_abort(struct cpu *cpu)
{
	atomic_store(&cpu->step, 1);
	if (kvmas_begin(cpu->stage->m->f->kvmas) || kvmas_abort(cpu->stage->m->f->kvmas))
		atomic_store(&cpu->step, 100);
}

static void vcpu_that_waits_in_begin_is_outside(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	put_flipping_ram(s);
	cpu->on_exit = begin_and_abort;
	start(cpu);
	must(kvmas_begin(s->m->f->kvmas));
	ring_exit(cpu);
	eventually(atomic_load(&cpu->step) == 1);
	for_a_while(atomic_load(&cpu->ends[END_EXIT]) == 0);
	must(flip(s, true));
	must(kvmas_commit(s->m->f->kvmas));
	eventually(atomic_load(&cpu->ends[END_EXIT]) == 1 && atomic_load(&cpu->running));
	assert_int_equal(atomic_load(&cpu->step), 1);
	assert_int_equal(runs_ended(cpu), 0);
}

static void wait_for_the_test(struct cpu *cpu)
{
	atomic_store(&cpu->step, 1);
	while (atomic_load(&cpu->step) == 1)
		usleep(100);
}

static void vcpu_inside_a_callback_is_outside(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	put_flipping_ram(s);
	cpu->on_exit = wait_for_the_test;
	start(cpu);
	ring_exit(cpu);
	eventually(atomic_load(&cpu->step) == 1);
	must(flip(s, true));
	assert_int_equal(stops(s), 1);
	assert_int_equal(immediate_exit_of(cpu), 0);
	atomic_store(&cpu->step, 2);
	eventually(atomic_load(&cpu->running));
}

static void vcpu_whose_thread_has_ended_is_outside(void **state)
{
	struct stage *s = *state;

	put_flipping_ram(s);
	stop(add_running_cpu(s, WAY_HANDLER));
	must(flip(s, true));
	assert_int_equal(stops(s), 1);
}

/* A device that flips its own vCPU's memory at each exit, and asks for the next. */
static void flip_own(struct cpu *cpu)
{
	struct kvmas_region *ram = cpu->stage->m->region[cpu - cpu->stage->cpus];
	unsigned i = atomic_fetch_add(&cpu->step, 1);

	if (kvmas_region_set_readonly(ram, i % 2 == 0))
		atomic_fetch_add(&cpu->ends[END_STRANGE], 1);
	if (i + 1 < PER_VCPU)
		ring_exit(cpu);
}

static void add_flipping_cpus(struct stage *s, unsigned count)
{
	static const char *const names[] = {"a", "b", "c", "d"};

	for (unsigned i = 0; i < count; i++) {
		struct cpu *cpu = add_cpu(s, i % 2 ? WAY_MASK : WAY_HANDLER);

		s->m->region[i] = put_ram(s->m, NORMAL, names[i], 8 * (uint64_t)i, 4);
		cpu->on_exit = flip_own;
		start(cpu);
		eventually(atomic_load(&cpu->running));
	}
	for (unsigned i = 0; i < count; i++)
		ring_exit(&s->cpus[i]);
	for (unsigned i = 0; i < count; i++)
		eventually(atomic_load(&s->cpus[i].ends[END_EXIT]) == PER_VCPU);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(atomic_load(&s->cpus[i].ends[END_STRANGE]), 0);
}

static void vcpus_that_commit_at_once_do_not_deadlock(void **state)
{
	struct stage *s = *state;

	add_flipping_cpus(s, 4);
	assert_int_equal(stops(s), 4 * PER_VCPU);
}

static void lone_vcpu_that_commits_by_itself_is_not_stopped(void **state)
{
	struct stage *s = *state;

	add_flipping_cpus(s, 1);
	assert_int_equal(stops(s), 0);
	assert_int_equal(stats_of(s->m).vcpu_stop_ns, 0);
	assert_int_equal(runs_ended(&s->cpus[0]), 0);
}

static void enter_once(struct stage *s)
{
	atomic_store(&s->cpus[0].strange, kvmas_gate_enter(s->cpus[0].vcpu));
}

static void enter_from_the_trace_hook_of_a_stop_returns_edeadlk(void **state)
{
	struct stage *s = *state;

	put_flipping_ram(s);
	add_cpu(s, WAY_HANDLER);
	s->on_trace = enter_once;
	must(flip(s, true));
	assert_int_equal(atomic_load(&s->cpus[0].strange), -EDEADLK);
}

/* ---- hooks and failures ---- */

static void note_operation(struct stage *s)
{
	note(s->m->f, "slot");
}

static void hooks_come_once_around_all_operations_and_before_listeners(void **state)
{
	struct stage *s = stage_new(true);

	(void)state;
	put_flipping_ram(s);
	must(kvmas_begin(s->m->f->kvmas));
	must(flip(s, true));
	s->on_trace = note_operation;
	must(kvmas_commit(s->m->f->kvmas));
	assert_notes(s->m->f, "pause\nslot\nslot\nslot\nslot\nresume\n");
	make_listener(s->m->f, s->m->space[NORMAL], "x", 0);
	forget_notes(s->m->f);
	must(flip(s, false));
	assert_non_null(strstr(s->m->f->notes, "pause\nslot\nslot\nslot\nslot\nresume\nx begin\n"));
	forget_notes(s->m->f);
	must(kvmas_region_set_enabled(s->ram, false));
	assert_non_null(strstr(s->m->f->notes, "slot"));
	assert_null(strstr(s->m->f->notes, "pause"));
	forget_notes(s->m->f);
	stage_free(s);
}

static void pause_that_fails_fails_the_commit_before_the_first_ioctl(void **state)
{
	struct stage *s = stage_new(true);
	struct cpu *cpu = add_running_cpu(s, WAY_HANDLER);
	char *before, *after;

	(void)state;
	put_flipping_ram(s);
	before = slots_text(s->m->kvm);
	fake_kvm_reset(s->m->vm);
	s->pause_result = -ETIMEDOUT;
	assert_int_equal(flip(s, true), -ETIMEDOUT);
	assert_notes(s->m->f, "pause\n");
	assert_int_equal(s->m->vm->ncalls, 0);
	after = slots_text(s->m->kvm);
	assert_string_equal(after, before);
	assert_int_equal(stops(s), 0);
	assert_int_equal(runs_ended(cpu), 0);
	s->pause_result = 0;
	must(flip(s, true));
	assert_notes(s->m->f, "pause\nresume\n");
	free(before);
	free(after);
	stage_free(s);
}

static void refused_commit_lets_vcpus_in_again(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_HANDLER);
	char *before, *after;

	put_flipping_ram(s);
	before = slots_text(s->m->kvm);
	for (unsigned k = 1; k <= 4; k++) {
		fake_kvm_fail_at(s->m->vm, k, ENOMEM);
		assert_int_equal(flip(s, true), -ENOMEM);
		after = slots_text(s->m->kvm);
		assert_string_equal(after, before);
		free(after);
		eventually(runs_ended(cpu) == k && atomic_load(&cpu->running));
		assert_int_equal(stops(s), k);
	}
	free(before);
}

/* Another VM of the same kvmas, which shows the same memory and is asked after the stage's. */
static struct kvmas_kvm *add_second_tie(struct stage *s, struct fake_kvm *vm)
{
	struct kvmas_kvm *kvm;

	must(kvmas_kvm_new(
		s->m->f->kvmas,
		KVMAS_CONFIG(kvm, .vm_fd = vm->fd, .ioctl = fake_kvm_ioctl, .ioctl_data = vm),
		&kvm));
	must(kvmas_kvm_bind(kvm, s->m->space[NORMAL], 0));
	return kvm;
}

static void commit_refused_by_a_second_vm_lets_the_vcpus_of_the_first_in_again(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_HANDLER);
	struct fake_kvm *vm = fake_kvm_new(NULL);
	struct kvmas_kvm *kvm;

	put_flipping_ram(s);
	kvm = add_second_tie(s, vm);
	fake_kvm_fail_at(vm, 1, ENOMEM);
	assert_int_equal(flip(s, true), -ENOMEM);
	assert_int_equal(stops(s), 1);
	eventually(runs_ended(cpu) == 1 && atomic_load(&cpu->running));
	must(flip(s, true));
	assert_int_equal(stops(s), 2);
	eventually(runs_ended(cpu) == 2 && atomic_load(&cpu->running));
	must(kvmas_kvm_unbind(kvm, 0));
	kvmas_kvm_unref(kvm);
	must(kvmas_reclaim(s->m->f->kvmas));
	fake_kvm_free(vm);
}

static int agree(void *data)
{
	(void)data;
	return 0;
}

static void forget(void *data)
{
	(void)data;
}

static void one_hook_without_the_other_is_einval(void **state)
{
	struct stage *s = *state;
	struct kvmas_kvm *kvm = NULL;

	assert_int_equal(kvmas_kvm_new(s->m->f->kvmas,
				       KVMAS_CONFIG(kvm, .ioctl = fake_kvm_ioctl,
						    .ioctl_data = s->m->vm, .pause = agree),
				       &kvm),
			 -EINVAL);
	assert_int_equal(kvmas_kvm_new(s->m->f->kvmas,
				       KVMAS_CONFIG(kvm, .ioctl = fake_kvm_ioctl,
						    .ioctl_data = s->m->vm, .resume = forget),
				       &kvm),
			 -EINVAL);
	assert_null(kvm);
}

static void slot_result_that_kvm_never_gives_is_eproto_and_counts_as_not_done(void **state)
{
	static const int results[] = {1, 4096, INT32_MAX, -4096, INT32_MIN};
	struct stage *s = *state;
	char *before, *after;

	put_flipping_ram(s);
	before = slots_text(s->m->kvm);
	s->forged = KVM_SET_USER_MEMORY_REGION;
	for (size_t i = 0; i < LENGTH(results); i++) {
		s->forged_result = results[i];
		assert_int_equal(flip(s, true), -EPROTO);
		after = slots_text(s->m->kvm);
		assert_string_equal(after, before);
		free(after);
		assert_right(s->m);
	}
	s->forged_result = -4095;
	assert_int_equal(flip(s, true), -4095);
	s->forged = 0;
	must(flip(s, true));
	free(before);
}

static void log_result_that_kvm_never_gives_is_eproto_and_makes_all_dirty(void **state)
{
	static const int results[] = {1, -4096};
	struct stage *s = *state;
	struct kvmas_client *client = make_client(s->m, "client");

	put_flipping_ram(s);
	must(kvmas_client_log_start(client, s->ram, NULL));
	s->forged = KVM_GET_DIRTY_LOG;
	for (size_t i = 0; i < LENGTH(results); i++) {
		s->forged_result = results[i];
		assert_int_equal(kvmas_space_sync(s->m->space[NORMAL], 0, KVMAS_SIZE_MAX), -EPROTO);
		assert_taken(client, block_of(s->ram), "0-7 ");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GATE_TEST(commit_that_takes_away_nothing_that_stays_does_not_stop_vcpus),
		GATE_TEST(flip_of_memory_in_two_spaces_stops_once),
		GATE_TEST(logged_slot_that_goes_or_stops_being_logged_stops_vcpus),
		GATE_TEST(dry_run_foretells_a_stop_and_stops_nobody),
		GATE_TEST(nobody_runs_while_slots_are_replaced),
		GATE_TEST(vcpu_that_waits_in_begin_is_outside),
		GATE_TEST(vcpu_inside_a_callback_is_outside),
		GATE_TEST(vcpu_whose_thread_has_ended_is_outside),
		GATE_TEST(vcpus_that_commit_at_once_do_not_deadlock),
		GATE_TEST(lone_vcpu_that_commits_by_itself_is_not_stopped),
		GATE_TEST(enter_from_the_trace_hook_of_a_stop_returns_edeadlk),
		cmocka_unit_test(hooks_come_once_around_all_operations_and_before_listeners),
		cmocka_unit_test(pause_that_fails_fails_the_commit_before_the_first_ioctl),
		GATE_TEST(refused_commit_lets_vcpus_in_again),
		GATE_TEST(commit_refused_by_a_second_vm_lets_the_vcpus_of_the_first_in_again),
		GATE_TEST(one_hook_without_the_other_is_einval),
		GATE_TEST(slot_result_that_kvm_never_gives_is_eproto_and_counts_as_not_done),
		GATE_TEST(log_result_that_kvm_never_gives_is_eproto_and_makes_all_dirty),
	};

	return cmocka_run_group_tests_name("gate-commit", tests, NULL, NULL);
}

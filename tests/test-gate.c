/* SPDX-License-Identifier: MIT */
/*
 * The gate by itself: closed and opened by the test, on vCPUs that are threads in a KVM_RUN of the
 * test's own. What commits do with it is test-gate-commit.c, who
 * meets whom in it test-gate-race.c; real vCPUs are test-real-gate.c.
 */
#include "gate-fixture.h"

#include <sys/wait.h>
#include <time.h>

#include "kvm/gate.h"

static unsigned ends(const struct cpu *cpu, enum end end)
{
	return atomic_load(&cpu->ends[end]);
}

static bool nobody_runs(struct stage *s)
{
	for (unsigned i = 0; i < s->ncpus; i++) {
		if (atomic_load(&s->cpus[i].running))
			return false;
	}
	return true;
}

static bool all_run(struct stage *s)
{
	for (unsigned i = 0; i < s->ncpus; i++) {
		if (!atomic_load(&s->cpus[i].running))
			return false;
	}
	return true;
}

static void close_gate(struct stage *s)
{
	must(kas_gate_close(s->m->kvm));
}

static void open_gate(struct stage *s)
{
	kas_gate_open(s->m->kvm);
}

/* ---- out and in ---- */

static void close_and_open(struct stage *s, unsigned times)
{
	for (unsigned i = 1; i <= times; i++) {
		close_gate(s);
		assert_true(nobody_runs(s));
		usleep(300);
		assert_true(nobody_runs(s));
		open_gate(s);
		eventually(all_run(s));
	}
	for (unsigned i = 0; i < s->ncpus; i++) {
		eventually(ends(&s->cpus[i], END_GATE) == times);
		assert_int_equal(ends(&s->cpus[i], END_EINTR), 0);
		assert_int_equal(immediate_exit_of(&s->cpus[i]), 0);
	}
}

static void closed_gate_keeps_vcpus_out_whatever_they_are_kicked_with(void **state)
{
	(void)state;
	for (enum way way = 0; way < NWAYS; way++) {
		struct stage *s = stage_new(false);

		for (unsigned i = 0; i < 4; i++)
			add_running_cpu(s, way);
		close_and_open(s, 20);
		stage_free(s);
	}
}

static void closed_gate_stays_closed_until_it_is_opened(void **state)
{
	struct stage *s = *state;

	for (enum way way = 0; way < NWAYS; way++)
		add_running_cpu(s, way);
	close_gate(s);
	for_a_while(nobody_runs(s));
	open_gate(s);
	eventually(all_run(s));
}

static void opening_an_open_gate_does_nothing(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_HANDLER);

	open_gate(s);
	for_a_while(atomic_load(&cpu->running));
	assert_int_equal(stats_of(s->m).vcpu_stops, 0);
}

static void kick_that_was_lost_is_repeated(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_CALLBACK);

	atomic_store(&cpu->deaf, 3);
	close_gate(s);
	assert_true(nobody_runs(s));
	assert_int_equal(atomic_load(&cpu->kicks), 4);
	open_gate(s);
}

static void vcpu_outside_is_not_kicked(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_CALLBACK);

	close_gate(s);
	open_gate(s);
	must(kvmas_gate_enter(cpu->vcpu));
	must(kvmas_gate_leave(cpu->vcpu));
	close_gate(s);
	assert_int_equal(atomic_load(&cpu->kicks), 0);
	assert_int_equal(immediate_exit_of(cpu), 0);
	open_gate(s);
}

/* ---- what a run returns ---- */

static void run_that_has_an_exit_returns_0_though_the_gate_asked(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	cpu->kicked_with = 0;
	start(cpu);
	eventually(atomic_load(&cpu->running));
	close_gate(s);
	open_gate(s);
	eventually(ends(cpu, END_EXIT) == 1);
	assert_int_equal(ends(cpu, END_GATE), 0);
	assert_int_equal(immediate_exit_of(cpu), 0);
}

static void run_ended_by_the_vmm_returns_eintr_and_keeps_its_immediate_exit(void **state)
{
	(void)state;
	for (enum way way = 0; way < NWAYS; way++) {
		struct stage *s = stage_new(false);
		struct cpu *cpu = add_running_cpu(s, way);

		atomic_store(&cpu->stopping, true);
		end_run(cpu);
		eventually(ends(cpu, END_EINTR) == 1);
		assert_int_equal(immediate_exit_of(cpu), 1);
		assert_int_equal(ends(cpu, END_GATE), 0);
		stage_free(s);
	}
}

static void run_ended_by_vmm_and_gate_returns_eintr_and_keeps_the_1(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_CALLBACK);

	/* Seen by KVM_RUN when it begins only: it goes on, until the gate's kick. */
	atomic_store(&cpu->stopping, true);
	set_immediate_exit(cpu, 1);
	close_gate(s);
	open_gate(s);
	eventually(ends(cpu, END_EINTR) == 1);
	assert_int_equal(immediate_exit_of(cpu), 1);
	assert_int_equal(ends(cpu, END_GATE), 0);
}

static void run_ended_by_a_signal_of_the_vmms_alone_returns_eintr(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_running_cpu(s, WAY_CALLBACK);

	pthread_kill(cpu->thread, SIGUSR1);
	eventually(ends(cpu, END_EINTR) == 1);
	assert_int_equal(immediate_exit_of(cpu), 0);
}

static void result_that_kvm_run_never_gives_is_eproto(void **state)
{
	static const struct {
		int given;
		int returned;
	} cases[] = {{1, -EPROTO},   {12345, -EPROTO},   {-4096, -EPROTO},  {INT32_MIN, -EPROTO},
		     {-4095, -4095}, {-EFAULT, -EFAULT}, {-EAGAIN, -EAGAIN}};
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	set_immediate_exit(cpu, 1);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		cpu->kicked_with = cases[i].given;
		assert_int_equal(kvmas_vcpu_run(cpu->vcpu), cases[i].returned);
	}
	set_immediate_exit(cpu, 0);
}

/* ---- enter and leave ---- */

static void second_enter_returns_ebusy(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	must(kvmas_gate_enter(cpu->vcpu));
	assert_int_equal(kvmas_gate_enter(cpu->vcpu), -EBUSY);
	assert_int_equal(kvmas_vcpu_run(cpu->vcpu), -EBUSY);
	must(kvmas_gate_leave(cpu->vcpu));
	must(kvmas_gate_enter(cpu->vcpu));
	must(kvmas_gate_leave(cpu->vcpu));
}

static void *enter_and_leave(void *data)
{
	struct cpu *cpu = data;

	atomic_store(&cpu->strange,
		     kvmas_gate_enter(cpu->vcpu) * 1000 + kvmas_gate_leave(cpu->vcpu));
	return NULL;
}

static void other_thread_can_neither_enter_nor_leave_for_one_inside(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);
	pthread_t thread;

	must(kvmas_gate_enter(cpu->vcpu));
	must(pthread_create(&thread, NULL, enter_and_leave, cpu));
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&cpu->strange), -EBUSY * 1000 - EINVAL);
	must(kvmas_gate_leave(cpu->vcpu));
}

static void leave_without_enter_returns_einval(void **state)
{
	struct cpu *cpu = add_cpu(*state, WAY_HANDLER);

	assert_int_equal(kvmas_gate_leave(cpu->vcpu), -EINVAL);
}

static void vcpu_that_cannot_be_kicked_cannot_pass(void **state)
{
	struct cpu *cpu = add_cpu(*state, WAY_NONE);

	assert_int_equal(kvmas_gate_enter(cpu->vcpu), -EINVAL);
	assert_int_equal(kvmas_vcpu_run(cpu->vcpu), -EINVAL);
	assert_int_equal(kvmas_gate_leave(cpu->vcpu), -EINVAL);
}

static void enter_of_the_thread_that_closed_the_gate_returns_edeadlk(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	close_gate(s);
	assert_int_equal(kvmas_gate_enter(cpu->vcpu), -EDEADLK);
	assert_int_equal(kvmas_vcpu_run(cpu->vcpu), -EDEADLK);
	open_gate(s);
	must(kvmas_gate_enter(cpu->vcpu));
	must(kvmas_gate_leave(cpu->vcpu));
}

static void closer_inside_does_not_wait_for_itself(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_CALLBACK);
	struct cpu *other = add_running_cpu(s, WAY_CALLBACK);

	must(kvmas_gate_enter(cpu->vcpu));
	close_gate(s);
	assert_false(atomic_load(&other->running));
	assert_int_equal(atomic_load(&cpu->kicks), 0);
	must(kvmas_gate_leave(cpu->vcpu));
	open_gate(s);
	assert_int_equal(stats_of(s->m).vcpu_stops, 1);
}

/* Enter for another ioctl, which goes on until the test says so. */
static void *stay_inside(void *data)
{
	struct cpu *cpu = data;

	atomic_store(&cpu->strange, kvmas_gate_enter(cpu->vcpu));
	atomic_store(&cpu->running, true);
	while (!atomic_load(&cpu->stopping))
		usleep(100);
	atomic_store(&cpu->running, false);
	atomic_store(&cpu->strange, kvmas_gate_leave(cpu->vcpu));
	return NULL;
}

static void *close_and_note(void *data)
{
	struct stage *s = data;

	close_gate(s);
	atomic_store((atomic_bool *)s->data, true);
	open_gate(s);
	return NULL;
}

static void closer_waits_for_another_ioctl_and_leave_tells_that_it_was_asked(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);
	atomic_bool closed = false;
	pthread_t inside, closer;

	s->data = &closed;
	must(pthread_create(&inside, NULL, stay_inside, cpu));
	eventually(atomic_load(&cpu->running));
	must(pthread_create(&closer, NULL, close_and_note, s));
	eventually(immediate_exit_of(cpu));
	for_a_while(!atomic_load(&closed));
	atomic_store(&cpu->stopping, true);
	pthread_join(inside, NULL);
	pthread_join(closer, NULL);
	assert_true(atomic_load(&closed));
	assert_int_equal(atomic_load(&cpu->strange), 1);
	assert_int_equal(immediate_exit_of(cpu), 0);
	s->data = NULL;
}

/* ---- coming and going ---- */

static void vcpu_added_while_the_gate_is_closed_waits(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu;

	close_gate(s);
	cpu = add_cpu(s, WAY_HANDLER);
	start(cpu);
	for_a_while(!atomic_load(&cpu->running));
	open_gate(s);
	eventually(atomic_load(&cpu->running));
}

static void *run_once_and_delete(void *data)
{
	struct cpu *cpu = data;

	atomic_store(&cpu->strange, kvmas_vcpu_run(cpu->vcpu));
	kvmas_vcpu_del(cpu->vcpu);
	cpu->vcpu = NULL;
	return NULL;
}

static void vcpu_deleted_while_the_gate_is_closed_is_outside(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	must(pthread_create(&cpu->thread, NULL, run_once_and_delete, cpu));
	eventually(atomic_load(&cpu->running));
	close_gate(s);
	pthread_join(cpu->thread, NULL);
	assert_null(cpu->vcpu);
	assert_int_equal(atomic_load(&cpu->strange), 1);
	open_gate(s);
	close_gate(s);
	open_gate(s);
}

static void *enter_and_delete(void *data)
{
	struct cpu *cpu = data;

	atomic_store(&cpu->strange, kvmas_gate_enter(cpu->vcpu));
	atomic_store(&cpu->running, true);
	while (!immediate_exit_of(cpu))
		usleep(100);
	atomic_store(&cpu->running, false);
	kvmas_vcpu_del(cpu->vcpu);
	cpu->vcpu = NULL;
	return NULL;
}

static void vcpu_deleted_from_inside_lets_the_closer_go_on(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);

	must(pthread_create(&cpu->thread, NULL, enter_and_delete, cpu));
	eventually(atomic_load(&cpu->running));
	close_gate(s);
	pthread_join(cpu->thread, NULL);
	open_gate(s);
	assert_int_equal(immediate_exit_of(cpu), 0);
}

static void vcpu_config_that_makes_no_sense_is_einval(void **state)
{
	struct stage *s = *state;
	struct kvm_run run = {0};
	struct kvmas_vcpu_config good = {
		.struct_size = sizeof(good), .run = &run, .run_size = sizeof(run)};
	struct kvmas_vcpu_config bad[7];
	struct kvmas_vcpu *vcpu = NULL;
	size_t bytes = s->m->f->heap.bytes;

	for (size_t i = 0; i < LENGTH(bad); i++)
		bad[i] = good;
	bad[0].kick_signal = -1;
	bad[1].kick_signal = SIGRTMAX + 1;
	bad[2].kick_signal = SIGKILL;
	bad[3].kick_signal = SIGSTOP;
	bad[4].run = NULL;
	bad[5].run_size--;
	bad[6].kick_signal = SIGRTMIN - 1; /* libc's own: pthread_kill refuses it */
	for (size_t i = 0; i < LENGTH(bad); i++)
		assert_int_equal(kvmas_vcpu_add(s->m->kvm, &bad[i], &vcpu), -EINVAL);
	assert_null(vcpu);
	assert_int_equal(s->m->f->heap.bytes, bytes);
}

static void ring_nothing(void *data)
{
	(void)data;
}

static void vcpu_with_two_ways_to_kick_is_einval(void **state)
{
	struct stage *s = *state;
	struct kvm_run run = {0};
	struct kvmas_vcpu *vcpu;

	assert_int_equal(kvmas_vcpu_add(s->m->kvm,
					KVMAS_CONFIG(vcpu, .run = &run, .run_size = sizeof(run),
						     .kick_signal = SIGUSR1, .kick = ring_nothing),
					&vcpu),
			 -EINVAL);
}

static void vcpu_without_memory_is_enomem(void **state)
{
	struct stage *s = *state;
	struct kvm_run run = {0};
	struct kvmas_vcpu *vcpu;

	s->m->f->heap.fail_in = 1;
	assert_int_equal(kvmas_vcpu_add(s->m->kvm,
					KVMAS_CONFIG(vcpu, .run = &run, .run_size = sizeof(run)),
					&vcpu),
			 -ENOMEM);
	close_gate(s);
	open_gate(s);
}

static int in_child(struct cpu *cpu)
{
	if (kvmas_gate_enter(cpu->vcpu) != -EIO || kvmas_gate_leave(cpu->vcpu) != -EIO ||
	    kvmas_vcpu_run(cpu->vcpu) != -EIO)
		return 1;
	kvmas_vcpu_del(cpu->vcpu);
	return 0;
}

static void forked_child_gets_eio_and_does_not_wait(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_HANDLER);
	int status;
	pid_t pid;

	close_gate(s);
	pid = fork();
	if (pid == 0)
		_exit(in_child(cpu));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	open_gate(s);
}

/* ---- the VMM's own gate, counters ---- */

static void hooks_are_called_around_a_closing_also_without_vcpus(void **state)
{
	struct stage *s = stage_new(true);

	(void)state;
	close_gate(s);
	assert_notes(s->m->f, "pause\n");
	open_gate(s);
	assert_notes(s->m->f, "resume\n");
	assert_int_equal(stats_of(s->m).vcpu_stops, 1);
	stage_free(s);
}

static void pause_that_fails_leaves_the_gate_open(void **state)
{
	struct stage *s = stage_new(true);
	struct cpu *cpu = add_running_cpu(s, WAY_HANDLER);

	(void)state;
	s->pause_result = -EXDEV;
	assert_int_equal(kas_gate_close(s->m->kvm), -EXDEV);
	for_a_while(atomic_load(&cpu->running));
	open_gate(s);
	assert_notes(s->m->f, "pause\n");
	assert_int_equal(ends(cpu, END_GATE), 0);
	assert_int_equal(stats_of(s->m).vcpu_stops, 0);
	assert_int_equal(stats_of(s->m).vcpu_stop_ns, 0);
	stage_free(s);
}

static void closing_counts_as_a_stop_only_for_others_that_passed(void **state)
{
	struct stage *s = *state;
	struct cpu *own = add_cpu(s, WAY_HANDLER);

	close_gate(s);
	open_gate(s);
	must(kvmas_gate_enter(own->vcpu));
	must(kvmas_gate_leave(own->vcpu));
	close_gate(s);
	open_gate(s);
	assert_int_equal(stats_of(s->m).vcpu_stops, 0);
	assert_int_equal(stats_of(s->m).vcpu_stop_ns, 0);
	stop(add_running_cpu(s, WAY_HANDLER));
	close_gate(s);
	open_gate(s);
	assert_int_equal(stats_of(s->m).vcpu_stops, 1);
}

static void stop_is_measured_from_closing_to_opening(void **state)
{
	struct stage *s = *state;
	struct timespec before, after;
	uint64_t ns;

	add_running_cpu(s, WAY_HANDLER);
	clock_gettime(CLOCK_MONOTONIC, &before);
	close_gate(s);
	usleep(20000);
	open_gate(s);
	clock_gettime(CLOCK_MONOTONIC, &after);
	ns = (uint64_t)(after.tv_sec - before.tv_sec) * 1000000000u + (uint64_t)after.tv_nsec -
	     (uint64_t)before.tv_nsec;
	assert_in_range(stats_of(s->m).vcpu_stop_ns, 20000000, ns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(closed_gate_keeps_vcpus_out_whatever_they_are_kicked_with),
		GATE_TEST(closed_gate_stays_closed_until_it_is_opened),
		GATE_TEST(opening_an_open_gate_does_nothing),
		GATE_TEST(kick_that_was_lost_is_repeated),
		GATE_TEST(vcpu_outside_is_not_kicked),
		GATE_TEST(run_that_has_an_exit_returns_0_though_the_gate_asked),
		cmocka_unit_test(run_ended_by_the_vmm_returns_eintr_and_keeps_its_immediate_exit),
		GATE_TEST(run_ended_by_vmm_and_gate_returns_eintr_and_keeps_the_1),
		GATE_TEST(run_ended_by_a_signal_of_the_vmms_alone_returns_eintr),
		GATE_TEST(result_that_kvm_run_never_gives_is_eproto),
		GATE_TEST(second_enter_returns_ebusy),
		GATE_TEST(other_thread_can_neither_enter_nor_leave_for_one_inside),
		GATE_TEST(leave_without_enter_returns_einval),
		GATE_TEST(vcpu_that_cannot_be_kicked_cannot_pass),
		GATE_TEST(enter_of_the_thread_that_closed_the_gate_returns_edeadlk),
		GATE_TEST(closer_inside_does_not_wait_for_itself),
		GATE_TEST(closer_waits_for_another_ioctl_and_leave_tells_that_it_was_asked),
		GATE_TEST(vcpu_added_while_the_gate_is_closed_waits),
		GATE_TEST(vcpu_deleted_while_the_gate_is_closed_is_outside),
		GATE_TEST(vcpu_deleted_from_inside_lets_the_closer_go_on),
		GATE_TEST(vcpu_config_that_makes_no_sense_is_einval),
		GATE_TEST(vcpu_with_two_ways_to_kick_is_einval),
		GATE_TEST(vcpu_without_memory_is_enomem),
		GATE_TEST(forked_child_gets_eio_and_does_not_wait),
		cmocka_unit_test(hooks_are_called_around_a_closing_also_without_vcpus),
		cmocka_unit_test(pause_that_fails_leaves_the_gate_open),
		GATE_TEST(closing_counts_as_a_stop_only_for_others_that_passed),
		GATE_TEST(stop_is_measured_from_closing_to_opening),
	};

	return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}

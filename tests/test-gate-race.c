/* SPDX-License-Identifier: MIT */
/*
 * Whether the gate keeps apart whom it should: the closer writes two numbers without any lock,
 * those inside read them. A difference is a vCPU inside a closed gate; ThreadSanitizer sees also
 * what was only lucky.
 */
#include "gate-fixture.h"

#include <limits.h>
#include <sched.h>

#include "kvm/gate.h"
#include "kvm/vcpu.h"

struct guarded {
	volatile uint64_t first;
	volatile uint64_t second;
};

static void look(struct cpu *cpu, const struct guarded *guarded)
{
	if (kvmas_gate_enter(cpu->vcpu))
		atomic_fetch_add(&cpu->ends[END_STRANGE], 1);
	if (guarded->first != guarded->second)
		atomic_fetch_add(&cpu->ends[END_STRANGE], 1);
	if (kvmas_gate_leave(cpu->vcpu) < 0)
		atomic_fetch_add(&cpu->ends[END_STRANGE], 1);
	/* What asked it to leave is gone with it. */
	if (immediate_exit_of(cpu))
		atomic_fetch_add(&cpu->ends[END_STRANGE], 1);
	atomic_fetch_add(&cpu->ends[END_EXIT], 1);
}

static void *look_again_and_again(void *data)
{
	struct cpu *cpu = data;

	for (unsigned i = 1; !atomic_load(&cpu->stopping); i++) {
		look(cpu, cpu->stage->data);
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

static void *come_look_and_go(void *data)
{
	struct cpu *cpu = data;

	while (!atomic_load(&cpu->stopping)) {
		if (readd_cpu(cpu)) {
			atomic_fetch_add(&cpu->ends[END_STRANGE], 1);
			break;
		}
		look(cpu, cpu->stage->data);
		del_cpu(cpu);
	}
	return NULL;
}

static void spin(unsigned turns)
{
	for (volatile unsigned i = 0; i < turns; i++)
		;
}

/* Open long enough for those outside to wake up, most times. */
static void close_again_and_again(struct stage *s, unsigned closings)
{
	struct guarded *guarded = s->data;

	for (unsigned i = 1; i <= closings; i++) {
		must(kas_gate_close(s->m->kvm));
		guarded->first = guarded->first + 1;
		spin(i % 512);
		guarded->second = guarded->second + 1;
		kas_gate_open(s->m->kvm);
		spin(i * 61 % 32768);
	}
}

static void end_race(struct stage *s)
{
	for (unsigned i = 0; i < s->ncpus; i++) {
		struct cpu *cpu = &s->cpus[i];

		eventually(atomic_load(&cpu->ends[END_EXIT]));
		atomic_store(&cpu->stopping, true);
		pthread_join(cpu->thread, NULL);
		assert_int_equal(atomic_load(&cpu->ends[END_STRANGE]), 0);
		assert_int_equal(immediate_exit_of(cpu), 0);
		assert_true(!cpu->vcpu || !atomic_load(&cpu->vcpu->pass.asked));
	}
	s->data = NULL;
}

static void closer_never_meets_any_of_many_vcpus(void **state)
{
	struct stage *s = *state;
	struct guarded guarded = {0};

	s->data = &guarded;
	for (unsigned i = 0; i < 8; i++) {
		struct cpu *cpu = add_cpu(s, i % 2 ? WAY_HANDLER : WAY_CALLBACK);

		must(pthread_create(&cpu->thread, NULL, look_again_and_again, cpu));
	}
	close_again_and_again(s, 2000);
	end_race(s);
}

/* Back to back, and nothing but the gate's own instructions to order them: its narrowest gaps. */
static void closer_never_meets_a_vcpu_that_does_nothing_else(void **state)
{
	struct stage *s = *state;
	struct guarded guarded = {0};
	struct cpu *cpu = add_cpu(s, WAY_CALLBACK);

	s->data = &guarded;
	atomic_store(&cpu->deaf, UINT_MAX);
	must(pthread_create(&cpu->thread, NULL, look_again_and_again, cpu));
	close_again_and_again(s, 20000);
	end_race(s);
}

static void closer_never_meets_vcpus_that_come_and_go(void **state)
{
	struct stage *s = *state;
	struct guarded guarded = {0};

	s->data = &guarded;
	for (unsigned i = 0; i < 4; i++) {
		struct cpu *cpu = add_cpu(s, i % 2 ? WAY_HANDLER : WAY_CALLBACK);

		del_cpu(cpu);
		must(pthread_create(&cpu->thread, NULL, come_look_and_go, cpu));
	}
	close_again_and_again(s, 2000);
	end_race(s);
}

static void *close_and_open(void *data)
{
	struct stage *s = data;

	must(kas_gate_close(s->m->kvm));
	kas_gate_open(s->m->kvm);
	return NULL;
}

/* The vCPU is halted in the middle of leave, as it were: it is out, and has not looked at the gate
 * yet, which opens meanwhile. */
static void leave_that_is_overtaken_by_open_takes_the_asking_back(void **state)
{
	struct stage *s = *state;
	struct cpu *cpu = add_cpu(s, WAY_CALLBACK);
	struct pass *pass = &cpu->vcpu->pass;
	uintptr_t self;
	pthread_t closer;

	must(kvmas_gate_enter(cpu->vcpu));
	self = atomic_load(&pass->inside);
	must(pthread_create(&closer, NULL, close_and_open, s));
	eventually(atomic_load(&pass->asked));
	atomic_store(&pass->inside, 0);
	pthread_join(closer, NULL);
	assert_int_not_equal(immediate_exit_of(cpu), 0);
	atomic_store(&pass->inside, self);
	assert_int_equal(kvmas_gate_leave(cpu->vcpu), 1);
	assert_int_equal(immediate_exit_of(cpu), 0);
	assert_false(atomic_load(&pass->asked));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GATE_TEST(closer_never_meets_any_of_many_vcpus),
		GATE_TEST(closer_never_meets_a_vcpu_that_does_nothing_else),
		GATE_TEST(closer_never_meets_vcpus_that_come_and_go),
		GATE_TEST(leave_that_is_overtaken_by_open_takes_the_asking_back),
	};

	return cmocka_run_group_tests_name("gate-race", tests, NULL, NULL);
}

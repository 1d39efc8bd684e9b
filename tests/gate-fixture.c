/* SPDX-License-Identifier: MIT */
#include "gate-fixture.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>

#define FIRST_CPU_FD 2000

/* ---- KVM_RUN ---- */

static void ring(int event)
{
	assert_int_equal(write(event, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
}

static bool rang(int event)
{
	uint64_t count;

	return read(event, &count, sizeof(count)) == sizeof(count);
}

uint8_t immediate_exit_of(const struct cpu *cpu)
{
	return __atomic_load_n(&cpu->run->immediate_exit, __ATOMIC_SEQ_CST);
}

void set_immediate_exit(struct cpu *cpu, uint8_t value)
{
	__atomic_store_n(&cpu->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

static int wait_in_run(struct cpu *cpu, const sigset_t *mask)
{
	struct pollfd fds[] = {
		{.fd = cpu->exit, .events = POLLIN},
		{.fd = cpu->nudge, .events = POLLIN},
		{.fd = cpu->signals, .events = POLLIN},
	};

	if (immediate_exit_of(cpu) || ppoll(fds, LENGTH(fds), NULL, mask) < 0)
		return cpu->kicked_with;
	if (rang(cpu->exit)) {
		cpu->run->exit_reason = KVM_EXIT_HLT;
		return 0;
	}
	rang(cpu->nudge);
	return cpu->kicked_with;
}

/* Signals wait until it is seen that immediate_exit is 0, as the kernel sees those that come
 * meanwhile. One that is let in by KVM_SET_SIGNAL_MASK alone stays pending. */
static int fake_run(struct cpu *cpu)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	atomic_store(&cpu->running, true);
	result = wait_in_run(cpu, &before);
	atomic_store(&cpu->running, false);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

static int stage_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct stage *s = data;

	if (request == KVM_RUN)
		return fake_run(&s->cpus[fd - FIRST_CPU_FD]);
	if (s->on_ioctl && request != KVM_CHECK_EXTENSION)
		s->on_ioctl(s, request);
	if (request == s->forged)
		return s->forged_result;
	return machine_ioctl(s->m, fd, request, arg);
}

/* ---- vCPUs ---- */

static void kick(void *data)
{
	struct cpu *cpu = data;

	if (atomic_fetch_add(&cpu->kicks, 1) >= atomic_load(&cpu->deaf))
		ring(cpu->nudge);
}

static void on_signal(int signal)
{
	(void)signal;
}

static struct kvmas_vcpu_config config_of(struct cpu *cpu)
{
	static const int signals[] = {
		[WAY_HANDLER] = SIGUSR1, [WAY_MASK] = SIGUSR2, [WAY_NONE] = 0};

	return (struct kvmas_vcpu_config){
		.struct_size = sizeof(struct kvmas_vcpu_config),
		.fd = cpu->fd,
		.run = cpu->run,
		.run_size = sizeof(*cpu->run),
		.kick_signal = signals[cpu->way],
		.kick = cpu->way == WAY_CALLBACK ? kick : NULL,
		.kick_data = cpu,
	};
}

static int open_signals(enum way way)
{
	sigset_t let_in;

	if (way != WAY_MASK)
		return -1;
	sigemptyset(&let_in);
	sigaddset(&let_in, SIGUSR2);
	return signalfd(-1, &let_in, SFD_CLOEXEC);
}

int readd_cpu(struct cpu *cpu)
{
	struct kvmas_vcpu_config config = config_of(cpu);

	return kvmas_vcpu_add(cpu->stage->m->kvm, &config, &cpu->vcpu);
}

struct cpu *add_cpu(struct stage *s, enum way way)
{
	struct cpu *cpu = &s->cpus[s->ncpus];

	assert_true(s->ncpus < LENGTH(s->cpus));
	*cpu = (struct cpu){
		.stage = s,
		.way = way,
		.run = calloc(1, sizeof(*cpu->run)),
		.fd = FIRST_CPU_FD + (int)s->ncpus++,
		.exit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.nudge = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.signals = open_signals(way),
		.kicked_with = -EINTR,
	};
	assert_non_null(cpu->run);
	must(readd_cpu(cpu));
	return cpu;
}

void take_signal(const struct cpu *cpu)
{
	sigset_t set;

	if (cpu->way != WAY_MASK)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	while (sigtimedwait(&set, NULL, &(struct timespec){0}) > 0)
		;
}

static void run_once(struct cpu *cpu)
{
	int result = kvmas_vcpu_run(cpu->vcpu);

	if (result < 0 && result != -EINTR) {
		atomic_store(&cpu->strange, result);
		atomic_fetch_add(&cpu->ends[END_STRANGE], 1);
		usleep(1000);
		return;
	}
	if (result == 0 && cpu->on_exit)
		cpu->on_exit(cpu);
	if (result != 0)
		take_signal(cpu);
	atomic_fetch_add(&cpu->ends[result == 0   ? END_EXIT
				    : result == 1 ? END_GATE
						  : END_EINTR],
			 1);
}

static void *run_cpu(void *data)
{
	struct cpu *cpu = data;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	while (!atomic_load(&cpu->stopping))
		run_once(cpu);
	return NULL;
}

void start(struct cpu *cpu)
{
	atomic_store(&cpu->stopping, false);
	assert_int_equal(pthread_create(&cpu->thread, NULL, run_cpu, cpu), 0);
	cpu->started = true;
}

struct cpu *add_running_cpu(struct stage *s, enum way way)
{
	struct cpu *cpu = add_cpu(s, way);

	start(cpu);
	eventually(atomic_load(&cpu->running));
	return cpu;
}

void ring_exit(struct cpu *cpu)
{
	ring(cpu->exit);
}

void end_run(struct cpu *cpu)
{
	set_immediate_exit(cpu, 1);
	if (cpu->way == WAY_CALLBACK)
		ring(cpu->nudge);
	else
		pthread_kill(cpu->thread, cpu->way == WAY_MASK ? SIGUSR2 : SIGUSR1);
}

void stop(struct cpu *cpu)
{
	if (!cpu->started)
		return;
	atomic_store(&cpu->stopping, true);
	end_run(cpu);
	pthread_join(cpu->thread, NULL);
	set_immediate_exit(cpu, 0);
	cpu->started = false;
}

void del_cpu(struct cpu *cpu)
{
	kvmas_vcpu_del(cpu->vcpu);
	cpu->vcpu = NULL;
}

static void free_cpu(struct cpu *cpu)
{
	stop(cpu);
	del_cpu(cpu);
	close(cpu->exit);
	close(cpu->nudge);
	if (cpu->signals >= 0)
		close(cpu->signals);
	free(cpu->run);
}

/* ---- the stage ---- */

static int note_pause(void *data)
{
	struct stage *s = data;

	note(s->m->f, "pause");
	return s->pause_result;
}

static void note_resume(void *data)
{
	struct stage *s = data;

	note(s->m->f, "resume");
}

static void trace(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
		  int result)
{
	struct stage *s = data;

	(void)kind;
	(void)slot;
	(void)result;
	if (s->on_trace)
		s->on_trace(s);
}

struct stage *stage_new(bool with_hooks)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct stage *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	must(sigaction(SIGUSR1, &action, NULL));
	s->m = machine_new_unbound(NULL);
	kvmas_kvm_unref(s->m->kvm);
	must(kvmas_kvm_new(s->m->f->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = s->m->vm->fd, .ioctl = stage_ioctl,
					.ioctl_data = s, .trace = trace, .trace_data = s,
					.pause = with_hooks ? note_pause : NULL,
					.resume = with_hooks ? note_resume : NULL, .pause_data = s),
			   &s->m->kvm));
	for (unsigned i = 0; i < NSPACES; i++)
		must(kvmas_kvm_bind(s->m->kvm, s->m->space[i], i));
	return s;
}

void stage_free(struct stage *s)
{
	for (unsigned i = 0; i < s->ncpus; i++)
		free_cpu(&s->cpus[i]);
	s->on_ioctl = NULL;
	s->on_trace = NULL;
	s->forged = 0;
	machine_free(s->m);
	free(s);
}

int stage_setup(void **state)
{
	*state = stage_new(false);
	return 0;
}

int stage_teardown(void **state)
{
	stage_free(*state);
	return 0;
}

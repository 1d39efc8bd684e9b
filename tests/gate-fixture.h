/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the gate stand on: a machine whose vCPUs are threads in a KVM_RUN of the
 * test's own. It waits as the kernel does, until immediate_exit, a signal that is let in, or an
 * exit; and can be kicked in each way that a VMM has.
 */
#ifndef GATE_FIXTURE_H
#define GATE_FIXTURE_H

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "kvm-fixture.h"

#define GATE_TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

/* Wait for what another thread brings about; ten seconds are a failure. */
#define eventually(condition)                                                                      \
	do {                                                                                       \
		for (unsigned turn = 0; !(condition); turn++) {                                    \
			assert_true(turn < 50000);                                                 \
			usleep(200);                                                               \
		}                                                                                  \
	} while (0)

/* What must not happen is given some time to happen. */
#define for_a_while(condition)                                                                     \
	do {                                                                                       \
		for (unsigned turn = 0; turn < 10; turn++) {                                       \
			assert_true(condition);                                                    \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

/* How a vCPU is kicked. */
enum way {
	WAY_HANDLER,  /* SIGUSR1, which has a handler */
	WAY_MASK,     /* SIGUSR2, blocked in the thread, let in by KVM_SET_SIGNAL_MASK */
	WAY_CALLBACK, /* kvmas_vcpu_config.kick */
	NWAYS,
	WAY_NONE = NWAYS,
};

struct cpu {
	struct stage *stage;
	enum way way;
	struct kvmas_vcpu *vcpu;
	struct kvm_run *run;
	int fd;
	int exit;            /* eventfd: KVM_RUN returns 0 */
	int nudge;           /* eventfd: what the callback rings */
	int signals;         /* signalfd of those that KVM_SET_SIGNAL_MASK lets in, or -1 */
	int kicked_with;     /* what KVM_RUN returns when it is kicked, at first -EINTR */
	atomic_uint kicks;   /* calls of the callback */
	atomic_uint deaf;    /* how many of them are to be lost */
	atomic_bool running; /* inside KVM_RUN */
	atomic_uint ends[4]; /* of kvmas_vcpu_run, see enum end */
	atomic_int strange;  /* the last result that is none of them */
	void (*on_exit)(struct cpu *cpu); /* called on its thread after END_EXIT */
	atomic_uint step;                 /* for on_exit */
	atomic_bool stopping;
	pthread_t thread;
	bool started;
};

enum end { END_EXIT, END_GATE, END_EINTR, END_STRANGE };

struct stage {
	struct machine *m;
	struct cpu cpus[16];
	unsigned ncpus;
	int pause_result;
	void (*on_ioctl)(struct stage *s, unsigned long request); /* on VM ioctls, before them */
	void (*on_trace)(struct stage *s);
	unsigned long forged;     /* requests that are not issued, */
	int forged_result;        /* but return this */
	struct kvmas_region *ram; /* for scenarios, as is data */
	void *data;
};

int stage_setup(void **state);
int stage_teardown(void **state);
/* With pause and resume hooks, which are noted. */
struct stage *stage_new(bool with_hooks);
void stage_free(struct stage *s);

/* A vCPU, whose thread begins with start, runs it again and again, and ends with stop. */
struct cpu *add_cpu(struct stage *s, enum way way);
void start(struct cpu *cpu);
void stop(struct cpu *cpu);
/* Take it out of the tie, and put it back: on its thread too. */
void del_cpu(struct cpu *cpu);
int readd_cpu(struct cpu *cpu);
struct cpu *add_running_cpu(struct stage *s, enum way way);

/* Have KVM_RUN return with an exit. */
void ring_exit(struct cpu *cpu);
/* What a VMM does for itself: immediate_exit, and a kick. */
void end_run(struct cpu *cpu);
/* immediate_exit; set while its thread may read it. */
uint8_t immediate_exit_of(const struct cpu *cpu);
void set_immediate_exit(struct cpu *cpu, uint8_t value);
/* After a run that was ended, take the signal of WAY_MASK as a VMM must. */
void take_signal(const struct cpu *cpu);

#endif

/* SPDX-License-Identifier: MIT */
/* The gate through which vCPU threads enter KVM_RUN: see gate.c. */
#ifndef KAS_GATE_H
#define KAS_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct kvmas_kvm;
struct kvmas_vcpu_config;

/* What a vCPU shows at the gate. */
struct pass {
	const struct kvmas_vcpu_config *config;
	_Atomic(uintptr_t) inside; /* the thread that is, 0 if none */
	_Atomic(uintptr_t) last;   /* the thread that was let in last, 0 if none ever was */
	atomic_bool asked;         /* to leave; our bit is in immediate_exit. Set under the lock */
	TAILQ_ENTRY(pass) all;
};

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t left;   /* by somebody, for whom the closer may be waiting */
	pthread_cond_t opened; /* for those who wait outside */
	atomic_bool closed;
	uintptr_t closer;       /* the thread that closed it, while it is closed */
	bool counted;           /* this closing is one of stats.vcpu_stops */
	uint64_t closing_since; /* nanoseconds of CLOCK_MONOTONIC */
	TAILQ_HEAD(, pass) passes;
};

void kas_gate_init(struct gate *gate);
void kas_gate_fini(struct gate *gate);

/* Hold out of the gate all vCPUs but the calling thread's own, and have the VMM's pause hook hold
 * out what it knows. 0, and an open is owed; or what the hook refused with, and none is. Under the
 * transaction lock, like open, which does nothing if the gate is open. */
int kas_gate_close(struct kvmas_kvm *kvm);
void kas_gate_open(struct kvmas_kvm *kvm);

/* A pass whose config is set comes and goes. */
void kas_gate_add(struct gate *gate, struct pass *pass);
void kas_gate_del(struct gate *gate, struct pass *pass);

/* 0, inside; -EBUSY if it is already; -EDEADLK for the thread that has the gate closed. */
int kas_gate_enter(struct gate *gate, struct pass *pass);
/* Whether it was asked to leave: 0 or 1; -EINVAL if this thread is not inside with it. */
int kas_gate_leave(struct gate *gate, struct pass *pass);

/* The bits of immediate_exit that are the VMM's. */
uint8_t kas_gate_foreign_bits(const struct pass *pass);

#endif

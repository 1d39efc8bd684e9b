/* SPDX-License-Identifier: MIT */
/*
 * VMs on trial: the sequences of kvm-table.h as tests with cmocka, and random steps on one VM or on
 * two side by side. Which VMs these are, doubles or real ones, is the test's business.
 *
 * KVMAS_SEED and KVMAS_STEPS set the random run.
 */
#ifndef KVM_TRIAL_H
#define KVM_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "choices.h"
#include "fake-kvm.h"
#include "kvm-table.h"

enum { DEFAULT_SEED = 1, DEFAULT_STEPS = 2000, PROBE_INTERVAL = 500 };

/* A double as a VM, not yet probed; and what its probes find, a second one being made for that. */
struct kvm_vm as_vm(struct fake_kvm *kvm);
void probe_double(struct fake_kvm *kvm, struct kvm_vm *vm);

/* For kvm_table_run: prints. */
void report_step(void *data, const struct kvm_step *step, int result);

/* The table's sequences as tests, named alike; each is its test's state. */
int run_table(const char *group, void (*test)(void **state));

/* The results of two VMs for one step, or twice that of the one if other is NULL. */
bool agree_on(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step, int results[2]);
/* The same, and it is no matter whether they agree: they do. */
int result_of_both(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step);
void assert_agreement(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step);

/* A double, as a VM too, and another VM, NULL for none: slots and bits (kvm-probe.h). */
void assert_same_slots(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other);

/*
 * Random steps on a double and another VM, NULL for none; the double validated after each, slots
 * and dirty bits of both compared at intervals and at the end (kvm-probe.h).
 */
void walk(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other);

/*
 * The same with a guest that writes and reads, and with what the logs and, if there are to be
 * rings, they are told of it. For empty VMs.
 */
void walk_dirty(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other, bool rings);

/*
 * The same with ioeventfds and coalesced zones, and a guest that stores to them: which eventfd was
 * signalled, what the ring has, and what exited (kvm-trial-bus.c). For empty VMs with a vCPU. Of
 * the steps that are more than the default, one in 16.
 */
void walk_channels(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * See kvm-trial.h: the table and random steps as tests with cmocka. The steps themselves, without
 * it, are in kvm-step.c.
 */
#include "kvm-trial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake-kvm-fixture.h"
#include "kvm-probe.h"

struct kvm_vm as_vm(struct fake_kvm *kvm)
{
	return (struct kvm_vm){.ioctl = fake_kvm_ioctl, .data = kvm, .fd = kvm->fd};
}

void report_step(void *data, const struct kvm_step *step, int result)
{
	char text[512];

	(void)data;
	kvm_step_format(step, text, sizeof(text));
	print_error("%s: %d, expected %d\n", text, result, step->expected);
}

uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

bool agree_on(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step, int results[2])
{
	results[0] = kvm_step_run(vm, step);
	results[1] = other ? kvm_step_run(other, step) : results[0];
	if (results[0] != results[1])
		return false;
	return !other || step->kind != KVM_STEP_GET ||
	       memcmp(vm->words, other->words, sizeof(vm->words)) == 0;
}

static int result_of_both(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step)
{
	char text[512];
	int results[2];

	if (!agree_on(vm, other, step, results)) {
		kvm_step_format(step, text, sizeof(text));
		fail_msg("%s: double %d, other %d", text, results[0], results[1]);
	}
	return results[0];
}

void assert_agreement(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step)
{
	(void)result_of_both(vm, other, step);
}

/* ---- random steps ---- */

static bool lacks_region2(const struct kvm_limits *limits)
{
	return !limits->region2;
}

static bool has_guest_memfd(const struct kvm_limits *limits)
{
	return limits->guest_memfd;
}

/* What was refused with what, and whether it must be among what a long run sees. */
static const struct {
	int error;
	const char *name;
	bool (*is_possible)(const struct kvm_limits *limits);
} errors[] = {
	{EINVAL, "EINVAL", NULL},          {EEXIST, "EEXIST", NULL},
	{ENOENT, "ENOENT", NULL},          {EFAULT, "EFAULT", NULL},
	{ENOTTY, "ENOTTY", lacks_region2}, {EBADF, "EBADF", has_guest_memfd},
};

static void count_error(unsigned counts[LENGTH(errors)], int result)
{
	for (size_t i = 0; i < LENGTH(errors); i++)
		if (result == -errors[i].error) {
			counts[i]++;
			return;
		}
	if (result < 0)
		fail_msg("nobody knows why a step should give %d", result);
}

/* A run that never saw some operation succeed, or some errno, would prove little. */
static void assert_all_happened(const struct fake_kvm *kvm, const struct kvm_limits *limits,
				const unsigned counts[LENGTH(errors)], uint64_t nsteps)
{
	print_message("%llu steps: create %u, delete %u, move %u, flags %u, same %u, get %u, "
		      "clear %u, cap %u, refused %u:",
		      (unsigned long long)nsteps, kvm->count[FAKE_KVM_CREATE],
		      kvm->count[FAKE_KVM_DELETE], kvm->count[FAKE_KVM_MOVE],
		      kvm->count[FAKE_KVM_FLAGS], kvm->count[FAKE_KVM_SAME],
		      kvm->count[FAKE_KVM_GET], kvm->count[FAKE_KVM_CLEAR],
		      kvm->count[FAKE_KVM_CAP], kvm->refused);
	for (size_t i = 0; i < LENGTH(errors); i++)
		print_message(" %s %u", errors[i].name, counts[i]);
	print_message("\n");
	if (nsteps < DEFAULT_STEPS)
		return;
	for (unsigned op = FAKE_KVM_CREATE; op < FAKE_KVM_NOPS; op++)
		assert_int_not_equal(kvm->count[op], 0);
	for (size_t i = 0; i < LENGTH(errors); i++)
		if (!errors[i].is_possible || errors[i].is_possible(limits))
			assert_int_not_equal(counts[i], 0);
}

void assert_same_slots(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	const char *difference = kvm_probe_compare(kvm, vm, other);

	if (difference)
		fail_msg("%s", difference);
	assert_valid(kvm);
}

void walk(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	uint64_t seed = number_from("KVMAS_SEED", DEFAULT_SEED);
	uint64_t nsteps = number_from("KVMAS_STEPS", DEFAULT_STEPS);
	unsigned counts[LENGTH(errors)] = {0};

	print_message("KVMAS_SEED=%llu KVMAS_STEPS=%llu, %u space(s)\n", (unsigned long long)seed,
		      (unsigned long long)nsteps, vm->limits.spaces);
	fake_kvm_reset(kvm);
	for (uint64_t i = 0; i < nsteps; i++) {
		struct kvm_step step;

		kvm_step_random(&seed, vm->limits.spaces, &step);
		count_error(counts, result_of_both(vm, other, &step));
		assert_valid(kvm);
		kvm->ncalls = 0; /* nobody reads them */
		if (i % PROBE_INTERVAL == 0)
			assert_same_slots(kvm, vm, other);
	}
	assert_same_slots(kvm, vm, other);
	assert_all_happened(kvm, &vm->limits, counts, nsteps);
}

int run_table(const char *group, void (*test)(void **state))
{
	struct CMUnitTest *tests = calloc(kvm_table_length, sizeof(*tests));
	int r;

	if (!tests)
		return 1;
	for (size_t i = 0; i < kvm_table_length; i++)
		tests[i] = (struct CMUnitTest){
			.name = kvm_table[i].name,
			.test_func = test,
			.initial_state = (void *)(uintptr_t)&kvm_table[i],
		};
	r = _cmocka_run_group_tests(group, tests, kvm_table_length, NULL, NULL);
	free(tests);
	return r;
}

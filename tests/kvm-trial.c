/* SPDX-License-Identifier: MIT */
/*
 * See kvm-trial.h: the table and random steps as tests with cmocka. The steps themselves, without
 * it, are in kvm-step.c.
 */
#include "kvm-trial.h"

#include <stdlib.h>
#include <string.h>

#include "fake-kvm-fixture.h"

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

void assert_agreement(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step)
{
	char text[512];
	int results[2];

	if (agree_on(vm, other, step, results))
		return;
	kvm_step_format(step, text, sizeof(text));
	fail_msg("%s: double %d, other %d", text, results[0], results[1]);
}

/* A run that never saw some operation succeed would prove little. */
static void assert_all_happened(const struct fake_kvm *kvm, uint64_t nsteps)
{
	print_message("%llu steps: create %u, delete %u, move %u, flags %u, same %u, get %u, "
		      "clear %u, cap %u, refused %u\n",
		      (unsigned long long)nsteps, kvm->count[FAKE_KVM_CREATE],
		      kvm->count[FAKE_KVM_DELETE], kvm->count[FAKE_KVM_MOVE],
		      kvm->count[FAKE_KVM_FLAGS], kvm->count[FAKE_KVM_SAME],
		      kvm->count[FAKE_KVM_GET], kvm->count[FAKE_KVM_CLEAR],
		      kvm->count[FAKE_KVM_CAP], kvm->refused);
	for (unsigned op = FAKE_KVM_CREATE; op < FAKE_KVM_NOPS && nsteps >= DEFAULT_STEPS; op++)
		assert_int_not_equal(kvm->count[op], 0);
}

void walk(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	uint64_t seed = number_from("KVMAS_SEED", DEFAULT_SEED);
	uint64_t nsteps = number_from("KVMAS_STEPS", DEFAULT_STEPS);

	print_message("KVMAS_SEED=%llu KVMAS_STEPS=%llu, %u space(s)\n", (unsigned long long)seed,
		      (unsigned long long)nsteps, vm->limits.spaces);
	fake_kvm_reset(kvm);
	for (uint64_t i = 0; i < nsteps; i++) {
		struct kvm_step step;

		kvm_step_random(&seed, vm->limits.spaces, &step);
		assert_agreement(vm, other, &step);
		assert_valid(kvm);
	}
	assert_all_happened(kvm, nsteps);
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

/* SPDX-License-Identifier: MIT */
/* Making a tie: what a VMM asks for, and what the VM says that it has, sense or nonsense. */
#include "kvm-fixture.h"

#include <limits.h>

static const struct kvmas_kvm_config plain = {.struct_size = sizeof(plain)};

static int new_tie(struct machine *m, struct kvmas_kvm_config config, struct kvmas_kvm **ret)
{
	config.vm_fd = m->vm->fd;
	config.ioctl = fake_kvm_ioctl;
	config.ioctl_data = m->vm;
	return kvmas_kvm_new(m->f->kvmas, &config, ret);
}

static void new_with_bad_config_returns_einval(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm *kvm = NULL;

	assert_int_equal(new_tie(m, (struct kvmas_kvm_config){0}, &kvm), -EINVAL);
	assert_int_equal(kvmas_kvm_new(m->f->kvmas, NULL, &kvm), -EINVAL);
	assert_null(kvm);
}

static int hold(void *data)
{
	(void)data;
	return 0;
}

static void let_go(void *data)
{
	(void)data;
}

static void new_refuses_members_that_make_no_sense(void **state)
{
	static const struct kvmas_kvm_config table[] = {
		{.struct_size = sizeof(plain), .flags = 1u << 1},
		{.struct_size = sizeof(plain), .flags = ~0u},
		{.struct_size = sizeof(plain), .gpa_bits = 65},
		{.struct_size = sizeof(plain), .gpa_bits = UINT_MAX},
		{.struct_size = sizeof(plain), .pause = hold},
		{.struct_size = sizeof(plain), .resume = let_go},
	};
	struct machine *m = *state;
	struct kvmas_kvm *kvm = NULL;

	for (size_t i = 0; i < LENGTH(table); i++)
		assert_int_equal(new_tie(m, table[i], &kvm), -EINVAL);
	assert_null(kvm);
}

/* What a hook answers to one request, where others are KVM's. */
struct lie {
	struct fake_kvm *vm;
	unsigned long request;
	uintptr_t capability; /* of KVM_CHECK_EXTENSION */
	int answer;
};

static int lying_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	const struct lie *lie = data;

	if (request == lie->request &&
	    (request != KVM_CHECK_EXTENSION || (uintptr_t)arg == lie->capability))
		return lie->answer;
	return fake_kvm_ioctl(lie->vm, fd, request, arg);
}

static int new_with_lie(struct machine *m, struct lie lie, unsigned flags)
{
	struct kvmas_kvm *kvm = NULL;
	int err;

	lie.vm = m->vm;
	err = kvmas_kvm_new(m->f->kvmas,
			    KVMAS_CONFIG(kvm, .vm_fd = m->vm->fd, .ioctl = lying_ioctl,
					 .ioctl_data = &lie, .flags = flags),
			    &kvm);
	assert_int_equal(kvm == NULL, err != 0);
	kvmas_kvm_unref(kvm);
	return err;
}

static void new_on_a_kvm_that_makes_no_sense_is_refused(void **state)
{
	static const struct {
		uintptr_t capability;
		int answer;
		int result;
	} table[] = {
		{KVM_CAP_NR_MEMSLOTS, 0, -EOPNOTSUPP},
		{KVM_CAP_NR_MEMSLOTS, 1, 0},
		{KVM_CAP_NR_MEMSLOTS, 65535, 0},
		{KVM_CAP_NR_MEMSLOTS, 65536, -EOPNOTSUPP},
		{KVM_CAP_NR_MEMSLOTS, INT_MAX, -EOPNOTSUPP},
		{KVM_CAP_NR_MEMSLOTS, -ENOTTY, -ENOTTY},
		{KVM_CAP_NR_MEMSLOTS, -100000, -EPROTO},
		{KVM_CAP_NR_MEMSLOTS, INT_MIN, -EPROTO},
		{KVM_CAP_MULTI_ADDRESS_SPACE, 16, 0},
		{KVM_CAP_MULTI_ADDRESS_SPACE, 17, -EOPNOTSUPP},
		{KVM_CAP_MULTI_ADDRESS_SPACE, INT_MAX, -EOPNOTSUPP},
		{KVM_CAP_MULTI_ADDRESS_SPACE, -EPERM, -EPERM},
		{KVM_CAP_MULTI_ADDRESS_SPACE, -4096, -EPROTO},
		{KVM_CAP_READONLY_MEM, 7, 0},
		{KVM_CAP_READONLY_MEM, -EIO, -EIO},
		{KVM_CAP_READONLY_MEM, -5000, -EPROTO},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct lie lie = {.request = KVM_CHECK_EXTENSION,
				  .capability = table[i].capability,
				  .answer = table[i].answer};

		assert_int_equal(new_with_lie(*state, lie, 0), table[i].result);
	}
}

#ifdef __x86_64__
static void zapping_slots_alone_needs_a_kvm_that_can(void **state)
{
	static const struct fake_kvm_config configs[] = {
		{.version = FAKE_KVM_6_1},
		{.version = FAKE_KVM_6_12},
		{.version = FAKE_KVM_6_12, .quirks = 1},
	};
	static const int results[] = {-EOPNOTSUPP, 0, -EOPNOTSUPP};
	static const struct lie none;

	(void)state;
	for (size_t i = 0; i < LENGTH(configs); i++) {
		struct machine *m = machine_new(&configs[i]);

		assert_int_equal(new_with_lie(m, none, KVMAS_KVM_ZAP_SLOT), results[i]);
		assert_int_equal(m->vm->disabled_quirks != 0, results[i] == 0);
		assert_int_equal(new_with_lie(m, none, 0), 0);
		machine_free(m);
	}
}

static void quirk_that_cannot_be_disabled_is_refused(void **state)
{
	static const int answers[][2] = {
		{-EINVAL, -EINVAL}, {1, -EPROTO}, {INT_MAX, -EPROTO}, {-100000, -EPROTO}};
	struct machine *m = machine_new(&(struct fake_kvm_config){.version = FAKE_KVM_6_12});

	(void)state;
	for (size_t i = 0; i < LENGTH(answers); i++) {
		struct lie lie = {.request = KVM_ENABLE_CAP, .answer = answers[i][0]};

		assert_int_equal(new_with_lie(m, lie, KVMAS_KVM_ZAP_SLOT), answers[i][1]);
	}
	machine_free(m);
}
#endif

static void new_on_a_dead_vm_returns_what_kvm_said(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm *kvm = NULL;

	m->vm->dead = true;
	assert_int_equal(new_tie(m, plain, &kvm), -EIO);
	m->vm->dead = false;
	assert_null(kvm);
}

static void new_without_a_hook_uses_ioctl(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm *kvm = NULL;

	assert_int_equal(kvmas_kvm_new(m->f->kvmas, KVMAS_CONFIG(kvm, .vm_fd = -1), &kvm), -EBADF);
	assert_null(kvm);
}

static void new_without_memory_returns_enomem(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm *kvm = NULL;
	unsigned failed = 0;
	size_t bytes = m->f->heap.bytes;

	for (;;) {
		int err;

		m->f->heap.fail_in = failed + 1;
		err = new_tie(m, plain, &kvm);
		m->f->heap.fail_in = 0;
		if (err == 0)
			break;
		failed++;
		assert_int_equal(err, -ENOMEM);
		assert_null(kvm);
		assert_int_equal(m->f->heap.bytes, bytes);
	}
	assert_int_equal(failed, 5); /* the tie, and two sets of ids for each space */
	kvmas_kvm_unref(kvm);
}

static void spaces_are_counted_as_kvm_does_but_none_is_one(void **state)
{
	static const unsigned counts[] = {1, 2, 4};

	(void)state;
	for (size_t i = 0; i < LENGTH(counts); i++) {
		struct machine *m =
			machine_new_unbound(&(struct fake_kvm_config){.spaces = counts[i]});

		assert_int_equal(kvmas_kvm_get_as_count(m->kvm), counts[i]);
		machine_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(new_with_bad_config_returns_einval),
		KVM_TEST(new_refuses_members_that_make_no_sense),
		KVM_TEST(new_on_a_kvm_that_makes_no_sense_is_refused),
		KVM_TEST(new_on_a_dead_vm_returns_what_kvm_said),
		KVM_TEST(new_without_a_hook_uses_ioctl),
		KVM_TEST(new_without_memory_returns_enomem),
		KVM_TEST(spaces_are_counted_as_kvm_does_but_none_is_one),
#ifdef __x86_64__
		cmocka_unit_test(zapping_slots_alone_needs_a_kvm_that_can),
		cmocka_unit_test(quirk_that_cannot_be_disabled_is_refused),
#endif
	};

	return cmocka_run_group_tests_name("kvm-new", tests, NULL, NULL);
}

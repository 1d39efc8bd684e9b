/* SPDX-License-Identifier: MIT */
/*
 * The rules of KVM as kvm-table.c has them, on the test double.
 *
 *   table on the double   every sequence of the table, on doubles of several kinds
 *   checkers              a KVM that lies is found, by the table and by random steps; so is one
 *                         that answers rightly and has other slots (kvm-probe.h)
 *
 * The same on the real KVM is test-real-kvm.c. KVMAS_SEED and KVMAS_STEPS set the random run.
 */
#include "fake-kvm-fixture.h"
#include "kvm-probe.h"
#include "kvm-trial.h"

#include <errno.h>
#include <sys/mman.h>

/* ---- the table on the double ---- */

static const struct fake_kvm_config kinds_of_double[] = {
	{0},
	{.spaces = 1},
	{.spaces = 4, .nr_memslots = 32},
	{.no_readonly_mem = true},
	{.private_slots = true, .zap = FAKE_KVM_ZAP_SLOT, .shadow_mmu = true},
	{.max_gfn = (UINT64_C(1) << 40) - 1, .hva_limit = UINT64_C(0x7ffffffff000)},
	{.version = FAKE_KVM_6_12},
	{.version = FAKE_KVM_6_18, .spaces = 1, .emulates = true, .shadow_mmu = true},
	{.version = FAKE_KVM_6_18, .plain_attributes = true},
	{.version = FAKE_KVM_6_18, .no_gmem_flags = true},
	{.version = FAKE_KVM_6_12, .private_vm = true},
	{.pml = true},
	{.shadow_mmu = true},
};

static bool run_on_double(const struct kvm_sequence *sequence, const struct fake_kvm_config *config)
{
	struct fake_kvm *kvm = fake_kvm_new(config);
	struct kvm_vm vm = as_vm(kvm);
	bool runs;

	probe_double(kvm, &vm);
	runs = !kvm_vm_lacks(&vm, sequence);
	if (runs)
		assert_int_equal(kvm_table_run(&vm, sequence, report_step, NULL), 0);
	assert_valid(kvm);
	kvm_vm_end(&vm);
	fake_kvm_free(kvm);
	return runs;
}

static void run_sequence_on_doubles(void **state)
{
	unsigned nruns = 0;

	for (size_t i = 0; i < LENGTH(kinds_of_double); i++)
		nruns += run_on_double(*state, &kinds_of_double[i]);
	assert_int_not_equal(nruns, 0);
}

/* ---- the checkers ---- */

static void probe_finds_the_limits_of_the_config(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(kinds_of_double); i++) {
		struct fake_kvm *kvm = fake_kvm_new(&kinds_of_double[i]);
		struct kvm_vm vm = as_vm(kvm);

		probe_double(kvm, &vm);
		assert_int_equal(vm.limits.reads_mark, !kvm->config.shadow_mmu);
		assert_int_equal(vm.limits.watches, !kvm->config.emulates);
		assert_int_equal(vm.limits.small_ring, !kvm->config.pml);
		assert_int_equal(vm.limits.spaces, kvm->config.spaces);
		assert_int_equal(vm.limits.nr_memslots, kvm->config.nr_memslots);
		assert_int_equal(vm.limits.readonly_mem, !kvm->config.no_readonly_mem);
		assert_int_equal(vm.limits.max_gfn, kvm->config.max_gfn);
		assert_int_equal(vm.limits.hva_limit, kvm->config.hva_limit);
		fake_kvm_free(kvm);
	}
}

/* A KVM with a bug: it takes one errno for another. */
struct liar {
	struct fake_kvm *kvm;
	int truth;
	int lie;
};

static int lying_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	const struct liar *liar = data;
	int r = fake_kvm_ioctl(liar->kvm, fd, request, arg);

	return r == liar->truth ? liar->lie : r;
}

static unsigned run_whole_table(struct liar *liar)
{
	unsigned wrong = 0;

	for (size_t i = 0; i < kvm_table_length; i++) {
		struct kvm_vm vm;

		liar->kvm = fake_kvm_new(NULL);
		vm = as_vm(liar->kvm);
		assert_int_equal(kvm_vm_probe(&vm), 0);
		vm.ioctl = lying_ioctl;
		vm.data = liar;
		if (!kvm_vm_lacks(&vm, &kvm_table[i]))
			wrong += kvm_table_run(&vm, &kvm_table[i], NULL, NULL);
		kvm_vm_end(&vm);
		fake_kvm_free(liar->kvm);
	}
	return wrong;
}

static void table_finds_a_kvm_that_lies(void **state)
{
	struct liar liars[] = {
		{NULL, -EEXIST, -EINVAL}, {NULL, -EINVAL, -EEXIST}, {NULL, -ENOENT, -EINVAL},
		{NULL, -EFAULT, 0},       {NULL, 0, -EINVAL},
	};
	struct liar honest = {NULL, 0, 0};

	(void)state;
	assert_int_equal(run_whole_table(&honest), 0);
	for (size_t i = 0; i < LENGTH(liars); i++)
		assert_int_not_equal(run_whole_table(&liars[i]), 0);
}

/* The slots of a VM that is compared with one that has just these. */
static struct fake_kvm *make_some_slots(struct kvm_vm *vm)
{
	struct fake_kvm *kvm = fake_kvm_new(NULL);

	*vm = as_vm(kvm);
	assert_int_equal(kvm_vm_probe(vm), 0);
	assert_int_equal(set_manual(kvm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE), 0);
	assert_int_equal(set(kvm, 0, 4, 4, LOG), 0);
	assert_int_equal(set(kvm, 1, 8, 4, 0), 0);
	assert_int_equal(set(kvm, 2, 20, 1, RO), 0);
	assert_int_equal(set(kvm, SPACE_1 | 0, 4, 8, 0), 0);
	assert_int_equal(set(kvm, SPACE_1 | 1, kvm->config.max_gfn, 1, 0), 0);
	return kvm;
}

static void lose_a_slot(struct fake_kvm *kvm)
{
	set(kvm, 2, 0, 0, 0);
}

static void lose_the_last_page(struct fake_kvm *kvm)
{
	set(kvm, SPACE_1 | 1, 0, 0, 0);
}

static void get_a_slot(struct fake_kvm *kvm)
{
	set(kvm, SPACE_1 | 5, 100, 1, 0);
}

static void shift_a_slot(struct fake_kvm *kvm)
{
	set(kvm, 2, 21, 1, RO);
}

static void swap_two_slots(struct fake_kvm *kvm)
{
	set(kvm, 0, 100, 4, LOG);
	set(kvm, 1, 4, 4, 0);
	set(kvm, 0, 8, 4, LOG);
}

static void change_an_id(struct fake_kvm *kvm)
{
	set(kvm, 2, 0, 0, 0);
	set(kvm, 3, 20, 1, RO);
}

static void change_readonly(struct fake_kvm *kvm)
{
	set(kvm, 2, 0, 0, 0);
	set(kvm, 2, 20, 1, 0);
}

static void change_hva(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 1, pages(4))->hva += pages(1);
}

static void split_a_slot(struct fake_kvm *kvm)
{
	set(kvm, SPACE_1, 0, 0, 0);
	set(kvm, SPACE_1, 4, 4, 0);
	set(kvm, SPACE_1 | 2, 8, 4, 0);
}

static void change_log(struct fake_kvm *kvm)
{
	set(kvm, 1, 8, 4, LOG);
}

static void mark_a_page(struct fake_kvm *kvm)
{
	write_page(kvm, 0, 5);
}

static void probe_finds_every_difference(void **state)
{
	void (*const changes[])(struct fake_kvm * kvm) = {
		lose_a_slot,    lose_the_last_page, get_a_slot,      shift_a_slot,
		swap_two_slots, change_an_id,       change_readonly, change_hva,
		split_a_slot,   change_log,         mark_a_page,
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(changes); i++) {
		struct kvm_vm vm, other;
		struct fake_kvm *kvm = make_some_slots(&vm), *changed = make_some_slots(&other);
		struct fake_kvm *before;

		assert_null(kvm_probe_compare(kvm, &vm, &other));
		changes[i](changed);
		assert_non_null(kvm_probe_compare(kvm, &vm, &other));
		before = fake_kvm_snapshot(changed);
		assert_non_null(kvm_probe_compare(changed, &other, &vm));
		assert_true(fake_kvm_equal(before, changed));
		fake_kvm_free(before);
		fake_kvm_free(kvm);
		fake_kvm_free(changed);
	}
}

static void double_stays_valid_under_random_steps(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(kinds_of_double); i++) {
		struct fake_kvm *kvm = fake_kvm_new(&kinds_of_double[i]);
		struct kvm_vm vm = as_vm(kvm);

		assert_int_equal(kvm_vm_probe(&vm), 0);
		walk(kvm, &vm, NULL);
		fake_kvm_free(kvm);
	}
}

static void double_stays_valid_under_random_accesses(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * LENGTH(kinds_of_double); i++) {
		struct fake_kvm *kvm = fake_kvm_new(&kinds_of_double[i / 2]);
		struct kvm_vm vm = as_vm(kvm);

		probe_double(kvm, &vm);
		walk_dirty(kvm, &vm, NULL, i % 2);
		fake_kvm_free(kvm);
	}
}

static void double_stays_valid_under_random_channels(void **state)
{
	static const struct fake_kvm_config kinds[] = {
		{0},
		{.version = FAKE_KVM_6_12, .spaces = 1},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(kinds); i++) {
		struct fake_kvm *kvm = fake_kvm_new(&kinds[i]);
		struct kvm_vm vm = as_vm(kvm);

		probe_double(kvm, &vm);
		walk_channels(kvm, &vm, NULL);
		kvm_vm_end(&vm);
		fake_kvm_free(kvm);
	}
}

static void random_steps_find_a_kvm_that_lies(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(NULL);
	struct liar liar = {fake_kvm_new(NULL), -EEXIST, -EINVAL};
	struct kvm_vm vm = as_vm(kvm), other = as_vm(liar.kvm);
	uint64_t seed = DEFAULT_SEED;
	bool found = false;

	(void)state;
	assert_int_equal(kvm_vm_probe(&vm), 0);
	assert_int_equal(kvm_vm_probe(&other), 0);
	other.ioctl = lying_ioctl;
	other.data = &liar;
	for (unsigned i = 0; i < DEFAULT_STEPS && !found; i++) {
		struct kvm_step step;
		int results[2];

		kvm_step_random(&seed, 2, &step);
		found = !agree_on(&vm, &other, &step, results);
	}
	assert_true(found);
	fake_kvm_free(kvm);
	fake_kvm_free(liar.kvm);
}

/* ---- groups ---- */

static int run_checkers(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probe_finds_the_limits_of_the_config),
		cmocka_unit_test(table_finds_a_kvm_that_lies),
		cmocka_unit_test(random_steps_find_a_kvm_that_lies),
		cmocka_unit_test(probe_finds_every_difference),
		cmocka_unit_test(double_stays_valid_under_random_steps),
		cmocka_unit_test(double_stays_valid_under_random_accesses),
		cmocka_unit_test(double_stays_valid_under_random_channels),
	};

	return cmocka_run_group_tests_name("checkers", tests, NULL, NULL);
}

int main(void)
{
	int failed;

	/* Where the tables have a guest's memory. */
	if (mmap((void *)(UINT64_C(1) << 30), pages(KVM_TABLE_PAGES), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		return 1;
	failed = run_table("table on the double", run_sequence_on_doubles);

	failed += run_checkers();
	return failed ? 1 : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: what setting a slot costs, what it leaves behind when it fails late, and
 * what differs between kernels. Hardly any of this can be seen in the results of ioctls, so it is
 * not in the table that the real KVM is held against (kvm-table.c); the kernel's functions that do
 * it are named in fake-kvm-region.c.
 */
#include "fake-kvm-fixture.h"
#include "fake-kvm-uapi.h"

#include <errno.h>

static int set2(struct fake_kvm *kvm, uint32_t slot, uint64_t gfn, uint64_t npages, uint32_t flags)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = pages(gfn),
		.memory_size = pages(npages),
		.userspace_addr = 1 << 30,
		.guest_memfd = (uint32_t)-1,
	};

	return call(kvm, KVM_SET_USER_MEMORY_REGION2, &region);
}

static int disable(struct fake_kvm *kvm, uint32_t capability, uint64_t quirks)
{
	struct kvm_enable_cap cap = {.cap = capability, .args = {quirks}};

	return call(kvm, KVM_ENABLE_CAP, &cap);
}

static struct fake_kvm *new_kvm(enum fake_kvm_version version)
{
	return fake_kvm_new(&(struct fake_kvm_config){.version = version});
}

/* ---- what can fail late ---- */

/* Slot 0 is a logged page at gfn 4, slot 1 one without a log at gfn 8; both are dirty or mapped. */
static struct fake_kvm *new_with_two_slots(void)
{
	struct fake_kvm *kvm = fake_kvm_new(NULL);

	assert_int_equal(set(kvm, 0, 4, 1, LOG), 0);
	assert_int_equal(set(kvm, 1, 8, 1, 0), 0);
	assert_int_equal(write_page(kvm, 0, 4), 0);
	assert_int_equal(write_page(kvm, 0, 8), 0);
	fake_kvm_reset(kvm);
	return kvm;
}

static const struct late_failure {
	unsigned id, gfn, npages;
	uint32_t flags;
	enum fake_kvm_alloc what;
	bool fails, is_paid;
} late_failures[] = {
	/* CREATE */
	{2, 0, 1, LOG, FAKE_KVM_ALLOC_SLOT, true, false},
	{2, 0, 1, LOG, FAKE_KVM_ALLOC_INVALID, false, true},
	{2, 0, 1, LOG, FAKE_KVM_ALLOC_BITMAP, true, false},
	{2, 0, 1, 0, FAKE_KVM_ALLOC_BITMAP, false, true},
	{2, 0, 1, LOG, FAKE_KVM_ALLOC_ARRAYS, true, false},
	/* DELETE */
	{0, 0, 0, 0, FAKE_KVM_ALLOC_SLOT, false, true},
	{0, 0, 0, 0, FAKE_KVM_ALLOC_INVALID, true, false},
	{0, 0, 0, LOG, FAKE_KVM_ALLOC_BITMAP, false, true},
	{0, 0, 0, 0, FAKE_KVM_ALLOC_ARRAYS, false, true},
	/* MOVE: late, it has been paid for, and what was mapped is so no more */
	{0, 5, 1, LOG, FAKE_KVM_ALLOC_SLOT, true, false},
	{0, 5, 1, LOG, FAKE_KVM_ALLOC_INVALID, true, false},
	{0, 5, 1, LOG, FAKE_KVM_ALLOC_BITMAP, false, true},
	{1, 5, 1, LOG, FAKE_KVM_ALLOC_BITMAP, true, true},
	{0, 5, 1, LOG, FAKE_KVM_ALLOC_ARRAYS, true, true},
	{0, 5, 1, 0, FAKE_KVM_ALLOC_ARRAYS, true, true},
	/* FLAGS */
	{1, 8, 1, LOG, FAKE_KVM_ALLOC_SLOT, true, false},
	{1, 8, 1, LOG, FAKE_KVM_ALLOC_INVALID, false, true},
	{1, 8, 1, LOG, FAKE_KVM_ALLOC_BITMAP, true, false},
	{0, 4, 1, 0, FAKE_KVM_ALLOC_BITMAP, false, true},
	{1, 8, 1, LOG, FAKE_KVM_ALLOC_ARRAYS, false, true},
	/* nothing to be done */
	{0, 4, 1, LOG, FAKE_KVM_ALLOC_SLOT, false, false},
};

static void check_late_failure(const struct late_failure *failure)
{
	struct fake_kvm *kvm = new_with_two_slots(), *before = fake_kvm_snapshot(kvm);
	int expected = failure->fails ? -ENOMEM : 0;

	fake_kvm_fail_alloc(kvm, failure->what, 1);
	assert_int_equal(set(kvm, failure->id, failure->gfn, failure->npages, failure->flags),
			 expected);
	assert_int_equal(kvm->no_memory[failure->what].hits, failure->fails);
	assert_int_equal(kvm->refused, failure->fails);
	assert_int_equal(kvm->swaps > 0, failure->is_paid);
	assert_valid(kvm);
	if (failure->fails) {
		assert_true(fake_kvm_equal(before, kvm));
		assert_int_equal(kvm->swaps, failure->is_paid ? 2 : 0);
		assert_int_equal(kvm->zaps, failure->is_paid);
		assert_int_equal(!fake_kvm_find(kvm, 0, pages(8))->mapped, failure->is_paid);
		assert_int_equal(kvm->array_pages + kvm->bitmap_pages, 0);
		assert_int_equal(
			set(kvm, failure->id, failure->gfn, failure->npages, failure->flags), 0);
	}
	fake_kvm_free(before);
	fake_kvm_free(kvm);
}

static void allocation_that_fails_leaves_slots_and_bits(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(late_failures); i++)
		check_late_failure(&late_failures[i]);
}

static void fail_alloc_fails_the_kth_only(void **state)
{
	struct fake_kvm *kvm = *state;

	fake_kvm_fail_alloc(kvm, FAKE_KVM_ALLOC_ARRAYS, 2);
	assert_int_equal(set(kvm, 0, 0, 1, 0), 0);
	assert_int_equal(set(kvm, 0, 0, 1, LOG), 0);
	assert_int_equal(set(kvm, 1, 1, 1, 0), -ENOMEM);
	assert_int_equal(set(kvm, 1, 1, 1, 0), 0);
	fake_kvm_fail_alloc(kvm, FAKE_KVM_ALLOC_ARRAYS, 1);
	fake_kvm_fail_never(kvm);
	assert_int_equal(set(kvm, 2, 2, 1, 0), 0);
}

static void eexist_and_einval_come_before_enomem(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 4, 2, 0);
	fake_kvm_fail_alloc(kvm, FAKE_KVM_ALLOC_SLOT, 1);
	assert_int_equal(set(kvm, 1, 5, 1, 0), -EEXIST);
	assert_int_equal(set(kvm, 0, 4, 1, 0), -EINVAL);
	assert_int_equal(set(kvm, 0, 4, 2, 0), 0);
	/* But what is past the last gfn is found only later. */
	assert_int_equal(set(kvm, 1, kvm->config.max_gfn + 1, 1, 0), -ENOMEM);
	fake_kvm_fail_alloc(kvm, FAKE_KVM_ALLOC_ARRAYS, 1);
	assert_int_equal(set(kvm, 1, kvm->config.max_gfn + 1, 1, 0), -EINVAL);
	assert_int_equal(set(kvm, 1, 0, 1, 0), -ENOMEM);
}

/* ---- what it costs ---- */

/* Slot 0 is 3 pages without a log, slot 1 5 with one. */
static void metadata_is_counted_in_pages(void **state)
{
	static const struct {
		unsigned id, gfn, npages;
		uint32_t flags;
		unsigned array_pages, bitmap_pages;
	} cases[] = {
		{2, 20, 7, 0, 7, 0}, {2, 20, 7, LOG, 7, 7}, {0, 0, 0, 0, 0, 0},
		{0, 20, 3, 0, 3, 0}, {0, 20, 3, LOG, 3, 3}, {1, 20, 5, LOG, 5, 0},
		{1, 20, 5, 0, 5, 0}, {0, 0, 3, LOG, 0, 3},  {1, 8, 5, 0, 0, 0},
		{0, 0, 3, 0, 0, 0},  {2, 0, 1, LOG, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct fake_kvm *kvm = fake_kvm_new(NULL);

		set(kvm, 0, 0, 3, 0);
		set(kvm, 1, 8, 5, LOG);
		fake_kvm_reset(kvm);
		set(kvm, cases[i].id, cases[i].gfn, cases[i].npages, cases[i].flags);
		assert_int_equal(kvm->array_pages, cases[i].array_pages);
		assert_int_equal(kvm->bitmap_pages, cases[i].bitmap_pages);
		fake_kvm_free(kvm);
	}
}

/* ---- which kernel ---- */

static void older_kernel_lacks_region2_and_the_zap_quirk(void **state)
{
	struct fake_kvm *kvm = *state;

	assert_int_equal(check(kvm, KVM_CAP_USER_MEMORY2), 0);
	assert_int_equal(set2(kvm, 0, 0, 1, 0), -ENOTTY);
	assert_int_equal(check(kvm, KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_SLOT_ZAP_ALL, 0);
	assert_int_equal(disable(kvm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL),
			 -EINVAL);
	assert_int_equal(kvm->ncalls, 1);
}

static void newer_kernel_has_region2(void **state)
{
	struct fake_kvm *kvm = new_kvm(FAKE_KVM_6_12);

	(void)state;
	assert_int_equal(check(kvm, KVM_CAP_USER_MEMORY2), 1);
	assert_int_equal(set2(kvm, SPACE_1 | 3, 4, 2, LOG), 0);
	assert_int_equal(kvm->calls[0].op, FAKE_KVM_CREATE);
	assert_int_equal(kvm->calls[0].as_id, 1);
	assert_int_equal(kvm->calls[0].id, 3);
	assert_int_equal(kvm->calls[0].gpa, pages(4));
	assert_int_equal(kvm->calls[0].request, KVM_SET_USER_MEMORY_REGION2);
	assert_int_equal(set2(kvm, 0, 0, 1, KVM_MEM_GUEST_MEMFD), -EINVAL);
	assert_valid(kvm);
	fake_kvm_free(kvm);
}

static void newest_kernel_knows_that_no_file_is_a_guest_memfd(void **state)
{
	struct fake_kvm *kvm = new_kvm(FAKE_KVM_6_18);

	(void)state;
	assert_int_equal(check(kvm, KVM_CAP_GUEST_MEMFD), 1);
	assert_int_equal(set2(kvm, 0, 0, 1, KVM_MEM_GUEST_MEMFD), -EBADF);
	assert_int_equal(kvm->spaces[0].nslots, 0);
	assert_int_equal(kvm->swaps, 0);
	fake_kvm_free(kvm);
}

/* What is left mapped of another slot when slot 0 is deleted. */
static bool delete_leaves_mappings(struct fake_kvm *kvm)
{
	bool is_mapped;

	set(kvm, 0, 0, 1, 0);
	set(kvm, 1, 1, 1, 0);
	write_page(kvm, 0, 1);
	set(kvm, 0, 0, 0, 0);
	is_mapped = fake_kvm_find(kvm, 0, pages(1))->mapped;
	set(kvm, 1, 0, 0, 0);
	return is_mapped;
}

static void disabled_zap_quirk_spares_other_slots(void **state)
{
	struct fake_kvm *kvm = new_kvm(FAKE_KVM_6_12), *copy;

	(void)state;
	assert_false(delete_leaves_mappings(kvm));
	assert_int_equal(disable(kvm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL), 0);
	assert_true(delete_leaves_mappings(kvm));
	assert_int_not_equal(kvm->zaps, 0);
	copy = fake_kvm_snapshot(kvm);
	assert_true(delete_leaves_mappings(copy));
	fake_kvm_free(copy);
	/* Refused: as it was. */
	assert_int_equal(disable(kvm, KVM_CAP_DISABLE_QUIRKS2, UINT64_C(1) << 63), -EINVAL);
	assert_true(delete_leaves_mappings(kvm));
	fake_kvm_free(kvm);
}

/* A second call replaces the first until 6.15, and adds to it from then on. */
static void quirk_comes_back_in_older_kernels_only(void **state)
{
	static const enum fake_kvm_version versions[] = {FAKE_KVM_6_12, FAKE_KVM_6_18};

	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		struct fake_kvm *kvm = new_kvm(versions[i]);

		disable(kvm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL);
		assert_int_equal(disable(kvm, KVM_CAP_DISABLE_QUIRKS2, 0), 0);
		assert_int_equal(delete_leaves_mappings(kvm), versions[i] >= FAKE_KVM_6_18);
		fake_kvm_free(kvm);
	}
}

static void older_capability_disables_without_looking(void **state)
{
	struct fake_kvm *kvm = new_kvm(FAKE_KVM_6_12);

	(void)state;
	assert_int_equal(disable(kvm, KVM_CAP_DISABLE_QUIRKS, UINT64_MAX), 0);
	assert_true(delete_leaves_mappings(kvm));
	fake_kvm_free(kvm);
	assert_int_equal(disable(*state, KVM_CAP_DISABLE_QUIRKS, UINT64_MAX), 0);
	assert_false(delete_leaves_mappings(*state));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocation_that_fails_leaves_slots_and_bits),
		KVM_TEST(fail_alloc_fails_the_kth_only),
		KVM_TEST(eexist_and_einval_come_before_enomem),
		cmocka_unit_test(metadata_is_counted_in_pages),
		KVM_TEST(older_kernel_lacks_region2_and_the_zap_quirk),
		cmocka_unit_test(newer_kernel_has_region2),
		cmocka_unit_test(newest_kernel_knows_that_no_file_is_a_guest_memfd),
		cmocka_unit_test(disabled_zap_quirk_spares_other_slots),
		cmocka_unit_test(quirk_comes_back_in_older_kernels_only),
		KVM_TEST(older_capability_disables_without_looking),
	};

	return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}

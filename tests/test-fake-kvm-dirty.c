/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM, tested by itself: what a guest's accesses mark, and what becomes of the
 * marks. That KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG answer as KVM does is in the table
 * (test-kvm-table.c); all else of the double is in test-fake-kvm.c.
 */
#include "fake-kvm-fixture.h"

#include <errno.h>

/* ---- guest accesses ---- */

static void write_marks_its_own_space_and_slot_only(void **state)
{
	struct fake_kvm *kvm = *state;

	/* All three on the same memory. */
	set(kvm, 0, 0, 8, LOG);
	set(kvm, 1, 8, 8, LOG);
	set(kvm, SPACE_1, 0, 8, LOG);
	assert_int_equal(write_page(kvm, 1, 3), 0);
	assert_true(fake_kvm_is_dirty(kvm, 1, pages(3)));
	assert_log(kvm, 0, 0, 0);
	assert_log(kvm, 0, 1, 0);
	assert_log(kvm, 1, 0, 1 << 3);
	assert_log(kvm, 1, 0, 0);
}

static void write_marks_every_page_it_touches(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 4, 4, LOG);
	set(kvm, 1, 8, 4, LOG);
	assert_int_equal(fake_kvm_write(kvm, 0, pages(7) - 1, pages(2) + 2), 0);
	assert_log(kvm, 0, 0, 1 << 2 | 1 << 3);
	assert_log(kvm, 0, 1, 1 << 0 | 1 << 1);
}

static void write_without_slot_returns_efault_and_marks_nothing(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 4, 4, LOG);
	assert_int_equal(write_page(kvm, 0, 3), -EFAULT);
	assert_int_equal(write_page(kvm, 1, 4), -EFAULT);
	assert_int_equal(write_page(kvm, 2, 4), -EFAULT);
	assert_int_equal(fake_kvm_write(kvm, 0, pages(7), pages(1) + 1), -EFAULT);
	assert_int_equal(fake_kvm_write(kvm, 0, UINT64_MAX, 2), -EFAULT);
	assert_log(kvm, 0, 0, 0);
}

static void write_to_readonly_slot_returns_efault(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 0, 4, RO | LOG);
	assert_int_equal(write_page(kvm, 0, 1), -EFAULT);
	assert_int_equal(read_page(kvm, 0, 1), 0);
	assert_log(kvm, 0, 0, 0);
}

static void write_to_unlogged_slot_leaves_no_trace(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 0, 4, 0);
	assert_int_equal(write_page(kvm, 0, 1), 0);
	set(kvm, 0, 0, 4, LOG);
	assert_log(kvm, 0, 0, 0);
}

static void first_read_marks_with_tdp(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 0, 4, LOG);
	assert_int_equal(read_page(kvm, 0, 1), 0);
	assert_log(kvm, 0, 0, 1 << 1);
	assert_int_equal(read_page(kvm, 0, 1), 0);
	assert_log(kvm, 0, 0, 0);
}

static void read_marks_nothing_with_shadow_mmu(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){.shadow_mmu = true});

	(void)state;
	set(kvm, 0, 0, 4, LOG);
	assert_int_equal(read_page(kvm, 0, 1), 0);
	assert_log(kvm, 0, 0, 0);
	fake_kvm_free(kvm);
}

/* What is done to another slot, and whether a page read before is marked by the next read. */
static void read_after_zap_marks(void **state)
{
	static const struct {
		enum fake_kvm_zap zap;
		unsigned gfn, npages;
		uint32_t flags;
		bool marks;
	} cases[] = {
		{FAKE_KVM_ZAP_ALL, 0, 0, 0, true},     {FAKE_KVM_ZAP_ALL, 17, 1, 0, true},
		{FAKE_KVM_ZAP_ALL, 16, 1, LOG, false}, {FAKE_KVM_ZAP_ALL, 16, 1, 0, false},
		{FAKE_KVM_ZAP_SLOT, 0, 0, 0, false},   {FAKE_KVM_ZAP_SLOT, 17, 1, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct fake_kvm_config config = {.zap = cases[i].zap};
		struct fake_kvm *kvm = fake_kvm_new(&config);

		set(kvm, 0, 0, 4, LOG);
		set(kvm, SPACE_1 | 1, 16, 1, 0);
		write_page(kvm, 0, 2);
		assert_log(kvm, 0, 0, 1 << 2);
		assert_int_equal(
			set(kvm, SPACE_1 | 1, cases[i].gfn, cases[i].npages, cases[i].flags), 0);
		read_page(kvm, 0, 2);
		assert_log(kvm, 0, 0, cases[i].marks ? 1 << 2 : 0);
		fake_kvm_free(kvm);
	}
}

static void moved_slot_is_zapped_in_either_mode(void **state)
{
	(void)state;
	for (unsigned zap = FAKE_KVM_ZAP_ALL; zap <= FAKE_KVM_ZAP_SLOT; zap++) {
		struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){.zap = zap});

		set(kvm, 0, 0, 4, LOG);
		write_page(kvm, 0, 2);
		assert_log(kvm, 0, 0, 1 << 2);
		set(kvm, 0, 8, 4, LOG);
		read_page(kvm, 0, 10);
		assert_log(kvm, 0, 0, 1 << 2);
		fake_kvm_free(kvm);
	}
}

static void move_keeps_bits_by_page_of_the_slot(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 0, 4, LOG);
	write_page(kvm, 0, 3);
	assert_int_equal(set(kvm, 0, 10, 4, LOG), 0);
	assert_true(fake_kvm_is_dirty(kvm, 0, pages(13)));
	write_page(kvm, 0, 10);
	assert_log(kvm, 0, 0, 1 << 3 | 1 << 0);
}

static void delete_loses_unread_bits(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 0, 4, LOG);
	write_page(kvm, 0, 3);
	set(kvm, 0, 0, 0, 0);
	set(kvm, 0, 0, 4, LOG);
	assert_log(kvm, 0, 0, 0);
}

static void planned_fault_of_get_loses_bits_in_automatic_mode(void **state)
{
	struct fake_kvm *kvm = *state;
	uint64_t bits = 0;

	set(kvm, 0, 0, 4, LOG);
	write_page(kvm, 0, 3);
	kvm->fault_copy_out = true;
	assert_int_equal(get(kvm, 0, 1, &bits), -ENOENT);
	assert_int_equal(get(kvm, 0, 0, &bits), -EFAULT);
	assert_int_equal(bits, 0);
	assert_log(kvm, 0, 0, 0);
}

static void planned_fault_of_get_loses_nothing_in_manual_mode(void **state)
{
	struct fake_kvm *kvm = *state;
	uint64_t bits = 0;

	set_manual(kvm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	set(kvm, 0, 0, 4, LOG);
	write_page(kvm, 0, 3);
	kvm->fault_copy_out = true;
	assert_int_equal(get(kvm, 0, 0, &bits), -EFAULT);
	assert_log(kvm, 0, 0, 1 << 3);
	assert_int_equal(clear(kvm, 0, 0, 4, 1 << 3), 0);
	assert_log(kvm, 0, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(write_marks_its_own_space_and_slot_only),
		KVM_TEST(write_marks_every_page_it_touches),
		KVM_TEST(write_without_slot_returns_efault_and_marks_nothing),
		KVM_TEST(write_to_readonly_slot_returns_efault),
		KVM_TEST(write_to_unlogged_slot_leaves_no_trace),
		KVM_TEST(first_read_marks_with_tdp),
		KVM_TEST(read_marks_nothing_with_shadow_mmu),
		KVM_TEST(read_after_zap_marks),
		KVM_TEST(moved_slot_is_zapped_in_either_mode),
		KVM_TEST(move_keeps_bits_by_page_of_the_slot),
		KVM_TEST(delete_loses_unread_bits),
		KVM_TEST(planned_fault_of_get_loses_bits_in_automatic_mode),
		KVM_TEST(planned_fault_of_get_loses_nothing_in_manual_mode),
	};

	return cmocka_run_group_tests_name("double, dirty bits", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM, tested by itself.
 *
 *   double     what only a double has: its hook, planned failures, counters; slots
 *   checkers   planted corruption is found
 *
 * Elsewhere: guest accesses and dirty bits (test-fake-kvm-dirty.c), KVM's rules from the table
 * (test-kvm-table.c), the real KVM beside the double (test-real-kvm.c).
 */
#include "fake-kvm-fixture.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the hook ---- */

static void unknown_request_returns_enotty(void **state)
{
	assert_int_equal(call(*state, KVM_GET_API_VERSION, NULL), -ENOTTY);
	assert_int_equal(call(*state, KVM_CREATE_VCPU, NULL), -ENOTTY);
}

static void other_fd_returns_ebadf(void **state)
{
	struct fake_kvm *kvm = *state;

	assert_int_equal(fake_kvm_ioctl(kvm, kvm->fd + 1, KVM_CHECK_EXTENSION, NULL), -EBADF);
}

static void dead_vm_returns_eio(void **state)
{
	struct fake_kvm *kvm = *state;

	kvm->dead = true;
	assert_int_equal(set(kvm, 0, 0, 1, 0), -EIO);
	assert_int_equal(check(kvm, KVM_CAP_NR_MEMSLOTS), -EIO);
	assert_int_equal(call(kvm, KVM_GET_API_VERSION, NULL), -EIO);
}

static void forked_child_gets_eio(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(set(*state, 0, 0, 1, 0) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void one_space_counts_as_zero(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){.spaces = 1});

	assert_int_equal(check(kvm, KVM_CAP_MULTI_ADDRESS_SPACE), 0);
	assert_int_equal(check(kvm, KVM_CAP_X86_SMM), 0);
	assert_int_equal(check(*state, KVM_CAP_MULTI_ADDRESS_SPACE), 2);
	assert_int_equal(check(*state, KVM_CAP_X86_SMM), 1);
	fake_kvm_free(kvm);
}

static void unknown_capability_is_zero_and_cannot_be_enabled(void **state)
{
	struct kvm_enable_cap cap = {.cap = 0x7fffffff};

	assert_int_equal(check(*state, 0x7fffffff), 0);
	assert_int_equal(call(*state, KVM_ENABLE_CAP, &cap), -EINVAL);
}

/* ---- slots ---- */

static void slot_of_two_to_the_31_less_one_pages_succeeds(void **state)
{
	struct fake_kvm *kvm = *state;

	assert_int_equal(set(kvm, 0, 0, (UINT64_C(1) << 31) - 1, 0), 0);
	assert_int_equal(set(kvm, 1, UINT64_C(1) << 31, UINT64_C(1) << 31, 0), -EINVAL);
}

static void every_id_of_every_space_can_have_a_slot(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){.nr_memslots = 100});

	(void)state;
	for (unsigned as_id = 0; as_id < 2; as_id++) {
		/* From both ends: neither order of places is the order of ids. */
		for (unsigned id = 0; id < 100; id++)
			assert_int_equal(set(kvm, as_id << 16 | id, id % 2 ? id : 200 - id, 1, LOG),
					 0);
		assert_int_equal(set(kvm, as_id << 16 | 100, 1000, 1, 0), -EINVAL);
	}
	assert_valid(kvm);
	assert_int_equal(kvm->npages, 200);
	fake_kvm_free(kvm);
}

static void slots_are_listed_by_gpa(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_slot slots[2];

	set(kvm, SPACE_1, 8, 1, 0);
	set(kvm, SPACE_1 | 1, 0, 1, 0);
	set(kvm, SPACE_1 | 2, 4, 2, LOG);
	assert_int_equal(fake_kvm_slots(kvm, 0, slots, 2), 0);
	assert_int_equal(fake_kvm_slots(kvm, 1, slots, 2), 3);
	assert_int_equal(slots[0].id, 1);
	assert_int_equal(slots[1].id, 2);
	assert_int_equal(slots[1].gpa, pages(4));
	assert_int_equal(slots[1].size, pages(2));
	assert_int_equal(slots[1].flags, LOG);
}

static void find_sees_the_space_it_is_asked_for(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 7, 4, 4, 0);
	assert_int_equal(fake_kvm_find(kvm, 0, pages(4))->id, 7);
	assert_int_equal(fake_kvm_find(kvm, 0, pages(8) - 1)->id, 7);
	assert_null(fake_kvm_find(kvm, 0, pages(4) - 1));
	assert_null(fake_kvm_find(kvm, 0, pages(8)));
	assert_null(fake_kvm_find(kvm, 1, pages(4)));
	assert_ptr_equal(fake_kvm_hva(kvm, 0, pages(5) + 1), (void *)((1 << 30) + pages(1) + 1));
	assert_null(fake_kvm_hva(kvm, 1, pages(5)));
}

static void create_over_private_slot_returns_eexist(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){.private_slots = true});
	uint64_t apic = 0xfee00000 / pages(1);

	(void)state;
	assert_int_equal(set(kvm, 0, apic, 1, 0), -EEXIST);
	assert_int_equal(set(kvm, SPACE_1, apic, 1, 0), -EEXIST);
	fake_kvm_del_private(kvm, 2);
	assert_int_equal(set(kvm, SPACE_1, apic, 1, 0), 0);
	assert_valid(kvm);
	fake_kvm_free(kvm);
}

static void private_slot_over_slot_of_any_space_returns_eexist(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, SPACE_1, 4, 1, 0);
	assert_int_equal(fake_kvm_add_private(kvm, 0, pages(2), pages(3)), -EEXIST);
	assert_int_equal(kvm->spaces[0].nslots, 0);
	assert_int_equal(fake_kvm_add_private(kvm, 0, pages(5), pages(3)), 0);
	assert_int_equal(kvm->spaces[0].nslots, 1);
}

static void private_slot_has_no_address_for_user_space(void **state)
{
	struct fake_kvm *kvm = *state;
	uint64_t bits;

	fake_kvm_add_private(kvm, 0, pages(5), pages(3));
	assert_int_equal(set(kvm, kvm->config.nr_memslots, 0, 0, 0), -EINVAL);
	assert_int_equal(get(kvm, 0, kvm->config.nr_memslots, &bits), -EINVAL);
}

/* ---- planned failures ---- */

static void fail_at_fails_the_kth_only_and_changes_nothing(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm *before;

	fake_kvm_fail_at(kvm, 3, ENOMEM);
	assert_int_equal(set(kvm, 0, 0, 4, LOG), 0);
	assert_int_equal(check(kvm, KVM_CAP_NR_MEMSLOTS), (int)kvm->config.nr_memslots);
	assert_int_equal(write_page(kvm, 0, 1), 0);
	assert_int_equal(set(kvm, 1, 4, 4, 0), 0);
	before = fake_kvm_snapshot(kvm);
	assert_int_equal(get(kvm, 0, 0, &(uint64_t){0}), -ENOMEM);
	assert_true(fake_kvm_equal(before, kvm));
	assert_int_equal(kvm->fail.hits, 1);
	assert_log(kvm, 0, 0, 1 << 1);
	assert_int_equal(kvm->fail.hits, 1);
	fake_kvm_free(before);
}

static void fail_from_fails_the_kth_and_all_later(void **state)
{
	struct fake_kvm *kvm = *state;

	fake_kvm_fail_from(kvm, 2, EIO);
	assert_int_equal(set(kvm, 0, 0, 4, 0), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(set(kvm, 1, 4, 4, 0), -EIO);
	assert_int_equal(set_manual(kvm, 0), -EIO);
	assert_int_equal(kvm->fail.hits, 4);
	fake_kvm_fail_never(kvm);
	assert_int_equal(set(kvm, 1, 4, 4, 0), 0);
}

/* ---- counters ---- */

/* One operation on slot 0, which is one page at gfn 4 and logged, and what it counts as. */
static void operation_is_counted_with_its_cost(void **state)
{
	static const struct {
		unsigned id, gfn, npages;
		uint32_t flags;
		enum fake_kvm_op op;
		unsigned swaps, zaps;
	} cases[] = {
		{1, 0, 1, 0, FAKE_KVM_CREATE, 1, 0}, {0, 0, 0, 0, FAKE_KVM_DELETE, 2, 1},
		{0, 5, 1, LOG, FAKE_KVM_MOVE, 2, 1}, {0, 5, 1, 0, FAKE_KVM_MOVE, 2, 1},
		{0, 4, 1, 0, FAKE_KVM_FLAGS, 1, 0},  {0, 4, 1, LOG, FAKE_KVM_SAME, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct fake_kvm *kvm = fake_kvm_new(NULL);

		set(kvm, 0, 4, 1, LOG);
		fake_kvm_reset(kvm);
		set(kvm, cases[i].id, cases[i].gfn, cases[i].npages, cases[i].flags);
		for (unsigned op = 0; op < FAKE_KVM_NOPS; op++)
			assert_int_equal(kvm->count[op], op == cases[i].op);
		assert_int_equal(kvm->swaps, cases[i].swaps);
		assert_int_equal(kvm->zaps, cases[i].zaps);
		assert_int_equal(kvm->refused, 0);
		fake_kvm_free(kvm);
	}
}

static void move_past_last_gfn_costs_as_much_as_a_move(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, 0, 4, 1, LOG);
	read_page(kvm, 0, 4);
	assert_log(kvm, 0, 0, 1);
	fake_kvm_reset(kvm);
	assert_int_equal(set(kvm, 0, kvm->config.max_gfn + 1, 1, LOG), -EINVAL);
	assert_int_equal(kvm->swaps, 2);
	assert_int_equal(kvm->zaps, 1);
	assert_int_equal(kvm->refused, 1);
	assert_int_equal(kvm->count[FAKE_KVM_MOVE], 0);
	read_page(kvm, 0, 4);
	assert_log(kvm, 0, 0, 1);
}

static void other_refused_calls_cost_nothing(void **state)
{
	struct fake_kvm *kvm = *state;

	set(kvm, SPACE_1, 0, 1, 0);
	fake_kvm_reset(kvm);
	assert_int_equal(set(kvm, SPACE_1, UINT64_MAX / pages(1), 1, 0), -EINVAL);
	assert_int_equal(set(kvm, 0, kvm->config.max_gfn + 1, 1, 0), -EINVAL);
	assert_int_equal(set(kvm, SPACE_2, 0, 1, 0), -EINVAL);
	assert_int_equal(kvm->swaps, 0);
	assert_int_equal(kvm->refused, 3);
}

static void calls_are_recorded_in_order(void **state)
{
	struct fake_kvm *kvm = *state;
	uint64_t bits;

	fake_kvm_fail_at(kvm, 4, ENOMEM);
	set(kvm, SPACE_1 | 5, 4, 2, LOG);
	get(kvm, 1, 5, &bits);
	clear(kvm, 1, 5, 2, 0);
	set(kvm, 6, 0, 0, 0);
	assert_int_equal(kvm->ncalls, 4);
	assert_int_equal(kvm->calls[0].op, FAKE_KVM_CREATE);
	assert_int_equal(kvm->calls[0].as_id, 1);
	assert_int_equal(kvm->calls[0].id, 5);
	assert_int_equal(kvm->calls[0].gpa, pages(4));
	assert_int_equal(kvm->calls[0].size, pages(2));
	assert_int_equal(kvm->calls[0].hva, 1 << 30);
	assert_int_equal(kvm->calls[0].flags, LOG);
	assert_int_equal(kvm->calls[1].op, FAKE_KVM_GET);
	assert_int_equal(kvm->calls[1].id, 5);
	assert_int_equal(kvm->calls[2].op, FAKE_KVM_CLEAR);
	assert_int_equal(kvm->calls[2].num_pages, 2);
	assert_int_equal(kvm->calls[3].op, FAKE_KVM_SET);
	assert_int_equal(kvm->calls[3].result, -ENOMEM);
	fake_kvm_reset(kvm);
	assert_int_equal(kvm->ncalls, 0);
}

/* ---- the checkers ---- */

static void snapshot_differs_after_change(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm *before;

	set(kvm, 0, 0, 4, LOG);
	write_page(kvm, 0, 1);
	before = fake_kvm_snapshot(kvm);
	assert_valid(before);
	assert_true(fake_kvm_equal(before, kvm));

	write_page(kvm, 0, 2);
	assert_false(fake_kvm_equal(before, kvm));
	assert_true(fake_kvm_equal_slots(before, kvm));

	set(kvm, 0, 0, 4, 0);
	assert_false(fake_kvm_equal_slots(before, kvm));
	set(kvm, 0, 0, 4, LOG);
	assert_true(fake_kvm_equal_slots(before, kvm));
	set(kvm, SPACE_1, 0, 4, LOG);
	assert_false(fake_kvm_equal_slots(before, kvm));
	set(kvm, SPACE_1, 0, 0, 0);
	fake_kvm_find(before, 0, 0)->hva += pages(1);
	assert_false(fake_kvm_equal_slots(before, kvm));
	fake_kvm_find(before, 0, 0)->hva -= pages(1);
	set_manual(kvm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	assert_false(fake_kvm_equal_slots(before, kvm));
	fake_kvm_free(before);
}

static void plant_overlap(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, pages(4))->gpa -= pages(1);
}

static void plant_disorder(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, 0)->gpa = pages(32);
}

static void plant_other_id(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, 0)->id = 9;
}

static void plant_other_space(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, 0)->as_id = 1;
}

static void plant_id_twice(struct fake_kvm *kvm)
{
	kvm->spaces[0].by_id[1] = fake_kvm_find(kvm, 0, 0);
}

static void plant_high_id(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, pages(4))->id = 32767;
}

static void plant_sum(struct fake_kvm *kvm)
{
	kvm->npages++;
}

static void plant_log_without_bitmap(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, pages(4))->flags |= LOG;
}

static void plant_bitmap_without_log(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, 0)->flags = 0;
}

static void plant_bit_past_the_end(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, 0)->bitmap[0] |= 1 << 4;
}

static void plant_unknown_flag(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, 0)->flags |= 1u << 2;
}

static void plant_unaligned_hva(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, 0)->hva++;
}

static void plant_high_slot(struct fake_kvm *kvm)
{
	fake_kvm_find(kvm, 0, pages(4))->gpa = pages(kvm->config.max_gfn);
}

/* The VM has pages 0 to 3, logged, as slot 0 and pages 4 to 7 as slot 1. */
static void validate_finds_planted_corruption(void **state)
{
	static const struct {
		void (*plant)(struct fake_kvm *kvm);
		const char *invariant;
	} cases[] = {
		{plant_overlap, "I1"},
		{plant_disorder, "I1"},
		{plant_other_id, "I2"},
		{plant_other_space, "I2"},
		{plant_id_twice, "I2"},
		{plant_sum, "I3"},
		{plant_log_without_bitmap, "I4"},
		{plant_bitmap_without_log, "I4"},
		{plant_bit_past_the_end, "I5"},
		{plant_unknown_flag, "I6"},
		{plant_unaligned_hva, "I6"},
		{plant_high_slot, "I6"},
		{plant_high_id, "I6"},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct fake_kvm *kvm = fake_kvm_new(NULL);

		set(kvm, 0, 0, 4, LOG);
		set(kvm, 1, 4, 4, 0);
		assert_valid(kvm);
		cases[i].plant(kvm);
		assert_non_null(fake_kvm_validate(kvm));
		assert_memory_equal(fake_kvm_validate(kvm), cases[i].invariant, 2);
		fake_kvm_free(kvm);
	}
}

/* ---- groups ---- */

static int run_double(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(unknown_request_returns_enotty),
		KVM_TEST(other_fd_returns_ebadf),
		KVM_TEST(dead_vm_returns_eio),
		KVM_TEST(forked_child_gets_eio),
		KVM_TEST(one_space_counts_as_zero),
		KVM_TEST(unknown_capability_is_zero_and_cannot_be_enabled),
		KVM_TEST(slot_of_two_to_the_31_less_one_pages_succeeds),
		KVM_TEST(every_id_of_every_space_can_have_a_slot),
		KVM_TEST(slots_are_listed_by_gpa),
		KVM_TEST(find_sees_the_space_it_is_asked_for),
		KVM_TEST(create_over_private_slot_returns_eexist),
		KVM_TEST(private_slot_over_slot_of_any_space_returns_eexist),
		KVM_TEST(private_slot_has_no_address_for_user_space),
		KVM_TEST(fail_at_fails_the_kth_only_and_changes_nothing),
		KVM_TEST(fail_from_fails_the_kth_and_all_later),
		KVM_TEST(operation_is_counted_with_its_cost),
		KVM_TEST(move_past_last_gfn_costs_as_much_as_a_move),
		KVM_TEST(other_refused_calls_cost_nothing),
		KVM_TEST(calls_are_recorded_in_order),
	};

	return cmocka_run_group_tests_name("double", tests, NULL, NULL);
}

static int run_checkers(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(snapshot_differs_after_change),
		cmocka_unit_test(validate_finds_planted_corruption),
	};

	return cmocka_run_group_tests_name("checkers", tests, NULL, NULL);
}

int main(void)
{
	int failed = run_double();

	failed += run_checkers();
	return failed ? 1 : 0;
}

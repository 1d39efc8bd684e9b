/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM, tested by itself and against the real one.
 *
 *   table on the double   every sequence of kvm-table.c, on doubles of several kinds
 *   double                what only a double has: guest accesses, planned failures, counters
 *   checkers              planted corruption is found
 *   live                  the same table, and random steps, on /dev/kvm and a double side by side
 *
 * KVMAS_SEED and KVMAS_STEPS set the random run; KVMAS_REQUIRE_KVM=1 makes a missing /dev/kvm a
 * failure.
 */
#include "fake-kvm.h"
#include "kvm-table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define RO KVM_MEM_READONLY

/* In a slot's number. */
enum { SPACE_1 = 1 << 16, SPACE_2 = 2 << 16 };

enum { DEFAULT_SEED = 1, DEFAULT_STEPS = 2000 };

/* ---- shorthand ---- */

static uint64_t pages(uint64_t n)
{
	return n * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int call(struct fake_kvm *kvm, unsigned long request, void *arg)
{
	return fake_kvm_ioctl(kvm, kvm->fd, request, arg);
}

static int check(struct fake_kvm *kvm, uintptr_t cap)
{
	return call(kvm, KVM_CHECK_EXTENSION, (void *)cap);
}

/* A slot in pages, whose number is as KVM has it; its memory begins at 1 GiB whatever the slot. */
static int set(struct fake_kvm *kvm, uint32_t slot, uint64_t gfn, uint64_t npages, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = pages(gfn),
		.memory_size = pages(npages),
		.userspace_addr = 1 << 30,
	};

	return call(kvm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* The dirty log of a slot of up to 64 pages. */
static int get(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint64_t *bits)
{
	struct kvm_dirty_log log = {.slot = as_id << 16 | id, .dirty_bitmap = bits};

	return call(kvm, KVM_GET_DIRTY_LOG, &log);
}

static int clear(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint32_t num_pages,
		 uint64_t bits)
{
	struct kvm_clear_dirty_log log = {
		.slot = as_id << 16 | id,
		.num_pages = num_pages,
		.dirty_bitmap = &bits,
	};

	return call(kvm, KVM_CLEAR_DIRTY_LOG, &log);
}

static int set_manual(struct fake_kvm *kvm, uint64_t options)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {options},
	};

	return call(kvm, KVM_ENABLE_CAP, &cap);
}

static int write_page(struct fake_kvm *kvm, unsigned as_id, uint64_t gfn)
{
	return fake_kvm_write(kvm, as_id, pages(gfn), 8);
}

static int read_page(struct fake_kvm *kvm, unsigned as_id, uint64_t gfn)
{
	return fake_kvm_read(kvm, as_id, pages(gfn), 8);
}

static void assert_valid(const struct fake_kvm *kvm)
{
	const char *wrong = fake_kvm_validate(kvm);

	if (wrong)
		fail_msg("%s", wrong);
}

static void assert_log(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint64_t expected)
{
	uint64_t bits = 0;

	assert_int_equal(get(kvm, as_id, id, &bits), 0);
	assert_int_equal(bits, expected);
}

static int make_kvm(void **state)
{
	*state = fake_kvm_new(NULL);
	return 0;
}

static int free_kvm(void **state)
{
	const char *wrong = fake_kvm_validate(*state);

	if (wrong)
		print_error("%s\n", wrong);
	fake_kvm_free(*state);
	return wrong ? -1 : 0;
}

static struct kvm_vm as_vm(struct fake_kvm *kvm)
{
	return (struct kvm_vm){.ioctl = fake_kvm_ioctl, .data = kvm, .fd = kvm->fd};
}

/* ---- the table on the double ---- */

static const struct fake_kvm_config kinds_of_double[] = {
	{0},
	{.spaces = 1},
	{.spaces = 4, .nr_memslots = 32},
	{.no_readonly_mem = true},
	{.private_slots = true, .zap = FAKE_KVM_ZAP_SLOT, .shadow_mmu = true},
	{.max_gfn = (UINT64_C(1) << 40) - 1, .hva_limit = UINT64_C(0x7ffffffff000)},
};

static void report_step(void *data, const struct kvm_step *step, int result)
{
	char text[512];

	(void)data;
	kvm_step_format(step, text, sizeof(text));
	print_error("%s: %d, expected %d\n", text, result, step->expected);
}

static bool run_on_double(const struct kvm_sequence *sequence, const struct fake_kvm_config *config)
{
	struct fake_kvm *kvm = fake_kvm_new(config);
	struct kvm_vm vm = as_vm(kvm);
	bool runs;

	assert_int_equal(kvm_vm_probe(&vm), 0);
	runs = !kvm_vm_lacks(&vm, sequence);
	if (runs)
		assert_int_equal(kvm_table_run(&vm, sequence, report_step, NULL), 0);
	assert_valid(kvm);
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

static void probe_finds_the_limits_of_the_config(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(kinds_of_double); i++) {
		struct fake_kvm *kvm = fake_kvm_new(&kinds_of_double[i]);
		struct kvm_vm vm = as_vm(kvm);

		assert_int_equal(kvm_vm_probe(&vm), 0);
		assert_int_equal(vm.limits.spaces, kvm->config.spaces);
		assert_int_equal(vm.limits.nr_memslots, kvm->config.nr_memslots);
		assert_int_equal(vm.limits.readonly_mem, !kvm->config.no_readonly_mem);
		assert_int_equal(vm.limits.max_gfn, kvm->config.max_gfn);
		assert_int_equal(vm.limits.hva_limit, kvm->config.hva_limit);
		fake_kvm_free(kvm);
	}
}

/* ---- the hook ---- */

static void unknown_request_returns_enotty(void **state)
{
	assert_int_equal(call(*state, KVM_GET_API_VERSION, NULL), -ENOTTY);
	assert_int_equal(call(*state, KVM_RESET_DIRTY_RINGS, NULL), -ENOTTY);
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

/* ---- random steps ---- */

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* The results of two VMs for one step. */
static bool agree_on(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step,
		     int results[2])
{
	results[0] = kvm_step_run(vm, step);
	results[1] = other ? kvm_step_run(other, step) : results[0];
	if (results[0] != results[1])
		return false;
	return !other || step->kind != KVM_STEP_GET ||
	       memcmp(vm->words, other->words, sizeof(vm->words)) == 0;
}

static void assert_agreement(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step)
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

/* Random steps on a double and another VM, NULL for none; the double validated after each. */
static void walk(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
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

/* ---- live ---- */

static int system_fd = -1;

static int real_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	int r = ioctl(fd, request, arg);

	(void)data;
	return r < 0 ? -errno : r;
}

static void open_real(struct kvm_vm *vm)
{
	*vm = (struct kvm_vm){.ioctl = real_ioctl, .fd = ioctl(system_fd, KVM_CREATE_VM, 0)};
	if (vm->fd < 0)
		fail_msg("KVM_CREATE_VM: %s", strerror(errno));
	assert_int_equal(kvm_vm_probe(vm), 0);
}

/* A double with the limits of a real VM, which it finds by itself. */
static struct fake_kvm *double_of(const struct kvm_vm *real, struct kvm_vm *vm)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){
		.spaces = real->limits.spaces,
		.nr_memslots = real->limits.nr_memslots,
		.max_gfn = real->limits.max_gfn,
		.hva_limit = real->limits.hva_limit,
		.no_readonly_mem = !real->limits.readonly_mem,
	});

	*vm = as_vm(kvm);
	assert_int_equal(kvm_vm_probe(vm), 0);
	assert_memory_equal(&vm->limits, &real->limits, sizeof(vm->limits));
	return kvm;
}

static void run_sequence_live(void **state)
{
	const struct kvm_sequence *sequence = *state;
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;
	const char *reason;

	open_real(&real);
	reason = kvm_vm_lacks(&real, sequence);
	if (reason) {
		close(real.fd);
		print_message("%s: %s\n", sequence->name, reason);
		skip();
	}
	kvm = double_of(&real, &vm);
	for (const struct kvm_step *step = sequence->steps; step->kind != KVM_STEP_END; step++)
		assert_agreement(&vm, &real, step);
	close(real.fd);
	fake_kvm_free(kvm);

	/* Both agree; are they also as the table says? */
	open_real(&real);
	assert_int_equal(kvm_table_run(&real, sequence, report_step, NULL), 0);
	close(real.fd);
}

static void double_has_the_capabilities_of_the_real_kvm(void **state)
{
	static const uintptr_t caps[] = {
		KVM_CAP_USER_MEMORY,
		KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
		KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
		KVM_CAP_SYNC_MMU,
		KVM_CAP_CHECK_EXTENSION_VM,
		KVM_CAP_ENABLE_CAP_VM,
		KVM_CAP_IMMEDIATE_EXIT,
		KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		KVM_CAP_NR_MEMSLOTS,
		KVM_CAP_READONLY_MEM,
		KVM_CAP_X86_SMM,
		KVM_CAP_MULTI_ADDRESS_SPACE,
		0x7fffffff,
	};
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;

	(void)state;
	open_real(&real);
	kvm = double_of(&real, &vm);
	for (size_t i = 0; i < LENGTH(caps); i++)
		assert_int_equal(check(kvm, caps[i]),
				 real_ioctl(NULL, real.fd, KVM_CHECK_EXTENSION, (void *)caps[i]));
	close(real.fd);
	fake_kvm_free(kvm);
}

static void forked_child_gets_eio_from_the_real_kvm(void **state)
{
	struct kvm_vm real;
	int status;
	pid_t pid;

	(void)state;
	open_real(&real);
	pid = fork();
	if (pid == 0)
		_exit(real_ioctl(NULL, real.fd, KVM_CHECK_EXTENSION, NULL) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(real.fd);
}

static void double_and_real_kvm_agree_on_random_steps(void **state)
{
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;

	(void)state;
	open_real(&real);
	kvm = double_of(&real, &vm);
	walk(kvm, &vm, &real);
	close(real.fd);
	fake_kvm_free(kvm);
}

static void print_limits(void)
{
	struct kvm_vm real;

	open_real(&real);
	print_message("live: %u space(s), %u slots, readonly %d, last gfn %#llx, hva limit %#llx\n",
		      real.limits.spaces, real.limits.nr_memslots, real.limits.readonly_mem,
		      (unsigned long long)real.limits.max_gfn,
		      (unsigned long long)real.limits.hva_limit);
	close(real.fd);
}

/* ---- groups ---- */

/* The table's sequences as tests, named alike. */
static int run_table(const char *group, void (*test)(void **state))
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

#define KVM_TEST(test) cmocka_unit_test_setup_teardown(test, make_kvm, free_kvm)

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
		cmocka_unit_test(probe_finds_the_limits_of_the_config),
		KVM_TEST(snapshot_differs_after_change),
		cmocka_unit_test(validate_finds_planted_corruption),
		cmocka_unit_test(table_finds_a_kvm_that_lies),
		cmocka_unit_test(random_steps_find_a_kvm_that_lies),
		cmocka_unit_test(double_stays_valid_under_random_steps),
	};

	return cmocka_run_group_tests_name("checkers", tests, NULL, NULL);
}

static int run_live(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(double_has_the_capabilities_of_the_real_kvm),
		cmocka_unit_test(forked_child_gets_eio_from_the_real_kvm),
		cmocka_unit_test(double_and_real_kvm_agree_on_random_steps),
	};
	int r;

	system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (system_fd < 0) {
		bool required = number_from("KVMAS_REQUIRE_KVM", 0) == 1;

		print_message("live: %s: /dev/kvm: %s\n", required ? "failed" : "skipped",
			      strerror(errno));
		return required;
	}
	print_limits();
	r = cmocka_run_group_tests_name("live", tests, NULL, NULL);
	r += run_table("table on the real KVM", run_sequence_live);
	close(system_fd);
	return r;
}

int main(void)
{
	int failed = run_table("table on the double", run_sequence_on_doubles);

	failed += run_double();
	failed += run_checkers();
	failed += run_live();
	return failed ? 1 : 0;
}

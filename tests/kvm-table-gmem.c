/* SPDX-License-Identifier: MIT */
/*
 * The rules of guest_memfd and of memory attributes as a table, for VMs without private memory:
 * what is refused, which slot may be bound to what, and where a guest's stores are then
 * (virt/kvm/guest_memfd.c, kvm_main.c: __kvm_set_memory_region, kvm_vm_ioctl_set_mem_attributes;
 * Linux 6.12 to 6.18). What needs no file is in kvm-table.c.
 *
 * Rows only, as there; what runs them is kvm-channel.c.
 */
#include "kvm-table-words.h"

#define FILE_OF(n) (KVM_MEMFD_FD + (n))
#define SAME_FILE(n) (KVM_MEMFD_FD + KVM_SAME_FD + (n))
#define CAN_MMAP GUEST_MEMFD_FLAG_MMAP
#define SHARED GUEST_MEMFD_FLAG_INIT_SHARED
#define MEMORY 0
#define PAGE UINT64_C(4096)

const struct kvm_sequence kvm_gmem_table[] = {
	/* KVM_CREATE_GUEST_MEMFD */
	{"memfd_that_kvm_lacks_returns_enotty",
	 STEPS(NEW_MEMFD(0, PAGES(1), 0, -ENOTTY), NEW_MEMFD(0, PAGES(0), 9, -ENOTTY),
	       {.kind = KVM_STEP_MEMFD, .no_arg = true, .expected = -ENOTTY}),
	 KVM_NEEDS_NO_MEMFD},
	{"memfd_null_argument_returns_efault", STEPS(NO_ARG(KVM_STEP_MEMFD)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"memfd_of_wrong_size_returns_einval",
	 STEPS(NEW_MEMFD(0, PAGES(0), 0, -EINVAL), NEW_MEMFD(0, BYTES(1), 0, -EINVAL),
	       NEW_MEMFD(0, BYTES(4097), 0, -EINVAL), NEW_MEMFD(0, PAGES(-1), 0, -EINVAL),
	       NEW_MEMFD(0, PAGES(INT64_C(1) << 51), 0, -EINVAL), NEW_MEMFD(0, PAGES(1), 0, 0),
	       NEW_MEMFD(1, PAGES(INT64_C(1) << 28), 0, 0)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"memfd_with_unknown_flag_returns_einval",
	 STEPS(NEW_MEMFD(0, PAGES(1), 4, -EINVAL), NEW_MEMFD(0, PAGES(1), 7, -EINVAL),
	       NEW_MEMFD(0, PAGES(1), UINT64_C(1) << 63, -EINVAL), NEW_MEMFD(0, PAGES(1), 0, 0)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"memfd_may_be_mapped_or_shared_or_both",
	 STEPS(NEW_MEMFD(0, PAGES(1), CAN_MMAP, 0), NEW_MEMFD(1, PAGES(1), SHARED, 0),
	       NEW_MEMFD(2, PAGES(1), CAN_MMAP | SHARED, 0), PEEK(FILE_OF(2), 0, 0),
	       PEEK(FILE_OF(1), 0, -EACCES)),
	 KVM_NEEDS_MEMFD_FLAGS},
	{"memfd_that_cannot_be_mapped_refuses_the_flags",
	 STEPS(NEW_MEMFD(0, PAGES(1), CAN_MMAP, -EINVAL), NEW_MEMFD(0, PAGES(1), SHARED, -EINVAL)),
	 KVM_NEEDS_NO_MEMFD_FLAGS},

	/* slots */
	{"slot_of_a_file_wants_all_its_pages_there",
	 STEPS(NEW_MEMFD(0, PAGES(8), 0, 0),
	       MEMFD(0, PAGES(0), PAGES(9), 0, FILE_OF(0), 0, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(8), 0, FILE_OF(0), PAGE, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(1), 0, FILE_OF(0), 8 * PAGE, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(1), 0, FILE_OF(0), UINT64_C(1) << 63, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(1), 0, FILE_OF(0), 7 * PAGE + 1, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(1), 0, FILE_OF(0), 7 * PAGE, 0),
	       MEMFD(1, PAGES(1), PAGES(7), 0, FILE_OF(0), 0, 0)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"page_of_a_file_is_in_one_slot",
	 STEPS(NEW_MEMFD(0, PAGES(8), 0, 0), NEW_MEMFD(1, PAGES(8), 0, 0),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 2 * PAGE, 0),
	       MEMFD(1, PAGES(16), PAGES(4), 0, FILE_OF(0), 2 * PAGE, -EINVAL),
	       MEMFD(1, PAGES(16), PAGES(1), 0, SAME_FILE(0), 5 * PAGE, -EINVAL),
	       MEMFD(1, PAGES(16), PAGES(3), 0, FILE_OF(0), 0, -EINVAL),
	       MEMFD(1, PAGES(16), PAGES(8), 0, FILE_OF(0), 0, -EINVAL),
	       MEMFD(1, PAGES(16), PAGES(2), 0, SAME_FILE(0), 0, 0),
	       MEMFD(2, PAGES(18), PAGES(2), 0, FILE_OF(0), 6 * PAGE, 0),
	       MEMFD(3, PAGES(24), PAGES(8), 0, FILE_OF(1), 0, 0), DELETE(0, 0, 0),
	       MEMFD(4, PAGES(4), PAGES(4), 0, FILE_OF(0), 2 * PAGE, 0)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"slot_of_a_file_can_only_be_deleted",
	 STEPS(NEW_MEMFD(0, PAGES(8), 0, 0), MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 0, 0),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 0, -EINVAL),
	       MEMFD(0, PAGES(8), PAGES(4), 0, FILE_OF(0), 0, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 4 * PAGE, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(4), MEM(0), 0, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(4), MEM(0), LOG, -EINVAL),
	       SET(0, 0, PAGES(8), PAGES(4), MEM(0), 0, -EINVAL),
	       SET2(0, 0, PAGES(0), PAGES(4), MEM(0), 0, -EINVAL), GET(0, 0, -ENOENT),
	       SET(0, 1, PAGES(2), PAGES(4), MEM(0), 0, -EEXIST), DELETE(0, 0, 0),
	       DELETE(0, 0, -EINVAL)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"slot_with_a_file_cannot_be_logged_or_readonly",
	 STEPS(NEW_MEMFD(0, PAGES(8), 0, 0),
	       MEMFD(0, PAGES(0), PAGES(4), LOG, FILE_OF(0), 0, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(4), RO, FILE_OF(0), 0, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(4), MEM(0), 0, 0),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 0, -EINVAL),
	       MEMFD(1, PAGES(2), PAGES(4), 0, FILE_OF(0), 0, -EEXIST),
	       MEMFD(1, PAGES(4), PAGES(4), 0, FILE_OF(0), 0, 0)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"slot_that_is_refused_late_binds_nothing",
	 STEPS(NEW_MEMFD(0, PAGES(8), 0, 0), MEMFD(0, END(0), PAGES(8), 0, FILE_OF(0), 0, -EINVAL),
	       MEMFD(0, PAGES(0), PAGES(8), 0, FILE_OF(0), 0, 0)),
	 KVM_NEEDS_GUEST_MEMFD},
	{"file_outlives_its_slot_and_its_name",
	 STEPS(NEW_MEMFD(0, PAGES(8), 0, 0), MEMFD(0, PAGES(0), PAGES(4), 0, SAME_FILE(0), 0, 0),
	       MEMFD(1, PAGES(8), PAGES(4), 0, FILE_OF(0), 0, -EINVAL), DELETE(0, 0, 0),
	       MEMFD(1, PAGES(8), PAGES(8), 0, FILE_OF(0), 0, 0)),
	 KVM_NEEDS_GUEST_MEMFD},

	/* memory */
	{"store_is_in_the_file_if_that_can_be_mapped_and_kvm_does_not_make_it",
	 STEPS(VCPU, NEW_MEMFD(0, PAGES(8), CAN_MMAP | SHARED, 0),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 2 * PAGE, 0),
	       STORE(0, BYTES(0x1008), 4, 0x77, MEMORY), PEEK(FILE_OF(0), 3 * PAGE + 8, 0),
	       LOAD(0, BYTES(0x1008), 4, MEMORY)),
	 KVM_NEEDS_GUEST_MEMFD_EMULATED},
	{"store_is_in_the_file_if_that_can_be_mapped",
	 STEPS(VCPU, NEW_MEMFD(0, PAGES(8), CAN_MMAP | SHARED, 0),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 2 * PAGE, 0),
	       STORE(0, BYTES(0x1008), 4, 0x77, MEMORY), PEEK(FILE_OF(0), 3 * PAGE + 8, 0x77),
	       PEEK(FILE_OF(0), PAGE + 8, 0), LOAD(0, BYTES(0x1008), 4, MEMORY), DELETE(0, 0, 0),
	       STORE(0, BYTES(0x1008), 4, 0x78, KVM_EXITS_MMIO),
	       PEEK(FILE_OF(0), 3 * PAGE + 8, 0x77),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 0, 0),
	       STORE(0, BYTES(0x3008), 1, 0x79, MEMORY), PEEK(FILE_OF(0), 3 * PAGE + 8, 0x79)),
	 KVM_NEEDS_GUEST_MEMFD_MMU},
	{"store_is_not_in_a_file_that_cannot_be_mapped",
	 STEPS(VCPU, NEW_MEMFD(0, PAGES(8), 0, 0),
	       MEMFD(0, PAGES(0), PAGES(4), 0, FILE_OF(0), 0, 0),
	       STORE(0, BYTES(0x1008), 4, 0x77, MEMORY), LOAD(0, BYTES(0x1008), 4, MEMORY)),
	 KVM_NEEDS_GUEST_MEMFD_FLAGS},

	/* KVM_SET_MEMORY_ATTRIBUTES */
	{"attributes_that_kvm_lacks_return_enotty",
	 STEPS(ATTRIBUTES(PAGES(0), PAGES(1), 0, 0, -ENOTTY),
	       ATTRIBUTES(BYTES(1), PAGES(0), 8, 1, -ENOTTY),
	       {.kind = KVM_STEP_ATTRIBUTES, .no_arg = true, .expected = -ENOTTY}),
	 KVM_NEEDS_NO_ATTRIBUTES},
	{"attributes_are_checked",
	 STEPS(ATTRIBUTES(PAGES(0), PAGES(1), 0, 0, 0),
	       ATTRIBUTES(PAGES(0), PAGES(1), 0, 1, -EINVAL),
	       ATTRIBUTES(PAGES(0), PAGES(1), 7, 0, -EINVAL),
	       ATTRIBUTES(PAGES(0), PAGES(1), 16, 0, -EINVAL),
	       ATTRIBUTES(PAGES(0), PAGES(0), 0, 0, -EINVAL),
	       ATTRIBUTES(PAGES(-1), PAGES(1), 0, 0, -EINVAL),
	       ATTRIBUTES(PAGES(-2), PAGES(1), 0, 0, 0),
	       ATTRIBUTES(BYTES(1), PAGES(1), 0, 0, -EINVAL),
	       ATTRIBUTES(PAGES(0), BYTES(1), 0, 0, -EINVAL), NO_ARG(KVM_STEP_ATTRIBUTES)),
	 KVM_NEEDS_ATTRIBUTES},
};

const size_t kvm_gmem_table_length = sizeof(kvm_gmem_table) / sizeof(kvm_gmem_table[0]);

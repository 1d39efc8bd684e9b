/* SPDX-License-Identifier: MIT */
/*
 * The rules of KVM's memory slots as a table: virt/kvm/kvm_main.c (__kvm_set_memory_region,
 * kvm_get_dirty_log_protect, kvm_clear_dirty_log_protect, kvm_vm_ioctl_enable_cap_generic) and
 * arch/x86/kvm/x86.c (kvm_arch_prepare_memory_region) in Linux 6.1 to 6.18. There is no vCPU:
 * bits are seen all the same, because with KVM_DIRTY_LOG_INITIALLY_SET a new bitmap is all ones,
 * and one that was kept is not.
 *
 * One sequence is one behaviour, and its name says it. A row is a call and what it returns; what
 * the machine limits is written relative to the limit: END(-1) is the last page a slot may have.
 *
 * Read a sequence first, then kvm_step_run.
 */
#include "kvm-table.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- the words of the table ---- */

/* Arguments that are initializers in braces cannot stand in parentheses. */
/* NOLINTBEGIN(bugprone-macro-parentheses) */
/* clang-format off */
#define PAGES(n) {KVM_FROM_ZERO, n, 0}
#define BYTES(n) {KVM_FROM_ZERO, 0, n}
#define END(n) {KVM_FROM_END, n, 0}
#define MEM(n) {KVM_FROM_MEM, n, 0}
#define LIMIT(n) {KVM_FROM_LIMIT, n, 0}

#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define RO KVM_MEM_READONLY
#define PAST_SPACES KVM_PAST_SPACES
#define LAST_ID KVM_LAST_ID
#define PAST_IDS KVM_PAST_IDS

/* as_id, id, gpa, size, hva, flags, result */
#define SET(a, i, g, s, h, f, e) \
	{.kind = KVM_STEP_SET, .as_id = a, .id = i, .gpa = g, .size = s, .hva = h, .flags = f, \
	 .expected = e}
#define DELETE(a, i, e) SET(a, i, PAGES(0), PAGES(0), PAGES(0), 0, e)
/* as_id, id, result */
#define GET(a, i, e) \
	{.kind = KVM_STEP_GET, .as_id = a, .id = i, .expected = e}
#define GET_FAULT(a, i, e) \
	{.kind = KVM_STEP_GET, .as_id = a, .id = i, .no_buffer = true, .expected = e}
/* as_id, id, first page, number of pages, what each word of the bitmap is, result */
#define CLEAR(a, i, p, n, m, e) \
	{.kind = KVM_STEP_CLEAR, .as_id = a, .id = i, .first_page = p, .num_pages = n, .mask = m, \
	 .expected = e}
#define CLEAR_FAULT(a, i, p, n, e) \
	{.kind = KVM_STEP_CLEAR, .as_id = a, .id = i, .first_page = p, .num_pages = n, \
	 .no_buffer = true, .expected = e}
/* args[0], flags, result */
#define MANUAL(o, f, e) {.kind = KVM_STEP_MANUAL, .options = o, .flags = f, .expected = e}
#define NO_ARG(k) {.kind = k, .no_arg = true, .expected = -EFAULT}

#define BITS KVM_BITS
#define ALL UINT64_MAX
#define OFF 0
#define PROTECT KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
#define INITSET (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)

#define STEPS(...) (const struct kvm_step[]){__VA_ARGS__, {.kind = KVM_STEP_END}}
/* NOLINTEND(bugprone-macro-parentheses) */

/* ---- the table ---- */

const struct kvm_sequence kvm_table[] = {
	/* KVM_SET_USER_MEMORY_REGION: what is refused */
	{"null_argument_returns_efault",
	 STEPS(NO_ARG(KVM_STEP_SET), NO_ARG(KVM_STEP_GET), NO_ARG(KVM_STEP_CLEAR),
	       NO_ARG(KVM_STEP_MANUAL)),
	 KVM_NEEDS_NOTHING},
	{"create_with_unknown_flag_returns_einval",
	 STEPS(SET(0, 0, PAGES(0), PAGES(1), MEM(0), 1u << 2, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(1), MEM(0), 1u << 3, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(1), MEM(0), 1u << 31, -EINVAL), DELETE(0, 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_with_id_past_the_limit_returns_einval",
	 STEPS(SET(0, LAST_ID, PAGES(0), PAGES(1), MEM(0), 0, 0),
	       SET(0, PAST_IDS, PAGES(1), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(0, 32767, PAGES(1), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(0, 65535, PAGES(1), PAGES(1), MEM(0), 0, -EINVAL), DELETE(0, LAST_ID, 0)),
	 KVM_NEEDS_NOTHING},
	{"create_in_missing_space_returns_einval",
	 STEPS(SET(PAST_SPACES, 0, PAGES(0), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(65535, 0, PAGES(0), PAGES(1), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_with_unaligned_size_returns_einval",
	 STEPS(SET(0, 0, PAGES(0), BYTES(1), MEM(0), 0, -EINVAL),
	       SET(0, 0, PAGES(0), BYTES(512), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_at_unaligned_gpa_returns_einval",
	 STEPS(SET(0, 0, BYTES(1), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(0, 0, BYTES(512), PAGES(1), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_at_unaligned_hva_returns_einval",
	 STEPS(SET(0, 0, PAGES(0), PAGES(1), BYTES(1), 0, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(1), BYTES(512), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_with_hva_past_user_space_returns_einval",
	 STEPS(SET(0, 0, PAGES(0), PAGES(1), LIMIT(0), 0, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(2), LIMIT(-1), 0, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(1), PAGES(-1), 0, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(2), PAGES(-1), 0, -EINVAL),
	       SET(0, 0, PAGES(0), PAGES(1), LIMIT(-1), 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"create_at_hva_zero_succeeds",
	 STEPS(SET(0, 0, PAGES(0), PAGES(1), PAGES(0), 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"create_whose_gpa_wraps_returns_einval",
	 STEPS(SET(0, 0, PAGES(-1), PAGES(2), MEM(0), 0, -EINVAL),
	       SET(0, 0, PAGES(-2), PAGES(1), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_that_ends_at_two_to_the_64_returns_einval",
	 STEPS(SET(0, 0, PAGES(-1), PAGES(1), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_of_two_to_the_31_pages_returns_einval",
	 STEPS(SET(0, 0, PAGES(0), PAGES(INT64_C(1) << 31), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_past_last_gfn_returns_einval",
	 STEPS(SET(0, 0, END(0), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(0, 0, END(-1), PAGES(2), MEM(0), 0, -EINVAL),
	       SET(0, 0, END(-1), PAGES(1), MEM(0), 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"create_over_another_slot_returns_eexist",
	 STEPS(SET(0, 0, PAGES(4), PAGES(4), MEM(0), 0, 0),
	       SET(0, 1, PAGES(4), PAGES(4), MEM(0), 0, -EEXIST),
	       SET(0, 1, PAGES(5), PAGES(1), MEM(0), 0, -EEXIST),
	       SET(0, 1, PAGES(3), PAGES(2), MEM(0), 0, -EEXIST),
	       SET(0, 1, PAGES(7), PAGES(2), MEM(0), 0, -EEXIST),
	       SET(0, 1, PAGES(0), PAGES(16), MEM(0), 0, -EEXIST), DELETE(0, 1, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"create_next_to_another_slot_succeeds",
	 STEPS(SET(0, 5, PAGES(4), PAGES(4), MEM(0), 0, 0),
	       SET(0, 0, PAGES(3), PAGES(1), MEM(4), 0, 0),
	       SET(0, 9, PAGES(8), PAGES(1), MEM(5), 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"create_on_the_same_memory_succeeds",
	 STEPS(SET(0, 0, PAGES(0), PAGES(4), MEM(0), LOG, 0),
	       SET(0, 1, PAGES(4), PAGES(4), MEM(0), 0, 0),
	       SET(0, 2, PAGES(8), PAGES(4), MEM(2), LOG, 0)),
	 KVM_NEEDS_NOTHING},
	{"create_past_last_gfn_over_another_slot_returns_eexist",
	 STEPS(SET(0, 0, END(-1), PAGES(1), MEM(0), 0, 0),
	       SET(0, 1, END(-1), PAGES(2), MEM(0), 0, -EEXIST)),
	 KVM_NEEDS_NOTHING},

	/* DELETE */
	{"delete_of_missing_slot_returns_einval",
	 STEPS(DELETE(0, 0, -EINVAL), SET(0, 0, PAGES(0), PAGES(1), MEM(0), 0, 0), DELETE(0, 0, 0),
	       DELETE(0, 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"delete_with_invalid_arguments_returns_einval",
	 STEPS(SET(0, 0, PAGES(4), PAGES(1), MEM(0), 0, 0),
	       SET(0, 0, BYTES(1), PAGES(0), MEM(0), 0, -EINVAL),
	       SET(0, 0, PAGES(4), PAGES(0), BYTES(1), 0, -EINVAL),
	       SET(0, 0, PAGES(4), PAGES(0), LIMIT(1), 0, -EINVAL),
	       SET(0, 0, PAGES(4), PAGES(0), PAGES(-1), 0, -EINVAL),
	       SET(0, 0, PAGES(4), PAGES(0), MEM(0), 1u << 2, -EINVAL),
	       SET(0, PAST_IDS, PAGES(4), PAGES(0), MEM(0), 0, -EINVAL),
	       SET(PAST_SPACES, 0, PAGES(4), PAGES(0), MEM(0), 0, -EINVAL), DELETE(0, 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"delete_with_valid_garbage_succeeds",
	 STEPS(SET(0, 0, PAGES(4), PAGES(1), MEM(0), 0, 0),
	       SET(0, 0, PAGES(-1), PAGES(0), MEM(9), LOG, 0), DELETE(0, 0, -EINVAL),
	       SET(0, 0, PAGES(4), PAGES(1), MEM(0), LOG, 0),
	       SET(0, 0, END(0), PAGES(0), LIMIT(-1), 0, 0), DELETE(0, 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"delete_frees_the_place",
	 STEPS(SET(0, 0, PAGES(4), PAGES(4), MEM(0), 0, 0), DELETE(0, 0, 0),
	       SET(0, 1, PAGES(0), PAGES(16), MEM(0), 0, 0)),
	 KVM_NEEDS_NOTHING},

	/* what a slot may become */
	{"same_arguments_succeed",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), LOG, 0),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), LOG, 0)),
	 KVM_NEEDS_NOTHING},
	{"other_size_returns_einval",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0),
	       SET(0, 0, PAGES(4), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(0, 0, PAGES(4), PAGES(3), MEM(0), 0, -EINVAL),
	       SET(0, 0, PAGES(8), PAGES(3), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"other_size_over_another_slot_returns_einval",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0),
	       SET(0, 1, PAGES(6), PAGES(2), MEM(2), 0, 0),
	       SET(0, 0, PAGES(4), PAGES(3), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"other_hva_returns_einval",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(1), 0, -EINVAL),
	       SET(0, 0, PAGES(8), PAGES(2), MEM(1), LOG, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"other_readonly_returns_einval",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), RO, -EINVAL),
	       SET(0, 0, PAGES(8), PAGES(2), MEM(0), RO, -EINVAL),
	       SET(0, 1, PAGES(0), PAGES(1), MEM(0), RO, 0),
	       SET(0, 1, PAGES(0), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(0, 1, PAGES(0), PAGES(1), MEM(0), LOG, -EINVAL)),
	 KVM_NEEDS_READONLY},
	{"readonly_that_kvm_lacks_returns_einval",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), RO, -EINVAL)), KVM_NEEDS_NO_READONLY},
	{"log_toggle_of_readonly_slot_succeeds",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), RO, 0),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), RO | LOG, 0), GET(0, 0, BITS(1, 0)),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), RO, 0), GET(0, 0, -ENOENT)),
	 KVM_NEEDS_READONLY},
	{"log_toggle_succeeds",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0), GET(0, 0, -ENOENT),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), LOG, 0), GET(0, 0, BITS(1, 0)),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0), GET(0, 0, -ENOENT)),
	 KVM_NEEDS_NOTHING},
	{"move_over_another_slot_returns_eexist",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0),
	       SET(0, 1, PAGES(8), PAGES(2), MEM(2), 0, 0),
	       SET(0, 0, PAGES(8), PAGES(2), MEM(0), 0, -EEXIST),
	       SET(0, 0, PAGES(7), PAGES(2), MEM(0), LOG, -EEXIST),
	       SET(0, 0, PAGES(9), PAGES(2), MEM(0), 0, -EEXIST),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0),
	       SET(0, 0, PAGES(10), PAGES(2), MEM(0), 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"move_over_own_old_place_succeeds",
	 STEPS(SET(0, 0, PAGES(4), PAGES(4), MEM(0), 0, 0),
	       SET(0, 0, PAGES(5), PAGES(4), MEM(0), 0, 0),
	       SET(0, 0, PAGES(3), PAGES(4), MEM(0), 0, 0),
	       SET(0, 1, PAGES(7), PAGES(1), MEM(0), 0, 0),
	       SET(0, 2, PAGES(2), PAGES(1), MEM(0), 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"move_past_last_gfn_returns_einval_and_keeps_the_slot",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), LOG, 0),
	       SET(0, 0, END(-1), PAGES(2), MEM(0), LOG, -EINVAL), GET(0, 0, BITS(1, 0)),
	       SET(0, 1, PAGES(4), PAGES(1), MEM(0), 0, -EEXIST),
	       SET(0, 0, END(-2), PAGES(2), MEM(0), LOG, 0),
	       SET(0, 1, PAGES(4), PAGES(1), MEM(0), 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"move_past_last_gfn_over_another_slot_returns_eexist",
	 STEPS(SET(0, 0, END(-1), PAGES(1), MEM(0), 0, 0),
	       SET(0, 1, PAGES(4), PAGES(2), MEM(1), 0, 0),
	       SET(0, 1, END(-1), PAGES(2), MEM(1), 0, -EEXIST)),
	 KVM_NEEDS_NOTHING},
	{"move_may_change_log",
	 STEPS(SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0),
	       SET(0, 0, PAGES(8), PAGES(2), MEM(0), LOG, 0), GET(0, 0, BITS(1, 0)),
	       SET(0, 0, PAGES(4), PAGES(2), MEM(0), 0, 0), GET(0, 0, -ENOENT)),
	 KVM_NEEDS_NOTHING},

	/* spaces */
	{"same_id_and_place_in_another_space_succeeds",
	 STEPS(SET(0, 3, PAGES(4), PAGES(4), MEM(0), LOG, 0),
	       SET(1, 3, PAGES(4), PAGES(4), MEM(0), 0, 0),
	       SET(1, 4, PAGES(6), PAGES(1), MEM(0), 0, -EEXIST)),
	 KVM_NEEDS_TWO_SPACES},
	{"delete_in_one_space_leaves_the_other",
	 STEPS(SET(0, 3, PAGES(4), PAGES(4), MEM(0), LOG, 0),
	       SET(1, 3, PAGES(4), PAGES(4), MEM(0), LOG, 0), DELETE(1, 3, 0),
	       DELETE(1, 3, -EINVAL), GET(0, 3, BITS(1, 0)), GET(1, 3, -ENOENT)),
	 KVM_NEEDS_TWO_SPACES},
	{"move_in_one_space_leaves_the_other",
	 STEPS(SET(0, 3, PAGES(4), PAGES(4), MEM(0), 0, 0),
	       SET(1, 3, PAGES(4), PAGES(4), MEM(0), 0, 0),
	       SET(1, 3, PAGES(8), PAGES(4), MEM(0), 0, 0),
	       SET(0, 4, PAGES(8), PAGES(4), MEM(0), 0, 0),
	       SET(0, 5, PAGES(4), PAGES(4), MEM(0), 0, -EEXIST)),
	 KVM_NEEDS_TWO_SPACES},
	{"last_id_and_last_gfn_serve_in_every_space",
	 STEPS(SET(1, LAST_ID, END(-1), PAGES(1), MEM(0), 0, 0),
	       SET(0, LAST_ID, END(-1), PAGES(1), MEM(0), 0, 0),
	       SET(1, PAST_IDS, PAGES(0), PAGES(1), MEM(0), 0, -EINVAL),
	       SET(1, 0, END(0), PAGES(1), MEM(0), 0, -EINVAL)),
	 KVM_NEEDS_TWO_SPACES},
	{"logs_of_two_spaces_are_apart",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       SET(1, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0), CLEAR(1, 0, 0, 8, ALL, 0),
	       GET(0, 0, BITS(1, 8)), GET(1, 0, BITS(1, 0))),
	 KVM_NEEDS_TWO_SPACES},

	/* KVM_GET_DIRTY_LOG */
	{"get_of_missing_place_returns_einval",
	 STEPS(GET(0, PAST_IDS, -EINVAL), GET(0, 65535, -EINVAL), GET(PAST_SPACES, 0, -EINVAL),
	       GET(65535, 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"get_of_missing_slot_returns_enoent",
	 STEPS(GET(0, 0, -ENOENT), GET(0, LAST_ID, -ENOENT), GET_FAULT(0, 0, -ENOENT)),
	 KVM_NEEDS_NOTHING},
	{"get_of_unlogged_slot_returns_enoent",
	 STEPS(SET(0, 0, PAGES(0), PAGES(1), MEM(0), 0, 0), GET(0, 0, -ENOENT)),
	 KVM_NEEDS_NOTHING},
	{"get_writes_whole_words",
	 STEPS(SET(0, 0, PAGES(0), PAGES(64), MEM(0), LOG, 0),
	       SET(0, 1, PAGES(64), PAGES(65), MEM(0), LOG, 0),
	       SET(0, 2, PAGES(256), PAGES(1), MEM(0), LOG, 0), GET(0, 0, BITS(1, 0)),
	       GET(0, 1, BITS(2, 0)), GET(0, 2, BITS(1, 0))),
	 KVM_NEEDS_NOTHING},
	{"get_without_buffer_returns_efault",
	 STEPS(SET(0, 0, PAGES(0), PAGES(1), MEM(0), LOG, 0), GET_FAULT(0, 0, -EFAULT)),
	 KVM_NEEDS_NOTHING},
	{"get_clears_in_automatic_mode",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(70), MEM(0), LOG, 0),
	       MANUAL(OFF, 0, 0), GET(0, 0, BITS(2, 70)), GET(0, 0, BITS(2, 0))),
	 KVM_NEEDS_NOTHING},
	{"get_that_faults_loses_bits_in_automatic_mode",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(70), MEM(0), LOG, 0),
	       MANUAL(OFF, 0, 0), GET_FAULT(0, 0, -EFAULT), GET(0, 0, BITS(2, 0))),
	 KVM_NEEDS_NOTHING},
	{"get_clears_nothing_in_manual_mode",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(70), MEM(0), LOG, 0),
	       GET(0, 0, BITS(2, 70)), GET_FAULT(0, 0, -EFAULT), GET(0, 0, BITS(2, 70)),
	       MANUAL(PROTECT, 0, 0), GET(0, 0, BITS(2, 70)), GET(0, 0, BITS(2, 70))),
	 KVM_NEEDS_NOTHING},

	/* KVM_CLEAR_DIRTY_LOG */
	{"clear_of_missing_place_returns_einval",
	 STEPS(CLEAR(0, PAST_IDS, 0, 1, ALL, -EINVAL), CLEAR(PAST_SPACES, 0, 0, 1, ALL, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"clear_from_inside_a_word_returns_einval_before_enoent",
	 STEPS(CLEAR(0, 0, 1, 1, ALL, -EINVAL), CLEAR(0, 0, 63, 1, ALL, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"clear_of_missing_slot_returns_enoent",
	 STEPS(CLEAR(0, 0, 64, 1000, ALL, -ENOENT), CLEAR_FAULT(0, 0, 0, 1, -ENOENT),
	       SET(0, 0, PAGES(0), PAGES(1), MEM(0), 0, 0), CLEAR(0, 0, 0, 1, ALL, -ENOENT)),
	 KVM_NEEDS_NOTHING},
	{"clear_past_the_end_returns_einval",
	 STEPS(SET(0, 0, PAGES(0), PAGES(100), MEM(0), LOG, 0),
	       CLEAR(0, 0, 0, 101, ALL, -EINVAL), CLEAR(0, 0, 0, 128, ALL, -EINVAL),
	       CLEAR(0, 0, 64, 64, ALL, -EINVAL), CLEAR(0, 0, 128, 0, ALL, -EINVAL),
	       CLEAR_FAULT(0, 0, 0, 128, -EINVAL), CLEAR(0, 0, 64, 36, ALL, 0)),
	 KVM_NEEDS_NOTHING},
	{"clear_that_ends_inside_a_word_returns_einval",
	 STEPS(SET(0, 0, PAGES(0), PAGES(100), MEM(0), LOG, 0), CLEAR(0, 0, 0, 1, ALL, -EINVAL),
	       CLEAR(0, 0, 0, 99, ALL, -EINVAL), CLEAR(0, 0, 64, 1, ALL, -EINVAL),
	       CLEAR(0, 0, 0, 64, ALL, 0), CLEAR(0, 0, 0, 100, ALL, 0)),
	 KVM_NEEDS_NOTHING},
	{"clear_of_no_pages_needs_no_bitmap",
	 STEPS(SET(0, 0, PAGES(0), PAGES(128), MEM(0), LOG, 0), CLEAR_FAULT(0, 0, 0, 0, 0),
	       CLEAR_FAULT(0, 0, 64, 0, 0), CLEAR_FAULT(0, 0, 128, 0, 0),
	       CLEAR_FAULT(0, 0, 192, 0, -EINVAL)),
	 KVM_NEEDS_NOTHING},
	{"clear_without_bitmap_returns_efault_and_clears_nothing",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       CLEAR_FAULT(0, 0, 0, 8, -EFAULT), GET(0, 0, BITS(1, 8))),
	 KVM_NEEDS_NOTHING},
	{"clear_clears_what_is_in_the_mask",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(100), MEM(0), LOG, 0),
	       CLEAR(0, 0, 64, 36, 0xf, 0), GET(0, 0, BITS(2, 96)), CLEAR(0, 0, 64, 36, 0x1f, 0),
	       GET(0, 0, BITS(2, 95)), CLEAR(0, 0, 0, 64, ALL, 0), GET(0, 0, BITS(2, 31)),
	       CLEAR(0, 0, 0, 100, ALL, 0), GET(0, 0, BITS(2, 0))),
	 KVM_NEEDS_NOTHING},
	{"clear_works_in_automatic_mode",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       MANUAL(OFF, 0, 0), CLEAR(0, 0, 0, 8, 0x3, 0), GET(0, 0, BITS(1, 6))),
	 KVM_NEEDS_NOTHING},

	/* manual protection, and what lives how long */
	{"manual_protect_takes_0_1_and_3",
	 STEPS(MANUAL(0, 0, 0), MANUAL(1, 0, 0), MANUAL(2, 0, -EINVAL), MANUAL(3, 0, 0),
	       MANUAL(4, 0, -EINVAL), MANUAL(5, 0, -EINVAL), MANUAL(ALL, 0, -EINVAL),
	       MANUAL(1, 1, -EINVAL), MANUAL(0, 0, 0)),
	 KVM_NEEDS_NOTHING},
	{"initially_set_is_for_new_bitmaps_only",
	 STEPS(SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0), MANUAL(INITSET, 0, 0),
	       GET(0, 0, BITS(1, 0)), SET(0, 1, PAGES(8), PAGES(8), MEM(0), LOG, 0),
	       GET(0, 1, BITS(1, 8)), MANUAL(PROTECT, 0, 0),
	       SET(0, 2, PAGES(16), PAGES(8), MEM(0), LOG, 0), GET(0, 2, BITS(1, 0))),
	 KVM_NEEDS_NOTHING},
	{"move_with_log_keeps_the_bitmap",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       CLEAR(0, 0, 0, 8, 0x7, 0), SET(0, 0, PAGES(4), PAGES(8), MEM(0), LOG, 0),
	       GET(0, 0, BITS(1, 5)), SET(0, 0, END(-8), PAGES(8), MEM(0), LOG, 0),
	       GET(0, 0, BITS(1, 5))),
	 KVM_NEEDS_NOTHING},
	{"move_to_log_makes_a_bitmap",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), 0, 0),
	       SET(0, 0, PAGES(4), PAGES(8), MEM(0), LOG, 0), GET(0, 0, BITS(1, 8))),
	 KVM_NEEDS_NOTHING},
	{"move_without_log_frees_the_bitmap",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       CLEAR(0, 0, 0, 8, 0x7, 0), SET(0, 0, PAGES(4), PAGES(8), MEM(0), 0, 0),
	       GET(0, 0, -ENOENT), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       GET(0, 0, BITS(1, 8))),
	 KVM_NEEDS_NOTHING},
	{"log_toggle_makes_a_new_bitmap",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       CLEAR(0, 0, 0, 8, ALL, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), 0, 0),
	       SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0), GET(0, 0, BITS(1, 8)),
	       MANUAL(OFF, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), 0, 0),
	       SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0), GET(0, 0, BITS(1, 0))),
	 KVM_NEEDS_NOTHING},
	{"delete_and_create_make_a_new_bitmap",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       CLEAR(0, 0, 0, 8, ALL, 0), DELETE(0, 0, 0), GET(0, 0, -ENOENT),
	       SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0), GET(0, 0, BITS(1, 8))),
	 KVM_NEEDS_NOTHING},
	{"same_or_refused_call_keeps_the_bitmap",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       CLEAR(0, 0, 0, 8, 0x7, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       SET(0, 0, PAGES(0), PAGES(9), MEM(0), LOG, -EINVAL),
	       SET(0, 0, END(-7), PAGES(8), MEM(0), 0, -EINVAL),
	       SET(0, 1, PAGES(7), PAGES(1), MEM(0), LOG, -EEXIST), GET(0, 0, BITS(1, 5))),
	 KVM_NEEDS_NOTHING},
	{"change_of_another_slot_keeps_the_bitmap",
	 STEPS(MANUAL(INITSET, 0, 0), SET(0, 0, PAGES(0), PAGES(8), MEM(0), LOG, 0),
	       CLEAR(0, 0, 0, 8, 0x7, 0), SET(0, 1, PAGES(8), PAGES(8), MEM(0), 0, 0),
	       SET(0, 1, PAGES(9), PAGES(8), MEM(0), LOG, 0),
	       SET(0, 1, PAGES(9), PAGES(8), MEM(0), 0, 0), DELETE(0, 1, 0), GET(0, 0, BITS(1, 5))),
	 KVM_NEEDS_NOTHING},
};
/* clang-format on */

const size_t kvm_table_length = sizeof(kvm_table) / sizeof(kvm_table[0]);

/* ---- one step ---- */

static uint64_t resolve(const struct kvm_limits *limits, const struct kvm_value *value)
{
	const uint64_t bases[] = {
		[KVM_FROM_ZERO] = 0,
		[KVM_FROM_END] = (limits->max_gfn + 1) * limits->page_size,
		[KVM_FROM_MEM] = UINT64_C(1) << 30,
		[KVM_FROM_LIMIT] = limits->hva_limit,
	};

	return bases[value->base] + (uint64_t)value->npages * limits->page_size +
	       (uint64_t)value->bytes;
}

static uint32_t slot_number(const struct kvm_limits *limits, const struct kvm_step *step)
{
	unsigned as_id = step->as_id, id = step->id;

	if (as_id == KVM_PAST_SPACES)
		as_id = limits->spaces;
	if (id == KVM_LAST_ID || id == KVM_PAST_IDS)
		id = limits->nr_memslots - (id == KVM_LAST_ID);
	return as_id << 16 | id;
}

static int issue(const struct kvm_vm *vm, unsigned long request, const struct kvm_step *step,
		 void *arg)
{
	return vm->ioctl(vm->data, vm->fd, request, step->no_arg ? NULL : arg);
}

static int run_set(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot_number(&vm->limits, step),
		.flags = step->flags,
		.guest_phys_addr = resolve(&vm->limits, &step->gpa),
		.memory_size = resolve(&vm->limits, &step->size),
		.userspace_addr = resolve(&vm->limits, &step->hva),
	};

	return issue(vm, KVM_SET_USER_MEMORY_REGION, step, &region);
}

/* Words that still are as they were before the call were not written. */
static int run_get(struct kvm_vm *vm, const struct kvm_step *step)
{
	const uint64_t untouched = UINT64_C(0xa5a5a5a5a5a5a5a5);
	struct kvm_dirty_log log = {
		.slot = slot_number(&vm->limits, step),
		.dirty_bitmap = step->no_buffer ? NULL : vm->words,
	};
	int words = 0, bits = 0, r;

	for (size_t i = 0; i < KVM_TABLE_WORDS; i++)
		vm->words[i] = untouched;
	r = issue(vm, KVM_GET_DIRTY_LOG, step, &log);
	if (r != 0)
		return r;
	while (words < KVM_TABLE_WORDS && vm->words[words] != untouched)
		bits += __builtin_popcountll(vm->words[words++]);
	return KVM_BITS(words, bits);
}

static int run_clear(struct kvm_vm *vm, const struct kvm_step *step)
{
	uint64_t masks[KVM_TABLE_WORDS];
	struct kvm_clear_dirty_log log = {
		.slot = slot_number(&vm->limits, step),
		.num_pages = step->num_pages,
		.first_page = step->first_page,
		.dirty_bitmap = step->no_buffer ? NULL : masks,
	};

	for (size_t i = 0; i < KVM_TABLE_WORDS; i++)
		masks[i] = step->mask;
	return issue(vm, KVM_CLEAR_DIRTY_LOG, step, &log);
}

static int run_manual(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.flags = step->flags,
		.args = {step->options},
	};

	return issue(vm, KVM_ENABLE_CAP, step, &cap);
}

static int run_nothing(struct kvm_vm *vm, const struct kvm_step *step)
{
	(void)vm;
	(void)step;
	return 0;
}

int kvm_step_run(struct kvm_vm *vm, const struct kvm_step *step)
{
	static int (*const runs[])(struct kvm_vm * vm, const struct kvm_step *step) = {
		[KVM_STEP_END] = run_nothing,   [KVM_STEP_SET] = run_set,
		[KVM_STEP_GET] = run_get,       [KVM_STEP_CLEAR] = run_clear,
		[KVM_STEP_MANUAL] = run_manual,
	};

	return runs[step->kind](vm, step);
}

/* ---- sequences ---- */

const char *kvm_vm_lacks(const struct kvm_vm *vm, const struct kvm_sequence *sequence)
{
	switch (sequence->need) {
	case KVM_NEEDS_TWO_SPACES:
		return vm->limits.spaces < 2 ? "needs two address spaces" : NULL;
	case KVM_NEEDS_READONLY:
		return vm->limits.readonly_mem ? NULL : "needs KVM_CAP_READONLY_MEM";
	case KVM_NEEDS_NO_READONLY:
		return vm->limits.readonly_mem ? "needs a KVM without KVM_CAP_READONLY_MEM" : NULL;
	default:
		return NULL;
	}
}

unsigned kvm_table_run(struct kvm_vm *vm, const struct kvm_sequence *sequence,
		       void (*report)(void *data, const struct kvm_step *step, int result),
		       void *report_data)
{
	unsigned wrong = 0;

	for (const struct kvm_step *step = sequence->steps; step->kind != KVM_STEP_END; step++) {
		int r = kvm_step_run(vm, step);

		if (r == step->expected)
			continue;
		wrong++;
		if (report)
			report(report_data, step, r);
	}
	return wrong;
}

/* ---- limits ---- */

static int capability(const struct kvm_vm *vm, uintptr_t cap)
{
	return vm->ioctl(vm->data, vm->fd, KVM_CHECK_EXTENSION, (void *)cap);
}

/* Whether one page can be had at this place; it is not kept. */
static bool accepts(struct kvm_vm *vm, uint64_t gpa, uint64_t hva)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = gpa,
		.memory_size = vm->limits.page_size,
		.userspace_addr = hva,
	};
	int r = vm->ioctl(vm->data, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);

	if (r < 0)
		return false;
	region.memory_size = 0;
	region.userspace_addr = 0;
	vm->ioctl(vm->data, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
	return true;
}

/* The last page that is accepted, as gpa or as hva; page 0 is. */
static uint64_t last_accepted(struct kvm_vm *vm, bool hva)
{
	uint64_t good = 0, bad = UINT64_MAX / vm->limits.page_size;

	while (bad - good > 1) {
		uint64_t middle = good + (bad - good) / 2;
		uint64_t address = middle * vm->limits.page_size;

		if (accepts(vm, hva ? 0 : address, hva ? address : 0))
			good = middle;
		else
			bad = middle;
	}
	return good;
}

int kvm_vm_probe(struct kvm_vm *vm)
{
	struct kvm_limits *limits = &vm->limits;
	int nr_memslots = capability(vm, KVM_CAP_NR_MEMSLOTS);
	int spaces = capability(vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	int readonly_mem = capability(vm, KVM_CAP_READONLY_MEM);

	if (nr_memslots < 0 || spaces < 0 || readonly_mem < 0)
		return nr_memslots < 0 ? nr_memslots : spaces < 0 ? spaces : readonly_mem;
	limits->nr_memslots = (unsigned)nr_memslots;
	limits->spaces = spaces ? (unsigned)spaces : 1;
	limits->readonly_mem = readonly_mem;
	limits->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	limits->max_gfn = last_accepted(vm, false);
	limits->hva_limit = (last_accepted(vm, true) + 1) * limits->page_size;
	return 0;
}

/* ---- random steps ---- */

/* splitmix64. */
static uint64_t next(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static unsigned below(uint64_t *seed, unsigned n)
{
	return (unsigned)(next(seed) % n);
}

static bool one_in(uint64_t *seed, unsigned n)
{
	return below(seed, n) == 0;
}

/* A place that an id has for itself, one that it may share, or one at the end of memory. */
static struct kvm_value random_gpa(uint64_t *seed, unsigned id)
{
	if (one_in(seed, 32))
		return (struct kvm_value){KVM_FROM_END, -(int64_t)below(seed, 8), 0};
	if (one_in(seed, 2))
		return (struct kvm_value){KVM_FROM_ZERO, 512 + 256 * (id % 8), 0};
	return (struct kvm_value){KVM_FROM_ZERO, INT64_C(4) * below(seed, 64), one_in(seed, 64)};
}

/*
 * An id mostly comes with the size and the memory it always has, so that a slot that exists is
 * moved and toggled more often than refused.
 */
static void random_set(uint64_t *seed, struct kvm_step *step)
{
	static const unsigned char sizes[] = {1, 2, 3, 5, 8, 64, 70, 130};
	static const uint32_t flags[] = {0, LOG, LOG, LOG, RO, RO | LOG, 0, 0};
	unsigned nature = one_in(seed, 12) ? below(seed, 8) : step->id % 8;

	step->gpa = random_gpa(seed, step->id);
	step->size = (struct kvm_value){KVM_FROM_ZERO, sizes[nature], one_in(seed, 64)};
	if (one_in(seed, 5))
		step->size = (struct kvm_value){KVM_FROM_ZERO, 0, 0};
	step->hva = (struct kvm_value){KVM_FROM_MEM, nature / 2, one_in(seed, 64)};
	if (one_in(seed, 64))
		step->hva = (struct kvm_value){KVM_FROM_LIMIT, -(int64_t)below(seed, 4), 0};
	/* Mostly the same READONLY for the same id. */
	step->flags = flags[nature == 3 ? 4 + below(seed, 2) : below(seed, 4)];
	if (one_in(seed, 24))
		step->flags = flags[below(seed, 8)];
	if (one_in(seed, 64))
		step->flags = 1u << below(seed, 32);
}

static void random_clear(uint64_t *seed, struct kvm_step *step)
{
	static const unsigned char counts[] = {1, 2, 3, 5, 8, 64, 70, 130, 0, 128, 6, 66};

	step->first_page = one_in(seed, 3) ? 64 * below(seed, 4) : 0;
	if (one_in(seed, 16))
		step->first_page++;
	step->num_pages = one_in(seed, 2) ? counts[step->id % 8] : counts[below(seed, 12)];
	step->mask = next(seed);
	step->mask |= next(seed);
	step->no_buffer = one_in(seed, 16);
}

static void random_get(uint64_t *seed, struct kvm_step *step)
{
	step->no_buffer = one_in(seed, 16);
}

static void random_manual(uint64_t *seed, struct kvm_step *step)
{
	static const uint64_t options[] = {0, 3, 1, 3, 3, 2, 4};

	step->options = options[below(seed, 7)];
	step->flags = one_in(seed, 16);
}

void kvm_step_random(uint64_t *seed, unsigned spaces, struct kvm_step *ret)
{
	static void (*const fillers[])(uint64_t * seed, struct kvm_step * step) = {
		[KVM_STEP_SET] = random_set,
		[KVM_STEP_GET] = random_get,
		[KVM_STEP_CLEAR] = random_clear,
		[KVM_STEP_MANUAL] = random_manual,
	};
	static const unsigned char kinds[] = {
		KVM_STEP_SET, KVM_STEP_SET, KVM_STEP_SET, KVM_STEP_SET,   KVM_STEP_SET,
		KVM_STEP_SET, KVM_STEP_GET, KVM_STEP_GET, KVM_STEP_CLEAR, KVM_STEP_CLEAR,
	};

	memset(ret, 0, sizeof(*ret));
	ret->kind = one_in(seed, 24) ? KVM_STEP_MANUAL : kinds[below(seed, sizeof(kinds))];
	ret->as_id = one_in(seed, 48) ? (unsigned)KVM_PAST_SPACES : below(seed, spaces);
	ret->id = one_in(seed, 48) ? KVM_LAST_ID + below(seed, 2) : below(seed, 8);
	ret->no_arg = one_in(seed, 96);
	fillers[ret->kind](seed, ret);
}

/* ---- text ---- */

static void format_value(const struct kvm_value *value, char *text, size_t size)
{
	static const char *const bases[] = {
		[KVM_FROM_ZERO] = "",
		[KVM_FROM_END] = "end+",
		[KVM_FROM_MEM] = "mem+",
		[KVM_FROM_LIMIT] = "limit+",
	};

	snprintf(text, size, "%s%lldp+%lld", bases[value->base], (long long)value->npages,
		 (long long)value->bytes);
}

void kvm_step_format(const struct kvm_step *step, char *text, size_t size)
{
	static const char *const kinds[] = {"END", "SET", "GET", "CLEAR", "MANUAL"};
	char gpa[64], bytes[64], hva[64];

	format_value(&step->gpa, gpa, sizeof(gpa));
	format_value(&step->size, bytes, sizeof(bytes));
	format_value(&step->hva, hva, sizeof(hva));
	snprintf(text, size,
		 "%s as_id=%u id=%u gpa=%s size=%s hva=%s flags=%#x first_page=%llu num_pages=%u "
		 "mask=%#llx options=%#llx%s%s",
		 kinds[step->kind], step->as_id, step->id, gpa, bytes, hva, step->flags,
		 (unsigned long long)step->first_page, step->num_pages,
		 (unsigned long long)step->mask, (unsigned long long)step->options,
		 step->no_arg ? " no argument" : "", step->no_buffer ? " no buffer" : "");
}

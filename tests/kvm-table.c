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
 * Rows only: what runs them is kvm-step.c. Read a sequence first, then kvm_step_run.
 */
#include "kvm-table.h"

#include <errno.h>
#include <linux/kvm.h>

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

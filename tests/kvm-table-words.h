/* SPDX-License-Identifier: MIT */
/*
 * The words in which the tables of kvm-table.h are written: for their files only.
 */
#ifndef KVM_TABLE_WORDS_H
#define KVM_TABLE_WORDS_H

#include "kvm-table.h"

#include "fake-kvm-uapi.h"

#include <errno.h>

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
#define MFD KVM_MEM_GUEST_MEMFD
#define CLOSED KVM_CLOSED_FD
#define OTHER KVM_OTHER_FD
#define PAST_SPACES KVM_PAST_SPACES
#define LAST_ID KVM_LAST_ID
#define PAST_IDS KVM_PAST_IDS

/* as_id, id, gpa, size, hva, flags, result */
#define SET(a, i, g, s, h, f, e) \
	{.kind = KVM_STEP_SET, .as_id = a, .id = i, .gpa = g, .size = s, .hva = h, .flags = f, \
	 .expected = e}
/* By KVM_SET_USER_MEMORY_REGION2: the same, and with what is named as guest_memfd */
#define SET2(a, i, g, s, h, f, e) \
	{.kind = KVM_STEP_SET2, .as_id = a, .id = i, .gpa = g, .size = s, .hva = h, .flags = f, \
	 .memfd = KVM_OTHER_FD, .expected = e}
#define MEMFD(i, g, s, f, d, o, e) \
	{.kind = KVM_STEP_SET2, .id = i, .gpa = g, .size = s, .hva = MEM(0), .flags = MFD | (f), \
	 .memfd = d, .memfd_offset = o, .expected = e}
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
#define QUIRKS(o, f, e) {.kind = KVM_STEP_QUIRKS, .options = o, .flags = f, .expected = e}
/* args[0], result; by the older capability; with flags */
#define RING(o, e) {.kind = KVM_STEP_RING, .options = o, .expected = e}
#define OLD_RING(o, e) {.kind = KVM_STEP_RING, .id = 1, .options = o, .expected = e}
#define FLAGS_RING(o, f, e) {.kind = KVM_STEP_RING, .options = o, .flags = f, .expected = e}
#define RESET(e) {.kind = KVM_STEP_RESET, .expected = e}
#define VCPU {.kind = KVM_STEP_VCPU, .expected = 0}
/* as_id, first page, number of pages, how many of them */
#define WRITE(a, p, n, e) \
	{.kind = KVM_STEP_WRITE, .as_id = a, .first_page = p, .num_pages = n, .expected = e}
#define READ(a, p, n, e) \
	{.kind = KVM_STEP_READ, .as_id = a, .first_page = p, .num_pages = n, .expected = e}
#define CLOCK(p) {.kind = KVM_STEP_CLOCK, .first_page = p, .expected = 0}
#define SMI {.kind = KVM_STEP_SMI, .expected = 0}
#define HARVEST(e) {.kind = KVM_STEP_HARVEST, .expected = e}
/* as_id, id, page of the slot, flags */
#define FORGE(a, i, p, f) \
	{.kind = KVM_STEP_FORGE, .as_id = a, .id = i, .first_page = p, .flags = f, .expected = 0}
/* address, length, flags, value that matches, descriptor, result */
#define EVENT(g, s, f, v, d, e) \
	{.kind = KVM_STEP_EVENT, .gpa = g, .size = BYTES(s), .flags = f, .options = v, .memfd = d, \
	 .expected = e}
/* address, size, whether of ports, result; many of them */
#define ZONE(g, s, f, e) \
	{.kind = KVM_STEP_ZONE, .gpa = g, .size = BYTES(s), .flags = f, .expected = e}
#define UNZONE(g, s, f, e) \
	{.kind = KVM_STEP_UNZONE, .gpa = g, .size = BYTES(s), .flags = f, .expected = e}
#define ZONES(g, n, f, e) \
	{.kind = KVM_STEP_ZONE, .gpa = g, .size = BYTES(4), .flags = f, .num_pages = n, \
	 .expected = e}
#define UNZONES(g, n, f, e) \
	{.kind = KVM_STEP_UNZONE, .gpa = g, .size = BYTES(4), .flags = f, .num_pages = n, \
	 .expected = e}
/* as_id, address, size, value, where it goes */
#define STORE(a, g, s, v, e) \
	{.kind = KVM_STEP_STORE, .as_id = a, .gpa = g, .size = BYTES(s), .options = v, \
	 .expected = e}
#define LOAD(a, g, s, e) \
	{.kind = KVM_STEP_LOAD, .as_id = a, .gpa = g, .size = BYTES(s), .expected = e}
#define OUT(a, g, s, v, e) \
	{.kind = KVM_STEP_OUT, .as_id = a, .gpa = g, .size = BYTES(s), .options = v, .expected = e}
#define IN(a, g, s, e) \
	{.kind = KVM_STEP_IN, .as_id = a, .gpa = g, .size = BYTES(s), .expected = e}
/* how many at most, how many */
#define DRAIN(n, e) {.kind = KVM_STEP_DRAIN, .num_pages = n, .expected = e}
#define INDICES(f, l) {.kind = KVM_STEP_INDICES, .first_page = f, .num_pages = l, .expected = 0}
/* id, size, flags, result */
#define NEW_MEMFD(i, s, f, e) \
	{.kind = KVM_STEP_MEMFD, .id = i, .size = s, .options = f, .expected = e}
/* address, size, attributes, flags, result */
#define ATTRIBUTES(g, s, o, f, e) \
	{.kind = KVM_STEP_ATTRIBUTES, .gpa = g, .size = s, .options = o, .flags = f, .expected = e}
#define PEEK(d, o, e) \
	{.kind = KVM_STEP_PEEK, .memfd = d, .memfd_offset = o, .expected = e}
#define NO_ARG(k) {.kind = k, .no_arg = true, .expected = -EFAULT}

#define BITS KVM_BITS
#define ENTRY KVM_ENTRY
#define SAVE KVM_TABLE_SAVE
#define TAKEN KVM_DIRTY_GFN_F_RESET
#define ALL UINT64_MAX
#define OFF 0
#define ZAP_ALL KVM_X86_QUIRK_SLOT_ZAP_ALL
#define PROTECT KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
#define INITSET (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)

#define STEPS(...) (const struct kvm_step[]){__VA_ARGS__, {.kind = KVM_STEP_END}}
/* NOLINTEND(bugprone-macro-parentheses) */

#endif

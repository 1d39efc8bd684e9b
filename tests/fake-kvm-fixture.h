/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the double of KVM stand on: a double that is validated at the end, its ioctls
 * and its guest's accesses in one line each, in pages. Tests of the library's KVM half stand on
 * kvm-fixture.h instead, never on both; sequences of steps are in kvm-table.h.
 *
 * Results are those of fake-kvm.h: 0 or a positive count, or a negative errno.
 */
#ifndef FAKE_KVM_FIXTURE_H
#define FAKE_KVM_FIXTURE_H

#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake-kvm.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define RO KVM_MEM_READONLY
#define KVM_TEST(test) cmocka_unit_test_setup_teardown(test, make_kvm, free_kvm)

/* In a slot's number. */
enum { SPACE_1 = 1 << 16, SPACE_2 = 2 << 16 };

/* Setup and teardown: the state is a double with the default config. */
int make_kvm(void **state);
int free_kvm(void **state);

uint64_t pages(uint64_t n);

int call(struct fake_kvm *kvm, unsigned long request, void *arg);
int check(struct fake_kvm *kvm, uintptr_t cap);
/* A slot in pages, whose number is as KVM has it; its memory begins at 1 GiB whatever the slot. */
int set(struct fake_kvm *kvm, uint32_t slot, uint64_t gfn, uint64_t npages, uint32_t flags);
/* The dirty log of a slot of up to 64 pages. */
int get(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint64_t *bits);
int clear(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint32_t num_pages, uint64_t bits);
int set_manual(struct fake_kvm *kvm, uint64_t options);
/* KVM_ENABLE_CAP of KVM_CAP_DIRTY_LOG_RING_ACQ_REL; KVM_RESET_DIRTY_RINGS. */
int set_ring(struct fake_kvm *kvm, uint64_t size);
int reset_rings(struct fake_kvm *kvm);

int write_page(struct fake_kvm *kvm, unsigned as_id, uint64_t gfn);
int read_page(struct fake_kvm *kvm, unsigned as_id, uint64_t gfn);

/* One page, written by a vCPU. */
int store(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gfn);
/* What a vCPU's ring has from an entry on, up to the first that is not dirty: "slot:page " for
 * each, the slot in hex. It is harvested. */
void assert_harvest(struct fake_kvm_vcpu *vcpu, uint32_t from, const char *expected);

void assert_valid(const struct fake_kvm *kvm);
/* What a get gives is this; where protection is automatic, that clears it. */
void assert_log(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint64_t expected);

#endif

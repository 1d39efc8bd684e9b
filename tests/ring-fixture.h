/* SPDX-License-Identifier: MIT */
/*
 * A machine that logs by dirty rings, of which the kernel keeps 64 entries to itself: RAM at 0 in
 * both spaces, its second half first in SMM, is logged; a second region, in the normal space behind
 * it, is not. There are two vCPUs.
 */
#ifndef RING_FIXTURE_H
#define RING_FIXTURE_H

#include "kvm-guest.h"

#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, ring_setup, machine_teardown)
/* For those after which the double's ring is not what KVM left there. */
#define FORGED_TEST(name) cmocka_unit_test_setup_teardown(name, ring_setup, ring_drop)

enum { NPAGES = 1024 };

int ring_setup(void **state);
int ring_drop(void **state);

struct kvmas_region *ring_ram(const struct machine *m);
struct fake_kvm_vcpu *cpu_of(const struct machine *m, unsigned i);
/* A vCPU writes a page: its ring must have room. */
void store(struct machine *m, unsigned cpu, unsigned as_id, uint64_t gfn);
int sync_ram(struct machine *m);
/* As assert_taken, of the one client. */
void assert_found(struct machine *m, const char *expected);

#endif

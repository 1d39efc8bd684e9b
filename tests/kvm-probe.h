/* SPDX-License-Identifier: MIT */
/*
 * Which slots a VM has, found out by asking: no ioctl lists them. Two VMs that are to have the same
 * are asked the same, and must answer the same.
 *
 *   where    a new slot with a spare id is refused with EEXIST exactly where a page of it is taken;
 *            one that is not refused is taken back at once. By halves, down to single pages.
 *   LOG      KVM_GET_DIRTY_LOG, whose bits are compared too; in automatic mode they are cleared
 *   the rest once both are taken at the same pages, a call with the arguments that a slot has in
 *            the one succeeds in the other if and only if it has the same slot: another hva, size
 *            or READONLY is EINVAL; with another gpa, or another id at that place, it would be a
 *            CREATE or MOVE onto pages that are taken. A slot with a guest_memfd is refused.
 *
 * Costs some hundred calls for each space. Prints nothing and depends on no test framework.
 */
#ifndef KVM_PROBE_H
#define KVM_PROBE_H

#include "fake-kvm.h"
#include "kvm-table.h"

/* Slots are looked for in so many pages from 0 on, and in as many up to the last gfn. */
enum { KVM_PROBE_PAGES = 4096 };

/*
 * Whether a double and another VM (NULL: the double alone) have the same slots, and the double
 * those that it shows to fake_kvm_find. NULL if so, else what differs. There must be no slot
 * outside of the pages that are looked at, nor one with the id before the last. The double's
 * counters and list of calls are as before.
 */
const char *kvm_probe_compare(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other);

#endif

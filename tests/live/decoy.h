/* SPDX-License-Identifier: MIT */
/*
 * A dirty ring that stands between the kernel's and the library: what the kernel has put into the
 * one is seen in the other when a test says so, and not before. For a control: a commit that finds
 * nothing in the rings.
 */
#ifndef LIVE_DECOY_H
#define LIVE_DECOY_H

#include "guest.h"

/* Before the vCPU is tied: the library is given another ring, which ends with the vCPU. */
void decoy_put(struct vcpu *vcpu);

/* Show what is in the kernel's ring by now. One thread at a time. */
void decoy_show(struct vcpu *vcpu);

/* Before KVM_RESET_DIRTY_RINGS: what was harvested here is harvested there. */
void decoy_pass_on(struct vcpu *vcpu);

#endif

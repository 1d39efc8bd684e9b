/* SPDX-License-Identifier: MIT */
/* Private memory of a VM: see private.c. */
#ifndef KAS_PRIVATE_H
#define KAS_PRIVATE_H

#include "vcpu.h"

/* Find out what this KVM has of it: what KVM says. */
int kas_private_init(struct kvmas_kvm *kvm);

/* KVM_RUN, of which KVM_EXIT_MEMORY_FAULT is no failure. */
int kas_private_run(struct kvmas_vcpu *vcpu);

/* Answer KVM_EXIT_MEMORY_FAULT: as kvmas_vcpu_handle_exit. */
int kas_private_handle_fault(struct kvmas_vcpu *vcpu);

#endif

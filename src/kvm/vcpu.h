/* SPDX-License-Identifier: MIT */
/* vCPUs of the caller's: see vcpu.c. */
#ifndef KAS_VCPU_H
#define KAS_VCPU_H

#include "vm.h"

struct kvmas_vcpu {
	struct kvmas_kvm *kvm; /* held */
	struct kvmas_vcpu_config config;
	struct pass pass;
	struct ring ring; /* with KVMAS_KVM_LOG_RING */
};

#endif

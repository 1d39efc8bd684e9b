/* SPDX-License-Identifier: MIT */
/* vCPUs of the caller's: see vcpu.c. */
#ifndef KAS_VCPU_H
#define KAS_VCPU_H

#include "reader.h"
#include "vm.h"

/* Some members of kvmas_kvm_stats, for one vCPU: written by its thread alone. */
enum vcpu_count {
	COUNT_MMIO_EXITS,
	COUNT_PIO_EXITS,
	COUNT_UNASSIGNED,
	COUNT_REFUSED,
	COUNT_EVENTS,
	NCOUNTS,
};

struct kvmas_vcpu {
	struct kvmas_kvm *kvm; /* held */
	struct kvmas_vcpu_config config;
	struct pass pass;
	struct ring ring; /* with KVMAS_KVM_LOG_RING */
	struct coalesced_ring coalesced;
	LIST_ENTRY(kvmas_vcpu) all;
	_Atomic(uint64_t) counts[NCOUNTS];
	struct kvmas_reader reader;
};

static inline void kas_vcpu_count(struct kvmas_vcpu *vcpu, enum vcpu_count what, unsigned n)
{
	uint64_t count = atomic_load_explicit(&vcpu->counts[what], memory_order_relaxed);

	atomic_store_explicit(&vcpu->counts[what], count + n, memory_order_relaxed);
}

#endif

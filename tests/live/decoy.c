/* SPDX-License-Identifier: MIT */
/*
 * Entries keep their index, so that both rings go round alike (api.rst, KVM_CAP_DIRTY_LOG_RING):
 *
 *     kernel's   dirty ---show---> dirty   shown
 *                reset <-pass on-- reset
 */
#include "decoy.h"

#include <sys/mman.h>

static size_t count_entries(const struct vcpu *vcpu)
{
	return vcpu->guest->ring_size / sizeof(struct kvm_dirty_gfn);
}

void decoy_put(struct vcpu *vcpu)
{
	vcpu->shown_ring = mmap(NULL, vcpu->guest->ring_size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(vcpu->shown_ring, MAP_FAILED);
}

/* In the kernel's order, so that no entry is seen before one that came before it: the reset stops
 * at what was not harvested. */
void decoy_show(struct vcpu *vcpu)
{
	struct kvm_dirty_gfn *from = vcpu->ring, *to = vcpu->shown_ring;
	size_t count = count_entries(vcpu);

	for (size_t n = 0; n < count; n++) {
		size_t i = vcpu->shown_next;

		if (__atomic_load_n(&from[i].flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY ||
		    __atomic_load_n(&to[i].flags, __ATOMIC_ACQUIRE))
			break;
		to[i].slot = from[i].slot;
		to[i].offset = from[i].offset;
		__atomic_store_n(&to[i].flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
		vcpu->shown_next = (i + 1) % count;
	}
}

void decoy_pass_on(struct vcpu *vcpu)
{
	struct kvm_dirty_gfn *from = vcpu->shown_ring, *to = vcpu->ring;

	for (size_t i = 0; i < count_entries(vcpu); i++) {
		uint32_t flags = __atomic_load_n(&from[i].flags, __ATOMIC_ACQUIRE);

		if (!(flags & KVM_DIRTY_GFN_F_RESET))
			continue;
		__atomic_store_n(&from[i].flags, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&to[i].flags, flags, __ATOMIC_RELEASE);
	}
}

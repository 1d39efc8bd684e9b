/* SPDX-License-Identifier: MIT */
/*
 * KVM exits answered: MMIO in the space bound to the address space that the vCPU was in, ports in
 * the PIO space. kvm_run is memory that the kernel wrote; what it says is checked all the same,
 * before it is used as a length or an offset.
 */
#include <errno.h>
#include <string.h>

#include "dispatch.h"
#include "kvm/binding.h"
#include "kvm/vcpu.h"

static void count_unanswered(struct kvmas_kvm *kvm, unsigned count)
{
	if (count)
		kas_kvm_count(kvm, unassigned, count);
}

static int handle_mmio(struct kvmas_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->config.run;
	unsigned as_id = kas_kvm_exit_as_id(run);
	struct dispatch dispatch = {
		.requester = vcpu->config.requester,
		.smm = as_id == 1,
		.write = run->mmio.is_write,
	};
	unsigned size = run->mmio.len;

	if (size == 0 || size > sizeof(run->mmio.data))
		return -EINVAL;
	kas_kvm_count(vcpu->kvm, mmio_exits, 1);
	dispatch.space = kas_kvm_get_answering(vcpu->kvm, as_id);
	if (!dispatch.space) {
		if (!dispatch.write)
			memset(run->mmio.data, 0xff, size);
		count_unanswered(vcpu->kvm, 1);
		return 1;
	}
	count_unanswered(vcpu->kvm,
			 kas_dispatch(&dispatch, run->mmio.phys_addr, run->mmio.data, size));
	kas_object_unref(&dispatch.space->object);
	return 1;
}

/* `count` accesses of `size` bytes to one port (rep ins, rep outs). */
static int handle_pio(struct kvmas_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->config.run;
	uint64_t total = (uint64_t)run->io.size * run->io.count;
	unsigned char *bytes;
	struct dispatch dispatch = {
		.requester = vcpu->config.requester,
		.smm = kas_kvm_exit_as_id(run) == 1,
		.write = run->io.direction == KVM_EXIT_IO_OUT,
	};

	if (run->io.size == 0 || run->io.data_offset > vcpu->config.run_size ||
	    total > vcpu->config.run_size - run->io.data_offset)
		return -EINVAL;
	bytes = (unsigned char *)run + run->io.data_offset;
	kas_kvm_count(vcpu->kvm, pio_exits, 1);
	dispatch.space = kas_kvm_get_answering(vcpu->kvm, KAS_KVM_PIO);
	if (!dispatch.space) {
		if (!dispatch.write)
			memset(bytes, 0xff, total);
		count_unanswered(vcpu->kvm, run->io.count);
		return 1;
	}
	for (; total; total -= run->io.size, bytes += run->io.size)
		count_unanswered(vcpu->kvm,
				 kas_dispatch(&dispatch, run->io.port, bytes, run->io.size));
	kas_object_unref(&dispatch.space->object);
	return 1;
}

static int handle_ring_full(struct kvmas_vcpu *vcpu)
{
	struct kvmas_kvm *kvm = vcpu->kvm;
	int err;

	if (!kvm->rings.entries)
		return 0;
	kas_kvm_count(kvm, ring_full, 1);
	err = kas_ring_empty(kvm, &vcpu->ring);
	return err ? err : 1;
}

int kvmas_vcpu_handle_exit(struct kvmas_vcpu *vcpu)
{
	if (!kas_alive(vcpu->kvm->object.kvmas))
		return -EIO;
	switch (vcpu->config.run->exit_reason) {
	case KVM_EXIT_MMIO:
		return handle_mmio(vcpu);
	case KVM_EXIT_IO:
		return handle_pio(vcpu);
	case KVM_EXIT_DIRTY_RING_FULL:
		return handle_ring_full(vcpu);
	default:
		return 0;
	}
}

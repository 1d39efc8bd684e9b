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
#include "kvm/private.h"
#include "kvm/vcpu.h"

/* What a vCPU waits for: *count* accesses of *size* bytes to one address. */
struct wanted {
	unsigned as_id; /* or KAS_KVM_PIO */
	bool write;
	uint64_t address;
	unsigned char *bytes; /* of all of them, one after the other */
	unsigned size;
	unsigned count;
};

/* No space is bound. That is not traced: there is no space to speak of. */
static void answer_nothing(struct kvmas_vcpu *vcpu, const struct wanted *wanted)
{
	if (!wanted->write)
		memset(wanted->bytes, kas_unassigned_byte(vcpu->kvm->object.kvmas),
		       (size_t)wanted->size * wanted->count);
	kas_vcpu_count(vcpu, COUNT_UNASSIGNED, wanted->count);
}

/* Each access sees the map of its own moment, all of them the same space. */
static void answer(struct kvmas_vcpu *vcpu, const struct wanted *wanted)
{
	struct dispatch dispatch = {
		.reader = &vcpu->reader,
		.space = kas_kvm_pin_answering(vcpu->kvm, &vcpu->reader, wanted->as_id),
		.requester = vcpu->config.requester,
		.smm = kas_kvm_exit_as_id(vcpu->config.run) == 1,
		.write = wanted->write,
		.whole = true,
	};

	if (!dispatch.space) {
		answer_nothing(vcpu, wanted);
		return;
	}
	for (unsigned i = 0; i < wanted->count; i++)
		kas_dispatch(&dispatch, wanted->address, wanted->bytes + (size_t)i * wanted->size,
			     wanted->size, NULL);
	kas_vcpu_count(vcpu, COUNT_UNASSIGNED, dispatch.unassigned);
	kas_vcpu_count(vcpu, COUNT_REFUSED, dispatch.refused);
	kas_vcpu_count(vcpu, COUNT_EVENTS, dispatch.events);
	kas_kvm_unpin_answering(&vcpu->reader, dispatch.space);
}

static int handle_mmio(struct kvmas_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->config.run;
	struct wanted wanted = {
		.as_id = kas_kvm_exit_as_id(run),
		.write = run->mmio.is_write,
		.address = run->mmio.phys_addr,
		.bytes = run->mmio.data,
		.size = run->mmio.len,
		.count = 1,
	};

	if (wanted.size == 0 || wanted.size > sizeof(run->mmio.data))
		return -EINVAL;
	kas_vcpu_count(vcpu, COUNT_MMIO_EXITS, 1);
	answer(vcpu, &wanted);
	return 1;
}

/* `count` accesses of `size` bytes to one port (rep ins, rep outs). The data lie inside of what is
 * mapped, a few pages: that bounds their number. */
static int handle_pio(struct kvmas_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->config.run;
	uint64_t run_size = vcpu->config.run_size;
	uint64_t data_offset = run->io.data_offset;
	struct wanted wanted = {
		.as_id = KAS_KVM_PIO,
		.write = run->io.direction == KVM_EXIT_IO_OUT,
		.address = run->io.port,
		.size = run->io.size,
		.count = run->io.count,
	};

	if (wanted.size == 0 || data_offset > run_size ||
	    (uint64_t)wanted.size * wanted.count > run_size - data_offset)
		return -EINVAL;
	wanted.bytes = (unsigned char *)run + data_offset;
	kas_vcpu_count(vcpu, COUNT_PIO_EXITS, 1);
	answer(vcpu, &wanted);
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
	int err = 0;

	if (!kas_alive(vcpu->kvm->object.kvmas))
		return -EIO;
	/* Whatever the exit is, but for one that has nothing to do with devices: what it leads to
	 * may look at them. */
	if (vcpu->config.run->exit_reason != KVM_EXIT_DIRTY_RING_FULL &&
	    kas_coalesced_waits(vcpu->kvm, &vcpu->coalesced)) {
		kas_coalesced_drain(vcpu->kvm, &vcpu->reader);
		err = kas_coalesced_check(vcpu->kvm);
	}
	if (err)
		return err;
	switch (vcpu->config.run->exit_reason) {
	case KVM_EXIT_MMIO:
		return handle_mmio(vcpu);
	case KVM_EXIT_IO:
		return handle_pio(vcpu);
	case KVM_EXIT_DIRTY_RING_FULL:
		return handle_ring_full(vcpu);
	case KVM_EXIT_MEMORY_FAULT:
		return kas_private_handle_fault(vcpu);
	default:
		return 0;
	}
}

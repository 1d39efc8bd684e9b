/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: a guest's accesses by bytes, as they go through a vCPU: to memory, to the
 * buses, or out to user space (arch/x86/kvm/x86.c: emulator_read_write_onepage, vcpu_mmio_write,
 * emulator_pio_in_out). Which pages an access marks is in fake-kvm-dirty.c, what is on the buses in
 * fake-kvm-bus.c.
 *
 * Read transfer_bytes first.
 */
#include "fake-kvm-inner.h"
#include "fake-kvm-uapi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* On its way; bytes are read from, or written to. */
struct transfer {
	unsigned as_id;
	uint64_t addr;
	unsigned size;
	bool writes;
	bool pio;
	void *bytes;
};

/* ---- exits ---- */

static void begin_exit(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer, uint32_t reason)
{
	vcpu->run->exit_reason = reason;
	vcpu->run->flags = 0;
#ifdef KVM_RUN_X86_SMM
	if (transfer->as_id == 1)
		vcpu->run->flags |= KVM_RUN_X86_SMM;
#endif
}

static void exit_mmio(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer)
{
	struct kvm_run *run = vcpu->run;

	begin_exit(vcpu, transfer, KVM_EXIT_MMIO);
	memset(&run->mmio, 0, sizeof(run->mmio));
	run->mmio.phys_addr = transfer->addr;
	run->mmio.len = transfer->size;
	run->mmio.is_write = transfer->writes;
	if (transfer->writes)
		memcpy(run->mmio.data, transfer->bytes, transfer->size);
}

/* kvm_prepare_memory_fault_exit: the page, and what it would have to be. */
static void exit_memory_fault(struct fake_kvm_vcpu *vcpu, uint64_t gpa, bool private)
{
	uint64_t page_size = vcpu->kvm->page_size;
	const struct fake_kvm_memory_fault fault = {
		.flags = private ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0,
		.gpa = gpa / page_size * page_size,
		.size = page_size,
	};

	vcpu->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
	vcpu->run->flags = 0;
	memcpy(&vcpu->run->hw, &fault, sizeof(fault));
}

static void exit_io(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer)
{
	struct kvm_run *run = vcpu->run;
	uint64_t offset = FAKE_KVM_PIO_PAGE * vcpu->kvm->page_size;

	begin_exit(vcpu, transfer, KVM_EXIT_IO);
	memset(&run->io, 0, sizeof(run->io));
	run->io.direction = transfer->writes ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = (uint8_t)transfer->size;
	run->io.port = (uint16_t)transfer->addr;
	run->io.count = 1;
	run->io.data_offset = offset;
	if (transfer->writes)
		memcpy((char *)run + offset, transfer->bytes, transfer->size);
}

/* ---- the way of an access ---- */

static bool is_taken_by_bus(struct fake_kvm *kvm, const struct transfer *transfer)
{
	const struct fake_kvm_write write = {
		.addr = transfer->addr,
		.len = transfer->size,
		.bytes = transfer->bytes,
	};

	return fake_kvm_bus_takes(kvm, transfer->pio ? FAKE_KVM_PIO_BUS : FAKE_KVM_MMIO_BUS,
				  &write);
}

/* 0: on a bus; 1: an exit. Nothing on a bus here answers a load. */
static int leave_memory(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer)
{
	if (transfer->writes && is_taken_by_bus(vcpu->kvm, transfer))
		return 0;
	if (transfer->pio)
		exit_io(vcpu, transfer);
	else
		exit_mmio(vcpu, transfer);
	return 1;
}

static void access_file(const struct fake_kvm_gmem *gmem, uint64_t offset,
			const struct transfer *transfer)
{
	ssize_t n = transfer->writes
			    ? pwrite(gmem->fd, transfer->bytes, transfer->size, (off_t)offset)
			    : pread(gmem->fd, transfer->bytes, transfer->size, (off_t)offset);

	if (n != (ssize_t)transfer->size)
		abort();
}

/* What is private has no memory but a file, and is never a device (kvm_handle_noslot_fault). */
static bool lacks_private_memory(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot,
				 uint64_t gpa)
{
	return (!slot || !slot->gmem) && fake_kvm_attributes(kvm, gpa);
}

/* 0 if it was memory, and is done; 1 if that cannot be. */
static int access_memory(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer)
{
	const struct fake_kvm_slot *slot =
		fake_kvm_find(vcpu->kvm, transfer->as_id, transfer->addr);
	const struct fake_kvm_gmem *gmem;
	void *memory;
	int r;

	if (lacks_private_memory(vcpu->kvm, slot, transfer->addr)) {
		exit_memory_fault(vcpu, transfer->addr, true);
		return 1;
	}
	r = fake_kvm_touch(vcpu, transfer->as_id, transfer->addr, transfer->size, transfer->writes);
	if (r == 1)
		begin_exit(vcpu, transfer, KVM_EXIT_DIRTY_RING_FULL);
	if (r != 0)
		return r;
	gmem = fake_kvm_gmem_at(vcpu->kvm, slot, transfer->addr);
	memory = fake_kvm_hva(vcpu->kvm, transfer->as_id, transfer->addr);
	if (gmem)
		access_file(gmem, transfer->addr - slot->gpa + slot->gmem_offset, transfer);
	else if (transfer->writes)
		memcpy(memory, transfer->bytes, transfer->size);
	else
		memcpy(transfer->bytes, memory, transfer->size);
	return 0;
}

static int access_anything(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer)
{
	int r = transfer->pio ? -EFAULT : access_memory(vcpu, transfer);

	return r < 0 ? leave_memory(vcpu, transfer) : r;
}

/* Slots do not change under an access, nor do buses (kvm->srcu). */
static int transfer_bytes(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer)
{
	struct fake_kvm *kvm = vcpu->kvm;
	uint64_t last = transfer->addr + (transfer->size - 1);
	int r;

	if (transfer->as_id >= kvm->config.spaces || transfer->size - 1 > 7 ||
	    transfer->addr / kvm->page_size != last / kvm->page_size)
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	r = access_anything(vcpu, transfer);
	pthread_mutex_unlock(&kvm->lock);
	return r;
}

int fake_kvm_vcpu_store(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, const void *bytes,
			unsigned size)
{
	const struct transfer transfer = {.as_id = as_id,
					  .addr = gpa,
					  .size = size,
					  .writes = true,
					  .bytes = (void *)(uintptr_t)bytes};

	return transfer_bytes(vcpu, &transfer);
}

int fake_kvm_vcpu_load(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, void *bytes,
		       unsigned size)
{
	const struct transfer transfer = {
		.as_id = as_id, .addr = gpa, .size = size, .bytes = bytes};

	return transfer_bytes(vcpu, &transfer);
}

static int access_port(struct fake_kvm_vcpu *vcpu, const struct transfer *transfer)
{
	unsigned size = transfer->size;

	if (size != 1 && size != 2 && size != 4)
		return -EINVAL;
	return transfer_bytes(vcpu, transfer);
}

int fake_kvm_vcpu_out(struct fake_kvm_vcpu *vcpu, uint16_t port, const void *bytes, unsigned size)
{
	const struct transfer transfer = {.as_id = vcpu->as_id,
					  .addr = port,
					  .size = size,
					  .writes = true,
					  .pio = true,
					  .bytes = (void *)(uintptr_t)bytes};

	return access_port(vcpu, &transfer);
}

int fake_kvm_vcpu_in(struct fake_kvm_vcpu *vcpu, uint16_t port, unsigned size)
{
	const struct transfer transfer = {
		.as_id = vcpu->as_id, .addr = port, .size = size, .pio = true};

	return access_port(vcpu, &transfer);
}

int fake_kvm_vcpu_fault(struct fake_kvm_vcpu *vcpu, uint64_t gpa, bool private)
{
	struct fake_kvm *kvm = vcpu->kvm;
	const struct fake_kvm_slot *slot;
	bool wrong;

	pthread_mutex_lock(&kvm->lock);
	slot = fake_kvm_find(kvm, 0, gpa);
	wrong = private != !!fake_kvm_attributes(kvm, gpa) || lacks_private_memory(kvm, slot, gpa);
	if (wrong)
		exit_memory_fault(vcpu, gpa, private);
	pthread_mutex_unlock(&kvm->lock);
	return wrong;
}

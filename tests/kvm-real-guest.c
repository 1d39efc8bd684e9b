/* SPDX-License-Identifier: MIT */
/*
 * See kvm-real-guest.h. The vCPU has no program that goes on: its registers are set before each
 * access, and it says with an OUT that it has done it. It gets from one space to the other because
 * user space says so (KVM_SET_VCPU_EVENTS: nothing is saved or loaded), and by an SMI where what
 * that saves is to be seen.
 *
 *     code page    0      OUT HANDLER    where an SMI leads: SMBASE is 8 pages below
 *                  STORE  MOV [EBX], AL; OUT DONE
 *                  LOAD   MOV AL, [EBX]; OUT DONE
 *                  REST   OUT DONE
 *                  TRANSFERS + 16 * n    the same of any size: by EAX, or for 8 bytes by MM0,
 *                         with memory or the port in DX
 *                  DATA   8 bytes for MM0
 *
 * Read real_access first, then real_transfer.
 */
#include "kvm-real-guest.h"

#include <errno.h>

#ifndef __x86_64__

const struct kvm_guest kvm_real_guest;

int kvm_guest_init(int system_fd)
{
	(void)system_fd;
	return -EOPNOTSUPP;
}

#else

#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STORE = 0x100, LOAD = 0x200, REST = 0x300, TRANSFERS = 0x400, DATA = 0x800 };
enum { DONE = 0x10, HANDLER = 0x11 };
enum { MSR_SMBASE = 0x9e, MSR_SYSTEM_TIME_NEW = 0x4b564d01 };

#define PAGE UINT64_C(4096)
#define CODE (KVM_TABLE_CODE * PAGE)
#define MEMORY (UINT64_C(1) << 30)

struct vcpu {
	int fd;
	struct kvm_run *run;
	size_t run_size;
	unsigned as_id;
};

static int kvm_fd = -1;

static int checked(int result)
{
	return result < 0 ? -errno : result;
}

/* ---- memory ---- */

/* By [pio][writes][log2 of the size]: OUT DONE follows each. */
static const unsigned char transfers[2][2][4][10] = {
	{{{0x8a, 0x03}, {0x66, 0x8b, 0x03}, {0x8b, 0x03}, {0x0f, 0x6f, 0x03}},
	 {{0x88, 0x03}, {0x66, 0x89, 0x03}, {0x89, 0x03}, {0x0f, 0x6f, 0x06, 0x0f, 0x7f, 0x03}}},
	{{{0xec}, {0x66, 0xed}, {0xed}}, {{0xee}, {0x66, 0xef}, {0xef}}},
};

static unsigned place_of(bool pio, bool writes, unsigned size)
{
	return TRANSFERS + 16 * (pio * 8u + writes * 4u + (unsigned)__builtin_ctz(size));
}

static void write_transfers(unsigned char *page)
{
	for (unsigned i = 0; i < 16; i++) {
		const unsigned char *code = transfers[i / 8][i / 4 % 2][i % 4];
		unsigned char *to = page + place_of(i / 8, i / 4 % 2, 1u << i % 4);
		unsigned n = 0;

		for (; n < sizeof(transfers[0][0][0]) && code[n]; n++)
			to[n] = code[n];
		to[n] = 0xe6;
		to[n + 1] = DONE;
	}
}

static void write_code(unsigned char *page)
{
	static const struct {
		unsigned at;
		unsigned char bytes[4];
	} pieces[] = {
		{0, {0xe6, HANDLER}},
		{STORE, {0x88, 0x03, 0xe6, DONE}},
		{LOAD, {0x8a, 0x03, 0xe6, DONE}},
		{REST, {0xe6, DONE}},
	};

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		memcpy(page + pieces[i].at, pieces[i].bytes, sizeof(pieces[i].bytes));
	write_transfers(page);
}

int kvm_guest_init(int system_fd)
{
	const size_t size = KVM_TABLE_PAGES * PAGE;
	unsigned char *memory = mmap((void *)MEMORY, size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (memory == MAP_FAILED)
		return -errno;
	/* KVM is to find each page writable, also after a fork. */
	madvise(memory, size, MADV_NOHUGEPAGE);
	madvise(memory, size, MADV_DONTFORK);
	memset(memory, 1, size);
	mlock(memory, size);
	write_code(memory + (KVM_TABLE_PAGES - 1) * PAGE);
	kvm_fd = system_fd;
	return 0;
}

/* ---- the vCPU ---- */

static int set_flat_state(const struct vcpu *vcpu)
{
	struct kvm_segment code = {.limit = UINT32_MAX,
				   .selector = 8,
				   .type = 11,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment data = code;
	struct kvm_sregs sregs;

	data.selector = 16;
	data.type = 3;
	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 |= 1;
	return checked(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs));
}

static int set_msr(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));
	int r;

	if (!msrs)
		abort();
	msrs->nmsrs = 1;
	msrs->entries[0].index = index;
	msrs->entries[0].data = value;
	r = checked(ioctl(vcpu->fd, KVM_SET_MSRS, msrs));
	free(msrs);
	return r == 1 ? 0 : r < 0 ? r : -EINVAL;
}

static int map_ring(struct kvm_vm *vm, const struct vcpu *vcpu)
{
	void *ring;

	if (!vm->ring_size)
		return 0;
	ring = mmap(NULL, vm->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
		    (off_t)(KVM_DIRTY_LOG_PAGE_OFFSET * PAGE));
	if (ring == MAP_FAILED)
		return -errno;
	vm->ring = ring;
	vm->next = 0;
	return 0;
}

static int map_run(struct kvm_vm *vm, struct vcpu *vcpu)
{
	void *run;

	vcpu->run_size = (size_t)ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return -errno;
	vcpu->run = run;
	vm->coalesced = (void *)((char *)run + KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE);
	return 0;
}

static int real_make(struct kvm_vm *vm)
{
	int fd = ioctl(vm->fd, KVM_CREATE_VCPU, 0), r;
	struct vcpu *vcpu;

	if (fd < 0)
		return -errno;
	vcpu = calloc(1, sizeof(*vcpu));
	if (!vcpu)
		abort();
	vcpu->fd = fd;
	vm->vcpu = vcpu;
	r = map_run(vm, vcpu);
	if (r == 0)
		r = map_ring(vm, vcpu);
	if (r == 0)
		r = set_flat_state(vcpu);
	if (r == 0 && vm->limits.spaces > 1)
		r = set_msr(vcpu, MSR_SMBASE, CODE - 8 * PAGE);
	return r;
}

static void real_end(struct kvm_vm *vm)
{
	struct vcpu *vcpu = vm->vcpu;

	if (!vcpu)
		return;
	if (vm->ring)
		munmap(vm->ring, vm->ring_size);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	close(vcpu->fd);
	free(vcpu);
	vm->vcpu = NULL;
	vm->ring = NULL;
	vm->coalesced = NULL;
}

/* ---- what it does ---- */

static int enter_space(struct vcpu *vcpu, unsigned as_id)
{
	struct kvm_vcpu_events events;

	if (as_id == vcpu->as_id)
		return 0;
	if (ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events))
		return -errno;
	events.flags = KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = (uint8_t)as_id;
	events.smi.pending = 0;
	vcpu->as_id = as_id;
	return checked(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
}

/* Entries of the ring that are dirty, or harvested and not reset. */
static uint32_t used_entries(const struct kvm_vm *vm)
{
	uint32_t count = 0;

	for (uint32_t i = 0; vm->ring && i < vm->ring_size / sizeof(*vm->ring); i++)
		count += vm->ring[i].flags != 0;
	return count;
}

/* The port at which it is done; 0 for memory that is none, KVM_EXIT_DIRTY_RING_FULL + 0x100. */
static int run(const struct vcpu *vcpu)
{
	int r, port;

	do
		r = checked(ioctl(vcpu->fd, KVM_RUN, 0));
	while (r == -EINTR);
	if (r < 0)
		return r;
	if (vcpu->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL)
		return 0x100 + KVM_EXIT_DIRTY_RING_FULL;
	port = vcpu->run->exit_reason == KVM_EXIT_IO ? vcpu->run->io.port : 0;
	if (!port && vcpu->run->exit_reason != KVM_EXIT_MMIO)
		return -EIO;
	/* Have KVM finish the instruction, and go no further. */
	vcpu->run->immediate_exit = 1;
	r = checked(ioctl(vcpu->fd, KVM_RUN, 0));
	vcpu->run->immediate_exit = 0;
	return r == -EINTR ? port : -EPROTO;
}

static int run_at(const struct vcpu *vcpu, uint64_t rip, uint64_t rbx)
{
	struct kvm_regs regs = {.rip = CODE + rip, .rbx = rbx, .rax = 'w', .rflags = 2};
	int r = checked(ioctl(vcpu->fd, KVM_SET_REGS, &regs));

	return r < 0 ? r : run(vcpu);
}

/*
 * A page that fills the ring is pushed before it is written, and the vCPU does not come to write
 * it: it would as soon as there is room.
 */
static int real_access(struct kvm_vm *vm, bool writes, unsigned as_id, uint64_t gpa)
{
	struct vcpu *vcpu = vm->vcpu;
	uint32_t used = used_entries(vm);
	int r = enter_space(vcpu, as_id);

	if (r == 0)
		r = run_at(vcpu, writes ? STORE : LOAD, gpa);
	if (r == 0x100 + KVM_EXIT_DIRTY_RING_FULL)
		return used_entries(vm) == used;
	if (r == 0)
		return -EFAULT;
	return r == DONE ? 0 : r < 0 ? r : -EPROTO;
}

static void note_exit(struct kvm_run *run, struct kvm_transfer *transfer)
{
	bool pio = run->exit_reason == KVM_EXIT_IO;
	char *data = pio ? (char *)run + run->io.data_offset : (char *)run->mmio.data;
	struct kvm_seen_exit *seen = &transfer->exit;

	transfer->nexits++;
	*seen = (struct kvm_seen_exit){
		.pio = pio,
		.smm = run->flags & KVM_RUN_X86_SMM,
		.writes = pio ? run->io.direction == KVM_EXIT_IO_OUT : run->mmio.is_write,
		.addr = pio ? run->io.port : run->mmio.phys_addr,
		.size = pio ? run->io.size : run->mmio.len,
	};
	if (seen->size <= sizeof(seen->value))
		memcpy(seen->writes ? (char *)&seen->value : data,
		       seen->writes ? data : (char *)&seen->value, seen->size);
}

/* Until it says that it is done, which is then finished. */
static int run_transfer(const struct vcpu *vcpu, struct kvm_transfer *transfer)
{
	struct kvm_run *run = vcpu->run;
	int r;

	for (;;) {
		r = checked(ioctl(vcpu->fd, KVM_RUN, 0));
		if (r == -EINTR)
			continue;
		if (r < 0)
			return r;
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == DONE)
			break;
		if (run->exit_reason != KVM_EXIT_IO && run->exit_reason != KVM_EXIT_MMIO)
			return -EIO;
		note_exit(run, transfer);
	}
	run->immediate_exit = 1;
	r = checked(ioctl(vcpu->fd, KVM_RUN, 0));
	run->immediate_exit = 0;
	return r == -EINTR ? 0 : -EPROTO;
}

static int real_transfer(struct kvm_vm *vm, struct kvm_transfer *transfer)
{
	struct vcpu *vcpu = vm->vcpu;
	struct kvm_regs regs = {
		.rip = CODE + place_of(transfer->pio, transfer->writes, transfer->size),
		.rax = transfer->value,
		.rbx = transfer->addr,
		.rdx = transfer->addr,
		.rsi = CODE + DATA,
		.rflags = 2,
	};
	char *page = (char *)(MEMORY + (KVM_TABLE_PAGES - 1) * PAGE);
	int r = enter_space(vcpu, transfer->as_id);

	memcpy(page + DATA, &transfer->value, sizeof(transfer->value));
	if (r == 0)
		r = checked(ioctl(vcpu->fd, KVM_SET_REGS, &regs));
	return r == 0 ? run_transfer(vcpu, transfer) : r;
}

/* Asked for anew each time: else KVM writes it when it likes. */
static int real_clock(struct kvm_vm *vm, uint64_t gpa)
{
	struct vcpu *vcpu = vm->vcpu;
	int r = set_msr(vcpu, MSR_SYSTEM_TIME_NEW, gpa | 1);

	if (r == 0)
		r = run_at(vcpu, REST, 0);
	if (r == DONE)
		r = set_msr(vcpu, MSR_SYSTEM_TIME_NEW, 0);
	return r;
}

static int real_smi(struct kvm_vm *vm)
{
	struct vcpu *vcpu = vm->vcpu;
	int r = enter_space(vcpu, 0);

	if (r == 0)
		r = checked(ioctl(vcpu->fd, KVM_SMI, 0));
	if (r == 0)
		r = run_at(vcpu, REST, 0);
	if (r != HANDLER)
		return r < 0 ? r : -EPROTO;
	vcpu->as_id = 1;
	return set_flat_state(vcpu);
}

const struct kvm_guest kvm_real_guest = {
	.make = real_make,
	.transfer = real_transfer,
	.access = real_access,
	.clock = real_clock,
	.smi = real_smi,
	.end = real_end,
};

#endif

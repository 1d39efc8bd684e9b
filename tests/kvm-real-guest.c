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
 *
 * Read real_access first.
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

enum { STORE = 0x100, LOAD = 0x200, REST = 0x300 };
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

static int map_run(struct vcpu *vcpu)
{
	void *run;

	vcpu->run_size = (size_t)ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return -errno;
	vcpu->run = run;
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
	r = map_run(vcpu);
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
	.access = real_access,
	.clock = real_clock,
	.smi = real_smi,
	.end = real_end,
};

#endif

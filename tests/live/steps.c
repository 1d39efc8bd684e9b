/* SPDX-License-Identifier: MIT */
/*
 * Steps: see steps.h.
 *
 *   page 1              pieces of flat code
 *   page 8              8 bytes that are to be written, or were read
 *   FREE_PAGE           pieces of 64-bit code
 *   FREE_PAGE + 1 ...   page tables: the first GiB as it is, and the window
 *   SMBASE + 8 pages    pieces of SMM
 *
 * A step in SMM begins with an SMI for a vCPU that stands before HLT, where RSM leads back to.
 */
#include "steps.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

enum {
	BYTES_PAGE = 8,
	LONG_PAGE = FREE_PAGE,
	TOP_TABLE = FREE_PAGE + 1, /* one table of each level, and the window's two last */
	GIB_TABLE,
	LOW_TABLE,
	WINDOW_DIRECTORY,
	WINDOW_TABLE,
	HANDLER_OFFSET = 0x8000,
	MAX_CPUID = 256,
};

#define PRESENT 3 /* and writable */
#define LARGE 0x80
#define FLAGS 2 /* the bit of RFLAGS that is always 1 */

/* xorshift64* */
uint32_t steps_chance(struct steps *steps, uint32_t n)
{
	steps->seed ^= steps->seed >> 12;
	steps->seed ^= steps->seed << 25;
	steps->seed ^= steps->seed >> 27;
	return (uint32_t)((steps->seed * UINT64_C(2685821657736338717)) >> 32) % n;
}

static uint64_t *table_at(const struct steps *steps, uint32_t page)
{
	return (uint64_t *)(steps->g->bytes + (size_t)page * PAGE);
}

static void make_tables(struct steps *steps)
{
	table_at(steps, TOP_TABLE)[0] = GIB_TABLE * PAGE | PRESENT;
	table_at(steps, GIB_TABLE)[0] = LOW_TABLE * PAGE | PRESENT;
	table_at(steps, GIB_TABLE)[1] = WINDOW_DIRECTORY * PAGE | PRESENT;
	table_at(steps, WINDOW_DIRECTORY)[0] = WINDOW_TABLE * PAGE | PRESENT;
	for (uint64_t i = 0; i < 512; i++)
		table_at(steps, LOW_TABLE)[i] = i << 21 | LARGE | PRESENT;
}

void steps_show(struct steps *steps, uint64_t first, uint64_t second)
{
	table_at(steps, WINDOW_TABLE)[0] = (first & ~UINT64_C(0xfff)) | PRESENT;
	table_at(steps, WINDOW_TABLE)[1] = (second & ~UINT64_C(0xfff)) | PRESENT;
}

/* All that KVM can do; for free(). */
static struct kvm_cpuid2 *get_cpuid(void)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));

	assert_non_null(cpuid);
	cpuid->nent = MAX_CPUID;
	must(ioctl(guest_system_fd, KVM_GET_SUPPORTED_CPUID, cpuid));
	return cpuid;
}

unsigned steps_gpa_bits(void)
{
	struct kvm_cpuid2 *cpuid = get_cpuid();
	unsigned bits = 36;

	for (unsigned i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == 0x80000008)
			bits = cpuid->entries[i].eax & 0xff;
	}
	free(cpuid);
	return bits;
}

static void set_cpuid(const struct steps *steps)
{
	struct kvm_cpuid2 *cpuid = get_cpuid();

	must(ioctl(steps->g->vcpus[0].fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

static void enter_long_mode(const struct steps *steps)
{
	struct kvm_sregs sregs;

	must(ioctl(steps->g->vcpus[0].fd, KVM_GET_SREGS, &sregs));
	sregs.cr3 = TOP_TABLE * PAGE;
	sregs.cr4 |= 1 << 5;            /* PAE */
	sregs.cr0 |= 1U << 31;          /* PG */
	sregs.efer |= 1 << 8 | 1 << 10; /* LME, LMA */
	sregs.cs.l = 1;
	sregs.cs.db = 0;
	must(ioctl(steps->g->vcpus[0].fd, KVM_SET_SREGS, &sregs));
}

static void write_pieces(struct steps *steps, uint32_t page, const unsigned char *pieces)
{
	size_t size = (size_t)STEP_CODES * STEP_SIZE;

	assert_true(size <= PAGE);
	memcpy(steps->g->bytes + (size_t)page * PAGE, pieces, size);
}

void steps_init(struct steps *steps, struct guest *g, bool lengthy)
{
	assert_int_equal(steps_end - steps_long, STEP_CODES * STEP_SIZE);
	assert_int_equal(steps_smm - steps_flat, STEP_CODES * STEP_SIZE);
	*steps = (struct steps){
		.g = g, .mode = lengthy ? STEP_LONG : STEP_FLAT, .seed = 88172645463325252};
	write_pieces(steps, 1, steps_flat);
	write_pieces(steps, guest_smbase_page(0) + HANDLER_OFFSET / PAGE, steps_smm);
	if (!lengthy)
		return;
	write_pieces(steps, LONG_PAGE, steps_long);
	make_tables(steps);
	set_cpuid(steps);
	enter_long_mode(steps);
}

unsigned steps_as_id(const struct steps *steps)
{
	return steps->mode == STEP_SMM;
}

static uint64_t own_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void answer(struct steps *steps)
{
	const struct vcpu *vcpu = &steps->g->vcpus[0];
	uint64_t before = own_time(), taken;
	int r = kvmas_vcpu_handle_exit(vcpu->tie);

	taken = own_time() - before;
	steps->slowest_ns = taken > steps->slowest_ns ? taken : steps->slowest_ns;
	steps->exits++;
	if (r != 1)
		fail_msg("the library answers exit %u, detail 0x%llx, with %d",
			 vcpu->run->exit_reason,
			 (unsigned long long)vcpu->run->hw.hardware_exit_reason, r);
}

/* In the space that the step is made in, until it halts there (true), or exits. */
static bool run(struct steps *steps, unsigned as_id)
{
	const struct vcpu *vcpu = &steps->g->vcpus[0];
	int r;

	do
		r = kvmas_vcpu_run(vcpu->tie);
	while (r == 1 || r == -EINTR || r == -EAGAIN);
	must(r);
	assert_int_equal(kvmas_vcpu_get_as_id(vcpu->tie), as_id);
	return vcpu->run->exit_reason == KVM_EXIT_HLT;
}

static void run_to_halt(struct steps *steps, unsigned as_id)
{
	while (!run(steps, as_id))
		answer(steps);
}

/* Where its vCPU is to go on. */
static void set_step(struct steps *steps, unsigned code, struct kvm_regs *regs)
{
	int fd = steps->g->vcpus[0].fd;
	bool smm = steps->mode == STEP_SMM;
	uint64_t pieces = (steps->mode == STEP_LONG ? LONG_PAGE : 1) * PAGE;

	regs->rflags = FLAGS;
	regs->rip = pieces + (smm ? 0 : (uint64_t)code * STEP_SIZE);
	regs->rbp = HANDLER_OFFSET + (uint64_t)code * STEP_SIZE;
	must(ioctl(fd, KVM_SET_REGS, regs));
	if (smm)
		must(ioctl(fd, KVM_SMI, 0));
}

void step(struct steps *steps, unsigned code, struct kvm_regs *regs)
{
	set_step(steps, code, regs);
	run_to_halt(steps, steps_as_id(steps));
	must(ioctl(steps->g->vcpus[0].fd, KVM_GET_REGS, regs));
	if (steps->mode == STEP_SMM)
		run_to_halt(steps, 0);
}

static unsigned log2_of(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

/* Where there are no registers of 8 bytes, memory takes their place. */
uint64_t step_read(struct steps *steps, uint64_t address, unsigned size)
{
	struct kvm_regs regs = {.rbx = address, .rdi = BYTES_PAGE * PAGE};

	step(steps, STEP_READ + log2_of(size), &regs);
	if (size < 8)
		return regs.rax & ((UINT64_C(1) << 8 * size) - 1);
	return steps->mode == STEP_LONG ? regs.rax : *table_at(steps, BYTES_PAGE);
}

static struct kvm_regs regs_of_write(struct steps *steps, uint64_t address, uint64_t value)
{
	*table_at(steps, BYTES_PAGE) = value;
	return (struct kvm_regs){.rbx = address, .rax = value, .rsi = BYTES_PAGE * PAGE};
}

void step_write(struct steps *steps, uint64_t address, unsigned size, uint64_t value)
{
	struct kvm_regs regs = regs_of_write(steps, address, value);

	step(steps, STEP_WRITE + log2_of(size), &regs);
}

bool step_start_write(struct steps *steps, uint64_t address, unsigned size, uint64_t value)
{
	struct kvm_regs regs = regs_of_write(steps, address, value);

	assert_int_not_equal(steps->mode, STEP_SMM);
	set_step(steps, STEP_WRITE + log2_of(size), &regs);
	return run(steps, 0);
}

void step_finish(struct steps *steps)
{
	answer(steps);
	run_to_halt(steps, 0);
}

uint32_t step_in(struct steps *steps, unsigned port, unsigned size)
{
	struct kvm_regs regs = {.rdx = port};

	step(steps, STEP_IN + log2_of(size), &regs);
	return (uint32_t)(regs.rax & ((UINT64_C(1) << 8 * size) - 1));
}

void step_out(struct steps *steps, unsigned port, unsigned size, uint32_t value)
{
	struct kvm_regs regs = {.rdx = port, .rax = value};

	step(steps, STEP_OUT + log2_of(size), &regs);
}

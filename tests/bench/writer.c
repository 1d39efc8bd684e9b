/* SPDX-License-Identifier: MIT */
/*
 * The guest that makes pages dirty for `kvmas-bench dirty`: one vCPU, in flat 32-bit protected mode
 * without paging, which every KVM can do. Its program stores one word to each page of a row of
 * them, and says by a port that it is done. It reads no memory but its own code, so that nothing
 * is dirty that it was not told to write.
 */
#include "writer.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define DONE_PORT 0x80

const unsigned char writer_code[] = {
	0x89, 0x06,      /* 1: mov %eax, (%esi) */
	0x01, 0xd6,      /* add %edx, %esi */
	0x49,            /* dec %ecx */
	0x75, 0xf9,      /* jnz 1b */
	0xe6, DONE_PORT, /* out %al, $DONE_PORT */
	0xeb, 0xf5,      /* jmp 1b */
};
const size_t writer_code_size = sizeof(writer_code);

void writer_open(struct writer *writer, int kvm_fd)
{
	*writer = (struct writer){.vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0), .vcpu_fd = -1};
	must(writer->vm_fd < 0 ? -errno : 0);
}

static void *map_vcpu(const struct writer *writer, size_t size, off_t offset)
{
	void *mapped =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, writer->vcpu_fd, offset);

	must(mapped == MAP_FAILED ? -errno : 0);
	return mapped;
}

static void set_flat_state(const struct writer *writer)
{
	struct kvm_segment code = {.limit = UINT32_MAX,
				   .selector = 8,
				   .type = 11,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment data = code;
	struct kvm_regs regs = {.rip = WRITER_CODE_GPA, .rflags = 2};
	struct kvm_sregs sregs;

	data.selector = 16;
	data.type = 3;
	must(ioctl(writer->vcpu_fd, KVM_GET_SREGS, &sregs) ? -errno : 0);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 |= 1;
	must(ioctl(writer->vcpu_fd, KVM_SET_SREGS, &sregs) ? -errno : 0);
	must(ioctl(writer->vcpu_fd, KVM_SET_REGS, &regs) ? -errno : 0);
}

void writer_add_vcpu(struct writer *writer, int kvm_fd, size_t ring_size)
{
	int run_size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	must(run_size < 0 ? -errno : 0);
	writer->vcpu_fd = ioctl(writer->vm_fd, KVM_CREATE_VCPU, 0);
	must(writer->vcpu_fd < 0 ? -errno : 0);
	writer->run_size = (size_t)run_size;
	writer->run = map_vcpu(writer, writer->run_size, 0);
	writer->ring_size = ring_size;
	if (ring_size)
		writer->ring = map_vcpu(writer, ring_size,
					KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	set_flat_state(writer);
}

void writer_close(struct writer *writer)
{
	if (writer->ring)
		munmap(writer->ring, writer->ring_size);
	if (writer->run)
		munmap(writer->run, writer->run_size);
	if (writer->vcpu_fd >= 0)
		close(writer->vcpu_fd);
	close(writer->vm_fd);
}

/* Where it goes on is before its first instruction, or behind the OUT that ended its last run. */
void writer_store(struct writer *writer, const struct load *load, uint64_t page_size)
{
	struct kvm_regs regs;

	if (!load->count)
		return;
	must(ioctl(writer->vcpu_fd, KVM_GET_REGS, &regs) ? -errno : 0);
	regs.rax++;
	regs.rcx = load->count;
	regs.rdx = load->stride * page_size;
	regs.rsi = load->first * page_size;
	must(ioctl(writer->vcpu_fd, KVM_SET_REGS, &regs) ? -errno : 0);
	must(ioctl(writer->vcpu_fd, KVM_RUN, 0) ? -errno : 0);
	bench_expect(writer->run->exit_reason == KVM_EXIT_IO && writer->run->io.port == DONE_PORT);
}

/* SPDX-License-Identifier: MIT */
/* A VM with a vCPU that stores to pages. See writer.c. */
#ifndef WRITER_H
#define WRITER_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

/* Where its code must be: past all RAM. */
#define WRITER_CODE_GPA UINT64_C(0xc0000000)

/* Which pages it stores to; 0 of them is none. */
struct load {
	uint64_t first; /* from gpa 0 on */
	uint64_t stride;
	uint64_t count;
};

struct writer {
	int vm_fd;
	int vcpu_fd;
	struct kvm_run *run;
	size_t run_size;
	struct kvm_dirty_gfn *ring; /* NULL: none */
	size_t ring_size;           /* bytes */
};

/* Make the VM; then, when its slots are there, and its ring, if any, is switched on, the vCPU. */
void writer_open(struct writer *writer, int kvm_fd);
void writer_add_vcpu(struct writer *writer, int kvm_fd, size_t ring_size);
void writer_close(struct writer *writer);

/* Its program, to be copied to WRITER_CODE_GPA, a page at most. */
extern const unsigned char writer_code[];
extern const size_t writer_code_size;

/* Have the guest store to these pages of *page_size* bytes. */
void writer_store(struct writer *writer, const struct load *load, uint64_t page_size);

#endif

/* SPDX-License-Identifier: MIT */
/* Which pages does a guest write? A VM whose vCPU writes to four pages at a time; after each time
 * the pages written since the last are copied, until the copy is that of all of its memory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <kvmas.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define RAM_SIZE (16 << 20)
#define CODE 0x1000

static const unsigned char guest_code[] = {
	0xb9, 0x04, 0x00,       /* 1: mov $4, %cx */
	0xa3, 0x00, 0x00,       /* 2: mov %ax, 0: into the page at %ds */
	0x8c, 0xdb,             /*    mov %ds, %bx */
	0x81, 0xc3, 0x00, 0x01, /*    add $0x100, %bx */
	0x8e, 0xdb,             /*    mov %bx, %ds: 4 KiB further */
	0xe2, 0xf3,             /*    loop 2b */
	0xe6, 0x80,             /*    out %al, $0x80: KVM_RUN returns */
	0xeb, 0xec,             /*    jmp 1b */
};

/* Ends with what failed: of results that are a negative errno, and of system calls. */
static void check(int64_t result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "track_dirty: %s: %s\n", what, strerror((int)-result));
	exit(1);
}

static int check_call(int result, const char *what)
{
	check(result < 0 ? -errno : 0, what);
	return result;
}

static int open_vm(int kvm_fd)
{
	check_call(kvm_fd, "/dev/kvm");
	check(ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) > 0 ? 0 : -EOPNOTSUPP,
	      "KVM_CAP_USER_MEMORY");
	return check_call(ioctl(kvm_fd, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
}

static struct kvm_run *set_up_vcpu(int kvm_fd, int fd)
{
	int size = check_call(ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rax = 0x5a5a};
	struct kvm_sregs sregs;

	check_call(run == MAP_FAILED ? -1 : 0, "mapping kvm_run");
	check_call(ioctl(fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.selector = sregs.cs.base = 0;
	sregs.ds.base = (sregs.ds.selector = 0x2000) << 4;
	check_call(ioctl(fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check_call(ioctl(fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	return run;
}

/* A kvmas_dirty_fn. A negative errno would put the run back, and all behind it. */
static int copy_run(void *copy, const struct kvmas_dirty_run *run)
{
	memcpy((char *)copy + run->start, run->hva, run->size);
	printf("  0x%" PRIx64 "-0x%" PRIx64 "\n", run->start, run->start + run->size - 1);
	return 0;
}

int main(void)
{
	struct kvmas *kvmas;
	struct kvmas_ram *ram;
	struct kvmas_region *memory;
	struct kvmas_space *space;
	struct kvmas_kvm *kvm;
	struct kvmas_client *client;
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm_fd = open_vm(kvm_fd);
	int vcpu_fd = check_call(ioctl(vm_fd, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	struct kvm_run *run = set_up_vcpu(kvm_fd, vcpu_fd);
	char *copy = malloc(RAM_SIZE), *hva;

	check(kvmas_new(NULL, &kvmas), "kvmas_new");
	check(kvmas_ram_new(kvmas, KVMAS_CONFIG(ram, .name = "ram", .size = RAM_SIZE), &ram),
	      "RAM");
	check(kvmas_region_new(kvmas,
			       KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "memory",
					    .size = RAM_SIZE, .ram = ram),
			       &memory),
	      "region");
	check(kvmas_space_new(kvmas, "system", memory, &space), "space");
	check(kvmas_kvm_new(kvmas, KVMAS_CONFIG(kvm, .vm_fd = vm_fd), &kvm), "tie");
	check(kvmas_kvm_bind(kvm, space, 0), "KVM's slots");
	hva = kvmas_ram_get_hva(ram);
	memcpy(hva + CODE, guest_code, sizeof(guest_code));

	/* Logging begins before the first copy: what is written meanwhile is told afterwards. */
	check(kvmas_client_new(kvmas, "copier", &client), "client");
	check(kvmas_client_log_start(client, memory, NULL), "log");
	check(copy ? 0 : -ENOMEM, "copy");
	memcpy(copy, hva, RAM_SIZE);
	for (int i = 1; i <= 4; i++) {
		/* With more threads than this one: kvmas_vcpu_run (README.md). */
		check_call(ioctl(vcpu_fd, KVM_RUN, 0), "KVM_RUN");
		check(run->exit_reason == KVM_EXIT_IO ? 0 : -EPROTO, "exit");
		printf("written in round %d:\n", i);
		check(kvmas_space_sync(space, 0, KVMAS_SIZE_MAX), "sync");
		check(kvmas_client_take_region(client, memory, 0, KVMAS_SIZE_MAX, copy_run, copy),
		      "take");
	}
	check(memcmp(copy, hva, RAM_SIZE) ? -EIO : 0, "the copy");
	puts("the copy is complete");
	return 0; /* with the process all ends: nothing is given back here */
}

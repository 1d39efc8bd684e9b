/* SPDX-License-Identifier: MIT */
/*
 * The KVM VM: opened, asked what it can do, given its interrupt controllers and timer. That is the
 * VMM's part of KVM, which libkvmas leaves alone.
 * Not here: memory slots (the library's), vCPUs (vcpu.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "machine.h"

/*
 * Four pages that KVM needs for itself on Intel processors without unrestricted guest mode: below
 * the largest ROM (16 MiB below 4 GiB), away from everything else.
 */
#define IDENTITY_MAP_GPA 0xfeffc000
#define TSS_GPA 0xfeffd000
#define KERNEL_PAGES_SIZE 0x4000
/* Where KVM may put its APIC access page (arch/x86/kvm/lapic.c). */
#define APIC_GPA 0xfee00000
#define APIC_SIZE 0x1000

static const struct {
	int capability;
	const char *name;
} needed[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
	{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
};

static const char *advice_on_open(int error)
{
	if (error == ENOENT || error == ENODEV || error == ENXIO)
		return "load the module kvm_intel or kvm_amd, or use examples/boot.sh, which has a "
		       "lab";
	if (error == EACCES || error == EPERM)
		return "join the group kvm, or run as root";
	return "see whether another hypervisor holds the processor";
}

static int open_kvm(struct vm *vm)
{
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0) {
		complain("cannot open /dev/kvm: %s; %s", strerror(errno), advice_on_open(errno));
		return -errno;
	}
	if (ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		complain("/dev/kvm speaks another version of KVM's interface; use Linux 5.10 or "
			 "later");
		return -EOPNOTSUPP;
	}
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0) {
		complain("KVM_CREATE_VM: %s; see whether other VMs leave room for one",
			 strerror(errno));
		return -errno;
	}
	return 0;
}

/* Asked of the VM, not of /dev/kvm: what a VM has may be less. */
static int has_capability(const struct vm *vm, int capability)
{
	int value = ioctl(vm->fd, KVM_CHECK_EXTENSION, capability);

	return value < 0 ? 0 : value;
}

static int require_capabilities(const struct vm *vm)
{
	for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (has_capability(vm, needed[i].capability))
			continue;
		complain("this KVM lacks %s; use Linux 5.10 or later on an x86-64 processor",
			 needed[i].name);
		return -EOPNOTSUPP;
	}
	return 0;
}

int vm_open(struct vm *vm)
{
	int rc;

	*vm = (struct vm){.kvm_fd = -1, .fd = -1};
	rc = open_kvm(vm);
	if (!rc)
		rc = require_capabilities(vm);
	if (rc) {
		vm_close(vm);
		return rc;
	}
	vm->spaces = has_capability(vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	if (!vm->spaces)
		vm->spaces = 1;
	vm->smm = has_capability(vm, KVM_CAP_X86_SMM);
	return 0;
}

/* KVM wants this order: the addresses and the interrupt controllers before any vCPU, the PIT after
 * the interrupt controllers. */
int vm_setup(struct vm *vm)
{
	uint64_t identity_map = IDENTITY_MAP_GPA;
	/* Port 0x61 goes to KVM with it: SeaBIOS measures its clock with channel 2. */
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	const char *failed = NULL;

	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
		failed = "KVM_SET_IDENTITY_MAP_ADDR";
	else if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA) < 0)
		failed = "KVM_SET_TSS_ADDR";
	else if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		failed = "KVM_CREATE_IRQCHIP";
	else if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		failed = "KVM_CREATE_PIT2";
	if (!failed)
		return 0;
	complain("%s: %s; this KVM cannot carry a PC", failed, strerror(errno));
	return -EOPNOTSUPP;
}

int vm_reserve(struct kvmas_kvm *tie)
{
	int rc = kvmas_kvm_reserve_range(tie, IDENTITY_MAP_GPA, KERNEL_PAGES_SIZE);

	return rc ? rc : kvmas_kvm_reserve_range(tie, APIC_GPA, APIC_SIZE);
}

void vm_close(struct vm *vm)
{
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->fd = vm->kvm_fd = -1;
}

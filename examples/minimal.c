/* SPDX-License-Identifier: MIT */
/* The smallest use: one space with 64 MiB of RAM, bound to KVM's address space 0. */
#include <fcntl.h>
#include <kvmas.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

int main(void)
{
	struct kvmas *kvmas;
	struct kvmas_ram *ram;
	struct kvmas_region *root, *memory;
	struct kvmas_space *space;
	struct kvmas_kvm *kvm;
	int vm_fd = ioctl(open("/dev/kvm", O_RDWR | O_CLOEXEC), KVM_CREATE_VM, 0);

	return vm_fd < 0 || kvmas_new(NULL, &kvmas) ||
	       kvmas_ram_new(kvmas, KVMAS_CONFIG(ram, .name = "ram", .size = 64 << 20), &ram) ||
	       kvmas_region_new(kvmas,
				KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER,
					     .name = "system", .size = KVMAS_SIZE_MAX),
				&root) ||
	       kvmas_region_new(kvmas,
				KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "memory",
					     .size = 64 << 20, .ram = ram),
				&memory) ||
	       kvmas_region_add(root, memory, 0, 0) ||
	       kvmas_space_new(kvmas, "system", root, &space) ||
	       kvmas_kvm_new(kvmas, KVMAS_CONFIG(kvm, .vm_fd = vm_fd), &kvm) ||
	       kvmas_kvm_bind(kvm, space, 0) || /* KVM has its slot now */
	       kvmas_dump(kvmas, stdout);
}

// SPDX-License-Identifier: MIT
/*
 * Prints what KVM offers for SMM, and succeeds if a VM can have SMM and two address spaces.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(void)
{
	int kvm, vm, smm, spaces;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		perror("/dev/kvm");
		return 1;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		perror("KVM_CREATE_VM");
		return 1;
	}
	smm = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM);
	/* Asked of the VM: the number may depend on the VM's type. */
	spaces = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE);
	printf("KVM_CAP_X86_SMM %d\nKVM_CAP_MULTI_ADDRESS_SPACE %d\n", smm, spaces);
	return smm == 1 && spaces == 2 ? 0 : 1;
}

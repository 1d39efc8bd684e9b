/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM against the real one: the sequences of kvm-table.c and random steps, on
 * /dev/kvm and a double side by side. The double by itself is test-fake-kvm.c and, with the table,
 * test-kvm-table.c.
 *
 * KVMAS_SEED and KVMAS_STEPS set the random run; KVMAS_REQUIRE_KVM=1 makes a missing /dev/kvm a
 * failure. With the argument "random" (steps), "dirty" (what a vCPU marks), "channels" (ioeventfds
 * and coalesced zones) or "table" there is just that.
 */
#include "fake-kvm-fixture.h"
#include "fake-kvm-uapi.h"
#include "kvm-real-guest.h"
#include "kvm-trial.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int system_fd = -1;

static int real_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	int r = ioctl(fd, request, arg);

	(void)data;
	return r < 0 ? -errno : r;
}

static struct kvm_limits guest_limits; /* those that take a vCPU to be found */
static bool has_guest;

static void open_real(struct kvm_vm *vm)
{
	*vm = (struct kvm_vm){
		.ioctl = real_ioctl,
		.fd = ioctl(system_fd, KVM_CREATE_VM, 0),
		.guest = has_guest ? &kvm_real_guest : NULL,
	};
	if (vm->fd < 0)
		fail_msg("KVM_CREATE_VM: %s", strerror(errno));
	assert_int_equal(kvm_vm_probe(vm), 0);
	vm->limits.small_ring = guest_limits.small_ring;
	vm->limits.reads_mark = guest_limits.reads_mark;
	vm->limits.watches = guest_limits.watches;
	vm->limits.room = guest_limits.room;
}

static void close_real(struct kvm_vm *vm)
{
	if (vm->guest)
		vm->guest->end(vm);
	kvm_vm_end(vm);
	close(vm->fd);
}

static void probe_guest(void)
{
	struct kvm_vm vm;

	has_guest = kvm_guest_init(system_fd) == 0;
	open_real(&vm);
	assert_int_equal(kvm_vm_probe_guest(&vm), 0);
	guest_limits = vm.limits;
	close_real(&vm);
}

/* A double with the limits of a real VM, which it finds by itself. */
static struct fake_kvm *double_of(const struct kvm_vm *real, struct kvm_vm *vm)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){
		.spaces = real->limits.spaces,
		.nr_memslots = real->limits.nr_memslots,
		.max_gfn = real->limits.max_gfn,
		.hva_limit = real->limits.hva_limit,
		.no_readonly_mem = !real->limits.readonly_mem,
		.version = real->limits.guest_memfd ? FAKE_KVM_6_18
			   : real->limits.region2   ? FAKE_KVM_6_12
						    : FAKE_KVM_6_1,
		.quirks = real->limits.quirks,
		.no_ring = !real->limits.ring,
		.no_ring_acq_rel = !real->limits.ring,
		.pml = !real->limits.small_ring,
		.shadow_mmu = !real->limits.reads_mark,
		.emulates = !real->limits.watches,
		.no_gmem_flags = !real->limits.memfd_flags,
		.plain_attributes = real->limits.attributes,
	});

	*vm = as_vm(kvm);
	probe_double(kvm, vm);
	assert_memory_equal(&vm->limits, &real->limits, sizeof(vm->limits));
	return kvm;
}

static void close_double(struct fake_kvm *kvm, struct kvm_vm *vm)
{
	kvm_vm_end(vm);
	fake_kvm_free(kvm);
}

static void run_sequence_live(void **state)
{
	const struct kvm_sequence *sequence = *state;
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;
	const char *reason;

	open_real(&real);
	reason = kvm_vm_lacks(&real, sequence);
	if (reason) {
		close_real(&real);
		print_message("%s: %s\n", sequence->name, reason);
		skip();
	}
	kvm = double_of(&real, &vm);
	for (const struct kvm_step *step = sequence->steps; step->kind != KVM_STEP_END; step++) {
		int r = result_of_both(&vm, &real, step);

		/* Both agree; are they also as the table says? */
		if (r != step->expected)
			report_step(NULL, step, r);
		assert_int_equal(r, step->expected);
	}
	assert_same_slots(kvm, &vm, &real);
	close_real(&real);
	close_double(kvm, &vm);
}

static void double_has_the_capabilities_of_the_real_kvm(void **state)
{
	static const uintptr_t caps[] = {
		KVM_CAP_USER_MEMORY,
		KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
		KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
		KVM_CAP_SYNC_MMU,
		KVM_CAP_CHECK_EXTENSION_VM,
		KVM_CAP_ENABLE_CAP_VM,
		KVM_CAP_IMMEDIATE_EXIT,
		KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		KVM_CAP_DIRTY_LOG_RING,
		KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
		KVM_CAP_DISABLE_QUIRKS,
		KVM_CAP_DISABLE_QUIRKS2,
		KVM_CAP_USER_MEMORY2,
		KVM_CAP_GUEST_MEMFD,
		KVM_CAP_GUEST_MEMFD_FLAGS,
		KVM_CAP_MEMORY_FAULT_INFO,
		KVM_CAP_MEMORY_ATTRIBUTES,
		KVM_CAP_VM_TYPES,
		KVM_CAP_IOEVENTFD,
		KVM_CAP_IOEVENTFD_NO_LENGTH,
		KVM_CAP_IOEVENTFD_ANY_LENGTH,
		KVM_CAP_COALESCED_MMIO,
		KVM_CAP_COALESCED_PIO,
		KVM_CAP_NR_MEMSLOTS,
		KVM_CAP_READONLY_MEM,
		KVM_CAP_X86_SMM,
		KVM_CAP_MULTI_ADDRESS_SPACE,
		0x7fffffff,
	};
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;

	(void)state;
	open_real(&real);
	kvm = double_of(&real, &vm);
	for (size_t i = 0; i < LENGTH(caps); i++)
		assert_int_equal(check(kvm, caps[i]),
				 real_ioctl(NULL, real.fd, KVM_CHECK_EXTENSION, (void *)caps[i]));
	close_real(&real);
	fake_kvm_free(kvm);
}

static void forked_child_gets_eio_from_the_real_kvm(void **state)
{
	struct kvm_vm real;
	int status;
	pid_t pid;

	(void)state;
	open_real(&real);
	pid = fork();
	if (pid == 0)
		_exit(real_ioctl(NULL, real.fd, KVM_CHECK_EXTENSION, NULL) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close_real(&real);
}

/* From Linux 6.2 on, an SMI whose state cannot be saved, there being no memory, ends the VM. */
static void kill_by_smi(const struct kvm_vm *real)
{
	int vcpu = ioctl(real->fd, KVM_CREATE_VCPU, 0);

	assert_int_not_equal(vcpu, -1);
	assert_int_equal(ioctl(vcpu, KVM_SMI, 0), 0);
	assert_int_equal(ioctl(vcpu, KVM_RUN, 0), -1);
	assert_int_equal(errno, EIO);
	close(vcpu);
}

static void dead_vm_answers_as_the_dead_double(void **state)
{
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;
	uint64_t seed = DEFAULT_SEED;

	(void)state;
	open_real(&real);
	if (real.limits.spaces < 2 || !real.limits.region2) {
		close_real(&real);
		print_message("needs two address spaces and Linux 6.2\n");
		skip();
	}
	kvm = double_of(&real, &vm);
	kill_by_smi(&real);
	kvm->dead = true;
	for (unsigned i = 0; i < DEFAULT_STEPS; i++) {
		struct kvm_step step;

		kvm_step_random(&seed, real.limits.spaces, &step);
		assert_agreement(&vm, &real, &step);
		assert_int_equal(kvm_step_run(&real, &step), -EIO);
	}
	assert_int_equal(check(kvm, KVM_CAP_NR_MEMSLOTS), -EIO);
	assert_int_equal(
		real_ioctl(NULL, real.fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_NR_MEMSLOTS), -EIO);
	close_real(&real);
	fake_kvm_free(kvm);
}

static void double_and_real_kvm_agree_on_random_steps(void **state)
{
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;

	(void)state;
	open_real(&real);
	kvm = double_of(&real, &vm);
	walk(kvm, &vm, &real);
	close_real(&real);
	close_double(kvm, &vm);
}

static void compare_dirty_walks(bool rings)
{
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;

	open_real(&real);
	if (!real.guest || !real.limits.ring) {
		close_real(&real);
		print_message("needs a vCPU and KVM_CAP_DIRTY_LOG_RING\n");
		skip();
	}
	kvm = double_of(&real, &vm);
	walk_dirty(kvm, &vm, &real, rings);
	close_real(&real);
	close_double(kvm, &vm);
}

static void double_and_real_kvm_agree_on_what_a_guest_marks(void **state)
{
	(void)state;
	compare_dirty_walks(false);
}

static void double_and_real_kvm_agree_on_what_is_in_a_ring(void **state)
{
	(void)state;
	compare_dirty_walks(true);
}

static void double_and_real_kvm_agree_on_channels(void **state)
{
	struct kvm_vm real, vm;
	struct fake_kvm *kvm;

	(void)state;
	open_real(&real);
	if (!real.guest || !real.limits.channels) {
		close_real(&real);
		print_message("needs a vCPU, ioeventfds and coalesced zones\n");
		skip();
	}
	kvm = double_of(&real, &vm);
	walk_channels(kvm, &vm, &real);
	close_real(&real);
	close_double(kvm, &vm);
}

/* A file of another VM is none. */
static void guest_memfd_of_another_vm_returns_einval(void **state)
{
	const struct kvm_step memfd = {.kind = KVM_STEP_MEMFD, .size = {KVM_FROM_ZERO, 4, 0}};
	struct kvm_step bind = {
		.kind = KVM_STEP_SET2,
		.size = {KVM_FROM_ZERO, 4, 0},
		.hva = {KVM_FROM_MEM, 0, 0},
		.flags = KVM_MEM_GUEST_MEMFD,
		.memfd = KVM_MEMFD_FD,
	};
	struct kvm_vm real, other;

	(void)state;
	open_real(&real);
	open_real(&other);
	if (!real.limits.guest_memfd) {
		close_real(&other);
		close_real(&real);
		print_message("needs KVM_CAP_GUEST_MEMFD\n");
		skip();
	}
	assert_int_equal(kvm_step_run(&other, &memfd), 0);
	assert_int_equal(kvm_step_run(&real, &memfd), 0);
	bind.memfd = other.memfds[0];
	assert_int_equal(kvm_step_run(&real, &bind), -EINVAL);
	bind.memfd = KVM_MEMFD_FD;
	assert_int_equal(kvm_step_run(&real, &bind), 0);
	close_real(&other);
	close_real(&real);
}

static void print_limits(void)
{
	struct kvm_vm real;

	open_real(&real);
	print_message(
		"live: %u space(s), %u slots, readonly %d, region2 %d, guest_memfd %d, "
		"quirks %#llx, last gfn %#llx, hva limit %#llx; guest %d, ring %d, of one "
		"page %d, reads mark %d, watches %d; channels %d, room %u, memfd flags %#llx, "
		"attributes %d\n",
		real.limits.spaces, real.limits.nr_memslots, real.limits.readonly_mem,
		real.limits.region2, real.limits.guest_memfd,
		(unsigned long long)real.limits.quirks, (unsigned long long)real.limits.max_gfn,
		(unsigned long long)real.limits.hva_limit, has_guest, real.limits.ring,
		real.limits.small_ring, real.limits.reads_mark, real.limits.watches,
		real.limits.channels, real.limits.room, (unsigned long long)real.limits.memfd_flags,
		real.limits.attributes);
	close_real(&real);
}

static int run(const char *part)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(double_has_the_capabilities_of_the_real_kvm),
		cmocka_unit_test(forked_child_gets_eio_from_the_real_kvm),
		cmocka_unit_test(dead_vm_answers_as_the_dead_double),
		cmocka_unit_test(guest_memfd_of_another_vm_returns_einval),
		cmocka_unit_test(double_and_real_kvm_agree_on_random_steps),
	};
	const struct CMUnitTest channel_tests[] = {
		cmocka_unit_test(double_and_real_kvm_agree_on_channels),
	};
	const struct CMUnitTest dirty_tests[] = {
		cmocka_unit_test(double_and_real_kvm_agree_on_what_a_guest_marks),
		cmocka_unit_test(double_and_real_kvm_agree_on_what_is_in_a_ring),
	};
	int r = 0;

	if (!part || strcmp(part, "random") == 0)
		r += cmocka_run_group_tests_name("live", tests, NULL, NULL);
	if (!part || strcmp(part, "dirty") == 0)
		r += cmocka_run_group_tests_name("live, dirty pages", dirty_tests, NULL, NULL);
	if (!part || strcmp(part, "channels") == 0)
		r += cmocka_run_group_tests_name("live, channels", channel_tests, NULL, NULL);
	if (!part || strcmp(part, "table") == 0)
		r += run_table("table on the real KVM", run_sequence_live);
	return r;
}

int main(int argc, char **argv)
{
	int r;

	system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (system_fd < 0) {
		bool required = number_from("KVMAS_REQUIRE_KVM", 0) == 1;

		print_message("live: %s: /dev/kvm: %s\n", required ? "failed" : "skipped",
			      strerror(errno));
		return required;
	}
	probe_guest();
	print_limits();
	r = run(argc > 1 ? argv[1] : NULL);
	close(system_fd);
	return r ? 1 : 0;
}

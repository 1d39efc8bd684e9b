/* SPDX-License-Identifier: MIT */
/*
 * The double's buses: ioeventfds, coalesced zones and their ring, what a guest's store does with
 * them, and what snapshots, comparisons and the check of the invariants know of them. The rules
 * themselves are rows of the table (kvm-table-bus.c), which a real KVM is asked, too.
 */
#include "fake-kvm-fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIO KVM_IOEVENTFD_FLAG_PIO
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define OFF KVM_IOEVENTFD_FLAG_DEASSIGN

enum { RING_ENTRIES = 170 };

static int event(struct fake_kvm *kvm, int fd, uint64_t addr, uint32_t len, uint32_t flags)
{
	struct kvm_ioeventfd args = {
		.datamatch = 7, .addr = addr, .len = len, .fd = fd, .flags = flags};

	return call(kvm, KVM_IOEVENTFD, &args);
}

static int zone(struct fake_kvm *kvm, unsigned long request, uint64_t addr, uint32_t size,
		uint32_t pio)
{
	struct kvm_coalesced_mmio_zone args = {.addr = addr, .size = size, .pio = pio};

	return call(kvm, request, &args);
}

static int add_zone(struct fake_kvm *kvm, uint64_t addr, uint32_t size, uint32_t pio)
{
	return zone(kvm, KVM_REGISTER_COALESCED_MMIO, addr, size, pio);
}

static int del_zone(struct fake_kvm *kvm, uint64_t addr, uint32_t size, uint32_t pio)
{
	return zone(kvm, KVM_UNREGISTER_COALESCED_MMIO, addr, size, pio);
}

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void assert_signals(int fd, uint64_t expected)
{
	uint64_t value = 0;

	if (read(fd, &value, sizeof(value)) < 0)
		assert_int_equal(errno, EAGAIN);
	assert_int_equal(value, expected);
}

static int put(struct fake_kvm_vcpu *vcpu, uint64_t gpa, uint64_t value, unsigned size)
{
	return fake_kvm_vcpu_store(vcpu, 0, gpa, &value, size);
}

static struct kvm_coalesced_mmio_ring *ring_of(const struct fake_kvm_vcpu *vcpu)
{
	return (void *)((char *)vcpu->run + pages(FAKE_KVM_RING_PAGE));
}

/* ---- ioeventfds ---- */

static void store_signals_the_eventfd_that_matches(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	int any = new_eventfd(), seven = new_eventfd(), wide = new_eventfd();

	assert_int_equal(event(kvm, seven, 0x1000, 4, MATCH), 0);
	assert_int_equal(event(kvm, any, 0x1000, 2, 0), 0);
	assert_int_equal(event(kvm, wide, 0x2000, 0, 0), 0);
	assert_int_equal(put(vcpu, 0x1000, 7, 4), 0);
	assert_int_equal(put(vcpu, 0x1000, 8, 4), 1);
	assert_int_equal(put(vcpu, 0x1000, 9, 2), 0);
	assert_int_equal(put(vcpu, 0x1000, 7, 1), 1);
	assert_int_equal(put(vcpu, 0x1000, 7, 8), 1);
	assert_int_equal(put(vcpu, 0x1001, 7, 4), 1);
	assert_int_equal(put(vcpu, 0x2000, 7, 1), 0);
	assert_int_equal(put(vcpu, 0x2000, 7, 8), 0);
	assert_int_equal(put(vcpu, 0x2001, 7, 1), 1);
	assert_signals(seven, 1);
	assert_signals(any, 1);
	assert_signals(wide, 2);
	close(any);
	close(seven);
	close(wide);
}

static void eventfd_is_the_file_behind_the_descriptor(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	int fd = new_eventfd(), same = dup(fd), other = new_eventfd();

	assert_int_equal(event(kvm, fd, 0x1000, 4, 0), 0);
	assert_int_equal(event(kvm, other, 0x1000, 4, OFF), -ENOENT);
	close(fd);
	assert_int_equal(put(vcpu, 0x1000, 1, 4), 0);
	assert_signals(same, 1);
	assert_int_equal(event(kvm, fd, 0x1000, 4, OFF), -EBADF);
	assert_int_equal(event(kvm, same, 0x1000, 4, OFF), 0);
	assert_int_equal(put(vcpu, 0x1000, 1, 4), 1);
	assert_int_equal(event(kvm, STDOUT_FILENO, 0x1000, 4, 0), -EINVAL);
	assert_int_equal(event(kvm, -1, 0x1000, 4, 0), -EBADF);
	close(same);
	close(other);
}

static void eventfd_that_is_full_stays_so(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	const uint64_t full = UINT64_MAX - 1;
	int fd = eventfd(0, 0); /* a write to it would wait */

	assert_int_equal(event(kvm, fd, 0x1000, 4, 0), 0);
	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(put(vcpu, 0x1000, 1, 4), 0);
	assert_signals(fd, full);
	close(fd);
}

/* ---- zones and their ring ---- */

static void store_in_a_zone_is_an_entry_of_the_ring_of_all_vcpus(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *first = fake_kvm_add_vcpu(kvm), *second = fake_kvm_add_vcpu(kvm);
	const struct kvm_coalesced_mmio_ring *ring = ring_of(first);
	const uint64_t value = 0x0102030405060708;
	const uint8_t byte = 0x55;

	assert_int_equal(add_zone(kvm, 0x1000, 16, 0), 0);
	assert_int_equal(add_zone(kvm, 0x80, 1, 1), 0);
	assert_int_equal(put(first, 0x1008, value, 8), 0);
	assert_int_equal(fake_kvm_vcpu_out(second, 0x80, &byte, 1), 0);
	assert_int_equal(put(second, 0x1009, value, 8), 1);
	assert_int_equal(ring->last, 2);
	assert_int_equal(ring->first, 0);
	assert_int_equal(ring->coalesced_mmio[0].phys_addr, 0x1008);
	assert_int_equal(ring->coalesced_mmio[0].len, 8);
	assert_int_equal(ring->coalesced_mmio[0].pio, 0);
	assert_memory_equal(ring->coalesced_mmio[0].data, &value, 8);
	assert_int_equal(ring->coalesced_mmio[1].phys_addr, 0x80);
	assert_int_equal(ring->coalesced_mmio[1].len, 1);
	assert_int_equal(ring->coalesced_mmio[1].pio, 1);
	assert_int_equal(ring->coalesced_mmio[1].data[0], byte);
	ring_of(second)->first = 1;
	assert_int_equal(ring->first, 1);
}

static unsigned stores_until_exit(struct fake_kvm_vcpu *vcpu)
{
	unsigned n = 0;

	while (put(vcpu, 0x1000, n, 4) == 0)
		n++;
	return n;
}

static void full_ring_is_an_exit_until_it_is_drained(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){.version = FAKE_KVM_6_12});
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	struct kvm_coalesced_mmio_ring *ring = ring_of(vcpu);

	(void)state;
	assert_int_equal(add_zone(kvm, 0x1000, 4, 0), 0);
	for (unsigned start = 0; start < RING_ENTRIES; start += 13) {
		ring->first = ring->last = start;
		assert_int_equal(stores_until_exit(vcpu), RING_ENTRIES - 1);
		assert_int_equal(vcpu->run->exit_reason, KVM_EXIT_MMIO);
		assert_int_equal(vcpu->run->mmio.data[0], RING_ENTRIES - 1);
		ring->first = (ring->first + 3) % RING_ENTRIES;
		assert_int_equal(stores_until_exit(vcpu), 3);
	}
	fake_kvm_free(kvm);
}

static void ring_with_forged_indices_is_an_exit(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	struct kvm_coalesced_mmio_ring *ring = ring_of(vcpu);
	const uint32_t forged[] = {RING_ENTRIES, RING_ENTRIES + 1, 0x7fffffff, UINT32_MAX};

	assert_int_equal(add_zone(kvm, 0x1000, 4, 0), 0);
	for (size_t i = 0; i < LENGTH(forged); i++) {
		ring->last = forged[i];
		assert_int_equal(put(vcpu, 0x1000, 1, 4), 1);
		assert_int_equal(ring->last, forged[i]);
	}
}

/* ---- a guest's accesses ---- */

static void memory_comes_before_the_bus(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	uint64_t *memory = mmap((void *)(UINT64_C(1) << 30), pages(2), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	uint64_t value = 3, loaded = 0;

	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(add_zone(kvm, 0, (uint32_t)pages(16), 0), 0);
	assert_int_equal(set(kvm, 0, 0, 1, LOG), 0);
	assert_int_equal(set(kvm, SPACE_1, 0, 1, RO), 0);
	assert_int_equal(put(vcpu, 8, 5, 8), 0);
	assert_int_equal(memory[1], 5);
	assert_int_equal(ring_of(vcpu)->last, 0);
	assert_log(kvm, 0, 0, 1);
	assert_int_equal(fake_kvm_vcpu_store(vcpu, 1, 8, &value, 8), 0);
	assert_int_equal(memory[1], 5);
	assert_int_equal(ring_of(vcpu)->last, 1);
	assert_int_equal(fake_kvm_vcpu_load(vcpu, 1, 8, &loaded, 8), 0);
	assert_int_equal(loaded, 5);
	munmap(memory, pages(2));
}

static void exit_says_what_was_accessed(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	const struct kvm_run *run = vcpu->run;
	uint32_t value = 0x11223344;

	assert_int_equal(fake_kvm_vcpu_store(vcpu, 1, 0x5004, &value, 4), 1);
	assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(run->mmio.phys_addr, 0x5004);
	assert_int_equal(run->mmio.len, 4);
	assert_int_equal(run->mmio.is_write, 1);
	assert_memory_equal(run->mmio.data, &value, 4);
#ifdef KVM_RUN_X86_SMM
	assert_int_equal(run->flags, KVM_RUN_X86_SMM);
#endif
	assert_int_equal(fake_kvm_vcpu_load(vcpu, 0, 0x5004, &value, 4), 1);
	assert_int_equal(run->mmio.is_write, 0);
	assert_int_equal(run->flags, 0);
	assert_int_equal(fake_kvm_vcpu_out(vcpu, 0xcf8, &value, 4), 1);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(run->io.direction, KVM_EXIT_IO_OUT);
	assert_int_equal(run->io.port, 0xcf8);
	assert_int_equal(run->io.size, 4);
	assert_int_equal(run->io.count, 1);
	assert_memory_equal((const char *)run + run->io.data_offset, &value, 4);
	assert_int_equal(fake_kvm_vcpu_in(vcpu, 0x60, 1), 1);
	assert_int_equal(run->io.direction, KVM_EXIT_IO_IN);
}

static void access_that_is_none_returns_einval(void **state)
{
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(*state);

	assert_int_equal(put(vcpu, 0, 0, 0), -EINVAL);
	assert_int_equal(put(vcpu, 0, 0, 9), -EINVAL);
	assert_int_equal(put(vcpu, pages(1) - 1, 0, 2), -EINVAL);
	assert_int_equal(fake_kvm_vcpu_in(vcpu, 0x60, 8), -EINVAL);
	assert_int_equal(fake_kvm_vcpu_store(vcpu, 2, 0, "", 1), -EINVAL);
}

static void loads_are_for_user_space(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	int fd = new_eventfd();
	uint32_t value;

	assert_int_equal(add_zone(kvm, 0x1000, 16, 0), 0);
	assert_int_equal(event(kvm, fd, 0x2000, 0, 0), 0);
	assert_int_equal(event(kvm, fd, 0x80, 1, PIO), 0);
	assert_int_equal(fake_kvm_vcpu_load(vcpu, 0, 0x1000, &value, 4), 1);
	assert_int_equal(fake_kvm_vcpu_load(vcpu, 0, 0x2000, &value, 4), 1);
	assert_int_equal(fake_kvm_vcpu_in(vcpu, 0x80, 1), 1);
	assert_int_equal(ring_of(vcpu)->last, 0);
	assert_signals(fd, 0);
	close(fd);
}

/* ---- calls ---- */

static void calls_are_counted_recorded_and_refused(void **state)
{
	struct fake_kvm *kvm = *state;
	int fd = new_eventfd();
	const struct fake_kvm_call *calls;

	assert_int_equal(event(kvm, fd, 0x1000, 4, MATCH), 0);
	assert_int_equal(event(kvm, fd, 0x1000, 4, MATCH | OFF), 0);
	assert_int_equal(add_zone(kvm, 0x80, 2, 1), 0);
	assert_int_equal(del_zone(kvm, 0x80, 2, 1), 0);
	fake_kvm_fail_at(kvm, 1, ENOMEM);
	assert_int_equal(add_zone(kvm, 0x80, 2, 1), -ENOMEM);
	assert_int_equal(kvm->buses[FAKE_KVM_PIO_BUS].ndevices, 0);
	calls = kvm->calls;
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(calls[i].op, FAKE_KVM_ASSIGN + i);
		assert_int_equal(kvm->count[FAKE_KVM_ASSIGN + i], 1);
	}
	assert_int_equal(calls[0].gpa, 0x1000);
	assert_int_equal(calls[0].size, 4);
	assert_int_equal(calls[0].fd, fd);
	assert_int_equal(calls[0].datamatch, 7);
	assert_int_equal(calls[0].flags, MATCH);
	assert_int_equal(calls[2].gpa, 0x80);
	assert_int_equal(calls[2].size, 2);
	assert_int_equal(calls[2].flags, 1);
	assert_int_equal(calls[4].result, -ENOMEM);
	close(fd);
}

static void kvm_that_lacks_channels_says_so(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){
		.no_ioeventfd = true, .no_any_length = true, .no_coalesced_mmio = true});
	const uintptr_t caps[] = {KVM_CAP_IOEVENTFD, KVM_CAP_IOEVENTFD_ANY_LENGTH,
				  KVM_CAP_COALESCED_MMIO, KVM_CAP_COALESCED_PIO};
	int fd = new_eventfd();

	for (size_t i = 0; i < LENGTH(caps); i++) {
		assert_int_equal(check(kvm, caps[i]), 0);
		assert_true(check(*state, caps[i]) > 0);
	}
	assert_int_equal(check(*state, KVM_CAP_COALESCED_MMIO), 2);
	assert_int_equal(event(kvm, fd, 0x1000, 4, 0), -ENOSYS);
	assert_int_equal(add_zone(kvm, 0x1000, 4, 0), -ENOTTY);
	assert_int_equal(del_zone(kvm, 0x1000, 4, 0), -ENOTTY);
	fake_kvm_free(kvm);

	kvm = fake_kvm_new(
		&(struct fake_kvm_config){.no_any_length = true, .no_coalesced_pio = true});
	assert_int_equal(event(kvm, fd, 0x1000, 0, 0), -EINVAL);
	assert_int_equal(event(kvm, fd, 0x1000, 1, 0), 0);
	assert_int_equal(add_zone(kvm, 0x80, 1, 1), 0);
	assert_int_equal(kvm->buses[FAKE_KVM_MMIO_BUS].ndevices, 2);
	fake_kvm_free(kvm);
	close(fd);
}

/* ---- snapshots and invariants ---- */

static void snapshot_has_the_same_channels_until_they_change(void **state)
{
	struct fake_kvm *kvm = *state, *before;
	int fd = new_eventfd(), other = new_eventfd();

	assert_int_equal(event(kvm, fd, 0x1000, 4, MATCH), 0);
	assert_int_equal(event(kvm, fd, 0x2000, 0, 0), 0);
	assert_int_equal(add_zone(kvm, 0x3000, 8, 0), 0);
	before = fake_kvm_snapshot(kvm);
	assert_valid(before);
	assert_true(fake_kvm_equal_slots(before, kvm));
	assert_int_equal(add_zone(kvm, 0x3000, 8, 0), 0);
	assert_false(fake_kvm_equal_slots(before, kvm));
	assert_int_equal(del_zone(kvm, 0x3000, 8, 0), 0);
	assert_int_equal(add_zone(kvm, 0x3000, 8, 0), 0);
	assert_true(fake_kvm_equal(before, kvm));
	assert_int_equal(event(kvm, fd, 0x1000, 4, MATCH | OFF), 0);
	assert_false(fake_kvm_equal(before, kvm));
	assert_int_equal(event(kvm, other, 0x1000, 4, MATCH), 0);
	assert_false(fake_kvm_equal(before, kvm));
	assert_int_equal(event(kvm, other, 0x1000, 4, MATCH | OFF), 0);
	assert_int_equal(event(kvm, fd, 0x1000, 4, MATCH), 0);
	assert_true(fake_kvm_equal(before, kvm));
	fake_kvm_free(before);
	close(fd);
	close(other);
}

static void what_is_in_the_ring_differs_but_for_equal_slots(void **state)
{
	struct fake_kvm *kvm = *state, *before;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);

	assert_int_equal(add_zone(kvm, 0x3000, 8, 0), 0);
	assert_int_equal(put(vcpu, 0x3000, 1, 1), 0);
	before = fake_kvm_snapshot(kvm);
	assert_valid(before);
	assert_true(fake_kvm_equal(before, kvm));
	assert_int_equal(put(vcpu, 0x3000, 2, 1), 0);
	assert_false(fake_kvm_equal(before, kvm));
	assert_true(fake_kvm_equal_slots(before, kvm));
	fake_kvm_free(before);
}

static void snapshot_signals_and_coalesces_for_itself(void **state)
{
	struct fake_kvm *kvm = *state, *copy;
	int fd = new_eventfd();

	fake_kvm_add_vcpu(kvm);
	assert_int_equal(event(kvm, fd, 0x1000, 4, 0), 0);
	assert_int_equal(add_zone(kvm, 0x3000, 8, 0), 0);
	copy = fake_kvm_snapshot(kvm);
	assert_int_equal(event(kvm, fd, 0x1000, 4, OFF), 0);
	assert_int_equal(put(copy->vcpus[0], 0x1000, 1, 4), 0);
	assert_int_equal(put(copy->vcpus[0], 0x3000, 1, 4), 0);
	assert_int_equal(put(kvm->vcpus[0], 0x1000, 1, 4), 1);
	assert_signals(fd, 1);
	assert_int_equal(ring_of(kvm->vcpus[0])->last, 0);
	assert_int_equal(ring_of(copy->vcpus[0])->last, 1);
	fake_kvm_free(copy);
	close(fd);
}

static void assert_invalid(struct fake_kvm *kvm, const char *name)
{
	const char *wrong = fake_kvm_validate(kvm);

	assert_non_null(wrong);
	assert_memory_equal(wrong, name, strlen(name));
}

static void validate_finds_what_is_wrong_with_buses(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_bus *mmio = &kvm->buses[FAKE_KVM_MMIO_BUS];
	struct fake_kvm_bus *fast = &kvm->buses[FAKE_KVM_FAST_BUS];
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	int fd = new_eventfd();

	assert_int_equal(event(kvm, fd, 0x1000, 0, 0), 0);
	assert_int_equal(event(kvm, fd, 0x2000, 4, MATCH), 0);
	assert_int_equal(add_zone(kvm, 0x3000, 8, 0), 0);
	assert_valid(kvm);
	mmio->nevents++;
	assert_invalid(kvm, "I9");
	mmio->nevents--;
	kvm->config.bus_devices = 0;
	assert_invalid(kvm, "I9");
	kvm->config.bus_devices = 1000;
	mmio->devices[1].addr = 0x1000;
	assert_invalid(kvm, "I10");
	mmio->devices[1].addr = 0x2000;
	fast->devices[0].addr++;
	assert_invalid(kvm, "I10");
	fast->devices[0].addr--;
	mmio->devices[0].len = 1;
	assert_invalid(kvm, "I10");
	mmio->devices[0].len = 0;
	mmap(ring_of(vcpu), pages(1), PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ring_of(vcpu)->first = 1;
	assert_invalid(kvm, "I11");
	ring_of(vcpu)->first = 0;
	assert_valid(kvm);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(store_signals_the_eventfd_that_matches),
		KVM_TEST(eventfd_is_the_file_behind_the_descriptor),
		KVM_TEST(eventfd_that_is_full_stays_so),
		KVM_TEST(store_in_a_zone_is_an_entry_of_the_ring_of_all_vcpus),
		KVM_TEST(full_ring_is_an_exit_until_it_is_drained),
		KVM_TEST(ring_with_forged_indices_is_an_exit),
		KVM_TEST(memory_comes_before_the_bus),
		KVM_TEST(exit_says_what_was_accessed),
		KVM_TEST(access_that_is_none_returns_einval),
		KVM_TEST(loads_are_for_user_space),
		KVM_TEST(calls_are_counted_recorded_and_refused),
		KVM_TEST(kvm_that_lacks_channels_says_so),
		KVM_TEST(snapshot_has_the_same_channels_until_they_change),
		KVM_TEST(what_is_in_the_ring_differs_but_for_equal_slots),
		KVM_TEST(snapshot_signals_and_coalesces_for_itself),
		KVM_TEST(validate_finds_what_is_wrong_with_buses),
	};

	return cmocka_run_group_tests_name("buses of the double", tests, NULL, NULL);
}

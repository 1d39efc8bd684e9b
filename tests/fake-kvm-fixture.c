/* SPDX-License-Identifier: MIT */
/*
 * See fake-kvm-fixture.h: a double, and its ioctls in one line each. What the double does is tested
 * elsewhere.
 */
#include "fake-kvm-fixture.h"

#include <stdio.h>
#include <unistd.h>

uint64_t pages(uint64_t n)
{
	return n * (uint64_t)sysconf(_SC_PAGESIZE);
}

int call(struct fake_kvm *kvm, unsigned long request, void *arg)
{
	return fake_kvm_ioctl(kvm, kvm->fd, request, arg);
}

int check(struct fake_kvm *kvm, uintptr_t cap)
{
	return call(kvm, KVM_CHECK_EXTENSION, (void *)cap);
}

int set(struct fake_kvm *kvm, uint32_t slot, uint64_t gfn, uint64_t npages, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = pages(gfn),
		.memory_size = pages(npages),
		.userspace_addr = 1 << 30,
	};

	return call(kvm, KVM_SET_USER_MEMORY_REGION, &region);
}

int get(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint64_t *bits)
{
	struct kvm_dirty_log log = {.slot = as_id << 16 | id, .dirty_bitmap = bits};

	return call(kvm, KVM_GET_DIRTY_LOG, &log);
}

int clear(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint32_t num_pages, uint64_t bits)
{
	struct kvm_clear_dirty_log log = {
		.slot = as_id << 16 | id,
		.num_pages = num_pages,
		.dirty_bitmap = &bits,
	};

	return call(kvm, KVM_CLEAR_DIRTY_LOG, &log);
}

int set_manual(struct fake_kvm *kvm, uint64_t options)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {options},
	};

	return call(kvm, KVM_ENABLE_CAP, &cap);
}

int set_ring(struct fake_kvm *kvm, uint64_t size)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args = {size}};

	return call(kvm, KVM_ENABLE_CAP, &cap);
}

int reset_rings(struct fake_kvm *kvm)
{
	return call(kvm, KVM_RESET_DIRTY_RINGS, NULL);
}

int store(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gfn)
{
	return fake_kvm_vcpu_write(vcpu, as_id, pages(gfn), 8);
}

void assert_harvest(struct fake_kvm_vcpu *vcpu, uint32_t from, const char *expected)
{
	uint32_t mask = vcpu->kvm->ring_size / sizeof(*vcpu->ring) - 1;
	char text[1024] = "";
	size_t length = 0;

	for (; vcpu->ring[from & mask].flags == KVM_DIRTY_GFN_F_DIRTY; from++) {
		struct kvm_dirty_gfn *entry = &vcpu->ring[from & mask];

		if (length + 32 < sizeof(text))
			length += (size_t)snprintf(text + length, 32, "%x:%llu ", entry->slot,
						   (unsigned long long)entry->offset);
		entry->flags |= KVM_DIRTY_GFN_F_RESET;
	}
	assert_string_equal(text, expected);
}

int write_page(struct fake_kvm *kvm, unsigned as_id, uint64_t gfn)
{
	return fake_kvm_write(kvm, as_id, pages(gfn), 8);
}

int read_page(struct fake_kvm *kvm, unsigned as_id, uint64_t gfn)
{
	return fake_kvm_read(kvm, as_id, pages(gfn), 8);
}

void assert_valid(const struct fake_kvm *kvm)
{
	const char *wrong = fake_kvm_validate(kvm);

	if (wrong)
		fail_msg("%s", wrong);
}

void assert_log(struct fake_kvm *kvm, unsigned as_id, unsigned id, uint64_t expected)
{
	uint64_t bits = 0;

	assert_int_equal(get(kvm, as_id, id, &bits), 0);
	assert_int_equal(bits, expected);
}

int make_kvm(void **state)
{
	*state = fake_kvm_new(NULL);
	return 0;
}

int free_kvm(void **state)
{
	const char *wrong = fake_kvm_validate(*state);

	if (wrong)
		print_error("%s\n", wrong);
	fake_kvm_free(*state);
	return wrong ? -1 : 0;
}

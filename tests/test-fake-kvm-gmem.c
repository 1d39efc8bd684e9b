/* SPDX-License-Identifier: MIT */
/*
 * The double's guest_memfd, slots that are bound to one, memory attributes, and where a guest's
 * accesses then go. What a real KVM of this type can be asked for is also in the table
 * (kvm-table-gmem.c); VMs with private memory are the double's alone here.
 */
#include "fake-kvm-fixture.h"
#include "fake-kvm-uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MMAP GUEST_MEMFD_FLAG_MMAP
#define SHARED GUEST_MEMFD_FLAG_INIT_SHARED
#define PRIVATE KVM_MEMORY_ATTRIBUTE_PRIVATE

static const struct fake_kvm_config plain = {.version = FAKE_KVM_6_18};
static const struct fake_kvm_config private = {.version = FAKE_KVM_6_18, .private_vm = true};

static int create(struct fake_kvm *kvm, uint64_t size, uint64_t flags)
{
	struct kvm_create_guest_memfd args = {.size = size, .flags = flags};

	return call(kvm, KVM_CREATE_GUEST_MEMFD, &args);
}

/* A slot whose memory is at 1 GiB, with a guest_memfd from a page on. */
static int bind(struct fake_kvm *kvm, uint32_t slot, uint64_t gfn, uint64_t npages, int fd,
		uint64_t page)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = pages(gfn),
		.memory_size = pages(npages),
		.userspace_addr = 1 << 30,
		.guest_memfd = (uint32_t)fd,
		.guest_memfd_offset = pages(page),
	};

	return call(kvm, KVM_SET_USER_MEMORY_REGION2, &region);
}

static int attribute(struct fake_kvm *kvm, uint64_t gpa, uint64_t size, uint64_t attributes)
{
	struct kvm_memory_attributes args = {
		.address = gpa, .size = size, .attributes = attributes};

	return call(kvm, KVM_SET_MEMORY_ATTRIBUTES, &args);
}

static void end(struct fake_kvm *kvm, int fd)
{
	assert_valid(kvm);
	fake_kvm_free(kvm);
	if (fd >= 0)
		close(fd);
}

/* ---- files ---- */

static void create_checks_flags_and_size(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&plain), *secret = fake_kvm_new(&private);
	const struct {
		uint64_t size;
		uint64_t flags;
	} wrong[] = {
		{0, 0},
		{1, 0},
		{pages(1) + 1, 0},
		{UINT64_C(1) << 63, 0},
		{pages(1), 4},
		{pages(1), UINT64_C(1) << 63},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(wrong); i++)
		assert_int_equal(create(kvm, wrong[i].size, wrong[i].flags), -EINVAL);
	for (uint64_t flags = 0; flags < 4; flags++) {
		int fd = create(kvm, pages(3), flags);

		assert_true(fd >= 0);
		assert_int_equal(lseek(fd, 0, SEEK_END), pages(3));
		close(fd);
		if (flags)
			assert_int_equal(create(secret, pages(1), flags), -EINVAL);
	}
	assert_int_equal(call(kvm, KVM_CREATE_GUEST_MEMFD, NULL), -EFAULT);
	end(kvm, -1);
	end(secret, -1);
}

static void file_is_mapped_only_with_its_flag(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&plain);
	int fd = create(kvm, pages(2), MMAP | SHARED), hidden = create(kvm, pages(2), 0);
	char *memory = mmap(NULL, pages(2), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)state;
	assert_ptr_not_equal(memory, MAP_FAILED);
	memory[0] = 1;
	munmap(memory, pages(2));
	assert_ptr_equal(mmap(NULL, pages(2), PROT_READ, MAP_SHARED, hidden, 0), MAP_FAILED);
	assert_int_equal(ftruncate(fd, (off_t)pages(4)), -1);
	assert_int_equal(
		fallocate(hidden, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)pages(1)),
		0);
	close(hidden);
	end(kvm, fd);
}

static void capabilities_are_those_of_version_and_type(void **state)
{
	const struct {
		struct fake_kvm_config config;
		int memfd, flags, attributes, types;
	} rows[] = {
		{{.version = FAKE_KVM_6_1}, 0, 0, 0, 0},
		{{.version = FAKE_KVM_6_12}, 0, 0, 0, 1},
		{{.version = FAKE_KVM_6_18}, 1, 3, 0, 1},
		{{.version = FAKE_KVM_6_12, .private_vm = true}, 1, 0, 8, 3},
		{{.version = FAKE_KVM_6_18, .private_vm = true}, 1, 0, 8, 3},
		{{.version = FAKE_KVM_6_18, .no_gmem_flags = true}, 1, 0, 0, 1},
		{{.version = FAKE_KVM_6_18, .no_guest_memfd = true}, 0, 0, 0, 1},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct fake_kvm *kvm = fake_kvm_new(&rows[i].config);
		int fd = create(kvm, pages(1), 0);

		assert_int_equal(check(kvm, KVM_CAP_GUEST_MEMFD), rows[i].memfd);
		assert_int_equal(check(kvm, KVM_CAP_GUEST_MEMFD_FLAGS), rows[i].flags);
		assert_int_equal(check(kvm, KVM_CAP_MEMORY_ATTRIBUTES), rows[i].attributes);
		assert_int_equal(check(kvm, KVM_CAP_VM_TYPES), rows[i].types);
		assert_int_equal(check(kvm, KVM_CAP_MEMORY_FAULT_INFO), rows[i].types != 0);
		assert_int_equal(check(kvm, KVM_CAP_USER_MEMORY2), rows[i].types != 0);
		assert_int_equal(fd < 0 ? fd : 0, rows[i].memfd ? 0 : -ENOTTY);
		assert_int_equal(kvm->config.spaces, rows[i].attributes ? 1 : 2);
		end(kvm, fd);
	}
}

/* ---- slots ---- */

static void file_is_known_by_what_is_behind_the_descriptor(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&plain), *other = fake_kvm_new(&plain);
	int fd = create(kvm, pages(8), 0), same = dup(fd), foreign = create(other, pages(8), 0);

	(void)state;
	assert_int_equal(bind(kvm, 0, 0, 2, -1, 0), -EBADF);
	assert_int_equal(bind(kvm, 0, 0, 2, STDOUT_FILENO, 0), -EINVAL);
	assert_int_equal(bind(kvm, 0, 0, 2, foreign, 0), -EINVAL);
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), 0);
	assert_int_equal(bind(kvm, 1, 2, 2, same, 1), -EINVAL);
	assert_int_equal(bind(kvm, SPACE_1, 2, 2, same, 1), -EINVAL);
	assert_int_equal(bind(kvm, 1, 2, 2, same, 2), 0);
	assert_int_equal(bind(kvm, 2, 4, 5, same, 4), -EINVAL);
	assert_int_equal(bind(kvm, 2, 4, 1, same, 8), -EINVAL);
	assert_int_equal(bind(kvm, SPACE_1, 4, 4, same, 4), 0);
	assert_int_equal(bind(kvm, 2, 4, 4, same, 4), -EINVAL);
	close(foreign);
	close(same);
	end(other, -1);
	end(kvm, fd);
}

static void bound_slot_can_only_be_deleted(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&plain);
	int fd = create(kvm, pages(8), 0);

	(void)state;
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), 0);
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), -EINVAL);
	assert_int_equal(bind(kvm, 0, 8, 2, fd, 0), -EINVAL);
	assert_int_equal(set(kvm, 0, 0, 2, 0), -EINVAL);
	assert_int_equal(set(kvm, 0, 8, 2, 0), -EINVAL);
	assert_int_equal(set(kvm, 0, 0, 2, LOG), -EINVAL);
	assert_int_equal(bind(kvm, 1, 8, 2, fd, 0), -EINVAL);
	assert_int_equal(set(kvm, 0, 0, 0, 0), 0);
	assert_int_equal(bind(kvm, 1, 8, 2, fd, 0), 0);
	assert_int_equal(kvm->calls[kvm->ncalls - 1].fd, fd);
	end(kvm, fd);
}

static void create_that_is_refused_later_binds_nothing(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&plain);
	int fd = create(kvm, pages(8), 0);

	(void)state;
	assert_int_equal(bind(kvm, 0, kvm->config.max_gfn + 1, 2, fd, 0), -EINVAL);
	fake_kvm_fail_alloc(kvm, FAKE_KVM_ALLOC_ARRAYS, 1);
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), -ENOMEM);
	assert_int_equal(bind(kvm, 0, 0, 8, fd, 0), 0);
	end(kvm, fd);
}

/* ---- attributes ---- */

static void attributes_are_checked(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&private), *none = fake_kvm_new(&plain);
	struct kvm_memory_attributes flags = {.size = pages(1), .flags = 1};

	(void)state;
	assert_int_equal(call(kvm, KVM_SET_MEMORY_ATTRIBUTES, &flags), -EINVAL);
	assert_int_equal(call(kvm, KVM_SET_MEMORY_ATTRIBUTES, NULL), -EFAULT);
	assert_int_equal(attribute(kvm, 0, pages(1), PRIVATE | 1), -EINVAL);
	assert_int_equal(attribute(kvm, 0, 0, PRIVATE), -EINVAL);
	assert_int_equal(attribute(kvm, 1, pages(1), PRIVATE), -EINVAL);
	assert_int_equal(attribute(kvm, 0, 1, PRIVATE), -EINVAL);
	assert_int_equal(attribute(kvm, 0 - pages(1), pages(1), PRIVATE), -EINVAL);
	assert_int_equal(attribute(kvm, 0 - pages(2), pages(1), PRIVATE), 0);
	assert_int_equal(attribute(none, 0, pages(1), 0), -ENOTTY);
	none->config.plain_attributes = true;
	assert_int_equal(attribute(none, 0, pages(1), 0), 0);
	assert_int_equal(attribute(none, 0, pages(1), PRIVATE), -EINVAL);
	end(none, -1);
	end(kvm, -1);
}

static void attributes_are_of_pages_whatever_slots_there_are(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&private);

	(void)state;
	assert_int_equal(attribute(kvm, pages(4), pages(8), PRIVATE), 0);
	assert_int_equal(set(kvm, 0, 0, 16, 0), 0);
	assert_int_equal(set(kvm, 0, 0, 0, 0), 0);
	assert_int_equal(attribute(kvm, pages(6), pages(2), 0), 0);
	assert_int_equal(kvm->nprivate, 2);
	for (uint64_t gfn = 0; gfn < 16; gfn++)
		assert_int_equal(fake_kvm_attributes(kvm, pages(gfn) + 1),
				 gfn >= 4 && gfn < 12 && gfn != 6 && gfn != 7 ? PRIVATE : 0);
	assert_int_equal(attribute(kvm, pages(6), pages(2), PRIVATE), 0);
	assert_int_equal(kvm->nprivate, 1);
	assert_int_equal(attribute(kvm, 0, pages(64), 0), 0);
	assert_int_equal(kvm->nprivate, 0);
	end(kvm, -1);
}

/* Page by page beside an array. */
static void attributes_are_as_a_simpler_model_has_them(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&private);
	bool model[32] = {false};
	unsigned seed = 1;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		unsigned first = (seed = seed * 1103515245 + 12345) >> 16 & 31;
		unsigned n = 1 + ((seed = seed * 1103515245 + 12345) >> 16) % (32 - first);
		bool on = (seed = seed * 1103515245 + 12345) >> 16 & 1;

		assert_int_equal(attribute(kvm, pages(first), pages(n), on ? PRIVATE : 0), 0);
		for (unsigned gfn = first; gfn < first + n; gfn++)
			model[gfn] = on;
		for (unsigned gfn = 0; gfn < 32; gfn++)
			assert_int_equal(!!fake_kvm_attributes(kvm, pages(gfn)), model[gfn]);
		assert_valid(kvm);
	}
	end(kvm, -1);
}

/* ---- what a guest reaches ---- */

static void *map_at_1_gib(void)
{
	void *memory = mmap((void *)(UINT64_C(1) << 30), pages(4), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void file_that_can_be_mapped_has_all_of_the_memory(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&plain);
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	int fd = create(kvm, pages(4), MMAP | SHARED), hidden = create(kvm, pages(4), 0);
	uint32_t *file = mmap(NULL, pages(4), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint32_t *memory = map_at_1_gib(), value = 5, loaded = 0;

	(void)state;
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 1), 0);
	assert_int_equal(bind(kvm, 1, 2, 2, hidden, 0), 0);
	assert_int_equal(fake_kvm_vcpu_store(vcpu, 0, 8, &value, 4), 0);
	assert_int_equal(file[pages(1) / 4 + 2], 5);
	assert_int_equal(memory[2], 0);
	assert_int_equal(fake_kvm_vcpu_load(vcpu, 0, 8, &loaded, 4), 0);
	assert_int_equal(loaded, 5);
	assert_int_equal(fake_kvm_vcpu_store(vcpu, 0, pages(2) + 8, &value, 4), 0);
	assert_int_equal(memory[2], 5);
	munmap(memory, pages(4));
	munmap(file, pages(4));
	close(hidden);
	end(kvm, fd);
}

static const struct fake_kvm_memory_fault *fault_of(const struct fake_kvm_vcpu *vcpu)
{
	assert_int_equal(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	return (const void *)&vcpu->run->hw;
}

static void private_page_is_in_the_file_and_needs_one(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&private);
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	int fd = create(kvm, pages(2), 0);
	uint32_t *memory = map_at_1_gib(), value = 5, loaded = 1;

	(void)state;
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), 0);
	assert_int_equal(set(kvm, 1, 2, 1, 0), 0);
	assert_int_equal(attribute(kvm, pages(1), pages(3), PRIVATE), 0);
	assert_int_equal(fake_kvm_vcpu_store(vcpu, 0, 0, &value, 4), 0);
	assert_int_equal(memory[0], 5);
	assert_int_equal(fake_kvm_vcpu_store(vcpu, 0, pages(1), &value, 4), 0);
	assert_int_equal(memory[pages(1) / 4], 0);
	assert_int_equal(attribute(kvm, pages(1), pages(1), 0), 0);
	assert_int_equal(fake_kvm_vcpu_load(vcpu, 0, pages(1), &loaded, 4), 0);
	assert_int_equal(loaded, 0);
	for (uint64_t gfn = 2; gfn < 4; gfn++) {
		assert_int_equal(fake_kvm_vcpu_store(vcpu, 0, pages(gfn) + 8, &value, 4), 1);
		assert_int_equal(fault_of(vcpu)->gpa, pages(gfn));
		assert_int_equal(fault_of(vcpu)->size, pages(1));
		assert_int_equal(fault_of(vcpu)->flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	}
	munmap(memory, pages(4));
	end(kvm, fd);
}

static void access_of_the_other_kind_is_a_fault_until_converted(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&private);
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);
	int fd = create(kvm, pages(2), 0);

	(void)state;
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), 0);
	assert_int_equal(fake_kvm_vcpu_fault(vcpu, pages(1) + 5, false), 0);
	assert_int_equal(fake_kvm_vcpu_fault(vcpu, pages(1) + 5, true), 1);
	assert_int_equal(fault_of(vcpu)->flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	assert_int_equal(fault_of(vcpu)->gpa, pages(1));
	assert_int_equal(attribute(kvm, pages(1), pages(1), PRIVATE), 0);
	assert_int_equal(fake_kvm_vcpu_fault(vcpu, pages(1) + 5, true), 0);
	assert_int_equal(fake_kvm_vcpu_fault(vcpu, pages(1) + 5, false), 1);
	assert_int_equal(fault_of(vcpu)->flags, 0);
	assert_int_equal(set(kvm, 0, 0, 0, 0), 0);
	assert_int_equal(fake_kvm_vcpu_fault(vcpu, pages(1), true), 1);
	end(kvm, fd);
}

/* ---- snapshots and invariants ---- */

static void snapshot_has_the_same_files_and_attributes(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&private), *before;
	int fd = create(kvm, pages(8), 0);

	(void)state;
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), 0);
	assert_int_equal(attribute(kvm, 0, pages(1), PRIVATE), 0);
	before = fake_kvm_snapshot(kvm);
	assert_valid(before);
	assert_true(fake_kvm_equal(before, kvm));
	assert_int_equal(attribute(kvm, 0, pages(2), PRIVATE), 0);
	assert_false(fake_kvm_equal(before, kvm));
	assert_int_equal(attribute(kvm, pages(1), pages(1), 0), 0);
	assert_true(fake_kvm_equal(before, kvm));
	assert_int_equal(set(kvm, 0, 0, 0, 0), 0);
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 1), 0);
	assert_false(fake_kvm_equal(before, kvm));
	assert_int_equal(bind(before, 1, 4, 2, fd, 1), -EINVAL);
	assert_int_equal(bind(before, 1, 4, 2, fd, 2), 0);
	fake_kvm_free(before);
	end(kvm, fd);
}

static void assert_invalid(struct fake_kvm *kvm, const char *name)
{
	const char *wrong = fake_kvm_validate(kvm);

	assert_non_null(wrong);
	assert_memory_equal(wrong, name, strlen(name));
}

static void validate_finds_what_is_wrong_with_files_and_attributes(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&private);
	int fd = create(kvm, pages(8), 0);
	struct fake_kvm_slot *slot;

	(void)state;
	assert_int_equal(bind(kvm, 0, 0, 2, fd, 0), 0);
	assert_int_equal(bind(kvm, 1, 2, 2, fd, 2), 0);
	assert_int_equal(attribute(kvm, 0, pages(1), PRIVATE), 0);
	assert_int_equal(attribute(kvm, pages(2), pages(1), PRIVATE), 0);
	slot = fake_kvm_find(kvm, 0, 0);
	slot->gmem = 0;
	assert_invalid(kvm, "I12");
	slot->gmem = 2;
	assert_invalid(kvm, "I12");
	slot->gmem = 1;
	slot->gmem_offset = pages(1);
	assert_invalid(kvm, "I12");
	slot->gmem_offset = pages(7);
	assert_invalid(kvm, "I12");
	slot->gmem_offset = 0;
	kvm->private_ranges[0].last = 1;
	assert_invalid(kvm, "I13");
	kvm->private_ranges[0].last = 0;
	end(kvm, fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create_checks_flags_and_size),
		cmocka_unit_test(file_is_mapped_only_with_its_flag),
		cmocka_unit_test(capabilities_are_those_of_version_and_type),
		cmocka_unit_test(file_is_known_by_what_is_behind_the_descriptor),
		cmocka_unit_test(bound_slot_can_only_be_deleted),
		cmocka_unit_test(create_that_is_refused_later_binds_nothing),
		cmocka_unit_test(attributes_are_checked),
		cmocka_unit_test(attributes_are_of_pages_whatever_slots_there_are),
		cmocka_unit_test(attributes_are_as_a_simpler_model_has_them),
		cmocka_unit_test(file_that_can_be_mapped_has_all_of_the_memory),
		cmocka_unit_test(private_page_is_in_the_file_and_needs_one),
		cmocka_unit_test(access_of_the_other_kind_is_a_fault_until_converted),
		cmocka_unit_test(snapshot_has_the_same_files_and_attributes),
		cmocka_unit_test(validate_finds_what_is_wrong_with_files_and_attributes),
	};

	return cmocka_run_group_tests_name("guest_memfd of the double", tests, NULL, NULL);
}

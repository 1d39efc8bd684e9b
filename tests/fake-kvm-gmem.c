/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: guest memory that only the guest and KVM have for sure, and which pages
 * of it are private (virt/kvm/guest_memfd.c, kvm_main.c: kvm_vm_ioctl_set_mem_attributes; Linux
 * 6.12 to 6.18). Slots that are bound to it are made in fake-kvm-region.c.
 *
 *     gmems[i] --fd--> memfd <--fd-- whoever asked for it      known by device and inode
 *     slot.gmem = i + 1, slot.gmem_offset                      where in it the slot begins
 *     private_ranges   [ gfn 16 ... 31 | gfn 64 ... 64 ]       of the VM, whatever slots there are
 *
 * What user space gets is a memfd that cannot change its size, open for writing only if it is not
 * to be mapped: mmap then gives EACCES, not ENODEV, and MAP_PRIVATE is not refused.
 *
 * Invariants (fake_kvm_validate):
 *   I12  A slot has a file if and only if it has KVM_MEM_GUEST_MEMFD; its pages are in the file,
 *        and no other slot's.
 *   I13  Private ranges are sorted, and neither overlap nor touch.
 *
 * Left out: what becomes of a slot when the last descriptor of its file is closed.
 */
#include "fake-kvm-inner.h"
#include "fake-kvm-uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what there is ---- */

/* A VM without private memory can have it from 6.18 on. */
bool fake_kvm_has_gmem(const struct fake_kvm_config *config)
{
	return !config->no_guest_memfd && (config->private_vm || config->version >= FAKE_KVM_6_18);
}

bool fake_kvm_has_attributes(const struct fake_kvm_config *config)
{
	return config->private_vm || config->plain_attributes;
}

/* kvm_gmem_get_supported_flags: what is private is never mapped. */
uint64_t fake_kvm_gmem_flags(const struct fake_kvm_config *config)
{
	if (!fake_kvm_has_gmem(config) || config->version < FAKE_KVM_6_18 || config->private_vm ||
	    config->no_gmem_flags)
		return 0;
	return GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
}

/* ---- files ---- */

static int make_file(uint64_t size)
{
	int fd = memfd_create("guest memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

static int open_again(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

static void remember(struct fake_kvm *kvm, const struct fake_kvm_gmem *gmem)
{
	kvm->gmems = realloc(kvm->gmems, (kvm->ngmems + 1) * sizeof(*kvm->gmems));
	if (!kvm->gmems)
		abort();
	kvm->gmems[kvm->ngmems++] = *gmem;
}

/* kvm_gmem_create: the new descriptor. */
int fake_kvm_create_gmem(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_create_guest_memfd *args = arg;
	struct fake_kvm_gmem gmem = {.size = args->size, .flags = args->flags};
	int fd;

	(void)call;
	if (args->flags & ~fake_kvm_gmem_flags(&kvm->config))
		return -EINVAL;
	if (args->size == 0 || args->size > INT64_MAX || args->size % kvm->page_size)
		return -EINVAL;
	gmem.fd = make_file(args->size);
	if (gmem.fd < 0)
		return gmem.fd;
	fd = open_again(gmem.fd, args->flags & GUEST_MEMFD_FLAG_MMAP ? O_RDWR : O_WRONLY);
	if (fd < 0)
		close(gmem.fd);
	else
		remember(kvm, &gmem);
	return fd;
}

/* The number of what is behind a descriptor, from 1 on. */
static int find_gmem(const struct fake_kvm *kvm, int fd)
{
	struct stat asked, known;

	if (fstat(fd, &asked) < 0)
		return -EBADF;
	for (unsigned i = 0; i < kvm->ngmems; i++)
		if (fstat(kvm->gmems[i].fd, &known) == 0 && known.st_dev == asked.st_dev &&
		    known.st_ino == asked.st_ino)
			return (int)i + 1;
	return -EINVAL;
}

bool fake_kvm_shares_gmem(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot)
{
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++)
		for (unsigned i = 0; i < kvm->spaces[as_id].nslots; i++) {
			const struct fake_kvm_slot *other = kvm->spaces[as_id].by_gpa[i];

			if (other != slot && other->gmem == slot->gmem &&
			    other->gmem_offset < slot->gmem_offset + slot->size &&
			    slot->gmem_offset < other->gmem_offset + other->size)
				return true;
		}
	return false;
}

bool fake_kvm_is_in_gmem(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot)
{
	uint64_t size =
		slot->gmem && slot->gmem <= kvm->ngmems ? kvm->gmems[slot->gmem - 1].size : 0;

	return slot->gmem_offset <= size && slot->size <= size - slot->gmem_offset;
}

/* kvm_gmem_bind: for a slot that is not yet one of the VM's. */
int fake_kvm_bind_gmem(const struct fake_kvm *kvm, int fd, uint64_t offset,
		       struct fake_kvm_slot *slot)
{
	int number = find_gmem(kvm, fd);

	if (number < 0)
		return number;
	slot->gmem = (unsigned)number;
	slot->gmem_offset = offset;
	return fake_kvm_is_in_gmem(kvm, slot) && !fake_kvm_shares_gmem(kvm, slot) ? 0 : -EINVAL;
}

/* ---- attributes ---- */

/* Whatever is said of these pages is forgotten; what a range has left on both sides stays. */
static void forget(struct fake_kvm *kvm, const struct fake_kvm_range *gone,
		   struct fake_kvm_range *kept, unsigned *nkept)
{
	for (unsigned i = 0; i < kvm->nprivate; i++) {
		const struct fake_kvm_range *range = &kvm->private_ranges[i];

		if (range->first < gone->first)
			kept[(*nkept)++] = (struct fake_kvm_range){
				range->first,
				range->last < gone->first ? range->last : gone->first - 1};
		if (range->last > gone->last)
			kept[(*nkept)++] = (struct fake_kvm_range){
				range->first > gone->last ? range->first : gone->last + 1,
				range->last};
	}
}

static int order_ranges(const void *a, const void *b)
{
	const struct fake_kvm_range *left = a, *right = b;

	return left->first < right->first ? -1 : left->first > right->first;
}

static unsigned join_neighbours(struct fake_kvm_range *ranges, unsigned n)
{
	unsigned out = 0;

	for (unsigned i = 0; i < n; i++)
		if (out > 0 && ranges[out - 1].last + 1 == ranges[i].first)
			ranges[out - 1].last = ranges[i].last;
		else
			ranges[out++] = ranges[i];
	return out;
}

static void set_private(struct fake_kvm *kvm, const struct fake_kvm_range *range, bool private)
{
	struct fake_kvm_range *ranges =
		fake_kvm_allocate(kvm->nprivate + 2, sizeof(struct fake_kvm_range));
	unsigned n = 0;

	forget(kvm, range, ranges, &n);
	if (private)
		ranges[n++] = *range;
	qsort(ranges, n, sizeof(*ranges), order_ranges);
	free(kvm->private_ranges);
	kvm->private_ranges = ranges;
	kvm->nprivate = join_neighbours(ranges, n);
}

/* kvm_vm_ioctl_set_mem_attributes. A VM that has none can be told so. */
int fake_kvm_set_attributes(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_memory_attributes *args = arg;
	const struct fake_kvm_range range = {
		args->address / kvm->page_size,
		(args->address + args->size) / kvm->page_size - 1,
	};

	(void)call;
	if (args->flags)
		return -EINVAL;
	if (args->attributes & ~(kvm->config.private_vm ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0))
		return -EINVAL;
	if (args->size == 0 || args->address + args->size < args->address)
		return -EINVAL;
	if ((args->address | args->size) % kvm->page_size)
		return -EINVAL;
	set_private(kvm, &range, args->attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE);
	return 0;
}

uint64_t fake_kvm_attributes(const struct fake_kvm *kvm, uint64_t gpa)
{
	uint64_t gfn = gpa / kvm->page_size;

	for (unsigned i = 0; i < kvm->nprivate; i++)
		if (kvm->private_ranges[i].first <= gfn && gfn <= kvm->private_ranges[i].last)
			return KVM_MEMORY_ATTRIBUTE_PRIVATE;
	return 0;
}

/* ---- what the guest reaches ---- */

/*
 * A file that can be mapped has all of a slot's memory, another one what is private. That is so for
 * a guest's faults; what KVM reads and writes by itself, as when it interprets the guest, is where
 * the slot says that user space has it (kvm_write_guest), which had better be the same.
 */
const struct fake_kvm_gmem *fake_kvm_gmem_at(const struct fake_kvm *kvm,
					     const struct fake_kvm_slot *slot, uint64_t gpa)
{
	const struct fake_kvm_gmem *gmem = slot->gmem ? &kvm->gmems[slot->gmem - 1] : NULL;

	if (!gmem || kvm->config.emulates)
		return NULL;
	return gmem->flags & GUEST_MEMFD_FLAG_MMAP || fake_kvm_attributes(kvm, gpa) ? gmem : NULL;
}

void fake_kvm_copy_gmems(const struct fake_kvm *from, struct fake_kvm *to)
{
	for (unsigned i = 0; i < from->ngmems; i++) {
		struct fake_kvm_gmem gmem = from->gmems[i];

		gmem.fd = fcntl(gmem.fd, F_DUPFD_CLOEXEC, 0);
		if (gmem.fd < 0)
			abort();
		remember(to, &gmem);
	}
	to->nprivate = from->nprivate;
	to->private_ranges = fake_kvm_allocate(from->nprivate, sizeof(*to->private_ranges));
	for (unsigned i = 0; i < from->nprivate; i++)
		to->private_ranges[i] = from->private_ranges[i];
}

void fake_kvm_free_gmems(struct fake_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->ngmems; i++)
		close(kvm->gmems[i].fd);
	free(kvm->gmems);
	free(kvm->private_ranges);
}

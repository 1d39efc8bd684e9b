/* SPDX-License-Identifier: MIT */
/*
 * The steps of kvm-table.h that are about channels and files: ioeventfds, coalesced zones, what a
 * vCPU's stores do with them, guest_memfd and memory attributes. The VM's own eventfds and files
 * are made when a step first names them.
 *
 * Read run_transfer first.
 */
#include "kvm-table.h"

#include "fake-kvm-uapi.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RING_ENTRIES = 170, ZONE_STRIDE = 16 };

static int issue(const struct kvm_vm *vm, unsigned long request, const struct kvm_step *step,
		 void *arg)
{
	return vm->ioctl(vm->data, vm->fd, request, step->no_arg ? NULL : arg);
}

/* ---- descriptors ---- */

static int event_fd(struct kvm_vm *vm, int i)
{
	if (!vm->events[i])
		vm->events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return vm->events[i];
}

int kvm_step_fd(struct kvm_vm *vm, int name, int *same)
{
	int fd = name & ~KVM_SAME_FD;

	*same = -1;
	if (name < KVM_EVENT_FD)
		return name;
	fd = fd < KVM_MEMFD_FD ? event_fd(vm, fd - KVM_EVENT_FD) : vm->memfds[fd - KVM_MEMFD_FD];
	if (name & KVM_SAME_FD)
		fd = *same = dup(fd);
	return fd;
}

void kvm_vm_end(struct kvm_vm *vm)
{
	for (unsigned i = 0; i < KVM_TABLE_EVENTS; i++)
		if (vm->events[i] > 0)
			close(vm->events[i]);
	for (unsigned i = 0; i < KVM_TABLE_MEMFDS; i++)
		if (vm->memfds[i] > 0)
			close(vm->memfds[i]);
	memset(vm->events, 0, sizeof(vm->events));
	memset(vm->memfds, 0, sizeof(vm->memfds));
}

/* ---- what is on the buses ---- */

static int run_event(struct kvm_vm *vm, const struct kvm_step *step)
{
	int same, r;
	struct kvm_ioeventfd args = {
		.datamatch = step->options,
		.addr = kvm_value_of(&vm->limits, &step->gpa),
		.len = (uint32_t)kvm_value_of(&vm->limits, &step->size),
		.fd = kvm_step_fd(vm, step->memfd, &same),
		.flags = step->flags,
	};

	r = issue(vm, KVM_IOEVENTFD, step, &args);
	if (same >= 0)
		close(same);
	return r;
}

/* Of many: how many could be had, or why the first could not. */
static int run_zone(struct kvm_vm *vm, const struct kvm_step *step)
{
	unsigned long request = step->kind == KVM_STEP_ZONE ? KVM_REGISTER_COALESCED_MMIO
							    : KVM_UNREGISTER_COALESCED_MMIO;
	struct kvm_coalesced_mmio_zone zone = {
		.addr = kvm_value_of(&vm->limits, &step->gpa),
		.size = (uint32_t)kvm_value_of(&vm->limits, &step->size),
		.pio = step->flags,
	};
	int r = issue(vm, request, step, &zone);

	for (uint32_t i = 1; r >= 0 && i < step->num_pages; i++) {
		zone.addr += ZONE_STRIDE;
		if (issue(vm, request, step, &zone) < 0)
			return (int)i;
	}
	return r >= 0 ? (int)step->num_pages : r;
}

/* ---- guest memory ---- */

static int run_memfd(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_create_guest_memfd args = {
		.size = kvm_value_of(&vm->limits, &step->size),
		.flags = step->options,
	};
	int fd = issue(vm, KVM_CREATE_GUEST_MEMFD, step, &args);

	if (fd < 0)
		return fd;
	if (vm->memfds[step->id] > 0)
		close(vm->memfds[step->id]);
	vm->memfds[step->id] = fd;
	return 0;
}

static int run_attributes(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_memory_attributes args = {
		.address = kvm_value_of(&vm->limits, &step->gpa),
		.size = kvm_value_of(&vm->limits, &step->size),
		.attributes = step->options,
		.flags = step->flags,
	};

	return issue(vm, KVM_SET_MEMORY_ATTRIBUTES, step, &args);
}

static int run_peek(struct kvm_vm *vm, const struct kvm_step *step)
{
	uint64_t page = step->memfd_offset / vm->limits.page_size * vm->limits.page_size;
	int same, fd = kvm_step_fd(vm, step->memfd, &same), byte;
	unsigned char *bytes =
		mmap(NULL, vm->limits.page_size, PROT_READ, MAP_SHARED, fd, (off_t)page);

	if (bytes == MAP_FAILED)
		return -EACCES; /* as a double; a real one has ENODEV */
	byte = bytes[step->memfd_offset - page];
	munmap(bytes, vm->limits.page_size);
	return byte;
}

/* ---- what a vCPU does ---- */

/* Which eventfds have been signalled since; -EPROTO if one was twice. */
static int signalled(struct kvm_vm *vm)
{
	int mask = 0;

	for (unsigned i = 0; i < KVM_TABLE_EVENTS; i++) {
		uint64_t value = 0;

		if (!vm->events[i] || read(vm->events[i], &value, sizeof(value)) < 0)
			continue;
		if (value != 1)
			return -EPROTO;
		mask |= KVM_SIGNALS << i;
	}
	return mask;
}

/* All of the ring, also what has been taken out of it; what is behind is KVM's. */
static uint64_t ring_hash(const struct kvm_coalesced_mmio_ring *ring)
{
	const uint32_t indices[] = {ring->first, ring->last};
	const unsigned char *bytes = (const unsigned char *)indices;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < sizeof(indices); i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	for (unsigned i = 0; i < RING_ENTRIES; i++) {
		const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[i];

		bytes = (const unsigned char *)entry;
		for (size_t j = 0; j < sizeof(*entry); j++)
			hash = (hash ^ bytes[j]) * UINT64_C(0x100000001b3);
	}
	return hash;
}

static void note_exit(struct kvm_vm *vm, const struct kvm_transfer *transfer)
{
	const struct kvm_seen_exit *seen = &transfer->exit;

	vm->words[0] = seen->addr;
	vm->words[1] = (uint64_t)transfer->nexits << 32 | (uint64_t)seen->writes << 18 |
		       (uint64_t)seen->pio << 17 | (uint64_t)seen->smm << 16 | seen->size;
	vm->words[2] = seen->value;
	vm->words[3] = ring_hash(vm->coalesced);
}

/* One store goes to one place: that is what the result says, and the words. */
static int run_transfer(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_transfer transfer = {
		.writes = step->kind == KVM_STEP_STORE || step->kind == KVM_STEP_OUT,
		.pio = step->kind == KVM_STEP_OUT || step->kind == KVM_STEP_IN,
		.as_id = step->as_id,
		.addr = kvm_value_of(&vm->limits, &step->gpa),
		.size = (unsigned)kvm_value_of(&vm->limits, &step->size),
		.value = step->options,
	};
	uint32_t last = vm->coalesced->last;
	int r = vm->guest->transfer(vm, &transfer), signals = signalled(vm);

	if (r < 0 || signals < 0)
		return r < 0 ? r : signals;
	note_exit(vm, &transfer);
	if (transfer.nexits)
		r = transfer.exit.pio ? KVM_EXITS_IO : KVM_EXITS_MMIO;
	if (vm->coalesced->last != last)
		r |= (int)((vm->coalesced->last + RING_ENTRIES - last) % RING_ENTRIES) *
		     KVM_COALESCES;
	return r | signals;
}

static int run_drain(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_coalesced_mmio_ring *ring = vm->coalesced;
	uint32_t n = 0, max = step->num_pages ? step->num_pages : RING_ENTRIES;

	while (ring->first != ring->last && n < max) {
		ring->first = (ring->first + 1) % RING_ENTRIES;
		n++;
	}
	vm->words[3] = ring_hash(ring);
	return (int)n;
}

static int run_indices(struct kvm_vm *vm, const struct kvm_step *step)
{
	vm->coalesced->first = (uint32_t)step->first_page;
	vm->coalesced->last = step->num_pages;
	return 0;
}

int kvm_channel_run(struct kvm_vm *vm, const struct kvm_step *step)
{
	static int (*const runs[])(struct kvm_vm * vm, const struct kvm_step *step) = {
		[KVM_STEP_EVENT] = run_event,           [KVM_STEP_ZONE] = run_zone,
		[KVM_STEP_UNZONE] = run_zone,           [KVM_STEP_MEMFD] = run_memfd,
		[KVM_STEP_ATTRIBUTES] = run_attributes, [KVM_STEP_PEEK] = run_peek,
		[KVM_STEP_STORE] = run_transfer,        [KVM_STEP_LOAD] = run_transfer,
		[KVM_STEP_OUT] = run_transfer,          [KVM_STEP_IN] = run_transfer,
		[KVM_STEP_DRAIN] = run_drain,           [KVM_STEP_INDICES] = run_indices,
	};

	return runs[step->kind](vm, step);
}

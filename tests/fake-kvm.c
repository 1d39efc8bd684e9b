/* SPDX-License-Identifier: MIT */
/*
 * A test double of KVM's memory slots: what Linux does in virt/kvm/kvm_main.c and
 * arch/x86/kvm/x86.c, seen through a VM's ioctls. Which arguments are refused, with which errno and
 * which is found first; what becomes of a dirty bitmap; what a call costs. tests/kvm-table.c holds
 * the same rules as data and is run against this double and against the real KVM.
 *
 *     spaces[as_id] --by_gpa--> [ slot 7 | slot 2 | slot 5 | private 1 ]   overlap, lookup by gpa
 *                   --by_id---> [ slot 2 | slot 5 | slot 7 | private 1 ]   what an ioctl names
 *
 * A slot is one object for its whole life, whatever moves: a MOVE takes it out of by_gpa, changes
 * its gpa and puts it back, so that the bitmap travels with it as it does in the kernel
 * (kvm_prepare_memory_region).
 *
 * Here are the slots, the hook and the life of a VM. What sets a slot, and what that costs, is in
 * fake-kvm-region.c; dirty bitmaps and the guest's accesses in fake-kvm-dirty.c, vCPUs and dirty
 * rings in fake-kvm-ring.c, ioeventfds and coalesced zones in fake-kvm-bus.c, what a vCPU loads and
 * stores in fake-kvm-store.c, guest_memfd and memory attributes in fake-kvm-gmem.c, capabilities in
 * fake-kvm-cap.c, snapshots and the check of the invariants in fake-kvm-check.c.
 *
 * Invariants (fake_kvm_validate):
 *   I1  by_gpa is sorted, and its slots do not overlap.
 *   I2  by_id is sorted, without doubles, and holds the slots of by_gpa; each knows its space.
 *   I3  npages is the sum of the pages of all slots of all spaces.
 *   I4  A slot has a bitmap if and only if it has KVM_MEM_LOG_DIRTY_PAGES; with rings it may
 *       have one then.
 *   I5  No bit of a bitmap or of a map of mappings stands for a page past the slot's end.
 *   I6  Every slot is one that KVM would create: aligned, not empty, within the limits.
 *   I7  What is writable is mapped; and dirty, if the slot has a bitmap that counts.
 *   I8  vCPUs have a ring if and only if the VM has rings; no more entries were reset than pushed,
 *       and no more are used than it has.
 *
 * I9 to I11, of buses, are at the head of fake-kvm-bus.c, I12 and I13, of guest_memfd and private
 * pages, at that of fake-kvm-gmem.c.
 *
 * Left out: the kernel's check that the sum of pages does not wrap cannot fail on a 64-bit host.
 *
 * Cost: lookup O(log n), create and delete O(n) at worst, O(log n) at the end of the arrays.
 * Read fake_kvm_set_region2 first (fake-kvm-region.c): its numbers are those of the kernel's order
 * of checks.
 */
#include "fake-kvm-inner.h"
#include "fake-kvm-uapi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *fake_kvm_allocate(size_t n, size_t size)
{
	void *ptr = calloc(n ? n : 1, size);

	if (!ptr)
		abort();
	return ptr;
}

static void *resize(void *ptr, size_t size)
{
	ptr = realloc(ptr, size);
	if (!ptr)
		abort();
	return ptr;
}

/* ---- places ---- */

/* The index of the first slot that ends after gpa; nslots if there is none. */
static unsigned first_after(const struct fake_kvm_space *space, uint64_t gpa)
{
	unsigned low = 0, high = space->nslots;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct fake_kvm_slot *slot = space->by_gpa[middle];

		if (slot->gpa + (slot->size - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The index of the first slot with this id or a higher one. */
static unsigned index_of_id(const struct fake_kvm_space *space, unsigned id)
{
	unsigned low = 0, high = space->nslots;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (space->by_id[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct fake_kvm_slot *fake_kvm_find_id(const struct fake_kvm_space *space, unsigned id)
{
	unsigned i = index_of_id(space, id);

	return i < space->nslots && space->by_id[i]->id == id ? space->by_id[i] : NULL;
}

bool fake_kvm_is_taken(const struct fake_kvm_space *space, uint64_t gpa, uint64_t size,
		       const struct fake_kvm_slot *but)
{
	for (unsigned i = first_after(space, gpa); i < space->nslots; i++) {
		if (space->by_gpa[i]->gpa > gpa + (size - 1))
			return false;
		if (space->by_gpa[i] != but)
			return true;
	}
	return false;
}

static void insert(struct fake_kvm_slot **slots, unsigned nslots, unsigned i,
		   struct fake_kvm_slot *slot)
{
	memmove(&slots[i + 1], &slots[i], (nslots - i) * sizeof(struct fake_kvm_slot *));
	slots[i] = slot;
}

static void remove_at(struct fake_kvm_slot **slots, unsigned nslots, unsigned i)
{
	memmove(&slots[i], &slots[i + 1], (nslots - i - 1) * sizeof(struct fake_kvm_slot *));
}

void fake_kvm_put_in(struct fake_kvm *kvm, struct fake_kvm_slot *slot)
{
	struct fake_kvm_space *space = &kvm->spaces[slot->as_id];

	if (space->nslots == space->size) {
		space->size = space->size ? 2 * space->size : 16;
		space->by_gpa = resize(space->by_gpa, space->size * sizeof(struct fake_kvm_slot *));
		space->by_id = resize(space->by_id, space->size * sizeof(struct fake_kvm_slot *));
	}
	insert(space->by_gpa, space->nslots, first_after(space, slot->gpa), slot);
	insert(space->by_id, space->nslots, index_of_id(space, slot->id), slot);
	space->nslots++;
	kvm->npages += slot_pages(kvm, slot);
}

void fake_kvm_take_out(struct fake_kvm *kvm, struct fake_kvm_slot *slot)
{
	struct fake_kvm_space *space = &kvm->spaces[slot->as_id];

	remove_at(space->by_gpa, space->nslots, first_after(space, slot->gpa));
	remove_at(space->by_id, space->nslots, index_of_id(space, slot->id));
	space->nslots--;
	kvm->npages -= slot_pages(kvm, slot);
}

void fake_kvm_free_slot(struct fake_kvm_slot *slot)
{
	fake_kvm_drop_mappings(slot);
	free(slot->bitmap);
	free(slot);
}

/* ---- the hook ---- */

static const struct handler {
	unsigned long request;
	enum fake_kvm_op op;
	enum fake_kvm_version since;
	int (*handle)(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
	bool (*is_known)(const struct fake_kvm_config *config); /* NULL: yes */
} handlers[] = {
	{KVM_SET_USER_MEMORY_REGION, FAKE_KVM_SET, FAKE_KVM_6_1, fake_kvm_set_region},
	{KVM_SET_USER_MEMORY_REGION2, FAKE_KVM_SET, FAKE_KVM_6_12, fake_kvm_set_region2},
	{KVM_GET_DIRTY_LOG, FAKE_KVM_GET, FAKE_KVM_6_1, fake_kvm_get_dirty_log},
	{KVM_CLEAR_DIRTY_LOG, FAKE_KVM_CLEAR, FAKE_KVM_6_1, fake_kvm_clear_dirty_log},
	{KVM_RESET_DIRTY_RINGS, FAKE_KVM_RESET, FAKE_KVM_6_1, fake_kvm_reset_rings},
	{KVM_ENABLE_CAP, FAKE_KVM_CAP, FAKE_KVM_6_1, fake_kvm_enable_cap},
	{KVM_IOEVENTFD, FAKE_KVM_ASSIGN, FAKE_KVM_6_1, fake_kvm_ioeventfd},
	{KVM_REGISTER_COALESCED_MMIO, FAKE_KVM_REGISTER, FAKE_KVM_6_1, fake_kvm_register_zone,
	 fake_kvm_has_zones},
	{KVM_UNREGISTER_COALESCED_MMIO, FAKE_KVM_UNREGISTER, FAKE_KVM_6_1, fake_kvm_unregister_zone,
	 fake_kvm_has_zones},
	{KVM_CREATE_GUEST_MEMFD, FAKE_KVM_MEMFD, FAKE_KVM_6_12, fake_kvm_create_gmem,
	 fake_kvm_has_gmem},
	{KVM_SET_MEMORY_ATTRIBUTES, FAKE_KVM_ATTRIBUTES, FAKE_KVM_6_12, fake_kvm_set_attributes,
	 fake_kvm_has_attributes},
};

static const struct handler *find_handler(const struct fake_kvm *kvm, unsigned long request)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		const struct handler *handler = &handlers[i];

		if (handler->request == request && handler->since <= kvm->config.version &&
		    (!handler->is_known || handler->is_known(&kvm->config)))
			return handler;
	}
	return NULL;
}

static void describe_event(struct fake_kvm_call *call, const struct kvm_ioeventfd *event)
{
	if (event->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)
		call->op = FAKE_KVM_DEASSIGN;
	call->gpa = event->addr;
	call->size = event->len;
	call->flags = event->flags;
	call->fd = event->fd;
	call->datamatch = event->datamatch;
}

static void describe_zone(struct fake_kvm_call *call, const struct kvm_coalesced_mmio_zone *zone)
{
	call->gpa = zone->addr;
	call->size = zone->size;
	call->flags = zone->pio;
}

static void describe_memfd(struct fake_kvm_call *call, const struct kvm_create_guest_memfd *memfd)
{
	call->size = memfd->size;
	call->flags = (uint32_t)memfd->flags;
}

static void describe_attributes(struct fake_kvm_call *call,
				const struct kvm_memory_attributes *attributes)
{
	call->gpa = attributes->address;
	call->size = attributes->size;
	call->flags = (uint32_t)attributes->attributes;
}

/*
 * These begin with the slot's number, and the argument of KVM_SET_USER_MEMORY_REGION2 with that of
 * KVM_SET_USER_MEMORY_REGION.
 */
static void describe_slot(struct fake_kvm_call *call, const void *arg)
{
	const struct kvm_userspace_memory_region *region = arg;
	const struct kvm_userspace_memory_region2 *region2 = arg;
	const struct kvm_clear_dirty_log *log = arg;

	call->as_id = *(const uint32_t *)arg >> 16;
	call->id = *(const uint32_t *)arg & 0xffff;
	if (call->op == FAKE_KVM_SET) {
		call->gpa = region->guest_phys_addr;
		call->size = region->memory_size;
		call->hva = region->userspace_addr;
		call->flags = region->flags;
	}
	if (call->request == KVM_SET_USER_MEMORY_REGION2 && region2->flags & KVM_MEM_GUEST_MEMFD) {
		call->fd = (int)region2->guest_memfd;
		call->memfd_offset = region2->guest_memfd_offset;
	}
	if (call->op == FAKE_KVM_CLEAR) {
		call->first_page = log->first_page;
		call->num_pages = log->num_pages;
	}
}

static void describe(struct fake_kvm_call *call, const void *arg)
{
	if (!arg)
		return;
	switch (call->op) {
	case FAKE_KVM_CAP:
	case FAKE_KVM_RESET:
		break;
	case FAKE_KVM_ASSIGN:
		describe_event(call, arg);
		break;
	case FAKE_KVM_REGISTER:
	case FAKE_KVM_UNREGISTER:
		describe_zone(call, arg);
		break;
	case FAKE_KVM_MEMFD:
		describe_memfd(call, arg);
		break;
	case FAKE_KVM_ATTRIBUTES:
		describe_attributes(call, arg);
		break;
	default:
		describe_slot(call, arg);
	}
}

static int planned_failure(struct fake_kvm *kvm)
{
	if (kvm->fail.at == 0)
		return 0;
	if (kvm->fail.at > 1) {
		kvm->fail.at--;
		return 0;
	}
	kvm->fail.at = kvm->fail.from ? 1 : 0;
	kvm->fail.hits++;
	return -kvm->fail.error;
}

static void record(struct fake_kvm *kvm, const struct fake_kvm_call *call)
{
	if (kvm->ncalls == kvm->calls_size) {
		kvm->calls_size = kvm->calls_size ? 2 * kvm->calls_size : 64;
		kvm->calls = resize(kvm->calls, kvm->calls_size * sizeof(*kvm->calls));
	}
	kvm->calls[kvm->ncalls++] = *call;
	if (call->result < 0)
		kvm->refused++;
	else
		kvm->count[call->op]++;
}

static int serve(struct fake_kvm *kvm, const struct handler *handler, void *arg)
{
	struct fake_kvm_call call = {.request = handler->request, .op = handler->op};

	describe(&call, arg);
	call.result = planned_failure(kvm);
	if (call.result == 0)
		call.result = arg || handler->op == FAKE_KVM_RESET
				      ? handler->handle(kvm, arg, &call)
				      : -EFAULT; /* 1 */
	record(kvm, &call);
	return call.result;
}

int fake_kvm_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct fake_kvm *kvm = data;
	const struct handler *handler = find_handler(kvm, request);
	struct fake_kvm_vcpu *vcpu = fake_kvm_find_vcpu(kvm, fd);
	int r;

	if (fd != kvm->fd && !vcpu)
		return -EBADF;
	/* Before the lock, which a forked child may find taken for ever. */
	if (getpid() != kvm->pid)
		return -EIO;
	pthread_mutex_lock(&kvm->lock);
	if (kvm->dead)
		r = -EIO;
	else if (vcpu)
		r = fake_kvm_vcpu_ioctl(vcpu, request);
	else if (request == KVM_CHECK_EXTENSION)
		r = fake_kvm_check_extension(kvm, (uintptr_t)arg);
	else
		r = handler ? serve(kvm, handler, arg) : -ENOTTY;
	pthread_mutex_unlock(&kvm->lock);
	return r;
}

/* ---- private slots ---- */

int fake_kvm_add_private(struct fake_kvm *kvm, unsigned index, uint64_t gpa, uint64_t size)
{
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++)
		if (fake_kvm_is_taken(&kvm->spaces[as_id], gpa, size, NULL))
			return -EEXIST;
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++) {
		struct fake_kvm_slot *slot = fake_kvm_allocate(1, sizeof(*slot));

		slot->as_id = as_id;
		slot->id = kvm->config.nr_memslots + index;
		slot->gpa = gpa;
		slot->size = size;
		fake_kvm_put_in(kvm, slot);
	}
	return 0;
}

void fake_kvm_del_private(struct fake_kvm *kvm, unsigned index)
{
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++) {
		unsigned id = kvm->config.nr_memslots + index;
		struct fake_kvm_slot *slot = fake_kvm_find_id(&kvm->spaces[as_id], id);

		if (!slot)
			continue;
		fake_kvm_take_out(kvm, slot);
		fake_kvm_free_slot(slot);
	}
}

/* The task state segment, the identity map and the APIC access page. */
static void add_private_slots(struct fake_kvm *kvm)
{
	static const struct {
		uint64_t gpa;
		unsigned npages;
	} places[FAKE_KVM_PRIVATE_SLOTS] = {
		{0xfeffd000, 3},
		{0xfeffc000, 1},
		{0xfee00000, 1},
	};

	for (unsigned i = 0; i < FAKE_KVM_PRIVATE_SLOTS; i++)
		fake_kvm_add_private(kvm, i, places[i].gpa, places[i].npages * kvm->page_size);
}

/* ---- life ---- */

/* KVM_CAP_DISABLE_QUIRKS2 of these versions, where it was not seen to be otherwise. */
static const uint64_t quirks_of[] = {
	[FAKE_KVM_6_1] = 0x7f,
	[FAKE_KVM_6_12] = 0xff,
	[FAKE_KVM_6_18] = 0x5ff,
};

static void fill_in_defaults(struct fake_kvm_config *config, uint64_t page_size)
{
	if (config->spaces == 0)
		config->spaces = config->private_vm ? 1 : 2;
	if (config->nr_memslots == 0)
		config->nr_memslots = 32767 - FAKE_KVM_PRIVATE_SLOTS;
	if (config->max_gfn == 0)
		config->max_gfn = (UINT64_C(1) << 46) / page_size - 1;
	if (config->hva_limit == 0)
		config->hva_limit = (UINT64_C(1) << 56) - page_size;
	if (config->quirks == 0)
		config->quirks = quirks_of[config->version];
	if (config->fd == 0)
		config->fd = FAKE_KVM_FD;
	if (config->bus_devices == 0)
		config->bus_devices = 1000;
	if (config->spaces > (config->private_vm ? 1 : FAKE_KVM_MAX_SPACES) ||
	    (config->private_vm && config->version < FAKE_KVM_6_12))
		abort();
}

struct fake_kvm *fake_kvm_new(const struct fake_kvm_config *config)
{
	struct fake_kvm *kvm = fake_kvm_allocate(1, sizeof(*kvm));

	if (config)
		kvm->config = *config;
	kvm->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	fill_in_defaults(&kvm->config, kvm->page_size);
	kvm->fd = kvm->config.fd;
	kvm->pid = getpid();
	pthread_mutex_init(&kvm->lock, NULL);
	if (kvm->config.private_slots)
		add_private_slots(kvm);
	return kvm;
}

void fake_kvm_free(struct fake_kvm *kvm)
{
	if (!kvm)
		return;
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++) {
		struct fake_kvm_space *space = &kvm->spaces[as_id];

		for (unsigned i = 0; i < space->nslots; i++)
			fake_kvm_free_slot(space->by_gpa[i]);
		free(space->by_gpa);
		free(space->by_id);
	}
	for (unsigned i = 0; i < kvm->nvcpus; i++)
		fake_kvm_free_vcpu(kvm->vcpus[i]);
	fake_kvm_free_buses(kvm);
	fake_kvm_free_gmems(kvm);
	pthread_mutex_destroy(&kvm->lock);
	free(kvm->calls);
	free(kvm);
}

/* ---- what tests ask for ---- */

static void plan_failure(struct fake_kvm *kvm, unsigned k, int error, bool from)
{
	kvm->fail.at = k;
	kvm->fail.from = from;
	kvm->fail.error = error;
	kvm->fail.hits = 0;
}

void fake_kvm_fail_at(struct fake_kvm *kvm, unsigned k, int error)
{
	plan_failure(kvm, k, error, false);
}

void fake_kvm_fail_from(struct fake_kvm *kvm, unsigned k, int error)
{
	plan_failure(kvm, k, error, true);
}

void fake_kvm_fail_never(struct fake_kvm *kvm)
{
	plan_failure(kvm, 0, 0, false);
	memset(kvm->no_memory, 0, sizeof(kvm->no_memory));
}

void fake_kvm_fail_alloc(struct fake_kvm *kvm, enum fake_kvm_alloc what, unsigned k)
{
	kvm->no_memory[what].at = k;
	kvm->no_memory[what].hits = 0;
}

void fake_kvm_reset(struct fake_kvm *kvm)
{
	memset(kvm->count, 0, sizeof(kvm->count));
	kvm->refused = 0;
	kvm->swaps = 0;
	kvm->zaps = 0;
	kvm->array_pages = 0;
	kvm->bitmap_pages = 0;
	kvm->ncalls = 0;
}

struct fake_kvm_slot *fake_kvm_find(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	const struct fake_kvm_space *space = &kvm->spaces[as_id];
	unsigned i = first_after(space, gpa);

	return i < space->nslots && space->by_gpa[i]->gpa <= gpa ? space->by_gpa[i] : NULL;
}

void *fake_kvm_hva(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	const struct fake_kvm_slot *slot = fake_kvm_find(kvm, as_id, gpa);

	return slot ? (void *)(uintptr_t)(slot->hva + (gpa - slot->gpa)) : NULL;
}

size_t fake_kvm_slots(const struct fake_kvm *kvm, unsigned as_id, struct fake_kvm_slot *slots,
		      size_t max)
{
	const struct fake_kvm_space *space = &kvm->spaces[as_id];

	for (size_t i = 0; i < space->nslots && i < max; i++)
		slots[i] = *space->by_gpa[i];
	return space->nslots;
}

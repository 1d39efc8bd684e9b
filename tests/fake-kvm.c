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
 * Here are slots, the hook, and what a call costs. Dirty bitmaps and the guest's accesses are in
 * fake-kvm-dirty.c, capabilities in fake-kvm-cap.c, snapshots and the check of the invariants in
 * fake-kvm-check.c.
 *
 * Invariants (fake_kvm_validate):
 *   I1  by_gpa is sorted, and its slots do not overlap.
 *   I2  by_id is sorted, without doubles, and holds the slots of by_gpa; each knows its space.
 *   I3  npages is the sum of the pages of all slots of all spaces.
 *   I4  A slot has a bitmap if and only if it has KVM_MEM_LOG_DIRTY_PAGES.
 *   I5  No bit of a bitmap or of a map of mappings stands for a page past the slot's end.
 *   I6  Every slot is one that KVM would create: aligned, not empty, within the limits.
 *
 * Left out: the dirty ring, guest_memfd, buses, PML. The kernel's check that the sum of pages
 * does not wrap cannot fail on a 64-bit host.
 *
 * Cost: lookup O(log n), create and delete O(n) at worst, O(log n) at the end of the arrays.
 * Read set_region first: its numbers are those of the kernel's order of checks.
 */
#include "fake-kvm-inner.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The kernel counts a slot's pages in a signed int's range (KVM_MEM_MAX_NR_PAGES). */
#define MAX_SLOT_PAGES ((UINT64_C(1) << 31) - 1)

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

/* Whether a slot other than this one is in [gpa, gpa + size). */
static bool is_taken(const struct fake_kvm_space *space, uint64_t gpa, uint64_t size,
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

static void take_out(struct fake_kvm *kvm, struct fake_kvm_slot *slot)
{
	struct fake_kvm_space *space = &kvm->spaces[slot->as_id];

	remove_at(space->by_gpa, space->nslots, first_after(space, slot->gpa));
	remove_at(space->by_id, space->nslots, index_of_id(space, slot->id));
	space->nslots--;
	kvm->npages -= slot_pages(kvm, slot);
}

static void free_slot(struct fake_kvm_slot *slot)
{
	free(slot->bitmap);
	free(slot->mapped);
	free(slot);
}

/* ---- costs ---- */

/* A slot that goes or moves is first made INVALID, which is a swap of its own (kvm_set_memslot). */
static const struct {
	unsigned swaps;
	unsigned zaps;
} costs[FAKE_KVM_NOPS] = {
	[FAKE_KVM_CREATE] = {1, 0},
	[FAKE_KVM_DELETE] = {2, 1},
	[FAKE_KVM_MOVE] = {2, 1},
	[FAKE_KVM_FLAGS] = {1, 0},
};

static void drop_mappings(struct fake_kvm_slot *slot)
{
	free(slot->mapped);
	slot->mapped = NULL;
}

static void zap(struct fake_kvm *kvm, struct fake_kvm_slot *slot)
{
	if (kvm->config.zap == FAKE_KVM_ZAP_SLOT) {
		drop_mappings(slot);
		return;
	}
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++)
		for (unsigned i = 0; i < kvm->spaces[as_id].nslots; i++)
			drop_mappings(kvm->spaces[as_id].by_gpa[i]);
}

static void pay(struct fake_kvm *kvm, enum fake_kvm_op op, struct fake_kvm_slot *slot)
{
	kvm->swaps += costs[op].swaps;
	kvm->zaps += costs[op].zaps;
	if (costs[op].zaps)
		zap(kvm, slot);
}

/* ---- KVM_SET_USER_MEMORY_REGION ---- */

static uint32_t allowed_flags(const struct fake_kvm_config *config)
{
	return KVM_MEM_LOG_DIRTY_PAGES | (config->no_readonly_mem ? 0 : KVM_MEM_READONLY);
}

/*
 * Checks 2 to 11 (kvm_vm_ioctl, check_memory_region_flags, __kvm_set_memory_region). All give
 * EINVAL, and all are made for a DELETE too.
 */
static bool is_valid(const struct fake_kvm *kvm, const struct kvm_userspace_memory_region *region)
{
	const struct fake_kvm_config *config = &kvm->config;
	uint64_t in_page = kvm->page_size - 1;
	const bool wrong[] = {
		(region->flags & ~allowed_flags(config)) != 0,
		(region->slot & 0xffff) >= config->nr_memslots,
		(region->memory_size & in_page) != 0,
		(region->guest_phys_addr & in_page) != 0,
		(region->userspace_addr & in_page) != 0,
		region->userspace_addr > config->hva_limit,
		region->memory_size > config->hva_limit - region->userspace_addr,
		region->slot >> 16 >= config->spaces,
		(region->guest_phys_addr + region->memory_size < region->guest_phys_addr),
		(region->memory_size / kvm->page_size > MAX_SLOT_PAGES),
	};

	return !memchr(wrong, 1, sizeof(wrong));
}

/* Which operation it is: checks 12, 14 and 15. */
static int recognise(const struct kvm_userspace_memory_region *region,
		     const struct fake_kvm_slot *slot, enum fake_kvm_op *op)
{
	if (region->memory_size == 0) {
		*op = FAKE_KVM_DELETE;
		return slot ? 0 : -EINVAL;
	}
	if (!slot) {
		*op = FAKE_KVM_CREATE;
		return 0;
	}
	if (region->userspace_addr != slot->hva || region->memory_size != slot->size ||
	    (region->flags ^ slot->flags) & KVM_MEM_READONLY)
		return -EINVAL;
	if (region->guest_phys_addr != slot->gpa)
		*op = FAKE_KVM_MOVE;
	else
		*op = region->flags == slot->flags ? FAKE_KVM_SAME : FAKE_KVM_FLAGS;
	return 0;
}

/* Check 22 (kvm_arch_prepare_memory_region): below the end of guest physical memory. */
static bool is_too_high(const struct fake_kvm *kvm, uint64_t gpa, uint64_t size)
{
	return (gpa + (size - 1)) / kvm->page_size > kvm->config.max_gfn;
}

bool fake_kvm_is_within_limits(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot)
{
	const struct fake_kvm_config *config = &kvm->config;
	uint64_t in_page = kvm->page_size - 1;

	return slot->size != 0 && !((slot->gpa | slot->size | slot->hva) & in_page) &&
	       !(slot->flags & ~allowed_flags(config)) && slot->gpa + slot->size > slot->gpa &&
	       slot_pages(kvm, slot) <= MAX_SLOT_PAGES &&
	       !is_too_high(kvm, slot->gpa, slot->size) && slot->hva <= config->hva_limit &&
	       slot->size <= config->hva_limit - slot->hva;
}

/* kvm_prepare_memory_region: a bitmap stays while LOG does; a new one is all clean or all dirty. */
static void set_flags(struct fake_kvm *kvm, struct fake_kvm_slot *slot, uint32_t flags)
{
	slot->flags = flags;
	if (!(flags & KVM_MEM_LOG_DIRTY_PAGES)) {
		free(slot->bitmap);
		slot->bitmap = NULL;
	} else if (!slot->bitmap) {
		slot->bitmap = fake_kvm_new_bitmap(
			slot_pages(kvm, slot), kvm->manual_protect & KVM_DIRTY_LOG_INITIALLY_SET);
	}
}

static struct fake_kvm_slot *new_slot(const struct kvm_userspace_memory_region *region)
{
	struct fake_kvm_slot *slot = fake_kvm_allocate(1, sizeof(*slot));

	slot->as_id = region->slot >> 16;
	slot->id = region->slot & 0xffff;
	slot->gpa = region->guest_phys_addr;
	slot->size = region->memory_size;
	slot->hva = region->userspace_addr;
	return slot;
}

static int apply(struct fake_kvm *kvm, enum fake_kvm_op op, struct fake_kvm_slot *slot,
		 const struct kvm_userspace_memory_region *region)
{
	bool settles = op == FAKE_KVM_CREATE || op == FAKE_KVM_MOVE;
	bool refused = settles && is_too_high(kvm, region->guest_phys_addr, region->memory_size);

	/* A MOVE is found to go too high only after its INVALID step, which is undone. */
	if (!refused || op == FAKE_KVM_MOVE)
		pay(kvm, op, slot);
	if (refused)
		return -EINVAL;

	if (op == FAKE_KVM_CREATE)
		slot = new_slot(region);
	if (op == FAKE_KVM_DELETE || op == FAKE_KVM_MOVE)
		take_out(kvm, slot);
	if (op == FAKE_KVM_DELETE) {
		free_slot(slot);
		return 0;
	}
	slot->gpa = region->guest_phys_addr;
	set_flags(kvm, slot, region->flags);
	if (settles)
		fake_kvm_put_in(kvm, slot);
	return 0;
}

static int set_region(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_userspace_memory_region *region = arg;
	const struct fake_kvm_space *space;
	struct fake_kvm_slot *slot;
	int r;

	if (!is_valid(kvm, region)) /* 2 ... 11 */
		return -EINVAL;
	space = &kvm->spaces[call->as_id];
	slot = fake_kvm_find_id(space, call->id);
	r = recognise(region, slot, &call->op); /* 12, 14, 15 */
	if (r < 0 || call->op == FAKE_KVM_SAME)
		return r;
	if ((call->op == FAKE_KVM_CREATE || call->op == FAKE_KVM_MOVE) &&
	    is_taken(space, region->guest_phys_addr, region->memory_size, slot)) /* 16 */
		return -EEXIST;
	return apply(kvm, call->op, slot, region); /* 22 */
}

/* ---- the hook ---- */

static const struct handler {
	unsigned long request;
	enum fake_kvm_op op;
	int (*handle)(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call);
} handlers[] = {
	{KVM_SET_USER_MEMORY_REGION, FAKE_KVM_SET, set_region},
	{KVM_GET_DIRTY_LOG, FAKE_KVM_GET, fake_kvm_get_dirty_log},
	{KVM_CLEAR_DIRTY_LOG, FAKE_KVM_CLEAR, fake_kvm_clear_dirty_log},
	{KVM_ENABLE_CAP, FAKE_KVM_CAP, fake_kvm_enable_cap},
};

static const struct handler *find_handler(unsigned long request)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		if (handlers[i].request == request)
			return &handlers[i];
	return NULL;
}

/* Three of the four arguments begin with the slot's number. */
static void describe(struct fake_kvm_call *call, const void *arg)
{
	const struct kvm_userspace_memory_region *region = arg;
	const struct kvm_clear_dirty_log *log = arg;

	if (!arg || call->op == FAKE_KVM_CAP)
		return;
	call->as_id = *(const uint32_t *)arg >> 16;
	call->id = *(const uint32_t *)arg & 0xffff;
	if (call->op == FAKE_KVM_SET) {
		call->gpa = region->guest_phys_addr;
		call->size = region->memory_size;
		call->hva = region->userspace_addr;
		call->flags = region->flags;
	}
	if (call->op == FAKE_KVM_CLEAR) {
		call->first_page = log->first_page;
		call->num_pages = log->num_pages;
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
		call.result = arg ? handler->handle(kvm, arg, &call) : -EFAULT; /* 1 */
	record(kvm, &call);
	return call.result;
}

int fake_kvm_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct fake_kvm *kvm = data;
	const struct handler *handler = find_handler(request);
	int r;

	if (fd != kvm->fd)
		return -EBADF;
	/* Before the lock, which a forked child may find taken for ever. */
	if (getpid() != kvm->pid)
		return -EIO;
	pthread_mutex_lock(&kvm->lock);
	if (kvm->dead)
		r = -EIO;
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
		if (is_taken(&kvm->spaces[as_id], gpa, size, NULL))
			return -EEXIST;
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++) {
		struct kvm_userspace_memory_region region = {
			.slot = as_id << 16 | (kvm->config.nr_memslots + index),
			.guest_phys_addr = gpa,
			.memory_size = size,
		};

		fake_kvm_put_in(kvm, new_slot(&region));
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
		take_out(kvm, slot);
		free_slot(slot);
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

static void fill_in_defaults(struct fake_kvm_config *config, uint64_t page_size)
{
	if (config->spaces == 0)
		config->spaces = 2;
	if (config->nr_memslots == 0)
		config->nr_memslots = 32767 - FAKE_KVM_PRIVATE_SLOTS;
	if (config->max_gfn == 0)
		config->max_gfn = (UINT64_C(1) << 46) / page_size - 1;
	if (config->hva_limit == 0)
		config->hva_limit = (UINT64_C(1) << 56) - page_size;
	if (config->fd == 0)
		config->fd = FAKE_KVM_FD;
	if (config->spaces > FAKE_KVM_MAX_SPACES)
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
			free_slot(space->by_gpa[i]);
		free(space->by_gpa);
		free(space->by_id);
	}
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
}

void fake_kvm_reset(struct fake_kvm *kvm)
{
	memset(kvm->count, 0, sizeof(kvm->count));
	kvm->refused = 0;
	kvm->swaps = 0;
	kvm->zaps = 0;
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

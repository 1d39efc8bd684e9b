/* SPDX-License-Identifier: MIT */
/*
 * What runs the table of kvm-table.c: one step, a sequence of them, and how a VM's limits are found
 * out; random steps; a step as text. What KVM must answer is in the table, not here.
 *
 * Read kvm_step_run first.
 */
#include "kvm-table.h"

#include "fake-kvm-uapi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define RO KVM_MEM_READONLY

/* ---- one step ---- */

uint64_t kvm_value_of(const struct kvm_limits *limits, const struct kvm_value *value)
{
	const uint64_t bases[] = {
		[KVM_FROM_ZERO] = 0,
		[KVM_FROM_END] = (limits->max_gfn + 1) * limits->page_size,
		[KVM_FROM_MEM] = UINT64_C(1) << 30,
		[KVM_FROM_LIMIT] = limits->hva_limit,
	};

	return bases[value->base] + (uint64_t)value->npages * limits->page_size +
	       (uint64_t)value->bytes;
}

static uint32_t slot_number(const struct kvm_limits *limits, const struct kvm_step *step)
{
	unsigned as_id = step->as_id, id = step->id;

	if (as_id == KVM_PAST_SPACES)
		as_id = limits->spaces;
	if (id == KVM_CODE_ID)
		id = limits->nr_memslots - 3;
	if (id == KVM_LAST_ID || id == KVM_PAST_IDS)
		id = limits->nr_memslots - (id == KVM_LAST_ID);
	return as_id << 16 | id;
}

static int issue(const struct kvm_vm *vm, unsigned long request, const struct kvm_step *step,
		 void *arg)
{
	return vm->ioctl(vm->data, vm->fd, request, step->no_arg ? NULL : arg);
}

static int run_set(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot_number(&vm->limits, step),
		.flags = step->flags,
		.guest_phys_addr = kvm_value_of(&vm->limits, &step->gpa),
		.memory_size = kvm_value_of(&vm->limits, &step->size),
		.userspace_addr = kvm_value_of(&vm->limits, &step->hva),
	};

	return issue(vm, KVM_SET_USER_MEMORY_REGION, step, &region);
}

/* Without KVM_MEM_GUEST_MEMFD the last fields are not looked at, nor is the padding ever. */
static int run_set2(struct kvm_vm *vm, const struct kvm_step *step)
{
	struct kvm_userspace_memory_region2 region;
	int same = -1, r;

	memset(&region, 0xa5, sizeof(region));
	region.slot = slot_number(&vm->limits, step);
	region.flags = step->flags;
	region.guest_phys_addr = kvm_value_of(&vm->limits, &step->gpa);
	region.memory_size = kvm_value_of(&vm->limits, &step->size);
	region.userspace_addr = kvm_value_of(&vm->limits, &step->hva);
	if (step->flags & KVM_MEM_GUEST_MEMFD) {
		region.guest_memfd = (uint32_t)kvm_step_fd(vm, step->memfd, &same);
		region.guest_memfd_offset = step->memfd_offset;
	}
	r = issue(vm, KVM_SET_USER_MEMORY_REGION2, step, &region);
	if (same >= 0)
		close(same);
	return r;
}

/* Words that still are as they were before the call were not written. */
static int run_get(struct kvm_vm *vm, const struct kvm_step *step)
{
	const uint64_t untouched = UINT64_C(0xa5a5a5a5a5a5a5a5);
	struct kvm_dirty_log log = {
		.slot = slot_number(&vm->limits, step),
		.dirty_bitmap = step->no_buffer ? NULL : vm->words,
	};
	int words = 0, bits = 0, r;

	for (size_t i = 0; i < KVM_TABLE_WORDS; i++)
		vm->words[i] = untouched;
	r = issue(vm, KVM_GET_DIRTY_LOG, step, &log);
	if (r != 0)
		return r;
	while (words < KVM_TABLE_WORDS && vm->words[words] != untouched)
		bits += __builtin_popcountll(vm->words[words++]);
	return KVM_BITS(words, bits);
}

static int run_clear(struct kvm_vm *vm, const struct kvm_step *step)
{
	uint64_t masks[KVM_TABLE_WORDS];
	struct kvm_clear_dirty_log log = {
		.slot = slot_number(&vm->limits, step),
		.num_pages = step->num_pages,
		.first_page = step->first_page,
		.dirty_bitmap = step->no_buffer ? NULL : masks,
	};

	for (size_t i = 0; i < KVM_TABLE_WORDS; i++)
		masks[i] = step->mask;
	return issue(vm, KVM_CLEAR_DIRTY_LOG, step, &log);
}

static int run_enable_cap(struct kvm_vm *vm, const struct kvm_step *step)
{
	static const uint32_t caps[KVM_STEP_KINDS] = {
		[KVM_STEP_MANUAL] = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		[KVM_STEP_QUIRKS] = KVM_CAP_DISABLE_QUIRKS2,
		[KVM_STEP_RING] = KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
	};
	struct kvm_enable_cap cap = {
		.cap = caps[step->kind],
		.flags = step->flags,
		.args = {step->options},
	};
	int r;

	if (step->kind == KVM_STEP_RING && step->id == 1)
		cap.cap = KVM_CAP_DIRTY_LOG_RING;
	r = issue(vm, KVM_ENABLE_CAP, step, &cap);
	if (r == 0 && step->kind == KVM_STEP_RING)
		vm->ring_size = (uint32_t)step->options;
	return r;
}

static int run_nothing(struct kvm_vm *vm, const struct kvm_step *step)
{
	(void)vm;
	(void)step;
	return 0;
}

int kvm_step_run(struct kvm_vm *vm, const struct kvm_step *step)
{
	static int (*const runs[])(struct kvm_vm * vm, const struct kvm_step *step) = {
		[KVM_STEP_END] = run_nothing,       [KVM_STEP_SET] = run_set,
		[KVM_STEP_GET] = run_get,           [KVM_STEP_CLEAR] = run_clear,
		[KVM_STEP_MANUAL] = run_enable_cap, [KVM_STEP_SET2] = run_set2,
		[KVM_STEP_QUIRKS] = run_enable_cap, [KVM_STEP_RING] = run_enable_cap,
	};

	if (step->kind >= KVM_STEP_EVENT)
		return kvm_channel_run(vm, step);
	return step->kind < KVM_STEP_RESET ? runs[step->kind](vm, step) : kvm_access_run(vm, step);
}

/* ---- sequences ---- */

const char *kvm_vm_lacks(const struct kvm_vm *vm, const struct kvm_sequence *sequence)
{
	const struct kvm_limits *limits = &vm->limits;
	bool zap_quirk = limits->quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL;
	bool spaces = limits->spaces >= 2, ring = limits->ring && limits->small_ring;
	const char *channels = "needs ioeventfds and coalesced zones, of ports, too";
	const struct {
		bool met;
		const char *reason;
	} needs[] = {
		[KVM_NEEDS_NOTHING] = {true, NULL},
		[KVM_NEEDS_TWO_SPACES] = {spaces, "needs two address spaces"},
		[KVM_NEEDS_READONLY] = {limits->readonly_mem, "needs KVM_CAP_READONLY_MEM"},
		[KVM_NEEDS_NO_READONLY] = {!limits->readonly_mem,
					   "needs a KVM without KVM_CAP_READONLY_MEM"},
		[KVM_NEEDS_REGION2] = {limits->region2, "needs KVM_CAP_USER_MEMORY2"},
		[KVM_NEEDS_NO_REGION2] = {!limits->region2,
					  "needs a KVM without KVM_CAP_USER_MEMORY2"},
		[KVM_NEEDS_GUEST_MEMFD] = {limits->guest_memfd, "needs KVM_CAP_GUEST_MEMFD"},
		[KVM_NEEDS_NO_GUEST_MEMFD] = {limits->region2 && !limits->guest_memfd,
					      "needs KVM_CAP_USER_MEMORY2 and no guest_memfd"},
		[KVM_NEEDS_ZAP_QUIRK] = {zap_quirk, "needs KVM_X86_QUIRK_SLOT_ZAP_ALL"},
		[KVM_NEEDS_NO_ZAP_QUIRK] = {!zap_quirk,
					    "needs a KVM without KVM_X86_QUIRK_SLOT_ZAP_ALL"},
		[KVM_NEEDS_RING] = {ring, "needs KVM_CAP_DIRTY_LOG_RING, and no PML"},
		[KVM_NEEDS_GUEST] = {vm->guest, "needs a vCPU"},
		[KVM_NEEDS_GUEST_READONLY] = {vm->guest && limits->readonly_mem,
					      "needs a vCPU and KVM_CAP_READONLY_MEM"},
		[KVM_NEEDS_GUEST_RING] = {vm->guest && ring, "needs a vCPU and its ring"},
		[KVM_NEEDS_GUEST_RING_WATCH] = {vm->guest && ring && limits->watches,
						"needs a vCPU and its ring, and an MMU"},
		[KVM_NEEDS_GUEST_TDP] = {vm->guest && limits->reads_mark,
					 "needs a vCPU whose reads mark pages"},
		[KVM_NEEDS_GUEST_SPACES] = {vm->guest && spaces, "needs a vCPU with SMM"},
		[KVM_NEEDS_GUEST_SPACES_RING] = {vm->guest && spaces && ring,
						 "needs a vCPU with SMM, and its ring"},
		[KVM_NEEDS_CHANNELS] = {limits->channels, channels},
		[KVM_NEEDS_GUEST_CHANNELS] = {vm->guest && limits->channels, channels},
		[KVM_NEEDS_GUEST_CHANNELS_SPACES] = {vm->guest && limits->channels && spaces,
						     "needs ioeventfds, and a vCPU with SMM"},
		[KVM_NEEDS_GUEST_CHANNELS_ROOM] = {vm->guest && limits->room == 169,
						   "needs a ring that gets full (Linux 6.12)"},
		[KVM_NEEDS_MEMFD_FLAGS] = {limits->memfd_flags, "needs KVM_CAP_GUEST_MEMFD_FLAGS"},
		[KVM_NEEDS_GUEST_MEMFD_FLAGS] = {vm->guest && limits->memfd_flags,
						 "needs a vCPU and KVM_CAP_GUEST_MEMFD_FLAGS"},
		[KVM_NEEDS_GUEST_MEMFD_MMU] = {vm->guest && limits->memfd_flags && limits->watches,
					       "needs KVM_CAP_GUEST_MEMFD_FLAGS and an MMU"},
		[KVM_NEEDS_GUEST_MEMFD_EMULATED] =
			{vm->guest && limits->memfd_flags && !limits->watches,
			 "needs KVM_CAP_GUEST_MEMFD_FLAGS and a KVM that interprets"},
		[KVM_NEEDS_NO_MEMFD_FLAGS] = {limits->guest_memfd && !limits->memfd_flags,
					      "needs a guest_memfd that cannot be mapped"},
		[KVM_NEEDS_NO_MEMFD] = {!limits->guest_memfd, "needs a KVM without guest_memfd"},
		[KVM_NEEDS_ATTRIBUTES] = {limits->attributes, "needs KVM_SET_MEMORY_ATTRIBUTES"},
		[KVM_NEEDS_NO_ATTRIBUTES] = {!limits->attributes,
					     "needs a KVM without KVM_SET_MEMORY_ATTRIBUTES"},
	};

	return needs[sequence->need].met ? NULL : needs[sequence->need].reason;
}

unsigned kvm_table_run(struct kvm_vm *vm, const struct kvm_sequence *sequence,
		       void (*report)(void *data, const struct kvm_step *step, int result),
		       void *report_data)
{
	unsigned wrong = 0;

	for (const struct kvm_step *step = sequence->steps; step->kind != KVM_STEP_END; step++) {
		int r = kvm_step_run(vm, step);

		if (r == step->expected)
			continue;
		wrong++;
		if (report)
			report(report_data, step, r);
	}
	return wrong;
}

/* ---- limits ---- */

static int capability(const struct kvm_vm *vm, uintptr_t cap)
{
	return vm->ioctl(vm->data, vm->fd, KVM_CHECK_EXTENSION, (void *)cap);
}

/* Whether one page can be had at this place; it is not kept. */
static bool accepts(struct kvm_vm *vm, uint64_t gpa, uint64_t hva)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = gpa,
		.memory_size = vm->limits.page_size,
		.userspace_addr = hva,
	};
	int r = vm->ioctl(vm->data, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);

	if (r < 0)
		return false;
	region.memory_size = 0;
	region.userspace_addr = 0;
	vm->ioctl(vm->data, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
	return true;
}

/* The last page that is accepted, as gpa or as hva; page 0 is. */
static uint64_t last_accepted(struct kvm_vm *vm, bool hva)
{
	uint64_t good = 0, bad = UINT64_MAX / vm->limits.page_size;

	while (bad - good > 1) {
		uint64_t middle = good + (bad - good) / 2;
		uint64_t address = middle * vm->limits.page_size;

		if (accepts(vm, hva ? 0 : address, hva ? address : 0))
			good = middle;
		else
			bad = middle;
	}
	return good;
}

int kvm_vm_probe(struct kvm_vm *vm)
{
	struct kvm_limits *limits = &vm->limits;
	struct {
		uintptr_t cap;
		int value;
	} asked[] = {
		{KVM_CAP_NR_MEMSLOTS, 0},       {KVM_CAP_MULTI_ADDRESS_SPACE, 0},
		{KVM_CAP_READONLY_MEM, 0},      {KVM_CAP_USER_MEMORY2, 0},
		{KVM_CAP_GUEST_MEMFD, 0},       {KVM_CAP_DISABLE_QUIRKS2, 0},
		{KVM_CAP_DIRTY_LOG_RING, 0},    {KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0},
		{KVM_CAP_IOEVENTFD, 0},         {KVM_CAP_IOEVENTFD_ANY_LENGTH, 0},
		{KVM_CAP_COALESCED_MMIO, 0},    {KVM_CAP_COALESCED_PIO, 0},
		{KVM_CAP_GUEST_MEMFD_FLAGS, 0},
	};

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		asked[i].value = capability(vm, asked[i].cap);
		if (asked[i].value < 0)
			return asked[i].value;
	}
	limits->nr_memslots = (unsigned)asked[0].value;
	limits->spaces = asked[1].value ? (unsigned)asked[1].value : 1;
	limits->readonly_mem = asked[2].value;
	limits->region2 = asked[3].value;
	limits->guest_memfd = asked[4].value;
	limits->quirks = (unsigned)asked[5].value;
	limits->ring = asked[6].value && asked[7].value;
	limits->channels = asked[8].value && asked[9].value && asked[10].value && asked[11].value;
	limits->memfd_flags = (unsigned)asked[12].value;
	limits->attributes =
		vm->ioctl(vm->data, vm->fd, KVM_SET_MEMORY_ATTRIBUTES, NULL) != -ENOTTY;
	limits->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	limits->max_gfn = last_accepted(vm, false);
	limits->hva_limit = (last_accepted(vm, true) + 1) * limits->page_size;
	return 0;
}

/* ---- random steps ---- */

/* splitmix64. */
static uint64_t next(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static unsigned below(uint64_t *seed, unsigned n)
{
	return (unsigned)(next(seed) % n);
}

static bool one_in(uint64_t *seed, unsigned n)
{
	return below(seed, n) == 0;
}

/*
 * A place that an id has for itself, one that it may share, one at the end of memory or at that of
 * all numbers.
 */
static struct kvm_value random_gpa(uint64_t *seed, unsigned id)
{
	if (one_in(seed, 32))
		return (struct kvm_value){KVM_FROM_END, -(int64_t)below(seed, 8), 0};
	if (one_in(seed, 64))
		return (struct kvm_value){KVM_FROM_ZERO, -1 - (int64_t)below(seed, 3), 0};
	if (one_in(seed, 2))
		return (struct kvm_value){KVM_FROM_ZERO, 512 + 256 * (id % 8), 0};
	return (struct kvm_value){KVM_FROM_ZERO, INT64_C(4) * below(seed, 64), one_in(seed, 64)};
}

/*
 * An id mostly comes with the size and the memory it always has, so that a slot that exists is
 * moved and toggled more often than refused.
 */
static void random_set(uint64_t *seed, struct kvm_step *step)
{
	static const unsigned char sizes[] = {1, 2, 3, 5, 8, 64, 70, 130};
	static const uint32_t flags[] = {0, LOG, LOG, LOG, RO, RO | LOG, 0, 0};
	unsigned nature = one_in(seed, 12) ? below(seed, 8) : step->id % 8;

	step->gpa = random_gpa(seed, step->id);
	step->size = (struct kvm_value){KVM_FROM_ZERO, sizes[nature], one_in(seed, 64)};
	if (one_in(seed, 5))
		step->size = (struct kvm_value){KVM_FROM_ZERO, 0, 0};
	step->hva = (struct kvm_value){KVM_FROM_MEM, nature / 2, one_in(seed, 64)};
	if (one_in(seed, 64))
		step->hva = (struct kvm_value){KVM_FROM_LIMIT, -(int64_t)below(seed, 4), 0};
	/* Mostly the same READONLY for the same id. */
	step->flags = flags[nature == 3 ? 4 + below(seed, 2) : below(seed, 4)];
	if (one_in(seed, 24))
		step->flags = flags[below(seed, 8)];
	if (one_in(seed, 32))
		step->flags = 1u << below(seed, one_in(seed, 2) ? 32 : 5);
}

/* A guest_memfd that is none; with flags and places for which it does not come to that. */
static void random_set2(uint64_t *seed, struct kvm_step *step)
{
	random_set(seed, step);
	step->memfd = KVM_OTHER_FD;
	if (!one_in(seed, 3))
		return;
	step->flags = one_in(seed, 4) ? step->flags | KVM_MEM_GUEST_MEMFD : KVM_MEM_GUEST_MEMFD;
	if (one_in(seed, 2))
		step->memfd = KVM_CLOSED_FD;
	step->memfd_offset = one_in(seed, 8) ? below(seed, 3) : 0;
}

static void random_quirks(uint64_t *seed, struct kvm_step *step)
{
	step->options = one_in(seed, 4) ? UINT64_C(1) << below(seed, 64) : below(seed, 256);
	step->flags = one_in(seed, 16);
}

static void random_clear(uint64_t *seed, struct kvm_step *step)
{
	static const unsigned char counts[] = {1, 2, 3, 5, 8, 64, 70, 130, 0, 128, 6, 66};

	step->first_page = one_in(seed, 3) ? 64 * below(seed, 4) : 0;
	if (one_in(seed, 16))
		step->first_page++;
	step->num_pages = one_in(seed, 2) ? counts[step->id % 8] : counts[below(seed, 12)];
	step->mask = next(seed);
	step->mask |= next(seed);
	step->no_buffer = one_in(seed, 16);
}

static void random_get(uint64_t *seed, struct kvm_step *step)
{
	step->no_buffer = one_in(seed, 6);
}

static void random_manual(uint64_t *seed, struct kvm_step *step)
{
	static const uint64_t options[] = {0, 3, 1, 3, 3, 2, 4};

	step->options = options[below(seed, 7)];
	step->flags = one_in(seed, 16);
}

void kvm_step_random(uint64_t *seed, unsigned spaces, struct kvm_step *ret)
{
	static void (*const fillers[])(uint64_t * seed, struct kvm_step * step) = {
		[KVM_STEP_SET] = random_set,     [KVM_STEP_GET] = random_get,
		[KVM_STEP_CLEAR] = random_clear, [KVM_STEP_MANUAL] = random_manual,
		[KVM_STEP_SET2] = random_set2,   [KVM_STEP_QUIRKS] = random_quirks,
	};
	static const unsigned char kinds[] = {
		KVM_STEP_SET,  KVM_STEP_SET, KVM_STEP_SET, KVM_STEP_SET,   KVM_STEP_SET2,
		KVM_STEP_SET2, KVM_STEP_GET, KVM_STEP_GET, KVM_STEP_CLEAR, KVM_STEP_CLEAR,
	};

	memset(ret, 0, sizeof(*ret));
	ret->kind = kinds[below(seed, sizeof(kinds))];
	if (one_in(seed, 24))
		ret->kind = one_in(seed, 4) ? KVM_STEP_QUIRKS : KVM_STEP_MANUAL;
	ret->as_id = one_in(seed, 48) ? (unsigned)KVM_PAST_SPACES : below(seed, spaces);
	ret->id = one_in(seed, 48) ? KVM_LAST_ID + below(seed, 2) : below(seed, 8);
	ret->no_arg = one_in(seed, 96);
	fillers[ret->kind](seed, ret);
}

/* ---- text ---- */

static void format_value(const struct kvm_value *value, char *text, size_t size)
{
	static const char *const bases[] = {
		[KVM_FROM_ZERO] = "",
		[KVM_FROM_END] = "end+",
		[KVM_FROM_MEM] = "mem+",
		[KVM_FROM_LIMIT] = "limit+",
	};

	snprintf(text, size, "%s%lldp+%lld", bases[value->base], (long long)value->npages,
		 (long long)value->bytes);
}

void kvm_step_format(const struct kvm_step *step, char *text, size_t size)
{
	static const char *const kinds[KVM_STEP_KINDS] = {
		"END",     "SET",   "GET",   "CLEAR", "MANUAL", "SET2",  "QUIRKS",
		"RING",    "RESET", "VCPU",  "WRITE", "READ",   "CLOCK", "SMI",
		"HARVEST", "FORGE", "EVENT", "ZONE",  "UNZONE", "MEMFD", "ATTRIBUTES",
		"PEEK",    "STORE", "LOAD",  "OUT",   "IN",     "DRAIN", "INDICES"};
	char gpa[64], bytes[64], hva[64];

	format_value(&step->gpa, gpa, sizeof(gpa));
	format_value(&step->size, bytes, sizeof(bytes));
	format_value(&step->hva, hva, sizeof(hva));
	snprintf(text, size,
		 "%s as_id=%u id=%u gpa=%s size=%s hva=%s flags=%#x first_page=%llu num_pages=%u "
		 "mask=%#llx options=%#llx memfd=%d+%llu%s%s",
		 kinds[step->kind], step->as_id, step->id, gpa, bytes, hva, step->flags,
		 (unsigned long long)step->first_page, step->num_pages,
		 (unsigned long long)step->mask, (unsigned long long)step->options, step->memfd,
		 (unsigned long long)step->memfd_offset, step->no_arg ? " no argument" : "",
		 step->no_buffer ? " no buffer" : "");
}

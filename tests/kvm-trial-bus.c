/* SPDX-License-Identifier: MIT */
/*
 * See kvm-trial.h: random ioeventfds, coalesced zones and slots in a few pages, and what a vCPU's
 * stores do there. What is on a bus cannot be asked for: at some times each place is stored to, in
 * each size and with each value that something may match (sweep).
 *
 *     devices   in 64 bytes of memory and as many ports, so that they overlap in all ways
 *     others    in a long walk, as many zones elsewhere as leave room for ten more of memory
 *     slots     of the page of the devices and the next, in each space
 *
 * Read walk_channels first.
 */
#include "kvm-trial.h"

#include <errno.h>
#include <string.h>

#include "fake-kvm-fixture.h"

#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define PIO KVM_IOEVENTFD_FLAG_PIO
#define UNDO KVM_IOEVENTFD_FLAG_DEASSIGN

/* PLACES of both buses have devices; MEMORY is a whole page. */
enum {
	MEMORY = 0x10000,
	PORTS = 0x400,
	PLACES = 32,
	VALUES = 3,
	ROOM = 10,
	RING_ENTRIES = 170,
	NSWEEPS = 8
};

/* What a walk has seen: kinds of steps, where stores went, and what was refused. */
struct sight {
	unsigned steps[KVM_STEP_KINDS];
	unsigned signals;
	unsigned coalesced;
	unsigned exits;
	unsigned memory;
	unsigned full; /* a store in a zone that was an exit, the ring being full */
	unsigned errors[EBADF + ENOSPC + EEXIST]; /* by errno */
};

/* ---- random steps ---- */

static unsigned below(uint64_t *seed, unsigned n)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)((z ^ z >> 31) % n);
}

static struct kvm_value bytes(uint64_t n)
{
	return (struct kvm_value){KVM_FROM_ZERO, 0, (int64_t)n};
}

/* As many bytes, none of them 0. */
static uint64_t value_of(unsigned value, uint64_t size)
{
	uint64_t all = (value + 1) * UINT64_C(0x0101010101010101);

	return size < 8 ? all & ((UINT64_C(1) << 8 * size) - 1) : all;
}

/* One of those that are not in the way only; NULL if there is none. */
static const struct fake_kvm_device *random_device(uint64_t *seed, const struct fake_kvm *kvm,
						   bool pio)
{
	const struct fake_kvm_bus *bus = &kvm->buses[pio ? FAKE_KVM_PIO_BUS : FAKE_KVM_MMIO_BUS];
	const struct fake_kvm_device *found = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < bus->ndevices; i++)
		if (bus->devices[i].addr - (pio ? PORTS : MEMORY) < PLACES && below(seed, ++n) == 0)
			found = &bus->devices[i];
	return found;
}

static void fill_in_place(uint64_t *seed, struct kvm_step *step, bool pio)
{
	static const unsigned char sizes[] = {1, 2, 4, 8, 4, 4, 0, 16, 24, 3};

	step->gpa = bytes((pio ? PORTS : MEMORY) + below(seed, PLACES));
	if (below(seed, 64) == 0)
		step->gpa = bytes(UINT64_C(0) - below(seed, 9));
	step->size = bytes(sizes[below(seed, LENGTH(sizes))]);
	if (below(seed, 128) == 0)
		step->size = bytes(UINT32_MAX - below(seed, 3));
}

static void fill_in_event(uint64_t *seed, const struct fake_kvm *kvm, struct kvm_step *step)
{
	static const unsigned flags[] = {MATCH, 0,     PIO | MATCH, PIO,
					 MATCH, MATCH, 1u << 4,     1u << 5};
	static const unsigned char sizes[] = {1, 2, 4, 8, 4, 0};
	const struct fake_kvm_device *device;

	step->flags = flags[below(seed, below(seed, 6) ? 6 : 8)];
	fill_in_place(seed, step, step->flags & PIO);
	if (below(seed, 8))
		step->size = bytes(sizes[below(seed, LENGTH(sizes))]);
	if (below(seed, 5) < 3)
		step->flags |= UNDO;
	device = random_device(seed, kvm, step->flags & PIO);
	if (below(seed, 16) == 0)
		step->size = bytes(3);
	step->options = value_of(below(seed, VALUES), (uint64_t)step->size.bytes);
	step->memfd = KVM_EVENT_FD + (int)below(seed, KVM_TABLE_EVENTS);
	if (step->flags & UNDO && device) {
		step->gpa = bytes(device->addr);
		step->size = bytes((uint32_t)device->len);
		step->flags = (step->flags & ~MATCH) | (device->wildcard ? 0 : MATCH);
		if (below(seed, 3))
			step->options = device->datamatch;
	}
	if (below(seed, 8) == 0)
		step->memfd |= KVM_SAME_FD;
	if (below(seed, 32) == 0)
		step->memfd = below(seed, 2) ? KVM_CLOSED_FD : KVM_OTHER_FD;
}

static void fill_in_zone(uint64_t *seed, const struct fake_kvm *kvm, struct kvm_step *step)
{
	const struct fake_kvm_device *device;

	step->flags = below(seed, 3) == 0;
	fill_in_place(seed, step, step->flags);
	device = random_device(seed, kvm, step->flags);
	if (step->kind == KVM_STEP_UNZONE && device && below(seed, 2)) {
		step->gpa = bytes(device->addr);
		step->size = bytes(below(seed, 2) ? (uint32_t)device->len : 1);
	}
	if (below(seed, 64) == 0)
		step->flags = 2;
}

/* Mostly what a device there would take. */
static void fill_in_transfer(uint64_t *seed, const struct fake_kvm *kvm, struct kvm_step *step)
{
	bool pio = step->kind == KVM_STEP_OUT || step->kind == KVM_STEP_IN;
	const struct fake_kvm_device *device = random_device(seed, kvm, pio);
	unsigned size = 1u << below(seed, pio ? 3 : 4);

	step->gpa = bytes((pio ? PORTS : MEMORY) + below(seed, PLACES));
	if (device && below(seed, 4)) {
		step->gpa = bytes(device->addr);
		if (device->len == 1 || device->len == 2 || device->len == 4)
			size = (unsigned)device->len;
		else if (!device->event)
			step->gpa.bytes += below(seed, 4);
	}
	step->size = bytes(size);
	step->options = value_of(below(seed, VALUES), size);
}

static void fill_in_slot(uint64_t *seed, struct kvm_step *step)
{
	step->id = below(seed, 2);
	step->gpa = (struct kvm_value){KVM_FROM_ZERO, MEMORY / 4096 + step->id, 0};
	step->size = (struct kvm_value){KVM_FROM_ZERO, below(seed, 4) == 0, 0};
	step->hva = (struct kvm_value){KVM_FROM_MEM, 8, 0};
	step->flags = below(seed, 2) ? RO : 0;
}

static void fill_in_indices(uint64_t *seed, struct kvm_step *step)
{
	static const uint32_t forged[] = {RING_ENTRIES, RING_ENTRIES + 1, UINT32_MAX, 0x80000000};

	static const unsigned char used[] = {0, 84, 85, 86, 167, 168, 169};
	unsigned n = below(seed, 2) ? used[below(seed, LENGTH(used))] : below(seed, RING_ENTRIES);

	step->first_page = below(seed, RING_ENTRIES);
	step->num_pages = ((uint32_t)step->first_page + n) % RING_ENTRIES;
	if (below(seed, 4) == 0)
		step->num_pages = forged[below(seed, LENGTH(forged))];
	if (below(seed, 8) == 0)
		step->first_page = forged[below(seed, LENGTH(forged))];
}

static void random_step(uint64_t *seed, const struct fake_kvm *kvm, struct kvm_step *step)
{
	static const unsigned char kinds[] = {
		KVM_STEP_EVENT, KVM_STEP_EVENT, KVM_STEP_EVENT, KVM_STEP_ZONE,  KVM_STEP_UNZONE,
		KVM_STEP_STORE, KVM_STEP_STORE, KVM_STEP_STORE, KVM_STEP_STORE, KVM_STEP_STORE,
		KVM_STEP_STORE, KVM_STEP_OUT,   KVM_STEP_OUT,   KVM_STEP_OUT,   KVM_STEP_LOAD,
		KVM_STEP_IN,    KVM_STEP_SET,
	};

	*step = (struct kvm_step){
		.kind = kinds[below(seed, LENGTH(kinds))],
		.as_id = below(seed, kvm->config.spaces),
		.no_arg = below(seed, 128) == 0,
	};
	if (below(seed, 64) == 0)
		step->kind = KVM_STEP_DRAIN;
	else if (below(seed, 128) == 0)
		step->kind = KVM_STEP_INDICES;
	if (step->kind == KVM_STEP_EVENT)
		fill_in_event(seed, kvm, step);
	else if (step->kind == KVM_STEP_ZONE || step->kind == KVM_STEP_UNZONE)
		fill_in_zone(seed, kvm, step);
	else if (step->kind == KVM_STEP_SET)
		fill_in_slot(seed, step);
	else if (step->kind == KVM_STEP_INDICES)
		fill_in_indices(seed, step);
	else if (step->kind == KVM_STEP_DRAIN)
		step->num_pages = below(seed, 2) ? below(seed, 8) : 0;
	else
		fill_in_transfer(seed, kvm, step);
}

/* ---- what was seen ---- */

/* Then the bus is filled, which takes a thousand calls that are slow. */
static bool is_long(uint64_t nsteps)
{
	return nsteps > DEFAULT_STEPS;
}

static void take_in(struct sight *sight, const struct kvm_step *step, int result,
		    const struct kvm_vm *vm)
{
	bool stores = step->kind == KVM_STEP_STORE || step->kind == KVM_STEP_OUT;

	sight->steps[step->kind]++;
	if (result < 0) {
		assert_true((size_t)-result < LENGTH(sight->errors));
		sight->errors[-result]++;
		return;
	}
	if (!stores)
		return;
	sight->signals += !!(result & (KVM_COALESCES - KVM_SIGNALS));
	sight->coalesced += result >= KVM_COALESCES;
	sight->exits += result == KVM_EXITS_MMIO || result == KVM_EXITS_IO;
	sight->memory += result == 0;
	sight->full += result == KVM_EXITS_MMIO &&
		       (vm->coalesced->last + 1) % RING_ENTRIES == vm->coalesced->first;
}

static void assert_enough_was_seen(const struct sight *sight, const struct fake_kvm *kvm,
				   uint64_t nsteps)
{
	static const int errors[] = {EINVAL, EBADF, EEXIST, ENOENT, ENOSPC, EFAULT};

	print_message("%llu steps: assign %u, deassign %u, register %u, unregister %u; stores: %u "
		      "signals, %u coalesced, %u exits, %u memory, %u with a full ring\n",
		      (unsigned long long)nsteps, kvm->count[FAKE_KVM_ASSIGN],
		      kvm->count[FAKE_KVM_DEASSIGN], kvm->count[FAKE_KVM_REGISTER],
		      kvm->count[FAKE_KVM_UNREGISTER], sight->signals, sight->coalesced,
		      sight->exits, sight->memory, sight->full);
	if (nsteps < DEFAULT_STEPS)
		return;
	for (unsigned op = FAKE_KVM_ASSIGN; op <= FAKE_KVM_UNREGISTER; op++)
		assert_int_not_equal(kvm->count[op], 0);
	for (size_t i = 0; i < LENGTH(errors); i++)
		assert_true(sight->errors[errors[i]] || (errors[i] == ENOSPC && !is_long(nsteps)));
	assert_true(sight->signals && sight->coalesced && sight->exits && sight->memory);
	assert_int_not_equal(sight->full, 0);
}

/* ---- the walk ---- */

static void sweep_bus(struct kvm_vm *vm, struct kvm_vm *other, enum kvm_step_kind kind)
{
	const unsigned max_size = kind == KVM_STEP_OUT ? 4 : 8;
	const unsigned first = kind == KVM_STEP_OUT ? PORTS : MEMORY;

	for (unsigned size = 1; size <= max_size; size *= 2)
		for (unsigned at = 0; at < PLACES; at++)
			for (unsigned value = 0; value < VALUES; value++) {
				struct kvm_step step = {
					.kind = kind,
					.gpa = bytes(first + at),
					.size = bytes(size),
					.options = value_of(value, size),
				};

				assert_agreement(vm, other, &step);
			}
}

/* With no memory in the way, and a ring that has room; both are left so. */
static void sweep(struct kvm_vm *vm, struct kvm_vm *other)
{
	const struct kvm_step drain = {.kind = KVM_STEP_DRAIN};
	const struct kvm_step indices = {.kind = KVM_STEP_INDICES};
	struct kvm_step set = {.kind = KVM_STEP_SET};

	for (; set.id < 2; set.id++)
		for (set.as_id = 0; set.as_id < vm->limits.spaces; set.as_id++)
			assert_agreement(vm, other, &set);
	assert_agreement(vm, other, &indices);
	sweep_bus(vm, other, KVM_STEP_STORE);
	assert_agreement(vm, other, &drain);
	sweep_bus(vm, other, KVM_STEP_OUT);
	assert_agreement(vm, other, &drain);
}

static void fill_bus(struct kvm_vm *vm, struct kvm_vm *other)
{
	const struct kvm_step zones = {
		.kind = KVM_STEP_ZONE,
		.gpa = bytes(0x100000),
		.size = bytes(4),
		.num_pages = 1000 - ROOM,
	};

	assert_agreement(vm, other, &zones);
}

/* A slot that comes and goes in space 0, with which all mappings go: see kvm-table-bus.c. */
static void forget_devices(struct kvm_vm *vm, struct kvm_vm *other)
{
	struct kvm_step set = {
		.kind = KVM_STEP_SET,
		.id = 9,
		.gpa = {KVM_FROM_ZERO, 700, 0},
		.size = {KVM_FROM_ZERO, 1, 0},
		.hva = {KVM_FROM_MEM, 8, 0},
	};

	assert_agreement(vm, other, &set);
	set.size.npages = 0;
	assert_agreement(vm, other, &set);
}

/* Many of these take longer than many others: a bus that changes waits for all who read it. */
static uint64_t channel_steps(uint64_t nsteps)
{
	return is_long(nsteps) ? DEFAULT_STEPS + (nsteps - DEFAULT_STEPS) / 16 : nsteps;
}

void walk_channels(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	uint64_t seed = number_from("KVMAS_SEED", DEFAULT_SEED);
	uint64_t nsteps = channel_steps(number_from("KVMAS_STEPS", DEFAULT_STEPS));
	uint64_t interval = nsteps / NSWEEPS + PROBE_INTERVAL;
	struct sight sight = {0};

	print_message("KVMAS_SEED=%llu KVMAS_STEPS=%llu, %u space(s)\n", (unsigned long long)seed,
		      (unsigned long long)nsteps, vm->limits.spaces);
	assert_agreement(vm, other, &(struct kvm_step){.kind = KVM_STEP_VCPU});
	if (is_long(nsteps))
		fill_bus(vm, other);
	for (uint64_t i = 0; i < nsteps; i++) {
		struct kvm_step step;

		random_step(&seed, kvm, &step);
		if (step.kind == KVM_STEP_DRAIN && i / 256 % 2)
			continue; /* the ring may become full */
		take_in(&sight, &step, result_of_both(vm, other, &step), vm);
		if (step.kind == KVM_STEP_SET && kvm->config.spaces > 1)
			forget_devices(vm, other);
		assert_valid(kvm);
		kvm->ncalls = 0; /* nobody reads them */
		if (i % interval == interval - 1)
			sweep(vm, other);
	}
	sweep(vm, other);
	assert_enough_was_seen(&sight, kvm, nsteps);
}

/* SPDX-License-Identifier: MIT */
/*
 * See kvm-trial.h: the table and random steps as tests with cmocka. The steps themselves, without
 * it, are in kvm-step.c.
 */
#include "kvm-trial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake-kvm-fixture.h"
#include "kvm-probe.h"

/* ---- a double's vCPU ---- */

static int fake_make(struct kvm_vm *vm)
{
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(vm->data);

	vcpu->smbase = pages(KVM_TABLE_CODE - 8);
	vm->vcpu = vcpu;
	vm->ring = vcpu->ring;
	vm->coalesced = (void *)((char *)vcpu->run + pages(FAKE_KVM_RING_PAGE));
	vm->next = 0;
	return 0;
}

static uint64_t bytes_at(const void *bytes, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size);
	return value;
}

static struct kvm_seen_exit see_exit(const struct kvm_run *run)
{
	struct kvm_seen_exit seen = {.pio = run->exit_reason == KVM_EXIT_IO};

#ifdef KVM_RUN_X86_SMM
	seen.smm = run->flags & KVM_RUN_X86_SMM;
#endif
	seen.writes = seen.pio ? run->io.direction == KVM_EXIT_IO_OUT : run->mmio.is_write;
	seen.addr = seen.pio ? run->io.port : run->mmio.phys_addr;
	seen.size = seen.pio ? run->io.size : run->mmio.len;
	if (seen.writes)
		seen.value = bytes_at(seen.pio ? (const char *)run + run->io.data_offset
					       : (const void *)run->mmio.data,
				      seen.size);
	return seen;
}

static int fake_transfer(struct kvm_vm *vm, struct kvm_transfer *transfer)
{
	struct fake_kvm_vcpu *vcpu = vm->vcpu;
	uint64_t value = transfer->value;
	unsigned size = transfer->size;
	int r;

	vcpu->as_id = transfer->as_id;
	if (transfer->pio)
		r = transfer->writes
			    ? fake_kvm_vcpu_out(vcpu, (uint16_t)transfer->addr, &value, size)
			    : fake_kvm_vcpu_in(vcpu, (uint16_t)transfer->addr, size);
	else
		r = transfer->writes ? fake_kvm_vcpu_store(vcpu, transfer->as_id, transfer->addr,
							   &value, size)
				     : fake_kvm_vcpu_load(vcpu, transfer->as_id, transfer->addr,
							  &value, size);
	if (r < 0)
		return r;
	transfer->nexits = (unsigned)r;
	if (r == 1)
		transfer->exit = see_exit(vcpu->run);
	return 0;
}

/* It leaves the guest each time. */
static int fake_access(struct kvm_vm *vm, bool writes, unsigned as_id, uint64_t gpa)
{
	int r = writes ? fake_kvm_vcpu_write(vm->vcpu, as_id, gpa, 1)
		       : fake_kvm_vcpu_read(vm->vcpu, as_id, gpa, 1);

	fake_kvm_vcpu_flush(vm->vcpu);
	return r;
}

/* KVM says nothing of a place that is none. */
static int fake_clock(struct kvm_vm *vm, uint64_t gpa)
{
	int r = fake_kvm_clock(vm->vcpu, gpa);

	return r == -EFAULT ? 0 : r;
}

static int fake_smi(struct kvm_vm *vm)
{
	struct fake_kvm_vcpu *vcpu = vm->vcpu;

	if (vcpu->as_id == 1)
		fake_kvm_vcpu_read(vcpu, 0, pages(KVM_TABLE_CODE), 1);
	return fake_kvm_smm_save(vcpu);
}

static void fake_end(struct kvm_vm *vm)
{
	vm->vcpu = NULL;
	vm->ring = NULL;
	vm->coalesced = NULL;
}

static const struct kvm_guest fake_guest = {
	.make = fake_make,
	.transfer = fake_transfer,
	.access = fake_access,
	.clock = fake_clock,
	.smi = fake_smi,
	.end = fake_end,
};

struct kvm_vm as_vm(struct fake_kvm *kvm)
{
	return (struct kvm_vm){
		.ioctl = fake_kvm_ioctl, .data = kvm, .fd = kvm->fd, .guest = &fake_guest};
}

void probe_double(struct fake_kvm *kvm, struct kvm_vm *vm)
{
	struct fake_kvm *scratch = fake_kvm_new(&kvm->config);
	struct kvm_vm probed = as_vm(scratch);

	assert_int_equal(kvm_vm_probe(vm), 0);
	assert_int_equal(kvm_vm_probe(&probed), 0);
	assert_int_equal(kvm_vm_probe_guest(&probed), 0);
	vm->limits = probed.limits;
	kvm_vm_end(&probed);
	fake_kvm_free(scratch);
}

/* ---- steps ---- */

void report_step(void *data, const struct kvm_step *step, int result)
{
	char text[512];

	(void)data;
	kvm_step_format(step, text, sizeof(text));
	print_error("%s: %d, expected %d\n", text, result, step->expected);
}

bool agree_on(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step, int results[2])
{
	results[0] = kvm_step_run(vm, step);
	results[1] = other ? kvm_step_run(other, step) : results[0];
	if (results[0] != results[1])
		return false;
	return !other || (step->kind != KVM_STEP_GET && step->kind < KVM_STEP_STORE) ||
	       memcmp(vm->words, other->words, sizeof(vm->words)) == 0;
}

int result_of_both(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step)
{
	char text[512];
	int results[2];

	bool agree = agree_on(vm, other, step, results);

	kvm_step_format(step, text, sizeof(text));
	if (number_from("KVMAS_VERBOSE", 0))
		print_message("%s: %d\n", text, results[0]);
	if (!agree) {
		fail_msg("%s: double %d, other %d; logs %llx %llx", text, results[0], results[1],
			 (unsigned long long)vm->words[0],
			 other ? (unsigned long long)other->words[0] : 0);
	}
	return results[0];
}

void assert_agreement(struct kvm_vm *vm, struct kvm_vm *other, const struct kvm_step *step)
{
	(void)result_of_both(vm, other, step);
}

/* ---- random steps ---- */

static bool lacks_region2(const struct kvm_limits *limits)
{
	return !limits->region2;
}

static bool has_guest_memfd(const struct kvm_limits *limits)
{
	return limits->guest_memfd;
}

/* What was refused with what, and whether it must be among what a long run sees. */
static const struct {
	int error;
	const char *name;
	bool (*is_possible)(const struct kvm_limits *limits);
} errors[] = {
	{EINVAL, "EINVAL", NULL},          {EEXIST, "EEXIST", NULL},
	{ENOENT, "ENOENT", NULL},          {EFAULT, "EFAULT", NULL},
	{ENOTTY, "ENOTTY", lacks_region2}, {EBADF, "EBADF", has_guest_memfd},
};

static void count_error(unsigned counts[LENGTH(errors)], int result)
{
	for (size_t i = 0; i < LENGTH(errors); i++)
		if (result == -errors[i].error) {
			counts[i]++;
			return;
		}
	if (result < 0)
		fail_msg("nobody knows why a step should give %d", result);
}

/* A run that never saw some operation succeed, or some errno, would prove little. */
static void assert_all_happened(const struct fake_kvm *kvm, const struct kvm_limits *limits,
				const unsigned counts[LENGTH(errors)], uint64_t nsteps)
{
	print_message("%llu steps: create %u, delete %u, move %u, flags %u, same %u, get %u, "
		      "clear %u, cap %u, refused %u:",
		      (unsigned long long)nsteps, kvm->count[FAKE_KVM_CREATE],
		      kvm->count[FAKE_KVM_DELETE], kvm->count[FAKE_KVM_MOVE],
		      kvm->count[FAKE_KVM_FLAGS], kvm->count[FAKE_KVM_SAME],
		      kvm->count[FAKE_KVM_GET], kvm->count[FAKE_KVM_CLEAR],
		      kvm->count[FAKE_KVM_CAP], kvm->refused);
	for (size_t i = 0; i < LENGTH(errors); i++)
		print_message(" %s %u", errors[i].name, counts[i]);
	print_message("\n");
	if (nsteps < DEFAULT_STEPS)
		return;
	for (unsigned op = FAKE_KVM_CREATE; op < FAKE_KVM_ASSIGN; op++)
		assert_true(kvm->count[op] != 0 || op == FAKE_KVM_RESET);
	for (size_t i = 0; i < LENGTH(errors); i++)
		if (!errors[i].is_possible || errors[i].is_possible(limits))
			assert_int_not_equal(counts[i], 0);
}

void assert_same_slots(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	const char *difference = kvm_probe_compare(kvm, vm, other);

	if (difference)
		fail_msg("%s", difference);
	assert_valid(kvm);
}

void walk(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other)
{
	uint64_t seed = number_from("KVMAS_SEED", DEFAULT_SEED);
	uint64_t nsteps = number_from("KVMAS_STEPS", DEFAULT_STEPS);
	unsigned counts[LENGTH(errors)] = {0};

	print_message("KVMAS_SEED=%llu KVMAS_STEPS=%llu, %u space(s)\n", (unsigned long long)seed,
		      (unsigned long long)nsteps, vm->limits.spaces);
	fake_kvm_reset(kvm);
	for (uint64_t i = 0; i < nsteps; i++) {
		struct kvm_step step;

		kvm_step_random(&seed, vm->limits.spaces, &step);
		count_error(counts, result_of_both(vm, other, &step));
		assert_valid(kvm);
		kvm->ncalls = 0; /* nobody reads them */
		if (i % PROBE_INTERVAL == 0)
			assert_same_slots(kvm, vm, other);
	}
	assert_same_slots(kvm, vm, other);
	assert_all_happened(kvm, &vm->limits, counts, nsteps);
}

/* ---- random accesses ---- */

/* What a walk with a guest has seen. */
struct sight {
	unsigned steps[KVM_STEP_KINDS];
	uint64_t bits;    /* in dirty logs */
	uint64_t entries; /* of the ring */
	uint64_t pages;   /* written and read */
	unsigned full;    /* accesses that the ring stopped */
	unsigned faults;
};

static unsigned random_below(uint64_t *seed, unsigned n)
{
	struct kvm_step step;

	/* Numbers of the same kind as those of the other steps. */
	kvm_step_random(seed, 1, &step);
	return (unsigned)((*seed >> 32) * n >> 32);
}

/* Any slot of a space but that of the code; NULL if there is none. */
static const struct fake_kvm_slot *random_slot(uint64_t *seed, const struct fake_kvm *kvm,
					       unsigned as_id)
{
	const struct fake_kvm_space *space = &kvm->spaces[as_id];
	const struct fake_kvm_slot *slot;

	if (space->nslots == 0)
		return NULL;
	slot = space->by_gpa[random_below(seed, space->nslots)];
	return slot->id < 16 ? slot : NULL;
}

/* Mostly the places and sizes that an id always has: kvm_step_random's, without what is refused. */
static void fill_in_set(uint64_t *seed, struct kvm_step *step)
{
	static const unsigned char sizes[] = {1, 2, 3, 5, 8, 64, 70, 130};
	unsigned id = step->id = random_below(seed, 8);

	step->size = (struct kvm_value){KVM_FROM_ZERO, sizes[id], 0};
	if (random_below(seed, 6) == 0)
		step->size.npages = 0;
	step->gpa = (struct kvm_value){KVM_FROM_ZERO, 512 + 256 * id, 0};
	if (id == 0)
		step->gpa.npages = 512;
	if (random_below(seed, 3) == 0)
		step->gpa.npages = 4 * random_below(seed, 64);
	if (random_below(seed, 24) == 0)
		step->gpa = (struct kvm_value){KVM_FROM_END, 0, 0};
	step->hva = (struct kvm_value){KVM_FROM_MEM, id / 2, 0};
	step->flags = random_below(seed, 4) ? LOG : 0;
	if (id == 3)
		step->flags |= RO;
}

static void fill_in_access(uint64_t *seed, const struct fake_kvm *kvm, struct kvm_step *step)
{
	const struct fake_kvm_slot *slot = random_slot(seed, kvm, step->as_id);

	step->first_page = random_below(seed, 512);
	if (slot && random_below(seed, 16))
		step->first_page = slot->gpa / kvm->page_size +
				   random_below(seed, (unsigned)(slot->size / kvm->page_size));
	step->num_pages = 1 + random_below(seed, 6);
}

static void fill_in_log(uint64_t *seed, const struct fake_kvm *kvm, struct kvm_step *step)
{
	static const unsigned char sizes[] = {1, 2, 3, 5, 8, 64, 70, 130};
	const struct fake_kvm_slot *slot = random_slot(seed, kvm, step->as_id);

	step->id = slot ? slot->id : random_below(seed, 8);
	step->no_buffer = random_below(seed, 16) == 0;
	step->num_pages = sizes[step->id % 8];
	step->mask = *seed;
	if (step->num_pages > 64 && random_below(seed, 2))
		step->num_pages = 64;
}

/* An SMI needs a place for its state; with a full ring it would wait. */
static bool can_smi(const struct fake_kvm *kvm)
{
	const struct fake_kvm_vcpu *vcpu = kvm->vcpus[0];
	const struct fake_kvm_slot *slot;

	if (kvm->config.spaces < 2 || vcpu->pushed - vcpu->reset > 128)
		return false;
	slot = fake_kvm_find(kvm, 1, KVM_TABLE_SAVE * kvm->page_size);
	return slot && !(slot->flags & RO);
}

/* How often KVM writes the time is its own affair: it may be in the ring more than once. */
static enum kvm_step_kind random_kind(uint64_t *seed, const struct fake_kvm *kvm)
{
	static const unsigned char with_bitmaps[] = {
		KVM_STEP_SET,   KVM_STEP_SET,   KVM_STEP_WRITE, KVM_STEP_WRITE, KVM_STEP_WRITE,
		KVM_STEP_WRITE, KVM_STEP_READ,  KVM_STEP_READ,  KVM_STEP_GET,   KVM_STEP_GET,
		KVM_STEP_CLEAR, KVM_STEP_CLEAR, KVM_STEP_CLOCK, KVM_STEP_SMI,
	};
	static const unsigned char with_rings[] = {
		KVM_STEP_SET,     KVM_STEP_WRITE,   KVM_STEP_WRITE, KVM_STEP_WRITE,
		KVM_STEP_WRITE,   KVM_STEP_WRITE,   KVM_STEP_WRITE, KVM_STEP_READ,
		KVM_STEP_HARVEST, KVM_STEP_HARVEST, KVM_STEP_RESET, KVM_STEP_SMI,
	};
	enum kvm_step_kind kind;

	if (random_below(seed, 48) == 0)
		return KVM_STEP_MANUAL;
	kind = kvm->ring_size ? with_rings[random_below(seed, LENGTH(with_rings))]
			      : with_bitmaps[random_below(seed, LENGTH(with_bitmaps))];
	return kind == KVM_STEP_SMI && !can_smi(kvm) ? KVM_STEP_READ : kind;
}

static void random_dirty_step(uint64_t *seed, const struct fake_kvm *kvm, struct kvm_step *step)
{
	static const unsigned char options[] = {0, 1, 3};

	*step = (struct kvm_step){
		.kind = random_kind(seed, kvm),
		.as_id = random_below(seed, kvm->config.spaces),
	};
	if (step->kind == KVM_STEP_SET)
		fill_in_set(seed, step);
	else if (step->kind == KVM_STEP_MANUAL)
		step->options = options[random_below(seed, 3)];
	else if (step->kind == KVM_STEP_GET || step->kind == KVM_STEP_CLEAR)
		fill_in_log(seed, kvm, step);
	else
		fill_in_access(seed, kvm, step);
}

static void take_in(struct sight *sight, const struct kvm_step *step, int result)
{
	bool accesses = step->kind == KVM_STEP_WRITE || step->kind == KVM_STEP_READ;

	sight->steps[step->kind]++;
	if (step->kind == KVM_STEP_GET && result > 0)
		sight->bits += (unsigned)result & 0xffff;
	if (step->kind == KVM_STEP_HARVEST && result >= 0)
		sight->entries++;
	if (accesses && result == -EFAULT)
		sight->faults++;
	if (accesses && result >= 0)
		sight->pages += (unsigned)result;
	if (accesses && result == 0)
		sight->full++;
}

static void assert_enough_was_seen(const struct sight *sight, const struct fake_kvm *kvm,
				   uint64_t nsteps)
{
	print_message(
		"%llu steps: set %u, get %u, clear %u, harvest %u, reset %u, clock %u, smi %u; "
		"%llu pages written or read, %llu bits, %llu entries, full %u, faults %u\n",
		(unsigned long long)nsteps, sight->steps[KVM_STEP_SET], sight->steps[KVM_STEP_GET],
		sight->steps[KVM_STEP_CLEAR], sight->steps[KVM_STEP_HARVEST],
		sight->steps[KVM_STEP_RESET], sight->steps[KVM_STEP_CLOCK],
		sight->steps[KVM_STEP_SMI], (unsigned long long)sight->pages,
		(unsigned long long)sight->bits, (unsigned long long)sight->entries, sight->full,
		sight->faults);
	if (nsteps < DEFAULT_STEPS)
		return;
	assert_true(kvm->ring_size ? sight->entries > 0 : sight->bits > 0);
	assert_true(sight->pages && sight->faults);
	assert_true(kvm->config.spaces < 2 || sight->steps[KVM_STEP_SMI]);
}

/* A harvest takes all that there is, or some. */
static unsigned times_of(uint64_t *seed, const struct kvm_step *step)
{
	return step->kind == KVM_STEP_HARVEST ? 1 + random_below(seed, 24) : 1;
}

static void begin_walk(struct kvm_vm *vm, struct kvm_vm *other, bool rings)
{
	const struct kvm_step ring = {
		.kind = KVM_STEP_RING,
		.options = vm->limits.small_ring ? 4096 : 16384,
	};

	if (rings)
		assert_int_equal(result_of_both(vm, other, &ring), 0);
	assert_int_equal(result_of_both(vm, other, &(struct kvm_step){.kind = KVM_STEP_VCPU}), 0);
}

void walk_dirty(struct fake_kvm *kvm, struct kvm_vm *vm, struct kvm_vm *other, bool rings)
{
	uint64_t seed = number_from("KVMAS_SEED", DEFAULT_SEED);
	uint64_t nsteps = number_from("KVMAS_STEPS", DEFAULT_STEPS);
	struct sight sight = {0};

	print_message("KVMAS_SEED=%llu KVMAS_STEPS=%llu, %u space(s)\n", (unsigned long long)seed,
		      (unsigned long long)nsteps, vm->limits.spaces);
	begin_walk(vm, other, rings);
	for (uint64_t i = 0; i < nsteps; i++) {
		struct kvm_step step;

		random_dirty_step(&seed, kvm, &step);
		if (step.kind == KVM_STEP_HARVEST && i / 256 % 2)
			continue; /* the ring may become full */
		for (unsigned n = times_of(&seed, &step); n > 0; n--)
			take_in(&sight, &step, result_of_both(vm, other, &step));
		assert_valid(kvm);
		kvm->ncalls = 0; /* nobody reads them */
		if (i % PROBE_INTERVAL == 0)
			assert_same_slots(kvm, vm, other);
	}
	assert_same_slots(kvm, vm, other);
	assert_enough_was_seen(&sight, kvm, nsteps);
	assert_true(!rings || sight.full || !other || nsteps < DEFAULT_STEPS);
}

/* ---- the table as tests ---- */

static void add_tests(struct CMUnitTest *tests, const struct kvm_sequence *table, size_t length,
		      void (*test)(void **state))
{
	for (size_t i = 0; i < length; i++)
		tests[i] = (struct CMUnitTest){
			.name = table[i].name,
			.test_func = test,
			.initial_state = (void *)(uintptr_t)&table[i],
		};
}

int run_table(const char *group, void (*test)(void **state))
{
	const struct {
		const struct kvm_sequence *sequences;
		size_t length;
	} tables[] = {
		{kvm_table, kvm_table_length},
		{kvm_dirty_table, kvm_dirty_table_length},
		{kvm_bus_table, kvm_bus_table_length},
		{kvm_gmem_table, kvm_gmem_table_length},
	};
	size_t ntests = kvm_table_length + kvm_dirty_table_length + kvm_bus_table_length +
			kvm_gmem_table_length;
	struct CMUnitTest *tests = calloc(ntests, sizeof(*tests)), *next = tests;
	int r;

	if (!tests)
		return 1;
	for (size_t i = 0; i < LENGTH(tables); i++) {
		add_tests(next, tables[i].sequences, tables[i].length, test);
		next += tables[i].length;
	}
	r = _cmocka_run_group_tests(group, tests, ntests, NULL, NULL);
	free(tests);
	return r;
}

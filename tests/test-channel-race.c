/* SPDX-License-Identifier: MIT */
/*
 * Two vCPUs store into coalesced zones and to ioeventfds, and exit; a thread hands on what waits,
 * and makes DMA to the devices; another one has two devices change places, covers them with a third
 * and edits their channels; callbacks commit, too. At each address some device always answers: so
 * each store must arrive once, and each writer's in the order in which it made them.
 *
 * What a callback counts by is no atomic: for ThreadSanitizer, that calls of one writer's follow
 * each other is what the library promises.
 *
 * KVMAS_STEPS: stores of each writer.
 */
#include "channel-fixture.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum { NWRITERS = NCPUS + 1, DEFAULT_STORES = 4000, DOORBELL = 0x40, GATES = 3 };

struct race {
	struct rig *r;
	struct kvmas_region *regions[GATES];
	struct kvmas_reader *reader; /* of the thread that drains */
	uint64_t next[NWRITERS];     /* what each writer's next one to arrive is */
	/* What each has made. The ring lies between them, too, but at another address in each of
	 * its mappings: ThreadSanitizer does not know that it is the same. */
	_Atomic(uint64_t) made[NWRITERS];
	uint64_t nstores;
	uint64_t rung;      /* doorbells that were rung, by all */
	atomic_uint ncalls; /* of callbacks, and */
	atomic_uint ncommits;
	atomic_uint failures;
	atomic_uint working; /* writers */
};

struct writer {
	struct race *race;
	unsigned index;
	uint64_t rung;
	pthread_t thread;
};

static void expect(struct race *race, bool right)
{
	if (!right)
		atomic_fetch_add(&race->failures, 1);
}

/* ---- devices ---- */

/* From a callback: an ioeventfd somewhere else comes, or goes. */
static void edit_inside(struct race *race, struct kvmas_region *region)
{
	int err = add_event(race->r, region, 0x800, 4, 5);

	if (err == -EEXIST)
		err = del_event(region, 0x800, 4);
	expect(race, err == 0 || err == -ENOENT);
	atomic_fetch_add(&race->ncommits, 1);
}

static int write_race(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct device *device = opaque;
	struct race *race = device->rig->data;
	unsigned writer = (unsigned)(access->offset / 8) % 4;

	expect(race, writer < NWRITERS && access->size == 8);
	expect(race, atomic_load_explicit(&race->made[writer], memory_order_acquire) > value);
	expect(race, race->next[writer] == value);
	race->next[writer] = value + 1;
	if (atomic_fetch_add(&race->ncalls, 1) % 256 == 255)
		edit_inside(race, device->region);
	return 0;
}

static void make_race_device(struct race *race, unsigned index)
{
	struct device *device = &race->r->devices[race->r->ndevices++];
	const struct kvmas_ops ops = {.struct_size = sizeof(ops), .write = write_race};

	device->rig = race->r;
	must(kvmas_region_new(race->r->m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "device",
					   .size = page_size(), .ops = &ops, .opaque = device),
			      &device->region));
	race->regions[index] = device->region;
	must(kvmas_region_add_coalesced(device->region, 0, 0x20, 0));
	must(add_event(race->r, device->region, DOORBELL, 0, index));
}

/* ---- threads ---- */

static void store_one(struct writer *writer, uint64_t address, uint64_t value)
{
	struct guest_vcpu *guest = &writer->race->r->cpus[writer->index];
	unsigned as_id = value % 3 == 0 ? SMM : NORMAL;
	int result = fake_kvm_vcpu_store(guest->cpu, as_id, address, &value, 8);

	if (result == 1)
		expect(writer->race, kvmas_vcpu_handle_exit(guest->vcpu) == 1);
	else
		expect(writer->race, result == 0);
}

static void make_next(struct writer *writer, uint64_t value)
{
	atomic_store_explicit(&writer->race->made[writer->index], value + 1, memory_order_release);
}

/* To either place, in turn, so that what one device had must wait for what another one has. */
static void *run_vcpu(void *data)
{
	struct writer *writer = data;
	struct race *race = writer->race;

	for (uint64_t i = 0; i < race->nstores; i++) {
		make_next(writer, i);
		store_one(writer, pages(4 + i / 3 % 2) + 8 * writer->index, i);
		if (i % 5 == 0) {
			store_one(writer, pages(4 + i % 2) + DOORBELL, i);
			writer->rung++;
		}
		if (i % 64 == 0)
			sched_yield();
	}
	atomic_fetch_sub(&race->working, 1);
	return NULL;
}

static void *run_io(void *data)
{
	struct writer *writer = data;
	struct race *race = writer->race;
	const struct kvmas_dma dma = {.reader = race->reader, .space = race->r->m->space[NORMAL]};

	for (uint64_t i = 0; i < race->nstores; i++) {
		uint64_t gpa = pages(4 + i % 2) + 8 * writer->index;

		make_next(writer, i);
		if (i % 2)
			expect(race, kvmas_kvm_drain(race->r->m->kvm, dma.reader) == 0);
		expect(race, kvmas_dma_write(&dma, gpa, &i, 8, NULL) == 0);
		if (i % 16 == 0)
			sched_yield();
	}
	atomic_fetch_sub(&race->working, 1);
	return NULL;
}

static int change(struct race *race, unsigned turn)
{
	struct kvmas_region **at = race->regions;
	int err = 0;

	switch (turn % 6) {
	case 0: /* the two change places */
	case 3:
		err = kvmas_region_set_offset(at[0], pages(turn % 12 < 6 ? 5 : 4));
		return err ? err : kvmas_region_set_offset(at[1], pages(turn % 12 < 6 ? 4 : 5));
	case 1:
		return kvmas_region_set_enabled(at[2], true);
	case 4:
		return kvmas_region_set_enabled(at[2], false);
	case 2:
		return kvmas_region_del_coalesced(at[turn / 6 % 3], 0, 0x20);
	default:
		return kvmas_region_add_coalesced(at[turn / 6 % 3], 0, 0x20, 0);
	}
}

static void *run_committer(void *data)
{
	struct race *race = data;
	struct kvmas *kvmas = race->r->m->f->kvmas;

	for (unsigned turn = 0; atomic_load(&race->working) || turn % 6; turn++) {
		expect(race, kvmas_begin(kvmas) == 0);
		expect(race, change(race, turn) == 0);
		expect(race, kvmas_commit(kvmas) == 0);
		atomic_fetch_add(&race->ncommits, 1);
		sched_yield();
	}
	return NULL;
}

/* ---- the race ---- */

static void set_race(struct race *race)
{
	const char *steps = getenv("KVMAS_STEPS");

	race->r = rig_new(NULL);
	race->r->data = race;
	race->nstores = steps ? strtoull(steps, NULL, 0) : DEFAULT_STORES;
	must(kvmas_reader_add(race->r->m->f->kvmas, &race->reader));
	for (unsigned i = 0; i < GATES; i++)
		make_race_device(race, i);
	must(kvmas_region_set_enabled(race->regions[2], false));
	for (unsigned i = 0; i < GATES; i++)
		add(race->r->m->root[NORMAL], race->regions[i], pages(4 + i % 2), (int)(i / 2));
}

static void run(struct race *race)
{
	struct writer writers[NWRITERS];
	pthread_t committer;

	atomic_store(&race->working, NWRITERS);
	for (unsigned i = 0; i < NWRITERS; i++) {
		writers[i] = (struct writer){.race = race, .index = i};
		must(pthread_create(&writers[i].thread, NULL, i < NCPUS ? run_vcpu : run_io,
				    &writers[i]));
	}
	must(pthread_create(&committer, NULL, run_committer, race));
	for (unsigned i = 0; i < NWRITERS; i++) {
		must(pthread_join(writers[i].thread, NULL));
		race->rung += writers[i].rung;
	}
	must(pthread_join(committer, NULL));
}

static void stores_arrive_once_and_in_order_whatever_is_committed(void **state)
{
	struct race race = {0};
	uint64_t heard = 0;

	(void)state;
	set_race(&race);
	alarm(300); /* who waits for good is killed */
	run(&race);
	alarm(0);
	must(kvmas_kvm_drain(race.r->m->kvm, race.r->m->f->reader));
	for (unsigned i = 0; i < GATES; i++)
		heard += take_event(race.r, i);
	print_message("%u calls, %u commits, %u coalesced, %u signals by hand\n", race.ncalls,
		      race.ncommits, (unsigned)stats_of(race.r->m).coalesced_writes,
		      (unsigned)stats_of(race.r->m).events);
	assert_int_equal(race.failures, 0);
	assert_int_equal(heard, race.rung);
	assert_int_equal(race.ncalls, race.nstores * NWRITERS);
	for (unsigned i = 0; i < NWRITERS; i++)
		assert_int_equal(race.next[i], race.nstores);
	assert_true(stats_of(race.r->m).coalesced_writes > 0);
	look(race.r, "");
	kvmas_reader_del(race.reader);
	rig_free(race.r);
}

/* ---- one at a time ---- */

/* The vCPU of the other thread. */
static void *exit_beside(void *data)
{
	struct rig *r = data;

	store(r, 1, NORMAL, pages(8), 1, 4);
	return NULL;
}

/* While a write is being handed on, another vCPU exits: it comes after. */
static void wait_inside(struct device *device, const struct kvmas_access *access)
{
	struct rig *r = device->rig;
	const struct timespec while_it_could = {.tv_nsec = 50000000};
	pthread_t *thread = r->data;

	(void)access;
	if (device->ncalls > 1)
		return;
	must(pthread_create(thread, NULL, exit_beside, r));
	nanosleep(&while_it_could, NULL);
	assert_int_equal(r->devices[1].ncalls, 0);
}

static void exit_waits_for_what_another_thread_hands_on(void **state)
{
	struct rig *r = rig_new(NULL);
	struct kvmas_region *a = put_device(r, "a", pages(4), page_size());
	pthread_t thread;

	(void)state;
	r->data = &thread;
	put_device(r, "b", pages(8), page_size());
	must(kvmas_region_add_coalesced(a, 0, 0x20, 0));
	device_of(a)->inside = wait_inside;
	store(r, 0, NORMAL, pages(4), 1, 4);
	store(r, 0, NORMAL, pages(4), 2, 4);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	must(pthread_join(thread, NULL));
	look(r, "a+0/4=1 a+0/4=2 b+0/4=1 ");
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exit_waits_for_what_another_thread_hands_on),
		cmocka_unit_test(stores_arrive_once_and_in_order_whatever_is_committed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

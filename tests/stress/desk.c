/* SPDX-License-Identifier: MIT */
/*
 * The desk: two trays that both sides of the world show, and a double of KVM, to which the sides
 * are bound as its two address spaces.
 *
 *     tray   +0    8 bytes: a sheet, the writer's number in its high byte, the sheet's below;
 *                  a coalesced zone, or not
 *            +16   4 bytes: the bell; an ioeventfd, or not
 *
 * The trays are swapped, and gain and lose channels, while vCPUs store there through the double,
 * I/O threads write there, and all else goes on in the world. Whichever way a write goes, by KVM,
 * the ring or an exit, and whoever hands it on:
 *
 *   - each writer's sheets arrive one by one, in order (doc/threads.md, P and Q)
 *   - when an exit of a vCPU has been answered, what it wrote before has arrived; when somebody has
 *     drained, what all have stored before (R)
 *   - the bell has rung as often as it was rung: by eventfd and by callback together
 *
 * What arrived is counted without a lock: by one thread at a time, each after the one before. Now
 * and then a sheet has its device commit, from inside a turn.
 */
#include "desk.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define BELL 16
#define NUMBER_BITS 56

static _Thread_local const struct writer *me;

static uint64_t place_of(unsigned tray, bool swapped)
{
	return (tray ^ swapped) * PLACE_SIZE;
}

/* ---- the device ---- */

static void take_sheet(struct desk *desk, uint64_t value)
{
	struct writer *writer = &desk->writers[value >> NUMBER_BITS];
	uint64_t number = value & ((UINT64_C(1) << NUMBER_BITS) - 1);

	expect(desk->world, value >> NUMBER_BITS < NWRITERS);
	expect(desk->world, number <= atomic_load(&writer->written));
	expect(desk->world, number == writer->arrived + 1);
	writer->arrived = number;
	atomic_store(&writer->seen, number);
	if (writer != me)
		atomic_fetch_add(&desk->in_turns, 1);
	if (number % 256 == 0)
		expect(desk->world, world_commit(desk->world, GUIDE, false) == NULL);
}

static int write_tray(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct device *device = opaque;
	struct desk *desk = ((struct tray *)device)->desk;
	bool before = look_set(false);

	if (access->offset == BELL)
		atomic_fetch_add(&desk->by_hand, 1);
	else
		take_sheet(desk, value);
	look_set(before);
	return 0;
}

static int read_tray(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	(void)opaque;
	(void)access;
	*value = 0;
	return 0;
}

static const struct kvmas_ops tray_ops = {sizeof(tray_ops), read_tray, write_tray};

/* ---- edits ---- */

static int set_zone(struct tray *tray, bool there)
{
	struct kvmas_region *region = tray->device.region;

	tray->has_zone = there;
	return there ? kvmas_region_add_coalesced(region, 0, 8, 0)
		     : kvmas_region_del_coalesced(region, 0, 8);
}

static int set_bell(struct tray *tray, bool there)
{
	const struct kvmas_ioeventfd_config *bell =
		KVMAS_CONFIG(ioeventfd, .offset = BELL, .size = 4, .fd = tray->desk->eventfd);

	tray->has_bell = there;
	return there ? kvmas_region_add_ioeventfd(tray->device.region, bell)
		     : kvmas_region_del_ioeventfd(tray->device.region, bell);
}

static int swap(struct desk *desk)
{
	int err = 0;

	desk->swapped = !desk->swapped;
	for (unsigned i = 0; i < NTRAYS; i++)
		err |= kvmas_region_set_offset(desk->trays[i].device.region,
					       place_of(i, desk->swapped));
	return err;
}

void desk_edit(struct desk *desk, uint64_t *seed)
{
	struct world *world = desk->world;
	struct tray *tray = &desk->trays[draw(seed, NTRAYS)];
	bool fails = draw(seed, 6) == 0;
	struct tray before;
	bool swapped;

	expect(world, kvmas_begin(world->kvmas) == 0);
	world->refuse = false;
	before = *tray;
	swapped = desk->swapped;
	if (draw(seed, 2))
		expect(world, swap(desk) == 0);
	if (draw(seed, 3) == 0)
		expect(world, set_zone(tray, !tray->has_zone) == 0);
	if (draw(seed, 3) == 0)
		expect(world, set_bell(tray, !tray->has_bell) == 0);
	if (fails) {
		tray->has_zone = before.has_zone;
		tray->has_bell = before.has_bell;
		desk->swapped = swapped;
		expect(world, kvmas_abort(world->kvmas) == 0);
	} else {
		expect(world, kvmas_commit(world->kvmas) == 0);
	}
	atomic_fetch_add(&desk->edits, 1);
}

/* ---- writers ---- */

static uint64_t next_sheet(struct writer *writer)
{
	uint64_t number = atomic_fetch_add(&writer->written, 1) + 1;

	return (uint64_t)writer->number << NUMBER_BITS | number;
}

static void answer(struct writer *writer, int exits)
{
	struct world *world = writer->desk->world;
	bool before;

	expect(world, exits >= 0);
	if (exits != 1)
		return;
	before = look_set(true);
	expect(world, kvmas_vcpu_handle_exit(writer->vcpu) == 1);
	look_set(before);
	expect(world, writer->arrived == writer->written);
}

void writer_come(struct writer *writer)
{
	struct fake_kvm_vcpu *cpu = writer->cpu;

	me = writer;
	if (cpu)
		expect(writer->desk->world,
		       kvmas_vcpu_add(writer->desk->kvm,
				      KVMAS_CONFIG(vcpu, .fd = cpu->fd, .run = cpu->run,
						   .run_size = cpu->run_size),
				      &writer->vcpu) == 0);
}

void writer_store(struct writer *writer, uint64_t *seed)
{
	unsigned as_id = (unsigned)draw(seed, NSIDES);
	uint64_t gpa = DESK + draw(seed, NTRAYS) * PLACE_SIZE;
	uint64_t what = draw(seed, 32);
	uint32_t ring = 1;
	uint64_t sheet;

	if (what == 0) {
		answer(writer, fake_kvm_vcpu_load(writer->cpu, as_id, gpa, &sheet, 8));
	} else if (what < 8) {
		atomic_fetch_add(&writer->desk->rung, 1);
		answer(writer, fake_kvm_vcpu_store(writer->cpu, as_id, gpa + BELL, &ring, 4));
	} else {
		sheet = next_sheet(writer);
		answer(writer, fake_kvm_vcpu_store(writer->cpu, as_id, gpa, &sheet, 8));
		atomic_store(&writer->stored, atomic_load(&writer->written));
	}
}

void desk_drain(struct desk *desk, struct kvmas_reader *reader)
{
	uint64_t stored[NVCPUS];

	for (unsigned i = 0; i < NVCPUS; i++)
		stored[i] = atomic_load(&desk->writers[i].stored);
	expect(desk->world, kvmas_kvm_drain(desk->kvm, reader) == 0);
	for (unsigned i = 0; i < NVCPUS; i++)
		expect(desk->world, atomic_load(&desk->writers[i].seen) >= stored[i]);
}

void writer_go(struct writer *writer)
{
	kvmas_vcpu_del(writer->vcpu);
	writer->vcpu = NULL;
}

void writer_transfer(struct writer *writer, struct kvmas_reader *reader, uint64_t *seed)
{
	struct world *world = writer->desk->world;
	const struct kvmas_dma dma = {
		.reader = reader,
		.space = world->sides[draw(seed, NSIDES)].space,
		.requester = reader,
	};
	uint64_t gpa = DESK + draw(seed, NTRAYS) * PLACE_SIZE;
	uint32_t ring = 1;
	uint64_t sheet;

	if (draw(seed, 4) == 0) {
		atomic_fetch_add(&writer->desk->rung, 1);
		expect(world, kvmas_dma_write(&dma, gpa + BELL, &ring, 4, NULL) == 0);
		return;
	}
	sheet = next_sheet(writer);
	expect(world, kvmas_dma_write(&dma, gpa, &sheet, 8, NULL) == 0);
	expect(world, writer->arrived == writer->written);
}

/* ---- life ---- */

static void make_tray(struct desk *desk, unsigned i, struct kvmas_region *box)
{
	struct tray *tray = &desk->trays[i];

	tray->desk = desk;
	world_init_device(desk->world, &tray->device);
	must(kvmas_region_new(desk->world->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "tray",
					   .size = PLACE_SIZE, .ops = &tray_ops,
					   .opaque = &tray->device),
			      &tray->device.region));
	must(kvmas_region_add(box, tray->device.region, place_of(i, false), 0));
	must(set_zone(tray, true));
	must(set_bell(tray, true));
}

static void tie(struct desk *desk)
{
	struct world *world = desk->world;

	desk->vm = fake_kvm_new(NULL);
	must(kvmas_kvm_new(world->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = desk->vm->fd, .ioctl = fake_kvm_ioctl,
					.ioctl_data = desk->vm),
			   &desk->kvm));
	for (unsigned i = 0; i < NSIDES; i++)
		must(kvmas_kvm_bind(desk->kvm, world->sides[i].space, i));
	for (unsigned i = 0; i < NWRITERS; i++)
		desk->writers[i] = (struct writer){
			.desk = desk,
			.number = i,
			.cpu = i < NVCPUS ? fake_kvm_add_vcpu(desk->vm) : NULL,
		};
}

void desk_init(struct desk *desk, struct world *world)
{
	struct kvmas_region *box = make_container(world->f, "desk", NTRAYS * PLACE_SIZE);

	*desk = (struct desk){.world = world, .eventfd = eventfd(0, EFD_NONBLOCK)};
	assert_true(desk->eventfd >= 0);
	for (unsigned i = 0; i < NTRAYS; i++)
		make_tray(desk, i, box);
	for (unsigned i = 0; i < NSIDES; i++)
		add(world->sides[i].root, make_alias(world->f, "desk", box, 0, NTRAYS * PLACE_SIZE),
		    DESK, 0);
	tie(desk);
}

void desk_fini(struct desk *desk)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};
	uint64_t signalled = 0;

	must(kvmas_kvm_drain(desk->kvm, desk->world->f->reader));
	for (unsigned i = 0; i < NWRITERS; i++)
		assert_int_equal(desk->writers[i].arrived, desk->writers[i].written);
	if (read(desk->eventfd, &signalled, sizeof(signalled)) < 0)
		signalled = 0;
	assert_int_equal(signalled + atomic_load(&desk->by_hand), atomic_load(&desk->rung));
	kvmas_kvm_get_stats(desk->kvm, &stats);
	print_message("%lu of %lu rings by eventfd, %lu sheets coalesced, %lu handed on by others, "
		      "%lu edits\n",
		      (unsigned long)signalled, atomic_load(&desk->rung),
		      (unsigned long)stats.coalesced_writes, atomic_load(&desk->in_turns),
		      atomic_load(&desk->edits));
	assert_true(signalled > 0 && atomic_load(&desk->by_hand) > 0);
	assert_true(stats.coalesced_writes > 0 && atomic_load(&desk->edits) > 0);
	assert_int_equal(stats.coalesced_strays, 0);
	desk->world->refuse = false;
	for (unsigned i = 0; i < NTRAYS; i++) {
		must(kvmas_region_del(desk->trays[i].device.region));
		kvmas_region_unref(desk->trays[i].device.region);
	}
	kvmas_kvm_unref(desk->kvm);
	fake_kvm_free(desk->vm);
	close(desk->eventfd);
}

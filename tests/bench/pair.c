/* SPDX-License-Identifier: MIT */
/*
 * Two VMs with the same slots. One is the library's: a box holds regions of RAM, a page each, apart
 * from each other in the guest, so that each is a slot of its own. Every slot ioctl that the
 * library issues is recorded by its ioctl hook; the other VM is given the same ones from the tape,
 * in the same order, ids and host addresses included. So both always have the same slots, and what
 * KVM does is the same work; neither has a vCPU, without which KVM's calls are the quickest.
 *
 *   drop      the box is disabled: all slots are deleted, in one commit
 *   make      it is enabled again: all are created, in one commit
 *   flip      one page is disabled, and enabled again
 *   readonly  one becomes read-only, and writable again: each time KVM wants it deleted and created
 *   move      one goes to the page behind it, and back: KVM moves the slot
 *
 * What is done to one page are two commits, each of them one edit, and leaves all as it was.
 *
 * A second tree, just like the library's VM's, is followed by no KVM: what its transactions cost is
 * all but planning and applying.
 */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"

#define FIRST_GPA (UINT64_C(1) << 32)

enum { PITCH = 4 /* pages from one to the next */, MOST_CALLS_OF_ONE = 4 };

/* ---- what is done ---- */

static int drop(const struct tree *tree, unsigned drawn)
{
	(void)drawn;
	return kvmas_region_set_enabled(tree->box, false);
}

static int make(const struct tree *tree, unsigned drawn)
{
	(void)drawn;
	return kvmas_region_set_enabled(tree->box, true);
}

static int flip(const struct tree *tree, unsigned drawn)
{
	int err = kvmas_region_set_enabled(tree->regions[drawn], false);

	return err ? err : kvmas_region_set_enabled(tree->regions[drawn], true);
}

static int readonly(const struct tree *tree, unsigned drawn)
{
	int err = kvmas_region_set_readonly(tree->regions[drawn], true);

	return err ? err : kvmas_region_set_readonly(tree->regions[drawn], false);
}

static uint64_t place_of(const struct tree *tree, unsigned i)
{
	return i * PITCH * tree->page;
}

static int move(const struct tree *tree, unsigned drawn)
{
	uint64_t place = place_of(tree, drawn);
	int err = kvmas_region_set_offset(tree->regions[drawn], place + tree->page);

	return err ? err : kvmas_region_set_offset(tree->regions[drawn], place);
}

static const struct {
	const char *name;
	int (*make)(const struct tree *tree, unsigned drawn);
	bool all; /* the numbers are for each slot */
	unsigned creates, deletes, moves;
} works[] = {
	[WORK_DROP] = {"drop", drop, true, 0, 1, 0},
	[WORK_MAKE] = {"make", make, true, 1, 0, 0},
	[WORK_FLIP] = {"flip", flip, false, 1, 1, 0},
	[WORK_READONLY] = {"readonly", readonly, false, 2, 2, 0},
	[WORK_MOVE] = {"move", move, false, 0, 0, 2},
};

const char *work_name(enum work work)
{
	return works[work].name;
}

unsigned work_calls(enum work work, unsigned nslots)
{
	unsigned calls = works[work].creates + works[work].deletes + works[work].moves;

	return works[work].all ? nslots * calls : calls;
}

/* ---- tapes ---- */

static int on_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct pair *pair = data;
	int result = ioctl(fd, request, arg);

	if (request == KVM_SET_USER_MEMORY_REGION) {
		bench_expect(pair->tape->count < pair->capacity);
		pair->tape->calls[pair->tape->count++] = *(struct kvm_userspace_memory_region *)arg;
	}
	return result < 0 ? -errno : result;
}

static void tape_init(struct tape *tape, size_t capacity)
{
	*tape = (struct tape){.calls = calloc(capacity, sizeof(tape->calls[0]))};
	must(tape->calls ? 0 : -ENOMEM);
}

void pair_do(struct pair *pair, enum work work, struct tape *tape)
{
	tape->count = 0;
	pair->tape = tape;
	must(works[work].make(&pair->tied, pair->drawn));
}

void pair_do_bare(const struct pair *pair, enum work work)
{
	must(works[work].make(&pair->bare, pair->drawn));
}

void pair_replay(const struct pair *pair, const struct tape *tape)
{
	for (size_t i = 0; i < tape->count; i++)
		must(ioctl(pair->raw_fd, KVM_SET_USER_MEMORY_REGION, &tape->calls[i]) ? -errno : 0);
}

void pair_draw(struct pair *pair)
{
	pair->seed = pair->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	pair->drawn = (unsigned)((pair->seed >> 33) % pair->nslots);
}

/* ---- what was done ---- */

struct kvmas_kvm_stats pair_stats(const struct pair *pair)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};

	kvmas_kvm_get_stats(pair->kvm, &stats);
	return stats;
}

void pair_expect(const struct pair *pair, enum work work, uint64_t times,
		 const struct kvmas_kvm_stats *before)
{
	struct kvmas_kvm_stats after = pair_stats(pair);

	if (works[work].all)
		times *= pair->nslots;
	bench_expect(after.slot_creates - before->slot_creates == times * works[work].creates);
	bench_expect(after.slot_deletes - before->slot_deletes == times * works[work].deletes);
	bench_expect(after.slot_moves - before->slot_moves == times * works[work].moves);
	bench_expect(after.slot_flags == before->slot_flags);
}

/* ---- life ---- */

int pair_open_kvm(void)
{
	return open("/dev/kvm", O_RDWR | O_CLOEXEC);
}

static int open_vm(int kvm_fd)
{
	int fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);

	must(fd < 0 ? -errno : 0);
	return fd;
}

static struct kvmas_region *make_container(const struct tree *tree, const char *name)
{
	struct kvmas_region *region;

	must(kvmas_region_new(tree->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER, .name = name,
					   .size = KVMAS_SIZE_MAX),
			      &region));
	return region;
}

static struct kvmas_region *make_page(const struct tree *tree, unsigned i)
{
	struct kvmas_region *region;

	must(kvmas_region_new(tree->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "page",
					   .size = tree->page, .ram = tree->ram,
					   .ram_offset = i * tree->page),
			      &region));
	must(kvmas_region_add(tree->box, region, place_of(tree, i), 0));
	return region;
}

static void tree_open(struct tree *tree, unsigned npages)
{
	tree->page = (uint64_t)sysconf(_SC_PAGESIZE);
	must(kvmas_new(NULL, &tree->kvmas));
	must(kvmas_ram_new(tree->kvmas,
			   KVMAS_CONFIG(ram, .name = "ram", .size = npages * tree->page),
			   &tree->ram));
	tree->root = make_container(tree, "root");
	tree->box = make_container(tree, "box");
	must(kvmas_region_add(tree->root, tree->box, FIRST_GPA, 0));
	tree->regions = calloc(npages, sizeof(tree->regions[0]));
	must(tree->regions ? 0 : -ENOMEM);
	for (unsigned i = 0; i < npages; i++)
		tree->regions[i] = make_page(tree, i);
	must(kvmas_space_new(tree->kvmas, "space", tree->root, &tree->space));
}

static void tree_close(struct tree *tree, unsigned npages)
{
	kvmas_space_unref(tree->space);
	for (unsigned i = 0; i < npages; i++)
		kvmas_region_unref(tree->regions[i]);
	kvmas_region_unref(tree->box);
	kvmas_region_unref(tree->root);
	kvmas_ram_unref(tree->ram);
	kvmas_unref(tree->kvmas);
	free(tree->regions);
}

/* The library's VM gets its slots, and the other one the same. */
static void make_slots(struct pair *pair)
{
	pair->tape = &pair->tapes[0];
	must(kvmas_kvm_new(
		pair->tied.kvmas,
		KVMAS_CONFIG(kvm, .vm_fd = pair->vm_fd, .ioctl = on_ioctl, .ioctl_data = pair),
		&pair->kvm));
	must(kvmas_kvm_bind(pair->kvm, pair->tied.space, 0));
	bench_expect(pair->tape->count == pair->nslots);
	pair_replay(pair, pair->tape);
}

void pair_open(struct pair *pair, int kvm_fd, unsigned nslots)
{
	*pair = (struct pair){.nslots = nslots};
	pair->vm_fd = open_vm(kvm_fd);
	pair->raw_fd = open_vm(kvm_fd);
	pair->capacity = nslots < MOST_CALLS_OF_ONE ? MOST_CALLS_OF_ONE : nslots;
	for (unsigned i = 0; i < 2; i++)
		tape_init(&pair->tapes[i], pair->capacity);
	tree_open(&pair->tied, nslots);
	tree_open(&pair->bare, nslots);
	make_slots(pair);
}

void pair_close(struct pair *pair)
{
	kvmas_kvm_unref(pair->kvm);
	tree_close(&pair->bare, pair->nslots);
	tree_close(&pair->tied, pair->nslots);
	for (unsigned i = 0; i < 2; i++)
		free(pair->tapes[i].calls);
	close(pair->raw_fd);
	close(pair->vm_fd);
}

/* SPDX-License-Identifier: MIT */
/*
 * The world: what is committed, and what a look must find (doc/threads.md, G to J).
 *
 *     tape    [0][1][2][3] ...               a page for each stamp that there can be
 *     side    [n][n] fillers [n] fillers [n] ... shelf
 *     shelf   flash, clerk, guide, scapegoat devices, or nothing; both sides show it
 *
 * The n are aliases that a commit points to the same page of the tape, in both sides: a view that
 * shows two stamps is a mixture (G), one that shows a stamp below that of a commit that had
 * returned is late (H). Odd stamps are those of transactions that are aborted or refused: no view
 * shows them. The fillers see that the stamps of a side are in different pages of its view.
 *
 * A device's destroy hook poisons it, and buries it: the memory is given back some hundreds of
 * funerals later, so that whoever comes late finds it dead, and a sanitizer whoever comes later
 * still (I).
 */
#include "world.h"

#include <stdio.h>

#include "dispatch.h"

enum { ALIVE = 0x600d600d, DEAD = 0xdeaddead };

#define TAPE_SHIFT 12
#define WORLD_SIZE (UINT64_C(1) << 40)

static _Thread_local bool looking;

bool look_set(bool now)
{
	bool before = looking;

	looking = now;
	return before;
}

void expect_at(struct world *world, bool right, const char *what, int line)
{
	if (!right && atomic_fetch_add(&world->failures, 1) < 20)
		fprintf(stderr, "line %d: not so: %s\n", line, what);
}

uint64_t draw(uint64_t *seed, uint64_t limit)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (*seed >> 33) % limit;
}

/* ---- devices ---- */

static bool is_in_use(const struct device *device)
{
	return atomic_load(&device->life) == ALIVE && !atomic_load(&device->retired);
}

static void bury(struct world *world, struct device *device)
{
	struct device **grave = &world->buried[world->nburied++ % NBURIED];

	free(*grave);
	*grave = device;
}

static void end_device(void *opaque)
{
	struct device *device = opaque;
	struct world *world = device->world;

	expect(world, !looking);
	expect(world, atomic_exchange(&device->life, DEAD) == ALIVE);
	device->region = NULL;
	atomic_fetch_add(&world->ended, 1);
	bury(world, device);
}

static void begin(struct world *world)
{
	expect(world, kvmas_begin(world->kvmas) == 0);
	world->refuse = false;
}

/* From inside its own callback. It stays what it is until that has returned. */
static void take_itself_off(struct device *device)
{
	struct world *world = device->world;

	begin(world);
	if (world->devices[device->place] == device) {
		world->devices[device->place] = NULL;
		expect(world, kvmas_region_del(device->region) == 0);
		kvmas_region_unref(device->region);
	}
	expect(world, kvmas_commit(world->kvmas) == 0);
}

/* Waiting for oneself. If nobody can know who waits for whom, that is told first. */
void expect_deadlock(struct world *world)
{
	int err = kvmas_synchronize(world->kvmas);

	expect(world, err == -EDEADLK || (err == -EAGAIN && atomic_load(&world->taken_away)));
}

static int write_device(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct device *device = opaque;
	struct world *world = device->world;
	bool before = look_set(false);

	(void)access;
	(void)value;
	expect(world, is_in_use(device));
	if (device->place == FLASH)
		take_itself_off(device);
	if (device->place == CLERK)
		world_commit(world, GUIDE, false);
	expect(world, is_in_use(device));
	look_set(before);
	return 0;
}

static int read_device(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct device *device = opaque;
	struct world *world = device->world;

	expect(world, is_in_use(device));
	if (device->place == GUIDE) {
		look_at(world, access->requester, access->space);
		expect_deadlock(world);
	}
	*value = device->stamp;
	expect(world, is_in_use(device));
	return 0;
}

static const struct kvmas_ops device_ops = {sizeof(device_ops), read_device, write_device};

void world_init_device(struct world *world, struct device *device)
{
	*device = (struct device){.world = world, .place = NPLACES};
	atomic_init(&device->life, ALIVE);
}

/* In a transaction. */
static int put_device(struct world *world, enum place place, uint64_t stamp)
{
	struct device *device = calloc(1, sizeof(*device));
	int err;

	if (!device)
		return -ENOMEM;
	*device = (struct device){.world = world, .place = place, .stamp = stamp};
	atomic_init(&device->life, ALIVE);
	err = kvmas_region_new(world->kvmas,
			       KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "device",
					    .size = PLACE_SIZE, .ops = &device_ops,
					    .opaque = device, .destroy = end_device),
			       &device->region);
	if (err) {
		free(device);
		return err;
	}
	atomic_fetch_add(&world->made, 1);
	world->devices[place] = device;
	return kvmas_region_add(world->shelf, device->region, place * PLACE_SIZE, 0);
}

/* ---- commits ---- */

static int judge(void *data, const struct kvmas_changes *changes)
{
	const struct world *world = data;

	(void)changes;
	return world->refuse ? -EPERM : 0;
}

static int stamp(struct world *world, uint64_t number)
{
	int err = 0;

	for (int i = 0; i < NSIDES; i++) {
		for (int j = 0; j < NSTAMPS; j++)
			err |= kvmas_region_set_alias_offset(world->sides[i].stamps[j],
							     number << TAPE_SHIFT);
	}
	return err;
}

static void raise_to(_Atomic(uint64_t) *most, uint64_t number)
{
	uint64_t before = atomic_load(most);

	while (before < number && !atomic_compare_exchange_weak(most, &before, number))
		;
}

/* A transaction that fails in one of three ways, of which nothing may ever be seen. */
static void fail_to_commit(struct world *world, uint64_t number)
{
	unsigned way = (unsigned)draw(&world->seed, 3);

	expect(world, kvmas_begin(world->kvmas) == 0);
	expect(world, stamp(world, number | 1) == 0);
	world->refuse = way == 0;
	if (way == 1)
		expect(world, kvmas_abort(world->kvmas) == 0);
	else
		expect(world, kvmas_commit(world->kvmas) == 0);
	if (way == 1)
		expect(world, kvmas_commit(world->kvmas) == -ECANCELED);
	else if (way == 2)
		expect(world, kvmas_abort(world->kvmas) == 0);
	else
		expect(world, kvmas_commit(world->kvmas) == -EPERM);
	atomic_fetch_add(&world->failed, 1);
}

static struct device *change(struct world *world, enum place place, bool replace, uint64_t number)
{
	struct device *before = world->devices[place];

	expect(world, stamp(world, number) == 0);
	if (before && !replace)
		return NULL;
	if (before)
		expect(world, kvmas_region_del(before->region) == 0);
	expect(world, put_device(world, place, number) == 0);
	return before;
}

struct device *world_commit(struct world *world, enum place place, bool replace)
{
	struct device *before = NULL;
	uint64_t number;

	begin(world);
	number = atomic_load(&world->drawn) + 2;
	atomic_store(&world->drawn, number);
	if (draw(&world->seed, 6) == 0) {
		fail_to_commit(world, number);
		return NULL;
	}
	before = change(world, place, replace, number);
	expect(world, kvmas_commit(world->kvmas) == 0);
	raise_to(&world->returned, number);
	return before;
}

/* ---- looks ---- */

/* The first two touch; fillers lie between the others. */
static uint64_t address_of_stamp(uint64_t i)
{
	return i < 2 ? i << TAPE_SHIFT : i << 20;
}

static uint64_t stamp_at(struct world *world, struct kvmas_reader *reader,
			 const struct kvmas_view *view, uint64_t i)
{
	struct kvmas_place place;

	if (kvmas_reader_lookup(reader, view, address_of_stamp(i) + 8, &place))
		return 1;
	expect(world, place.region == world->tape);
	expect(world, place.left == (UINT64_C(1) << TAPE_SHIFT) - 8);
	return place.offset >> TAPE_SHIFT;
}

void check_shelf(struct world *world, struct kvmas_reader *reader, const struct kvmas_view *view,
		 uint64_t shelf, uint64_t number)
{
	struct kvmas_place place;

	for (int i = 0; i < NPLACES; i++) {
		const struct device *device;

		if (kvmas_reader_lookup(reader, view, shelf + i * PLACE_SIZE, &place))
			continue;
		device = kvmas_region_get_opaque(place.region);
		expect(world, is_in_use(device));
		expect(world, device->place == (enum place)i);
		expect(world, device->stamp <= number);
	}
}

uint64_t check_view(struct world *world, struct kvmas_reader *reader, const struct kvmas_view *view,
		    uint64_t floor)
{
	uint64_t number = stamp_at(world, reader, view, 0);

	for (int i = 1; i < NSTAMPS; i++)
		expect(world, stamp_at(world, reader, view, i) == number);
	expect(world, number % 2 == 0);
	expect(world, number >= floor);
	expect(world, number <= atomic_load(&world->drawn));
	check_shelf(world, reader, view, SHELF, number);
	return number;
}

void check_all_sections(struct world *world, const struct kvmas_view *view)
{
	struct kvmas_section section;
	uint64_t number = 1;
	int nstamps = 0;
	int nfillers = 0;

	for (int err = kvmas_view_find(view, 0, &section); !err;
	     err = kvmas_view_next(view, &section)) {
		if (section.gpa >= SHELF) {
			expect(world, is_in_use(kvmas_region_get_opaque(section.region)));
		} else if (section.region != world->tape) {
			nfillers++;
		} else {
			if (nstamps++ == 0)
				number = section.offset >> TAPE_SHIFT;
			expect(world, section.offset >> TAPE_SHIFT == number);
		}
	}
	expect(world, nstamps == NSTAMPS);
	expect(world, nfillers == NFILLERS);
}

void look_at(struct world *world, struct kvmas_reader *reader, struct kvmas_space *space)
{
	uint64_t floor = atomic_load(&world->returned);
	bool before = look_set(true);
	const struct kvmas_view *view;

	view = kvmas_view_acquire(reader, space);
	check_view(world, reader, view, floor);
	kvmas_view_release(reader, view);
	look_set(before);
}

static void access_bytes(struct dispatch *dispatch, uint64_t gpa, uint32_t bytes[2])
{
	bool before = look_set(true);

	dispatch->requester = dispatch->reader;
	dispatch->whole = true;
	kas_dispatch(dispatch, gpa, bytes, 8, NULL);
	look_set(before);
}

void access_place(struct kvmas_reader *reader, struct kvmas_space *space, enum place place,
		  bool write)
{
	struct dispatch dispatch = {.reader = reader, .space = space, .write = write};
	uint32_t bytes[2] = {0};

	access_bytes(&dispatch, SHELF + place * PLACE_SIZE, bytes);
}

/* One access sees one view, however many devices it leads to. */
void access_stamps(struct world *world, struct kvmas_reader *reader, struct kvmas_space *space)
{
	struct dispatch dispatch = {.reader = reader, .space = space};
	uint32_t floor = (uint32_t)atomic_load(&world->returned);
	uint32_t bytes[2] = {1, 3};

	access_bytes(&dispatch, (UINT64_C(1) << TAPE_SHIFT) - 4, bytes);
	expect(world, bytes[0] == bytes[1]);
	expect(world, bytes[0] % 2 == 0);
	expect(world, bytes[0] >= floor);
}

/* ---- the tree ---- */

static int read_tape(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	(void)opaque;
	*value = access->offset >> TAPE_SHIFT;
	return 0;
}

static const struct kvmas_ops tape_ops = {sizeof(tape_ops), .read = read_tape};

static void make_side(struct world *world, struct side *side, struct kvmas_region *filler)
{
	struct fixture *f = world->f;
	uint64_t size = UINT64_C(1) << TAPE_SHIFT;

	side->root = make_container(f, "side", WORLD_SIZE);
	for (uint64_t i = 0; i < NSTAMPS; i++) {
		side->stamps[i] = make_alias(f, "stamp", world->tape, 0, size);
		add(side->root, side->stamps[i], address_of_stamp(i), 0);
	}
	/* None goes on where the one before ends. */
	for (uint64_t i = 0; i < NFILLERS; i++)
		add(side->root, make_alias(f, "filler", filler, (NFILLERS - i) * size, size),
		    ((1 + i * (NSTAMPS - 1) / NFILLERS) << 20) + (1 + i) * size, 0);
	add(side->root, make_alias(f, "shelf", world->shelf, 0, NPLACES * PLACE_SIZE), SHELF, 0);
	side->space = make_space(f, "side", side->root);
}

void world_init(struct world *world, struct fixture *f)
{
	struct kvmas_region *filler;

	*world = (struct world){.f = f, .kvmas = f->kvmas, .seed = 1};
	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "tape",
					   .size = UINT64_C(1) << 62, .ops = &tape_ops),
			      &world->tape));
	filler = make_mmio(f, "filler", UINT64_C(1) << 30);
	world->shelf = make_container(f, "shelf", NPLACES * PLACE_SIZE);
	must(kvmas_begin(f->kvmas));
	for (int i = 0; i < NSIDES; i++)
		make_side(world, &world->sides[i], filler);
	for (int i = 0; i < NPLACES; i++)
		must(put_device(world, (enum place)i, 0));
	must(kvmas_commit(f->kvmas));
	must(kvmas_listener_add(world->sides[0].space,
				KVMAS_CONFIG(listener, .data = world, .prepare = judge),
				&world->judge));
}

void world_fini(struct world *world)
{
	must(kvmas_listener_del(world->judge));
	for (int i = 0; i < NPLACES; i++) {
		if (!world->devices[i])
			continue;
		must(kvmas_region_del(world->devices[i]->region));
		kvmas_region_unref(world->devices[i]->region);
	}
	must(kvmas_reclaim(world->kvmas));
	assert_int_equal(atomic_load(&world->ended), atomic_load(&world->made));
	kvmas_region_unref(world->tape);
	for (int i = 0; i < NBURIED; i++)
		free(world->buried[i]);
}

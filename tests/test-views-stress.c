/* SPDX-License-Identifier: MIT */
/*
 * Everything at once on one small world (stress/world.c): threads that look and walk, threads whose
 * accesses have devices commit and take themselves off, two that commit, listeners, spaces and
 * readers that come and go, and one that waits for all looks to end; vCPUs and I/O threads that
 * write to devices with event channels, which move and change (stress/desk.c). With membarrier(2);
 * with a sandbox that takes it away meanwhile; and without it from the start.
 *
 * KVMAS_SECONDS (3): how long, all three together.
 */
#include <sched.h>
#include <stdio.h>
#include <sys/uio.h>
#include <time.h>

#include "stress/desk.h"
#include "stress/refuse.h"
#include "stress/world.h"

struct stress;

struct actor {
	struct stress *stress;
	struct world *world;
	struct kvmas_reader *reader; /* of its own, but for who goes without */
	uint64_t seed;
	atomic_ulong turns;
	struct writer *writer; /* NULL for most */
	uint64_t last[NSIDES]; /* stamps that it has seen */
	void (*act)(struct actor *actor);
	pthread_t thread;
};

struct stress {
	struct world world;
	struct desk desk;
	atomic_bool stop;
	pthread_mutex_t lock;      /* of guest */
	struct kvmas_space *guest; /* a space that comes and goes; NULL for none */
	atomic_ulong again;        /* waits that could not know */
	atomic_ulong waits;        /* that could */
};

static void pause_for(long nanoseconds)
{
	nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL);
}

/* ---- who looks ---- */

/* The reader is another one from now on. */
static void renew_reader(struct actor *actor)
{
	kvmas_reader_del(actor->reader);
	expect(actor->world, kvmas_reader_add(actor->world->kvmas, &actor->reader) == 0);
}

/* Hold a view of each side for a while: it stays what it is. */
static void hold_views(struct actor *actor)
{
	struct world *world = actor->world;
	const struct kvmas_view *views[NSIDES];
	uint64_t floor = atomic_load(&world->returned);
	uint64_t stamps[NSIDES];
	bool before = look_set(true);

	for (int i = 0; i < NSIDES; i++) {
		views[i] = kvmas_view_acquire(actor->reader, world->sides[i].space);
		stamps[i] = check_view(world, actor->reader, views[i], floor);
		expect(world, stamps[i] >= actor->last[i]);
		actor->last[i] = stamps[i];
	}
	if (draw(&actor->seed, 16) == 0)
		expect_deadlock(world);
	if (draw(&actor->seed, 16) == 0)
		pause_for(200000);
	for (int i = 0; i < NSIDES; i++) {
		expect(world, check_view(world, actor->reader, views[i], floor) == stamps[i]);
		if (draw(&actor->seed, 8) == 0)
			check_all_sections(world, views[i]);
		kvmas_view_release(actor->reader, views[i]);
	}
	look_set(before);
}

static void look(struct actor *actor)
{
	if (draw(&actor->seed, 64) == 0)
		renew_reader(actor);
	if (draw(&actor->seed, 4) == 0)
		hold_views(actor);
	else
		look_at(actor->world, actor->reader,
			actor->world->sides[draw(&actor->seed, NSIDES)].space);
}

/* ---- who makes accesses ---- */

static struct kvmas_space *get_guest(struct stress *stress)
{
	struct kvmas_space *guest;

	pthread_mutex_lock(&stress->lock);
	guest = stress->guest ? kvmas_space_ref(stress->guest) : NULL;
	pthread_mutex_unlock(&stress->lock);
	return guest;
}

static void set_guest(struct stress *stress, struct kvmas_space *guest)
{
	struct kvmas_space *before;

	pthread_mutex_lock(&stress->lock);
	before = stress->guest;
	stress->guest = guest;
	pthread_mutex_unlock(&stress->lock);
	kvmas_space_unref(before);
}

static void make_access(struct actor *actor)
{
	struct kvmas_space *guest = get_guest(actor->stress);
	struct kvmas_space *space = actor->world->sides[draw(&actor->seed, NSIDES)].space;
	uint64_t what = draw(&actor->seed, 64);

	if (guest && what % 4 == 0)
		space = guest;
	if (what == 0)
		access_place(actor->reader, space, FLASH, true);
	else if (what == 1)
		access_place(actor->reader, space, CLERK, true);
	else if (what < 32)
		access_place(actor->reader, space, draw(&actor->seed, NPLACES), false);
	else
		access_stamps(actor->world, actor->reader, space);
	kvmas_space_unref(guest);
}

static void store(struct actor *actor)
{
	for (int i = 0; i < 16; i++)
		writer_store(actor->writer, &actor->seed);
}

/* ---- I/O threads ---- */

static void copy_out(const struct kvmas_map *map, unsigned char *bytes)
{
	for (unsigned i = 0; i < map->niov; i++) {
		memcpy(bytes, map->iov[i].iov_base, map->iov[i].iov_len);
		bytes += map->iov[i].iov_len;
	}
}

/* One read sees one view; what a map has copied was read piece by piece. */
static void read_stamps(struct world *world, const struct kvmas_dma *dma, bool map)
{
	uint64_t gpa = (UINT64_C(1) << 12) - 4;
	uint32_t floor = (uint32_t)atomic_load(&world->returned);
	uint32_t stamps[2] = {1, 3};
	struct kvmas_map *copy;

	if (!map) {
		expect(world, kvmas_dma_read(dma, gpa, stamps, 8, NULL) == 0);
		expect(world, stamps[0] == stamps[1]);
	} else if (kvmas_dma_map(dma, gpa, 8, KVMAS_MAP_READ, &copy) == 0) {
		expect(world, copy->size == 8);
		copy_out(copy, (unsigned char *)stamps);
		expect(world, kvmas_dma_unmap(dma, copy, 0, NULL) == 0);
	}
	expect(world, stamps[0] % 2 == 0 && stamps[1] % 2 == 0);
	expect(world, stamps[0] >= floor && stamps[1] >= stamps[0]);
}

static void transfer(struct actor *actor)
{
	struct world *world = actor->world;
	const struct kvmas_dma dma = {
		.reader = actor->reader,
		.space = world->sides[draw(&actor->seed, NSIDES)].space,
		.requester = actor->reader,
	};
	uint64_t what = draw(&actor->seed, 64);
	uint64_t place = draw(&actor->seed, NPLACES);
	int err;
	bool before = look_set(true);

	if (what < 16) {
		read_stamps(world, &dma, what % 2);
	} else if (what < 20) {
		/* There may be no device, or one that takes itself off. */
		err = kvmas_dma_fill(&dma, SHELF + place * PLACE_SIZE, 0, 8, NULL);
		expect(world, err == 0 || err == -ENXIO);
	} else {
		writer_transfer(actor->writer, actor->reader, &actor->seed);
	}
	look_set(before);
}

static void drain(struct actor *actor)
{
	bool before = look_set(true);

	desk_drain(&actor->stress->desk, actor->reader);
	look_set(before);
	pause_for(50000);
}

/* ---- who changes things ---- */

static void edit_channels(struct actor *actor)
{
	desk_edit(&actor->stress->desk, &actor->seed);
	pause_for(20000);
}

static void commit(struct actor *actor)
{
	expect(actor->world, world_commit(actor->world, FLASH, false) == NULL);
	if (draw(&actor->seed, 4) == 0)
		pause_for(20000);
}

/* A space of its own on a side, which others come to know, and one on the shelf. */
static void make_space_and_go(struct actor *actor)
{
	struct world *world = actor->world;
	const struct kvmas_view *view;
	struct kvmas_space *space;

	expect(world, kvmas_space_new(world->kvmas, "guest", world->sides[0].root, &space) == 0);
	set_guest(actor->stress, space);
	expect(world, kvmas_space_new(world->kvmas, "shelf", world->shelf, &space) == 0);
	look_set(true);
	view = kvmas_view_acquire(actor->reader, space);
	check_shelf(world, actor->reader, view, 0, UINT64_MAX);
	kvmas_space_unref(space);
	pause_for(100000);
	check_shelf(world, actor->reader, view, 0, UINT64_MAX);
	kvmas_view_release(actor->reader, view);
	look_set(false);
}

/* What a listener was told: the stamps by address. */
struct picture {
	struct world *world;
	struct kvmas_reader *reader;
	uint64_t stamps[NSTAMPS];
	uint64_t addresses[NSTAMPS];
	unsigned count;
};

static void picture_add(void *data, const struct kvmas_section *section)
{
	struct picture *picture = data;

	if (section->region != picture->world->tape)
		return;
	expect(picture->world, picture->count < NSTAMPS);
	picture->addresses[picture->count] = section->gpa;
	picture->stamps[picture->count++ % NSTAMPS] = section->offset >> 12;
}

static void picture_del(void *data, const struct kvmas_section *section)
{
	struct picture *picture = data;

	if (section->region != picture->world->tape)
		return;
	for (unsigned i = 0; i < picture->count; i++) {
		if (picture->addresses[i] != section->gpa)
			continue;
		picture->count--;
		picture->addresses[i] = picture->addresses[picture->count];
		picture->stamps[i] = picture->stamps[picture->count];
		return;
	}
	expect(picture->world, !"deleted what is there");
}

/* A look from inside a round sees what is told. */
static void picture_commit(void *data)
{
	struct picture *picture = data;
	struct world *world = picture->world;

	if (picture->count == 0)
		return;
	expect(world, picture->count == NSTAMPS);
	for (unsigned i = 1; i < picture->count; i++)
		expect(world, picture->stamps[i] == picture->stamps[0]);
	look_at(world, picture->reader, world->sides[1].space);
	expect(world, kvmas_synchronize(world->kvmas) == -EBUSY);
}

static void listen_and_go(struct actor *actor)
{
	struct picture picture = {.world = actor->world};
	struct kvmas_listener *listener;
	struct kvmas_space *space = actor->world->sides[1].space;

	expect(actor->world, kvmas_reader_add(actor->world->kvmas, &picture.reader) == 0);
	expect(actor->world,
	       kvmas_listener_add(space,
				  KVMAS_CONFIG(listener, .data = &picture,
					       .region_add = picture_add, .region_del = picture_del,
					       .commit = picture_commit),
				  &listener) == 0);
	pause_for(300000);
	expect(actor->world, kvmas_listener_del(listener) == 0);
	expect(actor->world, picture.count == 0);
	kvmas_reader_del(picture.reader);
}

/* Replace a device; once all looks of before have ended, nobody looks at the old one any more. */
static void replace_and_wait(struct actor *actor)
{
	struct world *world = actor->world;
	struct device *before = world_commit(world, SCAPEGOAT, true);
	int err;

	if (!before)
		return;
	while ((err = kvmas_synchronize(world->kvmas)) == -EAGAIN &&
	       atomic_load(&world->taken_away)) {
		atomic_fetch_add(&actor->stress->again, 1);
		look_at(world, actor->reader, world->sides[0].space);
		pause_for(100000);
	}
	expect(world, err == 0);
	atomic_store(&before->retired, true);
	kvmas_region_unref(before->region);
	expect(world, kvmas_reclaim(world->kvmas) == 0);
	atomic_fetch_add(&actor->stress->waits, 1);
}

/* ---- all together ---- */

static void *run(void *data)
{
	struct actor *actor = data;

	expect(actor->world, kvmas_reader_add(actor->world->kvmas, &actor->reader) == 0);
	if (actor->writer)
		writer_come(actor->writer);
	while (!atomic_load(&actor->stress->stop)) {
		actor->act(actor);
		/* A reader that never looks would have all others wait for it. */
		look_at(actor->world, actor->reader, actor->world->sides[0].space);
		atomic_fetch_add(&actor->turns, 1);
	}
	if (actor->writer)
		writer_go(actor->writer);
	kvmas_reader_del(actor->reader);
	return NULL;
}

static double seconds(void)
{
	const char *text = getenv("KVMAS_SECONDS");

	return text ? strtod(text, NULL) : 3;
}

static void let_pass(double part)
{
	pause_for(0);
	for (double left = part * seconds(); left > 0; left -= 0.01)
		pause_for(10000000);
}

/* On a busy machine who waits for the transaction lock may come last for long. */
static bool all_have_acted(const struct actor *actors, unsigned count)
{
	const struct stress *stress = actors[0].stress;

	for (unsigned i = 0; i < count; i++) {
		if (!atomic_load(&actors[i].turns))
			return false;
	}
	return atomic_load(&stress->world.failed) && atomic_load(&stress->waits);
}

static void perform(struct stress *stress, void (*halfway)(struct stress *stress))
{
	static const struct {
		const char *name;
		void (*act)(struct actor *actor);
		int writer; /* from 1 on; 0: none */
	} roles[] = {
		{"looks", look},
		{"looks", look},
		{"accesses", make_access},
		{"accesses", make_access},
		{"commits", commit},
		{"commits", commit},
		{"spaces", make_space_and_go},
		{"listeners", listen_and_go},
		{"waits", replace_and_wait},
		{"times 16 stores", store, 1},
		{"times 16 stores", store, 2},
		{"transfers", transfer, 3},
		{"transfers", transfer, 4},
		{"drains", drain},
		{"edits", edit_channels},
	};
	struct actor actors[LENGTH(roles)];
	double patience = 60;

	for (unsigned i = 0; i < LENGTH(roles); i++) {
		actors[i] = (struct actor){
			.stress = stress, .world = &stress->world, .seed = i, .act = roles[i].act};
		if (roles[i].writer)
			actors[i].writer = &stress->desk.writers[roles[i].writer - 1];
		must(pthread_create(&actors[i].thread, NULL, run, &actors[i]));
	}
	let_pass(1. / 6);
	halfway(stress);
	let_pass(1. / 6);
	for (; patience > 0 && !all_have_acted(actors, LENGTH(roles)); patience -= 0.01)
		pause_for(10000000);
	atomic_store(&stress->stop, true);
	for (unsigned i = 0; i < LENGTH(roles); i++) {
		must(pthread_join(actors[i].thread, NULL));
		print_message("%lu %s, ", atomic_load(&actors[i].turns), roles[i].name);
		assert_true(atomic_load(&actors[i].turns) > 0);
	}
}

static void stage(struct fixture *f, void (*halfway)(struct stress *stress))
{
	struct stress *stress = calloc(1, sizeof(*stress));
	struct world *world = &stress->world;

	assert_non_null(stress);
	world_init(world, f);
	desk_init(&stress->desk, world);
	must(pthread_mutex_init(&stress->lock, NULL));
	perform(stress, halfway);
	set_guest(stress, NULL);
	print_message("%lu of %lu commits returned, %u meant to fail; %lu waits, %lu could not; %u "
		      "of %u devices ended\n",
		      (unsigned long)atomic_load(&world->returned) / 2,
		      (unsigned long)atomic_load(&world->drawn) / 2, atomic_load(&world->failed),
		      atomic_load(&stress->waits), atomic_load(&stress->again),
		      atomic_load(&world->ended), atomic_load(&world->made));
	assert_true(atomic_load(&world->failed) > 0 && atomic_load(&stress->waits) > 0);
	look_at(world, f->reader, world->sides[0].space); /* has not looked for long */
	desk_fini(&stress->desk);
	world_fini(world);
	assert_int_equal(atomic_load(&world->failures), 0);
	pthread_mutex_destroy(&stress->lock);
	free(stress);
}

static void change_nothing(struct stress *stress)
{
	(void)stress;
}

static void every_look_is_right_with_membarrier(void **state)
{
	if (membarrier_is_refused())
		skip();
	stage(*state, change_nothing);
}

/* The fixture's reader looked when all was well, and now looks again: a wait may go through. */
static void take_membarrier_away(struct stress *stress)
{
	struct world *world = &stress->world;

	look_at(world, world->f->reader, world->sides[0].space);
	atomic_store(&world->taken_away, true);
	refuse_membarrier();
	let_pass(1. / 12);
	look_at(world, world->f->reader, world->sides[0].space);
}

static void every_look_is_right_while_membarrier_is_taken_away(void **state)
{
	if (membarrier_is_refused())
		skip();
	stage(*state, take_membarrier_away);
}

static void every_look_is_right_without_membarrier(void **state)
{
	struct fixture *f;

	(void)state;
	refuse_membarrier();
	f = fixture_new((struct kvmas_config){0});
	stage(f, change_nothing);
	fixture_free(f);
}

int main(void)
{
	/* In this order: what is taken away is gone. */
	const struct CMUnitTest tests[] = {
		TEST(every_look_is_right_with_membarrier),
		TEST(every_look_is_right_while_membarrier_is_taken_away),
		cmocka_unit_test(every_look_is_right_without_membarrier),
	};

	return cmocka_run_group_tests_name("views-stress", tests, NULL, NULL);
}

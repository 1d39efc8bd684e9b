/* SPDX-License-Identifier: MIT */
/*
 * Everything at once on one small world (stress/world.c): threads that look and walk, threads whose
 * accesses have devices commit and take themselves off, two that commit, listeners, spaces and
 * readers that come and go, and one that waits for all looks to end. With membarrier(2); with a
 * sandbox that takes it away meanwhile; and without it from the start.
 *
 * KVMAS_SECONDS (3): how long, all three together.
 */
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "stress/refuse.h"
#include "stress/world.h"

struct stress;

struct actor {
	struct stress *stress;
	struct world *world;
	struct kvmas_reader *reader; /* of its own, but for who goes without */
	uint64_t seed;
	atomic_ulong turns;
	uint64_t last[NSIDES]; /* stamps that it has seen */
	void (*act)(struct actor *actor);
	pthread_t thread;
};

struct stress {
	struct world world;
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

/* ---- who changes things ---- */

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
	while (!atomic_load(&actor->stress->stop)) {
		actor->act(actor);
		/* A reader that never looks would have all others wait for it. */
		look_at(actor->world, actor->reader, actor->world->sides[0].space);
		atomic_fetch_add(&actor->turns, 1);
	}
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
	};
	struct actor actors[LENGTH(roles)];
	double patience = 60;

	for (unsigned i = 0; i < LENGTH(roles); i++) {
		actors[i] = (struct actor){
			.stress = stress, .world = &stress->world, .seed = i, .act = roles[i].act};
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

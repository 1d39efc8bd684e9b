/* SPDX-License-Identifier: MIT */
/*
 * Moves: each has a part that draws what is to be done, and one that does it, a whole transaction,
 * which alone is timed. Drawing takes the same time for any number of devices.
 *
 *   near      a device goes one page up or down in its gap: nothing else is near
 *   far       a device goes to another gap, any free one
 *   toggle    a device is disabled, or the one that is is enabled
 *   hidden    a region moves under the lid: nothing is to be seen of it
 *   empty     begin and commit
 *   detached  a region moves that no space shows
 *
 * What was told to the listeners is compared with what must have been: a commit that showed nothing
 * would be quick.
 */
#include "move.h"

#include <errno.h>
#include <string.h>

#include "bench.h"

/* Whatever the time: of few, a median says little. */
enum { MIN_SAMPLES = 5 };

static void draw_near(struct scene *scene)
{
	unsigned device = (unsigned)scene_random(scene, scene->config.ndevices);
	bool up = scene_random(scene, 2);

	scene->page[device] = scene->page[device] == 1 ? 2 * up : 1;
	scene->choice.region = scene->devices[device];
	scene->choice.offset = scene_place(scene, device);
}

static void draw_far(struct scene *scene)
{
	unsigned n = scene->config.ndevices;
	unsigned device = (unsigned)scene_random(scene, n);
	unsigned free = n + (unsigned)scene_random(scene, scene_ngaps(scene) - n);
	uint32_t gap = scene->gaps[device];

	scene->gaps[device] = scene->gaps[free];
	scene->gaps[free] = gap;
	scene->choice.region = scene->devices[device];
	scene->choice.offset = scene_place(scene, device);
}

static void draw_toggle(struct scene *scene)
{
	struct choice *choice = &scene->choice;

	choice->enabled = scene->disabled != NULL;
	choice->region = scene->disabled;
	if (!choice->region)
		choice->region = scene->devices[scene_random(scene, scene->config.ndevices)];
	scene->disabled = choice->enabled ? NULL : choice->region;
}

/* One page up and down again, by turns. */
static void draw_step(struct scene *scene, struct kvmas_region *region, uint64_t from)
{
	scene->choice.region = region;
	scene->choice.offset = scene->choice.offset == from ? from + SCENE_PAGE : from;
}

static void draw_hidden(struct scene *scene)
{
	draw_step(scene, scene->hidden, SCENE_LID);
}

static void draw_detached(struct scene *scene)
{
	draw_step(scene, scene->detached, 0);
}

static void draw_nothing(struct scene *scene)
{
	(void)scene;
}

static int set_offset(const struct scene *scene)
{
	return kvmas_region_set_offset(scene->choice.region, scene->choice.offset);
}

static int set_enabled(const struct scene *scene)
{
	return kvmas_region_set_enabled(scene->choice.region, scene->choice.enabled);
}

static int begin_and_commit(const struct scene *scene)
{
	int err = kvmas_begin(scene->kvmas);

	return err ? err : kvmas_commit(scene->kvmas);
}

static const struct {
	const char *name;
	void (*draw)(struct scene *scene);
	int (*make)(const struct scene *scene);
	unsigned sections; /* that a listener is told of */
} moves[] = {
	[MOVE_NEAR] = {"near", draw_near, set_offset, 2},
	[MOVE_FAR] = {"far", draw_far, set_offset, 2},
	[MOVE_TOGGLE] = {"toggle", draw_toggle, set_enabled, 1},
	[MOVE_HIDDEN] = {"hidden", draw_hidden, set_offset, 0},
	[MOVE_EMPTY] = {"empty", draw_nothing, begin_and_commit, 0},
	[MOVE_DETACHED] = {"detached", draw_detached, set_offset, 0},
};

const char *move_name(enum move move)
{
	return moves[move].name;
}

bool move_is_visible(enum move move)
{
	return moves[move].sections > 0;
}

void move_make(struct scene *scene, enum move move)
{
	moves[move].draw(scene);
	must(moves[move].make(scene));
}

/* All that was told and asked from outside. */
struct told {
	struct ear ears[SCENE_MAX_SPACES];
	uint64_t nioctls;
};

static void remember(const struct scene *scene, struct told *told)
{
	memcpy(told->ears, scene->ears, sizeof(told->ears));
	told->nioctls = scene->nioctls;
}

static void expect_told(const struct scene *scene, enum move move, const struct told *before,
			uint64_t commits)
{
	uint64_t times = move_is_visible(move) ? commits : 0;

	bench_expect(scene->nioctls == before->nioctls);
	for (unsigned i = 0; i < scene->config.nspaces; i++) {
		const struct ear *was = &before->ears[i];
		const struct ear *is = &scene->ears[i];

		bench_expect(is->begins - was->begins == times);
		bench_expect(is->commits - was->commits == times);
		bench_expect(is->sections - was->sections == times * moves[move].sections);
		bench_expect(is->logs == was->logs);
	}
}

static void take_samples(struct scene *scene, enum move move, const struct budget *budget,
			 struct samples *samples)
{
	uint64_t deadline = clock_ns() + budget->ns;
	uint64_t end = 0;

	samples->count = 0;
	while (samples->count < budget->samples &&
	       (end < deadline || samples->count < MIN_SAMPLES)) {
		uint64_t start;
		int err;

		moves[move].draw(scene);
		start = clock_ns();
		err = moves[move].make(scene);
		end = clock_ns();
		samples->ns[samples->count++] = end - start;
		must(err);
	}
}

struct cost move_measure(struct scene *scene, enum move move, const struct budget *budget,
			 struct samples *samples)
{
	const struct budget warm_up = {budget->samples / 10 + MIN_SAMPLES, budget->ns / 10};
	struct told before;
	uint64_t calls;

	bench_expect(warm_up.samples <= samples->capacity && budget->samples <= samples->capacity);
	take_samples(scene, move, &warm_up, samples);
	remember(scene, &before);
	calls = scene->meter.calls;
	take_samples(scene, move, budget, samples);
	calls = scene->meter.calls - calls;
	expect_told(scene, move, &before, samples->count);
	/* All moves but this one want every device enabled. */
	if (scene->disabled)
		move_make(scene, MOVE_TOGGLE);
	return (struct cost){
		.time = samples_summarise(samples),
		.calls = calls,
	};
}

/* SPDX-License-Identifier: MIT */
/*
 * Footprints: what a region and a range of a view take, as the difference between a scene of many
 * devices and one of a single device, so that what is there once for each kvmas or space is left
 * out. And growth: what a million commits leave behind, which must be nothing.
 *
 * How much a view takes may depend on the way it came about. So before bytes are compared, the
 * container of all devices is disabled and enabled again: every range is rendered anew.
 */
#include "footprint.h"

#include "bench.h"
#include "move.h"

enum { MOVES_TO_AGE = 2000 };

/* Two moves of devices, then one is disabled and enabled again: no device stays disabled. */
static const enum move mix[] = {MOVE_NEAR, MOVE_FAR, MOVE_TOGGLE, MOVE_TOGGLE};

enum { MIX = sizeof(mix) / sizeof(mix[0]) };

static void make_moves(struct scene *scene, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		move_make(scene, mix[i % MIX]);
}

static size_t aged_bytes(struct scene *scene)
{
	make_moves(scene, MOVES_TO_AGE);
	must(kvmas_reclaim(scene->kvmas));
	return scene->meter.bytes;
}

static void open_scene(struct scene *scene, unsigned ndevices)
{
	scene_open(scene, &(struct scene_config){.ndevices = ndevices, .nspaces = 1});
}

/* Bytes in the tree, and in the view of it. */
static void weigh(unsigned ndevices, size_t *tree, size_t *view)
{
	struct scene scene;
	size_t aged;

	open_scene(&scene, ndevices);
	*tree = scene.bytes.devices - scene.bytes.bare;
	aged = aged_bytes(&scene);
	*view = (aged > scene.bytes.shown ? aged : scene.bytes.shown) - scene.bytes.devices;
	scene_close(&scene);
}

struct footprint footprint_measure(unsigned ndevices)
{
	size_t tree_of_one;
	size_t view_of_one;
	size_t tree;
	size_t view;

	weigh(1, &tree_of_one, &view_of_one);
	weigh(ndevices, &tree, &view);
	return (struct footprint){
		.region = ((double)tree - (double)tree_of_one) / (ndevices - 1),
		.range = ((double)view - (double)view_of_one) / (ndevices - 1),
	};
}

static size_t bytes_when_anew(struct scene *scene)
{
	must(kvmas_region_set_enabled(scene->system, false));
	must(kvmas_region_set_enabled(scene->system, true));
	must(kvmas_reclaim(scene->kvmas));
	return scene->meter.bytes;
}

struct growth growth_measure(unsigned ndevices, uint64_t commits)
{
	struct growth growth = {.commits = commits};
	struct scene scene;

	open_scene(&scene, ndevices);
	make_moves(&scene, EARLY_COMMITS);
	growth.early = bytes_when_anew(&scene);
	for (uint64_t i = EARLY_COMMITS; i < commits; i++) {
		move_make(&scene, mix[i % MIX]);
		if (scene.meter.bytes > growth.peak)
			growth.peak = scene.meter.bytes;
	}
	growth.late = bytes_when_anew(&scene);
	scene_close(&scene);
	return growth;
}

/* SPDX-License-Identifier: MIT */
/*
 * The full renderer beside the library: the tree is described anew from the scene, rendered whole
 * for each space, and compared with the spaces' views. So a commit's time stands beside that of the
 * obvious way to do it, and what was timed is known to have been right.
 */
#include "full.h"

#include <errno.h>
#include <stdlib.h>

#include "bench.h"

static int describe(struct full *full, struct node node, struct kvmas_region *region)
{
	int index;

	node.name = kvmas_region_get_name(region);
	node.kind = kvmas_region_get_kind(region);
	node.order = ++full->tree.order;
	index = tree_add(&full->tree, node);
	full->regions[index] = region;
	return index;
}

static void describe_devices(struct full *full, const struct scene *scene, int parent)
{
	for (unsigned i = 0; i < scene->config.ndevices; i++) {
		struct node node = {.size = SCENE_PAGE,
				    .parent = parent,
				    .target = NONE,
				    .offset = scene_place(scene, i),
				    .disabled = scene->devices[i] == scene->disabled};

		describe(full, node, scene->devices[i]);
	}
	for (unsigned i = 0; i < SCENE_NRAM && scene->ram[i]; i++) {
		struct node node = {.size = SCENE_RAM_SIZE,
				    .parent = parent,
				    .target = NONE,
				    .offset = scene_ram_place(i)};

		describe(full, node, scene->ram[i]);
	}
}

static int describe_root(struct full *full, const struct scene *scene, unsigned space, int system)
{
	struct node whole = {.size = KVMAS_SIZE_MAX, .parent = NONE, .target = NONE};
	struct kvmas_region *root = scene->roots[space];
	struct node alias = whole;
	int index;

	if (root == scene->system)
		return system;
	alias.target = system;
	if (!scene->aliases[space])
		return describe(full, alias, root);
	index = describe(full, whole, root);
	alias.parent = index;
	describe(full, alias, scene->aliases[space]);
	return index;
}

void full_init(struct full *full, const struct scene *scene)
{
	struct node node = {.size = KVMAS_SIZE_MAX, .parent = NONE, .target = NONE};
	size_t most = 3 + scene->config.ndevices + SCENE_NRAM + 2 * SCENE_MAX_SPACES;
	int system;

	*full = (struct full){.nspaces = scene->config.nspaces};
	full->regions = calloc(most, sizeof(full->regions[0]));
	must(full->regions ? 0 : -ENOMEM);
	system = describe(full, node, scene->system);
	node = (struct node){.size = SCENE_LID_SIZE,
			     .parent = system,
			     .target = NONE,
			     .offset = SCENE_LID,
			     .priority = 1};
	describe(full, node, scene->lid);
	node.size = SCENE_PAGE; /* somewhere below the lid: it is not to be seen */
	node.priority = 0;
	describe(full, node, scene->hidden);
	describe_devices(full, scene, system);
	for (unsigned i = 0; i < full->nspaces; i++)
		full->roots[i] = describe_root(full, scene, i, system);
}

void full_fini(struct full *full)
{
	tree_fini(&full->tree);
	free(full->regions);
}

static void verify_view(const struct full *full, unsigned space, const struct kvmas_view *view)
{
	struct kvmas_section section;
	size_t count;
	struct oracle_range *ranges = oracle_render(&full->tree, full->roots[space], &count);
	int err = kvmas_view_find(view, 0, &section);

	for (size_t i = 0; i < count; i++) {
		must(err);
		bench_expect(section.gpa == ranges[i].first && section.last == ranges[i].last);
		bench_expect(section.region == full->regions[ranges[i].node]);
		bench_expect(section.offset == ranges[i].offset);
		err = kvmas_view_next(view, &section);
	}
	bench_expect(err == -ENOENT);
	free(ranges);
}

void full_verify(const struct full *full, const struct scene *scene)
{
	struct kvmas_reader *reader;

	must(kvmas_reader_add(scene->kvmas, &reader));
	for (unsigned i = 0; i < full->nspaces; i++) {
		const struct kvmas_view *view = kvmas_view_acquire(reader, scene->spaces[i]);

		verify_view(full, i, view);
		kvmas_view_release(reader, view);
	}
	kvmas_reader_del(reader);
}

static void render_all(const struct full *full)
{
	for (unsigned i = 0; i < full->nspaces; i++) {
		size_t count;

		free(oracle_render(&full->tree, full->roots[i], &count));
	}
}

struct summary full_measure(const struct full *full, const struct budget *budget,
			    struct samples *samples)
{
	uint64_t deadline = clock_ns() + budget->ns;
	uint64_t end = 0;

	render_all(full);
	samples->count = 0;
	while (samples->count < budget->samples && end < deadline) {
		uint64_t start = clock_ns();

		render_all(full);
		end = clock_ns();
		samples->ns[samples->count++] = end - start;
	}
	return samples_summarise(samples);
}

/* SPDX-License-Identifier: MIT */
/*
 * Containers that hold aliases of themselves, at random: what is a loop is refused, and only that;
 * what is none is seen as the oracle sees it. Trees are small, so that circles are frequent.
 */
#include "fixture.h"
#include "oracle.h"
#include "validate.h"

#include <inttypes.h>

enum { NREGIONS = 9, PLACES = 24, PLACE = 0x1000 };

struct world {
	struct fixture *f;
	struct tree tree;
	struct kvmas_region *regions[NREGIONS];
	struct kvmas_space *space;
	uint64_t random;
	uint64_t legal; /* steps that left an alias below its own target */
	uint64_t loops;
	uint64_t steps;
};

static uint64_t draw(struct world *w, uint64_t n)
{
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (w->random >> 33) % n;
}

static uint64_t draw_place(struct world *w)
{
	return draw(w, PLACES) * PLACE;
}

static const char *const names[NREGIONS] = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"};

/* A root, two containers, two devices, and aliases. */
static void make_world(struct world *w, uint64_t seed)
{
	*w = (struct world){.f = fixture_new((struct kvmas_config){.max_nodes = 100000}),
			    .random = seed};
	for (int i = 0; i < NREGIONS; i++) {
		struct node node = {.name = names[i],
				    .kind = i < 3   ? KVMAS_REGION_CONTAINER
					    : i < 5 ? KVMAS_REGION_MMIO
						    : KVMAS_REGION_ALIAS,
				    .size = (1 + draw(w, PLACES)) * PLACE,
				    .parent = NONE};

		if (i == 0)
			node.size = PLACES * PLACE;
		if (node.kind == KVMAS_REGION_ALIAS)
			w->regions[i] = make_alias(w->f, names[i], w->regions[0], 0, node.size);
		else
			w->regions[i] =
				make_region(w->f, (struct kvmas_region_config){.kind = node.kind,
									       .name = names[i],
									       .size = node.size});
		tree_add(&w->tree, node);
	}
	w->space = make_space(w->f, "s", w->regions[0]);
}

static void end_world(struct world *w)
{
	for (int i = 0; i < NREGIONS; i++)
		kvmas_region_del(w->regions[i]);
	tree_fini(&w->tree);
	fixture_free(w->f);
}

/* A change of one region: the node as it is then, and the call's result. */
static int step_add(struct world *w, int i, struct node *node)
{
	int parent = (int)draw(w, 5);

	if (node->parent != NONE) {
		node->parent = NONE;
		return kvmas_region_del(w->regions[i]);
	}
	node->parent = parent;
	node->offset = draw_place(w);
	node->priority = (int)draw(w, 3);
	node->order = ++w->tree.order;
	return kvmas_region_add(w->regions[parent], w->regions[i], node->offset, node->priority);
}

static int step_alias(struct world *w, int i, struct node *node)
{
	if (node->kind != KVMAS_REGION_ALIAS)
		return 0;
	node->target = (int)draw(w, NREGIONS);
	node->target_offset = draw_place(w);
	return kvmas_region_set_alias(w->regions[i], w->regions[node->target], node->target_offset);
}

static int step_alias_offset(struct world *w, int i, struct node *node)
{
	if (node->kind != KVMAS_REGION_ALIAS)
		return 0;
	node->target_offset = draw_place(w);
	return kvmas_region_set_alias_offset(w->regions[i], node->target_offset);
}

static int step_offset(struct world *w, int i, struct node *node)
{
	uint64_t offset = draw_place(w);

	if (node->parent == NONE)
		return 0;
	if (offset != node->offset)
		node->order = ++w->tree.order;
	node->offset = offset;
	return kvmas_region_set_offset(w->regions[i], offset);
}

static int step_size(struct world *w, int i, struct node *node)
{
	node->size = (1 + draw(w, draw(w, 2) ? PLACES : 3)) * PLACE;
	return kvmas_region_set_size(w->regions[i], node->size);
}

static int step_enabled(struct world *w, int i, struct node *node)
{
	node->disabled = !node->disabled && draw(w, 3) == 0;
	return kvmas_region_set_enabled(w->regions[i], !node->disabled);
}

static int (*const steps[])(struct world *w, int i, struct node *node) = {
	step_add, step_add, step_alias, step_alias_offset, step_offset, step_size, step_enabled,
};

static bool has_circle(const struct world *w)
{
	for (int i = 5; i < NREGIONS; i++) {
		if (oracle_reaches(&w->tree, w->tree.nodes[i].target, i))
			return true;
	}
	return false;
}

static void take_step(struct world *w)
{
	int i = (int)draw(w, NREGIONS);
	struct node before = w->tree.nodes[i];
	struct node after = before;
	int result = steps[draw(w, LENGTH(steps))](w, i, &after);
	bool loop;
	char *text;

	w->steps++;
	w->tree.nodes[i] = after;
	loop = oracle_is_loop(&w->tree, i);
	if (result != (loop ? -ELOOP : 0))
		fail_msg("step %" PRIu64 ": %s: %d, but it is %sa loop", w->steps, names[i], result,
			 loop ? "" : "no ");
	if (loop)
		w->tree.nodes[i] = before;
	w->loops += loop;
	w->legal += has_circle(w);
	text = oracle_text(&w->tree, 0);
	assert_view(w->f, w->space, text);
	free(text);
	text = (char *)(uintptr_t)validate(w->f->kvmas);
	if (text)
		fail_msg("step %" PRIu64 ": %s", w->steps, text);
}

static void circles_are_legal_and_loops_refused(void **state)
{
	struct world w;
	uint64_t legal = 0;
	uint64_t loops = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		print_message("seed %" PRIu64 "\n", seed);
		make_world(&w, seed);
		for (int i = 0; i < 400; i++)
			take_step(&w);
		legal += w.legal;
		loops += w.loops;
		end_world(&w);
	}
	print_message("%" PRIu64 " steps with a circle, %" PRIu64 " loops refused\n", legal, loops);
	assert_true(legal > 2000);
	assert_true(loops > 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(circles_are_legal_and_loops_refused),
	};

	return cmocka_run_group_tests_name("circle", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * See model.h: transactions as copies, and who is held by whom. A container holds its children, an
 * alias its target, a space its root, a wish its region and its space, a listener its space; the
 * user holds what there is a handle for.
 */
#include "model.h"

/* More paths than any tree may have. */
#define TOO_MANY (UINT64_C(1) << 40)

void model_save(struct model *m)
{
	tree_copy(&m->saved.tree, &m->now.tree);
	memcpy(m->saved.wishes, m->now.wishes, sizeof(m->now.wishes));
	memcpy(m->saved.pages, m->now.pages, sizeof(m->now.pages));
}

void model_go_back(struct model *m)
{
	unsigned order = m->now.tree.order;

	tree_copy(&m->now.tree, &m->saved.tree);
	m->now.tree.order = order;
	memcpy(m->now.wishes, m->saved.wishes, sizeof(m->now.wishes));
	memcpy(m->now.pages, m->saved.pages, sizeof(m->now.pages));
}

/* ---- paths ---- */

/* The aliases of each node as a list, and how many paths lead to it (0: not known yet). */
struct ways {
	const struct tree *tree;
	int first_alias[MAX_REGIONS];
	int next_alias[MAX_REGIONS];
	uint64_t count[MAX_REGIONS];
};

static uint64_t ways_to(struct ways *ways, int index)
{
	int parent = ways->tree->nodes[index].parent;
	uint64_t sum;

	if (ways->count[index])
		return ways->count[index];
	sum = parent == NONE ? 1 : ways_to(ways, parent);
	for (int alias = ways->first_alias[index]; alias != NONE; alias = ways->next_alias[alias])
		sum += ways_to(ways, alias);
	ways->count[index] = sum < TOO_MANY ? sum : TOO_MANY;
	return ways->count[index];
}

uint64_t model_paths(const struct model *m)
{
	const struct tree *tree = &m->now.tree;
	struct ways ways = {.tree = tree};
	uint64_t sum = 0;

	for (int i = 0; i < tree->count; i++)
		ways.first_alias[i] = NONE;
	for (int i = 0; i < tree->count; i++) {
		const struct node *node = &tree->nodes[i];

		if (node->kind != KVMAS_REGION_ALIAS)
			continue;
		ways.next_alias[i] = ways.first_alias[node->target];
		ways.first_alias[node->target] = i;
	}
	for (int i = 0; i < tree->count; i++)
		sum += ways_to(&ways, i);
	return sum;
}

/* ---- holders ---- */

static bool any_wish_for_space(const wish_table wishes, unsigned nregions, int space)
{
	for (unsigned i = 0; i <= nregions; i++) {
		if (wishes[i][1 + space])
			return true;
	}
	return false;
}

bool model_space_is_held(const struct model *m, int space)
{
	if (m->spaces[space].handle || any_wish_for_space(m->now.wishes, m->nregions, space) ||
	    any_wish_for_space(m->told, m->nregions, space))
		return true;
	for (unsigned i = 0; i < MAX_HEARERS; i++) {
		if (m->hearers[i].listener && m->hearers[i].space == space)
			return true;
	}
	return false;
}

static bool any_wish_for_region(const wish_table wishes, int region)
{
	for (unsigned i = 0; i <= MAX_SPACES; i++) {
		if (wishes[1 + region][i])
			return true;
	}
	return false;
}

static void find_held(const struct model *m, bool *held)
{
	const struct tree *tree = &m->now.tree;
	bool spreads = true;

	for (int i = 0; i < tree->count; i++)
		held[i] = m->places[i].handle || any_wish_for_region(m->now.wishes, i);
	for (unsigned i = 0; i < MAX_SPACES; i++) {
		if (m->spaces[i].space)
			held[m->spaces[i].root] = true;
	}
	while (spreads) {
		spreads = false;
		for (int i = 0; i < tree->count; i++) {
			const struct node *node = &tree->nodes[i];

			if (!held[i] && node->parent != NONE && held[node->parent])
				spreads = held[i] = true;
			if (node->kind == KVMAS_REGION_ALIAS && held[i] && !held[node->target])
				spreads = held[node->target] = true;
		}
	}
}

unsigned model_count_lost(const struct model *m)
{
	bool held[MAX_REGIONS];
	unsigned count = 0;

	if (m->nunheld == 0)
		return 0;
	find_held(m, held);
	for (unsigned i = 0; i < m->nregions; i++)
		count += m->places[i].region && !held[i];
	return count;
}

static void let_go_of_region(struct model *m, int index)
{
	for (int i = 0; i < m->now.tree.count; i++) {
		if (m->now.tree.nodes[i].parent == index)
			m->now.tree.nodes[i].parent = NONE;
	}
	m->now.tree.nodes[index] = (struct node){.name = "free", .parent = NONE};
	m->places[index].being->over = true;
	m->places[index] = (struct place){0};
	m->nunheld--;
	m->tally->deaths++;
}

void model_collect(struct model *m)
{
	bool held[MAX_REGIONS];

	for (int i = 0; i < MAX_SPACES; i++) {
		struct space_model *space = &m->spaces[i];

		if (!space->space || model_space_is_held(m, i))
			continue;
		free(space->ranges);
		*space = (struct space_model){0};
	}
	if (m->depth || model_count_lost(m) == 0)
		return;
	find_held(m, held);
	for (unsigned i = 0; i < m->nregions; i++) {
		if (m->places[i].region && !held[i])
			let_go_of_region(m, (int)i);
	}
}

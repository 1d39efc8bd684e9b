/* SPDX-License-Identifier: MIT */
/*
 * See model.h: the model's regions and spaces, and the steps that change it and the library. What
 * is compared after a step, and how a run goes, is in test-model.c.
 */
#include "model.h"

#include <limits.h>

static const enum kvmas_region_kind kinds[NREGIONS] = {
	KVMAS_REGION_CONTAINER, KVMAS_REGION_CONTAINER, KVMAS_REGION_CONTAINER,
	KVMAS_REGION_CONTAINER, KVMAS_REGION_CONTAINER, KVMAS_REGION_RAM,
	KVMAS_REGION_RAM,       KVMAS_REGION_RAM,       KVMAS_REGION_ROM,
	KVMAS_REGION_MMIO,      KVMAS_REGION_MMIO,      KVMAS_REGION_MMIO,
	KVMAS_REGION_ALIAS,     KVMAS_REGION_ALIAS,     KVMAS_REGION_ALIAS,
	KVMAS_REGION_ALIAS,
};

static const char *const names[NREGIONS] = {"box0", "box1", "box2", "box3", "box4", "ram0",
					    "ram1", "ram2", "rom0", "dev0", "dev1", "dev2",
					    "see0", "see1", "see2", "see3"};

/* ---- random numbers ---- */

uint64_t draw(struct model *m, uint64_t n)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (m->random >> 11) % n;
}

/* Few values, so that regions meet; now and then one from the top. */
static uint64_t draw_offset(struct model *m)
{
	uint64_t offset = draw(m, 9) * 0x1000;

	switch (draw(m, 12)) {
	case 0:
		return UINT64_MAX - 0xfff - offset;
	case 1:
		return offset + 0x800;
	default:
		return offset;
	}
}

static uint64_t draw_size(struct model *m)
{
	switch (draw(m, 12)) {
	case 0:
		return KVMAS_SIZE_MAX;
	case 1:
		return 0;
	case 2:
		return 0x800 + draw(m, 3);
	default:
		return (1 + draw(m, 6)) * 0x1000;
	}
}

static int draw_priority(struct model *m)
{
	static const int priorities[] = {0, 0, 0, 1, 1, -1, -1, 5, INT_MIN, INT_MAX};

	return priorities[draw(m, LENGTH(priorities))];
}

static int draw_region(struct model *m)
{
	return (int)draw(m, NREGIONS);
}

/* One that is, or is not, in a container, as far as a few draws find it. */
static int draw_placed(struct model *m, bool placed)
{
	int index = draw_region(m);

	for (int i = 0; i < 4 && (m->now.tree.nodes[index].parent != NONE) != placed; i++)
		index = draw_region(m);
	return index;
}

void copy_state(struct state *state, const struct state *from)
{
	*state = *from;
	state->tree.nodes = state->nodes;
}

/* ---- what must be ---- */

static bool is_logged(const struct model *m, const struct state *state, unsigned view,
		      const struct oracle_range *range)
{
	unsigned region = 1 + (unsigned)range->node;
	unsigned space = 1 + view;

	(void)m;
	if (range->readonly || kinds[range->node] != KVMAS_REGION_RAM)
		return false;
	return state->wishes[ANY][ANY] || state->wishes[ANY][space] || state->wishes[region][ANY] ||
	       state->wishes[region][space];
}

char *told_text(const struct model *m, const struct state *state, unsigned view)
{
	int root = m->views[view].root;
	char *lines = oracle_text(&state->tree, root);
	char *line = lines;
	char *text = NULL;
	size_t count;
	struct oracle_range *ranges = oracle_render(&state->tree, root, &count);

	text_add(&text, "%s", "");
	for (size_t i = 0; i < count; i++) {
		size_t length = strcspn(line, "\n");

		text_add(&text, "%.*s%s\n", (int)length, line,
			 is_logged(m, state, view, &ranges[i]) ? " logged" : "");
		line += length + 1;
	}
	free(ranges);
	free(lines);
	return text;
}

/* ---- regions and spaces ---- */

void make_node(struct model *m, int index)
{
	struct kvmas_region_config config = {
		.kind = kinds[index],
		.name = names[index],
		.size = (1 + draw(m, BLOCK_PAGES)) * 0x1000,
	};
	struct node *node = &m->now.tree.nodes[index];

	if (index < NROOTS || (config.kind == KVMAS_REGION_CONTAINER && draw(m, 2)))
		config.size = KVMAS_SIZE_MAX;
	*node = (struct node){names[index], kinds[index], config.size, NONE};
	if (config.kind == KVMAS_REGION_RAM || config.kind == KVMAS_REGION_ROM)
		config.ram = make_block(m->f, names[index], BLOCK_PAGES);
	if (config.kind == KVMAS_REGION_ALIAS) {
		node->target = (int)draw(m, (uint64_t)index);
		config.target = m->regions[node->target];
	}
	m->regions[index] = make_region(m->f, config);
	kvmas_ram_unref(config.ram);
}

void make_view(struct model *m, unsigned view)
{
	struct view_model *v = &m->views[view];

	v->root = (int)draw(m, NROOTS);
	v->space = make_space(m->f, "s", m->regions[v->root]);
	v->mirror = (struct mirror){0};
	must(kvmas_listener_add(v->space,
				KVMAS_CONFIG(listener, .data = &v->mirror, .begin = mirror_begin,
					     .region_add = mirror_add, .region_del = mirror_del,
					     .log_start = mirror_log_start,
					     .log_stop = mirror_log_stop, .commit = mirror_commit),
				&v->listener));
	assert_int_equal(v->mirror.begins, 1);
	v->mirror.begins = 0;
	v->mirror.commits = 0;
	v->lines = oracle_text(&m->now.tree, v->root);
	v->told = told_text(m, &m->now, view);
}

void drop_view(struct model *m, unsigned view)
{
	struct view_model *v = &m->views[view];

	must(kvmas_listener_del(v->listener));
	assert_null(v->mirror.fault);
	assert_int_equal(v->mirror.count, 0);
	drop_space(m->f, v->space);
	free(v->lines);
	free(v->told);
}

/* ---- steps that edit: each foretells the result and the state after it, and calls ---- */

static int step_add(struct model *m)
{
	int parent = draw(m, 4) ? (int)draw(m, NROOTS) : draw_region(m);
	int child = draw_placed(m, false);
	struct node *node = &m->next.tree.nodes[child];
	uint64_t offset = draw_offset(m);
	int priority = draw_priority(m);

	if (kinds[parent] == KVMAS_REGION_ALIAS)
		m->expected = -EINVAL;
	else if (node->parent != NONE)
		m->expected = -EEXIST;
	else if (oracle_reaches(&m->now.tree, child, parent))
		m->expected = -ELOOP;
	node->parent = parent;
	node->offset = offset;
	node->priority = priority;
	node->order = ++m->next.tree.order;
	return kvmas_region_add(m->regions[parent], m->regions[child], offset, priority);
}

static int step_del(struct model *m)
{
	int index = draw_placed(m, true);
	struct node *node = &m->next.tree.nodes[index];

	m->expected = node->parent == NONE ? -ENOENT : 0;
	node->parent = NONE;
	return kvmas_region_del(m->regions[index]);
}

static int step_set_enabled(struct model *m)
{
	int index = draw_region(m);
	bool enabled = draw(m, 6);

	m->next.tree.nodes[index].disabled = !enabled;
	return kvmas_region_set_enabled(m->regions[index], enabled);
}

static int step_set_readonly(struct model *m)
{
	int index = draw_region(m);
	bool readonly = !draw(m, 4);

	m->next.tree.nodes[index].readonly = readonly;
	return kvmas_region_set_readonly(m->regions[index], readonly);
}

static int step_set_offset(struct model *m)
{
	int index = draw_placed(m, true);
	struct node *node = &m->next.tree.nodes[index];
	uint64_t offset = draw_offset(m);

	m->expected = node->parent == NONE ? -ENOENT : 0;
	if (node->offset != offset)
		node->order = ++m->next.tree.order;
	node->offset = offset;
	return kvmas_region_set_offset(m->regions[index], offset);
}

static int step_set_size(struct model *m)
{
	int index = draw_region(m);
	uint64_t size = index < NROOTS && draw(m, 8) ? KVMAS_SIZE_MAX : draw_size(m);
	bool memory = kinds[index] == KVMAS_REGION_RAM || kinds[index] == KVMAS_REGION_ROM;

	if (size == 0 || (memory && size > BLOCK_PAGES * page_size()))
		m->expected = -EINVAL;
	m->next.tree.nodes[index].size = size;
	return kvmas_region_set_size(m->regions[index], size);
}

static int step_set_priority(struct model *m)
{
	int index = draw_placed(m, true);
	struct node *node = &m->next.tree.nodes[index];
	int priority = draw_priority(m);

	m->expected = node->parent == NONE ? -ENOENT : 0;
	if (node->priority != priority)
		node->order = ++m->next.tree.order;
	node->priority = priority;
	return kvmas_region_set_priority(m->regions[index], priority);
}

static int step_set_alias(struct model *m)
{
	int index = draw(m, 8) ? NREGIONS - 1 - (int)draw(m, 4) : draw_region(m);
	int target = draw_region(m);
	uint64_t offset = draw_offset(m);
	struct node *node = &m->next.tree.nodes[index];

	if (kinds[index] != KVMAS_REGION_ALIAS)
		m->expected = -EINVAL;
	else if (oracle_reaches(&m->now.tree, target, index))
		m->expected = -ELOOP;
	node->target = target;
	node->target_offset = offset;
	return kvmas_region_set_alias(m->regions[index], m->regions[target], offset);
}

static int step_log(struct model *m, bool start)
{
	unsigned region = (unsigned)draw(m, 1 + NREGIONS);
	unsigned space = (unsigned)draw(m, 1 + NSPACES);
	bool *wish = &m->next.wishes[region][space];
	int (*call)(struct kvmas_client *, struct kvmas_region *, struct kvmas_space *) =
		start ? kvmas_client_log_start : kvmas_client_log_stop;

	if (*wish == start)
		m->expected = start ? -EEXIST : -ENOENT;
	*wish = start;
	return call(m->client, region == ANY ? NULL : m->regions[region - 1],
		    space == ANY ? NULL : m->views[space - 1].space);
}

static int step_log_start(struct model *m)
{
	return step_log(m, true);
}

static int step_log_stop(struct model *m)
{
	return step_log(m, false);
}

/* ---- steps that begin and end ---- */

static int step_begin(struct model *m)
{
	int result = kvmas_begin(m->f->kvmas);

	if (m->depth++ == 0)
		copy_state(&m->saved, &m->now);
	return result;
}

/* The outermost level has ended without a commit. */
static void go_back(struct model *m)
{
	copy_state(&m->now, &m->saved);
	copy_state(&m->next, &m->saved);
	m->doomed = false;
}

static int step_commit(struct model *m)
{
	int result = kvmas_commit(m->f->kvmas);

	if (m->depth == 0) {
		m->expected = -EINVAL;
		return result;
	}
	if (--m->depth)
		return result;
	m->expected = m->doomed ? -ECANCELED : 0;
	if (result)
		go_back(m);
	return result;
}

static int step_abort(struct model *m)
{
	int result = kvmas_abort(m->f->kvmas);

	if (m->depth == 0)
		m->expected = -EINVAL;
	else if (--m->depth)
		m->doomed = true;
	else
		go_back(m);
	return result;
}

/* ---- steps that make and end objects, outside transactions ---- */

static bool is_named(const struct model *m, int index)
{
	for (int i = 0; i < NREGIONS; i++) {
		const struct node *node = &m->now.tree.nodes[i];

		if (node->kind == KVMAS_REGION_ALIAS && node->target == index)
			return true;
	}
	for (unsigned i = 0; i < NSPACES; i++) {
		if (m->views[i].root == index)
			return true;
	}
	for (unsigned i = 0; i <= NSPACES; i++) {
		if (m->now.wishes[1 + index][i])
			return true;
	}
	return m->now.tree.nodes[index].parent != NONE;
}

/* A region that nobody names ends, and its children are free. */
static int step_renew_region(struct model *m)
{
	int index = draw_region(m);

	m->f->heap.fail_in = 0;
	if (m->depth || is_named(m, index))
		return 0;
	drop_region(m->f, m->regions[index]);
	must(kvmas_reclaim(m->f->kvmas));
	for (int i = 0; i < NREGIONS; i++) {
		if (m->now.tree.nodes[i].parent == index)
			m->now.tree.nodes[i].parent = NONE;
	}
	make_node(m, index);
	copy_state(&m->next, &m->now);
	return 0;
}

static int step_renew_space(struct model *m)
{
	unsigned view = (unsigned)draw(m, NSPACES);

	m->f->heap.fail_in = 0;
	for (unsigned i = 0; i <= NREGIONS; i++) {
		if (m->now.wishes[i][1 + view])
			return 0;
	}
	if (m->depth || m->tight)
		return 0;
	drop_view(m, view);
	make_view(m, view);
	return 0;
}

/* ---- all steps ---- */

const struct step model_steps[NSTEPS] = {
	{"add", step_add, 16},
	{"del", step_del, 6},
	{"set_enabled", step_set_enabled, 5},
	{"set_readonly", step_set_readonly, 4},
	{"set_offset", step_set_offset, 8},
	{"set_size", step_set_size, 8},
	{"set_priority", step_set_priority, 5},
	{"set_alias", step_set_alias, 8},
	{"log_start", step_log_start, 3},
	{"log_stop", step_log_stop, 5},
	{"begin", step_begin, 5},
	{"commit", step_commit, 9},
	{"abort", step_abort, 2},
	{"renew_region", step_renew_region, 1},
	{"renew_space", step_renew_space, 1},
};

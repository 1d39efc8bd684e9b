/* SPDX-License-Identifier: MIT */
/*
 * Random steps on the library and on a model of it, side by side. The model is a description of the
 * regions (oracle.h) and of what is logged, so small that a transaction is a copy of it: abort puts
 * the copy back. After every step
 *
 *   - the result of the call is what the model foretold, or -ENOMEM if an allocation was failed;
 *   - every space's view is what the oracle renders of the last committed state;
 *   - inside a transaction, what the library would render is what the oracle renders of the tree;
 *   - a listener of each space, which keeps its own list from additions and deletions, has just the
 *     view, was called if and only if something changed, and was told nothing out of order.
 *
 * KVMAS_SEED and KVMAS_STEPS choose the run. Read run_model first.
 */
#include "fixture.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "oracle.h"
#include "view.h"

enum {
	NSPACES = 3,
	NREGIONS = 16,
	NROOTS = 3, /* the first of them: what spaces show, and most others are added to */
	ANY = 0,
	MAX_SECTIONS = 256,
	BLOCK_PAGES = 4,
};

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

/* All that a transaction can change. A wish is for one region or any, in one space or any. */
struct state {
	struct tree tree;
	bool wishes[1 + NREGIONS][1 + NSPACES];
};

/* What a listener has been told, as a list. */
struct mirror {
	struct kvmas_section sections[MAX_SECTIONS];
	unsigned count;
	unsigned begins;
	unsigned commits;
	uint64_t last_del; /* of this telling */
	uint64_t next_add; /* the lowest address that may be added */
	bool dels_are_over;
	struct kvmas_section *unlogged; /* added as logged: log_start must be next */
	const char *fault;
};

struct view_model {
	struct kvmas_space *space;
	struct kvmas_listener *listener;
	int root;
	struct mirror mirror;
	char *lines; /* what the view must be */
	char *told;  /* the same, with what is logged */
};

struct model {
	struct fixture *f;
	uint64_t random;
	bool tight; /* small caps: commits may return -E2BIG */
	struct state now;
	struct state saved; /* before the outermost begin */
	struct state next;  /* now, if the call succeeds */
	int expected;       /* of the call */
	unsigned depth;
	bool doomed;
	struct kvmas_region *regions[NREGIONS];
	struct view_model views[NSPACES];
	struct kvmas_client *client;
	unsigned published;
	unsigned failed;
	unsigned no_memory;
	unsigned past_cap;
};

/* ---- random numbers ---- */

static uint64_t draw(struct model *m, uint64_t n)
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

/* ---- the listener's list ---- */

static bool same_section(const struct kvmas_section *a, const struct kvmas_section *b)
{
	return a->gpa == b->gpa && a->size == b->size && a->last == b->last &&
	       a->region == b->region && a->offset == b->offset && a->readonly == b->readonly &&
	       a->ram == b->ram && a->ram_offset == b->ram_offset && a->hva == b->hva &&
	       a->fd == b->fd && a->fd_offset == b->fd_offset;
}

static void blame(struct mirror *mirror, const char *fault)
{
	if (!mirror->fault)
		mirror->fault = fault;
}

static struct kvmas_section *find_section(struct mirror *mirror,
					  const struct kvmas_section *section)
{
	for (unsigned i = 0; i < mirror->count; i++) {
		if (same_section(&mirror->sections[i], section))
			return &mirror->sections[i];
	}
	blame(mirror, "told of a section that was never added");
	return NULL;
}

static void mirror_begin(void *data)
{
	struct mirror *mirror = data;

	if (mirror->begins++ != mirror->commits)
		blame(mirror, "begin in begin");
	mirror->last_del = UINT64_MAX;
	mirror->next_add = 0;
	mirror->dels_are_over = false;
}

static void mirror_add(void *data, const struct kvmas_section *section)
{
	struct mirror *mirror = data;
	unsigned at = mirror->count;

	if (mirror->unlogged)
		blame(mirror, "no log_start after a logged section was added");
	if (section->gpa < mirror->next_add)
		blame(mirror, "additions do not ascend");
	mirror->next_add = section->last; /* + 1, but for the top */
	mirror->dels_are_over = true;
	if (at == MAX_SECTIONS) {
		blame(mirror, "too many sections");
		return;
	}
	for (; at > 0 && mirror->sections[at - 1].gpa > section->gpa; at--)
		mirror->sections[at] = mirror->sections[at - 1];
	mirror->sections[at] = *section;
	mirror->sections[at].logged = false;
	mirror->count++;
	if ((at > 0 && mirror->sections[at - 1].last >= section->gpa) ||
	    (at + 1 < mirror->count && mirror->sections[at + 1].gpa <= section->last))
		blame(mirror, "sections overlap");
	mirror->unlogged = section->logged ? &mirror->sections[at] : NULL;
}

static void mirror_del(void *data, const struct kvmas_section *section)
{
	struct mirror *mirror = data;
	struct kvmas_section *entry = find_section(mirror, section);
	size_t after;

	if (mirror->dels_are_over || section->last > mirror->last_del)
		blame(mirror, "deletions do not descend, or come late");
	mirror->last_del = section->gpa;
	if (!entry)
		return;
	if (entry->logged != section->logged)
		blame(mirror, "deleted with another logged than it had");
	after = (size_t)(&mirror->sections[--mirror->count] - entry);
	memmove(entry, entry + 1, after * sizeof(*entry));
}

static void mirror_log(struct mirror *mirror, const struct kvmas_section *section, bool logged)
{
	struct kvmas_section *entry = find_section(mirror, section);

	if (!entry)
		return;
	if (entry->logged == logged || section->logged != logged)
		blame(mirror, "log_start or log_stop of what is so already");
	if (mirror->unlogged && mirror->unlogged != entry)
		blame(mirror, "log_start of another section than the one added");
	mirror->unlogged = NULL;
	entry->logged = logged;
}

static void mirror_log_start(void *data, const struct kvmas_section *section)
{
	mirror_log(data, section, true);
}

static void mirror_log_stop(void *data, const struct kvmas_section *section)
{
	mirror_log(data, section, false);
}

static void mirror_commit(void *data)
{
	struct mirror *mirror = data;

	if (++mirror->commits != mirror->begins)
		blame(mirror, "commit without begin");
	if (mirror->unlogged)
		blame(mirror, "no log_start after a logged section was added");
}

static char *mirror_text(const struct mirror *mirror)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (unsigned i = 0; i < mirror->count; i++) {
		section_text(&text, &mirror->sections[i]);
		text_add(&text, "%s\n", mirror->sections[i].logged ? " logged" : "");
	}
	return text;
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

/* The oracle's lines, with " logged" where it is. */
static char *told_text(const struct model *m, const struct state *state, unsigned view)
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

static void expect_text(const char *what, const char *is, const char *must_be)
{
	if (strcmp(is, must_be) != 0)
		fail_msg("%s is\n%sbut must be\n%s", what, is, must_be);
}

/* What the library would show of the tree, as it stands inside a transaction. */
static char *render_text(struct model *m, unsigned view)
{
	struct kvmas_region *root = m->regions[m->views[view].root];
	struct flat flat = {0};
	char *text = NULL;
	int err = kas_render(root, &flat);

	text_add(&text, "%s", "");
	for (size_t i = 0; !err && i < flat.count; i++) {
		struct kvmas_section section;

		kas_section_fill(&section, &flat.ranges[i]);
		section_text(&text, &section);
		text_add(&text, "\n");
	}
	kas_flat_fini(m->f->kvmas, &flat);
	if (!err)
		return text;
	free(text);
	return NULL; /* past a cap */
}

static void check_uncommitted(struct model *m, unsigned view)
{
	char *is = render_text(m, view);
	char *must_be = oracle_text(&m->now.tree, m->views[view].root);

	if (is)
		expect_text("the tree in a transaction", is, must_be);
	else
		assert_true(m->tight);
	free(is);
	free(must_be);
}

static void check_view(struct model *m, unsigned view)
{
	struct view_model *v = &m->views[view];
	char *is = space_text(m->f, v->space);
	char *mirrored = mirror_text(&v->mirror);

	expect_text("the view", is, v->lines);
	expect_text("what the listener knows", mirrored, v->told);
	if (v->mirror.fault)
		fail_msg("listener: %s", v->mirror.fault);
	free(is);
	free(mirrored);
}

/* The committed state may have changed: foretell all views anew, and see who was told. */
static void foretell(struct model *m, unsigned view)
{
	struct view_model *v = &m->views[view];
	char *told = told_text(m, &m->now, view);
	bool changes = strcmp(told, v->told) != 0;

	assert_int_equal(v->mirror.begins, changes);
	m->published += changes;
	free(v->told);
	free(v->lines);
	v->told = told;
	v->lines = oracle_text(&m->now.tree, v->root);
}

static void check(struct model *m)
{
	for (unsigned i = 0; i < NSPACES; i++) {
		if (m->depth == 0)
			foretell(m, i);
		else
			assert_int_equal(m->views[i].mirror.begins, 0);
		check_view(m, i);
		if (m->depth)
			check_uncommitted(m, i);
		m->views[i].mirror.begins = 0;
		m->views[i].mirror.commits = 0;
	}
	forget_notes(m->f);
}

/* ---- regions and spaces ---- */

static void make_node(struct model *m, int index)
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

static void make_view(struct model *m, unsigned view)
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

static void drop_view(struct model *m, unsigned view)
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
		m->saved = m->now;
	return result;
}

/* The outermost level has ended without a commit. */
static void go_back(struct model *m)
{
	m->now = m->saved;
	m->next = m->saved;
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
	m->next = m->now;
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

/* ---- running ---- */

static const struct step {
	const char *name;
	int (*run)(struct model *m);
	unsigned weight;
} steps[] = {
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

static unsigned draw_step(struct model *m)
{
	unsigned total = 0;
	unsigned at;
	unsigned i = 0;

	for (i = 0; i < LENGTH(steps); i++)
		total += steps[i].weight;
	at = (unsigned)draw(m, total);
	for (i = 0; at >= steps[i].weight; i++)
		at -= steps[i].weight;
	return i;
}

static bool may_fail_so(const struct model *m, int result)
{
	if (result == -ENOMEM)
		return m->f->heap.failed;
	return result == -E2BIG && m->tight && m->depth == 0;
}

static int take_step(struct model *m, const struct step *step)
{
	int result;

	m->next = m->now;
	m->expected = 0;
	m->f->heap.failed = false;
	m->f->heap.fail_in = draw(m, 6) ? 0 : (unsigned)(1 + draw(m, 8));
	result = step->run(m);
	m->f->heap.fail_in = 0;
	if (result != m->expected && !(m->expected == 0 && may_fail_so(m, result)) &&
	    !(result == -ENOMEM && m->f->heap.failed))
		fail_msg("%s returned %d and not %d", step->name, result, m->expected);
	if (result == 0)
		m->now = m->next;
	m->failed += result != 0;
	m->no_memory += result == -ENOMEM;
	m->past_cap += result == -E2BIG;
	return result;
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void start_model(struct model *m, uint64_t seed, bool tight)
{
	*m = (struct model){.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1, .tight = tight};
	m->f = fixture_new(tight ? (struct kvmas_config){.max_ranges = 5, .max_nodes = 12}
				 : (struct kvmas_config){0});
	m->now.tree.count = NREGIONS;
	for (int i = 0; i < NREGIONS; i++)
		make_node(m, i);
	must(kvmas_client_new(m->f->kvmas, "client", &m->client));
	for (unsigned i = 0; i < NSPACES; i++)
		make_view(m, i);
}

static void end_model(struct model *m)
{
	for (; m->depth; m->depth--)
		must(kvmas_abort(m->f->kvmas));
	kvmas_client_unref(m->client);
	for (unsigned i = 0; i < NSPACES; i++)
		drop_view(m, i);
	fixture_free(m->f);
}

static void run_model(bool tight)
{
	uint64_t seed = number_from("KVMAS_SEED", 1);
	uint64_t nsteps = number_from("KVMAS_STEPS", 20000);
	unsigned done[LENGTH(steps)][2] = {{0}};
	static struct model m;

	print_message("KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%" PRIu64 "%s\n", seed, nsteps,
		      tight ? ", with small caps" : "");
	start_model(&m, seed, tight);
	for (uint64_t i = 0; i < nsteps; i++) {
		unsigned step = draw_step(&m);

		done[step][take_step(&m, &steps[step]) != 0]++;
		check(&m);
	}
	for (unsigned i = 0; i < LENGTH(steps); i++)
		print_message("%13s %6u done %6u failed\n", steps[i].name, done[i][0], done[i][1]);
	print_message("%u views published, %u calls failed: %u without memory, %u past a cap\n",
		      m.published, m.failed, m.no_memory, m.past_cap);
	end_model(&m);
}

static void random_steps_agree_with_the_model(void **state)
{
	(void)state;
	run_model(false);
}

static void random_steps_with_small_caps_agree_with_the_model(void **state)
{
	(void)state;
	run_model(true);
}

/* ---- the checkers, checked ---- */

/* A tree in which every part of every node matters. */
static const struct tree planted = {
	.nodes = {{"root", KVMAS_REGION_CONTAINER, 0x10000, NONE},
		  {"a", KVMAS_REGION_RAM, 0x2000, 0, 0x1000, 0, .order = 1},
		  {"b", KVMAS_REGION_MMIO, 0x2000, 0, 0x2000, 0, .order = 2},
		  {"t", KVMAS_REGION_RAM, 0x2000, NONE},
		  {"see", KVMAS_REGION_ALIAS, 0x1000, 0, 0x8000, 0, 3, 0x800, .order = 3}},
	.count = 5,
	.order = 3,
};

static const struct tree *plant(unsigned difference)
{
	static struct tree tree;

	tree = planted;
	switch (difference) {
	case 0:
		tree.nodes[1].offset++;
		break;
	case 1:
		tree.nodes[1].size = 0x800;
		break;
	case 2:
		tree.nodes[1].priority = 1;
		break;
	case 3:
		tree.nodes[1].order = 9;
		break;
	case 4:
		tree.nodes[2].readonly = true;
		break;
	case 5:
		tree.nodes[2].disabled = true;
		break;
	case 6:
		tree.nodes[4].target_offset++;
		break;
	case 7:
		tree.nodes[4].target = 1;
		break;
	case 8:
		tree.nodes[0].readonly = true;
		break;
	case 9:
		tree.nodes[2].parent = NONE;
		break;
	default:
		return NULL;
	}
	return &tree;
}

static void oracle_sees_every_planted_difference(void **state)
{
	char *text = oracle_text(&planted, 0);
	const struct tree *tree;

	(void)state;
	assert_string_equal(text, "1000-1fff ram a+0x0\n2000-3fff mmio b+0x0\n"
				  "8000-8fff ram t+0x800\n");
	for (unsigned i = 0; (tree = plant(i)); i++) {
		char *other = oracle_text(tree, 0);

		if (strcmp(text, other) == 0)
			fail_msg("difference %u was not seen", i);
		free(other);
	}
	free(text);
}

static struct kvmas_section section_at(uint64_t gpa)
{
	return (struct kvmas_section){.gpa = gpa, .size = 0x1000, .last = gpa + 0xfff};
}

/* A listener that has been told of two sections, in the middle of a telling. */
static struct mirror *told_of_two(void)
{
	static struct mirror mirror;
	struct kvmas_section low = section_at(0x1000);
	struct kvmas_section high = section_at(0x4000);

	mirror = (struct mirror){0};
	mirror_begin(&mirror);
	mirror_add(&mirror, &low);
	mirror_add(&mirror, &high);
	mirror_commit(&mirror);
	mirror_begin(&mirror);
	assert_null(mirror.fault);
	return &mirror;
}

static void assert_fault(struct mirror *mirror, const char *fault)
{
	assert_non_null(mirror->fault);
	assert_string_equal(mirror->fault, fault);
}

static void listeners_list_sees_what_it_was_told_wrongly(void **state)
{
	struct kvmas_section low = section_at(0x1000);
	struct kvmas_section high = section_at(0x4000);
	struct kvmas_section other = section_at(0x4000);
	struct mirror *mirror = told_of_two();

	(void)state;
	other.offset = 1;
	mirror_del(mirror, &other);
	assert_fault(mirror, "told of a section that was never added");
	mirror = told_of_two();
	mirror_del(mirror, &low);
	mirror_del(mirror, &high);
	assert_fault(mirror, "deletions do not descend, or come late");
	mirror = told_of_two();
	mirror_add(mirror, &high);
	assert_fault(mirror, "sections overlap");
	mirror = told_of_two();
	other = section_at(0x9000);
	mirror_add(mirror, &other);
	mirror_del(mirror, &low);
	assert_fault(mirror, "deletions do not descend, or come late");
	mirror = told_of_two();
	mirror_log_stop(mirror, &low);
	assert_fault(mirror, "log_start or log_stop of what is so already");
	mirror = told_of_two();
	other.logged = true;
	mirror_add(mirror, &other);
	mirror_commit(mirror);
	assert_fault(mirror, "no log_start after a logged section was added");
	mirror = told_of_two();
	mirror_begin(mirror);
	assert_fault(mirror, "begin in begin");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oracle_sees_every_planted_difference),
		cmocka_unit_test(listeners_list_sees_what_it_was_told_wrongly),
		cmocka_unit_test(random_steps_agree_with_the_model),
		cmocka_unit_test(random_steps_with_small_caps_agree_with_the_model),
	};

	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}

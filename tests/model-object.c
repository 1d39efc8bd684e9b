/* SPDX-License-Identifier: MIT */
/*
 * See model.h: the steps that make and end regions, spaces, clients and readers' views, and what
 * they draw.
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- numbers ---- */

/* Few places, so that regions meet, mostly inside *within*; now
 * and then one at the top, or one that nothing else is aligned with. */
uint64_t draw_offset(struct model *m, int within)
{
	uint64_t size = within == NONE ? KVMAS_SIZE_MAX : m->now.tree.nodes[within].size;
	uint64_t nplaces = m->nplaces;
	uint64_t offset;

	if (size / 0x800 < nplaces && !rarely(m, 8))
		nplaces = size / 0x800 + 1;
	offset = draw(m, nplaces) * 0x800;
	switch (draw(m, 32)) {
	case 0:
		return 0 - 0x800 - offset % 0x8000;
	case 1:
		return UINT64_MAX - draw(m, 3);
	case 2:
		return offset + 1 + draw(m, 3);
	default:
		return offset;
	}
}

/* What a region mostly has: few bytes, or, if it shows others, as many as there are places. */
static uint64_t draw_usual_size(struct model *m, enum kvmas_region_kind kind)
{
	bool shows = kind == KVMAS_REGION_CONTAINER || kind == KVMAS_REGION_ALIAS;

	if (shows && draw(m, 2))
		return (1 + draw(m, m->nplaces)) * 0x800;
	return (1 + draw(m, m->wide ? 2 : 6)) * 0x800;
}

/* How much of its block lies behind where a region begins in it. */
uint64_t model_room(const struct model *m, int index)
{
	const struct place *place = &m->places[index];

	return m->now.pages[place->block] * page_size() - place->block_offset;
}

uint64_t draw_size(struct model *m, int index)
{
	enum kvmas_region_kind kind = m->now.tree.nodes[index].kind;
	bool holds = kind == KVMAS_REGION_CONTAINER;

	if (m->places[index].block == NONE && draw(m, 10) &&
	    (index < (int)m->nroots || (holds && draw(m, 2))))
		return KVMAS_SIZE_MAX;
	if (m->places[index].block != NONE && rarely(m, 12))
		return model_room(m, index) + draw(m, 3) - 1;
	switch (draw(m, 16)) {
	case 0: /* all that is below a device of this size is hidden: few may be so large */
		return holds || rarely(m, 4 + m->nregions) ? KVMAS_SIZE_MAX - draw(m, 3) : 0x1000;
	case 1:
		return 0;
	case 2:
		return 1 + draw(m, 3);
	case 3:
		return 0x800 - 1 + draw(m, 3);
	default:
		return draw_usual_size(m, kind);
	}
}

bool model_is_alias(const struct model *m, int index)
{
	return m->now.tree.nodes[index].kind == KVMAS_REGION_ALIAS;
}

/* What a space shows somewhere, or what that is in. */
static int draw_visible(struct model *m)
{
	const struct space_model *space = &m->spaces[draw(m, MAX_SPACES)];
	int index;

	if (space->count == 0)
		return NONE;
	index = space->ranges[draw(m, space->count)].node;
	while (m->now.tree.nodes[index].parent != NONE && rarely(m, 4))
		index = m->now.tree.nodes[index].parent;
	return m->places[index].handle ? index : NONE;
}

int draw_any_region(struct model *m)
{
	for (unsigned i = 0; i < 8; i++) {
		int index = (int)draw(m, m->nregions);

		if (m->places[index].handle)
			return index;
	}
	return NONE;
}

int draw_region(struct model *m)
{
	int index = draw(m, 4) ? draw_visible(m) : NONE;

	return index == NONE ? draw_any_region(m) : index;
}

/* ---- regions ---- */

static void note_destroyed(void *opaque)
{
	struct being *being = opaque;

	being->destroyed++;
}

static struct being *make_being(struct model *m)
{
	struct being *being = calloc(1, sizeof(*being));

	assert_non_null(being);
	snprintf(being->name, sizeof(being->name), "r%u", m->nbeings++);
	being->next = m->beings;
	m->beings = being;
	return being;
}

enum kvmas_region_kind model_draw_kind(struct model *m)
{
	static const enum kvmas_region_kind kinds[] = {
		KVMAS_REGION_CONTAINER, KVMAS_REGION_CONTAINER, KVMAS_REGION_CONTAINER,
		KVMAS_REGION_CONTAINER, KVMAS_REGION_RAM,       KVMAS_REGION_RAM,
		KVMAS_REGION_RAM,       KVMAS_REGION_ROM,       KVMAS_REGION_ROMD,
		KVMAS_REGION_ROMD,      KVMAS_REGION_MMIO,      KVMAS_REGION_MMIO,
		KVMAS_REGION_MMIO,      KVMAS_REGION_ALIAS,     KVMAS_REGION_ALIAS,
		KVMAS_REGION_ALIAS,     KVMAS_REGION_ALIAS,     KVMAS_REGION_RESERVED,
	};

	return kinds[draw(m, LENGTH(kinds))];
}

/* Make a region for a free place, which is then in no container. Fails as the call does. */
static int try_region(struct model *m, int index, enum kvmas_region_kind kind)
{
	struct place *place = &m->places[index];
	struct kvmas_region_config config = {.struct_size = sizeof(config), .kind = kind};
	struct node node = {.kind = kind, .parent = NONE};
	struct place made = {.block = NONE, .handle = true};
	int err;

	if (kind == KVMAS_REGION_ALIAS) {
		node.target = draw_region(m);
		if (node.target == NONE)
			return SKIPPED;
		node.target_offset = draw_offset(m, node.target);
		config.target = m->places[node.target].region;
		config.target_offset = node.target_offset;
	}
	made.being = make_being(m);
	node.name = made.being->name;
	node.size = draw_usual_size(m, kind);
	if (index < (int)m->nroots || (kind == KVMAS_REGION_CONTAINER && draw(m, 3)))
		node.size = KVMAS_SIZE_MAX;
	if (kind == KVMAS_REGION_RAM || kind == KVMAS_REGION_ROM || kind == KVMAS_REGION_ROMD) {
		made.block = (int)draw(m, NBLOCKS);
		made.block_offset = draw(m, BLOCK_PAGES / 2) * page_size();
		config.ram = m->blocks[made.block];
		config.ram_offset = made.block_offset;
		node.size = (1 + draw(m, 6)) * 0x800;
	}
	config.name = node.name;
	config.size = node.size;
	config.opaque = made.being;
	config.destroy = note_destroyed;
	say(m, "new %s kind %d size 0x%" PRIx64, node.name, kind, node.size);
	err = kvmas_region_new(m->f->kvmas, &config, &made.region);
	if (err) {
		made.being->destroyed = 1; /* there is nothing to be destroyed */
		return err;
	}
	*place = made;
	m->now.tree.nodes[index] = node;
	if (m->depth) /* an abort does not take it away */
		m->saved.tree.nodes[index] = node;
	return 0;
}

void model_make_region(struct model *m, int index, enum kvmas_region_kind kind)
{
	if (kind == KVMAS_REGION_ALIAS && draw_region(m) == NONE)
		kind = KVMAS_REGION_MMIO;
	while (try_region(m, index, kind) == SKIPPED)
		;
}

/* Configs that make no sense. */
static int try_nonsense(struct model *m)
{
	struct kvmas_region_config config = {
		.struct_size = sizeof(config),
		.kind = (enum kvmas_region_kind)draw(m, 1 + KVMAS_REGION_RESERVED),
		.name = "nonsense",
		.size = draw(m, 2) ? 0x1000 : 0,
	};
	struct kvmas_region *region;

	refuse(m, -EINVAL, true);
	if (config.size && config.kind == KVMAS_REGION_ALIAS) {
		refuse(m, -EXDEV, draw(m, 2));
		if (m->nrefusals == 2)
			config.target = m->foreign_region;
	} else if (config.size) {
		config.target_offset = 1;
	}
	say(m, "new nonsense");
	return kvmas_region_new(m->f->kvmas, &config, &region);
}

static int step_region_new(struct model *m)
{
	int index = (int)draw(m, m->nregions);

	if (rarely(m, 8))
		return try_nonsense(m);
	for (unsigned i = 0; i < m->nregions && m->places[index].region; i++)
		index = (index + 1) % (int)m->nregions;
	if (m->places[index].region || model_paths(m) > 6 * m->nregions + 48)
		return SKIPPED;
	return try_region(m, index, model_draw_kind(m));
}

static bool has_children(const struct tree *tree, int index)
{
	for (int i = 0; i < tree->count; i++) {
		if (tree->nodes[i].parent == index)
			return true;
	}
	return false;
}

static int step_region_unref(struct model *m)
{
	int index = draw_any_region(m);
	struct place *place = &m->places[index == NONE ? 0 : index];

	if (index == NONE || (index < (int)m->nroots && draw(m, 12)))
		return SKIPPED;
	if (m->now.tree.nodes[index].parent != NONE && draw(m, 3))
		return SKIPPED; /* rather one that ends */
	if (m->now.tree.nodes[index].kind != KVMAS_REGION_CONTAINER &&
	    (has_children(&m->now.tree, index) ||
	     (m->depth && has_children(&m->saved.tree, index))))
		return SKIPPED;
	place->handle = false;
	m->nunheld++;
	if (m->depth && model_count_lost(m)) {
		place->handle = true;
		m->nunheld--;
		return SKIPPED;
	}
	say(m, "unref %s", place->being->name);
	kvmas_region_unref(place->region);
	if (m->depth == 0)
		must(kvmas_reclaim(m->f->kvmas));
	model_collect(m);
	return 0;
}

/* Whoever knows that a region is held may take a reference again. */
static int step_region_ref(struct model *m)
{
	int index = (int)draw(m, m->nregions);

	for (unsigned i = 0; i < m->nregions; i++) {
		if (m->places[index].region && !m->places[index].handle)
			break;
		index = (index + 1) % (int)m->nregions;
	}
	if (!m->places[index].region || m->places[index].handle)
		return SKIPPED;
	say(m, "ref %s", m->places[index].being->name);
	kvmas_region_ref(m->places[index].region);
	m->places[index].handle = true;
	m->nunheld--;
	return 0;
}

/* ---- spaces ---- */

/* A space whose root is another's shares its view: that of the last commit. False if that other is
 * one which the model has forgotten, and the library not yet. */
static bool shows_at_once(struct model *m, struct space_model *made)
{
	char *text = space_text(m->f, made->space);
	bool empty = *text == '\0';

	free(text);
	for (unsigned i = 0; i < MAX_SPACES; i++) {
		const struct space_model *other = &m->spaces[i];

		if (!other->space || other->root != made->root || other->fresh)
			continue;
		made->ranges = calloc(other->count + 1, sizeof(*made->ranges));
		assert_non_null(made->ranges);
		if (other->count)
			memcpy(made->ranges, other->ranges, other->count * sizeof(*made->ranges));
		made->count = other->count;
		made->fresh = false;
		return true;
	}
	return empty;
}

static int step_space_new(struct model *m)
{
	int root = draw(m, 8) ? (int)draw(m, m->nroots) : draw_region(m);
	struct space_model made = {.handle = true, .fresh = true, .root = root};
	bool strange = rarely(m, 16);
	bool nameless = rarely(m, 16);
	int index = 0;
	int err;

	while (index < MAX_SPACES && m->spaces[index].space)
		index++;
	if (index == MAX_SPACES || root == NONE || !m->places[root].handle)
		return SKIPPED;
	refuse(m, -EINVAL, nameless);
	refuse(m, -EXDEV, strange);
	say(m, "space_new %d of %s", index, m->now.tree.nodes[root].name);
	err = kvmas_space_new(m->f->kvmas, nameless ? NULL : "space",
			      strange ? m->foreign_region : m->places[root].region, &made.space);
	if (err)
		return err;
	if (m->depth && !shows_at_once(m, &made)) {
		kvmas_space_unref(made.space);
		return SKIPPED;
	}
	m->spaces[index] = made;
	return 0;
}

static int step_space_unref(struct model *m)
{
	int index = (int)draw(m, MAX_SPACES);
	struct space_model *space = &m->spaces[index];

	if (!space->handle)
		return SKIPPED;
	space->handle = false;
	if (m->depth && !model_space_is_held(m, index)) {
		/* Its root may lose its last holder, while the transaction holds it. */
		struct space_model before = *space;
		unsigned lost;

		space->space = NULL;
		lost = model_count_lost(m);
		*space = before;
		space->handle = lost > 0;
		if (lost)
			return SKIPPED;
	}
	say(m, "space_unref %d", index);
	kvmas_space_unref(space->space);
	if (m->depth == 0)
		must(kvmas_reclaim(m->f->kvmas));
	model_collect(m);
	return 0;
}

void model_settle_fresh(struct model *m)
{
	bool any = false;
	int err;

	for (unsigned i = 0; i < MAX_SPACES; i++)
		any |= m->spaces[i].space && m->spaces[i].fresh;
	if (!any)
		return;
	m->f->heap.fail_in = 0;
	must(kvmas_begin(m->f->kvmas));
	err = kvmas_commit(m->f->kvmas);
	if (err == 0) {
		model_foretell(m);
		return;
	}
	assert_int_equal(err, -E2BIG);
	assert_true(model_may_pass_cap(m));
	for (unsigned i = 0; i < MAX_SPACES; i++) {
		if (!m->spaces[i].space || !m->spaces[i].fresh)
			continue;
		if (m->spaces[i].handle)
			kvmas_space_unref(m->spaces[i].space);
		m->spaces[i].handle = false;
	}
	must(kvmas_reclaim(m->f->kvmas));
	model_collect(m);
}

/* ---- readers ---- */

static int step_acquire(struct model *m)
{
	int space = (int)draw(m, MAX_SPACES);
	struct pin *pin = &m->pins[draw(m, MAX_PINS)];

	if (pin->view || !m->spaces[space].handle)
		return SKIPPED;
	say(m, "acquire %d", space);
	model_pin(m, pin, space);
	return 0;
}

static int step_release(struct model *m)
{
	struct pin *pin = &m->pins[draw(m, MAX_PINS)];

	if (!pin->view)
		return SKIPPED;
	say(m, "release");
	model_unpin(m, pin);
	return 0;
}

static bool nothing_is_pinned(const struct model *m)
{
	for (unsigned i = 0; i < MAX_PINS; i++) {
		if (m->pins[i].view)
			return false;
	}
	return true;
}

/* With no view held, all that is over has ended now. */
static int step_reclaim(struct model *m)
{
	int err;

	refuse(m, -EBUSY, m->depth > 0);
	say(m, "reclaim");
	err = kvmas_reclaim(m->f->kvmas);
	for (struct being *being = m->beings; !err && being; being = being->next) {
		if (being->over && nothing_is_pinned(m))
			assert_int_equal(being->destroyed, 1);
	}
	return err;
}

/* ---- clients ---- */

/* What the client that goes had logged is forgotten with the next commit. */
static int step_client_renew(struct model *m)
{
	struct kvmas_client *client;

	if (m->depth)
		return SKIPPED;
	m->f->heap.fail_in = 0;
	m->veto = 0; /* its wishes would be forgotten at some later commit */
	say(m, "client_renew");
	must(kvmas_client_new(m->f->kvmas, "client", &client));
	kvmas_client_unref(m->client);
	m->client = client;
	memset(m->now.wishes, 0, sizeof(m->now.wishes));
	must(kvmas_begin(m->f->kvmas));
	m->ended = true;
	return kvmas_commit(m->f->kvmas);
}

static int step_sync(struct model *m)
{
	int space = (int)draw(m, MAX_SPACES);
	uint64_t size = draw(m, 2) ? KVMAS_SIZE_MAX : 0;

	if (!m->spaces[space].handle)
		return SKIPPED;
	refuse(m, -EINVAL, size == 0);
	say(m, "sync %d", space);
	return kvmas_space_sync(m->spaces[space].space, 0, size);
}

/* Nothing is different afterwards: not now, and not in the commit. */
static int step_dry_run(struct model *m)
{
	m->ended = false;
	refuse(m, -ECANCELED, m->doomed);
	say(m, "dry_run");
	return kvmas_dry_run(m->f->kvmas, NULL, NULL);
}

/* ---- RAM blocks ---- */

static bool is_shown_past(const struct model *m, int block, uint64_t size)
{
	for (unsigned i = 0; i < m->nregions; i++) {
		const struct place *place = &m->places[i];

		if (place->region && place->block == block &&
		    place->block_offset + m->now.tree.nodes[i].size > size)
			return true;
	}
	return false;
}

static int step_ram_resize(struct model *m)
{
	int block = (int)draw(m, NBLOCKS);
	uint64_t pages = MIN_BLOCK_PAGES + draw(m, BLOCK_PAGES - MIN_BLOCK_PAGES + 1);
	int err;

	if (rarely(m, 8))
		pages = draw(m, 2) ? 0 : BLOCK_PAGES + 1;
	refuse(m, -EINVAL, pages == 0 || pages > BLOCK_PAGES);
	refuse(m, -EBUSY, pages && is_shown_past(m, block, pages * page_size()));
	m->may_be_busy = pages < m->now.pages[block]; /* old views, undos */
	say(m, "ram_resize %d to %u", block, (unsigned)pages);
	err = kvmas_ram_resize(m->blocks[block], pages * page_size());
	if (err == 0)
		m->now.pages[block] = pages;
	return err;
}

const struct step model_objects[NSTEPS - NEDITS] = {
	[STEP_REGION_NEW - NEDITS] = {"region_new", step_region_new, 9, false},
	[STEP_REGION_UNREF - NEDITS] = {"region_unref", step_region_unref, 9, false},
	[STEP_REGION_REF - NEDITS] = {"region_ref", step_region_ref, 4, false},
	[STEP_SPACE_NEW - NEDITS] = {"space_new", step_space_new, 10, true},
	[STEP_SPACE_UNREF - NEDITS] = {"space_unref", step_space_unref, 3, false},
	[STEP_LISTENER_ADD - NEDITS] = {"listener_add", model_listener_add, 6, false},
	[STEP_LISTENER_DEL - NEDITS] = {"listener_del", model_listener_del, 4, false},
	[STEP_ACQUIRE - NEDITS] = {"acquire", step_acquire, 4, false},
	[STEP_RELEASE - NEDITS] = {"release", step_release, 5, false},
	[STEP_RECLAIM - NEDITS] = {"reclaim", step_reclaim, 3, false},
	[STEP_CLIENT_RENEW - NEDITS] = {"client_renew", step_client_renew, 4, false},
	[STEP_SYNC - NEDITS] = {"sync", step_sync, 4, false},
	[STEP_DRY_RUN - NEDITS] = {"dry_run", step_dry_run, 4, true},
	[STEP_RAM_RESIZE - NEDITS] = {"ram_resize", step_ram_resize, 5, true},
};

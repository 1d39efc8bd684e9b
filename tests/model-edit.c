/* SPDX-License-Identifier: MIT */
/*
 * See model.h: the steps that change the tree and what is logged, and that begin and end
 * transactions. Each foretells why the call may be refused and the state after it, and calls.
 */
#include "model.h"

#include <inttypes.h>
#include <limits.h>

static int draw_priority(struct model *m)
{
	static const int priorities[] = {0, 0, 0, 0, 1, 1, -1, -1, 5, INT_MIN, INT_MAX};

	return priorities[draw(m, LENGTH(priorities))];
}

/* One that is, or is not, in a container, as far as a few draws find it. */
static int draw_placed(struct model *m, bool placed)
{
	int index = placed ? draw_region(m) : draw_any_region(m);

	for (int i = 0; i < 12 && index != NONE; i++) {
		if ((m->now.tree.nodes[index].parent != NONE) == placed)
			break;
		index = draw_any_region(m);
	}
	return index;
}

/* One of a kind, as far as some draws find it. */
static int draw_kind(struct model *m, enum kvmas_region_kind kind)
{
	int index = draw_any_region(m);

	for (int i = 0; i < 24 && index != NONE; i++) {
		if (m->now.tree.nodes[index].kind == kind)
			break;
		index = draw_any_region(m);
	}
	return index;
}

/* What the call will change: the node as it is then. */
static struct node *change(struct model *m, int index)
{
	m->node = index;
	m->after = m->now.tree.nodes[index];
	return &m->after;
}

/* Whether the change would make more paths than a run can walk. */
static bool explodes(struct model *m)
{
	struct node before = m->now.tree.nodes[m->node];
	bool result;

	if (m->nrefusals)
		return false;
	m->now.tree.nodes[m->node] = m->after;
	result = model_paths(m) > 8 * m->nregions + 64;
	m->now.tree.nodes[m->node] = before;
	return result;
}

/* Whether the change, which closes a circle of links, makes a loop. Circles that are none are left
 * to test-circle.c: who is in one holds itself, and its paths cannot be counted. */
static bool closes_a_loop(struct model *m)
{
	struct node before = m->now.tree.nodes[m->node];
	bool result;

	if (before.parent != NONE && m->after.parent != before.parent)
		return true; /* refused for its first container already */
	m->now.tree.nodes[m->node] = m->after;
	result = oracle_is_loop(&m->now.tree, m->node);
	m->now.tree.nodes[m->node] = before;
	return result;
}

/* ---- the tree ---- */

/* A region above this one that can be put into something: to make a loop. */
static int top_over(const struct model *m, int index)
{
	while (m->now.tree.nodes[index].parent != NONE)
		index = m->now.tree.nodes[index].parent;
	return index;
}

/* Mostly the root of some space, or what is shown there. */
static int draw_parent(struct model *m)
{
	const struct space_model *space = &m->spaces[draw(m, MAX_SPACES)];
	int parent = NONE;

	if (m->wide && draw(m, 8))
		space = &m->spaces[0];
	if (space->space && m->places[space->root].handle && draw(m, m->wide ? 12 : 3))
		parent = space->root;
	else if (draw(m, 4))
		parent = draw_kind(m, KVMAS_REGION_CONTAINER);
	return parent == NONE ? draw_region(m) : parent;
}

static int step_add(struct model *m)
{
	int parent = draw_parent(m);
	int child = draw_placed(m, rarely(m, 12));
	bool strange = rarely(m, 14);
	struct node *node;

	if (parent == NONE || child == NONE)
		return SKIPPED;
	if (rarely(m, 12))
		child = top_over(m, parent);
	if (!m->places[child].handle || (child < (int)m->nroots && draw(m, 8)))
		return SKIPPED;
	node = change(m, child);
	if (node->parent != NONE && !strange && draw(m, 2))
		return SKIPPED;
	refuse(m, -EINVAL, model_is_alias(m, parent));
	refuse(m, -EXDEV, strange);
	refuse(m, -EEXIST, !strange && node->parent != NONE);
	node->offset = draw_offset(m, parent);
	node->priority = draw_priority(m);
	node->order = ++m->now.tree.order;
	if (!strange && oracle_reaches(&m->now.tree, child, parent)) {
		node->parent = parent;
		if (!closes_a_loop(m))
			return SKIPPED;
		refuse(m, -ELOOP, true);
		refuse(m, -E2BIG, m->max_nodes < 100000); /* it may take long to find */
	}
	node->parent = parent;
	if (explodes(m))
		return SKIPPED;
	say(m, "add %s to %s at 0x%" PRIx64 " priority %d", node->name,
	    strange ? "another's" : m->now.tree.nodes[parent].name, node->offset, node->priority);
	return kvmas_region_add(m->places[parent].region,
				strange ? m->foreign_region : m->places[child].region, node->offset,
				node->priority);
}

static int step_del(struct model *m)
{
	int index = draw_placed(m, !rarely(m, 8));
	struct node *node;

	if (index == NONE)
		return SKIPPED;
	node = change(m, index);
	refuse(m, -ENOENT, node->parent == NONE);
	node->parent = NONE;
	say(m, "del %s", node->name);
	return kvmas_region_del(m->places[index].region);
}

/* Turn around a flag of some region, or set it as it is; *flag* is its place in struct node, and
 * all but one in *seldom* stay without. */
static int set_flag(struct model *m, size_t flag, unsigned seldom,
		    int (*call)(struct kvmas_region *region, bool on))
{
	int index = draw(m, 2) ? draw_region(m) : draw_kind(m, KVMAS_REGION_ALIAS);
	struct node *node;
	bool *on;

	if (index == NONE || (index < (int)m->nroots && draw(m, 4)))
		return SKIPPED; /* roots change all that is seen, or hide it */
	node = change(m, index);
	on = (bool *)((char *)node + flag);
	if (!*on && draw(m, seldom))
		return SKIPPED;
	*on ^= !rarely(m, 8);
	say(m, "%s %s %d", m->step, node->name, *on);
	return call(m->places[index].region, *on);
}

static int set_disabled(struct kvmas_region *region, bool disabled)
{
	return kvmas_region_set_enabled(region, !disabled);
}

static int step_set_enabled(struct model *m)
{
	return set_flag(m, offsetof(struct node, disabled), 12, set_disabled);
}

static int step_set_readonly(struct model *m)
{
	return set_flag(m, offsetof(struct node, readonly), 3, kvmas_region_set_readonly);
}

static int step_set_nonvolatile(struct model *m)
{
	return set_flag(m, offsetof(struct node, nonvolatile), 3, kvmas_region_set_nonvolatile);
}

static int step_set_unmergeable(struct model *m)
{
	return set_flag(m, offsetof(struct node, unmergeable), 3, kvmas_region_set_unmergeable);
}

static int step_set_romd(struct model *m)
{
	int index = rarely(m, 8) ? draw_region(m) : draw_kind(m, KVMAS_REGION_ROMD);
	struct node *node;
	bool romd;

	if (index == NONE)
		return SKIPPED;
	node = change(m, index);
	if (node->kind != KVMAS_REGION_ROMD && draw(m, 4))
		return SKIPPED;
	refuse(m, -EINVAL, node->kind != KVMAS_REGION_ROMD);
	romd = node->device ^ rarely(m, 8);
	node->device = !romd;
	say(m, "set_romd %s %d", node->name, romd);
	return kvmas_region_set_romd(m->places[index].region, romd);
}

static int step_set_offset(struct model *m)
{
	int index = draw_placed(m, !rarely(m, 10));
	struct node *node;
	uint64_t offset;

	if (index == NONE)
		return SKIPPED;
	node = change(m, index);
	offset = draw_offset(m, node->parent);
	refuse(m, -ENOENT, node->parent == NONE);
	if (node->offset != offset)
		node->order = ++m->now.tree.order;
	node->offset = offset;
	say(m, "set_offset %s 0x%" PRIx64, node->name, offset);
	return kvmas_region_set_offset(m->places[index].region, offset);
}

static int step_set_size(struct model *m)
{
	int index = draw_region(m);
	const struct place *place = &m->places[index == NONE ? 0 : index];
	uint64_t size;
	uint64_t room;
	struct node *node;

	if (index == NONE)
		return SKIPPED;
	size = draw_size(m, index);
	room = place->block == NONE ? 0 : model_room(m, index);
	node = change(m, index);
	refuse(m, -EINVAL, size == 0 || (place->block != NONE && size > room));
	node->size = size;
	say(m, "set_size %s 0x%" PRIx64, node->name, size);
	return kvmas_region_set_size(place->region, size);
}

static int step_set_priority(struct model *m)
{
	int index = draw_placed(m, !rarely(m, 10));
	int priority = draw_priority(m);
	struct node *node;

	if (index == NONE)
		return SKIPPED;
	node = change(m, index);
	refuse(m, -ENOENT, node->parent == NONE);
	if (node->priority != priority)
		node->order = ++m->now.tree.order;
	node->priority = priority;
	say(m, "set_priority %s %d", node->name, priority);
	return kvmas_region_set_priority(m->places[index].region, priority);
}

/* Whether the change takes its last holder from somebody, while the transaction holds it. */
static bool loses_somebody(struct model *m)
{
	struct node before = m->now.tree.nodes[m->node];
	bool result;

	if (m->nrefusals || m->depth == 0)
		return false;
	m->now.tree.nodes[m->node] = m->after;
	result = model_count_lost(m) > 0;
	m->now.tree.nodes[m->node] = before;
	return result;
}

static int step_set_alias(struct model *m)
{
	int index = rarely(m, 16) ? draw_region(m) : draw_kind(m, KVMAS_REGION_ALIAS);
	int target = draw_region(m);
	bool strange = rarely(m, 14);
	struct node *node;

	if (index == NONE || target == NONE)
		return SKIPPED;
	if (rarely(m, 12))
		target = top_over(m, index);
	if (!m->places[target].handle)
		return SKIPPED;
	node = change(m, index);
	if (!model_is_alias(m, index) && draw(m, 4))
		return SKIPPED;
	refuse(m, -EINVAL, !model_is_alias(m, index));
	refuse(m, -EXDEV, strange);
	node->target = target;
	node->target_offset = draw_offset(m, target);
	if (!strange && model_is_alias(m, index) && oracle_reaches(&m->now.tree, target, index)) {
		if (!closes_a_loop(m))
			return SKIPPED;
		refuse(m, -ELOOP, true);
		refuse(m, -E2BIG, m->max_nodes < 100000); /* it may take long to find */
	}
	if (explodes(m) || loses_somebody(m))
		return SKIPPED;
	say(m, "set_alias %s to %s+0x%" PRIx64, node->name,
	    strange ? "another's" : m->now.tree.nodes[target].name, node->target_offset);
	return kvmas_region_set_alias(m->places[index].region,
				      strange ? m->foreign_region : m->places[target].region,
				      node->target_offset);
}

static int step_set_alias_offset(struct model *m)
{
	int index = rarely(m, 16) ? draw_region(m) : draw_kind(m, KVMAS_REGION_ALIAS);
	struct node *node;
	uint64_t offset;

	if (index == NONE)
		return SKIPPED;
	node = change(m, index);
	if (!model_is_alias(m, index) && draw(m, 4))
		return SKIPPED;
	refuse(m, -EINVAL, !model_is_alias(m, index));
	offset = draw_offset(m, model_is_alias(m, index) ? node->target : NONE);
	node->target_offset = offset;
	say(m, "set_alias_offset %s 0x%" PRIx64, node->name, offset);
	return kvmas_region_set_alias_offset(m->places[index].region, offset);
}

static int put_over(struct model *m, struct kvmas_region *alias, bool placed)
{
	const struct node *node = &m->after;
	int err =
		kvmas_region_set_alias(alias, m->places[node->target].region, node->target_offset);

	if (!err && placed)
		err = kvmas_region_del(alias);
	return err ? err
		   : kvmas_region_add(m->places[node->parent].region, alias, node->offset,
				      node->priority);
}

static int put_over_or_not(struct model *m, int index)
{
	bool placed = m->now.tree.nodes[index].parent != NONE;
	int err;

	m->f->heap.fail_in = 0;
	must(kvmas_begin(m->f->kvmas));
	err = put_over(m, m->places[index].region, placed);
	if (!err)
		return kvmas_commit(m->f->kvmas);
	must(kvmas_abort(m->f->kvmas));
	return err;
}

/* Put an alias over a part of what it shows, so that the same is seen there, and yet by another
 * way: whether the parts are one range is a matter of attributes alone. */
static int step_overlay(struct model *m)
{
	int index = draw_kind(m, KVMAS_REGION_ALIAS);
	int target = draw_region(m);
	const struct node *shown = &m->now.tree.nodes[target == NONE ? 0 : target];
	struct node *node;

	if (index == NONE || !model_is_alias(m, index) || target == NONE)
		return SKIPPED;
	if (m->depth && m->max_nodes < 1000)
		return SKIPPED; /* half of it done could not be undone alone */
	if (shown->parent == NONE || !m->places[shown->parent].handle ||
	    oracle_reaches(&m->now.tree, index, shown->parent) ||
	    oracle_reaches(&m->now.tree, target, index))
		return SKIPPED;
	node = change(m, index);
	node->parent = shown->parent;
	node->priority = shown->priority;
	node->target = target;
	node->target_offset = draw(m, 4) * 0x800;
	node->offset = shown->offset + node->target_offset;
	node->order = ++m->now.tree.order;
	if (oracle_reaches(&m->now.tree, target, node->parent) || explodes(m) || loses_somebody(m))
		return SKIPPED;
	say(m, "overlay %s by %s", shown->name, node->name);
	return put_over_or_not(m, index);
}

/* ---- what is logged ---- */

/* A region that is logged in a space; *otherwise* if there is none. */
static int find_wish(const struct model *m, int space, int otherwise)
{
	for (unsigned i = 0; i < m->nregions; i++) {
		if (m->now.wishes[1 + i][1 + space] && m->places[i].handle)
			return (int)i;
	}
	return otherwise;
}

static int step_log(struct model *m, bool start)
{
	int region = draw(m, 5) ? draw_region(m) : NONE;
	int space = draw(m, 3) ? (int)draw(m, MAX_SPACES) : NONE;
	bool strange = rarely(m, 14);
	int (*call)(struct kvmas_client *, struct kvmas_region *, struct kvmas_space *) =
		start ? kvmas_client_log_start : kvmas_client_log_stop;

	if (space != NONE && !m->spaces[space].handle)
		return SKIPPED;
	if (!start && draw(m, 8))
		region = find_wish(m, space, region);
	if (!start && !m->now.wishes[1 + region][1 + space] && draw(m, 4))
		return SKIPPED;
	m->wish = &m->now.wishes[1 + region][1 + space];
	refuse(m, start ? -EEXIST : -ENOENT, !strange && *m->wish == start);
	refuse(m, -EXDEV, strange);
	say(m, "%s %d %d%s", m->step, region, space, strange ? " another's" : "");
	return call(m->client,
		    strange          ? m->foreign_region
		    : region == NONE ? NULL
				     : m->places[region].region,
		    space == NONE ? NULL : m->spaces[space].space);
}

static int step_log_start(struct model *m)
{
	return step_log(m, true);
}

static int step_log_stop(struct model *m)
{
	return step_log(m, false);
}

/* ---- begin and end ---- */

static int step_begin(struct model *m)
{
	if (m->depth == 5 || (m->depth && !m->aborts_within && draw(m, 4)))
		return SKIPPED;
	if (m->depth++ == 0) {
		static const unsigned patiences[] = {2, 3, 4, 6, 12, 40};

		model_save(m);
		m->nedits = 0;
		m->patience = patiences[draw(m, LENGTH(patiences))];
		m->aborts_within = rarely(m, 3);
	}
	say(m, "begin %u", m->depth);
	return kvmas_begin(m->f->kvmas);
}

static int step_commit(struct model *m)
{
	say(m, "commit %u", m->depth);
	refuse(m, -EINVAL, m->depth == 0);
	if (m->depth == 1) {
		refuse(m, -ECANCELED, m->doomed);
		m->ended = true;
	}
	m->depth -= m->depth > 0;
	return kvmas_commit(m->f->kvmas);
}

static int step_abort(struct model *m)
{
	if (m->depth > 1 && !m->aborts_within)
		return SKIPPED; /* else no long transaction would come to its end */
	say(m, "abort %u", m->depth);
	refuse(m, -EINVAL, m->depth == 0);
	if (m->depth > 1)
		m->doomed = true;
	m->ended = m->depth == 1;
	m->depth -= m->depth > 0;
	return kvmas_abort(m->f->kvmas);
}

const struct step model_edits[NEDITS] = {
	[STEP_ADD] = {"add", step_add, 26, true},
	[STEP_DEL] = {"del", step_del, 7, true},
	[STEP_SET_ENABLED] = {"set_enabled", step_set_enabled, 16, true},
	[STEP_SET_READONLY] = {"set_readonly", step_set_readonly, 5, true},
	[STEP_SET_NONVOLATILE] = {"set_nonvolatile", step_set_nonvolatile, 5, true},
	[STEP_SET_UNMERGEABLE] = {"set_unmergeable", step_set_unmergeable, 5, true},
	[STEP_SET_ROMD] = {"set_romd", step_set_romd, 3, true},
	[STEP_SET_OFFSET] = {"set_offset", step_set_offset, 10, true},
	[STEP_SET_SIZE] = {"set_size", step_set_size, 7, true},
	[STEP_SET_PRIORITY] = {"set_priority", step_set_priority, 5, true},
	[STEP_SET_ALIAS] = {"set_alias", step_set_alias, 6, true},
	[STEP_SET_ALIAS_OFFSET] = {"set_alias_offset", step_set_alias_offset, 4, true},
	[STEP_OVERLAY] = {"overlay", step_overlay, 6, true},
	[STEP_LOG_START] = {"log_start", step_log_start, 3, true},
	[STEP_LOG_STOP] = {"log_stop", step_log_stop, 6, true},
	[STEP_BEGIN] = {"begin", step_begin, 20, false},
	[STEP_COMMIT] = {"commit", step_commit, 1, false},
	[STEP_ABORT] = {"abort", step_abort, 1, false},
};

/* SPDX-License-Identifier: MIT */
/*
 * Regions: what they are, and the lists that make them a tree. No transaction, no view: edit.c
 * changes the tree, render.c reads it.
 *
 *     container "system"
 *       children: [vga-hole, priority 1]  [ram-low, priority 0]  [pci-hole, priority -1]
 *                        | target ^ alias       | target
 *                        v        |             v
 *                   container "pci"         RAM "ram"
 *
 * A container holds its children, an alias its target: a container that holds an alias of itself
 * holds itself, until that is taken out. Links lead both ways: down for painting, up for carrying
 * damage.
 *
 * Invariants, under the transaction lock:
 *   I1  a region is in its parent's tree if and only if state.parent is set, and in its target's
 *       list of aliases if and only if state.target is.
 *   I2  places are unique; a region that is added, moved or given a priority gets a new one.
 *   I3  no region contains itself, and no alias is seen inside itself: painting ends (loop.c).
 *   I4  target is set for aliases only; ram for RAM, ROM and ROMD only, and the window lies in its
 *   block.
 */
#include "region.h"

#include <errno.h>

#include "channel.h"
#include "children.h"
#include "ops.h"
#include "ram.h"

/* Which members a kind must have (ram, target) or may have (ops); it must not have the others. */
static const struct needs {
	bool ram;
	bool target;
	bool ops; /* may have, and a guard */
} needs[] = {
	[KVMAS_REGION_CONTAINER] = {0},      [KVMAS_REGION_RAM] = {.ram = true},
	[KVMAS_REGION_ROM] = {.ram = true},  [KVMAS_REGION_ROMD] = {.ram = true, .ops = true},
	[KVMAS_REGION_MMIO] = {.ops = true}, [KVMAS_REGION_ALIAS] = {.target = true},
	[KVMAS_REGION_RESERVED] = {0},
};

static const unsigned initial_attrs[] = {
	[KVMAS_REGION_ROM] = ATTR_READONLY,
	[KVMAS_REGION_ROMD] = ATTR_ROMD,
	[KVMAS_REGION_RESERVED] = 0,
};

static int check_ram(const struct kvmas_region_config *config)
{
	if (config->ram_offset & (kas_page_size() - 1))
		return -EINVAL;
	if (config->kind == KVMAS_REGION_RAM && !config->ram->writable)
		return -EINVAL;
	return 0;
}

static int check_config(const struct kvmas *kvmas, const struct kvmas_region_config *config)
{
	const struct needs *kind;

	if ((unsigned)config->kind > KVMAS_REGION_RESERVED || !config->name || config->size == 0)
		return -EINVAL;
	kind = &needs[config->kind];
	if (kind->ram != (config->ram != NULL) || kind->target != (config->target != NULL))
		return -EINVAL;
	if ((config->ram_offset && !kind->ram) || (config->target_offset && !kind->target) ||
	    ((config->ops || config->guard) && !kind->ops))
		return -EINVAL;
	if (config->target && config->target->object.kvmas != kvmas)
		return -EXDEV;
	return config->ram ? check_ram(config) : 0;
}

/* No view shows the region any more: nobody looks for its channels. */
static void let_go_of_channels(struct kvmas_region *region)
{
	if (!region->channels)
		return;
	region->object.kvmas->nchannelled--;
	kas_object_unref(&region->channels->object);
	kas_object_unref(&region->channels->object); /* as published */
}

/* Under the transaction lock. Dead regions have no parent: a parent holds its children. */
static void region_end(struct object *object)
{
	struct kvmas_region *region = kas_container_of(object, struct kvmas_region, object);
	struct kvmas *kvmas = object->kvmas;
	struct region_state alone = {0};
	struct kvmas_region *target = region->state.target;
	struct kvmas_region *child;

	while ((child = region->children)) {
		struct region_state orphan = child->state;

		orphan.parent = NULL;
		kas_region_put(child, &orphan);
		kas_object_unref(&child->object);
	}
	kas_region_put(region, &alone);
	pthread_mutex_lock(&kvmas->lists_lock);
	TAILQ_REMOVE(&kvmas->regions, region, all);
	kvmas->nregions--;
	pthread_mutex_unlock(&kvmas->lists_lock);
	if (region->destroy)
		region->destroy(region->opaque);
	if (target)
		kas_object_unref(&target->object);
	let_go_of_channels(region);
	if (region->ram)
		kas_ram_leave(region->ram, &region->ram_user);
	kvmas_ram_unref(region->ram);
	kas_free(kvmas, region->name);
	kas_free(kvmas, region);
}

/* Make the region known, also to its block, and see that each client has a bitmap for that. */
static int enlist(struct kvmas *kvmas, struct kvmas_region *region)
{
	int err = region->ram ? kas_ram_join(region->ram, &region->ram_user) : 0;

	if (err)
		return err;
	pthread_mutex_lock(&kvmas->lists_lock);
	if (kvmas->nregions >= kvmas->config.max_regions)
		err = -E2BIG;
	if (!err && region->ram)
		err = kas_dirty_add_bitmaps(region->ram->dirty, kvmas);
	if (!err && region->ram)
		err = kas_sources_clear_all(&region->ram->sources);
	if (!err) {
		TAILQ_INSERT_TAIL(&kvmas->regions, region, all);
		kvmas->nregions++;
	}
	pthread_mutex_unlock(&kvmas->lists_lock);
	if (err && region->ram)
		kas_ram_leave(region->ram, &region->ram_user);
	return err;
}

static void init_members(struct kvmas_region *region, const struct kvmas_region_config *config)
{
	region->kind = config->kind;
	region->ram = config->ram;
	region->ram_offset = config->ram_offset;
	region->ram_user = (struct ram_user){
		.object = &region->object,
		.offset = config->ram_offset,
		.last = &region->state.last,
	};
	region->opaque = config->opaque;
	region->guard = config->guard;
	region->destroy = config->destroy;
	region->state.last = kas_size_to_last(config->size);
	atomic_init(&region->last, region->state.last);
	region->state.enabled = true;
	region->state.attrs = initial_attrs[config->kind];
	region->state.target_offset = config->target_offset;
	LIST_INIT(&region->aliases);
}

/* The target's list of aliases is the tree's. A thread that has the lock already may be in a
 * listener's callback: a region that nothing shows yet is no change of topology. */
static void set_first_target(struct kvmas_region *alias, struct kvmas_region *target)
{
	struct kvmas *kvmas = alias->object.kvmas;
	struct region_state state = alias->state;
	bool locks = !kas_lock_is_mine(kvmas);

	if (locks && kas_lock(kvmas))
		return; /* in a forked child, where nothing is ever shown */
	state.target = kvmas_region_ref(target);
	kas_region_put(alias, &state);
	if (locks)
		kas_unlock(kvmas);
}

int kvmas_region_new(struct kvmas *kvmas, const struct kvmas_region_config *config,
		     struct kvmas_region **ret)
{
	struct kvmas_region_config ours;
	struct kvmas_region *region;
	int err;

	if (!kas_alive(kvmas))
		return -EIO;
	err = kas_config_copy(&ours, sizeof(ours), config);
	if (!err)
		err = check_config(kvmas, &ours);
	if (err)
		return err;

	region = kas_alloc(kvmas, sizeof(*region));
	if (!region)
		return -ENOMEM;
	init_members(region, &ours);
	if (ours.ops)
		err = kas_config_copy(&region->ops, sizeof(region->ops), ours.ops);
	if (!err)
		err = kas_ops_settle(&region->ops);
	if (err)
		goto free_region;
	err = -ENOMEM;
	region->name = kas_strdup(kvmas, ours.name);
	if (!region->name)
		goto free_region;
	kas_object_init(&region->object, kvmas, region_end);
	err = enlist(kvmas, region);
	if (err)
		goto let_go;
	if (region->ram)
		kvmas_ram_ref(region->ram);
	if (ours.target)
		set_first_target(region, ours.target);
	*ret = region;
	return 0;

let_go:
	kas_let_go(kvmas);
	kas_free(kvmas, region->name);
free_region:
	kas_free(kvmas, region);
	return err;
}

struct kvmas_region *kvmas_region_ref(struct kvmas_region *region)
{
	kas_object_ref(&region->object);
	return region;
}

void kvmas_region_unref(struct kvmas_region *region)
{
	if (region)
		kas_object_drop(&region->object);
}

const char *kvmas_region_get_name(const struct kvmas_region *region)
{
	return region->name;
}

enum kvmas_region_kind kvmas_region_get_kind(const struct kvmas_region *region)
{
	return region->kind;
}

void *kvmas_region_get_opaque(const struct kvmas_region *region)
{
	return region->opaque;
}

/* Put a region on the list of those to look at, unless this walk has seen it. */
static void visit(struct kvmas_region *region, uint64_t walk, struct kvmas_region **list)
{
	if (region->visited == walk)
		return;
	region->visited = walk;
	region->next_visit = *list;
	*list = region;
}

void kas_region_visit_above(struct kvmas_region *region, uint64_t walk, struct kvmas_region **list)
{
	struct kvmas_region *alias;

	if (region->state.parent)
		visit(region->state.parent, walk, list);
	LIST_FOREACH(alias, &region->aliases, alias)
		visit(alias, walk, list);
}

/* Whether links lead up from one region to another, in one step or more. What lies above a region
 * is mostly little; what lies below may be all there is. */
static bool leads_up(struct kvmas_region *bottom, const struct kvmas_region *top)
{
	uint64_t walk = ++bottom->object.kvmas->txn.walks;
	struct kvmas_region *list = NULL;

	if (!top->children && !top->state.target)
		return false;
	kas_region_visit_above(bottom, walk, &list);
	while (list) {
		struct kvmas_region *region = list;

		if (region == top)
			return true;
		list = region->next_visit;
		kas_region_visit_above(region, walk, &list);
	}
	return false;
}

bool kas_region_reaches(const struct kvmas_region *from, struct kvmas_region *to)
{
	return from == to || leads_up(to, from);
}

bool kas_region_is_in_circle(struct kvmas_region *region)
{
	return leads_up(region, region);
}

void kas_region_put(struct kvmas_region *region, const struct region_state *state)
{
	struct region_state old = region->state;
	bool moves = old.parent != state->parent || old.offset != state->offset ||
		     old.place != state->place;

	if (old.parent && moves)
		kas_children_remove(region);
	if (old.target && old.target != state->target)
		LIST_REMOVE(region, alias);
	region->state = *state;
	atomic_store_explicit(&region->last, state->last, memory_order_relaxed);
	if (state->parent && moves)
		kas_children_insert(region);
	else if (state->parent && old.last != state->last)
		kas_children_resized(region);
	if (state->target && old.target != state->target)
		LIST_INSERT_HEAD(&state->target->aliases, region, alias);
}

bool kas_region_fits(const struct kvmas_region *region, uint64_t last)
{
	return !region->ram || kas_ram_fits(region->ram, &region->ram_user, last);
}

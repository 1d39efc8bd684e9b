/* SPDX-License-Identifier: MIT */
/*
 * Regions: what they are, and the lists that make them a tree. No transaction, no view: edit.c
 * changes the tree, render.c reads it.
 *
 *     container "system"
 *       children (topmost first): [vga-hole, prio 1] -> [ram-low, prio 0] -> [pci-hole, prio -1]
 *                                      |                    |
 *                                      target               target
 *                                      v                    v
 *                                 container "pci"          RAM "ram"
 *
 * A container holds its children, an alias its target. Loops are refused, so that references form
 * no cycle and a walk ends.
 *
 * Invariants, under the transaction lock:
 *   I1  children are sorted by descending priority; among equals, the one linked last comes first.
 *   I2  a region is in its parent's list if and only if state.parent is set.
 *   I3  no region reaches itself through children and targets.
 *   I4  target is set for aliases only; ram for RAM, ROM and ROMD only, and the window lies in its block.
 */
#include "region.h"

#include <errno.h>

#include "ram.h"

/* Which members a kind must have (ram, target) or may have (ops); it must not have the others. */
static const struct needs {
	bool ram;
	bool target;
	bool ops; /* may have */
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
	    (config->ops && !kind->ops))
		return -EINVAL;
	if (config->target && config->target->object.kvmas != kvmas)
		return -EXDEV;
	return config->ram ? check_ram(config) : 0;
}

/* Under the transaction lock. Dead regions have no parent: a parent holds its children. */
static void region_end(struct object *object)
{
	struct kvmas_region *region = kas_container_of(object, struct kvmas_region, object);
	struct kvmas *kvmas = object->kvmas;
	struct kvmas_region *child;

	while ((child = TAILQ_FIRST(&region->children))) {
		kas_region_unlink(child);
		kvmas_region_unref(child);
	}
	pthread_mutex_lock(&kvmas->lists_lock);
	TAILQ_REMOVE(&kvmas->regions, region, all);
	pthread_mutex_unlock(&kvmas->lists_lock);
	if (region->destroy)
		region->destroy(region->opaque);
	kvmas_region_unref(region->state.target);
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
	if (region->ram)
		err = kas_dirty_add_bitmaps(region->ram->dirty, kvmas);
	if (!err)
		TAILQ_INSERT_TAIL(&kvmas->regions, region, all);
	pthread_mutex_unlock(&kvmas->lists_lock);
	if (err)
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
	region->destroy = config->destroy;
	region->state.last = kas_size_to_last(config->size);
	region->state.enabled = true;
	region->state.attrs = initial_attrs[config->kind];
	region->state.target = config->target;
	region->state.target_offset = config->target_offset;
	TAILQ_INIT(&region->children);
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
	if (region->state.target)
		kvmas_region_ref(region->state.target);
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

bool kas_region_reaches(struct kvmas_region *from, const struct kvmas_region *to)
{
	uint64_t walk = ++from->object.kvmas->txn.walks;
	struct kvmas_region *list = NULL;

	visit(from, walk, &list);
	while (list) {
		struct kvmas_region *region = list;
		struct kvmas_region *child;

		if (region == to)
			return true;
		list = region->next_visit;
		if (region->state.target)
			visit(region->state.target, walk, &list);
		TAILQ_FOREACH(child, &region->children, sibling)
			visit(child, walk, &list);
	}
	return false;
}

void kas_region_link_above(struct kvmas_region *region, struct kvmas_region *parent,
			   struct kvmas_region *below)
{
	region->state.parent = parent;
	if (below)
		TAILQ_INSERT_BEFORE(below, region, sibling);
	else
		TAILQ_INSERT_TAIL(&parent->children, region, sibling);
}

void kas_region_link(struct kvmas_region *region, struct kvmas_region *parent)
{
	struct kvmas_region *below;

	TAILQ_FOREACH(below, &parent->children, sibling) {
		if (below->state.priority <= region->state.priority)
			break;
	}
	kas_region_link_above(region, parent, below);
}

void kas_region_unlink(struct kvmas_region *region)
{
	TAILQ_REMOVE(&region->state.parent->children, region, sibling);
	region->state.parent = NULL;
}

bool kas_region_fits(const struct kvmas_region *region, uint64_t last)
{
	return !region->ram || kas_ram_fits(region->ram, &region->ram_user, last);
}

/* SPDX-License-Identifier: MIT */
/*
 * The content of a .topo file. Its memory is proportional to the file's size: ids are sparse
 * numbers of 32 bits, and are looked up in a balanced tree, tsearch(3), which no choice of ids
 * makes slow.
 *
 * Invariants:
 *   I1  a region's target and parent, and a space's root, belong to the same topo.
 *   I2  ids are unique among regions, and among spaces.
 */
#include "topo.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {
	[KVMAS_REGION_CONTAINER] = "container",
	[KVMAS_REGION_RAM] = "ram",
	[KVMAS_REGION_ROM] = "rom",
	[KVMAS_REGION_ROMD] = "romd",
	[KVMAS_REGION_MMIO] = "mmio",
	[KVMAS_REGION_ALIAS] = "alias",
};

const char *topo_kind_name(enum kvmas_region_kind kind)
{
	return kind_names[kind];
}

int topo_kind_find(const char *word)
{
	for (int i = 0; i < (int)(sizeof(kind_names) / sizeof(kind_names[0])); i++)
		if (!strcmp(word, kind_names[i]))
			return i;
	return -EINVAL;
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* tsearch's trees hold pointers to what they find. */
static void *find(void *const *tree, uint32_t id)
{
	void *found = tfind(&id, tree, compare_ids);

	return found ? *(void **)found : NULL;
}

struct topo_region *topo_find_region(const struct topo *topo, uint32_t id)
{
	return find(&topo->regions_by_id, id);
}

struct topo_space *topo_find_space(const struct topo *topo, uint32_t id)
{
	return find(&topo->spaces_by_id, id);
}

static void keep(void *entry)
{
	(void)entry;
}

struct topo *topo_new(void)
{
	struct topo *topo = calloc(1, sizeof(*topo));

	if (!topo)
		return NULL;
	TAILQ_INIT(&topo->regions);
	TAILQ_INIT(&topo->placed);
	TAILQ_INIT(&topo->spaces);
	return topo;
}

void topo_free(struct topo *topo)
{
	struct topo_region *region;
	struct topo_space *space;

	if (!topo)
		return;
	tdestroy(topo->regions_by_id, keep);
	tdestroy(topo->spaces_by_id, keep);
	while ((region = TAILQ_FIRST(&topo->regions))) {
		TAILQ_REMOVE(&topo->regions, region, all);
		free(region);
	}
	while ((space = TAILQ_FIRST(&topo->spaces))) {
		TAILQ_REMOVE(&topo->spaces, space, all);
		free(space);
	}
	free(topo);
}

/* Make a struct that is zero but for the id at its head, with a name behind it; known to a tree. */
static void *make(void **tree, uint32_t id, const char *name, size_t struct_size)
{
	size_t size = strlen(name) + 1;
	char *entry = calloc(1, struct_size + size);

	if (!entry)
		return NULL;
	memcpy(entry, &id, sizeof(id));
	memcpy(entry + struct_size, name, size);
	if (tsearch(entry, tree, compare_ids))
		return entry;
	free(entry);
	return NULL;
}

struct topo_region *topo_add_region(struct topo *topo, uint32_t id, const char *name)
{
	struct topo_region *region =
		make(&topo->regions_by_id, id, name, sizeof(struct topo_region));

	if (!region)
		return NULL;
	region->name = (const char *)(region + 1);
	TAILQ_INIT(&region->children);
	TAILQ_INSERT_TAIL(&topo->regions, region, all);
	topo->nregions++;
	return region;
}

struct topo_space *topo_add_space(struct topo *topo, uint32_t id, const char *name)
{
	struct topo_space *space = make(&topo->spaces_by_id, id, name, sizeof(struct topo_space));

	if (!space)
		return NULL;
	space->name = (const char *)(space + 1);
	TAILQ_INSERT_TAIL(&topo->spaces, space, all);
	topo->nspaces++;
	return space;
}

void topo_place(struct topo *topo, struct topo_region *parent, struct topo_region *child)
{
	child->parent = parent;
	TAILQ_INSERT_TAIL(&topo->placed, child, place);
	TAILQ_INSERT_TAIL(&parent->children, child, sibling);
	parent->nchildren++;
}

/* One link from above less: without any, nothing leads back to a region. */
static void take_link(struct topo_region *region, struct topo_region **no_link)
{
	if (--region->nlinks)
		return;
	region->no_link = *no_link;
	*no_link = region;
}

/* Take away from the top what has nothing above it, until that is nothing. */
void topo_find_circles(struct topo *topo)
{
	struct topo_region *region, *child;
	struct topo_region *no_link = NULL;

	/* One link each is that of the walk itself, which takes it at once. */
	TAILQ_FOREACH(region, &topo->regions, all) {
		region->in_circle = region->target || region->nchildren;
		region->nlinks += region->parent ? 2 : 1;
		if (region->target)
			region->target->nlinks++;
	}
	TAILQ_FOREACH(region, &topo->regions, all)
		take_link(region, &no_link);
	while ((region = no_link)) {
		no_link = region->no_link;
		region->in_circle = false;
		if (region->target)
			take_link(region->target, &no_link);
		TAILQ_FOREACH(child, &region->children, sibling)
			take_link(child, &no_link);
	}
}

int topo_find_switching(struct topo *const *series, size_t n)
{
	struct topo_region *region;
	void *romds = NULL;
	int err = 0;

	for (size_t i = 0; i < n; i++)
		TAILQ_FOREACH(region, &series[i]->regions, all)
			if (region->kind == KVMAS_REGION_ROMD &&
			    !tsearch(region, &romds, compare_ids))
				err = -ENOMEM;
	for (size_t i = 0; i < n; i++)
		TAILQ_FOREACH(region, &series[i]->regions, all)
			region->switches =
				region->kind == KVMAS_REGION_MMIO && find(&romds, region->id);
	tdestroy(romds, keep);
	return err;
}

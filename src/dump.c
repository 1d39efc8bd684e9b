/* SPDX-License-Identifier: MIT */
/*
 * The dump: for each space its tree, as it hangs together, and its view, as it is flat; then what
 * each tie has. For people; no program should parse it.
 */
#include <errno.h>
#include <inttypes.h>

#include "children.h"
#include "ram.h"
#include "space.h"
#include "txn.h"

static const char *const kind_names[] = {
	[KVMAS_REGION_CONTAINER] = "container",
	[KVMAS_REGION_RAM] = "ram",
	[KVMAS_REGION_ROM] = "rom",
	[KVMAS_REGION_ROMD] = "romd",
	[KVMAS_REGION_MMIO] = "mmio",
	[KVMAS_REGION_ALIAS] = "alias",
	[KVMAS_REGION_RESERVED] = "reserved",
};

static const struct {
	unsigned attr;
	const char *name;
} attr_names[] = {
	{ATTR_READONLY, "readonly"},
	{ATTR_NONVOLATILE, "nonvolatile"},
	{ATTR_UNMERGEABLE, "unmergeable"},
};

static int dump_region(FILE *stream, const struct kvmas_region *region, uint64_t base, int indent)
{
	const struct region_state *state = &region->state;

	if (fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " %*s%s: %s, priority %d", base,
		    base + state->last, indent, "", region->name, kind_names[region->kind],
		    state->priority) < 0)
		return -EIO;
	if (state->target)
		fprintf(stream, ", shows %s+0x%" PRIx64, state->target->name, state->target_offset);
	if (region->kind == KVMAS_REGION_ROMD)
		fprintf(stream, ", %s", state->attrs & ATTR_ROMD ? "readable" : "device");
	for (size_t i = 0; i < sizeof(attr_names) / sizeof(attr_names[0]); i++) {
		if (state->attrs & attr_names[i].attr)
			fprintf(stream, ", %s", attr_names[i].name);
	}
	return fprintf(stream, "%s\n", state->enabled ? "" : ", disabled") < 0 ? -EIO : 0;
}

/* The region after this one, top down, siblings by address; NULL behind the last. Walked by links,
 * since a tree may be deeper than a stack. */
static const struct kvmas_region *next_region(const struct kvmas_region *region,
					      const struct kvmas_region *top, uint64_t *base,
					      int *indent)
{
	const struct range all = {0, UINT64_MAX};
	const struct kvmas_region *next = kas_children_first(region, all);

	if (next) {
		*indent += 2;
		*base += next->state.offset;
		return next;
	}
	for (; region != top; region = region->state.parent) {
		*base -= region->state.offset;
		next = kas_children_next(region, all);
		if (next) {
			*base += next->state.offset;
			return next;
		}
		*indent -= 2;
	}
	return NULL;
}

static int dump_tree(FILE *stream, const struct kvmas_region *top)
{
	const struct kvmas_region *region = top;
	uint64_t base = 0;
	int indent = 0;
	int err = 0;

	for (; region && !err; region = next_region(region, top, &base, &indent))
		err = dump_region(stream, region, base, indent);
	return err;
}

static int dump_view(FILE *stream, const struct kvmas_view *view)
{
	const struct flat_range *range;
	struct view_at at;

	kas_view_for_each(view, at, range) {
		const struct kvmas_region *region = range->region;
		bool readonly = range->attrs & ATTR_READONLY && region->kind != KVMAS_REGION_ROM;

		if (fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " %s%s%s %s+0x%" PRIx64 "\n",
			    range->range.first, range->range.last, kind_names[region->kind],
			    readonly ? " readonly" : "",
			    range->attrs & ATTR_NONVOLATILE ? " nonvolatile" : "", region->name,
			    range->offset) < 0)
			return -EIO;
	}
	return 0;
}

static int dump_space(FILE *stream, const struct kvmas_space *space)
{
	int err;

	if (fprintf(stream, "space %s, tree:\n", space->name) < 0)
		return -EIO;
	err = dump_tree(stream, space->root->region);
	if (err)
		return err;
	if (fprintf(stream, "space %s, view:\n", space->name) < 0)
		return -EIO;
	return dump_view(stream, space->root->view);
}

int kvmas_dump(struct kvmas *kvmas, FILE *stream)
{
	const struct kvmas_space *space;
	struct tie *tie;
	int err = kas_lock(kvmas);

	if (err)
		return err;
	TAILQ_FOREACH(space, &kvmas->spaces, all) {
		if (!err && !kas_object_is_dead(&space->object))
			err = dump_space(stream, space);
	}
	TAILQ_FOREACH(tie, &kvmas->ties, all) {
		if (!err)
			err = tie->dump(tie, stream);
	}
	/* What the stream still holds back is part of the dump. */
	if (!err && fflush(stream))
		err = -EIO;
	kas_unlock(kvmas);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * The dump: for each space its tree, as it hangs together, and its view, as it is flat; then what
 * each tie has. For people; no program should parse it.
 */
#include <errno.h>
#include <inttypes.h>

#include "ram.h"
#include "space.h"
#include "txn.h"

/* A tree that has rendered is not deeper; what is disabled may be, and is cut. */
#define MAX_DEPTH 512

static const char *const kind_names[] = {
	[KVMAS_REGION_CONTAINER] = "container",
	[KVMAS_REGION_RAM] = "ram",
	[KVMAS_REGION_ROM] = "rom",
	[KVMAS_REGION_ROMD] = "romd",
	[KVMAS_REGION_MMIO] = "mmio",
	[KVMAS_REGION_ALIAS] = "alias",
	[KVMAS_REGION_RESERVED] = "reserved",
};

static int dump_region(FILE *stream, const struct kvmas_region *region, uint64_t base,
		       unsigned depth)
{
	const struct region_state *state = &region->state;
	const struct kvmas_region *child;
	int indent = (int)depth * 2;
	int err = 0;

	if (fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " %*s%s: %s, priority %d", base,
		    base + state->last, indent, "", region->name, kind_names[region->kind],
		    state->priority) < 0)
		return -EIO;
	if (state->target)
		fprintf(stream, ", shows %s+0x%" PRIx64, state->target->name, state->target_offset);
	if (fprintf(stream, "%s%s\n", state->attrs & ATTR_READONLY ? ", readonly" : "",
		    state->enabled ? "" : ", disabled") < 0)
		return -EIO;
	TAILQ_FOREACH(child, &region->children, sibling) {
		if (!err && depth < MAX_DEPTH)
			err = dump_region(stream, child, base + child->state.offset, depth + 1);
	}
	return err;
}

static int dump_view(FILE *stream, const struct kvmas_view *view)
{
	for (size_t i = 0; i < view->count; i++) {
		const struct flat_range *range = &view->ranges[i];

		if (fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " %s%s %s+0x%" PRIx64 "\n",
			    range->range.first, range->range.last, kind_names[range->region->kind],
			    range->attrs & ATTR_READONLY && range->region->kind != KVMAS_REGION_ROM
				    ? " readonly"
				    : "",
			    range->region->name, range->offset) < 0)
			return -EIO;
	}
	return 0;
}

static int dump_space(FILE *stream, const struct kvmas_space *space)
{
	int err;

	if (fprintf(stream, "space %s, tree:\n", space->name) < 0)
		return -EIO;
	err = dump_region(stream, space->root, 0, 0);
	if (err)
		return err;
	if (fprintf(stream, "space %s, view:\n", space->name) < 0)
		return -EIO;
	return dump_view(stream, space->view);
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

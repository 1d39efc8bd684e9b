/* SPDX-License-Identifier: MIT */
/*
 * The output for people and for tests. Errors of the stream are noticed by the caller, at its end.
 * The tree is walked along its links and not by recursion: a file may nest as deep as it likes.
 */
#include "print.h"

#include <inttypes.h>

/* Deeper regions are indented no further, else a deep file would print blanks without end. */
#define MAX_INDENT 32

void print_flat(FILE *stream, const struct topo *topo, const struct flat *flat)
{
	const struct topo_space *space;
	size_t i = 0;

	fputs("flat 1\n", stream);
	TAILQ_FOREACH(space, &topo->spaces, all)
		fprintf(stream, "as %" PRIu32 " %zu\n", space->id, flat->view_of[i++]);
	for (i = 0; i < flat->nviews; i++) {
		const struct flat_view *view = &flat->views[i];

		fprintf(stream, "view %zu %zu\n", i, view->count);
		for (size_t j = 0; j < view->count; j++) {
			const struct flat_range *range = &view->ranges[j];

			fprintf(stream,
				"range %" PRIx64 " %" PRIx64 " %s %d %" PRIu32 " %" PRIx64 " %s\n",
				range->first, range->last, range->kind, range->nonvolatile,
				range->region->id, range->offset, range->region->name);
		}
	}
	fputs("end\n", stream);
}

static void print_region(FILE *stream, const struct topo_region *region, unsigned long depth)
{
	uint64_t last = region->offset + topo_region_last(region);

	fprintf(stream, "%*s", (int)(2 * (depth < MAX_INDENT ? depth : MAX_INDENT)), "");
	if (depth > MAX_INDENT)
		fprintf(stream, "[depth %lu] ", depth);
	/* A place may reach past 2^64: the digit that is too many is shown. */
	fprintf(stream, "%016" PRIx64 "-%s%016" PRIx64 " %s %" PRIu32 " %s", region->offset,
		last < region->offset ? "1" : "", last, topo_kind_name(region->kind), region->id,
		region->name);
	if (region->target)
		fprintf(stream, " -> %" PRIu32 " %s @%" PRIx64, region->target->id,
			region->target->name, region->target_offset);
	if (region->parent)
		fprintf(stream, " (prio %d)", region->priority);
	fprintf(stream, "%s%s%s\n", region->enabled ? "" : " [disabled]",
		region->readonly ? " [readonly]" : "", region->nonvolatile ? " [nonvolatile]" : "");
}

/* The region that comes after this one in its tree, children before siblings; NULL at the end. */
static const struct topo_region *step(const struct topo_region *region, unsigned long *depth)
{
	if (!TAILQ_EMPTY(&region->children)) {
		++*depth;
		return TAILQ_FIRST(&region->children);
	}
	while (region->parent && !TAILQ_NEXT(region, sibling)) {
		--*depth;
		region = region->parent;
	}
	return region->parent ? TAILQ_NEXT(region, sibling) : NULL;
}

void print_tree(FILE *stream, const struct topo *topo, const struct flat *flat)
{
	const struct topo_region *root, *region;
	const struct topo_space *space;
	size_t i = 0;

	TAILQ_FOREACH(space, &topo->spaces, all)
		fprintf(stream, "space %" PRIu32 " %s: region %" PRIu32 " %s, view %zu\n",
			space->id, space->name, space->root->id, space->root->name,
			flat->view_of[i++]);
	TAILQ_FOREACH(root, &topo->regions, all) {
		unsigned long depth = 1;

		if (root->parent)
			continue;
		fprintf(stream, "\ntree %" PRIu32 " %s\n", root->id, root->name);
		for (region = root; region; region = step(region, &depth))
			print_region(stream, region, depth);
	}
	for (i = 0; i < flat->nviews; i++) {
		const struct flat_view *view = &flat->views[i];

		fprintf(stream, "\nview %zu\n", i);
		for (size_t j = 0; j < view->count; j++) {
			const struct flat_range *range = &view->ranges[j];

			fprintf(stream,
				"  %016" PRIx64 "-%016" PRIx64 " %s %" PRIu32 " %s @%" PRIx64
				"%s\n",
				range->first, range->last, range->kind, range->region->id,
				range->region->name, range->offset,
				range->nonvolatile ? " [nonvolatile]" : "");
		}
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The output for programs:
 *
 *     {"spaces": [{"id", "name", "root", "view"}],
 *      "regions": [{"id", "name", "kind", "size", "enabled", "readonly", "nonvolatile",
 *                   "target", "target_offset", "parent", "offset", "priority", "children"}],
 *      "views": [[{"first", "last", "kind", "nonvolatile", "region", "offset", "name"}]]}
 *
 * Regions stand in a list, and name each other by id: nested objects would exceed what readers of
 * JSON take. Numbers of 64 bits are strings, "0x" and hex digits, since many readers round them; a
 * size of 2^64 is "0x10000000000000000". A space's view is an index. target, target_offset, parent,
 * offset and priority are null where they do not apply; children are in the order of adding.
 */
#include <inttypes.h>

#include "print.h"

/* Files hold printable ASCII only: nothing else needs escaping. */
static void print_string(FILE *stream, const char *string)
{
	putc('"', stream);
	for (; *string; string++) {
		if (*string == '"' || *string == '\\')
			putc('\\', stream);
		putc(*string, stream);
	}
	putc('"', stream);
}

static const char *bool_word(bool value)
{
	return value ? "true" : "false";
}

static void print_space(FILE *stream, const struct topo_space *space, size_t view)
{
	fprintf(stream, "{\"id\": %" PRIu32 ", \"name\": ", space->id);
	print_string(stream, space->name);
	fprintf(stream, ", \"root\": %" PRIu32 ", \"view\": %zu}", space->root->id, view);
}

static void print_links(FILE *stream, const struct topo_region *region)
{
	const struct topo_region *child;

	if (region->target)
		fprintf(stream, ", \"target\": %" PRIu32 ", \"target_offset\": \"0x%" PRIx64 "\"",
			region->target->id, region->target_offset);
	else
		fputs(", \"target\": null, \"target_offset\": null", stream);
	if (region->parent)
		fprintf(stream,
			", \"parent\": %" PRIu32 ", \"offset\": \"0x%" PRIx64
			"\", \"priority\": %d",
			region->parent->id, region->offset, region->priority);
	else
		fputs(", \"parent\": null, \"offset\": null, \"priority\": null", stream);
	fputs(", \"children\": [", stream);
	TAILQ_FOREACH(child, &region->children, sibling)
		fprintf(stream, "%s%" PRIu32, child == TAILQ_FIRST(&region->children) ? "" : ", ",
			child->id);
	putc(']', stream);
}

static void print_region(FILE *stream, const struct topo_region *region)
{
	fprintf(stream, "{\"id\": %" PRIu32 ", \"name\": ", region->id);
	print_string(stream, region->name);
	fprintf(stream, ", \"kind\": \"%s\", \"size\": ", topo_kind_name(region->kind));
	if (region->size == KVMAS_SIZE_MAX)
		fputs("\"0x10000000000000000\"", stream);
	else
		fprintf(stream, "\"0x%" PRIx64 "\"", region->size);
	fprintf(stream, ", \"enabled\": %s, \"readonly\": %s, \"nonvolatile\": %s",
		bool_word(region->enabled), bool_word(region->readonly),
		bool_word(region->nonvolatile));
	print_links(stream, region);
	putc('}', stream);
}

static void print_view(FILE *stream, const struct flat_view *view)
{
	putc('[', stream);
	for (size_t i = 0; i < view->count; i++) {
		const struct flat_range *range = &view->ranges[i];

		fprintf(stream,
			"%s\n{\"first\": \"0x%" PRIx64 "\", \"last\": \"0x%" PRIx64
			"\", \"kind\": \"%s\", \"nonvolatile\": %s, \"region\": %" PRIu32
			", \"offset\": \"0x%" PRIx64 "\", \"name\": ",
			i ? "," : "", range->first, range->last, range->kind,
			bool_word(range->nonvolatile), range->region->id, range->offset);
		print_string(stream, range->region->name);
		putc('}', stream);
	}
	putc(']', stream);
}

void print_json(FILE *stream, const struct topo *topo, const struct flat *flat)
{
	const struct topo_region *region;
	const struct topo_space *space;
	size_t i = 0;

	fputs("{\"spaces\": [", stream);
	TAILQ_FOREACH(space, &topo->spaces, all) {
		fputs(i ? ",\n" : "\n", stream);
		print_space(stream, space, flat->view_of[i++]);
	}
	fputs("],\n\"regions\": [", stream);
	TAILQ_FOREACH(region, &topo->regions, all) {
		fputs(region == TAILQ_FIRST(&topo->regions) ? "\n" : ",\n", stream);
		print_region(stream, region);
	}
	fputs("],\n\"views\": [", stream);
	for (i = 0; i < flat->nviews; i++) {
		fputs(i ? ",\n" : "\n", stream);
		print_view(stream, &flat->views[i]);
	}
	fputs("]}\n", stream);
}

/* SPDX-License-Identifier: MIT */
/*
 * Reading a .topo file. Strict: what the format does not allow is a fault of its line, so that a
 * file that was cut, edited or damaged does not pass for another machine. What only the library can
 * know is left to it: loops, blocks too large, renderings past the caps.
 *
 * Read topo_read first.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "line.h"
#include "topo.h"

#define MAX_NAME 255
#define WHOLE "10000000000000000" /* 2^64, the one size that 64 bits do not hold */

struct parser {
	struct line line;
	struct topo *topo;
	const struct topo_limits *limits;
	struct fault *fault;
};

#define wrong(parser, ...) fault_set((parser)->fault, (parser)->line.number, -EINVAL, __VA_ARGS__)

static int no_memory(struct parser *parser)
{
	return fault_set(parser->fault, parser->line.number, -ENOMEM, "no memory");
}

static int parse_id(struct parser *parser, const char *text, uint32_t *ret)
{
	return line_dec(text, ret) ? wrong(parser, "%.40s is no id", text) : 0;
}

static int parse_hex(struct parser *parser, const char *text, uint64_t *ret)
{
	return line_hex(text, ret)
		       ? wrong(parser, "%.40s is no hexadecimal number of 64 bits", text)
		       : 0;
}

static int parse_flag(struct parser *parser, const char *text, bool *ret)
{
	*ret = *text == '1';
	return (*text == '0' || *ret) && !text[1] ? 0 : wrong(parser, "%.40s is not 0 or 1", text);
}

static int parse_name(struct parser *parser, const char *text)
{
	return strlen(text) > MAX_NAME ? wrong(parser, "a name of more than %d bytes", MAX_NAME)
				       : 0;
}

static int parse_size(struct parser *parser, const char *text, uint64_t *ret)
{
	if (!strcmp(text, WHOLE)) {
		*ret = KVMAS_SIZE_MAX;
		return 0;
	}
	if (line_hex(text, ret) || !*ret)
		return wrong(parser, "%.40s is no size from 1 to 2^64", text);
	if (*ret == KVMAS_SIZE_MAX)
		return wrong(parser, "the library cannot make a region of 2^64 - 1 bytes");
	return 0;
}

static int find_region(struct parser *parser, const char *text, struct topo_region **ret)
{
	uint32_t id;
	int err = parse_id(parser, text, &id);

	if (err)
		return err;
	*ret = topo_find_region(parser->topo, id);
	return *ret ? 0 : wrong(parser, "no region %" PRIu32 " above", id);
}

static int parse_target(struct parser *parser, char **fields, struct topo_region **ret)
{
	bool alias = !strcmp(fields[1], "alias");

	*ret = NULL;
	if (alias != (strcmp(fields[6], "-") != 0))
		return wrong(parser,
			     alias ? "an alias without a target" : "a target, but no alias");
	if (!alias && strcmp(fields[7], "0") != 0)
		return wrong(parser, "a target offset, but no alias");
	return alias ? find_region(parser, fields[6], ret) : 0;
}

/* ID KIND SIZE ENABLED READONLY NONVOLATILE TARGET TARGETOFF NAME */
static int parse_region(struct parser *parser, char **fields)
{
	struct topo_region values = {0};
	struct topo_region *region;
	int kind = topo_kind_find(fields[1]);
	int err = parse_id(parser, fields[0], &values.id);

	if (!err && topo_find_region(parser->topo, values.id))
		return wrong(parser, "a second region %" PRIu32, values.id);
	if (!err && kind < 0)
		return wrong(parser, "%.40s is no kind", fields[1]);
	if (err || (err = parse_size(parser, fields[2], &values.size)) ||
	    (err = parse_flag(parser, fields[3], &values.enabled)) ||
	    (err = parse_flag(parser, fields[4], &values.readonly)) ||
	    (err = parse_flag(parser, fields[5], &values.nonvolatile)) ||
	    (err = parse_target(parser, fields, &values.target)) ||
	    (err = parse_hex(parser, fields[7], &values.target_offset)) ||
	    (err = parse_name(parser, fields[8])))
		return err;
	if (kind == KVMAS_REGION_ROM && !values.readonly)
		return wrong(parser, "a rom that is not read-only");
	if (parser->topo->nregions >= parser->limits->max_regions)
		return wrong(parser, "more than %" PRIu64 " regions; see --max-regions",
			     parser->limits->max_regions);
	region = topo_add_region(parser->topo, values.id, fields[8]);
	if (!region)
		return no_memory(parser);
	region->kind = (enum kvmas_region_kind)kind;
	region->size = values.size;
	region->enabled = values.enabled;
	region->readonly = values.readonly;
	region->nonvolatile = values.nonvolatile;
	region->target = values.target;
	region->target_offset = values.target_offset;
	region->line = parser->line.number;
	return 0;
}

/* PARENT CHILD OFFSET PRIORITY */
static int parse_sub(struct parser *parser, char **fields)
{
	struct topo_region *parent, *child;
	uint64_t offset;
	int priority;
	int err;

	if ((err = find_region(parser, fields[0], &parent)) ||
	    (err = find_region(parser, fields[1], &child)) ||
	    (err = parse_hex(parser, fields[2], &offset)))
		return err;
	if (line_int(fields[3], &priority))
		return wrong(parser, "%.40s is no priority", fields[3]);
	if (parent->kind == KVMAS_REGION_ALIAS)
		return wrong(parser, "region %" PRIu32 " is an alias, which has no children",
			     parent->id);
	if (child->parent)
		return wrong(parser, "region %" PRIu32 " is in region %" PRIu32 " already",
			     child->id, child->parent->id);
	topo_place(parser->topo, parent, child);
	child->offset = offset;
	child->priority = priority;
	child->place_line = parser->line.number;
	return 0;
}

/* ASID ROOT NAME */
static int parse_as(struct parser *parser, char **fields)
{
	struct topo_region *root;
	struct topo_space *space;
	uint32_t id;
	int err;

	if ((err = parse_id(parser, fields[0], &id)) ||
	    (err = find_region(parser, fields[1], &root)) || (err = parse_name(parser, fields[2])))
		return err;
	if (topo_find_space(parser->topo, id))
		return wrong(parser, "a second address space %" PRIu32, id);
	if (parser->topo->nspaces >= parser->limits->max_spaces)
		return wrong(parser, "more than %" PRIu64 " address spaces; see --max-spaces",
			     parser->limits->max_spaces);
	space = topo_add_space(parser->topo, id, fields[2]);
	if (!space)
		return no_memory(parser);
	space->root = root;
	space->line = parser->line.number;
	return 0;
}

#define MAX_FIELDS 9

static const struct record {
	const char *word; /* with the space that ends it */
	unsigned nfields; /* after the word */
	int (*parse)(struct parser *parser, char **fields);
} records[] = {
	{"region ", 9, parse_region},
	{"sub ", 4, parse_sub},
	{"as ", 3, parse_as},
};

#define NRECORDS (sizeof(records) / sizeof(records[0]))

static int parse_record(struct parser *parser)
{
	char *fields[MAX_FIELDS];
	char *text = parser->line.text;

	for (unsigned i = 0; i < NRECORDS; i++) {
		size_t length = strlen(records[i].word);

		if (strncmp(text, records[i].word, length) != 0)
			continue;
		if (line_cut(text + length, fields, records[i].nfields))
			return wrong(parser, "%.*s has %u fields, with one space between two",
				     (int)length - 1, text, records[i].nfields);
		return records[i].parse(parser, fields);
	}
	return *text ? wrong(parser, "%.40s is no record", text) : wrong(parser, "a blank line");
}

/* The lines after the first, up to the last. */
static int parse_body(struct parser *parser)
{
	int err;

	while ((err = line_next(&parser->line, parser->fault)) > 0) {
		if (!strcmp(parser->line.text, "end")) {
			parser->topo->end_line = parser->line.number;
			err = line_next(&parser->line, parser->fault);
			return err > 0 ? wrong(parser, "a line after `end`") : err;
		}
		err = parser->line.text[0] == '#' ? 0 : parse_record(parser);
		if (err)
			return err;
	}
	return err ? err : wrong(parser, "no `end`: the file was cut");
}

int topo_read(FILE *stream, const struct topo_limits *limits, struct topo **ret,
	      struct fault *fault)
{
	struct parser parser = {
		.line = {.stream = stream},
		.topo = topo_new(),
		.limits = limits,
		.fault = fault,
	};
	int err;

	if (!parser.topo)
		return no_memory(&parser);
	err = line_next(&parser.line, fault);
	if (err == 0 || (err > 0 && strcmp(parser.line.text, "topo 1") != 0))
		err = wrong(&parser, "the first line is not `topo 1`");
	if (err > 0)
		err = parse_body(&parser);
	if (err) {
		topo_free(parser.topo);
		return err;
	}
	topo_find_circles(parser.topo);
	*ret = parser.topo;
	return 0;
}

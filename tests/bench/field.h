/* SPDX-License-Identifier: MIT */
/* Addresses to be looked up, and all ways in which that can be done. See field.c. */
#ifndef FIELD_H
#define FIELD_H

#include "scene.h"

enum { FIELD_NADDRESSES = 65536 };

enum pattern { PATTERN_RANDOM, PATTERN_SEQUENTIAL, PATTERN_REPEATED, NPATTERNS };

/* In what is looked: the library's view, held for all lookups, or pinned and unpinned for each; an
 * array; a snapshot of vm-memory's, held, or one for each. */
enum way { WAY_HELD, WAY_EACH, WAY_ARRAY, WAY_VM_HELD, WAY_VM_EACH, NWAYS };

struct array_range {
	uint64_t first, last;
	struct kvmas_region *region;
};

struct vm_memory;

/* To be looked up, one after the other. */
struct addresses {
	const uint64_t *at;
	size_t count;
	uint64_t nothing; /* 0: see field.c */
};

struct field {
	struct scene scene; /* of pages of RAM, in two spaces */
	struct kvmas_reader *reader;
	struct array_range *ranges;  /* the same, without the library */
	struct vm_memory *vm_memory; /* the same again; NULL: not built */
	uint64_t *addresses[NPATTERNS];
	uint64_t nothing;         /* 0 */
	uint64_t sums[NPATTERNS]; /* of how far each address lies behind its range's first */
};

const char *pattern_name(enum pattern pattern);
const char *way_name(enum way way);
bool way_is_there(enum way way);

void field_open(struct field *field, unsigned nranges);
void field_close(struct field *field);

/* Look up so many addresses of a pattern, each when the one before is found: the sum of how far
 * they lie behind the first ones of the ranges found. One of none counts as 0. */
uint64_t field_run(const struct field *field, enum way way, enum pattern pattern, size_t count);

/* WAY_EACH, by any reader and in any of its spaces. */
uint64_t field_run_each(struct kvmas_reader *reader, struct kvmas_space *space,
			const struct addresses *addresses);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A renderer for tests, slow and independent of the library's: a tree of its own, and for each
 * address the question who answers there.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvmas.h>

enum { NONE = -1, MAX_NODES = 32 };

/* A region, described. Others are named by their index in the tree. */
struct node {
	const char *name;
	enum kvmas_region_kind kind;
	uint64_t size; /* KVMAS_SIZE_MAX: 2^64 */
	int parent;    /* NONE: in no container */
	uint64_t offset;
	int priority;
	int target; /* aliases only */
	uint64_t target_offset;
	bool disabled;
	bool readonly;
	unsigned order; /* of adding to the parent: what comes later is larger */
};

struct tree {
	struct node nodes[MAX_NODES];
	int count;
	unsigned order; /* the largest so far */
};

struct oracle_range {
	uint64_t first;
	uint64_t last;
	int node;
	uint64_t offset; /* in the node, at first */
	bool readonly;
};

/* The flat view of the tree below *root*, for free(). */
struct oracle_range *oracle_render(const struct tree *tree, int root, size_t *ret_count);

/* The same as lines, like fixture.h's; for free(). */
char *oracle_text(const struct tree *tree, int root);

/* Whether *to* is *from*, or is shown below it. */
bool oracle_reaches(const struct tree *tree, int from, int to);

#endif

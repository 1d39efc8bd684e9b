/* SPDX-License-Identifier: MIT */
/*
 * A renderer for tests, independent of the library's and in no hurry: a tree of its own, and its
 * flat view. A description is data and owns nothing; only a tree that grows is freed.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvmas.h>

enum { NONE = -1 };

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
	bool nonvolatile;
	bool unmergeable;
	bool device;    /* a ROM device whose reads go to the device too */
	unsigned order; /* of adding to the parent: what comes later is larger */
};

struct tree {
	struct node *nodes;
	int count;
	int capacity;   /* 0: the nodes are somebody else's, and there will be no more */
	unsigned order; /* the largest so far */
};

/* What is seen from an address on. */
struct oracle_range {
	uint64_t first;
	uint64_t last;
	int node;
	uint64_t offset; /* in the node, at first */
	bool readonly;
	bool nonvolatile;
	bool unmergeable;
	bool romd;
};

/* Add a node as it is and tell its index; the tree is all zero at first, and ends with
 * tree_fini. */
int tree_add(struct tree *tree, struct node node);
void tree_copy(struct tree *tree, const struct tree *from);
void tree_fini(struct tree *tree);

/*
 * The flat view of the tree below *root*, for free().
 * Cost: n log n for the n nodes of the tree, and m log m for m paths from the root.
 */
struct oracle_range *oracle_render(const struct tree *tree, int root, size_t *ret_count);

/* Lines like fixture.h's; for free(). */
char *oracle_text(const struct tree *tree, int root);

/* Whether *to* is *from*, or is shown below it. Cost: n for the nodes of the tree. */
bool oracle_reaches(const struct tree *tree, int from, int to);

/* Whether *index* leads to itself through containers alone, or aliases alone, or any alias would be
 * seen inside itself, were all enabled. */
bool oracle_is_loop(const struct tree *tree, int index);

#endif

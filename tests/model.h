/* SPDX-License-Identifier: MIT */
/*
 * A model of the library for random runs: a description of the regions (oracle.h) and of what is
 * logged, so small that a transaction is a copy of it: abort puts the copy back. A step draws its
 * arguments, foretells the result and the state after it, and makes the call.
 */
#ifndef MODEL_H
#define MODEL_H

#include "fixture.h"
#include "mirror.h"
#include "oracle.h"

enum {
	NSPACES = 3,
	NREGIONS = 16,
	NROOTS = 3, /* the first of them: what spaces show, and most others are added to */
	ANY = 0,
	BLOCK_PAGES = 4,
	NSTEPS = 15,
};

/* All that a transaction can change. A wish is for one region or any, in one space or any. */
struct state {
	struct tree tree; /* its nodes are those below */
	struct node nodes[NREGIONS];
	bool wishes[1 + NREGIONS][1 + NSPACES];
};

struct view_model {
	struct kvmas_space *space;
	struct kvmas_listener *listener;
	int root;
	struct mirror mirror;
	char *lines; /* what the view must be */
	char *told;  /* the same, with what is logged */
};

struct model {
	struct fixture *f;
	uint64_t random;
	bool tight; /* small caps: commits may return -E2BIG */
	struct state now;
	struct state saved; /* before the outermost begin */
	struct state next;  /* now, if the call succeeds */
	int expected;       /* of the call */
	unsigned depth;
	bool doomed;
	struct kvmas_region *regions[NREGIONS];
	struct view_model views[NSPACES];
	struct kvmas_client *client;
	unsigned published;
	unsigned failed;
	unsigned no_memory;
	unsigned past_cap;
};

struct step {
	const char *name;
	int (*run)(struct model *m);
	unsigned weight;
};

extern const struct step model_steps[NSTEPS];

void copy_state(struct state *state, const struct state *from);

/* A random number below n. */
uint64_t draw(struct model *m, uint64_t n);

/* Make what is in a place of the model and what stands for it in the library. */
void make_node(struct model *m, int index);
void make_view(struct model *m, unsigned view);
/* Demands that the listener was told of the end of all it knew. */
void drop_view(struct model *m, unsigned view);

/* The oracle's lines, with " logged" where it is; for free(). */
char *told_text(const struct model *m, const struct state *state, unsigned view);

#endif

/* SPDX-License-Identifier: MIT */
/* A scene, rendered in full by the tests' own renderer. See full.c. */
#ifndef FULL_H
#define FULL_H

#include "../oracle.h"
#include "scene.h"
#include "stats.h"

struct full {
	struct tree tree;
	struct kvmas_region **regions; /* which one each node describes */
	int roots[SCENE_MAX_SPACES];
	unsigned nspaces;
};

/* Describe a scene as it is. */
void full_init(struct full *full, const struct scene *scene);
void full_fini(struct full *full);

/* Demand that each space shows what the renderer says. */
void full_verify(const struct full *full, const struct scene *scene);

/* Time the rendering of all spaces. */
struct summary full_measure(const struct full *full, const struct budget *budget,
			    struct samples *samples);

#endif

/* SPDX-License-Identifier: MIT */
/* The changes that are timed. See move.c. */
#ifndef MOVE_H
#define MOVE_H

#include "scene.h"
#include "stats.h"

enum move {
	MOVE_NEAR,
	MOVE_FAR,
	MOVE_TOGGLE,
	MOVE_HIDDEN,
	MOVE_EMPTY,
	MOVE_DETACHED,
	NMOVES,
};

struct cost {
	struct summary time;
	uint64_t calls; /* of the realloc hook, by all that were timed */
};

const char *move_name(enum move move);
bool move_is_visible(enum move move);

/* Make one, not timed. */
void move_make(struct scene *scene, enum move move);

/*
 * Time many, each by itself, and demand that every one was seen by every space's listener, or none
 * by any. *samples* is emptied first.
 */
struct cost move_measure(struct scene *scene, enum move move, const struct budget *budget,
			 struct samples *samples);

#endif

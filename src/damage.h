/* SPDX-License-Identifier: MIT */
/* Damage: which windows of which roots something may be seen in. See damage.c. */
#ifndef KAS_DAMAGE_H
#define KAS_DAMAGE_H

#include "space.h"

/* Takes a window of a root. A result other than 0 stops the walk. */
typedef int kas_climb_fn(void *data, struct root *root, struct range window);

/* Carry a window of a region's own bytes up to all roots that may show some of it: *fn* is called
 * for each place, perhaps for one twice, or for all that there is. Returns 0, what *fn* stopped
 * with, or -ENOMEM. */
int kas_climb(struct kvmas_region *region, struct range window, kas_climb_fn *fn, void *data);

/* What a region shows in *window*, its own bytes, may change, or have changed: carry that to all
 * roots. -ENOMEM; then some know, and some do not. */
int kas_damage(struct kvmas_region *region, struct range window);

/* The same for the place where it lies in its container; nothing if it is in none. */
int kas_damage_place(struct kvmas_region *region);

#endif

/* SPDX-License-Identifier: MIT */
/* Damage: which windows of which roots a change may be seen in. See damage.c. */
#ifndef KAS_DAMAGE_H
#define KAS_DAMAGE_H

#include "space.h"

/* What a region shows in *window*, its own bytes, may change, or have changed: carry that to all
 * roots. -ENOMEM; then some know, and some do not. */
int kas_damage(struct kvmas_region *region, struct range window);

/* The same for the place where it lies in its container; nothing if it is in none. */
int kas_damage_place(struct kvmas_region *region);

#endif

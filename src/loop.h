/* SPDX-License-Identifier: MIT */
/* Aliases that would show themselves: see loop.c. */
#ifndef KAS_LOOP_H
#define KAS_LOOP_H

#include "region.h"

/* Whether by the links of *region*, which is in a circle of them, an alias is seen inside itself:
 * -ELOOP. -ENOMEM; -E2BIG past the cap on nodes. The transaction lock is held. Cost: all that is
 * seen through each alias above. */
int kas_loop_check(struct kvmas_region *region);

#endif

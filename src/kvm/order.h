/* SPDX-License-Identifier: MIT */
/* In which order slots move: see order.c. */
#ifndef KAS_ORDER_H
#define KAS_ORDER_H

#include "moves.h"

/* Put those that have a gap in order: false if some wait for each other. */
bool kas_order_make(struct moves *moves);

/* That was false: take their gaps from as few as need be, so that it would be true. */
void kas_order_drop_cycles(struct moves *moves);

/* Whether this one, whose target is set, waits for itself through others. */
bool kas_order_has_cycle(struct moves *moves, const struct mover *mover);

#endif

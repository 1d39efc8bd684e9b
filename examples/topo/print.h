/* SPDX-License-Identifier: MIT */
/* What kvmas-topo prints: a machine, as described and as its spaces see it. */
#ifndef PRINT_H
#define PRINT_H

#include <stdio.h>

#include "flat.h"

/* The .flat format. */
void print_flat(FILE *stream, const struct topo *topo, const struct flat *flat);

/* For people. */
void print_tree(FILE *stream, const struct topo *topo, const struct flat *flat);

/* For programs: one JSON object. */
void print_json(FILE *stream, const struct topo *topo, const struct flat *flat);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The invariants that the library's sources number, checked. Each function returns NULL, or says
 * what is wrong first: nothing is asserted here, so that the checks themselves can be tested.
 */
#ifndef VALIDATE_H
#define VALIDATE_H

#include "space.h"

/* The tree of a region's children: src/children.c. */
const char *validate_children(const struct kvmas_region *parent);

/* One view, and the views of one root: src/view.c, src/root.c. */
const char *validate_view(const struct kvmas_view *view);
const char *validate_root(const struct root *root);

/* A range list of windows: src/windows.c. */
const char *validate_windows(const struct windows *windows);

/* All of it, with no transaction open. */
const char *validate(struct kvmas *kvmas);

#endif

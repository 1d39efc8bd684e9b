/* SPDX-License-Identifier: MIT */
/* An independent painter: the flat views by the five steps of tests/corpus/FORMAT.md. */
#ifndef PAINT_H
#define PAINT_H

#include "flat.h"

/* Paint what a space of a topo must show. 0; -E2BIG where that takes too long; -ELOOP where an
 * alias is seen inside itself. The ranges are the caller's to free. */
int paint_space(const struct topo_space *space, struct flat_view *ret);

/* Whether some region of a topo is inside itself, or some alias would show itself again if all were
 * enabled, whether a space shows it or not. 0; -ELOOP; -E2BIG if it would take too long to know. */
int paint_find_loop(const struct topo *topo);

#endif

/* SPDX-License-Identifier: MIT */
/* A sandbox that takes membarrier(2) away. See refuse.c. */
#ifndef REFUSE_H
#define REFUSE_H

#include <stdbool.h>

/* From now on, for good and for all threads of the process, membarrier(2) fails with EPERM. */
void refuse_membarrier(void);

bool membarrier_is_refused(void);

#endif

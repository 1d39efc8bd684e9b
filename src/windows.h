/* SPDX-License-Identifier: MIT */
/* A handful of windows: see windows.c. */
#ifndef KAS_WINDOWS_H
#define KAS_WINDOWS_H

#include "range.h"

#ifndef KAS_MAX_WINDOWS
#define KAS_MAX_WINDOWS 8
#endif

/* Ascending; between two of them lies at least one byte. */
struct windows {
	unsigned count;
	struct range at[KAS_MAX_WINDOWS + 1]; /* one more while one is added */
};

void kas_windows_add(struct windows *windows, struct range window);

#endif

/* SPDX-License-Identifier: MIT */
/* The end of a bench that cannot go on: half a table of figures would be taken for a whole one. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_must(int err, const char *what)
{
	if (err >= 0)
		return;
	fprintf(stderr, "kvmas-bench: %s: %s\n", what, strerror(-err));
	exit(BENCH_FAILED);
}

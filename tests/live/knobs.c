/* SPDX-License-Identifier: MIT */
/* See knobs.h. */
#include "knobs.h"

#include <time.h>

#include "../choices.h"

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

unsigned seconds(unsigned otherwise)
{
	return (unsigned)number_from("KVMAS_SECONDS", otherwise);
}

unsigned seed(void)
{
	return (unsigned)number_from("KVMAS_SEED", 1);
}

/* SPDX-License-Identifier: MIT */
/* Many single samples, and what is said about them. See stats.c. */
#ifndef STATS_H
#define STATS_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* How much is spent on one figure: whichever is reached first. */
struct budget {
	size_t samples;
	uint64_t ns;
};

struct samples {
	uint64_t *ns;
	size_t count;
	size_t capacity;
};

/* In microseconds. */
struct summary {
	size_t samples;
	double median;
	double p90;
};

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Out of memory ends the program. */
void samples_init(struct samples *samples, size_t capacity);
void samples_fini(struct samples *samples);

/* Sorts them. */
struct summary samples_summarise(struct samples *samples);

/* The middle one, or the upper of the two; sorts them. */
double stats_median(double *values, unsigned count);

/* What reading the clock adds to every sample, in microseconds. */
double stats_clock_cost(void);

#endif

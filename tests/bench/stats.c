/* SPDX-License-Identifier: MIT */
/*
 * Samples. Every operation is timed by itself, since an average hides what one in ten costs, and
 * is told by median and 90th percentile, which an interrupt now and then does not move. The room
 * for samples is there, and touched, before the first is taken.
 */
#include "stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

void samples_init(struct samples *samples, size_t capacity)
{
	*samples = (struct samples){.capacity = capacity};
	samples->ns = malloc(capacity * sizeof(samples->ns[0]));
	must(samples->ns ? 0 : -ENOMEM);
	memset(samples->ns, 0xff, capacity * sizeof(samples->ns[0]));
}

void samples_fini(struct samples *samples)
{
	free(samples->ns);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The smallest of the sorted samples that at least *percent* of all do not exceed; 0 of none. */
static uint64_t percentile(const struct samples *samples, unsigned percent)
{
	size_t rank = (samples->count * percent + 99) / 100;

	return samples->count ? samples->ns[rank ? rank - 1 : 0] : 0;
}

struct summary samples_summarise(struct samples *samples)
{
	qsort(samples->ns, samples->count, sizeof(samples->ns[0]), by_value);
	return (struct summary){
		.samples = samples->count,
		.median = (double)percentile(samples, 50) / 1000,
		.p90 = (double)percentile(samples, 90) / 1000,
	};
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

double stats_median(double *values, unsigned count)
{
	qsort(values, count, sizeof(values[0]), by_size);
	return values[count / 2];
}

double stats_clock_cost(void)
{
	struct samples samples;
	double cost;

	samples_init(&samples, 10000);
	while (samples.count < samples.capacity) {
		uint64_t start = clock_ns();

		samples.ns[samples.count++] = clock_ns() - start;
	}
	cost = samples_summarise(&samples).median;
	samples_fini(&samples);
	return cost;
}

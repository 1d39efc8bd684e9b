/* SPDX-License-Identifier: MIT */
/*
 * What `kvmas-bench commit` demands. Those limits that are bytes and counts hold or do not, on any
 * machine. Those on time are medians, meant for a quiet machine of today; those that compare one
 * median with another ask for something else than speed: that a commit does not slow down with the
 * tree, or with event channels that it does not concern, and that 17 spaces cost no more than 17
 * times one.
 */
#include "commit.h"

#include <inttypes.h>

static const struct {
	unsigned group;
	unsigned size;
	enum move move;
	double microseconds;
} time_limits[] = {
	{GROUP_1, SIZE_1000, MOVE_NEAR, 2},        {GROUP_1, SIZE_1000, MOVE_FAR, 4},
	{GROUP_1, SIZE_10000, MOVE_NEAR, 5},       {GROUP_1, SIZE_10000, MOVE_FAR, 10},
	{GROUP_TIED, SIZE_1000, MOVE_NEAR, 3},     {GROUP_TIED, SIZE_1000, MOVE_FAR, 6},
	{GROUP_17, SIZE_10000, MOVE_NEAR, 60},     {GROUP_1, SIZE_10, MOVE_HIDDEN, 0.5},
	{GROUP_1, SIZE_100, MOVE_HIDDEN, 0.5},     {GROUP_1, SIZE_1000, MOVE_HIDDEN, 0.5},
	{GROUP_1, SIZE_10000, MOVE_HIDDEN, 0.5},   {GROUP_1, SIZE_10, MOVE_EMPTY, 0.1},
	{GROUP_1, SIZE_100, MOVE_EMPTY, 0.1},      {GROUP_1, SIZE_1000, MOVE_EMPTY, 0.1},
	{GROUP_1, SIZE_10000, MOVE_EMPTY, 0.1},    {GROUP_1, SIZE_10, MOVE_DETACHED, 0.1},
	{GROUP_1, SIZE_100, MOVE_DETACHED, 0.1},   {GROUP_1, SIZE_1000, MOVE_DETACHED, 0.1},
	{GROUP_1, SIZE_10000, MOVE_DETACHED, 0.1},
};

enum { NTIME_LIMITS = sizeof(time_limits) / sizeof(time_limits[0]) };

static const double most_slowdown = 3.5; /* from 100 regions to 10000 */
static const double most_region_bytes = 512;
static const double most_range_bytes = 256;

struct judge {
	FILE *stream;
	unsigned held;
	unsigned broken;
};

/* Judge a value, found in a tree of *nregions*; 0: in all of them. */
static void judge(struct judge *judge, double value, double limit, const char *what,
		  unsigned nregions)
{
	if (value <= limit) {
		judge->held++;
		return;
	}
	judge->broken++;
	fprintf(judge->stream, "BROKEN: %s", what);
	if (nregions)
		fprintf(judge->stream, ", %u regions", nregions);
	fprintf(judge->stream, ": %.2f, limit %.2f\n", value, limit);
}

static double median_of(const struct commit_results *results, unsigned group, unsigned size,
			enum move move)
{
	return results->cells[group][size].moves[move].time.median;
}

static void judge_times(struct judge *all, const struct commit_results *results)
{
	for (unsigned i = 0; i < NTIME_LIMITS; i++) {
		unsigned group = time_limits[i].group;
		unsigned size = time_limits[i].size;
		enum move move = time_limits[i].move;
		char what[64];

		snprintf(what, sizeof(what), "us for %s, spaces: %s", move_name(move),
			 commit_groups[group].name);
		judge(all, median_of(results, group, size, move), time_limits[i].microseconds, what,
		      commit_sizes[size]);
	}
	judge(all, median_of(results, GROUP_1, SIZE_10000, MOVE_NEAR),
	      most_slowdown * median_of(results, GROUP_1, SIZE_100, MOVE_NEAR),
	      "us for near, against that of 100 regions", commit_sizes[SIZE_10000]);
	for (unsigned size = 0; size <= SIZE_1000; size++)
		judge(all, median_of(results, GROUP_17, size, MOVE_NEAR),
		      SCENE_MAX_SPACES * median_of(results, GROUP_1, size, MOVE_NEAR),
		      "us for near in 17 spaces, against 17 times one", commit_sizes[size]);
}

static void judge_channels(struct judge *all, const struct channel_costs *costs)
{
	for (enum channel_work work = 0; work < NCHANNEL_WORKS; work++) {
		const char *unit;
		double limit = channel_work_limit(work, &unit);
		char what[64];

		snprintf(what, sizeof(what), "%s for %s among %u channels", unit,
			 channel_work_name(work), costs->nchannels);
		judge(all, channel_work_figure(work, &costs->lines[work]), limit, what, 0);
	}
}

static void judge_memory(struct judge *all, const struct commit_results *results)
{
	const struct growth *growth = &results->growth;
	uint64_t commits;

	for (unsigned size = 0; size < NSIZES; size++) {
		judge(all, results->footprints[size].region, most_region_bytes,
		      "bytes for a region", commit_sizes[size]);
		judge(all, results->footprints[size].range, most_range_bytes, "bytes for a range",
		      commit_sizes[size]);
	}
	judge(all, (double)commit_idle_calls(results, &commits), 0,
	      "allocations without visible change", 0);
	judge(all, (double)growth->late - (double)growth->early, 0, "bytes grown",
	      commit_sizes[SIZE_1000]);
	/* Bytes that vanish would say that the two states were not alike. */
	judge(all, (double)growth->early - (double)growth->late, 0, "bytes shrunk",
	      commit_sizes[SIZE_1000]);
}

unsigned commit_check(FILE *stream, const struct commit_results *results, enum commit_limits limits)
{
	struct judge all = {.stream = stream};

	if (limits == COMMIT_LIMITS_NONE)
		return 0;
	judge_memory(&all, results);
	if (limits == COMMIT_LIMITS_ALL) {
		judge_times(&all, results);
		judge_channels(&all, &results->channels);
	}
	fprintf(stream, "%u limits hold, %u are broken\n", all.held, all.broken);
	return all.broken;
}

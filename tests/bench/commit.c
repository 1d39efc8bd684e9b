/* SPDX-License-Identifier: MIT */
/*
 * kvmas-bench commit [--quick] [--check | --check-memory] [--csv]
 *
 * What one commit costs, for trees of 10 to 10000 regions shown by 1, 2 and 17 spaces, with the
 * undo of each change kept and a listener on each space as in a VMM; the same with KVM's slots in
 * step; with a thousand event channels there (channels.c); and what memory all that takes. The
 * figures are told as a table, or as lines for programs.
 *
 *   --quick         few samples: seconds in all
 *   --check         status 1 if a limit does not hold (commit-limits.c)
 *   --check-memory  the same for those limits only that are no matter of time
 *   --csv           lines of comma-separated values
 */
#include "commit.h"

#include <string.h>

#include "bench.h"
#include "full.h"

const unsigned commit_sizes[NSIZES] = {10, 100, 1000, 10000};

const struct commit_group commit_groups[NGROUPS] = {
	[GROUP_1] = {"1", 1, false},
	[GROUP_TIED] = {"1, KVM", 1, true},
	[GROUP_2] = {"2", 2, false},
	[GROUP_17] = {"17", SCENE_MAX_SPACES, false},
};

uint64_t commit_idle_calls(const struct commit_results *results, uint64_t *ret_commits)
{
	uint64_t calls = 0;
	uint64_t commits = 0;

	for (unsigned i = 0; i < NGROUPS * NSIZES * NMOVES; i++) {
		enum move move = i % NMOVES;
		unsigned size = i / NMOVES % NSIZES;
		const struct cost *cost = &results->cells[i / NMOVES / NSIZES][size].moves[move];

		if (move_is_visible(move))
			continue;
		calls += cost->calls;
		commits += cost->time.samples;
	}
	*ret_commits = commits;
	return calls;
}

struct options {
	bool quick;
	bool csv;
	enum commit_limits limits;
};

/* Nothing, where an argument is none of these. */
static bool parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--quick"))
			options->quick = true;
		else if (!strcmp(argv[i], "--csv"))
			options->csv = true;
		else if (!strcmp(argv[i], "--check"))
			options->limits = COMMIT_LIMITS_ALL;
		else if (!strcmp(argv[i], "--check-memory"))
			options->limits = COMMIT_LIMITS_MEMORY;
		else
			return false;
	}
	return true;
}

static void measure_cell(struct commit_cell *cell, const struct scene_config *config,
			 const struct budget *budget, struct samples *samples)
{
	struct scene scene;
	struct full full;

	scene_open(&scene, config);
	for (enum move move = 0; move < NMOVES; move++)
		cell->moves[move] = move_measure(&scene, move, budget, samples);
	full_init(&full, &scene);
	full_verify(&full, &scene);
	cell->full = full_measure(&full, budget, samples);
	full_fini(&full);
	scene_close(&scene);
}

static void measure(struct commit_results *results, bool quick)
{
	struct samples samples;

	results->clock = stats_clock_cost();
	samples_init(&samples, results->budget.samples);
	for (unsigned group = 0; group < NGROUPS; group++) {
		for (unsigned size = 0; size < NSIZES; size++) {
			const struct scene_config config = {
				.ndevices = commit_sizes[size],
				.nspaces = commit_groups[group].nspaces,
				.tied = commit_groups[group].tied,
			};

			measure_cell(&results->cells[group][size], &config, &results->budget,
				     &samples);
		}
	}
	samples_fini(&samples);
	for (unsigned size = 0; size < NSIZES; size++)
		results->footprints[size] = footprint_measure(commit_sizes[size]);
	results->growth = growth_measure(commit_sizes[SIZE_1000], quick ? 20000 : 1000000);
	results->channels = channels_measure(commit_sizes[SIZE_1000], quick ? 11 : 501);
}

int bench_commit(int argc, char **argv)
{
	static const struct budget full = {20000, 1000000000};
	static const struct budget quick = {300, 10000000};
	struct commit_results results = {0};
	struct options options = {0};

	if (!parse(argc, argv, &options)) {
		fprintf(stderr, "usage: kvmas-bench commit [--quick] [--check | --check-memory] "
				"[--csv]\n");
		return BENCH_FAILED;
	}
	results.budget = options.quick ? quick : full;
	measure(&results, options.quick);
	if (options.csv)
		commit_print_csv(stdout, &results);
	else
		commit_print_table(stdout, &results);
	return commit_check(stderr, &results, options.limits) ? BENCH_BROKEN : BENCH_OK;
}

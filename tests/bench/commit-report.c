/* SPDX-License-Identifier: MIT */
/*
 * The results of `kvmas-bench commit`, for people and for programs. In the table a row is what is
 * done, a column how many devices there are. Microseconds have two decimals: a clock that takes
 * 0.02 to be read leaves no more.
 */
#include "commit.h"

#include <inttypes.h>

static void print_head(FILE *stream, const struct commit_results *results)
{
	fprintf(stream,
		"kvmas-bench commit: microseconds for one commit: median, 90th percentile\n"
		"(of up to %zu commits or %g s, each timed by itself, reading the clock, %.3f,\n"
		"included; a counting listener on each space; what moves is drawn at random)\n\n",
		results->budget.samples, (double)results->budget.ns / 1e9, results->clock);
	fprintf(stream, "%-7s %-14s", "spaces", "regions:");
	for (unsigned size = 0; size < NSIZES; size++)
		fprintf(stream, "%18u", commit_sizes[size]);
	fprintf(stream, "\n");
}

static void print_move(FILE *stream, const struct commit_cell *cells, const char *group,
		       enum move move)
{
	fprintf(stream, "%-7s %-14s", group, move_name(move));
	for (unsigned size = 0; size < NSIZES; size++) {
		const struct summary *time = &cells[size].moves[move].time;

		fprintf(stream, "%9.2f %8.2f", time->median, time->p90);
	}
	fprintf(stream, "\n");
}

/* The renderer that does it all anew, and how much quicker the library is. */
static void print_full(FILE *stream, const struct commit_cell *cells, const char *group)
{
	fprintf(stream, "%-7s %-14s", group, "full render");
	for (unsigned size = 0; size < NSIZES; size++)
		fprintf(stream, "%9.2f %8.2f", cells[size].full.median, cells[size].full.p90);
	fprintf(stream, "\n%-7s %-14s", group, "full / near");
	for (unsigned size = 0; size < NSIZES; size++)
		fprintf(stream, "%8.1fx %8s",
			cells[size].full.median / cells[size].moves[MOVE_NEAR].time.median, "");
	fprintf(stream, "\n\n");
}

static void print_memory(FILE *stream, const struct commit_results *results)
{
	const struct growth *growth = &results->growth;
	uint64_t commits;
	uint64_t calls = commit_idle_calls(results, &commits);

	fprintf(stream, "%-22s", "bytes for a region");
	for (unsigned size = 0; size < NSIZES; size++)
		fprintf(stream, "%9.0f %8s", results->footprints[size].region, "");
	fprintf(stream, "\n%-22s", "bytes for a range");
	for (unsigned size = 0; size < NSIZES; size++)
		fprintf(stream, "%9.0f %8s", results->footprints[size].range, "");
	fprintf(stream,
		"\n\nallocator calls for a commit, 1 space, %u regions:", commit_sizes[SIZE_1000]);
	for (enum move move = 0; move < NMOVES; move++) {
		const struct cost *cost = &results->cells[GROUP_1][SIZE_1000].moves[move];

		fprintf(stream, " %s %.2f", move_name(move),
			(double)cost->calls / (double)cost->time.samples);
	}
	fprintf(stream,
		"\nallocations: %" PRIu64 " in %" PRIu64 " commits without visible change\n"
		"growth: %lld bytes (%zu held after %u commits, %zu after %" PRIu64
		", at most %zu in between)\n",
		calls, commits, (long long)growth->late - (long long)growth->early, growth->early,
		(unsigned)EARLY_COMMITS, growth->late, growth->commits, growth->peak);
}

static void print_channels(FILE *stream, const struct channel_costs *costs)
{
	fprintf(stream,
		"\nevent channels, %u devices, 1 space, KVM; medians of %u rounds\n"
		"%-14s%18s%18s%8s%16s\n",
		costs->nchannels, costs->rounds, "", "no channels", "each with one", "ratio",
		"limit");
	for (enum channel_work work = 0; work < NCHANNEL_WORKS; work++) {
		const struct channel_line *line = &costs->lines[work];
		const char *unit;
		double limit = channel_work_limit(work, &unit);

		fprintf(stream, "%-14s%18.2f%18.2f%8.3f%10.2f %s\n", channel_work_name(work),
			line->without, line->with, line->ratio, limit, unit);
	}
}

void commit_print_table(FILE *stream, const struct commit_results *results)
{
	print_head(stream, results);
	for (unsigned group = 0; group < NGROUPS; group++) {
		const struct commit_cell *cells = results->cells[group];
		const char *name = commit_groups[group].name;

		for (enum move move = 0; move < NMOVES; move++)
			print_move(stream, cells, name, move);
		print_full(stream, cells, name);
	}
	print_memory(stream, results);
	print_channels(stream, &results->channels);
}

static void print_csv_cell(FILE *stream, unsigned group, unsigned size,
			   const struct commit_cell *cell)
{
	const struct commit_group *what = &commit_groups[group];

	for (enum move move = 0; move < NMOVES; move++) {
		const struct cost *cost = &cell->moves[move];

		fprintf(stream, "%u,%d,%u,%s,%zu,%.3f,%.3f,%" PRIu64 "\n", what->nspaces,
			what->tied, commit_sizes[size], move_name(move), cost->time.samples,
			cost->time.median, cost->time.p90, cost->calls);
	}
	fprintf(stream, "%u,%d,%u,full render,%zu,%.3f,%.3f,\n", what->nspaces, what->tied,
		commit_sizes[size], cell->full.samples, cell->full.median, cell->full.p90);
}

static void print_csv_channels(FILE *stream, const struct channel_costs *costs)
{
	fprintf(stream, "\nchannels,what,without_us,with_us,ratio\n");
	for (enum channel_work work = 0; work < NCHANNEL_WORKS; work++)
		fprintf(stream, "%u,%s,%.3f,%.3f,%.4f\n", costs->nchannels, channel_work_name(work),
			costs->lines[work].without, costs->lines[work].with,
			costs->lines[work].ratio);
}

void commit_print_csv(FILE *stream, const struct commit_results *results)
{
	const struct growth *growth = &results->growth;

	fprintf(stream, "spaces,kvm,regions,what,samples,median_us,p90_us,allocator_calls\n");
	for (unsigned group = 0; group < NGROUPS; group++) {
		for (unsigned size = 0; size < NSIZES; size++)
			print_csv_cell(stream, group, size, &results->cells[group][size]);
	}
	fprintf(stream, "\nregions,bytes_per_region,bytes_per_range\n");
	for (unsigned size = 0; size < NSIZES; size++)
		fprintf(stream, "%u,%.1f,%.1f\n", commit_sizes[size],
			results->footprints[size].region, results->footprints[size].range);
	fprintf(stream, "\nclock_us,growth_commits,early_bytes,late_bytes,peak_bytes\n");
	fprintf(stream, "%.3f,%" PRIu64 ",%zu,%zu,%zu\n", results->clock, growth->commits,
		growth->early, growth->late, growth->peak);
	print_csv_channels(stream, &results->channels);
}

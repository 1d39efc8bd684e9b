/* SPDX-License-Identifier: MIT */
/*
 * The results of `kvmas-bench dirty`, for people and for programs, and the limits. Times of one run
 * are compared, so they hold for any machine, if nothing else keeps it busy. Every line must take
 * just as many ioctls as what it is compared with: fewer would be work that was left out.
 */
#include "dirty.h"

static const struct {
	const char *title;
	const char *beside;
	double limit;
} groups[NDIRTY_GROUPS] = {
	[DIRTY_CYCLES] = {"sync, take and watch again: one client", "bare", 1.15},
	[DIRTY_SYNCS] = {"what a further client adds to a sync, ioctls apart", "OR", 1.0},
	[DIRTY_CLIENTS] = {"the same with that client's take", "OR", 1.0},
	[DIRTY_SPACES] = {"what an idle second space adds", "bare", 1.15},
};

static const char *const log_names[] = {
	[KVMAS_KVM_LOG_AUTO] = "auto",
	[KVMAS_KVM_LOG_MANUAL] = "manual",
	[KVMAS_KVM_LOG_MANUAL_SET] = "manual-set",
	[KVMAS_KVM_LOG_RING] = "ring",
};

double dirty_limit(enum dirty_group group)
{
	return groups[group].limit;
}

static bool is_broken(const struct dirty_line *line)
{
	return line->ratio > groups[line->group].limit || line->calls != line->beside_calls;
}

unsigned dirty_check(FILE *stream, const struct dirty_results *results)
{
	unsigned broken = 0, held = 0;

	for (unsigned i = 0; i < results->count; i++) {
		const struct dirty_line *line = &results->lines[i];

		if (!line->measured)
			continue;
		if (!is_broken(line)) {
			held++;
			continue;
		}
		broken++;
		fprintf(stream, "BROKEN: %s: %s, %s: %.3f times, limit %.2f; %u ioctls, of %u\n",
			groups[line->group].title, log_names[line->log], line->what, line->ratio,
			groups[line->group].limit, line->calls, line->beside_calls);
	}
	fprintf(stream, "%u limits hold, %u are broken, %u were not measured\n", held, broken,
		results->count - held - broken);
	return broken;
}

static void print_line(FILE *stream, const struct dirty_line *line)
{
	if (!line->measured) {
		fprintf(stream, "%-12s%-24s  this KVM cannot do it\n", log_names[line->log],
			line->what);
		return;
	}
	fprintf(stream, "%-12s%-24s%6zu%6u%6u%10.2f%10.2f%10.2f%10.2f%8.3f\n", log_names[line->log],
		line->what, line->library.samples, line->calls, line->beside_calls,
		line->library.median, line->library.p90, line->beside.median, line->beside.p90,
		line->ratio);
}

void dirty_print_table(FILE *stream, const struct dirty_results *results)
{
	enum dirty_group group = NDIRTY_GROUPS;

	fprintf(stream,
		"kvmas-bench dirty: %g MiB of RAM; microseconds, median and 90th percentile, of\n"
		"the library and of what it is compared with; ioctls of each; median of the\n"
		"rounds' ratios (up to %zu rounds or %g s)\n",
		results->mib, results->budget.samples, (double)results->budget.ns / 1e9);
	for (unsigned i = 0; i < results->count; i++) {
		const struct dirty_line *line = &results->lines[i];

		if (line->group != group) {
			group = line->group;
			fprintf(stream, "\n%s (limit %.2f)\n%-12s%-24s%6s%12s%20s%20s%8s\n",
				groups[group].title, groups[group].limit, "log", "what", "rounds",
				"ioctls", "library", groups[group].beside, "ratio");
		}
		print_line(stream, line);
	}
}

void dirty_print_csv(FILE *stream, const struct dirty_results *results)
{
	fprintf(stream, "group,log,what,rounds,ioctls,beside_ioctls,library_median_us,"
			"library_p90_us,beside_median_us,beside_p90_us,ratio,limit\n");
	for (unsigned i = 0; i < results->count; i++) {
		const struct dirty_line *line = &results->lines[i];

		if (!line->measured)
			continue;
		fprintf(stream, "%s,%s,%s,%zu,%u,%u,%.3f,%.3f,%.3f,%.3f,%.4f,%.2f\n",
			groups[line->group].title, log_names[line->log], line->what,
			line->library.samples, line->calls, line->beside_calls,
			line->library.median, line->library.p90, line->beside.median,
			line->beside.p90, line->ratio, groups[line->group].limit);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The results of `kvmas-bench lookup`, for people and for programs, and the limits. All of those
 * compare times of one run.
 */
#include "lookup.h"

static const struct {
	enum pattern pattern;
	double held, each; /* times as fast as vm-memory, at 1000 ranges */
} limits[] = {{PATTERN_RANDOM, 1.6, 2}, {PATTERN_REPEATED, 8, 8}};

enum { NLIMITS = sizeof(limits) / sizeof(limits[0]) };

static const double least_scaling = 0.95;
static const double most_slowdown = 1.2;

struct judge {
	FILE *stream;
	unsigned held;
	unsigned broken;
};

static void judge(struct judge *judge, bool holds, const char *what, double value, double limit)
{
	if (holds) {
		judge->held++;
		return;
	}
	judge->broken++;
	fprintf(judge->stream, "BROKEN: %s: %.2f, limit %.2f\n", what, value, limit);
}

static void judge_speed(struct judge *all, const struct lookup_results *results)
{
	for (unsigned i = 0; i < NLIMITS; i++) {
		const struct lookup_cell *cell = &results->cells[LOOKUP_1000][limits[i].pattern];
		const char *pattern = pattern_name(limits[i].pattern);
		char what[64];

		snprintf(what, sizeof(what), "times as fast as vm-memory, held, %s", pattern);
		judge(all, cell->times_held >= limits[i].held, what, cell->times_held,
		      limits[i].held);
		snprintf(what, sizeof(what), "times as fast as vm-memory, each, %s", pattern);
		judge(all, cell->times_each >= limits[i].each, what, cell->times_each,
		      limits[i].each);
	}
}

unsigned lookup_check(FILE *stream, const struct lookup_results *results)
{
	const struct lookup_company *company = &results->company[LOOKUP_1000];
	struct judge all = {.stream = stream};

	if (results->vm_memory)
		judge_speed(&all, results);
	judge(&all, company->scaling >= least_scaling, "two threads on one space, by two on two",
	      company->scaling, least_scaling);
	judge(&all, company->slowdown <= most_slowdown, "times as slow beside commits",
	      company->slowdown, most_slowdown);
	fprintf(stream, "%u limits hold, %u are broken, %u were not measured\n", all.held,
		all.broken, results->vm_memory ? 0 : 2 * NLIMITS);
	return all.broken;
}

static void print_cell(FILE *stream, const struct lookup_cell *cell, bool vm_memory)
{
	for (enum way way = 0; way < NWAYS; way++) {
		if (way_is_there(way))
			fprintf(stream, "%8.2f", cell->ns[way]);
		else
			fprintf(stream, "%8s", "-");
	}
	fprintf(stream, "%9.2f%7.2f", cell->times_array[0], cell->times_array[1]);
	if (vm_memory)
		fprintf(stream, "%9.2f%7.2f", cell->times_held, cell->times_each);
	fprintf(stream, "\n");
}

static void print_company(FILE *stream, const struct lookup_results *results)
{
	fprintf(stream,
		"\nrandom, a view for each, with a second thread on      beside a thread that "
		"commits\n"
		"%-12s%9s%9s%9s%9s%10s%9s%9s%9s\n",
		"", "ranges", "1 space", "2 spaces", "rate", "here", "elsewhere", "ratio",
		"a second");
	for (unsigned size = 0; size < LOOKUP_NSIZES; size++) {
		const struct lookup_company *company = &results->company[size];

		fprintf(stream, "%-12s%9u%9.2f%9.2f%9.3f%10.2f%9.2f%9.3f%9.0f\n", "",
			lookup_sizes[size], company->one_space, company->two_spaces,
			company->scaling, company->committing, company->busy, company->slowdown,
			company->commits);
	}
}

void lookup_print_table(FILE *stream, const struct lookup_results *results)
{
	fprintf(stream,
		"kvmas-bench lookup: nanoseconds for one of %u lookups, medians of %u rounds; how\n"
		"many times as fast the library is: in a view that is held, and with one pinned\n"
		"and unpinned for each; medians of the rounds' ratios\n\n",
		(unsigned)FIELD_NADDRESSES, results->rounds);
	if (!results->vm_memory)
		fprintf(stream, "vm-memory is not compared: it was not there when this was built "
				"(cargo, librust-vm-memory-dev)\n\n");
	fprintf(stream, "%-12s%9s%16s%8s%16s%16s%16s\n", "", "", "library", "array", "vm-memory",
		"by array", results->vm_memory ? "by vm-memory" : "");
	fprintf(stream, "%-12s%9s%8s%8s%8s%8s%8s%9s%7s%9s%7s\n", "addresses", "ranges", "held",
		"each", "", "held", "each", "held", "each", results->vm_memory ? "held" : "",
		results->vm_memory ? "each" : "");
	for (enum pattern pattern = 0; pattern < NPATTERNS; pattern++) {
		for (unsigned size = 0; size < LOOKUP_NSIZES; size++) {
			fprintf(stream, "%-12s%9u", pattern_name(pattern), lookup_sizes[size]);
			print_cell(stream, &results->cells[size][pattern], results->vm_memory);
		}
	}
	print_company(stream, results);
}

void lookup_print_csv(FILE *stream, const struct lookup_results *results)
{
	fprintf(stream, "addresses,ranges,way,ns\n");
	for (unsigned i = 0; i < NPATTERNS * LOOKUP_NSIZES * NWAYS; i++) {
		enum way way = i % NWAYS;
		unsigned size = i / NWAYS % LOOKUP_NSIZES;
		enum pattern pattern = i / NWAYS / LOOKUP_NSIZES;

		if (way_is_there(way))
			fprintf(stream, "%s,%u,%s,%.3f\n", pattern_name(pattern),
				lookup_sizes[size], way_name(way),
				results->cells[size][pattern].ns[way]);
	}
	fprintf(stream, "\nranges,one_space_ns,two_spaces_ns,scaling,committing_ns,busy_ns,"
			"slowdown,commits_per_s\n");
	for (unsigned size = 0; size < LOOKUP_NSIZES; size++) {
		const struct lookup_company *company = &results->company[size];

		fprintf(stream, "%u,%.3f,%.3f,%.4f,%.3f,%.3f,%.4f,%.0f\n", lookup_sizes[size],
			company->one_space, company->two_spaces, company->scaling,
			company->committing, company->busy, company->slowdown, company->commits);
	}
}

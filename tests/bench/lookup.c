/* SPDX-License-Identifier: MIT */
/*
 * kvmas-bench lookup [--quick] [--check] [--csv]
 *
 * What it costs to find who answers an address, among 10 to 10000 ranges: in a view that is held,
 * and with a view pinned and unpinned for each lookup; beside a binary search of an array, and
 * beside rust-vmm's vm-memory in its two ways, where that was there to be built (vm-memory/). In
 * each round every way looks up the same 65536 addresses, in turns, and ratios are medians of those
 * of each round. Then the same in company (lookup-company.c): two threads on one space or on two,
 * one beside a thread that commits.
 *
 *   --quick  few rounds: seconds in all
 *   --check  status 1 if a figure is not as lookup-report.c demands; 77 if vm-memory is not there
 *   --csv    lines of comma-separated values
 */
#include "lookup.h"

#include <string.h>

#include "bench.h"
#include "stats.h"

enum { ROUNDS = 101, ROUNDS_IN_SHORT = 5, WARM_UP = FIELD_NADDRESSES / 8 };

const unsigned lookup_sizes[LOOKUP_NSIZES] = {10, 100, 1000, 10000};

/* Nanoseconds for one lookup. */
static double time_way(const struct field *field, enum way way, enum pattern pattern)
{
	uint64_t start;
	uint64_t sum;

	field_run(field, way, pattern, WARM_UP);
	start = clock_ns();
	sum = field_run(field, way, pattern, FIELD_NADDRESSES);
	start = clock_ns() - start;
	bench_expect(sum == field->sums[pattern]);
	return (double)start / FIELD_NADDRESSES;
}

static double median_ratio(double (*ns)[ROUNDS], unsigned rounds, enum way slow, enum way fast)
{
	double ratios[ROUNDS];

	for (unsigned i = 0; i < rounds; i++)
		ratios[i] = ns[slow][i] / ns[fast][i];
	return stats_median(ratios, rounds);
}

static void measure_cell(struct lookup_cell *cell, const struct field *field, enum pattern pattern,
			 unsigned rounds)
{
	double ns[NWAYS][ROUNDS] = {0};

	/* Whoever comes first in one round is second in the next. */
	for (unsigned i = 0; i < rounds; i++) {
		for (unsigned turn = 0; turn < NWAYS; turn++) {
			enum way way = (i + turn) % NWAYS;

			if (way_is_there(way))
				ns[way][i] = time_way(field, way, pattern);
		}
	}
	cell->times_array[0] = median_ratio(ns, rounds, WAY_ARRAY, WAY_HELD);
	cell->times_array[1] = median_ratio(ns, rounds, WAY_ARRAY, WAY_EACH);
	cell->times_held = median_ratio(ns, rounds, WAY_VM_HELD, WAY_HELD);
	cell->times_each = median_ratio(ns, rounds, WAY_VM_EACH, WAY_EACH);
	for (enum way way = 0; way < NWAYS; way++)
		cell->ns[way] = stats_median(ns[way], rounds);
}

static void measure_size(struct lookup_results *results, unsigned size)
{
	struct field field;
	struct field elsewhere;

	field_open(&field, lookup_sizes[size]);
	for (enum pattern pattern = 0; pattern < NPATTERNS; pattern++)
		measure_cell(&results->cells[size][pattern], &field, pattern, results->rounds);
	field_open(&elsewhere, lookup_sizes[size]);
	lookup_measure_company(&results->company[size], &field, &elsewhere, results->rounds);
	field_close(&elsewhere);
	field_close(&field);
}

static int check(const struct lookup_results *results)
{
	if (lookup_check(stderr, results))
		return BENCH_BROKEN;
	return results->vm_memory ? BENCH_OK : BENCH_SKIPPED;
}

int bench_lookup(int argc, char **argv)
{
	struct lookup_results results = {.rounds = ROUNDS, .vm_memory = way_is_there(WAY_VM_HELD)};
	bool csv = false, checked = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--quick")) {
			results.rounds = ROUNDS_IN_SHORT;
		} else if (!strcmp(argv[i], "--csv")) {
			csv = true;
		} else if (!strcmp(argv[i], "--check")) {
			checked = true;
		} else {
			fprintf(stderr, "usage: kvmas-bench lookup [--quick] [--check] [--csv]\n");
			return BENCH_FAILED;
		}
	}
	for (unsigned size = 0; size < LOOKUP_NSIZES; size++)
		measure_size(&results, size);
	(csv ? lookup_print_csv : lookup_print_table)(stdout, &results);
	return checked ? check(&results) : BENCH_OK;
}

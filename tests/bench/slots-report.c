/* SPDX-License-Identifier: MIT */
/*
 * The results of `kvmas-bench slots`, for people and for programs, and the one limit: how much
 * longer planning and applying may take than the ioctls alone. Times of one run are compared, so
 * the limit holds for any machine, if nothing else keeps it busy.
 */
#include "slots.h"

static const double most_ratio = 1.10;

unsigned slots_check(FILE *stream, const struct slots_results *results)
{
	unsigned broken = 0;

	for (unsigned i = 0; i < NSLOTS_SIZES * NWORKS; i++) {
		unsigned size = i / NWORKS;
		enum work work = i % NWORKS;
		double ratio = results->cells[size][work].ratio;

		if (ratio <= most_ratio)
			continue;
		broken++;
		fprintf(stream, "BROKEN: %s, %u slots: %.3f times the ioctls, limit %.2f\n",
			work_name(work), slots_sizes[size], ratio, most_ratio);
	}
	fprintf(stream, "%u limits hold, %u are broken\n", NSLOTS_SIZES * NWORKS - broken, broken);
	return broken;
}

void slots_print_table(FILE *stream, const struct slots_results *results)
{
	fprintf(stream,
		"kvmas-bench slots: microseconds, median and 90th percentile, for whole\n"
		"transactions, for the same without a KVM (bare), and for the ioctls that were\n"
		"issued. Medians of each round's ratio to the ioctls: whole transactions; plan "
		"and\n"
		"apply, which is these less bare\n"
		"(up to %zu rounds or %g s; no vCPU; a slot is a page)\n\n",
		results->budget.samples, (double)results->budget.ns / 1e9);
	fprintf(stream, "%6s  %-9s%6s%7s%20s%9s%20s%7s%7s\n", "slots", "what", "calls", "rounds",
		"whole", "bare", "ioctls", "whole", "apply");
	for (unsigned i = 0; i < NSLOTS_SIZES * NWORKS; i++) {
		unsigned nslots = slots_sizes[i / NWORKS];
		enum work work = i % NWORKS;
		const struct slots_cell *cell = &results->cells[i / NWORKS][work];

		fprintf(stream, "%6u  %-9s%6u%7zu%10.1f%10.1f%9.2f%10.1f%10.1f%7.3f%7.3f\n", nslots,
			work_name(work), work_calls(work, nslots), cell->library.samples,
			cell->library.median, cell->library.p90, cell->bare.median,
			cell->raw.median, cell->raw.p90, cell->whole, cell->ratio);
	}
}

void slots_print_csv(FILE *stream, const struct slots_results *results)
{
	fprintf(stream,
		"slots,what,calls,rounds,library_median_us,library_p90_us,"
		"bare_median_us,bare_p90_us,ioctls_median_us,ioctls_p90_us,whole_ratio,ratio\n");
	for (unsigned i = 0; i < NSLOTS_SIZES * NWORKS; i++) {
		unsigned nslots = slots_sizes[i / NWORKS];
		enum work work = i % NWORKS;
		const struct slots_cell *cell = &results->cells[i / NWORKS][work];

		fprintf(stream, "%u,%s,%u,%zu,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.4f,%.4f\n", nslots,
			work_name(work), work_calls(work, nslots), cell->library.samples,
			cell->library.median, cell->library.p90, cell->bare.median, cell->bare.p90,
			cell->raw.median, cell->raw.p90, cell->whole, cell->ratio);
	}
}

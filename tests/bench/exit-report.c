/* SPDX-License-Identifier: MIT */
/* The results of `kvmas-bench exit`, for people and for programs, and the limit. */
#include "exit.h"

static const double most = 1.03;

static const char *const names[NEXIT_ACCESSES] = {
	[EXIT_MMIO_READ] = "MMIO read",
	[EXIT_MMIO_WRITE] = "MMIO write",
	[EXIT_PORT_READ] = "port read",
	[EXIT_PORT_WRITE] = "port write",
};

unsigned exit_check(FILE *stream, const struct exit_results *results)
{
	unsigned broken = 0;

	for (enum exit_access access = 0; access < NEXIT_ACCESSES; access++) {
		double ratio = results->lines[access].ratio;

		if (ratio <= most)
			continue;
		broken++;
		fprintf(stream, "BROKEN: %s: %.3f times, limit %.2f\n", names[access], ratio, most);
	}
	fprintf(stream, "%u limits hold, %u are broken\n", NEXIT_ACCESSES - broken, broken);
	return broken;
}

void exit_print_table(FILE *stream, const struct exit_results *results)
{
	fprintf(stream,
		"kvmas-bench exit: nanoseconds for the round trip of one exit, medians of %u\n"
		"rounds; median of the rounds' ratios (limit %.2f)\n\n%-12s%10s%10s%8s\n",
		results->rounds, most, "", "library", "bare", "ratio");
	for (enum exit_access access = 0; access < NEXIT_ACCESSES; access++) {
		const struct exit_line *line = &results->lines[access];

		fprintf(stream, "%-12s%10.0f%10.0f%8.3f\n", names[access], line->library,
			line->bare, line->ratio);
	}
}

void exit_print_csv(FILE *stream, const struct exit_results *results)
{
	fprintf(stream, "access,library_ns,bare_ns,ratio,limit\n");
	for (enum exit_access access = 0; access < NEXIT_ACCESSES; access++) {
		const struct exit_line *line = &results->lines[access];

		fprintf(stream, "%s,%.1f,%.1f,%.4f,%.2f\n", names[access], line->library,
			line->bare, line->ratio, most);
	}
}

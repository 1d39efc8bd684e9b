/* SPDX-License-Identifier: MIT */
/* The results of `kvmas-bench exit`, for people and for programs, and the limit. */
#include "exit.h"

static const double most = 1.03;
static const double most_with_channels = 0.5;

static const char *const names[NEXIT_ACCESSES] = {
	[EXIT_MMIO_READ] = "MMIO read",
	[EXIT_MMIO_WRITE] = "MMIO write",
	[EXIT_PORT_READ] = "port read",
	[EXIT_PORT_WRITE] = "port write",
};

static const char *const channel_names[NEXIT_CHANNELS] = {
	[EXIT_EVENT_MMIO] = "MMIO write ioeventfd",
	[EXIT_EVENT_PORT] = "port write ioeventfd",
	[EXIT_ZONE_MMIO] = "MMIO write coalesced",
	[EXIT_ZONE_PORT] = "port write coalesced",
};

static unsigned is_broken(FILE *stream, const char *name, double ratio, double limit)
{
	if (ratio <= limit)
		return 0;
	fprintf(stream, "BROKEN: %s: %.3f times, limit %.2f\n", name, ratio, limit);
	return 1;
}

unsigned exit_check(FILE *stream, const struct exit_results *results)
{
	unsigned broken = 0;

	for (unsigned i = 0; i < NEXIT_ACCESSES; i++)
		broken += is_broken(stream, names[i], results->lines[i].ratio, most);
	for (unsigned i = 0; i < NEXIT_CHANNELS; i++)
		broken += is_broken(stream, channel_names[i], results->channels[i].ratio,
				    most_with_channels);
	fprintf(stream, "%u limits hold, %u are broken\n", NEXIT_ACCESSES + NEXIT_CHANNELS - broken,
		broken);
	return broken;
}

/* Writes per second: what people ask of these. */
static void print_channels(FILE *stream, const struct exit_results *results)
{
	fprintf(stream,
		"\na guest's writes per second, with a channel, and each as an exit that the\n"
		"library answers; median of the ratios of times (limit %.2f)\n\n%-24s%10s%10s%8s\n",
		most_with_channels, "", "channel", "exits", "ratio");
	for (unsigned i = 0; i < NEXIT_CHANNELS; i++) {
		const struct exit_line *line = &results->channels[i];

		fprintf(stream, "%-24s%10.0f%10.0f%8.3f\n", channel_names[i], 1e9 / line->library,
			1e9 / line->bare, line->ratio);
	}
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
	print_channels(stream, results);
}

void exit_print_csv(FILE *stream, const struct exit_results *results)
{
	fprintf(stream, "access,library_ns,bare_ns,ratio,limit\n");
	for (enum exit_access access = 0; access < NEXIT_ACCESSES; access++) {
		const struct exit_line *line = &results->lines[access];

		fprintf(stream, "%s,%.1f,%.1f,%.4f,%.2f\n", names[access], line->library,
			line->bare, line->ratio, most);
	}
	fprintf(stream, "channel,with_ns,as_exits_ns,ratio,limit\n");
	for (unsigned i = 0; i < NEXIT_CHANNELS; i++) {
		const struct exit_line *line = &results->channels[i];

		fprintf(stream, "%s,%.1f,%.1f,%.4f,%.2f\n", channel_names[i], line->library,
			line->bare, line->ratio, most_with_channels);
	}
}

/* SPDX-License-Identifier: MIT */
/* What `kvmas-bench exit` finds out, what it must be, and how it is told. See exit.c. */
#ifndef EXIT_H
#define EXIT_H

#include <stdio.h>

enum exit_access {
	EXIT_MMIO_READ,
	EXIT_MMIO_WRITE,
	EXIT_PORT_READ,
	EXIT_PORT_WRITE,
	NEXIT_ACCESSES,
};

enum exit_channel {
	EXIT_EVENT_MMIO,
	EXIT_EVENT_PORT,
	EXIT_ZONE_MMIO,
	EXIT_ZONE_PORT,
	NEXIT_CHANNELS,
};

/* Nanoseconds of one round trip, and how many times as long it takes through the library. With
 * channels: of one write, as against one that is an exit which the library answers. */
struct exit_line {
	double library, bare, ratio;
};

struct exit_results {
	unsigned rounds;
	struct exit_line lines[NEXIT_ACCESSES];
	struct exit_line channels[NEXIT_CHANNELS];
};

void exit_print_table(FILE *stream, const struct exit_results *results);
void exit_print_csv(FILE *stream, const struct exit_results *results);

/* Print each limit that does not hold, and how many there were; tell how many do not hold. */
unsigned exit_check(FILE *stream, const struct exit_results *results);

#endif

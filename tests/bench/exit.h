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

/* Nanoseconds of one round trip, and how many times as long it takes through the library. */
struct exit_line {
	double library, bare, ratio;
};

struct exit_results {
	unsigned rounds;
	struct exit_line lines[NEXIT_ACCESSES];
};

void exit_print_table(FILE *stream, const struct exit_results *results);
void exit_print_csv(FILE *stream, const struct exit_results *results);

/* Print each limit that does not hold, and how many there were; tell how many do not hold. */
unsigned exit_check(FILE *stream, const struct exit_results *results);

#endif

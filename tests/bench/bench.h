/* SPDX-License-Identifier: MIT */
/* kvmas-bench: what its subcommands are, and how all of them end. See main.c, and bench.c. */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>

/* The program's exit status; a failure of the bench itself ends it at once, by bench_must. */
enum {
	BENCH_OK = 0,
	BENCH_BROKEN = 1, /* a limit does not hold */
	BENCH_FAILED =
		2, /* nothing can be said: wrong arguments, or what ran is not what was meant */
	BENCH_SKIPPED = 77, /* what it needs is not here */
};

/* A subcommand: argv[0] is its name. */
int bench_commit(int argc, char **argv);
int bench_slots(int argc, char **argv);
int bench_dirty(int argc, char **argv);
int bench_lookup(int argc, char **argv);
int bench_exit(int argc, char **argv);

/* A negative errno ends the program with a message. */
void bench_must(int err, const char *what);
#define must(call) bench_must(call, #call)

/* So does a condition that does not hold. */
#define bench_expect(condition) bench_must((condition) ? 0 : -EPROTO, #condition)

#endif

/* SPDX-License-Identifier: MIT */
/* What the command line says. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <kvmas.h>
#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_MAX_BOUNDARIES 64

/* What --check verifies at the end of the run. */
enum check {
	CHECK_NONE,
	CHECK_OWN,
	CHECK_SEABIOS,
};

/* A fault put into the machine on purpose: --check must find each of them. */
enum plant {
	PLANT_NONE,
	PLANT_NO_SMRAM,   /* space 1 shows the bus in place of SMRAM */
	PLANT_OPEN_SMRAM, /* space 0 shows SMRAM always */
	PLANT_NO_LOCK,    /* D_LCK has no effect */
};

struct options {
	const char *firmware; /* "own", "seabios" or a path */
	uint64_t memory;      /* bytes */
	const char *until;    /* NULL: none */
	unsigned timeout;     /* seconds; 0: none */
	unsigned watch;       /* seconds; 0: dirty pages are not counted */
	enum kvmas_kvm_log log;
	bool no_smm;
	bool no_channels;
	bool trace_slots;
	bool dump;
	bool stats;
	bool probe;
	enum check check;
	enum plant plant;
	enum kvmas_merge merge;
	uint64_t boundaries[OPTIONS_MAX_BOUNDARIES]; /* page-aligned, not 0; any order */
	unsigned nboundaries;
};

/* What the caller has to do after options_parse. */
enum options_result {
	OPTIONS_RUN,
	OPTIONS_HELPED, /* --help was asked for and printed: end well */
	OPTIONS_BAD,    /* one line is on stderr: end with 1 */
};

enum options_result options_parse(struct options *options, int argc, char **argv);

#endif

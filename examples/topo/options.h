/* SPDX-License-Identifier: MIT */
/* What the command line says. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "print.h"

struct options {
	void (*print)(FILE *stream, const struct topo *topo, const struct flat *flat);
	char **files; /* at least one; "-" at most once */
	int nfiles;
	uint64_t max_ranges; /* 0: the library's, as is max_nodes */
	uint64_t max_nodes;
	struct topo_limits limits;
};

/* What the caller has to do after options_parse. */
enum options_result {
	OPTIONS_RUN,
	OPTIONS_HELPED, /* --help was asked for and printed: end well */
	OPTIONS_BAD,    /* one line is on stderr: end with 2 */
};

enum options_result options_parse(struct options *options, int argc, char **argv);

#endif

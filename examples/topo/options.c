/* SPDX-License-Identifier: MIT */
/*
 * The command line: from strings to a struct options.
 *
 * Read options_parse first.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_REGIONS 1048576
#define DEFAULT_MAX_SPACES 1024

static const char help[] =
	"Usage: kvmas-topo [OPTION]... flat|tree|json FILE.topo\n"
	"       kvmas-topo [OPTION]... replay FILE.topo...\n"
	"Build the regions and address spaces that a .topo file describes with libkvmas, and\n"
	"print what each space sees. FILE - is the standard input.\n"
	"\n"
	"  flat    the views, in the .flat format\n"
	"  tree    the trees and the views, for people\n"
	"  json    the same, for programs\n"
	"  replay  load the first file, reach each next one by changing what is there, a\n"
	"          transaction for each, and print every step as flat does\n"
	"\n"
	"  --max-regions N  refuse files of more regions (default 1048576)\n"
	"  --max-spaces N   refuse files of more address spaces (default 1024)\n"
	"  --max-ranges N   refuse views of more ranges (default: the library's)\n"
	"  --max-nodes N    refuse to visit more regions for one view (default: the library's)\n"
	"  --help           print this\n"
	"\n"
	"Status: 0; 1 if a file is bad or refused, with a line FILE:LINE: WHAT on stderr; 2 if\n"
	"the command line is.\n";

static const struct command {
	const char *word;
	void (*print)(FILE *stream, const struct topo *topo, const struct flat *flat);
	bool several; /* takes more than one file */
} commands[] = {
	{"flat", print_flat, false},
	{"replay", print_flat, true},
	{"tree", print_tree, false},
	{"json", print_json, false},
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

__attribute__((format(printf, 1, 2))) static enum options_result bad(const char *format, ...)
{
	va_list args;

	fputs("kvmas-topo: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("; see --help\n", stderr);
	return OPTIONS_BAD;
}

enum { HELP = 1, MAX_REGIONS, MAX_SPACES, MAX_RANGES, MAX_NODES };

static const struct option long_options[] = {
	{"help", no_argument, NULL, HELP},
	{"max-regions", required_argument, NULL, MAX_REGIONS},
	{"max-spaces", required_argument, NULL, MAX_SPACES},
	{"max-ranges", required_argument, NULL, MAX_RANGES},
	{"max-nodes", required_argument, NULL, MAX_NODES},
	{NULL, 0, NULL, 0},
};

/* A number of at least 1: the library takes 0 for its own default. */
static int parse_cap(const char *arg, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)*arg))
		return -EINVAL;
	errno = 0;
	*ret = strtoull(arg, &end, 10);
	return errno || *end || !*ret ? -EINVAL : 0;
}

static enum options_result parse_options(struct options *options, int argc, char **argv)
{
	uint64_t *const caps[] = {
		[MAX_REGIONS] = &options->limits.max_regions,
		[MAX_SPACES] = &options->limits.max_spaces,
		[MAX_RANGES] = &options->max_ranges,
		[MAX_NODES] = &options->max_nodes,
	};
	int found;

	opterr = 0;
	while ((found = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		/* There are no short options: of one, getopt gives the letter. */
		if (found == ':')
			return bad("%s needs a value", argv[optind - 1]);
		if (found == '?' && isprint(optopt))
			return bad("-%c: no such option", optopt);
		if (found == '?')
			return bad("%s: no such option", argv[optind - 1]);
		if (found == HELP) {
			fputs(help, stdout);
			return OPTIONS_HELPED;
		}
		if (parse_cap(optarg, caps[found]))
			return bad("%s: give a number from 1 to 2^64 - 1", optarg);
	}
	return OPTIONS_RUN;
}

static enum options_result parse_command(struct options *options, int argc, char **argv)
{
	const struct command *command = commands;
	bool stdin_named = false;

	if (argc == 0)
		return bad("say what to do: flat, tree, json or replay");
	while (strcmp(command->word, argv[0]) != 0)
		if (++command == commands + NCOMMANDS)
			return bad("%s: no such command", argv[0]);
	if (argc == 1)
		return bad("%s: which file?", argv[0]);
	if (argc > 2 && !command->several)
		return bad("%s takes one file", argv[0]);
	options->print = command->print;
	options->files = argv + 1;
	options->nfiles = argc - 1;
	for (int i = 0; i < options->nfiles; i++) {
		if (strcmp(options->files[i], "-") != 0)
			continue;
		if (stdin_named)
			return bad("the standard input can be read once only");
		stdin_named = true;
	}
	return OPTIONS_RUN;
}

enum options_result options_parse(struct options *options, int argc, char **argv)
{
	enum options_result result;

	*options = (struct options){
		.limits = {.max_regions = DEFAULT_MAX_REGIONS, .max_spaces = DEFAULT_MAX_SPACES},
	};
	result = parse_options(options, argc, argv);
	if (result != OPTIONS_RUN)
		return result;
	return parse_command(options, argc - optind, argv + optind);
}

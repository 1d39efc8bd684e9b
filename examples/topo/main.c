/* SPDX-License-Identifier: MIT */
/*
 * kvmas-topo: shows what libkvmas makes of a machine that a .topo file describes. It is also an
 * example of the library without KVM:
 *
 *     options.c  the command line
 *     parse.c    a file, read by line.c into a topo.c
 *     live.c     the library's regions and spaces, brought to a file's state, step by step
 *     flat.c     the views, taken down
 *     print.c    ... and printed; json.c for programs
 *
 * All files are read before the first step is taken, and a step is printed once it is there: of a
 * bad file nothing is printed.
 *
 * Read run first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

/* Files that were read, for the whole run. */
struct series {
	struct topo **topos;
	size_t n;
};

static int complain(const char *file, const struct fault *fault)
{
	if (fault->line)
		fprintf(stderr, "%s:%lu: %s\n", file, fault->line, fault->what);
	else
		fprintf(stderr, "%s: %s\n", file, fault->what);
	return -EINVAL;
}

static int read_file(const char *file, const struct topo_limits *limits, struct topo **ret)
{
	bool standard = !strcmp(file, "-");
	FILE *stream = standard ? stdin : fopen(file, "re");
	struct fault fault = {0};
	int err;

	if (!stream) {
		fault_set(&fault, 0, -errno, "%s", strerror(errno));
		return complain(file, &fault);
	}
	err = topo_read(stream, limits, ret, &fault);
	if (!standard)
		fclose(stream);
	return err ? complain(file, &fault) : 0;
}

static int read_series(struct series *series, const struct options *options)
{
	struct fault fault = {0};
	int err;

	series->topos = calloc((size_t)options->nfiles, sizeof(struct topo *));
	while (series->topos && series->n < (size_t)options->nfiles) {
		err = read_file(options->files[series->n], &options->limits,
				&series->topos[series->n]);
		if (err)
			return err;
		series->n++;
	}
	if (series->topos && !topo_find_switching(series->topos, series->n))
		return 0;
	fault_set(&fault, 0, -ENOMEM, "no memory");
	return complain(options->files[0], &fault);
}

static void free_series(struct series *series)
{
	for (size_t i = 0; i < series->n; i++)
		topo_free(series->topos[i]);
	free(series->topos);
}

static int take_step(struct live *live, struct topo *topo, const struct options *options,
		     struct fault *fault)
{
	struct flat flat;
	int err = live_step(live, topo, fault);

	if (err)
		return err;
	err = flat_take(&flat, live);
	if (err)
		fault_set(fault, 0, err, "%s", strerror(-err));
	else
		options->print(stdout, topo, &flat);
	flat_fini(&flat);
	return err;
}

static int take_steps(const struct series *series, const struct options *options)
{
	struct fault fault = {0};
	const char *file = options->files[0];
	struct live live;
	int err = live_init(&live, options->limits.max_regions, options->max_ranges,
			    options->max_nodes);

	if (err)
		fault_set(&fault, 0, err, "%s", strerror(-err));
	for (size_t i = 0; !err && i < series->n; i++) {
		file = options->files[i];
		err = take_step(&live, series->topos[i], options, &fault);
	}
	live_fini(&live);
	return err ? complain(file, &fault) : 0;
}

static int run(const struct options *options)
{
	struct series series = {0};
	int err = read_series(&series, options);

	if (!err)
		err = take_steps(&series, options);
	free_series(&series);
	return err;
}

/* What was printed may still be in the stream's buffer: a full disk shows here at the latest. */
static int end_output(void)
{
	if (!ferror(stdout) && !fclose(stdout))
		return 0;
	fprintf(stderr, "kvmas-topo: cannot print: %s\n", strerror(errno));
	return -EIO;
}

int main(int argc, char **argv)
{
	struct options options;

	switch (options_parse(&options, argc, argv)) {
	case OPTIONS_HELPED:
		return end_output() ? EXIT_FAILURE : EXIT_SUCCESS;
	case OPTIONS_BAD:
		return 2;
	case OPTIONS_RUN:
		break;
	}
	return run(&options) || end_output() ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/*
 * The check of arbitrary bytes. They are cut behind each line `end`; as many pieces as are good
 * files make a series, up to the first bad one. After each step of the live tree
 *
 *     C1  its views are those that the painter has (paint.c);
 *     C2  they are those of a tree that was built from this file alone;
 *     C3  a step is refused as a loop if and only if the painter finds one in the file, by both
 *         trees: in whatever order the library came to know what makes it one.
 *
 * Caps are small, so that what is hostile is refused before it takes long: then nothing is
 * compared.
 *
 * Read check_bytes first.
 */
#include "check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "paint.h"

#define MAX_STEPS 16
#define MAX_REGIONS 1024
#define MAX_SPACES 64
#define MAX_RANGES 2048
#define MAX_NODES 20000

struct pieces {
	const uint8_t *start[MAX_STEPS];
	size_t size[MAX_STEPS];
	size_t n;
};

__attribute__((format(printf, 2, 3), noreturn)) static void die(size_t step, const char *format,
								...)
{
	va_list args;

	fprintf(stderr, "step %zu: ", step);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

static void cut(struct pieces *pieces, const uint8_t *bytes, size_t size)
{
	static const char end[] = "\nend\n";
	const size_t length = sizeof(end) - 1;

	while (size && pieces->n < MAX_STEPS) {
		const uint8_t *found = memmem(bytes, size, end, length);
		size_t piece = found ? (size_t)(found - bytes) + length : size;

		pieces->start[pieces->n] = bytes;
		pieces->size[pieces->n++] = piece;
		bytes += piece;
		size -= piece;
	}
}

static struct topo *read_piece(const struct pieces *pieces, size_t i)
{
	const struct topo_limits limits = {.max_regions = MAX_REGIONS, .max_spaces = MAX_SPACES};
	struct fault fault = {0};
	struct topo *topo = NULL;
	/* The stream is only read, which fmemopen cannot be told. */
	FILE *stream = fmemopen((void *)(uintptr_t)pieces->start[i], pieces->size[i], "r");
	int err;

	if (!stream)
		return NULL;
	err = topo_read(stream, &limits, &topo, &fault);
	fclose(stream);
	if ((err != 0) != (fault.what[0] != '\0') || (err != 0) != !topo)
		die(i, "a fault without a sentence, or a sentence without a fault");
	return topo;
}

static void start(struct live *live)
{
	if (live_init(live, MAX_REGIONS, MAX_RANGES, MAX_NODES))
		die(0, "cannot begin");
}

static void take(struct flat *flat, const struct live *live, size_t step)
{
	if (flat_take(flat, live))
		die(step, "cannot take the views down");
}

/* Ranges are compared by id: the two sides may have read the file each for itself. */
static void compare(const struct flat_view *have, const struct flat_view *want, size_t step,
		    uint32_t space)
{
	if (have->count != want->count)
		die(step, "space %" PRIu32 " has %zu ranges, should have %zu", space, have->count,
		    want->count);
	for (size_t i = 0; i < have->count; i++) {
		const struct flat_range *a = &have->ranges[i];
		const struct flat_range *b = &want->ranges[i];

		if (a->first != b->first || a->last != b->last || a->kind != b->kind ||
		    a->nonvolatile != b->nonvolatile || a->region->id != b->region->id ||
		    a->offset != b->offset)
			die(step, "space %" PRIu32 ": %" PRIx64 " to %" PRIx64 " is not as painted",
			    space, b->first, b->last);
	}
}

static void compare_with_painted(const struct topo *topo, const struct flat *flat, size_t step,
				 struct check_result *result)
{
	const struct topo_space *space;
	struct flat_view painted;
	size_t i = 0;
	int err;

	TAILQ_FOREACH(space, &topo->spaces, all) {
		const struct flat_view *have = &flat->views[flat->view_of[i++]];

		err = paint_space(space, &painted);
		if (err == -ELOOP)
			die(step, "a region inside itself was accepted");
		if (err)
			continue;
		compare(have, &painted, step, space->id);
		result->ranges += (unsigned)have->count;
		result->painted++;
		free(painted.ranges);
	}
}

static void compare_with_fresh(const struct topo *topo, const struct flat *flat,
			       const struct flat *fresh, size_t step)
{
	const struct topo_space *space;
	size_t i = 0;

	TAILQ_FOREACH(space, &topo->spaces, all) {
		if (flat->view_of[i] != fresh->view_of[i])
			die(step, "views are numbered otherwise than in a fresh tree");
		compare(&flat->views[flat->view_of[i]], &fresh->views[fresh->view_of[i]], step,
			space->id);
		i++;
	}
}

static void check_loop(const struct topo *topo, int err, size_t step)
{
	int loop = paint_find_loop(topo);

	if (loop == -E2BIG || (err && err != -ELOOP))
		return;
	if (loop != err)
		die(step, err ? "refused as a loop, but there is none" : "a loop was accepted");
}

/* What a tree that is built from this file alone says of it must be what the live tree said, but
 * for the caps: those are on what one commit does. */
static void check_fresh(struct topo *topo, int err, const struct flat *flat, size_t step)
{
	struct fault fault = {0};
	struct flat fresh;
	struct live live;
	int fresh_err;

	start(&live);
	fresh_err = live_step(&live, topo, &fault);
	check_loop(topo, fresh_err, step);
	if (fresh_err != err && err != -E2BIG && fresh_err != -E2BIG)
		die(step, "error %d, in a fresh tree %d", err, fresh_err);
	if (!err && !fresh_err) {
		take(&fresh, &live, step);
		compare_with_fresh(topo, flat, &fresh, step);
		flat_fini(&fresh);
	}
	live_fini(&live);
}

static int check_step(struct live *live, struct topo *topo, struct topo *again, size_t step,
		      struct check_result *result)
{
	struct fault fault = {0};
	struct flat flat = {0};
	int err = live_step(live, topo, &fault);

	if ((err != 0) != (fault.what[0] != '\0'))
		die(step, "a fault without a sentence, or a sentence without a fault");
	check_loop(topo, err, step);
	if (!err) {
		result->steps++;
		take(&flat, live, step);
		compare_with_painted(topo, &flat, step, result);
	}
	check_fresh(again, err, &flat, step);
	flat_fini(&flat);
	return err;
}

struct check_result check_bytes(const uint8_t *bytes, size_t size)
{
	struct check_result result = {0};
	struct pieces pieces = {0};
	struct topo *topos[MAX_STEPS] = {NULL};
	struct topo *again[MAX_STEPS] = {NULL};
	struct live live;
	size_t n = 0;

	cut(&pieces, bytes, size);
	while (n < pieces.n && (topos[n] = read_piece(&pieces, n))) {
		again[n] = read_piece(&pieces, n);
		n++;
	}
	if (topo_find_switching(topos, n) || topo_find_switching(again, n))
		die(0, "no memory");
	start(&live);
	for (size_t i = 0; i < n; i++)
		if (check_step(&live, topos[i], again[i], i, &result))
			break;
	live_fini(&live);
	for (size_t i = 0; i < n; i++) {
		topo_free(topos[i]);
		topo_free(again[i]);
	}
	return result;
}

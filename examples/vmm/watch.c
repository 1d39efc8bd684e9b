/* SPDX-License-Identifier: MIT */
/*
 * --watch-dirty: how many pages the guest writes, told every few seconds and at the end, by space
 * and by client.
 *
 * Three clients, or two without SMM. Each has a bitmap of its own, and what any space's sync finds
 * is in all of them:
 *
 *   watch     takes once at each time, after all spaces were synced: pages, however often and
 *             through whatever space they were written
 *   system    takes what others have brought, then has its own space synced and takes again: what
 *   smm       comes by that was written through this space
 *
 * What a commit read of the log of a slot that it took away, and what the library wrote itself, was
 * found by no sync: it is told by client alone.
 *
 * With dirty rings one sync serves all spaces, so that the last two cannot tell spaces apart, and
 * are not there.
 *
 * All is done by the vCPU's own thread between two KVM_RUNs, at a tick (vcpu.c). So what was
 * written is complete each time.
 *
 * Read watch_tell first.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine.h"

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int add_watcher(struct machine *machine, const char *name, struct kvmas_space *space)
{
	struct watch *watch = &machine->watch;
	struct watcher *watcher = &watch->watchers[watch->nwatchers];
	int rc = kvmas_client_new(machine->kvmas, name, &watcher->client);

	if (rc)
		return rc;
	watcher->name = name;
	watcher->space = space;
	watch->nwatchers++;
	return kvmas_client_log_start(watcher->client, NULL, space);
}

static int add_watchers(struct machine *machine)
{
	int rc = add_watcher(machine, "watch", NULL);

	if (machine->options->log == KVMAS_KVM_LOG_RING)
		return rc;
	if (!rc)
		rc = add_watcher(machine, "system", machine->system);
	if (!rc && machine->smm)
		rc = add_watcher(machine, "smm", machine->smm);
	return rc;
}

int watch_new(struct machine *machine)
{
	struct watch *watch = &machine->watch;
	unsigned seconds = machine->options->watch;
	int rc = -ENOMEM;

	if (!seconds)
		return 0;
	watch->npages = kvmas_ram_get_size(machine->ram) / 4096;
	watch->bitmap = calloc((watch->npages + 63) / 64, sizeof(uint64_t));
	if (watch->bitmap)
		rc = add_watchers(machine);
	watch->start = watch->last = now();
	watch->next = watch->start + seconds;
	if (rc)
		complain("cannot watch dirty pages: %s; leave --watch-dirty out", strerror(-rc));
	return rc;
}

void watch_free(struct machine *machine)
{
	struct watch *watch = &machine->watch;

	for (unsigned i = 0; i < watch->nwatchers; i++)
		kvmas_client_unref(watch->watchers[i].client);
	free(watch->bitmap);
}

/* ---- what was written ---- */

/* How many pages this client had to hear of; the first error is kept. */
static uint64_t take(struct machine *machine, const struct watcher *watcher)
{
	struct watch *watch = &machine->watch;
	int64_t count =
		kvmas_client_take(watcher->client, machine->ram, 0, watch->npages, watch->bitmap);

	if (count < 0 && !watch->error)
		watch->error = (int)count;
	return count < 0 ? 0 : (uint64_t)count;
}

static void sync_space(struct watch *watch, struct kvmas_space *space)
{
	int rc = space ? kvmas_space_sync(space, 0, KVMAS_SIZE_MAX) : 0;

	if (rc && !watch->error)
		watch->error = rc;
}

static void count_pages(struct machine *machine)
{
	struct watch *watch = &machine->watch;

	for (unsigned i = 1; i < watch->nwatchers; i++) {
		struct watcher *watcher = &watch->watchers[i];

		watcher->pages = take(machine, watcher);
		sync_space(watch, watcher->space);
		watcher->own_pages = take(machine, watcher);
		watcher->pages += watcher->own_pages;
	}
	if (watch->nwatchers == 1)
		sync_space(watch, machine->system);
	watch->watchers[0].pages = take(machine, &watch->watchers[0]);
	for (unsigned i = 0; i < watch->nwatchers; i++) {
		watch->watchers[i].total += watch->watchers[i].pages;
		watch->watchers[i].own_total += watch->watchers[i].own_pages;
	}
}

static void print_pages(const char *when, const char *what, const char *name, uint64_t pages,
			double seconds)
{
	output_line("dirty %s %s %s pages=%" PRIu64 " per-second=%.0f", when, what, name, pages,
		    seconds > 0 ? (double)pages / seconds : 0);
}

static void print_all(const struct watch *watch, const char *when, bool totals, double seconds)
{
	for (unsigned i = 1; i < watch->nwatchers; i++) {
		const struct watcher *watcher = &watch->watchers[i];

		print_pages(when, "space", watcher->name,
			    totals ? watcher->own_total : watcher->own_pages, seconds);
	}
	for (unsigned i = 0; i < watch->nwatchers; i++) {
		const struct watcher *watcher = &watch->watchers[i];

		print_pages(when, "client", watcher->name, totals ? watcher->total : watcher->pages,
			    seconds);
	}
}

static void tell(struct machine *machine, bool is_last)
{
	struct watch *watch = &machine->watch;
	double then = watch->last;
	char when[32];

	count_pages(machine);
	watch->last = now();
	snprintf(when, sizeof(when), "at=%.1f", watch->last - watch->start);
	print_all(watch, is_last ? "total" : when, is_last,
		  watch->last - (is_last ? watch->start : then));
}

void watch_tell(struct machine *machine)
{
	struct watch *watch = &machine->watch;

	if (!machine->options->watch || now() < watch->next)
		return;
	watch->next += machine->options->watch;
	tell(machine, false);
}

int watch_end(struct machine *machine)
{
	struct watch *watch = &machine->watch;

	if (!machine->options->watch)
		return 0;
	tell(machine, true);
	if (watch->error)
		complain("dirty pages could not all be told: %s", strerror(-watch->error));
	return watch->error;
}

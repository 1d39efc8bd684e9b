/* SPDX-License-Identifier: MIT */
/*
 * Logs outside the library that tell of a dirty page, and then no more of it until they are armed
 * again: KVM's under manual protection, one for each logged slot. They are kept by the block whose
 * pages they tell of: who takes pages of it, through whatever kvmas, has them armed before it reads
 * the pages.
 *
 *     reading   lock, read the log, OR it into the clients' bitmaps, note what is to be armed
 *     taking    fetch and clear the client's bits; lock, arm what is noted; read the pages
 *
 * Two clients take a page that was told once, A first. A arms it. B finds nothing noted, and must
 * not read the page before A's arming has really happened, else what is written between would be
 * told to A alone: so arming is done under the lock, and B takes it even if nothing is noted any
 * more. A client that comes when A was told is not told at all, and may read the page before A
 * takes it: so all is armed when a client gets its bitmap. And a log is read, and its pages noted,
 * under the same lock: what was armed after it was read would be noted again otherwise, and be
 * armed once more when it has told nothing.
 *
 * Invariants, under the lock:
 *   I1  at[0 ... count) are those that are attached, by first page.
 *   I2  capacity is at least known: attaching allocates nothing, so that it can happen while KVM's
 *       slots change.
 *
 * Cost: taking costs the sources that begin less than `longest` pages before what was taken, and
 * not behind it; one atomic load if there are none.
 */
#include "sources.h"

#include <errno.h>
#include <string.h>

#define BITS 64

void kas_sources_init(struct sources *sources, struct kvmas *home)
{
	sources->home = home;
	pthread_mutex_init(&sources->lock, NULL);
	atomic_init(&sources->count, 0);
}

void kas_sources_fini(struct sources *sources)
{
	pthread_mutex_destroy(&sources->lock);
	kas_free(sources->home, sources->at);
}

int kas_source_add(struct sources *sources, struct source *source)
{
	void *grown;

	pthread_mutex_lock(&sources->lock);
	grown = kas_grow(sources->home, sources->at, sources->known, &sources->capacity,
			 sizeof(struct source *));
	if (grown) {
		sources->at = grown;
		sources->known++;
	}
	pthread_mutex_unlock(&sources->lock);
	source->attached = false;
	return grown ? 0 : -ENOMEM;
}

void kas_source_del(struct sources *sources, struct source *source)
{
	kas_source_detach(sources, source);
	pthread_mutex_lock(&sources->lock);
	sources->known--;
	pthread_mutex_unlock(&sources->lock);
}

/* The index of the first source that begins at *page* or behind it. */
static size_t seek(const struct sources *sources, uint64_t page)
{
	size_t low = 0, high = atomic_load(&sources->count);

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sources->at[middle]->first < page)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void kas_source_attach(struct sources *sources, struct source *source)
{
	size_t count, index;

	pthread_mutex_lock(&sources->lock);
	if (!source->attached) {
		count = atomic_load(&sources->count);
		index = seek(sources, source->first);
		memmove(&sources->at[index + 1], &sources->at[index],
			(count - index) * sizeof(struct source *));
		sources->at[index] = source;
		if (count == 0 || source->npages > sources->longest)
			sources->longest = source->npages;
		source->attached = true;
		atomic_store(&sources->count, count + 1);
	}
	pthread_mutex_unlock(&sources->lock);
}

void kas_source_detach(struct sources *sources, struct source *source)
{
	size_t count, index;

	pthread_mutex_lock(&sources->lock);
	if (source->attached) {
		count = atomic_load(&sources->count);
		index = seek(sources, source->first);
		while (sources->at[index] != source)
			index++;
		memmove(&sources->at[index], &sources->at[index + 1],
			(count - index - 1) * sizeof(struct source *));
		source->attached = false;
		atomic_store(&sources->count, count - 1);
	}
	pthread_mutex_unlock(&sources->lock);
}

/* Have those armed that overlap the pages first ... last. */
static int clear_between(struct sources *sources, uint64_t first, uint64_t last)
{
	uint64_t reach = sources->longest;
	size_t index = seek(sources, first < reach ? 0 : first - reach);
	int err = 0;

	for (; index < atomic_load(&sources->count); index++) {
		struct source *source = sources->at[index];
		uint64_t from = first > source->first ? first : source->first;
		uint64_t end = source->first + source->npages;
		int result;

		if (source->first > last)
			break;
		if (end > last)
			end = last + 1;
		result = from < end ? source->clear(source, from, end - from) : 0;
		if (result && !err)
			err = result;
	}
	return err;
}

int kas_sources_clear(struct sources *sources, uint64_t first, uint64_t npages,
		      const uint64_t *words)
{
	size_t begin = 0, end = (size_t)((npages + BITS - 1) / BITS);
	uint64_t last = first + npages - 1;
	int err;

	if (atomic_load(&sources->count) == 0)
		return 0;
	while (begin < end && !words[begin])
		begin++;
	while (begin < end && !words[end - 1])
		end--;
	if (begin == end)
		return 0;
	if (first + end * BITS - 1 < last)
		last = first + end * BITS - 1;
	pthread_mutex_lock(&sources->lock);
	err = clear_between(sources, first + begin * BITS, last);
	pthread_mutex_unlock(&sources->lock);
	return err;
}

int kas_sources_clear_all(struct sources *sources)
{
	int err;

	if (atomic_load(&sources->count) == 0)
		return 0;
	pthread_mutex_lock(&sources->lock);
	err = clear_between(sources, 0, UINT64_MAX - 1);
	pthread_mutex_unlock(&sources->lock);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * Harvesting: see shadow.h. Read harvest first.
 *
 * A page is copied while the guest writes to it. That is no fault: whoever copies it so finds its
 * bit set again.
 */
#include "shadow.h"

#include <stdio.h>
#include <time.h>

enum { WORD = 64 };

static uint32_t chance(struct shadow *shadow, uint32_t n)
{
	return (uint32_t)rand_r(&shadow->seed) % n;
}

/* Its size may change: what is there beyond is mapped all the same. */
static uint32_t npages_of(const struct shadow *shadow)
{
	return (uint32_t)(kvmas_ram_get_max_size(shadow->g->ram) / PAGE);
}

static void keep(struct shadow *shadow, int64_t result)
{
	int none = 0;

	if (result < 0)
		atomic_compare_exchange_strong(&shadow->result, &none, (int)result);
}

/* By words that the library, which answers exits, may be writing. */
static void copy_pages(struct shadow *shadow, uint64_t first, uint64_t npages)
{
	const uint64_t *from = (const uint64_t *)(shadow->g->bytes + first * PAGE);
	uint64_t *to = (uint64_t *)(shadow->bytes + first * PAGE);

	for (size_t i = 0; i < npages * PAGE / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	shadow->copied += npages;
}

void shadow_copy_all(struct shadow *shadow)
{
	copy_pages(shadow, 0, npages_of(shadow));
}

/* ---- what is logged ---- */

static int change_wish(struct shadow *shadow, bool on, struct kvmas_region *region,
		       struct kvmas_space *space)
{
	return on ? kvmas_client_log_start(shadow->client, region, space)
		  : kvmas_client_log_stop(shadow->client, region, space);
}

int shadow_log(struct shadow *shadow, bool on)
{
	struct guest *g = shadow->g;
	int err = 0;

	if (shadow->form == SHADOW_ALL)
		return change_wish(shadow, on, NULL, NULL);
	if (shadow->form == SHADOW_BY_REGION)
		return change_wish(shadow, on, g->memory, NULL);
	for (unsigned i = 0; i < g->nspaces && !err; i++)
		err = change_wish(shadow, on, NULL, g->space[i]);
	return err;
}

/* ---- a harvest ---- */

/* Some part, often all. */
static void choose_part(struct shadow *shadow, uint64_t whole, uint64_t *start, uint64_t *size)
{
	*start = chance(shadow, 3) ? 0 : chance(shadow, (uint32_t)whole);
	*size = chance(shadow, 3) ? whole - *start : chance(shadow, (uint32_t)(whole - *start));
}

static int sync_some(struct shadow *shadow)
{
	struct guest *g = shadow->g;
	uint64_t start, size;

	choose_part(shadow, shadow->whole, &start, &size);
	/* Nothing is no part. */
	size += !size;
	switch (chance(shadow, 8)) {
	case 0:
		return 0;
	case 1:
		return guest_sync(g, chance(shadow, g->nspaces), start, size);
	case 2:
		return guest_sync_memory(g, start, size);
	default:
		return guest_sync_all(g);
	}
}

static bool is_taken(const struct shadow *shadow, uint64_t i)
{
	return shadow->bits[i / WORD] >> i % WORD & 1;
}

static void copy_taken(struct shadow *shadow, uint64_t first, uint64_t npages)
{
	for (uint64_t i = 0; i < npages; i++) {
		if (is_taken(shadow, i))
			copy_pages(shadow, first + i, 1);
	}
}

static int64_t put_back(struct shadow *shadow, uint64_t first, uint64_t npages)
{
	shadow->put_back++;
	return kvmas_client_put(shadow->client, shadow->g->ram, first, npages, shadow->bits);
}

/* The first words are dealt with, all behind is put back. */
static int64_t put_rest_back(struct shadow *shadow, uint64_t first, uint64_t npages)
{
	uint64_t done = (npages / 2) / WORD * WORD;

	copy_taken(shadow, first, done);
	shadow->put_back++;
	return kvmas_client_put(shadow->client, shadow->g->ram, first + done, npages - done,
				shadow->bits + done / WORD);
}

static int64_t take_bits(struct shadow *shadow)
{
	uint64_t first, npages;
	int64_t r;

	choose_part(shadow, npages_of(shadow), &first, &npages);
	npages += first % WORD;
	first -= first % WORD;
	r = kvmas_client_take(shadow->client, shadow->g->ram, first, npages, shadow->bits);
	if (r < 0)
		return r;
	switch (chance(shadow, 8)) {
	case 0:
		return put_back(shadow, first, npages);
	case 1:
		return put_rest_back(shadow, first, npages);
	default:
		copy_taken(shadow, first, npages);
		return r;
	}
}

/* Other blocks' pages are none of the copy. */
static int take_run(void *data, const struct kvmas_dirty_run *run)
{
	struct shadow *shadow = data;

	if (chance(shadow, 64) == 0) {
		shadow->broken_off++;
		return -ECANCELED;
	}
	if (run->ram == shadow->g->ram)
		copy_pages(shadow, run->ram_offset / PAGE, run->size / PAGE);
	return 0;
}

static int64_t take_some(struct shadow *shadow)
{
	struct guest *g = shadow->g;
	uint64_t start, size;
	int64_t r;

	choose_part(shadow, shadow->whole, &start, &size);
	switch (chance(shadow, 4)) {
	case 0:
		r = kvmas_client_take_region(shadow->client, g->memory, start, size, take_run,
					     shadow);
		break;
	case 1:
		r = kvmas_client_take_gpa(shadow->client, g->space[chance(shadow, g->nspaces)],
					  start, size, take_run, shadow);
		break;
	default:
		return take_bits(shadow);
	}
	return r == -ECANCELED ? 0 : r;
}

static void harvest(struct shadow *shadow)
{
	pthread_mutex_lock(&shadow->lock);
	keep(shadow, sync_some(shadow));
	keep(shadow, take_some(shadow));
	shadow->harvests++;
	pthread_mutex_unlock(&shadow->lock);
}

static void *shadow_main(void *arg)
{
	struct shadow *shadow = arg;

	while (!atomic_load(&shadow->stop) && !atomic_load(&shadow->result)) {
		harvest(shadow);
		nanosleep(&(const struct timespec){.tv_nsec = shadow->pause_ns}, NULL);
	}
	return NULL;
}

void shadow_start(struct shadow *shadow, long pause_ns)
{
	shadow->pause_ns = pause_ns;
	atomic_store(&shadow->stop, false);
	must(pthread_create(&shadow->thread, NULL, shadow_main, shadow));
	shadow->runs = true;
}

void shadow_stop(struct shadow *shadow)
{
	if (!shadow->runs)
		return;
	atomic_store(&shadow->stop, true);
	pthread_join(shadow->thread, NULL);
	shadow->runs = false;
}

/* ---- what is lost ---- */

static void describe(struct shadow *shadow, uint64_t page)
{
	const uint32_t *ram = (const uint32_t *)(shadow->g->bytes + page * PAGE);
	const uint32_t *copy = (const uint32_t *)(shadow->bytes + page * PAGE);
	unsigned i = 0;

	while (ram[i] == copy[i])
		i++;
	snprintf(shadow->lost, sizeof(shadow->lost),
		 "%s: page %llx of RAM, at 0x%x: 0x%x was written, and last harvested was 0x%x",
		 shadow->name, (unsigned long long)page, i * (unsigned)sizeof(*ram), ram[i],
		 copy[i]);
}

uint64_t shadow_count_lost(struct shadow *shadow)
{
	uint64_t npages = npages_of(shadow), lost = 0;
	uint64_t size = kvmas_ram_get_size(shadow->g->ram) / PAGE;
	int64_t r;

	pthread_mutex_lock(&shadow->lock);
	keep(shadow, guest_sync_all(shadow->g));
	r = kvmas_client_take(shadow->client, shadow->g->ram, 0, npages, shadow->bits);
	keep(shadow, r);
	if (r > 0)
		copy_taken(shadow, 0, npages);
	for (uint64_t page = 0; page < size; page++) {
		if (memcmp(shadow->g->bytes + page * PAGE, shadow->bytes + page * PAGE, PAGE) == 0)
			continue;
		if (!shadow->lost[0])
			describe(shadow, page);
		lost++;
	}
	pthread_mutex_unlock(&shadow->lock);
	return lost;
}

/* ---- making it ---- */

void shadow_init(struct shadow *shadow, struct guest *g, const char *name, unsigned seed)
{
	uint64_t npages = kvmas_ram_get_max_size(g->ram) / PAGE;

	*shadow = (struct shadow){.g = g, .name = name, .seed = seed};
	shadow->whole = kvmas_ram_get_size(g->ram);
	pthread_mutex_init(&shadow->lock, NULL);
	shadow->bytes = malloc(npages * PAGE);
	shadow->bits = calloc((npages + WORD - 1) / WORD, sizeof(uint64_t));
	assert_true(shadow->bytes && shadow->bits);
	must(kvmas_client_new(g->f->kvmas, name, &shadow->client));
	must(shadow_log(shadow, true));
	shadow_copy_all(shadow);
}

void shadow_fini(struct shadow *shadow)
{
	shadow_stop(shadow);
	kvmas_client_unref(shadow->client);
	pthread_mutex_destroy(&shadow->lock);
	free(shadow->bits);
	free(shadow->bytes);
}

/* SPDX-License-Identifier: MIT */
/*
 * Devices on threads of their own, each with pages of its own in one block, while another thread
 * moves that block, makes it readonly, takes it away and puts it back. They write, through maps
 * that live on across commits and through caches. What a device was told it has written is there in
 * the end, and just those pages were found dirty by then.
 */
#include "dma-fixture.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "region.h"

enum { NTHREADS = 3, NPAGES = 8, TIMES = 600, HOME = 0x100000 };

struct race {
	struct fixture *f;
	struct kvmas_space *space;
	struct kvmas_region *region; /* of NPAGES pages for each thread */
	atomic_bool stop;
	atomic_uint written; /* by all devices: accesses */
	atomic_uint failures;
};

struct device {
	struct race *race;
	struct kvmas_dma dma;
	unsigned index;
	uint64_t random;
	unsigned refused;
	unsigned char *shadow; /* of its pages: what was last written to each first byte */
	bool dirty[NPAGES];
	pthread_t thread;
};

static void expect(struct race *race, bool right)
{
	if (!right)
		atomic_fetch_add(&race->failures, 1);
}

static unsigned draw(struct device *d, unsigned below)
{
	d->random = d->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(d->random >> 33) % below;
}

static uint64_t page_of(const struct device *d, unsigned page)
{
	return HOME + (d->index * NPAGES + page) * page_size();
}

static void note_written(struct device *d, unsigned page, unsigned char byte)
{
	d->shadow[page] = byte;
	d->dirty[page] = true;
	atomic_fetch_add(&d->race->written, 1);
}

/* The block may be elsewhere, or readonly: then nothing is written, and that is told. */
static void write_page(struct device *d, unsigned page, unsigned char byte)
{
	size_t done;
	int err = kvmas_dma_write(&d->dma, page_of(d, page), &byte, 1, &done);

	expect(d->race, err == 0 || err == -ENXIO || err == -EROFS);
	expect(d->race, done == !err);
	if (!err)
		note_written(d, page, byte);
	d->refused += err != 0;
}

/* What is mapped stays so, whatever is committed until the map ends. */
static void map_pages(struct device *d, unsigned page, unsigned char byte)
{
	unsigned npages = NPAGES - page;
	struct kvmas_map *map;
	uint64_t done;
	int err = kvmas_dma_map(&d->dma, page_of(d, page), npages * page_size(), KVMAS_MAP_WRITE,
				&map);

	expect(d->race, err == 0 || err == -ENXIO || err == -EROFS);
	if (err) {
		d->refused++;
		return;
	}
	expect(d->race, map->niov == 1 && map->size == npages * page_size());
	sched_yield();
	for (unsigned i = 0; i < npages; i++) {
		unsigned char *bytes = map->iov[0].iov_base;

		bytes[i * page_size()] = byte;
		note_written(d, page + i, byte);
	}
	expect(d->race, kvmas_dma_unmap(&d->dma, map, map->size, &done) == 0);
	expect(d->race, done == npages * page_size());
}

static void write_through(struct device *d, struct kvmas_cache *cache, unsigned page,
			  unsigned char byte)
{
	const struct kvmas_view *view = kvmas_view_acquire(d->dma.reader, d->dma.space);
	void *hva;
	int err = kvmas_cache_get(cache, view, &hva);

	expect(d->race, err == 0 || err == -ENXIO || err == -EROFS);
	if (!err) {
		((unsigned char *)hva)[page * page_size()] = byte;
		expect(d->race, kvmas_cache_mark(cache, page * page_size(), 1) == 0);
		note_written(d, page, byte);
	}
	d->refused += err != 0;
	kvmas_view_release(d->dma.reader, view);
}

static void *run_device(void *data)
{
	struct device *d = data;
	struct kvmas_cache cache;

	kvmas_cache_init(&cache, page_of(d, 0), NPAGES * page_size(), true);
	while (!atomic_load(&d->race->stop)) {
		unsigned page = draw(d, NPAGES);
		unsigned char byte = (unsigned char)draw(d, 256);

		switch (draw(d, 3)) {
		case 0:
			write_page(d, page, byte);
			break;
		case 1:
			map_pages(d, page, byte);
			break;
		default:
			write_through(d, &cache, page, byte);
		}
		sched_yield();
	}
	return NULL;
}

static void set_up(struct fixture *f, struct race *race, struct device *devices)
{
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);

	*race = (struct race){.f = f};
	race->region = make_ram(f, "ram", NTHREADS * NPAGES * page_size());
	add(root, race->region, HOME, 0);
	race->space = make_space(f, "s", root);
	for (unsigned i = 0; i < NTHREADS; i++) {
		devices[i] = (struct device){
			.race = race, .index = i, .random = i, .dma.space = race->space};
		must(kvmas_reader_add(f->kvmas, &devices[i].dma.reader));
		devices[i].shadow = calloc(1, NPAGES);
		assert_non_null(devices[i].shadow);
	}
}

/* What devices see now and then: the block away, or not to be written. */
static void disturb(struct race *race, unsigned step)
{
	switch (step % 6) {
	case 0:
		must(kvmas_region_set_offset(race->region, 0));
		break;
	case 1:
		must(kvmas_region_set_offset(race->region, HOME));
		break;
	case 2:
		must(kvmas_region_set_readonly(race->region, true));
		break;
	case 3:
		must(kvmas_region_set_readonly(race->region, false));
		break;
	case 4:
		must(kvmas_region_set_enabled(race->region, false));
		break;
	default:
		must(kvmas_region_set_enabled(race->region, true));
	}
}

static void check_device(struct device *d, uint64_t dirty)
{
	const unsigned char *bytes = memory_of(d->race->region);

	for (unsigned i = 0; i < NPAGES; i++) {
		unsigned page = d->index * NPAGES + i;

		assert_int_equal(bytes[page * page_size()], d->shadow[i]);
		assert_int_equal(dirty >> page & 1, d->dirty[i]);
	}
	free(d->shadow);
	kvmas_reader_del(d->dma.reader);
}

static void devices_and_commits_lose_no_write(void **state)
{
	struct fixture *f = *state;
	struct device devices[NTHREADS];
	struct kvmas_client *client;
	struct race race;
	unsigned step = 0, refused = 0;
	uint64_t dirty = 0;

	set_up(f, &race, devices);
	must(kvmas_client_new(f->kvmas, "client", &client));
	for (unsigned i = 0; i < NTHREADS; i++)
		must(pthread_create(&devices[i].thread, NULL, run_device, &devices[i]));
	while (step < TIMES || atomic_load(&race.written) < TIMES) {
		disturb(&race, step++);
		dirty |= take_pages(client, block_of(race.region));
		sched_yield();
	}
	atomic_store(&race.stop, true);
	for (unsigned i = 0; i < NTHREADS; i++)
		must(pthread_join(devices[i].thread, NULL));
	dirty |= take_pages(client, block_of(race.region));
	assert_int_equal(atomic_load(&race.failures), 0);
	for (unsigned i = 0; i < NTHREADS; i++) {
		refused += devices[i].refused;
		check_device(&devices[i], dirty);
	}
	print_message("%u commits, %u pages written, %u accesses refused\n", step,
		      atomic_load(&race.written), refused);
	assert_true(refused > 0);
	kvmas_client_unref(client);
}

/* The last to hold a block is a map that is ended by a thread, in the middle of commits. */
static void count_end(void *data)
{
	atomic_fetch_add((atomic_uint *)data, 1);
}

static struct kvmas_region *make_passing(struct fixture *f, atomic_uint *ended)
{
	struct kvmas_region *region;
	struct kvmas_ram *ram;

	must(kvmas_ram_new(f->kvmas,
			   KVMAS_CONFIG(ram, .name = "passing", .size = page_size(),
					.destroy = count_end, .destroy_data = ended),
			   &ram));
	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "passing",
					   .size = page_size(), .ram = ram),
			      &region));
	kvmas_ram_unref(ram);
	return region;
}

static void *map_what_passes(void *data)
{
	struct device *d = data;

	while (!atomic_load(&d->race->stop)) {
		struct kvmas_map *map;
		int err = kvmas_dma_map(&d->dma, 0, page_size(), KVMAS_MAP_WRITE, &map);

		expect(d->race, err == 0 || err == -ENXIO);
		if (err)
			continue;
		sched_yield();
		memset(map->iov[0].iov_base, 'w', map->iov[0].iov_len);
		expect(d->race, kvmas_dma_unmap(&d->dma, map, 1, NULL) == 0);
		atomic_fetch_add(&d->race->written, 1);
	}
	return NULL;
}

static void map_keeps_a_block_that_a_commit_lets_go(void **state)
{
	struct fixture *f = *state;
	struct device devices[NTHREADS];
	struct kvmas_region *alias;
	struct race race;
	atomic_uint ended = 0;
	unsigned made = 0;

	set_up(f, &race, devices);
	alias = make_alias(f, "alias", race.region, 0, page_size());
	for (unsigned i = 0; i < NTHREADS; i++)
		devices[i].dma.space = i ? race.space : make_space(f, "passing", alias);
	must(pthread_create(&devices[0].thread, NULL, map_what_passes, &devices[0]));
	for (; made < TIMES || atomic_load(&race.written) < TIMES; made++) {
		struct kvmas_region *region = make_passing(f, &ended);

		must(kvmas_region_set_alias(alias, region, 0));
		kvmas_region_unref(region);
	}
	atomic_store(&race.stop, true);
	must(pthread_join(devices[0].thread, NULL));
	must(kvmas_region_set_alias(alias, race.region, 0));
	for (unsigned i = 0; i < NTHREADS; i++) {
		free(devices[i].shadow);
		kvmas_reader_del(devices[i].dma.reader);
	}
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(atomic_load(&ended), made);
	assert_int_equal(atomic_load(&race.failures), 0);
	print_message("%u blocks came and went, %u maps\n", made, atomic_load(&race.written));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(devices_and_commits_lose_no_write),
		TEST(map_keeps_a_block_that_a_commit_lets_go),
	};

	return cmocka_run_group_tests_name("dma-race", tests, NULL, NULL);
}

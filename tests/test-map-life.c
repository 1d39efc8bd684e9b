/* SPDX-License-Identifier: MIT */
/* Maps that live on while the space, the blocks and the threads around them change. */
#include "dma-fixture.h"

#include <sys/uio.h>

#include "region.h"

#define READ KVMAS_MAP_READ
#define WRITE KVMAS_MAP_WRITE

static struct kvmas_map *map(struct guest *g, uint64_t gpa, uint64_t size, unsigned flags)
{
	struct kvmas_map *map = NULL;

	must(kvmas_dma_map(&g->dma, gpa, size, flags, &map));
	assert_int_equal(map->size, size);
	return map;
}

static void assert_unmaps(struct guest *g, struct kvmas_map *map, uint64_t written, int result,
			  uint64_t expected)
{
	uint64_t done = 77;

	assert_int_equal(kvmas_dma_unmap(&g->dma, map, written, &done), result);
	assert_int_equal(done, expected);
}

static void fill_map(const struct kvmas_map *map, int byte)
{
	for (unsigned i = 0; i < map->niov; i++)
		memset(map->iov[i].iov_base, byte, map->iov[i].iov_len);
}

/* ---- the space shows something else ---- */

static void memory_that_moves_away_is_marked_where_it_was_written(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x1000, 0x1000, WRITE);
	must(kvmas_region_set_offset(g.a, 0x40000));
	must(kvmas_region_set_offset(g.b, 0x1000));
	fill_map(m, 'w');
	assert_unmaps(&g, m, 0x1000, 0, 0x1000);
	assert_int_equal(memory_of(g.a)[0x1000], 'w');
	assert_int_equal(memory_of(g.b)[0], 0);
	assert_int_equal(take_dirty(&g, g.a), 2);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void memory_that_becomes_readonly_is_still_marked(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x4000, 0x1000, WRITE);
	must(kvmas_region_set_readonly(g.b, true));
	assert_unmaps(&g, m, 1, 0, 1);
	assert_int_equal(take_dirty(&g, g.b), 1);
	guest_fini(&g);
}

static void copy_goes_to_what_is_there_when_the_map_ends(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x3000, 0x10, READ | WRITE);
	must(kvmas_region_set_offset(g.b, 0x3000));
	must(kvmas_region_set_priority(g.b, 1));
	fill_map(m, 'w');
	assert_unmaps(&g, m, 0x10, 0, 0x10);
	assert_int_equal(g.dev.writes, 0);
	assert_int_equal(memory_of(g.b)[0xf], 'w');
	assert_int_equal(memory_of(g.b)[0x10], 0);
	assert_int_equal(take_dirty(&g, g.b), 1);
	guest_fini(&g);
}

static void copy_of_a_device_that_is_gone_does_not_arrive(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x3000, 0x10, WRITE);
	must(kvmas_region_set_enabled(g.dev.region, false));
	assert_unmaps(&g, m, 0x10, -ENXIO, 0);
	assert_int_equal(g.dev.writes, 0);
	guest_fini(&g);
}

/* ---- a device refuses in the end ---- */

static void done_ends_at_the_first_byte_that_does_not_arrive(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *behind = make_ram(f, "behind", 0x1000);
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, f);
	add(g.root, behind, 0x3100, 0);
	must(kvmas_region_del(g.rom));
	must(kvmas_region_set_offset(g.b, 0x2000));
	m = map(&g, 0x2800, 0x1000, WRITE);
	g.dev.bad = 0x18;
	g.dev.refusal = -ENODEV;
	fill_map(m, 'w');
	assert_unmaps(&g, m, 0x1000, -ENODEV, 0x818);
	assert_int_equal(g.dev.bytes[0x17], 'w');
	assert_int_equal(g.dev.bytes[0x18], pattern(0x3018));
	/* The memory behind it was written all the same. */
	assert_int_equal(take_dirty(&g, behind), 1);
	assert_int_equal(take_dirty(&g, g.b), 1);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void nothing_goes_to_a_device_behind_one_that_refuses(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	must(kvmas_region_set_offset(g.strict.region, 0x3100));
	m = map(&g, 0x3000, 0x200, WRITE);
	g.dev.bad = 0;
	g.dev.refusal = -EIO;
	assert_unmaps(&g, m, 0x200, -EIO, 0);
	assert_int_equal(g.dev.writes, 1);
	assert_int_equal(g.strict.writes, 0);
	guest_fini(&g);
}

/* ---- what it maps goes away ---- */

static void count_end(void *data)
{
	++*(unsigned *)data;
}

static struct kvmas_ram *make_counted_block(struct fixture *f, unsigned *ended, uint64_t max_size)
{
	struct kvmas_ram *ram;

	must(kvmas_ram_new(f->kvmas,
			   KVMAS_CONFIG(ram, .name = "counted", .size = 0x2000,
					.max_size = max_size, .destroy = count_end,
					.destroy_data = ended),
			   &ram));
	return ram;
}

static void map_keeps_its_block_to_the_end(void **state)
{
	struct fixture *f = *state;
	unsigned ended = 0;
	struct kvmas_ram *ram = make_counted_block(f, &ended, 0);
	struct kvmas_region *region = make_window(f, "w", ram, 0, 0x2000);
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, f);
	add(g.root, region, 0x20000, 0);
	kvmas_ram_unref(ram);
	m = map(&g, 0x20000, 0x2000, READ | WRITE);
	must(kvmas_region_del(region));
	drop_region(f, region);
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(ended, 0);
	fill_map(m, 'w');
	assert_unmaps(&g, m, 0x2000, 0, 0x2000);
	assert_int_equal(ended, 1);
	guest_fini(&g);
}

static void failed_map_keeps_no_block(void **state)
{
	struct fixture *f = *state;
	unsigned ended = 0;
	struct kvmas_ram *ram = make_counted_block(f, &ended, 0);
	struct kvmas_region *region = make_window(f, "w", ram, 0, 0x2000);
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, f);
	add(g.root, region, 0x3100, 0);
	kvmas_ram_unref(ram);
	g.dev.bad = 0;
	g.dev.refusal = -EIO;
	assert_int_equal(kvmas_dma_map(&g.dma, 0x3000, 0x1000, READ, &m), -EIO);
	must(kvmas_region_del(region));
	drop_region(f, region);
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(ended, 1);
	guest_fini(&g);
}

static void map_outlives_a_shrink_and_a_growth(void **state)
{
	struct fixture *f = *state;
	unsigned ended = 0;
	struct kvmas_ram *ram = make_counted_block(f, &ended, 0x4000);
	struct kvmas_region *region = make_window(f, "w", ram, 0, 0x2000);
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, f);
	add(g.root, region, 0x20000, 0);
	m = map(&g, 0x20000, 0x2000, WRITE);
	must(kvmas_region_set_size(region, 0x1000));
	must(kvmas_reclaim(f->kvmas));
	must(kvmas_ram_resize(ram, 0x1000));
	fill_map(m, 'w');
	assert_unmaps(&g, m, 0x2000, 0, 0x2000);
	assert_int_equal(take_pages(g.client, ram), 3);
	m = map(&g, 0x20000, 0x1000, WRITE);
	must(kvmas_ram_resize(ram, 0x4000));
	take_pages(g.client, ram);
	assert_unmaps(&g, m, 0x1000, 0, 0x1000);
	assert_int_equal(take_pages(g.client, ram), 1);
	must(kvmas_region_del(region));
	drop_region(f, region);
	kvmas_ram_unref(ram);
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(ended, 1);
	guest_fini(&g);
}

static void map_shows_zeroes_after_a_discard(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0, 0x2000, READ | WRITE);
	must(kvmas_ram_discard(block_of(g.a), 0x1000, 0x1000));
	assert_int_equal(take_dirty(&g, g.a), 2);
	assert_int_equal(((unsigned char *)m->iov[0].iov_base)[0x1008], 0);
	assert_int_equal(((unsigned char *)m->iov[0].iov_base)[8], pattern(8));
	fill_map(m, 'w');
	assert_unmaps(&g, m, 0x2000, 0, 0x2000);
	assert_int_equal(memory_of(g.a)[0x1008], 'w');
	assert_int_equal(take_dirty(&g, g.a), 3);
	guest_fini(&g);
}

/* ---- who ends it ---- */

struct elsewhere {
	struct guest *guest;
	struct kvmas_map *map;
	int result;
	uint64_t done;
};

static void *unmap_elsewhere(void *data)
{
	struct elsewhere *e = data;
	struct kvmas_dma dma = e->guest->dma;

	e->result = kvmas_reader_add(e->guest->f->kvmas, &dma.reader);
	if (e->result)
		return NULL;
	e->result = kvmas_dma_unmap(&dma, e->map, 0x3100, &e->done);
	kvmas_reader_del(dma.reader);
	return NULL;
}

static void map_is_ended_by_another_thread_when_its_reader_is_gone(void **state)
{
	struct fixture *f = *state;
	struct elsewhere e = {.result = 77};
	struct kvmas_dma dma;
	pthread_t thread;
	struct guest g;

	guest_init(&g, f);
	must(kvmas_region_del(g.rom));
	must(kvmas_region_set_offset(g.b, 0x2000));
	dma = g.dma;
	must(kvmas_reader_add(f->kvmas, &dma.reader));
	must(kvmas_dma_map(&dma, 0, 0x3100, WRITE, &e.map));
	kvmas_reader_del(dma.reader);
	e.guest = &g;
	must(pthread_create(&thread, NULL, unmap_elsewhere, &e));
	must(pthread_join(thread, NULL));
	assert_int_equal(e.result, 0);
	assert_int_equal(e.done, 0x3100);
	assert_int_equal(take_dirty(&g, g.a), 3);
	assert_int_equal(take_dirty(&g, g.b), 1);
	assert_int_equal(g.dev.writes, 0x20);
	guest_fini(&g);
}

/* The reader is the last to know the kvmas. */
static void map_ends_after_the_last_handle(void **state)
{
	struct fixture *f = *state;
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, f);
	m = map(&g, 0x4000, 0x1000, WRITE);
	close_kvmas(f);
	assert_unmaps(&g, m, 0x1000, 0, 0x1000);
	assert_int_equal(take_dirty(&g, g.b), 1);
	guest_fini(&g);
}

/* ---- what devices do while they are mapped ---- */

static int remove_itself(struct card *card, const struct kvmas_access *access)
{
	struct guest *g = card->data;

	if (access->offset)
		return 0;
	must(kvmas_region_set_enabled(card->region, false));
	must(kvmas_region_set_enabled(g->b, false));
	return 0;
}

static void map_is_of_one_view_whatever_devices_commit(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	must(kvmas_region_set_offset(g.b, 0x3100));
	g.dev.on_access = remove_itself;
	g.dev.data = &g;
	m = map(&g, 0x3000, 0x1100, READ | WRITE);
	assert_int_equal(g.dev.reads, 0x20);
	assert_int_equal(m->niov, 2);
	assert_ptr_equal(m->iov[1].iov_base, memory_of(g.b));
	assert_unmaps(&g, m, 0x1100, -ENXIO, 0);
	assert_int_equal(take_dirty(&g, g.b), 1);
	guest_fini(&g);
}

/* Two devices: what the first commits while it is read decides what the second copy is of. */
static int remove_other(struct card *card, const struct kvmas_access *access)
{
	struct guest *g = card->data;

	(void)access;
	return kvmas_region_set_enabled(g->strict.region, false);
}

static void map_ends_at_a_device_that_another_has_removed(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	must(kvmas_region_set_offset(g.strict.region, 0x3100));
	g.dev.on_access = remove_other;
	g.dev.data = &g;
	must(kvmas_dma_map(&g.dma, 0x3000, 0x200, READ, &m));
	assert_int_equal(m->size, 0x100);
	assert_int_equal(g.strict.reads, 0);
	assert_unmaps(&g, m, 0, 0, 0);
	guest_fini(&g);
}

/* A device that maps guest memory in its callback, and the device itself. */
static int map_inside(struct card *card, const struct kvmas_access *access)
{
	struct kvmas_dma dma = {.reader = access->reader, .space = access->space};
	struct kvmas_map *m;
	int err = kvmas_dma_map(&dma, 0x10, 8, READ, &m);

	if (err)
		return err;
	memcpy(card->bytes, m->iov[0].iov_base, 8);
	err = kvmas_dma_unmap(&dma, m, 0, NULL);
	if (!err && kvmas_dma_map(&dma, 0x3000, 8, READ, &m) != -EBUSY)
		err = -EPROTO;
	return err;
}

static void device_maps_memory_in_its_callback(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region_config config = {
		.kind = KVMAS_REGION_MMIO, .name = "guarded", .size = 0x100, .guard = f};
	struct card card;
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, f);
	card_init(&card, f, config, (struct kvmas_access_rules){0});
	card.on_access = map_inside;
	add(g.root, card.region, 0x3000, 1);
	m = map(&g, 0x3000, 8, READ);
	assert_memory_equal(m->iov[0].iov_base, memory_of(g.a) + 0x10, 8);
	assert_unmaps(&g, m, 0, 0, 0);
	card_fini(&card);
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_that_moves_away_is_marked_where_it_was_written),
		TEST(memory_that_becomes_readonly_is_still_marked),
		TEST(copy_goes_to_what_is_there_when_the_map_ends),
		TEST(copy_of_a_device_that_is_gone_does_not_arrive),
		TEST(done_ends_at_the_first_byte_that_does_not_arrive),
		TEST(nothing_goes_to_a_device_behind_one_that_refuses),
		TEST(map_keeps_its_block_to_the_end),
		TEST(failed_map_keeps_no_block),
		TEST(map_outlives_a_shrink_and_a_growth),
		TEST(map_shows_zeroes_after_a_discard),
		TEST(map_is_ended_by_another_thread_when_its_reader_is_gone),
		TEST(map_ends_after_the_last_handle),
		TEST(map_is_of_one_view_whatever_devices_commit),
		TEST(map_ends_at_a_device_that_another_has_removed),
		TEST(device_maps_memory_in_its_callback),
	};

	return cmocka_run_group_tests_name("map-life", tests, NULL, NULL);
}

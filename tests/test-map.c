/* SPDX-License-Identifier: MIT */
/* Maps: which host memory stands for a range of a space, and where it ends. */
#include "dma-fixture.h"

#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ KVMAS_MAP_READ
#define WRITE KVMAS_MAP_WRITE

static struct kvmas_map *map(struct guest *g, uint64_t gpa, uint64_t size, unsigned flags)
{
	struct kvmas_map *map = NULL;

	must(kvmas_dma_map(&g->dma, gpa, size, flags, &map));
	assert_non_null(map);
	return map;
}

static void unmap(struct guest *g, struct kvmas_map *map, uint64_t written)
{
	uint64_t done = 77;

	must(kvmas_dma_unmap(&g->dma, map, written, &done));
	assert_int_equal(done, written);
}

static void assert_refused(struct guest *g, uint64_t gpa, uint64_t size, unsigned flags, int result)
{
	struct kvmas_map *map = NULL;
	size_t bytes = g->f->heap.bytes;

	assert_int_equal(kvmas_dma_map(&g->dma, gpa, size, flags, &map), result);
	assert_null(map);
	assert_int_equal(g->f->heap.bytes, bytes);
}

/* One that ends before *size* bytes; nothing is written to it. */
static void assert_ends(struct guest *g, uint64_t gpa, uint64_t size, unsigned flags,
			uint64_t expected)
{
	struct kvmas_map *m = map(g, gpa, size, flags);
	uint64_t total = 0;

	for (unsigned i = 0; i < m->niov; i++)
		total += m->iov[i].iov_len;
	assert_int_equal(m->size, expected);
	assert_int_equal(total, expected);
	unmap(g, m, 0);
}

static void assert_piece(const struct kvmas_map *map, unsigned index, const void *hva, size_t size)
{
	assert_true(index < map->niov);
	assert_ptr_equal(map->iov[index].iov_base, hva);
	assert_int_equal(map->iov[index].iov_len, size);
}

/* Set bytes of a map, from its first on, to the pattern. */
static void store(const struct kvmas_map *map, uint64_t size)
{
	uint64_t at = 0;

	for (unsigned i = 0; i < map->niov; i++) {
		unsigned char *bytes = map->iov[i].iov_base;

		for (size_t j = 0; j < map->iov[i].iov_len && at < size; j++)
			bytes[j] = pattern(at++);
	}
}

static bool has_pattern(const unsigned char *bytes, uint64_t from, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (bytes[i] != pattern(from + i))
			return false;
	}
	return true;
}

/* ---- memory ---- */

static void map_of_memory_is_the_memory_itself(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x10, 0x1ff0, READ | WRITE);
	assert_int_equal(m->niov, 1);
	assert_int_equal(m->size, 0x1ff0);
	assert_piece(m, 0, memory_of(g.a) + 0x10, 0x1ff0);
	unmap(&g, m, 0x1ff0);
	assert_int_equal(take_dirty(&g, g.a), 3);
	m = map(&g, UINT64_MAX, 1, WRITE);
	assert_piece(m, 0, memory_of(g.top) + 0xfff, 1);
	unmap(&g, m, 1);
	assert_int_equal(take_dirty(&g, g.top), 1);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void map_for_reading_gives_rom_and_rom_devices(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x4ff0, 0x1020, READ);
	assert_int_equal(m->niov, 3);
	assert_piece(m, 0, memory_of(g.b) + 0xff0, 0x10);
	assert_piece(m, 1, memory_of(g.romd.region), 0x1000);
	assert_piece(m, 2, memory_of(g.a), 0x10);
	unmap(&g, m, 0);
	assert_int_equal(g.romd.reads, 0);
	m = map(&g, 0x2004, 4, READ);
	assert_piece(m, 0, memory_of(g.rom) + 4, 4);
	unmap(&g, m, 0);
	guest_fini(&g);
}

static void neighbours_in_a_block_are_one_piece(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x8ff8, 0x10, WRITE);
	assert_int_equal(m->niov, 1);
	assert_piece(m, 0, memory_of(g.low) + 0xff8, 0x10);
	unmap(&g, m, 8);
	assert_int_equal(take_dirty(&g, g.low), 1);
	m = map(&g, 0x8ff8, 0x10, WRITE);
	unmap(&g, m, 9);
	assert_int_equal(take_dirty(&g, g.low), 3);
	guest_fini(&g);
}

static void neighbours_of_two_blocks_are_one_piece_and_marked_in_each(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0xaff8, 0x10, WRITE);
	assert_int_equal(m->niov, 1);
	assert_piece(m, 0, memory_of(g.left) + 0xff8, 0x10);
	unmap(&g, m, 0x10);
	assert_int_equal(take_dirty(&g, g.left), 1);
	assert_int_equal(take_dirty(&g, g.right), 1);
	m = map(&g, 0xaff8, 0x10, WRITE);
	unmap(&g, m, 8);
	assert_int_equal(take_dirty(&g, g.left), 1);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void memory_that_does_not_go_on_is_another_piece(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	must(kvmas_region_set_offset(g.low, 0xa000)); /* on top of left; then right */
	must(kvmas_region_set_offset(g.high, 0x8000));
	must(kvmas_region_set_offset(g.low, 0x9000)); /* the two in the other order */
	m = map(&g, 0x8000, 0x2008, WRITE);
	assert_int_equal(m->niov, 3);
	assert_piece(m, 0, memory_of(g.high), 0x1000);
	assert_piece(m, 1, memory_of(g.low), 0x1000);
	assert_piece(m, 2, memory_of(g.left), 8);
	unmap(&g, m, 0x1001);
	assert_int_equal(take_dirty(&g, g.low), 3);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

/* ---- what is written ---- */

static void unmap_marks_what_was_written_and_no_more(void **state)
{
	const struct {
		uint64_t written;
		uint64_t pages;
	} rows[] = {{0, 0}, {1, 1}, {0x10, 1}, {0x11, 3}, {0x1010, 3}, {UINT64_MAX, 3}};
	struct guest g;

	guest_init(&g, *state);
	for (unsigned i = 0; i < LENGTH(rows); i++) {
		struct kvmas_map *m = map(&g, 0xff0, 0x1010, WRITE);
		uint64_t done = 77;

		must(kvmas_dma_unmap(&g.dma, m, rows[i].written, &done));
		assert_int_equal(done, rows[i].written > 0x1010 ? 0x1010 : rows[i].written);
		assert_int_equal(take_dirty(&g, g.a), rows[i].pages);
	}
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void unmap_of_a_map_for_reading_marks_nothing(void **state)
{
	struct kvmas_map *m;
	struct guest g;
	uint64_t done = 77;

	guest_init(&g, *state);
	m = map(&g, 0, 0x2000, READ);
	must(kvmas_dma_unmap(&g.dma, m, 0x2000, &done));
	assert_int_equal(done, 0);
	m = map(&g, 0x3000, 0x100, READ);
	must(kvmas_dma_unmap(&g.dma, m, 0x100, NULL));
	assert_int_equal(g.dev.writes, 0);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

/* ---- copies ---- */

static void map_for_reading_copies_what_a_device_says(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x2ff0, 0x20, READ);
	assert_int_equal(m->niov, 2);
	assert_piece(m, 0, memory_of(g.rom) + 0xff0, 0x10);
	assert_int_equal(m->iov[1].iov_len, 0x10);
	assert_true(has_pattern(m->iov[1].iov_base, 0x3000, 0x10));
	assert_int_equal(g.dev.reads, 2);
	memset(m->iov[1].iov_base, 0, 0x10);
	unmap(&g, m, 0);
	assert_int_equal(g.dev.writes, 0);
	assert_true(has_pattern(g.dev.bytes, 0x3000, 0x100));
	guest_fini(&g);
}

static void map_for_writing_goes_to_the_device_when_it_ends(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x3010, 0x20, WRITE);
	assert_int_equal(g.dev.reads, 0);
	store(m, 0x20);
	assert_true(has_pattern(g.dev.bytes, 0x3000, 0x100));
	unmap(&g, m, 0x14);
	assert_int_equal(g.dev.reads, 0);
	assert_int_equal(g.dev.writes, 3);
	assert_true(has_pattern(g.dev.bytes, 0x3000, 0x10));
	assert_true(has_pattern(g.dev.bytes + 0x10, 0, 0x14));
	assert_true(has_pattern(g.dev.bytes + 0x24, 0x3024, 0x100 - 0x24));
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void map_for_writing_shows_nothing_of_the_host(void **state)
{
	static const unsigned char zeroes[0x100];
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x3000, 0x100, WRITE);
	assert_memory_equal(m->iov[0].iov_base, zeroes, 0x100);
	unmap(&g, m, 0x100);
	assert_memory_equal(g.dev.bytes, zeroes, 0x100);
	guest_fini(&g);
}

static void map_for_both_reads_and_writes_the_device(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x30f8, 8, READ | WRITE);
	assert_true(has_pattern(m->iov[0].iov_base, 0x30f8, 8));
	((unsigned char *)m->iov[0].iov_base)[3] = 0;
	unmap(&g, m, 8);
	assert_true(has_pattern(g.dev.bytes, 0x3000, 0xfb));
	assert_int_equal(g.dev.bytes[0xfb], 0);
	assert_true(has_pattern(g.dev.bytes + 0xfc, 0x30fc, 4));
	guest_fini(&g);
}

static void rom_device_is_written_through_a_copy(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	m = map(&g, 0x5000, 0x10, READ | WRITE);
	assert_memory_equal(m->iov[0].iov_base, memory_of(g.romd.region), 0x10);
	assert_ptr_not_equal(m->iov[0].iov_base, memory_of(g.romd.region));
	assert_int_equal(g.romd.reads, 0);
	store(m, 0x10);
	unmap(&g, m, 0x10);
	assert_int_equal(g.romd.writes, 2);
	assert_true(has_pattern(g.romd.bytes, 0, 0x10));
	assert_int_equal(memory_of(g.romd.region)[0], 'm');
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void device_is_told_who_maps_it(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	g.dma.requester = &g;
	g.dma.smm = true;
	m = map(&g, 0x3000, 8, READ | WRITE);
	assert_ptr_equal(g.dev.seen.requester, &g);
	assert_ptr_equal(g.dev.seen.space, g.space);
	assert_true(g.dev.seen.smm);
	g.dma.requester = NULL;
	g.dma.smm = false;
	unmap(&g, m, 8);
	assert_null(g.dev.seen.requester);
	assert_false(g.dev.seen.smm);
	guest_fini(&g);
}

/* ---- where it ends ---- */

static void map_ends_at_the_first_byte_that_cannot_be_had(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_ends(&g, 0x30f0, 0x1000, READ, 0x10);
	assert_ends(&g, 0x30f0, 0x1000, WRITE, 0x10);
	assert_ends(&g, 0x1ff0, 0x20, WRITE, 0x10);
	assert_ends(&g, 0x1ff0, 0x20, READ, 0x20);
	assert_ends(&g, 0x1ff0, 0x20, READ | WRITE, 0x10);
	assert_ends(&g, 0x6ff0, 0x1000, READ, 0x10);
	assert_ends(&g, 0xc000, 0x200, WRITE, 0x100);
	assert_ends(&g, 0, KVMAS_SIZE_MAX, READ, 0x3100);
	assert_ends(&g, 0x8000, UINT64_MAX - 0x8000, WRITE, 0x4100);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void map_ends_where_a_device_refuses_to_be_read(void **state)
{
	struct kvmas_map *m;
	struct guest g;

	guest_init(&g, *state);
	g.dev.bad = 0x18;
	g.dev.refusal = -ENODEV;
	m = map(&g, 0x2ff0, 0x110, READ);
	assert_int_equal(m->size, 0x28);
	assert_int_equal(m->niov, 2);
	assert_int_equal(m->iov[1].iov_len, 0x18);
	assert_true(has_pattern(m->iov[1].iov_base, 0x3000, 0x18));
	unmap(&g, m, 0);
	g.dev.bad = 0;
	m = map(&g, 0x2ff0, 0x110, READ); /* not one byte of the copy */
	assert_int_equal(m->size, 0x10);
	assert_int_equal(m->niov, 1);
	unmap(&g, m, 0);
	assert_refused(&g, 0x3000, 8, READ, -ENODEV);
	assert_refused(&g, 0x3000, 8, READ | WRITE, -ENODEV);
	guest_fini(&g);
}

/* The pieces behind a device that refuses were planned: they go. */
static void map_that_ends_early_lets_go_of_the_rest(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *behind = make_ram(f, "behind", 0x1000);
	struct guest g;

	guest_init(&g, f);
	add(g.root, behind, 0x3100, 0);
	g.dev.bad = 0x18;
	g.dev.refusal = -ENODEV;
	assert_ends(&g, 0x3000, 0x1000, READ, 0x18);
	assert_ends(&g, 0x3010, 0x1000, READ | WRITE, 8);
	assert_refused(&g, 0x3018, 0x1000, READ, -ENODEV);
	guest_fini(&g);
}

static void map_without_a_single_byte_returns_why(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_refused(&g, 0x3100, 0x1000, READ, -ENXIO);
	assert_refused(&g, 0x7000, 0x1000, WRITE, -ENXIO);
	assert_refused(&g, 0x2000, 0x1000, WRITE, -EROFS);
	assert_refused(&g, 0x6000, 0x1000, READ | WRITE, -EROFS);
	assert_refused(&g, 0xc100, 4, WRITE, -EROFS);
	assert_refused(&g, 0xc002, 4, READ, -EINVAL); /* the device's rules */
	guest_fini(&g);
}

static void map_of_no_range_or_purpose_returns_einval(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_refused(&g, 0, 0, READ, -EINVAL);
	assert_refused(&g, UINT64_MAX, 2, READ, -EINVAL);
	assert_refused(&g, TOP_PAGE, 0x1001, WRITE, -EINVAL);
	assert_refused(&g, 1, KVMAS_SIZE_MAX, READ, -EINVAL);
	assert_refused(&g, 0, 0x1000, 0, -EINVAL);
	assert_refused(&g, 0, 0x1000, 4, -EINVAL);
	assert_refused(&g, 0, 0x1000, READ | 8, -EINVAL);
	guest_fini(&g);
}

/* ---- how much is copied ---- */

static struct fixture *with_bounce(uint64_t max_bounce)
{
	return fixture_new((struct kvmas_config){.max_bounce = max_bounce});
}

static void map_ends_where_copies_have_grown_to_the_cap(void **state)
{
	struct fixture *f = with_bounce(0x28);
	struct kvmas_region *between = make_ram(f, "between", 0x1000);
	struct guest g;

	(void)state;
	guest_init(&g, f);
	add(g.root, between, 0x3010, 1);
	assert_ends(&g, 0x3000, 0x100, READ, 0x100); /* memory does not count */
	assert_ends(&g, 0x3000, 0x1000, WRITE, 0x1000);
	assert_ends(&g, 0x8000, 0x4100, WRITE, 0x4028);
	assert_ends(&g, 0x8000, 0x4100, READ, 0x4028);
	must(kvmas_region_set_size(between, 8));
	assert_ends(&g, 0x3000, 0x100, READ, 0x30); /* 10 + 8 of memory + 18 */
	assert_ends(&g, 0x3000, 0x30, READ, 0x30);
	guest_fini(&g);
	fixture_free(f);
}

static void copies_end_between_accesses(void **state)
{
	struct fixture *f = with_bounce(0xb);
	struct guest g;

	(void)state;
	guest_init(&g, f);
	assert_ends(&g, 0xc000, 0x20, READ, 8);  /* of 4 bytes */
	assert_ends(&g, 0x3000, 0x20, WRITE, 8); /* of 8 */
	assert_ends(&g, 0x3001, 0x20, READ, 8);  /* of 8, unaligned */
	assert_ends(&g, 0x3000, 0xb, READ, 0xb); /* of 8, 2 and 1 */
	assert_ends(&g, 0x3000, 0xc, READ, 8);   /* of 8, and 4 do not fit */
	assert_ends(&g, 0x5003, 0x20, WRITE, 5); /* of 1, 4, and 8 do not fit */
	guest_fini(&g);
	fixture_free(f);
}

static void cap_below_the_first_access_returns_enobufs(void **state)
{
	struct fixture *f = with_bounce(3);
	struct guest g;

	(void)state;
	guest_init(&g, f);
	assert_refused(&g, 0xc000, 0x20, READ, -ENOBUFS);
	assert_refused(&g, 0xc000, 0x20, WRITE, -ENOBUFS);
	assert_refused(&g, 0x3000, 4, WRITE, -ENOBUFS);
	assert_ends(&g, 0x3000, 3, WRITE, 3);
	assert_ends(&g, 0xbff0, 0x20, WRITE, 0x10); /* some memory before it */
	assert_int_equal(g.strict.reads, 0);
	guest_fini(&g);
	fixture_free(f);
}

static void cap_is_65536_bytes_at_first(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *large = make_mmio(f, "large", 0x20000);
	struct guest g;

	guest_init(&g, f);
	add(g.root, large, 0x100000, 0);
	assert_ends(&g, 0x100000, 0x20000, WRITE, 0x10000);
	guest_fini(&g);
}

/* ---- memory ---- */

static int try_map(struct fixture *f)
{
	struct guest *g = f->with;
	unsigned reads = g->dev.reads;
	struct kvmas_map *map;
	int err = kvmas_dma_map(&g->dma, 0x2ff0, 0x20, READ, &map);

	if (err) {
		assert_int_equal(g->dev.reads, reads); /* no device is read in vain */
		return err;
	}
	return kvmas_dma_unmap(&g->dma, map, 0, NULL);
}

static void every_allocation_of_a_map_fails_cleanly(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	/* Itself, its pieces, the copy, the list. */
	assert_int_equal(fail_each_allocation(g.f, try_map), 4);
	guest_fini(&g);
}

static int try_map_of_many(struct fixture *f)
{
	struct guest *g = f->with;
	struct kvmas_map *map;
	int err = kvmas_dma_map(&g->dma, 0x100000, 0x40, WRITE, &map);

	if (err)
		return err;
	assert_int_equal(map->size, 0x40);
	assert_int_equal(map->niov, 0x40);
	for (unsigned i = 0; i < 0x40; i += 2)
		assert_ptr_equal(map->iov[i].iov_base, memory_of(g->b) + i);
	return kvmas_dma_unmap(&g->dma, map, 0, NULL);
}

static void map_of_many_pieces_has_them_all(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	must(kvmas_begin(g.f->kvmas));
	for (unsigned i = 0; i < 0x40; i += 2) {
		struct kvmas_region *byte = make_alias(g.f, "byte", g.b, i, 1);

		add(g.root, byte, 0x100000 + i, 0);
		add(g.root, make_mmio(g.f, "d", 1), 0x100000 + i + 1, 0);
	}
	must(kvmas_commit(g.f->kvmas));
	assert_true(fail_each_allocation(g.f, try_map_of_many) > 0x20);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static int call_in_child(struct guest *g, struct kvmas_map *map)
{
	struct kvmas_map *other;
	uint64_t done = 7;
	size_t bytes = g->f->heap.bytes;
	bool right = kvmas_dma_map(&g->dma, 0, 1, READ, &other) == -EIO;

	right &= kvmas_dma_unmap(&g->dma, map, 1, &done) == -EIO && done == 0;
	return right && g->f->heap.bytes == bytes ? 0 : 1;
}

static void map_in_a_forked_child_returns_eio(void **state)
{
	struct kvmas_map *m;
	struct guest g;
	int status;
	pid_t child;

	guest_init(&g, *state);
	m = map(&g, 0, 1, WRITE);
	child = fork();
	if (child == 0)
		_exit(call_in_child(&g, m));
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	unmap(&g, m, 1);
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(map_of_memory_is_the_memory_itself),
		TEST(map_for_reading_gives_rom_and_rom_devices),
		TEST(neighbours_in_a_block_are_one_piece),
		TEST(neighbours_of_two_blocks_are_one_piece_and_marked_in_each),
		TEST(memory_that_does_not_go_on_is_another_piece),
		TEST(unmap_marks_what_was_written_and_no_more),
		TEST(unmap_of_a_map_for_reading_marks_nothing),
		TEST(map_for_reading_copies_what_a_device_says),
		TEST(map_for_writing_goes_to_the_device_when_it_ends),
		TEST(map_for_writing_shows_nothing_of_the_host),
		TEST(map_for_both_reads_and_writes_the_device),
		TEST(rom_device_is_written_through_a_copy),
		TEST(device_is_told_who_maps_it),
		TEST(map_ends_at_the_first_byte_that_cannot_be_had),
		TEST(map_ends_where_a_device_refuses_to_be_read),
		TEST(map_that_ends_early_lets_go_of_the_rest),
		TEST(map_without_a_single_byte_returns_why),
		TEST(map_of_no_range_or_purpose_returns_einval),
		TEST(map_ends_where_copies_have_grown_to_the_cap),
		TEST(copies_end_between_accesses),
		TEST(cap_below_the_first_access_returns_enobufs),
		TEST(cap_is_65536_bytes_at_first),
		TEST(every_allocation_of_a_map_fails_cleanly),
		TEST(map_of_many_pieces_has_them_all),
		TEST(map_in_a_forked_child_returns_eio),
	};

	return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}

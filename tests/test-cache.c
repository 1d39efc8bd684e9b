/* SPDX-License-Identifier: MIT */
/* Caches: where a range of guest memory lies, until the space changes. */
#include "dma-fixture.h"

#include <sys/wait.h>
#include <unistd.h>

#include "view.h"

/* By the view of this moment. */
static int get(struct guest *g, struct kvmas_cache *cache, void **ret)
{
	const struct kvmas_view *view = kvmas_view_acquire(g->f->reader, g->space);
	int err = kvmas_cache_get(cache, view, ret);

	kvmas_view_release(g->f->reader, view);
	return err;
}

static void assert_at(struct guest *g, struct kvmas_cache *cache, const unsigned char *hva)
{
	void *at = NULL;

	must(get(g, cache, &at));
	assert_ptr_equal(at, hva);
}

static void assert_refuses(struct guest *g, uint64_t gpa, uint64_t size, bool write, int result)
{
	struct kvmas_cache cache;
	void *at = g;

	kvmas_cache_init(&cache, gpa, size, write);
	for (int i = 0; i < 2; i++)
		assert_int_equal(get(g, &cache, &at), result);
	assert_ptr_equal(at, g);
	assert_int_equal(kvmas_cache_mark(&cache, 0, 0), -EINVAL);
}

static void assert_finds(struct guest *g, uint64_t gpa, uint64_t size, bool write,
			 const unsigned char *hva)
{
	struct kvmas_cache cache;

	memset(&cache, 0xa5, sizeof(cache));
	kvmas_cache_init(&cache, gpa, size, write);
	for (int i = 0; i < 2; i++)
		assert_at(g, &cache, hva);
}

static void cache_gives_the_memory_itself(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_finds(&g, 0x10, 0x1ff0, true, memory_of(g.a) + 0x10);
	assert_finds(&g, 0x1fff, 1, true, memory_of(g.a) + 0x1fff);
	assert_finds(&g, UINT64_MAX, 1, true, memory_of(g.top) + 0xfff);
	assert_finds(&g, TOP_PAGE, 0x1000, false, memory_of(g.top));
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void cache_for_reading_gives_rom_and_rom_devices(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_finds(&g, 0x2010, 8, false, memory_of(g.rom) + 0x10);
	assert_finds(&g, 0x5010, 8, false, memory_of(g.romd.region) + 0x10);
	assert_finds(&g, 0x6010, 8, false, memory_of(g.a) + 0x10);
	must(kvmas_region_set_romd(g.romd.region, false));
	assert_refuses(&g, 0x5010, 8, false, -ENXIO);
	guest_fini(&g);
}

static void cache_of_neighbours_on_the_host_is_one_piece(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_finds(&g, 0x8ff8, 0x10, true, memory_of(g.low) + 0xff8);
	assert_finds(&g, 0x8000, 0x2000, true, memory_of(g.low));
	assert_refuses(&g, 0x8000, 0x2001, true, -ENXIO);
	assert_finds(&g, 0xaff8, 0x10, false, memory_of(g.left) + 0xff8);
	/* To be written it must be one block: that of the mark. */
	assert_refuses(&g, 0xaff8, 0x10, true, -ENXIO);
	guest_fini(&g);
}

static void cache_of_what_is_not_all_memory_returns_enxio(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_refuses(&g, 0x3000, 4, false, -ENXIO);
	assert_refuses(&g, 0x3100, 4, false, -ENXIO);
	assert_refuses(&g, 0x7000, 4, false, -ENXIO);
	assert_refuses(&g, 0x2ffc, 8, false, -ENXIO);
	assert_refuses(&g, 0x3ffc, 8, false, -ENXIO);
	assert_refuses(&g, 0x5000, 4, true, -ENXIO);  /* writes go to the device */
	assert_refuses(&g, 0x1ffc, 8, false, -ENXIO); /* another block follows */
	assert_refuses(&g, 0, KVMAS_SIZE_MAX, false, -ENXIO);
	guest_fini(&g);
}

static void cache_for_writing_what_is_readonly_returns_erofs(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_refuses(&g, 0x2000, 4, true, -EROFS);
	assert_refuses(&g, 0x6000, 4, true, -EROFS);
	assert_refuses(&g, 0x1ffc, 8, true, -EROFS);
	guest_fini(&g);
}

static void cache_of_no_range_returns_einval(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_refuses(&g, 0x1000, 0, false, -EINVAL);
	assert_refuses(&g, UINT64_MAX, 2, false, -EINVAL);
	assert_refuses(&g, 1, KVMAS_SIZE_MAX, true, -EINVAL);
	guest_fini(&g);
}

static void cache_follows_the_space(void **state)
{
	struct kvmas_cache cache;
	struct guest g;
	void *at;

	guest_init(&g, *state);
	kvmas_cache_init(&cache, 0x4010, 0x10, true);
	assert_at(&g, &cache, memory_of(g.b) + 0x10);
	must(kvmas_region_set_offset(g.b, 0x3ff0));
	assert_at(&g, &cache, memory_of(g.b) + 0x20);
	must(kvmas_region_del(g.b));
	assert_int_equal(get(&g, &cache, &at), -ENXIO);
	must(kvmas_region_set_offset(g.rom, 0x4000));
	assert_int_equal(get(&g, &cache, &at), -EROFS);
	must(kvmas_region_set_offset(g.a, 0x3000));
	assert_at(&g, &cache, memory_of(g.a) + 0x1010);
	guest_fini(&g);
}

/* It is the view that is asked, not the space: a reader may look at an old one. */
static void cache_goes_back_to_an_older_view(void **state)
{
	const struct kvmas_view *old;
	struct kvmas_cache cache;
	struct guest g;
	void *at;

	guest_init(&g, *state);
	kvmas_cache_init(&cache, 0x4000, 0x10, true);
	old = kvmas_view_acquire(g.f->reader, g.space);
	must(kvmas_region_set_offset(g.b, 0x10000));
	assert_int_equal(get(&g, &cache, &at), -ENXIO);
	must(kvmas_cache_get(&cache, old, &at));
	assert_ptr_equal(at, memory_of(g.b));
	assert_int_equal(get(&g, &cache, &at), -ENXIO);
	kvmas_view_release(g.f->reader, old);
	guest_fini(&g);
}

/* Whether the next look of a cache searches: it must not, in the same view. */
static void cache_looks_once_in_each_view(void **state)
{
	const uint64_t places[] = {0x4000, 0x3000}; /* also for what it does not find */
	struct guest g;

	guest_init(&g, *state);
	for (unsigned i = 0; i < LENGTH(places); i++) {
		struct kvmas_cache cache;
		void *at;
		int result;

		kvmas_cache_init(&cache, places[i], 0x10, false);
		result = get(&g, &cache, &at);
		cache.gpa = 0x8000; /* what it would find if it looked */
		assert_int_equal(get(&g, &cache, &at), result);
		must(kvmas_region_set_offset(g.left, 0x20000 + i));
		assert_at(&g, &cache, memory_of(g.low));
	}
	guest_fini(&g);
}

/* ---- marking ---- */

static void mark_makes_just_these_pages_dirty(void **state)
{
	struct kvmas_cache cache;
	struct guest g;
	void *at;

	guest_init(&g, *state);
	kvmas_cache_init(&cache, 0x8800, 0x1000, true);
	must(get(&g, &cache, &at));
	must(kvmas_cache_mark(&cache, 0x7ff, 1));
	assert_int_equal(take_dirty(&g, g.low), 1);
	must(kvmas_cache_mark(&cache, 0x800, 0x800));
	assert_int_equal(take_dirty(&g, g.low), 2);
	must(kvmas_cache_mark(&cache, 0, 0x1000));
	assert_int_equal(take_dirty(&g, g.low), 3);
	must(kvmas_cache_mark(&cache, 0, 0));
	must(kvmas_cache_mark(&cache, 0x1000, 0));
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void mark_past_the_range_returns_einval(void **state)
{
	struct kvmas_cache cache;
	struct guest g;
	void *at;

	guest_init(&g, *state);
	kvmas_cache_init(&cache, 0x10, 0x20, true);
	assert_int_equal(kvmas_cache_mark(&cache, 0, 1), -EINVAL); /* never looked */
	must(get(&g, &cache, &at));
	assert_int_equal(kvmas_cache_mark(&cache, 0, 0x21), -EINVAL);
	assert_int_equal(kvmas_cache_mark(&cache, 0x20, 1), -EINVAL);
	assert_int_equal(kvmas_cache_mark(&cache, 0x21, 0), -EINVAL);
	assert_int_equal(kvmas_cache_mark(&cache, 8, UINT64_MAX - 3), -EINVAL);
	assert_int_equal(kvmas_cache_mark(&cache, UINT64_MAX, 2), -EINVAL);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void mark_without_write_returns_einval(void **state)
{
	struct kvmas_cache cache;
	struct guest g;
	void *at;

	guest_init(&g, *state);
	kvmas_cache_init(&cache, 0x10, 0x20, false);
	must(get(&g, &cache, &at));
	assert_int_equal(kvmas_cache_mark(&cache, 0, 1), -EINVAL);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void mark_after_a_look_that_failed_returns_einval(void **state)
{
	struct kvmas_cache cache;
	struct guest g;
	void *at;

	guest_init(&g, *state);
	kvmas_cache_init(&cache, 0x4000, 0x20, true);
	must(get(&g, &cache, &at));
	must(kvmas_region_del(g.b));
	assert_int_equal(get(&g, &cache, &at), -ENXIO);
	assert_int_equal(kvmas_cache_mark(&cache, 0, 1), -EINVAL);
	guest_fini(&g);
}

/* ---- what it costs ---- */

static void cache_allocates_nothing(void **state)
{
	struct kvmas_cache cache;
	unsigned long calls;
	struct guest g;
	void *at;

	guest_init(&g, *state);
	calls = g.f->heap.calls;
	kvmas_cache_init(&cache, 0x8000, 0x2000, true);
	must(get(&g, &cache, &at));
	must(kvmas_cache_mark(&cache, 0, 0x2000));
	assert_int_equal(g.f->heap.calls, calls);
	guest_fini(&g);
}

static void cache_in_a_forked_child_returns_eio(void **state)
{
	const struct kvmas_view *view;
	struct kvmas_cache cache;
	struct guest g;
	int status;
	pid_t child;
	void *at;

	guest_init(&g, *state);
	view = kvmas_view_acquire(g.f->reader, g.space);
	kvmas_cache_init(&cache, 0x8000, 0x2000, true);
	must(kvmas_cache_get(&cache, view, &at));
	child = fork();
	if (child == 0)
		_exit(kvmas_cache_get(&cache, view, &at) != -EIO ||
		      kvmas_cache_mark(&cache, 0, 1) != -EIO);
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	kvmas_view_release(g.f->reader, view);
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(cache_gives_the_memory_itself),
		TEST(cache_for_reading_gives_rom_and_rom_devices),
		TEST(cache_of_neighbours_on_the_host_is_one_piece),
		TEST(cache_of_what_is_not_all_memory_returns_enxio),
		TEST(cache_for_writing_what_is_readonly_returns_erofs),
		TEST(cache_of_no_range_returns_einval),
		TEST(cache_follows_the_space),
		TEST(cache_goes_back_to_an_older_view),
		TEST(cache_looks_once_in_each_view),
		TEST(mark_makes_just_these_pages_dirty),
		TEST(mark_past_the_range_returns_einval),
		TEST(mark_without_write_returns_einval),
		TEST(mark_after_a_look_that_failed_returns_einval),
		TEST(cache_allocates_nothing),
		TEST(cache_in_a_forked_child_returns_eio),
	};

	return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}

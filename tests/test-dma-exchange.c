/* SPDX-License-Identifier: MIT */
/* DMA: compare and exchange. */
#include "dma-fixture.h"

#include "region.h"

static void assert_refused(struct guest *g, uint64_t gpa, unsigned size, int result)
{
	uint64_t expected = 5;

	assert_int_equal(kvmas_dma_compare_exchange(&g->dma, gpa, size, &expected, 0), result);
	assert_int_equal(expected, 5);
}

static void exchange_of_each_size_writes_just_these_bytes(void **state)
{
	const uint64_t desired = UINT64_C(0xf8f7f6f5f4f3f2f1);
	struct guest g;

	guest_init(&g, *state);
	for (unsigned size = 1; size <= 8; size *= 2) {
		unsigned char *at = memory_of(g.a) + 0x1010;
		unsigned char before[0x20];
		uint64_t expected = 0;

		memcpy(before, at - 8, sizeof(before));
		memcpy(&expected, at, size); /* its low bytes, on a little-endian host */
		if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
			expected >>= 64 - 8 * size;
		assert_int_equal(
			kvmas_dma_compare_exchange(&g.dma, 0x1010, size, &expected, desired), 1);
		assert_memory_equal(at - 8, before, 8);
		assert_memory_equal(at + size, before + 8 + size, 0x18 - size);
		assert_int_equal(take_dirty(&g, g.a), 2);
		expected = 0;
		assert_int_equal(kvmas_dma_compare_exchange(&g.dma, 0x1010, size, &expected, 0), 0);
		assert_int_equal(expected,
				 size == 8 ? desired : desired % (UINT64_C(1) << 8 * size));
		assert_clean(&g, NULL);
	}
	guest_fini(&g);
}

static void exchange_that_finds_another_value_writes_nothing(void **state)
{
	uint64_t expected = 3;
	uint64_t value = 4;
	struct guest g;

	guest_init(&g, *state);
	memcpy(memory_of(g.b), &value, 8);
	assert_int_equal(kvmas_dma_compare_exchange(&g.dma, 0x4000, 8, &expected, 9), 0);
	assert_int_equal(expected, 4);
	memcpy(&value, memory_of(g.b), 8);
	assert_int_equal(value, 4);
	assert_clean(&g, NULL);
	assert_int_equal(kvmas_dma_compare_exchange(&g.dma, 0x4000, 8, &expected, 9), 1);
	assert_int_equal(expected, 4);
	assert_int_equal(take_dirty(&g, g.b), 1);
	guest_fini(&g);
}

static void exchange_of_another_size_returns_einval(void **state)
{
	const unsigned sizes[] = {0, 3, 5, 6, 7, 9, 16, 64, UINT32_MAX, 1u << 31};
	struct guest g;

	guest_init(&g, *state);
	for (unsigned i = 0; i < LENGTH(sizes); i++)
		assert_refused(&g, 0x1000, sizes[i], -EINVAL);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void exchange_that_is_not_aligned_returns_einval(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	for (unsigned size = 2; size <= 8; size *= 2) {
		assert_refused(&g, 0x1001, size, -EINVAL);
		assert_refused(&g, 0x1000 + size / 2, size, -EINVAL);
	}
	guest_fini(&g);
}

static void exchange_where_no_memory_is_written_is_refused(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_refused(&g, 0x2000, 4, -EROFS);
	assert_refused(&g, 0x6000, 4, -EROFS);
	assert_refused(&g, 0xc100, 4, -EROFS);
	assert_refused(&g, 0x3000, 4, -EOPNOTSUPP);
	assert_refused(&g, 0x5000, 4, -EOPNOTSUPP); /* of a ROM device */
	assert_refused(&g, 0x3100, 4, -ENXIO);
	assert_refused(&g, 0x7000, 4, -ENXIO);
	assert_refused(&g, UINT64_C(1) << 40, 4, -ENXIO);
	assert_int_equal(g.dev.reads + g.dev.writes + g.romd.writes, 0);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void exchange_at_the_top_reaches_it(void **state)
{
	uint64_t expected = 0;
	struct guest g;

	guest_init(&g, *state);
	assert_int_equal(kvmas_dma_compare_exchange(&g.dma, UINT64_MAX - 7, 8, &expected, 1), 1);
	assert_int_equal(take_dirty(&g, g.top), 1);
	guest_fini(&g);
}

/* One half of 8 bytes is in a section of its own, which shows the same block at *ram_offset*. */
static int exchange_over_an_alias(struct guest *g, uint64_t offset, bool readonly)
{
	struct kvmas_region *half = make_alias(g->f, "half", g->a, offset, 4);
	uint64_t expected;
	int result;

	must(kvmas_region_set_nonvolatile(half, true));
	must(kvmas_region_set_readonly(half, readonly));
	add(g->root, half, 0x1014, 1);
	memcpy(&expected, memory_of(g->a) + 0x1010, 8);
	result = kvmas_dma_compare_exchange(&g->dma, 0x1010, 8, &expected, 1);
	must(kvmas_region_del(half));
	return result;
}

static void exchange_across_sections_needs_one_piece_of_memory(void **state)
{
	uint64_t value;
	struct guest g;

	guest_init(&g, *state);
	assert_int_equal(exchange_over_an_alias(&g, 0x1018, false), -EOPNOTSUPP);
	assert_int_equal(exchange_over_an_alias(&g, 0x14, false), -EOPNOTSUPP);
	assert_int_equal(exchange_over_an_alias(&g, 0x1014, true), -EROFS);
	assert_clean(&g, NULL);
	assert_int_equal(exchange_over_an_alias(&g, 0x1014, false), 1);
	memcpy(&value, memory_of(g.a) + 0x1010, 8);
	assert_int_equal(value, 1);
	assert_int_equal(take_dirty(&g, g.a), 2);
	guest_fini(&g);
}

static void exchange_of_memory_askew_on_the_host_returns_eopnotsupp(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	must(kvmas_region_set_offset(g.b, 0x20004));
	assert_refused(&g, 0x20008 + 8, 8, -EOPNOTSUPP);
	must(kvmas_region_set_offset(g.b, 0x20008));
	assert_int_equal(kvmas_dma_compare_exchange(&g.dma, 0x20010, 8, &(uint64_t){0}, 1), 1);
	guest_fini(&g);
}

/* ---- against other threads ---- */

enum { NTHREADS = 3, NTIMES = 3000 };

struct counter {
	struct guest *guest;
	unsigned failures;
	pthread_t thread;
};

static void *count_up(void *data)
{
	struct counter *counter = data;
	struct kvmas_dma dma = {.space = counter->guest->space};
	uint64_t value = 0;

	if (kvmas_reader_add(counter->guest->f->kvmas, &dma.reader)) {
		counter->failures++;
		return NULL;
	}
	for (unsigned i = 0; i < NTIMES;) {
		int result = kvmas_dma_compare_exchange(&dma, 0x4008, 4, &value, value + 1);

		counter->failures += result < 0;
		i += result != 0;
	}
	kvmas_reader_del(dma.reader);
	return NULL;
}

static void exchanges_of_several_threads_lose_nothing(void **state)
{
	struct counter counters[NTHREADS];
	uint32_t value;
	struct guest g;

	guest_init(&g, *state);
	for (unsigned i = 0; i < NTHREADS; i++) {
		counters[i] = (struct counter){.guest = &g};
		must(pthread_create(&counters[i].thread, NULL, count_up, &counters[i]));
	}
	for (unsigned i = 0; i < NTHREADS; i++) {
		must(pthread_join(counters[i].thread, NULL));
		assert_int_equal(counters[i].failures, 0);
	}
	memcpy(&value, memory_of(g.b) + 8, 4);
	assert_int_equal(value, NTHREADS * NTIMES);
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(exchange_of_each_size_writes_just_these_bytes),
		TEST(exchange_that_finds_another_value_writes_nothing),
		TEST(exchange_of_another_size_returns_einval),
		TEST(exchange_that_is_not_aligned_returns_einval),
		TEST(exchange_where_no_memory_is_written_is_refused),
		TEST(exchange_at_the_top_reaches_it),
		TEST(exchange_across_sections_needs_one_piece_of_memory),
		TEST(exchange_of_memory_askew_on_the_host_returns_eopnotsupp),
		TEST(exchanges_of_several_threads_lose_nothing),
	};

	return cmocka_run_group_tests_name("dma-exchange", tests, NULL, NULL);
}

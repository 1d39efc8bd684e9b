/* SPDX-License-Identifier: MIT */
/*
 * Random accesses to a small space, whose regions move, change and hide each other all the time,
 * beside a model that knows for each address which byte of what is there. After every step all
 * memory and all devices have the bytes that the model has, and just the pages are dirty that were
 * written.
 *
 * Maps live on while the space changes; what is written to them is known byte by byte. Devices are
 * asked for single bytes, so that what arrives before one refuses is known, too.
 *
 * KVMAS_SEED is the first run's seed, each run's the one before plus 1; KVMAS_STEPS is how many
 * steps there are in all. A run that fails says how it is repeated alone.
 */
#include "choices.h"
#include "dma-model.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/uio.h>

/* ---- accesses ---- */

static void draw_range(struct model *m, uint64_t *gpa, unsigned *size)
{
	*gpa = draw(m, ADDRESSES + 0x40);
	*size = (unsigned)draw(m, draw(m, 2) ? 0x20 : LARGEST) + 1;
}

static void step_read(struct model *m)
{
	unsigned char bytes[LARGEST];
	struct spot spot;
	unsigned size;
	uint64_t gpa;
	size_t done;
	int result, err = 0;

	draw_range(m, &gpa, &size);
	result = kvmas_dma_read(&m->dma, gpa, bytes, size, &done);
	for (unsigned i = 0; i < size && !err; i++) {
		err = model_reach(m, gpa + i, false, &spot);
		if (!err)
			assert_int_equal(bytes[i], *byte_of(m, &spot));
		else
			assert_int_equal(done, i);
	}
	assert_int_equal(result, err);
	assert_true(err || done == size);
	count_result(m, result);
}

/* Bytes go to the model up to the first that cannot be had. */
static int write_model(struct model *m, uint64_t gpa, const unsigned char *bytes, unsigned size,
		       uint64_t *done)
{
	struct spot spot;

	for (*done = 0; *done < size; ++*done) {
		int err = model_reach(m, gpa + *done, true, &spot);

		if (err)
			return err;
		write_byte(m, &spot, bytes[*done]);
	}
	return 0;
}

static void step_write(struct model *m)
{
	unsigned char bytes[LARGEST];
	uint64_t gpa, expected;
	unsigned size;
	size_t done;
	int result;

	draw_range(m, &gpa, &size);
	draw_bytes(m, bytes, size);
	result = kvmas_dma_write(&m->dma, gpa, bytes, size, &done);
	assert_int_equal(result, write_model(m, gpa, bytes, size, &expected));
	assert_int_equal(done, expected);
	count_result(m, result);
}

static void step_fill(struct model *m)
{
	unsigned char bytes[ADDRESSES];
	uint64_t gpa, done, expected;
	unsigned size;
	int result;

	draw_range(m, &gpa, &size);
	size = draw(m, 4) ? size : (unsigned)draw(m, ADDRESSES);
	memset(bytes, (int)draw(m, 256), sizeof(bytes));
	result = kvmas_dma_fill(&m->dma, gpa, bytes[0], size, &done);
	assert_int_equal(result, write_model(m, gpa, bytes, size, &expected));
	assert_int_equal(done, expected);
	count_result(m, result);
}

/* Whether a range is one piece of memory on the host, as kvmas_cache_get and
 * kvmas_dma_compare_exchange say it. */
static int find_piece(const struct model *m, uint64_t gpa, unsigned size, bool write,
		      struct spot *first)
{
	int err = model_find(m, gpa, write, first);

	for (unsigned i = 0; i < size && !err; i++) {
		struct spot spot;

		err = model_find(m, gpa + i, write, &spot);
		if (!err && spot.block < 0)
			err = -EOPNOTSUPP;
		if (!err && (hva_of(m, &spot) != hva_of(m, first) + i ||
			     (write && spot.block != first->block)))
			err = -EOPNOTSUPP;
	}
	return err;
}

static void step_exchange(struct model *m)
{
	unsigned size = 1u << draw(m, 4);
	uint64_t gpa = draw(m, ADDRESSES / 8) * 8 + draw(m, 8 / size) * size;
	uint64_t desired = draw(m, UINT32_MAX) * UINT64_C(0x100000001);
	uint64_t expected = draw(m, UINT32_MAX);
	struct spot first;
	int result;
	int err = find_piece(m, gpa, size, true, &first);

	if (!err && (uintptr_t)hva_of(m, &first) % size)
		err = -EOPNOTSUPP;
	if (!err && draw(m, 2)) {
		expected = 0;
		for (unsigned i = size; i-- > 0;)
			expected = expected << 8 | byte_of(m, &first)[i];
	}
	result = kvmas_dma_compare_exchange(&m->dma, gpa, size, &expected, desired);
	count_result(m, result);
	if (err) {
		assert_int_equal(result, err);
		return;
	}
	assert_true(result >= 0);
	for (unsigned i = 0; i < size; i++) {
		assert_int_equal(byte_of(m, &first)[i], (unsigned char)(expected >> 8 * i));
		if (result)
			byte_of(m, &first)[i] = (unsigned char)(desired >> 8 * i);
	}
	if (result)
		mark_spot(m, &first);
}

/* ---- maps ---- */

/* How many bytes from *at* on the same region shows, without a gap; at most *size*. */
static unsigned section(const struct model *m, uint64_t gpa, unsigned size)
{
	unsigned i = 1;

	while (i < size && gpa + i < ADDRESSES && m->top[gpa + i] == m->top[gpa])
		i++;
	return i;
}

/* How many of *size* bytes are copied in pieces of 8, 4, 2 and 1 when there is this much room. */
static unsigned cut(unsigned size, unsigned room)
{
	unsigned fits = 0;
	unsigned piece;

	if (size <= room)
		return size;
	for (;;) {
		for (piece = 8; piece > size - fits; piece /= 2)
			;
		if (fits + piece > room)
			return fits;
		fits += piece;
	}
}

/* What a map is to be: how many bytes, and why no more. */
static int plan(const struct model *m, struct held *held, unsigned size)
{
	bool write = held->flags & KVMAS_MAP_WRITE;
	unsigned room = m->bounce;
	unsigned step;

	for (held->size = 0; held->size < size; held->size += step) {
		unsigned length = section(m, held->gpa + held->size, size - held->size);
		struct spot spot;
		int err = model_find(m, held->gpa + held->size, write, &spot);

		if (err)
			return err;
		step = length;
		if (spot.block < 0) {
			step = cut(length, room);
			room -= step;
		}
		for (unsigned i = 0; i < step; i++)
			model_find(m, held->gpa + held->size + i, write,
				   &held->spots[held->size + i]);
		if (step < length) {
			held->size += step;
			return -ENOBUFS;
		}
	}
	return 0;
}

/* Devices may refuse what is read at once. */
static int plan_reads(const struct model *m, struct held *held)
{
	for (unsigned i = 0; i < held->size; i++) {
		struct spot spot = held->spots[i];

		if (spot.block < 0 && model_reach(m, held->gpa + i, false, &spot)) {
			held->size = i;
			return -ENODEV;
		}
	}
	return 0;
}

static void check_map(struct model *m, const struct held *held)
{
	unsigned at = 0;

	for (unsigned i = 0; i < held->map->niov; i++) {
		unsigned char *bytes = held->map->iov[i].iov_base;

		for (size_t j = 0; j < held->map->iov[i].iov_len; j++, at++) {
			struct spot spot = held->spots[at];

			assert_true(at < held->size);
			if (spot.block >= 0) {
				assert_ptr_equal(bytes + j, hva_of(m, &spot));
			} else if (held->flags & KVMAS_MAP_READ) {
				must(model_reach(m, held->gpa + at, false, &spot));
				assert_int_equal(bytes[j], *byte_of(m, &spot));
			}
		}
	}
	assert_int_equal(at, held->size);
	assert_int_equal(held->map->size, held->size);
}

static void step_map(struct model *m, struct held *held)
{
	unsigned size;
	uint64_t gpa;
	int result, err;

	draw_range(m, &gpa, &size);
	held->gpa = (unsigned)gpa;
	held->flags = (unsigned)draw(m, 3) + 1;
	result = kvmas_dma_map(&m->dma, gpa, size, held->flags, &held->map);
	err = plan(m, held, size);
	if (held->size && held->flags & KVMAS_MAP_READ && plan_reads(m, held))
		err = -ENODEV;
	count_result(m, result);
	if (held->size) {
		assert_int_equal(result, 0);
		check_map(m, held);
	} else {
		assert_int_equal(result, err);
		held->map = NULL;
	}
}

static unsigned char *byte_in_map(const struct kvmas_map *map, unsigned at)
{
	unsigned i = 0;

	while (at >= map->iov[i].iov_len)
		at -= (unsigned)map->iov[i++].iov_len;
	return (unsigned char *)map->iov[i].iov_base + at;
}

/* Memory is written when it is, a copy when the map ends. */
static void step_unmap(struct model *m, struct held *held)
{
	unsigned char bytes[LARGEST];
	unsigned written = held->flags & KVMAS_MAP_WRITE ? (unsigned)draw(m, held->size + 1) : 0;
	uint64_t done, expected = 0;
	int err = 0;
	int result;

	draw_bytes(m, bytes, written);
	for (unsigned i = 0; i < written; i++) {
		*byte_in_map(held->map, i) = bytes[i];
		if (held->spots[i].block >= 0)
			write_byte(m, &held->spots[i], bytes[i]);
	}
	result = kvmas_dma_unmap(&m->dma, held->map,
				 written == held->size ? written + draw(m, 2) : written, &done);
	for (unsigned i = 0; i < written; i++) {
		struct spot spot = held->spots[i];

		if (spot.block < 0 && !err) {
			err = model_reach(m, held->gpa + i, true, &spot);
			if (!err)
				write_byte(m, &spot, bytes[i]);
		}
		expected += !err;
	}
	assert_int_equal(result, err);
	assert_int_equal(done, expected);
	held->map = NULL;
	count_result(m, result);
}

static void step_map_or_unmap(struct model *m)
{
	struct held *held = &m->maps[draw(m, NMAPS)];

	if (held->map)
		step_unmap(m, held);
	else
		step_map(m, held);
}

/* ---- caches ---- */

static void store_through_cache(struct model *m, const struct kvmas_cache *cache,
				const struct spot *first, unsigned char *hva)
{
	unsigned offset = (unsigned)draw(m, cache->size);
	struct spot spot = *first;

	spot.at += offset;
	hva[offset]++;
	write_byte(m, &spot, hva[offset]);
	must(kvmas_cache_mark(cache, offset, 1));
}

static void step_cache(struct model *m)
{
	struct kvmas_cache *cache = &m->caches[draw(m, NCACHES)];
	const struct kvmas_view *view;
	struct spot first;
	void *hva = NULL;
	int result, err;

	if (draw(m, 8) == 0 || !cache->size)
		kvmas_cache_init(cache, draw(m, ADDRESSES), draw(m, 0x40) + 1, draw(m, 2));
	view = kvmas_view_acquire(m->f->reader, m->dma.space);
	result = kvmas_cache_get(cache, view, &hva);
	err = find_piece(m, cache->gpa, (unsigned)cache->size, cache->write, &first);
	assert_int_equal(result, err == -EOPNOTSUPP ? -ENXIO : err);
	if (!err) {
		assert_ptr_equal(hva, hva_of(m, &first));
		if (cache->write)
			store_through_cache(m, cache, &first, hva);
	}
	kvmas_view_release(m->f->reader, view);
	count_result(m, result);
}

/* ---- runs ---- */

static void step(struct model *m)
{
	static void (*const steps[])(struct model *) = {
		step_read,     step_write,        step_fill,         step_exchange,
		step_exchange, step_map_or_unmap, step_map_or_unmap, step_cache,
		step_cache,    model_edit,        model_edit,
	};

	steps[draw(m, LENGTH(steps))](m);
	model_check(m);
}

static void run(struct model *m, uint64_t seed, uint64_t nsteps)
{
	model_init(m, seed);
	for (uint64_t i = 0; i < nsteps; i++)
		step(m);
	for (unsigned i = 0; i < NMAPS; i++) {
		if (m->maps[i].map)
			step_unmap(m, &m->maps[i]);
	}
	model_check(m);
	model_fini(m);
}

static void random_accesses_do_what_the_model_does(void **state)
{
	static const int errnos[] = {0, ENXIO, EROFS, ENODEV, EOPNOTSUPP, ENOBUFS};
	uint64_t seed = number_from("KVMAS_SEED", 1);
	uint64_t nsteps = number_from("KVMAS_STEPS", 20000);
	unsigned results[LENGTH(errnos)] = {0};
	struct model *m = malloc(sizeof(*m));

	assert_non_null(m);
	*state = &m->seed;
	for (uint64_t left = nsteps; left; seed++) {
		uint64_t length = left < RUN ? left : RUN;

		run(m, seed, length);
		left -= length;
		for (unsigned i = 0; i < LENGTH(errnos); i++)
			results[i] += m->results[errnos[i]];
	}
	*state = NULL;
	free(m);
	for (unsigned i = 0; i < LENGTH(errnos); i++) {
		print_message("errno %3d: %u times\n", errnos[i], results[i]);
		/* In a run of the usual length each is met. */
		assert_true(nsteps < 20000 || results[i] > nsteps / 1000);
	}
}

static int tell_failure(void **state)
{
	if (*state)
		print_error("to repeat: KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%d\n",
			    *(uint64_t *)*state, RUN);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_accesses_do_what_the_model_does, tell_failure),
	};

	return cmocka_run_group_tests_name("dma-random", tests, NULL, NULL);
}

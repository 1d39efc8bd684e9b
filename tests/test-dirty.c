/* SPDX-License-Identifier: MIT */
/* The bitmaps of a RAM block, by themselves: no region, no space. */
#include "fixture.h"

#include "dirty.h"

enum { MAX_PAGES = 320, MAX_WORDS = MAX_PAGES / 64 };

/* A block's tracker and the bitmaps of a few clients on it. */
struct tracked {
	struct kvmas *kvmas;
	struct dirty *dirty;
	struct dirty_client clients[3];
	unsigned nclients;
	uint64_t npages;
};

static void track(struct fixture *f, struct tracked *t, uint64_t npages, unsigned nclients)
{
	*t = (struct tracked){.kvmas = f->kvmas, .npages = npages, .nclients = nclients};
	must(kas_dirty_new(f->kvmas, npages, &t->dirty));
	for (unsigned i = 0; i < nclients; i++) {
		TAILQ_INIT(&t->clients[i].bitmaps);
		must(kas_dirty_add_bitmap(t->dirty, &t->clients[i], f->kvmas));
	}
}

static void untrack(struct tracked *t)
{
	if (t->dirty)
		kas_dirty_end(t->dirty);
	for (unsigned i = 0; i < t->nclients; i++)
		kas_dirty_free_bitmaps(&t->clients[i], t->kvmas);
}

/* Take all, and compare with a list of pages ended by -1. */
static void assert_pages(struct tracked *t, unsigned client, const int *pages)
{
	uint64_t expected[MAX_WORDS] = {0};
	uint64_t words[MAX_WORDS];
	int64_t count = 0;

	for (; *pages >= 0; pages++, count++)
		expected[*pages / 64] |= UINT64_C(1) << (*pages % 64);
	assert_int_equal(kas_dirty_take(t->dirty, &t->clients[client], 0, t->npages, words), count);
	assert_memory_equal(words, expected, (t->npages + 63) / 64 * sizeof(uint64_t));
}

#define PAGES(...) ((const int[]){__VA_ARGS__, -1})
#define NO_PAGES ((const int[]){-1})

/* ---- marking ---- */

static void mark_sets_just_its_run(void **state)
{
	static const struct {
		uint64_t first, npages;
	} runs[] = {{0, 1},   {0, 0},    {0, 64},   {0, 65},    {1, 63},   {1, 64},
		    {63, 1},  {63, 2},   {64, 64},  {64, 128},  {65, 126}, {0, 300},
		    {299, 1}, {256, 44}, {255, 45}, {100, 100}, {300, 0},  {191, 2}};
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 300, 1);
	for (size_t i = 0; i < LENGTH(runs); i++) {
		int pages[301];
		int n = 0;

		for (uint64_t page = 0; page < runs[i].npages; page++)
			pages[n++] = (int)(runs[i].first + page);
		pages[n] = -1;
		kas_dirty_mark(t.dirty, runs[i].first, runs[i].npages);
		assert_pages(&t, 0, pages);
	}
	untrack(&t);
}

/* Bits with no regularity, the same each time. */
static void scatter(uint64_t *words, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		words[i] = seed ^ seed >> 29;
	}
}

static void assert_log_lands(struct tracked *t, uint64_t first, uint64_t npages)
{
	uint64_t log[MAX_WORDS];
	int pages[MAX_PAGES + 1];
	int n = 0;

	scatter(log, MAX_WORDS, first * 331 + npages);
	for (uint64_t page = 0; page < npages; page++) {
		if (log[page / 64] >> (page % 64) & 1)
			pages[n++] = (int)(first + page);
	}
	pages[n] = -1;
	kas_dirty_mark_log(t->dirty, first, npages, log);
	assert_pages(t, 0, pages);
}

static void log_lands_at_any_page_offset(void **state)
{
	static const uint64_t sizes[] = {1, 2, 31, 63, 64, 65, 127, 128, 129, 170};
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 300, 1);
	for (size_t i = 0; i < LENGTH(sizes); i++) {
		for (uint64_t first = 0; first <= 130; first++)
			assert_log_lands(&t, first, sizes[i]);
		assert_log_lands(&t, 300 - sizes[i], sizes[i]);
	}
	untrack(&t);
}

static void log_adds_to_what_is_dirty(void **state)
{
	static const uint64_t log = 0x5;
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 100, 1);
	kas_dirty_mark(t.dirty, 63, 2);
	kas_dirty_mark_log(t.dirty, 62, 3, &log);
	assert_pages(&t, 0, PAGES(62, 63, 64));
	untrack(&t);
}

static void log_bits_past_its_pages_are_ignored(void **state)
{
	static const uint64_t log[] = {~UINT64_C(0), ~UINT64_C(0)};
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 70, 1);
	kas_dirty_mark_log(t.dirty, 68, 2, log);
	assert_pages(&t, 0, PAGES(68, 69));
	kas_dirty_mark_log(t.dirty, 3, 66, log);
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], 0, 70, (uint64_t[2]){0}), 66);
	untrack(&t);
}

static void pages_land_in_any_order_and_repeated(void **state)
{
	static const uint64_t pages[] = {299, 0, 64, 63, 0, 299, 128, 64};
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 300, 2);
	kas_dirty_mark(t.dirty, 1, 1);
	kas_dirty_mark_pages(t.dirty, pages, LENGTH(pages));
	for (unsigned i = 0; i < 2; i++)
		assert_pages(&t, i, PAGES(0, 1, 63, 64, 128, 299));
	kas_dirty_mark_pages(t.dirty, pages, 0);
	kas_dirty_mark_pages(t.dirty, pages, 1);
	assert_pages(&t, 0, PAGES(299));
	untrack(&t);
}

static void mark_without_bitmaps_does_nothing(void **state)
{
	static const uint64_t log = 1;
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 64, 0);
	kas_dirty_mark(t.dirty, 0, 64);
	kas_dirty_mark_pages(t.dirty, &log, 1);
	kas_dirty_mark_log(t.dirty, 0, 64, &log);
	untrack(&t);
}

static void mark_reaches_every_client(void **state)
{
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 64, 3);
	kas_dirty_mark(t.dirty, 7, 2);
	for (unsigned i = 0; i < 3; i++)
		assert_pages(&t, i, PAGES(7, 8));
	untrack(&t);
}

static void new_bitmap_is_clean_and_the_only_one(void **state)
{
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 64, 1);
	kas_dirty_mark(t.dirty, 3, 1);
	must(kas_dirty_add_bitmap(t.dirty, &t.clients[0], f->kvmas));
	assert_pages(&t, 0, PAGES(3));
	assert_pages(&t, 0, NO_PAGES);
	untrack(&t);
}

/* ---- take and put ---- */

static void take_clears_what_it_fetched_only(void **state)
{
	struct fixture *f = *state;
	struct tracked t;
	uint64_t words[2] = {~UINT64_C(0), ~UINT64_C(0)};

	track(f, &t, 200, 2);
	kas_dirty_mark(t.dirty, 60, 80);
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], 64, 10, words), 10);
	assert_int_equal(words[0], 0x3ff);
	assert_int_equal(words[1], ~UINT64_C(0)); /* not asked for: not written */
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], 64, 64, words), 54);
	assert_int_equal(words[0], ~UINT64_C(0x3ff));
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], 0, 200, (uint64_t[4]){0}), 16);
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[1], 0, 200, (uint64_t[4]){0}), 80);
	untrack(&t);
}

static void put_restores_bits_and_leaves_others(void **state)
{
	static const uint64_t words[] = {0x10, ~UINT64_C(0)};
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 130, 2);
	kas_dirty_mark(t.dirty, 64, 1);
	must(kas_dirty_put(t.dirty, &t.clients[0], 64, 66, words));
	assert_pages(&t, 0, PAGES(64, 68, 128, 129));
	assert_pages(&t, 1, PAGES(64));
	untrack(&t);
}

static void unaligned_run_is_taken_and_put_alone(void **state)
{
	static const uint64_t ones[] = {~UINT64_C(0), ~UINT64_C(0)};
	struct fixture *f = *state;
	struct tracked t;
	uint64_t words[2];

	track(f, &t, 200, 1);
	kas_dirty_mark(t.dirty, 0, 200);
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], 66, 3, words), 3);
	assert_int_equal(words[0], 0x1c);
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], 126, 3, words), 3);
	assert_int_equal(words[0], UINT64_C(3) << 62);
	assert_int_equal(words[1], 1);
	assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], 0, 200, (uint64_t[4]){0}), 194);
	must(kas_dirty_put(t.dirty, &t.clients[0], 62, 4, ones));
	assert_pages(&t, 0, PAGES(62, 63, 64, 65));
	must(kas_dirty_put(t.dirty, &t.clients[0], 70, 2, ones));
	assert_pages(&t, 0, PAGES(70, 71));
	untrack(&t);
}

static void put_sets_no_bit_past_its_run(void **state)
{
	static const uint64_t ones = ~UINT64_C(0);
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 130, 1);
	must(kas_dirty_put(t.dirty, &t.clients[0], 64, 3, &ones));
	assert_pages(&t, 0, PAGES(64, 65, 66));
	untrack(&t);
}

static void run_that_is_no_part_of_the_block_returns_einval(void **state)
{
	static const struct {
		uint64_t first, npages;
		int result;
	} runs[] = {
		{0, 100, 0},
		{64, 36, 0},
		{0, 0, 0},
		{64, 0, 0},
		{0, 101, -EINVAL},
		{64, 37, -EINVAL},
		{128, 0, -EINVAL},
		{1, 1, 0},
		{63, 37, 0},
		{63, 38, -EINVAL},
		{100, 0, 0},
		{101, 0, -EINVAL},
		{0, UINT64_MAX, -EINVAL},
		{64, UINT64_MAX - 63, -EINVAL},
		{UINT64_MAX - 63, 64, -EINVAL},
		{UINT64_MAX - 63, 1, -EINVAL},
	};
	struct fixture *f = *state;
	struct tracked t;
	uint64_t words[2] = {0};

	track(f, &t, 100, 1);
	for (size_t i = 0; i < LENGTH(runs); i++) {
		assert_int_equal(kas_dirty_take(t.dirty, &t.clients[0], runs[i].first,
						runs[i].npages, words),
				 runs[i].result);
		assert_int_equal(
			kas_dirty_put(t.dirty, &t.clients[0], runs[i].first, runs[i].npages, words),
			runs[i].result);
	}
	untrack(&t);
}

static void client_without_bitmap_returns_enoent(void **state)
{
	struct fixture *f = *state;
	struct dirty_client stranger = {0};
	struct tracked t;
	uint64_t word = 0;

	track(f, &t, 64, 1);
	TAILQ_INIT(&stranger.bitmaps);
	assert_int_equal(kas_dirty_take(t.dirty, &stranger, 0, 64, &word), -ENOENT);
	assert_int_equal(kas_dirty_put(t.dirty, &stranger, 0, 64, &word), -ENOENT);
	untrack(&t);
}

/* ---- at random ---- */

/* More than is dealt with under one lock. */
enum { BIG_PAGES = 600000, BIG_WORDS = (BIG_PAGES + 63) / 64 };

/* What two clients should have, page by page. */
struct plain {
	struct tracked t;
	uint64_t seed;
	unsigned char bits[2][BIG_PAGES];
	uint64_t words[BIG_WORDS + 1];
};

static uint64_t draw(struct plain *p, uint64_t below)
{
	p->seed = p->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (p->seed >> 33) % below;
}

/* A run that is short, long, or at the end, at any place. */
static uint64_t draw_run(struct plain *p, uint64_t *npages)
{
	static const uint64_t lengths[] = {1, 3, 64, 600, 5000, BIG_PAGES};
	uint64_t first = draw(p, draw(p, 10) ? BIG_PAGES : 200);
	uint64_t room = BIG_PAGES - first;

	*npages = first < 200 ? room : draw(p, lengths[draw(p, LENGTH(lengths))]) + 1;
	if (*npages > room)
		*npages = room;
	return first;
}

/* Words of which few or many bits are set, or none. */
static void draw_words(struct plain *p, uint64_t npages)
{
	uint64_t density = draw(p, 4);

	for (uint64_t i = 0; i < (npages + 63) / 64; i++) {
		p->words[i] = 0;
		if (density == 1 && draw(p, 50) == 0)
			p->words[i] = UINT64_C(1) << draw(p, 64);
		else if (density == 2)
			p->words[i] = draw(p, UINT64_MAX) << 32 ^ draw(p, UINT64_MAX);
		else if (density == 3)
			p->words[i] = ~UINT64_C(0);
	}
}

static bool word_bit(const struct plain *p, uint64_t i)
{
	return p->words[i / 64] >> (i % 64) & 1;
}

static void mark_at_random(struct plain *p)
{
	uint64_t npages, first = draw_run(p, &npages);
	bool told = false, is_log = draw(p, 2);

	draw_words(p, npages);
	for (uint64_t i = 0; i < npages; i++) {
		bool set = !is_log || word_bit(p, i);

		told |= set;
		p->bits[0][first + i] |= set;
		p->bits[1][first + i] |= set;
	}
	if (is_log)
		assert_int_equal(kas_dirty_mark_log(p->t.dirty, first, npages, p->words), told);
	else
		kas_dirty_mark(p->t.dirty, first, npages);
}

static void take_at_random(struct plain *p)
{
	uint64_t npages, first = draw_run(p, &npages);
	unsigned client = (unsigned)draw(p, 2);
	unsigned char *bits = &p->bits[client][first];
	uint64_t shift = first % 64;
	int64_t count = 0;

	memset(p->words, 0xff, sizeof(p->words));
	for (uint64_t i = 0; i < npages; i++)
		count += bits[i];
	assert_int_equal(kas_dirty_take(p->t.dirty, &p->t.clients[client], first, npages, p->words),
			 count);
	for (uint64_t i = 0; i < (shift + npages + 63) / 64 * 64; i++) {
		bool inside = i >= shift && i < shift + npages;

		if (word_bit(p, i) != (inside && bits[i - shift]))
			fail_msg("page %d of %d + %d", (int)i, (int)first, (int)npages);
	}
	memset(bits, 0, npages);
}

static void put_at_random(struct plain *p)
{
	uint64_t npages, first = draw_run(p, &npages);
	unsigned client = (unsigned)draw(p, 2);

	draw_words(p, first % 64 + npages);
	for (uint64_t i = 0; i < npages; i++)
		p->bits[client][first + i] |= word_bit(p, first % 64 + i);
	must(kas_dirty_put(p->t.dirty, &p->t.clients[client], first, npages, p->words));
}

static void all_ways_agree_with_a_plain_array(void **state)
{
	static void (*const steps[])(struct plain *) = {mark_at_random, take_at_random,
							take_at_random, put_at_random};
	struct plain *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->seed = 1;
	track(*state, &p->t, BIG_PAGES, 2);
	for (int i = 0; i < 400; i++)
		steps[draw(p, LENGTH(steps))](p);
	untrack(&p->t);
	free(p);
}

/* ---- ends ---- */

static void block_may_end_before_its_clients(void **state)
{
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 64, 2);
	kas_dirty_end(t.dirty);
	t.dirty = NULL;
	untrack(&t);
}

static void client_may_end_before_its_block(void **state)
{
	struct fixture *f = *state;
	struct tracked t;

	track(f, &t, 64, 2);
	kas_dirty_free_bitmaps(&t.clients[0], f->kvmas);
	kas_dirty_mark(t.dirty, 1, 1);
	assert_pages(&t, 1, PAGES(1));
	untrack(&t);
}

static void bitmaps_of_ended_blocks_go_when_the_next_block_comes(void **state)
{
	struct fixture *f = *state;
	struct dirty_client client = {0};
	size_t blocks = 0;

	TAILQ_INIT(&client.bitmaps);
	for (int i = 0; i < 10; i++) {
		struct dirty *dirty;

		must(kas_dirty_new(f->kvmas, 64, &dirty));
		must(kas_dirty_add_bitmap(dirty, &client, f->kvmas));
		kas_dirty_end(dirty);
		if (i == 0)
			blocks = f->heap.blocks;
	}
	assert_int_equal(f->heap.blocks, blocks);
	kas_dirty_free_bitmaps(&client, f->kvmas);
}

static int try_new_dirty(struct fixture *f)
{
	struct tracked t = {.kvmas = f->kvmas, .nclients = 1};
	int err = kas_dirty_new(f->kvmas, 64, &t.dirty);

	if (err)
		return err;
	TAILQ_INIT(&t.clients[0].bitmaps);
	err = kas_dirty_add_bitmap(t.dirty, &t.clients[0], f->kvmas);
	untrack(&t);
	return err;
}

static void every_allocation_fails_cleanly(void **state)
{
	assert_int_equal(fail_each_allocation(*state, try_new_dirty), 2);
}

/* ---- threads ---- */

enum { NMARKS = 20000 };

static void *mark_every_page(void *data)
{
	struct tracked *t = data;

	for (uint64_t i = 0; i < NMARKS; i++)
		kas_dirty_mark(t->dirty, i % t->npages, 1);
	return NULL;
}

/* Each page was marked after the last take, or is in what some take fetched. */
static void take_loses_no_page_marked_meanwhile(void **state)
{
	struct fixture *f = *state;
	uint64_t seen[MAX_WORDS] = {0};
	uint64_t words[MAX_WORDS];
	pthread_t thread;
	struct tracked t;

	track(f, &t, 320, 1);
	must(pthread_create(&thread, NULL, mark_every_page, &t));
	for (int round = 0; round < 200; round++) {
		assert_true(kas_dirty_take(t.dirty, &t.clients[0], 0, 320, words) >= 0);
		for (unsigned i = 0; i < MAX_WORDS; i++)
			seen[i] |= words[i];
	}
	must(pthread_join(thread, NULL));
	kas_dirty_take(t.dirty, &t.clients[0], 0, 320, words);
	for (unsigned i = 0; i < MAX_WORDS; i++)
		assert_int_equal(seen[i] | words[i], ~UINT64_C(0));
	untrack(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(mark_sets_just_its_run),
		TEST(log_lands_at_any_page_offset),
		TEST(log_adds_to_what_is_dirty),
		TEST(log_bits_past_its_pages_are_ignored),
		TEST(pages_land_in_any_order_and_repeated),
		TEST(mark_without_bitmaps_does_nothing),
		TEST(mark_reaches_every_client),
		TEST(new_bitmap_is_clean_and_the_only_one),
		TEST(take_clears_what_it_fetched_only),
		TEST(put_restores_bits_and_leaves_others),
		TEST(unaligned_run_is_taken_and_put_alone),
		TEST(put_sets_no_bit_past_its_run),
		TEST(run_that_is_no_part_of_the_block_returns_einval),
		TEST(client_without_bitmap_returns_enoent),
		TEST(all_ways_agree_with_a_plain_array),
		TEST(block_may_end_before_its_clients),
		TEST(client_may_end_before_its_block),
		TEST(bitmaps_of_ended_blocks_go_when_the_next_block_comes),
		TEST(every_allocation_fails_cleanly),
		TEST(take_loses_no_page_marked_meanwhile),
	};

	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}

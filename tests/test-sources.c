/* SPDX-License-Identifier: MIT */
/* Logs that are armed when pages are taken: which are asked, for which pages, and what it costs. */
#include "sources.h"

#include "fixture.h"

enum { NSOURCES = 4 };

/* A log that writes down what it is asked. */
struct told {
	struct source source;
	uint64_t first;
	uint64_t npages;
	unsigned calls;
	int result;
};

struct scene {
	struct fixture *f;
	struct sources sources;
	struct told told[NSOURCES];
};

static int write_down(struct source *source, uint64_t first, uint64_t npages)
{
	struct told *told = kas_container_of(source, struct told, source);

	told->first = first;
	told->npages = npages;
	told->calls++;
	return told->result;
}

/* [0, 256), twice [64, 128), and [192, 193): all known, none attached. */
static int setup(void **state)
{
	static const uint64_t places[NSOURCES][2] = {{0, 256}, {64, 64}, {64, 64}, {192, 1}};
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->f = fixture_new((struct kvmas_config){0});
	kas_sources_init(&s->sources, s->f->kvmas);
	for (unsigned i = 0; i < NSOURCES; i++) {
		s->told[i].source = (struct source){
			.first = places[i][0], .npages = places[i][1], .clear = write_down};
		must(kas_source_add(&s->sources, &s->told[i].source));
	}
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	for (unsigned i = 0; i < NSOURCES; i++)
		kas_source_del(&s->sources, &s->told[i].source);
	assert_int_equal(s->sources.known, 0);
	kas_sources_fini(&s->sources);
	fixture_free(s->f);
	free(s);
	return 0;
}

static void attach(struct scene *s, unsigned i)
{
	kas_source_attach(&s->sources, &s->told[i].source);
}

static void attach_all(struct scene *s)
{
	for (unsigned i = NSOURCES; i-- > 0;)
		attach(s, i);
}

/* Take one page of 256. */
static int take(struct scene *s, uint64_t page)
{
	uint64_t words[4] = {0};

	words[page / 64] = UINT64_C(1) << page % 64;
	return kas_sources_clear(&s->sources, 0, 256, words);
}

static void assert_asked(const struct told *told, unsigned calls, uint64_t first, uint64_t npages)
{
	assert_int_equal(told->calls, calls);
	if (!calls)
		return;
	assert_int_equal(told->first, first);
	assert_int_equal(told->npages, npages);
}

static void all_that_show_the_word_of_a_taken_page_are_asked(void **state)
{
	struct scene *s = *state;

	attach_all(s);
	must(take(s, 70));
	assert_asked(&s->told[0], 1, 64, 64);
	assert_asked(&s->told[1], 1, 64, 64);
	assert_asked(&s->told[2], 1, 64, 64);
	assert_asked(&s->told[3], 0, 0, 0);
	must(take(s, 255));
	assert_asked(&s->told[0], 2, 192, 64);
	assert_asked(&s->told[1], 1, 64, 64);
	assert_asked(&s->told[3], 1, 192, 1);
}

static void pages_from_the_first_to_the_last_taken_are_asked_for_at_once(void **state)
{
	struct scene *s = *state;
	const uint64_t words[2] = {UINT64_C(1) << 63, 1};

	attach(s, 0);
	must(kas_sources_clear(&s->sources, 64, 100, words));
	assert_asked(&s->told[0], 1, 64, 100);
}

static void nobody_is_asked_where_nothing_was_taken(void **state)
{
	struct scene *s = *state;
	const uint64_t words[4] = {0};

	attach_all(s);
	must(kas_sources_clear(&s->sources, 0, 256, words));
	must(kas_sources_clear(&s->sources, 0, 0, words));
	for (unsigned i = 0; i < NSOURCES; i++)
		assert_asked(&s->told[i], 0, 0, 0);
}

static void one_that_is_detached_is_not_asked(void **state)
{
	struct scene *s = *state;

	attach_all(s);
	attach(s, 1);
	kas_source_detach(&s->sources, &s->told[1].source);
	kas_source_detach(&s->sources, &s->told[1].source);
	must(take(s, 64));
	assert_asked(&s->told[1], 0, 0, 0);
	assert_asked(&s->told[2], 1, 64, 64);
	attach(s, 1);
	must(take(s, 64));
	assert_asked(&s->told[1], 1, 64, 64);
	assert_asked(&s->told[2], 2, 64, 64);
}

static void first_error_is_returned_after_all_were_asked(void **state)
{
	struct scene *s = *state;

	attach_all(s);
	s->told[0].result = -EIO;
	s->told[1].result = -ENOMEM;
	assert_int_equal(take(s, 64), -EIO);
	assert_asked(&s->told[2], 1, 64, 64);
	assert_int_equal(kas_sources_clear_all(&s->sources), -EIO);
}

static void all_are_asked_for_all_of_theirs(void **state)
{
	struct scene *s = *state;

	must(kas_sources_clear_all(&s->sources));
	attach_all(s);
	must(kas_sources_clear_all(&s->sources));
	assert_asked(&s->told[0], 1, 0, 256);
	assert_asked(&s->told[2], 1, 64, 64);
	assert_asked(&s->told[3], 1, 192, 1);
}

/* What comes long before, and is long, is found behind many that are short. */
static void long_one_is_found_behind_many_short_ones(void **state)
{
	struct told many[100] = {0};
	struct scene *s = *state;

	for (unsigned i = 0; i < LENGTH(many); i++) {
		many[i].source = (struct source){.first = i + 1, .npages = 1, .clear = write_down};
		must(kas_source_add(&s->sources, &many[i].source));
		kas_source_attach(&s->sources, &many[i].source);
	}
	attach(s, 0);
	must(take(s, 200));
	assert_asked(&s->told[0], 1, 192, 64);
	for (unsigned i = 0; i < LENGTH(many); i++) {
		assert_asked(&many[i], 0, 0, 0);
		kas_source_del(&s->sources, &many[i].source);
	}
}

static void attaching_needs_no_memory(void **state)
{
	struct scene *s = *state;
	unsigned long calls = s->f->heap.calls;

	attach_all(s);
	assert_int_equal(s->f->heap.calls, calls);
}

static void source_without_memory_is_not_known(void **state)
{
	struct scene *s = *state;
	struct told many[64] = {0};
	unsigned known = 0;

	while (known < LENGTH(many)) {
		s->f->heap.fail_in = 1;
		many[known].source.clear = write_down;
		if (kas_source_add(&s->sources, &many[known].source))
			break;
		known++;
	}
	assert_true(known < LENGTH(many));
	s->f->heap.fail_in = 0;
	assert_int_equal(s->sources.known, NSOURCES + known);
	while (known-- > 0)
		kas_source_del(&s->sources, &many[known].source);
}

#define SOURCES_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SOURCES_TEST(all_that_show_the_word_of_a_taken_page_are_asked),
		SOURCES_TEST(pages_from_the_first_to_the_last_taken_are_asked_for_at_once),
		SOURCES_TEST(nobody_is_asked_where_nothing_was_taken),
		SOURCES_TEST(one_that_is_detached_is_not_asked),
		SOURCES_TEST(first_error_is_returned_after_all_were_asked),
		SOURCES_TEST(all_are_asked_for_all_of_theirs),
		SOURCES_TEST(long_one_is_found_behind_many_short_ones),
		SOURCES_TEST(attaching_needs_no_memory),
		SOURCES_TEST(source_without_memory_is_not_known),
	};

	return cmocka_run_group_tests_name("sources", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "range.h"

#define TOP UINT64_MAX

static void clip_keeps_what_both_hold(void **state)
{
	static const struct {
		struct range range, window, expected;
		bool any;
	} cases[] = {
		{{0, 9}, {0, 9}, {0, 9}, true},       {{0, 9}, {3, 5}, {3, 5}, true},
		{{3, 5}, {0, 9}, {3, 5}, true},       {{0, 9}, {9, 20}, {9, 9}, true},
		{{5, 9}, {0, 5}, {5, 5}, true},       {{0, 9}, {10, 20}, {0, 0}, false},
		{{10, 20}, {0, 9}, {0, 0}, false},    {{0, TOP}, {TOP, TOP}, {TOP, TOP}, true},
		{{0, 0}, {0, TOP}, {0, 0}, true},     {{TOP, TOP}, {0, 0}, {0, 0}, false},
		{{0, 0}, {TOP, TOP}, {0, 0}, false},  {{1, TOP}, {0, TOP - 1}, {1, TOP - 1}, true},
		{{0, TOP}, {0, TOP}, {0, TOP}, true},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct range range = cases[i].range;

		assert_int_equal(kas_range_clip(&range, cases[i].window), cases[i].any);
		if (!cases[i].any)
			continue;
		assert_int_equal(range.first, cases[i].expected.first);
		assert_int_equal(range.last, cases[i].expected.last);
	}
}

static void size_and_last_are_inverse(void **state)
{
	static const struct {
		uint64_t size, last;
	} cases[] = {{1, 0}, {2, 1}, {0x1000, 0xfff}, {TOP - 1, TOP - 2}, {KVMAS_SIZE_MAX, TOP}};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		assert_int_equal(kas_size_to_last(cases[i].size), cases[i].last);
		assert_int_equal(kas_last_to_size(cases[i].last), cases[i].size);
	}
}

static void range_from_start_and_size(void **state)
{
	static const struct {
		uint64_t start, size, last;
		int result;
	} cases[] = {
		{0, 1, 0, 0},
		{0, KVMAS_SIZE_MAX, TOP, 0},
		{0x1000, 0x1000, 0x1fff, 0},
		{TOP, 1, TOP, 0},
		{TOP - 1, 2, TOP, 0},
		{2, TOP - 1, TOP, 0 /* all but the first two */},
		{0, 0, 0, -EINVAL},
		{TOP, 0, 0, -EINVAL},
		{TOP, 2, 0, -EINVAL},
		{1, KVMAS_SIZE_MAX, 0, -EINVAL},
		{3, TOP - 1, 0, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct range range = {7, 7};

		assert_int_equal(kas_range_from(cases[i].start, cases[i].size, &range),
				 cases[i].result);
		assert_int_equal(range.first, cases[i].result ? 7 : cases[i].start);
		assert_int_equal(range.last, cases[i].result ? 7 : cases[i].last);
	}
}

static void adding_stops_at_the_top(void **state)
{
	static const struct {
		uint64_t a, b, sum;
	} cases[] = {{0, 0, 0},     {1, 2, 3},         {TOP, 0, TOP},
		     {TOP, 1, TOP}, {TOP - 1, 1, TOP}, {TOP, TOP, TOP}};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++)
		assert_int_equal(kas_add_saturating(cases[i].a, cases[i].b), cases[i].sum);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clip_keeps_what_both_hold),
		cmocka_unit_test(size_and_last_are_inverse),
		cmocka_unit_test(range_from_start_and_size),
		cmocka_unit_test(adding_stops_at_the_top),
	};

	return cmocka_run_group_tests_name("range", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Windows, beside a bitmap of what they must cover. */
#include "fixture.h"
#include "validate.h"

static bool covers(const struct windows *windows, uint64_t address)
{
	for (unsigned i = 0; i < windows->count; i++) {
		if (windows->at[i].first <= address && address <= windows->at[i].last)
			return true;
	}
	return false;
}

static void add_all(struct windows *windows, const struct range *ranges, size_t count)
{
	windows->count = 0;
	for (size_t i = 0; i < count; i++)
		kas_windows_add(windows, ranges[i]);
}

static void assert_one(const struct windows *windows, uint64_t first, uint64_t last)
{
	assert_int_equal(windows->count, 1);
	assert_int_equal(windows->at[0].first, first);
	assert_int_equal(windows->at[0].last, last);
}

static void windows_that_overlap_or_touch_are_joined(void **state)
{
	struct windows windows;

	(void)state;
	add_all(&windows, (struct range[]){{0x10, 0x1f}, {0x20, 0x2f}}, 2);
	assert_one(&windows, 0x10, 0x2f);
	add_all(&windows, (struct range[]){{0x20, 0x2f}, {0x10, 0x1f}}, 2);
	assert_one(&windows, 0x10, 0x2f);
	add_all(&windows, (struct range[]){{0, UINT64_MAX}, {0x10, 0x1f}}, 2);
	assert_one(&windows, 0, UINT64_MAX);
	add_all(&windows, (struct range[]){{0x10, 0x1f}, {0x30, 0x3f}, {0x50, 0x5f}, {0x15, 0x55}},
		4);
	assert_one(&windows, 0x10, 0x5f);
	add_all(&windows, (struct range[]){{0x10, 0x1f}, {0x21, 0x2f}}, 2);
	assert_int_equal(windows.count, 2);
}

static void full_windows_are_joined_at_the_smallest_gap(void **state)
{
	struct windows windows = {0};

	(void)state;
	for (uint64_t i = 0; i < KAS_MAX_WINDOWS; i++)
		kas_windows_add(&windows, (struct range){i * 1000, i * 1000 + (i == 1 ? 500 : 10)});
	assert_int_equal(windows.count, KAS_MAX_WINDOWS);
	kas_windows_add(&windows, (struct range){100000, 100000});
	assert_int_equal(windows.count, KAS_MAX_WINDOWS);
	assert_int_equal(windows.at[1].first, 1000);
	assert_int_equal(windows.at[1].last, 2010);
	assert_null(validate_windows(&windows));
}

static void random_windows_cover_what_was_added(void **state)
{
	uint64_t random = 1;

	(void)state;
	for (int run = 0; run < 2000; run++) {
		bool added[256] = {false};
		struct windows windows = {0};

		for (int i = 0; i < 20; i++) {
			uint64_t first;
			uint64_t last;

			random = random * UINT64_C(6364136223846793005) + 1;
			first = random >> 56;
			last = first + (random >> 40) % 16;
			last = last < 256 ? last : 255;
			kas_windows_add(&windows, (struct range){first, last});
			memset(added + first, true, last - first + 1);
			assert_null(validate_windows(&windows));
			for (uint64_t at = 0; at < 256; at++)
				assert_true(covers(&windows, at) || !added[at]);
		}
	}
}

static void validate_sees_windows_that_touch(void **state)
{
	struct windows windows = {.count = 2, .at = {{0, 1}, {2, 3}}};

	(void)state;
	assert_string_equal(validate_windows(&windows), "windows: two that touch");
	windows.count = KAS_MAX_WINDOWS + 1;
	assert_string_equal(validate_windows(&windows), "windows: too many");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_that_overlap_or_touch_are_joined),
		cmocka_unit_test(full_windows_are_joined_at_the_smallest_gap),
		cmocka_unit_test(random_windows_cover_what_was_added),
		cmocka_unit_test(validate_sees_windows_that_touch),
	};

	return cmocka_run_group_tests_name("windows", tests, NULL, NULL);
}

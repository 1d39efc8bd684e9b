/* SPDX-License-Identifier: MIT */
/* What the benches say is only as good as their arithmetic, and a limit that cannot break is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bare.h"
#include "bench.h"
#include "commit.h"
#include "dirty.h"
#include "exit.h"
#include "lookup.h"
#include "slots.h"

static void percentiles_are_those_of_the_sorted_samples(void **state)
{
	static const struct {
		size_t count; /* of the samples count, count - 1 ... 1 us */
		double median, p90;
	} cases[] = {{1, 1, 1}, {2, 1, 2}, {3, 2, 3}, {10, 5, 9}, {11, 6, 10}, {1000, 500, 900}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct samples samples;
		struct summary summary;

		samples_init(&samples, cases[i].count);
		while (samples.count < cases[i].count) {
			samples.ns[samples.count] = (cases[i].count - samples.count) * 1000;
			samples.count++;
		}
		summary = samples_summarise(&samples);
		assert_int_equal(summary.samples, cases[i].count);
		assert_true(summary.median == cases[i].median);
		assert_true(summary.p90 == cases[i].p90);
		samples_fini(&samples);
	}
}

static void meter_counts_what_was_asked_for(void **state)
{
	struct meter meter = {0};
	char *a = meter_realloc(&meter, NULL, 100);
	char *b = meter_realloc(&meter, NULL, 1);

	(void)state;
	assert_int_equal(meter.bytes, 101);
	a[99] = 'a';
	a = meter_realloc(&meter, a, 5000);
	assert_int_equal(a[99], 'a');
	assert_int_equal(meter.bytes, 5001);
	a = meter_realloc(&meter, a, 10);
	assert_int_equal(meter.bytes, 11);
	assert_null(meter_realloc(&meter, a, 0));
	assert_null(meter_realloc(&meter, b, 0));
	assert_int_equal(meter.bytes, 0);
	assert_int_equal(meter.calls, 6);
}

/* Of each move, in every scene, with a figure so low that no limit minds. */
static struct commit_results blameless(void)
{
	struct commit_results results = {0};

	for (unsigned i = 0; i < NGROUPS * NSIZES * NMOVES; i++) {
		struct commit_cell *cell = &results.cells[i / NMOVES / NSIZES][i / NMOVES % NSIZES];

		cell->moves[i % NMOVES].time = (struct summary){100, 0.05, 0.06};
	}
	results.growth = (struct growth){1000000, 5000, 5000, 6000};
	return results;
}

static unsigned broken(const struct commit_results *results, enum commit_limits limits)
{
	FILE *nowhere = fopen("/dev/null", "w");
	unsigned count;

	assert_non_null(nowhere);
	count = commit_check(nowhere, results, limits);
	fclose(nowhere);
	return count;
}

static void limits_hold_for_blameless_results(void **state)
{
	struct commit_results results = blameless();

	(void)state;
	assert_int_equal(broken(&results, COMMIT_LIMITS_ALL), 0);
	assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 0);
}

static void slow_commit_breaks_only_limits_on_time(void **state)
{
	static const struct {
		unsigned group, size;
		enum move move;
		double median;
		unsigned broken;
	} cases[] = {
		{GROUP_1, SIZE_1000, MOVE_NEAR, 2, 0},
		{GROUP_1, SIZE_1000, MOVE_NEAR, 2.1, 1},
		{GROUP_1, SIZE_1000, MOVE_FAR, 4.1, 1},
		{GROUP_TIED, SIZE_1000, MOVE_NEAR, 3.1, 1},
		{GROUP_TIED, SIZE_1000, MOVE_FAR, 6.1, 1},
		{GROUP_1, SIZE_10000, MOVE_NEAR, 0.18, 1}, /* 3.6 times that of 100 */
		{GROUP_1, SIZE_10000, MOVE_NEAR, 5.1, 2},
		{GROUP_1, SIZE_10000, MOVE_FAR, 10.1, 1},
		{GROUP_17, SIZE_100, MOVE_NEAR, 0.84, 0},
		{GROUP_17, SIZE_100, MOVE_NEAR, 0.86, 1}, /* more than 17 times one */
		{GROUP_17, SIZE_10000, MOVE_NEAR, 61, 1},
		{GROUP_1, SIZE_10, MOVE_HIDDEN, 0.6, 1},
		{GROUP_1, SIZE_100, MOVE_EMPTY, 0.11, 1},
		{GROUP_1, SIZE_10000, MOVE_DETACHED, 0.11, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct commit_results results = blameless();
		struct commit_cell *cell = &results.cells[cases[i].group][cases[i].size];

		cell->moves[cases[i].move].time.median = cases[i].median;
		assert_int_equal(broken(&results, COMMIT_LIMITS_ALL), cases[i].broken);
		assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 0);
		assert_int_equal(broken(&results, COMMIT_LIMITS_NONE), 0);
	}
}

static void slow_commit_among_channels_breaks_its_limit(void **state)
{
	static const struct channel_line slow[NCHANNEL_WORKS] = {
		[CHANNEL_FLIP] = {.ratio = 1.21},
		[CHANNEL_LID] = {.ratio = 1.21},
		[CHANNEL_MOVE] = {.with = 151},
		[CHANNEL_ADD] = {.with = 151},
	};

	(void)state;
	for (enum channel_work work = 0; work < NCHANNEL_WORKS; work++) {
		struct commit_results results = blameless();

		results.channels.lines[work] = slow[work];
		assert_int_equal(broken(&results, COMMIT_LIMITS_ALL), 1);
		assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 0);
	}
}

static void memory_limits_break_one_by_one(void **state)
{
	struct commit_results results = blameless();

	(void)state;
	results.footprints[SIZE_10].region = 513;
	assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 1);
	results.footprints[SIZE_10000].range = 257;
	assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 2);
	results.cells[GROUP_17][SIZE_10].moves[MOVE_HIDDEN].calls = 1;
	assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 3);
	results.growth.late++;
	assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 4);
	results.growth.late -= 2;
	assert_int_equal(broken(&results, COMMIT_LIMITS_MEMORY), 4);
}

static void allocations_of_visible_commits_are_not_limited(void **state)
{
	struct commit_results results = blameless();

	(void)state;
	results.cells[GROUP_1][SIZE_10].moves[MOVE_NEAR].calls = 1000;
	assert_int_equal(broken(&results, COMMIT_LIMITS_ALL), 0);
}

static unsigned broken_of_slots(const struct slots_results *results)
{
	FILE *nowhere = fopen("/dev/null", "w");
	unsigned count;

	assert_non_null(nowhere);
	count = slots_check(nowhere, results);
	fclose(nowhere);
	return count;
}

static void each_slow_ratio_of_slots_breaks_one_limit(void **state)
{
	struct slots_results results = {0};

	(void)state;
	for (unsigned i = 0; i < NSLOTS_SIZES * NWORKS; i++)
		results.cells[i / NWORKS][i % NWORKS].ratio = 1.1;
	assert_int_equal(broken_of_slots(&results), 0);
	for (unsigned i = 0; i < NSLOTS_SIZES * NWORKS; i++) {
		results.cells[i / NWORKS][i % NWORKS].ratio = 1.101;
		assert_int_equal(broken_of_slots(&results), i + 1);
	}
}

static void work_on_all_slots_takes_a_call_for_each(void **state)
{
	static const struct {
		enum work work;
		unsigned calls;
	} cases[] = {
		{WORK_DROP, 100},   {WORK_MAKE, 100}, {WORK_FLIP, 2},
		{WORK_READONLY, 4}, {WORK_MOVE, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(work_calls(cases[i].work, 100), cases[i].calls);
}

static unsigned broken_of_dirty(const struct dirty_results *results)
{
	FILE *nowhere = fopen("/dev/null", "w");
	unsigned count;

	assert_non_null(nowhere);
	count = dirty_check(nowhere, results);
	fclose(nowhere);
	return count;
}

static void each_dear_line_of_dirty_breaks_one_limit(void **state)
{
	struct dirty_results results = {.count = NDIRTY_GROUPS};

	(void)state;
	for (unsigned i = 0; i < NDIRTY_GROUPS; i++)
		results.lines[i] =
			(struct dirty_line){.group = i, .measured = true, .ratio = dirty_limit(i)};
	assert_int_equal(broken_of_dirty(&results), 0);
	for (unsigned i = 0; i < NDIRTY_GROUPS; i++) {
		results.lines[i].ratio += 0.001;
		assert_int_equal(broken_of_dirty(&results), i + 1);
	}
}

static void line_of_dirty_with_other_ioctls_is_broken(void **state)
{
	static const struct {
		unsigned calls, beside_calls, broken;
	} cases[] = {{0, 0, 0}, {2, 2, 0}, {1, 2, 1}, {3, 2, 1}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dirty_results results = {.count = 1};

		results.lines[0] = (struct dirty_line){.measured = true,
						       .calls = cases[i].calls,
						       .beside_calls = cases[i].beside_calls};
		assert_int_equal(broken_of_dirty(&results), cases[i].broken);
	}
}

static void line_of_dirty_that_was_not_measured_breaks_nothing(void **state)
{
	struct dirty_results results = {.count = 1};

	(void)state;
	results.lines[0] = (struct dirty_line){.ratio = 9, .calls = 1};
	assert_int_equal(broken_of_dirty(&results), 0);
}

static void or_tells_where_words_that_are_not_zero_begin_and_end(void **state)
{
	const uint64_t words[6] = {0, 4, 0, 1, 0, 0};
	const uint64_t zeroes[6] = {0};
	uint64_t bitmap[6] = {1, 1, 1, 1, 1, 1};
	struct bare_span span = bare_or(bitmap, words, 6);

	(void)state;
	assert_int_equal(span.begin, 1);
	assert_int_equal(span.end, 4);
	assert_int_equal(bitmap[0], 1);
	assert_int_equal(bitmap[1], 5);
	assert_int_equal(bitmap[3], 1);
	assert_int_equal(bare_or(bitmap, zeroes, 6).end, 0);
}

static void median_is_the_middle_one(void **state)
{
	double odd[] = {3, 1, 2};
	double even[] = {4, 1, 3, 2};

	(void)state;
	assert_true(stats_median(odd, 3) == 2);
	assert_true(stats_median(even, 4) == 3);
}

/* Each way adds up what the addresses were made of, or its run ends the program. */
static void all_ways_find_the_same(void **state)
{
	static const unsigned sizes[] = {1, 10, 65, 1000};

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct field field;

		field_open(&field, sizes[i]);
		for (unsigned k = 0; k < NPATTERNS * NWAYS; k++) {
			enum pattern pattern = k / NWAYS;

			if (!way_is_there(k % NWAYS))
				continue;
			assert_int_equal(field_run(&field, k % NWAYS, pattern, FIELD_NADDRESSES),
					 field.sums[pattern]);
		}
		field_close(&field);
	}
}

static struct lookup_results blameless_lookups(void)
{
	struct lookup_results results = {.vm_memory = true};

	results.cells[LOOKUP_1000][PATTERN_RANDOM] =
		(struct lookup_cell){.times_held = 1.6, .times_each = 2};
	results.cells[LOOKUP_1000][PATTERN_REPEATED] =
		(struct lookup_cell){.times_held = 8, .times_each = 8};
	results.company[LOOKUP_1000] = (struct lookup_company){.scaling = 0.95, .slowdown = 1.2};
	return results;
}

static unsigned broken_of_lookup(const struct lookup_results *results)
{
	FILE *stream = tmpfile();
	unsigned broken = lookup_check(stream, results);

	fclose(stream);
	return broken;
}

static void each_limit_of_lookup_breaks_alone(void **state)
{
	struct lookup_results blameless = blameless_lookups();
	struct lookup_results results = blameless;
	double *least[] = {
		&results.cells[LOOKUP_1000][PATTERN_RANDOM].times_held,
		&results.cells[LOOKUP_1000][PATTERN_RANDOM].times_each,
		&results.cells[LOOKUP_1000][PATTERN_REPEATED].times_held,
		&results.cells[LOOKUP_1000][PATTERN_REPEATED].times_each,
		&results.company[LOOKUP_1000].scaling,
	};

	(void)state;
	assert_int_equal(broken_of_lookup(&results), 0);
	for (unsigned i = 0; i < sizeof(least) / sizeof(least[0]); i++) {
		*least[i] -= 0.01;
		assert_int_equal(broken_of_lookup(&results), 1);
		results = blameless;
	}
	results.company[LOOKUP_1000].slowdown = 1.21;
	assert_int_equal(broken_of_lookup(&results), 1);
}

static void lookups_without_vm_memory_are_not_compared_with_it(void **state)
{
	struct lookup_results results = blameless_lookups();

	(void)state;
	results.cells[LOOKUP_1000][PATTERN_RANDOM].times_held = 0;
	results.vm_memory = false;
	assert_int_equal(broken_of_lookup(&results), 0);
}

static void each_dear_exit_breaks_the_limit(void **state)
{
	struct exit_results results = {0};
	FILE *stream = tmpfile();

	(void)state;
	for (unsigned i = 0; i < NEXIT_ACCESSES; i++)
		results.lines[i].ratio = 1.03;
	assert_int_equal(exit_check(stream, &results), 0);
	for (unsigned i = 0; i < NEXIT_ACCESSES; i++) {
		results.lines[i].ratio = 1.031;
		assert_int_equal(exit_check(stream, &results), i + 1);
	}
	for (unsigned i = 0; i < NEXIT_CHANNELS; i++) {
		results.channels[i].ratio = 0.5;
		assert_int_equal(exit_check(stream, &results), NEXIT_ACCESSES + i);
		results.channels[i].ratio = 0.51;
		assert_int_equal(exit_check(stream, &results), NEXIT_ACCESSES + i + 1);
	}
	fclose(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(median_is_the_middle_one),
		cmocka_unit_test(all_ways_find_the_same),
		cmocka_unit_test(each_limit_of_lookup_breaks_alone),
		cmocka_unit_test(lookups_without_vm_memory_are_not_compared_with_it),
		cmocka_unit_test(each_dear_exit_breaks_the_limit),
		cmocka_unit_test(percentiles_are_those_of_the_sorted_samples),
		cmocka_unit_test(meter_counts_what_was_asked_for),
		cmocka_unit_test(limits_hold_for_blameless_results),
		cmocka_unit_test(slow_commit_breaks_only_limits_on_time),
		cmocka_unit_test(slow_commit_among_channels_breaks_its_limit),
		cmocka_unit_test(memory_limits_break_one_by_one),
		cmocka_unit_test(allocations_of_visible_commits_are_not_limited),
		cmocka_unit_test(each_slow_ratio_of_slots_breaks_one_limit),
		cmocka_unit_test(work_on_all_slots_takes_a_call_for_each),
		cmocka_unit_test(each_dear_line_of_dirty_breaks_one_limit),
		cmocka_unit_test(line_of_dirty_with_other_ioctls_is_broken),
		cmocka_unit_test(line_of_dirty_that_was_not_measured_breaks_nothing),
		cmocka_unit_test(or_tells_where_words_that_are_not_zero_begin_and_end),
	};

	return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* The table of what clients want logged, searched by bisection, compared with a plain list. */
#include "fixture.h"

#include "logging.h"

enum { NREGIONS = 12, NSPACES = 3, NCLIENTS = 3, MAX_WISHES = 1 << 9 };

struct wish {
	unsigned client, region, space; /* the two of all: one past the last */
};

struct scene {
	struct fixture *f;
	struct kvmas_region *regions[NREGIONS + 1]; /* the last is NULL */
	struct kvmas_space *spaces[NSPACES + 1];
	struct kvmas_client *clients[NCLIENTS];
	struct wish list[MAX_WISHES];
	unsigned count;
	uint64_t seed;
};

static unsigned draw(struct scene *s, unsigned below)
{
	s->seed = s->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(s->seed >> 33) % below;
}

static void set_scene(struct fixture *f, struct scene *s)
{
	*s = (struct scene){.f = f, .seed = 1};
	/* Others between them, so that addresses do not simply ascend. */
	for (unsigned i = 0; i < NREGIONS; i++)
		s->regions[i * 5 % NREGIONS] = make_ram(f, "r", page_size());
	for (unsigned i = 0; i < NSPACES; i++)
		s->spaces[i] = make_space(f, "s", s->regions[i]);
	for (unsigned i = 0; i < NCLIENTS; i++)
		must(kvmas_client_new(f->kvmas, "c", &s->clients[i]));
}

static void clear_scene(struct scene *s)
{
	for (unsigned i = 0; i < NCLIENTS; i++)
		kvmas_client_unref(s->clients[i]);
}

static bool listed_as_wanted(const struct scene *s, unsigned region, unsigned space)
{
	for (unsigned i = 0; i < s->count; i++) {
		const struct wish *wish = &s->list[i];

		if ((wish->region == NREGIONS || wish->region == region) &&
		    (wish->space == NSPACES || wish->space == space))
			return true;
	}
	return false;
}

static void assert_wanted(const struct scene *s)
{
	for (unsigned region = 0; region < NREGIONS; region++) {
		const struct flat_range range = {.region = s->regions[region]};

		for (unsigned space = 0; space < NSPACES; space++)
			assert_int_equal(
				kas_logging_wanted(s->f->kvmas->logging, s->spaces[space], &range),
				listed_as_wanted(s, region, space));
	}
}

/* Ascending, none twice: I2. */
static void assert_sorted(const struct log_table *table, unsigned count)
{
	assert_int_equal(table ? table->count : 0, count);
	for (unsigned i = 1; i < count; i++) {
		const struct log_wish *a = &table->wishes[i - 1];
		const struct log_wish *b = &table->wishes[i];
		const void *before[] = {a->region, a->space, a->owner};
		const void *after[] = {b->region, b->space, b->owner};
		unsigned k = 0;

		while (k < 2 && before[k] == after[k])
			k++;
		assert_true((uintptr_t)before[k] < (uintptr_t)after[k]);
	}
}

static unsigned find(const struct scene *s, struct wish wish)
{
	unsigned i = 0;

	while (i < s->count && memcmp(&s->list[i], &wish, sizeof(wish)) != 0)
		i++;
	return i;
}

static void start_or_stop(struct scene *s)
{
	struct wish wish = {draw(s, NCLIENTS), draw(s, NREGIONS + 1), draw(s, NSPACES + 1)};
	struct kvmas_client *client = s->clients[wish.client];
	struct kvmas_region *region = s->regions[wish.region];
	struct kvmas_space *space = s->spaces[wish.space];
	unsigned i = find(s, wish);

	/* Most start what is not there, so that there is something; now and then most stop. */
	if (draw(s, 64) < 4 + s->count) {
		int result = kvmas_client_log_stop(client, region, space);

		assert_int_equal(result, i < s->count ? 0 : -ENOENT);
		if (!result)
			s->list[i] = s->list[--s->count];
	} else {
		int result = kvmas_client_log_start(client, region, space);

		assert_int_equal(result, i < s->count ? -EEXIST : 0);
		if (!result)
			s->list[s->count++] = wish;
	}
}

static void table_answers_as_a_plain_list_does(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	for (unsigned i = 0; i < 3000; i++) {
		start_or_stop(&s);
		assert_wanted(&s);
		assert_sorted(s.f->kvmas->logging, s.count);
	}
	clear_scene(&s);
}

static void wishes_of_many_in_one_transaction_come_out_sorted(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	must(kvmas_begin(s.f->kvmas));
	for (unsigned i = 0; i < 200; i++)
		start_or_stop(&s);
	assert_null(s.f->kvmas->logging);
	must(kvmas_commit(s.f->kvmas));
	assert_wanted(&s);
	assert_sorted(s.f->kvmas->logging, s.count);
	clear_scene(&s);
}

static void wishes_of_who_is_gone_leave_the_others_sorted(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	unsigned left = 0;

	set_scene(f, &s);
	for (unsigned i = 0; i < 200; i++)
		start_or_stop(&s);
	for (unsigned i = 0; i < s.count; i++) {
		if (s.list[i].client != 1)
			s.list[left++] = s.list[i];
	}
	assert_true(left > 0 && left < s.count);
	s.count = left;
	kvmas_client_unref(s.clients[1]);
	s.clients[1] = NULL;
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_wanted(&s);
	assert_sorted(f->kvmas->logging, s.count);
	clear_scene(&s);
}

/* Nobody commits any more, but listeners that go are still told what is logged. */
static void wishes_that_end_with_the_last_handle_leave_the_others_sorted(void **state)
{
	struct fixture *f = *state;
	struct kvmas *kvmas = f->kvmas;
	struct scene s;

	set_scene(f, &s);
	for (unsigned i = 0; i < NREGIONS; i++) {
		must(kvmas_client_log_start(s.clients[0], s.regions[i], NULL));
		must(kvmas_client_log_start(s.clients[1], s.regions[i], NULL));
	}
	close_kvmas(f);
	kvmas_client_unref(s.clients[0]);
	s.clients[0] = NULL;
	assert_sorted(kvmas->logging, NREGIONS);
	clear_scene(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(table_answers_as_a_plain_list_does),
		TEST(wishes_of_many_in_one_transaction_come_out_sorted),
		TEST(wishes_of_who_is_gone_leave_the_others_sorted),
		TEST(wishes_that_end_with_the_last_handle_leave_the_others_sorted),
	};

	return cmocka_run_group_tests_name("logging", tests, NULL, NULL);
}

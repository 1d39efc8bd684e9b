/* SPDX-License-Identifier: MIT */
/* Clients: what they wish to be logged, and the dirty pages they take. */
#include "fixture.h"

#include <stdatomic.h>

/* A space with two rams, and another space with an alias of the first. */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *a; /* of 100 pages */
	struct kvmas_region *b;
	struct kvmas_space *space;
	struct kvmas_space *other;
	struct kvmas_client *client;
};

enum { NPAGES = 100 };

static void set_scene(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", KVMAS_SIZE_MAX);
	s->a = make_ram(f, "a", NPAGES * page_size());
	s->b = make_ram(f, "b", page_size());
	add(s->root, s->a, 0, 0);
	add(s->root, s->b, UINT64_C(1) << 32, 0);
	s->space = make_space(f, "s", s->root);
	s->other = make_space(f, "t", make_alias(f, "alias", s->a, 0, page_size()));
	must(kvmas_client_new(f->kvmas, "client", &s->client));
	f->with = s;
}

static void assert_taken(struct kvmas_client *client, const struct kvmas_region *region,
			 uint64_t first_word, uint64_t second_word)
{
	uint64_t words[2];

	assert_int_equal(kvmas_client_take(client, block_of(region), 0, NPAGES, words),
			 __builtin_popcountll(first_word) + __builtin_popcountll(second_word));
	assert_int_equal(words[0], first_word);
	assert_int_equal(words[1], second_word);
}

/* ---- new and unref ---- */

static void client_without_name_returns_einval(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client = NULL;

	assert_int_equal(kvmas_client_new(f->kvmas, NULL, &client), -EINVAL);
	assert_null(client);
}

static int try_new(struct fixture *f)
{
	struct kvmas_client *client;
	int err = kvmas_client_new(f->kvmas, "new", &client);

	if (!err)
		kvmas_client_unref(client);
	return err;
}

static void every_allocation_of_new_fails_cleanly(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(fail_each_allocation(f, try_new), 4); /* itself, name, two bitmaps */
	kvmas_client_unref(s.client);
}

static void bitmaps_of_a_new_client_start_clean(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *late;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_ram_mark(block_of(s.a), 0, 1));
	must(kvmas_client_new(f->kvmas, "late", &late));
	assert_taken(late, s.a, 0, 0);
	assert_taken(s.client, s.a, 1, 0);
	kvmas_client_unref(late);
	kvmas_client_unref(s.client);
}

static void second_reference_keeps_a_client(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_ptr_equal(kvmas_client_ref(s.client), s.client);
	kvmas_client_unref(s.client);
	must(kvmas_reclaim(f->kvmas));
	must(kvmas_ram_mark(block_of(s.a), 0, 1));
	assert_taken(s.client, s.a, 1, 0);
	kvmas_client_unref(s.client);
}

/* ---- take and put ---- */

static void clients_take_independently(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *second;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_new(f->kvmas, "second", &second));
	must(kvmas_ram_mark(block_of(s.a), 70 * page_size(), 2 * page_size()));
	assert_taken(s.client, s.a, 0, 0x3 << 6);
	assert_taken(s.client, s.a, 0, 0);
	must(kvmas_ram_mark(block_of(s.a), 0, 1));
	assert_taken(second, s.a, 1, 0x3 << 6);
	assert_taken(s.client, s.a, 1, 0);
	kvmas_client_unref(second);
	kvmas_client_unref(s.client);
}

static void pages_put_back_are_taken_again(void **state)
{
	struct fixture *f = *state;
	uint64_t word;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_ram_mark(block_of(s.a), 3 * page_size(), 1));
	assert_int_equal(kvmas_client_take(s.client, block_of(s.a), 0, 64, &word), 1);
	must(kvmas_ram_mark(block_of(s.a), 5 * page_size(), 1));
	must(kvmas_client_put(s.client, block_of(s.a), 0, 64, &word));
	assert_taken(s.client, s.a, 0x28, 0);
	kvmas_client_unref(s.client);
}

static void bits_past_the_end_are_never_set(void **state)
{
	static const uint64_t ones[] = {~UINT64_C(0), ~UINT64_C(0)};
	struct fixture *f = *state;
	uint64_t words[2];
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_put(s.client, block_of(s.a), 0, NPAGES, ones));
	assert_int_equal(kvmas_client_take(s.client, block_of(s.a), 0, NPAGES, words), NPAGES);
	assert_int_equal(words[1], (UINT64_C(1) << (NPAGES - 64)) - 1);
	kvmas_client_unref(s.client);
}

static void take_past_the_end_or_unaligned_returns_einval(void **state)
{
	static const uint64_t runs[][2] = {
		{0, NPAGES + 1}, {64, NPAGES - 63}, {128, 0},         {1, 1},
		{32, 1},         {0, UINT64_MAX},   {64, UINT64_MAX},
	};
	struct fixture *f = *state;
	uint64_t words[2] = {0};
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < LENGTH(runs); i++) {
		assert_int_equal(
			kvmas_client_take(s.client, block_of(s.a), runs[i][0], runs[i][1], words),
			-EINVAL);
		assert_int_equal(
			kvmas_client_put(s.client, block_of(s.a), runs[i][0], runs[i][1], words),
			-EINVAL);
	}
	kvmas_client_unref(s.client);
}

static void block_without_region_returns_enoent(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_block(f, "alone", 1);
	uint64_t word = 0;
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(kvmas_client_take(s.client, ram, 0, 1, &word), -ENOENT);
	assert_int_equal(kvmas_client_put(s.client, ram, 0, 1, &word), -ENOENT);
	kvmas_ram_unref(ram);
	kvmas_client_unref(s.client);
}

static void region_made_later_gets_a_bitmap(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *late;
	struct scene s;
	uint64_t word;

	set_scene(f, &s);
	late = make_ram(f, "late", page_size());
	must(kvmas_ram_mark(block_of(late), 0, 1));
	assert_int_equal(kvmas_client_take(s.client, block_of(late), 0, 1, &word), 1);
	kvmas_client_unref(s.client);
}

static void block_that_ends_before_its_client_is_freed(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *late;
	struct scene s;

	set_scene(f, &s);
	late = make_ram(f, "late", page_size());
	drop_region(f, late);
	must(kvmas_reclaim(f->kvmas));
	kvmas_client_unref(s.client);
}

static void client_that_ends_before_its_blocks_is_freed(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	kvmas_client_unref(s.client);
	must(kvmas_reclaim(f->kvmas));
	must(kvmas_ram_mark(block_of(s.a), 0, 1));
}

/* One block in two objects: a client of each hears of every write. */
static void block_of_two_kvmas_feeds_the_clients_of_both(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_ram *ram = make_block(f, "shared", NPAGES);
	struct kvmas_region_config config = {
		.kind = KVMAS_REGION_RAM, .name = "r", .size = page_size(), .ram = ram};
	struct kvmas_region *here = make_region(f, config);
	struct kvmas_region *there = make_region(other, config);
	struct kvmas_client *one;
	struct kvmas_client *two;

	must(kvmas_client_new(f->kvmas, "one", &one));
	must(kvmas_client_new(other->kvmas, "two", &two));
	must(kvmas_ram_mark(ram, 0, 1));
	assert_taken(one, here, 1, 0);
	must(kvmas_ram_mark(ram, page_size(), 1));
	assert_taken(one, here, 2, 0);
	assert_taken(two, there, 3, 0);
	kvmas_ram_unref(ram);
	kvmas_client_unref(two);
	fixture_free(other);
	must(kvmas_ram_mark(ram, 0, 1));
	assert_taken(one, here, 1, 0);
	kvmas_client_unref(one);
}

/* ---- log_start and log_stop ---- */

static void listen(struct fixture *f, struct scene *s)
{
	make_listener(f, s->space, "s", 0);
	make_listener(f, s->other, "t", 0);
	forget_notes(f);
}

/* The lines that say "log", without begin and commit. */
static void assert_logging(struct fixture *f, const char *expected)
{
	char *lines = NULL;
	char *rest;

	text_add(&lines, "%s", "");
	text_add(&f->notes, "%s", "");
	for (char *line = strtok_r(f->notes, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (strstr(line, " log_st"))
			text_add(&lines, "%.*s\n", (int)strcspn(line, "-"), line);
	}
	forget_notes(f);
	assert_string_equal(lines, expected);
	free(lines);
}

static void wish_names_region_and_space(void **state)
{
	static const struct {
		bool region_a, space_s;
		const char *start, *stop;
	} cases[] = {
		{false, false, "s log_start 0000\ns log_start 100000000\nt log_start 0000\n",
		 "s log_stop 0000\ns log_stop 100000000\nt log_stop 0000\n"},
		{true, false, "s log_start 0000\nt log_start 0000\n",
		 "s log_stop 0000\nt log_stop 0000\n"},
		{false, true, "s log_start 0000\ns log_start 100000000\n",
		 "s log_stop 0000\ns log_stop 100000000\n"},
		{true, true, "s log_start 0000\n", "s log_stop 0000\n"},
	};
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct kvmas_region *region = cases[i].region_a ? s.a : NULL;
		struct kvmas_space *space = cases[i].space_s ? s.space : NULL;

		must(kvmas_client_log_start(s.client, region, space));
		assert_logging(f, cases[i].start);
		must(kvmas_client_log_stop(s.client, region, space));
		assert_logging(f, cases[i].stop);
	}
	kvmas_client_unref(s.client);
}

static void same_wish_twice_returns_eexist(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_log_start(s.client, s.a, NULL));
	assert_int_equal(kvmas_client_log_start(s.client, s.a, NULL), -EEXIST);
	must(kvmas_client_log_start(s.client, s.a, s.space));
	must(kvmas_client_log_start(s.client, NULL, NULL));
	must(kvmas_client_log_stop(s.client, s.a, NULL));
	must(kvmas_client_log_start(s.client, s.a, NULL));
	kvmas_client_unref(s.client);
}

static void stop_without_start_returns_enoent(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *second;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_new(f->kvmas, "second", &second));
	must(kvmas_client_log_start(s.client, s.a, s.space));
	assert_int_equal(kvmas_client_log_stop(s.client, s.a, NULL), -ENOENT);
	assert_int_equal(kvmas_client_log_stop(s.client, NULL, s.space), -ENOENT);
	assert_int_equal(kvmas_client_log_stop(second, s.a, s.space), -ENOENT);
	must(kvmas_client_log_stop(s.client, s.a, s.space));
	assert_int_equal(kvmas_client_log_stop(s.client, s.a, s.space), -ENOENT);
	kvmas_client_unref(second);
	kvmas_client_unref(s.client);
}

static void wish_for_another_kvmas_returns_exdev(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_region *theirs = make_ram(other, "theirs", 1);
	struct kvmas_space *space = make_space(other, "s", theirs);
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(kvmas_client_log_start(s.client, theirs, NULL), -EXDEV);
	assert_int_equal(kvmas_client_log_start(s.client, NULL, space), -EXDEV);
	assert_int_equal(kvmas_client_log_stop(s.client, theirs, space), -EXDEV);
	kvmas_client_unref(s.client);
	fixture_free(other);
}

static void two_clients_wishes_are_one_logging(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *second;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	must(kvmas_client_new(f->kvmas, "second", &second));
	must(kvmas_client_log_start(s.client, s.b, NULL));
	assert_logging(f, "s log_start 100000000\n");
	must(kvmas_client_log_start(second, s.b, s.space));
	assert_logging(f, "");
	must(kvmas_client_log_stop(s.client, s.b, NULL));
	assert_logging(f, "");
	must(kvmas_client_log_stop(second, s.b, s.space));
	assert_logging(f, "s log_stop 100000000\n");
	kvmas_client_unref(second);
	kvmas_client_unref(s.client);
}

static void pages_dirtied_before_stop_stay(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_log_start(s.client, NULL, NULL));
	must(kvmas_ram_mark(block_of(s.a), 0, 1));
	must(kvmas_client_log_stop(s.client, NULL, NULL));
	assert_taken(s.client, s.a, 1, 0);
	kvmas_client_unref(s.client);
}

static void logging_begins_and_ends_with_the_commit(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_client_log_start(s.client, s.b, NULL));
	assert_logging(f, "");
	assert_int_equal(kvmas_client_log_start(s.client, s.b, NULL), -EEXIST);
	must(kvmas_commit(f->kvmas));
	assert_logging(f, "s log_start 100000000\n");
	kvmas_client_unref(s.client);
}

static void aborted_start_and_stop_change_nothing(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	must(kvmas_client_log_start(s.client, s.b, NULL));
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	must(kvmas_client_log_stop(s.client, s.b, NULL));
	must(kvmas_client_log_start(s.client, s.a, NULL));
	must(kvmas_abort(f->kvmas));
	assert_int_equal(kvmas_client_log_start(s.client, s.b, NULL), -EEXIST);
	assert_int_equal(kvmas_client_log_stop(s.client, s.a, NULL), -ENOENT);
	assert_logging(f, "");
	kvmas_client_unref(s.client);
}

static int try_log_start(struct fixture *f)
{
	struct scene *s = f->with;

	return kvmas_client_log_start(s->client, s->a, NULL);
}

static int try_log_stop(struct fixture *f)
{
	struct scene *s = f->with;

	return kvmas_client_log_stop(s->client, s->a, NULL);
}

static void every_allocation_of_start_and_stop_fails_cleanly(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	assert_true(fail_each_allocation(f, try_log_start) >= 1);
	assert_logging(f, "s log_start 0000\nt log_start 0000\n");
	assert_true(fail_each_allocation(f, try_log_stop) >= 1);
	assert_logging(f, "s log_stop 0000\nt log_stop 0000\n");
	kvmas_client_unref(s.client);
}

static void wish_holds_region_and_space(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *late = make_ram(f, "late", page_size());
	struct kvmas_space *space = make_space(f, "u", late);
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_log_start(s.client, late, space));
	drop_space(f, space);
	drop_region(f, late);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	must(kvmas_client_log_stop(s.client, late, space));
	assert_notes(f, "destroy late\n");
	kvmas_client_unref(s.client);
}

/* ---- a client dropped with wishes ---- */

static void wishes_of_a_dropped_client_go_with_the_next_commit(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	must(kvmas_client_log_start(s.client, s.b, NULL));
	forget_notes(f);
	kvmas_client_unref(s.client);
	must(kvmas_reclaim(f->kvmas));
	assert_logging(f, "");
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_logging(f, "s log_stop 100000000\n");
}

static void wishes_of_others_stay_when_a_client_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *second;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	must(kvmas_client_new(f->kvmas, "second", &second));
	must(kvmas_client_log_start(s.client, NULL, NULL));
	must(kvmas_client_log_start(second, s.b, NULL));
	forget_notes(f);
	kvmas_client_unref(s.client);
	must(kvmas_region_set_priority(s.b, 1));
	assert_logging(f, "s log_stop 0000\nt log_stop 0000\n");
	kvmas_client_unref(second);
}

static void wishes_of_a_dropped_client_survive_an_aborted_commit(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	must(kvmas_client_log_start(s.client, s.b, NULL));
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_abort(f->kvmas));
	kvmas_client_unref(s.client);
	assert_int_equal(kvmas_commit(f->kvmas), -ECANCELED);
	assert_logging(f, "");
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_logging(f, "s log_stop 100000000\n");
}

static void without_memory_to_forget_wishes_a_later_commit_does(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	listen(f, &s);
	must(kvmas_client_log_start(s.client, s.b, NULL));
	forget_notes(f);
	kvmas_client_unref(s.client);
	must(kvmas_begin(f->kvmas));
	f->heap.fail_in = 1;
	must(kvmas_commit(f->kvmas));
	assert_true(f->heap.failed);
	assert_logging(f, "");
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_logging(f, "s log_stop 100000000\n");
}

static void client_dropped_with_wishes_after_the_last_handle_is_freed(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_log_start(s.client, s.a, s.space));
	must(kvmas_client_log_start(s.client, NULL, s.other));
	close_kvmas(f);
	kvmas_client_unref(s.client);
}

static void last_handle_after_a_client_dropped_with_wishes_frees_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *second;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_new(f->kvmas, "second", &second));
	must(kvmas_client_log_start(s.client, s.a, NULL));
	must(kvmas_client_log_start(second, s.a, NULL));
	kvmas_client_unref(s.client);
	close_kvmas(f);
	kvmas_client_unref(second);
}

static void last_handle_inside_a_transaction_frees_dropped_clients(void **state)
{
	struct fixture *f = *state;
	struct kvmas *kvmas = f->kvmas;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_log_start(s.client, s.a, NULL));
	must(kvmas_begin(kvmas));
	close_kvmas(f);
	kvmas_client_unref(s.client);
	must(kvmas_abort(kvmas));
}

/* ---- threads ---- */

struct marker {
	struct kvmas_ram *ram;
	int failures;
};

enum { NMARKS = 20000 };

static void *mark_pages(void *data)
{
	struct marker *marker = data;

	for (uint64_t i = 0; i < NMARKS; i++)
		marker->failures += kvmas_ram_mark(marker->ram, i % NPAGES * page_size(), 1) != 0;
	return NULL;
}

static void clients_come_and_go_while_pages_are_marked(void **state)
{
	struct fixture *f = *state;
	struct marker marker = {0};
	pthread_t thread;
	struct scene s;

	set_scene(f, &s);
	marker.ram = block_of(s.a);
	must(pthread_create(&thread, NULL, mark_pages, &marker));
	for (int i = 0; i < 200; i++) {
		struct kvmas_client *passing;

		must(kvmas_client_new(f->kvmas, "passing", &passing));
		kvmas_client_unref(passing);
		must(kvmas_reclaim(f->kvmas));
	}
	must(pthread_join(thread, NULL));
	assert_int_equal(marker.failures, 0);
	assert_taken(s.client, s.a, ~UINT64_C(0), (UINT64_C(1) << (NPAGES - 64)) - 1);
	kvmas_client_unref(s.client);
}

/* ---- destroy hooks that commit ---- */

static void commit_in_hook(void *opaque)
{
	struct kvmas **kvmas = opaque;

	must(kvmas_begin(*kvmas));
	must(kvmas_commit(*kvmas));
}

static void last_client_of_a_closed_kvmas_ends_regions_whose_hooks_commit(void **state)
{
	struct kvmas *kvmas;
	struct kvmas_region *regions[2];
	struct kvmas_client *client;

	(void)state;
	must(kvmas_new(NULL, &kvmas));
	must(kvmas_client_new(kvmas, "c", &client));
	for (size_t i = 0; i < LENGTH(regions); i++) {
		must(kvmas_region_new(kvmas,
				      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "r",
						   .size = 1, .opaque = &kvmas,
						   .destroy = commit_in_hook),
				      &regions[i]));
		must(kvmas_client_log_start(client, regions[i], NULL));
		kvmas_region_unref(regions[i]);
	}
	kvmas_unref(kvmas);
	kvmas_client_unref(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(client_without_name_returns_einval),
		TEST(every_allocation_of_new_fails_cleanly),
		TEST(bitmaps_of_a_new_client_start_clean),
		TEST(second_reference_keeps_a_client),
		TEST(clients_take_independently),
		TEST(pages_put_back_are_taken_again),
		TEST(bits_past_the_end_are_never_set),
		TEST(take_past_the_end_or_unaligned_returns_einval),
		TEST(block_without_region_returns_enoent),
		TEST(region_made_later_gets_a_bitmap),
		TEST(block_that_ends_before_its_client_is_freed),
		TEST(client_that_ends_before_its_blocks_is_freed),
		TEST(block_of_two_kvmas_feeds_the_clients_of_both),
		TEST(wish_names_region_and_space),
		TEST(same_wish_twice_returns_eexist),
		TEST(stop_without_start_returns_enoent),
		TEST(wish_for_another_kvmas_returns_exdev),
		TEST(two_clients_wishes_are_one_logging),
		TEST(pages_dirtied_before_stop_stay),
		TEST(logging_begins_and_ends_with_the_commit),
		TEST(aborted_start_and_stop_change_nothing),
		TEST(every_allocation_of_start_and_stop_fails_cleanly),
		TEST(wish_holds_region_and_space),
		TEST(wishes_of_a_dropped_client_go_with_the_next_commit),
		TEST(wishes_of_others_stay_when_a_client_is_dropped),
		TEST(wishes_of_a_dropped_client_survive_an_aborted_commit),
		TEST(without_memory_to_forget_wishes_a_later_commit_does),
		TEST(client_dropped_with_wishes_after_the_last_handle_is_freed),
		TEST(last_handle_after_a_client_dropped_with_wishes_frees_it),
		TEST(last_handle_inside_a_transaction_frees_dropped_clients),
		TEST(clients_come_and_go_while_pages_are_marked),
		cmocka_unit_test(last_client_of_a_closed_kvmas_ends_regions_whose_hooks_commit),
	};

	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}

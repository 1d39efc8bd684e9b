/* SPDX-License-Identifier: MIT */
/* Readers: what doc/threads.md promises them, with threads that commit at the same time. */
#include "fixture.h"

#include <stdatomic.h>
#include <stdio.h>

#include "object.h"

static int try_new(struct fixture *f)
{
	struct kvmas_reader *reader;
	int err = kvmas_reader_add(f->kvmas, &reader);

	if (!err)
		kvmas_reader_del(reader);
	return err;
}

static void every_allocation_fails_cleanly(void **state)
{
	assert_int_equal(fail_each_allocation(*state, try_new), 1);
}

static void reader_looks_at_any_space(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *s = make_space(f, "s", make_ram(f, "a", 0x1000));
	struct kvmas_space *t = make_space(f, "t", make_ram(f, "b", 0x1000));

	assert_view(f, s, "0000-0fff ram a+0x0\n");
	assert_view(f, t, "0000-0fff ram b+0x0\n");
}

static void reader_keeps_its_kvmas(void **state)
{
	struct fixture *f = *state;
	struct kvmas_reader *reader;

	must(kvmas_reader_add(f->kvmas, &reader));
	drop_region(f, make_mmio(f, "a", 1));
	kvmas_reader_del(f->reader);
	f->reader = NULL;
	close_kvmas(f);
	assert_false(heap_is_empty(&f->heap));
	kvmas_reader_del(reader);
	assert_true(heap_is_empty(&f->heap));
}

static void acquire_inside_a_transaction_sees_what_was_committed(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", a);

	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_enabled(a, false));
	assert_view(f, space, "0000-0fff ram a+0x0\n");
	must(kvmas_commit(f->kvmas));
	assert_view(f, space, "");
}

/* ---- threads ---- */

enum { NREADERS = 3, NCOMMITS = 2000 };

/* The committing thread swaps two windows with each commit, and counts its commits in `number`
 * before and after. A view must show exactly one of the two pictures. */
struct stress {
	struct fixture *f;
	struct kvmas_space *space;
	struct kvmas_region *low;
	struct kvmas_region *high;
	atomic_uint committed; /* commits that have returned */
	atomic_bool done;
	atomic_uint looks;
	atomic_uint failures;
};

static bool shows(const struct kvmas_view *view, uint64_t gpa, const char *name)
{
	struct kvmas_section section;

	if (kvmas_view_lookup(view, gpa, &section))
		return !name;
	return name && strcmp(kvmas_region_get_name(section.region), name) == 0 &&
	       *(volatile char *)section.hva == name[0];
}

/* Odd numbers of commits show them swapped. */
static bool is_one_picture(const struct kvmas_view *view)
{
	bool swapped = shows(view, 0x1000, "low");

	return shows(view, 0, swapped ? "high" : "low") &&
	       shows(view, 0x1000, swapped ? "low" : "high") && shows(view, 0x2000, NULL);
}

/* Guarantee G: a view is never a mixture. It stays what it is while it is held. */
static void *look_on(void *data)
{
	struct stress *stress = data;
	struct kvmas_reader *reader;

	if (kvmas_reader_add(stress->f->kvmas, &reader)) {
		atomic_fetch_add(&stress->failures, 1);
		return NULL;
	}
	while (!atomic_load(&stress->done)) {
		const struct kvmas_view *view = kvmas_view_acquire(reader, stress->space);
		bool swapped = shows(view, 0x1000, "low");

		if (!is_one_picture(view) || swapped != shows(view, 0x1000, "low"))
			atomic_fetch_add(&stress->failures, 1);
		kvmas_view_release(reader, view);
		atomic_fetch_add(&stress->looks, 1);
	}
	kvmas_reader_del(reader);
	return NULL;
}

static void set_up_stress(struct fixture *f, struct stress *stress)
{
	struct kvmas_region *root = make_container(f, "root", 0x10000);

	*stress = (struct stress){.f = f};
	stress->low = make_ram(f, "low", 0x1000);
	stress->high = make_ram(f, "high", 0x1000);
	*(char *)kvmas_ram_get_hva(block_of(stress->low)) = 'l';
	*(char *)kvmas_ram_get_hva(block_of(stress->high)) = 'h';
	add(root, stress->low, 0, 0);
	add(root, stress->high, 0x1000, 0);
	stress->space = make_space(f, "s", root);
}

static void views_are_whole_while_another_thread_commits(void **state)
{
	struct fixture *f = *state;
	struct stress stress;
	pthread_t threads[NREADERS];

	set_up_stress(f, &stress);
	for (int i = 0; i < NREADERS; i++)
		must(pthread_create(&threads[i], NULL, look_on, &stress));
	for (unsigned i = 0; i < NCOMMITS || atomic_load(&stress.looks) < 100; i++) {
		must(kvmas_begin(f->kvmas));
		must(kvmas_region_set_offset(stress.low, i % 2 ? 0 : 0x1000));
		must(kvmas_region_set_offset(stress.high, i % 2 ? 0x1000 : 0));
		must(kvmas_commit(f->kvmas));
	}
	atomic_store(&stress.done, true);
	for (int i = 0; i < NREADERS; i++)
		must(pthread_join(threads[i], NULL));
	print_message("%u looks, all whole\n", atomic_load(&stress.looks));
	assert_int_equal(atomic_load(&stress.failures), 0);
}

/* Guarantee H: who looks after a commit has returned sees it, or a later one. Each commit moves
 * one region a byte up. */
static void *look_for_the_latest(void *data)
{
	struct stress *stress = data;
	struct kvmas_reader *reader;

	if (kvmas_reader_add(stress->f->kvmas, &reader)) {
		atomic_fetch_add(&stress->failures, 1);
		return NULL;
	}
	while (!atomic_load(&stress->done)) {
		unsigned committed = atomic_load(&stress->committed);
		const struct kvmas_view *view = kvmas_view_acquire(reader, stress->space);
		struct kvmas_section section;

		if (kvmas_view_find(view, 0, &section) || section.gpa < committed)
			atomic_fetch_add(&stress->failures, 1);
		kvmas_view_release(reader, view);
		atomic_fetch_add(&stress->looks, 1);
	}
	kvmas_reader_del(reader);
	return NULL;
}

static void lookup_after_a_commit_sees_it_or_a_later_one(void **state)
{
	struct fixture *f = *state;
	struct stress stress = {.f = f};
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *a = make_mmio(f, "a", 0x10);
	pthread_t thread;

	add(root, a, 0, 0);
	stress.space = make_space(f, "s", root);
	must(pthread_create(&thread, NULL, look_for_the_latest, &stress));
	for (unsigned i = 1; i <= NCOMMITS || atomic_load(&stress.looks) < 100; i++) {
		must(kvmas_region_set_offset(a, i));
		atomic_store(&stress.committed, i);
	}
	atomic_store(&stress.done, true);
	must(pthread_join(thread, NULL));
	print_message("%u looks, none late\n", atomic_load(&stress.looks));
	assert_int_equal(atomic_load(&stress.failures), 0);
}

/* Guarantee I: what a held view points to stays. The committing thread makes a region for each
 * commit and drops it with the next; its hook clears the life that readers look for. */
struct life {
	atomic_int value;
	atomic_int *ended;
};

static void end_life(void *opaque)
{
	struct life *life = opaque;

	atomic_store(&life->value, 0);
	atomic_fetch_add(life->ended, 1);
	free(life);
}

static void *look_for_life(void *data)
{
	struct stress *stress = data;
	struct kvmas_reader *reader;

	if (kvmas_reader_add(stress->f->kvmas, &reader)) {
		atomic_fetch_add(&stress->failures, 1);
		return NULL;
	}
	while (!atomic_load(&stress->done)) {
		const struct kvmas_view *view = kvmas_view_acquire(reader, stress->space);
		struct kvmas_section section;

		for (int i = 0; i < 10 && kvmas_view_lookup(view, 0, &section) == 0; i++) {
			struct life *life = kvmas_region_get_opaque(section.region);

			if (atomic_load(&life->value) != 1)
				atomic_fetch_add(&stress->failures, 1);
		}
		kvmas_view_release(reader, view);
		atomic_fetch_add(&stress->looks, 1);
	}
	kvmas_reader_del(reader);
	return NULL;
}

static void replace_region(struct kvmas *kvmas, struct kvmas_region *alias, atomic_int *ended)
{
	struct life *life = malloc(sizeof(*life));
	struct kvmas_region *region;

	assert_non_null(life);
	atomic_init(&life->value, 1);
	life->ended = ended;
	must(kvmas_region_new(kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "life",
					   .size = 0x1000, .opaque = life, .destroy = end_life),
			      &region));
	must(kvmas_region_set_alias(alias, region, 0));
	kvmas_region_unref(region);
}

static void destroy_hook_never_runs_while_a_view_is_held(void **state)
{
	struct fixture *f = *state;
	struct stress stress = {.f = f};
	struct kvmas_region *nothing = make_container(f, "nothing", 1);
	struct kvmas_region *alias = make_alias(f, "alias", nothing, 0, 0x1000);
	pthread_t threads[NREADERS];
	atomic_int ended = 0;
	int made = 0;

	stress.space = make_space(f, "s", alias);
	for (int i = 0; i < NREADERS; i++)
		must(pthread_create(&threads[i], NULL, look_for_life, &stress));
	for (; made < NCOMMITS || atomic_load(&stress.looks) < 100; made++)
		replace_region(f->kvmas, alias, &ended);
	atomic_store(&stress.done, true);
	for (int i = 0; i < NREADERS; i++)
		must(pthread_join(threads[i], NULL));
	must(kvmas_region_set_alias(alias, nothing, 0));
	must(kvmas_reclaim(f->kvmas));
	print_message("%u looks, %d lives ended\n", atomic_load(&stress.looks), made);
	assert_int_equal(atomic_load(&ended), made);
	assert_int_equal(atomic_load(&stress.failures), 0);
}

/* Views that nobody holds are freed, however long another one is held: some wait until a commit, or
 * kvmas_reclaim, asks readers. */
static void held_view_does_not_keep_later_ones(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *a = make_mmio(f, "a", 0x10);
	const struct kvmas_view *view;
	struct kvmas_space *space;
	size_t bytes;

	add(root, a, 0, 0);
	space = make_space(f, "s", root);
	view = kvmas_view_acquire(f->reader, space);
	must(kvmas_region_set_offset(a, 1));
	must(kvmas_reclaim(f->kvmas));
	bytes = f->heap.bytes;
	for (uint64_t i = 2; i < 100; i++)
		must(kvmas_region_set_offset(a, i));
	assert_true(f->kvmas->txn.nretired <= KAS_RETIRED + 1);
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(f->heap.bytes, bytes);
	kvmas_view_release(f->reader, view);
}

/* The next view but one often lies where this one lay, and shows the region elsewhere. What the
 * reader found in this one is not what it finds in that. */
static void view_in_the_place_of_another_is_told_from_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *a = make_mmio(f, "a", 0x10);
	const struct kvmas_view *view, *before = NULL;
	struct kvmas_space *space;
	struct kvmas_place place;
	unsigned reused = 0;

	add(root, a, 0, 0);
	space = make_space(f, "s", root);
	for (uint64_t i = 1; i < 60; i++) {
		must(kvmas_region_set_offset(a, i % 3 * 0x1000));
		must(kvmas_reclaim(f->kvmas));
		if (i % 2)
			continue;
		view = kvmas_view_acquire(f->reader, space);
		for (uint64_t k = 0; k < 3; k++)
			assert_int_equal(kvmas_reader_lookup(f->reader, view, k * 0x1000, &place),
					 k == i % 3 ? 0 : -ENOENT);
		reused += view == before;
		before = view;
		kvmas_view_release(f->reader, view);
	}
	print_message("%u views lay where another had lain\n", reused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_allocation_fails_cleanly),
		TEST(reader_looks_at_any_space),
		TEST(reader_keeps_its_kvmas),
		TEST(acquire_inside_a_transaction_sees_what_was_committed),
		TEST(views_are_whole_while_another_thread_commits),
		TEST(lookup_after_a_commit_sees_it_or_a_later_one),
		TEST(destroy_hook_never_runs_while_a_view_is_held),
		TEST(held_view_does_not_keep_later_ones),
		TEST(view_in_the_place_of_another_is_told_from_it),
	};

	return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}

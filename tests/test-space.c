/* SPDX-License-Identifier: MIT */
/* Spaces: made, shown, synchronised, dropped. */
#include "fixture.h"

#include "space.h"

static void new_space_shows_its_root(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = make_space(f, "s", make_ram(f, "a", 0x1000));

	assert_string_equal(kvmas_space_get_name(space), "s");
	assert_view(f, space, "0000-0fff ram a+0x0\n");
}

static void space_without_name_or_root_returns_einval(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = NULL;

	assert_int_equal(kvmas_space_new(f->kvmas, NULL, make_ram(f, "a", 1), &space), -EINVAL);
	assert_int_equal(kvmas_space_new(f->kvmas, "s", NULL, &space), -EINVAL);
	assert_null(space);
}

static void root_of_another_kvmas_returns_exdev(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_region *root = make_container(other, "root", 1);
	struct kvmas_space *space = NULL;

	assert_int_equal(kvmas_space_new(f->kvmas, "s", root, &space), -EXDEV);
	assert_null(space);
	fixture_free(other);
}

static int try_new(struct fixture *f)
{
	struct kvmas_space *space;
	int err = kvmas_space_new(f->kvmas, "t", f->with, &space);

	if (!err)
		kvmas_space_unref(space);
	return err;
}

static void every_allocation_fails_cleanly(void **state)
{
	struct fixture *f = *state;

	f->with = make_ram(f, "a", 0x1000);
	make_space(f, "s", make_ram(f, "b", 0x1000));
	assert_true(fail_each_allocation(f, try_new) >= 5);
}

static void space_made_in_a_transaction_shows_its_root_after_commit(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space;

	must(kvmas_begin(f->kvmas));
	space = make_space(f, "s", make_ram(f, "a", 0x1000));
	assert_view(f, space, "");
	must(kvmas_commit(f->kvmas));
	assert_view(f, space, "0000-0fff ram a+0x0\n");
}

static void space_made_in_an_aborted_transaction_stays_empty(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space;

	must(kvmas_begin(f->kvmas));
	space = make_space(f, "s", a);
	must(kvmas_abort(f->kvmas));
	assert_view(f, space, "");
	must(kvmas_region_set_readonly(a, true));
	assert_view(f, space, "0000-0fff rom a+0x0\n");
}

static void space_of_an_aborted_transaction_shows_its_root_with_any_commit(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space;

	must(kvmas_begin(f->kvmas));
	space = make_space(f, "s", make_ram(f, "a", 0x1000));
	must(kvmas_abort(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_view(f, space, "0000-0fff ram a+0x0\n");
}

static void spaces_may_share_a_root(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_space *s = make_space(f, "s", root);
	struct kvmas_space *t = make_space(f, "t", root);

	add(root, make_ram(f, "a", 0x1000), 0, 0);
	assert_view(f, s, "0000-0fff ram a+0x0\n");
	assert_view(f, t, "0000-0fff ram a+0x0\n");
}

static void root_may_lie_in_a_container(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *outer = make_container(f, "outer", 0x10000);
	struct kvmas_region *inner = make_ram(f, "a", 0x1000);

	add(outer, inner, 0x4000, 0);
	assert_view(f, make_space(f, "s", inner), "0000-0fff ram a+0x0\n");
	assert_view(f, make_space(f, "t", outer), "4000-4fff ram a+0x0\n");
}

static void space_holds_its_root(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", a);

	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	assert_view(f, space, "0000-0fff ram a+0x0\n");
	drop_space(f, space);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void second_reference_keeps_a_space(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = kvmas_space_ref(make_space(f, "s", a));

	kvmas_space_unref(space);
	must(kvmas_reclaim(f->kvmas));
	assert_view(f, space, "0000-0fff ram a+0x0\n");
}

static void dropped_space_no_longer_counts_in_a_commit(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){.max_ranges = 1});
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_space *space = make_space(f, "s", root);

	must(kvmas_begin(f->kvmas));
	add(root, make_mmio(f, "a", 1), 0, 0);
	add(root, make_mmio(f, "b", 1), 1, 0);
	drop_space(f, space);
	must(kvmas_commit(f->kvmas)); /* its view would have passed the cap */
	fixture_free(f);
	(void)state;
}

/* ---- sync ---- */

static struct kvmas_space *make_synced(struct fixture *f)
{
	struct kvmas_space *space = make_space(f, "s", make_container(f, "root", 0x1000));

	make_listener(f, space, "late", 5);
	make_listener(f, space, "early", -5);
	forget_notes(f);
	return space;
}

static void sync_asks_every_listener_of_its_space(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *other = make_space(f, "t", make_container(f, "root", 0x1000));
	struct kvmas_space *space = make_synced(f);

	make_listener(f, other, "other", 0);
	forget_notes(f);
	must(kvmas_space_sync(space, 0x1000, 0x2000));
	assert_notes(f, "early sync 1000-2fff\nlate sync 1000-2fff\n");
	must(kvmas_space_sync(space, 0, KVMAS_SIZE_MAX));
	assert_notes(f, "early sync 0000-ffffffffffffffff\nlate sync 0000-ffffffffffffffff\n");
}

static void sync_of_no_range_returns_einval(void **state)
{
	static const uint64_t ranges[][2] = {
		{0, 0}, {UINT64_MAX, 0}, {UINT64_MAX, 2}, {1, KVMAS_SIZE_MAX}};
	struct fixture *f = *state;
	struct kvmas_space *space = make_synced(f);

	for (size_t i = 0; i < LENGTH(ranges); i++)
		assert_int_equal(kvmas_space_sync(space, ranges[i][0], ranges[i][1]), -EINVAL);
	assert_notes(f, "");
}

static void sync_returns_the_first_error_after_asking_all(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = make_synced(f);

	f->sync_result = -ENODEV;
	assert_int_equal(kvmas_space_sync(space, 0, 1), -ENODEV);
	assert_notes(f, "early sync 0000-0000\nlate sync 0000-0000\n");
}

static void sync_inside_a_transaction_works(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = make_synced(f);

	must(kvmas_begin(f->kvmas));
	must(kvmas_space_sync(space, 0, 1));
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "early sync 0000-0000\nlate sync 0000-0000\n");
}

static void sync_without_listeners_works(void **state)
{
	struct fixture *f = *state;

	must(kvmas_space_sync(make_space(f, "s", make_ram(f, "a", 1)), 0, KVMAS_SIZE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(new_space_shows_its_root),
		TEST(space_without_name_or_root_returns_einval),
		TEST(root_of_another_kvmas_returns_exdev),
		TEST(every_allocation_fails_cleanly),
		TEST(space_made_in_a_transaction_shows_its_root_after_commit),
		TEST(space_made_in_an_aborted_transaction_stays_empty),
		TEST(space_of_an_aborted_transaction_shows_its_root_with_any_commit),
		TEST(spaces_may_share_a_root),
		TEST(root_may_lie_in_a_container),
		TEST(space_holds_its_root),
		TEST(second_reference_keeps_a_space),
		cmocka_unit_test(dropped_space_no_longer_counts_in_a_commit),
		TEST(sync_asks_every_listener_of_its_space),
		TEST(sync_of_no_range_returns_einval),
		TEST(sync_returns_the_first_error_after_asking_all),
		TEST(sync_inside_a_transaction_works),
		TEST(sync_without_listeners_works),
	};

	return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}

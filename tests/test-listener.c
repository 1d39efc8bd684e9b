/* SPDX-License-Identifier: MIT */
/* Listeners: what they are told, in which order, and what they may not do meanwhile. */
#include "fixture.h"

#include <limits.h>
#include <stdio.h>

/* Two rams and a device between them. */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *a;
	struct kvmas_region *b;
	struct kvmas_region *c;
	struct kvmas_space *space;
};

static void set_scene(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", 0x10000);
	s->a = make_ram(f, "a", 0x1000);
	s->b = make_mmio(f, "b", 0x1000);
	s->c = make_ram(f, "c", 0x1000);
	add(s->root, s->a, 0, 0);
	add(s->root, s->b, 0x1000, 0);
	add(s->root, s->c, 0x2000, 0);
	s->space = make_space(f, "s", s->root);
	f->with = s;
}

/* ---- add and del ---- */

static void new_listener_is_told_the_view_as_additions(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	assert_notes(f, "x begin\n"
			"x add 0000-0fff ram a+0x0\n"
			"x add 1000-1fff mmio b+0x0\n"
			"x add 2000-2fff ram c+0x0\n"
			"x commit\n");
}

static void deleted_listener_is_told_the_view_as_deletions(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener *listener;
	struct scene s;

	set_scene(f, &s);
	listener = make_listener(f, s.space, "x", 0);
	forget_notes(f);
	drop_listener(f, listener);
	assert_notes(f, "x begin\n"
			"x del 2000-2fff ram c+0x0\n"
			"x del 1000-1fff mmio b+0x0\n"
			"x del 0000-0fff ram a+0x0\n"
			"x commit\n");
	must(kvmas_region_del(s.a));
	assert_notes(f, "");
}

static void others_are_not_told_of_a_new_listener(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	drop_listener(f, make_listener(f, s.space, "y", 0));
	assert_non_null(f->notes);
	assert_null(strstr(f->notes, "x "));
}

static void new_listener_of_a_logged_space_is_told_so(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, s.c, NULL));
	make_listener(f, s.space, "x", 0);
	assert_notes(f, "x begin\n"
			"x add 0000-0fff ram a+0x0\n"
			"x add 1000-1fff mmio b+0x0\n"
			"x add 2000-2fff ram c+0x0 logged\n"
			"x log_start 2000-2fff ram c+0x0 logged\n"
			"x commit\n");
	kvmas_client_unref(client);
}

static int try_add(struct fixture *f)
{
	struct kvmas_listener *listener;
	int err = kvmas_listener_add(f->with, KVMAS_CONFIG(listener, .priority = 1), &listener);

	if (!err)
		must(kvmas_listener_del(listener));
	return err;
}

static void every_allocation_of_add_fails_cleanly(void **state)
{
	struct fixture *f = *state;

	f->with = make_space(f, "s", make_ram(f, "a", 0x1000));
	assert_int_equal(fail_each_allocation(f, try_add), 1);
}

static void add_and_del_inside_a_transaction_return_ebusy(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener *listener;
	struct kvmas_listener *other;
	struct scene s;

	set_scene(f, &s);
	listener = make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	assert_int_equal(kvmas_listener_add(s.space, KVMAS_CONFIG(listener, .priority = 1), &other),
			 -EBUSY);
	assert_int_equal(kvmas_listener_del(listener), -EBUSY);
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "");
}

static void listener_without_callbacks_works(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener *listener;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_listener_add(s.space, KVMAS_CONFIG(listener, .priority = 1), &listener));
	must(kvmas_region_del(s.a));
	must(kvmas_space_sync(s.space, 0, 1));
	must(kvmas_listener_del(listener));
}

static void listener_holds_its_space(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	drop_space(f, s.space);
	forget_notes(f);
	must(kvmas_region_del(s.b));
	assert_notes(f, "x begin\nx del 1000-1fff mmio b+0x0\nx commit\n");
}

/* ---- what is told, and in which order ---- */

static void deletions_descend_and_additions_ascend(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_offset(s.a, 0x3000));
	must(kvmas_region_set_offset(s.c, 0x4000));
	assert_notes(f, "");
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "x begin\n"
			"x del 2000-2fff ram c+0x0\n"
			"x del 0000-0fff ram a+0x0\n"
			"x add 3000-3fff ram a+0x0\n"
			"x add 4000-4fff ram c+0x0\n"
			"x commit\n");
}

static void change_of_any_part_is_a_deletion_and_an_addition(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_region_set_readonly(s.a, true));
	assert_notes(f,
		     "x begin\nx del 0000-0fff ram a+0x0\nx add 0000-0fff rom a+0x0\nx commit\n");
	must(kvmas_region_set_size(s.a, 0x800));
	assert_notes(f,
		     "x begin\nx del 0000-0fff rom a+0x0\nx add 0000-07ff rom a+0x0\nx commit\n");
}

static void change_of_offset_alone_is_told(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x2000);
	struct kvmas_region *alias = make_alias(f, "alias", a, 0, 0x1000);

	make_listener(f, make_space(f, "s", alias), "x", 0);
	forget_notes(f);
	must(kvmas_region_set_alias(alias, a, 0x1000));
	assert_notes(
		f, "x begin\nx del 0000-0fff ram a+0x0\nx add 0000-0fff ram a+0x1000\nx commit\n");
}

static void what_stays_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_region_del(s.b));
	assert_notes(f, "x begin\nx del 1000-1fff mmio b+0x0\nx commit\n");
}

static void commit_that_changes_nothing_visible_calls_nobody(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	add(s.root, make_ram(f, "hidden", 0x1000), 0, -1);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_enabled(s.a, false));
	must(kvmas_region_set_enabled(s.a, true));
	must(kvmas_commit(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "");
}

static void failed_commit_calls_nobody(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.a));
	must(kvmas_abort(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.a));
	f->heap.fail_in = 1;
	assert_int_equal(kvmas_commit(f->kvmas), -ENOMEM);
	assert_notes(f, "");
}

static void listeners_of_changed_spaces_only_are_called(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_region *b = make_ram(f, "b", 0x1000);

	make_listener(f, make_space(f, "s", a), "x", 0);
	make_listener(f, make_space(f, "t", b), "y", 0);
	forget_notes(f);
	must(kvmas_region_set_enabled(b, false));
	assert_notes(f, "y begin\ny del 0000-0fff ram b+0x0\ny commit\n");
}

static void listeners_are_called_by_priority(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", root);

	make_listener(f, space, "max", INT_MAX);
	make_listener(f, space, "first", 3);
	make_listener(f, space, "second", 3);
	make_listener(f, space, "min", INT_MIN);
	forget_notes(f);
	add(root, a, 0, 0);
	assert_notes(f, "min begin\nfirst begin\nsecond begin\nmax begin\n"
			"min add 0000-0fff ram a+0x0\nfirst add 0000-0fff ram a+0x0\n"
			"second add 0000-0fff ram a+0x0\nmax add 0000-0fff ram a+0x0\n"
			"min commit\nfirst commit\nsecond commit\nmax commit\n");
	must(kvmas_region_del(a));
	assert_notes(f, "min begin\nfirst begin\nsecond begin\nmax begin\n"
			"max del 0000-0fff ram a+0x0\nsecond del 0000-0fff ram a+0x0\n"
			"first del 0000-0fff ram a+0x0\nmin del 0000-0fff ram a+0x0\n"
			"min commit\nfirst commit\nsecond commit\nmax commit\n");
}

/* ---- logging ---- */

static void logging_that_changes_alone_is_no_deletion(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	make_listener(f, s.space, "y", 1);
	forget_notes(f);
	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	assert_notes(f, "x begin\ny begin\n"
			"x log_start 0000-0fff ram a+0x0 logged\n"
			"y log_start 0000-0fff ram a+0x0 logged\n"
			"x log_start 2000-2fff ram c+0x0 logged\n"
			"y log_start 2000-2fff ram c+0x0 logged\n"
			"x commit\ny commit\n");
	must(kvmas_client_log_stop(client, NULL, NULL));
	assert_notes(f, "x begin\ny begin\n"
			"y log_stop 0000-0fff ram a+0x0\n"
			"x log_stop 0000-0fff ram a+0x0\n"
			"y log_stop 2000-2fff ram c+0x0\n"
			"x log_stop 2000-2fff ram c+0x0\n"
			"x commit\ny commit\n");
	kvmas_client_unref(client);
}

static void section_logged_from_the_start_is_added_then_started(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_region_set_offset(s.a, 0x3000));
	assert_notes(f, "x begin\n"
			"x del 0000-0fff ram a+0x0 logged\n"
			"x add 3000-3fff ram a+0x0 logged\n"
			"x log_start 3000-3fff ram a+0x0 logged\n"
			"x commit\n");
	kvmas_client_unref(client);
}

static void readonly_memory_and_devices_are_not_logged(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_readonly(s.a, true));
	make_listener(f, s.space, "x", 0);
	forget_notes(f);
	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, s.a, NULL));
	must(kvmas_client_log_start(client, s.b, NULL));
	assert_notes(f, "");
	must(kvmas_region_set_readonly(s.a, false));
	assert_notes(f, "x begin\n"
			"x del 0000-0fff rom a+0x0\n"
			"x add 0000-0fff ram a+0x0 logged\n"
			"x log_start 0000-0fff ram a+0x0 logged\n"
			"x commit\n");
	kvmas_client_unref(client);
}

/* ---- from inside a callback ---- */

static void call_what_changes_topology(struct fixture *f)
{
	struct scene *s = f->with;
	struct kvmas_space *space;

	assert_int_equal(kvmas_begin(f->kvmas), -EBUSY);
	assert_int_equal(kvmas_reclaim(f->kvmas), -EBUSY);
	assert_int_equal(kvmas_region_add(s->root, s->c, 0, 0), -EBUSY);
	assert_int_equal(kvmas_region_del(s->a), -EBUSY);
	assert_int_equal(kvmas_region_set_enabled(s->a, false), -EBUSY);
	assert_int_equal(kvmas_region_set_readonly(s->a, true), -EBUSY);
	assert_int_equal(kvmas_region_set_offset(s->a, 0x9000), -EBUSY);
	assert_int_equal(kvmas_region_set_size(s->a, 0x10), -EBUSY);
	assert_int_equal(kvmas_region_set_priority(s->a, 9), -EBUSY);
	assert_int_equal(kvmas_space_new(f->kvmas, "t", s->root, &space), -EBUSY);
	assert_int_equal(kvmas_space_sync(s->space, 0, 1), -EBUSY);
	assert_int_equal(kvmas_client_log_start(f->made, NULL, NULL), -EBUSY);
	assert_int_equal(kvmas_client_log_stop(f->made, NULL, NULL), -EBUSY);
	assert_int_equal(kvmas_dump(f->kvmas, stderr), -EBUSY);
}

/* Commit and abort have no level here to end. */
static void call_what_ends_a_transaction(struct fixture *f)
{
	assert_true(kvmas_commit(f->kvmas) < 0);
	assert_true(kvmas_abort(f->kvmas) < 0);
}

static void inside_each_callback(struct fixture *f, void (*inside)(struct fixture *f))
{
	struct kvmas_client *client;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_new(f->kvmas, "c", &client));
	f->made = client;
	make_listener(f, s.space, "x", 0);
	f->inside = inside;
	must(kvmas_region_set_offset(s.a, 0x3000)); /* begin, del, add, commit */
	assert_view(f, s.space, "1000-1fff mmio b+0x0\n2000-2fff ram c+0x0\n3000-3fff ram a+0x0\n");
	must(kvmas_client_log_start(client, s.a, NULL)); /* log_start */
	must(kvmas_client_log_stop(client, s.a, NULL));  /* log_stop */
	must(kvmas_space_sync(s.space, 0, 1));           /* log_sync */
	drop_listener(f, f->ears->listener);             /* the replay */
	f->inside = NULL;
	must(kvmas_region_set_offset(s.a, 0)); /* and it can go on */
	assert_view(f, s.space, "0000-0fff ram a+0x0\n1000-1fff mmio b+0x0\n2000-2fff ram c+0x0\n");
	kvmas_client_unref(client);
}

static void change_of_topology_from_a_callback_returns_ebusy(void **state)
{
	inside_each_callback(*state, call_what_changes_topology);
}

static void commit_and_abort_from_a_callback_fail(void **state)
{
	inside_each_callback(*state, call_what_ends_a_transaction);
}

static void abort_from_a_sync_in_an_inner_level_does_not_doom_it(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	f->inside = call_what_ends_a_transaction;
	must(kvmas_begin(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_space_sync(s.space, 0, 1));
	must(kvmas_commit(f->kvmas));
	must(kvmas_commit(f->kvmas));
}

static void look_around(struct fixture *f)
{
	struct scene *s = f->with;
	char *text = space_text(f, s->space);

	assert_string_equal(text, "1000-1fff mmio b+0x0\n2000-2fff ram c+0x0\n");
	must(kvmas_ram_mark(block_of(s->a), 0, 1));
	assert_string_equal(kvmas_region_get_name(s->a), "a");
	free(text);
}

static void callback_sees_the_view_already_published(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, s.space, "x", 0);
	f->inside = look_around;
	must(kvmas_region_del(s.a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(new_listener_is_told_the_view_as_additions),
		TEST(deleted_listener_is_told_the_view_as_deletions),
		TEST(others_are_not_told_of_a_new_listener),
		TEST(new_listener_of_a_logged_space_is_told_so),
		TEST(every_allocation_of_add_fails_cleanly),
		TEST(add_and_del_inside_a_transaction_return_ebusy),
		TEST(listener_without_callbacks_works),
		TEST(listener_holds_its_space),
		TEST(deletions_descend_and_additions_ascend),
		TEST(change_of_any_part_is_a_deletion_and_an_addition),
		TEST(change_of_offset_alone_is_told),
		TEST(what_stays_is_not_told),
		TEST(commit_that_changes_nothing_visible_calls_nobody),
		TEST(failed_commit_calls_nobody),
		TEST(listeners_of_changed_spaces_only_are_called),
		TEST(listeners_are_called_by_priority),
		TEST(logging_that_changes_alone_is_no_deletion),
		TEST(section_logged_from_the_start_is_added_then_started),
		TEST(readonly_memory_and_devices_are_not_logged),
		TEST(change_of_topology_from_a_callback_returns_ebusy),
		TEST(commit_and_abort_from_a_callback_fail),
		TEST(abort_from_a_sync_in_an_inner_level_does_not_doom_it),
		TEST(callback_sees_the_view_already_published),
	};

	return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}

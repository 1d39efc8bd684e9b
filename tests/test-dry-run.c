/* SPDX-License-Identifier: MIT */
/* Dry runs: they tell what the commit would, and leave no trace. */
#include "judge.h"
#include "kvm-fixture.h"

#include <sys/wait.h>
#include <unistd.h>

/* Two spaces: a ram, a device; and the ram again. */
struct scene {
	struct kvmas_region *root[2];
	struct kvmas_region *a;
	struct kvmas_region *b;
	struct kvmas_space *space[2];
	struct kvmas_client *client;
	struct judge judge[2];
};

static void set_scene(struct fixture *f, struct scene *s)
{
	*s = (struct scene){0};
	s->root[0] = make_container(f, "root", 0x10000);
	s->root[1] = make_container(f, "other", 0x10000);
	s->a = make_ram(f, "a", 0x1000);
	s->b = make_mmio(f, "b", 0x1000);
	add(s->root[0], s->a, 0, 0);
	add(s->root[0], s->b, 0x1000, 0);
	add(s->root[1], make_alias(f, "alias", s->a, 0, 0x1000), 0x4000, 0);
	s->space[0] = make_space(f, "s", s->root[0]);
	s->space[1] = make_space(f, "t", s->root[1]);
	must(kvmas_client_new(f->kvmas, "c", &s->client));
	add_judge(&s->judge[0], f, s->space[0], "x", 0);
	add_judge(&s->judge[1], f, s->space[1], "y", 0);
	forget_notes(f);
	f->with = s;
}

static void strike_scene(struct scene *s)
{
	for (unsigned i = 0; i < LENGTH(s->judge); i++) {
		assert_judge(&s->judge[i], s->space[i]);
		del_judge(&s->judge[i]);
	}
	kvmas_client_unref(s->client);
}

/* What a dry run says now; for free(). */
static char *dry_text(struct fixture *f)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	must(kvmas_dry_run(f->kvmas, add_change, &text));
	return text;
}

static void assert_dry_run(struct fixture *f, const char *expected)
{
	char *text = dry_text(f);

	assert_string_equal(text, expected);
	free(text);
}

/* ---- what it tells ---- */

static void outside_a_transaction_nothing_would_change(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_dry_run(f, "");
	must(kvmas_begin(f->kvmas));
	assert_dry_run(f, "");
	must(kvmas_commit(f->kvmas));
	strike_scene(&s);
}

static void outside_a_transaction_what_another_left_over_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_space_new(f->kvmas, "u", s.a, &space));
	must(kvmas_abort(f->kvmas));
	assert_dry_run(f, "");
	must(kvmas_begin(f->kvmas)); /* its commit shows the space */
	assert_dry_run(f, "u add 0000-0fff ram a+0x0\n");
	must(kvmas_commit(f->kvmas));
	kvmas_space_unref(space);
	strike_scene(&s);
}

static void change_much(struct scene *s)
{
	must(kvmas_client_log_start(s->client, s->a, NULL));
	must(kvmas_region_set_offset(s->b, 0x2000));
	must(kvmas_region_set_size(s->a, 0x800));
}

static const char much[] = "s del 1000-1fff mmio b+0x0\n"
			   "s del 0000-0fff ram a+0x0\n"
			   "s add 0000-07ff ram a+0x0 logged\n"
			   "s log_start 0000-07ff ram a+0x0 logged\n"
			   "s add 2000-2fff mmio b+0x0\n"
			   "t del 4000-4fff ram a+0x0\n"
			   "t add 4000-47ff ram a+0x0 logged\n"
			   "t log_start 4000-47ff ram a+0x0 logged\n";

static void it_tells_all_spaces_what_listeners_will_be_told(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	change_much(&s);
	assert_dry_run(f, much);
	assert_notes(f, "");
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "x prepare\ny prepare\n"
			"x begin\n"
			"x del 1000-1fff mmio b+0x0\n"
			"x del 0000-0fff ram a+0x0\n"
			"x add 0000-07ff ram a+0x0 logged\n"
			"x log_start 0000-07ff ram a+0x0 logged\n"
			"x add 2000-2fff mmio b+0x0\n"
			"x commit\n"
			"y begin\n"
			"y del 4000-4fff ram a+0x0\n"
			"y add 4000-47ff ram a+0x0 logged\n"
			"y log_start 4000-47ff ram a+0x0 logged\n"
			"y commit\n");
	strike_scene(&s);
}

static void it_can_be_repeated_and_grows_with_the_transaction(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.b));
	for (unsigned i = 0; i < 3; i++)
		assert_dry_run(f, "s del 1000-1fff mmio b+0x0\n");
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_readonly(s.a, true));
	assert_dry_run(f, "s del 1000-1fff mmio b+0x0\n"
			  "s del 0000-0fff ram a+0x0\n"
			  "s add 0000-0fff rom a+0x0\n"
			  "t del 4000-4fff ram a+0x0\n"
			  "t add 4000-4fff rom a+0x0\n");
	must(kvmas_commit(f->kvmas));
	must(kvmas_region_set_readonly(s.a, false));
	add(s.root[0], s.b, 0x1000, 0);
	assert_dry_run(f, "");
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "");
	strike_scene(&s);
}

static void logging_alone_is_told(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_log_start(s.client, s.a, s.space[1]));
	must(kvmas_begin(f->kvmas));
	must(kvmas_client_log_stop(s.client, s.a, s.space[1]));
	must(kvmas_client_log_start(s.client, s.a, s.space[0]));
	assert_dry_run(f, "s log_start 0000-0fff ram a+0x0 logged\n"
			  "t log_stop 4000-4fff ram a+0x0 was_logged\n");
	must(kvmas_commit(f->kvmas));
	strike_scene(&s);
}

static void wishes_of_a_client_that_is_gone_are_told_to_stop(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *other;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_client_new(f->kvmas, "d", &other));
	must(kvmas_client_log_start(other, s.a, s.space[0]));
	kvmas_client_unref(other);
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	assert_dry_run(f, "s log_stop 0000-0fff ram a+0x0 was_logged\n");
	must(kvmas_abort(f->kvmas));
	assert_notes(f, "");
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_notes(f,
		     "x prepare\nx begin\nx log_stop 0000-0fff ram a+0x0 was_logged\nx commit\n");
	strike_scene(&s);
}

static void space_that_nobody_holds_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = make_space(f, "u", make_ram(f, "d", 0x1000));
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	drop_space(f, space);
	must(kvmas_client_log_start(s.client, NULL, NULL));
	assert_dry_run(f, "s log_start 0000-0fff ram a+0x0 logged\n"
			  "t log_start 4000-4fff ram a+0x0 logged\n");
	must(kvmas_abort(f->kvmas));
	strike_scene(&s);
}

/* ---- what it leaves ---- */

static void state_and_heap_are_as_before(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	size_t bytes;
	char *before;
	char *after;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	change_much(&s);
	before = state_text(f);
	must(kvmas_dry_run(f->kvmas, NULL, NULL)); /* room that is kept from then on */
	bytes = f->heap.bytes;
	assert_dry_run(f, much);
	must(kvmas_dry_run(f->kvmas, NULL, NULL));
	assert_int_equal(f->heap.bytes, bytes);
	after = state_text(f);
	assert_string_equal(after, before);
	must(kvmas_abort(f->kvmas));
	assert_view(f, s.space[0], "0000-0fff ram a+0x0\n1000-1fff mmio b+0x0\n");
	assert_notes(f, "");
	must(kvmas_begin(f->kvmas));
	assert_dry_run(f, "");
	must(kvmas_commit(f->kvmas));
	free(before);
	free(after);
	strike_scene(&s);
}

static void no_slot_moves(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);
	char *text = NULL;

	forget_trace(m);
	fake_kvm_fail_from(m->vm, 1, EIO);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_set_enabled(ram, false));
	must(kvmas_dry_run(m->f->kvmas, add_change, &text));
	assert_non_null(text);
	fake_kvm_fail_never(m->vm);
	assert_trace(m, "");
	assert_slots(m, "0:0 0-3 ram+0\n");
	must(kvmas_commit(m->f->kvmas));
	assert_trace(m, "delete 0:0 0-3 ram+0 = 0\n");
	free(text);
}

/* ---- what fn may do ---- */

struct stop {
	unsigned at; /* the call that stops it */
	unsigned count;
};

static int stop_there(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
		      const struct kvmas_section *section)
{
	struct stop *stop = data;

	(void)space;
	(void)kind;
	(void)section;
	return ++stop->count == stop->at ? -42 : 0;
}

/* Stop a dry run at its first change, then at its second, until one is not stopped; returns how
 * many changes there are. */
static unsigned stop_everywhere(struct fixture *f)
{
	struct stop stop = {0};
	int result;

	do {
		stop = (struct stop){.at = stop.at + 1};
		result = kvmas_dry_run(f->kvmas, stop_there, &stop);
		if (result)
			assert_int_equal(stop.count, stop.at);
	} while (result == -42);
	assert_int_equal(result, 0);
	assert_int_equal(stop.count, stop.at - 1);
	return stop.count;
}

static void result_of_fn_stops_it_anywhere_and_is_returned(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	change_much(&s);
	assert_int_equal(stop_everywhere(f), 8);
	must(kvmas_commit(f->kvmas));
	must(kvmas_begin(f->kvmas)); /* the same table of wishes before and after */
	must(kvmas_region_set_size(s.a, 0x400));
	add(s.root[0], make_mmio(f, "d", 0x1000), 0x5000, 0);
	add(s.root[0], make_mmio(f, "e", 0x1000), 0x7000, 0);
	assert_int_equal(stop_everywhere(f), 8);
	must(kvmas_commit(f->kvmas));
	strike_scene(&s);
}

static int change_topology(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
			   const struct kvmas_section *section)
{
	struct fixture *f = data;
	struct scene *s = f->with;
	struct kvmas_listener *listener;

	(void)kind;
	(void)section;
	assert_int_equal(kvmas_begin(f->kvmas), -EBUSY);
	assert_int_equal(kvmas_commit(f->kvmas), -EBUSY);
	assert_int_equal(kvmas_abort(f->kvmas), -EBUSY);
	assert_int_equal(kvmas_dry_run(f->kvmas, NULL, NULL), -EBUSY);
	assert_int_equal(kvmas_region_del(s->a), -EBUSY);
	assert_int_equal(kvmas_space_sync(space, 0, 1), -EBUSY);
	assert_int_equal(
		kvmas_listener_add(space, KVMAS_CONFIG(listener, .priority = 0), &listener),
		-EBUSY);
	assert_int_equal(kvmas_listener_del(s->judge[0].listener), -EBUSY);
	assert_view(f, s->space[0], "0000-0fff ram a+0x0\n1000-1fff mmio b+0x0\n");
	note(f, "tried");
	return 0;
}

static void change_of_topology_from_fn_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.b));
	must(kvmas_dry_run(f->kvmas, change_topology, f));
	assert_notes(f, "tried\n");
	must(kvmas_commit(f->kvmas));
	strike_scene(&s);
}

static void dry_run_inside(struct judge *judge, const char *what)
{
	(void)what;
	assert_int_equal(kvmas_dry_run(judge->f->kvmas, NULL, NULL), -EBUSY);
}

static void in_a_listener_callback_it_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	s.judge[0].inside = dry_run_inside;
	must(kvmas_region_del(s.b));
	assert_int_equal(s.judge[0].told, 2);
	strike_scene(&s);
}

/* ---- failing ---- */

static void in_a_doomed_transaction_it_returns_ecanceled(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.b));
	must(kvmas_abort(f->kvmas));
	assert_int_equal(kvmas_dry_run(f->kvmas, add_change, &text), -ECANCELED);
	assert_null(text);
	assert_int_equal(kvmas_commit(f->kvmas), -ECANCELED);
	strike_scene(&s);
}

static int dry_run_much(struct fixture *f)
{
	char *text = NULL;
	int err = kvmas_dry_run(f->kvmas, add_change, &text);

	if (err)
		assert_null(text); /* all is rendered before any of it is told */
	else
		assert_string_equal(text, much);
	free(text);
	return err;
}

static void every_allocation_fails_cleanly(void **state)
{
	struct fixture *f = *state;
	unsigned failed = 0;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	change_much(&s);
	for (;;) {
		int err;

		f->heap.fail_in = failed + 1;
		err = dry_run_much(f);
		f->heap.fail_in = 0;
		if (!err)
			break;
		failed++;
		assert_int_equal(err, -ENOMEM);
	}
	assert_true(failed >= 2); /* a next view for each space */
	must(kvmas_commit(f->kvmas));
	strike_scene(&s);
}

static void past_a_cap_it_returns_e2big_as_the_commit_does(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){.max_ranges = 2});
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *third = make_mmio(f, "c", 0x1000);
	char *text = NULL;

	(void)state;
	make_space(f, "s", root);
	add(root, make_mmio(f, "a", 0x1000), 0, 0);
	add(root, make_mmio(f, "b", 0x1000), 0x2000, 0);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_add(root, third, 0x4000, 0));
	assert_int_equal(kvmas_dry_run(f->kvmas, add_change, &text), -E2BIG);
	assert_int_equal(kvmas_dry_run(f->kvmas, NULL, NULL), -E2BIG);
	assert_null(text);
	must(kvmas_region_del(third)); /* it can still be put right */
	must(kvmas_dry_run(f->kvmas, NULL, NULL));
	must(kvmas_commit(f->kvmas));
	fixture_free(f);
}

static void in_a_forked_child_it_returns_eio(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(kvmas_dry_run(f->kvmas, NULL, NULL) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(outside_a_transaction_nothing_would_change),
		TEST(outside_a_transaction_what_another_left_over_is_not_told),
		TEST(it_tells_all_spaces_what_listeners_will_be_told),
		TEST(it_can_be_repeated_and_grows_with_the_transaction),
		TEST(logging_alone_is_told),
		TEST(wishes_of_a_client_that_is_gone_are_told_to_stop),
		TEST(space_that_nobody_holds_is_not_told),
		TEST(state_and_heap_are_as_before),
		KVM_TEST(no_slot_moves),
		TEST(result_of_fn_stops_it_anywhere_and_is_returned),
		TEST(change_of_topology_from_fn_returns_ebusy),
		TEST(in_a_listener_callback_it_returns_ebusy),
		TEST(in_a_doomed_transaction_it_returns_ecanceled),
		TEST(every_allocation_fails_cleanly),
		TEST(past_a_cap_it_returns_e2big_as_the_commit_does),
		TEST(in_a_forked_child_it_returns_eio),
	};

	return cmocka_run_group_tests_name("dry-run", tests, NULL, NULL);
}

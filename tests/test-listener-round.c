/* SPDX-License-Identifier: MIT */
/* Listeners that are added and deleted from inside callbacks: it happens at the end of the round.
 */
#include "judge.h"

#include <stdio.h>

/* A space with a ram and a device, listened to by x; y is who comes or goes in a callback of x's, z
 * who listens beside them. */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *a;
	struct kvmas_region *b;
	struct kvmas_space *space;
	struct kvmas_client *client;
	struct judge x;
	struct judge y;
	struct judge z;
	const char *when; /* the beginning of the callback in which things happen, once */
	void (*act)(struct fixture *f, struct scene *s);
};

static void set_scene(struct fixture *f, struct scene *s)
{
	*s = (struct scene){0};
	s->root = make_container(f, "root", 0x10000);
	s->a = make_ram(f, "a", 0x1000);
	s->b = make_mmio(f, "b", 0x1000);
	add(s->root, s->a, 0, 0);
	add(s->root, s->b, 0x1000, 0);
	s->space = make_space(f, "s", s->root);
	must(kvmas_client_new(f->kvmas, "c", &s->client));
	f->with = s;
}

static void strike_scene(struct scene *s)
{
	kvmas_client_unref(s->client);
}

static void act_once(struct judge *judge, const char *what)
{
	struct scene *s = judge->f->with;

	if (!s->when || strncmp(what, s->when, strlen(s->when)) != 0)
		return;
	s->when = NULL;
	note(judge->f, "-");
	s->act(judge->f, s);
}

/* ---- what calls what ---- */

static void move_a(struct fixture *f, struct scene *s)
{
	(void)f;
	must(kvmas_region_set_offset(s->a, 0x3000));
}

static void move_a_in_vain(struct fixture *f, struct scene *s)
{
	(void)f;
	s->z.verdict = -EPERM;
	assert_int_equal(kvmas_region_set_offset(s->a, 0x3000), -EPERM);
	s->z.verdict = 0;
}

static void start_logging(struct fixture *f, struct scene *s)
{
	(void)f;
	must(kvmas_client_log_start(s->client, s->a, NULL));
}

static void start_and_stop_logging(struct fixture *f, struct scene *s)
{
	start_logging(f, s);
	must(kvmas_client_log_stop(s->client, s->a, NULL));
}

static void sync_all(struct fixture *f, struct scene *s)
{
	(void)f;
	must(kvmas_space_sync(s->space, 0, KVMAS_SIZE_MAX));
}

static void sync_in_a_transaction(struct fixture *f, struct scene *s)
{
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_offset(s->a, 0x3000));
	sync_all(f, s);
	must(kvmas_abort(f->kvmas));
}

/* Each callback, and what leads to it. */
static const struct {
	const char *when;
	void (*go)(struct fixture *f, struct scene *s);
} rounds[] = {
	{"prepare", move_a},
	{"begin", move_a},
	{"del", move_a},
	{"add", move_a},
	{"commit", move_a},
	{"prepare", move_a_in_vain},
	{"cancel", move_a_in_vain},
	{"log_start", start_logging},
	{"log_stop", start_and_stop_logging},
	{"sync", sync_all},
	{"sync", sync_in_a_transaction},
};

/* ---- adding ---- */

static void add_y(struct fixture *f, struct scene *s)
{
	add_judge(&s->y, f, s->space, "y", -1);
	assert_non_null(s->y.listener);
	assert_int_equal(s->y.told, 0);
}

static void add_in_any_callback_is_told_the_view_at_the_end_of_the_round(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < LENGTH(rounds); i++) {
		struct scene s;

		set_scene(f, &s);
		add_judge(&s.x, f, s.space, "x", 0);
		add_judge(&s.z, f, s.space, "z", 1);
		s.x.inside = act_once;
		s.when = rounds[i].when;
		s.act = add_y;
		forget_notes(f);
		rounds[i].go(f, &s);
		assert_null(s.when);
		assert_int_equal(s.y.asked, 0);
		assert_non_null(find_line(f, "y begin\n"));
		assert_judge(&s.x, s.space);
		assert_judge(&s.y, s.space);
		assert_judge(&s.z, s.space);
		if (rounds[i].go != start_and_stop_logging) { /* it is a round of two */
			assert_true(find_line(f, "y ") > last_line(f, "x "));
			assert_true(find_line(f, "y ") > last_line(f, "z "));
			assert_int_equal(s.y.told, 1);
		}
		del_judge(&s.x);
		del_judge(&s.y);
		del_judge(&s.z);
		strike_scene(&s);
		drop_space(f, s.space);
	}
}

static void add_in_a_failing_commit_is_told_the_old_view(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	add_judge(&s.z, f, s.space, "z", 1);
	s.x.inside = act_once;
	s.when = "prepare";
	s.act = add_y;
	forget_notes(f);
	move_a_in_vain(f, &s);
	assert_notes(f, "x prepare\n-\nz prepare\nx cancel\n"
			"y begin\ny add 0000-0fff ram a+0x0\ny add 1000-1fff mmio b+0x0\n"
			"y commit\n");
	move_a(f, &s);
	assert_judge(&s.y, s.space);
	del_judge(&s.x);
	del_judge(&s.y);
	del_judge(&s.z);
	strike_scene(&s);
}

static void add_in_a_replay_waits_for_its_end(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener_config config;
	struct scene s;

	set_scene(f, &s);
	config = judge_config(&s.x, f, "x", 0);
	s.x.inside = act_once;
	s.when = "begin";
	s.act = add_y;
	must(kvmas_listener_add(s.space, &config, &s.x.listener));
	assert_notes(f, "x begin\n-\n"
			"x add 0000-0fff ram a+0x0\nx add 1000-1fff mmio b+0x0\nx commit\n"
			"y begin\n"
			"y add 0000-0fff ram a+0x0\ny add 1000-1fff mmio b+0x0\ny commit\n");
	del_judge(&s.y);
	forget_notes(f);
	s.when = "del";
	must(kvmas_listener_del(s.x.listener));
	assert_notes(f, "x begin\nx del 1000-1fff mmio b+0x0\n-\nx del 0000-0fff ram a+0x0\n"
			"x commit\n"
			"y begin\n"
			"y add 0000-0fff ram a+0x0\ny add 1000-1fff mmio b+0x0\ny commit\n");
	del_judge(&s.y);
	strike_scene(&s);
}

/* y, told that it is there, has z added. */
static void add_z(struct judge *judge, const char *what)
{
	struct scene *s = judge->f->with;

	if (strcmp(what, "commit") == 0 && !s->z.listener)
		add_judge(&s->z, judge->f, s->space, "z", 0);
}

static void add_y_who_adds_z(struct fixture *f, struct scene *s)
{
	struct kvmas_listener_config config = judge_config(&s->y, f, "y", 0);

	s->y.inside = add_z;
	must(kvmas_listener_add(s->space, &config, &s->y.listener));
}

static void adds_go_on_until_nothing_is_left(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	s.x.inside = act_once;
	s.when = "commit";
	s.act = add_y_who_adds_z;
	forget_notes(f);
	must(kvmas_region_del(s.b));
	assert_notes(f, "x prepare\nx begin\nx del 1000-1fff mmio b+0x0\nx commit\n-\n"
			"y begin\ny add 0000-0fff ram a+0x0\ny commit\n"
			"z begin\nz add 0000-0fff ram a+0x0\nz commit\n");
	del_judge(&s.x);
	del_judge(&s.y);
	del_judge(&s.z);
	strike_scene(&s);
}

static void fail_to_add(struct fixture *f, struct scene *s)
{
	struct kvmas_listener *listener = NULL;

	f->heap.fail_in = 1;
	assert_int_equal(
		kvmas_listener_add(s->space, KVMAS_CONFIG(listener, .priority = 0), &listener),
		-ENOMEM);
	assert_int_equal(kvmas_listener_add(s->space, NULL, &listener), -EINVAL);
	assert_null(listener);
}

static void add_without_memory_in_a_callback_adds_nobody(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	s.x.inside = act_once;
	s.when = "begin";
	s.act = fail_to_add;
	must(kvmas_region_del(s.b));
	assert_true(f->heap.failed);
	del_judge(&s.x);
	strike_scene(&s);
}

/* ---- deleting ---- */

static void del_y(struct fixture *f, struct scene *s)
{
	(void)f;
	must(kvmas_listener_del(s->y.listener));
}

static void del_x(struct fixture *f, struct scene *s)
{
	(void)f;
	must(kvmas_listener_del(s->x.listener));
}

static void del_in_any_callback_hears_the_round_then_its_deletions(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < 2 * LENGTH(rounds); i++) {
		bool itself = i % 2;
		struct scene s;
		struct judge *gone = itself ? &s.x : &s.y;
		unsigned asked;

		set_scene(f, &s);
		add_judge(&s.x, f, s.space, "x", 0);
		add_judge(&s.y, f, s.space, "y", 0);
		add_judge(&s.z, f, s.space, "z", 1);
		s.x.inside = act_once;
		s.when = rounds[i / 2].when;
		s.act = itself ? del_x : del_y;
		rounds[i / 2].go(f, &s);
		assert_null(s.when);
		assert_int_equal(gone->nsections, 0);
		assert_false(gone->agreed);
		assert_judge(&s.z, s.space);
		/* What z heard, and the detaching. */
		assert_int_equal(gone->asked + gone->told, s.z.asked + s.z.told + 1);
		asked = gone->asked;
		forget_notes(f);
		must(kvmas_region_del(s.b));
		assert_int_equal(gone->asked, asked);
		assert_null(find_line(f, itself ? "x " : "y "));
		del_judge(itself ? &s.y : &s.x);
		del_judge(&s.z);
		strike_scene(&s);
		drop_space(f, s.space);
	}
}

static void del_of_another_who_is_yet_to_be_called_lets_it_hear_all(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	add_judge(&s.y, f, s.space, "y", 1);
	s.x.inside = act_once;
	s.when = "prepare";
	s.act = del_y;
	forget_notes(f);
	must(kvmas_region_del(s.b));
	assert_notes(f, "x prepare\n-\ny prepare\n"
			"x begin\ny begin\n"
			"y del 1000-1fff mmio b+0x0\nx del 1000-1fff mmio b+0x0\n"
			"x commit\ny commit\n"
			"y begin\ny del 0000-0fff ram a+0x0\ny commit\n");
	del_judge(&s.x);
	strike_scene(&s);
}

static void add_y_del_x_add_z(struct fixture *f, struct scene *s)
{
	add_y(f, s);
	del_x(f, s);
	add_judge(&s->z, f, s->space, "z", -9);
}

static void adds_and_dels_have_the_order_of_the_calls(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_del(s.b));
	add_judge(&s.x, f, s.space, "x", 0);
	s.x.inside = act_once;
	s.when = "sync";
	s.act = add_y_del_x_add_z;
	forget_notes(f);
	sync_all(f, &s);
	assert_notes(f, "x sync\n-\n"
			"y begin\ny add 0000-0fff ram a+0x0\ny commit\n"
			"x begin\nx del 0000-0fff ram a+0x0\nx commit\n"
			"z begin\nz add 0000-0fff ram a+0x0\nz commit\n");
	del_judge(&s.y);
	del_judge(&s.z);
	strike_scene(&s);
}

static void del_in_another_space_that_does_not_change_is_told(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *other = make_space(f, "t", make_ram(f, "d", 0x1000));
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	add_judge(&s.y, f, other, "y", 0);
	s.x.inside = act_once;
	s.when = "begin";
	s.act = del_y;
	forget_notes(f);
	must(kvmas_region_del(s.b));
	assert_notes(f, "x prepare\nx begin\n-\nx del 1000-1fff mmio b+0x0\nx commit\n"
			"y begin\ny del 0000-0fff ram d+0x0\ny commit\n");
	del_judge(&s.x);
	strike_scene(&s);
}

static void add_and_del_y(struct fixture *f, struct scene *s)
{
	add_y(f, s);
	must(kvmas_listener_del(s->y.listener));
	assert_int_equal(kvmas_listener_del(s->y.listener), -EALREADY);
}

static void add_and_del_in_one_round_is_never_called(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	s.x.inside = act_once;
	s.when = "sync";
	s.act = add_and_del_y;
	forget_notes(f);
	sync_all(f, &s);
	assert_notes(f, "x sync\n-\n");
	s.when = "commit";
	move_a(f, &s);
	assert_null(s.when);
	assert_null(find_line(f, "y "));
	del_judge(&s.x);
	strike_scene(&s);
}

static void del_y_twice(struct fixture *f, struct scene *s)
{
	del_y(f, s);
	assert_int_equal(kvmas_listener_del(s->y.listener), -EALREADY);
}

static void second_del_in_a_round_returns_ealready(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	add_judge(&s.y, f, s.space, "y", 0);
	s.x.inside = act_once;
	s.when = "begin";
	s.act = del_y_twice;
	forget_notes(f);
	must(kvmas_region_del(s.b));
	assert_int_equal(s.y.told, 3); /* attached, the commit, detached */
	del_judge(&s.x);
	strike_scene(&s);
}

static void del_x_again(struct fixture *f, struct scene *s)
{
	(void)f;
	assert_int_equal(kvmas_listener_del(s->x.listener), -EALREADY);
}

static void del_in_ones_own_deletion_returns_ealready(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	s.x.inside = act_once;
	s.when = "del";
	s.act = del_x_again;
	must(kvmas_listener_del(s.x.listener));
	assert_null(s.when);
	assert_int_equal(s.x.told, 2);
	strike_scene(&s);
}

static void del_x_from_y(struct judge *judge, const char *what)
{
	struct scene *s = judge->f->with;

	if (strcmp(what, "commit") == 0)
		assert_int_equal(kvmas_listener_del(s->x.listener), -EALREADY);
}

static void del_x_add_y_who_dels_x(struct fixture *f, struct scene *s)
{
	struct kvmas_listener_config config = judge_config(&s->y, f, "y", 0);

	s->y.inside = del_x_from_y;
	del_x(f, s);
	must(kvmas_listener_add(s->space, &config, &s->y.listener));
}

static void second_del_late_in_a_round_returns_ealready(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	s.x.inside = act_once;
	s.when = "sync";
	s.act = del_x_add_y_who_dels_x;
	sync_all(f, &s);
	assert_int_equal(s.y.told, 1);
	assert_int_equal(s.x.told, 2);
	del_judge(&s.y);
	strike_scene(&s);
}

static void del_in_ones_own_addition_follows_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener_config config;
	struct scene s;

	set_scene(f, &s);
	config = judge_config(&s.x, f, "x", 0);
	s.x.inside = act_once;
	s.when = "begin";
	s.act = del_x;
	must(kvmas_listener_add(s.space, &config, &s.x.listener));
	assert_notes(f, "x begin\n-\n"
			"x add 0000-0fff ram a+0x0\nx add 1000-1fff mmio b+0x0\nx commit\n"
			"x begin\n"
			"x del 1000-1fff mmio b+0x0\nx del 0000-0fff ram a+0x0\nx commit\n");
	strike_scene(&s);
}

/* ---- last holders ---- */

static void leave_alone(struct fixture *f, struct scene *s)
{
	drop_space(f, s->space);
	del_x(f, s);
	note(f, "left");
}

static void space_whose_last_holder_goes_survives_the_round(void **state)
{
	static const size_t at[] = {0, 1, 2, 3,
				    4, 7, 9, 10}; /* in rounds: those that x is in alone */
	struct fixture *f = *state;

	for (size_t i = 0; i < LENGTH(at); i++) {
		struct scene s;

		set_scene(f, &s);
		drop_region(f, s.root);
		add_judge(&s.x, f, s.space, "x", 0);
		s.x.inside = act_once;
		s.when = rounds[at[i]].when;
		s.act = leave_alone;
		forget_notes(f);
		rounds[at[i]].go(f, &s);
		assert_int_equal(s.x.nsections, 0);
		assert_non_null(find_line(f, "left"));
		assert_true(last_line(f, "x commit") > find_line(f, "left"));
		must(kvmas_reclaim(f->kvmas));
		assert_non_null(find_line(f, "destroy root"));
		assert_true(find_line(f, "destroy") > last_line(f, "x "));
		strike_scene(&s);
	}
}

static void leave_the_context(struct fixture *f, struct scene *s)
{
	drop_region(f, s->root);
	kvmas_client_unref(s->client);
	leave_alone(f, s);
	close_kvmas(f);
}

static void context_closed_in_a_callback_ends_with_the_round(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	add_judge(&s.x, f, s.space, "x", 0);
	drop_region(f, s.a);
	drop_region(f, s.b);
	s.x.inside = act_once;
	s.when = "sync";
	s.act = leave_the_context;
	forget_notes(f);
	must(kvmas_space_sync(s.space, 0, 1));
	assert_int_equal(s.x.nsections, 0);
	assert_non_null(find_line(f, "destroy root"));
	assert_non_null(find_line(f, "destroy a"));
	assert_non_null(find_line(f, "destroy b"));
	assert_true(find_line(f, "destroy") > last_line(f, "x "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(add_in_any_callback_is_told_the_view_at_the_end_of_the_round),
		TEST(add_in_a_failing_commit_is_told_the_old_view),
		TEST(add_in_a_replay_waits_for_its_end),
		TEST(adds_go_on_until_nothing_is_left),
		TEST(add_without_memory_in_a_callback_adds_nobody),
		TEST(del_in_any_callback_hears_the_round_then_its_deletions),
		TEST(del_of_another_who_is_yet_to_be_called_lets_it_hear_all),
		TEST(adds_and_dels_have_the_order_of_the_calls),
		TEST(del_in_another_space_that_does_not_change_is_told),
		TEST(add_and_del_in_one_round_is_never_called),
		TEST(second_del_in_a_round_returns_ealready),
		TEST(second_del_late_in_a_round_returns_ealready),
		TEST(del_in_ones_own_deletion_returns_ealready),
		TEST(del_in_ones_own_addition_follows_it),
		TEST(space_whose_last_holder_goes_survives_the_round),
		TEST(context_closed_in_a_callback_ends_with_the_round),
	};

	return cmocka_run_group_tests_name("listener-round", tests, NULL, NULL);
}

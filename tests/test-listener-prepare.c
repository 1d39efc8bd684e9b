/* SPDX-License-Identifier: MIT */
/* Listeners that are asked before a commit: who, in which order, about what; and what a refusal
 * leaves behind. KVM's refusals are in test-listener-kvm.c. */
#include "judge.h"

#include <limits.h>
#include <stdio.h>

/* Two spaces that show the same ram, and one more thing each. */
struct court {
	struct kvmas_region *root[2];
	struct kvmas_region *a;
	struct kvmas_region *b;
	struct kvmas_region *alias;
	struct kvmas_space *space[2];
	struct judge judge[6];
	unsigned njudges;
};

static void open_court(struct fixture *f, struct court *c)
{
	*c = (struct court){0};
	c->root[0] = make_container(f, "root", 0x10000);
	c->root[1] = make_container(f, "other", 0x10000);
	c->a = make_ram(f, "a", 0x1000);
	c->b = make_mmio(f, "b", 0x1000);
	c->alias = make_alias(f, "alias", c->a, 0, 0x1000);
	add(c->root[0], c->a, 0, 0);
	add(c->root[0], c->b, 0x1000, 0);
	add(c->root[1], c->alias, 0x4000, 0);
	c->space[0] = make_space(f, "s", c->root[0]);
	c->space[1] = make_space(f, "t", c->root[1]);
	f->with = c;
}

static struct judge *call_judge(struct fixture *f, struct court *c, unsigned space,
				const char *name, int priority)
{
	struct judge *judge = &c->judge[c->njudges++];

	add_judge(judge, f, c->space[space], name, priority);
	return judge;
}

/* Three judges for each space, named in the order in which they are asked. */
static void call_six(struct fixture *f, struct court *c)
{
	call_judge(f, c, 0, "s1", 2);
	call_judge(f, c, 0, "s2", 2);
	call_judge(f, c, 1, "t0", INT_MIN);
	call_judge(f, c, 1, "t2", INT_MAX);
	call_judge(f, c, 1, "t1", 0);
	call_judge(f, c, 0, "s0", -1);
	forget_notes(f);
}

static struct judge *judge_named(struct court *c, const char *name)
{
	unsigned i = 0;

	while (strcmp(c->judge[i].name, name) != 0)
		i++;
	return &c->judge[i];
}

static void close_court(struct court *c)
{
	for (unsigned i = 0; i < c->njudges; i++)
		del_judge(&c->judge[i]);
}

static void assert_judges(struct court *c)
{
	for (unsigned i = 0; i < c->njudges; i++)
		assert_judge(&c->judge[i], c->space[c->judge[i].name[0] == 't']);
}

/* What a refused edit leaves: everything as in *state*, and judges who know it. */
static void assert_as_before(struct fixture *f, struct court *c, char *state)
{
	char *now = state_text(f);

	assert_string_equal(now, state);
	assert_judges(c);
	free(now);
	free(state);
}

/* ---- asking ---- */

static void judge_is_asked_before_all_are_told(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0);
	call_judge(f, &c, 1, "t0", 0);
	forget_notes(f);
	must(kvmas_region_set_size(c.a, 0x800));
	assert_notes(f, "s0 prepare\nt0 prepare\n"
			"s0 begin\ns0 del 0000-0fff ram a+0x0\ns0 add 0000-07ff ram a+0x0\n"
			"s0 commit\n"
			"t0 begin\nt0 del 4000-4fff ram a+0x0\nt0 add 4000-47ff ram a+0x0\n"
			"t0 commit\n");
	close_court(&c);
}

static void judges_are_asked_by_priority_then_age_space_by_space(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_six(f, &c);
	judge_named(&c, "t2")->verdict = -EPERM;
	assert_int_equal(kvmas_region_set_enabled(c.a, false), -EPERM);
	assert_notes(f, "s0 prepare\ns1 prepare\ns2 prepare\nt0 prepare\nt1 prepare\nt2 prepare\n"
			"t1 cancel\nt0 cancel\ns2 cancel\ns1 cancel\ns0 cancel\n");
	close_court(&c);
}

static void judge_of_an_unchanged_space_is_not_asked(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0);
	call_judge(f, &c, 1, "t0", 0)->verdict = -EPERM;
	forget_notes(f);
	must(kvmas_region_del(c.b));
	assert_notes(f, "s0 prepare\ns0 begin\ns0 del 1000-1fff mmio b+0x0\ns0 commit\n");
	close_court(&c);
}

static void commit_that_changes_nothing_visible_asks_nobody(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client;
	struct court c;

	open_court(f, &c);
	call_six(f, &c);
	must(kvmas_client_new(f->kvmas, "c", &client));
	add(c.root[0], make_ram(f, "hidden", 0x1000), 0, -1);
	must(kvmas_client_log_start(client, c.b, NULL));
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_enabled(c.a, false));
	must(kvmas_region_set_enabled(c.a, true));
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "");
	kvmas_client_unref(client);
	close_court(&c);
}

static void transaction_that_is_undone_asks_nobody(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_six(f, &c);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(c.a));
	must(kvmas_abort(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(c.a));
	must(kvmas_abort(f->kvmas));
	assert_int_equal(kvmas_commit(f->kvmas), -ECANCELED);
	assert_notes(f, "");
	close_court(&c);
}

static void look_at_the_old_view(struct judge *judge, const char *what)
{
	struct court *c = judge->f->with;

	if (strcmp(what, "prepare") != 0 && strcmp(what, "cancel") != 0)
		return;
	assert_view(judge->f, c->space[0], "0000-0fff ram a+0x0\n1000-1fff mmio b+0x0\n");
	assert_string_equal(kvmas_region_get_name(c->a), "a");
	note(judge->f, "looked");
}

static void asked_and_cancelled_see_the_old_view(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0)->inside = look_at_the_old_view;
	call_judge(f, &c, 0, "s1", 1)->verdict = -EPERM;
	forget_notes(f);
	assert_int_equal(kvmas_region_del(c.a), -EPERM);
	assert_notes(f, "s0 prepare\nlooked\ns1 prepare\ns0 cancel\nlooked\n");
	close_court(&c);
}

static void change_topology(struct judge *judge, const char *what)
{
	struct court *c = judge->f->with;

	if (strcmp(what, "prepare") != 0 && strcmp(what, "cancel") != 0)
		return;
	assert_int_equal(kvmas_begin(judge->f->kvmas), -EBUSY);
	assert_true(kvmas_commit(judge->f->kvmas) < 0);
	assert_true(kvmas_abort(judge->f->kvmas) < 0);
	assert_int_equal(kvmas_region_del(c->b), -EBUSY);
	assert_int_equal(kvmas_space_sync(c->space[0], 0, 1), -EBUSY);
	assert_int_equal(kvmas_reclaim(judge->f->kvmas), -EBUSY);
}

static void change_of_topology_from_prepare_and_cancel_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0)->inside = change_topology;
	call_judge(f, &c, 0, "s1", 1)->verdict = -EPERM;
	assert_int_equal(kvmas_region_del(c.a), -EPERM);
	assert_int_equal(c.judge[0].dropped, 1);
	c.judge[1].verdict = 0;
	must(kvmas_region_del(c.a));
	close_court(&c);
}

/* ---- what it is asked about ---- */

static void judge_sees_what_it_will_be_told(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *d = make_ram(f, "d", 0x1000);
	struct kvmas_client *client;
	struct court c;

	open_court(f, &c);
	add(c.root[0], d, 0x2000, 0);
	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, d, NULL));
	call_judge(f, &c, 0, "s0", 0)->looks = true;
	forget_notes(f);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_offset(c.b, 0x8000));
	add(c.root[0], make_alias(f, "again", c.a, 0, 0x1000), 0x3000, 0);
	must(kvmas_client_log_start(client, c.a, NULL));
	must(kvmas_client_log_stop(client, d, NULL));
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "s0 sees del 1000-1fff mmio b+0x0\n"
			"s0 sees log_start 0000-0fff ram a+0x0 logged\n"
			"s0 sees log_stop 2000-2fff ram d+0x0 was_logged\n"
			"s0 sees add 3000-3fff ram a+0x0 logged\n"
			"s0 sees log_start 3000-3fff ram a+0x0 logged\n"
			"s0 sees add 8000-8fff mmio b+0x0\n"
			"s0 prepare\n"
			"s0 begin\n"
			"s0 del 1000-1fff mmio b+0x0\n"
			"s0 log_start 0000-0fff ram a+0x0 logged\n"
			"s0 log_stop 2000-2fff ram d+0x0 was_logged\n"
			"s0 add 3000-3fff ram a+0x0 logged\n"
			"s0 log_start 3000-3fff ram a+0x0 logged\n"
			"s0 add 8000-8fff mmio b+0x0\n"
			"s0 commit\n");
	must(kvmas_region_del(c.a));
	assert_notes(f, "s0 sees del 0000-0fff ram a+0x0 was_logged logged\n"
			"s0 prepare\n"
			"s0 begin\n"
			"s0 del 0000-0fff ram a+0x0 was_logged logged\n"
			"s0 commit\n");
	kvmas_client_unref(client);
	close_court(&c);
}

static int stop_at_second(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
			  const struct kvmas_section *section)
{
	unsigned *count = data;

	(void)kind;
	assert_string_equal(kvmas_space_get_name(space), "s");
	assert_non_null(section->region);
	return ++*count == 2 ? -42 : 0;
}

static int prepare_and_stop(void *data, const struct kvmas_changes *changes)
{
	unsigned *count = data;

	for (unsigned i = 0; i < 2; i++) {
		*count = 0;
		assert_int_equal(kvmas_changes_for_each(changes, stop_at_second, count), -42);
	}
	return 0;
}

static void walk_stops_where_it_is_told_to(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client;
	struct kvmas_listener *listener;
	unsigned count = 0;
	struct court c;

	open_court(f, &c);
	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_listener_add(c.space[0],
				KVMAS_CONFIG(listener, .prepare = prepare_and_stop, .data = &count),
				&listener));
	must(kvmas_begin(f->kvmas)); /* two deletions */
	must(kvmas_region_del(c.a));
	must(kvmas_region_del(c.b));
	must(kvmas_commit(f->kvmas));
	assert_int_equal(count, 2);
	must(kvmas_begin(f->kvmas)); /* two additions */
	add(c.root[0], c.a, 0, 0);
	add(c.root[0], c.b, 0x1000, 0);
	must(kvmas_commit(f->kvmas));
	assert_int_equal(count, 2);
	must(kvmas_begin(f->kvmas)); /* an addition, and logging */
	must(kvmas_client_log_start(client, NULL, NULL));
	add(c.root[0], make_mmio(f, "d", 0x1000), 0x2000, 0);
	must(kvmas_commit(f->kvmas));
	assert_int_equal(count, 2);
	must(kvmas_listener_del(listener));
	kvmas_client_unref(client);
}

static void refused_logging_does_not_start_or_stop(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *client;
	struct judge *judge;
	struct court c;

	open_court(f, &c);
	must(kvmas_client_new(f->kvmas, "c", &client));
	judge = call_judge(f, &c, 0, "s0", 0);
	judge->looks = true;
	judge->verdict = -EPERM;
	forget_notes(f);
	assert_int_equal(kvmas_client_log_start(client, c.a, NULL), -EPERM);
	assert_notes(f, "s0 sees log_start 0000-0fff ram a+0x0 logged\ns0 prepare\n");
	judge->verdict = 0;
	assert_int_equal(kvmas_client_log_stop(client, c.a, NULL), -ENOENT);
	must(kvmas_client_log_start(client, c.a, NULL));
	judge->verdict = -EPERM;
	forget_notes(f);
	assert_int_equal(kvmas_client_log_stop(client, c.a, NULL), -EPERM);
	assert_notes(f, "s0 sees log_stop 0000-0fff ram a+0x0 was_logged\ns0 prepare\n");
	assert_int_equal(kvmas_client_log_start(client, c.a, NULL), -EEXIST);
	judge->verdict = 0;
	kvmas_client_unref(client);
	close_court(&c);
}

/* ---- refusing ---- */

static int change_both(struct fixture *f)
{
	struct court *c = f->with;

	int err;

	must(kvmas_begin(f->kvmas));
	err = kvmas_region_del(c->b);
	if (!err)
		err = kvmas_region_set_offset(c->alias, 0x5000);
	if (!err)
		return kvmas_commit(f->kvmas);
	must(kvmas_abort(f->kvmas));
	return err;
}

static void refusal_in_each_position_leaves_all_as_before(void **state)
{
	static const char *const names[] = {"s0", "s1", "s2", "t0", "t1", "t2"};
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_six(f, &c);
	for (unsigned k = 0; k < LENGTH(names); k++) {
		struct judge *judge = judge_named(&c, names[k]);
		char *before = state_text(f);
		char *expected = NULL;

		judge->verdict = -1000 - (int)k;
		assert_int_equal(change_both(f), judge->verdict);
		judge->verdict = 0;
		for (unsigned i = 0; i <= k; i++)
			text_add(&expected, "%s prepare\n", names[i]);
		for (unsigned i = k; i-- > 0;)
			text_add(&expected, "%s cancel\n", names[i]);
		assert_notes(f, expected);
		free(expected);
		assert_as_before(f, &c, before);
	}
	must(change_both(f));
	for (unsigned i = 0; i < c.njudges; i++)
		assert_int_equal(c.judge[i].told, 2); /* attached, and this */
	assert_judges(&c);
	close_court(&c);
}

static void refused_edit_by_itself_returns_what_the_judge_said(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *d = make_ram(f, "d", 0x1000);
	struct court c;
	char *before;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0)->verdict = -EDOM;
	before = state_text(f);
	assert_int_equal(kvmas_region_add(c.root[0], d, 0x3000, 0), -EDOM);
	assert_int_equal(kvmas_region_del(d), -ENOENT);
	assert_as_before(f, &c, before);
	c.judge[0].verdict = 0;
	close_court(&c);
}

static void positive_answer_is_agreement(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0)->verdict = 7;
	call_judge(f, &c, 0, "s1", 1)->verdict = -EPERM;
	forget_notes(f);
	assert_int_equal(kvmas_region_del(c.a), -EPERM);
	assert_notes(f, "s0 prepare\ns1 prepare\ns0 cancel\n");
	c.judge[1].verdict = INT_MAX;
	must(kvmas_region_del(c.a));
	assert_int_equal(c.judge[0].dropped, 1);
	assert_int_equal(c.judge[0].told, 2);
	close_court(&c);
}

static void judge_told_before_is_not_cancelled_by_a_later_refusal(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0);
	call_judge(f, &c, 1, "t0", 0);
	must(kvmas_region_del(c.b));
	forget_notes(f);
	c.judge[1].verdict = -EPERM;
	assert_int_equal(kvmas_region_del(c.alias), -EPERM);
	assert_notes(f, "t0 prepare\n");
	c.judge[1].verdict = 0;
	close_court(&c);
}

/* Attach with a config that lacks something. */
static void attach(struct court *c, struct kvmas_listener_config config)
{
	must(kvmas_listener_add(c->space[0], &config, &c->judge[c->njudges].listener));
	c->njudges++;
}

static void listener_without_prepare_agrees_and_hears_no_cancel(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener_config config;
	struct court c;

	open_court(f, &c);
	config = judge_config(&c.judge[0], f, "s0", 0);
	config.prepare = NULL;
	attach(&c, config);
	call_judge(f, &c, 0, "s1", 1)->verdict = -EPERM;
	forget_notes(f);
	assert_int_equal(kvmas_region_del(c.b), -EPERM);
	assert_notes(f, "s1 prepare\n");
	c.judge[1].verdict = 0;
	must(kvmas_region_del(c.b));
	assert_notes(f, "s1 prepare\ns0 begin\ns1 begin\n"
			"s1 del 1000-1fff mmio b+0x0\ns0 del 1000-1fff mmio b+0x0\n"
			"s0 commit\ns1 commit\n");
	close_court(&c);
}

static void listener_without_cancel_is_passed_over(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener_config config;
	struct court c;

	open_court(f, &c);
	call_judge(f, &c, 0, "s0", 0);
	config = judge_config(&c.judge[1], f, "s1", 1);
	config.cancel = NULL;
	attach(&c, config);
	call_judge(f, &c, 0, "s2", 2)->verdict = -EPERM;
	forget_notes(f);
	assert_int_equal(kvmas_region_del(c.b), -EPERM);
	assert_notes(f, "s0 prepare\ns1 prepare\ns2 prepare\ns0 cancel\n");
	c.judge[1].agreed = false;
	c.judge[2].verdict = 0;
	close_court(&c);
}

static void members_beyond_an_older_config_are_not_looked_at(void **state)
{
	struct fixture *f = *state;
	struct kvmas_listener_config config;
	struct court c;

	open_court(f, &c);
	config = judge_config(&c.judge[0], f, "s0", 0);
	config.struct_size = offsetof(struct kvmas_listener_config, prepare);
	attach(&c, config);
	forget_notes(f);
	must(kvmas_region_del(c.b));
	assert_notes(f, "s0 begin\ns0 del 1000-1fff mmio b+0x0\ns0 commit\n");
	close_court(&c);
}

static void every_allocation_of_a_commit_fails_with_nothing_owed(void **state)
{
	struct fixture *f = *state;
	struct court c;

	open_court(f, &c);
	call_six(f, &c);
	assert_true(fail_each_allocation(f, change_both) >= 3);
	assert_judges(&c);
	close_court(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(judge_is_asked_before_all_are_told),
		TEST(judges_are_asked_by_priority_then_age_space_by_space),
		TEST(judge_of_an_unchanged_space_is_not_asked),
		TEST(commit_that_changes_nothing_visible_asks_nobody),
		TEST(transaction_that_is_undone_asks_nobody),
		TEST(asked_and_cancelled_see_the_old_view),
		TEST(change_of_topology_from_prepare_and_cancel_returns_ebusy),
		TEST(judge_sees_what_it_will_be_told),
		TEST(walk_stops_where_it_is_told_to),
		TEST(refused_logging_does_not_start_or_stop),
		TEST(refusal_in_each_position_leaves_all_as_before),
		TEST(refused_edit_by_itself_returns_what_the_judge_said),
		TEST(positive_answer_is_agreement),
		TEST(judge_told_before_is_not_cancelled_by_a_later_refusal),
		TEST(listener_without_prepare_agrees_and_hears_no_cancel),
		TEST(listener_without_cancel_is_passed_over),
		TEST(members_beyond_an_older_config_are_not_looked_at),
		TEST(every_allocation_of_a_commit_fails_with_nothing_owed),
	};

	return cmocka_run_group_tests_name("listener-prepare", tests, NULL, NULL);
}

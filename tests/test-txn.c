/* SPDX-License-Identifier: MIT */
/* Transactions: levels, commits that fail, aborts that leave no trace, and threads that wait. */
#include "fixture.h"

#include <stdatomic.h>
#include <unistd.h>

/* ---- levels ---- */

static void commit_and_abort_without_begin_return_einval(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(kvmas_commit(f->kvmas), -EINVAL);
	assert_int_equal(kvmas_abort(f->kvmas), -EINVAL);
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_int_equal(kvmas_commit(f->kvmas), -EINVAL);
	assert_int_equal(kvmas_abort(f->kvmas), -EINVAL);
}

static void empty_transaction_commits_and_aborts(void **state)
{
	struct fixture *f = *state;

	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_abort(f->kvmas));
}

/* A box with three equals, and a space that shows it. */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *a;
	struct kvmas_region *b;
	struct kvmas_region *c;
	struct kvmas_region *alias; /* of a, at 0x8000 */
	struct kvmas_space *space;
};

static void set_scene(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", 0x10000);
	s->a = make_ram(f, "a", 0x3000);
	s->b = make_ram(f, "b", 0x2000);
	s->c = make_ram(f, "c", 0x1000);
	s->alias = make_alias(f, "alias", s->a, 0, 0x1000);
	add(s->root, s->a, 0, 0);
	add(s->root, s->b, 0, 0);
	add(s->root, s->c, 0, 0);
	add(s->root, s->alias, 0x8000, 1);
	s->space = make_space(f, "s", s->root);
	f->with = s;
}

#define SCENE_LINES                                                                                \
	"0000-0fff ram c+0x0\n1000-1fff ram b+0x1000\n2000-2fff ram a+0x2000\n"                    \
	"8000-8fff ram a+0x0\n"

static void view_changes_with_the_outermost_commit(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.c));
	assert_view(f, s.space, SCENE_LINES);
	must(kvmas_commit(f->kvmas));
	assert_view(f, s.space, SCENE_LINES);
	must(kvmas_region_del(s.alias));
	must(kvmas_commit(f->kvmas));
	assert_view(f, s.space, "0000-1fff ram b+0x0\n2000-2fff ram a+0x2000\n");
}

static void all_spaces_change_with_one_commit(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	struct kvmas_space *other;

	set_scene(f, &s);
	other = make_space(f, "t", s.alias);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_enabled(s.root, false));
	must(kvmas_region_set_readonly(s.alias, true));
	must(kvmas_commit(f->kvmas));
	assert_view(f, s.space, "");
	assert_view(f, other, "0000-0fff rom a+0x0\n");
}

static void inner_abort_makes_the_outermost_commit_return_ecanceled(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	char *before;
	char *after;

	set_scene(f, &s);
	before = state_text(f);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.b));
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.c));
	must(kvmas_abort(f->kvmas));
	must(kvmas_region_del(s.a));
	assert_int_equal(kvmas_commit(f->kvmas), -ECANCELED);
	after = state_text(f);
	assert_string_equal(after, before);
	free(before);
	free(after);
	must(kvmas_region_del(s.alias)); /* and the next one commits */
}

static void inner_abort_then_outer_abort_return_0(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.b));
	must(kvmas_abort(f->kvmas));
	must(kvmas_abort(f->kvmas));
	assert_view(f, s.space, SCENE_LINES);
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas)); /* nothing of the doom is left */
}

/* What an aborted transaction has left to render is not for a call that fails. */
static void call_that_fails_makes_nothing_else_real(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 0x1000);
	struct kvmas_space *space;

	must(kvmas_begin(f->kvmas));
	space = make_space(f, "s", a);
	must(kvmas_abort(f->kvmas));
	make_listener(f, space, "x", 0);
	forget_notes(f);
	assert_int_equal(kvmas_region_del(a), -ENOENT);
	assert_notes(f, "");
	assert_view(f, space, "");
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_view(f, space, "0000-0fff mmio a+0x0\n");
	forget_notes(f);
}

static void refused_edit_does_not_doom_the_transaction(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.c));
	assert_int_equal(kvmas_region_del(s.c), -ENOENT);
	assert_int_equal(kvmas_region_add(s.a, s.root, 0, 0), -ELOOP);
	f->heap.fail_in = 1;
	assert_int_equal(kvmas_region_del(s.b), -ENOMEM);
	must(kvmas_commit(f->kvmas));
	assert_view(f, s.space,
		    "0000-1fff ram b+0x0\n2000-2fff ram a+0x2000\n8000-8fff ram a+0x0\n");
}

/* ---- abort ---- */

static void edit_everything(struct fixture *f)
{
	const struct scene *s = f->with;
	struct kvmas_region *late = make_ram(f, "late", 0x1000);

	must(kvmas_region_set_enabled(s->a, false));
	must(kvmas_region_set_readonly(s->b, true));
	must(kvmas_region_set_offset(s->a, 0x100));
	must(kvmas_region_set_offset(s->a, 0)); /* on top of its equals */
	must(kvmas_region_set_priority(s->b, 7));
	must(kvmas_region_set_priority(s->b, 0));
	must(kvmas_region_set_size(s->c, 0x10));
	must(kvmas_region_del(s->c));
	add(s->b, s->c, 0x20, 3);
	must(kvmas_region_del(s->b));
	must(kvmas_region_set_alias(s->alias, late, 0x10));
	add(s->root, late, 0, 0);
	must(kvmas_region_del(s->a));
	add(s->root, s->b, 0x4000, 0);
	must(kvmas_region_del(late));
}

static void assert_state(struct fixture *f, char *before)
{
	char *after = state_text(f);

	assert_string_equal(after, before);
	free(before);
	free(after);
}

static void abort_restores_everything(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	char *before;

	set_scene(f, &s);
	before = state_text(f);
	must(kvmas_begin(f->kvmas));
	edit_everything(f);
	must(kvmas_abort(f->kvmas));
	assert_state(f, before);
	must(kvmas_region_del(s.c)); /* the order among equals too */
	assert_view(f, s.space,
		    "0000-1fff ram b+0x0\n2000-2fff ram a+0x2000\n8000-8fff ram a+0x0\n");
}

static void abort_needs_no_memory(void **state)
{
	struct fixture *f = *state;
	unsigned long calls;
	struct scene s;
	char *before;

	set_scene(f, &s);
	before = state_text(f);
	must(kvmas_begin(f->kvmas));
	edit_everything(f);
	calls = f->heap.calls;
	must(kvmas_abort(f->kvmas));
	assert_int_equal(f->heap.calls, calls);
	assert_state(f, before);
}

/* As above, but the commit runs out of memory: in the edits there is none to fail. */
static void failed_commit_restores_everything(void **state)
{
	struct fixture *f = *state;
	unsigned failed = 0;
	struct scene s;
	char *before;

	set_scene(f, &s);
	before = state_text(f);
	for (;;) {
		int result;

		must(kvmas_begin(f->kvmas));
		edit_everything(f);
		f->heap.fail_in = ++failed;
		f->heap.failed = false;
		result = kvmas_commit(f->kvmas);
		f->heap.fail_in = 0;
		if (!f->heap.failed)
			break;
		assert_int_equal(result, -ENOMEM);
		assert_state(f, before);
		before = state_text(f);
	}
	free(before);
	assert_true(failed > 2);
	assert_view(f, s.space,
		    "4000-401f rom b+0x0\n4020-402f rom c+0x0\n4030-5fff rom b+0x30\n"
		    "8000-8fef ram late+0x10\n");
}

static void aborted_parent_change_puts_a_child_back_where_it_was(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", 0x1000);
	struct kvmas_region *other;
	struct scene s;
	char *before;

	set_scene(f, &s);
	before = state_text(f);
	must(kvmas_begin(f->kvmas));
	other = make_container(f, "other", 0x1000);
	must(kvmas_region_del(s.b));
	add(other, s.b, 0, 0);
	add(s.root, other, 0, 0);
	must(kvmas_region_del(s.b));
	add(box, s.b, 0x10, 9);
	drop_region(f, other);
	must(kvmas_abort(f->kvmas));
	assert_state(f, before);
	assert_notes(f, "destroy other\n");
}

static void region_dropped_inside_an_aborted_transaction_comes_back(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.c));
	drop_region(f, s.c);
	must(kvmas_abort(f->kvmas));
	assert_notes(f, "");
	assert_view(f, s.space, SCENE_LINES);
	must(kvmas_region_del(s.c));
	assert_notes(f, "destroy c\n");
}

static void container_dropped_inside_an_aborted_transaction_comes_back(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *outer = make_container(f, "outer", 0x10000);
	struct kvmas_region *inner = make_container(f, "inner", 0x10000);
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", outer);

	add(outer, inner, 0, 0);
	add(inner, a, 0x1000, 0);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(a));
	must(kvmas_region_del(inner));
	drop_region(f, inner);
	must(kvmas_abort(f->kvmas));
	assert_notes(f, "");
	assert_view(f, space, "1000-1fff ram a+0x0\n");
}

static void target_dropped_inside_an_aborted_transaction_comes_back(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_region *b = make_ram(f, "b", 0x1000);
	struct kvmas_region *alias = make_alias(f, "alias", a, 0, 0x1000);

	drop_region(f, a); /* no view shows it: the alias alone holds it */
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_alias(alias, b, 0));
	must(kvmas_abort(f->kvmas));
	assert_notes(f, "");
	assert_view(f, make_space(f, "s", alias), "0000-0fff ram a+0x0\n");
	must(kvmas_region_set_alias(alias, b, 0));
	assert_notes(f, "destroy a\n");
}

/* Its container died in the middle of the transaction, between two changes of it. */
static void child_of_a_container_that_died_inside_an_aborted_transaction_is_free(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", 0x10000);
	struct kvmas_region *child = make_mmio(f, "child", 0x1000);
	struct kvmas_region *other = make_container(f, "other", 0x10000);

	add(box, child, 0, 0);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_offset(child, 0x1000));
	drop_region(f, box);
	must(kvmas_region_set_size(child, 0x2000));
	assert_int_equal(kvmas_region_set_offset(child, 0), -ENOENT);
	must(kvmas_abort(f->kvmas));
	assert_notes(f, "destroy box\n");
	add(other, child, 0, 0);
	must(kvmas_region_del(child));
	drop_region(f, child);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy child\n");
}

static void destroy_hooks_wait_for_the_end_of_the_transaction(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.c));
	drop_region(f, s.c);
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "");
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "destroy c\n");
}

/* ---- threads ---- */

struct other_thread {
	struct fixture *f;
	struct kvmas_region *region;
	atomic_int stage;
	int result;
};

static void *end_anothers_transaction(void *data)
{
	struct other_thread *t = data;

	t->result = kvmas_commit(t->f->kvmas) == -EINVAL && kvmas_abort(t->f->kvmas) == -EINVAL
			    ? 0
			    : -1;
	return NULL;
}

static void commit_from_another_thread_returns_einval(void **state)
{
	struct fixture *f = *state;
	struct other_thread t = {.f = f};
	struct scene s;
	pthread_t thread;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(s.alias));
	must(pthread_create(&thread, NULL, end_anothers_transaction, &t));
	must(pthread_join(thread, NULL));
	assert_int_equal(t.result, 0);
	must(kvmas_commit(f->kvmas));
}

static void *begin_and_edit(void *data)
{
	struct other_thread *t = data;

	atomic_store(&t->stage, 1);
	t->result = kvmas_begin(t->f->kvmas);
	atomic_store(&t->stage, 2);
	if (!t->result)
		t->result = kvmas_region_set_enabled(t->region, true);
	if (!t->result)
		t->result = kvmas_commit(t->f->kvmas);
	return NULL;
}

static void begin_waits_for_another_threads_transaction(void **state)
{
	struct fixture *f = *state;
	struct other_thread t = {.f = f};
	struct scene s;
	pthread_t thread;

	set_scene(f, &s);
	t.region = s.c;
	must(kvmas_begin(f->kvmas));
	must(pthread_create(&thread, NULL, begin_and_edit, &t));
	while (atomic_load(&t.stage) < 1)
		usleep(100);
	usleep(20000);
	assert_int_equal(atomic_load(&t.stage), 1);
	must(kvmas_region_set_enabled(s.c, false));
	must(kvmas_commit(f->kvmas));
	must(pthread_join(thread, NULL));
	assert_int_equal(t.result, 0);
	assert_view(f, s.space, SCENE_LINES); /* the other's edit came second */
}

enum { NTHREADS = 4, NROUNDS = 300 };

struct worker {
	struct fixture *f;
	struct kvmas_region *region;
	struct kvmas_region *root;
	int failures;
};

/* Put a region of one's own in and out, now committed and now aborted. */
static void *come_and_go(void *data)
{
	struct worker *w = data;

	for (int i = 0; i < NROUNDS; i++) {
		w->failures += kvmas_begin(w->f->kvmas) != 0;
		w->failures += kvmas_region_add(w->root, w->region, 0, i % 5) != 0;
		w->failures += (i % 3 ? kvmas_commit : kvmas_abort)(w->f->kvmas) != 0;
		w->failures += kvmas_region_del(w->region) != (i % 3 ? 0 : -ENOENT);
	}
	return NULL;
}

static void transactions_of_many_threads_take_turns(void **state)
{
	struct fixture *f = *state;
	struct worker workers[NTHREADS];
	pthread_t threads[NTHREADS];
	struct scene s;

	set_scene(f, &s);
	for (int i = 0; i < NTHREADS; i++) {
		workers[i] = (struct worker){f, make_ram(f, "w", 0x1000), s.root, 0};
		must(pthread_create(&threads[i], NULL, come_and_go, &workers[i]));
	}
	for (int i = 0; i < NTHREADS; i++) {
		must(pthread_join(threads[i], NULL));
		assert_int_equal(workers[i].failures, 0);
	}
	assert_view(f, s.space, SCENE_LINES);
}

/* ---- hooks inside a commit ---- */

struct asker {
	struct kvmas *kvmas; /* NULL: does not ask */
	unsigned asked;
	unsigned refused;
};

static void *asking_realloc(void *data, void *ptr, size_t size)
{
	struct asker *asker = data;

	if (asker->kvmas && size) {
		asker->asked++;
		asker->refused += kvmas_begin(asker->kvmas) == -EBUSY;
	}
	if (size)
		return realloc(ptr, size);
	free(ptr);
	return NULL;
}

static void begin_in_the_allocation_hook_of_a_commit_returns_ebusy(void **state)
{
	struct asker asker = {0};
	const struct kvmas_config config = {
		.struct_size = sizeof(config), .realloc = asking_realloc, .realloc_data = &asker};
	struct kvmas_region *a;
	struct kvmas_space *space;
	struct kvmas *kvmas;

	(void)state;
	must(kvmas_new(&config, &kvmas));
	must(kvmas_region_new(
		kvmas, KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "a", .size = 0x1000),
		&a));
	must(kvmas_space_new(kvmas, "s", a, &space));
	must(kvmas_begin(kvmas));
	must(kvmas_region_set_size(a, 0x2000));
	asker.kvmas = kvmas;
	must(kvmas_commit(kvmas));
	asker.kvmas = NULL;
	assert_true(asker.asked > 0);
	assert_int_equal(asker.refused, asker.asked);
	kvmas_space_unref(space);
	kvmas_region_unref(a);
	kvmas_unref(kvmas);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(commit_and_abort_without_begin_return_einval),
		TEST(empty_transaction_commits_and_aborts),
		TEST(view_changes_with_the_outermost_commit),
		TEST(all_spaces_change_with_one_commit),
		TEST(inner_abort_makes_the_outermost_commit_return_ecanceled),
		TEST(inner_abort_then_outer_abort_return_0),
		TEST(call_that_fails_makes_nothing_else_real),
		TEST(refused_edit_does_not_doom_the_transaction),
		TEST(abort_restores_everything),
		TEST(abort_needs_no_memory),
		TEST(failed_commit_restores_everything),
		TEST(aborted_parent_change_puts_a_child_back_where_it_was),
		TEST(region_dropped_inside_an_aborted_transaction_comes_back),
		TEST(container_dropped_inside_an_aborted_transaction_comes_back),
		TEST(target_dropped_inside_an_aborted_transaction_comes_back),
		TEST(child_of_a_container_that_died_inside_an_aborted_transaction_is_free),
		TEST(destroy_hooks_wait_for_the_end_of_the_transaction),
		TEST(commit_from_another_thread_returns_einval),
		TEST(begin_waits_for_another_threads_transaction),
		TEST(transactions_of_many_threads_take_turns),
		cmocka_unit_test(begin_in_the_allocation_hook_of_a_commit_returns_ebusy),
	};

	return cmocka_run_group_tests_name("txn", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* A forked child: what it inherited answers -EIO, and frees nothing; what it makes itself works. */
#include "fixture.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child has inherited. */
struct estate {
	struct fixture *f;
	struct kvmas_region *root;
	struct kvmas_region *a; /* in root */
	struct kvmas_region *b; /* in none */
	struct kvmas_region *alias;
	struct kvmas_space *space;
	struct kvmas_ram *ram;
	struct kvmas_client *client;
	struct kvmas_listener *listener;
	const struct kvmas_view *view;
};

/* In the child: an errno other than -EIO is told on the error stream. */
#define CHILD_EXPECTS(call)                                                                        \
	do {                                                                                       \
		long long result = (call);                                                         \
		if (result != -EIO) {                                                              \
			dprintf(STDERR_FILENO, "in the child: %s = %lld\n", #call, result);        \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

static int call_mutators(const struct estate *e)
{
	struct kvmas_space *space;
	int failures = 0;

	CHILD_EXPECTS(kvmas_begin(e->f->kvmas));
	CHILD_EXPECTS(kvmas_commit(e->f->kvmas));
	CHILD_EXPECTS(kvmas_abort(e->f->kvmas));
	CHILD_EXPECTS(kvmas_reclaim(e->f->kvmas));
	CHILD_EXPECTS(kvmas_ram_resize(e->ram, 1));
	CHILD_EXPECTS(kvmas_region_add(e->root, e->b, 0, 0));
	CHILD_EXPECTS(kvmas_region_del(e->a));
	CHILD_EXPECTS(kvmas_region_set_enabled(e->a, false));
	CHILD_EXPECTS(kvmas_region_set_readonly(e->a, true));
	CHILD_EXPECTS(kvmas_region_set_offset(e->a, 0x1000));
	CHILD_EXPECTS(kvmas_region_set_size(e->a, 0x800));
	CHILD_EXPECTS(kvmas_region_set_priority(e->a, 3));
	CHILD_EXPECTS(kvmas_region_set_alias(e->alias, e->a, 0x800));
	CHILD_EXPECTS(kvmas_space_new(e->f->kvmas, "t", e->root, &space));
	CHILD_EXPECTS(kvmas_client_log_start(e->client, e->a, e->space));
	CHILD_EXPECTS(kvmas_client_log_stop(e->client, NULL, NULL));
	return failures;
}

static int call_the_rest(const struct estate *e)
{
	struct kvmas *kvmas = e->f->kvmas;
	struct kvmas_ram *ram;
	struct kvmas_region *region;
	struct kvmas_reader *reader;
	struct kvmas_listener *listener;
	struct kvmas_client *client;
	struct kvmas_section section;
	uint64_t word;
	int failures = 0;

	CHILD_EXPECTS(kvmas_dump(kvmas, stdout));
	CHILD_EXPECTS(kvmas_ram_new(kvmas, KVMAS_CONFIG(ram, .name = "r", .size = 1), &ram));
	CHILD_EXPECTS(kvmas_ram_mark(e->ram, 0, 1));
	CHILD_EXPECTS(kvmas_ram_discard(e->ram, 0, page_size()));
	CHILD_EXPECTS(
		kvmas_region_new(kvmas, KVMAS_CONFIG(region, .name = "r", .size = 1), &region));
	CHILD_EXPECTS(kvmas_reader_add(kvmas, &reader));
	CHILD_EXPECTS(kvmas_space_sync(e->space, 0, KVMAS_SIZE_MAX));
	CHILD_EXPECTS(
		kvmas_listener_add(e->space, KVMAS_CONFIG(listener, .data = NULL), &listener));
	CHILD_EXPECTS(kvmas_listener_del(e->listener));
	CHILD_EXPECTS(kvmas_client_new(kvmas, "d", &client));
	CHILD_EXPECTS(kvmas_client_take(e->client, e->ram, 0, 1, &word));
	CHILD_EXPECTS(kvmas_client_put(e->client, e->ram, 0, 1, &word));
	CHILD_EXPECTS(kvmas_view_lookup(e->view, 0, &section));
	CHILD_EXPECTS(kvmas_view_find(e->view, 0, &section));
	return failures;
}

/* Functions that cannot fail do nothing: no hook runs, and no memory moves. */
static int call_unrefs(const struct estate *e)
{
	size_t bytes = e->f->heap.bytes;
	size_t length = e->f->notes ? strlen(e->f->notes) : 0;

	kvmas_view_release(e->f->reader, e->view);
	kvmas_view_release(e->f->reader, kvmas_view_acquire(e->f->reader, e->space));
	kvmas_reader_del(e->f->reader);
	kvmas_region_unref(e->b);
	kvmas_ram_unref(e->ram);
	kvmas_client_unref(e->client);
	kvmas_space_unref(e->space);
	kvmas_unref(e->f->kvmas);
	if (bytes == e->f->heap.bytes && length == (e->f->notes ? strlen(e->f->notes) : 0))
		return 0;
	dprintf(STDERR_FILENO, "in the child: something was freed, or a hook ran\n");
	return 1;
}

static void inherit(struct fixture *f, struct estate *e)
{
	*e = (struct estate){.f = f, .root = make_container(f, "root", 0x10000)};
	e->a = make_ram(f, "a", 0x1000);
	e->b = make_mmio(f, "b", 0x1000);
	e->alias = make_alias(f, "alias", e->a, 0, 0x1000);
	add(e->root, e->a, 0, 0);
	e->space = make_space(f, "s", e->root);
	e->ram = kvmas_ram_ref(block_of(e->a));
	e->listener = make_listener(f, e->space, "x", 0);
	must(kvmas_client_new(f->kvmas, "c", &e->client));
	must(kvmas_client_log_start(e->client, NULL, NULL));
	e->view = kvmas_view_acquire(f->reader, e->space);
	must(kvmas_region_set_offset(e->a, 0x2000)); /* from here on only the pin holds the view */
}

static void run_in_child(struct fixture *f, int (*call)(const struct estate *e))
{
	struct estate e;
	char *before;
	char *after;
	int status;
	pid_t child;

	inherit(f, &e);
	before = state_text(f);
	child = fork();
	if (child == 0)
		_exit(call(&e) ? 1 : 0);
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	after = state_text(f);
	assert_string_equal(after, before);
	free(before);
	free(after);
	kvmas_view_release(f->reader, e.view);
	kvmas_client_unref(e.client);
	kvmas_ram_unref(e.ram);
	assert_int_equal(status, 0);
}

static void mutators_in_a_forked_child_return_eio(void **state)
{
	run_in_child(*state, call_mutators);
}

static void all_other_functions_in_a_forked_child_return_eio(void **state)
{
	run_in_child(*state, call_the_rest);
}

static void unrefs_in_a_forked_child_do_nothing(void **state)
{
	run_in_child(*state, call_unrefs);
}

static int make_anew(const struct estate *e)
{
	struct fixture *f = fixture_new((struct kvmas_config){0});

	(void)e;
	assert_view(f, make_space(f, "s", make_ram(f, "a", 0x1000)), "0000-0fff ram a+0x0\n");
	fixture_free(f);
	return 0;
}

static void forked_child_may_have_objects_of_its_own(void **state)
{
	run_in_child(*state, make_anew);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(mutators_in_a_forked_child_return_eio),
		TEST(all_other_functions_in_a_forked_child_return_eio),
		TEST(unrefs_in_a_forked_child_do_nothing),
		TEST(forked_child_may_have_objects_of_its_own),
	};

	return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * What becomes of views, step by step, where a sandbox refuses membarrier(2) (pins.c). Each test
 * runs in a child of its own, since a sandbox cannot be left.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "object.h"
#include "stress/refuse.h"

enum { NREADERS = 2 }; /* beside the fixture's */

struct scene {
	struct fixture *f;
	struct kvmas_space *space;
	struct kvmas_region *device;
	struct kvmas_reader *readers[NREADERS];
};

/* *late*: all readers have looked when membarrier is taken away. */
static void set_scene(struct scene *scene, bool late)
{
	struct kvmas_region *root;

	if (!late)
		refuse_membarrier();
	*scene = (struct scene){.f = fixture_new((struct kvmas_config){0})};
	root = make_container(scene->f, "root", KVMAS_SIZE_MAX);
	scene->device = make_mmio(scene->f, "a", 0x10);
	add(root, scene->device, 0, 0);
	scene->space = make_space(scene->f, "s", root);
	for (int i = 0; i < NREADERS; i++)
		must(kvmas_reader_add(scene->f->kvmas, &scene->readers[i]));
	must(kvmas_reclaim(scene->f->kvmas));
}

static void look(const struct scene *scene, struct kvmas_reader *reader)
{
	const struct kvmas_view *view = kvmas_view_acquire(reader, scene->space);
	struct kvmas_section section;

	must(kvmas_view_find(view, 0, &section));
	kvmas_view_release(reader, view);
}

static void all_look(const struct scene *scene)
{
	look(scene, scene->f->reader);
	for (int i = 0; i < NREADERS; i++) {
		if (scene->readers[i])
			look(scene, scene->readers[i]);
	}
}

static void commit(const struct scene *scene, unsigned count)
{
	for (uint64_t i = 1; i <= count; i++)
		must(kvmas_region_set_offset(scene->device, i));
	must(kvmas_region_set_offset(scene->device, 0));
}

static unsigned waiting(const struct scene *scene)
{
	must(kvmas_reclaim(scene->f->kvmas));
	return scene->f->kvmas->txn.nretired;
}

static void clear_scene(struct scene *scene)
{
	for (int i = 0; i < NREADERS; i++)
		kvmas_reader_del(scene->readers[i]);
	fixture_free(scene->f);
}

/* ---- scenes ---- */

static void run_refused_from_the_start(void **state)
{
	struct scene scene;
	const struct kvmas_view *view;

	(void)state;
	(void)state;
	set_scene(&scene, false);
	commit(&scene, 100);
	assert_int_equal(waiting(&scene), 0);
	must(kvmas_synchronize(scene.f->kvmas));
	view = kvmas_view_acquire(scene.f->reader, scene.space);
	commit(&scene, 100);
	assert_int_equal(waiting(&scene), 1);
	assert_int_equal(kvmas_synchronize(scene.f->kvmas), -EDEADLK);
	kvmas_view_release(scene.f->reader, view);
	assert_int_equal(waiting(&scene), 0);
	must(kvmas_synchronize(scene.f->kvmas));
	clear_scene(&scene);
}

static void run_all_waits_until_each_has_looked(void **state)
{
	struct scene scene;

	(void)state;
	(void)state;
	set_scene(&scene, true);
	all_look(&scene);
	refuse_membarrier();
	commit(&scene, 100);
	assert_int_equal(waiting(&scene), 101);
	assert_int_equal(kvmas_synchronize(scene.f->kvmas), -EAGAIN);
	look(&scene, scene.f->reader);
	look(&scene, scene.readers[0]);
	assert_int_equal(waiting(&scene), 101);
	assert_int_equal(kvmas_synchronize(scene.f->kvmas), -EAGAIN);
	look(&scene, scene.readers[1]);
	assert_int_equal(waiting(&scene), 0);
	must(kvmas_synchronize(scene.f->kvmas));
	commit(&scene, 100);
	assert_int_equal(waiting(&scene), 0);
	clear_scene(&scene);
}

static void run_reader_that_goes_is_not_waited_for(void **state)
{
	struct scene scene;

	(void)state;
	(void)state;
	set_scene(&scene, true);
	all_look(&scene);
	refuse_membarrier();
	commit(&scene, 100);
	look(&scene, scene.f->reader);
	look(&scene, scene.readers[0]);
	assert_int_equal(waiting(&scene), 101);
	kvmas_reader_del(scene.readers[1]);
	scene.readers[1] = NULL;
	assert_int_equal(waiting(&scene), 0);
	must(kvmas_synchronize(scene.f->kvmas));
	clear_scene(&scene);
}

/* It could not have looked in the old way. */
static void run_reader_that_comes_is_not_waited_for(void **state)
{
	struct kvmas_reader *reader;
	struct scene scene;

	(void)state;
	(void)state;
	set_scene(&scene, true);
	all_look(&scene);
	refuse_membarrier();
	commit(&scene, 100);
	assert_int_equal(waiting(&scene), 101);
	must(kvmas_reader_add(scene.f->kvmas, &reader));
	all_look(&scene);
	assert_int_equal(waiting(&scene), 0);
	must(kvmas_synchronize(scene.f->kvmas));
	kvmas_reader_del(reader);
	clear_scene(&scene);
}

/* Seen only once its reader has looked again, and then not ended before its release. */
static void run_view_pinned_before_is_kept(void **state)
{
	const struct kvmas_view *view;
	struct kvmas_section section;
	struct scene scene;

	(void)state;
	(void)state;
	set_scene(&scene, true);
	all_look(&scene);
	view = kvmas_view_acquire(scene.readers[0], scene.space);
	refuse_membarrier();
	commit(&scene, 100);
	assert_int_equal(waiting(&scene), 101);
	all_look(&scene);
	assert_int_equal(waiting(&scene), 1);
	must(kvmas_view_find(view, 0, &section));
	assert_int_equal(section.gpa, 0);
	assert_ptr_equal(section.region, scene.device);
	kvmas_view_release(scene.readers[0], view);
	assert_int_equal(waiting(&scene), 0);
	clear_scene(&scene);
}

/* Nothing can be asked of readers that are gone: all is freed with the last handle. */
static void run_closing_frees_all(void **state)
{
	struct scene scene;

	(void)state;
	(void)state;
	set_scene(&scene, true);
	all_look(&scene);
	refuse_membarrier();
	commit(&scene, 100);
	assert_int_equal(waiting(&scene), 101);
	clear_scene(&scene); /* demands every byte back */
}

/* ---- each in a child ---- */

static void run_in_a_child(CMUnitTestFunction scene)
{
	int status;
	pid_t pid;

	if (membarrier_is_refused()) {
		print_message("membarrier is refused already\n");
		skip();
	}
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct CMUnitTest tests[] = {{"in a child", scene, NULL, NULL, NULL}};

		alarm(30); /* a wait for oneself has no end */
		_exit(cmocka_run_group_tests_name("child", tests, NULL, NULL));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void refused_from_the_start_readers_fence(void **state)
{
	(void)state;
	run_in_a_child(run_refused_from_the_start);
}

static void taken_away_nothing_ends_until_each_reader_has_looked(void **state)
{
	(void)state;
	run_in_a_child(run_all_waits_until_each_has_looked);
}

static void taken_away_a_reader_that_goes_is_not_waited_for(void **state)
{
	(void)state;
	run_in_a_child(run_reader_that_goes_is_not_waited_for);
}

static void taken_away_a_reader_that_comes_is_not_waited_for(void **state)
{
	(void)state;
	run_in_a_child(run_reader_that_comes_is_not_waited_for);
}

static void taken_away_a_view_pinned_before_is_kept(void **state)
{
	(void)state;
	run_in_a_child(run_view_pinned_before_is_kept);
}

static void taken_away_closing_frees_all(void **state)
{
	(void)state;
	run_in_a_child(run_closing_frees_all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_from_the_start_readers_fence),
		cmocka_unit_test(taken_away_nothing_ends_until_each_reader_has_looked),
		cmocka_unit_test(taken_away_a_reader_that_goes_is_not_waited_for),
		cmocka_unit_test(taken_away_a_reader_that_comes_is_not_waited_for),
		cmocka_unit_test(taken_away_a_view_pinned_before_is_kept),
		cmocka_unit_test(taken_away_closing_frees_all),
	};

	return cmocka_run_group_tests_name("pins-refused", tests, NULL, NULL);
}

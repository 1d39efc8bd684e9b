/* SPDX-License-Identifier: MIT */
/*
 * A million commits leave nothing behind: whatever readers hold meanwhile, a few views wait, and
 * memory stays what it was.
 *
 * KVMAS_COMMITS (200000): how many, in each test.
 */
#include <stdio.h>
#include <unistd.h>

#include "fixture.h"
#include "object.h"
#include "planner.h"

enum { NDEVICES = 200 };

struct scene {
	struct fixture *f;
	struct kvmas_space *space;
	struct kvmas_region *devices[NDEVICES]; /* some pages of a view */
};

static uint64_t ncommits(void)
{
	const char *text = getenv("KVMAS_COMMITS");

	return text ? strtoull(text, NULL, 0) : 200000;
}

static void set_scene(struct scene *scene, struct fixture *f)
{
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);

	scene->f = f;
	for (uint64_t i = 0; i < NDEVICES; i++) {
		scene->devices[i] = make_mmio(f, "device", 0x10);
		add(root, scene->devices[i], i << 20, 0);
	}
	scene->space = make_space(f, "s", root);
}

/* Commit *i* moves a device by some bytes, within its own part of the space. */
static void commit(const struct scene *scene, uint64_t i)
{
	uint64_t device = i * 7 % NDEVICES;

	must(kvmas_region_set_offset(scene->devices[device],
				     (device << 20) + 0x10 * (1 + i % 1000)));
}

static uint64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long total;
	unsigned long resident = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu %lu", &total, &resident), 2);
	fclose(file);
	return resident * page_size();
}

struct usage {
	size_t heap;
	uint64_t resident;
};

static struct usage usage_of(const struct scene *scene)
{
	must(kvmas_reclaim(scene->f->kvmas));
	return (struct usage){scene->f->heap.bytes, resident_bytes()};
}

/* With as many views waiting as may, after each *look*. */
static void commit_many(const struct scene *scene, unsigned npinned,
			void (*look)(const struct scene *scene, uint64_t i))
{
	uint64_t count = ncommits();
	struct usage before;
	struct usage after;

	for (uint64_t i = 0; i < 10 * NDEVICES; i++)
		commit(scene, i);
	before = usage_of(scene);
	for (uint64_t i = 0; i < count; i++) {
		commit(scene, i);
		assert_true(scene->f->kvmas->txn.nretired <= KAS_RETIRED + npinned);
		look(scene, i);
	}
	after = usage_of(scene);
	print_message("%lu commits: resident %lu KiB before, %lu KiB after; heap %zu, %zu bytes\n",
		      (unsigned long)count, (unsigned long)before.resident / 1024,
		      (unsigned long)after.resident / 1024, before.heap, after.heap);
	assert_int_equal(scene->f->kvmas->txn.nretired, npinned);
	/* Pages of views may be fuller or emptier than they were, by what is beside them. */
	assert_true(after.heap <= before.heap + before.heap / 2);
	if (!SANITIZED)
		assert_true(after.resident <= before.resident + (256 << 10));
}

static void look_at_nothing(const struct scene *scene, uint64_t i)
{
	(void)scene;
	(void)i;
}

static void look_now_and_then(const struct scene *scene, uint64_t i)
{
	const struct kvmas_view *view;
	struct kvmas_place place;

	if (i % 100)
		return;
	view = kvmas_view_acquire(scene->f->reader, scene->space);
	assert_int_equal(kvmas_reader_lookup(scene->f->reader, view, i, &place), -ENOENT);
	kvmas_view_release(scene->f->reader, view);
}

static void memory_is_flat_with_nothing_pinned(void **state)
{
	struct scene scene;

	set_scene(&scene, *state);
	commit_many(&scene, 0, look_now_and_then);
}

static void memory_is_flat_under_one_pinned_view(void **state)
{
	struct fixture *f = *state;
	const struct kvmas_view *view;
	struct scene scene;
	char *before;
	char *after;

	set_scene(&scene, f);
	view = kvmas_view_acquire(f->reader, scene.space);
	before = view_text(view);
	commit_many(&scene, 1, look_at_nothing);
	after = view_text(view);
	assert_string_equal(before, after);
	free(before);
	free(after);
	kvmas_view_release(f->reader, view);
}

/* More readers than views may wait for: each of them pins its own, at another time. */
static void memory_is_flat_under_many_pinned_views(void **state)
{
	enum { NREADERS = 2 * KAS_RETIRED };
	struct fixture *f = *state;
	const struct kvmas_view *views[NREADERS];
	struct kvmas_reader *readers[NREADERS];
	struct scene scene;

	set_scene(&scene, f);
	for (unsigned i = 0; i < NREADERS; i++) {
		commit(&scene, i);
		must(kvmas_reader_add(f->kvmas, &readers[i]));
		views[i] = kvmas_view_acquire(readers[i], scene.space);
	}
	commit_many(&scene, NREADERS, look_at_nothing);
	for (unsigned i = 0; i < NREADERS; i++) {
		kvmas_view_release(readers[i], views[i]);
		kvmas_reader_del(readers[i]);
	}
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(f->kvmas->txn.nretired, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_is_flat_with_nothing_pinned),
		TEST(memory_is_flat_under_one_pinned_view),
		TEST(memory_is_flat_under_many_pinned_views),
	};

	return cmocka_run_group_tests_name("views-memory", tests, NULL, NULL);
}

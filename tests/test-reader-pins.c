/* SPDX-License-Identifier: MIT */
/* How many views a reader pins, how they are let go of, and how many wait for that. */
#include "fixture.h"

#include "reader.h"

enum { NSPACES = 5, NVIEWS = 13 }; /* more views than pins */

struct pinned {
	const struct kvmas_view *views[NVIEWS];
	char *texts[NVIEWS];
};

/* Each of the spaces has a device that moves with every commit. */
static void make_spaces(struct fixture *f, struct kvmas_region **devices)
{
	for (int i = 0; i < NSPACES; i++) {
		struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);

		devices[i] = make_mmio(f, "a", 0x10);
		add(root, devices[i], 0, 0);
		make_space(f, "s", root);
	}
}

/* Pin the views of all spaces by turns; each is another. */
static void pin_all(struct fixture *f, struct kvmas_region **devices, struct pinned *pinned)
{
	for (unsigned i = 0; i < NVIEWS; i++) {
		must(kvmas_region_set_offset(devices[i % NSPACES], i + 1));
		pinned->views[i] = kvmas_view_acquire(f->reader, f->spaces[i % NSPACES]);
		pinned->texts[i] = view_text(pinned->views[i]);
	}
}

static void assert_unchanged(const struct pinned *pinned, unsigned i)
{
	char *text = view_text(pinned->views[i]);

	assert_string_equal(text, pinned->texts[i]);
	free(text);
}

/* Let go of the views in steps of *step*, which is prime to their number. */
static void release_in_steps(struct fixture *f, struct pinned *pinned, unsigned step)
{
	size_t bytes = f->heap.bytes;

	for (unsigned i = 0, at = 0; i < NVIEWS; i++, at = (at + step) % NVIEWS) {
		assert_unchanged(pinned, at);
		kvmas_view_release(f->reader, pinned->views[at]);
		free(pinned->texts[at]);
		pinned->views[at] = NULL;
		must(kvmas_reclaim(f->kvmas));
		for (unsigned j = 0; j < NVIEWS; j++) {
			if (pinned->views[j])
				assert_unchanged(pinned, j);
		}
		assert_true(f->heap.bytes <= bytes);
		bytes = f->heap.bytes;
	}
}

static void views_are_released_in_any_order(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *devices[NSPACES];
	struct pinned pinned;
	size_t bytes;

	make_spaces(f, devices);
	must(kvmas_reclaim(f->kvmas));
	bytes = f->heap.bytes;
	for (unsigned step = 1; step < NVIEWS; step++) {
		pin_all(f, devices, &pinned);
		release_in_steps(f, &pinned, step);
		assert_int_equal(f->heap.bytes, bytes);
	}
}

/* Pinned and counted, in one: each release takes back one of the two. */
static void one_view_is_pinned_as_often_as_one_likes(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *devices[NSPACES];
	const struct kvmas_view *view = NULL;
	size_t bytes;

	make_spaces(f, devices);
	must(kvmas_reclaim(f->kvmas));
	bytes = f->heap.bytes;
	for (int i = 0; i < NVIEWS; i++)
		view = kvmas_view_acquire(f->reader, f->spaces[0]);
	must(kvmas_region_set_offset(devices[0], 1));
	for (int i = 0; i < NVIEWS; i++) {
		struct kvmas_section section;

		must(kvmas_reclaim(f->kvmas));
		assert_true(f->heap.bytes > bytes);
		must(kvmas_view_find(view, 0, &section));
		assert_int_equal(section.gpa, 0);
		kvmas_view_release(f->reader, view);
	}
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(f->heap.bytes, bytes);
}

static void pins_that_are_released_can_be_used_again(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *devices[NSPACES];

	make_spaces(f, devices);
	for (int i = 0; i < 3 * KAS_PINS; i++) {
		const struct kvmas_view *view = kvmas_view_acquire(f->reader, f->spaces[0]);
		unsigned refs = atomic_load(&view->object.refs);

		assert_int_equal(refs, 1); /* the root's: nobody counted */
		kvmas_view_release(f->reader, view);
	}
}

/* ---- how many wait ---- */

static unsigned waiting(const struct fixture *f)
{
	return f->kvmas->txn.nretired;
}

/* However many commits there are. A view that waits holds no more than what it alone has. */
static void few_views_wait_while_one_is_held(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *devices[NSPACES];
	const struct kvmas_view *view;

	make_spaces(f, devices);
	view = kvmas_view_acquire(f->reader, f->spaces[0]);
	for (uint64_t i = 1; i < 1000; i++) {
		must(kvmas_region_set_offset(devices[i % NSPACES], i));
		assert_true(waiting(f) <= KAS_RETIRED + 1);
	}
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(waiting(f), 1);
	kvmas_view_release(f->reader, view);
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(waiting(f), 0);
}

static void as_many_wait_as_are_pinned(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *devices[NSPACES];
	struct pinned pinned;

	make_spaces(f, devices);
	pin_all(f, devices, &pinned);
	for (uint64_t i = 1; i < 1000; i++) {
		must(kvmas_region_set_offset(devices[i % NSPACES], 0x100 + i));
		assert_true(waiting(f) <= KAS_RETIRED + KAS_PINS);
	}
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(waiting(f), KAS_PINS);
	release_in_steps(f, &pinned, 5);
	assert_int_equal(waiting(f), 0);
}

/* What hangs on a view is not the library's to keep: it is asked for at once. */
static void region_ends_in_the_commit_that_takes_it_away(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *a = make_mmio(f, "a", 0x10);

	add(root, a, 0, 0);
	make_space(f, "s", root);
	drop_region(f, a);
	must(kvmas_region_del(a));
	assert_notes(f, "destroy a\n");
}

static void region_in_a_pinned_view_ends_in_a_commit_after_its_release(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *a = make_mmio(f, "a", 0x10);
	struct kvmas_region *b = make_mmio(f, "b", 0x10);
	const struct kvmas_view *view;

	add(root, a, 0, 0);
	add(root, b, 0x100, 0);
	make_space(f, "s", root);
	view = kvmas_view_acquire(f->reader, f->spaces[0]);
	drop_region(f, a);
	must(kvmas_region_del(a));
	must(kvmas_region_set_offset(b, 0x200));
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	kvmas_view_release(f->reader, view);
	assert_notes(f, "");
	for (uint64_t i = 0; i < KAS_RETIRED; i++)
		must(kvmas_region_set_offset(b, 0x300 + i));
	assert_notes(f, "destroy a\n");
}

/* ---- ends ---- */

static void view_outlives_its_space_and_its_tree(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", a);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct kvmas_place place;

	drop_space(f, space);
	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	must(kvmas_reader_lookup(f->reader, view, 0x800, &place));
	assert_int_equal(*(volatile char *)place.hva, 0);
	kvmas_view_release(f->reader, view);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void views_pinned_by_several_readers_end_with_the_last(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 0x10);
	struct kvmas_space *space = make_space(f, "s", a);
	const struct kvmas_view *views[3];
	struct kvmas_reader *readers[3];

	for (unsigned i = 0; i < LENGTH(readers); i++) {
		must(kvmas_reader_add(f->kvmas, &readers[i]));
		views[i] = kvmas_view_acquire(readers[i], space);
	}
	drop_space(f, space);
	drop_region(f, a);
	for (unsigned i = 0; i < LENGTH(readers); i++) {
		must(kvmas_reclaim(f->kvmas));
		assert_notes(f, "");
		kvmas_view_release(readers[i], views[i]);
		kvmas_reader_del(readers[i]);
	}
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void view_pinned_when_the_kvmas_is_closed_ends_with_its_reader(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 0x10);
	struct kvmas_space *space = make_space(f, "s", a);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct kvmas_place place;

	drop_space(f, space);
	drop_region(f, a);
	close_kvmas(f);
	assert_notes(f, "");
	must(kvmas_reader_lookup(f->reader, view, 4, &place));
	assert_string_equal(kvmas_region_get_name(place.region), "a");
	kvmas_view_release(f->reader, view);
	kvmas_reader_del(f->reader);
	f->reader = NULL;
	assert_notes(f, "destroy a\n");
	assert_true(heap_is_empty(&f->heap));
}

/* ---- the last hit ---- */

/* The memory of a view that has gone, and of its ranges, becomes another's, in which the device is
 * the second: who takes the new view for the old one finds the first. */
static void hit_in_a_view_that_has_gone_is_not_taken(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *below = make_mmio(f, "below", 0x10);
	struct kvmas_region *a = make_mmio(f, "a", 0x10);
	struct kvmas_region *above = make_mmio(f, "above", 0x10);
	unsigned same = 0;
	uintptr_t before = 0;

	add(root, below, 0, 0);
	add(root, a, 0x100, 0);
	add(root, above, 0x1000, 0);
	make_space(f, "s", root);
	for (unsigned i = 0; i < 200; i++) {
		const struct kvmas_view *view;
		struct kvmas_place place;

		must(kvmas_region_set_enabled(below, i % 2));
		must(kvmas_reclaim(f->kvmas));
		view = kvmas_view_acquire(f->reader, f->spaces[0]);
		must(kvmas_reader_lookup(f->reader, view, 0x108, &place));
		assert_ptr_equal(place.region, a);
		assert_int_equal(place.offset, 8);
		same += before == (uintptr_t)view;
		before = (uintptr_t)view;
		kvmas_view_release(f->reader, view);
		/* Frees what was: the next but one is made of it. */
		must(kvmas_region_set_offset(above, 0x2000 + i));
		must(kvmas_reclaim(f->kvmas));
	}
	print_message("%u of 200 views where another had been\n", same);
}

/* Sections that touch, forwards and backwards: the hit is no answer for the next one. */
static void hit_is_for_the_bytes_of_its_section(void **state)
{
	static const struct {
		uint64_t gpa;
		const char *name;
	} looks[] = {
		{0, "low"},     {0xf, "low"},   {0x10, "high"},     {0x1f, "high"},
		{0x20, NULL},   {0x10, "high"}, {0xf, "low"},       {0, "low"},
		{0x1f, "high"}, {0x20, NULL},   {UINT64_MAX, NULL}, {0x10, "high"},
	};
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	const struct kvmas_view *view;

	add(root, make_mmio(f, "low", 0x10), 0, 0);
	add(root, make_mmio(f, "high", 0x10), 0x10, 0);
	make_space(f, "s", root);
	view = kvmas_view_acquire(f->reader, f->spaces[0]);
	for (unsigned i = 0; i < LENGTH(looks); i++) {
		struct kvmas_place place;
		int err = kvmas_reader_lookup(f->reader, view, looks[i].gpa, &place);

		assert_int_equal(err, looks[i].name ? 0 : -ENOENT);
		if (err)
			continue;
		assert_string_equal(kvmas_region_get_name(place.region), looks[i].name);
		assert_int_equal(place.offset, looks[i].gpa % 0x10);
		assert_int_equal(place.left, 0x10 - looks[i].gpa % 0x10);
	}
	kvmas_view_release(f->reader, view);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(views_are_released_in_any_order),
		TEST(one_view_is_pinned_as_often_as_one_likes),
		TEST(pins_that_are_released_can_be_used_again),
		TEST(few_views_wait_while_one_is_held),
		TEST(as_many_wait_as_are_pinned),
		TEST(region_ends_in_the_commit_that_takes_it_away),
		TEST(region_in_a_pinned_view_ends_in_a_commit_after_its_release),
		TEST(view_outlives_its_space_and_its_tree),
		TEST(views_pinned_by_several_readers_end_with_the_last),
		TEST(view_pinned_when_the_kvmas_is_closed_ends_with_its_reader),
		TEST(hit_in_a_view_that_has_gone_is_not_taken),
		TEST(hit_is_for_the_bytes_of_its_section),
	};

	return cmocka_run_group_tests_name("reader-pins", tests, NULL, NULL);
}

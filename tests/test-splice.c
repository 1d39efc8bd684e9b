/* SPDX-License-Identifier: MIT */
/* What a commit renders anew, as its listeners see it: what changed, and nothing else. */
#include "fixture.h"
#include <inttypes.h>

#include "validate.h"

struct scene {
	struct fixture *f;
	struct kvmas_region *root;
	struct kvmas_region *ram;
	struct kvmas_region *device;
	struct kvmas_space *space;
};

/* RAM with a device in the middle of it. */
static void set_scene(struct fixture *f, struct scene *s)
{
	*s = (struct scene){.f = f};
	s->root = make_container(f, "root", KVMAS_SIZE_MAX);
	s->ram = make_ram(f, "ram", 0x9000);
	s->device = make_mmio(f, "device", 0x1000);
	add(s->root, s->ram, 0, 0);
	add(s->root, s->device, 0x4000, 1);
	s->space = make_space(f, "s", s->root);
	make_listener(f, s->space, "x", 0);
	forget_notes(f);
}

static void assert_valid(struct fixture *f)
{
	const char *fault = validate(f->kvmas);

	if (fault)
		fail_msg("%s", fault);
}

static void halves_are_joined_when_what_parted_them_goes(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	must(kvmas_region_del(s.device));
	assert_notes(s.f, "x begin\n"
			  "x del 5000-8fff ram ram+0x5000\n"
			  "x del 4000-4fff mmio device+0x0\n"
			  "x del 0000-3fff ram ram+0x0\n"
			  "x add 0000-8fff ram ram+0x0\n"
			  "x commit\n");
	assert_valid(s.f);
}

static void unmergeable_halves_of_one_place_are_one_again(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	must(kvmas_region_set_unmergeable(s.ram, true));
	must(kvmas_region_del(s.device));
	assert_view(s.f, s.space, "0000-8fff ram ram+0x0 unmergeable\n");
	add(s.root, s.device, 0x1000, 1);
	assert_view(s.f, s.space,
		    "0000-0fff ram ram+0x0 unmergeable\n1000-1fff mmio device+0x0\n"
		    "2000-8fff ram ram+0x2000 unmergeable\n");
	assert_valid(s.f);
}

/* Three aliases that show one block through, side by side, each by a way of its own. */
static void unmergeable_neighbours_of_three_places_stay_three(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *ram = make_ram(f, "ram", 0x3000);
	struct kvmas_region *aliases[3];
	struct kvmas_space *space = make_space(f, "s", root);

	must(kvmas_region_set_unmergeable(ram, true));
	for (unsigned i = 0; i < 3; i++) {
		aliases[i] = make_alias(f, "alias", ram, i * UINT64_C(0x1000), 0x1000);
		add(root, aliases[i], i * UINT64_C(0x1000), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		must(kvmas_region_set_enabled(aliases[i], false));
		must(kvmas_region_set_enabled(aliases[i], true));
		assert_view(f, space,
			    "0000-0fff ram ram+0x0 unmergeable\n"
			    "1000-1fff ram ram+0x1000 unmergeable\n"
			    "2000-2fff ram ram+0x2000 unmergeable\n");
	}
	must(kvmas_region_set_unmergeable(ram, false));
	assert_view(f, space, "0000-2fff ram ram+0x0\n");
}

static void hole_between_two_parts_of_a_region_keeps_them_apart(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_region *ram = make_ram(f, "ram", 0x3000);
	struct kvmas_space *space = make_space(f, "s", root);

	add(root, make_alias(f, "low", ram, 0, 0x1000), 0, 0);
	add(root, make_alias(f, "high", ram, 0x2000, 0x1000), 0x2000, 0);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_enabled(root, false));
	must(kvmas_region_set_enabled(root, true));
	must(kvmas_region_set_readonly(ram, true));
	must(kvmas_commit(f->kvmas));
	assert_view(f, space, "0000-0fff rom ram+0x0\n2000-2fff rom ram+0x2000\n");
	assert_valid(f);
}

static void only_what_changed_is_told_though_one_window_spans_it(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	must(kvmas_begin(s.f->kvmas));
	must(kvmas_region_set_enabled(s.root, false));
	must(kvmas_region_set_enabled(s.root, true));
	must(kvmas_region_set_size(s.device, 0x800));
	must(kvmas_commit(s.f->kvmas));
	assert_notes(s.f, "x begin\n"
			  "x del 5000-8fff ram ram+0x5000\n"
			  "x del 4000-4fff mmio device+0x0\n"
			  "x add 4000-47ff mmio device+0x0\n"
			  "x add 4800-8fff ram ram+0x4800\n"
			  "x commit\n");
}

static void more_changes_than_windows_are_all_seen(void **state)
{
	struct scene s;
	char *expected = NULL;

	set_scene(*state, &s);
	must(kvmas_begin(s.f->kvmas));
	must(kvmas_region_del(s.ram));
	must(kvmas_region_del(s.device));
	for (uint64_t i = 0; i < 3 * KAS_MAX_WINDOWS; i++) {
		struct kvmas_region *region = make_mmio(s.f, "more", 0x1000);

		add(s.root, region, i * 0x10000, 0);
		text_add(&expected, "%04" PRIx64 "-%04" PRIx64 " mmio more+0x0\n", i * 0x10000,
			 i * 0x10000 + 0xfff);
	}
	must(kvmas_commit(s.f->kvmas));
	assert_view(s.f, s.space, expected);
	assert_valid(s.f);
	free(expected);
}

/* A range that one window touches and the next one cuts. */
static void range_between_two_windows_is_spliced_once(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	must(kvmas_begin(s.f->kvmas));
	must(kvmas_region_set_enabled(s.device, false));
	add(s.root, make_mmio(s.f, "in", 0x1000), 0x7000, 1);
	must(kvmas_commit(s.f->kvmas));
	assert_view(s.f, s.space,
		    "0000-6fff ram ram+0x0\n7000-7fff mmio in+0x0\n8000-8fff ram ram+0x8000\n");
	assert_valid(s.f);
}

static void assert_silent(struct scene *s, int (*edit)(struct scene *s))
{
	const struct kvmas_view *before = kvmas_view_acquire(s->f->reader, s->space);
	const struct kvmas_view *after;
	unsigned long calls;

	must(edit(s)); /* memory that is kept from then on */
	calls = s->f->heap.calls;
	must(edit(s));
	assert_int_equal(s->f->heap.calls, calls);
	after = kvmas_view_acquire(s->f->reader, s->space);
	assert_ptr_equal(after, before);
	assert_notes(s->f, "");
	kvmas_view_release(s->f->reader, before);
	kvmas_view_release(s->f->reader, after);
}

static int hide_and_show(struct scene *s)
{
	must(kvmas_begin(s->f->kvmas));
	must(kvmas_region_set_enabled(s->ram, false));
	must(kvmas_region_set_enabled(s->ram, true));
	return kvmas_commit(s->f->kvmas);
}

static int move_below_the_ram(struct scene *s)
{
	struct kvmas_region *hidden = s->f->made;

	return kvmas_region_set_offset(hidden, hidden->state.offset ^ 0x1000);
}

static int resize_out_of_sight(struct scene *s)
{
	must(kvmas_region_set_size(s->root, KVMAS_SIZE_MAX / 2));
	return kvmas_region_set_size(s->root, KVMAS_SIZE_MAX);
}

static void commit_that_changes_nothing_visible_is_silent_and_allocates_nothing(void **state)
{
	struct kvmas_region *hidden;
	struct scene s;

	set_scene(*state, &s);
	hidden = make_mmio(s.f, "hidden", 0x1000);
	add(s.root, hidden, 0x1000, -1);
	s.f->made = hidden;
	assert_silent(&s, hide_and_show);
	assert_silent(&s, move_below_the_ram);
	assert_silent(&s, resize_out_of_sight);
}

static int split_and_join(struct fixture *f)
{
	struct scene *s = f->with;
	int err = kvmas_region_set_enabled(s->device, false);

	if (!err)
		err = kvmas_region_set_enabled(s->device, true);
	if (err)
		must(kvmas_region_set_enabled(s->device, true));
	return err;
}

static void every_allocation_of_a_splice_fails_cleanly(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	for (uint64_t i = 0; i < 3 * KAS_PAGE_RANGES; i++)
		add(s.root, make_mmio(s.f, "more", 0x1000), 0x100000 + i * 0x10000, 0);
	s.f->with = &s;
	assert_true(fail_each_allocation(s.f, split_and_join) >= 10);
	assert_valid(s.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(halves_are_joined_when_what_parted_them_goes),
		TEST(unmergeable_halves_of_one_place_are_one_again),
		TEST(unmergeable_neighbours_of_three_places_stay_three),
		TEST(hole_between_two_parts_of_a_region_keeps_them_apart),
		TEST(only_what_changed_is_told_though_one_window_spans_it),
		TEST(more_changes_than_windows_are_all_seen),
		TEST(range_between_two_windows_is_spliced_once),
		TEST(commit_that_changes_nothing_visible_is_silent_and_allocates_nothing),
		TEST(every_allocation_of_a_splice_fails_cleanly),
	};

	return cmocka_run_group_tests_name("splice", tests, NULL, NULL);
}

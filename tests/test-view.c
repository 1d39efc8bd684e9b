/* SPDX-License-Identifier: MIT */
/* Looking at views: lookup, walk, what a section says, and what a view keeps alive. */
#include "fixture.h"

#include <sys/mman.h>
#include <unistd.h>

#include "view.h"

#define TOP UINT64_MAX

static struct kvmas_section look_up(struct fixture *f, struct kvmas_space *space, uint64_t gpa)
{
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct kvmas_section section;

	must(kvmas_view_lookup(view, gpa, &section));
	kvmas_view_release(f->reader, view);
	return section;
}

static struct kvmas_space *make_three(struct fixture *f)
{
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);

	add(root, make_ram(f, "a", 0x1000), 0x1000, 0);
	add(root, make_mmio(f, "b", 0x10), 0x2000, 0);
	add(root, make_mmio(f, "c", 0x1000), TOP - 0xfff, 0);
	return make_space(f, "s", root);
}

static void lookup_finds_the_section_that_holds_the_address(void **state)
{
	static const struct {
		uint64_t gpa;
		const char *name; /* NULL: nobody */
	} cases[] = {
		{0, NULL},          {0xfff, NULL}, {0x1000, "a"},  {0x1fff, "a"},
		{0x2000, "b"},      {0x200f, "b"}, {0x2010, NULL}, {TOP - 0x1000, NULL},
		{TOP - 0xfff, "c"}, {TOP, "c"},
	};
	struct fixture *f = *state;
	struct kvmas_space *space = make_three(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);

	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct kvmas_section section = {.gpa = 77};
		int result = kvmas_view_lookup(view, cases[i].gpa, &section);

		assert_int_equal(result, cases[i].name ? 0 : -ENOENT);
		if (cases[i].name)
			assert_string_equal(kvmas_region_get_name(section.region), cases[i].name);
		else
			assert_int_equal(section.gpa, 77); /* not written */
	}
	kvmas_view_release(f->reader, view);
}

static void next_finds_the_first_section_that_ends_there_or_later(void **state)
{
	static const struct {
		uint64_t gpa;
		const char *name;
	} cases[] = {
		{0, "a"}, {0x1000, "a"}, {0x1fff, "a"}, {0x2000, "b"}, {0x2010, "c"}, {TOP, "c"},
	};
	struct fixture *f = *state;
	struct kvmas_space *space = make_three(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);

	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct kvmas_section section;

		must(kvmas_view_find(view, cases[i].gpa, &section));
		assert_string_equal(kvmas_region_get_name(section.region), cases[i].name);
	}
	kvmas_view_release(f->reader, view);
}

static void next_past_the_last_section_returns_enoent(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = make_space(f, "s", make_ram(f, "a", 0x1000));
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct kvmas_section section;

	must(kvmas_view_find(view, 0xfff, &section));
	assert_int_equal(kvmas_view_find(view, 0x1000, &section), -ENOENT);
	assert_int_equal(kvmas_view_find(view, TOP, &section), -ENOENT);
	kvmas_view_release(f->reader, view);
}

static void empty_view_has_no_section(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = make_space(f, "s", make_container(f, "root", 0x1000));
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct kvmas_section section;

	assert_int_equal(kvmas_view_find(view, 0, &section), -ENOENT);
	assert_int_equal(kvmas_view_lookup(view, 0, &section), -ENOENT);
	kvmas_view_release(f->reader, view);
}

/* ---- sections ---- */

static void section_of_a_device_has_no_memory(void **state)
{
	struct fixture *f = *state;
	struct kvmas_section section = look_up(f, make_three(f), TOP);

	assert_int_equal(section.gpa, TOP - 0xfff);
	assert_int_equal(section.size, 0x1000);
	assert_int_equal(section.last, TOP);
	assert_int_equal(section.offset, 0);
	assert_false(section.readonly);
	assert_false(section.logged);
	assert_null(section.ram);
	assert_null(section.hva);
	assert_int_equal(section.fd, -1);
}

static void section_of_2_to_the_64_bytes_is_exact(void **state)
{
	struct fixture *f = *state;
	struct kvmas_section section =
		look_up(f, make_space(f, "s", make_mmio(f, "a", KVMAS_SIZE_MAX)), 5);

	assert_int_equal(section.gpa, 0);
	assert_int_equal(section.size, KVMAS_SIZE_MAX);
	assert_int_equal(section.last, TOP);
}

/* A block of four pages on a file from its second page; a region from its second, in the space
 * from half a page on, through an alias at 0x100000. */
static void section_of_memory_says_where_it_is(void **state)
{
	struct fixture *f = *state;
	uint64_t page = page_size();
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	int fd = memfd_create("test-view", 0);
	struct kvmas_section section;
	struct kvmas_region *a;
	struct kvmas_ram *ram;

	must(ftruncate(fd, (off_t)(5 * page)));
	must(kvmas_ram_new(f->kvmas,
			   KVMAS_CONFIG(ram, .name = "file", .size = 4 * page, .fd = fd,
					.source = KVMAS_RAM_FILE, .fd_offset = page),
			   &ram));
	close(fd);
	a = make_region(f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							.name = "a",
							.size = 3 * page,
							.ram = ram,
							.ram_offset = page});
	add(root, make_alias(f, "alias", a, page / 2, page), 0x100000, 0);
	section = look_up(f, make_space(f, "s", root), 0x100000 + page - 1);
	assert_int_equal(section.gpa, 0x100000);
	assert_int_equal(section.size, page);
	assert_ptr_equal(section.region, a);
	assert_int_equal(section.offset, page / 2);
	assert_ptr_equal(section.ram, ram);
	assert_int_equal(section.ram_offset, page + page / 2);
	assert_ptr_equal(section.hva, (char *)kvmas_ram_get_hva(ram) + page + page / 2);
	assert_int_equal(section.fd, kvmas_ram_get_fd(ram));
	assert_int_equal(section.fd_offset, 2 * page + page / 2);
	kvmas_ram_unref(ram);
}

static void section_of_rom_is_readonly_and_has_memory(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_rom(f, "a", 0x1000);
	struct kvmas_section section = look_up(f, make_space(f, "s", a), 0);

	assert_true(section.readonly);
	assert_ptr_equal(section.ram, block_of(a));
	assert_int_equal(section.fd, -1);
}

/* It is told to listeners: a view stays the same when logging begins. */
static void section_of_a_lookup_does_not_say_what_is_logged(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", a);
	struct kvmas_client *client;

	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, a, space));
	assert_false(look_up(f, space, 0).logged);
	kvmas_client_unref(client);
}

static void walk_ends_at_the_top_of_the_address_space(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_mmio(f, "root", KVMAS_SIZE_MAX);
	struct kvmas_space *space = make_space(f, "s", root);
	const struct kvmas_view *view;
	struct kvmas_section section;

	add(root, make_ram(f, "a", 0x1000), 0x1000, 0);
	view = kvmas_view_acquire(f->reader, space);
	must(kvmas_view_find(view, 0, &section));
	assert_int_equal(section.last, 0xfff);
	must(kvmas_view_next(view, &section));
	assert_int_equal(section.gpa, 0x1000);
	must(kvmas_view_next(view, &section));
	assert_int_equal(section.last, UINT64_MAX);
	assert_int_equal(kvmas_view_next(view, &section), -ENOENT);
	assert_int_equal(section.last, UINT64_MAX);
	kvmas_view_release(f->reader, view);
}

/* ---- what a view keeps ---- */

static void held_view_does_not_change(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", root);
	const struct kvmas_view *view;
	char *text;

	add(root, a, 0, 0);
	view = kvmas_view_acquire(f->reader, space);
	must(kvmas_region_set_offset(a, 0x4000));
	assert_view(f, space, "4000-4fff ram a+0x0\n");
	text = view_text(view);
	assert_string_equal(text, "0000-0fff ram a+0x0\n");
	free(text);
	kvmas_view_release(f->reader, view);
}

static void region_lives_as_long_as_a_view_shows_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *a = make_mmio(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", root);
	struct kvmas_section section;
	const struct kvmas_view *view;

	add(root, a, 0, 0);
	view = kvmas_view_acquire(f->reader, space);
	must(kvmas_region_del(a));
	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	must(kvmas_view_lookup(view, 0, &section));
	assert_string_equal(kvmas_region_get_name(section.region), "a");
	kvmas_view_release(f->reader, view);
	assert_notes(f, ""); /* not inside the release */
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void two_pins_of_one_view_are_two(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", a);
	const struct kvmas_view *first = kvmas_view_acquire(f->reader, space);
	const struct kvmas_view *second = kvmas_view_acquire(f->reader, space);
	char *text;

	must(kvmas_region_set_enabled(a, false));
	kvmas_view_release(f->reader, first);
	text = view_text(second);
	assert_string_equal(text, "0000-0fff ram a+0x0\n");
	free(text);
	kvmas_view_release(f->reader, second);
}

static void unchanged_commit_keeps_the_very_view(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *hidden = make_ram(f, "hidden", 0x1000);
	struct kvmas_space *space = make_space(f, "s", root);
	const struct kvmas_view *before = kvmas_view_acquire(f->reader, space);
	const struct kvmas_view *after;

	must(kvmas_region_set_enabled(hidden, false));
	add(root, hidden, 0, 0);
	after = kvmas_view_acquire(f->reader, space);
	assert_ptr_equal(before, after);
	kvmas_view_release(f->reader, before);
	kvmas_view_release(f->reader, after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lookup_finds_the_section_that_holds_the_address),
		TEST(next_finds_the_first_section_that_ends_there_or_later),
		TEST(next_past_the_last_section_returns_enoent),
		TEST(empty_view_has_no_section),
		TEST(section_of_a_device_has_no_memory),
		TEST(section_of_2_to_the_64_bytes_is_exact),
		TEST(section_of_memory_says_where_it_is),
		TEST(section_of_rom_is_readonly_and_has_memory),
		TEST(section_of_a_lookup_does_not_say_what_is_logged),
		TEST(held_view_does_not_change),
		TEST(region_lives_as_long_as_a_view_shows_it),
		TEST(two_pins_of_one_view_are_two),
		TEST(unchanged_commit_keeps_the_very_view),
		TEST(walk_ends_at_the_top_of_the_address_space),
	};

	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}

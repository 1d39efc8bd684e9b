/* SPDX-License-Identifier: MIT */
/* The dump: its words may change, so only what a reader looks for is asked for here. */
#include "fixture.h"

#include <stdio.h>

static char *dump(struct kvmas *kvmas)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_non_null(stream);
	must(kvmas_dump(kvmas, stream));
	must(fclose(stream));
	return text;
}

static void assert_dump_has(struct fixture *f, const char *part)
{
	char *text = dump(f->kvmas);

	if (!strstr(text, part))
		print_error("not in the dump: %s\n%s", part, text);
	assert_non_null(strstr(text, part));
	free(text);
}

static void dump_of_nothing_is_empty(void **state)
{
	struct fixture *f = *state;
	char *text = dump(f->kvmas);

	assert_string_equal(text, "");
	free(text);
}

static void dump_names_spaces_regions_and_sections(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "system", 0x10000);
	struct kvmas_region *a = make_ram(f, "pc.ram", 0x2000);
	struct kvmas_region *alias = make_alias(f, "ram-low", a, 0x1000, 0x1000);

	add(root, alias, 0x4000, -3);
	make_space(f, "memory", root);
	assert_dump_has(f, "memory");
	assert_dump_has(f, "system");
	assert_dump_has(f, "container");
	assert_dump_has(f, "ram-low");
	assert_dump_has(f, "priority -3");
	assert_dump_has(f, "pc.ram+0x1000");
	assert_dump_has(f, "0000000000004000-0000000000004fff");
}

static void dump_tells_what_is_disabled_or_readonly(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);

	make_space(f, "s", a);
	must(kvmas_region_set_enabled(a, false));
	assert_dump_has(f, "disabled");
	must(kvmas_region_set_readonly(a, true));
	assert_dump_has(f, "readonly");
}

static void dump_inside_a_transaction_shows_the_view_before_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);

	make_space(f, "s", a);
	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_enabled(a, false));
	assert_dump_has(f, "0000000000000000-0000000000000fff ram a+0x0");
	must(kvmas_abort(f->kvmas));
}

static void dropped_space_is_not_dumped(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = make_space(f, "s", make_ram(f, "a", 0x1000));
	char *text;

	drop_space(f, space);
	text = dump(f->kvmas);
	assert_string_equal(text, "");
	free(text);
}

/* What is disabled is not rendered, so that it may nest deeper than what is. */
static void dump_of_a_tree_too_deep_to_render_ends(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x1000);
	struct kvmas_region *region = make_ram(f, "a", 0x1000);

	make_space(f, "s", root);
	for (int i = 0; i < 2000; i++) {
		struct kvmas_region *box = make_container(f, "box", 0x1000);

		add(box, region, 0, 0);
		region = box;
	}
	must(kvmas_region_set_enabled(region, false));
	add(root, region, 0, 0);
	assert_dump_has(f, "box");
}

/* The stream of a full disk, which fails at once since nothing is kept back. */
static void stream_that_fails_returns_eio(void **state)
{
	struct fixture *f = *state;
	FILE *stream = fopen("/dev/full", "w");

	assert_non_null(stream);
	setvbuf(stream, NULL, _IONBF, 0);
	make_space(f, "s", make_ram(f, "a", 0x1000));
	assert_int_equal(kvmas_dump(f->kvmas, stream), -EIO);
	fclose(stream);
}

/* What the buffer holds back is part of the dump too. */
static void buffered_stream_that_fails_returns_eio(void **state)
{
	struct fixture *f = *state;
	FILE *stream = fopen("/dev/full", "w");

	assert_non_null(stream);
	make_space(f, "s", make_ram(f, "a", 0x1000));
	assert_int_equal(kvmas_dump(f->kvmas, stream), -EIO);
	fclose(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(dump_of_nothing_is_empty),
		TEST(dump_names_spaces_regions_and_sections),
		TEST(dump_tells_what_is_disabled_or_readonly),
		TEST(dump_inside_a_transaction_shows_the_view_before_it),
		TEST(dropped_space_is_not_dumped),
		TEST(dump_of_a_tree_too_deep_to_render_ends),
		TEST(stream_that_fails_returns_eio),
		TEST(buffered_stream_that_fails_returns_eio),
	};

	return cmocka_run_group_tests_name("dump", tests, NULL, NULL);
}

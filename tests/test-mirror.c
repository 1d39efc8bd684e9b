/* SPDX-License-Identifier: MIT */
/*
 * The listener that the random runs believe (mirror.h), tested: each way of telling wrongly must be
 * seen, and telling rightly must not be blamed.
 */
#include "mirror.h"

#include "fixture.h"

/* What is told: a callback, and a section by its gpa. Sections are pages. */
struct telling {
	void (*tell)(void *data, const struct kvmas_section *section);
	uint64_t gpa;
	bool logged;
	bool was_logged;
	uint64_t offset; /* to make another section of it */
	uint64_t longer;
};

struct lesson {
	const char *fault; /* NULL: none */
	struct telling tellings[4];
};

static void begin(void *data, const struct kvmas_section *section)
{
	(void)section;
	mirror_begin(data);
}

static void commit(void *data, const struct kvmas_section *section)
{
	(void)section;
	mirror_commit(data);
}

/* The mirror knows of pages at 0x1000 and, logged, at 0x4000; begin has been told. */
static const struct lesson lessons[] = {
	{NULL,
	 {{mirror_del, 0x4000, true, true},
	  {mirror_del, 0x1000},
	  {mirror_add, 0x4000, .offset = 1}}},
	{NULL, {{mirror_log_start, 0x1000, true}, {mirror_add, 0x2000}, {mirror_add, 0x5000}}},
	{NULL, {{mirror_log_stop, 0x4000, false, true}}},
	{NULL, {{mirror_add, 0x2000, true}, {mirror_log_start, 0x2000, true}}},
	{"begin in begin", {{begin}}},
	{"commit without begin", {{commit}, {commit}}},
	{"told outside begin and commit", {{commit}, {mirror_add, 0x9000}}},
	{"told outside begin and commit", {{commit}, {mirror_del, 0x1000}}},
	{"told of a section that was never added", {{mirror_del, 0x1000, .offset = 1}}},
	{"told of a section that was never added", {{mirror_del, 0x2000}}},
	{"told of a section that was never added", {{mirror_del, 0x1000}, {mirror_del, 0x1000}}},
	{"told of a section that was never added", {{mirror_log_start, 0x2000, true}}},
	{"deletions do not descend, or come late",
	 {{mirror_del, 0x1000}, {mirror_del, 0x4000, true, true}}},
	{"deletions do not descend, or come late", {{mirror_add, 0x9000}, {mirror_del, 0x1000}}},
	{"deletions do not descend, or come late",
	 {{mirror_log_stop, 0x4000, false, true}, {mirror_del, 0x1000}}},
	{"deleted with another logged than it had", {{mirror_del, 0x4000}}},
	{"deleted with another logged than it had", {{mirror_del, 0x4000, true, false}}},
	{"sections overlap", {{mirror_add, 0x4000}}},
	{"sections overlap", {{mirror_add, 0x1800}}},
	{"sections overlap", {{mirror_add, 0x3800}}},
	{"additions do not ascend", {{mirror_add, 0x9000}, {mirror_add, 0x7000}}},
	{"additions do not ascend", {{mirror_add, 0x9000}, {mirror_log_start, 0x1000, true}}},
	{"deleted and added, though it stays", {{mirror_del, 0x1000}, {mirror_add, 0x1000}}},
	{"added as logged before", {{mirror_add, 0x9000, .was_logged = true}}},
	{"no log_start after a logged section was added", {{mirror_add, 0x9000, true}, {commit}}},
	{"no log_start after a logged section was added",
	 {{mirror_add, 0x7000, true}, {mirror_add, 0x9000}}},
	{"log_start of another section than the one added",
	 {{mirror_add, 0x2000, true}, {mirror_log_stop, 0x4000, false, true}}},
	{"log_start or log_stop of what is so already", {{mirror_log_stop, 0x1000}}},
	{"log_start or log_stop of what is so already", {{mirror_log_start, 0x4000, true, true}}},
	{"log_start or log_stop of what is so already", {{mirror_log_start, 0x1000, true, true}}},
	{"a section whose size and last address disagree", {{mirror_add, 0x9000, .longer = 1}}},
};

static struct kvmas_section section_of(const struct telling *telling)
{
	return (struct kvmas_section){
		.gpa = telling->gpa,
		.size = 0x1000 + telling->longer,
		.last = telling->gpa + 0xfff,
		.offset = telling->offset,
		.logged = telling->logged,
		.was_logged = telling->was_logged,
	};
}

static void tell(struct mirror *mirror, const struct telling *telling)
{
	struct kvmas_section section = section_of(telling);

	telling->tell(mirror, &section);
}

static void teach(struct mirror *mirror, const struct lesson *lesson)
{
	static const struct telling before[] = {{begin},
						{mirror_add, 0x1000},
						{mirror_add, 0x4000, true},
						{mirror_log_start, 0x4000, true},
						{commit},
						{begin}};

	for (unsigned i = 0; i < LENGTH(before); i++)
		tell(mirror, &before[i]);
	assert_null(mirror->fault);
	for (unsigned i = 0; i < LENGTH(lesson->tellings) && lesson->tellings[i].tell; i++)
		tell(mirror, &lesson->tellings[i]);
}

static void wrong_telling_is_seen(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LENGTH(lessons); i++) {
		const char *fault = lessons[i].fault;
		struct mirror mirror = {0};

		teach(&mirror, &lessons[i]);
		if ((fault != NULL) != (mirror.fault != NULL) ||
		    (fault && strcmp(fault, mirror.fault) != 0))
			fail_msg("lesson %u: %s instead of %s", i,
				 mirror.fault ? mirror.fault : "nothing",
				 fault ? fault : "nothing");
		mirror_fini(&mirror);
	}
}

/* Each member of a section that is not the same makes another section of it. */
static void sections_that_differ_in_any_member_are_not_the_same(void **state)
{
	static char thing[2];
	const struct kvmas_section others[] = {
		{.gpa = 1},
		{.size = 1},
		{.last = 1},
		{.region = (void *)thing},
		{.offset = 1},
		{.readonly = true},
		{.nonvolatile = true},
		{.unmergeable = true},
		{.romd = true},
		{.ram = (void *)thing},
		{.ram_offset = 1},
		{.hva = thing},
		{.fd = 1},
		{.fd_offset = 1},
	};
	struct kvmas_section section = {0};

	(void)state;
	assert_true(mirror_same_section(&section, &section));
	for (unsigned i = 0; i < LENGTH(others); i++)
		assert_false(mirror_same_section(&section, &others[i]));
}

static void list_follows_what_it_is_told(void **state)
{
	struct mirror mirror = {0};

	(void)state;
	teach(&mirror, &lessons[0]);
	assert_int_equal(mirror.count, 1);
	assert_int_equal(mirror.sections[0].gpa, 0x4000);
	assert_false(mirror.sections[0].logged);
	mirror_fini(&mirror);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_telling_is_seen),
		cmocka_unit_test(sections_that_differ_in_any_member_are_not_the_same),
		cmocka_unit_test(list_follows_what_it_is_told),
	};

	return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}

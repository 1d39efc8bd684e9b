/* SPDX-License-Identifier: MIT */
/* Taking: dirty pages on their way to a client, and back; what is armed before it reads them. */
#include "judge.h"

#include <inttypes.h>

#include "ram.h"

enum { NPAGES = 200, BIG = 40000 }; /* the latter are more than are taken at a time */

/*
 * A space, in pages:
 *     10-209   "a"       of NPAGES
 *     300      "dev"
 *     400-449  "window"  an alias of a's pages 100-149
 *     500      "odd"     an alias of a's bytes from the middle of page 3 to that of page 5
 *     600-607  "b"       of 8
 * and another, whose root is "a".
 */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *a;
	struct kvmas_region *window;
	struct kvmas_ram *ram;
	struct kvmas_space *space;
	struct kvmas_space *other;
	struct kvmas_client *client;
	struct kvmas_client *second;
};

static uint64_t pages(uint64_t n)
{
	return n * page_size();
}

/* Bytes that are given as if pages were of 4 KiB. */
static uint64_t scaled(uint64_t bytes)
{
	return bytes == UINT64_MAX ? bytes : bytes * (page_size() / 4096);
}

static void set_scene(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", KVMAS_SIZE_MAX);
	s->a = make_ram(f, "a", pages(NPAGES));
	s->ram = block_of(s->a);
	s->window = make_alias(f, "window", s->a, pages(100), pages(50));
	add(s->root, s->a, pages(10), 0);
	add(s->root, make_mmio(f, "dev", pages(1)), pages(300), 0);
	add(s->root, s->window, pages(400), 0);
	add(s->root, make_alias(f, "odd", s->a, pages(3) + scaled(0x800), pages(2)), pages(500), 0);
	add(s->root, make_ram(f, "b", pages(8)), pages(600), 0);
	s->space = make_space(f, "s", s->root);
	s->other = make_space(f, "t", s->a);
	must(kvmas_client_new(f->kvmas, "client", &s->client));
	must(kvmas_client_new(f->kvmas, "second", &s->second));
	f->with = s;
}

static void clear_scene(struct scene *s)
{
	kvmas_client_unref(s->client);
	kvmas_client_unref(s->second);
}

static void mark(struct kvmas_ram *ram, uint64_t page, uint64_t npages)
{
	must(kvmas_ram_mark(ram, pages(page), pages(npages)));
}

/* What a client still has dirty: runs as "3 64-66 "; it is taken, with nobody left to be armed. */
static void assert_dirty(struct kvmas_client *client, struct kvmas_ram *ram, const char *expected)
{
	uint64_t npages = kvmas_ram_get_max_size(ram) / page_size();
	uint64_t *words = calloc((npages + 63) / 64, sizeof(*words));
	char *text = NULL;

	assert_non_null(words);
	assert_true(kvmas_client_take(client, ram, 0, npages, words) >= 0);
	text_add(&text, "%s", "");
	for (uint64_t page = 0; page < npages; page++) {
		uint64_t first = page;

		while (page < npages && words[page / 64] >> (page % 64) & 1)
			page++;
		if (page > first + 1)
			text_add(&text, "%d-%d ", (int)first, (int)page - 1);
		else if (page > first)
			text_add(&text, "%d ", (int)first);
	}
	assert_string_equal(text, expected);
	free(text);
	free(words);
}

/* ---- arming ---- */

/* A judge that is told what was taken. */
struct armed {
	struct judge judge;
	int result;
};

/* The line has addresses and offsets as if pages were of 4 KiB. */
static int hear_clear(void *data, const struct kvmas_section *section)
{
	struct judge *judge = data;
	struct armed *armed = kas_container_of(judge, struct armed, judge);

	assert_false(judge->open);
	assert_int_equal(section->size, section->last - section->gpa + 1);
	assert_int_equal(section->ram_offset, section->offset);
	assert_int_equal(section->was_logged, section->logged);
	assert_ptr_equal(section->hva,
			 (char *)kvmas_ram_get_hva(section->ram) + section->ram_offset);
	note(judge->f, "%s clear %" PRIx64 "-%" PRIx64 " %s+0x%" PRIx64 "%s", judge->name,
	     section->gpa / scaled(1), (section->last + 1) / scaled(1) - 1,
	     kvmas_region_get_name(section->region), section->offset / scaled(1),
	     section->logged ? " logged" : "");
	if (judge->inside)
		judge->inside(judge, "clear");
	return armed->result;
}

static void add_armed(struct armed *armed, struct fixture *f, struct kvmas_space *space,
		      const char *name, int priority)
{
	struct judge *judge = &armed->judge;
	struct kvmas_listener_config config = judge_config(judge, f, name, priority);

	armed->result = 0;
	config.prepare = NULL;
	config.log_clear = hear_clear;
	must(kvmas_listener_add(space, &config, &judge->listener));
	forget_notes(f);
}

static uint64_t words[(BIG + 63) / 64];

static void listeners_hear_what_was_taken_wherever_it_is_shown(void **state)
{
	struct fixture *f = *state;
	struct armed x, y, z;
	struct scene s;

	set_scene(f, &s);
	add_armed(&y, f, s.space, "y", 1);
	add_armed(&x, f, s.space, "x", 0);
	add_armed(&z, f, s.other, "z", -1);
	must(kvmas_client_log_start(s.client, NULL, s.other));
	forget_notes(f);
	mark(s.ram, 4, 1);
	mark(s.ram, 101, 1);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 0, NPAGES, words), 2);
	assert_notes(f, "x clear e000-6ffff a+0x4000\ny clear e000-6ffff a+0x4000\n"
			"x clear 190000-191fff a+0x64000\ny clear 190000-191fff a+0x64000\n"
			"x clear 1f4800-1f5fff a+0x4000\ny clear 1f4800-1f5fff a+0x4000\n"
			"z clear 4000-65fff a+0x4000 logged\n");
	assert_int_equal(kvmas_client_take(s.second, s.ram, 64, 128, words), 1);
	assert_notes(f, "x clear 6f000-6ffff a+0x65000\ny clear 6f000-6ffff a+0x65000\n"
			"x clear 191000-191fff a+0x65000\ny clear 191000-191fff a+0x65000\n"
			"z clear 65000-65fff a+0x65000 logged\n");
	del_judge(&y.judge);
	del_judge(&x.judge);
	del_judge(&z.judge);
	clear_scene(&s);
}

static void nobody_hears_of_a_take_that_took_nothing(void **state)
{
	struct fixture *f = *state;
	struct armed x;
	struct scene s;

	set_scene(f, &s);
	add_armed(&x, f, s.space, "x", 0);
	mark(s.ram, 70, 1);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 0, 64, words), 0);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 64, 0, words), 0);
	assert_notes(f, "");
	del_judge(&x.judge);
	assert_int_equal(atomic_load(&f->kvmas->armers), 0);
	forget_notes(f);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 0, NPAGES, words), 1);
	assert_notes(f, "");
	clear_scene(&s);
}

static void pages_that_cannot_be_armed_are_not_taken(void **state)
{
	struct fixture *f = *state;
	struct armed x, y;
	struct scene s;

	set_scene(f, &s);
	add_armed(&x, f, s.space, "x", 0);
	add_armed(&y, f, s.other, "y", 0);
	mark(s.ram, 60, 70);
	y.result = -ENOSPC;
	assert_int_equal(kvmas_client_take(s.client, s.ram, 64, 64, words), -ENOSPC);
	x.result = -EFAULT;
	forget_notes(f);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 64, 64, words), -EFAULT);
	assert_notes(f, "x clear 4a000-89fff a+0x40000\n");
	x.result = 1;
	y.result = 0;
	assert_dirty(s.client, s.ram, "60-129 ");
	assert_dirty(s.second, s.ram, "60-129 ");
	del_judge(&x.judge);
	del_judge(&y.judge);
	clear_scene(&s);
}

static void take_inside(struct judge *judge, const char *what)
{
	struct scene *s = judge->data;

	if (strcmp(what, "sync") != 0)
		return;
	note(judge->f, "%d", (int)kvmas_client_take(s->client, s->ram, 0, NPAGES, words));
}

static void take_in_a_callback_is_refused_if_there_is_something_to_arm(void **state)
{
	struct fixture *f = *state;
	struct judge x;
	struct armed y;
	struct scene s;

	set_scene(f, &s);
	add_judge(&x, f, s.space, "x", 0);
	x.inside = take_inside;
	x.data = &s;
	mark(s.ram, 1, 1);
	forget_notes(f);
	must(kvmas_space_sync(s.space, 0, 1));
	assert_notes(f, "x sync\n1\n");
	add_armed(&y, f, s.other, "y", 0);
	mark(s.ram, 1, 1);
	must(kvmas_space_sync(s.space, 0, 1));
	assert_notes(f, "x sync\n-16\n");
	x.inside = NULL;
	assert_dirty(s.client, s.ram, "1 ");
	del_judge(&y.judge);
	del_judge(&x);
	clear_scene(&s);
}

static void listener_may_be_deleted_while_it_is_armed(struct judge *judge, const char *what)
{
	if (strncmp(what, "clear", 5) == 0)
		must(kvmas_listener_del(judge->listener));
}

static void deleted_inside_a_take_a_listener_hears_the_round_out(void **state)
{
	struct fixture *f = *state;
	struct armed x;
	struct scene s;

	set_scene(f, &s);
	add_armed(&x, f, s.other, "x", 0);
	x.judge.inside = listener_may_be_deleted_while_it_is_armed;
	mark(s.ram, 1, 1);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 0, NPAGES, words), 1);
	assert_non_null(find_line(f, "x clear 1000-1fff a+0x1000\nx begin\nx del "));
	forget_notes(f);
	mark(s.ram, 1, 1);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 0, NPAGES, words), 1);
	assert_notes(f, "");
	assert_int_equal(x.judge.nsections, 0);
	clear_scene(&s);
}

static void a_new_client_has_all_that_is_logged_armed(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *late = NULL;
	struct armed x;
	struct scene s;

	set_scene(f, &s);
	add_armed(&x, f, s.other, "x", 0);
	must(kvmas_client_new(f->kvmas, "late", &late));
	assert_notes(f, "x clear 0-c7fff a+0x0\n");
	kvmas_client_unref(late);
	late = NULL;
	x.result = -ENOSPC;
	assert_int_equal(kvmas_client_new(f->kvmas, "late", &late), -ENOSPC);
	assert_null(late);
	mark(s.ram, 1, 1); /* to whom it may concern */
	x.result = 0;
	del_judge(&x.judge);
	clear_scene(&s);
}

static int try_client(struct fixture *f)
{
	struct kvmas_client *client;
	int err = kvmas_client_new(f->kvmas, "c", &client);

	if (!err)
		kvmas_client_unref(client);
	return err;
}

static void every_allocation_of_a_client_fails_cleanly_beside_one_to_arm(void **state)
{
	struct fixture *f = *state;
	struct armed x;
	struct scene s;

	set_scene(f, &s);
	add_armed(&x, f, s.space, "x", 0);
	assert_int_equal(fail_each_allocation(f, try_client), 4); /* itself, name, two bitmaps */
	del_judge(&x.judge);
	clear_scene(&s);
}

struct stubborn {
	struct source source;
	int result;
	unsigned calls;
};

static int stubborn_clear(struct source *source, uint64_t first, uint64_t npages)
{
	struct stubborn *stubborn = kas_container_of(source, struct stubborn, source);

	(void)first, (void)npages;
	stubborn->calls++;
	return stubborn->result;
}

static void pages_whose_source_cannot_be_armed_are_not_taken(void **state)
{
	struct fixture *f = *state;
	struct stubborn stubborn = {
		.source = {.first = 0, .npages = NPAGES, .clear = stubborn_clear}};
	struct scene s;

	set_scene(f, &s);
	must(kas_source_add(&s.ram->sources, &stubborn.source));
	kas_source_attach(&s.ram->sources, &stubborn.source);
	mark(s.ram, 30, 60);
	stubborn.result = -ENOENT;
	assert_int_equal(kvmas_client_take(s.client, s.ram, 64, 64, words), -ENOENT);
	assert_int_equal(stubborn.calls, 1);
	stubborn.result = 0;
	assert_dirty(s.client, s.ram, "30-89 ");
	kas_source_del(&s.ram->sources, &stubborn.source);
	clear_scene(&s);
}

/* ---- run by run ---- */

/* Writes runs down as "start+size ", in pages; refuses the one that begins at this page. */
struct eater {
	char *text;
	uint64_t refused;
	int result;
};

static int eat(void *data, const struct kvmas_dirty_run *run)
{
	struct eater *eater = data;

	if (run->start == pages(eater->refused) && eater->result)
		return eater->result;
	assert_ptr_equal(run->hva, (char *)kvmas_ram_get_hva(run->ram) + run->ram_offset);
	assert_int_equal(run->ram_offset % page_size(), 0);
	text_add(&eater->text, "%" PRId64 "%s+%d@%d ", (int64_t)run->start / (int64_t)page_size(),
		 run->start % page_size() ? "'" : "", (int)(run->size / page_size()),
		 (int)(run->ram_offset / page_size()));
	return 1;
}

static void assert_eaten(struct eater *eater, const char *expected)
{
	text_add(&eater->text, "%s", "");
	assert_string_equal(eater->text, expected);
	free(eater->text);
	eater->text = NULL;
}

static void region_gives_its_runs(void **state)
{
	struct fixture *f = *state;
	struct eater eater = {0};
	struct scene s;

	set_scene(f, &s);
	mark(s.ram, 0, 1);
	mark(s.ram, 62, 4);
	mark(s.ram, 127, 1);
	mark(s.ram, NPAGES - 1, 1);
	assert_int_equal(kvmas_client_take_region(s.client, s.a, 0, KVMAS_SIZE_MAX, eat, &eater),
			 7);
	assert_eaten(&eater, "0+1@0 62+4@62 127+1@127 199+1@199 ");
	assert_dirty(s.client, s.ram, "");
	assert_dirty(s.second, s.ram, "0 62-65 127 199 ");
	clear_scene(&s);
}

static void part_of_a_region_gives_every_page_that_it_touches(void **state)
{
	static const struct {
		uint64_t offset, size;
		const char *eaten, *left;
	} cases[] = {
		{0, 1, "0+1@0 ", "1-199 "},
		{4095, 2, "0+2@0 ", "2-199 "},
		{4096, 4096, "1+1@1 ", "0 2-199 "},
		{65 * 4096 + 1, 4096, "65+2@65 ", "0-64 67-199 "},
		{199 * 4096 + 4095, 1, "199+1@199 ", "0-198 "},
		{60 * 4096, 10 * 4096, "60+10@60 ", "0-59 70-199 "},
		{200 * 4096, 0, "", "0-199 "},
		{5, 0, "", "0-199 "},
	};
	struct fixture *f = *state;
	struct eater eater = {0};
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		mark(s.ram, 0, NPAGES);
		assert_true(kvmas_client_take_region(s.client, s.a, scaled(cases[i].offset),
						     scaled(cases[i].size), eat, &eater) >= 0);
		assert_eaten(&eater, cases[i].eaten);
		assert_dirty(s.client, s.ram, cases[i].left);
	}
	clear_scene(&s);
}

static void region_that_begins_inside_its_block_counts_from_its_own_start(void **state)
{
	struct fixture *f = *state;
	struct eater eater = {0};
	struct kvmas_region *late;
	struct scene s;

	set_scene(f, &s);
	late = make_region(f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							   .name = "late",
							   .size = pages(10) + 1,
							   .ram = s.ram,
							   .ram_offset = pages(70)});
	mark(s.ram, 0, NPAGES);
	assert_int_equal(kvmas_client_take_region(s.client, late, 0, KVMAS_SIZE_MAX, eat, &eater),
			 11); /* the last page is taken whole */
	assert_eaten(&eater, "0+11@70 ");
	assert_int_equal(kvmas_client_take_region(s.client, late, pages(11), 1, eat, &eater),
			 -EINVAL);
	assert_int_equal(kvmas_client_take_region(s.client, late, pages(10), 2, eat, &eater),
			 -EINVAL);
	assert_dirty(s.client, s.ram, "0-69 81-199 ");
	clear_scene(&s);
}

static void large_region_is_taken_by_stretches_and_loses_nothing(void **state)
{
	struct fixture *f = *state;
	struct eater eater = {0};
	struct kvmas_region *big = make_ram(f, "big", pages(BIG));
	struct scene s;

	set_scene(f, &s);
	mark(block_of(big), 32766, 4);
	mark(block_of(big), BIG - 1, 1);
	assert_int_equal(
		kvmas_client_take_region(s.client, big, pages(3), pages(BIG - 3), eat, &eater), 5);
	assert_eaten(&eater, "32766+2@32766 32768+2@32768 39999+1@39999 ");
	clear_scene(&s);
}

static void what_is_refused_and_all_behind_is_put_back(void **state)
{
	struct fixture *f = *state;
	struct eater eater = {.result = -EPIPE};
	struct scene s;

	set_scene(f, &s);
	for (uint64_t page = 0; page < 150; page += 3)
		mark(s.ram, page, 2);
	eater.refused = 60;
	assert_int_equal(kvmas_client_take_region(s.client, s.a, pages(55), pages(20), eat, &eater),
			 -EPIPE);
	assert_eaten(&eater, "55+1@55 57+2@57 ");
	eater.result = 0;
	assert_int_equal(kvmas_client_take_region(s.client, s.a, pages(54), pages(12), eat, &eater),
			 5);
	assert_eaten(&eater, "54+1@54 60+2@60 63+2@63 ");
	clear_scene(&s);
}

static void take_of_what_is_no_part_of_a_region_with_memory_returns_einval(void **state)
{
	struct fixture *f = *state;
	struct eater eater = {0};
	struct scene s;

	set_scene(f, &s);
	mark(s.ram, 0, NPAGES);
	assert_int_equal(kvmas_client_take_region(s.client, s.root, 0, 1, eat, &eater), -EINVAL);
	assert_int_equal(kvmas_client_take_region(s.client, s.window, 0, 1, eat, &eater), -EINVAL);
	assert_int_equal(kvmas_client_take_region(s.client, s.a, 0, pages(NPAGES) + 1, eat, &eater),
			 -EINVAL);
	assert_int_equal(kvmas_client_take_region(s.client, s.a, pages(NPAGES), 1, eat, &eater),
			 -EINVAL);
	assert_int_equal(kvmas_client_take_region(s.client, s.a, 1, KVMAS_SIZE_MAX, eat, &eater),
			 -EINVAL);
	assert_int_equal(kvmas_client_take_region(s.client, s.a, UINT64_MAX, 0, eat, &eater),
			 -EINVAL);
	assert_eaten(&eater, "");
	assert_dirty(s.client, s.ram, "0-199 ");
	clear_scene(&s);
}

/* Pages that could not be armed are not handed over; those before are taken. */
static void arming_that_fails_half_way_leaves_the_rest_as_it_is(void **state)
{
	struct fixture *f = *state;
	struct stubborn stubborn = {
		.source = {.first = 35000, .npages = 10, .clear = stubborn_clear},
		.result = -EFAULT};
	struct kvmas_region *big = make_ram(f, "big", pages(BIG));
	struct kvmas_ram *ram = block_of(big);
	struct eater eater = {0};
	struct scene s;

	set_scene(f, &s);
	must(kas_source_add(&ram->sources, &stubborn.source));
	kas_source_attach(&ram->sources, &stubborn.source);
	mark(ram, 7, 1);
	mark(ram, 35001, 2);
	assert_int_equal(kvmas_client_take_region(s.client, big, 0, KVMAS_SIZE_MAX, eat, &eater),
			 -EFAULT);
	assert_eaten(&eater, "7+1@7 ");
	stubborn.result = 0;
	assert_dirty(s.client, ram, "35001-35002 ");
	kas_source_del(&ram->sources, &stubborn.source);
	clear_scene(&s);
}

/* ---- by address ---- */

static void addresses_give_what_the_space_shows_there(void **state)
{
	static const struct {
		uint64_t gpa, size;
		const char *eaten, *left;
	} cases[] = {
		{0, KVMAS_SIZE_MAX, "10+200@0 ", ""},
		{0, 10 * 4096, "", "0-199 "},
		{0, 10 * 4096 + 1, "10+1@0 ", "1-199 "},
		{209 * 4096, UINT64_C(1) << 40, "209+1@199 400+50@100 499'+3@3 ",
		 "0-2 6-99 150-198 "},
		{410 * 4096 + 1, 4096, "410+2@110 ", "0-109 112-199 "},
		{300 * 4096, 4096, "", "0-199 "},
		{500 * 4096 + 0x800, 1, "500'+1@4 ", "0-3 5-199 "},
		{500 * 4096, 0, "", "0-199 "},
		{(UINT64_MAX >> 12) - 4095, 4096, "", "0-199 "},
	};
	struct fixture *f = *state;
	struct eater eater = {0};
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		mark(s.ram, 0, NPAGES);
		assert_true(kvmas_client_take_gpa(s.client, s.space, scaled(cases[i].gpa),
						  scaled(cases[i].size), eat, &eater) >= 0);
		assert_eaten(&eater, cases[i].eaten);
		assert_dirty(s.client, s.ram, cases[i].left);
	}
	clear_scene(&s);
}

/* The page's first byte would be at an address below 0. */
static void page_cut_at_address_0_begins_before_it(void **state)
{
	struct fixture *f = *state;
	struct eater eater = {0};
	struct kvmas_space *space;
	struct scene s;

	set_scene(f, &s);
	space = make_space(f, "u", make_alias(f, "cut", s.a, pages(1), pages(1)));
	mark(s.ram, 1, 1);
	assert_int_equal(kvmas_client_take_gpa(s.client, space, 5, 1, eat, &eater), 1);
	assert_eaten(&eater, "0+1@1 ");
	space = make_space(f, "v", make_alias(f, "cut", s.a, pages(1) + scaled(0x800), 1));
	mark(s.ram, 1, 1);
	assert_int_equal(kvmas_client_take_gpa(s.client, space, 0, 1, eat, &eater), 1);
	assert_eaten(&eater, "0'+1@1 ");
	clear_scene(&s);
}

static void addresses_that_are_none_or_of_another_kvmas_are_refused(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_region *theirs = make_ram(other, "theirs", 1);
	struct eater eater = {0};
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(kvmas_client_take_gpa(s.client, s.space, 1, UINT64_MAX, eat, &eater),
			 -EINVAL);
	assert_int_equal(kvmas_client_take_gpa(s.client, s.space, 3, UINT64_MAX - 1, eat, &eater),
			 -EINVAL);
	assert_int_equal(
		kvmas_client_take_gpa(s.client, make_space(other, "x", theirs), 0, 1, eat, &eater),
		-EXDEV);
	assert_int_equal(kvmas_client_take_region(s.client, theirs, 0, 1, eat, &eater), -ENOENT);
	assert_eaten(&eater, "");
	clear_scene(&s);
	fixture_free(other);
}

static int hide_and_eat(void *data, const struct kvmas_dirty_run *run)
{
	struct scene *s = data;

	(void)run;
	must(kvmas_region_set_enabled(s->a, false));
	must(kvmas_region_set_enabled(s->window, false));
	return 0;
}

static void view_is_that_of_the_call_whatever_happens_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	mark(s.ram, 0, 1);
	mark(s.ram, 70, 1);
	assert_int_equal(
		kvmas_client_take_gpa(s.client, s.space, 0, KVMAS_SIZE_MAX, hide_and_eat, &s), 2);
	must(kvmas_region_set_enabled(s.a, true));
	clear_scene(&s);
}

static int close_and_eat(void *data, const struct kvmas_dirty_run *run)
{
	struct fixture *f = data;
	struct scene *s = f->with;

	(void)run;
	drop_space(f, s->space);
	close_kvmas(f);
	return 0;
}

static void last_handle_may_go_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct kvmas *kvmas = f->kvmas;
	struct scene s;

	set_scene(f, &s);
	mark(s.ram, 0, 1);
	assert_int_equal(
		kvmas_client_take_gpa(s.client, s.space, 0, KVMAS_SIZE_MAX, close_and_eat, f), 1);
	assert_null(atomic_load(&kvmas->dead)); /* nobody else would end the view */
	clear_scene(&s);
}

static void taking_allocates_nothing(void **state)
{
	struct fixture *f = *state;
	struct eater eater = {0};
	struct armed x;
	struct scene s;
	unsigned long calls;

	set_scene(f, &s);
	add_armed(&x, f, s.space, "x", 0);
	mark(s.ram, 3, 4);
	calls = f->heap.calls;
	assert_int_equal(kvmas_client_take_gpa(s.client, s.space, 0, KVMAS_SIZE_MAX, eat, &eater),
			 4);
	assert_int_equal(kvmas_client_take_region(s.second, s.a, 0, KVMAS_SIZE_MAX, eat, &eater),
			 4);
	assert_int_equal(f->heap.calls, calls);
	assert_eaten(&eater, "13+4@3 3+4@3 ");
	del_judge(&x.judge);
	clear_scene(&s);
}

/* ---- blocks that change ---- */

static void block_resized_or_discarded_while_logged_is_taken_up_to_its_maximal_size(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_ram_new(f->kvmas,
			   KVMAS_CONFIG(ram, .name = "r", .size = pages(4), .max_size = pages(70)),
			   &ram));
	make_region(f,
		    (struct kvmas_region_config){
			    .kind = KVMAS_REGION_RAM, .name = "low", .size = pages(1), .ram = ram});
	must(kvmas_client_log_start(s.client, NULL, NULL));
	must(kvmas_ram_resize(ram, pages(66)));
	assert_dirty(s.client, ram, "4-65 ");
	must(kvmas_ram_discard(ram, pages(63), pages(2)));
	must(kvmas_ram_resize(ram, pages(2)));
	assert_int_equal(kvmas_client_take(s.client, ram, 0, 71, words), -EINVAL);
	assert_int_equal(kvmas_client_put(s.client, ram, 64, 7, words), -EINVAL);
	assert_dirty(s.client, ram, "63-64 ");
	assert_dirty(s.second, ram, "4-65 ");
	kvmas_ram_unref(ram);
	clear_scene(&s);
}

static void clients_of_both_kvmas_that_share_a_block_take_it_by_region(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_client *theirs;
	struct kvmas_region *region;
	struct eater eater = {0};
	struct scene s;

	set_scene(f, &s);
	region = make_region(other, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
								 .name = "r",
								 .size = pages(64),
								 .ram = s.ram,
								 .ram_offset = pages(64)});
	must(kvmas_client_new(other->kvmas, "theirs", &theirs));
	mark(s.ram, 63, 3);
	assert_int_equal(kvmas_client_take_region(theirs, region, 0, KVMAS_SIZE_MAX, eat, &eater),
			 2);
	assert_eaten(&eater, "0+2@64 ");
	assert_dirty(s.client, s.ram, "63-65 ");
	assert_dirty(theirs, s.ram, "63 ");
	kvmas_client_unref(theirs);
	fixture_free(other);
	clear_scene(&s);
}

/* ---- who waits for whom ---- */

struct holder {
	struct fixture *f;
	pthread_barrier_t barrier;
};

/* Has a transaction open until the other thread has taken what there is. */
static void *hold_transaction(void *data)
{
	struct holder *holder = data;

	must(kvmas_begin(holder->f->kvmas));
	pthread_barrier_wait(&holder->barrier);
	pthread_barrier_wait(&holder->barrier);
	must(kvmas_abort(holder->f->kvmas));
	return NULL;
}

static void take_with_nobody_to_arm_waits_for_no_transaction(void **state)
{
	struct fixture *f = *state;
	struct holder holder = {.f = f};
	struct eater eater = {0};
	pthread_t thread;
	struct scene s;

	set_scene(f, &s);
	mark(s.ram, 3, 1);
	must(pthread_barrier_init(&holder.barrier, NULL, 2));
	must(pthread_create(&thread, NULL, hold_transaction, &holder));
	pthread_barrier_wait(&holder.barrier);
	assert_int_equal(kvmas_client_take(s.client, s.ram, 0, NPAGES, words), 1);
	must(kvmas_client_put(s.client, s.ram, 0, NPAGES, words));
	assert_int_equal(kvmas_client_take_region(s.client, s.a, 0, KVMAS_SIZE_MAX, eat, &eater),
			 1);
	assert_int_equal(kvmas_client_take_gpa(s.second, s.space, 0, KVMAS_SIZE_MAX, eat, &eater),
			 1);
	pthread_barrier_wait(&holder.barrier);
	must(pthread_join(thread, NULL));
	must(pthread_barrier_destroy(&holder.barrier));
	assert_eaten(&eater, "3+1@3 13+1@3 ");
	clear_scene(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(listeners_hear_what_was_taken_wherever_it_is_shown),
		TEST(nobody_hears_of_a_take_that_took_nothing),
		TEST(pages_that_cannot_be_armed_are_not_taken),
		TEST(take_in_a_callback_is_refused_if_there_is_something_to_arm),
		TEST(deleted_inside_a_take_a_listener_hears_the_round_out),
		TEST(a_new_client_has_all_that_is_logged_armed),
		TEST(every_allocation_of_a_client_fails_cleanly_beside_one_to_arm),
		TEST(pages_whose_source_cannot_be_armed_are_not_taken),
		TEST(region_gives_its_runs),
		TEST(part_of_a_region_gives_every_page_that_it_touches),
		TEST(region_that_begins_inside_its_block_counts_from_its_own_start),
		TEST(large_region_is_taken_by_stretches_and_loses_nothing),
		TEST(what_is_refused_and_all_behind_is_put_back),
		TEST(take_of_what_is_no_part_of_a_region_with_memory_returns_einval),
		TEST(arming_that_fails_half_way_leaves_the_rest_as_it_is),
		TEST(addresses_give_what_the_space_shows_there),
		TEST(page_cut_at_address_0_begins_before_it),
		TEST(addresses_that_are_none_or_of_another_kvmas_are_refused),
		TEST(view_is_that_of_the_call_whatever_happens_meanwhile),
		TEST(last_handle_may_go_meanwhile),
		TEST(taking_allocates_nothing),
		TEST(block_resized_or_discarded_while_logged_is_taken_up_to_its_maximal_size),
		TEST(clients_of_both_kvmas_that_share_a_block_take_it_by_region),
		TEST(take_with_nobody_to_arm_waits_for_no_transaction),
	};

	return cmocka_run_group_tests_name("taking", tests, NULL, NULL);
}

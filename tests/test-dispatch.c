/* SPDX-License-Identifier: MIT */
/* Accesses by address: memory, devices, nothing, and the borders between them. */
#include "fixture.h"

#include "dispatch.h"

#define TOP UINT64_MAX

/* 0000 ram; 1000 rom; 2000 device of 0x10; 2010 another; 3000 ram, readonly; 4000 device, readonly;
 * nothing above. */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *ram;
	struct kvmas_region *rom;
	struct kvmas_region *dev;
	struct kvmas_region *next;
	struct kvmas_region *fixed;
	struct kvmas_space *space;
	struct kvmas_client *client;
};

static void set_scene(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", KVMAS_SIZE_MAX);
	s->ram = make_ram(f, "ram", 0x1000);
	s->rom = make_rom(f, "rom", 0x1000);
	s->dev = make_mmio(f, "dev", 0x10);
	s->next = make_mmio(f, "next", 0x10);
	s->fixed = make_mmio(f, "fixed", 0x10);
	add(s->root, s->ram, 0, 0);
	add(s->root, s->rom, 0x1000, 0);
	add(s->root, s->dev, 0x2000, 0);
	add(s->root, s->next, 0x2010, 0);
	add(s->root, make_alias(f, "alias", s->ram, 0, 0x1000), 0x3000, 0);
	add(s->root, s->fixed, 0x4000, 0);
	must(kvmas_region_set_readonly(s->fixed, true));
	s->space = make_space(f, "s", s->root);
	must(kvmas_client_new(f->kvmas, "client", &s->client));
	thing_of(s->next)->value = UINT64_C(0xa8a7a6a5a4a3a2a1);
	for (unsigned i = 0; i < 0x1000; i++) {
		((unsigned char *)kvmas_ram_get_hva(block_of(s->ram)))[i] = (unsigned char)i;
		((unsigned char *)kvmas_ram_get_hva(block_of(s->rom)))[i] = (unsigned char)~i;
	}
	f->with = s;
}

static void end_scene(struct scene *s)
{
	kvmas_client_unref(s->client);
}

static unsigned access_space(struct kvmas_space *space, bool write, uint64_t gpa, void *bytes,
			     unsigned size)
{
	struct dispatch dispatch = {.space = space, .write = write, .whole = true};

	must(kvmas_reader_add(space->object.kvmas, &dispatch.reader));
	kas_dispatch(&dispatch, gpa, bytes, size, NULL);
	kvmas_reader_del(dispatch.reader);
	return dispatch.unassigned;
}

static void assert_reads(struct scene *s, uint64_t gpa, const char *expected, unsigned size)
{
	unsigned char bytes[64];

	memset(bytes, 0x5a, sizeof(bytes));
	access_space(s->space, false, gpa, bytes, size);
	assert_memory_equal(bytes, expected, size);
	assert_int_equal(bytes[size], 0x5a);
}

/* A write leaves the caller's bytes alone. */
static unsigned write_bytes(struct scene *s, uint64_t gpa, const char *bytes, unsigned size)
{
	char copy[64];
	unsigned unanswered;

	memcpy(copy, bytes, size);
	unanswered = access_space(s->space, true, gpa, copy, size);
	assert_memory_equal(copy, bytes, size);
	return unanswered;
}

static void assert_dirty(struct scene *s, struct kvmas_region *region, uint64_t expected)
{
	uint64_t npages = kvmas_ram_get_size(block_of(region)) / page_size();
	uint64_t word = 0;

	assert_true(kvmas_client_take(s->client, block_of(region), 0, npages, &word) >= 0);
	assert_int_equal(word, expected);
}

static char *host(struct kvmas_region *region, uint64_t offset)
{
	return (char *)kvmas_ram_get_hva(block_of(region)) + offset;
}

/* ---- memory ---- */

static void ram_is_read(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	assert_reads(&s, 0x10, "\x10\x11\x12\x13\x14\x15\x16\x17", 8);
	assert_reads(&s, 0x21, "\x21\x22\x23", 3);
	assert_dirty(&s, s.ram, 0);
	end_scene(&s);
}

static void written_ram_is_dirty(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	assert_int_equal(write_bytes(&s, 0x123, "hello", 5), 0);
	assert_memory_equal(host(s.ram, 0x122), "\x22hello\x28", 7);
	assert_dirty(&s, s.ram, 1);
	end_scene(&s);
}

static void write_across_pages_dirties_both(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *big;
	struct scene s;

	set_scene(f, &s);
	big = make_ram(f, "big", 4 * page_size());
	add(s.root, big, 0x100000, 0);
	write_bytes(&s, 0x100000 + 2 * page_size() - 1, "xy", 2);
	assert_memory_equal(host(big, 2 * page_size() - 1), "xy", 2);
	assert_dirty(&s, big, 0x6);
	end_scene(&s);
}

static void write_through_a_window_dirties_the_page_of_the_block(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *block = make_block(f, "block", 8);
	struct kvmas_region *part;
	struct scene s;

	set_scene(f, &s);
	part = make_region(f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							   .name = "part",
							   .size = 4 * page_size(),
							   .ram = block,
							   .ram_offset = 3 * page_size()});
	add(s.root, make_alias(f, "window", part, page_size(), page_size()), 0x100000, 0);
	write_bytes(&s, 0x100000, "x", 1);
	assert_int_equal(*host(part, 4 * page_size()), 'x');
	assert_dirty(&s, part, 0x10);
	kvmas_ram_unref(block);
	end_scene(&s);
}

static void write_to_rom_is_dropped(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	assert_int_equal(write_bytes(&s, 0x1000, "xxxx", 4), 0);
	assert_reads(&s, 0x1000, "\xff\xfe\xfd\xfc", 4);
	assert_dirty(&s, s.rom, 0);
	end_scene(&s);
}

static void write_through_a_readonly_alias_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *fixed;
	struct scene s;

	set_scene(f, &s);
	fixed = make_alias(f, "fixed", s.ram, 0, 0x1000);
	must(kvmas_region_set_readonly(fixed, true));
	add(s.root, fixed, 0x5000, 0);
	assert_int_equal(write_bytes(&s, 0x5000, "xxxx", 4), 0);
	assert_reads(&s, 0x5000, "\x00\x01\x02\x03", 4);
	assert_dirty(&s, s.ram, 0);
	end_scene(&s);
}

/* ---- nothing there ---- */

static void read_of_nothing_gives_ones(void **state)
{
	struct fixture *f = *state;
	unsigned char bytes[8] = {0};
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(access_space(s.space, false, 0x9000, bytes, 8), 1);
	assert_memory_equal(bytes, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
	end_scene(&s);
}

static void write_to_nothing_is_dropped(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	assert_int_equal(write_bytes(&s, 0x9000, "xxxx", 4), 1);
	end_scene(&s);
}

static void hole_before_a_section_ends_where_it_begins(void **state)
{
	struct fixture *f = *state;
	unsigned char bytes[8] = {0};
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_del(s.rom));
	must(kvmas_region_set_offset(s.dev, 0x1008));
	assert_int_equal(access_space(s.space, false, 0x1004, bytes, 8), 1);
	assert_memory_equal(bytes, "\xff\xff\xff\xff\x11\x22\x33\x44", 8);
	assert_notes(f, "read dev+0x0 4\n");
	end_scene(&s);
}

/* ---- devices ---- */

static void device_is_called_in_pieces_of_powers_of_two(void **state)
{
	static const struct {
		unsigned size;
		const char *lines;
	} cases[] = {
		{1, "read dev+0x0 1\n"},
		{2, "read dev+0x0 2\n"},
		{3, "read dev+0x0 2\nread dev+0x2 1\n"},
		{4, "read dev+0x0 4\n"},
		{5, "read dev+0x0 4\nread dev+0x4 1\n"},
		{6, "read dev+0x0 4\nread dev+0x4 2\n"},
		{7, "read dev+0x0 4\nread dev+0x4 2\nread dev+0x6 1\n"},
		{8, "read dev+0x0 8\n"},
	};
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		unsigned char bytes[8];

		assert_int_equal(access_space(s.space, false, 0x2000, bytes, cases[i].size), 0);
		assert_notes(f, cases[i].lines);
	}
	end_scene(&s);
}

static void value_of_a_device_is_little_endian(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_reads(&s, 0x2000, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	assert_reads(&s, 0x2004, "\x11\x22", 2);
	forget_notes(f);
	write_bytes(&s, 0x2008, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
	write_bytes(&s, 0x2003, "\x01\x02", 2);
	write_bytes(&s, 0x200f, "\xfe", 1);
	assert_notes(f, "write dev+0x8 8 = 0x807060504030201\n"
			"write dev+0x3 1 = 0x1\n"
			"write dev+0x4 1 = 0x2\n"
			"write dev+0xf 1 = 0xfe\n");
	end_scene(&s);
}

static void access_across_devices_is_cut_at_the_border(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_reads(&s, 0x200d, "\x11\x11\x22\xa1\xa2\xa3\xa4\xa1", 8);
	assert_notes(f, "read dev+0xd 1\nread dev+0xe 2\nread next+0x0 4\nread next+0x4 1\n");
	write_bytes(&s, 0x200e, "\x01\x02\x03\x04", 4);
	assert_notes(f, "write dev+0xe 2 = 0x201\nwrite next+0x0 2 = 0x403\n");
	end_scene(&s);
}

static void access_across_memory_and_device_goes_to_both(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_reads(&s, 0x1ffe, "\x01\x00\x11\x22", 4);
	must(kvmas_region_set_offset(s.dev, 0xffe));
	must(kvmas_region_set_priority(s.dev, 1));
	forget_notes(f);
	write_bytes(&s, 0xffc, "abcd", 4);
	assert_notes(f, "write dev+0x0 2 = 0x6463\n");
	assert_memory_equal(host(s.ram, 0xffc), "ab\xfe\xff", 4);
	end_scene(&s);
}

static void read_of_a_device_that_refuses_gives_ones(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	thing_of(s.dev)->result = -ENODEV;
	assert_reads(&s, 0x2000, "\xff\xff\xff\xff", 4);
	assert_int_equal(write_bytes(&s, 0x2000, "xx", 2), 0);
	end_scene(&s);
}

static void write_to_a_readonly_device_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(write_bytes(&s, 0x4000, "xx", 2), 0);
	assert_notes(f, "");
	assert_reads(&s, 0x4000, "\x11\x22", 2);
	assert_notes(f, "read fixed+0x0 2\n");
	end_scene(&s);
}

static void device_without_callbacks_reads_ones(void **state)
{
	static const struct kvmas_ops no_callbacks = {.struct_size = sizeof(no_callbacks)};
	static const struct kvmas_ops *const all[] = {NULL, &no_callbacks};
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < LENGTH(all); i++) {
		struct kvmas_region *mute;

		must(kvmas_region_new(f->kvmas,
				      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO,
						   .name = "mute", .size = 8, .ops = all[i]),
				      &mute));
		add(s.root, mute, 0x6000, 0);
		assert_reads(&s, 0x6000, "\xff\xff\xff\xff", 4);
		write_bytes(&s, 0x6000, "xx", 2);
		must(kvmas_region_del(mute));
		kvmas_region_unref(mute);
	}
	end_scene(&s);
}

static int read_seven(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	(void)opaque;
	(void)access;
	*value = 7;
	return 0;
}

static void callbacks_are_copied(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ops ops = {.struct_size = sizeof(ops), .read = read_seven};
	struct kvmas_region *device;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "seven",
					   .size = 8, .ops = &ops),
			      &device));
	memset(&ops, 0xff, sizeof(ops));
	add(s.root, device, 0x6000, 0);
	kvmas_region_unref(device);
	assert_reads(&s, 0x6000, "\x07\x00", 2);
	write_bytes(&s, 0x6000, "x", 1);
	end_scene(&s);
}

static void callbacks_beyond_struct_size_are_not_called(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ops ops = {.struct_size = offsetof(struct kvmas_ops, write),
				.read = read_seven};
	struct kvmas_region *device;
	struct scene s;

	set_scene(f, &s);
	memset(&ops.write, 0xff, sizeof(ops.write));
	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "seven",
					   .size = 8, .ops = &ops),
			      &device));
	add(s.root, device, 0x6000, 0);
	kvmas_region_unref(device);
	assert_reads(&s, 0x6000, "\x07", 1);
	write_bytes(&s, 0x6000, "x", 1);
	end_scene(&s);
}

static struct kvmas_access seen;

static int see(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	(void)opaque;
	seen = *access;
	*value = 0;
	return 0;
}

static void device_is_told_who_asks_and_where(void **state)
{
	static const struct kvmas_ops ops = {.struct_size = sizeof(ops), .read = see};
	struct fixture *f = *state;
	struct kvmas_region *seer;
	unsigned char bytes[4];
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "seer",
					   .size = 0x10, .ops = &ops),
			      &seer));
	add(s.root, make_alias(f, "window", seer, 8, 8), 0x7000, 0);
	kvmas_region_unref(seer);
	struct dispatch dispatch = {
		.reader = f->reader, .space = s.space, .requester = f, .smm = true};
	must(kas_dispatch(&dispatch, 0x7004, bytes, 4, NULL));
	assert_int_equal(seen.offset, 0xc);
	assert_int_equal(seen.size, 4);
	assert_true(seen.smm);
	assert_ptr_equal(seen.space, s.space);
	assert_ptr_equal(seen.requester, f);
	end_scene(&s);
}

/* ---- callbacks that change the map ---- */

static void remove_oneself(struct thing *thing)
{
	struct fixture *f = thing->fixture;
	struct kvmas_region *region = thing->region;

	must(kvmas_begin(f->kvmas));
	must(kvmas_region_del(region));
	drop_region(f, region);
	must(kvmas_commit(f->kvmas));
	assert_int_equal(thing->destroyed, 0);
	note(f, "still here: %s", kvmas_region_get_name(region));
}

static void device_that_removes_itself_is_valid_until_it_returns(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	thing_of(s.dev)->on_access = remove_oneself;
	write_bytes(&s, 0x2000, "\x01", 1);
	assert_notes(f, "write dev+0x0 1 = 0x1\nstill here: dev\n");
	assert_reads(&s, 0x2000, "\xff", 1);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy dev\n");
	end_scene(&s);
}

/* The rest of an access that was under way goes where it would have gone. */
static void access_goes_on_in_the_view_it_began_in(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	thing_of(s.dev)->on_access = remove_oneself;
	write_bytes(&s, 0x200f, "\x01\x02", 2);
	assert_notes(f, "write dev+0xf 1 = 0x1\nstill here: dev\nwrite next+0x0 1 = 0x2\n");
	end_scene(&s);
}

static void disable_the_ram(struct thing *thing)
{
	struct scene *s = thing->fixture->with;

	must(kvmas_region_set_enabled(s->ram, false));
}

static void device_may_change_the_map_inside_its_callback(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	thing_of(s.dev)->on_access = disable_the_ram;
	assert_reads(&s, 0x2000, "\x11", 1);
	assert_reads(&s, 0x0000, "\xff", 1);
	end_scene(&s);
}

static void access_of_a_device_inside_a_transaction_nests(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	thing_of(s.dev)->on_access = disable_the_ram;
	must(kvmas_begin(f->kvmas));
	assert_reads(&s, 0x2000, "\x11", 1);
	assert_reads(&s, 0x0001, "\x01", 1);
	must(kvmas_commit(f->kvmas));
	assert_reads(&s, 0x0001, "\xff", 1);
	end_scene(&s);
}

/* ---- the top ---- */

static void device_at_the_top_of_the_address_space_answers(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_offset(s.dev, TOP - 0xf));
	assert_reads(&s, TOP, "\x11", 1);
	assert_reads(&s, TOP - 7, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	assert_reads(&s, TOP - 0x11, "\xff\xff\x11\x22", 4);
	assert_notes(f, "read dev+0xf 1\nread dev+0x8 8\nread dev+0x0 2\n");
	write_bytes(&s, TOP - 3, "\x01\x02\x03\x04", 4);
	assert_notes(f, "write dev+0xc 4 = 0x4030201\n");
	end_scene(&s);
}

static void device_of_2_to_the_64_bytes_answers_everywhere(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *all = make_mmio(f, "all", KVMAS_SIZE_MAX);
	struct scene s = {.space = make_space(f, "s", all)};

	assert_reads(&s, 0, "\x11\x22", 2);
	assert_reads(&s, TOP - 1, "\x11\x22", 2);
	assert_notes(f, "read all+0x0 2\nread all+0xfffffffffffffffe 2\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ram_is_read),
		TEST(written_ram_is_dirty),
		TEST(write_across_pages_dirties_both),
		TEST(write_through_a_window_dirties_the_page_of_the_block),
		TEST(write_to_rom_is_dropped),
		TEST(write_through_a_readonly_alias_is_dropped),
		TEST(read_of_nothing_gives_ones),
		TEST(write_to_nothing_is_dropped),
		TEST(hole_before_a_section_ends_where_it_begins),
		TEST(device_is_called_in_pieces_of_powers_of_two),
		TEST(value_of_a_device_is_little_endian),
		TEST(access_across_devices_is_cut_at_the_border),
		TEST(access_across_memory_and_device_goes_to_both),
		TEST(read_of_a_device_that_refuses_gives_ones),
		TEST(write_to_a_readonly_device_is_dropped),
		TEST(device_without_callbacks_reads_ones),
		TEST(callbacks_are_copied),
		TEST(callbacks_beyond_struct_size_are_not_called),
		TEST(device_is_told_who_asks_and_where),
		TEST(device_that_removes_itself_is_valid_until_it_returns),
		TEST(access_goes_on_in_the_view_it_began_in),
		TEST(device_may_change_the_map_inside_its_callback),
		TEST(access_of_a_device_inside_a_transaction_nests),
		TEST(device_at_the_top_of_the_address_space_answers),
		TEST(device_of_2_to_the_64_bytes_answers_everywhere),
	};

	return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}

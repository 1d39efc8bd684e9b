/* SPDX-License-Identifier: MIT */
/*
 * Event channels of a region: which edits are refused, and which writes signal what. Whether KVM
 * sees to a channel or dispatch does, what a guest's store leads to is the same.
 */
#include "channel-fixture.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

#define GPA pages(4)

/* ---- what is refused ---- */

static void ioeventfd_that_makes_no_sense_returns_its_errno(void **state)
{
	struct rig *r = *state;
	const int fd = r->events[0];
	const struct {
		struct kvmas_ioeventfd_config config;
		int err;
	} cases[] = {
		{{.offset = 0, .size = 3, .fd = fd}, -EINVAL},
		{{.offset = 0, .size = 5, .fd = fd}, -EINVAL},
		{{.offset = 0, .size = 16, .fd = fd}, -EINVAL},
		{{.offset = 0x100, .size = 1, .fd = fd}, -EINVAL},
		{{.offset = 0xfd, .size = 4, .fd = fd}, -EINVAL},
		{{.offset = 0x100, .size = 0, .fd = fd}, -EINVAL},
		{{.offset = UINT64_MAX, .size = 1, .fd = fd}, -EINVAL},
		{{.offset = UINT64_MAX, .size = 8, .fd = fd}, -EINVAL},
		{{.offset = 0, .size = 4, .flags = 4, .fd = fd}, -EINVAL},
		{{.offset = 0, .size = 0, .flags = KVMAS_CHANNEL_DATAMATCH, .fd = fd}, -EINVAL},
		{{.offset = 0,
		  .size = 1,
		  .flags = KVMAS_CHANNEL_DATAMATCH,
		  .datamatch = 256,
		  .fd = fd},
		 -EINVAL},
		{{.offset = 0,
		  .size = 4,
		  .flags = KVMAS_CHANNEL_DATAMATCH,
		  .datamatch = UINT64_C(1) << 32,
		  .fd = fd},
		 -EINVAL},
		{{.offset = 0, .size = 4, .fd = -1}, -EBADF},
		{{.offset = 0, .size = 4, .fd = INT_MIN}, -EBADF},
		{{.offset = 0, .size = 4, .fd = 987654}, -EBADF},
		{{.offset = 0xfc, .size = 4, .fd = fd}, 0},
		{{.offset = 0xff, .size = 0, .fd = fd}, 0},
		{{.offset = 0,
		  .size = 8,
		  .flags = KVMAS_CHANNEL_DATAMATCH,
		  .datamatch = UINT64_MAX,
		  .fd = fd},
		 0},
	};
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);
	char *before = state_text(r->m->f);

	for (size_t i = 0; i < LENGTH(cases) && cases[i].err; i++) {
		struct kvmas_ioeventfd_config config = cases[i].config;
		char *after;

		config.struct_size = sizeof(config);
		assert_int_equal(kvmas_region_add_ioeventfd(a, &config), cases[i].err);
		assert_int_equal(kvmas_region_del_ioeventfd(a, &config), -ENOENT);
		after = state_text(r->m->f);
		assert_string_equal(after, before);
		free(after);
	}
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct kvmas_ioeventfd_config config = cases[i].config;

		config.struct_size = sizeof(config);
		if (!cases[i].err)
			must(kvmas_region_add_ioeventfd(a, &config));
	}
	assert_int_equal(kvmas_region_add_ioeventfd(a, NULL), -EINVAL);
	assert_int_equal(kvmas_region_del_ioeventfd(a, NULL), -EINVAL);
	free(before);
}

static void zone_that_makes_no_sense_returns_einval(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t size;
		unsigned flags;
	} cases[] = {
		{0, 0, 0},
		{0, 0x1001, 0},
		{0x1000, 1, 0},
		{0xfff, 2, 0},
		{0, 1, KVMAS_CHANNEL_DATAMATCH},
		{0, 1, 8},
		{UINT64_MAX, 1, 0},
		{UINT64_MAX, 2, 0},
		{1, UINT64_MAX, 0},
		{0, KVMAS_SIZE_MAX, 0},
		{0, UINT64_C(1) << 31, 0},
	};
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, 0x1000);

	for (size_t i = 0; i < LENGTH(cases); i++) {
		assert_int_equal(kvmas_region_add_coalesced(a, cases[i].offset, cases[i].size,
							    cases[i].flags),
				 -EINVAL);
		assert_int_equal(kvmas_region_del_coalesced(a, cases[i].offset, cases[i].size),
				 -ENOENT);
	}
	must(kvmas_region_add_coalesced(a, 0xfff, 1, 0));
}

static void channel_of_what_is_no_device_returns_einval(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *regions[] = {
		make_container(r->m->f, "container", pages(1)),
		make_ram(r->m->f, "ram", pages(1)),
		make_rom(r->m->f, "rom", pages(1)),
		make_alias(r->m->f, "alias", r->m->root[NORMAL], 0, pages(1)),
		make_region(r->m->f, (struct kvmas_region_config){.kind = KVMAS_REGION_RESERVED,
								  .name = "reserved",
								  .size = pages(1)}),
	};

	for (size_t i = 0; i < LENGTH(regions); i++) {
		assert_int_equal(add_event(r, regions[i], 0, 4, 0), -EINVAL);
		assert_int_equal(del_event(regions[i], 0, 4), -ENOENT);
		assert_int_equal(kvmas_region_add_coalesced(regions[i], 0, 4, 0), -EINVAL);
		assert_int_equal(kvmas_region_del_coalesced(regions[i], 0, 4), -ENOENT);
	}
}

static void ioeventfds_that_take_the_same_write_return_eexist(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_match(r, a, 8, 4, 1, 0));
	must(add_match(r, a, 8, 4, 2, 0));
	assert_int_equal(add_match(r, a, 8, 4, 1, 1), -EEXIST);
	assert_int_equal(add_event(r, a, 8, 4, 1), -EEXIST);
	assert_int_equal(add_event(r, a, 8, 0, 1), -EEXIST);
	must(add_match(r, a, 8, 8, 1, 2));
	must(add_event(r, a, 8, 2, 1));
	must(add_event(r, a, 9, 0, 3));
	assert_int_equal(add_event(r, a, 9, 1, 3), -EEXIST);
	assert_int_equal(add_match(r, a, 9, 8, 1, 3), -EEXIST);
	must(del_match(a, 8, 4, 2));
	assert_int_equal(del_match(a, 8, 4, 2), -ENOENT);
	must(add_match(r, a, 0x20, 4, 0, 0));
	assert_int_equal(del_event(a, 0x20, 4), -ENOENT);
	must(del_match(a, 0x20, 4, 0));
	assert_int_equal(del_event(a, 8, 4), -ENOENT);
	assert_int_equal(del_event(a, 8, 8), -ENOENT);
	assert_int_equal(del_event(a, 9, 1), -ENOENT);
	must(del_event(a, 9, 0));
	must(add_event(r, a, 9, 1, 3));
	look(r, "");
}

static void zones_that_overlap_return_eexist(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(kvmas_region_add_coalesced(a, 0x10, 0x10, 0));
	assert_int_equal(kvmas_region_add_coalesced(a, 0x10, 0x10, 0), -EEXIST);
	assert_int_equal(kvmas_region_add_coalesced(a, 0x1f, 1, 0), -EEXIST);
	assert_int_equal(kvmas_region_add_coalesced(a, 0, 0x11, 0), -EEXIST);
	assert_int_equal(kvmas_region_add_coalesced(a, 0, 0x100, 0), -EEXIST);
	must(kvmas_region_add_coalesced(a, 0x20, 8, 0));
	must(kvmas_region_add_coalesced(a, 0, 0x10, 0));
	assert_int_equal(kvmas_region_del_coalesced(a, 0x10, 8), -ENOENT);
	assert_int_equal(kvmas_region_del_coalesced(a, 0x18, 8), -ENOENT);
	assert_int_equal(kvmas_region_del_coalesced(a, 0, 0x20), -ENOENT);
	must(kvmas_region_del_coalesced(a, 0x10, 0x10));
	must(kvmas_region_add_coalesced(a, 0x17, 1, 0));
	look(r, "");
}

static void descriptors_that_are_used_up_return_emfile(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);
	struct rlimit limit, none;
	char *before = state_text(r->m->f), *after;
	int err;

	must(getrlimit(RLIMIT_NOFILE, &limit));
	none = (struct rlimit){4, limit.rlim_max}; /* 3 is in use */
	must(setrlimit(RLIMIT_NOFILE, &none));
	err = add_event(r, a, 0, 4, 0);
	must(setrlimit(RLIMIT_NOFILE, &limit));
	assert_int_equal(err, -EMFILE);
	after = state_text(r->m->f);
	assert_string_equal(after, before);
	free(after);
	free(before);
	must(add_event(r, a, 0, 4, 0));
}

static void callers_eventfd_may_be_closed_at_once(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);
	int copy = dup(r->events[0]);

	must(kvmas_region_add_ioeventfd(a, KVMAS_CONFIG(ioeventfd, .size = 4, .fd = copy)));
	must(close(copy));
	store(r, 0, NORMAL, GPA, 1, 4);
	look(r, "#0x1 ");
	must(kvmas_region_set_offset(a, pages(8)));
	store(r, 0, NORMAL, pages(8), 1, 4);
	look(r, "#0x1 ");
}

/* ---- which writes ---- */

static void play_sizes(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	for (unsigned i = 0; i < 4; i++)
		must(add_event(r, a, 0x10, 1u << i, i));
	assert_placed(r, 4, 0);
	for (unsigned i = 0; i < 4; i++)
		store(r, 0, NORMAL, GPA + 0x10, i, 1u << i);
	assert_exits(r, 0);
	look(r, "#0x1 #1x1 #2x1 #3x1 ");
	store(r, 0, NORMAL, GPA + 0x11, 7, 1);
	store(r, 0, NORMAL, GPA + 0x0f, 8, 1);
	store(r, 0, NORMAL, GPA + 0x08, 9, 8);
	look(r, "a+11/1=7 a+f/1=8 a+8/8=9 ");
	must(del_event(a, 0x10, 2));
	store(r, 0, NORMAL, GPA + 0x10, 5, 2);
	store(r, 0, NORMAL, GPA + 0x10, 6, 4);
	look(r, "a+10/2=5 #2x1 ");
}

static void size_of_the_write_chooses_the_eventfd(void **state)
{
	(void)state;
	play(play_sizes);
}

static void play_any_size(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_event(r, a, 0x10, 0, 0));
	for (unsigned i = 0; i < 4; i++)
		store(r, 0, SMM, GPA + 0x10, i, 1u << i);
	assert_exits(r, 0);
	look(r, "#0x4 ");
	store(r, 0, NORMAL, GPA + 0x11, 7, 1);
	store(r, 0, NORMAL, GPA + 0x0c, 8, 4);
	look(r, "a+11/1=7 a+c/4=8 ");
	assert_placed(r, 1, 0);
}

static void any_size_takes_all_writes_at_its_offset(void **state)
{
	(void)state;
	play(play_any_size);
}

static void play_datamatch(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_match(r, a, 0x10, 4, 7, 0));
	must(add_match(r, a, 0x10, 4, 0x80000001, 1));
	must(add_match(r, a, 0x10, 1, 7, 2));
	must(add_match(r, a, 0x10, 8, UINT64_C(0x8000000000000007), 3));
	store(r, 0, NORMAL, GPA + 0x10, 7, 4);
	store(r, 0, NORMAL, GPA + 0x10, 0x80000001, 4);
	store(r, 0, NORMAL, GPA + 0x10, 7, 1);
	store(r, 0, NORMAL, GPA + 0x10, UINT64_C(0x8000000000000007), 8);
	look(r, "#0x1 #1x1 #2x1 #3x1 ");
	store(r, 0, NORMAL, GPA + 0x10, 1, 4);
	store(r, 0, NORMAL, GPA + 0x10, 7, 2);
	store(r, 0, NORMAL, GPA + 0x10, 8, 1);
	store(r, 0, NORMAL, GPA + 0x10, 7, 8);
	look(r, "a+10/4=1 a+10/2=7 a+10/1=8 a+10/8=7 ");
	must(del_match(a, 0x10, 4, 7));
	store(r, 0, NORMAL, GPA + 0x10, 7, 4);
	store(r, 0, NORMAL, GPA + 0x10, 0x80000001, 4);
	look(r, "a+10/4=7 #1x1 ");
	assert_placed(r, 3, 0);
}

static void datamatch_takes_its_value_only(void **state)
{
	(void)state;
	play(play_datamatch);
}

/* What the guest stores is little-endian, like all of the double. */
static void play_big_endian(struct rig *r)
{
	struct kvmas_region *a =
		make_device_with(r, "a", 0x100, (struct kvmas_ops){.endian = KVMAS_BIG_ENDIAN});

	add(r->m->root[NORMAL], a, GPA, 0);
	must(add_match(r, a, 0, 1, 0x12, 0));
	must(add_match(r, a, 0, 2, 0x1234, 1));
	must(add_match(r, a, 0, 4, 0x12345678, 2));
	must(add_match(r, a, 0, 8, UINT64_C(0x123456789abcdef0), 3));
	must(add_event(r, a, 8, 0, 4));
	store(r, 0, NORMAL, GPA, 0x12, 1);
	store(r, 0, NORMAL, GPA, 0x3412, 2);
	store(r, 0, NORMAL, GPA, 0x78563412, 4);
	store(r, 0, NORMAL, GPA, UINT64_C(0xf0debc9a78563412), 8);
	store(r, 0, NORMAL, GPA + 8, 1, 2);
	look(r, "#0x1 #1x1 #2x1 #3x1 #4x1 ");
	store(r, 0, NORMAL, GPA, 0x1234, 2);
	store(r, 0, NORMAL, GPA, 0x12345678, 4);
	look(r, "a+0/2=3412 a+0/4=78563412 ");
}

static void datamatch_is_by_the_devices_byte_order(void **state)
{
	(void)state;
	play(play_big_endian);
}

static void play_reads(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);
	struct kvmas_region *p = put_ports(r, "p", 0x40, 8);

	must(add_event(r, a, 0, 0, 0));
	must(add_event(r, p, 4, 2, 1));
	must(kvmas_region_add_coalesced(a, 8, 8, 0));
	assert_int_equal(load(r, 0, NORMAL, GPA, 4), 0x44332211);
	assert_int_equal(load(r, 0, SMM, GPA + 8, 2), 0x2211);
	assert_int_equal(load(r, 0, PORTS, 0x44, 2), 0x2211);
	look(r, "a?0/4 a?8/2 p?4/2 ");
}

static void reads_reach_the_device(void **state)
{
	(void)state;
	play(play_reads);
}

static void play_ports(struct rig *r)
{
	struct kvmas_region *p = put_ports(r, "p", 0x40, 0x10);
	struct kvmas_region *a = put_device(r, "a", 0, 0x100);

	must(add_event(r, p, 0, 2, 0));
	must(add_match(r, p, 2, 1, 0x80, 1));
	must(kvmas_region_add_coalesced(p, 8, 4, 0));
	assert_placed(r, 3, 0);
	store(r, 0, PORTS, 0x40, 1, 2);
	store(r, 0, PORTS, 0x42, 0x80, 1);
	store(r, 0, PORTS, 0x42, 0x81, 1);
	store(r, 0, PORTS, 0x48, 5, 4);
	store(r, 0, PORTS, 0x4a, 6, 4);
	store(r, 0, NORMAL, 0x40, 1, 2);
	store(r, 0, NORMAL, 0x48, 2, 4);
	look(r, "p+2/1=81 p+8/4=5 p+a/2=6 p+c/2=0 a+40/2=1 a+48/4=2 #0x1 #1x1 ");
	(void)a;
}

static void ports_have_channels_of_their_own(void **state)
{
	(void)state;
	play(play_ports);
}

/* The device takes two bytes at a time; KVM does not know that. */
static void play_rules(struct rig *r)
{
	struct kvmas_region *a = make_device_with(
		r, "a", 0x100, (struct kvmas_ops){.valid = {2, 2}, .impl = {2, 2}});

	add(r->m->root[NORMAL], a, GPA, 0);
	must(add_event(r, a, 0, 4, 0));
	must(add_event(r, a, 0x10, 2, 1));
	must(add_event(r, a, 0x20, 1, 2));
	store(r, 0, NORMAL, GPA, 0x30002, 4);
	store(r, 0, NORMAL, GPA + 0x10, 0x30002, 4);
	store(r, 0, NORMAL, GPA + 0x0e, 0x30002, 4);
	store(r, 0, NORMAL, GPA + 0x20, 1, 1);
	store(r, 0, NORMAL, GPA + 0x21, 1, 1);
	look(r, "a+12/2=3 a+e/2=2 #0x1 #1x2 #2x1 ");
}

static void write_is_asked_about_whole_before_rules_cut_it(void **state)
{
	(void)state;
	play(play_rules);
}

static void play_unaligned(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_event(r, a, 3, 4, 0));
	must(add_event(r, a, 0x19, 0, 1));
	must(add_event(r, a, 0x29, 8, 2));
	store(r, 0, NORMAL, GPA + 3, 1, 4);
	store(r, 0, NORMAL, GPA + 0x19, 1, 8);
	store(r, 0, NORMAL, GPA + 0x29, 1, 8);
	look(r, "#0x1 #1x1 #2x1 ");
}

static void channel_at_an_odd_offset_takes_its_writes(void **state)
{
	(void)state;
	play(play_unaligned);
}

/* ---- writes by others than vCPUs ---- */

static int dma_write(struct rig *r, uint64_t gpa, const void *bytes, size_t size)
{
	const struct kvmas_dma dma = {.reader = r->m->f->reader, .space = r->m->space[NORMAL]};
	size_t done;
	int err = kvmas_dma_write(&dma, gpa, bytes, size, &done);

	assert_true(err || done == size);
	return err;
}

static void play_dma(struct rig *r)
{
	static const unsigned char bytes[16] = {1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0};
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_event(r, a, 0, 4, 0));
	must(add_event(r, a, 0x10, 0, 1));
	must(dma_write(r, GPA, bytes, 4));
	must(dma_write(r, GPA, bytes, 8));
	must(dma_write(r, GPA + 0x10, bytes, 2));
	look(r, "a+0/8=200000001 #0x1 #1x1 ");
}

static void dma_signals_as_a_guest_does(void **state)
{
	(void)state;
	play(play_dma);
}

/* A reader that has pinned all that it can counts what it looks at. */
static void play_many_pins(struct rig *r)
{
	static const unsigned char bytes[4] = {1};
	const struct kvmas_view *views[12];
	struct kvmas_reader *reader = r->m->f->reader;
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_event(r, a, 0, 4, 0));
	for (unsigned i = 0; i < LENGTH(views); i++) {
		views[i] = kvmas_view_acquire(reader, r->m->space[NORMAL]);
		must(dma_write(r, GPA, bytes, 4));
		must(dma_write(r, GPA + 8, bytes, 1));
	}
	must(del_event(a, 0, 4));
	must(dma_write(r, GPA, bytes, 4));
	for (unsigned i = 0; i < LENGTH(views); i++)
		kvmas_view_release(reader, views[i]);
	glance(r, "a+8/1=1 a+8/1=1 a+8/1=1 a+8/1=1 a+8/1=1 a+8/1=1 a+8/1=1 a+8/1=1 a+8/1=1 "
		  "a+8/1=1 a+8/1=1 a+8/1=1 a+0/4=1 #0x12 ");
}

static void reader_with_many_pins_signals_all_the_same(void **state)
{
	(void)state;
	play(play_many_pins);
}

/* The first 8 bytes are one write, as without channels. */
static void play_long_dma(struct rig *r)
{
	static const unsigned char bytes[32] = {[8] = 8, [16] = 16, [24] = 24};
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_event(r, a, 0, 0, 0));
	must(add_event(r, a, 0x10, 8, 1));
	must(dma_write(r, GPA, bytes, sizeof(bytes)));
	look(r, "a+8/8=8 a+18/8=18 #0x1 #1x1 ");
	must(dma_write(r, GPA - 4, bytes, 0));
	look(r, "");
}

static void long_dma_signals_for_the_write_it_would_be(void **state)
{
	(void)state;
	play(play_long_dma);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(ioeventfd_that_makes_no_sense_returns_its_errno),
		RIG_TEST(zone_that_makes_no_sense_returns_einval),
		RIG_TEST(channel_of_what_is_no_device_returns_einval),
		RIG_TEST(ioeventfds_that_take_the_same_write_return_eexist),
		RIG_TEST(zones_that_overlap_return_eexist),
		RIG_TEST(descriptors_that_are_used_up_return_emfile),
		RIG_TEST(callers_eventfd_may_be_closed_at_once),
		cmocka_unit_test(size_of_the_write_chooses_the_eventfd),
		cmocka_unit_test(any_size_takes_all_writes_at_its_offset),
		cmocka_unit_test(datamatch_takes_its_value_only),
		cmocka_unit_test(datamatch_is_by_the_devices_byte_order),
		cmocka_unit_test(reads_reach_the_device),
		cmocka_unit_test(ports_have_channels_of_their_own),
		cmocka_unit_test(write_is_asked_about_whole_before_rules_cut_it),
		cmocka_unit_test(channel_at_an_odd_offset_takes_its_writes),
		cmocka_unit_test(dma_signals_as_a_guest_does),
		cmocka_unit_test(reader_with_many_pins_signals_all_the_same),
		cmocka_unit_test(long_dma_signals_for_the_write_it_would_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

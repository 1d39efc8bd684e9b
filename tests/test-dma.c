/* SPDX-License-Identifier: MIT */
/* DMA: reading, writing and filling a space, and where that ends. */
#include "dma-fixture.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void assert_reads(struct guest *g, uint64_t gpa, size_t size, int result, size_t expected)
{
	unsigned char *bytes = malloc(size + 1);
	size_t done = 77;

	assert_non_null(bytes);
	memset(bytes, 0x5a, size + 1);
	assert_int_equal(kvmas_dma_read(&g->dma, gpa, bytes, size, &done), result);
	assert_int_equal(done, expected);
	assert_int_equal(bytes[size], 0x5a);
	free(bytes);
}

static void assert_writes(struct guest *g, uint64_t gpa, size_t size, int result, size_t expected)
{
	unsigned char *bytes = malloc(size ? size : 1);
	size_t done = 77;

	assert_non_null(bytes);
	memset(bytes, 'w', size);
	assert_int_equal(kvmas_dma_write(&g->dma, gpa, bytes, size, &done), result);
	assert_int_equal(done, expected);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(bytes[i], 'w');
	free(bytes);
}

static void assert_fills(struct guest *g, uint64_t gpa, uint64_t size, int result,
			 uint64_t expected)
{
	uint64_t done = 77;

	assert_int_equal(kvmas_dma_fill(&g->dma, gpa, 'w', size, &done), result);
	assert_int_equal(done, expected);
}

static bool is_all(const unsigned char *bytes, unsigned char byte, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (bytes[i] != byte)
			return false;
	}
	return true;
}

/* ---- what is read and written ---- */

static void read_gives_memory_and_devices_by_address(void **state)
{
	unsigned char bytes[0x1210];
	struct guest g;
	size_t done;

	guest_init(&g, *state);
	must(kvmas_dma_read(&g.dma, 0x1ef0, bytes, sizeof(bytes), &done));
	assert_int_equal(done, sizeof(bytes));
	for (uint64_t i = 0; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], pattern(0x1ef0 + i));
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void write_reaches_memory_and_marks_it_dirty(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_writes(&g, 0xffe, 4, 0, 4);
	assert_int_equal(memory_of(g.a)[0xffd], pattern(0xffd));
	assert_true(is_all(memory_of(g.a) + 0xffe, 'w', 4));
	assert_int_equal(memory_of(g.a)[0x1002], pattern(0x1002));
	assert_int_equal(take_dirty(&g, g.a), 3);
	assert_writes(&g, 0x1fff, 1, 0, 1);
	assert_int_equal(take_dirty(&g, g.a), 2);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void write_reaches_neighbours_and_devices_between(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_writes(&g, 0xaff8, 0x1018, 0, 0x1018);
	assert_true(is_all(memory_of(g.left) + 0xff8, 'w', 8));
	assert_true(is_all(memory_of(g.right), 'w', 0x1000));
	assert_true(is_all(g.strict.bytes, 'w', 0x10));
	assert_int_equal(g.strict.writes, 4);
	assert_int_equal(take_dirty(&g, g.left), 1);
	assert_int_equal(take_dirty(&g, g.right), 1);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void rom_device_is_read_as_memory_and_written_as_device(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_reads(&g, 0x5000, 8, 0, 8);
	assert_int_equal(g.romd.reads, 0);
	assert_writes(&g, 0x5008, 8, 0, 8);
	assert_int_equal(g.romd.writes, 1);
	assert_true(is_all(g.romd.bytes + 8, 'w', 8));
	assert_true(is_all(memory_of(g.romd.region), 'm', 0x1000));
	must(kvmas_region_set_romd(g.romd.region, false));
	assert_reads(&g, 0x5000, 8, 0, 8);
	assert_int_equal(g.romd.reads, 1);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void fill_writes_the_same_byte(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_fills(&g, 0xffe, 4, 0, 4);
	assert_int_equal(memory_of(g.a)[0xffd], pattern(0xffd));
	assert_true(is_all(memory_of(g.a) + 0xffe, 'w', 4));
	assert_int_equal(memory_of(g.a)[0x1002], pattern(0x1002));
	assert_int_equal(take_dirty(&g, g.a), 3);
	assert_fills(&g, 0x8001, 0x3fff, 0, 0x3fff);
	assert_int_equal(memory_of(g.low)[0], 0);
	assert_true(is_all(memory_of(g.low) + 1, 'w', 0x1fff));
	assert_true(is_all(memory_of(g.left), 'w', 0x2000));
	assert_int_equal(take_dirty(&g, g.low), 3);
	assert_int_equal(take_dirty(&g, g.left), 1);
	assert_int_equal(take_dirty(&g, g.right), 1);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

/* ---- where it ends ---- */

static void access_ends_at_a_hole_with_enxio(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_reads(&g, 0x30f3, 0x20, -ENXIO, 0xd);
	assert_writes(&g, 0x30f3, 0x20, -ENXIO, 0xd);
	assert_true(is_all(g.dev.bytes + 0xf3, 'w', 0xd));
	assert_fills(&g, 0x30f1, 0x2000, -ENXIO, 0xf);
	assert_reads(&g, 0x3100, 1, -ENXIO, 0);
	assert_writes(&g, 0x3fff, 2, -ENXIO, 0);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void access_ends_at_what_is_reserved_with_enxio(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_reads(&g, 0x6ffc, 8, -ENXIO, 4);
	assert_reads(&g, 0x7000, 8, -ENXIO, 0);
	assert_writes(&g, 0x7ffc, 8, -ENXIO, 0);
	assert_fills(&g, 0x7ffc, 8, -ENXIO, 0);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void write_ends_at_what_is_readonly_with_erofs(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_writes(&g, 0x1ff0, 0x20, -EROFS, 0x10);
	assert_int_equal(take_dirty(&g, g.a), 2);
	assert_fills(&g, 0x1ff0, 0x2000, -EROFS, 0x10);
	assert_int_equal(take_dirty(&g, g.a), 2);
	assert_writes(&g, 0x2000, 1, -EROFS, 0); /* a ROM */
	assert_writes(&g, 0x6000, 1, -EROFS, 0); /* RAM in a place that is readonly */
	assert_writes(&g, 0xc100, 4, -EROFS, 0); /* a device there */
	assert_int_equal(g.dev.writes, 0);
	assert_int_equal(memory_of(g.a)[0], pattern(0));
	assert_int_equal(memory_of(g.rom)[0], pattern(0x2000));
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void access_ends_where_a_device_refuses_with_its_errno(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	g.dev.bad = 0x10;
	g.dev.refusal = -ENODEV;
	assert_reads(&g, 0x2ff8, 0x20, -ENODEV, 0x18);
	assert_writes(&g, 0x3000, 0x20, -ENODEV, 0x10);
	assert_true(is_all(g.dev.bytes, 'w', 0x10));
	assert_int_equal(g.dev.bytes[0x10], pattern(0x3010));
	assert_fills(&g, 0x3008, 0x20, -ENODEV, 8);
	guest_fini(&g);
}

static void access_ends_where_access_rules_refuse_with_einval(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_reads(&g, 0xc000, 6, -EINVAL, 4);
	assert_writes(&g, 0xc000, 6, -EINVAL, 4);
	assert_fills(&g, 0xc000, 6, -EINVAL, 4);
	assert_reads(&g, 0xc002, 4, -EINVAL, 0);
	assert_int_equal(g.strict.reads, 1);
	assert_int_equal(g.strict.writes, 2);
	guest_fini(&g);
}

static void access_past_the_top_ends_there_with_enxio(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	assert_reads(&g, UINT64_MAX - 0xf, 0x20, -ENXIO, 0x10);
	assert_writes(&g, UINT64_MAX - 0xf, 0x11, -ENXIO, 0x10);
	assert_int_equal(take_dirty(&g, g.top), 1);
	assert_fills(&g, UINT64_MAX, 2, -ENXIO, 1);
	assert_int_equal(take_dirty(&g, g.top), 1);
	assert_fills(&g, UINT64_MAX, UINT64_MAX, -ENXIO, 1);
	assert_writes(&g, UINT64_MAX - 0xf, 0x10, 0, 0x10);
	assert_true(is_all(memory_of(g.top) + 0xff0, 'w', 0x10));
	assert_int_equal(memory_of(g.a)[0], pattern(0));
	assert_int_equal(take_dirty(&g, g.top), 1);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void access_of_no_bytes_does_nothing(void **state)
{
	const uint64_t places[] = {0, 0x2000, 0x3000, 0x3100, 0x7000, 0xc001, UINT64_MAX};
	struct guest g;

	guest_init(&g, *state);
	for (unsigned i = 0; i < LENGTH(places); i++) {
		assert_reads(&g, places[i], 0, 0, 0);
		assert_writes(&g, places[i], 0, 0, 0);
		assert_fills(&g, places[i], 0, 0, 0);
	}
	assert_int_equal(g.dev.reads + g.dev.writes + g.strict.reads + g.strict.writes, 0);
	assert_clean(&g, NULL);
	guest_fini(&g);
}

static void done_may_be_null(void **state)
{
	struct guest g;
	char byte = 1;

	guest_init(&g, *state);
	must(kvmas_dma_read(&g.dma, 0, &byte, 1, NULL));
	must(kvmas_dma_write(&g.dma, 0, &byte, 1, NULL));
	must(kvmas_dma_fill(&g.dma, 0, 1, 1, NULL));
	assert_int_equal(kvmas_dma_read(&g.dma, 0x3100, &byte, 1, NULL), -ENXIO);
	assert_int_equal(kvmas_dma_write(&g.dma, 0x3100, &byte, 1, NULL), -ENXIO);
	assert_int_equal(kvmas_dma_fill(&g.dma, 0x3100, 1, 1, NULL), -ENXIO);
	guest_fini(&g);
}

/* ---- fills that are larger than what is written at a time ---- */

static void fill_large(struct guest *g, struct kvmas_access_rules valid, uint64_t gpa,
		       uint64_t size, unsigned naccesses)
{
	struct kvmas_region_config config = {
		.kind = KVMAS_REGION_MMIO, .name = "large", .size = 0x5000};
	struct card large;

	card_init(&large, g->f, config, valid);
	add(g->root, large.region, 0x20001, 0);
	assert_fills(g, 0x20001 + gpa, size, 0, size);
	assert_true(is_all(large.bytes + gpa, 'w', size));
	assert_int_equal(large.writes, naccesses);
	must(kvmas_region_del(large.region));
	must(kvmas_reclaim(g->f->kvmas));
	card_fini(&large);
}

static void fill_is_cut_as_one_write_would_be(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	fill_large(&g, (struct kvmas_access_rules){4, 4, false}, 0, 0x5000, 0x1400);
	fill_large(&g, (struct kvmas_access_rules){4, 4, false}, 4, 0x4ffc, 0x13ff);
	fill_large(&g, (struct kvmas_access_rules){8, 8, true}, 3, 0x4000, 0x800);
	fill_large(&g, (struct kvmas_access_rules){0, 8, false}, 7, 0x4ff9, 1 + 0x9ff);
	guest_fini(&g);
}

static void fill_covers_memory_of_any_size(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *large = make_ram(f, "large", 0x21000);
	struct guest g;

	guest_init(&g, f);
	add(g.root, large, 0x100003, 0);
	assert_fills(&g, 0x100004, 0x20ffe, 0, 0x20ffe);
	assert_int_equal(memory_of(large)[0], 0);
	assert_true(is_all(memory_of(large) + 1, 'w', 0x20ffe));
	assert_int_equal(memory_of(large)[0x20fff], 0);
	assert_int_equal(take_dirty(&g, large), (UINT64_C(1) << 0x21) - 1);
	guest_fini(&g);
}

/* ---- devices ---- */

static void device_is_told_who_accesses_it(void **state)
{
	struct fixture *f = *state;
	struct guest g;

	guest_init(&g, f);
	g.dma.requester = &g;
	g.dma.smm = true;
	assert_reads(&g, 0x3004, 4, 0, 4);
	assert_int_equal(g.dev.seen.offset, 4);
	assert_int_equal(g.dev.seen.size, 4);
	assert_ptr_equal(g.dev.seen.requester, &g);
	assert_ptr_equal(g.dev.seen.space, g.space);
	assert_ptr_equal(g.dev.seen.reader, f->reader);
	assert_true(g.dev.seen.smm);
	g.dma.requester = NULL;
	g.dma.smm = false;
	assert_writes(&g, 0x3000, 4, 0, 4);
	assert_null(g.dev.seen.requester);
	assert_false(g.dev.seen.smm);
	guest_fini(&g);
}

/* A device that copies from guest memory into itself when it is accessed. */
static int copy_from_guest(struct card *card, const struct kvmas_access *access)
{
	struct kvmas_dma dma = {.reader = access->reader, .space = access->space};

	return kvmas_dma_read(&dma, 0x10, card->bytes, 4, NULL);
}

static void device_accesses_memory_from_its_callback(void **state)
{
	struct guest g;
	unsigned char bytes[4];

	guest_init(&g, *state);
	g.dev.on_access = copy_from_guest;
	must(kvmas_dma_read(&g.dma, 0x3000, bytes, 4, NULL));
	assert_memory_equal(bytes, memory_of(g.a) + 0x10, 4);
	guest_fini(&g);
}

/* A device that accesses itself notes how deep it came. */
static int access_itself(struct card *card, const struct kvmas_access *access)
{
	struct kvmas_dma dma = {.reader = access->reader, .space = access->space};
	unsigned *depth = card->data;
	char byte;

	++*depth;
	return kvmas_dma_read(&dma, 0x3000, &byte, 1, NULL);
}

static void device_that_accesses_itself_gets_eloop(void **state)
{
	unsigned depth = 0;
	struct guest g;

	guest_init(&g, *state);
	g.dev.on_access = access_itself;
	g.dev.data = &depth;
	assert_reads(&g, 0x3000, 4, -ELOOP, 0);
	assert_int_equal(depth, 8);
	guest_fini(&g);
}

static void device_with_a_guard_that_accesses_itself_gets_ebusy(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region_config config = {
		.kind = KVMAS_REGION_MMIO, .name = "guarded", .size = 0x100, .guard = f};
	struct card guarded;
	unsigned depth = 0;
	struct guest g;

	guest_init(&g, f);
	card_init(&guarded, f, config, (struct kvmas_access_rules){0});
	guarded.on_access = access_itself;
	guarded.data = &depth;
	add(g.root, guarded.region, 0x3000, 1);
	assert_reads(&g, 0x3000, 4, -EBUSY, 0);
	assert_int_equal(depth, 1);
	must(kvmas_region_del(guarded.region));
	must(kvmas_reclaim(f->kvmas));
	card_fini(&guarded);
	guest_fini(&g);
}

static void access_sees_what_was_committed_before(void **state)
{
	struct guest g;

	guest_init(&g, *state);
	must(kvmas_region_set_offset(g.b, 0x10000));
	assert_writes(&g, 0x4000, 1, -ENXIO, 0);
	assert_writes(&g, 0x10000, 1, 0, 1);
	assert_int_equal(take_dirty(&g, g.b), 1);
	guest_fini(&g);
}

/* ---- what it costs ---- */

static void access_allocates_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t expected = 0;
	unsigned long calls;
	struct guest g;

	guest_init(&g, f);
	calls = f->heap.calls;
	assert_reads(&g, 0, 0x3100, 0, 0x3100);
	assert_writes(&g, 0x8000, 0x4000, 0, 0x4000);
	assert_fills(&g, 0x8000, 0x4000, 0, 0x4000);
	assert_int_equal(kvmas_dma_compare_exchange(&g.dma, 0x4000, 8, &expected, 1), 1);
	assert_int_equal(f->heap.calls, calls);
	guest_fini(&g);
}

static int call_in_child(struct guest *g)
{
	uint64_t expected = 0;
	uint64_t filled = 7;
	size_t done = 7;
	char byte = 0;
	bool right = kvmas_dma_read(&g->dma, 0, &byte, 1, &done) == -EIO && done == 0;

	done = 7;
	right &= kvmas_dma_write(&g->dma, 0, &byte, 1, &done) == -EIO && done == 0;
	right &= kvmas_dma_write(&g->dma, 0, &byte, 0, &done) == -EIO;
	right &= kvmas_dma_fill(&g->dma, 0, 0, 1, &filled) == -EIO && filled == 0;
	right &= kvmas_dma_compare_exchange(&g->dma, 0, 1, &expected, 0) == -EIO;
	return right ? 0 : 1;
}

static void access_in_a_forked_child_returns_eio(void **state)
{
	struct guest g;
	int status;
	pid_t child;

	guest_init(&g, *state);
	child = fork();
	if (child == 0)
		_exit(call_in_child(&g));
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(read_gives_memory_and_devices_by_address),
		TEST(write_reaches_memory_and_marks_it_dirty),
		TEST(write_reaches_neighbours_and_devices_between),
		TEST(rom_device_is_read_as_memory_and_written_as_device),
		TEST(fill_writes_the_same_byte),
		TEST(access_ends_at_a_hole_with_enxio),
		TEST(access_ends_at_what_is_reserved_with_enxio),
		TEST(write_ends_at_what_is_readonly_with_erofs),
		TEST(access_ends_where_a_device_refuses_with_its_errno),
		TEST(access_ends_where_access_rules_refuse_with_einval),
		TEST(access_past_the_top_ends_there_with_enxio),
		TEST(access_of_no_bytes_does_nothing),
		TEST(done_may_be_null),
		TEST(fill_is_cut_as_one_write_would_be),
		TEST(fill_covers_memory_of_any_size),
		TEST(device_is_told_who_accesses_it),
		TEST(device_accesses_memory_from_its_callback),
		TEST(device_that_accesses_itself_gets_eloop),
		TEST(device_with_a_guard_that_accesses_itself_gets_ebusy),
		TEST(access_sees_what_was_committed_before),
		TEST(access_allocates_nothing),
		TEST(access_in_a_forked_child_returns_eio),
	};

	return cmocka_run_group_tests_name("dma", tests, NULL, NULL);
}

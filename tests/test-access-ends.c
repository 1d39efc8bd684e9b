/* SPDX-License-Identifier: MIT */
/*
 * How accesses end: DMA's errors, what nothing answers, accesses from inside callbacks, and large
 * ones. The scene is that of access-fixture.h.
 */
#include "access-fixture.h"

#define TOP UINT64_MAX

/* ---- DMA's errors ---- */

static void dma_ends_where_nothing_answers(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){0});
	assert_dma_read(&s, GPA - 8, 16, -ENXIO, 0);
	assert_dma_write(&s, RAM_GPA + page_size() - 3, 5, -ENXIO, 3);
	assert_dma_read(&s, GPA + 8, 24, 0, 24);
	assert_dma_read(&s, 0x100000, 0, 0, 0);
	drop_device(&s);
}

static void dma_past_the_last_address_ends_there(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	must(kvmas_region_set_offset(s.ram, TOP - page_size() + 1));
	make_device(&s, REGISTERS, NULL);
	must(kvmas_region_set_offset(s.device, 0)); /* where a sum that wraps would lead */
	assert_dma_read(&s, TOP - 7, 8, 0, 8);
	assert_dma_read(&s, TOP - 3, 8, -ENXIO, 4);
	assert_dma_write(&s, TOP, 2, -ENXIO, 1);
	assert_notes(s.f, "");
	drop_device(&s);
}

static void dma_to_what_is_readonly_ends_with_erofs(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *window;
	struct scene s;

	set_scene_with(f, &s, (struct kvmas_ops){0});
	window = make_alias(f, "window", s.ram, 0, 4);
	must(kvmas_region_set_readonly(window, true));
	add(s.root, window, RAM_GPA + 0x10, 1);
	add(s.root, make_rom(f, "rom", page_size()), 0x8000, 0);
	assert_dma_write(&s, RAM_GPA + 0x0c, 8, -EROFS, 4);
	assert_dma_write(&s, RAM_GPA + 0x11, 8, -EROFS, 0);
	assert_dma_write(&s, 0x8000, 4, -EROFS, 0);
	assert_dma_read(&s, 0x8000, 4, 0, 4);
	must(kvmas_region_set_readonly(s.device, true));
	assert_dma_write(&s, GPA, 4, -EROFS, 0);
	assert_notes(f, "");
	assert_dma_read(&s, GPA, 4, 0, 4);
	drop_device(&s);
}

/* What is readonly is somebody's. */
static void dropped_write_counts_as_answered(void **state)
{
	struct fixture *f = *state;
	struct dispatch dispatch;
	struct scene s;
	size_t done;

	set_scene(f, &s);
	must(kvmas_region_set_readonly(s.ram, true));
	dispatch = access_by(&s, f->reader, true);
	dispatch.whole = true;
	must(kas_dispatch(&dispatch, RAM_GPA, (char[4]){1}, 4, &done));
	assert_int_equal(done, 4);
	assert_int_equal(dispatch.unassigned + dispatch.refused, 0);
}

static void reserved_region_answers_nothing(void **state)
{
	struct fixture *f = *state;
	struct dispatch dispatch;
	char bytes[4] = {0};
	struct scene s;

	set_scene(f, &s);
	add(s.root,
	    make_region(f, (struct kvmas_region_config){.kind = KVMAS_REGION_RESERVED,
							.name = "hidden",
							.size = 0x10}),
	    RAM_GPA, 1);
	assert_dma_read(&s, RAM_GPA, 4, -ENXIO, 0);
	assert_dma_write(&s, RAM_GPA + 0x0f, 4, -ENXIO, 0);
	dispatch = access_by(&s, f->reader, false);
	dispatch.whole = true;
	must(kas_dispatch(&dispatch, RAM_GPA, bytes, 4, NULL));
	assert_memory_equal(bytes, "\xff\xff\xff\xff", 4);
	assert_int_equal(dispatch.unassigned, 1);
}

/* ---- ROM devices ---- */

static void rom_device_is_read_as_memory_and_written_as_device(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *block = make_block(f, "flash", 1);
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_ROMD, .name = "flash",
					   .size = page_size(), .ram = block, .ops = &s.ops,
					   .opaque = &s),
			      &s.device));
	add(s.root, s.device, 0x8000, 0);
	memset(kvmas_ram_get_hva(block), 0x77, 8);
	assert_whole(&s, 0x8000, "\x77\x77", 2, 0);
	assert_notes(f, "");
	assert_dma_write(&s, 0x8000, 2, 0, 2);
	assert_notes(f, "w2@0=201 ");
	must(kvmas_region_set_romd(s.device, false));
	assert_whole(&s, 0x8000, "\x10\x11", 2, 0);
	assert_notes(f, "r2@0 ");
	must(kvmas_region_set_romd(s.device, true));
	must(kvmas_region_set_readonly(s.device, true));
	assert_dma_write(&s, 0x8000, 2, -EROFS, 0);
	assert_whole(&s, 0x8000, "\x77", 1, 0);
	drop_device(&s);
	kvmas_ram_unref(block);
}

/* ---- what nothing answers ---- */

static void note_nothing(void *data, const struct kvmas_access *access, bool write, uint64_t value)
{
	struct fixture *f = *(struct fixture **)data;
	unsigned char byte;
	size_t done;
	struct dispatch dispatch = {.reader = access->reader, .space = access->space};

	text_add(&f->notes, "%s %llx %u = %llx\n", write ? "write" : "read",
		 (unsigned long long)access->offset, access->size, (unsigned long long)value);
	assert_int_equal(kas_dispatch(&dispatch, 0x9000, &byte, 1, &done), -ENXIO);
}

static void nothing_is_traced_where_it_is(void **state)
{
	static struct fixture *f;
	struct scene s;

	(void)state;
	f = fixture_new((struct kvmas_config){.struct_size = sizeof(struct kvmas_config),
					      .trace_unassigned = note_nothing,
					      .trace_data = &f});
	set_scene(f, &s);
	assert_dma_write(&s, RAM_GPA - 3, 5, -ENXIO, 0);
	/* its own access is traced until they are 8 deep */
	assert_notes(f, "write 100d 3 = 30201\n"
			"read 9000 1 = 0\nread 9000 1 = 0\nread 9000 1 = 0\n"
			"read 9000 1 = 0\nread 9000 1 = 0\nread 9000 1 = 0\n"
			"read 9000 1 = 0\n");
	assert_dma_read(&s, RAM_GPA + page_size() - 1, 64, -ENXIO, 1);
	assert_memory_equal(f->notes, "read 2010 8 = 0\n", 16);
	forget_notes(f);
	fixture_free(f);
}

static void unassigned_reads_give_what_the_vmm_chose(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){
		.struct_size = sizeof(struct kvmas_config), .unassigned = KVMAS_UNASSIGNED_ZEROS});
	struct dispatch dispatch;
	char bytes[8] = "xxxxxxx";
	struct scene s;

	(void)state;
	set_scene_with(f, &s, (struct kvmas_ops){0});
	dispatch = access_by(&s, f->reader, false);
	dispatch.whole = true;
	must(kas_dispatch(&dispatch, 0x9000, bytes, 4, NULL));
	assert_memory_equal(bytes, "\0\0\0\0xxx", 7);
	s.refuses_at = 0;
	must(kas_dispatch(&dispatch, GPA, bytes + 4, 2, NULL));
	assert_memory_equal(bytes, "\0\0\0\0\0\0x", 7);
	drop_device(&s);
	fixture_free(f);
}

/* ---- accesses from inside callbacks ---- */

static void access_oneself(struct scene *s, const struct kvmas_access *access)
{
	struct dispatch dispatch = access_by(s, access->reader, false);
	unsigned char byte;

	assert_ptr_equal(access->reader, s->f->reader);
	if (s->depth++ == 20)
		return;
	s->err = kas_dispatch(&dispatch, 0x8000, &byte, 1, NULL);
}

static void guarded_device_is_not_entered_from_inside_itself(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_device(&s, REGISTERS, &s);
	add(s.root, make_alias(f, "window", s.device, 8, 8), 0x8000, 0);
	s.inside = access_oneself;
	assert_dma_write(&s, GPA, 1, 0, 1);
	assert_int_equal(s.err, -EBUSY);
	assert_notes(f, "w1@0=1 ");
	s.inside = NULL;
	assert_dma_write(&s, 0x8000, 1, 0, 1);
	drop_device(&s);
}

static void regions_with_one_guard_are_one_device(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *first;
	struct scene s;

	set_scene(f, &s);
	make_device(&s, REGISTERS, &s);
	first = s.device;
	make_device(&s, REGISTERS, &s);
	must(kvmas_region_set_offset(s.device, 0x8000));
	s.inside = access_oneself;
	assert_dma_write(&s, GPA, 1, 0, 1);
	assert_int_equal(s.err, -EBUSY);
	drop_device(&s);
	make_device(&s, REGISTERS, &s.err); /* another guard */
	must(kvmas_region_set_offset(s.device, 0x8000));
	s.depth = 19;
	assert_dma_write(&s, GPA, 1, 0, 1);
	assert_int_equal(s.err, 0);
	drop_device(&s);
	s.device = first;
	drop_device(&s);
}

static void access_by_another_reader(struct scene *s, const struct kvmas_access *access)
{
	struct dispatch dispatch;
	unsigned char byte;

	(void)access;
	if (s->depth++)
		return;
	dispatch = access_by(s, NULL, false);
	must(kvmas_reader_add(s->f->kvmas, &dispatch.reader));
	s->err = kas_dispatch(&dispatch, GPA, &byte, 1, NULL);
	kvmas_reader_del(dispatch.reader);
}

static void guard_is_the_readers_own(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	make_device(&s, REGISTERS, &s);
	s.inside = access_by_another_reader;
	s.err = 1;
	assert_dma_write(&s, GPA, 1, 0, 1);
	assert_int_equal(s.err, 0);
	drop_device(&s);
}

static void callbacks_end_8_levels_deep(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene_with(f, &s, (struct kvmas_ops){0});
	add(s.root, make_alias(f, "window", s.device, 0, 8), 0x8000, 0);
	s.inside = access_oneself;
	assert_dma_write(&s, GPA, 1, 0, 1);
	assert_int_equal(s.depth, 8);
	assert_notes(f, "w1@0=1 r1@0 r1@0 r1@0 r1@0 r1@0 r1@0 r1@0 ");
	assert_null(f->reader->innermost);
	drop_device(&s);
}

/* The eighth is refused: and says so, as a device of seven others would. */
static void note_the_deepest(struct scene *s, const struct kvmas_access *access)
{
	struct dispatch dispatch = access_by(s, access->reader, false);
	unsigned char byte = 0;
	int err = kas_dispatch(&dispatch, GPA, &byte, 1, NULL);

	if (err)
		s->err = err;
	if (err == -ELOOP)
		must(kas_dispatch(&dispatch, RAM_GPA, &byte, 1, NULL));
}

static void too_deep_is_eloop_and_memory_is_not(void **state)
{
	struct scene s;

	set_scene_with(*state, &s, (struct kvmas_ops){0});
	s.inside = note_the_deepest;
	assert_dma_write(&s, GPA, 1, 0, 1);
	assert_int_equal(s.err, -ELOOP);
	drop_device(&s);
}

static void refused_reentry_counts(void **state)
{
	struct fixture *f = *state;
	struct frame inside = {.guard = &inside, .depth = 1};
	struct dispatch dispatch;
	struct scene s;

	set_scene(f, &s);
	make_device(&s, REGISTERS, &inside);
	dispatch = access_by(&s, f->reader, true);
	f->reader->innermost = &inside;
	assert_int_equal(kas_dispatch(&dispatch, GPA, (char[1]){1}, 1, NULL), -EBUSY);
	assert_int_equal(dispatch.refused, 1);
	assert_int_equal(dispatch.unassigned, 0);
	f->reader->innermost = NULL;
	drop_device(&s);
}

/* ---- memory in bulk ---- */

static void large_accesses_copy_and_mark_all_of_it(void **state)
{
	struct fixture *f = *state;
	const unsigned npages = 8;
	struct kvmas_region *ram = make_ram(f, "big", npages * page_size());
	size_t size = 5 * page_size() + 11;
	unsigned char *bytes = malloc(2 * size);
	struct kvmas_client *client;
	uint64_t word;
	struct scene s;

	assert_non_null(bytes);
	set_scene(f, &s);
	add(s.root, ram, 0x100000, 0);
	must(kvmas_client_new(f->kvmas, "client", &client));
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 13 + i / 256);
	for (unsigned shift = 0; shift < 9; shift++) {
		uint64_t at = page_size() - 1 - shift;
		unsigned char *hva = kvmas_ram_get_hva(block_of(ram));

		memset(hva, 0xee, npages * page_size());
		must(dma(&s, true, 0x100000 + at, bytes, size));
		assert_int_equal(s.done, size);
		assert_memory_equal(hva + at, bytes, size);
		assert_int_equal(hva[at - 1], 0xee);
		assert_int_equal(hva[at + size], 0xee);
		assert_true(kvmas_client_take(client, block_of(ram), 0, npages, &word) > 0);
		assert_int_equal(word, at + size > 6 * page_size() ? 0x7f : 0x3f);
		must(dma(&s, false, 0x100000 + at, bytes + size, size));
		assert_memory_equal(bytes, bytes + size, size);
	}
	assert_int_equal(kvmas_client_take(client, block_of(ram), 0, npages, &word), 0);
	kvmas_client_unref(client);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(dma_ends_where_nothing_answers),
		TEST(dma_past_the_last_address_ends_there),
		TEST(dma_to_what_is_readonly_ends_with_erofs),
		TEST(dropped_write_counts_as_answered),
		TEST(reserved_region_answers_nothing),
		TEST(rom_device_is_read_as_memory_and_written_as_device),
		TEST(nothing_is_traced_where_it_is),
		TEST(unassigned_reads_give_what_the_vmm_chose),
		TEST(guarded_device_is_not_entered_from_inside_itself),
		TEST(regions_with_one_guard_are_one_device),
		TEST(guard_is_the_readers_own),
		TEST(callbacks_end_8_levels_deep),
		TEST(too_deep_is_eloop_and_memory_is_not),
		TEST(refused_reentry_counts),
		TEST(large_accesses_copy_and_mark_all_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Resizes in transactions: which order they go in, what an abort or a refusal undoes, what a commit
 * gives back or marks dirty, and what becomes of KVM's slots. Sizes are in pages.
 */
#include "ram-fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- transactions ---- */

/* A block with a region on all of it, in a space, its pages filled; and room for more. */
struct stage {
	struct fixture *f;
	struct kvmas_ram *ram;
	struct kvmas_region *region;
	struct kvmas_space *space;
};

static struct stage set_up(struct fixture *f, enum kvmas_ram_source source, uint64_t npages)
{
	struct stage s = {.f = f, .ram = make_sized(f, source, npages, 16)};
	struct kvmas_region *root = make_container(f, "root", pages(64));

	s.region = window(f, s.ram, 0, npages);
	s.space = make_space(f, "s", root);
	add(root, s.region, 0, 0);
	fill(s.ram, 0, npages, KEEP);
	return s;
}

static void assert_shown(const struct stage *s, uint64_t npages)
{
	char *text = NULL;

	text_add(&text, "0000-%04llx ram w+0x0\n", (unsigned long long)pages(npages) - 1);
	assert_view(s->f, s->space, text);
	free(text);
}

static void growth_goes_before_its_region(void **state)
{
	struct stage s = set_up(*state, KVMAS_RAM_ANON, 2);

	must(kvmas_begin(s.f->kvmas));
	assert_int_equal(set_size(s.region, 4), -EINVAL);
	must(resize(s.ram, 4));
	must(set_size(s.region, 4));
	assert_shown(&s, 2);
	must(kvmas_commit(s.f->kvmas));
	assert_shown(&s, 4);
	kvmas_ram_unref(s.ram);
}

static void shrink_goes_after_its_region(void **state)
{
	struct stage s = set_up(*state, KVMAS_RAM_ANON, 4);

	must(kvmas_begin(s.f->kvmas));
	assert_int_equal(resize(s.ram, 2), -EBUSY);
	must(set_size(s.region, 2));
	must(resize(s.ram, 2));
	assert_int_equal(set_size(s.region, 3), -EINVAL);
	assert_shown(&s, 4);
	must(kvmas_commit(s.f->kvmas));
	assert_shown(&s, 2);
	assert_int_equal(size_of(s.ram), 2);
	kvmas_ram_unref(s.ram);
}

static void abort_undoes_a_shrink_and_leaves_every_byte(void **state)
{
	for (enum kvmas_ram_source source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		struct stage s = set_up(*state, source, 8);

		must(kvmas_begin(s.f->kvmas));
		must(set_size(s.region, 2));
		must(resize(s.ram, 2));
		must(resize(s.ram, 12));
		must(resize(s.ram, 3));
		must(kvmas_abort(s.f->kvmas));
		assert_int_equal(size_of(s.ram), 8);
		assert_shown(&s, 8);
		assert_filled(s.ram, 0, 8, KEEP);
		assert_int_equal(count_present_in(s.ram, 8, 8), 0);
		must(set_size(s.region, 8));
		assert_int_equal(resize(s.ram, 7), -EBUSY);
		kvmas_ram_unref(s.ram);
		drop_space(s.f, s.space);
	}
}

static void abort_undoes_a_growth_and_gives_back_what_it_added(void **state)
{
	for (enum kvmas_ram_source source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		struct stage s = set_up(*state, source, 2);

		must(kvmas_begin(s.f->kvmas));
		must(resize(s.ram, 8));
		must(set_size(s.region, 8));
		fill(s.ram, 2, 6, 'x');
		must(kvmas_abort(s.f->kvmas));
		assert_int_equal(size_of(s.ram), 2);
		assert_shown(&s, 2);
		assert_filled(s.ram, 0, 2, KEEP);
		assert_int_equal(count_present_in(s.ram, 2, 14), 0);
		kvmas_ram_unref(s.ram);
		drop_space(s.f, s.space);
	}
}

static void abort_of_a_growth_leaves_the_file(void **state)
{
	struct fixture *f = *state;
	char seen[2];
	int fd;
	struct kvmas_ram *ram = make_on_file(f, KVMAS_RAM_PREFAULT, 1, 4, &fd);

	must(kvmas_begin(f->kvmas));
	must(resize(ram, 4));
	must(kvmas_abort(f->kvmas));
	assert_int_equal(size_of(ram), 1);
	assert_int_equal(pread(fd, seen, 2, (off_t)pages(3)), 2);
	assert_memory_equal(seen, ((char[]){OLD, OLD}), 2);
	kvmas_ram_unref(ram);
	close(fd);
}

static void inner_abort_undoes_a_resize_in_the_outermost_commit(void **state)
{
	struct stage s = set_up(*state, KVMAS_RAM_ANON, 4);

	must(kvmas_begin(s.f->kvmas));
	must(set_size(s.region, 1));
	must(kvmas_begin(s.f->kvmas));
	must(resize(s.ram, 1));
	must(kvmas_abort(s.f->kvmas));
	assert_int_equal(kvmas_commit(s.f->kvmas), -ECANCELED);
	assert_int_equal(size_of(s.ram), 4);
	assert_filled(s.ram, 0, 4, KEEP);
	kvmas_ram_unref(s.ram);
}

static void failing_commit_undoes_a_shrink(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){.max_ranges = 2});
	struct stage s = set_up(f, KVMAS_RAM_ANON, 8);
	struct kvmas_region *root = make_container(f, "other", pages(64));

	(void)state;
	make_space(f, "t", root);
	must(kvmas_begin(f->kvmas));
	must(set_size(s.region, 2));
	must(resize(s.ram, 2));
	for (unsigned i = 0; i < 3; i++)
		add(root, make_mmio(f, "m", 1), i * 16, 0);
	assert_int_equal(kvmas_commit(f->kvmas), -E2BIG);
	assert_int_equal(size_of(s.ram), 8);
	assert_shown(&s, 8);
	assert_filled(s.ram, 0, 8, KEEP);
	kvmas_ram_unref(s.ram);
	fixture_free(f);
}

static void several_resizes_commit_as_one(void **state)
{
	static const uint64_t steps[][4] = {
		{2, 8, 6, 6}, {2, 12, 4, 4}, {12, 3, 8, 8}, {12, 2, 5, 5}, {16, 1, 16, 8}};

	for (size_t i = 0; i < LENGTH(steps); i++) {
		struct fixture *f = *state;
		struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 8, 16);
		uint64_t size = steps[i][2];

		fill(ram, 0, 8, KEEP);
		must(kvmas_begin(f->kvmas));
		for (unsigned k = 0; k < 3; k++)
			must(resize(ram, steps[i][k]));
		must(kvmas_commit(f->kvmas));
		assert_int_equal(size_of(ram), size);
		assert_filled(ram, 0, steps[i][3], KEEP);
		assert_filled(ram, steps[i][3], 16 - steps[i][3], 0);
		kvmas_ram_unref(ram);
	}
}

static void resize_in_a_listener_callback(struct fixture *f)
{
	assert_int_equal(resize(f->made, 2), -EBUSY);
}

static void resize_in_a_callback_returns_ebusy(void **state)
{
	struct stage s = set_up(*state, KVMAS_RAM_ANON, 2);

	make_listener(s.f, s.space, "x", 0);
	s.f->made = s.ram;
	s.f->inside = resize_in_a_listener_callback;
	must(kvmas_region_set_readonly(s.region, true));
	s.f->inside = NULL;
	assert_int_equal(size_of(s.ram), 2);
	kvmas_ram_unref(s.ram);
}

static int grow_with_region(struct fixture *f)
{
	struct kvmas_ram *ram = f->made;
	uint64_t npages = size_of(ram) + 2;
	int err;

	must(kvmas_begin(f->kvmas));
	err = resize(ram, npages);
	if (!err)
		err = set_size(f->with, npages);
	if (err) {
		must(kvmas_abort(f->kvmas));
		assert_int_equal(size_of(ram), npages - 2);
		return err;
	}
	err = kvmas_commit(f->kvmas);
	assert_int_equal(size_of(ram), npages - (err ? 2 : 0));
	return err;
}

static void every_allocation_of_a_growth_fails_cleanly(void **state)
{
	struct stage s = set_up(*state, KVMAS_RAM_ANON, 2);

	s.f->made = s.ram;
	s.f->with = s.region;
	assert_true(fail_each_allocation(s.f, grow_with_region) >= 3);
	assert_shown(&s, 4);
	kvmas_ram_unref(s.ram);
}

static int shrink_alone(struct fixture *f)
{
	return resize(f->made, 1);
}

static void every_allocation_of_a_shrink_fails_cleanly(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 4, 8);

	f->made = ram;
	fill(ram, 0, 4, KEEP);
	assert_true(fail_each_allocation(f, shrink_alone) >= 1);
	assert_filled(ram, 0, 1, KEEP);
	kvmas_ram_unref(ram);
}

static void count_destroy(void *data)
{
	note(data, "destroy block");
}

static void block_dropped_in_its_transaction_ends_with_that(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make(f, (struct kvmas_ram_config){.size = pages(2),
								  .max_size = pages(4),
								  .destroy = count_destroy,
								  .destroy_data = f});

	must(kvmas_begin(f->kvmas));
	must(resize(ram, 4));
	must(resize(ram, 1));
	kvmas_ram_unref(ram);
	assert_notes(f, "");
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "destroy block\n");
}

static void block_outlives_its_kvmas_and_can_be_resized(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){0});
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 2, 4);

	(void)state;
	kvmas_reader_del(f->reader);
	f->reader = NULL;
	close_kvmas(f);
	must(resize(ram, 4));
	must(resize(ram, 1));
	kvmas_ram_unref(ram);
	fixture_free(f);
}

/* ---- what a shrink gives back ---- */

static void shrink_gives_back_when_it_is_committed(void **state)
{
	for (enum kvmas_ram_source source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		struct stage s = set_up(*state, source, 8);
		int fd = kvmas_ram_get_fd(s.ram);

		must(kvmas_begin(s.f->kvmas));
		must(set_size(s.region, 3));
		must(resize(s.ram, 3));
		assert_filled(s.ram, 0, 8, KEEP);
		must(kvmas_commit(s.f->kvmas));
		assert_int_equal(count_present_in(s.ram, 3, 13), 0);
		if (fd >= 0)
			assert_int_equal(file_usage(fd), pages(3));
		assert_filled(s.ram, 0, 3, KEEP);
		must(resize(s.ram, 16));
		assert_filled(s.ram, 3, 13, 0);
		kvmas_ram_unref(s.ram);
		drop_space(s.f, s.space);
	}
}

static void shrink_leaves_what_the_source_demands(void **state)
{
	static const struct {
		unsigned flags;
		char there; /* in the tail, after pages were written to it where that is possible */
		char in_file;
	} cases[] = {
		{0, KEEP, KEEP},
		{KVMAS_RAM_PRIVATE, OLD, OLD},
		{KVMAS_RAM_READONLY, OLD, OLD},
	};

	for (size_t i = 0; i < LENGTH(cases); i++) {
		char seen = 'x';
		int fd;
		struct kvmas_ram *ram = make_on_file(*state, cases[i].flags, 4, 4, &fd);

		if (!(cases[i].flags & KVMAS_RAM_READONLY))
			fill(ram, 0, 4, KEEP);
		must(resize(ram, 2));
		assert_filled(ram, 2, 2, cases[i].there);
		assert_int_equal(pread(fd, &seen, 1, (off_t)pages(3)), 1);
		assert_int_equal(seen, cases[i].in_file);
		assert_int_equal(lseek(fd, 0, SEEK_END), pages(4));
		assert_filled(ram, 0, 2, cases[i].flags & KVMAS_RAM_READONLY ? OLD : KEEP);
		kvmas_ram_unref(ram);
		close(fd);
	}
}

static void callers_memory_stays_as_it_is(void **state)
{
	char *hva =
		mmap(NULL, pages(4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.source = KVMAS_RAM_CALLER,
								       .hva = hva,
								       .size = pages(2),
								       .max_size = pages(4)});

	memset(hva, KEEP, pages(4));
	must(resize(ram, 4));
	must(resize(ram, 1));
	assert_filled(ram, 0, 4, KEEP);
	kvmas_ram_unref(ram);
	munmap(hva, pages(4));
}

static void reader_pinned_across_a_shrink_reads_zeroes(void **state)
{
	for (enum kvmas_ram_source source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		struct stage s = set_up(*state, source, 8);
		const struct kvmas_view *view = kvmas_view_acquire(s.f->reader, s.space);
		struct kvmas_section section;

		must(kvmas_begin(s.f->kvmas));
		must(set_size(s.region, 2));
		must(resize(s.ram, 2));
		must(kvmas_commit(s.f->kvmas));
		must(kvmas_view_lookup(view, pages(7), &section));
		assert_int_equal(section.size, pages(8));
		assert_ptr_equal(section.hva, kvmas_ram_get_hva(s.ram));
		assert_filled(section.ram, 0, 2, KEEP);
		assert_filled(section.ram, 2, 6, 0);
		((char *)section.hva)[pages(8) - 1] = 'x'; /* a late write does no harm */
		must(kvmas_ram_mark(section.ram, pages(8) - 1, 1));
		kvmas_view_release(s.f->reader, view);
		kvmas_ram_unref(s.ram);
		drop_space(s.f, s.space);
	}
}

/* ---- dirty pages ---- */

static void growth_is_dirty_for_every_client_once_committed(void **state)
{
	struct machine *m = *state;
	struct kvmas_ram *ram = make_sized(m->f, KVMAS_RAM_ANON, 70, 140);
	struct kvmas_client *a = make_client(m, "a");
	struct kvmas_client *b = make_client(m, "b");

	window(m->f, ram, 0, 70);
	must(kvmas_ram_mark(ram, pages(3), 1));
	must(kvmas_begin(m->f->kvmas));
	must(resize(ram, 130));
	assert_taken(a, ram, "3 ");
	must(kvmas_commit(m->f->kvmas));
	assert_taken(a, ram, "70-129 ");
	assert_taken(b, ram, "3 70-129 ");
	kvmas_ram_unref(ram);
}

static void growth_that_is_undone_leaves_no_bit(void **state)
{
	struct machine *m = *state;
	struct kvmas_ram *ram = make_sized(m->f, KVMAS_RAM_ANON, 2, 8);
	struct kvmas_client *client = make_client(m, "c");
	uint64_t bits;

	window(m->f, ram, 0, 2);
	must(kvmas_begin(m->f->kvmas));
	must(resize(ram, 8));
	must(kvmas_abort(m->f->kvmas));
	assert_int_equal(kvmas_client_take(client, ram, 0, 8, &bits), 0);
	kvmas_ram_unref(ram);
}

static void bits_stay_over_a_shrink(void **state)
{
	struct machine *m = *state;
	struct kvmas_ram *ram = make_sized(m->f, KVMAS_RAM_ANON, 8, 8);
	struct kvmas_client *client = make_client(m, "c");

	window(m->f, ram, 0, 1);
	must(kvmas_ram_mark(ram, 0, 1));
	must(kvmas_ram_mark(ram, pages(5), 1));
	must(resize(ram, 2));
	assert_taken(client, ram, "0 ");
	must(kvmas_ram_mark(ram, pages(1), 1));
	must(resize(ram, 4));
	assert_taken(client, ram, "1-3 ");
	kvmas_ram_unref(ram);
}

static void bitmaps_reach_to_the_maximal_size(void **state)
{
	struct machine *m = *state;
	struct kvmas_ram *ram = make_sized(m->f, KVMAS_RAM_ANON, 2, 70);
	struct kvmas_client *client = make_client(m, "c");
	uint64_t bits[2];

	window(m->f, ram, 0, 2);
	must(kvmas_ram_mark(ram, pages(69), page_size()));
	assert_int_equal(kvmas_ram_mark(ram, pages(70), 1), -EINVAL);
	assert_int_equal(kvmas_client_take(client, ram, 0, 70, bits), 1);
	assert_int_equal(bits[1], 1 << 5);
	must(kvmas_client_put(client, ram, 0, 70, bits));
	assert_int_equal(kvmas_client_take(client, ram, 0, 71, bits), -EINVAL);
	assert_int_equal(kvmas_client_take(client, ram, 64, 6, bits), 1);
	kvmas_ram_unref(ram);
}

/* ---- KVM ---- */

struct grown {
	struct kvmas_ram *ram;
	struct kvmas_region *region;
};

static struct grown set_up_kvm(struct machine *m, uint64_t npages)
{
	struct grown s = {.ram = make_sized(m->f, KVMAS_RAM_ANON, npages, 16)};

	s.region = window(m->f, s.ram, 0, npages);
	add(m->root[NORMAL], s.region, 0, 0);
	put_alias(m, SMM, s.region, 32, 0, 16);
	fill(s.ram, 0, npages, KEEP);
	return s;
}

static int change_both(struct machine *m, const struct grown *s, uint64_t npages)
{
	bool grows = npages > size_of(s->ram);

	must(kvmas_begin(m->f->kvmas));
	if (grows)
		must(resize(s->ram, npages));
	must(set_size(s->region, npages));
	if (!grows)
		must(resize(s->ram, npages));
	return kvmas_commit(m->f->kvmas);
}

static void slots_follow_a_block_in_every_space(void **state)
{
	struct machine *m = *state;
	struct grown s = set_up_kvm(m, 8);

	must(change_both(m, &s, 4));
	assert_slots(m, "0:0 0-3 block+0\n1:0 32-35 block+0\n");
	assert_int_equal(count_present_in(s.ram, 4, 12), 0);
	must(change_both(m, &s, 16));
	assert_right(m);
	assert_filled(s.ram, 0, 4, KEEP);
	assert_filled(s.ram, 4, 12, 0);
	kvmas_ram_unref(s.ram);
}

static void each_refusal_of_kvm_undoes_a_resize(void **state)
{
	static const uint64_t sizes[] = {3, 12};
	struct machine *m = *state;
	struct grown s = set_up_kvm(m, 8);
	char *slots = slots_text(m->kvm);

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		for (unsigned k = 1; k <= 2; k++) {
			fake_kvm_fail_at(m->vm, k, ENOMEM);
			assert_int_equal(change_both(m, &s, sizes[i]), -ENOMEM);
			fake_kvm_fail_never(m->vm);
			assert_int_equal(size_of(s.ram), 8);
			assert_filled(s.ram, 0, 8, KEEP);
			assert_int_equal(count_present_in(s.ram, 8, 8), 0);
			assert_slots(m, slots);
			assert_right(m);
		}
	}
	free(slots);
	kvmas_ram_unref(s.ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(growth_goes_before_its_region),
		TEST(shrink_goes_after_its_region),
		TEST(abort_undoes_a_shrink_and_leaves_every_byte),
		TEST(abort_undoes_a_growth_and_gives_back_what_it_added),
		TEST(abort_of_a_growth_leaves_the_file),
		TEST(inner_abort_undoes_a_resize_in_the_outermost_commit),
		TEST(failing_commit_undoes_a_shrink),
		TEST(several_resizes_commit_as_one),
		TEST(resize_in_a_callback_returns_ebusy),
		TEST(every_allocation_of_a_growth_fails_cleanly),
		TEST(every_allocation_of_a_shrink_fails_cleanly),
		TEST(block_dropped_in_its_transaction_ends_with_that),
		TEST(block_outlives_its_kvmas_and_can_be_resized),
		TEST(shrink_gives_back_when_it_is_committed),
		TEST(shrink_leaves_what_the_source_demands),
		TEST(callers_memory_stays_as_it_is),
		TEST(reader_pinned_across_a_shrink_reads_zeroes),
		KVM_TEST(growth_is_dirty_for_every_client_once_committed),
		KVM_TEST(growth_that_is_undone_leaves_no_bit),
		KVM_TEST(bits_stay_over_a_shrink),
		KVM_TEST(bitmaps_reach_to_the_maximal_size),
		KVM_TEST(slots_follow_a_block_in_every_space),
		KVM_TEST(each_refusal_of_kvm_undoes_a_resize),
	};

	return cmocka_run_group_tests_name("resize-txn", tests, NULL, NULL);
}

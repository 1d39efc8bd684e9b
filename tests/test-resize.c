/* SPDX-License-Identifier: MIT */
/*
 * Blocks that grow and shrink: room to grow into, sizes, and windows that hold a block as it is.
 * What a transaction makes of it is test-resize-txn.c. Sizes are in pages.
 */
#include "kvm-fixture.h"
#include "ram-fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram.h"

/* ---- room to grow ---- */

static void maximal_size_that_cannot_be_returns_einval(void **state)
{
	int fd = make_file(pages(2));
	const struct kvmas_ram_config configs[] = {
		{.size = pages(2), .max_size = pages(1)},
		{.size = pages(2), .max_size = 1},
		{.size = pages(1), .max_size = UINT64_MAX},
		{.size = pages(1), .max_size = (uint64_t)INT64_MAX + 1},
		{.size = pages(1),
		 .max_size = pages(4),
		 .source = KVMAS_RAM_CALLER,
		 .hva = (void *)(uintptr_t)-pages(2)},
		{.size = pages(2),
		 .max_size = pages(3),
		 .source = KVMAS_RAM_FILE,
		 .fd = fd,
		 .flags = KVMAS_RAM_READONLY},
	};

	for (size_t i = 0; i < LENGTH(configs); i++)
		assert_refused(*state, configs[i], -EINVAL);
	close(fd);
}

static void huge_pages_with_room_to_grow_are_refused(void **state)
{
	const uint64_t size = UINT64_C(2) << 20;
	struct kvmas_ram_config config = {
		.flags = KVMAS_RAM_HUGETLB, .size = size, .max_size = 2 * size};
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);

	if (fd < 0)
		skip(); /* a kernel without them says so itself */
	close(fd);
	assert_refused(*state, config, -EINVAL);
	config.source = KVMAS_RAM_MEMFD;
	assert_refused(*state, config, -EINVAL);
}

static void maximal_size_is_the_size_unless_given(void **state)
{
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.size = pages(2) + 1});

	assert_int_equal(kvmas_ram_get_max_size(ram), pages(3));
	kvmas_ram_unref(ram);
	ram = make(*state, (struct kvmas_ram_config){.size = 1, .max_size = pages(4) + 1});
	assert_int_equal(kvmas_ram_get_size(ram), pages(1));
	assert_int_equal(kvmas_ram_get_max_size(ram), pages(5));
	kvmas_ram_unref(ram);
}

static void room_is_mapped_and_takes_no_memory(void **state)
{
	static const enum kvmas_ram_source sources[] = {KVMAS_RAM_ANON, KVMAS_RAM_MEMFD};

	for (size_t i = 0; i < LENGTH(sources); i++) {
		struct kvmas_ram *ram = make_sized(*state, sources[i], 1, 40);

		assert_int_equal(count_present_in(ram, 0, 40), 0);
		assert_filled(ram, 0, 40, 0);
		kvmas_ram_unref(ram);
	}
}

/* Whether a forked child has the last page of the room. */
static bool child_has_room(const struct kvmas_ram *ram)
{
	char *room = (char *)kvmas_ram_get_hva(ram) + kvmas_ram_get_max_size(ram) - page_size();
	unsigned char there;
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(mincore(room, page_size(), &there) ? 1 : 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status == 0;
}

static void room_is_in_children_that_memory_is_in(void **state)
{
	struct kvmas_ram *kept = make_sized(*state, KVMAS_RAM_ANON, 1, 40);
	struct kvmas_ram *given =
		make(*state, (struct kvmas_ram_config){
				     .flags = KVMAS_RAM_FORK, .size = 1, .max_size = pages(40)});

	assert_false(child_has_room(kept));
	assert_true(child_has_room(given));
	kvmas_ram_unref(kept);
	kvmas_ram_unref(given);
}

static void room_is_unmapped_with_the_block(void **state)
{
	struct kvmas_ram *ram = make_sized(*state, KVMAS_RAM_ANON, 1, 40);
	char *hva = kvmas_ram_get_hva(ram);
	unsigned char there[40];

	kvmas_ram_unref(ram);
	assert_int_equal(mincore(hva + pages(39), page_size(), there), -1);
	assert_int_equal(errno, ENOMEM);
}

static void memfd_has_its_maximal_size_and_is_all_hole(void **state)
{
	struct kvmas_ram *ram = make_sized(*state, KVMAS_RAM_MEMFD, 1, 40);

	assert_int_equal(lseek(kvmas_ram_get_fd(ram), 0, SEEK_END), pages(40));
	assert_int_equal(file_usage(kvmas_ram_get_fd(ram)), 0);
	kvmas_ram_unref(ram);
}

static void prefault_covers_the_size_and_what_is_added(void **state)
{
	static const enum kvmas_ram_source sources[] = {KVMAS_RAM_ANON, KVMAS_RAM_MEMFD};

	for (size_t i = 0; i < LENGTH(sources); i++) {
		struct kvmas_ram *ram =
			make(*state, (struct kvmas_ram_config){.source = sources[i],
							       .flags = KVMAS_RAM_PREFAULT,
							       .size = pages(3),
							       .max_size = pages(40)});

		assert_int_equal(count_present_in(ram, 0, 40), 3);
		must(resize(ram, 10));
		assert_int_equal(count_present_in(ram, 0, 10), 10);
		assert_int_equal(count_present_in(ram, 10, 30), 0);
		kvmas_ram_unref(ram);
	}
}

static void refused_growth_gives_back_what_it_prefaulted(void **state)
{
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.flags = KVMAS_RAM_PREFAULT,
								       .size = pages(3),
								       .max_size = pages(40)});

	fill(ram, 0, 3, KEEP);
	window(other, ram, 0, 1);
	assert_int_equal(resize(ram, 10), -EBUSY);
	assert_filled(ram, 0, 3, KEEP);
	assert_int_equal(count_present_in(ram, 3, 37), 0);
	fixture_free(other);
	kvmas_ram_unref(ram);
}

static void transparent_huge_pages_begin_aligned_with_room(void **state)
{
	const uint64_t huge = UINT64_C(2) << 20;
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.flags = KVMAS_RAM_THP,
								       .size = pages(1),
								       .max_size = 3 * huge});

	assert_int_equal((uintptr_t)kvmas_ram_get_hva(ram) % huge, 0);
	must(kvmas_ram_resize(ram, 3 * huge));
	fill(ram, 0, 3 * huge / page_size(), KEEP);
	kvmas_ram_unref(ram);
}

/* ---- sizes ---- */

static void resize_rounds_up_and_leaves_the_hva(void **state)
{
	struct kvmas_ram *ram = make_sized(*state, KVMAS_RAM_ANON, 2, 8);
	const void *hva = kvmas_ram_get_hva(ram);

	must(kvmas_ram_resize(ram, pages(4) + 1));
	assert_int_equal(size_of(ram), 5);
	must(kvmas_ram_resize(ram, 1));
	assert_int_equal(size_of(ram), 1);
	must(resize(ram, 8));
	assert_int_equal(size_of(ram), 8);
	assert_ptr_equal(kvmas_ram_get_hva(ram), hva);
	kvmas_ram_unref(ram);
}

static void size_that_cannot_be_returns_einval(void **state)
{
	const uint64_t sizes[] = {0, pages(8) + 1, pages(9), UINT64_MAX};
	struct kvmas_ram *ram = make_sized(*state, KVMAS_RAM_ANON, 2, 8);

	for (size_t i = 0; i < LENGTH(sizes); i++)
		assert_int_equal(kvmas_ram_resize(ram, sizes[i]), -EINVAL);
	assert_int_equal(size_of(ram), 2);
	kvmas_ram_unref(ram);
}

static void block_without_room_shrinks_and_grows_back(void **state)
{
	struct kvmas_ram *ram = make_sized(*state, KVMAS_RAM_ANON, 4, 0);

	assert_int_equal(resize(ram, 5), -EINVAL);
	must(resize(ram, 1));
	must(resize(ram, 4));
	kvmas_ram_unref(ram);
}

static void file_that_ends_before_the_new_size_returns_einval(void **state)
{
	int fd = make_file(pages(2));
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.source = KVMAS_RAM_FILE,
								       .fd = fd,
								       .fd_offset = pages(1),
								       .size = pages(1),
								       .max_size = pages(8)});

	assert_int_equal(resize(ram, 2), -EINVAL);
	must(ftruncate(fd, (off_t)pages(3) + 1));
	must(resize(ram, 2));
	assert_int_equal(resize(ram, 3), -EINVAL);
	must(kvmas_ram_resize(ram, pages(2) + 1)); /* inside its last page */
	assert_filled(ram, 0, 3, 0);
	kvmas_ram_unref(ram);
	close(fd);
}

static void resize_to_the_same_size_allocates_nothing(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 2, 8);

	must(kvmas_begin(f->kvmas));
	f->heap.fail_in = 1;
	must(kvmas_ram_resize(ram, pages(1) + 1));
	f->heap.fail_in = 0;
	must(kvmas_commit(f->kvmas));
	kvmas_ram_unref(ram);
}

/* ---- windows ---- */

static void shrink_below_a_window_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 8, 8);
	struct kvmas_region *a = window(f, ram, 0, 2);
	struct kvmas_region *b = window(f, ram, 3, 2); /* in no container */

	make_space(f, "s", a);
	assert_int_equal(resize(ram, 4), -EBUSY);
	must(resize(ram, 5));
	must(kvmas_region_set_size(b, pages(1) + 1)); /* one byte of the fifth page */
	assert_int_equal(resize(ram, 4), -EBUSY);
	must(set_size(b, 1));
	must(resize(ram, 4));
	drop_region(f, b);
	must(resize(ram, 2));
	assert_int_equal(resize(ram, 1), -EBUSY);
	assert_int_equal(size_of(ram), 2);
	kvmas_ram_unref(ram);
}

static void window_of_an_old_view_returns_ebusy_until_released(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 8, 8);
	struct kvmas_region *root = make_container(f, "root", pages(64));
	struct kvmas_region *w = window(f, ram, 0, 8);
	struct kvmas_space *space = make_space(f, "s", root);
	const struct kvmas_view *view;

	add(root, w, 0, 0);
	view = kvmas_view_acquire(f->reader, space);
	must(kvmas_region_del(w));
	drop_region(f, w);
	assert_int_equal(resize(ram, 4), -EBUSY);
	kvmas_view_release(f->reader, view);
	must(resize(ram, 4)); /* dead, though its end has not run yet */
	kvmas_ram_unref(ram);
}

static void region_must_fit_the_block_as_it_is(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 4, 8);
	struct kvmas_region_config config = {
		.struct_size = sizeof(config),
		.kind = KVMAS_REGION_RAM,
		.name = "w",
		.ram = ram,
		.size = pages(5),
	};
	struct kvmas_region *region;

	assert_int_equal(kvmas_region_new(f->kvmas, &config, &region), -EINVAL);
	config.ram_offset = pages(5);
	config.size = 1;
	assert_int_equal(kvmas_region_new(f->kvmas, &config, &region), -EINVAL);
	must(resize(ram, 6));
	must(kvmas_region_new(f->kvmas, &config, &region));
	assert_int_equal(set_size(region, 2), -EINVAL);
	kvmas_region_unref(region);
	kvmas_ram_unref(ram);
}

static int try_window(struct fixture *f, struct kvmas_ram *ram, uint64_t first, uint64_t npages)
{
	struct kvmas_region *region;
	int err = kvmas_region_new(f->kvmas,
				   KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "w",
						.ram = ram, .ram_offset = pages(first),
						.size = pages(npages)),
				   &region);

	if (!err)
		kvmas_region_unref(region);
	return err;
}

static int try_window_at_the_end(struct fixture *f)
{
	return try_window(f, f->made, 3, 1);
}

static void region_that_was_not_made_holds_no_block(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 4, 8);
	struct kvmas_client *client;

	must(kvmas_client_new(f->kvmas, "c", &client));
	f->made = ram;
	f->heap.fail_in = 3; /* the bitmap, after the region and its name */
	assert_int_equal(try_window_at_the_end(f), -ENOMEM);
	assert_true(f->heap.failed);
	must(resize(ram, 3));
	must(resize(ram, 4));
	assert_int_equal(fail_each_allocation(f, try_window_at_the_end), 3);
	must(resize(ram, 3));
	kvmas_client_unref(client);
	kvmas_ram_unref(ram);
}

/* The making of a region is not undone, so it must fit whichever way the transaction ends. */
static void region_made_during_a_resize_must_fit_before_and_after(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 4, 8);

	must(kvmas_begin(f->kvmas));
	must(resize(ram, 8));
	assert_int_equal(try_window(f, ram, 4, 1), -EINVAL);
	must(try_window(f, ram, 3, 1));
	must(resize(ram, 2));
	assert_int_equal(try_window(f, ram, 3, 1), -EINVAL);
	must(resize(ram, 6));
	assert_int_equal(try_window(f, ram, 2, 1), -EINVAL);
	must(try_window(f, ram, 1, 1));
	must(kvmas_abort(f->kvmas));
	must(try_window(f, ram, 3, 1));
	must(resize(ram, 8));
	must(try_window(f, ram, 7, 1));
	kvmas_ram_unref(ram);
}

static void window_of_another_kvmas_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 4, 8);
	struct kvmas_region *w = window(other, ram, 0, 1);

	assert_int_equal(resize(ram, 2), -EBUSY);
	assert_int_equal(resize(ram, 8), -EBUSY);
	must(resize(ram, 4));
	drop_region(other, w);
	must(resize(ram, 8));
	fixture_free(other);
	kvmas_ram_unref(ram);
}

/* It has transactions of its own, which this one's abort does not undo. */
static void window_of_another_kvmas_may_not_use_a_growth_before_its_commit(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_ram *ram = make_sized(f, KVMAS_RAM_ANON, 4, 8);
	struct kvmas_region *w;

	must(kvmas_begin(f->kvmas));
	must(resize(ram, 8));
	w = window(other, ram, 0, 4);
	assert_int_equal(set_size(w, 5), -EINVAL);
	must(kvmas_commit(f->kvmas));
	must(set_size(w, 5));
	fixture_free(other);
	kvmas_ram_unref(ram);
}

/* ---- threads ---- */

struct maker {
	struct kvmas *kvmas;
	struct kvmas_ram *ram;
	atomic_bool done;
	unsigned wrong; /* blocks that were smaller than a window on them */
	unsigned made;
};

static void *make_windows(void *data)
{
	struct maker *maker = data;

	for (unsigned i = 0; i < 2000; i++) {
		uint64_t first = i % 8;
		struct kvmas_region *region;

		if (kvmas_region_new(maker->kvmas,
				     KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "w",
						  .ram = maker->ram, .ram_offset = pages(first),
						  .size = 1),
				     &region))
			continue;
		maker->made++;
		for (unsigned k = 0; k < 3; k++) {
			maker->wrong += kvmas_ram_get_size(maker->ram) < pages(first + 1);
			sched_yield();
		}
		kvmas_region_unref(region);
	}
	atomic_store(&maker->done, true);
	return NULL;
}

static void windows_made_by_another_thread_hold_the_block(void **state)
{
	struct fixture *f = *state;
	struct maker maker = {.kvmas = f->kvmas, .ram = make_sized(f, KVMAS_RAM_ANON, 8, 8)};
	unsigned refused = 0;
	unsigned i;
	pthread_t thread;

	must(pthread_create(&thread, NULL, make_windows, &maker));
	for (i = 0; !atomic_load(&maker.done); i++) {
		int err = resize(maker.ram, 1 + i * 5 % 8);

		assert_true(err == 0 || err == -EBUSY);
		refused += err != 0;
	}
	must(pthread_join(thread, NULL));
	print_message("%u windows made; %u of %u resizes refused\n", maker.made, refused, i);
	assert_int_equal(maker.wrong, 0);
	kvmas_ram_unref(maker.ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(maximal_size_that_cannot_be_returns_einval),
		TEST(huge_pages_with_room_to_grow_are_refused),
		TEST(maximal_size_is_the_size_unless_given),
		TEST(room_is_mapped_and_takes_no_memory),
		TEST(room_is_in_children_that_memory_is_in),
		TEST(room_is_unmapped_with_the_block),
		TEST(memfd_has_its_maximal_size_and_is_all_hole),
		TEST(prefault_covers_the_size_and_what_is_added),
		TEST(refused_growth_gives_back_what_it_prefaulted),
		TEST(transparent_huge_pages_begin_aligned_with_room),
		TEST(resize_rounds_up_and_leaves_the_hva),
		TEST(size_that_cannot_be_returns_einval),
		TEST(block_without_room_shrinks_and_grows_back),
		TEST(file_that_ends_before_the_new_size_returns_einval),
		TEST(resize_to_the_same_size_allocates_nothing),
		TEST(shrink_below_a_window_returns_ebusy),
		TEST(window_of_an_old_view_returns_ebusy_until_released),
		TEST(region_must_fit_the_block_as_it_is),
		TEST(region_that_was_not_made_holds_no_block),
		TEST(region_made_during_a_resize_must_fit_before_and_after),
		TEST(window_of_another_kvmas_returns_ebusy),
		TEST(window_of_another_kvmas_may_not_use_a_growth_before_its_commit),
		TEST(windows_made_by_another_thread_hold_the_block),
	};

	return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Parts of blocks that are given back: what is there afterwards, and who is asked before. */
#include "ram-fixture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int discard(struct kvmas_ram *ram, uint64_t first, uint64_t npages)
{
	return kvmas_ram_discard(ram, pages(first), pages(npages));
}

/* ---- pages ---- */

static void discarded_pages_read_as_zero_and_take_no_memory(void **state)
{
	for (enum kvmas_ram_source source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		struct kvmas_ram *ram =
			make(*state, (struct kvmas_ram_config){.source = source, .size = pages(8)});

		fill(ram, 0, 8, KEEP);
		must(discard(ram, 2, 3));
		assert_int_equal(count_present(ram), 5);
		if (source == KVMAS_RAM_MEMFD)
			assert_int_equal(file_usage(kvmas_ram_get_fd(ram)), pages(5));
		assert_filled(ram, 0, 2, KEEP);
		assert_filled(ram, 2, 3, 0);
		assert_filled(ram, 5, 3, KEEP);
		fill(ram, 2, 3, KEEP); /* can be written again */
		must(discard(ram, 0, 8));
		assert_int_equal(count_present(ram), 0);
		kvmas_ram_unref(ram);
	}
}

/* Blocks that begin inside their file. */
static void file_has_a_hole_if_it_is_shared(void **state)
{
	static const struct {
		unsigned flags;
		char there; /* after KEEP was written to the page, where the file had 'o' */
		char in_file;
	} cases[] = {{0, 0, 0}, {KVMAS_RAM_PRIVATE, 'o', 'o'}};

	for (size_t i = 0; i < LENGTH(cases); i++) {
		int fd = make_file(pages(4));
		struct kvmas_ram_config config = {.source = KVMAS_RAM_FILE,
						  .fd = fd,
						  .fd_offset = pages(1),
						  .size = pages(3)};
		struct kvmas_ram *ram = make(*state, config);
		char seen[3];

		fill(ram, 0, 3, 'o');
		kvmas_ram_unref(ram);
		config.flags = cases[i].flags;
		ram = make(*state, config);
		fill(ram, 0, 3, KEEP);
		must(discard(ram, 1, 1));
		assert_filled(ram, 0, 1, KEEP);
		assert_filled(ram, 1, 1, cases[i].there);
		assert_filled(ram, 2, 1, KEEP);
		assert_int_equal(pread(fd, seen, 1, (off_t)pages(2)), 1);
		assert_int_equal(seen[0], cases[i].in_file);
		assert_int_equal(lseek(fd, 0, SEEK_END), pages(4));
		kvmas_ram_unref(ram);
		close(fd);
	}
}

static void discarded_pages_are_dirty_for_every_client(void **state)
{
	struct machine *m = *state;
	struct kvmas_ram *ram = make_block(m->f, "b", 80);
	struct kvmas_client *a = make_client(m, "a");
	struct kvmas_client *b = make_client(m, "b");

	make_window(m->f, KVMAS_REGION_RAM, "w", ram, 0, 1);
	must(discard(ram, 62, 5));
	assert_taken(a, ram, "62-66 ");
	assert_taken(b, ram, "62-66 ");
	kvmas_ram_unref(ram);
}

/* ---- refusals ---- */

static void range_that_cannot_be_returns_einval(void **state)
{
	const uint64_t page = page_size();
	const uint64_t ranges[][2] = {
		{0, 0},
		{page, 0},
		{1, page},
		{0, page - 1},
		{page / 2, page / 2},
		{0, 5 * page},
		{4 * page, page},
		{3 * page, 2 * page},
		{5 * page, page},
		{page, -page},
		{-page, page},
		{-page, 2 * page},
	};
	struct kvmas_ram *ram =
		make(*state, (struct kvmas_ram_config){.size = 4 * page, .max_size = 8 * page});

	fill(ram, 0, 4, KEEP);
	for (size_t i = 0; i < LENGTH(ranges); i++)
		assert_int_equal(kvmas_ram_discard(ram, ranges[i][0], ranges[i][1]), -EINVAL);
	assert_filled(ram, 0, 4, KEEP);
	kvmas_ram_unref(ram);
}

static void part_of_a_huge_page_returns_einval(void **state)
{
	const uint64_t size = UINT64_C(2) << 20;

	for (enum kvmas_ram_source source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		struct kvmas_ram_config config = {
			.flags = KVMAS_RAM_HUGETLB, .source = source, .size = size};
		struct kvmas_ram *ram;

		if (new_ram(*state, config, &ram)) {
			print_message("no huge pages of 2 MiB to be had here\n");
			skip();
		}
		fill(ram, 0, size / page_size(), KEEP);
		assert_int_equal(kvmas_ram_discard(ram, 0, page_size()), -EINVAL);
		assert_int_equal(kvmas_ram_discard(ram, page_size(), size - page_size()), -EINVAL);
		assert_filled(ram, 0, 1, KEEP);
		must(kvmas_ram_discard(ram, 0, size));
		assert_int_equal(count_present(ram), 0);
		assert_filled(ram, 0, size / page_size(), 0);
		kvmas_ram_unref(ram);
	}
}

static void readonly_memory_returns_einval(void **state)
{
	int fd = make_file(pages(1));
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.source = KVMAS_RAM_FILE,
								       .fd = fd,
								       .flags = KVMAS_RAM_READONLY,
								       .size = pages(1)});

	assert_int_equal(discard(ram, 0, 1), -EINVAL);
	kvmas_ram_unref(ram);
	close(fd);
}

static void callers_memory_returns_eopnotsupp(void **state)
{
	char *hva =
		mmap(NULL, pages(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvmas_ram *ram =
		make(*state, (struct kvmas_ram_config){
				     .source = KVMAS_RAM_CALLER, .hva = hva, .size = pages(2)});

	fill(ram, 0, 2, KEEP);
	assert_int_equal(discard(ram, 0, 1), -EOPNOTSUPP);
	assert_filled(ram, 0, 2, KEEP);
	kvmas_ram_unref(ram);
	munmap(hva, pages(2));
}

static void what_the_kernel_refuses_is_handed_on(void **state)
{
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.size = pages(2)});

	fill(ram, 0, 2, KEEP);
	/* The sanitizers make mlock() do nothing. */
	must(syscall(SYS_mlock, kvmas_ram_get_hva(ram), page_size()));
	assert_int_equal(discard(ram, 0, 1), -EINVAL);
	assert_filled(ram, 0, 2, KEEP);
	kvmas_ram_unref(ram);
}

static void discard_inside_a_transaction_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make(f, (struct kvmas_ram_config){.size = pages(2)});

	fill(ram, 0, 2, KEEP);
	must(kvmas_begin(f->kvmas));
	assert_int_equal(discard(ram, 0, 1), -EBUSY);
	must(kvmas_commit(f->kvmas));
	assert_filled(ram, 0, 2, KEEP);
	must(discard(ram, 0, 1));
	kvmas_ram_unref(ram);
}

static void discard_in_a_listener_callback(struct fixture *f)
{
	assert_int_equal(discard(f->made, 0, 1), -EBUSY);
}

static void discard_in_a_callback_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", pages(2));
	struct kvmas_space *space = make_space(f, "s", a);

	f->made = block_of(a);
	fill(f->made, 0, 2, KEEP);
	f->inside = discard_in_a_listener_callback;
	make_listener(f, space, "x", 0);
	f->inside = NULL;
	assert_filled(f->made, 0, 2, KEEP);
}

/* ---- listeners ---- */

struct judge {
	struct fixture *f;
	const char *name;
	int verdict;
	void (*inside)(struct judge *judge, struct kvmas_ram *ram);
	struct kvmas_listener *listener;
};

static int hear_discard(void *data, struct kvmas_ram *ram, uint64_t offset, uint64_t size)
{
	struct judge *judge = data;

	note(judge->f, "%s %s %" PRIu64 "+%" PRIu64, judge->name, kvmas_ram_get_name(ram),
	     offset / page_size(), size / page_size());
	if (judge->inside)
		judge->inside(judge, ram);
	return judge->verdict;
}

static void seat(struct judge *judge, struct kvmas_space *space, int priority)
{
	must(kvmas_listener_add(space,
				KVMAS_CONFIG(listener, .priority = priority, .data = judge,
					     .ram_discard = hear_discard),
				&judge->listener));
}

/* One block of 16 pages in two spaces: 0-7 in one, 4-11 in the other; it holds KEEP. */
struct court {
	struct fixture *f;
	struct kvmas_ram *ram;
	struct kvmas_space *low, *high;
};

static struct court convene(struct fixture *f)
{
	struct court c = {.f = f, .ram = make_block(f, "b", 16)};
	struct kvmas_region *root = make_container(f, "root", pages(64));

	add(root, make_window(f, KVMAS_REGION_RAM, "l", c.ram, 0, 2), 0, 0);
	add(root, make_mmio(f, "m", pages(1)), pages(2), 0);
	add(root, make_window(f, KVMAS_REGION_RAM, "l2", c.ram, 2, 6), pages(8), 0);
	c.low = make_space(f, "low", root);
	c.high = make_space(f, "high", make_window(f, KVMAS_REGION_RAM, "h", c.ram, 4, 8));
	fill(c.ram, 0, 16, KEEP);
	return c;
}

static void adjourn(const struct court *c, const struct judge *judges, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		must(kvmas_listener_del(judges[i].listener));
	kvmas_ram_unref(c->ram);
}

static void listeners_of_spaces_that_show_a_byte_are_asked_once(void **state)
{
	static const struct {
		uint64_t first, npages;
		const char *asked;
	} cases[] = {
		{0, 1, "x b 0+1\n"},
		{0, 4, "x b 0+4\n"}, /* shown by two sections */
		{3, 1, "x b 3+1\n"},
		{3, 2, "x b 3+2\ny b 3+2\n"},
		{7, 1, "x b 7+1\ny b 7+1\n"},
		{8, 1, "y b 8+1\n"},
		{11, 5, "y b 11+5\n"},
		{12, 4, ""},
		{0, 16, "x b 0+16\ny b 0+16\n"},
	};
	struct court c = convene(*state);
	struct judge judges[] = {{.f = c.f, .name = "x"}, {.f = c.f, .name = "y"}};
	struct kvmas_ram *other = make_block(c.f, "other", 16);

	seat(&judges[0], c.low, 0);
	seat(&judges[1], c.high, 0);
	make_listener(c.f, c.low, "indifferent", 0);
	forget_notes(c.f);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		must(discard(c.ram, cases[i].first, cases[i].npages));
		assert_notes(c.f, cases[i].asked);
	}
	must(discard(other, 0, 16));
	assert_notes(c.f, "");
	kvmas_ram_unref(other);
	adjourn(&c, judges, LENGTH(judges));
}

static void one_byte_of_a_page_shows_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_block(f, "b", 4);
	struct kvmas_region *w = window(f, ram, 1, 1);
	struct judge judge = {.f = f, .name = "x"};

	must(kvmas_region_set_size(w, page_size() + 1));
	seat(&judge, make_space(f, "s", w), 0);
	must(discard(ram, 0, 1));
	must(discard(ram, 3, 1));
	assert_notes(f, "");
	must(discard(ram, 2, 1));
	assert_notes(f, "x b 2+1\n");
	must(kvmas_listener_del(judge.listener));
	kvmas_ram_unref(ram);
}

static void device_state_of_a_rom_device_shows_no_page(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_block(f, "b", 1);
	struct kvmas_region *romd = make_window(f, KVMAS_REGION_ROMD, "romd", ram, 0, 1);
	struct judge judge = {.f = f, .name = "x", .verdict = -EPERM};

	seat(&judge, make_space(f, "s", romd), 0);
	assert_int_equal(discard(ram, 0, 1), -EPERM);
	must(kvmas_region_set_romd(romd, false));
	must(discard(ram, 0, 1));
	must(kvmas_listener_del(judge.listener));
	kvmas_ram_unref(ram);
}

static void listeners_are_asked_by_ascending_priority(void **state)
{
	struct court c = convene(*state);
	struct judge judges[] = {{.f = c.f, .name = "last"},
				 {.f = c.f, .name = "first"},
				 {.f = c.f, .name = "second", .verdict = 1}};

	seat(&judges[0], c.low, 5);
	seat(&judges[1], c.low, -5);
	seat(&judges[2], c.low, -5);
	must(discard(c.ram, 0, 1));
	assert_notes(c.f, "first b 0+1\nsecond b 0+1\nlast b 0+1\n");
	adjourn(&c, judges, LENGTH(judges));
}

/* One that agreed before was asked, and no more. */
static void refusal_leaves_every_page_and_bit(void **state)
{
	struct machine *m = *state;
	struct court c = convene(m->f);
	struct kvmas_client *client = make_client(m, "c");
	struct judge judges[] = {{.f = m->f, .name = "x"},
				 {.f = m->f, .name = "y", .verdict = -EPERM},
				 {.f = m->f, .name = "z"}};

	seat(&judges[0], c.low, 0);
	seat(&judges[1], c.high, 0);
	seat(&judges[2], c.high, 1);
	assert_int_equal(discard(c.ram, 4, 2), -EPERM);
	assert_notes(m->f, "x b 4+2\ny b 4+2\n");
	assert_filled(c.ram, 0, 16, KEEP);
	assert_taken(client, c.ram, "");
	judges[1].verdict = 0;
	must(discard(c.ram, 4, 2));
	assert_notes(m->f, "x b 4+2\ny b 4+2\nz b 4+2\n");
	assert_taken(client, c.ram, "4-5 ");
	adjourn(&c, judges, LENGTH(judges));
}

static void range_that_cannot_be_is_asked_of_nobody(void **state)
{
	struct court c = convene(*state);
	struct judge judge = {.f = c.f, .name = "x"};

	seat(&judge, c.low, 0);
	assert_int_equal(discard(c.ram, 0, 17), -EINVAL);
	assert_notes(c.f, "");
	adjourn(&c, &judge, 1);
}

static void look_and_try_to_change(struct judge *judge, struct kvmas_ram *ram)
{
	struct fixture *f = judge->f;

	assert_filled(ram, 0, 16, KEEP); /* asked before */
	must(kvmas_ram_mark(ram, 0, 1));
	assert_int_equal(kvmas_begin(f->kvmas), -EBUSY);
	assert_int_equal(kvmas_ram_resize(ram, pages(8)), -EBUSY);
	assert_int_equal(discard(ram, 0, 1), -EBUSY);
	kvmas_view_release(f->reader, kvmas_view_acquire(f->reader, f->spaces[0]));
}

static void topology_cannot_change_while_listeners_are_asked(void **state)
{
	struct court c = convene(*state);
	struct judge judge = {.f = c.f, .name = "x", .inside = look_and_try_to_change};

	seat(&judge, c.low, 0);
	must(discard(c.ram, 0, 1));
	must(kvmas_begin(c.f->kvmas)); /* and can afterwards */
	must(kvmas_commit(c.f->kvmas));
	judge.verdict = -EPERM;
	judge.inside = NULL;
	assert_int_equal(discard(c.ram, 0, 1), -EPERM);
	must(kvmas_begin(c.f->kvmas));
	must(kvmas_abort(c.f->kvmas));
	adjourn(&c, &judge, 1);
}

static void listener_that_knows_no_discards_agrees(void **state)
{
	struct court c = convene(*state);
	struct judge judge = {.f = c.f, .name = "x", .verdict = -EPERM};
	struct kvmas_listener_config config = {
		.struct_size = offsetof(struct kvmas_listener_config, ram_discard),
		.data = &judge,
		.ram_discard = hear_discard, /* past what it says it knows */
	};

	must(kvmas_listener_add(c.low, &config, &judge.listener));
	must(discard(c.ram, 0, 1));
	assert_notes(c.f, "");
	adjourn(&c, &judge, 1);
}

static void listeners_of_another_kvmas_are_not_asked(void **state)
{
	struct court c = convene(*state);
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct judge judge = {.f = other, .name = "x", .verdict = -EPERM};

	seat(&judge,
	     make_space(other, "s", make_window(other, KVMAS_REGION_RAM, "w", c.ram, 0, 16)), 0);
	must(discard(c.ram, 0, 1));
	assert_notes(other, "");
	must(kvmas_listener_del(judge.listener));
	fixture_free(other);
	kvmas_ram_unref(c.ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(discarded_pages_read_as_zero_and_take_no_memory),
		TEST(file_has_a_hole_if_it_is_shared),
		KVM_TEST(discarded_pages_are_dirty_for_every_client),
		TEST(range_that_cannot_be_returns_einval),
		TEST(part_of_a_huge_page_returns_einval),
		TEST(readonly_memory_returns_einval),
		TEST(callers_memory_returns_eopnotsupp),
		TEST(what_the_kernel_refuses_is_handed_on),
		TEST(discard_inside_a_transaction_returns_ebusy),
		TEST(discard_in_a_callback_returns_ebusy),
		TEST(listeners_of_spaces_that_show_a_byte_are_asked_once),
		TEST(one_byte_of_a_page_shows_it),
		TEST(device_state_of_a_rom_device_shows_no_page),
		TEST(listeners_are_asked_by_ascending_priority),
		KVM_TEST(refusal_leaves_every_page_and_bit),
		TEST(range_that_cannot_be_is_asked_of_nobody),
		TEST(topology_cannot_change_while_listeners_are_asked),
		TEST(listener_that_knows_no_discards_agrees),
		TEST(listeners_of_another_kvmas_are_not_asked),
	};

	return cmocka_run_group_tests_name("discard", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Blocks with a guest_memfd besides: which files are taken, and that both sides of what is given
 * back are gone. Any file that holds enough will do here, since only KVM can tell: a memfd.
 */
#include "ram-fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ram.h"

/* A block of four pages over pages 1 to 4 of a file of six; in both, every byte is KEEP. */
static struct kvmas_ram *make_on(struct fixture *f, enum kvmas_ram_source source, int file,
				 unsigned char *hva)
{
	struct kvmas_ram *ram = make(f, (struct kvmas_ram_config){.source = source,
								  .size = pages(4),
								  .flags = KVMAS_RAM_GUEST_MEMFD,
								  .hva = hva,
								  .fd = file,
								  .fd_offset = pages(1),
								  .guest_memfd = file,
								  .guest_memfd_offset = pages(1)});
	char *page = malloc(page_size());

	assert_non_null(page);
	memset(page, KEEP, page_size());
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(pwrite(file, page, page_size(), (off_t)pages(i)), page_size());
	free(page);
	if (source != KVMAS_RAM_CALLER)
		fill(ram, 0, 4, KEEP);
	return ram;
}

/* The pages of the file that are not all KEEP, as bits. */
static unsigned holes(int file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < 6; i++) {
		char byte;

		assert_int_equal(pread(file, &byte, 1, (off_t)pages(i)), 1);
		bits |= (byte == KEEP ? 0u : 1u) << i;
	}
	return bits;
}

static void wrong_file_is_einval(void **state)
{
	int file = make_file(pages(4)), ends[2];
	const struct kvmas_ram_config good = {
		.size = pages(4), .flags = KVMAS_RAM_GUEST_MEMFD, .guest_memfd = file};
	struct kvmas_ram_config config = good;
	struct kvmas_ram *ram;

	must(pipe(ends));
	config.guest_memfd = -1;
	assert_refused(*state, config, -EINVAL);
	config.guest_memfd = ends[0];
	assert_refused(*state, config, -EINVAL);
	config = good;
	config.guest_memfd_offset = 1;
	assert_refused(*state, config, -EINVAL);
	config.guest_memfd_offset = pages(1);
	assert_refused(*state, config, -EINVAL);
	config.guest_memfd_offset = -page_size();
	assert_refused(*state, config, -EINVAL);
	config = good;
	config.size = pages(4) + 1;
	assert_refused(*state, config, -EINVAL);
	config = good;
	config.max_size = pages(5);
	assert_refused(*state, config, -EINVAL);
	must(new_ram(*state, good, &ram));
	kvmas_ram_unref(ram);
	close(ends[0]);
	close(ends[1]);
	close(file);
	assert_refused(*state, good, -EBADF);
}

static void unfit_flags_are_einval(void **state)
{
	static const unsigned flags[] = {KVMAS_RAM_PRIVATE, KVMAS_RAM_READONLY};
	int file = make_file(pages(4));

	for (size_t i = 0; i < LENGTH(flags); i++)
		assert_refused(*state,
			       (struct kvmas_ram_config){.source = KVMAS_RAM_FILE,
							 .size = pages(4),
							 .flags = KVMAS_RAM_GUEST_MEMFD | flags[i],
							 .fd = file,
							 .guest_memfd = file},
			       -EINVAL);
	close(file);
}

/* A page would be another one on the other side. */
static void source_elsewhere_in_the_same_file_is_einval(void **state)
{
	int file = make_file(pages(4));

	assert_refused(*state,
		       (struct kvmas_ram_config){.source = KVMAS_RAM_FILE,
						 .size = pages(2),
						 .flags = KVMAS_RAM_GUEST_MEMFD,
						 .fd = file,
						 .guest_memfd = file,
						 .guest_memfd_offset = pages(1)},
		       -EINVAL);
	close(file);
}

static void file_is_duplicated_and_closed(void **state)
{
	int file = make_file(pages(4));
	struct kvmas_ram *ram =
		make(*state, (struct kvmas_ram_config){.size = pages(4),
						       .flags = KVMAS_RAM_GUEST_MEMFD,
						       .guest_memfd = file});
	int ours = ram->guest_memfd.fd;

	assert_int_not_equal(ours, file);
	assert_true(fcntl(ours, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(kvmas_ram_get_fd(ram), -1);
	kvmas_ram_unref(ram);
	assert_int_equal(fcntl(ours, F_GETFD), -1);
	assert_true(fcntl(file, F_GETFD) >= 0);
	close(file);
}

static void what_cannot_be_mapped_leaves_no_descriptor(void **state)
{
	int file = make_file(pages(4)), other = make_file(pages(1));
	int next = dup(file);

	close(next);
	assert_refused(*state,
		       (struct kvmas_ram_config){.source = KVMAS_RAM_FILE,
						 .size = pages(4),
						 .flags = KVMAS_RAM_GUEST_MEMFD,
						 .fd = other,
						 .guest_memfd = file},
		       -EINVAL);
	assert_int_equal(dup(file), next);
	close(next);
	close(other);
	close(file);
}

static void discard_gives_back_both_sides(void **state)
{
	static const enum kvmas_ram_source sources[] = {KVMAS_RAM_ANON, KVMAS_RAM_MEMFD,
							KVMAS_RAM_FILE};

	for (size_t i = 0; i < LENGTH(sources); i++) {
		int file = make_file(pages(6));
		struct kvmas_ram *ram = make_on(*state, sources[i], file, NULL);

		must(kvmas_ram_discard(ram, pages(1), pages(2)));
		assert_filled(ram, 0, 1, KEEP);
		assert_filled(ram, 1, 2, 0);
		assert_filled(ram, 3, 1, KEEP);
		assert_int_equal(holes(file), 3 << 2);
		kvmas_ram_unref(ram);
		close(file);
	}
}

/* What is a FILE's own stays, as without a guest_memfd. */
static void shrink_gives_back_both_sides_unless_the_source_is_somebodys(void **state)
{
	static const struct {
		enum kvmas_ram_source source;
		unsigned holes;
	} cases[] = {{KVMAS_RAM_ANON, 3 << 3}, {KVMAS_RAM_MEMFD, 3 << 3}, {KVMAS_RAM_FILE, 0}};

	for (size_t i = 0; i < LENGTH(cases); i++) {
		int file = make_file(pages(6));
		struct kvmas_ram *ram = make_on(*state, cases[i].source, file, NULL);

		must(resize(ram, 2));
		assert_int_equal(holes(file), cases[i].holes);
		must(resize(ram, 4));
		assert_filled(ram, 2, 2, cases[i].holes ? 0 : KEEP);
		kvmas_ram_unref(ram);
		close(file);
	}
}

static void one_side_is_given_back_alone(void **state)
{
	int file = make_file(pages(6));
	struct kvmas_ram *ram = make_on(*state, KVMAS_RAM_ANON, file, NULL);

	must(kas_ram_give_back_side(ram, pages(1), pages(1), true));
	assert_filled(ram, 0, 4, KEEP);
	assert_int_equal(holes(file), 1 << 2);
	must(kas_ram_give_back_side(ram, pages(2), pages(1), false));
	assert_filled(ram, 2, 1, 0);
	assert_filled(ram, 3, 1, KEEP);
	assert_int_equal(holes(file), 1 << 2);
	kvmas_ram_unref(ram);
	close(file);
}

static void side_that_is_both_or_the_callers_stays(void **state)
{
	unsigned char *own = aligned_alloc(page_size(), pages(4));
	int file = make_file(pages(6));
	struct kvmas_ram *ram = make_on(*state, KVMAS_RAM_FILE, file, NULL);

	must(kas_ram_give_back_side(ram, 0, pages(4), true));
	must(kas_ram_give_back_side(ram, 0, pages(4), false));
	assert_filled(ram, 0, 4, KEEP);
	assert_int_equal(holes(file), 0);
	kvmas_ram_unref(ram);

	assert_non_null(own);
	memset(own, KEEP, pages(4));
	ram = make_on(*state, KVMAS_RAM_CALLER, file, own);
	must(kas_ram_give_back_side(ram, 0, pages(4), false));
	assert_filled(ram, 0, 4, KEEP);
	assert_int_equal(holes(file), 0);
	assert_int_equal(kvmas_ram_discard(ram, 0, pages(4)), -EOPNOTSUPP);
	kvmas_ram_unref(ram);
	free(own);
	close(file);
}

static int make_once(struct fixture *f)
{
	struct kvmas_ram *ram;
	int err = new_ram(f,
			  (struct kvmas_ram_config){.size = pages(4),
						    .flags = KVMAS_RAM_GUEST_MEMFD,
						    .guest_memfd = *(int *)f->with},
			  &ram);

	if (!err)
		kvmas_ram_unref(ram);
	return err;
}

static void each_allocation_fails_once(void **state)
{
	struct fixture *f = *state;
	int file = make_file(pages(4));
	int next = dup(file);

	close(next);
	f->with = &file;
	assert_true(fail_each_allocation(f, make_once) > 0);
	assert_int_equal(dup(file), next);
	close(next);
	close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(wrong_file_is_einval),
		TEST(unfit_flags_are_einval),
		TEST(source_elsewhere_in_the_same_file_is_einval),
		TEST(file_is_duplicated_and_closed),
		TEST(what_cannot_be_mapped_leaves_no_descriptor),
		TEST(discard_gives_back_both_sides),
		TEST(shrink_gives_back_both_sides_unless_the_source_is_somebodys),
		TEST(one_side_is_given_back_alone),
		TEST(side_that_is_both_or_the_callers_stays),
		TEST(each_allocation_fails_once),
	};

	return cmocka_run_group_tests_name("guest-memfd", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* RAM blocks: where their memory comes from, what the kernel was told of it, and when it goes. */
#include "ram-fixture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ram.h"

/* ---- sources ---- */

static void anonymous_memory_is_zero_and_has_no_fd(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make(f, (struct kvmas_ram_config){.name = "a", .size = 0x3000});
	unsigned char *bytes = kvmas_ram_get_hva(ram);

	assert_int_equal(kvmas_ram_get_fd(ram), -1);
	assert_string_equal(kvmas_ram_get_name(ram), "a");
	assert_int_equal(bytes[0] | bytes[0x2fff], 0);
	bytes[0x2fff] = 1;
	kvmas_ram_unref(ram);
}

static void memfd_shows_what_is_written(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram =
		make(f, (struct kvmas_ram_config){.size = page_size(), .source = KVMAS_RAM_MEMFD});
	char seen = 0;

	((char *)kvmas_ram_get_hva(ram))[7] = 'x';
	assert_int_equal(pread(kvmas_ram_get_fd(ram), &seen, 1, 7), 1);
	assert_int_equal(seen, 'x');
	assert_int_equal(lseek(kvmas_ram_get_fd(ram), 0, SEEK_END), page_size());
	kvmas_ram_unref(ram);
}

static struct kvmas_ram *map_file(struct fixture *f, int fd, unsigned flags)
{
	return make(f, (struct kvmas_ram_config){.size = page_size(),
						 .source = KVMAS_RAM_FILE,
						 .fd = fd,
						 .fd_offset = page_size(),
						 .flags = flags});
}

/* What the file has at byte 5 of the block after a write there. */
static char write_through(struct fixture *f, unsigned flags)
{
	int fd = make_file(2 * page_size());
	struct kvmas_ram *ram;
	char seen = 0;

	assert_int_equal(pwrite(fd, "old", 3, (off_t)page_size() + 5), 3);
	ram = map_file(f, fd, flags);
	assert_memory_equal((char *)kvmas_ram_get_hva(ram) + 5, "old", 3);
	((char *)kvmas_ram_get_hva(ram))[5] = 'n';
	assert_int_equal(pread(fd, &seen, 1, (off_t)page_size() + 5), 1);
	kvmas_ram_unref(ram);
	close(fd);
	return seen;
}

static void shared_file_changes_with_writes(void **state)
{
	assert_int_equal(write_through(*state, 0), 'n');
}

static void private_file_does_not_change(void **state)
{
	assert_int_equal(write_through(*state, KVMAS_RAM_PRIVATE), 'o');
}

static void fd_of_a_file_is_a_duplicate(void **state)
{
	struct fixture *f = *state;
	int fd = make_file(2 * page_size());
	struct kvmas_ram *ram = map_file(f, fd, 0);
	int own = kvmas_ram_get_fd(ram);

	close(fd);
	assert_int_not_equal(own, fd);
	assert_int_equal(fcntl(own, F_GETFD), FD_CLOEXEC);
	assert_int_equal(lseek(own, 0, SEEK_END), 2 * page_size());
	kvmas_ram_unref(ram);
	assert_int_equal(fcntl(own, F_GETFD), -1);
	assert_int_equal(errno, EBADF);
}

static void callers_memory_is_used_and_left(void **state)
{
	struct fixture *f = *state;
	size_t size = 2 * page_size();
	char *hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvmas_ram *ram;

	assert_ptr_not_equal(hva, MAP_FAILED);
	ram = make(f,
		   (struct kvmas_ram_config){.size = size, .source = KVMAS_RAM_CALLER, .hva = hva});
	assert_ptr_equal(kvmas_ram_get_hva(ram), hva);
	assert_int_equal(kvmas_ram_get_fd(ram), -1);
	hva[size - 1] = 'x';
	kvmas_ram_unref(ram);
	assert_int_equal(hva[size - 1], 'x');
	munmap(hva, size);
}

static void size_is_rounded_up_to_pages(void **state)
{
	uint64_t page = page_size();
	const uint64_t sizes[][2] = {
		{1, page}, {page - 1, page}, {page, page}, {page + 1, 2 * page}};
	struct fixture *f = *state;

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		struct kvmas_ram *ram = make(f, (struct kvmas_ram_config){.size = sizes[i][0]});

		assert_int_equal(kvmas_ram_get_size(ram), sizes[i][1]);
		((char *)kvmas_ram_get_hva(ram))[sizes[i][1] - 1] = 'x';
		kvmas_ram_unref(ram);
	}
}

/* ---- refusals ---- */

static void config_that_makes_no_sense_returns_einval(void **state)
{
	uint64_t page = page_size();
	char *hva = (char *)(uintptr_t)(64 * page);
	int fd = make_file(4 * page);
	const struct kvmas_ram_config configs[] = {
		{.size = 0},
		{.size = UINT64_MAX},
		{.size = (uint64_t)INT64_MAX + 1},
		{.size = 1, .source = KVMAS_RAM_CALLER + 1},
		{.size = 1, .source = KVMAS_RAM_CALLER},
		{.size = 1, .source = KVMAS_RAM_CALLER, .hva = hva + 1},
		{.size = 1, .source = KVMAS_RAM_CALLER, .hva = hva + page / 2},
		{.size = page, .source = KVMAS_RAM_FILE, .fd = fd, .fd_offset = 1},
		{.size = page, .source = KVMAS_RAM_FILE, .fd = fd, .fd_offset = page / 2},
		{.size = 4 * page + 1, .source = KVMAS_RAM_FILE, .fd = fd},
		{.size = page, .source = KVMAS_RAM_FILE, .fd = fd, .fd_offset = 4 * page},
		{.size = 2 * page, .source = KVMAS_RAM_FILE, .fd = fd, .fd_offset = 3 * page},
		{.size = 1, .source = KVMAS_RAM_FILE, .fd = fd, .fd_offset = 1024 * page},
	};

	for (size_t i = 0; i < LENGTH(configs); i++)
		assert_refused(*state, configs[i], -EINVAL);
	close(fd);
}

static void missing_name_returns_einval(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram;

	assert_int_equal(kvmas_ram_new(f->kvmas, KVMAS_CONFIG(ram, .size = 1), &ram), -EINVAL);
	assert_int_equal(kvmas_ram_new(f->kvmas, NULL, &ram), -EINVAL);
}

static void file_may_end_inside_its_last_page(void **state)
{
	struct fixture *f = *state;
	int fd = make_file(page_size() + 1);
	struct kvmas_ram *ram =
		make(f, (struct kvmas_ram_config){
				.size = page_size() + 1, .source = KVMAS_RAM_FILE, .fd = fd});

	assert_int_equal(kvmas_ram_get_size(ram), 2 * page_size());
	((char *)kvmas_ram_get_hva(ram))[page_size() + 1] = 'x';
	kvmas_ram_unref(ram);
	close(fd);
}

/* Flags that each source takes, in the words of the header. */
static void flags_that_do_not_fit_the_source_return_einval(void **state)
{
	static const unsigned fitting[] = {
		[KVMAS_RAM_ANON] = 0x1f,
		[KVMAS_RAM_MEMFD] = 0x1f,
		[KVMAS_RAM_FILE] = 0x7e,
		[KVMAS_RAM_CALLER] = 0x40,
	};
	int fd = make_file(page_size());
	void *hva = mmap(NULL, page_size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned source = 0; source < LENGTH(fitting); source++) {
		for (unsigned bit = 0; bit < 32; bit++) {
			struct kvmas_ram_config config = {
				.size = 1,
				.source = (enum kvmas_ram_source)source,
				.flags = 1u << bit,
				.fd = source == KVMAS_RAM_FILE ? fd : 0,
				.hva = source == KVMAS_RAM_CALLER ? hva : NULL,
			};

			if (!(fitting[source] & 1u << bit))
				assert_refused(*state, config, -EINVAL);
			else if (config.flags != KVMAS_RAM_HUGETLB)
				kvmas_ram_unref(make(*state, config));
		}
	}
	munmap(hva, page_size());
	close(fd);
}

static void what_the_kernel_refuses_is_handed_on(void **state)
{
	int event = eventfd(0, EFD_CLOEXEC);
	int fd = open("/dev/null", O_RDONLY);

	assert_refused(*state, (struct kvmas_ram_config){.size = UINT64_C(1) << 62}, -ENOMEM);
	assert_refused(*state,
		       (struct kvmas_ram_config){.size = UINT64_C(1) << 62, .flags = KVMAS_RAM_THP},
		       -ENOMEM);
	assert_refused(*state,
		       (struct kvmas_ram_config){.size = 1, .source = KVMAS_RAM_FILE, .fd = event},
		       -ENODEV);
	close(event);
	assert_refused(*state,
		       (struct kvmas_ram_config){.size = 1, .source = KVMAS_RAM_FILE, .fd = event},
		       -EBADF);
	assert_refused(*state,
		       (struct kvmas_ram_config){.size = 1, .source = KVMAS_RAM_FILE, .fd = fd},
		       -EACCES);
	close(fd);
}

static int try_new(struct fixture *f)
{
	struct kvmas_ram *ram;
	int err = new_ram(f, (struct kvmas_ram_config){.size = 1}, &ram);

	if (!err)
		kvmas_ram_unref(ram);
	return err;
}

static void every_allocation_fails_cleanly(void **state)
{
	assert_int_equal(fail_each_allocation(*state, try_new), 3);
}

/* ---- what the kernel knows ---- */

/* The line of /proc/self/smaps for the mapping at *hva* that begins so; or "". */
static void read_smaps(const void *hva, const char *field, char line[256])
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	bool here = false;
	char buffer[512];

	assert_non_null(smaps);
	line[0] = '\0';
	while (fgets(buffer, sizeof(buffer), smaps)) {
		uintptr_t first;
		uintptr_t end;

		if (sscanf(buffer, "%" SCNxPTR "-%" SCNxPTR " ", &first, &end) == 2)
			here = first <= (uintptr_t)hva && (uintptr_t)hva < end;
		else if (here && strncmp(buffer, field, strlen(field)) == 0)
			snprintf(line, 256, "%.254s", buffer);
	}
	fclose(smaps);
}

static bool has_vm_flag(const struct kvmas_ram *ram, const char *flag)
{
	char line[256];

	read_smaps(kvmas_ram_get_hva(ram), "VmFlags:", line);
	assert_string_not_equal(line, "");
	return strstr(line, flag);
}

static void memory_is_kept_from_dumps_and_children_unless_asked_for(void **state)
{
	static const struct {
		unsigned flags;
		bool dontdump, dontfork;
	} cases[] = {
		{0, true, true},
		{KVMAS_RAM_DUMP, false, true},
		{KVMAS_RAM_FORK, true, false},
		{KVMAS_RAM_DUMP | KVMAS_RAM_FORK, false, false},
	};
	int fd = make_file(page_size());

	for (unsigned source = KVMAS_RAM_ANON; source <= KVMAS_RAM_FILE; source++) {
		for (size_t i = 0; i < LENGTH(cases); i++) {
			struct kvmas_ram *ram =
				make(*state, (struct kvmas_ram_config){
						     .size = 1,
						     .source = (enum kvmas_ram_source)source,
						     .fd = source == KVMAS_RAM_FILE ? fd : 0,
						     .flags = cases[i].flags,
					     });

			assert_int_equal(has_vm_flag(ram, " dd"), cases[i].dontdump);
			assert_int_equal(has_vm_flag(ram, " dc"), cases[i].dontfork);
			kvmas_ram_unref(ram);
		}
	}
	close(fd);
}

/* Whether a forked child has the block's memory. */
static bool child_has(const struct kvmas_ram *ram)
{
	unsigned char there;
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(mincore(kvmas_ram_get_hva(ram), page_size(), &there) ? 1 : 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status == 0;
}

static void forked_child_has_memory_that_was_asked_for_only(void **state)
{
	struct kvmas_ram *kept = make(*state, (struct kvmas_ram_config){.size = 1});
	struct kvmas_ram *given =
		make(*state, (struct kvmas_ram_config){.size = 1, .flags = KVMAS_RAM_FORK});

	assert_false(child_has(kept));
	assert_true(child_has(given));
	kvmas_ram_unref(kept);
	kvmas_ram_unref(given);
}

static void readonly_block_is_mapped_without_write_access(void **state)
{
	int fd = make_file(2 * page_size());
	struct kvmas_ram *ram = map_file(*state, fd, KVMAS_RAM_READONLY);

	assert_true(has_vm_flag(ram, " rd"));
	assert_false(has_vm_flag(ram, " wr"));
	kvmas_ram_unref(ram);
	close(fd);
}

static void memory_is_absent_until_touched(void **state)
{
	struct kvmas_ram *ram = make(*state, (struct kvmas_ram_config){.size = 20 * page_size()});

	assert_int_equal(count_present(ram), 0);
	kvmas_ram_unref(ram);
}

static void prefault_makes_every_page_present(void **state)
{
	static const struct {
		enum kvmas_ram_source source;
		unsigned flags;
	} cases[] = {
		{KVMAS_RAM_ANON, 0},
		{KVMAS_RAM_MEMFD, 0},
		{KVMAS_RAM_FILE, 0},
		{KVMAS_RAM_FILE, KVMAS_RAM_PRIVATE},
		{KVMAS_RAM_FILE, KVMAS_RAM_READONLY},
		{KVMAS_RAM_ANON, KVMAS_RAM_THP},
	};
	int fd = make_file(20 * page_size());

	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct kvmas_ram *ram =
			make(*state, (struct kvmas_ram_config){
					     .size = 20 * page_size(),
					     .source = cases[i].source,
					     .fd = cases[i].source == KVMAS_RAM_FILE ? fd : 0,
					     .flags = cases[i].flags | KVMAS_RAM_PREFAULT,
				     });

		assert_int_equal(count_present(ram), 20);
		kvmas_ram_unref(ram);
	}
	close(fd);
}

static void transparent_huge_pages_begin_aligned(void **state)
{
	const uint64_t huge = UINT64_C(2) << 20;
	struct kvmas_ram *ram =
		make(*state, (struct kvmas_ram_config){.size = 2 * huge, .flags = KVMAS_RAM_THP});

	assert_int_equal((uintptr_t)kvmas_ram_get_hva(ram) % huge, 0);
	kvmas_ram_unref(ram);
}

/* Have the kernel write the first and the last byte: an errno, where a store would be a SIGBUS. */
static void assert_touchable(const struct kvmas_ram *ram)
{
	char *first = kvmas_ram_get_hva(ram);
	char *last = first + kvmas_ram_get_size(ram) - 1;
	int zero = open("/dev/zero", O_RDONLY);

	assert_int_equal(read(zero, first, 1), 1);
	assert_int_equal(read(zero, last, 1), 1);
	close(zero);
}

static unsigned count_huge_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned count = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		count += strstr(line, "hugepage") != NULL || strstr(line, "memfd:huge") != NULL;
	fclose(maps);
	return count;
}

/* Whether the host has huge pages or not: what is given can be used, what is refused is gone. */
static void huge_pages_can_be_used_or_are_refused(void **state)
{
	static const uint64_t sizes[] = {1, UINT64_C(2) << 20, (UINT64_C(2) << 20) + 1};
	struct fixture *f = *state;

	for (unsigned source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		for (size_t i = 0; i < LENGTH(sizes); i++) {
			struct kvmas_ram_config config = {
				.name = "huge",
				.size = sizes[i],
				.source = (enum kvmas_ram_source)source,
				.flags = KVMAS_RAM_HUGETLB,
			};
			struct kvmas_ram *ram;
			int err = new_ram(f, config, &ram);

			print_message("huge pages, source %u, size %#" PRIx64 ": %s\n", source,
				      sizes[i], err ? strerror(-err) : "given");
			if (!err) {
				assert_touchable(ram);
				kvmas_ram_unref(ram);
			}
			assert_int_equal(count_huge_mappings(), 0);
		}
	}
}

/* ---- marking ---- */

static void mark_covers_every_page_touched(void **state)
{
	const uint64_t page = page_size();
	const struct {
		uint64_t offset, size, pages;
		int result;
	} cases[] = {
		{0, 1, 0x1, 0},
		{page - 1, 1, 0x1, 0},
		{page - 1, 2, 0x3, 0},
		{page, page, 0x2, 0},
		{page + 1, page, 0x6, 0},
		{0, 4 * page, 0xf, 0},
		{4 * page - 1, 1, 0x8, 0},
		{2 * page, 0, 0, 0},
		{4 * page, 0, 0, 0},
		{4 * page, 1, 0, -EINVAL},
		{4 * page + 1, 0, 0, -EINVAL},
		{0, 4 * page + 1, 0, -EINVAL},
		{1, UINT64_MAX, 0, -EINVAL},
		{UINT64_MAX, 1, 0, -EINVAL},
	};
	struct fixture *f = *state;
	struct kvmas_ram *ram = block_of(make_ram(f, "a", 4 * page));
	struct kvmas_client *client;

	must(kvmas_client_new(f->kvmas, "c", &client));
	for (size_t i = 0; i < LENGTH(cases); i++) {
		uint64_t word;

		assert_int_equal(kvmas_ram_mark(ram, cases[i].offset, cases[i].size),
				 cases[i].result);
		assert_int_equal(kvmas_client_take(client, ram, 0, 4, &word),
				 __builtin_popcountll(cases[i].pages));
		assert_int_equal(word, cases[i].pages);
	}
	kvmas_client_unref(client);
}

/* ---- ends ---- */

static void count_destroy(void *data)
{
	note(data, "destroy block");
}

static void block_ends_with_its_last_reference(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make(
		f,
		(struct kvmas_ram_config){.size = 1, .destroy = count_destroy, .destroy_data = f});

	assert_ptr_equal(kvmas_ram_ref(ram), ram);
	kvmas_ram_unref(ram);
	assert_notes(f, "");
	kvmas_ram_unref(ram);
	assert_notes(f, "destroy block\n");
}

static void block_ends_after_the_last_view_that_shows_it(void **state)
{
	struct fixture *f = *state;
	struct kvmas_ram *ram = make(
		f,
		(struct kvmas_ram_config){.size = 1, .destroy = count_destroy, .destroy_data = f});
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *a = make_region(
		f, (struct kvmas_region_config){
			   .kind = KVMAS_REGION_RAM, .name = "a", .size = 0x800, .ram = ram});
	struct kvmas_space *space = make_space(f, "s", root);
	const struct kvmas_view *view;
	char *text;

	kvmas_ram_unref(ram);
	add(root, a, 0, 0);
	view = kvmas_view_acquire(f->reader, space);
	must(kvmas_region_del(a));
	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	text = view_text(view);
	assert_string_equal(text, "0000-07ff ram a+0x0\n");
	free(text);
	*(char *)kvmas_ram_get_hva(ram) = 'x'; /* still mapped */
	kvmas_view_release(f->reader, view);
	assert_notes(f, "");
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\ndestroy block\n");
}

static void block_outlives_the_kvmas_it_was_made_from(void **state)
{
	struct fixture *home = fixture_new((struct kvmas_config){0});
	struct fixture *f = *state;
	struct kvmas_ram *ram = make_block(home, "b", 1);
	struct kvmas_region *a = make_region(
		f, (struct kvmas_region_config){
			   .kind = KVMAS_REGION_RAM, .name = "a", .size = 1, .ram = ram});

	kvmas_ram_unref(ram);
	close_kvmas(home);
	assert_false(heap_is_empty(&home->heap));
	assert_view(f, make_space(f, "s", a), "0000-0000 ram a+0x0\n");
	drop_space(f, f->spaces[0]);
	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	fixture_free(home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(anonymous_memory_is_zero_and_has_no_fd),
		TEST(memfd_shows_what_is_written),
		TEST(shared_file_changes_with_writes),
		TEST(private_file_does_not_change),
		TEST(fd_of_a_file_is_a_duplicate),
		TEST(callers_memory_is_used_and_left),
		TEST(size_is_rounded_up_to_pages),
		TEST(config_that_makes_no_sense_returns_einval),
		TEST(missing_name_returns_einval),
		TEST(file_may_end_inside_its_last_page),
		TEST(flags_that_do_not_fit_the_source_return_einval),
		TEST(what_the_kernel_refuses_is_handed_on),
		TEST(every_allocation_fails_cleanly),
		TEST(memory_is_kept_from_dumps_and_children_unless_asked_for),
		TEST(forked_child_has_memory_that_was_asked_for_only),
		TEST(readonly_block_is_mapped_without_write_access),
		TEST(memory_is_absent_until_touched),
		TEST(prefault_makes_every_page_present),
		TEST(transparent_huge_pages_begin_aligned),
		TEST(huge_pages_can_be_used_or_are_refused),
		TEST(mark_covers_every_page_touched),
		TEST(block_ends_with_its_last_reference),
		TEST(block_ends_after_the_last_view_that_shows_it),
		TEST(block_outlives_the_kvmas_it_was_made_from),
	};

	return cmocka_run_group_tests_name("ram", tests, NULL, NULL);
}

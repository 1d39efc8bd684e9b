/* SPDX-License-Identifier: MIT */
#include "ram-fixture.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not a file that anybody sees: an unlinked one on /tmp would do, a memfd is one as well. */
int make_file(uint64_t size)
{
	int fd = memfd_create("test-ram", 0);

	assert_true(fd >= 0);
	must(ftruncate(fd, (off_t)size));
	return fd;
}

uint64_t file_usage(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return (uint64_t)st.st_blocks * 512;
}

int new_ram(struct fixture *f, struct kvmas_ram_config config, struct kvmas_ram **ret)
{
	config.struct_size = sizeof(config);
	if (!config.name)
		config.name = "block";
	return kvmas_ram_new(f->kvmas, &config, ret);
}

struct kvmas_ram *make(struct fixture *f, struct kvmas_ram_config config)
{
	struct kvmas_ram *ram;

	must(new_ram(f, config, &ram));
	return ram;
}

void assert_refused(struct fixture *f, struct kvmas_ram_config config, int result)
{
	struct kvmas_ram *ram = NULL;
	size_t bytes = f->heap.bytes;

	assert_int_equal(new_ram(f, config, &ram), result);
	assert_null(ram);
	assert_int_equal(f->heap.bytes, bytes);
}

struct kvmas_ram *make_sized(struct fixture *f, enum kvmas_ram_source source, uint64_t npages,
			     uint64_t max_npages)
{
	return make(f, (struct kvmas_ram_config){.source = source,
						 .size = pages(npages),
						 .max_size = pages(max_npages)});
}

struct kvmas_ram *make_on_file(struct fixture *f, unsigned flags, uint64_t npages,
			       uint64_t file_npages, int *fd)
{
	struct kvmas_ram *ram;

	*fd = make_file(pages(file_npages));
	for (uint64_t i = 0; i < pages(file_npages); i++)
		assert_int_equal(pwrite(*fd, (char[]){OLD}, 1, (off_t)i), 1);
	ram = make(f, (struct kvmas_ram_config){.source = KVMAS_RAM_FILE,
						.fd = *fd,
						.flags = flags,
						.size = pages(npages),
						.max_size = pages(file_npages)});
	return ram;
}

struct kvmas_region *window(struct fixture *f, struct kvmas_ram *ram, uint64_t first,
			    uint64_t npages)
{
	return make_window(f, KVMAS_REGION_RAM, "w", ram, first, npages);
}

uint64_t size_of(const struct kvmas_ram *ram)
{
	return kvmas_ram_get_size(ram) / page_size();
}

int resize(struct kvmas_ram *ram, uint64_t npages)
{
	return kvmas_ram_resize(ram, pages(npages));
}

int set_size(struct kvmas_region *region, uint64_t npages)
{
	return kvmas_region_set_size(region, pages(npages));
}

uint64_t count_present(const struct kvmas_ram *ram)
{
	return count_present_in(ram, 0, kvmas_ram_get_size(ram) / page_size());
}

static char *page_of(const struct kvmas_ram *ram, uint64_t page)
{
	return (char *)kvmas_ram_get_hva(ram) + page * page_size();
}

uint64_t count_present_in(const struct kvmas_ram *ram, uint64_t first, uint64_t npages)
{
	unsigned char *there = malloc(npages);
	uint64_t count = 0;

	assert_non_null(there);
	must(mincore(page_of(ram, first), npages * page_size(), there));
	for (uint64_t i = 0; i < npages; i++)
		count += there[i] & 1;
	free(there);
	return count;
}

void fill(const struct kvmas_ram *ram, uint64_t first, uint64_t npages, char byte)
{
	memset(page_of(ram, first), byte, npages * page_size());
}

/* Written to a pipe, a page comes out of it, or EFAULT. */
static void assert_page(const struct kvmas_ram *ram, uint64_t page, const char *expected,
			int pipe[2])
{
	char *copy = malloc(page_size());

	assert_non_null(copy);
	assert_int_equal(write(pipe[1], page_of(ram, page), page_size()), page_size());
	assert_int_equal(read(pipe[0], copy, page_size()), page_size());
	assert_memory_equal(copy, expected, page_size());
	free(copy);
}

void assert_filled(const struct kvmas_ram *ram, uint64_t first, uint64_t npages, char byte)
{
	char *expected = malloc(page_size());
	int ends[2];

	assert_non_null(expected);
	memset(expected, byte, page_size());
	must(pipe(ends));
	for (uint64_t page = first; page < first + npages; page++)
		assert_page(ram, page, expected, ends);
	close(ends[0]);
	close(ends[1]);
	free(expected);
}

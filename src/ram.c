/* SPDX-License-Identifier: MIT */
/*
 * RAM blocks: the host memory behind RAM and ROM regions. A block maps (or takes) memory, keeps it
 * out of core dumps and forked children, and owns the tracker of its dirty pages. It knows nothing
 * of guest addresses.
 *
 * Blocks are counted by themselves, not as objects of one kvmas, since a block may serve several:
 * the last unref unmaps at once. That is never inside a lookup or a dispatch: views hold regions,
 * and regions, which end in reclaim only, hold blocks.
 *
 * Invariants:
 *   I1  hva and size are whole host pages, and do not change until the block ends.
 *   I2  fd >= 0 for MEMFD and FILE only, and is ours.
 *
 * Read map_block first.
 */
#include "ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define THP_SIZE (UINT64_C(2) << 20)

uint64_t kas_page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Which flags fit which source. */
static const unsigned allowed_flags[] = {
	[KVMAS_RAM_ANON] = KVMAS_RAM_HUGETLB | KVMAS_RAM_THP | KVMAS_RAM_PREFAULT | KVMAS_RAM_DUMP |
			   KVMAS_RAM_FORK,
	[KVMAS_RAM_MEMFD] = KVMAS_RAM_HUGETLB | KVMAS_RAM_THP | KVMAS_RAM_PREFAULT |
			    KVMAS_RAM_DUMP | KVMAS_RAM_FORK,
	[KVMAS_RAM_FILE] = KVMAS_RAM_THP | KVMAS_RAM_PREFAULT | KVMAS_RAM_DUMP | KVMAS_RAM_FORK |
			   KVMAS_RAM_PRIVATE | KVMAS_RAM_READONLY,
	[KVMAS_RAM_CALLER] = KVMAS_RAM_READONLY,
};

static int check_config(const struct kvmas_ram_config *config)
{
	uint64_t mask = kas_page_size() - 1;

	if (!config->name || config->size == 0 || config->size > INT64_MAX - mask)
		return -EINVAL;
	if ((unsigned)config->source > KVMAS_RAM_CALLER)
		return -EINVAL;
	if (config->flags & ~allowed_flags[config->source])
		return -EINVAL;
	if (config->source == KVMAS_RAM_FILE && (config->fd < 0 || config->fd_offset & mask))
		return -EINVAL;
	if (config->source == KVMAS_RAM_CALLER &&
	    (!config->hva || (uintptr_t)config->hva & mask ||
	     (uintptr_t)config->hva + config->size + mask < (uintptr_t)config->hva))
		return -EINVAL;
	return 0;
}

/* The kernel rounds an anonymous mapping of huge pages up, and then refuses to unmap a part of its
 * last page (mm/hugetlb.c): only whole ones are asked for. */
static int check_huge_size(const struct kvmas_ram_config *config)
{
	struct stat st;
	int err = 0;
	int fd;

	if (!(config->flags & KVMAS_RAM_HUGETLB))
		return 0;
	fd = memfd_create(config->name, MFD_CLOEXEC | MFD_HUGETLB);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		err = -errno;
	else if (config->size % (uint64_t)st.st_blksize)
		err = -EINVAL;
	close(fd);
	return err;
}

/* Pages past the end of a file exist, and kill whoever touches them: refuse them beforehand. */
static int check_file_size(const struct kvmas_ram_config *config)
{
	struct stat st;

	if (fstat(config->fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) && (config->fd_offset > (uint64_t)st.st_size ||
				    config->size > (uint64_t)st.st_size - config->fd_offset))
		return -EINVAL;
	return 0;
}

static int open_fd(struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	unsigned flags = MFD_CLOEXEC;
	int err;

	if (config->source == KVMAS_RAM_FILE) {
		err = check_file_size(config);
		if (err)
			return err;
		ram->fd = fcntl(config->fd, F_DUPFD_CLOEXEC, 0);
		return ram->fd < 0 ? -errno : 0;
	}
	if (config->source != KVMAS_RAM_MEMFD)
		return 0;
	if (config->flags & KVMAS_RAM_HUGETLB)
		flags |= MFD_HUGETLB;
	ram->fd = memfd_create(config->name, flags);
	if (ram->fd < 0)
		return -errno;
	if (ftruncate(ram->fd, (off_t)ram->size) == 0)
		return 0;
	err = -errno;
	close(ram->fd);
	ram->fd = -1;
	return err;
}

static int mmap_flags(const struct kvmas_ram_config *config)
{
	int flags;

	if (config->source == KVMAS_RAM_ANON)
		flags = MAP_ANONYMOUS | MAP_PRIVATE;
	else
		flags = config->flags & KVMAS_RAM_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
	if (config->source == KVMAS_RAM_ANON && config->flags & KVMAS_RAM_HUGETLB)
		flags |= MAP_HUGETLB;
	/* Guests rarely touch all they have. Huge pages are another matter: one that is not there
	 * when it is touched is a SIGBUS. */
	if (!(config->flags & KVMAS_RAM_HUGETLB))
		flags |= MAP_NORESERVE;
	return flags;
}

/* Address space that begins on a huge page, for the mapping to go over: NULL where none is asked
 * for or to be had, and the kernel chooses. */
static void *reserve_aligned(uint64_t size)
{
	unsigned char *at = mmap(NULL, size + THP_SIZE, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	if (at == MAP_FAILED)
		return NULL;
	head = -(uintptr_t)at % THP_SIZE;
	if (head)
		munmap(at, head);
	munmap(at + head + size, THP_SIZE - head);
	return at + head;
}

/* Have every page present. MADV_POPULATE_WRITE reports what a touched page could only answer with
 * SIGBUS; before Linux 5.14 there is no safe way, and the request is refused. */
static int prefault(const struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	int advice = config->flags & KVMAS_RAM_READONLY ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;

	return madvise(ram->hva, ram->size, advice) ? -errno : 0;
}

static int advise(const struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	/* A kernel without transparent huge pages says EINVAL: they were asked for, not ordered. */
	if (config->flags & KVMAS_RAM_THP)
		madvise(ram->hva, ram->size, MADV_HUGEPAGE);
	if (!(config->flags & KVMAS_RAM_DUMP) && madvise(ram->hva, ram->size, MADV_DONTDUMP))
		return -errno;
	if (!(config->flags & KVMAS_RAM_FORK) && madvise(ram->hva, ram->size, MADV_DONTFORK))
		return -errno;
	if (config->flags & KVMAS_RAM_PREFAULT)
		return prefault(ram, config);
	return 0;
}

static void unmap_block(struct kvmas_ram *ram)
{
	if (ram->mapped)
		munmap(ram->hva, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
}

static int map_block(struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	int prot = config->flags & KVMAS_RAM_READONLY ? PROT_READ : PROT_READ | PROT_WRITE;
	void *at = NULL;
	int err;

	if (config->source == KVMAS_RAM_CALLER) {
		ram->hva = config->hva;
		return 0;
	}
	err = check_huge_size(config);
	if (!err)
		err = open_fd(ram, config);
	if (err)
		return err;
	if (config->flags & KVMAS_RAM_THP)
		at = reserve_aligned(ram->size);
	ram->fd_offset = config->source == KVMAS_RAM_FILE ? config->fd_offset : 0;
	ram->hva = mmap(at, ram->size, prot, mmap_flags(config) | (at ? MAP_FIXED : 0), ram->fd,
			(off_t)ram->fd_offset);
	if (ram->hva == MAP_FAILED) {
		err = -errno;
		if (at)
			munmap(at, ram->size);
		goto unmap;
	}
	ram->mapped = true;
	err = advise(ram, config);
	if (err)
		goto unmap;
	return 0;

unmap:
	unmap_block(ram);
	return err;
}

static int init_block(struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	int err;

	ram->name = kas_strdup(ram->home, config->name);
	if (!ram->name)
		return -ENOMEM;
	err = kas_dirty_new(ram->home, kas_ram_npages(ram), &ram->dirty);
	if (err)
		goto free_name;
	err = map_block(ram, config);
	if (err)
		goto end_dirty;
	return 0;

end_dirty:
	kas_dirty_end(ram->dirty);
free_name:
	kas_free(ram->home, ram->name);
	return err;
}

int kvmas_ram_new(struct kvmas *kvmas, const struct kvmas_ram_config *config,
		  struct kvmas_ram **ret)
{
	struct kvmas_ram_config ours;
	uint64_t page_size = kas_page_size();
	struct kvmas_ram *ram;
	int err;

	if (!kas_alive(kvmas))
		return -EIO;
	err = kas_config_copy(&ours, sizeof(ours), config);
	if (!err)
		err = check_config(&ours);
	if (err)
		return err;

	ram = kas_alloc(kvmas, sizeof(*ram));
	if (!ram)
		return -ENOMEM;
	ram->home = kvmas;
	ram->fd = -1;
	ram->size = (ours.size + page_size - 1) & ~(page_size - 1);
	ram->page_shift = (unsigned)__builtin_ctzll(page_size);
	ram->writable = !(ours.flags & KVMAS_RAM_READONLY);
	ram->destroy = ours.destroy;
	ram->destroy_data = ours.destroy_data;
	atomic_init(&ram->refs, 1);
	err = init_block(ram, &ours);
	if (err) {
		kas_free(kvmas, ram);
		return err;
	}
	kas_hold(kvmas);
	*ret = ram;
	return 0;
}

struct kvmas_ram *kvmas_ram_ref(struct kvmas_ram *ram)
{
	atomic_fetch_add_explicit(&ram->refs, 1, memory_order_relaxed);
	return ram;
}

void kvmas_ram_unref(struct kvmas_ram *ram)
{
	struct kvmas *home;

	if (!ram || !kas_alive(ram->home))
		return;
	if (atomic_fetch_sub_explicit(&ram->refs, 1, memory_order_acq_rel) != 1)
		return;
	home = ram->home;
	kas_dirty_end(ram->dirty);
	unmap_block(ram);
	if (ram->destroy)
		ram->destroy(ram->destroy_data);
	kas_free(home, ram->name);
	kas_free(home, ram);
	kas_let_go(home);
}

void *kvmas_ram_get_hva(const struct kvmas_ram *ram)
{
	return ram->hva;
}

uint64_t kvmas_ram_get_size(const struct kvmas_ram *ram)
{
	return ram->size;
}

const char *kvmas_ram_get_name(const struct kvmas_ram *ram)
{
	return ram->name;
}

int kvmas_ram_get_fd(const struct kvmas_ram *ram)
{
	return ram->fd;
}

int kvmas_ram_mark(struct kvmas_ram *ram, uint64_t offset, uint64_t size)
{
	uint64_t first = offset >> ram->page_shift;

	if (!kas_alive(ram->home))
		return -EIO;
	if (offset > ram->size || size > ram->size - offset)
		return -EINVAL;
	if (size)
		kas_dirty_mark(ram->dirty, first,
			       ((offset + size - 1) >> ram->page_shift) - first + 1);
	return 0;
}

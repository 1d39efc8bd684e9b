/* SPDX-License-Identifier: MIT */
/*
 * RAM blocks: the host memory behind RAM and ROM regions. A block maps (or takes) memory, keeps it
 * out of core dumps and forked children, and owns the tracker of its dirty pages. It knows nothing
 * of guest addresses.
 *
 *     hva                       floor      size                     max_size
 *      |--- shown by regions ----|- by an open -|-- mapped, never shown ---|
 *                                  transaction
 *
 * All of max_size is mapped from the start, so that growing moves nothing and whoever still looks
 * at what a shrink took away finds memory there. Changing the size is resize.c, giving pages back
 * to the host discard.c.
 *
 * Regions are made outside of transactions, and those of another kvmas have transactions of their
 * own: neither is undone with a resize. So the windows of both must fit whichever way it ends:
 * below `floor`, the smallest size since the last commit, that commit's included.
 *
 * Blocks are counted by themselves, not as objects of one kvmas, since a block may serve several:
 * the last unref unmaps at once. That is never inside a lookup or a dispatch: views hold regions,
 * and regions, which end in reclaim only, hold blocks.
 *
 * Invariants:
 *   I1  hva, size and max_size are whole host pages; hva and max_size do not change until the block
 *       ends.
 *   I2  fd >= 0 for MEMFD and FILE only, and is ours.
 *   I3  floor <= size <= max_size and floor <= committed; all three are equal when home's
 *       transaction lock is free.
 *   I4  every living user's window ends below size; that of another kvmas below floor.
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
			   KVMAS_RAM_FORK | KVMAS_RAM_GUEST_MEMFD,
	[KVMAS_RAM_MEMFD] = KVMAS_RAM_HUGETLB | KVMAS_RAM_THP | KVMAS_RAM_PREFAULT |
			    KVMAS_RAM_DUMP | KVMAS_RAM_FORK | KVMAS_RAM_GUEST_MEMFD,
	[KVMAS_RAM_FILE] = KVMAS_RAM_THP | KVMAS_RAM_PREFAULT | KVMAS_RAM_DUMP | KVMAS_RAM_FORK |
			   KVMAS_RAM_PRIVATE | KVMAS_RAM_READONLY | KVMAS_RAM_GUEST_MEMFD,
	[KVMAS_RAM_CALLER] = KVMAS_RAM_READONLY | KVMAS_RAM_GUEST_MEMFD,
};

static int check_config(const struct kvmas_ram_config *config)
{
	uint64_t mask = kas_page_size() - 1;

	if (!config->name || config->size == 0 || config->max_size > INT64_MAX - mask ||
	    config->max_size < config->size)
		return -EINVAL;
	if ((unsigned)config->source > KVMAS_RAM_CALLER)
		return -EINVAL;
	if (config->flags & ~allowed_flags[config->source])
		return -EINVAL;
	if (config->source == KVMAS_RAM_FILE && (config->fd < 0 || config->fd_offset & mask))
		return -EINVAL;
	if (config->source == KVMAS_RAM_CALLER &&
	    (!config->hva || (uintptr_t)config->hva & mask ||
	     (uintptr_t)config->hva + config->max_size + mask < (uintptr_t)config->hva))
		return -EINVAL;
	return 0;
}

/* The kernel rounds an anonymous mapping of huge pages up, and then refuses to unmap a part of its
 * last page (mm/hugetlb.c): only whole ones are asked for. They are reserved when they are mapped,
 * so that room to grow would cost as much as memory. */
static int init_huge(struct kvmas_ram *ram, const struct kvmas_ram_config *config)
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
	else if (config->size % (uint64_t)st.st_blksize || config->max_size != config->size)
		err = -EINVAL;
	else
		ram->unit = (uint64_t)st.st_blksize;
	close(fd);
	return err;
}

/* Pages past the end of a file exist, and kill whoever touches them: refuse them beforehand. */
static int check_file(int fd, uint64_t fd_offset, uint64_t size)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) &&
	    (fd_offset > (uint64_t)st.st_size || size > (uint64_t)st.st_size - fd_offset))
		return -EINVAL;
	return 0;
}

/* What cannot be written must be there from the start, unless there is no room to grow into. */
static int check_file_config(const struct kvmas_ram_config *config)
{
	bool whole = config->flags & KVMAS_RAM_READONLY;

	return check_file(config->fd, config->fd_offset, whole ? config->max_size : config->size);
}

static int open_fd(struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	unsigned flags = MFD_CLOEXEC;
	int err;

	if (config->source == KVMAS_RAM_FILE) {
		err = check_file_config(config);
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
	if (ftruncate(ram->fd, (off_t)ram->max_size) == 0)
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

/* Have the pages of a part present. MADV_POPULATE_WRITE reports what a touched page could only
 * answer with SIGBUS; before Linux 5.14 there is no safe way, and the request is refused. */
static int prefault(const struct kvmas_ram *ram, uint64_t offset, uint64_t size)
{
	int advice = ram->flags & KVMAS_RAM_READONLY ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;

	return madvise(ram->hva + offset, size, advice) ? -errno : 0;
}

static int advise(const struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	/* A kernel without transparent huge pages says EINVAL: they were asked for, not ordered. */
	if (config->flags & KVMAS_RAM_THP)
		madvise(ram->hva, ram->max_size, MADV_HUGEPAGE);
	if (!(config->flags & KVMAS_RAM_DUMP) && madvise(ram->hva, ram->max_size, MADV_DONTDUMP))
		return -errno;
	if (!(config->flags & KVMAS_RAM_FORK) && madvise(ram->hva, ram->max_size, MADV_DONTFORK))
		return -errno;
	if (config->flags & KVMAS_RAM_PREFAULT)
		return prefault(ram, 0, ram->size);
	return 0;
}

static void unmap_block(struct kvmas_ram *ram)
{
	if (ram->mapped)
		munmap(ram->hva, ram->max_size);
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
	err = init_huge(ram, config);
	if (!err)
		err = open_fd(ram, config);
	if (err)
		return err;
	if (config->flags & KVMAS_RAM_THP)
		at = reserve_aligned(ram->max_size);
	ram->fd_offset = config->source == KVMAS_RAM_FILE ? config->fd_offset : 0;
	ram->hva = mmap(at, ram->max_size, prot, mmap_flags(config) | (at ? MAP_FIXED : 0), ram->fd,
			(off_t)ram->fd_offset);
	if (ram->hva == MAP_FAILED) {
		err = -errno;
		if (at)
			munmap(at, ram->max_size);
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
	err = kas_dirty_new(ram->home, ram->max_size >> ram->page_shift, &ram->dirty);
	if (err)
		goto free_name;
	err = kas_guest_memfd_init(&ram->guest_memfd, config);
	if (err)
		goto end_dirty;
	err = map_block(ram, config);
	if (err)
		goto close_guest_memfd;
	return 0;

close_guest_memfd:
	kas_guest_memfd_fini(&ram->guest_memfd);
end_dirty:
	kas_dirty_end(ram->dirty);
free_name:
	kas_free(ram->home, ram->name);
	return err;
}

static uint64_t round_up(uint64_t size)
{
	return (size + kas_page_size() - 1) & ~(kas_page_size() - 1);
}

static void init_members(struct kvmas_ram *ram, const struct kvmas_ram_config *config)
{
	ram->fd = -1;
	ram->max_size = round_up(config->max_size);
	ram->unit = kas_page_size();
	ram->page_shift = (unsigned)__builtin_ctzll(kas_page_size());
	ram->source = config->source;
	ram->flags = config->flags;
	ram->writable = !(config->flags & KVMAS_RAM_READONLY);
	ram->destroy = config->destroy;
	ram->destroy_data = config->destroy_data;
	pthread_mutex_init(&ram->lock, NULL);
	kas_sources_init(&ram->sources, ram->home);
	TAILQ_INIT(&ram->users);
	atomic_init(&ram->size, round_up(config->size));
	kas_ram_settle(ram);
	atomic_init(&ram->refs, 1);
}

int kvmas_ram_new(struct kvmas *kvmas, const struct kvmas_ram_config *config,
		  struct kvmas_ram **ret)
{
	struct kvmas_ram_config ours;
	struct kvmas_ram *ram;
	int err;

	if (!kas_alive(kvmas))
		return -EIO;
	err = kas_config_copy(&ours, sizeof(ours), config);
	if (err)
		return err;
	if (!ours.max_size)
		ours.max_size = ours.size;
	err = check_config(&ours);
	if (err)
		return err;

	ram = kas_alloc(kvmas, sizeof(*ram));
	if (!ram)
		return -ENOMEM;
	ram->home = kvmas;
	init_members(ram, &ours);
	err = init_block(ram, &ours);
	if (err) {
		pthread_mutex_destroy(&ram->lock);
		kas_sources_fini(&ram->sources);
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
	kas_guest_memfd_fini(&ram->guest_memfd);
	pthread_mutex_destroy(&ram->lock);
	kas_sources_fini(&ram->sources);
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

uint64_t kvmas_ram_get_max_size(const struct kvmas_ram *ram)
{
	return ram->max_size;
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
	/* What lies past the size may still be written through a view from before a shrink, which
	 * may yet be undone. */
	if (offset > ram->max_size || size > ram->max_size - offset)
		return -EINVAL;
	if (size)
		kas_dirty_mark(ram->dirty, first,
			       ((offset + size - 1) >> ram->page_shift) - first + 1);
	return 0;
}

/* ---- windows, and the size they must fit ---- */

static bool fits(uint64_t offset, uint64_t last, uint64_t size)
{
	return offset <= size && last < size - offset;
}

int kas_ram_join(struct kvmas_ram *ram, struct ram_user *user)
{
	int err = 0;

	pthread_mutex_lock(&ram->lock);
	if (fits(user->offset, *user->last, ram->floor))
		TAILQ_INSERT_TAIL(&ram->users, user, of_block);
	else
		err = -EINVAL;
	pthread_mutex_unlock(&ram->lock);
	return err;
}

void kas_ram_leave(struct kvmas_ram *ram, struct ram_user *user)
{
	pthread_mutex_lock(&ram->lock);
	TAILQ_REMOVE(&ram->users, user, of_block);
	pthread_mutex_unlock(&ram->lock);
}

bool kas_ram_fits(struct kvmas_ram *ram, const struct ram_user *user, uint64_t last)
{
	bool result;

	pthread_mutex_lock(&ram->lock);
	result =
		fits(user->offset, last, user->object->kvmas == ram->home ? ram->size : ram->floor);
	pthread_mutex_unlock(&ram->lock);
	return result;
}

/* Under ram->lock and home's transaction lock, which guards the windows of home's regions; those of
 * others are not looked at. The dead can be shown no more, and only wait for their end. */
static bool is_free_past(const struct kvmas_ram *ram, uint64_t size)
{
	const struct ram_user *user;

	TAILQ_FOREACH(user, &ram->users, of_block) {
		if (kas_object_is_dead(user->object))
			continue;
		if (user->object->kvmas != ram->home || !fits(user->offset, *user->last, size))
			return false;
	}
	return true;
}

int kas_ram_set_size(struct kvmas_ram *ram, uint64_t size)
{
	int err = -EBUSY;

	pthread_mutex_lock(&ram->lock);
	if (is_free_past(ram, size)) {
		ram->size = size;
		ram->floor = size < ram->floor ? size : ram->floor;
		err = 0;
	}
	pthread_mutex_unlock(&ram->lock);
	return err;
}

/* Others of the same transaction may still be to be undone, so that the size is not yet that which
 * was committed; but none that it will have from here on is smaller than both. */
void kas_ram_restore_size(struct kvmas_ram *ram, uint64_t size)
{
	pthread_mutex_lock(&ram->lock);
	ram->size = size;
	ram->floor = size < ram->committed ? size : ram->committed;
	pthread_mutex_unlock(&ram->lock);
}

void kas_ram_settle(struct kvmas_ram *ram)
{
	ram->committed = ram->size;
	kas_ram_restore_size(ram, ram->size);
}

/* ---- pages ---- */

int kas_ram_check_backing(const struct kvmas_ram *ram, uint64_t size)
{
	return ram->source == KVMAS_RAM_FILE ? check_file(ram->fd, ram->fd_offset, size) : 0;
}

int kas_ram_prefault(const struct kvmas_ram *ram, uint64_t offset, uint64_t size)
{
	return ram->flags & KVMAS_RAM_PREFAULT ? prefault(ram, offset, size) : 0;
}

static int give_back_shared(const struct kvmas_ram *ram, uint64_t offset, uint64_t size)
{
	bool shared = ram->fd >= 0 && !(ram->flags & KVMAS_RAM_PRIVATE);

	return madvise(ram->hva + offset, size, shared ? MADV_REMOVE : MADV_DONTNEED) ? -errno : 0;
}

int kas_ram_give_back(const struct kvmas_ram *ram, uint64_t offset, uint64_t size)
{
	int err = give_back_shared(ram, offset, size);

	if (err || !kas_guest_memfd_is_there(&ram->guest_memfd) || ram->guest_memfd.is_source)
		return err;
	return kas_guest_memfd_give_back(&ram->guest_memfd, offset, size);
}

int kas_ram_give_back_side(const struct kvmas_ram *ram, uint64_t offset, uint64_t size,
			   bool private_side)
{
	uint64_t first = (offset + ram->unit - 1) & ~(ram->unit - 1);
	uint64_t end = (offset + size) & ~(ram->unit - 1);

	if (ram->guest_memfd.is_source)
		return 0;
	if (private_side)
		return kas_guest_memfd_give_back(&ram->guest_memfd, offset, size);
	if (!ram->mapped || first >= end)
		return 0;
	return give_back_shared(ram, first, end - first);
}

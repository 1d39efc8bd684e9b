/* SPDX-License-Identifier: MIT */
/*
 * The guest_memfd behind a RAM block: a file of KVM's, bound to one VM, from which KVM takes a
 * guest's pages without looking at any mapping of this process (virt/kvm/guest_memfd.c). The block
 * has two sides then:
 *
 *     hva            what is shared: the VMM reads and writes it, as any block's
 *     guest_memfd    what is private: page i of the block is page i behind `offset`
 *
 * Which of the two the guest sees is said by page of its addresses: private.c. Where a VM knows no
 * such thing, and the file may be mapped, the guest sees the file alone; the block's source is then
 * the file as well, so that both sides are one (`is_source`).
 *
 * The size of such a file never changes: what it holds is checked once, for all that the block may
 * grow to.
 *
 * Two blocks may be made of one file. KVM lets each of its pages be in one slot only (claims.c), so
 * it matters which file a block has: device and inode tell.
 */
#include "guest_memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ram.h"

/* Whether the block's source is this file, too. */
static bool is_source(const struct kvmas_ram_config *config, const struct stat *file)
{
	struct stat st;

	return config->source == KVMAS_RAM_FILE && fstat(config->fd, &st) == 0 &&
	       st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

static int check_config(const struct kvmas_ram_config *config)
{
	unsigned unfit = KVMAS_RAM_PRIVATE | KVMAS_RAM_READONLY;

	if (config->guest_memfd < 0 || config->guest_memfd_offset & (kas_page_size() - 1) ||
	    config->flags & unfit)
		return -EINVAL;
	return 0;
}

int kas_guest_memfd_init(struct guest_memfd *file, const struct kvmas_ram_config *config)
{
	uint64_t offset = config->guest_memfd_offset;
	uint64_t mask = kas_page_size() - 1;
	uint64_t size = (config->max_size + mask) & ~mask;
	struct stat st;
	int err;

	file->fd = -1;
	if (!(config->flags & KVMAS_RAM_GUEST_MEMFD))
		return 0;
	err = check_config(config);
	if (err)
		return err;
	if (fstat(config->guest_memfd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || offset > (uint64_t)st.st_size ||
	    size > (uint64_t)st.st_size - offset)
		return -EINVAL;
	file->is_source = is_source(config, &st);
	if (file->is_source && config->fd_offset != offset)
		return -EINVAL;
	file->fd = fcntl(config->guest_memfd, F_DUPFD_CLOEXEC, 0);
	if (file->fd < 0)
		return -errno;
	file->offset = offset;
	file->device = st.st_dev;
	file->inode = st.st_ino;
	return 0;
}

void kas_guest_memfd_fini(const struct guest_memfd *file)
{
	if (kas_guest_memfd_is_there(file))
		close(file->fd);
}

bool kas_guest_memfd_equal(const struct guest_memfd *a, const struct guest_memfd *b)
{
	return a->device == b->device && a->inode == b->inode;
}

int kas_guest_memfd_give_back(const struct guest_memfd *file, uint64_t offset, uint64_t size)
{
	return fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)(file->offset + offset), (off_t)size)
		       ? -errno
		       : 0;
}

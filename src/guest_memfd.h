/* SPDX-License-Identifier: MIT */
/* The guest_memfd behind a RAM block: see guest_memfd.c. */
#ifndef KAS_GUEST_MEMFD_H
#define KAS_GUEST_MEMFD_H

#include <kvmas.h>
#include <sys/types.h>

struct guest_memfd {
	int fd;          /* ours; -1 for none: then nothing of what follows counts */
	uint64_t offset; /* in it, of the block's first byte */
	dev_t device;    /* which file it is */
	ino_t inode;
	bool is_source; /* the block's memory is the same pages: there is no other side */
};

/* Take the one that a block's config names, if it names one. -EINVAL for a file that is none, or
 * ends before the block's maximal size; what fstat(2) and fcntl(2) say. */
int kas_guest_memfd_init(struct guest_memfd *file, const struct kvmas_ram_config *config);
void kas_guest_memfd_fini(const struct guest_memfd *file);

static inline bool kas_guest_memfd_is_there(const struct guest_memfd *file)
{
	return file->fd >= 0;
}

/* Whether two of them, which are there, are the same file. */
bool kas_guest_memfd_equal(const struct guest_memfd *a, const struct guest_memfd *b);

/* Give pages of the block back to the host; what the guest finds there next is zero. */
int kas_guest_memfd_give_back(const struct guest_memfd *file, uint64_t offset, uint64_t size);

#endif

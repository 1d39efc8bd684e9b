/* SPDX-License-Identifier: MIT */
/* RAM blocks, as the rest of the library sees them: see ram.c. Changing the size: resize.c. */
#ifndef KAS_RAM_H
#define KAS_RAM_H

#include "dirty.h"
#include "guest_memfd.h"
#include "object.h"
#include "sources.h"

/* A region that shows a part of a block, from its byte *offset* on. Part of the region. */
struct ram_user {
	const struct object *object; /* the region's: whose it is, and whether it is dead */
	uint64_t offset;
	const uint64_t *last; /* of the region: changes in transactions of its kvmas only */
	TAILQ_ENTRY(ram_user) of_block;
};

struct kvmas_ram {
	struct kvmas *home; /* whose allocator and log it uses; held */
	atomic_uint refs;
	char *name;
	unsigned char *hva;
	uint64_t max_size; /* mapped, in whole host pages */
	uint64_t unit;     /* of the host's memory: page size, or that of huge pages */
	unsigned page_shift;
	enum kvmas_ram_source source;
	unsigned flags;
	bool mapped;   /* by us: not the caller's memory */
	bool writable; /* by this process */
	int fd;        /* ours; -1 for none */
	uint64_t fd_offset;
	struct guest_memfd guest_memfd;
	struct dirty *dirty;
	struct sources sources;
	void (*destroy)(void *data);
	void *destroy_data;

	pthread_mutex_t lock; /* a leaf: guards what follows, but for reading size */
	_Atomic(uint64_t) size;
	uint64_t floor;     /* the smallest size since the last commit */
	uint64_t committed; /* the size by the last commit, under home's transaction lock */
	TAILQ_HEAD(, ram_user) users;
};

/* The size and shift of the host's pages, which are KVM's on it. */
uint64_t kas_page_size(void);

/* A region comes to show a block, or ends. -EINVAL if its window ends past the block's end, as it
 * is or as it may be after an abort. */
int kas_ram_join(struct kvmas_ram *ram, struct ram_user *user);
void kas_ram_leave(struct kvmas_ram *ram, struct ram_user *user);

/* Whether a window may be changed to end at byte *last* of its region, in a transaction of the
 * region's kvmas. */
bool kas_ram_fits(struct kvmas_ram *ram, const struct ram_user *user, uint64_t last);

/* For resize.c, in a transaction of home's. -EBUSY if a window does not fit, or is not home's. */
int kas_ram_set_size(struct kvmas_ram *ram, uint64_t size);
void kas_ram_restore_size(struct kvmas_ram *ram, uint64_t size);
/* The size is committed. */
void kas_ram_settle(struct kvmas_ram *ram);

/* -EINVAL if a block of this many bytes would end past the end of its file. */
int kas_ram_check_backing(const struct kvmas_ram *ram, uint64_t size);
/* Have a part present, if that was asked for. */
int kas_ram_prefault(const struct kvmas_ram *ram, uint64_t offset, uint64_t size);
/* Return the memory of a part to the host; what reads find there then is zero, or the file. With a
 * guest_memfd, that of both sides. */
int kas_ram_give_back(const struct kvmas_ram *ram, uint64_t offset, uint64_t size);
/* The same for one side of a block with a guest_memfd: for all units of the host's memory that lie
 * in the part. Nothing goes of the caller's memory, or where there is but one side. */
int kas_ram_give_back_side(const struct kvmas_ram *ram, uint64_t offset, uint64_t size,
			   bool private_side);

#endif

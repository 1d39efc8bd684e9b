/* SPDX-License-Identifier: MIT */
/* RAM blocks, as the rest of the library sees them: see ram.c. */
#ifndef KAS_RAM_H
#define KAS_RAM_H

#include "dirty.h"
#include "object.h"

struct kvmas_ram {
	struct kvmas *home; /* whose allocator and log it uses; held */
	atomic_uint refs;
	char *name;
	unsigned char *hva;
	uint64_t size; /* whole host pages */
	unsigned page_shift;
	bool mapped;   /* by us: not the caller's memory */
	bool writable; /* by this process */
	int fd;        /* ours; -1 for none */
	uint64_t fd_offset;
	struct dirty *dirty;
	void (*destroy)(void *data);
	void *destroy_data;
};

static inline uint64_t kas_ram_npages(const struct kvmas_ram *ram)
{
	return ram->size >> ram->page_shift;
}

/* The size and shift of the host's pages, which are KVM's on it. */
uint64_t kas_page_size(void);

#endif

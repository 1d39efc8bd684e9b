/* SPDX-License-Identifier: MIT */
/*
 * A space for the tests of DMA, maps and caches, and devices that are bytes. With pages of 0x1000
 * bytes it shows
 *
 *     00000  a      RAM of two pages
 *     02000  rom
 *     03000  dev    a device of 0x100 bytes, that takes any access; nothing behind
 *     04000  b      RAM
 *     05000  romd   a ROM device: writes go to a device
 *     06000         the first page of a, readonly
 *     07000         reserved
 *     08000  low    RAM: the first page of a block of two
 *     09000  high   RAM: the second page of it
 *     0a000  left   RAM: a block of one page of the caller's memory
 *     0b000  right  RAM: a block of the caller's page behind it
 *     0c000  strict a device of 0x100 bytes, that takes 4 aligned bytes at a time
 *     0c100         dev, readonly
 *     top           RAM: the last page below 2^64
 *
 * and a client has a clean bitmap on each block.
 */
#ifndef DMA_FIXTURE_H
#define DMA_FIXTURE_H

#include "fixture.h"

#define TOP_PAGE (UINT64_MAX - 0xfff)

/* A device: what is written can be read. */
struct card {
	struct kvmas_region *region;
	unsigned char *bytes;
	uint64_t bad; /* accesses that reach this byte, or one behind, are refused: */
	int refusal;
	unsigned reads;
	unsigned writes;
	struct kvmas_access seen; /* the last */
	/* Called before anything else, if there is one. */
	int (*on_access)(struct card *card, const struct kvmas_access *access);
	void *data;
};

struct guest {
	struct fixture *f;
	struct kvmas_region *root;
	struct kvmas_region *a;
	struct kvmas_region *rom;
	struct kvmas_region *b;
	struct kvmas_region *low;
	struct kvmas_region *high;
	struct kvmas_region *left;
	struct kvmas_region *right;
	struct kvmas_region *top;
	struct card dev;
	struct card romd;
	struct card strict;
	struct kvmas_space *space;
	struct kvmas_client *client;
	struct kvmas_dma dma; /* by the fixture's reader */
};

void guest_init(struct guest *guest, struct fixture *f);
void guest_fini(struct guest *guest);

/* A region of a card, of any kind that has ops; nobody accesses it after card_fini. One takes what
 * is valid as it comes, the other anything, byte by byte. */
void card_init(struct card *card, struct fixture *f, struct kvmas_region_config config,
	       struct kvmas_access_rules valid);
void card_init_bytewise(struct card *card, struct fixture *f, struct kvmas_region_config config);
void card_fini(struct card *card);

/* A RAM region on some part of a block; the fixture's. */
struct kvmas_region *make_window(struct fixture *f, const char *name, struct kvmas_ram *ram,
				 uint64_t ram_offset, uint64_t size);

/* Of a region's memory. */
unsigned char *memory_of(const struct kvmas_region *region);

/* The dirty pages of a block, or a region's, as bits; they are clean then. */
uint64_t take_pages(struct kvmas_client *client, struct kvmas_ram *ram);
uint64_t take_dirty(const struct guest *guest, const struct kvmas_region *region);

/* No page of any region is dirty but those of *except*, which may be NULL. */
void assert_clean(const struct guest *guest, const struct kvmas_region *except);

/* i-th byte of a pattern that no piece of memory has by chance. */
static inline unsigned char pattern(uint64_t i)
{
	return (unsigned char)(i * 7 + (i >> 8) * 3 + 1);
}

#endif

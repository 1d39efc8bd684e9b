/* SPDX-License-Identifier: MIT */
/*
 * A small space, whose regions move, change and hide each other, and beside it a model that knows
 * for each address which byte of what is there. Devices are asked for single bytes, so that what
 * arrives before one refuses is known, too.
 */
#ifndef DMA_MODEL_H
#define DMA_MODEL_H

#include "dma-fixture.h"

enum {
	ADDRESSES = 0x6000,
	LARGEST = 0x800, /* of accesses */
	BLOCK = 0x2000,
	DEVICE = 0x1000,
	NBLOCKS = 4,
	NDEVICES = 3,
	NPLACES = 9,
	NMAPS = 4,
	NCACHES = 3,
	RUN = 400, /* steps */
};

/* A region, as the model knows it. */
struct place {
	enum kvmas_region_kind kind;
	int block;     /* -1 for none */
	unsigned from; /* in the block */
	int device;    /* -1 for none */
	unsigned most; /* bytes */
	struct kvmas_region *region;
	unsigned offset;
	unsigned size;
	int priority;
	bool enabled;
	bool readonly;
	bool romd;
};

/* One byte of the guest's: of memory, of a device, or none. */
struct spot {
	int block;
	int device;
	unsigned at;
};

struct held {
	struct kvmas_map *map;
	unsigned flags;
	unsigned gpa;
	unsigned size;
	struct spot spots[LARGEST]; /* of memory; what has no block is a copy */
};

struct model {
	uint64_t seed;
	uint64_t random;
	struct fixture *f;
	unsigned bounce; /* how much maps may copy */
	struct kvmas_dma dma;
	struct kvmas_client *client;
	struct place places[NPLACES];
	signed char top[ADDRESSES]; /* which place is seen; -1 for none */
	int highest;                /* priority */
	struct kvmas_ram *rams[NBLOCKS];
	unsigned char blocks[NBLOCKS][BLOCK];
	uint64_t dirty[NBLOCKS];
	struct card cards[NDEVICES];
	unsigned char devices[NDEVICES][DEVICE];
	struct held maps[NMAPS];
	struct kvmas_cache caches[NCACHES];
	unsigned results[200]; /* how often, by errno */
};

/* A number below *below*, or bytes, by the seed. */
uint64_t draw(struct model *m, uint64_t below);
void draw_bytes(struct model *m, unsigned char *bytes, unsigned size);

void model_init(struct model *m, uint64_t seed);
void model_fini(struct model *m);

/* Change regions, one or some in a transaction; and what devices refuse. */
void model_edit(struct model *m);

/* What an access to an address reaches: -ENXIO, -EROFS. A device's word is not asked for, or it is:
 * -ENODEV. */
int model_find(const struct model *m, uint64_t gpa, bool write, struct spot *ret);
int model_reach(const struct model *m, uint64_t gpa, bool write, struct spot *ret);

/* The model's byte of a spot; and the host's, of memory. */
unsigned char *byte_of(struct model *m, const struct spot *spot);
unsigned char *hva_of(const struct model *m, const struct spot *spot);

/* Memory there is to be dirty; or is written, or the device, and is so. */
void mark_spot(struct model *m, const struct spot *spot);
void write_byte(struct model *m, const struct spot *spot, unsigned char byte);

/* How often something was returned: by errno. */
void count_result(struct model *m, int result);

/* All memory and all devices are as in the model, and just the pages dirty that are to be. */
void model_check(struct model *m);

#endif

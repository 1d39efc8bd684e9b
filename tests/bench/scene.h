/* SPDX-License-Identifier: MIT */
/* A tree of any size, shown by spaces, followed by listeners and maybe by KVM. See scene.c. */
#ifndef SCENE_H
#define SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvmas.h>

#include "meter.h"

struct fake_kvm;

enum { SCENE_MAX_SPACES = 17, SCENE_NRAM = 4 };

#define SCENE_PAGE UINT64_C(0x1000) /* the size of all devices but the lid */
#define SCENE_LID (UINT64_C(1) << 40)
#define SCENE_LID_SIZE (16 * SCENE_PAGE)
#define SCENE_RAM_SIZE (UINT64_C(1) << 20)

struct scene_config {
	unsigned ndevices;
	unsigned nspaces; /* 1, 2 or SCENE_MAX_SPACES, see scene.c */
	bool tied;        /* the first space, to the double of KVM */
	bool memory;      /* the devices are RAM, all of one block */
};

/* A listener, counting. */
struct ear {
	uint64_t begins;
	uint64_t sections; /* added or deleted */
	uint64_t logs;     /* log_start, log_stop, log_sync */
	uint64_t commits;
};

/* What the next change is: drawn outside of the clock. */
struct choice {
	struct kvmas_region *region;
	uint64_t offset;
	bool enabled;
};

struct scene {
	struct scene_config config;
	struct meter meter;
	struct {
		size_t bare;    /* before the first device */
		size_t devices; /* when all are in the tree, which no space shows yet */
		size_t shown;   /* when the spaces show it */
	} bytes;                /* held by the library */

	struct kvmas *kvmas;
	struct kvmas_region *system;   /* holds the devices, lid and hidden */
	struct kvmas_region **devices; /* MMIO, or RAM, in a gap each */
	struct kvmas_ram *block;       /* theirs, if they are RAM */
	struct kvmas_region *lid;      /* lies over hidden, whole */
	struct kvmas_region *hidden;
	struct kvmas_region *attic; /* holds detached; no space shows it */
	struct kvmas_region *detached;

	struct kvmas_region *roots[SCENE_MAX_SPACES];
	struct kvmas_region *aliases[SCENE_MAX_SPACES]; /* of system, where a root holds one */
	struct kvmas_space *spaces[SCENE_MAX_SPACES];
	struct kvmas_listener *listeners[SCENE_MAX_SPACES];
	struct ear ears[SCENE_MAX_SPACES];

	struct kvmas_region *ram[SCENE_NRAM];
	struct fake_kvm *vm;
	struct kvmas_kvm *kvm;
	uint64_t nioctls;

	uint64_t seed;
	uint32_t *gaps;      /* the first ndevices: where each device is; then the free ones */
	unsigned char *page; /* of its gap, for each device */
	struct kvmas_region *disabled; /* the one that is; NULL: none */
	struct choice choice;
};

/* Failures end the program. */
void scene_open(struct scene *scene, const struct scene_config *config);
/* Demands every byte back. */
void scene_close(struct scene *scene);

/* A number below *below*, the same ones in each run. */
uint64_t scene_random(struct scene *scene, uint64_t below);

/* How many gaps there are. */
unsigned scene_ngaps(const struct scene *scene);
/* Where a device belongs by its gap and page, and a piece of RAM. */
uint64_t scene_place(const struct scene *scene, unsigned device);
uint64_t scene_ram_place(unsigned index);

#endif

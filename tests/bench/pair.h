/* SPDX-License-Identifier: MIT */
/* Two VMs with the same slots, one of them the library's. See pair.c. */
#ifndef PAIR_H
#define PAIR_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include <kvmas.h>

enum work {
	WORK_DROP,
	WORK_MAKE,
	WORK_FLIP,
	WORK_READONLY,
	WORK_MOVE,
	NWORKS,
};

/* Slot ioctls, as they were issued. */
struct tape {
	struct kvm_userspace_memory_region *calls;
	size_t count;
};

/* A box with a region for each slot, shown by a space. */
struct tree {
	struct kvmas *kvmas;
	uint64_t page; /* the host's page size */
	struct kvmas_ram *ram;
	struct kvmas_region *root, *box;
	struct kvmas_region **regions; /* in the box */
	struct kvmas_space *space;
};

struct pair {
	unsigned nslots;
	int vm_fd;  /* the library's */
	int raw_fd; /* has what was replayed on it */

	struct tree tied, bare; /* alike, but that no KVM follows the second */
	struct kvmas_kvm *kvm;

	size_t capacity;      /* of each tape */
	struct tape *tape;    /* what the library issues now goes here */
	struct tape tapes[2]; /* for whoever takes turns */
	uint64_t seed;
	unsigned drawn; /* the slot that is meant, where it is one */
};

const char *work_name(enum work work);
/* How many slot ioctls it takes, by each VM, with so many slots. */
unsigned work_calls(enum work work, unsigned nslots);

/* 0, or -1 with errno: there is no KVM. Other failures end the program. */
int pair_open_kvm(void);

void pair_open(struct pair *pair, int kvm_fd, unsigned nslots);
void pair_close(struct pair *pair);

/* Do it on the library's VM, to the slot that was drawn or all, and have the ioctls on the tape. */
void pair_draw(struct pair *pair);
void pair_do(struct pair *pair, enum work work, struct tape *tape);
/* Do it on the tree that no KVM follows. */
void pair_do_bare(const struct pair *pair, enum work work);
/* Do it on the other VM. */
void pair_replay(const struct pair *pair, const struct tape *tape);

struct kvmas_kvm_stats pair_stats(const struct pair *pair);
/* Demand that the library did this work so many times between the two, and nothing else. */
void pair_expect(const struct pair *pair, enum work work, uint64_t times,
		 const struct kvmas_kvm_stats *before);

#endif

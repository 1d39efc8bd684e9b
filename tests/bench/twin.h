/* SPDX-License-Identifier: MIT */
/* Two VMs with the same slots and a writing vCPU each, one of them the library's. See twin.c. */
#ifndef TWIN_H
#define TWIN_H

#include <kvmas.h>

#include "bare.h"

enum { TWIN_MAX_CLIENTS = 3, TWIN_MAX_PIECES = 64 };

struct twin_config {
	enum kvmas_kvm_log log;
	unsigned npieces; /* that RAM is cut into: a slot each */
	bool second;      /* a second space, that shows all of the first, and SMRAM */
	bool log_second;  /* what is written through that one is wanted, too */
	uint64_t npages;  /* of RAM: at least 64 for each piece, and 3 GiB at most */
};

struct twin {
	struct twin_config config;
	uint64_t page; /* the host's page size */
	struct writer tied, other;
	struct bare bare; /* the other's log */

	struct kvmas *kvmas;
	struct kvmas_ram *ram, *code, *smram;
	struct kvmas_region *ram_region; /* in no container: pieces show it */
	struct kvmas_region *root, *smm_root;
	struct kvmas_space *space, *smm;
	struct kvmas_kvm *kvm;
	struct kvmas_vcpu *vcpu; /* in ring mode */
	struct kvmas_client *clients[TWIN_MAX_CLIENTS];
	unsigned nclients;
	uint64_t *taken[TWIN_MAX_CLIENTS]; /* by each client, last */

	bool timed;        /* knob: take the time of the library's ioctls */
	uint64_t ioctl_ns; /* then */
	unsigned ioctls;   /* the library's, about dirty pages */
	unsigned caps;     /* that it has switched on */
};

/* 0; -EOPNOTSUPP where this KVM cannot log so, or has one space where two are needed. Other
 * failures end the program. */
int twin_open(struct twin *twin, int kvm_fd, const struct twin_config *config);
void twin_close(struct twin *twin);

/* Have so many clients, at least one. The memory of each one's bitmap is touched. */
void twin_set_clients(struct twin *twin, unsigned count);

/* Logging stops, and starts anew, on both VMs. */
void twin_restart(struct twin *twin);

/* What is measured: one space is synced, and each client takes all of RAM; and on the other VM the
 * same without the library. */
void twin_cycle(struct twin *twin);
void twin_sync(struct twin *twin);
void twin_take(struct twin *twin);
void twin_bare_cycle(struct twin *twin);

/* Both spaces are synced, and each client takes. */
void twin_cycle_of_two(struct twin *twin);

/* Demand that each client was told of just these pages. */
void twin_expect(const struct twin *twin, const struct load *load);

#endif

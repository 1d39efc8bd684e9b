/* SPDX-License-Identifier: MIT */
/* The dirty rings of a VM's vCPUs: see ring.c. */
#ifndef KAS_RING_H
#define KAS_RING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct kvm_dirty_gfn;
struct kvmas_kvm;

/* How well it is known where KVM goes on in a ring. */
enum ring_place {
	RING_LOST,
	RING_GUESSED,
	RING_LOCATED,
};

/* One vCPU's. Part of it. */
struct ring {
	struct kvm_dirty_gfn *at; /* shared with KVM, and with whoever else maps the vCPU's fd */
	uint32_t next;            /* the entry that KVM fills next, */
	enum ring_place place;    /* for all we know */
	TAILQ_ENTRY(ring) all;
};

/* All of a tie's. Part of it. */
struct rings {
	pthread_mutex_t lock; /* guards what follows; and the slot tables, which change under the
				 transaction lock and this one */
	uint32_t entries;     /* of each ring: a power of two; 0 if the VM has none */
	uint64_t owed;        /* entries that were read, and their pages are not armed yet */
	bool interrupted;     /* some of what is owed may be armed */
	TAILQ_HEAD(, ring) all;
};

void kas_rings_init(struct rings *rings);
void kas_rings_fini(struct rings *rings);

/* Have the VM keep rings. -EOPNOTSUPP; what KVM says. */
int kas_rings_enable(struct kvmas_kvm *kvm);

/* A ring whose *at* is set comes; or goes, what is in it being read. */
void kas_ring_add(struct kvmas_kvm *kvm, struct ring *ring);
void kas_ring_del(struct kvmas_kvm *kvm, struct ring *ring);

/* Read all rings into the bitmaps of the blocks, and have KVM watch these pages again. Any thread.
 * What KVM refuses the latter with; clients cannot take the pages then. */
int kas_rings_harvest(struct kvmas_kvm *kvm);

/* The same, of a ring that KVM says is full: what is in it is found, wherever. */
int kas_ring_empty(struct kvmas_kvm *kvm, struct ring *ring);

/* Whether there are pages that were read, and could not be armed yet. */
bool kas_rings_owe(struct kvmas_kvm *kvm);

/* Wait until all pages that were read are watched again. The same errors. */
int kas_rings_settle(struct kvmas_kvm *kvm);

#endif

/* SPDX-License-Identifier: MIT */
/* Coalesced writes: see coalesced.c. */
#ifndef KAS_COALESCED_H
#define KAS_COALESCED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct kvm_coalesced_mmio_ring;
struct kvmas_kvm;
struct kvmas_reader;
struct kept_write;

/* KVM's ring, as one vCPU maps it. Part of the vCPU. */
struct coalesced_ring {
	struct kvm_coalesced_mmio_ring *at; /* NULL: its mapping ends before */
	LIST_ENTRY(coalesced_ring) all;
};

/* Of a tie. Part of it. */
struct coalesced {
	unsigned page;      /* where the ring is in a vCPU's mapping; 0: KVM has none */
	bool pio;           /* KVM has zones of ports, too */
	atomic_bool used;   /* KVM has, or has had, a zone */
	atomic_bool broken; /* the ring made no sense, and nobody has been told */

	pthread_mutex_t turn;   /* held by who hands on */
	_Atomic(uintptr_t) who; /* that thread; 0: none */
	atomic_size_t pending;  /* writes that are kept, or being handed on */

	pthread_mutex_t lock;              /* a leaf: guards all that follows */
	LIST_HEAD(, coalesced_ring) rings; /* one page, as often as it is mapped */
	unsigned nwithout;                 /* vCPUs whose mapping ends before */
	bool located;                      /* what follows is known */
	_Atomic(uint32_t) first;           /* what KVM has been told of it; set under the lock, */
	_Atomic(uint32_t) next;            /* like the entry to be handed on next */
	/* Writes taken from the ring before a view changed: *count* of them, from *head* on. */
	struct kept_write *kept;
	size_t head;
	size_t count;
	size_t capacity;
};

void kas_coalesced_init(struct kvmas_kvm *kvm);
void kas_coalesced_fini(struct kvmas_kvm *kvm);

/* Find out what KVM can. What KVM says, if that is an error. */
int kas_coalesced_ask(struct kvmas_kvm *kvm);

/* KVM is to be given a zone: false if there is a vCPU that could not read the ring. */
bool kas_coalesced_begin(struct kvmas_kvm *kvm);

/* A vCPU comes, with its mapping; or goes. -EINVAL if there may be zones, and it lacks the ring. */
int kas_coalesced_add(struct kvmas_kvm *kvm, struct coalesced_ring *ring, void *run,
		      size_t run_size);
void kas_coalesced_del(struct kvmas_kvm *kvm, struct coalesced_ring *ring);

/* Have room for all that the ring can hold, if there is, or *begins*, a zone: -ENOMEM. And then
 * take it out of the ring, to be handed on later by the views of now. Under the transaction lock. */
int kas_coalesced_reserve(struct kvmas_kvm *kvm, bool begins);
void kas_coalesced_keep(struct kvmas_kvm *kvm);

/* Whether something is to be handed on that the vCPU of this ring wrote, or could have seen. */
bool kas_coalesced_waits(const struct kvmas_kvm *kvm, const struct coalesced_ring *ring);

/* Hand on what was written before this call, outside of callbacks; not with the transaction lock:
 * then nothing happens. */
void kas_coalesced_drain(struct kvmas_kvm *kvm, struct kvmas_reader *reader);

/* -EPROTO once if the ring has made no sense, and has been emptied; else 0. */
int kas_coalesced_check(struct kvmas_kvm *kvm);

#endif

/* SPDX-License-Identifier: MIT */
/* Two devices with event channels in a world that changes: what is written there arrives once, and
 * in order. See desk.c. */
#ifndef DESK_H
#define DESK_H

#include "../fake-kvm.h"
#include "world.h"

enum { NTRAYS = 2, NWRITERS = 4, NVCPUS = 2 };

#define DESK (SHELF + (UINT64_C(1) << 24)) /* its address in both sides */

struct desk;

struct tray {
	struct device device; /* never taken away; first, for world.c looks at it */
	struct desk *desk;
	bool has_zone, has_bell; /* under the transaction lock */
};

/* Who writes: a vCPU, or an I/O thread. */
struct writer {
	struct desk *desk;
	unsigned number;
	struct fake_kvm_vcpu *cpu; /* NULL for an I/O thread */
	struct kvmas_vcpu *vcpu;
	/* Sheets: the last one's number. Who takes one looks here, too: ThreadSanitizer does not
	 * know that the ring, which says the same, is one page mapped several times. */
	_Atomic(uint64_t) written;
	/* By whoever hands on, or answers: one thread at a time, without a lock. */
	uint64_t arrived;
	/* The same two, for others: what has been stored, and what has arrived. */
	_Atomic(uint64_t) stored, seen;
};

struct desk {
	struct world *world;
	struct fake_kvm *vm;
	struct kvmas_kvm *kvm;
	struct tray trays[NTRAYS];
	bool swapped;                    /* under the transaction lock */
	int eventfd;                     /* both bells' */
	struct writer writers[NWRITERS]; /* the first NVCPUS are vCPUs */

	atomic_ulong rung;    /* by writers; */
	atomic_ulong by_hand; /* of these, those that called the device */
	atomic_ulong edits;
	atomic_ulong in_turns; /* sheets that one thread wrote and another handed on */
};

void desk_init(struct desk *desk, struct world *world);
/* See that all has arrived; clean up. */
void desk_fini(struct desk *desk);

/* Swap the trays, or give one a channel, or take one away; or do so and abort. */
void desk_edit(struct desk *desk, uint64_t *seed);

/* A vCPU: comes, writes a sheet or rings, has an exit now and then, goes. */
void writer_come(struct writer *writer);
void writer_store(struct writer *writer, uint64_t *seed);
void writer_go(struct writer *writer);

/* An I/O thread does the same. */
void writer_transfer(struct writer *writer, struct kvmas_reader *reader, uint64_t *seed);

/* Have all arrive that was stored before. */
void desk_drain(struct desk *desk, struct kvmas_reader *reader);

#endif

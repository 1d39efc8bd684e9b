/* SPDX-License-Identifier: MIT */
/*
 * A random machine on a double of KVM: three spaces, two of them bound at a time, that show the
 * same few blocks in many places; policies, boundaries, budgets and reservations; clients that
 * start and stop logs; a guest that writes in both spaces; a KVM, a VMM and a heap that fail.
 *
 *     kvm-model.c         choices, worlds, one step
 *     kvm-model-commit.c  transactions: foretold, failed, and judged
 *     kvm-model-edit.c    what is changed in them
 *     kvm-model-dirty.c   the guest, and the shadow of what it wrote
 *     kvm-model-take.c    the clients, and a device that must be armed
 *     kvm-referee.c       what slots should be, and what it may cost to get there
 *
 * Choices come from a generator, or from bytes, for a fuzzer. Whatever is wrong fails the test that
 * runs.
 */
#ifndef KVM_MODEL_H
#define KVM_MODEL_H

#include "choices.h"
#include "kvm-guest.h"
#include "kvm-referee.h"

enum {
	NBLOCKS = 3,
	BLOCK_PAGES = 96,
	WORLD_PAGES = 192,
	NVIEWS = 3,
	NCLIENTS = 3,
	NCONTAINERS = NVIEWS + 1,
	NKINDS = 7,
	NREGIONS = 6 * NKINDS,
	MAX_WISHES = 64,
	MAX_RESERVED = 6,
};

/* What was done, over all worlds. */
struct kvm_tally {
	unsigned steps;
	unsigned commits; /* that succeeded */
	unsigned changed; /* of those: slots changed */
	unsigned failed;  /* commits that did not succeed */
	unsigned refused; /* of those: foretold by a dry run */
	unsigned broken;  /* of those: left slots and views apart */
	unsigned repaired;
	unsigned moves;
	unsigned merges; /* commits in which a space had too many slots */
	unsigned stops;
	unsigned torn; /* commits that unmapped bytes for a moment */
	uint64_t taken;
	unsigned runs; /* of pages, that were handed to a client */
	unsigned refused_takes;
	unsigned put_back;
	unsigned full;    /* exits because of a ring */
	unsigned cleared; /* calls that armed pages: KVM's, and a listener's */
};

struct wish {
	unsigned client;
	struct kvmas_region *region; /* NULL: all */
	struct kvmas_space *space;   /* NULL: all */
};

/* What a transaction changes and its failure takes back. */
struct intent {
	struct wish wishes[MAX_WISHES];
	unsigned nwishes;
	struct kvmas_space *bound[NSPACES]; /* NULL: not bound */
	struct terms terms[NSPACES];
};

typedef bool pages_of_blocks[NBLOCKS][BLOCK_PAGES];

struct world {
	struct machine *m;
	struct choices choices;
	struct kvm_tally *tally;
	struct kvmas_space *views[NVIEWS];
	struct kvmas_region *containers[NCONTAINERS]; /* the roots, and one that all may show */
	struct kvmas_region *regions[NREGIONS];
	unsigned home[NREGIONS]; /* where it shows its block's pages next to those of others */
	struct kvmas_ram *blocks[NBLOCKS];
	struct intent now, next; /* committed; and in this transaction */
	pages_of_blocks must[NCLIENTS], may[NCLIENTS];
	unsigned nreserved;
	unsigned gpa_bits;
	bool fresh_is_dirty; /* KVMAS_KVM_LOG_MANUAL_SET */
	bool lied;           /* the hook gave, in this step, what KVM never gives */

	/* A device that writes to what views[0] shows, and notes each page once, until it is
	 * armed. */
	struct kvmas_listener *device;
	pages_of_blocks noted, unarmed;
	int device_result; /* what it answers when it is to be armed */
	bool collides;     /* there is a private slot in the guest's RAM */
	bool broken;       /* KVM refused an undoing */

	/* In this step: what fails. */
	int injected;   /* the errno that a commit may return; 0: nothing fails */
	unsigned storm; /* one in so many ioctls fails; 0: none */
};

/* ---- kvm-model.c ---- */

struct world *world_new(struct choices choices, struct kvm_tally *tally);
/* One step. False when there are no more choices. */
bool world_step(struct world *w);
/* Without failures all comes right, and nothing has been lost. */
void world_free(struct world *w);

unsigned below(struct world *w, unsigned n);
bool one_in(struct world *w, unsigned n);
void assert_holds(const struct world *w, bool holds, const char *what);

/* What a step may use, drawn in one order whatever the compiler. */
struct roll {
	struct kvmas_region *region;
	unsigned home; /* of that */
	struct kvmas_region *other;
	struct kvmas_region *container;
	struct kvmas_space *space;
	unsigned gfn;
	unsigned npages; /* small */
	uint64_t extra;  /* mostly 0: addresses are mostly whole pages */
	unsigned client;
	unsigned as_id;
	unsigned number; /* 0 ... 11 */
};
struct roll draw(struct world *w);

/* ---- kvm-model-commit.c ---- */
/* A transaction of a few edits. */
void world_change(struct world *w);
/* Arm something that fails, or nothing; and disarm it. */
void world_inject(struct world *w);
/* Have the next ioctl fail, whatever it is. */
void world_refuse_next(struct world *w);
void world_calm(struct world *w);
/* The sections of a space's view, which lives on; for free(). */
struct kvmas_section *list_sections(struct world *w, struct kvmas_space *space, size_t *ret_count);

/* ---- kvm-model-edit.c ---- */
void world_edit(struct world *w);
/* Policies and budgets to begin with. */
void world_draw_terms(struct world *w);
void world_add_region(struct world *w, const struct roll *roll);

/* ---- kvm-model-dirty.c ---- */
void world_run_guest(struct world *w);
/* A vCPU leaves the guest, whose ring may be full; or is taken away, and comes again. */
void world_exit(struct world *w);
void world_sync(struct world *w);
void world_mark(struct world *w);
/* A log that could not be read has made all dirty that it was of; a slot may begin so. */
void world_note_doubts(struct world *w);
/* So has an address in the buffer of a vCPU made what is there now. */
void world_note_buffered(struct world *w);
/* Clients must find a page, by what they wish; and they may. */
void world_must(struct world *w, unsigned block, uint64_t page);
void world_may(struct world *w, unsigned block, uint64_t page);
/* Where in the blocks a host address is; false if in none. */
bool world_locate(const struct world *w, const unsigned char *hva, unsigned *block, uint64_t *page);
/* Whether a client of these wishes wants the log of a section. */
bool is_wished(const struct wish *wish, const struct kvmas_section *section,
	       const struct kvmas_space *space);

/* ---- kvm-model-take.c ---- */
void world_take(struct world *w);
/* Everything is synchronised and taken: no page may be missing. */
void world_harvest(struct world *w);
void world_add_device(struct world *w);
void world_run_device(struct world *w);

#endif

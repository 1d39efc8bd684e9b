/* SPDX-License-Identifier: MIT */
/*
 * What each client is owed: the pages that the guest has written through logged slots since the
 * client last took them. Nothing else is asked for than that no page is forgotten: what a client
 * takes besides is looked at only where nothing has failed.
 *
 *     ledger_write       the guest writes a page: all clients are owed it
 *     ledger_take        a client takes what it finds: it is owed that no more
 *     ledger_assert_settled  all is synchronised and taken: nobody is owed anything
 *
 * The guest also runs between the library's ioctls, unless it is held out: see ledger_open.
 */
#ifndef KVM_LEDGER_H
#define KVM_LEDGER_H

#include "kvm-guest.h"

enum { LEDGER_PAGES = 512, LEDGER_WORDS = LEDGER_PAGES / 64, LEDGER_CLIENTS = 4 };

struct ledger_block {
	struct kvmas_ram *ram; /* held */
	uint64_t owed[LEDGER_CLIENTS][LEDGER_WORDS];
	uint64_t may[LEDGER_CLIENTS][LEDGER_WORDS]; /* written, and not yet known to be taken */
};

struct ledger {
	struct machine *m;
	struct ledger_block blocks[12];
	unsigned nblocks;
	unsigned nwritten; /* stores so far */
	unsigned nfull;    /* that were none, since a ring was full */
};

/* Of all RAM that the machine's region[] shows. From now on the guest runs between ioctls. */
void ledger_open(struct ledger *ledger, struct machine *m);
void ledger_close(struct ledger *ledger);
void ledger_watch(struct ledger *ledger, struct kvmas_ram *ram);

/* The guest writes a page: as guest_write. */
int ledger_write(struct ledger *ledger, unsigned tie, unsigned as_id, uint64_t gpa);
/* It writes to each logged slot of a tie, so many pages that are not neighbours. */
void ledger_write_some(struct ledger *ledger, unsigned tie, unsigned npages);

/* A client takes a block's pages, or npages of them (LEDGER_PAGES: all). What kvmas_client_take
 * returns, but for -ENOENT: 0. */
int64_t ledger_take(struct ledger *ledger, unsigned client, struct kvmas_ram *ram, uint64_t first,
		    uint64_t npages);
/* A client has taken a page, and has put it back. */
void ledger_note_taken(struct ledger *ledger, unsigned client, struct kvmas_ram *ram,
		       uint64_t page);
void ledger_note_put(struct ledger *ledger, unsigned client, struct kvmas_ram *ram, uint64_t page);
/* Every client takes everything: the first error. */
int64_t ledger_take_all(struct ledger *ledger);

/* All spaces are synchronised, all clients take everything, and nobody is owed a page any more.
 * *who* and *k* are for people. */
void ledger_assert_settled(struct ledger *ledger, const char *who, unsigned k);
/* The same; and nobody was given a page that nobody had written since it was last settled. */
void ledger_assert_exact(struct ledger *ledger, const char *who, unsigned k);

#endif

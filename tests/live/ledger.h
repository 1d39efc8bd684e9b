/* SPDX-License-Identifier: MIT */
/*
 * Where the accesses of vCPUs that run stores.h's program arrive, and whether they may: while the
 * map changes. Each vCPU has its own list of what arrived, in that order.
 *
 * A map is of some time. An access that had been made when the commit began that ended it must have
 * been answered by it, or by one before; one that was made when the commit that began it had
 * returned, by it or by one after. Numbers of accesses say which is which (stores.h): those of all
 * vCPUs are read inside of the transaction, and when it has been committed.
 */
#ifndef LIVE_LEDGER_H
#define LIVE_LEDGER_H

#include "stores.h"

enum {
	LEDGER_MAPS = 1 << 14,     /* in a stage */
	LEDGER_RECEIPTS = 1 << 15, /* of a vCPU, in a stage */
	LEDGER_ENTRIES = 64,       /* of a script */
};

/* Somebody has been called. */
struct receipt {
	uint8_t entry; /* of the script, as the place tells */
	uint8_t size;
	uint8_t who;
	bool read; /* the value is the number itself */
	uint64_t value;
};

struct time {
	uint32_t from[MAX_VCPUS];       /* the first access that may have been answered by it */
	_Atomic uint32_t to[MAX_VCPUS]; /* the last one, when it has ended */
};

struct ledger {
	struct guest *g;
	/* What becomes of an access by a map: one bit. 1 << who: that one is called. */
	uint32_t (*outcome)(void *data, unsigned map, unsigned vcpu, uint32_t number);
	void *data;
	uint32_t silent;  /* the bits that leave no receipt, */
	uint32_t signals; /* and of these those that signal an eventfd */

	struct time maps[LEDGER_MAPS];
	unsigned nmaps;           /* under the transaction lock */
	uint32_t base[MAX_VCPUS]; /* the number before the stage's first */
	_Atomic uint32_t nreceipts[MAX_VCPUS];
	struct receipt receipts[MAX_VCPUS][LEDGER_RECEIPTS];

	/* Of the stage, accesses without a receipt, by entry and bit: those that can have come
	 * to nothing else, those that can have come to this, and those that are sure to be a
	 * signal. */
	uint32_t least[MAX_VCPUS][LEDGER_ENTRIES][32];
	uint32_t most[MAX_VCPUS][LEDGER_ENTRIES][32];
	uint32_t signalled[MAX_VCPUS][LEDGER_ENTRIES];
	/* Of all stages. */
	uint64_t accesses;
	uint64_t arrived;
	uint64_t open;   /* accesses that may have come to more than one thing */
	char wrong[200]; /* the first fault; "" for none */
};

/* Begin a stage, with one map from its beginning on. The vCPUs do not run. */
void ledger_begin(struct ledger *ledger);
/* Inside a transaction: the next map; returns its number, or -ENOSPC. And when it is committed. */
int ledger_open_map(struct ledger *ledger);
void ledger_close_map(struct ledger *ledger, unsigned map);
/* In a callback: from any thread. */
void ledger_note(struct ledger *ledger, unsigned vcpu, struct receipt receipt);
/* The vCPUs do not run, and all is handed on: look at the stage. False: wrong says why. */
bool ledger_check(struct ledger *ledger);

#endif

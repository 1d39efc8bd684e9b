/* SPDX-License-Identifier: MIT */
/*
 * A map that never rests: pieces of a guest's memory that can be in two states each, switched at
 * random in transactions, while policies, boundaries, budgets and logs change as well; and what the
 * guest must find in and around them meanwhile, in its tables.
 */
#ifndef LIVE_CHURN_H
#define LIVE_CHURN_H

#include "guest.h"

enum {
	CHURN_PAGES = 0x800, /* of RAM */
	/* Where a piece of kind CHURN_SHIFT is, and one of CHURN_HOLE: for planted faults. */
	CHURN_SHIFT_PAGE = 0x900,
	CHURN_HOLE_PAGE = 0x80,
};

/* What switches. */
enum churn_kind {
	CHURN_HOLE,    /* RAM is hidden */
	CHURN_PROTECT, /* RAM is write-protected */
	CHURN_ROM,     /* other memory lies above it */
	CHURN_SPLIT,   /* RAM is kept from merging */
	CHURN_SHIFT,   /* a window shows other pages */
	CHURN_SWAP,    /* two windows change places */
	CHURN_MOVE,    /* a window lies elsewhere */
	CHURN_RESIZE,  /* a window is longer */
	CHURN_NKINDS,
};

struct piece {
	enum churn_kind kind;
	unsigned as_id;
	struct kvmas_region *region;
	struct kvmas_region *other; /* SWAP */
	uint32_t page;
	uint32_t npages;
	uint32_t first; /* of the pages of RAM that a window shows */
	bool on;
	bool was_on; /* before the open transaction */
};

enum { CHURN_LINES = 16, CHURN_PIECES = 64, CHURN_BOUNDARIES = 8 };

struct churn {
	struct guest *g;
	uint64_t seed;
	struct kvmas_client *client;
	unsigned wishes; /* the client's, a bit for each: see change_log */
	struct piece pieces[CHURN_PIECES];
	unsigned npieces;
	struct {
		unsigned as_id;
		uint32_t page; /* 0: not declared */
	} boundaries[CHURN_BOUNDARIES];
	/* Counted. */
	unsigned commits, aborts;
	unsigned switched[CHURN_NKINDS];
	unsigned policies, merges, cuts, budgets, logs;
	/* The last transactions, the newest at (commits + aborts - 1) % CHURN_LINES. */
	char lines[CHURN_LINES][200];
	int result; /* of the call that failed, 0 if none has */
};

/* On a guest of CHURN_PAGES that does not run yet: make the pieces and fill the tables. */
void churn_init(struct churn *churn, struct guest *g, uint64_t seed);
void churn_fini(struct churn *churn);

/* One transaction. False if a call failed, see result. */
bool churn_step(struct churn *churn);

/* Print the last transactions. */
void churn_report(const struct churn *churn);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the tests for lost pages are made of: a guest whose vCPUs, in SMM too where there is SMM,
 * write numbers to pages at random, and two clients, each in its own rhythm, that keep a copy of
 * its RAM (shadow.h). The test's thread makes transactions, and now and then stops the vCPUs, has
 * each client take what is left, and compares.
 */
#ifndef LIVE_RIG_H
#define LIVE_RIG_H

#include "churn.h"
#include "shadow.h"

enum { RIG_CLIENTS = 2 };

/* How the clients' logs are switched off and on: always so that nothing may be lost. */
enum rig_toggle {
	RIG_HELD,     /* while the vCPUs are held, if they are not ungated */
	RIG_AT_ONCE,  /* in one transaction */
	RIG_AND_COPY, /* while they run, and all is copied afterwards */
	RIG_NTOGGLES,
};

struct rig {
	struct guest *g;
	struct churn churn;
	bool churns;
	struct shadow shadows[RIG_CLIENTS];
	unsigned seed;
	uint64_t lost;
	int result;
	unsigned checks, toggles[RIG_NTOGGLES];
	unsigned dropped; /* logs that a slot has lost while it stayed */
	void *data;       /* a control's */
};

uint32_t rig_chance(struct rig *rig, uint32_t n);

/* A guest without targets, its vCPUs and clients not yet running. */
void rig_init(struct rig *rig, void **state, struct guest_config config, unsigned seed);
void rig_fini(struct rig *rig);
/* Each of so many pages, and how often each. */
void rig_add_targets(struct rig *rig, uint32_t first, uint32_t npages, unsigned weight);
/* Pieces that churn, and targets all over them. */
void rig_add_churn(struct rig *rig);
/* Let vCPUs and clients run; stop them. */
void rig_start(struct rig *rig);
void rig_stop(struct rig *rig);

/* A call's result: the first error counts. */
void rig_keep(struct rig *rig, int result);
/* Nothing has failed, is wrong or lost. */
bool rig_is_well(const struct rig *rig);
void rig_toggle(struct rig *rig, enum rig_toggle how);
/* Count what is lost. */
void rig_check(struct rig *rig);

/* One transaction of the churn more, and some of the rest; whether all is well. */
bool rig_go_on(struct rig *rig);

/* Print the last transactions, and what is lost. */
void rig_report(const struct rig *rig);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A client that keeps a copy of a guest's RAM, as a migration does: it syncs, takes, and only then
 * reads the pages taken, all in any order and any part; some of what it takes it puts back. When
 * all has been taken and no vCPU runs, a page that is not in the copy as it is in RAM is lost.
 *
 * It has a thread of its own. Nothing here asserts: what fails is kept.
 */
#ifndef LIVE_SHADOW_H
#define LIVE_SHADOW_H

#include "guest.h"

/* What a client asks for: all of it always, whatever the form. */
enum shadow_form {
	SHADOW_ALL,       /* all memory, all spaces */
	SHADOW_BY_SPACE,  /* all memory, each space by itself */
	SHADOW_BY_REGION, /* the guest's RAM, all spaces */
	SHADOW_NFORMS,
};

struct shadow {
	struct guest *g;
	const char *name;
	struct kvmas_client *client;
	unsigned seed;
	enum shadow_form form;
	/* Held while it harvests: so that nobody else harvests, nor stops what it logs. */
	pthread_mutex_t lock;
	uint64_t whole; /* bytes of RAM that are always there: its size at first */
	unsigned char *bytes;
	uint64_t *bits; /* taken last */
	long pause_ns;  /* between two harvests */
	pthread_t thread;
	bool runs;
	_Atomic bool stop;
	_Atomic int result; /* of the first call that failed, 0 if none has */
	/* Counted. */
	uint64_t harvests, copied, put_back, broken_off;
	char lost[160]; /* of the first page that was: which, and what was there */
};

/* Of a guest whose vCPUs do not run: it logs, and copies all of RAM. */
void shadow_init(struct shadow *shadow, struct guest *g, const char *name, unsigned seed);
void shadow_fini(struct shadow *shadow);

/* Harvest on a thread, until shadow_stop. */
void shadow_start(struct shadow *shadow, long pause_ns);
void shadow_stop(struct shadow *shadow);

/* Its wishes in an open transaction, or each by itself. The caller holds the lock. */
int shadow_log(struct shadow *shadow, bool on);
/* Copy all of RAM, whatever is dirty. The caller holds the lock. */
void shadow_copy_all(struct shadow *shadow);

/* With no vCPU running: take all that is left, copy it, and count the pages that are lost. */
uint64_t shadow_count_lost(struct shadow *shadow);

#endif

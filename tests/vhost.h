/* SPDX-License-Identifier: MIT */
/*
 * A device like vhost: a listener with a thread that writes to what its space shows, and with a log
 * of its own, which it fills while a section is logged, hands over when asked, and before a section
 * goes. The second kind notices one write to a page, and then no more until it is armed.
 *
 * It knows one block. What it writes are numbers: it adds 1 to the first word of a page.
 */
#ifndef VHOST_H
#define VHOST_H

#include "fixture.h"

enum { VHOST_PAGES = 96, VHOST_SECTIONS = 8 };

struct vhost {
	struct kvmas_ram *ram; /* of VHOST_PAGES */
	struct kvmas_listener *listener;
	bool arms;               /* the second kind */
	bool is_deaf;            /* planted: it is not told when pages are taken */
	bool is_sloppy;          /* planted: it hands nothing over when a section goes */
	pthread_rwlock_t *pause; /* who has it for writing holds all writers out */
	uint64_t seed;
	uint64_t nwrites;
	uint64_t nunnoticed; /* of them: noticed no more, until the page is armed */
	uint64_t narmed;     /* pages */
	uint64_t nerrors;    /* calls of the library's that failed */

	pthread_mutex_t lock; /* guards what follows, and those counts */
	struct kvmas_section sections[VHOST_SECTIONS];
	unsigned nsections;
	bool written[VHOST_PAGES]; /* in the log, not handed over yet */
	bool told[VHOST_PAGES];    /* handed over, not armed yet */
};

/* Attach it; *config* of the device's own members is set before. And detach it. */
void vhost_add(struct vhost *vhost, struct kvmas_space *space);
void vhost_del(struct vhost *vhost);

/* Write once, somewhere; for threads. */
void vhost_write(struct vhost *vhost);

/* The number that a page holds. Any thread. */
uint64_t vhost_number(const struct kvmas_ram *ram, uint64_t page);
void vhost_count_up(const struct kvmas_ram *ram, uint64_t page);

/* A number below another, from a seed. */
unsigned vhost_draw(uint64_t *seed, unsigned below);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A listener that keeps its own list of sections from additions and deletions, and sees what it is
 * told out of order. What the list must be is the test's business.
 */
#ifndef MIRROR_H
#define MIRROR_H

#include <stdbool.h>
#include <stdint.h>

#include <kvmas.h>

enum { MAX_SECTIONS = 256 };

/* What a listener has been told, as a list. */
struct mirror {
	struct kvmas_section sections[MAX_SECTIONS];
	unsigned count;
	unsigned begins;
	unsigned commits;
	uint64_t last_del; /* of this telling */
	uint64_t next_add; /* the lowest address that may be added */
	bool dels_are_over;
	struct kvmas_section *unlogged; /* added as logged: log_start must be next */
	const char *fault;
};

/* A listener's callbacks; data is the mirror, all zero at first. */
void mirror_begin(void *data);
void mirror_add(void *data, const struct kvmas_section *section);
void mirror_del(void *data, const struct kvmas_section *section);
void mirror_log_start(void *data, const struct kvmas_section *section);
void mirror_log_stop(void *data, const struct kvmas_section *section);
void mirror_commit(void *data);

/* The list as lines, like fixture.h's, with " logged" where it is; for free(). */
char *mirror_text(const struct mirror *mirror);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A listener that keeps its own list of sections from additions and deletions, and sees what it is
 * told out of order. What the list must be is the test's business.
 */
#ifndef MIRROR_H
#define MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvmas.h>

/* What a listener has been told, as a list; all zero at first. */
struct mirror {
	struct kvmas_section *sections; /* by gpa */
	size_t count;
	size_t capacity;
	unsigned begins;
	unsigned commits;
	uint64_t last_del; /* of this telling */
	uint64_t next_gpa; /* the lowest that an addition or a log_* may have */
	bool dels_are_over;
	struct kvmas_section gone[64]; /* deleted in this telling, as many as there is room for */
	size_t ngone;
	bool awaits_log_start; /* of the section added last, which is logged */
	uint64_t added;        /* its gpa */
	const char *fault;     /* the first */
};

/* A listener's callbacks; data is the mirror. */
void mirror_begin(void *data);
void mirror_add(void *data, const struct kvmas_section *section);
void mirror_del(void *data, const struct kvmas_section *section);
void mirror_log_start(void *data, const struct kvmas_section *section);
void mirror_log_stop(void *data, const struct kvmas_section *section);
void mirror_commit(void *data);

void mirror_fini(struct mirror *mirror);

/* Whether two sections are the same, but for `logged` and `was_logged`. */
bool mirror_same_section(const struct kvmas_section *a, const struct kvmas_section *b);

#endif

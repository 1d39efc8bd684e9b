/* SPDX-License-Identifier: MIT */
/*
 * Judges: listeners that can refuse. A judge writes down all that it hears, and demands what every
 * listener may rely on: who agreed hears exactly one of commit and cancel, before it is asked
 * again; a bracket is closed before the next; what is deleted was added just so, and nothing
 * overlaps.
 *
 * Lines look like those of the fixture's listeners, and
 *     x prepare                        the judge was asked
 *     x sees add 0000-0fff ram a+0x0   with `looks` set: what it was asked about
 *     x cancel
 *     x sync
 */
#ifndef JUDGE_H
#define JUDGE_H

#include "fixture.h"

struct judge {
	struct fixture *f;
	const char *name;
	struct kvmas_listener *listener;
	int verdict;      /* what prepare returns */
	int sync_result;  /* what log_sync returns */
	bool looks;       /* prepare writes down the changes */
	bool agreed;      /* a commit or a cancel is owed */
	bool open;        /* inside begin ... commit */
	unsigned asked;   /* calls of prepare */
	unsigned told;    /* calls of commit */
	unsigned dropped; /* calls of cancel */
	/* Called at the end of each callback, whose name it gets. */
	void (*inside)(struct judge *judge, const char *what);
	void *data;
	char *sections[32]; /* what was added and not deleted */
	unsigned nsections;
};

/* Attach a judge with all callbacks. Who wants fewer takes some out of judge_config, and attaches
 * by hand. */
void add_judge(struct judge *judge, struct fixture *f, struct kvmas_space *space, const char *name,
	       int priority);
struct kvmas_listener_config judge_config(struct judge *judge, struct fixture *f, const char *name,
					  int priority);
void del_judge(struct judge *judge);

/* Nothing is owed, and the judge knows the view of the space as it is. */
void assert_judge(struct judge *judge, struct kvmas_space *space);

/* The first and the last line of the notes that begins with this; NULL if none does. */
const char *find_line(const struct fixture *f, const char *start);
const char *last_line(const struct fixture *f, const char *start);

/* A kvmas_change_fn: adds a line, the space's name, the callback's and the section, to the text
 * that data points to (char **). */
int add_change(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
	       const struct kvmas_section *section);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What every unit test stands on: a kvmas whose memory is counted and can be made to fail, whose
 * log and callbacks are written down as lines, and whose regions, spaces and listeners are made in
 * one line each and dropped by the teardown, which then demands every byte back.
 *
 * Lines look like
 *     0000-0fff ram a+0x0              a section: first, last, kind (rom if readonly, mmio for a
 *                                      ROM device in that state), region+offset, attributes
 *     x add 0000-0fff ram a+0x0        listener x was told
 *     write uart+0x4 2 = 0x1234        a device was called
 *     destroy uart                     a destroy hook ran
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <kvmas.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define must(call) assert_int_equal(call, 0)

/* The realloc hook's side of a kvmas. */
struct heap {
	pthread_mutex_t lock;
	size_t bytes;        /* out there */
	size_t blocks;       /* the same, counted */
	unsigned long calls; /* allocations and resizes so far, failed ones too */
	unsigned fail_in;    /* the call that fails, counted from now; 0: none */
	bool failed;         /* it has */
};

void *heap_realloc(void *data, void *ptr, size_t size);

/* The opaque pointer of each region: a device, for those that are MMIO. */
struct thing {
	struct fixture *fixture;
	struct kvmas_region *region;
	char name[24];
	uint64_t value; /* what reads give */
	int result;     /* of both callbacks */
	void (*on_access)(struct thing *thing);
	unsigned destroyed;
	struct thing *next;
};

struct fixture {
	struct kvmas *kvmas;
	struct kvmas_reader *reader;
	struct heap heap;
	char *notes;
	void (*inside)(struct fixture *f); /* called in every listener callback */
	int sync_result;                   /* of listeners' log_sync */
	struct thing *things;              /* newest first */
	struct kvmas_space *spaces[8];
	unsigned nspaces;
	struct ear *ears;
	void *made; /* for scenarios */
	void *with;
};

/* A listener that writes down what it is told. */
struct ear {
	struct fixture *fixture;
	const char *name;
	struct kvmas_listener *listener;
	struct ear *next;
};

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* With a config of the test's own, whose hooks are set here, but for a log that it has: what is
 * written down is for one thread. */
struct fixture *fixture_new(struct kvmas_config config);
void fixture_free(struct fixture *f);

/* Drop the test's handle on the kvmas before all else. */
void close_kvmas(struct fixture *f);

/* Text that grows; *text* begins as NULL and ends with free(). */
__attribute__((format(printf, 2, 3))) void text_add(char **text, const char *format, ...);
__attribute__((format(printf, 2, 3))) void note(struct fixture *f, const char *format, ...);

/* What was noted since the last time is *expected*; it is forgotten. */
void assert_notes(struct fixture *f, const char *expected);
void forget_notes(struct fixture *f);

/* Regions. Their memory is fresh, anonymous and their own; offsets are 0 and priorities too where
 * they are not given. */
struct kvmas_region *make_region(struct fixture *f, struct kvmas_region_config config);
struct kvmas_region *make_container(struct fixture *f, const char *name, uint64_t size);
struct kvmas_region *make_ram(struct fixture *f, const char *name, uint64_t size);
struct kvmas_region *make_rom(struct fixture *f, const char *name, uint64_t size);
struct kvmas_region *make_mmio(struct fixture *f, const char *name, uint64_t size);
struct kvmas_region *make_alias(struct fixture *f, const char *name, struct kvmas_region *target,
				uint64_t target_offset, uint64_t size);
struct thing *thing_of(struct kvmas_region *region);

/* Drop the fixture's reference before the teardown does. */
void drop_region(struct fixture *f, struct kvmas_region *region);
void drop_space(struct fixture *f, struct kvmas_space *space);
void drop_listener(struct fixture *f, struct kvmas_listener *listener);

struct kvmas_ram *make_block(struct fixture *f, const char *name, uint64_t npages);
struct kvmas_ram *block_of(const struct kvmas_region *region);

void add(struct kvmas_region *parent, struct kvmas_region *child, uint64_t offset, int priority);
struct kvmas_space *make_space(struct fixture *f, const char *name, struct kvmas_region *root);
struct kvmas_listener *make_listener(struct fixture *f, struct kvmas_space *space, const char *name,
				     int priority);

/* The space's view, or one that is held, as lines; for free(). */
char *space_text(struct fixture *f, struct kvmas_space *space);
char *view_text(const struct kvmas_view *view);
void assert_view(struct fixture *f, struct kvmas_space *space, const char *expected);
void section_text(char **text, const struct kvmas_section *section);

/* All spaces' trees and views; for free(). */
char *state_text(struct fixture *f);

/*
 * Run *scenario* with its first allocation failing, then its second, until one run needs no more
 * than have been failed. Each run but the last must return -ENOMEM, and leave the state and the
 * heap as they were; the last must return 0. Returns how many failed.
 */
unsigned fail_each_allocation(struct fixture *f, int (*scenario)(struct fixture *f));

/* Whether nothing is left of the fixture's heap. */
bool heap_is_empty(const struct heap *heap);

uint64_t page_size(void);

#endif

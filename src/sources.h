/* SPDX-License-Identifier: MIT */
/* Logs outside the library that must be told when dirty pages were taken: see sources.c. */
#ifndef KAS_SOURCES_H
#define KAS_SOURCES_H

#include "object.h"

/*
 * A log of pages of one block. Its owner embeds it and sets *first* and *npages* (pages of the
 * block) and *clear* before it is added; they stay as they are.
 */
struct source {
	uint64_t first;
	uint64_t npages;
	/* Clients may have taken pages of this part of the block, some of them of this log: arm
	 * what it has told, so that it tells of later writes. Under the sources' lock. 0, or a
	 * negative errno if it could not. */
	int (*clear)(struct source *source, uint64_t first, uint64_t npages);
	bool attached;
};

/* Those of one block. Part of it. */
struct sources {
	struct kvmas *home;   /* whose allocator is used */
	pthread_mutex_t lock; /* held while logs are read, or armed */
	atomic_size_t count;  /* attached; may be read as a hint without the lock */
	struct source **at;   /* those, by first page */
	size_t known;         /* added, attached or not */
	size_t capacity;      /* there is room for all that are known */
	uint64_t longest;     /* none that is attached has more pages */
};

void kas_sources_init(struct sources *sources, struct kvmas *home);
void kas_sources_fini(struct sources *sources);

/* A source comes to be known, detached: -ENOMEM; or, detached, ends. */
int kas_source_add(struct sources *sources, struct source *source);
void kas_source_del(struct sources *sources, struct source *source);

/* It is to be told from now on; or no more. Neither can fail, or does anything twice. Takes the
 * lock. */
void kas_source_attach(struct sources *sources, struct source *source);
void kas_source_detach(struct sources *sources, struct source *source);

/* The bits of these words were taken, word 0 from page *first* on, which is a multiple of 64: have
 * all logs armed that told of them. The first error, after all were asked. */
int kas_sources_clear(struct sources *sources, uint64_t first, uint64_t npages,
		      const uint64_t *words);

/* Have all logs armed of all that they have told: somebody has come who was not told. */
int kas_sources_clear_all(struct sources *sources);

#endif

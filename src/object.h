/* SPDX-License-Identifier: MIT */
/*
 * The context that all else hangs from (struct kvmas), and what every counted object shares: its
 * reference count and its end. See object.c.
 *
 * Functions that cross files inside the library begin with kas_, so that a static libkvmas.a
 * brings no other names into a VMM than kvmas_ and kas_.
 */
#ifndef KAS_OBJECT_H
#define KAS_OBJECT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include <kvmas.h>

#include "pins.h"

struct log_table;
struct root;
struct tie;
struct undo;

/*
 * A counted object. When the count falls to 0 the object is dead, but still whole: `end` runs
 * later, in reclaim, under the transaction lock. `end` frees the memory. One that is published for
 * readers (pins.h) waits until none of them has it pinned.
 */
struct object {
	struct kvmas *kvmas;
	atomic_uint refs;
	bool pinnable; /* is, or was, published */
	struct object *next_dead;
	void (*end)(struct object *object);
};

/* Room that lives from one commit to the next, so that most commits allocate little. What it holds
 * is its user's, and of one type; none of it lasts beyond the call that filled it. */
struct buffer {
	void *at;
	size_t capacity; /* in items */
	size_t item;     /* the size of one */
};

/* How many dead objects wait for readers to be asked. Tests build with less. */
#ifndef KAS_RETIRED
#define KAS_RETIRED 16
#endif

/* How much of it is kept: enough for commits that change a few of ten thousands of regions. */
#define KAS_KEPT_BYTES 8192

enum {
	BUFFER_VISITS, /* loop.c: what is yet to be visited */
	BUFFER_CLIMB,  /* damage.c: places that a window is yet to be carried from */
	BUFFER_TASKS,  /* render.c: what is yet to be painted */
	BUFFER_CANVAS, /* render.c: what has been */
	BUFFER_FRESH,  /* splice.c: ranges of the next view that are not those of the old one */
	BUFFER_RUN,    /* splice.c: ranges on their way into pages */
	BUFFER_PAGES,  /* splice.c: the pages of the next view */
	BUFFER_SEEN,   /* sync.c: where a region is seen */
	NBUFFERS,
};

/* Memory of one small size, kept for whoever needs it next. */
struct spare {
	struct spare *next;
};

struct kvmas {
	struct kvmas_config config;
	const unsigned char *alive; /* one page that reads 0 in a forked child */
	atomic_uint handles;        /* references of the user's */
	atomic_uint holders;        /* objects, and 1 while there are handles */
	_Atomic(struct object *) dead;
	atomic_bool
		lingering; /* what readers may have pinned is, perhaps, all that holds something */
	struct pinboard pinboard;

	/* Guards the two lists of what exists, against threads that make and end objects. */
	pthread_mutex_t lists_lock;
	TAILQ_HEAD(, kvmas_region) regions;
	uint64_t nregions;
	TAILQ_HEAD(dirty_clients, dirty_client) clients;

	/* All below is guarded by the transaction lock; txn.c has the rules. */
	struct {
		pthread_mutex_t lock;
		_Atomic(uintptr_t) owner; /* the thread inside, 0 if none */
		unsigned nesting;         /* times it entered */
		unsigned depth;           /* begins without their end */
		bool doomed;              /* an inner level was aborted */
		bool calling;             /* hooks are being called: topology stays as it is */
		bool round;               /* listeners among them: see listener.c */
		bool circular;            /* links lead, or once led, in a circle */
		bool reclaiming;
		struct object *retired; /* dead and pinnable */
		unsigned nretired;
		unsigned npinned;     /* of them, when readers were asked last */
		uint64_t serials;     /* given out to views */
		uint64_t walks;       /* kas_region_reaches: one number for each walk */
		uint64_t places;      /* given out to children, by order of adding */
		struct undo *undo;    /* newest first */
		struct spare *spares; /* undos of regions */
		unsigned nspares;
		struct log_table *logging; /* what clients want logged once this commits */
		TAILQ_HEAD(, kvmas_region) channelled; /* whose event channels it has edited */
		/* Added or deleted in this round, which takes effect at its end. */
		TAILQ_HEAD(listener_queue, kvmas_listener) waiting;
		struct buffer buffers[NBUFFERS];
		bool oversized; /* one of them has more than is kept */
	} txn;
	struct log_table *logging; /* what clients want logged: published, with the views */
	atomic_bool logging_stale; /* a client has gone whose wishes are still in the table */
	atomic_uint armers;        /* listeners with log_clear; may be read without the lock */
	TAILQ_HEAD(space_list, kvmas_space) spaces;
	uint64_t ages;                  /* given out to spaces, by order of making */
	TAILQ_HEAD(, root) damaged;     /* roots that have windows to render */
	struct space_list changing;     /* inside a commit: spaces whose listeners may hear of it */
	TAILQ_HEAD(tie_list, tie) ties; /* to be read under lists_lock as well */
	uint64_t nchannelled;           /* regions that have event channels */
};

static inline bool kas_alive(const struct kvmas *kvmas)
{
	return *(const volatile unsigned char *)kvmas->alive;
}

/* All of the library's memory, through kvmas_config.realloc. */
void *kas_resize(struct kvmas *kvmas, void *ptr, size_t size);
void *kas_alloc(struct kvmas *kvmas, size_t size); /* zeroed */
/* See that an array of *count* items can take one more: where it is now, or NULL. */
void *kas_grow(struct kvmas *kvmas, void *array, size_t count, size_t *capacity, size_t item);
/* The same for a buffer: room for one more than *count* items, or NULL. */
void *kas_buffer_enlarge(struct kvmas *kvmas, unsigned buffer, size_t count, size_t item);
static inline void *kas_buffer_grow(struct kvmas *kvmas, unsigned buffer, size_t count, size_t item)
{
	const struct buffer *room = &kvmas->txn.buffers[buffer];

	return count < room->capacity ? room->at : kas_buffer_enlarge(kvmas, buffer, count, item);
}
/* Room for *total* items: -ENOMEM. */
int kas_buffer_reserve(struct kvmas *kvmas, unsigned buffer, size_t total, size_t item);
/* Give back the buffers that a rare, large commit has made large; or all that is kept. */
void kas_buffers_trim(struct kvmas *kvmas);
void kas_kept_free(struct kvmas *kvmas);
char *kas_strdup(struct kvmas *kvmas, const char *string);
void kas_free(struct kvmas *kvmas, const void *ptr);

__attribute__((format(printf, 3, 4))) void kas_log(struct kvmas *kvmas, enum kvmas_log_level level,
						   const char *format, ...);

/* Copy a caller's config into *config*, ours: members it does not know are 0. -EINVAL for none,
 * -EOPNOTSUPP if it sets members that we do not know. */
int kas_config_copy(void *config, size_t size, const void *caller);

/* The context lives while it has holders. */
void kas_hold(struct kvmas *kvmas);
void kas_let_go(struct kvmas *kvmas);

void kas_object_init(struct object *object, struct kvmas *kvmas, void (*end)(struct object *));
void kas_object_ref(struct object *object);
/* The same for whoever holds nothing yet: false if it is dead. */
bool kas_object_try_ref(struct object *object);
/* Drop a reference: what dies waits for a reclaim. For lookups, dispatch and releases. */
void kas_object_unref(struct object *object);
/* The user drops one: without a handle nobody else would reclaim, so this does. */
void kas_object_drop(struct object *object);
void kas_reclaim_if_closed(struct kvmas *kvmas);
static inline bool kas_object_is_dead(const struct object *object)
{
	/* Acquire: whoever sees the end of it sees all that was done before. */
	return atomic_load_explicit(&object->refs, memory_order_acquire) == 0;
}

/*
 * The transaction lock: one thread at a time changes, or looks at, what is not for readers. It
 * nests on its thread. -EIO in a forked child; -EBUSY for the thread that is telling listeners.
 */
int kas_lock(struct kvmas *kvmas);
int kas_lock_outside(struct kvmas *kvmas); /* also -EBUSY inside a transaction */
void kas_unlock(struct kvmas *kvmas);
bool kas_lock_is_mine(const struct kvmas *kvmas);

/* Run `end` for all that is dead, until nothing more dies. The transaction lock is held. */
void kas_reclaim(struct kvmas *kvmas);
/* The same, but readers are asked what they have pinned only when that may end more than a few
 * views, and not each time. */
void kas_reclaim_due(struct kvmas *kvmas);

/* The same, taking the lock: -EBUSY inside a transaction, and what kas_lock says. */
int kas_try_reclaim(struct kvmas *kvmas);

#define kas_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif

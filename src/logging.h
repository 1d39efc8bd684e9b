/* SPDX-License-Identifier: MIT */
/* Which memory is to be logged, for whom: see logging.c. */
#ifndef KAS_LOGGING_H
#define KAS_LOGGING_H

#include "space.h"

/* Who wants something logged. */
struct log_owner {
	struct object *object;
	atomic_bool gone; /* its last handle was dropped */
};

/* One wish: NULL means every region, or every space. The table holds all three. */
struct log_wish {
	struct log_owner *owner;
	struct kvmas_region *region;
	struct kvmas_space *space;
};

struct log_table {
	size_t count;
	struct log_wish wishes[]; /* sorted */
};

/* Whether what *range* shows in *space* is to be logged: memory that the guest can write, and that
 * somebody wants. *table* may be NULL: nobody does. Cost: four searches by bisection. */
bool kas_logging_wanted(const struct log_table *table, const struct kvmas_space *space,
			const struct flat_range *range);

/* The table as it is once the transaction that goes on has committed. */
const struct log_table *kas_logging_next(const struct kvmas *kvmas);

/* Change the next table, inside a transaction. -EEXIST, -ENOENT, -ENOMEM. */
int kas_logging_add(struct kvmas *kvmas, const struct log_wish *wish);
int kas_logging_remove(struct kvmas *kvmas, const struct log_wish *wish);

/* A commit begins: forget the wishes of those who are gone, as part of it. */
void kas_logging_forget_gone(struct kvmas *kvmas);

/* A commit ends: the next table becomes the table. Returns what was the table, which the caller
 * frees after the listeners were told, if it is another now. Or the next one is dropped. */
struct log_table *kas_logging_publish(struct kvmas *kvmas);
void kas_logging_drop_next(struct kvmas *kvmas);
void kas_log_table_free(struct kvmas *kvmas, struct log_table *table);

/* If the last handle is gone nobody may commit any more: forget the wishes of those who are gone,
 * at once. The transaction lock is held; or it is taken, and what is dead ends too, unless a
 * transaction goes on, whose end does the same. */
void kas_logging_close_locked(struct kvmas *kvmas);
void kas_logging_close(struct kvmas *kvmas);

#endif

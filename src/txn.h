/* SPDX-License-Identifier: MIT */
/* Transactions, as those who take part in them see them: see txn.c. */
#ifndef KAS_TXN_H
#define KAS_TXN_H

#include <stdio.h>

#include "object.h"

/* One change that can be taken back. Exactly one of restore and release ends it, and frees it. */
struct undo {
	struct undo *next;
	void (*restore)(struct undo *undo); /* take the change back */
	void (*release)(struct undo *undo); /* it has been committed */
};

/* Record a change just made, inside a transaction. */
void kas_txn_record(struct kvmas *kvmas, struct undo *undo);

/* Undo the change recorded last. */
void kas_txn_take_back(struct kvmas *kvmas);

/* End one level begun with kvmas_begin, in which nothing went wrong if err is 0: returns err, or
 * what the commit said. On err this level has changed nothing. */
int kas_txn_end(struct kvmas *kvmas, int err);

/* Have *look* see the open transaction as a commit would: next views, changes and logging are
 * ready. Outside of a transaction there are none. Returns what it returns, or what keeps a commit
 * from coming so far: -ECANCELED, -ENOMEM, -E2BIG, -EBUSY, -EIO. */
int kas_txn_preview(struct kvmas *kvmas, int (*look)(struct kvmas *kvmas, void *data), void *data);

/*
 * Something outside that follows the views and can refuse: KVM. All functions run on the committing
 * thread, under the transaction lock.
 */
struct tie {
	TAILQ_ENTRY(tie) all;
	struct object *object; /* that it is part of */
	/* The next views and logging are ready: follow them. On an error all is as before, or
	 * -ENOTRECOVERABLE says that it is not. */
	int (*prepare)(struct tie *tie);
	/* Prepared, but a later tie refused: go back. 0 or -ENOTRECOVERABLE. */
	int (*cancel)(struct tie *tie);
	/* Prepared, and published. */
	void (*finish)(struct tie *tie);
	int (*dump)(struct tie *tie, FILE *stream);
	/* Hand on the writes to devices that wait with it. *reader* may be NULL. */
	void (*drain)(struct tie *tie, struct kvmas_reader *reader);
};

/* Known, and known no more. Under the transaction lock. */
void kas_tie_add(struct tie *tie);
void kas_tie_del(struct tie *tie);

/* Have all of them drain. Any thread that is in no callback; inside a transaction of its own
 * nothing happens. *reader* is the thread's; NULL: it has none at hand. */
void kas_ties_drain(struct kvmas *kvmas, struct kvmas_reader *reader);

#endif

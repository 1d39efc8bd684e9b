/* SPDX-License-Identifier: MIT */
/* Listeners: who is told what changed in a space. See listener.c. */
#ifndef KAS_LISTENER_H
#define KAS_LISTENER_H

#include "changes.h"

struct kvmas_listener {
	struct kvmas_space *space; /* held */
	struct kvmas_listener_config config;
	TAILQ_ENTRY(kvmas_listener) of_space;
	TAILQ_ENTRY(kvmas_listener) waiting; /* for the end of the round */
	bool linked;                         /* it is in its space's list */
	bool deleted;                        /* for the user; it may still hear the round's end */
	bool agreed; /* its prepare succeeded: a commit or a cancel is owed */
};

/* Put a listener into its space's list, or take it out, telling nobody anything. For listeners
 * inside the library, whose memory is embedded. The transaction lock is held. */
void kas_listener_link(struct kvmas_listener *listener);
void kas_listener_unlink(struct kvmas_listener *listener);

/* A round: the time in which hooks of the user's are called, listeners among them. Topology does
 * not change; listeners that are added and deleted are so at its end. The transaction lock is
 * held. */
void kas_round_begin(struct kvmas *kvmas);
void kas_round_end(struct kvmas *kvmas);
/* The same outside a transaction, letting go of the lock: what callbacks left to nobody ends. */
void kas_round_end_and_unlock(struct kvmas *kvmas);

/* All is rendered: ask the listeners of the spaces that change. 0 or the first refusal; whichever,
 * a commit that fails later cancels. */
int kas_listeners_prepare(struct kvmas *kvmas);
void kas_listeners_cancel(struct kvmas *kvmas);

/* All is published: tell all listeners of all spaces how they changed, logging from
 * *logging_before* on. */
void kas_listeners_tell(struct kvmas *kvmas, const struct log_table *logging_before);

#endif

/* SPDX-License-Identifier: MIT */
/* Listeners: who is told what changed in a space. See listener.c. */
#ifndef KAS_LISTENER_H
#define KAS_LISTENER_H

#include "changes.h"

struct kvmas_listener {
	struct kvmas_space *space; /* held */
	struct kvmas_listener_config config;
	TAILQ_ENTRY(kvmas_listener) of_space;
	bool agreed; /* its prepare succeeded: a commit or a cancel is owed */
};

/* Put a listener into its space's list, or take it out, telling nobody anything. For listeners
 * inside the library, whose memory is embedded. The transaction lock is held. */
void kas_listener_link(struct kvmas_listener *listener);
void kas_listener_unlink(struct kvmas_listener *listener);

/* All is rendered: ask the listeners of the spaces that change. 0 or the first refusal; whichever, a
 * commit that fails later cancels. */
int kas_listeners_prepare(struct kvmas *kvmas);
void kas_listeners_cancel(struct kvmas *kvmas);

/* All is published: tell all listeners of all spaces how they changed, logging from
 * *logging_before* on. */
void kas_listeners_tell(struct kvmas *kvmas, const struct log_table *logging_before);

#endif

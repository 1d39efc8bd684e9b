/* SPDX-License-Identifier: MIT */
/* Listeners: who is told what changed in a space. See listener.c. */
#ifndef KAS_LISTENER_H
#define KAS_LISTENER_H

#include "logging.h"
#include "space.h"

struct kvmas_listener {
	struct kvmas_space *space; /* held */
	struct kvmas_listener_config config;
	TAILQ_ENTRY(kvmas_listener) of_space;
};

/* What a space looked like, or looks like. */
struct looks {
	const struct kvmas_view *view;
	const struct log_table *logging;
};

/* Put a listener into its space's list, or take it out, telling nobody anything. For listeners
 * inside the library, whose memory is embedded. The transaction lock is held. */
void kas_listener_link(struct kvmas_listener *listener);
void kas_listener_unlink(struct kvmas_listener *listener);

/* Tell all listeners of a space how it got from *before* to *after*. */
void kas_listeners_tell(struct kvmas_space *space, struct looks before, struct looks after);

#endif

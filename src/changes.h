/* SPDX-License-Identifier: MIT */
/* Changes: what a commit changes in a space, in the order in which it is told. See changes.c. */
#ifndef KAS_CHANGES_H
#define KAS_CHANGES_H

#include "logging.h"
#include "space.h"

struct kvmas_changes {
	struct kvmas_space *space;
	const struct changes *ranges;
	const struct kvmas_view *view; /* as it is afterwards */
	const struct log_table *logging_before;
	const struct log_table *logging_after;
};

/* What the commit that goes on is about to change; and what it has changed, once all is published
 * and *logging_before* was replaced. */
struct kvmas_changes kas_changes_ahead(struct kvmas_space *space);
struct kvmas_changes kas_changes_made(struct kvmas_space *space,
				      const struct log_table *logging_before);

/* Call fn for each change; a result other than 0 stops the walk and is returned. */
int kas_changes_walk(const struct kvmas_changes *changes, kvmas_change_fn *fn, void *data);

/* Whether there is any. */
bool kas_changes_any(const struct kvmas_changes *changes);

/* The whole published view as additions, as if it had just come; or as deletions. */
void kas_changes_replay(struct kvmas_space *space, bool added, kvmas_change_fn *fn, void *data);

#endif

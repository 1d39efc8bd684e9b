/* SPDX-License-Identifier: MIT */
/* Which event channels a region answers by: see answering.c. */
#ifndef KAS_ANSWERING_H
#define KAS_ANSWERING_H

#include "region.h"

/* A commit has succeeded: dispatch sees the channels of the edited regions as they are now. And,
 * when it is over, whichever way: they are not edited any more. Under the transaction lock. */
void kas_channels_publish(struct kvmas *kvmas);
void kas_channels_forget_edits(struct kvmas *kvmas);

/* The published table, NULL for none, of a region that this thread keeps by way of a view; to be
 * given back. Without a lock, in general. */
struct channels *kas_channels_pin(struct pins *pins, struct kvmas_region *region);
void kas_channels_unpin(struct pins *pins, struct channels *channels);

#endif

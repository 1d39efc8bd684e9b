/* SPDX-License-Identifier: MIT */
/* Where event channels are on KVM's buses: see placement.c. */
#ifndef KAS_PLACEMENT_H
#define KAS_PLACEMENT_H

#include "channel.h"
#include "windows.h"

struct kvmas_kvm;

/* An ioeventfd, or a piece of a coalesced zone, at one place where it is seen. */
struct placement {
	bool pio;
	bool right;                  /* the bus, which knows no spaces, would be right */
	bool covered;                /* it is, but is part of another one, which is as well */
	unsigned memory;             /* which as_ids show memory there, if right: bits */
	bool made;                   /* KVM has it */
	int refused;                 /* what KVM did with, when it was asked last; 0 */
	bool found;                  /* by the draft of the commit that goes on */
	bool leaves;                 /* the commit that goes on takes it from KVM */
	struct range bytes;          /* on the bus */
	struct channel *channel;     /* held */
	struct kvmas_region *region; /* whose it is; not held: a view shows it */
};

/* Sorted: compare() in placement.c. No two are the same. */
struct placements {
	struct placement *at;
	size_t count;
	size_t capacity;
	uint64_t longest; /* bytes of one, less 1, at most */
};

/* What a commit changes. */
struct channel_plan {
	struct windows mmio; /* where something may */
	struct windows pio;
	struct windows slots; /* of mmio, where slots may come or go */
	bool any;             /* something does: all that follows is valid */
	struct placements next;
	uint64_t nunmakes;
	uint64_t nmakes;
	uint64_t nmusts; /* of these: to be made before the commit is sure */
	bool renewed;    /* KVM knows all memory, as slots are now (kas_apply_renew) */
};

static inline bool kas_placement_is_must(const struct placement *placement)
{
	return placement->channel->flags & KVMAS_CHANNEL_MUST;
}

/*
 * Find where all channels are once the commit that goes on, or a dry run of it, has succeeded.
 * Pure, but for memory, and `leaves` of what is there now. -ENOMEM; -EOPNOTSUPP for a channel that
 * must be in KVM and cannot. Free with kas_placements_fini, also after an error.
 */
int kas_placements_draft(struct kvmas_kvm *kvm, struct channel_plan *plan);

void kas_placements_fini(struct kvmas *kvmas, struct placements *placements);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Random event channels: devices, RAM and aliases in two spaces, and ports; channels that are added
 * and taken back; commits that fail, and callbacks that commit; stores by two vCPUs in both spaces,
 * and DMA, while writes wait in the ring. The double has all, or lacks something, or is full.
 *
 *     channel-model.c        choices, worlds, stores, one step
 *     channel-model-edit.c   transactions
 *     channel-oracle.c       who answers a store, and what KVM's buses must hold
 *
 * Who answers is looked up in what tests/oracle.c renders of a tree of the model's own. What a
 * store leads to is settled when it is made, or, if it ends KVM_RUN, when it is answered: an
 * eventfd, RAM, nothing, or a call of a device, which must come in its turn: all that waited comes
 * first.
 */
#ifndef CHANNEL_MODEL_H
#define CHANNEL_MODEL_H

#include "channel-fixture.h"
#include "choices.h"
#include "oracle.h"

enum {
	MODEL_PAGES = 12,  /* of addresses in which things are put */
	MODEL_PORTS = 256, /* the same of ports */
	NODE_NORMAL = 0,
	NODE_SMM,
	NODE_PORTS,
	NODE_MIRROR, /* the normal space, shown in SMM's */
	NODE_DEVICES,
	NODE_PORT_DEVICES = NODE_DEVICES + 4,
	NODE_RAMS = NODE_PORT_DEVICES + 2,
	NODE_ALIASES = NODE_RAMS + 2,
	NNODES = NODE_ALIASES + 4,
	MAX_CHANNELS = 8,
	MAX_WAITING = 512,
};

struct model_channel {
	bool zone;
	bool must;
	bool match;
	uint64_t offset;
	uint64_t size; /* of an ioeventfd for any size 0 */
	uint64_t value;
	unsigned event;
};

/* What a transaction changes. */
struct model_state {
	struct node nodes[NNODES];
	struct model_channel channels[NNODES][MAX_CHANNELS];
	unsigned nchannels[NNODES];
	unsigned order;
	bool smm_bound;
	bool ports_bound;
};

/* What a store leads to. */
struct target {
	enum { TO_NOTHING, TO_MEMORY, TO_EVENT, TO_DEVICE } kind;
	int node;
	uint64_t offset;
	unsigned event;
};

/* A call of a device that is to come. */
struct model_call {
	int node;
	uint64_t offset;
	unsigned size;
	uint64_t value;
	bool smm;
	struct kvmas_space *space;
};

/* An access that is being answered. */
struct model_exit {
	bool on;
	bool settled;
	unsigned space; /* or PORTS */
	bool smm;
	uint64_t address;
	unsigned size;
	uint64_t bytes;
	bool zones; /* DMA: the device has some, so that what waits comes first */
	struct target target;
};

struct channel_tally {
	uint64_t steps;
	uint64_t commits;
	uint64_t failed;
	uint64_t broken;
	uint64_t refused_edits;
	uint64_t aborted;
	uint64_t from_callbacks;
	uint64_t memory;
	uint64_t nothing;
	uint64_t events_in_kvm;
	uint64_t events_by_hand;
	uint64_t waited;
	uint64_t called;
	uint64_t drains;
	uint64_t dmas;
	uint64_t in_kvm; /* places, summed over commits */
	uint64_t by_hand;
};

struct channel_world {
	struct choices choices;
	struct channel_tally *tally;
	struct rig *r;
	bool faulty;   /* calls and allocations fail */
	bool complete; /* KVM takes all that is right */
	/* The bus is small: an ioeventfd that KVM had before it was full it does not take again. So
	 * there are no musts: one that cannot be given back would have all commits fail. */
	bool full;
	bool meddles; /* callbacks commit */
	struct kvmas_region *regions[NNODES];
	struct kvmas_ram *blocks[2];
	struct model_state now;
	struct oracle_range *views[3]; /* by root; NULL: not rendered since the last change */
	size_t counts[3];
	struct model_call waiting[MAX_WAITING];
	unsigned head; /* of what waits: up to tail, modulo its size */
	unsigned tail;
	struct model_exit exit;
	struct model_exit dma;
	uint64_t events[NEVENTFDS]; /* signals that must have come */
	uint64_t serial;            /* of stores */
	unsigned depth;             /* of callbacks */
};

struct channel_world *channel_world_new(struct choices choices, struct channel_tally *tally);
/* One step. False when there are no more choices. */
bool channel_world_step(struct channel_world *w);
void channel_world_free(struct channel_world *w);

/* A number below n; true once in n times. */
unsigned model_draw(struct channel_world *w, unsigned n);
bool model_rarely(struct channel_world *w, unsigned n);
bool model_has_ops(int node);

/* ---- channel-model-edit.c ---- */

/* Most things are put somewhere, and have channels. */
void model_begin(struct channel_world *w);
/* A transaction of some edits: it commits, fails, or is aborted. */
void model_change(struct channel_world *w);
void model_forget_views(struct channel_world *w);

/* ---- channel-oracle.c ---- */

/* The view of a root, NODE_NORMAL to NODE_PORTS. */
const struct oracle_range *model_view(struct channel_world *w, unsigned root, size_t *count);
struct target model_target(struct channel_world *w, unsigned space, uint64_t address, unsigned size,
			   uint64_t bytes);
/* In which space KVM's ring has a write: the lowest that does not show memory. */
unsigned model_space_of_ring(struct channel_world *w, uint64_t address);
/* The value that a device is called with. */
uint64_t model_value(int node, uint64_t bytes, unsigned size);
/* What the bus must have, and has not; NULL. */
const char *model_missing(struct channel_world *w);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Random accesses to random maps, beside a model of them that goes byte by byte. A world is a space
 * of a few hundred bytes, at the bottom of the addresses or at their top, in cells; a cell shows a
 * piece of a thing: memory of two pages, seen around its borders, a device with random rules, a ROM
 * device, or a reserved region. Some devices refuse some registers, and some make an access of
 * their own from their callbacks.
 *
 *     access-model.c    choices, worlds, edits, the devices; one step
 *     access-oracle.c   what an access must do
 *
 * After each access all is compared: bytes, result, how many are done, counts, every call of every
 * callback in order, what is in memory and in the devices, and which pages are dirty.
 */
#ifndef ACCESS_MODEL_H
#define ACCESS_MODEL_H

#include "choices.h"
#include "fixture.h"

#include "dispatch.h"

enum {
	NCELLS = 16,
	CELL = 32, /* bytes */
	SPAN = NCELLS * CELL,
	NTHINGS = 8,
	NBLOCKS = 2,
	BLOCK_PAGES = 2,
	REGISTERS = 64,
	MAX_ACCESS = 48,
	MAX_EVENTS = 2048,
	MAX_FRAMES = 8,
};

struct request {
	uint64_t address;
	unsigned size;
	bool write;
	bool whole;
};

/* What a region is. Its registers are at offsets modulo REGISTERS. */
struct gadget {
	struct access_world *w;
	unsigned index;
	struct kvmas_region *region;
	enum kvmas_region_kind kind;
	unsigned block; /* of those with memory */
	uint64_t size;
	bool romd;
	struct kvmas_ops ops;
	unsigned guard;         /* 0: none */
	uint64_t refuses_reads; /* bit n: register n */
	uint64_t refuses_writes;
	int error;
	bool relays; /* its callbacks make this access first */
	struct request relay;
};

/* What a cell shows, from its byte *shift* on: an alias. */
struct cell {
	struct kvmas_region *alias;
	unsigned thing;
	unsigned shift;
	unsigned size;
	uint64_t target_offset;
	bool enabled;
	bool readonly;
};

/* What happened, in the order of happening: r and w, a callback; t, a trace; n, the end of a
 * callback's own access. */
struct event {
	uint64_t kind;
	uint64_t thing;
	uint64_t at;
	uint64_t size;
	uint64_t value;
	int64_t err;
	uint64_t done;
	uint64_t unassigned;
	uint64_t refused;
};

/* One of the two sides: what is, and what must be. */
struct side {
	unsigned char registers[NTHINGS][REGISTERS];
	unsigned char *memory[NBLOCKS];
	uint64_t dirty[NBLOCKS];
	unsigned budget; /* accesses that callbacks may still make in this step */
	unsigned nevents;
	struct event events[MAX_EVENTS];
};

/* What the steps have met. */
struct access_tally {
	uint64_t accesses;
	uint64_t edits;
	uint64_t errors[160]; /* by errno */
	uint64_t calls;
	uint64_t widened;
	uint64_t refused;
	uint64_t unassigned;
	uint64_t partial; /* errors with something done */
	uint64_t inner;
	uint64_t inner_errors[160];
	uint64_t dirtied;
};

struct access_world {
	struct choices choices;
	struct access_tally *tally;
	struct fixture *f;
	uint64_t base;
	bool traced;
	struct kvmas_region *root;
	struct kvmas_space *space;
	struct kvmas_client *client;
	struct kvmas_ram *blocks[NBLOCKS];
	struct gadget things[NTHINGS];
	struct cell cells[NCELLS];
	struct side is;
	struct side must_be;
};

/* What an access gave. */
struct outcome {
	unsigned char bytes[MAX_ACCESS];
	int err;
	size_t done;
	unsigned unassigned;
	unsigned refused;
};

struct access_world *access_world_new(struct choices choices, struct access_tally *tally);
/* One step. False when there are no more choices. */
bool access_world_step(struct access_world *w);
void access_world_free(struct access_world *w);

void access_event(struct side *side, struct event event);

/* ---- access-oracle.c ---- */

/* What *request* must give, with its bytes in outcome->bytes; changes w->must_be accordingly. */
void oracle_access(struct access_world *w, const struct request *request, struct outcome *outcome);

#endif

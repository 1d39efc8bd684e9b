/* SPDX-License-Identifier: MIT */
/*
 * A model of the library for random runs. It describes what there is: regions (oracle.h), spaces,
 * listeners, readers that hold a view, and what is logged. A step draws its arguments, foretells
 * what the call may return and the state after it, and makes the call; after each step all that can
 * be seen through the public interface is compared with the model.
 *
 *     model.c           running: choices, one step, its result, its tally
 *     model-edit.c      steps that change the tree, and that begin and end transactions
 *     model-object.c    steps that make and end objects
 *     model-listener.c  those of listeners
 *     model-state.c     transactions as copies; who is held by whom
 *     model-check.c     what must be seen, and is it
 *
 * A region that ends frees its children: the model keeps away from the cases in which when it ends
 * is the library's business. A region whose handle was dropped is a leaf or a plain container, and
 * inside a transaction none loses its last holder.
 */
#ifndef MODEL_H
#define MODEL_H

#include "choices.h"
#include "fixture.h"
#include "mirror.h"
#include "oracle.h"

enum {
	MAX_REGIONS = 300,
	MAX_SPACES = 6,
	MAX_HEARERS = 5,
	MAX_PINS = 4,
	NBLOCKS = 3,
	BLOCK_PAGES = 16,     /* at most */
	MIN_BLOCK_PAGES = 10, /* any region fits when it is made */
	ANY = 0,              /* in the table of wishes; others are 1 + index */
	SKIPPED = 1,          /* a step could not be made: draw another */
	NERRNOS = 10,         /* those told apart, and others */
	MAX_REFUSALS = 4,
};

/* All steps: those of model-edit.c, then those of model-object.c. */
enum {
	STEP_ADD,
	STEP_DEL,
	STEP_SET_ENABLED,
	STEP_SET_READONLY,
	STEP_SET_NONVOLATILE,
	STEP_SET_UNMERGEABLE,
	STEP_SET_ROMD,
	STEP_SET_OFFSET,
	STEP_SET_SIZE,
	STEP_SET_PRIORITY,
	STEP_SET_ALIAS,
	STEP_SET_ALIAS_OFFSET,
	STEP_OVERLAY,
	STEP_LOG_START,
	STEP_LOG_STOP,
	STEP_BEGIN,
	STEP_COMMIT,
	STEP_ABORT,
	NEDITS,
	STEP_REGION_NEW = NEDITS,
	STEP_REGION_UNREF,
	STEP_REGION_REF,
	STEP_SPACE_NEW,
	STEP_SPACE_UNREF,
	STEP_LISTENER_ADD,
	STEP_LISTENER_DEL,
	STEP_ACQUIRE,
	STEP_RELEASE,
	STEP_RECLAIM,
	STEP_CLIENT_RENEW,
	STEP_SYNC,
	STEP_DRY_RUN,
	STEP_RAM_RESIZE,
	NSTEPS,
};

/* What a region is to its destroy hook; lives until the end of the run. */
struct being {
	char name[12];
	unsigned destroyed;
	bool over; /* nobody holds it, as far as the tree goes */
	struct being *next;
};

/* Beside each node of the tree. A place whose region is NULL is free. */
struct place {
	struct kvmas_region *region;
	struct being *being;
	int block; /* RAM, ROM, ROMD: which, and where in it */
	uint64_t block_offset;
	bool handle; /* the model holds a reference: else it must not name the region */
};

typedef bool wish_table[1 + MAX_REGIONS][1 + MAX_SPACES];

/* All that a transaction can change and an abort brings back. */
struct state {
	struct tree tree;
	wish_table wishes;
	uint64_t pages[NBLOCKS]; /* of the blocks */
};

/* A listener. One that is NULL is not attached. */
struct hearer {
	struct model *model;
	struct kvmas_listener *listener;
	int space;
	bool owed;    /* it agreed: a commit or a cancel */
	bool replays; /* is told the whole view, which nobody asks it about */
	struct mirror mirror;
};

/* A place whose space is NULL is free. */
struct space_model {
	struct kvmas_space *space;
	bool handle;
	bool fresh; /* made in this transaction: its view is empty until it has committed */
	int root;
	struct oracle_range *ranges; /* what its view shows */
	size_t count;
	bool changes;                  /* in this step */
	const struct kvmas_view *view; /* seen last: another one shows something else */
};

/* A view that somebody holds, and what it showed when it was pinned. */
struct pin {
	struct kvmas_reader *reader;
	const struct kvmas_view *view;
	struct kvmas_section *sections;
	size_t count;
};

/* What was done, over all runs. */
struct tally {
	uint64_t runs;
	uint64_t steps;
	uint64_t done[NSTEPS];
	uint64_t showed[NSTEPS]; /* of those done: a view changed at once */
	uint64_t refused[NSTEPS][NERRNOS];
	uint64_t commits;     /* outermost ones that succeeded and edited something */
	uint64_t publishing;  /* of those: a view changed */
	uint64_t published;   /* views */
	uint64_t ranges;      /* in those */
	uint64_t told;        /* times that a listener was called */
	uint64_t vetoes;      /* commits that a listener refused */
	uint64_t largest;     /* ranges of a view */
	uint64_t lengths[8];  /* of transactions: below 2, 4, 8 ... edits */
	uint64_t regions[10]; /* runs by the number of their regions: below 2, 4, 8 ... */
	uint64_t deaths;      /* regions that ended in the middle of a run */
};

struct model {
	/* What the run is. */
	uint64_t seed;
	bool verbose;
	struct choices choices;
	struct tally *tally;
	unsigned nregions; /* places */
	unsigned nroots;   /* the first of them: what most spaces show, and most others are in */
	bool wide;         /* many small regions side by side: large views */
	uint64_t nplaces;  /* what offsets are drawn from */
	uint64_t max_ranges;
	uint64_t max_nodes;

	/* What there is. */
	struct fixture *f;
	struct kvmas *foreign; /* another, and a region of its */
	struct kvmas_region *foreign_region;
	struct kvmas_ram *blocks[NBLOCKS];
	struct kvmas_client *client;
	struct place places[MAX_REGIONS];
	struct space_model spaces[MAX_SPACES];
	struct hearer hearers[MAX_HEARERS];
	struct pin pins[MAX_PINS];
	struct being *beings;
	unsigned nunheld; /* regions without a handle */
	unsigned nbeings;

	/* The state, and what the transaction began with. */
	struct state now;
	struct state saved;
	wish_table told; /* the wishes that listeners know of */
	unsigned depth;
	bool doomed;
	unsigned patience;  /* it takes about so many steps */
	bool aborts_within; /* inner levels may be aborted */
	unsigned nedits;    /* since the outermost begin */
	bool edited;        /* the tree, since the last commit */

	/* The step. */
	uint64_t nsteps;
	const char *step;
	int refusals[MAX_REFUSALS]; /* what the call may return, if there are any */
	unsigned nrefusals;
	bool may_be_busy; /* something that the model knows nothing of may hold a window */
	int node;         /* NONE, or the node that the call changes if it succeeds */
	struct node after;
	bool *wish;            /* NULL, or the one that it turns around */
	bool ended;            /* an outermost level */
	unsigned veto;         /* the listener asked as this one refuses; 0: none */
	bool vetoed;           /* it has */
	unsigned inside_calls; /* from inside listeners' callbacks: made, and not refused */
	unsigned inside_taken;
};

struct step {
	const char *name;
	int (*run)(struct model *m);
	unsigned weight;
	bool edits; /* alone, it is a transaction */
};

extern const struct step model_edits[NEDITS];
extern const struct step model_objects[NSTEPS - NEDITS];

/* ---- model.c ---- */

/* How a run is made: from a seed, or from bytes. *tally* may be shared. */
struct model *model_new(uint64_t seed, struct choices choices, struct tally *tally);
/* One step. False when there are no more choices. */
bool model_step(struct model *m);
void model_free(struct model *m);
void tally_print(const struct tally *tally);
/* A share of all steps, in thousandths: those of one kind, or with NSTEPS of any, that were refused
 * with an error, or with 0 all. */
unsigned tally_share(const struct tally *tally, unsigned step, int error);
const struct step *step_at(unsigned index);

/* A number below n. */
uint64_t draw(struct model *m, uint64_t n);
/* True once in n. */
bool rarely(struct model *m, uint64_t n);
/* The call must be refused; with several of these, for one of the reasons. */
void refuse(struct model *m, int error, bool when);
/* Note what the step does, for people. */
__attribute__((format(printf, 2, 3))) void say(struct model *m, const char *format, ...);

/* ---- model-state.c ---- */
void model_save(struct model *m);
void model_go_back(struct model *m);
/* How many paths there are from all tops of the tree to all regions. */
uint64_t model_paths(const struct model *m);
/* Regions without a handle that would be without any holder. */
unsigned model_count_lost(const struct model *m);
/* Let go of regions and spaces that nobody holds. */
void model_collect(struct model *m);
bool model_space_is_held(const struct model *m, int space);

/* ---- model-object.c ---- */
enum kvmas_region_kind model_draw_kind(struct model *m);
void model_make_region(struct model *m, int index, enum kvmas_region_kind kind);
/* The spaces that an abort left empty: show them, or drop them where that is refused. */
void model_settle_fresh(struct model *m);
bool model_is_alias(const struct model *m, int index);
/* A region with a handle; rather one that can be seen. NONE if a few draws find none. */
int draw_any_region(struct model *m);
int draw_region(struct model *m);
uint64_t draw_size(struct model *m, int index);
uint64_t model_room(const struct model *m, int index);
uint64_t draw_offset(struct model *m, int within);

/* ---- model-listener.c ---- */
int model_listener_add(struct model *m);
int model_listener_del(struct model *m);

/* ---- model-check.c ---- */
/* An outermost commit succeeded: what spaces show now. */
void model_foretell(struct model *m);
/* Whether rendering the tree as it is could pass a cap. */
bool model_may_pass_cap(const struct model *m);
void model_check(struct model *m);
void model_check_hearer(struct model *m, const struct hearer *hearer);
void model_pin(struct model *m, struct pin *pin, int space);
void model_unpin(struct model *m, struct pin *pin);

#endif

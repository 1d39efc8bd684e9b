/* SPDX-License-Identifier: MIT */
/*
 * A world that changes while it is looked at: two spaces that show stamps, and devices that come
 * and go. See world.c.
 */
#ifndef WORLD_H
#define WORLD_H

#include <stdatomic.h>

#include "fixture.h"

enum { NSIDES = 2, NSTAMPS = 4, NFILLERS = 150, NBURIED = 1024 };

/* Where a device stands on the shelf; what its writes do. */
enum place {
	FLASH,     /* takes itself off the shelf */
	CLERK,     /* commits */
	GUIDE,     /* nothing; its reads look at the world */
	SCAPEGOAT, /* nothing; is replaced, and retired after a kvmas_synchronize */
	NPLACES,
};

#define PLACE_SIZE UINT64_C(0x1000)
#define SHELF (UINT64_C(1) << 32) /* the address of the shelf */

/* The opaque pointer of each device, until it is buried. */
struct device {
	struct world *world;
	struct kvmas_region *region; /* held by the shelf and, until it is taken off, by us */
	enum place place;
	uint64_t stamp;      /* of the commit that put it there */
	atomic_uint life;    /* ALIVE until its destroy hook */
	atomic_bool retired; /* nobody looks at it any more */
};

struct side {
	struct kvmas_region *root;
	struct kvmas_region *stamps[NSTAMPS]; /* aliases of the tape */
	struct kvmas_space *space;
};

struct world {
	struct fixture *f;
	struct kvmas *kvmas;
	struct kvmas_region *tape; /* its byte (n << 12) stands for stamp n */
	struct kvmas_region *shelf;
	struct side sides[NSIDES];
	struct kvmas_listener *judge; /* refuses when told to */

	/* Under the transaction lock: */
	struct device *devices[NPLACES];
	bool refuse; /* the judge does */
	uint64_t seed;
	struct device *buried[NBURIED]; /* ended, not yet freed */
	unsigned nburied;

	_Atomic(uint64_t) drawn;    /* the last stamp that was given out */
	_Atomic(uint64_t) returned; /* the largest whose commit has returned */
	atomic_bool taken_away;     /* membarrier(2), or about to be */
	atomic_uint made;           /* devices */
	atomic_uint ended;
	atomic_uint failed; /* commits that were meant to */
	atomic_uint failures;
};

void world_init(struct world *world, struct fixture *f);
/* Take all devices off and see that each ends; clean up. */
void world_fini(struct world *world);

/* A device that no place of the shelf has, for the opaque pointer of a region that looks find. */
void world_init_device(struct world *world, struct device *device);

/* What must hold, on any thread: counted, since an assert ends the wrong one. */
void expect_at(struct world *world, bool right, const char *what, int line);
#define expect(world, right) expect_at(world, right, #right, __LINE__)

/* Stamp both sides anew, in one commit; a device is put where *place* has none, or in its stead:
 * what stood there is returned, and held; NULL for none. Now and then the commit fails, as it was
 * meant to, and nothing changes. */
struct device *world_commit(struct world *world, enum place place, bool replace);

/* Whether this thread is in a look, when no destroy hook may run on it; returns what was before. A
 * callback that commits is not. */
bool look_set(bool now);

/* kvmas_synchronize on a thread that has something pinned. */
void expect_deadlock(struct world *world);

/* What a view of a side shows: one stamp, which is returned, not older than *floor*; living
 * devices, which are not younger. */
uint64_t check_view(struct world *world, struct kvmas_reader *reader, const struct kvmas_view *view,
		    uint64_t floor);
/* The same for the devices of a shelf at an address. */
void check_shelf(struct world *world, struct kvmas_reader *reader, const struct kvmas_view *view,
		 uint64_t shelf, uint64_t stamp);
/* The same for a side, by going through it. */
void check_all_sections(struct world *world, const struct kvmas_view *view);

/* Acquire, check, release. */
void look_at(struct world *world, struct kvmas_reader *reader, struct kvmas_space *space);

/* An access to a place on the shelf, or across two stamps. */
void access_place(struct kvmas_reader *reader, struct kvmas_space *space, enum place place,
		  bool write);
void access_stamps(struct world *world, struct kvmas_reader *reader, struct kvmas_space *space);

uint64_t draw(uint64_t *seed, uint64_t limit);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A board with places, some of memory, some of ports, to which both vCPUs of a guest make accesses
 * without end (stores.h); and devices with event channels, which come to these places, go, and are
 * hidden there, by commits of the test's thread and of the devices' own callbacks. A ledger says
 * whether each access arrived once, in order, and where it was to.
 *
 *   place      what may be there, the uppermost first
 *   memory     RAM; a cover, without channels; two movers; the floor, always
 *   ports      a mover; the floor, always
 *
 * A mover has a zone over all of it, and ioeventfds in it. Every entry of a script has bytes of its
 * own at each place, so that a device knows by the offset which one it was.
 */
#ifndef LIVE_BOARD_H
#define LIVE_BOARD_H

#include "ledger.h"

enum {
	NMEMORY = 4, /* places of memory, */
	NPORTS = 2,  /* of ports, */
	NPLACES = NMEMORY + NPORTS,
	NMOVERS = 3, /* the last one of ports */
	MAX_EVENTS = LEDGER_ENTRIES,
	STAGE_ROUNDS = 60,
	NOWHERE = 0xff,
};

/* Who answers: the bits of a ledger's outcomes. */
enum who {
	FLOOR,
	PORT_FLOOR,
	COVER,
	STATUS,
	SWITCH,
	MOVER, /* and those behind it */
	RAM = 16,
	SIGNAL, /* by a mover, and those behind it */
};

struct board;

struct spot {
	uint8_t place; /* also when it is not there */
	bool enabled;
	bool inserted; /* in its container */
	bool zone;
	bool events;
};

struct map {
	struct spot movers[NMOVERS];
	struct spot cover;
	struct spot ram;
	bool split; /* the second address space shows something else than the first */
};

/* Who a callback is for. */
struct desk {
	struct board *board;
	enum who who;
	uint64_t bytes; /* of a place, for a floor; else 0 */
};

/* Its first member is what guest_teardown wants. */
struct board {
	struct guest *g;
	struct ledger ledger;
	struct map maps[LEDGER_MAPS]; /* by the ledger's numbers */
	struct kvmas_region *movers[NMOVERS];
	struct kvmas_region *cover, *ram, *other;
	struct kvmas_region *ports;
	struct kvmas_space *port_space;
	struct desk desks[MOVER + NMOVERS];
	uint8_t entry_at_port[MAX_VCPUS][16];
	uint8_t nentries, nports;
	int fds[NMOVERS][MAX_VCPUS][LEDGER_ENTRIES]; /* -1: none */
	uint64_t seeds[MAX_VCPUS + 1];
	/* By the vCPU threads. */
	_Atomic unsigned parked;
	_Atomic unsigned stage;
	_Atomic int error;      /* of a commit, the first */
	_Atomic uint64_t lines; /* of the log */
	_Atomic uint64_t changes;
	uint64_t signals; /* by the test's thread */
	int decoy;        /* an eventfd that nobody reads */
};

#define BOARD_TEST(test) cmocka_unit_test_setup_teardown(test, board_setup, guest_teardown)
int board_setup(void **state);

/* Make it, its vCPUs not yet running. */
struct board *board_make(void **state, guest_meddle_fn *meddle);
/* Change something at random, in a transaction; by the test's thread, or a vCPU's. */
void board_change(struct board *board, unsigned thread);
/* Start the vCPUs; wait until all are at the end of a stage, calling fn meanwhile, again and again;
 * look at it, with the vCPUs waiting: NULL, or what is wrong; let them go on. */
void board_start(struct board *board);
void board_wait(struct board *board, void (*fn)(struct board *board));
const char *board_check(struct board *board);
/* In place of looking at it. */
void board_forget(struct board *board);
void board_go_on(struct board *board);
/* Stop them. */
void board_end(struct board *board);

#endif

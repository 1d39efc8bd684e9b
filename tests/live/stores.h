/* SPDX-License-Identifier: MIT */
/*
 * A guest whose vCPUs do nothing but make accesses, by a script that each goes through again and
 * again, in flat 32-bit mode. Every access has a number, one more than the one before it, which
 * stands in memory before the access is made; what is written is that number, as much of it as
 * fits. So whoever is written to knows which access it was, and everybody how far a vCPU has come.
 *
 * After some rounds, a stage, each vCPU calls the test, on its own thread (vcpu->turn).
 */
#ifndef LIVE_STORES_H
#define LIVE_STORES_H

/* What an access is: the number of its piece of code, STORES_PIECE bytes each (stores.S). */
#define STORES_BYTE 0
#define STORES_WORD 1
#define STORES_LONG 2
#define STORES_QUAD 3 /* its upper half is STORES_UPPER */
#define STORES_LOAD 4 /* of 4 bytes */
#define STORES_OUT_BYTE 5
#define STORES_OUT_WORD 6
#define STORES_OUT_LONG 7
#define STORES_REP_OUTS 8 /* `count` times 4 bytes: number << STORES_REP_SHIFT, and ever one more */
#define STORES_KINDS 9

#define STORES_PIECE 64
#define STORES_UPPER 0x600dcafe
#define STORES_REP_SHIFT 8
#define STORES_REP_MAX 250

/* Bytes of an entry of the script, */
#define STORES_KIND 0
#define STORES_ADDRESS 4
#define STORES_REPEAT 8
#define STORES_ENTRY_SIZE 16
/* and of a vCPU's control page, half of which is room for rep outs. */
#define STORES_NUMBER 0
#define STORES_LENGTH 4
#define STORES_SCRIPT 8
#define STORES_CODE 12
#define STORES_ROUNDS 16
#define STORES_EVERY 20
#define STORES_LEFT 24
#define STORES_TURN_IN 28
#define STORES_HERE 32
#define STORES_WIDE 40
#define STORES_ROOM 2048

#ifndef __ASSEMBLER__
#include "guest.h"

struct store {
	uint32_t kind;
	uint32_t address; /* or port */
	uint32_t count;
	uint32_t unused;
};

struct stores_control {
	uint32_t number; /* of the access that is being made, or was made last */
	uint32_t length; /* of the script, in entries */
	uint32_t script;
	uint32_t code;
	uint32_t rounds;
	uint32_t every; /* rounds in a stage */
	uint32_t left;
	uint32_t turn_in;
	uint32_t here;
	uint32_t unused;
	uint32_t wide[2];
};

_Static_assert(sizeof(struct store) == STORES_ENTRY_SIZE, "as in stores.S");
_Static_assert(offsetof(struct stores_control, wide) == STORES_WIDE, "as in stores.S");

/* The first page behind those that this takes, from FREE_PAGE on. */
#define STORES_END_PAGE (FREE_PAGE + 1 + 2 * MAX_VCPUS)

/* Let a guest, whose vCPUs do not run, have this program, with empty scripts, and stages of so many
 * rounds. */
void stores_init(struct guest *g, uint32_t every);
/* Add to a vCPU's script; returns where. */
unsigned stores_add(struct guest *g, unsigned vcpu, struct store store);
struct stores_control *stores_control(const struct guest *g, unsigned vcpu);
struct store *stores_script(const struct guest *g, unsigned vcpu);
/* How far a vCPU has come, as it runs. */
uint32_t stores_number(const struct guest *g, unsigned vcpu);
/* Bytes that one access of this kind writes or reads. */
unsigned stores_size(uint32_t kind);

extern const unsigned char stores_program[], stores_program_end[];
#endif

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What guest and host agree on: the control page of a program, the table that it works through, and
 * the ports that it writes to. Read by code.S as well.
 *
 * A program goes through its table again and again. Each entry is a word of the guest's memory and
 * what must be done with it:
 *
 *   CODE_READ   it must be a or b
 *   CODE_CALL   it is code that returns a word, which must be a or b (not in SMM)
 *   CODE_WRITE  it must be a; a + 1 is written and must then be there, and is the new a
 *   CODE_TRY    the same, but the write may also have been refused: then it must still be a
 *   CODE_POKE   a is written, whatever is there
 *
 * After the table it writes numbers, ever higher ones, to pages that it chooses at random among
 * its targets, all at the same offset of the page, and looks at none of them.
 */
#ifndef LIVE_CODE_H
#define LIVE_CODE_H

#define CODE_READ 0
#define CODE_CALL 1
#define CODE_WRITE 2
#define CODE_TRY 3
#define CODE_POKE 4

/* Bytes of an entry. */
#define CODE_ADDRESS 0
#define CODE_KIND 4
#define CODE_A 8
#define CODE_B 12
#define CODE_ENTRY_SIZE 16

/* Bytes of a control page; its end is the program's stack. */
#define CODE_TABLE 0
#define CODE_COUNT 4
#define CODE_TURN_EVERY 8
#define CODE_LEFT 12
#define CODE_ROUNDS 16
#define CODE_BAD_ENTRY 20
#define CODE_BAD_VALUE 24
#define CODE_WRITES 28
#define CODE_RANDOM 32
#define CODE_TARGETS 36
#define CODE_NTARGETS 40
#define CODE_LANE 44
#define CODE_NUMBER 48

/* Ports: written after each CODE_TURN_EVERY rounds, and when a word is wrong, with which a program
 * ends. */
#define CODE_TURN_PORT 0x80
#define CODE_BAD_PORT 0x81

/* In SMM the control page's address stands here, from the handler's first byte. */
#define CODE_SMM_CONTROL 4

#ifndef __ASSEMBLER__
#include <stdint.h>

struct code_entry {
	uint32_t address;
	uint32_t kind;
	uint32_t a;
	uint32_t b;
};

struct code_control {
	uint32_t table;
	uint32_t count;
	uint32_t turn_every;
	uint32_t left;
	uint32_t rounds;
	uint32_t bad_entry;
	uint32_t bad_value;
	uint32_t writes; /* in each round */
	uint32_t random;
	uint32_t targets; /* the address of their addresses */
	uint32_t ntargets;
	uint32_t lane; /* the offset in a page */
	uint32_t number;
};

_Static_assert(sizeof(struct code_entry) == CODE_ENTRY_SIZE, "as in code.S");
_Static_assert(sizeof(struct code_control) == CODE_NUMBER + 4, "as in code.S");

/* The programs, to be copied anywhere: flat 32-bit code that wants its control page in %ebp; and a
 * handler for SMIs. */
extern const unsigned char code_flat[], code_flat_end[], code_smm[], code_smm_end[];
#endif

#endif

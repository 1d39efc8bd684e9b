/* SPDX-License-Identifier: MIT */
/*
 * One instruction at a time on a real vCPU, at the test's hand: the first vCPU of a guest is given
 * registers, runs a piece of code of a few instructions that ends in HLT, and its registers are
 * read. The test's own thread runs it and has the library answer all exits on the way: so devices'
 * callbacks may assert.
 *
 * The same pieces are there for flat 32-bit mode, for SMM, and for 64-bit mode (steps.S).
 */
#ifndef LIVE_STEPS_H
#define LIVE_STEPS_H

/* Bytes of each piece. */
#define STEP_SIZE 32

#ifndef __ASSEMBLER__
#include "guest.h"

enum step_mode {
	STEP_FLAT,
	STEP_SMM,
	STEP_LONG,
};

/*
 * What is done, each but the first in 1, 2, 4 bytes, to be added as 0, 1, 2; a read and a write
 * have 8 as well. Up and down are the direction flag's.
 *
 *   READ, WRITE  at rbx, to and from rax       IN, OUT    at port rdx, to and from rax
 *   INS, OUTS    rcx times at port rdx, to rdi, from rsi
 *   MOVS         rcx times from rsi to rdi
 */
enum step_code {
	STEP_IDLE,
	STEP_READ,
	STEP_WRITE = STEP_READ + 4,
	STEP_IN = STEP_WRITE + 4,
	STEP_OUT = STEP_IN + 3,
	STEP_INS = STEP_OUT + 3,
	STEP_OUTS = STEP_INS + 3,
	STEP_MOVS = STEP_OUTS + 3,
	STEP_INS_DOWN = STEP_MOVS + 3,
	STEP_OUTS_DOWN = STEP_INS_DOWN + 3,
	STEP_MOVS_DOWN = STEP_OUTS_DOWN + 3,
	STEP_CODES = STEP_MOVS_DOWN + 3,
};

/* Where two pages of any address are seen in 64-bit mode. */
#define STEP_WINDOW (UINT64_C(1) << 30)

struct steps {
	struct guest *g;
	enum step_mode mode; /* of the next step */
	uint64_t seed;
	uint64_t exits;
	uint64_t slowest_ns; /* processor time that the library took for one exit, at most */
};

/* Let a guest, whose vCPUs do not run, make steps; in 64-bit mode if *lengthy*: then in no other
 * but SMM. */
void steps_init(struct steps *steps, struct guest *g, bool lengthy);

/* Chance, the same in each run: less than n. */
uint32_t steps_chance(struct steps *steps, uint32_t n);

/* The space that answers in this mode. */
unsigned steps_as_id(const struct steps *steps);

/* Make a step: the registers before, then those after. */
void step(struct steps *steps, unsigned code, struct kvm_regs *regs);

/* 1, 2, 4 or 8 bytes of memory. */
uint64_t step_read(struct steps *steps, uint64_t address, unsigned size);
void step_write(struct steps *steps, uint64_t address, unsigned size, uint64_t value);
/* The same in two halves: run until it is done, or exits (false); answer that exit, and go on. */
bool step_start_write(struct steps *steps, uint64_t address, unsigned size, uint64_t value);
void step_finish(struct steps *steps);
/* 1, 2 or 4 bytes of a port. */
uint32_t step_in(struct steps *steps, unsigned port, unsigned size);
void step_out(struct steps *steps, unsigned port, unsigned size, uint32_t value);

/* In 64-bit mode, show these pages at STEP_WINDOW; and how many bits their addresses may have. */
void steps_show(struct steps *steps, uint64_t first, uint64_t second);
unsigned steps_gpa_bits(void);

/* The pieces, STEP_SIZE bytes each. */
extern const unsigned char steps_flat[], steps_smm[], steps_long[], steps_end[];
#endif

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What random tests choose by: numbers of the environment, and a generator, or a fuzzer's bytes in
 * its place; and the run of worlds that a random model is tried in.
 */
#ifndef CHOICES_H
#define CHOICES_H

#include <stddef.h>
#include <stdint.h>

/* A number from the environment; a variable that is empty or missing gives the other one. */
uint64_t number_from(const char *name, uint64_t otherwise);

/* Where the random numbers come from: a generator, or bytes until they are used up. */
struct choices {
	uint64_t random;
	const uint8_t *bytes; /* NULL: the generator */
	size_t count;
};

/* A number below n, which is 65536 at most; 0 when the bytes are used up. */
unsigned choose(struct choices *choices, unsigned n);

/* Steps in many small worlds. The seed of the first is KVMAS_SEED, 1 if that is not set; each other
 * one's is the one before plus 1. */
struct worlds {
	unsigned steps; /* of one */
	uint64_t usual; /* of all, if KVMAS_STEPS is not set */
	void (*run)(struct choices choices, unsigned nsteps, void *tally);
};

/* Run them all; returns how many steps that were. A run that fails says how its world is repeated
 * alone, if *state* is the test's and worlds_tell_failure its teardown. */
uint64_t worlds_run(const struct worlds *worlds, void *tally, void **state);
int worlds_tell_failure(void **state);

#endif

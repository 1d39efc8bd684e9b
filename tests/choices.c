/* SPDX-License-Identifier: MIT */
/* See choices.h. */
#include "choices.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static unsigned next_byte(struct choices *choices)
{
	if (choices->count == 0)
		return 0;
	choices->count--;
	return *choices->bytes++;
}

unsigned choose(struct choices *choices, unsigned n)
{
	unsigned number;

	if (choices->bytes) {
		number = next_byte(choices);
		if (n > 256)
			number = number << 8 | next_byte(choices);
		return number % n;
	}
	choices->random = choices->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(choices->random >> 33) % n;
}

/* ---- worlds ---- */

/* The one that runs, for the teardown. */
static struct {
	uint64_t seed;
	unsigned steps;
} current;

static void run_one(const struct worlds *worlds, uint64_t nsteps, void *tally)
{
	struct choices choices = {.random = current.seed * UINT64_C(0x9e3779b97f4a7c15)};

	worlds->run(choices, nsteps < worlds->steps ? (unsigned)nsteps : worlds->steps, tally);
}

uint64_t worlds_run(const struct worlds *worlds, void *tally, void **state)
{
	uint64_t nsteps = number_from("KVMAS_STEPS", worlds->usual);

	current.seed = number_from("KVMAS_SEED", 1);
	current.steps = worlds->steps;
	print_message("KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%" PRIu64 "\n", current.seed, nsteps);
	*state = &current;
	for (uint64_t done = 0; done < nsteps; done += worlds->steps, current.seed++)
		run_one(worlds, nsteps - done, tally);
	*state = NULL;
	return nsteps;
}

int worlds_tell_failure(void **state)
{
	if (*state)
		print_error("to repeat: KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%u\n", current.seed,
			    current.steps);
	return 0;
}

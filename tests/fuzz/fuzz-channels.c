/* SPDX-License-Identifier: MIT */
/*
 * The random driver of test-channel-random.c with bytes instead of random numbers, so that a fuzzer
 * can steer it by what placements, commits and the ring do. Whatever is wrong ends in abort().
 */
#include "fuzz.h"

#include <stdlib.h>

#include "../channel-model.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return setenv("CMOCKA_TEST_ABORT", "1", 1); /* there is no test to be failed */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t none;
	struct choices choices = {.bytes = data ? data : &none, .count = size};
	struct channel_tally tally = {0};
	struct channel_world *w = channel_world_new(choices, &tally);

	while (channel_world_step(w))
		;
	channel_world_free(w);
	return 0;
}

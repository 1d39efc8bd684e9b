/* SPDX-License-Identifier: MIT */
/*
 * The random driver of test-access-random.c with bytes instead of random numbers, so that a fuzzer
 * can steer it by what dispatch does. Whatever is wrong ends in abort().
 */
#include "fuzz.h"

#include <stdlib.h>

#include "../access-model.h"

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
	struct access_tally tally = {0};
	struct access_world *w = access_world_new(choices, &tally);

	while (access_world_step(w))
		;
	access_world_free(w);
	return 0;
}

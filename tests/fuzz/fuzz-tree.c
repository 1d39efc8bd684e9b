/* SPDX-License-Identifier: MIT */
/*
 * The random driver of test-model.c with bytes instead of random numbers, so that a fuzzer can
 * steer it by what the library does. Whatever is wrong ends in abort().
 */
#include "fuzz.h"

#include <stdlib.h>

#include "../model.h"

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
	struct tally tally = {0};
	struct model *m = model_new(0, choices, &tally);

	while (model_step(m))
		;
	model_free(m);
	return 0;
}

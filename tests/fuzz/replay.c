/* SPDX-License-Identifier: MIT */
/*
 * Usage: replay-TARGET FILE...
 *
 * Gives each file to a fuzz target, once: for compilers without libFuzzer, and for the seeds as
 * tests of the normal suite.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static uint8_t *read_file(const char *path, size_t *ret_size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	long size = -1;

	if (file && fseek(file, 0, SEEK_END) == 0)
		size = ftell(file);
	if (size >= 0)
		data = malloc((size_t)size + 1);
	if (data) {
		rewind(file);
		*ret_size = fread(data, 1, (size_t)size, file);
	}
	if (file)
		fclose(file);
	return data;
}

int main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++) {
		size_t size = 0;
		uint8_t *data = read_file(argv[i], &size);

		if (!data) {
			perror(argv[i]);
			return 1;
		}
		fprintf(stderr, "%s\n", argv[i]); /* the last is the one that failed */
		LLVMFuzzerTestOneInput(data, size);
		free(data);
	}
	printf("%d files\n", argc - 1);
	return argc == 1;
}

/* SPDX-License-Identifier: MIT */
/*
 * The realloc hook of a kvmas. Counted are the bytes that the library asks for, not what the C
 * library rounds them up to, so that the figures are the same everywhere. Each block's size stands
 * in front of it. One thread allocates at a time: whoever commits holds the transaction lock, and
 * nobody else allocates here.
 */
#include "meter.h"

#include <stdlib.h>

union header {
	size_t size;
	max_align_t align;
};

void *meter_realloc(void *data, void *ptr, size_t size)
{
	struct meter *meter = data;
	union header *header = ptr ? (union header *)ptr - 1 : NULL;
	size_t before = header ? header->size : 0;

	meter->calls++;
	if (size == 0) {
		free(header);
		meter->bytes -= before;
		return NULL;
	}
	header = realloc(header, sizeof(*header) + size);
	if (!header)
		return NULL;
	header->size = size;
	meter->bytes += size - before;
	return header + 1;
}

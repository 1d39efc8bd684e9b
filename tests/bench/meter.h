/* SPDX-License-Identifier: MIT */
/* The library's memory, counted. See meter.c. */
#ifndef METER_H
#define METER_H

#include <stddef.h>
#include <stdint.h>

struct meter {
	size_t bytes;   /* asked for and not given back */
	uint64_t calls; /* of the hook, whatever for */
};

/* For struct kvmas_config.realloc; data is the meter. */
void *meter_realloc(void *data, void *ptr, size_t size);

#endif

/* SPDX-License-Identifier: MIT */
/* Devices that keep what they are called with, for guests that make steps (steps.h): so their
 * callbacks run on the test's thread. */
#ifndef LIVE_RECORDER_H
#define LIVE_RECORDER_H

#include "steps.h"

enum { MAX_CALLS = 4096 };

struct call {
	uint64_t offset;
	uint64_t value; /* 0 for a read */
	unsigned size;
	bool read;
	bool smm;
	struct kvmas_space *space;
	void *requester;
};

struct recorder {
	struct guest *g;
	struct kvmas_region *region;
	struct call calls[MAX_CALLS];
	unsigned ncalls;
	unsigned seen; /* of the calls, by recorder_next */
	/* Called after a call was kept. NULL: none. */
	void (*then)(struct recorder *recorder);
	void *data;
};

/* Make a device, which is in no container yet; the fixture holds its region. What is kept lives as
 * long as the test, and is freed by recorder_free, or never. */
struct recorder *recorder_new(struct guest *g, uint64_t size, struct kvmas_ops ops);
void recorder_free(struct recorder *recorder);

/* The next call that was not looked at yet; NULL if there is none. */
const struct call *recorder_next(struct recorder *recorder);
/* The next one is this write; there is none. */
void assert_written(struct recorder *recorder, uint64_t offset, unsigned size, uint64_t value);
void assert_quiet(struct recorder *recorder);

/* An eventfd, and how often it was signalled since it was looked at last. */
int event_new(void);
uint64_t event_take(int fd);

/* Give a region channels. */
void put_event(struct kvmas_region *region, uint64_t offset, unsigned size, int fd);
void put_match(struct kvmas_region *region, uint64_t offset, unsigned size, uint64_t value, int fd);
void take_event(struct kvmas_region *region, uint64_t offset, unsigned size);
void put_zone(struct kvmas_region *region, uint64_t offset, uint64_t size);

/* What waits is handed on. */
void drain(struct guest *g);

#endif

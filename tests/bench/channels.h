/* SPDX-License-Identifier: MIT */
/* What event channels add to commits. See channels.c. */
#ifndef CHANNELS_H
#define CHANNELS_H

#include <stdio.h>

enum channel_work {
	CHANNEL_FLIP,
	CHANNEL_LID,
	CHANNEL_MOVE,
	CHANNEL_ADD,
	NCHANNEL_WORKS,
};

/* Microseconds of one commit, and the median of the rounds' ratios. */
struct channel_line {
	double without, with, ratio;
};

struct channel_costs {
	unsigned nchannels;
	unsigned rounds;
	struct channel_line lines[NCHANNEL_WORKS];
};

const char *channel_work_name(enum channel_work work);
/* How long it may take with channels: in microseconds, or so many times as long as without. And the
 * figure that this is about. */
double channel_work_limit(enum channel_work work, const char **ret_unit);
double channel_work_figure(enum channel_work work, const struct channel_line *line);

/* Failures end the program. */
struct channel_costs channels_measure(unsigned nchannels, unsigned rounds);

#endif

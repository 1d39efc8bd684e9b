/* SPDX-License-Identifier: MIT */
/*
 * Windows: which parts of a root have to be looked at again. Those that overlap or touch are one;
 * when there are too many, the two with the smallest gap between them become one, which costs
 * painting what lies there and no more.
 */
#include "windows.h"

#include <string.h>

/* Whether *b*, which does not begin before *a*, is apart from it. */
static bool is_apart(const struct range *a, const struct range *b)
{
	return a->last < b->first && b->first - a->last > 1;
}

/* Make the window at *index* and the one after it one. */
static void join(struct windows *windows, unsigned index)
{
	struct range *at = &windows->at[index];

	if (at[1].last > at[0].last)
		at[0].last = at[1].last;
	windows->count--;
	memmove(&at[1], &at[2], (windows->count - index - 1) * sizeof(*at));
}

static unsigned smallest_gap(const struct windows *windows)
{
	unsigned best = 0;

	for (unsigned i = 1; i + 1 < windows->count; i++) {
		const struct range *at = windows->at;

		if (at[i + 1].first - at[i].last < at[best + 1].first - at[best].last)
			best = i;
	}
	return best;
}

void kas_windows_add(struct windows *windows, struct range window)
{
	struct range *at = windows->at;
	unsigned i = windows->count;

	for (; i > 0 && at[i - 1].first > window.first; i--)
		at[i] = at[i - 1];
	at[i] = window;
	windows->count++;
	while (i + 1 < windows->count && !is_apart(&at[i], &at[i + 1]))
		join(windows, i);
	if (i > 0 && !is_apart(&at[i - 1], &at[i]))
		join(windows, i - 1);
	if (windows->count > KAS_MAX_WINDOWS)
		join(windows, smallest_gap(windows));
}

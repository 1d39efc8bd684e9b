/* SPDX-License-Identifier: MIT */
/*
 * Readers: how a thread pins the view of a space while other threads commit. A pin is a counted
 * reference, taken under the space's small view lock, which is held for two loads and a store and
 * never while anything else happens.
 */
#include <errno.h>

#include "space.h"

struct kvmas_reader {
	struct kvmas *kvmas; /* held */
};

int kvmas_reader_add(struct kvmas *kvmas, struct kvmas_reader **ret)
{
	struct kvmas_reader *reader;

	if (!kas_alive(kvmas))
		return -EIO;
	reader = kas_alloc(kvmas, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	kas_hold(kvmas);
	reader->kvmas = kvmas;
	*ret = reader;
	return 0;
}

void kvmas_reader_del(struct kvmas_reader *reader)
{
	struct kvmas *kvmas;

	if (!reader || !kas_alive(reader->kvmas))
		return;
	kvmas = reader->kvmas;
	kas_free(kvmas, reader);
	kas_reclaim_if_closed(kvmas);
	kas_let_go(kvmas);
}

const struct kvmas_view *kvmas_view_acquire(struct kvmas_reader *reader, struct kvmas_space *space)
{
	return kas_alive(reader->kvmas) ? kas_space_get_view(space) : NULL;
}

void kvmas_view_release(struct kvmas_reader *reader, const struct kvmas_view *view)
{
	if (kas_alive(reader->kvmas))
		kas_view_unref((struct kvmas_view *)(uintptr_t)view);
}

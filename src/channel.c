/* SPDX-License-Identifier: MIT */
/*
 * Event channels: ioeventfds and coalesced zones, as what a region has at its offsets.
 *
 * All of a region's stand in one immutable table, which an edit replaces (channel-edit.c), and
 * which is published for dispatch when the edit has been committed: so a thread that looks sees all
 * of one state. Channels are counted by themselves, since they live on from one table to the next,
 * and in KVM, whose ioctl wants the same eventfd to let go of it.
 *
 * Invariants:
 *   I1  no two ioeventfds of a table take the same write, no two zones overlap.
 *   I2  the fd is ours alone: what a VMM does with its own changes nothing here.
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

int kas_channel_new(struct kvmas *kvmas, const struct channel *like, struct channel **ret)
{
	struct channel *channel;
	int fd = -1;

	if (like->fd >= 0) {
		fd = fcntl(like->fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return -errno;
	}
	channel = kas_alloc(kvmas, sizeof(*channel));
	if (!channel) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	*channel = (struct channel){
		.kvmas = kvmas,
		.range = like->range,
		.flags = like->flags,
		.fd = fd,
		.size = like->size,
		.datamatch = like->datamatch,
		.kvm_match = like->kvm_match,
	};
	atomic_init(&channel->refs, 1);
	*ret = channel;
	return 0;
}

struct channel *kas_channel_ref(struct channel *channel)
{
	atomic_fetch_add_explicit(&channel->refs, 1, memory_order_relaxed);
	return channel;
}

void kas_channel_unref(struct channel *channel)
{
	if (atomic_fetch_sub_explicit(&channel->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (channel->fd >= 0)
		close(channel->fd);
	kas_free(channel->kvmas, channel);
}

/* ---- tables ---- */

bool kas_channel_collides(const struct channel *a, const struct channel *b)
{
	if (a->range.first != b->range.first)
		return false;
	if (a->size == 0 || b->size == 0)
		return true;
	if (a->size != b->size)
		return false;
	return !(a->flags & b->flags & KVMAS_CHANNEL_DATAMATCH) || a->datamatch == b->datamatch;
}

static bool is_same(const struct channel *a, const struct channel *b)
{
	unsigned differ = (a->flags ^ b->flags) & KVMAS_CHANNEL_DATAMATCH;

	return a->range.first == b->range.first && a->range.last == b->range.last &&
	       a->size == b->size && !differ && a->datamatch == b->datamatch;
}

static bool overlap(const struct channel *a, const struct channel *b)
{
	return a->range.first <= b->range.last && b->range.first <= a->range.last;
}

/* The part of a table in which a channel like this stands. */
static struct channel *const *part_of(const struct channels *channels, const struct channel *like,
				      size_t *count)
{
	if (!channels) {
		*count = 0;
		return NULL;
	}
	*count = like->fd < 0 ? channels->nzones : channels->nevents;
	return like->fd < 0 ? channels->at : kas_channels_events(channels);
}

/* Where the first is in a part that does not begin before *offset*. */
static size_t seek(struct channel *const *at, size_t count, uint64_t offset)
{
	size_t low = 0;

	while (low < count) {
		size_t middle = low + (count - low) / 2;

		if (at[middle]->range.first < offset)
			low = middle + 1;
		else
			count = middle;
	}
	return low;
}

struct channel *kas_channels_find(const struct channels *channels, const struct channel *like)
{
	size_t count;
	struct channel *const *at = part_of(channels, like, &count);

	for (size_t i = seek(at, count, like->range.first);
	     i < count && at[i]->range.first == like->range.first; i++) {
		if (is_same(at[i], like))
			return at[i];
	}
	return NULL;
}

struct channel *kas_channels_find_rival(const struct channels *channels, const struct channel *like)
{
	size_t count;
	struct channel *const *at = part_of(channels, like, &count);
	size_t i = seek(at, count, like->range.first);

	if (like->fd < 0) {
		if (i > 0 && overlap(at[i - 1], like))
			return at[i - 1];
		return i < count && overlap(at[i], like) ? at[i] : NULL;
	}
	for (; i < count && at[i]->range.first == like->range.first; i++) {
		if (kas_channel_collides(at[i], like))
			return at[i];
	}
	return NULL;
}

/* Under the transaction lock. */
static void channels_end(struct object *object)
{
	struct channels *channels = kas_container_of(object, struct channels, object);

	for (size_t i = 0; i < channels->nzones + channels->nevents; i++)
		kas_channel_unref(channels->at[i]);
	kas_free(object->kvmas, channels);
}

static struct channels *new_table(struct kvmas *kvmas, size_t count)
{
	struct channels *channels = kas_alloc(kvmas, sizeof(*channels) + count * sizeof(void *));

	if (!channels)
		return NULL;
	kas_object_init(&channels->object, kvmas, channels_end);
	channels->object.pinnable = true;
	return channels;
}

static size_t count_of(const struct channels *channels)
{
	return channels ? channels->nzones + channels->nevents : 0;
}

static void append(struct channels *channels, struct channel *channel)
{
	size_t *part = channel->fd < 0 ? &channels->nzones : &channels->nevents;

	channels->at[count_of(channels)] = kas_channel_ref(channel);
	(*part)++;
}

int kas_channels_with(const struct channels *channels, struct channel *channel,
		      struct channels **ret)
{
	struct channels *with = new_table(channel->kvmas, count_of(channels) + 1);
	size_t part;
	struct channel *const *at = part_of(channels, channel, &part);
	size_t place = seek(at, part, channel->range.first);

	if (!with)
		return -ENOMEM;
	if (at)
		place += (size_t)(at - channels->at);
	for (size_t i = 0; i < count_of(channels) || i == place; i++) {
		if (i == place)
			append(with, channel);
		if (i < count_of(channels))
			append(with, channels->at[i]);
	}
	*ret = with;
	return 0;
}

int kas_channels_without(const struct channels *channels, const struct channel *channel,
			 struct channels **ret)
{
	struct channels *without = NULL;

	if (count_of(channels) > 1) {
		without = new_table(channel->kvmas, count_of(channels) - 1);
		if (!without)
			return -ENOMEM;
		for (size_t i = 0; i < count_of(channels); i++) {
			if (channels->at[i] != channel)
				append(without, channels->at[i]);
		}
	}
	*ret = without;
	return 0;
}

/* ---- writes ---- */

struct channel *kas_channels_match(const struct channels *channels, enum kvmas_endian endian,
				   uint64_t offset, const unsigned char *bytes, size_t size)
{
	struct channel *const *at = kas_channels_events(channels);

	for (size_t i = seek(at, channels->nevents, offset);
	     i < channels->nevents && at[i]->range.first == offset; i++) {
		if (at[i]->size == 0)
			return at[i];
		if (at[i]->size != size)
			continue;
		if (!(at[i]->flags & KVMAS_CHANNEL_DATAMATCH) ||
		    kas_value_load(endian, bytes, (unsigned)size) == at[i]->datamatch)
			return at[i];
	}
	return NULL;
}

/* A counter at its maximum would have write(2) wait: it has been signalled, and nobody has looked.
 * KVM adds nothing then, either (fs/eventfd.c, eventfd_signal_mask). */
int kas_channel_signal(const struct channel *channel)
{
	struct pollfd poll_fd = {.fd = channel->fd, .events = POLLOUT};
	uint64_t one = 1;
	int ready;

	do {
		ready = poll(&poll_fd, 1, 0);
	} while (ready < 0 && errno == EINTR);
	if (ready < 0)
		return -errno;
	if (poll_fd.revents & POLLNVAL)
		return -EBADF;
	if (!(poll_fd.revents & POLLOUT))
		return 0;
	if (write(channel->fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Edits of event channels. Like edits of the tree (edit.c) they belong to the open transaction and
 * leave an undo each; but they change no view: what ties make of them they find by the list of the
 * regions edited.
 *
 * A table is never changed: an edit makes another one, and its undo keeps the one before.
 */
#include <errno.h>

#include "channel.h"
#include "region.h"
#include "txn.h"

static void unref_table(struct channels *channels)
{
	if (channels)
		kas_object_unref(&channels->object);
}

/* ---- edits ---- */

struct channels_undo {
	struct undo undo;
	struct kvmas_region *region;
	struct channels *before; /* held */
};

/* The region holds *channels* from now on; returns what it held. */
static struct channels *exchange(struct kvmas_region *region, struct channels *channels)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct channels *before = region->channels;

	kvmas->nchannelled += !before && channels;
	kvmas->nchannelled -= before && !channels;
	region->channels = channels;
	return before;
}

static void free_undo(struct channels_undo *edit)
{
	kas_free(edit->region->object.kvmas, edit);
}

static void restore(struct undo *undo)
{
	struct channels_undo *edit = kas_container_of(undo, struct channels_undo, undo);

	unref_table(exchange(edit->region, edit->before));
	free_undo(edit);
}

static void release(struct undo *undo)
{
	struct channels_undo *edit = kas_container_of(undo, struct channels_undo, undo);

	unref_table(edit->before);
	free_undo(edit);
}

/* Give a region another table, which it holds, or which ends. */
static int replace(struct kvmas_region *region, struct channels *channels)
{
	struct kvmas *kvmas = region->object.kvmas;
	struct channels_undo *edit = kas_alloc(kvmas, sizeof(*edit));

	if (!edit) {
		unref_table(channels);
		return -ENOMEM;
	}
	edit->undo.restore = restore;
	edit->undo.release = release;
	edit->region = region;
	edit->before = exchange(region, channels);
	kas_txn_record(kvmas, &edit->undo);
	if (!region->is_channelled)
		TAILQ_INSERT_TAIL(&kvmas->txn.channelled, region, channelled);
	region->is_channelled = true;
	return 0;
}

static bool has_ops(const struct kvmas_region *region)
{
	return region->kind == KVMAS_REGION_MMIO || region->kind == KVMAS_REGION_ROMD;
}

/* Inside a transaction. */
static int add(struct kvmas_region *region, const struct channel *like)
{
	struct channels *channels;
	struct channel *channel;
	int err;

	if (like->range.last > region->state.last)
		return -EINVAL;
	if (kas_channels_find_rival(region->channels, like))
		return -EEXIST;
	err = kas_channel_new(region->object.kvmas, like, &channel);
	if (err)
		return err;
	err = kas_channels_with(region->channels, channel, &channels);
	kas_channel_unref(channel);
	return err ? err : replace(region, channels);
}

static int del(struct kvmas_region *region, const struct channel *like)
{
	struct channel *channel = kas_channels_find(region->channels, like);
	struct channels *channels;
	int err;

	if (!channel)
		return -ENOENT;
	err = kas_channels_without(region->channels, channel, &channels);
	return err ? err : replace(region, channels);
}

static int edit(struct kvmas_region *region, const struct channel *like,
		int (*change)(struct kvmas_region *region, const struct channel *like))
{
	struct kvmas *kvmas = region->object.kvmas;
	int err = kvmas_begin(kvmas);

	if (err)
		return err;
	return kas_txn_end(kvmas, change(region, like));
}

/* ---- ioeventfds ---- */

static bool is_size(unsigned size)
{
	return size == 0 || size == 1 || size == 2 || size == 4 || size == 8;
}

/* A value that some write of this size can have. */
static bool fits(uint64_t value, unsigned size)
{
	return size == 8 || value >> (8 * size) == 0;
}

/* KVM compares what a write puts into memory as a number of the host's (virt/kvm/eventfd.c,
 * ioeventfd_in_range). */
static uint64_t as_kvm_has_it(const struct kvmas_region *region, uint64_t value, unsigned size)
{
	unsigned char bytes[8] = {0};
	uint64_t result = 0;

	kas_value_store(region->ops.endian, bytes, size, value);
	for (unsigned i = 0; i < size; i++) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		result |= (uint64_t)bytes[i] << (8 * i);
#else
		result = result << 8 | bytes[i];
#endif
	}
	return result;
}

static int event_like(const struct kvmas_region *region,
		      const struct kvmas_ioeventfd_config *config, struct channel *ret)
{
	unsigned known = KVMAS_CHANNEL_DATAMATCH | KVMAS_CHANNEL_MUST;
	struct kvmas_ioeventfd_config ours;
	int err = kas_config_copy(&ours, sizeof(ours), config);
	bool matches;

	if (err)
		return err;
	matches = ours.flags & KVMAS_CHANNEL_DATAMATCH;
	if (!has_ops(region) || !is_size(ours.size) || ours.flags & ~known ||
	    (matches && (ours.size == 0 || !fits(ours.datamatch, ours.size))))
		return -EINVAL;
	*ret = (struct channel){
		.range = {ours.offset, ours.offset + (ours.size ? ours.size - 1 : 0)},
		.flags = ours.flags,
		.fd = ours.fd,
		.size = ours.size,
		.datamatch = matches ? ours.datamatch : 0,
	};
	if (matches)
		ret->kvm_match = as_kvm_has_it(region, ret->datamatch, ret->size);
	return ret->range.last < ours.offset ? -EINVAL : 0;
}

int kvmas_region_add_ioeventfd(struct kvmas_region *region,
			       const struct kvmas_ioeventfd_config *config)
{
	struct channel like;
	int err = event_like(region, config, &like);

	if (!err && like.fd < 0)
		err = -EBADF;
	return err ? err : edit(region, &like, add);
}

int kvmas_region_del_ioeventfd(struct kvmas_region *region,
			       const struct kvmas_ioeventfd_config *config)
{
	struct channel like;
	int err = event_like(region, config, &like);

	if (err)
		return err == -EINVAL && config ? -ENOENT : err;
	like.fd = 0; /* any but -1: what is looked for is an ioeventfd */
	return edit(region, &like, del);
}

/* ---- coalesced zones ---- */

/* KVM has their size as an int, here and there (virt/kvm/kvm_main.c, struct kvm_io_range). */
#define MAX_ZONE INT32_MAX

static int zone_like(const struct kvmas_region *region, uint64_t offset, uint64_t size,
		     struct channel *ret)
{
	if (!has_ops(region) || size == 0 || size > MAX_ZONE || offset > UINT64_MAX - (size - 1))
		return -EINVAL;
	*ret = (struct channel){.range = {offset, offset + (size - 1)}, .fd = -1};
	return 0;
}

int kvmas_region_add_coalesced(struct kvmas_region *region, uint64_t offset, uint64_t size,
			       unsigned flags)
{
	struct channel like;
	int err = zone_like(region, offset, size, &like);

	if (!err && flags & ~(unsigned)KVMAS_CHANNEL_MUST)
		err = -EINVAL;
	if (err)
		return err;
	like.flags = flags;
	return edit(region, &like, add);
}

int kvmas_region_del_coalesced(struct kvmas_region *region, uint64_t offset, uint64_t size)
{
	struct channel like;

	if (zone_like(region, offset, size, &like))
		return -ENOENT;
	return edit(region, &like, del);
}

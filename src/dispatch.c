/* SPDX-License-Identifier: MIT */
/*
 * Dispatch: an access by a vCPU, or by a device, answered in the view of the space it was made in.
 *
 * The access is cut where sections begin and end, and for devices by their rules (ops.c). Each
 * piece goes to memory, to a device, or nowhere:
 *
 *     RAM                  host memory, marked dirty when it has been written
 *     readonly, ROM        host memory when read; -EROFS when written
 *     ROM device           host memory when read; a write goes to the device's ops
 *     MMIO                 the device's ops; -EROFS for a write to what is readonly;
 *                          an eventfd, if the write is one that signals it
 *     reserved, nothing    -ENXIO
 *
 * An error ends the access, and *done* is exact: pieces go by ascending address, and so do the
 * calls that one piece takes. The access of a vCPU cannot end so: it is `whole`, each piece that
 * cannot be had reads as what config.unassigned says, or is dropped, and the next is tried.
 *
 * An access to RAM comes here for the edges of pages that no slot can show, and when memory
 * appeared between the exit and this look: it is completed on host memory, never dropped.
 *
 * One view is pinned throughout (doc/threads.md, G, I). So a device whose own write removes it
 * stays valid until its callback has returned, and the pieces behind it go where they would have
 * gone before: an access sees the map as it was when it began.
 *
 * Callbacks may access the space again, by the same reader. Each is a frame on the stack of that
 * reader, so that a device is not entered again from inside itself, nor the stack used up by two
 * that write to each other: only accesses to devices count, memory can be had at any depth.
 *
 * Invariants:
 *   I1  no lock is held or taken, but for marking and for what has to arrive before, and nothing is
 *       allocated.
 *   I2  each step has at least one byte: an access ends after *size* steps at most, a step calls
 *       callbacks at most twice for each byte.
 *   I3  reader->innermost is after the access what it was before.
 *
 * Read kas_dispatch first.
 */
#include "dispatch.h"

#include <errno.h>
#include <string.h>

#include "answering.h"
#include "channel.h"
#include "copy.h"
#include "ops.h"
#include "ram.h"
#include "txn.h"

/* How many callbacks may run inside each other, by one reader. */
#define MAX_DEPTH 8

/* The longest write of a vCPU's that is one. */
#define MAX_WRITE 8

/* What is told of at once, where nothing is. */
#define MAX_NOTHING 8

/* The next part of an access: *size* bytes that one range answers, or nothing does. Who deals with
 * them says how many were dealt with. */
struct part {
	const struct flat_range *range; /* NULL: nothing */
	uint64_t address;
	uint64_t offset; /* in the range's region */
	unsigned char *bytes;
	size_t size;
	size_t done;
};

/* What becomes of *size* bytes of a part that cannot be had. */
static int give_up(const struct dispatch *dispatch, struct part *part, size_t size, int err)
{
	if (!dispatch->whole)
		return err;
	if (!dispatch->write)
		memset(part->bytes + part->done, kas_unassigned_byte(dispatch->reader->kvmas),
		       size);
	part->done += size;
	return 0;
}

static int refuse(struct dispatch *dispatch, struct part *part, size_t size, int err)
{
	dispatch->refused++;
	return give_up(dispatch, part, size, err);
}

/* ---- callbacks ---- */

/* -EBUSY if a device with this guard has called, -ELOOP too deep. */
static int check_frame(const struct frame *frame)
{
	for (const struct frame *outer = frame->outer; outer && frame->guard;
	     outer = outer->outer) {
		if (outer->guard == frame->guard)
			return -EBUSY;
	}
	return frame->depth > MAX_DEPTH ? -ELOOP : 0;
}

static struct frame frame_inside(const struct kvmas_reader *reader, const void *guard)
{
	const struct frame *outer = reader->innermost;

	return (struct frame){outer, guard, outer ? outer->depth + 1 : 1};
}

static struct kvmas_access access_of(const struct dispatch *dispatch, uint64_t offset,
				     unsigned size)
{
	return (struct kvmas_access){
		.offset = offset,
		.size = size,
		.smm = dispatch->smm,
		.space = dispatch->space,
		.requester = dispatch->requester,
		.reader = dispatch->reader,
	};
}

/* ---- nothing ---- */

static void trace_nothing(const struct dispatch *dispatch, const struct part *part)
{
	const struct kvmas_config *config = &dispatch->reader->kvmas->config;
	struct kvmas_access access = access_of(dispatch, part->address, (unsigned)part->size);
	struct frame frame = frame_inside(dispatch->reader, NULL);
	uint64_t value = 0;

	if (!config->trace_unassigned || check_frame(&frame))
		return;
	if (dispatch->write)
		value = kas_value_load(KVMAS_LITTLE_ENDIAN, part->bytes, access.size);
	dispatch->reader->innermost = &frame;
	config->trace_unassigned(config->trace_data, &access, dispatch->write, value);
	dispatch->reader->innermost = frame.outer;
}

static int access_nothing(struct dispatch *dispatch, struct part *part)
{
	if (part->size > MAX_NOTHING)
		part->size = MAX_NOTHING;
	dispatch->unassigned++;
	trace_nothing(dispatch, part);
	return give_up(dispatch, part, part->size, -ENXIO);
}

/* ---- memory ---- */

static int access_memory(struct dispatch *dispatch, struct part *part)
{
	struct kvmas_region *region = part->range->region;
	unsigned char *hva = kas_region_hva(region, part->offset);

	part->done = part->size;
	if (!dispatch->write) {
		kas_copy_from_guest(part->bytes, hva, part->size);
		return 0;
	}
	kas_copy_to_guest(hva, part->bytes, part->size);
	kvmas_ram_mark(region->ram, region->ram_offset + part->offset, part->size);
	return 0;
}

/* ---- devices ---- */

/* Whether a unit is all the region's. In most cases the range says so; a region that changes its
 * size at this moment has one or the other. */
static bool is_inside(const struct flat_range *range, const struct unit *unit)
{
	uint64_t last = unit->offset + unit->size - 1;

	return last <= range->offset + (range->range.last - range->range.first) ||
	       last <= atomic_load_explicit(&range->region->last, memory_order_relaxed);
}

static int read_unit(const struct dispatch *dispatch, const struct kvmas_region *region,
		     const struct unit *unit, unsigned char *bytes)
{
	struct kvmas_access access = access_of(dispatch, unit->offset, unit->size);
	uint64_t value = UINT64_MAX;
	int err = 0;

	if (region->ops.read)
		err = region->ops.read(region->opaque, &access, &value);
	kas_value_store(region->ops.endian, bytes, unit->size, value);
	return err < 0 ? err : 0;
}

/* The bytes of a unit that are not to be written are written as they are, or as 0. */
static int write_unit(const struct dispatch *dispatch, const struct kvmas_region *region,
		      const struct unit *unit, const unsigned char *bytes)
{
	struct kvmas_access access = access_of(dispatch, unit->offset, unit->size);
	unsigned char all[8] = {0};
	uint64_t value;
	int err;

	if (!region->ops.write)
		return 0;
	if (unit->count < unit->size &&
	    (!region->ops.read || read_unit(dispatch, region, unit, all)))
		memset(all, 0, sizeof(all));
	memcpy(all + unit->skip, bytes, unit->count);
	value = kas_value_load(region->ops.endian, all, unit->size);
	err = region->ops.write(region->opaque, &access, value);
	return err < 0 ? err : 0;
}

static int access_unit(const struct dispatch *dispatch, const struct part *part,
		       const struct unit *unit)
{
	struct kvmas_region *region = part->range->region;
	unsigned char *bytes = part->bytes + part->done;
	unsigned char all[8];
	int err;

	if (!is_inside(part->range, unit))
		return -EINVAL;
	if (dispatch->write)
		return write_unit(dispatch, region, unit, bytes);
	err = read_unit(dispatch, region, unit, all);
	if (!err)
		memcpy(bytes, all + unit->skip, unit->count);
	return err;
}

/* A piece that is valid, unit by unit. */
static int access_units(struct dispatch *dispatch, struct part *part, unsigned size)
{
	const struct kvmas_access_rules *impl = &part->range->region->ops.impl;
	int err = 0;

	while (!err && part->done < size) {
		struct unit unit = kas_rules_unit(impl, part->offset + part->done,
						  size - (unsigned)part->done);

		err = access_unit(dispatch, part, &unit);
		if (err)
			err = refuse(dispatch, part, unit.count, err);
		else
			part->done += unit.count;
	}
	return err;
}

/* What a device's zones have let wait was written before this access, if it is another device's; a
 * vCPU has seen to that already. From inside a callback it cannot be done (kvmas_kvm_drain). */
static void let_arrive(const struct dispatch *dispatch, struct kvmas_region *region)
{
	struct kvmas_reader *reader = dispatch->reader;
	struct channels *channels;
	bool any;

	if (dispatch->whole || reader->innermost)
		return;
	channels = kas_channels_pin(&reader->pins, region);
	any = channels && channels->nzones;
	if (channels)
		kas_channels_unpin(&reader->pins, channels);
	if (any)
		kas_ties_drain(reader->kvmas, reader);
}

/* Whether a write of *size* bytes signals an eventfd, in place of the device's callback: 1, and it
 * has; 0; or what signalling said. A coalesced one would have, when it was made. */
static int ask_channels(struct dispatch *dispatch, const struct part *part, unsigned size)
{
	struct kvmas_region *region = part->range->region;
	struct kvmas_reader *reader = dispatch->reader;
	struct channels *channels = NULL;
	struct channel *channel = NULL;
	int result = 0;

	if (dispatch->write && !dispatch->coalesced)
		channels = kas_channels_pin(&reader->pins, region);
	if (!channels)
		return 0;
	channel = kas_channels_match(channels, region->ops.endian, part->offset, part->bytes, size);
	if (channel)
		result = kas_channel_signal(channel);
	kas_channels_unpin(&reader->pins, channels);
	if (!channel || result)
		return result;
	dispatch->events++;
	return 1;
}

static int access_callbacks(struct dispatch *dispatch, struct part *part, unsigned size)
{
	const struct kvmas_region *region = part->range->region;
	struct frame frame = frame_inside(dispatch->reader, region->guard);
	int err = size < region->ops.valid.min ? -EINVAL : check_frame(&frame);

	if (err)
		return refuse(dispatch, part, size, err);
	dispatch->reader->innermost = &frame;
	err = access_units(dispatch, part, size);
	dispatch->reader->innermost = frame.outer;
	return err;
}

/* KVM, where it sees to an ioeventfd, takes a write as the guest made it: so what is left of the
 * access is asked about whole, before it is cut by rules; of a longer one, as much as an
 * instruction could write. Such a piece is asked about again. */
static int access_device(struct dispatch *dispatch, struct part *part)
{
	unsigned size = kas_rules_cut(&part->range->region->ops.valid, part->offset, part->size);
	unsigned whole = part->size < MAX_WRITE ? (unsigned)part->size : MAX_WRITE;
	int result;

	let_arrive(dispatch, part->range->region);
	result = ask_channels(dispatch, part, whole);
	if (!result && size < whole)
		result = ask_channels(dispatch, part, size);
	else if (result)
		size = whole;
	if (result == 0)
		return access_callbacks(dispatch, part, size);
	if (result < 0)
		return refuse(dispatch, part, size, result);
	part->done += size;
	return 0;
}

/* ---- all of them ---- */

static int access_part(struct dispatch *dispatch, struct part *part)
{
	const struct flat_range *range = part->range;

	if (!range || range->region->kind == KVMAS_REGION_RESERVED)
		return access_nothing(dispatch, part);
	if (dispatch->write && range->attrs & ATTR_READONLY)
		return give_up(dispatch, part, part->size, -EROFS);
	if (kas_range_ram(range) && !(dispatch->write && range->attrs & ATTR_ROMD))
		return access_memory(dispatch, part);
	return access_device(dispatch, part);
}

/* Find out who answers at part->address, and shorten the part to what they do. A dead space has no
 * view. */
static void find_part(const struct dispatch *dispatch, const struct kvmas_view *view,
		      struct part *part)
{
	const struct flat_range *range = NULL;
	uint64_t last = UINT64_MAX - part->address; /* from the address on */

	if (view)
		range = kas_reader_find(dispatch->reader, view, part->address);
	if (range && range->range.first > part->address) {
		last = range->range.first - part->address - 1;
	} else if (range) {
		last = range->range.last - part->address;
		part->range = range;
		part->offset = range->offset + (part->address - range->range.first);
	}
	if (part->size - 1 > last)
		part->size = last + 1;
}

/* What would lie behind 2^64 is not traced: it is nowhere. */
static int access_beyond(struct dispatch *dispatch, struct part *part)
{
	dispatch->unassigned++;
	return give_up(dispatch, part, part->size, -ENXIO);
}

int kas_dispatch(struct dispatch *dispatch, uint64_t address, void *bytes, size_t size,
		 size_t *done)
{
	struct kvmas_view *view = dispatch->view;
	size_t got = 0;
	int err = 0;

	if (!dispatch->view)
		view = kas_reader_pin(dispatch->reader, dispatch->space);
	while (!err && got < size) {
		struct part part = {
			.address = address + got,
			.bytes = (unsigned char *)bytes + got,
			.size = size - got,
		};

		if (part.address < address) {
			err = access_beyond(dispatch, &part);
		} else {
			find_part(dispatch, view, &part);
			err = access_part(dispatch, &part);
		}
		got += part.done;
	}
	if (view && !dispatch->view)
		kas_reader_unpin(dispatch->reader, view);
	if (done)
		*done = got;
	return err;
}

/* SPDX-License-Identifier: MIT */
/* See channel-model.h. Read model_target first. */
#include "channel-model.h"

/* ---- views ---- */

const struct oracle_range *model_view(struct channel_world *w, unsigned root, size_t *count)
{
	if (!w->views[root]) {
		struct tree tree = {.nodes = w->now.nodes, .count = NNODES, .order = w->now.order};

		w->views[root] = oracle_render(&tree, (int)root, &w->counts[root]);
	}
	*count = w->counts[root];
	return w->views[root];
}

void model_forget_views(struct channel_world *w)
{
	for (unsigned i = 0; i < LENGTH(w->views); i++) {
		free(w->views[i]);
		w->views[i] = NULL;
	}
}

static const struct oracle_range *find(struct channel_world *w, unsigned root, uint64_t address)
{
	size_t count;
	const struct oracle_range *view = model_view(w, root, &count);

	for (size_t i = 0; i < count; i++) {
		if (view[i].first <= address && address <= view[i].last)
			return &view[i];
	}
	return NULL;
}

static bool is_bound(const struct channel_world *w, unsigned space)
{
	if (space == PORTS)
		return w->now.ports_bound;
	return space == NORMAL || w->now.smm_bound;
}

static bool is_ram(const struct oracle_range *range)
{
	return range && range->node >= NODE_RAMS && range->node < NODE_ALIASES && !range->readonly;
}

/* ---- stores ---- */

uint64_t model_value(int node, uint64_t bytes, unsigned size)
{
	if (node != NODE_DEVICES) /* the only one of big-endian registers */
		return size == 8 ? bytes : bytes & ((UINT64_C(1) << 8 * size) - 1);
	return __builtin_bswap64(bytes) >> (64 - 8 * size);
}

static bool takes(const struct model_channel *channel, int node, uint64_t offset, unsigned size,
		  uint64_t bytes)
{
	if (channel->zone || channel->offset != offset)
		return false;
	if (channel->size == 0)
		return true;
	return channel->size == size &&
	       (!channel->match || model_value(node, bytes, size) == channel->value);
}

struct target model_target(struct channel_world *w, unsigned space, uint64_t address, unsigned size,
			   uint64_t bytes)
{
	const struct oracle_range *range = is_bound(w, space) ? find(w, space, address) : NULL;
	struct target target = {.kind = TO_NOTHING};

	if (!range || range->readonly)
		return target;
	target.node = range->node;
	target.offset = range->offset + (address - range->first);
	target.kind = is_ram(range) ? TO_MEMORY : TO_DEVICE;
	for (unsigned i = 0; target.kind == TO_DEVICE && i < w->now.nchannels[target.node]; i++) {
		const struct model_channel *channel = &w->now.channels[target.node][i];

		if (takes(channel, target.node, target.offset, size, bytes)) {
			target.kind = TO_EVENT;
			target.event = channel->event;
			break;
		}
	}
	return target;
}

unsigned model_space_of_ring(struct channel_world *w, uint64_t address)
{
	return w->now.smm_bound && is_ram(find(w, NORMAL, address)) ? SMM : NORMAL;
}

/* ---- buses ---- */

/* Whether a space shows just these bytes of the region from this address on, or has a slot. Bytes
 * are looked at one in 8: nothing here begins or ends elsewhere; and the last. */
static bool agrees(struct channel_world *w, unsigned space, const struct oracle_range *range,
		   uint64_t first, uint64_t last)
{
	for (uint64_t at = first;;) {
		const struct fake_kvm_slot *slot =
			space == PORTS ? NULL : fake_kvm_find(w->r->m->vm, space, at);
		const struct oracle_range *there = find(w, space, at);
		bool same =
			there && there->node == range->node && !there->readonly &&
			there->offset + (at - there->first) == range->offset + (at - range->first);

		if (!same && !(slot && !(slot->flags & KVM_MEM_READONLY)))
			return false;
		if (at == last)
			return true;
		at = at < last - 8 && last > 8 ? at + 8 : last;
	}
}

static bool is_right(struct channel_world *w, bool pio, const struct oracle_range *range,
		     uint64_t first, uint64_t last)
{
	if (pio)
		return true;
	return agrees(w, NORMAL, range, first, last) &&
	       (!w->now.smm_bound || agrees(w, SMM, range, first, last));
}

static bool has_event(const struct fake_kvm_bus *bus, const struct model_channel *channel,
		      uint64_t address)
{
	for (unsigned i = 0; i < bus->ndevices; i++) {
		const struct fake_kvm_device *device = &bus->devices[i];

		if (device->event && device->addr == address &&
		    (uint64_t)device->len == channel->size && device->wildcard == !channel->match)
			return true;
	}
	return false;
}

static bool has_zone(const struct fake_kvm_bus *bus, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < bus->ndevices; i++) {
		const struct fake_kvm_device *device = &bus->devices[i];

		if (!device->event && device->addr <= first &&
		    device->addr + (uint64_t)device->len > last)
			return true;
	}
	return false;
}

/* The first ioeventfd of a region that has a byte in [first, last]; and its last byte. */
static const struct model_channel *next_event(const struct channel_world *w, int node,
					      uint64_t first, uint64_t last, uint64_t *end)
{
	const struct model_channel *next = NULL;

	for (unsigned i = 0; i < w->now.nchannels[node]; i++) {
		const struct model_channel *at = &w->now.channels[node][i];
		uint64_t at_last = at->offset + (at->size ? at->size - 1 : 0);

		if (at->zone || at_last < first || at->offset > last ||
		    (next && (at->offset > next->offset ||
			      (at->offset == next->offset && at_last <= *end))))
			continue;
		next = at;
		*end = at_last;
	}
	return next;
}

static const char *zone_missing(struct channel_world *w, const struct fake_kvm_bus *bus,
				const struct oracle_range *range, const struct model_channel *zone)
{
	uint64_t first = zone->offset > range->offset ? zone->offset : range->offset;
	uint64_t end = range->offset + (range->last - range->first);
	uint64_t last = zone->offset + zone->size - 1 < end ? zone->offset + zone->size - 1 : end;
	bool pio = bus == &w->r->m->vm->buses[FAKE_KVM_PIO_BUS];
	uint64_t shift = range->first - range->offset;

	while (first <= last) {
		uint64_t event_last = 0;
		const struct model_channel *event =
			next_event(w, range->node, first, last, &event_last);
		uint64_t piece_last = event ? event->offset - 1 : last;

		if ((!event || event->offset > first) &&
		    is_right(w, pio, range, first + shift, piece_last + shift) &&
		    !has_zone(bus, first + shift, piece_last + shift))
			return "KVM lacks a zone that would be right";
		if (!event)
			break;
		first = event_last + 1;
	}
	return NULL;
}

static const char *range_missing(struct channel_world *w, const struct fake_kvm_bus *bus,
				 const struct oracle_range *range)
{
	uint64_t last = range->offset + (range->last - range->first);
	uint64_t shift = range->first - range->offset;
	bool pio = bus == &w->r->m->vm->buses[FAKE_KVM_PIO_BUS];

	for (unsigned i = 0; i < w->now.nchannels[range->node]; i++) {
		const struct model_channel *channel = &w->now.channels[range->node][i];
		uint64_t end = channel->offset + (channel->size ? channel->size - 1 : 0);
		const char *missing = NULL;

		if (channel->zone)
			missing = end < range->offset || channel->offset > last
					  ? NULL
					  : zone_missing(w, bus, range, channel);
		else if (channel->offset >= range->offset && end <= last &&
			 is_right(w, pio, range, channel->offset + shift, end + shift) &&
			 !has_event(bus, channel, channel->offset + shift))
			missing = "KVM lacks an ioeventfd that would be right";
		if (missing)
			return missing;
	}
	return NULL;
}

const char *model_missing(struct channel_world *w)
{
	const char *missing = NULL;

	for (unsigned space = NORMAL; space <= PORTS; space++) {
		const struct fake_kvm_bus *bus =
			&w->r->m->vm->buses[space == PORTS ? FAKE_KVM_PIO_BUS : FAKE_KVM_MMIO_BUS];
		const struct oracle_range *view;
		size_t count;

		if (!is_bound(w, space))
			continue;
		view = model_view(w, space, &count);
		for (size_t i = 0; !missing && i < count; i++) {
			if (model_has_ops(view[i].node) && !view[i].readonly)
				missing = range_missing(w, bus, &view[i]);
		}
	}
	return missing;
}

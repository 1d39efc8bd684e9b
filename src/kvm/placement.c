/* SPDX-License-Identifier: MIT */
/*
 * Where event channels are on KVM's buses, from the next views of the bound spaces: pure.
 *
 *     channels of regions, where views show these      placements
 *     space 0   |----- A: event at 4 -----|            MMIO bus   event of A at gpa + 4
 *     space 1   |------- RAM -------|-- B |            not right, if B answers there
 *     ports        |-- C: zone --|                     PIO bus    zone of C
 *
 * An ioeventfd is at a place if all its bytes are seen there. A zone is there with what is seen of
 * it, less the bytes of the region's ioeventfds: where two of its devices contain a write, KVM's
 * bus asks in an order that nobody has promised.
 *
 * KVM has one MMIO bus for all address spaces, and asks it about each write that no writable slot
 * of the vCPU's space takes. So what is there is right only if each bound space shows the same
 * bytes of the same region, or memory in whole pages. What is not right stays in the list, for
 * those who count, and is never made. (An ioeventfd of any size takes a write for its first byte
 * alone: then those behind it count as well.)
 *
 * What changes where a space shows memory leaves KVM for as long as that takes, even if it is right
 * before and after: without the slot, writes to that memory would get to the bus.
 *
 * Only windows are looked at: what changes in some space, whatever its as_id, and where regions are
 * seen whose channels were edited. A placement that has a byte in a window is found anew, as is
 * every channel that has one there; what lies outside stays as it is.
 *
 * Read kas_placements_draft first.
 */
#include "placement.h"

#include <errno.h>
#include <stdlib.h>

#include "damage.h"
#include "draft.h"

/* ---- windows ---- */

/* What reaches into the window from before: a write there is up to 8 bytes long (reach_of). */
static void add_window(struct windows *windows, struct range window)
{
	window.first -= window.first < 7 ? window.first : 7;
	kas_windows_add(windows, window);
}

static void add_changes(struct windows *windows, const struct kvmas_space *space)
{
	const struct changes *changes = kas_space_changes(space);

	for (size_t i = 0; i < changes->ndels; i++)
		add_window(windows, changes->dels[i].range);
	for (size_t i = 0; i < changes->nadds; i++)
		add_window(windows, changes->adds[i].range);
}

struct climb {
	const struct kvmas_kvm *kvm;
	struct channel_plan *plan;
};

/* A kas_climb_fn. */
static int add_place(void *data, struct root *root, struct range window)
{
	struct climb *climb = data;
	const struct kvmas_kvm *kvm = climb->kvm;

	for (unsigned i = 0; i < kvm->nspaces; i++) {
		if (kvm->spaces[i].space && kvm->spaces[i].space->root == root)
			add_window(&climb->plan->mmio, window);
	}
	if (kvm->pio_space && kvm->pio_space->root == root)
		add_window(&climb->plan->pio, window);
	return 0;
}

static int find_windows(const struct kvmas_kvm *kvm, struct channel_plan *plan)
{
	static const struct range whole = {0, UINT64_MAX};
	struct climb climb = {kvm, plan};
	struct kvmas_region *region;
	int err = 0;

	for (unsigned i = 0; i < kvm->nspaces; i++) {
		if (kvm->spaces[i].changed || kvm->spaces[i].broken)
			add_window(&plan->slots, whole);
		else if (kvm->spaces[i].space)
			add_changes(&plan->slots, kvm->spaces[i].space);
	}
	for (unsigned i = 0; i < plan->slots.count; i++)
		kas_windows_add(&plan->mmio, plan->slots.at[i]);
	if (kvm->pio_changed)
		add_window(&plan->pio, whole);
	else if (kvm->pio_space)
		add_changes(&plan->pio, kvm->pio_space);
	TAILQ_FOREACH(region, &kvm->object.kvmas->txn.channelled, channelled) {
		if (!err)
			err = kas_climb(region, (struct range){0, region->state.last}, add_place,
					&climb);
	}
	return err;
}

static bool is_in(const struct windows *windows, struct range bytes)
{
	for (unsigned i = 0; i < windows->count; i++) {
		if (bytes.first <= windows->at[i].last && windows->at[i].first <= bytes.last)
			return true;
	}
	return false;
}

static bool is_affected(const struct channel_plan *plan, const struct placement *placement)
{
	return is_in(placement->pio ? &plan->pio : &plan->mmio, placement->bytes);
}

/* ---- what the bus would do ---- */

/* What KVM looks at where a place is asked about: the bytes, and for an ioeventfd of any size all
 * that a write there can have. It does so page by page. */
static struct range reach_of(const struct placement *placement)
{
	struct range reach = placement->bytes;

	if (placement->channel->fd >= 0 && placement->channel->size == 0) {
		uint64_t end = reach.first | (kas_page_size() - 1);

		reach.last = kas_add_saturating(reach.first, placement->pio ? 3 : 7);
		if (reach.last > end)
			reach.last = end;
	}
	return reach;
}

/* Whether a range shows the same bytes of the region as the placement has, from *address* on. */
static bool is_same(const struct flat_range *range, const struct placement *placement,
		    uint64_t offset, uint64_t address)
{
	return range->region == placement->region && !(range->attrs & ATTR_READONLY) &&
	       range->offset + (address - range->range.first) ==
		       offset + (address - placement->bytes.first);
}

/* Whether KVM has these bytes mapped, so that no write gets to the bus. */
static bool is_mapped(const struct kvm_space *space, const struct flat_range *range,
		      struct range bytes)
{
	uint64_t mask = kas_page_size() - 1;
	struct range pages = {bytes.first & ~mask, bytes.last | mask};
	struct mapping_source source;

	if (!space || !kas_range_is_writable(range))
		return false;
	source = kas_draft_source(space);
	return kas_mapping_has(&source, range, pages);
}

/* In what *view* shows, of a space of memory, or of ports: that is NULL then. *offset*: of the
 * first byte, in the region. Notes where memory is. */
static bool is_right_in(const struct kvm_space *space, const struct kvmas_view *view,
			struct placement *placement, uint64_t offset)
{
	struct range left = reach_of(placement);

	for (;;) {
		const struct flat_range *range = kas_view_find(view, left.first);
		struct range bytes = left;

		/* Behind the ioeventfd's own bytes nobody has to hear of a write. */
		if (range && range->range.first > left.first &&
		    left.first > placement->bytes.last && range->range.first <= left.last)
			bytes.first = range->range.first;
		else if (!range || range->range.first > left.first)
			return left.first > placement->bytes.last;
		if (bytes.last > range->range.last)
			bytes.last = range->range.last;
		if (!is_same(range, placement, offset, bytes.first)) {
			if (!is_mapped(space, range, bytes))
				return false;
			placement->memory |= 1u << space->as_id;
		}
		if (bytes.last == left.last)
			return true;
		left.first = bytes.last + 1;
	}
}

static bool is_right(const struct kvmas_kvm *kvm, struct placement *placement, uint64_t offset)
{
	bool zone = placement->channel->fd < 0;

	/* KVM refuses an ioeventfd whose end is 2^64, and never lets go of such a zone
	 * (virt/kvm/coalesced_mmio.c, coalesced_mmio_in_range). */
	if (placement->bytes.last == UINT64_MAX || (zone && !kvm->coalesced.page))
		return false;
	if (placement->pio)
		return (!zone || kvm->coalesced.pio) &&
		       is_right_in(NULL, kas_space_next_view(kvm->pio_space), placement, offset);
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		const struct kvm_space *space = &kvm->spaces[i];

		if (space->space &&
		    !is_right_in(space, kas_space_next_view(space->space), placement, offset))
			return false;
	}
	return true;
}

/* ---- what is there ---- */

struct finder {
	struct kvmas_kvm *kvm;
	const struct channel_plan *plan;
	bool pio;
	const struct flat_range *range; /* of the view, with a region that has channels */
	struct placements *found;
};

static int append(struct kvmas *kvmas, struct placements *placements,
		  const struct placement *placement)
{
	void *grown = kas_grow(kvmas, placements->at, placements->count, &placements->capacity,
			       sizeof(*placement));

	if (!grown)
		return -ENOMEM;
	placements->at = grown;
	placements->at[placements->count++] = *placement;
	if (placement->bytes.last - placement->bytes.first > placements->longest)
		placements->longest = placement->bytes.last - placement->bytes.first;
	kas_channel_ref(placement->channel);
	return 0;
}

/* *bytes* are the region's, and seen in the range. */
static int add(const struct finder *finder, struct channel *channel, struct range bytes)
{
	const struct flat_range *range = finder->range;
	uint64_t shift = range->range.first - range->offset;
	struct placement placement = {
		.pio = finder->pio,
		.bytes = {bytes.first + shift, bytes.last + shift},
		.channel = channel,
		.region = range->region,
		.found = true,
	};

	if (!is_affected(finder->plan, &placement))
		return 0;
	placement.right = is_right(finder->kvm, &placement, bytes.first);
	if (!placement.right && kas_placement_is_must(&placement))
		return -EOPNOTSUPP;
	return append(finder->kvm->object.kvmas, finder->found, &placement);
}

/* The pieces of a zone that lie in *seen*, between ioeventfds. */
static int add_zone(const struct finder *finder, struct channel *zone, struct range seen)
{
	const struct channels *channels = finder->range->region->channels;
	struct channel *const *events = kas_channels_events(channels);
	int err = 0;

	if (!kas_range_clip(&seen, zone->range))
		return 0;
	for (size_t i = 0; !err && i < channels->nevents; i++) {
		const struct range *event = &events[i]->range;

		if (event->last < seen.first || event->first > seen.last)
			continue;
		if (event->first > seen.first)
			err = add(finder, zone, (struct range){seen.first, event->first - 1});
		if (event->last >= seen.last)
			return err;
		seen.first = event->last + 1;
	}
	return err ? err : add(finder, zone, seen);
}

static int add_range(const struct finder *finder)
{
	const struct flat_range *range = finder->range;
	const struct channels *channels = range->region->channels;
	struct range seen = {range->offset,
			     range->offset + (range->range.last - range->range.first)};
	int err = 0;

	for (size_t i = 0; !err && i < channels->nzones; i++)
		err = add_zone(finder, channels->at[i], seen);
	for (size_t i = 0; !err && i < channels->nevents; i++) {
		struct channel *event = kas_channels_events(channels)[i];

		if (event->range.first >= seen.first && event->range.last <= seen.last)
			err = add(finder, event, event->range);
	}
	return err;
}

static int find_in_window(struct finder *finder, const struct kvmas_view *view, struct range window)
{
	struct view_at at = kas_view_seek(view, window.first);
	const struct flat_range *range;
	int err = 0;

	while (!err && (range = kas_view_get(view, at)) && range->range.first <= window.last) {
		finder->range = range;
		if (range->region->channels && !(range->attrs & ATTR_READONLY))
			err = add_range(finder);
		at = kas_view_after(view, at);
	}
	return err;
}

static int find_in_space(struct finder *finder, const struct kvmas_space *space)
{
	const struct windows *windows = finder->pio ? &finder->plan->pio : &finder->plan->mmio;
	int err = 0;

	for (unsigned i = 0; !err && i < windows->count; i++)
		err = find_in_window(finder, kas_space_next_view(space), windows->at[i]);
	return err;
}

/* What holds another one comes first. */
static int compare(const void *a, const void *b)
{
	const struct placement *one = a;
	const struct placement *two = b;

	if (one->pio != two->pio)
		return one->pio ? 1 : -1;
	if (one->bytes.first != two->bytes.first)
		return one->bytes.first < two->bytes.first ? -1 : 1;
	if (one->bytes.last != two->bytes.last)
		return one->bytes.last > two->bytes.last ? -1 : 1;
	if (one->channel == two->channel)
		return 0;
	return (uintptr_t)one->channel < (uintptr_t)two->channel ? -1 : 1;
}

/* What several spaces, or several windows, have found is one. */
static void sort(struct placements *found)
{
	size_t count = 0;

	if (found->count == 0)
		return;
	qsort(found->at, found->count, sizeof(found->at[0]), compare);
	for (size_t i = 1; i < found->count; i++) {
		if (compare(&found->at[count], &found->at[i]) == 0)
			kas_channel_unref(found->at[i].channel);
		else
			found->at[++count] = found->at[i];
	}
	found->count = count + 1;
}

static int find(struct kvmas_kvm *kvm, const struct channel_plan *plan, struct placements *found)
{
	struct finder finder = {.kvm = kvm, .plan = plan, .found = found};
	int err = 0;

	for (unsigned i = 0; !err && i < kvm->nspaces; i++) {
		if (kvm->spaces[i].space)
			err = find_in_space(&finder, kvm->spaces[i].space);
	}
	finder.pio = true;
	if (!err && kvm->pio_space)
		err = find_in_space(&finder, kvm->pio_space);
	sort(found);
	return err;
}

/* ---- what changes ---- */

/* What was there and is not affected, and what was found: all that there will be. */
static int unite(struct kvmas_kvm *kvm, struct channel_plan *plan, const struct placements *found)
{
	const struct placements *now = &kvm->channels;
	size_t i = 0, k = 0;
	int err = 0;

	while (!err && (i < now->count || k < found->count)) {
		bool ours = k == found->count ||
			    (i < now->count && compare(&now->at[i], &found->at[k]) <= 0);

		if (!ours) {
			err = append(kvm->object.kvmas, &plan->next, &found->at[k++]);
		} else if (!is_affected(plan, &now->at[i++])) {
			struct placement stays = now->at[i - 1];

			stays.found = false;
			err = append(kvm->object.kvmas, &plan->next, &stays);
		}
	}
	return err;
}

/*
 * A space that shows less of a zone than another one has a piece of it that lies inside the
 * other's, both right. KVM must not have the two: taking back a part takes back each zone around
 * it. Only right ones of one zone can overlap at all; so it is enough to know the one of them that
 * reaches furthest.
 */
static void cover(struct placements *placements)
{
	const struct placement *reach = NULL;

	for (size_t i = 0; i < placements->count; i++) {
		struct placement *at = &placements->at[i];

		at->covered = false;
		if (!at->right || at->channel->fd >= 0)
			continue;
		at->covered = reach && reach->pio == at->pio && at->bytes.last <= reach->bytes.last;
		if (!at->covered)
			reach = at;
	}
}

/* What there will be goes on as it was; what was there and will not be, or is wrong from now on, or
 * part of another one, leaves. So does for a while what has memory, before or after, if slots
 * change there. */
static void settle(struct placements *now, struct channel_plan *plan)
{
	struct placements *next = &plan->next;
	size_t i = 0;

	for (size_t k = 0; k < next->count; k++) {
		struct placement *at = &next->at[k];
		bool stays = at->right && !at->covered, goes_on;
		int order = 1;

		at->made = false;
		for (; i < now->count && (order = compare(&now->at[i], at)) < 0; i++)
			now->at[i].leaves = now->at[i].made;
		if (i < now->count && order == 0) {
			goes_on = stays && !((now->at[i].memory || at->memory) &&
					     is_in(&plan->slots, at->bytes));
			at->made = goes_on && now->at[i].made;
			at->refused = stays ? now->at[i].refused : 0;
			now->at[i].leaves = now->at[i].made && !goes_on;
			i++;
		}
		at->leaves = false;
		plan->nmakes += stays && !at->made;
		plan->nmusts += stays && !at->made && at->found && kas_placement_is_must(at);
	}
	for (; i < now->count; i++)
		now->at[i].leaves = now->at[i].made;
	for (i = 0; i < now->count; i++)
		plan->nunmakes += now->at[i].leaves;
}

/* Where the first is that does not come before *address* on this bus. */
static size_t seek(const struct placements *placements, bool pio, uint64_t address)
{
	size_t low = 0, high = placements->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct placement *at = &placements->at[middle];

		if (at->pio < pio || (at->pio == pio && at->bytes.first < address))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Whether one has a byte in a window: none begins further before it than the longest is long. */
static bool any_in(const struct placements *placements, bool pio, const struct range *window)
{
	uint64_t longest = placements->longest;
	uint64_t first = window->first > longest ? window->first - longest : 0;

	for (size_t i = seek(placements, pio, first); i < placements->count; i++) {
		const struct placement *at = &placements->at[i];

		if (at->pio != pio || at->bytes.first > window->last)
			break;
		if (at->bytes.last >= window->first)
			return true;
	}
	return false;
}

static bool any_affected(const struct kvmas_kvm *kvm, const struct channel_plan *plan)
{
	bool any = false;

	for (unsigned i = 0; !any && i < plan->mmio.count; i++)
		any = any_in(&kvm->channels, false, &plan->mmio.at[i]);
	for (unsigned i = 0; !any && i < plan->pio.count; i++)
		any = any_in(&kvm->channels, true, &plan->pio.at[i]);
	return any;
}

int kas_placements_draft(struct kvmas_kvm *kvm, struct channel_plan *plan)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	struct placements found = {0};
	int err;

	if (kvmas->nchannelled == 0 && kvm->channels.count == 0)
		return 0;
	err = find_windows(kvm, plan);
	if (!err)
		err = find(kvm, plan, &found);
	plan->any = !err && (found.count || any_affected(kvm, plan));
	if (plan->any)
		err = unite(kvm, plan, &found);
	if (plan->any && !err) {
		cover(&plan->next);
		settle(&kvm->channels, plan);
	}
	kas_placements_fini(kvmas, &found);
	return err;
}

void kas_placements_fini(struct kvmas *kvmas, struct placements *placements)
{
	for (size_t i = 0; i < placements->count; i++)
		kas_channel_unref(placements->at[i].channel);
	kas_free(kvmas, placements->at);
	*placements = (struct placements){0};
}

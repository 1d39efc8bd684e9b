/* SPDX-License-Identifier: MIT */
/*
 * Views: what a space looks like, flat, from one commit to the next. A view is immutable from its
 * birth; whoever looks at one holds it, and it holds the regions that it shows, so that all that a
 * section points to outlives the look.
 *
 * Invariants:
 *   I1  ranges are sorted by address, disjoint, and no two of them continue each other.
 *   I2  each range's region is neither a container nor an alias, and is held.
 *
 * Cost: looking up an address is a binary search. Read kas_view_find first.
 */
#include "view.h"

#include <errno.h>
#include <string.h>

#include "ram.h"

int kas_view_new(struct kvmas *kvmas, const struct flat *flat, struct kvmas_view **ret)
{
	struct kvmas_view *view =
		kas_alloc(kvmas, sizeof(*view) + flat->count * sizeof(view->ranges[0]));

	if (!view)
		return -ENOMEM;
	kas_hold(kvmas);
	view->kvmas = kvmas;
	atomic_init(&view->refs, 1);
	view->count = flat->count;
	for (size_t i = 0; i < flat->count; i++) {
		view->ranges[i] = flat->ranges[i];
		kvmas_region_ref(view->ranges[i].region);
	}
	*ret = view;
	return 0;
}

void kas_view_ref(struct kvmas_view *view)
{
	atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
}

void kas_view_unref(struct kvmas_view *view)
{
	struct kvmas *kvmas;

	if (!view || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1)
		return;
	kvmas = view->kvmas;
	for (size_t i = 0; i < view->count; i++)
		kas_object_unref(&view->ranges[i].region->object);
	kas_free(kvmas, view);
	kas_let_go(kvmas);
}

bool kas_flat_range_equal(const struct flat_range *a, const struct flat_range *b)
{
	return a->range.first == b->range.first && a->range.last == b->range.last &&
	       a->region == b->region && a->offset == b->offset && a->attrs == b->attrs;
}

bool kas_view_shows(const struct kvmas_view *view, const struct flat *flat)
{
	if (view->count != flat->count)
		return false;
	for (size_t i = 0; i < view->count; i++) {
		if (!kas_flat_range_equal(&view->ranges[i], &flat->ranges[i]))
			return false;
	}
	return true;
}

size_t kas_view_find(const struct kvmas_view *view, uint64_t address)
{
	size_t low = 0;
	size_t high = view->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (view->ranges[middle].range.last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void *kas_region_hva(const struct kvmas_region *region, uint64_t offset)
{
	return region->ram->hva + region->ram_offset + offset;
}

void kas_section_fill(struct kvmas_section *section, const struct flat_range *range)
{
	struct kvmas_ram *ram = kas_range_ram(range);

	*section = (struct kvmas_section){
		.gpa = range->range.first,
		.size = kas_last_to_size(range->range.last - range->range.first),
		.last = range->range.last,
		.region = range->region,
		.offset = range->offset,
		.readonly = range->attrs & ATTR_READONLY,
		.nonvolatile = range->attrs & ATTR_NONVOLATILE,
		.unmergeable = range->attrs & ATTR_UNMERGEABLE,
		.romd = range->attrs & ATTR_ROMD,
		.fd = -1,
	};
	if (!ram)
		return;
	section->ram = ram;
	section->ram_offset = range->region->ram_offset + range->offset;
	section->hva = kas_region_hva(range->region, range->offset);
	section->fd = ram->fd;
	section->fd_offset = ram->fd < 0 ? 0 : ram->fd_offset + section->ram_offset;
}

static int section_at(const struct kvmas_view *view, size_t index, struct kvmas_section *ret)
{
	if (index == view->count)
		return -ENOENT;
	kas_section_fill(ret, &view->ranges[index]);
	return 0;
}

int kvmas_view_lookup(const struct kvmas_view *view, uint64_t gpa, struct kvmas_section *ret)
{
	size_t index;

	if (!kas_alive(view->kvmas))
		return -EIO;
	index = kas_view_find(view, gpa);
	if (index < view->count && view->ranges[index].range.first > gpa)
		return -ENOENT;
	return section_at(view, index, ret);
}

int kvmas_view_find(const struct kvmas_view *view, uint64_t gpa, struct kvmas_section *ret)
{
	if (!kas_alive(view->kvmas))
		return -EIO;
	return section_at(view, kas_view_find(view, gpa), ret);
}

int kvmas_view_next(const struct kvmas_view *view, struct kvmas_section *section)
{
	if (section->last == UINT64_MAX)
		return -ENOENT;
	return kvmas_view_find(view, section->last + 1, section);
}

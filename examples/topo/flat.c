/* SPDX-License-Identifier: MIT */
/*
 * Taking down views: each space's view is pinned, walked and copied. Views that are equal range by
 * range are one, whatever roots they come from; hashes spare most of the comparing.
 *
 * Read flat_take first.
 */
#include "flat.h"

#include <errno.h>
#include <stdlib.h>

#define HASH_FACTOR UINT64_C(0x9e3779b97f4a7c15) /* 2^64 over the golden ratio */

static const char *range_kind(const struct kvmas_section *section)
{
	enum kvmas_region_kind kind = kvmas_region_get_kind(section->region);

	if (section->readonly)
		return topo_kind_name(KVMAS_REGION_ROM);
	if (kind == KVMAS_REGION_ROMD && !section->romd)
		return topo_kind_name(KVMAS_REGION_MMIO);
	return topo_kind_name(kind);
}

static struct flat_range copy_section(const struct kvmas_section *section)
{
	const struct live_region *live = kvmas_region_get_opaque(section->region);

	return (struct flat_range){
		.first = section->gpa,
		.last = section->last,
		.kind = range_kind(section),
		.nonvolatile = section->nonvolatile,
		.region = live->now,
		.offset = section->offset,
	};
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * HASH_FACTOR;
	return hash ^ (hash >> 32);
}

/* Room doubles when it is full, which it is at powers of two. */
static int append(struct flat_view *view, const struct flat_range *range)
{
	size_t count = view->count;
	struct flat_range *ranges = view->ranges;

	if (!(count & (count - 1))) {
		ranges = reallocarray(ranges, count ? 2 * count : 1, sizeof(*ranges));
		if (!ranges)
			return -ENOMEM;
		view->ranges = ranges;
	}
	ranges[view->count++] = *range;
	view->hash = mix(mix(mix(view->hash, range->first), range->last), range->offset);
	return 0;
}

static int copy_view(struct flat_view *ret, const struct live *live, struct kvmas_space *space)
{
	const struct kvmas_view *view = kvmas_view_acquire(live->reader, space);
	struct kvmas_section section;
	struct flat_range range;
	int err;

	for (err = kvmas_view_find(view, 0, &section); !err;
	     err = kvmas_view_next(view, &section)) {
		range = copy_section(&section);
		err = append(ret, &range);
		if (err)
			break;
	}
	kvmas_view_release(live->reader, view);
	return err == -ENOENT ? 0 : err;
}

static bool same_range(const struct flat_range *a, const struct flat_range *b)
{
	return a->first == b->first && a->last == b->last && a->kind == b->kind &&
	       a->nonvolatile == b->nonvolatile && a->region == b->region && a->offset == b->offset;
}

static bool same_view(const struct flat_view *a, const struct flat_view *b)
{
	if (a->count != b->count || a->hash != b->hash)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (!same_range(&a->ranges[i], &b->ranges[i]))
			return false;
	return true;
}

static int take_space(struct flat *flat, const struct live *live, struct kvmas_space *space)
{
	struct flat_view *view = &flat->views[flat->nviews];
	size_t equal = 0;
	int err = copy_view(view, live, space);

	while (!same_view(&flat->views[equal], view))
		equal++;
	flat->view_of[flat->nspaces++] = equal;
	if (equal == flat->nviews) {
		flat->nviews++;
		return err;
	}
	free(view->ranges);
	*view = (struct flat_view){0};
	return err;
}

int flat_take(struct flat *flat, const struct live *live)
{
	struct topo_space *space;
	size_t nspaces = live->now->nspaces;
	int err = 0;

	*flat = (struct flat){0};
	/* One more, since a file without spaces is not one without memory. */
	flat->views = calloc(nspaces + 1, sizeof(*flat->views));
	flat->view_of = calloc(nspaces + 1, sizeof(*flat->view_of));
	if (!flat->views || !flat->view_of)
		return -ENOMEM;
	TAILQ_FOREACH(space, &live->now->spaces, all) {
		err = take_space(flat, live, space->space);
		if (err)
			break;
	}
	return err;
}

void flat_fini(struct flat *flat)
{
	for (size_t i = 0; i < flat->nviews; i++)
		free(flat->views[i].ranges);
	free(flat->views);
	free(flat->view_of);
}

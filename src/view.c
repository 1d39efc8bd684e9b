/* SPDX-License-Identifier: MIT */
/*
 * Views: what a root looks like, flat, from one commit to the next. A view is immutable from its
 * birth; whoever looks at one holds it, and it holds the regions that it shows, so that all that a
 * section points to outlives the look.
 *
 * A view is an array of pages, each with some dozens of ranges. A commit makes anew the pages that
 * change, and the array; all others it shares with the view before:
 *
 *     generation 7   [a][b][c][d]
 *     generation 8   [a][b'][c][d]          b is dropped by 8: it hangs on 7
 *     generation 9   [a][b'][c'][d][e]      c is dropped by 9: it hangs on 8
 *
 * A page is in the views from its birth up to the one it hangs on, and in no others. So when a view
 * ends, what hangs on it is still in the next older one that is alive, if it was born by then;
 * there it is hung, or else it is freed. The newest, once it ends, is the last to have all its
 * pages. Nothing is counted, and views may end in any order.
 *
 * Regions are held by pages, not by views: region->shown counts ranges, under the transaction lock,
 * and the first of them takes one reference. Views end in reclaim only, which has the lock.
 *
 * Invariants:
 *   I1  ranges are sorted by address, disjoint, and no two of them could be one.
 *   I2  each range's region is neither a container nor an alias, and is held.
 *   I3  a published page is in each view of its lineage from birth up to the one on which it hangs;
 *       if it hangs on none, up to the newest.
 *   I4  lasts, of views and pages, ascend, and say what the ranges say.
 *
 * Cost: looking up an address is two binary searches (view.h). Read kas_view_seek and bequeath
 * first.
 */
#include "view.h"

#include <errno.h>
#include <string.h>

#include "ram.h"

struct page *kas_page_new(struct kvmas *kvmas, const struct flat_range *ranges, size_t count,
			  uint64_t birth)
{
	struct page *page = kas_resize(kvmas, NULL, sizeof(*page));

	if (!page)
		return NULL;
	page->count = (unsigned)count;
	page->birth = birth;
	page->next = NULL;
	memcpy(page->ranges, ranges, count * sizeof(*ranges));
	for (size_t i = 0; i < KAS_PAGE_RANGES + KAS_PADDING; i++)
		page->lasts[i] = i < count ? ranges[i].range.last : UINT64_MAX;
	for (size_t i = 0; i < count; i++) {
		if (ranges[i].region->shown++ == 0)
			kas_object_ref(&ranges[i].region->object);
	}
	return page;
}

void kas_page_free(struct kvmas *kvmas, struct page *page)
{
	for (unsigned i = 0; i < page->count; i++) {
		struct kvmas_region *region = page->ranges[i].region;

		if (--region->shown == 0)
			kas_object_unref(&region->object);
	}
	kas_free(kvmas, page);
}

/* A page that *from*, now ending, was the last to have. */
static void bequeath(struct page *page, struct kvmas_view *older, struct kvmas *kvmas)
{
	if (!older || page->birth > older->generation) {
		kas_page_free(kvmas, page);
		return;
	}
	page->next = older->dropped;
	older->dropped = page;
}

static void view_end(struct object *object)
{
	struct kvmas_view *view = kas_container_of(object, struct kvmas_view, object);
	struct kvmas_view *older = TAILQ_PREV(view, view_list, of_lineage);
	struct object *holder = view->lineage->holder;
	struct kvmas *kvmas = object->kvmas;
	struct page *page;

	if (view->generation == view->lineage->generation) {
		for (size_t i = 0; i < view->npages; i++)
			bequeath(view->pages[i], older, kvmas);
	}
	while ((page = view->dropped)) {
		view->dropped = page->next;
		bequeath(page, older, kvmas);
	}
	TAILQ_REMOVE(&view->lineage->views, view, of_lineage);
	kas_free(kvmas, view);
	kas_object_unref(holder);
}

int kas_view_new(struct lineage *lineage, const struct page_entry *pages, size_t npages,
		 size_t count, struct kvmas_view **ret)
{
	struct kvmas *kvmas = lineage->holder->kvmas;
	const size_t per_page = sizeof(uintptr_t) + sizeof(uint64_t); /* of pages[] and lasts[] */
	const size_t size = npages * per_page + KAS_PADDING * sizeof(uint64_t);
	struct kvmas_view *view = kas_resize(kvmas, NULL, sizeof(*view) + size);

	if (!view)
		return -ENOMEM;
	*view = (struct kvmas_view){
		.lineage = lineage,
		.generation = lineage->generation + 1,
		.serial = ++kvmas->txn.serials,
		.npages = npages,
		.count = count,
	};
	view->lasts = (uint64_t *)(void *)&view->pages[npages];
	for (size_t i = 0; i < npages; i++) {
		view->pages[i] = pages[i].page;
		view->lasts[i] = pages[i].last;
	}
	for (size_t i = npages; i < npages + KAS_PADDING; i++)
		view->lasts[i] = UINT64_MAX;
	kas_object_init(&view->object, kvmas, view_end);
	view->object.pinnable = true;
	kas_object_ref(lineage->holder);
	*ret = view;
	return 0;
}

void kas_view_discard(struct kvmas_view *view)
{
	struct object *holder = view->lineage->holder;
	struct kvmas *kvmas = view->object.kvmas;

	for (size_t i = 0; i < view->npages; i++) {
		if (view->pages[i]->birth == view->generation)
			kas_page_free(kvmas, view->pages[i]);
	}
	kas_free(kvmas, view);
	kas_let_go(kvmas);
	kas_object_unref(holder);
}

void kas_view_publish(struct kvmas_view *view, struct page *dropped)
{
	struct lineage *lineage = view->lineage;
	struct kvmas_view *before = TAILQ_LAST(&lineage->views, view_list);

	if (before)
		before->dropped = dropped;
	lineage->generation = view->generation;
	TAILQ_INSERT_TAIL(&lineage->views, view, of_lineage);
}

bool kas_flat_range_equal(const struct flat_range *a, const struct flat_range *b)
{
	return a->range.first == b->range.first && a->range.last == b->range.last &&
	       a->region == b->region && a->offset == b->offset && a->attrs == b->attrs;
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

static int section_of(const struct flat_range *range, struct kvmas_section *ret)
{
	if (!range)
		return -ENOENT;
	kas_section_fill(ret, range);
	return 0;
}

int kvmas_view_lookup(const struct kvmas_view *view, uint64_t gpa, struct kvmas_section *ret)
{
	const struct flat_range *range;

	if (!kas_alive(view->object.kvmas))
		return -EIO;
	range = kas_view_find(view, gpa);
	return section_of(range && range->range.first <= gpa ? range : NULL, ret);
}

int kvmas_view_find(const struct kvmas_view *view, uint64_t gpa, struct kvmas_section *ret)
{
	if (!kas_alive(view->object.kvmas))
		return -EIO;
	return section_of(kas_view_find(view, gpa), ret);
}

int kvmas_view_next(const struct kvmas_view *view, struct kvmas_section *section)
{
	if (section->last == UINT64_MAX)
		return kas_alive(view->object.kvmas) ? -ENOENT : -EIO;
	return kvmas_view_find(view, section->last + 1, section);
}

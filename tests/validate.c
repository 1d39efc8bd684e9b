/* SPDX-License-Identifier: MIT */
#include "validate.h"

#include <stdlib.h>

#include "children.h"

#define DEMAND(condition, what)                                                                    \
	do {                                                                                       \
		if (!(condition))                                                                  \
			return what;                                                               \
	} while (0)

/* ---- children ---- */

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static const char *validate_node(const struct kvmas_region *node, const struct kvmas_region *up,
				 const struct kvmas_region *parent)
{
	const struct kvmas_region *left = node->node.left;
	const struct kvmas_region *right = node->node.right;
	uint64_t end = kas_child_extent(&node->state).last;
	const char *fault = NULL;

	DEMAND(node->state.parent == parent, "children: a child of another parent");
	DEMAND(node->node.up == up, "children: a link up that does not lead back");
	DEMAND(!up || up->node.weight >= node->node.weight, "children I2: heavier than above");
	if (left) {
		fault = validate_node(left, node, parent);
		end = larger(end, left->node.end);
	}
	if (!fault && right) {
		fault = validate_node(right, node, parent);
		end = larger(end, right->node.end);
	}
	DEMAND(fault || node->node.end == end, "children I3: a wrong end");
	return fault;
}

const char *validate_children(const struct kvmas_region *parent)
{
	const struct range all = {0, UINT64_MAX};
	const struct kvmas_region *before = NULL;
	const struct kvmas_region *child;
	const char *fault = NULL;

	if (parent->children)
		fault = validate_node(parent->children, NULL, parent);
	if (fault)
		return fault;
	for (child = kas_children_first(parent, all); child;
	     child = kas_children_next(child, all)) {
		const struct region_state *a = before ? &before->state : NULL;
		const struct region_state *b = &child->state;

		DEMAND(!a || a->offset < b->offset ||
			       (a->offset == b->offset && a->place < b->place),
		       "children I1: out of order");
		before = child;
	}
	return NULL;
}

/* ---- views ---- */

static const char *validate_page(const struct page *page)
{
	DEMAND(page->count >= 1 && page->count <= KAS_PAGE_RANGES, "view: a page without a count");
	for (unsigned i = 0; i < KAS_PAGE_RANGES; i++) {
		uint64_t last = i < page->count ? page->ranges[i].range.last : UINT64_MAX;

		DEMAND(page->lasts[i] == last, "view I4: a page's lasts");
	}
	return NULL;
}

static const char *validate_range(const struct flat_range *before, const struct flat_range *range)
{
	enum kvmas_region_kind kind = range->region->kind;

	DEMAND(range->range.first <= range->range.last, "view I1: an empty range");
	DEMAND(kind != KVMAS_REGION_CONTAINER && kind != KVMAS_REGION_ALIAS,
	       "view I2: a container or an alias");
	DEMAND(range->region->shown > 0, "view I2: a region that is not held");
	if (!before)
		return NULL;
	DEMAND(before->range.last < range->range.first, "view I1: out of order");
	DEMAND(!kas_range_goes_on(before, range) || range->attrs & ATTR_UNMERGEABLE,
	       "view I1: two ranges that could be one");
	return NULL;
}

static size_t count_unmergeable(const struct page *page)
{
	size_t count = 0;

	for (unsigned i = 0; i < page->count; i++)
		count += page->ranges[i].attrs & ATTR_UNMERGEABLE ? 1 : 0;
	return count;
}

const char *validate_view(const struct kvmas_view *view)
{
	const struct flat_range *before = NULL;
	const char *fault = NULL;
	size_t nunmergeable = 0;
	size_t count = 0;

	for (size_t i = 0; i < view->npages; i++) {
		const struct page *page = view->pages[i];

		fault = validate_page(page);
		DEMAND(fault || view->lasts[i] == page->lasts[page->count - 1],
		       "view I4: a view's lasts");
		DEMAND(page->birth <= view->generation, "view I3: a page from the future");
		for (unsigned k = 0; !fault && k < page->count; k++) {
			fault = validate_range(before, &page->ranges[k]);
			before = &page->ranges[k];
		}
		if (fault)
			return fault;
		count += page->count;
		nunmergeable += count_unmergeable(page);
	}
	DEMAND(count == view->count, "view: a wrong count");
	DEMAND(nunmergeable == view->nunmergeable, "view: a wrong count of unmergeable ranges");
	return NULL;
}

static bool has_page(const struct kvmas_view *view, const struct page *page)
{
	for (size_t i = 0; i < view->npages; i++) {
		if (view->pages[i] == page)
			return true;
	}
	return false;
}

/* What hangs on a view is in it and in no later one. */
static const char *validate_dropped(const struct kvmas_view *view)
{
	const struct kvmas_view *later = TAILQ_NEXT(view, of_lineage);

	DEMAND(later || !view->dropped, "view I3: the newest has dropped pages");
	for (const struct page *page = view->dropped; page; page = page->next) {
		DEMAND(page->birth <= view->generation, "view I3: dropped before its birth");
		DEMAND(!has_page(later, page), "view I3: dropped, and still there");
	}
	return NULL;
}

const char *validate_windows(const struct windows *windows)
{
	DEMAND(windows->count <= KAS_MAX_WINDOWS, "windows: too many");
	for (unsigned i = 0; i < windows->count; i++) {
		const struct range *at = &windows->at[i];

		DEMAND(at->first <= at->last, "windows: an empty one");
		DEMAND(i == 0 || (at[-1].last < at->first && at->first - at[-1].last > 1),
		       "windows: two that touch");
	}
	return NULL;
}

const char *validate_root(const struct root *root)
{
	const struct kvmas_view *view;
	uint64_t generation = 0;
	const char *fault = NULL;

	DEMAND(root->region->root == root, "root: of another region");
	DEMAND(!root->next && !root->dropped && !root->old, "root I2: something is left");
	DEMAND(root->changes.ndels == 0 && root->changes.nadds == 0, "root I2: changes are left");
	DEMAND(root->damaged == root->unseen, "root I3: damaged");
	DEMAND(root->damaged == (root->windows.count > 0), "root I3: windows");
	DEMAND(root->view == TAILQ_LAST(&root->lineage.views, view_list),
	       "root: shows another than the newest");
	TAILQ_FOREACH(view, &root->lineage.views, of_lineage) {
		DEMAND(view->generation > generation, "view: generations do not ascend");
		generation = view->generation;
		fault = validate_view(view);
		if (!fault)
			fault = validate_dropped(view);
		if (fault)
			return fault;
	}
	DEMAND(generation == root->lineage.generation, "root: another generation");
	return validate_windows(&root->windows);
}

static const char *validate_regions(struct kvmas *kvmas)
{
	const struct kvmas_region *region;
	const char *fault = NULL;

	TAILQ_FOREACH(region, &kvmas->regions, all) {
		const struct kvmas_region *alias;

		fault = validate_children(region);
		LIST_FOREACH(alias, &region->aliases, alias)
			DEMAND(alias->state.target == region, "region I1: an alias of another");
		if (fault)
			return fault;
	}
	return NULL;
}

const char *validate(struct kvmas *kvmas)
{
	const struct kvmas_space *space;
	const char *fault = NULL;

	DEMAND(!kvmas->txn.undo && !kvmas->txn.doomed && !kvmas->txn.depth, "txn I1");
	fault = validate_regions(kvmas);
	TAILQ_FOREACH(space, &kvmas->spaces, all) {
		if (!fault && space->root)
			fault = validate_root(space->root);
	}
	return fault;
}

/* SPDX-License-Identifier: MIT */
/* Views: immutable flat renderings in pages that they share. See view.c. */
#ifndef KAS_VIEW_H
#define KAS_VIEW_H

#include "render.h"

/* How many ranges a page holds. Tests build with less. */
#ifndef KAS_PAGE_RANGES
#define KAS_PAGE_RANGES 64
#endif

/* How many keys a search may read behind the last. */
#define KAS_PADDING 8

struct page {
	uint64_t lasts[KAS_PAGE_RANGES +
		       KAS_PADDING]; /* of the ranges; behind count all UINT64_MAX */
	unsigned count;              /* at least 1 */
	uint64_t birth;              /* the generation of the first view that has it */
	struct page *next;           /* in a view's list of pages that it is the last to have */
	struct flat_range ranges[KAS_PAGE_RANGES];
};

TAILQ_HEAD(view_list, kvmas_view);

/* The views of one root that are alive, published ones only, oldest first. */
struct lineage {
	struct object *holder; /* lives as long as any of them: each holds it */
	struct view_list views;
	uint64_t generation; /* of the newest */
};

struct kvmas_view {
	struct object object;
	struct lineage *lineage;
	TAILQ_ENTRY(kvmas_view) of_lineage;
	uint64_t generation;  /* among the views of its root */
	uint64_t serial;      /* among all of its kvmas; never 0 */
	struct page *dropped; /* what its successor does not have, and nobody later */
	size_t count;         /* ranges */
	size_t nunmergeable;  /* of them */
	size_t npages;
	uint64_t *lasts; /* of the pages, and padding; behind pages[] in the same memory */
	struct page *pages[];
};

/* A place in a view: a range, or, with page == npages, its end. */
struct view_at {
	size_t page;
	size_t index;
};

/* A page of *count* ranges, whose regions it holds. NULL without memory. */
struct page *kas_page_new(struct kvmas *kvmas, const struct flat_range *ranges, size_t count,
			  uint64_t birth);
void kas_page_free(struct kvmas *kvmas, struct page *page);

/* A page on its way into a view. Its last is here, too: most pages are shared, and need not be
 * looked at. */
struct page_entry {
	struct page *page;
	uint64_t last;
};

/* The successor, to be, of the newest view of a lineage: of these pages, with that many ranges in
 * all. The new pages are its own from then on. -ENOMEM. */
int kas_view_new(struct lineage *lineage, const struct page_entry *pages, size_t npages,
		 size_t count, struct kvmas_view **ret);
/* End one that was not published. */
void kas_view_discard(struct kvmas_view *view);
/* Make it the newest of its lineage; *dropped* is what the one before it had and it has not. */
void kas_view_publish(struct kvmas_view *view, struct page *dropped);

static inline struct kvmas_view *kas_view_of(struct object *object)
{
	return kas_container_of(object, struct kvmas_view, object);
}

static inline void kas_view_ref(struct kvmas_view *view)
{
	kas_object_ref(&view->object);
}

static inline void kas_view_unref(struct kvmas_view *view)
{
	kas_object_unref(&view->object);
}

bool kas_flat_range_equal(const struct flat_range *a, const struct flat_range *b);

/*
 * One step of a binary search: go to *after* if the key before that is below *key*, else stay. What
 * is looked for is hardly ever predictable, and a mispredicted branch costs more than the rest of
 * the search. So this must be no branch; but compilers make one of the second form (Clang 14
 * always, GCC 12 in unrolled loops).
 */
static inline const uint64_t *kas_search_step(const uint64_t *at, const uint64_t *after,
					      uint64_t key)
{
#ifdef __x86_64__
	__asm__("cmp %2, %3\n\tcmovb %1, %0"
		: "+r"(at)
		: "r"(after), "r"(key), "m"(after[-1])
		: "cc");
	return at;
#else
	return after[-1] < key ? after : at;
#endif
}

static inline size_t kas_count_of_4(const uint64_t *keys, size_t stride, uint64_t key)
{
	size_t count = (size_t)(keys[0] < key) + (keys[stride] < key) + (keys[2 * stride] < key) +
		       (keys[3 * stride] < key);

	/* Else what is added to it is added one by one. */
	__asm__("" : "+r"(count));
	return count;
}

/* How many of 8 keys, the first and each *stride* behind, are below *key*. No comparison waits for
 * another, as those of a binary search do. */
static inline size_t kas_count_of_8(const uint64_t *keys, size_t stride, uint64_t key)
{
	return kas_count_of_4(keys, stride, key) + kas_count_of_4(keys + 4 * stride, stride, key);
}

/* How many of a view's pages end below *key*. The trip count depends on their number alone. The 5
 * to 8 that are left in the end, and some behind them, which do not count, take one step. */
static inline size_t kas_search_pages(const uint64_t *lasts, size_t npages, uint64_t key)
{
	const uint64_t *at = lasts;

	for (; npages > 8; npages -= npages / 2)
		at = kas_search_step(at, at + npages / 2, key);
	return (size_t)(at - lasts) + kas_count_of_8(at, 1, key);
}

/* How many of a page's ranges, not all, end below *key*: first eighths of the page, then ranges. */
static inline size_t kas_search_page(const uint64_t *lasts, uint64_t key)
{
	enum { STRIDE = (KAS_PAGE_RANGES + 7) / 8 };
	size_t before = STRIDE * kas_count_of_8(lasts + STRIDE - 1, STRIDE, key);

	_Static_assert(STRIDE <= 8, "an eighth of a page is searched in one step");
	return before + kas_count_of_8(lasts + before, 1, key);
}

/* The place of the first range that ends at *address* or after it; the end if none does. */
static inline struct view_at kas_view_seek(const struct kvmas_view *view, uint64_t address)
{
	struct view_at at = {.page = kas_search_pages(view->lasts, view->npages, address)};

	if (at.page < view->npages)
		at.index = kas_search_page(view->pages[at.page]->lasts, address);
	return at;
}

/* The range at a place; NULL at the end. */
static inline const struct flat_range *kas_view_get(const struct kvmas_view *view,
						    struct view_at at)
{
	return at.page < view->npages ? &view->pages[at.page]->ranges[at.index] : NULL;
}

static inline struct view_at kas_view_after(const struct kvmas_view *view, struct view_at at)
{
	if (++at.index < view->pages[at.page]->count)
		return at;
	return (struct view_at){at.page + 1, 0};
}

static inline struct view_at kas_view_end(const struct kvmas_view *view)
{
	return (struct view_at){view->npages, 0};
}

/* Go to the range before; false at the first. */
static inline bool kas_view_step_back(const struct kvmas_view *view, struct view_at *at)
{
	if (at->index > 0) {
		at->index--;
		return true;
	}
	if (at->page == 0)
		return false;
	at->page--;
	at->index = view->pages[at->page]->count - 1;
	return true;
}

/* The first range that ends at *address* or after it; NULL if none does. */
static inline const struct flat_range *kas_view_find(const struct kvmas_view *view,
						     uint64_t address)
{
	return kas_view_get(view, kas_view_seek(view, address));
}

/* for each range of a view, by ascending address */
#define kas_view_for_each(view, at, range)                                                         \
	for ((at) = (struct view_at){0, 0}; ((range) = kas_view_get(view, at));                    \
	     (at) = kas_view_after(view, at))

/* A range as callers are given it; logged stays false. */
void kas_section_fill(struct kvmas_section *section, const struct flat_range *range);

/* The host address of byte *offset* of a region with memory. */
void *kas_region_hva(const struct kvmas_region *region, uint64_t offset);

#endif

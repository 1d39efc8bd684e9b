/* SPDX-License-Identifier: MIT */
/*
 * Splicing: the successor of a view, of which some windows have been rendered anew.
 *
 *     old view    |  a  |   b   |c|    d    |  e  |
 *     windows            [.......]
 *     painted            [ x |  b ]
 *     put            |  a  | x |  b |   d          what is cut or touched, and what was painted,
 *     trimmed              | x |  b |              pushed through one body that merges; then what
 *     old              |   b   |c|                 is as it was is taken off at both ends
 *
 * So merging at the edges of windows, "nothing has changed" and the listeners' difference are one
 * thing. What is left of a window is an edit: these ranges of the old view become those. A second
 * pass builds the pages: those without an edit are shared, the ranges of the others flow through
 * one run, which is cut into new pages of about equal size.
 *
 * A view does not say by which way a range came to be, so a range that is unmergeable must not be
 * cut: its pieces could not be told from two that belong apart. And what lies beside it in a window
 * may have been parted from it by what is gone now. So windows are widened over such ranges where
 * they cut or touch them.
 *
 * Invariants, of the edits:
 *   I1  they ascend, and no range of the old view is in two of them.
 *   I2  no edit begins or ends with a range that stays.
 *
 * Cost: what the windows show, the pages that it touches, and the array of all pages. Read
 * kas_splice first.
 */
#include "splice.h"

#include <errno.h>
#include <string.h>

/* A page with less takes in a neighbour when it is made. */
#define FEW_RANGES ((KAS_PAGE_RANGES + 3) / 4)

/* For how many changes room is kept in each root: most commits make a few. */
#define KEPT_CHANGES 16

/* The old ranges [from, to) become `count` fresh ones. */
struct edit {
	struct view_at from;
	struct view_at to;
	size_t first;
	size_t count;
};

struct splicing {
	struct splice *splice;
	struct kvmas *kvmas;
	const struct kvmas_view *old;
	struct canvas canvas;
	size_t nfresh;
	unsigned nedits;
	/* building pages */
	struct view_at at;
	size_t nrun;
	size_t npages;

	struct edit edits[KAS_MAX_WINDOWS];
};

static struct flat_range *fresh_of(const struct splicing *s)
{
	return s->kvmas->txn.buffers[BUFFER_FRESH].at;
}

static bool is_before(struct view_at a, struct view_at b)
{
	return a.page < b.page || (a.page == b.page && a.index < b.index);
}

static bool is_unmergeable(const struct flat_range *range)
{
	return range->attrs & ATTR_UNMERGEABLE;
}

/* A window, and the unmergeable ranges of the old view that it cuts or touches: one on each side,
 * since what those touch in turn was apart from them before, and nothing has changed there. */
static struct range widen(const struct splicing *s, struct range window)
{
	struct range wide = window;
	const struct flat_range *range;

	if (s->old->nunmergeable == 0)
		return window;
	range = kas_view_find(s->old, window.first ? window.first - 1 : 0);
	if (range && range->range.first < window.first && is_unmergeable(range))
		wide.first = range->range.first;
	if (window.last == UINT64_MAX)
		return wide;
	range = kas_view_find(s->old, window.last + 1);
	if (range && range->range.first <= window.last + 1 && is_unmergeable(range))
		wide.last = range->range.last;
	return wide;
}

/* ---- edits ---- */

static int put(struct splicing *s, const struct flat_range *range)
{
	struct edit *edit = &s->edits[s->nedits - 1];
	struct flat_range *before = edit->count ? &fresh_of(s)[s->nfresh - 1] : NULL;

	if (before && !is_unmergeable(range) && kas_range_goes_on(before, range)) {
		before->range.last = range->range.last;
		return 0;
	}
	if (!kas_buffer_grow(s->kvmas, BUFFER_FRESH, s->nfresh, sizeof(*range)))
		return -ENOMEM;
	fresh_of(s)[s->nfresh++] = *range;
	edit->count++;
	return 0;
}

/* What the window before has put on its right ends where this window begins. */
static void cut_fresh(struct splicing *s, uint64_t first)
{
	struct flat_range *right = &fresh_of(s)[s->nfresh - 1];

	if (s->edits[s->nedits - 1].count && right->range.last >= first)
		right->range.last = first - 1;
}

/* The part of the old view before a window that it cuts or touches. Begins an edit, or goes on with
 * the last, if what that touched is cut once more. */
static int put_left(struct splicing *s, struct range window)
{
	struct view_at at = kas_view_seek(s->old, window.first ? window.first - 1 : 0);
	const struct flat_range *range = kas_view_get(s->old, at);
	struct flat_range left;

	if (s->nedits && is_before(at, s->edits[s->nedits - 1].to)) {
		cut_fresh(s, window.first);
		return 0;
	}
	s->edits[s->nedits++] = (struct edit){.from = at, .to = at, .first = s->nfresh};
	if (!range || range->range.first >= window.first)
		return 0;
	left = *range;
	if (left.range.last >= window.first)
		left.range.last = window.first - 1;
	return put(s, &left);
}

static int put_right(struct splicing *s, struct range window)
{
	struct edit *edit = &s->edits[s->nedits - 1];
	const struct flat_range *range;
	struct flat_range right;

	edit->to = kas_view_end(s->old);
	if (window.last == UINT64_MAX)
		return 0;
	edit->to = kas_view_seek(s->old, window.last + 1);
	range = kas_view_get(s->old, edit->to);
	if (!range || range->range.first > window.last + 1)
		return 0;
	edit->to = kas_view_after(s->old, edit->to);
	right = *range;
	if (right.range.first <= window.last) {
		right.offset += window.last + 1 - right.range.first;
		right.range.first = window.last + 1;
	}
	return put(s, &right);
}

static int splice_window(struct splicing *s, struct range window)
{
	int err = put_left(s, window);

	for (size_t i = 0; !err && i < s->canvas.count; i++)
		err = put(s, &kas_canvas_ranges(&s->canvas)[i]);
	return err ? err : put_right(s, window);
}

static int splice_windows(struct splicing *s, const struct windows *damage)
{
	struct windows windows = {0};
	int err = 0;

	for (unsigned i = 0; i < damage->count; i++)
		kas_windows_add(&windows, widen(s, damage->at[i]));
	for (unsigned i = 0; !err && i < windows.count; i++) {
		struct range window = windows.at[i];

		err = kas_render(s->splice->root, window, &s->canvas);
		if (!err)
			err = splice_window(s, window);
	}
	return err;
}

/* Take off at both ends what stays. */
static void trim(const struct splicing *s, struct edit *edit)
{
	const struct flat_range *fresh = fresh_of(s) + edit->first;

	while (edit->count && is_before(edit->from, edit->to) &&
	       kas_flat_range_equal(kas_view_get(s->old, edit->from), fresh)) {
		edit->from = kas_view_after(s->old, edit->from);
		edit->first++;
		edit->count--;
		fresh++;
	}
	while (edit->count && is_before(edit->from, edit->to)) {
		struct view_at last = edit->to;

		kas_view_step_back(s->old, &last);
		if (!kas_flat_range_equal(kas_view_get(s->old, last), &fresh[edit->count - 1]))
			return;
		edit->to = last;
		edit->count--;
	}
}

static void trim_edits(struct splicing *s)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < s->nedits; i++) {
		trim(s, &s->edits[i]);
		if (s->edits[i].count || is_before(s->edits[i].from, s->edits[i].to))
			s->edits[kept++] = s->edits[i];
	}
	s->nedits = kept;
}

/* ---- the difference ---- */

/* Append a range to the deletions or the additions. */
static int note(struct splicing *s, struct flat_range **ranges, size_t *count, size_t *capacity,
		const struct flat_range *range)
{
	void *grown = kas_grow(s->kvmas, *ranges, *count, capacity, sizeof(*range));

	if (!grown)
		return -ENOMEM;
	*ranges = grown;
	(*ranges)[(*count)++] = *range;
	return 0;
}

static int note_del(struct splicing *s, const struct flat_range *range)
{
	struct changes *changes = s->splice->changes;

	return note(s, &changes->dels, &changes->ndels, &changes->dels_capacity, range);
}

static int note_add(struct splicing *s, const struct flat_range *range)
{
	struct changes *changes = s->splice->changes;

	return note(s, &changes->adds, &changes->nadds, &changes->adds_capacity, range);
}

/* Both sides ascend: of two that are not equal, the one that begins earlier has no equal. */
static int note_changes(struct splicing *s, const struct edit *edit)
{
	const struct flat_range *fresh = fresh_of(s) + edit->first;
	const struct flat_range *end = fresh + edit->count;
	struct view_at at = edit->from;
	int err = 0;

	while (!err && (is_before(at, edit->to) || fresh < end)) {
		const struct flat_range *old =
			is_before(at, edit->to) ? kas_view_get(s->old, at) : NULL;
		bool both = old && fresh < end;

		if (both && kas_flat_range_equal(old, fresh)) {
			at = kas_view_after(s->old, at);
			fresh++;
		} else if (old && (!both || old->range.first <= fresh->range.first)) {
			err = note_del(s, old);
			at = kas_view_after(s->old, at);
		} else {
			err = note_add(s, fresh);
			fresh++;
		}
	}
	return err;
}

static int note_all_changes(struct splicing *s)
{
	int err = 0;

	s->splice->changes->ndels = 0;
	s->splice->changes->nadds = 0;
	for (unsigned i = 0; !err && i < s->nedits; i++)
		err = note_changes(s, &s->edits[i]);
	return err;
}

/* ---- pages ---- */

static struct page_entry *pages_of(const struct splicing *s)
{
	return s->kvmas->txn.buffers[BUFFER_PAGES].at;
}

static struct flat_range *run_of(const struct splicing *s)
{
	return s->kvmas->txn.buffers[BUFFER_RUN].at;
}

static int append_page(struct splicing *s, struct page *page, uint64_t last)
{
	int err = kas_buffer_reserve(s->kvmas, BUFFER_PAGES, s->npages + 1,
				     sizeof(struct page_entry));

	if (!err)
		pages_of(s)[s->npages++] = (struct page_entry){page, last};
	return err;
}

static void drop_page(struct splicing *s, struct page *page)
{
	page->next = s->splice->dropped;
	s->splice->dropped = page;
}

static int append_to_run(struct splicing *s, const struct flat_range *ranges, size_t count)
{
	int err = kas_buffer_reserve(s->kvmas, BUFFER_RUN, s->nrun + count, sizeof(*ranges));

	if (err || count == 0)
		return err;
	memcpy(run_of(s) + s->nrun, ranges, count * sizeof(*ranges));
	s->nrun += count;
	return 0;
}

/* Put the ranges of the page before the run in front of it, so that no page gets too small. That
 * page is one of the old view's: the run was flushed before it was shared. */
static int take_in_page_before(struct splicing *s)
{
	struct page *page = pages_of(s)[s->npages - 1].page;
	size_t count = page->count;
	size_t nrun = s->nrun;
	int err = append_to_run(s, page->ranges, count); /* for the room */

	if (err)
		return err;
	memmove(run_of(s) + count, run_of(s), nrun * sizeof(page->ranges[0]));
	memcpy(run_of(s), page->ranges, count * sizeof(page->ranges[0]));
	s->npages--;
	drop_page(s, page);
	return 0;
}

/* Make pages of the run, all about as full. */
static int flush_run(struct splicing *s)
{
	size_t npages = (s->nrun + KAS_PAGE_RANGES - 1) / KAS_PAGE_RANGES;
	size_t done = 0;

	for (size_t i = 0; i < npages; i++) {
		size_t count = (s->nrun - done) / (npages - i);
		struct page *page =
			kas_page_new(s->kvmas, run_of(s) + done, count, s->old->generation + 1);
		int err;

		if (!page)
			return -ENOMEM;
		done += count;
		err = append_page(s, page, run_of(s)[done - 1].range.last);
		if (err) {
			kas_page_free(s->kvmas, page);
			return err;
		}
	}
	s->nrun = 0;
	return 0;
}

/* Share the old pages up to the one at *page*. */
static int share_pages(struct splicing *s, size_t page)
{
	int err = kas_buffer_reserve(s->kvmas, BUFFER_PAGES, s->npages + (page - s->at.page),
				     sizeof(struct page_entry));

	for (; !err && s->at.page < page; s->at.page++) {
		pages_of(s)[s->npages++] = (struct page_entry){
			s->old->pages[s->at.page],
			s->old->lasts[s->at.page],
		};
	}
	return err;
}

/* Go on in the old view, with pages that are left behind being dropped. */
static void go_on_to(struct splicing *s, struct view_at to)
{
	for (; s->at.page < to.page; s->at.page++)
		drop_page(s, s->old->pages[s->at.page]);
	s->at = to;
}

/* Take over what the old view has up to *to*: whole pages as they are, where the run has come to an
 * end that makes no small page; other ranges into the run. */
static int copy_to(struct splicing *s, struct view_at to)
{
	int err = 0;

	while (!err && is_before(s->at, to)) {
		const struct page *page = s->old->pages[s->at.page];
		bool whole = s->at.index == 0 && s->at.page < to.page;
		size_t end = s->at.page < to.page ? page->count : to.index;

		if (whole && (s->nrun == 0 || s->nrun >= FEW_RANGES)) {
			err = flush_run(s);
			if (!err)
				err = share_pages(s, to.page);
			continue;
		}
		err = append_to_run(s, page->ranges + s->at.index, end - s->at.index);
		go_on_to(s, end == page->count ? (struct view_at){s->at.page + 1, 0} : to);
	}
	return err;
}

static int build_pages(struct splicing *s)
{
	int err = 0;

	for (unsigned i = 0; !err && i < s->nedits; i++) {
		const struct edit *edit = &s->edits[i];

		err = copy_to(s, edit->from);
		if (!err)
			err = append_to_run(s, fresh_of(s) + edit->first, edit->count);
		go_on_to(s, edit->to);
	}
	if (!err)
		err = copy_to(s, kas_view_end(s->old));
	if (!err && s->nrun && s->nrun < FEW_RANGES && s->npages)
		err = take_in_page_before(s);
	return err ? err : flush_run(s);
}

static void free_new_pages(struct splicing *s)
{
	for (size_t i = 0; i < s->npages; i++) {
		struct page *page = pages_of(s)[i].page;

		if (page->birth > s->old->generation)
			kas_page_free(s->kvmas, page);
	}
}

static size_t count_unmergeable(const struct flat_range *ranges, size_t count)
{
	size_t result = 0;

	for (size_t i = 0; i < count; i++)
		result += is_unmergeable(&ranges[i]);
	return result;
}

static int make_next(struct splicing *s)
{
	const struct changes *changes = s->splice->changes;
	size_t count = s->old->count - changes->ndels + changes->nadds;
	int err;

	if (count > s->kvmas->config.max_ranges)
		return -E2BIG;
	err = build_pages(s);
	if (!err)
		err = kas_view_new(s->splice->lineage, pages_of(s), s->npages, count,
				   &s->splice->next);
	if (err) {
		free_new_pages(s);
		return err;
	}
	s->splice->next->nunmergeable = s->old->nunmergeable -
					count_unmergeable(changes->dels, changes->ndels) +
					count_unmergeable(changes->adds, changes->nadds);
	return 0;
}

int kas_splice(struct splice *splice)
{
	struct kvmas *kvmas = splice->lineage->holder->kvmas;
	struct splicing s;
	int err;

	/* All but the edits, which are many and mostly not used. */
	memset(&s, 0, offsetof(struct splicing, edits));
	s.splice = splice;
	s.kvmas = kvmas;
	s.old = splice->old;
	s.canvas.kvmas = kvmas;
	splice->next = NULL;
	splice->dropped = NULL;
	if (!kas_buffer_grow(kvmas, BUFFER_FRESH, 0, sizeof(struct flat_range)))
		return -ENOMEM;
	err = splice_windows(&s, splice->windows);
	if (err)
		return err;
	trim_edits(&s);
	err = note_all_changes(&s);
	if (err || s.nedits == 0)
		return err;
	return make_next(&s);
}

void kas_changes_clear(struct kvmas *kvmas, struct changes *changes)
{
	changes->ndels = 0;
	changes->nadds = 0;
	if (changes->dels_capacity > KEPT_CHANGES || changes->adds_capacity > KEPT_CHANGES)
		kas_changes_fini(kvmas, changes);
}

void kas_changes_fini(struct kvmas *kvmas, struct changes *changes)
{
	kas_free(kvmas, changes->dels);
	kas_free(kvmas, changes->adds);
	*changes = (struct changes){0};
}

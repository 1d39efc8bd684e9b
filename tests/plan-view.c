/* SPDX-License-Identifier: MIT */
/*
 * Slots show a view, one for each range. Then the view changes: ranges move, exchange their places,
 * shift by a page, are cut, filled up, deleted, added, become readonly or logged. What is wanted is
 * that view under a policy, with boundaries. Much of what a view shows goes on from range to range,
 * or is the same somewhere else. Read roll_plan_round first.
 */
#include "plan-view.h"

/* ---- views ---- */

static struct view_range roll_range(struct plan_round *round, const struct plan_view *view)
{
	static const unsigned sizes[] = {1, 1, 2, 2, 4, 8};
	struct dice *dice = &round->dice;
	struct view_range range = {.npages = sizes[roll(dice, LENGTH(sizes))]};

	range.gap = roll(dice, 2) ? 0 : roll(dice, 4);
	range.flags = (roll(dice, 8) ? 0 : RO) | (roll(dice, 6) ? 0 : LOG);
	range.page = round->next_page;
	if (view->count && roll(dice, 3) == 0) { /* goes on, or is the same as another */
		const struct view_range *other = &view->ranges[roll(dice, view->count)];

		if (roll(dice, 4)) {
			other = &view->ranges[view->count - 1];
			range.flags = other->flags;
			range.page = other->page + other->npages;
			range.gap = 0;
		} else {
			range.page = other->page;
			range.npages = other->npages;
			range.flags = other->flags;
		}
	}
	if (round->next_page < range.page + range.npages)
		round->next_page = range.page + range.npages;
	round->next_page += roll(dice, 2);
	return range;
}

static void roll_view(struct plan_round *round, struct plan_view *view, size_t count)
{
	view->count = 0;
	while (view->count < count) {
		view->ranges[view->count] = roll_range(round, view);
		view->count++;
	}
}

static void remove_range(struct plan_view *view, size_t index)
{
	if (index + 1 < view->count)
		view->ranges[index + 1].gap += view->ranges[index].gap + view->ranges[index].npages;
	view->count--;
	memmove(&view->ranges[index], &view->ranges[index + 1],
		(view->count - index) * sizeof(view->ranges[0]));
}

static void insert_range(struct plan_view *view, size_t index, struct view_range range)
{
	if (view->count == LENGTH(view->ranges))
		return;
	memmove(&view->ranges[index + 1], &view->ranges[index],
		(view->count - index) * sizeof(view->ranges[0]));
	view->ranges[index] = range;
	view->count++;
}

/* ---- what becomes of a view: each of *n* ranges, or about there ---- */

static void exchange_memory(struct view_range *a, struct view_range *b)
{
	struct view_range first = *a;

	a->page = b->page;
	a->flags = b->flags;
	b->page = first.page;
	b->flags = first.flags;
}

/* Ranges of one size take each other's places: cycles, mostly. */
static void permute(struct plan_round *round, struct plan_view *view, size_t n)
{
	size_t first = roll(&round->dice, view->count), last = first;

	for (size_t i = first + 1; i < view->count && n; i++) {
		if (view->ranges[i].npages != view->ranges[first].npages)
			continue;
		exchange_memory(&view->ranges[last], &view->ranges[i]);
		last = roll(&round->dice, 3) ? i : last;
		n--;
	}
}

/* A run of ranges moves up by a page, or as many as there are. */
static void shift(struct plan_round *round, struct plan_view *view, size_t n)
{
	size_t first = roll(&round->dice, view->count), end = first + n;
	unsigned npages = 1 + roll(&round->dice, 3);

	while (end < view->count && !view->ranges[end].gap)
		end++;
	if (end < view->count && view->ranges[end].gap < npages)
		npages = view->ranges[end].gap;
	if (end < view->count)
		view->ranges[end].gap -= npages;
	view->ranges[first].gap += npages;
}

static void cut_out(struct plan_round *round, struct plan_view *view, size_t n)
{
	size_t index = roll(&round->dice, view->count);

	for (; n && view->count > 1 && index < view->count; n--)
		remove_range(view, index);
}

static void add_some(struct plan_round *round, struct plan_view *view, size_t n)
{
	size_t index = roll(&round->dice, view->count);

	while (n--)
		insert_range(view, index, roll_range(round, view));
}

/* A range moves into a gap. */
static void move_far(struct plan_round *round, struct plan_view *view, size_t n)
{
	while (n--) {
		size_t from = roll(&round->dice, view->count);
		struct view_range range = view->ranges[from];

		for (size_t i = 0; i < view->count; i++) {
			if (view->ranges[i].gap < range.npages || i == from)
				continue;
			remove_range(view, from);
			i -= i > from;
			view->ranges[i].gap -= range.npages;
			range.gap = 0;
			insert_range(view, i, range);
			break;
		}
	}
}

static void flip_flags(struct plan_round *round, struct plan_view *view, size_t n)
{
	uint32_t flag = roll(&round->dice, 2) ? RO : LOG;
	size_t index = roll(&round->dice, view->count);

	for (; n-- && index < view->count; index++)
		view->ranges[index].flags ^= flag;
}

/* A range is two, of which one may have other flags; or shows less, as a window opens in it. */
static void split(struct plan_round *round, struct plan_view *view, size_t n)
{
	while (n--) {
		size_t index = roll(&round->dice, view->count);
		struct view_range *range = &view->ranges[index], second = *range;
		unsigned first = range->npages > 1 ? 1 + roll(&round->dice, range->npages - 1) : 0;

		if (!first)
			continue;
		second.gap = 0;
		second.page += first;
		second.npages -= first;
		range->npages = first;
		if (second.npages > 1 && roll(&round->dice, 2)) {
			second.gap++;
			second.page++;
			second.npages--;
		} else if (roll(&round->dice, 2)) {
			second.flags ^= LOG;
		}
		insert_range(view, index + 1, second);
	}
}

/* Holes between what goes on are filled. */
static void fill(struct plan_round *round, struct plan_view *view, size_t n)
{
	for (size_t i = roll(&round->dice, view->count) + 1; i < view->count && n; i++) {
		struct view_range *range = &view->ranges[i];
		const struct view_range *before = range - 1;

		if (before->page + before->npages + range->gap != range->page)
			continue;
		range->page -= range->gap;
		range->npages += range->gap;
		range->gap = 0;
		range->flags = before->flags;
		n--;
	}
}

static void change_view(struct plan_round *round, struct plan_view *view)
{
	static void (*const changes[])(struct plan_round *, struct plan_view *, size_t) = {
		permute, shift, cut_out, add_some, move_far, flip_flags, split, fill,
	};
	size_t n = roll(&round->dice, 12) ? 1 + roll(&round->dice, 6) : 0;

	while (n--)
		changes[roll(&round->dice, LENGTH(changes))](
			round, view, 1 + roll(&round->dice, roll(&round->dice, 3) ? 4 : 40));
}

/* ---- slots and wanted mappings ---- */

static struct kvmas_slot slot_from(const struct plan_round *round, const struct view_range *range,
				   unsigned as_id, unsigned gfn)
{
	unsigned shift_by = round->p->page_shift;

	return (struct kvmas_slot){
		.as_id = as_id,
		.gpa = (uint64_t)gfn << shift_by,
		.size = (uint64_t)range->npages << shift_by,
		.ram = round->p->blocks[0],
		.ram_offset = (uint64_t)range->page << shift_by,
		.flags = range->flags,
	};
}

/* Ids are dense, but in no order; some are not ours. */
static unsigned roll_id(struct plan_round *round, unsigned as_id)
{
	const struct slots *have = &round->p->have[as_id];
	unsigned id = roll(&round->dice, (unsigned)have->count + 8);

	while (kas_id_test(have->used, id) || kas_id_test(have->reserved, id))
		id++;
	return id;
}

static void have_view(struct plan_round *round, unsigned as_id)
{
	const struct plan_view *view = &round->view[as_id];
	unsigned gfn = 0;

	for (size_t i = 0; i < view->count; i++) {
		struct kvmas_slot slot;

		gfn += view->ranges[i].gap;
		slot = slot_from(round, &view->ranges[i], as_id, gfn);
		slot.id = roll_id(round, as_id);
		insert(round->p, &slot);
		gfn += view->ranges[i].npages;
	}
}

static bool continues(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	return a->gpa + a->size == b->gpa && a->ram == b->ram &&
	       a->ram_offset + a->size == b->ram_offset && a->flags == b->flags;
}

/* Boundaries are where the page's number is a multiple of *step*; 0: there are none. */
static void want_view(struct plan_round *round, unsigned as_id, bool merge, unsigned step)
{
	const struct plan_view *view = &round->view[as_id];
	struct mappings *mappings = &round->p->spaces[as_id].want;
	unsigned gfn = 0;

	for (size_t i = 0; i < view->count; i++) {
		struct view_range part = view->ranges[i];
		unsigned left = part.npages;

		gfn += part.gap;
		for (; left; left -= part.npages) {
			struct kvmas_slot slot;

			part.npages = step && step - gfn % step < left ? step - gfn % step : left;
			slot = slot_from(round, &part, as_id, gfn);
			if (merge && mappings->count && !(step && gfn % step == 0) &&
			    continues(&mappings->at[mappings->count - 1], &slot))
				mappings->at[mappings->count - 1].size += slot.size;
			else
				want(round->p, &slot);
			gfn += part.npages;
			part.page += part.npages;
		}
	}
}

static void set_policy(struct plan_round *round, unsigned as_id)
{
	enum kvmas_merge merge = roll(&round->dice, 4) ? roll(&round->dice, 2) : KVMAS_MERGE_NONE;
	unsigned step = roll(&round->dice, 3) ? 0 : 1u << roll(&round->dice, 6);

	round->p->spaces[as_id].cut = merge == KVMAS_MERGE_STICKY;
	round->p->spaces[as_id].budget = PLAN_IDS;
	want_view(round, as_id, merge != KVMAS_MERGE_NONE, step);
}

static void reserve_some_ids(struct plan_round *round, unsigned as_id)
{
	struct slots *have = &round->p->have[as_id];

	for (unsigned id = 0; id < 64; id++)
		kas_id_set(have->reserved, id, false);
	have->nreserved = 0;
	for (unsigned id = 0; id < 64; id++) {
		if (roll(&round->dice, 16) == 0)
			kas_slots_reserve_id(have, id);
	}
}

/* The board is as large as what stands on it. */
static void size_board(struct plan_round *round)
{
	struct planner *p = round->p;
	uint64_t end = pages(1);

	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		const struct mappings *want = &p->spaces[i].want;
		const struct kvmas_slot *last = NULL;

		if (p->have[i].count)
			last = kas_slots_at(&p->have[i], p->have[i].count - 1);
		if (last && last->gpa + last->size > end)
			end = last->gpa + last->size;
		last = want->count ? &want->at[want->count - 1] : NULL;
		if (last && last->gpa + last->size > end)
			end = last->gpa + last->size;
	}
	p->npages = (unsigned)(end >> p->page_shift);
	assert_true(p->npages <= PLAN_PAGES);
}

/* Of *nranges* in all, most of them in one space as often as not. */
void roll_plan_round(struct plan_round *round, size_t nranges)
{
	size_t most = roll(&round->dice, 2) ? nranges : nranges / 2;

	planner_clear(round->p);
	round->next_page = 0;
	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		size_t count = i == 2 ? nranges : roll(&round->dice, (unsigned)most + 1);

		count = count < nranges ? count : nranges;
		nranges -= count;
		reserve_some_ids(round, i);
		roll_view(round, &round->view[i], count);
		have_view(round, i);
		if (count && roll(&round->dice, 6))
			change_view(round, &round->view[i]);
		set_policy(round, i);
	}
	size_board(round);
}

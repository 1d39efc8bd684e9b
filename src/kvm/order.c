/* SPDX-License-Identifier: MIT */
/*
 * In which order slots move. A mover waits for those that are where it is to go; KVM refuses a slot
 * on top of another (virt/kvm/kvm_main.c, kvm_check_memslot_overlap).
 *
 *     movers, by gpa     | a |     | b |              b waits for nobody, so it goes first; then
 *     targets, by gpa              | a |  | b |       a, which waited for b
 *
 * Each counts whom it waits for; who goes makes way for those that waited. Who still waits when
 * nobody can go is in a cycle, or behind one: walking from one in the way to the next ends in it,
 * and one of it is dropped, with all that fill the same gap. Its slot is deleted before all moves,
 * so that it makes way as well.
 *
 * Cost: n log n, and for each gap dropped a walk along its cycle. Read kas_order_make first.
 */
#include "order.h"

#include <stdlib.h>

static const struct kvmas_slot *slot_of(const struct mover *mover)
{
	return &mover->entry->slot;
}

/* ---- who is in whose way ---- */

static bool goes(const struct mover *mover)
{
	return mover->gap != KAS_NO_GAP && !mover->dropped;
}

/* The first mover that ends behind *gpa*, where it is now. */
static size_t seek_place(const struct moves *m, uint64_t gpa)
{
	size_t low = 0, high = m->nmovers;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct kvmas_slot *slot = slot_of(&m->movers[middle]);

		if (slot->gpa + (slot->size - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The next in the way of *mover*: the first one behind *last*, or of all for NULL. NULL if there is
 * none. */
static struct mover *in_way(const struct moves *m, const struct mover *mover,
			    const struct mover *last)
{
	uint64_t end = mover->target + slot_of(mover)->size;
	size_t i = last ? (size_t)(last - m->movers) + 1 : seek_place(m, mover->target);

	for (; i < m->nmovers && slot_of(&m->movers[i])->gpa < end; i++) {
		if (goes(&m->movers[i]) && &m->movers[i] != mover)
			return &m->movers[i];
	}
	return NULL;
}

/* ---- in which order ---- */

static int compare_targets(const void *left, const void *right)
{
	const struct mover *a = *(struct mover *const *)left, *b = *(struct mover *const *)right;

	return (a->target > b->target) - (a->target < b->target);
}

/* Those that have a gap, by where to. */
static void list_targets(struct moves *m)
{
	m->ntargets = 0;
	for (size_t i = 0; i < m->nmovers; i++) {
		struct mover *mover = &m->movers[i];
		const struct kvmas_slot *gap;

		if (mover->gap == KAS_NO_GAP)
			continue;
		gap = &m->gaps[mover->gap].slot;
		mover->target = gap->gpa + (slot_of(mover)->ram_offset - gap->ram_offset);
		m->by_target[m->ntargets++] = mover;
	}
	qsort(m->by_target, m->ntargets, sizeof(struct mover *), compare_targets);
}

static void count_waits(struct moves *m)
{
	m->norder = 0;
	for (size_t i = 0; i < m->ntargets; i++) {
		struct mover *mover = m->by_target[i], *other = NULL;

		mover->waits = 0;
		while ((other = in_way(m, mover, other)))
			mover->waits++;
		if (!mover->waits)
			m->order[m->norder++] = mover;
	}
}

/* The first of by_target whose target ends behind *gpa*. */
static size_t seek_target(const struct moves *m, uint64_t gpa)
{
	size_t low = 0, high = m->ntargets;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct mover *mover = m->by_target[middle];

		if (mover->target + (slot_of(mover)->size - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The place of *gone* is free: who waited for nobody else is next. */
static void make_way(struct moves *m, const struct mover *gone)
{
	uint64_t end = slot_of(gone)->gpa + slot_of(gone)->size;

	for (size_t i = seek_target(m, slot_of(gone)->gpa);
	     i < m->ntargets && m->by_target[i]->target < end; i++) {
		struct mover *mover = m->by_target[i];

		if (mover != gone && goes(mover) && --mover->waits == 0)
			m->order[m->norder++] = mover;
	}
}

/* Put in order those that can be, from the head-th on whose place is still taken; returns the new
 * head. */
static size_t advance(struct moves *m, size_t head)
{
	while (head < m->norder)
		make_way(m, m->order[head++]);
	return head;
}

/* ---- cycles ---- */

/* One of a cycle of movers that wait for each other, that *mover* waits for, too. */
static struct mover *find_cycle(struct moves *m, struct mover *mover)
{
	m->searches++;
	while (mover->seen != m->searches) {
		struct mover *other = in_way(m, mover, NULL);

		while (!other->waits)
			other = in_way(m, mover, other);
		mover->seen = m->searches;
		mover = other;
	}
	return mover;
}

/* The movers of one gap stand together in by_target: those from *first* to before *end*. */
static void find_group(const struct moves *m, size_t at, size_t *first, size_t *end)
{
	size_t gap = m->by_target[at]->gap;

	for (*first = at; *first > 0 && m->by_target[*first - 1]->gap == gap;)
		--*first;
	for (*end = at + 1; *end < m->ntargets && m->by_target[*end]->gap == gap;)
		++*end;
}

/* Drop the gap of one that waits. Those of the gap that are in order already have made way. */
static void drop(struct moves *m, const struct mover *mover)
{
	size_t first, end;

	find_group(m, seek_target(m, mover->target), &first, &end);
	m->gaps[mover->gap].filled = false;
	for (size_t i = first; i < end; i++)
		m->by_target[i]->dropped = true;
	for (size_t i = first; i < end; i++) {
		struct mover *tile = m->by_target[i];

		if (!tile->waits)
			continue;
		tile->waits = 0;
		make_way(m, tile);
	}
}

static void drop_waiting(struct moves *m)
{
	size_t head = advance(m, 0);

	for (size_t i = 0; i < m->ntargets; i++) {
		while (m->by_target[i]->waits) {
			drop(m, find_cycle(m, m->by_target[i]));
			head = advance(m, head);
		}
	}
}

/* Whether *mover* waits for itself, through others. */
bool kas_order_has_cycle(struct moves *m, const struct mover *mover)
{
	const struct mover *at = mover;
	size_t depth = 0;

	m->searches++;
	for (;;) {
		struct mover *other = NULL;

		while ((other = in_way(m, at, other))) {
			if (other == mover)
				return true;
			if (other->seen == m->searches)
				continue;
			other->seen = m->searches;
			m->path[depth++] = other;
		}
		if (!depth)
			return false;
		at = m->path[--depth];
	}
}

/* Order those that have a gap, if they can all go: false if there is a cycle. */
bool kas_order_make(struct moves *m)
{
	list_targets(m);
	count_waits(m);
	return advance(m, 0) == m->ntargets;
}

void kas_order_drop_cycles(struct moves *m)
{
	count_waits(m);
	drop_waiting(m);
	for (size_t i = 0; i < m->nmovers; i++) {
		if (m->movers[i].dropped)
			m->movers[i].gap = KAS_NO_GAP;
		m->movers[i].dropped = false;
	}
}

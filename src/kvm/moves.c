/* SPDX-License-Identifier: MIT */
/*
 * Moves: slots that cannot stay, and gaps that are to be filled. KVM can change a slot's gpa in one
 * ioctl if its size, host memory and READONLY stay (virt/kvm/kvm_main.c,
 * __kvm_set_memory_region): that saves a creation, and the slot's dirty bitmap travels with it.
 *
 *     slots that go      | a |      | b |         | c |
 *     gaps          | a |                | b  c |        a moves; b and c move and fill one gap
 *
 * Each mover costs a call and a zap event, moved or deleted. A gap costs one creation more, unless
 * movers fill it wholly: so filled gaps are what counts, and a gap that is filled half is better
 * not begun.
 *
 * A mover can move only when nothing is in its way: other movers must have moved before. They are
 * put in order by counting whom each waits for. Where they wait for each other in a cycle, one of
 * them is dropped: it is deleted with the others, before all moves, and its gap created at the end.
 * That is one call more, like a hop over a free place, and one zap event less than that.
 *
 * What has a guest_memfd never moves: KVM changes nothing of such a slot (same function).
 *
 * Invariants of the answer:
 *   I1  a gap is filled wholly or not at all; a mover fills one gap at most.
 *   I2  in order, no mover moves onto one that has yet to move (but onto its own old place it may).
 *   I3  each gap dropped would close a cycle of those that do move.
 *
 * Which mover fills which gap matters only where the guest sees the same memory several times. Then
 * few are tried in all ways (TRIES), many are matched in order of gpa, which brings no cycle among
 * those that are alike.
 *
 * Cost: n log n, and a search along the moves for each gap dropped. (qsort of glibc may take memory
 * past the library's hook; without any it sorts in place.) Read kas_moves_find first.
 */
#include "order.h"

#include <errno.h>
#include <stdlib.h>

#include "uapi.h"

/* So many ways are tried at most: more than four slots and gaps need. */
#define TRIES 4096

static const struct kvmas_slot *slot_of(const struct mover *mover)
{
	return &mover->entry->slot;
}

/* Whether slots may move into the gap at all. Those that would fit are of its block, so that it has
 * a guest_memfd if and only if they have. */
static bool is_open(const struct gap *gap)
{
	return !(gap->slot.flags & KVM_MEM_GUEST_MEMFD);
}

/* Whether this mover's memory is wanted somewhere in the gap, all of it. */
static bool fits(const struct mover *mover, const struct gap *gap)
{
	const struct kvmas_slot *a = slot_of(mover), *b = &gap->slot;

	return is_open(gap) && a->ram == b->ram && !((a->flags ^ b->flags) & KVM_MEM_READONLY) &&
	       a->ram_offset >= b->ram_offset && a->size <= b->size &&
	       a->ram_offset - b->ram_offset <= b->size - a->size;
}

/* ---- by what they show ---- */

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_starts(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	int order = compare_numbers((uintptr_t)a->ram, (uintptr_t)b->ram);

	if (!order)
		order = compare_numbers(a->ram_offset, b->ram_offset);
	if (!order)
		order = compare_numbers(a->flags & KVM_MEM_READONLY, b->flags & KVM_MEM_READONLY);
	return order;
}

static int compare_shown(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	int order = compare_starts(a, b);

	return order ? order : compare_numbers(a->size, b->size);
}

static int compare_contents(const void *left, const void *right)
{
	const struct kvmas_slot *a = slot_of(*(struct mover *const *)left);
	const struct kvmas_slot *b = slot_of(*(struct mover *const *)right);
	int order = compare_shown(a, b);

	return order ? order : compare_numbers(a->gpa, b->gpa);
}

static const struct kvmas_slot *content_at(const struct moves *m, size_t index)
{
	return slot_of(m->by_content[index]);
}

/* The first of by_content that shows what *slot* does, or what comes behind it: less than that, or
 * other memory. */
static size_t seek_content(const struct moves *m, const struct kvmas_slot *slot)
{
	size_t low = 0, high = m->nmovers;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_shown(content_at(m, middle), slot) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The same, of those that have no gap yet: who has one leads on to the next. */
static size_t seek_free(struct moves *m, size_t index)
{
	while (m->next[index] != index) {
		m->next[index] = m->next[m->next[index]];
		index = m->next[index];
	}
	return index;
}

/* Whether some mover begins where the gap does, by host memory, and is not larger. */
static bool is_fillable(const struct moves *m, const struct gap *gap)
{
	struct kvmas_slot least = gap->slot;
	size_t i;

	least.size = 1;
	i = seek_content(m, &least);
	return is_open(gap) && i < m->nmovers && !compare_starts(content_at(m, i), &least) &&
	       content_at(m, i)->size <= gap->slot.size;
}

/* ---- filling gaps ---- */

/* By its index, a free mover that shows just this, the first of them by gpa; nmovers for none. */
static size_t find_same(struct moves *m, const struct kvmas_slot *slot)
{
	size_t i = seek_free(m, seek_content(m, slot));

	return i < m->nmovers && !compare_shown(content_at(m, i), slot) ? i : m->nmovers;
}

/* Or, of those that begin where *rest* does, the largest that is in it. */
static size_t find_tile(struct moves *m, const struct kvmas_slot *rest)
{
	struct kvmas_slot slot = *rest;
	size_t behind;

	slot.size++;
	while ((behind = seek_content(m, &slot)) > 0 &&
	       !compare_starts(content_at(m, behind - 1), rest)) {
		size_t i;

		slot.size = content_at(m, behind - 1)->size;
		i = find_same(m, &slot);
		if (i < m->nmovers)
			return i;
	}
	return m->nmovers;
}

static void take(struct moves *m, size_t index, size_t gap)
{
	m->by_content[index]->gap = gap;
	m->next[index] = index + 1;
}

/* With one mover. */
static void fill_alone(struct moves *m, size_t gap)
{
	size_t i = find_same(m, &m->gaps[gap].slot);

	if (i == m->nmovers)
		return;
	take(m, i, gap);
	m->gaps[gap].filled = true;
}

/* From its beginning, with the largest that fit. Each begins elsewhere, so none is found twice. */
static void fill_together(struct moves *m, size_t gap)
{
	struct kvmas_slot rest = m->gaps[gap].slot;
	size_t count = 0, i;

	while (rest.size && (i = find_tile(m, &rest)) < m->nmovers) {
		rest.ram_offset += content_at(m, i)->size;
		rest.size -= content_at(m, i)->size;
		m->tiles[count++] = i;
	}
	if (rest.size)
		return;
	while (count)
		take(m, m->tiles[--count], gap);
	m->gaps[gap].filled = true;
}

static void fill_gaps(struct moves *m)
{
	for (size_t i = 0; i < m->ngaps; i++) {
		if (is_open(&m->gaps[i]))
			fill_alone(m, i);
	}
	for (size_t i = 0; m->cut && i < m->ngaps; i++) {
		if (is_open(&m->gaps[i]) && !m->gaps[i].filled)
			fill_together(m, i);
	}
}

static size_t count_filled(const struct moves *m)
{
	size_t filled = 0;

	for (size_t i = 0; i < m->ngaps; i++)
		filled += m->gaps[i].filled;
	return filled;
}

/* ---- in which order ---- */

/* What was dropped may be broken by another drop as well, or avoided by another mover: let a free
 * one fill each gap that it fills alone, unless that closes a cycle. Once is enough: who is added
 * later only adds to the cycles. */
static void fill_again(struct moves *m)
{
	for (size_t gap = 0; gap < m->ngaps; gap++) {
		const struct kvmas_slot *slot = &m->gaps[gap].slot;
		size_t i = seek_content(m, slot);

		for (; is_open(&m->gaps[gap]) && !m->gaps[gap].filled && i < m->nmovers &&
		       !compare_shown(content_at(m, i), slot);
		     i++) {
			struct mover *mover = m->by_content[i];

			if (mover->gap != KAS_NO_GAP)
				continue;
			mover->gap = gap;
			mover->target = slot->gpa;
			m->gaps[gap].filled = !kas_order_has_cycle(m, mover);
			if (!m->gaps[gap].filled)
				mover->gap = KAS_NO_GAP;
		}
	}
}

/* Order them, and drop what cannot go. */
static void settle(struct moves *m)
{
	if (kas_order_make(m))
		return;
	kas_order_drop_cycles(m);
	fill_again(m);
	kas_order_make(m); /* no cycle is left, and none was closed */
}

/* ---- all ways ---- */

/* For each mover that fits somewhere: the number of its gap and 1, or 0. */
struct trial {
	struct mover *movers[12]; /* 2 to this power is TRIES */
	size_t count;
	size_t digits[12];
	size_t best[12];
	size_t most; /* gaps that best fills */
};

static bool may_go(const struct moves *m, const struct mover *mover, const struct gap *gap)
{
	return fits(mover, gap) && (m->cut || slot_of(mover)->size == gap->slot.size);
}

static bool fits_anywhere(const struct moves *m, const struct mover *mover)
{
	for (size_t i = 0; i < m->ngaps; i++) {
		if (may_go(m, mover, &m->gaps[i]))
			return true;
	}
	return false;
}

/* The movers in question, and how they go now; false if there are too many. */
static bool begin_trial(const struct moves *m, struct trial *trial)
{
	size_t ways = 1;

	*trial = (struct trial){.most = count_filled(m)};
	if (m->nmovers > TRIES / m->ngaps)
		return false;
	for (size_t i = 0; i < m->nmovers; i++) {
		struct mover *mover = &m->movers[i];

		if (!fits_anywhere(m, mover))
			continue;
		ways *= m->ngaps + 1;
		if (ways > TRIES)
			return false;
		trial->best[trial->count] = mover->gap + 1; /* KAS_NO_GAP: 0 */
		trial->movers[trial->count++] = mover;
	}
	return true;
}

/* The next combination, as a number is counted up; false behind the last. */
static bool count_up(const struct moves *m, struct trial *trial)
{
	for (size_t i = 0; i < trial->count; i++) {
		if (++trial->digits[i] <= m->ngaps)
			return true;
		trial->digits[i] = 0;
	}
	return false;
}

/* Whether the i-th mover has a gap that it may go to, and shares no byte with those before it. */
static bool is_alone(const struct moves *m, const struct trial *trial, size_t i)
{
	const struct mover *mover = trial->movers[i];

	if (mover->gap == KAS_NO_GAP)
		return true;
	if (!may_go(m, mover, &m->gaps[mover->gap]))
		return false;
	for (size_t k = 0; k < i; k++) {
		const struct kvmas_slot *a = slot_of(mover), *b = slot_of(trial->movers[k]);

		if (trial->movers[k]->gap == mover->gap &&
		    a->ram_offset < b->ram_offset + b->size &&
		    b->ram_offset < a->ram_offset + a->size)
			return false;
	}
	return true;
}

/* Let the movers go as the digits say: false if they do not fit, or fill a gap half. */
static bool assign(struct moves *m, const struct trial *trial, const size_t *digits)
{
	for (size_t i = 0; i < m->ngaps; i++)
		m->gaps[i].filled = false;
	for (size_t i = 0; i < trial->count; i++)
		trial->movers[i]->gap = digits[i] - 1;
	for (size_t i = 0; i < trial->count; i++) {
		uint64_t size = 0;
		size_t gap = trial->movers[i]->gap;

		if (!is_alone(m, trial, i))
			return false;
		for (size_t k = 0; gap != KAS_NO_GAP && k < trial->count; k++)
			size += trial->movers[k]->gap == gap ? slot_of(trial->movers[k])->size : 0;
		if (gap != KAS_NO_GAP && size != m->gaps[gap].slot.size)
			return false;
		if (gap != KAS_NO_GAP)
			m->gaps[gap].filled = true;
	}
	return true;
}

static void try_all(struct moves *m)
{
	struct trial trial;

	if (!begin_trial(m, &trial))
		return;
	while (count_up(m, &trial)) {
		if (!assign(m, &trial, trial.digits) || count_filled(m) <= trial.most ||
		    !kas_order_make(m))
			continue;
		trial.most = count_filled(m);
		for (size_t i = 0; i < trial.count; i++)
			trial.best[i] = trial.digits[i];
	}
	assign(m, &trial, trial.best);
	kas_order_make(m);
}

/* ---- the whole ---- */

static int list_contents(struct moves *m)
{
	size_t n = m->nmovers;

	m->order = kas_alloc(m->kvmas, 4 * n * sizeof(struct mover *));
	m->next = kas_alloc(m->kvmas, (2 * n + 1) * sizeof(*m->next));
	if (!m->order || !m->next)
		return -ENOMEM;
	m->by_content = m->order + n;
	m->by_target = m->order + 2 * n;
	m->path = m->order + 3 * n;
	m->tiles = m->next + n + 1;
	for (size_t i = 0; i < n; i++)
		m->by_content[i] = &m->movers[i];
	for (size_t i = 0; i <= n; i++)
		m->next[i] = i;
	qsort(m->by_content, n, sizeof(struct mover *), compare_contents);
	return 0;
}

int kas_moves_find(struct moves *m)
{
	size_t fillable = 0;
	int err;

	if (m->nmovers == 0 || m->ngaps == 0)
		return 0;
	err = list_contents(m);
	if (err)
		return err;
	for (size_t i = 0; i < m->ngaps; i++)
		fillable += is_fillable(m, &m->gaps[i]);
	if (fillable == 0)
		return 0;
	fill_gaps(m);
	settle(m);
	if (count_filled(m) < fillable)
		try_all(m);
	return 0;
}

void kas_moves_fini(struct moves *m)
{
	kas_free(m->kvmas, m->order);
	kas_free(m->kvmas, m->next);
	m->order = NULL;
	m->next = NULL;
}

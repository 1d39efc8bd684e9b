/* SPDX-License-Identifier: MIT */
/*
 * The planner: slots that KVM has and mappings that are wanted go in, an ordered list of operations
 * comes out. Pure: it knows no ioctl and no VM.
 *
 * What it saves, in this order: zap events, ioctls, grace periods, metadata. A deletion and a move
 * are a zap event each: they drop every mapping of every space (arch/x86/kvm/mmu/mmu.c,
 * kvm_mmu_zap_all_fast), the guest faults its memory in again, and what it merely reads then turns
 * dirty. So what can stay stays, and how it is with the rest is the same for any plan:
 *
 *   Stay    A slot cannot be resized, nor its host address or READONLY be changed
 *           (virt/kvm/kvm_main.c, __kvm_set_memory_region). It stays if it is wanted as it is, but
 *           for LOG; if cuts are allowed, also if it lies inside a mapping that shows the same.
 *   Gap     What of a mapping no staying slot shows, between two of them: one creation, however
 *           much it is; or none, if slots that go fill it (moves.c).
 *   Go      Every other slot costs one zap event: it is deleted, or moves into a gap.
 *
 *     have      |    a    |  MMIO  |    c    |          a and c are mapped, and in use
 *     wanted    |         one mapping        |          the guest opens SMRAM, say
 *     cut       |    a    |  gap   |    c    |          one creation; a and c are not touched
 *
 * Merging them would unmap a and c for a moment, and again when the guest goes back. Only a slot
 * that straddles a change must go; its sides are made anew once, and that boundary then stays:
 * slots are sticky. When they become too many the oldest boundaries go, down to half of what is too
 * many, so that it is long until the next time.
 *
 * Order, over all spaces: deletions, moves, creations, flags.
 *   - Deletions and moves together: one storm of faults in the guest. Deletions first: moves and
 *     creations then find free what is not wanted, and every id.
 *   - Flags last: logging that begins with this commit begins in one place.
 *
 * Invariants of a plan:
 *   I1  executed in order, no two slots of a space overlap at any step.
 *   I2  no operation leaves a slot as it was.
 *   I3  afterwards each space has exactly its wanted mappings, cut or not; slots outside of the
 *       windows are as they were.
 *
 * Cost: n log n in the slots and mappings of the windows. Read kas_plan_make first.
 */
#include "plan.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "moves.h"

/* A slot in the windows. */
struct old_slot {
	const struct slot_entry *entry;
	const struct kvmas_slot *want; /* it stays, as a part of this; NULL: it goes */
};

/* One space at work. */
struct work {
	struct kvmas *kvmas;
	struct plan_space *space;
	struct old_slot *olds; /* by gpa */
	size_t nolds;
	size_t olds_capacity;
	size_t ids; /* how many slots the space may have */
	size_t gaps_capacity;
	size_t ncreates;
	bool merged; /* slots that could stay go */
	struct moves moves;
};

/* ---- places ---- */

static uint64_t end_of(const struct kvmas_slot *slot)
{
	return slot->gpa + slot->size;
}

static const struct kvmas_slot *slot_of(const struct old_slot *old)
{
	return &old->entry->slot;
}

/* The first mapping that ends behind *gpa*. */
static size_t seek(const struct mappings *want, uint64_t gpa)
{
	size_t low = 0, high = want->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (end_of(&want->at[middle]) <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---- what stays ---- */

static int list_window(struct work *work, struct range window)
{
	const struct slots *have = work->space->have;

	for (size_t i = kas_slots_seek(have, window.first);
	     i < have->count && kas_slots_at(have, i)->gpa <= window.last; i++) {
		void *grown = kas_grow(work->kvmas, work->olds, work->nolds, &work->olds_capacity,
				       sizeof(work->olds[0]));

		if (!grown)
			return -ENOMEM;
		work->olds = grown;
		work->olds[work->nolds++] = (struct old_slot){kas_slots_entry(have, i), NULL};
	}
	return 0;
}

static int list_olds(struct work *work)
{
	const struct plan_space *space = work->space;
	int err = 0;

	if (!space->windows)
		return list_window(work, (struct range){0, UINT64_MAX});
	for (size_t i = 0; !err && i < space->nwindows; i++)
		err = list_window(work, space->windows[i]);
	return err;
}

static bool can_stay(const struct kvmas_slot *slot, const struct kvmas_slot *want, bool cut)
{
	bool inside = slot->gpa >= want->gpa && end_of(slot) <= end_of(want);

	return inside && kas_slots_alike(slot, want) && (cut || slot->size == want->size);
}

static void find_stays(struct work *work, bool cut)
{
	const struct mappings *want = &work->space->want;
	size_t next = 0;

	for (size_t i = 0; i < work->nolds; i++) {
		struct old_slot *old = &work->olds[i];
		const struct kvmas_slot *slot = slot_of(old);

		while (next < want->count && end_of(&want->at[next]) <= slot->gpa)
			next++;
		old->want = NULL;
		if (next < want->count && can_stay(slot, &want->at[next], cut))
			old->want = &want->at[next];
	}
}

static size_t count_stays(const struct work *work)
{
	size_t stays = 0;

	for (size_t i = 0; i < work->nolds; i++)
		stays += work->olds[i].want != NULL;
	return stays;
}

/* ---- gaps ---- */

static int add_gap(struct work *work, const struct kvmas_slot *want, uint64_t gpa, uint64_t end)
{
	struct moves *moves = &work->moves;
	struct kvmas_slot *slot;
	void *grown;

	if (gpa == end)
		return 0;
	grown = kas_grow(work->kvmas, moves->gaps, moves->ngaps, &work->gaps_capacity,
			 sizeof(moves->gaps[0]));
	if (!grown)
		return -ENOMEM;
	moves->gaps = grown;
	moves->gaps[moves->ngaps] = (struct gap){.slot = *want};
	slot = &moves->gaps[moves->ngaps++].slot;
	slot->gpa = gpa;
	slot->size = end - gpa;
	slot->ram_offset += gpa - want->gpa;
	return 0;
}

static int find_gaps(struct work *work)
{
	const struct mappings *want = &work->space->want;
	size_t old = 0;
	int err = 0;

	work->moves.ngaps = 0;
	for (size_t i = 0; !err && i < want->count; i++) {
		const struct kvmas_slot *mapping = &want->at[i];
		uint64_t gpa = mapping->gpa;

		for (; !err && old < work->nolds; old++) {
			const struct kvmas_slot *slot = slot_of(&work->olds[old]);

			if (slot->gpa >= end_of(mapping))
				break;
			if (work->olds[old].want != mapping)
				continue;
			err = add_gap(work, mapping, gpa, slot->gpa);
			gpa = end_of(slot);
		}
		if (!err)
			err = add_gap(work, mapping, gpa, end_of(mapping));
	}
	return err;
}

/* ---- merging ---- */

/* A boundary between two slots that stay and could be one; or between one that stays and a gap. */
struct seam {
	size_t left; /* of olds: they go when the boundary does */
	size_t right;
	uint64_t key; /* the lowest go first */
};

static int compare_seams(const void *left, const void *right)
{
	const struct seam *a = left, *b = right;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return (a->left > b->left) - (a->left < b->left);
}

/* A boundary is as old as the younger of its slots: until then something has changed there. */
static uint64_t seam_key(const struct plan_space *space, const struct old_slot *left)
{
	const struct old_slot *right = left + 1;

	if (space->smallest_first)
		return slot_of(left)->size + slot_of(right)->size;
	return left->entry->born > right->entry->born ? left->entry->born : right->entry->born;
}

/* Whether the index-th slot stays, and the next one goes on in it. */
static bool is_seam(const struct work *work, size_t index)
{
	const struct old_slot *left = &work->olds[index], *right = left + 1;

	return index + 1 < work->nolds && left->want && left->want == right->want &&
	       end_of(slot_of(left)) == slot_of(right)->gpa;
}

/* Up to two for each slot. Those beside a gap are the youngest of all. */
static size_t list_seams(const struct work *work, struct seam *seams)
{
	size_t count = 0;

	for (size_t i = 0; i < work->nolds; i++) {
		const struct old_slot *old = &work->olds[i];

		if (!old->want)
			continue;
		if (slot_of(old)->gpa > old->want->gpa && !(i && is_seam(work, i - 1)))
			seams[count++] = (struct seam){i, i, UINT64_MAX};
		if (is_seam(work, i))
			seams[count++] = (struct seam){i, i + 1, seam_key(work->space, old)};
		else if (end_of(slot_of(old)) < end_of(old->want))
			seams[count++] = (struct seam){i, i, UINT64_MAX};
	}
	return count;
}

/* Give up *excess* boundaries: the slots on both sides go. */
static int merge_seams(struct work *work, size_t excess)
{
	struct seam *seams = kas_alloc(work->kvmas, (2 * work->nolds + 1) * sizeof(*seams));
	size_t count;

	if (!seams)
		return -ENOMEM;
	count = list_seams(work, seams);
	qsort(seams, count, sizeof(*seams), compare_seams);
	for (size_t i = 0; i < count && i < excess; i++) {
		work->olds[seams[i].left].want = NULL;
		work->olds[seams[i].right].want = NULL;
	}
	kas_free(work->kvmas, seams);
	return find_gaps(work);
}

/* How many slots there are afterwards, when no gap is filled by several movers. */
static size_t count_slots(const struct work *work)
{
	return work->space->have->count - work->nolds + count_stays(work) + work->moves.ngaps;
}

/* How many slots there may be afterwards. */
static size_t most_slots(const struct work *work)
{
	const struct plan_space *space = work->space;
	size_t wanted = space->want.count;

	if (space->windows || !space->cut || space->budget >= work->ids - wanted)
		return work->ids;
	return wanted + space->budget;
}

/* Keep within the limits: some boundaries go, else all of them. */
static int merge(struct work *work)
{
	size_t wanted = work->space->want.count;
	size_t most, count = count_slots(work);
	int err;

	if (!work->space->windows && wanted > work->ids)
		return -ENOSPC;
	most = most_slots(work);
	if (count <= most)
		return 0;
	if (work->space->windows)
		return -ENOSPC; /* as far as can be seen from here */
	work->merged = true;
	err = merge_seams(work, count - (wanted + (most - wanted) / 2));
	if (!err && count_slots(work) > most) {
		find_stays(work, false);
		err = find_gaps(work);
	}
	return err;
}

/* ---- what moves ---- */

static int find_moves(struct work *work)
{
	struct moves *moves = &work->moves;
	size_t stays = count_stays(work);
	int err;

	moves->kvmas = work->kvmas;
	moves->movers = kas_alloc(work->kvmas, (work->nolds + 1) * sizeof(moves->movers[0]));
	if (!moves->movers)
		return -ENOMEM;
	for (size_t i = 0; i < work->nolds; i++) {
		if (!work->olds[i].want)
			moves->movers[moves->nmovers++] = (struct mover){
				.entry = work->olds[i].entry,
				.gap = KAS_NO_GAP,
			};
	}
	/* Several movers in one gap are slots that merging saves; they may even be those that it
	 * takes away. */
	moves->cut = work->space->cut && !work->merged &&
		     count_slots(work) + moves->nmovers <= most_slots(work);
	err = kas_moves_find(moves);
	for (size_t i = 0; i < moves->ngaps; i++)
		work->ncreates += !moves->gaps[i].filled;
	work->space->nolds = work->nolds;
	work->space->wanted = work->space->want.count;
	work->space->made = moves->norder + work->ncreates;
	work->space->count = work->space->have->count - work->nolds + stays + work->space->made;
	return err;
}

static int plan_space(struct work *work)
{
	int err;

	work->ids = work->space->have->limit - work->space->have->nreserved;
	err = list_olds(work);
	if (!err) {
		find_stays(work, work->space->cut);
		err = find_gaps(work);
	}
	if (!err)
		err = merge(work);
	if (!err)
		err = find_moves(work);
	return err;
}

static void work_fini(struct work *work)
{
	kas_moves_fini(&work->moves);
	kas_free(work->kvmas, work->moves.movers);
	kas_free(work->kvmas, work->moves.gaps);
	kas_free(work->kvmas, work->olds);
}

/* ---- operations ---- */

static int add_op(struct plan *plan, const struct work *work, const struct slot_op *op)
{
	void *ops = kas_grow(work->kvmas, plan->ops, plan->count, &plan->capacity, sizeof(*op));

	if (!ops)
		return -ENOMEM;
	plan->ops = ops;
	/* The table may have a block's last reference, and undoing needs it. */
	kvmas_ram_ref(op->kind == KVMAS_SLOT_DELETE ? op->before.slot.ram : op->after.slot.ram);
	plan->ops[plan->count++] = *op;
	return 0;
}

static bool is_logged(const struct kvmas_slot *slot)
{
	return slot->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

/* A slot goes from its place, with its log: what of it is wanted all the same? */
static void note_torn(struct plan *plan, const struct work *work, const struct kvmas_slot *slot)
{
	const struct mappings *want = &work->space->want;

	plan->stop |= is_logged(slot);
	for (size_t i = seek(want, slot->gpa); i < want->count && want->at[i].gpa < end_of(slot);
	     i++) {
		const struct kvmas_slot *mapping = &want->at[i];
		uint64_t first = mapping->gpa > slot->gpa ? mapping->gpa : slot->gpa;
		uint64_t end = end_of(mapping) < end_of(slot) ? end_of(mapping) : end_of(slot);

		plan->stop = true;
		if (kas_slots_alike(mapping, slot))
			plan->bytes_torn += end - first;
	}
}

static int add_deletions(struct plan *plan, struct work *work)
{
	/* From the end, so that the table of slots moves little when many go. */
	for (size_t i = work->moves.nmovers; i-- > 0;) {
		const struct mover *mover = &work->moves.movers[i];
		struct slot_op op = {KVMAS_SLOT_DELETE, .before = *mover->entry};
		int err;

		note_torn(plan, work, &mover->entry->slot);
		err = mover->gap == KAS_NO_GAP ? add_op(plan, work, &op) : 0;
		if (err)
			return err;
	}
	return 0;
}

static int add_moves(struct plan *plan, struct work *work)
{
	for (size_t i = 0; i < work->moves.norder; i++) {
		const struct mover *mover = work->moves.order[i];
		struct slot_op op = {KVMAS_SLOT_MOVE, *mover->entry, *mover->entry};
		int err;

		op.after.slot.gpa = mover->target;
		op.after.slot.flags = work->moves.gaps[mover->gap].slot.flags;
		op.after.born = plan->now;
		err = add_op(plan, work, &op);
		if (err)
			return err;
	}
	return 0;
}

static int add_flags(struct plan *plan, struct work *work)
{
	for (size_t i = 0; i < work->nolds; i++) {
		const struct old_slot *old = &work->olds[i];
		struct slot_op op = {KVMAS_SLOT_FLAGS, *old->entry, *old->entry};
		int err;

		if (!old->want || old->want->flags == slot_of(old)->flags)
			continue;
		op.after.slot.flags = old->want->flags;
		plan->stop |= is_logged(slot_of(old));
		err = add_op(plan, work, &op);
		if (err)
			return err;
	}
	return 0;
}

/* The lowest id from *from* on that is not taken: there is one. */
static unsigned next_id(const uint64_t *taken, unsigned from)
{
	unsigned word = from / KAS_ID_BITS;
	uint64_t free = ~taken[word] >> (from % KAS_ID_BITS) << (from % KAS_ID_BITS);

	while (!free)
		free = ~taken[++word];
	return word * KAS_ID_BITS + (unsigned)__builtin_ctzll(free);
}

static int add_creations_with(struct plan *plan, const struct work *work, const uint64_t *taken)
{
	unsigned id = 0;

	for (size_t i = 0; i < work->moves.ngaps; i++) {
		struct slot_op op = {KVMAS_SLOT_CREATE};
		int err;

		if (work->moves.gaps[i].filled)
			continue;
		id = next_id(taken, id);
		op.after = (struct slot_entry){work->moves.gaps[i].slot, plan->now};
		op.after.slot.id = id++;
		err = add_op(plan, work, &op);
		if (err)
			return err;
	}
	return 0;
}

/* Creations use the ids that are free once the plan's deletions are done. */
static int add_creations(struct plan *plan, struct work *work)
{
	const struct slots *have = work->space->have;
	/* Among so many ids are as many free ones as are needed. */
	size_t most = have->count + have->nreserved + work->ncreates;
	size_t words = kas_id_words(most < have->limit ? (unsigned)most : have->limit);
	uint64_t *taken;
	int err;

	if (work->ncreates == 0)
		return 0;
	taken = kas_alloc(work->kvmas, words * sizeof(*taken));
	if (!taken)
		return -ENOMEM;
	for (size_t i = 0; i < words; i++)
		taken[i] = have->used[i] | have->reserved[i];
	for (size_t i = 0; i < work->moves.nmovers; i++) {
		const struct mover *mover = &work->moves.movers[i];
		unsigned id = mover->entry->slot.id;

		if (mover->gap == KAS_NO_GAP && id / KAS_ID_BITS < words)
			kas_id_set(taken, id, false);
	}
	err = add_creations_with(plan, work, taken);
	kas_free(work->kvmas, taken);
	return err;
}

/* ---- the whole ---- */

static int plan_works(struct plan *plan, struct work *works, size_t nworks)
{
	static int (*const passes[])(struct plan *, struct work *) = {
		add_deletions,
		add_moves,
		add_creations,
		add_flags,
	};

	for (size_t i = 0; i < nworks; i++) {
		int err = plan_space(&works[i]);

		if (err)
			return err;
	}
	for (size_t pass = 0; pass < sizeof(passes) / sizeof(passes[0]); pass++) {
		for (size_t i = 0; i < nworks; i++) {
			int err = passes[pass](plan, &works[i]);

			if (err)
				return err;
		}
	}
	return 0;
}

int kas_plan_make(struct kvmas *kvmas, struct plan *plan, struct plan_space *spaces, size_t nspaces)
{
	struct work *works = kas_alloc(kvmas, nspaces * sizeof(*works));
	int err;

	if (!works)
		return -ENOMEM;
	for (size_t i = 0; i < nspaces; i++)
		works[i] = (struct work){.kvmas = kvmas, .space = &spaces[i]};
	err = plan_works(plan, works, nspaces);
	for (size_t i = 0; i < nspaces; i++)
		work_fini(&works[i]);
	kas_free(kvmas, works);
	return err;
}

void kas_plan_fini(struct kvmas *kvmas, struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct slot_op *op = &plan->ops[i];

		kvmas_ram_unref(op->kind == KVMAS_SLOT_DELETE ? op->before.slot.ram
							      : op->after.slot.ram);
	}
	kas_free(kvmas, plan->ops);
	*plan = (struct plan){0};
}

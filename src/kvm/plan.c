/* SPDX-License-Identifier: MIT */
/*
 * The planner: slots that KVM has and mappings that are wanted go in, an ordered list of operations
 * comes out. Pure: it knows no ioctl and no VM.
 *
 * A slot cannot be resized, nor its host address or READONLY be changed (virt/kvm/kvm_main.c,
 * __kvm_set_memory_region), so a slot either is wanted as it is, but for its LOG flag, or goes.
 *
 * Slots are sticky: one that lies inside a wanted mapping and shows what is wanted stays, and the
 * mapping is cut around it.
 *
 *     have      |    a    |  MMIO  |    c    |          a and c are mapped, and in use
 *     wanted    |         one mapping        |          the guest opens SMRAM, say
 *     cut       |    a    |  new   |    c    |          one creation; a and c are not touched
 *
 * Merging them would unmap a and c for a moment, and again when the guest goes back. Only a slot
 * that straddles a change must go; its sides are made anew once, and that boundary then stays. A
 * space that would hold STICKY_BUDGET more slots than merging needs, or has not the ids, is merged
 * whole.
 *
 * Order, over all spaces: deletions, then creations, then flags.
 *   - Deletions first: a creation can then overlap nothing (I1), and finds every id that they free.
 *     Together, because each drops every mapping of every space (arch/x86/kvm/mmu/mmu.c,
 *     kvm_mmu_zap_all_fast): the guest faults its memory in again once, not several times.
 *   - Flags last: logging that begins with this commit begins in one place.
 *
 * Invariants of a plan:
 *   I1  executed in order, no two slots of a space overlap at any step.
 *   I2  no operation leaves a slot as it was.
 *   I3  afterwards each space has exactly its wanted mappings, cut or not.
 *
 * Cost: n log n in slots and mappings. Read kas_plan_make first.
 */
#include "plan.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#define STICKY_BUDGET 256

static int add_op(struct kvmas *kvmas, struct plan *plan, const struct slot_op *op)
{
	void *ops = kas_grow(kvmas, plan->ops, plan->count, &plan->capacity, sizeof(*op));

	if (!ops)
		return -ENOMEM;
	plan->ops = ops;
	/* The table may have a block's last reference, and undoing needs it. */
	kvmas_ram_ref(op->kind == KVMAS_SLOT_DELETE ? op->before.ram : op->after.ram);
	plan->ops[plan->count++] = *op;
	return 0;
}

/* The first of sorted slots that ends after *gpa*. */
static size_t find(const struct kvmas_slot *at, size_t count, uint64_t gpa)
{
	size_t low = 0;

	while (low < count) {
		size_t middle = low + (count - low) / 2;

		if (at[middle].gpa + at[middle].size <= gpa)
			low = middle + 1;
		else
			count = middle;
	}
	return low;
}

/* Whether two slots show the same host bytes at the same addresses, wherever they overlap. */
static bool alike(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	return a->ram == b->ram && a->ram_offset - a->gpa == b->ram_offset - b->gpa &&
	       !((a->flags ^ b->flags) & KVM_MEM_READONLY);
}

/* The slot of a sorted array that is this one but for id and LOG; NULL if there is none. */
static const struct kvmas_slot *find_same(const struct kvmas_slot *at, size_t count,
					  const struct kvmas_slot *slot)
{
	size_t index = find(at, count, slot->gpa);

	if (index == count || at[index].gpa != slot->gpa || at[index].size != slot->size ||
	    !alike(&at[index], slot))
		return NULL;
	return &at[index];
}

/* Bytes that this slot maps and that are wanted alike. */
static uint64_t torn_by(const struct kvmas_slot *slot, const struct mappings *want)
{
	uint64_t end = slot->gpa + slot->size;
	uint64_t torn = 0;

	for (size_t i = find(want->at, want->count, slot->gpa);
	     i < want->count && want->at[i].gpa < end; i++) {
		uint64_t first = want->at[i].gpa > slot->gpa ? want->at[i].gpa : slot->gpa;
		uint64_t want_end = want->at[i].gpa + want->at[i].size;

		if (alike(&want->at[i], slot))
			torn += (want_end < end ? want_end : end) - first;
	}
	return torn;
}

/* Append to *cut* the part of *want* from *gpa* to *end*; *cut* has room. */
static void cut_piece(struct mappings *cut, const struct kvmas_slot *want, uint64_t gpa,
		      uint64_t end)
{
	struct kvmas_slot piece = *want;

	if (gpa == end)
		return;
	piece.gpa = gpa;
	piece.size = end - gpa;
	piece.ram_offset += gpa - want->gpa;
	cut->at[cut->count++] = piece;
}

/* Cut one wanted mapping around the slots that can stay. */
static void cut_mapping(struct mappings *cut, const struct kvmas_slot *want,
			const struct slots *have)
{
	uint64_t end = want->gpa + want->size;
	uint64_t next = want->gpa;

	for (size_t i = find(have->at, have->count, want->gpa);
	     i < have->count && have->at[i].gpa + have->at[i].size <= end; i++) {
		const struct kvmas_slot *slot = &have->at[i];

		if (slot->gpa < want->gpa || !alike(slot, want))
			continue;
		cut_piece(cut, want, next, slot->gpa);
		cut_piece(cut, want, slot->gpa, slot->gpa + slot->size);
		next = slot->gpa + slot->size;
	}
	cut_piece(cut, want, next, end);
}

/* How many slots a space may hold that needs *count*. */
static size_t most_slots(const struct slots *have, size_t count)
{
	size_t ids = have->limit;

	for (size_t i = 0; i < kas_id_words(have->limit); i++)
		ids -= (size_t)__builtin_popcountll(have->reserved[i]);
	return ids < count + STICKY_BUDGET ? ids : count + STICKY_BUDGET;
}

/* Cut what is wanted in a space around the slots that can stay, unless they are too many. */
static int stick(struct kvmas *kvmas, struct plan_space *space)
{
	/* A slot that stays makes at most two pieces more. */
	size_t capacity = space->want.count + 2 * space->have->count;
	struct mappings cut = {.capacity = capacity};

	if (space->want.count == 0 || space->have->count == 0)
		return 0;
	cut.at = kas_alloc(kvmas, capacity * sizeof(*cut.at));
	if (!cut.at)
		return -ENOMEM;
	for (size_t i = 0; i < space->want.count; i++)
		cut_mapping(&cut, &space->want.at[i], space->have);
	if (cut.count > most_slots(space->have, space->want.count)) {
		kas_mappings_fini(kvmas, &cut);
		return 0;
	}
	kas_mappings_fini(kvmas, &space->want);
	space->want = cut;
	return 0;
}

static int plan_deletions(struct kvmas *kvmas, struct plan *plan, const struct plan_space *space)
{
	for (size_t i = 0; i < space->have->count; i++) {
		struct slot_op op = {KVMAS_SLOT_DELETE, .before = space->have->at[i]};
		int err;

		if (find_same(space->want.at, space->want.count, &op.before))
			continue;
		err = add_op(kvmas, plan, &op);
		if (err)
			return err;
		plan->bytes_torn += torn_by(&op.before, &space->want);
	}
	return 0;
}

static int plan_flags(struct kvmas *kvmas, struct plan *plan, const struct plan_space *space)
{
	for (size_t i = 0; i < space->want.count; i++) {
		const struct kvmas_slot *want = &space->want.at[i];
		const struct kvmas_slot *have =
			find_same(space->have->at, space->have->count, want);
		struct slot_op op = {KVMAS_SLOT_FLAGS};
		int err;

		if (!have || have->flags == want->flags)
			continue;
		op.before = *have;
		op.after = *have;
		op.after.flags = want->flags;
		err = add_op(kvmas, plan, &op);
		if (err)
			return err;
	}
	return 0;
}

/* The lowest id from *from* on that is neither taken nor reserved. */
static int next_id(const struct slots *slots, const uint64_t *taken, unsigned from, unsigned *ret)
{
	for (unsigned id = from; id < slots->limit; id++) {
		if (kas_id_test(taken, id) || kas_id_test(slots->reserved, id))
			continue;
		*ret = id;
		return 0;
	}
	return -ENOSPC;
}

static int plan_creations(struct kvmas *kvmas, struct plan *plan, const struct plan_space *space,
			  const uint64_t *taken)
{
	unsigned id = 0;

	for (size_t i = 0; i < space->want.count; i++) {
		struct slot_op op = {KVMAS_SLOT_CREATE, .after = space->want.at[i]};
		int err;

		if (find_same(space->have->at, space->have->count, &op.after))
			continue;
		err = next_id(space->have, taken, id, &op.after.id);
		if (!err)
			err = add_op(kvmas, plan, &op);
		if (err)
			return err;
		id = op.after.id + 1;
	}
	return 0;
}

/* Creations use the ids that are free once the plan's deletions are done. */
static int plan_creations_after(struct kvmas *kvmas, struct plan *plan,
				const struct plan_space *space)
{
	size_t size = kas_id_words(space->have->limit) * sizeof(uint64_t);
	uint64_t *taken;
	int err;

	if (space->want.count == 0)
		return 0;
	taken = kas_alloc(kvmas, size);
	if (!taken)
		return -ENOMEM;
	memcpy(taken, space->have->used, size);
	for (size_t i = 0; i < space->have->count; i++) {
		const struct kvmas_slot *slot = &space->have->at[i];

		if (!find_same(space->want.at, space->want.count, slot))
			kas_id_set(taken, slot->id, false);
	}
	err = plan_creations(kvmas, plan, space, taken);
	kas_free(kvmas, taken);
	return err;
}

int kas_plan_make(struct kvmas *kvmas, struct plan *plan, struct plan_space *spaces, size_t nspaces)
{
	static int (*const passes[])(struct kvmas *, struct plan *, const struct plan_space *) = {
		plan_deletions,
		plan_creations_after,
		plan_flags,
	};

	for (size_t i = 0; i < nspaces; i++) {
		int err = stick(kvmas, &spaces[i]);

		if (err)
			return err;
	}
	for (size_t pass = 0; pass < sizeof(passes) / sizeof(passes[0]); pass++) {
		for (size_t i = 0; i < nspaces; i++) {
			int err = passes[pass](kvmas, plan, &spaces[i]);

			if (err)
				return err;
		}
	}
	return 0;
}

void kas_plan_fini(struct kvmas *kvmas, struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct slot_op *op = &plan->ops[i];

		kvmas_ram_unref(op->kind == KVMAS_SLOT_DELETE ? op->before.ram : op->after.ram);
	}
	kas_free(kvmas, plan->ops);
	*plan = (struct plan){0};
}

/* SPDX-License-Identifier: MIT */
/*
 * A commit's slot operations, told beforehand: the plan is made as the commit would make it, looked
 * at, and forgotten.
 */
#include <errno.h>
#include <string.h>

#include "draft.h"

struct preview {
	struct kvmas_kvm *kvm;
	kvmas_slot_op_fn *fn;
	void *data;
	struct kvmas_kvm_plan sums;
};

static void add_up(struct preview *preview, const struct plan *plan)
{
	struct kvmas_kvm_plan *sums = &preview->sums;
	uint64_t counts[] = {
		[KVMAS_SLOT_CREATE] = 0,
		[KVMAS_SLOT_DELETE] = 0,
		[KVMAS_SLOT_MOVE] = 0,
		[KVMAS_SLOT_FLAGS] = 0,
	};

	for (unsigned i = 0; i < preview->kvm->nspaces; i++)
		sums->slots[i] = preview->kvm->spaces[i].slots.count;
	for (size_t i = 0; i < plan->count; i++) {
		const struct slot_op *op = &plan->ops[i];

		counts[op->kind]++;
		sums->slots[op->after.slot.as_id] += op->kind == KVMAS_SLOT_CREATE;
		sums->slots[op->before.slot.as_id] -= op->kind == KVMAS_SLOT_DELETE;
	}
	sums->slot_creates = counts[KVMAS_SLOT_CREATE];
	sums->slot_deletes = counts[KVMAS_SLOT_DELETE];
	sums->slot_moves = counts[KVMAS_SLOT_MOVE];
	sums->slot_flags = counts[KVMAS_SLOT_FLAGS];
	sums->zap_events = sums->slot_deletes + sums->slot_moves;
	sums->bytes_torn_live = plan->bytes_torn;
	sums->stop = plan->stop;
}

static int tell(const struct preview *preview, const struct plan *plan)
{
	int result = 0;

	for (size_t i = 0; preview->fn && !result && i < plan->count; i++) {
		const struct slot_op *op = &plan->ops[i];

		result = preview->fn(preview->data, op->kind,
				     op->kind == KVMAS_SLOT_DELETE ? &op->before.slot
								   : &op->after.slot);
	}
	return result;
}

static int look(struct kvmas *kvmas, void *data)
{
	struct preview *preview = data;
	struct channel_plan channels = {0};
	struct plan plan = {0};
	int result = 0;

	if (kas_draft_is_needed(preview->kvm))
		result = kas_draft_make(preview->kvm, &plan);
	if (!result)
		result = kas_placements_draft(preview->kvm, &channels);
	if (!result) {
		add_up(preview, &plan);
		preview->sums.stop |= channels.nmusts > 0;
		preview->sums.channel_unmakes = channels.nunmakes;
		preview->sums.channel_makes = channels.nmakes;
		result = tell(preview, &plan);
	}
	kas_placements_fini(kvmas, &channels.next);
	kas_plan_fini(kvmas, &plan);
	return result;
}

int kvmas_kvm_dry_run(struct kvmas_kvm *kvm, kvmas_slot_op_fn *fn, void *data,
		      struct kvmas_kvm_plan *ret)
{
	struct preview preview = {.kvm = kvm, .fn = fn, .data = data};
	int result;

	if (ret && ret->struct_size < sizeof(ret->struct_size))
		return -EINVAL;
	result = kas_txn_preview(kvm->object.kvmas, look, &preview);
	if (!result && ret) {
		size_t size = ret->struct_size;

		preview.sums.struct_size = size;
		memcpy(ret, &preview.sums,
		       size < sizeof(preview.sums) ? size : sizeof(preview.sums));
	}
	return result;
}

/* SPDX-License-Identifier: MIT */
/*
 * Executing a plan.
 *
 * All memory is allocated before. First the logs of slots that go away, or stop logging, are read
 * into their blocks' bitmaps: what KVM has not told by then is lost with the slot's bitmap
 * (virt/kvm/kvm_main.c, kvm_destroy_dirty_bitmap), or, in a ring, would be told of the next slot
 * that has the id. Then one ioctl for each operation, the table following each, so that the table
 * says what KVM has at every moment.
 *
 * What a slot has told and is yet to be armed (struct slot_log) comes and goes with its log: it is
 * made for the operation that begins a log, goes on where the log does, and is kept until the plan
 * ends where the log does not, since an undo may need one in its place.
 *
 * When KVM refuses operation k, operations k-1 ... 1 are undone, each by its inverse. An inverse
 * can be refused too (no memory): the others are done all the same, and -ENOTRECOVERABLE says that
 * slots and views differ until a later commit, which plans from the table, brings them in step.
 */
#include "apply.h"

#include <errno.h>
#include <inttypes.h>

#include "vm.h"

static struct slots *slots_of(struct kvmas_kvm *kvm, const struct kvmas_slot *slot)
{
	return &kvm->spaces[slot->as_id].slots;
}

static const struct kvmas_slot *slot_of(const struct slot_op *op)
{
	return op->kind == KVMAS_SLOT_DELETE ? &op->before.slot : &op->after.slot;
}

static struct slot_op inverse(const struct slot_op *op)
{
	static const enum kvmas_slot_op_kind kinds[] = {
		[KVMAS_SLOT_CREATE] = KVMAS_SLOT_DELETE,
		[KVMAS_SLOT_DELETE] = KVMAS_SLOT_CREATE,
		[KVMAS_SLOT_MOVE] = KVMAS_SLOT_MOVE,
		[KVMAS_SLOT_FLAGS] = KVMAS_SLOT_FLAGS,
	};

	return (struct slot_op){kinds[op->kind], .before = op->after, .after = op->before};
}

static void count_op(struct kvmas_kvm *kvm, enum kvmas_slot_op_kind kind)
{
	static const size_t counters[] = {
		[KVMAS_SLOT_CREATE] = offsetof(struct kvmas_kvm_stats, slot_creates),
		[KVMAS_SLOT_DELETE] = offsetof(struct kvmas_kvm_stats, slot_deletes),
		[KVMAS_SLOT_MOVE] = offsetof(struct kvmas_kvm_stats, slot_moves),
		[KVMAS_SLOT_FLAGS] = offsetof(struct kvmas_kvm_stats, slot_flags),
	};

	atomic_fetch_add_explicit(&kvm->stats[counters[kind] / sizeof(uint64_t)], 1,
				  memory_order_relaxed);
}

static void follow(struct slots *slots, const struct slot_op *op)
{
	if (op->kind == KVMAS_SLOT_CREATE)
		kas_slots_insert(slots, &op->after.slot, op->after.born);
	else if (op->kind == KVMAS_SLOT_DELETE)
		kas_slots_remove(slots, op->before.slot.id);
	else
		kas_slots_replace(slots, &op->after.slot, op->after.born);
	if (op->kind != KVMAS_SLOT_DELETE)
		slots->by_id[op->after.slot.id].log = op->after.log;
}

/* A vCPU may write to a slot, and another one read that from the rings, as soon as KVM has it: the
 * table follows under the same lock. */
static int change_slot(struct kvmas_kvm *kvm, const struct slot_op *op)
{
	const struct kvmas_slot *slot = slot_of(op);
	int result;

	pthread_mutex_lock(&kvm->rings.lock);
	if (op->kind == KVMAS_SLOT_DELETE)
		result = kas_kvm_delete_slot(kvm, slot->as_id, slot->id);
	else
		result = kas_kvm_set_slot(kvm, slot);
	if (result >= 0)
		follow(slots_of(kvm, slot), op);
	pthread_mutex_unlock(&kvm->rings.lock);
	return result < 0 ? result : 0;
}

static int execute(struct kvmas_kvm *kvm, const struct slot_op *op)
{
	const struct kvmas_slot *slot = slot_of(op);
	bool same_log = op->before.log == op->after.log;
	int result;

	/* Nobody who takes pages asks KVM to arm a slot that has just gone, or takes one of a slot
	 * that has just come without asking. */
	if (!same_log) {
		kas_slot_log_detach(op->before.log);
		kas_slot_log_attach(op->after.log);
	}
	result = change_slot(kvm, op);
	if (!result)
		count_op(kvm, op->kind);
	if (result && !same_log) {
		kas_slot_log_detach(op->after.log);
		kas_slot_log_attach(op->before.log);
	}
	if (kvm->config.trace)
		kvm->config.trace(kvm->config.trace_data, op->kind, slot, result);
	return result;
}

static bool is_logged(const struct kvmas_slot *slot)
{
	return slot->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

/* Have a log for what this operation leaves behind, if that is logged. */
static int reserve_log(struct kvmas_kvm *kvm, struct slot_op *op)
{
	int err;

	op->after.log = NULL;
	if (op->kind == KVMAS_SLOT_DELETE || !is_logged(&op->after.slot))
		return 0;
	if (op->kind != KVMAS_SLOT_CREATE && is_logged(&op->before.slot)) {
		op->after.log = op->before.log;
		return 0;
	}
	err = kas_kvm_log_reserve(kvm, &op->after.slot);
	return err ? err : kas_slot_log_new(kvm, &op->after.slot, &op->after.log);
}

int kas_apply_reserve(struct kvmas_kvm *kvm, struct plan *plan)
{
	unsigned room[KVMAS_KVM_MAX_SPACES] = {0};
	int err = 0;

	for (size_t i = 0; i < plan->count; i++) {
		struct slot_op *op = &plan->ops[i];
		const struct kvmas_slot *slot = slot_of(op);

		if (slot->id >= room[slot->as_id])
			room[slot->as_id] = slot->id + 1;
		op->after.log = op->before.log;
		if (!err)
			err = reserve_log(kvm, op);
	}
	pthread_mutex_lock(&kvm->rings.lock);
	for (unsigned i = 0; !err && i < kvm->nspaces; i++)
		err = kas_slots_reserve_room(kvm->object.kvmas, &kvm->spaces[i].slots, room[i]);
	pthread_mutex_unlock(&kvm->rings.lock);
	return err;
}

static void free_unless_attached(struct slot_log *log)
{
	if (log && !log->source.attached)
		kas_slot_log_free(log);
}

void kas_apply_end(const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct slot_op *op = &plan->ops[i];

		if (op->after.log == op->before.log)
			continue;
		free_unless_attached(op->before.log);
		free_unless_attached(op->after.log);
	}
}

/* Read what KVM would forget with this operation. A log that cannot be read counts as all dirty, so
 * that nothing is lost and nothing fails here. */
static void save_log(struct kvmas_kvm *kvm, const struct slot_op *op)
{
	if (op->kind != KVMAS_SLOT_CREATE && is_logged(&op->before.slot))
		kas_kvm_log_read(kvm, &op->before);
}

static void save_logs(struct kvmas_kvm *kvm, const struct plan *plan)
{
	bool saved = false;

	/* Rings are read all together. */
	for (size_t i = 0; i < plan->count && !(saved && kvm->rings.entries); i++) {
		save_log(kvm, &plan->ops[i]);
		saved |= plan->ops[i].kind != KVMAS_SLOT_CREATE &&
			 is_logged(&plan->ops[i].before.slot);
	}
}

/* Whether taking these operations back takes a log away. */
static bool undo_takes_logs(const struct plan *plan, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct slot_op *op = &plan->ops[i];

		if (op->kind != KVMAS_SLOT_DELETE && is_logged(&op->after.slot))
			return true;
	}
	return false;
}

/* Take one operation back. Where an earlier step was refused, a slot may still have the id that is
 * to be created: KVM would take that for a change of this slot. */
static int take_back(struct kvmas_kvm *kvm, const struct slot_op *op)
{
	struct slot_op back = inverse(op);
	bool logged = back.kind != KVMAS_SLOT_CREATE && is_logged(&back.before.slot);
	int err;

	if (back.kind == KVMAS_SLOT_CREATE &&
	    kas_id_test(slots_of(kvm, &back.after.slot)->used, back.after.slot.id))
		return -EEXIST;
	if (kvm->stopped)
		save_log(kvm, &back);
	err = execute(kvm, &back);
	/* Nobody was held: what was written to it up to now is not known. */
	if (!err && logged && !kvm->stopped)
		kas_kvm_log_mark_all(&back.before.slot);
	return err;
}

/* Undo the first *count* operations, last first. A plan that makes logged slots may need no stop,
 * its undoing does. */
static int undo(struct kvmas_kvm *kvm, const struct plan *plan, size_t count)
{
	int result = 0;

	if (!kvm->stopped && undo_takes_logs(plan, count))
		kvm->stopped = !kas_gate_close(kvm);
	while (count-- > 0) {
		const struct kvmas_slot *slot = slot_of(&plan->ops[count]);
		int err = take_back(kvm, &plan->ops[count]);

		if (!err)
			continue;
		kas_log(kvm->object.kvmas, KVMAS_LOG_ERROR,
			"KVM refuses to undo an operation on slot %u:%u: errno %d", slot->as_id,
			slot->id, -err);
		kvm->spaces[slot->as_id].broken = true;
		result = -ENOTRECOVERABLE;
	}
	return result;
}

int kas_apply(struct kvmas_kvm *kvm, const struct plan *plan)
{
	int err;

	save_logs(kvm, plan);
	for (size_t i = 0; i < plan->count; i++) {
		const struct kvmas_slot *slot = slot_of(&plan->ops[i]);
		int undone;

		err = execute(kvm, &plan->ops[i]);
		if (!err)
			continue;
		kas_log(kvm->object.kvmas, KVMAS_LOG_WARNING,
			"KVM refuses operation %zu of %zu, on slot %u:%u at 0x%" PRIx64
			": errno %d",
			i + 1, plan->count, slot->as_id, slot->id, slot->gpa, -err);
		undone = undo(kvm, plan, i);
		return undone ? undone : err;
	}
	return 0;
}

/* The smallest slot of address space 0 whose log flag can be set for a moment: nothing is lost with
 * its log. NULL if there is none. */
static const struct kvmas_slot *find_quiet(const struct slots *slots)
{
	const struct kvmas_slot *quiet = NULL;

	for (size_t i = 0; i < slots->count; i++) {
		const struct kvmas_slot *slot = kas_slots_at(slots, i);

		if (slot->flags & (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_GUEST_MEMFD))
			continue;
		if (!quiet || slot->size < quiet->size)
			quiet = slot;
	}
	return quiet;
}

/* For a moment: no change that the trace hook is told of. */
static int set_flags(struct kvmas_kvm *kvm, const struct kvmas_slot *slot)
{
	int result = kas_kvm_set_slot(kvm, slot);

	if (result < 0)
		return result;
	count_op(kvm, KVMAS_SLOT_FLAGS);
	return 0;
}

/* A slot that KVM leaves logged is one for the next commit to put right, as after an undo. */
int kas_apply_renew(struct kvmas_kvm *kvm)
{
	struct slots *slots = &kvm->spaces[0].slots;
	const struct kvmas_slot *quiet = find_quiet(slots);
	struct kvmas_slot before, logged;
	int err;

	if (!quiet)
		return -EOPNOTSUPP;
	before = logged = *quiet;
	logged.flags |= KVM_MEM_LOG_DIRTY_PAGES;
	err = set_flags(kvm, &logged);
	if (err)
		return err;
	err = set_flags(kvm, &before);
	if (err)
		err = set_flags(kvm, &before);
	if (!err)
		return 0;
	kas_log(kvm->object.kvmas, KVMAS_LOG_ERROR, "KVM goes on to log slot 0:%u: errno %d",
		logged.id, -err);
	pthread_mutex_lock(&kvm->rings.lock);
	kas_slots_replace(slots, &logged, slots->by_id[logged.id].born);
	pthread_mutex_unlock(&kvm->rings.lock);
	kvm->spaces[0].broken = true;
	if (kvm->config.trace)
		kvm->config.trace(kvm->config.trace_data, KVMAS_SLOT_FLAGS, &logged, 0);
	return -ENOTRECOVERABLE;
}

int kas_apply_undo(struct kvmas_kvm *kvm, const struct plan *plan)
{
	return undo(kvm, plan, plan->count);
}

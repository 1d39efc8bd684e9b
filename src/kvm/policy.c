/* SPDX-License-Identifier: MIT */
/*
 * When the slots of an address space are merged: the policy, its budget, the boundaries declared.
 * They are edits like any other: part of a transaction, and undone with it; a change has the space
 * planned whole.
 *
 *     boundaries   0xa0000 x1   0xc0000 x2   0xe8000 x1      sorted; each with how often declared
 *
 * What they do to slots is the business of mapping.c, which cuts what is wanted at boundaries, and
 * of plan.c. Read change first.
 */
#include "policy.h"

#include <errno.h>
#include <string.h>

#include "vm.h"

#define DEFAULT_BUDGET 256

struct policy_undo {
	struct undo undo;
	struct kvmas_kvm *kvm; /* held */
	struct kvm_space *space;
	struct policy before; /* but for the boundaries */
	uint64_t boundary;    /* 0: none has changed */
	bool declared;        /* it was; else it was taken back */
};

void kas_policy_init(struct policy *policy)
{
	*policy = (struct policy){.merge = KVMAS_MERGE_STICKY, .budget = DEFAULT_BUDGET};
}

void kas_policy_fini(struct kvmas *kvmas, struct policy *policy)
{
	kas_free(kvmas, policy->boundaries);
}

/* The index of the first boundary that is *gpa* or behind it. */
static size_t seek(const struct policy *policy, uint64_t gpa)
{
	size_t low = 0, high = policy->nboundaries;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (policy->boundaries[middle].gpa < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at(const struct policy *policy, size_t index, uint64_t gpa)
{
	return index < policy->nboundaries && policy->boundaries[index].gpa == gpa;
}

uint64_t kas_policy_next_boundary(const struct policy *policy, uint64_t gpa)
{
	size_t index = gpa == UINT64_MAX ? policy->nboundaries : seek(policy, gpa + 1);

	return index < policy->nboundaries ? policy->boundaries[index].gpa : UINT64_MAX;
}

/* Declare once more; there is room. */
static void declare(struct policy *policy, uint64_t gpa)
{
	size_t index = seek(policy, gpa);
	struct boundary *at = &policy->boundaries[index];

	if (!is_at(policy, index, gpa)) {
		memmove(at + 1, at, (policy->nboundaries - index) * sizeof(*at));
		*at = (struct boundary){.gpa = gpa};
		policy->nboundaries++;
	}
	at->count++;
}

/* Take back once. Its room stays, for an undo. */
static void take_back(struct policy *policy, uint64_t gpa)
{
	size_t index = seek(policy, gpa);
	struct boundary *at = &policy->boundaries[index];

	if (--at->count)
		return;
	policy->nboundaries--;
	memmove(at, at + 1, (policy->nboundaries - index) * sizeof(*at));
}

static void release(struct undo *undo)
{
	struct policy_undo *change = kas_container_of(undo, struct policy_undo, undo);
	struct kvmas_kvm *kvm = change->kvm;

	kas_free(kvm->object.kvmas, change);
	kvmas_kvm_unref(kvm);
}

static void restore(struct undo *undo)
{
	struct policy_undo *change = kas_container_of(undo, struct policy_undo, undo);
	struct policy *policy = &change->space->policy;

	policy->merge = change->before.merge;
	policy->budget = change->before.budget;
	policy->merge_now = change->before.merge_now;
	if (change->boundary && change->declared)
		take_back(policy, change->boundary);
	else if (change->boundary)
		declare(policy, change->boundary);
	change->space->changed = true;
	release(undo);
}

/* Record the policy as it is, before it changes; inside a transaction. */
static int record(struct kvmas_kvm *kvm, unsigned as_id, uint64_t boundary, bool declared)
{
	struct policy_undo *change = kas_alloc(kvm->object.kvmas, sizeof(*change));

	if (!change)
		return -ENOMEM;
	*change = (struct policy_undo){
		.undo = {.restore = restore, .release = release},
		.kvm = kvmas_kvm_ref(kvm),
		.space = &kvm->spaces[as_id],
		.before = kvm->spaces[as_id].policy,
		.boundary = boundary,
		.declared = declared,
	};
	kas_txn_record(kvm->object.kvmas, &change->undo);
	change->space->changed = true;
	return 0;
}

/* Change all of a policy but its boundaries, as a transaction or in one. */
static int change(struct kvmas_kvm *kvm, unsigned as_id,
		  void (*edit)(struct policy *policy, unsigned value), unsigned value)
{
	int err;

	if (as_id >= kvm->nspaces)
		return -EOPNOTSUPP;
	err = kvmas_begin(kvm->object.kvmas);
	if (err)
		return err;
	err = record(kvm, as_id, 0, false);
	if (!err)
		edit(&kvm->spaces[as_id].policy, value);
	return kas_txn_end(kvm->object.kvmas, err);
}

static void edit_merge(struct policy *policy, unsigned value)
{
	policy->merge = (enum kvmas_merge)value;
}

static void edit_budget(struct policy *policy, unsigned value)
{
	policy->budget = value;
}

static void edit_merge_now(struct policy *policy, unsigned value)
{
	policy->merge_now = value;
}

int kvmas_kvm_set_merge(struct kvmas_kvm *kvm, unsigned as_id, enum kvmas_merge merge)
{
	if ((unsigned)merge > KVMAS_MERGE_NONE)
		return -EINVAL;
	return change(kvm, as_id, edit_merge, merge);
}

int kvmas_kvm_set_budget(struct kvmas_kvm *kvm, unsigned as_id, unsigned budget)
{
	return change(kvm, as_id, edit_budget, budget);
}

int kvmas_kvm_merge(struct kvmas_kvm *kvm, unsigned as_id)
{
	return change(kvm, as_id, edit_merge_now, true);
}

static int add_boundary(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	struct policy *policy = &kvm->spaces[as_id].policy;
	void *grown = kas_grow(kvm->object.kvmas, policy->boundaries, policy->nboundaries,
			       &policy->capacity, sizeof(policy->boundaries[0]));
	int err;

	if (!grown)
		return -ENOMEM;
	policy->boundaries = grown;
	err = record(kvm, as_id, gpa, true);
	if (!err)
		declare(policy, gpa);
	return err;
}

static int del_boundary(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	struct policy *policy = &kvm->spaces[as_id].policy;
	int err;

	if (!is_at(policy, seek(policy, gpa), gpa))
		return -ENOENT;
	err = record(kvm, as_id, gpa, false);
	if (!err)
		take_back(policy, gpa);
	return err;
}

static int change_boundary(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa,
			   int (*edit)(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa))
{
	int err;

	if (as_id >= kvm->nspaces)
		return -EOPNOTSUPP;
	err = kvmas_begin(kvm->object.kvmas);
	if (err)
		return err;
	return kas_txn_end(kvm->object.kvmas, edit(kvm, as_id, gpa));
}

int kvmas_kvm_add_boundary(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	if (gpa == 0 || gpa & (kas_page_size() - 1))
		return -EINVAL;
	return change_boundary(kvm, as_id, gpa, add_boundary);
}

int kvmas_kvm_del_boundary(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa)
{
	return change_boundary(kvm, as_id, gpa, del_boundary);
}

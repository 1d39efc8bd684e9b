/* SPDX-License-Identifier: MIT */
/*
 * The plan of a commit: what changes in the views of the bound spaces becomes windows in which to
 * plan, the windows of the views what is wanted there, and this with the slots a plan.
 *
 *     changes   |..del..|    |.add.|                  of memory, in whole pages
 *     slots     |  0  |  2  |         |    1    |
 *     windows   |<--------->| |<--->|                 none cuts a slot
 *
 * So a commit that changes little plans little, however many slots there are. A space is planned
 * whole when its binding, its policy, what is reserved or what is logged has changed; when KVM has
 * refused to undo; and when it may come to have too many slots (excess_of, budget_of).
 *
 * Read kas_draft_make first.
 */
#include "draft.h"

#include <errno.h>

#include "claims.h"

struct scope {
	bool whole;
	struct range *windows;
	size_t count;
	size_t capacity;
};

struct draft {
	struct kvmas_kvm *kvm;
	struct scope scopes[KVMAS_KVM_MAX_SPACES];
	struct plan_space spaces[KVMAS_KVM_MAX_SPACES];
	bool logs[KVMAS_KVM_MAX_SPACES]; /* something is logged there, or will be */
};

/* ---- where something changes ---- */

static bool shows_memory(const struct flat_range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (kas_range_ram(&ranges[i]))
			return true;
	}
	return false;
}

/* A change of devices over devices costs no slot anything. */
static bool changes_memory(const struct changes *changes)
{
	return shows_memory(changes->dels, changes->ndels) ||
	       shows_memory(changes->adds, changes->nadds);
}

static bool is_whole(const struct kvm_space *space)
{
	return space->changed || space->broken || space->kvm->object.kvmas->txn.logging;
}

bool kas_draft_is_needed(const struct kvmas_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		const struct kvm_space *space = &kvm->spaces[i];

		if (is_whole(space) ||
		    (space->space && changes_memory(kas_space_changes(space->space))))
			return true;
	}
	return false;
}

/* The slot that covers a byte, or NULL. */
static const struct kvmas_slot *slot_at(const struct slots *slots, uint64_t gpa)
{
	size_t index = kas_slots_seek(slots, gpa);

	if (index == slots->count || kas_slots_at(slots, index)->gpa > gpa)
		return NULL;
	return kas_slots_at(slots, index);
}

/* A window over the slots that it cuts; under KVMAS_MERGE_EAGER also over those that it touches,
 * since they may go on in it. */
static struct range widen(const struct kvm_space *space, struct range window)
{
	uint64_t reach = space->policy.merge == KVMAS_MERGE_EAGER;
	uint64_t before = window.first < reach ? 0 : window.first - reach;
	const struct kvmas_slot *left = slot_at(&space->slots, before);
	const struct kvmas_slot *right =
		slot_at(&space->slots, kas_add_saturating(window.last, reach));

	if (left && left->gpa < window.first)
		window.first = left->gpa;
	if (right && right->gpa + (right->size - 1) > window.last)
		window.last = right->gpa + (right->size - 1);
	return window;
}

/* Windows come in ascending order. */
static int add_window(struct scope *scope, struct kvmas *kvmas, struct range window)
{
	struct range *last = scope->count ? &scope->windows[scope->count - 1] : NULL;
	void *grown;

	if (last && window.first <= kas_add_saturating(last->last, 1)) {
		if (window.last > last->last)
			last->last = window.last;
		return 0;
	}
	grown = kas_grow(kvmas, scope->windows, scope->count, &scope->capacity, sizeof(*last));
	if (!grown)
		return -ENOMEM;
	scope->windows = grown;
	scope->windows[scope->count++] = window;
	return 0;
}

static int add_change(struct scope *scope, const struct kvm_space *space,
		      const struct flat_range *range)
{
	uint64_t mask = kas_page_size() - 1;
	struct range pages = {range->range.first & ~mask, range->range.last | mask};

	if (!kas_range_ram(range))
		return 0;
	return add_window(scope, space->kvm->object.kvmas, widen(space, pages));
}

/* What goes and what comes are both in ascending order. */
static int find_windows(struct scope *scope, const struct kvm_space *space)
{
	const struct changes *changes = kas_space_changes(space->space);
	size_t del = 0, add = 0;
	int err = 0;

	while (!err && (del < changes->ndels || add < changes->nadds)) {
		bool dels = add == changes->nadds ||
			    (del < changes->ndels &&
			     changes->dels[del].range.first < changes->adds[add].range.first);

		err = add_change(scope, space,
				 dels ? &changes->dels[del++] : &changes->adds[add++]);
	}
	return err;
}

/* ---- what is wanted there ---- */

struct mapping_source kas_draft_source(const struct kvm_space *space)
{
	const struct kvmas_kvm *kvm = space->kvm;

	return (struct mapping_source){
		.space = space->space,
		.view = kas_space_next_view(space->space),
		.logging = kas_logging_next(kvm->object.kvmas),
		.reserved = kvm->reserved,
		.policy = &space->policy,
		.last_gpa = kvm->last_gpa,
		.as_id = space->as_id,
		.page_size = kas_page_size(),
		.readonly_mem = kvm->readonly_mem,
		.guest_memfd = kvm->guest_memfd,
	};
}

static int find_wanted(const struct kvm_space *space, struct plan_space *ret)
{
	static const struct range whole = {0, UINT64_MAX};
	struct mapping_source source;
	int err = 0;

	if (!space->space)
		return 0;
	source = kas_draft_source(space);
	if (!ret->windows)
		return kas_mappings_add(&ret->want, &source, whole);
	for (size_t i = 0; !err && i < ret->nwindows; i++)
		err = kas_mappings_add(&ret->want, &source, ret->windows[i]);
	return err;
}

static bool wants_log(const struct mappings *want)
{
	for (size_t i = 0; i < want->count; i++) {
		if (want->at[i].flags & KVM_MEM_LOG_DIRTY_PAGES)
			return true;
	}
	return false;
}

/* However few mappings a view needs, something in one of them may be switched on and off without
 * the rest being torn each time: that takes two slots more. */
#define LEAST_BUDGET 2

/*
 * How many slots more than these mappings a space may have. A sync reads them one by one, however
 * little they show: so while something is logged, no more than twice as many as the view needs,
 * whatever the guest does to cut them. Each cut of a logged slot holds vCPUs as it is, and so does
 * merging, in the same stop.
 */
static size_t budget_of(const struct kvm_space *space, bool logs, size_t nmappings)
{
	size_t budget = space->policy.budget;
	size_t needed = nmappings > LEAST_BUDGET ? nmappings : LEAST_BUDGET;

	return logs && needed < budget ? needed : budget;
}

static int draft_space(struct draft *draft, unsigned as_id)
{
	static const struct range nowhere;
	const struct kvm_space *space = &draft->kvm->spaces[as_id];
	const struct policy *policy = &space->policy;
	struct scope *scope = &draft->scopes[as_id];
	struct plan_space *ret = &draft->spaces[as_id];
	int err = 0;

	*ret = (struct plan_space){
		.have = &space->slots,
		.cut = policy->merge == KVMAS_MERGE_STICKY && !policy->merge_now,
		.budget = policy->budget,
		.smallest_first = draft->kvm->config.flags & KVMAS_KVM_ZAP_SLOT,
	};
	if (!scope->whole && !scope->count && space->space)
		err = find_windows(scope, space);
	if (err)
		return err;
	if (!scope->whole)
		ret->windows = scope->count ? scope->windows : &nowhere;
	ret->nwindows = scope->whole ? 0 : scope->count;
	err = find_wanted(space, ret);
	draft->logs[as_id] = wants_log(&ret->want);
	if (scope->whole)
		ret->budget = budget_of(space, draft->logs[as_id], ret->want.count);
	else
		draft->logs[as_id] |= space->slots.nlogged > 0;
	return err;
}

/* ---- one attempt, or two ---- */

static int attempt(struct draft *draft, struct plan *plan)
{
	struct kvmas_kvm *kvm = draft->kvm;
	int err = 0;

	plan->now = kvm->now + 1;
	for (unsigned i = 0; !err && i < kvm->nspaces; i++)
		err = draft_space(draft, i);
	if (!err)
		err = kas_claims_check(kvm->object.kvmas, draft->spaces, kvm->nspaces);
	if (!err)
		err = kas_plan_make(kvm->object.kvmas, plan, draft->spaces, kvm->nspaces);
	for (unsigned i = 0; i < kvm->nspaces; i++)
		kas_mappings_fini(kvm->object.kvmas, &draft->spaces[i].want);
	return err;
}

/*
 * How many slots merging could save afterwards, at most. Planned whole, that is known. Else it is
 * no more than the seams: what is made or moved can bring two each. And it has grown by no more
 * than the slots have, less the mappings: those of before were as many as slots at most, and two of
 * each window now may go on outside of it. Each is sharp where the other is not: among slots that
 * lie apart, and among those that touch and may not be merged.
 */
static size_t excess_of(const struct draft *draft, unsigned as_id)
{
	const struct kvm_space *space = &draft->kvm->spaces[as_id];
	const struct plan_space *plan = &draft->spaces[as_id];
	size_t seams = space->slots.seams + 2 * plan->made;
	size_t grown = space->excess + plan->count + plan->nolds + 2 * plan->nwindows;
	size_t before = space->slots.count + plan->wanted;

	if (!plan->windows)
		return plan->cut ? plan->count - plan->wanted : 0;
	if (!plan->nwindows)
		return space->excess;
	grown = grown > before ? grown - before : 0;
	return grown < seams ? grown : seams;
}

/* Whether a space that was planned in windows may come to have too many slots. */
static bool is_excessive(const struct draft *draft, unsigned as_id)
{
	const struct kvm_space *space = &draft->kvm->spaces[as_id];
	const struct plan_space *plan = &draft->spaces[as_id];
	size_t excess = excess_of(draft, as_id);
	size_t nmappings = plan->count > excess ? plan->count - excess : 0;

	return excess > budget_of(space, draft->logs[as_id], nmappings);
}

/* Whether some space has to be planned whole that was not: it may have too many slots, or, after
 * -ENOSPC, has. */
static bool enlarge(struct draft *draft, int err)
{
	bool enlarged = false;

	for (unsigned i = 0; (!err || err == -ENOSPC) && i < draft->kvm->nspaces; i++) {
		struct plan_space *space = &draft->spaces[i];

		if (!space->windows || !space->nwindows)
			continue;
		if (err || (space->cut && is_excessive(draft, i))) {
			draft->scopes[i].whole = true;
			enlarged = true;
		}
	}
	return enlarged;
}

int kas_draft_make(struct kvmas_kvm *kvm, struct plan *plan)
{
	struct draft draft = {.kvm = kvm};
	int err;

	for (unsigned i = 0; i < kvm->nspaces; i++)
		draft.scopes[i].whole = is_whole(&kvm->spaces[i]);
	err = attempt(&draft, plan);
	while (enlarge(&draft, err)) {
		kas_plan_fini(kvm->object.kvmas, plan);
		err = attempt(&draft, plan);
	}
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		plan->excess[i] = excess_of(&draft, i);
		kas_free(kvm->object.kvmas, draft.scopes[i].windows);
	}
	return err;
}

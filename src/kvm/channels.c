/* SPDX-License-Identifier: MIT */
/*
 * Event channels that KVM has, and how they follow a commit.
 *
 *     unmake      what leaves, or moves, or has memory over it that changes, goes: its writes
 *                 exit, and dispatch sees to them, in the view of before. Then the ring is emptied:
 *                 what is in it was written to that view
 *     (slots)
 *     musts       only what must be in KVM comes before the commit is sure, while no vCPU runs
 *     (publish)
 *     make        the rest comes: dispatch has seen to it until now. What KVM refuses, dispatch
 *                 goes on to see to
 *
 * So a write is never seen to by nobody, or twice: KVM takes it, and then there is no exit, or it
 * exits. And nothing here leaves views and KVM apart: a channel that KVM has is always one that is
 * right; one that it has not costs an exit.
 *
 * What KVM had no room for is tried again when a commit has taken something from a bus.
 *
 * A must that is taken back, since the commit fails after all, and that KVM keeps, is a stray: the
 * commit returns -ENOTRECOVERABLE, and each later one tries again.
 *
 * Invariant: kvm->channels.at[i].made says what KVM has, at every moment; it has the strays, too.
 *
 * Read kas_channels_unmake first.
 */
#include "channels.h"

#include <errno.h>
#include <inttypes.h>

#include "apply.h"

static int take(struct kvmas_kvm *kvm, struct placement *placement)
{
	int err = kas_kvm_set_channel(kvm, placement, false);

	/* -ENOENT: KVM has it no more (it gives up a bus when it has no memory to shrink it,
	 * virt/kvm/kvm_main.c, kvm_io_bus_unregister_dev). */
	if (err && err != -ENOENT)
		return err;
	placement->made = false;
	kas_kvm_count(kvm, channel_unmakes, 1);
	return 0;
}

/* KVM may still take memory that has come in another address space than 0 for none. */
static int renew(struct kvmas_kvm *kvm)
{
	int err = kvm->channel_plan.renewed ? 0 : kas_apply_renew(kvm);

	kvm->channel_plan.renewed = !err;
	return err;
}

static int give(struct kvmas_kvm *kvm, struct placement *placement)
{
	int err = placement->memory & ~1u ? renew(kvm) : 0;

	if (err)
		return err;
	if (placement->channel->fd < 0 && !kas_coalesced_begin(kvm))
		return -EOPNOTSUPP;
	err = kas_kvm_set_channel(kvm, placement, true);
	if (err)
		return err;
	placement->made = true;
	kas_kvm_count(kvm, channel_makes, 1);
	return 0;
}

static const char *kind_of(const struct placement *placement)
{
	return placement->channel->fd < 0 ? "coalesced zone" : "ioeventfd";
}

static void complain(struct kvmas_kvm *kvm, const struct placement *placement, int err)
{
	kas_log(kvm->object.kvmas, KVMAS_LOG_WARNING,
		"KVM refuses to %s the %s at %s 0x%" PRIx64 ": errno %d",
		placement->made ? "take back" : "have", kind_of(placement),
		placement->pio ? "port" : "address", placement->bytes.first, -err);
}

/* The counters that are no sums. */
static void show(struct kvmas_kvm *kvm)
{
	size_t made = 0, by_hand = 0;

	for (size_t i = 0; i < kvm->channels.count; i++) {
		made += kvm->channels.at[i].made;
		by_hand += !kvm->channels.at[i].made && !kvm->channels.at[i].covered;
	}
	kas_kvm_show(kvm, channels_in_kvm, made + kvm->channel_strays.count);
	kas_kvm_show(kvm, channels_by_hand, by_hand);
}

/* What KVM does not take again is by hand until a commit looks at it anew. */
static void give_back(struct kvmas_kvm *kvm, struct placement *placement)
{
	int err = placement->leaves && !placement->made ? give(kvm, placement) : 0;

	if (err)
		complain(kvm, placement, err);
	placement->leaves = false;
}

void kas_channels_remake(struct kvmas_kvm *kvm)
{
	if (!kvm->channel_plan.any)
		return;
	kvm->channel_plan.renewed = false; /* slots have come back */
	for (size_t i = 0; i < kvm->channels.count; i++)
		give_back(kvm, &kvm->channels.at[i]);
	show(kvm);
}

void kas_channels_retreat(struct kvmas_kvm *kvm)
{
	for (size_t i = 0; i < kvm->channels.count; i++) {
		struct placement *placement = &kvm->channels.at[i];
		int err = placement->made && !placement->pio ? take(kvm, placement) : 0;

		if (err)
			complain(kvm, placement, err);
		if (placement->pio)
			give_back(kvm, placement);
		placement->leaves = false;
	}
	show(kvm);
}

/* With a zone KVM has taken each that lies around it. */
static void give_back_around(struct kvmas_kvm *kvm, const struct placement *stray)
{
	for (size_t i = 0; stray->channel->fd < 0 && i < kvm->channels.count; i++) {
		struct placement *at = &kvm->channels.at[i];

		if (!at->made || at->channel->fd >= 0 || at->pio != stray->pio ||
		    at->bytes.first > stray->bytes.first || at->bytes.last < stray->bytes.last)
			continue;
		at->made = false;
		kas_kvm_count(kvm, channel_unmakes, 1);
		give(kvm, at);
	}
}

int kas_channels_take_strays(struct kvmas_kvm *kvm)
{
	struct placements *strays = &kvm->channel_strays;
	int err;

	if (!strays->count)
		return 0;
	err = kas_coalesced_reserve(kvm, false);
	while (!err && strays->count) {
		struct placement *last = &strays->at[strays->count - 1];

		err = take(kvm, last);
		if (err) {
			complain(kvm, last, err);
			break;
		}
		give_back_around(kvm, last);
		kas_channel_unref(last->channel);
		strays->count--;
	}
	if (!err)
		kas_coalesced_keep(kvm);
	show(kvm);
	return err;
}

static bool makes_zones(const struct channel_plan *plan)
{
	for (size_t i = 0; i < plan->next.count; i++) {
		const struct placement *placement = &plan->next.at[i];

		if (placement->right && !placement->made && placement->channel->fd < 0)
			return true;
	}
	return false;
}

int kas_channels_unmake(struct kvmas_kvm *kvm)
{
	int err = 0;

	if (!kvm->channel_plan.any)
		return 0;
	kvm->channel_plan.renewed = false;
	err = kas_coalesced_reserve(kvm, makes_zones(&kvm->channel_plan));
	for (size_t i = 0; !err && i < kvm->channels.count; i++) {
		struct placement *placement = &kvm->channels.at[i];

		if (!placement->leaves)
			continue;
		err = take(kvm, placement);
		if (err)
			complain(kvm, placement, err);
	}
	/* Also if nothing leaves: a region may answer where another one did. */
	if (!err)
		kas_coalesced_keep(kvm);
	else
		kas_channels_remake(kvm);
	return err;
}

static bool is_to_be_made(const struct placement *placement)
{
	return kas_placement_is_must(placement) && placement->found && !placement->made &&
	       !placement->covered;
}

/* Have room for strays: each must could become one. */
static int reserve_strays(struct kvmas_kvm *kvm)
{
	const struct placements *next = &kvm->channel_plan.next;
	struct placements *strays = &kvm->channel_strays;
	size_t capacity = strays->count;
	struct placement *grown;

	for (size_t i = 0; i < next->count; i++)
		capacity += is_to_be_made(&next->at[i]);
	if (capacity <= strays->capacity)
		return 0;
	grown = kas_resize(kvm->object.kvmas, strays->at, capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	strays->at = grown;
	strays->capacity = capacity;
	return 0;
}

int kas_channels_unmake_musts(struct kvmas_kvm *kvm)
{
	struct placements *next = &kvm->channel_plan.next;
	struct placements *strays = &kvm->channel_strays;
	int result = 0;

	for (size_t i = 0; i < next->count; i++) {
		struct placement *placement = &next->at[i];

		if (!placement->leaves || !placement->made || !take(kvm, placement))
			continue;
		strays->at[strays->count++] = *placement;
		kas_channel_ref(placement->channel);
		result = -ENOTRECOVERABLE;
	}
	return result;
}

/* Those made here are marked by `leaves`: they would, with the commit's failure. */
int kas_channels_make_musts(struct kvmas_kvm *kvm)
{
	struct placements *next = &kvm->channel_plan.next;
	int err = reserve_strays(kvm);

	for (size_t i = 0; !err && i < next->count; i++) {
		struct placement *placement = &next->at[i];

		if (!is_to_be_made(placement))
			continue;
		err = give(kvm, placement);
		placement->leaves = !err;
		if (err) {
			complain(kvm, placement, err);
			err = err == -ENOTRECOVERABLE ? err : -EOPNOTSUPP;
			err = kas_channels_unmake_musts(kvm) ? -ENOTRECOVERABLE : err;
		}
	}
	return err;
}

/* Once a bus is full there is no use in asking about the next one; but KVM counts ioeventfds in
 * another way than zones. Nor in asking again, as long as nothing has gone. */
static void make_all(struct kvmas_kvm *kvm, struct placements *placements)
{
	bool full[2][2] = {{false}};

	for (size_t i = 0; i < placements->count; i++) {
		struct placement *placement = &placements->at[i];
		bool *is_full = &full[placement->pio][placement->channel->fd < 0];
		bool tried = placement->refused == -ENOSPC && !kvm->channel_plan.nunmakes;
		int err;

		if (placement->made || !placement->right || placement->covered || tried || *is_full)
			continue;
		err = give(kvm, placement);
		placement->refused = err;
		*is_full = err == -ENOSPC;
		if (err && err != -ENOSPC)
			complain(kvm, placement, err);
	}
}

void kas_channels_make(struct kvmas_kvm *kvm)
{
	struct placements old = kvm->channels;

	if (!kvm->channel_plan.any)
		return;
	kvm->channels = kvm->channel_plan.next;
	kvm->channel_plan.next = old; /* to be freed */
	make_all(kvm, &kvm->channels);
	show(kvm);
}

void kas_channels_end_plan(struct kvmas_kvm *kvm)
{
	kas_placements_fini(kvm->object.kvmas, &kvm->channel_plan.next);
	if (!kvm->channel_strays.count)
		kas_placements_fini(kvm->object.kvmas, &kvm->channel_strays);
	kvm->channel_plan = (struct channel_plan){0};
}

/* ---- for people ---- */

static const char *state_of(const struct placement *placement)
{
	if (placement->made)
		return "in KVM";
	if (placement->covered)
		return "part of the one around it";
	return placement->right ? "by dispatch, KVM refuses"
				: "by dispatch, the bus would be wrong";
}

static int dump_strays(const struct kvmas_kvm *kvm, FILE *stream)
{
	for (size_t i = 0; i < kvm->channel_strays.count; i++) {
		const struct placement *stray = &kvm->channel_strays.at[i];

		if (fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " %s %s, in KVM, a stray\n",
			    stray->bytes.first, stray->bytes.last, stray->pio ? "pio" : "mmio",
			    kind_of(stray)) < 0)
			return -EIO;
	}
	return 0;
}

int kas_channels_dump(const struct kvmas_kvm *kvm, FILE *stream)
{
	if (kvm->channels.count &&
	    fprintf(stream, "kvm event channels: %zu\n", kvm->channels.count) < 0)
		return -EIO;
	for (size_t i = 0; i < kvm->channels.count; i++) {
		const struct placement *placement = &kvm->channels.at[i];

		if (fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " %s %s of %s, %s\n",
			    placement->bytes.first, placement->bytes.last,
			    placement->pio ? "pio" : "mmio", kind_of(placement),
			    placement->region->name, state_of(placement)) < 0)
			return -EIO;
	}
	return dump_strays(kvm, stream);
}

/* SPDX-License-Identifier: MIT */
/*
 * The tie between spaces and one VM. It takes part in each commit: from the next views of the bound
 * spaces come mappings, from mappings and slots a plan, and the plan is executed before the views
 * are published.
 *
 *     next view, logging --draft.c, mapping.c--> mappings --plan.c--> plan --apply.c--> ioctls
 *
 * Each bound space has a listener of its own, for its own log_sync: reading one space's logs
 * touches no other space, and no code knows all spaces.
 *
 * Invariants, when the transaction lock is free and the tie is not broken:
 *   I1  the slots of each as_id are the mappings of its space's view, possibly cut; of an unbound
 *       one, none.
 *   I2  the slot tables say what KVM has (even when broken).
 *   I3  kvm->channels are the event channels that the views show, and say which of them KVM has.
 *
 * Read tie_prepare first.
 */
#include "vm.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "apply.h"
#include "binding.h"
#include "channels.h"
#include "draft.h"
#include "private.h"
#include "reserve.h"

static struct kvmas_kvm *kvm_of(struct tie *tie)
{
	return kas_container_of(tie, struct kvmas_kvm, tie);
}

/* A channel that must be in KVM signals as soon as it is: not before it is known that it may. */
static int stop_if_needed(struct kvmas_kvm *kvm)
{
	int err;

	if (!kvm->plan.stop && !kvm->channel_plan.nmusts)
		return 0;
	err = kas_gate_close(kvm);
	kvm->stopped = !err;
	return err;
}

/* All that was done but for slots: these are in place again, or they are not. */
static void take_back_channels(struct kvmas_kvm *kvm)
{
	bool broken = false;

	for (unsigned i = 0; i < kvm->nspaces; i++)
		broken |= kvm->spaces[i].broken;
	if (broken)
		kas_channels_retreat(kvm);
	else
		kas_channels_remake(kvm);
}

/* Slots as planned, and what must be in KVM. */
static int move_slots(struct kvmas_kvm *kvm)
{
	int err = kas_apply(kvm, &kvm->plan);
	int undone;

	if (err)
		return err;
	err = kas_channels_make_musts(kvm);
	if (!err)
		return 0;
	undone = kas_apply_undo(kvm, &kvm->plan);
	return undone ? undone : err;
}

/* vCPUs are held only for what needs it, and not while memory is allocated. */
static int carry_out(struct kvmas_kvm *kvm)
{
	int err = kas_apply_reserve(kvm, &kvm->plan);

	if (!err)
		err = kas_channels_unmake(kvm);
	if (err)
		return err;
	err = stop_if_needed(kvm);
	if (!err)
		err = move_slots(kvm);
	if (err)
		take_back_channels(kvm);
	return err;
}

static void let_in(struct kvmas_kvm *kvm)
{
	if (kvm->stopped)
		kas_gate_open(kvm);
	kvm->stopped = false;
}

/* The commit is over, or has failed. */
static void end_plan(struct kvmas_kvm *kvm)
{
	let_in(kvm);
	kas_apply_end(&kvm->plan);
	kas_plan_fini(kvm->object.kvmas, &kvm->plan);
	kas_channels_end_plan(kvm);
}

static int tie_prepare(struct tie *tie)
{
	struct kvmas_kvm *kvm = kvm_of(tie);
	int err;

	if (kas_object_is_dead(&kvm->object))
		return 0;
	err = kas_channels_take_strays(kvm);
	if (!err && kas_draft_is_needed(kvm))
		err = kas_draft_make(kvm, &kvm->plan);
	if (!err)
		err = kas_placements_draft(kvm, &kvm->channel_plan);
	if (!err)
		err = carry_out(kvm);
	if (err)
		end_plan(kvm);
	return err;
}

static int tie_cancel(struct tie *tie)
{
	struct kvmas_kvm *kvm = kvm_of(tie);
	int stray = kas_channels_unmake_musts(kvm);
	int err = kas_apply_undo(kvm, &kvm->plan);

	take_back_channels(kvm);
	end_plan(kvm);
	return err ? err : stray;
}

static void tie_finish(struct tie *tie)
{
	struct kvmas_kvm *kvm = kvm_of(tie);

	if (kvm->plan.now) {
		kvm->now = kvm->plan.now;
		for (unsigned i = 0; i < kvm->nspaces; i++) {
			kvm->spaces[i].excess = kvm->plan.excess[i];
			kvm->spaces[i].changed = false;
			kvm->spaces[i].broken = false;
			kvm->spaces[i].policy.merge_now = false;
		}
	}
	if (kvm->plan.count)
		kas_kvm_count(kvm, commits, 1);
	kas_kvm_count(kvm, bytes_torn_live, kvm->plan.bytes_torn);
	kas_kvm_publish_answers(kvm);
	let_in(kvm);
	kas_channels_make(kvm);
	end_plan(kvm);
}

static int dump_slot(FILE *stream, const struct kvmas_slot *slot)
{
	return fprintf(
		stream, "  %016" PRIx64 "-%016" PRIx64 " slot %u:%u %s+0x%" PRIx64 "%s%s%s\n",
		slot->gpa, slot->gpa + slot->size - 1, slot->as_id, slot->id, slot->ram->name,
		slot->ram_offset, slot->flags & KVM_MEM_GUEST_MEMFD ? " guest_memfd" : "",
		slot->flags & KVM_MEM_READONLY ? " readonly" : "",
		slot->flags & KVM_MEM_LOG_DIRTY_PAGES ? " logged" : "");
}

static int tie_dump(struct tie *tie, FILE *stream)
{
	struct kvmas_kvm *kvm = kvm_of(tie);

	for (unsigned i = 0; i < kvm->nspaces; i++) {
		const struct kvm_space *space = &kvm->spaces[i];

		if (fprintf(stream, "kvm address space %u: %s, %zu slots%s\n", i,
			    space->space ? space->space->name : "(not bound)", space->slots.count,
			    space->broken ? ", broken" : "") < 0)
			return -EIO;
		for (size_t k = 0; k < space->slots.count; k++) {
			if (dump_slot(stream, kas_slots_at(&space->slots, k)) < 0)
				return -EIO;
		}
	}
	return kas_channels_dump(kvm, stream);
}

static void tie_drain(struct tie *tie, struct kvmas_reader *reader)
{
	struct kvmas_kvm *kvm = kvm_of(tie);
	struct kvmas_reader ours = {0};

	if (!atomic_load_explicit(&kvm->coalesced.used, memory_order_relaxed))
		return;
	if (reader) {
		kas_coalesced_drain(kvm, reader);
		return;
	}
	kas_reader_init(&ours, kvm->object.kvmas);
	kas_coalesced_drain(kvm, &ours);
	kas_reader_fini(&ours);
}

static void fini_members(struct kvmas_kvm *kvm)
{
	struct kvmas *kvmas = kvm->object.kvmas;

	kas_kvm_free_reserved(kvm);
	kas_kvm_log_fini(kvm);
	kas_placements_fini(kvmas, &kvm->channels);
	kas_placements_fini(kvmas, &kvm->channel_strays);
	kas_coalesced_fini(kvm);
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		kas_slots_fini(kvmas, &kvm->spaces[i].slots);
		kas_policy_fini(kvmas, &kvm->spaces[i].policy);
	}
}

static void kvm_end(struct object *object)
{
	struct kvmas_kvm *kvm = kas_container_of(object, struct kvmas_kvm, object);

	for (unsigned i = 0; i < kvm->nspaces; i++)
		kas_kvm_set_binding(&kvm->spaces[i], NULL);
	kas_kvm_set_pio_space(kvm, NULL);
	kas_kvm_publish_answers(kvm);
	kas_tie_del(&kvm->tie);
	fini_members(kvm);
	pthread_mutex_destroy(&kvm->exits_lock);
	pthread_mutex_destroy(&kvm->private_lock);
	kas_gate_fini(&kvm->gate);
	kas_rings_fini(&kvm->rings);
	kas_free(object->kvmas, kvm);
}

/* What this VM can do, in a tie that is not yet known to anyone. */
static int init_limits(struct kvmas_kvm *kvm, unsigned nspaces)
{
	int limit = kas_kvm_check_extension(kvm, KVM_CAP_NR_MEMSLOTS);
	int readonly_mem = kas_kvm_check_extension(kvm, KVM_CAP_READONLY_MEM);
	unsigned bits = kvm->config.gpa_bits;
	int err;

	if (limit < 0 || readonly_mem < 0)
		return limit < 0 ? limit : readonly_mem;
	if (limit == 0 || limit > UINT16_MAX)
		return -EOPNOTSUPP;
	err = kas_private_init(kvm);
	if (!err)
		err = kas_coalesced_ask(kvm);
	if (err)
		return err;
	kvm->readonly_mem = readonly_mem > 0;
	kvm->last_gpa = bits == 0 || bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
	for (unsigned i = 0; i < nspaces; i++) {
		err = kas_slots_init(kvm->object.kvmas, &kvm->spaces[i].slots, (unsigned)limit);
		if (err)
			return err;
		kvm->spaces[i].kvm = kvm;
		kvm->spaces[i].as_id = i;
		kas_policy_init(&kvm->spaces[i].policy);
		kvm->nspaces = i + 1;
	}
	/* Last: there is no way back. */
	if (kvm->config.flags & KVMAS_KVM_ZAP_SLOT) {
		err = kas_kvm_zap_slot(kvm);
		if (err)
			return err;
	}
	return kas_kvm_log_init(kvm);
}

/* Whole pages, a power of two; or 0 without rings. KVM knows what is too large. */
static bool has_good_ring_size(const struct kvmas_kvm_config *config)
{
	unsigned size = config->ring_size;

	if (config->log != KVMAS_KVM_LOG_RING)
		return size == 0;
	return size >= kas_page_size() && (size & (size - 1)) == 0;
}

static int check_config(const struct kvmas_kvm_config *config)
{
	if (config->flags & ~(unsigned)KVMAS_KVM_ZAP_SLOT || config->gpa_bits > 64 ||
	    !config->pause != !config->resume)
		return -EINVAL;
	if ((unsigned)config->log > KVMAS_KVM_LOG_RING || !has_good_ring_size(config))
		return -EINVAL;
	return 0;
}

static const struct tie tie_functions = {
	.prepare = tie_prepare,
	.cancel = tie_cancel,
	.finish = tie_finish,
	.dump = tie_dump,
	.drain = tie_drain,
};

/* How many address spaces: KVM says 0 where the architecture has but one. */
static int count_spaces(struct kvmas_kvm *kvm, unsigned *ret)
{
	int nspaces = kas_kvm_check_extension(kvm, KVM_CAP_MULTI_ADDRESS_SPACE);

	if (nspaces < 0)
		return nspaces;
	*ret = nspaces ? (unsigned)nspaces : 1;
	return *ret <= KVMAS_KVM_MAX_SPACES ? 0 : -EOPNOTSUPP;
}

int kvmas_kvm_new(struct kvmas *kvmas, const struct kvmas_kvm_config *config,
		  struct kvmas_kvm **ret)
{
	struct kvmas_kvm probe = {.object.kvmas = kvmas};
	struct kvmas_kvm *kvm;
	unsigned nspaces;
	int err;

	if (!kas_alive(kvmas))
		return -EIO;
	err = kas_config_copy(&probe.config, sizeof(probe.config), config);
	if (!err)
		err = check_config(&probe.config);
	if (!err)
		err = count_spaces(&probe, &nspaces);
	if (err)
		return err;
	kvm = kas_alloc(kvmas, sizeof(*kvm) + nspaces * sizeof(kvm->spaces[0]));
	if (!kvm)
		return -ENOMEM;
	kvm->object.kvmas = kvmas;
	kvm->config = probe.config;
	kas_rings_init(&kvm->rings);
	kas_coalesced_init(kvm);
	err = kas_lock(kvmas); /* before limits, which end with what cannot be taken back */
	if (!err) {
		err = init_limits(kvm, nspaces);
		if (err)
			kas_unlock(kvmas);
	}
	if (err) {
		fini_members(kvm);
		kas_rings_fini(&kvm->rings);
		kas_free(kvmas, kvm);
		return err;
	}
	pthread_mutex_init(&kvm->exits_lock, NULL);
	pthread_mutex_init(&kvm->private_lock, NULL);
	LIST_INIT(&kvm->vcpus);
	kas_gate_init(&kvm->gate);
	kvm->tie = tie_functions;
	kvm->tie.object = &kvm->object;
	kas_object_init(&kvm->object, kvmas, kvm_end);
	kas_tie_add(&kvm->tie);
	kas_unlock(kvmas);
	*ret = kvm;
	return 0;
}

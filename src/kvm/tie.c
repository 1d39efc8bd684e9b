/* SPDX-License-Identifier: MIT */
/*
 * The tie between spaces and one VM. It takes part in each commit: from the next views of the bound
 * spaces come mappings, from mappings and slots a plan, and the plan is executed before the views
 * are published.
 *
 *     next view, logging --mapping.c--> mappings --plan.c--> plan --apply.c--> ioctls, slots
 *
 * Each bound space has a listener of its own, for its own log_sync: reading one space's logs
 * touches no other space, and no code knows all spaces.
 *
 * Invariants, when the transaction lock is free and the tie is not broken:
 *   I1  the slots of each as_id are the mappings of its space's view, possibly cut; of an unbound
 *       one, none.
 *   I2  the slot tables say what KVM has (even when broken).
 *
 * Read tie_prepare first.
 */
#include "vm.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "apply.h"
#include "binding.h"
#include "reserve.h"

static struct kvmas_kvm *kvm_of(struct tie *tie)
{
	return kas_container_of(tie, struct kvmas_kvm, tie);
}

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

/* Whether the slots may differ from what the commit that goes on wants. */
static bool may_differ(const struct kvmas_kvm *kvm)
{
	if (kvm->changed || kvm->broken || kvm->object.kvmas->txn.logging)
		return true;
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		if (kvm->spaces[i].space && changes_memory(kas_space_changes(kvm->spaces[i].space)))
			return true;
	}
	return false;
}

static int make_mappings(const struct kvmas_kvm *kvm, unsigned as_id, struct mappings *mappings)
{
	const struct kvmas_space *space = kvm->spaces[as_id].space;
	struct mapping_source source = {
		.space = space,
		.logging = kas_logging_next(kvm->object.kvmas),
		.reserved = kvm->reserved,
		.as_id = as_id,
		.page_size = kas_page_size(),
		.readonly_mem = kvm->readonly_mem,
	};

	if (!space)
		return 0;
	source.view = kas_space_next_view(space);
	return kas_mappings_make(mappings, &source);
}

static int make_plan(struct kvmas_kvm *kvm)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	struct plan_space spaces[MAX_SPACES] = {0};
	int err = 0;

	for (unsigned i = 0; !err && i < kvm->nspaces; i++) {
		spaces[i].have = &kvm->spaces[i].slots;
		err = make_mappings(kvm, i, &spaces[i].want);
	}
	if (!err)
		err = kas_plan_make(kvmas, &kvm->plan, spaces, kvm->nspaces);
	for (unsigned i = 0; i < kvm->nspaces; i++)
		kas_mappings_fini(kvmas, &spaces[i].want);
	return err;
}

static int tie_prepare(struct tie *tie)
{
	struct kvmas_kvm *kvm = kvm_of(tie);
	int err;

	if (kas_object_is_dead(&kvm->object) || !may_differ(kvm))
		return 0;
	err = make_plan(kvm);
	if (!err)
		err = kas_apply(kvm, &kvm->plan);
	if (err)
		kas_plan_fini(kvm->object.kvmas, &kvm->plan);
	return err;
}

static int tie_cancel(struct tie *tie)
{
	struct kvmas_kvm *kvm = kvm_of(tie);
	int err = kas_apply_undo(kvm, &kvm->plan);

	kas_plan_fini(kvm->object.kvmas, &kvm->plan);
	return err;
}

static void tie_finish(struct tie *tie)
{
	struct kvmas_kvm *kvm = kvm_of(tie);

	if (kvm->plan.count)
		kas_kvm_count(kvm, commits, 1);
	kas_kvm_count(kvm, bytes_torn_live, kvm->plan.bytes_torn);
	kas_plan_fini(kvm->object.kvmas, &kvm->plan);
	kas_kvm_publish_answers(kvm);
	kvm->changed = false;
	kvm->broken = false;
}

static int dump_slot(FILE *stream, const struct kvmas_slot *slot)
{
	return fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " slot %u:%u %s+0x%" PRIx64 "%s%s\n",
		       slot->gpa, slot->gpa + slot->size - 1, slot->as_id, slot->id,
		       slot->ram->name, slot->ram_offset,
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
			    kvm->broken ? ", broken" : "") < 0)
			return -EIO;
		for (size_t k = 0; k < space->slots.count; k++) {
			if (dump_slot(stream, &space->slots.at[k]) < 0)
				return -EIO;
		}
	}
	return 0;
}

static void fini_members(struct kvmas_kvm *kvm)
{
	struct kvmas *kvmas = kvm->object.kvmas;

	kas_kvm_free_reserved(kvm);
	for (unsigned i = 0; i < kvm->nspaces; i++)
		kas_slots_fini(kvmas, &kvm->spaces[i].slots);
	kas_free(kvmas, kvm->log);
}

static void kvm_end(struct object *object)
{
	struct kvmas_kvm *kvm = kas_container_of(object, struct kvmas_kvm, object);

	for (unsigned i = 0; i < kvm->nspaces; i++)
		kas_kvm_set_binding(&kvm->spaces[i], NULL);
	kas_kvm_publish_answers(kvm);
	kas_kvm_set_pio_space(kvm, NULL);
	TAILQ_REMOVE(&object->kvmas->ties, &kvm->tie, all);
	fini_members(kvm);
	pthread_mutex_destroy(&kvm->answers_lock);
	kas_free(object->kvmas, kvm);
}

/* What this VM can do, in a tie that is not yet known to anyone. */
static int init_limits(struct kvmas_kvm *kvm, unsigned nspaces)
{
	int limit = kas_kvm_check_extension(kvm, KVM_CAP_NR_MEMSLOTS);
	int readonly_mem = kas_kvm_check_extension(kvm, KVM_CAP_READONLY_MEM);

	if (limit < 0 || readonly_mem < 0)
		return limit < 0 ? limit : readonly_mem;
	if (limit == 0 || limit > UINT16_MAX)
		return -EOPNOTSUPP;
	kvm->readonly_mem = readonly_mem > 0;
	for (unsigned i = 0; i < nspaces; i++) {
		int err = kas_slots_init(kvm->object.kvmas, &kvm->spaces[i].slots, (unsigned)limit);

		if (err)
			return err;
		kvm->spaces[i].kvm = kvm;
		kvm->spaces[i].as_id = i;
		kvm->nspaces = i + 1;
	}
	return 0;
}

static const struct tie tie_functions = {
	.prepare = tie_prepare,
	.cancel = tie_cancel,
	.finish = tie_finish,
	.dump = tie_dump,
};

/* How many address spaces: KVM says 0 where the architecture has but one. */
static int count_spaces(struct kvmas_kvm *kvm, unsigned *ret)
{
	int nspaces = kas_kvm_check_extension(kvm, KVM_CAP_MULTI_ADDRESS_SPACE);

	if (nspaces < 0)
		return nspaces;
	*ret = nspaces ? (unsigned)nspaces : 1;
	return *ret <= MAX_SPACES ? 0 : -EOPNOTSUPP;
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
		err = count_spaces(&probe, &nspaces);
	if (err)
		return err;
	kvm = kas_alloc(kvmas, sizeof(*kvm) + nspaces * sizeof(kvm->spaces[0]));
	if (!kvm)
		return -ENOMEM;
	kvm->object.kvmas = kvmas;
	kvm->config = probe.config;
	err = init_limits(kvm, nspaces);
	if (!err)
		err = kas_lock(kvmas);
	if (err) {
		fini_members(kvm);
		kas_free(kvmas, kvm);
		return err;
	}
	pthread_mutex_init(&kvm->answers_lock, NULL);
	kvm->tie = tie_functions;
	TAILQ_INSERT_TAIL(&kvmas->ties, &kvm->tie, all);
	kas_object_init(&kvm->object, kvmas, kvm_end);
	kas_unlock(kvmas);
	*ret = kvm;
	return 0;
}

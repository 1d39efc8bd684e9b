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
 * Which space answers an exit of an as_id (`answers`) is published like a view: when a commit has
 * succeeded. vCPU threads read it under a small lock of its own.
 *
 * Invariants, when the transaction lock is free and the tie is not broken:
 *   I1  the slots of each as_id are the mappings of its space's view, possibly cut; of an unbound
 *       one, none.
 *   I2  the slot tables say what KVM has (even when broken).
 *
 * Read tie_prepare first.
 */
#include "kvm.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "apply.h"

static struct kvmas_kvm *kvm_of(struct tie *tie)
{
	return kas_container_of(tie, struct kvmas_kvm, tie);
}

/* Whether the slots may differ from what the commit that goes on wants. */
static bool may_differ(const struct kvmas_kvm *kvm)
{
	if (kvm->changed || kvm->broken || kvm->object.kvmas->txn.logging)
		return true;
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		if (kvm->spaces[i].space && kvm->spaces[i].space->next_view)
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

/* From now on exits are answered by the spaces that are bound now. */
static void publish_answers(struct kvmas_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		struct kvm_space *space = &kvm->spaces[i];
		struct kvmas_space *old = space->answers;

		if (old == space->space)
			continue;
		pthread_mutex_lock(&kvm->answers_lock);
		space->answers = space->space ? kvmas_space_ref(space->space) : NULL;
		pthread_mutex_unlock(&kvm->answers_lock);
		kvmas_space_unref(old);
	}
}

static void tie_finish(struct tie *tie)
{
	struct kvmas_kvm *kvm = kvm_of(tie);

	if (kas_object_is_dead(&kvm->object))
		return;
	if (kvm->plan.count)
		kas_kvm_count(kvm, commits, 1);
	kas_kvm_count(kvm, bytes_torn_live, kvm->plan.bytes_torn);
	kas_plan_fini(kvm->object.kvmas, &kvm->plan);
	publish_answers(kvm);
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

/* Bind an address space to a space of ours, or to none. */
static void set_binding(struct kvm_space *kvm_space, struct kvmas_space *space)
{
	struct kvmas_space *old = kvm_space->space;

	if (old)
		kas_listener_unlink(&kvm_space->listener);
	kvm_space->space = space ? kvmas_space_ref(space) : NULL;
	if (space) {
		kvm_space->listener = (struct kvmas_listener){
			.space = space,
			.config = {.data = kvm_space, .log_sync = kas_kvm_log_sync},
		};
		kas_listener_link(&kvm_space->listener);
	}
	kvmas_space_unref(old);
	kvm_space->kvm->changed = true;
}

static void fini_members(struct kvmas_kvm *kvm)
{
	struct kvmas *kvmas = kvm->object.kvmas;

	while (kvm->reserved) {
		struct reserved *next = kvm->reserved->next;

		kas_free(kvmas, kvm->reserved);
		kvm->reserved = next;
	}
	for (unsigned i = 0; i < kvm->nspaces; i++)
		kas_slots_fini(kvmas, &kvm->spaces[i].slots);
	kas_free(kvmas, kvm->log);
}

static void kvm_end(struct object *object)
{
	struct kvmas_kvm *kvm = kas_container_of(object, struct kvmas_kvm, object);

	for (unsigned i = 0; i < kvm->nspaces; i++)
		set_binding(&kvm->spaces[i], NULL);
	publish_answers(kvm);
	kvmas_space_unref(kvm->pio_space);
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

struct kvmas_kvm *kvmas_kvm_ref(struct kvmas_kvm *kvm)
{
	kas_object_ref(&kvm->object);
	return kvm;
}

void kvmas_kvm_unref(struct kvmas_kvm *kvm)
{
	if (kvm)
		kas_object_unref(&kvm->object);
}

unsigned kvmas_kvm_get_as_count(const struct kvmas_kvm *kvm)
{
	return kvm->nspaces;
}

struct binding_undo {
	struct undo undo;
	struct kvm_space *kvm_space; /* its kvm is held */
	struct kvmas_space *before;  /* held */
};

static void free_binding_undo(struct undo *undo)
{
	struct binding_undo *binding = kas_container_of(undo, struct binding_undo, undo);
	struct kvmas_kvm *kvm = binding->kvm_space->kvm;

	kvmas_space_unref(binding->before);
	kas_free(kvm->object.kvmas, binding);
	kvmas_kvm_unref(kvm);
}

static void restore_binding(struct undo *undo)
{
	struct binding_undo *binding = kas_container_of(undo, struct binding_undo, undo);

	set_binding(binding->kvm_space, binding->before);
	free_binding_undo(undo);
}

/* Bind or unbind inside a transaction. */
static int rebind(struct kvm_space *kvm_space, struct kvmas_space *space)
{
	struct kvmas_kvm *kvm = kvm_space->kvm;
	struct binding_undo *binding = kas_alloc(kvm->object.kvmas, sizeof(*binding));

	if (!binding)
		return -ENOMEM;
	binding->undo.restore = restore_binding;
	binding->undo.release = free_binding_undo;
	binding->kvm_space = kvm_space;
	kvmas_kvm_ref(kvm);
	binding->before = kvm_space->space ? kvmas_space_ref(kvm_space->space) : NULL;
	kas_txn_record(kvm->object.kvmas, &binding->undo);
	set_binding(kvm_space, space);
	return 0;
}

int kvmas_kvm_bind(struct kvmas_kvm *kvm, struct kvmas_space *space, unsigned as_id)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	int err;

	if (as_id >= kvm->nspaces)
		return -EOPNOTSUPP;
	if (space->object.kvmas != kvmas)
		return -EXDEV;
	err = kvmas_begin(kvmas);
	if (err)
		return err;
	err = kvm->spaces[as_id].space ? -EEXIST : rebind(&kvm->spaces[as_id], space);
	return kas_txn_end(kvmas, err);
}

int kvmas_kvm_unbind(struct kvmas_kvm *kvm, unsigned as_id)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	int err;

	if (as_id >= kvm->nspaces)
		return -ENOENT;
	err = kvmas_begin(kvmas);
	if (err)
		return err;
	err = kvm->spaces[as_id].space ? rebind(&kvm->spaces[as_id], NULL) : -ENOENT;
	return kas_txn_end(kvmas, err);
}

struct reserve_undo {
	struct undo undo;
	struct kvmas_kvm *kvm; /* held */
};

static void free_reserve_undo(struct undo *undo)
{
	struct reserve_undo *reserve = kas_container_of(undo, struct reserve_undo, undo);
	struct kvmas_kvm *kvm = reserve->kvm;

	kas_free(kvm->object.kvmas, reserve);
	kvmas_kvm_unref(kvm);
}

/* Undos run newest first: the range that this one added is the list's first. */
static void restore_reserved(struct undo *undo)
{
	struct kvmas_kvm *kvm = kas_container_of(undo, struct reserve_undo, undo)->kvm;
	struct reserved *reserved = kvm->reserved;

	kvm->reserved = reserved->next;
	kas_free(kvm->object.kvmas, reserved);
	kvm->changed = true;
	free_reserve_undo(undo);
}

static int reserve_range(struct kvmas_kvm *kvm, struct range range)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	struct reserve_undo *undo = kas_alloc(kvmas, sizeof(*undo));
	struct reserved *reserved = kas_alloc(kvmas, sizeof(*reserved));

	if (!undo || !reserved) {
		kas_free(kvmas, undo);
		kas_free(kvmas, reserved);
		return -ENOMEM;
	}
	*reserved = (struct reserved){range, kvm->reserved};
	kvm->reserved = reserved;
	kvm->changed = true;
	undo->undo.restore = restore_reserved;
	undo->undo.release = free_reserve_undo;
	undo->kvm = kvmas_kvm_ref(kvm);
	kas_txn_record(kvmas, &undo->undo);
	return 0;
}

int kvmas_kvm_reserve_range(struct kvmas_kvm *kvm, uint64_t gpa, uint64_t size)
{
	uint64_t mask = kas_page_size() - 1;
	struct range range;
	int err = kas_range_from(gpa, size, &range);

	if (err || range.first & mask || ~range.last & mask)
		return -EINVAL;
	err = kvmas_begin(kvm->object.kvmas);
	if (err)
		return err;
	return kas_txn_end(kvm->object.kvmas, reserve_range(kvm, range));
}

int kvmas_kvm_reserve_ids(struct kvmas_kvm *kvm, unsigned as_id, unsigned first, unsigned count)
{
	struct slots *slots;
	int err;

	if (as_id >= kvm->nspaces)
		return -EOPNOTSUPP;
	slots = &kvm->spaces[as_id].slots;
	if (first > slots->limit || count > slots->limit - first)
		return -EINVAL;
	err = kas_lock(kvm->object.kvmas);
	if (err)
		return err;
	for (unsigned id = first; !err && id < first + count; id++)
		err = kas_id_test(slots->used, id) ? -EBUSY : 0;
	for (unsigned id = first; !err && id < first + count; id++)
		kas_id_set(slots->reserved, id, true);
	kas_unlock(kvm->object.kvmas);
	return err;
}

int kvmas_kvm_set_pio_space(struct kvmas_kvm *kvm, struct kvmas_space *space)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	struct kvmas_space *old;
	int err;

	if (space && space->object.kvmas != kvmas)
		return -EXDEV;
	err = kas_lock(kvmas);
	if (err)
		return err;
	old = kvm->pio_space;
	pthread_mutex_lock(&kvm->answers_lock);
	kvm->pio_space = space ? kvmas_space_ref(space) : NULL;
	pthread_mutex_unlock(&kvm->answers_lock);
	kas_unlock(kvmas);
	kvmas_space_unref(old);
	return 0;
}

struct kvmas_space *kas_kvm_get_answering(struct kvmas_kvm *kvm, unsigned as_id)
{
	struct kvmas_space *space = NULL;

	pthread_mutex_lock(&kvm->answers_lock);
	if (as_id == KAS_KVM_PIO)
		space = kvm->pio_space;
	else if (as_id < kvm->nspaces)
		space = kvm->spaces[as_id].answers;
	if (space)
		kvmas_space_ref(space);
	pthread_mutex_unlock(&kvm->answers_lock);
	return space;
}

int kvmas_kvm_slots_free(struct kvmas_kvm *kvm, unsigned as_id)
{
	int count;

	if (as_id >= kvm->nspaces)
		return -EOPNOTSUPP;
	count = kas_lock(kvm->object.kvmas);
	if (count)
		return count;
	count = (int)kas_slots_free_ids(&kvm->spaces[as_id].slots);
	kas_unlock(kvm->object.kvmas);
	return count;
}

int kvmas_kvm_for_each_slot(struct kvmas_kvm *kvm,
			    int (*fn)(void *data, const struct kvmas_slot *slot), void *data)
{
	int result = kas_lock(kvm->object.kvmas);

	if (result)
		return result;
	kvm->object.kvmas->txn.calling = true;
	for (unsigned i = 0; !result && i < kvm->nspaces; i++) {
		for (size_t k = 0; !result && k < kvm->spaces[i].slots.count; k++)
			result = fn(data, &kvm->spaces[i].slots.at[k]);
	}
	kvm->object.kvmas->txn.calling = false;
	kas_unlock(kvm->object.kvmas);
	return result;
}

void kvmas_kvm_get_stats(const struct kvmas_kvm *kvm, struct kvmas_kvm_stats *ret)
{
	uint64_t values[sizeof(*ret) / sizeof(uint64_t)];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		values[i] = atomic_load_explicit(&kvm->stats[i], memory_order_relaxed);
	memcpy(ret, values, sizeof(*ret));
}

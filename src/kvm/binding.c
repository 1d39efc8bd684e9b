/* SPDX-License-Identifier: MIT */
/*
 * Bindings: which space an address space of KVM shows, and which space answers the exits there.
 *
 * The two differ inside a transaction only. A binding changes with an undo; who answers (`answers`)
 * is published like a view, when the commit has succeeded, and pinned like one by vCPU threads. The
 * space of ports is bound in the same way, to no as_id.
 *
 * Each bound space has a listener of its own, for its own log_sync.
 */
#include "binding.h"

#include <errno.h>

void kas_kvm_set_binding(struct kvm_space *kvm_space, struct kvmas_space *space)
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
	kvm_space->changed = true;
}

static struct kvmas_space *space_of(struct object *object)
{
	return object ? kas_container_of(object, struct kvmas_space, object) : NULL;
}

static struct kvmas_space *get_published(const struct published *at)
{
	return space_of(atomic_load_explicit(&at->object, memory_order_relaxed));
}

static void publish(struct kvmas_kvm *kvm, struct published *at, struct kvmas_space *space)
{
	struct kvmas_space *old = get_published(at);

	if (old == space)
		return;
	pthread_mutex_lock(&kvm->exits_lock);
	atomic_store(&at->object, space ? &kvmas_space_ref(space)->object : NULL);
	pthread_mutex_unlock(&kvm->exits_lock);
	kvmas_space_unref(old);
}

void kas_kvm_publish_answers(struct kvmas_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nspaces; i++)
		publish(kvm, &kvm->spaces[i].answers, kvm->spaces[i].space);
	publish(kvm, &kvm->pio, kvm->pio_space);
	kvm->pio_changed = false;
}

void kas_kvm_set_pio_space(struct kvmas_kvm *kvm, struct kvmas_space *space)
{
	struct kvmas_space *old = kvm->pio_space;

	kvm->pio_space = space ? kvmas_space_ref(space) : NULL;
	kvm->pio_changed = true;
	kvmas_space_unref(old);
}

struct binding_undo {
	struct undo undo;
	struct kvmas_kvm *kvm;       /* held */
	struct kvm_space *kvm_space; /* NULL: that of ports */
	struct kvmas_space *before;  /* held */
};

static void free_binding_undo(struct undo *undo)
{
	struct binding_undo *binding = kas_container_of(undo, struct binding_undo, undo);
	struct kvmas_kvm *kvm = binding->kvm;

	kvmas_space_unref(binding->before);
	kas_free(kvm->object.kvmas, binding);
	kvmas_kvm_unref(kvm);
}

static void set_binding(struct kvmas_kvm *kvm, struct kvm_space *kvm_space,
			struct kvmas_space *space)
{
	if (kvm_space)
		kas_kvm_set_binding(kvm_space, space);
	else
		kas_kvm_set_pio_space(kvm, space);
}

static void restore_binding(struct undo *undo)
{
	struct binding_undo *binding = kas_container_of(undo, struct binding_undo, undo);

	set_binding(binding->kvm, binding->kvm_space, binding->before);
	free_binding_undo(undo);
}

/* Bind or unbind inside a transaction; *kvm_space* is NULL for ports. */
static int rebind(struct kvmas_kvm *kvm, struct kvm_space *kvm_space, struct kvmas_space *space)
{
	struct binding_undo *binding = kas_alloc(kvm->object.kvmas, sizeof(*binding));
	struct kvmas_space *before = kvm_space ? kvm_space->space : kvm->pio_space;

	if (!binding)
		return -ENOMEM;
	binding->undo.restore = restore_binding;
	binding->undo.release = free_binding_undo;
	binding->kvm = kvmas_kvm_ref(kvm);
	binding->kvm_space = kvm_space;
	binding->before = before ? kvmas_space_ref(before) : NULL;
	kas_txn_record(kvm->object.kvmas, &binding->undo);
	set_binding(kvm, kvm_space, space);
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
	err = kvm->spaces[as_id].space ? -EEXIST : rebind(kvm, &kvm->spaces[as_id], space);
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
	err = kvm->spaces[as_id].space ? rebind(kvm, &kvm->spaces[as_id], NULL) : -ENOENT;
	return kas_txn_end(kvmas, err);
}

int kvmas_kvm_set_pio_space(struct kvmas_kvm *kvm, struct kvmas_space *space)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	int err;

	if (space && space->object.kvmas != kvmas)
		return -EXDEV;
	err = kvmas_begin(kvmas);
	if (err)
		return err;
	if (kvm->pio_space != space)
		err = rebind(kvm, NULL, space);
	return kas_txn_end(kvmas, err);
}

static struct kvmas_space *count_published(struct kvmas_kvm *kvm, const struct published *at)
{
	struct kvmas_space *space;

	pthread_mutex_lock(&kvm->exits_lock);
	space = get_published(at);
	if (space)
		kvmas_space_ref(space);
	pthread_mutex_unlock(&kvm->exits_lock);
	return space;
}

/* Where it is published; NULL for an as_id that there is not. */
static const struct published *answers_of(const struct kvmas_kvm *kvm, unsigned as_id)
{
	if (as_id == KAS_KVM_PIO)
		return &kvm->pio;
	return as_id < kvm->nspaces ? &kvm->spaces[as_id].answers : NULL;
}

struct kvmas_space *kas_kvm_answering(const struct kvmas_kvm *kvm, unsigned as_id)
{
	return get_published(answers_of(kvm, as_id));
}

struct kvmas_space *kas_kvm_pin_answering(struct kvmas_kvm *kvm, struct kvmas_reader *reader,
					  unsigned as_id)
{
	const struct published *at = answers_of(kvm, as_id);
	struct kvmas_space *space;
	bool full;

	if (!at)
		return NULL;
	space = space_of(kas_pin(&reader->pins, at, &full));
	return full ? count_published(kvm, at) : space;
}

void kas_kvm_unpin_answering(struct kvmas_reader *reader, struct kvmas_space *space)
{
	if (!kas_unpin(&reader->pins, &space->object))
		kas_object_unref(&space->object);
}

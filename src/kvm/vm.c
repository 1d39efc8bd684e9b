/* SPDX-License-Identifier: MIT */
/*
 * A VM of the caller's, as the library knows it: counted, asked for its slots and counters. What
 * ties it to the spaces, and so makes and ends it, is tie.c.
 */
#include "vm.h"

#include <errno.h>
#include <string.h>

struct kvmas_kvm *kvmas_kvm_ref(struct kvmas_kvm *kvm)
{
	kas_object_ref(&kvm->object);
	return kvm;
}

void kvmas_kvm_unref(struct kvmas_kvm *kvm)
{
	if (kvm)
		kas_object_drop(&kvm->object);
}

unsigned kvmas_kvm_get_as_count(const struct kvmas_kvm *kvm)
{
	return kvm->nspaces;
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
	struct kvmas *kvmas = kvm->object.kvmas;
	int result = kas_lock(kvmas);

	if (result)
		return result;
	kvmas->txn.calling = true;
	for (unsigned i = 0; !result && i < kvm->nspaces; i++) {
		for (size_t k = 0; !result && k < kvm->spaces[i].slots.count; k++)
			result = fn(data, kas_slots_at(&kvm->spaces[i].slots, k));
	}
	kvmas->txn.calling = false;
	kas_hold(kvmas);
	kas_unlock(kvmas);
	kas_logging_close(kvmas); /* fn may have dropped the last handle */
	kas_let_go(kvmas);
	return result;
}

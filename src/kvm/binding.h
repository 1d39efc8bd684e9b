/* SPDX-License-Identifier: MIT */
/* Which space belongs to which address space of KVM: see binding.c. */
#ifndef KAS_BINDING_H
#define KAS_BINDING_H

#include "vcpu.h"

/* Bind an address space to a space of ours, or to none, recording nothing. The transaction lock is
 * held. */
void kas_kvm_set_binding(struct kvm_space *kvm_space, struct kvmas_space *space);

/* The same for ports. */
void kas_kvm_set_pio_space(struct kvmas_kvm *kvm, struct kvmas_space *space);

/* From now on exits are answered by the spaces that are bound now. */
void kas_kvm_publish_answers(struct kvmas_kvm *kvm);

/* The space that answers exits of an as_id, or of ports; NULL if none does. Pinned by a reader, or
 * counted if that can pin no more; to be unpinned. Without a lock, in general. */
#define KAS_KVM_PIO UINT32_MAX
struct kvmas_space *kas_kvm_pin_answering(struct kvmas_kvm *kvm, struct kvmas_reader *reader,
					  unsigned as_id);
void kas_kvm_unpin_answering(struct kvmas_reader *reader, struct kvmas_space *space);

/* The same under the transaction lock, borrowed. */
struct kvmas_space *kas_kvm_answering(const struct kvmas_kvm *kvm, unsigned as_id);

#endif

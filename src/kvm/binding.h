/* SPDX-License-Identifier: MIT */
/* Which space belongs to which address space of KVM: see binding.c. */
#ifndef KAS_BINDING_H
#define KAS_BINDING_H

#include "vcpu.h"

/* Bind an address space to a space of ours, or to none, recording nothing. The transaction lock is
 * held. */
void kas_kvm_set_binding(struct kvm_space *kvm_space, struct kvmas_space *space);

/* The same for ports, at once. */
void kas_kvm_set_pio_space(struct kvmas_kvm *kvm, struct kvmas_space *space);

/* From now on exits are answered by the spaces that are bound now. */
void kas_kvm_publish_answers(struct kvmas_kvm *kvm);

/* The space that answers exits of an as_id, or of ports; NULL if none does. Pinned by a vCPU's
 * reader, or counted if that can pin no more; to be unpinned. Without
 * a lock, in general. */
#define KAS_KVM_PIO UINT32_MAX
struct kvmas_space *kas_kvm_pin_answering(struct kvmas_vcpu *vcpu, unsigned as_id);
void kas_kvm_unpin_answering(struct kvmas_vcpu *vcpu, struct kvmas_space *space);

#endif

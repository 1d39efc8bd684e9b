/* SPDX-License-Identifier: MIT */
/* A VM of the caller's, as the files of this folder share it: see vm.c. */
#ifndef KAS_VM_H
#define KAS_VM_H

#include "coalesced.h"
#include "gate.h"
#include "listener.h"
#include "log.h"
#include "policy.h"
#include "placement.h"
#include "plan.h"
#include "ram.h"
#include "ring.h"
#include "slots.h"
#include "txn.h"
#include "uapi.h"

/* One KVM address space. */
struct kvm_space {
	struct kvmas_kvm *kvm;
	unsigned as_id;
	struct kvmas_space *space; /* bound: held; NULL if not */
	struct published answers;  /* a space, to exits since the last commit: held */
	struct slots slots;        /* what the kernel has, at every moment */
	size_t excess;             /* of them merging could save so many, at most */
	struct policy policy;      /* when slots are merged */
	bool changed; /* binding, policy or reservations did, since slots were last in step */
	bool broken;  /* KVM refused an undo: slots and view differ */
	struct kvmas_listener listener; /* for log_sync; linked while bound */
};

struct kvmas_kvm {
	struct object object;
	struct tie tie;
	struct kvmas_kvm_config config;
	bool readonly_mem;             /* KVM_CAP_READONLY_MEM */
	bool guest_memfd;              /* KVM_CAP_GUEST_MEMFD, with KVM_CAP_USER_MEMORY2 */
	bool attributes;               /* KVM_CAP_MEMORY_ATTRIBUTES has ..._ATTRIBUTE_PRIVATE */
	uint64_t last_gpa;             /* of the guest's address bits */
	struct kvmas_space *pio_space; /* the space of ports: held; NULL for none */
	bool pio_changed;              /* it did, in the transaction that goes on */
	struct published pio;          /* the same, to exits since the last commit: held */
	/* Guards the two sorts of published above, for who counts instead of pinning, and the list
	 * of vCPUs with what they have counted. A leaf. */
	pthread_mutex_t exits_lock;
	LIST_HEAD(, kvmas_vcpu) vcpus;
	pthread_mutex_t private_lock; /* attributes and what they make of pages: private.c */

	struct gate gate;
	struct reserved *reserved; /* newest first */
	struct plan plan;          /* between prepare and the commit's end */
	bool stopped;              /* for it: an open of the gate is owed */
	uint64_t now;              /* counts plans that were carried out */

	uint64_t *log; /* the buffer that dirty logs are read into, under the transaction lock */
	size_t log_size;
	struct rings rings;

	struct placements channels;       /* where event channels are seen */
	struct placements channel_strays; /* KVM has them though nobody shows them */
	struct channel_plan channel_plan; /* between prepare and the commit's end */
	struct coalesced coalesced;

	_Atomic(uint64_t) stats[sizeof(struct kvmas_kvm_stats) / sizeof(uint64_t)];
	unsigned nspaces;
	struct kvm_space spaces[];
};

/* Count one of kvmas_kvm_stats. */
#define kas_kvm_count(kvm, member, n)                                                              \
	atomic_fetch_add_explicit(                                                                 \
		&(kvm)->stats[offsetof(struct kvmas_kvm_stats, member) / sizeof(uint64_t)], (n),   \
		memory_order_relaxed)

/* Set one that is no sum. */
#define kas_kvm_show(kvm, member, n)                                                               \
	atomic_store_explicit(                                                                     \
		&(kvm)->stats[offsetof(struct kvmas_kvm_stats, member) / sizeof(uint64_t)], (n),   \
		memory_order_relaxed)

/* ioctl.c: the only place that issues ioctls. All return 0 or more, or a negative errno. */
int kas_kvm_check_extension(struct kvmas_kvm *kvm, unsigned long capability);
int kas_kvm_enable_cap(struct kvmas_kvm *kvm, uint32_t capability, uint64_t arg);
int kas_kvm_set_slot(struct kvmas_kvm *kvm, const struct kvmas_slot *slot);
int kas_kvm_delete_slot(struct kvmas_kvm *kvm, unsigned as_id, unsigned id);
int kas_kvm_get_dirty_log(struct kvmas_kvm *kvm, const struct kvmas_slot *slot, void *bitmap);
/* Of the pages of this slot, those that are noted: whole words, or up to the slot's end. */
int kas_kvm_clear_dirty_log(const struct slot_log *log, uint64_t first, uint64_t npages);
/* How many entries were reset. */
int kas_kvm_reset_rings(struct kvmas_kvm *kvm);
int kas_kvm_run(struct kvmas_kvm *kvm, int vcpu_fd);
/* A file descriptor. */
int kas_kvm_create_guest_memfd(struct kvmas_kvm *kvm, uint64_t size, uint64_t flags);
int kas_kvm_set_attributes(struct kvmas_kvm *kvm, uint64_t gpa, uint64_t size, uint64_t attributes);
/* Give an ioeventfd or a coalesced zone to KVM, or take it back. */
int kas_kvm_set_channel(struct kvmas_kvm *kvm, const struct placement *placement, bool made);

/* x86.c or noarch.c: which address space of KVM the vCPU was in at this exit. */
unsigned kas_kvm_exit_as_id(const struct kvm_run *run);

/* The same: have a deletion drop the guest's mappings of its slot alone. -EOPNOTSUPP; what KVM
 * says. */
int kas_kvm_zap_slot(struct kvmas_kvm *kvm);

#endif

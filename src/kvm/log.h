/* SPDX-License-Identifier: MIT */
/* KVM's dirty logs, in whatever way KVM keeps them: see log.c. */
#ifndef KAS_LOG_H
#define KAS_LOG_H

#include "dirty.h"
#include "slots.h"
#include "sources.h"

struct kvmas_kvm;

/*
 * A logged slot whose pages are to be armed after they were told of, and before they are read: a
 * source of its block. Part of the slot's entry, and of the operations that make or end it.
 */
struct slot_log {
	struct source source;
	struct kvmas_kvm *kvm;
	struct sources
		*sources; /* this and the next: of the block, which whoever has the log holds */
	struct dirty *dirty;
	unsigned as_id;
	unsigned id;
	/* Pages that were told of, and are yet to be armed: page i of the slot. None with rings;
	 * and nothing, whatever stands there, if not any. */
	bool any;
	uint64_t pending[];
};

/* Have KVM log in the way that the config asks for. -EOPNOTSUPP; what KVM says. There is no way
 * back. */
int kas_kvm_log_init(struct kvmas_kvm *kvm);
void kas_kvm_log_fini(struct kvmas_kvm *kvm);

/* See that a log of this slot can be read, before it must be; and make its struct slot_log,
 * detached, or NULL where pages need no arming. -ENOMEM. */
int kas_kvm_log_reserve(struct kvmas_kvm *kvm, const struct kvmas_slot *slot);
int kas_slot_log_new(struct kvmas_kvm *kvm, const struct kvmas_slot *slot, struct slot_log **ret);
/* NULL is ignored. */
void kas_slot_log_free(struct slot_log *log);

/* From now on the slot's log has told nothing, and is armed when pages are taken; or no more: then
 * no vCPU runs that could write to them, until it is attached again, or KVM has deleted the slot.
 * NULL is ignored. */
void kas_slot_log_attach(struct slot_log *log);
void kas_slot_log_detach(struct slot_log *log);

/* Read the log of a logged slot into its RAM block's bitmaps; with rings, all there is in them, of
 * all slots. A log that cannot be read counts as all dirty; the errno is returned all the same. */
int kas_kvm_log_read(struct kvmas_kvm *kvm, const struct slot_entry *entry);

/* Count all pages of a slot as dirty. */
void kas_kvm_log_mark_all(const struct kvmas_slot *slot);

/* The log_sync of a bound space; data is its struct kvm_space. */
int kas_kvm_log_sync(void *data, uint64_t first, uint64_t last);

#endif

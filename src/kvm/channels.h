/* SPDX-License-Identifier: MIT */
/* Event channels that KVM has: see channels.c. */
#ifndef KAS_KVM_CHANNELS_H
#define KAS_KVM_CHANNELS_H

#include <stdio.h>

#include "vm.h"

/*
 * The steps of a commit, in order. First of all: what an earlier one could not take back goes.
 * Then, once there is a plan: what is to leave goes, before slots change. Then, after slots have:
 * what must be in KVM comes. Each returns what KVM refused with, and has then done nothing; or it
 * is taken back: what KVM does not take again dispatch sees to, and what it keeps is a stray, and
 * -ENOTRECOVERABLE.
 */
int kas_channels_take_strays(struct kvmas_kvm *kvm);
int kas_channels_unmake(struct kvmas_kvm *kvm);
void kas_channels_remake(struct kvmas_kvm *kvm);
/* In place of that, if slots could not be taken back: no place in KVM is known to be right. */
void kas_channels_retreat(struct kvmas_kvm *kvm);
int kas_channels_make_musts(struct kvmas_kvm *kvm);
int kas_channels_unmake_musts(struct kvmas_kvm *kvm);
/* All is published: all else comes. */
void kas_channels_make(struct kvmas_kvm *kvm);

/* The commit is over, whichever way. */
void kas_channels_end_plan(struct kvmas_kvm *kvm);

int kas_channels_dump(const struct kvmas_kvm *kvm, FILE *stream);

#endif

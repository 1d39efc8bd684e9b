/* SPDX-License-Identifier: MIT */
/* The making of a guest's vCPUs: see vcpu.c. Their running is in guest.h. */
#ifndef LIVE_VCPU_H
#define LIVE_VCPU_H

#include <signal.h>

#define KICK_SIGNAL SIGUSR1

struct guest;
struct vcpu;

/* Make it, with its ring if the guest has rings, and add it to the tie. */
void vcpu_make(struct guest *g, unsigned index);
void vcpu_end(struct vcpu *vcpu);

#endif

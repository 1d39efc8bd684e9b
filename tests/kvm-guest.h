/* SPDX-License-Identifier: MIT */
/*
 * Ways of logging, and who writes what is logged: machines whose VM logs in one of the four ways;
 * and the guest in it, which has vCPUs where the double knows who wrote: with dirty rings, and with
 * a page-modification log.
 */
#ifndef KVM_GUEST_H
#define KVM_GUEST_H

#include "kvm-fixture.h"

/* With one of the ways of logging, all else as usual; and what a tie is made with for it. */
struct machine *machine_new_logging(enum kvmas_kvm_log log);
/* The smallest rings that there are, with a page-modification log or without. */
struct kvmas_kvm_config logging_config(enum kvmas_kvm_log log, bool pml);
/* The library's side of a vCPU that it has not, or not any more. */
int add_guest(struct machine *m, unsigned tie, unsigned index);

/* A store of the guest's, or a load, in one tie's VM, by some vCPU. 0; -EFAULT where it would be an
 * exit; 1, and nothing is done, if its ring is full. */
int guest_write(struct machine *m, unsigned tie, unsigned as_id, uint64_t gpa);
int guest_read(struct machine *m, unsigned tie, unsigned as_id, uint64_t gpa);
/* Whether a tie holds its vCPUs out of the guest. */
bool is_held(const struct machine *m, unsigned tie);

/* For the fixture: the vCPUs of a tie come, leave the guest, and all of the machine's go. */
void add_guests(struct machine *m, unsigned tie);
void flush_guests(struct machine *m, unsigned tie);
void del_guests(struct machine *m);
/* Those run that are not held out: m->run_guest. */
void run_guests(struct machine *m);

#endif

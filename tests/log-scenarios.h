/* SPDX-License-Identifier: MIT */
/*
 * What clients and the VMM do with dirty pages: each is done with a machine whose guest has
 * written, and may fail where an ioctl or an allocation does. Transactions that change slots in
 * other ways are in kvm-scenarios.h.
 */
#ifndef LOG_SCENARIOS_H
#define LOG_SCENARIOS_H

#include "kvm-ledger.h"

/* Beside those of the scenarios' machine: RAM of more words than one, what it shows in SMM, neither
 * at a multiple of 64 pages; a device that hides its middle, or does not. */
enum { BIG = 9, BIG_IN_SMM, HOLE };

struct log_scenario {
	const char *name;
	/* 0 or more, or the negative errno of the first call that failed. */
	int64_t (*run)(struct ledger *ledger);
	unsigned logs;   /* by which ways of logging: bits 1 << enum kvmas_kvm_log */
	bool keeps;      /* whether it succeeds or not, slots and state are as before */
	bool unfailing;  /* refused ioctls do not make it fail */
	bool needs_none; /* it allocates nothing */
	bool single;     /* it is one call: without memory it changes nothing */
};

extern const struct log_scenario log_scenarios[];
extern const size_t nlog_scenarios;

/* The machine, logged in this way, with three clients; the first two want everything. The guest has
 * written; it goes on between ioctls. ledger->m is the machine: machine_free. */
void log_scenario_prepare(struct ledger *ledger, enum kvmas_kvm_log log);

#endif

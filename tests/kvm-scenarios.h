/* SPDX-License-Identifier: MIT */
/*
 * What a machine is put through, to see whether it comes out whole: each scenario is a machine at
 * rest, and a transaction that changes its slots in one way.
 */
#ifndef KVM_SCENARIOS_H
#define KVM_SCENARIOS_H

#include "kvm-fixture.h"

/* region[] of the scenarios' machine. */
enum { RAM, VGA, PAM, BAR, BAR_IN_SMM, SMRAM, ROM, CARD, SPARE };

struct scenario {
	const char *name;
	void (*prepare)(struct machine *m);
	int (*edit)(struct machine *m); /* calls inside a transaction */
	bool single;                    /* one call, that can be a transaction by itself */
	bool guest_memfd;               /* its VM has that */
};

/* Those behind the first nloggable have memory that KVM does not log. */
extern const struct scenario scenarios[];
extern const size_t nscenarios;
extern const size_t nloggable;

/* For tests of one of them. */
void prepare_closed(struct machine *m);
int open_vga(struct machine *m);
void prepare_two_ties(struct machine *m);
int close_vga(struct machine *m);

/* The machine, prepared: nothing is traced, no call counted. Logged: in this way, everything at the
 * wish of its first client, unless that is what changes; with a second one, who watches. */
struct machine *scenario_machine(const struct scenario *scenario);
struct machine *scenario_machine_logged(const struct scenario *scenario, enum kvmas_kvm_log log);

/* Change it: 0 or what went wrong. */
int scenario_run(const struct scenario *scenario, struct machine *m);

/* What that would do to all ties, which it does not; for free(). */
char *scenario_foretell(const struct scenario *scenario, struct machine *m);

/* All that a failed transaction must leave as it was: trees, views, slots with their ids, bindings,
 * policies, boundaries, reservations, and those counters that count what was done in the end; for
 * free(). */
char *machine_text(struct machine *m);

/* Refusals: which of the calls from now on are refused, counted over both ties, and with what. */
struct refusal {
	unsigned first;
	unsigned second; /* 0: none; UINT_MAX: all between */
	int result;      /* what the hook returns: a negative errno, or nonsense */
	unsigned ncalls;
	unsigned hits;
	unsigned logs; /* of those: readings of a log, and what it takes: they fail nothing */
	bool first_is_log;
	bool second_is_log;
};
/* NULL: no more. *refusal* must live until then. */
void machine_refuse(struct machine *m, struct refusal *refusal);

#endif

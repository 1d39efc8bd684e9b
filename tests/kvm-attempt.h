/* SPDX-License-Identifier: MIT */
/*
 * One attempt at a scenario: the machine with a judge on each space, all that can be told of it
 * before, and what must hold of it afterwards.
 */
#ifndef KVM_ATTEMPT_H
#define KVM_ATTEMPT_H

#include "judge.h"
#include "kvm-ledger.h"
#include "kvm-scenarios.h"

struct attempt {
	const struct scenario *scenario;
	struct machine *m;
	struct fake_kvm *before[NTIES];
	struct judge judges[NSPACES];
	char *state;
	char *plan;            /* what a dry run has foretold; NULL: it is not known any more */
	struct ledger *ledger; /* NULL: no guest runs */
};

struct attempt *begin_attempt(const struct scenario *scenario);
/* With everything logged in this way, two clients, and a guest that has written and goes on. */
struct attempt *begin_logged_attempt(const struct scenario *scenario, enum kvmas_kvm_log log);
void end_attempt(struct attempt *t);

/* For people: *k* is which call failed, or the like. */
void assert_attempt(const struct attempt *t, bool holds, unsigned k, const char *what);

/* State before is state after: all that machine_text tells, and what the doubles have. */
void assert_as_before(struct attempt *t, unsigned k);
/* It went as a dry run had foretold. */
void assert_as_planned(struct attempt *t, unsigned k);
/* What was refused is granted now, and does just what it would have done before. */
void assert_goes_on(struct attempt *t, unsigned k);
/* An empty commit brings slots and views in step, and leaves all else as it was. */
void assert_is_repaired(struct attempt *t, unsigned k);

/* Whether an operation has been granted. */
bool has_moved(const struct machine *m);

/* How an allocation that fails is met: in a transaction, in its one call alone, in a dry run. */
enum way { WHOLE, ALONE, DRY, NWAYS };
/* Have the k-th allocation fail; false if there is no such. */
bool starve_attempt(struct attempt *t, unsigned k, enum way way);

#endif

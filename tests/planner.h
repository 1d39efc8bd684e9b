/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the planner stand on: the fixture, two blocks, and three spaces with slots and
 * with what is wanted. No KVM, neither real nor double: a plan is carried out on a board of pages,
 * which knows what KVM refuses and nothing else. Slots and mappings are given as text, in pages:
 *
 *     have    "3 0-7 a+0 log, 0 8-9 b+4 ro"     id, first-last, block+page, flags
 *     want    "0-7 a+0, 12-15 b+4"              the same without ids
 */
#ifndef PLANNER_H
#define PLANNER_H

#include "choices.h"
#include "kvm-fixture.h"

#include "kvm/vm.h"
#include "kvm/plan.h"

#define PLAN_TEST(name) cmocka_unit_test_setup_teardown(name, planner_setup, planner_teardown)

/* Whether this is a slow build. */
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

enum { PLAN_SPACES = 3, PLAN_PAGES = 16384, PLAN_IDS = 2048 };

struct board;

struct planner {
	struct fixture *f;
	struct kvmas_ram *blocks[2]; /* a and b */
	struct slots have[PLAN_SPACES];
	struct plan_space spaces[PLAN_SPACES]; /* at first: cut, with a budget of 256 */
	struct plan plan;
	uint64_t now;        /* when slots are born, those inserted and those planned */
	unsigned limit;      /* of ids */
	unsigned npages;     /* of a space, on the board */
	unsigned page_shift; /* pages() asks the system each time */
	bool merges;         /* slots that could stay may go: the budget is small */
	uint64_t seed;       /* told if the test fails; 0: none */
	struct board *board;
};

int planner_setup(void **state);
int planner_teardown(void **state);
/* From now on with fewer ids and pages, which is faster. */
void planner_shrink(struct planner *p, unsigned limit, unsigned npages);
/* Forget the plan and what was wanted: slots stay. */
void planner_reset(struct planner *p);
/* Forget the slots, too. */
void planner_clear(struct planner *p);

/* A slot that is there; one that is wanted, above those wanted before. */
void insert(struct planner *p, const struct kvmas_slot *slot);
void want(struct planner *p, const struct kvmas_slot *slot);
void have_in(struct planner *p, unsigned as_id, const char *text);
void want_in(struct planner *p, unsigned as_id, const char *text);

/* For the first so many spaces: 0 or a negative errno. */
int make_plan(struct planner *p, size_t nspaces);
/* As it is deleted, or as it is afterwards. */
const struct kvmas_slot *slot_of(const struct slot_op *op);
/* For free(). */
char *plan_text(const struct plan *plan);

/*
 * What is wrong with the plan that was made; NULL if nothing is. Whether KVM would take each step;
 * the order of kinds; whether exactly what is wanted is there afterwards, in one slot each or cut
 * as allowed, and all outside the windows as it was; what the plan tells of itself.
 */
const char *plan_wrong(struct planner *p, size_t nspaces);
/* Do it on the slots' tables, as a commit would. */
void follow(struct planner *p);
/* Plan, see that it is right, and as expected: see plan_text. */
void assert_plan(struct planner *p, size_t nspaces, const char *expected);
/* Plan, see that it is right, follow. */
void check_plan(struct planner *p, size_t nspaces);

/* Chance, of a seed: numbers below *n*. */
struct dice {
	uint64_t state;
};
unsigned roll(struct dice *dice, unsigned n);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the planner stand on: the fixture, two blocks, and three spaces with slots and
 * with what is wanted. No KVM, neither real nor double: a plan is carried out on the slots' tables.
 */
#ifndef PLANNER_H
#define PLANNER_H

#include "kvm-fixture.h"

#include "kvm/vm.h"
#include "kvm/plan.h"

#define PLAN_TEST(name) cmocka_unit_test_setup_teardown(name, planner_setup, planner_teardown)

struct planner {
	struct fixture *f;
	struct kvmas_ram *blocks[2]; /* a and b */
	struct slots have[3];
	struct plan_space spaces[3];
	struct plan plan;
	unsigned limit;
};

/* Each page of a space, as (block, page of it, flags) in a number; 0 for none. */
enum { MAP_PAGES = 256 };

int planner_setup(void **state);
int planner_teardown(void **state);
/* Forget the plan and what was wanted: slots stay. */
void planner_reset(struct planner *p);

/* A slot that is there; one that is wanted, above those wanted before. */
void insert(struct planner *p, const struct kvmas_slot *slot);
void want(struct planner *p, const struct kvmas_slot *slot);

/* For the first so many spaces: 0 or a negative errno. */
int make_plan(struct planner *p, size_t nspaces);
/* As it is deleted, or as it is afterwards. */
const struct kvmas_slot *slot_of(const struct slot_op *op);
/* Do an operation on the table of slots; demands that KVM would take it. */
void follow(struct planner *p, const struct slot_op *op);
/* Plan, execute, and compare with what is wanted: page by page. */
void check_plan(struct planner *p, size_t nspaces);

#endif

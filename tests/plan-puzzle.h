/* SPDX-License-Identifier: MIT */
/* Small cases, given both to the planner, as its space 0, and to the search. */
#ifndef PLAN_PUZZLE_H
#define PLAN_PUZZLE_H

#include "plan-search.h"
#include "planner.h"

#define PUZZLE_TEST(name) cmocka_unit_test_setup_teardown(name, puzzle_setup, planner_teardown)

/* A planner for small puzzles, which is fast. */
int puzzle_setup(void **state);

/* What the planner's space 0 has and wants. */
struct puzzle puzzle_from(const struct planner *p);
/* For free(). */
char *puzzle_text(const struct planner *p, const struct puzzle *puzzle);

bool same_cost(struct cost a, struct cost b);

/* What is wrong with the plan that was made for space 0, which could cost so little; NULL if
 * nothing is. */
const char *plan_lacks(struct planner *p, struct cost least);

/* Plan for this; the plan must be right, and the cheapest. */
void solve(struct planner *p, const struct puzzle *puzzle);

#endif

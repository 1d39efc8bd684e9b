/* SPDX-License-Identifier: MIT */
/*
 * The planner on random slots and mappings of three spaces: each plan is carried out and compared
 * page by page with what was wanted. Plans written down are in test-plan.c.
 *
 * KVMAS_SEED and KVMAS_STEPS choose the run.
 */
#include "planner.h"

#include <inttypes.h>

static uint64_t random_state;

static unsigned random_below(unsigned n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(random_state >> 33) % n;
}

/* Runs of pages, mostly where the block's page is the guest's, so that much continues. */
static void want_random(struct planner *p, unsigned as_id)
{
	uint64_t gfn = random_below(8);
	struct kvmas_slot *before = NULL;

	while (gfn < MAP_PAGES - 32) {
		struct kvmas_slot slot = {.as_id = as_id, .gpa = pages(gfn)};

		slot.size = pages(1 + random_below(24));
		slot.ram = p->blocks[random_below(6) == 0];
		slot.ram_offset = pages(gfn + (random_below(4) == 0));
		slot.flags = random_below(4) == 0 ? LOG : 0;
		slot.flags |= random_below(6) == 0 ? RO : 0;
		if (before && before->gpa + before->size == slot.gpa && before->ram == slot.ram &&
		    before->ram_offset + before->size == slot.ram_offset &&
		    before->flags == slot.flags)
			before->size += slot.size;
		else
			want(p, &slot);
		before = &p->spaces[as_id].want.at[p->spaces[as_id].want.count - 1];
		gfn = (before->gpa + before->size) / page_size();
		gfn += random_below(3) ? 0 : random_below(16);
	}
}

static void random_plans_never_overlap_and_end_at_what_is_wanted(void **state)
{
	const char *seed = getenv("KVMAS_SEED");
	const char *steps = getenv("KVMAS_STEPS");
	unsigned n = steps ? (unsigned)strtoul(steps, NULL, 0) : 3000;
	struct planner *p = *state;

	random_state = seed ? strtoull(seed, NULL, 0) : 1;
	print_message("KVMAS_SEED=%" PRIu64 "\n", random_state);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned as_id = 0; as_id < 3; as_id++) {
			if (random_below(8))
				want_random(p, as_id);
		}
		check_plan(p, 3);
		planner_reset(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAN_TEST(random_plans_never_overlap_and_end_at_what_is_wanted),
	};

	return cmocka_run_group_tests_name("plan-random", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * When slots are merged, as a VMM sees it: policies, boundaries, the budget, merging at once. All
 * on the double: what is said of slots is said of KVM's, too (assert_right, at the end of each
 * test).
 */
#include "kvm-fixture.h"

#include <inttypes.h>
#include <stdio.h>

#include "kvm/vm.h"

enum { RAM, HOLE };

/* 64 pages of RAM in both spaces, and a device that hides pages 10-15 in space 0: not yet. */
static void make_scene(struct machine *m)
{
	m->region[RAM] = put_ram(m, NORMAL, "ram", 0, 64);
	put_alias(m, SMM, m->region[RAM], 0, 0, 64);
	m->region[HOLE] = make_mmio(m->f, "hole", pages(6));
	must(kvmas_region_set_enabled(m->region[HOLE], false));
	add(m->root[NORMAL], m->region[HOLE], pages(10), 1);
	fake_kvm_reset(m->vm);
	forget_trace(m);
}

static int scene_setup(void **state)
{
	machine_setup(state);
	make_scene(*state);
	return 0;
}

#define SCENE_TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, machine_teardown)

static void open_hole(struct machine *m)
{
	must(kvmas_region_set_enabled(m->region[HOLE], true));
}

static void close_hole(struct machine *m)
{
	must(kvmas_region_set_enabled(m->region[HOLE], false));
}

#define WHOLE_IN_SMM "1:0 0-63 ram+0\n"

static const char in_one[] = "0:0 0-63 ram+0\n" WHOLE_IN_SMM;
static const char in_two[] = "0:0 0-9 ram+0\n"
			     "0:1 16-63 ram+16\n" WHOLE_IN_SMM;
static const char in_three[] = "0:0 0-9 ram+0\n"
			       "0:2 10-15 ram+10\n"
			       "0:1 16-63 ram+16\n" WHOLE_IN_SMM;

/* ---- policies ---- */

static void new_tie_is_sticky(void **state)
{
	struct machine *m = *state;

	assert_slots(m, in_one);
	open_hole(m);
	assert_slots(m, in_two);
	close_hole(m);
	assert_slots(m, in_three);
	forget_trace(m);
	open_hole(m);
	assert_trace(m, "delete 0:2 10-15 ram+10 = 0\n");
	close_hole(m);
	assert_trace(m, "create 0:2 10-15 ram+10 = 0\n");
	assert_int_equal(stats_of(m).bytes_torn_live, pages(58));
}

static void eager_merges_at_each_commit(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER));
	assert_trace(m, "");
	open_hole(m);
	assert_slots(m, in_two);
	forget_trace(m);
	close_hole(m);
	assert_slots(m, in_one);
	assert_trace(m, "delete 0:1 16-63 ram+16 = 0\n"
			"delete 0:0 0-9 ram+0 = 0\n"
			"create 0:0 0-63 ram+0 = 0\n");
}

/* Two regions show memory that goes on. */
static void put_two_windows(struct machine *m, struct kvmas_region *windows[2])
{
	struct kvmas_ram *block = make_block(m->f, "block", 16);

	for (unsigned i = 0; i < 2; i++) {
		windows[i] = make_window(m->f, KVMAS_REGION_RAM, i ? "b" : "a", block, 8 * i, 8);
		add(m->root[NORMAL], windows[i], pages(100 + 8 * i), 0);
	}
	kvmas_ram_unref(block);
}

static void none_has_a_slot_for_each_range(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *windows[2];

	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_NONE));
	put_two_windows(m, windows);
	assert_slots(m, "0:0 0-63 ram+0\n"
			"0:1 100-107 block+0\n"
			"0:2 108-115 block+8\n" WHOLE_IN_SMM);
	open_hole(m);
	close_hole(m); /* one range again, so one slot */
	assert_slots(m, "0:0 0-63 ram+0\n"
			"0:1 100-107 block+0\n"
			"0:2 108-115 block+8\n" WHOLE_IN_SMM);
}

static void neighbours_of_different_regions_merge_when_made_together(void **state)
{
	static const enum kvmas_merge merges[] = {KVMAS_MERGE_STICKY, KVMAS_MERGE_EAGER};

	(void)state;
	for (size_t i = 0; i < LENGTH(merges); i++) {
		struct machine *m = machine_new(NULL);
		struct kvmas_region *windows[2];

		must(kvmas_kvm_set_merge(m->kvm, NORMAL, merges[i]));
		must(kvmas_begin(m->f->kvmas));
		put_two_windows(m, windows);
		must(kvmas_commit(m->f->kvmas));
		assert_slots(m, "0:0 100-115 block+0\n");
		machine_free(m);
	}
}

static void slots_follow_the_policy_at_once_but_for_sticky(void **state)
{
	static const struct {
		enum kvmas_merge merge;
		const char *slots;
	} steps[] = {
		{KVMAS_MERGE_STICKY, "0:0 100-107 block+0\n0:1 108-115 block+8\n"},
		{KVMAS_MERGE_EAGER, "0:0 100-115 block+0\n"},
		{KVMAS_MERGE_STICKY, "0:0 100-115 block+0\n"},
		{KVMAS_MERGE_NONE, "0:0 100-107 block+0\n0:1 108-115 block+8\n"},
		{KVMAS_MERGE_STICKY, "0:0 100-107 block+0\n0:1 108-115 block+8\n"},
		{KVMAS_MERGE_NONE, "0:0 100-107 block+0\n0:1 108-115 block+8\n"},
		{KVMAS_MERGE_EAGER, "0:0 100-115 block+0\n"},
	};
	struct machine *m = *state;
	struct kvmas_region *windows[2];

	put_two_windows(m, windows);
	for (size_t i = 0; i < LENGTH(steps); i++) {
		must(kvmas_kvm_set_merge(m->kvm, NORMAL, steps[i].merge));
		assert_slots(m, steps[i].slots);
	}
}

static void unmergeable_regions_stay_apart_under_every_policy(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *windows[2];

	put_two_windows(m, windows);
	must(kvmas_region_set_unmergeable(windows[1], true));
	for (unsigned merge = KVMAS_MERGE_STICKY; merge <= KVMAS_MERGE_NONE; merge++) {
		must(kvmas_kvm_set_merge(m->kvm, NORMAL, merge));
		must(kvmas_kvm_merge(m->kvm, NORMAL));
		assert_slots(m, "0:0 100-107 block+0\n"
				"0:1 108-115 block+8\n");
	}
	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER));
	must(kvmas_region_set_unmergeable(windows[1], false));
	assert_slots(m, "0:0 100-115 block+0\n");
	must(kvmas_region_set_unmergeable(windows[0], true));
	assert_slots(m, "0:0 100-107 block+0\n"
			"0:1 108-115 block+8\n");
}

static void spaces_merge_each_by_its_own_policy(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *hole = make_mmio(m->f, "hole", pages(6));

	must(kvmas_kvm_set_merge(m->kvm, SMM, KVMAS_MERGE_EAGER));
	add(m->root[SMM], hole, pages(10), 1);
	open_hole(m);
	must(kvmas_region_set_enabled(hole, false));
	close_hole(m);
	assert_slots(m, in_three);
	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER));
	must(kvmas_kvm_set_merge(m->kvm, SMM, KVMAS_MERGE_STICKY));
	must(kvmas_region_set_enabled(hole, true));
	must(kvmas_region_set_enabled(hole, false));
	assert_slots(m, "0:0 0-63 ram+0\n"
			"1:0 0-9 ram+0\n"
			"1:2 10-15 ram+10\n"
			"1:1 16-63 ram+16\n");
}

static void change_in_one_space_issues_no_call_in_the_other(void **state)
{
	struct machine *m = *state;

	open_hole(m);
	close_hole(m);
	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(32)));
	assert_int_equal(calls_in(m->vm, SMM, FAKE_KVM_NOPS), 0);
	assert_true(calls_in(m->vm, NORMAL, FAKE_KVM_NOPS) > 0);
}

/* ---- boundaries ---- */

static void no_slot_lies_across_a_boundary(void **state)
{
	for (unsigned merge = KVMAS_MERGE_STICKY; merge <= KVMAS_MERGE_NONE; merge++) {
		struct machine *m;

		machine_teardown(state);
		scene_setup(state);
		m = *state;
		must(kvmas_kvm_set_merge(m->kvm, NORMAL, merge));
		must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(16)));
		assert_slots(m, "0:0 0-15 ram+0\n"
				"0:1 16-63 ram+16\n" WHOLE_IN_SMM);
		must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(64))); /* nothing behind */
		must(kvmas_kvm_merge(m->kvm, NORMAL));
		assert_slots(m, "0:0 0-15 ram+0\n"
				"0:1 16-63 ram+16\n" WHOLE_IN_SMM);
	}
}

static void first_flip_inside_boundaries_tears_nothing(void **state)
{
	struct machine *m = *state;
	uint64_t torn;

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(16)));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(10)));
	must(kvmas_commit(m->f->kvmas));
	torn = stats_of(m).bytes_torn_live;
	forget_trace(m);
	open_hole(m);
	close_hole(m);
	assert_trace(m, "delete 0:1 10-15 ram+10 = 0\n"
			"create 0:1 10-15 ram+10 = 0\n");
	assert_int_equal(stats_of(m).bytes_torn_live, torn);
}

static void boundaries_declared_before_binding_cost_nothing(void **state)
{
	struct machine *m = machine_new_unbound(NULL);

	(void)state;
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(10)));
	put_ram(m, NORMAL, "ram", 0, 16);
	must(kvmas_kvm_bind(m->kvm, m->space[NORMAL], NORMAL));
	assert_trace(m, "create 0:0 0-9 ram+0 = 0\n"
			"create 0:1 10-15 ram+10 = 0\n");
	machine_free(m);
}

static void boundary_declared_twice_is_taken_back_twice(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(16)));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(16)));
	must(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(16)));
	assert_slots(m, "0:0 0-15 ram+0\n"
			"0:1 16-63 ram+16\n" WHOLE_IN_SMM);
	must(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(16)));
	assert_slots(m, in_one);
	assert_int_equal(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(16)), -ENOENT);
}

static void boundary_taken_back_merges_nothing_under_sticky(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(16)));
	forget_trace(m);
	must(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(16)));
	assert_trace(m, "");
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	assert_slots(m, in_one);
}

/* They are kept sorted, however they come and go. */
static void boundaries_may_come_and_go_in_any_order(void **state)
{
	static const unsigned order[] = {40, 8, 24, 56, 16, 48, 32};
	struct machine *m = *state;

	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER));
	for (size_t i = 0; i < LENGTH(order); i++) {
		must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(order[i])));
		assert_int_equal(m->kvm->spaces[NORMAL].slots.count, i + 2);
	}
	for (size_t i = 0; i < LENGTH(order); i++) {
		must(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(order[(i * 3) % 7])));
		assert_int_equal(m->kvm->spaces[NORMAL].slots.count, 7 - i);
	}
	assert_slots(m, in_one);
}

static void boundary_at_the_end_of_all_addresses_is_one(void **state)
{
	struct machine *m = *state;
	uint64_t last = -page_size();

	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, last));
	assert_slots(m, in_one);
	must(kvmas_kvm_del_boundary(m->kvm, NORMAL, last));
}

/* ---- a transaction ---- */

static int change_all(struct kvmas_kvm *kvm)
{
	int err = kvmas_kvm_set_merge(kvm, NORMAL, KVMAS_MERGE_EAGER);

	if (!err)
		err = kvmas_kvm_set_budget(kvm, NORMAL, 3);
	if (!err)
		err = kvmas_kvm_add_boundary(kvm, NORMAL, pages(20));
	if (!err)
		err = kvmas_kvm_add_boundary(kvm, NORMAL, pages(16));
	if (!err)
		err = kvmas_kvm_del_boundary(kvm, NORMAL, pages(32));
	return err ? err : kvmas_kvm_merge(kvm, NORMAL);
}

/* A space's policy; for free(). */
static char *policy_text(const struct machine *m)
{
	const struct policy *policy = &m->kvm->spaces[NORMAL].policy;
	char *text = NULL;

	text_add(&text, "merge %d budget %u%s", policy->merge, policy->budget,
		 policy->merge_now ? " now" : "");
	for (size_t i = 0; i < policy->nboundaries; i++)
		text_add(&text, " %" PRIu64 "x%u", policy->boundaries[i].gpa / page_size(),
			 policy->boundaries[i].count);
	return text;
}

static void assert_policy(const struct machine *m, const char *expected)
{
	char *text = policy_text(m);

	assert_string_equal(text, expected);
	free(text);
}

static void policy_takes_effect_at_the_commit(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(32)));
	forget_trace(m);
	must(kvmas_begin(m->f->kvmas));
	must(change_all(m->kvm));
	assert_trace(m, "");
	must(kvmas_commit(m->f->kvmas));
	assert_policy(m, "merge 1 budget 3 16x1 20x1");
	assert_slots(m, "0:0 0-15 ram+0\n"
			"0:1 16-19 ram+16\n"
			"0:2 20-63 ram+20\n" WHOLE_IN_SMM);
}

static void abort_takes_all_of_a_policy_back(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(32)));
	forget_trace(m);
	must(kvmas_begin(m->f->kvmas));
	must(change_all(m->kvm));
	must(kvmas_abort(m->f->kvmas));
	assert_trace(m, "");
	assert_policy(m, "merge 0 budget 256 32x1");
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_trace(m, "");
}

static void refused_commit_takes_all_of_a_policy_back(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(32)));
	for (unsigned k = 1; k <= 4; k++) {
		must(kvmas_begin(m->f->kvmas));
		must(change_all(m->kvm));
		fake_kvm_fail_at(m->vm, k, ENOMEM);
		assert_int_equal(kvmas_commit(m->f->kvmas), -ENOMEM);
		fake_kvm_fail_never(m->vm);
		assert_policy(m, "merge 0 budget 256 32x1");
		assert_slots(m, "0:0 0-31 ram+0\n"
				"0:1 32-63 ram+32\n" WHOLE_IN_SMM);
	}
}

/* ---- merging on request ---- */

static void merge_merges_once(void **state)
{
	struct machine *m = *state;

	open_hole(m);
	close_hole(m);
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	assert_slots(m, in_one);
	open_hole(m);
	close_hole(m);
	assert_slots(m, in_three);
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	forget_trace(m);
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	assert_trace(m, "");
}

/* One that was asked for in a transaction that was given up is not made up for. */
static void merge_that_was_aborted_is_forgotten(void **state)
{
	struct machine *m = *state;

	open_hole(m);
	close_hole(m);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	must(kvmas_abort(m->f->kvmas));
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_slots(m, in_three);
}

static void merge_keeps_to_the_policy(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *windows[2];

	put_two_windows(m, windows);
	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_NONE));
	forget_trace(m);
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	assert_trace(m, "");
}

/* ---- the budget, and ids that run short ---- */

/* A BAR of one page goes to each page of RAM, and above. A view needs the slots that eager merging
 * would make. */
static void slots_never_exceed_view_plus_budget_while_a_bar_sweeps(void **state)
{
	static const unsigned budgets[] = {0, 1, 2, 7, 20};

	for (size_t i = 0; i < 2 * LENGTH(budgets); i++) {
		bool is_ram = i % 2;
		struct kvmas_region *bar;
		unsigned most = 0;
		struct machine *m;

		machine_teardown(state);
		scene_setup(state);
		m = *state;
		must(kvmas_kvm_set_budget(m->kvm, NORMAL, budgets[i / 2]));
		bar = is_ram ? make_ram(m->f, "bar", pages(1)) : make_mmio(m->f, "bar", pages(1));
		add(m->root[NORMAL], bar, pages(100), 2);
		for (unsigned k = 0; k < 2 * 64; k++) {
			unsigned gfn = k * 37 % 64, need = 1 + (gfn > 0 && gfn < 63) + is_ram;
			unsigned count;

			must(kvmas_region_set_offset(bar, pages(gfn)));
			count = (unsigned)m->kvm->spaces[NORMAL].slots.count;
			assert_true(count <= need + budgets[i / 2]);
			most = count > most ? count : most;
		}
		assert_true(most == 2 + is_ram + budgets[i / 2]);
	}
}

static void smaller_budget_takes_effect_at_once(void **state)
{
	struct machine *m = *state;

	open_hole(m);
	close_hole(m);
	must(kvmas_kvm_set_budget(m->kvm, NORMAL, 2));
	assert_slots(m, in_three);
	must(kvmas_kvm_set_budget(m->kvm, NORMAL, 1));
	assert_slots(m, in_one);
	must(kvmas_kvm_set_budget(m->kvm, NORMAL, UINT32_MAX));
	open_hole(m);
	close_hole(m);
	assert_slots(m, in_three);
}

/* Of two regions that were torn, the one torn first is whole again. */
static void oldest_boundaries_go_first(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *hole;
	char *slots;

	put_ram(m, NORMAL, "old", 0, 64);
	put_ram(m, NORMAL, "young", 100, 64);
	hole = put_mmio(m, NORMAL, "hole", 10, 2);
	must(kvmas_region_set_enabled(hole, false));
	must(kvmas_region_set_offset(hole, pages(110)));
	must(kvmas_region_set_enabled(hole, true));
	must(kvmas_region_set_enabled(hole, false));
	must(kvmas_kvm_set_budget(m->kvm, NORMAL, 4));
	assert_int_equal(m->kvm->spaces[NORMAL].slots.count, 6);
	must(kvmas_kvm_set_budget(m->kvm, NORMAL, 3));
	assert_int_equal(m->kvm->spaces[NORMAL].slots.count, 3);
	slots = slots_text(m->kvm);
	assert_non_null(strstr(slots, " 0-63 old+0\n"));
	assert_null(strstr(slots, " 100-163 young+0\n"));
	free(slots);
}

static void slots_are_merged_when_ids_run_short(void **state)
{
	const struct fake_kvm_config config = {.nr_memslots = 4};
	struct machine *m = machine_new(&config);

	(void)state;
	make_scene(m);
	open_hole(m);
	close_hole(m);
	put_ram(m, NORMAL, "more", 100, 1);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, NORMAL), 0);
	put_ram(m, NORMAL, "and-more", 200, 1);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, NORMAL), 1);
	put_ram(m, NORMAL, "most", 300, 1);
	fake_kvm_reset(m->vm);
	assert_int_equal(kvmas_region_add(m->root[NORMAL], make_ram(m->f, "too-much", pages(1)),
					  pages(400), 0),
			 -ENOSPC);
	assert_int_equal(m->vm->ncalls, 0);
	machine_free(m);
}

/* ---- what is refused ---- */

static void bad_arguments_are_refused(void **state)
{
	struct machine *m = *state;
	struct kvmas_kvm *kvm = m->kvm;
	uint64_t odd = pages(1) + page_size() / 2;

	assert_int_equal(kvmas_kvm_set_merge(kvm, NORMAL, (enum kvmas_merge)3), -EINVAL);
	assert_int_equal(kvmas_kvm_set_merge(kvm, NORMAL, (enum kvmas_merge) - 1), -EINVAL);
	assert_int_equal(kvmas_kvm_set_merge(kvm, 2, KVMAS_MERGE_NONE), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_set_merge(kvm, UINT32_MAX, KVMAS_MERGE_NONE), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_set_budget(kvm, 2, 1), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_merge(kvm, 2), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_add_boundary(kvm, 2, pages(1)), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_add_boundary(kvm, NORMAL, 0), -EINVAL);
	assert_int_equal(kvmas_kvm_add_boundary(kvm, NORMAL, odd), -EINVAL);
	assert_int_equal(kvmas_kvm_add_boundary(kvm, NORMAL, 1), -EINVAL);
	assert_int_equal(kvmas_kvm_add_boundary(kvm, NORMAL, UINT64_MAX), -EINVAL);
	assert_int_equal(kvmas_kvm_del_boundary(kvm, 2, pages(1)), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_del_boundary(kvm, NORMAL, pages(1)), -ENOENT);
	assert_int_equal(kvmas_kvm_del_boundary(kvm, NORMAL, 0), -ENOENT);
	assert_int_equal(kvmas_kvm_del_boundary(kvm, NORMAL, odd), -ENOENT);
	assert_int_equal(kvmas_kvm_del_boundary(kvm, NORMAL, UINT64_MAX), -ENOENT);
	assert_policy(m, "merge 0 budget 256");
	assert_trace(m, "");
}

/* A refused edit leaves the transaction that it is in as it was. */
static void refused_edit_leaves_the_transaction_whole(void **state)
{
	struct machine *m = *state;

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(10)));
	assert_int_equal(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(11)), -ENOENT);
	assert_int_equal(kvmas_kvm_set_budget(m->kvm, 9, 1), -EOPNOTSUPP);
	must(kvmas_commit(m->f->kvmas));
	assert_policy(m, "merge 0 budget 256 10x1");
}

/* ---- memory ---- */

static int set_eager(struct machine *m)
{
	return kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER);
}

static int set_budget(struct machine *m)
{
	return kvmas_kvm_set_budget(m->kvm, NORMAL, 1);
}

static int add_boundary(struct machine *m)
{
	return kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(32));
}

static int del_boundary(struct machine *m)
{
	return kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(40));
}

static int merge_now(struct machine *m)
{
	return kvmas_kvm_merge(m->kvm, NORMAL);
}

static int change_in_transaction(struct machine *m)
{
	int err = kvmas_begin(m->f->kvmas);

	if (err)
		return err;
	err = kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(20));
	if (!err)
		err = kvmas_kvm_set_budget(m->kvm, NORMAL, 1);
	if (!err)
		err = kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(40));
	if (!err)
		err = kvmas_kvm_dry_run(m->kvm, NULL, NULL, NULL);
	if (!err)
		return kvmas_commit(m->f->kvmas);
	must(kvmas_abort(m->f->kvmas));
	return err;
}

/* One after the other. */
static unsigned fail_allocations_of(struct machine *m, int (*edit)(struct machine *m))
{
	char *slots = slots_text(m->kvm), *policy = policy_text(m);
	unsigned failed = 0;
	int err;

	do {
		m->f->heap.fail_in = failed + 1;
		m->f->heap.failed = false;
		err = edit(m);
		m->f->heap.fail_in = 0;
		if (!m->f->heap.failed)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_slots(m, slots);
		assert_policy(m, policy);
		assert_right(m);
		failed++;
	} while (failed < 1000);
	must(err);
	free(slots);
	free(policy);
	return failed;
}

static void every_allocation_that_fails_leaves_policy_and_slots_as_they_were(void **state)
{
	static int (*const edits[])(struct machine * m) = {
		set_eager, set_budget, add_boundary, del_boundary, merge_now, change_in_transaction,
	};

	for (size_t i = 0; i < LENGTH(edits); i++) {
		struct machine *m;

		machine_teardown(state);
		scene_setup(state);
		m = *state;
		must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(40)));
		open_hole(m);
		close_hole(m);
		assert_true(fail_allocations_of(m, edits[i]) >= 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(new_tie_is_sticky),
		SCENE_TEST(eager_merges_at_each_commit),
		SCENE_TEST(none_has_a_slot_for_each_range),
		cmocka_unit_test(neighbours_of_different_regions_merge_when_made_together),
		KVM_TEST(slots_follow_the_policy_at_once_but_for_sticky),
		KVM_TEST(unmergeable_regions_stay_apart_under_every_policy),
		SCENE_TEST(spaces_merge_each_by_its_own_policy),
		SCENE_TEST(change_in_one_space_issues_no_call_in_the_other),
		SCENE_TEST(no_slot_lies_across_a_boundary),
		SCENE_TEST(first_flip_inside_boundaries_tears_nothing),
		cmocka_unit_test(boundaries_declared_before_binding_cost_nothing),
		SCENE_TEST(boundary_declared_twice_is_taken_back_twice),
		SCENE_TEST(boundary_taken_back_merges_nothing_under_sticky),
		SCENE_TEST(boundaries_may_come_and_go_in_any_order),
		SCENE_TEST(boundary_at_the_end_of_all_addresses_is_one),
		SCENE_TEST(policy_takes_effect_at_the_commit),
		SCENE_TEST(abort_takes_all_of_a_policy_back),
		SCENE_TEST(refused_commit_takes_all_of_a_policy_back),
		SCENE_TEST(merge_merges_once),
		SCENE_TEST(merge_that_was_aborted_is_forgotten),
		SCENE_TEST(merge_keeps_to_the_policy),
		SCENE_TEST(slots_never_exceed_view_plus_budget_while_a_bar_sweeps),
		SCENE_TEST(smaller_budget_takes_effect_at_once),
		KVM_TEST(oldest_boundaries_go_first),
		cmocka_unit_test(slots_are_merged_when_ids_run_short),
		SCENE_TEST(bad_arguments_are_refused),
		SCENE_TEST(refused_edit_leaves_the_transaction_whole),
		SCENE_TEST(every_allocation_that_fails_leaves_policy_and_slots_as_they_were),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}

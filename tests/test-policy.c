/* SPDX-License-Identifier: MIT */
/*
 * When slots are merged, as a VMM sees it: the policies; and that whatever is asked for,
 * boundaries, the budget, merging at once, takes effect with a transaction or not at all. What is
 * said of slots is said of the double's, too (assert_right, at the end of each test).
 */
#include "hole-scene.h"

#include <inttypes.h>

#include "kvm/vm.h"

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
		SCENE_TEST(policy_takes_effect_at_the_commit),
		SCENE_TEST(abort_takes_all_of_a_policy_back),
		SCENE_TEST(refused_commit_takes_all_of_a_policy_back),
		SCENE_TEST(merge_keeps_to_the_policy),
		SCENE_TEST(bad_arguments_are_refused),
		SCENE_TEST(refused_edit_leaves_the_transaction_whole),
		SCENE_TEST(every_allocation_that_fails_leaves_policy_and_slots_as_they_were),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Boundaries: addresses that no slot lies across, declared by the VMM, whatever the policy. What is
 * said of slots is said of the double's, too (assert_right, at the end of each test).
 */
#include "hole-scene.h"

#include "kvm/vm.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(no_slot_lies_across_a_boundary),
		SCENE_TEST(first_flip_inside_boundaries_tears_nothing),
		cmocka_unit_test(boundaries_declared_before_binding_cost_nothing),
		SCENE_TEST(boundary_declared_twice_is_taken_back_twice),
		SCENE_TEST(boundary_taken_back_merges_nothing_under_sticky),
		SCENE_TEST(boundaries_may_come_and_go_in_any_order),
		SCENE_TEST(boundary_at_the_end_of_all_addresses_is_one),
	};

	return cmocka_run_group_tests_name("boundary", tests, NULL, NULL);
}

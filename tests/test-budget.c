/* SPDX-License-Identifier: MIT */
/*
 * When torn slots are made whole again: on request, when a space has more of them than its view
 * needs and its budget allows, and when ids run short. What is said of slots is said of the
 * double's, too (assert_right, at the end of each test).
 */
#include "hole-scene.h"

#include "kvm/vm.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(merge_merges_once),
		SCENE_TEST(merge_that_was_aborted_is_forgotten),
		SCENE_TEST(slots_never_exceed_view_plus_budget_while_a_bar_sweeps),
		SCENE_TEST(smaller_budget_takes_effect_at_once),
		KVM_TEST(oldest_boundaries_go_first),
		cmocka_unit_test(slots_are_merged_when_ids_run_short),
	};

	return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The table of slots, against the invariants that its head names; slots and their ids as a VMM sees
 * them; and the checkers that other tests end with.
 */
#include "kvm-fixture.h"

#include "kvm/vm.h"

enum { LIMIT = 70 }; /* two words of ids */

struct table {
	struct fixture *f;
	struct slots slots;
	struct kvmas_ram *block;
};

static int table_setup(void **state)
{
	struct table *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->f = fixture_new((struct kvmas_config){0});
	t->block = make_block(t->f, "ram", 64);
	must(kas_slots_init(t->f->kvmas, &t->slots, LIMIT));
	must(kas_slots_reserve_room(t->f->kvmas, &t->slots, 8));
	*state = t;
	return 0;
}

static int table_teardown(void **state)
{
	struct table *t = *state;

	kas_slots_fini(t->f->kvmas, &t->slots);
	kvmas_ram_unref(t->block);
	fixture_free(t->f);
	free(t);
	return 0;
}

#define TABLE_TEST(name) cmocka_unit_test_setup_teardown(name, table_setup, table_teardown)

static struct kvmas_slot slot_at(const struct table *t, unsigned id, uint64_t gfn, uint64_t npages)
{
	return (struct kvmas_slot){
		.id = id, .gpa = pages(gfn), .size = pages(npages), .ram = t->block};
}

static void insert(struct table *t, unsigned id, uint64_t gfn, uint64_t npages)
{
	struct kvmas_slot slot = slot_at(t, id, gfn, npages);

	must(kas_slots_reserve_room(t->f->kvmas, &t->slots, id + 1));
	kas_slots_insert(&t->slots, &slot, 0);
	must(kas_slots_validate(&t->slots));
}

/* Ids by gpa. */
static void assert_order(const struct table *t, const char *expected)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (size_t i = 0; i < t->slots.count; i++)
		text_add(&text, "%u@%u ", kas_slots_at(&t->slots, i)->id,
			 (unsigned)(kas_slots_at(&t->slots, i)->gpa / page_size()));
	assert_string_equal(text, expected);
	free(text);
}

static void new_table_is_empty_and_valid(void **state)
{
	struct table *t = *state;

	must(kas_slots_validate(&t->slots));
	assert_int_equal(t->slots.count, 0);
	assert_int_equal(kas_slots_free_ids(&t->slots), LIMIT);
}

static void inserted_slots_are_sorted_by_gpa(void **state)
{
	struct table *t = *state;

	insert(t, 0, 8, 4);
	insert(t, 69, 0, 4);
	insert(t, 2, 20, 1);
	insert(t, 1, 4, 4);
	assert_order(t, "69@0 1@4 0@8 2@20 ");
	assert_int_equal(kas_slots_free_ids(&t->slots), LIMIT - 4);
}

static void removed_slot_frees_its_id_alone(void **state)
{
	static const char *const left[] = {"1@4 2@8 ", "0@0 2@8 ", "0@0 1@4 "};

	for (unsigned id = 0; id < 3; id++) {
		struct table *t;

		table_teardown(state);
		table_setup(state);
		t = *state;
		for (unsigned i = 0; i < 3; i++)
			insert(t, i, 4 * i, 2);
		kas_slots_remove(&t->slots, id);
		must(kas_slots_validate(&t->slots));
		assert_order(t, left[id]);
		assert_false(kas_id_test(t->slots.used, id));
		assert_int_equal(kas_slots_free_ids(&t->slots), LIMIT - 2);
	}
}

static void replaced_slot_moves_to_its_new_place(void **state)
{
	struct table *t = *state;
	struct kvmas_slot moved = slot_at(t, 0, 30, 2);

	insert(t, 0, 0, 2);
	insert(t, 1, 8, 2);
	moved.flags = LOG;
	kas_slots_replace(&t->slots, &moved, 0);
	must(kas_slots_validate(&t->slots));
	assert_order(t, "1@8 0@30 ");
	assert_int_equal(kas_slots_at(&t->slots, 1)->flags, LOG);
}

/* The table may hold the last reference while it replaces. */
static void table_holds_the_blocks_of_its_slots(void **state)
{
	struct table *t = *state;
	struct kvmas_ram *block = t->block;
	struct kvmas_slot logged = slot_at(t, 0, 0, 2);

	insert(t, 0, 0, 2);
	t->block = NULL;
	kvmas_ram_unref(block);
	logged.flags = LOG;
	kas_slots_replace(&t->slots, &logged, 0);
	assert_string_equal(kvmas_ram_get_name(kas_slots_at(&t->slots, 0)->ram), "ram");
}

static void reserved_ids_are_not_free(void **state)
{
	struct table *t = *state;

	kas_slots_reserve_id(&t->slots, 0);
	kas_slots_reserve_id(&t->slots, 64);
	insert(t, 1, 0, 1);
	assert_int_equal(kas_slots_free_ids(&t->slots), LIMIT - 3);
}

static void room_once_made_is_kept(void **state)
{
	struct table *t = *state;

	must(kas_slots_reserve_room(t->f->kvmas, &t->slots, 20));
	t->f->heap.fail_in = 1;
	must(kas_slots_reserve_room(t->f->kvmas, &t->slots, 20));
	assert_int_equal(kas_slots_reserve_room(t->f->kvmas, &t->slots, LIMIT), -ENOMEM);
	for (unsigned i = 0; i < 20; i++)
		insert(t, i, i, 1);
}

static void room_that_cannot_be_made_leaves_the_table_as_it_was(void **state)
{
	struct table *t = *state;
	unsigned failed = 0;
	int err;

	insert(t, 3, 0, 1);
	insert(t, 7, 8, 1);
	do {
		t->f->heap.fail_in = failed + 1;
		err = kas_slots_reserve_room(t->f->kvmas, &t->slots, LIMIT);
		t->f->heap.fail_in = 0;
		must(kas_slots_validate(&t->slots));
		assert_order(t, "3@0 7@8 ");
	} while (err == -ENOMEM && ++failed);
	must(err);
	assert_true(failed >= 1);
	insert(t, LIMIT - 1, 4, 1);
	assert_order(t, "3@0 69@4 7@8 ");
}

/* Ends, holes, and the edges of pages. */
static void seek_finds_the_first_slot_that_ends_behind(void **state)
{
	static const struct {
		uint64_t gfn;
		size_t index;
	} table[] = {{0, 0}, {3, 0},  {4, 0},  {7, 0},  {8, 1},
		     {9, 1}, {10, 2}, {19, 2}, {23, 2}, {24, 3}};
	struct table *t = *state;

	assert_int_equal(kas_slots_seek(&t->slots, 0), 0);
	insert(t, 5, 4, 4);
	insert(t, 2, 8, 2);
	insert(t, 9, 20, 4);
	for (size_t i = 0; i < LENGTH(table); i++)
		assert_int_equal(kas_slots_seek(&t->slots, pages(table[i].gfn)), table[i].index);
	assert_int_equal(kas_slots_seek(&t->slots, pages(8) - 1), 0);
	assert_int_equal(kas_slots_seek(&t->slots, UINT64_MAX), 3);
}

/* Where two touch and memory goes on: LOG may differ, READONLY may not. */
static void seams_are_counted_as_slots_come_and_go(void **state)
{
	struct table *t = *state;
	struct kvmas_slot slots[4];

	for (unsigned i = 0; i < LENGTH(slots); i++) {
		slots[i] = slot_at(t, i, 2 * i, 2);
		slots[i].ram_offset = pages(2 * i);
	}
	slots[1].flags = LOG;
	slots[3].flags = RO;
	must(kas_slots_reserve_room(t->f->kvmas, &t->slots, 4));
	kas_slots_insert(&t->slots, &slots[0], 0);
	kas_slots_insert(&t->slots, &slots[2], 0);
	kas_slots_insert(&t->slots, &slots[3], 0);
	assert_int_equal(t->slots.seams, 0);
	kas_slots_insert(&t->slots, &slots[1], 0);
	assert_int_equal(t->slots.seams, 2);
	slots[0].gpa = pages(20);
	kas_slots_replace(&t->slots, &slots[0], 0);
	assert_int_equal(t->slots.seams, 1);
	kas_slots_remove(&t->slots, 2);
	assert_int_equal(t->slots.seams, 0);
	must(kas_slots_validate(&t->slots));
}

static void slots_remember_when_they_were_born(void **state)
{
	struct table *t = *state;
	struct kvmas_slot slot = slot_at(t, 3, 8, 2);

	kas_slots_insert(&t->slots, &slot, 41);
	insert(t, 1, 0, 2);
	assert_int_equal(kas_slots_entry(&t->slots, 1)->born, 41);
	slot.gpa = pages(20);
	kas_slots_replace(&t->slots, &slot, 42);
	assert_int_equal(kas_slots_entry(&t->slots, 1)->born, 42);
	assert_int_equal(kas_slots_entry(&t->slots, 0)->born, 0);
}

static void init_without_memory_returns_enomem_and_leaks_nothing(void **state)
{
	struct table *t = *state;

	for (unsigned k = 1; k <= 2; k++) {
		struct slots slots;
		size_t bytes = t->f->heap.bytes;

		t->f->heap.fail_in = k;
		assert_int_equal(kas_slots_init(t->f->kvmas, &slots, LIMIT), -ENOMEM);
		t->f->heap.fail_in = 0;
		assert_int_equal(t->f->heap.bytes, bytes);
	}
}

/* ---- validate finds what breaks an invariant ---- */

static struct kvmas_slot *nth(struct slots *slots, size_t index)
{
	return &slots->by_id[slots->order[index]].slot;
}

static void break_by_overlap(struct slots *slots)
{
	nth(slots, 0)->size = pages(9);
}

static void break_order(struct slots *slots)
{
	uint16_t first = slots->order[0];

	slots->order[0] = slots->order[1];
	slots->order[1] = first;
}

static void break_by_empty_slot(struct slots *slots)
{
	nth(slots, 1)->size = 0;
}

static void break_by_id_past_limit(struct slots *slots)
{
	nth(slots, 0)->id = LIMIT;
}

static void break_by_slot_at_the_id_of_another(struct slots *slots)
{
	nth(slots, 0)->id = 1;
}

static void break_by_used_id_without_slot(struct slots *slots)
{
	kas_id_set(slots->used, LIMIT - 1, true);
}

static void break_by_slot_whose_id_is_free(struct slots *slots)
{
	kas_id_set(slots->used, 0, false);
}

static void break_by_two_slots_of_one_id(struct slots *slots)
{
	slots->order[1] = slots->order[0];
	kas_id_set(slots->used, 1, false);
}

static void break_by_reserved_id(struct slots *slots)
{
	kas_slots_reserve_id(slots, 1);
}

static void break_by_miscounted_reservations(struct slots *slots)
{
	slots->nreserved++;
}

static void break_by_miscounted_seams(struct slots *slots)
{
	slots->seams++;
}

static void validate_finds_planted_corruption(void **state)
{
	static void (*const plants[])(struct slots *) = {
		break_by_overlap,
		break_order,
		break_by_empty_slot,
		break_by_id_past_limit,
		break_by_slot_at_the_id_of_another,
		break_by_used_id_without_slot,
		break_by_slot_whose_id_is_free,
		break_by_two_slots_of_one_id,
		break_by_reserved_id,
		break_by_miscounted_reservations,
		break_by_miscounted_seams,
	};

	for (size_t i = 0; i < LENGTH(plants); i++) {
		struct table *t;

		table_teardown(state);
		table_setup(state);
		t = *state;
		insert(t, 0, 0, 8);
		insert(t, 1, 8, 8);
		plants[i](&t->slots);
		if (kas_slots_validate(&t->slots) != -EINVAL)
			fail_msg("plant %zu was not found", i);
	}
}

/* ---- as the VMM sees them: through a machine ---- */

static const struct fake_kvm_config four_slots = {.nr_memslots = 4};

static void reserve_ids_refuses(void **state)
{
	static const struct {
		unsigned as_id;
		unsigned first;
		unsigned count;
		int error;
	} table[] = {
		{2, 0, 1, -EOPNOTSUPP}, {0, 4, 1, -EINVAL},
		{0, 0, 5, -EINVAL},     {0, 3, 2, -EINVAL},
		{0, 5, 0, -EINVAL},     {0, 1, UINT32_MAX, -EINVAL},
		{0, 0, 1, -EBUSY},      {0, UINT32_MAX, 2, -EINVAL},
		{0, 0, 4, -EBUSY},      {0, 4, 0, 0},
		{1, 0, 4, 0},
	};
	struct machine *m = machine_new(&four_slots);

	(void)state;
	put_ram(m, NORMAL, "ram", 0, 4);
	for (size_t i = 0; i < LENGTH(table); i++)
		assert_int_equal(kvmas_kvm_reserve_ids(m->kvm, table[i].as_id, table[i].first,
						       table[i].count),
				 table[i].error);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, 0), 3);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, 1), 0);
	machine_free(m);
}

static void reserved_ids_stay_the_vmms_own(void **state)
{
	struct machine *m = *state;

	must(kvmas_kvm_reserve_ids(m->kvm, 0, 0, 2));
	must(set_own_slot(m, 0, 0, 1000, 1));
	put_ram(m, NORMAL, "ram", 0, 4);
	put_ram(m, SMM, "smram", 0, 4);
	assert_slots(m, "0:2 0-3 ram+0\n"
			"1:0 0-3 smram+0\n");
	must(kvmas_kvm_unbind(m->kvm, 0));
	assert_non_null(fake_kvm_find(m->vm, 0, pages(1000)));
}

static void slots_free_counts_what_is_neither_used_nor_reserved(void **state)
{
	struct machine *m = *state;
	int all = kvmas_kvm_slots_free(m->kvm, 0);

	assert_int_equal(all, m->vm->config.nr_memslots);
	must(kvmas_kvm_reserve_ids(m->kvm, 0, 100, 10));
	put_ram(m, NORMAL, "ram", 0, 4);
	put_ram(m, NORMAL, "more", 8, 4);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, 0), all - 12);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, 1), all);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, 2), -EOPNOTSUPP);
}

static void slots_that_do_not_suffice_give_enospc_before_the_first_ioctl(void **state)
{
	struct machine *m = machine_new(&four_slots);
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(16));

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		put_ram(m, NORMAL, "ram", 32 * i, 4);
	fake_kvm_reset(m->vm);
	assert_int_equal(kvmas_region_add(m->root[NORMAL], ram, pages(16), 0), -ENOSPC);
	assert_int_equal(m->vm->ncalls, 0);
	assert_right(m);
	must(kvmas_region_add(m->root[SMM], ram, pages(16), 0));
	must(kvmas_kvm_unbind(m->kvm, NORMAL));
	assert_slots(m, "1:0 16-31 ram+0\n");
	machine_free(m);
}

static int stop_at_second(void *data, const struct kvmas_slot *slot)
{
	unsigned *count = data;

	(void)slot;
	return ++*count == 2 ? 42 : 0;
}

static int try_to_change(void *data, const struct kvmas_slot *slot)
{
	struct machine *m = data;

	(void)slot;
	assert_int_equal(kvmas_begin(m->f->kvmas), -EBUSY);
	assert_int_equal(kvmas_kvm_unbind(m->kvm, 0), -EBUSY);
	return 0;
}

static void for_each_slot_stops_at_what_fn_returns(void **state)
{
	struct machine *m = *state;
	unsigned count = 0;

	for (unsigned i = 0; i < 4; i++)
		put_ram(m, i % 2, "ram", 32 - 8 * i, 4);
	assert_int_equal(kvmas_kvm_for_each_slot(m->kvm, stop_at_second, &count), 42);
	assert_int_equal(count, 2);
	assert_slots(m, "0:1 16-19 ram+0\n"
			"0:0 32-35 ram+0\n"
			"1:1 8-11 ram+0\n"
			"1:0 24-27 ram+0\n");
}

static void change_inside_for_each_slot_is_ebusy(void **state)
{
	struct machine *m = *state;

	put_ram(m, NORMAL, "ram", 0, 4);
	must(kvmas_kvm_for_each_slot(m->kvm, try_to_change, m));
	must(kvmas_kvm_unbind(m->kvm, 0));
}

/* ---- the checkers ---- */

static void plant_lost_slot(struct machine *m)
{
	must(set_own_slot(m, NORMAL, 0, 0, 0));
}

static void plant_new_slot(struct machine *m)
{
	must(set_own_slot(m, SMM, 7, 64, 1));
}

static void plant_flags(struct machine *m)
{
	fake_kvm_find(m->vm, NORMAL, 0)->flags ^= RO;
}

static void plant_used_id(struct machine *m)
{
	kas_id_set(m->kvm->spaces[SMM].slots.used, 9, true);
}

/* In both, but not in the view. */
static void plant_slot_in_both(struct machine *m)
{
	struct kvmas_slot slot = *kas_slots_at(&m->kvm->spaces[NORMAL].slots, 0);

	slot.as_id = SMM;
	must(kas_kvm_set_slot(m->kvm, &slot));
	must(kas_slots_reserve_room(m->f->kvmas, &m->kvm->spaces[SMM].slots, 1));
	kas_slots_insert(&m->kvm->spaces[SMM].slots, &slot, 0);
}

static void plant_log_in_both(struct machine *m)
{
	struct kvmas_slot slot = *kas_slots_at(&m->kvm->spaces[NORMAL].slots, 0);

	slot.flags |= LOG;
	must(kas_kvm_set_slot(m->kvm, &slot));
	kas_slots_replace(&m->kvm->spaces[NORMAL].slots, &slot, 0);
}

static void plant_missing_in_both(struct machine *m)
{
	must(kas_kvm_delete_slot(m->kvm, NORMAL, 0));
	kas_slots_remove(&m->kvm->spaces[NORMAL].slots, 0);
}

static void checkers_find_planted_corruption(void **state)
{
	static void (*const plants[])(struct machine *) = {
		plant_lost_slot,    plant_new_slot,    plant_flags,           plant_used_id,
		plant_slot_in_both, plant_log_in_both, plant_missing_in_both,
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(plants); i++) {
		struct machine *m = machine_new(NULL);

		put_ram(m, NORMAL, "ram", 0, 4);
		assert_null(machine_wrong(m));
		plants[i](m);
		if (!machine_wrong(m))
			fail_msg("plant %zu was not found", i);
		machine_drop(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TABLE_TEST(new_table_is_empty_and_valid),
		TABLE_TEST(inserted_slots_are_sorted_by_gpa),
		TABLE_TEST(removed_slot_frees_its_id_alone),
		TABLE_TEST(replaced_slot_moves_to_its_new_place),
		TABLE_TEST(table_holds_the_blocks_of_its_slots),
		TABLE_TEST(reserved_ids_are_not_free),
		TABLE_TEST(room_once_made_is_kept),
		TABLE_TEST(room_that_cannot_be_made_leaves_the_table_as_it_was),
		TABLE_TEST(seek_finds_the_first_slot_that_ends_behind),
		TABLE_TEST(seams_are_counted_as_slots_come_and_go),
		TABLE_TEST(slots_remember_when_they_were_born),
		TABLE_TEST(init_without_memory_returns_enomem_and_leaks_nothing),
		TABLE_TEST(validate_finds_planted_corruption),
		KVM_TEST(reserve_ids_refuses),
		KVM_TEST(reserved_ids_stay_the_vmms_own),
		KVM_TEST(slots_free_counts_what_is_neither_used_nor_reserved),
		KVM_TEST(slots_that_do_not_suffice_give_enospc_before_the_first_ioctl),
		KVM_TEST(for_each_slot_stops_at_what_fn_returns),
		KVM_TEST(change_inside_for_each_slot_is_ebusy),
		cmocka_unit_test(checkers_find_planted_corruption),
	};

	return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Event channels in two spaces: KVM's one bus is right only where each space shows the same bytes
 * of the same device, or memory that has a slot. What is not right fires all the same, by dispatch,
 * in the space that shows it, and nowhere else.
 */
#include "channel-fixture.h"

#include "kvm/vm.h"

#define GPA pages(4)

static void play_ram_in_smm(struct rig *r)
{
	struct kvmas_region *ram = make_ram(r->m->f, "smram", pages(2));
	unsigned char *bytes = kvmas_ram_get_hva(block_of(ram));

	put_ram(r->m, NORMAL, "low", 0, 1);
	put_both(r, "a", GPA, 0);
	add(r->m->root[SMM], ram, pages(3), 1);
	assert_placed(r, 2, 0);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	assert_exits(r, 0);
	look(r, "a+10/4=2 #0x1 ");
	assert_int_equal(bytes[pages(1)], 1);
	assert_int_equal(bytes[pages(1) + 0x10], 2);
	must(kvmas_region_set_readonly(ram, true));
	assert_placed(r, 0, 2);
	store_both(r, NORMAL, GPA);
	memset(bytes, 0, pages(2));
	store_both(r, SMM, GPA);
	assert_int_equal(bytes[pages(1)] | bytes[pages(1) + 0x10], 0);
	look(r, "a+10/4=2 #0x1 ");
	must(kvmas_region_set_readonly(ram, false));
	assert_placed(r, 2, 0);
	must(kvmas_region_del(ram));
	store_both(r, SMM, GPA);
	look(r, "a+10/4=2 #0x1 ");
}

static void device_that_is_ram_in_smm_is_right_on_the_bus(void **state)
{
	(void)state;
	play(play_ram_in_smm);
}

/* The reverse: the device is seen in SMM alone. */
static void play_ram_in_normal(struct rig *r)
{
	struct kvmas_region *a = make_device(r, "a", pages(1));
	struct kvmas_region *ram = put_ram(r->m, NORMAL, "ram", 3, 2);
	unsigned char *bytes = kvmas_ram_get_hva(block_of(ram));

	add(r->m->root[SMM], a, GPA, 1);
	add_both(r, a, 0);
	assert_placed(r, 2, 0);
	store_both(r, SMM, GPA);
	store_both(r, NORMAL, GPA);
	assert_int_equal(bytes[pages(1) + 0x10], 2);
	look(r, "a+10/4=2 #0x1 ");
	must(kvmas_region_del(ram));
	assert_placed(r, 0, 2);
	store_both(r, SMM, GPA);
	store_both(r, NORMAL, GPA);
	look(r, "a+10/4=2 #0x1 ");
}

static void device_in_smm_over_ram_is_right_on_the_bus(void **state)
{
	(void)state;
	play(play_ram_in_normal);
}

static void play_other_device(struct rig *r)
{
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	struct kvmas_region *b = make_device(r, "b", 0x20);

	add(r->m->root[SMM], b, GPA, 1);
	add_both(r, b, 1);
	assert_placed(r, 0, 4);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	look(r, "a+10/4=2 b+10/4=2 #0x1 #1x1 ");
	must(kvmas_region_set_offset(b, GPA + 0x10));
	assert_placed(r, 1, 3);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA + 0x10);
	store_both(r, SMM, GPA);
	look(r, "a+10/4=2 b+10/4=2 #0x2 #1x2 ");
	must(kvmas_region_set_offset(b, pages(6)));
	assert_placed(r, 2, 2);
	store_both(r, NORMAL, pages(6));
	store_both(r, SMM, pages(6));
	look(r, "b+10/4=2 #1x1 ");
	must(kvmas_region_del(a));
	add(r->m->root[NORMAL], a, pages(6), 0);
	assert_placed(r, 0, 4);
	store_both(r, NORMAL, pages(6));
	store_both(r, SMM, pages(6));
	look(r, "a+10/4=2 b+10/4=2 #0x1 #1x1 ");
}

static void channel_fires_in_the_space_that_shows_it(void **state)
{
	(void)state;
	play(play_other_device);
}

static void play_same_device_elsewhere(struct rig *r)
{
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	struct kvmas_region *shifted = make_alias(r->m->f, "shifted", a, 8, 0x100);

	add(r->m->root[SMM], shifted, GPA, 1);
	assert_placed(r, 0, 3);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	store(r, 0, SMM, GPA + 8, 3, 4);
	look(r, "a+10/4=2 a+8/4=1 a+18/4=2 a+10/4=3 #0x1 ");
	must(kvmas_region_set_alias_offset(shifted, 0));
	assert_placed(r, 2, 0);
	store_both(r, SMM, GPA);
	look(r, "a+10/4=2 #0x1 ");
}

static void same_device_at_another_offset_is_another_place(void **state)
{
	(void)state;
	play(play_same_device_elsewhere);
}

/* The last page of RAM in SMM is only half: no slot shows it. */
static void play_page_edges(struct rig *r)
{
	struct kvmas_region *ram = make_ram(r->m->f, "smram", pages(1) + 0x800);
	unsigned char *bytes = kvmas_ram_get_hva(block_of(ram));
	struct kvmas_region *a = put_both(r, "a", GPA, 0);

	must(add_event(r, a, 0x900, 4, 1));
	add(r->m->root[SMM], ram, pages(3), 1);
	assert_placed(r, 1, 2);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	store(r, 0, SMM, GPA + 0x900, 1, 4);
	assert_int_equal(bytes[pages(1)], 1);
	assert_int_equal(bytes[pages(1) + 0x10], 2);
	look(r, "a+10/4=2 #0x1 #1x1 ");
	must(kvmas_region_set_size(ram, pages(2)));
	look(r, "");
}

/* Pages of the guest that are none of the host's have no slot either. */
static void play_shifted_ram(struct rig *r)
{
	struct kvmas_region *ram = make_ram(r->m->f, "smram", pages(4));
	unsigned char *bytes = kvmas_ram_get_hva(block_of(ram));

	put_ram(r->m, NORMAL, "low", 0, 1);
	put_both(r, "a", GPA, 0);
	add(r->m->root[SMM], ram, pages(3) + 0x800, 1);
	assert_placed(r, 0, 2);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	assert_int_equal(bytes[0x800], 1);
	assert_int_equal(bytes[0x810], 2);
	look(r, "a+10/4=2 #0x1 ");
	must(kvmas_region_set_offset(ram, pages(3)));
	assert_placed(r, 2, 0);
	store_both(r, SMM, GPA);
	assert_int_equal(bytes[pages(1)], 1);
}

static void ram_that_lies_across_pages_is_no_reason_for_the_bus(void **state)
{
	(void)state;
	play(play_shifted_ram);
}

static void ram_without_a_slot_is_no_reason_for_the_bus(void **state)
{
	(void)state;
	play(play_page_edges);
}

static void play_reserved(struct rig *r)
{
	struct kvmas_region *ram = make_ram(r->m->f, "smram", pages(4));
	struct kvmas_region *window =
		make_region(r->m->f, (struct kvmas_region_config){.kind = KVMAS_REGION_RESERVED,
								  .name = "window",
								  .size = pages(1)});

	put_ram(r->m, NORMAL, "low", 0, 1);
	put_both(r, "a", GPA, 0);
	add(r->m->root[SMM], ram, pages(3), 1);
	assert_placed(r, 2, 0);
	add(r->m->root[SMM], window, GPA, 2);
	assert_placed(r, 0, 2);
	store_both(r, SMM, GPA);
	store_both(r, NORMAL, GPA);
	look(r, "a+10/4=2 #0x1 ");
	must(kvmas_region_del(window));
	assert_placed(r, 2, 0);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_kvm_reserve_range(r->m->kvm, GPA, pages(1)));
	must(kvmas_abort(r->m->f->kvmas));
	assert_placed(r, 2, 0);
	must(kvmas_kvm_reserve_range(r->m->kvm, GPA, pages(1)));
	assert_placed(r, 0, 2);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	look(r, "a+10/4=2 #0x1 ");
}

static void reserved_ranges_have_no_slots(void **state)
{
	(void)state;
	play(play_reserved);
}

/* A write may go on where another device is: that hears its part. */
static void play_write_over_the_end(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, 0x10);
	struct kvmas_region *b = make_device(r, "b", 0x10);

	must(add_event(r, a, 0xc, 0, 0));
	assert_placed(r, 1, 0);
	store(r, 0, NORMAL, GPA + 0xc, 1, 8);
	assert_exits(r, 0);
	add(r->m->root[NORMAL], b, GPA + 0x10, 0);
	assert_placed(r, 0, 1);
	store(r, 0, NORMAL, GPA + 0xc, UINT64_C(0x500000002), 8);
	store(r, 0, NORMAL, GPA + 0xc, 3, 4);
	look(r, "b+0/4=5 #0x3 ");
	must(kvmas_region_set_offset(b, GPA + 0x14));
	assert_placed(r, 1, 0);
}

static void any_size_right_before_another_device_is_left_to_dispatch(void **state)
{
	(void)state;
	play(play_write_over_the_end);
}

/* One space shows a zone whole, the other its first page, with RAM behind. */
static void play_zone_and_its_part(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, pages(2));
	struct kvmas_region *ram = make_ram(r->m->f, "ram", pages(1));
	struct kvmas_region *b = make_device(r, "b", pages(1));

	put_ram(r->m, NORMAL, "low", 0, 1);
	must(kvmas_region_add_coalesced(a, 0, pages(2), 0));
	add(r->m->root[SMM], ram, pages(5), 1);
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 0, SMM, GPA + 4, 2, 4);
	store(r, 0, NORMAL, pages(5), 3, 4);
	store(r, 0, SMM, pages(5) + 4, 4, 4);
	assert_exits(r, 0);
	look(r, "a+0/4=1 a+4/4=2 a+1000/4=3 ");
	if (r->is_complete)
		assert_counted(r, 1, 0);
	must(kvmas_region_del(ram));
	store(r, 0, NORMAL, GPA, 5, 4);
	store(r, 0, SMM, pages(5), 6, 4);
	assert_exits(r, 0);
	look(r, "a+0/4=5 a+1000/4=6 ");
	if (r->is_complete)
		assert_counted(r, 1, 0);
	add(r->m->root[SMM], b, pages(5), 1);
	store(r, 0, NORMAL, GPA, 7, 4);
	store(r, 0, SMM, GPA, 8, 4);
	assert_exits(r, 0);
	store(r, 0, NORMAL, pages(5), 9, 4);
	store(r, 0, SMM, pages(5), 10, 4);
	assert_exits(r, 2);
	if (r->is_complete)
		assert_counted(r, 1, 1);
	look(r, "a+0/4=7 a+0/4=8 a+1000/4=9 b+0/4=a ");
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_region_del(b));
	add(r->m->root[SMM], ram, pages(5), 1);
	must(kvmas_commit(r->m->f->kvmas));
	if (r->is_complete)
		assert_counted(r, 1, 0);
	store(r, 0, NORMAL, GPA, 11, 4);
	store(r, 0, NORMAL, pages(5), 12, 4);
	look(r, "a+0/4=b a+1000/4=c ");
}

static void zone_that_another_space_shows_a_part_of_is_in_kvm(void **state)
{
	(void)state;
	play(play_zone_and_its_part);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_that_is_ram_in_smm_is_right_on_the_bus),
		cmocka_unit_test(device_in_smm_over_ram_is_right_on_the_bus),
		cmocka_unit_test(channel_fires_in_the_space_that_shows_it),
		cmocka_unit_test(same_device_at_another_offset_is_another_place),
		cmocka_unit_test(ram_that_lies_across_pages_is_no_reason_for_the_bus),
		cmocka_unit_test(ram_without_a_slot_is_no_reason_for_the_bus),
		cmocka_unit_test(reserved_ranges_have_no_slots),
		cmocka_unit_test(any_size_right_before_another_device_is_left_to_dispatch),
		cmocka_unit_test(zone_that_another_space_shows_a_part_of_is_in_kvm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

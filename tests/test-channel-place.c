/* SPDX-License-Identifier: MIT */
/*
 * Where channels are: they follow their region through everything that a tree can do, are there
 * only where it is seen, and are given to KVM only where its one bus is right for all spaces. What
 * stores lead to is the same in all mixtures of KVM and hand; assert_placed says what KVM has when
 * it can have all.
 */
#include "channel-fixture.h"

#include "kvm/vm.h"

#define GPA pages(4)

/* ---- where the region goes ---- */

static void play_moves(struct rig *r)
{
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	struct kvmas_region *bridge = make_container(r->m->f, "bridge", pages(4));

	store_both(r, NORMAL, GPA);
	must(kvmas_region_set_offset(a, pages(5)));
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, pages(5));
	assert_exits(r, 2);
	look(r, "a+10/4=2 a+10/4=2 #0x2 ");
	must(kvmas_region_set_offset(a, pages(5) + 0x40));
	store_both(r, NORMAL, pages(5) + 0x40);
	must(kvmas_region_del(a));
	store_both(r, NORMAL, pages(5) + 0x40);
	add(bridge, a, pages(1), 0);
	add(r->m->root[NORMAL], bridge, pages(8), 0);
	store_both(r, NORMAL, pages(9));
	must(kvmas_region_set_offset(bridge, pages(12)));
	store_both(r, NORMAL, pages(13));
	look(r, "a+10/4=2 a+10/4=2 a+10/4=2 #0x3 ");
	must(kvmas_region_set_enabled(bridge, false));
	assert_placed(r, 0, 0);
	store_both(r, NORMAL, pages(13));
	must(kvmas_region_set_enabled(bridge, true));
	assert_placed(r, 2, 0);
	must(kvmas_region_set_size(bridge, pages(1) + 0x14));
	store_both(r, NORMAL, pages(13));
	store(r, 0, NORMAL, pages(13) + 0x14, 3, 4);
	look(r, "a+10/4=2 #0x1 ");
	assert_placed(r, 2, 0);
	must(kvmas_region_set_size(bridge, pages(1) + 3));
	store_both(r, NORMAL, pages(13));
	assert_placed(r, 0, 0);
	look(r, "a+0/2=1 a+2/1=0 ");
}

static void channels_go_where_the_region_goes(void **state)
{
	(void)state;
	play(play_moves);
}

static void play_hiding(struct rig *r)
{
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	struct kvmas_region *c = make_device(r, "c", 0x14);

	must(kvmas_region_set_enabled(a, false));
	store_both(r, NORMAL, GPA);
	must(kvmas_region_set_enabled(a, true));
	add(r->m->root[NORMAL], c, GPA + 2, 1);
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 0, NORMAL, GPA + 0x10, 2, 4);
	store(r, 0, NORMAL, GPA + 0x16, 3, 2);
	store(r, 0, NORMAL, GPA + 0x1c, 4, 4);
	assert_placed(r, 1, 0);
	look(r, "a+0/2=1 c+0/2=0 c+e/2=2 c+10/2=0 a+16/2=3 a+1c/4=4 ");
	must(kvmas_region_set_priority(c, -1));
	assert_placed(r, 2, 0);
	store_both(r, NORMAL, GPA);
	look(r, "a+10/4=2 #0x1 ");
	must(kvmas_region_set_readonly(a, true));
	assert_placed(r, 0, 0);
	store_both(r, NORMAL, GPA);
	load(r, 0, NORMAL, GPA, 1);
	must(kvmas_region_set_readonly(a, false));
	store_both(r, NORMAL, GPA);
	look(r, "a?0/1 a+10/4=2 #0x1 ");
	must(kvmas_region_set_readonly(r->m->root[NORMAL], true));
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	assert_placed(r, 0, 0);
	must(kvmas_region_set_readonly(r->m->root[NORMAL], false));
	must(kvmas_region_set_readonly(r->mirror, true));
	store_both(r, SMM, GPA);
	store_both(r, NORMAL, GPA);
	assert_placed(r, 0, 2);
	look(r, "a+10/4=2 #0x1 ");
}

static void channels_are_only_where_the_region_is_seen_and_writable(void **state)
{
	(void)state;
	play(play_hiding);
}

static void play_aliases(struct rig *r)
{
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	struct kvmas_region *twice = make_alias(r->m->f, "twice", a, 0, pages(1));
	struct kvmas_region *part = make_alias(r->m->f, "part", a, 0x14, 0x100);

	add(r->m->root[NORMAL], twice, pages(6), 0);
	add(r->m->root[NORMAL], part, pages(8), 0);
	assert_placed(r, 5, 0);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, pages(6));
	store(r, 0, NORMAL, pages(8), 3, 8);
	store(r, 0, NORMAL, pages(8) + 8, 4, 8);
	assert_exits(r, 1);
	look(r, "a+10/4=2 a+10/4=2 a+14/4=3 a+18/4=0 a+1c/4=4 a+20/4=0 #0x2 ");
	must(kvmas_region_set_alias_offset(part, 0));
	store_both(r, NORMAL, pages(8));
	must(kvmas_region_set_alias(twice, make_container(r->m->f, "empty", pages(1)), 0));
	store_both(r, NORMAL, pages(6));
	assert_placed(r, 4, 0);
	look(r, "a+10/4=2 #0x1 ");
	must(add_event(r, a, 8, 4, 1));
	store(r, 0, NORMAL, pages(8) + 8, 1, 4);
	store(r, 0, NORMAL, GPA + 8, 1, 4);
	assert_placed(r, 6, 0);
	look(r, "#1x2 ");
}

static void region_that_is_seen_twice_has_its_channels_twice(void **state)
{
	(void)state;
	play(play_aliases);
}

static void play_romd(struct rig *r)
{
	struct kvmas_ram *block = make_block(r->m->f, "flash", 2);
	struct device *device = &r->devices[r->ndevices++];
	struct kvmas_ops ops;
	struct kvmas_region *like = make_device(r, "like", 8);

	ops = like->ops;
	ops.struct_size = sizeof(ops);
	*device = (struct device){.rig = r, .name = "flash"};
	must(kvmas_region_new(r->m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_ROMD, .name = "flash",
					   .size = pages(2), .ram = block, .ops = &ops,
					   .opaque = device),
			      &device->region));
	kvmas_ram_unref(block);
	add(r->m->root[NORMAL], device->region, GPA, 0);
	add_both(r, device->region, 0);
	assert_placed(r, 2, 0);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	assert_exits(r, 0);
	assert_int_equal(load(r, 0, NORMAL, GPA, 4), 0);
	must(kvmas_region_set_romd(device->region, false));
	store_both(r, NORMAL, GPA);
	assert_int_equal(load(r, 0, NORMAL, GPA, 1), 0x11);
	assert_placed(r, 2, 0);
	look(r, "flash+10/4=2 flash+10/4=2 flash+10/4=2 flash?0/1 #0x3 ");
}

static void rom_device_has_its_channels_in_both_states(void **state)
{
	(void)state;
	play(play_romd);
}

static void play_resize(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, 0x100);

	must(add_event(r, a, 0xfc, 4, 0));
	must(kvmas_region_add_coalesced(a, 0xe0, 0x10, 0));
	assert_placed(r, 2, 0);
	must(kvmas_region_set_size(a, 0xfe));
	store(r, 0, NORMAL, GPA + 0xfc, 1, 4);
	assert_placed(r, 1, 0);
	must(kvmas_region_set_size(a, 0xe8));
	store(r, 0, NORMAL, GPA + 0xe4, 2, 4);
	store(r, 0, NORMAL, GPA + 0xe8, 3, 4);
	store(r, 0, NORMAL, GPA + 0xfc, 4, 4);
	assert_placed(r, 1, 0);
	must(kvmas_region_set_size(a, 0xe0));
	assert_placed(r, 0, 0);
	assert_int_equal(add_event(r, a, 0xe0, 1, 1), -EINVAL);
	look(r, "a+fc/2=1 a+e4/4=2 ");
	must(kvmas_region_set_size(a, 0x200));
	store(r, 0, NORMAL, GPA + 0xfc, 5, 4);
	store(r, 0, NORMAL, GPA + 0xe8, 6, 4);
	assert_placed(r, 2, 0);
	look(r, "a+e8/4=6 #0x1 ");
}

static void region_that_shrinks_hides_its_channels(void **state)
{
	(void)state;
	play(play_resize);
}

/* ---- bindings ---- */

static void play_bindings(struct rig *r)
{
	struct kvmas_kvm *kvm = r->m->kvm;

	put_both(r, "a", GPA, 0);
	must(kvmas_kvm_unbind(kvm, SMM));
	assert_placed(r, 2, 0);
	store_both(r, SMM, pages(9)); /* no space: nobody answers */
	must(kvmas_kvm_unbind(kvm, NORMAL));
	assert_placed(r, 0, 0);
	store_both(r, NORMAL, GPA);
	must(kvmas_kvm_bind(kvm, r->m->space[SMM], NORMAL));
	store_both(r, NORMAL, GPA);
	look(r, "a+10/4=2 #0x1 ");
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_kvm_unbind(kvm, NORMAL));
	must(kvmas_kvm_bind(kvm, r->m->space[NORMAL], SMM));
	must(kvmas_abort(r->m->f->kvmas));
	store_both(r, NORMAL, GPA);
	assert_placed(r, 2, 0);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_kvm_unbind(kvm, NORMAL));
	must(kvmas_kvm_bind(kvm, r->m->space[NORMAL], NORMAL));
	must(kvmas_kvm_bind(kvm, r->m->space[SMM], SMM));
	must(kvmas_commit(r->m->f->kvmas));
	store_both(r, SMM, GPA);
	look(r, "a+10/4=2 a+10/4=2 #0x2 ");
}

static void channels_are_in_bound_spaces_only(void **state)
{
	(void)state;
	play(play_bindings);
}

static void play_pio_space(struct rig *r)
{
	struct kvmas_region *p = put_ports(r, "p", 0x40, 0x20);
	struct kvmas_region *q = make_device(r, "q", 0x20);
	struct kvmas_region *other = make_container(r->m->f, "other", 0x10000);
	struct kvmas_space *space = make_space(r->m->f, "other", other);
	struct kvmas_kvm *kvm = r->m->kvm;

	add_both(r, p, 0);
	add(other, q, 0x40, 0);
	add_both(r, q, 1);
	store_both(r, PORTS, 0x40);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_kvm_set_pio_space(kvm, space));
	store_both(r, PORTS, 0x40);
	must(kvmas_commit(r->m->f->kvmas));
	store_both(r, PORTS, 0x40);
	assert_placed(r, 2, 0);
	look(r, "p+10/4=2 p+10/4=2 q+10/4=2 #0x2 #1x1 ");
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_kvm_set_pio_space(kvm, NULL));
	must(kvmas_abort(r->m->f->kvmas));
	store_both(r, PORTS, 0x40);
	must(kvmas_kvm_set_pio_space(kvm, NULL));
	store_both(r, PORTS, 0x40);
	assert_placed(r, 0, 0);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_kvm_set_pio_space(kvm, space));
	must(kvmas_kvm_set_pio_space(kvm, r->ports));
	must(kvmas_region_set_offset(p, 0x60));
	must(kvmas_commit(r->m->f->kvmas));
	store_both(r, PORTS, 0x60);
	look(r, "q+10/4=2 p+10/4=2 #0x1 #1x1 ");
}

static void channels_of_ports_follow_the_space_of_ports(void **state)
{
	(void)state;
	play(play_pio_space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(channels_go_where_the_region_goes),
		cmocka_unit_test(channels_are_only_where_the_region_is_seen_and_writable),
		cmocka_unit_test(region_that_is_seen_twice_has_its_channels_twice),
		cmocka_unit_test(rom_device_has_its_channels_in_both_states),
		cmocka_unit_test(region_that_shrinks_hides_its_channels),
		cmocka_unit_test(channels_are_in_bound_spaces_only),
		cmocka_unit_test(channels_of_ports_follow_the_space_of_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * What KVM takes of event channels, and what it does not: full buses, channels that must be in KVM,
 * what a dry run and the dump tell; who may edit channels when; and a ring that stays full.
 */
#include "channel-fixture.h"

#include "kvm/vm.h"

#define GPA pages(4)

/* ---- full buses, and musts ---- */

static void full_bus_leaves_the_rest_to_dispatch(void **state)
{
	const struct fake_kvm_config config = {.bus_devices = 3};
	struct rig *r = rig_new(&config);
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	struct kvmas_region *b = put_device(r, "b", pages(6), pages(1));

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		must(kvmas_region_add_coalesced(a, 0x40 * i, 8, 0));
	must(add_event(r, a, 0x800, 4, 0));
	must(add_event(r, b, 0, 4, 1));
	assert_counted(r, 3, 4);
	for (unsigned i = 0; i < 5; i++)
		store(r, 0, NORMAL, GPA + 0x40 * i, i, 4);
	store(r, 0, NORMAL, GPA + 0x800, 1, 4);
	store(r, 0, NORMAL, pages(6), 1, 4);
	look(r, "a+0/4=0 a+40/4=1 a+80/4=2 a+c0/4=3 a+100/4=4 #0x1 #1x1 ");
	/* Ioeventfds take no place, but none comes while there is none. */
	must(kvmas_region_del_coalesced(a, 0, 8));
	look(r, "");
	assert_int_equal(stats_of(r->m).channels_in_kvm, 3);
	must(kvmas_region_del_coalesced(a, 0x40, 8));
	must(kvmas_region_del_coalesced(a, 0x80, 8));
	assert_counted(r, 4, 0);
	for (unsigned i = 3; i < 5; i++)
		assert_false(store(r, 0, NORMAL, GPA + 0x40 * i, i, 4));
	assert_false(store(r, 0, NORMAL, GPA + 0x800, 1, 4));
	look(r, "a+c0/4=3 a+100/4=4 #0x1 ");
	rig_free(r);
}

static void three_thousand_channels_all_work(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", pages(4), pages(8));
	char *expected = NULL;

	must(kvmas_begin(r->m->f->kvmas));
	for (unsigned i = 0; i < 1500; i++) {
		must(add_event(r, a, 16 * i, 8, 0));
		must(kvmas_region_add_coalesced(a, 16 * i + 8, 8, 0));
	}
	must(kvmas_commit(r->m->f->kvmas));
	assert_int_equal(r->m->vm->buses[FAKE_KVM_MMIO_BUS].ndevices -
				 r->m->vm->buses[FAKE_KVM_MMIO_BUS].nevents,
			 1000);
	for (unsigned i = 0; i < 1500; i++) {
		store(r, 0, NORMAL, pages(4) + 16 * i, i, 8);
		store(r, 0, NORMAL, pages(4) + 16 * i + 8, i, 8);
		text_add(&expected, "a+%x/8=%x ", 16 * i + 8, i);
	}
	text_add(&expected, "#0x1500 ");
	look(r, expected);
	free(expected);
	must(kvmas_region_del(a));
	assert_counted(r, 0, 0);
}

static void must_that_would_be_wrong_returns_eopnotsupp(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	struct kvmas_region *b = make_device(r, "b", 8);
	const struct kvmas_ioeventfd_config must_have = {.struct_size = sizeof(must_have),
							 .size = 4,
							 .fd = r->events[0],
							 .flags = KVMAS_CHANNEL_MUST};
	char *before, *after;

	must(kvmas_region_add_ioeventfd(a, &must_have));
	must(kvmas_region_add_coalesced(a, 8, 8, KVMAS_CHANNEL_MUST));
	before = rig_text(r);
	assert_int_equal(kvmas_region_add(r->m->root[SMM], b, GPA, 1), -EOPNOTSUPP);
	assert_int_equal(kvmas_region_add(r->m->root[SMM], b, GPA + 8, 1), -EOPNOTSUPP);
	must(kvmas_region_add(r->m->root[SMM], b, GPA + 0x10, 1));
	must(kvmas_region_del(b));
	must(kvmas_kvm_unbind(r->m->kvm, SMM));
	must(kvmas_region_set_enabled(r->mirror, false));
	assert_int_equal(kvmas_kvm_bind(r->m->kvm, r->m->space[SMM], SMM), -EOPNOTSUPP);
	must(kvmas_region_set_enabled(r->mirror, true));
	must(kvmas_kvm_bind(r->m->kvm, r->m->space[SMM], SMM));
	after = rig_text(r);
	assert_string_equal(after, before);
	free(before);
	free(after);
	store(r, 0, SMM, GPA, 1, 4);
	store(r, 0, SMM, GPA + 8, 1, 4);
	assert_exits(r, 0);
	must(kvmas_region_del_coalesced(a, 8, 8));
	must(kvmas_region_add(r->m->root[SMM], b, GPA + 8, 1));
	must(kvmas_region_del_ioeventfd(
		a, KVMAS_CONFIG(ioeventfd, .size = 4, .fd = -1))); /* MUST is not looked at */
	look(r, "a+8/4=1 #0x1 ");
}

static void must_that_kvm_refuses_returns_eopnotsupp(void **state)
{
	const struct fake_kvm_config config = {.bus_devices = 1};
	struct rig *r = rig_new(&config);
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	struct kvmas_region *ram = make_ram(r->m->f, "ram", pages(1));
	char *before, *after;

	(void)state;
	must(kvmas_region_add_coalesced(a, 0, 8, 0));
	forget_notes(r->m->f);
	before = rig_text(r);
	assert_int_equal(kvmas_region_add_coalesced(a, 8, 8, KVMAS_CHANNEL_MUST), -EOPNOTSUPP);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_region_add(r->m->root[NORMAL], ram, pages(8), 0));
	must(kvmas_region_set_offset(a, pages(5)));
	must(kvmas_region_add_coalesced(a, 8, 8, KVMAS_CHANNEL_MUST));
	must(kvmas_region_add_coalesced(a, 0x18, 8, KVMAS_CHANNEL_MUST));
	assert_int_equal(kvmas_commit(r->m->f->kvmas), -EOPNOTSUPP);
	after = rig_text(r);
	assert_string_equal(after, before);
	free(before);
	free(after);
	assert_int_equal(fake_kvm_vcpu_store(r->cpus[0].cpu, NORMAL, GPA, "x", 1), 0);
	look(r, "a+0/1=78 ");
	/* In the place of the one that goes. */
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_region_del_coalesced(a, 0, 8));
	must(kvmas_region_add_coalesced(a, 8, 8, KVMAS_CHANNEL_MUST));
	must(kvmas_commit(r->m->f->kvmas));
	assert_counted(r, 1, 0);
	rig_free(r);
}

static void must_of_what_kvm_has_not_returns_eopnotsupp(void **state)
{
	const struct fake_kvm_config config = {.no_ioeventfd = true, .no_coalesced_pio = true};
	struct rig *r = rig_new(&config);
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	struct kvmas_region *p = put_ports(r, "p", 0x40, 8);

	(void)state;
	assert_int_equal(
		kvmas_region_add_ioeventfd(a, KVMAS_CONFIG(ioeventfd, .size = 4, .fd = r->events[0],
							   .flags = KVMAS_CHANNEL_MUST)),
		-EOPNOTSUPP);
	assert_int_equal(kvmas_region_add_coalesced(p, 0, 4, KVMAS_CHANNEL_MUST), -EOPNOTSUPP);
	must(kvmas_region_add_coalesced(a, 0, 4, KVMAS_CHANNEL_MUST));
	assert_counted(r, 1, 0);
	rig_free(r);
}

/* ---- what a dry run tells ---- */

static void dry_run_counts_channels(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	struct kvmas_kvm_plan plan = {.struct_size = sizeof(plan)};
	struct kvmas_kvm_stats before = stats_of(r->m), after;

	must(kvmas_kvm_dry_run(r->m->kvm, NULL, NULL, &plan));
	assert_int_equal(plan.channel_makes + plan.channel_unmakes, 0);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_region_set_offset(a, pages(6)));
	must(add_event(r, a, 0x40, 4, 1));
	must(kvmas_kvm_dry_run(r->m->kvm, NULL, NULL, &plan));
	assert_int_equal(plan.channel_makes, 3);
	assert_int_equal(plan.channel_unmakes, 2);
	after = stats_of(r->m);
	assert_int_equal(after.channel_makes, before.channel_makes);
	must(kvmas_commit(r->m->f->kvmas));
	after = stats_of(r->m);
	assert_int_equal(after.channel_makes - before.channel_makes, 3);
	assert_int_equal(after.channel_unmakes - before.channel_unmakes, 2);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_kvm_unbind(r->m->kvm, SMM));
	must(kvmas_kvm_dry_run(r->m->kvm, NULL, NULL, &plan));
	assert_int_equal(plan.channel_makes + plan.channel_unmakes, 0);
	must(kvmas_region_set_readonly(a, true));
	must(kvmas_kvm_dry_run(r->m->kvm, NULL, NULL, &plan));
	assert_int_equal(plan.channel_makes, 0);
	assert_int_equal(plan.channel_unmakes, 3);
	must(kvmas_abort(r->m->f->kvmas));
	look(r, "");
	assert_counted(r, 3, 0);
}

static void dry_run_of_a_must_returns_what_the_commit_would(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	struct kvmas_region *b = make_device(r, "b", 8);

	must(kvmas_region_add_coalesced(a, 0, 8, KVMAS_CHANNEL_MUST));
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_region_add(r->m->root[SMM], b, GPA, 1));
	assert_int_equal(kvmas_kvm_dry_run(r->m->kvm, NULL, NULL, NULL), -EOPNOTSUPP);
	must(kvmas_abort(r->m->f->kvmas));
	must(kvmas_kvm_dry_run(r->m->kvm, NULL, NULL, NULL));
}

static void dump_says_who_sees_to_what(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *b = make_device(r, "b", 8);
	struct kvmas_region *p = put_ports(r, "p", 0x40, 8);
	char *text;

	put_both(r, "a", 0x4000, 0);
	add(r->m->root[SMM], b, 0x4000, 1);
	must(add_event(r, p, 4, 2, 1));
	text = state_text(r->m->f);
	assert_non_null(strstr(
		text, "kvm event channels: 3\n"
		      "  0000000000004000-0000000000004003 mmio ioeventfd of a, by dispatch, "
		      "the bus would be wrong\n"
		      "  0000000000004010-000000000000401f mmio coalesced zone of a, in KVM\n"
		      "  0000000000000044-0000000000000045 pio ioeventfd of p, in KVM\n"));
	free(text);
}

/* ---- edits from callbacks, and from listeners ---- */

static void edit_inside(struct device *device, const struct kvmas_access *access)
{
	struct rig *r = device->rig;

	(void)access;
	if (device->ncalls > 1)
		return;
	must(kvmas_begin(r->m->f->kvmas));
	must(add_event(r, device->region, 0x100, 4, 2));
	must(del_event(device->region, 0, 4));
	must(kvmas_region_del_coalesced(device->region, 0x10, 0x10));
	must(kvmas_commit(r->m->f->kvmas));
}

static void play_edit_inside(struct rig *r)
{
	struct kvmas_region *a = put_both(r, "a", GPA, 0);

	device_of(a)->inside = edit_inside;
	store_both(r, NORMAL, GPA);
	store(r, 1, NORMAL, GPA + 0x200, 3, 4);
	store_both(r, NORMAL, GPA);
	store(r, 1, NORMAL, GPA + 0x100, 4, 4);
	assert_placed(r, 1, 0);
	look(r, "a+10/4=2 a+200/4=3 a+0/4=1 a+10/4=2 #0x1 #2x1 ");
}

static void callback_may_edit_channels(void **state)
{
	(void)state;
	play(play_edit_inside);
}

static void edit_in_listener(struct fixture *f)
{
	struct rig *r = f->with;
	struct kvmas_region *a = r->data;

	assert_int_equal(add_event(r, a, 0x40, 4, 1), -EBUSY);
	assert_int_equal(del_event(a, 0, 4), -EBUSY);
	assert_int_equal(kvmas_region_add_coalesced(a, 0x80, 8, 0), -EBUSY);
	assert_int_equal(kvmas_region_del_coalesced(a, 0x10, 0x10), -EBUSY);
	assert_int_equal(kvmas_kvm_drain(r->m->kvm, f->reader), -EBUSY);
	r->err++;
}

static void listener_may_not_edit_channels(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_both(r, "a", GPA, 0);

	make_listener(r->m->f, r->m->space[NORMAL], "x", 0);
	r->data = a;
	r->m->f->with = r;
	r->m->f->inside = edit_in_listener;
	must(kvmas_region_set_offset(a, pages(6)));
	assert_true(r->err >= 4);
	r->m->f->inside = NULL;
	store_both(r, NORMAL, pages(6));
	look(r, "a+10/4=2 #0x1 ");
}

static void edits_that_are_aborted_leave_nothing(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	char *before = rig_text(r), *after;

	must(kvmas_begin(r->m->f->kvmas));
	must(del_event(a, 0, 4));
	must(add_event(r, a, 0, 0, 1));
	must(kvmas_region_del_coalesced(a, 0x10, 0x10));
	must(kvmas_region_add_coalesced(a, 8, 0x10, 0));
	must(kvmas_begin(r->m->f->kvmas));
	must(add_event(r, a, 0x40, 4, 1));
	must(kvmas_commit(r->m->f->kvmas));
	store_both(r, NORMAL, GPA);
	must(kvmas_abort(r->m->f->kvmas));
	after = rig_text(r);
	assert_string_equal(after, before);
	store_both(r, NORMAL, GPA);
	look(r, "a+10/4=2 a+10/4=2 #0x2 ");
	free(before);
	free(after);
}

static void channels_of_a_region_that_dies_in_its_transaction_are_dropped(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = make_device(r, "a", pages(1));

	must(kvmas_begin(r->m->f->kvmas));
	add_both(r, a, 0);
	device_of(a)->region = NULL;
	kvmas_region_unref(a);
	must(kvmas_commit(r->m->f->kvmas));
	a = make_device(r, "b", pages(1));
	must(kvmas_begin(r->m->f->kvmas));
	add_both(r, a, 0);
	device_of(a)->region = NULL;
	kvmas_region_unref(a);
	must(kvmas_abort(r->m->f->kvmas));
	must(kvmas_reclaim(r->m->f->kvmas));
	assert_int_equal(r->m->f->kvmas->nchannelled, 0);
	look(r, "");
}

/* ---- two ties ---- */

static void region_in_two_vms_has_its_channels_in_both(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_both(r, "a", GPA, 0);
	struct fake_kvm_vcpu *cpu;
	struct kvmas_vcpu *vcpu;
	const struct kvmas_dma dma = {.reader = r->m->f->reader, .space = r->m->space[NORMAL]};
	unsigned char byte;

	machine_add_tie(r->m, NULL);
	cpu = fake_kvm_add_vcpu(r->m->vm2);
	must(kvmas_vcpu_add(
		r->m->kvm2,
		KVMAS_CONFIG(vcpu, .fd = cpu->fd, .run = cpu->run, .run_size = cpu->run_size),
		&vcpu));
	must(kvmas_kvm_bind(r->m->kvm2, r->m->space[SMM], NORMAL));
	assert_int_equal(r->m->vm2->buses[FAKE_KVM_MMIO_BUS].ndevices, 2);
	assert_int_equal(fake_kvm_vcpu_store(cpu, NORMAL, GPA, "\1\0\0", 4), 0);
	assert_int_equal(fake_kvm_vcpu_store(cpu, NORMAL, GPA + 0x10, "\5\0\0", 4), 0);
	store_both(r, NORMAL, GPA);
	must(kvmas_dma_read(&dma, GPA, &byte, 1, NULL));
	glance(r, "a+10/4=2 a+10/4=5 a?0/1 #0x2 ");
	assert_int_equal(fake_kvm_vcpu_store(cpu, NORMAL, GPA + 0x10, "\6\0\0", 4), 0);
	must(kvmas_region_set_offset(a, pages(6)));
	must(kvmas_kvm_drain(r->m->kvm2, r->m->f->reader));
	look(r, "a+10/4=6 ");
	assert_null(channels_wrong(r->m->kvm2, r->m->vm2));
	must(kvmas_kvm_unbind(r->m->kvm2, NORMAL));
	assert_int_equal(r->m->vm2->buses[FAKE_KVM_MMIO_BUS].ndevices, 0);
	assert_counted(r, 2, 0);
	kvmas_vcpu_del(vcpu);
}

/* ---- a full ring ---- */

/* Two vCPUs that store 0, 1, 2 ... each to an address of its own. */
struct laps {
	struct rig *r;
	uint64_t made[NCPUS];
	uint64_t arrived[NCPUS];
	unsigned from_ring; /* calls for what was coalesced */
	bool stands;        /* the second vCPU, at an exit that nobody has answered yet */
};

/* False if it exits. */
static bool store_next(struct laps *laps, unsigned cpu)
{
	uint64_t value = laps->made[cpu]++;

	return fake_kvm_vcpu_store(laps->r->cpus[cpu].cpu, NORMAL, GPA + 8 * cpu, &value, 8) == 0;
}

/* While what was in a full ring is handed on, the second vCPU fills it again: as far as it gets
 * when the ring's first entry comes next, and now and then. */
static int write_lap(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct laps *laps = opaque;
	unsigned cpu = access->offset / 8;

	assert_int_equal(value, laps->arrived[cpu]++);
	if (access->requester)
		return 0;
	laps->from_ring++;
	if (laps->from_ring % 170 == 0)
		while (!laps->stands)
			laps->stands = !store_next(laps, 1);
	else if (laps->from_ring % 7 == 0 && !laps->stands)
		laps->stands = !store_next(laps, 1);
	return 0;
}

static struct kvmas_region *put_lap_device(struct laps *laps)
{
	const struct kvmas_ops ops = {.struct_size = sizeof(ops), .write = write_lap};
	struct kvmas_region *device;

	must(kvmas_region_new(laps->r->m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "a",
					   .size = page_size(), .ops = &ops, .opaque = laps),
			      &device));
	add(laps->r->m->root[NORMAL], device, GPA, 0);
	must(kvmas_region_add_coalesced(device, 0, 0x10, 0));
	return device;
}

static void fill_and_answer(struct laps *laps)
{
	while (store_next(laps, 0))
		;
	assert_int_equal(kvmas_vcpu_handle_exit(laps->r->cpus[0].vcpu), 1);
	if (laps->stands)
		assert_int_equal(kvmas_vcpu_handle_exit(laps->r->cpus[1].vcpu), 1);
	laps->stands = false;
}

/* As each version of KVM tells a full ring. */
static void ring_that_is_filled_while_it_is_handed_on_loses_nothing(void **state)
{
	const struct fake_kvm_config kvms[] = {{0}, {.version = FAKE_KVM_6_12}};

	(void)state;
	for (size_t i = 0; i < LENGTH(kvms); i++) {
		struct laps laps = {.r = rig_new(&kvms[i])};
		struct kvmas_region *device = put_lap_device(&laps);

		for (unsigned round = 0; round < 2000; round++)
			fill_and_answer(&laps);
		must(kvmas_kvm_drain(laps.r->m->kvm, laps.r->m->f->reader));
		for (unsigned cpu = 0; cpu < NCPUS; cpu++)
			assert_int_equal(laps.arrived[cpu], laps.made[cpu]);
		assert_true(laps.from_ring > 100 * 170);
		kvmas_region_unref(device);
		rig_free(laps.r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_bus_leaves_the_rest_to_dispatch),
		RIG_TEST(three_thousand_channels_all_work),
		RIG_TEST(must_that_would_be_wrong_returns_eopnotsupp),
		cmocka_unit_test(must_that_kvm_refuses_returns_eopnotsupp),
		cmocka_unit_test(must_of_what_kvm_has_not_returns_eopnotsupp),
		RIG_TEST(dry_run_counts_channels),
		RIG_TEST(dry_run_of_a_must_returns_what_the_commit_would),
		RIG_TEST(dump_says_who_sees_to_what),
		cmocka_unit_test(callback_may_edit_channels),
		RIG_TEST(listener_may_not_edit_channels),
		RIG_TEST(edits_that_are_aborted_leave_nothing),
		RIG_TEST(channels_of_a_region_that_dies_in_its_transaction_are_dropped),
		RIG_TEST(region_in_two_vms_has_its_channels_in_both),
		cmocka_unit_test(ring_that_is_filled_while_it_is_handed_on_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

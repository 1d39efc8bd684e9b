/* SPDX-License-Identifier: MIT */
/*
 * Coalesced zones: what waits in KVM's ring arrives before anything that comes after it can tell,
 * and where it was written to, whatever has been committed since. Scenes are played with and
 * without a ring: nobody can tell.
 */
#include "channel-fixture.h"

#include "kvm/vm.h"

#define GPA pages(4)

static struct kvmas_region *put_zone(struct rig *r, const char *name, uint64_t gpa)
{
	struct kvmas_region *device = put_device(r, name, gpa, pages(1));

	must(kvmas_region_add_coalesced(device, 0, 0x100, 0));
	return device;
}

static unsigned waiting(struct rig *r)
{
	const struct kvm_coalesced_mmio_ring *ring = r->m->vm->coalesced;

	return (ring->last + 170 - ring->first) % 170;
}

/* ---- before what comes after ---- */

static void play_exits(struct rig *r)
{
	put_zone(r, "a", GPA);
	put_zone(r, "b", pages(6));
	put_device(r, "c", pages(8), 0x100);
	put_ports(r, "p", 0x40, 8);
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 1, NORMAL, pages(6), 2, 8);
	store(r, 0, SMM, GPA + 0xfc, 3, 4);
	assert_exits(r, 0);
	store(r, 0, NORMAL, GPA + 0x100, 4, 1);
	glance(r, "a+0/4=1 b+0/8=2 a+fc/4=3 a+100/1=4 ");
	store(r, 0, NORMAL, GPA + 4, 5, 2);
	store(r, 1, NORMAL, pages(8), 6, 1);
	glance(r, "a+4/2=5 c+0/1=6 ");
	store(r, 0, NORMAL, GPA + 4, 7, 2);
	store(r, 1, PORTS, 0x40, 8, 1);
	glance(r, "a+4/2=7 p+0/1=8 ");
	store(r, 0, NORMAL, GPA + 4, 9, 2);
	load(r, 1, NORMAL, GPA + 4, 2);
	glance(r, "a+4/2=9 a?4/2 ");
	store(r, 0, NORMAL, GPA + 4, 10, 2);
	load(r, 1, PORTS, 0x40, 2);
	glance(r, "a+4/2=a p?0/2 ");
}

static void what_waits_arrives_before_any_exit_is_answered(void **state)
{
	(void)state;
	play(play_exits);
}

static void play_edges(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));

	must(kvmas_region_add_coalesced(a, 0x10, 0x10, 0));
	store(r, 0, NORMAL, GPA + 0x10, 1, 8);
	store(r, 0, NORMAL, GPA + 0x18, 2, 8);
	store(r, 0, NORMAL, GPA + 0x1f, 3, 1);
	assert_exits(r, 0);
	store(r, 0, NORMAL, GPA + 0x0e, 4, 4);
	store(r, 0, NORMAL, GPA + 0x1e, 5, 4);
	store(r, 0, NORMAL, GPA + 0x20, 6, 1);
	store(r, 0, NORMAL, GPA + 0x0f, 7, 1);
	assert_exits(r, 4);
	look(r, "a+10/8=1 a+18/8=2 a+1f/1=3 a+e/2=4 a+10/2=0 a+1e/2=5 a+20/2=0 a+20/1=6 a+f/1=7 ");
}

static void write_that_lies_not_wholly_in_a_zone_exits(void **state)
{
	(void)state;
	play(play_edges);
}

static void play_events_inside(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));

	must(kvmas_region_add_coalesced(a, 0, 0x40, 0));
	must(add_event(r, a, 0x10, 4, 0));
	must(add_match(r, a, 0x20, 8, 5, 1));
	must(add_event(r, a, 0, 1, 2));
	must(add_event(r, a, 0x3f, 1, 3));
	assert_placed(r, 7, 0);
	for (unsigned i = 0; i < 0x40; i += 8)
		store(r, 0, NORMAL, GPA + i, i / 8, 8);
	store(r, 1, NORMAL, GPA + 0x10, 8, 4);
	store(r, 1, NORMAL, GPA + 0x20, 5, 8);
	store(r, 1, NORMAL, GPA, 9, 1);
	store(r, 1, NORMAL, GPA + 0x3f, 9, 1);
	look(r, "a+0/8=0 a+8/8=1 a+10/8=2 a+18/8=3 a+20/8=4 a+28/8=5 a+30/8=6 a+38/8=7 "
		"#0x1 #1x1 #2x1 #3x1 ");
	must(del_event(a, 0x10, 4));
	must(del_match(a, 0x20, 8, 5));
	assert_placed(r, 3, 0);
	store(r, 1, NORMAL, GPA + 0x10, 8, 4);
	store(r, 1, NORMAL, GPA + 0x20, 5, 8);
	assert_int_equal(r->is_complete ? waiting(r) : 2, 2);
	look(r, "a+10/4=8 a+20/8=5 ");
}

/* KVM may not find a zone right before an ioeventfd for any size: their order on its bus is that of
 * their coming (kvm_io_bus_cmp takes them for the same). Then its writes exit. */
static void play_any_size_inside(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));

	must(add_event(r, a, 0x10, 0, 0));
	must(kvmas_region_add_coalesced(a, 0, 0x40, 0));
	assert_placed(r, 3, 0);
	store(r, 0, NORMAL, GPA, 1, 8);
	store(r, 0, NORMAL, GPA + 0x0c, 2, 4);
	store(r, 0, NORMAL, GPA + 0x10, 3, 4);
	store(r, 0, NORMAL, GPA + 0x11, 4, 1);
	store(r, 0, NORMAL, GPA + 0x0c, 5, 8);
	store(r, 0, NORMAL, GPA + 0x10, 6, 1);
	look(r, "a+0/8=1 a+c/4=2 a+11/1=4 a+c/4=5 #0x3 ");
}

static void any_size_inside_a_zone_takes_its_writes(void **state)
{
	(void)state;
	play(play_any_size_inside);
}

static void ioeventfds_inside_a_zone_are_no_part_of_it(void **state)
{
	(void)state;
	play(play_events_inside);
}

static void play_dma(struct rig *r)
{
	const struct kvmas_dma dma = {.reader = r->m->f->reader, .space = r->m->space[NORMAL]};
	unsigned char byte = 7;

	put_zone(r, "a", GPA);
	put_zone(r, "b", pages(6));
	put_device(r, "c", pages(8), 0x100);
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 0, NORMAL, pages(6), 2, 4);
	must(kvmas_dma_read(&dma, pages(6) + 0x200, &byte, 1, NULL));
	glance(r, "a+0/4=1 b+0/4=2 b?200/1 ");
	store(r, 0, NORMAL, GPA, 3, 4);
	byte = 7;
	must(kvmas_dma_write(&dma, GPA, &byte, 1, NULL));
	glance(r, "a+0/4=3 a+0/1=7 ");
}

static void what_waits_arrives_before_dma_to_a_device_with_a_zone(void **state)
{
	(void)state;
	play(play_dma);
}

static void dma_to_a_device_without_zone_hands_nothing_on(void **state)
{
	struct rig *r = *state;
	const struct kvmas_dma dma = {.reader = r->m->f->reader, .space = r->m->space[NORMAL]};
	unsigned char byte = 7;

	put_zone(r, "a", GPA);
	must(add_event(r, put_device(r, "c", pages(8), 0x100), 0, 1, 0));
	store(r, 0, NORMAL, GPA, 1, 4);
	must(kvmas_dma_write(&dma, pages(8), &byte, 1, NULL));
	must(kvmas_dma_read(&dma, pages(8) + 1, &byte, 1, NULL));
	glance(r, "c?1/1 #0x1 ");
	look(r, "a+0/4=1 ");
}

static void what_the_last_vcpu_left_is_kept(void **state)
{
	struct rig *r = *state;
	struct kvmas_reader *reader;

	must(kvmas_reader_add(r->m->f->kvmas, &reader));
	put_zone(r, "a", GPA);
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 1, NORMAL, GPA, 2, 4);
	kvmas_vcpu_del(r->cpus[0].vcpu);
	r->cpus[0].vcpu = NULL;
	glance(r, "");
	must(kvmas_kvm_drain(r->m->kvm, reader));
	glance(r, "a+0/4=1 a+0/4=2 ");
	store(r, 1, NORMAL, GPA, 3, 4);
	kvmas_vcpu_del(r->cpus[1].vcpu);
	r->cpus[1].vcpu = NULL;
	glance(r, "");
	must(kvmas_kvm_drain(r->m->kvm, reader));
	glance(r, "a+0/4=3 ");
	kvmas_reader_del(reader);
}

static void other_exits_hand_on_too(void **state)
{
	struct rig *r = *state;

	put_zone(r, "a", GPA);
	store(r, 0, NORMAL, GPA, 1, 4);
	r->cpus[1].cpu->run->exit_reason = KVM_EXIT_HLT;
	assert_int_equal(kvmas_vcpu_handle_exit(r->cpus[1].vcpu), 0);
	glance(r, "a+0/4=1 ");
}

static void play_full_ring(struct rig *r)
{
	char *expected = NULL;

	put_zone(r, "a", GPA);
	for (unsigned i = 0; i < 400; i++) {
		store(r, i % 2, i % 3 ? NORMAL : SMM, GPA + i % 32 * 8, i, 8);
		text_add(&expected, "a+%x/8=%x ", i % 32 * 8, i);
	}
	look(r, expected);
	free(expected);
}

static void full_ring_loses_nothing(void **state)
{
	(void)state;
	play(play_full_ring);
}

static void drain_says_who_may_not(void **state)
{
	struct rig *r = *state;
	struct kvmas_kvm *kvm = r->m->kvm;

	put_zone(r, "a", GPA);
	store(r, 0, NORMAL, GPA, 1, 4);
	must(kvmas_begin(r->m->f->kvmas));
	assert_int_equal(kvmas_kvm_drain(kvm, r->m->f->reader), -EBUSY);
	must(kvmas_commit(r->m->f->kvmas));
	glance(r, "");
	must(kvmas_kvm_drain(kvm, r->m->f->reader));
	glance(r, "a+0/4=1 ");
	must(kvmas_kvm_drain(kvm, r->m->f->reader));
	glance(r, "");
}

static void drain_inside(struct device *device, const struct kvmas_access *access)
{
	struct rig *r = device->rig;

	r->err = kvmas_kvm_drain(r->m->kvm, access->reader);
	if (!access->requester) /* this thread hands on already, whatever reader it has */
		assert_int_equal(kvmas_kvm_drain(r->m->kvm, kvmas_vcpu_get_reader(r->cpus[1].vcpu)),
				 -EBUSY);
}

static void drain_from_a_callback_returns_ebusy(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_zone(r, "a", GPA);
	struct kvmas_region *c = put_device(r, "c", pages(8), 0x100);

	device_of(a)->inside = drain_inside;
	device_of(c)->inside = drain_inside;
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 0, NORMAL, GPA, 2, 4);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	assert_int_equal(r->err, -EBUSY);
	glance(r, "a+0/4=1 a+0/4=2 ");
	r->err = 0;
	store(r, 0, NORMAL, pages(8), 1, 4);
	assert_int_equal(r->err, -EBUSY);
	glance(r, "c+0/4=1 ");
}

static void read_by_dma_inside(struct device *device, const struct kvmas_access *access)
{
	struct rig *r = device->rig;
	const struct kvmas_dma dma = {.reader = access->reader, .space = r->m->space[NORMAL]};
	unsigned char byte;

	if (device->ncalls == 1)
		must(kvmas_dma_read(&dma, pages(6), &byte, 1, NULL));
}

static void dma_from_a_callback_hands_nothing_on(void **state)
{
	struct rig *r = *state;

	device_of(put_zone(r, "a", GPA))->inside = read_by_dma_inside;
	put_zone(r, "b", pages(6));
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 0, NORMAL, pages(6), 2, 4);
	look(r, "a+0/4=1 b?0/1 b+0/4=2 ");
}

/* Another vCPU stores meanwhile: what it wrote is for who is in no callback. */
static void store_and_read_inside(struct device *device, const struct kvmas_access *access)
{
	struct rig *r = device->rig;

	assert_int_equal(fake_kvm_vcpu_store(r->cpus[1].cpu, NORMAL, pages(6), "\5\0\0", 4), 0);
	read_by_dma_inside(device, access);
}

static void dma_from_a_callback_of_an_exit_hands_nothing_on(void **state)
{
	struct rig *r = *state;

	device_of(put_device(r, "a", GPA, pages(1)))->inside = store_and_read_inside;
	put_zone(r, "b", pages(6));
	store(r, 0, NORMAL, GPA, 1, 4);
	glance(r, "a+0/4=1 b?0/1 ");
	look(r, "b+0/4=5 ");
}

static void coalesced_writes_are_told_apart_by_what_they_lack(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_zone(r, "a", GPA);
	struct kvmas_access *last = &device_of(a)->last;

	store(r, 0, SMM, GPA + 0x200, 1, 4);
	assert_ptr_equal(last->requester, &r->cpus[0]);
	assert_true(last->smm);
	assert_ptr_equal(last->space, r->m->space[SMM]);
	store(r, 0, SMM, GPA, 1, 4);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	assert_null(last->requester);
	assert_false(last->smm);
	assert_ptr_equal(last->space, r->m->space[NORMAL]);
	put_ram(r->m, NORMAL, "ram", 4, 1);
	add(r->m->root[SMM], make_alias(r->m->f, "a", a, 0, pages(1)), GPA, 1);
	store(r, 0, SMM, GPA, 1, 4);
	assert_int_equal(waiting(r), 1);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	assert_null(last->requester);
	assert_true(last->smm);
	assert_ptr_equal(last->space, r->m->space[SMM]);
	look(r, "a+200/4=1 a+0/4=1 a+0/4=1 ");
}

/* ---- whatever is committed meanwhile ---- */

static void play_hidden(struct rig *r)
{
	struct kvmas_region *a = put_zone(r, "a", GPA);
	struct kvmas_region *c = make_device(r, "c", pages(1));

	store(r, 0, NORMAL, GPA, 1, 4);
	add(r->m->root[NORMAL], c, GPA, 1);
	store(r, 0, NORMAL, GPA, 2, 4);
	must(kvmas_region_del(c));
	store(r, 0, NORMAL, GPA, 3, 4);
	must(kvmas_region_set_enabled(a, false));
	store(r, 0, NORMAL, GPA, 4, 4);
	must(kvmas_region_set_enabled(a, true));
	store(r, 0, NORMAL, GPA, 5, 4);
	must(kvmas_region_del(a));
	store(r, 0, NORMAL, GPA, 6, 4);
	add(r->m->root[NORMAL], a, pages(5), 0);
	store(r, 0, NORMAL, GPA, 7, 4);
	store(r, 0, NORMAL, pages(5), 8, 4);
	look(r, "a+0/4=1 c+0/4=2 a+0/4=3 a+0/4=5 a+0/4=8 ");
}

static void what_waits_for_a_hidden_region_still_arrives(void **state)
{
	(void)state;
	play(play_hidden);
}

static void play_moved(struct rig *r)
{
	struct kvmas_region *a = put_zone(r, "a", GPA);
	struct kvmas_region *b = put_zone(r, "b", pages(6));

	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 0, NORMAL, pages(6), 2, 4);
	must(kvmas_begin(r->m->f->kvmas));
	must(kvmas_region_set_offset(a, pages(6)));
	must(kvmas_region_set_offset(b, GPA));
	must(kvmas_commit(r->m->f->kvmas));
	store(r, 0, NORMAL, GPA, 3, 4);
	store(r, 0, NORMAL, pages(6), 4, 4);
	must(kvmas_region_set_offset(a, GPA + 0x80));
	store(r, 0, NORMAL, GPA + 0x80, 5, 4);
	store(r, 0, NORMAL, GPA + 0x84, 6, 4);
	assert_exits(r, 0);
	look(r, "a+0/4=1 b+0/4=2 b+0/4=3 a+0/4=4 a+0/4=5 a+4/4=6 ");
}

static void what_waits_arrives_where_it_was_written_to(void **state)
{
	(void)state;
	play(play_moved);
}

/* A write that KVM took for the device is no signal, whatever the device has by now. */
static void play_new_event(struct rig *r)
{
	struct kvmas_region *a = put_zone(r, "a", GPA);

	store(r, 0, NORMAL, GPA, 1, 4);
	must(add_event(r, a, 0, 4, 0));
	store(r, 0, NORMAL, GPA, 2, 4);
	must(del_event(a, 0, 4));
	store(r, 0, NORMAL, GPA, 3, 4);
	must(add_event(r, a, 0, 0, 1));
	look(r, "a+0/4=1 a+0/4=3 #0x1 ");
}

static void what_waits_does_not_signal_a_new_ioeventfd(void **state)
{
	(void)state;
	play(play_new_event);
}

static void play_deleted(struct rig *r)
{
	struct kvmas_region *a = put_zone(r, "a", GPA);
	struct kvmas_region *p = put_ports(r, "p", 0x40, 8);

	must(kvmas_region_add_coalesced(p, 0, 8, 0));
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 0, PORTS, 0x44, 2, 4);
	must(kvmas_region_del_coalesced(a, 0, 0x100));
	store(r, 0, NORMAL, GPA + 8, 3, 4);
	glance(r, "a+0/4=1 p+4/4=2 a+8/4=3 ");
	store(r, 0, PORTS, 0x44, 4, 4);
	must(kvmas_kvm_set_pio_space(r->m->kvm, NULL));
	store(r, 0, PORTS, 0x44, 5, 4);
	glance(r, "p+4/4=4 ");
	must(kvmas_kvm_set_pio_space(r->m->kvm, r->ports));
}

static void what_waits_in_a_zone_that_goes_is_handed_on(void **state)
{
	(void)state;
	play(play_deleted);
}

static void play_last_reference(struct rig *r)
{
	struct kvmas_region *a = put_zone(r, "a", GPA);
	struct device *device = device_of(a);

	store(r, 0, NORMAL, GPA, 1, 4);
	must(kvmas_region_del(a));
	kvmas_region_unref(a);
	device->region = NULL;
	must(kvmas_reclaim(r->m->f->kvmas));
	look(r, "a+0/4=1 ");
}

static void what_waits_keeps_its_region(void **state)
{
	(void)state;
	play(play_last_reference);
}

static void what_waits_when_the_tie_ends_is_let_go_of(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_zone(r, "a", GPA);

	store(r, 0, NORMAL, GPA, 1, 4);
	must(kvmas_region_del(a));
	assert_int_equal(r->m->kvm->coalesced.count, 1);
	must(kvmas_begin(r->m->f->kvmas));
	for (unsigned i = 0; i < NCPUS; i++) { /* in a transaction they hand nothing on */
		kvmas_vcpu_del(r->cpus[i].vcpu);
		r->cpus[i].vcpu = NULL;
	}
	must(kvmas_commit(r->m->f->kvmas));
	glance(r, "");
	assert_int_equal(r->m->kvm->coalesced.count, 1); /* the teardown looks what becomes of it */
}

/* ---- callbacks that commit ---- */

/* The first write moves the region, the second takes an ioeventfd. */
static void commit_inside(struct device *device, const struct kvmas_access *access)
{
	struct rig *r = device->rig;

	(void)access;
	if (device->ncalls == 1) {
		must(kvmas_region_set_offset(device->region, pages(7)));
		must(kvmas_region_add_coalesced(device->region, 0x200, 8, 0));
	} else if (device->ncalls == 2) {
		must(add_event(r, device->region, 0x80, 4, 0));
		must(kvmas_region_del_coalesced(device->region, 0x200, 8));
	}
}

static void play_callback_commits(struct rig *r)
{
	struct kvmas_region *a = put_zone(r, "a", GPA);
	struct kvmas_region *b = put_zone(r, "b", pages(6));

	store(r, 0, NORMAL, pages(6), 1, 4);
	device_of(a)->inside = commit_inside;
	look(r, "b+0/4=1 ");
	store(r, 0, NORMAL, GPA, 2, 4);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	store(r, 0, NORMAL, pages(7) + 8, 3, 4);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	store(r, 0, NORMAL, pages(7) + 0x80, 4, 4);
	store(r, 0, NORMAL, pages(7) + 0x200, 5, 4);
	look(r, "a+0/4=2 a+8/4=3 a+200/4=5 #0x1 ");
	(void)b;
}

static void callback_of_what_waits_may_commit(void **state)
{
	(void)state;
	play(play_callback_commits);
}

/* Others wait behind the one whose callback moves the region: they were written before. */
static void drain_that_commits_goes_on_with_what_was_there(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_zone(r, "a", GPA);

	device_of(a)->inside = commit_inside;
	for (unsigned i = 0; i < 5; i++)
		store(r, 0, NORMAL, GPA + 8 * i, i, 4);
	look(r, "a+0/4=0 a+8/4=1 a+10/4=2 a+18/4=3 a+20/4=4 ");
	store(r, 0, NORMAL, GPA, 6, 4);
	store(r, 0, NORMAL, pages(7), 7, 4);
	look(r, "a+0/4=7 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_waits_arrives_before_any_exit_is_answered),
		cmocka_unit_test(write_that_lies_not_wholly_in_a_zone_exits),
		cmocka_unit_test(ioeventfds_inside_a_zone_are_no_part_of_it),
		cmocka_unit_test(any_size_inside_a_zone_takes_its_writes),
		cmocka_unit_test(what_waits_arrives_before_dma_to_a_device_with_a_zone),
		RIG_TEST(dma_to_a_device_without_zone_hands_nothing_on),
		RIG_TEST(what_the_last_vcpu_left_is_kept),
		RIG_TEST(other_exits_hand_on_too),
		cmocka_unit_test(full_ring_loses_nothing),
		RIG_TEST(drain_says_who_may_not),
		RIG_TEST(drain_from_a_callback_returns_ebusy),
		RIG_TEST(dma_from_a_callback_hands_nothing_on),
		RIG_TEST(dma_from_a_callback_of_an_exit_hands_nothing_on),
		RIG_TEST(coalesced_writes_are_told_apart_by_what_they_lack),
		cmocka_unit_test(what_waits_for_a_hidden_region_still_arrives),
		cmocka_unit_test(what_waits_arrives_where_it_was_written_to),
		cmocka_unit_test(what_waits_does_not_signal_a_new_ioeventfd),
		cmocka_unit_test(what_waits_in_a_zone_that_goes_is_handed_on),
		cmocka_unit_test(what_waits_keeps_its_region),
		RIG_TEST(what_waits_when_the_tie_ends_is_let_go_of),
		cmocka_unit_test(callback_of_what_waits_may_commit),
		RIG_TEST(drain_that_commits_goes_on_with_what_was_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

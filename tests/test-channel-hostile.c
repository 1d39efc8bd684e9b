/* SPDX-License-Identifier: MIT */
/*
 * What guests, bugs and rogues do to event channels: a ring with forged indices and entries,
 * eventfds that are none, closed, or full; channels at the top of the addresses. Each ends in an
 * errno, or in dispatch; nothing is touched that is not ours, and all works afterwards.
 */
#include "channel-fixture.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm/vm.h"

#define GPA pages(4)
#define ENTRIES                                                                                    \
	((uint32_t)((page_size() - sizeof(struct kvm_coalesced_mmio_ring)) /                       \
		    sizeof(struct kvm_coalesced_mmio)))

static struct kvmas_region *put_zone(struct rig *r)
{
	struct kvmas_region *device = put_device(r, "a", GPA, pages(1));

	must(kvmas_region_add_coalesced(device, 0, 0x100, 0));
	return device;
}

/* Behind what the vCPU maps lies nothing: who reads there is killed. */
static void fence(struct rig *r)
{
	for (unsigned i = 0; i < NCPUS; i++) {
		struct fake_kvm_vcpu *cpu = r->cpus[i].cpu;
		char *end = (char *)cpu->run + cpu->run_size;

		/* What is there already is as good. */
		mmap(end, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		     -1, 0);
	}
}

static struct kvm_coalesced_mmio_ring *ring_of(struct rig *r)
{
	return r->m->vm->coalesced;
}

static int exit_by(struct rig *r, unsigned cpu)
{
	r->cpus[cpu].cpu->run->exit_reason = KVM_EXIT_HLT;
	return kvmas_vcpu_handle_exit(r->cpus[cpu].vcpu);
}

static void assert_works(struct rig *r)
{
	r->exits = 0;
	store(r, 0, NORMAL, GPA, 1, 4);
	store(r, 1, SMM, GPA + 4, 2, 4);
	assert_exits(r, 0);
	look(r, "a+0/4=1 a+4/4=2 ");
}

/* ---- indices ---- */

static const struct {
	uint32_t first;
	uint32_t last;
} forged[] = {
	{0, 170},
	{0, 171},
	{3, 170},
	{3, UINT32_MAX},
	{170, 3},
	{169, 170},
	{UINT32_MAX, 0},
	{UINT32_MAX, 3},
	{170, 170},
	{1u << 31, 1u << 31},
	{5, 3},
	{2, 3},
	{4, 3},
	{169, 3},
	{0, 3},
	{2, 2},
	{170 * 3 + 3, 3},
	{3, 1u << 16},
	{1, 0},
	{4, 4},
	{3 + (1u << 8), 3},
	{UINT32_MAX, UINT32_MAX},
};

static void forge(struct rig *r, size_t i)
{
	ring_of(r)->first = forged[i].first;
	ring_of(r)->last = forged[i].last;
}

/* Three entries were handed on, so that 3 is where the next one is. */
static struct rig *rig_at_three(void)
{
	struct rig *r = rig_new(NULL);

	put_zone(r);
	fence(r);
	for (unsigned i = 0; i < 3; i++)
		store(r, 0, NORMAL, GPA + 8 * i, i, 4);
	look(r, "a+0/4=0 a+8/4=1 a+10/4=2 ");
	assert_int_equal(ENTRIES, 170);
	return r;
}

static void forged_index_returns_eproto_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(forged); i++) {
		struct rig *r = rig_at_three();

		forge(r, i);
		assert_int_equal(kvmas_kvm_drain(r->m->kvm, r->m->f->reader), -EPROTO);
		must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
		glance(r, "");
		assert_works(r);
		rig_free(r);
	}
}

static void forged_index_is_told_to_the_vcpu_that_meets_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(forged); i++) {
		struct rig *r = rig_at_three();

		forge(r, i);
		assert_int_equal(exit_by(r, 1), -EPROTO);
		assert_int_equal(exit_by(r, 1), 0);
		assert_works(r);
		rig_free(r);
	}
}

/* The exit that came with it is still to be answered. */
static void exit_is_answered_after_eproto(void **state)
{
	struct rig *r = rig_at_three();
	uint32_t value = 7;

	(void)state;
	assert_int_equal(
		fake_kvm_vcpu_store(r->cpus[0].cpu, NORMAL, GPA + 0x200, &value, sizeof(value)), 1);
	forge(r, 0);
	assert_int_equal(kvmas_vcpu_handle_exit(r->cpus[0].vcpu), -EPROTO);
	glance(r, "");
	assert_int_equal(kvmas_vcpu_handle_exit(r->cpus[0].vcpu), 1);
	look(r, "a+200/4=7 ");
	rig_free(r);
}

/* Who asks next is told. */
static void assert_told(struct rig *r)
{
	assert_notes(r->m->f, "");
	assert_int_equal(kvmas_kvm_drain(r->m->kvm, r->m->f->reader), -EPROTO);
	assert_notes(r->m->f, "log 0 the ring of coalesced writes made no sense, and has been "
			      "emptied\n");
}

static void forged_index_does_not_fail_a_commit(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(forged); i++) {
		struct rig *r = rig_at_three();
		struct kvmas_region *a = r->devices[0].region;

		forget_notes(r->m->f);
		forge(r, i);
		must(kvmas_region_set_offset(a, pages(6)));
		assert_told(r);
		must(kvmas_region_set_offset(a, GPA));
		assert_notes(r->m->f, "");
		assert_works(r);
		rig_free(r);
	}
}

static void forged_index_does_not_fail_dma(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(forged); i++) {
		struct rig *r = rig_at_three();
		const struct kvmas_dma dma = {.reader = r->m->f->reader,
					      .space = r->m->space[NORMAL]};
		unsigned char byte = 7;

		forget_notes(r->m->f);
		forge(r, i);
		must(kvmas_dma_write(&dma, GPA, &byte, 1, NULL));
		glance(r, "a+0/1=7 ");
		assert_told(r);
		assert_works(r);
		rig_free(r);
	}
}

static void forged_index_is_told_after_the_last_vcpu_has_gone(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(forged); i++) {
		struct rig *r = rig_at_three();

		forget_notes(r->m->f);
		forge(r, i);
		for (unsigned cpu = 0; cpu < NCPUS; cpu++) {
			kvmas_vcpu_del(r->cpus[cpu].vcpu);
			r->cpus[cpu].vcpu = NULL;
		}
		assert_told(r);
		look(r, "");
		rig_free(r);
	}
}

/* What a commit has kept is not in the ring: it is handed on all the same. */
static void forged_index_leaves_what_was_kept(void **state)
{
	struct rig *r = rig_at_three();

	(void)state;
	store(r, 0, NORMAL, GPA, 5, 4);
	must(kvmas_region_set_offset(r->devices[0].region, pages(6)));
	store(r, 0, NORMAL, pages(6), 6, 4);
	ring_of(r)->last = 12345;
	assert_int_equal(kvmas_kvm_drain(r->m->kvm, r->m->f->reader), -EPROTO);
	glance(r, "a+0/4=5 ");
	must(kvmas_region_set_offset(r->devices[0].region, GPA));
	assert_works(r);
	rig_free(r);
}

/* ---- entries ---- */

static void forge_entry(struct rig *r, uint64_t address, uint32_t len, uint32_t pio)
{
	struct kvm_coalesced_mmio_ring *ring = ring_of(r);
	struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[ring->last];

	memset(entry, 0, sizeof(*entry));
	entry->phys_addr = address;
	entry->len = len;
	entry->pio = pio;
	entry->data[0] = 9;
	ring->last = (ring->last + 1) % ENTRIES;
}

static void forged_entries_are_dropped_or_go_where_they_say(void **state)
{
	struct rig *r = rig_at_three();
	struct kvmas_kvm_stats before = stats_of(r->m), after;
	struct kvmas_region *ram = put_ram(r->m, NORMAL, "ram", 20, 1);

	(void)state;
	put_ports(r, "p", 0x40, 8);
	forge_entry(r, GPA, 0, 0);
	forge_entry(r, GPA, 9, 0);
	forge_entry(r, GPA, UINT32_MAX, 0);
	forge_entry(r, GPA, 1u << 31, 1);
	forge_entry(r, UINT64_MAX, 8, 0);
	forge_entry(r, UINT64_MAX - 3, 8, 7);
	forge_entry(r, 0x44, 1, 7);
	forge_entry(r, GPA + 0xffc, 8, 0);
	forge_entry(r, pages(20), 1, 0);
	forge_entry(r, GPA, 3, 0);
	look(r, "p+4/1=9 a+ffc/4=9 a+0/2=9 a+2/1=0 ");
	after = stats_of(r->m);
	assert_int_equal(after.coalesced_strays - before.coalesced_strays, 4);
	assert_int_equal(after.coalesced_writes - before.coalesced_writes, 6);
	assert_int_equal(*(unsigned char *)kvmas_ram_get_hva(block_of(ram)), 9);
	/* Those that a commit keeps are dropped then. */
	forge_entry(r, GPA, 0, 0);
	forge_entry(r, GPA, 9, 0);
	forge_entry(r, GPA, 1, 0);
	must(kvmas_region_set_offset(r->devices[0].region, pages(6)));
	look(r, "a+0/1=9 ");
	assert_int_equal(stats_of(r->m).coalesced_strays - after.coalesced_strays, 2);
	must(kvmas_region_set_offset(r->devices[0].region, GPA));
	assert_works(r);
	rig_free(r);
}

static void store_forged(struct rig *r, unsigned cpu, unsigned as_id, uint64_t gpa)
{
	int result = fake_kvm_vcpu_store(r->cpus[cpu].cpu, as_id, gpa, "gone", 4);

	if (result)
		result = kvmas_vcpu_handle_exit(r->cpus[cpu].vcpu);
	if (result == -EPROTO)
		result = kvmas_vcpu_handle_exit(r->cpus[cpu].vcpu);
	assert_true(result == 0 || result == 1);
}

/* Random indices and bytes, between any steps. */
static void forged_rings_touch_nothing_outside(void **state)
{
	struct rig *r = rig_new(NULL);
	struct kvmas_region *a = put_zone(r);
	uint64_t random = 1;

	(void)state;
	fence(r);
	for (unsigned i = 0; i < 3000; i++) {
		unsigned char *bytes = (unsigned char *)ring_of(r);
		unsigned kind;
		int err;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		kind = (unsigned)(random >> 60);
		for (unsigned k = 0; k < 8; k++)
			bytes[(random >> 33) * (k + 1) % (kind < 4 ? 8 : page_size())] =
				(unsigned char)(random >> (8 + k));
		if (kind % 4 == 0)
			must(kvmas_region_set_offset(a, pages(4 + kind / 4)));
		store_forged(r, kind % 2, kind % 3 ? NORMAL : SMM, pages(4 + kind / 4));
		err = kvmas_kvm_drain(r->m->kvm, r->m->f->reader);
		assert_true(err == 0 || err == -EPROTO);
		must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	}
	free(r->words);
	r->words = NULL;
	must(kvmas_region_set_offset(a, GPA));
	assert_works(r);
	rig_free(r);
}

/* ---- vCPUs without the ring ---- */

static int add_short(struct rig *r, void *run, struct kvmas_vcpu **ret)
{
	return kvmas_vcpu_add(
		r->m->kvm,
		KVMAS_CONFIG(vcpu, .fd = -1, .run = run, .run_size = 2 * page_size() + 8), ret);
}

static void vcpu_that_lacks_the_ring_returns_einval_once_there_is_a_zone(void **state)
{
	struct rig *r = *state;
	void *run = calloc(3, page_size());
	struct kvmas_vcpu *vcpu;
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));

	must(add_event(r, a, 0x200, 4, 0));
	must(add_short(r, run, &vcpu));
	/* Its exits could not tell that something waits: zones are by hand. */
	must(kvmas_region_add_coalesced(a, 0, 0x100, 0));
	assert_counted(r, 1, 1);
	store(r, 0, NORMAL, GPA, 1, 4);
	glance(r, "a+0/4=1 ");
	assert_int_equal(kvmas_region_add_coalesced(a, 0x100, 8, KVMAS_CHANNEL_MUST), -EOPNOTSUPP);
	kvmas_vcpu_del(vcpu);
	must(kvmas_region_add_coalesced(a, 0x100, 8, KVMAS_CHANNEL_MUST));
	assert_int_equal(add_short(r, run, &vcpu), -EINVAL);
	look(r, "");
	free(run);
}

/* ---- eventfds ---- */

static void what_is_no_eventfd_is_left_to_dispatch(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	int pipes[2], file = memfd_create("file", MFD_CLOEXEC),
		      readonly = open("/dev/null", O_RDONLY);
	uint64_t got = 0;

	must(pipe(pipes));
	assert_true(file >= 0 && readonly >= 0);
	must(kvmas_region_add_ioeventfd(
		a, KVMAS_CONFIG(ioeventfd, .offset = 0, .size = 4, .fd = pipes[1])));
	must(kvmas_region_add_ioeventfd(
		a, KVMAS_CONFIG(ioeventfd, .offset = 8, .size = 4, .fd = file)));
	must(kvmas_region_add_ioeventfd(
		a, KVMAS_CONFIG(ioeventfd, .offset = 16, .size = 4, .fd = pipes[0])));
	must(kvmas_region_add_ioeventfd(
		a, KVMAS_CONFIG(ioeventfd, .offset = 24, .size = 4, .fd = readonly)));
	assert_int_equal(kvmas_region_add_ioeventfd(a, KVMAS_CONFIG(ioeventfd, .offset = 32,
								    .size = 4, .fd = file,
								    .flags = KVMAS_CHANNEL_MUST)),
			 -EOPNOTSUPP);
	assert_counted(r, 0, 4);
	for (unsigned offset = 0; offset < 32; offset += 8)
		store(r, 0, NORMAL, GPA + offset, 1, 4);
	glance(r, ""); /* never the device's */
	assert_int_equal(read(pipes[0], &got, sizeof(got)), sizeof(got));
	assert_int_equal(got, 1);
	assert_true(stats_of(r->m).refused >= 1);
	must(kvmas_region_set_offset(a, pages(6)));
	must(kvmas_region_del(a));
	close(pipes[0]);
	close(pipes[1]);
	close(file);
	close(readonly);
	look(r, "");
}

/* Not the VMM's, which is its own affair, but that of the library. */
static void eventfd_that_a_rogue_closes_is_an_errno(void **state)
{
	const struct fake_kvm_config by_hand = {.no_ioeventfd = true};
	struct rig *r = rig_new(&by_hand);
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	struct kvmas_kvm_stats before;
	int fd;

	(void)state;
	must(add_event(r, a, 0, 4, 0));
	fd = kas_channels_events(a->channels)[0]->fd;
	close(fd);
	before = stats_of(r->m);
	store(r, 0, NORMAL, GPA, 1, 4);
	assert_int_equal(stats_of(r->m).refused - before.refused, 1);
	assert_int_equal(stats_of(r->m).events, before.events);
	look(r, "");
	assert_int_equal(dup2(r->events[0], fd), fd); /* which the library closes */
	rig_free(r);
}

static void eventfd_that_a_rogue_closes_in_kvm_fails_the_commit(void **state)
{
	struct rig *r = *state;
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	char *before, *after;
	int fd;

	must(add_event(r, a, 0, 4, 0));
	fd = kas_channels_events(a->channels)[0]->fd;
	close(fd);
	forget_notes(r->m->f);
	before = rig_text(r);
	assert_int_equal(kvmas_region_set_offset(a, pages(6)), -EBADF);
	after = rig_text(r);
	assert_string_equal(after, before);
	free(before);
	free(after);
	store(r, 0, NORMAL, GPA, 1, 4);
	look(r, "#0x1 ");
	assert_int_equal(dup2(r->events[0], fd), fd);
	must(kvmas_region_set_offset(a, pages(6)));
	look(r, "");
}

static void play_full_counter(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));
	int blocking = eventfd(0, EFD_CLOEXEC);
	uint64_t most = UINT64_MAX - 1, got;

	must(kvmas_region_add_ioeventfd(a, KVMAS_CONFIG(ioeventfd, .size = 4, .fd = blocking)));
	assert_int_equal(write(blocking, &most, sizeof(most)), sizeof(most));
	alarm(10); /* who waits is killed */
	for (unsigned i = 0; i < 3; i++)
		store(r, 0, NORMAL, GPA, i, 4);
	alarm(0);
	assert_int_equal(read(blocking, &got, sizeof(got)), sizeof(got));
	assert_int_equal(got, most);
	store(r, 0, NORMAL, GPA, 1, 4);
	assert_int_equal(read(blocking, &got, sizeof(got)), sizeof(got));
	assert_int_equal(got, 1);
	close(blocking);
}

static void counter_at_its_maximum_waits_for_nobody(void **state)
{
	(void)state;
	play(play_full_counter);
}

/* ---- the top of the addresses ---- */

static void play_top(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", UINT64_MAX - 63, 64);

	must(add_event(r, a, 60, 4, 0));
	must(add_event(r, a, 63, 0, 1));
	must(add_event(r, a, 56, 1, 2));
	must(kvmas_region_add_coalesced(a, 0, 64, 0));
	assert_int_equal(kvmas_region_add_coalesced(a, 63, 2, 0), -EINVAL);
	store(r, 0, NORMAL, UINT64_MAX - 3, 1, 4);
	store(r, 0, NORMAL, UINT64_MAX, 2, 1);
	store(r, 0, SMM, UINT64_MAX - 7, 3, 1);
	store(r, 0, NORMAL, UINT64_MAX - 63, 4, 8);
	store(r, 0, NORMAL, UINT64_MAX - 7, 5, 8);
	store(r, 0, NORMAL, UINT64_MAX - 1, 6, 2);
	look(r, "a+0/8=4 a+38/8=5 a+3e/2=6 #0x1 #1x1 #2x1 ");
	must(kvmas_region_set_offset(a, GPA));
	store(r, 0, NORMAL, GPA + 60, 1, 4);
	must(kvmas_region_set_offset(a, UINT64_MAX - 31)); /* only half of it is seen */
	store(r, 0, NORMAL, UINT64_MAX, 6, 1);
	look(r, "a+1f/1=6 #0x1 ");
	must(kvmas_region_del(a));
	assert_counted(r, 0, 0);
	assert_int_equal(r->m->vm->buses[FAKE_KVM_MMIO_BUS].ndevices, 0);
}

static void channels_at_the_top_of_the_addresses_work(void **state)
{
	(void)state;
	play(play_top);
}

static void play_zone_to_the_end(struct rig *r)
{
	struct kvmas_region *a = put_device(r, "a", 0, KVMAS_SIZE_MAX);
	const uint64_t zone = (UINT64_C(1) << 31) - 1;

	must(kvmas_region_add_coalesced(a, UINT64_MAX - (zone - 1), zone, 0));
	must(kvmas_region_add_coalesced(a, 0, zone, 0));
	assert_int_equal(kvmas_region_add_coalesced(a, zone, zone + 1, 0), -EINVAL);
	must(kvmas_region_add_coalesced(a, zone, zone, 0));
	must(add_event(r, a, UINT64_MAX, 1, 0));
	must(add_event(r, a, zone, 0, 1));
	store(r, 0, NORMAL, UINT64_MAX, 1, 1);
	store(r, 0, NORMAL, UINT64_MAX - 8, 2, 1);
	store(r, 0, NORMAL, zone, 3, 1);
	store(r, 0, NORMAL, zone - 1, 4, 1);
	store(r, 0, NORMAL, zone + 1, 5, 8);
	look(r, "a+fffffffffffffff7/1=2 a+7ffffffe/1=4 a+80000000/8=5 #0x1 #1x1 ");
	must(kvmas_region_del(a));
	assert_int_equal(r->m->vm->buses[FAKE_KVM_MMIO_BUS].ndevices, 0);
}

static void zones_of_all_addresses_work(void **state)
{
	(void)state;
	play(play_zone_to_the_end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forged_index_returns_eproto_once),
		cmocka_unit_test(forged_index_is_told_to_the_vcpu_that_meets_it),
		cmocka_unit_test(exit_is_answered_after_eproto),
		cmocka_unit_test(forged_index_does_not_fail_a_commit),
		cmocka_unit_test(forged_index_does_not_fail_dma),
		cmocka_unit_test(forged_index_is_told_after_the_last_vcpu_has_gone),
		cmocka_unit_test(forged_index_leaves_what_was_kept),
		cmocka_unit_test(forged_entries_are_dropped_or_go_where_they_say),
		cmocka_unit_test(forged_rings_touch_nothing_outside),
		RIG_TEST(vcpu_that_lacks_the_ring_returns_einval_once_there_is_a_zone),
		RIG_TEST(what_is_no_eventfd_is_left_to_dispatch),
		cmocka_unit_test(eventfd_that_a_rogue_closes_is_an_errno),
		RIG_TEST(eventfd_that_a_rogue_closes_in_kvm_fails_the_commit),
		cmocka_unit_test(counter_at_its_maximum_waits_for_nobody),
		cmocka_unit_test(channels_at_the_top_of_the_addresses_work),
		cmocka_unit_test(zones_of_all_addresses_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Dirty rings, from the vCPUs of the double into the clients' bitmaps: whose entries are credited
 * where; what is written between reading and resetting; exits because of a full ring; resets that
 * are refused, interrupted, cut short.
 */
#include "ring-fixture.h"

#include <limits.h>
#include <signal.h>

/* ---- harvest ---- */

static void sync_of_any_space_reads_all_rings(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 3);
	store(m, 1, NORMAL, 70);
	store(m, 1, SMM, 4);
	must(kvmas_space_sync(m->space[SMM], 0, KVMAS_SIZE_MAX));
	assert_found(m, "3 70 516 ");
	assert_int_equal(stats_of(m).ring_entries, 3);
	assert_int_equal(stats_of(m).ring_strays, 0);
	assert_int_equal(stats_of(m).ring_resets, 1);
	assert_int_equal(stats_of(m).log_reads, 0);
}

static void clean_rings_are_not_reset(void **state)
{
	struct machine *m = *state;

	fake_kvm_reset(m->vm);
	must(sync_ram(m));
	assert_int_equal(m->vm->ncalls, 0);
}

static void page_is_told_again_when_it_is_written_again(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < 3; i++) {
		store(m, i % 2, NORMAL, 9);
		store(m, i % 2, NORMAL, 9);
		must(sync_ram(m));
		assert_found(m, "9 ");
		must(sync_ram(m));
		assert_found(m, "");
	}
	assert_int_equal(stats_of(m).ring_entries, 3);
}

static void each_page_is_told_however_often_a_ring_goes_round(void **state)
{
	struct machine *m = *state;
	struct kvmas_ram *block = block_of(ring_ram(m));

	for (unsigned i = 0; i < 40; i++) {
		unsigned n = 1 + i * 31 % 150;
		uint64_t bits[NPAGES / 64];

		for (unsigned page = 0; page < n; page++)
			store(m, 0, NORMAL, i + page);
		must(sync_ram(m));
		assert_int_equal(kvmas_client_take(m->clients[0], block, 0, NPAGES, bits), n);
	}
	assert_true(cpu_of(m, 0)->pushed > 4 * page_size() / sizeof(struct kvm_dirty_gfn));
}

/* Between the reading of a ring and its reset. */
static void write_before_reset(struct machine *m, unsigned long request, void *arg)
{
	(void)arg;
	if (request == KVM_RESET_DIRTY_RINGS) {
		m->on_ioctl = NULL;
		store(m, 0, NORMAL, 5); /* whose entry was just read: no new one */
		store(m, 0, NORMAL, 6);
	}
}

static void page_written_before_the_reset_is_in_what_is_taken_after_it(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 5);
	m->on_ioctl = write_before_reset;
	must(sync_ram(m));
	assert_found(m, "5 ");
	store(m, 0, NORMAL, 5);
	must(sync_ram(m));
	assert_found(m, "5-6 ");
}

static void unlogged_slot_has_no_entries(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 2 * NPAGES);
	must(sync_ram(m));
	assert_int_equal(stats_of(m).ring_entries, 0);
}

/* ---- slots that go ---- */

static void entries_of_a_slot_that_goes_are_never_its_successors(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *next = make_ram(m->f, "next", pages(NPAGES));
	struct kvmas_client *all = make_client(m, "all");

	must(kvmas_client_log_start(all, NULL, NULL));
	store(m, 0, NORMAL, 7);
	store(m, 1, SMM, 7);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_del(ring_ram(m)));
	must(kvmas_region_add(m->root[NORMAL], next, pages(8 * NPAGES), 0));
	must(kvmas_commit(m->f->kvmas));
	must(sync_ram(m));
	assert_taken(all, block_of(next), "");
	assert_taken(all, block_of(ring_ram(m)), "7 519 ");
	assert_int_equal(stats_of(m).ring_strays, 0);
}

static void slots_that_go_cost_one_reset_for_all(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 7);
	store(m, 1, SMM, 7);
	fake_kvm_reset(m->vm);
	must(kvmas_client_log_stop(m->clients[0], ring_ram(m), NULL));
	assert_int_equal(m->vm->count[FAKE_KVM_RESET], 1);
	assert_found(m, "7 519 ");
}

/* ---- vCPUs ---- */

static unsigned fill(struct machine *m, unsigned cpu)
{
	unsigned n = 0;

	while (n < NPAGES && fake_kvm_vcpu_write(cpu_of(m, cpu), NORMAL, pages(n), 8) == 0)
		n++;
	assert_true(n < NPAGES);
	return n;
}

static void full_ring_is_an_exit_that_is_answered(void **state)
{
	struct machine *m = *state;
	struct kvmas_vcpu *vcpu = m->guests[0][0].vcpu;
	uint64_t bits[NPAGES / 64];
	unsigned n = fill(m, 0);

	must(kvmas_vcpu_run(vcpu));
	assert_int_equal(cpu_of(m, 0)->run->exit_reason, KVM_EXIT_DIRTY_RING_FULL);
	assert_int_equal(kvmas_vcpu_handle_exit(vcpu), 1);
	assert_int_equal(stats_of(m).ring_full, 1);
	assert_int_equal(kvmas_vcpu_run(vcpu), -EINTR);
	store(m, 0, NORMAL, NPAGES - 1);
	must(sync_ram(m));
	assert_int_equal(kvmas_client_take(m->clients[0], block_of(ring_ram(m)), 0, NPAGES, bits),
			 n + 1);
}

static void exit_of_a_vm_without_rings_is_the_vmms_own(void **state)
{
	struct machine *m = machine_new(NULL);
	struct fake_kvm_vcpu *cpu = fake_kvm_add_vcpu(m->vm);
	struct kvmas_vcpu *vcpu;

	(void)state;
	must(kvmas_vcpu_add(
		m->kvm,
		KVMAS_CONFIG(vcpu, .fd = cpu->fd, .run = cpu->run, .run_size = cpu->run_size),
		&vcpu));
	cpu->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	assert_int_equal(kvmas_vcpu_handle_exit(vcpu), 0);
	kvmas_vcpu_del(vcpu);
	machine_free(m);
}

static void ring_of_a_vcpu_that_goes_is_read(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 3);
	store(m, 1, NORMAL, 4);
	kvmas_vcpu_del(m->guests[0][0].vcpu);
	m->guests[0][0].vcpu = NULL;
	memset(cpu_of(m, 0)->ring, KVM_DIRTY_GFN_F_DIRTY, page_size()); /* nobody looks there */
	assert_found(m, "3-4 ");
	store(m, 1, NORMAL, 5);
	must(sync_ram(m));
	assert_found(m, "5 ");
}

/* A vCPU that another thread, or another tie, had before: where its ring is, nobody tells. */
static void ring_that_was_in_use_is_read_from_where_it_is(void **state)
{
	struct machine *m = *state;

	for (unsigned used = 0; used < 300; used += 37) {
		struct guest_vcpu *guest = &m->guests[0][0];
		char *expected = NULL;

		for (unsigned i = 0; i < 37; i++)
			store(m, 0, NORMAL, i);
		must(sync_ram(m));
		kvmas_vcpu_del(guest->vcpu);
		store(m, 0, NORMAL, used);
		store(m, 0, NORMAL, used + 2);
		must(add_guest(m, 0, 0));
		fake_kvm_vcpu_write(guest->cpu, NORMAL, pages(900), 8);
		assert_true(kvmas_client_take(m->clients[0], block_of(ring_ram(m)), 0, NPAGES,
					      (uint64_t[NPAGES / 64]){0}) > 0);
		must(sync_ram(m));
		text_add(&expected, "%u %u 900 ", used, used + 2);
		assert_found(m, expected);
		free(expected);
	}
}

/* What is left in a ring of entries that named page 0 of slot 0:0 is nothing but zeroes. */
static void ring_that_looks_unused_is_read_from_where_it_is(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < 3; i++) {
		store(m, 0, NORMAL, 0);
		must(sync_ram(m));
	}
	kvmas_vcpu_del(m->guests[0][0].vcpu);
	must(add_guest(m, 0, 0));
	for (unsigned i = 0; i < 3; i++) {
		store(m, 0, NORMAL, 7);
		must(sync_ram(m));
		assert_found(m, i ? "7 " : "0 7 ");
	}
}

static void ring_whose_entries_go_over_its_end_is_read_whole(void **state)
{
	struct machine *m = *state;
	struct guest_vcpu *guest = &m->guests[0][0];
	uint32_t entries = m->vm->ring_size / sizeof(*guest->cpu->ring);

	for (unsigned i = 0; guest->cpu->pushed < entries - 2; i++) {
		store(m, 0, NORMAL, i);
		if (i % 100 == 99)
			must(sync_ram(m));
	}
	kvmas_vcpu_del(guest->vcpu);
	for (unsigned i = 0; i < 5; i++)
		store(m, 0, NORMAL, 600 + i);
	must(add_guest(m, 0, 0));
	assert_true(kvmas_client_take(m->clients[0], block_of(ring_ram(m)), 0, NPAGES,
				      (uint64_t[NPAGES / 64]){0}) > 0);
	must(sync_ram(m));
	assert_found(m, "600-604 ");
	store(m, 0, NORMAL, 601);
	must(sync_ram(m));
	assert_found(m, "601 ");
}

/* ---- resets that fail ---- */

struct obstinate {
	int result;
	unsigned times; /* UINT_MAX: for ever */
	unsigned asked;
};

static bool refuse_resets(struct machine *m, unsigned long request, int *result)
{
	struct obstinate *obstinate = m->data;

	if (request != KVM_RESET_DIRTY_RINGS)
		return false;
	obstinate->asked++;
	if (obstinate->asked > obstinate->times)
		return false;
	*result = obstinate->result;
	return true;
}

static void be_obstinate(struct machine *m, struct obstinate *obstinate)
{
	m->data = obstinate;
	m->answer = obstinate ? refuse_resets : NULL;
}

static void interrupted_reset_is_tried_again(void **state)
{
	struct machine *m = *state;
	struct obstinate obstinate = {.result = -EINTR, .times = 5};

	store(m, 0, NORMAL, 5);
	be_obstinate(m, &obstinate);
	must(sync_ram(m));
	assert_int_equal(obstinate.asked, 6);
	assert_found(m, "5 ");
	store(m, 0, NORMAL, 5);
	must(sync_ram(m));
	assert_found(m, "5 ");
}

/* What nobody can take is not lost, whatever is written to it meanwhile. */
static void page_that_is_not_watched_again_cannot_be_taken(void **state)
{
	static const int results[] = {-EINTR, -EIO, -ENOMEM, -EINVAL};

	for (unsigned i = 0; i < LENGTH(results); i++) {
		struct obstinate obstinate = {.result = results[i], .times = UINT_MAX};
		uint64_t bits[NPAGES / 64];
		struct machine *m;

		ring_setup(state);
		m = *state;
		store(m, 0, NORMAL, 5);
		be_obstinate(m, &obstinate);
		assert_int_equal(sync_ram(m), results[i]);
		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(kvmas_client_take(m->clients[0], block_of(ring_ram(m)), 0,
							   NPAGES, bits),
					 results[i]);
		assert_true(obstinate.asked < 1000);
		store(m, 0, NORMAL, 5);
		be_obstinate(m, NULL);
		assert_found(m, "5 ");
		store(m, 0, NORMAL, 5);
		must(sync_ram(m));
		assert_found(m, "5 ");
		machine_free(m);
	}
}

static void *find_page(void *data)
{
	assert_found(data, "5 ");
	return NULL;
}

/* A client takes, on its own thread, while a deletion is asked for, and refused. */
static bool take_and_refuse(struct machine *m, unsigned long request, int *result)
{
	pthread_t thread;

	*result = -EIO;
	if (request == KVM_SET_USER_MEMORY_REGION) {
		must(pthread_create(&thread, NULL, find_page, m));
		must(pthread_join(thread, NULL));
	}
	return true;
}

/* What is taken then is not watched: nobody has it watched while the slot is to go. */
static void page_taken_from_a_slot_that_stays_after_all_is_dirty_again(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 5);
	m->answer = take_and_refuse;
	assert_int_equal(kvmas_region_del(ring_ram(m)), -EIO);
	m->answer = NULL;
	store(m, 0, NORMAL, 5);
	must(sync_ram(m));
	assert_true(kvmas_client_take(m->clients[0], block_of(ring_ram(m)), 0, 64,
				      (uint64_t[1]){0}) > 0);
}

/* It is in no ring, and no logged slot shows it. */
static void block_without_logged_slots_can_be_taken_meanwhile(void **state)
{
	struct machine *m = *state;
	struct obstinate obstinate = {.result = -EIO, .times = UINT_MAX};

	store(m, 0, NORMAL, 5);
	be_obstinate(m, &obstinate);
	assert_int_equal(sync_ram(m), -EIO);
	must(kvmas_ram_mark(block_of(m->region[1]), 0, 1));
	assert_taken(m->clients[0], block_of(m->region[1]), "0 ");
	be_obstinate(m, NULL);
}

/* Since Linux 6.16 a signal ends a reset; what it returns then is how many it has done
 * (virt/kvm/dirty_ring.c, kvm_dirty_ring_reset; kvm_vm_ioctl_reset_dirty_pages). */
static void reset_that_a_signal_cuts_short_is_continued(void **state)
{
	for (unsigned after = 0; after < 4; after++) {
		struct machine *m;

		ring_setup(state);
		m = *state;
		for (unsigned round = 0; round < 3; round++) {
			store(m, 0, NORMAL, 5);
			store(m, 0, NORMAL, 200);
			store(m, 1, NORMAL, 400);
			m->vm->signal.comes = round == 0;
			m->vm->signal.after = after;
			must(sync_ram(m));
			assert_found(m, "5 200 400 ");
		}
		machine_free(m);
	}
}

/* KVM then forgets to watch the last pages that it came to (kvm_dirty_ring_reset: `mask`). */
static void signal_waits_for_the_end_of_a_reset(void **state)
{
	struct machine *m = *state;
	sigset_t blocked;

	for (unsigned round = 0; round < 3; round++) {
		store(m, 0, NORMAL, 5);
		store(m, 0, NORMAL, 200);
		m->vm->signal.comes = true;
		m->vm->signal.after = 1;
		m->vm->signal.forgets = true;
		m->vm->signal.blockable = true;
		must(sync_ram(m));
		assert_found(m, "5 200 ");
	}
	assert_true(m->vm->signal.comes);
	must(pthread_sigmask(SIG_SETMASK, NULL, &blocked));
	assert_int_equal(sigismember(&blocked, SIGALRM), 0);
}

static void full_ring_that_cannot_be_reset_is_an_error_of_the_exit(void **state)
{
	struct machine *m = *state;
	struct kvmas_vcpu *vcpu = m->guests[0][0].vcpu;
	struct obstinate obstinate = {.result = -ENOMEM, .times = 1};

	fill(m, 0);
	must(kvmas_vcpu_run(vcpu));
	be_obstinate(m, &obstinate);
	assert_int_equal(kvmas_vcpu_handle_exit(vcpu), -ENOMEM);
	must(kvmas_vcpu_run(vcpu));
	assert_int_equal(kvmas_vcpu_handle_exit(vcpu), 1);
	assert_int_equal(kvmas_vcpu_run(vcpu), -EINTR);
}

/* ---- results that no KVM gives ---- */

static void more_resets_than_entries_are_enough(void **state)
{
	struct machine *m = *state;
	struct obstinate obstinate = {.result = INT_MAX, .times = 1};

	store(m, 0, NORMAL, 5);
	be_obstinate(m, &obstinate);
	must(sync_ram(m));
	assert_int_equal(obstinate.asked, 1);
	be_obstinate(m, NULL);
	assert_found(m, "5 ");
}

static void errno_that_is_none_is_eproto(void **state)
{
	static const int results[] = {-4096, -100000, INT_MIN};
	struct machine *m = *state;

	for (unsigned i = 0; i < LENGTH(results); i++) {
		struct obstinate obstinate = {.result = results[i], .times = 1};

		store(m, 0, NORMAL, 5 + i);
		be_obstinate(m, &obstinate);
		assert_int_equal(sync_ram(m), -EPROTO);
		be_obstinate(m, NULL);
	}
	assert_found(m, "5-7 ");
}

/* ---- ties and vCPUs that do not go together ---- */

static void ring_that_is_missing_misaligned_or_uncalled_for_is_einval(void **state)
{
	struct machine *m = *state, *other = machine_new(NULL);
	struct fake_kvm_vcpu *cpu = cpu_of(m, 0);
	struct kvmas_vcpu_config config = {.struct_size = sizeof(config),
					   .fd = cpu->fd,
					   .run = cpu->run,
					   .run_size = cpu->run_size};
	struct kvmas_vcpu *vcpu = NULL;

	assert_int_equal(kvmas_vcpu_add(m->kvm, &config, &vcpu), -EINVAL);
	for (unsigned shift = 1; shift < 4096; shift *= 4) {
		config.dirty_ring = (char *)cpu->ring + shift;
		assert_int_equal(kvmas_vcpu_add(m->kvm, &config, &vcpu), -EINVAL);
	}
	config.dirty_ring = cpu->ring;
	assert_int_equal(kvmas_vcpu_add(other->kvm, &config, &vcpu), -EINVAL);
	assert_null(vcpu);
	machine_free(other);
}

static void vcpu_with_a_ring_needs_no_memory_that_cannot_fail(void **state)
{
	struct machine *m = *state;
	struct fake_kvm_vcpu *cpu = fake_kvm_add_vcpu(m->vm);
	struct kvmas_vcpu_config config = {.struct_size = sizeof(config),
					   .fd = cpu->fd,
					   .run = cpu->run,
					   .run_size = cpu->run_size,
					   .dirty_ring = cpu->ring};
	struct kvmas_vcpu *vcpu;
	int err = -ENOMEM;

	for (unsigned k = 1; err; k++) {
		size_t bytes = m->f->heap.bytes;

		m->f->heap.fail_in = k;
		err = kvmas_vcpu_add(m->kvm, &config, &vcpu);
		m->f->heap.fail_in = 0;
		assert_true(err ? err == -ENOMEM && m->f->heap.bytes == bytes : k > 1);
	}
	kvmas_vcpu_del(vcpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RING_TEST(sync_of_any_space_reads_all_rings),
		RING_TEST(clean_rings_are_not_reset),
		RING_TEST(page_is_told_again_when_it_is_written_again),
		RING_TEST(each_page_is_told_however_often_a_ring_goes_round),
		RING_TEST(page_written_before_the_reset_is_in_what_is_taken_after_it),
		RING_TEST(unlogged_slot_has_no_entries),
		RING_TEST(entries_of_a_slot_that_goes_are_never_its_successors),
		RING_TEST(slots_that_go_cost_one_reset_for_all),
		RING_TEST(full_ring_is_an_exit_that_is_answered),
		cmocka_unit_test(exit_of_a_vm_without_rings_is_the_vmms_own),
		FORGED_TEST(ring_of_a_vcpu_that_goes_is_read),
		RING_TEST(ring_that_was_in_use_is_read_from_where_it_is),
		RING_TEST(ring_that_looks_unused_is_read_from_where_it_is),
		RING_TEST(ring_whose_entries_go_over_its_end_is_read_whole),
		RING_TEST(interrupted_reset_is_tried_again),
		cmocka_unit_test(page_that_is_not_watched_again_cannot_be_taken),
		RING_TEST(page_taken_from_a_slot_that_stays_after_all_is_dirty_again),
		RING_TEST(block_without_logged_slots_can_be_taken_meanwhile),
		cmocka_unit_test(reset_that_a_signal_cuts_short_is_continued),
		RING_TEST(signal_waits_for_the_end_of_a_reset),
		RING_TEST(full_ring_that_cannot_be_reset_is_an_error_of_the_exit),
		RING_TEST(more_resets_than_entries_are_enough),
		RING_TEST(errno_that_is_none_is_eproto),
		RING_TEST(ring_that_is_missing_misaligned_or_uncalled_for_is_einval),
		RING_TEST(vcpu_with_a_ring_needs_no_memory_that_cannot_fail),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}

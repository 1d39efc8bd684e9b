/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM, tested by itself: vCPUs, their dirty rings, and the buffers of the
 * page-modification log. What KVM_ENABLE_CAP and KVM_RESET_DIRTY_RINGS refuse is in the table
 * (test-kvm-table.c); bitmaps are in test-fake-kvm-dirty.c.
 */
#include "fake-kvm-fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { RING = 4096, ENTRIES = RING / 16, SOFT = ENTRIES - 64 };

/* A double with a ring of one page for its vCPU; slot 0 is 1024 pages from 0 on, logged. */
static struct fake_kvm *with_ring(const struct fake_kvm_config *config, uint64_t ring,
				  struct fake_kvm_vcpu **vcpu)
{
	struct fake_kvm *kvm = fake_kvm_new(config);

	if (ring)
		assert_int_equal(set_ring(kvm, ring), 0);
	*vcpu = fake_kvm_add_vcpu(kvm);
	assert_int_equal(set(kvm, 0, 0, 1024, LOG), 0);
	return kvm;
}

static void end(struct fake_kvm *kvm)
{
	assert_valid(kvm);
	fake_kvm_free(kvm);
}

/* ---- vCPUs ---- */

static void vcpu_writes_mark_the_bitmap_without_rings(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *vcpu = fake_kvm_add_vcpu(kvm);

	assert_null(vcpu->ring);
	set(kvm, 0, 0, 4, LOG);
	set(kvm, SPACE_1, 0, 4, LOG);
	assert_int_equal(store(vcpu, 1, 2), 0);
	assert_int_equal(store(vcpu, 0, 4), -EFAULT);
	assert_log(kvm, 0, 0, 0);
	assert_log(kvm, 1, 0, 1 << 2);
}

static void vcpu_has_an_fd_of_its_own_that_serves_only_kvm_run(void **state)
{
	struct fake_kvm *kvm = *state;
	struct fake_kvm_vcpu *first = fake_kvm_add_vcpu(kvm), *second = fake_kvm_add_vcpu(kvm);

	assert_int_equal(first->fd, kvm->fd + 1);
	assert_int_equal(second->fd, kvm->fd + 2);
	assert_int_equal(fake_kvm_ioctl(kvm, second->fd, KVM_RUN, NULL), -EINTR);
	assert_int_equal(second->nruns, 1);
	assert_int_equal(first->nruns, 0);
	assert_int_equal(fake_kvm_ioctl(kvm, first->fd, KVM_SMI, NULL), -ENOTTY);
	assert_int_equal(fake_kvm_ioctl(kvm, kvm->fd + 3, KVM_RUN, NULL), -EBADF);
	assert_int_equal(call(kvm, KVM_RUN, NULL), -ENOTTY);
	kvm->dead = true;
	assert_int_equal(fake_kvm_ioctl(kvm, first->fd, KVM_RUN, NULL), -EIO);
}

/* ---- rings ---- */

static void capabilities_can_be_lacking(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){
		.no_manual = true, .no_ring = true, .no_ring_acq_rel = true});

	assert_int_equal(check(*state, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), 3);
	assert_int_equal(check(*state, KVM_CAP_DIRTY_LOG_RING), 1 << 20);
	assert_int_equal(check(*state, KVM_CAP_DIRTY_LOG_RING_ACQ_REL), 1 << 20);
	assert_int_equal(check(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), 0);
	assert_int_equal(check(kvm, KVM_CAP_DIRTY_LOG_RING), 0);
	assert_int_equal(check(kvm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL), 0);
	assert_int_equal(set_ring(kvm, RING), -EINVAL);
	assert_int_equal(set_manual(kvm, 1), -EINVAL);
	end(kvm);
	kvm = fake_kvm_new(&(struct fake_kvm_config){.no_initially_set = true});
	assert_int_equal(check(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), 1);
	assert_int_equal(set_manual(kvm, 3), -EINVAL);
	assert_int_equal(set_manual(kvm, 1), 0);
	end(kvm);
}

static void ring_needs_room_for_the_page_modification_log(void **state)
{
	struct fake_kvm *kvm = fake_kvm_new(&(struct fake_kvm_config){.pml = true});

	assert_int_equal(set_ring(*state, 4096), 0);
	assert_int_equal(set_ring(kvm, 8192), -EINVAL);
	assert_int_equal(set_ring(kvm, 16384), 0);
	end(kvm);
}

static void ring_comes_before_vcpus(void **state)
{
	fake_kvm_add_vcpu(*state);
	assert_int_equal(set_ring(*state, RING), -EINVAL);
}

static void page_is_pushed_once_until_it_is_reset(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	set(kvm, SPACE_1 | 3, 8, 4, LOG);
	store(vcpu, 0, 5);
	store(vcpu, 0, 5);
	store(vcpu, 1, 9);
	store(vcpu, 0, 4);
	store(vcpu, 0, 5);
	assert_harvest(vcpu, 0, "0:5 10003:1 0:4 ");
	store(vcpu, 0, 5);
	assert_harvest(vcpu, 3, "");
	assert_int_equal(reset_rings(kvm), 3);
	assert_int_equal(reset_rings(kvm), 0);
	store(vcpu, 0, 5);
	store(vcpu, 1, 9);
	assert_harvest(vcpu, 3, "0:5 10003:1 ");
	assert_int_equal(reset_rings(kvm), 2);
	end(kvm);
}

static void reset_stops_at_what_is_not_harvested(void **state)
{
	struct fake_kvm_vcpu *vcpu, *other;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	other = fake_kvm_add_vcpu(kvm);
	for (unsigned i = 0; i < 4; i++)
		store(vcpu, 0, i);
	store(other, 0, 100);
	vcpu->ring[0].flags |= KVM_DIRTY_GFN_F_RESET;
	vcpu->ring[2].flags |= KVM_DIRTY_GFN_F_RESET;
	other->ring[0].flags = KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(reset_rings(kvm), 2);
	assert_int_equal(reset_rings(kvm), 0);
	vcpu->ring[1].flags |= KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(reset_rings(kvm), 2);
	assert_int_equal(vcpu->reset, 3);
	end(kvm);
}

static void reset_counts_entries_of_slots_that_are_gone(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	store(vcpu, 0, 1000);
	store(vcpu, 0, 5);
	set(kvm, 0, 0, 0, 0);
	assert_harvest(vcpu, 0, "0:1000 0:5 ");
	assert_int_equal(reset_rings(kvm), 2);
	end(kvm);
}

/* What has the number by then is what an entry means. */
static void reset_watches_the_page_of_a_slot_that_took_the_number(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	store(vcpu, 0, 5);
	set(kvm, 0, 0, 0, 0);
	set(kvm, 0, 2000, 8, LOG);
	store(vcpu, 0, 2005);
	store(vcpu, 0, 2006);
	vcpu->ring[0].flags = KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(reset_rings(kvm), 1);
	store(vcpu, 0, 2005);
	store(vcpu, 0, 2006);
	assert_harvest(vcpu, 1, "0:5 0:6 0:5 ");
	end(kvm);
}

static void vcpu_does_not_run_with_a_full_ring(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	for (unsigned i = 0; i < SOFT; i++)
		assert_int_equal(store(vcpu, 0, i), 0);
	assert_int_equal(store(vcpu, 0, SOFT), 1);
	assert_int_equal(store(vcpu, 0, 0), 1);
	assert_int_equal(fake_kvm_clock(vcpu, pages(900)), 1);
	assert_int_equal(fake_kvm_ioctl(kvm, vcpu->fd, KVM_RUN, NULL), 0);
	assert_int_equal(vcpu->run->exit_reason, KVM_EXIT_DIRTY_RING_FULL);
	vcpu->run->immediate_exit = 1;
	assert_int_equal(fake_kvm_ioctl(kvm, vcpu->fd, KVM_RUN, NULL), -EINTR);
	vcpu->run->immediate_exit = 0;
	vcpu->ring[0].flags |= KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(fake_kvm_ioctl(kvm, vcpu->fd, KVM_RUN, NULL), 0);
	assert_int_equal(reset_rings(kvm), 1);
	assert_int_equal(fake_kvm_ioctl(kvm, vcpu->fd, KVM_RUN, NULL), -EINTR);
	assert_int_equal(store(vcpu, 0, 0), 0);
	assert_int_equal(store(vcpu, 0, 0), 1);
	end(kvm);
}

static void bitmaps_are_out_of_reach_with_rings(void **state)
{
	struct fake_kvm *kvm = *state;
	uint64_t bits = 0;

	set(kvm, 0, 0, 4, LOG);
	assert_int_equal(set_ring(kvm, RING), 0);
	set(kvm, 1, 4, 4, LOG);
	assert_non_null(fake_kvm_find(kvm, 0, 0)->bitmap);
	assert_null(fake_kvm_find(kvm, 0, pages(4))->bitmap);
	assert_int_equal(get(kvm, 0, 0, &bits), -ENXIO);
	assert_int_equal(get(kvm, 9, 0, &bits), -ENXIO);
	assert_int_equal(clear(kvm, 0, 0, 4, 0), -ENXIO);
}

static void write_by_no_vcpu_is_in_no_ring(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	assert_int_equal(write_page(kvm, 0, 5), 0);
	assert_int_equal(read_page(kvm, 0, 6), 0);
	assert_int_equal(write_page(kvm, 0, 1024), -EFAULT);
	assert_harvest(vcpu, 0, "");
	store(vcpu, 0, 5);
	assert_harvest(vcpu, 0, "0:5 ");
	end(kvm);
}

/* ---- threads ---- */

enum { NVCPUS = 2, NWRITES = 20000 };

struct writer {
	struct fake_kvm_vcpu *vcpu;
	uint32_t next;      /* the harvester's */
	uint64_t harvested; /* pages */
	atomic_bool ended;
};

/* Other pages for each vCPU; those that do not fit are tried again. */
static void *write_pages(void *data)
{
	struct writer *writer = data;

	for (unsigned i = 0; i < NWRITES; i++)
		while (store(writer->vcpu, 0, 512 * writer->vcpu->index + i * 7 % 512) == 1)
			sched_yield();
	atomic_store(&writer->ended, true);
	return NULL;
}

static void harvest(struct writer *writer)
{
	for (;; writer->next++, writer->harvested++) {
		struct kvm_dirty_gfn *entry = &writer->vcpu->ring[writer->next % ENTRIES];

		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			return;
		assert_int_equal(entry->slot, 0);
		assert_int_equal(entry->offset / 512, writer->vcpu->index);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
}

static void rings_are_harvested_while_vcpus_write(void **state)
{
	struct fake_kvm *kvm = *state;
	struct writer writers[NVCPUS] = {0};
	pthread_t threads[NVCPUS];
	uint64_t nreset = 0;
	bool ended = false;

	assert_int_equal(set_ring(kvm, RING), 0);
	assert_int_equal(set(kvm, 0, 0, 1024, LOG), 0);
	for (unsigned i = 0; i < NVCPUS; i++) {
		writers[i].vcpu = fake_kvm_add_vcpu(kvm);
		pthread_create(&threads[i], NULL, write_pages, &writers[i]);
	}
	while (!ended) {
		ended = true;
		for (unsigned i = 0; i < NVCPUS; i++) {
			ended &= atomic_load(&writers[i].ended);
			harvest(&writers[i]);
		}
		nreset += (uint64_t)reset_rings(kvm);
	}
	for (unsigned i = 0; i < NVCPUS; i++) {
		pthread_join(threads[i], NULL);
		nreset -= writers[i].harvested;
		assert_true(writers[i].harvested >= 512);
		assert_int_equal(writers[i].vcpu->pushed, writers[i].vcpu->reset);
	}
	assert_int_equal(nreset, 0);
}

/* ---- the page-modification log ---- */

static void buffered_writes_are_dirty_after_a_flush(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(&(struct fake_kvm_config){.pml = true}, 0, &vcpu);
	uint64_t bits[16] = {0};

	(void)state;
	store(vcpu, 0, 5);
	assert_int_equal(get(kvm, 0, 0, bits), 0);
	assert_int_equal(bits[0], 0);
	fake_kvm_vcpu_flush(vcpu);
	assert_int_equal(get(kvm, 0, 0, bits), 0);
	assert_int_equal(bits[0], 1 << 5);
	store(vcpu, 0, 6);
	assert_int_equal(fake_kvm_ioctl(kvm, vcpu->fd, KVM_RUN, NULL), -EINTR);
	assert_int_equal(get(kvm, 0, 0, bits), 0);
	assert_int_equal(bits[0], 1 << 6);
	end(kvm);
}

static void full_buffer_flushes_itself(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(&(struct fake_kvm_config){.pml = true}, 0, &vcpu);

	(void)state;
	for (unsigned i = 0; i < FAKE_KVM_PML_SIZE - 1; i++)
		store(vcpu, 0, i);
	assert_false(fake_kvm_is_dirty(kvm, 0, 0));
	store(vcpu, 0, 600);
	assert_true(fake_kvm_is_dirty(kvm, 0, 0));
	assert_true(fake_kvm_is_dirty(kvm, 0, pages(600)));
	assert_int_equal(vcpu->npml, 0);
	end(kvm);
}

static void flush_finds_the_slots_of_its_moment(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(&(struct fake_kvm_config){.pml = true}, 0, &vcpu);

	(void)state;
	store(vcpu, 0, 5);
	store(vcpu, 0, 100);
	set(kvm, 0, 0, 0, 0);
	set(kvm, 7, 4, 4, LOG);
	fake_kvm_vcpu_flush(vcpu);
	assert_log(kvm, 0, 7, 1 << 1);
	end(kvm);
}

static void change_of_space_flushes_in_the_old_one(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(&(struct fake_kvm_config){.pml = true}, 0, &vcpu);

	(void)state;
	set(kvm, SPACE_1, 0, 16, LOG);
	store(vcpu, 0, 5);
	store(vcpu, 1, 6);
	fake_kvm_vcpu_flush(vcpu);
	assert_true(fake_kvm_is_dirty(kvm, 0, pages(5)));
	assert_false(fake_kvm_is_dirty(kvm, 0, pages(6)));
	assert_log(kvm, 1, 0, 1 << 6);
	end(kvm);
}

static void flush_fills_the_ring(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(&(struct fake_kvm_config){.pml = true}, 16384, &vcpu);

	(void)state;
	store(vcpu, 0, 5);
	assert_harvest(vcpu, 0, "");
	fake_kvm_vcpu_flush(vcpu);
	assert_harvest(vcpu, 0, "0:5 ");
	assert_int_equal(reset_rings(kvm), 1);
	/* 1024 entries less 64 and 512; the buffer may come on top. */
	for (unsigned i = 0; i < 448; i++)
		assert_int_equal(store(vcpu, 0, i), 0);
	fake_kvm_vcpu_flush(vcpu);
	assert_int_equal(store(vcpu, 0, 448), 1);
	end(kvm);
}

/* ---- KVM's own writes ---- */

static void clock_is_written_in_space_0_wherever_the_vcpu_is(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	set(kvm, SPACE_1, 0, 16, LOG);
	store(vcpu, 1, 3);
	assert_int_equal(vcpu->as_id, 1);
	assert_int_equal(fake_kvm_clock(vcpu, pages(5) + 64), 0);
	assert_int_equal(fake_kvm_clock(vcpu, pages(5) + 64), 0);
	assert_int_equal(fake_kvm_clock(vcpu, pages(1024)), -EFAULT);
	assert_int_equal(vcpu->as_id, 1);
	assert_harvest(vcpu, 0, "10000:3 0:5 0:5 ");
	end(kvm);
}

static void smm_state_is_saved_in_space_1(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, 0, &vcpu);

	(void)state;
	assert_int_equal(fake_kvm_smm_save(vcpu), -EFAULT);
	assert_false(kvm->dead);
	set(kvm, SPACE_1, 0x30, 16, LOG);
	assert_int_equal(fake_kvm_smm_save(vcpu), 0);
	assert_log(kvm, 1, 0, 1 << 15);
	assert_int_equal(vcpu->as_id, 1);
	assert_false(fake_kvm_is_dirty(kvm, 0, pages(0x3f)));
	end(kvm);
}

static void vm_without_a_place_for_smm_state_dies_from_6_2_on(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm =
		with_ring(&(struct fake_kvm_config){.version = FAKE_KVM_6_12}, 0, &vcpu);

	(void)state;
	assert_int_equal(fake_kvm_smm_save(vcpu), -EFAULT);
	assert_int_equal(set(kvm, 1, 2000, 1, 0), -EIO);
	end(kvm);
}

/* ---- failures, copies, checks ---- */

static void planned_failure_counts_reset(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	store(vcpu, 0, 5);
	assert_harvest(vcpu, 0, "0:5 ");
	fake_kvm_reset(kvm);
	fake_kvm_fail_at(kvm, 1, EINTR);
	assert_int_equal(reset_rings(kvm), -EINTR);
	assert_int_equal(vcpu->reset, 0);
	assert_int_equal(reset_rings(kvm), 1);
	assert_int_equal(kvm->count[FAKE_KVM_RESET], 1);
	assert_int_equal(kvm->refused, 1);
	assert_int_equal(kvm->calls[1].op, FAKE_KVM_RESET);
	assert_int_equal(kvm->calls[1].result, 1);
	end(kvm);
}

/* By what a signal does to a reset of five entries: what it gives, and what is watched. */
static void signal_interrupts_a_reset_once(void **state)
{
	static const struct {
		unsigned after;
		int error;
		bool forgets;
		int result, rest;
		const char *again;
	} cases[] = {
		{0, 0, false, 0, 5, "0:0 0:1 0:2 0:3 0:4 "},
		{2, 0, false, 2, 3, "0:0 0:1 0:2 0:3 0:4 "},
		{2, EINTR, false, -EINTR, 3, "0:0 0:1 0:2 0:3 0:4 "},
		{2, 0, true, 2, 3, "0:2 0:3 0:4 "},
		{9, 0, true, 5, 0, "0:0 0:1 0:2 0:3 0:4 "},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct fake_kvm_vcpu *vcpu;
		struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

		for (unsigned page = 0; page < 5; page++)
			store(vcpu, 0, page);
		assert_harvest(vcpu, 0, "0:0 0:1 0:2 0:3 0:4 ");
		kvm->signal.comes = true;
		kvm->signal.after = cases[i].after;
		kvm->signal.error = cases[i].error;
		kvm->signal.forgets = cases[i].forgets;
		assert_int_equal(reset_rings(kvm), cases[i].result);
		kvm->signal.comes = false;
		assert_int_equal(reset_rings(kvm), cases[i].rest);
		for (unsigned page = 0; page < 5; page++)
			store(vcpu, 0, page);
		assert_harvest(vcpu, 5, cases[i].again);
		end(kvm);
	}
}

static void signal_that_is_blocked_waits(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);
	sigset_t alarm, before;

	(void)state;
	store(vcpu, 0, 5);
	store(vcpu, 0, 6);
	assert_harvest(vcpu, 0, "0:5 0:6 ");
	kvm->signal.comes = true;
	kvm->signal.after = 1;
	kvm->signal.blockable = true;
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, &before);
	assert_int_equal(reset_rings(kvm), 2);
	assert_true(kvm->signal.comes);
	store(vcpu, 0, 5);
	store(vcpu, 0, 6);
	assert_harvest(vcpu, 2, "0:5 0:6 ");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	assert_int_equal(reset_rings(kvm), 1);
	assert_false(kvm->signal.comes);
	assert_int_equal(reset_rings(kvm), 1);
	end(kvm);
}

static void snapshot_has_the_rings_and_what_is_in_them(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu), *copy;

	(void)state;
	store(vcpu, 0, 5);
	copy = fake_kvm_snapshot(kvm);
	assert_true(fake_kvm_equal(kvm, copy));
	assert_valid(copy);
	assert_harvest(copy->vcpus[0], 0, "0:5 ");
	assert_false(fake_kvm_equal(kvm, copy));
	assert_true(fake_kvm_equal_slots(kvm, copy));
	assert_harvest(vcpu, 0, "0:5 ");
	assert_true(fake_kvm_equal(kvm, copy));
	store(vcpu, 0, 6);
	assert_false(fake_kvm_equal(kvm, copy));
	assert_int_equal(store(copy->vcpus[0], 0, 6), 0);
	assert_true(fake_kvm_equal(kvm, copy));
	end(copy);
	end(kvm);
}

static void entry_harvested_before_it_was_pushed_is_found(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	vcpu->ring[0].flags = KVM_DIRTY_GFN_F_RESET;
	assert_null(fake_kvm_validate(kvm));
	assert_int_equal(reset_rings(kvm), 1);
	assert_non_null(fake_kvm_validate(kvm));
	assert_int_equal(store(vcpu, 0, 5), 1);
	fake_kvm_free(kvm);
}

static void made_up_entry_that_wraps_is_harmless(void **state)
{
	struct fake_kvm_vcpu *vcpu;
	struct fake_kvm *kvm = with_ring(NULL, RING, &vcpu);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		store(vcpu, 0, i);
	vcpu->ring[0].offset = 8;
	vcpu->ring[1].offset = UINT64_MAX;
	vcpu->ring[2].offset = UINT64_MAX - 62;
	for (unsigned i = 0; i < 3; i++)
		vcpu->ring[i].flags = UINT32_MAX;
	assert_int_equal(reset_rings(kvm), 3);
	store(vcpu, 0, 1);
	assert_harvest(vcpu, 3, "");
	end(kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(vcpu_writes_mark_the_bitmap_without_rings),
		KVM_TEST(vcpu_has_an_fd_of_its_own_that_serves_only_kvm_run),
		KVM_TEST(capabilities_can_be_lacking),
		KVM_TEST(ring_needs_room_for_the_page_modification_log),
		KVM_TEST(ring_comes_before_vcpus),
		KVM_TEST(page_is_pushed_once_until_it_is_reset),
		KVM_TEST(reset_stops_at_what_is_not_harvested),
		KVM_TEST(reset_counts_entries_of_slots_that_are_gone),
		KVM_TEST(reset_watches_the_page_of_a_slot_that_took_the_number),
		KVM_TEST(vcpu_does_not_run_with_a_full_ring),
		KVM_TEST(bitmaps_are_out_of_reach_with_rings),
		KVM_TEST(write_by_no_vcpu_is_in_no_ring),
		KVM_TEST(rings_are_harvested_while_vcpus_write),
		KVM_TEST(buffered_writes_are_dirty_after_a_flush),
		KVM_TEST(full_buffer_flushes_itself),
		KVM_TEST(flush_finds_the_slots_of_its_moment),
		KVM_TEST(change_of_space_flushes_in_the_old_one),
		KVM_TEST(flush_fills_the_ring),
		KVM_TEST(clock_is_written_in_space_0_wherever_the_vcpu_is),
		KVM_TEST(smm_state_is_saved_in_space_1),
		KVM_TEST(vm_without_a_place_for_smm_state_dies_from_6_2_on),
		KVM_TEST(planned_failure_counts_reset),
		KVM_TEST(signal_interrupts_a_reset_once),
		KVM_TEST(signal_that_is_blocked_waits),
		KVM_TEST(snapshot_has_the_rings_and_what_is_in_them),
		KVM_TEST(entry_harvested_before_it_was_pushed_is_found),
		KVM_TEST(made_up_entry_that_wraps_is_harmless),
	};

	return cmocka_run_group_tests_name("double, rings", tests, NULL, NULL);
}

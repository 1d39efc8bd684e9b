/* SPDX-License-Identifier: MIT */
/*
 * Ways of logging: what a tie asks of KVM for each, and what becomes of a KVM that has it not;
 * manual protection, where reading a log does not clear it, and taking pages does.
 */
#include "kvm-guest.h"
#include "kvm/vm.h"

#include <limits.h>
#include <stdio.h>

#define MANUAL_TEST(name) cmocka_unit_test_setup_teardown(name, manual_setup, machine_teardown)

enum { NPAGES = 200 };

/* ---- making a tie ---- */

static int new_tie(struct machine *m, struct fake_kvm *vm, struct kvmas_kvm_config config,
		   struct kvmas_kvm **ret)
{
	config.struct_size = sizeof(config);
	config.vm_fd = vm->fd;
	config.ioctl = fake_kvm_ioctl;
	config.ioctl_data = vm;
	return kvmas_kvm_new(m->f->kvmas, &config, ret);
}

/* A tie to a VM of its own, which is gone when this returns. */
static int try_tie(struct machine *m, const struct fake_kvm_config *vm_config,
		   struct kvmas_kvm_config config)
{
	struct fake_kvm *vm = fake_kvm_new(vm_config);
	struct kvmas_kvm *kvm = NULL;
	int err = new_tie(m, vm, config, &kvm);

	assert_int_equal(kvm == NULL, err != 0);
	kvmas_kvm_unref(kvm);
	must(kvmas_reclaim(m->f->kvmas));
	fake_kvm_free(vm);
	return err;
}

static void new_switches_on_the_way_that_is_asked_for(void **state)
{
	static const struct {
		enum kvmas_kvm_log log;
		uint64_t protect;
		bool rings;
	} table[] = {
		{KVMAS_KVM_LOG_AUTO, 0, false},
		{KVMAS_KVM_LOG_MANUAL, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, false},
		{KVMAS_KVM_LOG_MANUAL_SET,
		 KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET, false},
		{KVMAS_KVM_LOG_RING, 0, true},
	};

	(void)state;
	for (unsigned i = 0; i < LENGTH(table); i++) {
		struct machine *m = machine_new_logging(table[i].log);

		assert_int_equal(m->vm->manual_protect, table[i].protect);
		assert_int_equal(m->vm->ring_size, table[i].rings ? page_size() : 0);
		machine_free(m);
	}
}

static void way_that_kvm_does_not_have_is_eopnotsupp(void **state)
{
	static const struct {
		enum kvmas_kvm_log log;
		struct fake_kvm_config config;
		int result;
	} table[] = {
		{KVMAS_KVM_LOG_AUTO,
		 {.no_manual = true, .no_ring = true, .no_ring_acq_rel = true},
		 0},
		{KVMAS_KVM_LOG_MANUAL, {.no_manual = true}, -EOPNOTSUPP},
		{KVMAS_KVM_LOG_MANUAL, {.no_initially_set = true}, 0},
		{KVMAS_KVM_LOG_MANUAL_SET, {.no_manual = true}, -EOPNOTSUPP},
		{KVMAS_KVM_LOG_MANUAL_SET, {.no_initially_set = true}, -EOPNOTSUPP},
		{KVMAS_KVM_LOG_MANUAL_SET, {.no_ring = true, .no_ring_acq_rel = true}, 0},
		{KVMAS_KVM_LOG_RING, {.no_manual = true, .no_ring = true}, 0},
		{KVMAS_KVM_LOG_RING, {.no_ring_acq_rel = true}, 0},
		{KVMAS_KVM_LOG_RING, {.no_ring = true, .no_ring_acq_rel = true}, -EOPNOTSUPP},
	};

	for (unsigned i = 0; i < LENGTH(table); i++)
		assert_int_equal(
			try_tie(*state, &table[i].config, logging_config(table[i].log, false)),
			table[i].result);
}

static void ring_size_that_is_none_is_refused(void **state)
{
	static const struct {
		enum kvmas_kvm_log log;
		unsigned size;
		bool pml;
		int result;
	} table[] = {
		{KVMAS_KVM_LOG_AUTO, 4096, false, -EINVAL},
		{KVMAS_KVM_LOG_MANUAL, 1 << 16, false, -EINVAL},
		{KVMAS_KVM_LOG_MANUAL_SET, 1, false, -EINVAL},
		{KVMAS_KVM_LOG_RING, 0, false, -EINVAL},
		{KVMAS_KVM_LOG_RING, 16, false, -EINVAL},
		{KVMAS_KVM_LOG_RING, (1 << 16) + 1, false, -EINVAL},
		{KVMAS_KVM_LOG_RING, 3 << 16, false, -EINVAL},
		{KVMAS_KVM_LOG_RING, UINT_MAX, false, -EINVAL},
		{KVMAS_KVM_LOG_RING, 1 << 16, false, 0},
		{KVMAS_KVM_LOG_RING, 1 << 20, true, 0},
		{KVMAS_KVM_LOG_RING, 1 << 21, false, -E2BIG}, /* KVM knows */
		{KVMAS_KVM_LOG_RING, 1u << 31, false, -E2BIG},
		{(enum kvmas_kvm_log)(KVMAS_KVM_LOG_RING + 1), 0, false, -EINVAL},
		{(enum kvmas_kvm_log)UINT_MAX, 0, false, -EINVAL},
	};

	for (unsigned i = 0; i < LENGTH(table); i++) {
		struct fake_kvm_config config = {.pml = table[i].pml};

		assert_int_equal(try_tie(*state, &config,
					 (struct kvmas_kvm_config){.log = table[i].log,
								   .ring_size = table[i].size}),
				 table[i].result);
	}
	/* A page-modification log wants some entries for itself. */
	if (page_size() == 4096)
		assert_int_equal(try_tie(*state, &(struct fake_kvm_config){.pml = true},
					 logging_config(KVMAS_KVM_LOG_RING, false)),
				 -EINVAL);
}

static void rings_of_a_vm_that_has_vcpus_are_einval(void **state)
{
	struct machine *m = *state;
	struct fake_kvm *vm = fake_kvm_new(NULL);
	struct kvmas_kvm *kvm;

	fake_kvm_add_vcpu(vm);
	assert_int_equal(new_tie(m, vm, logging_config(KVMAS_KVM_LOG_RING, false), &kvm), -EINVAL);
	fake_kvm_free(vm);
}

static void errno_of_the_switching_is_handed_on(void **state)
{
	static const int errors[] = {ENOMEM, EFAULT, ENOENT, EINTR};
	struct machine *m = *state;

	for (unsigned i = 0; i < 3 * LENGTH(errors); i++) {
		struct fake_kvm *vm = fake_kvm_new(NULL);
		size_t bytes = m->f->heap.bytes;
		struct kvmas_kvm *kvm;

		fake_kvm_fail_at(vm, 1, errors[i / 3]);
		assert_int_equal(
			new_tie(m, vm, logging_config(KVMAS_KVM_LOG_MANUAL + i % 3, false), &kvm),
			-errors[i / 3]);
		assert_int_equal(m->f->heap.bytes, bytes);
		fake_kvm_free(vm);
	}
}

static void new_without_memory_is_enomem_in_every_way(void **state)
{
	struct machine *m = *state;

	for (unsigned log = 0; log <= KVMAS_KVM_LOG_RING; log++) {
		int err = -ENOMEM;

		for (unsigned k = 1; err; k++) {
			size_t bytes;

			must(kvmas_reclaim(m->f->kvmas));
			bytes = m->f->heap.bytes;
			m->f->heap.fail_in = k;
			err = try_tie(m, NULL, logging_config(log, false));
			m->f->heap.fail_in = 0;
			assert_true(err ? err == -ENOMEM && m->f->heap.bytes == bytes : k > 1);
		}
	}
}

/* What a hook says of a capability, or of its being switched on. */
struct lie {
	struct fake_kvm *vm;
	unsigned long request;
	uintptr_t capability;
	int answer;
};

static int lying_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	const struct lie *lie = data;

	if (request == lie->request &&
	    (request != KVM_CHECK_EXTENSION || (uintptr_t)arg == lie->capability))
		return lie->answer;
	return fake_kvm_ioctl(lie->vm, fd, request, arg);
}

static void new_on_a_kvm_that_makes_no_sense_is_refused(void **state)
{
	static const struct {
		enum kvmas_kvm_log log;
		uintptr_t capability; /* 0: KVM_ENABLE_CAP */
		int answer;
		int result;
	} table[] = {
		{KVMAS_KVM_LOG_MANUAL, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, -EIO, -EIO},
		{KVMAS_KVM_LOG_MANUAL, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, -100000, -EPROTO},
		{KVMAS_KVM_LOG_MANUAL, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, INT_MAX, 0},
		{KVMAS_KVM_LOG_MANUAL_SET, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 2, -EOPNOTSUPP},
		{KVMAS_KVM_LOG_MANUAL_SET, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 4, -EOPNOTSUPP},
		{KVMAS_KVM_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, -EPERM, -EPERM},
		{KVMAS_KVM_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, INT_MIN, -EPROTO},
		{KVMAS_KVM_LOG_MANUAL, 0, 1, -EPROTO},
		{KVMAS_KVM_LOG_RING, 0, 1, -EPROTO},
		{KVMAS_KVM_LOG_RING, 0, -5000, -EPROTO},
	};
	struct machine *m = *state;

	for (unsigned i = 0; i < LENGTH(table); i++) {
		struct kvmas_kvm_config config = logging_config(table[i].log, false);
		struct lie lie = {.vm = fake_kvm_new(NULL),
				  .request = table[i].capability ? KVM_CHECK_EXTENSION
								 : KVM_ENABLE_CAP,
				  .capability = table[i].capability,
				  .answer = table[i].answer};
		struct kvmas_kvm *kvm = NULL;

		config.struct_size = sizeof(config);
		config.vm_fd = lie.vm->fd;
		config.ioctl = lying_ioctl;
		config.ioctl_data = &lie;
		assert_int_equal(kvmas_kvm_new(m->f->kvmas, &config, &kvm), table[i].result);
		kvmas_kvm_unref(kvm);
		must(kvmas_reclaim(m->f->kvmas));
		fake_kvm_free(lie.vm);
	}
}

/* ---- logs that are not what was asked for ---- */

static void write_page(struct machine *m, unsigned as_id, uint64_t gfn)
{
	must(fake_kvm_write(m->vm, as_id, pages(gfn), 8));
}

static int sync_normal(struct machine *m)
{
	return kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX);
}

/* The VMM has switched rings on behind the library's back. */
static void log_that_is_in_rings_unknown_to_the_tie_counts_as_all_dirty(void **state)
{
	struct machine *m = *state;
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {1 << 16}};
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	must(kvmas_client_log_start(client, NULL, NULL));
	must(fake_kvm_ioctl(m->vm, m->vm->fd, KVM_ENABLE_CAP, &cap));
	assert_int_equal(sync_normal(m), -ENXIO);
	assert_taken(client, block_of(ram), "0-3 ");
	must(kvmas_client_log_stop(client, NULL, NULL));
	assert_taken(client, block_of(ram), "0-3 ");
}

/* ---- manual protection ---- */

/* RAM of some words, from its page 10 on; of which SMM shows a part, not at a multiple of 64. */
static int manual_setup(void **state)
{
	struct machine *m = machine_new_logging(KVMAS_KVM_LOG_MANUAL);

	m->region[0] = make_ram(m->f, "ram", pages(NPAGES + 10));
	m->region[1] = put_alias(m, NORMAL, m->region[0], 0, 10, NPAGES);
	put_alias(m, SMM, m->region[0], 0, 110, 100);
	must(kvmas_client_log_start(make_client(m, "a"), NULL, NULL));
	make_client(m, "b");
	*state = m;
	return 0;
}

static struct kvmas_ram *block(const struct machine *m)
{
	return block_of(m->region[0]);
}

static int64_t take(struct machine *m, unsigned client, uint64_t first, uint64_t npages)
{
	uint64_t bits[(NPAGES + 73) / 64];

	return kvmas_client_take(m->clients[client], block(m), first, npages, bits);
}

static void log_is_cleared_by_whom_takes_and_not_by_reading(void **state)
{
	struct machine *m = *state;

	write_page(m, NORMAL, 3);
	write_page(m, NORMAL, 100);
	fake_kvm_reset(m->vm);
	must(sync_normal(m));
	must(sync_normal(m));
	assert_int_equal(m->vm->count[FAKE_KVM_CLEAR], 0);
	assert_true(fake_kvm_is_dirty(m->vm, NORMAL, pages(3)));
	assert_taken(m->clients[0], block(m), "13 110 ");
	assert_int_equal(m->vm->count[FAKE_KVM_CLEAR], 1);
	assert_false(fake_kvm_is_dirty(m->vm, NORMAL, pages(3)));
	assert_false(fake_kvm_is_dirty(m->vm, NORMAL, pages(100)));
	assert_int_equal(stats_of(m).log_clears, 1);
}

static void page_that_is_written_all_the_time_is_told_once_to_each_take(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < 4; i++) {
		write_page(m, NORMAL, 3);
		must(sync_normal(m));
		write_page(m, NORMAL, 3);
		must(sync_normal(m));
		assert_taken(m->clients[0], block(m), "13 ");
		must(sync_normal(m));
		assert_taken(m->clients[0], block(m), "");
	}
	assert_taken(m->clients[1], block(m), "13 ");
}

static void second_client_needs_no_second_clear(void **state)
{
	struct machine *m = *state;

	write_page(m, NORMAL, 3);
	must(sync_normal(m));
	fake_kvm_reset(m->vm);
	assert_taken(m->clients[0], block(m), "13 ");
	assert_taken(m->clients[1], block(m), "13 ");
	assert_int_equal(m->vm->count[FAKE_KVM_CLEAR], 1);
}

static void nothing_taken_or_nothing_told_is_no_call(void **state)
{
	struct machine *m = *state;

	write_page(m, NORMAL, 3);
	fake_kvm_reset(m->vm);
	assert_int_equal(take(m, 0, 0, NPAGES), 0);
	must(kvmas_ram_mark(block(m), pages(14), 1));
	assert_int_equal(take(m, 0, 0, NPAGES), 1);
	assert_int_equal(m->vm->ncalls, 0);
	must(sync_normal(m));
	fake_kvm_reset(m->vm);
	assert_int_equal(take(m, 0, 64, 64), 0);
	assert_int_equal(m->vm->ncalls, 0);
}

/* By words of the slot, which are not those of the block; never past the slot's end. */
static void each_part_that_is_taken_is_cleared_in_whole_words_of_its_slot(void **state)
{
	struct machine *m = *state;

	for (unsigned gfn = 0; gfn < NPAGES; gfn += 7) {
		uint64_t first = (gfn + 10) / 64 * 64;

		write_page(m, NORMAL, gfn);
		must(sync_normal(m));
		fake_kvm_reset(m->vm);
		assert_int_equal(
			take(m, 0, first, 64 > NPAGES + 10 - first ? NPAGES + 10 - first : 64), 1);
		assert_int_equal(m->vm->count[FAKE_KVM_CLEAR], 1);
		assert_int_equal(m->vm->refused, 0);
		assert_int_equal(m->vm->calls[0].first_page % 64, 0);
		assert_false(fake_kvm_is_dirty(m->vm, NORMAL, pages(gfn)));
	}
}

static void page_of_two_slots_is_armed_in_both(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < 3; i++) {
		write_page(m, NORMAL, 150);
		write_page(m, SMM, 50); /* the same one */
		must(sync_normal(m));
		must(kvmas_space_sync(m->space[SMM], 0, KVMAS_SIZE_MAX));
		fake_kvm_reset(m->vm);
		assert_taken(m->clients[0], block(m), "160 ");
		assert_int_equal(m->vm->count[FAKE_KVM_CLEAR], 2);
	}
}

static void clear_that_is_refused_takes_nothing(void **state)
{
	static const int errors[] = {ENOMEM, EFAULT, ENOENT, EINTR};
	struct machine *m = *state;

	for (unsigned i = 0; i < 2 * LENGTH(errors); i++) {
		write_page(m, NORMAL, 3);
		write_page(m, NORMAL, 150);
		write_page(m, SMM, 51);
		must(sync_normal(m));
		must(kvmas_space_sync(m->space[SMM], 0, KVMAS_SIZE_MAX));
		fake_kvm_fail_at(m->vm, 1 + i % 2, errors[i / 2]);
		assert_int_equal(take(m, 0, 0, NPAGES + 10), -errors[i / 2]);
		/* What was armed before, or after, is noticed anew; what was not is told anyway. */
		write_page(m, NORMAL, 4);
		write_page(m, SMM, 51);
		fake_kvm_fail_never(m->vm);
		must(sync_normal(m));
		assert_taken(m->clients[0], block(m), "13-14 160-161 ");
		must(sync_normal(m));
		must(kvmas_space_sync(m->space[SMM], 0, KVMAS_SIZE_MAX));
		assert_int_equal(take(m, 1, 0, NPAGES + 10), 4);
		take(m, 0, 0, NPAGES + 10);
	}
}

static bool answer_clears(struct machine *m, unsigned long request, int *result)
{
	*result = *(const int *)m->data;
	return request == KVM_CLEAR_DIRTY_LOG;
}

static void result_of_a_clear_that_kvm_never_gives_is_eproto(void **state)
{
	static int results[] = {1, INT_MAX, -4096, INT_MIN, -ENOTRECOVERABLE};
	struct machine *m = *state;

	write_page(m, NORMAL, 3);
	must(sync_normal(m));
	for (unsigned i = 0; i < LENGTH(results); i++) {
		m->data = &results[i];
		m->answer = answer_clears;
		assert_int_equal(take(m, 0, 0, NPAGES), -EPROTO);
		m->answer = NULL;
	}
	assert_taken(m->clients[0], block(m), "13 ");
}

static void slot_that_has_gone_is_not_armed_any_more(void **state)
{
	struct machine *m = *state;

	write_page(m, NORMAL, 3);
	must(sync_normal(m));
	must(kvmas_client_log_stop(m->clients[0], NULL, NULL));
	fake_kvm_reset(m->vm);
	assert_taken(m->clients[0], block(m), "13 ");
	assert_int_equal(m->vm->ncalls, 0);
	/* Nor is the next one's log that which was noted. */
	must(kvmas_client_log_start(m->clients[0], NULL, NULL));
	fake_kvm_reset(m->vm);
	assert_taken(m->clients[1], block(m), "13 ");
	assert_int_equal(m->vm->ncalls, 0);
}

/* KVM keeps its log. */
static void slot_that_moves_is_armed_by_whom_takes_then(void **state)
{
	struct machine *m = machine_new_logging(KVMAS_KVM_LOG_MANUAL);
	struct kvmas_region *bar = put_ram(m, NORMAL, "bar", 300, 100);

	(void)state;
	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
	write_page(m, NORMAL, 370);
	must(kvmas_region_set_offset(bar, pages(500)));
	fake_kvm_reset(m->vm);
	assert_taken(m->clients[0], block_of(bar), "70 ");
	assert_int_equal(m->vm->count[FAKE_KVM_CLEAR], 1);
	must(sync_normal(m));
	assert_taken(m->clients[0], block_of(bar), "");
	machine_free(m);
}

/* At the second change of slots, the first of which has been granted: while the slot is gone. */
static bool take_and_refuse(struct machine *m, unsigned long request, int *result)
{
	unsigned *changes = m->data;

	if (request != KVM_SET_USER_MEMORY_REGION || ++*changes != 2)
		return false;
	assert_taken(m->clients[1], block(m), "13 ");
	*result = -ENOMEM;
	return true;
}

/* What the log of the slot that was deleted has told must not be cleared from that of the slot that
 * undoing makes: it has not told it. */
static void page_taken_while_its_slot_is_gone_is_told_when_it_is_written_again(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *other = make_ram(m->f, "other", pages(1));
	unsigned changes = 0;

	write_page(m, NORMAL, 3);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_del(m->region[1]));
	add(m->root[NORMAL], other, pages(1000), 0);
	m->data = &changes;
	m->answer = take_and_refuse;
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOMEM);
	m->answer = NULL;
	write_page(m, NORMAL, 4);
	must(sync_normal(m));
	write_page(m, NORMAL, 3);
	assert_taken(m->clients[0], block(m), "13-14 ");
	must(sync_normal(m));
	assert_taken(m->clients[1], block(m), "13-14 ");
}

/* Whose fd may be closed. */
static void tie_that_is_gone_is_asked_nothing(void **state)
{
	struct machine *m = *state;

	write_page(m, NORMAL, 3);
	must(sync_normal(m));
	fake_kvm_reset(m->vm);
	kvmas_kvm_unref(m->kvm);
	m->kvm = NULL;
	assert_taken(m->clients[0], block(m), "13 ");
	must(kvmas_reclaim(m->f->kvmas));
	assert_taken(m->clients[1], block(m), "13 ");
	assert_int_equal(m->vm->ncalls, 0);
}

/* Two VMs show one block: who takes pages of it has both armed. */
static void all_vms_that_show_a_page_are_armed(void **state)
{
	struct machine *m = *state;

	machine_add_tie(m, NULL);
	must(kvmas_kvm_bind(m->kvm2, m->space[NORMAL], NORMAL));
	write_page(m, NORMAL, 3);
	must(fake_kvm_write(m->vm2, NORMAL, pages(3), 8));
	must(sync_normal(m));
	fake_kvm_fail_at(m->vm2, 1, EFAULT);
	assert_int_equal(take(m, 0, 0, NPAGES), -EFAULT);
	fake_kvm_fail_never(m->vm2);
	assert_taken(m->clients[0], block(m), "13 ");
	assert_false(fake_kvm_is_dirty(m->vm, NORMAL, pages(3)));
	assert_false(fake_kvm_is_dirty(m->vm2, NORMAL, pages(3)));
}

static void initially_set_slot_is_dirty_once(void **state)
{
	struct machine *m = machine_new_logging(KVMAS_KVM_LOG_MANUAL_SET);
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 100);

	(void)state;
	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
	must(sync_normal(m));
	assert_taken(m->clients[0], block_of(ram), "0-99 ");
	must(sync_normal(m));
	assert_taken(m->clients[0], block_of(ram), "");
	write_page(m, NORMAL, 7);
	must(sync_normal(m));
	assert_taken(m->clients[0], block_of(ram), "7 ");
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_switches_on_the_way_that_is_asked_for),
		KVM_TEST(way_that_kvm_does_not_have_is_eopnotsupp),
		KVM_TEST(ring_size_that_is_none_is_refused),
		KVM_TEST(rings_of_a_vm_that_has_vcpus_are_einval),
		KVM_TEST(errno_of_the_switching_is_handed_on),
		KVM_TEST(new_without_memory_is_enomem_in_every_way),
		KVM_TEST(new_on_a_kvm_that_makes_no_sense_is_refused),
		KVM_TEST(log_that_is_in_rings_unknown_to_the_tie_counts_as_all_dirty),
		MANUAL_TEST(log_is_cleared_by_whom_takes_and_not_by_reading),
		MANUAL_TEST(page_that_is_written_all_the_time_is_told_once_to_each_take),
		MANUAL_TEST(second_client_needs_no_second_clear),
		MANUAL_TEST(nothing_taken_or_nothing_told_is_no_call),
		MANUAL_TEST(each_part_that_is_taken_is_cleared_in_whole_words_of_its_slot),
		MANUAL_TEST(page_of_two_slots_is_armed_in_both),
		MANUAL_TEST(clear_that_is_refused_takes_nothing),
		MANUAL_TEST(result_of_a_clear_that_kvm_never_gives_is_eproto),
		MANUAL_TEST(slot_that_has_gone_is_not_armed_any_more),
		cmocka_unit_test(slot_that_moves_is_armed_by_whom_takes_then),
		MANUAL_TEST(page_taken_while_its_slot_is_gone_is_told_when_it_is_written_again),
		MANUAL_TEST(tie_that_is_gone_is_asked_nothing),
		MANUAL_TEST(all_vms_that_show_a_page_are_armed),
		cmocka_unit_test(initially_set_slot_is_dirty_once),
	};

	return cmocka_run_group_tests_name("log-ways", tests, NULL, NULL);
}

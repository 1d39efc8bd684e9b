/* SPDX-License-Identifier: MIT */
/*
 * KVM's dirty logs, on their way into the clients' bitmaps. Guest writes are made in the double, by
 * (space, page); what a client takes is told in pages of the block: "3 64-66 ".
 */
#include "kvm-fixture.h"
#include "kvm/vm.h"

#include <stdio.h>

static void write_pages(struct machine *m, unsigned as_id, uint64_t gfn, uint64_t npages)
{
	must(fake_kvm_write(m->vm, as_id, pages(gfn), pages(npages)));
}

static void sync_space(struct machine *m, unsigned as_id)
{
	must(kvmas_space_sync(m->space[as_id], 0, KVMAS_SIZE_MAX));
}

static void sync_all(struct machine *m)
{
	sync_space(m, NORMAL);
	sync_space(m, SMM);
}

/* 256 pages of RAM at 0 in both spaces, all logged. */
static struct kvmas_region *put_logged_ram(struct machine *m, struct kvmas_client *client)
{
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 256);

	put_alias(m, SMM, ram, 0, 0, 256);
	must(kvmas_client_log_start(client, NULL, NULL));
	return ram;
}

/* ---- which slots are logged ---- */

static void log_of_one_region_in_one_space_is_set_there_only(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	put_ram(m, NORMAL, "other", 8, 4);
	put_alias(m, SMM, ram, 0, 0, 4);
	must(kvmas_client_log_start(client, ram, m->space[SMM]));
	assert_slots(m, "0:0 0-3 ram+0\n"
			"0:1 8-11 other+0\n"
			"1:0 0-3 ram+0 log\n");
	must(kvmas_client_log_start(client, ram, NULL));
	assert_slots(m, "0:0 0-3 ram+0 log\n"
			"0:1 8-11 other+0\n"
			"1:0 0-3 ram+0 log\n");
	must(kvmas_client_log_stop(client, ram, NULL));
	must(kvmas_client_log_stop(client, ram, m->space[SMM]));
	assert_slots(m, "0:0 0-3 ram+0\n"
			"0:1 8-11 other+0\n"
			"1:0 0-3 ram+0\n");
}

static void log_stays_while_another_client_wants_it(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *a = make_client(m, "a");
	struct kvmas_client *b = make_client(m, "b");
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	must(kvmas_client_log_start(a, ram, NULL));
	must(kvmas_client_log_start(b, NULL, m->space[NORMAL]));
	fake_kvm_reset(m->vm);
	must(kvmas_client_log_stop(a, ram, NULL));
	assert_int_equal(m->vm->ncalls, 0);
	assert_slots(m, "0:0 0-3 ram+0 log\n");
}

static void client_that_goes_stops_its_logs_with_the_next_commit(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");

	put_logged_ram(m, client);
	m->nclients = 0;
	kvmas_client_unref(client);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_commit(m->f->kvmas));
	assert_slots(m, "0:0 0-255 ram+0\n"
			"1:0 0-255 ram+0\n");
}

static void readonly_memory_is_never_logged(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *rom = make_rom(m->f, "rom", pages(4));
	struct kvmas_region *alias = put_alias(m, SMM, rom, 0, 0, 4);

	add(m->root[NORMAL], rom, 0, 0);
	must(kvmas_region_set_readonly(put_ram(m, NORMAL, "ram", 8, 4), true));
	must(kvmas_client_log_start(client, NULL, NULL));
	must(kvmas_client_log_start(client, alias, NULL));
	assert_slots(m, "0:0 0-3 rom+0 ro\n"
			"0:1 8-11 ram+0 ro\n"
			"1:0 0-3 rom+0 ro\n");
}

static void slot_made_while_logged_is_made_with_log(void **state)
{
	struct machine *m = *state;

	must(kvmas_client_log_start(make_client(m, "c"), NULL, m->space[NORMAL]));
	fake_kvm_reset(m->vm);
	put_ram(m, NORMAL, "ram", 0, 4);
	assert_slots(m, "0:0 0-3 ram+0 log\n");
	assert_int_equal(m->vm->ncalls, 1);
}

/* ---- sync ---- */

static void sync_reads_the_logged_slots_of_its_space_only(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	put_ram(m, NORMAL, "unlogged", 8, 4);
	put_alias(m, NORMAL, ram, 16, 0, 4);
	put_alias(m, SMM, ram, 0, 0, 4);
	must(kvmas_client_log_start(client, ram, NULL));
	fake_kvm_reset(m->vm);
	sync_space(m, NORMAL);
	assert_int_equal(calls_in(m->vm, NORMAL, FAKE_KVM_GET), 2);
	assert_int_equal(m->vm->ncalls, 2);
	sync_space(m, SMM);
	assert_int_equal(calls_in(m->vm, SMM, FAKE_KVM_GET), 1);
	assert_int_equal(m->vm->ncalls, 3);
}

static void sync_of_a_range_reads_the_slots_in_it_only(void **state)
{
	/* Logged slots are at pages 8-11, 12-15, 32-35; which are read, as a mask. */
	static const struct {
		unsigned gfn;
		unsigned npages;
		unsigned read;
	} table[] = {
		{0, 8, 0},  {0, 9, 1},   {8, 4, 1},   {11, 1, 1}, {11, 2, 3},
		{12, 4, 2}, {16, 16, 0}, {15, 18, 6}, {33, 1, 4}, {36, 100, 0},
	};

	for (size_t i = 0; i < LENGTH(table); i++) {
		struct machine *m = machine_new(NULL);
		unsigned read = 0;

		(void)state;
		put_ram(m, NORMAL, "a", 8, 4);
		put_ram(m, NORMAL, "b", 12, 4);
		put_ram(m, NORMAL, "c", 32, 4);
		must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
		fake_kvm_reset(m->vm);
		must(kvmas_space_sync(m->space[NORMAL], pages(table[i].gfn),
				      pages(table[i].npages)));
		for (size_t k = 0; k < m->vm->ncalls; k++)
			read |= 1U << m->vm->calls[k].id;
		assert_int_equal(read, table[i].read);
		machine_free(m);
	}
}

static void sync_of_one_byte_reads_the_slot_that_has_it(void **state)
{
	struct machine *m = *state;

	put_ram(m, NORMAL, "ram", 8, 4);
	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
	fake_kvm_reset(m->vm);
	must(kvmas_space_sync(m->space[NORMAL], pages(8), 1));
	must(kvmas_space_sync(m->space[NORMAL], pages(12) - 1, 1));
	assert_int_equal(m->vm->ncalls, 2);
	must(kvmas_space_sync(m->space[NORMAL], pages(8) - 1, 1));
	must(kvmas_space_sync(m->space[NORMAL], pages(12), 1));
	assert_int_equal(m->vm->ncalls, 2);
}

static void sync_of_an_unbound_space_reads_nothing(void **state)
{
	struct machine *m = *state;

	put_logged_ram(m, make_client(m, "c"));
	must(kvmas_kvm_unbind(m->kvm, NORMAL));
	fake_kvm_reset(m->vm);
	sync_space(m, NORMAL);
	assert_int_equal(m->vm->ncalls, 0);
	sync_space(m, SMM);
	assert_int_equal(m->vm->ncalls, 1);
}

static void sync_inside_a_transaction_reads_what_kvm_has(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);

	write_pages(m, NORMAL, 3, 1);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_set_enabled(ram, false));
	sync_space(m, NORMAL);
	assert_taken(client, block_of(ram), "3 ");
	must(kvmas_abort(m->f->kvmas));
}

/* ---- what arrives ---- */

static void page_written_through_any_space_is_dirty_once(void **state)
{
	static const unsigned writers[] = {1U << NORMAL, 1U << SMM, 1U << NORMAL | 1U << SMM};

	for (size_t i = 0; i < LENGTH(writers); i++) {
		struct machine *m = machine_new(NULL);
		struct kvmas_client *client = make_client(m, "c");
		struct kvmas_region *ram = put_logged_ram(m, client);

		(void)state;
		for (unsigned as_id = 0; as_id < NSPACES; as_id++) {
			if (writers[i] & 1U << as_id)
				write_pages(m, as_id, 70, 2);
		}
		sync_all(m);
		assert_taken(client, block_of(ram), "70-71 ");
		sync_all(m);
		assert_taken(client, block_of(ram), "");
		machine_free(m);
	}
}

static void write_through_the_other_space_waits_for_its_sync(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);

	write_pages(m, NORMAL, 1, 1);
	write_pages(m, SMM, 2, 1);
	sync_space(m, SMM);
	assert_taken(client, block_of(ram), "2 ");
	sync_space(m, NORMAL);
	assert_taken(client, block_of(ram), "1 ");
}

static void each_client_takes_its_own(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *a = make_client(m, "a");
	struct kvmas_client *b = make_client(m, "b");
	struct kvmas_region *ram = put_logged_ram(m, a);

	write_pages(m, NORMAL, 5, 1);
	sync_all(m);
	assert_taken(a, block_of(ram), "5 ");
	write_pages(m, SMM, 9, 1);
	sync_all(m);
	assert_taken(b, block_of(ram), "5 9 ");
	assert_taken(a, block_of(ram), "9 ");
}

static void alias_inside_the_block_marks_the_blocks_pages(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(300));

	/* Neither at page 0 of the block, nor at a multiple of 64. */
	put_alias(m, NORMAL, ram, 1000, 37, 200);
	must(kvmas_client_log_start(client, ram, NULL));
	write_pages(m, NORMAL, 1000, 1);
	write_pages(m, NORMAL, 1000 + 26, 2); /* 63 and 64 */
	write_pages(m, NORMAL, 1000 + 64, 1); /* the log's second word */
	write_pages(m, NORMAL, 1000 + 199, 1);
	sync_space(m, NORMAL);
	assert_taken(client, block_of(ram), "37 63-64 101 236 ");
}

static void every_place_of_a_slot_in_its_block_keeps_each_page(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(200));
	struct kvmas_region *alias = put_alias(m, NORMAL, ram, 1000, 0, 70);

	must(kvmas_client_log_start(client, ram, NULL));
	for (unsigned first = 0; first <= 130; first++) {
		char expected[32];
		unsigned page = (first * 29) % 70;

		must(kvmas_region_set_alias(alias, ram, pages(first)));
		write_pages(m, NORMAL, 1000 + page, 1);
		sync_space(m, NORMAL);
		snprintf(expected, sizeof(expected), "%u ", first + page);
		assert_taken(client, block_of(ram), expected);
	}
}

/* ---- before a log goes away ---- */

static void slot_that_is_deleted_is_read_before(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);

	write_pages(m, NORMAL, 3, 1);
	fake_kvm_reset(m->vm);
	must(kvmas_region_del(ram));
	assert_int_equal(m->vm->calls[0].op, FAKE_KVM_GET);
	assert_taken(client, block_of(ram), "3 ");
}

static void slot_that_is_cut_is_read_before(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);

	write_pages(m, NORMAL, 3, 1);
	write_pages(m, NORMAL, 200, 1);
	put_mmio(m, NORMAL, "vga", 100, 10);
	write_pages(m, NORMAL, 210, 1);
	sync_all(m);
	assert_taken(client, block_of(ram), "3 200 210 ");
}

static void slot_that_stops_logging_is_read_before(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);

	write_pages(m, NORMAL, 3, 1);
	write_pages(m, SMM, 4, 1);
	must(kvmas_client_log_stop(client, NULL, NULL));
	assert_taken(client, block_of(ram), "3-4 ");
}

static void slots_of_an_as_id_that_is_unbound_are_read_before(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);

	write_pages(m, SMM, 3, 1);
	must(kvmas_kvm_unbind(m->kvm, SMM));
	assert_taken(client, block_of(ram), "3 ");
}

static void slot_that_stays_is_not_read(void **state)
{
	struct machine *m = *state;

	put_logged_ram(m, make_client(m, "c"));
	fake_kvm_reset(m->vm);
	put_ram(m, NORMAL, "more", 300, 4);
	assert_int_equal(m->vm->count[FAKE_KVM_GET], 0);
}

static void commit_that_fails_loses_no_page(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);
	struct kvmas_region *vga = make_mmio(m->f, "vga", pages(10));

	for (unsigned k = 1; k <= 4; k++) {
		write_pages(m, NORMAL, k, 1);
		write_pages(m, SMM, 100 + k, 1);
		fake_kvm_fail_at(m->vm, k + 1, ENOMEM); /* the first reads */
		assert_int_equal(kvmas_region_add(m->root[NORMAL], vga, pages(100), 1),
				 k <= 3 ? -ENOMEM : 0);
	}
	fake_kvm_fail_never(m->vm);
	sync_all(m);
	assert_taken(client, block_of(ram), "1-4 101-104 ");
}

/* The third operation of a commit is refused; before that the guest writes to what the second has
 * made. */
static void write_before_the_third(struct machine *m, unsigned long request, void *arg)
{
	unsigned *operations = m->data;

	(void)arg;
	if (request != KVM_SET_USER_MEMORY_REGION || ++*operations != 3)
		return;
	write_pages(m, NORMAL, 5, 1);
	fake_kvm_fail_at(m->vm, 1, ENOMEM);
}

static void slot_that_undoing_deletes_is_read_before(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);
	struct kvmas_region *vga = make_mmio(m->f, "vga", pages(10));
	unsigned operations = 0;

	m->data = &operations;
	m->on_ioctl = write_before_the_third;
	assert_int_equal(kvmas_region_add(m->root[NORMAL], vga, pages(100), 1), -ENOMEM);
	m->on_ioctl = NULL;
	sync_all(m);
	assert_taken(client, block_of(ram), "5 ");
}

/* The guest writes to what was made, unless it is held, a moment before that is deleted again. */
static void write_before_deletion(struct machine *m, unsigned long request, void *arg)
{
	const struct kvm_userspace_memory_region *region = arg;

	if (request == KVM_SET_USER_MEMORY_REGION && region->memory_size == 0 && !m->kvm->stopped)
		write_pages(m, NORMAL, 5, 1);
}

/* No vCPU is held by a plan that only makes slots. The second is refused. */
static struct kvmas_region *make_two_and_fail(struct machine *m)
{
	struct kvmas_region *first = make_ram(m->f, "first", pages(4));

	must(kvmas_begin(m->f->kvmas));
	add(m->root[NORMAL], first, pages(4), 0);
	add(m->root[NORMAL], make_ram(m->f, "second", pages(4)), pages(12), 0);
	m->on_ioctl = write_before_deletion;
	fake_kvm_fail_at(m->vm, 2, ENOMEM);
	assert_int_equal(kvmas_commit(m->f->kvmas), -ENOMEM);
	m->on_ioctl = NULL;
	return first;
}

static void vcpus_are_held_when_undoing_deletes_a_logged_slot(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");

	must(kvmas_client_log_start(client, NULL, NULL));
	assert_taken(client, block_of(make_two_and_fail(m)), "");
	assert_false(m->kvm->stopped);
}

static int refuse_to_pause(void *data)
{
	(void)data;
	return -EAGAIN;
}

static void slot_that_undoing_deletes_without_a_stop_counts_as_all_dirty(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");

	m->kvm->config.pause = refuse_to_pause;
	must(kvmas_client_log_start(client, NULL, NULL));
	assert_taken(client, block_of(make_two_and_fail(m)), "0-3 ");
}

/* ---- logs that cannot be read ---- */

static void log_that_cannot_be_read_counts_as_all_dirty(void **state)
{
	static const int errors[] = {EFAULT, ENOENT, ENOMEM};

	for (size_t i = 0; i < LENGTH(errors); i++) {
		struct machine *m = machine_new(NULL);
		struct kvmas_client *client = make_client(m, "c");
		struct kvmas_region *ram = make_ram(m->f, "ram", pages(200));

		(void)state;
		put_alias(m, NORMAL, ram, 0, 10, 100);
		put_alias(m, NORMAL, ram, 120, 120, 10);
		put_alias(m, SMM, ram, 0, 150, 10);
		must(kvmas_client_log_start(client, NULL, NULL));
		write_pages(m, NORMAL, 121, 1);
		fake_kvm_fail_at(m->vm, 1, errors[i]);
		assert_int_equal(kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX), -errors[i]);
		assert_taken(client, block_of(ram), "10-109 121 ");
		sync_all(m);
		assert_taken(client, block_of(ram), "");
		machine_free(m);
	}
}

static void copy_out_that_faults_loses_no_page(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	must(kvmas_client_log_start(client, NULL, NULL));
	write_pages(m, NORMAL, 1, 1);
	m->vm->fault_copy_out = true;
	assert_int_equal(kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX), -EFAULT);
	assert_taken(client, block_of(ram), "0-3 ");
}

static void first_error_is_returned_after_all_were_read(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	put_alias(m, NORMAL, ram, 8, 0, 4);
	put_alias(m, NORMAL, ram, 16, 0, 4);
	must(kvmas_client_log_start(client, ram, NULL));
	fake_kvm_reset(m->vm);
	fake_kvm_fail_at(m->vm, 2, ENOENT);
	assert_int_equal(kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX), -ENOENT);
	assert_int_equal(m->vm->ncalls, 3);
}

static void log_that_cannot_be_read_before_it_goes_fails_no_commit(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 4);

	must(kvmas_client_log_start(client, NULL, NULL));
	fake_kvm_fail_at(m->vm, 1, EFAULT);
	must(kvmas_region_del(ram));
	assert_taken(client, block_of(ram), "0-3 ");
}

static void reading_and_starting_need_no_memory_once_logged(void **state)
{
	struct machine *m = *state;
	struct kvmas_client *client = make_client(m, "c");
	struct kvmas_region *ram = put_logged_ram(m, client);
	unsigned long calls = m->f->heap.calls;

	write_pages(m, NORMAL, 255, 1);
	sync_all(m);
	assert_int_equal(m->f->heap.calls, calls);
	assert_taken(client, block_of(ram), "255 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(log_of_one_region_in_one_space_is_set_there_only),
		KVM_TEST(log_stays_while_another_client_wants_it),
		KVM_TEST(client_that_goes_stops_its_logs_with_the_next_commit),
		KVM_TEST(readonly_memory_is_never_logged),
		KVM_TEST(slot_made_while_logged_is_made_with_log),
		KVM_TEST(sync_reads_the_logged_slots_of_its_space_only),
		cmocka_unit_test(sync_of_a_range_reads_the_slots_in_it_only),
		KVM_TEST(sync_of_one_byte_reads_the_slot_that_has_it),
		KVM_TEST(sync_of_an_unbound_space_reads_nothing),
		KVM_TEST(sync_inside_a_transaction_reads_what_kvm_has),
		cmocka_unit_test(page_written_through_any_space_is_dirty_once),
		KVM_TEST(write_through_the_other_space_waits_for_its_sync),
		KVM_TEST(each_client_takes_its_own),
		KVM_TEST(alias_inside_the_block_marks_the_blocks_pages),
		KVM_TEST(every_place_of_a_slot_in_its_block_keeps_each_page),
		KVM_TEST(slot_that_is_deleted_is_read_before),
		KVM_TEST(slot_that_is_cut_is_read_before),
		KVM_TEST(slot_that_stops_logging_is_read_before),
		KVM_TEST(slots_of_an_as_id_that_is_unbound_are_read_before),
		KVM_TEST(slot_that_stays_is_not_read),
		KVM_TEST(commit_that_fails_loses_no_page),
		KVM_TEST(slot_that_undoing_deletes_is_read_before),
		KVM_TEST(vcpus_are_held_when_undoing_deletes_a_logged_slot),
		KVM_TEST(slot_that_undoing_deletes_without_a_stop_counts_as_all_dirty),
		cmocka_unit_test(log_that_cannot_be_read_counts_as_all_dirty),
		KVM_TEST(copy_out_that_faults_loses_no_page),
		KVM_TEST(first_error_is_returned_after_all_were_read),
		KVM_TEST(log_that_cannot_be_read_before_it_goes_fails_no_commit),
		KVM_TEST(reading_and_starting_need_no_memory_once_logged),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}

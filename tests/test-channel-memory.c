/* SPDX-License-Identifier: MIT */
/*
 * Memory of SMM where the normal space has a device with channels, while something changes: the
 * slot comes, goes or stays; KVM must neither have the channel while there is no slot, nor take the
 * memory for none afterwards (kas_apply_renew). And vCPUs that go meanwhile.
 */
#include "channel-fixture.h"

#include <pthread.h>

#include "kvm/vm.h"

#define GPA pages(4)

static bool is_slot(unsigned long request, const void *arg, unsigned as_id, bool logged)
{
	const struct kvm_userspace_memory_region *slot = arg;

	return request == KVM_SET_USER_MEMORY_REGION && slot->memory_size &&
	       slot->slot >> 16 == as_id && !(slot->flags & KVM_MEM_LOG_DIRTY_PAGES) == !logged;
}

static struct kvmas_region *put_smram(struct rig *r, int priority)
{
	struct kvmas_region *ram = make_ram(r->m->f, "smram", pages(1));

	add(r->m->root[SMM], ram, GPA, priority);
	return ram;
}

static unsigned char *bytes_of(struct kvmas_region *ram)
{
	return kvmas_ram_get_hva(block_of(ram));
}

/* With a slot in space 0 that is no part of it. */
static struct rig *rig_with_low(void)
{
	struct rig *r = rig_new(NULL);

	put_ram(r->m, NORMAL, "low", 0, 1);
	r->m->data = r;
	return r;
}

/* ---- while it changes ---- */

/* One slot has gone, the next one is about to come. */
static void store_in_between(struct machine *m, unsigned long request, void *arg)
{
	struct rig *r = m->data;
	uint32_t value = 7;

	if (!is_slot(request, arg, SMM, false) || r->err)
		return;
	r->err = fake_kvm_vcpu_store(r->cpus[0].cpu, SMM, GPA, &value, sizeof(value));
}

static bool refuse_what_comes(struct machine *m, unsigned long request, int *result)
{
	struct rig *r = m->data;
	bool now = request == KVM_SET_USER_MEMORY_REGION && r->err == 1 && !r->exits;

	if (now)
		r->exits = 1;
	*result = -ENOSPC;
	return now;
}

static void store_while_memory_changes_is_none_to_a_device(void **state)
{
	struct rig *r = rig_with_low();
	unsigned char *bytes;

	(void)state;
	put_both(r, "a", GPA, 0);
	put_smram(r, 1);
	assert_placed(r, 2, 0);
	r->m->on_ioctl = store_in_between;
	bytes = bytes_of(put_smram(r, 2));
	r->m->on_ioctl = NULL;
	assert_int_equal(r->err, 1); /* it exits */
	assert_int_equal(kvmas_vcpu_handle_exit(r->cpus[0].vcpu), 1);
	assert_int_equal(bytes[0], 7);
	assert_placed(r, 2, 0);
	look(r, "");
	rig_free(r);
}

static void store_while_memory_fails_to_change_is_one_to_memory(void **state)
{
	struct rig *r = rig_with_low();
	unsigned char *bytes;
	struct kvmas_region *other = make_ram(r->m->f, "other", pages(1));

	(void)state;
	put_both(r, "a", GPA, 0);
	bytes = bytes_of(put_smram(r, 1));
	r->exits = 0;
	r->m->on_ioctl = store_in_between;
	r->m->answer = refuse_what_comes;
	assert_int_equal(kvmas_region_add(r->m->root[SMM], other, GPA, 2), -ENOSPC);
	r->m->on_ioctl = NULL;
	r->m->answer = NULL;
	assert_int_equal(r->err, 1);
	assert_int_equal(kvmas_vcpu_handle_exit(r->cpus[0].vcpu), 1);
	assert_int_equal(bytes[0], 7);
	assert_placed(r, 2, 0);
	look(r, "");
	rig_free(r);
}

/* ---- what KVM must forget ---- */

/* What comes to KVM, in order: memory of SMM, a log flag that is set and cleared, channels. */
static void note_what_comes(struct machine *m, unsigned long request, void *arg)
{
	const struct kvm_ioeventfd *event = arg;
	struct rig *r = m->data;
	char **text = (char **)&r->data;

	store_in_between(m, request, arg);
	if (is_slot(request, arg, SMM, false))
		text_add(text, "memory ");
	else if (is_slot(request, arg, NORMAL, true))
		text_add(text, "log ");
	else if (is_slot(request, arg, NORMAL, false))
		text_add(text, "quiet ");
	else if (request == KVM_IOEVENTFD && !(event->flags & KVM_IOEVENTFD_FLAG_DEASSIGN))
		text_add(text, "channel ");
}

static void begin_notes(struct rig *r)
{
	r->data = NULL;
	r->m->on_ioctl = note_what_comes;
}

static void assert_noted(struct rig *r, const char *expected)
{
	r->m->on_ioctl = NULL;
	assert_string_equal(r->data ? r->data : "", expected);
	free(r->data);
	r->data = NULL;
}

static void channel_that_comes_after_memory_has_it_seen_first(void **state)
{
	struct rig *r = rig_with_low();
	struct kvmas_region *a = put_device(r, "a", GPA, pages(1));

	(void)state;
	put_smram(r, 1);
	begin_notes(r);
	must(kvmas_begin(r->m->f->kvmas));
	must(add_event(r, a, 0, 4, 0));
	must(add_event(r, a, 8, 4, 0));
	must(kvmas_commit(r->m->f->kvmas));
	assert_noted(r, "log quiet channel channel ");
	assert_placed(r, 2, 0);
	rig_free(r);
}

/* Once for all that come in a commit; where there is only the normal space's memory, never. */
static void memory_of_the_normal_space_is_seen_anyway(void **state)
{
	struct rig *r = rig_with_low();
	struct kvmas_region *a = make_device(r, "a", pages(1));

	(void)state;
	put_ram(r->m, NORMAL, "ram", 4, 1);
	add(r->m->root[SMM], a, GPA, 1);
	begin_notes(r);
	add_both(r, a, 0);
	assert_noted(r, "channel ");
	assert_placed(r, 2, 0);
	rig_free(r);
}

static void memory_that_comes_back_is_seen_before_its_channels(void **state)
{
	struct rig *r = rig_with_low();
	struct kvmas_region *other = make_ram(r->m->f, "other", pages(1));

	(void)state;
	put_both(r, "a", GPA, 0);
	put_smram(r, 1);
	r->exits = 0;
	begin_notes(r);
	r->m->answer = refuse_what_comes;
	assert_int_equal(kvmas_region_add(r->m->root[SMM], other, GPA, 2), -ENOSPC);
	r->m->answer = NULL;
	assert_int_equal(kvmas_vcpu_handle_exit(r->cpus[0].vcpu), 1);
	assert_noted(r, "memory memory log quiet channel ");
	assert_placed(r, 2, 0);
	rig_free(r);
}

static void channel_over_memory_is_by_hand_if_kvm_cannot_forget(void **state)
{
	struct rig *r = rig_new(NULL);
	unsigned char *bytes;

	(void)state;
	put_both(r, "a", GPA, 0);
	bytes = bytes_of(put_smram(r, 1));
	assert_placed(r, 0, 2);
	store_both(r, NORMAL, GPA);
	store_both(r, SMM, GPA);
	assert_int_equal(bytes[0], 1);
	assert_int_equal(bytes[0x10], 2);
	look(r, "a+10/4=2 #0x1 ");
	rig_free(r);
}

/* KVM logs the slot, and does not stop. */
static void keep_logging(struct machine *m, unsigned long request, void *arg)
{
	struct rig *r = m->data;

	r->err = is_slot(request, arg, NORMAL, false);
}

static bool refuse_to_stop(struct machine *m, unsigned long request, int *result)
{
	struct rig *r = m->data;

	(void)request;
	*result = -ENOMEM;
	return r->err;
}

/* What there is to read logs into has room for one page, and the slot has many. */
static void slot_that_stays_logged_is_put_right_by_the_next_commit(void **state)
{
	struct rig *r = rig_new(NULL);
	struct kvmas_client *client = make_client(r->m, "client");
	struct kvmas_region *little = make_ram(r->m->f, "little", pages(1));
	struct kvmas_region *smram;

	(void)state;
	r->m->data = r;
	add(r->m->root[SMM], little, pages(2), 1);
	must(kvmas_client_log_start(client, little, NULL));
	put_ram(r->m, NORMAL, "low", 0x1000, 0x10000);
	put_both(r, "a", GPA, 0);
	r->m->on_ioctl = keep_logging;
	r->m->answer = refuse_to_stop;
	smram = put_smram(r, 1);
	r->m->on_ioctl = NULL;
	r->m->answer = NULL;
	assert_placed(r, 0, 2);
	assert_int_equal(kvmas_space_sync(r->m->space[NORMAL], 0, UINT64_MAX), -ENOMEM);
	store_both(r, SMM, GPA);
	assert_int_equal(bytes_of(smram)[0], 1);
	forget_trace(r->m);
	add(r->m->root[NORMAL], make_ram(r->m->f, "more", pages(1)), pages(2), 1);
	assert_non_null(strstr(r->m->traced, "flags 0:0 4096-69631 low+0 = 0\n"));
	assert_placed(r, 2, 0);
	store_both(r, NORMAL, GPA);
	look(r, "a+10/4=2 #0x1 ");
	rig_free(r);
}

/* ---- vCPUs that go ---- */

static void fill_ring(struct rig *r)
{
	uint64_t value = 0;

	while (fake_kvm_vcpu_store(r->cpus[0].cpu, NORMAL, GPA + 0x10, &value, 4) == 0)
		;
	r->cpus[0].cpu->run->exit_reason = KVM_EXIT_HLT;
}

static void *go_and_come(void *data)
{
	struct rig *r = data;

	for (unsigned i = 0; i < NCPUS; i++)
		kvmas_vcpu_del(r->cpus[i].vcpu);
	for (unsigned i = 0; i < NCPUS; i++) {
		const struct fake_kvm_vcpu *cpu = r->cpus[i].cpu;

		must(kvmas_vcpu_add(r->m->kvm,
				    KVMAS_CONFIG(vcpu, .fd = cpu->fd, .run = cpu->run,
						 .run_size = cpu->run_size),
				    &r->cpus[i].vcpu));
	}
	fill_ring(r);
	return NULL;
}

/* There is room for what waits by then, but not yet kept. */
static void go_in_the_commit(struct machine *m, unsigned long request, void *arg)
{
	struct rig *r = m->data;
	pthread_t thread;

	(void)arg;
	if (request != KVM_IOEVENTFD || r->err++)
		return;
	must(pthread_create(&thread, NULL, go_and_come, r));
	must(pthread_join(thread, NULL));
}

static void ring_that_fills_twice_in_a_commit_is_kept(void **state)
{
	const struct fake_kvm_config config = {.version = FAKE_KVM_6_12};
	struct rig *r = rig_new(&config);
	struct kvmas_region *a = put_both(r, "a", GPA, 0);

	(void)state;
	r->m->data = r;
	fill_ring(r);
	r->m->on_ioctl = go_in_the_commit;
	must(kvmas_region_set_enabled(a, false));
	r->m->on_ioctl = NULL;
	assert_true(r->err > 0);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	assert_int_equal(stats_of(r->m).coalesced_writes, 2 * 169);
	assert_int_equal(device_of(a)->ncalls, 2 * 169);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(store_while_memory_changes_is_none_to_a_device),
		cmocka_unit_test(store_while_memory_fails_to_change_is_one_to_memory),
		cmocka_unit_test(channel_that_comes_after_memory_has_it_seen_first),
		cmocka_unit_test(memory_of_the_normal_space_is_seen_anyway),
		cmocka_unit_test(memory_that_comes_back_is_seen_before_its_channels),
		cmocka_unit_test(channel_over_memory_is_by_hand_if_kvm_cannot_forget),
		cmocka_unit_test(slot_that_stays_logged_is_put_right_by_the_next_commit),
		cmocka_unit_test(ring_that_fills_twice_in_a_commit_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

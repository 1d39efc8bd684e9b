/* SPDX-License-Identifier: MIT */
/*
 * Pages are lost, as they must be, where something is missing of what keeps test-dirty's: a commit
 * does not read the log that it takes away; or it does, but a vCPU runs on. What is lost first is
 * printed.
 *
 * KVMAS_SEED (1): of the transactions.
 */
#include "decoy.h"
#include "knobs.h"
#include "rig.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

enum {
	PATIENCE = 60, /* seconds, for what should come sooner */
	WINDOW = 0x900,
	WINDOW_PAGES = 0x40,
	STEPS = 40, /* where nothing may be lost */
};

/* ---- without the harvest ---- */

static void expect_loss(struct rig *rig, bool (*step)(struct rig *rig))
{
	double end = now() + PATIENCE;

	rig_start(rig);
	while (now() < end && step(rig))
		;
	rig_stop(rig);
	if (rig->lost == 0 && guest_wrong(rig->g))
		fail_msg("%s", guest_wrong(rig->g));
	assert_int_equal(rig->result, 0);
	assert_true(rig->lost > 0);
	print_message("dirty-controls: %llu pages lost, as must be; %s\n",
		      (unsigned long long)rig->lost,
		      rig->shadows[rig->shadows[0].lost[0] ? 0 : 1].lost);
	rig_fini(rig);
}

/* The sizes of slots, in pages. */
struct sizes {
	uint64_t npages[MAX_SPACES][SPARE_ID];
};

/* What KVM has is not asked for by a commit: no page was written. */
static bool read_no_log(struct guest *g, unsigned long request, void *arg, int *result)
{
	const struct kvm_userspace_memory_region *region = arg;
	const struct kvm_dirty_log *log = arg;
	struct sizes *sizes = ((struct rig *)g->data)->data;

	if (request == KVM_SET_USER_MEMORY_REGION)
		sizes->npages[region->slot >> 16][region->slot & 0xffff] =
			region->memory_size / PAGE;
	if (request != KVM_GET_DIRTY_LOG || guest_is_syncing)
		return false;
	memset(log->dirty_bitmap, 0,
	       (sizes->npages[log->slot >> 16][log->slot & 0xffff] + 63) / 64 * 8);
	*result = 0;
	return true;
}

static void lose_without_reading(void **state, enum kvmas_kvm_log log)
{
	struct sizes sizes = {{{0}}};
	struct rig rig;

	rig_init(&rig, state, (struct guest_config){.log = log}, seed());
	/* A slot that comes to be logged is set again: it sees all that are. */
	rig.data = &sizes;
	rig.g->meddle = read_no_log;
	rig_add_churn(&rig);
	expect_loss(&rig, rig_go_on);
}

static void commit_that_reads_no_log_loses_pages(void **state)
{
	lose_without_reading(state, KVMAS_KVM_LOG_AUTO);
}

static void commit_that_reads_no_log_loses_pages_under_manual_protection(void **state)
{
	lose_without_reading(state, KVMAS_KVM_LOG_MANUAL);
}

/* The same with rings: a sync finds what is in them, a commit nothing. */
static void show_entries(struct guest *g)
{
	pthread_mutex_t *lock = ((struct rig *)g->data)->data;

	pthread_mutex_lock(lock);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		decoy_show(&g->vcpus[v]);
	pthread_mutex_unlock(lock);
}

static bool pass_entries_on(struct guest *g, unsigned long request, void *arg, int *result)
{
	pthread_mutex_t *lock = ((struct rig *)g->data)->data;

	(void)arg;
	(void)result;
	if (request != KVM_RESET_DIRTY_RINGS)
		return false;
	pthread_mutex_lock(lock);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		decoy_pass_on(&g->vcpus[v]);
	pthread_mutex_unlock(lock);
	return false;
}

static void commit_that_leaves_the_rings_full_loses_pages(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct rig rig;

	rig_init(&rig, state,
		 (struct guest_config){
			 .log = KVMAS_KVM_LOG_RING, .untied = true, .meddle = pass_entries_on},
		 seed());
	rig.data = &lock;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		decoy_put(&rig.g->vcpus[v]);
		vcpu_tie(&rig.g->vcpus[v]);
	}
	rig.g->before_harvest = show_entries;
	rig_add_churn(&rig);
	expect_loss(&rig, rig_go_on);
}

/* ---- without the stop ---- */

static void ungate(struct rig *rig)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		rig->g->vcpus[v].ungated = true;
}

/* A commit that takes its time before it changes a slot, its log read: with one processor vCPUs
 * hardly run then of themselves. */
static bool linger(struct guest *g, unsigned long request, void *arg, int *result)
{
	(void)g;
	(void)arg;
	(void)result;
	if (request == KVM_SET_USER_MEMORY_REGION)
		nanosleep(&(const struct timespec){.tv_nsec = 300000}, NULL);
	return false;
}

/* "Read the log; LOG off; LOG on", again and again. */
static bool switch_logs(struct rig *rig)
{
	rig_toggle(rig, RIG_HELD);
	rig_check(rig);
	return rig_is_well(rig);
}

static void switch_logs_of(struct rig *rig, void **state, enum kvmas_kvm_log log)
{
	rig_init(rig, state, (struct guest_config){.log = log}, seed());
	rig_add_targets(rig, FREE_PAGE, CHURN_PAGES - FREE_PAGE, 1);
}

static void lose_while_logs_are_switched(void **state, enum kvmas_kvm_log log)
{
	struct rig rig;

	switch_logs_of(&rig, state, log);
	rig.g->meddle = linger;
	ungate(&rig);
	expect_loss(&rig, switch_logs);
}

static void vcpu_that_runs_while_logs_are_switched_loses_pages(void **state)
{
	lose_while_logs_are_switched(state, KVMAS_KVM_LOG_AUTO);
}

static void vcpu_that_runs_while_protected_logs_are_switched_loses_pages(void **state)
{
	lose_while_logs_are_switched(state, KVMAS_KVM_LOG_MANUAL);
}

static void vcpu_that_runs_while_logs_are_switched_loses_pages_with_rings(void **state)
{
	lose_while_logs_are_switched(state, KVMAS_KVM_LOG_RING);
}

/* A commit that takes its time between reading a log and the slot's end; rings that have nothing
 * are not reset, so once more right before. */
static bool dawdle(struct guest *g, unsigned long request, void *arg, int *result)
{
	linger(g, request, arg, result);
	if ((request != KVM_GET_DIRTY_LOG && request != KVM_RESET_DIRTY_RINGS) || guest_is_syncing)
		return false;
	*result = ioctl(g->vm, request, arg);
	*result = *result < 0 ? -errno : *result;
	nanosleep(&(const struct timespec){.tv_nsec = 300000}, NULL);
	return true;
}

/* A window, through which all is written, goes, or comes back and shows other pages, or shows other
 * pages. */
static bool shift_window(struct rig *rig)
{
	struct piece *piece = &rig->churn.pieces[0];
	bool goes = piece->on && rig_chance(rig, 2);

	if (!goes) {
		piece->first = FREE_PAGE + WINDOW_PAGES - (piece->first - FREE_PAGE);
		rig_keep(rig, kvmas_region_set_alias_offset(piece->region,
							    (uint64_t)piece->first * PAGE));
	}
	rig_keep(rig, kvmas_region_set_enabled(piece->region, !goes));
	piece->on = !goes;
	if (rig_chance(rig, 4) == 0)
		rig_check(rig);
	return rig_is_well(rig);
}

static void write_through_a_window(struct rig *rig, void **state, enum kvmas_kvm_log log)
{
	rig_init(rig, state, (struct guest_config){.log = log, .meddle = dawdle}, seed());
	rig->churn.pieces[0].region = guest_put_alias(rig->g, 0, WINDOW, FREE_PAGE, WINDOW_PAGES);
	rig_add_targets(rig, WINDOW, WINDOW_PAGES, 1);
}

static void lose_past_the_gate(void **state, enum kvmas_kvm_log log)
{
	struct rig rig;

	write_through_a_window(&rig, state, log);
	ungate(&rig);
	expect_loss(&rig, shift_window);
}

static void vcpu_past_the_gate_loses_pages(void **state)
{
	lose_past_the_gate(state, KVMAS_KVM_LOG_AUTO);
}

static void vcpu_past_the_gate_loses_pages_under_manual_protection(void **state)
{
	lose_past_the_gate(state, KVMAS_KVM_LOG_MANUAL);
}

static void vcpu_past_the_gate_loses_pages_with_rings(void **state)
{
	lose_past_the_gate(state, KVMAS_KVM_LOG_RING);
}

/* ---- the other half: the same with the stop ---- */

static void expect_no_loss(struct rig *rig, bool (*step)(struct rig *rig))
{
	unsigned steps = 0;

	rig_start(rig);
	while (steps < STEPS && step(rig))
		steps++;
	rig_stop(rig);
	if (!rig_is_well(rig))
		rig_report(rig);
	assert_true(rig_is_well(rig));
	assert_true(rig->checks > 0);
	rig_fini(rig);
}

static const enum kvmas_kvm_log all_logs[] = {KVMAS_KVM_LOG_AUTO, KVMAS_KVM_LOG_MANUAL,
					      KVMAS_KVM_LOG_MANUAL_SET, KVMAS_KVM_LOG_RING};

static void another_guest(void **state)
{
	guest_teardown(state);
	guest_setup(state);
}

static void no_page_is_lost_at_the_gate_however_long_a_commit_takes(void **state)
{
	for (unsigned i = 0; i < LENGTH(all_logs); i++) {
		struct rig rig;

		write_through_a_window(&rig, state, all_logs[i]);
		expect_no_loss(&rig, shift_window);
		another_guest(state);
	}
}

static void no_page_is_lost_while_logs_are_switched_with_vcpus_held(void **state)
{
	for (unsigned i = 0; i < LENGTH(all_logs); i++) {
		struct rig rig;

		switch_logs_of(&rig, state, all_logs[i]);
		expect_no_loss(&rig, switch_logs);
		another_guest(state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(commit_that_reads_no_log_loses_pages),
		GUEST_TEST(commit_that_reads_no_log_loses_pages_under_manual_protection),
		GUEST_TEST(commit_that_leaves_the_rings_full_loses_pages),
		GUEST_TEST(vcpu_that_runs_while_logs_are_switched_loses_pages),
		GUEST_TEST(vcpu_that_runs_while_protected_logs_are_switched_loses_pages),
		GUEST_TEST(vcpu_that_runs_while_logs_are_switched_loses_pages_with_rings),
		GUEST_TEST(vcpu_past_the_gate_loses_pages),
		GUEST_TEST(vcpu_past_the_gate_loses_pages_under_manual_protection),
		GUEST_TEST(vcpu_past_the_gate_loses_pages_with_rings),
		GUEST_TEST(no_page_is_lost_at_the_gate_however_long_a_commit_takes),
		GUEST_TEST(no_page_is_lost_while_logs_are_switched_with_vcpus_held),
	};

	return guest_main("live-dirty-controls", tests, LENGTH(tests), 1);
}

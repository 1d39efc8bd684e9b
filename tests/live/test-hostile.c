/* SPDX-License-Identifier: MIT */
/*
 * A guest that means harm: it moves a BAR of one page over all of its RAM, each place leaving two
 * more seams behind; what a harvest of dirty pages costs then; and a map that truly needs more
 * slots than KVM has.
 */
#include "guest.h"
#include "probe.h"

#include <stdio.h>
#include <time.h>

enum {
	NPAGES = 0x800,
	FIRST = FREE_PAGE + 0x10, /* where the BAR goes; below are words that it never hides */
	BUDGET = 256,             /* kvmas_kvm_set_budget's default */
	VIEW = 2,                 /* ranges of memory: below the BAR and above it */
	LIMIT = 32,               /* of slots, through the hook */
};

struct sweep {
	struct guest *g;
	struct kvmas_region *bar;
	unsigned moves; /* to be made */
	unsigned most;  /* slots that a space had at once */
	_Atomic unsigned done;
	_Atomic bool failed;
	char wrong[80];
};

static int count_slot(void *data, const struct kvmas_slot *slot)
{
	unsigned *counts = data;

	counts[slot->as_id]++;
	return 0;
}

static unsigned most_slots(const struct guest *g)
{
	unsigned counts[MAX_SPACES] = {0};

	kvmas_kvm_for_each_slot(g->kvm, count_slot, counts);
	return counts[0] > counts[1] ? counts[0] : counts[1];
}

/* All places once, every second one first: so that as many seams stay as can. */
static uint32_t place_of(unsigned move)
{
	const unsigned places = NPAGES - FIRST, evens = (places + 1) / 2;

	move %= places;
	return FIRST + (move < evens ? 2 * move : 2 * (move - evens) + 1);
}

/* What a write to a BAR register does, on the thread of the vCPU that writes. */
static void move_bar(struct vcpu *vcpu)
{
	struct sweep *sweep = vcpu->guest->data;
	unsigned done = atomic_load(&sweep->done), slots;
	int err;

	if (done == sweep->moves || atomic_load(&sweep->failed))
		return;
	err = kvmas_region_set_offset(sweep->bar, (uint64_t)place_of(done) * PAGE);
	if (err) {
		snprintf(sweep->wrong, sizeof(sweep->wrong), "move %u: %d", done, err);
		atomic_store(&sweep->failed, true);
	}
	slots = most_slots(vcpu->guest);
	sweep->most = slots > sweep->most ? slots : sweep->most;
	atomic_store(&sweep->done, done + 1);
}

/* Words that the BAR hides now and then, and words that it never does. */
static void enter_words(struct guest *g)
{
	guest_expect_exits(g, FIRST, NPAGES - FIRST, false);
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned as_id = 0; as_id < g->nspaces; as_id++)
			guest_enter(g, v, as_id,
				    guest_word(g, FREE_PAGE + v, 8 * as_id, CODE_WRITE));
	}
	for (uint32_t page = FIRST; page < NPAGES; page += 0x80) {
		struct code_entry word = guest_word(g, page, 0, CODE_READ);

		word.b = ONES;
		guest_enter(g, 1, 0, word);
	}
}

static void sweep_init(struct sweep *sweep, void **state, enum kvmas_kvm_log log, unsigned moves)
{
	struct guest *g;

	*sweep = (struct sweep){
		.g = guest_new(state,
			       (struct guest_config){.npages = NPAGES, .data = sweep, .log = log}),
		.moves = moves};
	g = sweep->g;
	sweep->bar = guest_put_hole(g, 0, FIRST, 1);
	must(kvmas_region_set_enabled(sweep->bar, true));
	enter_words(g);
	g->vcpus[0].turn = move_bar;
	g->vcpus[1].smis = true;
}

static void sweep_run(struct sweep *sweep)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	const uint32_t turn_every[MAX_VCPUS] = {1, 10};

	guest_start(sweep->g, turn_every);
	while (atomic_load(&sweep->done) < sweep->moves && !atomic_load(&sweep->failed) &&
	       !guest_wrong(sweep->g))
		nanosleep(&moment, NULL);
	guest_end_well(sweep->g);
	if (sweep->wrong[0])
		fail_msg("%s", sweep->wrong);
}

static void slots_stay_within_view_and_budget_under_a_sweeping_bar(void **state)
{
	struct sweep sweep;

	sweep_init(&sweep, state, KVMAS_KVM_LOG_AUTO, NPAGES - FIRST);
	sweep_run(&sweep);
	print_message("hostile: at most %u slots in a space\n", sweep.most);
	assert_true(sweep.most <= VIEW + BUDGET);
	/* Else it was no sweep. */
	assert_true(sweep.most > BUDGET / 2);
}

/* The control: it is the budget that keeps them down. */
static void slots_exceed_the_budget_where_it_is_larger(void **state)
{
	struct sweep sweep;

	sweep_init(&sweep, state, KVMAS_KVM_LOG_AUTO, BUDGET + 50);
	for (unsigned i = 0; i < sweep.g->nspaces; i++)
		must(kvmas_kvm_set_budget(sweep.g->kvm, i, BUDGET + 100));
	sweep_run(&sweep);
	assert_true(sweep.most > VIEW + BUDGET);
}

/* ---- what a harvest costs then ---- */

/* KVM_GET_DIRTY_LOG calls of a sync of all spaces; what it took is for people. */
static uint64_t count_reads(struct guest *g, const char *when)
{
	uint64_t reads = guest_stats(g).log_reads;
	struct timespec before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	must(guest_sync_all(g));
	clock_gettime(CLOCK_MONOTONIC, &after);
	reads = guest_stats(g).log_reads - reads;
	print_message("hostile: a harvest %s the sweep reads %u logs, in %ld us\n", when,
		      (unsigned)reads,
		      (after.tv_sec - before.tv_sec) * 1000000L +
			      (after.tv_nsec - before.tv_nsec) / 1000);
	return reads;
}

/* Logged while it sweeps, or only before and afterwards. */
static void sweep_logged(void **state, enum kvmas_kvm_log log, bool meanwhile)
{
	struct kvmas_client *client;
	struct sweep sweep;
	uint64_t before;

	sweep_init(&sweep, state, log, NPAGES - FIRST);
	must(kvmas_client_new(sweep.g->f->kvmas, "migration", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	before = count_reads(sweep.g, "before");
	assert_int_equal(before, VIEW * sweep.g->nspaces);
	if (!meanwhile)
		must(kvmas_client_log_stop(client, NULL, NULL));
	sweep_run(&sweep);
	if (!meanwhile) {
		/* As many logs would be read without a limit. */
		assert_true(most_slots(sweep.g) > BUDGET / 2);
		must(kvmas_client_log_start(client, NULL, NULL));
	}
	assert_true(count_reads(sweep.g, "after") <= 2 * before);
	kvmas_client_unref(client);
}

static void harvest_reads_no_more_than_twice_as_many_logs_after_a_logged_sweep(void **state)
{
	sweep_logged(state, KVMAS_KVM_LOG_AUTO, true);
}

static void harvest_reads_no_more_than_twice_as_many_logs_after_a_protected_sweep(void **state)
{
	sweep_logged(state, KVMAS_KVM_LOG_MANUAL, true);
}

static void harvest_reads_no_more_than_twice_as_many_logs_if_logged_after_the_sweep(void **state)
{
	sweep_logged(state, KVMAS_KVM_LOG_AUTO, false);
}

/* ---- a limit ---- */

static bool limit_slots(struct guest *g, unsigned long request, void *arg, int *result)
{
	(void)g;
	*result = LIMIT;
	return request == KVM_CHECK_EXTENSION && (uintptr_t)arg == KVM_CAP_NR_MEMSLOTS;
}

/* Switch the first n of some holes, in one transaction. */
static int set_holes(struct guest *g, struct kvmas_region **holes, unsigned n, bool on)
{
	must(kvmas_begin(g->f->kvmas));
	for (unsigned i = 0; i < n; i++)
		must(kvmas_region_set_enabled(holes[i], on));
	return kvmas_commit(g->f->kvmas);
}

static void make_holes(struct guest *g, struct kvmas_region *holes[LIMIT])
{
	for (uint32_t i = 0; i < LIMIT; i++)
		holes[i] = guest_put_hole(g, 0, FIRST + 4 * i, 1);
	enter_words(g);
}

static void view_past_the_limit_is_refused_and_the_machine_goes_on(void **state)
{
	const uint32_t turn_every[MAX_VCPUS] = {10, 10};
	struct kvmas_region *holes[LIMIT];
	unsigned calls[MAX_SPACES];
	struct guest *g =
		guest_new(state, (struct guest_config){.npages = NPAGES, .meddle = limit_slots});

	make_holes(g, holes);
	guest_start(g, turn_every);
	/* As many slots as there are at all: one more than holes. */
	must(set_holes(g, holes, LIMIT - 1, true));
	assert_int_equal(kvmas_kvm_slots_free(g->kvm, 0), 0);
	guest_wait_rounds(g, 5);
	must(set_holes(g, holes, LIMIT - 1, false));
	memcpy(calls, g->calls, sizeof(calls));
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(set_holes(g, holes, LIMIT, true), -ENOSPC);
		guest_wait_rounds(g, 1);
	}
	assert_memory_equal(g->calls, calls, sizeof(calls));
	must(set_holes(g, holes, 3, true));
	guest_wait_rounds(g, 5);
	guest_end_well(g);
	for (unsigned i = 0; i < LIMIT; i++)
		assert_int_equal(probe_page(g, 0, FIRST + 4 * i), i >= 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(slots_stay_within_view_and_budget_under_a_sweeping_bar),
		GUEST_TEST(slots_exceed_the_budget_where_it_is_larger),
		GUEST_TEST(harvest_reads_no_more_than_twice_as_many_logs_after_a_logged_sweep),
		GUEST_TEST(harvest_reads_no_more_than_twice_as_many_logs_after_a_protected_sweep),
		GUEST_TEST(harvest_reads_no_more_than_twice_as_many_logs_if_logged_after_the_sweep),
		GUEST_TEST(view_past_the_limit_is_refused_and_the_machine_goes_on),
	};

	return guest_main("live-hostile", tests, LENGTH(tests), 1);
}

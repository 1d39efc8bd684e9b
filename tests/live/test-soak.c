/* SPDX-License-Identifier: MIT */
/*
 * A guest that runs and checks its memory on two vCPUs, in SMM too where there is SMM, while
 * regions are split, merged, moved and hidden around it (churn.c): never a wrong value, and never
 * an exit for memory that was mapped before and after. The controls plant a fault that the guest
 * must find.
 *
 * KVMAS_SECONDS (10): how long; KVMAS_SEED (1): of the transactions. What the vCPUs see of them is
 * a matter of time, so a seed does not repeat a run, but its transactions.
 */
#include "churn.h"
#include "knobs.h"
#include "probe.h"

#include "../fake-kvm-uapi.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

enum { PATIENCE = 60 }; /* seconds, for what should come sooner */

/* The guest must come to look while a commit goes on, between two, and at all of its words. */
static void pause_a_moment(const struct churn *churn)
{
	if (churn->commits % 8 == 0)
		guest_wait_rounds(churn->g, 1);
	else
		nanosleep(&(const struct timespec){.tv_nsec = churn->commits % 8 * 200000}, NULL);
}

static void start(struct churn *churn, void **state, struct guest_config config)
{
	const uint32_t turn_every[MAX_VCPUS] = {2, 3};
	struct guest *g;

	config.npages = CHURN_PAGES;
	g = guest_new(state, config);

	churn_init(churn, g, seed());
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		g->vcpus[v].smis = true;
	guest_start(g, turn_every);
}

/* Whether all of it has happened: else a run shows little. */
static bool is_busy(const struct churn *churn)
{
	struct kvmas_kvm_stats stats = guest_stats(churn->g);
	bool busy = churn->aborts > 0 && churn->policies > 0 && churn->merges > 0 &&
		    churn->cuts > 0 && churn->budgets > 0 && churn->logs > 0 &&
		    stats.slot_moves > 0 && stats.slot_flags > 0 && stats.vcpu_stops > 0;

	for (unsigned i = 0; i < CHURN_NKINDS; i++)
		busy = busy && churn->switched[i] > 0;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		busy = busy && atomic_load(&churn->g->vcpus[v].expected_exits) > 0;
		busy = busy && atomic_load(&churn->g->vcpus[v].gate_ends) > 0;
		for (unsigned as_id = 0; as_id < churn->g->nspaces; as_id++)
			busy = busy && guest_rounds(churn->g, v, as_id) > 0;
	}
	return busy;
}

/* One transaction more, unless something is wrong. */
static bool churn_on(struct churn *churn)
{
	if (guest_wrong(churn->g) || !churn_step(churn))
		return false;
	pause_a_moment(churn);
	return true;
}

static void print_summary(const struct churn *churn)
{
	struct kvmas_kvm_stats stats = guest_stats(churn->g);
	const struct guest *g = churn->g;

	print_message("soak: %u commits, %u aborts; %llu creates, %llu deletes, %llu moves, %llu "
		      "flags; %llu stops; rounds %u %u, in SMM %u %u\n",
		      churn->commits, churn->aborts, (unsigned long long)stats.slot_creates,
		      (unsigned long long)stats.slot_deletes, (unsigned long long)stats.slot_moves,
		      (unsigned long long)stats.slot_flags, (unsigned long long)stats.vcpu_stops,
		      guest_rounds(g, 0, 0), guest_rounds(g, 1, 0), guest_rounds(g, 0, 1),
		      guest_rounds(g, 1, 1));
}

static void soak(void **state, unsigned flags)
{
	struct churn churn;
	double end;

	start(&churn, state, (struct guest_config){.flags = flags});
	/* On a slow machine it may take longer until everything has been seen. */
	end = now() + seconds(10);
	while (now() < end + (is_busy(&churn) ? 0 : PATIENCE) && churn_on(&churn))
		;
	guest_stop(churn.g);
	print_summary(&churn);
	if (churn.result || guest_wrong(churn.g))
		churn_report(&churn);
	assert_int_equal(churn.result, 0);
	guest_end_well(churn.g);
	assert_true(is_busy(&churn));
	churn_fini(&churn);
}

static void guest_finds_its_memory_whatever_changes_around_it(void **state)
{
	soak(state, 0);
}

static void guest_finds_its_memory_where_only_a_slots_own_mappings_are_dropped(void **state)
{
	int quirks = ioctl(guest_system_fd, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);

	if (!(quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL)) {
		print_message("soak: this KVM drops all mappings always; since Linux 6.12 it can "
			      "do with less\n");
		skip();
	}
	soak(state, KVMAS_KVM_ZAP_SLOT);
}

/* ---- controls ---- */

/* A window onto the page beside the right one: made so, and so named in every later call. */
static bool shift_memory(struct guest *g, unsigned long request, void *arg, int *result)
{
	struct kvm_userspace_memory_region *region = arg;

	(void)g;
	(void)result;
	if (request == KVM_SET_USER_MEMORY_REGION && region->memory_size &&
	    region->guest_phys_addr == (uint64_t)CHURN_SHIFT_PAGE * PAGE)
		region->userspace_addr += PAGE;
	return false;
}

/* The slot that is not there though the library was told that it was made: by space, its number
 * and 1; 0 for none. */
struct lost {
	uint32_t slot[MAX_SPACES];
};

static bool is_lost(const struct lost *lost, uint32_t slot)
{
	return lost->slot[slot >> 16] == slot + 1;
}

static bool lose_slot(struct guest *g, unsigned long request, void *arg, int *result)
{
	const struct kvm_userspace_memory_region *region = arg;
	struct lost *lost = g->data;

	*result = 0;
	if (request == KVM_GET_DIRTY_LOG)
		return is_lost(lost, ((const struct kvm_dirty_log *)arg)->slot);
	if (request != KVM_SET_USER_MEMORY_REGION)
		return false;
	if (region->memory_size && region->guest_phys_addr == (uint64_t)CHURN_SHIFT_PAGE * PAGE)
		lost->slot[region->slot >> 16] = region->slot + 1;
	if (!is_lost(lost, region->slot))
		return false;
	if (!region->memory_size)
		lost->slot[region->slot >> 16] = 0;
	return true;
}

/* Churn until the guest finds something; what it is. */
static const char *find_fault(struct churn *churn)
{
	double end = now() + PATIENCE;

	while (now() < end && churn_on(churn))
		;
	guest_stop(churn->g);
	if (churn->result)
		churn_report(churn);
	churn_fini(churn);
	return guest_wrong(churn->g);
}

static void assert_out_of_step(struct guest *g)
{
	char *wrong = slots_wrong(g);

	assert_non_null(wrong);
	free(wrong);
}

static void wrong_memory_behind_a_window_is_found(void **state)
{
	struct churn churn;
	const char *wrong;

	start(&churn, state, (struct guest_config){.meddle = shift_memory});
	wrong = find_fault(&churn);
	assert_non_null(wrong);
	assert_non_null(strstr(wrong, "kind 0 at 0x900"));
	assert_out_of_step(churn.g);
}

static void lost_slot_is_found(void **state)
{
	struct lost lost = {{0}};
	struct churn churn;
	const char *wrong;

	start(&churn, state, (struct guest_config){.meddle = lose_slot, .data = &lost});
	wrong = find_fault(&churn);
	assert_non_null(wrong);
	assert_non_null(strstr(wrong, "for a read of 0x900"));
	assert_out_of_step(churn.g);
}

/* Commits that hold nobody: some exit for what is mapped before and after. */
static void vcpu_that_bypasses_the_gate_is_found(void **state)
{
	struct churn churn;

	start(&churn, state, (struct guest_config){0});
	guest_stop(churn.g);
	churn.g->vcpus[1].ungated = true;
	guest_start(churn.g, (const uint32_t[]){2, 3});
	assert_non_null(find_fault(&churn));
	assert_slots_in_step(churn.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(guest_finds_its_memory_whatever_changes_around_it),
		GUEST_TEST(guest_finds_its_memory_where_only_a_slots_own_mappings_are_dropped),
		GUEST_TEST(wrong_memory_behind_a_window_is_found),
		GUEST_TEST(lost_slot_is_found),
		GUEST_TEST(vcpu_that_bypasses_the_gate_is_found),
	};

	print_message("soak: seed %u\n", seed());
	return guest_main("live-soak", tests, LENGTH(tests), 1);
}

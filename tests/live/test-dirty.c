/* SPDX-License-Identifier: MIT */
/*
 * No page is lost: two vCPUs, in SMM too where there is SMM, write numbers to pages at random while
 * slots are split, merged, moved and hidden (churn.c) and logging is switched off and on; two
 * clients, each in its own rhythm, sync, take, put back, and keep a copy of RAM each (shadow.h).
 * Every few transactions the vCPUs are stopped, what is left is taken, and each copy must be RAM.
 * So for each way of logging. The controls are in test-dirty-controls.c.
 *
 * KVMAS_SECONDS (10): how long, for each way of logging; KVMAS_SEED (1): of the transactions.
 */
#include "knobs.h"
#include "probe.h"
#include "rig.h"

#include <stdio.h>

enum { PATIENCE = 60 }; /* seconds, for what should come sooner */

/* ---- the soak ---- */

/* Whether all of it has happened: else a run shows little. */
static bool is_busy(const struct rig *rig)
{
	struct kvmas_kvm_stats stats = guest_stats(rig->g);
	const struct churn *churn = &rig->churn;
	bool busy = rig->checks > 0 && rig->dropped > 0 && stats.slot_moves > 0 &&
		    stats.vcpu_stops > 0 && churn->aborts > 0 && churn->policies > 0 &&
		    churn->merges > 0 && churn->cuts > 0 && churn->logs > 0;

	for (unsigned i = 0; i < RIG_NTOGGLES; i++)
		busy = busy && rig->toggles[i] > 0;
	for (unsigned i = 0; i < CHURN_NKINDS; i++)
		busy = busy && churn->switched[i] > 0;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned as_id = 0; as_id < rig->g->nspaces; as_id++)
			busy = busy && guest_writes(rig->g, v, as_id) > 0;
	}
	return busy;
}

/* The clients must not run: what they count is theirs. */
static bool clients_were_busy(const struct rig *rig)
{
	bool busy = true;

	for (unsigned i = 0; i < RIG_CLIENTS; i++) {
		const struct shadow *shadow = &rig->shadows[i];

		busy = busy && shadow->copied > 0 && shadow->put_back > 0 && shadow->broken_off > 0;
	}
	return busy;
}

static void print_summary(const struct rig *rig, const char *how)
{
	struct kvmas_kvm_stats stats = guest_stats(rig->g);
	const struct guest *g = rig->g;

	print_message("dirty, %s: %u commits, %u toggles, %u checks; %llu pages lost\n", how,
		      rig->churn.commits, rig->toggles[0] + rig->toggles[1] + rig->toggles[2],
		      rig->checks, (unsigned long long)rig->lost);
	print_message("  written %u %u, in SMM %u %u; logs read %llu, cleared %llu; %llu entries, "
		      "%llu full rings\n",
		      guest_writes(g, 0, 0), guest_writes(g, 1, 0), guest_writes(g, 0, 1),
		      guest_writes(g, 1, 1), (unsigned long long)stats.log_reads,
		      (unsigned long long)stats.log_clears, (unsigned long long)stats.ring_entries,
		      (unsigned long long)stats.ring_full);
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		print_message("  %s: %llu harvests, %llu pages copied, %llu times put back\n",
			      rig->shadows[i].name, (unsigned long long)rig->shadows[i].harvests,
			      (unsigned long long)rig->shadows[i].copied,
			      (unsigned long long)(rig->shadows[i].put_back +
						   rig->shadows[i].broken_off));
}

static void soak(void **state, enum kvmas_kvm_log log, const char *how)
{
	struct rig rig;
	double end;

	rig_init(&rig, state, (struct guest_config){.log = log}, seed());
	rig_add_churn(&rig);
	rig_start(&rig);
	end = now() + seconds(10);
	while (now() < end + (is_busy(&rig) ? 0 : PATIENCE) && rig_go_on(&rig))
		;
	rig_stop(&rig);
	print_summary(&rig, how);
	if (!rig_is_well(&rig))
		rig_report(&rig);
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		assert_int_equal(atomic_load(&rig.shadows[i].result), 0);
	assert_int_equal(rig.result, 0);
	assert_int_equal(rig.lost, 0);
	/* Each entry of a ring is some slot's. */
	assert_int_equal(guest_stats(rig.g).ring_strays, 0);
	guest_end_well(rig.g);
	assert_true(is_busy(&rig) && clients_were_busy(&rig));
	rig_fini(&rig);
}

static void no_page_is_lost_where_reading_a_log_clears_it(void **state)
{
	soak(state, KVMAS_KVM_LOG_AUTO, "reading clears");
}

static void no_page_is_lost_under_manual_protection(void **state)
{
	soak(state, KVMAS_KVM_LOG_MANUAL, "manual protection");
}

static void no_page_is_lost_where_all_is_dirty_at_first(void **state)
{
	soak(state, KVMAS_KVM_LOG_MANUAL_SET, "all dirty at first");
}

static void no_page_is_lost_with_rings(void **state)
{
	soak(state, KVMAS_KVM_LOG_RING, "rings");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(no_page_is_lost_where_reading_a_log_clears_it),
		GUEST_TEST(no_page_is_lost_under_manual_protection),
		GUEST_TEST(no_page_is_lost_where_all_is_dirty_at_first),
		GUEST_TEST(no_page_is_lost_with_rings),
	};

	print_message("dirty: seed %u\n", seed());
	return guest_main("live-dirty", tests, LENGTH(tests), 1);
}

/* SPDX-License-Identifier: MIT */
/*
 * Read rig_go_on first.
 *
 * Switching logs off loses nothing in three ways: while the vCPUs are held, since what is written
 * to memory without a log is lost; on again in the same transaction; or with a copy of all RAM
 * afterwards, as at the beginning.
 */
#include "rig.h"

#include <time.h>

/* In a round; in SMM a quarter of that. With rings there are few, and an exit after each round: a
 * KVM that emulates the guest, since there is no hardware for it, looks only then whether a ring is
 * full, and meanwhile overwrites it (kvm_dirty_ring_push in virt/kvm/dirty_ring.c warns of it). */
enum { WRITES = 256, RING_WRITES = 8 };

uint32_t rig_chance(struct rig *rig, uint32_t n)
{
	return (uint32_t)rand_r(&rig->seed) % n;
}

/* ---- the guest ---- */

static void note_flags(struct guest *g, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
		       int result)
{
	struct rig *rig = g->data;

	rig->dropped +=
		kind == KVMAS_SLOT_FLAGS && !result && !(slot->flags & KVM_MEM_LOG_DIRTY_PAGES);
}

void rig_init(struct rig *rig, void **state, struct guest_config config, unsigned seed)
{
	*rig = (struct rig){.seed = seed};
	if (!config.npages)
		config.npages = CHURN_PAGES;
	config.data = rig;
	rig->g = guest_new(state, config);
	rig->g->trace = note_flags;
	guest_expect_exits(rig->g, 0, 0x1000, false);
}

void rig_add_targets(struct rig *rig, uint32_t first, uint32_t npages, unsigned weight)
{
	for (uint32_t i = 0; i < npages * weight; i++)
		guest_add_target(rig->g, first + i % npages);
}

/* All of RAM that is not the programs', and the windows onto it. */
void rig_add_churn(struct rig *rig)
{
	static const uint32_t windows[][2] = {{0x900, 4}, {0x910, 4}, {0x920, 4}, {0x980, 2},
					      {0x990, 2}, {0x9c0, 2}, {0x9d0, 2}, {0xa00, 8}};

	rig->churns = true;
	churn_init(&rig->churn, rig->g, rig->seed);
	rig_add_targets(rig, FREE_PAGE, CHURN_PAGES - FREE_PAGE, 1);
	for (unsigned i = 0; i < LENGTH(windows); i++)
		rig_add_targets(rig, windows[i][0], windows[i][1], 8);
}

static void scatter(struct guest *g)
{
	uint32_t writes = g->ring_size ? RING_WRITES : WRITES;

	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned as_id = 0; as_id < g->nspaces; as_id++) {
			/* It need not check anything: that is test-soak's. */
			guest_control(g, v, as_id)->count = 0;
			guest_scatter(g, v, as_id, as_id ? writes / 4 : writes);
		}
		g->vcpus[v].smis = true;
	}
}

static void run(struct guest *g)
{
	const uint32_t turn_every[MAX_VCPUS] = {1, g->ring_size ? 1 : 2};

	guest_start(g, turn_every);
}

void rig_start(struct rig *rig)
{
	static const char *const names[RIG_CLIENTS] = {"hasty", "lazy"};

	scatter(rig->g);
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		shadow_init(&rig->shadows[i], rig->g, names[i], rig->seed + i);
	run(rig->g);
	shadow_start(&rig->shadows[0], 1000000);
	shadow_start(&rig->shadows[1], 15000000);
}

void rig_stop(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		shadow_stop(&rig->shadows[i]);
	guest_stop(rig->g);
}

void rig_fini(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		shadow_fini(&rig->shadows[i]);
	if (rig->churns)
		churn_fini(&rig->churn);
}

/* ---- what is lost ---- */

void rig_check(struct rig *rig)
{
	guest_stop(rig->g);
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		rig->lost += shadow_count_lost(&rig->shadows[i]);
	rig->checks++;
	run(rig->g);
}

bool rig_is_well(const struct rig *rig)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++) {
		if (atomic_load(&rig->shadows[i].result))
			return false;
	}
	return !rig->result && !rig->lost && !guest_wrong(rig->g);
}

void rig_keep(struct rig *rig, int result)
{
	rig->result = rig->result ? rig->result : result;
}

/* ---- switching logs off and on ---- */

static void lock_all(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		pthread_mutex_lock(&rig->shadows[i].lock);
}

static void unlock_all(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		pthread_mutex_unlock(&rig->shadows[i].lock);
}

static void log_all(struct rig *rig, bool on)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		rig_keep(rig, shadow_log(&rig->shadows[i], on));
}

static void choose_forms(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		rig->shadows[i].form = (enum shadow_form)rig_chance(rig, SHADOW_NFORMS);
}

/* A sync before, or between, or none: the commit that takes a log away reads it. */
static void toggle_held(struct rig *rig)
{
	guest_hold(rig->g);
	if (rig_chance(rig, 2))
		rig_keep(rig, guest_sync_all(rig->g));
	log_all(rig, false);
	if (rig_chance(rig, 2))
		rig_keep(rig, guest_sync_all(rig->g));
	choose_forms(rig);
	log_all(rig, true);
	guest_let_go(rig->g);
}

static void toggle_at_once(struct rig *rig)
{
	struct kvmas *kvmas = rig->g->f->kvmas;

	rig_keep(rig, kvmas_begin(kvmas));
	log_all(rig, false);
	choose_forms(rig);
	log_all(rig, true);
	rig_keep(rig, kvmas_commit(kvmas));
}

static void toggle_and_copy(struct rig *rig)
{
	log_all(rig, false);
	choose_forms(rig);
	log_all(rig, true);
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		shadow_copy_all(&rig->shadows[i]);
}

void rig_toggle(struct rig *rig, enum rig_toggle how)
{
	lock_all(rig);
	if (how == RIG_HELD)
		toggle_held(rig);
	else if (how == RIG_AT_ONCE)
		toggle_at_once(rig);
	else
		toggle_and_copy(rig);
	unlock_all(rig);
	rig->toggles[how]++;
}

/* ---- one step ---- */

/* One transaction more, unless something is wrong. Losses are looked for at once: a page that is
 * written again is not lost any more. */
bool rig_go_on(struct rig *rig)
{
	if (!churn_step(&rig->churn))
		rig_keep(rig, rig->churn.result);
	if (rig_is_well(rig) && rig_chance(rig, 8) == 0)
		rig_toggle(rig, (enum rig_toggle)rig_chance(rig, RIG_NTOGGLES));
	if (rig_chance(rig, 4) == 0)
		rig_check(rig);
	else
		nanosleep(&(const struct timespec){.tv_nsec = rig_chance(rig, 1000000)}, NULL);
	return rig_is_well(rig);
}

void rig_report(const struct rig *rig)
{
	if (rig->churns)
		churn_report(&rig->churn);
	for (unsigned i = 0; i < RIG_CLIENTS; i++) {
		if (rig->shadows[i].lost[0])
			print_message("%s\n", rig->shadows[i].lost);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * RAM that comes and goes while it is logged: a guest writes to all of it, two clients copy it, and
 * it grows and shrinks, and pages of it are given back to the host. No page is lost of what is
 * there; one that was given back, or has come, is told as dirty, so that the copy has its zeroes.
 *
 * KVMAS_SEED (1): of the sizes and pages.
 */
#include "probe.h"
#include "rig.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

enum {
	NPAGES = 0x200, /* at first, and always */
	MAX_NPAGES = 0x400,
	STEPS = 200,
};

static unsigned seed(void)
{
	const char *text = getenv("KVMAS_SEED");

	return text ? (unsigned)strtoul(text, NULL, 10) : 1;
}

/* Regions do not follow: the end goes first, and comes last. */
static int resize(struct rig *rig)
{
	struct guest *g = rig->g;
	uint64_t size = (uint64_t)(NPAGES + rig_chance(rig, MAX_NPAGES - NPAGES + 1)) * PAGE;
	int err;

	must(kvmas_begin(g->f->kvmas));
	if (size < kvmas_ram_get_size(g->ram)) {
		err = kvmas_region_set_size(g->memory, size);
		err = err ? err : kvmas_ram_resize(g->ram, size);
	} else {
		err = kvmas_ram_resize(g->ram, size);
		err = err ? err : kvmas_region_set_size(g->memory, size);
	}
	if (err)
		kvmas_abort(g->f->kvmas);
	return err ? err : kvmas_commit(g->f->kvmas);
}

static int discard(struct rig *rig)
{
	uint64_t end = kvmas_ram_get_size(rig->g->ram) / PAGE;
	uint64_t first = FREE_PAGE + rig_chance(rig, (uint32_t)end - FREE_PAGE);
	uint64_t npages = 1 + rig_chance(rig, (uint32_t)(end - first));

	return kvmas_ram_discard(rig->g->ram, first * PAGE, npages * PAGE);
}

static bool step(struct rig *rig)
{
	rig_keep(rig, rig_chance(rig, 2) ? resize(rig) : discard(rig));
	if (rig_chance(rig, 4) == 0)
		rig_check(rig);
	else
		nanosleep(&(const struct timespec){.tv_nsec = rig_chance(rig, 1000000)}, NULL);
	return rig_is_well(rig);
}

static void start(struct rig *rig, void **state, enum kvmas_kvm_log log)
{
	rig_init(rig, state,
		 (struct guest_config){.npages = NPAGES, .max_npages = MAX_NPAGES, .log = log},
		 seed());
	rig_add_targets(rig, FREE_PAGE, MAX_NPAGES - FREE_PAGE, 1);
	rig_start(rig);
}

static void resize_and_discard(void **state, enum kvmas_kvm_log log)
{
	unsigned steps = 0;
	struct rig rig;

	start(&rig, state, log);
	while (steps < STEPS && step(&rig))
		steps++;
	rig_stop(&rig);
	if (!rig_is_well(&rig))
		rig_report(&rig);
	for (unsigned i = 0; i < RIG_CLIENTS; i++)
		assert_int_equal(atomic_load(&rig.shadows[i].result), 0);
	assert_int_equal(rig.result, 0);
	assert_int_equal(rig.lost, 0);
	assert_true(rig.checks > 0);
	guest_end_well(rig.g);
	rig_fini(&rig);
}

static void no_page_is_lost_of_changing_ram_where_reading_a_log_clears_it(void **state)
{
	resize_and_discard(state, KVMAS_KVM_LOG_AUTO);
}

static void no_page_is_lost_of_changing_ram_under_manual_protection(void **state)
{
	resize_and_discard(state, KVMAS_KVM_LOG_MANUAL);
}

static void no_page_is_lost_of_changing_ram_where_all_is_dirty_at_first(void **state)
{
	resize_and_discard(state, KVMAS_KVM_LOG_MANUAL_SET);
}

static void no_page_is_lost_of_changing_ram_with_rings(void **state)
{
	resize_and_discard(state, KVMAS_KVM_LOG_RING);
}

/* The control: pages given back behind the library's back. */
static void page_discarded_past_the_library_is_found(void **state)
{
	struct rig rig;

	start(&rig, state, KVMAS_KVM_LOG_AUTO);
	while (guest_writes(rig.g, 0, 0) < 10000 && !guest_wrong(rig.g))
		guest_wait_rounds(rig.g, 1);
	rig_stop(&rig);
	for (uint32_t i = 0; i < 8; i++)
		rig.g->bytes[(size_t)(FREE_PAGE + i) * PAGE] = 1;
	must(kvmas_ram_mark(rig.g->ram, (uint64_t)FREE_PAGE * PAGE, 8 * PAGE));
	assert_int_equal(shadow_count_lost(&rig.shadows[0]), 0);
	must(madvise(rig.g->bytes + (size_t)FREE_PAGE * PAGE, 8 * PAGE, MADV_DONTNEED));
	assert_int_equal(shadow_count_lost(&rig.shadows[0]), 8);
	rig_fini(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(no_page_is_lost_of_changing_ram_where_reading_a_log_clears_it),
		GUEST_TEST(no_page_is_lost_of_changing_ram_under_manual_protection),
		GUEST_TEST(no_page_is_lost_of_changing_ram_where_all_is_dirty_at_first),
		GUEST_TEST(no_page_is_lost_of_changing_ram_with_rings),
		GUEST_TEST(page_discarded_past_the_library_is_found),
	};

	return guest_main("live-dirty-ram", tests, LENGTH(tests), 1);
}

/* SPDX-License-Identifier: MIT */
/*
 * A guest that means harm, on the double: a BAR of one page that is moved over all of RAM, which
 * leaves seams wherever it was; and a view that truly needs more slots than there are. What real
 * KVM makes of it is shown by tests/live/test-hostile.c.
 */
#include "kvm-fixture.h"

enum {
	NPAGES = 600,
	VIEW = 2, /* slots that it takes: below the BAR and above it */
	LIMIT = 32,
	CHECK_EVERY = 97, /* places: to compare tables and views is slow */
};

/* RAM in both spaces, and over it a BAR that both see. */
static struct kvmas_region *put_bar(struct machine *m)
{
	struct kvmas_region *bar;

	put_ram(m, NORMAL, "ram", 0, NPAGES);
	bar = put_mmio(m, NORMAL, "bar", 0, 1);
	put_alias(m, SMM, m->root[NORMAL], 0, 0, NPAGES);
	return bar;
}

/* Orders in which the BAR comes to each place once. */
static uint64_t upwards(uint64_t step)
{
	return step;
}

static uint64_t evens_first(uint64_t step)
{
	return step < NPAGES / 2 ? 2 * step : 2 * (step - NPAGES / 2) + 1;
}

static uint64_t scattered(uint64_t step)
{
	return step * 367 % NPAGES;
}

static unsigned most_slots(const struct machine *m)
{
	unsigned normal = m->vm->spaces[NORMAL].nslots, smm = m->vm->spaces[SMM].nslots;

	return normal > smm ? normal : smm;
}

/* The most slots that a space has had after a move. */
static unsigned sweep(struct machine *m, struct kvmas_region *bar, uint64_t (*order)(uint64_t))
{
	unsigned most = 0;

	for (uint64_t step = 0; step < NPAGES; step++) {
		must(kvmas_region_set_offset(bar, pages(order(step))));
		if (most_slots(m) > most)
			most = most_slots(m);
		if (step % CHECK_EVERY == 0)
			assert_right(m);
		forget_trace(m); /* it grows by lines */
	}
	return most;
}

static void slots_stay_within_view_and_budget_under_a_sweeping_bar(void **state)
{
	static uint64_t (*const orders[])(uint64_t) = {upwards, evens_first, scattered};
	static const unsigned budgets[] = {256, 0, 7};
	struct machine *m = *state;
	struct kvmas_region *bar = put_bar(m);

	for (unsigned b = 0; b < LENGTH(budgets); b++) {
		/* The first one is what holds if nothing is set. */
		for (unsigned i = 0; b > 0 && i < NSPACES; i++)
			must(kvmas_kvm_set_budget(m->kvm, i, budgets[b]));
		for (unsigned i = 0; i < LENGTH(orders); i++) {
			unsigned most = sweep(m, bar, orders[i]);

			assert_true(most <= VIEW + budgets[b]);
			/* It is used, too: else all RAM would be torn each time. */
			assert_true(most >= budgets[b]);
		}
	}
}

/* The control: it is the budget that keeps them down. */
static void slots_exceed_a_budget_that_is_raised(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *bar = put_bar(m);

	for (unsigned i = 0; i < NSPACES; i++)
		must(kvmas_kvm_set_budget(m->kvm, i, 2 * NPAGES));
	assert_true(sweep(m, bar, evens_first) > VIEW + 256);
}

/* ---- logs ---- */

static unsigned long gets_of_a_sync(struct machine *m, unsigned as_id)
{
	fake_kvm_reset(m->vm);
	must(kvmas_space_sync(m->space[as_id], 0, KVMAS_SIZE_MAX));
	return m->vm->count[FAKE_KVM_GET];
}

/* However the guest cuts what is logged, reading it costs twice what it cost before, at most. */
static void sync_after_a_sweep_reads_at_most_twice_as_many_logs(void **state)
{
	static uint64_t (*const orders[])(uint64_t) = {upwards, evens_first, scattered};

	for (unsigned i = 0; i < LENGTH(orders) * NSPACES; i++) {
		struct machine *m = machine_new(NULL);
		struct kvmas_region *bar = put_bar(m);
		unsigned as_id = i % NSPACES;
		unsigned most;

		(void)state;
		for (unsigned k = 0; k < 20; k++)
			put_ram(m, NORMAL, "other", NPAGES + 1 + 2 * k, 1);
		must(kvmas_client_log_start(make_client(m, "c"), NULL, m->space[as_id]));
		must(kvmas_region_set_offset(bar, pages(NPAGES / 2)));
		most = 2 * (unsigned)gets_of_a_sync(m, as_id);
		for (unsigned step = 0; step < NPAGES; step++) {
			must(kvmas_region_set_offset(bar, pages(orders[i / NSPACES](step))));
			assert_true(m->vm->spaces[as_id].nslots <= most);
			forget_trace(m);
		}
		assert_true(gets_of_a_sync(m, as_id) <= most);
		assert_right(m);
		machine_free(m);
	}
}

/* Nor does it help that the guest has cut it before. */
static void log_that_starts_after_a_sweep_merges_first(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *bar = put_bar(m);

	sweep(m, bar, evens_first);
	assert_true(m->vm->spaces[NORMAL].nslots > 100);
	must(kvmas_client_log_start(make_client(m, "c"), NULL, m->space[NORMAL]));
	assert_true(m->vm->spaces[NORMAL].nslots <= 2 * VIEW);
	assert_true(gets_of_a_sync(m, NORMAL) <= 2 * VIEW);
	/* Of the other space nothing is logged. */
	assert_true(m->vm->spaces[SMM].nslots > 100);
}

/* A region that comes is the first that is logged; the slots that are there were cut before. */
static void first_logged_region_that_comes_after_a_sweep_merges_as_well(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *bar = put_bar(m);
	struct kvmas_region *card = make_ram(m->f, "card", pages(4));

	must(kvmas_client_log_start(make_client(m, "c"), card, NULL));
	sweep(m, bar, evens_first);
	assert_true(m->vm->spaces[NORMAL].nslots > 100);
	add(m->root[NORMAL], card, pages(NPAGES + 10), 0);
	assert_true(m->vm->spaces[NORMAL].nslots <= 2 * (VIEW + 1));
	assert_int_equal(gets_of_a_sync(m, NORMAL), 1);
}

/* ---- few slots ---- */

static struct machine *new_machine_with_few_slots(void)
{
	return machine_new(&(struct fake_kvm_config){.nr_memslots = LIMIT});
}

static void sweeping_bar_is_never_refused_where_slots_are_few(void **state)
{
	struct machine *m = new_machine_with_few_slots();

	(void)state;
	assert_true(sweep(m, put_bar(m), scattered) <= LIMIT);
	machine_free(m);
}

/* Hide the first n of some pages that are not neighbours, in one transaction. */
static int hide(struct machine *m, struct kvmas_region **holes, unsigned n)
{
	must(kvmas_begin(m->f->kvmas));
	for (unsigned i = 0; i < n; i++)
		must(kvmas_region_set_enabled(holes[i], true));
	return kvmas_commit(m->f->kvmas);
}

static void view_past_the_limit_is_enospc_before_the_first_ioctl(void **state)
{
	struct machine *m = new_machine_with_few_slots();
	struct kvmas_region *bar = put_bar(m), *holes[LIMIT];

	(void)state;
	must(kvmas_region_set_enabled(bar, false));
	for (unsigned i = 0; i < LIMIT; i++) {
		holes[i] = put_mmio(m, NORMAL, "hole", 1 + 2 * i, 1);
		must(kvmas_region_set_enabled(holes[i], false));
	}
	sweep(m, bar, upwards);
	for (unsigned i = 0; i < 3; i++) {
		struct fake_kvm *before = fake_kvm_snapshot(m->vm);

		fake_kvm_reset(m->vm);
		assert_int_equal(hide(m, holes, LIMIT), -ENOSPC);
		assert_int_equal(m->vm->ncalls, 0);
		assert_true(fake_kvm_equal(m->vm, before));
		assert_right(m);
		fake_kvm_free(before);
	}
	/* It goes on, with as many as there are. */
	must(hide(m, holes, LIMIT - 1));
	assert_right(m);
	assert_int_equal(m->vm->spaces[NORMAL].nslots, LIMIT);
	assert_int_equal(kvmas_kvm_slots_free(m->kvm, NORMAL), 0);
	assert_int_equal(kvmas_region_set_enabled(holes[LIMIT - 1], true), -ENOSPC);
	must(kvmas_region_set_enabled(holes[0], false));
	must(kvmas_region_set_enabled(holes[LIMIT - 1], true));
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(slots_stay_within_view_and_budget_under_a_sweeping_bar),
		KVM_TEST(slots_exceed_a_budget_that_is_raised),
		cmocka_unit_test(sync_after_a_sweep_reads_at_most_twice_as_many_logs),
		KVM_TEST(log_that_starts_after_a_sweep_merges_first),
		KVM_TEST(first_logged_region_that_comes_after_a_sweep_merges_as_well),
		cmocka_unit_test(sweeping_bar_is_never_refused_where_slots_are_few),
		cmocka_unit_test(view_past_the_limit_is_enospc_before_the_first_ioctl),
	};

	return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}

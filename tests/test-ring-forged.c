/* SPDX-License-Identifier: MIT */
/*
 * Dirty rings that say what is not so: a ring is memory that the kernel shares with whoever else
 * maps the vCPU's fd. What is told may then be wrong; nothing is read or written elsewhere, and
 * every harvest ends.
 */
#include "ring-fixture.h"

/* An entry that is not read yet, 1 being the newest: somebody else who maps the ring changes it. */
static struct kvm_dirty_gfn *entry_of(struct machine *m, uint32_t back)
{
	struct fake_kvm_vcpu *cpu = cpu_of(m, 0);

	return &cpu->ring[(cpu->pushed - back) % (m->vm->ring_size / sizeof(*cpu->ring))];
}

static void entry_that_names_no_page_of_a_logged_slot_is_dropped(void **state)
{
	static const struct {
		uint32_t slot;
		uint64_t offset;
	} table[] = {
		{0, NPAGES},           /* behind its end */
		{0, UINT64_MAX},       /* and far behind */
		{0, UINT64_MAX - 4},   /* so that the sum with its place in the block wraps */
		{1 << 16, NPAGES / 2}, /* the other space's slot is smaller */
		{1, 0},                /* not logged */
		{2, 0},                /* no slot */
		{UINT16_MAX, 0},       /* past the ids that there are */
		{NSPACES << 16, 0},    /* past the spaces */
		{UINT32_MAX, 0},       /* everything */
		{UINT32_MAX, UINT64_MAX},
	};
	struct machine *m = *state;

	for (unsigned i = 0; i < LENGTH(table); i++) {
		uint64_t strays = stats_of(m).ring_strays;

		store(m, 0, NORMAL, 300);
		store(m, 0, NORMAL, 4);
		store(m, 0, NORMAL, 600);
		entry_of(m, 2)->slot = table[i].slot;
		entry_of(m, 2)->offset = table[i].offset;
		must(sync_ram(m));
		assert_found(m, "300 600 ");
		assert_int_equal(stats_of(m).ring_strays, strays + 1);
		/* What was overwritten is not watched: its page is not asked about any more. */
		must(kvmas_client_log_stop(m->clients[0], ring_ram(m), NULL));
		must(kvmas_client_log_start(m->clients[0], ring_ram(m), NULL));
	}
}

static void entry_that_names_another_page_marks_that(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 3);
	store(m, 0, NORMAL, 4);
	entry_of(m, 1)->slot = SMM << 16;
	must(sync_ram(m));
	assert_found(m, "3 516 ");
}

/* Whoever has read it sets this bit, and may leave the other. */
static void entry_that_counts_as_read_is_not_read_again(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 5);
	entry_of(m, 1)->flags |= KVM_DIRTY_GFN_F_RESET;
	must(sync_ram(m));
	assert_found(m, "");
}

/* Bits beside "dirty": with "reset" it counts as read, others mean nothing. */
static void flags_that_mean_nothing_are_ignored(void **state)
{
	struct machine *m = *state;

	store(m, 0, NORMAL, 3);
	entry_of(m, 1)->flags |= ~(uint32_t)(KVM_DIRTY_GFN_F_DIRTY | KVM_DIRTY_GFN_F_RESET);
	must(sync_ram(m));
	assert_found(m, "3 ");
	store(m, 0, NORMAL, 4);
	entry_of(m, 1)->flags = ~(uint32_t)KVM_DIRTY_GFN_F_DIRTY;
	must(sync_ram(m));
	assert_found(m, "");
}

static void dirty_again(struct machine *m, unsigned long request, void *arg)
{
	size_t entries = m->vm->ring_size / sizeof(struct kvm_dirty_gfn);

	(void)arg;
	if (request != KVM_RESET_DIRTY_RINGS)
		return;
	for (size_t i = 0; i < NGUESTS * entries; i++) {
		struct kvm_dirty_gfn *entry = &cpu_of(m, i / entries)->ring[i % entries];

		*entry = (struct kvm_dirty_gfn){
			.flags = i % 3, .slot = (uint32_t)i % 4, .offset = i * 7};
	}
}

static void ring_that_is_always_full_ends_a_harvest(void **state)
{
	struct machine *m = *state;
	size_t entries = m->vm->ring_size / sizeof(struct kvm_dirty_gfn);

	m->on_ioctl = dirty_again;
	dirty_again(m, KVM_RESET_DIRTY_RINGS, NULL);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t before = stats_of(m).ring_entries;

		int result = sync_ram(m);

		assert_true(result == 0 || result == -EIO);
		assert_true(stats_of(m).ring_entries - before <= NGUESTS * entries);
	}
	m->on_ioctl = NULL;
}

/* With its lock held, nobody else could end it. What KVM had no room for is not known. */
static void ring_without_room_is_read_once_around_and_all_counts_as_dirty(void **state)
{
	struct machine *m = *state;
	size_t entries = m->vm->ring_size / sizeof(struct kvm_dirty_gfn);

	for (size_t i = 0; i < entries; i++)
		cpu_of(m, 0)->ring[i] = (struct kvm_dirty_gfn){
			.flags = KVM_DIRTY_GFN_F_DIRTY, .slot = 0, .offset = i};
	must(sync_ram(m));
	assert_int_equal(stats_of(m).ring_entries, entries);
	assert_int_equal(kvmas_client_take(m->clients[0], block_of(ring_ram(m)), 0, NPAGES,
					   (uint64_t[NPAGES / 64]){0}),
			 NPAGES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FORGED_TEST(entry_that_names_no_page_of_a_logged_slot_is_dropped),
		FORGED_TEST(entry_that_names_another_page_marks_that),
		FORGED_TEST(entry_that_counts_as_read_is_not_read_again),
		FORGED_TEST(flags_that_mean_nothing_are_ignored),
		FORGED_TEST(ring_that_is_always_full_ends_a_harvest),
		FORGED_TEST(ring_without_room_is_read_once_around_and_all_counts_as_dirty),
	};

	return cmocka_run_group_tests_name("ring-forged", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Syncing: which listeners are asked for what they know of writes, and for which addresses. */
#include "kvm-fixture.h"

/* A container with a ram, two aliases of it, and a second space that is one of these. */
struct scene {
	struct kvmas_region *root;
	struct kvmas_region *ram;  /* 0x8000 bytes at 0x10000 */
	struct kvmas_region *high; /* all of it, at 0x100000 */
	struct kvmas_region *part; /* its bytes 0x2000-0x3fff, at 0x30000 */
	struct kvmas_space *space;
	struct kvmas_space *other; /* its root is `part` */
};

static void set_scene(struct fixture *f, struct scene *s)
{
	s->root = make_container(f, "root", KVMAS_SIZE_MAX);
	s->ram = make_ram(f, "ram", 0x8000);
	s->high = make_alias(f, "high", s->ram, 0, 0x8000);
	s->part = make_alias(f, "part", s->ram, 0x2000, 0x2000);
	add(s->root, s->ram, 0x10000, 0);
	add(s->root, s->high, 0x100000, 0);
	add(s->root, s->part, 0x30000, 0);
	s->space = make_space(f, "s", s->root);
	s->other = make_space(f, "t", s->part);
	make_listener(f, s->space, "s", 0);
	make_listener(f, s->other, "t", 0);
	forget_notes(f);
	f->with = s;
}

static void region_is_synced_wherever_it_is_seen(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_sync(s.ram, 0, KVMAS_SIZE_MAX));
	assert_notes(f, "s sync 10000-17fff\ns sync 30000-31fff\ns sync 100000-107fff\n"
			"t sync 0000-1fff\n");
	must(kvmas_region_sync(s.part, 0, KVMAS_SIZE_MAX));
	assert_notes(f, "s sync 30000-31fff\nt sync 0000-1fff\n");
	must(kvmas_region_sync(s.root, 0, KVMAS_SIZE_MAX));
	assert_notes(f, "s sync 0000-ffffffffffffffff\n");
}

static void part_of_a_region_is_cut_at_each_step(void **state)
{
	static const struct {
		uint64_t offset, size;
		const char *notes;
	} cases[] = {
		{0, 1, "s sync 10000-10000\ns sync 100000-100000\n"},
		{0x1fff, 2,
		 "s sync 11fff-12000\ns sync 30000-30000\ns sync 101fff-102000\nt sync "
		 "0000-0000\n"},
		{0x3fff, UINT64_MAX,
		 "s sync 13fff-17fff\ns sync 31fff-31fff\ns sync 103fff-107fff\nt sync "
		 "1fff-1fff\n"},
		{0x4000, UINT64_MAX - 1, "s sync 14000-17fff\ns sync 104000-107fff\n"},
		{0x7fff, 1, "s sync 17fff-17fff\ns sync 107fff-107fff\n"},
	};
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		must(kvmas_region_sync(s.ram, cases[i].offset, cases[i].size));
		assert_notes(f, cases[i].notes);
	}
}

static void places_that_touch_or_overlap_are_one(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_region_set_offset(s.high, 0x18000));
	must(kvmas_region_set_offset(s.part, 0x12000));
	forget_notes(f);
	must(kvmas_region_sync(s.ram, 0, KVMAS_SIZE_MAX));
	assert_notes(f, "s sync 10000-1ffff\nt sync 0000-1fff\n");
}

static void spaces_with_the_same_root_are_all_synced(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	make_listener(f, make_space(f, "u", s.part), "u", 0);
	forget_notes(f);
	must(kvmas_region_sync(s.part, 0, 1));
	assert_notes(f, "s sync 30000-30000\nt sync 0000-0000\nu sync 0000-0000\n");
}

static void what_is_not_seen_is_not_synced(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *stray;
	struct scene s;

	set_scene(f, &s);
	stray = make_ram(f, "stray", 0x1000);
	must(kvmas_region_sync(stray, 0, KVMAS_SIZE_MAX));
	must(kvmas_region_set_enabled(s.high, false));
	forget_notes(f);
	must(kvmas_region_sync(s.high, 0, KVMAS_SIZE_MAX));
	assert_notes(f, "");
	must(kvmas_region_sync(s.ram, 0, 1));
	assert_notes(f, "s sync 10000-10000\n");
	must(kvmas_region_set_enabled(s.ram, false));
	forget_notes(f);
	must(kvmas_region_sync(s.ram, 0, 1));
	assert_notes(f, "");
}

static void sync_of_a_part_that_is_none_returns_einval(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	assert_int_equal(kvmas_region_sync(s.ram, 0, 0), -EINVAL);
	assert_int_equal(kvmas_region_sync(s.ram, 0x8000, 1), -EINVAL);
	assert_int_equal(kvmas_region_sync(s.ram, UINT64_MAX, UINT64_MAX), -EINVAL);
	assert_int_equal(kvmas_region_sync(s.root, UINT64_MAX, 0), -EINVAL);
	assert_notes(f, "");
	must(kvmas_region_sync(s.root, UINT64_MAX, 1));
	assert_notes(f, "s sync ffffffffffffffff-ffffffffffffffff\n");
}

static void sync_of_a_region_in_a_transaction_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_begin(f->kvmas));
	assert_int_equal(kvmas_region_sync(s.ram, 0, 1), -EBUSY);
	must(kvmas_abort(f->kvmas));
	assert_notes(f, "");
}

static void sync_inside(struct fixture *f)
{
	struct scene *s = f->with;

	assert_int_equal(kvmas_region_sync(s->ram, 0, 1), -EBUSY);
	assert_int_equal(kvmas_space_sync(s->space, 0, 1), -EBUSY);
	note(f, "refused");
}

static void sync_from_a_callback_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	f->inside = sync_inside;
	must(kvmas_region_sync(s.part, 0, 1));
	f->inside = NULL;
	assert_notes(f, "s sync 30000-30000\nrefused\nt sync 0000-0000\nrefused\n");
}

static void first_error_is_returned_after_all_were_asked(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	f->sync_result = -EFAULT;
	assert_int_equal(kvmas_region_sync(s.part, 0, 1), -EFAULT);
	assert_notes(f, "s sync 30000-30000\nt sync 0000-0000\n");
	f->sync_result = 1;
	must(kvmas_region_sync(s.part, 0, 1));
	forget_notes(f);
}

/* Each container shows the one before it twice: there are more places than anybody counts. */
static void what_is_seen_in_too_many_places_is_synced_everywhere(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *leaf;
	struct kvmas_region *below;
	struct scene s;

	set_scene(f, &s);
	leaf = make_ram(f, "leaf", 0x1000);
	below = leaf;
	for (int i = 0; i < 17; i++) {
		struct kvmas_region *above = make_container(f, "c", KVMAS_SIZE_MAX);

		add(above, make_alias(f, "a", below, 0, KVMAS_SIZE_MAX), 0, 0);
		add(above, make_alias(f, "b", below, 0, KVMAS_SIZE_MAX), 0x2000, 0);
		below = above;
	}
	must(kvmas_region_sync(leaf, 0, 1));
	assert_notes(f, "s sync 0000-ffffffffffffffff\nt sync 0000-ffffffffffffffff\n");
}

static int try_sync(struct fixture *f)
{
	struct scene *s = f->with;

	return kvmas_region_sync(s->ram, 0, KVMAS_SIZE_MAX);
}

static void every_allocation_of_a_sync_fails_cleanly(void **state)
{
	struct fixture *f = *state;
	struct scene s;

	set_scene(f, &s);
	must(kvmas_reclaim(f->kvmas)); /* what is kept from one commit to the next */
	assert_int_equal(fail_each_allocation(f, try_sync), 2); /* the climb, the places */
	assert_notes(f, "s sync 10000-17fff\ns sync 30000-31fff\ns sync 100000-107fff\n"
			"t sync 0000-1fff\n");
}

/* ---- with KVM ---- */

static void only_slots_that_may_show_the_region_are_read(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *a = put_ram(m, NORMAL, "a", 0, 4);
	struct kvmas_client *client = make_client(m, "c");
	uint64_t reads;

	put_ram(m, NORMAL, "b", 16, 4);
	put_alias(m, NORMAL, a, 32, 0, 4);
	put_alias(m, SMM, a, 8, 0, 2);
	must(kvmas_client_log_start(client, NULL, NULL));
	reads = stats_of(m).log_reads;
	must(kvmas_region_sync(a, 0, KVMAS_SIZE_MAX));
	assert_int_equal(stats_of(m).log_reads - reads, 3);
	must(kvmas_region_sync(a, pages(2), 1));
	assert_int_equal(stats_of(m).log_reads - reads, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(region_is_synced_wherever_it_is_seen),
		TEST(part_of_a_region_is_cut_at_each_step),
		TEST(places_that_touch_or_overlap_are_one),
		TEST(spaces_with_the_same_root_are_all_synced),
		TEST(what_is_not_seen_is_not_synced),
		TEST(sync_of_a_part_that_is_none_returns_einval),
		TEST(sync_of_a_region_in_a_transaction_returns_ebusy),
		TEST(sync_from_a_callback_returns_ebusy),
		TEST(first_error_is_returned_after_all_were_asked),
		TEST(what_is_seen_in_too_many_places_is_synced_everywhere),
		TEST(every_allocation_of_a_sync_fails_cleanly),
		KVM_TEST(only_slots_that_may_show_the_region_are_read),
	};

	return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Two address spaces that show the same RAM, on the double: each merges by itself, and a change in
 * one issues no call in the other. tests/live/test-spaces.c shows the same of real KVM.
 *
 * Tables are the double's own, in pages of guest and block: "0-3 +0, 6-15 +6".
 */
#include "kvm-fixture.h"

#include <inttypes.h>

enum { NPAGES = 16, SOME_SLOTS = 32 };

/* What KVM has in a space. All memory is of one block. */
static void assert_double(struct machine *m, unsigned as_id, const char *expected)
{
	struct fake_kvm_slot slots[SOME_SLOTS];
	size_t count = fake_kvm_slots(m->vm, as_id, slots, SOME_SLOTS);
	uint64_t base = (uintptr_t)kvmas_ram_get_hva(m->data);
	char *text = NULL;

	assert_true(count <= SOME_SLOTS);
	text_add(&text, "%s", "");
	for (size_t i = 0; i < count; i++)
		text_add(&text, "%s%" PRIu64 "-%" PRIu64 " +%" PRIu64, i ? ", " : "",
			 slots[i].gpa / pages(1), (slots[i].gpa + slots[i].size) / pages(1) - 1,
			 (slots[i].hva - base) / pages(1));
	assert_string_equal(text, expected);
	free(text);
}

/* All of a block in both spaces, each of which always has the fewest slots. */
static struct machine *share_ram(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, NPAGES);

	put_alias(m, SMM, ram, 0, 0, NPAGES);
	m->data = block_of(ram);
	for (unsigned i = 0; i < NSPACES; i++)
		must(kvmas_kvm_set_merge(m->kvm, i, KVMAS_MERGE_EAGER));
	return m;
}

static void what_is_hidden_in_one_space_stays_merged_in_the_other(void **state)
{
	struct machine *m = share_ram(state);
	struct kvmas_region *video = put_mmio(m, NORMAL, "video", 4, 2);
	struct kvmas_region *other;

	assert_double(m, NORMAL, "0-3 +0, 6-15 +6");
	assert_double(m, SMM, "0-15 +0");
	other = put_mmio(m, SMM, "other", 9, 1);
	must(kvmas_region_set_enabled(video, false));
	assert_double(m, NORMAL, "0-15 +0");
	assert_double(m, SMM, "0-8 +0, 10-15 +10");
	must(kvmas_region_set_enabled(other, false));
	assert_double(m, SMM, "0-15 +0");
}

/* Two regions on one block, side by side in one space and apart in the other. */
static void neighbours_in_one_space_are_one_slot_and_apart_in_the_other_two(void **state)
{
	struct machine *m = *state;
	struct kvmas_ram *block = make_block(m->f, "ram", NPAGES);
	struct kvmas_region *low, *high;

	m->data = block;
	low = make_window(m->f, KVMAS_REGION_RAM, "low", block, 0, 8);
	high = make_window(m->f, KVMAS_REGION_RAM, "high", block, 8, 8);
	add(m->root[NORMAL], low, 0, 0);
	add(m->root[NORMAL], high, pages(8), 0);
	put_alias(m, SMM, low, 0, 0, 8);
	put_alias(m, SMM, high, 100, 0, 8);
	assert_double(m, NORMAL, "0-7 +0, 8-15 +8");
	assert_double(m, SMM, "0-7 +0, 100-107 +8");
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	must(kvmas_kvm_merge(m->kvm, SMM));
	assert_double(m, NORMAL, "0-15 +0");
	assert_double(m, SMM, "0-7 +0, 100-107 +8");
	kvmas_ram_unref(block);
}

static void policies_and_boundaries_are_each_spaces_own(void **state)
{
	struct machine *m = share_ram(state);

	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(5)));
	assert_double(m, NORMAL, "0-4 +0, 5-15 +5");
	assert_double(m, SMM, "0-15 +0");
	must(kvmas_kvm_add_boundary(m->kvm, SMM, pages(12)));
	must(kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(5)));
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	assert_double(m, NORMAL, "0-15 +0");
	assert_double(m, SMM, "0-11 +0, 12-15 +12");
}

/* What is switched in one space. */
struct switches {
	struct machine *m;
	unsigned as_id;
	struct kvmas_region *video;  /* hides RAM */
	struct kvmas_region *window; /* shows RAM where it is anyway */
};

static int show_video(const struct switches *s)
{
	return kvmas_region_set_enabled(s->video, true);
}

static int hide_video(const struct switches *s)
{
	return kvmas_region_set_enabled(s->video, false);
}

static int move_video(const struct switches *s)
{
	return kvmas_region_set_offset(s->video, pages(5));
}

static int protect(const struct switches *s)
{
	return kvmas_region_set_readonly(s->window, true);
}

static int keep_apart(const struct switches *s)
{
	return kvmas_kvm_add_boundary(s->m->kvm, s->as_id, pages(1));
}

static int split(const struct switches *s)
{
	return kvmas_kvm_set_merge(s->m->kvm, s->as_id, KVMAS_MERGE_NONE);
}

static int merge(const struct switches *s)
{
	return kvmas_kvm_set_merge(s->m->kvm, s->as_id, KVMAS_MERGE_EAGER);
}

static int unbind(const struct switches *s)
{
	return kvmas_kvm_unbind(s->m->kvm, s->as_id);
}

static int bind(const struct switches *s)
{
	return kvmas_kvm_bind(s->m->kvm, s->m->space[s->as_id], s->as_id);
}

static void change_in_one_space_issues_no_call_in_the_other(void **state)
{
	/* In this order each finds something to do. */
	static int (*const changes[])(const struct switches *) = {
		show_video, move_video, hide_video, split, merge, protect, keep_apart, unbind, bind,
	};
	struct machine *m = share_ram(state);

	for (unsigned as_id = 0; as_id < NSPACES; as_id++) {
		struct switches s = {.m = m, .as_id = as_id};

		s.video = put_mmio(m, as_id, "video", 3, 2);
		must(kvmas_region_set_enabled(s.video, false));
		s.window = make_window(m->f, KVMAS_REGION_RAM, "window", m->data, 10, 2);
		add(m->root[as_id], s.window, pages(10), 1);
		for (unsigned i = 0; i < LENGTH(changes); i++) {
			fake_kvm_reset(m->vm);
			must(changes[i](&s));
			assert_true(calls_in(m->vm, as_id, FAKE_KVM_NOPS) > 0);
			assert_int_equal(calls_in(m->vm, !as_id, FAKE_KVM_NOPS), 0);
			assert_right(m);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(what_is_hidden_in_one_space_stays_merged_in_the_other),
		KVM_TEST(neighbours_in_one_space_are_one_slot_and_apart_in_the_other_two),
		KVM_TEST(policies_and_boundaries_are_each_spaces_own),
		KVM_TEST(change_in_one_space_issues_no_call_in_the_other),
	};

	return cmocka_run_group_tests_name("two-spaces", tests, NULL, NULL);
}

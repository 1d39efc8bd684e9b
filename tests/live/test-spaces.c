/* SPDX-License-Identifier: MIT */
/*
 * Two address spaces that show the same RAM: each merges by itself, a change in one issues no call
 * in the other, and the guest finds what each shows, in SMM and out of it. What the kernel has is
 * found by probing (probe.h).
 *
 *   space 0   the video window, where nothing answers, hides RAM at page a0; all else is RAM
 *   space 1   shows space 0, but RAM in the window, which is SMRAM
 */
#include "guest.h"
#include "probe.h"

enum {
	NPAGES = 0x200,
	LAST = NPAGES - 1,
	WINDOW = 0xa0,
	WINDOW_PAGES = 0x20,
	OTHER = 0x100, /* a window that only space 1 has */
	OTHER_PAGES = 0x10,
	FLIPS = 100,
};

struct scene {
	struct guest *g;
	struct kvmas_region *video; /* in space 0 */
	struct kvmas_region *other; /* in space 1 */
};

static struct scene make_scene(void **state)
{
	struct scene scene = {.g = guest_new(state, (struct guest_config){.npages = NPAGES})};

	scene.video = guest_put_hole(scene.g, 0, WINDOW, WINDOW_PAGES);
	guest_put_alias(scene.g, 1, WINDOW, WINDOW, WINDOW_PAGES);
	scene.other = guest_put_hole(scene.g, 1, OTHER, OTHER_PAGES);
	for (unsigned i = 0; i < scene.g->nspaces; i++)
		must(kvmas_kvm_set_merge(scene.g->kvm, i, KVMAS_MERGE_EAGER));
	return scene;
}

static int count_slot(void *data, const struct kvmas_slot *slot)
{
	unsigned *counts = data;

	counts[slot->as_id]++;
	return 0;
}

/* The runs of pages that the kernel has covered in each space, and in how many slots. */
static void assert_covered(struct guest *g, unsigned as_id, const char *expected, unsigned nslots)
{
	unsigned counts[MAX_SPACES] = {0};
	char *text = probe_pages(g, as_id, 0, NPAGES);

	assert_string_equal(text, expected);
	free(text);
	must(kvmas_kvm_for_each_slot(g->kvm, count_slot, counts));
	assert_int_equal(counts[as_id], nslots);
	/* These slots are the kernel's, one by one. */
	assert_slots_in_step(g);
}

static void what_merges_in_space_1_stays_apart_in_space_0(void **state)
{
	struct scene scene = make_scene(state);
	struct guest *g = scene.g;

	assert_covered(g, 0, "0-1ff", 1);
	assert_covered(g, 1, "0-1ff", 1);
	must(kvmas_region_set_enabled(scene.video, true));
	assert_covered(g, 0, "0-9f c0-1ff", 2);
	assert_covered(g, 1, "0-1ff", 1);
	/* The same bytes in space 0, as two slots or as one, after each its own policy. */
	must(kvmas_region_set_enabled(scene.video, false));
	assert_covered(g, 0, "0-1ff", 1);
	must(kvmas_kvm_add_boundary(g->kvm, 0, (uint64_t)WINDOW * PAGE));
	assert_covered(g, 0, "0-1ff", 2);
	assert_covered(g, 1, "0-1ff", 1);
}

static void what_merges_in_space_0_stays_apart_in_space_1(void **state)
{
	struct scene scene = make_scene(state);
	struct guest *g = scene.g;

	must(kvmas_region_set_enabled(scene.other, true));
	assert_covered(g, 0, "0-1ff", 1);
	assert_covered(g, 1, "0-ff 110-1ff", 2);
	must(kvmas_region_set_enabled(scene.other, false));
	must(kvmas_kvm_set_merge(g->kvm, 1, KVMAS_MERGE_NONE));
	must(kvmas_kvm_add_boundary(g->kvm, 1, (uint64_t)OTHER * PAGE));
	assert_covered(g, 0, "0-1ff", 1);
	assert_covered(g, 1, "0-1ff", 2);
}

/* Flip one space's region, which must cost that space calls and the other none. */
static void flip(struct guest *g, struct kvmas_region *region, unsigned as_id, bool on)
{
	unsigned before[MAX_SPACES] = {g->calls[0], g->calls[1]};

	must(kvmas_region_set_enabled(region, on));
	assert_true(g->calls[as_id] > before[as_id]);
	assert_int_equal(g->calls[!as_id], before[!as_id]);
	guest_wait_rounds(g, 1);
}

static void enter_words(struct guest *g)
{
	struct code_entry video = guest_word(g, WINDOW, 0, CODE_READ);
	struct code_entry other = guest_word(g, OTHER, 0, CODE_READ);

	video.b = ONES;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		guest_enter(g, v, 0, video);
		guest_enter(g, v, 1, guest_word(g, WINDOW + 1, 8 * v, CODE_WRITE));
		guest_enter(g, v, 0, guest_word(g, OTHER + 1, 8 * v, CODE_WRITE));
		other.b = ONES;
		guest_enter(g, v, 1, other);
	}
	/* Exits are foreseen just where one space hides what the other shows. */
	g->windows[g->nwindows++] = (struct exit_window){0, WINDOW, WINDOW_PAGES, false};
	g->windows[g->nwindows++] = (struct exit_window){1, OTHER, OTHER_PAGES, false};
}

static void each_space_shows_its_own_and_a_change_in_one_calls_none_in_the_other(void **state)
{
	const uint32_t turn_every[MAX_VCPUS] = {1, 1};
	struct scene scene = make_scene(state);
	struct guest *g = scene.g;

	for (unsigned i = 0; i < g->nspaces; i++)
		must(kvmas_kvm_set_merge(g->kvm, i, KVMAS_MERGE_STICKY));
	enter_words(g);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		g->vcpus[v].smis = true;
	guest_start(g, turn_every);
	for (unsigned i = 0; i < FLIPS && !guest_wrong(g); i++) {
		flip(g, scene.video, 0, i % 2 == 0);
		flip(g, scene.other, 1, i % 2 == 0);
	}
	guest_end_well(g);
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		assert_true(guest_rounds(g, v, 0) > 0 && guest_rounds(g, v, 1) > 0);
		assert_true(g->vcpus[v].expected_exits > 0);
	}
}

/* The control: the wrong memory in SMM is found there. */
static void word_of_another_space_is_found(void **state)
{
	const uint32_t turn_every[MAX_VCPUS] = {1, 1};
	struct scene scene = make_scene(state);
	struct code_entry word = guest_word(scene.g, OTHER, 0, CODE_READ);
	struct guest *g = scene.g;
	const char *wrong;

	guest_enter(g, 0, 1, word);
	g->vcpus[0].smis = true;
	g->windows[g->nwindows++] = (struct exit_window){1, OTHER, OTHER_PAGES, false};
	guest_start(g, turn_every);
	guest_wait_rounds(g, 10);
	assert_null(guest_wrong(g));
	must(kvmas_region_set_enabled(scene.other, true));
	guest_wait_rounds(g, 1000000);
	guest_stop(g);
	wrong = guest_wrong(g);
	assert_non_null(wrong);
	assert_non_null(strstr(wrong, "vCPU 0 in space 1"));
	assert_non_null(strstr(wrong, "is 0xffffffff"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(what_merges_in_space_1_stays_apart_in_space_0),
		GUEST_TEST(what_merges_in_space_0_stays_apart_in_space_1),
		GUEST_TEST(each_space_shows_its_own_and_a_change_in_one_calls_none_in_the_other),
		GUEST_TEST(word_of_another_space_is_found),
	};

	return guest_main("live-spaces", tests, LENGTH(tests), 2);
}

/* SPDX-License-Identifier: MIT */
/*
 * What a running guest pays when a bit of a chipset's flips: a window of memory is hidden and
 * shown, write-protected, or replaced by other memory, a thousand times, by one vCPU from its own
 * thread (as a device's callback does), while the other never stops looking.
 *
 * Of each flip but the first: how often the gate was closed; that nothing outside the window was
 * taken away, by the library's counter and by the operations themselves; that no vCPU had an exit
 * but for what is hidden; and that each word, and each piece of code, was the old or the new one.
 */
#include "guest.h"
#include "probe.h"

#include <stdio.h>
#include <time.h>

enum {
	FLIPS = 1000,
	NPAGES = 0x200,
	WINDOW = 0xa0, /* where SMRAM is */
	WINDOW_PAGES = 0x20,
	COMMITTER = 0,
	ONLOOKER = 1,
};

struct flips {
	struct guest *g;
	/* What flips, and how; 0 or what the commit returned. */
	struct kvmas_region *region;
	int (*flip)(struct kvmas_region *region, bool on);
	unsigned stops[2]; /* that switching off, and on, must cost */
	unsigned count;    /* of flips, besides the first */
	bool on;
	uint64_t outside;             /* bytes beyond the window that an operation took away */
	struct kvmas_kvm_stats first; /* after the first flip */
	_Atomic unsigned done;
	_Atomic bool failed;
	char wrong[120];
};

static struct flips *flips_of(struct guest *g)
{
	return g->data;
}

static void note_operation(struct guest *g, enum kvmas_slot_op_kind kind,
			   const struct kvmas_slot *slot, int result)
{
	uint64_t first = slot->gpa / PAGE, end = first + slot->size / PAGE;

	(void)result;
	if (kind != KVMAS_SLOT_DELETE && kind != KVMAS_SLOT_MOVE)
		return;
	if (first < WINDOW || end > WINDOW + WINDOW_PAGES)
		flips_of(g)->outside += slot->size;
	/* For a vCPU that is not held now this is long enough to notice: see the control. */
	nanosleep(&(const struct timespec){.tv_nsec = 300000}, NULL);
}

/* The first one may tear the RAM's slot, once and for all. */
static void end_first_flip(struct flips *t)
{
	t->first = guest_stats(t->g);
	t->outside = 0;
}

static void flip_once(struct flips *t)
{
	unsigned done = atomic_load(&t->done);
	uint64_t stops = guest_stats(t->g).vcpu_stops;
	int r;

	t->on = !t->on;
	r = t->flip(t->region, t->on);
	stops = guest_stats(t->g).vcpu_stops - stops;
	if (r || (done > 0 && stops != t->stops[t->on])) {
		snprintf(t->wrong, sizeof(t->wrong), "flip %u, %s: result %d, %u stops", done,
			 t->on ? "on" : "off", r, (unsigned)stops);
		atomic_store(&t->failed, true);
	}
	if (done == 0)
		end_first_flip(t);
	atomic_store(&t->done, done + 1);
}

/* A vCPU that has never run need not be stopped: so not before both do. */
static void flip_at_turn(struct vcpu *vcpu)
{
	struct flips *t = flips_of(vcpu->guest);

	if (guest_rounds(t->g, ONLOOKER, 0) > 0 && atomic_load(&t->done) <= t->count &&
	    !atomic_load(&t->failed))
		flip_once(t);
}

static void wait_for_flips(struct flips *t)
{
	const struct timespec moment = {.tv_nsec = 1000000};

	while (atomic_load(&t->done) <= t->count && !atomic_load(&t->failed) && !guest_wrong(t->g))
		nanosleep(&moment, NULL);
}

/* ---- what is flipped ---- */

static int hide(struct kvmas_region *region, bool on)
{
	return kvmas_region_set_enabled(region, on);
}

static int protect(struct kvmas_region *region, bool on)
{
	return kvmas_region_set_readonly(region, on);
}

/* ---- who looks ---- */

static const uint32_t window_pages[] = {WINDOW, WINDOW + 7, WINDOW + WINDOW_PAGES - 1};
static const uint32_t other_pages[] = {FREE_PAGE, WINDOW - 1, WINDOW + WINDOW_PAGES, NPAGES - 1};

static struct code_entry code_in(struct guest *g, uint32_t page, unsigned char *other)
{
	uint32_t offset = 0x800;
	struct code_entry entry = guest_word(g, page, offset, CODE_CALL);

	guest_write_code(g->bytes + (size_t)page * PAGE + offset, entry.a);
	if (other) {
		entry.b = ~entry.a;
		guest_write_code(other + offset, entry.b);
	}
	return entry;
}

/* Read and run what is there before and after: old bytes or, if there is a ROM, its bytes. */
static void look_at_window(struct guest *g, struct kvmas_ram *rom)
{
	for (unsigned i = 0; i < LENGTH(window_pages); i++) {
		uint32_t page = window_pages[i];
		struct code_entry word = guest_word(g, page, 4 * i, CODE_READ);
		unsigned char *other = NULL;

		if (rom) {
			other = kvmas_ram_get_hva(rom);
			other += (size_t)(page - WINDOW) * PAGE;
			word.b = ~word.a;
			memcpy(other + (size_t)4 * i, &word.b, sizeof(word.b));
		}
		guest_enter(g, ONLOOKER, 0, word);
		guest_enter(g, ONLOOKER, 1, word);
		guest_enter(g, ONLOOKER, 0, code_in(g, page, other));
	}
}

/* Words that are written in and out of SMM, and code; and one word of the committer's, which then
 * comes to its next turn soon. */
static void look_at_others(struct guest *g)
{
	for (unsigned i = 0; i < LENGTH(other_pages); i++) {
		uint32_t page = other_pages[i];

		guest_enter(g, ONLOOKER, 0, guest_word(g, page, 0, CODE_WRITE));
		guest_enter(g, ONLOOKER, 1, guest_word(g, page, 4, CODE_WRITE));
		guest_enter(g, ONLOOKER, 0, code_in(g, page, NULL));
	}
	guest_enter(g, COMMITTER, 0, guest_word(g, WINDOW - 1, 8, CODE_WRITE));
}

static void make_flips(struct flips *t, void **state, unsigned stops_off, unsigned stops_on)
{
	*t = (struct flips){
		.g = guest_new(state, (struct guest_config){.npages = NPAGES, .data = t}),
		.stops = {stops_off, stops_on},
		.count = FLIPS};
	t->g->trace = note_operation;
	t->g->vcpus[COMMITTER].turn = flip_at_turn;
	t->g->vcpus[ONLOOKER].smis = true;
	look_at_others(t->g);
}

static void make_flips_happen(struct flips *t)
{
	const uint32_t turn_every[MAX_VCPUS] = {[COMMITTER] = 1, [ONLOOKER] = 50};

	guest_start(t->g, turn_every);
	wait_for_flips(t);
	guest_end_well(t->g);
	if (t->wrong[0])
		fail_msg("%s", t->wrong);
}

static void run_flips(struct flips *t)
{
	struct vcpu *vcpus = t->g->vcpus;
	struct kvmas_kvm_stats stats;

	make_flips_happen(t);
	stats = guest_stats(t->g);
	assert_int_equal(stats.bytes_torn_live, t->first.bytes_torn_live);
	assert_int_equal(t->outside, 0);
	assert_int_equal(stats.vcpu_stops - t->first.vcpu_stops,
			 FLIPS / 2 * (t->stops[0] + t->stops[1]));
	/* The committing vCPU is never asked to leave, the other whenever it is inside. */
	assert_int_equal(vcpus[COMMITTER].gate_ends, 0);
	if (t->stops[0] + t->stops[1])
		assert_true(vcpus[ONLOOKER].gate_ends > 0);
	assert_true(guest_rounds(t->g, ONLOOKER, 0) > 0);
	assert_true(t->g->nspaces < 2 || guest_rounds(t->g, ONLOOKER, 1) > 0);
}

static void log_everything(struct flips *t, struct kvmas_client **ret)
{
	must(kvmas_client_new(t->g->f->kvmas, "migration", ret));
	must(kvmas_client_log_start(*ret, NULL, NULL));
}

/* ---- the tests ---- */

static void make_smram(struct flips *t)
{
	struct guest *g = t->g;

	t->region = guest_put_hole(g, 0, WINDOW, WINDOW_PAGES);
	t->flip = hide;
	guest_expect_exits(g, WINDOW, WINDOW_PAGES, false);
	if (g->nspaces < 2)
		return;
	/* In SMM it is there always, and no exit is expected. */
	guest_put_alias(g, 1, WINDOW, WINDOW, WINDOW_PAGES);
	g->nwindows--;
	for (unsigned i = 0; i < LENGTH(window_pages); i++)
		guest_enter(g, ONLOOKER, 1, guest_word(g, window_pages[i], 0, CODE_WRITE));
}

static void smram_opens_and_closes_without_a_stop(void **state)
{
	struct flips t;

	make_flips(&t, state, 0, 0);
	make_smram(&t);
	run_flips(&t);
	/* The last flip has hidden it. */
	assert_true(t.on);
	for (unsigned i = 0; i < t.g->nspaces; i++)
		assert_int_equal(probe_page(t.g, i, WINDOW), i == 1);
}

static void ram_goes_and_comes_in_all_spaces_without_a_stop(void **state)
{
	struct flips t;
	struct code_entry word;

	make_flips(&t, state, 0, 0);
	t.region = guest_put_hole(t.g, 0, WINDOW, WINDOW_PAGES);
	t.flip = hide;
	guest_expect_exits(t.g, WINDOW, WINDOW_PAGES, false);
	word = guest_word(t.g, WINDOW, 0, CODE_READ);
	word.b = ONES;
	guest_enter(t.g, ONLOOKER, 0, word);
	guest_enter(t.g, ONLOOKER, 1, word);
	run_flips(&t);
	assert_true(t.g->vcpus[ONLOOKER].expected_exits > 0);
}

static void ram_is_write_protected_with_one_stop_each(void **state)
{
	struct flips t;

	make_flips(&t, state, 1, 1);
	t.region = guest_put_alias(t.g, 0, WINDOW, WINDOW, WINDOW_PAGES);
	t.flip = protect;
	look_at_window(t.g, NULL);
	run_flips(&t);
}

static struct kvmas_region *put_rom(struct guest *g, struct kvmas_ram *block)
{
	struct kvmas_region *rom = make_region(
		g->f, (struct kvmas_region_config){.kind = KVMAS_REGION_ROM,
						   .name = "rom",
						   .size = (uint64_t)WINDOW_PAGES * PAGE,
						   .ram = block});

	must(kvmas_region_set_enabled(rom, false));
	return guest_put(g, 0, rom, WINDOW);
}

static void rom_gives_way_to_ram_with_one_stop_each(void **state)
{
	struct kvmas_ram *block;
	struct flips t;

	make_flips(&t, state, 1, 1);
	block = make_block(t.g->f, "rom", WINDOW_PAGES);
	t.region = put_rom(t.g, block);
	t.flip = hide;
	look_at_window(t.g, block);
	kvmas_ram_unref(block);
	run_flips(&t);
}

/* What hides it deletes its slot; what shows it makes one, which needs nobody's rest. */
static void logged_ram_is_hidden_with_one_stop_and_comes_without(void **state)
{
	struct kvmas_client *client;
	struct flips t;

	make_flips(&t, state, 0, 1);
	log_everything(&t, &client);
	make_smram(&t);
	run_flips(&t);
	kvmas_client_unref(client);
}

static void logged_ram_is_write_protected_with_one_stop_each(void **state)
{
	struct kvmas_client *client;
	struct flips t;

	make_flips(&t, state, 1, 1);
	log_everything(&t, &client);
	t.region = guest_put_alias(t.g, 0, WINDOW, WINDOW, WINDOW_PAGES);
	t.flip = protect;
	look_at_window(t.g, NULL);
	run_flips(&t);
	kvmas_client_unref(client);
}

/* The control: slots that are always merged are torn and made anew beyond the window. */
static void eager_merging_tears_what_lies_beside_the_window(void **state)
{
	struct flips t;

	make_flips(&t, state, 1, 1);
	t.count = 10;
	must(kvmas_kvm_set_merge(t.g->kvm, 0, KVMAS_MERGE_EAGER));
	make_smram(&t);
	make_flips_happen(&t);
	assert_true(t.outside >= (uint64_t)t.count * PAGE);
	assert_true(guest_stats(t.g).bytes_torn_live > t.first.bytes_torn_live);
}

/* The control: were nobody held, there would be exits. */
static void vcpu_that_bypasses_the_gate_exits_in_the_window(void **state)
{
	const uint32_t turn_every[MAX_VCPUS] = {1, 1000000};
	struct vcpu *onlooker;
	struct flips t;

	/* Nobody is known to be inside. */
	make_flips(&t, state, 0, 0);
	onlooker = &t.g->vcpus[ONLOOKER];
	onlooker->ungated = true;
	onlooker->smis = false;
	t.region = guest_put_alias(t.g, 0, WINDOW, WINDOW, WINDOW_PAGES);
	t.flip = protect;
	guest_enter(t.g, ONLOOKER, 0, guest_word(t.g, WINDOW, 0, CODE_READ));
	/* The first flip takes away all RAM, the programs' too, which nobody survives past the
	 * gate. */
	flip_once(&t);
	guest_start(t.g, turn_every);
	/* Ends at the first exit that guest_wrong tells. */
	wait_for_flips(&t);
	guest_stop(t.g);
	assert_int_equal(t.wrong[0], 0);
	assert_true(onlooker->stray_exits > 0);
	assert_false(onlooker->in_trouble);
	assert_int_equal(onlooker->gate_ends, 0);
	assert_slots_in_step(t.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(smram_opens_and_closes_without_a_stop),
		GUEST_TEST(ram_goes_and_comes_in_all_spaces_without_a_stop),
		GUEST_TEST(ram_is_write_protected_with_one_stop_each),
		GUEST_TEST(rom_gives_way_to_ram_with_one_stop_each),
		GUEST_TEST(logged_ram_is_hidden_with_one_stop_and_comes_without),
		GUEST_TEST(logged_ram_is_write_protected_with_one_stop_each),
		GUEST_TEST(eager_merging_tears_what_lies_beside_the_window),
		GUEST_TEST(vcpu_that_bypasses_the_gate_exits_in_the_window),
	};

	return guest_main("live-flip", tests, LENGTH(tests), 1);
}

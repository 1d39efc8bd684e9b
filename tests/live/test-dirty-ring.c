/* SPDX-License-Identifier: MIT */
/*
 * Dirty rings: whom an entry is credited to, a ring that is full, one whose vCPU goes, and entries
 * that somebody else has written into the memory that KVM shares.
 *
 * An entry names a slot by its id and a page in it, no more. What is promised of forged ones: one
 * that names no page of a logged slot is dropped and counted, one that names another page is as
 * good as a write of that page, and all others stay what they are, as long as the flags are KVM's
 * and the library's. Who forges flags loses what is his; but every call returns.
 */
#include "probe.h"
#include "shadow.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

enum {
	NPAGES = 0x800,
	WINDOW = 0x900, /* where block a is, or b */
	WINDOW_PAGES = 8,
	WORDS = 5,
	WRITES = 8,    /* in a round: see rig.c */
	PATIENCE = 60, /* seconds, for what should come sooner */
};

static const uint32_t turn_every[MAX_VCPUS] = {1, 1};

static struct guest *ring_guest(void **state, bool untied)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES,
								 .log = KVMAS_KVM_LOG_RING,
								 .untied = untied});

	guest_expect_exits(g, 0, 0x1000, false);
	return g;
}

/* One round of vCPU 0's program. */
static void run_once(struct vcpu *vcpu)
{
	struct code_control *control = guest_control(vcpu->guest, vcpu->index, 0);

	control->turn_every = 1;
	control->left = 1;
	if (vcpu->tie)
		must(kvmas_vcpu_run(vcpu->tie));
	else
		must(ioctl(vcpu->fd, KVM_RUN, 0));
	assert_int_equal(vcpu->run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(vcpu->run->io.port, CODE_TURN_PORT);
}

static bool has(const uint64_t *bits, uint32_t page)
{
	return bits[page / 64] >> page % 64 & 1;
}

/* ---- ids that are used again ---- */

struct window {
	struct kvmas_ram *ram;
	struct kvmas_region *region;
};

static struct window make_window(struct guest *g, const char *name)
{
	struct window window;

	window.ram = make_block(g->f, name, WINDOW_PAGES);
	window.region = make_region(
		g->f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
						   .name = name,
						   .size = (uint64_t)WINDOW_PAGES * PAGE,
						   .ram = window.ram});
	kvmas_ram_unref(window.ram);
	must(kvmas_region_set_enabled(window.region, false));
	guest_put(g, 0, window.region, WINDOW);
	return window;
}

struct find {
	const struct kvmas_ram *ram;
	int id;
};

static int find_id(void *data, const struct kvmas_slot *slot)
{
	struct find *find = data;

	if (slot->as_id == 0 && slot->ram == find->ram)
		find->id = (int)slot->id;
	return 0;
}

static int id_of(const struct guest *g, const struct window *window)
{
	struct find find = {.ram = window->ram, .id = -1};

	must(kvmas_kvm_for_each_slot(g->kvm, find_id, &find));
	return find.id;
}

static uint64_t take(struct kvmas_client *client, const struct window *window)
{
	uint64_t bits = 0;

	assert_true(kvmas_client_take(client, window->ram, 0, WINDOW_PAGES, &bits) >= 0);
	return bits;
}

/* The guest writes page 3 of a; then b has a's place and its slot's id. *late*: the vCPU's ring is
 * not known until then. The bits of a and b. */
static void use_id_again(void **state, bool late, uint64_t bits[2])
{
	struct guest *g = ring_guest(state, true);
	struct window a = make_window(g, "a"), b = make_window(g, "b");
	struct vcpu *vcpu = &g->vcpus[0];
	struct kvmas_client *client;
	int id;

	must(kvmas_client_new(g->f->kvmas, "migration", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	must(kvmas_region_set_enabled(a.region, true));
	guest_enter(g, 0, 0,
		    (struct code_entry){.address = (WINDOW + 3) * PAGE, .kind = CODE_WRITE});
	if (!late)
		vcpu_tie(vcpu);
	run_once(vcpu);
	id = id_of(g, &a);
	must(kvmas_region_set_enabled(a.region, false));
	must(kvmas_region_set_enabled(b.region, true));
	assert_true(id >= 0 && id_of(g, &b) == id);
	if (late)
		vcpu_tie(vcpu);
	must(guest_sync(g, 0, 0, KVMAS_SIZE_MAX));
	bits[0] = take(client, &a);
	bits[1] = take(client, &b);
	kvmas_client_unref(client);
}

static void entry_is_credited_to_the_memory_that_was_written(void **state)
{
	uint64_t bits[2];

	use_id_again(state, false, bits);
	assert_int_equal(bits[0], 1 << 3);
	assert_int_equal(bits[1], 0);
}

/* The control. */
static void entry_that_outlives_its_slot_is_credited_to_the_next_of_its_id(void **state)
{
	uint64_t bits[2];

	use_id_again(state, true, bits);
	assert_int_equal(bits[0], 0);
	assert_int_equal(bits[1], 1 << 3);
}

/* ---- rings that are full, and that go ---- */

static void add_targets(struct guest *g)
{
	for (uint32_t page = FREE_PAGE; page < NPAGES; page++)
		guest_add_target(g, page);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		guest_scatter(g, v, 0, WRITES);
}

/* Of each vCPU; false if they have stopped to. */
static bool wait_for_writes(struct guest *g, uint32_t writes)
{
	time_t end = time(NULL) + PATIENCE;
	uint32_t before[MAX_VCPUS];
	bool has_written = true;

	for (unsigned v = 0; v < MAX_VCPUS; v++)
		before[v] = guest_writes(g, v, 0);
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		while (!guest_wrong(g) && guest_writes(g, v, 0) - before[v] < writes &&
		       time(NULL) < end)
			nanosleep(&(const struct timespec){.tv_nsec = 1000000}, NULL);
		has_written = has_written && guest_writes(g, v, 0) - before[v] >= writes;
	}
	return has_written;
}

static void full_ring_is_emptied_and_no_page_is_lost(void **state)
{
	struct guest *g = ring_guest(state, false);
	struct shadow shadow;
	bool has_written;

	add_targets(g);
	shadow_init(&shadow, g, "migration", 1);
	guest_start(g, turn_every);
	/* Of all that are written nobody asks. */
	has_written = wait_for_writes(g, 4000);
	guest_end_well(g);
	assert_true(has_written);
	assert_true(guest_stats(g).ring_full > 0);
	assert_int_equal(shadow_count_lost(&shadow), 0);
	assert_int_equal(guest_stats(g).ring_strays, 0);
	assert_true(shadow.copied > NPAGES);
	shadow_fini(&shadow);
}

static void ring_of_a_vcpu_that_goes_is_read(void **state)
{
	struct guest *g = ring_guest(state, false);
	uint64_t bits[NPAGES / 64];
	struct kvmas_client *client;

	must(kvmas_client_new(g->f->kvmas, "migration", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	guest_enter(g, 0, 0, guest_word(g, FREE_PAGE, 0, CODE_WRITE));
	run_once(&g->vcpus[0]);
	kvmas_vcpu_del(g->vcpus[0].tie);
	g->vcpus[0].tie = NULL;
	assert_true(kvmas_client_take(client, g->ram, 0, NPAGES, bits) > 0);
	assert_true(has(bits, FREE_PAGE));
	kvmas_client_unref(client);
}

/* Since Linux 6.16 a signal ends KVM_RESET_DIRTY_RINGS early, with how far it has come: maybe with
 * nothing done. So answers the hook, a few times. */
struct cut_short {
	int result;
	unsigned times;
};

static bool cut_reset_short(struct guest *g, unsigned long request, void *arg, int *result)
{
	struct cut_short *cut = g->data;

	(void)arg;
	if (request != KVM_RESET_DIRTY_RINGS || cut->times == 0)
		return false;
	cut->times--;
	*result = cut->result;
	return true;
}

static void reset_that_is_cut_short_is_asked_for_again(void **state)
{
	static const struct cut_short cuts[] = {{0, 1}, {0, 5}, {-EINTR, 1}, {-EINTR, 5}};
	struct guest *g = ring_guest(state, false);
	uint64_t bits[NPAGES / 64];
	struct kvmas_client *client;

	must(kvmas_client_new(g->f->kvmas, "migration", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	guest_enter(g, 0, 0, guest_word(g, FREE_PAGE, 0, CODE_WRITE));
	g->meddle = cut_reset_short;
	for (unsigned i = 0; i < LENGTH(cuts); i++) {
		struct cut_short cut = cuts[i];

		g->data = &cut;
		run_once(&g->vcpus[0]);
		must(guest_sync(g, 0, 0, KVMAS_SIZE_MAX));
		assert_true(kvmas_client_take(client, g->ram, 0, NPAGES, bits) > 0);
		assert_true(has(bits, FREE_PAGE));
		assert_int_equal(cut.times, 0);
	}
	g->meddle = NULL;
	kvmas_client_unref(client);
}

/* ---- forged entries ---- */

static struct kvm_dirty_gfn *entries_of(struct vcpu *vcpu)
{
	return vcpu->ring;
}

static struct kvm_dirty_gfn *find_entry(struct vcpu *vcpu, uint32_t page)
{
	struct kvm_dirty_gfn *entry = entries_of(vcpu);

	for (size_t i = 0; i < RING_SIZE / sizeof(*entry); i++) {
		if (entry[i].flags == KVM_DIRTY_GFN_F_DIRTY && entry[i].offset == page)
			return &entry[i];
	}
	return NULL;
}

/* What KVM has written of a page is made nonsense. */
static void forge(struct vcpu *vcpu, uint32_t page, uint32_t slot, uint64_t offset)
{
	struct kvm_dirty_gfn *entry;
	unsigned count = 0;

	while ((entry = find_entry(vcpu, page))) {
		entry->slot = slot;
		entry->offset = offset;
		count++;
	}
	assert_true(count > 0);
}

static void entry_that_names_no_page_is_dropped_and_all_others_count(void **state)
{
	static const struct {
		uint32_t slot;
		uint64_t offset;
	} nonsense[] = {{7u << 16, 0},    {UINT32_MAX, 0},       {400, 0},
			{0, NPAGES},      {0, UINT64_MAX},       {0, UINT64_C(1) << 63},
			{0xffff, NPAGES}, {0, UINT64_C(1) << 52}};
	struct guest *g = ring_guest(state, false);
	uint64_t bits[NPAGES / 64], strays;
	struct kvmas_client *client;

	must(kvmas_client_new(g->f->kvmas, "migration", &client));
	must(kvmas_client_log_start(client, NULL, NULL));
	for (uint32_t i = 0; i < WORDS; i++)
		guest_enter(g, 0, 0, guest_word(g, FREE_PAGE + i, 0, CODE_WRITE));
	for (unsigned i = 0; i < LENGTH(nonsense); i++) {
		strays = guest_stats(g).ring_strays;
		run_once(&g->vcpus[0]);
		forge(&g->vcpus[0], FREE_PAGE + i % WORDS, nonsense[i].slot, nonsense[i].offset);
		must(guest_sync(g, 0, 0, KVMAS_SIZE_MAX));
		assert_true(guest_stats(g).ring_strays > strays);
		assert_true(kvmas_client_take(client, g->ram, 0, NPAGES, bits) > 0);
		for (uint32_t k = 0; k < WORDS; k++)
			assert_int_equal(has(bits, FREE_PAGE + k), k != i % WORDS);
		/* Its page is not watched any more. Off and on again, it is. */
		must(kvmas_client_log_stop(client, NULL, NULL));
		must(kvmas_client_log_start(client, NULL, NULL));
	}
	kvmas_client_unref(client);
}

struct forger {
	struct guest *g;
	bool flags; /* too */
	unsigned seed;
	pthread_t thread;
	_Atomic bool stop;
	uint64_t forged;
};

static void forge_any(struct forger *forger)
{
	static const uint32_t slots[] = {0, 1, 7, 400, 0xffff, 1 << 16, 7 << 16, UINT32_MAX};
	struct kvm_dirty_gfn *entry = entries_of(&forger->g->vcpus[rand_r(&forger->seed) % 2]);
	unsigned random = (unsigned)rand_r(&forger->seed);

	entry += (unsigned)rand_r(&forger->seed) % (RING_SIZE / sizeof(*entry));
	__atomic_store_n(&entry->slot, slots[random % LENGTH(slots)], __ATOMIC_RELAXED);
	__atomic_store_n(&entry->offset, (uint64_t)random << random % 40, __ATOMIC_RELAXED);
	if (forger->flags)
		__atomic_store_n(&entry->flags, random % 8 == 7 ? UINT32_MAX : random % 4,
				 __ATOMIC_RELAXED);
	forger->forged++;
}

static void *forger_main(void *arg)
{
	struct forger *forger = arg;

	while (!atomic_load(&forger->stop)) {
		for (unsigned i = 0; i < 20; i++)
			forge_any(forger);
		nanosleep(&(const struct timespec){.tv_nsec = 50000}, NULL);
	}
	return NULL;
}

/* A client harvests all the while. */
static void run_with_forger(struct forger *forger, struct shadow *shadow, uint32_t writes)
{
	bool has_written;

	must(pthread_create(&forger->thread, NULL, forger_main, forger));
	shadow_start(shadow, 500000);
	guest_start(forger->g, turn_every);
	has_written = wait_for_writes(forger->g, writes);
	atomic_store(&forger->stop, true);
	pthread_join(forger->thread, NULL);
	guest_stop(forger->g);
	shadow_stop(shadow);
	assert_null(guest_wrong(forger->g));
	assert_true(has_written);
	assert_true(forger->forged > 0);
	assert_true(shadow->harvests > 0);
}

static void rings_go_on_after_slots_and_offsets_were_forged(void **state)
{
	struct guest *g = ring_guest(state, false);
	struct forger forger = {.g = g, .seed = 1};
	struct shadow shadow;
	bool has_written;

	add_targets(g);
	shadow_init(&shadow, g, "migration", 1);
	run_with_forger(&forger, &shadow, 10000);
	assert_int_equal(atomic_load(&shadow.result), 0);
	assert_true(guest_stats(g).ring_strays > 0);
	/* What was lost is the forger's; from a new beginning on nothing is. */
	must(guest_sync_all(g));
	must(shadow_log(&shadow, false));
	must(shadow_log(&shadow, true));
	shadow_copy_all(&shadow);
	guest_start(g, turn_every);
	has_written = wait_for_writes(g, 4000);
	guest_end_well(g);
	assert_true(has_written);
	assert_int_equal(shadow_count_lost(&shadow), 0);
	shadow_fini(&shadow);
}

/* KVM and the library may disagree on where they are in the ring for good. */
static void every_call_returns_while_flags_are_forged(void **state)
{
	struct guest *g = ring_guest(state, false);
	struct forger forger = {.g = g, .flags = true, .seed = 1};
	struct shadow shadow;

	add_targets(g);
	shadow_init(&shadow, g, "migration", 1);
	must(pthread_create(&forger.thread, NULL, forger_main, &forger));
	shadow_start(&shadow, 500000);
	guest_start(g, turn_every);
	nanosleep(&(const struct timespec){.tv_sec = 1}, NULL);
	atomic_store(&forger.stop, true);
	pthread_join(forger.thread, NULL);
	shadow_stop(&shadow);
	guest_stop(g);
	assert_true(forger.forged > 0);
	assert_true(shadow.harvests > 0);
	assert_slots_in_step(g);
	shadow_fini(&shadow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(entry_is_credited_to_the_memory_that_was_written),
		GUEST_TEST(entry_that_outlives_its_slot_is_credited_to_the_next_of_its_id),
		GUEST_TEST(full_ring_is_emptied_and_no_page_is_lost),
		GUEST_TEST(ring_of_a_vcpu_that_goes_is_read),
		GUEST_TEST(reset_that_is_cut_short_is_asked_for_again),
		GUEST_TEST(entry_that_names_no_page_is_dropped_and_all_others_count),
		GUEST_TEST(rings_go_on_after_slots_and_offsets_were_forged),
		GUEST_TEST(every_call_returns_while_flags_are_forged),
	};

	return guest_main("live-dirty-ring", tests, LENGTH(tests), 1);
}

/* SPDX-License-Identifier: MIT */
/*
 * Which space a write is seen through: KVM notes it in the slot of the space that the vCPU is in,
 * or, where KVM itself writes, in that of a space that depends on what it writes; the same memory's
 * other slots know nothing of it (mark_page_dirty_in_slot in virt/kvm/kvm_main.c). The block's
 * bitmap is the union. So for each way of logging.
 *
 * vCPU 0 works through its tables, in SMM once for each turn. Pages are asked for that only one
 * space ever touches: a page that is merely read may be told as dirty.
 */
#include "guest.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

enum {
	NPAGES = 0x200,
	/* Pages of RAM, and where windows show them. */
	BY_NORMAL = 0x100, /* written through space 0 only */
	BY_SMM = 0x110,    /* through space 1 only */
	BY_BOTH = 0x120,
	BY_NONE = 0x130,
	CLOCK = 0x140,
	WINDOW = 0x300,       /* in space 0: of page 0x100 at 0x300, and so on */
	OTHER_WINDOW = 0x400, /* in space 1 */
	HOLE = 0x180,         /* in space 1 */
	HANDLER = 8,          /* pages from SMBASE */
	SAVE_AREA = 15,
	MSR_KVMCLOCK = 0x4b564d01,
};

static const struct {
	enum kvmas_kvm_log log;
	const char *name;
} ways[] = {
	{KVMAS_KVM_LOG_AUTO, "reading clears"},
	{KVMAS_KVM_LOG_MANUAL, "manual protection"},
	{KVMAS_KVM_LOG_MANUAL_SET, "all dirty at first"},
	{KVMAS_KVM_LOG_RING, "rings"},
};

struct scene {
	struct guest *g;
	struct kvmas_client *clients[2];
	enum kvmas_kvm_log log;
};

struct bits {
	uint64_t words[NPAGES / 64];
};

static bool has(const struct bits *bits, uint32_t page)
{
	return bits->words[page / 64] >> page % 64 & 1;
}

static struct bits take(const struct scene *scene, unsigned client)
{
	struct bits bits;

	assert_true(kvmas_client_take(scene->clients[client], scene->g->ram, 0, NPAGES,
				      bits.words) >= 0);
	return bits;
}

/* What was dirty so far is forgotten, and each page is watched. */
static void forget(const struct scene *scene)
{
	must(guest_sync_all(scene->g));
	for (unsigned i = 0; i < LENGTH(scene->clients); i++)
		take(scene, i);
}

static void scene_init(struct scene *scene, void **state, enum kvmas_kvm_log log)
{
	static const char *const names[] = {"migration", "display"};

	*scene = (struct scene){
		.g = guest_new(state, (struct guest_config){.npages = NPAGES, .log = log}),
		.log = log};
	for (unsigned i = 0; i < LENGTH(scene->clients); i++)
		must(kvmas_client_new(scene->g->f->kvmas, names[i], &scene->clients[i]));
	scene->g->vcpus[0].smis = true;
	for (unsigned i = 0; i < LENGTH(ways); i++) {
		if (ways[i].log == log)
			print_message("  %s\n", ways[i].name);
	}
}

static void scene_fini(struct scene *scene, void **state)
{
	for (unsigned i = 0; i < LENGTH(scene->clients); i++)
		kvmas_client_unref(scene->clients[i]);
	guest_teardown(state);
	guest_setup(state);
}

/* A word of RAM, written through a window. */
static void write_through(struct guest *g, unsigned as_id, uint32_t page)
{
	uint32_t window = (as_id ? OTHER_WINDOW : WINDOW) - BY_NORMAL;
	struct code_entry entry = guest_word(g, page, 8 * as_id, CODE_WRITE);

	entry.address += window * PAGE;
	guest_enter(g, 0, as_id, entry);
}

static void wait_for_rounds(struct guest *g, unsigned as_id)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	uint32_t before = guest_rounds(g, 0, as_id);

	while (!guest_wrong(g) && guest_rounds(g, 0, as_id) - before < 3)
		nanosleep(&moment, NULL);
}

/* Let both programs do a few rounds. */
static void run(const struct scene *scene)
{
	const uint32_t turn_every[MAX_VCPUS] = {1, 1};
	struct guest *g = scene->g;

	guest_start(g, turn_every);
	for (unsigned as_id = 0; as_id < g->nspaces; as_id++)
		wait_for_rounds(g, as_id);
	guest_stop(g);
	assert_null(guest_wrong(g));
}

/* ---- a union ---- */

static void put_windows(struct guest *g)
{
	guest_put_alias(g, 0, WINDOW, BY_NORMAL, 0x40);
	guest_put_alias(g, 1, OTHER_WINDOW, BY_NORMAL, 0x40);
	write_through(g, 0, BY_NORMAL);
	write_through(g, 1, BY_SMM);
	write_through(g, 0, BY_BOTH);
	write_through(g, 1, BY_BOTH + 1);
	/* The same page through both: a word each. */
	write_through(g, 1, BY_BOTH);
}

static void assert_written(const struct bits *bits, bool by_normal, bool by_smm)
{
	assert_int_equal(has(bits, BY_NORMAL), by_normal);
	assert_int_equal(has(bits, BY_SMM), by_smm);
	assert_int_equal(has(bits, BY_BOTH), by_normal || by_smm);
	assert_int_equal(has(bits, BY_BOTH + 1), by_smm);
	assert_false(has(bits, BY_NONE));
}

static void page_written_through_any_space_is_one_bit_of_each_client(void **state)
{
	for (unsigned i = 0; i < LENGTH(ways); i++) {
		struct scene scene;
		struct bits bits;

		scene_init(&scene, state, ways[i].log);
		put_windows(scene.g);
		for (unsigned c = 0; c < 2; c++)
			must(kvmas_client_log_start(scene.clients[c], NULL, NULL));
		forget(&scene);
		run(&scene);
		must(guest_sync_all(scene.g));
		bits = take(&scene, 0);
		assert_written(&bits, true, true);
		/* The other one's are still there, this one's are not. */
		bits = take(&scene, 0);
		assert_written(&bits, false, false);
		bits = take(&scene, 1);
		assert_written(&bits, true, true);
		/* And all is watched anew. */
		run(&scene);
		must(guest_sync_all(scene.g));
		bits = take(&scene, 1);
		assert_written(&bits, true, true);
		scene_fini(&scene, state);
	}
}

static void space_is_synced_by_itself_unless_it_has_rings(void **state)
{
	for (unsigned i = 0; i < LENGTH(ways); i++) {
		bool rings = ways[i].log == KVMAS_KVM_LOG_RING;
		struct scene scene;
		struct bits bits;

		scene_init(&scene, state, ways[i].log);
		put_windows(scene.g);
		must(kvmas_client_log_start(scene.clients[0], NULL, NULL));
		for (unsigned as_id = 0; as_id < 2; as_id++) {
			forget(&scene);
			run(&scene);
			must(guest_sync(scene.g, as_id, 0, KVMAS_SIZE_MAX));
			bits = take(&scene, 0);
			assert_written(&bits, rings || as_id == 0, rings || as_id == 1);
			must(guest_sync(scene.g, !as_id, 0, KVMAS_SIZE_MAX));
			bits = take(&scene, 0);
			assert_written(&bits, !rings && as_id == 1, !rings && as_id == 0);
		}
		scene_fini(&scene, state);
	}
}

/* ---- SMM ---- */

/* The save area is written by KVM when the vCPU enters SMM, the control page of the handler by the
 * handler. */
static void assert_smm_seen(const struct bits *bits, bool seen)
{
	assert_int_equal(has(bits, guest_smbase_page(0) + SAVE_AREA), seen);
	assert_int_equal(has(bits, guest_control_page(0, 1)), seen);
	assert_int_equal(has(bits, BY_SMM), seen);
	assert_int_equal(has(bits, BY_NORMAL), !seen);
}

static void save_area_and_handler_are_seen_through_space_1_alone(void **state)
{
	for (unsigned i = 0; i < LENGTH(ways); i++) {
		struct scene scene;
		struct bits bits;

		scene_init(&scene, state, ways[i].log);
		guest_enter(scene.g, 0, 0, guest_word(scene.g, BY_NORMAL, 0, CODE_WRITE));
		guest_enter(scene.g, 0, 1, guest_word(scene.g, BY_SMM, 0, CODE_WRITE));
		for (unsigned as_id = 0; as_id < 2; as_id++) {
			struct kvmas_space *space = scene.g->space[as_id];

			must(kvmas_client_log_start(scene.clients[0], NULL, space));
			run(&scene);
			forget(&scene);
			run(&scene);
			must(guest_sync_all(scene.g));
			bits = take(&scene, 0);
			assert_smm_seen(&bits, as_id == 1);
			must(kvmas_client_log_stop(scene.clients[0], NULL, space));
		}
		scene_fini(&scene, state);
	}
}

/* ---- kvmclock ---- */

/* Until the exit for the hole that the handler reads. */
static void run_to_the_hole(struct vcpu *vcpu)
{
	int r;

	do
		r = kvmas_vcpu_run(vcpu->tie);
	while (r == 1 || r == -EINTR || r == -EAGAIN);
	must(r);
	assert_int_equal(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(vcpu->run->mmio.phys_addr, (uint64_t)HOLE * PAGE);
	assert_int_equal(kvmas_vcpu_get_as_id(vcpu->tie), 1);
}

static void set_clock(const struct vcpu *vcpu, uint64_t value)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));

	assert_non_null(msrs);
	msrs->nmsrs = 1;
	msrs->entries[0].index = MSR_KVMCLOCK;
	msrs->entries[0].data = value;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_MSRS, msrs), 1);
	free(msrs);
}

/* The vCPU is in SMM when KVM is told where its clock is, and until that has been written. */
static void write_clock_in_smm(const struct scene *scene)
{
	struct vcpu *vcpu = &scene->g->vcpus[0];

	must(ioctl(vcpu->fd, KVM_SMI, 0));
	run_to_the_hole(vcpu);
	forget(scene);
	set_clock(vcpu, (uint64_t)CLOCK * PAGE | 1);
	assert_int_equal(kvmas_vcpu_handle_exit(vcpu->tie), 1);
	run_to_the_hole(vcpu);
}

static bool is_zero(const unsigned char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static void clock_written_in_smm_is_seen_through_space_0(void **state)
{
	for (unsigned i = 0; i < 2 * LENGTH(ways); i++) {
		struct scene scene;
		struct bits bits;

		scene_init(&scene, state, ways[i / 2].log);
		must(kvmas_region_set_enabled(guest_put_hole(scene.g, 1, HOLE, 1), true));
		for (unsigned reads = 0; reads < 2; reads++)
			guest_enter(scene.g, 0, 1,
				    (struct code_entry){.address = HOLE * PAGE,
							.kind = CODE_READ,
							.a = ONES,
							.b = ONES});
		must(kvmas_client_log_start(scene.clients[0], NULL, scene.g->space[i % 2]));
		write_clock_in_smm(&scene);
		assert_false(is_zero(scene.g->bytes + (size_t)CLOCK * PAGE));
		must(guest_sync_all(scene.g));
		bits = take(&scene, 0);
		assert_int_equal(has(&bits, CLOCK), i % 2 == 0);
		scene_fini(&scene, state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(page_written_through_any_space_is_one_bit_of_each_client),
		GUEST_TEST(space_is_synced_by_itself_unless_it_has_rings),
		GUEST_TEST(save_area_and_handler_are_seen_through_space_1_alone),
		GUEST_TEST(clock_written_in_smm_is_seen_through_space_0),
	};

	return guest_main("live-dirty-spaces", tests, LENGTH(tests), 2);
}

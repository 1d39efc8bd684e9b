/* SPDX-License-Identifier: MIT */
/*
 * A transaction that moves, hides and shows, adds and takes away event channels, together with
 * slots, of which KVM refuses every call in turn, be it about a slot or a channel. If the commit
 * fails, everything answers as before, else as it should afterwards: by real stores to every place.
 */
#include "recorder.h"

#include <stdio.h>
#include <unistd.h>

#define GPA UINT64_C(0x100000)
#define PORT 0x400

enum {
	NDEVICES = 6, /* of memory, and one of ports behind them */
	NPLACES = 9,
	EVENT_AT = 0, /* what devices have, and where */
	MATCH_AT = 0x40,
	ZONE_AT = 0x80,
	WAIT_AT = 0x90,
	MATCH = 0x71,
	BLOCK_PAGE = FREE_PAGE, /* what RAM shows */
};

/* Which calls KVM refuses. */
enum mode {
	ONE,      /* the k-th */
	CHANNELS, /* all about channels from the k-th on */
};

/* Its first member is what guest_teardown wants. */
struct scene {
	struct guest *g;
	struct steps steps;
	struct recorder *devices[NDEVICES + 1];
	int fds[NDEVICES + 1];
	struct kvmas_region *ports;
	struct kvmas_region *ram[3];
	/* Knobs of the hook. */
	enum mode mode;
	unsigned refuse; /* from now on; 0: none */
	unsigned calls;
	int errnum;
	unsigned refused;
};

static int scene_setup(void **state)
{
	*state = calloc(1, sizeof(struct scene));
	return *state ? 0 : -1;
}

static int scene_teardown(void **state)
{
	struct scene scene = *(struct scene *)*state;
	int err;

	for (unsigned i = 0; i <= NDEVICES; i++) {
		if (scene.devices[i])
			kvmas_region_unref(scene.devices[i]->region);
	}
	err = guest_teardown(state);
	for (unsigned i = 0; i <= NDEVICES; i++) {
		free(scene.devices[i]);
		close(scene.fds[i]);
	}
	return err;
}

#define SCENE_TEST(test) cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown)

static bool meddle(struct guest *g, unsigned long request, void *arg, int *result)
{
	struct scene *scene = g->data;
	bool slot = request == KVM_SET_USER_MEMORY_REGION;
	bool channel = request == KVM_IOEVENTFD || request == KVM_REGISTER_COALESCED_MMIO ||
		       request == KVM_UNREGISTER_COALESCED_MMIO;

	(void)arg;
	if (!slot && !channel)
		return false;
	scene->calls++;
	if (!scene->refuse || scene->calls < scene->refuse ||
	    (scene->mode == ONE && scene->calls > scene->refuse) ||
	    (scene->mode == CHANNELS && slot))
		return false;
	*result = scene->errnum;
	scene->refused++;
	return true;
}

static uint64_t at(unsigned place)
{
	return GPA + (uint64_t)place * PAGE;
}

static void put_channels(const struct scene *scene, unsigned device)
{
	struct kvmas_region *region = scene->devices[device]->region;

	put_event(region, EVENT_AT, 4, scene->fds[device]);
	put_match(region, MATCH_AT, 4, MATCH, scene->fds[device]);
	put_zone(region, ZONE_AT, 0x40);
}

static struct kvmas_region *put_ram(const struct scene *scene, unsigned i, unsigned place)
{
	struct kvmas_region *ram = make_alias(scene->g->f, "ram", scene->g->memory,
					      (uint64_t)(BLOCK_PAGE + i) * PAGE, PAGE);

	add(scene->g->root[0], ram, at(place), 3);
	return ram;
}

/*
 *   place   0  1  2  3  4  5  6  7  8       ports  0  1
 *   before  A     B  ram   r' D  E  F(event)       G
 *                    (C)
 *   after      A  ram   r' C  D+ E- F(must)           G
 *                 (B)
 */
static struct scene *scene_make(void **state)
{
	static const uint8_t places[NDEVICES] = {0, 2, 3, 6, 7, 8};
	struct scene *scene = *state;
	struct guest *g;

	guest_new(state, (struct guest_config){.npages = 0x80, .meddle = meddle, .data = scene});
	g = scene->g;
	steps_init(&scene->steps, g, false);
	scene->ports = make_container(g->f, "ports", 0x10000);
	must(kvmas_kvm_set_pio_space(g->kvm, make_space(g->f, "ports", scene->ports)));
	for (unsigned i = 0; i <= NDEVICES; i++) {
		scene->devices[i] =
			recorder_new(g, i < NDEVICES ? PAGE : 0x100, (struct kvmas_ops){0});
		scene->fds[i] = event_new();
		if (i != 3 && i != 5)
			put_channels(scene, i);
		if (i < NDEVICES)
			add(g->root[0], scene->devices[i]->region, at(places[i]), 2);
	}
	add(scene->ports, scene->devices[NDEVICES]->region, PORT, 1);
	scene->ram[0] = put_ram(scene, 0, 2);
	scene->ram[1] = put_ram(scene, 1, 3);
	scene->ram[2] = put_ram(scene, 2, 5);
	must(kvmas_region_set_enabled(scene->ram[0], false));
	return scene;
}

static const struct kvmas_ioeventfd_config must_event = {.struct_size = sizeof(must_event),
							 .offset = EVENT_AT,
							 .size = 4,
							 .flags = KVMAS_CHANNEL_MUST};

static void set_must(const struct scene *scene, bool on)
{
	struct kvmas_ioeventfd_config config = must_event;

	config.fd = scene->fds[5];
	must(on ? kvmas_region_add_ioeventfd(scene->devices[5]->region, &config)
		: kvmas_region_del_ioeventfd(scene->devices[5]->region, &config));
}

/* Change all that changes, forth or back; what the commit returns. */
static int change(struct scene *scene, bool forth)
{
	struct kvmas_region *added = scene->devices[3]->region, *taken = scene->devices[4]->region;

	must(kvmas_begin(scene->g->f->kvmas));
	must(kvmas_region_set_offset(scene->devices[0]->region, at(forth)));
	must(kvmas_region_set_enabled(scene->ram[0], forth));
	must(kvmas_region_set_enabled(scene->ram[1], !forth));
	must(kvmas_region_set_offset(scene->ram[2], at(forth ? 4 : 5)));
	must(kvmas_region_set_offset(scene->devices[2]->region, at(forth ? 5 : 3)));
	must(kvmas_region_set_offset(scene->devices[NDEVICES]->region, PORT + 0x100 * forth));
	if (forth) {
		put_channels(scene, 3);
		must(kvmas_region_del_coalesced(taken, ZONE_AT, 0x40));
	} else {
		take_event(added, EVENT_AT, 4);
		must(kvmas_region_del_ioeventfd(
			added, KVMAS_CONFIG(ioeventfd, .offset = MATCH_AT, .size = 4,
					    .flags = KVMAS_CHANNEL_DATAMATCH, .datamatch = MATCH)));
		must(kvmas_region_del_coalesced(added, ZONE_AT, 0x40));
		put_zone(taken, ZONE_AT, 0x40);
	}
	set_must(scene, forth);
	return kvmas_commit(scene->g->f->kvmas);
}

/* ---- who answers where ---- */

/* Whatever has answered a store, is told, and forgotten. */
static void tell_answer(struct scene *scene, char **text, uint32_t value)
{
	const uint32_t *words = (const uint32_t *)(scene->g->bytes + (size_t)BLOCK_PAGE * PAGE);
	const struct call *call;
	uint64_t count;

	for (unsigned i = 0; i <= NDEVICES; i++) {
		count = event_take(scene->fds[i]);
		if (count)
			text_add(text, " %c signalled %llu", 'A' + i, (unsigned long long)count);
		while ((call = recorder_next(scene->devices[i]))) {
			assert_int_equal(call->value, value);
			text_add(text, " %c+0x%llx", 'A' + i, (unsigned long long)call->offset);
		}
	}
	for (unsigned i = 0; i < 3 * PAGE / sizeof(*words); i++) {
		if (words[i] == value)
			text_add(text, " ram+0x%zx", i * sizeof(*words));
	}
	memset(scene->g->bytes + (size_t)BLOCK_PAGE * PAGE, 0, (size_t)3 * PAGE);
	text_add(text, "\n");
}

static void try_place(struct scene *scene, char **text, unsigned place, bool ports)
{
	static const struct {
		uint32_t offset;
		uint32_t value;
	} stores[] = {{EVENT_AT, 0x1234}, {MATCH_AT, MATCH}, {MATCH_AT, 0x4321}, {ZONE_AT, 0x5678}};

	for (size_t i = 0; i < LENGTH(stores); i++) {
		text_add(text, "%s %u+0x%x:", ports ? "port" : "place", place, stores[i].offset);
		if (ports)
			step_out(&scene->steps, PORT + 0x100 * place + stores[i].offset, 4,
				 stores[i].value);
		else
			step_write(&scene->steps, at(place) + stores[i].offset, 4, stores[i].value);
		drain(scene->g);
		tell_answer(scene, text, stores[i].value);
	}
}

/* For free(). */
static char *answers(struct scene *scene)
{
	char *text = NULL;

	for (unsigned i = 0; i <= NDEVICES; i++)
		scene->devices[i]->ncalls = scene->devices[i]->seen = 0;
	for (unsigned as_id = 0; as_id < scene->g->nspaces; as_id++) {
		scene->steps.mode = as_id ? STEP_SMM : STEP_FLAT;
		for (unsigned place = 0; place < NPLACES; place++)
			try_place(scene, &text, place, false);
	}
	scene->steps.mode = STEP_FLAT;
	for (unsigned place = 0; place < 2; place++)
		try_place(scene, &text, place, true);
	return text;
}

static void assert_answers(struct scene *scene, const char *expected)
{
	char *text = answers(scene);

	assert_string_equal(text, expected);
	free(text);
}

/* ---- the tests ---- */

/* A store that waits when the commit begins, where it is to. */
static void leave_one_waiting(struct scene *scene, bool forth)
{
	step_write(&scene->steps, at(!forth) + WAIT_AT, 4, 0x77);
	step_write(&scene->steps, at(forth ? 2 : 5) + WAIT_AT, 4, 0x78);
}

static void assert_arrived(struct scene *scene, bool forth)
{
	drain(scene->g);
	assert_written(scene->devices[0], WAIT_AT, 4, 0x77);
	assert_written(scene->devices[forth ? 1 : 2], WAIT_AT, 4, 0x78);
}

struct tally {
	unsigned failed, refused_by_hand, calls;
};

/* One commit, of which a call is refused. */
static void try_change(struct scene *scene, bool forth, unsigned k, char *const expected[2],
		       struct tally *tally)
{
	uint64_t by_hand = guest_stats(scene->g).channels_by_hand;
	struct kvmas_kvm_stats stats;
	int err;

	leave_one_waiting(scene, forth);
	scene->calls = scene->refused = 0;
	scene->refuse = k;
	err = change(scene, forth);
	scene->refuse = 0;
	assert_arrived(scene, forth);
	assert_answers(scene, expected[err ? !forth : forth]);
	stats = guest_stats(scene->g);
	tally->calls += scene->refused;
	tally->failed += err != 0;
	tally->refused_by_hand += !err && scene->refused;
	assert_true(!scene->refused || err || stats.channels_by_hand > 0);
	if (err && scene->mode == ONE)
		assert_int_equal(stats.channels_by_hand, by_hand);
	if (err)
		must(change(scene, forth));
	assert_answers(scene, expected[forth]);
}

static void refuse_each(struct scene *scene, enum mode mode, int errnum)
{
	struct tally tally = {0};
	char *expected[2];
	bool any = true;

	expected[0] = answers(scene);
	must(change(scene, true));
	expected[1] = answers(scene);
	assert_string_not_equal(expected[0], expected[1]);
	must(change(scene, false));
	assert_answers(scene, expected[0]);
	scene->mode = mode;
	scene->errnum = errnum;
	for (unsigned k = 1; any; k++) {
		any = false;
		for (unsigned back = 0; back < 2; back++) {
			try_change(scene, !back, k, expected, &tally);
			any = any || scene->refused;
		}
	}
	print_message("refused: %u calls; %u commits failed, %u left channels to dispatch\n",
		      tally.calls, tally.failed, tally.refused_by_hand);
	assert_true(tally.failed > 10 && tally.refused_by_hand > 10);
	free(expected[0]);
	free(expected[1]);
}

static void any_call_refused_leaves_all_as_before_or_as_wanted(void **state)
{
	refuse_each(scene_make(state), ONE, -ENOMEM);
}

static void any_call_refused_for_want_of_room_does_so_too(void **state)
{
	refuse_each(scene_make(state), ONE, -ENOSPC);
}

static void all_calls_about_channels_refused_from_any_on_do_so_too(void **state)
{
	refuse_each(scene_make(state), CHANNELS, -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(any_call_refused_leaves_all_as_before_or_as_wanted),
		SCENE_TEST(any_call_refused_for_want_of_room_does_so_too),
		SCENE_TEST(all_calls_about_channels_refused_from_any_on_do_so_too),
	};

	return guest_main("live-channels-refused", tests, LENGTH(tests), 1);
}

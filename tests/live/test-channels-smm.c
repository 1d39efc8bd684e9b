/* SPDX-License-Identifier: MIT */
/*
 * Event channels in two address spaces, which KVM's buses do not tell apart: at an address of a
 * device's in one there is RAM, another device, the same one, or nothing in the other. Each store
 * arrives in the space that it was made in, and nowhere else.
 */
#include "recorder.h"

#include <unistd.h>

#define GPA UINT64_C(0x100000)

/* Its first member is what guest_teardown wants. */
struct scene {
	struct guest *g;
	struct steps steps;
	struct recorder *device, *other;
	struct recorder *asked; /* where every access exits, in both spaces */
	uint32_t *words;        /* the page of RAM that put_ram shows */
	int fd, other_fd;
};

static int scene_setup(void **state)
{
	*state = calloc(1, sizeof(struct scene));
	return *state ? 0 : -1;
}

static int scene_teardown(void **state)
{
	struct scene *scene = *state;
	struct recorder *all[] = {scene->device, scene->other, scene->asked};
	int err, fds[] = {scene->fd, scene->other_fd};

	for (size_t i = 0; i < LENGTH(all); i++) {
		if (all[i])
			kvmas_region_unref(all[i]->region);
	}
	err = guest_teardown(state);
	for (size_t i = 0; i < LENGTH(all); i++)
		free(all[i]);
	close(fds[0]);
	close(fds[1]);
	return err;
}

#define SCENE_TEST(test) cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown)

/* A device of two pages with channels: events at 0 and, for one value, at 4; a zone from 0x80 to
 * the end. It is nowhere yet. Space 1 shows all that space 0 does, below its own. */
static struct scene *scene_make(void **state)
{
	struct scene *scene = *state;
	struct guest *g;

	guest_new(state, (struct guest_config){.npages = 0x80});
	g = scene->g;
	steps_init(&scene->steps, g, false);
	scene->device = recorder_new(g, 2 * PAGE, (struct kvmas_ops){0});
	scene->other = recorder_new(g, 2 * PAGE, (struct kvmas_ops){0});
	scene->asked = recorder_new(g, PAGE, (struct kvmas_ops){0});
	scene->fd = event_new();
	scene->other_fd = event_new();
	scene->words = (uint32_t *)(g->bytes + (size_t)FREE_PAGE * PAGE);
	put_event(scene->device->region, 0, 4, scene->fd);
	put_match(scene->device->region, 4, 4, 0x71, scene->fd);
	put_zone(scene->device->region, 0x80, 2 * PAGE - 0x80);
	add(g->root[0], scene->asked->region, GPA - PAGE, 1);
	return scene;
}

static void put_ram(struct scene *scene, unsigned as_id, uint64_t gpa, uint64_t size)
{
	struct kvmas_region *ram =
		make_alias(scene->g->f, "ram", scene->g->memory, FREE_PAGE * PAGE, size);

	add(scene->g->root[as_id], ram, gpa, 4);
}

static void enter(struct scene *scene, unsigned as_id)
{
	scene->steps.mode = as_id ? STEP_SMM : STEP_FLAT;
}

static void store(struct scene *scene, uint64_t offset, uint32_t value)
{
	step_write(&scene->steps, GPA + offset, 4, value);
}

static uint64_t exits(const struct scene *scene)
{
	return guest_stats(scene->g).mmio_exits;
}

/* Who answers in a space. */
static void assert_device_answers(struct scene *scene, unsigned as_id, bool in_kvm)
{
	uint64_t before = exits(scene);
	const struct call *call;

	enter(scene, as_id);
	store(scene, 0, 1);
	store(scene, 4, 0x71);
	store(scene, 0x80, 2);
	store(scene, 0x84, 3);
	assert_int_equal(exits(scene) - before, in_kvm ? 0 : 4);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 2);
	for (uint32_t i = 0; i < 2; i++) {
		call = recorder_next(scene->device);
		assert_non_null(call);
		assert_int_equal(call->offset, 0x80 + 4 * i);
		assert_int_equal(call->value, 2 + i);
		if (!in_kvm) {
			assert_int_equal(call->smm, as_id);
			assert_ptr_equal(call->space, scene->g->space[as_id]);
			assert_ptr_equal(call->requester, &scene->g->vcpus[0]);
		}
	}
	store(scene, 4, 0x72);
	call = recorder_next(scene->device);
	assert_int_equal(call->smm, as_id);
	assert_int_equal(call->value, 0x72);
	assert_quiet(scene->device);
}

static void assert_ram_answers(struct scene *scene, unsigned as_id)
{
	uint64_t before = exits(scene);

	enter(scene, as_id);
	scene->words[0] = scene->words[1] = scene->words[0x20] = 0;
	store(scene, 0, 1);
	store(scene, 4, 0x71);
	store(scene, 0x80, 2);
	assert_int_equal(exits(scene), before);
	assert_int_equal(scene->words[0], 1);
	assert_int_equal(scene->words[1], 0x71);
	assert_int_equal(scene->words[0x20], 2);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 0);
	assert_quiet(scene->device);
}

static void assert_other_answers(struct scene *scene, unsigned as_id, uint64_t events)
{
	enter(scene, as_id);
	store(scene, 0, 1);
	store(scene, 4, 0x71);
	store(scene, 0x80, 2);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 0);
	assert_int_equal(event_take(scene->other_fd), events);
	assert_quiet(scene->device);
	if (!events)
		assert_written(scene->other, 0, 4, 1);
	assert_written(scene->other, 4, 4, 0x71);
	assert_written(scene->other, 0x80, 4, 2);
	assert_int_equal(scene->other->calls[scene->other->ncalls - 1].smm, as_id);
	assert_quiet(scene->other);
}

static void assert_nothing_answers(struct scene *scene, unsigned as_id)
{
	uint64_t before = guest_stats(scene->g).unassigned;

	enter(scene, as_id);
	store(scene, 0, 1);
	store(scene, 4, 0x71);
	store(scene, 0x80, 2);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 0);
	assert_quiet(scene->device);
	assert_int_equal(guest_stats(scene->g).unassigned, before + 3);
}

static void assert_where(const struct scene *scene, uint64_t in_kvm, uint64_t by_hand)
{
	struct kvmas_kvm_stats stats = guest_stats(scene->g);

	assert_int_equal(stats.channels_in_kvm, in_kvm);
	assert_int_equal(stats.channels_by_hand, by_hand);
}

/* ---- the tests ---- */

static void channel_is_ram_in_the_other_space(void **state, unsigned as_id)
{
	struct scene *scene = scene_make(state);

	add(scene->g->root[as_id], scene->device->region, GPA, 2);
	put_ram(scene, !as_id, GPA, 2 * PAGE);
	assert_where(scene, 3, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_device_answers(scene, as_id, true);
		assert_ram_answers(scene, !as_id);
	}
	/* What has waited says where it was made, as far as can be known. */
	enter(scene, as_id);
	store(scene, 0x80, 9);
	drain(scene->g);
	assert_int_equal(scene->device->calls[scene->device->ncalls - 1].smm, as_id);
	assert_ptr_equal(scene->device->calls[scene->device->ncalls - 1].space,
			 scene->g->space[as_id]);
}

static void channel_of_the_normal_space_is_ram_in_smm(void **state)
{
	channel_is_ram_in_the_other_space(state, 0);
}

static void channel_of_smm_is_ram_in_the_normal_space(void **state)
{
	channel_is_ram_in_the_other_space(state, 1);
}

static void channel_is_another_device_in_the_other_space(void **state, unsigned as_id,
							 bool other_has)
{
	struct scene *scene = scene_make(state);

	if (other_has) {
		put_event(scene->other->region, 0, 4, scene->other_fd);
		put_zone(scene->other->region, 0x80, 0x80);
	}
	must(kvmas_begin(scene->g->f->kvmas));
	add(scene->g->root[0], as_id ? scene->other->region : scene->device->region, GPA, 2);
	add(scene->g->root[1], as_id ? scene->device->region : scene->other->region, GPA, 3);
	must(kvmas_commit(scene->g->f->kvmas));
	assert_where(scene, 0, other_has ? 5 : 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_device_answers(scene, as_id, false);
		assert_other_answers(scene, !as_id, other_has);
	}
	/* As soon as the other has gone there is but one, in both spaces if it is the normal's. */
	must(kvmas_region_set_enabled(scene->other->region, false));
	if (as_id == 0) {
		assert_where(scene, 3, 0);
		assert_device_answers(scene, 0, true);
		assert_device_answers(scene, 1, true);
	} else {
		assert_where(scene, 0, 3);
		assert_device_answers(scene, 1, false);
		assert_nothing_answers(scene, 0);
	}
}

static void channel_of_the_normal_space_is_another_device_in_smm(void **state)
{
	channel_is_another_device_in_the_other_space(state, 0, false);
}

static void channel_of_smm_is_another_device_in_the_normal_space(void **state)
{
	channel_is_another_device_in_the_other_space(state, 1, false);
}

static void two_devices_have_channels_at_one_address_in_two_spaces(void **state)
{
	channel_is_another_device_in_the_other_space(state, 0, true);
}

static void same_device_in_both_spaces_has_one_event_for_each_store(void **state)
{
	struct scene *scene = scene_make(state);

	add(scene->g->root[0], scene->device->region, GPA, 2);
	assert_where(scene, 3, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_device_answers(scene, i % 2, true);
		assert_device_answers(scene, !(i % 2), true);
	}
}

static void channel_where_smm_has_nothing_is_left_to_dispatch(void **state)
{
	struct scene *scene = scene_make(state);
	struct kvmas_region *hole = guest_put_hole(scene->g, 1, GPA / PAGE, 2);

	add(scene->g->root[0], scene->device->region, GPA, 2);
	for (unsigned i = 0; i < 5; i++) {
		must(kvmas_region_set_enabled(hole, true));
		assert_where(scene, 0, 3);
		assert_device_answers(scene, 0, false);
		assert_nothing_answers(scene, 1);
		must(kvmas_region_set_enabled(hole, false));
		assert_where(scene, 3, 0);
		assert_device_answers(scene, 0, true);
		assert_device_answers(scene, 1, true);
	}
}

static void device_at_another_offset_in_smm_is_left_to_dispatch(void **state)
{
	struct scene *scene = scene_make(state);
	struct kvmas_region *shifted =
		make_alias(scene->g->f, "shifted", scene->device->region, 4, PAGE);

	add(scene->g->root[0], scene->device->region, GPA, 2);
	add(scene->g->root[1], shifted, GPA, 3);
	assert_device_answers(scene, 0, false);
	enter(scene, 1);
	store(scene, 0, 0x71);
	assert_int_equal(event_take(scene->fd), 1);
	store(scene, 0, 0x72);
	assert_written(scene->device, 4, 4, 0x72);
	store(scene, 0x80, 5);
	drain(scene->g);
	assert_written(scene->device, 0x84, 4, 5);
	assert_quiet(scene->device);
}

static void ram_that_comes_and_goes_in_smm_leaves_channels_right(void **state)
{
	struct scene *scene = scene_make(state);
	struct kvmas_region *ram =
		make_alias(scene->g->f, "ram", scene->g->memory, FREE_PAGE * PAGE, 2 * PAGE);

	add(scene->g->root[0], scene->device->region, GPA, 2);
	add(scene->g->root[1], ram, GPA, 4);
	for (unsigned i = 0; i < 20; i++) {
		must(kvmas_region_set_enabled(ram, i % 2 == 0));
		assert_where(scene, 3, 0);
		if (i % 2 == 0)
			assert_ram_answers(scene, 1);
		else
			assert_device_answers(scene, 1, true);
		assert_device_answers(scene, 0, true);
	}
}

/* Once SMM has found nothing there. */
static void channel_that_comes_after_ram_of_smm_is_right(void **state)
{
	struct scene *scene = scene_make(state);
	struct kvmas_region *ram =
		make_alias(scene->g->f, "ram", scene->g->memory, FREE_PAGE * PAGE, 2 * PAGE);

	must(kvmas_region_set_enabled(scene->device->region, false));
	add(scene->g->root[0], scene->device->region, GPA, 2);
	for (unsigned i = 0; i < 10; i++) {
		enter(scene, 1);
		store(scene, 0, 1);
		store(scene, 0x80, 1);
		add(scene->g->root[1], ram, GPA, 4);
		must(kvmas_region_set_enabled(scene->device->region, true));
		assert_where(scene, 3, 0);
		assert_ram_answers(scene, 1);
		assert_device_answers(scene, 0, true);
		must(kvmas_region_set_enabled(scene->device->region, false));
		must(kvmas_region_del(ram));
	}
}

/* Not a whole page of it: KVM maps none, so that stores to the rest exit from SMM. */
static void part_of_a_page_of_ram_in_smm_is_left_to_dispatch(void **state)
{
	struct scene *scene = scene_make(state);

	add(scene->g->root[0], scene->device->region, GPA, 2);
	put_ram(scene, 1, GPA, 0x100);
	for (unsigned i = 0; i < 3; i++) {
		assert_device_answers(scene, 0, false);
		enter(scene, 1);
		store(scene, 0, 11 + i);
		store(scene, 0x80, 21 + i);
		store(scene, 0x100, 31 + i);
		drain(scene->g);
		assert_int_equal(scene->words[0], 11 + i);
		assert_int_equal(scene->words[0x20], 21 + i);
		assert_int_equal(event_take(scene->fd), 0);
		assert_written(scene->device, 0x100, 4, 31 + i);
		assert_quiet(scene->device);
	}
}

/* The zone is seen whole in one space and in part in the other: KVM's unregistering takes away all
 * zones around what it is told. */
static void zone_seen_in_part_in_smm_stays_in_kvm_when_all_of_it_is_seen(void **state)
{
	struct scene *scene = scene_make(state);
	struct kvmas_region *ram =
		make_alias(scene->g->f, "ram", scene->g->memory, FREE_PAGE * PAGE, PAGE);
	uint64_t before;

	add(scene->g->root[0], scene->device->region, GPA, 2);
	add(scene->g->root[1], ram, GPA + PAGE, 4);
	for (unsigned i = 0; i < 6; i++) {
		must(kvmas_region_set_enabled(ram, i % 2 == 0));
		before = exits(scene);
		enter(scene, 0);
		store(scene, 0x80, 1);
		store(scene, PAGE + 8, 2);
		enter(scene, 1);
		store(scene, 0x90, 3);
		assert_int_equal(exits(scene), before);
		drain(scene->g);
		assert_written(scene->device, 0x80, 4, 1);
		assert_written(scene->device, PAGE + 8, 4, 2);
		assert_written(scene->device, 0x90, 4, 3);
		assert_quiet(scene->device);
	}
}

/* What a device finds that was written before it was called. */
static void count_calls(struct recorder *recorder)
{
	const struct recorder *zone = recorder->data;

	recorder->calls[recorder->ncalls - 1].value = zone->ncalls;
}

static void exit_in_one_space_finds_what_was_written_in_the_other(void **state)
{
	struct scene *scene = scene_make(state);

	add(scene->g->root[0], scene->device->region, GPA, 2);
	scene->asked->then = count_calls;
	scene->asked->data = scene->device;
	for (unsigned i = 0; i < 12; i++) {
		enter(scene, i % 2);
		store(scene, 0x80, i);
		enter(scene, i / 2 % 2);
		store(scene, 0x84, i);
		enter(scene, i / 4 % 2);
		step_read(&scene->steps, GPA - PAGE, 4);
		assert_int_equal(recorder_next(scene->asked)->value, 2 * i + 2);
		assert_written(scene->device, 0x80, 4, i);
		assert_written(scene->device, 0x84, 4, i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(channel_of_the_normal_space_is_ram_in_smm),
		SCENE_TEST(channel_of_smm_is_ram_in_the_normal_space),
		SCENE_TEST(channel_of_the_normal_space_is_another_device_in_smm),
		SCENE_TEST(channel_of_smm_is_another_device_in_the_normal_space),
		SCENE_TEST(two_devices_have_channels_at_one_address_in_two_spaces),
		SCENE_TEST(same_device_in_both_spaces_has_one_event_for_each_store),
		SCENE_TEST(channel_where_smm_has_nothing_is_left_to_dispatch),
		SCENE_TEST(device_at_another_offset_in_smm_is_left_to_dispatch),
		SCENE_TEST(ram_that_comes_and_goes_in_smm_leaves_channels_right),
		SCENE_TEST(channel_that_comes_after_ram_of_smm_is_right),
		SCENE_TEST(part_of_a_page_of_ram_in_smm_is_left_to_dispatch),
		SCENE_TEST(zone_seen_in_part_in_smm_stays_in_kvm_when_all_of_it_is_seen),
		SCENE_TEST(exit_in_one_space_finds_what_was_written_in_the_other),
	};

	return guest_main("live-channels-smm", tests, LENGTH(tests), 2);
}

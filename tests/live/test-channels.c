/* SPDX-License-Identifier: MIT */
/*
 * Event channels on real KVM, one store at a time: each arrives once, where it must, in order, with
 * fewer exits than without; also where the region moves, is hidden and comes back. What is the same
 * for stores by ports is tested with both.
 */
#include "recorder.h"

#include <unistd.h>

#define GPA UINT64_C(0x100000)
#define PORT 0x400

enum {
	RING = 169,     /* writes that KVM's ring has room for */
	HALF_RING = 85, /* when Linux before 6.12 takes it to be full (coalesced_mmio_has_room) */
};

/* Its first member is what guest_teardown wants. */
struct scene {
	struct guest *g;
	struct steps steps;
	struct recorder *device; /* a page at GPA, */
	struct recorder *below;  /* with this one below it, from there on, larger */
	struct recorder *port;   /* 0x100 ports at PORT */
	struct recorder *below_port;
	struct kvmas_region *ports;
	int fd;
	unsigned nwrites;
};

static int scene_setup(void **state)
{
	*state = calloc(1, sizeof(struct scene));
	return *state ? 0 : -1;
}

static int scene_teardown(void **state)
{
	struct scene *scene = *state;
	struct recorder *all[] = {scene->device, scene->below, scene->port, scene->below_port};
	int err, fd = scene->fd;

	for (size_t i = 0; i < LENGTH(all); i++) {
		if (all[i])
			kvmas_region_unref(all[i]->region);
	}
	err = guest_teardown(state);
	for (size_t i = 0; i < LENGTH(all); i++)
		free(all[i]);
	close(fd);
	return err;
}

static struct scene *scene_make(void **state)
{
	struct scene *scene = *state;
	struct kvmas_ops ops = {0};
	struct guest *g;

	guest_new(state, (struct guest_config){.npages = 0x80});
	g = scene->g;
	steps_init(&scene->steps, g, false);
	scene->device = recorder_new(g, PAGE, ops);
	scene->below = recorder_new(g, 4 * PAGE, ops);
	scene->port = recorder_new(g, 0x100, ops);
	scene->below_port = recorder_new(g, 0x400, ops);
	scene->fd = event_new();
	scene->ports = make_container(g->f, "ports", 0x10000);
	add(g->root[0], scene->below->region, GPA, 1);
	add(g->root[0], scene->device->region, GPA, 2);
	add(scene->ports, scene->below_port->region, PORT, 1);
	add(scene->ports, scene->port->region, PORT, 2);
	must(kvmas_kvm_set_pio_space(g->kvm, make_space(g->f, "ports", scene->ports)));
	return scene;
}

#define SCENE_TEST(test) cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown)

static uint64_t exits(const struct scene *scene)
{
	struct kvmas_kvm_stats stats = guest_stats(scene->g);

	return stats.mmio_exits + stats.pio_exits;
}

/* ---- ioeventfds ---- */

static void store_of_its_size_signals_and_any_other_calls(void **state)
{
	struct scene *scene = scene_make(state);

	for (unsigned size = 1; size <= 8; size *= 2)
		put_event(scene->device->region, 0x100 * size, size, scene->fd);
	for (unsigned size = 1; size <= 8; size *= 2) {
		uint64_t gpa = GPA + (uint64_t)0x100 * size, before = exits(scene);

		step_write(&scene->steps, gpa, size, 0x11);
		assert_int_equal(exits(scene), before);
		assert_int_equal(event_take(scene->fd), 1);
		assert_quiet(scene->device);
		for (unsigned other = 1; other <= 8; other *= 2) {
			if (other == size)
				continue;
			step_write(&scene->steps, gpa, other, 0x22);
			assert_int_equal(event_take(scene->fd), 0);
			assert_written(scene->device, 0x100 * size, other, 0x22);
		}
		step_write(&scene->steps, gpa + 1, 1, 0x33);
		assert_int_equal(event_take(scene->fd), 0);
		assert_written(scene->device, 0x100 * size + 1, 1, 0x33);
		step_read(&scene->steps, gpa, 4);
		assert_true(recorder_next(scene->device)->read);
	}
}

static void store_of_any_size_signals(void **state)
{
	struct scene *scene = scene_make(state);

	put_event(scene->device->region, 0x40, 0, scene->fd);
	for (unsigned size = 1; size <= 8; size *= 2)
		step_write(&scene->steps, GPA + 0x40, size, size);
	assert_int_equal(event_take(scene->fd), 4);
	assert_int_equal(exits(scene), 0);
	step_write(&scene->steps, GPA + 0x41, 1, 7);
	step_write(&scene->steps, GPA + 0x3f, 1, 8);
	assert_int_equal(event_take(scene->fd), 0);
	assert_written(scene->device, 0x41, 1, 7);
	assert_written(scene->device, 0x3f, 1, 8);
}

static void store_signals_by_its_value(void **state)
{
	struct scene *scene = scene_make(state);
	int other = event_new();

	for (unsigned size = 1; size <= 8; size *= 2) {
		put_match(scene->device->region, 0x100 * size, size, 0x71, scene->fd);
		put_match(scene->device->region, 0x100 * size, size, 0x72, other);
	}
	for (unsigned size = 1; size <= 8; size *= 2) {
		uint64_t gpa = GPA + (uint64_t)0x100 * size;

		step_write(&scene->steps, gpa, size, 0x71);
		assert_int_equal(event_take(scene->fd), 1);
		assert_int_equal(event_take(other), 0);
		step_write(&scene->steps, gpa, size, 0x72);
		assert_int_equal(event_take(scene->fd), 0);
		assert_int_equal(event_take(other), 1);
		assert_quiet(scene->device);
		step_write(&scene->steps, gpa, size, 0x73);
		assert_written(scene->device, 0x100 * size, size, 0x73);
	}
	assert_int_equal(exits(scene), 4);
	close(other);
}

/* The device sees big-endian numbers; so does the match. */
static void value_is_matched_as_the_device_would_see_it(void **state)
{
	struct scene *scene = scene_make(state);
	struct recorder *big =
		recorder_new(scene->g, PAGE, (struct kvmas_ops){.endian = KVMAS_BIG_ENDIAN});

	add(scene->g->root[0], big->region, GPA + 16 * PAGE, 1);
	put_match(big->region, 0, 4, 0x11223344, scene->fd);
	step_write(&scene->steps, GPA + 16 * PAGE, 4, 0x11223344);
	assert_int_equal(event_take(scene->fd), 0);
	assert_written(big, 0, 4, 0x44332211);
	step_write(&scene->steps, GPA + 16 * PAGE, 4, 0x44332211);
	assert_int_equal(event_take(scene->fd), 1);
	assert_quiet(big);
	assert_int_equal(exits(scene), 1);
	must(kvmas_region_del(big->region));
	must(kvmas_reclaim(scene->g->f->kvmas));
	recorder_free(big);
}

static void port_signals(void **state)
{
	struct scene *scene = scene_make(state);

	for (unsigned size = 1; size <= 4; size *= 2)
		put_event(scene->port->region, 16 * size, size, scene->fd);
	put_match(scene->port->region, 0xf0, 1, 0x71, scene->fd);
	for (unsigned size = 1; size <= 4; size *= 2)
		step_out(&scene->steps, PORT + 16 * size, size, 5);
	step_out(&scene->steps, PORT + 0xf0, 1, 0x71);
	assert_int_equal(exits(scene), 0);
	assert_int_equal(event_take(scene->fd), 4);
	step_out(&scene->steps, PORT + 0xf0, 1, 0x72);
	step_out(&scene->steps, PORT + 16, 2, 6);
	assert_int_equal(event_take(scene->fd), 0);
	assert_written(scene->port, 0xf0, 1, 0x72);
	assert_written(scene->port, 16, 2, 6);
	/* In memory, the same number is another place. */
	step_write(&scene->steps, PORT + 16, 1, 7);
	assert_int_equal(event_take(scene->fd), 0);
}

/* ---- zones ---- */

static void stores_to_a_zone_wait_without_an_exit_and_arrive_in_order(void **state)
{
	struct scene *scene = scene_make(state);

	for (unsigned i = 0; i < 50; i++)
		step_write(&scene->steps, GPA + 8 * (uint64_t)i, 1U << i % 4, i);
	assert_int_equal(exits(scene), 50);
	scene->device->seen = 50;
	put_zone(scene->device->region, 0, PAGE);
	for (unsigned i = 0; i < 50; i++)
		step_write(&scene->steps, GPA + 8 * (uint64_t)i, 1U << i % 4, i);
	assert_int_equal(exits(scene), 50);
	assert_quiet(scene->device);
	drain(scene->g);
	for (unsigned i = 0; i < 50; i++)
		assert_written(scene->device, 8 * (uint64_t)i, 1U << i % 4, i);
	assert_quiet(scene->device);
	assert_int_equal(guest_stats(scene->g).coalesced_writes, 50);
	/* What does not lie in it wholly exits. */
	step_write(&scene->steps, GPA + PAGE - 2, 4, 0x11223344);
	assert_true(exits(scene) > 50);
	assert_written(scene->device, PAGE - 2, 2, 0x3344);
}

static void full_ring_exits_and_nothing_is_lost(void **state)
{
	struct scene *scene = scene_make(state);

	put_zone(scene->device->region, 0, PAGE);
	for (unsigned i = 0; i < 1000; i++)
		step_write(&scene->steps, GPA + 4 * (uint64_t)i, 4, i);
	assert_in_range(exits(scene), 1000 / (RING + 1), 1000 / (HALF_RING + 1));
	drain(scene->g);
	for (unsigned i = 0; i < 1000; i++)
		assert_written(scene->device, 4 * (uint64_t)i, 4, i);
	assert_quiet(scene->device);
}

/* The vCPU goes on as far as it gets. */
static void go_on_at_the_first_entry(struct recorder *recorder)
{
	struct scene *scene = recorder->data;

	if (recorder->ncalls == RING + 1)
		while (step_start_write(&scene->steps, GPA, 4, scene->nwrites++))
			;
}

/* The last entry is handed on, all others are taken: `last` must not catch up with `first`. */
static void full_ring_is_not_taken_for_an_empty_one(void **state)
{
	struct scene *scene = scene_make(state);

	put_zone(scene->device->region, 0, PAGE);
	scene->device->then = go_on_at_the_first_entry;
	scene->device->data = scene;
	while (scene->nwrites < 2 * RING) {
		step_write(&scene->steps, GPA, 4, scene->nwrites++);
		if (scene->nwrites == HALF_RING || scene->nwrites == RING)
			drain(scene->g);
	}
	assert_int_equal(exits(scene), 0);
	drain(scene->g);
	step_finish(&scene->steps);
	assert_true(scene->nwrites > 2 * RING);
	for (unsigned i = 0; i < scene->nwrites; i++)
		assert_written(scene->device, 0, 4, i);
	assert_quiet(scene->device);
}

/* What a device finds that was written before it was called. */
static void count_calls(struct recorder *recorder)
{
	const struct recorder *zone = recorder->data;

	recorder->calls[recorder->ncalls - 1].value = zone->ncalls;
}

/* By memory and by ports: each finds all that was written before. */
static void other_exit_finds_all_that_was_written_before_it(void **state)
{
	struct scene *scene = scene_make(state);
	struct recorder *asked = scene->below, *asked_port = scene->below_port;

	put_zone(scene->device->region, 0, PAGE);
	put_zone(scene->port->region, 0, 0x100);
	asked->then = asked_port->then = count_calls;
	asked->data = asked_port->data = scene->device;
	for (unsigned i = 0; i < 30; i++) {
		step_write(&scene->steps, GPA, 4, 2 * i);
		step_out(&scene->steps, PORT, 4, 2 * i);
		step_write(&scene->steps, GPA + 8, 4, 2 * i + 1);
		switch (i % 4) {
		case 0:
			step_read(&scene->steps, GPA + 2 * PAGE, 4);
			break;
		case 1:
			step_write(&scene->steps, GPA + 2 * PAGE, 4, 0);
			break;
		case 2:
			step_in(&scene->steps, PORT + 0x200, 4);
			break;
		default:
			step_out(&scene->steps, PORT + 0x200, 4, 0);
		}
		assert_int_equal(scene->port->ncalls, i + 1);
		assert_int_equal(recorder_next(i % 4 < 2 ? asked : asked_port)->value, 2 * i + 2);
		assert_written(scene->device, 0, 4, 2 * i);
		assert_written(scene->device, 8, 4, 2 * i + 1);
	}
	assert_int_equal(exits(scene), 30);
}

static void string_of_outs_to_a_zone_arrives_in_order(void **state)
{
	struct scene *scene = scene_make(state);
	uint32_t *words = (uint32_t *)(scene->g->bytes + (size_t)FREE_PAGE * PAGE);
	struct kvm_regs regs = {.rdx = PORT + 4, .rsi = FREE_PAGE * PAGE, .rcx = 1000};

	put_zone(scene->port->region, 0, 0x100);
	for (unsigned i = 0; i < 1000; i++)
		words[i] = i * 3;
	step(&scene->steps, STEP_OUTS + 2, &regs);
	drain(scene->g);
	for (unsigned i = 0; i < 1000; i++)
		assert_written(scene->port, 4, 4, i * 3);
	assert_quiet(scene->port);
	assert_true(exits(scene) < 20);
}

static void ioeventfd_in_a_zone_signals_and_its_bytes_exit(void **state)
{
	struct scene *scene = scene_make(state);

	put_zone(scene->device->region, 0, PAGE);
	put_match(scene->device->region, 0x40, 4, 0x71, scene->fd);
	step_write(&scene->steps, GPA + 0x3c, 4, 1);
	step_write(&scene->steps, GPA + 0x44, 4, 2);
	step_write(&scene->steps, GPA + 0x40, 4, 0x71);
	assert_int_equal(exits(scene), 0);
	assert_int_equal(event_take(scene->fd), 1);
	step_write(&scene->steps, GPA + 0x40, 4, 0x72);
	assert_int_equal(exits(scene), 1);
	step_write(&scene->steps, GPA + 0x40, 8, 0x71);
	assert_int_equal(exits(scene), 2);
	assert_int_equal(event_take(scene->fd), 0);
	assert_written(scene->device, 0x3c, 4, 1);
	assert_written(scene->device, 0x44, 4, 2);
	assert_written(scene->device, 0x40, 4, 0x72);
	assert_written(scene->device, 0x40, 8, 0x71);
}

/* ---- places ---- */

enum place { MEMORY, PORTS };

static struct recorder *device_at(const struct scene *scene, enum place place)
{
	return place == PORTS ? scene->port : scene->device;
}

static struct recorder *below_at(const struct scene *scene, enum place place)
{
	return place == PORTS ? scene->below_port : scene->below;
}

static uint64_t size_at(enum place place)
{
	return place == PORTS ? 0x100 : PAGE;
}

static void write_at(struct scene *scene, enum place place, uint64_t offset, uint32_t value)
{
	if (place == PORTS)
		step_out(&scene->steps, (unsigned)(PORT + offset), 4, value);
	else
		step_write(&scene->steps, GPA + offset, 4, value);
}

/* The device answers, from *offset* on: an event at 0, a zone at 0x80. */
static void assert_answers(struct scene *scene, enum place place, uint64_t offset)
{
	struct recorder *device = device_at(scene, place);
	uint64_t before = exits(scene);

	write_at(scene, place, offset, 1);
	write_at(scene, place, offset + 0x80, 2);
	write_at(scene, place, offset + 0x84, 3);
	assert_int_equal(exits(scene), before);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 1);
	assert_written(device, 0x80, 4, 2);
	assert_written(device, 0x84, 4, 3);
	assert_quiet(device);
	assert_quiet(below_at(scene, place));
}

/* What is below it does. */
static void assert_hidden(struct scene *scene, enum place place, uint64_t offset)
{
	struct recorder *below = below_at(scene, place);

	write_at(scene, place, offset, 4);
	write_at(scene, place, offset + 0x80, 5);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 0);
	assert_quiet(device_at(scene, place));
	assert_written(below, offset, 4, 4);
	assert_written(below, offset + 0x80, 4, 5);
	assert_quiet(below);
}

static void put_channels(struct scene *scene, enum place place)
{
	struct kvmas_region *region = device_at(scene, place)->region;

	put_event(region, 0, 4, scene->fd);
	put_zone(region, 0x80, 0x40);
}

static void channels_move_with_the_region(void **state)
{
	struct scene *scene = scene_make(state);

	for (enum place place = MEMORY; place <= PORTS; place++) {
		uint64_t start = place == PORTS ? PORT : GPA, size = size_at(place);

		put_channels(scene, place);
		assert_answers(scene, place, 0);
		for (unsigned i = 1; i < 10; i++) {
			uint64_t from = (i - 1) % 3 * size, to = i % 3 * size;

			must(kvmas_region_set_offset(device_at(scene, place)->region, start + to));
			assert_hidden(scene, place, from);
			assert_answers(scene, place, to);
		}
		must(kvmas_region_set_enabled(device_at(scene, place)->region, false));
	}
}

static void channels_stop_when_the_region_is_hidden_and_come_back(void **state)
{
	struct scene *scene = scene_make(state);

	for (enum place place = MEMORY; place <= PORTS; place++) {
		struct kvmas_region *region = device_at(scene, place)->region;
		struct kvmas_region *below = below_at(scene, place)->region;
		struct kvmas_region *parent = place == PORTS ? scene->ports : scene->g->root[0];

		put_channels(scene, place);
		assert_answers(scene, place, 0);
		must(kvmas_region_set_enabled(region, false));
		assert_hidden(scene, place, 0);
		must(kvmas_region_set_enabled(region, true));
		assert_answers(scene, place, 0);
		must(kvmas_region_set_priority(below, 3));
		assert_hidden(scene, place, 0);
		must(kvmas_region_set_priority(below, 1));
		assert_answers(scene, place, 0);
		must(kvmas_region_del(region));
		assert_hidden(scene, place, 0);
		must(kvmas_region_add(parent, region, place == PORTS ? PORT : GPA, 2));
		assert_answers(scene, place, 0);
		must(kvmas_region_set_enabled(region, false));
	}
}

static void memory_above_a_channel_takes_the_stores(void **state)
{
	struct scene *scene = scene_make(state);
	struct kvmas_region *ram;
	uint32_t *words = (uint32_t *)(scene->g->bytes + (size_t)FREE_PAGE * PAGE);

	put_channels(scene, MEMORY);
	ram = make_alias(scene->g->f, "ram", scene->g->memory, FREE_PAGE * PAGE, PAGE);
	add(scene->g->root[0], ram, GPA, 3);
	for (unsigned i = 0; i < 5; i++) {
		write_at(scene, MEMORY, 0, 100 + i);
		write_at(scene, MEMORY, 0x80, 200 + i);
		assert_int_equal(words[0], 100 + i);
		assert_int_equal(words[0x80 / 4], 200 + i);
		assert_int_equal(event_take(scene->fd), 0);
		assert_quiet(scene->device);
		must(kvmas_region_set_enabled(ram, false));
		assert_answers(scene, MEMORY, 0);
		must(kvmas_region_set_enabled(ram, true));
	}
}

/* ---- writes that wait while something changes ---- */

static void writes_that_wait_arrive_where_they_were_made(void **state)
{
	struct scene *scene = scene_make(state);

	for (enum place place = MEMORY; place <= PORTS; place++) {
		struct recorder *device = device_at(scene, place);
		uint64_t start = place == PORTS ? PORT : GPA;

		put_channels(scene, place);
		write_at(scene, place, 0x80, 1);
		must(kvmas_region_set_offset(device->region, start + size_at(place)));
		write_at(scene, place, size_at(place) + 0x80, 2);
		must(kvmas_region_set_enabled(device->region, false));
		assert_quiet(device);
		write_at(scene, place, 0x80, 3);
		assert_written(device, 0x80, 4, 1);
		assert_written(device, 0x80, 4, 2);
		assert_written(below_at(scene, place), 0x80, 4, 3);
		assert_quiet(device);
	}
}

static void writes_that_wait_outlive_their_zone_and_their_region(void **state)
{
	struct scene *scene = scene_make(state);
	struct recorder *brief = recorder_new(scene->g, PAGE, (struct kvmas_ops){0});

	put_zone(scene->device->region, 0, PAGE);
	write_at(scene, MEMORY, 0x10, 1);
	must(kvmas_region_del_coalesced(scene->device->region, 0, PAGE));
	put_zone(brief->region, 0, PAGE);
	must(kvmas_region_add(scene->g->root[0], brief->region, GPA, 3));
	write_at(scene, MEMORY, 0x10, 2);
	must(kvmas_region_del(brief->region));
	kvmas_region_unref(brief->region);
	must(kvmas_reclaim(scene->g->f->kvmas));
	drain(scene->g);
	assert_written(scene->device, 0x10, 4, 1);
	assert_written(brief, 0x10, 4, 2);
	assert_quiet(scene->device);
	must(kvmas_reclaim(scene->g->f->kvmas));
	free(brief);
}

static void write_that_waits_does_not_signal_an_ioeventfd_of_later(void **state)
{
	struct scene *scene = scene_make(state);

	put_zone(scene->device->region, 0, PAGE);
	write_at(scene, MEMORY, 0x10, 1);
	put_event(scene->device->region, 0x10, 4, scene->fd);
	write_at(scene, MEMORY, 0x10, 2);
	assert_int_equal(event_take(scene->fd), 1);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 0);
	assert_written(scene->device, 0x10, 4, 1);
	assert_quiet(scene->device);
	take_event(scene->device->region, 0x10, 4);
	write_at(scene, MEMORY, 0x10, 3);
	drain(scene->g);
	assert_int_equal(event_take(scene->fd), 0);
	assert_written(scene->device, 0x10, 4, 3);
}

/* As a BAR's register does, with what was written to it before. */
static void move_device(struct recorder *recorder)
{
	struct recorder *device = recorder->data;
	uint64_t place = GPA + recorder->ncalls % 3 * PAGE;

	must(kvmas_region_set_offset(device->region, place));
}

static void register_that_moves_the_region_finds_what_was_written_before(void **state)
{
	struct scene *scene = scene_make(state);
	uint64_t at = 0;

	put_channels(scene, MEMORY);
	scene->below_port->then = move_device;
	scene->below_port->data = scene->device;
	for (unsigned i = 1; i < 30; i++) {
		write_at(scene, MEMORY, at + 0x80, i);
		write_at(scene, MEMORY, at, i);
		step_out(&scene->steps, PORT + 0x200, 4, i);
		assert_written(scene->device, 0x80, 4, i);
		assert_int_equal(event_take(scene->fd), 1);
		assert_written(scene->below_port, 0x200, 4, i);
		write_at(scene, MEMORY, at + 0x80, i);
		assert_written(scene->below, at + 0x80, 4, i);
		at = i % 3 * PAGE;
	}
	assert_quiet(scene->device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(store_of_its_size_signals_and_any_other_calls),
		SCENE_TEST(store_of_any_size_signals),
		SCENE_TEST(store_signals_by_its_value),
		SCENE_TEST(value_is_matched_as_the_device_would_see_it),
		SCENE_TEST(port_signals),
		SCENE_TEST(stores_to_a_zone_wait_without_an_exit_and_arrive_in_order),
		SCENE_TEST(full_ring_exits_and_nothing_is_lost),
		SCENE_TEST(full_ring_is_not_taken_for_an_empty_one),
		SCENE_TEST(other_exit_finds_all_that_was_written_before_it),
		SCENE_TEST(string_of_outs_to_a_zone_arrives_in_order),
		SCENE_TEST(ioeventfd_in_a_zone_signals_and_its_bytes_exit),
		SCENE_TEST(channels_move_with_the_region),
		SCENE_TEST(channels_stop_when_the_region_is_hidden_and_come_back),
		SCENE_TEST(memory_above_a_channel_takes_the_stores),
		SCENE_TEST(writes_that_wait_arrive_where_they_were_made),
		SCENE_TEST(writes_that_wait_outlive_their_zone_and_their_region),
		SCENE_TEST(write_that_waits_does_not_signal_an_ioeventfd_of_later),
		SCENE_TEST(register_that_moves_the_region_finds_what_was_written_before),
	};

	return guest_main("live-channels", tests, LENGTH(tests), 1);
}

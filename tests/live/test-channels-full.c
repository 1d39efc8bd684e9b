/* SPDX-License-Identifier: MIT */
/*
 * More event channels than KVM has room for: it takes 1000 devices on a bus, and once there are so
 * many zones no ioeventfd either (virt/kvm/kvm_main.c, NR_IOBUS_DEVS). All of them work, and the
 * counters and the dump say which are left to dispatch.
 */
#include "recorder.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define GPA UINT64_C(0x100000)
#define PORT 0x400

enum {
	NEACH = 1100, /* zones, and as many ioeventfds, by turns: */
	STRIDE = 16,  /* bytes from one zone to the next, */
	EVENT_AT = 8, /* and from it to an ioeventfd */
	ROOM = 1000,  /* of KVM's bus */
	/* The last zone that it takes is followed by an ioeventfd, which it does not. */
	IN_KVM = 2 * ROOM - 1,
	BY_HAND = 2 * NEACH - IN_KVM,
};

/* Its first member is what guest_teardown wants. */
struct scene {
	struct guest *g;
	struct steps steps;
	struct recorder *device;
	struct kvmas_region *ports; /* NULL: in memory */
	int fd;
};

static int scene_setup(void **state)
{
	const struct rlimit files = {8192, 8192};

	/* Every ioeventfd has one of the library's. Where this fails, adding them will. */
	setrlimit(RLIMIT_NOFILE, &files);
	*state = calloc(1, sizeof(struct scene));
	return *state ? 0 : -1;
}

static int scene_teardown(void **state)
{
	struct scene *scene = *state;
	struct recorder *device = scene->device;
	int err, fd = scene->fd;

	if (device)
		kvmas_region_unref(device->region);
	err = guest_teardown(state);
	free(device);
	close(fd);
	return err;
}

#define SCENE_TEST(test) cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown)

static struct scene *scene_make(void **state, bool ports)
{
	struct scene *scene = *state;
	struct guest *g;

	guest_new(state, (struct guest_config){.npages = 0x80});
	g = scene->g;
	steps_init(&scene->steps, g, false);
	scene->fd = event_new();
	scene->device = recorder_new(g, NEACH * STRIDE, (struct kvmas_ops){0});
	if (ports) {
		scene->ports = make_container(g->f, "ports", 0x10000);
		must(kvmas_kvm_set_pio_space(g->kvm, make_space(g->f, "ports", scene->ports)));
	}
	return scene;
}

static void put_device(struct scene *scene)
{
	if (scene->ports)
		add(scene->ports, scene->device->region, PORT, 1);
	else
		add(scene->g->root[0], scene->device->region, GPA, 1);
}

static void put_all(struct scene *scene)
{
	must(kvmas_begin(scene->g->f->kvmas));
	for (uint64_t i = 0; i < NEACH; i++) {
		put_zone(scene->device->region, i * STRIDE, EVENT_AT);
		put_event(scene->device->region, i * STRIDE + EVENT_AT, 4, scene->fd);
	}
	must(kvmas_commit(scene->g->f->kvmas));
}

static void store(struct scene *scene, uint64_t offset, uint32_t value)
{
	if (scene->ports)
		step_out(&scene->steps, (unsigned)(PORT + offset), 4, value);
	else
		step_write(&scene->steps, GPA + offset, 4, value);
}

static uint64_t exits(const struct scene *scene)
{
	struct kvmas_kvm_stats stats = guest_stats(scene->g);

	return stats.mmio_exits + stats.pio_exits;
}

/* Every channel from *first* on; returns how many exited. */
static uint64_t assert_all_work(struct scene *scene, uint64_t first)
{
	uint64_t before = exits(scene);

	scene->device->ncalls = scene->device->seen = 0;
	for (uint64_t i = first; i < NEACH; i++) {
		store(scene, i * STRIDE, (uint32_t)i);
		store(scene, i * STRIDE + EVENT_AT, (uint32_t)i);
		assert_int_equal(event_take(scene->fd), 1);
		if (i % 32 == 0)
			drain(scene->g);
	}
	drain(scene->g);
	for (uint64_t i = first; i < NEACH; i++)
		assert_written(scene->device, i * STRIDE, 4, i);
	assert_quiet(scene->device);
	return exits(scene) - before;
}

static uint64_t count_in(const char *text, const char *what)
{
	uint64_t count = 0;

	for (const char *at = text; (at = strstr(at, what)); at++)
		count++;
	return count;
}

/* The counters say how many there are, and so does the dump. */
static void assert_told(struct scene *scene, uint64_t in_kvm, uint64_t by_hand)
{
	struct kvmas_kvm_stats stats = guest_stats(scene->g);
	FILE *stream;
	char *text;
	size_t size;

	assert_int_equal(stats.channels_in_kvm, in_kvm);
	assert_int_equal(stats.channels_by_hand, by_hand);
	assert_int_equal(stats.channel_makes - stats.channel_unmakes, in_kvm);
	stream = open_memstream(&text, &size);
	assert_non_null(stream);
	must(kvmas_dump(scene->g->f->kvmas, stream));
	fclose(stream);
	assert_int_equal(count_in(text, " of recorder, in KVM\n"), in_kvm);
	assert_int_equal(count_in(text, " of recorder, by dispatch, KVM refuses\n"), by_hand);
	free(text);
}

static void more_channels_than_the_bus_has_room_for_all_work(void **state, bool ports)
{
	struct scene *scene = scene_make(state, ports);

	put_device(scene);
	put_all(scene);
	assert_told(scene, IN_KVM, BY_HAND);
	assert_int_equal(assert_all_work(scene, 0), BY_HAND);
	/* Moved, the same are there again. */
	must(kvmas_region_set_enabled(scene->device->region, false));
	assert_told(scene, 0, 0);
	must(kvmas_region_set_enabled(scene->device->region, true));
	assert_told(scene, IN_KVM, BY_HAND);
	assert_int_equal(assert_all_work(scene, 0), BY_HAND);
	/* As soon as there is room it is used. */
	must(kvmas_begin(scene->g->f->kvmas));
	for (uint64_t i = 0; i <= NEACH - ROOM; i++)
		must(kvmas_region_del_coalesced(scene->device->region, i * STRIDE, EVENT_AT));
	must(kvmas_commit(scene->g->f->kvmas));
	assert_told(scene, 2 * NEACH - (NEACH - ROOM) - 1, 0);
	assert_int_equal(assert_all_work(scene, NEACH - ROOM + 1), 0);
}

static void more_channels_than_the_memory_bus_has_room_for_all_work(void **state)
{
	more_channels_than_the_bus_has_room_for_all_work(state, false);
}

static void more_channels_than_the_port_bus_has_room_for_all_work(void **state)
{
	more_channels_than_the_bus_has_room_for_all_work(state, true);
}

static void channel_that_must_be_in_kvm_is_refused_when_the_bus_is_full(void **state)
{
	struct scene *scene = scene_make(state, false);
	struct kvmas_region *region = scene->device->region;
	int err;

	put_device(scene);
	put_all(scene);
	must(kvmas_region_del_coalesced(region, 0, EVENT_AT));
	assert_told(scene, guest_stats(scene->g).channels_in_kvm,
		    guest_stats(scene->g).channels_by_hand);
	err = kvmas_region_add_coalesced(region, 0, EVENT_AT, KVMAS_CHANNEL_MUST);
	assert_int_equal(err, -EOPNOTSUPP);
	scene->device->ncalls = scene->device->seen = 0;
	store(scene, 0, 7);
	assert_written(scene->device, 0, 4, 7);
	assert_all_work(scene, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(more_channels_than_the_memory_bus_has_room_for_all_work),
		SCENE_TEST(more_channels_than_the_port_bus_has_room_for_all_work),
		SCENE_TEST(channel_that_must_be_in_kvm_is_refused_when_the_bus_is_full),
	};

	return guest_main("live-channels-full", tests, LENGTH(tests), 1);
}

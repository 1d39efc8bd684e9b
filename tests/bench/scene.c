/* SPDX-License-Identifier: MIT */
/*
 * Scenes: a machine with as many devices as wanted, and nothing else that costs.
 *
 *     system     | device | . | device | . |   ...   | lid        |      a gap has three pages; a
 *                  gap 0        gap 1                |   hidden   |      device is on one of them
 *     attic      | detached |
 *
 *     1 space:   its root is system
 *     2 spaces:  the root of the second is an alias of system
 *     17 spaces: the root of each is a container that holds an alias of system, as QEMU gives each
 *                PCI device that may be a bus master
 *
 * There are twice as many gaps as devices, so that there is somewhere to go. A scene with KVM has
 * RAM below the devices, in pieces that KVM has slots for and no change here concerns. Where
 * lookups are measured the devices are pages of RAM themselves.
 *
 * Devices join the tree in transactions of their own and before there are spaces, so that the bytes
 * that each step leaves held are those of the step, not of the room that one long transaction took.
 *
 * Invariants:
 *   I1  device i is at scene_place(i); no two are in one gap.
 *   I2  all regions are enabled, but for `disabled`.
 */
#include "scene.h"

#include <errno.h>
#include <stdlib.h>

#include "../fake-kvm.h"
#include "bench.h"

#define GAP (3 * SCENE_PAGE)
#define DEVICES (UINT64_C(1) << 32)

uint64_t scene_random(struct scene *scene, uint64_t below)
{
	uint64_t x = scene->seed += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (x ^ (x >> 31)) % below;
}

unsigned scene_ngaps(const struct scene *scene)
{
	return 2 * scene->config.ndevices;
}

uint64_t scene_place(const struct scene *scene, unsigned device)
{
	return DEVICES + scene->gaps[device] * GAP + scene->page[device] * SCENE_PAGE;
}

uint64_t scene_ram_place(unsigned index)
{
	return index * 2 * SCENE_RAM_SIZE;
}

/* ---- listeners ---- */

static void on_begin(void *data)
{
	struct ear *ear = data;

	ear->begins++;
}

static void on_section(void *data, const struct kvmas_section *section)
{
	struct ear *ear = data;

	(void)section;
	ear->sections++;
}

static void on_log(void *data, const struct kvmas_section *section)
{
	struct ear *ear = data;

	(void)section;
	ear->logs++;
}

static int on_sync(void *data, uint64_t gpa, uint64_t last)
{
	struct ear *ear = data;

	(void)gpa;
	(void)last;
	ear->logs++;
	return 0;
}

static void on_commit(void *data)
{
	struct ear *ear = data;

	ear->commits++;
}

static void listen(struct scene *scene, unsigned space)
{
	must(kvmas_listener_add(scene->spaces[space],
				KVMAS_CONFIG(listener, .data = &scene->ears[space],
					     .begin = on_begin, .region_add = on_section,
					     .region_del = on_section, .log_start = on_log,
					     .log_stop = on_log, .log_sync = on_sync,
					     .commit = on_commit),
				&scene->listeners[space]));
}

/* ---- regions ---- */

static struct kvmas_region *make_region(struct scene *scene, struct kvmas_region_config config)
{
	struct kvmas_region *region;

	config.struct_size = sizeof(config);
	must(kvmas_region_new(scene->kvmas, &config, &region));
	return region;
}

static struct kvmas_region *make_container(struct scene *scene, const char *name)
{
	return make_region(scene, (struct kvmas_region_config){.kind = KVMAS_REGION_CONTAINER,
							       .name = name,
							       .size = KVMAS_SIZE_MAX});
}

static struct kvmas_region *make_device(struct scene *scene, const char *name, uint64_t size)
{
	return make_region(scene, (struct kvmas_region_config){
					  .kind = KVMAS_REGION_MMIO, .name = name, .size = size});
}

static struct kvmas_region *make_alias(struct scene *scene)
{
	return make_region(scene, (struct kvmas_region_config){.kind = KVMAS_REGION_ALIAS,
							       .name = "bus master",
							       .size = KVMAS_SIZE_MAX,
							       .target = scene->system});
}

/* Device *i* as RAM: a page of the one block. */
static struct kvmas_region *make_page(struct scene *scene, unsigned i)
{
	return make_region(scene, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							       .name = "page",
							       .size = SCENE_PAGE,
							       .ram = scene->block,
							       .ram_offset = i * SCENE_PAGE});
}

static void make_frame(struct scene *scene)
{
	scene->system = make_container(scene, "system");
	scene->lid = make_device(scene, "lid", SCENE_LID_SIZE);
	scene->hidden = make_device(scene, "hidden", SCENE_PAGE);
	must(kvmas_region_add(scene->system, scene->lid, SCENE_LID, 1));
	must(kvmas_region_add(scene->system, scene->hidden, SCENE_LID, 0));
	scene->attic = make_container(scene, "attic");
	scene->detached = make_device(scene, "detached", SCENE_PAGE);
	must(kvmas_region_add(scene->attic, scene->detached, 0, 0));
}

static void make_devices(struct scene *scene)
{
	unsigned n = scene->config.ndevices;

	scene->devices = calloc(n, sizeof(scene->devices[0]));
	scene->gaps = calloc(scene_ngaps(scene), sizeof(scene->gaps[0]));
	scene->page = calloc(n, sizeof(scene->page[0]));
	must(scene->devices && scene->gaps && scene->page ? 0 : -ENOMEM);
	if (scene->config.memory)
		must(kvmas_ram_new(scene->kvmas,
				   KVMAS_CONFIG(ram, .name = "devices", .size = n * SCENE_PAGE),
				   &scene->block));
	for (unsigned i = 0; i < scene_ngaps(scene); i++)
		scene->gaps[i] = i;
	for (unsigned i = 0; i < n; i++) {
		scene->page[i] = 1;
		scene->devices[i] = scene->config.memory ? make_page(scene, i)
							 : make_device(scene, "device", SCENE_PAGE);
		must(kvmas_region_add(scene->system, scene->devices[i], scene_place(scene, i), 0));
	}
}

/* ---- spaces ---- */

static void make_root(struct scene *scene, unsigned space)
{
	if (scene->config.nspaces == SCENE_MAX_SPACES) {
		scene->roots[space] = make_container(scene, "root");
		scene->aliases[space] = make_alias(scene);
		must(kvmas_region_add(scene->roots[space], scene->aliases[space], 0, 0));
	} else {
		scene->roots[space] = space ? make_alias(scene) : kvmas_region_ref(scene->system);
	}
}

static void make_spaces(struct scene *scene)
{
	for (unsigned i = 0; i < scene->config.nspaces; i++) {
		make_root(scene, i);
		must(kvmas_space_new(scene->kvmas, "space", scene->roots[i], &scene->spaces[i]));
		listen(scene, i);
	}
}

/* ---- KVM ---- */

static int on_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct scene *scene = data;

	scene->nioctls++;
	return fake_kvm_ioctl(scene->vm, fd, request, arg);
}

static void make_ram(struct scene *scene, unsigned index)
{
	struct kvmas_ram *ram;

	must(kvmas_ram_new(scene->kvmas, KVMAS_CONFIG(ram, .name = "ram", .size = SCENE_RAM_SIZE),
			   &ram));
	scene->ram[index] =
		make_region(scene, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
								.name = "ram",
								.size = SCENE_RAM_SIZE,
								.ram = ram});
	kvmas_ram_unref(ram);
	must(kvmas_region_add(scene->system, scene->ram[index], scene_ram_place(index), 0));
}

static void tie(struct scene *scene)
{
	scene->vm = fake_kvm_new(NULL);
	for (unsigned i = 0; i < SCENE_NRAM; i++)
		make_ram(scene, i);
	must(kvmas_kvm_new(
		scene->kvmas,
		KVMAS_CONFIG(kvm, .vm_fd = scene->vm->fd, .ioctl = on_ioctl, .ioctl_data = scene),
		&scene->kvm));
	must(kvmas_kvm_bind(scene->kvm, scene->spaces[0], 0));
	bench_expect(scene->vm->count[FAKE_KVM_CREATE] == SCENE_NRAM);
}

/* ---- life ---- */

void scene_open(struct scene *scene, const struct scene_config *config)
{
	struct kvmas_config hooks = {.struct_size = sizeof(hooks)};

	*scene = (struct scene){.config = *config};
	hooks.realloc = meter_realloc;
	hooks.realloc_data = &scene->meter;
	must(kvmas_new(&hooks, &scene->kvmas));
	make_frame(scene);
	scene->bytes.bare = scene->meter.bytes;
	make_devices(scene);
	scene->bytes.devices = scene->meter.bytes;
	make_spaces(scene);
	scene->bytes.shown = scene->meter.bytes;
	if (config->tied)
		tie(scene);
}

static void drop_regions(struct kvmas_region **regions, size_t count)
{
	for (size_t i = 0; i < count; i++)
		kvmas_region_unref(regions[i]);
}

void scene_close(struct scene *scene)
{
	kvmas_kvm_unref(scene->kvm);
	for (unsigned i = 0; i < scene->config.nspaces; i++) {
		must(kvmas_listener_del(scene->listeners[i]));
		kvmas_space_unref(scene->spaces[i]);
	}
	drop_regions(scene->roots, SCENE_MAX_SPACES);
	drop_regions(scene->aliases, SCENE_MAX_SPACES);
	drop_regions(scene->ram, SCENE_NRAM);
	drop_regions(scene->devices, scene->config.ndevices);
	kvmas_ram_unref(scene->block);
	kvmas_region_unref(scene->lid);
	kvmas_region_unref(scene->hidden);
	kvmas_region_unref(scene->detached);
	kvmas_region_unref(scene->attic);
	kvmas_region_unref(scene->system);
	kvmas_unref(scene->kvmas);
	bench_expect(scene->meter.bytes == 0);
	fake_kvm_free(scene->vm);
	free(scene->devices);
	free(scene->gaps);
	free(scene->page);
}

/* SPDX-License-Identifier: MIT */
/*
 * Exits that no vCPU of this host can make: a struct kvm_run filled by chance, with addresses of
 * all 64 bits, sizes and counts that KVM would not give, data anywhere. Devices' access rules are
 * chosen by chance, and they refuse by chance. Each exit is answered or refused as its members say,
 * in bounded time, and nothing is touched beside what they name.
 *
 * The kvm_run, and each block of RAM, stand between pages that nobody may touch; bytes of theirs
 * that are not to be written are looked at.
 *
 * KVMAS_STEPS (20000): how many exits; KVMAS_SEED (1).
 */
#include "choices.h"
#include "kvm-fixture.h"

#include <sys/mman.h>
#include <time.h>

enum {
	RUN_PAGES = 3,
	BLOCK_PAGES = 2,
	NBLOCKS = 4,
	NDEVICES = 16,
	KEEP = 0x6b,
	SLOWEST_NS = 1000000000, /* processor time */
};

struct device {
	struct scene *scene;
	uint64_t size;
	struct kvmas_ops ops;
};

struct scene {
	struct machine *m;
	uint64_t seed;
	struct kvm_run *run;
	struct kvmas_vcpu *vcpu;
	unsigned char *blocks[NBLOCKS];
	uint64_t shown; /* bytes of each block */
	uint64_t seams[NBLOCKS + NDEVICES];
	unsigned nseams;
	struct device devices[2 * NDEVICES];
	unsigned ndevices;
	uint64_t calls, broken; /* callbacks; those that break the device's rules */
	uint64_t slowest_ns;
};

/* xorshift64* */
static uint64_t chance64(struct scene *scene)
{
	scene->seed ^= scene->seed >> 12;
	scene->seed ^= scene->seed << 25;
	scene->seed ^= scene->seed >> 27;
	return scene->seed * UINT64_C(2685821657736338717);
}

static uint32_t chance(struct scene *scene, uint32_t n)
{
	return (uint32_t)(chance64(scene) >> 32) % n;
}

static unsigned char *map_between_guards(uint64_t npages)
{
	unsigned char *bytes =
		mmap(NULL, pages(npages + 2), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(bytes, MAP_FAILED);
	bytes += page_size();
	must(mprotect(bytes, pages(npages), PROT_READ | PROT_WRITE));
	return bytes;
}

static void unmap(void *bytes, uint64_t npages)
{
	munmap((unsigned char *)bytes - page_size(), pages(npages + 2));
}

/* ---- the map ---- */

static bool obeys(const struct kvmas_access_rules *rules, const struct kvmas_access *access)
{
	if (access->size & (access->size - 1) || access->size < rules->min ||
	    access->size > rules->max)
		return false;
	return rules->unaligned || access->offset % access->size == 0;
}

static int be_accessed(struct device *device, const struct kvmas_access *access)
{
	device->scene->calls++;
	device->scene->broken += !obeys(&device->ops.impl, access) ||
				 access->offset >= device->size ||
				 access->size > device->size - access->offset;
	return chance(device->scene, 4) ? 0 : -EIO;
}

static int read_device(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	*value = UINT64_C(0x0123456789abcdef);
	return be_accessed(opaque, access);
}

static int write_device(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	(void)value;
	return be_accessed(opaque, access);
}

static struct kvmas_access_rules choose_rules(struct scene *scene)
{
	unsigned min = chance(scene, 4), max = min + chance(scene, 4 - min);

	return (struct kvmas_access_rules){
		.min = 1U << min, .max = 1U << max, .unaligned = chance(scene, 2)};
}

static void put(struct scene *scene, struct kvmas_region *parent, uint64_t place,
		const struct kvmas_region_config *config)
{
	struct kvmas_region *region;

	must(kvmas_region_new(scene->m->f->kvmas, config, &region));
	must(kvmas_region_add(parent, region, place, (int)chance(scene, 3)));
	kvmas_region_unref(region);
}

static void put_device(struct scene *scene, struct kvmas_region *parent, uint64_t place)
{
	struct device *device = &scene->devices[scene->ndevices++];

	*device = (struct device){
		.scene = scene,
		.size = 1 + chance(scene, 40),
		.ops = {.struct_size = sizeof(device->ops),
			.read = read_device,
			.write = write_device,
			.valid = choose_rules(scene),
			.impl = choose_rules(scene),
			.endian = chance(scene, 2) ? KVMAS_BIG_ENDIAN : KVMAS_LITTLE_ENDIAN}};
	put(scene, parent, place,
	    KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "device", .size = device->size,
			 .ops = &device->ops, .opaque = device));
}

static void put_block(struct scene *scene, unsigned i, uint64_t place)
{
	struct kvmas_ram *ram;

	scene->blocks[i] = map_between_guards(BLOCK_PAGES);
	memset(scene->blocks[i], KEEP, pages(BLOCK_PAGES));
	must(kvmas_ram_new(scene->m->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "guarded", .size = pages(BLOCK_PAGES),
					.source = KVMAS_RAM_CALLER, .hva = scene->blocks[i]),
			   &ram));
	put(scene, scene->m->root[NORMAL], place,
	    KVMAS_CONFIG(region, .kind = i % 2 ? KVMAS_REGION_ROM : KVMAS_REGION_RAM,
			 .name = "guarded", .size = scene->shown, .ram = ram));
	kvmas_ram_unref(ram);
}

/* At both ends of all addresses, past the last of which one block goes on, and between. */
static void fill_memory(struct scene *scene)
{
	const uint64_t places[NBLOCKS] = {0, pages(100) + 0x123, UINT64_C(1) << 32,
					  0 - pages(1) - 0x20};

	for (unsigned i = 0; i < NBLOCKS; i++) {
		put_block(scene, i, places[i]);
		scene->seams[scene->nseams++] = places[i];
	}
	for (unsigned i = 0; i < NDEVICES; i++) {
		uint64_t place = places[chance(scene, NBLOCKS)] + chance(scene, 300) +
				 (chance(scene, 2) ? scene->shown : 0);

		put_device(scene, scene->m->root[i % NSPACES], place);
		scene->seams[scene->nseams++] = place;
	}
}

static void fill_ports(struct scene *scene)
{
	struct kvmas_region *ports = make_container(scene->m->f, "pio", 0x10000);

	for (unsigned i = 0; i < NDEVICES; i++)
		put_device(scene, ports, i ? chance(scene, 0x10000) : 0xffff);
	must(kvmas_kvm_set_pio_space(scene->m->kvm, make_space(scene->m->f, "pio", ports)));
}

static int scene_setup(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	scene->m = machine_new(NULL);
	scene->seed = number_from("KVMAS_SEED", 1) * UINT64_C(88172645463325252);
	scene->shown = pages(1) + 0x345;
	scene->run = (struct kvm_run *)(void *)map_between_guards(RUN_PAGES);
	must(kvmas_begin(scene->m->f->kvmas));
	fill_memory(scene);
	fill_ports(scene);
	must(kvmas_commit(scene->m->f->kvmas));
	must(kvmas_vcpu_add(
		scene->m->kvm,
		KVMAS_CONFIG(vcpu, .fd = -1, .run = scene->run, .run_size = pages(RUN_PAGES)),
		&scene->vcpu));
	*state = scene;
	return 0;
}

static int scene_teardown(void **state)
{
	struct scene *scene = *state;

	kvmas_vcpu_del(scene->vcpu);
	machine_free(scene->m);
	for (unsigned i = 0; i < NBLOCKS; i++)
		unmap(scene->blocks[i], BLOCK_PAGES);
	unmap(scene->run, RUN_PAGES);
	free(scene);
	return 0;
}

/* ---- exits ---- */

static uint64_t choose_address(struct scene *scene)
{
	uint64_t near = scene->seams[chance(scene, scene->nseams)];

	if (chance(scene, 4) == 0)
		return chance64(scene);
	return near + (chance(scene, 2) ? scene->shown : 0) + chance(scene, 64) - 32;
}

/* What the library returns. */
static int fill_memory_exit(struct scene *scene)
{
	struct kvm_run *run = scene->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = choose_address(scene);
	run->mmio.len = chance(scene, 16) ? 1 + chance(scene, 8) : (uint32_t)chance64(scene);
	run->mmio.is_write = (uint8_t)chance(scene, 3);
	return run->mmio.len >= 1 && run->mmio.len <= sizeof(run->mmio.data) ? 1 : -EINVAL;
}

static int fill_port_exit(struct scene *scene)
{
	struct kvm_run *run = scene->run;
	uint64_t size = pages(RUN_PAGES);
	bool sane = chance(scene, 4);

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = (uint8_t)chance(scene, 3);
	run->io.size = (uint8_t)(sane ? 1U << chance(scene, 3) : chance(scene, 256));
	run->io.port = (uint16_t)chance64(scene);
	run->io.count = sane ? chance(scene, 100) : (uint32_t)chance64(scene) >> chance(scene, 32);
	run->io.data_offset =
		sane ? pages(1) + chance(scene, 2 * 4096) : chance64(scene) >> chance(scene, 64);
	/* In its own members it would not stay what it is; that KVM does not do. */
	if (run->io.data_offset < sizeof(*run))
		run->io.data_offset += sizeof(*run);
	return run->io.size && run->io.data_offset <= size &&
			       (uint64_t)run->io.size * run->io.count <= size - run->io.data_offset
		       ? 1
		       : -EINVAL;
}

static uint64_t own_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void make_exit(struct scene *scene)
{
	int expected = chance(scene, 3) ? fill_memory_exit(scene) : fill_port_exit(scene);
	uint64_t before = own_time(), taken;

	scene->run->flags = chance(scene, 2) ? KVM_RUN_X86_SMM : 0;
	assert_int_equal(kvmas_vcpu_handle_exit(scene->vcpu), expected);
	taken = own_time() - before;
	scene->slowest_ns = taken > scene->slowest_ns ? taken : scene->slowest_ns;
}

/* What regions do not show, and what is readonly, stays; what is past 2^64 is shown nowhere. */
static void check_blocks(const struct scene *scene)
{
	for (unsigned i = 0; i < NBLOCKS; i++) {
		uint64_t first = i % 2 ? 0 : scene->shown;

		for (uint64_t at = first; at < pages(BLOCK_PAGES); at++)
			assert_int_equal(scene->blocks[i][at], KEEP);
	}
}

static void exits_of_any_kind_are_answered_soon_and_touch_nothing_else(void **state)
{
	struct scene *scene = *state;
	uint64_t nsteps = number_from("KVMAS_STEPS", 20000);
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};

	for (uint64_t i = 0; i < nsteps; i++)
		make_exit(scene);
	check_blocks(scene);
	kvmas_kvm_get_stats(scene->m->kvm, &stats);
	assert_int_equal(scene->broken, 0);
	assert_true(scene->slowest_ns < SLOWEST_NS);
	/* All of it has happened. */
	assert_true(scene->calls > nsteps / 100);
	assert_true(stats.mmio_exits > nsteps / 10 && stats.pio_exits > nsteps / 10);
	assert_true(stats.unassigned > nsteps / 10 && stats.refused > nsteps / 100);
	assert_true(stats.mmio_exits + stats.pio_exits < nsteps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			exits_of_any_kind_are_answered_soon_and_touch_nothing_else, scene_setup,
			scene_teardown),
	};

	return cmocka_run_group_tests_name("exit-hostile", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * A guest that accesses everything at random: every address that it can form in 64-bit mode, and in
 * SMM where there is any, every port, in every size, with strings, over the ends of whatever is
 * there. Devices have random access rules, refuse by chance, and change the map under the access:
 * themselves too. Nothing crashes, no byte outside of what is shown is touched, and the library's
 * time for one exit is bounded.
 *
 * Blocks of RAM are the test's own memory, between pages that nobody may touch; behind the bytes
 * that their regions show, their last pages have some that must stay.
 *
 * KVMAS_SECONDS (3): how long.
 */
#include "knobs.h"
#include "steps.h"

#include <stdio.h>
#include <sys/mman.h>

enum {
	NPAGES = 0x80, /* of RAM with the guest's code, which is left alone */
	NBLOCKS = 4,
	NDEVICES = 24, /* and as many in the ports */
	BLOCK_PAGES = 3,
	SHOWN = 0x2345,   /* bytes of a block */
	KEEP = 0x6b,      /* in those that are not shown */
	STRANGE = 0x7fff, /* what no device means */
	SLOWEST_NS = 1000000000,
	LONG_STRING = 2000, /* of 4 bytes, in two pages */
};

struct hostile;

struct device {
	struct hostile *hostile;
	uint64_t size;
	struct kvmas_ops ops;
	struct kvmas_region *region; /* borrowed from its container */
};

/* Its first member is what guest_teardown wants. */
struct hostile {
	struct guest *g;
	struct steps steps;
	uint64_t limit; /* of addresses */
	unsigned char *blocks[NBLOCKS];
	struct device devices[2 * NDEVICES];
	unsigned ndevices;
	uint64_t seams[NBLOCKS + NDEVICES];
	unsigned nseams;
	uint64_t calls, changes, broken; /* broken: callbacks that break the device's own rules */
};

static uint32_t chance(struct hostile *hostile, uint32_t n)
{
	return steps_chance(&hostile->steps, n);
}

/* ---- devices ---- */

static bool obeys(const struct kvmas_access_rules *rules, const struct kvmas_access *access)
{
	unsigned max = rules->max ? rules->max : 8;

	if (access->size & (access->size - 1) || access->size < rules->min || access->size > max)
		return false;
	return rules->unaligned || access->offset % access->size == 0;
}

/* Any device of the map, this one too. */
static void change_map(struct hostile *hostile)
{
	struct device *device = &hostile->devices[chance(hostile, NDEVICES)];

	hostile->changes++;
	must(kvmas_region_set_enabled(device->region, chance(hostile, 4)));
}

static int be_accessed(struct device *device, const struct kvmas_access *access)
{
	static const int results[] = {-EIO, -EINVAL, -EBUSY, -ENOMEM, -ENXIO, -STRANGE};
	struct hostile *hostile = device->hostile;

	hostile->calls++;
	hostile->broken += !obeys(&device->ops.impl, access) || access->offset >= device->size ||
			   access->size > device->size - access->offset;
	if (chance(hostile, 64) == 0)
		change_map(hostile);
	return chance(hostile, 3) ? 0 : results[chance(hostile, LENGTH(results))];
}

static int read_device(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	/* Also bits above the size. */
	*value = UINT64_C(0x0123456789abcdef);
	return be_accessed(opaque, access);
}

static int write_device(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	(void)value;
	return be_accessed(opaque, access);
}

static struct kvmas_access_rules choose_rules(struct hostile *hostile)
{
	unsigned min = chance(hostile, 4), max = min + chance(hostile, 4 - min);

	return (struct kvmas_access_rules){
		.min = 1U << min, .max = 1U << max, .unaligned = chance(hostile, 2)};
}

static void put_device(struct hostile *hostile, struct kvmas_region *parent, uint64_t offset,
		       uint64_t size)
{
	struct device *device = &hostile->devices[hostile->ndevices++];

	*device = (struct device){.hostile = hostile, .size = size};
	device->ops = (struct kvmas_ops){
		.struct_size = sizeof(device->ops),
		.read = chance(hostile, 16) ? read_device : NULL,
		.write = chance(hostile, 16) ? write_device : NULL,
		.valid = choose_rules(hostile),
		.impl = choose_rules(hostile),
		.endian = chance(hostile, 2) ? KVMAS_BIG_ENDIAN : KVMAS_LITTLE_ENDIAN,
	};
	must(kvmas_region_new(hostile->g->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "device",
					   .size = size, .ops = &device->ops, .opaque = device),
			      &device->region));
	must(kvmas_region_add(parent, device->region, offset, (int)chance(hostile, 3)));
	kvmas_region_unref(device->region);
}

/* ---- memory ---- */

static unsigned char *map_between_guards(void)
{
	unsigned char *bytes =
		mmap(NULL, (BLOCK_PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(bytes, MAP_FAILED);
	bytes += PAGE;
	must(mprotect(bytes, BLOCK_PAGES * PAGE, PROT_READ | PROT_WRITE));
	memset(bytes, KEEP, BLOCK_PAGES * PAGE);
	return bytes;
}

static void put_block(struct hostile *hostile, unsigned i, uint64_t gpa)
{
	struct kvmas_region *region;
	struct kvmas_ram *ram;

	hostile->blocks[i] = map_between_guards();
	must(kvmas_ram_new(hostile->g->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "guarded", .size = BLOCK_PAGES * PAGE,
					.source = KVMAS_RAM_CALLER, .hva = hostile->blocks[i]),
			   &ram));
	must(kvmas_region_new(hostile->g->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "guarded",
					   .size = SHOWN, .ram = ram),
			      &region));
	must(kvmas_region_add(hostile->g->root[0], region, gpa, 1));
	kvmas_region_unref(region);
	kvmas_ram_unref(ram);
}

static void check_blocks(const struct hostile *hostile)
{
	for (unsigned i = 0; i < NBLOCKS; i++) {
		for (unsigned at = SHOWN; at < BLOCK_PAGES * PAGE; at++)
			assert_int_equal(hostile->blocks[i][at], KEEP);
	}
}

static int hostile_setup(void **state)
{
	*state = calloc(1, sizeof(struct hostile));
	return *state ? 0 : -1;
}

/* Blocks go when nothing shows them any more. */
static int hostile_teardown(void **state)
{
	struct hostile *hostile = *state;
	unsigned char *blocks[NBLOCKS];
	int err;

	memcpy(blocks, hostile->blocks, sizeof(blocks));
	err = guest_teardown(state);
	for (unsigned i = 0; i < NBLOCKS; i++) {
		if (blocks[i])
			munmap(blocks[i] - PAGE, (BLOCK_PAGES + 2) * PAGE);
	}
	return err;
}

#define HOSTILE_TEST(test) cmocka_unit_test_setup_teardown(test, hostile_setup, hostile_teardown)

/* ---- the map ---- */

static uint64_t choose_place(struct hostile *hostile, uint64_t limit)
{
	uint64_t place = (uint64_t)chance(hostile, UINT32_MAX) << 32 | chance(hostile, UINT32_MAX);

	return NPAGES * PAGE + (place & (limit - 1)) % (limit - NPAGES * PAGE);
}

/* Blocks on pages and not, across 4 GiB, at the end of all addresses; devices all around them, and
 * anywhere. */
static void fill_memory(struct hostile *hostile)
{
	const uint64_t places[NBLOCKS] = {0x100000, 0x200123, (UINT64_C(1) << 32) - 2 * PAGE,
					  hostile->limit - 0x2000};

	for (unsigned i = 0; i < NBLOCKS; i++) {
		put_block(hostile, i, places[i]);
		hostile->seams[hostile->nseams++] = places[i];
	}
	for (unsigned i = 0; i < NDEVICES; i++) {
		uint64_t near = places[chance(hostile, NBLOCKS)] + chance(hostile, 3 * PAGE);
		uint64_t place = i % 4 ? near : choose_place(hostile, hostile->limit);

		put_device(hostile, hostile->g->root[hostile->g->nspaces > 1 ? i % 2 : 0], place,
			   1 + chance(hostile, i % 3 ? 40 : 2 * PAGE));
		hostile->seams[hostile->nseams++] = place;
	}
}

static void fill_ports(struct hostile *hostile)
{
	struct kvmas_region *ports = make_container(hostile->g->f, "pio", 0x10000);

	for (unsigned i = 0; i < NDEVICES; i++)
		put_device(hostile, ports, i ? chance(hostile, 0x10000) : 0xfffe,
			   1 + chance(hostile, 0x1000));
	must(kvmas_kvm_set_pio_space(hostile->g->kvm, make_space(hostile->g->f, "pio", ports)));
}

static struct hostile *hostile_make(void **state)
{
	struct hostile *hostile = *state;

	guest_new(state, (struct guest_config){.npages = NPAGES});
	steps_init(&hostile->steps, hostile->g, true);
	hostile->limit = UINT64_C(1) << steps_gpa_bits();
	must(kvmas_begin(hostile->g->f->kvmas));
	fill_memory(hostile);
	fill_ports(hostile);
	must(kvmas_commit(hostile->g->f->kvmas));
	return hostile;
}

/* ---- what it does ---- */

static uint64_t choose_gpa(struct hostile *hostile, uint64_t limit)
{
	uint64_t gpa = hostile->seams[chance(hostile, hostile->nseams)];

	if (chance(hostile, 4) == 0)
		return choose_place(hostile, limit);
	gpa += chance(hostile, 4) ? chance(hostile, 64) : chance(hostile, 4 * PAGE);
	gpa -= chance(hostile, 32);
	return gpa < limit - PAGE && gpa >= NPAGES * PAGE ? gpa : limit - 1 - chance(hostile, 16);
}

/* What the registers hold as an address: in SMM one itself, in 64-bit mode one in the window. */
static uint64_t choose_address(struct hostile *hostile, uint64_t first, uint64_t second)
{
	if (hostile->steps.mode == STEP_SMM)
		return choose_gpa(hostile, UINT64_C(1) << 32);
	if (chance(hostile, 4) == 0)
		return STEP_WINDOW + PAGE - chance(hostile, 8);
	return STEP_WINDOW + (chance(hostile, 2) ? first % PAGE : PAGE + second % PAGE);
}

/* Of two pages, so that strings, which go both ways, mostly stay in the window: past it they would
 * end in a fault, of which a guest without handlers dies. */
static uint64_t choose_count(struct hostile *hostile, unsigned code)
{
	if (hostile->steps.mode == STEP_SMM)
		return chance(hostile, 40);
	return code >= STEP_INS_DOWN || chance(hostile, 64) ? chance(hostile, 20)
							    : chance(hostile, LONG_STRING);
}

/* Far enough from the window's ends, for a string of so many elements of 4 bytes. */
static uint64_t fit(uint64_t address, uint64_t count)
{
	uint64_t room = 4 * (count + 1), offset = address - STEP_WINDOW;

	if (address < STEP_WINDOW || address >= STEP_WINDOW + 2 * PAGE)
		return address;
	if (room > PAGE)
		return STEP_WINDOW;
	if (offset < room)
		offset = room;
	return STEP_WINDOW + (offset > 2 * PAGE - room ? 2 * PAGE - room : offset);
}

static void do_harm(struct hostile *hostile)
{
	struct steps *steps = &hostile->steps;
	unsigned code = STEP_READ + chance(hostile, STEP_CODES - STEP_READ);
	uint64_t first = choose_gpa(hostile, hostile->limit);
	uint64_t second = chance(hostile, 2) ? first + PAGE : choose_gpa(hostile, hostile->limit);
	struct kvm_regs regs = {.rax = chance(hostile, UINT32_MAX),
				.rdx = chance(hostile, 0x10000)};

	steps->mode = chance(hostile, steps->g->nspaces) ? STEP_SMM : STEP_LONG;
	if (second >= hostile->limit)
		second = first;
	steps_show(steps, first, second);
	regs.rcx = choose_count(hostile, code);
	regs.rbx = fit(choose_address(hostile, first, second), 2);
	regs.rsi = fit(choose_address(hostile, first, second), regs.rcx);
	regs.rdi = fit(choose_address(hostile, first, second), regs.rcx);
	step(steps, code, &regs);
}

/* ---- the tests ---- */

static void accesses_to_everything_end_soon_and_touch_nothing_else(void **state)
{
	struct hostile *hostile = hostile_make(state);
	struct kvmas_kvm_stats stats;
	double end = now() + seconds(3);
	uint64_t nsteps = 0;

	for (; now() < end || nsteps < 1000; nsteps++)
		do_harm(hostile);
	check_blocks(hostile);
	stats = guest_stats(hostile->g);
	print_message("hostile: %llu steps, %llu exits, %llu callbacks, %llu changes of the map, "
		      "%llu unassigned, %llu refused; the slowest exit took %llu us\n",
		      (unsigned long long)nsteps, (unsigned long long)hostile->steps.exits,
		      (unsigned long long)hostile->calls, (unsigned long long)hostile->changes,
		      (unsigned long long)stats.unassigned, (unsigned long long)stats.refused,
		      (unsigned long long)hostile->steps.slowest_ns / 1000);
	assert_true(hostile->steps.slowest_ns < SLOWEST_NS);
	assert_int_equal(hostile->broken, 0);
	assert_true(hostile->calls > 0 && hostile->changes > 0);
	assert_true(stats.unassigned > 0 && stats.refused > 0);
}

static void every_port_in_every_size_is_answered(void **state)
{
	struct hostile *hostile = hostile_make(state);
	struct steps *steps = &hostile->steps;

	for (unsigned port = 0; port < 0x10000; port += 1 + (port > 16 && port < 0xfff0) * 36) {
		for (unsigned size = 1; size <= 4; size *= 2) {
			step_in(steps, port, size);
			step_out(steps, port, size, port);
		}
	}
	assert_true(guest_stats(hostile->g).pio_exits > 0x10000 / 37 * 6);
	assert_true(steps->slowest_ns < SLOWEST_NS);
	assert_int_equal(hostile->broken, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOSTILE_TEST(accesses_to_everything_end_soon_and_touch_nothing_else),
		HOSTILE_TEST(every_port_in_every_size_is_answered),
	};

	return guest_main("live-exits-hostile", tests, LENGTH(tests), 1);
}

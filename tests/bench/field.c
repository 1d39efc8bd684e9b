/* SPDX-License-Identifier: MIT */
/*
 * Fields: n pages of RAM with gaps between them (scene.c), 65536 addresses in these pages, and five
 * ways to find the page of an address. What is found in each is summed up, and the sum must be what
 * the addresses were made of: so all ways do the same work, and no compiler may leave it out.
 *
 *     random       all pages alike, addresses distinct (as far as there are so many), shuffled
 *     sequential   page after page: each lookup finds the range behind the last one's
 *     repeated     one address
 *
 * A lookup begins when the one before it is told: who handles an exit has no other one at hand to
 * overlap it with. Each address waits for the sum so far, of which `nothing`, 0 but not known to
 * be, adds nothing to it.
 *
 * The binary search of an array is as anybody would write it.
 */
#include "field.h"

#include <stdlib.h>

#include "bench.h"
#ifdef HAVE_VM_MEMORY
#include "vm-memory/vm-memory.h"
#endif

const char *pattern_name(enum pattern pattern)
{
	static const char *const names[] = {"random", "sequential", "repeated"};

	return names[pattern];
}

const char *way_name(enum way way)
{
	static const char *const names[] = {"held", "pinned each", "array", "vm-memory held",
					    "vm-memory each"};

	return names[way];
}

bool way_is_there(enum way way)
{
#ifdef HAVE_VM_MEMORY
	(void)way;
	return true;
#else
	return way != WAY_VM_HELD && way != WAY_VM_EACH;
#endif
}

/* ---- addresses ---- */

/* Where in its page the k-th address of a page is: a step that is odd meets all bytes. */
static uint64_t offset_of(uint64_t k)
{
	return k * 61 % SCENE_PAGE;
}

static uint64_t address_of(const struct field *field, uint64_t i)
{
	unsigned n = field->scene.config.ndevices;

	return scene_place(&field->scene, (unsigned)(i % n)) + offset_of(i / n);
}

static void shuffle(struct field *field, uint64_t *addresses)
{
	for (size_t left = FIELD_NADDRESSES; left > 1; left--) {
		size_t other = scene_random(&field->scene, left);
		uint64_t swapped = addresses[left - 1];

		addresses[left - 1] = addresses[other];
		addresses[other] = swapped;
	}
}

static void make_addresses(struct field *field)
{
	unsigned n = field->scene.config.ndevices;

	for (enum pattern pattern = 0; pattern < NPATTERNS; pattern++) {
		field->addresses[pattern] = calloc(FIELD_NADDRESSES, sizeof(uint64_t));
		must(field->addresses[pattern] ? 0 : -ENOMEM);
	}
	for (uint64_t i = 0; i < FIELD_NADDRESSES; i++) {
		field->addresses[PATTERN_RANDOM][i] = address_of(field, i);
		field->addresses[PATTERN_SEQUENTIAL][i] = address_of(field, i);
		field->addresses[PATTERN_REPEATED][i] = address_of(field, n + n / 2);
		field->sums[PATTERN_SEQUENTIAL] += offset_of(i / n);
	}
	field->sums[PATTERN_RANDOM] = field->sums[PATTERN_SEQUENTIAL];
	field->sums[PATTERN_REPEATED] = FIELD_NADDRESSES * offset_of(1);
	shuffle(field, field->addresses[PATTERN_RANDOM]);
}

/* ---- life ---- */

static void make_ranges(struct field *field)
{
	unsigned n = field->scene.config.ndevices;

	field->ranges = calloc(n, sizeof(field->ranges[0]));
	must(field->ranges ? 0 : -ENOMEM);
	for (unsigned i = 0; i < n; i++)
		field->ranges[i] = (struct array_range){
			.first = scene_place(&field->scene, i),
			.last = scene_place(&field->scene, i) + SCENE_PAGE - 1,
			.region = field->scene.devices[i],
		};
}

#ifdef HAVE_VM_MEMORY
static void make_vm_memory(struct field *field)
{
	unsigned n = field->scene.config.ndevices;
	uint64_t *starts = calloc(n, sizeof(starts[0]));

	must(starts ? 0 : -ENOMEM);
	for (unsigned i = 0; i < n; i++)
		starts[i] = scene_place(&field->scene, i);
	must(vm_memory_new(starts, n, SCENE_PAGE, &field->vm_memory) ? -ENOMEM : 0);
	free(starts);
}
#endif

void field_open(struct field *field, unsigned nranges)
{
	*field = (struct field){0};
	scene_open(&field->scene,
		   &(struct scene_config){.ndevices = nranges, .nspaces = 2, .memory = true});
	must(kvmas_reader_add(field->scene.kvmas, &field->reader));
	make_addresses(field);
	make_ranges(field);
#ifdef HAVE_VM_MEMORY
	make_vm_memory(field);
#endif
}

void field_close(struct field *field)
{
#ifdef HAVE_VM_MEMORY
	vm_memory_free(field->vm_memory);
#endif
	kvmas_reader_del(field->reader);
	scene_close(&field->scene);
	free(field->ranges);
	for (enum pattern pattern = 0; pattern < NPATTERNS; pattern++)
		free(field->addresses[pattern]);
}

/* ---- looking ---- */

static uint64_t look_up(struct kvmas_reader *reader, const struct kvmas_view *view, uint64_t gpa)
{
	struct kvmas_place place;

	/* Foreseen to be found: else GCC makes the next lookup wait for this word. */
	if (__builtin_expect(kvmas_reader_lookup(reader, view, gpa, &place), 0))
		return 0;
	return place.offset;
}

static uint64_t run_held(struct kvmas_reader *reader, struct kvmas_space *space,
			 const struct addresses *addresses)
{
	const struct kvmas_view *view = kvmas_view_acquire(reader, space);
	uint64_t sum = 0;

	for (size_t i = 0; i < addresses->count; i++)
		sum += look_up(reader, view, addresses->at[i] + (sum & addresses->nothing));
	kvmas_view_release(reader, view);
	return sum;
}

uint64_t field_run_each(struct kvmas_reader *reader, struct kvmas_space *space,
			const struct addresses *addresses)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < addresses->count; i++) {
		const struct kvmas_view *view = kvmas_view_acquire(reader, space);

		sum += look_up(reader, view, addresses->at[i] + (sum & addresses->nothing));
		kvmas_view_release(reader, view);
	}
	return sum;
}

static const struct array_range *search(const struct array_range *ranges, size_t count,
					uint64_t address)
{
	size_t low = 0;

	while (low < count) {
		size_t middle = low + (count - low) / 2;

		if (address < ranges[middle].first)
			count = middle;
		else if (address > ranges[middle].last)
			low = middle + 1;
		else
			return &ranges[middle];
	}
	return NULL;
}

static uint64_t run_array(const struct field *field, const struct addresses *addresses)
{
	size_t nranges = field->scene.config.ndevices;
	uint64_t sum = 0;

	for (size_t i = 0; i < addresses->count; i++) {
		uint64_t address = addresses->at[i] + (sum & addresses->nothing);
		const struct array_range *range = search(field->ranges, nranges, address);

		sum += range ? address - range->first : 0;
	}
	return sum;
}

uint64_t field_run(const struct field *field, enum way way, enum pattern pattern, size_t count)
{
	const struct addresses addresses = {field->addresses[pattern], count, field->nothing};
	struct kvmas_space *space = field->scene.spaces[0];

	switch (way) {
	case WAY_HELD:
		return run_held(field->reader, space, &addresses);
	case WAY_EACH:
		return field_run_each(field->reader, space, &addresses);
	case WAY_ARRAY:
		return run_array(field, &addresses);
#ifdef HAVE_VM_MEMORY
	case WAY_VM_HELD:
		return vm_memory_find_held(field->vm_memory, addresses.at, count, field->nothing);
	case WAY_VM_EACH:
		return vm_memory_find_each(field->vm_memory, addresses.at, count, field->nothing);
#endif
	default:
		bench_expect(!"this way is there");
		return 0;
	}
}

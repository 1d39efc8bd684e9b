/* SPDX-License-Identifier: MIT */
/* Cells: see cells.h. */
#include "cells.h"

enum { NEAR = 12 };

uint64_t cells_near_seam(struct cells *cells, unsigned size)
{
	const uint64_t first = CELLS_FIRST * PAGE, end = first + CELLS_SIZE;
	uint64_t gpa = cells->seams[steps_chance(&cells->steps, cells->nseams)];

	gpa = gpa + steps_chance(&cells->steps, 2 * NEAR) - NEAR;
	if (gpa < first)
		return first;
	return gpa > end - size ? end - size : gpa;
}

/* ---- devices ---- */

static struct kvmas_vcpu *tie_of(const struct cells *cells)
{
	return cells->g->vcpus[0].tie;
}

static bool obeys(const struct kvmas_access_rules *rules, const struct kvmas_access *access)
{
	unsigned max = rules->max ? rules->max : 8;

	if (access->size & (access->size - 1) || access->size < rules->min || access->size > max)
		return false;
	return rules->unaligned || access->offset % access->size == 0;
}

/* As the header promises, each time. */
static void check_access(const struct row *row, const struct kvmas_access *access)
{
	const struct cells *cells = row->cells;
	unsigned as_id = steps_as_id(&cells->steps);

	assert_true(obeys(&row->ops.impl, access));
	assert_true(access->offset < row->size && access->size <= row->size - access->offset);
	assert_int_equal(access->smm, as_id == 1);
	assert_ptr_equal(access->space, cells->g->space[as_id]);
	assert_ptr_equal(access->requester, &cells->g->vcpus[0]);
	assert_ptr_equal(access->reader, kvmas_vcpu_get_reader(tie_of(cells)));
}

/* The byte of a value that has the (i + 1)-th address. */
static unsigned shift_of(const struct row *row, unsigned size, unsigned i)
{
	return 8 * (row->ops.endian == KVMAS_BIG_ENDIAN ? size - 1 - i : i);
}

static int read_row(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct row *row = opaque;

	check_access(row, access);
	row->reads[access->smm]++;
	if (row->result)
		return row->result;
	*value = 0;
	for (unsigned i = 0; i < access->size; i++)
		*value |= (uint64_t)row->bytes[access->offset + i]
			  << shift_of(row, access->size, i);
	return 0;
}

static int write_row(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct row *row = opaque;

	check_access(row, access);
	row->writes[access->smm]++;
	if (row->result)
		return row->result;
	for (unsigned i = 0; i < access->size; i++)
		row->bytes[access->offset + i] =
			(unsigned char)(value >> shift_of(row, access->size, i));
	return 0;
}

static void trace_unassigned(void *data, const struct kvmas_access *access, bool write,
			     uint64_t value)
{
	struct cells *cells = data;
	unsigned as_id = steps_as_id(&cells->steps);

	(void)write;
	(void)value;
	assert_in_range(access->size, 1, 8);
	assert_int_equal(access->smm, as_id == 1);
	assert_true(access->space == cells->g->space[as_id] || access->space == cells->pio);
	cells->told += access->size;
	cells->traces++;
}

/* ---- rows ---- */

static struct row *new_row(struct cells *cells, size_t size)
{
	struct row *row = &cells->rows[cells->nrows++];

	assert_true(cells->nrows <= MAX_ROWS && size <= sizeof(cells->arena) - cells->used);
	*row = (struct row){.cells = cells, .size = size, .expected = cells->arena + cells->used};
	cells->used += size;
	return row;
}

/* Bytes that differ from their neighbours, and from those of other rows. */
static void fill_row(struct row *row)
{
	for (size_t i = 0; i < row->size; i++) {
		row->bytes[i] = (unsigned char)steps_chance(&row->cells->steps, 255);
		row->expected[i] = row->bytes[i];
	}
}

struct row *cells_device(struct cells *cells, size_t size, struct kvmas_ops ops)
{
	struct row *row = new_row(cells, size);

	assert_true(size <= sizeof(cells->arena) - cells->used);
	row->bytes = cells->arena + cells->used;
	cells->used += size;
	row->ops = ops;
	row->ops.struct_size = sizeof(ops);
	row->ops.read = read_row;
	row->ops.write = write_row;
	fill_row(row);
	return row;
}

/* The region that is put on it holds the block. */
struct row *cells_block(struct cells *cells, size_t size)
{
	struct row *row = new_row(cells, size);

	row->ram = make_block(cells->g->f, "block", (size + PAGE - 1) / PAGE);
	row->bytes = kvmas_ram_get_hva(row->ram);
	fill_row(row);
	return row;
}

/* ---- the map ---- */

static void add_seam(struct cells *cells, uint64_t gpa)
{
	assert_true(cells->nseams < MAX_SEAMS);
	cells->seams[cells->nseams++] = gpa;
}

static void paint(struct cells *cells, unsigned as_id, uint64_t gpa, const struct row *reads,
		  const struct row *writes)
{
	uint64_t first = gpa - CELLS_FIRST * PAGE;

	for (size_t i = 0; i < reads->size; i++)
		cells->at[as_id][first + i] = (struct cell){
			.read = reads->expected + i,
			.write = writes ? writes->expected + i : NULL,
		};
}

struct kvmas_region *cells_put(struct cells *cells, unsigned as_id, uint64_t gpa,
			       struct kvmas_region_config config, struct row *device,
			       struct row *memory)
{
	bool is_rom = config.kind == KVMAS_REGION_ROM;
	struct kvmas_region *region;

	config.struct_size = sizeof(config);
	config.size = memory ? memory->size : device->size;
	config.opaque = device;
	config.ops = device ? &device->ops : NULL;
	config.ram = memory ? memory->ram : NULL;
	must(kvmas_region_new(cells->g->f->kvmas, &config, &region));
	must(kvmas_region_add(cells->g->root[as_id], region, gpa, 1));
	kvmas_region_unref(region);
	if (memory)
		kvmas_ram_unref(memory->ram);
	for (unsigned i = as_id; i < MAX_SPACES; i++)
		paint(cells, i, gpa, memory ? memory : device,
		      is_rom   ? NULL
		      : device ? device
			       : memory);
	add_seam(cells, gpa);
	add_seam(cells, gpa + config.size);
	return region;
}

void cells_put_ram(struct cells *cells, uint64_t gpa, size_t size)
{
	const struct row ram = {.expected = cells->rows[0].expected + (gpa - CELLS_FIRST * PAGE),
				.size = size};

	add(cells->g->root[1], make_alias(cells->g->f, "ram", cells->g->memory, gpa, size), gpa, 1);
	paint(cells, 1, gpa, &ram, &ram);
	add_seam(cells, gpa);
	add_seam(cells, gpa + size);
}

int cells_setup(void **state)
{
	struct cells *cells = calloc(1, sizeof(*cells));

	if (!cells)
		return -1;
	*state = cells;
	return 0;
}

struct cells *cells_make(void **state)
{
	struct cells *cells = *state;
	struct row *ram;

	guest_new(state, (struct guest_config){.npages = CELLS_RAM_END,
					       .kvmas = {.trace_unassigned = trace_unassigned,
							 .trace_data = cells}});
	steps_init(&cells->steps, cells->g, false);
	ram = new_row(cells, (CELLS_RAM_END - CELLS_FIRST) * PAGE);
	ram->ram = cells->g->ram;
	ram->bytes = cells->g->bytes + (size_t)CELLS_FIRST * PAGE;
	fill_row(ram);
	for (unsigned i = 0; i < MAX_SPACES; i++)
		paint(cells, i, CELLS_FIRST * PAGE, ram, ram);
	add_seam(cells, CELLS_RAM_END * PAGE);
	return cells;
}

/* ---- accesses ---- */

static struct cell *cell_at(struct cells *cells, uint64_t gpa)
{
	uint64_t at = gpa - CELLS_FIRST * PAGE;

	assert_true(at < CELLS_SIZE);
	return &cells->at[steps_as_id(&cells->steps)][at];
}

void cells_read(struct cells *cells, uint64_t gpa, void *bytes, size_t size)
{
	unsigned char *to = bytes;

	for (size_t i = 0; i < size; i++) {
		const unsigned char *from = cell_at(cells, gpa + i)->read;

		cells->nothing += !from;
		to[i] = from ? *from : 0xff;
	}
}

void cells_write(struct cells *cells, uint64_t gpa, const void *bytes, size_t size)
{
	const unsigned char *from = bytes;

	for (size_t i = 0; i < size; i++) {
		const struct cell *cell = cell_at(cells, gpa + i);

		cells->nothing += !cell->read;
		if (cell->write)
			*cell->write = from[i];
	}
}

void cells_step_read(struct cells *cells, uint64_t gpa, unsigned size)
{
	uint64_t expected = 0, found = step_read(&cells->steps, gpa, size);

	cells_read(cells, gpa, &expected, size);
	if (found != expected)
		fail_msg("%u bytes at 0x%llx in space %u are 0x%llx, not 0x%llx", size,
			 (unsigned long long)gpa, steps_as_id(&cells->steps),
			 (unsigned long long)found, (unsigned long long)expected);
}

void cells_step_write(struct cells *cells, uint64_t gpa, unsigned size, uint64_t value)
{
	step_write(&cells->steps, gpa, size, value);
	cells_write(cells, gpa, &value, size);
}

bool cells_are_right(const struct cells *cells)
{
	for (unsigned i = 0; i < cells->nrows; i++) {
		const struct row *row = &cells->rows[i];

		if (memcmp(row->bytes, row->expected, row->size) != 0)
			return false;
	}
	return cells->told == cells->nothing && guest_stats(cells->g).unassigned == cells->traces;
}

void cells_check(struct cells *cells)
{
	for (unsigned i = 0; i < cells->nrows; i++)
		assert_memory_equal(cells->rows[i].bytes, cells->rows[i].expected,
				    cells->rows[i].size);
	assert_int_equal(cells->told, cells->nothing);
	assert_true(cells_are_right(cells));
}

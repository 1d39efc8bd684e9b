/* SPDX-License-Identifier: MIT */
/* See access-model.h. Read access_world_step first. */
#include "access-model.h"

#include <inttypes.h>
#include <stdio.h>

#define TOP UINT64_MAX
#define BLOCK_SIZE (BLOCK_PAGES * page_size())

/* ---- choices ---- */

/* A number below n, which is 65536 at most. */
static unsigned draw(struct access_world *w, unsigned n)
{
	return choose(&w->choices, n);
}

static bool rarely(struct access_world *w, unsigned n)
{
	return draw(w, n) == n - 1;
}

/* ---- events ---- */

void access_event(struct side *side, struct event event)
{
	if (side->nevents < MAX_EVENTS)
		side->events[side->nevents] = event;
	side->nevents++;
}

static void print_events(const char *name, const struct side *side)
{
	for (unsigned i = 0; i < side->nevents && i < MAX_EVENTS; i++) {
		const struct event *e = &side->events[i];

		print_error("%s %c %" PRIu64 "+0x%" PRIx64 " %" PRIu64 " = 0x%" PRIx64
			    ", err %" PRId64 ", done %" PRIu64 ", %" PRIu64 " %" PRIu64 "\n",
			    name, (char)e->kind, e->thing, e->at, e->size, e->value, e->err,
			    e->done, e->unassigned, e->refused);
	}
}

/* ---- callbacks ---- */

static void dispatch(struct access_world *w, struct kvmas_reader *reader,
		     const struct request *request, struct outcome *outcome)
{
	struct dispatch d = {
		.reader = reader,
		.space = w->space,
		.requester = w,
		.write = request->write,
		.whole = request->whole,
	};

	outcome->err =
		kas_dispatch(&d, request->address, outcome->bytes, request->size, &outcome->done);
	outcome->unassigned = d.unassigned;
	outcome->refused = d.refused;
}

static void relay(const struct gadget *gadget, struct kvmas_reader *reader)
{
	struct side *side = &gadget->w->is;
	struct outcome outcome = {0};
	uint64_t value = 0;

	if (!gadget->relays || side->budget == 0)
		return;
	side->budget--;
	memset(outcome.bytes, 0x90 + (int)gadget->index, gadget->relay.size);
	dispatch(gadget->w, reader, &gadget->relay, &outcome);
	for (unsigned i = 0; i < gadget->relay.size && !outcome.err; i++)
		value = value << 8 | outcome.bytes[i];
	gadget->w->tally->inner++;
	gadget->w->tally->inner_errors[-outcome.err]++;
	access_event(side, (struct event){
				   .kind = 'n',
				   .thing = gadget->index,
				   .value = value,
				   .err = outcome.err,
				   .done = outcome.done,
				   .unassigned = outcome.unassigned,
				   .refused = outcome.refused,
			   });
}

/* What every callback is promised; whether this device refuses. */
static bool is_called(const struct gadget *gadget, const struct kvmas_access *access, bool write,
		      uint64_t value)
{
	const struct kvmas_access_rules *impl = &gadget->ops.impl;
	uint64_t refuses = write ? gadget->refuses_writes : gadget->refuses_reads;
	bool refused = false;

	assert_true(access->size >= impl->min && access->size <= (impl->max ? impl->max : 8));
	assert_int_equal(access->size & (access->size - 1), 0);
	assert_true(impl->unaligned || access->offset % access->size == 0);
	assert_true(access->offset + access->size <= gadget->size);
	assert_ptr_equal(access->space, gadget->w->space);
	assert_ptr_equal(access->requester, gadget->w);
	assert_ptr_equal(access->reader, gadget->w->f->reader);
	gadget->w->tally->calls++;
	access_event(&gadget->w->is, (struct event){.kind = write ? 'w' : 'r',
						    .thing = gadget->index,
						    .at = access->offset,
						    .size = access->size,
						    .value = value});
	relay(gadget, access->reader);
	for (unsigned i = 0; i < access->size; i++)
		refused |= refuses >> (access->offset + i) % REGISTERS & 1;
	return refused;
}

static unsigned char *register_of(const struct gadget *gadget, const struct kvmas_access *access,
				  unsigned significance)
{
	unsigned place = significance;

	if (gadget->ops.endian == KVMAS_BIG_ENDIAN)
		place = access->size - 1 - significance;
	return &gadget->w->is.registers[gadget->index][(access->offset + place) % REGISTERS];
}

static int read_gadget(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	const struct gadget *gadget = opaque;

	if (is_called(gadget, access, false, 0))
		return gadget->error;
	*value = 0x5a;
	for (unsigned i = access->size; i-- > 0;)
		*value = *value << 8 | *register_of(gadget, access, i);
	return 0;
}

static int write_gadget(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	const struct gadget *gadget = opaque;

	if (is_called(gadget, access, true, value))
		return gadget->error;
	for (unsigned i = 0; i < access->size; i++)
		*register_of(gadget, access, i) = (unsigned char)(value >> 8 * i);
	return 0;
}

static void trace(void *data, const struct kvmas_access *access, bool write, uint64_t value)
{
	struct access_world *w = data;

	(void)write;
	assert_ptr_equal(access->space, w->space);
	assert_ptr_equal(access->reader, w->f->reader);
	access_event(&w->is, (struct event){.kind = 't',
					    .at = access->offset,
					    .size = access->size,
					    .value = value});
}

/* ---- making ---- */

static struct kvmas_access_rules draw_rules(struct access_world *w)
{
	static const unsigned sizes[] = {1, 2, 4, 8};
	unsigned min = rarely(w, 2) ? draw(w, 4) : 0;
	unsigned max = min + draw(w, 4 - min);

	return (struct kvmas_access_rules){
		.min = min || rarely(w, 2) ? sizes[min] : 0,
		.max = max < 3 || rarely(w, 2) ? sizes[max] : 0,
		.unaligned = draw(w, 2),
	};
}

static uint64_t draw_mask(struct access_world *w)
{
	uint64_t mask = 0;

	for (unsigned n = rarely(w, 3) ? draw(w, 8) : 0; n; n--)
		mask |= UINT64_C(1) << draw(w, REGISTERS);
	return mask;
}

static struct request draw_request(struct access_world *w, unsigned max)
{
	return (struct request){
		.address = w->base + draw(w, SPAN + 16) - 8,
		.size = rarely(w, 8) ? draw(w, max + 1) : draw(w, 8) + 1,
		.write = draw(w, 2),
		.whole = draw(w, 2),
	};
}

static uint64_t draw_size(struct access_world *w)
{
	return REGISTERS - draw(w, rarely(w, 4) ? REGISTERS : 16);
}

static void draw_device(struct access_world *w, struct gadget *gadget)
{
	gadget->ops = (struct kvmas_ops){
		.struct_size = sizeof(gadget->ops),
		.read = rarely(w, 12) ? NULL : read_gadget,
		.write = rarely(w, 12) ? NULL : write_gadget,
		.valid = draw_rules(w),
		.impl = draw_rules(w),
		.endian = draw(w, 2) ? KVMAS_BIG_ENDIAN : KVMAS_LITTLE_ENDIAN,
	};
	gadget->guard = draw(w, 4);
	gadget->refuses_reads = draw_mask(w);
	gadget->refuses_writes = draw_mask(w);
	gadget->error = draw(w, 2) ? -ENODEV : -EPERM;
	gadget->relays = rarely(w, 3);
	gadget->relay = draw_request(w, 8);
	if (gadget->relay.size > 8)
		gadget->relay.size = 8;
}

static void make_gadget(struct access_world *w, unsigned index)
{
	static const enum kvmas_region_kind kinds[NTHINGS] = {
		KVMAS_REGION_RAM,  KVMAS_REGION_MMIO, KVMAS_REGION_MMIO, KVMAS_REGION_ROMD,
		KVMAS_REGION_MMIO, KVMAS_REGION_ROM,  KVMAS_REGION_RAM,  KVMAS_REGION_RESERVED,
	};
	struct gadget *gadget = &w->things[index];
	struct kvmas_region_config config = {.struct_size = sizeof(config)};

	gadget->w = w;
	gadget->index = index;
	gadget->kind = kinds[index];
	gadget->romd = gadget->kind == KVMAS_REGION_ROMD;
	gadget->block = index % NBLOCKS;
	gadget->size = gadget->kind == KVMAS_REGION_MMIO ? draw_size(w) : BLOCK_SIZE - draw(w, 8);
	config.kind = gadget->kind;
	config.name = "thing";
	config.size = gadget->size;
	config.opaque = gadget;
	if (gadget->kind == KVMAS_REGION_MMIO || gadget->romd) {
		draw_device(w, gadget);
		config.ops = &gadget->ops;
		config.guard = gadget->guard ? &w->things[gadget->guard] : NULL;
	}
	if (gadget->kind != KVMAS_REGION_MMIO && gadget->kind != KVMAS_REGION_RESERVED)
		config.ram = w->blocks[gadget->block];
	must(kvmas_region_new(w->f->kvmas, &config, &gadget->region));
}

/* Around the borders of pages and things is where it is interesting. */
static uint64_t draw_target(struct access_world *w, const struct gadget *gadget)
{
	uint64_t border = draw(w, 3) * page_size();

	if (gadget->kind == KVMAS_REGION_MMIO)
		return draw(w, rarely(w, 3) ? (unsigned)gadget->size : 16);
	return border ? border - 1 - draw(w, CELL) : draw(w, CELL);
}

static void aim_cell(struct access_world *w, unsigned index)
{
	struct cell *cell = &w->cells[index];
	const struct cell *before = &w->cells[index ? index - 1 : 0];

	cell->thing = draw(w, NTHINGS);
	cell->target_offset = draw_target(w, &w->things[cell->thing]);
	if (index && rarely(w, 4)) { /* one range, if the two touch */
		cell->thing = before->thing;
		cell->target_offset = before->target_offset + before->size;
	}
}

static void make_cell(struct access_world *w, unsigned index)
{
	struct cell *cell = &w->cells[index];

	aim_cell(w, index);
	cell->enabled = true;
	cell->shift = rarely(w, 3) ? draw(w, CELL) : 0;
	cell->size = CELL - cell->shift;
	if (rarely(w, 3))
		cell->size -= draw(w, cell->size);
	must(kvmas_region_new(w->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "cell",
					   .size = cell->size,
					   .target = w->things[cell->thing].region,
					   .target_offset = cell->target_offset),
			      &cell->alias));
	must(kvmas_region_add(w->root, cell->alias, w->base + index * CELL + cell->shift, 0));
}

static void make_memory(struct access_world *w)
{
	for (unsigned i = 0; i < NBLOCKS; i++) {
		w->blocks[i] = make_block(w->f, "block", BLOCK_PAGES);
		w->is.memory[i] = kvmas_ram_get_hva(w->blocks[i]);
		w->must_be.memory[i] = malloc(BLOCK_SIZE);
		assert_non_null(w->must_be.memory[i]);
		for (unsigned at = 0; at < BLOCK_SIZE; at++)
			w->is.memory[i][at] = (unsigned char)(at * 7 + i);
		memcpy(w->must_be.memory[i], w->is.memory[i], BLOCK_SIZE);
	}
}

struct access_world *access_world_new(struct choices choices, struct access_tally *tally)
{
	struct access_world *w = calloc(1, sizeof(*w));
	struct kvmas_config config = {.struct_size = sizeof(config), .trace_data = w};

	assert_non_null(w);
	w->choices = choices;
	w->tally = tally;
	w->base = draw(w, 2) ? TOP - SPAN + 1 : 0;
	w->traced = draw(w, 2);
	config.unassigned = draw(w, 2) ? KVMAS_UNASSIGNED_ZEROS : KVMAS_UNASSIGNED_ONES;
	config.trace_unassigned = w->traced ? trace : NULL;
	w->f = fixture_new(config);
	make_memory(w);
	w->root = make_container(w->f, "root", KVMAS_SIZE_MAX);
	must(kvmas_begin(w->f->kvmas));
	for (unsigned i = 0; i < NTHINGS; i++)
		make_gadget(w, i);
	for (unsigned i = 0; i < NCELLS; i++)
		make_cell(w, i);
	must(kvmas_commit(w->f->kvmas));
	w->space = make_space(w->f, "space", w->root);
	must(kvmas_client_new(w->f->kvmas, "client", &w->client));
	for (unsigned i = 0; i < NTHINGS * REGISTERS; i++)
		w->is.registers[i / REGISTERS][i % REGISTERS] = (unsigned char)(i * 5 + 3);
	memcpy(w->must_be.registers, w->is.registers, sizeof(w->is.registers));
	return w;
}

void access_world_free(struct access_world *w)
{
	for (unsigned i = 0; i < NCELLS; i++)
		kvmas_region_unref(w->cells[i].alias);
	for (unsigned i = 0; i < NTHINGS; i++)
		kvmas_region_unref(w->things[i].region);
	for (unsigned i = 0; i < NBLOCKS; i++) {
		kvmas_ram_unref(w->blocks[i]);
		free(w->must_be.memory[i]);
	}
	kvmas_client_unref(w->client);
	fixture_free(w->f);
	free(w);
}

/* ---- steps ---- */

static void edit_cell(struct access_world *w)
{
	unsigned index = draw(w, NCELLS);
	struct cell *cell = &w->cells[index];

	switch (draw(w, 4)) {
	case 0:
		if (cell->enabled && draw(w, 3))
			break;
		cell->enabled = !cell->enabled;
		must(kvmas_region_set_enabled(cell->alias, cell->enabled));
		break;
	case 1:
		cell->readonly = !cell->readonly;
		must(kvmas_region_set_readonly(cell->alias, cell->readonly));
		break;
	default:
		aim_cell(w, index);
		must(kvmas_region_set_alias(cell->alias, w->things[cell->thing].region,
					    cell->target_offset));
	}
}

static void edit_thing(struct access_world *w)
{
	struct gadget *gadget = &w->things[draw(w, NTHINGS)];

	if (gadget->kind == KVMAS_REGION_ROMD) {
		gadget->romd = !gadget->romd;
		must(kvmas_region_set_romd(gadget->region, gadget->romd));
	} else if (gadget->kind == KVMAS_REGION_MMIO) {
		gadget->size = draw_size(w);
		must(kvmas_region_set_size(gadget->region, gadget->size));
	}
}

static void compare_sides(struct access_world *w)
{
	if (w->is.nevents != w->must_be.nevents ||
	    memcmp(w->is.events, w->must_be.events, w->is.nevents * sizeof(struct event)) != 0) {
		print_events("is", &w->is);
		print_events("must be", &w->must_be);
		fail_msg("other callbacks were called");
	}
	assert_memory_equal(w->is.registers, w->must_be.registers, sizeof(w->is.registers));
	for (unsigned i = 0; i < NBLOCKS; i++) {
		uint64_t dirty = 0;

		assert_true(kvmas_client_take(w->client, w->blocks[i], 0, BLOCK_PAGES, &dirty) >=
			    0);
		assert_int_equal(dirty, w->must_be.dirty[i]);
		w->tally->dirtied += dirty != 0;
		assert_memory_equal(w->is.memory[i], w->must_be.memory[i], BLOCK_SIZE);
	}
}

static void count(struct access_tally *tally, const struct outcome *outcome)
{
	tally->accesses++;
	tally->unassigned += outcome->unassigned;
	tally->refused += outcome->refused;
	tally->errors[-outcome->err]++;
	tally->partial += outcome->err && outcome->done % 2;
}

static void access_both(struct access_world *w)
{
	struct request request = draw_request(w, MAX_ACCESS);
	struct outcome expected = {0}, outcome;
	size_t kept;

	for (unsigned i = 0, byte = draw(w, 256); i < MAX_ACCESS; i++, byte = byte * 5 + 1)
		expected.bytes[i] = (unsigned char)byte;
	outcome = expected;
	w->is.nevents = w->must_be.nevents = 0;
	w->is.budget = w->must_be.budget = draw(w, 24);
	memset(w->must_be.dirty, 0, sizeof(w->must_be.dirty));
	oracle_access(w, &request, &expected);
	dispatch(w, w->f->reader, &request, &outcome);
	count(w->tally, &outcome);
	assert_int_equal(outcome.err, expected.err);
	assert_int_equal(outcome.done, expected.done);
	assert_int_equal(outcome.unassigned, expected.unassigned);
	assert_int_equal(outcome.refused, expected.refused);
	kept = request.write ? MAX_ACCESS : outcome.done;
	assert_memory_equal(outcome.bytes, expected.bytes, kept ? kept : 1);
	assert_memory_equal(outcome.bytes + request.size, expected.bytes + request.size,
			    MAX_ACCESS - request.size + (request.size == MAX_ACCESS));
	assert_null(w->f->reader->innermost);
	compare_sides(w);
}

bool access_world_step(struct access_world *w)
{
	unsigned long calls;

	if (w->choices.bytes && w->choices.count == 0)
		return false;
	if (rarely(w, 6)) {
		w->tally->edits++;
		if (rarely(w, 3))
			edit_thing(w);
		else
			edit_cell(w);
		return true;
	}
	calls = w->f->heap.calls;
	access_both(w);
	assert_int_equal(w->f->heap.calls, calls);
	return true;
}

/* SPDX-License-Identifier: MIT */
/*
 * What an access must do: kvmas.h's words on struct kvmas_ops, byte by byte, on tables. It shares
 * no code with the library, and searches where that computes. Read access_within first.
 */
#include "access-model.h"

/* Who is around an access: the guards of the callbacks that it is made from. */
struct around {
	unsigned depth;
	unsigned guards[MAX_FRAMES];
};

/* Where an address leads. */
struct spot {
	const struct gadget *gadget; /* NULL: nowhere */
	uint64_t offset;
	bool readonly;
};

/* An access that goes on. */
struct going {
	struct access_world *w;
	const struct request *request;
	const struct around *around;
	struct outcome *outcome;
};

static void access_within(struct access_world *w, const struct request *request,
			  const struct around *around, struct outcome *outcome);

static struct spot spot_at(struct access_world *w, uint64_t address)
{
	uint64_t inside = address - w->base;
	const struct cell *cell = &w->cells[inside / CELL % NCELLS];
	uint64_t at = inside % CELL - cell->shift;
	const struct gadget *gadget = &w->things[cell->thing];

	if (inside >= SPAN || !cell->enabled || inside % CELL < cell->shift || at >= cell->size ||
	    cell->target_offset + at >= gadget->size)
		return (struct spot){0};
	return (struct spot){gadget, cell->target_offset + at,
			     cell->readonly || gadget->kind == KVMAS_REGION_ROM};
}

/* How many bytes from *address* on, at most *size*, one range answers, or none does. */
static unsigned run_at(struct access_world *w, uint64_t address, unsigned size)
{
	struct spot first = spot_at(w, address);
	unsigned n;

	for (n = 1; n < size && address + n != 0; n++) {
		struct spot next = spot_at(w, address + n);

		if (next.gadget != first.gadget ||
		    (first.gadget &&
		     (next.offset != first.offset + n || next.readonly != first.readonly)))
			break;
	}
	return n;
}

/* ---- what cannot be had ---- */

/* True if the access goes on. */
static bool gives_up(struct going *going, unsigned size, int err)
{
	struct outcome *outcome = going->outcome;

	if (!going->request->whole) {
		outcome->err = err;
		return false;
	}
	for (unsigned i = 0; i < size && !going->request->write; i++)
		outcome->bytes[outcome->done + i] = kas_unassigned_byte(going->w->f->kvmas);
	outcome->done += size;
	return true;
}

static bool is_refused(struct going *going, unsigned size, int err)
{
	going->outcome->refused++;
	return gives_up(going, size, err);
}

static bool finds_nothing(struct going *going, uint64_t address, unsigned size)
{
	const unsigned char *bytes = going->outcome->bytes + going->outcome->done;
	uint64_t value = 0;

	for (unsigned i = size; i-- > 0 && going->request->write;)
		value = value << 8 | bytes[i];
	if (going->w->traced && going->around->depth < MAX_FRAMES)
		access_event(
			&going->w->must_be,
			(struct event){.kind = 't', .at = address, .size = size, .value = value});
	going->outcome->unassigned++;
	return gives_up(going, size, -ENXIO);
}

/* ---- memory ---- */

static void access_memory(struct going *going, const struct spot *spot, unsigned size)
{
	struct side *side = &going->w->must_be;
	unsigned block = spot->gadget->block;
	unsigned char *bytes = going->outcome->bytes + going->outcome->done;

	for (unsigned i = 0; i < size; i++) {
		unsigned char *at = side->memory[block] + spot->offset + i;

		if (going->request->write) {
			*at = bytes[i];
			side->dirty[block] |= UINT64_C(1) << (spot->offset + i) / page_size();
		} else {
			bytes[i] = *at;
		}
	}
	going->outcome->done += size;
}

/* ---- devices ---- */

/* What the device does before it answers. */
static void relay(struct going *going, const struct gadget *gadget)
{
	struct side *side = &going->w->must_be;
	struct around inside = *going->around;
	struct outcome outcome = {0};
	uint64_t value = 0;

	if (!gadget->relays || side->budget == 0)
		return;
	side->budget--;
	inside.guards[inside.depth++] = gadget->guard;
	memset(outcome.bytes, 0x90 + (int)gadget->index, gadget->relay.size);
	access_within(going->w, &gadget->relay, &inside, &outcome);
	for (unsigned i = 0; i < gadget->relay.size && !outcome.err; i++)
		value = value << 8 | outcome.bytes[i];
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

/* A call of the read or write callback, for bytes in the order of their addresses. */
static int call(struct going *going, const struct gadget *gadget, const struct event *unit,
		unsigned char *bytes)
{
	struct side *side = &going->w->must_be;
	bool write = unit->kind == 'w';
	uint64_t refuses = write ? gadget->refuses_writes : gadget->refuses_reads;
	struct event event = *unit;
	bool refused = false;

	for (unsigned i = 0; i < unit->size && write; i++) {
		bool big = gadget->ops.endian == KVMAS_BIG_ENDIAN;
		unsigned place = big ? (unsigned)unit->size - 1 - i : i;

		event.value |= (uint64_t)bytes[i] << 8 * place;
	}
	access_event(side, event);
	relay(going, gadget);
	for (unsigned i = 0; i < unit->size; i++)
		refused |= refuses >> (unit->at + i) % REGISTERS & 1;
	if (refused)
		return gadget->error;
	for (unsigned i = 0; i < unit->size; i++) {
		unsigned char *at = &side->registers[gadget->index][(unit->at + i) % REGISTERS];

		if (write)
			*at = bytes[i];
		else
			bytes[i] = *at;
	}
	return 0;
}

/* *count* bytes of a unit, from its byte *skip* on. */
static int access_unit(struct going *going, const struct gadget *gadget, const struct event *unit,
		       unsigned skip, unsigned count)
{
	unsigned char *bytes = going->outcome->bytes + going->outcome->done;
	unsigned char all[8];
	struct event read = *unit;
	int err;

	if (unit->at + unit->size > gadget->size)
		return -EINVAL;
	if (count < unit->size)
		going->w->tally->widened++;
	read.kind = 'r';
	memset(all, 0xff, 8);
	if (!going->request->write) {
		err = gadget->ops.read ? call(going, gadget, &read, all) : 0;
		memcpy(bytes, all + skip, err ? 0 : count);
		return err;
	}
	if (!gadget->ops.write)
		return 0;
	if (count < unit->size && (!gadget->ops.read || call(going, gadget, &read, all)))
		memset(all, 0, 8);
	memcpy(all + skip, bytes, count);
	return call(going, gadget, unit, all);
}

/* The largest size that rules allow at *offset*; 0 for none. */
static unsigned largest(const struct kvmas_access_rules *rules, uint64_t offset, unsigned size)
{
	unsigned max = rules->max ? rules->max : 8;

	for (unsigned n = 8; n; n /= 2) {
		if (n <= max && n <= size && (rules->unaligned || offset % n == 0))
			return n;
	}
	return 0;
}

/* A valid piece, in units. False if the access ends. */
static bool access_piece(struct going *going, const struct spot *spot, unsigned size)
{
	const struct kvmas_access_rules *impl = &spot->gadget->ops.impl;

	for (unsigned done = 0, count; done < size; done += count) {
		uint64_t offset = spot->offset + done;
		struct event unit = {.kind = going->request->write ? 'w' : 'r',
				     .thing = spot->gadget->index,
				     .at = offset,
				     .size = largest(impl, offset, size - done)};
		int err;

		if (unit.size < impl->min) {
			unit.size = impl->min;
			unit.at = offset / impl->min * impl->min;
		}
		count = 0;
		while (done + count < size && offset + count < unit.at + unit.size)
			count++;
		err = access_unit(going, spot->gadget, &unit, (unsigned)(offset - unit.at), count);
		if (!err)
			going->outcome->done += count;
		else if (!is_refused(going, count, err))
			return false;
	}
	return true;
}

static bool access_device(struct going *going, const struct spot *spot, unsigned run)
{
	unsigned size = largest(&spot->gadget->ops.valid, spot->offset, run);
	const struct around *around = going->around;

	if (size < spot->gadget->ops.valid.min)
		return is_refused(going, size, -EINVAL);
	for (unsigned i = 0; i < around->depth; i++) {
		if (spot->gadget->guard && around->guards[i] == spot->gadget->guard)
			return is_refused(going, size, -EBUSY);
	}
	if (around->depth == MAX_FRAMES)
		return is_refused(going, size, -ELOOP);
	return access_piece(going, spot, size);
}

/* ---- all of them ---- */

static bool access_run(struct going *going, uint64_t address, unsigned run)
{
	struct spot spot = spot_at(going->w, address);
	const struct gadget *gadget = spot.gadget;
	bool write = going->request->write;

	if (!gadget || gadget->kind == KVMAS_REGION_RESERVED)
		return finds_nothing(going, address, run < 8 ? run : 8);
	if (write && spot.readonly)
		return gives_up(going, run, -EROFS);
	if (gadget->kind == KVMAS_REGION_MMIO ||
	    (gadget->kind == KVMAS_REGION_ROMD && (write || !gadget->romd)))
		return access_device(going, &spot, run);
	access_memory(going, &spot, run);
	return true;
}

static void access_within(struct access_world *w, const struct request *request,
			  const struct around *around, struct outcome *outcome)
{
	struct going going = {w, request, around, outcome};
	bool goes_on = true;

	while (goes_on && outcome->done < request->size) {
		uint64_t address = request->address + outcome->done;
		unsigned left = request->size - (unsigned)outcome->done;

		if (address < request->address) {
			outcome->unassigned++;
			goes_on = gives_up(&going, left, -ENXIO);
		} else {
			goes_on = access_run(&going, address, run_at(w, address, left));
		}
	}
}

void oracle_access(struct access_world *w, const struct request *request, struct outcome *outcome)
{
	struct around nobody = {0};

	access_within(w, request, &nobody, outcome);
}

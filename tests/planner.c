/* SPDX-License-Identifier: MIT */
/*
 * See planner.h: slots, what is wanted, and a plan carried out on a table of slots and compared
 * page by page. Plans as text are in test-plan.c.
 */
#include "planner.h"

int planner_setup(void **state)
{
	struct planner *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->f = fixture_new((struct kvmas_config){0});
	p->blocks[0] = make_block(p->f, "a", 1 << 20);
	p->blocks[1] = make_block(p->f, "b", 1 << 20);
	p->limit = 1000;
	for (unsigned i = 0; i < LENGTH(p->have); i++)
		must(kas_slots_init(p->f->kvmas, &p->have[i], p->limit));
	*state = p;
	return 0;
}

void planner_reset(struct planner *p)
{
	for (unsigned i = 0; i < LENGTH(p->have); i++)
		kas_mappings_fini(p->f->kvmas, &p->spaces[i].want);
	kas_plan_fini(p->f->kvmas, &p->plan);
}

int planner_teardown(void **state)
{
	struct planner *p = *state;

	planner_reset(p);
	for (unsigned i = 0; i < LENGTH(p->have); i++)
		kas_slots_fini(p->f->kvmas, &p->have[i]);
	kvmas_ram_unref(p->blocks[0]);
	kvmas_ram_unref(p->blocks[1]);
	fixture_free(p->f);
	free(p);
	return 0;
}

void insert(struct planner *p, const struct kvmas_slot *slot)
{
	struct slots *slots = &p->have[slot->as_id];

	must(kas_slots_reserve_room(p->f->kvmas, slots, slots->count + 1));
	kas_slots_insert(slots, slot);
	must(kas_slots_validate(slots));
}

void want(struct planner *p, const struct kvmas_slot *slot)
{
	struct mappings *mappings = &p->spaces[slot->as_id].want;

	if (mappings->count == mappings->capacity) {
		mappings->capacity = 2 * mappings->capacity + 8;
		mappings->at = kas_resize(p->f->kvmas, mappings->at,
					  mappings->capacity * sizeof(*mappings->at));
		assert_non_null(mappings->at);
	}
	mappings->at[mappings->count++] = *slot;
}

int make_plan(struct planner *p, size_t nspaces)
{
	for (size_t i = 0; i < nspaces; i++)
		p->spaces[i].have = &p->have[i];
	return kas_plan_make(p->f->kvmas, &p->plan, p->spaces, nspaces);
}

const struct kvmas_slot *slot_of(const struct slot_op *op)
{
	return op->kind == KVMAS_SLOT_DELETE ? &op->before : &op->after;
}

/* ---- a plan on a table of slots, step by step ---- */

void follow(struct planner *p, const struct slot_op *op)
{
	const struct kvmas_slot *slot = slot_of(op);
	struct slots *slots = &p->have[slot->as_id];

	if (op->kind == KVMAS_SLOT_DELETE) {
		assert_true(kas_id_test(slots->used, slot->id));
		kas_slots_remove(slots, slot->id);
	} else if (op->kind == KVMAS_SLOT_CREATE) {
		assert_true(slot->id < slots->limit && !kas_id_test(slots->used, slot->id));
		insert(p, slot);
	} else {
		assert_int_equal(op->kind, KVMAS_SLOT_FLAGS);
		assert_true(kas_id_test(slots->used, slot->id));
		assert_int_equal(op->before.flags ^ slot->flags, LOG);
		kas_slots_replace(slots, slot);
	}
	must(kas_slots_validate(slots));
}

static void paint(const struct planner *p, uint64_t *map, const struct kvmas_slot *slot)
{
	for (uint64_t i = 0; i < slot->size / page_size(); i++) {
		uint64_t page = slot->gpa / page_size() + i;

		assert_true(page < MAP_PAGES);
		assert_int_equal(map[page], 0);
		map[page] = (slot->ram_offset / page_size() + i) << 8 | slot->flags << 4 |
			    (slot->ram == p->blocks[0] ? 1 : 2);
	}
}

static void paint_all(const struct planner *p, uint64_t *map, const struct kvmas_slot *at,
		      size_t count)
{
	memset(map, 0, MAP_PAGES * sizeof(*map));
	for (size_t i = 0; i < count; i++)
		paint(p, map, &at[i]);
}

/* Pages mapped before and after, and all the time but for LOG, that were not in between. */
static uint64_t count_torn(const uint64_t *before, const uint64_t *after, const bool *gone)
{
	uint64_t torn = 0;

	for (unsigned i = 0; i < MAP_PAGES; i++)
		torn += gone[i] && after[i] && !((before[i] ^ after[i]) & ~(uint64_t)(LOG << 4));
	return torn;
}

void check_plan(struct planner *p, size_t nspaces)
{
	static uint64_t before[3][MAP_PAGES], wanted[3][MAP_PAGES], after[3][MAP_PAGES];
	static bool gone[3][MAP_PAGES];
	uint64_t torn = 0;

	memset(gone, 0, sizeof(gone));
	for (size_t i = 0; i < nspaces; i++) {
		paint_all(p, before[i], p->have[i].at, p->have[i].count);
		paint_all(p, wanted[i], p->spaces[i].want.at, p->spaces[i].want.count);
	}
	must(make_plan(p, nspaces));
	for (size_t i = 0; i < p->plan.count; i++) {
		const struct slot_op *op = &p->plan.ops[i];

		for (uint64_t k = 0;
		     op->kind == KVMAS_SLOT_DELETE && k < op->before.size / page_size(); k++)
			gone[op->before.as_id][op->before.gpa / page_size() + k] = true;
		follow(p, op);
	}
	for (size_t i = 0; i < nspaces; i++) {
		paint_all(p, after[i], p->have[i].at, p->have[i].count);
		assert_memory_equal(after[i], wanted[i], sizeof(after[i]));
		torn += count_torn(before[i], after[i], gone[i]);
	}
	assert_int_equal(p->plan.bytes_torn, pages(torn));
}

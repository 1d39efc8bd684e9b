/* SPDX-License-Identifier: MIT */
/*
 * See planner.h. A plan is carried out on a board: for each page of each space, which slot is there
 * and what it shows. Read plan_wrong first.
 */
#include "planner.h"

#include <inttypes.h>
#include <stdio.h>

/* What a page of the guest shows, and by what. */
struct cell {
	uint32_t page; /* of the block */
	uint8_t block; /* 1 or 2; 0: nothing is mapped */
	uint8_t flags;
	uint16_t owner; /* a slot's id and 1, or which mapping; 0: none */
};

struct board {
	struct cell before[PLAN_SPACES][PLAN_PAGES];
	struct cell wanted[PLAN_SPACES][PLAN_PAGES];
	struct cell now[PLAN_SPACES][PLAN_PAGES];
	bool inside[PLAN_SPACES][PLAN_PAGES];           /* of a window */
	bool gone[PLAN_SPACES][PLAN_PAGES];             /* for a moment at least */
	bool made[PLAN_SPACES][PLAN_PAGES];             /* by a creation */
	struct kvmas_slot slots[PLAN_SPACES][PLAN_IDS]; /* now; without a block: none */
	bool stop;
};

int planner_setup(void **state)
{
	struct planner *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->board = calloc(1, sizeof(*p->board));
	assert_non_null(p->board);
	p->f = fixture_new((struct kvmas_config){0});
	p->blocks[0] = make_block(p->f, "a", 1 << 20);
	p->blocks[1] = make_block(p->f, "b", 1 << 20);
	p->limit = PLAN_IDS - 48;
	p->npages = 1024;
	p->page_shift = (unsigned)__builtin_ctzll(page_size());
	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		must(kas_slots_init(p->f->kvmas, &p->have[i], p->limit));
		p->spaces[i].have = &p->have[i];
		p->spaces[i].cut = true;
		p->spaces[i].budget = 256;
	}
	*state = p;
	return 0;
}

void planner_shrink(struct planner *p, unsigned limit, unsigned npages)
{
	p->limit = limit;
	p->npages = npages;
	for (unsigned i = 0; i < PLAN_SPACES; i++)
		p->have[i].limit = limit;
}

void planner_reset(struct planner *p)
{
	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		kas_mappings_fini(p->f->kvmas, &p->spaces[i].want);
		p->spaces[i].windows = NULL;
		p->spaces[i].nwindows = 0;
	}
	kas_plan_fini(p->f->kvmas, &p->plan);
}

void planner_clear(struct planner *p)
{
	planner_reset(p);
	for (unsigned i = 0; i < PLAN_SPACES; i++) {
		while (p->have[i].count)
			kas_slots_remove(&p->have[i], kas_slots_at(&p->have[i], 0)->id);
	}
}

int planner_teardown(void **state)
{
	struct planner *p = *state;

	if (p->seed)
		print_message("KVMAS_SEED=%" PRIu64 " KVMAS_RUNS=1\n", p->seed);
	planner_reset(p);
	for (unsigned i = 0; i < PLAN_SPACES; i++)
		kas_slots_fini(p->f->kvmas, &p->have[i]);
	kvmas_ram_unref(p->blocks[0]);
	kvmas_ram_unref(p->blocks[1]);
	fixture_free(p->f);
	free(p->board);
	free(p);
	return 0;
}

void insert(struct planner *p, const struct kvmas_slot *slot)
{
	struct slots *slots = &p->have[slot->as_id];

	must(kas_slots_reserve_room(p->f->kvmas, slots, slot->id + 1));
	kas_slots_insert(slots, slot, p->now);
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

/* ---- text ---- */

/* The next slot of a text; false at its end. */
static bool parse(const struct planner *p, const char **text, bool with_id, struct kvmas_slot *slot)
{
	uint64_t first, last, offset;
	char block;
	int used = 0;

	*text += strspn(*text, ", ");
	if (**text == 0)
		return false;
	*slot = (struct kvmas_slot){0};
	if (with_id)
		slot->id = (unsigned)strtoul(*text, (char **)(uintptr_t)text, 10);
	assert_int_equal(sscanf(*text, "%" SCNu64 "-%" SCNu64 " %c+%" SCNu64 "%n", &first, &last,
				&block, &offset, &used),
			 4);
	*text += used;
	slot->gpa = pages(first);
	slot->size = pages(last + 1 - first);
	slot->ram = p->blocks[block - 'a'];
	slot->ram_offset = pages(offset);
	for (; **text && **text != ','; ++*text)
		slot->flags |= **text == 'g' ? LOG : **text == 'r' ? RO : 0;
	return true;
}

void have_in(struct planner *p, unsigned as_id, const char *text)
{
	struct kvmas_slot slot;

	while (parse(p, &text, true, &slot)) {
		slot.as_id = as_id;
		insert(p, &slot);
	}
	must(kas_slots_validate(&p->have[as_id]));
}

void want_in(struct planner *p, unsigned as_id, const char *text)
{
	struct kvmas_slot slot;

	while (parse(p, &text, false, &slot)) {
		slot.as_id = as_id;
		want(p, &slot);
	}
}

int make_plan(struct planner *p, size_t nspaces)
{
	p->plan.now = p->now;
	return kas_plan_make(p->f->kvmas, &p->plan, p->spaces, nspaces);
}

const struct kvmas_slot *slot_of(const struct slot_op *op)
{
	return op->kind == KVMAS_SLOT_DELETE ? &op->before.slot : &op->after.slot;
}

char *plan_text(const struct plan *plan)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (size_t i = 0; i < plan->count; i++) {
		op_text(&text, plan->ops[i].kind, slot_of(&plan->ops[i]));
		text_add(&text, "\n");
	}
	return text;
}

/* ---- the board ---- */

static unsigned first_page(const struct planner *p, const struct kvmas_slot *slot)
{
	return (unsigned)(slot->gpa >> p->page_shift);
}

static unsigned npages_of(const struct planner *p, const struct kvmas_slot *slot)
{
	return (unsigned)(slot->size >> p->page_shift);
}

static void paint(const struct planner *p, struct cell *cells, const struct kvmas_slot *slot,
		  unsigned owner)
{
	unsigned gfn = first_page(p, slot);

	assert_true(gfn + npages_of(p, slot) <= p->npages);
	for (unsigned i = 0; i < npages_of(p, slot); i++)
		cells[gfn + i] = (struct cell){
			.page = (uint32_t)(slot->ram_offset >> p->page_shift) + i,
			.block = slot->ram == p->blocks[0] ? 1 : 2,
			.flags = (uint8_t)slot->flags,
			.owner = (uint16_t)owner,
		};
}

static void open_windows(const struct planner *p, const struct plan_space *space, bool *inside)
{
	memset(inside, !space->windows, p->npages);
	for (size_t i = 0; i < space->nwindows; i++) {
		uint64_t first = space->windows[i].first >> p->page_shift;
		uint64_t last = space->windows[i].last >> p->page_shift;

		for (uint64_t gfn = first; gfn <= last && gfn < p->npages; gfn++)
			inside[gfn] = true;
	}
}

static void set_board(struct planner *p, unsigned as_id)
{
	struct board *board = p->board;
	const struct slots *have = &p->have[as_id];
	const struct plan_space *space = &p->spaces[as_id];
	struct cell *before = board->before[as_id];
	struct cell *wanted = board->wanted[as_id];
	size_t size = p->npages * sizeof(*before);

	memset(before, 0, size);
	memset(board->slots[as_id], 0, p->limit * sizeof(board->slots[as_id][0]));
	memset(board->gone[as_id], 0, p->npages);
	memset(board->made[as_id], 0, p->npages);
	for (size_t i = 0; i < have->count; i++) {
		const struct kvmas_slot *slot = kas_slots_at(have, i);

		board->slots[as_id][slot->id] = *slot;
		paint(p, before, slot, slot->id + 1);
	}
	memcpy(board->now[as_id], before, size);
	open_windows(p, space, board->inside[as_id]);
	memcpy(wanted, before, size);
	for (unsigned i = 0; i < p->npages; i++) {
		if (board->inside[as_id][i])
			wanted[i] = (struct cell){0};
	}
	for (size_t i = 0; i < space->want.count; i++)
		paint(p, wanted, &space->want.at[i], PLAN_IDS + 1 + (unsigned)i);
}

/* ---- one operation ---- */

static bool same_slot(const struct kvmas_slot *a, const struct kvmas_slot *b)
{
	return a->as_id == b->as_id && a->id == b->id && a->gpa == b->gpa && a->size == b->size &&
	       a->ram == b->ram && a->ram_offset == b->ram_offset && a->flags == b->flags;
}

static void lift(struct planner *p, const struct kvmas_slot *slot)
{
	struct cell *now = &p->board->now[slot->as_id][first_page(p, slot)];
	bool *gone = &p->board->gone[slot->as_id][first_page(p, slot)];

	memset(now, 0, npages_of(p, slot) * sizeof(*now));
	memset(gone, true, npages_of(p, slot));
	p->board->slots[slot->as_id][slot->id].ram = NULL;
}

static const char *put(struct planner *p, const struct kvmas_slot *slot)
{
	const struct cell *now = p->board->now[slot->as_id];
	const bool *inside = p->board->inside[slot->as_id];
	unsigned gfn = first_page(p, slot);

	if (slot->size == 0 || !slot->ram || gfn + npages_of(p, slot) > p->npages)
		return "a slot is made that is none";
	for (unsigned i = gfn; i < gfn + npages_of(p, slot); i++) {
		if (now[i].block)
			return "slots overlap";
		if (!inside[i])
			return "a slot is made outside the windows";
	}
	paint(p, p->board->now[slot->as_id], slot, slot->id + 1);
	p->board->slots[slot->as_id][slot->id] = *slot;
	return NULL;
}

/* Whether vCPUs must be held out for this one, which is no creation. */
static bool needs_stop(const struct planner *p, const struct slot_op *op)
{
	const struct kvmas_slot *slot = &op->before.slot;
	const struct cell *wanted;

	if (op->kind == KVMAS_SLOT_FLAGS)
		return slot->flags & ~op->after.slot.flags & LOG;
	wanted = &p->board->wanted[slot->as_id][first_page(p, slot)];
	for (unsigned i = 0; i < npages_of(p, slot); i++) {
		if (wanted[i].block)
			return true;
	}
	return slot->flags & LOG;
}

static const char *do_create(struct planner *p, const struct kvmas_slot *slot)
{
	const struct slots *have = &p->have[slot->as_id];
	const char *wrong;

	if (slot->id >= have->limit || kas_id_test(have->reserved, slot->id))
		return "an id is given that is not ours to give";
	if (p->board->slots[slot->as_id][slot->id].ram)
		return "an id is given twice";
	wrong = put(p, slot);
	if (!wrong)
		memset(&p->board->made[slot->as_id][first_page(p, slot)], true, npages_of(p, slot));
	return wrong;
}

static const char *do_move(struct planner *p, const struct slot_op *op)
{
	struct kvmas_slot moved = op->before.slot;

	moved.gpa = op->after.slot.gpa;
	moved.flags ^= (op->before.slot.flags ^ op->after.slot.flags) & LOG;
	if (op->before.slot.gpa == op->after.slot.gpa || !same_slot(&moved, &op->after.slot))
		return "a move is none";
	lift(p, &op->before.slot);
	return put(p, &op->after.slot);
}

static const char *do_flags(struct planner *p, const struct slot_op *op)
{
	struct kvmas_slot changed = op->before.slot;

	changed.flags ^= LOG;
	if (!same_slot(&changed, &op->after.slot))
		return "a change of flags is none";
	p->board->slots[changed.as_id][changed.id] = changed;
	paint(p, p->board->now[changed.as_id], &changed, changed.id + 1);
	return NULL;
}

static const char *do_op(struct planner *p, const struct slot_op *op)
{
	const struct kvmas_slot *before = &op->before.slot;

	if (op->kind == KVMAS_SLOT_CREATE)
		return do_create(p, &op->after.slot);
	if (!same_slot(before, &p->board->slots[before->as_id][before->id]) || !before->ram)
		return "a slot is changed that is not so";
	if (!p->board->inside[before->as_id][first_page(p, before)])
		return "a slot outside the windows is changed";
	p->board->stop |= needs_stop(p, op);
	if (op->kind == KVMAS_SLOT_MOVE)
		return do_move(p, op);
	if (op->kind == KVMAS_SLOT_FLAGS)
		return do_flags(p, op);
	lift(p, before);
	return NULL;
}

/* ---- afterwards ---- */

static bool same_memory(const struct cell *a, const struct cell *b, unsigned but_for)
{
	return a->block == b->block && a->page == b->page && !((a->flags ^ b->flags) & ~but_for);
}

/* Slots may end where mappings do and, if those may be cut, elsewhere; but what is made anew is
 * made in one piece. */
static const char *cut_wrong(const struct planner *p, unsigned as_id, unsigned i)
{
	const struct cell *now = &p->board->now[as_id][i];
	const struct cell *wanted = &p->board->wanted[as_id][i];
	const bool *made = &p->board->made[as_id][i];

	if (i == 0 || !now[0].block || !now[-1].block)
		return NULL;
	if (wanted[0].owner != wanted[-1].owner)
		return now[0].owner == now[-1].owner ? "a slot shows two mappings" : NULL;
	if (now[0].owner == now[-1].owner || wanted[0].owner <= PLAN_IDS)
		return NULL;
	if (!p->spaces[as_id].cut)
		return "a mapping is cut that may not be";
	return made[0] && made[-1] && !p->merges ? "slots are made that could be one" : NULL;
}

static const char *pages_wrong(const struct planner *p, unsigned as_id)
{
	for (unsigned i = 0; i < p->npages; i++) {
		const char *wrong;

		if (!same_memory(&p->board->now[as_id][i], &p->board->wanted[as_id][i], 0))
			return "a page is not as wanted";
		wrong = cut_wrong(p, as_id, i);
		if (wrong)
			return wrong;
	}
	return NULL;
}

static uint64_t count_torn(const struct planner *p, unsigned as_id)
{
	uint64_t torn = 0;

	for (unsigned i = 0; i < p->npages; i++)
		torn += p->board->gone[as_id][i] && p->board->now[as_id][i].block &&
			same_memory(&p->board->before[as_id][i], &p->board->now[as_id][i], LOG);
	return torn << p->page_shift;
}

static const char *answers_wrong(const struct planner *p, unsigned as_id)
{
	size_t count = 0, made = 0;

	for (unsigned id = 0; id < p->limit; id++)
		count += p->board->slots[as_id][id].ram != NULL;
	for (size_t i = 0; i < p->plan.count; i++) {
		const struct slot_op *op = &p->plan.ops[i];

		made += slot_of(op)->as_id == as_id &&
			(op->kind == KVMAS_SLOT_CREATE || op->kind == KVMAS_SLOT_MOVE);
	}
	if (p->spaces[as_id].count != count)
		return "the slots afterwards are miscounted";
	return p->spaces[as_id].made != made ? "those made are miscounted" : NULL;
}

const char *plan_wrong(struct planner *p, size_t nspaces)
{
	static const unsigned order[] = {
		[KVMAS_SLOT_DELETE] = 0,
		[KVMAS_SLOT_MOVE] = 1,
		[KVMAS_SLOT_CREATE] = 2,
		[KVMAS_SLOT_FLAGS] = 3,
	};
	const char *wrong = NULL;
	uint64_t torn = 0;

	p->board->stop = false;
	for (unsigned i = 0; i < nspaces; i++)
		set_board(p, i);
	for (size_t i = 0; i < p->plan.count && !wrong; i++) {
		const struct slot_op *ops = p->plan.ops;

		if (i && order[ops[i].kind] < order[ops[i - 1].kind])
			return "the kinds are not in order";
		wrong = do_op(p, &ops[i]);
	}
	for (unsigned i = 0; i < nspaces && !wrong; i++) {
		wrong = pages_wrong(p, i);
		if (!wrong)
			wrong = answers_wrong(p, i);
		torn += count_torn(p, i);
	}
	if (!wrong && p->plan.bytes_torn != torn)
		wrong = "the bytes torn are miscounted";
	if (!wrong && p->plan.stop != p->board->stop)
		wrong = p->plan.stop ? "a stop is not needed" : "a stop is needed";
	return wrong;
}

void follow(struct planner *p)
{
	for (size_t i = 0; i < p->plan.count; i++) {
		const struct slot_op *op = &p->plan.ops[i];
		struct slots *slots = &p->have[slot_of(op)->as_id];

		if (op->kind == KVMAS_SLOT_DELETE) {
			kas_slots_remove(slots, op->before.slot.id);
		} else if (op->kind == KVMAS_SLOT_CREATE) {
			must(kas_slots_reserve_room(p->f->kvmas, slots, op->after.slot.id + 1));
			kas_slots_insert(slots, &op->after.slot, op->after.born);
		} else {
			kas_slots_replace(slots, &op->after.slot, op->after.born);
		}
	}
	for (unsigned i = 0; i < PLAN_SPACES; i++)
		must(kas_slots_validate(&p->have[i]));
}

void check_plan(struct planner *p, size_t nspaces)
{
	const char *wrong;

	must(make_plan(p, nspaces));
	wrong = plan_wrong(p, nspaces);
	if (wrong) {
		char *text = plan_text(&p->plan);

		print_message("%s", text);
		free(text);
		fail_msg("%s", wrong);
	}
	follow(p);
}

void assert_plan(struct planner *p, size_t nspaces, const char *expected)
{
	const char *wrong;
	char *text;

	must(make_plan(p, nspaces));
	text = plan_text(&p->plan);
	assert_string_equal(text, expected);
	free(text);
	wrong = plan_wrong(p, nspaces);
	if (wrong)
		fail_msg("%s", wrong);
}

/* ---- chance ---- */

unsigned roll(struct dice *dice, unsigned n)
{
	dice->state = dice->state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(dice->state >> 33) % n;
}

/* SPDX-License-Identifier: MIT */
/* See plan-puzzle.h: between the planner, in bytes, and the search, in pages. */
#include "plan-puzzle.h"

static struct kvmas_slot slot_from(const struct planner *p, const struct piece *piece)
{
	return (struct kvmas_slot){
		.gpa = (uint64_t)piece->gpa << p->page_shift,
		.size = (uint64_t)piece->npages << p->page_shift,
		.ram = p->blocks[piece->block],
		.ram_offset = (uint64_t)piece->page << p->page_shift,
		.flags = (piece->ro ? RO : 0) | (piece->log ? LOG : 0),
	};
}

static struct piece piece_from(const struct planner *p, const struct kvmas_slot *slot)
{
	return (struct piece){
		.gpa = (unsigned)(slot->gpa >> p->page_shift),
		.npages = (unsigned)(slot->size >> p->page_shift),
		.block = slot->ram == p->blocks[1],
		.page = (unsigned)(slot->ram_offset >> p->page_shift),
		.ro = slot->flags & RO,
		.log = slot->flags & LOG,
	};
}

struct puzzle puzzle_from(const struct planner *p)
{
	struct puzzle puzzle = {.cut = p->spaces[0].cut};

	for (size_t i = 0; i < p->have[0].count; i++)
		puzzle.have[puzzle.nhave++] = piece_from(p, kas_slots_at(&p->have[0], i));
	for (size_t i = 0; i < p->spaces[0].want.count; i++)
		puzzle.want[puzzle.nwant++] = piece_from(p, &p->spaces[0].want.at[i]);
	return puzzle;
}

static void set_puzzle(struct planner *p, const struct puzzle *puzzle)
{
	planner_clear(p);
	p->spaces[0].cut = puzzle->cut;
	for (unsigned i = 0; i < puzzle->nhave; i++) {
		struct kvmas_slot slot = slot_from(p, &puzzle->have[i]);

		slot.id = (i * 5 + puzzle->nwant) % 8;
		insert(p, &slot);
	}
	for (unsigned i = 0; i < puzzle->nwant; i++) {
		struct kvmas_slot slot = slot_from(p, &puzzle->want[i]);

		want(p, &slot);
	}
}

char *puzzle_text(const struct planner *p, const struct puzzle *puzzle)
{
	char *text = NULL;

	text_add(&text, puzzle->cut ? "may be cut\n" : "may not be cut\n");
	for (unsigned i = 0; i < puzzle->nhave + puzzle->nwant; i++) {
		bool have = i < puzzle->nhave;
		struct kvmas_slot slot =
			slot_from(p, have ? &puzzle->have[i] : &puzzle->want[i - puzzle->nhave]);

		text_add(&text, have ? "have " : "want ");
		slot_text(&text, &slot);
		text_add(&text, "\n");
	}
	return text;
}

static struct cost cost_of(const struct plan *plan)
{
	struct cost cost = {.ioctls = (unsigned)plan->count};

	for (size_t i = 0; i < plan->count; i++)
		cost.zaps += plan->ops[i].kind == KVMAS_SLOT_DELETE ||
			     plan->ops[i].kind == KVMAS_SLOT_MOVE;
	return cost;
}

bool same_cost(struct cost a, struct cost b)
{
	return a.zaps == b.zaps && a.ioctls == b.ioctls;
}

const char *plan_lacks(struct planner *p, struct cost least)
{
	const char *wrong = plan_wrong(p, 1);

	return wrong || same_cost(cost_of(&p->plan), least) ? wrong : "there is a cheaper plan";
}

void solve(struct planner *p, const struct puzzle *puzzle)
{
	struct cost least = search_plans(puzzle);
	const char *wrong;

	set_puzzle(p, puzzle);
	must(make_plan(p, 1));
	wrong = plan_lacks(p, least);
	if (wrong)
		fail_msg("%s\n%splanned:\n%s%u zaps and %u ioctls would do", wrong,
			 puzzle_text(p, puzzle), plan_text(&p->plan), least.zaps, least.ioctls);
}

int puzzle_setup(void **state)
{
	planner_setup(state);
	planner_shrink(*state, 16, 32);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The referee of the random runs is shown sections and slots made by hand: what is right, it must
 * accept, and every way to be wrong, it must see.
 */
#include "kvm-referee.h"

enum { NPAGES = 32 };

struct court {
	unsigned char *memory; /* aligned */
	void *whole;
	struct kvmas_section sections[8];
	size_t nsections;
	struct terms terms;
	struct wanted wanted;
	struct slot_list slots, after;
	const void *logged; /* the region that is */
};

/* Regions and blocks are addresses only: the referee never looks behind them. */
static void *named(struct court *c, unsigned i)
{
	return (unsigned char *)c->whole + i;
}

static bool is_logged(void *data, const struct kvmas_section *section)
{
	const struct court *c = data;

	return c->logged == (const void *)section->region;
}

static int court_setup(void **state)
{
	struct court *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	must(posix_memalign(&c->whole, page_size(), pages(NPAGES)));
	c->memory = c->whole;
	c->terms = (struct terms){.budget = 4, .ids = 100, .is_logged = is_logged, .data = c};
	*state = c;
	return 0;
}

static int court_teardown(void **state)
{
	struct court *c = *state;

	free(c->whole);
	free(c);
	return 0;
}

#define COURT_TEST(name) cmocka_unit_test_setup_teardown(name, court_setup, court_teardown)

/* A section of memory, on block 1. */
static struct kvmas_section *show(struct court *c, uint64_t gfn, uint64_t npages, uint64_t page)
{
	struct kvmas_section *section = &c->sections[c->nsections++];

	*section = (struct kvmas_section){
		.gpa = pages(gfn),
		.size = pages(npages),
		.last = pages(gfn + npages) - 1,
		.region = named(c, 100 + (unsigned)c->nsections),
		.ram = named(c, 1),
		.hva = c->memory + pages(page),
	};
	return section;
}

static struct fake_kvm_slot *put(struct court *c, struct slot_list *list, uint64_t gfn,
				 uint64_t npages, uint64_t page)
{
	struct fake_kvm_slot *slot = &list->at[list->count];

	*slot = (struct fake_kvm_slot){
		.id = list->count++,
		.gpa = pages(gfn),
		.size = pages(npages),
		.hva = (uintptr_t)c->memory + pages(page),
	};
	return slot;
}

static void hear(struct court *c)
{
	want(&c->wanted, c->sections, c->nsections, &c->terms);
}

/* Cells as letters, page by page; '.' for none. */
static void assert_cells(struct court *c, const char *expected)
{
	char text[NPAGES + 1] = {0};

	hear(c);
	for (unsigned i = 0; i < strlen(expected); i++)
		text[i] = c->wanted.at[i].cell ? (char)('a' + c->wanted.at[i].cell - 1) : '.';
	assert_string_equal(text, expected);
}

static void assert_verdict(struct court *c, const char *expected)
{
	const char *wrong;

	hear(c);
	wrong = slots_wrong(&c->slots, &c->wanted, &c->terms);
	if (expected)
		assert_string_equal(wrong ? wrong : "nothing", expected);
	else
		assert_string_equal(wrong ? wrong : "nothing", "nothing");
}

/* ---- cells ---- */

static void neighbours_that_go_on_are_one_cell(void **state)
{
	struct court *c = *state;

	show(c, 1, 2, 0);
	show(c, 3, 2, 2);
	show(c, 5, 1, 5); /* other memory */
	show(c, 7, 1, 7); /* a page of the guest's is missing */
	show(c, 8, 1, 8)->ram = named(c, 2);
	assert_cells(c, ".aaaab.cd.");
	assert_int_equal(c->wanted.ncells, 4);
	assert_int_equal(c->wanted.npages, 7);
	assert_int_equal(c->wanted.end, 9);
}

static void what_differs_is_another_cell(void **state)
{
	struct court *c = *state;

	show(c, 0, 2, 0);
	show(c, 2, 2, 2)->readonly = true;
	show(c, 4, 2, 4)->romd = true;
	show(c, 6, 2, 6);
	c->logged = show(c, 8, 2, 8)->region;
	show(c, 10, 2, 10)->unmergeable = true;
	show(c, 12, 2, 12);
	assert_cells(c, "aabbbbccddeeff");
	c->terms.no_readonly_mem = true;
	assert_cells(c, "aa....bbccddee");
}

static void policy_and_boundaries_make_cells(void **state)
{
	struct court *c = *state;

	show(c, 0, 4, 0);
	show(c, 4, 4, 4);
	c->terms.boundaries[2] = 1;
	c->terms.reserved[5] = true;
	assert_cells(c, "aabbb.cc");
	c->terms.merge = KVMAS_MERGE_NONE;
	assert_cells(c, "aabbc.dd");
}

static void part_of_a_page_is_no_page(void **state)
{
	struct court *c = *state;
	struct kvmas_section *section = show(c, 1, 4, 0);

	section->gpa += 16;
	section->hva = c->memory + 16;
	section->last -= 16;
	assert_cells(c, "..aa..");
	section->hva = c->memory + 32; /* the host's pages lie elsewhere */
	assert_cells(c, "......");
}

/* ---- slots ---- */

static void slots_that_are_right_are_accepted(void **state)
{
	struct court *c = *state;

	show(c, 0, 8, 0);
	put(c, &c->slots, 0, 3, 0);
	put(c, &c->slots, 3, 5, 3);
	assert_verdict(c, NULL);
	c->slots.count = 0;
	put(c, &c->slots, 0, 8, 0);
	c->terms.merge = KVMAS_MERGE_EAGER;
	assert_verdict(c, NULL);
}

static void slots_that_are_wrong_are_seen(void **state)
{
	struct court *c = *state;

	show(c, 0, 4, 0);
	show(c, 4, 4, 4);
	put(c, &c->slots, 0, 4, 0);
	assert_verdict(c, "a page is not mapped");
	put(c, &c->slots, 4, 4, 5);
	assert_verdict(c, "a slot shows what is not wanted, or goes across");
	c->slots.at[1] = (struct fake_kvm_slot){0};
	c->slots.count = 1;
	put(c, &c->slots, 4, 4, 4)->flags = RO;
	assert_verdict(c, "a slot shows what is not wanted, or goes across");
	c->slots.at[1].flags = LOG;
	assert_verdict(c, "a slot is logged, or is not");
	c->slots.at[1].flags = 0;
	assert_verdict(c, NULL);
	c->terms.budget = 0;
	assert_verdict(c, "there are more slots than the budget");
	c->terms.budget = 1;
	c->terms.ids = 1;
	assert_verdict(c, "there are more slots than ids");
	c->terms.merge = KVMAS_MERGE_EAGER;
	assert_verdict(c, "there are more slots than the policy says");
	c->terms.merge = KVMAS_MERGE_NONE;
	c->terms.ids = 2;
	assert_verdict(c, NULL);
	c->slots.count = 0;
	put(c, &c->slots, 0, 8, 0);
	assert_verdict(c, "a slot shows what is not wanted, or goes across");
	put(c, &c->slots, 8, 1, 8);
	c->terms.merge = KVMAS_MERGE_STICKY;
	assert_verdict(c, "a slot shows what is not wanted, or goes across");
}

static void slot_across_a_boundary_is_seen(void **state)
{
	struct court *c = *state;

	show(c, 0, 8, 0);
	put(c, &c->slots, 0, 8, 0);
	assert_verdict(c, NULL);
	c->terms.boundaries[5] = 1;
	assert_verdict(c, "a slot shows what is not wanted, or goes across");
}

/* ---- costs ---- */

static void costs_are_those_of_what_cannot_stay(void **state)
{
	struct court *c = *state;
	struct cost cost;

	show(c, 0, 8, 0);
	show(c, 8, 4, 20);
	put(c, &c->slots, 1, 2, 1);              /* stays, and is cut around */
	put(c, &c->slots, 5, 2, 5)->flags = LOG; /* stays, and is logged no more */
	put(c, &c->slots, 7, 2, 7);              /* half of it is wanted */
	put(c, &c->slots, 15, 4, 20);            /* shown elsewhere */
	hear(c);
	cost = cost_of(&c->slots, &c->wanted, &c->terms);
	assert_int_equal(cost.kept, 2);
	assert_int_equal(cost.gone, 2);
	assert_int_equal(cost.gaps, 4);
	assert_int_equal(cost.relogged, 1);
	assert_false(cost.merges);
	c->terms.budget = 3;
	assert_true(cost_of(&c->slots, &c->wanted, &c->terms).merges);
	c->terms.merge = KVMAS_MERGE_EAGER;
	cost = cost_of(&c->slots, &c->wanted, &c->terms);
	assert_int_equal(cost.kept, 0);
	assert_int_equal(cost.gone, 4);
	assert_int_equal(cost.gaps, 2);
}

static void move_that_was_missed_is_seen(void **state)
{
	struct court *c = *state;
	struct kvmas_slot slot = {.size = pages(4), .ram = named(c, 1)};
	struct traced_op ops[3] = {{KVMAS_SLOT_DELETE, slot}, {KVMAS_SLOT_CREATE, slot}};

	put(c, &c->slots, 0, 4, 0);
	put(c, &c->slots, 8, 4, 8);
	ops[1].slot.gpa = pages(6);
	ops[1].slot.flags = LOG;
	assert_true(missed_a_move(ops, 2, &c->slots));
	ops[2] = (struct traced_op){KVMAS_SLOT_MOVE, {.id = 1, .gpa = 0}};
	assert_false(missed_a_move(ops, 3, &c->slots)); /* it was in the way */
	ops[1].slot.gpa = pages(2);
	assert_true(missed_a_move(ops, 3, &c->slots));
	ops[2] = ops[1];
	assert_false(missed_a_move(ops, 3, &c->slots)); /* which of the two? */
	ops[1].slot.flags = RO;
	assert_false(missed_a_move(ops, 2, &c->slots));
	ops[1].slot.flags = 0;
	ops[1].slot.ram_offset = pages(1);
	assert_false(missed_a_move(ops, 2, &c->slots));
}

static void harm_is_what_is_unmapped_for_a_moment(void **state)
{
	struct court *c = *state;
	struct traced_op op = {KVMAS_SLOT_DELETE};
	struct harm harm;

	put(c, &c->slots, 0, 8, 0);
	put(c, &c->slots, 10, 2, 10)->flags = LOG;
	put(c, &c->after, 0, 3, 0);              /* alike */
	put(c, &c->after, 3, 1, 20);             /* other memory */
	put(c, &c->after, 4, 1, 4)->flags = RO;  /* not alike */
	put(c, &c->after, 5, 1, 5)->flags = LOG; /* alike */
	harm = harm_of(&op, 1, &c->slots, &c->after);
	assert_int_equal(harm.bytes_torn, pages(4));
	assert_true(harm.stop);
	c->after.count = 0;
	assert_false(harm_of(&op, 1, &c->slots, &c->after).stop);
	put(c, &c->after, 7, 1, 20);
	harm = harm_of(&op, 1, &c->slots, &c->after);
	assert_int_equal(harm.bytes_torn, 0);
	assert_true(harm.stop);
	c->after.count = 0;
	op.slot.id = 1; /* logged */
	assert_true(harm_of(&op, 1, &c->slots, &c->after).stop);
	op.kind = KVMAS_SLOT_FLAGS;
	assert_true(harm_of(&op, 1, &c->slots, &c->after).stop);
	op.slot.flags = LOG;
	assert_false(harm_of(&op, 1, &c->slots, &c->after).stop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		COURT_TEST(neighbours_that_go_on_are_one_cell),
		COURT_TEST(what_differs_is_another_cell),
		COURT_TEST(policy_and_boundaries_make_cells),
		COURT_TEST(part_of_a_page_is_no_page),
		COURT_TEST(slots_that_are_right_are_accepted),
		COURT_TEST(slots_that_are_wrong_are_seen),
		COURT_TEST(slot_across_a_boundary_is_seen),
		COURT_TEST(costs_are_those_of_what_cannot_stay),
		COURT_TEST(move_that_was_missed_is_seen),
		COURT_TEST(harm_is_what_is_unmapped_for_a_moment),
	};

	return cmocka_run_group_tests_name("kvm-referee", tests, NULL, NULL);
}

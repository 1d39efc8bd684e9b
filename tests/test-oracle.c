/* SPDX-License-Identifier: MIT */
/*
 * The oracle, which tests the library, tested: against another definition of the flat view, which
 * shares no line with it, on small random trees; and by differences planted in a tree, which it
 * must see.
 *
 * The other definition asks at an address, from the root down, who answers:
 *
 *   - a disabled region does not answer, nor does one beyond its own extent;
 *   - an alias asks its target, at the same byte plus its offset;
 *   - others ask their children: of those that answer, the highest priority wins, among equals the
 *     one added last;
 *   - if none does: the region itself, unless it is a container.
 *
 * It knows answers and no paths, and so nothing of unmergeable regions: for those see
 * test-render.c.
 */
#include "oracle.h"

#include <limits.h>
#include <stdio.h>

#include "fixture.h"

typedef __int128 wide;

/* Addresses are drawn so that all that happens does so on multiples of STEP, or at the top. */
enum { STEP = 0x800, NODES = 18, TREES = 20000 };

struct answer {
	int node; /* NONE: nobody */
	uint64_t offset;
	bool readonly;
	bool nonvolatile;
	bool romd;
};

static wide size_of(const struct node *node)
{
	return node->size == KVMAS_SIZE_MAX ? (wide)1 << 64 : (wide)node->size;
}

static bool beats(const struct node *a, const struct node *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority;
	return a->order > b->order;
}

static struct answer ask(const struct tree *tree, int index, wide byte)
{
	const struct node *node = &tree->nodes[index];
	struct answer best = {.node = NONE};
	int winner = NONE;

	if (node->disabled || byte < 0 || byte >= size_of(node))
		return best;
	for (int i = 0; i < tree->count; i++) {
		const struct node *child = &tree->nodes[i];
		struct answer answer;

		if (child->parent != index)
			continue;
		answer = ask(tree, i, byte - child->offset);
		if (answer.node == NONE || (winner != NONE && beats(&tree->nodes[winner], child)))
			continue;
		best = answer;
		winner = i;
	}
	if (node->kind == KVMAS_REGION_ALIAS)
		best = ask(tree, node->target, byte + node->target_offset);
	else if (winner == NONE && node->kind != KVMAS_REGION_CONTAINER)
		best = (struct answer){index, (uint64_t)byte,
				       .romd = node->kind == KVMAS_REGION_ROMD && !node->device};
	best.readonly |= node->readonly || node->kind == KVMAS_REGION_ROM;
	best.nonvolatile |= node->nonvolatile;
	return best;
}

/* ---- random trees ---- */

static uint64_t draw(uint64_t *random, uint64_t n)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return (*random >> 11) % n;
}

static uint64_t draw_place(uint64_t *random)
{
	uint64_t place = draw(random, 8) * STEP;

	return draw(random, 6) ? place : 0 - place;
}

static struct node draw_node(uint64_t *random, int index)
{
	static const int priorities[] = {0, 0, 0, 1, -1, INT_MIN, INT_MAX};
	struct node node = {
		.name = "node",
		.kind = (enum kvmas_region_kind)draw(random, 1 + KVMAS_REGION_RESERVED),
		.size = draw(random, 5) ? (1 + draw(random, 6)) * STEP : KVMAS_SIZE_MAX,
		.parent = draw(random, 8) ? (int)draw(random, (uint64_t)index) : NONE,
		.offset = draw_place(random),
		.priority = priorities[draw(random, LENGTH(priorities))],
		.target = (int)draw(random, (uint64_t)index),
		.target_offset = draw_place(random),
		.disabled = !draw(random, 16),
		.readonly = !draw(random, 8),
		.nonvolatile = !draw(random, 8),
		.device = draw(random, 2),
		.order = (unsigned)draw(random, 1000) * NODES + (unsigned)index,
	};

	return node;
}

/* A loop would go through the node that closes it, the last one: that shall not be an alias. */
static void draw_tree(uint64_t *random, struct tree *tree)
{
	tree->count = 0;
	tree_add(tree, (struct node){"root", KVMAS_REGION_CONTAINER, KVMAS_SIZE_MAX, NONE});
	for (int i = 1; i < NODES; i++) {
		struct node node = draw_node(random, i);

		if (node.parent != NONE && tree->nodes[node.parent].kind == KVMAS_REGION_ALIAS)
			node.parent = 0;
		tree_add(tree, node);
		if (node.kind == KVMAS_REGION_ALIAS && oracle_reaches(tree, node.target, i))
			tree->nodes[i].kind = KVMAS_REGION_MMIO;
	}
}

/* ---- both compared ---- */

static const struct oracle_range *range_over(const struct oracle_range *ranges, size_t count,
					     uint64_t address)
{
	for (size_t i = 0; i < count; i++) {
		if (ranges[i].first <= address && ranges[i].last >= address)
			return &ranges[i];
	}
	return NULL;
}

static bool agree(const struct oracle_range *range, const struct answer *answer, uint64_t address)
{
	if (!range || answer->node == NONE)
		return !range && answer->node == NONE;
	return range->node == answer->node &&
	       range->offset + (address - range->first) == answer->offset &&
	       range->readonly == answer->readonly && range->nonvolatile == answer->nonvolatile &&
	       range->romd == answer->romd && !range->unmergeable;
}

static void check_address(const struct tree *tree, const struct oracle_range *ranges, size_t count,
			  uint64_t address)
{
	struct answer answer = ask(tree, 0, address);

	if (!agree(range_over(ranges, count, address), &answer, address))
		fail_msg("the oracle and the other disagree at 0x%llx",
			 (unsigned long long)address);
}

/* Two ranges of a view that touch must differ in something. */
static void check_merging(const struct oracle_range *a, const struct oracle_range *b)
{
	assert_true(a->last < b->first);
	if (a->last + 1 == b->first)
		assert_true(a->node != b->node || a->readonly != b->readonly ||
			    a->nonvolatile != b->nonvolatile || a->romd != b->romd ||
			    a->offset + (b->first - a->first) != b->offset);
}

static size_t check_tree(const struct tree *tree)
{
	size_t count;
	struct oracle_range *ranges = oracle_render(tree, 0, &count);

	for (uint64_t i = 0; i < 64; i++) {
		check_address(tree, ranges, count, i * STEP);
		check_address(tree, ranges, count, i * STEP + STEP - 1);
		check_address(tree, ranges, count, 0 - (i + 1) * STEP);
		check_address(tree, ranges, count, 0 - i * STEP - 1);
	}
	for (size_t i = 1; i < count; i++)
		check_merging(&ranges[i - 1], &ranges[i]);
	free(ranges);
	return count;
}

static void oracle_agrees_with_who_answers_at_each_address(void **state)
{
	uint64_t random = UINT64_C(0x9e3779b97f4a7c15);
	struct tree tree = {0};
	size_t most = 0;
	size_t all = 0;

	(void)state;
	for (unsigned i = 0; i < TREES; i++) {
		size_t count;

		draw_tree(&random, &tree);
		count = check_tree(&tree);
		all += count;
		most = count > most ? count : most;
	}
	print_message("%u trees, %zu ranges, at most %zu\n", TREES, all, most);
	assert_true(all / TREES >= 3 && most >= 12);
	tree_fini(&tree);
}

/* ---- planted differences ---- */

/* Each region overlaps the one before it, so that every part of every node can be seen. */
static const struct node planted[] = {
	{"root", KVMAS_REGION_CONTAINER, 0x10000, NONE},
	{"a", KVMAS_REGION_RAM, 0x2000, 0, 0x1000, 0, .order = 1},
	{"b", KVMAS_REGION_MMIO, 0x2000, 0, 0x2000, 0, .order = 2},
	{"d", KVMAS_REGION_ROMD, 0x2000, 0, 0x3000, 0, .order = 3},
	{"r", KVMAS_REGION_RESERVED, 0x2000, 0, 0x4000, 0, .order = 4},
	{"o", KVMAS_REGION_ROM, 0x2000, 0, 0x5000, 0, .order = 5},
	{"box", KVMAS_REGION_CONTAINER, 0x3000, 0, 0x6000, 0, .order = 6},
	{"c", KVMAS_REGION_RAM, 0x2000, 6, 0, 0, .order = 7},
	{"e", KVMAS_REGION_MMIO, 0x1000, 6, 0x1000, 0, .order = 8},
	{"see", KVMAS_REGION_ALIAS, 0x1800, 0, 0x7800, 0, 10, 0x800, .order = 9},
	{"t", KVMAS_REGION_RAM, 0x1800, NONE},
	{"u", KVMAS_REGION_RAM, 0x1800, NONE},
};

static const char planted_lines[] = "1000-1fff ram a+0x0\n2000-2fff mmio b+0x0\n"
				    "3000-3fff romd d+0x0\n4000-4fff reserved r+0x0\n"
				    "5000-5fff rom o+0x0\n6000-6fff ram c+0x0\n"
				    "7000-77ff mmio e+0x0\n7800-87ff ram t+0x800\n";

/* The ways in which a node can differ. Each tells whether the node has the field at all. */
static bool plant_kind(struct node *node)
{
	node->kind = node->kind == KVMAS_REGION_MMIO ? KVMAS_REGION_RAM : KVMAS_REGION_MMIO;
	return true;
}

static bool plant_size(struct node *node)
{
	node->size = 0x700;
	return true;
}

static bool plant_parent(struct node *node)
{
	bool is_root = node->kind == KVMAS_REGION_CONTAINER && node->parent == NONE;

	node->parent = node->parent == NONE ? 0 : NONE;
	return !is_root;
}

static bool plant_offset(struct node *node)
{
	node->offset += 0x100;
	return node->parent != NONE;
}

static bool plant_priority(struct node *node)
{
	node->priority = node->order == 1 || node->order == 7 ? 1 : -1;
	return node->parent != NONE;
}

static bool plant_order(struct node *node)
{
	node->order = node->order == 1 || node->order == 7 ? 99 : 0;
	return node->parent != NONE;
}

static bool plant_target(struct node *node)
{
	node->target++;
	return node->kind == KVMAS_REGION_ALIAS;
}

static bool plant_target_offset(struct node *node)
{
	node->target_offset++;
	return node->kind == KVMAS_REGION_ALIAS;
}

static bool plant_disabled(struct node *node)
{
	node->disabled = true;
	return true;
}

static bool plant_readonly(struct node *node)
{
	node->readonly = true;
	return node->kind != KVMAS_REGION_ROM;
}

static bool plant_nonvolatile(struct node *node)
{
	node->nonvolatile = true;
	return true;
}

static bool plant_unmergeable(struct node *node)
{
	node->unmergeable = true;
	return true;
}

static bool plant_device(struct node *node)
{
	node->device = true;
	return node->kind == KVMAS_REGION_ROMD;
}

static const struct {
	const char *name;
	bool (*plant)(struct node *node);
} differences[] = {
	{"kind", plant_kind},
	{"size", plant_size},
	{"parent", plant_parent},
	{"offset", plant_offset},
	{"priority", plant_priority},
	{"order", plant_order},
	{"target", plant_target},
	{"target_offset", plant_target_offset},
	{"disabled", plant_disabled},
	{"readonly", plant_readonly},
	{"nonvolatile", plant_nonvolatile},
	{"unmergeable", plant_unmergeable},
	{"device", plant_device},
};

/* 1 if it was seen, 0 if not, -1 if the node has no such field. */
static int see_difference(int node, unsigned difference)
{
	struct node nodes[LENGTH(planted)];
	struct tree tree = {.nodes = nodes, .count = LENGTH(planted)};
	char *text;
	int seen;

	memcpy(nodes, planted, sizeof(nodes));
	if (!differences[difference].plant(&nodes[node]))
		return -1;
	text = oracle_text(&tree, 0);
	seen = strcmp(text, planted_lines) != 0;
	free(text);
	return seen;
}

static void every_planted_difference_is_seen(void **state)
{
	struct tree tree = {.nodes = (struct node *)(uintptr_t)planted, .count = LENGTH(planted)};
	char *text = oracle_text(&tree, 0);
	unsigned seen = 0;

	(void)state;
	assert_string_equal(text, planted_lines);
	free(text);
	/* The last is there to be a target: what it is cannot be seen. The root and the other
	 * target are in no container. */
	for (int node = 0; node + 1 < tree.count; node++) {
		for (unsigned i = 0; i < LENGTH(differences); i++) {
			int result = see_difference(node, i);

			if (result == 0)
				fail_msg("another %s of %s was not seen", differences[i].name,
					 planted[node].name);
			seen += result == 1;
		}
	}
	print_message("%u planted differences were seen\n", seen);
}

/* ---- what only the oracle knows ---- */

/* One region, shown by itself and by two aliases, with something on top of it. */
static const struct node apart[] = {
	{"root", KVMAS_REGION_CONTAINER, 0x10000, NONE},
	{"a", KVMAS_REGION_RAM, 0x4000, 0, 0, -1, .unmergeable = true},
	{"x", KVMAS_REGION_ALIAS, 0x1000, 0, 0x1000, 0, 1, 0x1000},
	{"y", KVMAS_REGION_ALIAS, 0x1000, 0, 0x2000, 0, 1, 0x2000},
	{"off", KVMAS_REGION_MMIO, 0x800, 0, 0x3800, -2},
};

static void unmergeable_pieces_of_several_fills_stay_apart(void **state)
{
	struct tree tree = {.nodes = (struct node *)(uintptr_t)apart, .count = LENGTH(apart)};
	char *text = oracle_text(&tree, 0);

	(void)state;
	assert_string_equal(text, "0000-0fff ram a+0x0 unmergeable\n"
				  "1000-1fff ram a+0x1000 unmergeable\n"
				  "2000-2fff ram a+0x2000 unmergeable\n"
				  "3000-3fff ram a+0x3000 unmergeable\n");
	free(text);
}

/* Ten thousand siblings, upwards, downwards and all over the place, half of them hidden. */
static void many_siblings_take_no_time(void **state)
{
	struct tree tree = {0};
	struct oracle_range *ranges;
	size_t count;

	(void)state;
	tree_add(&tree, (struct node){"root", KVMAS_REGION_CONTAINER, KVMAS_SIZE_MAX, NONE});
	for (unsigned i = 0; i < 10000; i++)
		tree_add(&tree, (struct node){"a", KVMAS_REGION_MMIO, 0x1000, 0,
					      (i * 7919u % 10000u) * UINT64_C(0x2000), (int)i % 3,
					      .order = i});
	ranges = oracle_render(&tree, 0, &count);
	assert_int_equal(count, 10000);
	free(ranges);
	tree_fini(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oracle_agrees_with_who_answers_at_each_address),
		cmocka_unit_test(every_planted_difference_is_seen),
		cmocka_unit_test(unmergeable_pieces_of_several_fills_stay_apart),
		cmocka_unit_test(many_siblings_take_no_time),
	};

	return cmocka_run_group_tests_name("oracle", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * A flat view by painting, without a canvas. Painting goes from the root down:
 *
 *   - a disabled region paints nothing, and nothing is painted beyond a region's own extent;
 *   - an alias paints its target, shifted, through its own extent;
 *   - others paint their children by descending priority, among equals the one added last first,
 *     and then, unless they are containers, themselves.
 *
 * Each time that a region paints itself is a fill. The first to paint an address keeps it: a fill's
 * number in the order of painting is its rank, and an address belongs to the lowest rank of the
 * fills over it:
 *
 *     rank 0          |------|                 sorted by their first address, fills enter a heap
 *     rank 1       |-----------|               of ranks as the sweep comes to them, and leave it
 *     rank 2    |--------|  :  |   |----|      when they are on top and have ended
 *               : :   :  :  :  :   :    :
 *     owner     22111110000001112..222222
 *
 * Neighbours that continue each other are one range; where merging is forbidden, only those of one
 * fill. Addresses are 128 bits wide and signed here: nothing wraps.
 *
 * Read paint first, then flatten.
 */
#include "oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef __int128 wide;

#define TOP ((wide)1 << 64)

static void *grow(void *array, size_t count, size_t *capacity, size_t item)
{
	if (count < *capacity)
		return array;
	*capacity = 2 * *capacity + 16;
	array = realloc(array, *capacity * item);
	assert(array);
	return array;
}

/* ---- trees ---- */

int tree_add(struct tree *tree, struct node node)
{
	size_t capacity = (size_t)tree->capacity;

	tree->nodes = grow(tree->nodes, (size_t)tree->count, &capacity, sizeof(node));
	tree->capacity = (int)capacity;
	tree->nodes[tree->count] = node;
	return tree->count++;
}

void tree_copy(struct tree *tree, const struct tree *from)
{
	size_t size = (size_t)from->count * sizeof(from->nodes[0]);

	if (tree->capacity < from->count) {
		tree->nodes = realloc(tree->nodes, size);
		assert(tree->nodes);
		tree->capacity = from->count;
	}
	if (size)
		memcpy(tree->nodes, from->nodes, size);
	tree->count = from->count;
	tree->order = from->order;
}

void tree_fini(struct tree *tree)
{
	free(tree->nodes);
	*tree = (struct tree){0};
}

/* Who is in which container: node i's children are members[start[i]] to members[start[i + 1] - 1],
 * topmost first. */
struct families {
	size_t *start;
	int *members;
};

/* Topmost first. */
static int by_height(const void *a, const void *b, void *data)
{
	const struct tree *tree = data;
	const struct node *x = &tree->nodes[*(const int *)a];
	const struct node *y = &tree->nodes[*(const int *)b];

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	return (x->order < y->order) - (x->order > y->order);
}

static void find_families(const struct tree *tree, struct families *families)
{
	size_t count = (size_t)tree->count;
	size_t *start = calloc(count + 2, sizeof(*start));
	int *members = calloc(count + 1, sizeof(*members));

	assert(start && members);
	/* start[i + 2] counts the children of i; summed up, start[i + 1] is where those of i begin,
	 * and has moved to their end once all are in. */
	for (int i = 0; i < tree->count; i++) {
		if (tree->nodes[i].parent != NONE)
			start[tree->nodes[i].parent + 2]++;
	}
	for (size_t i = 2; i < count + 2; i++)
		start[i] += start[i - 1];
	for (int i = 0; i < tree->count; i++) {
		if (tree->nodes[i].parent != NONE)
			members[start[tree->nodes[i].parent + 1]++] = i;
	}
	for (size_t i = 0; i < count; i++) {
		size_t nmembers = start[i + 1] - start[i];

		if (nmembers > 1)
			qsort_r(&members[start[i]], nmembers, sizeof(*members), by_height,
				(void *)(uintptr_t)tree);
	}
	families->start = start;
	families->members = members;
}

static void free_families(struct families *families)
{
	free(families->start);
	free(families->members);
}

/* ---- painting ---- */

/* One region's paint of its own: its rank is its place in the array. */
struct painting {
	const struct tree *tree;
	struct families families;
	struct oracle_range *fills;
	size_t count;
	size_t capacity;
};

/* How a region is looked at. */
struct look {
	wide base; /* the address of its byte 0 */
	wide first;
	wide last; /* the window, in addresses */
	bool readonly;
	bool nonvolatile;
	bool unmergeable;
};

static wide size_of(const struct node *node)
{
	return node->size == KVMAS_SIZE_MAX ? TOP : (wide)node->size;
}

static void paint_self(struct painting *painting, int index, const struct look *look)
{
	const struct node *node = &painting->tree->nodes[index];

	painting->fills = grow(painting->fills, painting->count, &painting->capacity,
			       sizeof(painting->fills[0]));
	painting->fills[painting->count++] = (struct oracle_range){
		.first = (uint64_t)look->first,
		.last = (uint64_t)look->last,
		.node = index,
		.offset = (uint64_t)(look->first - look->base),
		.readonly = look->readonly,
		.nonvolatile = look->nonvolatile,
		.unmergeable = look->unmergeable,
		.romd = node->kind == KVMAS_REGION_ROMD && !node->device,
	};
}

static void paint(struct painting *painting, int index, struct look look)
{
	const struct families *families = &painting->families;
	const struct node *node = &painting->tree->nodes[index];

	if (node->disabled)
		return;
	if (look.first < look.base)
		look.first = look.base;
	if (look.last > look.base + size_of(node) - 1)
		look.last = look.base + size_of(node) - 1;
	if (look.first > look.last)
		return;
	look.readonly |= node->readonly || node->kind == KVMAS_REGION_ROM;
	look.nonvolatile |= node->nonvolatile;
	look.unmergeable |= node->unmergeable;
	if (node->kind == KVMAS_REGION_ALIAS) {
		look.base -= node->target_offset;
		paint(painting, node->target, look);
		return;
	}
	for (size_t i = families->start[index]; i < families->start[index + 1]; i++) {
		int child = families->members[i];
		struct look below = look;

		below.base += painting->tree->nodes[child].offset;
		paint(painting, child, below);
	}
	if (node->kind != KVMAS_REGION_CONTAINER)
		paint_self(painting, index, &look);
}

/* ---- who owns which address ---- */

/* A sweep over the addresses, upwards. */
struct sweep {
	const struct oracle_range *fills;
	const size_t *by_first; /* their ranks, by their first address */
	size_t count;
	size_t entered; /* so many of those are, or were, in the heap */
	size_t *heap;   /* of ranks, the lowest on top */
	size_t height;
	struct oracle_range *ranges;
	size_t nranges;
	size_t last_rank; /* the owner of the last range's end */
};

static int by_first_address(const void *a, const void *b, void *data)
{
	const struct oracle_range *fills = data;
	uint64_t x = fills[*(const size_t *)a].first;
	uint64_t y = fills[*(const size_t *)b].first;

	return (x > y) - (x < y);
}

static void enter(struct sweep *sweep, size_t rank)
{
	size_t at = sweep->height++;

	for (; at > 0 && sweep->heap[(at - 1) / 2] > rank; at = (at - 1) / 2)
		sweep->heap[at] = sweep->heap[(at - 1) / 2];
	sweep->heap[at] = rank;
}

static void leave(struct sweep *sweep)
{
	size_t rank = sweep->heap[--sweep->height];
	size_t at = 0;

	for (;;) {
		size_t below = 2 * at + 1;

		if (below + 1 < sweep->height && sweep->heap[below + 1] < sweep->heap[below])
			below++;
		if (below >= sweep->height || sweep->heap[below] >= rank)
			break;
		sweep->heap[at] = sweep->heap[below];
		at = below;
	}
	sweep->heap[at] = rank;
}

static bool continues(const struct oracle_range *before, const struct oracle_range *after)
{
	return before->last + 1 == after->first && before->node == after->node &&
	       before->offset + (after->first - before->first) == after->offset &&
	       before->readonly == after->readonly && before->nonvolatile == after->nonvolatile &&
	       before->unmergeable == after->unmergeable && before->romd == after->romd;
}

/* The addresses from *first* to *last* are those of a fill. */
static void own(struct sweep *sweep, size_t rank, uint64_t first, uint64_t last)
{
	struct oracle_range *before = sweep->nranges ? &sweep->ranges[sweep->nranges - 1] : NULL;
	struct oracle_range range = sweep->fills[rank];

	range.offset += first - range.first;
	range.first = first;
	range.last = last;
	if (before && continues(before, &range) && (!range.unmergeable || rank == sweep->last_rank))
		before->last = last;
	else
		sweep->ranges[sweep->nranges++] = range;
	sweep->last_rank = rank;
}

static void run_sweep(struct sweep *sweep)
{
	wide at = 0;

	while (sweep->height || sweep->entered < sweep->count) {
		const struct oracle_range *next =
			sweep->entered < sweep->count
				? &sweep->fills[sweep->by_first[sweep->entered]]
				: NULL;
		const struct oracle_range *top =
			sweep->height ? &sweep->fills[sweep->heap[0]] : NULL;

		if (top && top->last < at) {
			leave(sweep);
		} else if (next && (!top || next->first <= at)) {
			at = next->first > at ? next->first : at;
			enter(sweep, sweep->by_first[sweep->entered++]);
		} else {
			uint64_t last = top->last;

			if (next && next->first <= last)
				last = next->first - 1;
			own(sweep, sweep->heap[0], (uint64_t)at, last);
			at = (wide)last + 1;
		}
	}
}

static struct oracle_range *flatten(const struct painting *painting, size_t *ret_count)
{
	size_t count = painting->count;
	size_t *ranks = calloc(2 * count + 1, sizeof(*ranks));
	struct sweep sweep = {
		.fills = painting->fills,
		.by_first = ranks,
		.count = count,
		.heap = ranks + count,
		.ranges = calloc(2 * count + 1, sizeof(*sweep.ranges)),
	};

	assert(ranks && sweep.ranges);
	for (size_t i = 0; i < count; i++)
		ranks[i] = i;
	if (count > 1)
		qsort_r(ranks, count, sizeof(*ranks), by_first_address, painting->fills);
	run_sweep(&sweep);
	free(ranks);
	*ret_count = sweep.nranges;
	return sweep.ranges;
}

struct oracle_range *oracle_render(const struct tree *tree, int root, size_t *ret_count)
{
	struct painting painting = {.tree = tree};
	struct look all = {.last = TOP - 1};
	struct oracle_range *ranges;

	find_families(tree, &painting.families);
	paint(&painting, root, all);
	ranges = flatten(&painting, ret_count);
	free_families(&painting.families);
	free(painting.fills);
	return ranges;
}

char *oracle_text(const struct tree *tree, int root)
{
	static const char *const kinds[] = {
		[KVMAS_REGION_RAM] = "ram",
		[KVMAS_REGION_ROMD] = "mmio",
		[KVMAS_REGION_MMIO] = "mmio",
		[KVMAS_REGION_RESERVED] = "reserved",
	};
	size_t count;
	struct oracle_range *ranges = oracle_render(tree, root, &count);
	size_t size;
	char *text;
	FILE *stream = open_memstream(&text, &size);

	assert(stream);
	for (size_t i = 0; i < count; i++) {
		const struct oracle_range *range = &ranges[i];
		const struct node *node = &tree->nodes[range->node];

		fprintf(stream, "%04" PRIx64 "-%04" PRIx64 " %s %s+0x%" PRIx64 "%s%s\n",
			range->first, range->last,
			range->readonly ? "rom"
			: range->romd   ? "romd"
					: kinds[node->kind],
			node->name, range->offset, range->nonvolatile ? " nv" : "",
			range->unmergeable ? " unmergeable" : "");
	}
	fclose(stream);
	free(ranges);
	return text;
}

/* ---- who is seen from where ---- */

/* Marks spread from regions to what they show, until a round brings none. */
bool oracle_reaches(const struct tree *tree, int from, int to)
{
	bool *seen = calloc((size_t)tree->count, sizeof(*seen));
	bool spreads = true;
	bool reaches;

	assert(seen);
	seen[from] = true;
	while (spreads && !seen[to]) {
		spreads = false;
		for (int i = 0; i < tree->count; i++) {
			const struct node *node = &tree->nodes[i];
			bool is_alias = node->kind == KVMAS_REGION_ALIAS;

			if (!seen[i] && node->parent != NONE && seen[node->parent])
				spreads = seen[i] = true;
			if (is_alias && seen[i] && !seen[node->target])
				spreads = seen[node->target] = true;
		}
	}
	reaches = seen[to];
	free(seen);
	return reaches;
}

/* Who is on the way down to where a walk is. */
struct way {
	const struct tree *tree;
	struct families families;
	bool *is_on;
};

/* Whether an alias that is on the way comes again in the window [first, last], bytes of *index*. */
static bool comes_again(struct way *way, int index, wide first, wide last)
{
	const struct node *node = &way->tree->nodes[index];
	bool result = false;

	if (first < 0)
		first = 0;
	if (last > size_of(node) - 1)
		last = size_of(node) - 1;
	if (first > last)
		return false;
	if (node->kind == KVMAS_REGION_ALIAS) {
		if (way->is_on[index])
			return true;
		way->is_on[index] = true;
		result = comes_again(way, node->target, first + node->target_offset,
				     last + node->target_offset);
		way->is_on[index] = false;
		return result;
	}
	for (size_t i = way->families.start[index]; i < way->families.start[index + 1]; i++) {
		int child = way->families.members[i];
		wide offset = way->tree->nodes[child].offset;

		result |= comes_again(way, child, first - offset, last - offset);
	}
	return result;
}

/* By containers alone, or by aliases alone. */
static bool is_above_itself(const struct tree *tree, int index)
{
	const struct node *nodes = tree->nodes;
	int target = index;

	for (int up = nodes[index].parent; up != NONE; up = nodes[up].parent) {
		if (up == index)
			return true;
	}
	while (nodes[target].kind == KVMAS_REGION_ALIAS) {
		target = nodes[target].target;
		if (target == index)
			return true;
	}
	return false;
}

bool oracle_is_loop(const struct tree *tree, int index)
{
	struct way way = {.tree = tree, .is_on = calloc((size_t)tree->count, sizeof(bool))};
	bool result;

	assert(way.is_on);
	find_families(tree, &way.families);
	result = is_above_itself(tree, index);
	for (int i = 0; i < tree->count && !result; i++) {
		if (tree->nodes[i].kind == KVMAS_REGION_ALIAS)
			result = comes_again(&way, i, 0, TOP - 1);
	}
	free_families(&way.families);
	free(way.is_on);
	return result;
}

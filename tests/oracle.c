/* SPDX-License-Identifier: MIT */
/*
 * The definition of a flat view, word for word, with no eye to cost. Who answers at an address is
 * asked from the root down:
 *
 *   - a disabled region does not answer, nor does one beyond its own extent;
 *   - an alias asks its target, at the same byte plus its offset;
 *   - others ask their children: of those that answer, the highest priority wins, among equals the
 *     one added last;
 *   - if none does: the region itself, unless it is a container.
 *
 * The answer can change only where some region, on some path from the root, begins or ends. So the
 * view is one question for each stretch between two such places, and neighbours that continue each
 * other are joined. Addresses are 128 bits wide and signed here: nothing wraps, nothing is clipped.
 */
#include "oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef __int128 wide;

#define TOP ((wide)1 << 64)

struct answer {
	int node; /* NONE: nobody */
	uint64_t offset;
	bool readonly;
};

struct places {
	wide *at;
	size_t count;
	size_t capacity;
};

static wide size_of(const struct node *node)
{
	return node->size == KVMAS_SIZE_MAX ? TOP : (wide)node->size;
}

static bool beats(const struct node *a, const struct node *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority;
	return a->order > b->order;
}

static struct answer ask(const struct tree *tree, int index, wide byte, bool readonly)
{
	const struct node *node = &tree->nodes[index];
	struct answer best = {.node = NONE};
	int winner = NONE;

	if (node->disabled || byte < 0 || byte >= size_of(node))
		return best;
	readonly |= node->readonly || node->kind == KVMAS_REGION_ROM;
	if (node->kind == KVMAS_REGION_ALIAS)
		return ask(tree, node->target, byte + node->target_offset, readonly);
	for (int i = 0; i < tree->count; i++) {
		const struct node *child = &tree->nodes[i];
		struct answer answer;

		if (child->parent != index)
			continue;
		answer = ask(tree, i, byte - child->offset, readonly);
		if (answer.node == NONE || (winner != NONE && beats(&tree->nodes[winner], child)))
			continue;
		best = answer;
		winner = i;
	}
	if (winner == NONE && node->kind != KVMAS_REGION_CONTAINER)
		best = (struct answer){index, (uint64_t)byte, readonly};
	return best;
}

static void note_place(struct places *places, wide at)
{
	if (at < 0 || at > TOP)
		return;
	if (places->count == places->capacity) {
		places->capacity = 2 * places->capacity + 16;
		places->at = realloc(places->at, places->capacity * sizeof(places->at[0]));
		assert(places->at);
	}
	places->at[places->count++] = at;
}

/* Where the region and all below it begin and end, its byte 0 being at *base*. */
static void note_places(const struct tree *tree, int index, wide base, struct places *places)
{
	const struct node *node = &tree->nodes[index];

	if (node->disabled)
		return;
	note_place(places, base);
	note_place(places, base + size_of(node));
	if (node->kind == KVMAS_REGION_ALIAS)
		note_places(tree, node->target, base - node->target_offset, places);
	for (int i = 0; i < tree->count; i++) {
		if (tree->nodes[i].parent == index)
			note_places(tree, i, base + tree->nodes[i].offset, places);
	}
}

static int by_place(const void *a, const void *b)
{
	wide x = *(const wide *)a;
	wide y = *(const wide *)b;

	return (x > y) - (x < y);
}

static bool continues(const struct oracle_range *before, const struct oracle_range *after)
{
	return before->last + 1 == after->first && before->node == after->node &&
	       before->offset + (after->first - before->first) == after->offset &&
	       before->readonly == after->readonly;
}

struct oracle_range *oracle_render(const struct tree *tree, int root, size_t *ret_count)
{
	struct places places = {0};
	struct oracle_range *ranges;
	size_t count = 0;

	note_place(&places, 0);
	note_place(&places, TOP);
	note_places(tree, root, 0, &places);
	qsort(places.at, places.count, sizeof(places.at[0]), by_place);
	ranges = calloc(places.count, sizeof(*ranges));
	assert(ranges);
	for (size_t i = 0; i + 1 < places.count; i++) {
		struct oracle_range range = {.first = (uint64_t)places.at[i],
					     .last = (uint64_t)(places.at[i + 1] - 1)};
		struct answer answer;

		if (places.at[i] == places.at[i + 1])
			continue;
		answer = ask(tree, root, places.at[i], false);
		if (answer.node == NONE)
			continue;
		range.node = answer.node;
		range.offset = answer.offset;
		range.readonly = answer.readonly;
		if (count && continues(&ranges[count - 1], &range))
			ranges[count - 1].last = range.last;
		else
			ranges[count++] = range;
	}
	free(places.at);
	*ret_count = count;
	return ranges;
}

char *oracle_text(const struct tree *tree, int root)
{
	size_t count;
	struct oracle_range *ranges = oracle_render(tree, root, &count);
	size_t size;
	char *text;
	FILE *stream = open_memstream(&text, &size);

	assert(stream);
	for (size_t i = 0; i < count; i++) {
		const struct node *node = &tree->nodes[ranges[i].node];

		fprintf(stream, "%04" PRIx64 "-%04" PRIx64 " %s %s+0x%" PRIx64 "\n",
			ranges[i].first, ranges[i].last,
			ranges[i].readonly                ? "rom"
			: node->kind == KVMAS_REGION_MMIO ? "mmio"
							  : "ram",
			node->name, ranges[i].offset);
	}
	fclose(stream);
	free(ranges);
	return text;
}

bool oracle_reaches(const struct tree *tree, int from, int to)
{
	const struct node *node = &tree->nodes[from];

	if (from == to)
		return true;
	if (node->kind == KVMAS_REGION_ALIAS && oracle_reaches(tree, node->target, to))
		return true;
	for (int i = 0; i < tree->count; i++) {
		if (tree->nodes[i].parent == from && oracle_reaches(tree, i, to))
			return true;
	}
	return false;
}

/* SPDX-License-Identifier: MIT */
/*
 * Rendering: what a tree of regions shows in one window, painted flat.
 *
 * Painting goes from the top down: a region's children by descending priority, then the region
 * itself; the first to paint an address keeps it. Everything is painted through a window, in the
 * coordinates of the region at hand, so that cutting to a region's extent is one clip and an alias
 * only shifts:
 *
 *     parent     |-------[first .......... last]-----|       window, in the parent's bytes
 *     child            |-[0 ...............]---------|       minus the child's offset
 *     alias target  |....[+target_offset ...]........|       plus the target offset
 *
 * A window never wraps: it is clipped before it is shifted, and each shift keeps it inside 64 bits.
 * The address of byte x is x + delta modulo 2^64, where delta collects the shifts; it may pass
 * through "negative" values when the target's byte 0 would lie below address 0.
 *
 * What is yet to be painted stands on a stack of tasks of our own, topmost task next, so that depth
 * costs memory and no stack. A region with children is painted as one task for each child under the
 * window, on top of one task for itself. Children that do not overlap need no order, and are
 * painted by ascending address, which the canvas takes at its end.
 *
 * Invariants:
 *   I1  the canvas is sorted and disjoint after every fill.
 *   I2  a window, once shifted to addresses, lies inside its parent's.
 *   I3  no more tasks were ever pushed than max_nodes.
 *
 * Cost: each region under the window once for every path to it that is not clipped away;
 * overlapping children in an order that jumps about also move what the canvas has behind them. Read
 * kas_render first.
 */
#include "render.h"

#include <errno.h>
#include <string.h>

#include "children.h"

/* A region yet to be painted. */
struct task {
	struct kvmas_region *region;
	struct range window; /* in the region's bytes */
	uint64_t delta;      /* the address of byte x is x + delta, modulo 2^64 */
	unsigned attrs;      /* flowing down to here */
	bool itself;         /* its children are done; the window is clipped to it */
};

struct tasks {
	struct canvas *canvas;
	size_t count;
};

/* ---- the canvas: an array with a gap where the last range was inserted ---- */

static struct flat_range *ranges_of(const struct canvas *canvas)
{
	return canvas->kvmas->txn.buffers[BUFFER_CANVAS].at;
}

static size_t capacity_of(const struct canvas *canvas)
{
	return canvas->kvmas->txn.buffers[BUFFER_CANVAS].capacity;
}

static struct flat_range *range_at(const struct canvas *canvas, size_t index)
{
	size_t gap = index < canvas->gap ? 0 : capacity_of(canvas) - canvas->count;

	return &ranges_of(canvas)[index + gap];
}

/* Neighbours are mostly painted one after the other, and then little moves. */
static void move_gap(struct canvas *canvas, size_t to)
{
	size_t free = capacity_of(canvas) - canvas->count;
	struct flat_range *ranges = ranges_of(canvas);
	size_t gap = canvas->gap;

	if (to < gap)
		memmove(ranges + to + free, ranges + to, (gap - to) * sizeof(*ranges));
	else if (to > gap)
		memmove(ranges + gap, ranges + gap + free, (to - gap) * sizeof(*ranges));
	canvas->gap = to;
}

/* The first range of the canvas that ends at *address* or after it. */
static size_t find(const struct canvas *canvas, uint64_t address)
{
	size_t low = 0;
	size_t high = canvas->count;

	if (high && range_at(canvas, high - 1)->range.last < address)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (range_at(canvas, middle)->range.last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool joins(const struct flat_range *before, const struct flat_range *after)
{
	return kas_range_goes_on(before, after) && !(after->attrs & ATTR_UNMERGEABLE);
}

/* Put a range, which nothing overlaps, before the one at *at*: what it goes on from, or what goes
 * on from it, is one with it. */
static int insert(struct canvas *canvas, size_t at, const struct flat_range *range)
{
	struct kvmas *kvmas = canvas->kvmas;
	struct flat_range *left = at > 0 ? range_at(canvas, at - 1) : NULL;
	struct flat_range *right = at < canvas->count ? range_at(canvas, at) : NULL;

	if (left && joins(left, range)) {
		left->range.last = range->range.last;
		return 0;
	}
	if (right && joins(range, right)) {
		right->range.first = range->range.first;
		right->offset = range->offset;
		return 0;
	}
	if (canvas->count >= kvmas->config.max_ranges)
		return -E2BIG;
	if (canvas->count == capacity_of(canvas))
		canvas->gap = canvas->count; /* new room comes at the end */
	if (!kas_buffer_grow(kvmas, BUFFER_CANVAS, canvas->count, sizeof(*range)))
		return -ENOMEM;
	move_gap(canvas, at);
	ranges_of(canvas)[at] = *range;
	canvas->count++;
	canvas->gap++;
	return 0;
}

/* Give *piece* every address of its range that nobody has got yet. */
static int fill(struct canvas *canvas, const struct flat_range *piece)
{
	uint64_t next = piece->range.first;

	for (;;) {
		size_t at = find(canvas, next);
		const struct range *taken =
			at < canvas->count ? &range_at(canvas, at)->range : NULL;
		bool ends_here = !taken || taken->first > piece->range.last;
		struct flat_range hole = *piece;
		int err;

		if (!ends_here && taken->first <= next) {
			if (taken->last >= piece->range.last)
				return 0;
			next = taken->last + 1;
			continue;
		}
		hole.range.first = next;
		hole.range.last = ends_here ? piece->range.last : taken->first - 1;
		hole.offset = piece->offset + (next - piece->range.first);
		next = hole.range.last + 1;
		err = insert(canvas, at, &hole);
		if (err || ends_here)
			return err;
	}
}

const struct flat_range *kas_canvas_ranges(const struct canvas *canvas)
{
	return ranges_of(canvas);
}

/* ---- the tasks ---- */

static struct task *stack_of(const struct tasks *tasks)
{
	return tasks->canvas->kvmas->txn.buffers[BUFFER_TASKS].at;
}

static int push(struct tasks *tasks, const struct task *task)
{
	struct kvmas *kvmas = tasks->canvas->kvmas;

	if (++tasks->canvas->nodes > kvmas->config.max_nodes)
		return -E2BIG;
	if (!kas_buffer_grow(kvmas, BUFFER_TASKS, tasks->count, sizeof(*task)))
		return -ENOMEM;
	stack_of(tasks)[tasks->count++] = *task;
	return 0;
}

/* Orders of tasks on the stack: what is painted first comes last. */
typedef bool task_order(const struct task *a, const struct task *b);

static bool by_priority(const struct task *a, const struct task *b)
{
	const struct region_state *x = &a->region->state;
	const struct region_state *y = &b->region->state;

	if (x->priority != y->priority)
		return x->priority < y->priority;
	return x->offset > y->offset;
}

static bool by_place(const struct task *a, const struct task *b)
{
	return a->region->state.place < b->region->state.place;
}

static void swap_tasks(struct task *a, struct task *b)
{
	struct task kept = *a;

	*a = *b;
	*b = kept;
}

static void sift_down(struct task *tasks, size_t at, size_t count, task_order *before)
{
	for (;;) {
		size_t below = 2 * at + 1;

		if (below >= count)
			return;
		if (below + 1 < count && before(&tasks[below], &tasks[below + 1]))
			below++;
		if (!before(&tasks[at], &tasks[below]))
			return;
		swap_tasks(&tasks[at], &tasks[below]);
		at = below;
	}
}

/* Heapsort: the C library's qsort may allocate. */
static void sort(struct task *tasks, size_t count, task_order *before)
{
	for (size_t i = count / 2; i-- > 0;)
		sift_down(tasks, i, count, before);
	for (size_t i = count; i-- > 1;) {
		swap_tasks(&tasks[0], &tasks[i]);
		sift_down(tasks, 0, i, before);
	}
}

/* Whether two of these tasks, for children of one parent by descending offset, overlap. */
static bool overlap(const struct task *tasks, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		if (kas_child_extent(&tasks[i].region->state).last >=
		    tasks[i - 1].region->state.offset)
			return true;
	}
	return false;
}

static void reverse(struct task *tasks, size_t count)
{
	for (size_t i = 0; i < count / 2; i++)
		swap_tasks(&tasks[i], &tasks[count - 1 - i]);
}

/* Bring tasks for children of one parent, by ascending offset, into the order of painting. Equals
 * that overlap go by their places; others stay by offset, which is cheaper to paint. */
static void order_children(struct task *tasks, size_t count)
{
	size_t end;

	reverse(tasks, count);
	if (!overlap(tasks, count))
		return;
	sort(tasks, count, by_priority);
	for (size_t first = 0; first < count; first = end) {
		int priority = tasks[first].region->state.priority;

		for (end = first + 1; end < count; end++) {
			if (tasks[end].region->state.priority != priority)
				break;
		}
		if (overlap(tasks + first, end - first))
			sort(tasks + first, end - first, by_place);
	}
}

static int push_children(struct tasks *tasks, const struct task *task)
{
	size_t first = tasks->count;
	struct kvmas_region *child = kas_children_first(task->region, task->window);

	for (; child; child = kas_children_next(child, task->window)) {
		uint64_t offset = child->state.offset;
		struct task below = *task;
		int err;

		if (!child->state.enabled)
			continue;
		below.region = child;
		below.window.first = offset < task->window.first ? task->window.first - offset : 0;
		below.window.last -= offset;
		below.delta += offset;
		err = push(tasks, &below);
		if (err)
			return err;
	}
	if (tasks->count - first > 1)
		order_children(stack_of(tasks) + first, tasks->count - first);
	return 0;
}

static int push_target(struct tasks *tasks, const struct task *task)
{
	uint64_t shift = task->region->state.target_offset;
	struct task below = *task;

	if (below.window.first + shift < shift)
		return 0; /* past the target's last possible byte */
	below.region = task->region->state.target;
	below.window.first += shift;
	below.window.last = kas_add_saturating(below.window.last, shift);
	below.delta -= shift;
	return push(tasks, &below);
}

static int paint_itself(struct canvas *canvas, const struct task *task)
{
	struct flat_range piece = {
		.range = {task->window.first + task->delta, task->window.last + task->delta},
		.region = task->region,
		.offset = task->window.first,
		.attrs = task->attrs | (task->region->state.attrs & ATTR_ROMD),
	};

	return fill(canvas, &piece);
}

/* One task; *task* is a copy of what stood on the stack. */
static int paint(struct tasks *tasks, struct task *task)
{
	const struct region_state *state = &task->region->state;
	int err = 0;

	if (task->itself)
		return paint_itself(tasks->canvas, task);
	if (!state->enabled || !kas_range_clip(&task->window, (struct range){0, state->last}))
		return 0;
	task->attrs |= state->attrs & ATTRS_FLOWING;
	if (task->region->kind == KVMAS_REGION_ALIAS)
		return push_target(tasks, task);
	if (!task->region->children)
		return task->region->kind == KVMAS_REGION_CONTAINER
			       ? 0
			       : paint_itself(tasks->canvas, task);
	if (task->region->kind != KVMAS_REGION_CONTAINER) {
		task->itself = true;
		err = push(tasks, task);
		task->itself = false;
	}
	return err ? err : push_children(tasks, task);
}

int kas_render(struct kvmas_region *root, struct range window, struct canvas *canvas)
{
	struct tasks tasks = {.canvas = canvas};
	struct task task = {.region = root, .window = window};
	int err;

	canvas->count = 0;
	canvas->gap = 0;
	err = push(&tasks, &task);
	while (!err && tasks.count) {
		task = stack_of(&tasks)[--tasks.count];
		err = paint(&tasks, &task);
	}
	if (!err)
		move_gap(canvas, canvas->count);
	return err;
}

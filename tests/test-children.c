/* SPDX-License-Identifier: MIT */
/* The tree of children, beside a plain array. */
#include "children.h"
#include "fixture.h"
#include "validate.h"

enum { NCHILDREN = 64, NSTEPS = 20000 };

struct box {
	struct fixture *f;
	struct kvmas_region *parent;
	struct kvmas_region *children[NCHILDREN];
	uint64_t random;
	uint64_t places;
};

static uint64_t draw(struct box *box, uint64_t n)
{
	box->random = box->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (box->random >> 33) % n;
}

static uint64_t draw_address(struct box *box)
{
	return draw(box, 8) ? draw(box, 1000) : UINT64_MAX - draw(box, 100);
}

static void set_up(struct fixture *f, struct box *box)
{
	*box = (struct box){.f = f, .parent = make_container(f, "box", KVMAS_SIZE_MAX)};
	for (int i = 0; i < NCHILDREN; i++)
		box->children[i] = make_mmio(f, "child", 1);
}

static void put(struct box *box, struct kvmas_region *child, bool in)
{
	struct region_state state = child->state;

	state.parent = in ? box->parent : NULL;
	state.place = ++box->places;
	state.offset = draw_address(box);
	state.last = draw(box, 4) ? draw(box, 100) : draw_address(box);
	kas_region_put(child, &state);
}

static void resize(struct box *box, struct kvmas_region *child)
{
	struct region_state state = child->state;

	state.last = draw_address(box);
	kas_region_put(child, &state);
}

static void take_all_out(struct box *box)
{
	for (int i = 0; i < NCHILDREN; i++)
		put(box, box->children[i], false);
}

static bool is_under(const struct kvmas_region *child, struct range window)
{
	struct range extent = kas_child_extent(&child->state);

	return child->state.parent && extent.first <= window.last && extent.last >= window.first;
}

/* All that the tree finds is under the window and ascends, and all that is under it is found. */
static void check_window(const struct box *box, struct range window)
{
	const struct kvmas_region *child = kas_children_first(box->parent, window);
	unsigned expected = 0;
	unsigned found = 0;
	uint64_t offset = 0;

	for (int i = 0; i < NCHILDREN; i++)
		expected += is_under(box->children[i], window);
	for (; child; child = kas_children_next(child, window)) {
		assert_true(is_under(child, window));
		assert_true(child->state.offset >= offset);
		offset = child->state.offset;
		found++;
	}
	assert_int_equal(found, expected);
}

static void children_under_a_window_are_found_after_random_changes(void **state)
{
	struct box box;

	set_up(*state, &box);
	for (int i = 0; i < NSTEPS; i++) {
		struct kvmas_region *child = box.children[draw(&box, NCHILDREN)];
		uint64_t first = draw_address(&box);
		struct range window = {first, kas_add_saturating(first, draw(&box, 200))};
		const char *fault;

		if (child->state.parent && draw(&box, 3) == 0)
			resize(&box, child);
		else
			put(&box, child, draw(&box, 3));
		fault = validate_children(box.parent);
		if (fault)
			fail_msg("step %d: %s", i, fault);
		check_window(&box, window);
	}
	take_all_out(&box);
	assert_null(box.parent->children);
}

static unsigned depth_of(const struct kvmas_region *node)
{
	unsigned left = node ? depth_of(node->node.left) : 0;
	unsigned right = node ? depth_of(node->node.right) : 0;

	return node ? 1 + (left > right ? left : right) : 0;
}

static void children_added_by_address_stay_balanced(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", KVMAS_SIZE_MAX);

	for (uint64_t i = 0; i < 1000; i++)
		add(box, make_mmio(f, "child", 1), i, 0);
	assert_in_range(depth_of(box->children), 10, 40);
}

static void validate_sees_planted_faults(void **state)
{
	struct box box;
	struct child_node kept;
	struct kvmas_region *top;

	set_up(*state, &box);
	for (int i = 0; i < NCHILDREN; i++)
		put(&box, box.children[i], true);
	assert_null(validate_children(box.parent));
	top = box.parent->children;
	kept = top->node;
	top->node.end--;
	assert_string_equal(validate_children(box.parent), "children I3: a wrong end");
	top->node = kept;
	top->node.weight = 0;
	assert_string_equal(validate_children(box.parent), "children I2: heavier than above");
	top->node = kept;
	top->state.offset ^= UINT64_C(1) << 40;
	assert_non_null(validate_children(box.parent));
	top->state.offset ^= UINT64_C(1) << 40;
	assert_null(validate_children(box.parent));
	take_all_out(&box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(children_under_a_window_are_found_after_random_changes),
		TEST(children_added_by_address_stay_balanced),
		TEST(validate_sees_planted_faults),
	};

	return cmocka_run_group_tests_name("children", tests, NULL, NULL);
}

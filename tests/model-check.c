/* SPDX-License-Identifier: MIT */
/*
 * See model.h: what must be seen, and is it. After every step
 *
 *   - the view of each space shows what the oracle renders of its root, as last committed, lookups
 *     find it, and it is the one before if nothing changed;
 *   - each listener knows just that, with what is logged, was told if and only if something
 *     changed, and was told nothing out of order;
 *   - a view that is let go shows what it showed when it was pinned, and none of its regions has
 *     ended.
 */
#include "model.h"

#include "validate.h"

/* ---- what must be ---- */

static bool is_logged(const struct model *m, const wish_table wishes, int space,
		      const struct oracle_range *range)
{
	int region = 1 + range->node;

	if (range->readonly || m->now.tree.nodes[range->node].kind != KVMAS_REGION_RAM)
		return false;
	return wishes[ANY][ANY] || wishes[ANY][1 + space] || wishes[region][ANY] ||
	       wishes[region][1 + space];
}

static bool same_ranges(const struct oracle_range *a, const struct oracle_range *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (a[i].first != b[i].first || a[i].last != b[i].last || a[i].node != b[i].node ||
		    a[i].offset != b[i].offset || a[i].readonly != b[i].readonly ||
		    a[i].nonvolatile != b[i].nonvolatile || a[i].unmergeable != b[i].unmergeable ||
		    a[i].romd != b[i].romd)
			return false;
	}
	return true;
}

/* What a space's root shows; spaces below this one have been rendered anew. */
static struct oracle_range *render(const struct model *m, int space, size_t *ret_count)
{
	struct oracle_range *copy;

	for (int i = 0; i < space; i++) {
		const struct space_model *other = &m->spaces[i];

		if (!other->space || other->root != m->spaces[space].root)
			continue;
		copy = malloc((other->count + 1) * sizeof(*copy));
		assert_non_null(copy);
		if (other->count)
			memcpy(copy, other->ranges, other->count * sizeof(*copy));
		*ret_count = other->count;
		return copy;
	}
	return oracle_render(&m->now.tree, m->spaces[space].root, ret_count);
}

static bool foretell_view(struct model *m, int index)
{
	struct space_model *space = &m->spaces[index];
	size_t count;
	struct oracle_range *ranges = render(m, index, &count);
	bool same = count == space->count && same_ranges(ranges, space->ranges, count);

	free(space->ranges);
	space->ranges = ranges;
	space->count = count;
	space->fresh = false;
	if (count > m->max_ranges)
		fail_msg("%zu ranges, and the cap is %zu", count, (size_t)m->max_ranges);
	if (count > m->tally->largest)
		m->tally->largest = count;
	m->tally->published += !same;
	m->tally->ranges += same ? 0 : count;
	return !same;
}

static bool logging_changes(const struct model *m, int index)
{
	const struct space_model *space = &m->spaces[index];

	for (size_t i = 0; i < space->count; i++) {
		if (is_logged(m, m->told, index, &space->ranges[i]) !=
		    is_logged(m, m->now.wishes, index, &space->ranges[i]))
			return true;
	}
	return false;
}

void model_foretell(struct model *m)
{
	bool publishes = false;

	for (int i = 0; i < MAX_SPACES; i++) {
		struct space_model *space = &m->spaces[i];

		if (!space->space)
			continue;
		if (m->edited || space->fresh)
			space->changes = foretell_view(m, i);
		publishes |= space->changes;
		space->changes |= logging_changes(m, i);
	}
	m->tally->commits += m->edited;
	m->tally->publishing += publishes;
	memcpy(m->told, m->now.wishes, sizeof(m->told));
	m->edited = false;
}

/* However it goes about it, the library need not look at more than each path once for each change,
 * and no view is made of more than two pieces for each path. */
bool model_may_pass_cap(const struct model *m)
{
	uint64_t paths = model_paths(m);

	return paths * (2 + m->nedits) > m->max_nodes || 2 * paths > m->max_ranges;
}

static void foretell_section(const struct model *m, const struct oracle_range *range,
			     struct kvmas_section *ret)
{
	const struct place *place = &m->places[range->node];
	enum kvmas_region_kind kind = m->now.tree.nodes[range->node].kind;
	uint64_t length = range->last - range->first;

	*ret = (struct kvmas_section){
		.gpa = range->first,
		.size = length == UINT64_MAX ? KVMAS_SIZE_MAX : length + 1,
		.last = range->last,
		.region = place->region,
		.offset = range->offset,
		.readonly = range->readonly,
		.nonvolatile = range->nonvolatile,
		.unmergeable = range->unmergeable,
		.romd = range->romd,
		.fd = -1,
	};
	if (kind != KVMAS_REGION_RAM && kind != KVMAS_REGION_ROM && !range->romd)
		return;
	ret->ram = m->blocks[place->block];
	ret->ram_offset = place->block_offset + range->offset;
	ret->hva = (char *)kvmas_ram_get_hva(ret->ram) + ret->ram_offset;
	ret->fd = kvmas_ram_get_fd(ret->ram);
	ret->fd_offset = ret->fd < 0 ? 0 : ret->ram_offset;
}

/* ---- what is ---- */

static void differ(const struct model *m, const struct space_model *space, const char *what,
		   char *is)
{
	char *must_be = NULL;

	text_add(&must_be, "%s", "");
	for (size_t i = 0; i < space->count; i++) {
		struct kvmas_section section;

		foretell_section(m, &space->ranges[i], &section);
		section_text(&must_be, &section);
		text_add(&must_be, "\n");
	}
	print_error("%s is\n%sbut must be\n%s", what, is, must_be);
	free(is);
	free(must_be);
	fail_msg("%s is wrong", what);
}

static bool view_is_right(const struct model *m, const struct space_model *space,
			  const struct kvmas_view *view)
{
	struct kvmas_section section;
	struct kvmas_section expected;
	int err = kvmas_view_find(view, 0, &section);

	for (size_t i = 0; i < space->count; i++) {
		if (err)
			return false;
		foretell_section(m, &space->ranges[i], &expected);
		if (!mirror_same_section(&section, &expected) || section.logged ||
		    section.was_logged)
			return false;
		err = kvmas_view_next(view, &section);
	}
	return err == -ENOENT;
}

/* The first range that ends at *gpa* or after it; the count if none does. */
static size_t find_range(const struct space_model *space, uint64_t gpa)
{
	size_t i = 0;

	while (i < space->count && space->ranges[i].last < gpa)
		i++;
	return i;
}

static bool lookup_is_right(const struct model *m, const struct space_model *space,
			    const struct kvmas_view *view, uint64_t gpa)
{
	size_t at = find_range(space, gpa);
	struct kvmas_section expected;
	struct kvmas_section found;
	struct kvmas_section looked_up;
	int find_error = kvmas_view_find(view, gpa, &found);
	int lookup_error = kvmas_view_lookup(view, gpa, &looked_up);

	if (at == space->count)
		return find_error == -ENOENT && lookup_error == -ENOENT;
	foretell_section(m, &space->ranges[at], &expected);
	if (find_error || !mirror_same_section(&found, &expected))
		return false;
	if (gpa < expected.gpa)
		return lookup_error == -ENOENT;
	return lookup_error == 0 && mirror_same_section(&looked_up, &expected);
}

/* Around the ends of some range, by turns, and at the ends of all addresses. */
static uint64_t pick_address(const struct model *m, const struct space_model *space)
{
	uint64_t turn = m->nsteps * UINT64_C(0x9e3779b97f4a7c15) >> 32;
	const struct oracle_range *range;

	if (space->count == 0 || turn % 8 == 0)
		return turn & 8 ? UINT64_MAX : 0;
	range = &space->ranges[turn / 8 % space->count];
	return (turn % 2 ? range->first : range->last) + turn % 3 - 1;
}

static void check_space(struct model *m, struct space_model *space)
{
	const struct kvmas_view *view = kvmas_view_acquire(m->f->reader, space->space);
	uint64_t gpa = pick_address(m, space);

	if (!view_is_right(m, space, view))
		differ(m, space, "the view", view_text(view));
	if (!lookup_is_right(m, space, view, gpa))
		fail_msg("looking up 0x%llx gives something else", (unsigned long long)gpa);
	if (space->view && space->view != view && !space->changes)
		fail_msg("a view was published that shows the same");
	space->view = view; /* only compared: the next is made while this one lives */
	kvmas_view_release(m->f->reader, view);
}

static char *mirror_text(const struct mirror *mirror)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (size_t i = 0; i < mirror->count; i++) {
		section_text(&text, &mirror->sections[i]);
		text_add(&text, "%s\n", mirror->sections[i].logged ? " logged" : "");
	}
	return text;
}

static bool mirror_is_right(const struct model *m, const struct hearer *hearer)
{
	const struct space_model *space = &m->spaces[hearer->space];
	const struct mirror *mirror = &hearer->mirror;

	if (mirror->count != space->count)
		return false;
	for (size_t i = 0; i < space->count; i++) {
		struct kvmas_section expected;

		foretell_section(m, &space->ranges[i], &expected);
		if (!mirror_same_section(&mirror->sections[i], &expected) ||
		    mirror->sections[i].logged !=
			    is_logged(m, m->told, hearer->space, &space->ranges[i]))
			return false;
	}
	return true;
}

void model_check_hearer(struct model *m, const struct hearer *hearer)
{
	if (hearer->mirror.fault)
		fail_msg("listener: %s", hearer->mirror.fault);
	if (!mirror_is_right(m, hearer))
		differ(m, &m->spaces[hearer->space], "what the listener knows",
		       mirror_text(&hearer->mirror));
}

/* ---- views that are held ---- */

void model_pin(struct model *m, struct pin *pin, int space)
{
	const struct kvmas_view *view = kvmas_view_acquire(pin->reader, m->spaces[space].space);
	size_t room = m->spaces[space].count + 1; /* a view that is wrong is found by the check */
	struct kvmas_section section;
	int err;

	pin->view = view;
	pin->count = 0;
	pin->sections = calloc(room, sizeof(*pin->sections));
	assert_non_null(pin->sections);
	for (err = kvmas_view_find(view, 0, &section); !err && pin->count < room;
	     err = kvmas_view_next(view, &section))
		pin->sections[pin->count++] = section;
}

void model_unpin(struct model *m, struct pin *pin)
{
	struct kvmas_section section;
	int err = kvmas_view_find(pin->view, 0, &section);

	(void)m;
	for (size_t i = 0; i < pin->count; i++) {
		const struct kvmas_section *before = &pin->sections[i];
		const struct being *being;

		assert_int_equal(err, 0);
		assert_true(mirror_same_section(&section, before));
		being = kvmas_region_get_opaque(section.region);
		assert_int_equal(being->destroyed, 0);
		assert_int_equal(kvmas_view_lookup(pin->view, before->last, &section), 0);
		assert_true(mirror_same_section(&section, before));
		err = kvmas_view_next(pin->view, &section);
	}
	assert_int_equal(err, -ENOENT);
	kvmas_view_release(pin->reader, pin->view);
	pin->view = NULL;
	free(pin->sections);
	pin->sections = NULL;
}

/* The invariants inside, now and then: it takes as long as all else. */
static void check_inside(struct model *m)
{
	const char *fault = m->depth || m->nsteps % 8 ? NULL : validate(m->f->kvmas);

	if (fault)
		fail_msg("%s", fault);
}

void model_check(struct model *m)
{
	check_inside(m);
	if (m->inside_taken)
		fail_msg("a call from inside a listener's callback was not refused with -EBUSY");
	for (unsigned i = 0; i < MAX_SPACES; i++) {
		if (m->spaces[i].handle)
			check_space(m, &m->spaces[i]);
	}
	for (unsigned i = 0; i < MAX_HEARERS; i++) {
		struct hearer *hearer = &m->hearers[i];

		if (!hearer->listener)
			continue;
		model_check_hearer(m, hearer);
		if (hearer->owed)
			fail_msg("a listener that agreed heard neither commit nor cancel");
		if (hearer->mirror.begins != m->spaces[hearer->space].changes)
			fail_msg("a listener was told %u times, and its space %s",
				 hearer->mirror.begins,
				 m->spaces[hearer->space].changes ? "changed" : "did not change");
		m->tally->told += hearer->mirror.begins;
		hearer->mirror.begins = 0;
		hearer->mirror.commits = 0;
	}
	for (unsigned i = 0; i < MAX_SPACES; i++)
		m->spaces[i].changes = false;
}

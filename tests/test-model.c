/* SPDX-License-Identifier: MIT */
/*
 * Random steps on the library and on a model of it (model.h), side by side. After every step
 *
 *   - the result of the call is what the model foretold, or -ENOMEM if an allocation was failed;
 *   - every space's view is what the oracle renders of the last committed state;
 *   - inside a transaction, what the library would render is what the oracle renders of the tree;
 *   - a listener of each space, which keeps its own list from additions and deletions (mirror.h),
 *     has just the view, was called if and only if something changed, and was told nothing out of
 *     order.
 *
 * KVMAS_SEED and KVMAS_STEPS choose the run. Read run_model first.
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>

#include "view.h"

/* ---- what must be ---- */

static void expect_text(const char *what, const char *is, const char *must_be)
{
	if (strcmp(is, must_be) != 0)
		fail_msg("%s is\n%sbut must be\n%s", what, is, must_be);
}

/* What the library would show of the tree, as it stands inside a transaction. */
static char *render_text(struct model *m, unsigned view)
{
	struct kvmas_region *root = m->regions[m->views[view].root];
	struct flat flat = {0};
	char *text = NULL;
	int err = kas_render(root, &flat);

	text_add(&text, "%s", "");
	for (size_t i = 0; !err && i < flat.count; i++) {
		struct kvmas_section section;

		kas_section_fill(&section, &flat.ranges[i]);
		section_text(&text, &section);
		text_add(&text, "\n");
	}
	kas_flat_fini(m->f->kvmas, &flat);
	if (!err)
		return text;
	free(text);
	return NULL; /* past a cap */
}

static void check_uncommitted(struct model *m, unsigned view)
{
	char *is = render_text(m, view);
	char *must_be = oracle_text(&m->now.tree, m->views[view].root);

	if (is)
		expect_text("the tree in a transaction", is, must_be);
	else
		assert_true(m->tight);
	free(is);
	free(must_be);
}

static void check_view(struct model *m, unsigned view)
{
	struct view_model *v = &m->views[view];
	char *is = space_text(m->f, v->space);
	char *mirrored = mirror_text(&v->mirror);

	expect_text("the view", is, v->lines);
	expect_text("what the listener knows", mirrored, v->told);
	if (v->mirror.fault)
		fail_msg("listener: %s", v->mirror.fault);
	free(is);
	free(mirrored);
}

/* The committed state may have changed: foretell all views anew, and see who was told. */
static void foretell(struct model *m, unsigned view)
{
	struct view_model *v = &m->views[view];
	char *told = told_text(m, &m->now, view);
	bool changes = strcmp(told, v->told) != 0;

	assert_int_equal(v->mirror.begins, changes);
	m->published += changes;
	free(v->told);
	free(v->lines);
	v->told = told;
	v->lines = oracle_text(&m->now.tree, v->root);
}

static void check(struct model *m)
{
	for (unsigned i = 0; i < NSPACES; i++) {
		if (m->depth == 0)
			foretell(m, i);
		else
			assert_int_equal(m->views[i].mirror.begins, 0);
		check_view(m, i);
		if (m->depth)
			check_uncommitted(m, i);
		m->views[i].mirror.begins = 0;
		m->views[i].mirror.commits = 0;
	}
	forget_notes(m->f);
}

/* ---- running ---- */

static unsigned draw_step(struct model *m)
{
	unsigned total = 0;
	unsigned at;
	unsigned i = 0;

	for (i = 0; i < NSTEPS; i++)
		total += model_steps[i].weight;
	at = (unsigned)draw(m, total);
	for (i = 0; at >= model_steps[i].weight; i++)
		at -= model_steps[i].weight;
	return i;
}

static bool may_fail_so(const struct model *m, int result)
{
	if (result == -ENOMEM)
		return m->f->heap.failed;
	return result == -E2BIG && m->tight && m->depth == 0;
}

static int take_step(struct model *m, const struct step *step)
{
	int result;

	copy_state(&m->next, &m->now);
	m->expected = 0;
	m->f->heap.failed = false;
	m->f->heap.fail_in = draw(m, 6) ? 0 : (unsigned)(1 + draw(m, 8));
	result = step->run(m);
	m->f->heap.fail_in = 0;
	if (result != m->expected && !(m->expected == 0 && may_fail_so(m, result)) &&
	    !(result == -ENOMEM && m->f->heap.failed))
		fail_msg("%s returned %d and not %d", step->name, result, m->expected);
	if (result == 0)
		copy_state(&m->now, &m->next);
	m->failed += result != 0;
	m->no_memory += result == -ENOMEM;
	m->past_cap += result == -E2BIG;
	return result;
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void start_model(struct model *m, uint64_t seed, bool tight)
{
	*m = (struct model){.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1, .tight = tight};
	m->f = fixture_new(tight ? (struct kvmas_config){.max_ranges = 5, .max_nodes = 12}
				 : (struct kvmas_config){0});
	m->now.tree.nodes = m->now.nodes;
	m->now.tree.count = NREGIONS;
	for (int i = 0; i < NREGIONS; i++)
		make_node(m, i);
	must(kvmas_client_new(m->f->kvmas, "client", &m->client));
	for (unsigned i = 0; i < NSPACES; i++)
		make_view(m, i);
}

static void end_model(struct model *m)
{
	for (; m->depth; m->depth--)
		must(kvmas_abort(m->f->kvmas));
	kvmas_client_unref(m->client);
	for (unsigned i = 0; i < NSPACES; i++)
		drop_view(m, i);
	fixture_free(m->f);
}

static void run_model(bool tight)
{
	uint64_t seed = number_from("KVMAS_SEED", 1);
	uint64_t nsteps = number_from("KVMAS_STEPS", 20000);
	unsigned done[NSTEPS][2] = {{0}};
	static struct model m;

	print_message("KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%" PRIu64 "%s\n", seed, nsteps,
		      tight ? ", with small caps" : "");
	start_model(&m, seed, tight);
	for (uint64_t i = 0; i < nsteps; i++) {
		unsigned step = draw_step(&m);

		done[step][take_step(&m, &model_steps[step]) != 0]++;
		check(&m);
	}
	for (unsigned i = 0; i < NSTEPS; i++)
		print_message("%13s %6u done %6u failed\n", model_steps[i].name, done[i][0],
			      done[i][1]);
	print_message("%u views published, %u calls failed: %u without memory, %u past a cap\n",
		      m.published, m.failed, m.no_memory, m.past_cap);
	end_model(&m);
}

static void random_steps_agree_with_the_model(void **state)
{
	(void)state;
	run_model(false);
}

static void random_steps_with_small_caps_agree_with_the_model(void **state)
{
	(void)state;
	run_model(true);
}

/* ---- the checkers, checked ---- */

static struct kvmas_section section_at(uint64_t gpa)
{
	return (struct kvmas_section){.gpa = gpa, .size = 0x1000, .last = gpa + 0xfff};
}

/* A listener that has been told of two sections, in the middle of a telling. */
static struct mirror *told_of_two(void)
{
	static struct mirror mirror;
	struct kvmas_section low = section_at(0x1000);
	struct kvmas_section high = section_at(0x4000);

	mirror = (struct mirror){0};
	mirror_begin(&mirror);
	mirror_add(&mirror, &low);
	mirror_add(&mirror, &high);
	mirror_commit(&mirror);
	mirror_begin(&mirror);
	assert_null(mirror.fault);
	return &mirror;
}

static void assert_fault(struct mirror *mirror, const char *fault)
{
	assert_non_null(mirror->fault);
	assert_string_equal(mirror->fault, fault);
}

static void listeners_list_sees_what_it_was_told_wrongly(void **state)
{
	struct kvmas_section low = section_at(0x1000);
	struct kvmas_section high = section_at(0x4000);
	struct kvmas_section other = section_at(0x4000);
	struct mirror *mirror = told_of_two();

	(void)state;
	other.offset = 1;
	mirror_del(mirror, &other);
	assert_fault(mirror, "told of a section that was never added");
	mirror = told_of_two();
	mirror_del(mirror, &low);
	mirror_del(mirror, &high);
	assert_fault(mirror, "deletions do not descend, or come late");
	mirror = told_of_two();
	mirror_add(mirror, &high);
	assert_fault(mirror, "sections overlap");
	mirror = told_of_two();
	other = section_at(0x9000);
	mirror_add(mirror, &other);
	mirror_del(mirror, &low);
	assert_fault(mirror, "deletions do not descend, or come late");
	mirror = told_of_two();
	mirror_log_stop(mirror, &low);
	assert_fault(mirror, "log_start or log_stop of what is so already");
	mirror = told_of_two();
	other.logged = true;
	mirror_add(mirror, &other);
	mirror_commit(mirror);
	assert_fault(mirror, "no log_start after a logged section was added");
	mirror = told_of_two();
	mirror_begin(mirror);
	assert_fault(mirror, "begin in begin");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listeners_list_sees_what_it_was_told_wrongly),
		cmocka_unit_test(random_steps_agree_with_the_model),
		cmocka_unit_test(random_steps_with_small_caps_agree_with_the_model),
	};

	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}

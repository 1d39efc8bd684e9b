/* SPDX-License-Identifier: MIT */
/*
 * See model.h: how a run is made, one step, its result and its tally. Read model_step first.
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- choices ---- */

static uint64_t next_random(struct choices *choices)
{
	choices->random ^= choices->random << 13;
	choices->random ^= choices->random >> 7;
	choices->random ^= choices->random << 17;
	return choices->random >> 11;
}

/* Little-endian, as few bytes as it takes; zeros when they are used up. */
static uint64_t next_bytes(struct choices *choices, uint64_t n)
{
	uint64_t number = 0;

	for (uint64_t below = 1; below < n; below <<= 8) {
		number <<= 8;
		if (choices->count) {
			number |= *choices->bytes++;
			choices->count--;
		}
	}
	return number;
}

uint64_t draw(struct model *m, uint64_t n)
{
	struct choices *choices = &m->choices;

	return (choices->bytes ? next_bytes(choices, n) : next_random(choices)) % n;
}

bool rarely(struct model *m, uint64_t n)
{
	return draw(m, n) == n - 1;
}

void refuse(struct model *m, int error, bool when)
{
	if (when)
		m->refusals[m->nrefusals++] = error;
}

void say(struct model *m, const char *format, ...)
{
	va_list args;

	if (!m->verbose)
		return;
	fprintf(stderr, "%" PRIu64 ": ", m->nsteps);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
}

/* ---- tally ---- */

static const int errnos[NERRNOS] = {EINVAL, EEXIST, ENOENT, ELOOP,     EXDEV,
				    ENOMEM, E2BIG,  EBUSY,  ECANCELED, 0};
static const char *const errno_names[NERRNOS] = {"EINVAL",    "EEXIST", "ENOENT", "ELOOP",
						 "EXDEV",     "ENOMEM", "E2BIG",  "EBUSY",
						 "ECANCELED", "others"};

const struct step *step_at(unsigned index)
{
	return index < NEDITS ? &model_edits[index] : &model_objects[index - NEDITS];
}

static unsigned errno_index(int error)
{
	unsigned i = 0;

	while (i < NERRNOS - 1 && errnos[i] != error)
		i++;
	return i;
}

static void count_result(struct tally *tally, unsigned step, int result)
{
	tally->steps++;
	if (result)
		tally->refused[step][errno_index(-result)]++;
	else
		tally->done[step]++;
}

static unsigned log2_of(uint64_t number, unsigned most)
{
	unsigned log = 0;

	while (log < most && number >> (log + 1))
		log++;
	return log;
}

static uint64_t sum(const uint64_t *numbers, unsigned count)
{
	uint64_t result = 0;

	for (unsigned i = 0; i < count; i++)
		result += numbers[i];
	return result;
}

unsigned tally_share(const struct tally *tally, unsigned step, int error)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < NSTEPS; i++) {
		if (step < NSTEPS && step != i)
			continue;
		if (error)
			count += tally->refused[i][errno_index(error)];
		else
			count += tally->done[i] + sum(tally->refused[i], NERRNOS);
	}
	return tally->steps ? (unsigned)(1000 * count / tally->steps) : 0;
}

static void print_row(const char *name, const uint64_t *numbers, unsigned count)
{
	print_message("%-16s", name);
	for (unsigned i = 0; i < count; i++)
		print_message(" %8" PRIu64, numbers[i]);
	print_message("\n");
}

void tally_print(const struct tally *tally)
{
	print_message("%" PRIu64 " runs, %" PRIu64 " steps, by what they returned:\n", tally->runs,
		      tally->steps);
	print_message("%-16s %8s %8s", "", "showed", "0");
	for (unsigned i = 0; i < NERRNOS; i++)
		print_message(" %8s", errno_names[i]);
	print_message("\n");
	for (unsigned i = 0; i < NSTEPS; i++) {
		uint64_t row[2 + NERRNOS] = {tally->showed[i], tally->done[i]};

		memcpy(row + 2, tally->refused[i], sizeof(tally->refused[i]));
		print_row(step_at(i)->name, row, LENGTH(row));
	}
	print_message("%-16s %8s %8s", "per mille", "", "");
	for (unsigned i = 0; i < NERRNOS - 1; i++)
		print_message(" %8u", tally_share(tally, NSTEPS, errnos[i]));
	print_message("\n%" PRIu64 " commits of edits, of which %" PRIu64 " published something\n",
		      tally->commits, tally->publishing);
	print_message("%" PRIu64 " views published, of %" PRIu64 " ranges, the largest of %" PRIu64
		      "; listeners told %" PRIu64 " times, refused %" PRIu64 " commits; %" PRIu64
		      " regions ended\n",
		      tally->published, tally->published ? tally->ranges / tally->published : 0,
		      tally->largest, tally->told, tally->vetoes, tally->deaths);
	print_row("edits a commit, below 2, 4, 8 ...", tally->lengths, LENGTH(tally->lengths));
	print_row("regions a run, below 2, 4, 8 ...", tally->regions, LENGTH(tally->regions));
}

/* ---- steps ---- */

static bool has_a_space(const struct model *m)
{
	for (unsigned i = 0; i < MAX_SPACES; i++) {
		if (m->spaces[i].handle)
			return true;
	}
	return false;
}

static unsigned draw_step(struct model *m)
{
	unsigned total = 0;
	unsigned at;
	unsigned i;

	if (!has_a_space(m) && draw(m, 2))
		return STEP_SPACE_NEW;
	if (m->nsteps < m->nregions * (m->wide ? 2 : 1) && draw(m, 8))
		return STEP_ADD; /* first there must be a tree, and somebody who sees it */
	if (m->max_nodes < 1000 && m->depth == 0 && draw(m, 4) == 0)
		return STEP_ADD; /* a cap is reached by growing */
	if (m->depth == 1 && m->aborts_within && !m->doomed && draw(m, 3) == 0)
		return STEP_BEGIN;
	if (m->depth > 1 && draw(m, 3) == 0)
		return m->aborts_within && draw(m, 4) ? STEP_ABORT : STEP_COMMIT;
	if (m->depth == 1 && draw(m, m->patience) == 0)
		return rarely(m, 8) ? STEP_ABORT : STEP_COMMIT;
	for (i = 0; i < NSTEPS; i++)
		total += step_at(i)->weight;
	at = (unsigned)draw(m, total);
	for (i = 0; at >= step_at(i)->weight; i++)
		at -= step_at(i)->weight;
	return i;
}

/* Whether the call may return this, given what was foretold. */
static bool is_foretold(struct model *m, bool edits, int result)
{
	struct node before;
	bool may;

	if (result == -EBUSY && m->may_be_busy)
		return true;
	if (m->vetoed && m->nrefusals == 0)
		return result == -EPERM;
	if (result == -ENOMEM && m->f->heap.failed)
		return true;
	for (unsigned i = 0; i < m->nrefusals; i++) {
		if (result == m->refusals[i])
			return true;
	}
	if (m->nrefusals || result != -E2BIG || !edits)
		return m->nrefusals == 0 && result == 0;
	if (m->node == NONE)
		return model_may_pass_cap(m);
	before = m->now.tree.nodes[m->node];
	m->now.tree.nodes[m->node] = m->after;
	may = model_may_pass_cap(m);
	m->now.tree.nodes[m->node] = before;
	return may;
}

static void apply(struct model *m)
{
	if (m->node != NONE)
		m->now.tree.nodes[m->node] = m->after;
	if (m->wish)
		*m->wish = !*m->wish;
	m->edited |= m->node != NONE;
	m->nedits += m->node != NONE || m->wish;
}

/* An outermost level is over: *back* if what was in it is undone. */
static void settle(struct model *m, unsigned step, int result, bool back)
{
	if (back) {
		model_go_back(m);
		m->edited = false;
		m->doomed = false;
	} else if (result == 0) {
		uint64_t published = m->tally->published;

		m->tally->lengths[log2_of(m->nedits, LENGTH(m->tally->lengths) - 1)]++;
		model_foretell(m);
		m->tally->showed[step] += m->tally->published > published;
	}
	m->nedits = 0;
	model_collect(m);
	model_settle_fresh(m);
}

static void prepare_step(struct model *m, const struct step *step)
{
	m->step = step->name;
	m->nrefusals = 0;
	m->may_be_busy = false;
	m->node = NONE;
	m->wish = NULL;
	m->ended = m->depth == 0 && step->edits;
	m->f->heap.failed = false;
	m->f->heap.fail_in = 0;
	m->veto = rarely(m, 12) ? 1 + (unsigned)draw(m, 3) : 0;
	m->vetoed = false;
	if (rarely(m, 8))
		m->f->heap.fail_in = 1 + (unsigned)draw(m, UINT64_C(1) << draw(m, 6));
}

static bool take_step(struct model *m, unsigned index)
{
	const struct step *step = step_at(index);
	bool is_end = index == STEP_COMMIT || index == STEP_ABORT;
	int result;

	prepare_step(m, step);
	result = step->run(m);
	m->f->heap.fail_in = 0;
	if (result == SKIPPED)
		return false;
	say(m, " = %d\n", result);
	if (!is_foretold(m, step->edits || m->ended, result))
		fail_msg("%s returned %d, foretold: %d", step->name, result,
			 m->nrefusals ? m->refusals[0] : 0);
	count_result(m->tally, index, result);
	if (result == 0)
		apply(m);
	m->tally->vetoes += m->vetoed;
	if (m->ended)
		settle(m, index, result, is_end && (result || index == STEP_ABORT));
	model_check(m);
	forget_notes(m->f);
	m->nsteps++;
	return true;
}

bool model_step(struct model *m)
{
	for (unsigned i = 0; i < 1000; i++) {
		if (m->choices.bytes && m->choices.count == 0)
			return false;
		if (take_step(m, draw_step(m)))
			return true;
	}
	return false;
}

/* ---- runs ---- */

static void draw_run(struct model *m)
{
	static const unsigned most[] = {4, 8, 16, 24, 48, 100, 200, MAX_REGIONS};
	bool tight = draw(m, 9) < 5;

	m->nregions = 2 + (unsigned)draw(m, most[draw(m, tight ? 5 : LENGTH(most))] - 1);
	m->nroots = 1 + (unsigned)draw(m, m->nregions < 16 ? 1 + m->nregions / 6 : 4);
	m->wide = m->nregions >= 32 && draw(m, 2);
	if (m->wide)
		m->nroots = 1;
	m->nplaces = m->nregions * (m->wide ? 16 : draw(m, 2) ? 2 : 8) + 4;
	m->max_ranges = tight ? 1 + draw(m, 2 + m->nregions / 24) : 65536;
	m->max_nodes = tight ? 4 + draw(m, 1 + m->nregions / 3) : 4194304;
	m->tally->regions[log2_of(m->nregions, LENGTH(m->tally->regions) - 1)]++;
	m->tally->runs++;
}

static void make_foreign(struct model *m)
{
	must(kvmas_new(NULL, &m->foreign));
	must(kvmas_region_new(m->foreign,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER,
					   .name = "another's", .size = 0x1000),
			      &m->foreign_region));
}

static void make_regions(struct model *m)
{
	for (unsigned i = 0; i < m->nregions; i++)
		tree_add(&m->now.tree, (struct node){.name = "free", .parent = NONE});
	for (unsigned i = 0; i < m->nregions; i++) {
		enum kvmas_region_kind kind = model_draw_kind(m);

		if (i < m->nroots && !rarely(m, 8)) /* a device shows in every gap */
			kind = m->wide && draw(m, 2) ? KVMAS_REGION_MMIO : KVMAS_REGION_CONTAINER;
		model_make_region(m, (int)i, kind);
	}
}

static void make_blocks(struct model *m)
{
	const uint64_t size = BLOCK_PAGES * page_size();

	for (unsigned i = 0; i < NBLOCKS; i++) {
		must(kvmas_ram_new(
			m->f->kvmas,
			KVMAS_CONFIG(ram, .name = "block", .size = size, .max_size = size),
			&m->blocks[i]));
		m->now.pages[i] = BLOCK_PAGES;
	}
}

struct model *model_new(uint64_t seed, struct choices choices, struct tally *tally)
{
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->seed = seed;
	m->choices = choices;
	m->tally = tally;
	m->verbose = getenv("KVMAS_VERBOSE") != NULL;
	draw_run(m);
	m->f = fixture_new(
		(struct kvmas_config){.max_ranges = m->max_ranges, .max_nodes = m->max_nodes});
	make_foreign(m);
	make_blocks(m);
	must(kvmas_client_new(m->f->kvmas, "client", &m->client));
	for (unsigned i = 0; i < MAX_PINS; i++)
		must(kvmas_reader_add(m->f->kvmas, &m->pins[i].reader));
	make_regions(m);
	return m;
}

static void free_objects(struct model *m)
{
	for (unsigned i = 0; i < MAX_HEARERS; i++) {
		if (m->hearers[i].listener)
			must(kvmas_listener_del(m->hearers[i].listener));
		mirror_fini(&m->hearers[i].mirror);
	}
	for (unsigned i = 0; i < MAX_PINS; i++) {
		if (m->pins[i].view)
			model_unpin(m, &m->pins[i]);
		kvmas_reader_del(m->pins[i].reader);
	}
	for (unsigned i = 0; i < MAX_SPACES; i++) {
		if (m->spaces[i].handle)
			kvmas_space_unref(m->spaces[i].space);
		free(m->spaces[i].ranges);
	}
	for (unsigned i = 0; i < m->nregions; i++) {
		if (m->places[i].handle)
			kvmas_region_unref(m->places[i].region);
	}
	kvmas_client_unref(m->client);
	for (unsigned i = 0; i < NBLOCKS; i++)
		kvmas_ram_unref(m->blocks[i]);
}

void model_free(struct model *m)
{
	struct being *being;

	for (; m->depth; m->depth--)
		must(kvmas_abort(m->f->kvmas));
	free_objects(m);
	fixture_free(m->f); /* demands every byte back */
	kvmas_region_unref(m->foreign_region);
	kvmas_unref(m->foreign);
	while ((being = m->beings)) {
		assert_int_equal(being->destroyed, 1);
		m->beings = being->next;
		free(being);
	}
	tree_fini(&m->now.tree);
	tree_fini(&m->saved.tree);
	free(m);
}

/* SPDX-License-Identifier: MIT */
/*
 * See kvm-model.h: one transaction. Before its commit a dry run says which sections there will be,
 * from which the referee knows what will be wanted, what that costs, and whether it can be had at
 * all; and another which operations are planned. Then the commit is made, with something that
 * fails or not, and judged: by the slots that the double has, by what the trace hook was told, by
 * the counters, and against both dry runs. Read world_change first.
 */
#include "kvm-model.h"

#include <limits.h>
#include <stdio.h>

/* What is known of a commit before it is made. */
struct outlook {
	struct fake_kvm *vm; /* a copy */
	struct kvmas_kvm_stats stats;
	unsigned npauses;
	struct slot_list slots[NSPACES];
	struct wanted wanted[NSPACES];
	struct cost cost[NSPACES];
	bool too_many; /* more is wanted than there are ids */
	bool too_high; /* something past the end of the guest's addresses */
	char *plan;    /* dry_run_text; NULL if nobody asked */
	struct kvmas_kvm_plan figures;
};

/* ---- sections ---- */

struct section_list {
	struct kvmas_section *at;
	size_t count;
	struct kvmas_space *space;
};

static void append_section(struct section_list *list, const struct kvmas_section *section)
{
	list->at = realloc(list->at, (list->count + 1) * sizeof(*section));
	assert_non_null(list->at);
	list->at[list->count++] = *section;
}

struct kvmas_section *list_sections(struct world *w, struct kvmas_space *space, size_t *ret_count)
{
	const struct kvmas_view *view = kvmas_view_acquire(w->m->f->reader, space);
	struct section_list list = {0};
	struct kvmas_section section;
	int err;

	for (err = kvmas_view_find(view, 0, &section); !err; err = kvmas_view_next(view, &section))
		append_section(&list, &section);
	kvmas_view_release(w->m->f->reader, view);
	*ret_count = list.count;
	return list.at;
}

static void delete_section(struct section_list *list, const struct kvmas_section *section)
{
	size_t i = 0;

	while (i < list->count && list->at[i].gpa != section->gpa)
		i++;
	assert_true(i < list->count);
	list->count--;
	memmove(&list->at[i], &list->at[i + 1], (list->count - i) * sizeof(*section));
}

static int change_section(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
			  const struct kvmas_section *section)
{
	struct section_list *list = data;

	if (space != list->space)
		return 0;
	if (kind == KVMAS_CHANGE_DEL)
		delete_section(list, section);
	else if (kind == KVMAS_CHANGE_ADD)
		append_section(list, section);
	return 0;
}

static int by_gpa(const void *a, const void *b)
{
	const struct kvmas_section *left = a, *right = b;

	return left->gpa < right->gpa ? -1 : left->gpa > right->gpa;
}

/* ---- what is wanted ---- */

struct wisher {
	const struct intent *intent;
	const struct kvmas_space *space;
};

static bool is_logged(void *data, const struct kvmas_section *section)
{
	const struct wisher *wisher = data;

	for (unsigned i = 0; i < wisher->intent->nwishes; i++) {
		if (is_wished(&wisher->intent->wishes[i], section, wisher->space))
			return true;
	}
	return false;
}

/* What an as_id should have: by the published view, or by the one that is ahead. */
static void want_in(struct world *w, struct intent *intent, unsigned as_id, bool ahead,
		    struct wanted *wanted)
{
	struct terms *terms = &intent->terms[as_id];
	struct wisher wisher = {intent, intent->bound[as_id]};
	struct section_list list = {.space = intent->bound[as_id]};

	if (list.space)
		list.at = list_sections(w, list.space, &list.count);
	if (list.space && ahead)
		must(kvmas_dry_run(w->m->f->kvmas, change_section, &list));
	if (list.count)
		qsort(list.at, list.count, sizeof(list.at[0]), by_gpa);
	terms->is_logged = is_logged;
	terms->data = &wisher;
	want(wanted, list.at, list.count, terms);
	terms->is_logged = NULL;
	terms->data = NULL;
	free(list.at);
}

/* ---- before ---- */

static void look_ahead(struct world *w, struct outlook *ahead)
{
	struct machine *m = w->m;

	ahead->stats = stats_of(m);
	ahead->npauses = m->npauses;
	for (unsigned i = 0; i < NSPACES; i++) {
		const struct terms *terms = &w->next.terms[i];
		const struct wanted *wanted = &ahead->wanted[i];

		list_slots(&ahead->slots[i], m->vm, i);
		want_in(w, &w->next, i, true, &ahead->wanted[i]);
		ahead->cost[i] = cost_of(&ahead->slots[i], wanted, terms);
		ahead->too_many |= wanted->ncells > terms->ids;
		ahead->too_high |= w->gpa_bits && pages(wanted->end) > UINT64_C(1) << w->gpa_bits;
	}
	if (!one_in(w, 4))
		ahead->plan = dry_run_text(m->kvm, &ahead->figures);
	assert_holds(w, m->vm->ncalls == 0 && m->nops == 0, "a dry run asked KVM");
}

/* ---- failures ---- */

static const int errors[] = {ENOMEM, EEXIST, EINVAL, ENOSPC, EIO, EFAULT, EPERM, ENOENT, EINTR};

static bool answer_nonsense(struct machine *m, unsigned long request, int *result)
{
	enum { NCOUNTS = 3 };
	static const int nonsense[] = {1, 7, INT_MAX, -100000, INT_MIN, -4096, -ENOTRECOVERABLE};
	struct world *w = m->data;

	/* Of a reset each count is one that KVM gives. */
	if (request == KVM_RUN || !one_in(w, 3))
		return false;
	m->answer = NULL;
	w->lied = true;
	*result = nonsense[request == KVM_RESET_DIRTY_RINGS
				   ? NCOUNTS + below(w, LENGTH(nonsense) - NCOUNTS)
				   : below(w, LENGTH(nonsense))];
	return true;
}

void world_inject(struct world *w)
{
	int error = errors[below(w, LENGTH(errors))];

	switch (below(w, 12)) {
	case 0:
		fake_kvm_fail_at(w->m->vm, 1 + below(w, 6), error);
		break;
	case 1:
		fake_kvm_fail_from(w->m->vm, 1 + below(w, 6), error);
		break;
	case 2:
		error = ENOMEM;
		w->storm = 2 + below(w, 3);
		break;
	case 3:
		error = ENOMEM;
		w->m->f->heap.fail_in = 1 + below(w, 24);
		break;
	case 4:
		error = EAGAIN;
		w->m->pause_result = -EAGAIN;
		break;
	case 5:
		error = EPROTO;
		w->m->answer = answer_nonsense;
		break;
	default:
		error = 0;
	}
	w->injected = error;
}

void world_refuse_next(struct world *w)
{
	world_calm(w);
	w->injected = errors[below(w, LENGTH(errors))];
	fake_kvm_fail_at(w->m->vm, 1, w->injected);
}

void world_calm(struct world *w)
{
	fake_kvm_fail_never(w->m->vm);
	w->storm = 0;
	w->m->f->heap.fail_in = 0;
	w->m->pause_result = 0;
	w->m->answer = NULL;
	w->injected = 0;
}

/* ---- after ---- */

/* Slots are what the published views show, whatever became of the commit. */
static void check_slots(struct world *w)
{
	const char *wrong = tables_wrong(w->m);

	assert_holds(w, wrong == NULL, wrong);
	assert_holds(w, !w->m->paused, "vCPUs are still held out");
	for (unsigned i = 0; i < NSPACES && !w->broken; i++) {
		struct wanted wanted;
		struct slot_list slots;

		want_in(w, &w->now, i, false, &wanted);
		list_slots(&slots, w->m->vm, i);
		wrong = slots_wrong(&slots, &wanted, &w->now.terms[i]);
		assert_holds(w, wrong == NULL, wrong);
	}
}

static void check_failure(struct world *w, int result, const struct outlook *ahead, int injected)
{
	struct kvmas_kvm_stats stats = stats_of(w->m);
	bool foretold =
		(ahead->too_many && result == -ENOSPC) || (ahead->too_high && result == -ERANGE);

	w->tally->failed++;
	w->tally->refused += foretold;
	w->next = w->now;
	/* What was logged in between, with vCPUs that could not be held for the undoing, may have
	 * been written to. */
	if (injected == EAGAIN && result == -EEXIST)
		memset(w->may, true, sizeof(w->may));
	if (result == -ENOTRECOVERABLE) {
		w->tally->broken++;
		w->broken = true;
	} else {
		assert_holds(w, fake_kvm_equal_slots(w->m->vm, ahead->vm),
			     "a failed commit left other slots");
	}
	assert_holds(w, foretold || injected || (w->collides && result == -EEXIST),
		     "a commit failed for no reason");
	assert_holds(w,
		     foretold || result == -injected || result == -ENOTRECOVERABLE ||
			     (w->collides && result == -EEXIST),
		     "a commit failed for another reason");
	assert_holds(w, !foretold || w->m->vm->ncalls == 0, "what was foretold cost ioctls");
	assert_holds(w,
		     stats.commits == ahead->stats.commits &&
			     stats.bytes_torn_live == ahead->stats.bytes_torn_live,
		     "a failed commit is counted");
}

/* The counters, and what was done, are what the referee finds from the slots before and after. */
static void check_harm(struct world *w, const struct outlook *ahead)
{
	struct kvmas_kvm_stats stats = stats_of(w->m);
	struct slot_list after[NSPACES];
	struct harm harm;

	for (unsigned i = 0; i < NSPACES; i++)
		list_slots(&after[i], w->m->vm, i);
	harm = harm_of(w->m->ops, w->m->nops, ahead->slots, after);
	w->tally->torn += harm.bytes_torn > 0;
	w->tally->stops += harm.stop;
	assert_holds(w, stats.bytes_torn_live - ahead->stats.bytes_torn_live == harm.bytes_torn,
		     "bytes were torn that are not counted, or the reverse");
	assert_holds(w, w->m->npauses - ahead->npauses == harm.stop,
		     "vCPUs were held out for nothing, or were not");
	assert_holds(w, stats.vcpu_stops - ahead->stats.vcpu_stops == harm.stop,
		     "a stop is not counted, or one that was none");
	assert_holds(w, stats.commits - ahead->stats.commits == (w->m->nops > 0),
		     "a commit is not counted, or one that issued nothing");
}

static void check_costs(struct world *w, const struct outlook *ahead)
{
	const struct fake_kvm *vm = w->m->vm;
	unsigned zaps = vm->count[FAKE_KVM_DELETE] + vm->count[FAKE_KVM_MOVE];
	unsigned gone = 0, calls = 0;
	bool merges = false;

	for (unsigned i = 0; i < NSPACES; i++) {
		const struct cost *cost = &ahead->cost[i];
		struct slot_list slots;

		list_slots(&slots, vm, i);
		assert_holds(
			w, count_is_right(slots.count, &ahead->wanted[i], &w->next.terms[i], cost),
			"the number of slots is not what the policy gives");
		gone += cost->gone;
		calls += cost->gone + cost->gaps + cost->relogged;
		merges |= cost->merges;
	}
	w->tally->merges += merges;
	assert_holds(w, zaps >= gone, "a slot stayed that could not");
	assert_holds(w, merges || zaps == gone, "a slot went that could stay");
	assert_holds(w, merges || w->m->nops <= calls, "there were more calls than it takes");
	assert_holds(w, vm->count[FAKE_KVM_SAME] == 0, "a call changed nothing");
	assert_holds(w, !missed_a_move(w->m->ops, w->m->nops, ahead->slots),
		     "a slot was deleted that could have moved");
}

static void check_figures(struct world *w, const struct outlook *ahead)
{
	const struct kvmas_kvm_plan *plan = &ahead->figures;
	struct kvmas_kvm_stats stats = stats_of(w->m);

	assert_holds(w, strcmp(ahead->plan, w->m->traced ? w->m->traced : "") == 0,
		     "the dry run told other operations");
	assert_holds(w,
		     stats.slot_creates - ahead->stats.slot_creates == plan->slot_creates &&
			     stats.slot_deletes - ahead->stats.slot_deletes == plan->slot_deletes &&
			     stats.slot_moves - ahead->stats.slot_moves == plan->slot_moves &&
			     stats.slot_flags - ahead->stats.slot_flags == plan->slot_flags,
		     "the dry run told other numbers of operations");
	assert_holds(w,
		     plan->zap_events == plan->slot_deletes + plan->slot_moves &&
			     plan->bytes_torn_live ==
				     stats.bytes_torn_live - ahead->stats.bytes_torn_live &&
			     plan->stop == w->m->npauses - ahead->npauses,
		     "the dry run told other harm");
	for (unsigned i = 0; i < NSPACES; i++) {
		struct slot_list slots;

		list_slots(&slots, w->m->vm, i);
		assert_holds(w, plan->slots[i] == slots.count,
			     "the dry run told another number of slots");
	}
}

static void check_success(struct world *w, const struct outlook *ahead)
{
	w->tally->commits++;
	w->tally->repaired += w->broken;
	w->tally->changed += !fake_kvm_equal_slots(w->m->vm, ahead->vm);
	w->tally->moves += w->m->vm->count[FAKE_KVM_MOVE];
	w->broken = false;
	assert_holds(w, !ahead->too_many && !ahead->too_high, "what cannot be had was given");
	check_costs(w, ahead);
	check_harm(w, ahead);
	if (ahead->plan)
		check_figures(w, ahead);
	for (unsigned i = 0; i < NSPACES; i++)
		w->next.terms[i].merge_now = false;
	w->now = w->next;
}

static void commit(struct world *w, struct outlook *ahead, bool inject)
{
	char expected[16];
	int injected;
	int result;

	look_ahead(w, ahead);
	if (inject)
		world_inject(w);
	result = kvmas_commit(w->m->f->kvmas);
	injected = w->injected;
	world_calm(w);
	if (result)
		check_failure(w, result, ahead, injected);
	else
		check_success(w, ahead);
	if (result && ahead->plan && !injected && result != -EEXIST) {
		snprintf(expected, sizeof(expected), "%d\n", result);
		assert_holds(w, strcmp(ahead->plan, expected) == 0,
			     "the dry run told no such failure");
	}
}

/* An inner level that is aborted takes all with it. */
static void doom(struct world *w)
{
	struct kvmas *kvmas = w->m->f->kvmas;

	must(kvmas_begin(kvmas));
	world_edit(w);
	must(kvmas_abort(kvmas));
	assert_int_equal(kvmas_commit(kvmas), -ECANCELED);
}

void world_change(struct world *w)
{
	struct outlook *ahead = calloc(1, sizeof(*ahead));
	unsigned n = one_in(w, 2) ? 1 + below(w, 8) : 1;
	unsigned end = below(w, 24);
	bool starve = one_in(w, 12);

	assert_non_null(ahead);
	ahead->vm = fake_kvm_snapshot(w->m->vm);
	must(kvmas_begin(w->m->f->kvmas));
	if (starve)
		w->m->f->heap.fail_in = 1 + below(w, 24);
	while (n-- > 0)
		world_edit(w);
	world_calm(w);
	if (end > 1) {
		commit(w, ahead, end % 2);
	} else {
		if (end)
			must(kvmas_abort(w->m->f->kvmas));
		else
			doom(w);
		w->next = w->now;
		assert_holds(w, fake_kvm_equal(w->m->vm, ahead->vm), "an abort issued an ioctl");
	}
	check_slots(w);
	fake_kvm_free(ahead->vm);
	free(ahead->plan);
	free(ahead);
}

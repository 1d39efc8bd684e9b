/* SPDX-License-Identifier: MIT */
/*
 * See kvm-scenarios.h. The machine is a small PC: RAM with a window for a device and one for shadow
 * RAM, ROM, a BAR, a card with two more; in SMM all of that again, but SMRAM in the place of the
 * device. Read the table at the end first.
 */
#include "kvm-scenarios.h"

#include <inttypes.h>
#include <limits.h>

#include "kvm-guest.h"
#include "kvm/vm.h"

/* ---- machines ---- */

static void make_pc(struct machine *m)
{
	struct kvmas_region *vga = make_mmio(m->f, "vga", pages(2));

	m->region[RAM] = make_ram(m->f, "ram", pages(64));
	m->region[VGA] = vga;
	m->region[PAM] = make_alias(m->f, "pam", m->region[RAM], pages(12), pages(4));
	m->region[BAR] = make_ram(m->f, "bar", pages(8));
	m->region[BAR_IN_SMM] = make_alias(m->f, "bar-in-smm", m->region[BAR], 0, pages(8));
	m->region[SMRAM] = make_alias(m->f, "smram", m->region[RAM], pages(10), pages(2));
	m->region[ROM] = make_rom(m->f, "rom", pages(4));
	m->region[CARD] = make_ram(m->f, "card", pages(8));
	m->region[SPARE] = make_ram(m->f, "spare", pages(2));
}

static int place_pc(struct machine *m)
{
	const struct {
		struct kvmas_region *parent;
		struct kvmas_region *child;
		unsigned gfn;
		int priority;
	} places[] = {
		{m->root[NORMAL], m->region[RAM], 0, 0},
		{m->root[NORMAL], m->region[VGA], 10, 1},
		{m->root[NORMAL], m->region[PAM], 12, 1},
		{m->root[NORMAL], m->region[BAR], 80, 0},
		{m->root[NORMAL], m->region[CARD], 100, 0},
		{m->root[NORMAL], m->region[ROM], 120, 0},
		{m->root[SMM], m->region[SMRAM], 10, 1},
		{m->root[SMM], m->region[BAR_IN_SMM], 80, 0},
	};
	int err = 0;

	for (size_t i = 0; i < LENGTH(places) && !err; i++)
		err = kvmas_region_add(places[i].parent, places[i].child, pages(places[i].gfn),
				       places[i].priority);
	return err;
}

static void place_all(struct machine *m)
{
	must(kvmas_begin(m->f->kvmas));
	must(place_pc(m));
	must(kvmas_commit(m->f->kvmas));
}

static void prepare_pc(struct machine *m)
{
	make_pc(m);
	place_all(m);
}

/* As it is when the guest has never seen the device. */
void prepare_closed(struct machine *m)
{
	make_pc(m);
	must(kvmas_region_set_enabled(m->region[VGA], false));
	place_all(m);
}

static void prepare_logged(struct machine *m)
{
	prepare_pc(m);
	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
}

static void prepare_closed_logged(struct machine *m)
{
	prepare_closed(m);
	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
}

static void prepare_client(struct machine *m)
{
	prepare_pc(m);
	make_client(m, "c");
}

static void prepare_one_bound(struct machine *m)
{
	prepare_logged(m);
	must(kvmas_kvm_unbind(m->kvm, SMM));
}

static void prepare_shadowed(struct machine *m)
{
	prepare_pc(m);
	must(kvmas_region_set_readonly(m->region[PAM], true));
}

static void prepare_eager(struct machine *m)
{
	prepare_logged(m);
	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER));
}

/* One slot of two sections. */
static void prepare_parts(struct machine *m)
{
	prepare_logged(m);
	must(kvmas_region_set_nonvolatile(m->region[PAM], true));
}

static void prepare_none(struct machine *m)
{
	prepare_parts(m);
	must(kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_NONE));
}

static void prepare_bounded(struct machine *m)
{
	prepare_eager(m);
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(30)));
	must(kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(40)));
}

/* Slots that could be one. */
static void prepare_torn(struct machine *m)
{
	prepare_closed(m);
	must(kvmas_region_set_enabled(m->region[VGA], true));
	must(kvmas_region_set_enabled(m->region[VGA], false));
	must(kvmas_region_set_readonly(m->region[PAM], true));
	must(kvmas_region_set_readonly(m->region[PAM], false));
}

static void prepare_full(struct machine *m)
{
	prepare_torn(m);
	must(kvmas_kvm_set_budget(m->kvm, NORMAL, 5));
}

void prepare_two_ties(struct machine *m)
{
	prepare_logged(m);
	machine_add_tie(m, NULL);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_bind(m->kvm2, m->space[SMM], NORMAL));
	must(kvmas_kvm_bind(m->kvm2, m->space[NORMAL], SMM));
	must(kvmas_kvm_set_merge(m->kvm2, SMM, KVMAS_MERGE_EAGER));
	must(kvmas_commit(m->f->kvmas));
}

/* ---- changes ---- */

int close_vga(struct machine *m)
{
	return kvmas_region_set_enabled(m->region[VGA], false);
}

int open_vga(struct machine *m)
{
	return kvmas_region_set_enabled(m->region[VGA], true);
}

static int make_pam_readonly(struct machine *m)
{
	return kvmas_region_set_readonly(m->region[PAM], true);
}

static int make_pam_writable(struct machine *m)
{
	return kvmas_region_set_readonly(m->region[PAM], false);
}

static int move_bar(struct machine *m)
{
	return kvmas_region_set_offset(m->region[BAR], pages(84));
}

static int move_bar_in_both(struct machine *m)
{
	int err = kvmas_region_set_offset(m->region[BAR], pages(90));

	return err ? err : kvmas_region_set_offset(m->region[BAR_IN_SMM], pages(70));
}

static int swap_bars(struct machine *m)
{
	int err = kvmas_region_set_offset(m->region[BAR], pages(100));

	return err ? err : kvmas_region_set_offset(m->region[CARD], pages(80));
}

/* What was dropped from the cycle of moves is made anew with its old id, and that is not the last
 * operation. */
static int swap_bars_and_add(struct machine *m)
{
	int err = swap_bars(m);

	return err ? err : kvmas_region_add(m->root[NORMAL], m->region[SPARE], pages(130), 0);
}

static int chain_bars(struct machine *m)
{
	int err = kvmas_region_set_offset(m->region[BAR], pages(100));

	return err ? err : kvmas_region_set_offset(m->region[CARD], pages(108));
}

static int start_log(struct machine *m)
{
	return kvmas_client_log_start(m->clients[0], NULL, NULL);
}

static int stop_log(struct machine *m)
{
	return kvmas_client_log_stop(m->clients[0], NULL, NULL);
}

static int bind_smm(struct machine *m)
{
	return kvmas_kvm_bind(m->kvm, m->space[SMM], SMM);
}

static int unbind_normal(struct machine *m)
{
	return kvmas_kvm_unbind(m->kvm, NORMAL);
}

static int exchange_spaces(struct machine *m)
{
	int err = kvmas_kvm_unbind(m->kvm, NORMAL);

	if (!err)
		err = kvmas_kvm_unbind(m->kvm, SMM);
	if (!err)
		err = kvmas_kvm_bind(m->kvm, m->space[SMM], NORMAL);
	return err ? err : kvmas_kvm_bind(m->kvm, m->space[NORMAL], SMM);
}

static int reserve_middle(struct machine *m)
{
	return kvmas_kvm_reserve_range(m->kvm, pages(20), pages(2));
}

static int change_both(struct machine *m)
{
	int err = kvmas_region_del(m->region[RAM]);

	if (!err)
		err = kvmas_region_add(m->root[SMM], m->region[RAM], 0, 0);
	if (!err)
		err = kvmas_region_set_enabled(m->region[SMRAM], false);
	if (!err)
		err = kvmas_client_log_stop(m->clients[0], NULL, NULL);
	if (!err)
		err = kvmas_client_log_start(m->clients[0], m->region[BAR], m->space[SMM]);
	return err ? err : kvmas_kvm_reserve_range(m->kvm, pages(84), pages(1));
}

static int merge_eagerly(struct machine *m)
{
	return kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER);
}

static int merge_never(struct machine *m)
{
	return kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_NONE);
}

static int merge_now(struct machine *m)
{
	return kvmas_kvm_merge(m->kvm, NORMAL);
}

static int cut_budget(struct machine *m)
{
	return kvmas_kvm_set_budget(m->kvm, NORMAL, 1);
}

/* A page in the middle, and the budget is exceeded. */
static int sweep(struct machine *m)
{
	int err = kvmas_region_set_offset(m->region[VGA], pages(40));

	if (!err)
		err = kvmas_region_set_enabled(m->region[VGA], true);
	return err ? err : kvmas_region_set_readonly(m->region[PAM], true);
}

static int declare(struct machine *m)
{
	return kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(30));
}

static int take_back(struct machine *m)
{
	int err = kvmas_kvm_del_boundary(m->kvm, NORMAL, pages(30));

	return err ? err : kvmas_kvm_add_boundary(m->kvm, NORMAL, pages(40));
}

static int keep_apart(struct machine *m)
{
	return kvmas_region_set_unmergeable(m->region[PAM], true);
}

static int change_everything(struct machine *m)
{
	int err = change_both(m);

	if (!err)
		err = kvmas_kvm_set_merge(m->kvm, SMM, KVMAS_MERGE_NONE);
	if (!err)
		err = kvmas_kvm_add_boundary(m->kvm, SMM, pages(8));
	if (!err)
		err = kvmas_kvm_set_budget(m->kvm, NORMAL, 0);
	return err ? err : swap_bars(m);
}

static int change_ties(struct machine *m)
{
	int err = close_vga(m);

	if (!err)
		err = swap_bars(m);
	if (!err)
		err = kvmas_kvm_add_boundary(m->kvm2, SMM, pages(30));
	return err ? err : kvmas_kvm_set_merge(m->kvm, NORMAL, KVMAS_MERGE_EAGER);
}

/* ---- memory of guest_memfds ---- */

/* The pages of SMRAM, below the device, are seen in SMM: a page of the file can be in one slot. */
static void make_private_pc(struct machine *m)
{
	m->region[RAM] = make_private_ram(m, "ram", 32);
	m->region[VGA] = make_mmio(m->f, "vga", pages(2));
	m->region[SMRAM] = make_alias(m->f, "smram", m->region[RAM], pages(10), pages(2));
	m->region[BAR] = make_ram(m->f, "bar", pages(8));
	m->region[CARD] = make_private_ram(m, "card", 8);
}

static int place_private_pc(struct machine *m)
{
	int err = kvmas_region_add(m->root[NORMAL], m->region[RAM], 0, 0);

	if (!err)
		err = kvmas_region_add(m->root[NORMAL], m->region[VGA], pages(10), 1);
	if (!err)
		err = kvmas_region_add(m->root[SMM], m->region[SMRAM], pages(10), 0);
	if (!err)
		err = kvmas_region_add(m->root[NORMAL], m->region[BAR], pages(80), 0);
	return err ? err : kvmas_region_add(m->root[NORMAL], m->region[CARD], pages(100), 0);
}

static void prepare_private(struct machine *m)
{
	make_private_pc(m);
	must(kvmas_begin(m->f->kvmas));
	must(place_private_pc(m));
	must(kvmas_commit(m->f->kvmas));
}

static int move_smram(struct machine *m)
{
	int err = kvmas_region_set_enabled(m->region[SMRAM], false);

	return err ? err : kvmas_region_set_enabled(m->region[VGA], false);
}

static int move_smram_back(struct machine *m)
{
	int err = kvmas_region_set_enabled(m->region[SMRAM], true);

	return err ? err : kvmas_region_set_enabled(m->region[VGA], true);
}

static void prepare_private_torn(struct machine *m)
{
	prepare_private(m);
	must(kvmas_begin(m->f->kvmas));
	must(move_smram(m));
	must(kvmas_commit(m->f->kvmas));
}

static int move_card(struct machine *m)
{
	return kvmas_region_set_offset(m->region[CARD], pages(104));
}

/* The one moves, the other is made anew. */
static int swap_with_card(struct machine *m)
{
	int err = kvmas_region_set_offset(m->region[CARD], pages(80));

	return err ? err : kvmas_region_set_offset(m->region[BAR], pages(100));
}

const struct scenario scenarios[] = {
	{"initial map", make_pc, place_pc},
	{"SMRAM opens", prepare_pc, close_vga, true},
	{"first flip of SMRAM", prepare_closed, open_vga, true},
	{"first flip of SMRAM, logged", prepare_closed_logged, open_vga, true},
	{"SMRAM opens, eager", prepare_eager, close_vga, true},
	{"SMRAM opens, none", prepare_none, close_vga, true},
	{"PAM to readonly", prepare_pc, make_pam_readonly, true},
	{"PAM to readonly, logged", prepare_logged, make_pam_readonly, true},
	{"PAM to writable", prepare_shadowed, make_pam_writable, true},
	{"BAR moves over itself", prepare_logged, move_bar, true},
	{"BAR moves in both", prepare_pc, move_bar_in_both},
	{"BARs change places", prepare_pc, swap_bars},
	{"BARs change places, logged", prepare_logged, swap_bars},
	{"BARs change places, another comes", prepare_pc, swap_bars_and_add},
	{"BARs move up", prepare_eager, chain_bars},
	{"log starts", prepare_client, start_log, true},
	{"log stops", prepare_logged, stop_log, true},
	{"bind", prepare_one_bound, bind_smm, true},
	{"unbind", prepare_logged, unbind_normal, true},
	{"spaces exchanged", prepare_logged, exchange_spaces},
	{"reserved range", prepare_pc, reserve_middle, true},
	{"both spaces", prepare_logged, change_both},
	{"sticky to eager", prepare_torn, merge_eagerly, true},
	{"sticky to none", prepare_parts, merge_never, true},
	{"none to eager", prepare_none, merge_eagerly, true},
	{"merge now", prepare_torn, merge_now, true},
	{"budget becomes less", prepare_torn, cut_budget, true},
	{"budget exceeded", prepare_full, sweep},
	{"boundary declared", prepare_logged, declare, true},
	{"boundary taken back", prepare_bounded, take_back},
	{"region becomes unmergeable", prepare_closed_logged, keep_apart, true},
	{"everything at once", prepare_logged, change_everything},
	{"two ties", prepare_two_ties, change_ties},
	{"private: initial map", make_private_pc, place_private_pc, .guest_memfd = true},
	{"private: pages go to another space", prepare_private, move_smram, .guest_memfd = true},
	{"private: they come back", prepare_private_torn, move_smram_back, .guest_memfd = true},
	{"private: card moves over itself", prepare_private, move_card, true, true},
	{"private: card and BAR change places", prepare_private, swap_with_card,
	 .guest_memfd = true},
	{"private: sticky to eager", prepare_private_torn, merge_eagerly, true, true},
	{"private: unbind", prepare_private, unbind_normal, true, true},
};
enum { PRIVATE_SCENARIOS = 7 };
const size_t nscenarios = LENGTH(scenarios);
const size_t nloggable = LENGTH(scenarios) - PRIVATE_SCENARIOS;

/* ---- one run ---- */

static struct machine *at_rest(struct machine *m)
{
	assert_right(m);
	fake_kvm_reset(m->vm);
	if (m->vm2)
		fake_kvm_reset(m->vm2);
	forget_trace(m);
	m->nioctls = 0;
	m->npauses = 0;
	return m;
}

struct machine *scenario_machine(const struct scenario *scenario)
{
	static const struct fake_kvm_config plain, newer = {.version = FAKE_KVM_6_18};
	struct machine *m = machine_new(scenario->guest_memfd ? &newer : &plain);

	scenario->prepare(m);
	return at_rest(m);
}

struct machine *scenario_machine_logged(const struct scenario *scenario, enum kvmas_kvm_log log)
{
	struct machine *m = machine_new_logging(log);

	scenario->prepare(m);
	if (m->nclients == 0)
		must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
	make_client(m, "watcher");
	return at_rest(m);
}

/* Begin and edit: on an error, it is over. */
static int begin(const struct scenario *scenario, struct machine *m)
{
	int err = kvmas_begin(m->f->kvmas);

	if (err)
		return err;
	err = scenario->edit(m);
	if (err)
		must(kvmas_abort(m->f->kvmas));
	return err;
}

int scenario_run(const struct scenario *scenario, struct machine *m)
{
	int err = begin(scenario, m);

	return err ? err : kvmas_commit(m->f->kvmas);
}

char *scenario_foretell(const struct scenario *scenario, struct machine *m)
{
	struct kvmas_kvm_plan plan;
	char *text;

	must(begin(scenario, m));
	text = dry_run_text(m->kvm, &plan);
	if (m->kvm2) {
		char *second = dry_run_text(m->kvm2, &plan);

		text_add(&text, "%s", second);
		free(second);
	}
	must(kvmas_abort(m->f->kvmas));
	return text;
}

/* ---- state ---- */

static void policy_text(char **text, const struct policy *policy)
{
	text_add(text, "policy %d, budget %u%s\n", policy->merge, policy->budget,
		 policy->merge_now ? ", now" : "");
	for (size_t i = 0; i < policy->nboundaries; i++)
		text_add(text, "boundary %" PRIx64 " x%u\n", policy->boundaries[i].gpa,
			 policy->boundaries[i].count);
}

static void tie_text(char **text, struct kvmas_kvm *kvm)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};
	char *slots = slots_text(kvm);

	text_add(text, "%s", slots);
	free(slots);
	for (unsigned i = 0; i < kvm->nspaces; i++) {
		text_add(text, "as_id %u: %s, %d free\n", i,
			 kvm->spaces[i].space ? kvm->spaces[i].space->name : "-",
			 kvmas_kvm_slots_free(kvm, i));
		policy_text(text, &kvm->spaces[i].policy);
	}
	for (const struct reserved *r = kvm->reserved; r; r = r->next)
		text_add(text, "reserved %" PRIx64 "-%" PRIx64 "\n", r->range.first, r->range.last);
	kvmas_kvm_get_stats(kvm, &stats);
	text_add(text, "%" PRIu64 " commits, %" PRIu64 " bytes torn\n", stats.commits,
		 stats.bytes_torn_live);
}

char *machine_text(struct machine *m)
{
	char *text = state_text(m->f);

	tie_text(&text, m->kvm);
	if (m->kvm2)
		tie_text(&text, m->kvm2);
	return text;
}

/* ---- refusals ---- */

static bool refuse(struct machine *m, unsigned long request, int *result)
{
	struct refusal *refusal = m->data;
	bool log = request == KVM_GET_DIRTY_LOG || request == KVM_RESET_DIRTY_RINGS;
	bool first = ++refusal->ncalls == refusal->first;
	bool second = refusal->ncalls == refusal->second;

	if (!first && !second && !(refusal->second == UINT_MAX && refusal->ncalls > refusal->first))
		return false;
	refusal->hits++;
	refusal->logs += log;
	refusal->first_is_log |= first && log;
	refusal->second_is_log |= second && log;
	*result = refusal->result;
	return true;
}

void machine_refuse(struct machine *m, struct refusal *refusal)
{
	m->data = refusal;
	m->answer = refusal ? refuse : NULL;
}

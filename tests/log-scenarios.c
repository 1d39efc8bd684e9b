/* SPDX-License-Identifier: MIT */
/* See log-scenarios.h. Read the table at the end first. */
#include "log-scenarios.h"

#include "kvm-scenarios.h"

enum { BIG_PAGES = 230, BIG_GFN = 300, BIG_MAX = 290 };

#define ALL (1U << KVMAS_KVM_LOG_AUTO | MANUAL | RINGS)
#define MANUAL (1U << KVMAS_KVM_LOG_MANUAL | 1U << KVMAS_KVM_LOG_MANUAL_SET)
#define RINGS (1U << KVMAS_KVM_LOG_RING)

static struct kvmas_ram *big(const struct ledger *ledger)
{
	return block_of(ledger->m->region[BIG]);
}

/* ---- reading ---- */

static int64_t sync_normal(struct ledger *ledger)
{
	return kvmas_space_sync(ledger->m->space[NORMAL], 0, KVMAS_SIZE_MAX);
}

static int64_t sync_smm(struct ledger *ledger)
{
	return kvmas_space_sync(ledger->m->space[SMM], 0, KVMAS_SIZE_MAX);
}

static int64_t sync_part(struct ledger *ledger)
{
	return kvmas_space_sync(ledger->m->space[NORMAL], pages(BIG_GFN), pages(1));
}

static int64_t sync_region(struct ledger *ledger)
{
	return kvmas_region_sync(ledger->m->region[BIG], 0, KVMAS_SIZE_MAX);
}

static int64_t sync_alias(struct ledger *ledger)
{
	return kvmas_region_sync(ledger->m->region[BIG_IN_SMM], pages(1), pages(5));
}

/* ---- taking ---- */

static int64_t both(int64_t first, int64_t second)
{
	return first < 0 ? first : second;
}

static int64_t sync_all(struct ledger *ledger)
{
	return both(sync_normal(ledger), sync_smm(ledger));
}

/* Without what is yet to be read. */
static int64_t take(struct ledger *ledger)
{
	return ledger_take(ledger, 0, big(ledger), 0, LEDGER_PAGES);
}

static int64_t take_parts(struct ledger *ledger)
{
	int64_t count = ledger_take(ledger, 0, big(ledger), 64, 64);

	count = both(count, ledger_take(ledger, 1, big(ledger), 128, LEDGER_PAGES));
	return both(count, ledger_take(ledger, 2, big(ledger), 0, 1));
}

/* Two clients, of whom each writes down what the other has armed. */
static int64_t take_in_turn(struct ledger *ledger)
{
	int64_t count = sync_all(ledger);

	count = both(count, ledger_take(ledger, 0, big(ledger), 0, LEDGER_PAGES));
	ledger_write_some(ledger, 0, 2);
	count = both(count, sync_all(ledger));
	count = both(count, ledger_take(ledger, 1, big(ledger), 0, LEDGER_PAGES));
	ledger_write_some(ledger, 0, 1);
	return both(count, ledger_take(ledger, 0, big(ledger), 0, LEDGER_PAGES));
}

static int64_t take_everything(struct ledger *ledger)
{
	return both(sync_all(ledger), ledger_take_all(ledger));
}

/* What takes a run, until it is the last that can be dealt with. */
struct taker {
	struct ledger *ledger;
	unsigned nruns;
	unsigned fails_at; /* this one; 0: none */
};

static int deal(void *data, const struct kvmas_dirty_run *run)
{
	struct taker *taker = data;

	if (++taker->nruns == taker->fails_at)
		return -ENODATA;
	for (uint64_t i = 0; i < run->size / page_size(); i++)
		ledger_note_taken(taker->ledger, 0, run->ram, run->ram_offset / page_size() + i);
	/* The guest goes on. */
	ledger_write_some(taker->ledger, 0, 1);
	return 0;
}

static int64_t take_region(struct ledger *ledger)
{
	struct taker taker = {.ledger = ledger};
	int64_t count = sync_all(ledger);

	return both(count, kvmas_client_take_region(ledger->m->clients[0], ledger->m->region[BIG],
						    0, KVMAS_SIZE_MAX, deal, &taker));
}

/* That the taker fails is no failure of the library's. */
static int64_t take_region_in_vain(struct ledger *ledger)
{
	struct taker taker = {.ledger = ledger, .fails_at = 2};
	int64_t count = sync_all(ledger);

	count = both(count, kvmas_client_take_region(ledger->m->clients[0], ledger->m->region[BIG],
						     pages(3) + 1, pages(200), deal, &taker));
	return count == -ENODATA ? 0 : count;
}

static int64_t take_gpa(struct ledger *ledger)
{
	struct taker taker = {.ledger = ledger, .fails_at = 5};
	int64_t count = sync_all(ledger);

	count = both(count, kvmas_client_take_gpa(ledger->m->clients[0], ledger->m->space[SMM], 0,
						  KVMAS_SIZE_MAX, deal, &taker));
	return count == -ENODATA ? 0 : count;
}

static int64_t take_and_put(struct ledger *ledger)
{
	uint64_t bits[LEDGER_WORDS] = {0};
	int64_t count = sync_all(ledger);

	if (count >= 0)
		count = kvmas_client_take(ledger->m->clients[0], big(ledger), 0, BIG_PAGES, bits);
	if (count < 0)
		return count;
	ledger_write_some(ledger, 0, 1);
	return kvmas_client_put(ledger->m->clients[0], big(ledger), 0, BIG_PAGES, bits);
}

/* ---- slots that go ---- */

static int64_t open_hole(struct ledger *ledger)
{
	return kvmas_region_set_enabled(ledger->m->region[HOLE], true);
}

/* The last error, which may be that slots and views differ. */
static int64_t sync_and_open_hole(struct ledger *ledger)
{
	int64_t synced = sync_all(ledger);

	return both(open_hole(ledger), synced);
}

static int64_t move_big(struct ledger *ledger)
{
	return kvmas_region_set_offset(ledger->m->region[BIG], pages(BIG_GFN + 50));
}

static int64_t delete_big(struct ledger *ledger)
{
	return kvmas_region_del(ledger->m->region[BIG]);
}

/* Its id is the next one's. */
static int64_t replace_big(struct ledger *ledger)
{
	int64_t err = kvmas_begin(ledger->m->f->kvmas);

	if (err)
		return err;
	err = kvmas_region_del(ledger->m->region[BIG]);
	if (!err)
		err = kvmas_region_add(ledger->m->root[NORMAL], ledger->m->region[SPARE],
				       pages(600), 0);
	if (!err)
		return kvmas_commit(ledger->m->f->kvmas);
	must(kvmas_abort(ledger->m->f->kvmas));
	return err;
}

static int64_t stop_in_smm(struct ledger *ledger)
{
	return kvmas_client_log_stop(ledger->m->clients[1], NULL, ledger->m->space[SMM]);
}

/* Nobody logs in SMM, for a while. */
static int64_t toggle_smm(struct ledger *ledger)
{
	int64_t err = stop_in_smm(ledger);

	if (err)
		return err;
	ledger_write_some(ledger, 0, 1);
	return kvmas_client_log_start(ledger->m->clients[1], NULL, ledger->m->space[SMM]);
}

static int64_t start_of_one_region(struct ledger *ledger)
{
	return kvmas_client_log_start(ledger->m->clients[2], ledger->m->region[BIG],
				      ledger->m->space[SMM]);
}

static int64_t unbind_smm(struct ledger *ledger)
{
	return kvmas_kvm_unbind(ledger->m->kvm, SMM);
}

static int64_t bind_again(struct ledger *ledger)
{
	int64_t err = unbind_smm(ledger);

	return err ? err : kvmas_kvm_bind(ledger->m->kvm, ledger->m->space[SMM], SMM);
}

/* ---- blocks ---- */

static int64_t grow(struct ledger *ledger)
{
	return kvmas_ram_resize(big(ledger), pages(BIG_MAX - 7));
}

static int64_t grow_and_show(struct ledger *ledger)
{
	int64_t err = kvmas_ram_resize(big(ledger), pages(BIG_MAX - 7));

	return err ? err : kvmas_region_set_size(ledger->m->region[BIG], pages(BIG_MAX - 7));
}

static int64_t shrink(struct ledger *ledger)
{
	int64_t err = kvmas_region_set_size(ledger->m->region[BIG], pages(150));

	return err ? err : kvmas_ram_resize(big(ledger), pages(150));
}

static int64_t discard(struct ledger *ledger)
{
	return kvmas_ram_discard(big(ledger), pages(60), pages(80));
}

/* ---- vCPUs ---- */

/* One vCPU writes until its ring is full. */
static struct guest_vcpu *fill_ring(struct ledger *ledger)
{
	struct machine *m = ledger->m;

	for (unsigned i = 0; i < BIG_PAGES; i++) {
		m->turn = 0;
		if (ledger_write(ledger, 0, NORMAL, pages(BIG_GFN + i)))
			return &m->guests[0][0];
	}
	fail_msg("the ring is never full");
	return NULL;
}

static int64_t leave_with_a_full_ring(struct ledger *ledger)
{
	struct guest_vcpu *guest = fill_ring(ledger);
	int64_t result = kvmas_vcpu_run(guest->vcpu);

	if (result)
		return result;
	assert_int_equal(guest->cpu->run->exit_reason, KVM_EXIT_DIRTY_RING_FULL);
	result = kvmas_vcpu_handle_exit(guest->vcpu);
	if (result == 1) /* it goes on */
		assert_int_equal(ledger_write(ledger, 0, NORMAL, pages(BIG_GFN)), 0);
	return result;
}

static int64_t take_vcpu_away(struct ledger *ledger)
{
	struct guest_vcpu *guest = fill_ring(ledger);

	kvmas_vcpu_del(guest->vcpu);
	guest->vcpu = NULL;
	guest->cpu = ledger->m->guests[0][1].cpu; /* who writes in its place */
	return 0;
}

const struct log_scenario log_scenarios[] = {
	{"sync", sync_normal, ALL, .keeps = true, .needs_none = true},
	{"sync of the other space", sync_smm, ALL, .keeps = true, .needs_none = true},
	{"sync of a part", sync_part, ALL, .keeps = true, .needs_none = true},
	{"sync of a region", sync_region, ALL, .keeps = true},
	{"sync of an alias", sync_alias, ALL, .keeps = true},
	{"take", take, ALL, .keeps = true, .needs_none = true},
	{"take parts", take_parts, ALL, .keeps = true, .needs_none = true},
	{"take in turn", take_in_turn, ALL, .keeps = true, .needs_none = true},
	{"take everything", take_everything, ALL, .keeps = true, .needs_none = true},
	{"take a region", take_region, ALL, .keeps = true, .needs_none = true},
	{"take a region in vain", take_region_in_vain, ALL, .keeps = true, .needs_none = true},
	{"take what is at addresses", take_gpa, ALL, .keeps = true, .needs_none = true},
	{"take and put back", take_and_put, ALL, .keeps = true, .needs_none = true},
	{"slot is cut", open_hole, ALL, .single = true},
	{"slot is cut after a sync", sync_and_open_hole, ALL},
	{"slot moves", move_big, ALL, .single = true},
	{"slot goes", delete_big, ALL, .single = true},
	{"slot goes, another takes its id", replace_big, ALL, .single = true},
	{"log of a space stops", stop_in_smm, ALL, .single = true},
	{"log of a space stops and starts", toggle_smm, ALL},
	{"log of a region starts", start_of_one_region, ALL, .single = true},
	{"unbind", unbind_smm, ALL, .single = true},
	{"unbind and bind", bind_again, ALL},
	{"block grows", grow, ALL, .single = true},
	{"block and region grow", grow_and_show, ALL},
	{"region and block shrink", shrink, ALL},
	{"discard", discard, ALL, .keeps = true, .needs_none = true},
	{"ring is full", leave_with_a_full_ring, RINGS, .keeps = true, .needs_none = true},
	{"vCPU with a full ring goes", take_vcpu_away, RINGS, .keeps = true, .unfailing = true,
	 .needs_none = true},
};
const size_t nlog_scenarios = LENGTH(log_scenarios);

/* ---- the machine ---- */

static void make_big(struct machine *m)
{
	struct kvmas_ram *block;

	must(kvmas_ram_new(m->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "big", .size = pages(BIG_PAGES),
					.max_size = pages(BIG_MAX)),
			   &block));
	m->region[BIG] = make_window(m->f, KVMAS_REGION_RAM, "big", block, 0, BIG_PAGES);
	kvmas_ram_unref(block);
	m->region[SPARE] = make_ram(m->f, "spare", pages(70));
	add(m->root[NORMAL], m->region[BIG], pages(BIG_GFN), 0);
	m->region[BIG_IN_SMM] = put_alias(m, SMM, m->region[BIG], 400, 37, 100);
	m->region[HOLE] = make_mmio(m->f, "hole", pages(10));
	must(kvmas_region_set_enabled(m->region[HOLE], false));
	add(m->root[NORMAL], m->region[HOLE], pages(BIG_GFN + 90), 1);
	m->region[RAM] = put_ram(m, NORMAL, "ram", 0, 64);
	m->region[SMRAM] = put_alias(m, SMM, m->region[RAM], 10, 10, 2);
}

void log_scenario_prepare(struct ledger *ledger, enum kvmas_kvm_log log)
{
	struct machine *m = machine_new_logging(log);

	make_big(m);
	must(kvmas_client_log_start(make_client(m, "a"), NULL, m->space[NORMAL]));
	must(kvmas_client_log_start(make_client(m, "b"), NULL, m->space[SMM]));
	make_client(m, "c");
	ledger_open(ledger, m);
	/* Some of it is told and taken, by one more often than by others; some is told only. */
	ledger_write_some(ledger, 0, 3);
	must(sync_all(ledger));
	assert_true(ledger_take(ledger, 0, big(ledger), 64, 64) >= 0);
	ledger_write_some(ledger, 0, 4);
	must(sync_normal(ledger));
	ledger_write_some(ledger, 0, 2);
	assert_right(m);
	fake_kvm_reset(m->vm);
	forget_trace(m);
	m->nioctls = 0;
	m->npauses = 0;
}

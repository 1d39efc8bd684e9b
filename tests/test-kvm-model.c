/* SPDX-License-Identifier: MIT */
/*
 * Random sequences over the public interface, with a double of KVM that fails at random: three
 * spaces, two of them bound at a time, that show the same few blocks in many places; clients that
 * start and stop logs; a guest that writes in both spaces.
 *
 * After every step the tables are what the double has, and, unless KVM has refused an undoing, the
 * slots are what the views show, page by page. A step that failed has changed nothing.
 *
 * Beside the machine stands a shadow: which pages each client must find, since it had asked for
 * them when the guest wrote, and which it may find, since somebody had. A client finds all of the
 * first and none that is not of the second.
 *
 * KVMAS_SEED and KVMAS_STEPS set the run. Read run_world first.
 */
#include "kvm-fixture.h"

#include <inttypes.h>
#include <stdio.h>

#include "kvm/vm.h"

enum {
	NBLOCKS = 3,
	BLOCK_PAGES = 96,
	WORLD_PAGES = 192,
	NVIEWS = 3,
	NCLIENTS = 3,
	NCONTAINERS = NVIEWS + 1,
	NREGIONS = 36,
	MAX_WISHES = 64,
	WORLD_STEPS = 400,
	DEFAULT_STEPS = 30000,
};

struct wish {
	unsigned client;
	struct kvmas_region *region; /* NULL: all */
	struct kvmas_space *space;   /* NULL: all */
};

/* What a transaction changes and its failure takes back. */
struct intent {
	struct wish wishes[MAX_WISHES];
	unsigned nwishes;
	struct kvmas_space *bound[NSPACES]; /* NULL: not bound */
};

typedef bool pages_of_blocks[NBLOCKS][BLOCK_PAGES];

struct world {
	struct machine *m;
	struct kvmas_space *views[NVIEWS];
	struct kvmas_region *containers[NCONTAINERS]; /* the roots, and one that all may show */
	struct kvmas_region *regions[NREGIONS];
	struct kvmas_ram *blocks[NBLOCKS];
	struct intent now, next; /* committed; and in this transaction */
	pages_of_blocks must[NCLIENTS], may[NCLIENTS];
	unsigned nreserved;
	bool collides;  /* there is a private slot in the guest's RAM */
	bool broken;    /* KVM refused an undoing */
	bool injected;  /* something was made to fail in this step */
	unsigned storm; /* one in so many ioctls fails; 0: none */
};

static uint64_t random_state;
static struct {
	unsigned changed;
	unsigned failed;
	unsigned broken;
	unsigned repaired;
	uint64_t taken;
} tally;

static unsigned below(unsigned n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(random_state >> 33) % n;
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* ---- the shadow ---- */

/* Where in the blocks a host address is; false if in none. */
static bool locate(const struct world *w, const unsigned char *hva, unsigned *block, uint64_t *page)
{
	for (*block = 0; *block < NBLOCKS; ++*block) {
		const unsigned char *first = kvmas_ram_get_hva(w->blocks[*block]);

		if (hva >= first && hva < first + pages(BLOCK_PAGES)) {
			*page = (uint64_t)(hva - first) / page_size();
			return true;
		}
	}
	return false;
}

static bool wants(const struct wish *wish, const struct kvmas_section *section,
		  const struct kvmas_space *space)
{
	return (!wish->region || wish->region == section->region) &&
	       (!wish->space || wish->space == space);
}

static void note_must(struct world *w, unsigned as_id, uint64_t gpa, unsigned block, uint64_t page)
{
	struct kvmas_space *space = w->now.bound[as_id];
	const struct kvmas_view *view;
	struct kvmas_section section;

	if (w->broken || !space)
		return;
	view = kvmas_view_acquire(w->m->f->reader, space);
	must(kvmas_view_lookup(view, gpa, &section));
	for (unsigned i = 0; i < w->now.nwishes; i++) {
		if (wants(&w->now.wishes[i], &section, space))
			w->must[w->now.wishes[i].client][block][page] = true;
	}
	kvmas_view_release(w->m->f->reader, view);
}

static void note_may(struct world *w, unsigned block, uint64_t page)
{
	for (unsigned client = 0; client < NCLIENTS; client++)
		w->may[client][block][page] = true;
}

static void access_page(struct world *w, unsigned as_id, uint64_t gpa, bool writes)
{
	const unsigned char *hva = fake_kvm_hva(w->m->vm, as_id, gpa);
	unsigned block;
	uint64_t page;
	int err;

	if (!locate(w, hva, &block, &page))
		return;
	err = writes ? fake_kvm_write(w->m->vm, as_id, gpa, 8)
		     : fake_kvm_read(w->m->vm, as_id, gpa, 8);
	if (err)
		return; /* readonly: an exit */
	if (writes)
		note_must(w, as_id, gpa, block, page);
	if (fake_kvm_is_dirty(w->m->vm, as_id, gpa))
		note_may(w, block, page);
}

/* A log that could not be read has made all dirty that it was of. */
static void note_refused_reads(struct world *w)
{
	const struct fake_kvm *vm = w->m->vm;

	for (size_t i = 0; i < vm->ncalls; i++) {
		if (vm->calls[i].op == FAKE_KVM_GET && vm->calls[i].result < 0)
			memset(w->may, true, sizeof(w->may));
	}
}

/* ---- mutators: each a public call, its result, and what the shadow makes of it ---- */

/* What a mutator may use, drawn in one order whatever the compiler. */
struct roll {
	struct kvmas_region *region;
	struct kvmas_region *other;
	struct kvmas_region *container;
	struct kvmas_space *space;
	uint64_t gfn;
	uint64_t npages; /* small */
	uint64_t extra;  /* mostly 0: addresses are mostly whole pages */
	unsigned client;
	unsigned as_id;
	unsigned number; /* 0 ... 11 */
};

static struct roll draw(struct world *w)
{
	struct roll r;

	r.region = w->regions[below(NREGIONS)];
	r.other = w->regions[below(NREGIONS)];
	r.container = w->containers[below(NCONTAINERS)];
	r.space = w->views[below(NVIEWS)];
	r.gfn = below(WORLD_PAGES);
	r.npages = 1 + below(3);
	r.extra = one_in(12) ? 16 : 0;
	r.client = below(NCLIENTS);
	r.as_id = below(NSPACES);
	r.number = below(12);
	return r;
}

/* Into a container, out of the one it is in. */
static int do_add(struct world *w, const struct roll *r)
{
	(void)w;
	if (r->number >= 3)
		kvmas_region_del(r->region);
	return kvmas_region_add(r->container, r->region, pages(r->gfn) + r->extra,
				(int)(r->number % 3));
}

static int do_del(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_del(r->region);
}

static int do_enable(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_enabled(r->region, r->number % 4);
}

static int do_readonly(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_readonly(r->region, r->number % 3 == 0);
}

static int do_offset(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_offset(r->region, pages(r->gfn) + r->extra);
}

static int do_size(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_size(r->region, pages(1 + r->gfn / 2) + r->extra);
}

static int do_priority(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_priority(r->region, (int)(r->number % 3));
}

static int do_alias(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_alias(r->region, r->other, pages(r->gfn / 2) + r->extra);
}

static unsigned find_wish(const struct intent *intent, const struct wish *wish)
{
	unsigned i = 0;

	while (i < intent->nwishes &&
	       (intent->wishes[i].client != wish->client ||
		intent->wishes[i].region != wish->region || intent->wishes[i].space != wish->space))
		i++;
	return i;
}

static int do_log_start(struct world *w, const struct roll *r)
{
	struct wish wish = {.client = r->client,
			    .region = r->number % 3 ? r->region : NULL,
			    .space = r->number % 2 ? r->space : NULL};
	unsigned i = find_wish(&w->next, &wish);
	int err;

	if (w->next.nwishes == MAX_WISHES)
		return 0;
	err = kvmas_client_log_start(w->m->clients[wish.client], wish.region, wish.space);
	assert_int_equal(err == -EEXIST, i < w->next.nwishes);
	if (err == 0)
		w->next.wishes[w->next.nwishes++] = wish;
	return err;
}

static int do_log_stop(struct world *w, const struct roll *r)
{
	struct wish wish = {.client = r->client};
	unsigned i;
	int err;

	if (w->next.nwishes && r->number >= 3)
		wish = w->next.wishes[r->gfn % w->next.nwishes];
	i = find_wish(&w->next, &wish);
	err = kvmas_client_log_stop(w->m->clients[wish.client], wish.region, wish.space);
	assert_int_equal(err == -ENOENT, i == w->next.nwishes);
	if (err == 0)
		w->next.wishes[i] = w->next.wishes[--w->next.nwishes];
	return err;
}

static int do_bind(struct world *w, const struct roll *r)
{
	int err = kvmas_kvm_bind(w->m->kvm, r->space, r->as_id);

	assert_int_equal(err == -EEXIST, w->next.bound[r->as_id] != NULL);
	if (err == 0)
		w->next.bound[r->as_id] = r->space;
	return err;
}

static int do_unbind(struct world *w, const struct roll *r)
{
	int err = kvmas_kvm_unbind(w->m->kvm, r->as_id);

	assert_int_equal(err == -ENOENT, w->next.bound[r->as_id] == NULL);
	if (err == 0)
		w->next.bound[r->as_id] = NULL;
	return err;
}

static int do_reserve(struct world *w, const struct roll *r)
{
	if (w->nreserved == 6)
		return 0;
	w->nreserved++;
	if (r->number % 2)
		return kvmas_kvm_reserve_ids(w->m->kvm, r->as_id, r->number, 1);
	return kvmas_kvm_reserve_range(w->m->kvm, pages(r->gfn), pages(r->npages));
}

static int mutate(struct world *w)
{
	static int (*const mutators[])(struct world *, const struct roll *) = {
		do_add,       do_add,       do_add,      do_add,      do_add,      do_add,
		do_del,       do_enable,    do_enable,   do_enable,   do_enable,   do_enable,
		do_readonly,  do_readonly,  do_readonly, do_offset,   do_offset,   do_offset,
		do_offset,    do_offset,    do_size,     do_priority, do_priority, do_alias,
		do_log_start, do_log_start, do_log_stop, do_log_stop, do_bind,     do_bind,
		do_bind,      do_unbind,
	};
	struct roll roll = draw(w);

	if (one_in(60))
		return do_reserve(w, &roll);
	return mutators[below(LENGTH(mutators))](w, &roll);
}

/* ---- failures ---- */

static void rage(struct machine *m, unsigned long request, void *arg)
{
	const struct world *w = m->data;

	(void)request;
	(void)arg;
	if (w->storm && one_in(w->storm))
		fake_kvm_fail_at(m->vm, 1, ENOMEM);
}

static void inject(struct world *w)
{
	static const int errors[] = {ENOMEM, EEXIST, EINVAL, ENOSPC, EIO};
	int error = errors[below(LENGTH(errors))];

	w->injected = true;
	switch (below(8)) {
	case 0:
		fake_kvm_fail_at(w->m->vm, 1 + below(6), error);
		break;
	case 1:
		fake_kvm_fail_from(w->m->vm, 1 + below(6), error);
		break;
	case 2:
		w->storm = 2 + below(3);
		break;
	case 3:
		w->m->f->heap.fail_in = 1 + below(24);
		break;
	default:
		w->injected = false;
	}
}

static void calm(struct world *w)
{
	fake_kvm_fail_never(w->m->vm);
	w->storm = 0;
	w->m->f->heap.fail_in = 0;
}

/* ---- steps ---- */

static void assert_holds(const struct world *w, bool holds, const char *what)
{
	if (holds)
		return;
	if (w->m->traced)
		print_error("%s", w->m->traced);
	fail_msg("%s", what);
}

/* What a commit gave, against the double as it was before. */
static void check_commit(struct world *w, int result, const struct fake_kvm *before)
{
	const char *wrong = tables_wrong(w->m);

	assert_holds(w, wrong == NULL, wrong);
	tally.changed += !fake_kvm_equal_slots(w->m->vm, before);
	if (result == 0) {
		tally.repaired += w->broken;
		w->broken = false;
		w->now = w->next;
	} else {
		tally.failed++;
		w->next = w->now;
	}
	if (result == -ENOTRECOVERABLE) {
		tally.broken++;
		w->broken = true;
	}
	assert_holds(w, result == 0 || w->injected || result == -ENOSPC || w->collides,
		     "a commit failed for no reason");
	if (result && !w->broken)
		assert_holds(w, fake_kvm_equal_slots(w->m->vm, before),
			     "a failed commit left other slots");
	wrong = w->broken ? NULL : mappings_wrong(w->m);
	assert_holds(w, wrong == NULL, wrong);
}

static void change(struct world *w)
{
	struct kvmas *kvmas = w->m->f->kvmas;
	struct fake_kvm *before = fake_kvm_snapshot(w->m->vm);
	unsigned n = one_in(3) ? 1 + below(6) : 1;

	inject(w);
	must(kvmas_begin(kvmas));
	while (n-- > 0)
		mutate(w);
	if (one_in(10)) {
		must(kvmas_abort(kvmas));
		calm(w);
		w->next = w->now;
		assert_holds(w, fake_kvm_equal(w->m->vm, before), "an abort issued an ioctl");
	} else {
		int result = kvmas_commit(kvmas);

		calm(w);
		check_commit(w, result, before);
	}
	w->injected = false;
	fake_kvm_free(before);
}

static void run_guest(struct world *w)
{
	unsigned as_id = below(NSPACES);
	uint64_t gfn = below(WORLD_PAGES);
	unsigned n = 1 + below(20);

	while (n-- > 0 && gfn < WORLD_PAGES)
		access_page(w, as_id, pages(gfn++), below(5));
}

static void sync_something(struct world *w)
{
	struct roll r = draw(w);
	uint64_t npages = 1 + below(WORLD_PAGES);

	inject(w);
	kvmas_space_sync(r.space, pages(r.gfn), pages(npages));
	calm(w);
	w->injected = false;
}

/* Take a client's pages of one block, of which it may have those that it may. */
static void take(struct world *w, unsigned client, unsigned block, bool put_back)
{
	struct kvmas_client *taker = w->m->clients[client];
	uint64_t bits[(BLOCK_PAGES + 63) / 64];

	assert_true(kvmas_client_take(taker, w->blocks[block], 0, BLOCK_PAGES, bits) >= 0);
	if (put_back)
		must(kvmas_client_put(taker, w->blocks[block], 0, BLOCK_PAGES, bits));
	for (unsigned page = 0; page < BLOCK_PAGES; page++) {
		if (!(bits[page / 64] >> page % 64 & 1))
			continue;
		assert_holds(w, w->may[client][block][page], "a page is dirty that nobody wrote");
		tally.taken++;
		if (!put_back)
			w->must[client][block][page] = false;
	}
}

static void mark_something(struct world *w)
{
	unsigned block = below(NBLOCKS);
	unsigned page = below(BLOCK_PAGES);

	must(kvmas_ram_mark(w->blocks[block], pages(page) + 5, 1));
	for (unsigned client = 0; client < NCLIENTS; client++)
		w->must[client][block][page] = true;
	note_may(w, block, page);
}

/* Everything is synchronised and taken: no page may be missing. */
static void harvest(struct world *w)
{
	static const pages_of_blocks none[NCLIENTS];

	if (w->broken)
		return;
	for (unsigned i = 0; i < NVIEWS; i++)
		must(kvmas_space_sync(w->views[i], 0, KVMAS_SIZE_MAX));
	for (unsigned client = 0; client < NCLIENTS; client++) {
		for (unsigned block = 0; block < NBLOCKS; block++)
			take(w, client, block, false);
	}
	assert_holds(w, memcmp(w->must, none, sizeof(none)) == 0,
		     "a page that was written is lost");
	memset(w->may, 0, sizeof(w->may));
}

static void step(struct world *w)
{
	struct roll r = draw(w);

	fake_kvm_reset(w->m->vm);
	forget_trace(w->m);
	forget_notes(w->m->f);
	switch (below(20)) {
	default:
		change(w);
		break;
	case 0 ... 4:
		run_guest(w);
		break;
	case 5:
		sync_something(w);
		break;
	case 6:
		take(w, r.client, r.gfn % NBLOCKS, r.number % 2);
		break;
	case 7:
		mark_something(w);
		break;
	case 8:
		harvest(w);
		break;
	}
	note_refused_reads(w);
}

/* ---- worlds ---- */

static struct kvmas_region *make_some_region(struct world *w, unsigned i)
{
	struct fixture *f = w->m->f;
	unsigned first = below(BLOCK_PAGES / 2);
	unsigned npages = 8 + below(BLOCK_PAGES / 2 - 8);

	switch (i % 6) {
	case 0:
	case 1:
		return make_window(f, KVMAS_REGION_RAM, "ram", w->blocks[i % NBLOCKS], first,
				   npages);
	case 2:
		return make_window(f, KVMAS_REGION_ROM, "rom", w->blocks[i % NBLOCKS], first,
				   npages);
	case 3:
		return make_mmio(f, "mmio", one_in(3) ? 64 : pages(1 + below(6)));
	case 4:
		return make_alias(f, "alias", w->regions[i - 4], 0, pages(npages));
	default:
		return make_alias(f, "common", w->containers[NVIEWS], 0, pages(WORLD_PAGES));
	}
}

static void make_world(struct world *w)
{
	struct fake_kvm_config config = {.nr_memslots = 0};
	struct machine *m;

	if (one_in(2))
		config.nr_memslots = 16 + below(16);
	config.zap = one_in(2) ? FAKE_KVM_ZAP_ALL : FAKE_KVM_ZAP_SLOT;
	config.shadow_mmu = one_in(2);
	config.no_readonly_mem = one_in(4);
	config.private_slots = below(6);
	m = machine_new(&config);
	*w = (struct world){.m = m, .collides = !config.private_slots};
	if (w->collides)
		must(fake_kvm_add_private(m->vm, 0, pages(below(WORLD_PAGES)), pages(1)));
	m->on_ioctl = rage;
	m->data = w;
	for (unsigned i = 0; i < NBLOCKS; i++)
		w->blocks[i] = make_block(m->f, "block", BLOCK_PAGES);
	for (unsigned i = 0; i < NVIEWS; i++) {
		w->containers[i] =
			i < NSPACES ? m->root[i] : make_container(m->f, "third", KVMAS_SIZE_MAX);
		w->views[i] =
			i < NSPACES ? m->space[i] : make_space(m->f, "third", w->containers[i]);
	}
	w->containers[NVIEWS] = make_container(m->f, "common", pages(WORLD_PAGES));
	for (unsigned i = 0; i < NREGIONS; i++)
		w->regions[i] = make_some_region(w, i);
	for (unsigned i = 0; i < NCLIENTS; i++)
		make_client(m, "client");
	for (unsigned i = 0; i < NSPACES; i++)
		w->now.bound[i] = w->next.bound[i] = m->space[i];
}

/* Without failures all comes right, and nothing has been lost. */
static void end_world(struct world *w)
{
	fake_kvm_reset(w->m->vm);
	must(kvmas_begin(w->m->f->kvmas));
	must(kvmas_commit(w->m->f->kvmas));
	tally.repaired += w->broken;
	w->broken = false;
	w->now = w->next;
	harvest(w);
	/* What shows itself would hold itself. */
	for (unsigned i = 0; i < NREGIONS; i++)
		kvmas_region_del(w->regions[i]);
	for (unsigned i = 0; i < NBLOCKS; i++)
		kvmas_ram_unref(w->blocks[i]);
	machine_free(w->m);
}

static void run_world(unsigned nsteps)
{
	static struct world w;

	make_world(&w);
	for (unsigned i = 0; i < NREGIONS; i++) {
		struct roll r = draw(&w);

		do_add(&w, &r);
	}
	for (unsigned i = 0; i < nsteps; i++)
		step(&w);
	end_world(&w);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void random_steps_keep_slots_in_step_and_lose_no_page(void **state)
{
	unsigned nsteps = (unsigned)number_from("KVMAS_STEPS", DEFAULT_STEPS);

	(void)state;
	random_state = number_from("KVMAS_SEED", 1);
	print_message("KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%u\n", random_state, nsteps);
	for (unsigned done = 0; done < nsteps; done += WORLD_STEPS)
		run_world(nsteps - done < WORLD_STEPS ? nsteps - done : WORLD_STEPS);
	print_message("%u steps changed slots, %u failed, %u of them left slots and views apart, "
		      "%u were repaired, "
		      "%" PRIu64 " pages taken\n",
		      tally.changed, tally.failed, tally.broken, tally.repaired, tally.taken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_steps_keep_slots_in_step_and_lose_no_page),
	};

	return cmocka_run_group_tests_name("kvm-model", tests, NULL, NULL);
}

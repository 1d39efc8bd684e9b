/* SPDX-License-Identifier: MIT */
/* See kvm-model.h: choices, worlds, one step. Read world_step first. */
#include "kvm-model.h"

/* ---- choices ---- */

/* A byte is enough for every n that is asked. When they are used up it is the last of n. */
unsigned below(struct world *w, unsigned n)
{
	bool used_up = w->choices.bytes && w->choices.count == 0;

	return used_up ? n - 1 : choose(&w->choices, n);
}

bool one_in(struct world *w, unsigned n)
{
	return below(w, n) == 0;
}

void assert_holds(const struct world *w, bool holds, const char *what)
{
	if (holds)
		return;
	if (w->m->traced)
		print_error("%s", w->m->traced);
	fail_msg("%s", what);
}

/* ---- worlds ---- */

static struct kvmas_region *make_some_region(struct world *w, unsigned i, unsigned npages)
{
	struct fixture *f = w->m->f;
	struct kvmas_ram *block = w->blocks[i % NBLOCKS];
	unsigned first = below(w, BLOCK_PAGES / 2);

	w->home[i] = i % NKINDS == 4 ? w->home[i - 4] : 50 * (i % NBLOCKS) + first;
	switch (i % NKINDS) {
	case 0:
	case 1:
		return make_window(f, KVMAS_REGION_RAM, "ram", block, first, npages);
	case 2:
		return make_window(f, KVMAS_REGION_ROM, "rom", block, first, npages);
	case 3:
		return make_mmio(f, "mmio", one_in(w, 3) ? 64 : pages(1 + below(w, 6)));
	case 4:
		return make_alias(f, "alias", w->regions[i - 4], 0, pages(npages));
	case 5:
		return make_window(f, KVMAS_REGION_ROMD, "romd", block, first, npages);
	default:
		return make_alias(f, "common", w->containers[NVIEWS], 0, pages(WORLD_PAGES));
	}
}

/* Each pair has one size, so that they can change places. */
static void make_regions(struct world *w)
{
	unsigned sizes[NKINDS];

	for (unsigned i = 0; i < NREGIONS; i++) {
		if (i / NKINDS % 2 == 0)
			sizes[i % NKINDS] = 2 + below(w, 24);
		w->regions[i] = make_some_region(w, i, sizes[i % NKINDS]);
	}
}

static void make_spaces(struct world *w)
{
	struct machine *m = w->m;

	for (unsigned i = 0; i < NVIEWS; i++) {
		bool made = i < NSPACES;

		w->containers[i] =
			made ? m->root[i] : make_container(m->f, "third", KVMAS_SIZE_MAX);
		w->views[i] = made ? m->space[i] : make_space(m->f, "third", w->containers[i]);
	}
	w->containers[NVIEWS] = make_container(m->f, "common", pages(WORLD_PAGES));
}

static void rage(struct machine *m, unsigned long request, void *arg)
{
	struct world *w = m->data;

	(void)request;
	(void)arg;
	if (w->storm && one_in(w, w->storm))
		fake_kvm_fail_at(m->vm, 1, ENOMEM);
}

static struct fake_kvm_config draw_config(struct world *w)
{
	struct fake_kvm_config config = {.nr_memslots = 0};

	if (one_in(w, 2))
		config.nr_memslots = 16 + below(w, 16);
	config.zap = one_in(w, 2) ? FAKE_KVM_ZAP_ALL : FAKE_KVM_ZAP_SLOT;
	config.version = one_in(w, 2) ? FAKE_KVM_6_1 : FAKE_KVM_6_12;
	config.shadow_mmu = one_in(w, 2);
	config.no_readonly_mem = one_in(w, 4);
	config.private_slots = below(w, 6);
	config.pml = one_in(w, 4);
	return config;
}

static enum kvmas_kvm_log draw_log(struct world *w)
{
	static const enum kvmas_kvm_log logs[] = {
		KVMAS_KVM_LOG_AUTO,   KVMAS_KVM_LOG_AUTO,       KVMAS_KVM_LOG_MANUAL,
		KVMAS_KVM_LOG_MANUAL, KVMAS_KVM_LOG_MANUAL_SET, KVMAS_KVM_LOG_RING,
		KVMAS_KVM_LOG_RING,
	};

	return logs[below(w, LENGTH(logs))];
}

static unsigned draw_flags(struct world *w, const struct fake_kvm_config *config)
{
#ifdef __x86_64__
	if (config->version >= FAKE_KVM_6_12 && one_in(w, 2))
		return KVMAS_KVM_ZAP_SLOT;
#else
	(void)w;
	(void)config;
#endif
	return 0;
}

static void make_intent(struct world *w, const struct fake_kvm_config *config)
{
	for (unsigned i = 0; i < NSPACES; i++) {
		w->now.bound[i] = w->m->space[i];
		w->now.terms[i].budget = 256;
		w->now.terms[i].ids = config->nr_memslots ? config->nr_memslots : 32764;
		w->now.terms[i].no_readonly_mem = config->no_readonly_mem;
	}
	w->next = w->now;
}

struct world *world_new(struct choices choices, struct kvm_tally *tally)
{
	struct world *w = calloc(1, sizeof(*w));
	struct fake_kvm_config config;
	struct kvmas_kvm_config tie;

	assert_non_null(w);
	w->choices = choices;
	w->tally = tally;
	config = draw_config(w);
	w->gpa_bits = one_in(w, 6) ? 20 : 0;
	tie = logging_config(draw_log(w), config.pml);
	tie.gpa_bits = w->gpa_bits;
	tie.flags = draw_flags(w, &config);
	w->fresh_is_dirty = tie.log == KVMAS_KVM_LOG_MANUAL_SET;
	w->m = machine_new_with(&config, &tie);
	w->collides = !config.private_slots;
	if (w->collides)
		must(fake_kvm_add_private(w->m->vm, 0, pages(below(w, WORLD_PAGES)), pages(1)));
	w->m->on_ioctl = rage;
	w->m->data = w;
	for (unsigned i = 0; i < NBLOCKS; i++)
		w->blocks[i] = make_block(w->m->f, "block", BLOCK_PAGES);
	make_spaces(w);
	make_regions(w);
	for (unsigned i = 0; i < NCLIENTS; i++)
		make_client(w->m, "client");
	make_intent(w, &config);
	if (one_in(w, 3))
		world_add_device(w);
	world_draw_terms(w);
	for (unsigned i = 0; i < NREGIONS; i++) {
		struct roll roll = draw(w);

		if (i % 4)
			world_add_region(w, &roll);
	}
	return w;
}

bool world_step(struct world *w)
{
	static void (*const steps[])(struct world *) = {
		world_run_guest, world_run_guest, world_run_guest,  world_sync,
		world_sync,      world_take,      world_take,       world_take,
		world_mark,      world_exit,      world_run_device, world_harvest,
	};
	unsigned step = below(w, 25);

	if (w->choices.bytes && w->choices.count == 0)
		return false;
	fake_kvm_reset(w->m->vm);
	forget_trace(w->m);
	forget_notes(w->m->f);
	w->tally->steps++;
	world_note_buffered(w);
	if (step < LENGTH(steps))
		steps[step](w);
	else
		world_change(w);
	world_note_doubts(w);
	return true;
}

void world_free(struct world *w)
{
	fake_kvm_reset(w->m->vm);
	forget_trace(w->m);
	must(kvmas_begin(w->m->f->kvmas));
	must(kvmas_commit(w->m->f->kvmas));
	world_note_doubts(w);
	w->tally->repaired += w->broken;
	w->broken = false;
	w->now = w->next;
	world_harvest(w);
	if (w->device)
		must(kvmas_listener_del(w->device));
	/* What shows itself would hold itself. */
	for (unsigned i = 0; i < NREGIONS; i++)
		kvmas_region_del(w->regions[i]);
	for (unsigned i = 0; i < NBLOCKS; i++)
		kvmas_ram_unref(w->blocks[i]);
	machine_free(w->m);
	free(w);
}

/* SPDX-License-Identifier: MIT */
/*
 * See kvm-model.h: the guest, the clients, and a shadow of the dirty pages beside them: which pages
 * each client must find, since it had asked for them when the guest wrote, and which it may find,
 * since somebody had. A client finds all of the first and none that is not of the second.
 */
#include "kvm-model.h"

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

bool is_wished(const struct wish *wish, const struct kvmas_section *section,
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
		if (is_wished(&w->now.wishes[i], &section, space))
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

void world_note_refused_reads(struct world *w)
{
	const struct fake_kvm *vm = w->m->vm;

	for (size_t i = 0; i < vm->ncalls; i++) {
		if (vm->calls[i].op == FAKE_KVM_GET && vm->calls[i].result < 0)
			memset(w->may, true, sizeof(w->may));
	}
}

void world_run_guest(struct world *w)
{
	unsigned as_id = below(w, NSPACES);
	uint64_t gfn = below(w, WORLD_PAGES);
	unsigned n = 1 + below(w, 20);

	while (n-- > 0 && gfn < WORLD_PAGES)
		access_page(w, as_id, pages(gfn++), below(w, 5));
}

void world_sync(struct world *w)
{
	struct roll roll = draw(w);
	uint64_t npages = 1 + below(w, WORLD_PAGES);

	world_inject(w);
	kvmas_space_sync(roll.space, pages(roll.gfn), pages(npages));
	world_calm(w);
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
		w->tally->taken++;
		if (!put_back)
			w->must[client][block][page] = false;
	}
}

void world_take(struct world *w)
{
	unsigned client = below(w, NCLIENTS);
	unsigned block = below(w, NBLOCKS);

	take(w, client, block, one_in(w, 2));
}

void world_mark(struct world *w)
{
	unsigned block = below(w, NBLOCKS);
	unsigned page = below(w, BLOCK_PAGES);

	must(kvmas_ram_mark(w->blocks[block], pages(page) + 5, 1));
	for (unsigned client = 0; client < NCLIENTS; client++)
		w->must[client][block][page] = true;
	note_may(w, block, page);
}

void world_harvest(struct world *w)
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

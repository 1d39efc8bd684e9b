/* SPDX-License-Identifier: MIT */
/*
 * See kvm-model.h: the clients, who take all or a part, by block, by region, by address, and put
 * back some of it; and a device with a log of its own, which notes a page that it writes once, and
 * not again until it is armed: a listener with log_sync and log_clear.
 */
#include "kvm-model.h"

/* ---- what is taken ---- */

/* A client was told of a page, and keeps it or not. */
static void told(struct world *w, unsigned client, unsigned block, uint64_t page, bool keeps)
{
	assert_holds(w, w->may[client][block][page], "a page is dirty that nobody wrote");
	w->tally->taken++;
	if (keeps)
		w->must[client][block][page] = false;
}

/* Take a client's pages of a part of one block, of which it may have those that it may. */
static int64_t take(struct world *w, unsigned client, unsigned block, bool put_back)
{
	struct kvmas_client *taker = w->m->clients[client];
	uint64_t bits[(BLOCK_PAGES + 63) / 64] = {0};
	uint64_t first = one_in(w, 3) ? 64 : 0;
	uint64_t npages = one_in(w, 3) ? below(w, BLOCK_PAGES - 64) : BLOCK_PAGES - first;
	int64_t count = kvmas_client_take(taker, w->blocks[block], first, npages, bits);

	if (count < 0)
		return count;
	if (put_back)
		must(kvmas_client_put(taker, w->blocks[block], first, npages, bits));
	w->tally->put_back += put_back && count;
	for (unsigned i = 0; i < npages; i++) {
		if (bits[i / 64] >> i % 64 & 1)
			told(w, client, block, first + i, !put_back);
	}
	return count;
}

struct taker {
	struct world *w;
	unsigned client;
	unsigned patience; /* runs until it fails */
	uint64_t npages;   /* that it has dealt with */
};

static int take_run(void *data, const struct kvmas_dirty_run *run)
{
	struct taker *taker = data;
	struct world *w = taker->w;
	bool keeps = taker->patience-- > 0;
	unsigned block;
	uint64_t page;

	w->tally->runs++;
	assert_holds(w,
		     world_locate(w, run->hva, &block, &page) && w->blocks[block] == run->ram &&
			     page == run->ram_offset / page_size(),
		     "a run is not where it says");
	for (uint64_t i = 0; i < run->size / page_size(); i++)
		told(w, taker->client, block, page + i, keeps);
	taker->npages += keeps ? run->size / page_size() : 0;
	w->tally->put_back += !keeps;
	return keeps ? 0 : -ENODATA;
}

static int64_t take_runs(struct world *w, unsigned client, const struct roll *roll)
{
	struct kvmas_client *taker = w->m->clients[client];
	struct taker data = {.w = w, .client = client};
	uint64_t size = roll->number % 2 ? KVMAS_SIZE_MAX : pages(roll->npages) + roll->extra;
	int64_t count;

	data.patience = roll->number % 3 ? BLOCK_PAGES * NBLOCKS : roll->npages;
	if (roll->number % 4 < 2)
		count = kvmas_client_take_gpa(taker, roll->space,
					      size == KVMAS_SIZE_MAX ? 0 : pages(roll->gfn), size,
					      take_run, &data);
	else
		count = kvmas_client_take_region(taker, roll->region, roll->extra, size, take_run,
						 &data);
	assert_holds(w, count < 0 || (uint64_t)count == data.npages,
		     "pages dealt with are miscounted");
	/* A region without memory, or that ends before. */
	return count == -ENODATA || count == -EINVAL ? 0 : count;
}

void world_take(struct world *w)
{
	unsigned client = below(w, NCLIENTS);
	struct roll roll = draw(w);
	unsigned how = below(w, 4);
	unsigned block = below(w, NBLOCKS);
	int64_t count;

	/* So that there is something to be taken. */
	if (one_in(w, 2)) {
		world_run_guest(w);
		kvmas_space_sync(roll.space, 0, KVMAS_SIZE_MAX);
	}
	world_inject(w);
	if (one_in(w, 3))
		world_refuse_next(w);
	w->device_result = one_in(w, 8) ? -EBADMSG : 0;
	count = how < 2 ? take(w, client, block, how) : take_runs(w, client, &roll);
	assert_holds(
		w, count >= 0 || count == -w->injected || (w->device && count == w->device_result),
		"nothing can be taken, for no reason");
	w->tally->refused_takes += count < 0;
	w->device_result = 0;
	world_calm(w);
}

/* ---- harvest ---- */

static void take_all(struct world *w, unsigned client, unsigned block)
{
	uint64_t bits[(BLOCK_PAGES + 63) / 64];
	int64_t count =
		kvmas_client_take(w->m->clients[client], w->blocks[block], 0, BLOCK_PAGES, bits);

	assert_holds(w, count >= 0, "nothing can be taken, and nothing fails");
	for (unsigned i = 0; i < BLOCK_PAGES; i++) {
		if (bits[i / 64] >> i % 64 & 1)
			told(w, client, block, i, true);
	}
}

static void flush(struct world *w)
{
	for (unsigned i = 0; i < NGUESTS; i++) {
		if (w->m->guests[0][i].cpu)
			fake_kvm_vcpu_flush(w->m->guests[0][i].cpu);
	}
}

static void harvest(struct world *w)
{
	flush(w);
	for (unsigned i = 0; i < NVIEWS; i++)
		must(kvmas_space_sync(w->views[i], 0, KVMAS_SIZE_MAX));
	for (unsigned client = 0; client < NCLIENTS; client++) {
		for (unsigned block = 0; block < NBLOCKS; block++)
			take_all(w, client, block);
	}
}

void world_harvest(struct world *w)
{
	static const pages_of_blocks none[NCLIENTS];

	if (w->broken)
		return;
	harvest(w);
	assert_holds(w, memcmp(w->must, none, sizeof(none)) == 0,
		     "a page that was written is lost");
	memset(w->may, 0, sizeof(w->may));
	/* Once to each. */
	if (one_in(w, 4))
		harvest(w);
}

/* ---- the device ---- */

/* It is told of memory that comes or goes, and forgets nothing of what goes. */
static void arm_section(struct world *w, const struct kvmas_section *section)
{
	uint64_t first = section->ram_offset / page_size(), page;
	uint64_t last = (section->ram_offset + (section->last - section->gpa)) / page_size();
	unsigned block;

	if (!section->ram || !world_locate(w, section->hva, &block, &page))
		return;
	for (page = first; page <= last; page++)
		w->unarmed[block][page] = false;
}

static int hand_over(void *data, uint64_t gpa, uint64_t last)
{
	struct world *w = data;

	(void)gpa;
	(void)last;
	for (unsigned i = 0; i < NBLOCKS * BLOCK_PAGES; i++) {
		unsigned block = i / BLOCK_PAGES, page = i % BLOCK_PAGES;

		if (w->noted[block][page])
			must(kvmas_ram_mark(w->blocks[block], pages(page), 1));
		w->noted[block][page] = false;
	}
	return 0;
}

static void memory_comes(void *data, const struct kvmas_section *section)
{
	arm_section(data, section);
}

static void memory_goes(void *data, const struct kvmas_section *section)
{
	hand_over(data, 0, UINT64_MAX);
	arm_section(data, section);
}

static int arm(void *data, const struct kvmas_section *section)
{
	struct world *w = data;

	w->tally->cleared++;
	if (w->device_result)
		return w->device_result;
	arm_section(w, section);
	return 0;
}

void world_add_device(struct world *w)
{
	const struct kvmas_listener_config config = {.struct_size = sizeof(config),
						     .data = w,
						     .region_add = memory_comes,
						     .region_del = memory_goes,
						     .log_sync = hand_over,
						     .log_clear = arm};

	must(kvmas_listener_add(w->views[0], &config, &w->device));
}

void world_run_device(struct world *w)
{
	uint64_t gpa = pages(below(w, WORLD_PAGES)) + 5;
	const struct kvmas_view *view;
	struct kvmas_section section;
	unsigned block;
	uint64_t page;
	int err;

	if (!w->device)
		return;
	view = kvmas_view_acquire(w->m->f->reader, w->views[0]);
	err = kvmas_view_lookup(view, gpa, &section);
	kvmas_view_release(w->m->f->reader, view);
	if (err || !section.ram ||
	    !world_locate(w, (unsigned char *)section.hva + (gpa - section.gpa), &block, &page))
		return;
	if (!w->unarmed[block][page])
		w->noted[block][page] = true;
	w->unarmed[block][page] = true;
	world_must(w, block, page);
}

/* SPDX-License-Identifier: MIT */
/*
 * See kvm-model.h: edits, each a public call inside a transaction, its result, and what the intent
 * makes of it. Results that are not looked at are those of the tree, which is not what is modelled
 * here.
 */
#include "kvm-model.h"

struct roll draw(struct world *w)
{
	unsigned region = below(w, NREGIONS);
	struct roll r = {.region = w->regions[region], .home = w->home[region]};

	r.other = w->regions[below(w, NREGIONS)];
	r.container = w->containers[below(w, NCONTAINERS)];
	r.space = w->views[below(w, NVIEWS)];
	r.gfn = below(w, WORLD_PAGES);
	r.npages = 1 + below(w, 3);
	r.extra = one_in(w, 12) ? 16 : 0;
	r.client = below(w, NCLIENTS);
	r.as_id = below(w, NSPACES);
	r.number = below(w, 12);
	return r;
}

/* ---- the tree ---- */

/* As often as not where it goes on in what others show of its block. */
static uint64_t draw_place(const struct roll *r)
{
	return (r->number % 2 ? pages(r->home) : pages(r->gfn)) + r->extra;
}

/* Into a container, out of the one it is in. */
static int do_add(struct world *w, const struct roll *r)
{
	(void)w;
	if (r->number >= 3)
		kvmas_region_del(r->region);
	return kvmas_region_add(r->container, r->region, draw_place(r), (int)(r->gfn % 3));
}

static int do_del(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_del(r->region);
}

static int do_enable(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_enabled(r->region, r->number % 3);
}

static int do_attribute(struct world *w, const struct roll *r)
{
	static int (*const setters[])(struct kvmas_region *, bool) = {
		kvmas_region_set_readonly,    kvmas_region_set_readonly,
		kvmas_region_set_unmergeable, kvmas_region_set_unmergeable,
		kvmas_region_set_nonvolatile, kvmas_region_set_romd,
	};

	(void)w;
	return setters[r->gfn % LENGTH(setters)](r->region, r->number % 2);
}

static int do_offset(struct world *w, const struct roll *r)
{
	(void)w;
	return kvmas_region_set_offset(r->region, draw_place(r));
}

/* Two of one size take two places, which they may have the other way round: a cycle of moves. */
static int do_swap(struct world *w, const struct roll *r)
{
	unsigned first = r->gfn % (NREGIONS / (2 * NKINDS)) * 2 * NKINDS + r->number % NKINDS;
	unsigned gfn = first * 3;

	kvmas_region_set_offset(w->regions[first], pages(gfn + r->npages % 2 * 50));
	return kvmas_region_set_offset(w->regions[first + NKINDS],
				       pages(gfn + !(r->npages % 2) * 50));
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

/* ---- logs ---- */

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

/* ---- the tie ---- */

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

static int do_set_merge(struct world *w, const struct roll *r)
{
	static const enum kvmas_merge policies[] = {KVMAS_MERGE_STICKY, KVMAS_MERGE_STICKY,
						    KVMAS_MERGE_EAGER, KVMAS_MERGE_NONE};
	enum kvmas_merge merge = policies[r->number % LENGTH(policies)];
	int err = kvmas_kvm_set_merge(w->m->kvm, r->as_id, merge);

	if (err == 0)
		w->next.terms[r->as_id].merge = merge;
	return err;
}

static int do_set_budget(struct world *w, const struct roll *r)
{
	static const unsigned budgets[] = {0, 1, 2, 3, 5, 8, 256};
	unsigned budget = budgets[r->number % LENGTH(budgets)];
	int err = kvmas_kvm_set_budget(w->m->kvm, r->as_id, budget);

	if (err == 0)
		w->next.terms[r->as_id].budget = budget;
	return err;
}

/* Boundaries are few, so that they are declared more than once. */
static int do_boundary(struct world *w, const struct roll *r)
{
	unsigned gfn = r->gfn / 8 * 8 + 5;
	unsigned char *count = &w->next.terms[r->as_id].boundaries[gfn];
	int err;

	if (r->number % 2) {
		err = kvmas_kvm_add_boundary(w->m->kvm, r->as_id, pages(gfn));
		*count = (unsigned char)(*count + !err);
		return err;
	}
	err = kvmas_kvm_del_boundary(w->m->kvm, r->as_id, pages(gfn));
	assert_int_equal(err == -ENOENT, *count == 0);
	*count = (unsigned char)(*count - !err);
	return err;
}

static int do_merge(struct world *w, const struct roll *r)
{
	int err = kvmas_kvm_merge(w->m->kvm, r->as_id);

	if (err == 0)
		w->next.terms[r->as_id].merge_now = true;
	return err;
}

/* Ids are no part of the transaction. */
static int do_reserve(struct world *w, const struct roll *r)
{
	bool collides = false;
	int err;

	if (w->nreserved == MAX_RESERVED)
		return 0;
	w->nreserved++;
	if (r->number % 2) {
		err = kvmas_kvm_reserve_ids(w->m->kvm, r->as_id, r->number, 1);
		w->now.terms[r->as_id].ids -= !err;
		w->next.terms[r->as_id].ids -= !err;
		return err;
	}
	err = kvmas_kvm_reserve_range(w->m->kvm, pages(r->gfn), pages(r->npages));
	for (unsigned i = 0; i < r->npages; i++)
		collides |= w->next.terms[NORMAL].reserved[r->gfn + i];
	assert_int_equal(err == -EEXIST, collides);
	for (unsigned i = 0; err == 0 && i < NSPACES; i++)
		memset(&w->next.terms[i].reserved[r->gfn], true, r->npages);
	return err;
}

void world_add_region(struct world *w, const struct roll *roll)
{
	do_add(w, roll);
}

void world_draw_terms(struct world *w)
{
	for (unsigned i = 0; i < 2 * NSPACES; i++) {
		struct roll roll = draw(w);

		if (i % 2)
			do_set_budget(w, &roll);
		else
			do_set_merge(w, &roll);
	}
	w->now = w->next;
}

void world_edit(struct world *w)
{
	static int (*const edits[])(struct world *, const struct roll *) = {
		do_add,       do_add,       do_add,        do_add,      do_add,       do_del,
		do_enable,    do_enable,    do_enable,     do_enable,   do_attribute, do_attribute,
		do_attribute, do_attribute, do_offset,     do_offset,   do_offset,    do_offset,
		do_swap,      do_swap,      do_size,       do_priority, do_alias,     do_log_start,
		do_log_start, do_log_stop,  do_log_stop,   do_bind,     do_bind,      do_unbind,
		do_set_merge, do_set_merge, do_set_budget, do_boundary, do_boundary,  do_merge,
	};
	struct roll roll = draw(w);

	if (one_in(w, 60))
		do_reserve(w, &roll);
	else
		edits[below(w, LENGTH(edits))](w, &roll);
}

/* SPDX-License-Identifier: MIT */
/* Views: immutable flat renderings, counted. See view.c. */
#ifndef KAS_VIEW_H
#define KAS_VIEW_H

#include "render.h"

struct log_table;

struct kvmas_view {
	struct kvmas *kvmas; /* held */
	atomic_uint refs;
	size_t count;
	struct flat_range ranges[]; /* their regions are held */
};

int kas_view_new(struct kvmas *kvmas, const struct flat *flat, struct kvmas_view **ret);
void kas_view_ref(struct kvmas_view *view);
void kas_view_unref(struct kvmas_view *view);

bool kas_view_shows(const struct kvmas_view *view, const struct flat *flat);
bool kas_flat_range_equal(const struct flat_range *a, const struct flat_range *b);

/* The index of the first range that ends at *address* or after it; view->count if none does. */
size_t kas_view_find(const struct kvmas_view *view, uint64_t address);

/* A range as callers are given it; logged stays false. */
void kas_section_fill(struct kvmas_section *section, const struct flat_range *range);

/* The host address of byte *offset* of a region with memory. */
void *kas_region_hva(const struct kvmas_region *region, uint64_t offset);

#endif

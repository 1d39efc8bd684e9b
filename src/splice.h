/* SPDX-License-Identifier: MIT */
/* From a view to its successor: see splice.c. */
#ifndef KAS_SPLICE_H
#define KAS_SPLICE_H

#include "view.h"
#include "windows.h"

/* What a commit changes in a view, both by ascending address: exactly the ranges that differ. */
struct changes {
	struct flat_range *dels;
	size_t ndels;
	size_t dels_capacity;
	struct flat_range *adds;
	size_t nadds;
	size_t adds_capacity;
};

struct splice {
	struct kvmas_region *root;
	struct lineage *lineage;
	const struct kvmas_view *old; /* the newest of the lineage */
	const struct windows *windows;
	struct changes *changes; /* filled; its memory is kept for the next time */
	struct kvmas_view *next; /* made; NULL if nothing changes */
	struct page *dropped;    /* what it does not have of old's */
};

/* Render the windows and make the successor. -ENOMEM; -E2BIG. On an error nothing is made. */
int kas_splice(struct splice *splice);

/* Forget them; of their memory little is kept. */
void kas_changes_clear(struct kvmas *kvmas, struct changes *changes);
void kas_changes_fini(struct kvmas *kvmas, struct changes *changes);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What slots should be, computed page by page from sections and wishes, and what a plan may cost:
 * knows nothing of mappings, plans and tables. Nothing is asserted here, so that the referee itself
 * can be tested.
 *
 *     page       0    1    2    3    4    5    6    7
 *     sections   | a            | a (ro)  | b       |
 *     cell       1    1    1    2    2    0    3    4      5 is reserved, 7 behind a boundary
 *
 * Pages of one cell may be in one slot; no slot may have pages of two.
 */
#ifndef KVM_REFEREE_H
#define KVM_REFEREE_H

#include "kvm-fixture.h"

enum { REFEREE_PAGES = 512 }; /* of the guest, from 0 on: where memory may be */

/* On what terms a space is mapped. */
struct terms {
	enum kvmas_merge merge;
	bool merge_now;
	unsigned budget;
	unsigned ids;                            /* that slots may have */
	unsigned char boundaries[REFEREE_PAGES]; /* declared before this page, so many times */
	bool reserved[REFEREE_PAGES];
	bool no_readonly_mem;
	bool (*is_logged)(void *data, const struct kvmas_section *section);
	void *data;
};

struct wanted_page {
	uintptr_t hva; /* 0: not mapped */
	uint32_t flags;
	unsigned cell; /* 0: none */
};

struct wanted {
	struct wanted_page at[REFEREE_PAGES];
	unsigned npages;
	unsigned ncells;
	uint64_t end; /* behind the last page that is mapped */
};

/* What a plan that goes from some slots to what is wanted does at least. */
struct cost {
	unsigned kept;     /* slots that can stay */
	unsigned gone;     /* those that cannot */
	unsigned gaps;     /* pieces of cells between those that stay */
	unsigned relogged; /* those that stay, and start or stop being logged */
	bool merges;       /* there would be too many */
};

/* Of the sections of a view, by ascending address. */
void want(struct wanted *wanted, const struct kvmas_section *sections, size_t count,
	  const struct terms *terms);

/* The slots of a space that are not the kernel's own. */
struct slot_list {
	struct fake_kvm_slot at[REFEREE_PAGES];
	unsigned count;
};
void list_slots(struct slot_list *list, const struct fake_kvm *vm, unsigned as_id);

/* What is wrong with slots; NULL if nothing is. */
const char *slots_wrong(const struct slot_list *slots, const struct wanted *wanted,
			const struct terms *terms);

struct cost cost_of(const struct slot_list *slots, const struct wanted *wanted,
		    const struct terms *terms);

/* Whether there may be so many slots after a plan of that cost. */
bool count_is_right(unsigned count, const struct wanted *wanted, const struct terms *terms,
		    const struct cost *cost);

/* Whether a slot was deleted that could have moved, with nothing in its way but itself, to where
 * one like it was made. (Where several alike come or go, which of them should have is not judged.) */
bool missed_a_move(const struct traced_op *ops, size_t nops, const struct slot_list *before);

/* What operations did to a running guest, from the slots of each space before and after. */
struct harm {
	uint64_t bytes_torn; /* unmapped for a moment, though mapped alike before and after */
	bool stop;           /* bytes were, though mapped before and after; or a log went away */
};
struct harm harm_of(const struct traced_op *ops, size_t nops, const struct slot_list *before,
		    const struct slot_list *after);

#endif

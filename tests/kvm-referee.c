/* SPDX-License-Identifier: MIT */
/* See kvm-referee.h. Read want first. */
#include "kvm-referee.h"

/* ---- what is wanted ---- */

/* What continues what is told of the page before, and so may be in its slot. */
struct trail {
	const struct kvmas_section *section;
	const struct wanted_page *page; /* NULL: not mapped */
};

static bool may_share(const struct trail *before, const struct kvmas_section *section,
		      const struct wanted_page *page, enum kvmas_merge merge)
{
	if (!before->page || before->page->hva + page_size() != page->hva ||
	    before->page->flags != page->flags || before->section->ram != section->ram)
		return false;
	if (before->section == section)
		return true;
	return merge != KVMAS_MERGE_NONE && !section->unmergeable && !before->section->unmergeable;
}

static uint32_t flags_of(const struct kvmas_section *section, const struct terms *terms)
{
	uint32_t flags = 0;

	if (section->readonly || section->romd)
		return RO;
	if (terms->is_logged && terms->is_logged(terms->data, section))
		flags |= LOG;
	return flags;
}

static bool is_wanted(const struct kvmas_section *section, const struct terms *terms, uint64_t gfn,
		      uintptr_t hva)
{
	bool readonly = section->readonly || section->romd;

	return pages(gfn) >= section->gpa && pages(gfn + 1) - 1 <= section->last &&
	       hva % page_size() == 0 && !terms->reserved[gfn] &&
	       !(readonly && terms->no_readonly_mem);
}

static void want_section(struct wanted *wanted, const struct kvmas_section *section,
			 const struct terms *terms, struct trail *trail)
{
	uintptr_t hva = (uintptr_t)section->hva - section->gpa;
	uint64_t gfn = section->gpa / page_size();

	for (; section->ram && pages(gfn) <= section->last; gfn++) {
		struct wanted_page *page = &wanted->at[gfn];

		assert_true(gfn < REFEREE_PAGES);
		if (!is_wanted(section, terms, gfn, hva + pages(gfn))) {
			trail->page = NULL;
			continue;
		}
		*page = (struct wanted_page){.hva = hva + pages(gfn),
					     .flags = flags_of(section, terms)};
		if (gfn != wanted->end || terms->boundaries[gfn] ||
		    !may_share(trail, section, page, terms->merge))
			wanted->ncells++;
		page->cell = wanted->ncells;
		wanted->npages++;
		wanted->end = gfn + 1;
		*trail = (struct trail){section, page};
	}
}

void want(struct wanted *wanted, const struct kvmas_section *sections, size_t count,
	  const struct terms *terms)
{
	struct trail trail = {0};

	memset(wanted, 0, sizeof(*wanted));
	for (size_t i = 0; i < count; i++)
		want_section(wanted, &sections[i], terms, &trail);
}

/* ---- slots ---- */

void list_slots(struct slot_list *list, const struct fake_kvm *vm, unsigned as_id)
{
	const struct fake_kvm_space *space = &vm->spaces[as_id];

	list->count = 0;
	for (unsigned i = 0; i < space->nslots; i++) {
		if (space->by_gpa[i]->id < vm->config.nr_memslots)
			list->at[list->count++] = *space->by_gpa[i];
	}
}

static uint64_t first_of(const struct fake_kvm_slot *slot)
{
	return slot->gpa / page_size();
}

static uint64_t end_of(const struct fake_kvm_slot *slot)
{
	return (slot->gpa + slot->size) / page_size();
}

/* Whether a slot shows what is wanted in its place, but for its log, and in one cell. */
static bool shows_wanted(const struct fake_kvm_slot *slot, const struct wanted *wanted)
{
	for (uint64_t gfn = first_of(slot); gfn < end_of(slot); gfn++) {
		const struct wanted_page *page;

		if (gfn >= REFEREE_PAGES)
			return false;
		page = &wanted->at[gfn];
		if (page->hva != slot->hva + (pages(gfn) - slot->gpa) ||
		    (page->flags ^ slot->flags) & RO ||
		    page->cell != wanted->at[first_of(slot)].cell)
			return false;
	}
	return true;
}

static bool is_whole_cell(const struct fake_kvm_slot *slot, const struct wanted *wanted)
{
	uint64_t first = first_of(slot), end = end_of(slot);
	unsigned cell = wanted->at[first].cell;

	return (first == 0 || wanted->at[first - 1].cell != cell) &&
	       (end == REFEREE_PAGES || wanted->at[end].cell != cell);
}

/* While something is logged, no more than twice the slots that the view needs, or two more. */
static unsigned budget_of(const struct wanted *wanted, const struct terms *terms)
{
	unsigned most = wanted->ncells > 2 ? wanted->ncells : 2;

	for (unsigned gfn = 0; gfn < REFEREE_PAGES; gfn++) {
		if (wanted->at[gfn].flags & KVM_MEM_LOG_DIRTY_PAGES)
			return most < terms->budget ? most : terms->budget;
	}
	return terms->budget;
}

const char *slots_wrong(const struct slot_list *slots, const struct wanted *wanted,
			const struct terms *terms)
{
	uint64_t npages = 0;

	for (unsigned i = 0; i < slots->count; i++) {
		const struct fake_kvm_slot *slot = &slots->at[i];

		if (!shows_wanted(slot, wanted))
			return "a slot shows what is not wanted, or goes across";
		if (slot->flags != wanted->at[first_of(slot)].flags)
			return "a slot is logged, or is not";
		npages += slot->size / page_size();
	}
	if (npages != wanted->npages)
		return "a page is not mapped";
	if (terms->merge != KVMAS_MERGE_STICKY && slots->count != wanted->ncells)
		return "there are more slots than the policy says";
	if (slots->count > wanted->ncells + budget_of(wanted, terms))
		return "there are more slots than the budget";
	return slots->count > terms->ids ? "there are more slots than ids" : NULL;
}

/* ---- costs ---- */

static unsigned count_gaps(const struct wanted *wanted, const bool *taken)
{
	unsigned gaps = 0;

	for (unsigned gfn = 0; gfn < REFEREE_PAGES; gfn++) {
		const struct wanted_page *page = &wanted->at[gfn];

		if (page->cell && !taken[gfn] &&
		    (gfn == 0 || taken[gfn - 1] || page[-1].cell != page->cell))
			gaps++;
	}
	return gaps;
}

struct cost cost_of(const struct slot_list *slots, const struct wanted *wanted,
		    const struct terms *terms)
{
	bool cut = terms->merge == KVMAS_MERGE_STICKY && !terms->merge_now;
	bool taken[REFEREE_PAGES] = {false};
	struct cost cost = {0};

	for (unsigned i = 0; i < slots->count; i++) {
		const struct fake_kvm_slot *slot = &slots->at[i];

		if (!shows_wanted(slot, wanted) || !(cut || is_whole_cell(slot, wanted))) {
			cost.gone++;
			continue;
		}
		cost.kept++;
		cost.relogged += slot->flags != wanted->at[first_of(slot)].flags;
		memset(&taken[first_of(slot)], true, end_of(slot) - first_of(slot));
	}
	cost.gaps = count_gaps(wanted, taken);
	cost.merges = cut && (cost.kept + cost.gaps > wanted->ncells + budget_of(wanted, terms) ||
			      cost.kept + cost.gaps > terms->ids);
	return cost;
}

bool count_is_right(unsigned count, const struct wanted *wanted, const struct terms *terms,
		    const struct cost *cost)
{
	bool cut = terms->merge == KVMAS_MERGE_STICKY && !terms->merge_now;

	if (!cut)
		return count == wanted->ncells;
	if (cost->merges)
		return count <= wanted->ncells + budget_of(wanted, terms) / 2 &&
		       count <= terms->ids;
	return count >= cost->kept + cost->gaps &&
	       count <= wanted->ncells + budget_of(wanted, terms);
}

/* ---- moves ---- */

static bool overlaps(const struct kvmas_slot *a, const struct fake_kvm_slot *b)
{
	return a->gpa < b->gpa + b->size && b->gpa < a->gpa + a->size;
}

/* Whether any slot but this one is in the way, until it has moved. */
static bool is_in_way(const struct traced_op *ops, size_t nops, const struct slot_list *before,
		      const struct kvmas_slot *place)
{
	for (size_t i = 0; i < nops; i++) {
		const struct kvmas_slot *moved = &ops[i].slot;

		for (unsigned k = 0; ops[i].kind == KVMAS_SLOT_MOVE && k < before->count; k++) {
			if (moved->as_id == place->as_id && before->at[k].id == moved->id &&
			    overlaps(place, &before->at[k]))
				return true;
		}
	}
	return false;
}

static bool show_the_same(const struct traced_op *a, const struct traced_op *b)
{
	return a->slot.as_id == b->slot.as_id && a->slot.ram == b->slot.ram &&
	       a->slot.ram_offset == b->slot.ram_offset && a->slot.size == b->slot.size &&
	       !((a->slot.flags ^ b->slot.flags) & RO);
}

/* The one creation that makes what *gone* showed; NULL if it is not the only operation that does,
 * or other slots that did go, too. */
static const struct traced_op *find_heir(const struct traced_op *ops, size_t nops,
					 const struct traced_op *gone)
{
	const struct traced_op *heir = NULL;

	for (size_t i = 0; i < nops; i++) {
		if (&ops[i] == gone || ops[i].kind == KVMAS_SLOT_FLAGS ||
		    !show_the_same(&ops[i], gone))
			continue;
		if (heir || ops[i].kind != KVMAS_SLOT_CREATE)
			return NULL;
		heir = &ops[i];
	}
	return heir;
}

bool missed_a_move(const struct traced_op *ops, size_t nops, const struct slot_list *before)
{
	for (size_t i = 0; i < nops; i++) {
		const struct traced_op *heir =
			ops[i].kind == KVMAS_SLOT_DELETE ? find_heir(ops, nops, &ops[i]) : NULL;

		if (heir && !is_in_way(ops, nops, &before[heir->slot.as_id], &heir->slot))
			return true;
	}
	return false;
}

/* ---- harm ---- */

static const struct fake_kvm_slot *find_id(const struct slot_list *slots, unsigned id)
{
	for (unsigned i = 0; i < slots->count; i++) {
		if (slots->at[i].id == id)
			return &slots->at[i];
	}
	return NULL;
}

static const struct fake_kvm_slot *find_page(const struct slot_list *slots, uint64_t gfn)
{
	for (unsigned i = 0; i < slots->count; i++) {
		if (first_of(&slots->at[i]) <= gfn && gfn < end_of(&slots->at[i]))
			return &slots->at[i];
	}
	return NULL;
}

static void harm_pages(struct harm *harm, const struct fake_kvm_slot *old,
		       const struct slot_list *after)
{
	for (uint64_t gfn = first_of(old); gfn < end_of(old); gfn++) {
		const struct fake_kvm_slot *now = find_page(after, gfn);

		if (!now)
			continue;
		harm->stop = true;
		if (now->hva - now->gpa == old->hva - old->gpa && !((now->flags ^ old->flags) & RO))
			harm->bytes_torn += page_size();
	}
}

struct harm harm_of(const struct traced_op *ops, size_t nops, const struct slot_list *before,
		    const struct slot_list *after)
{
	struct harm harm = {0};

	for (size_t i = 0; i < nops; i++) {
		const struct kvmas_slot *slot = &ops[i].slot;
		const struct fake_kvm_slot *old = find_id(&before[slot->as_id], slot->id);

		if (ops[i].kind == KVMAS_SLOT_CREATE)
			continue;
		assert_non_null(old);
		if (ops[i].kind == KVMAS_SLOT_FLAGS) {
			harm.stop |= (old->flags & ~slot->flags & LOG) != 0;
			continue;
		}
		harm.stop |= (old->flags & LOG) != 0;
		harm_pages(&harm, old, &after[slot->as_id]);
	}
	return harm;
}

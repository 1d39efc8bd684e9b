/* SPDX-License-Identifier: MIT */
/*
 * From a view to the slots that KVM should have for it.
 *
 *     view       |  RAM block a  |RO a| MMIO |ROM b  |      ranges, by byte
 *     whole pages|  a            |RO a|      | b     |      edges of pages go through dispatch
 *     reserved   |  a   |----| a |RO a|      | b     |      not ours: the VMM's, or the kernel's
 *     merged     |  a   |    | a |RO a|      | b     |      where host memory and flags continue
 *
 * Merging looks at host memory, not at regions: ranges of different regions, or of one region seen
 * through different aliases, are one slot if block, offset and flags continue. Each space merges by
 * itself: what is one slot in one space may be three in another.
 *
 * Invariants of the result:
 *   I1  sorted, disjoint, page-aligned, none touches a reserved range.
 *   I2  no two neighbours could be one that KVM takes.
 */
#include "mapping.h"

#include <errno.h>
#include <linux/kvm.h>

#include "ram.h"

/* KVM refuses slots of 2^31 pages and more (KVM_MEM_MAX_NR_PAGES, include/linux/kvm_host.h). Cut at
 * a power of two, the pieces of a large block begin where huge pages do. */
#define MAX_SLOT_PAGES (UINT64_C(1) << 30)

static bool continues(const struct kvmas_slot *before, const struct kvmas_slot *after)
{
	return before->gpa + before->size == after->gpa && before->ram == after->ram &&
	       before->ram_offset + before->size == after->ram_offset &&
	       before->flags == after->flags &&
	       before->size + after->size <= MAX_SLOT_PAGES << before->ram->page_shift;
}

static int append(struct mappings *mappings, const struct kvmas_slot *slot, struct kvmas *kvmas)
{
	size_t count = mappings->count;
	void *grown;

	if (count && continues(&mappings->at[count - 1], slot)) {
		mappings->at[count - 1].size += slot->size;
		return 0;
	}
	grown = kas_grow(kvmas, mappings->at, count, &mappings->capacity, sizeof(*slot));
	if (!grown)
		return -ENOMEM;
	mappings->at = grown;
	mappings->at[mappings->count++] = *slot;
	return 0;
}

/* Append a mapping of any size. */
static int append_in_pieces(struct mappings *mappings, struct kvmas_slot slot,
			    const struct mapping_source *source)
{
	uint64_t max_size = MAX_SLOT_PAGES * source->page_size;
	uint64_t left = slot.size;
	int err = 0;

	while (left && !err) {
		slot.size = left < max_size ? left : max_size;
		err = append(mappings, &slot, source->space->object.kvmas);
		slot.gpa += slot.size;
		slot.ram_offset += slot.size;
		left -= slot.size;
	}
	return err;
}

/* Cut to whole pages; false if there is none. The last page of the 64-bit space has no slot: KVM
 * refuses one whose end is 2^64 (virt/kvm/kvm_main.c, the wrap check). */
static bool trim(struct range *range, uint64_t page_size)
{
	uint64_t mask = page_size - 1;

	if (range->first > UINT64_MAX - mask)
		return false;
	range->first = (range->first + mask) & ~mask;
	if (range->last > UINT64_MAX - page_size)
		range->last = UINT64_MAX - page_size;
	range->last = ((range->last + 1) & ~mask) - 1;
	return range->last != UINT64_MAX && range->first < range->last;
}

/* The reserved range that comes first in *range*; NULL if there is none. */
static const struct reserved *first_reserved(const struct reserved *list, const struct range *range)
{
	const struct reserved *first = NULL;

	for (const struct reserved *r = list; r; r = r->next) {
		if (r->range.last < range->first || r->range.first > range->last)
			continue;
		if (!first || r->range.first < first->range.first)
			first = r;
	}
	return first;
}

static int append_pages(struct mappings *mappings, const struct mapping_source *source,
			const struct flat_range *from, struct range pages)
{
	const struct kvmas_region *region = from->region;
	struct kvmas_slot slot = {
		.as_id = source->as_id,
		.gpa = pages.first,
		.size = pages.last - pages.first + 1,
		.ram = region->ram,
		.ram_offset = region->ram_offset + from->offset + (pages.first - from->range.first),
	};

	if (slot.ram_offset % source->page_size)
		return 0; /* pages of the guest that are no pages of the host's: dispatch does it */
	if (!kas_range_is_writable(from))
		slot.flags |= KVM_MEM_READONLY;
	if (kas_logging_wanted(source->logging, source->space, from))
		slot.flags |= KVM_MEM_LOG_DIRTY_PAGES;
	return append_in_pieces(mappings, slot, source);
}

static int append_range(struct mappings *mappings, const struct mapping_source *source,
			const struct flat_range *from)
{
	struct range pages = from->range;
	const struct reserved *reserved;
	int err;

	if (!kas_range_ram(from) || (!kas_range_is_writable(from) && !source->readonly_mem) ||
	    !trim(&pages, source->page_size))
		return 0;
	while ((reserved = first_reserved(source->reserved, &pages))) {
		if (reserved->range.first > pages.first) {
			struct range before = {pages.first, reserved->range.first - 1};

			err = append_pages(mappings, source, from, before);
			if (err)
				return err;
		}
		if (reserved->range.last >= pages.last)
			return 0;
		pages.first = reserved->range.last + 1;
	}
	return append_pages(mappings, source, from, pages);
}

int kas_mappings_make(struct mappings *mappings, const struct mapping_source *source)
{
	const struct flat_range *range;
	struct view_at at;

	kas_view_for_each(source->view, at, range) {
		int err = append_range(mappings, source, range);

		if (err)
			return err;
	}
	return 0;
}

void kas_mappings_fini(struct kvmas *kvmas, struct mappings *mappings)
{
	kas_free(kvmas, mappings->at);
	*mappings = (struct mappings){0};
}

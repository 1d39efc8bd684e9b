/* SPDX-License-Identifier: MIT */
/*
 * From a view, or windows of it, to the slots that KVM should have there.
 *
 *     view       |  RAM block a  |RO a| MMIO |ROM b  |      ranges, by byte
 *     whole pages|  a            |RO a|      | b     |      edges of pages go through dispatch
 *     reserved   |  a   |----| a |RO a|      | b     |      not ours: the VMM's, or the kernel's
 *     merged     |  a   |    | a |RO a|      | b     |      where host memory and flags continue
 *     cut        |  a   |    | a |RO a|      |b | b  |      at boundaries that were declared
 *
 * Merging looks at host memory, not at regions: ranges of different regions, or of one region seen
 * through different aliases, are one slot if block, offset and flags continue. What an unmergeable
 * region shows is merged with nothing, and under KVMAS_MERGE_NONE no range is. Each space merges by
 * itself: what is one slot in one space may be three in another.
 *
 * A block with a guest_memfd has slots of its own kind, which KVM does not make readonly or logged
 * (virt/kvm/kvm_main.c, check_memory_region_flags). Where they are wanted so, the commit is
 * refused: mapped without its log, a page would be lost.
 *
 * Invariants of the result:
 *   I1  sorted, disjoint, page-aligned, none touches a reserved range or contains a boundary.
 *   I2  no two neighbours could be one, by the space's policy and KVM's limits.
 *   I3  that of a window is that of the whole view, cut to the window.
 */
#include "mapping.h"

#include <errno.h>

#include "ram.h"
#include "uapi.h"

/* KVM refuses slots of 2^31 pages and more (KVM_MEM_MAX_NR_PAGES, include/linux/kvm_host.h). Slots
 * are cut at multiples of a power of two, so that where does not depend on where one begins. */
#define MAX_SLOT_PAGES (UINT64_C(1) << 30)

/* The first gpa behind *gpa* where slots are cut in any case. */
static uint64_t next_cut(const struct mapping_source *source, uint64_t gpa)
{
	uint64_t size = MAX_SLOT_PAGES * source->page_size;
	uint64_t boundary = kas_policy_next_boundary(source->policy, gpa);
	uint64_t multiple = kas_add_saturating(gpa / size * size, size);

	return boundary < multiple ? boundary : multiple;
}

static bool continues(const struct kvmas_slot *before, const struct kvmas_slot *after,
		      const struct mapping_source *source)
{
	return before->gpa + before->size == after->gpa && before->ram == after->ram &&
	       before->ram_offset + before->size == after->ram_offset &&
	       before->flags == after->flags && next_cut(source, before->gpa) > after->gpa;
}

static int append(struct mappings *mappings, const struct kvmas_slot *slot,
		  const struct mapping_source *source)
{
	size_t count = mappings->count;
	void *grown;

	if (count && !mappings->closed && continues(&mappings->at[count - 1], slot, source)) {
		mappings->at[count - 1].size += slot->size;
		return 0;
	}
	grown = kas_grow(source->space->object.kvmas, mappings->at, count, &mappings->capacity,
			 sizeof(*slot));
	if (!grown)
		return -ENOMEM;
	mappings->at = grown;
	mappings->at[mappings->count++] = *slot;
	mappings->closed = false;
	return 0;
}

/* Append a mapping of any size. */
static int append_in_pieces(struct mappings *mappings, struct kvmas_slot slot,
			    const struct mapping_source *source)
{
	uint64_t end = slot.gpa + slot.size;
	int err = 0;

	while (slot.gpa < end && !err) {
		uint64_t cut = next_cut(source, slot.gpa);

		slot.size = (cut < end ? cut : end) - slot.gpa;
		err = append(mappings, &slot, source);
		slot.gpa += slot.size;
		slot.ram_offset += slot.size;
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

/* The offset in its block of what a range shows at an address. */
static uint64_t offset_at(const struct flat_range *from, uint64_t gpa)
{
	return from->region->ram_offset + from->offset + (gpa - from->range.first);
}

/* How a slot shows a range, in flags of KVM's. */
static uint32_t flags_of(const struct mapping_source *source, const struct flat_range *from)
{
	uint32_t flags = 0;

	if (!kas_range_is_writable(from))
		flags |= KVM_MEM_READONLY;
	if (kas_logging_wanted(source->logging, source->space, from))
		flags |= KVM_MEM_LOG_DIRTY_PAGES;
	if (kas_guest_memfd_is_there(&from->region->ram->guest_memfd))
		flags |= KVM_MEM_GUEST_MEMFD;
	return flags;
}

static bool can_be_mapped(const struct mapping_source *source, uint32_t flags)
{
	if (!(flags & KVM_MEM_GUEST_MEMFD))
		return true;
	return source->guest_memfd && !(flags & (KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES));
}

static int append_pages(struct mappings *mappings, const struct mapping_source *source,
			const struct flat_range *from, struct range pages)
{
	/* A range is an unmergeable one's, or there are no merges: then it stands alone. */
	bool alone = from->attrs & ATTR_UNMERGEABLE || source->policy->merge == KVMAS_MERGE_NONE;
	const struct kvmas_region *region = from->region;
	struct kvmas_slot slot = {
		.as_id = source->as_id,
		.gpa = pages.first,
		.size = pages.last - pages.first + 1,
		.ram = region->ram,
		.ram_offset = offset_at(from, pages.first),
		.flags = flags_of(source, from),
	};
	int err;

	if (slot.ram_offset % source->page_size)
		return 0; /* pages of the guest that are no pages of the host's: dispatch does it */
	if (pages.last > source->last_gpa)
		return -ERANGE;
	if (!can_be_mapped(source, slot.flags))
		return -EOPNOTSUPP;
	mappings->closed |= alone;
	err = append_in_pieces(mappings, slot, source);
	mappings->closed |= alone;
	return err;
}

static int append_range(struct mappings *mappings, const struct mapping_source *source,
			const struct flat_range *from, struct range window)
{
	struct range pages = from->range;
	const struct reserved *reserved;
	int err;

	if (!kas_range_ram(from) || (!kas_range_is_writable(from) && !source->readonly_mem) ||
	    !trim(&pages, source->page_size) || !kas_range_clip(&pages, window))
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

bool kas_mapping_has(const struct mapping_source *source, const struct flat_range *from,
		     struct range pages)
{
	struct range whole = from->range;

	if (!kas_range_is_writable(from) || !trim(&whole, source->page_size) ||
	    pages.first < whole.first || pages.last > whole.last ||
	    first_reserved(source->reserved, &pages))
		return false;
	return offset_at(from, pages.first) % source->page_size == 0;
}

int kas_mappings_add(struct mappings *mappings, const struct mapping_source *source,
		     struct range window)
{
	struct view_at at = kas_view_seek(source->view, window.first);
	const struct flat_range *range;
	int err = 0;

	while (!err && (range = kas_view_get(source->view, at)) &&
	       range->range.first <= window.last) {
		err = append_range(mappings, source, range, window);
		at = kas_view_after(source->view, at);
	}
	return err;
}

void kas_mappings_fini(struct kvmas *kvmas, struct mappings *mappings)
{
	kas_free(kvmas, mappings->at);
	*mappings = (struct mappings){0};
}

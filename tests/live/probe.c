/* SPDX-License-Identifier: MIT */
#include "probe.h"

#include "guest.h"
#include "kvm/uapi.h"

#include <stdio.h>
#include <sys/ioctl.h>

/* No slot of these tests lies, or has an id, above. */
enum { LAST_PAGE = 0x2fff, LAST_ID = SPARE_ID - 1 };

static int set_slot(const struct guest *g, struct kvm_userspace_memory_region region)
{
	return ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

/* Aligned memory of the right size; nobody uses the page. */
static uint64_t any_memory(const struct guest *g)
{
	return (uintptr_t)g->bytes;
}

static bool is_covered(const struct guest *g, unsigned as_id, uint32_t first, uint32_t npages)
{
	struct kvm_userspace_memory_region region = {
		.slot = as_id << 16 | SPARE_ID,
		.guest_phys_addr = (uint64_t)first * PAGE,
		.memory_size = (uint64_t)npages * PAGE,
		.userspace_addr = any_memory(g),
	};
	int r = set_slot(g, region);

	if (r == -EEXIST)
		return true;
	assert_int_equal(r, 0);
	region.memory_size = 0;
	must(set_slot(g, region));
	return false;
}

bool probe_page(const struct guest *g, unsigned as_id, uint32_t page)
{
	return is_covered(g, as_id, page, 1);
}

char *probe_pages(const struct guest *g, unsigned as_id, uint32_t first, uint32_t last)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (uint32_t page = first; page <= last; page++) {
		uint32_t end = page;

		while (end <= last && probe_page(g, as_id, end))
			end++;
		if (end == page)
			continue;
		text_add(&text, "%s%x-%x", *text ? " " : "", page, end - 1);
		page = end;
	}
	return text;
}

/* ---- in step ---- */

struct comparison {
	const struct guest *g;
	unsigned as_id;
	uint32_t next; /* the first page not compared */
	bool ids[LAST_ID + 1];
	char wrong[160];
};

static int say(struct comparison *c, const char *what, uint64_t gpa)
{
	snprintf(c->wrong, sizeof(c->wrong), "space %u, 0x%llx: %s", c->as_id,
		 (unsigned long long)gpa, what);
	return 1;
}

/* The pages from next to end have no slot. Asked for as a whole first: a CREATE is refused if it
 * meets any slot. */
static bool is_gap(struct comparison *c, uint32_t end)
{
	return c->next >= end || !is_covered(c->g, c->as_id, c->next, end - c->next);
}

/* KVM refuses what names a slot with a guest_memfd, even to leave it as it is: only that all of its
 * pages are covered can be seen. */
static bool is_there(const struct comparison *c, const struct kvmas_slot *slot,
		     struct kvm_userspace_memory_region region)
{
	bool covered = true;

	if (!(slot->flags & KVM_MEM_GUEST_MEMFD))
		return set_slot(c->g, region) == 0;
	for (uint64_t page = slot->gpa / PAGE; page < (slot->gpa + slot->size) / PAGE; page++)
		covered &= is_covered(c->g, c->as_id, (uint32_t)page, 1);
	region.flags = 0;
	return covered && set_slot(c->g, region) == -EINVAL;
}

static int compare_slot(void *data, const struct kvmas_slot *slot)
{
	struct comparison *c = data;
	struct kvm_userspace_memory_region region = {
		.slot = slot->as_id << 16 | slot->id,
		.flags = slot->flags,
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size,
		.userspace_addr = (uintptr_t)kvmas_ram_get_hva(slot->ram) + slot->ram_offset,
	};

	if (slot->as_id != c->as_id)
		return 0;
	if (slot->id > LAST_ID || (slot->gpa + slot->size) / PAGE > LAST_PAGE)
		return say(c, "a slot that this test does not foresee", slot->gpa);
	if (!is_gap(c, (uint32_t)(slot->gpa / PAGE)))
		return say(c, "the kernel has a slot below that the library has not", slot->gpa);
	/* Made of one page first: were there none, the next call would make it. */
	if (!is_covered(c->g, c->as_id, (uint32_t)(slot->gpa / PAGE), 1))
		return say(c, "the library has a slot that the kernel has not", slot->gpa);
	if (!is_there(c, slot, region))
		return say(c, "the kernel has another slot than the library", slot->gpa);
	c->ids[slot->id] = true;
	c->next = (uint32_t)((slot->gpa + slot->size) / PAGE);
	return 0;
}

/* A DELETE of a slot that is not there is refused. */
static int find_other_ids(struct comparison *c)
{
	for (unsigned id = 0; id <= LAST_ID; id++) {
		struct kvm_userspace_memory_region region = {.slot = c->as_id << 16 | id};

		if (!c->ids[id] && set_slot(c->g, region) != -EINVAL)
			return say(c, "the kernel has a slot whose id the library does not know",
				   id);
	}
	return 0;
}

/* The table's slot at a page, copied. */
struct find {
	unsigned as_id;
	uint64_t gpa;
	struct kvmas_slot slot;
};

static int find_slot(void *data, const struct kvmas_slot *slot)
{
	struct find *find = data;

	if (slot->as_id != find->as_id || find->gpa < slot->gpa ||
	    find->gpa - slot->gpa >= slot->size)
		return 0;
	find->slot = *slot;
	return 1;
}

/* All of a section shows in slots, with its memory and as readonly as it is. */
static bool section_is_mapped(const struct guest *g, unsigned as_id,
			      const struct kvmas_section *section, uint64_t *npages)
{
	for (uint64_t offset = 0; offset < section->size; offset += PAGE) {
		struct find find = {.as_id = as_id, .gpa = section->gpa + offset};
		const struct kvmas_slot *slot = &find.slot;

		++*npages;
		if (kvmas_kvm_for_each_slot(g->kvm, find_slot, &find) != 1 ||
		    slot->ram != section->ram ||
		    slot->ram_offset + (find.gpa - slot->gpa) != section->ram_offset + offset ||
		    !(slot->flags & KVM_MEM_READONLY) == (section->readonly || section->romd))
			return false;
	}
	return true;
}

static int count_pages(void *data, const struct kvmas_slot *slot)
{
	uint64_t *npages = data;

	npages[slot->as_id] += slot->size / PAGE;
	return 0;
}

static int compare_view(struct comparison *c)
{
	const struct guest *g = c->g;
	const struct kvmas_view *view = kvmas_view_acquire(g->f->reader, g->space[c->as_id]);
	uint64_t wanted = 0, mapped[MAX_SPACES] = {0};
	struct kvmas_section section;
	bool right = true;
	int err;

	for (err = kvmas_view_find(view, 0, &section); !err && right;
	     err = kvmas_view_next(view, &section))
		right = !section.ram || section_is_mapped(g, c->as_id, &section, &wanted);
	kvmas_view_release(g->f->reader, view);
	if (!right)
		return say(c, "the view is not what is mapped", section.gpa);
	must(kvmas_kvm_for_each_slot(g->kvm, count_pages, mapped));
	if (wanted != mapped[c->as_id])
		return say(c, "pages mapped that the view does not show", mapped[c->as_id]);
	return 0;
}

char *slots_wrong(struct guest *g)
{
	char *text = NULL;

	for (unsigned as_id = 0; as_id < g->nspaces && !text; as_id++) {
		struct comparison c = {.g = g, .as_id = as_id};

		if (kvmas_kvm_for_each_slot(g->kvm, compare_slot, &c) == 0 &&
		    !is_gap(&c, LAST_PAGE + 1))
			say(&c, "the kernel has a slot above that the library has not",
			    (uint64_t)c.next * PAGE);
		if (!c.wrong[0] && !find_other_ids(&c))
			compare_view(&c);
		if (c.wrong[0])
			text_add(&text, "%s", c.wrong);
	}
	return text;
}

void assert_slots_in_step(struct guest *g)
{
	char *wrong = slots_wrong(g);

	if (wrong)
		fail_msg("%s", wrong);
}

/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: copies of a VM, whether two are equal, and the invariants, which stand by
 * their numbers at the head of fake-kvm.c. Nothing here changes a VM.
 */
#include "fake-kvm-inner.h"
#include "fake-kvm-uapi.h"

#include <stdlib.h>
#include <string.h>

/* ---- snapshots ---- */

static void copy_vcpu(const struct fake_kvm_vcpu *from, struct fake_kvm_vcpu *to)
{
	struct fake_kvm_vcpu copy = *from;

	copy.kvm = to->kvm;
	copy.run = to->run;
	copy.ring = to->ring;
	*to = copy;
	memcpy(to->run, from->run, from->run_size);
	if (from->ring)
		memcpy(to->ring, from->ring, from->kvm->ring_size);
}

struct fake_kvm *fake_kvm_snapshot(const struct fake_kvm *kvm)
{
	struct fake_kvm_config config = kvm->config;
	struct fake_kvm *copy;

	config.private_slots = false; /* they are among those copied */
	copy = fake_kvm_new(&config);
	copy->config = kvm->config;
	copy->manual_protect = kvm->manual_protect;
	copy->disabled_quirks = kvm->disabled_quirks;
	copy->ring_size = kvm->ring_size;
	for (unsigned as_id = 0; as_id < kvm->config.spaces; as_id++)
		for (unsigned i = 0; i < kvm->spaces[as_id].nslots; i++) {
			const struct fake_kvm_slot *from = kvm->spaces[as_id].by_gpa[i];
			struct fake_kvm_slot *slot = fake_kvm_allocate(1, sizeof(*slot));

			*slot = *from;
			slot->bitmap = fake_kvm_copy_bitmap(from->bitmap, slot_pages(kvm, from));
			slot->mapped = fake_kvm_copy_bitmap(from->mapped, slot_pages(kvm, from));
			slot->writable =
				fake_kvm_copy_bitmap(from->writable, slot_pages(kvm, from));
			fake_kvm_put_in(copy, slot);
		}
	for (unsigned i = 0; i < kvm->nvcpus; i++)
		copy_vcpu(kvm->vcpus[i], fake_kvm_add_vcpu(copy));
	fake_kvm_copy_buses(kvm, copy);
	fake_kvm_copy_gmems(kvm, copy);
	return copy;
}

static bool equal_slot(const struct fake_kvm_slot *a, const struct fake_kvm_slot *b)
{
	return a->as_id == b->as_id && a->id == b->id && a->gpa == b->gpa && a->size == b->size &&
	       a->hva == b->hva && a->flags == b->flags && a->gmem == b->gmem &&
	       a->gmem_offset == b->gmem_offset;
}

/* Of two slots that are equal but for this. */
static bool equal_bits(const struct fake_kvm *kvm, const struct fake_kvm_slot *a,
		       const struct fake_kvm_slot *b)
{
	size_t size = bitmap_words(slot_pages(kvm, a)) * sizeof(*a->bitmap);

	return !a->bitmap == !b->bitmap && (!a->bitmap || memcmp(a->bitmap, b->bitmap, size) == 0);
}

/* What is in the rings, harvested or not, and in the buffers. */
static bool equal_vcpus(const struct fake_kvm *a, const struct fake_kvm *b)
{
	for (unsigned i = 0; i < a->nvcpus; i++) {
		const struct fake_kvm_vcpu *left = a->vcpus[i], *right = b->vcpus[i];

		if (left->pushed != right->pushed || left->reset != right->reset ||
		    left->npml != right->npml ||
		    memcmp(left->pml, right->pml, left->npml * sizeof(left->pml[0])) != 0 ||
		    (left->ring && memcmp(left->ring, right->ring, a->ring_size) != 0))
			return false;
	}
	return true;
}

/* Any order of what differs. */
static int order_devices(const void *a, const void *b)
{
	const struct fake_kvm_device *left = a, *right = b;
	const uint64_t pairs[][2] = {
		{left->addr, right->addr},
		{(uint32_t)left->len, (uint32_t)right->len},
		{left->event ? left->event->id : UINT64_MAX,
		 right->event ? right->event->id : UINT64_MAX},
		{left->wildcard, right->wildcard},
		{left->datamatch, right->datamatch},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (pairs[i][0] != pairs[i][1])
			return pairs[i][0] < pairs[i][1] ? -1 : 1;
	return 0;
}

static struct fake_kvm_device *sorted_devices(const struct fake_kvm_bus *bus)
{
	struct fake_kvm_device *devices = fake_kvm_allocate(bus->ndevices, sizeof(*devices));

	for (unsigned i = 0; i < bus->ndevices; i++)
		devices[i] = bus->devices[i];
	qsort(devices, bus->ndevices, sizeof(*devices), order_devices);
	return devices;
}

static bool equal_bus(const struct fake_kvm_bus *a, const struct fake_kvm_bus *b)
{
	struct fake_kvm_device *left, *right;
	bool equal = true;

	if (a->ndevices != b->ndevices)
		return false;
	left = sorted_devices(a);
	right = sorted_devices(b);
	for (unsigned i = 0; i < a->ndevices && equal; i++)
		equal = order_devices(&left[i], &right[i]) == 0;
	free(left);
	free(right);
	return equal;
}

static bool equal_buses(const struct fake_kvm *a, const struct fake_kvm *b)
{
	for (unsigned i = 0; i < FAKE_KVM_NBUSES; i++)
		if (!equal_bus(&a->buses[i], &b->buses[i]))
			return false;
	return true;
}

static bool equal_attributes(const struct fake_kvm *a, const struct fake_kvm *b)
{
	if (a->nprivate != b->nprivate)
		return false;
	for (unsigned i = 0; i < a->nprivate; i++)
		if (a->private_ranges[i].first != b->private_ranges[i].first ||
		    a->private_ranges[i].last != b->private_ranges[i].last)
			return false;
	return true;
}

/* A ring that nobody has seen is all zeros. */
static bool equal_coalesced(const struct fake_kvm *a, const struct fake_kvm *b)
{
	const char *left = (const char *)a->coalesced, *right = (const char *)b->coalesced;

	for (size_t i = 0; i < a->page_size; i++)
		if ((left ? left[i] : 0) != (right ? right[i] : 0))
			return false;
	return true;
}

static bool equal_vms(const struct fake_kvm *a, const struct fake_kvm *b, bool with_bits)
{
	if (a->config.spaces != b->config.spaces || a->manual_protect != b->manual_protect ||
	    a->ring_size != b->ring_size || a->nvcpus != b->nvcpus)
		return false;
	if (!equal_buses(a, b) || !equal_attributes(a, b) ||
	    (with_bits && (!equal_vcpus(a, b) || !equal_coalesced(a, b))))
		return false;
	for (unsigned as_id = 0; as_id < a->config.spaces; as_id++) {
		const struct fake_kvm_space *left = &a->spaces[as_id], *right = &b->spaces[as_id];

		if (left->nslots != right->nslots)
			return false;
		for (unsigned i = 0; i < left->nslots; i++)
			if (!equal_slot(left->by_gpa[i], right->by_gpa[i]) ||
			    (with_bits && !equal_bits(a, left->by_gpa[i], right->by_gpa[i])))
				return false;
	}
	return true;
}

bool fake_kvm_equal(const struct fake_kvm *a, const struct fake_kvm *b)
{
	return equal_vms(a, b, true);
}

bool fake_kvm_equal_slots(const struct fake_kvm *a, const struct fake_kvm *b)
{
	return equal_vms(a, b, false);
}

/* ---- invariants ---- */

static bool ends_clear(const uint64_t *bitmap, uint64_t nbits)
{
	return !bitmap || !(bitmap[bitmap_words(nbits) - 1] & ~tail_mask(nbits));
}

static bool has_right_bitmap(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot)
{
	bool logged = slot->flags & KVM_MEM_LOG_DIRTY_PAGES;

	return !slot->bitmap == !logged || (kvm->ring_size && logged);
}

/* What is in a vCPU's buffer is not yet dirty. */
static bool is_noticed(const struct fake_kvm *kvm, const struct fake_kvm_slot *slot)
{
	const uint64_t *bitmap = kvm->ring_size || kvm->config.pml ? NULL : slot->bitmap;

	if (!slot->writable != !slot->mapped)
		return false;
	for (size_t i = 0; slot->mapped && i < bitmap_words(slot_pages(kvm, slot)); i++)
		if (slot->writable[i] & ~(slot->mapped[i] & (bitmap ? bitmap[i] : UINT64_MAX)))
			return false;
	return true;
}

/* What can be said of a slot alone. */
static const char *validate_slot(const struct fake_kvm *kvm, unsigned as_id,
				 const struct fake_kvm_slot *slot)
{
	uint64_t npages = slot_pages(kvm, slot);

	if (slot->as_id != as_id || fake_kvm_find_id(&kvm->spaces[as_id], slot->id) != slot)
		return "I2: a slot is not where its ids say";
	if (slot->id >= kvm->config.nr_memslots + FAKE_KVM_PRIVATE_SLOTS)
		return "I6: an id past the limit";
	if (!fake_kvm_is_within_limits(kvm, slot))
		return "I6: a slot that KVM would not have created";
	if (!has_right_bitmap(kvm, slot))
		return "I4: a slot has LOG or a bitmap, but not both";
	if (!ends_clear(slot->bitmap, npages) || !ends_clear(slot->mapped, npages))
		return "I5: a bit is set past the end of its slot";
	if (!slot->gmem != !(slot->flags & KVM_MEM_GUEST_MEMFD))
		return "I12: a slot has a file or the flag, but not both";
	if (slot->gmem && (!fake_kvm_is_in_gmem(kvm, slot) || fake_kvm_shares_gmem(kvm, slot)))
		return "I12: a slot's pages are not in its file, or another's as well";
	if (!is_noticed(kvm, slot))
		return "I7: a page is writable that is not mapped, or not dirty";
	return NULL;
}

static const char *validate_space(const struct fake_kvm *kvm, unsigned as_id, uint64_t *npages)
{
	const struct fake_kvm_space *space = &kvm->spaces[as_id];

	for (unsigned i = 0; i < space->nslots; i++) {
		const struct fake_kvm_slot *slot = space->by_gpa[i];
		const char *wrong = validate_slot(kvm, as_id, slot);

		if (wrong)
			return wrong;
		if (i > 0 && space->by_gpa[i - 1]->gpa + space->by_gpa[i - 1]->size > slot->gpa)
			return "I1: slots of one space overlap or are out of order";
		if (i > 0 && space->by_id[i - 1]->id >= space->by_id[i]->id)
			return "I2: ids are out of order";
		*npages += slot_pages(kvm, slot);
	}
	return NULL;
}

static const char *validate_vcpus(const struct fake_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nvcpus; i++) {
		const struct fake_kvm_vcpu *vcpu = kvm->vcpus[i];

		if (!vcpu->ring != !kvm->ring_size)
			return "I8: a ring is missing, or one too many";
		if (vcpu->pushed - vcpu->reset > kvm->ring_size / sizeof(*vcpu->ring))
			return "I8: more entries were reset than pushed, or pushed than fit";
	}
	return NULL;
}

static bool has_twin(const struct fake_kvm *kvm, const struct fake_kvm_device *device,
		     enum fake_kvm_bus_id id)
{
	for (unsigned i = 0; i < kvm->buses[id].ndevices; i++)
		if (order_devices(&kvm->buses[id].devices[i], device) == 0)
			return true;
	return false;
}

static bool has_rival(const struct fake_kvm_bus *bus, unsigned i)
{
	for (unsigned j = 0; j < i; j++)
		if (fake_kvm_collides(&bus->devices[j], &bus->devices[i]))
			return true;
	return false;
}

static const char *validate_bus(const struct fake_kvm *kvm, enum fake_kvm_bus_id id)
{
	const struct fake_kvm_bus *bus = &kvm->buses[id];
	unsigned nevents = 0;

	for (unsigned i = 0; i < bus->ndevices; i++) {
		const struct fake_kvm_device *device = &bus->devices[i];

		nevents += device->event != NULL;
		if (device->event && has_rival(bus, i))
			return "I10: two ioeventfds take the same write";
		if (device->event && id == FAKE_KVM_MMIO_BUS && device->len == 0 &&
		    !has_twin(kvm, device, FAKE_KVM_FAST_BUS))
			return "I10: one without length is missing on the fast bus";
		if (id == FAKE_KVM_FAST_BUS && !has_twin(kvm, device, FAKE_KVM_MMIO_BUS))
			return "I10: one is on the fast bus only";
	}
	if (nevents != bus->nevents || bus->ndevices - nevents > kvm->config.bus_devices)
		return "I9: a bus has more devices than fit, or counts them wrongly";
	return NULL;
}

static const char *validate_coalesced(const struct fake_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nvcpus; i++) {
		const char *theirs =
			(char *)kvm->vcpus[i]->run + FAKE_KVM_RING_PAGE * kvm->page_size;

		if (!kvm->coalesced || memcmp(theirs, kvm->coalesced, kvm->page_size) != 0)
			return "I11: a vCPU shows another ring";
	}
	return NULL;
}

static const char *validate_buses(const struct fake_kvm *kvm)
{
	const char *wrong = NULL;

	for (unsigned i = 0; i < FAKE_KVM_NBUSES && !wrong; i++)
		wrong = validate_bus(kvm, (enum fake_kvm_bus_id)i);
	return wrong ? wrong : validate_coalesced(kvm);
}

static const char *validate_attributes(const struct fake_kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nprivate; i++) {
		const struct fake_kvm_range *range = &kvm->private_ranges[i];

		if (range->first > range->last || (i > 0 && range[-1].last + 1 >= range->first))
			return "I13: private ranges are out of order, or could be one";
	}
	return NULL;
}

const char *fake_kvm_validate(const struct fake_kvm *kvm)
{
	const char *wrong = validate_attributes(kvm);
	uint64_t npages = 0;

	for (unsigned as_id = 0; as_id < kvm->config.spaces && !wrong; as_id++)
		wrong = validate_space(kvm, as_id, &npages);
	if (!wrong)
		wrong = validate_buses(kvm);
	if (wrong)
		return wrong;
	return npages == kvm->npages ? validate_vcpus(kvm) : "I3: the sum of pages is wrong";
}

/* SPDX-License-Identifier: MIT */
/* What the buses of the double hold, against what must be there: see channels_wrong in
 * channel-fixture.h. */
#include "channel-fixture.h"

#include "kvm/vm.h"

/* ---- the tie's list and the buses ---- */

static bool is_device(const struct placement *placement, const struct fake_kvm_device *device)
{
	const struct channel *channel = placement->channel;

	if (device->addr != placement->bytes.first || !device->event != (channel->fd < 0))
		return false;
	if (!device->event)
		return (uint64_t)device->len == placement->bytes.last - placement->bytes.first + 1;
	return (unsigned)device->len == channel->size &&
	       device->wildcard == !(channel->flags & KVMAS_CHANNEL_DATAMATCH) &&
	       (device->wildcard || device->datamatch == channel->kvm_match);
}

static unsigned count_devices(const struct fake_kvm_bus *bus, const struct placement *placement)
{
	unsigned count = 0;

	for (unsigned i = 0; i < bus->ndevices; i++)
		count += is_device(placement, &bus->devices[i]);
	return count;
}

static const char *list_wrong(const struct kvmas_kvm *kvm, const struct fake_kvm *vm)
{
	unsigned made[2] = {0};

	for (size_t i = 0; i < kvm->channels.count; i++) {
		const struct placement *at = &kvm->channels.at[i];
		const struct fake_kvm_bus *bus =
			&vm->buses[at->pio ? FAKE_KVM_PIO_BUS : FAKE_KVM_MMIO_BUS];

		if (at->made && !at->right)
			return "KVM has a channel that is not right";
		if (at->made && count_devices(bus, at) != 1)
			return "KVM has not what the list says";
		made[at->pio] += at->made;
	}
	if (made[0] != vm->buses[FAKE_KVM_MMIO_BUS].ndevices ||
	    made[1] != vm->buses[FAKE_KVM_PIO_BUS].ndevices)
		return "KVM has what the list does not say";
	return NULL;
}

static const char *counters_wrong(const struct kvmas_kvm *kvm)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};
	uint64_t made = 0, covered = 0;

	for (size_t i = 0; i < kvm->channels.count; i++) {
		made += kvm->channels.at[i].made;
		covered += kvm->channels.at[i].covered;
	}
	kvmas_kvm_get_stats(kvm, &stats);
	if (stats.channels_in_kvm != made ||
	    stats.channels_by_hand != kvm->channels.count - made - covered)
		return "the counters are not what the list says";
	return stats.channel_makes - stats.channel_unmakes == made
		       ? NULL
		       : "makes and unmakes do not add up";
}

/* ---- the buses and what the spaces show ---- */

/* How many bytes from an address on a space answers in the same way, and who does. */
struct answer {
	uint64_t left; /* less 1 */
	struct kvmas_region *region;
	uint64_t offset;
	bool readonly;
};

static struct answer ask(const struct kvmas_view *view, uint64_t address)
{
	struct kvmas_section section;
	struct answer answer = {.left = UINT64_MAX - address};

	if (kvmas_view_find(view, address, &section))
		return answer;
	if (section.gpa > address) {
		answer.left = section.gpa - address - 1;
		return answer;
	}
	answer.left = section.last - address;
	answer.region = section.region;
	answer.offset = section.offset + (address - section.gpa);
	answer.readonly = section.readonly;
	return answer;
}

static uint64_t device_last(const struct fake_kvm_device *device)
{
	return device->addr + (device->len ? (uint64_t)device->len - 1 : 0);
}

/* Whether a write at this address never gets to the bus: a writable slot takes it. */
static const struct fake_kvm_slot *slot_at(const struct fake_kvm *vm, unsigned as_id,
					   uint64_t address)
{
	const struct fake_kvm_slot *slot = fake_kvm_find(vm, as_id, address);

	return slot && !(slot->flags & KVM_MEM_READONLY) ? slot : NULL;
}

/* Whether a view shows, from the device's first byte to its last, the region from this offset on,
 * where no slot takes the write. */
static bool shows(const struct kvmas_view *view, const struct fake_kvm *vm, int as_id,
		  const struct fake_kvm_device *device, struct kvmas_region *region,
		  uint64_t offset)
{
	uint64_t last = device_last(device);

	for (uint64_t at = device->addr;;) {
		const struct fake_kvm_slot *slot =
			as_id < 0 ? NULL : slot_at(vm, (unsigned)as_id, at);
		struct answer answer = ask(view, at);
		uint64_t end = at + answer.left;

		if (slot)
			end = slot->gpa + slot->size - 1;
		else if (answer.region != region || answer.readonly ||
			 answer.offset != offset + (at - device->addr))
			return false;
		if (end >= last)
			return true;
		at = end + 1;
	}
}

static bool has_channel(const struct channels *channels, const struct fake_kvm_device *device,
			uint64_t offset)
{
	for (size_t i = 0; i < channels->nzones + channels->nevents; i++) {
		const struct channel *channel = channels->at[i];
		struct placement as_if = {
			.bytes = {device->addr, device_last(device)},
			.channel = channels->at[i],
		};

		if (!is_device(&as_if, device) || channel->range.first > offset ||
		    channel->range.last < offset + (as_if.bytes.last - as_if.bytes.first))
			continue;
		if (channel->fd < 0 || channel->range.first == offset)
			return true;
	}
	return false;
}

/* Who is the first that a space shows there, with such a channel. */
static struct answer owner_in(const struct kvmas_view *view, const struct fake_kvm *vm, int as_id,
			      const struct fake_kvm_device *device)
{
	uint64_t at = device->addr;
	const struct fake_kvm_slot *slot;
	struct answer answer = {0};

	while (as_id >= 0 && (slot = slot_at(vm, (unsigned)as_id, at))) {
		at = slot->gpa + slot->size;
		if (at > device_last(device))
			return answer;
	}
	answer = ask(view, at);
	answer.offset -= at - device->addr;
	if (answer.region && (!answer.region->channels ||
			      !has_channel(answer.region->channels, device, answer.offset)))
		answer.region = NULL;
	return answer;
}

static const char *device_wrong(const struct kvmas_kvm *kvm, const struct fake_kvm *vm,
				const struct fake_kvm_device *device, bool pio)
{
	struct answer owner = {0};

	for (int i = 0; i < (pio ? 1 : (int)kvm->nspaces); i++) {
		const struct kvmas_space *space = pio ? kvm->pio_space : kvm->spaces[i].space;

		if (space && !owner.region)
			owner = owner_in(space->root->view, vm, pio ? -1 : i, device);
	}
	if (!owner.region)
		return "KVM has a channel that nobody shows";
	for (int i = 0; i < (pio ? 1 : (int)kvm->nspaces); i++) {
		const struct kvmas_space *space = pio ? kvm->pio_space : kvm->spaces[i].space;

		if (space &&
		    !shows(space->root->view, vm, pio ? -1 : i, device, owner.region, owner.offset))
			return "KVM has a channel where a space shows something else";
	}
	return NULL;
}

const char *channels_wrong(struct kvmas_kvm *kvm, const struct fake_kvm *vm)
{
	const char *wrong = list_wrong(kvm, vm);

	if (!wrong)
		wrong = counters_wrong(kvm);
	for (unsigned bus = 0; bus <= FAKE_KVM_PIO_BUS; bus++) {
		const struct fake_kvm_bus *at = &vm->buses[bus];

		for (unsigned i = 0; !wrong && i < at->ndevices; i++)
			wrong = device_wrong(kvm, vm, &at->devices[i], bus == FAKE_KVM_PIO_BUS);
	}
	return wrong ? wrong : fake_kvm_validate(vm);
}

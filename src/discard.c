/* SPDX-License-Identifier: MIT */
/*
 * Discarding: a part of a RAM block goes back to the host (balloon, virtio-mem).
 *
 *     check  ->  ask the listeners of the spaces that show it  ->  madvise  ->  mark dirty
 *
 * A listener that has pinned the pages for a device (VFIO) or handed them to another process must
 * refuse: the device would go on with the old pages, the guest with new ones.
 *
 * KVM needs no telling. What madvise unmaps it announces to the process's mmu notifiers first, and
 * KVM's drops the guest's mappings of it (kvm_mmu_notifier_invalidate_range_start in
 * virt/kvm/kvm_main.c); a vCPU that touches the page afterwards faults, and KVM takes the fresh
 * page from the host's mapping, as it does for a page never touched.
 *
 * Asking costs a walk over the view of each space that has a listener which wants to be asked.
 * Read kvmas_ram_discard first.
 */
#include <errno.h>

#include "listener.h"
#include "ram.h"

struct discard {
	struct kvmas_ram *ram;
	uint64_t offset;
	uint64_t size;
};

static int check_discard(const struct discard *discard)
{
	const struct kvmas_ram *ram = discard->ram;
	uint64_t size = ram->size;

	if (!ram->mapped)
		return -EOPNOTSUPP;
	if (!ram->writable || (discard->offset | discard->size) & (ram->unit - 1))
		return -EINVAL;
	if (discard->size == 0 || discard->offset > size || discard->size > size - discard->offset)
		return -EINVAL;
	return 0;
}

static bool section_shows(const struct kvmas_section *section, const struct discard *discard)
{
	uint64_t last = section->ram_offset + (section->last - section->gpa);

	return section->ram == discard->ram && discard->offset <= last &&
	       section->ram_offset < discard->offset + discard->size;
}

static bool view_shows(const struct kvmas_view *view, const struct discard *discard)
{
	struct kvmas_section section;
	int err;

	for (err = kvmas_view_find(view, 0, &section); !err;
	     err = kvmas_view_next(view, &section)) {
		if (section_shows(&section, discard))
			return true;
	}
	return false;
}

static bool wants_to_be_asked(const struct kvmas_space *space)
{
	const struct kvmas_listener *listener;

	TAILQ_FOREACH(listener, &space->listeners, of_space) {
		if (listener->config.ram_discard)
			return true;
	}
	return false;
}

/* The view cannot change meanwhile: the transaction lock is held. */
static bool space_shows(struct kvmas_space *space, const struct discard *discard)
{
	struct kvmas_view *view = kas_space_get_view(space);
	bool result = view_shows(view, discard);

	kas_view_unref(view);
	return result;
}

static int ask_space(struct kvmas_space *space, const struct discard *discard)
{
	struct kvmas_listener *listener;

	if (!wants_to_be_asked(space) || !space_shows(space, discard))
		return 0;
	TAILQ_FOREACH(listener, &space->listeners, of_space) {
		const struct kvmas_listener_config *config = &listener->config;
		int err = 0;

		if (config->ram_discard)
			err = config->ram_discard(config->data, discard->ram, discard->offset,
						  discard->size);
		if (err < 0)
			return err;
	}
	return 0;
}

static int ask_listeners(struct kvmas *kvmas, const struct discard *discard)
{
	struct kvmas_space *space;
	int err = 0;

	TAILQ_FOREACH(space, &kvmas->spaces, all) {
		err = ask_space(space, discard);
		if (err)
			break;
	}
	return err;
}

int kvmas_ram_discard(struct kvmas_ram *ram, uint64_t offset, uint64_t size)
{
	const struct discard discard = {ram, offset, size};
	int err = kas_lock_outside(ram->home);

	if (err)
		return err;
	kas_round_begin(ram->home);
	err = check_discard(&discard);
	if (!err)
		err = ask_listeners(ram->home, &discard);
	if (!err) {
		err = kas_ram_give_back(ram, offset, size);
		/* Also after a failure, which may have come half-way. */
		kvmas_ram_mark(ram, offset, size);
	}
	kas_round_end_and_unlock(ram->home);
	return err;
}

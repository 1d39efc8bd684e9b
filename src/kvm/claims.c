/* SPDX-License-Identifier: MIT */
/*
 * Each page of a guest_memfd can be in one slot of a VM, in whatever address space: KVM refuses a
 * second binding (virt/kvm/guest_memfd.c, kvm_gmem_bind). So it is looked beforehand who claims
 * what, when a commit is through:
 *
 *     space 0   have | keeps |        windows |  wants  |
 *     space 1   have | keeps |                                 the file    |keeps|wants|keeps|
 *
 * Slots in windows make way for what is wanted there, all of them before anything is made. Blocks
 * are no matter: two of them may be made of one file.
 *
 * Cost: nothing, unless a slot with a guest_memfd is wanted; then all slots are looked at, and
 * those with a guest_memfd are sorted.
 */
#include "claims.h"

#include <errno.h>
#include <stdlib.h>

#include "ram.h"
#include "uapi.h"

struct claim {
	const struct guest_memfd *file;
	uint64_t first; /* bytes of the file */
	uint64_t last;
};

struct claims {
	struct claim *at;
	size_t count;
	size_t capacity;
};

static int add_claim(struct kvmas *kvmas, struct claims *claims, const struct kvmas_slot *slot)
{
	const struct guest_memfd *file = &slot->ram->guest_memfd;
	uint64_t first = file->offset + slot->ram_offset;
	void *grown;

	if (!(slot->flags & KVM_MEM_GUEST_MEMFD))
		return 0;
	grown = kas_grow(kvmas, claims->at, claims->count, &claims->capacity, sizeof(*claims->at));
	if (!grown)
		return -ENOMEM;
	claims->at = grown;
	claims->at[claims->count++] = (struct claim){file, first, first + (slot->size - 1)};
	return 0;
}

static int add_wanted(struct kvmas *kvmas, struct claims *claims, const struct plan_space *space)
{
	int err = 0;

	for (size_t i = 0; !err && i < space->want.count; i++)
		err = add_claim(kvmas, claims, &space->want.at[i]);
	return err;
}

/* The slots outside of the windows, both by gpa. */
static int add_kept(struct kvmas *kvmas, struct claims *claims, const struct plan_space *space)
{
	size_t window = 0;
	int err = 0;

	for (size_t i = 0; !err && space->windows && i < space->have->count; i++) {
		const struct kvmas_slot *slot = kas_slots_at(space->have, i);

		while (window < space->nwindows && space->windows[window].last < slot->gpa)
			window++;
		if (window == space->nwindows || space->windows[window].first > slot->gpa)
			err = add_claim(kvmas, claims, slot);
	}
	return err;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_claims(const void *left, const void *right)
{
	const struct claim *a = left, *b = right;
	int order = compare_numbers(a->file->device, b->file->device);

	if (!order)
		order = compare_numbers(a->file->inode, b->file->inode);
	return order ? order : compare_numbers(a->first, b->first);
}

static bool collide(const struct claim *a, const struct claim *b)
{
	return kas_guest_memfd_equal(a->file, b->file) && b->first <= a->last;
}

static int find_collision(struct claims *claims)
{
	qsort(claims->at, claims->count, sizeof(*claims->at), compare_claims);
	for (size_t i = 1; i < claims->count; i++) {
		if (collide(&claims->at[i - 1], &claims->at[i]))
			return -EOPNOTSUPP;
	}
	return 0;
}

int kas_claims_check(struct kvmas *kvmas, const struct plan_space *spaces, size_t nspaces)
{
	struct claims claims = {0};
	int err = 0;

	for (size_t i = 0; !err && i < nspaces; i++)
		err = add_wanted(kvmas, &claims, &spaces[i]);
	for (size_t i = 0; !err && claims.count && i < nspaces; i++)
		err = add_kept(kvmas, &claims, &spaces[i]);
	if (!err && claims.count > 1)
		err = find_collision(&claims);
	kas_free(kvmas, claims.at);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * What a VMM without the library does about dirty pages, in as few steps as can be: the ioctls, and
 * an atomic OR of what they told into a bitmap that other threads may read and clear. This is what
 * the library is compared with, so nothing here is done that need not be: one buffer for all slots,
 * one KVM_CLEAR_DIRTY_LOG for all of a slot, from its first dirty word to its last.
 */
#include "bare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "bench.h"

#define BITS 64

static uint64_t nwords_of(uint64_t npages)
{
	return (npages + BITS - 1) / BITS;
}

void bare_open(struct bare *bare, struct writer *writer, uint64_t npages)
{
	size_t size = nwords_of(npages) * sizeof(uint64_t);

	*bare = (struct bare){.writer = writer, .npages = npages};
	bare->words = malloc(size);
	bare->bitmap = malloc(size);
	must(bare->words && bare->bitmap ? 0 : -ENOMEM);
	memset(bare->words, 0, size);
	memset(bare->bitmap, 0, size);
}

void bare_close(struct bare *bare)
{
	free(bare->words);
	free(bare->bitmap);
}

void bare_set_slot(struct bare *bare, const struct kvm_userspace_memory_region *region,
		   uint64_t first)
{
	struct kvm_userspace_memory_region copy = *region;
	unsigned as_id = region->slot >> 16, id = region->slot & 0xffff;

	bench_expect(as_id < BARE_MAX_SPACES && id < BARE_MAX_IDS);
	must(ioctl(bare->writer->vm_fd, KVM_SET_USER_MEMORY_REGION, &copy) ? -errno : 0);
	bare->slots[as_id][id] = (struct bare_slot){copy, first, copy.memory_size / bare->page};
	if (bare->nids[as_id] <= id)
		bare->nids[as_id] = id + 1;
}

struct bare_span bare_or(uint64_t *bitmap, const uint64_t *words, uint64_t nwords)
{
	struct bare_span span = {0, 0};

	for (uint64_t i = 0; i < nwords; i++) {
		if (!words[i])
			continue;
		__atomic_fetch_or(&bitmap[i], words[i], __ATOMIC_RELAXED);
		if (!span.end)
			span.begin = i;
		span.end = i + 1;
	}
	return span;
}

static void watch_again(struct bare *bare, const struct bare_slot *slot, struct bare_span span)
{
	uint64_t end = span.end * BITS < slot->npages ? span.end * BITS : slot->npages;
	struct kvm_clear_dirty_log clear = {
		.slot = slot->region.slot,
		.first_page = span.begin * BITS,
		.num_pages = (uint32_t)(end - span.begin * BITS),
		.dirty_bitmap = &bare->words[span.begin],
	};

	must(ioctl(bare->writer->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) ? -errno : 0);
	bare->ioctls++;
}

static void harvest_slot(struct bare *bare, const struct bare_slot *slot)
{
	struct kvm_dirty_log log = {.slot = slot->region.slot, .dirty_bitmap = bare->words};
	struct bare_span span;

	must(ioctl(bare->writer->vm_fd, KVM_GET_DIRTY_LOG, &log) ? -errno : 0);
	bare->ioctls++;
	span = bare_or(bare->bitmap + slot->first / BITS, bare->words, nwords_of(slot->npages));
	if (bare->manual && span.end)
		watch_again(bare, slot, span);
}

void bare_harvest(struct bare *bare, unsigned as_id)
{
	for (unsigned i = 0; i < bare->nids[as_id]; i++) {
		const struct bare_slot *slot = &bare->slots[as_id][i];

		if (slot->region.memory_size && slot->region.flags & KVM_MEM_LOG_DIRTY_PAGES)
			harvest_slot(bare, slot);
	}
}

/* The entries of a ring are read in order: virt/kvm/dirty_ring.c resets no other. */
void bare_harvest_ring(struct bare *bare)
{
	struct kvm_dirty_gfn *ring = bare->writer->ring;
	uint32_t mask = (uint32_t)(bare->writer->ring_size / sizeof(ring[0])) - 1;
	uint32_t next = bare->next;

	for (;; next++) {
		struct kvm_dirty_gfn *entry = &ring[next & mask];
		uint64_t page;

		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		page = bare->slots[entry->slot >> 16][entry->slot & 0xffff].first + entry->offset;
		__atomic_fetch_or(&bare->bitmap[page / BITS], UINT64_C(1) << page % BITS,
				  __ATOMIC_RELAXED);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	if (next != bare->next) {
		must(ioctl(bare->writer->vm_fd, KVM_RESET_DIRTY_RINGS, 0) < 0 ? -errno : 0);
		bare->ioctls++;
	}
	bare->next = next;
}

void bare_expect_bits(const uint64_t *bitmap, uint64_t npages, const struct load *load)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < nwords_of(npages); i++)
		count += (uint64_t)__builtin_popcountll(bitmap[i]);
	bench_expect(count == load->count);
	for (uint64_t i = 0; i < load->count; i++) {
		uint64_t page = load->first + i * load->stride;

		bench_expect(bitmap[page / BITS] >> page % BITS & 1);
	}
}

void bare_expect(struct bare *bare, const struct load *load)
{
	bare_expect_bits(bare->bitmap, bare->npages, load);
	memset(bare->bitmap, 0, nwords_of(bare->npages) * sizeof(uint64_t));
}

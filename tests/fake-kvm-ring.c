/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: vCPUs, their dirty rings, and the buffers of Intel's page-modification
 * log (virt/kvm/dirty_ring.c, arch/x86/kvm/vmx/vmx.c; Linux 6.1 to 6.18).
 *
 *     ring    ... reset | harvested ... | dirty ... | pushed: free ...
 *                 RESET goes on from here, as far as entries are harvested
 *
 * An entry belongs to KVM until it has flags, then to user space, which sets its bit "reset" when
 * it has read it; RESET takes it back and watches the page again. An entry names slot and page by
 * number: of what has these numbers when it is reset, if anything.
 *
 * When entries are reset their pages are gathered, as long as they are of one slot and within 64
 * pages, and watched together: if one of them is past the slot's end, none is.
 *
 * Read fake_kvm_reset_rings first.
 */
#include "fake-kvm-inner.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_RING_ENTRIES 65536

/* ---- one ring ---- */

static uint32_t ring_entries(const struct fake_kvm *kvm)
{
	return kvm->ring_size / sizeof(struct kvm_dirty_gfn);
}

static uint32_t reserved_entries(const struct fake_kvm *kvm)
{
	return FAKE_KVM_RING_RESERVED + (kvm->config.pml ? FAKE_KVM_PML_SIZE : 0);
}

/* Anything, if more was said to be harvested than was ever pushed. */
static uint32_t used_entries(const struct fake_kvm_vcpu *vcpu)
{
	return vcpu->pushed - vcpu->reset;
}

static struct kvm_dirty_gfn *entry_at(const struct fake_kvm_vcpu *vcpu, uint32_t index)
{
	return &vcpu->ring[index & (ring_entries(vcpu->kvm) - 1)];
}

void fake_kvm_push(struct fake_kvm_vcpu *vcpu, uint32_t slot, uint64_t offset)
{
	struct kvm_dirty_gfn *entry = entry_at(vcpu, vcpu->pushed++);

	entry->slot = slot;
	entry->offset = offset;
	/* User space may read the rest once it sees this. */
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
}

static bool is_soft_full(const struct fake_kvm_vcpu *vcpu)
{
	const struct fake_kvm *kvm = vcpu->kvm;

	return kvm->ring_size && used_entries(vcpu) >= ring_entries(kvm) - reserved_entries(kvm);
}

bool fake_kvm_has_room(const struct fake_kvm_vcpu *vcpu, uint64_t nentries)
{
	const struct fake_kvm *kvm = vcpu->kvm;

	if (!kvm->ring_size)
		return true;
	return !is_soft_full(vcpu) &&
	       nentries + vcpu->npml <= ring_entries(kvm) - used_entries(vcpu);
}

/* kvm_vm_ioctl_enable_dirty_log_ring, which takes 32 bits of the argument. */
int fake_kvm_enable_ring(struct fake_kvm *kvm, uint64_t size)
{
	uint32_t bytes = (uint32_t)size;

	if (!bytes || bytes & (bytes - 1))
		return -EINVAL;
	if (bytes < kvm->page_size || bytes < reserved_entries(kvm) * sizeof(struct kvm_dirty_gfn))
		return -EINVAL;
	if (bytes > MAX_RING_ENTRIES * sizeof(struct kvm_dirty_gfn))
		return -E2BIG;
	if (kvm->ring_size || kvm->nvcpus)
		return -EINVAL;
	kvm->ring_size = bytes;
	/* Without vCPUs nothing can have been mapped yet. */
	fake_kvm_drop_all_mappings(kvm);
	return 0;
}

/* ---- reset ---- */

/* Pages of one slot: those of the mask, from an offset on. */
struct batch {
	uint32_t slot;
	uint64_t offset;
	uint64_t mask; /* 0: none yet */
};

/* kvm_reset_dirty_gfn. */
static void arm_batch(struct fake_kvm *kvm, const struct batch *batch)
{
	unsigned as_id = batch->slot >> 16, id = batch->slot & 0xffff;
	struct fake_kvm_slot *slot;
	uint64_t last;

	if (!batch->mask || as_id >= kvm->config.spaces || id >= kvm->config.nr_memslots)
		return;
	slot = fake_kvm_find_id(&kvm->spaces[as_id], id);
	last = batch->offset + (63 - (unsigned)__builtin_clzll(batch->mask));
	if (!slot || last >= slot_pages(kvm, slot))
		return;
	for (unsigned i = 0; i < 64; i++) {
		uint64_t page = batch->offset + i; /* wraps where that was made up */

		if (batch->mask >> i & 1 && page < slot_pages(kvm, slot))
			fake_kvm_arm(slot, page / 64, UINT64_C(1) << page % 64);
	}
}

/* Whether an entry's page goes with those of the batch, which then has it. */
static bool joins(struct batch *batch, uint32_t slot, uint64_t offset)
{
	int64_t delta = (int64_t)(offset - batch->offset);

	if (!batch->mask || slot != batch->slot)
		return false;
	if (delta >= 0 && delta < 64) {
		batch->mask |= UINT64_C(1) << delta;
		return true;
	}
	if (delta < 0 && delta > -64 && batch->mask << -delta >> -delta == batch->mask) {
		batch->offset = offset;
		batch->mask = batch->mask << -delta | 1;
		return true;
	}
	return false;
}

static void reset_entry(struct fake_kvm *kvm, struct kvm_dirty_gfn *entry, struct batch *batch)
{
	uint32_t slot = entry->slot;
	uint64_t offset = entry->offset;

	__atomic_store_n(&entry->flags, 0, __ATOMIC_RELEASE);
	if (joins(batch, slot, offset))
		return;
	arm_batch(kvm, batch);
	*batch = (struct batch){slot, offset, 1};
}

/* Whether the signal has come; it comes once. */
static bool is_interrupted(struct fake_kvm *kvm, int count)
{
	sigset_t blocked;

	if (!kvm->signal.comes || (unsigned)count < kvm->signal.after)
		return false;
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	if (kvm->signal.blockable && sigismember(&blocked, SIGALRM))
		return false;
	kvm->signal.comes = false;
	return true;
}

/* kvm_dirty_ring_reset. False if it was interrupted. */
static bool reset_ring(struct fake_kvm *kvm, struct fake_kvm_vcpu *vcpu, int *count)
{
	struct batch batch = {0};
	bool interrupted = false;

	while (!interrupted) {
		struct kvm_dirty_gfn *entry = entry_at(vcpu, vcpu->reset);
		uint32_t flags = __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE);

		interrupted = is_interrupted(kvm, *count);
		if (interrupted || !(flags & KVM_DIRTY_GFN_F_RESET))
			break;
		reset_entry(kvm, entry, &batch);
		vcpu->reset++;
		++*count;
	}
	if (!interrupted || !kvm->signal.forgets)
		arm_batch(kvm, &batch);
	return !interrupted;
}

/* kvm_vm_ioctl_reset_dirty_pages: the number of entries that were reset. */
int fake_kvm_reset_rings(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	int count = 0;

	(void)arg;
	(void)call;
	if (!kvm->ring_size)
		return -EINVAL;
	for (unsigned i = 0; i < kvm->nvcpus; i++)
		if (!reset_ring(kvm, kvm->vcpus[i], &count))
			return kvm->signal.error ? -kvm->signal.error : count;
	return count;
}

/* ---- the page-modification log ---- */

/* kvm_vcpu_mark_page_dirty of each: by the slots that the vCPU's space has now. */
void fake_kvm_flush(struct fake_kvm_vcpu *vcpu)
{
	struct fake_kvm *kvm = vcpu->kvm;
	unsigned n = vcpu->npml;

	vcpu->npml = 0;
	for (unsigned i = 0; i < n; i++) {
		struct fake_kvm_slot *slot = fake_kvm_find(kvm, vcpu->as_id, vcpu->pml[i]);

		if (slot)
			fake_kvm_mark(kvm, slot, (vcpu->pml[i] - slot->gpa) / kvm->page_size, vcpu);
	}
}

void fake_kvm_log_in_buffer(struct fake_kvm_vcpu *vcpu, uint64_t gpa)
{
	vcpu->pml[vcpu->npml++] = gpa;
	if (vcpu->npml == FAKE_KVM_PML_SIZE)
		fake_kvm_flush(vcpu);
}

void fake_kvm_vcpu_flush(struct fake_kvm_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->kvm->lock);
	fake_kvm_flush(vcpu);
	pthread_mutex_unlock(&vcpu->kvm->lock);
}

/* ---- vCPUs ---- */

struct fake_kvm_vcpu *fake_kvm_add_vcpu(struct fake_kvm *kvm)
{
	struct fake_kvm_vcpu *vcpu = fake_kvm_allocate(1, sizeof(*vcpu));

	if (kvm->nvcpus == FAKE_KVM_MAX_VCPUS)
		abort();
	vcpu->kvm = kvm;
	vcpu->index = kvm->nvcpus;
	vcpu->fd = kvm->fd + 1 + (int)vcpu->index;
	vcpu->run_size = FAKE_KVM_RUN_PAGES * kvm->page_size;
	vcpu->run = fake_kvm_map_run(kvm);
	vcpu->smbase = 0x30000;
	if (kvm->ring_size) {
		vcpu->ring = aligned_alloc(kvm->page_size, kvm->ring_size);
		if (!vcpu->ring)
			abort();
		memset(vcpu->ring, 0, kvm->ring_size);
	}
	kvm->vcpus[kvm->nvcpus++] = vcpu;
	return vcpu;
}

void fake_kvm_free_vcpu(struct fake_kvm_vcpu *vcpu)
{
	free(vcpu->ring);
	munmap(vcpu->run, vcpu->run_size);
	free(vcpu);
}

struct fake_kvm_vcpu *fake_kvm_find_vcpu(const struct fake_kvm *kvm, int fd)
{
	for (unsigned i = 0; i < kvm->nvcpus; i++)
		if (kvm->vcpus[i]->fd == fd)
			return kvm->vcpus[i];
	return NULL;
}

/* There is no guest: a signal interrupts it at once. */
static int run(struct fake_kvm_vcpu *vcpu)
{
	vcpu->nruns++;
	fake_kvm_flush(vcpu);
	if (vcpu->run->immediate_exit || !is_soft_full(vcpu))
		return -EINTR;
	vcpu->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	return 0;
}

int fake_kvm_vcpu_ioctl(struct fake_kvm_vcpu *vcpu, unsigned long request)
{
	return request == KVM_RUN ? run(vcpu) : -ENOTTY;
}

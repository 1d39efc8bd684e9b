/* SPDX-License-Identifier: MIT */
/*
 * See kvm-model.h: the guest, and a shadow of the dirty pages beside the library's: which pages
 * each client must find, since it had asked for them when the guest wrote, and which it may find,
 * since somebody had. A client finds all of the first and none that is not of the second.
 */
#include "kvm-model.h"

bool world_locate(const struct world *w, const unsigned char *hva, unsigned *block, uint64_t *page)
{
	for (*block = 0; *block < NBLOCKS; ++*block) {
		const unsigned char *first = kvmas_ram_get_hva(w->blocks[*block]);

		if (hva >= first && hva < first + pages(BLOCK_PAGES)) {
			*page = (uint64_t)(hva - first) / page_size();
			return true;
		}
	}
	return false;
}

bool is_wished(const struct wish *wish, const struct kvmas_section *section,
	       const struct kvmas_space *space)
{
	return (!wish->region || wish->region == section->region) &&
	       (!wish->space || wish->space == space);
}

static void note_must(struct world *w, unsigned as_id, uint64_t gpa, unsigned block, uint64_t page)
{
	struct kvmas_space *space = w->now.bound[as_id];
	const struct kvmas_view *view;
	struct kvmas_section section;

	if (w->broken || !space)
		return;
	view = kvmas_view_acquire(w->m->f->reader, space);
	must(kvmas_view_lookup(view, gpa, &section));
	for (unsigned i = 0; i < w->now.nwishes; i++) {
		if (is_wished(&w->now.wishes[i], &section, space))
			w->must[w->now.wishes[i].client][block][page] = true;
	}
	kvmas_view_release(w->m->f->reader, view);
}

void world_may(struct world *w, unsigned block, uint64_t page)
{
	for (unsigned client = 0; client < NCLIENTS; client++)
		w->may[client][block][page] = true;
}

void world_must(struct world *w, unsigned block, uint64_t page)
{
	for (unsigned client = 0; client < NCLIENTS; client++)
		w->must[client][block][page] = true;
	world_may(w, block, page);
}

/* What is buffered is logged by the slot that is there when the vCPU leaves the guest. */
static bool may_be_told(const struct world *w, unsigned as_id, uint64_t gpa, bool writes)
{
	const struct fake_kvm *vm = w->m->vm;

	if (vm->config.pml)
		return true;
	if (vm->ring_size)
		return (writes || !vm->config.shadow_mmu) &&
		       fake_kvm_find(vm, as_id, gpa)->flags & LOG;
	return fake_kvm_is_dirty(vm, as_id, gpa);
}

static void access_page(struct world *w, unsigned as_id, uint64_t gpa, bool writes)
{
	const unsigned char *hva = fake_kvm_hva(w->m->vm, as_id, gpa);
	unsigned block;
	uint64_t page;
	int err;

	if (!world_locate(w, hva, &block, &page))
		return;
	err = writes ? guest_write(w->m, 0, as_id, gpa) : guest_read(w->m, 0, as_id, gpa);
	if (err)
		return; /* readonly, or the ring is full: an exit */
	if (writes)
		note_must(w, as_id, gpa, block, page);
	if (may_be_told(w, as_id, gpa, writes))
		world_may(w, block, page);
}

/* What a slot shows that has just been made, or has just come to be logged. */
static void note_fresh(struct world *w, const struct traced_op *op)
{
	for (unsigned block = 0; block < NBLOCKS; block++) {
		uint64_t first = op->slot.ram_offset / page_size();

		for (uint64_t i = 0;
		     w->blocks[block] == op->slot.ram && i < op->slot.size / page_size(); i++)
			world_may(w, block, first + i);
	}
}

/* Where a vCPU has buffered an address, what is there when it leaves the guest is told, though what
 * it wrote may have been there before. */
void world_note_buffered(struct world *w)
{
	for (unsigned i = 0; i < NGUESTS; i++) {
		const struct fake_kvm_vcpu *cpu = w->m->guests[0][i].cpu;

		for (unsigned k = 0; cpu && k < cpu->npml; k++) {
			unsigned block;
			uint64_t page;

			if (world_locate(w, fake_kvm_hva(w->m->vm, cpu->as_id, cpu->pml[k]), &block,
					 &page))
				world_may(w, block, page);
		}
	}
}

void world_note_doubts(struct world *w)
{
	const struct fake_kvm *vm = w->m->vm;
	bool doubts = w->lied;

	w->lied = false;
	for (size_t i = 0; i < vm->ncalls; i++) {
		enum fake_kvm_op op = vm->calls[i].op;

		doubts |= (op == FAKE_KVM_GET || op == FAKE_KVM_RESET) && vm->calls[i].result < 0;
		w->tally->cleared += op == FAKE_KVM_CLEAR;
	}
	if (doubts)
		memset(w->may, true, sizeof(w->may));
	for (size_t i = 0; w->fresh_is_dirty && i < w->m->nops; i++) {
		const struct traced_op *op = &w->m->ops[i];

		if (op->result == 0 && op->kind != KVMAS_SLOT_DELETE && op->slot.flags & LOG)
			note_fresh(w, op);
	}
}

/* KVM tells a vCPU the time again and again, which is a mark each time: in space 0, wherever the
 * vCPU is. */
static void tell_time(struct world *w)
{
	struct fake_kvm_vcpu *cpu = w->m->guests[0][below(w, NGUESTS)].cpu;
	uint64_t gpa = pages(below(w, WORLD_PAGES));
	unsigned times = 5 * below(w, 150);
	unsigned block;
	uint64_t page;

	if (!cpu || !world_locate(w, fake_kvm_hva(w->m->vm, NORMAL, gpa), &block, &page))
		return;
	for (unsigned i = 0; i < times && fake_kvm_clock(cpu, gpa) == 0; i++) {
		note_must(w, NORMAL, gpa, block, page);
		world_may(w, block, page);
	}
	if (one_in(w, 2))
		world_exit(w);
}

void world_run_guest(struct world *w)
{
	unsigned as_id = below(w, NSPACES);
	uint64_t gfn = below(w, WORLD_PAGES);
	unsigned n = 1 + below(w, 20);

	if (one_in(w, 2))
		tell_time(w);
	while (n-- > 0 && gfn < WORLD_PAGES)
		access_page(w, as_id, pages(gfn++), below(w, 5));
}

/* What is in its ring is read; and from where it is then the next one goes on. */
static void replace_vcpu(struct world *w, unsigned index)
{
	struct guest_vcpu *guest = &w->m->guests[0][index];

	fake_kvm_vcpu_flush(guest->cpu);
	kvmas_vcpu_del(guest->vcpu);
	guest->vcpu = NULL;
	world_calm(w);
	must(add_guest(w->m, 0, index));
}

void world_exit(struct world *w)
{
	unsigned index = below(w, NGUESTS);
	struct guest_vcpu *guest = &w->m->guests[0][index];
	bool replaces = one_in(w, 8);
	int result;

	if (!guest->cpu)
		return;
	world_inject(w);
	result = kvmas_vcpu_run(guest->vcpu);
	if (result == 0 && guest->cpu->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
		w->tally->full++;
		result = kvmas_vcpu_handle_exit(guest->vcpu);
		assert_holds(w, result == 1 || (result < 0 && w->injected),
			     "a full ring is not answered");
	}
	if (replaces)
		replace_vcpu(w, index);
	world_calm(w);
}

/* Whatever it returns; the guest may be anywhere. */
void world_sync(struct world *w)
{
	struct roll roll = draw(w);
	uint64_t npages = 1 + below(w, WORLD_PAGES);

	world_inject(w);
	if (one_in(w, 3))
		kvmas_region_sync(roll.region, pages(roll.gfn % 4), pages(npages));
	else
		kvmas_space_sync(roll.space, pages(roll.gfn), pages(npages));
	world_calm(w);
}

void world_mark(struct world *w)
{
	unsigned block = below(w, NBLOCKS);
	unsigned page = below(w, BLOCK_PAGES);

	must(kvmas_ram_mark(w->blocks[block], pages(page) + 5, 1));
	world_must(w, block, page);
}

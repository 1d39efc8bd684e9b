/* SPDX-License-Identifier: MIT */
/* See kvm-ledger.h. Read ledger_write first. */
#include "kvm-ledger.h"

#include <inttypes.h>

#include "kvm/vm.h"

static struct fake_kvm *vm_of(const struct machine *m, unsigned tie)
{
	return tie ? m->vm2 : m->vm;
}

/* ---- pages ---- */

static struct ledger_block *find_block(struct ledger *ledger, const struct kvmas_ram *ram)
{
	for (unsigned i = 0; i < ledger->nblocks; i++) {
		if (ledger->blocks[i].ram == ram)
			return &ledger->blocks[i];
	}
	return NULL;
}

/* Where a host address is. */
static struct ledger_block *locate(struct ledger *ledger, const unsigned char *hva, uint64_t *page)
{
	for (unsigned i = 0; i < ledger->nblocks; i++) {
		const struct kvmas_ram *ram = ledger->blocks[i].ram;
		const unsigned char *start = kvmas_ram_get_hva(ram);

		if (hva >= start && hva < start + kvmas_ram_get_max_size(ram)) {
			*page = (uint64_t)(hva - start) / page_size();
			return &ledger->blocks[i];
		}
	}
	return NULL;
}

static void set_page(uint64_t *bits, uint64_t page, bool value)
{
	uint64_t bit = UINT64_C(1) << page % 64;

	assert_true(page < LEDGER_PAGES);
	bits[page / 64] = value ? bits[page / 64] | bit : bits[page / 64] & ~bit;
}

static void owe(struct ledger_block *block, uint64_t page)
{
	for (unsigned client = 0; client < LEDGER_CLIENTS; client++) {
		set_page(block->owed[client], page, true);
		set_page(block->may[client], page, true);
	}
}

/* ---- the guest ---- */

int ledger_write(struct ledger *ledger, unsigned tie, unsigned as_id, uint64_t gpa)
{
	const struct fake_kvm *vm = vm_of(ledger->m, tie);
	const struct fake_kvm_slot *slot = fake_kvm_find(vm, as_id, gpa);
	int result = guest_write(ledger->m, tie, as_id, gpa);
	struct ledger_block *block;
	uint64_t page;

	if (result) {
		ledger->nfull += result > 0;
		return result;
	}
	ledger->nwritten++;
	block = locate(ledger, fake_kvm_hva(vm, as_id, gpa), &page);
	if (block && slot->flags & LOG)
		owe(block, page);
	return 0;
}

/* Which pages these are changes from time to time. */
static void write_slot(struct ledger *ledger, unsigned tie, const struct fake_kvm_slot *slot,
		       unsigned npages)
{
	uint64_t count = slot->size / page_size();

	for (unsigned i = 0; i < npages; i++) {
		uint64_t page = (ledger->nwritten * UINT64_C(37) + i * UINT64_C(3)) % count;

		ledger_write(ledger, tie, slot->as_id, slot->gpa + pages(page));
	}
}

void ledger_write_some(struct ledger *ledger, unsigned tie, unsigned npages)
{
	const struct fake_kvm *vm = vm_of(ledger->m, tie);

	for (unsigned as_id = 0; as_id < vm->config.spaces; as_id++) {
		const struct fake_kvm_space *space = &vm->spaces[as_id];

		for (unsigned i = 0; i < space->nslots; i++) {
			if (space->by_gpa[i]->flags & LOG)
				write_slot(ledger, tie, space->by_gpa[i], npages);
		}
	}
}

static void write_between(struct machine *m, unsigned tie)
{
	ledger_write_some(m->guest_data, tie, 1);
}

/* ---- life ---- */

void ledger_watch(struct ledger *ledger, struct kvmas_ram *ram)
{
	if (find_block(ledger, ram))
		return;
	assert_true(ledger->nblocks < LENGTH(ledger->blocks));
	ledger->blocks[ledger->nblocks++].ram = kvmas_ram_ref(ram);
}

void ledger_open(struct ledger *ledger, struct machine *m)
{
	*ledger = (struct ledger){.m = m};
	for (unsigned i = 0; i < LENGTH(m->region); i++) {
		if (m->region[i] && kvmas_region_get_kind(m->region[i]) == KVMAS_REGION_RAM)
			ledger_watch(ledger, block_of(m->region[i]));
	}
	m->run_guest = write_between;
	m->guest_data = ledger;
}

void ledger_close(struct ledger *ledger)
{
	ledger->m->run_guest = NULL;
	while (ledger->nblocks)
		kvmas_ram_unref(ledger->blocks[--ledger->nblocks].ram);
}

/* ---- clients ---- */

void ledger_note_taken(struct ledger *ledger, unsigned client, struct kvmas_ram *ram, uint64_t page)
{
	set_page(find_block(ledger, ram)->owed[client], page, false);
}

void ledger_note_put(struct ledger *ledger, unsigned client, struct kvmas_ram *ram, uint64_t page)
{
	set_page(find_block(ledger, ram)->owed[client], page, true);
}

int64_t ledger_take(struct ledger *ledger, unsigned client, struct kvmas_ram *ram, uint64_t first,
		    uint64_t npages)
{
	struct ledger_block *block = find_block(ledger, ram);
	uint64_t most = kvmas_ram_get_max_size(ram) / page_size() - first;
	uint64_t bits[LEDGER_WORDS] = {0};
	int64_t count;

	if (npages > most)
		npages = most;
	count = kvmas_client_take(ledger->m->clients[client], ram, first, npages, bits);
	for (uint64_t i = 0; count >= 0 && i < (npages + 63) / 64; i++)
		block->owed[client][first / 64 + i] &= ~bits[i];
	return count == -ENOENT ? 0 : count;
}

int64_t ledger_take_all(struct ledger *ledger)
{
	int64_t first_error = 0;

	for (unsigned client = 0; client < ledger->m->nclients; client++) {
		for (unsigned i = 0; i < ledger->nblocks; i++) {
			int64_t count =
				ledger_take(ledger, client, ledger->blocks[i].ram, 0, LEDGER_PAGES);

			if (count < 0 && !first_error)
				first_error = count;
		}
	}
	return first_error;
}

/* ---- the reckoning ---- */

static void assert_nothing_owed(const struct ledger *ledger, const char *who, unsigned k)
{
	for (unsigned client = 0; client < ledger->m->nclients; client++) {
		for (unsigned i = 0; i < ledger->nblocks * LEDGER_WORDS; i++) {
			const struct ledger_block *block = &ledger->blocks[i / LEDGER_WORDS];
			uint64_t word = block->owed[client][i % LEDGER_WORDS];

			if (word)
				fail_msg("%s, %u: client %u was not told of pages 0x%" PRIx64
					 " << %u of %s",
					 who, k, client, word, i % LEDGER_WORDS * 64,
					 kvmas_ram_get_name(block->ram));
		}
	}
}

/* Everything is taken while the guest does not run; what is taken must be among what may. */
static void settle(struct ledger *ledger, bool exact, const char *who, unsigned k)
{
	struct machine *m = ledger->m;

	m->run_guest = NULL;
	for (unsigned i = 0; i < NSPACES; i++)
		must(kvmas_space_sync(m->space[i], 0, KVMAS_SIZE_MAX));
	for (unsigned i = 0; i < m->nclients * ledger->nblocks; i++) {
		struct ledger_block *block = &ledger->blocks[i % ledger->nblocks];
		unsigned client = i / ledger->nblocks;
		uint64_t npages = kvmas_ram_get_max_size(block->ram) / page_size();
		uint64_t bits[LEDGER_WORDS] = {0};
		int64_t count = kvmas_client_take(m->clients[client], block->ram, 0, npages, bits);

		assert_true(count >= 0 || count == -ENOENT);
		for (unsigned word = 0; word < LEDGER_WORDS; word++) {
			block->owed[client][word] &= ~bits[word];
			if (exact && bits[word] & ~block->may[client][word])
				fail_msg("%s, %u: client %u was told of pages that nobody wrote",
					 who, k, client);
			block->may[client][word] = 0;
		}
	}
	assert_nothing_owed(ledger, who, k);
	m->run_guest = write_between;
}

void ledger_assert_settled(struct ledger *ledger, const char *who, unsigned k)
{
	settle(ledger, false, who, k);
}

void ledger_assert_exact(struct ledger *ledger, const char *who, unsigned k)
{
	settle(ledger, true, who, k);
}

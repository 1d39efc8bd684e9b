/* SPDX-License-Identifier: MIT */
/*
 * The ledger: see ledger.h. Read ledger_check first.
 *
 * Where only the low bits of a number arrive, they tell which access it was nevertheless: a stage
 * has no more rounds than a byte has values, and scripts are of odd length.
 */
#include "ledger.h"

#include <stdio.h>

void ledger_begin(struct ledger *ledger)
{
	ledger->nmaps = 1;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		ledger->base[v] = stores_number(ledger->g, v);
		ledger->maps[0].from[v] = 0;
		atomic_store(&ledger->maps[0].to[v], UINT32_MAX);
		atomic_store(&ledger->nreceipts[v], 0);
	}
	memset(ledger->least, 0, sizeof(ledger->least));
	memset(ledger->most, 0, sizeof(ledger->most));
	memset(ledger->signalled, 0, sizeof(ledger->signalled));
}

int ledger_open_map(struct ledger *ledger)
{
	unsigned map = ledger->nmaps;

	if (map == LEDGER_MAPS)
		return -ENOSPC;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		ledger->maps[map].from[v] = stores_number(ledger->g, v);
		atomic_store(&ledger->maps[map].to[v], UINT32_MAX);
	}
	ledger->nmaps++;
	return (int)map;
}

void ledger_close_map(struct ledger *ledger, unsigned map)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		atomic_store(&ledger->maps[map - 1].to[v], stores_number(ledger->g, v));
}

void ledger_note(struct ledger *ledger, unsigned vcpu, struct receipt receipt)
{
	uint32_t at = atomic_fetch_add(&ledger->nreceipts[vcpu], 1);

	if (receipt.read)
		receipt.value = stores_number(ledger->g, vcpu);
	if (at < LEDGER_RECEIPTS)
		ledger->receipts[vcpu][at] = receipt;
}

/* ---- looking at a stage ---- */

/* The access that is looked at. */
struct cursor {
	struct ledger *ledger;
	unsigned vcpu;
	uint32_t number;
	uint32_t element; /* of rep outs */
	unsigned map;     /* all before it had ended by then */
};

static unsigned entry_of(const struct cursor *cursor)
{
	uint32_t since = cursor->number - cursor->ledger->base[cursor->vcpu] - 1;

	return since % stores_control(cursor->ledger->g, cursor->vcpu)->length;
}

static const struct store *store_of(const struct cursor *cursor)
{
	return &stores_script(cursor->ledger->g, cursor->vcpu)[entry_of(cursor)];
}

static uint64_t value_of(const struct cursor *cursor)
{
	switch (store_of(cursor)->kind) {
	case STORES_QUAD:
		return (uint64_t)STORES_UPPER << 32 | cursor->number;
	case STORES_REP_OUTS:
		return (uint32_t)(cursor->number << STORES_REP_SHIFT) + cursor->element;
	default:
		return cursor->number;
	}
}

static bool matches(const struct cursor *cursor, const struct receipt *receipt)
{
	const struct store *store = store_of(cursor);
	uint64_t mask = receipt->size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * receipt->size) - 1;

	return entry_of(cursor) == receipt->entry && stores_size(store->kind) == receipt->size &&
	       receipt->read == (store->kind == STORES_LOAD) &&
	       ((value_of(cursor) ^ receipt->value) & mask) == 0;
}

static void step_on(struct cursor *cursor)
{
	const struct store *store = store_of(cursor);

	if (store->kind == STORES_REP_OUTS && ++cursor->element < store->count)
		return;
	cursor->element = 0;
	cursor->number++;
}

/* All that may have become of it. */
static uint32_t outcomes(struct cursor *cursor)
{
	const struct ledger *ledger = cursor->ledger;
	unsigned v = cursor->vcpu;
	uint32_t bits = 0;

	while (atomic_load(&ledger->maps[cursor->map].to[v]) < cursor->number)
		cursor->map++;
	for (unsigned map = cursor->map;
	     map < ledger->nmaps && ledger->maps[map].from[v] <= cursor->number; map++) {
		if (atomic_load(&ledger->maps[map].to[v]) >= cursor->number)
			bits |= ledger->outcome(ledger->data, map, v, cursor->number);
	}
	return bits;
}

static bool complain(const struct cursor *cursor, const char *what, uint32_t bits,
		     const struct receipt *receipt)
{
	struct ledger *ledger = cursor->ledger;
	const struct store *store = store_of(cursor);

	snprintf(ledger->wrong, sizeof(ledger->wrong),
		 "vCPU %u, access %u.%u (%u of its stage), entry %u, kind %u at 0x%x: %s; possible "
		 "0x%x, receipt of %d, entry %d, value 0x%llx",
		 cursor->vcpu, cursor->number, cursor->element,
		 cursor->number - ledger->base[cursor->vcpu], entry_of(cursor), store->kind,
		 store->address, what, bits, receipt ? receipt->who : -1,
		 receipt ? receipt->entry : -1, (unsigned long long)(receipt ? receipt->value : 0));
	return false;
}

/* An access that left no receipt. */
static bool pass_over(struct cursor *cursor, const struct receipt *next)
{
	struct ledger *ledger = cursor->ledger;
	uint32_t all = outcomes(cursor), bits = all & ledger->silent;
	unsigned entry = entry_of(cursor);

	if (!bits)
		return complain(cursor, "did not arrive, or not in its turn", all, next);
	for (unsigned i = 0; i < 32; i++) {
		ledger->most[cursor->vcpu][entry][i] += bits >> i & 1;
		ledger->least[cursor->vcpu][entry][i] += bits == 1U << i;
	}
	ledger->signalled[cursor->vcpu][entry] += !(bits & ~ledger->signals);
	ledger->open += (bits & (bits - 1)) != 0;
	step_on(cursor);
	return true;
}

static bool take(struct cursor *cursor, const struct receipt *receipt, uint32_t end)
{
	uint32_t bits;

	while (cursor->number <= end && !matches(cursor, receipt)) {
		if (!pass_over(cursor, receipt))
			return false;
	}
	if (cursor->number > end)
		return complain(cursor, "is past the stage's end", 0, receipt);
	bits = outcomes(cursor);
	if (!(bits & 1U << receipt->who))
		return complain(cursor, "arrived where it must not", bits, receipt);
	step_on(cursor);
	return true;
}

static bool check_vcpu(struct ledger *ledger, unsigned vcpu)
{
	uint32_t count = atomic_load(&ledger->nreceipts[vcpu]);
	uint32_t end = stores_number(ledger->g, vcpu);
	struct cursor cursor = {.ledger = ledger, .vcpu = vcpu, .number = ledger->base[vcpu] + 1};

	if (count > LEDGER_RECEIPTS) {
		snprintf(ledger->wrong, sizeof(ledger->wrong), "vCPU %u: %u receipts", vcpu, count);
		return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (!take(&cursor, &ledger->receipts[vcpu][i], end))
			return false;
	}
	while (cursor.number <= end) {
		if (!pass_over(&cursor, NULL))
			return false;
	}
	ledger->accesses += end - ledger->base[vcpu];
	ledger->arrived += count;
	return true;
}

bool ledger_check(struct ledger *ledger)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		if (!check_vcpu(ledger, v))
			return false;
	}
	return true;
}

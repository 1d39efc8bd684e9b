/* SPDX-License-Identifier: MIT */
/*
 * The pieces, and what the guest knows of them.
 *
 *   page   80 c0 100 140   holes, two that overlap at each place   exits there, or its own bytes
 *         180 1a0 1c0      write-protected                         writes may exit and be refused
 *         200 220          a ROM above                             one's bytes or the other's
 *         240 260 280      split                                   nothing to be seen
 *         500 540          hole and protection in space 1 only     nothing to be seen in space 0
 *         900 910 920      windows onto 300 310 320, or 4 pages on one's bytes or the other's
 *         980 990          windows that change places              one's bytes or the other's
 *         9c0 or 9d0       a window here or there                  exits, or its bytes
 *         a00              a window of 4 pages or 8                exits in the last 4
 *
 * Where no exit is foreseen there must be none: such memory is mapped before and after each commit.
 * Beside each piece, on either side, are words that are written all the time.
 *
 * Each vCPU, in SMM and out of it, has its own words to write; what is only read, all read.
 */
#include "churn.h"

#include <stdio.h>

enum {
	READ_OFFSET = 0x100, /* of words that are read, in their page */
	MAX_BUDGET = 20,
};

/* ---- chance ---- */

/* xorshift64* */
static uint32_t chance(struct churn *churn, uint32_t n)
{
	churn->seed ^= churn->seed >> 12;
	churn->seed ^= churn->seed << 25;
	churn->seed ^= churn->seed >> 27;
	return (uint32_t)((churn->seed * UINT64_C(2685821657736338717)) >> 32) % n;
}

/* ---- what the guest must find ---- */

/* In the tables of one space. */
static void enter_for_all(struct guest *g, unsigned as_id, struct code_entry entry)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		guest_enter(g, v, as_id, entry);
}

/* A word of each one's own, to be written. */
static void enter_own(struct guest *g, uint32_t page, uint32_t kind)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned as_id = 0; as_id < g->nspaces; as_id++)
			guest_enter(g, v, as_id, guest_word(g, page, 8 * (2 * v + as_id), kind));
	}
}

/* A word of RAM that is read, b being what else may be there. */
static struct code_entry read_word(struct guest *g, uint32_t page, uint32_t b)
{
	struct code_entry entry = guest_word(g, page, READ_OFFSET, CODE_READ);

	entry.b = b;
	return entry;
}

/* The words of two pages of RAM, of which one or the other is seen at a third. */
static struct code_entry seen_word(struct guest *g, uint32_t page, uint32_t first, uint32_t second)
{
	uint32_t b = read_word(g, second, 0).a;
	struct code_entry entry = read_word(g, first, b);

	entry.address = page * PAGE + READ_OFFSET;
	return entry;
}

static void enter_neighbours(struct guest *g, const struct piece *piece)
{
	enter_own(g, piece->page - 1, CODE_WRITE);
	enter_own(g, piece->page + piece->npages, CODE_WRITE);
}

/* What is so in the piece's space, and in space 1 if that shows it. */
static void enter_where_seen(struct guest *g, const struct piece *piece, struct code_entry entry)
{
	for (unsigned as_id = piece->as_id; as_id < g->nspaces; as_id++)
		enter_for_all(g, as_id, entry);
}

static void expect_exits(struct guest *g, const struct piece *piece, bool writes_only)
{
	unsigned before = g->nwindows;

	guest_expect_exits(g, piece->page, piece->npages, writes_only);
	/* Not in space 0 what only space 1 shows. */
	for (unsigned i = before; i < g->nwindows; i++) {
		if (g->windows[i].as_id < piece->as_id)
			g->windows[i] = g->windows[--g->nwindows];
	}
}

/* ---- pieces ---- */

static struct piece *new_piece(struct churn *churn, enum churn_kind kind, unsigned as_id,
			       uint32_t page, uint32_t npages)
{
	struct piece *piece = &churn->pieces[churn->npieces++];

	assert_true(churn->npieces <= CHURN_PIECES);
	*piece = (struct piece){.kind = kind, .as_id = as_id, .page = page, .npages = npages};
	return piece;
}

static void add_hole(struct churn *churn, unsigned as_id, uint32_t page, uint32_t npages)
{
	struct piece *piece = new_piece(churn, CHURN_HOLE, as_id, page, npages);
	struct guest *g = churn->g;

	piece->region = guest_put_hole(g, as_id, page, npages);
	expect_exits(g, piece, false);
	for (uint32_t i = 0; i < npages; i++)
		enter_where_seen(g, piece, read_word(g, page + i, ONES));
}

/* [page, page + n) and [page + n/2, page + n + n/2). */
static void add_holes(struct churn *churn, uint32_t page, uint32_t npages)
{
	struct piece both = {.page = page, .npages = npages + npages / 2};

	add_hole(churn, 0, page, npages);
	add_hole(churn, 0, page + npages / 2, npages);
	enter_neighbours(churn->g, &both);
}

static void add_protected(struct churn *churn, unsigned as_id, uint32_t page, uint32_t npages)
{
	struct piece *piece = new_piece(churn, CHURN_PROTECT, as_id, page, npages);
	struct guest *g = churn->g;

	piece->region = guest_put_alias(g, as_id, page, page, npages);
	expect_exits(g, piece, true);
	enter_neighbours(g, piece);
	for (uint32_t i = 0; i < npages; i++) {
		struct code_entry entry = read_word(g, page + i, 0);

		entry.b = entry.a;
		enter_where_seen(g, piece, entry);
		enter_own(g, page + i, as_id ? CODE_READ : CODE_TRY);
	}
}

static void add_rom(struct churn *churn, uint32_t page, uint32_t npages)
{
	struct piece *piece = new_piece(churn, CHURN_ROM, 0, page, npages);
	struct guest *g = churn->g;
	struct kvmas_ram *block = make_block(g->f, "rom", npages);
	unsigned char *bytes = kvmas_ram_get_hva(block);

	piece->region =
		make_region(g->f, (struct kvmas_region_config){.kind = KVMAS_REGION_ROM,
							       .name = "rom",
							       .size = (uint64_t)npages * PAGE,
							       .ram = block});
	must(kvmas_region_set_enabled(piece->region, false));
	guest_put(g, 0, piece->region, page);
	enter_neighbours(g, piece);
	for (uint32_t i = 0; i < npages; i++) {
		struct code_entry entry = read_word(g, page + i, 0);

		entry.b = ~entry.a;
		memcpy(bytes + (size_t)i * PAGE + READ_OFFSET, &entry.b, sizeof(entry.b));
		enter_where_seen(g, piece, entry);
	}
	kvmas_ram_unref(block);
}

static void add_split(struct churn *churn, uint32_t page, uint32_t npages)
{
	struct piece *piece = new_piece(churn, CHURN_SPLIT, 0, page, npages);

	piece->region = guest_put_alias(churn->g, 0, page, page, npages);
	enter_neighbours(churn->g, piece);
	for (uint32_t i = 0; i < npages; i++)
		enter_own(churn->g, page + i, CODE_WRITE);
}

static struct piece *add_window(struct churn *churn, enum churn_kind kind, uint32_t page,
				uint32_t npages, uint32_t first)
{
	struct piece *piece = new_piece(churn, kind, 0, page, npages);

	piece->first = first;
	piece->region = guest_put_alias(churn->g, 0, page, first, npages);
	return piece;
}

static void add_shifting_window(struct churn *churn, uint32_t page, uint32_t first)
{
	struct piece *piece = add_window(churn, CHURN_SHIFT, page, 4, first);

	for (uint32_t i = 0; i < piece->npages; i++)
		enter_where_seen(churn->g, piece,
				 seen_word(churn->g, page + i, first + i, first + i + 4));
}

static void add_swapping_windows(struct churn *churn, uint32_t page, uint32_t first)
{
	struct piece *piece = add_window(churn, CHURN_SWAP, page, 2, first);
	struct guest *g = churn->g;

	piece->other = guest_put_alias(g, 0, page + 0x10, first + 8, 2);
	for (uint32_t i = 0; i < piece->npages; i++) {
		struct code_entry entry = seen_word(g, page + i, first + i, first + i + 8);

		enter_where_seen(g, piece, entry);
		entry.address += 0x10 * PAGE;
		enter_where_seen(g, piece, entry);
	}
}

static void add_moving_window(struct churn *churn, uint32_t page, uint32_t first)
{
	struct piece *piece = add_window(churn, CHURN_MOVE, page, 2, first);
	struct guest *g = churn->g;

	guest_expect_exits(g, page, 2, false);
	guest_expect_exits(g, page + 0x10, 2, false);
	for (uint32_t i = 0; i < piece->npages; i++) {
		struct code_entry entry = read_word(g, first + i, ONES);

		entry.address = (page + i) * PAGE + READ_OFFSET;
		enter_where_seen(g, piece, entry);
		entry.address += 0x10 * PAGE;
		enter_where_seen(g, piece, entry);
	}
}

static void add_resized_window(struct churn *churn, uint32_t page, uint32_t first)
{
	struct piece *piece = add_window(churn, CHURN_RESIZE, page, 4, first);
	struct guest *g = churn->g;

	guest_expect_exits(g, page + 4, 4, false);
	for (uint32_t i = 0; i < 8; i++) {
		struct code_entry entry = read_word(g, first + i, 0);

		entry.b = i < 4 ? entry.a : ONES;
		entry.address = (page + i) * PAGE + READ_OFFSET;
		enter_where_seen(g, piece, entry);
	}
}

void churn_init(struct churn *churn, struct guest *g, uint64_t seed)
{
	*churn = (struct churn){.g = g, .seed = seed};
	must(kvmas_client_new(g->f->kvmas, "migration", &churn->client));
	for (uint32_t i = 0; i < 4; i++)
		add_holes(churn, CHURN_HOLE_PAGE + 0x40 * i, 2 + 2 * i);
	for (uint32_t i = 0; i < 3; i++)
		add_protected(churn, 0, 0x180 + 0x20 * i, 1 + 3 * i);
	add_rom(churn, 0x200, 1);
	add_rom(churn, 0x220, 5);
	for (uint32_t i = 0; i < 3; i++)
		add_split(churn, 0x240 + 0x20 * i, 2 + i);
	for (uint32_t i = 0; i < 3; i++)
		add_shifting_window(churn, CHURN_SHIFT_PAGE + 0x10 * i, 0x300 + 0x10 * i);
	add_swapping_windows(churn, 0x980, 0x340);
	add_moving_window(churn, 0x9c0, 0x360);
	add_resized_window(churn, 0xa00, 0x370);
	if (g->nspaces < 2)
		return;
	add_hole(churn, 1, 0x500, 3);
	enter_own(g, 0x503, CODE_WRITE);
	add_protected(churn, 1, 0x540, 2);
}

void churn_fini(struct churn *churn)
{
	kvmas_client_unref(churn->client);
}

/* ---- switching ---- */

static int swap(const struct piece *piece)
{
	uint64_t here = (uint64_t)piece->page * PAGE, there = here + UINT64_C(0x10) * PAGE;
	int err = kvmas_region_set_offset(piece->region, piece->on ? there : here);

	return err ? err : kvmas_region_set_offset(piece->other, piece->on ? here : there);
}

static int switch_piece(const struct piece *piece)
{
	struct kvmas_region *region = piece->region;
	bool on = piece->on;

	switch (piece->kind) {
	case CHURN_HOLE:
	case CHURN_ROM:
		return kvmas_region_set_enabled(region, on);
	case CHURN_PROTECT:
		return kvmas_region_set_readonly(region, on);
	case CHURN_SPLIT:
		return kvmas_region_set_unmergeable(region, on);
	case CHURN_SHIFT:
		return kvmas_region_set_alias_offset(
			region, (uint64_t)(piece->first + (on ? 4 : 0)) * PAGE);
	case CHURN_SWAP:
		return swap(piece);
	case CHURN_MOVE:
		return kvmas_region_set_offset(region,
					       (uint64_t)(piece->page + (on ? 0x10 : 0)) * PAGE);
	default:
		return kvmas_region_set_size(region, (uint64_t)(on ? 8 : 4) * PAGE);
	}
}

/* The line of the transaction that is open. */
__attribute__((format(printf, 2, 3))) static void tell(struct churn *churn, const char *format, ...)
{
	char *line = churn->lines[(churn->commits + churn->aborts) % CHURN_LINES];
	size_t length = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + length, sizeof(churn->lines[0]) - length, format, args);
	va_end(args);
}

static int switch_any(struct churn *churn)
{
	static const char *const names[] = {"hole",  "protect", "rom",  "split",
					    "shift", "swap",    "move", "resize"};
	struct piece *piece = &churn->pieces[chance(churn, churn->npieces)];

	piece->on = !piece->on;
	churn->switched[piece->kind]++;
	tell(churn, " %s %x %s,", names[piece->kind], piece->page, piece->on ? "on" : "off");
	return switch_piece(piece);
}

static int change_boundary(struct churn *churn, unsigned as_id)
{
	unsigned i = chance(churn, CHURN_BOUNDARIES);
	uint32_t page = churn->boundaries[i].page;

	churn->cuts++;
	if (page) {
		as_id = churn->boundaries[i].as_id;
		churn->boundaries[i].page = 0;
		tell(churn, " boundary %u:%x off,", as_id, page);
		return kvmas_kvm_del_boundary(churn->g->kvm, as_id, (uint64_t)page * PAGE);
	}
	page = 1 + chance(churn, 0xa08);
	churn->boundaries[i].as_id = as_id;
	churn->boundaries[i].page = page;
	tell(churn, " boundary %u:%x on,", as_id, page);
	return kvmas_kvm_add_boundary(churn->g->kvm, as_id, (uint64_t)page * PAGE);
}

static int change_policy(struct churn *churn)
{
	static const char *const names[] = {"sticky", "eager", "none"};
	unsigned as_id = chance(churn, churn->g->nspaces);
	struct kvmas_kvm *kvm = churn->g->kvm;
	unsigned which = chance(churn, 8), number;

	if (which == 0) {
		churn->merges++;
		tell(churn, " merge %u,", as_id);
		return kvmas_kvm_merge(kvm, as_id);
	}
	if (which == 1) {
		churn->budgets++;
		number = chance(churn, MAX_BUDGET);
		tell(churn, " budget %u %u,", as_id, number);
		return kvmas_kvm_set_budget(kvm, as_id, number);
	}
	if (which < 5)
		return change_boundary(churn, as_id);
	churn->policies++;
	number = chance(churn, 3);
	tell(churn, " %s %u,", names[number], as_id);
	return kvmas_kvm_set_merge(kvm, as_id, (enum kvmas_merge)number);
}

/* All memory or the guest's RAM only, in all spaces or in one. */
static int change_log(struct churn *churn)
{
	unsigned which = chance(churn, 2 * (1 + churn->g->nspaces));
	struct kvmas_region *region = which % 2 ? churn->g->memory : NULL;
	struct kvmas_space *space = which / 2 ? churn->g->space[which / 2 - 1] : NULL;
	bool on = !(churn->wishes & 1u << which);

	churn->logs++;
	churn->wishes ^= 1u << which;
	tell(churn, " log %u %s,", which, on ? "on" : "off");
	return on ? kvmas_client_log_start(churn->client, region, space)
		  : kvmas_client_log_stop(churn->client, region, space);
}

static int edit(struct churn *churn)
{
	unsigned what = chance(churn, 16);

	if (what == 0)
		return change_log(churn);
	return what < 4 ? change_policy(churn) : switch_any(churn);
}

/* ---- transactions ---- */

/* What the library undoes by itself, here too. */
struct remembered {
	bool on[CHURN_PIECES];
	unsigned wishes;
	uint32_t pages[CHURN_BOUNDARIES];
	unsigned as_ids[CHURN_BOUNDARIES];
};

static struct remembered remember(const struct churn *churn)
{
	struct remembered all = {.wishes = churn->wishes};

	for (unsigned i = 0; i < churn->npieces; i++)
		all.on[i] = churn->pieces[i].on;
	for (unsigned i = 0; i < CHURN_BOUNDARIES; i++) {
		all.pages[i] = churn->boundaries[i].page;
		all.as_ids[i] = churn->boundaries[i].as_id;
	}
	return all;
}

static void restore(struct churn *churn, const struct remembered *all)
{
	churn->wishes = all->wishes;
	for (unsigned i = 0; i < churn->npieces; i++)
		churn->pieces[i].on = all->on[i];
	for (unsigned i = 0; i < CHURN_BOUNDARIES; i++) {
		churn->boundaries[i].page = all->pages[i];
		churn->boundaries[i].as_id = all->as_ids[i];
	}
}

static int end(struct churn *churn, const struct remembered *all)
{
	bool give_up = chance(churn, 16) == 0;
	int err = give_up ? kvmas_abort(churn->g->f->kvmas) : kvmas_commit(churn->g->f->kvmas);

	tell(churn, " %s = %d", give_up ? "abort" : "commit", err);
	churn->aborts += give_up;
	churn->commits += !give_up;
	if (give_up)
		restore(churn, all);
	return err;
}

bool churn_step(struct churn *churn)
{
	struct remembered all = remember(churn);
	unsigned count = 1 + chance(churn, 4);
	int err;

	churn->lines[(churn->commits + churn->aborts) % CHURN_LINES][0] = '\0';
	err = kvmas_begin(churn->g->f->kvmas);
	for (unsigned i = 0; i < count && !err; i++)
		err = edit(churn);
	if (!err && chance(churn, 4) == 0)
		err = kvmas_kvm_dry_run(churn->g->kvm, NULL, NULL, NULL);
	if (!err)
		err = end(churn, &all);
	if (!err && churn->wishes && chance(churn, 4) == 0)
		err = guest_sync_all(churn->g);
	churn->result = err;
	return err == 0;
}

void churn_report(const struct churn *churn)
{
	unsigned count = churn->commits + churn->aborts;

	print_message("the last of %u transactions:\n", count);
	for (unsigned i = count > CHURN_LINES - 1 ? count - (CHURN_LINES - 1) : 0; i < count; i++)
		print_message("%u:%s\n", i, churn->lines[i % CHURN_LINES]);
	if (churn->result)
		print_message("a call failed with %d; begun:%s\n", churn->result,
			      churn->lines[count % CHURN_LINES]);
}

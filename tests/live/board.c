/* SPDX-License-Identifier: MIT */
/*
 * The board: see board.h. Read board_change and outcome_of first.
 */
#include "board.h"

#include <sys/eventfd.h>

enum {
	RAM_PAGES = 0x90,
	SHOWN_PAGE = 0x80,  /* of RAM, by the cover of RAM */
	FIRST_PAGE = 0x100, /* places of memory, */
	STATUS_PAGE = FIRST_PAGE + NMEMORY,
	SWITCH_PAGE,
	END_PAGE,
	FIRST_PORT = 0x400, /* and of ports */
	PORTS = 0x100,      /* at a place */
	ENTRY_BYTES = 16,
	ENTRY_PORTS = 8,
	MATCH = 0x5a,
	REPEAT = 7,
};

enum event {
	NO_EVENT,
	EVENT,       /* of the access' size */
	EVENT_ANY,   /* of any */
	EVENT_MATCH, /* of MATCH alone */
};

/* What a vCPU does at a place, and at which it is an event: few, since every one costs a grace
 * period of KVM's when its region moves. */
static const struct step {
	uint32_t kind;
	enum event event;
	uint8_t places; /* a bit for each */
} memory_steps[] =
	{
		{STORES_BYTE, NO_EVENT, 0},  {STORES_LONG, EVENT, 3},
		{STORES_LONG, NO_EVENT, 0},  {STORES_QUAD, EVENT, 8},
		{STORES_WORD, EVENT_ANY, 5}, {STORES_LOAD, NO_EVENT, 0},
		{STORES_WORD, NO_EVENT, 0},  {STORES_BYTE, EVENT_MATCH, 6},
		{STORES_QUAD, NO_EVENT, 0},
},
  port_steps[] = {
	  {STORES_OUT_LONG, NO_EVENT, 0},
	  {STORES_OUT_WORD, EVENT, 3},
	  {STORES_OUT_BYTE, EVENT_MATCH, 2},
	  {STORES_REP_OUTS, NO_EVENT, 0},
};

/* By entry: the same for all vCPUs. */
struct meaning {
	uint8_t place; /* NOWHERE: STATUS and SWITCH */
	enum event event;
};

static bool is_port(unsigned place)
{
	return place >= NMEMORY && place != NOWHERE;
}

static struct meaning meaning_in(const struct step *steps, size_t nsteps, unsigned entry)
{
	unsigned place = entry / (unsigned)nsteps;
	const struct step *step = &steps[entry % nsteps];

	return (struct meaning){(uint8_t)place, step->places >> place & 1 ? step->event : NO_EVENT};
}

static struct meaning meaning_of(unsigned entry)
{
	struct meaning meaning = {NOWHERE, NO_EVENT};

	if (entry < NMEMORY * LENGTH(memory_steps))
		return meaning_in(memory_steps, LENGTH(memory_steps), entry);
	entry -= NMEMORY * LENGTH(memory_steps);
	if (entry < NPORTS * LENGTH(port_steps)) {
		meaning = meaning_in(port_steps, LENGTH(port_steps), entry);
		meaning.place += NMEMORY;
	}
	return meaning;
}

static uint32_t chance(struct board *board, unsigned thread, uint32_t n)
{
	uint64_t *seed = &board->seeds[thread];

	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(*seed >> 33) % n;
}

/* ---- what must become of an access ---- */

static bool is_at(const struct spot *spot, unsigned place)
{
	return spot->enabled && spot->inserted && spot->place == place;
}

static bool is_signal(enum event event, uint32_t number)
{
	return event != NO_EVENT && (event != EVENT_MATCH || (number & 0xff) == MATCH);
}

/* For the ledger. */
static uint32_t outcome_of(void *data, unsigned map_number, unsigned vcpu, uint32_t number)
{
	const struct board *board = data;
	const struct map *map = &board->maps[map_number];
	unsigned entry = (number - board->ledger.base[vcpu] - 1) % board->nentries;
	struct meaning meaning = meaning_of(entry);

	if (meaning.place == NOWHERE)
		return 1U << (entry == board->nentries - 1U ? SWITCH : STATUS);
	if (!is_port(meaning.place) && is_at(&map->ram, meaning.place))
		return 1U << RAM;
	if (!is_port(meaning.place) && is_at(&map->cover, meaning.place))
		return 1U << COVER;
	for (unsigned i = NMOVERS; i-- > 0;) {
		if (!is_at(&map->movers[i], meaning.place))
			continue;
		if (map->movers[i].events && is_signal(meaning.event, number))
			return 1U << (SIGNAL + i);
		return 1U << (MOVER + i);
	}
	return 1U << (is_port(meaning.place) ? PORT_FLOOR : FLOOR);
}

/* ---- devices ---- */

static uint64_t offset_of(const struct board *board, unsigned vcpu, unsigned entry)
{
	for (unsigned i = 0; i < board->nports; i++) {
		if (board->entry_at_port[vcpu][i] == entry)
			return (uint64_t)(vcpu * 16 + i) * ENTRY_PORTS;
	}
	return (uint64_t)(vcpu * LEDGER_ENTRIES + entry) * ENTRY_BYTES;
}

static void take_note(const struct desk *desk, const struct kvmas_access *access, uint64_t value,
		      bool read)
{
	struct board *board = desk->board;
	bool ports = desk->who == PORT_FLOOR || desk->who == MOVER + NMOVERS - 1;
	uint64_t offset = desk->bytes ? access->offset % desk->bytes : access->offset;
	uint64_t slot = offset / (ports ? ENTRY_PORTS : ENTRY_BYTES);
	unsigned vcpu = (unsigned)(slot / (ports ? 16 : LEDGER_ENTRIES)) % MAX_VCPUS;
	unsigned entry = (unsigned)(slot % (ports ? 16 : LEDGER_ENTRIES));
	struct receipt receipt = {.size = (uint8_t)access->size,
				  .who = (uint8_t)desk->who,
				  .read = read,
				  .value = value};

	receipt.entry = ports ? board->entry_at_port[vcpu][entry] : (uint8_t)entry;
	/* A floor sees where, too. */
	if (desk->bytes &&
	    access->offset / desk->bytes + (ports ? NMEMORY : 0) != meaning_of(receipt.entry).place)
		receipt.entry = UINT8_MAX;
	if (offset % (ports ? ENTRY_PORTS : ENTRY_BYTES))
		receipt.entry = UINT8_MAX;
	ledger_note(&board->ledger, vcpu, receipt);
}

static int write_desk(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	const struct desk *desk = opaque;

	take_note(desk, access, value, false);
	/* A forged write has no vCPU. */
	if (desk->who == SWITCH && value % 8 == 0 && access->requester)
		board_change(desk->board, ((struct vcpu *)access->requester)->index);
	return 0;
}

static int read_desk(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	take_note(opaque, access, 0, true);
	*value = 0;
	return 0;
}

static const struct kvmas_ops desk_ops = {
	.struct_size = sizeof(desk_ops),
	.read = read_desk,
	.write = write_desk,
};

/* For the caller to drop. */
static struct kvmas_region *make_desk(struct board *board, enum who who, const char *name,
				      uint64_t size, uint64_t bytes)
{
	struct kvmas_region *region;

	board->desks[who] = (struct desk){board, who, bytes};
	must(kvmas_region_new(board->g->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = name,
					   .size = size, .ops = &desk_ops,
					   .opaque = &board->desks[who]),
			      &region));
	return region;
}

static void put_desk(struct board *board, enum who who, uint64_t gpa, uint64_t size, uint64_t bytes)
{
	struct kvmas_region *region = make_desk(board, who, "desk", size, bytes);

	must(kvmas_region_add(who == PORT_FLOOR ? board->ports : board->g->root[0], region, gpa,
			      1));
	kvmas_region_unref(region);
}

/* ---- changes ---- */

static uint64_t address_of(unsigned place)
{
	if (is_port(place))
		return FIRST_PORT + (place - NMEMORY) * PORTS;
	return (uint64_t)(FIRST_PAGE + place) * PAGE;
}

static struct kvmas_region *container_of_mover(const struct board *board, unsigned mover)
{
	return mover == NMOVERS - 1 ? board->ports : board->g->root[0];
}

static int set_event(struct board *board, unsigned mover, unsigned vcpu, unsigned entry, bool on)
{
	struct meaning meaning = meaning_of(entry);
	const struct store *store = &stores_script(board->g, vcpu)[entry];
	struct kvmas_ioeventfd_config config = {
		.struct_size = sizeof(config),
		.offset = offset_of(board, vcpu, entry),
		.size = meaning.event == EVENT_ANY ? 0 : stores_size(store->kind),
		.flags = meaning.event == EVENT_MATCH ? KVMAS_CHANNEL_DATAMATCH : 0,
		.datamatch = meaning.event == EVENT_MATCH ? MATCH : 0,
		.fd = board->fds[mover][vcpu][entry],
	};

	return on ? kvmas_region_add_ioeventfd(board->movers[mover], &config)
		  : kvmas_region_del_ioeventfd(board->movers[mover], &config);
}

static int set_events(struct board *board, unsigned mover, bool on)
{
	int err = 0;

	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned entry = 0; !err && entry < board->nentries; entry++) {
			if (board->fds[mover][v][entry] >= 0)
				err = set_event(board, mover, v, entry, on);
		}
	}
	return err;
}

static uint64_t size_of_mover(unsigned mover)
{
	return mover == NMOVERS - 1 ? PORTS : PAGE;
}

static int set_zone(struct board *board, unsigned mover, bool on)
{
	uint64_t size = size_of_mover(mover);

	return on ? kvmas_region_add_coalesced(board->movers[mover], 0, size, 0)
		  : kvmas_region_del_coalesced(board->movers[mover], 0, size);
}

/* What is to be changed: what a mover lacks, it mostly gets back soon. */
static uint32_t choose_change(struct board *board, const struct spot *spot, unsigned thread)
{
	if (chance(board, thread, 3)) {
		if (!spot->enabled)
			return 0;
		if (!spot->inserted)
			return 2;
		if (!spot->events || !spot->zone)
			return spot->events ? 4 : 3;
	}
	return chance(board, thread, 10);
}

static int change_mover(struct board *board, struct map *map, unsigned mover, unsigned thread)
{
	struct kvmas_region *region = board->movers[mover];
	struct spot *spot = &map->movers[mover];
	bool ports = mover == NMOVERS - 1;

	switch (choose_change(board, spot, thread)) {
	case 0:
	case 1:
		spot->enabled = !spot->enabled;
		return kvmas_region_set_enabled(region, spot->enabled);
	case 2:
		spot->inserted = !spot->inserted;
		if (!spot->inserted)
			return kvmas_region_del(region);
		return kvmas_region_add(container_of_mover(board, mover), region,
					address_of(spot->place), 2 + (int)mover);
	case 3:
		spot->events = !spot->events;
		return set_events(board, mover, spot->events);
	case 4:
		spot->zone = !spot->zone;
		return set_zone(board, mover, spot->zone);
	default:
		spot->place = (uint8_t)(ports ? NMEMORY + chance(board, thread, NPORTS)
					      : chance(board, thread, NMEMORY));
		return spot->inserted ? kvmas_region_set_offset(region, address_of(spot->place))
				      : 0;
	}
}

static int change_cover(struct board *board, struct spot *spot, struct kvmas_region *region,
			unsigned thread)
{
	if (spot->enabled || chance(board, thread, 2)) {
		spot->enabled = !spot->enabled;
		return kvmas_region_set_enabled(region, spot->enabled);
	}
	spot->place = (uint8_t)chance(board, thread, NMEMORY);
	return kvmas_region_set_offset(region, address_of(spot->place));
}

static int change_map(struct board *board, struct map *map, unsigned thread)
{
	uint32_t what = chance(board, thread, 12);

	if (what == 0)
		return change_cover(board, &map->cover, board->cover, thread);
	if (what == 1)
		return change_cover(board, &map->ram, board->ram, thread);
	if ((what == 2 || (map->split && what < 6)) && board->other) {
		map->split = !map->split;
		return kvmas_region_set_enabled(board->other, map->split);
	}
	return change_mover(board, map, chance(board, thread, NMOVERS), thread);
}

static void keep_error(struct board *board, int err)
{
	int none = 0;

	if (err)
		atomic_compare_exchange_strong(&board->error, &none, err);
}

void board_change(struct board *board, unsigned thread)
{
	struct kvmas *kvmas = board->g->f->kvmas;
	unsigned edits = 1 + (chance(board, thread, 4) == 0);
	int map, err = kvmas_begin(kvmas);

	if (err) {
		keep_error(board, err);
		return;
	}
	map = ledger_open_map(&board->ledger);
	if (map >= 0) {
		board->maps[map] = board->maps[map - 1];
		for (unsigned i = 0; !err && i < edits; i++)
			err = change_map(board, &board->maps[map], thread);
		board->changes++;
	}
	keep_error(board, err);
	keep_error(board, kvmas_commit(kvmas));
	if (map >= 0)
		ledger_close_map(&board->ledger, (unsigned)map);
}

/* ---- making it ---- */

static void add_step(struct board *board, struct step step, uint64_t address)
{
	bool ports = step.kind >= STORES_OUT_BYTE;

	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		unsigned entry =
			stores_add(board->g, v, (struct store){.kind = step.kind, .count = REPEAT});

		assert_true(entry == board->nentries && entry < LEDGER_ENTRIES);
		if (ports)
			board->entry_at_port[v][board->nports] = (uint8_t)entry;
	}
	board->nentries++;
	board->nports += ports;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		unsigned entry = board->nentries - 1U;

		stores_script(board->g, v)[entry].address =
			(uint32_t)(address + offset_of(board, v, entry));
	}
}

static void write_scripts(struct board *board)
{
	for (unsigned place = 0; place < NPLACES; place++) {
		const struct step *steps = is_port(place) ? port_steps : memory_steps;
		size_t nsteps = is_port(place) ? LENGTH(port_steps) : LENGTH(memory_steps);

		for (size_t i = 0; i < nsteps; i++)
			add_step(board, steps[i], address_of(place));
	}
	add_step(board, (struct step){.kind = STORES_LOAD}, (uint64_t)STATUS_PAGE * PAGE);
	add_step(board, (struct step){.kind = STORES_LONG}, (uint64_t)STATUS_PAGE * PAGE);
	add_step(board, (struct step){.kind = STORES_LONG}, (uint64_t)SWITCH_PAGE * PAGE);
	assert_true(board->nentries % 2);
}

static void make_fds(struct board *board, unsigned mover)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned entry = 0; entry < LEDGER_ENTRIES; entry++) {
			struct meaning meaning = meaning_of(entry);
			bool here = meaning.event != NO_EVENT &&
				    is_port(meaning.place) == (mover == NMOVERS - 1);

			board->fds[mover][v][entry] =
				here ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
		}
	}
}

static void put_mover(struct board *board, unsigned mover)
{
	struct spot *spot = &board->maps[0].movers[mover];

	*spot = (struct spot){.enabled = true, .inserted = true, .zone = true, .events = true};
	spot->place = (uint8_t)(mover == NMOVERS - 1 ? NMEMORY : mover);
	make_fds(board, mover);
	board->movers[mover] = make_desk(board, MOVER + mover, "mover", size_of_mover(mover), 0);
	must(set_zone(board, mover, true));
	must(set_events(board, mover, true));
	must(kvmas_region_add(container_of_mover(board, mover), board->movers[mover],
			      address_of(spot->place), 2 + (int)mover));
}

static void put_covers(struct board *board)
{
	struct guest *g = board->g;

	board->maps[0].cover = board->maps[0].ram = (struct spot){.inserted = true};
	board->cover = make_desk(board, COVER, "cover", PAGE, 0);
	board->ram = make_alias(g->f, "shown", g->memory, (uint64_t)SHOWN_PAGE * PAGE, PAGE);
	must(kvmas_region_set_enabled(board->cover, false));
	must(kvmas_region_set_enabled(board->ram, false));
	must(kvmas_region_add(g->root[0], board->cover, address_of(0), 10));
	must(kvmas_region_add(g->root[0], board->ram, address_of(0), 11));
	kvmas_region_unref(board->cover);
	if (g->nspaces > 1)
		board->other = guest_put_hole(g, 1, FIRST_PAGE + 1, 2);
}

int board_setup(void **state)
{
	*state = calloc(1, sizeof(struct board));
	return *state ? 0 : -1;
}

/* From any thread. */
static void count_line(void *data, enum kvmas_log_level level, const char *message)
{
	struct board *board = data;

	(void)level;
	(void)message;
	atomic_fetch_add(&board->lines, 1);
}

struct board *board_make(void **state, guest_meddle_fn *meddle)
{
	struct board *board = *state;
	struct guest *g = guest_new(
		state, (struct guest_config){.npages = RAM_PAGES,
					     .data = board,
					     .meddle = meddle,
					     .kvmas = {.log = count_line, .log_data = board}});

	board->decoy = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	board->ledger.g = g;
	board->ledger.outcome = outcome_of;
	board->ledger.data = board;
	board->ledger.signals = ((1U << NMOVERS) - 1) << SIGNAL;
	board->ledger.silent = board->ledger.signals | 1U << RAM;
	for (unsigned i = 0; i <= MAX_VCPUS; i++)
		board->seeds[i] = i * 7919 + 1;
	stores_init(g, STAGE_ROUNDS);
	write_scripts(board);
	board->ports = make_container(g->f, "ports", 0x10000);
	must(kvmas_begin(g->f->kvmas));
	put_desk(board, FLOOR, address_of(0), NMEMORY * PAGE, PAGE);
	put_desk(board, PORT_FLOOR, address_of(NMEMORY), NPORTS * PORTS, PORTS);
	put_desk(board, STATUS, (uint64_t)STATUS_PAGE * PAGE, PAGE, 0);
	put_desk(board, SWITCH, (uint64_t)SWITCH_PAGE * PAGE, PAGE, 0);
	put_covers(board);
	for (unsigned i = 0; i < NMOVERS; i++)
		put_mover(board, i);
	must(kvmas_commit(g->f->kvmas));
	board->port_space = make_space(g->f, "ports", board->ports);
	must(kvmas_kvm_set_pio_space(g->kvm, board->port_space));
	guest_expect_exits(g, FIRST_PAGE, END_PAGE - FIRST_PAGE, false);
	return board;
}

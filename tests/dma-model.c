/* SPDX-License-Identifier: MIT */
#include "dma-model.h"

#include "region.h"

uint64_t draw(struct model *m, uint64_t below)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (m->random * UINT64_C(0x2545f4914f6cdd1d) >> 33) % below;
}

void draw_bytes(struct model *m, unsigned char *bytes, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (unsigned char)draw(m, 256);
}

/* ---- the model ---- */

static void paint(struct model *m)
{
	bool done[NPLACES] = {false};

	memset(m->top, -1, sizeof(m->top));
	for (unsigned n = 0; n < NPLACES; n++) {
		int lowest = -1;

		for (int i = 0; i < NPLACES; i++) {
			if (!done[i] &&
			    (lowest < 0 || m->places[i].priority < m->places[lowest].priority))
				lowest = i;
		}
		done[lowest] = true;
		for (unsigned i = 0; m->places[lowest].enabled && i < m->places[lowest].size; i++) {
			if (m->places[lowest].offset + i < ADDRESSES)
				m->top[m->places[lowest].offset + i] = (signed char)lowest;
		}
	}
}

/* What an access to an address reaches. A device's word is not asked for here. */
int model_find(const struct model *m, uint64_t gpa, bool write, struct spot *ret)
{
	const struct place *place;
	unsigned at;

	*ret = (struct spot){-1, -1, 0};
	if (gpa >= ADDRESSES || m->top[gpa] < 0)
		return -ENXIO;
	place = &m->places[(int)m->top[gpa]];
	at = (unsigned)gpa - place->offset;
	if (place->kind == KVMAS_REGION_RESERVED)
		return -ENXIO;
	if (write && (place->readonly || place->kind == KVMAS_REGION_ROM))
		return -EROFS;
	if (place->block >= 0 && (place->device < 0 || (place->romd && !write)))
		*ret = (struct spot){place->block, -1, place->from + at};
	else
		*ret = (struct spot){-1, place->device, at};
	return 0;
}

/* The same, and whether a device refuses. */
int model_reach(const struct model *m, uint64_t gpa, bool write, struct spot *ret)
{
	int err = model_find(m, gpa, write, ret);

	if (!err && ret->device >= 0 && ret->at >= m->cards[ret->device].bad)
		return -ENODEV;
	return err;
}

unsigned char *byte_of(struct model *m, const struct spot *spot)
{
	return spot->block >= 0 ? &m->blocks[spot->block][spot->at]
				: &m->devices[spot->device][spot->at];
}

void mark_spot(struct model *m, const struct spot *spot)
{
	if (spot->block >= 0)
		m->dirty[spot->block] |= UINT64_C(1) << spot->at / page_size();
}

void write_byte(struct model *m, const struct spot *spot, unsigned char byte)
{
	*byte_of(m, spot) = byte;
	mark_spot(m, spot);
}

unsigned char *hva_of(const struct model *m, const struct spot *spot)
{
	return (unsigned char *)kvmas_ram_get_hva(m->rams[spot->block]) + spot->at;
}

void count_result(struct model *m, int result)
{
	m->results[result < 0 ? -result : 0]++;
}

void model_check(struct model *m)
{
	for (int i = 0; i < NBLOCKS; i++) {
		assert_memory_equal(kvmas_ram_get_hva(m->rams[i]), m->blocks[i], BLOCK);
		assert_int_equal(take_pages(m->client, m->rams[i]), m->dirty[i]);
		m->dirty[i] = 0;
	}
	for (int i = 0; i < NDEVICES; i++)
		assert_memory_equal(m->cards[i].bytes, m->devices[i], DEVICE);
}

/* ---- edits ---- */

static void move(struct model *m, struct place *place)
{
	unsigned unit = 1u << (draw(m, 2) ? draw(m, 4) : 12);

	place->offset = (unsigned)draw(m, ADDRESSES) / unit * unit;
	must(kvmas_region_set_offset(place->region, place->offset));
}

static void change(struct model *m, struct place *place)
{
	switch (draw(m, 6)) {
	case 0:
		place->size = (unsigned)draw(m, place->most) + 1;
		must(kvmas_region_set_size(place->region, place->size));
		break;
	case 1:
		place->readonly = draw(m, 3) == 0;
		must(kvmas_region_set_readonly(place->region, place->readonly));
		break;
	case 2:
		place->enabled = draw(m, 8);
		must(kvmas_region_set_enabled(place->region, place->enabled));
		break;
	case 3:
		place->priority = ++m->highest;
		must(kvmas_region_set_priority(place->region, place->priority));
		break;
	case 4:
		if (place->kind == KVMAS_REGION_ROMD) {
			place->romd = draw(m, 2);
			must(kvmas_region_set_romd(place->region, place->romd));
		}
		break;
	default:
		move(m, place);
	}
}

void model_edit(struct model *m)
{
	struct card *card = &m->cards[draw(m, NDEVICES)];

	must(kvmas_begin(m->f->kvmas));
	for (uint64_t n = draw(m, 3) + 1; n > 0; n--)
		change(m, &m->places[draw(m, NPLACES)]);
	must(kvmas_commit(m->f->kvmas));
	paint(m);
	card->bad = draw(m, 2) ? DEVICE : draw(m, DEVICE);
	card->refusal = -ENODEV;
}

static int tell(struct card *card, const struct kvmas_access *access)
{
	(void)card;
	assert_int_equal(access->size, 1);
	return 0;
}

static void make_card(struct model *m, struct place *place, const char *name)
{
	struct card *card = &m->cards[place->device];
	struct kvmas_region_config config = {
		.kind = place->kind, .name = name, .size = place->most};

	if (place->block >= 0) {
		config.ram = m->rams[place->block];
		config.ram_offset = place->from;
	}
	card_init_bytewise(card, m->f, config);
	card->on_access = tell;
	card->bad = DEVICE;
	place->region = card->region;
}

static void make_place(struct model *m, int index, struct place place)
{
	static const char *const names[NPLACES] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};
	struct kvmas_region_config config = {
		.kind = place.kind, .name = names[index], .size = place.most};

	place.enabled = true;
	place.romd = place.kind == KVMAS_REGION_ROMD;
	place.size = place.most;
	place.priority = ++m->highest;
	if (place.device >= 0) {
		make_card(m, &place, names[index]);
	} else {
		if (place.block >= 0) {
			config.ram = m->rams[place.block];
			config.ram_offset = place.from;
		}
		place.region = make_region(m->f, config);
	}
	m->places[index] = place;
}

static void make_places(struct model *m)
{
	const struct place places[NPLACES] = {
		{.kind = KVMAS_REGION_RAM, .block = 0, .most = 0x2000, .device = -1},
		{.kind = KVMAS_REGION_RAM,
		 .block = 0,
		 .most = 0x1000,
		 .device = -1,
		 .from = 0x1000},
		{.kind = KVMAS_REGION_RAM, .block = 1, .most = 0x2000, .device = -1},
		{.kind = KVMAS_REGION_RAM, .block = 2, .most = 0x1000, .device = -1},
		{.kind = KVMAS_REGION_ROM,
		 .block = 2,
		 .most = 0x1000,
		 .device = -1,
		 .from = 0x1000},
		{.kind = KVMAS_REGION_ROMD, .block = 3, .most = DEVICE, .device = 0},
		{.kind = KVMAS_REGION_MMIO, .block = -1, .most = DEVICE, .device = 1},
		{.kind = KVMAS_REGION_MMIO, .block = -1, .most = DEVICE, .device = 2},
		{.kind = KVMAS_REGION_RESERVED, .block = -1, .most = 0x400, .device = -1},
	};
	struct kvmas_region *root = make_container(m->f, "root", ADDRESSES);

	for (int i = 0; i < NPLACES; i++) {
		struct place *place = &m->places[i];

		make_place(m, i, places[i]);
		add(root, place->region, 0, place->priority);
		move(m, place);
	}
	m->dma.space = make_space(m->f, "s", root);
	paint(m);
}

void model_init(struct model *m, uint64_t seed)
{
	*m = (struct model){.seed = seed, .random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15)};
	m->bounce = (unsigned)draw(m, draw(m, 4) ? 0x80 : 8) + 1;
	m->f = fixture_new((struct kvmas_config){.max_bounce = m->bounce});
	m->dma.reader = m->f->reader;
	for (int i = 0; i < NBLOCKS; i++) {
		m->rams[i] = make_block(m->f, "block", BLOCK / page_size());
		draw_bytes(m, m->blocks[i], BLOCK);
		memcpy(kvmas_ram_get_hva(m->rams[i]), m->blocks[i], BLOCK);
	}
	make_places(m);
	must(kvmas_client_new(m->f->kvmas, "client", &m->client));
}

void model_fini(struct model *m)
{
	kvmas_client_unref(m->client);
	for (int i = 0; i < NBLOCKS; i++)
		kvmas_ram_unref(m->rams[i]);
	for (int i = 0; i < NDEVICES; i++)
		card_fini(&m->cards[i]);
	fixture_free(m->f);
}

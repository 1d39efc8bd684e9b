/* SPDX-License-Identifier: MIT */
#include "dma-fixture.h"

#include <stdlib.h>

#include "region.h"

/* Little-endian, whatever the host. */
static uint64_t number(const unsigned char *bytes, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)bytes[i] << 8 * i;
	return value;
}

static int enter(struct card *card, const struct kvmas_access *access)
{
	card->seen = *access;
	if (card->on_access) {
		int err = card->on_access(card, access);

		if (err)
			return err;
	}
	return access->offset + access->size > card->bad ? card->refusal : 0;
}

static int read_card(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct card *card = opaque;
	int err = enter(card, access);

	card->reads++;
	if (!err)
		*value = number(card->bytes + access->offset, access->size);
	return err;
}

static int write_card(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct card *card = opaque;
	int err = enter(card, access);

	card->writes++;
	for (unsigned i = 0; !err && i < access->size; i++)
		card->bytes[access->offset + i] = (unsigned char)(value >> 8 * i);
	return err;
}

static void init(struct card *card, struct fixture *f, struct kvmas_region_config config,
		 const struct kvmas_access_rules rules[2])
{
	const struct kvmas_ops ops = {.struct_size = sizeof(ops),
				      .read = read_card,
				      .write = write_card,
				      .valid = rules[0],
				      .impl = rules[1]};

	*card = (struct card){.bytes = calloc(1, config.size), .bad = UINT64_MAX};
	assert_non_null(card->bytes);
	config.struct_size = sizeof(config);
	config.ops = &ops;
	config.opaque = card;
	must(kvmas_region_new(f->kvmas, &config, &card->region));
}

void card_init(struct card *card, struct fixture *f, struct kvmas_region_config config,
	       struct kvmas_access_rules valid)
{
	init(card, f, config, (struct kvmas_access_rules[]){valid, {.unaligned = true}});
}

void card_init_bytewise(struct card *card, struct fixture *f, struct kvmas_region_config config)
{
	init(card, f, config,
	     (struct kvmas_access_rules[]){{.unaligned = true}, {.min = 1, .max = 1}});
}

void card_fini(struct card *card)
{
	kvmas_region_unref(card->region);
	free(card->bytes);
}

struct kvmas_region *make_window(struct fixture *f, const char *name, struct kvmas_ram *ram,
				 uint64_t ram_offset, uint64_t size)
{
	return make_region(f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							   .name = name,
							   .size = size,
							   .ram = ram,
							   .ram_offset = ram_offset});
}

unsigned char *memory_of(const struct kvmas_region *region)
{
	return region->ram->hva + region->ram_offset;
}

static struct kvmas_region *make_on_page(struct fixture *f, const char *name, void *page)
{
	struct kvmas_region *region;
	struct kvmas_ram *ram;

	must(kvmas_ram_new(f->kvmas,
			   KVMAS_CONFIG(ram, .name = name, .size = 0x1000,
					.source = KVMAS_RAM_CALLER, .hva = page),
			   &ram));
	region = make_window(f, name, ram, 0, 0x1000);
	kvmas_ram_unref(ram);
	return region;
}

static void make_memory(struct guest *g)
{
	struct fixture *f = g->f;
	struct kvmas_ram *two = make_block(f, "two", 2);
	unsigned char *pages;

	g->a = make_ram(f, "a", 0x2000);
	g->rom = make_rom(f, "rom", 0x1000);
	g->b = make_ram(f, "b", 0x1000);
	g->low = make_window(f, "low", two, 0, 0x1000);
	g->high = make_window(f, "high", two, 0x1000, 0x1000);
	kvmas_ram_unref(two);
	pages = memory_of(make_ram(f, "pages", 0x2000));
	g->left = make_on_page(f, "left", pages);
	g->right = make_on_page(f, "right", pages + 0x1000);
	g->top = make_ram(f, "top", 0x1000);
}

static void make_cards(struct guest *g)
{
	struct kvmas_region_config config = {.kind = KVMAS_REGION_MMIO, .size = 0x100};
	struct kvmas_ram *block = make_block(g->f, "romd", 1);

	config.name = "dev";
	card_init(&g->dev, g->f, config, (struct kvmas_access_rules){.unaligned = true});
	config.name = "strict";
	card_init(&g->strict, g->f, config, (struct kvmas_access_rules){4, 4, false});
	config = (struct kvmas_region_config){.kind = KVMAS_REGION_ROMD, .size = 0x1000};
	config.name = "romd";
	config.ram = block;
	card_init(&g->romd, g->f, config, (struct kvmas_access_rules){0});
	kvmas_ram_unref(block);
}

static void place(struct guest *g)
{
	struct fixture *f = g->f;
	struct kvmas_region *again = make_alias(f, "again", g->a, 0, 0x1000);
	struct kvmas_region *fixed = make_alias(f, "fixed", g->dev.region, 0, 0x100);
	struct kvmas_region *nothing = make_region(
		f, (struct kvmas_region_config){
			   .kind = KVMAS_REGION_RESERVED, .name = "nothing", .size = 0x1000});

	must(kvmas_region_set_readonly(again, true));
	must(kvmas_region_set_readonly(fixed, true));
	add(g->root, g->a, 0, 0);
	add(g->root, g->rom, 0x2000, 0);
	add(g->root, g->dev.region, 0x3000, 0);
	add(g->root, g->b, 0x4000, 0);
	add(g->root, g->romd.region, 0x5000, 0);
	add(g->root, again, 0x6000, 0);
	add(g->root, nothing, 0x7000, 0);
	add(g->root, g->low, 0x8000, 0);
	add(g->root, g->high, 0x9000, 0);
	add(g->root, g->left, 0xa000, 0);
	add(g->root, g->right, 0xb000, 0);
	add(g->root, g->strict.region, 0xc000, 0);
	add(g->root, fixed, 0xc100, 0);
	add(g->root, g->top, TOP_PAGE, 0);
}

void guest_init(struct guest *guest, struct fixture *f)
{
	*guest = (struct guest){.f = f, .root = make_container(f, "root", KVMAS_SIZE_MAX)};
	make_memory(guest);
	make_cards(guest);
	place(guest);
	guest->space = make_space(f, "s", guest->root);
	must(kvmas_client_new(f->kvmas, "client", &guest->client));
	guest->dma = (struct kvmas_dma){.reader = f->reader, .space = guest->space};
	for (uint64_t i = 0; i < 0x2000; i++)
		memory_of(guest->a)[i] = pattern(i);
	for (uint64_t i = 0; i < 0x1000; i++)
		memory_of(guest->rom)[i] = pattern(0x2000 + i);
	for (uint64_t i = 0; i < 0x100; i++)
		guest->dev.bytes[i] = pattern(0x3000 + i);
	memset(memory_of(guest->romd.region), 'm', 0x1000);
	f->with = guest;
}

void guest_fini(struct guest *guest)
{
	kvmas_client_unref(guest->client);
	card_fini(&guest->dev);
	card_fini(&guest->romd);
	card_fini(&guest->strict);
}

uint64_t take_pages(struct kvmas_client *client, struct kvmas_ram *ram)
{
	uint64_t npages = kvmas_ram_get_max_size(ram) / page_size();
	uint64_t word = 0;

	assert_true(npages <= 64);
	assert_true(kvmas_client_take(client, ram, 0, npages, &word) >= 0);
	return word;
}

uint64_t take_dirty(const struct guest *guest, const struct kvmas_region *region)
{
	return take_pages(guest->client, region->ram);
}

void assert_clean(const struct guest *guest, const struct kvmas_region *except)
{
	const struct kvmas_region *regions[] = {guest->a,   guest->rom,        guest->b,
						guest->low, guest->left,       guest->right,
						guest->top, guest->romd.region};

	for (unsigned i = 0; i < LENGTH(regions); i++) {
		if (regions[i] != except)
			assert_int_equal(take_dirty(guest, regions[i]), 0);
	}
}

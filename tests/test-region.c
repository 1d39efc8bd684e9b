/* SPDX-License-Identifier: MIT */
/* Regions: how they are made and refused, what they hold, and how long. Edits are in test-edit.c.
 */
#include "fixture.h"

#include <stdio.h>
#include <sys/mman.h>

#include "region.h"

static const struct kvmas_ops some_ops = {.struct_size = sizeof(some_ops)};

/* What configs may name. */
struct stock {
	struct kvmas_ram *ram;      /* of four pages */
	struct kvmas_ram *readonly; /* of one */
	struct kvmas_region *target;
};

static void set_up_stock(struct fixture *f, struct stock *stock)
{
	void *hva = mmap(NULL, page_size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(hva, MAP_FAILED);
	stock->ram = make_block(f, "ram", 4);
	stock->target = make_container(f, "target", 0x1000);
	must(kvmas_ram_new(f->kvmas,
			   KVMAS_CONFIG(ram, .name = "readonly", .size = 1, .hva = hva,
					.source = KVMAS_RAM_CALLER, .flags = KVMAS_RAM_READONLY),
			   &stock->readonly));
}

static void drop_stock(struct stock *stock)
{
	void *hva = kvmas_ram_get_hva(stock->readonly);

	kvmas_ram_unref(stock->ram);
	kvmas_ram_unref(stock->readonly);
	munmap(hva, page_size());
}

static void assert_result(struct fixture *f, struct kvmas_region_config config, int expected,
			  size_t index)
{
	struct kvmas_region *region = NULL;
	size_t bytes = f->heap.bytes;
	int result;

	config.struct_size = sizeof(config);
	result = kvmas_region_new(f->kvmas, &config, &region);
	if (result != expected)
		print_error("config %zu\n", index);
	assert_int_equal(result, expected);
	kvmas_region_unref(region);
	must(kvmas_reclaim(f->kvmas));
	assert_int_equal(f->heap.bytes, bytes);
}

#define KIND(noun) .name = "r", .size = 1, .kind = KVMAS_REGION_##noun

static void config_that_makes_no_sense_returns_einval(void **state)
{
	struct fixture *f = *state;
	uint64_t page = page_size();
	struct stock s;

	set_up_stock(f, &s);
	const struct kvmas_region_config configs[] = {
		{.kind = KVMAS_REGION_CONTAINER, .size = 1},
		{.kind = KVMAS_REGION_CONTAINER, .name = "r"},
		{.kind = KVMAS_REGION_RESERVED + 1, .name = "r", .size = 1},
		{KIND(RAM)},
		{KIND(ROM)},
		{KIND(ALIAS)},
		{KIND(CONTAINER), .ram = s.ram},
		{KIND(MMIO), .ram = s.ram},
		{KIND(ALIAS), .ram = s.ram, .target = s.target},
		{KIND(CONTAINER), .target = s.target},
		{KIND(MMIO), .target = s.target},
		{KIND(RAM), .ram = s.ram, .target = s.target},
		{KIND(CONTAINER), .ops = &some_ops},
		{KIND(RAM), .ram = s.ram, .ops = &some_ops},
		{KIND(ALIAS), .target = s.target, .ops = &some_ops},
		{KIND(RAM), .ram = s.ram, .ram_offset = 1},
		{KIND(RAM), .ram = s.ram, .ram_offset = page / 2},
		{KIND(RAM), .ram = s.ram, .ram_offset = 4 * page},
		{KIND(RAM), .ram = s.ram, .ram_offset = 5 * page},
		{KIND(RAM), .ram = s.ram, .ram_offset = UINT64_MAX - page + 1},
		{.kind = KVMAS_REGION_RAM, .name = "r", .size = 4 * page + 1, .ram = s.ram},
		{.kind = KVMAS_REGION_ROM,
		 .name = "r",
		 .size = 2 * page + 1,
		 .ram = s.ram,
		 .ram_offset = 2 * page},
		{.kind = KVMAS_REGION_RAM, .name = "r", .size = KVMAS_SIZE_MAX, .ram = s.ram},
		{KIND(RAM), .ram = s.readonly},
	};
	for (size_t i = 0; i < LENGTH(configs); i++)
		assert_result(f, configs[i], -EINVAL, i);
	drop_stock(&s);
}

static void offset_that_the_kind_cannot_use_returns_einval(void **state)
{
	struct fixture *f = *state;
	struct stock s;

	set_up_stock(f, &s);
	const struct kvmas_region_config configs[] = {
		{KIND(CONTAINER), .ram_offset = page_size()},
		{KIND(MMIO), .ram_offset = page_size()},
		{KIND(ALIAS), .target = s.target, .ram_offset = page_size()},
		{KIND(CONTAINER), .target_offset = 1},
		{KIND(MMIO), .target_offset = 1},
		{KIND(RAM), .ram = s.ram, .target_offset = 1},
	};
	for (size_t i = 0; i < LENGTH(configs); i++)
		assert_result(f, configs[i], -EINVAL, i);
	drop_stock(&s);
}

static void config_at_the_limits_works(void **state)
{
	struct fixture *f = *state;
	uint64_t page = page_size();
	struct stock s;

	set_up_stock(f, &s);
	const struct kvmas_region_config configs[] = {
		{KIND(CONTAINER)},
		{KIND(MMIO)},
		{KIND(MMIO), .ops = &some_ops},
		{KIND(ALIAS), .target = s.target, .target_offset = UINT64_MAX},
		{KIND(ROM), .ram = s.readonly},
		{.kind = KVMAS_REGION_RAM, .name = "", .size = 4 * page, .ram = s.ram},
		{.kind = KVMAS_REGION_RAM,
		 .name = "r",
		 .size = 2 * page,
		 .ram = s.ram,
		 .ram_offset = 2 * page},
		{.kind = KVMAS_REGION_CONTAINER, .name = "r", .size = UINT64_MAX - 1},
		{.kind = KVMAS_REGION_MMIO, .name = "r", .size = KVMAS_SIZE_MAX},
	};
	for (size_t i = 0; i < LENGTH(configs); i++)
		assert_result(f, configs[i], 0, i);
	drop_stock(&s);
}

static void regions_past_the_cap_return_e2big(void **state)
{
	struct fixture *f = fixture_new((struct kvmas_config){.max_regions = 2});
	struct kvmas_region *first = make_container(f, "first", 1);

	(void)state;
	make_container(f, "second", 1);
	assert_result(f, (struct kvmas_region_config){KIND(CONTAINER)}, -E2BIG, 0);
	drop_region(f, first);
	must(kvmas_reclaim(f->kvmas));
	assert_result(f, (struct kvmas_region_config){KIND(CONTAINER)}, 0, 0);
	fixture_free(f);
}

static void target_of_another_kvmas_returns_exdev(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	struct kvmas_region *target = make_container(other, "target", 1);

	assert_result(f, (struct kvmas_region_config){KIND(ALIAS), .target = target}, -EXDEV, 0);
	fixture_free(other);
}

/* ---- ops, which have a struct_size too ---- */

struct foreign_ops {
	struct kvmas_ops ops;
	unsigned long tail;
};

static int new_with_ops(struct fixture *f, const struct kvmas_ops *ops)
{
	struct kvmas_region *region;
	int err = kvmas_region_new(
		f->kvmas,
		KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "r", .size = 1, .ops = ops),
		&region);

	if (!err)
		kvmas_region_unref(region);
	return err;
}

static void ops_of_size_0_return_einval(void **state)
{
	assert_int_equal(new_with_ops(*state, &(struct kvmas_ops){0}), -EINVAL);
}

static void ops_of_known_prefix_count_the_rest_as_null(void **state)
{
	struct kvmas_ops smaller = {.struct_size = offsetof(struct kvmas_ops, read)};

	memset(&smaller.read, 0xff, sizeof(smaller) - offsetof(struct kvmas_ops, read));
	assert_int_equal(new_with_ops(*state, &smaller), 0);
}

static void larger_ops_with_zeros_work(void **state)
{
	struct foreign_ops larger = {.ops.struct_size = sizeof(larger)};

	assert_int_equal(new_with_ops(*state, &larger.ops), 0);
}

static void larger_ops_with_unknown_callback_return_eopnotsupp(void **state)
{
	struct foreign_ops larger = {.ops.struct_size = sizeof(larger), .tail = 1};

	assert_int_equal(new_with_ops(*state, &larger.ops), -EOPNOTSUPP);
}

/* ---- getters ---- */

static void getters_tell_what_was_configured(void **state)
{
	struct fixture *f = *state;
	char name[] = "serial";
	struct kvmas_region *region;

	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = name,
					   .size = 8, .opaque = f),
			      &region));
	name[0] = 'X';
	assert_string_equal(kvmas_region_get_name(region), "serial");
	assert_int_equal(kvmas_region_get_kind(region), KVMAS_REGION_MMIO);
	assert_ptr_equal(kvmas_region_get_opaque(region), f);
	kvmas_region_unref(region);
}

/* ---- allocations ---- */

static int try_new_ram(struct fixture *f)
{
	struct kvmas_region *region;
	int err = kvmas_region_new(f->kvmas,
				   KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "r",
						.size = 1, .ram = f->with),
				   &region);

	if (!err)
		kvmas_region_unref(region);
	return err;
}

static void every_allocation_fails_cleanly(void **state)
{
	struct fixture *f = *state;

	f->with = make_block(f, "b", 1);
	assert_int_equal(fail_each_allocation(f, try_new_ram), 2);
	kvmas_ram_unref(f->with);
}

/* With two clients a RAM region needs two bitmaps: the first must not stay behind. */
static void every_allocation_of_bitmaps_fails_cleanly(void **state)
{
	struct fixture *f = *state;
	struct kvmas_client *clients[2];

	f->with = make_block(f, "b", 1);
	must(kvmas_client_new(f->kvmas, "c", &clients[0]));
	must(kvmas_client_new(f->kvmas, "d", &clients[1]));
	assert_int_equal(fail_each_allocation(f, try_new_ram), 4);
	kvmas_client_unref(clients[0]);
	kvmas_client_unref(clients[1]);
	kvmas_ram_unref(f->with);
}

/* ---- who holds whom ---- */

static void container_holds_its_children(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", 0x1000);
	struct kvmas_region *a = make_mmio(f, "a", 1);

	add(box, a, 0, 0);
	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	must(kvmas_region_del(a));
	assert_notes(f, "destroy a\n");
}

static void container_that_ends_drops_its_children(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *box = make_container(f, "box", 0x1000);
	struct kvmas_region *a = make_mmio(f, "a", 1);
	struct kvmas_region *b = make_mmio(f, "b", 1);

	add(box, a, 0, 0);
	add(box, b, 1, 0);
	drop_region(f, a);
	drop_region(f, box);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy box\ndestroy a\n");
	add(make_container(f, "other", 0x1000), b, 0, 0); /* it is in no container any more */
}

static void alias_holds_its_target(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 1);
	struct kvmas_region *alias = make_alias(f, "alias", a, 0, 1);

	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	must(kvmas_region_set_alias(alias, make_mmio(f, "b", 1), 0));
	assert_notes(f, "destroy a\n");
}

static void long_chain_of_aliases_ends_at_once(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *region = make_mmio(f, "a", 1);

	for (int i = 0; i < 5000; i++) {
		struct kvmas_region *alias = make_alias(f, "alias", region, 0, 1);

		drop_region(f, region);
		region = alias;
	}
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	drop_region(f, region);
	must(kvmas_reclaim(f->kvmas));
	assert_non_null(strstr(f->notes, "destroy a\n"));
}

static void region_without_hook_ends_too(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *region;

	must(kvmas_region_new(f->kvmas, KVMAS_CONFIG(region, .name = "r", .size = 1), &region));
	kvmas_region_unref(region);
}

/* ---- reaching ---- */

static void region_reaches_what_it_shows(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x1000);
	struct kvmas_region *box = make_container(f, "box", 0x1000);
	struct kvmas_region *a = make_mmio(f, "a", 1);
	struct kvmas_region *b = make_mmio(f, "b", 1);
	struct kvmas_region *alias = make_alias(f, "alias", box, 0, 1);

	add(root, alias, 0, 0);
	add(box, a, 0, 0);
	assert_true(kas_region_reaches(root, root));
	assert_true(kas_region_reaches(root, a));
	assert_true(kas_region_reaches(alias, box));
	assert_false(kas_region_reaches(a, box));
	assert_false(kas_region_reaches(box, root));
	assert_false(kas_region_reaches(root, b));
}

/* 2^60 paths, but 121 regions: each is looked at once. */
static void reaching_costs_regions_not_paths(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *bottom = make_container(f, "bottom", 1);
	struct kvmas_region *region = bottom;

	for (int i = 0; i < 60; i++) {
		struct kvmas_region *box = make_container(f, "box", 1);

		add(box, make_alias(f, "once", region, 0, 1), 0, 0);
		add(box, make_alias(f, "twice", region, 0, 1), 0, 0);
		region = box;
	}
	assert_true(kas_region_reaches(region, bottom));
	assert_false(kas_region_reaches(region, make_mmio(f, "a", 1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(config_that_makes_no_sense_returns_einval),
		TEST(offset_that_the_kind_cannot_use_returns_einval),
		TEST(config_at_the_limits_works),
		cmocka_unit_test(regions_past_the_cap_return_e2big),
		TEST(target_of_another_kvmas_returns_exdev),
		TEST(ops_of_size_0_return_einval),
		TEST(ops_of_known_prefix_count_the_rest_as_null),
		TEST(larger_ops_with_zeros_work),
		TEST(larger_ops_with_unknown_callback_return_eopnotsupp),
		TEST(getters_tell_what_was_configured),
		TEST(every_allocation_fails_cleanly),
		TEST(every_allocation_of_bitmaps_fails_cleanly),
		TEST(container_holds_its_children),
		TEST(container_that_ends_drops_its_children),
		TEST(alias_holds_its_target),
		TEST(long_chain_of_aliases_ends_at_once),
		TEST(region_without_hook_ends_too),
		TEST(region_reaches_what_it_shows),
		TEST(reaching_costs_regions_not_paths),
	};

	return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* The life of a kvmas and of what is made from it: configs, and ends in every order. */
#include "fixture.h"

#include <stdio.h>

#include "object.h"

/* ---- kvmas_new ---- */

static void version_is_that_of_the_header(void **state)
{
	char version[32];

	(void)state;
	snprintf(version, sizeof(version), "%d.%d.%d", KVMAS_VERSION_MAJOR, KVMAS_VERSION_MINOR,
		 KVMAS_VERSION_PATCH);
	assert_string_equal(kvmas_version(), version);
}

static void new_without_config_has_all_defaults(void **state)
{
	struct kvmas *kvmas;
	struct kvmas_region *region;

	(void)state;
	must(kvmas_new(NULL, &kvmas));
	must(kvmas_region_new(kvmas, KVMAS_CONFIG(region, .name = "a", .size = 1), &region));
	kvmas_region_unref(region);
	kvmas_unref(kvmas);
}

static int new_on_heap(struct heap *heap, struct kvmas **ret)
{
	struct kvmas_config config = {
		.struct_size = sizeof(config),
		.realloc = heap_realloc,
		.realloc_data = heap,
	};

	pthread_mutex_init(&heap->lock, NULL);
	return kvmas_new(&config, ret);
}

static void new_without_memory_returns_enomem(void **state)
{
	struct heap heap = {.fail_in = 1};
	struct kvmas *kvmas = NULL;

	(void)state;
	assert_int_equal(new_on_heap(&heap, &kvmas), -ENOMEM);
	assert_null(kvmas);
	assert_true(heap_is_empty(&heap));
}

static void unref_of_nothing_is_ignored(void **state)
{
	(void)state;
	kvmas_unref(NULL);
	kvmas_ram_unref(NULL);
	kvmas_region_unref(NULL);
	kvmas_space_unref(NULL);
	kvmas_reader_del(NULL);
	kvmas_client_unref(NULL);
}

/* ---- struct_size ---- */

/* A config as a caller of another version has it. */
struct foreign {
	union {
		size_t struct_size;
		struct kvmas_config kvmas;
		struct kvmas_ram_config ram;
		struct kvmas_region_config region;
		struct kvmas_listener_config listener;
	};
	unsigned char tail[64];
};

/* Make an object by a config, and end it. */
static int try_kvmas(struct fixture *f, const void *config)
{
	struct kvmas *kvmas;
	int err = kvmas_new(config, &kvmas);

	(void)f;
	if (!err)
		kvmas_unref(kvmas);
	return err;
}

static int try_ram(struct fixture *f, const void *config)
{
	struct kvmas_ram *ram;
	int err = kvmas_ram_new(f->kvmas, config, &ram);

	if (!err)
		kvmas_ram_unref(ram);
	return err;
}

static int try_region(struct fixture *f, const void *config)
{
	struct kvmas_region *region;
	int err = kvmas_region_new(f->kvmas, config, &region);

	if (!err)
		kvmas_region_unref(region);
	return err;
}

static int try_listener(struct fixture *f, const void *config)
{
	struct kvmas_listener *listener;
	int err = kvmas_listener_add(f->spaces[0], config, &listener);

	if (!err)
		must(kvmas_listener_del(listener));
	return err;
}

static const struct maker {
	const char *name;
	int (*make)(struct fixture *f, const void *config);
	size_t size;
	size_t prefix; /* enough for what the config below sets */
	struct foreign config;
} makers[] = {
	{"kvmas", try_kvmas, sizeof(struct kvmas_config), sizeof(size_t), {.kvmas = {0}}},
	{"ram",
	 try_ram,
	 sizeof(struct kvmas_ram_config),
	 offsetof(struct kvmas_ram_config, source),
	 {.ram = {.name = "a", .size = 1}}},
	{"region",
	 try_region,
	 sizeof(struct kvmas_region_config),
	 offsetof(struct kvmas_region_config, ram),
	 {.region = {.name = "a", .size = 1}}},
	{"listener",
	 try_listener,
	 sizeof(struct kvmas_listener_config),
	 offsetof(struct kvmas_listener_config, begin),
	 {.listener = {.priority = 1}}},
};

/* Call each maker with its config changed, and expect a result. */
static void each_maker_returns(struct fixture *f,
			       void (*change)(const struct maker *maker, struct foreign *config),
			       int expected)
{
	make_space(f, "s", make_container(f, "root", 0x1000));
	for (size_t i = 0; i < LENGTH(makers); i++) {
		struct foreign config = makers[i].config;
		int result;

		config.struct_size = makers[i].size;
		change(&makers[i], &config);
		result = makers[i].make(f, &config);
		if (result != expected)
			print_error("config: %s\n", makers[i].name);
		assert_int_equal(result, expected);
	}
}

static void set_size_zero(const struct maker *maker, struct foreign *config)
{
	(void)maker;
	config->struct_size = 0;
}

static void config_of_size_0_returns_einval(void **state)
{
	each_maker_returns(*state, set_size_zero, -EINVAL);
}

static void poison_past_prefix(const struct maker *maker, struct foreign *config)
{
	config->struct_size = maker->prefix;
	memset((unsigned char *)config + maker->prefix, 0xff, maker->size - maker->prefix);
}

static void config_of_known_prefix_counts_the_rest_as_0(void **state)
{
	each_maker_returns(*state, poison_past_prefix, 0);
}

static void grow_by_zeros(const struct maker *maker, struct foreign *config)
{
	config->struct_size = maker->size + 16;
	memset((unsigned char *)config + maker->size, 0, 16);
}

static void larger_config_with_zeros_works(void **state)
{
	each_maker_returns(*state, grow_by_zeros, 0);
}

static void grow_by_a_one(const struct maker *maker, struct foreign *config)
{
	grow_by_zeros(maker, config);
	((unsigned char *)config)[maker->size + 15] = 1;
}

static void larger_config_with_unknown_member_returns_eopnotsupp(void **state)
{
	each_maker_returns(*state, grow_by_a_one, -EOPNOTSUPP);
}

/* ---- ends ---- */

static void object_ends_in_the_next_reclaim(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 1);

	drop_region(f, a);
	assert_notes(f, "");
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\n");
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
}

static void object_ends_in_the_next_commit(void **state)
{
	struct fixture *f = *state;

	drop_region(f, make_mmio(f, "a", 1));
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void second_reference_keeps_a_region(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 1);

	assert_ptr_equal(kvmas_region_ref(a), a);
	drop_region(f, a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "");
	kvmas_region_unref(a);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void reclaim_inside_transaction_returns_ebusy(void **state)
{
	struct fixture *f = *state;

	drop_region(f, make_mmio(f, "a", 1));
	must(kvmas_begin(f->kvmas));
	assert_int_equal(kvmas_reclaim(f->kvmas), -EBUSY);
	assert_notes(f, "");
	must(kvmas_abort(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void second_handle_keeps_objects_undestroyed(void **state)
{
	struct fixture *f = *state;
	struct kvmas *kvmas = kvmas_ref(f->kvmas);

	kvmas_unref(kvmas);
	drop_region(f, make_mmio(f, "a", 1));
	assert_notes(f, "");
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy a\n");
}

static void last_handle_ends_what_nobody_holds(void **state)
{
	struct fixture *f = *state;

	drop_region(f, make_mmio(f, "a", 1));
	close_kvmas(f);
	assert_notes(f, "destroy a\n");
}

static void object_ends_at_once_after_the_last_handle(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 1);

	close_kvmas(f);
	assert_notes(f, "");
	drop_region(f, a);
	assert_notes(f, "destroy a\n");
}

/* Each bit of the order says whether one thing goes before or after the rest. */
static void handle_dropped_before_other_objects_frees_everything(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", root);
	struct kvmas_ram *ram = make_block(f, "b", 1);
	struct kvmas_client *client;
	const struct kvmas_view *view;

	add(root, a, 0, 0);
	make_listener(f, space, "x", 0);
	must(kvmas_client_new(f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, a, space));
	view = kvmas_view_acquire(f->reader, space);
	close_kvmas(f);
	drop_region(f, root);
	drop_region(f, a);
	drop_space(f, space);
	kvmas_client_unref(client);
	kvmas_view_release(f->reader, view);
	kvmas_ram_unref(ram);
}

/* A release runs no hooks, not even when nobody else would. */
static void reader_that_held_the_last_view_ends_the_rest(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_ram(f, "a", 0x1000);
	struct kvmas_space *space = make_space(f, "s", a);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);

	close_kvmas(f);
	drop_space(f, space);
	drop_region(f, a);
	assert_notes(f, "");
	kvmas_view_release(f->reader, view);
	assert_notes(f, "");
	kvmas_reader_del(f->reader);
	f->reader = NULL;
	assert_notes(f, "destroy a\n");
}

static void handle_dropped_inside_transaction_is_finished_by_its_commit(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *a = make_mmio(f, "a", 1);
	struct kvmas *kvmas = f->kvmas;

	must(kvmas_begin(kvmas));
	close_kvmas(f);
	drop_region(f, a);
	assert_notes(f, "");
	must(kvmas_commit(kvmas));
	assert_notes(f, "destroy a\n");
}

static void last_holder_dropped_inside_transaction_is_freed_by_its_commit(void **state)
{
	struct heap heap = {0};
	struct kvmas *kvmas;
	struct kvmas_region *region;

	(void)state;
	must(new_on_heap(&heap, &kvmas));
	must(kvmas_region_new(kvmas, KVMAS_CONFIG(region, .name = "a", .size = 1), &region));
	must(kvmas_begin(kvmas));
	kvmas_unref(kvmas);
	kvmas_region_unref(region);
	must(kvmas_commit(kvmas));
	assert_true(heap_is_empty(&heap));
}

static void handle_alone_dropped_inside_transaction_is_freed_by_its_commit(void **state)
{
	struct heap heap = {0};
	struct kvmas *kvmas;

	(void)state;
	must(new_on_heap(&heap, &kvmas));
	must(kvmas_begin(kvmas));
	must(kvmas_begin(kvmas));
	kvmas_unref(kvmas);
	must(kvmas_commit(kvmas));
	must(kvmas_commit(kvmas)); /* which begin owed */
	assert_true(heap_is_empty(&heap));
}

static void objects_share_nothing(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});

	must(kvmas_begin(f->kvmas));
	must(kvmas_region_set_enabled(make_mmio(other, "a", 1), false));
	assert_int_equal(kvmas_commit(other->kvmas), -EINVAL);
	must(kvmas_commit(f->kvmas));
	fixture_free(other);
}

static void destroy_hook_may_use_the_library(struct fixture *f)
{
	must(kvmas_begin(f->kvmas));
	must(kvmas_commit(f->kvmas));
}

static void hook_with_transaction(void *opaque)
{
	destroy_hook_may_use_the_library(opaque);
}

static void destroy_hook_may_begin_and_commit(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *region;

	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .name = "a", .size = 1, .opaque = f,
					   .destroy = hook_with_transaction),
			      &region));
	kvmas_region_unref(region);
	must(kvmas_reclaim(f->kvmas));
}

static void leak_check_finds_a_planted_leak(void **state)
{
	struct fixture *f = *state;
	struct heap heap = {0};
	void *leak;

	pthread_mutex_init(&heap.lock, NULL);
	assert_true(heap_is_empty(&heap));
	leak = heap_realloc(&heap, NULL, 1);
	assert_false(heap_is_empty(&heap));
	heap_realloc(&heap, leak, 0);
	assert_true(heap_is_empty(&heap));
	assert_false(heap_is_empty(&f->heap));
}

/* ---- messages ---- */

static void message_goes_to_the_log_hook(void **state)
{
	struct fixture *f = *state;

	kas_log(f->kvmas, KVMAS_LOG_WARNING, "%d of %s", 3, "four");
	assert_notes(f, "log 1 3 of four\n");
}

static void message_without_hook_is_dropped(void **state)
{
	struct kvmas *kvmas;

	(void)state;
	must(kvmas_new(NULL, &kvmas));
	kas_log(kvmas, KVMAS_LOG_ERROR, "nobody hears");
	kvmas_unref(kvmas);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_is_that_of_the_header),
		cmocka_unit_test(new_without_config_has_all_defaults),
		cmocka_unit_test(new_without_memory_returns_enomem),
		cmocka_unit_test(unref_of_nothing_is_ignored),
		TEST(config_of_size_0_returns_einval),
		TEST(config_of_known_prefix_counts_the_rest_as_0),
		TEST(larger_config_with_zeros_works),
		TEST(larger_config_with_unknown_member_returns_eopnotsupp),
		TEST(object_ends_in_the_next_reclaim),
		TEST(object_ends_in_the_next_commit),
		TEST(second_reference_keeps_a_region),
		TEST(reclaim_inside_transaction_returns_ebusy),
		TEST(second_handle_keeps_objects_undestroyed),
		TEST(last_handle_ends_what_nobody_holds),
		TEST(object_ends_at_once_after_the_last_handle),
		TEST(handle_dropped_before_other_objects_frees_everything),
		TEST(reader_that_held_the_last_view_ends_the_rest),
		TEST(handle_dropped_inside_transaction_is_finished_by_its_commit),
		cmocka_unit_test(last_holder_dropped_inside_transaction_is_freed_by_its_commit),
		cmocka_unit_test(handle_alone_dropped_inside_transaction_is_freed_by_its_commit),
		TEST(objects_share_nothing),
		TEST(destroy_hook_may_begin_and_commit),
		TEST(leak_check_finds_a_planted_leak),
		TEST(message_goes_to_the_log_hook),
		cmocka_unit_test(message_without_hook_is_dropped),
	};

	return cmocka_run_group_tests_name("object", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Slots with a guest_memfd: how they come, go and are cut, and that what KVM cannot do with them is
 * refused before the first ioctl. All or nothing is test-apply.c's (kvm-scenarios.c).
 *
 * KVMAS_SEED and KVMAS_STEPS make other random steps, and more.
 */
#include "kvm-fixture.h"

#include <sys/mman.h>
#include <unistd.h>

#include "kvm/vm.h"

enum { FILE_PAGES = 16, WINDOWS = 6, MAP_PAGES = 24 };

static struct machine *newer_machine(void)
{
	return machine_new(&(struct fake_kvm_config){.version = FAKE_KVM_6_18});
}

static int setup(void **state)
{
	*state = newer_machine();
	return 0;
}

#define PRIVATE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, machine_teardown)

/* A block from page *first* of a file on. */
static struct kvmas_ram *make_on(struct machine *m, int fd, const char *name, uint64_t first,
				 uint64_t npages)
{
	struct kvmas_ram *ram;

	must(kvmas_ram_new(m->f->kvmas,
			   KVMAS_CONFIG(ram, .name = name, .size = pages(npages),
					.flags = KVMAS_RAM_GUEST_MEMFD, .guest_memfd = fd,
					.guest_memfd_offset = pages(first)),
			   &ram));
	return ram;
}

static struct kvmas_region *put_private(struct machine *m, const char *name, uint64_t gfn,
					uint64_t npages)
{
	struct kvmas_region *region = make_private_ram(m, name, npages);

	add(m->root[NORMAL], region, pages(gfn), 0);
	return region;
}

/* ---- what slots there are ---- */

static void slot_is_bound_to_the_file_behind_its_pages(void **state)
{
	struct machine *m = *state;
	int fd = kvmas_kvm_create_guest_memfd(m->kvm, pages(16), 0);
	struct kvmas_ram *ram = make_on(m, fd, "block", 3, 12);
	const struct fake_kvm_slot *slot;

	add(m->root[NORMAL], make_window(m->f, KVMAS_REGION_RAM, "w", ram, 2, 4), pages(40), 0);
	assert_slots(m, "0:0 40-43 block+2 gmem\n");
	slot = fake_kvm_find(m->vm, NORMAL, pages(41));
	assert_int_equal(slot->gmem, 1);
	assert_int_equal(slot->gmem_offset, pages(3 + 2));
	assert_ptr_equal(slot->hva, (char *)kvmas_ram_get_hva(ram) + pages(2));
	kvmas_ram_unref(ram);
	close(fd);
}

static void dump_tells_of_the_file(void **state)
{
	struct machine *m = *state;
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	put_private(m, "block", 4, 4);
	must(kvmas_dump(m->f->kvmas, stream));
	fclose(stream);
	assert_non_null(strstr(text, " slot 0:0 block+0x0 guest_memfd\n"));
	free(text);
}

static void cut_slot_is_deleted_and_its_sides_are_made(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *hole;

	put_private(m, "block", 0, 16);
	hole = put_mmio(m, NORMAL, "hole", 8, 2);
	assert_slots(m, "0:0 0-7 block+0 gmem\n0:1 10-15 block+10 gmem\n");
	forget_trace(m);
	must(kvmas_region_set_enabled(hole, false));
	assert_trace(m, "create 0:2 8-9 block+8 gmem = 0\n");
	must(kvmas_kvm_merge(m->kvm, NORMAL));
	assert_trace(m, "delete 0:1 10-15 block+10 gmem = 0\n"
			"delete 0:2 8-9 block+8 gmem = 0\n"
			"delete 0:0 0-7 block+0 gmem = 0\n"
			"create 0:0 0-15 block+0 gmem = 0\n");
}

static void slot_never_moves(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *private = put_private(m, "private", 0, 4);
	struct kvmas_region *plain = put_ram(m, NORMAL, "plain", 8, 4);

	forget_trace(m);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_set_offset(private, pages(20)));
	must(kvmas_region_set_offset(plain, pages(28)));
	must(kvmas_commit(m->f->kvmas));
	assert_trace(m, "delete 0:0 0-3 private+0 gmem = 0\n"
			"move 0:1 28-31 plain+0 = 0\n"
			"create 0:0 20-23 private+0 gmem = 0\n");
}

/* Each waits for the other; pieces of one gap, too. */
static void slots_that_change_places_are_all_made_anew(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *a = put_private(m, "a", 0, 8);
	struct kvmas_region *b = put_private(m, "b", 8, 8);

	put_mmio(m, NORMAL, "hole", 3, 1);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_set_offset(a, pages(8)));
	must(kvmas_region_set_offset(b, 0));
	must(kvmas_commit(m->f->kvmas));
	assert_int_equal(stats_of(m).slot_moves, 0);
	assert_right(m);
}

static void page_goes_from_one_space_to_the_other(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *region = put_private(m, "block", 4, 4);
	struct kvmas_region *alias = make_alias(m->f, "alias", region, 0, pages(4));

	must(kvmas_region_set_enabled(alias, false));
	add(m->root[SMM], alias, pages(4), 0);
	for (unsigned i = 0; i < 4; i++) {
		/* A disabled target shows nothing through its alias either. */
		must(kvmas_begin(m->f->kvmas));
		must(kvmas_region_set_enabled(alias, i % 2 == 0));
		if (i % 2 == 0)
			must(kvmas_region_del(region));
		else
			add(m->root[NORMAL], region, pages(4), 0);
		must(kvmas_commit(m->f->kvmas));
		assert_slots(m, i % 2 ? "0:0 4-7 block+0 gmem\n" : "1:0 4-7 block+0 gmem\n");
	}
}

/* ---- what is refused ---- */

/* The machine: "block" at page 4 in the normal space, "rom" in none. */
static struct kvmas_region *block, *second, *rom;
static struct kvmas_client *client;

static int show_twice(struct machine *m)
{
	return kvmas_region_add(m->root[NORMAL],
				make_alias(m->f, "alias", block, pages(3), pages(1)), pages(20), 0);
}

static int show_in_both_spaces(struct machine *m)
{
	return kvmas_region_add(m->root[SMM], make_alias(m->f, "alias", block, 0, pages(1)),
				pages(20), 0);
}

static int show_through_a_second_block(struct machine *m)
{
	return kvmas_region_add(m->root[NORMAL], second, pages(40), 0);
}

static int show_through_both_spaces(struct machine *m)
{
	must(kvmas_kvm_unbind(m->kvm, SMM));
	return kvmas_kvm_bind(m->kvm, m->space[NORMAL], SMM);
}

static int make_readonly(struct machine *m)
{
	(void)m;
	return kvmas_region_set_readonly(block, true);
}

static int show_rom(struct machine *m)
{
	return kvmas_region_add(m->root[NORMAL], rom, pages(60), 0);
}

static int log_it(struct machine *m)
{
	(void)m;
	return kvmas_client_log_start(client, block, NULL);
}

static int log_everything(struct machine *m)
{
	(void)m;
	return kvmas_client_log_start(client, NULL, NULL);
}

static int log_the_space(struct machine *m)
{
	return kvmas_client_log_start(client, NULL, m->space[NORMAL]);
}

/* Together with what would be right. */
static int log_with_more(struct machine *m)
{
	must(kvmas_begin(m->f->kvmas));
	put_ram(m, NORMAL, "more", 80, 2);
	must(kvmas_region_set_offset(block, pages(100)));
	must(log_it(m));
	return kvmas_commit(m->f->kvmas);
}

static void make_refusal_machine(struct machine *m)
{
	int fd = kvmas_kvm_create_guest_memfd(m->kvm, pages(8), 0);
	struct kvmas_ram *rams[] = {make_on(m, fd, "block", 0, 4), make_on(m, fd, "second", 3, 4)};

	block = make_window(m->f, KVMAS_REGION_RAM, "block", rams[0], 0, 4);
	rom = make_window(m->f, KVMAS_REGION_ROM, "rom", rams[1], 2, 1);
	second = make_window(m->f, KVMAS_REGION_RAM, "second", rams[1], 0, 2);
	add(m->root[NORMAL], block, pages(4), 0);
	client = make_client(m, "c");
	kvmas_ram_unref(rams[0]);
	kvmas_ram_unref(rams[1]);
	close(fd);
}

static void what_kvm_cannot_do_is_eopnotsupp_and_all_is_as_before(void **state)
{
	static int (*const refused[])(struct machine * m) = {
		show_twice,
		show_in_both_spaces,
		show_through_a_second_block,
		make_readonly,
		show_rom,
		show_through_both_spaces,
		log_it,
		log_everything,
		log_the_space,
		log_with_more,
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(refused); i++) {
		struct machine *m = newer_machine();
		char *view;

		make_refusal_machine(m);
		view = space_text(m->f, m->space[NORMAL]);
		fake_kvm_reset(m->vm);
		assert_int_equal(refused[i](m), -EOPNOTSUPP);
		assert_int_equal(m->vm->ncalls, 0);
		assert_slots(m, "0:0 4-7 block+0 gmem\n");
		assert_view(m->f, m->space[NORMAL], view);
		free(view);
		/* It can still be changed. */
		must(kvmas_region_set_offset(block, pages(8)));
		machine_free(m);
	}
}

/* The other way round: the wish was there before. */
static void block_that_is_to_be_logged_cannot_be_shown(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *region = make_private_ram(m, "block", 4);

	must(kvmas_client_log_start(make_client(m, "c"), NULL, NULL));
	assert_int_equal(kvmas_region_add(m->root[NORMAL], region, 0, 0), -EOPNOTSUPP);
	must(kvmas_client_log_stop(m->clients[0], NULL, NULL));
	must(kvmas_region_add(m->root[NORMAL], region, 0, 0));
}

static void dry_run_tells_of_the_refusal(void **state)
{
	struct machine *m = *state;

	make_refusal_machine(m);
	must(kvmas_begin(m->f->kvmas));
	must(show_twice(m));
	assert_int_equal(kvmas_kvm_dry_run(m->kvm, NULL, NULL, NULL), -EOPNOTSUPP);
	must(kvmas_abort(m->f->kvmas));
}

/* Where no slot shows it, KVM does not mind. */
static void hidden_or_unbound_pages_may_be_anywhere(void **state)
{
	struct machine *m = *state;

	make_refusal_machine(m);
	must(kvmas_kvm_unbind(m->kvm, SMM));
	must(show_in_both_spaces(m));
	put_mmio(m, NORMAL, "hides", 7, 1);
	must(show_twice(m));
	assert_int_equal(kvmas_kvm_bind(m->kvm, m->space[SMM], SMM), -EOPNOTSUPP);
}

static void kvm_without_guest_memfd_is_eopnotsupp(void **state)
{
	static const struct fake_kvm_config configs[] = {
		{.version = FAKE_KVM_6_1},
		{.version = FAKE_KVM_6_12},
		{.version = FAKE_KVM_6_18, .no_guest_memfd = true},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(configs); i++) {
		struct machine *m = machine_new(&configs[i]);
		int fd = memfd_create("file", MFD_CLOEXEC);
		struct kvmas_region *region;
		struct kvmas_ram *ram;

		must(ftruncate(fd, (off_t)pages(4)));
		ram = make_on(m, fd, "block", 0, 4);
		region = make_window(m->f, KVMAS_REGION_RAM, "block", ram, 0, 4);
		fake_kvm_reset(m->vm);
		assert_int_equal(kvmas_region_add(m->root[NORMAL], region, 0, 0), -EOPNOTSUPP);
		assert_int_equal(m->vm->ncalls, 0);
		kvmas_ram_unref(ram);
		close(fd);
		machine_free(m);
	}
}

/* That only KVM can tell. */
static void file_that_is_no_guest_memfd_is_einval_and_all_is_as_before(void **state)
{
	struct machine *m = *state;
	int fd = memfd_create("file", MFD_CLOEXEC);
	struct kvmas_ram *ram;

	must(ftruncate(fd, (off_t)pages(4)));
	ram = make_on(m, fd, "block", 0, 4);
	must(kvmas_begin(m->f->kvmas));
	put_ram(m, NORMAL, "before", 0, 4);
	add(m->root[NORMAL], make_window(m->f, KVMAS_REGION_RAM, "block", ram, 0, 4), pages(10), 0);
	put_private(m, "behind", 20, 4);
	assert_int_equal(kvmas_commit(m->f->kvmas), -EINVAL);
	assert_slots(m, "");
	kvmas_ram_unref(ram);
	close(fd);
}

/* ---- at random ---- */

/* Windows onto a file, two of them through a second block, at random places of two spaces. */
struct window {
	struct kvmas_region *region;
	uint64_t first; /* in the file */
	uint64_t npages;
	unsigned as_id;
	uint64_t gfn;
	bool shown;
};

struct world {
	struct machine *m;
	struct window windows[WINDOWS];
	uint64_t seed;
	unsigned ncommits;
	unsigned nrefused;
};

static uint64_t chance(struct world *w, uint64_t n)
{
	w->seed = w->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (w->seed >> 33) % n;
}

static void make_world(struct world *w)
{
	struct machine *m = w->m;
	int fd = kvmas_kvm_create_guest_memfd(m->kvm, pages(FILE_PAGES), 0);
	struct kvmas_ram *rams[] = {make_on(m, fd, "a", 0, FILE_PAGES),
				    make_on(m, fd, "b", 4, FILE_PAGES - 4)};

	for (unsigned i = 0; i < WINDOWS; i++) {
		struct window *window = &w->windows[i];
		uint64_t offset = i % 3 == 2 ? 4 : 0;

		window->npages = 1 + chance(w, 6);
		window->first = offset + chance(w, FILE_PAGES - offset - window->npages + 1);
		window->as_id = i % NSPACES;
		window->region = make_window(m->f, KVMAS_REGION_RAM, "w", rams[offset != 0],
					     window->first - offset, window->npages);
		must(kvmas_region_set_enabled(window->region, false));
		must(kvmas_region_add(m->root[window->as_id], window->region, 0, (int)i));
	}
	kvmas_ram_unref(rams[0]);
	kvmas_ram_unref(rams[1]);
	close(fd);
}

/* Paint the windows, one over the other: is some page of the file seen twice? */
static bool shows_a_page_twice(const struct world *w)
{
	unsigned map[NSPACES][MAP_PAGES] = {{0}}; /* the file's page and 1 */
	unsigned seen[FILE_PAGES + 1] = {0};

	for (unsigned i = 0; i < WINDOWS; i++) {
		const struct window *window = &w->windows[i];

		for (uint64_t page = 0; window->shown && page < window->npages; page++)
			map[window->as_id][window->gfn + page] =
				(unsigned)(window->first + page + 1);
	}
	for (unsigned i = 0; i < NSPACES * MAP_PAGES; i++)
		seen[map[i / MAP_PAGES][i % MAP_PAGES]]++;
	for (unsigned i = 1; i <= FILE_PAGES; i++) {
		if (seen[i] > 1)
			return true;
	}
	return false;
}

static void change_window(struct world *w)
{
	struct window *window = &w->windows[chance(w, WINDOWS)];

	if (chance(w, 2)) {
		window->shown = !window->shown;
		must(kvmas_region_set_enabled(window->region, window->shown));
	} else {
		window->gfn = chance(w, MAP_PAGES - window->npages + 1);
		must(kvmas_region_set_offset(window->region, pages(window->gfn)));
	}
}

static void change_policy(struct world *w)
{
	static const enum kvmas_merge merges[] = {KVMAS_MERGE_STICKY, KVMAS_MERGE_STICKY,
						  KVMAS_MERGE_EAGER, KVMAS_MERGE_NONE};

	must(kvmas_kvm_set_merge(w->m->kvm, (unsigned)chance(w, NSPACES), merges[chance(w, 4)]));
}

/* A transaction, which KVM may refuse one call of; its result is foretold. */
static void random_step(struct world *w)
{
	struct window before[WINDOWS];
	char *slots = slots_text(w->m->kvm);
	bool twice, faulty = chance(w, 4) == 0;
	int result;

	memcpy(before, w->windows, sizeof(before));
	must(kvmas_begin(w->m->f->kvmas));
	for (uint64_t n = 1 + chance(w, 3); n; n--)
		change_window(w);
	if (chance(w, 8) == 0)
		change_policy(w);
	twice = shows_a_page_twice(w);
	fake_kvm_fail_never(w->m->vm);
	if (faulty)
		fake_kvm_fail_at(w->m->vm, 1 + (unsigned)chance(w, 6), ENOMEM);
	result = kvmas_commit(w->m->f->kvmas);
	if (twice)
		assert_int_equal(result, -EOPNOTSUPP);
	else if (faulty && w->m->vm->fail.hits)
		assert_int_equal(result, -ENOMEM);
	else
		assert_int_equal(result, 0);
	fake_kvm_fail_never(w->m->vm);
	if (result) {
		memcpy(w->windows, before, sizeof(before));
		assert_slots(w->m, slots);
	}
	w->ncommits += !result;
	w->nrefused += twice;
	free(slots);
	assert_right(w->m);
}

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : otherwise;
}

static void random_windows_are_shown_or_refused_as_foretold(void **state)
{
	unsigned long steps = from_environment("KVMAS_STEPS", 3000);
	unsigned long seed = from_environment("KVMAS_SEED", 1);
	unsigned ncommits = 0, nrefused = 0;

	(void)state;
	for (unsigned long done = 0; done < steps; seed++) {
		struct world w = {.m = newer_machine(), .seed = seed};

		make_world(&w);
		for (unsigned i = 0; i < 100 && done < steps; i++, done++)
			random_step(&w);
		assert_int_equal(stats_of(w.m).slot_moves + stats_of(w.m).slot_flags, 0);
		ncommits += w.ncommits;
		nrefused += w.nrefused;
		machine_free(w.m);
	}
	print_message("%u commits, %u refused\n", ncommits, nrefused);
	assert_true(ncommits > steps / 4 && nrefused > steps / 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PRIVATE_TEST(slot_is_bound_to_the_file_behind_its_pages),
		PRIVATE_TEST(dump_tells_of_the_file),
		PRIVATE_TEST(cut_slot_is_deleted_and_its_sides_are_made),
		PRIVATE_TEST(slot_never_moves),
		PRIVATE_TEST(slots_that_change_places_are_all_made_anew),
		PRIVATE_TEST(page_goes_from_one_space_to_the_other),
		cmocka_unit_test(what_kvm_cannot_do_is_eopnotsupp_and_all_is_as_before),
		PRIVATE_TEST(block_that_is_to_be_logged_cannot_be_shown),
		PRIVATE_TEST(dry_run_tells_of_the_refusal),
		PRIVATE_TEST(hidden_or_unbound_pages_may_be_anywhere),
		cmocka_unit_test(kvm_without_guest_memfd_is_eopnotsupp),
		PRIVATE_TEST(file_that_is_no_guest_memfd_is_einval_and_all_is_as_before),
		cmocka_unit_test(random_windows_are_shown_or_refused_as_foretold),
	};

	return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}

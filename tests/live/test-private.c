/* SPDX-License-Identifier: MIT */
/*
 * A guest with memory of a guest_memfd: it runs code there, reads and writes, while its slot is
 * cut, moved and discarded, and while the VMM asks for what KVM cannot do. Where KVM has VMs with
 * private memory, pages are converted under it.
 *
 * Which of that can be had depends on the kernel: guest_memfd on plain VMs since Linux 6.18,
 * private memory only in VMs of certain types. The rest is asserted to be -EOPNOTSUPP; what ran is
 * printed.
 */
#include "guest.h"
#include "kvm/uapi.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef KVM_CAP_VM_TYPES
#define KVM_CAP_VM_TYPES 235
#endif
#ifndef KVM_X86_SW_PROTECTED_VM
#define KVM_X86_SW_PROTECTED_VM 1
#endif

enum {
	NPAGES = 0x100, /* of the guest's other memory */
	HERE = 0x200,   /* where the window is, in pages */
	THERE = 0x300,
	WINDOW = 16, /* pages */
	ROUNDS = 300,
	BOTH = KVMAS_GUEST_MEMFD_MMAP | KVMAS_GUEST_MEMFD_INIT_SHARED,
};

static const uint32_t rarely[MAX_VCPUS] = {1000, 1000};

/* A window onto a block with a guest_memfd, and a mapping of what the guest sees there. */
struct scene {
	struct guest *g;
	int fd;
	struct kvmas_ram *ram;
	unsigned char *seen;
	struct kvmas_region *window;
	uint32_t page;
};

/* ---- making it ---- */

static int make_private(struct scene *s, enum kvmas_ram_source source, struct kvmas_ram **ret)
{
	return kvmas_ram_new(s->g->f->kvmas,
			     KVMAS_CONFIG(ram, .name = "private", .size = WINDOW * PAGE,
					  .source = source, .flags = KVMAS_RAM_GUEST_MEMFD,
					  .fd = s->fd, .guest_memfd = s->fd),
			     ret);
}

static struct kvmas_region *make_window_on(struct guest *g, struct kvmas_ram *ram)
{
	return make_region(g->f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
							      .name = "window",
							      .size = WINDOW * PAGE,
							      .ram = ram});
}

static struct scene scene_new(void **state, enum kvmas_ram_source source)
{
	struct scene s = {.page = HERE};

	s.g = guest_new(state, (struct guest_config){.npages = NPAGES});
	s.fd = kvmas_kvm_create_guest_memfd(s.g->kvm, WINDOW * PAGE, BOTH);
	assert_true(s.fd >= 0);
	assert_true(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
	must(make_private(&s, source, &s.ram));
	s.seen = mmap(NULL, WINDOW * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	assert_ptr_not_equal(s.seen, MAP_FAILED);
	s.window = guest_put(s.g, 0, make_window_on(s.g, s.ram), HERE);
	return s;
}

static void scene_end(struct scene *s)
{
	guest_end_well(s->g);
	munmap(s->seen, WINDOW * PAGE);
	kvmas_ram_unref(s->ram);
	close(s->fd);
}

/* An entry for a word, or a piece of code, of the window, as the guest sees it. */
static void enter(struct scene *s, unsigned vcpu, uint32_t page, uint32_t kind)
{
	uint32_t offset = page * PAGE + 64 * vcpu;
	uint32_t value = (s->page * PAGE + offset) * UINT32_C(2654435761);
	struct code_entry entry = {
		.address = s->page * PAGE + offset, .kind = kind, .a = value, .b = value};

	if (kind == CODE_CALL)
		guest_write_code(s->seen + offset, value);
	else
		memcpy(s->seen + offset, &value, sizeof(value));
	guest_enter(s->g, vcpu, 0, entry);
}

/* Each vCPU has some of each kind, in pages from *first* to before *end*. */
static void fill_tables(struct scene *s, uint32_t first, uint32_t end)
{
	static const uint32_t kinds[] = {CODE_CALL, CODE_WRITE, CODE_READ};

	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (uint32_t page = first; page < end; page++)
			enter(s, v, page, kinds[page % LENGTH(kinds)]);
	}
}

static void clear_tables(const struct scene *s)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		guest_control(s->g, v, 0)->count = 0;
}

/* Stop between two rounds: what the tables say is then what the guest has done, and none of its
 * entries is in hand. */
static void stop(struct scene *s)
{
	uint32_t counts[MAX_VCPUS];

	for (unsigned v = 0; v < MAX_VCPUS; v++)
		counts[v] =
			__atomic_exchange_n(&guest_control(s->g, v, 0)->count, 0, __ATOMIC_SEQ_CST);
	guest_wait_rounds(s->g, 2);
	guest_stop(s->g);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		guest_control(s->g, v, 0)->count = counts[v];
	if (guest_wrong(s->g))
		fail_msg("%s", guest_wrong(s->g));
}

static void run(struct scene *s)
{
	guest_start(s->g, rarely);
	guest_wait_rounds(s->g, ROUNDS);
	stop(s);
}

/* What the guest has written is there; each word has been written. */
static void assert_written(const struct scene *s)
{
	unsigned nwritten = 0;

	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		const struct code_control *control = guest_control(s->g, v, 0);
		const struct code_entry *entries = (void *)(s->g->bytes + control->table);

		for (uint32_t i = 0; i < control->count; i++) {
			uint32_t offset = entries[i].address - s->page * PAGE;

			if (entries[i].kind != CODE_WRITE)
				continue;
			assert_memory_equal(s->seen + offset, &entries[i].a, 4);
			assert_int_not_equal(entries[i].a, entries[i].b);
			nwritten++;
		}
	}
	assert_true(nwritten > 0);
}

/* ---- where there is guest_memfd ---- */

static void guest_runs_from_the_file_and_the_vmm_sees_what_it_writes(void **state)
{
	struct scene s = scene_new(state, KVMAS_RAM_FILE);
	const unsigned char *hva = kvmas_ram_get_hva(s.ram);

	fill_tables(&s, 0, WINDOW);
	run(&s);
	assert_written(&s);
	assert_memory_equal(hva, s.seen, WINDOW * PAGE);
	scene_end(&s);
}

/* Bind a page of the file behind the library's back, and let it go again. */
static bool is_bound(const struct scene *s, uint32_t page)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = SPARE_ID,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = THERE * PAGE,
		.memory_size = PAGE,
		.userspace_addr = (uintptr_t)s->seen,
		.guest_memfd = (uint32_t)s->fd,
		.guest_memfd_offset = page * PAGE,
	};

	if (ioctl(s->g->vm, KVM_SET_USER_MEMORY_REGION2, &region))
		return true;
	region.memory_size = 0;
	region.flags = 0;
	must(ioctl(s->g->vm, KVM_SET_USER_MEMORY_REGION2, &region));
	return false;
}

/* That it is the file, and not its mapping at the hva, cannot be seen in the contents. */
static void file_is_bound_where_it_is_shown_and_nowhere_else(void **state)
{
	struct scene s = scene_new(state, KVMAS_RAM_FILE);
	struct kvmas_region *hole = guest_put_hole(s.g, 0, HERE + 6, 4);

	for (uint32_t page = 0; page < WINDOW; page++)
		assert_true(is_bound(&s, page));
	must(kvmas_region_set_enabled(hole, true));
	for (uint32_t page = 0; page < WINDOW; page++)
		assert_int_equal(is_bound(&s, page), page < 6 || page >= 10);
	must(kvmas_region_del(s.window));
	for (uint32_t page = 0; page < WINDOW; page++)
		assert_false(is_bound(&s, page));
	scene_end(&s);
}

/* Under eager merging the slot is deleted and made anew each time, with the vCPUs held out. */
static void contents_survive_cuts_and_merges_under_a_running_guest(void **state)
{
	struct scene s = scene_new(state, KVMAS_RAM_FILE);
	struct kvmas_region *hole = guest_put_hole(s.g, 0, HERE + 6, 4);
	struct kvmas_kvm_stats before, stats;

	must(kvmas_kvm_set_merge(s.g->kvm, 0, KVMAS_MERGE_EAGER));
	fill_tables(&s, 0, 6);
	fill_tables(&s, 10, WINDOW);
	memset(s.seen + 6 * PAGE, 'k', 4 * PAGE);
	before = guest_stats(s.g);
	guest_start(s.g, rarely);
	guest_wait_rounds(s.g, 1);
	for (unsigned i = 0; i < 100 && !guest_wrong(s.g); i++) {
		must(kvmas_region_set_enabled(hole, i % 2 == 0));
		guest_wait_rounds(s.g, 1);
	}
	stop(&s);
	stats = guest_stats(s.g);
	assert_int_equal(stats.slot_deletes - before.slot_deletes, 50 + 2 * 50);
	assert_int_equal(stats.vcpu_stops - before.vcpu_stops, 100);
	assert_written(&s);
	for (uint32_t i = 6 * PAGE; i < 10 * PAGE; i++)
		assert_int_equal(s.seen[i], 'k');
	scene_end(&s);
}

static void contents_move_with_their_region(void **state)
{
	struct scene s = scene_new(state, KVMAS_RAM_FILE);
	struct kvmas_kvm_stats before = guest_stats(s.g), stats;

	memset(s.seen + 15 * PAGE, 'k', PAGE);
	for (unsigned i = 0; i < 6; i++) {
		s.page = i % 2 ? HERE : THERE;
		must(kvmas_region_set_offset(s.window, s.page * PAGE));
		clear_tables(&s);
		fill_tables(&s, 0, 15);
		run(&s);
		assert_written(&s);
	}
	stats = guest_stats(s.g);
	assert_int_equal(stats.slot_moves, before.slot_moves);
	assert_int_equal(stats.slot_deletes, before.slot_deletes + 6);
	for (uint32_t i = 15 * PAGE; i < 16 * PAGE; i++)
		assert_int_equal(s.seen[i], 'k');
	scene_end(&s);
}

static int place_alias(struct scene *s)
{
	struct kvmas_region *alias = make_alias(s->g->f, "second", s->window, 0, PAGE);
	int err = kvmas_region_add(s->g->root[0], alias, THERE * PAGE, 1);

	drop_region(s->g->f, alias);
	return err;
}

static int place_second_block(struct scene *s)
{
	struct kvmas_region *region;
	struct kvmas_ram *second;
	int err;

	must(make_private(s, KVMAS_RAM_ANON, &second));
	region = make_window_on(s->g, second);
	err = kvmas_region_add(s->g->root[0], region, THERE * PAGE, 1);
	drop_region(s->g->f, region);
	kvmas_ram_unref(second);
	return err;
}

static int make_readonly(struct scene *s)
{
	return kvmas_region_set_readonly(s->window, true);
}

static int log_everything(struct scene *s)
{
	struct kvmas_client *client;
	int err;

	must(kvmas_client_new(s->g->f->kvmas, "c", &client));
	err = kvmas_client_log_start(client, NULL, NULL);
	kvmas_client_unref(client);
	return err;
}

static void what_kvm_cannot_do_is_eopnotsupp_and_the_guest_goes_on(void **state)
{
	static int (*const refused[])(struct scene * s) = {
		place_alias,
		place_second_block,
		make_readonly,
		log_everything,
	};
	struct scene s = scene_new(state, KVMAS_RAM_FILE);
	unsigned calls = s.g->calls[0];

	fill_tables(&s, 0, WINDOW);
	guest_start(s.g, rarely);
	for (size_t i = 0; i < LENGTH(refused); i++) {
		assert_int_equal(refused[i](&s), -EOPNOTSUPP);
		guest_wait_rounds(s.g, 1);
	}
	assert_int_equal(s.g->calls[0], calls);
	stop(&s);
	assert_written(&s);
	scene_end(&s);
}

/* What the header recommends: another block over the same file, without the flag. */
static void second_block_without_the_flag_shows_the_same_and_is_logged(void **state)
{
	struct scene s = scene_new(state, KVMAS_RAM_FILE);
	struct kvmas_client *client;
	struct kvmas_region *region;
	struct kvmas_ram *second;
	uint64_t dirty = 0;

	must(kvmas_ram_new(s.g->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "second", .source = KVMAS_RAM_FILE, .fd = s.fd,
					.size = WINDOW * PAGE),
			   &second));
	region = guest_put(s.g, 0, make_window_on(s.g, second), THERE);
	must(kvmas_client_new(s.g->f->kvmas, "c", &client));
	must(kvmas_client_log_start(client, region, NULL));
	assert_true(kvmas_client_take(client, second, 0, WINDOW, &dirty) >= 0);
	s.page = THERE;
	enter(&s, 0, 5, CODE_WRITE);
	run(&s);
	assert_written(&s);
	must(guest_sync(s.g, 0, 0, KVMAS_SIZE_MAX));
	assert_true(kvmas_client_take(client, second, 0, WINDOW, &dirty) > 0);
	assert_int_equal(dirty, 1 << 5);
	kvmas_client_unref(client);
	kvmas_ram_unref(second);
	scene_end(&s);
}

static void discarded_pages_are_zero_to_guest_and_vmm(void **state)
{
	static const enum kvmas_ram_source sources[] = {KVMAS_RAM_FILE, KVMAS_RAM_ANON};

	for (size_t i = 0; i < LENGTH(sources); i++) {
		struct scene s = scene_new(state, sources[i]);
		const unsigned char *hva = kvmas_ram_get_hva(s.ram);
		struct code_entry zero = {.address = (HERE + 3) * PAGE, .kind = CODE_READ};

		memset(s.seen, 'k', WINDOW * PAGE);
		memset(kvmas_ram_get_hva(s.ram), 'k', WINDOW * PAGE);
		must(kvmas_ram_discard(s.ram, 3 * PAGE, PAGE));
		assert_int_equal(s.seen[3 * PAGE], 0);
		assert_int_equal(hva[3 * PAGE], 0);
		assert_int_equal(s.seen[2 * PAGE], 'k');
		assert_int_equal(s.seen[4 * PAGE], 'k');
		guest_enter(s.g, 0, 0, zero);
		run(&s);
		scene_end(&s);
		guest_teardown(state);
		guest_setup(state);
	}
}

/* ---- where there is not ---- */

static void kernel_without_guest_memfd_is_eopnotsupp(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});
	struct scene s = {.g = g, .fd = memfd_create("no guest_memfd", MFD_CLOEXEC)};
	struct kvmas_region *region;
	unsigned calls = g->calls[0];

	for (unsigned flags = 0; flags <= BOTH; flags++)
		assert_int_equal(kvmas_kvm_create_guest_memfd(g->kvm, PAGE, flags), -EOPNOTSUPP);
	must(ftruncate(s.fd, WINDOW * PAGE));
	must(make_private(&s, KVMAS_RAM_ANON, &s.ram));
	region = make_window_on(g, s.ram);
	assert_int_equal(kvmas_region_add(g->root[0], region, HERE * PAGE, 1), -EOPNOTSUPP);
	assert_int_equal(g->calls[0], calls);
	kvmas_ram_unref(s.ram);
	close(s.fd);
	guest_end_well(g);
}

static void vm_without_private_memory_is_eopnotsupp(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});

	assert_int_equal(kvmas_kvm_set_private(g->kvm, 0, PAGE, true), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_set_private(g->kvm, 0, PAGE, false), -EOPNOTSUPP);
	guest_end_well(g);
}

/* ---- where VMs have private memory ---- */

/* The exit with which a guest asks for it: software-protected VMs ask by a hypercall instead. */
static void convert(struct guest *g, uint32_t page, bool is_private)
{
	const uint64_t fault[] = {is_private ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0,
				  (uint64_t)page * PAGE, PAGE};
	struct kvm_run *run = g->vcpus[0].run;

	run->exit_reason = KVM_EXIT_MEMORY_FAULT;
	memcpy(run->padding, fault, sizeof(fault));
	assert_int_equal(kvmas_vcpu_handle_exit(g->vcpus[0].tie), 1);
}

/* The guest reads this value in that page. */
static void run_and_read(struct scene *s, uint32_t page, uint32_t value)
{
	struct code_entry entry = {
		.address = page * PAGE, .kind = CODE_READ, .a = value, .b = value};

	clear_tables(s);
	guest_enter(s->g, 0, 0, entry);
	run(s);
}

static void converted_pages_are_those_of_the_other_side(void **state)
{
	struct guest *g = guest_new(
		state, (struct guest_config){.npages = NPAGES, .vm_type = KVM_X86_SW_PROTECTED_VM});
	struct scene s = {.g = g, .page = HERE};
	uint32_t *hva;

	s.fd = kvmas_kvm_create_guest_memfd(g->kvm, WINDOW * PAGE, 0);
	assert_true(s.fd >= 0);
	must(make_private(&s, KVMAS_RAM_ANON, &s.ram));
	guest_put(g, 0, make_window_on(g, s.ram), HERE);
	hva = kvmas_ram_get_hva(s.ram);
	hva[0] = 1;
	run_and_read(&s, HERE, 1);
	convert(g, HERE, true);
	assert_int_equal(hva[0], 0);
	hva[0] = 2;
	run_and_read(&s, HERE, 0);
	convert(g, HERE, false);
	run_and_read(&s, HERE, 2);
	assert_int_equal(guest_stats(g).conversions, 2);
	guest_end_well(g);
	kvmas_ram_unref(s.ram);
	close(s.fd);
}

/* ---- what is there ---- */

static int ask(int fd, unsigned long capability)
{
	int result = ioctl(fd, KVM_CHECK_EXTENSION, capability);

	return result < 0 ? 0 : result;
}

/* Whether plain VMs have guest_memfd that can be mapped; and whether there are others. */
static void look(bool *files, bool *conversions)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	*files = vm >= 0 && ask(vm, KVM_CAP_GUEST_MEMFD) && ask(vm, KVM_CAP_USER_MEMORY2) &&
		 (ask(vm, KVM_CAP_GUEST_MEMFD_FLAGS) & BOTH) == BOTH;
	*conversions = kvm >= 0 && ask(kvm, KVM_CAP_VM_TYPES) >> KVM_X86_SW_PROTECTED_VM & 1;
	if (vm >= 0)
		close(vm);
	if (kvm >= 0)
		close(kvm);
}

int main(void)
{
	const struct CMUnitTest with_files[] = {
		GUEST_TEST(guest_runs_from_the_file_and_the_vmm_sees_what_it_writes),
		GUEST_TEST(file_is_bound_where_it_is_shown_and_nowhere_else),
		GUEST_TEST(contents_survive_cuts_and_merges_under_a_running_guest),
		GUEST_TEST(contents_move_with_their_region),
		GUEST_TEST(what_kvm_cannot_do_is_eopnotsupp_and_the_guest_goes_on),
		GUEST_TEST(second_block_without_the_flag_shows_the_same_and_is_logged),
		GUEST_TEST(discarded_pages_are_zero_to_guest_and_vmm),
		GUEST_TEST(vm_without_private_memory_is_eopnotsupp),
	};
	const struct CMUnitTest without[] = {
		GUEST_TEST(kernel_without_guest_memfd_is_eopnotsupp),
		GUEST_TEST(vm_without_private_memory_is_eopnotsupp),
	};
	const struct CMUnitTest conversions[] = {
		GUEST_TEST(converted_pages_are_those_of_the_other_side),
	};
	bool files, converts;
	int r;

	look(&files, &converts);
	print_message("guest_memfd of plain VMs: %s\nconversions: %s\n",
		      files ? "tested" : "none here, -EOPNOTSUPP tested",
		      converts ? "tested" : "no VM with private memory here, -EOPNOTSUPP tested");
	r = files ? guest_main("private", with_files, LENGTH(with_files), 1)
		  : guest_main("private", without, LENGTH(without), 1);
	if (!r && converts)
		r = guest_main("private-conversions", conversions, LENGTH(conversions), 1);
	return r;
}

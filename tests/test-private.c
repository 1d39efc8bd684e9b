/* SPDX-License-Identifier: MIT */
/*
 * Files for private memory, attributes, and the exit by which a guest asks for the other side of a
 * page: on the double, as a VM of a type that has private memory, and as one that has not.
 */
#include "kvm-fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "kvm/vm.h"

enum { PAGES = 8, MMAP = KVMAS_GUEST_MEMFD_MMAP, SHARED = KVMAS_GUEST_MEMFD_INIT_SHARED };

/* A VM with private memory, and a block with both sides at page 16: "a" at the hva, "b" in the
 * file. */
struct guest {
	struct machine *m;
	struct fake_kvm_vcpu *cpu;
	struct kvmas_vcpu *vcpu;
	struct kvmas_region *region;
	unsigned char *hva;
	int fd;
	int verdict;     /* of the convert hook */
	char asked[64];  /* what it was asked last */
	int run_result;  /* of KVM_RUN */
	bool run_faults; /* it says why */
};

static int convert(void *data, uint64_t gpa, uint64_t size, bool is_private)
{
	struct guest *g = data;

	snprintf(g->asked, sizeof(g->asked), "%u+%u %s", (unsigned)(gpa / page_size()),
		 (unsigned)(size / page_size()), is_private ? "private" : "shared");
	return g->verdict;
}

static void kick(void *data)
{
	(void)data;
}

static void fill_sides(const struct guest *g)
{
	char *page = malloc(page_size());

	assert_non_null(page);
	memset(page, 'b', page_size());
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(pwrite(g->fd, page, page_size(), (off_t)pages(i)), page_size());
	memset(g->hva, 'a', pages(PAGES));
	free(page);
}

static struct guest *guest_on(struct machine *m)
{
	struct guest *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->m = m;
	m->kvm->config.convert = convert;
	m->kvm->config.convert_data = g;
	g->region = make_private_ram(m, "block", PAGES);
	g->hva = kvmas_ram_get_hva(block_of(g->region));
	g->fd = m->vm->gmems[0].fd; /* the guest's own way to it: ours cannot be read */
	g->cpu = fake_kvm_add_vcpu(m->vm);
	must(kvmas_vcpu_add(m->kvm,
			    KVMAS_CONFIG(vcpu, .fd = g->cpu->fd, .run = g->cpu->run,
					 .run_size = g->cpu->run_size, .kick = kick),
			    &g->vcpu));
	add(m->root[NORMAL], g->region, pages(16), 0);
	fill_sides(g);
	return g;
}

static int setup(void **state)
{
	struct machine *m = machine_new_unbound(&(struct fake_kvm_config){
		.version = FAKE_KVM_6_18, .private_vm = true, .spaces = 1});

	must(kvmas_kvm_bind(m->kvm, m->space[NORMAL], NORMAL));
	*state = guest_on(m);
	return 0;
}

static int setup_plain(void **state)
{
	*state = guest_on(machine_new(&(struct fake_kvm_config){.version = FAKE_KVM_6_18}));
	return 0;
}

static int teardown(void **state)
{
	struct guest *g = *state;

	kvmas_vcpu_del(g->vcpu);
	machine_free(g->m);
	free(g);
	return 0;
}

#define PRIVATE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define PLAIN_TEST(name) cmocka_unit_test_setup_teardown(name, setup_plain, teardown)

/* Which pages of the guest's are private, from page 16 on, and which of each side are as they were
 * filled: "p" and "-", "a" and "0", "b" and "0". */
static void assert_sides(const struct guest *g, const char *expected)
{
	char text[3 * (PAGES + 1)];
	char *at = text;

	for (unsigned i = 0; i < PAGES; i++)
		*at++ = fake_kvm_attributes(g->m->vm, pages(16 + i)) ? 'p' : '-';
	*at++ = ' ';
	for (unsigned i = 0; i < PAGES; i++)
		*at++ = g->hva[pages(i)] ? (char)g->hva[pages(i)] : '0';
	*at++ = ' ';
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(pread(g->fd, at, 1, (off_t)pages(i)), 1);
		*at = *at ? *at : '0';
		at++;
	}
	*at = '\0';
	assert_string_equal(text, expected);
}

#define AS_BEFORE "-------- aaaaaaaa bbbbbbbb"

static int exit_with(struct guest *g, uint64_t gpa, uint64_t size, uint64_t flags)
{
	const uint64_t fault[] = {flags, gpa, size};

	g->cpu->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
	memcpy(g->cpu->run->padding, fault, sizeof(fault));
	return kvmas_vcpu_handle_exit(g->vcpu);
}

static int exit_for(struct guest *g, uint64_t gfn, uint64_t npages, bool is_private)
{
	return exit_with(g, pages(gfn), pages(npages),
			 is_private ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0);
}

static uint64_t conversions(const struct guest *g)
{
	return stats_of(g->m).conversions;
}

/* ---- files ---- */

static void file_is_what_kvm_and_the_arguments_allow(void **state)
{
	static const struct fake_kvm_config plain = {.version = FAKE_KVM_6_18},
					    unmapped = {.version = FAKE_KVM_6_18,
							.no_gmem_flags = true},
					    old = {.version = FAKE_KVM_6_12};
	const struct {
		const struct fake_kvm_config *config;
		uint64_t size;
		unsigned flags;
		int result;
	} cases[] = {
		{&plain, 0, 0, -EINVAL},
		{&plain, 1, 0, -EINVAL},
		{&plain, pages(1) + 1, 0, -EINVAL},
		{&plain, pages(1), 4, -EINVAL},
		{&plain, pages(1), 1u << 31, -EINVAL},
		{&plain, pages(1), 0, 0},
		{&plain, pages(1), MMAP, 0},
		{&plain, pages(1), SHARED, 0},
		{&plain, pages(1), MMAP | SHARED, 0},
		{&unmapped, pages(1), 0, 0},
		{&unmapped, pages(1), MMAP, -EOPNOTSUPP},
		{&unmapped, pages(1), SHARED, -EOPNOTSUPP},
		{&unmapped, pages(1), 4, -EINVAL},
		{&old, pages(1), 0, -EOPNOTSUPP},
		{&old, pages(1), MMAP, -EOPNOTSUPP},
		{&old, 0, 0, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct machine *m = machine_new(cases[i].config);
		int fd = kvmas_kvm_create_guest_memfd(m->kvm, cases[i].size, cases[i].flags);

		assert_int_equal(fd < 0 ? fd : 0, cases[i].result);
		if (fd >= 0) {
			assert_int_equal(m->vm->gmems[0].size, cases[i].size);
			assert_int_equal(m->vm->gmems[0].flags, cases[i].flags);
			close(fd);
		}
		machine_free(m);
	}
}

static void file_that_kvm_refuses_is_its_errno(void **state)
{
	struct guest *g = *state;

	fake_kvm_fail_at(g->m->vm, 1, EMFILE);
	assert_int_equal(kvmas_kvm_create_guest_memfd(g->m->kvm, pages(1), 0), -EMFILE);
}

static bool answer_inheritable(struct machine *m, unsigned long request, int *result)
{
	if (request != KVM_CREATE_GUEST_MEMFD)
		return false;
	*result = dup(*(int *)m->data);
	return true;
}

/* KVM makes one that is; the double does not. */
static void file_is_not_inherited(void **state)
{
	struct guest *g = *state;
	int fd;

	g->m->data = &g->fd;
	g->m->answer = answer_inheritable;
	fd = kvmas_kvm_create_guest_memfd(g->m->kvm, pages(1), 0);
	g->m->answer = NULL;
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

/* ---- attributes ---- */

static void attributes_are_checked_and_set(void **state)
{
	struct guest *g = *state;
	struct kvmas_kvm *kvm = g->m->kvm;

	assert_int_equal(kvmas_kvm_set_private(kvm, pages(16), 0, true), -EINVAL);
	assert_int_equal(kvmas_kvm_set_private(kvm, pages(16) + 1, pages(1), true), -EINVAL);
	assert_int_equal(kvmas_kvm_set_private(kvm, pages(16), pages(1) - 1, true), -EINVAL);
	assert_int_equal(kvmas_kvm_set_private(kvm, -pages(1), pages(2), true), -EINVAL);
	assert_sides(g, AS_BEFORE);
	must(kvmas_kvm_set_private(kvm, pages(17), pages(3), true));
	assert_sides(g, "-ppp---- aaaaaaaa bbbbbbbb");
	must(kvmas_kvm_set_private(kvm, pages(18), pages(1), false));
	assert_sides(g, "-p-p---- aaaaaaaa bbbbbbbb");
	fake_kvm_fail_at(g->m->vm, 1, ENOMEM);
	assert_int_equal(kvmas_kvm_set_private(kvm, pages(17), pages(1), false), -ENOMEM);
	assert_sides(g, "-p-p---- aaaaaaaa bbbbbbbb");
	assert_int_equal(conversions(g), 0);
}

static void attributes_stay_whatever_becomes_of_slots_and_transactions(void **state)
{
	struct guest *g = *state;

	must(kvmas_begin(g->m->f->kvmas));
	must(kvmas_kvm_set_private(g->m->kvm, pages(17), pages(1), true));
	must(kvmas_region_set_enabled(g->region, false));
	must(kvmas_abort(g->m->f->kvmas));
	must(kvmas_region_set_enabled(g->region, false));
	must(kvmas_region_set_enabled(g->region, true));
	assert_sides(g, "-p------ aaaaaaaa bbbbbbbb");
}

static void vm_without_private_memory_is_eopnotsupp(void **state)
{
	struct guest *g = *state;

	assert_int_equal(kvmas_kvm_set_private(g->m->kvm, pages(16), pages(1), true), -EOPNOTSUPP);
	assert_int_equal(kvmas_kvm_set_private(g->m->kvm, pages(16), 0, true), -EINVAL);
	assert_int_equal(exit_for(g, 16, 1, true), 0);
	assert_sides(g, AS_BEFORE);
}

/* ---- what the guest asks for ---- */

static void page_becomes_private_and_its_shared_side_is_gone(void **state)
{
	struct guest *g = *state;

	assert_int_equal(fake_kvm_vcpu_fault(g->cpu, pages(18), true), 1);
	assert_int_equal(kvmas_vcpu_handle_exit(g->vcpu), 1);
	assert_string_equal(g->asked, "18+1 private");
	assert_sides(g, "--p----- aa0aaaaa bbbbbbbb");
	assert_int_equal(fake_kvm_vcpu_fault(g->cpu, pages(18), true), 0);
	assert_int_equal(conversions(g), 1);
}

static void page_becomes_shared_and_its_private_side_is_gone(void **state)
{
	struct guest *g = *state;
	struct kvmas_client *client = make_client(g->m, "c");

	must(kvmas_kvm_set_private(g->m->kvm, pages(16), pages(PAGES), true));
	assert_taken(client, block_of(g->region), "");
	assert_int_equal(fake_kvm_vcpu_fault(g->cpu, pages(19), false), 1);
	assert_int_equal(kvmas_vcpu_handle_exit(g->vcpu), 1);
	assert_string_equal(g->asked, "19+1 shared");
	assert_sides(g, "ppp-pppp aaaaaaaa bbb0bbbb");
	assert_taken(client, block_of(g->region), "3 ");
	assert_int_equal(fake_kvm_vcpu_fault(g->cpu, pages(19), false), 0);
}

/* Cut by a device in between, and shown on by an alias: the parts of one exit. */
static void range_is_converted_through_all_that_shows_it(void **state)
{
	struct guest *g = *state;
	struct kvmas_region *other = make_private_ram(g->m, "other", 2);
	unsigned char *hva = kvmas_ram_get_hva(block_of(other));

	add(g->m->root[NORMAL], other, pages(20), 1);
	memset(hva, 'o', pages(2));
	assert_int_equal(exit_for(g, 19, 4, true), 1);
	assert_sides(g, "---pppp- aaa0aa0a bbbbbbbb");
	assert_int_equal(hva[0], 0);
	assert_int_equal(hva[pages(1)], 0);
	assert_int_equal(conversions(g), 1);
}

static void range_that_is_not_all_shown_is_the_vmms(void **state)
{
	struct guest *g = *state;

	put_ram(g->m, NORMAL, "plain", 24, 2);
	put_mmio(g->m, NORMAL, "device", 30, 2);
	assert_int_equal(exit_for(g, 15, 1, true), 0);
	assert_int_equal(exit_for(g, 15, 2, true), 0);
	assert_int_equal(exit_for(g, 23, 2, true), 0);
	assert_int_equal(exit_for(g, 24, 1, true), 0);
	assert_int_equal(exit_for(g, 30, 1, true), 0);
	assert_int_equal(exit_for(g, 0, UINT64_C(1) << 50, true), 0);
	must(kvmas_kvm_unbind(g->m->kvm, NORMAL));
	assert_int_equal(exit_for(g, 16, 1, true), 0);
	assert_string_equal(g->asked, "");
	assert_sides(g, AS_BEFORE);
	assert_int_equal(conversions(g), 0);
}

/* Where a page is not one section's, it has no slot. */
static void page_of_two_sections_is_the_vmms(void **state)
{
	struct guest *g = *state;

	must(kvmas_region_set_size(g->region, pages(2) + 16));
	add(g->m->root[NORMAL], make_private_ram(g->m, "other", 1), pages(18) + 16, 0);
	assert_int_equal(exit_for(g, 18, 1, true), 0);
	assert_int_equal(exit_for(g, 19, 1, true), 0);
	assert_int_equal(exit_for(g, 17, 2, true), 0);
	assert_int_equal(exit_for(g, 17, 1, true), 1);
	assert_sides(g, "-p------ a0aaaaaa bbbbbbbb");
}

static void nonsense_is_einval_and_unknown_flags_are_the_vmms(void **state)
{
	struct guest *g = *state;
	const uint64_t flag = KVM_MEMORY_EXIT_FLAG_PRIVATE;

	assert_int_equal(exit_with(g, pages(16), 0, flag), -EINVAL);
	assert_int_equal(exit_with(g, pages(16) + 1, pages(1), flag), -EINVAL);
	assert_int_equal(exit_with(g, pages(16), pages(1) + 1, flag), -EINVAL);
	assert_int_equal(exit_with(g, pages(16), -pages(1), flag), -EINVAL);
	assert_int_equal(exit_with(g, -pages(1), pages(2), flag), -EINVAL);
	assert_int_equal(exit_with(g, -pages(1), pages(1), flag), 0);
	assert_int_equal(exit_with(g, 0, -pages(1), flag), 0);
	for (unsigned bit = 0; bit < 64; bit++) {
		if (UINT64_C(1) << bit != flag)
			assert_int_equal(
				exit_with(g, pages(16), pages(1), UINT64_C(1) << bit | flag), 0);
	}
	assert_sides(g, AS_BEFORE);
}

static void vmm_may_refuse(void **state)
{
	struct guest *g = *state;

	g->verdict = -EPERM;
	assert_int_equal(exit_for(g, 17, 2, true), -EPERM);
	assert_string_equal(g->asked, "17+2 private");
	assert_sides(g, AS_BEFORE);
	assert_int_equal(conversions(g), 0);
	g->verdict = 0;
	assert_int_equal(exit_for(g, 17, 2, true), 1);
	g->m->kvm->config.convert = NULL;
	assert_int_equal(exit_for(g, 17, 1, false), 1);
	assert_sides(g, "--p----- a00aaaaa b0bbbbbb");
}

static void refused_attributes_leave_both_sides(void **state)
{
	struct guest *g = *state;

	fake_kvm_fail_at(g->m->vm, 1, ENOMEM);
	assert_int_equal(exit_for(g, 17, 2, true), -ENOMEM);
	assert_sides(g, AS_BEFORE);
	assert_int_equal(conversions(g), 0);
}

static int convert_two(struct fixture *f)
{
	struct guest *g = f->with;
	int result = exit_for(g, 17, 2, true);

	if (result == 1)
		result = exit_for(g, 17, 2, false);
	return result == 1 ? 0 : result;
}

static void nothing_is_allocated(void **state)
{
	struct guest *g = *state;
	unsigned long calls = g->m->f->heap.calls;

	g->m->f->with = g;
	must(convert_two(g->m->f));
	assert_int_equal(g->m->f->heap.calls, calls);
}

/* ---- KVM_RUN ---- */

static bool answer_run(struct machine *m, unsigned long request, int *result)
{
	struct guest *g = m->data;

	if (request != KVM_RUN)
		return false;
	if (g->run_faults)
		fake_kvm_vcpu_fault(g->cpu, pages(17), true);
	*result = g->run_result;
	return true;
}

static void run_that_ends_with_a_fault_is_an_exit(void **state)
{
	struct guest *g = *state;

	g->m->data = g;
	g->m->answer = answer_run;
	g->run_faults = true;
	g->run_result = -EFAULT;
	must(kvmas_vcpu_run(g->vcpu));
	assert_int_equal(kvmas_vcpu_handle_exit(g->vcpu), 1);
	assert_sides(g, "-p------ a0aaaaaa bbbbbbbb");
	/* The reason is still that of before. */
	g->run_faults = false;
	assert_int_equal(kvmas_vcpu_run(g->vcpu), -EFAULT);
	must(kvmas_kvm_set_private(g->m->kvm, pages(17), pages(1), false));
	g->run_faults = true;
	g->run_result = -EHWPOISON;
	assert_int_equal(kvmas_vcpu_run(g->vcpu), -EHWPOISON);
}

/* Arm's KVM looks at the reason when it is entered again. */
static void other_exit_reasons_are_left_to_kvm(void **state)
{
	struct guest *g = *state;

	g->m->data = g;
	g->m->answer = answer_run;
	g->run_result = 0;
	g->cpu->run->exit_reason = KVM_EXIT_MMIO;
	must(kvmas_vcpu_run(g->vcpu));
	assert_int_equal(g->cpu->run->exit_reason, KVM_EXIT_MMIO);
}

/* ---- two who want the same page ---- */

struct rival {
	struct guest *g;
	pthread_t thread;
	pthread_t first; /* whose conversion it falls into */
	_Atomic bool go;
};

/* Shares the page, and writes to it. */
static void *share(void *arg)
{
	struct rival *rival = arg;
	int err;

	while (!atomic_load(&rival->go))
		sched_yield();
	err = kvmas_kvm_set_private(rival->g->m->kvm, pages(17), pages(1), false);
	rival->g->hva[pages(1)] = 'w';
	return (void *)(intptr_t)err;
}

/* Once KVM has been told that the page is private, the other may go, for as long as it can. */
static bool answer_slowly(struct machine *m, unsigned long request, int *result)
{
	const struct timespec while_ = {.tv_nsec = 20000000};
	struct kvm_memory_attributes set = {
		.address = pages(17), .size = pages(1), .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE};
	struct rival *rival = m->data;

	if (request != KVM_SET_MEMORY_ATTRIBUTES || !pthread_equal(pthread_self(), rival->first))
		return false;
	*result = fake_kvm_ioctl(m->vm, m->vm->fd, request, &set);
	atomic_store(&rival->go, true);
	nanosleep(&while_, NULL);
	return true;
}

static void page_that_is_shared_again_meanwhile_keeps_what_is_written_then(void **state)
{
	struct guest *g = *state;
	struct rival rival = {.g = g, .first = pthread_self()};
	void *err;

	g->m->data = &rival;
	g->m->answer = answer_slowly;
	must(pthread_create(&rival.thread, NULL, share, &rival));
	assert_int_equal(exit_for(g, 17, 1, true), 1);
	must(pthread_join(rival.thread, &err));
	assert_null(err);
	assert_sides(g, "-------- awaaaaaa bbbbbbbb");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(file_is_what_kvm_and_the_arguments_allow),
		PRIVATE_TEST(file_that_kvm_refuses_is_its_errno),
		PRIVATE_TEST(file_is_not_inherited),
		PRIVATE_TEST(attributes_are_checked_and_set),
		PRIVATE_TEST(attributes_stay_whatever_becomes_of_slots_and_transactions),
		PLAIN_TEST(vm_without_private_memory_is_eopnotsupp),
		PRIVATE_TEST(page_becomes_private_and_its_shared_side_is_gone),
		PRIVATE_TEST(page_becomes_shared_and_its_private_side_is_gone),
		PRIVATE_TEST(range_is_converted_through_all_that_shows_it),
		PRIVATE_TEST(range_that_is_not_all_shown_is_the_vmms),
		PRIVATE_TEST(page_of_two_sections_is_the_vmms),
		PRIVATE_TEST(nonsense_is_einval_and_unknown_flags_are_the_vmms),
		PRIVATE_TEST(vmm_may_refuse),
		PRIVATE_TEST(refused_attributes_leave_both_sides),
		PRIVATE_TEST(nothing_is_allocated),
		PRIVATE_TEST(run_that_ends_with_a_fault_is_an_exit),
		PRIVATE_TEST(other_exit_reasons_are_left_to_kvm),
		PRIVATE_TEST(page_that_is_shared_again_meanwhile_keeps_what_is_written_then),
	};

	return cmocka_run_group_tests_name("private", tests, NULL, NULL);
}

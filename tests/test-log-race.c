/* SPDX-License-Identifier: MIT */
/*
 * Dirty rings that are read while something else happens: a commit that is not over yet, on another
 * vCPU's thread; entries that KVM has not written.
 */
#include "fixture.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "fake-kvm.h"

enum { RING_SIZE = 65536, BLOCK_PAGES = 64 };

struct scene {
	struct fixture *f;
	struct fake_kvm *vm;
	struct kvmas_kvm *kvm;
	struct kvmas_region *root;
	struct kvmas_space *space;
	struct kvmas_client *client;
	struct fake_kvm_vcpu *cpus[2];
	struct kvmas_vcpu *vcpus[2];
	/* After KVM has made a slot, before the library knows. */
	void (*on_slot)(struct scene *s, const struct kvm_userspace_memory_region *slot);
	pthread_t thread;
	atomic_bool exited;
};

static int scene_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct scene *s = data;
	int result = fake_kvm_ioctl(s->vm, fd, request, arg);

	if (request == KVM_SET_USER_MEMORY_REGION && result == 0 && s->on_slot)
		s->on_slot(s, arg);
	return result;
}

static int hold_nobody(void *data)
{
	(void)data;
	return 0;
}

static void resume(void *data)
{
	(void)data;
}

static void add_vcpu(struct scene *s, unsigned index)
{
	struct fake_kvm_vcpu *cpu = fake_kvm_add_vcpu(s->vm);

	s->cpus[index] = cpu;
	must(kvmas_vcpu_add(s->kvm,
			    KVMAS_CONFIG(vcpu, .fd = cpu->fd, .run = cpu->run,
					 .run_size = cpu->run_size, .dirty_ring = cpu->ring),
			    &s->vcpus[index]));
}

static int scene_setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->f = fixture_new((struct kvmas_config){0});
	s->vm = fake_kvm_new(NULL);
	must(kvmas_kvm_new(s->f->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = s->vm->fd, .ioctl = scene_ioctl,
					.ioctl_data = s, .log = KVMAS_KVM_LOG_RING,
					.ring_size = RING_SIZE, .pause = hold_nobody,
					.resume = resume),
			   &s->kvm));
	s->root = make_container(s->f, "root", KVMAS_SIZE_MAX);
	s->space = make_space(s->f, "s", s->root);
	must(kvmas_kvm_bind(s->kvm, s->space, 0));
	must(kvmas_client_new(s->f->kvmas, "c", &s->client));
	must(kvmas_client_log_start(s->client, NULL, NULL));
	for (unsigned i = 0; i < LENGTH(s->vcpus); i++)
		add_vcpu(s, i);
	*state = s;
	return 0;
}

static int scene_teardown(void **state)
{
	struct scene *s = *state;

	for (unsigned i = 0; i < LENGTH(s->vcpus); i++)
		kvmas_vcpu_del(s->vcpus[i]);
	kvmas_client_unref(s->client);
	kvmas_kvm_unref(s->kvm);
	fixture_free(s->f);
	fake_kvm_free(s->vm);
	free(s);
	return 0;
}

#define SCENE_TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

static uint64_t taken(struct scene *s, struct kvmas_region *ram)
{
	uint64_t word = 0;

	must(kvmas_space_sync(s->space, 0, KVMAS_SIZE_MAX));
	assert_true(kvmas_client_take(s->client, block_of(ram), 0, BLOCK_PAGES, &word) >= 0);
	return word;
}

/* The second vCPU's ring is full. */
static void *exit_full(void *data)
{
	struct scene *s = data;

	s->cpus[1]->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	if (kvmas_vcpu_handle_exit(s->vcpus[1]) == 1)
		atomic_store(&s->exited, true);
	return NULL;
}

/* KVM has the slot, and the guest writes to it at once; another vCPU's exit has the rings read. It
 * may have to wait for the commit, so it is not waited for long. */
static void write_and_exit(struct scene *s, const struct kvm_userspace_memory_region *slot)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	s->on_slot = NULL;
	assert_int_equal(
		fake_kvm_vcpu_write(s->cpus[0], 0, slot->guest_phys_addr + 3 * page_size(), 1), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, exit_full, s), 0);
	for (unsigned i = 0; i < 300 && !atomic_load(&s->exited); i++)
		nanosleep(&ms, NULL);
}

static void page_written_before_the_commit_that_shows_it_is_over_is_told(void **state)
{
	struct scene *s = *state;
	struct kvmas_region *ram = make_ram(s->f, "ram", BLOCK_PAGES * page_size());

	s->on_slot = write_and_exit;
	add(s->root, ram, 0, 0);
	assert_null(s->on_slot);
	assert_int_equal(pthread_join(s->thread, NULL), 0);
	assert_true(atomic_load(&s->exited));
	assert_int_equal(taken(s, ram), 1 << 3);
}

/* Whoever maps the vCPU's fd can write there. */
static void forged_entry_in_an_unused_ring_hides_none_of_kvms(void **state)
{
	struct scene *s = *state;
	struct kvmas_region *ram = make_ram(s->f, "ram", BLOCK_PAGES * page_size());

	add(s->root, ram, 0, 0);
	s->cpus[0]->ring[5] = (struct kvm_dirty_gfn){.flags = KVM_DIRTY_GFN_F_DIRTY, .slot = 99};
	assert_int_equal(taken(s, ram), 0);
	assert_int_equal(fake_kvm_vcpu_write(s->cpus[0], 0, 3 * page_size(), 1), 0);
	assert_int_equal(taken(s, ram), 1 << 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(page_written_before_the_commit_that_shows_it_is_over_is_told),
		SCENE_TEST(forged_entry_in_an_unused_ring_hides_none_of_kvms),
	};

	return cmocka_run_group_tests_name("log-race", tests, NULL, NULL);
}

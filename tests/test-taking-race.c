/* SPDX-License-Identifier: MIT */
/*
 * Clients that copy memory while others write to it, and while what is shown changes. A client
 * starts to log, copies all, and from then on what it takes. Now and then all writers are held, and
 * after one more sync and take its copy must be what the memory is: then nothing was lost.
 *
 * Writers: devices like vhost in two spaces (vhost.h), of both kinds, and the VMM itself, which
 * marks what it stores.
 */
#include "vhost.h"

#include <sched.h>
#include <stdatomic.h>

enum { NDEVICES = 4, NCLIENTS = 2, ROUNDS = 600 };

struct scene {
	struct fixture *f;
	struct kvmas_ram *ram;
	struct kvmas_region *low;      /* the block, in the root */
	struct kvmas_region *high;     /* an alias of its second half */
	struct kvmas_region *odd;      /* a device of one page, over it */
	struct kvmas_space *spaces[2]; /* the root; `low` alone */
	struct vhost devices[NDEVICES];
	pthread_rwlock_t pause;
	atomic_bool stop;
	atomic_uint errors; /* calls that failed, on other threads */
	atomic_uint lost;   /* pages that a copy had wrong */
};

static void set_scene(struct fixture *f, struct scene *s)
{
	struct kvmas_region *root = make_container(f, "root", KVMAS_SIZE_MAX);
	uint64_t size = VHOST_PAGES * page_size();

	*s = (struct scene){.f = f};
	s->low = make_ram(f, "low", size);
	s->ram = block_of(s->low);
	s->high = make_alias(f, "high", s->low, size / 2, size / 2);
	s->odd = make_mmio(f, "odd", page_size());
	add(root, s->low, 0, 0);
	add(root, s->high, 4 * size, 0);
	add(root, s->odd, 5 * page_size(), 1);
	s->spaces[0] = make_space(f, "all", root);
	s->spaces[1] = make_space(f, "low", s->low);
	must(pthread_rwlock_init(&s->pause, NULL));
	for (unsigned i = 0; i < NDEVICES; i++) {
		struct vhost *device = &s->devices[i];

		device->ram = s->ram;
		device->arms = i & 2;
		device->pause = &s->pause;
		device->seed = i + 1;
	}
}

static void add_devices(struct scene *s)
{
	for (unsigned i = 0; i < NDEVICES; i++)
		vhost_add(&s->devices[i], s->spaces[i & 1]);
}

static void clear_scene(struct scene *s)
{
	for (unsigned i = 0; i < NDEVICES; i++)
		vhost_del(&s->devices[i]);
	must(pthread_rwlock_destroy(&s->pause));
	assert_int_equal(atomic_load(&s->errors), 0);
}

/* Other threads' results: counted, since an assert ends the wrong thread. */
static void expect(struct scene *s, bool right)
{
	if (!right)
		atomic_fetch_add(&s->errors, 1);
}

/* ---- those who write, and who changes what is shown ---- */

struct device_thread {
	struct scene *s;
	struct vhost *device;
	pthread_t thread;
};

static void *run_device(void *data)
{
	struct device_thread *self = data;

	while (!atomic_load(&self->s->stop)) {
		for (int i = 0; i < 20; i++)
			vhost_write(self->device);
		sched_yield();
	}
	return NULL;
}

static void *run_vmm(void *data)
{
	struct scene *s = data;
	uint64_t seed = 99;

	while (!atomic_load(&s->stop)) {
		uint64_t page = vhost_draw(&seed, VHOST_PAGES);

		pthread_rwlock_rdlock(&s->pause);
		vhost_count_up(s->ram, page);
		expect(s, kvmas_ram_mark(s->ram, page * page_size() + 7, 1) == 0);
		pthread_rwlock_unlock(&s->pause);
		sched_yield();
	}
	return NULL;
}

static void *run_committer(void *data)
{
	struct scene *s = data;
	struct kvmas_region *regions[] = {s->low, s->high, s->odd};
	uint64_t seed = 7;

	while (!atomic_load(&s->stop)) {
		struct kvmas_region *region = regions[vhost_draw(&seed, LENGTH(regions))];
		uint64_t offset = vhost_draw(&seed, 2 * VHOST_PAGES) * page_size();
		int err = kvmas_begin(s->f->kvmas);

		if (vhost_draw(&seed, 3) == 0)
			err |= kvmas_region_set_enabled(region, vhost_draw(&seed, 2));
		else if (region != s->low)
			err |= kvmas_region_set_offset(region, offset);
		err |= vhost_draw(&seed, 5) ? kvmas_commit(s->f->kvmas) : kvmas_abort(s->f->kvmas);
		expect(s, err == 0);
		sched_yield();
	}
	return NULL;
}

/* ---- who copies ---- */

struct consumer {
	struct scene *s;
	pthread_t thread;
	unsigned rhythm; /* rounds from one verification to the next */
	uint64_t seed;
	struct kvmas_client *client;
	uint64_t copy[VHOST_PAGES];
	uint64_t words[(VHOST_PAGES + 63) / 64];
};

static void copy_page(struct consumer *c, uint64_t page)
{
	c->copy[page] = vhost_number(c->s->ram, page);
}

static void sync_something(struct consumer *c, bool all)
{
	struct scene *s = c->s;
	unsigned way = all ? 0 : vhost_draw(&c->seed, 4);

	if (way == 0 || way == 1)
		expect(s, kvmas_space_sync(s->spaces[0], 0, KVMAS_SIZE_MAX) == 0);
	if (way == 0 || way == 2)
		expect(s, kvmas_space_sync(s->spaces[1], 0, KVMAS_SIZE_MAX) == 0);
	if (way == 3)
		expect(s, kvmas_region_sync(s->low, vhost_draw(&c->seed, VHOST_PAGES) * page_size(),
					    KVMAS_SIZE_MAX) == 0);
}

static void take_words(struct consumer *c, bool may_fail)
{
	struct scene *s = c->s;

	expect(s, kvmas_client_take(c->client, s->ram, 0, VHOST_PAGES, c->words) >= 0);
	if (may_fail && vhost_draw(&c->seed, 3) == 0) {
		expect(s, kvmas_client_put(c->client, s->ram, 0, VHOST_PAGES, c->words) == 0);
		return;
	}
	for (uint64_t page = 0; page < VHOST_PAGES; page++) {
		if (c->words[page / 64] >> (page % 64) & 1)
			copy_page(c, page);
	}
}

static int copy_run(void *data, const struct kvmas_dirty_run *run)
{
	struct consumer *c = data;

	if (vhost_draw(&c->seed, 10) == 0)
		return -EPIPE;
	for (uint64_t offset = 0; offset < run->size; offset += page_size())
		copy_page(c, (run->ram_offset + offset) / page_size());
	return 0;
}

static void take_something(struct consumer *c)
{
	struct scene *s = c->s;
	uint64_t from = vhost_draw(&c->seed, VHOST_PAGES) * page_size();
	int64_t result = 0;

	switch (vhost_draw(&c->seed, 3)) {
	case 0:
		take_words(c, true);
		break;
	case 1:
		result = kvmas_client_take_region(c->client, s->low, from,
						  VHOST_PAGES * page_size() - from, copy_run, c);
		break;
	default:
		result = kvmas_client_take_gpa(c->client, s->spaces[vhost_draw(&c->seed, 2)], from,
					       8 * VHOST_PAGES * page_size(), copy_run, c);
	}
	expect(s, result >= 0 || result == -EPIPE);
}

/* With all writers held, one more sync and take make the copy what the memory is. */
static void verify(struct consumer *c)
{
	pthread_rwlock_wrlock(&c->s->pause);
	sync_something(c, true);
	take_words(c, false);
	for (uint64_t page = 0; page < VHOST_PAGES; page++) {
		if (c->copy[page] != vhost_number(c->s->ram, page))
			atomic_fetch_add(&c->s->lost, 1);
		copy_page(c, page);
	}
	pthread_rwlock_unlock(&c->s->pause);
}

static void live(struct consumer *c, unsigned rounds)
{
	expect(c->s, kvmas_client_new(c->s->f->kvmas, "c", &c->client) == 0);
	expect(c->s, kvmas_client_log_start(c->client, NULL, NULL) == 0);
	for (uint64_t page = 0; page < VHOST_PAGES; page++)
		copy_page(c, page);
	for (unsigned i = 1; i <= rounds; i++) {
		if (vhost_draw(&c->seed, 2))
			sync_something(c, false);
		else
			take_something(c);
		if (i % c->rhythm == 0)
			verify(c);
		sched_yield();
	}
	verify(c);
	kvmas_client_unref(c->client);
}

static void *run_consumer(void *data)
{
	struct consumer *c = data;

	for (unsigned done = 0; done < ROUNDS; done += 30)
		live(c, 30);
	return NULL;
}

/* Let everybody run until the consumers have done. */
static void run_all(struct scene *s)
{
	struct device_thread devices[NDEVICES];
	struct consumer consumers[NCLIENTS];
	pthread_t vmm, committer;

	for (unsigned i = 0; i < NDEVICES; i++) {
		devices[i] = (struct device_thread){.s = s, .device = &s->devices[i]};
		must(pthread_create(&devices[i].thread, NULL, run_device, &devices[i]));
	}
	must(pthread_create(&vmm, NULL, run_vmm, s));
	must(pthread_create(&committer, NULL, run_committer, s));
	for (unsigned i = 0; i < NCLIENTS; i++) {
		consumers[i] = (struct consumer){.s = s, .rhythm = 3 + 8 * i, .seed = 1000 + i};
		must(pthread_create(&consumers[i].thread, NULL, run_consumer, &consumers[i]));
	}
	for (unsigned i = 0; i < NCLIENTS; i++)
		must(pthread_join(consumers[i].thread, NULL));
	atomic_store(&s->stop, true);
	for (unsigned i = 0; i < NDEVICES; i++)
		must(pthread_join(devices[i].thread, NULL));
	must(pthread_join(vmm, NULL));
	must(pthread_join(committer, NULL));
}

/* Also: each puts back what it cannot use, and sees it again; none steals what is another's. */
static void clients_with_different_rhythms_lose_nothing(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	add_devices(&s);
	run_all(&s);
	assert_int_equal(atomic_load(&s.lost), 0);
	for (unsigned i = 0; i < NDEVICES; i++) {
		assert_true(s.devices[i].nwrites > 0);
		assert_int_equal(s.devices[i].arms, s.devices[i].narmed > 0);
	}
	clear_scene(&s);
}

/* ---- the same with faults, which must be seen ---- */

static void device_that_is_never_armed_loses_pages(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	for (unsigned i = 0; i < NDEVICES; i++)
		s.devices[i].is_deaf = true;
	add_devices(&s);
	run_all(&s);
	assert_true(atomic_load(&s.lost) > 0);
	clear_scene(&s);
}

static void device_that_hands_nothing_over_when_a_section_goes_loses_pages(void **state)
{
	struct scene s;

	set_scene(*state, &s);
	for (unsigned i = 0; i < NDEVICES; i++)
		s.devices[i].is_sloppy = true;
	add_devices(&s);
	run_all(&s);
	assert_true(atomic_load(&s.lost) > 0);
	clear_scene(&s);
}

/* ---- a client that comes late ---- */

/* The page was told to the first client, which takes it when the second has read it already. */
static void client_that_comes_late_hears_of_a_page_that_others_were_told_of(void **state)
{
	struct kvmas_client *clients[2];
	uint64_t words[2];
	struct vhost *device;
	struct scene s;

	set_scene(*state, &s);
	device = &s.devices[2];
	assert_true(device->arms);
	vhost_add(device, s.spaces[1]);
	must(kvmas_client_new(s.f->kvmas, "early", &clients[0]));
	must(kvmas_client_log_start(clients[0], NULL, NULL));
	vhost_write(device);
	must(kvmas_space_sync(s.spaces[1], 0, KVMAS_SIZE_MAX));
	must(kvmas_client_new(s.f->kvmas, "late", &clients[1]));
	must(kvmas_client_log_start(clients[1], NULL, NULL));
	device->seed = 3; /* as it was: the same page once more */
	vhost_write(device);
	assert_int_equal(device->nunnoticed, 0);
	must(kvmas_space_sync(s.spaces[1], 0, KVMAS_SIZE_MAX));
	assert_int_equal(kvmas_client_take(clients[1], s.ram, 0, VHOST_PAGES, words), 1);
	assert_int_equal(kvmas_client_take(clients[0], s.ram, 0, VHOST_PAGES, words), 1);
	kvmas_client_unref(clients[0]);
	kvmas_client_unref(clients[1]);
	vhost_del(device);
	must(pthread_rwlock_destroy(&s.pause));
}

/* ---- a client that goes ---- */

static void *sync_on_and_on(void *data)
{
	struct scene *s = data;

	while (!atomic_load(&s->stop)) {
		for (unsigned i = 0; i < NDEVICES; i++)
			vhost_write(&s->devices[i]);
		expect(s, kvmas_space_sync(s->spaces[0], 0, KVMAS_SIZE_MAX) == 0);
		expect(s, kvmas_region_sync(s->low, 0, KVMAS_SIZE_MAX) == 0);
	}
	return NULL;
}

static void clients_may_go_while_others_sync(void **state)
{
	struct kvmas_client *stays;
	pthread_t thread;
	struct scene s;

	set_scene(*state, &s);
	add_devices(&s);
	must(kvmas_client_new(s.f->kvmas, "stays", &stays));
	must(kvmas_client_log_start(stays, NULL, NULL));
	must(pthread_create(&thread, NULL, sync_on_and_on, &s));
	for (int i = 0; i < 100; i++) {
		struct kvmas_client *goes;
		uint64_t words[2];

		must(kvmas_client_new(s.f->kvmas, "goes", &goes));
		must(kvmas_client_log_start(goes, NULL, i & 1 ? s.spaces[1] : NULL));
		assert_true(kvmas_client_take(goes, s.ram, 0, VHOST_PAGES, words) >= 0);
		kvmas_client_unref(goes);
		must(kvmas_reclaim(s.f->kvmas));
	}
	atomic_store(&s.stop, true);
	must(pthread_join(thread, NULL));
	kvmas_client_unref(stays);
	clear_scene(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(clients_with_different_rhythms_lose_nothing),
		TEST(device_that_is_never_armed_loses_pages),
		TEST(device_that_hands_nothing_over_when_a_section_goes_loses_pages),
		TEST(client_that_comes_late_hears_of_a_page_that_others_were_told_of),
		TEST(clients_may_go_while_others_sync),
	};

	return cmocka_run_group_tests_name("taking-race", tests, NULL, NULL);
}

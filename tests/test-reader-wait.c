/* SPDX-License-Identifier: MIT */
/* kvmas_synchronize: what it waits for, and what it does not (doc/threads.md, J). */
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "dispatch.h"
#include "fixture.h"

/* A thread that waits, and says what came of it. */
struct waiter {
	struct kvmas *kvmas;
	pthread_t thread;
	atomic_bool done;
	int result;
};

static void pause_for_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void *wait_for_readers(void *data)
{
	struct waiter *waiter = data;

	waiter->result = kvmas_synchronize(waiter->kvmas);
	atomic_store(&waiter->done, true);
	return NULL;
}

static void start(struct waiter *waiter, struct fixture *f)
{
	*waiter = (struct waiter){.kvmas = f->kvmas};
	must(pthread_create(&waiter->thread, NULL, wait_for_readers, waiter));
}

/* It is still waiting some time later. */
static void assert_waits(struct waiter *waiter)
{
	pause_for_ms(20);
	assert_false(atomic_load(&waiter->done));
}

static void assert_returns(struct waiter *waiter)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 10;
	must(pthread_timedjoin_np(waiter->thread, NULL, &end));
	assert_int_equal(waiter->result, 0);
}

static struct kvmas_space *some_space(struct fixture *f)
{
	return make_space(f, "s", make_mmio(f, "a", 0x1000));
}

/* ---- what is waited for ---- */

static void without_a_look_it_returns_at_once(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);

	kvmas_view_release(f->reader, view);
	must(kvmas_synchronize(f->kvmas));
}

static void look_that_began_before_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct waiter waiter;

	start(&waiter, f);
	assert_waits(&waiter);
	kvmas_view_release(f->reader, view);
	assert_returns(&waiter);
}

static void look_that_began_later_is_not(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct waiter waiter;

	start(&waiter, f);
	assert_waits(&waiter);
	kvmas_view_release(f->reader, view);
	view = kvmas_view_acquire(f->reader, space);
	assert_returns(&waiter);
	kvmas_view_release(f->reader, view);
}

static void each_of_several_pins_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	struct kvmas_space *other = make_space(f, "t", make_mmio(f, "b", 0x1000));
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	const struct kvmas_view *later = kvmas_view_acquire(f->reader, other);
	struct waiter waiter;

	start(&waiter, f);
	assert_waits(&waiter);
	kvmas_view_release(f->reader, view);
	assert_waits(&waiter);
	kvmas_view_release(f->reader, later);
	assert_returns(&waiter);
}

/* A thread that always has a view need not let go of all at one time. */
static void later_look_that_overlaps_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	const struct kvmas_view *later;
	struct waiter waiter;

	start(&waiter, f);
	assert_waits(&waiter);
	later = kvmas_view_acquire(f->reader, space);
	kvmas_view_release(f->reader, view);
	assert_returns(&waiter);
	kvmas_view_release(f->reader, later);
}

/* More than are pinned: the rest is counted. */
static void view_that_is_counted_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	struct kvmas_space *other = make_space(f, "t", make_mmio(f, "b", 0x1000));
	const struct kvmas_view *views[KAS_PINS];
	const struct kvmas_view *counted;
	struct waiter waiter;

	for (int i = 0; i < KAS_PINS; i++)
		views[i] = kvmas_view_acquire(f->reader, space);
	counted = kvmas_view_acquire(f->reader, other);
	start(&waiter, f);
	for (int i = 0; i < KAS_PINS; i++)
		kvmas_view_release(f->reader, views[i]);
	assert_waits(&waiter);
	kvmas_view_release(f->reader, counted);
	assert_returns(&waiter);
}

static void two_may_wait(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	const struct kvmas_view *other;
	struct kvmas_reader *reader;
	struct waiter first;
	struct waiter second;

	must(kvmas_reader_add(f->kvmas, &reader));
	start(&first, f);
	assert_waits(&first);
	other = kvmas_view_acquire(reader, space);
	start(&second, f);
	assert_waits(&second);
	kvmas_view_release(f->reader, view);
	assert_waits(&second);
	kvmas_view_release(reader, other);
	assert_returns(&first);
	assert_returns(&second);
	kvmas_reader_del(reader);
}

static void readers_that_come_and_go_do_not_disturb(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct kvmas_reader *readers[8];
	struct waiter waiter;

	for (unsigned i = 0; i < LENGTH(readers); i++)
		must(kvmas_reader_add(f->kvmas, &readers[i]));
	start(&waiter, f);
	for (unsigned round = 0; round < 50; round++) {
		unsigned i = round % LENGTH(readers);

		kvmas_reader_del(readers[i]);
		must(kvmas_reader_add(f->kvmas, &readers[i]));
		kvmas_view_release(readers[i], kvmas_view_acquire(readers[i], space));
		pause_for_ms(0);
	}
	assert_waits(&waiter);
	for (unsigned i = 0; i < LENGTH(readers); i++)
		kvmas_reader_del(readers[i]);
	kvmas_view_release(f->reader, view);
	assert_returns(&waiter);
}

/* The reader goes with its thread, after its last release. */
static void reader_that_goes_is_waited_for_no_more(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view;
	struct kvmas_reader *reader;
	struct waiter waiter;

	must(kvmas_reader_add(f->kvmas, &reader));
	view = kvmas_view_acquire(reader, space);
	start(&waiter, f);
	assert_waits(&waiter);
	kvmas_view_release(reader, view);
	kvmas_reader_del(reader);
	assert_returns(&waiter);
}

static void other_kvmas_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	struct fixture *other = fixture_new((struct kvmas_config){0});
	const struct kvmas_view *view = kvmas_view_acquire(other->reader, some_space(other));

	must(kvmas_synchronize(f->kvmas));
	kvmas_view_release(other->reader, view);
	fixture_free(other);
}

/* ---- callbacks ---- */

struct callback {
	struct fixture *f;
	struct kvmas_space *space;
	atomic_bool inside;
	atomic_bool go_on;
	int result; /* of a wait from inside */
};

static int linger(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct callback *callback = opaque;

	(void)access;
	(void)value;
	callback->result = kvmas_synchronize(callback->f->kvmas);
	atomic_store(&callback->inside, true);
	while (!atomic_load(&callback->go_on))
		pause_for_ms(1);
	return 0;
}

static void access_device(struct callback *callback)
{
	struct kvmas_reader *reader;
	struct dispatch dispatch = {.space = callback->space, .write = true};
	unsigned char byte = 0;

	if (kvmas_reader_add(callback->f->kvmas, &reader))
		return;
	dispatch.reader = reader;
	kas_dispatch(&dispatch, 0, &byte, 1, NULL);
	kvmas_reader_del(reader);
}

static void *run_callback(void *data)
{
	access_device(data);
	return NULL;
}

static void callback_init(struct callback *callback, struct fixture *f)
{
	static const struct kvmas_ops ops = {sizeof(ops), .write = linger};
	struct kvmas_region *region;

	*callback = (struct callback){.f = f};
	must(kvmas_region_new(f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "lingers",
					   .size = 1, .ops = &ops, .opaque = callback),
			      &region));
	callback->space = make_space(f, "s", region);
	kvmas_region_unref(region);
}

static void callback_of_another_thread_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct callback callback;
	struct waiter waiter;
	pthread_t thread;

	callback_init(&callback, f);
	must(pthread_create(&thread, NULL, run_callback, &callback));
	while (!atomic_load(&callback.inside))
		pause_for_ms(1);
	start(&waiter, f);
	assert_waits(&waiter);
	atomic_store(&callback.go_on, true);
	assert_returns(&waiter);
	must(pthread_join(thread, NULL));
}

static void inside_a_callback_it_returns_edeadlk(void **state)
{
	struct callback callback;

	callback_init(&callback, *state);
	atomic_store(&callback.go_on, true);
	access_device(&callback);
	assert_int_equal(callback.result, -EDEADLK);
}

static void with_a_view_pinned_it_returns_edeadlk(void **state)
{
	struct fixture *f = *state;
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, some_space(f));

	assert_int_equal(kvmas_synchronize(f->kvmas), -EDEADLK);
	kvmas_view_release(f->reader, view);
	must(kvmas_synchronize(f->kvmas));
}

static void with_a_view_counted_it_returns_edeadlk(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	struct kvmas_space *other = make_space(f, "t", make_mmio(f, "b", 0x1000));
	const struct kvmas_view *views[KAS_PINS];
	const struct kvmas_view *counted;
	int result;

	for (int i = 0; i < KAS_PINS; i++)
		views[i] = kvmas_view_acquire(f->reader, space);
	counted = kvmas_view_acquire(f->reader, other);
	for (int i = 0; i < KAS_PINS; i++)
		kvmas_view_release(f->reader, views[i]);
	result = kvmas_synchronize(f->kvmas);
	kvmas_view_release(f->reader, counted);
	assert_int_equal(result, -EDEADLK);
}

/* Nobody is kept from waiting by who cannot. */
static void refused_wait_leaves_no_trace(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	struct waiter waiter;

	start(&waiter, f);
	assert_waits(&waiter);
	assert_int_equal(kvmas_synchronize(f->kvmas), -EDEADLK);
	assert_waits(&waiter);
	kvmas_view_release(f->reader, view);
	assert_returns(&waiter);
}

/* ---- the transaction lock ---- */

static void inside_a_transaction_it_returns_ebusy(void **state)
{
	struct fixture *f = *state;

	must(kvmas_begin(f->kvmas));
	assert_int_equal(kvmas_synchronize(f->kvmas), -EBUSY);
	must(kvmas_abort(f->kvmas));
	must(kvmas_synchronize(f->kvmas));
}

static void wait_inside(struct fixture *f)
{
	note(f, "wait: %s", kvmas_synchronize(f->kvmas) == -EBUSY ? "busy" : "not busy");
}

static void inside_a_listener_it_returns_ebusy(void **state)
{
	struct fixture *f = *state;
	struct kvmas_space *space = some_space(f);

	f->inside = wait_inside;
	make_listener(f, space, "x", 0);
	f->inside = NULL;
	assert_notes(f, "x begin\nwait: busy\nx add 0000-0fff mmio a+0x0\nwait: busy\n"
			"x commit\nwait: busy\n");
}

static void transaction_of_another_thread_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	struct waiter waiter;

	must(kvmas_begin(f->kvmas));
	start(&waiter, f);
	assert_returns(&waiter);
	must(kvmas_abort(f->kvmas));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_a_look_it_returns_at_once),
		TEST(look_that_began_before_is_waited_for),
		TEST(look_that_began_later_is_not),
		TEST(each_of_several_pins_is_waited_for),
		TEST(later_look_that_overlaps_is_not_waited_for),
		TEST(view_that_is_counted_is_waited_for),
		TEST(two_may_wait),
		TEST(readers_that_come_and_go_do_not_disturb),
		TEST(reader_that_goes_is_waited_for_no_more),
		TEST(other_kvmas_is_not_waited_for),
		TEST(callback_of_another_thread_is_waited_for),
		TEST(inside_a_callback_it_returns_edeadlk),
		TEST(with_a_view_pinned_it_returns_edeadlk),
		TEST(with_a_view_counted_it_returns_edeadlk),
		TEST(refused_wait_leaves_no_trace),
		TEST(inside_a_transaction_it_returns_ebusy),
		TEST(inside_a_listener_it_returns_ebusy),
		TEST(transaction_of_another_thread_is_not_waited_for),
	};

	alarm(30); /* a wait for oneself has no end */
	return cmocka_run_group_tests_name("reader-wait", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * A flash that changes the map from inside its own write, on two threads at once: it leaves array
 * mode and comes back (romd), or takes itself away and puts another in its place (doc/threads.md,
 * I). On two vCPUs: tests/live.
 *
 * KVMAS_SECONDS (2): how long, both together.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "dispatch.h"
#include "fixture.h"

enum { NGUESTS = 2, NBURIED = 1024, ARRAY = 0x41, STATUS = 0x53, ALIVE = 0x600d, DEAD = 0xdead };

struct bay;

/* The opaque pointer of each flash. */
struct flash {
	struct bay *bay;
	struct kvmas_region *region;
	atomic_uint life;   /* ALIVE until its destroy hook */
	atomic_int running; /* callbacks */
};

struct bay {
	struct fixture *f;
	struct kvmas_region *root;
	struct kvmas_space *space;
	struct kvmas_ram *ram;
	bool replace;        /* a write takes the flash away, or else has it change its mode */
	struct flash *flash; /* under the transaction lock, as all down to made */
	struct flash *buried[NBURIED]; /* ended, not yet freed: whoever comes late finds it dead */
	bool array;
	unsigned made;
	unsigned ended;
	atomic_bool stop;
	atomic_ulong writes;
	atomic_ulong reads[2]; /* of status, of the array */
	atomic_uint failures;
};

static void expect_at(struct bay *bay, bool right, int line)
{
	if (!right && atomic_fetch_add(&bay->failures, 1) < 10)
		fprintf(stderr, "not so: line %d\n", line);
}

#define expect(bay, right) expect_at(bay, right, __LINE__)

static void end_flash(void *opaque)
{
	struct flash *flash = opaque;
	struct flash **grave;

	expect(flash->bay, atomic_exchange(&flash->life, DEAD) == ALIVE);
	expect(flash->bay, atomic_load(&flash->running) == 0);
	grave = &flash->bay->buried[flash->bay->ended++ % NBURIED];
	free(*grave);
	*grave = flash;
}

static int put_flash(struct bay *bay);

/* In a transaction. Whoever comes second finds another there. */
static void replace(struct bay *bay, struct flash *flash)
{
	if (bay->flash != flash)
		return;
	expect(bay, kvmas_region_del(flash->region) == 0);
	kvmas_region_unref(flash->region);
	expect(bay, put_flash(bay) == 0);
}

static void change_mode(struct bay *bay, struct flash *flash)
{
	bay->array = !bay->array;
	expect(bay, kvmas_region_set_romd(flash->region, bay->array) == 0);
}

static int write_flash(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct flash *flash = opaque;
	struct bay *bay = flash->bay;

	(void)access;
	(void)value;
	atomic_fetch_add(&flash->running, 1);
	expect(bay, kvmas_begin(bay->f->kvmas) == 0);
	if (bay->replace)
		replace(bay, flash);
	else
		change_mode(bay, flash);
	expect(bay, kvmas_commit(bay->f->kvmas) == 0);
	expect(bay, kvmas_reclaim(bay->f->kvmas) == 0);
	expect(bay, atomic_load(&flash->life) == ALIVE);
	atomic_fetch_sub(&flash->running, 1);
	return 0;
}

static int read_flash(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct flash *flash = opaque;

	(void)access;
	expect(flash->bay, atomic_load(&flash->life) == ALIVE);
	*value = STATUS;
	return 0;
}

static int put_flash(struct bay *bay)
{
	static const struct kvmas_ops ops = {sizeof(ops), read_flash, write_flash};
	struct flash *flash = calloc(1, sizeof(*flash));
	int err;

	if (!flash)
		return -ENOMEM;
	flash->bay = bay;
	atomic_init(&flash->life, ALIVE);
	err = kvmas_region_new(bay->f->kvmas,
			       KVMAS_CONFIG(region, .kind = KVMAS_REGION_ROMD, .name = "flash",
					    .size = page_size(), .ram = bay->ram, .ops = &ops,
					    .opaque = flash, .destroy = end_flash),
			       &flash->region);
	if (err) {
		free(flash);
		return err;
	}
	bay->made++;
	bay->array = true;
	bay->flash = flash;
	return kvmas_region_add(bay->root, flash->region, 0, 0);
}

static void access_flash(struct bay *bay, struct kvmas_reader *reader, bool write)
{
	struct dispatch dispatch = {
		.reader = reader, .space = bay->space, .write = write, .whole = true};
	unsigned char byte = 0;

	kas_dispatch(&dispatch, 4, &byte, 1, NULL);
	if (write) {
		atomic_fetch_add(&bay->writes, 1);
		return;
	}
	expect(bay, byte == ARRAY || byte == STATUS);
	atomic_fetch_add(&bay->reads[byte == ARRAY], 1);
}

static void *run_guest(void *data)
{
	struct bay *bay = data;
	struct kvmas_reader *reader;

	expect(bay, kvmas_reader_add(bay->f->kvmas, &reader) == 0);
	while (!atomic_load(&bay->stop)) {
		access_flash(bay, reader, true);
		access_flash(bay, reader, false);
	}
	kvmas_reader_del(reader);
	return NULL;
}

static void bay_init(struct bay *bay, struct fixture *f, bool replaces)
{
	*bay = (struct bay){.f = f, .replace = replaces};
	bay->root = make_container(f, "root", KVMAS_SIZE_MAX);
	bay->ram = make_block(f, "array", 1);
	memset(kvmas_ram_get_hva(bay->ram), ARRAY, page_size());
	must(kvmas_begin(f->kvmas));
	must(put_flash(bay));
	must(kvmas_commit(f->kvmas));
	bay->space = make_space(f, "s", bay->root);
}

static void bay_fini(struct bay *bay)
{
	must(kvmas_region_del(bay->flash->region));
	kvmas_region_unref(bay->flash->region);
	kvmas_ram_unref(bay->ram);
	must(kvmas_reclaim(bay->f->kvmas));
	assert_int_equal(bay->ended, bay->made);
	for (int i = 0; i < NBURIED; i++)
		free(bay->buried[i]);
	assert_int_equal(atomic_load(&bay->failures), 0);
}

static double seconds(void)
{
	const char *text = getenv("KVMAS_SECONDS");

	return text ? strtod(text, NULL) : 2;
}

static void run(struct fixture *f, bool replaces)
{
	pthread_t guests[NGUESTS];
	struct bay bay;

	bay_init(&bay, f, replaces);
	for (int i = 0; i < NGUESTS; i++)
		must(pthread_create(&guests[i], NULL, run_guest, &bay));
	for (double left = seconds() / 2; left > 0; left -= 0.01)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	atomic_store(&bay.stop, true);
	for (int i = 0; i < NGUESTS; i++)
		must(pthread_join(guests[i], NULL));
	print_message("%lu writes, %u flashes, reads: %lu of status, %lu of the array\n",
		      atomic_load(&bay.writes), bay.made, atomic_load(&bay.reads[0]),
		      atomic_load(&bay.reads[1]));
	assert_true(atomic_load(&bay.reads[1]) > 0);
	assert_true(replaces ? bay.made > 2 : atomic_load(&bay.reads[0]) > 0);
	bay_fini(&bay);
}

static void flash_may_take_itself_away_in_its_own_write(void **state)
{
	run(*state, true);
}

static void flash_may_change_its_mode_in_its_own_write(void **state)
{
	run(*state, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(flash_may_take_itself_away_in_its_own_write),
		TEST(flash_may_change_its_mode_in_its_own_write),
	};

	return cmocka_run_group_tests_name("views-flash", tests, NULL, NULL);
}

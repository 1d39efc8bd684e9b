/* SPDX-License-Identifier: MIT */
/*
 * What a sync touches: of 64 logged slots one is dirty; of the others no word, of whatever there is
 * a bitmap for, is read or written twice, and none of the clients' at all.
 *
 * The library's bitmaps, what is noted of each slot, and the buffer for logs are put on pages of
 * their own, to which there is no access while a sync runs: each access faults, is written down,
 * and is let through for one instruction, by the processor's trap flag. So this is for x86.
 */
#include "kvm-fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

enum {
	NSLOTS = 64,
	DIRTY = 40, /* the slot that is */
	/* A bitmap of it is of no size that anything else has. */
	SLOT_PAGES = 64 * 701,
	BITMAP_SIZE = SLOT_PAGES / 8,
	MAX_HEAD = 300, /* what may be in one allocation with it */
	MAX_AREAS = 1024,
	NCLIENTS = 2,
	TRAP_FLAG = 1 << 8,
};

/* An allocation, at the end of pages of its own. */
struct area {
	unsigned char *pages; /* mapped, so many bytes */
	size_t mapped;
	unsigned char *start;
	size_t size;
	uint8_t *touched; /* each word: how often, since the watch began, or KVM wrote to it */
	uint64_t total;   /* touches since the watch began */
};

/* A signal handler has no argument of its own. */
static struct area areas[MAX_AREAS];
static unsigned nareas;
static bool watching;
static unsigned nrereads; /* logs of which some word was read twice, before the next was read */
static struct area *opened[4]; /* by one instruction */
static unsigned nopened;

static struct area *find_area(const void *address)
{
	for (unsigned i = 0; i < nareas; i++) {
		if ((const unsigned char *)address >= areas[i].pages &&
		    (const unsigned char *)address < areas[i].pages + areas[i].mapped)
			return &areas[i];
	}
	return NULL;
}

static void protect(const struct area *area, bool closed)
{
	if (mprotect(area->pages, area->mapped, closed ? PROT_NONE : PROT_READ | PROT_WRITE))
		abort();
}

/* ---- the watch ---- */

static void on_fault(int signal, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	struct area *area = find_area(info->si_addr);
	size_t offset;

	(void)signal;
	if (!area || !watching)
		abort();
	offset = (size_t)((unsigned char *)info->si_addr - area->pages);
	if (area->touched[offset / 8] < UINT8_MAX)
		area->touched[offset / 8]++;
	area->total++;
	protect(area, false);
	if (nopened == LENGTH(opened))
		abort();
	opened[nopened++] = area;
	user->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)signal;
	(void)info;
	while (nopened)
		protect(opened[--nopened], true);
	user->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void watch(bool on)
{
	watching = on;
	if (on)
		nrereads = 0;
	for (unsigned i = 0; i < nareas; i++) {
		if (areas[i].mapped)
			protect(&areas[i], on);
		if (on && areas[i].mapped) {
			memset(areas[i].touched, 0, areas[i].mapped / 8);
			areas[i].total = 0;
		}
	}
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};

	action.sa_sigaction = handler;
	must(sigaction(signal, &action, NULL));
}

/* ---- the heap ---- */

static void *new_area(size_t size)
{
	struct area *area = &areas[nareas++];
	size_t page = page_size();

	if (nareas > MAX_AREAS)
		abort();
	area->size = size;
	area->mapped = (size + page - 1) / page * page;
	area->pages = mmap(NULL, area->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	area->touched = calloc(area->mapped / 8, 1);
	if (area->pages == MAP_FAILED || !area->touched)
		abort();
	area->start = area->pages + (area->mapped - size) / 16 * 16;
	return area->start;
}

static void free_area(struct area *area)
{
	munmap(area->pages, area->mapped);
	free(area->touched);
	*area = (struct area){0};
}

static void *watched_realloc(void *data, void *ptr, size_t size)
{
	struct area *area = ptr ? find_area(ptr) : NULL;
	void *grown;

	(void)data;
	if (!area && (ptr || size < BITMAP_SIZE || size > BITMAP_SIZE + MAX_HEAD)) {
		if (size)
			return realloc(ptr, size);
		free(ptr);
		return NULL;
	}
	if (size == 0) {
		free_area(area);
		return NULL;
	}
	grown = new_area(size);
	if (area) {
		memcpy(grown, area->start, area->size < size ? area->size : size);
		free_area(area);
	}
	return grown;
}

/* ---- what was touched ---- */

/* The words of the bitmap, that are the last of an allocation or nearly so. */
static unsigned most_touches(const struct area *area)
{
	size_t first = (size_t)(area->start - area->pages) / 8;
	size_t head = area->size > BITMAP_SIZE ? MAX_HEAD / 8 : 0;
	unsigned most = 0;

	for (size_t i = first + head; i < area->mapped / 8; i++) {
		if (area->touched[i] > most)
			most = area->touched[i];
	}
	return most;
}

/* ---- the machine ---- */

struct scene {
	struct kvmas *kvmas;
	struct fake_kvm *vm;
	struct kvmas_kvm *kvm;
	struct kvmas_space *space;
	struct kvmas_ram *blocks[NSLOTS];
	struct kvmas_client *clients[NCLIENTS];
	void *memory; /* of all blocks */
};

/* What KVM writes is none of the library's touches. */
static int ioctl_in_the_open(void *data, int fd, unsigned long request, void *arg)
{
	const struct kvm_dirty_log *log = arg;
	struct area *area = request == KVM_GET_DIRTY_LOG ? find_area(log->dirty_bitmap) : NULL;
	bool closed = area && watching;
	int result;

	if (closed) {
		protect(area, false);
		nrereads += most_touches(area) > 1;
		memset(area->touched, 0, area->mapped / 8);
	}
	result = fake_kvm_ioctl(data, fd, request, arg);
	if (closed)
		protect(area, true);
	return result;
}

static void add_slot(struct scene *s, struct kvmas_region *root, unsigned i)
{
	struct kvmas_region *region;

	must(kvmas_ram_new(s->kvmas,
			   KVMAS_CONFIG(ram, .name = "ram", .source = KVMAS_RAM_CALLER,
					.hva = s->memory, .size = pages(SLOT_PAGES)),
			   &s->blocks[i]));
	must(kvmas_region_new(s->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "ram",
					   .size = pages(SLOT_PAGES), .ram = s->blocks[i]),
			      &region));
	must(kvmas_region_add(root, region, i * pages(2 * SLOT_PAGES), 0));
	kvmas_region_unref(region);
}

static void set_scene(struct scene *s, enum kvmas_kvm_log log)
{
	struct kvmas_config heap = {.struct_size = sizeof(heap), .realloc = watched_realloc};
	struct kvmas_region *root;

	*s = (struct scene){.vm = fake_kvm_new(NULL)};
	s->memory = mmap(NULL, pages(SLOT_PAGES), PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(s->memory != MAP_FAILED);
	must(kvmas_new(&heap, &s->kvmas));
	for (unsigned i = 0; i < NCLIENTS; i++)
		must(kvmas_client_new(s->kvmas, "client", &s->clients[i]));
	must(kvmas_region_new(s->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER, .name = "root",
					   .size = KVMAS_SIZE_MAX),
			      &root));
	for (unsigned i = 0; i < NSLOTS; i++)
		add_slot(s, root, i);
	must(kvmas_space_new(s->kvmas, "space", root, &s->space));
	kvmas_region_unref(root);
	must(kvmas_kvm_new(s->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = s->vm->fd, .ioctl = ioctl_in_the_open,
					.ioctl_data = s->vm, .log = log),
			   &s->kvm));
	must(kvmas_client_log_start(s->clients[0], NULL, NULL));
	must(kvmas_kvm_bind(s->kvm, s->space, 0));
	assert_int_equal(s->vm->spaces[0].nslots, NSLOTS);
	handle(SIGSEGV, on_fault);
	handle(SIGTRAP, on_trap);
}

static void strike_scene(struct scene *s)
{
	must(kvmas_kvm_unbind(s->kvm, 0));
	kvmas_kvm_unref(s->kvm);
	kvmas_space_unref(s->space);
	for (unsigned i = 0; i < NCLIENTS; i++)
		kvmas_client_unref(s->clients[i]);
	for (unsigned i = 0; i < NSLOTS; i++)
		kvmas_ram_unref(s->blocks[i]);
	kvmas_unref(s->kvmas);
	munmap(s->memory, pages(SLOT_PAGES));
	fake_kvm_free(s->vm);
	for (unsigned i = 0; i < nareas; i++)
		assert_int_equal(areas[i].mapped, 0);
	nareas = 0;
}

static void sync_watched(struct scene *s)
{
	watch(true);
	must(kvmas_space_sync(s->space, 0, KVMAS_SIZE_MAX));
	watch(false);
}

struct touches {
	unsigned areas; /* how many are watched */
	unsigned some;  /* of those: of which some word of the bitmap was touched */
	unsigned twice; /* some word so was, twice; logs that were read before count, too */
};

static struct touches count_touches(void)
{
	struct touches touches = {.twice = nrereads};

	for (unsigned i = 0; i < nareas; i++) {
		unsigned most = areas[i].mapped ? most_touches(&areas[i]) : 0;

		touches.areas += areas[i].mapped > 0;
		touches.some += most > 0;
		touches.twice += most > 1;
	}
	return touches;
}

static const enum kvmas_kvm_log logs[] = {KVMAS_KVM_LOG_AUTO, KVMAS_KVM_LOG_MANUAL};

/* Areas: the buffer, a bitmap for each client and slot, and, to be armed, one for each slot. */
static unsigned expected_areas(enum kvmas_kvm_log log)
{
	return 1 + NSLOTS * (NCLIENTS + (log == KVMAS_KVM_LOG_MANUAL));
}

static void sync_of_clean_slots_reads_each_word_of_their_logs_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LENGTH(logs); i++) {
		struct touches touches;
		struct scene s;

		set_scene(&s, logs[i]);
		sync_watched(&s);
		touches = count_touches();
		assert_int_equal(touches.areas, expected_areas(logs[i]));
		assert_int_equal(touches.some, 1); /* the buffer */
		assert_int_equal(touches.twice, 0);
		strike_scene(&s);
	}
}

static void sync_with_one_dirty_slot_touches_no_bitmap_of_the_others(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LENGTH(logs); i++) {
		uint64_t bits[SLOT_PAGES / 64];
		struct touches touches;
		struct scene s;

		set_scene(&s, logs[i]);
		must(fake_kvm_write(s.vm, 0, DIRTY * pages(2 * SLOT_PAGES), pages(SLOT_PAGES)));
		sync_watched(&s);
		touches = count_touches();
		/* The buffer, whose last reader was the last slot; and what the dirty one has. */
		assert_int_equal(touches.some, expected_areas(logs[i]) / NSLOTS + 1);
		assert_true(nrereads <= 1);
		for (unsigned client = 0; client < NCLIENTS; client++)
			assert_int_equal(kvmas_client_take(s.clients[client], s.blocks[DIRTY], 0,
							   SLOT_PAGES, bits),
					 SLOT_PAGES);
		/* The next one finds all of them clean. */
		sync_watched(&s);
		touches = count_touches();
		assert_int_equal(touches.some, 1);
		assert_int_equal(touches.twice, 0);
		strike_scene(&s);
	}
}

/* The watch must see what is touched twice. */
static void second_look_is_noticed(void **state)
{
	struct scene s;
	struct area *buffer;
	uint64_t sum = 0;

	(void)state;
	set_scene(&s, KVMAS_KVM_LOG_AUTO);
	buffer = &areas[nareas - 1];
	for (unsigned times = 1; times < 3; times++) {
		struct touches touches;

		watch(true);
		for (unsigned i = 0; i < times; i++)
			sum += ((volatile uint64_t *)(void *)buffer->start)[BITMAP_SIZE / 8 - 1];
		watch(false);
		touches = count_touches();
		assert_int_equal(touches.some, 1);
		assert_int_equal(touches.twice, times - 1);
	}
	assert_int_equal(sum, 0);
	strike_scene(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(second_look_is_noticed),
		cmocka_unit_test(sync_of_clean_slots_reads_each_word_of_their_logs_once),
		cmocka_unit_test(sync_with_one_dirty_slot_touches_no_bitmap_of_the_others),
	};

	return cmocka_run_group_tests_name("log-cost", tests, NULL, NULL);
}

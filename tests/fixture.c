/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "region.h"

/* Before each piece of memory: its size, and the alignment of malloc. */
#define HEAD 16

static bool must_fail(struct heap *heap)
{
	heap->calls++;
	if (heap->fail_in == 0 || --heap->fail_in)
		return false;
	heap->failed = true;
	return true;
}

/* Under the heap's lock. */
static void *resize(struct heap *heap, void *ptr, size_t size)
{
	unsigned char *old = ptr ? (unsigned char *)ptr - HEAD : NULL;
	size_t old_size = 0;
	unsigned char *block;

	if (old)
		memcpy(&old_size, old, sizeof(old_size));
	if (size == 0) {
		heap->bytes -= old_size;
		heap->blocks -= old != NULL;
		free(old);
		return NULL;
	}
	block = must_fail(heap) ? NULL : realloc(old, HEAD + size);
	if (!block)
		return NULL;
	memcpy(block, &size, sizeof(size));
	/* What a caller forgets to clear must not be zero by chance. */
	if (size > old_size)
		memset(block + HEAD + old_size, 0xa5, size - old_size);
	heap->bytes += size - old_size;
	heap->blocks += !old;
	return block + HEAD;
}

void *heap_realloc(void *data, void *ptr, size_t size)
{
	struct heap *heap = data;
	void *block;

	pthread_mutex_lock(&heap->lock);
	block = resize(heap, ptr, size);
	pthread_mutex_unlock(&heap->lock);
	return block;
}

bool heap_is_empty(const struct heap *heap)
{
	return heap->bytes == 0 && heap->blocks == 0;
}

uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- text ---- */

static void text_add_list(char **text, const char *format, va_list args)
{
	size_t length = *text ? strlen(*text) : 0;
	char *more;
	int size = vasprintf(&more, format, args);

	assert_true(size >= 0);
	*text = realloc(*text, length + (size_t)size + 1);
	assert_non_null(*text);
	memcpy(*text + length, more, (size_t)size + 1);
	free(more);
}

void text_add(char **text, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_add_list(text, format, args);
	va_end(args);
}

void note(struct fixture *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_add_list(&f->notes, format, args);
	va_end(args);
	text_add(&f->notes, "\n");
}

void forget_notes(struct fixture *f)
{
	free(f->notes);
	f->notes = NULL;
}

void assert_notes(struct fixture *f, const char *expected)
{
	assert_string_equal(f->notes ? f->notes : "", expected);
	forget_notes(f);
}

/* ---- setup and teardown ---- */

static void write_log(void *data, enum kvmas_log_level level, const char *message)
{
	note(data, "log %u %s", level, message);
}

struct fixture *fixture_new(struct kvmas_config config)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	pthread_mutex_init(&f->heap.lock, NULL);
	config.struct_size = sizeof(config);
	config.realloc = heap_realloc;
	config.realloc_data = &f->heap;
	if (!config.log) {
		config.log = write_log;
		config.log_data = f;
	}
	must(kvmas_new(&config, &f->kvmas));
	must(kvmas_reader_add(f->kvmas, &f->reader));
	return f;
}

static void drop_everything(struct fixture *f)
{
	f->inside = NULL;
	while (f->ears)
		drop_listener(f, f->ears->listener);
	while (f->nspaces)
		drop_space(f, f->spaces[0]);
	for (struct thing *thing = f->things; thing; thing = thing->next) {
		kvmas_region_unref(thing->region);
		thing->region = NULL;
	}
	kvmas_reader_del(f->reader);
	close_kvmas(f);
}

void fixture_free(struct fixture *f)
{
	struct thing *thing;

	f->heap.fail_in = 0;
	if (f->kvmas) /* no test may leave a transaction open */
		assert_int_equal(kvmas_abort(f->kvmas), -EINVAL);
	drop_everything(f);
	assert_true(heap_is_empty(&f->heap));
	while ((thing = f->things)) {
		f->things = thing->next;
		assert_int_equal(thing->destroyed, 1);
		free(thing);
	}
	forget_notes(f);
	pthread_mutex_destroy(&f->heap.lock);
	free(f);
}

void close_kvmas(struct fixture *f)
{
	struct kvmas *kvmas = f->kvmas;

	f->kvmas = NULL;
	kvmas_unref(kvmas);
}

int fixture_setup(void **state)
{
	*state = fixture_new((struct kvmas_config){0});
	return 0;
}

int fixture_teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

/* ---- regions ---- */

static int read_thing(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct thing *thing = opaque;

	note(thing->fixture, "read %s+0x%" PRIx64 " %u", thing->name, access->offset, access->size);
	*value = thing->value;
	if (thing->on_access)
		thing->on_access(thing);
	return thing->result;
}

static int write_thing(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct thing *thing = opaque;

	note(thing->fixture, "write %s+0x%" PRIx64 " %u = 0x%" PRIx64, thing->name, access->offset,
	     access->size, value);
	if (thing->on_access)
		thing->on_access(thing);
	return thing->result;
}

static void destroy_thing(void *opaque)
{
	struct thing *thing = opaque;

	thing->destroyed++;
	note(thing->fixture, "destroy %s", thing->name);
}

static const struct kvmas_ops thing_ops = {sizeof(thing_ops), read_thing, write_thing};

struct kvmas_region *make_region(struct fixture *f, struct kvmas_region_config config)
{
	struct thing *thing = calloc(1, sizeof(*thing));

	assert_non_null(thing);
	thing->fixture = f;
	thing->value = UINT64_C(0x8877665544332211);
	snprintf(thing->name, sizeof(thing->name), "%s", config.name);
	config.struct_size = sizeof(config);
	config.ops = config.kind == KVMAS_REGION_MMIO ? &thing_ops : NULL;
	config.opaque = thing;
	config.destroy = destroy_thing;
	must(kvmas_region_new(f->kvmas, &config, &thing->region));
	thing->next = f->things;
	f->things = thing;
	return thing->region;
}

struct thing *thing_of(struct kvmas_region *region)
{
	return kvmas_region_get_opaque(region);
}

struct kvmas_region *make_container(struct fixture *f, const char *name, uint64_t size)
{
	return make_region(f, (struct kvmas_region_config){
				      .kind = KVMAS_REGION_CONTAINER, .name = name, .size = size});
}

struct kvmas_region *make_mmio(struct fixture *f, const char *name, uint64_t size)
{
	return make_region(f, (struct kvmas_region_config){
				      .kind = KVMAS_REGION_MMIO, .name = name, .size = size});
}

struct kvmas_region *make_alias(struct fixture *f, const char *name, struct kvmas_region *target,
				uint64_t target_offset, uint64_t size)
{
	return make_region(f, (struct kvmas_region_config){.kind = KVMAS_REGION_ALIAS,
							   .name = name,
							   .size = size,
							   .target = target,
							   .target_offset = target_offset});
}

static struct kvmas_region *make_memory(struct fixture *f, enum kvmas_region_kind kind,
					const char *name, uint64_t size)
{
	struct kvmas_ram *block = make_block(f, name, (size + page_size() - 1) / page_size());
	struct kvmas_region *region =
		make_region(f, (struct kvmas_region_config){
				       .kind = kind, .name = name, .size = size, .ram = block});

	kvmas_ram_unref(block);
	return region;
}

struct kvmas_region *make_ram(struct fixture *f, const char *name, uint64_t size)
{
	return make_memory(f, KVMAS_REGION_RAM, name, size);
}

struct kvmas_region *make_rom(struct fixture *f, const char *name, uint64_t size)
{
	return make_memory(f, KVMAS_REGION_ROM, name, size);
}

struct kvmas_ram *make_block(struct fixture *f, const char *name, uint64_t npages)
{
	struct kvmas_ram *block;

	must(kvmas_ram_new(f->kvmas, KVMAS_CONFIG(ram, .name = name, .size = npages * page_size()),
			   &block));
	return block;
}

struct kvmas_ram *block_of(const struct kvmas_region *region)
{
	return region->ram;
}

void drop_region(struct fixture *f, struct kvmas_region *region)
{
	(void)f;
	thing_of(region)->region = NULL;
	kvmas_region_unref(region);
}

void add(struct kvmas_region *parent, struct kvmas_region *child, uint64_t offset, int priority)
{
	must(kvmas_region_add(parent, child, offset, priority));
}

/* ---- spaces and listeners ---- */

struct kvmas_space *make_space(struct fixture *f, const char *name, struct kvmas_region *root)
{
	assert_true(f->nspaces < LENGTH(f->spaces));
	must(kvmas_space_new(f->kvmas, name, root, &f->spaces[f->nspaces]));
	return f->spaces[f->nspaces++];
}

void drop_space(struct fixture *f, struct kvmas_space *space)
{
	unsigned i = 0;

	while (f->spaces[i] != space)
		i++;
	f->nspaces--;
	memmove(&f->spaces[i], &f->spaces[i + 1], (f->nspaces - i) * sizeof(f->spaces[0]));
	kvmas_space_unref(space);
}

static void hear(struct ear *ear, const char *what, const struct kvmas_section *section)
{
	struct fixture *f = ear->fixture;
	char *text = NULL;

	if (section)
		section_text(&text, section);
	note(f, "%s %s%s%s%s", ear->name, what, text ? " " : "", text ? text : "",
	     section && section->logged ? " logged" : "");
	free(text);
	if (f->inside)
		f->inside(f);
}

static void hear_begin(void *data)
{
	hear(data, "begin", NULL);
}

static void hear_add(void *data, const struct kvmas_section *section)
{
	hear(data, "add", section);
}

static void hear_del(void *data, const struct kvmas_section *section)
{
	hear(data, "del", section);
}

static void hear_log_start(void *data, const struct kvmas_section *section)
{
	hear(data, "log_start", section);
}

static void hear_log_stop(void *data, const struct kvmas_section *section)
{
	hear(data, "log_stop", section);
}

static void hear_commit(void *data)
{
	hear(data, "commit", NULL);
}

static int hear_sync(void *data, uint64_t gpa, uint64_t last)
{
	struct ear *ear = data;

	note(ear->fixture, "%s sync %04" PRIx64 "-%04" PRIx64, ear->name, gpa, last);
	if (ear->fixture->inside)
		ear->fixture->inside(ear->fixture);
	return ear->fixture->sync_result;
}

struct kvmas_listener *make_listener(struct fixture *f, struct kvmas_space *space, const char *name,
				     int priority)
{
	struct ear *ear = calloc(1, sizeof(*ear));

	assert_non_null(ear);
	ear->fixture = f;
	ear->name = name;
	must(kvmas_listener_add(space,
				KVMAS_CONFIG(listener, .priority = priority, .data = ear,
					     .begin = hear_begin, .region_add = hear_add,
					     .region_del = hear_del, .log_start = hear_log_start,
					     .log_stop = hear_log_stop, .log_sync = hear_sync,
					     .commit = hear_commit),
				&ear->listener));
	ear->next = f->ears;
	f->ears = ear;
	return ear->listener;
}

void drop_listener(struct fixture *f, struct kvmas_listener *listener)
{
	struct ear **at = &f->ears;
	struct ear *ear;

	while ((*at)->listener != listener)
		at = &(*at)->next;
	ear = *at;
	must(kvmas_listener_del(listener));
	*at = ear->next;
	free(ear);
}

/* ---- views ---- */

void section_text(char **text, const struct kvmas_section *section)
{
	static const char *const kinds[] = {
		[KVMAS_REGION_RAM] = "ram",           [KVMAS_REGION_ROM] = "rom",
		[KVMAS_REGION_ROMD] = "mmio",         [KVMAS_REGION_MMIO] = "mmio",
		[KVMAS_REGION_RESERVED] = "reserved",
	};
	enum kvmas_region_kind kind = kvmas_region_get_kind(section->region);
	const char *what = section->readonly ? "rom" : section->romd ? "romd" : NULL;

	assert_true(kind < LENGTH(kinds) && kinds[kind]);
	text_add(text, "%04" PRIx64 "-%04" PRIx64 " %s %s+0x%" PRIx64 "%s%s", section->gpa,
		 section->last, what ? what : kinds[kind], kvmas_region_get_name(section->region),
		 section->offset, section->nonvolatile ? " nv" : "",
		 section->unmergeable ? " unmergeable" : "");
}

char *view_text(const struct kvmas_view *view)
{
	struct kvmas_section section;
	char *text = NULL;
	int err;

	text_add(&text, "%s", "");
	for (err = kvmas_view_find(view, 0, &section); !err;
	     err = kvmas_view_next(view, &section)) {
		section_text(&text, &section);
		text_add(&text, "\n");
	}
	return text;
}

char *space_text(struct fixture *f, struct kvmas_space *space)
{
	const struct kvmas_view *view = kvmas_view_acquire(f->reader, space);
	char *text = view_text(view);

	kvmas_view_release(f->reader, view);
	return text;
}

void assert_view(struct fixture *f, struct kvmas_space *space, const char *expected)
{
	char *text = space_text(f, space);

	assert_string_equal(text, expected);
	free(text);
}

char *state_text(struct fixture *f)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_non_null(stream);
	for (unsigned i = 0; i < f->nspaces; i++) {
		char *view = space_text(f, f->spaces[i]);

		fprintf(stream, "%s\n%s", kvmas_space_get_name(f->spaces[i]), view);
		free(view);
	}
	must(kvmas_dump(f->kvmas, stream));
	must(fclose(stream));
	return text;
}

/* ---- failing allocations ---- */

static void assert_unchanged(struct fixture *f, const char *state, size_t bytes)
{
	char *now = state_text(f);

	must(kvmas_reclaim(f->kvmas));
	assert_string_equal(now, state);
	assert_int_equal(f->heap.bytes, bytes);
	free(now);
}

unsigned fail_each_allocation(struct fixture *f, int (*scenario)(struct fixture *f))
{
	char *state = state_text(f);
	unsigned failed = 0;
	size_t bytes;

	must(kvmas_reclaim(f->kvmas));
	bytes = f->heap.bytes;
	for (;;) {
		int result;

		f->heap.failed = false;
		f->heap.fail_in = failed + 1;
		result = scenario(f);
		f->heap.fail_in = 0;
		if (!f->heap.failed) {
			assert_int_equal(result, 0);
			break;
		}
		failed++;
		assert_int_equal(result, -ENOMEM);
		assert_unchanged(f, state, bytes);
	}
	free(state);
	return failed;
}

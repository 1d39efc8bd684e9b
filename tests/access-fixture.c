/* SPDX-License-Identifier: MIT */
/* See access-fixture.h. */
#include "access-fixture.h"

static int result_of(struct scene *s, const struct kvmas_access *access)
{
	if (s->inside)
		s->inside(s, access);
	if (s->refuses_at - access->offset < access->size)
		return -ENODEV;
	return s->result;
}

static int read_device(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct scene *s = opaque;

	text_add(&s->f->notes, "r%u@%x ", access->size, (unsigned)access->offset);
	*value = 0;
	for (unsigned i = 0; i < access->size; i++)
		*value |= (uint64_t)s->registers[access->offset + i] << 8 * i;
	return result_of(s, access);
}

static int write_device(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct scene *s = opaque;

	text_add(&s->f->notes, "w%u@%x=%llx ", access->size, (unsigned)access->offset,
		 (unsigned long long)value);
	return result_of(s, access);
}

void make_device(struct scene *s, uint64_t size, const void *guard)
{
	must(kvmas_region_new(s->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "device",
					   .size = size, .ops = &s->ops, .opaque = s,
					   .guard = guard),
			      &s->device));
	add(s->root, s->device, GPA, 0);
}

void drop_device(struct scene *s)
{
	must(kvmas_region_del(s->device));
	kvmas_region_unref(s->device);
}

void set_scene(struct fixture *f, struct scene *s)
{
	*s = (struct scene){
		.f = f,
		.ops = {.struct_size = sizeof(s->ops), .read = read_device, .write = write_device},
		.refuses_at = REGISTERS,
	};
	for (unsigned i = 0; i < REGISTERS; i++)
		s->registers[i] = (unsigned char)(0x10 + i);
	s->root = make_container(f, "root", KVMAS_SIZE_MAX);
	s->ram = make_ram(f, "ram", page_size());
	add(s->root, s->ram, RAM_GPA, 0);
	s->space = make_space(f, "space", s->root);
}

void set_scene_with(struct fixture *f, struct scene *s, struct kvmas_ops ops)
{
	set_scene(f, s);
	ops.struct_size = sizeof(ops);
	ops.read = read_device;
	ops.write = write_device;
	s->ops = ops;
	make_device(s, REGISTERS, NULL);
}

struct dispatch access_by(struct scene *s, struct kvmas_reader *reader, bool write)
{
	return (struct dispatch){.reader = reader, .space = s->space, .write = write};
}

int dma(struct scene *s, bool write, uint64_t gpa, void *bytes, size_t size)
{
	struct dispatch dispatch = access_by(s, s->f->reader, write);

	s->done = SIZE_MAX;
	return kas_dispatch(&dispatch, gpa, bytes, size, &s->done);
}

void assert_dma_read(struct scene *s, uint64_t gpa, size_t size, int err, size_t done)
{
	unsigned char bytes[64];

	assert_int_equal(dma(s, false, gpa, bytes, size), err);
	assert_int_equal(s->done, done);
}

/* The bytes are 1, 2, 3 ... */
void assert_dma_write(struct scene *s, uint64_t gpa, size_t size, int err, size_t done)
{
	unsigned char bytes[64];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i + 1);
	assert_int_equal(dma(s, true, gpa, bytes, size), err);
	assert_int_equal(s->done, done);
}

void assert_whole(struct scene *s, uint64_t gpa, const char *expected, size_t size,
		  unsigned refused)
{
	struct dispatch dispatch = access_by(s, s->f->reader, false);
	unsigned char bytes[32] = {0};
	size_t done;

	dispatch.whole = true;
	must(kas_dispatch(&dispatch, gpa, bytes, size, &done));
	assert_int_equal(done, size);
	assert_memory_equal(bytes, expected, size);
	assert_int_equal(dispatch.refused, refused);
}

/* SPDX-License-Identifier: MIT */
/*
 * What tests of accesses stand on: a device of 16 registers at GPA, whose values are 0x10, 0x11 and
 * so on, memory of one page above it, and nothing else. Each call of the device is noted: "r4@8 "
 * is a read of 4 bytes at offset 8, "w2@0=201 " a write.
 */
#ifndef ACCESS_FIXTURE_H
#define ACCESS_FIXTURE_H

#include "fixture.h"

#include "dispatch.h"

enum { GPA = 0x1000, REGISTERS = 16, RAM_GPA = GPA + REGISTERS };

struct scene {
	struct fixture *f;
	struct kvmas_ops ops;
	struct kvmas_region *root;
	struct kvmas_region *device;
	struct kvmas_region *ram;
	struct kvmas_space *space;
	unsigned char registers[REGISTERS];
	unsigned refuses_at; /* the register that it refuses; REGISTERS: none */
	int result;          /* otherwise */
	void (*inside)(struct scene *s, const struct kvmas_access *access);
	unsigned depth;
	int err;     /* of what inside did */
	size_t done; /* by the last DMA */
};

/* The device, of this size and s->ops; and without it. */
void make_device(struct scene *s, uint64_t size, const void *guard);
void drop_device(struct scene *s);

/* A scene without device, or with one of these rules. */
void set_scene(struct fixture *f, struct scene *s);
void set_scene_with(struct fixture *f, struct scene *s, struct kvmas_ops ops);

struct dispatch access_by(struct scene *s, struct kvmas_reader *reader, bool write);

/* DMA: its result, and s->done; and what they must be. */
int dma(struct scene *s, bool write, uint64_t gpa, void *bytes, size_t size);
void assert_dma_read(struct scene *s, uint64_t gpa, size_t size, int err, size_t done);
void assert_dma_write(struct scene *s, uint64_t gpa, size_t size, int err, size_t done);

/* A vCPU's access: what it must read, and how many pieces are refused. */
void assert_whole(struct scene *s, uint64_t gpa, const char *expected, size_t size,
		  unsigned refused);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a guest's spaces must show, byte by byte: a plain list of cells for each space, painted over
 * as regions are put in; and devices that are nothing but rows of bytes, so that whatever way an
 * access is cut, the bytes are the same. Cells are kept twice: in the model, and where the library
 * reads and writes them, in RAM blocks and devices.
 */
#ifndef LIVE_CELLS_H
#define LIVE_CELLS_H

#include "steps.h"

enum {
	CELLS_FIRST = 0x80, /* pages that are looked at */
	CELLS_PAGES = 0x30,
	CELLS_RAM_END = 0xa0, /* behind the RAM's last page */
	CELLS_SIZE = CELLS_PAGES * PAGE,
	MAX_ROWS = 24,
	MAX_SEAMS = 64,
};

struct cells;

/* Bytes of a RAM block or of a device. */
struct row {
	struct cells *cells;
	struct kvmas_ram *ram; /* borrowed; NULL for a device */
	struct kvmas_ops ops;  /* of a device */
	unsigned char *bytes;
	unsigned char *expected;
	size_t size;
	int result;                 /* of the callbacks, which do nothing then */
	unsigned reads[MAX_SPACES]; /* that the device was asked for, by space */
	unsigned writes[MAX_SPACES];
};

/* Where an address of a space leads, in the model: NULL to nothing, or where writes are dropped. */
struct cell {
	unsigned char *read;
	unsigned char *write;
};

/* Its first member is what guest_teardown wants. */
struct cells {
	struct guest *g;
	struct steps steps;
	struct row rows[MAX_ROWS]; /* the first is that of the guest's RAM */
	unsigned nrows;
	struct cell at[MAX_SPACES][CELLS_SIZE];
	uint64_t seams[MAX_SEAMS]; /* where something begins or ends */
	unsigned nseams;
	uint64_t nothing;        /* bytes accessed where the model has nothing; */
	uint64_t told;           /* of which the trace hook was told, */
	uint64_t traces;         /* in so many calls */
	struct kvmas_space *pio; /* the ports' space, if the test has made one */
	size_t used;
	unsigned char arena[1 << 20];
};

/* A test whose state is a struct cells *: empty, until cells_make. */
#define CELLS_TEST(test) cmocka_unit_test_setup_teardown(test, cells_setup, guest_teardown)
int cells_setup(void **state);
/* Its guest, with RAM up to CELLS_RAM_END, all of it in cells from CELLS_FIRST on. */
struct cells *cells_make(void **state);

/* A device that takes and implements what ops say, whose callbacks are set here; a block. */
struct row *cells_device(struct cells *cells, size_t size, struct kvmas_ops ops);
struct row *cells_block(struct cells *cells, size_t size);

/*
 * Put a region on top of what is there: in space 0, which space 1 shows, or in space 1.
 *
 * @config: kind, name, size; what it shows, if it is an alias of the RAM.
 * @device, @memory: what the kind needs; borrowed. NULL: none.
 */
struct kvmas_region *cells_put(struct cells *cells, unsigned as_id, uint64_t gpa,
			       struct kvmas_region_config config, struct row *device,
			       struct row *memory);
/* The guest's RAM, again where it is at that address, in space 1. */
void cells_put_ram(struct cells *cells, uint64_t gpa, size_t size);

/* The model's access in the space of the next step. */
void cells_read(struct cells *cells, uint64_t gpa, void *bytes, size_t size);
void cells_write(struct cells *cells, uint64_t gpa, const void *bytes, size_t size);

/* A step of 1, 2, 4 or 8 bytes, compared with the model's. */
void cells_step_read(struct cells *cells, uint64_t gpa, unsigned size);
void cells_step_write(struct cells *cells, uint64_t gpa, unsigned size, uint64_t value);

/* All rows hold what is expected, and the library told of all that nothing answered. */
bool cells_are_right(const struct cells *cells);
void cells_check(struct cells *cells);

/* An address near a seam from where *size* bytes are in the cells. */
uint64_t cells_near_seam(struct cells *cells, unsigned size);

#endif

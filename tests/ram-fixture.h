/* SPDX-License-Identifier: MIT */
/*
 * What the tests of RAM blocks share: blocks of every source in one line each, and a look at their
 * pages. Pages are counted from the block's first.
 */
#ifndef RAM_FIXTURE_H
#define RAM_FIXTURE_H

#include "kvm-fixture.h"

#define KEEP 'k' /* what pages are filled with that must stay */
#define OLD 'o'  /* what is in a file */

/* A file of this many bytes, all of them holes. */
int make_file(uint64_t size);
/* What the file system gave it, in bytes. */
uint64_t file_usage(int fd);

/* A block from a config without struct_size, and perhaps without a name. */
int new_ram(struct fixture *f, struct kvmas_ram_config config, struct kvmas_ram **ret);
struct kvmas_ram *make(struct fixture *f, struct kvmas_ram_config config);
void assert_refused(struct fixture *f, struct kvmas_ram_config config, int result);

struct kvmas_ram *make_sized(struct fixture *f, enum kvmas_ram_source source, uint64_t npages,
			     uint64_t max_npages);
/* A file of OLD, and a block on it that may show all of it. */
struct kvmas_ram *make_on_file(struct fixture *f, unsigned flags, uint64_t npages,
			       uint64_t file_npages, int *fd);

/* A RAM region "w" on some pages of a block. */
struct kvmas_region *window(struct fixture *f, struct kvmas_ram *ram, uint64_t first,
			    uint64_t npages);

/* Sizes in pages. */
uint64_t size_of(const struct kvmas_ram *ram);
int resize(struct kvmas_ram *ram, uint64_t npages);
int set_size(struct kvmas_region *region, uint64_t npages);

/* Pages of the block that are in memory; or of any part that is mapped. */
uint64_t count_present(const struct kvmas_ram *ram);
uint64_t count_present_in(const struct kvmas_ram *ram, uint64_t first, uint64_t npages);

/* Set every byte of some pages; or demand that they are so, read by the kernel: a page that is not
 * there fails the test, where a load would be a SIGBUS. */
void fill(const struct kvmas_ram *ram, uint64_t first, uint64_t npages, char byte);
void assert_filled(const struct kvmas_ram *ram, uint64_t first, uint64_t npages, char byte);

#endif

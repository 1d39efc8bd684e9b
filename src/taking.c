/* SPDX-License-Identifier: MIT */
/*
 * Taking: how a client comes by its dirty pages, and puts them back.
 *
 *     fetch and clear its bits (dirty.c)
 *       arm what has told of them: the block's sources (sources.c), listeners (sync.c)
 *         the client reads the pages
 *
 * in this order. A write that comes before the arming is in what the client reads; one that comes
 * after it is told anew. If arming fails the bits go back: nothing was taken.
 *
 * A region's pages, and those of a range of addresses, are taken by stretches, into words on the
 * stack, and handed over run by run. Nothing is locked or allocated meanwhile. What the client does
 * not deal with is put back, just that.
 *
 * Read take first, then take_pages.
 */
#include <errno.h>

#include "client.h"
#include "space.h"
#include "sync.h"

#define BITS 64

/* Words that are taken at a time, where they are the library's. */
#define STRETCH UINT64_C(512)

/* The bytes from the first page that was taken to the last: there is one. */
static struct range taken_bytes(const struct kvmas_ram *ram, uint64_t page, const uint64_t *words,
				uint64_t count)
{
	uint64_t first = 0, last = count - 1;

	while (!words[first])
		first++;
	while (!words[last])
		last--;
	first = page + first * BITS + (uint64_t)__builtin_ctzll(words[first]);
	last = page + last * BITS + BITS - 1 - (uint64_t)__builtin_clzll(words[last]);
	return (struct range){first << ram->page_shift, ((last + 1) << ram->page_shift) - 1};
}

/* Some of these pages were taken, the words' bit 0 being page *page*, a multiple of 64. */
static int arm(struct kvmas_client *client, struct kvmas_ram *ram, uint64_t page, uint64_t npages,
	       const uint64_t *words)
{
	struct kvmas *kvmas = client->object.kvmas;
	int err = kas_sources_clear(&ram->sources, page, npages, words);

	if (err || !kas_listeners_need_arming(kvmas))
		return err;
	return kas_listeners_arm(kvmas, ram,
				 taken_bytes(ram, page, words, (npages + BITS - 1) / BITS));
}

/* Take a run of pages, the words' bit 0 being the first, rounded down to a multiple of 64. */
static int64_t take(struct kvmas_client *client, struct kvmas_ram *ram, uint64_t first,
		    uint64_t npages, uint64_t *words)
{
	int64_t count = kas_dirty_take(ram->dirty, &client->dirty, first, npages, words);
	uint64_t before = first % BITS;
	int err;

	if (count <= 0)
		return count;
	err = arm(client, ram, first - before, before + npages, words);
	if (!err)
		return count;
	kas_dirty_put(ram->dirty, &client->dirty, first, npages, words);
	return err;
}

int64_t kvmas_client_take(struct kvmas_client *client, struct kvmas_ram *ram, uint64_t first_page,
			  uint64_t npages, uint64_t *bitmap)
{
	if (!kas_alive(client->object.kvmas))
		return -EIO;
	return first_page % BITS ? -EINVAL : take(client, ram, first_page, npages, bitmap);
}

int kvmas_client_put(struct kvmas_client *client, struct kvmas_ram *ram, uint64_t first_page,
		     uint64_t npages, const uint64_t *bitmap)
{
	if (!kas_alive(client->object.kvmas))
		return -EIO;
	if (first_page % BITS)
		return -EINVAL;
	return kas_dirty_put(ram->dirty, &client->dirty, first_page, npages, bitmap);
}

/* ---- run by run ---- */

/* Pages on their way to a function of the user's. */
struct delivery {
	struct kvmas_client *client;
	struct kvmas_ram *ram;
	uint64_t start; /* of the block's byte 0, as the function is to know it; may be below 0 */
	kvmas_dirty_fn *fn;
	void *data;
	int64_t count; /* pages dealt with */
};

/* The first bit from *from* on that is set, or is not; *end* if there is none. */
static uint64_t find_bit(const uint64_t *words, uint64_t from, uint64_t end, bool set)
{
	while (from < end) {
		uint64_t word = (set ? words[from / BITS] : ~words[from / BITS]) >> from % BITS;

		if (word) {
			from += (uint64_t)__builtin_ctzll(word);
			break;
		}
		from += BITS - from % BITS;
	}
	return from < end ? from : end;
}

static int deliver_run(struct delivery *delivery, uint64_t page, uint64_t npages)
{
	struct kvmas_ram *ram = delivery->ram;
	struct kvmas_dirty_run run = {
		.size = npages << ram->page_shift,
		.ram = ram,
		.ram_offset = page << ram->page_shift,
	};
	int result;

	run.start = delivery->start + run.ram_offset;
	run.hva = ram->hva + run.ram_offset;
	result = delivery->fn(delivery->data, &run);
	if (result >= 0)
		delivery->count += (int64_t)npages;
	return result < 0 ? result : 0;
}

/* Deliver what is in the words, of which the first *end* bits count; bit 0 is page *page*. */
static int deliver(struct delivery *delivery, uint64_t page, uint64_t end, const uint64_t *words)
{
	uint64_t run, behind;
	int err = 0;

	for (run = find_bit(words, 0, end, true); run < end;
	     run = find_bit(words, behind, end, true)) {
		behind = find_bit(words, run, end, false);
		err = deliver_run(delivery, page + run, behind - run);
		if (err)
			break;
	}
	if (err)
		kas_dirty_put(delivery->ram->dirty, &delivery->client->dirty, page + run, end - run,
			      &words[run / BITS]);
	return err;
}

/* Take and deliver the pages in which these bytes of the block lie. */
static int take_pages(struct delivery *delivery, struct range bytes)
{
	uint64_t page = bytes.first >> delivery->ram->page_shift;
	uint64_t end = (bytes.last >> delivery->ram->page_shift) + 1;
	uint64_t words[STRETCH];

	while (page < end) {
		uint64_t before = page % BITS;
		uint64_t npages = end - page;
		int64_t count;
		int err = 0;

		if (npages > STRETCH * BITS - before)
			npages = STRETCH * BITS - before;
		count = take(delivery->client, delivery->ram, page, npages, words);
		if (count < 0)
			return (int)count;
		if (count)
			err = deliver(delivery, page - before, before + npages, words);
		if (err)
			return err;
		page += npages;
	}
	return 0;
}

/* The bytes of a region with memory that are asked for: -EINVAL past its end. */
static int bytes_of_region(const struct kvmas_region *region, uint64_t offset, uint64_t size,
			   struct range *ret)
{
	uint64_t last = atomic_load_explicit(&region->last, memory_order_relaxed);

	if (offset == 0 && size == KVMAS_SIZE_MAX)
		size = last + 1;
	if (offset > last + 1 || size > last + 1 - offset)
		return -EINVAL;
	ret->first = region->ram_offset + offset;
	ret->last = ret->first + size - 1;
	return 0;
}

/* Six parameters, as the header has it: NOLINTNEXTLINE(readability-function-size) */
int64_t kvmas_client_take_region(struct kvmas_client *client, struct kvmas_region *region,
				 uint64_t offset, uint64_t size, kvmas_dirty_fn *fn, void *data)
{
	struct delivery delivery = {
		.client = client,
		.ram = region->ram,
		.start = 0 - region->ram_offset,
		.fn = fn,
		.data = data,
	};
	struct range bytes;
	int err;

	if (!kas_alive(client->object.kvmas))
		return -EIO;
	if (!region->ram)
		return -EINVAL;
	err = bytes_of_region(region, offset, size, &bytes);
	if (!err && size)
		err = take_pages(&delivery, bytes);
	return err ? err : delivery.count;
}

static int take_range(struct delivery *delivery, const struct flat_range *range,
		      struct range window)
{
	uint64_t ram_offset = range->region->ram_offset + range->offset;
	struct range part = range->range;

	delivery->ram = kas_range_ram(range);
	if (!delivery->ram || !kas_range_clip(&part, window))
		return 0;
	delivery->start = range->range.first - ram_offset;
	return take_pages(delivery, (struct range){part.first - delivery->start,
						   part.last - delivery->start});
}

static int take_window(struct delivery *delivery, const struct kvmas_view *view,
		       struct range window)
{
	struct view_at at = kas_view_seek(view, window.first);
	const struct flat_range *range;
	int err = 0;

	while (!err && (range = kas_view_get(view, at)) && range->range.first <= window.last) {
		err = take_range(delivery, range, window);
		at = kas_view_after(view, at);
	}
	return err;
}

/* Six parameters, as the header has it: NOLINTNEXTLINE(readability-function-size) */
int64_t kvmas_client_take_gpa(struct kvmas_client *client, struct kvmas_space *space, uint64_t gpa,
			      uint64_t size, kvmas_dirty_fn *fn, void *data)
{
	struct delivery delivery = {.client = client, .fn = fn, .data = data};
	struct kvmas_view *view;
	struct range window;
	int err;

	if (!kas_alive(client->object.kvmas))
		return -EIO;
	if (space->object.kvmas != client->object.kvmas)
		return -EXDEV;
	if (size == 0)
		return 0;
	err = kas_range_from(gpa, size, &window);
	if (err)
		return err;
	view = kas_space_get_view(space);
	err = take_window(&delivery, view, window);
	kas_object_drop(&view->object); /* *fn* may have dropped the last handle */
	return err ? err : delivery.count;
}

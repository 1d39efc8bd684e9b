/* SPDX-License-Identifier: MIT */
/*
 * Maps: a range of a space as host memory, for as long as a device works on it.
 *
 *     gpa ->
 *     pieces   [ram a     ][ram a ][copy    ][ram b   ]
 *     iov      [                  ][        ][        ]      neighbours in host memory are joined
 *
 * A piece is memory in one block, or a copy of what a device answered. Pieces hold their blocks, so
 * that no commit takes the memory away, and know where in these they lie: what was written is
 * marked there, whatever the space shows by then. Copies are written through the space, where they
 * were read.
 *
 * A map is planned in one view, which is let go of before any device is asked: memory is allocated
 * before, so that no device is read in vain. What is written to a device is known to be refused
 * only when the map ends.
 *
 * Invariants:
 *   I1  pieces and iov cover the same `public.size` bytes from `gpa` on, without a gap.
 *   I2  copies together have at most config.max_bounce bytes.
 *
 * Read plan first.
 */
#include <errno.h>
#include <sys/uio.h>

#include "dma.h"
#include "memory.h"
#include "ops.h"
#include "ram.h"

struct piece {
	struct kvmas_ram *ram; /* held; NULL for a copy */
	uint64_t ram_offset;
	unsigned char *at; /* of a copy: ours */
	uint64_t size;
};

struct map {
	struct kvmas_map public;
	struct kvmas *kvmas; /* held */
	uint64_t gpa;
	unsigned flags;
	struct piece *pieces;
	size_t npieces;
	size_t capacity;
	struct iovec *iov;
	uint64_t room; /* for copies */
};

static void drop_piece(struct map *map, const struct piece *piece)
{
	if (piece->ram)
		kvmas_ram_unref(piece->ram);
	else
		kas_free(map->kvmas, piece->at);
}

static void map_free(struct map *map)
{
	struct kvmas *kvmas = map->kvmas;

	for (size_t i = 0; i < map->npieces; i++)
		drop_piece(map, &map->pieces[i]);
	kas_free(kvmas, map->pieces);
	kas_free(kvmas, map->iov);
	kas_free(kvmas, map);
	kas_let_go(kvmas);
}

static int add_piece(struct map *map, struct piece piece)
{
	struct piece *pieces =
		kas_grow(map->kvmas, map->pieces, map->npieces, &map->capacity, sizeof(*pieces));

	if (!pieces)
		return -ENOMEM;
	map->pieces = pieces;
	pieces[map->npieces++] = piece;
	map->public.size += piece.size;
	return 0;
}

/* ---- planning: pieces, from one view ---- */

static int add_memory(struct map *map, const struct memory *memory, uint64_t size)
{
	struct piece *last = map->npieces ? &map->pieces[map->npieces - 1] : NULL;
	struct piece piece = {memory->ram, memory->ram_offset, memory->hva, size};
	int err;

	if (last && last->ram == piece.ram && last->ram_offset + last->size == piece.ram_offset) {
		last->size += size;
		map->public.size += size;
		return 0;
	}
	err = add_piece(map, piece);
	if (!err)
		kvmas_ram_ref(piece.ram);
	return err;
}

/* As much of *size* bytes as there is room for, and a device gets in whole accesses. */
static uint64_t copied_size(const struct map *map, const struct kvmas_region *region,
			    uint64_t offset, uint64_t size)
{
	const struct kvmas_access_rules *valid = &region->ops.valid;
	uint64_t fits = 0;
	unsigned step;

	if (size <= map->room)
		return size;
	while ((step = kas_rules_cut(valid, offset + fits, size - fits)) <= map->room - fits)
		fits += step;
	return fits;
}

/* 1 if there is no room for more. */
static int add_copy(struct map *map, const struct flat_range *range, struct range window)
{
	uint64_t offset = range->offset + (window.first - range->range.first);
	uint64_t size = copied_size(map, range->region, offset,
				    kas_last_to_size(window.last - window.first));
	unsigned char *copy;
	int err;

	if (size == 0)
		return map->public.size ? 1 : -ENOBUFS;
	copy = kas_alloc(map->kvmas, size);
	if (!copy)
		return -ENOMEM;
	err = add_piece(map, (struct piece){.at = copy, .size = size});
	if (err) {
		kas_free(map->kvmas, copy);
		return err;
	}
	map->room -= size;
	return size - 1 < window.last - window.first;
}

/* Pieces from the beginning of *window* on, as far as they can be had: 0 if that is all of it. */
static int plan(struct map *map, const struct kvmas_view *view, struct range window)
{
	struct view_at at = kas_view_seek(view, window.first);
	int err;

	for (;; at = kas_view_after(view, at)) {
		const struct flat_range *range = kas_view_get(view, at);
		struct range part = window;
		struct memory memory;

		err = kas_memory_of(range, window, map->flags & KVMAS_MAP_WRITE, &memory);
		if (err && err != -EOPNOTSUPP)
			return err;
		kas_range_clip(&part, range->range);
		err = err ? add_copy(map, range, part)
			  : add_memory(map, &memory, part.last - part.first + 1);
		if (err || part.last == window.last)
			return err;
		window.first = part.last + 1;
	}
}

static int plan_now(struct map *map, const struct kvmas_dma *dma, struct range window)
{
	struct kvmas_view *view = kas_reader_pin(dma->reader, dma->space);
	int err = plan(map, view, window);

	kas_reader_unpin(dma->reader, view);
	if (err != -ENOMEM && map->npieces)
		err = 0;
	if (!err) {
		map->iov = kas_alloc(map->kvmas, map->npieces * sizeof(*map->iov));
		err = map->iov ? 0 : -ENOMEM;
	}
	return err;
}

/* ---- filling ---- */

/* Let the map end at byte *size* of piece *index*. */
static void cut(struct map *map, size_t index, uint64_t size)
{
	if (size)
		map->pieces[index++].size = size;
	while (map->npieces > index)
		drop_piece(map, &map->pieces[--map->npieces]);
}

static int read_copies(struct map *map, const struct kvmas_dma *dma)
{
	struct dispatch dispatch = kas_dma_dispatch(dma, false);
	uint64_t at = 0;
	size_t done;
	int err = 0;

	for (size_t i = 0; i < map->npieces; at += map->pieces[i++].size) {
		const struct piece *piece = &map->pieces[i];

		if (piece->ram)
			continue;
		err = kas_dispatch(&dispatch, map->gpa + at, piece->at, piece->size, &done);
		if (err) {
			cut(map, i, done);
			map->public.size = at + done;
			break;
		}
	}
	return map->npieces ? 0 : err;
}

static void list_pieces(struct map *map)
{
	struct iovec *last = NULL;
	const struct piece *before = NULL;

	for (size_t i = 0; i < map->npieces; before = &map->pieces[i++]) {
		const struct piece *piece = &map->pieces[i];

		if (last && before->ram && piece->ram && before->at + before->size == piece->at) {
			last->iov_len += piece->size;
			continue;
		}
		last = &map->iov[map->public.niov++];
		*last = (struct iovec){piece->at, piece->size};
	}
	map->public.iov = map->iov;
}

static struct map *map_new(struct kvmas *kvmas, uint64_t gpa, unsigned flags)
{
	struct map *map = kas_alloc(kvmas, sizeof(*map));

	if (!map)
		return NULL;
	kas_hold(kvmas);
	map->kvmas = kvmas;
	map->gpa = gpa;
	map->flags = flags;
	map->room = kvmas->config.max_bounce;
	return map;
}

static int check(uint64_t gpa, uint64_t size, unsigned flags, struct range *window)
{
	if (!flags || flags & ~(unsigned)(KVMAS_MAP_READ | KVMAS_MAP_WRITE))
		return -EINVAL;
	return kas_range_from(gpa, size, window);
}

int kvmas_dma_map(const struct kvmas_dma *dma, uint64_t gpa, uint64_t size, unsigned flags,
		  struct kvmas_map **ret)
{
	struct range window;
	struct map *map;
	int err;

	if (!kas_alive(dma->reader->kvmas))
		return -EIO;
	err = check(gpa, size, flags, &window);
	if (err)
		return err;
	/* A map has less than 2^64 bytes. */
	window.last -= size == KVMAS_SIZE_MAX;
	map = map_new(dma->reader->kvmas, gpa, flags);
	if (!map)
		return -ENOMEM;
	err = plan_now(map, dma, window);
	if (!err && flags & KVMAS_MAP_READ)
		err = read_copies(map, dma);
	if (err) {
		map_free(map);
		return err;
	}
	list_pieces(map);
	*ret = &map->public;
	return 0;
}

/* ---- the end ---- */

/* Nothing goes to a device after the first refusal; but memory has been written all the same. */
static int write_back(struct map *map, const struct kvmas_dma *dma, uint64_t written,
		      uint64_t *arrived)
{
	struct dispatch dispatch = kas_dma_dispatch(dma, true);
	const struct piece *piece = map->pieces;
	int err = 0;

	for (uint64_t at = 0; at < written; at += piece++->size) {
		uint64_t size = piece->size < written - at ? piece->size : written - at;
		size_t done = size;
		bool counts = !err;

		if (piece->ram)
			kvmas_ram_mark(piece->ram, piece->ram_offset, size);
		else if (!err)
			err = kas_dispatch(&dispatch, map->gpa + at, piece->at, size, &done);
		*arrived += counts ? done : 0;
	}
	return err;
}

int kvmas_dma_unmap(const struct kvmas_dma *dma, struct kvmas_map *map, uint64_t written,
		    uint64_t *done)
{
	struct map *ours = kas_container_of(map, struct map, public);
	uint64_t arrived = 0;
	int err = -EIO;

	if (written > map->size)
		written = map->size;
	if (!(ours->flags & KVMAS_MAP_WRITE))
		written = 0;
	if (kas_alive(ours->kvmas)) {
		err = write_back(ours, dma, written, &arrived);
		map_free(ours);
	}
	if (done)
		*done = arrived;
	return err;
}

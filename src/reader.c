/* SPDX-License-Identifier: MIT */
/*
 * Readers: how a thread looks at the view of a space while other threads commit. It pins the view
 * in memory of its own (pins.h), so that looking costs no lock and no write to shared memory. With
 * all its pins in use (a view held while devices access each other, many deep) it counts instead.
 *
 * Each reader remembers the range that it found last. A view is known by its serial: its address
 * may be another view's by the next time.
 */
#include "reader.h"

#include <errno.h>

#include "txn.h"

void kas_reader_init(struct kvmas_reader *reader, struct kvmas *kvmas)
{
	reader->kvmas = kvmas;
	reader->alive = kvmas->alive;
	kas_pins_add(&kvmas->pinboard, &reader->pins);
}

void kas_reader_fini(struct kvmas_reader *reader)
{
	kas_pins_del(&reader->pins);
}

int kvmas_reader_add(struct kvmas *kvmas, struct kvmas_reader **ret)
{
	struct kvmas_reader *reader;

	if (!kas_alive(kvmas))
		return -EIO;
	reader = kas_alloc(kvmas, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	kas_hold(kvmas);
	kas_reader_init(reader, kvmas);
	*ret = reader;
	return 0;
}

void kvmas_reader_del(struct kvmas_reader *reader)
{
	struct kvmas *kvmas;

	if (!reader || !kas_alive(reader->kvmas))
		return;
	kvmas = reader->kvmas;
	kas_reader_fini(reader);
	kas_free(kvmas, reader);
	kas_reclaim_if_closed(kvmas);
	kas_let_go(kvmas);
}

/* With no pin left. This and its counterpart are apart, so that a pin, which needs no stack, does
 * not pay for it. */
__attribute__((noinline)) static struct kvmas_view *count(struct kvmas_reader *reader,
							  struct kvmas_space *space)
{
	struct kvmas_view *view;

	kas_pins_count(&reader->pins);
	view = kas_space_get_view(space);
	if (!view)
		kas_pins_uncount(&reader->pins);
	return view;
}

__attribute__((noinline)) static void uncount(struct kvmas_reader *reader, struct kvmas_view *view)
{
	kas_view_unref(view);
	kas_pins_uncount(&reader->pins);
}

static inline struct kvmas_view *pin(struct kvmas_reader *reader, struct kvmas_space *space)
{
	bool full;
	struct kvmas_view *view = kas_space_pin_view(space, &reader->pins, &full);

	return kas_rarely(full) ? count(reader, space) : view;
}

static inline void unpin(struct kvmas_reader *reader, struct kvmas_view *view)
{
	if (kas_rarely(!kas_unpin(&reader->pins, &view->object)))
		uncount(reader, view);
}

struct kvmas_view *kas_reader_pin(struct kvmas_reader *reader, struct kvmas_space *space)
{
	return pin(reader, space);
}

void kas_reader_unpin(struct kvmas_reader *reader, struct kvmas_view *view)
{
	unpin(reader, view);
}

const struct kvmas_view *kvmas_view_acquire(struct kvmas_reader *reader, struct kvmas_space *space)
{
	bool alive = *(const volatile unsigned char *)reader->alive;

	return kas_rarely(!alive) ? NULL : pin(reader, space);
}

void kvmas_view_release(struct kvmas_reader *reader, const struct kvmas_view *view)
{
	if (view)
		unpin(reader, (struct kvmas_view *)(uintptr_t)view);
}

static void remember(struct hit *hit, const struct kvmas_view *view, const struct flat_range *range)
{
	const struct kvmas_region *region = range->region;
	const struct kvmas_ram *ram = kas_range_ram(range);

	*hit = (struct hit){
		.serial = view->serial,
		.first = range->range.first,
		.length = range->range.last - range->range.first,
		.offset = range->offset,
		.region = range->region,
		.hva = ram ? ram->hva + region->ram_offset + range->offset : NULL,
		.range = range,
		.writable = kas_range_is_writable(range),
	};
}

static inline bool is_in(const struct hit *hit, const struct kvmas_view *view, uint64_t address)
{
	return hit->serial == view->serial && address - hit->first <= hit->length;
}

const struct flat_range *kas_reader_find(struct kvmas_reader *reader, const struct kvmas_view *view,
					 uint64_t address)
{
	struct hit *hit = &reader->hit;
	const struct flat_range *range;

	if (is_in(hit, view, address))
		return hit->range;
	range = kas_view_find(view, address);
	if (range && range->range.first <= address)
		remember(hit, view, range);
	return range;
}

static inline void tell(const struct hit *hit, uint64_t gpa, struct kvmas_place *ret)
{
	uint64_t inside = gpa - hit->first;

	ret->region = hit->region;
	ret->offset = hit->offset + inside;
	ret->left = hit->length - inside;
	ret->left += ret->left < UINT64_MAX; /* at most 2^64 - 1 */
	ret->hva = hit->hva ? hit->hva + inside : NULL;
	ret->writable = hit->writable;
}

/* Apart, so that a hit, which needs no stack, does not pay for it. */
__attribute__((noinline)) static int look_further(struct hit *hit, const struct kvmas_view *view,
						  uint64_t gpa, struct kvmas_place *ret)
{
	const struct flat_range *range = kas_view_find(view, gpa);

	if (!range || range->range.first > gpa)
		return -ENOENT;
	remember(hit, view, range);
	tell(hit, gpa, ret);
	return 0;
}

int kvmas_reader_lookup(struct kvmas_reader *reader, const struct kvmas_view *view, uint64_t gpa,
			struct kvmas_place *ret)
{
	if (kas_rarely(!is_in(&reader->hit, view, gpa)))
		return look_further(&reader->hit, view, gpa, ret);
	tell(&reader->hit, gpa, ret);
	return 0;
}

int kvmas_synchronize(struct kvmas *kvmas)
{
	int err = kas_alive(kvmas) ? 0 : -EIO;

	if (!err && kas_lock_is_mine(kvmas))
		err = -EBUSY;
	if (!err && kas_pinboard_has_mine(&kvmas->pinboard))
		err = -EDEADLK;
	if (err)
		return err;
	/* Coalesced writes that wait may lead to what was taken away. */
	kas_ties_drain(kvmas, NULL);
	return kas_pinboard_wait(&kvmas->pinboard);
}

/* SPDX-License-Identifier: MIT */
/*
 * Caches: where a range of guest memory lies in host memory, known from one look to the next. What
 * a cache says is true of one view, which it knows by its serial; under any other it looks again.
 * That the range is no memory is kept in the same way.
 *
 * Nothing is held: the pointers are followed only while the view of that serial is pinned, which
 * keeps what they point to. Serials are numbered by each kvmas, so that a cache belongs to one.
 */
#include <errno.h>

#include "memory.h"
#include "ram.h"

void kvmas_cache_init(struct kvmas_cache *cache, uint64_t gpa, uint64_t size, bool write)
{
	*cache = (struct kvmas_cache){.gpa = gpa, .size = size, .write = write};
}

static int look(struct kvmas_cache *cache, const struct kvmas_view *view)
{
	struct memory memory;
	struct range window;
	int err = kas_range_from(cache->gpa, cache->size, &window);

	if (err)
		return err;
	err = kas_memory_whole(view, window, cache->write, &memory);
	if (err)
		return err == -EOPNOTSUPP ? -ENXIO : err;
	cache->hva = memory.hva;
	cache->ram = memory.ram;
	cache->ram_offset = memory.ram_offset;
	return 0;
}

int kvmas_cache_get(struct kvmas_cache *cache, const struct kvmas_view *view, void **ret)
{
	if (!kas_alive(view->object.kvmas))
		return -EIO;
	if (cache->serial != view->serial) {
		cache->err = look(cache, view);
		cache->serial = view->serial;
	}
	if (cache->err)
		return cache->err;
	*ret = cache->hva;
	return 0;
}

int kvmas_cache_mark(const struct kvmas_cache *cache, uint64_t offset, uint64_t size)
{
	if (!cache->write || !cache->serial || cache->err || offset > cache->size ||
	    size > cache->size - offset)
		return -EINVAL;
	return kvmas_ram_mark(cache->ram, cache->ram_offset + offset, size);
}

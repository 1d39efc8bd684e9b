/* SPDX-License-Identifier: MIT */
/*
 * Resizing a RAM block: an edit like those of the tree, undone with them.
 *
 *     resize     the new size counts at once, for what comes later in the transaction
 *     commit     what was added is marked dirty, what was taken away goes back to the host
 *     abort      the old size counts again; what was added goes back
 *
 * A transaction may change a size several times. Pages go back, and bits are set, when it has ended
 * only: until then the views show what they showed at its begin, and every byte below the committed
 * size must stay as it is.
 *
 * Nothing is mapped or unmapped, no bitmap grows: the end of a resize cannot fail.
 *
 * Nothing is given back of a file that is shared: what lies in it past the block is its owner's.
 *
 * Read change_size first.
 */
#include <errno.h>

#include "ram.h"
#include "txn.h"

struct resize_undo {
	struct undo undo;
	struct kvmas_ram *ram; /* held */
	uint64_t size;         /* before */
};

static void free_resize_undo(struct resize_undo *resize)
{
	struct kvmas_ram *ram = resize->ram;

	kas_free(ram->home, resize);
	kvmas_ram_unref(ram);
}

/* Some memory is not given back, by a file system that has no holes, say: it is not used either. */
static void give_back(const struct kvmas_ram *ram, uint64_t from, uint64_t to)
{
	int err = kas_ram_give_back(ram, from, to - from);

	if (err)
		kas_log(ram->home, KVMAS_LOG_WARNING,
			"ram %s: what a resize took away is not given back: errno %d", ram->name,
			-err);
}

/* Whether what lies in the block is nobody's but the block's. */
static bool owns_content(const struct kvmas_ram *ram)
{
	return ram->source == KVMAS_RAM_ANON || ram->source == KVMAS_RAM_MEMFD ||
	       (ram->source == KVMAS_RAM_FILE && ram->flags & KVMAS_RAM_PRIVATE);
}

/* Take back what a growth has made present, or a VMM has written to it already. */
static void drop_growth(const struct kvmas_ram *ram, uint64_t from, uint64_t to)
{
	from = from > ram->committed ? from : ram->committed;
	if (to > from && (ram->source == KVMAS_RAM_ANON || ram->source == KVMAS_RAM_MEMFD))
		give_back(ram, from, to);
}

static void restore_resize(struct undo *undo)
{
	struct resize_undo *resize = kas_container_of(undo, struct resize_undo, undo);
	uint64_t grown = resize->ram->size;

	kas_ram_restore_size(resize->ram, resize->size);
	drop_growth(resize->ram, resize->size, grown);
	free_resize_undo(resize);
}

/* Several resizes in one transaction end newest first, each against the size that stays. */
static void release_resize(struct undo *undo)
{
	struct resize_undo *resize = kas_container_of(undo, struct resize_undo, undo);
	struct kvmas_ram *ram = resize->ram;
	uint64_t before = resize->size;
	uint64_t size = ram->size;

	kas_ram_settle(ram);
	if (before < size)
		kvmas_ram_mark(ram, before, size - before);
	else if (before > size && owns_content(ram))
		give_back(ram, size, before);
	free_resize_undo(resize);
}

/* Resize to *size*, whole pages, of which the caller asked for *wanted* bytes. */
static int change_size(struct kvmas_ram *ram, uint64_t size, uint64_t wanted)
{
	uint64_t before = ram->size;
	struct resize_undo *resize;
	int err;

	if (size == before)
		return 0;
	resize = kas_alloc(ram->home, sizeof(*resize));
	if (!resize)
		return -ENOMEM;
	resize->undo.restore = restore_resize;
	resize->undo.release = release_resize;
	resize->size = before;
	err = kas_ram_check_backing(ram, wanted);
	if (!err && size > before)
		err = kas_ram_prefault(ram, before, size - before);
	if (!err)
		err = kas_ram_set_size(ram, size);
	if (err) {
		drop_growth(ram, before, size);
		kas_free(ram->home, resize);
		return err;
	}
	resize->ram = kvmas_ram_ref(ram);
	kas_txn_record(ram->home, &resize->undo);
	return 0;
}

static int resize_once(struct kvmas_ram *ram, uint64_t size)
{
	uint64_t mask = kas_page_size() - 1;
	int err = kvmas_begin(ram->home);

	if (err)
		return err;
	if (size == 0 || size > ram->max_size)
		err = -EINVAL;
	else
		err = change_size(ram, (size + mask) & ~mask, size);
	return kas_txn_end(ram->home, err);
}

int kvmas_ram_resize(struct kvmas_ram *ram, uint64_t size)
{
	int err = resize_once(ram, size);

	/* A region that only an ended view still holds is no reason to refuse. */
	if (err == -EBUSY && !kas_try_reclaim(ram->home))
		err = resize_once(ram, size);
	return err;
}

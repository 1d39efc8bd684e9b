/* SPDX-License-Identifier: MIT */
/*
 * The life of a struct kvmas, as its user sees it: made, shared by handles, closed with the last of
 * them. What objects have in common stands in object.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "logging.h"
#include "object.h"

#define DEFAULT_MAX_RANGES (UINT64_C(1) << 16)
#define DEFAULT_MAX_NODES (UINT64_C(1) << 22)
#define DEFAULT_MAX_REGIONS (UINT64_C(1) << 20)
#define DEFAULT_MAX_BOUNCE (UINT64_C(1) << 16)

const char *kvmas_version(void)
{
	return "0.1.0";
}

static void *libc_realloc(void *data, void *ptr, size_t size)
{
	(void)data;
	if (size == 0) {
		free(ptr);
		return NULL;
	}
	return realloc(ptr, size);
}

/* A page that the kernel empties in a forked child (madvise(2), since Linux 4.14). */
static int map_alive(const unsigned char **ret)
{
	size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *page =
		mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (page == MAP_FAILED)
		return -errno;
	if (madvise(page, page_size, MADV_WIPEONFORK)) {
		err = -errno;
		munmap(page, page_size);
		return err;
	}
	*page = 1;
	*ret = page;
	return 0;
}

static void set_defaults(struct kvmas_config *config)
{
	if (!config->realloc)
		config->realloc = libc_realloc;
	if (!config->max_ranges)
		config->max_ranges = DEFAULT_MAX_RANGES;
	if (!config->max_nodes)
		config->max_nodes = DEFAULT_MAX_NODES;
	if (!config->max_regions)
		config->max_regions = DEFAULT_MAX_REGIONS;
	if (!config->max_bounce)
		config->max_bounce = DEFAULT_MAX_BOUNCE;
}

static void init_members(struct kvmas *kvmas)
{
	atomic_init(&kvmas->handles, 1);
	atomic_init(&kvmas->holders, 1);
	kas_pinboard_init(&kvmas->pinboard);
	pthread_mutex_init(&kvmas->lists_lock, NULL);
	pthread_mutex_init(&kvmas->txn.lock, NULL);
	TAILQ_INIT(&kvmas->regions);
	TAILQ_INIT(&kvmas->clients);
	TAILQ_INIT(&kvmas->spaces);
	TAILQ_INIT(&kvmas->damaged);
	TAILQ_INIT(&kvmas->changing);
	TAILQ_INIT(&kvmas->ties);
	TAILQ_INIT(&kvmas->txn.waiting);
	TAILQ_INIT(&kvmas->txn.channelled);
}

int kvmas_new(const struct kvmas_config *config, struct kvmas **ret)
{
	struct kvmas_config ours = {.struct_size = sizeof(ours)};
	struct kvmas *kvmas;
	int err = 0;

	if (config)
		err = kas_config_copy(&ours, sizeof(ours), config);
	if (err)
		return err;
	set_defaults(&ours);

	kvmas = ours.realloc(ours.realloc_data, NULL, sizeof(*kvmas));
	if (!kvmas)
		return -ENOMEM;
	memset(kvmas, 0, sizeof(*kvmas));
	kvmas->config = ours;
	err = map_alive(&kvmas->alive);
	if (err) {
		ours.realloc(ours.realloc_data, kvmas, 0);
		return err;
	}
	init_members(kvmas);
	*ret = kvmas;
	return 0;
}

struct kvmas *kvmas_ref(struct kvmas *kvmas)
{
	atomic_fetch_add_explicit(&kvmas->handles, 1, memory_order_relaxed);
	return kvmas;
}

void kvmas_unref(struct kvmas *kvmas)
{
	if (!kvmas || !kas_alive(kvmas))
		return;
	if (atomic_fetch_sub_explicit(&kvmas->handles, 1, memory_order_acq_rel) != 1)
		return;
	kas_logging_close(kvmas);
	kas_let_go(kvmas);
}

int kvmas_reclaim(struct kvmas *kvmas)
{
	struct kvmas_space *space;
	int err = kas_lock_outside(kvmas);

	if (err)
		return err;
	kas_reclaim(kvmas);
	TAILQ_FOREACH(space, &kvmas->spaces, all) {
		if (space->root)
			kas_changes_fini(kvmas, &space->root->changes);
	}
	kas_kept_free(kvmas);
	kas_unlock(kvmas);
	return 0;
}

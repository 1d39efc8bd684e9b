/* SPDX-License-Identifier: MIT */
/*
 * Clients: consumers of dirty pages. A client owns a bitmap on every RAM block that its kvmas has a
 * region on, and wishes for what is to be logged.
 *
 * A client has two counts. Its handles are the user's; when the last is dropped the client is gone:
 * its wishes are forgotten by the next commit. The wishes in the table hold the object until then.
 *
 * How its pages are taken: taking.c.
 */
#include "client.h"

#include <errno.h>

#include "ram.h"
#include "sync.h"
#include "txn.h"

static void delist(struct kvmas *kvmas, struct kvmas_client *client)
{
	pthread_mutex_lock(&kvmas->lists_lock);
	TAILQ_REMOVE(&kvmas->clients, &client->dirty, all);
	kas_dirty_free_bitmaps(&client->dirty, kvmas);
	pthread_mutex_unlock(&kvmas->lists_lock);
}

static void client_end(struct object *object)
{
	struct kvmas_client *client = kas_container_of(object, struct kvmas_client, object);
	struct kvmas *kvmas = object->kvmas;

	delist(kvmas, client);
	kas_free(kvmas, client->name);
	kas_free(kvmas, client);
}

/* Make the client known, with a clean bitmap on every block. */
static int enlist(struct kvmas *kvmas, struct kvmas_client *client)
{
	struct kvmas_region *region;
	int err = 0;

	pthread_mutex_lock(&kvmas->lists_lock);
	TAILQ_FOREACH(region, &kvmas->regions, all) {
		if (region->ram)
			err = kas_dirty_add_bitmap(region->ram->dirty, &client->dirty, kvmas);
		if (!err && region->ram)
			err = kas_sources_clear_all(&region->ram->sources);
		if (err)
			break;
	}
	if (err)
		kas_dirty_free_bitmaps(&client->dirty, kvmas);
	else
		TAILQ_INSERT_TAIL(&kvmas->clients, &client->dirty, all);
	pthread_mutex_unlock(&kvmas->lists_lock);
	return err;
}

/* Make the client known, and see that it is told of all that is written from now on: also by a
 * listener that has told others already, and waits to be armed. */
static int welcome(struct kvmas *kvmas, struct kvmas_client *client)
{
	const struct range all = {0, UINT64_MAX};
	int err = enlist(kvmas, client);

	if (err || !kas_listeners_need_arming(kvmas))
		return err;
	err = kas_listeners_arm(kvmas, NULL, all);
	if (err)
		delist(kvmas, client);
	return err;
}

int kvmas_client_new(struct kvmas *kvmas, const char *name, struct kvmas_client **ret)
{
	struct kvmas_client *client;
	int err = -ENOMEM;

	if (!kas_alive(kvmas))
		return -EIO;
	if (!name)
		return -EINVAL;
	client = kas_alloc(kvmas, sizeof(*client));
	if (!client)
		return err;
	TAILQ_INIT(&client->dirty.bitmaps);
	client->name = kas_strdup(kvmas, name);
	if (!client->name)
		goto free_client;
	err = welcome(kvmas, client);
	if (err)
		goto free_name;
	atomic_init(&client->handles, 1);
	client->owner.object = &client->object;
	kas_object_init(&client->object, kvmas, client_end);
	*ret = client;
	return 0;

free_name:
	kas_free(kvmas, client->name);
free_client:
	kas_free(kvmas, client);
	return err;
}

struct kvmas_client *kvmas_client_ref(struct kvmas_client *client)
{
	atomic_fetch_add_explicit(&client->handles, 1, memory_order_relaxed);
	return client;
}

void kvmas_client_unref(struct kvmas_client *client)
{
	struct kvmas *kvmas;

	if (!client || !kas_alive(client->object.kvmas))
		return;
	if (atomic_fetch_sub_explicit(&client->handles, 1, memory_order_acq_rel) != 1)
		return;
	kvmas = client->object.kvmas;
	kas_hold(kvmas);
	atomic_store(&client->owner.gone, true);
	atomic_store(&kvmas->logging_stale, true);
	kas_object_unref(&client->object);
	kas_logging_close(kvmas);
	kas_let_go(kvmas);
}

static int change_wish(struct kvmas_client *client, struct kvmas_region *region,
		       struct kvmas_space *space,
		       int (*change)(struct kvmas *kvmas, const struct log_wish *wish))
{
	struct log_wish wish = {&client->owner, region, space};
	struct kvmas *kvmas = client->object.kvmas;
	int err;

	if ((region && region->object.kvmas != kvmas) || (space && space->object.kvmas != kvmas))
		return -EXDEV;
	err = kvmas_begin(kvmas);
	if (err)
		return err;
	return kas_txn_end(kvmas, change(kvmas, &wish));
}

int kvmas_client_log_start(struct kvmas_client *client, struct kvmas_region *region,
			   struct kvmas_space *space)
{
	return change_wish(client, region, space, kas_logging_add);
}

int kvmas_client_log_stop(struct kvmas_client *client, struct kvmas_region *region,
			  struct kvmas_space *space)
{
	return change_wish(client, region, space, kas_logging_remove);
}

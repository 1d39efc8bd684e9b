/* SPDX-License-Identifier: MIT */
/*
 * See model.h: the steps that add and delete listeners, and what these do with what they are told.
 */
#include "model.h"

/* What would change the topology is refused while listeners are told. */
static void try_inside(struct model *m)
{
	struct kvmas *kvmas = m->f->kvmas;
	int result = -EBUSY;

	switch (m->inside_calls++ % 3) {
	case 0:
		result = kvmas_begin(kvmas);
		break;
	case 1:
		result = kvmas_reclaim(kvmas);
		break;
	default:
		for (unsigned i = 0; i < m->nregions; i++) {
			if (!m->places[i].handle)
				continue;
			result = kvmas_region_set_enabled(m->places[i].region, true);
			break;
		}
	}
	m->inside_taken += result != -EBUSY;
}

static int hearer_prepare(void *data, const struct kvmas_changes *changes)
{
	struct hearer *hearer = data;
	struct model *m = hearer->model;

	(void)changes;
	try_inside(m);
	if (hearer->owed)
		hearer->mirror.fault = "asked again before commit or cancel";
	if (m->veto && --m->veto == 0) {
		m->vetoed = true;
		return -EPERM;
	}
	hearer->owed = true;
	return 0;
}

static void hearer_cancel(void *data)
{
	struct hearer *hearer = data;

	if (!hearer->owed)
		hearer->mirror.fault = "cancel without an agreement";
	hearer->owed = false;
}

static void hearer_begin(void *data)
{
	struct hearer *hearer = data;

	if (hearer->owed == hearer->replays)
		hearer->mirror.fault = "told of a commit without being asked before";
	mirror_begin(&hearer->mirror);
}

static void hearer_add(void *data, const struct kvmas_section *section)
{
	struct hearer *hearer = data;

	mirror_add(&hearer->mirror, section);
}

static void hearer_del(void *data, const struct kvmas_section *section)
{
	struct hearer *hearer = data;

	mirror_del(&hearer->mirror, section);
}

static void hearer_log_start(void *data, const struct kvmas_section *section)
{
	struct hearer *hearer = data;

	mirror_log_start(&hearer->mirror, section);
}

static void hearer_log_stop(void *data, const struct kvmas_section *section)
{
	struct hearer *hearer = data;

	mirror_log_stop(&hearer->mirror, section);
}

static void hearer_commit(void *data)
{
	struct hearer *hearer = data;

	mirror_commit(&hearer->mirror);
	hearer->owed = false;
	try_inside(hearer->model);
}

static struct hearer *draw_hearer(struct model *m, bool attached)
{
	for (unsigned i = 0; i < 2 * MAX_HEARERS; i++) {
		struct hearer *hearer = &m->hearers[draw(m, MAX_HEARERS)];

		if ((hearer->listener != NULL) == attached)
			return hearer;
	}
	return NULL;
}

int model_listener_add(struct model *m)
{
	struct hearer *hearer = draw_hearer(m, false);
	int space = (int)draw(m, MAX_SPACES);
	int err;

	if (!hearer || !m->spaces[space].handle)
		return SKIPPED;
	*hearer = (struct hearer){.model = m, .space = space, .replays = true};
	refuse(m, -EBUSY, m->depth > 0);
	say(m, "listener_add to %d", space);
	err = kvmas_listener_add(m->spaces[space].space,
				 KVMAS_CONFIG(listener, .data = hearer, .priority = (int)draw(m, 3),
					      .begin = hearer_begin, .region_add = hearer_add,
					      .region_del = hearer_del,
					      .log_start = hearer_log_start,
					      .log_stop = hearer_log_stop, .commit = hearer_commit,
					      .prepare = hearer_prepare, .cancel = hearer_cancel),
				 &hearer->listener);
	hearer->replays = false;
	assert_int_equal(hearer->mirror.begins, err == 0);
	hearer->mirror.begins = 0;
	hearer->mirror.commits = 0;
	return err;
}

static int detach(struct model *m, struct hearer *hearer)
{
	int err;

	model_check_hearer(m, hearer);
	hearer->replays = true;
	err = kvmas_listener_del(hearer->listener);
	hearer->replays = false;
	if (err)
		return err;
	assert_int_equal(hearer->mirror.begins, 1);
	if (hearer->mirror.fault || hearer->mirror.count)
		fail_msg("detached: %s",
			 hearer->mirror.fault ? hearer->mirror.fault : "not told all");
	mirror_fini(&hearer->mirror);
	hearer->listener = NULL;
	must(kvmas_reclaim(m->f->kvmas));
	model_collect(m);
	return 0;
}

int model_listener_del(struct model *m)
{
	struct hearer *hearer = draw_hearer(m, true);

	if (!hearer)
		return SKIPPED;
	refuse(m, -EBUSY, m->depth > 0);
	say(m, "listener_del from %d", hearer->space);
	return detach(m, hearer);
}

/* SPDX-License-Identifier: MIT */
#include "vhost.h"

#include <stdatomic.h>

static _Atomic(uint64_t) *number_of(const struct kvmas_ram *ram, uint64_t page)
{
	char *hva = kvmas_ram_get_hva(ram);

	return (_Atomic(uint64_t) *)(void *)(hva + page * page_size());
}

uint64_t vhost_number(const struct kvmas_ram *ram, uint64_t page)
{
	return atomic_load(number_of(ram, page));
}

void vhost_count_up(const struct kvmas_ram *ram, uint64_t page)
{
	atomic_fetch_add(number_of(ram, page), 1);
}

unsigned vhost_draw(uint64_t *seed, unsigned below)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(*seed >> 33) % below;
}

static uint64_t first_page(const struct kvmas_section *section)
{
	return section->ram_offset / page_size();
}

static uint64_t end_page(const struct kvmas_section *section)
{
	return (section->ram_offset + section->size) / page_size();
}

/* Mark what the log has of a section. Under the lock. */
static void hand_over(struct vhost *vhost, const struct kvmas_section *section)
{
	for (uint64_t page = first_page(section); page < end_page(section); page++) {
		if (!vhost->written[page])
			continue;
		vhost->nerrors += kvmas_ram_mark(vhost->ram, page * page_size(), 1) != 0;
		vhost->written[page] = false;
		vhost->told[page] = vhost->arms;
	}
}

/* It forgets what it has told, not what it has still to tell. Under the lock. */
static void arm(struct vhost *vhost, const struct kvmas_section *section)
{
	for (uint64_t page = first_page(section); page < end_page(section); page++) {
		vhost->narmed += vhost->told[page];
		vhost->told[page] = false;
	}
}

static unsigned find(const struct vhost *vhost, uint64_t gpa)
{
	unsigned i = 0;

	while (i < vhost->nsections && vhost->sections[i].gpa != gpa)
		i++;
	return i;
}

/* Callbacks fail no test themselves: they run on any thread. */
static void hear_add(void *data, const struct kvmas_section *section)
{
	struct vhost *vhost = data;

	if (section->ram != vhost->ram)
		return;
	pthread_mutex_lock(&vhost->lock);
	vhost->nerrors += vhost->nsections == VHOST_SECTIONS;
	if (section->logged)
		arm(vhost, section); /* it may be written to before log_start follows */
	if (vhost->nsections < VHOST_SECTIONS)
		vhost->sections[vhost->nsections++] = *section;
	pthread_mutex_unlock(&vhost->lock);
}

static void hear_del(void *data, const struct kvmas_section *section)
{
	struct vhost *vhost = data;
	unsigned i;

	pthread_mutex_lock(&vhost->lock);
	i = find(vhost, section->gpa);
	if (i < vhost->nsections) {
		if (!vhost->is_sloppy)
			hand_over(vhost, section);
		vhost->sections[i] = vhost->sections[--vhost->nsections];
	}
	pthread_mutex_unlock(&vhost->lock);
}

static void hear_logging(struct vhost *vhost, const struct kvmas_section *section)
{
	unsigned i;

	pthread_mutex_lock(&vhost->lock);
	i = find(vhost, section->gpa);
	if (i < vhost->nsections) {
		vhost->sections[i].logged = section->logged;
		if (section->logged)
			arm(vhost, section);
		else
			hand_over(vhost, section);
	}
	pthread_mutex_unlock(&vhost->lock);
}

static void hear_log_start(void *data, const struct kvmas_section *section)
{
	hear_logging(data, section);
}

static void hear_log_stop(void *data, const struct kvmas_section *section)
{
	hear_logging(data, section);
}

static int hear_sync(void *data, uint64_t gpa, uint64_t last)
{
	struct vhost *vhost = data;

	pthread_mutex_lock(&vhost->lock);
	for (unsigned i = 0; i < vhost->nsections; i++) {
		const struct kvmas_section *section = &vhost->sections[i];

		if (section->gpa <= last && section->last >= gpa)
			hand_over(vhost, section);
	}
	pthread_mutex_unlock(&vhost->lock);
	return 0;
}

static int hear_clear(void *data, const struct kvmas_section *section)
{
	struct vhost *vhost = data;

	if (section->ram != vhost->ram)
		return 0;
	pthread_mutex_lock(&vhost->lock);
	arm(vhost, section);
	pthread_mutex_unlock(&vhost->lock);
	return 0;
}

void vhost_add(struct vhost *vhost, struct kvmas_space *space)
{
	bool clears = vhost->arms && !vhost->is_deaf;

	must(pthread_mutex_init(&vhost->lock, NULL));
	must(kvmas_listener_add(space,
				KVMAS_CONFIG(listener, .data = vhost, .region_add = hear_add,
					     .region_del = hear_del, .log_start = hear_log_start,
					     .log_stop = hear_log_stop, .log_sync = hear_sync,
					     .log_clear = clears ? hear_clear : NULL),
				&vhost->listener));
}

void vhost_del(struct vhost *vhost)
{
	must(kvmas_listener_del(vhost->listener));
	assert_int_equal(vhost->nsections, 0);
	assert_int_equal(vhost->nerrors, 0);
	must(pthread_mutex_destroy(&vhost->lock));
}

void vhost_write(struct vhost *vhost)
{
	pthread_rwlock_rdlock(vhost->pause);
	pthread_mutex_lock(&vhost->lock);
	if (vhost->nsections) {
		unsigned i = vhost_draw(&vhost->seed, vhost->nsections);
		const struct kvmas_section *section = &vhost->sections[i];
		uint64_t npages = end_page(section) - first_page(section);
		uint64_t page = first_page(section) + vhost_draw(&vhost->seed, (unsigned)npages);

		vhost_count_up(vhost->ram, page);
		vhost->nwrites++;
		if (section->logged && !vhost->told[page])
			vhost->written[page] = true;
		else if (section->logged)
			vhost->nunnoticed++;
	}
	pthread_mutex_unlock(&vhost->lock);
	pthread_rwlock_unlock(vhost->pause);
}

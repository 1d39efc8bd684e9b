/* SPDX-License-Identifier: MIT */
/*
 * See mirror.h. The list is sorted by gpa. The first fault is remembered, and nothing is asserted
 * here, so that the list itself can be tested.
 */
#include "mirror.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool mirror_same_section(const struct kvmas_section *a, const struct kvmas_section *b)
{
	return a->gpa == b->gpa && a->size == b->size && a->last == b->last &&
	       a->region == b->region && a->offset == b->offset && a->readonly == b->readonly &&
	       a->nonvolatile == b->nonvolatile && a->unmergeable == b->unmergeable &&
	       a->romd == b->romd && a->ram == b->ram && a->ram_offset == b->ram_offset &&
	       a->hva == b->hva && a->fd == b->fd && a->fd_offset == b->fd_offset;
}

static void blame(struct mirror *mirror, const char *fault)
{
	if (!mirror->fault)
		mirror->fault = fault;
}

/* The first section at *gpa* or above it. */
static size_t find_place(const struct mirror *mirror, uint64_t gpa)
{
	size_t low = 0;
	size_t high = mirror->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (mirror->sections[middle].gpa < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct kvmas_section *find_section(struct mirror *mirror,
					  const struct kvmas_section *section)
{
	size_t at = find_place(mirror, section->gpa);

	if (at < mirror->count && mirror_same_section(&mirror->sections[at], section))
		return &mirror->sections[at];
	blame(mirror, "told of a section that was never added");
	return NULL;
}

static void check_telling(struct mirror *mirror, const struct kvmas_section *section)
{
	uint64_t length = section->last - section->gpa; /* but 1; 2^64 - 1 bytes count as 2^64 */
	uint64_t size = length == UINT64_MAX ? KVMAS_SIZE_MAX : length + 1;

	if (mirror->begins != mirror->commits + 1)
		blame(mirror, "told outside begin and commit");
	if (section->last < section->gpa || section->size != size)
		blame(mirror, "a section whose size and last address disagree");
}

/* Additions and changes of logging go upwards, after all deletions. */
static void check_ascent(struct mirror *mirror, const struct kvmas_section *section)
{
	check_telling(mirror, section);
	if (section->gpa < mirror->next_gpa)
		blame(mirror, "additions do not ascend");
	mirror->next_gpa = section->gpa;
	mirror->dels_are_over = true;
}

void mirror_begin(void *data)
{
	struct mirror *mirror = data;

	if (mirror->begins++ != mirror->commits)
		blame(mirror, "begin in begin");
	mirror->last_del = UINT64_MAX;
	mirror->next_gpa = 0;
	mirror->dels_are_over = false;
	mirror->ngone = 0;
}

static bool has_gone(const struct mirror *mirror, const struct kvmas_section *section)
{
	for (size_t i = 0; i < mirror->ngone; i++) {
		if (mirror_same_section(&mirror->gone[i], section))
			return true;
	}
	return false;
}

static void insert(struct mirror *mirror, size_t at, const struct kvmas_section *section)
{
	if (mirror->count == mirror->capacity) {
		mirror->capacity = 2 * mirror->capacity + 16;
		mirror->sections =
			realloc(mirror->sections, mirror->capacity * sizeof(*mirror->sections));
		assert(mirror->sections);
	}
	memmove(&mirror->sections[at + 1], &mirror->sections[at],
		(mirror->count - at) * sizeof(*section));
	mirror->sections[at] = *section;
	mirror->sections[at].logged = false;
	mirror->count++;
}

void mirror_add(void *data, const struct kvmas_section *section)
{
	struct mirror *mirror = data;
	size_t at = find_place(mirror, section->gpa);

	check_ascent(mirror, section);
	if (mirror->awaits_log_start)
		blame(mirror, "no log_start after a logged section was added");
	if (section->was_logged)
		blame(mirror, "added as logged before");
	if (has_gone(mirror, section))
		blame(mirror, "deleted and added, though it stays");
	if ((at > 0 && mirror->sections[at - 1].last >= section->gpa) ||
	    (at < mirror->count && mirror->sections[at].gpa <= section->last))
		blame(mirror, "sections overlap");
	insert(mirror, at, section);
	mirror->awaits_log_start = section->logged;
	mirror->added = section->gpa;
}

void mirror_del(void *data, const struct kvmas_section *section)
{
	struct mirror *mirror = data;
	struct kvmas_section *entry = find_section(mirror, section);
	size_t after;

	check_telling(mirror, section);
	if (mirror->dels_are_over || section->last > mirror->last_del)
		blame(mirror, "deletions do not descend, or come late");
	mirror->last_del = section->gpa;
	if (mirror->ngone < sizeof(mirror->gone) / sizeof(mirror->gone[0]))
		mirror->gone[mirror->ngone++] = *section;
	if (!entry)
		return;
	if (entry->logged != section->logged || section->was_logged != section->logged)
		blame(mirror, "deleted with another logged than it had");
	after = (size_t)(&mirror->sections[--mirror->count] - entry);
	memmove(entry, entry + 1, after * sizeof(*entry));
}

static void mirror_log(struct mirror *mirror, const struct kvmas_section *section, bool logged)
{
	struct kvmas_section *entry = find_section(mirror, section);

	check_ascent(mirror, section);
	if (!entry)
		return;
	if (entry->logged == logged || section->logged != logged || section->was_logged == logged)
		blame(mirror, "log_start or log_stop of what is so already");
	if (mirror->awaits_log_start && mirror->added != section->gpa)
		blame(mirror, "log_start of another section than the one added");
	mirror->awaits_log_start = false;
	entry->logged = logged;
}

void mirror_log_start(void *data, const struct kvmas_section *section)
{
	mirror_log(data, section, true);
}

void mirror_log_stop(void *data, const struct kvmas_section *section)
{
	mirror_log(data, section, false);
}

void mirror_commit(void *data)
{
	struct mirror *mirror = data;

	if (++mirror->commits != mirror->begins)
		blame(mirror, "commit without begin");
	if (mirror->awaits_log_start)
		blame(mirror, "no log_start after a logged section was added");
}

void mirror_fini(struct mirror *mirror)
{
	free(mirror->sections);
	*mirror = (struct mirror){0};
}

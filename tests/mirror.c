/* SPDX-License-Identifier: MIT */
/*
 * See mirror.h. The list is sorted by gpa. The first fault is remembered, and nothing is asserted
 * here, so that the list itself can be tested.
 */
#include "mirror.h"

#include <string.h>

#include "fixture.h"

static bool same_section(const struct kvmas_section *a, const struct kvmas_section *b)
{
	return a->gpa == b->gpa && a->size == b->size && a->last == b->last &&
	       a->region == b->region && a->offset == b->offset && a->readonly == b->readonly &&
	       a->ram == b->ram && a->ram_offset == b->ram_offset && a->hva == b->hva &&
	       a->fd == b->fd && a->fd_offset == b->fd_offset;
}

static void blame(struct mirror *mirror, const char *fault)
{
	if (!mirror->fault)
		mirror->fault = fault;
}

static struct kvmas_section *find_section(struct mirror *mirror,
					  const struct kvmas_section *section)
{
	for (unsigned i = 0; i < mirror->count; i++) {
		if (same_section(&mirror->sections[i], section))
			return &mirror->sections[i];
	}
	blame(mirror, "told of a section that was never added");
	return NULL;
}

void mirror_begin(void *data)
{
	struct mirror *mirror = data;

	if (mirror->begins++ != mirror->commits)
		blame(mirror, "begin in begin");
	mirror->last_del = UINT64_MAX;
	mirror->next_add = 0;
	mirror->dels_are_over = false;
}

void mirror_add(void *data, const struct kvmas_section *section)
{
	struct mirror *mirror = data;
	unsigned at = mirror->count;

	if (mirror->unlogged)
		blame(mirror, "no log_start after a logged section was added");
	if (section->gpa < mirror->next_add)
		blame(mirror, "additions do not ascend");
	mirror->next_add = section->last; /* + 1, but for the top */
	mirror->dels_are_over = true;
	if (at == MAX_SECTIONS) {
		blame(mirror, "too many sections");
		return;
	}
	for (; at > 0 && mirror->sections[at - 1].gpa > section->gpa; at--)
		mirror->sections[at] = mirror->sections[at - 1];
	mirror->sections[at] = *section;
	mirror->sections[at].logged = false;
	mirror->count++;
	if ((at > 0 && mirror->sections[at - 1].last >= section->gpa) ||
	    (at + 1 < mirror->count && mirror->sections[at + 1].gpa <= section->last))
		blame(mirror, "sections overlap");
	mirror->unlogged = section->logged ? &mirror->sections[at] : NULL;
}

void mirror_del(void *data, const struct kvmas_section *section)
{
	struct mirror *mirror = data;
	struct kvmas_section *entry = find_section(mirror, section);
	size_t after;

	if (mirror->dels_are_over || section->last > mirror->last_del)
		blame(mirror, "deletions do not descend, or come late");
	mirror->last_del = section->gpa;
	if (!entry)
		return;
	if (entry->logged != section->logged)
		blame(mirror, "deleted with another logged than it had");
	after = (size_t)(&mirror->sections[--mirror->count] - entry);
	memmove(entry, entry + 1, after * sizeof(*entry));
}

static void mirror_log(struct mirror *mirror, const struct kvmas_section *section, bool logged)
{
	struct kvmas_section *entry = find_section(mirror, section);

	if (!entry)
		return;
	if (entry->logged == logged || section->logged != logged)
		blame(mirror, "log_start or log_stop of what is so already");
	if (mirror->unlogged && mirror->unlogged != entry)
		blame(mirror, "log_start of another section than the one added");
	mirror->unlogged = NULL;
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
	if (mirror->unlogged)
		blame(mirror, "no log_start after a logged section was added");
}

char *mirror_text(const struct mirror *mirror)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (unsigned i = 0; i < mirror->count; i++) {
		section_text(&text, &mirror->sections[i]);
		text_add(&text, "%s\n", mirror->sections[i].logged ? " logged" : "");
	}
	return text;
}

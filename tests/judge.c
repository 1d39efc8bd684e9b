/* SPDX-License-Identifier: MIT */
#include "judge.h"

#include <inttypes.h>

static const char *const kind_names[] = {
	[KVMAS_CHANGE_DEL] = "del",
	[KVMAS_CHANGE_ADD] = "add",
	[KVMAS_CHANGE_LOG_START] = "log_start",
	[KVMAS_CHANGE_LOG_STOP] = "log_stop",
};

/* A section with its logging, before and after. */
static void change_text(char **text, enum kvmas_change_kind kind,
			const struct kvmas_section *section)
{
	text_add(text, "%s ", kind_names[kind]);
	section_text(text, section);
	text_add(text, "%s%s", section->was_logged ? " was_logged" : "",
		 section->logged ? " logged" : "");
}

int add_change(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
	       const struct kvmas_section *section)
{
	char **text = data;

	text_add(text, "%s ", kvmas_space_get_name(space));
	change_text(text, kind, section);
	text_add(text, "\n");
	return 0;
}

const char *find_line(const struct fixture *f, const char *start)
{
	const char *line = f->notes;

	while (line && *line) {
		if (strncmp(line, start, strlen(start)) == 0)
			return line;
		line = strchr(line, '\n') + 1;
	}
	return NULL;
}

const char *last_line(const struct fixture *f, const char *start)
{
	const char *last = NULL;

	for (const char *line = f->notes; line && *line; line = strchr(line, '\n') + 1) {
		if (strncmp(line, start, strlen(start)) == 0)
			last = line;
	}
	return last;
}

static void hear(struct judge *judge, const char *what)
{
	note(judge->f, "%s %s", judge->name, what);
	if (judge->inside)
		judge->inside(judge, what);
}

static int note_seen(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
		     const struct kvmas_section *section)
{
	struct judge *judge = data;
	char *text = NULL;

	(void)space;
	change_text(&text, kind, section);
	note(judge->f, "%s sees %s", judge->name, text);
	free(text);
	return 0;
}

static int judge_prepare(void *data, const struct kvmas_changes *changes)
{
	struct judge *judge = data;

	assert_false(judge->agreed);
	assert_false(judge->open);
	judge->asked++;
	if (judge->looks)
		must(kvmas_changes_for_each(changes, note_seen, judge));
	judge->agreed = judge->verdict >= 0;
	hear(judge, "prepare");
	return judge->verdict;
}

static void judge_cancel(void *data)
{
	struct judge *judge = data;

	assert_true(judge->agreed);
	assert_false(judge->open);
	judge->agreed = false;
	judge->dropped++;
	hear(judge, "cancel");
}

static void judge_begin(void *data)
{
	struct judge *judge = data;

	assert_false(judge->open);
	judge->open = true;
	hear(judge, "begin");
}

static void judge_commit(void *data)
{
	struct judge *judge = data;

	assert_true(judge->open);
	judge->open = false;
	judge->agreed = false;
	judge->told++;
	hear(judge, "commit");
}

static unsigned find_section(const struct judge *judge, const char *text)
{
	unsigned i = 0;

	while (i < judge->nsections && strcmp(judge->sections[i], text) != 0)
		i++;
	return i;
}

/* The section without logging, which changes while it is there. */
static char *bare_text(const struct kvmas_section *section)
{
	char *text = NULL;

	section_text(&text, section);
	return text;
}

static void hear_change(struct judge *judge, enum kvmas_change_kind kind,
			const struct kvmas_section *section)
{
	char *text = NULL;

	assert_true(judge->open);
	change_text(&text, kind, section);
	hear(judge, text);
	free(text);
}

static void judge_add(void *data, const struct kvmas_section *section)
{
	struct judge *judge = data;
	char *text = bare_text(section);

	assert_true(judge->nsections < LENGTH(judge->sections));
	assert_int_equal(find_section(judge, text), judge->nsections);
	judge->sections[judge->nsections++] = text;
	hear_change(judge, KVMAS_CHANGE_ADD, section);
}

static void judge_del(void *data, const struct kvmas_section *section)
{
	struct judge *judge = data;
	char *text = bare_text(section);
	unsigned i = find_section(judge, text);

	assert_true(i < judge->nsections);
	free(judge->sections[i]);
	judge->sections[i] = judge->sections[--judge->nsections];
	free(text);
	hear_change(judge, KVMAS_CHANGE_DEL, section);
}

/* Logging starts and stops only for what is there. */
static void judge_logging(struct judge *judge, enum kvmas_change_kind kind,
			  const struct kvmas_section *section)
{
	char *text = bare_text(section);

	assert_true(find_section(judge, text) < judge->nsections);
	assert_int_equal(section->logged, kind == KVMAS_CHANGE_LOG_START);
	assert_int_equal(section->was_logged, kind == KVMAS_CHANGE_LOG_STOP);
	free(text);
	hear_change(judge, kind, section);
}

static void judge_log_start(void *data, const struct kvmas_section *section)
{
	judge_logging(data, KVMAS_CHANGE_LOG_START, section);
}

static void judge_log_stop(void *data, const struct kvmas_section *section)
{
	judge_logging(data, KVMAS_CHANGE_LOG_STOP, section);
}

static int judge_sync(void *data, uint64_t gpa, uint64_t last)
{
	struct judge *judge = data;

	(void)gpa;
	(void)last;
	hear(judge, "sync");
	return judge->sync_result;
}

struct kvmas_listener_config judge_config(struct judge *judge, struct fixture *f, const char *name,
					  int priority)
{
	*judge = (struct judge){.f = f, .name = name};
	return (struct kvmas_listener_config){.struct_size = sizeof(struct kvmas_listener_config),
					      .priority = priority,
					      .data = judge,
					      .begin = judge_begin,
					      .region_add = judge_add,
					      .region_del = judge_del,
					      .log_start = judge_log_start,
					      .log_stop = judge_log_stop,
					      .log_sync = judge_sync,
					      .commit = judge_commit,
					      .prepare = judge_prepare,
					      .cancel = judge_cancel};
}

void add_judge(struct judge *judge, struct fixture *f, struct kvmas_space *space, const char *name,
	       int priority)
{
	struct kvmas_listener_config config = judge_config(judge, f, name, priority);

	must(kvmas_listener_add(space, &config, &judge->listener));
}

void del_judge(struct judge *judge)
{
	judge->inside = NULL;
	must(kvmas_listener_del(judge->listener));
	assert_int_equal(judge->nsections, 0);
	assert_false(judge->agreed);
	assert_false(judge->open);
}

void assert_judge(struct judge *judge, struct kvmas_space *space)
{
	const struct kvmas_view *view = kvmas_view_acquire(judge->f->reader, space);
	struct kvmas_section section;
	unsigned count = 0;
	int err;

	assert_false(judge->agreed);
	assert_false(judge->open);
	for (err = kvmas_view_find(view, 0, &section); !err;
	     err = kvmas_view_next(view, &section)) {
		char *text = bare_text(&section);

		assert_true(find_section(judge, text) < judge->nsections);
		free(text);
		count++;
	}
	assert_int_equal(count, judge->nsections);
	kvmas_view_release(judge->f->reader, view);
}

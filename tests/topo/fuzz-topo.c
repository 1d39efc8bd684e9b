/* SPDX-License-Identifier: MIT */
/*
 * The fuzzer: check_bytes over what libFuzzer makes. Bytes changed at random seldom are a good
 * file, so most changes here are made to whole fields and lines, and a further step is made of the
 * last one. tests/topo/fuzz.sh builds and runs it.
 *
 * Read LLVMFuzzerCustomMutator first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* A file in the fuzzer's buffer, which it may fill up to max. */
struct text {
	char *bytes;
	size_t size;
	size_t max;
	unsigned seed;
};

/* Some bytes of a text. */
struct span {
	size_t at;
	size_t size;
};

static const char *const words[] = {
	"0",
	"1",
	"2",
	"3",
	"4",
	"5",
	"6",
	"7",
	"8",
	"10",
	"-",
	"-1",
	"80",
	"fff",
	"800",
	"1000",
	"1001",
	"1800",
	"2000",
	"10000",
	"ffffffff",
	"100000000",
	"7ffffffffffff000",
	"8000000000000000",
	"fffffffffffff000",
	"fffffffffffffffe",
	"ffffffffffffffff",
	"10000000000000000",
	"2147483647",
	"-2147483648",
	"container",
	"ram",
	"rom",
	"romd",
	"mmio",
	"alias",
};

static const char *const lines[] = {
	"region 3 container 10000 1 0 0 - 0 c\n",
	"region 4 mmio 1000 1 0 0 - 0 d\n",
	"region 5 ram 4000 1 0 0 - 0 r\n",
	"region 6 alias 2000 1 0 0 5 800 a\n",
	"region 7 romd 1000 1 0 0 - 0 f\n",
	"region 8 alias 10000 1 1 0 3 0 w\n",
	"region 9 alias 1000 1 0 0 3 0 s\n",
	"sub 3 4 0 0\n",
	"sub 3 5 800 0\n",
	"sub 4 6 400 1\n",
	"sub 3 8 0 -1\n",
	"sub 1 3 1000 0\n",
	"sub 3 9 1000 0\n",
	"sub 3 9 2000 1\n",
	"as 1 3 s\n",
	"as 2 8 s\n",
	"end\n",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static unsigned draw(struct text *text, size_t below)
{
	text->seed = text->seed * 1103515245 + 12345;
	return below ? (text->seed >> 8) % (unsigned)below : 0;
}

/* Put other bytes in the place of a span. */
static void replace(struct text *text, struct span span, const char *bytes, size_t size)
{
	if (text->size - span.size + size > text->max)
		return;
	memmove(text->bytes + span.at + size, text->bytes + span.at + span.size,
		text->size - span.at - span.size);
	memcpy(text->bytes + span.at, bytes, size);
	text->size += size - span.size;
}

/* What stands between two separators around a random byte; the separator behind it included. */
static struct span draw_span(struct text *text, char separator)
{
	size_t at = draw(text, text->size);
	size_t end = at;

	while (at && text->bytes[at - 1] != separator)
		at--;
	while (end < text->size && text->bytes[end] != separator)
		end++;
	end += end < text->size;
	return (struct span){at, end - at};
}

static struct span draw_line(struct text *text)
{
	return draw_span(text, '\n');
}

static void change_field(struct text *text)
{
	const char *word = words[draw(text, COUNT(words))];
	struct span field = draw_span(text, ' ');

	if (field.size && text->bytes[field.at + field.size - 1] == ' ')
		field.size--;
	if (!memchr(text->bytes + field.at, '\n', field.size))
		replace(text, field, word, strlen(word));
}

static void drop_line(struct text *text)
{
	replace(text, draw_line(text), "", 0);
}

static void add_line(struct text *text)
{
	const char *line = lines[draw(text, COUNT(lines))];

	replace(text, (struct span){draw_line(text).at, 0}, line, strlen(line));
}

/* Put a line elsewhere, once more or instead. */
static void copy_line(struct text *text)
{
	struct span line = draw_line(text);
	char *copy = malloc(line.size + 1);

	if (!copy)
		return;
	memcpy(copy, text->bytes + line.at, line.size);
	if (draw(text, 2))
		replace(text, line, "", 0);
	replace(text, (struct span){draw_line(text).at, 0}, copy, line.size);
	free(copy);
}

/* The last file once more, as a step in which the changes to come happen. */
static void add_step(struct text *text)
{
	static const char first_line[] = "topo 1\n";
	size_t at = text->size;
	size_t size;

	while (at && (text->size - at < sizeof(first_line) - 1 ||
		      memcmp(text->bytes + at, first_line, sizeof(first_line) - 1) != 0))
		at--;
	size = text->size - at;
	if (text->size + size > text->max)
		return;
	memcpy(text->bytes + text->size, text->bytes + at, size);
	text->size += size;
}

static void (*const changes[])(struct text *text) = {
	change_field, change_field, change_field, change_field, drop_line,
	add_line,     add_line,     copy_line,    copy_line,    add_step,
};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	struct text text = {(char *)data, size, max_size, seed};
	unsigned n = 1 + draw(&text, 4);

	if (size == 0 || draw(&text, 16) == 0)
		return LLVMFuzzerMutate(data, size, max_size);
	for (unsigned i = 0; i < n && text.size; i++)
		changes[draw(&text, COUNT(changes))](&text);
	return text.size;
}

/* A fuzzer may be busy with what is refused at once: how much there was to compare is counted. */
static struct {
	unsigned long inputs;
	unsigned long in_steps; /* of them, those of more than one step */
	unsigned long steps;
	unsigned long ranges;
	unsigned long painted;
} sums;

static void print_sums(void)
{
	fprintf(stderr,
		"%lu inputs, %lu of several steps; %lu steps, %lu ranges, %lu views painted\n",
		sums.inputs, sums.in_steps, sums.steps, sums.ranges, sums.painted);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return atexit(print_sums);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct check_result result = check_bytes(data, size);

	sums.inputs++;
	sums.in_steps += result.steps > 1;
	sums.steps += result.steps;
	sums.ranges += result.ranges;
	sums.painted += result.painted;
	return 0;
}

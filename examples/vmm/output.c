/* SPDX-License-Identifier: MIT */
/*
 * Everything that kvmas-vmm prints. The guest's bytes go to stdout as they come; lines of the
 * VMM's own start a new line even if the guest is in the middle of one, so that scripts find them.
 * Not here: what the lines say.
 */
#include "output.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Whether stdout stands in the middle of a guest's line. There is one stdout, so there is one. */
static bool in_line;

static void put_byte(uint8_t byte)
{
	putchar(byte);
	in_line = byte != '\n';
}

static bool ends_with(struct tail *tail, const char *until, uint8_t byte)
{
	size_t size = strlen(until);

	if (tail->size == size)
		memmove(tail->bytes, tail->bytes + 1, --tail->size);
	tail->bytes[tail->size++] = (char)byte;
	return tail->size == size && !memcmp(tail->bytes, until, size);
}

bool output_guest(struct tail *tail, const char *until, uint8_t byte)
{
	put_byte(byte);
	return until && ends_with(tail, until, byte);
}

void output_keep(struct kept *kept, uint8_t byte, bool in_smm)
{
	if (kept->size == OUTPUT_MAX_KEPT)
		return;
	/* A NUL would hide what follows from the string functions that search here. */
	kept->bytes[kept->size] = (char)(byte ? byte : ' ');
	kept->in_smm[kept->size++] = in_smm;
}

void output_new_line(void)
{
	if (in_line)
		put_byte('\n');
	fflush(stdout);
}

void output_line(const char *format, ...)
{
	va_list args;

	output_new_line();
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

void complain(const char *format, ...)
{
	char line[1024];
	va_list args;

	/* Stdout and stderr may be the same terminal. */
	output_new_line();
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	/* One call, so that the line stays whole where stderr is shared. */
	fprintf(stderr, "kvmas-vmm: %s\n", line);
}

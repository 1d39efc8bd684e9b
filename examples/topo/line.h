/* SPDX-License-Identifier: MIT */
/* Lines of a file, and the fields and numbers in them. */
#ifndef LINE_H
#define LINE_H

#include <stdint.h>
#include <stdio.h>

#include "fault.h"

/* More than any record needs: a name has at most 255 bytes. */
#define LINE_SIZE 1024

struct line {
	FILE *stream;
	unsigned long number; /* of the line in text, from 1 */
	char text[LINE_SIZE]; /* without its line feed; of a comment as much as fits */
};

/* Read the next line: 1; 0 at the end of the file; or a negative errno, with the fault set. */
int line_next(struct line *line, struct fault *fault);

/* Cut text into n fields, in place; the last one is all that is left. 0; -EINVAL if there are
 * fewer, or if one is empty. */
int line_cut(char *text, char **fields, unsigned n);

/* The whole text as a number, written in the one way that there is for it. 0 or -EINVAL. */
int line_dec(const char *text, uint32_t *ret);
int line_int(const char *text, int *ret);
int line_hex(const char *text, uint64_t *ret);

#endif

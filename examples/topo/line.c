/* SPDX-License-Identifier: MIT */
/*
 * Lines, fields and numbers. A line is read into a buffer of fixed size, so that no file, however
 * odd, makes the reader grow. Numbers are taken digit by digit: strtoull would let signs, blanks,
 * 0x and leading zeros pass.
 *
 * Read line_next first.
 */
#include "line.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#define SMALLEST_INT "2147483648"

static int end_of_file(const struct line *line, size_t size, struct fault *fault)
{
	if (ferror(line->stream)) {
		int err = errno ? -errno : -EIO;

		return fault_set(fault, 0, err, "%s", strerror(-err));
	}
	if (size)
		return fault_set(fault, line->number, -EINVAL, "the line does not end");
	return 0;
}

int line_next(struct line *line, struct fault *fault)
{
	size_t size = 0;
	int byte;

	errno = 0;
	line->number++;
	while ((byte = getc(line->stream)) != '\n') {
		if (byte == EOF)
			return end_of_file(line, size, fault);
		if (byte < ' ' || byte > '~')
			return fault_set(fault, line->number, -EINVAL,
					 "byte 0x%02x is not printable ASCII", (unsigned)byte);
		if (size < LINE_SIZE - 1)
			line->text[size++] = (char)byte;
		else if (line->text[0] != '#')
			return fault_set(fault, line->number, -EINVAL, "the line is too long");
	}
	line->text[size] = '\0';
	return 1;
}

int line_cut(char *text, char **fields, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!text || !*text || *text == ' ')
			return -EINVAL;
		fields[i] = text;
		text = strchr(text, ' ');
		if (text && i + 1 < n)
			*text++ = '\0';
	}
	return 0;
}

static int digit_value(char digit)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = digit ? strchr(digits, digit) : NULL;

	return at ? (int)(at - digits) : INT_MAX;
}

static int parse_number(const char *text, int base, uint64_t max, uint64_t *ret)
{
	uint64_t number = 0;

	if (!*text || (*text == '0' && text[1]))
		return -EINVAL;
	for (; *text; text++) {
		int digit = digit_value(*text);

		if (digit >= base || number > (max - (uint64_t)digit) / (uint64_t)base)
			return -EINVAL;
		number = number * (uint64_t)base + (uint64_t)digit;
	}
	*ret = number;
	return 0;
}

int line_dec(const char *text, uint32_t *ret)
{
	uint64_t number;

	if (parse_number(text, 10, UINT32_MAX, &number))
		return -EINVAL;
	*ret = (uint32_t)number;
	return 0;
}

int line_int(const char *text, int *ret)
{
	bool negative = *text == '-';
	uint64_t number;

	if (negative && !strcmp(text + 1, SMALLEST_INT)) {
		*ret = INT_MIN;
		return 0;
	}
	if (parse_number(text + negative, 10, INT_MAX, &number) || (negative && !number))
		return -EINVAL;
	*ret = negative ? -(int)number : (int)number;
	return 0;
}

int line_hex(const char *text, uint64_t *ret)
{
	return parse_number(text, 16, UINT64_MAX, ret);
}

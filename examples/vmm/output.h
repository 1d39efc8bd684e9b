/* SPDX-License-Identifier: MIT */
/* What is printed: the guest's bytes, the VMM's lines, its complaints. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTPUT_MAX_UNTIL 255
#define OUTPUT_MAX_KEPT ((size_t)256 << 10)

/* One port's output: the end of it, to be compared with --until. */
struct tail {
	char bytes[OUTPUT_MAX_UNTIL];
	size_t size;
};

/* What the debug port printed: bytes[i] came in SMM if in_smm[i]. What is past the end
 * is printed, but not kept. */
struct kept {
	size_t size;
	char bytes[OUTPUT_MAX_KEPT + 1]; /* a NUL follows the last one */
	bool in_smm[OUTPUT_MAX_KEPT];
};

/* Print a byte of the guest's; true if the string until (NULL: none) ends with it. */
bool output_guest(struct tail *tail, const char *until, uint8_t byte);

void output_keep(struct kept *kept, uint8_t byte, bool in_smm);

/* Make sure that the VMM's next words start a line, wherever the guest left off. */
void output_new_line(void);

/* Print a line of the VMM's own on stdout. */
void output_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Print a line on stderr: what is wrong, and what to do. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

/* SPDX-License-Identifier: MIT */
/* What is wrong with a file, and in which line: the one way in which errors reach main. */
#ifndef FAULT_H
#define FAULT_H

struct fault {
	unsigned long line; /* 0: the file as a whole */
	char what[200];
};

/* Note what is wrong, and return err, so that the caller can return it. */
__attribute__((format(printf, 4, 5))) int fault_set(struct fault *fault, unsigned long line,
						    int err, const char *format, ...);

#endif

/* SPDX-License-Identifier: MIT */
/* Faults: a line's number and a sentence. Who prints it, and whether, is the caller's affair. */
#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

int fault_set(struct fault *fault, unsigned long line, int err, const char *format, ...)
{
	va_list args;

	fault->line = line;
	va_start(args, format);
	vsnprintf(fault->what, sizeof(fault->what), format, args);
	va_end(args);
	return err;
}

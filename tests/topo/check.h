/* SPDX-License-Identifier: MIT */
/* What must hold for any bytes whatever: the fuzzer's check, and the seeds'. */
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>
#include <stdint.h>

/* What became of the bytes. */
struct check_result {
	unsigned steps;   /* that the library took */
	unsigned ranges;  /* that they showed in all */
	unsigned painted; /* views that were compared with painted ones */
};

/* Read one .topo file, or several one after the other, and take them as steps of a live tree.
 * Ends the program with abort() if the library is wrong. */
struct check_result check_bytes(const uint8_t *bytes, size_t size);

#endif

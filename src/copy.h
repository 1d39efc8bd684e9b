/* SPDX-License-Identifier: MIT */
/* Copies to and from guest memory, which others use at the same time: see copy.c. */
#ifndef KAS_COPY_H
#define KAS_COPY_H

#include <stddef.h>

/* *bytes* are the caller's own, of any alignment. */
void kas_copy_from_guest(void *bytes, const unsigned char *hva, size_t size);
void kas_copy_to_guest(unsigned char *hva, const void *bytes, size_t size);

#endif

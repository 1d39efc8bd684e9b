/* SPDX-License-Identifier: MIT */
/* rust-vmm's vm-memory, for `kvmas-bench lookup`: see lib.rs. There only if HAVE_VM_MEMORY is. */
#ifndef VM_MEMORY_H
#define VM_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct vm_memory;

/* *count* regions of *size* bytes, at ascending addresses. 0, or -1 if they cannot be had. */
int vm_memory_new(const uint64_t *starts, size_t count, size_t size, struct vm_memory **ret);
void vm_memory_free(struct vm_memory *memory);

/* Look up each address, as field.h says; the sum of the offsets in their regions. In one snapshot:
 * GuestMemoryMmap::find_region. */
uint64_t vm_memory_find_held(const struct vm_memory *memory, const uint64_t *addresses,
			     size_t count, uint64_t nothing);
/* In a snapshot for each: GuestMemoryAtomic::memory, then the same. */
uint64_t vm_memory_find_each(const struct vm_memory *memory, const uint64_t *addresses,
			     size_t count, uint64_t nothing);

#endif

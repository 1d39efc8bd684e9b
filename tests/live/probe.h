/* SPDX-License-Identifier: MIT */
/*
 * The kernel's own slots, found by asking: KVM has no call that lists them. No vCPU should run
 * meanwhile.
 *
 * A CREATE with a spare id, of one page, is refused with EEXIST just where a slot covers the page,
 * and undone at once where none does. A call with the very arguments of a slot changes nothing and
 * returns 0; one with another size or memory is refused. (kvm_set_memory_region in
 * virt/kvm/kvm_main.c.)
 */
#ifndef LIVE_PROBE_H
#define LIVE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

struct guest;

/* Whether a slot covers this page. */
bool probe_page(const struct guest *g, unsigned as_id, uint32_t page);

/* As text, the runs of covered pages in [first, last]: "0-5f 70-ff"; for free(). */
char *probe_pages(const struct guest *g, unsigned as_id, uint32_t first, uint32_t last);

/* What is wrong, for free(); NULL if the kernel has just the slots that the library says it has,
 * and they map what the views show. What is wrong may be worse afterwards. */
char *slots_wrong(struct guest *g);
void assert_slots_in_step(struct guest *g);

#endif

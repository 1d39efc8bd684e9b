/* SPDX-License-Identifier: MIT */
/*
 * Stores: see stores.h.
 *
 *   FREE_PAGE               the program, and behind its pieces its beginning
 *   FREE_PAGE + 1 + 2 v     control page of vCPU v; the next page is its script
 */
#include "stores.h"

#include <sys/ioctl.h>

#define MAX_STORES (PAGE / STORES_ENTRY_SIZE)

static uint32_t control_page(unsigned vcpu)
{
	return FREE_PAGE + 1 + 2 * vcpu;
}

struct stores_control *stores_control(const struct guest *g, unsigned vcpu)
{
	return (struct stores_control *)(g->bytes + (size_t)control_page(vcpu) * PAGE);
}

struct store *stores_script(const struct guest *g, unsigned vcpu)
{
	return (struct store *)(g->bytes + (size_t)(control_page(vcpu) + 1) * PAGE);
}

uint32_t stores_number(const struct guest *g, unsigned vcpu)
{
	return __atomic_load_n(&stores_control(g, vcpu)->number, __ATOMIC_SEQ_CST);
}

unsigned stores_size(uint32_t kind)
{
	static const unsigned sizes[STORES_KINDS] = {
		[STORES_BYTE] = 1,     [STORES_WORD] = 2,     [STORES_LONG] = 4,
		[STORES_QUAD] = 8,     [STORES_LOAD] = 4,     [STORES_OUT_BYTE] = 1,
		[STORES_OUT_WORD] = 2, [STORES_OUT_LONG] = 4, [STORES_REP_OUTS] = 4,
	};

	return sizes[kind];
}

unsigned stores_add(struct guest *g, unsigned vcpu, struct store store)
{
	struct stores_control *control = stores_control(g, vcpu);

	assert_true(control->length < MAX_STORES && store.kind < STORES_KINDS);
	stores_script(g, vcpu)[control->length] = store;
	return control->length++;
}

void stores_init(struct guest *g, uint32_t every)
{
	size_t size = (size_t)(stores_program_end - stores_program);

	assert_true(size <= PAGE);
	memcpy(g->bytes + (size_t)FREE_PAGE * PAGE, stores_program, size);
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		struct stores_control *control = stores_control(g, v);
		struct kvm_regs regs = {.rip = FREE_PAGE * PAGE + STORES_KINDS * STORES_PIECE,
					.rbp = (uint64_t)control_page(v) * PAGE,
					.rflags = 2};

		control->script = (control_page(v) + 1) * PAGE;
		control->code = FREE_PAGE * PAGE;
		control->every = every;
		control->turn_in = every;
		must(ioctl(g->vcpus[v].fd, KVM_SET_REGS, &regs));
	}
}

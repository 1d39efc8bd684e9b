/* SPDX-License-Identifier: MIT */
#include "ring-fixture.h"

struct kvmas_region *ring_ram(const struct machine *m)
{
	return m->region[0];
}

/* RAM at 0 in both spaces, the second half first in SMM; and a block that is not logged. */
int ring_setup(void **state)
{
	struct machine *m = machine_new_logging(KVMAS_KVM_LOG_RING);

	m->region[0] = put_ram(m, NORMAL, "ram", 0, NPAGES);
	put_alias(m, SMM, ring_ram(m), 0, NPAGES / 2, NPAGES / 2);
	m->region[1] = put_ram(m, NORMAL, "unlogged", 2 * NPAGES, 4);
	must(kvmas_client_log_start(make_client(m, "c"), ring_ram(m), NULL));
	*state = m;
	return 0;
}

int ring_drop(void **state)
{
	machine_drop(*state);
	return 0;
}

struct fake_kvm_vcpu *cpu_of(const struct machine *m, unsigned i)
{
	return m->guests[0][i].cpu;
}

void store(struct machine *m, unsigned cpu, unsigned as_id, uint64_t gfn)
{
	must(fake_kvm_vcpu_write(cpu_of(m, cpu), as_id, pages(gfn), 8));
}

int sync_ram(struct machine *m)
{
	return kvmas_space_sync(m->space[NORMAL], 0, KVMAS_SIZE_MAX);
}

void assert_found(struct machine *m, const char *expected)
{
	assert_taken(m->clients[0], block_of(ring_ram(m)), expected);
}

/* SPDX-License-Identifier: MIT */
/* See kvm-guest.h. */
#include "kvm-guest.h"

#include "kvm/vm.h"

/* ---- vCPUs ---- */

static void never_inside(void *data)
{
	(void)data;
}

int add_guest(struct machine *m, unsigned tie, unsigned index)
{
	struct guest_vcpu *guest = &m->guests[tie][index];

	return kvmas_vcpu_add(tie ? m->kvm2 : m->kvm,
			      KVMAS_CONFIG(vcpu, .fd = guest->cpu->fd, .run = guest->cpu->run,
					   .run_size = guest->cpu->run_size, .kick = never_inside,
					   .dirty_ring = guest->cpu->ring),
			      &guest->vcpu);
}

void add_guests(struct machine *m, unsigned tie)
{
	struct fake_kvm *vm = tie ? m->vm2 : m->vm;

	if (!vm->ring_size && !vm->config.pml)
		return;
	for (unsigned i = 0; i < NGUESTS; i++) {
		m->guests[tie][i].cpu = fake_kvm_add_vcpu(vm);
		must(add_guest(m, tie, i));
	}
}

void del_guests(struct machine *m)
{
	for (unsigned i = 0; i < NTIES * NGUESTS; i++)
		kvmas_vcpu_del(m->guests[i / NGUESTS][i % NGUESTS].vcpu);
}

void flush_guests(struct machine *m, unsigned tie)
{
	for (unsigned i = 0; i < NGUESTS; i++) {
		if (m->guests[tie][i].cpu)
			fake_kvm_vcpu_flush(m->guests[tie][i].cpu);
	}
}

struct kvmas_kvm_config logging_config(enum kvmas_kvm_log log, bool pml)
{
	uint64_t ring_size = pml ? pages(4) : page_size();

	return (struct kvmas_kvm_config){
		.log = log, .ring_size = log == KVMAS_KVM_LOG_RING ? (unsigned)ring_size : 0};
}

struct machine *machine_new_logging(enum kvmas_kvm_log log)
{
	struct kvmas_kvm_config tie = logging_config(log, false);

	return machine_new_with(NULL, &tie);
}

/* ---- what they do ---- */

bool is_held(const struct machine *m, unsigned tie)
{
	const struct kvmas_kvm *kvm = tie ? m->kvm2 : m->kvm;

	return !kvm || kvm->stopped || (tie == 0 && m->paused);
}

void run_guests(struct machine *m)
{
	for (unsigned tie = 0; m->run_guest && tie < NTIES; tie++) {
		if (!is_held(m, tie))
			m->run_guest(m, tie);
	}
}

int guest_write(struct machine *m, unsigned tie, unsigned as_id, uint64_t gpa)
{
	struct fake_kvm_vcpu *cpu = m->guests[tie][m->turn++ % NGUESTS].cpu;

	return cpu ? fake_kvm_vcpu_write(cpu, as_id, gpa, 8)
		   : fake_kvm_write(tie ? m->vm2 : m->vm, as_id, gpa, 8);
}

int guest_read(struct machine *m, unsigned tie, unsigned as_id, uint64_t gpa)
{
	struct fake_kvm_vcpu *cpu = m->guests[tie][m->turn++ % NGUESTS].cpu;

	return cpu ? fake_kvm_vcpu_read(cpu, as_id, gpa, 8)
		   : fake_kvm_read(tie ? m->vm2 : m->vm, as_id, gpa, 8);
}

/* SPDX-License-Identifier: MIT */
/*
 * vCPUs of the caller's: known to a tie, run through its gate. A vCPU is made by the caller, and
 * belongs to one thread; what is here borrows its fd and its kvm_run. What its exits mean is
 * exit.c's, who may run when is gate.c's.
 */
#include "vcpu.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "private.h"

/* A signal that a thread can be sent without harm, or none. Between the standard signals (up to 31)
 * and SIGRTMIN are those that libc keeps to itself: pthread_kill refuses them, and a commit would
 * wait for good. */
static bool can_kick(int signal)
{
	bool standard = signal >= 0 && signal <= 31;

	return (standard || (signal >= SIGRTMIN && signal <= SIGRTMAX)) && signal != SIGKILL &&
	       signal != SIGSTOP;
}

static bool is_valid(const struct kvmas_kvm *kvm, const struct kvmas_vcpu_config *config)
{
	bool rings = kvm->config.log == KVMAS_KVM_LOG_RING;

	if (!config->dirty_ring != !rings || (uintptr_t)config->dirty_ring % kas_page_size())
		return false;
	return config->run && config->run_size >= sizeof(*config->run) &&
	       can_kick(config->kick_signal) && !(config->kick && config->kick_signal);
}

/* ---- what they count ---- */

#define PLACE(member) (offsetof(struct kvmas_kvm_stats, member) / sizeof(uint64_t))

static const size_t places[NCOUNTS] = {
	[COUNT_MMIO_EXITS] = PLACE(mmio_exits), [COUNT_PIO_EXITS] = PLACE(pio_exits),
	[COUNT_UNASSIGNED] = PLACE(unassigned), [COUNT_REFUSED] = PLACE(refused),
	[COUNT_EVENTS] = PLACE(events),
};

void kvmas_kvm_get_stats(const struct kvmas_kvm *kvm, struct kvmas_kvm_stats *ret)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&kvm->exits_lock;
	uint64_t values[sizeof(*ret) / sizeof(uint64_t)] = {ret->struct_size};
	size_t size = ret->struct_size < sizeof(*ret) ? ret->struct_size : sizeof(*ret);
	const struct kvmas_vcpu *vcpu;

	pthread_mutex_lock(lock);
	for (size_t i = 1; i < sizeof(values) / sizeof(values[0]); i++)
		values[i] = atomic_load_explicit(&kvm->stats[i], memory_order_relaxed);
	LIST_FOREACH(vcpu, &kvm->vcpus, all) {
		for (unsigned i = 0; i < NCOUNTS; i++)
			values[places[i]] +=
				atomic_load_explicit(&vcpu->counts[i], memory_order_relaxed);
	}
	pthread_mutex_unlock(lock);
	memcpy(ret, values, size);
}

/* ---- being there ---- */

int kvmas_vcpu_add(struct kvmas_kvm *kvm, const struct kvmas_vcpu_config *config,
		   struct kvmas_vcpu **ret)
{
	struct kvmas *kvmas = kvm->object.kvmas;
	struct kvmas_vcpu_config ours;
	struct kvmas_vcpu *vcpu;
	int err;

	if (!kas_alive(kvmas))
		return -EIO;
	err = kas_config_copy(&ours, sizeof(ours), config);
	if (err)
		return err;
	if (!is_valid(kvm, &ours))
		return -EINVAL;
	vcpu = kas_alloc(kvmas, sizeof(*vcpu));
	if (!vcpu)
		return -ENOMEM;
	err = kas_coalesced_add(kvm, &vcpu->coalesced, ours.run, ours.run_size);
	if (err) {
		kas_free(kvmas, vcpu);
		return err;
	}
	vcpu->kvm = kvmas_kvm_ref(kvm);
	vcpu->config = ours;
	vcpu->pass.config = &vcpu->config;
	vcpu->ring.at = ours.dirty_ring;
	if (vcpu->ring.at)
		kas_ring_add(kvm, &vcpu->ring);
	kas_gate_add(&kvm->gate, &vcpu->pass);
	kas_reader_init(&vcpu->reader, kvmas);
	pthread_mutex_lock(&kvm->exits_lock);
	LIST_INSERT_HEAD(&kvm->vcpus, vcpu, all);
	pthread_mutex_unlock(&kvm->exits_lock);
	*ret = vcpu;
	return 0;
}

void kvmas_vcpu_del(struct kvmas_vcpu *vcpu)
{
	struct kvmas_kvm *kvm;

	if (!vcpu || !kas_alive(vcpu->kvm->object.kvmas))
		return;
	kvm = vcpu->kvm;
	kas_gate_del(&kvm->gate, &vcpu->pass);
	kas_coalesced_del(kvm, &vcpu->coalesced);
	if (vcpu->ring.at)
		kas_ring_del(kvm, &vcpu->ring);
	kas_reader_fini(&vcpu->reader);
	pthread_mutex_lock(&kvm->exits_lock);
	LIST_REMOVE(vcpu, all);
	for (unsigned i = 0; i < NCOUNTS; i++)
		atomic_fetch_add(&kvm->stats[places[i]], atomic_load(&vcpu->counts[i]));
	pthread_mutex_unlock(&kvm->exits_lock);
	kas_free(kvm->object.kvmas, vcpu);
	kvmas_kvm_unref(kvm);
}

struct kvmas_reader *kvmas_vcpu_get_reader(struct kvmas_vcpu *vcpu)
{
	return &vcpu->reader;
}

unsigned kvmas_vcpu_get_as_id(const struct kvmas_vcpu *vcpu)
{
	return kas_kvm_exit_as_id(vcpu->config.run);
}

int kvmas_gate_enter(struct kvmas_vcpu *vcpu)
{
	if (!kas_alive(vcpu->kvm->object.kvmas))
		return -EIO;
	if (!vcpu->config.kick && !vcpu->config.kick_signal)
		return -EINVAL;
	return kas_gate_enter(&vcpu->kvm->gate, &vcpu->pass);
}

int kvmas_gate_leave(struct kvmas_vcpu *vcpu)
{
	if (!kas_alive(vcpu->kvm->object.kvmas))
		return -EIO;
	return kas_gate_leave(&vcpu->kvm->gate, &vcpu->pass);
}

int kvmas_vcpu_run(struct kvmas_vcpu *vcpu)
{
	int result = kvmas_gate_enter(vcpu);
	bool asked;

	if (result)
		return result;
	result = kas_private_run(vcpu);
	asked = kas_gate_leave(&vcpu->kvm->gate, &vcpu->pass) == 1;
	/* An exit that KVM_RUN has come back with is there, asked or not. */
	return result == -EINTR && asked && !kas_gate_foreign_bits(&vcpu->pass) ? 1 : result;
}

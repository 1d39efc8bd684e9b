/* SPDX-License-Identifier: MIT */
/*
 * The gate: vCPU threads pass it to enter KVM_RUN and other ioctls on their vCPU, so that a commit
 * can hold them out while it takes slots away. It decides nothing: who commits says when.
 *
 *     vCPU thread                            committing thread, under the transaction lock
 *     enter   inside = self                  close   pause hook
 *             closed? inside = 0, wait               closed = true
 *     KVM_RUN, or another ioctl                      for each that is inside: our bit into
 *     leave   inside = 0                               immediate_exit, then kick
 *             closed or asked? lock, take            wait until nobody is; kick again, ever more
 *             our bit back, tell the closer            rarely, those who stay
 *                                            open    closed = false, wake all; resume hook
 *
 * While nobody closes it, passing costs no lock and writes nothing that is shared: each vCPU has a
 * pass of its own, and `closed` is only read. Both sides store, then load what the other side
 * stores: a vCPU `inside`, then `closed`; the closer `closed`, then each `inside`. All four are
 * sequentially consistent, and so have one order: whichever store comes second, the load after it
 * sees the first. So a vCPU that is not held back is seen. (With release and acquire each load may
 * pass its own thread's store, as x86 does: the vCPU finds the gate open, the closer finds nobody.)
 *
 * immediate_exit belongs to the VMM, which writes 1. KVM asks only whether it is zero, when KVM_RUN
 * begins (Documentation/virt/kvm/api.rst; arch/x86/kvm/x86.c, kvm_arch_vcpu_ioctl_run, since Linux
 * 4.12), so another bit of it does for us, set and taken back atomically. It is there before the
 * kick: one that comes between enter and KVM_RUN is not lost. One that is a callback of the VMM's
 * may be, and so all are repeated.
 *
 * Invariants:
 *   I1  after close, until open, nobody is inside but the closer's own vCPU. (Others may set
 *       `inside` and find the gate closed, but issue nothing.)
 *   I2  a pass that is asked has our bit in immediate_exit, one that is not has not: both change
 *       under the lock. Only who is inside is asked, and asking ends before its enter or leave has
 *       returned.
 *   I3  a thread seen inside while the lock is held, and the gate is closed, cannot end before
 *       the lock was free: in enter or leave it will find the gate closed, and take the lock. So it
 *       can be sent a signal.
 *   I4  the lock is a leaf, held while the VMM's kick callback runs.
 *
 * The closer never waits for itself: a thread that commits between enter and leave is where it says
 * it is, and not in KVM_RUN.
 *
 * Cost: enter and leave one atomic exchange each; closing is linear in the vCPUs.
 * Read kas_gate_enter, kas_gate_leave and hold_out, in this order.
 */
#include "gate.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "vm.h"

/* Not 1, which is what VMMs write. */
#define OUR_BIT 0x80u

/* How long to wait before a kick is repeated: at first, and at most. */
#define FIRST_WAIT_MS 5
#define LONGEST_WAIT_MS 320

#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000u

static uintptr_t this_thread(void)
{
	return (uintptr_t)pthread_self();
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void kas_gate_init(struct gate *gate)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&gate->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&gate->left, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&gate->opened, NULL);
	TAILQ_INIT(&gate->passes);
}

void kas_gate_fini(struct gate *gate)
{
	pthread_cond_destroy(&gate->opened);
	pthread_cond_destroy(&gate->left);
	pthread_mutex_destroy(&gate->lock);
}

uint8_t kas_gate_foreign_bits(const struct pass *pass)
{
	const struct kvm_run *run = pass->config->run;

	return __atomic_load_n(&run->immediate_exit, __ATOMIC_RELAXED) & (uint8_t)~OUR_BIT;
}

/* A pass is out: whether it had been asked to be. The lock is held. */
static bool forget_asking(struct gate *gate, struct pass *pass)
{
	bool asked = atomic_load(&pass->asked);

	if (asked)
		__atomic_fetch_and(&pass->config->run->immediate_exit, (uint8_t)~OUR_BIT,
				   __ATOMIC_SEQ_CST);
	atomic_store(&pass->asked, false);
	pthread_cond_signal(&gate->left);
	return asked;
}

void kas_gate_add(struct gate *gate, struct pass *pass)
{
	pthread_mutex_lock(&gate->lock);
	TAILQ_INSERT_TAIL(&gate->passes, pass, all);
	pthread_mutex_unlock(&gate->lock);
}

void kas_gate_del(struct gate *gate, struct pass *pass)
{
	pthread_mutex_lock(&gate->lock);
	TAILQ_REMOVE(&gate->passes, pass, all);
	forget_asking(gate, pass);
	pthread_mutex_unlock(&gate->lock);
}

/* The gate is closed: go back, and wait. */
static int wait_outside(struct gate *gate, struct pass *pass)
{
	int err = 0;

	pthread_mutex_lock(&gate->lock);
	atomic_store(&pass->inside, 0);
	forget_asking(gate, pass);
	while (!err && atomic_load(&gate->closed)) {
		if (gate->closer == this_thread())
			err = -EDEADLK;
		else
			pthread_cond_wait(&gate->opened, &gate->lock);
	}
	pthread_mutex_unlock(&gate->lock);
	return err;
}

int kas_gate_enter(struct gate *gate, struct pass *pass)
{
	uintptr_t self = this_thread();
	int err = 0;

	while (!err) {
		uintptr_t nobody = 0;

		if (!atomic_compare_exchange_strong(&pass->inside, &nobody, self))
			return -EBUSY;
		if (!atomic_load(&gate->closed)) {
			atomic_store_explicit(&pass->last, self, memory_order_relaxed);
			return 0;
		}
		err = wait_outside(gate, pass);
	}
	return err;
}

/*
 * The closer may see that we are out, finish and open the gate before we look at `closed`: then our
 * bit is still in immediate_exit. Whoever sees the gate opened sees `asked` too, which was set
 * before; and whoever sees it as it was before closing was never seen inside, and not asked.
 */
int kas_gate_leave(struct gate *gate, struct pass *pass)
{
	bool asked;

	if (atomic_load_explicit(&pass->inside, memory_order_relaxed) != this_thread())
		return -EINVAL;
	atomic_store(&pass->inside, 0);
	if (!atomic_load(&gate->closed) && !atomic_load(&pass->asked))
		return 0;
	pthread_mutex_lock(&gate->lock);
	asked = forget_asking(gate, pass);
	pthread_mutex_unlock(&gate->lock);
	return asked;
}

/* The thread that is inside with this pass, if that is one to wait for; else 0. */
static uintptr_t others_inside(const struct gate *gate, const struct pass *pass)
{
	uintptr_t thread = atomic_load(&pass->inside);

	return thread == gate->closer ? 0 : thread;
}

/* The thread was seen inside, under the lock: I3. */
static void ask(struct pass *pass, uintptr_t thread)
{
	const struct kvmas_vcpu_config *config = pass->config;

	__atomic_fetch_or(&config->run->immediate_exit, (uint8_t)OUR_BIT, __ATOMIC_SEQ_CST);
	atomic_store(&pass->asked, true);
	if (config->kick)
		config->kick(config->kick_data);
	else
		pthread_kill((pthread_t)thread, config->kick_signal);
}

static void ask_all(struct gate *gate)
{
	struct pass *pass;

	TAILQ_FOREACH(pass, &gate->passes, all) {
		uintptr_t thread = others_inside(gate, pass);

		if (thread)
			ask(pass, thread);
	}
}

static bool somebody_is_inside(const struct gate *gate)
{
	const struct pass *pass;

	TAILQ_FOREACH(pass, &gate->passes, all) {
		if (others_inside(gate, pass))
			return true;
	}
	return false;
}

/* 0 when all are out, ETIMEDOUT if that takes longer. */
static int wait_for_all(struct gate *gate, unsigned ms)
{
	uint64_t end = now_ns() + (uint64_t)ms * NS_PER_MS;
	struct timespec until = {.tv_sec = (time_t)(end / NS_PER_S),
				 .tv_nsec = (long)(end % NS_PER_S)};
	int result = 0;

	while (!result && somebody_is_inside(gate))
		result = pthread_cond_timedwait(&gate->left, &gate->lock, &until);
	return result;
}

/* The gate is closed: see that all are out who came in before. */
static void hold_out(struct gate *gate)
{
	unsigned ms = FIRST_WAIT_MS;

	ask_all(gate);
	while (wait_for_all(gate, ms)) {
		ask_all(gate);
		if (ms < LONGEST_WAIT_MS)
			ms *= 2;
	}
}

/* Whether there is a vCPU that is not this thread's own. */
static bool has_others(const struct gate *gate)
{
	const struct pass *pass;

	TAILQ_FOREACH(pass, &gate->passes, all) {
		uintptr_t last = atomic_load_explicit(&pass->last, memory_order_relaxed);

		if (others_inside(gate, pass) || (last && last != gate->closer))
			return true;
	}
	return false;
}

int kas_gate_close(struct kvmas_kvm *kvm)
{
	struct gate *gate = &kvm->gate;
	uint64_t since = now_ns();
	int err = kvm->config.pause ? kvm->config.pause(kvm->config.pause_data) : 0;

	if (err < 0)
		return err;
	pthread_mutex_lock(&gate->lock);
	gate->closer = this_thread();
	atomic_store(&gate->closed, true);
	gate->closing_since = since;
	gate->counted = kvm->config.pause || has_others(gate);
	hold_out(gate);
	pthread_mutex_unlock(&gate->lock);
	if (gate->counted)
		kas_kvm_count(kvm, vcpu_stops, 1);
	return 0;
}

void kas_gate_open(struct kvmas_kvm *kvm)
{
	struct gate *gate = &kvm->gate;

	if (!atomic_load(&gate->closed))
		return;
	pthread_mutex_lock(&gate->lock);
	gate->closer = 0;
	atomic_store(&gate->closed, false);
	pthread_cond_broadcast(&gate->opened);
	pthread_mutex_unlock(&gate->lock);
	if (kvm->config.resume)
		kvm->config.resume(kvm->config.pause_data);
	if (gate->counted)
		kas_kvm_count(kvm, vcpu_stop_ns, now_ns() - gate->closing_since);
}

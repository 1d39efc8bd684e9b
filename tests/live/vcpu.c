/* SPDX-License-Identifier: MIT */
/*
 * vCPUs: how one is made, and what its thread does with exits until it is stopped.
 *
 * They are in flat 32-bit protected mode without paging, which every KVM can do.
 *
 * A thread that is to be stopped, or held, sees `stop` or `held`, or the immediate_exit that was
 * set after it: so none stays in KVM_RUN (Documentation/virt/kvm/api.rst, "immediate_exit").
 *
 * Read vcpu_main first.
 */
#include "vcpu.h"

#include "guest.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MSR_SMBASE 0x9e

/* The first trouble counts: it ends the thread. */
__attribute__((format(printf, 2, 3))) static void get_into_trouble(struct vcpu *vcpu,
								   const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(vcpu->trouble, sizeof(vcpu->trouble), format, args);
	va_end(args);
	atomic_store(&vcpu->in_trouble, true);
	atomic_store(&vcpu->stop, true);
}

static bool is_expected(const struct guest *g, unsigned as_id, uint64_t gpa, bool is_write)
{
	for (unsigned i = 0; i < g->nwindows; i++) {
		const struct exit_window *window = &g->windows[i];

		if (window->as_id == as_id && gpa / PAGE >= window->first &&
		    gpa / PAGE < window->first + window->npages &&
		    (is_write || !window->writes_only))
			return true;
	}
	return false;
}

static void answer(struct vcpu *vcpu)
{
	int r = kvmas_vcpu_handle_exit(vcpu->tie);

	/* The exit is still to be answered. */
	while (r == -EPROTO && vcpu->forged) {
		atomic_fetch_add(&vcpu->found_forged, 1);
		r = kvmas_vcpu_handle_exit(vcpu->tie);
	}
	if (r != 1)
		get_into_trouble(vcpu, "the library answers exit %u with %d",
				 vcpu->run->exit_reason, r);
}

static void take_memory_exit(struct vcpu *vcpu)
{
	unsigned as_id = kvmas_vcpu_get_as_id(vcpu->tie);
	uint64_t gpa = vcpu->run->mmio.phys_addr;
	bool is_write = vcpu->run->mmio.is_write;

	if (is_expected(vcpu->guest, as_id, gpa, is_write)) {
		atomic_fetch_add(&vcpu->expected_exits, 1);
	} else {
		if (atomic_load(&vcpu->stray_exits) == 0)
			snprintf(vcpu->stray, sizeof(vcpu->stray),
				 "vCPU %u exited in space %u for a %s of 0x%llx", vcpu->index,
				 as_id, is_write ? "write" : "read", (unsigned long long)gpa);
		atomic_fetch_add(&vcpu->stray_exits, 1);
	}
	answer(vcpu);
}

static void take_turn(struct vcpu *vcpu)
{
	struct guest *g = vcpu->guest;

	atomic_fetch_add(&vcpu->turns, 1);
	if (vcpu->turn)
		vcpu->turn(vcpu);
	if (!vcpu->smis || g->nspaces < 2)
		return;
	/* An ioctl on the vCPU like any other: through the gate. */
	if (kvmas_gate_enter(vcpu->tie) || ioctl(vcpu->fd, KVM_SMI, 0))
		get_into_trouble(vcpu, "KVM_SMI: %s", strerror(errno));
	else
		kvmas_gate_leave(vcpu->tie);
}

static void report_bad_word(struct vcpu *vcpu)
{
	struct guest *g = vcpu->guest;
	unsigned as_id = kvmas_vcpu_get_as_id(vcpu->tie);
	const struct code_control *control = guest_control(g, vcpu->index, as_id);
	const struct code_entry *entry = (struct code_entry *)(g->bytes + control->bad_entry);

	get_into_trouble(vcpu,
			 "vCPU %u in space %u, round %u: kind %u at 0x%x is 0x%x, not 0x%x or 0x%x",
			 vcpu->index, as_id, control->rounds, entry->kind, entry->address,
			 control->bad_value, entry->a, entry->b);
}

static void empty_rings(struct vcpu *vcpu)
{
	if (vcpu->guest->before_harvest)
		vcpu->guest->before_harvest(vcpu->guest);
	answer(vcpu);
}

static void take_exit(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	if (run->exit_reason == KVM_EXIT_MMIO)
		take_memory_exit(vcpu);
	else if (run->exit_reason == KVM_EXIT_IO && run->io.port == CODE_TURN_PORT)
		take_turn(vcpu);
	else if (run->exit_reason == KVM_EXIT_IO && run->io.port == CODE_BAD_PORT)
		report_bad_word(vcpu);
	else if (run->exit_reason == KVM_EXIT_IO)
		answer(vcpu);
	else if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL)
		empty_rings(vcpu);
	else
		get_into_trouble(vcpu, "vCPU %u: KVM_RUN ended with exit %u, detail 0x%llx",
				 vcpu->index, run->exit_reason,
				 (unsigned long long)run->hw.hardware_exit_reason);
}

static int run_past_the_gate(const struct vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

/* Outside of KVM_RUN until guest_let_go. */
static void wait_while_held(struct vcpu *vcpu)
{
	struct guest *g = vcpu->guest;

	if (!atomic_load(&g->held) || vcpu->ungated)
		return;
	pthread_mutex_lock(&g->hold_lock);
	g->nparked++;
	pthread_cond_broadcast(&g->hold_changed);
	while (atomic_load(&g->held))
		pthread_cond_wait(&g->hold_changed, &g->hold_lock);
	g->nparked--;
	/* Under the lock: a later hold sets it again. The library has a bit of its own there. */
	__atomic_fetch_and(&vcpu->run->immediate_exit, (uint8_t)~1u, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&g->hold_lock);
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	int r;

	while (!atomic_load(&vcpu->stop)) {
		wait_while_held(vcpu);
		r = vcpu->ungated ? run_past_the_gate(vcpu) : kvmas_vcpu_run(vcpu->tie);
		if (r == 0)
			take_exit(vcpu);
		else if (r == 1)
			atomic_fetch_add(&vcpu->gate_ends, 1);
		else if (r != -EINTR)
			get_into_trouble(vcpu, "KVM_RUN: %s", strerror(-r));
	}
	/* Nobody need wait for it. */
	pthread_mutex_lock(&vcpu->guest->hold_lock);
	pthread_cond_broadcast(&vcpu->guest->hold_changed);
	pthread_mutex_unlock(&vcpu->guest->hold_lock);
	return NULL;
}

/* ---- making it ---- */

static void set_flat_state(struct vcpu *vcpu)
{
	struct kvm_segment code = {.limit = UINT32_MAX,
				   .selector = 8,
				   .type = 11,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment data = code;
	struct kvm_regs regs = {.rip = PAGE, .rflags = 2};
	struct kvm_sregs sregs;

	data.selector = 16;
	data.type = 3;
	must(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 |= 1;
	must(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs));
	regs.rbp = (uint64_t)guest_control_page(vcpu->index, 0) * PAGE;
	must(ioctl(vcpu->fd, KVM_SET_REGS, &regs));
}

/* A save area and a handler of its own for each vCPU, so that several can be in SMM. */
static void set_smbase(const struct vcpu *vcpu)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));

	assert_non_null(msrs);
	msrs->nmsrs = 1;
	msrs->entries[0].index = MSR_SMBASE;
	msrs->entries[0].data = (uint64_t)guest_smbase_page(vcpu->index) * PAGE;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_MSRS, msrs), 1);
	free(msrs);
}

/* The ring: api.rst, KVM_CAP_DIRTY_LOG_RING. */
static void map_ring(struct vcpu *vcpu, size_t size)
{
	vcpu->ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
			  (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
	assert_ptr_not_equal(vcpu->ring, MAP_FAILED);
	vcpu->shown_ring = vcpu->ring;
}

void vcpu_tie(struct vcpu *vcpu)
{
	must(kvmas_vcpu_add(vcpu->guest->kvm,
			    KVMAS_CONFIG(vcpu, .fd = vcpu->fd, .run = vcpu->run,
					 .run_size = vcpu->run_size, .kick_signal = KICK_SIGNAL,
					 .requester = vcpu, .dirty_ring = vcpu->shown_ring),
			    &vcpu->tie));
}

void vcpu_make(struct guest *g, unsigned index)
{
	struct vcpu *vcpu = &g->vcpus[index];

	vcpu->guest = g;
	vcpu->index = index;
	vcpu->fd = ioctl(g->vm, KVM_CREATE_VCPU, index);
	assert_true(vcpu->fd >= 0);
	vcpu->run_size = (size_t)ioctl(guest_system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	assert_ptr_not_equal(vcpu->run, MAP_FAILED);
	if (g->ring_size)
		map_ring(vcpu, g->ring_size);
	set_flat_state(vcpu);
	if (g->nspaces > 1)
		set_smbase(vcpu);
}

void vcpu_end(struct vcpu *vcpu)
{
	kvmas_vcpu_del(vcpu->tie);
	if (vcpu->shown_ring && vcpu->shown_ring != vcpu->ring)
		munmap(vcpu->shown_ring, vcpu->guest->ring_size);
	if (vcpu->ring && vcpu->ring != MAP_FAILED)
		munmap(vcpu->ring, vcpu->guest->ring_size);
	if (vcpu->run && vcpu->run != MAP_FAILED)
		munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd > 0)
		close(vcpu->fd);
}

/* ---- starting and stopping ---- */

void guest_start(struct guest *g, const uint32_t turn_every[MAX_VCPUS])
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		struct vcpu *vcpu = &g->vcpus[v];

		/* Copies of RAM may be made meanwhile. */
		__atomic_store_n(&guest_control(g, v, 0)->turn_every, turn_every[v],
				 __ATOMIC_RELAXED);
		__atomic_store_n(&guest_control(g, v, 0)->left, turn_every[v], __ATOMIC_RELAXED);
		must(kvmas_ram_mark(g->ram, (uint64_t)guest_control_page(v, 0) * PAGE, PAGE));
		atomic_store(&vcpu->stop, false);
		vcpu->run->immediate_exit = 0;
		must(pthread_create(&vcpu->thread, NULL, vcpu_main, vcpu));
		vcpu->runs = true;
	}
}

void guest_stop(struct guest *g)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		struct vcpu *vcpu = &g->vcpus[v];

		if (!vcpu->runs)
			continue;
		atomic_store(&vcpu->stop, true);
		__atomic_fetch_or(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vcpu->thread, KICK_SIGNAL);
		pthread_join(vcpu->thread, NULL);
		vcpu->runs = false;
	}
}

static bool is_holdable(const struct vcpu *vcpu)
{
	return vcpu->runs && !vcpu->ungated && !atomic_load(&vcpu->in_trouble);
}

static unsigned count_holdable(const struct guest *g)
{
	unsigned count = 0;

	for (unsigned v = 0; v < MAX_VCPUS; v++)
		count += is_holdable(&g->vcpus[v]);
	return count;
}

void guest_hold(struct guest *g)
{
	pthread_mutex_lock(&g->hold_lock);
	atomic_store(&g->held, true);
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		if (!is_holdable(&g->vcpus[v]))
			continue;
		__atomic_fetch_or(&g->vcpus[v].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(g->vcpus[v].thread, KICK_SIGNAL);
	}
	while (g->nparked < count_holdable(g))
		pthread_cond_wait(&g->hold_changed, &g->hold_lock);
	pthread_mutex_unlock(&g->hold_lock);
}

void guest_let_go(struct guest *g)
{
	pthread_mutex_lock(&g->hold_lock);
	atomic_store(&g->held, false);
	pthread_cond_broadcast(&g->hold_changed);
	pthread_mutex_unlock(&g->hold_lock);
}

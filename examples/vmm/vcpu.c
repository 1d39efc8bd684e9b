/* SPDX-License-Identifier: MIT */
/*
 * The vCPU: made, run until something ends the run, its exits handed to the library. The library
 * answers MMIO exits in the space in which the vCPU was, so nothing here knows of SMM but the
 * counters, and KVM_SMI.
 *
 * The gate: KVM_RUN, and every other ioctl on a vCPU that the library knows, passes through it, so
 * that a commit on another thread could hold the vCPU out. Here the vCPU's own thread is the only
 * one that commits, from device callbacks: it is outside then, and the kick is never used.
 *
 * Ticks, and the time limit: a signal makes KVM_RUN return with EINTR. If it comes just before
 * KVM_RUN, immediate_exit does that (Documentation/virt/kvm/api.rst, "immediate_exit"), so none is
 * lost. At a tick coalesced writes are handed on, which a guest that halts would leave in the ring,
 * and dirty pages are counted.
 *
 * Read vcpu_run first.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "machine.h"

#define MAX_CPUID_ENTRIES 256
#define KICK_SIGNAL SIGUSR1
#define TICK_SIGNAL SIGUSR2
#define TICK_NS 20000000

/* A signal handler has no argument to bring these by. */
static struct kvm_run *volatile run_to_stop;
static volatile sig_atomic_t time_is_up;

static const struct {
	uint32_t reason;
	const char *text;
} endings[] = {
	{KVM_EXIT_SHUTDOWN, "the guest shut down (triple fault)"},
	{KVM_EXIT_INTERNAL_ERROR, "KVM could not go on (internal error)"},
	{KVM_EXIT_FAIL_ENTRY, "the processor refused the guest's state"},
	{KVM_EXIT_HLT, "the guest halted for good"},
};

static void on_alarm(int signal)
{
	(void)signal;
	time_is_up = 1;
	if (run_to_stop)
		run_to_stop->immediate_exit = 1;
}

static void on_tick(int signal)
{
	(void)signal;
	if (run_to_stop)
		run_to_stop->immediate_exit = 1;
}

/* That it came is enough: KVM_RUN has returned. */
static void on_kick(int signal)
{
	(void)signal;
}

static int handle_kicks(void)
{
	struct sigaction action = {.sa_handler = on_kick};

	return sigaction(KICK_SIGNAL, &action, NULL) ? -errno : 0;
}

static int set_time_limit(unsigned seconds)
{
	/* Without SA_RESTART, so that a write to a full pipe cannot outlive the limit either. */
	struct sigaction action = {.sa_handler = on_alarm};
	struct itimerval timer = {.it_value.tv_sec = seconds};

	if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &timer, NULL))
		return -errno;
	return 0;
}

/* With SA_RESTART, which makes no difference to KVM_RUN: nobody has to write again what a tick
 * interrupted. */
static int start_ticks(struct vcpu *vcpu)
{
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = TICK_SIGNAL};
	struct itimerspec every = {.it_interval.tv_nsec = TICK_NS, .it_value.tv_nsec = TICK_NS};

	if (sigaction(TICK_SIGNAL, &action, NULL) ||
	    timer_create(CLOCK_MONOTONIC, &event, &vcpu->timer))
		return -errno;
	vcpu->has_timer = true;
	return timer_settime(vcpu->timer, 0, &every, NULL) ? -errno : 0;
}

/* What KVM supports, and: one processor with APIC id 0, under a hypervisor. KVM leaves that last
 * bit clear for the VMM to set (seen in 6.1). */
static void adjust_cpuid(struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *entry;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		entry = &cpuid->entries[i];
		if (entry->function != 1)
			continue;
		entry->ebx = (entry->ebx & 0xffff) | 1u << 16;
		entry->ecx |= 1u << 31;
	}
}

static int set_cpuid(struct machine *machine)
{
	struct kvm_cpuid2 *cpuid;
	int rc = 0;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = MAX_CPUID_ENTRIES;
	if (ioctl(machine->vm.kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		rc = -errno;
	adjust_cpuid(cpuid);
	if (!rc && ioctl(machine->vcpu.fd, KVM_SET_CPUID2, cpuid) < 0)
		rc = -errno;
	free(cpuid);
	return rc;
}

static int open_vcpu(struct vm *vm, struct vcpu *vcpu)
{
	int size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	if (size < 0)
		return -errno;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vcpu->fd < 0)
		return -errno;
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return -errno;
	vcpu->run = run;
	vcpu->run_size = (size_t)size;
	return 0;
}

/* The pages of dirty entries lie behind those of kvm_run (Documentation/virt/kvm/api.rst). */
static int map_ring(struct machine *machine)
{
	off_t offset = KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE);
	void *ring;

	if (machine->options->log != KVMAS_KVM_LOG_RING)
		return 0;
	ring = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu.fd, offset);
	if (ring == MAP_FAILED)
		return -errno;
	machine->vcpu.ring = ring;
	return 0;
}

/* KVM's reset state is that of the processor: it begins at the ROM's last 16 bytes. */
int vcpu_new(struct machine *machine)
{
	struct vcpu *vcpu = &machine->vcpu;
	int rc;

	rc = open_vcpu(&machine->vm, vcpu);
	if (!rc)
		rc = map_ring(machine);
	if (!rc)
		rc = set_cpuid(machine);
	if (!rc)
		rc = handle_kicks();
	if (!rc)
		rc = kvmas_vcpu_add(machine->tie,
				    KVMAS_CONFIG(vcpu, .fd = vcpu->fd, .run = vcpu->run,
						 .run_size = vcpu->run_size,
						 .kick_signal = KICK_SIGNAL,
						 .dirty_ring = vcpu->ring),
				    &vcpu->tie);
	if (rc)
		complain("cannot make a vCPU: %s; see whether this KVM has room for one",
			 strerror(-rc));
	return rc;
}

void vcpu_free(struct machine *machine)
{
	struct vcpu *vcpu = &machine->vcpu;

	run_to_stop = NULL;
	if (vcpu->has_timer)
		timer_delete(vcpu->timer);
	kvmas_vcpu_del(vcpu->tie);
	if (vcpu->ring)
		munmap(vcpu->ring, RING_SIZE);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
}

/* An ioctl on the vCPU as the library wants it: inside the gate. As ioctl(2), or a negative errno.
 */
static int gated_ioctl(struct vcpu *vcpu, unsigned long request, void *arg)
{
	int rc = kvmas_gate_enter(vcpu->tie);

	if (rc)
		return rc;
	rc = ioctl(vcpu->fd, request, arg);
	if (rc < 0)
		rc = -errno;
	kvmas_gate_leave(vcpu->tie);
	return rc;
}

/* Taken by KVM before the next instruction of the guest, for this is the vCPU's own thread. */
void vcpu_raise_smi(struct machine *machine)
{
	int rc;

	if (machine->options->no_smm)
		return;
	rc = gated_ioctl(&machine->vcpu, KVM_SMI, NULL);
	if (rc < 0) {
		complain("KVM_SMI: %s; give --no-smm", strerror(-rc));
		machine_end(machine, 1);
		return;
	}
	machine->vcpu.smis++;
}

int vcpu_get_msr(struct machine *machine, uint32_t index, uint64_t *ret)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));
	int rc = -ENOENT;

	if (!msrs)
		return -ENOMEM;
	msrs->nmsrs = 1;
	msrs->entries[0].index = index;
	/* The number of those that KVM gave. */
	if (gated_ioctl(&machine->vcpu, KVM_GET_MSRS, msrs) == 1) {
		*ret = msrs->entries[0].data;
		rc = 0;
	}
	free(msrs);
	return rc;
}

static bool is_read_of_window(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write &&
	       run->mmio.phys_addr >= SMRAM_GPA && run->mmio.phys_addr < SMRAM_GPA + SMRAM_SIZE &&
	       run->mmio.len <= 8;
}

/* After the answer, so that a read's value is what the guest gets. */
static void keep_window_exit(struct machine *machine)
{
	struct vcpu *vcpu = &machine->vcpu;
	const struct kvm_run *run = vcpu->run;

	if (!is_read_of_window(run) || vcpu->nwindow == MAX_WINDOW_EXITS)
		return;
	vcpu->window[vcpu->nwindow++] = (struct window_exit){
		.in_smm = kvmas_vcpu_get_as_id(vcpu->tie) == 1,
		.smram = host_bridge_get_smram(machine),
		.value = load_le(run->mmio.data, run->mmio.len),
	};
}

/* KVM's or the processor's own number for it. */
static uint64_t detail_of(const struct kvm_run *run)
{
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		return run->internal.suberror;
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		return run->fail_entry.hardware_entry_failure_reason;
	return run->hw.hardware_exit_reason;
}

static void end_at_exit(struct machine *machine)
{
	const struct kvm_run *run = machine->vcpu.run;
	const char *text = "KVM returned for a reason that this program does not know";

	for (unsigned i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (endings[i].reason == run->exit_reason)
			text = endings[i].text;
	complain("%s: exit %u, detail 0x%llx, %s SMM; see the guest's output for how it came there",
		 text, run->exit_reason, (unsigned long long)detail_of(run),
		 kvmas_vcpu_get_as_id(machine->vcpu.tie) ? "in" : "outside");
	machine_end(machine, 1);
}

static void handle_exit(struct machine *machine)
{
	struct vcpu *vcpu = &machine->vcpu;
	int answered;

	vcpu->exits++;
	vcpu->exits_in_smm += kvmas_vcpu_get_as_id(vcpu->tie) == 1;
	answered = kvmas_vcpu_handle_exit(vcpu->tie);
	if (answered > 0) {
		keep_window_exit(machine);
		return;
	}
	if (!answered) {
		end_at_exit(machine);
		return;
	}
	complain("the library cannot answer exit %u: %s", vcpu->run->exit_reason,
		 strerror(-answered));
	machine_end(machine, 1);
}

static void hand_on_writes(struct machine *machine)
{
	struct kvmas_reader *reader = kvmas_vcpu_get_reader(machine->vcpu.tie);
	int rc = kvmas_kvm_drain(machine->tie, reader);

	if (!rc)
		return;
	complain("coalesced writes are lost: %s; give --no-channels", strerror(-rc));
	machine_end(machine, 1);
}

/* immediate_exit is taken back first: a tick that comes later sets it again. */
static void tick(struct machine *machine)
{
	machine->vcpu.run->immediate_exit = 0;
	hand_on_writes(machine);
	watch_tell(machine);
}

static void run_once(struct machine *machine)
{
	int rc = kvmas_vcpu_run(machine->vcpu.tie);

	if (!rc) {
		handle_exit(machine);
	} else if (rc == -EINTR) {
		tick(machine);
	} else if (rc < 0 && rc != -EAGAIN) {
		complain("KVM_RUN: %s; the VM is dead", strerror(-rc));
		machine_end(machine, 1);
	}
}

int vcpu_run(struct machine *machine)
{
	const struct options *options = machine->options;
	int rc;

	run_to_stop = machine->vcpu.run;
	rc = set_time_limit(options->timeout);
	if (!rc)
		rc = start_ticks(&machine->vcpu);
	if (rc) {
		complain("cannot set timers: %s", strerror(-rc));
		return 1;
	}
	while (!machine->ended && !time_is_up)
		run_once(machine);
	hand_on_writes(machine);
	if (!machine->ended) {
		complain("no end within %u seconds; give --timeout more, or see the guest's output",
			 options->timeout);
		machine_end(machine, 1);
	}
	if (options->until && !machine->until_seen && !machine->status) {
		complain("the guest ended without having printed \"%s\"", options->until);
		machine->status = 1;
	}
	return machine->status;
}

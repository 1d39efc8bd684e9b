/* SPDX-License-Identifier: MIT */
/*
 * kvmas-bench exit [--quick] [--check] [--csv]
 *
 * What the library adds to the round trip of an exit: kvmas_vcpu_run and kvmas_vcpu_handle_exit,
 * to a device that only counts, beside a loop around KVM_RUN that answers by itself. It is the same
 * vCPU, in turns of a thousand exits, whose guest does nothing but one access again and again:
 * memory read and written, a port read and written. Ratios are medians of those of each round.
 *
 * And what event channels save: the same guest writes a thousand times and halts. Its writes are
 * taken by an ioeventfd, or a coalesced zone, whose writes the device has got when time is up; or
 * each is an exit.
 *
 *   --quick  few rounds: a second in all
 *   --check  status 1 if a ratio is higher than 1.03, or, with channels, than 0.5
 *   --csv    lines of comma-separated values
 *
 * Status 77, and a line that says so, where there is no /dev/kvm.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <kvmas.h>

#include "bench.h"
#include "exit.h"
#include "stats.h"
#include "writer.h"

enum { ROUNDS = 201, ROUNDS_IN_SHORT = 11, TURN = 1000, DEVICE_SIZE = 0x1000 };

#define DEVICE_GPA UINT64_C(0xd0000000)
#define PORT 0x70
#define VALUE 0x5a

/* What a guest does; the address is in edx. */
struct task {
	bool is_port, is_write;
	unsigned char code[16];
};

static const struct task accesses[NEXIT_ACCESSES] = {
	{false, false, {0x8b, 0x02, 0xeb, 0xfc}}, /* mov (%edx), %eax; jmp */
	{false, true, {0x89, 0x02, 0xeb, 0xfc}},  /* mov %eax, (%edx); jmp */
	{true, false, {0xed, 0xeb, 0xfd}},        /* in (%dx), %eax; jmp */
	{true, true, {0xef, 0xeb, 0xfd}},         /* out %eax, (%dx); jmp */
};

/* mov $TURN, %ecx; 1: the access; dec %ecx; jnz 1b; hlt; and again */
static const struct task memory_writes = {
	false, true, {0xb9, 0xe8, 0x03, 0, 0, 0x89, 0x02, 0x49, 0x75, 0xfb, 0xf4, 0xeb, 0xf3}};
static const struct task port_writes = {
	true, true, {0xb9, 0xe8, 0x03, 0, 0, 0xef, 0x49, 0x75, 0xfc, 0xf4, 0xeb, 0xf4}};

static const struct {
	const struct task *task;
	bool is_zone;
} channels[NEXIT_CHANNELS] = {
	[EXIT_EVENT_MMIO] = {&memory_writes, false},
	[EXIT_EVENT_PORT] = {&port_writes, false},
	[EXIT_ZONE_MMIO] = {&memory_writes, true},
	[EXIT_ZONE_PORT] = {&port_writes, true},
};

struct rig {
	const struct task *task;
	struct writer guest;
	struct kvmas *kvmas;
	struct kvmas_space *space, *ports;
	struct kvmas_kvm *kvm;
	struct kvmas_vcpu *vcpu;
	struct kvmas_region *device; /* the one that the task is about; borrowed */
	uint64_t answered;           /* by the device */
	int eventfd;                 /* of the channels */
};

/* ---- the device, and its space ---- */

static int on_read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct rig *rig = opaque;

	(void)access;
	rig->answered++;
	*value = VALUE;
	return 0;
}

static int on_write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct rig *rig = opaque;

	(void)access;
	rig->answered += value == VALUE;
	return 0;
}

/* A container with one region, which it holds, at *gpa*. */
static struct kvmas_space *make_space(struct rig *rig, const struct kvmas_region_config *config,
				      uint64_t gpa, struct kvmas_region **root)
{
	struct kvmas_space *space;
	struct kvmas_region *region;

	must(kvmas_region_new(rig->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER, .name = "root",
					   .size = KVMAS_SIZE_MAX),
			      root));
	must(kvmas_region_new(rig->kvmas, config, &region));
	must(kvmas_region_add(*root, region, gpa, 0));
	kvmas_region_unref(region);
	if (rig->task->is_port == (gpa == PORT))
		rig->device = region;
	must(kvmas_space_new(rig->kvmas, "space", *root, &space));
	return space;
}

static void add_code(struct rig *rig, struct kvmas_region *root)
{
	struct kvmas_ram *ram;
	struct kvmas_region *region;

	must(kvmas_ram_new(rig->kvmas, KVMAS_CONFIG(ram, .name = "code", .size = DEVICE_SIZE),
			   &ram));
	memcpy(kvmas_ram_get_hva(ram), rig->task->code, sizeof(rig->task->code));
	must(kvmas_region_new(rig->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "code",
					   .size = DEVICE_SIZE, .ram = ram),
			      &region));
	must(kvmas_region_add(root, region, WRITER_CODE_GPA, 0));
	kvmas_region_unref(region);
	kvmas_ram_unref(ram);
}

static void make_spaces(struct rig *rig)
{
	const struct kvmas_ops ops = {
		.struct_size = sizeof(ops), .read = on_read, .write = on_write};
	const struct kvmas_region_config *device =
		KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "device",
			     .size = DEVICE_SIZE, .ops = &ops, .opaque = rig);
	struct kvmas_region *root, *port_root;

	rig->space = make_space(rig, device, DEVICE_GPA, &root);
	rig->ports = make_space(rig, device, PORT, &port_root);
	add_code(rig, root);
	kvmas_region_unref(root);
	kvmas_region_unref(port_root);
	must(kvmas_kvm_bind(rig->kvm, rig->space, 0));
	must(kvmas_kvm_set_pio_space(rig->kvm, rig->ports));
}

/* ---- life ---- */

static void set_registers(const struct rig *rig)
{
	struct kvm_regs regs;

	must(ioctl(rig->guest.vcpu_fd, KVM_GET_REGS, &regs) ? -errno : 0);
	regs.rax = VALUE;
	regs.rdx = rig->task->is_port ? PORT : DEVICE_GPA;
	must(ioctl(rig->guest.vcpu_fd, KVM_SET_REGS, &regs) ? -errno : 0);
}

static void rig_open(struct rig *rig, int kvm_fd, const struct task *task)
{
	*rig = (struct rig){.task = task, .eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	must(rig->eventfd < 0 ? -errno : 0);
	writer_open(&rig->guest, kvm_fd);
	must(kvmas_new(NULL, &rig->kvmas));
	must(kvmas_kvm_new(rig->kvmas, KVMAS_CONFIG(kvm, .vm_fd = rig->guest.vm_fd), &rig->kvm));
	make_spaces(rig);
	writer_add_vcpu(&rig->guest, kvm_fd, 0);
	set_registers(rig);
	must(kvmas_vcpu_add(rig->kvm,
			    KVMAS_CONFIG(vcpu, .fd = rig->guest.vcpu_fd, .run = rig->guest.run,
					 .run_size = rig->guest.run_size, .kick_signal = SIGUSR1),
			    &rig->vcpu));
}

static void rig_close(struct rig *rig)
{
	kvmas_vcpu_del(rig->vcpu);
	kvmas_kvm_unref(rig->kvm);
	kvmas_space_unref(rig->ports);
	kvmas_space_unref(rig->space);
	kvmas_unref(rig->kvmas);
	writer_close(&rig->guest);
	close(rig->eventfd);
}

/* ---- what is measured ---- */

/* Demand that the guest has made its one access, and nothing else. */
static inline unsigned char *expect_access(const struct rig *rig)
{
	struct kvm_run *run = rig->guest.run;

	if (rig->task->is_port) {
		bench_expect(run->exit_reason == KVM_EXIT_IO && run->io.port == PORT &&
			     run->io.size == 4 && run->io.count == 1);
		return (unsigned char *)run + run->io.data_offset;
	}
	bench_expect(run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr == DEVICE_GPA &&
		     run->mmio.len == 4);
	return run->mmio.data;
}

static void turn_bare(const struct rig *rig)
{
	for (unsigned i = 0; i < TURN; i++) {
		unsigned char *data;

		must(ioctl(rig->guest.vcpu_fd, KVM_RUN, 0) ? -errno : 0);
		data = expect_access(rig);
		if (!rig->task->is_write)
			memcpy(data, &(uint32_t){VALUE}, sizeof(uint32_t));
	}
}

static void turn_library(const struct rig *rig)
{
	for (unsigned i = 0; i < TURN; i++) {
		must(kvmas_vcpu_run(rig->vcpu));
		bench_expect(kvmas_vcpu_handle_exit(rig->vcpu) == 1);
	}
}

/* Nanoseconds for one exit. */
static double time_turn(const struct rig *rig, void (*turn)(const struct rig *rig))
{
	uint64_t start = clock_ns();

	turn(rig);
	return (double)(clock_ns() - start) / TURN;
}

static void measure_access(struct exit_line *line, int kvm_fd, enum exit_access access,
			   unsigned rounds)
{
	double bare[ROUNDS], library[ROUNDS], ratios[ROUNDS];
	struct rig rig;

	rig_open(&rig, kvm_fd, &accesses[access]);
	time_turn(&rig, turn_bare);
	time_turn(&rig, turn_library);
	for (unsigned i = 0; i < rounds; i++) {
		/* Whoever comes first in one round is second in the next. */
		if (i % 2)
			bare[i] = time_turn(&rig, turn_bare);
		library[i] = time_turn(&rig, turn_library);
		if (i % 2 == 0)
			bare[i] = time_turn(&rig, turn_bare);
		ratios[i] = library[i] / bare[i];
	}
	bench_expect(rig.answered == (uint64_t)(rounds + 1) * TURN);
	rig_close(&rig);
	*line = (struct exit_line){
		.library = stats_median(library, rounds),
		.bare = stats_median(bare, rounds),
		.ratio = stats_median(ratios, rounds),
	};
}

/* ---- channels ---- */

static void set_channel(const struct rig *rig, bool is_zone, bool there)
{
	const struct kvmas_ioeventfd_config *event =
		KVMAS_CONFIG(ioeventfd, .size = 4, .fd = rig->eventfd);

	if (is_zone)
		must(there ? kvmas_region_add_coalesced(rig->device, 0, 4, 0)
			   : kvmas_region_del_coalesced(rig->device, 0, 4));
	else
		must(there ? kvmas_region_add_ioeventfd(rig->device, event)
			   : kvmas_region_del_ioeventfd(rig->device, event));
}

/* Up to the halt, which nobody but this file answers. */
static void turn_to_halt(const struct rig *rig)
{
	int answered;

	do {
		must(kvmas_vcpu_run(rig->vcpu));
		answered = kvmas_vcpu_handle_exit(rig->vcpu);
		must(answered);
	} while (answered);
	bench_expect(rig->guest.run->exit_reason == KVM_EXIT_HLT);
	must(kvmas_kvm_drain(rig->kvm, kvmas_vcpu_get_reader(rig->vcpu)));
}

static uint64_t take_events(const struct rig *rig)
{
	uint64_t count = 0;

	if (read(rig->eventfd, &count, sizeof(count)) < 0)
		bench_expect(errno == EAGAIN);
	return count;
}

/* A channel that KVM did not take would be as slow as none: so it must have. */
static double time_channel(const struct rig *rig, bool is_zone)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};
	uint64_t before = rig->answered;
	double time;

	set_channel(rig, is_zone, true);
	kvmas_kvm_get_stats(rig->kvm, &stats);
	bench_expect(stats.channels_in_kvm == 1);
	time = time_turn(rig, turn_to_halt);
	bench_expect(take_events(rig) == (is_zone ? 0 : TURN));
	bench_expect(rig->answered - before == (is_zone ? TURN : 0));
	set_channel(rig, is_zone, false);
	return time;
}

static void measure_channel(struct exit_line *line, int kvm_fd, enum exit_channel channel,
			    unsigned rounds)
{
	double with[ROUNDS], without[ROUNDS], ratios[ROUNDS];
	bool is_zone = channels[channel].is_zone;
	struct rig rig;

	rig_open(&rig, kvm_fd, channels[channel].task);
	time_channel(&rig, is_zone);
	for (unsigned i = 0; i < rounds; i++) {
		if (i % 2)
			without[i] = time_turn(&rig, turn_to_halt);
		with[i] = time_channel(&rig, is_zone);
		if (i % 2 == 0)
			without[i] = time_turn(&rig, turn_to_halt);
		ratios[i] = with[i] / without[i];
	}
	rig_close(&rig);
	*line = (struct exit_line){
		.library = stats_median(with, rounds),
		.bare = stats_median(without, rounds),
		.ratio = stats_median(ratios, rounds),
	};
}

int bench_exit(int argc, char **argv)
{
	struct exit_results results = {.rounds = ROUNDS};
	bool csv = false, check = false;
	int kvm_fd;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--quick")) {
			results.rounds = ROUNDS_IN_SHORT;
		} else if (!strcmp(argv[i], "--csv")) {
			csv = true;
		} else if (!strcmp(argv[i], "--check")) {
			check = true;
		} else {
			fprintf(stderr, "usage: kvmas-bench exit [--quick] [--check] [--csv]\n");
			return BENCH_FAILED;
		}
	}
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0) {
		fprintf(stderr, "kvmas-bench: /dev/kvm: %s\n", strerror(errno));
		return BENCH_SKIPPED;
	}
	for (enum exit_access access = 0; access < NEXIT_ACCESSES; access++)
		measure_access(&results.lines[access], kvm_fd, access, results.rounds);
	for (enum exit_channel channel = 0; channel < NEXIT_CHANNELS; channel++)
		measure_channel(&results.channels[channel], kvm_fd, channel, results.rounds);
	close(kvm_fd);
	(csv ? exit_print_csv : exit_print_table)(stdout, &results);
	return check && exit_check(stderr, &results) ? BENCH_BROKEN : BENCH_OK;
}

/* SPDX-License-Identifier: MIT */
/*
 * The guest: its pages, its vCPUs, their threads.
 *
 *   page 1           the flat program
 *        2 + 2 v     control page of vCPU v; 3 + 2 v: that of its handler in SMM
 *       16 + 8 v     table of vCPU v; 32 + 8 v: that of its handler
 *     0x40 + 16 v    SMBASE of vCPU v: the handler 8 pages above it, the save area at its end
 *
 * The vCPUs are in flat 32-bit protected mode without paging, which every KVM can do.
 *
 * A thread that is to be stopped sees `stop`, or the immediate_exit that was set after it: so none
 * stays in KVM_RUN (Documentation/virt/kvm/api.rst, "immediate_exit").
 *
 * Read vcpu_main first.
 */
#include "guest.h"

#include "probe.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KICK_SIGNAL SIGUSR1
#define MSR_SMBASE 0x9e

int guest_system_fd = -1;

static uint32_t control_page(unsigned vcpu, unsigned as_id)
{
	return 2 + 2 * vcpu + as_id;
}

static uint32_t table_page(unsigned vcpu, unsigned as_id)
{
	return 16 + 8 * vcpu + 16 * as_id;
}

static uint32_t smbase_page(unsigned vcpu)
{
	return 0x40 + 16 * vcpu;
}

static struct code_control *control_of(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	return (struct code_control *)(g->bytes + (size_t)control_page(vcpu, as_id) * PAGE);
}

static struct code_entry *table_of(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	return (struct code_entry *)(g->bytes + (size_t)table_page(vcpu, as_id) * PAGE);
}

/* ---- what a vCPU thread does ---- */

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
	const struct code_control *control = control_of(g, vcpu->index, as_id);
	const struct code_entry *entry = (struct code_entry *)(g->bytes + control->bad_entry);

	get_into_trouble(vcpu,
			 "vCPU %u in space %u, round %u: kind %u at 0x%x is 0x%x, not 0x%x or 0x%x",
			 vcpu->index, as_id, control->rounds, entry->kind, entry->address,
			 control->bad_value, entry->a, entry->b);
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
	else
		get_into_trouble(vcpu, "vCPU %u: KVM_RUN ended with exit %u, detail 0x%llx",
				 vcpu->index, run->exit_reason,
				 (unsigned long long)run->hw.hardware_exit_reason);
}

static int run_past_the_gate(const struct vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	int r;

	while (!atomic_load(&vcpu->stop)) {
		r = vcpu->ungated ? run_past_the_gate(vcpu) : kvmas_vcpu_run(vcpu->tie);
		if (r == 0)
			take_exit(vcpu);
		else if (r == 1)
			atomic_fetch_add(&vcpu->gate_ends, 1);
		else if (r != -EINTR)
			get_into_trouble(vcpu, "KVM_RUN: %s", strerror(-r));
	}
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
	regs.rbp = (uint64_t)control_page(vcpu->index, 0) * PAGE;
	must(ioctl(vcpu->fd, KVM_SET_REGS, &regs));
}

/* A save area and a handler of its own for each vCPU, so that several can be in SMM. */
static void set_smbase(const struct vcpu *vcpu)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));

	assert_non_null(msrs);
	msrs->nmsrs = 1;
	msrs->entries[0].index = MSR_SMBASE;
	msrs->entries[0].data = (uint64_t)smbase_page(vcpu->index) * PAGE;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_MSRS, msrs), 1);
	free(msrs);
}

static void make_vcpu(struct guest *g, unsigned index)
{
	struct vcpu *vcpu = &g->vcpus[index];

	vcpu->guest = g;
	vcpu->index = index;
	vcpu->fd = ioctl(g->vm, KVM_CREATE_VCPU, index);
	assert_true(vcpu->fd >= 0);
	vcpu->run_size = (size_t)ioctl(guest_system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	assert_ptr_not_equal(vcpu->run, MAP_FAILED);
	set_flat_state(vcpu);
	if (g->nspaces > 1)
		set_smbase(vcpu);
	must(kvmas_vcpu_add(g->kvm,
			    KVMAS_CONFIG(vcpu, .fd = vcpu->fd, .run = vcpu->run,
					 .run_size = vcpu->run_size, .kick_signal = KICK_SIGNAL),
			    &vcpu->tie));
}

static void write_programs(struct guest *g)
{
	size_t size = (size_t)(code_smm_end - code_smm);

	memcpy(g->bytes + PAGE, code_flat, (size_t)(code_flat_end - code_flat));
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		unsigned char *handler = g->bytes + (size_t)(smbase_page(v) + 8) * PAGE;
		uint32_t control = control_page(v, 1) * PAGE;

		memcpy(handler, code_smm, size);
		memcpy(handler + CODE_SMM_CONTROL, &control, sizeof(control));
		for (unsigned as_id = 0; as_id < MAX_SPACES; as_id++)
			control_of(g, v, as_id)->table = table_page(v, as_id) * PAGE;
	}
}

static int guest_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct guest *g = data;
	const struct kvm_userspace_memory_region *region = arg;
	int result;

	if (request == KVM_SET_USER_MEMORY_REGION && region->slot >> 16 < MAX_SPACES)
		g->calls[region->slot >> 16]++;
	if (request != KVM_RUN && g->meddle && g->meddle(g, request, arg, &result))
		return result;
	result = ioctl(fd, request, arg);
	return result < 0 ? -errno : result;
}

static void guest_trace(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
			int result)
{
	struct guest *g = data;

	if (g->trace)
		g->trace(g, kind, slot, result);
}

static void make_tie(struct guest *g, unsigned flags)
{
	g->vm = ioctl(guest_system_fd, KVM_CREATE_VM, 0);
	assert_true(g->vm >= 0);
	must(kvmas_kvm_new(g->f->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = g->vm, .ioctl = guest_ioctl, .ioctl_data = g,
					.trace = guest_trace, .trace_data = g, .flags = flags),
			   &g->kvm));
	g->nspaces = kvmas_kvm_get_as_count(g->kvm);
	assert_in_range(g->nspaces, 1, MAX_SPACES);
}

static void make_map(struct guest *g, uint32_t npages)
{
	g->ram = make_block(g->f, "ram", npages);
	g->bytes = kvmas_ram_get_hva(g->ram);
	g->memory = make_region(g->f, (struct kvmas_region_config){.kind = KVMAS_REGION_RAM,
								   .name = "memory",
								   .size = (uint64_t)npages * PAGE,
								   .ram = g->ram});
	g->root[0] = make_container(g->f, "normal", KVMAS_SIZE_MAX);
	add(g->root[0], g->memory, 0, 0);
	if (g->nspaces > 1) {
		g->root[1] = make_container(g->f, "smm", KVMAS_SIZE_MAX);
		add(g->root[1], make_alias(g->f, "all", g->root[0], 0, KVMAS_SIZE_MAX), 0, 0);
	}
	for (unsigned i = 0; i < g->nspaces; i++) {
		g->space[i] = make_space(g->f, i ? "smm" : "normal", g->root[i]);
		if (kvmas_kvm_slots_free(g->kvm, i) > SPARE_ID)
			must(kvmas_kvm_reserve_ids(g->kvm, i, SPARE_ID, 1));
		must(kvmas_kvm_bind(g->kvm, g->space[i], i));
	}
}

struct guest *guest_new(void **state, struct guest_config config)
{
	struct guest *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	*(struct guest **)*state = g;
	g->f = fixture_new((struct kvmas_config){0});
	g->meddle = config.meddle;
	g->data = config.data;
	make_tie(g, config.flags);
	make_map(g, config.npages);
	write_programs(g);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		make_vcpu(g, v);
	return g;
}

static void free_guest(struct guest *g)
{
	guest_stop(g);
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		struct vcpu *vcpu = &g->vcpus[v];

		kvmas_vcpu_del(vcpu->tie);
		if (vcpu->run)
			munmap(vcpu->run, vcpu->run_size);
		if (vcpu->fd > 0)
			close(vcpu->fd);
	}
	kvmas_kvm_unref(g->kvm);
	kvmas_ram_unref(g->ram);
	fixture_free(g->f);
	close(g->vm);
	free(g);
}

int guest_setup(void **state)
{
	*state = calloc(1, sizeof(struct guest *));
	return *state ? 0 : -1;
}

int guest_teardown(void **state)
{
	struct guest **g = *state;

	if (*g)
		free_guest(*g);
	free(g);
	return 0;
}

/* ---- its map ---- */

struct kvmas_region *guest_put(struct guest *g, unsigned as_id, struct kvmas_region *region,
			       uint32_t page)
{
	add(g->root[as_id], region, (uint64_t)page * PAGE, 1);
	return region;
}

struct kvmas_region *guest_put_alias(struct guest *g, unsigned as_id, uint32_t page, uint32_t first,
				     uint32_t npages)
{
	struct kvmas_region *alias = make_alias(g->f, "alias", g->memory, (uint64_t)first * PAGE,
						(uint64_t)npages * PAGE);

	return guest_put(g, as_id, alias, page);
}

struct kvmas_region *guest_put_hole(struct guest *g, unsigned as_id, uint32_t page, uint32_t npages)
{
	struct kvmas_region *hole =
		make_region(g->f, (struct kvmas_region_config){.kind = KVMAS_REGION_RESERVED,
							       .name = "hole",
							       .size = (uint64_t)npages * PAGE});

	must(kvmas_region_set_enabled(hole, false));
	return guest_put(g, as_id, hole, page);
}

struct kvmas_kvm_stats guest_stats(const struct guest *g)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};

	kvmas_kvm_get_stats(g->kvm, &stats);
	return stats;
}

/* ---- its programs ---- */

void guest_expect_exits(struct guest *g, uint32_t first, uint32_t npages, bool writes_only)
{
	for (unsigned as_id = 0; as_id < g->nspaces; as_id++) {
		assert_true(g->nwindows < LENGTH(g->windows));
		g->windows[g->nwindows++] = (struct exit_window){as_id, first, npages, writes_only};
	}
}

void guest_enter(struct guest *g, unsigned vcpu, unsigned as_id, struct code_entry entry)
{
	struct code_control *control = control_of(g, vcpu, as_id);

	assert_true(control->count < MAX_ENTRIES);
	table_of(g, vcpu, as_id)[control->count++] = entry;
}

struct code_entry guest_word(struct guest *g, uint32_t page, uint32_t offset, uint32_t kind)
{
	uint32_t address = page * PAGE + offset;
	/* Counting up from here, one word does not come near another's in a test's time. */
	uint32_t value = address * UINT32_C(2654435761);

	memcpy(g->bytes + address, &value, sizeof(value));
	return (struct code_entry){.address = address, .kind = kind, .a = value, .b = value};
}

void guest_write_code(unsigned char *at, uint32_t value)
{
	at[0] = 0xb8; /* mov $value, %eax */
	memcpy(at + 1, &value, sizeof(value));
	at[5] = 0xc3; /* ret */
}

const struct code_control *guest_control(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	return control_of(g, vcpu, as_id);
}

uint32_t guest_rounds(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	return __atomic_load_n(&control_of(g, vcpu, as_id)->rounds, __ATOMIC_RELAXED);
}

void guest_start(struct guest *g, const uint32_t turn_every[MAX_VCPUS])
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		struct vcpu *vcpu = &g->vcpus[v];

		control_of(g, v, 0)->turn_every = turn_every[v];
		control_of(g, v, 0)->left = turn_every[v];
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

static bool have_done(const struct guest *g, const uint32_t before[MAX_VCPUS], uint32_t rounds)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		if (guest_rounds(g, v, 0) - before[v] < rounds)
			return false;
	}
	return true;
}

void guest_wait_rounds(struct guest *g, uint32_t rounds)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	uint32_t before[MAX_VCPUS];

	for (unsigned v = 0; v < MAX_VCPUS; v++)
		before[v] = guest_rounds(g, v, 0);
	while (!guest_wrong(g) && !have_done(g, before, rounds))
		nanosleep(&moment, NULL);
}

const char *guest_wrong(const struct guest *g)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		const struct vcpu *vcpu = &g->vcpus[v];

		if (atomic_load(&vcpu->in_trouble))
			return vcpu->trouble;
		if (atomic_load(&vcpu->stray_exits))
			return vcpu->stray;
	}
	return NULL;
}

void guest_end_well(struct guest *g)
{
	const char *wrong;

	guest_stop(g);
	wrong = guest_wrong(g);
	if (wrong)
		fail_msg("%s", wrong);
	assert_slots_in_step(g);
}

/* ---- running the tests ---- */

static void on_kick(int signal)
{
	(void)signal;
}

static int give_up(const char *why)
{
	const char *required = getenv("KVMAS_REQUIRE_KVM");
	bool is_failure = required && strcmp(required, "1") == 0;

	print_message("live: %s: %s\n", is_failure ? "failed" : "skipped", why);
	return is_failure;
}

static unsigned count_spaces(void)
{
	int vm = ioctl(guest_system_fd, KVM_CREATE_VM, 0);
	int spaces = vm < 0 ? 0 : ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE);

	if (vm >= 0)
		close(vm);
	return spaces > 0 ? (unsigned)spaces : 1;
}

int guest_main(const char *name, const struct CMUnitTest *tests, size_t ntests, unsigned spaces)
{
	/* Without SA_RESTART, so that KVM_RUN returns. */
	struct sigaction action = {.sa_handler = on_kick};
	int r;

	guest_system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (guest_system_fd < 0)
		return give_up(strerror(errno));
	if (count_spaces() < spaces) {
		close(guest_system_fd);
		return give_up(
			"this KVM has too few address spaces; tests/lab/run has one with two");
	}
	sigaction(KICK_SIGNAL, &action, NULL);
	cmocka_set_test_filter(getenv("KVMAS_TEST"));
	r = _cmocka_run_group_tests(name, tests, ntests, NULL, NULL);
	close(guest_system_fd);
	return r ? 1 : 0;
}

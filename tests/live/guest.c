/* SPDX-License-Identifier: MIT */
/*
 * The guest: its pages, its map, its programs. What its vCPUs do is in vcpu.c.
 *
 *   page 1           the flat program
 *        2 + 2 v     control page of vCPU v; 3 + 2 v: that of its handler in SMM
 *       16 + 8 v     table of vCPU v; 32 + 8 v: that of its handler
 *       48 ... 63    the pages to which all of them scatter writes, a word each
 *     0x40 + 16 v    SMBASE of vCPU v: the handler 8 pages above it, the save area at its end
 */
#include "guest.h"

#include "kvm/uapi.h"
#include "probe.h"
#include "vcpu.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Of targets, in all. */
enum { TARGETS_PAGE = 48, MAX_TARGETS = 16 * PAGE / sizeof(uint32_t) };

int guest_system_fd = -1;
_Thread_local bool guest_is_syncing;

uint32_t guest_control_page(unsigned vcpu, unsigned as_id)
{
	return 2 + 2 * vcpu + as_id;
}

uint32_t guest_smbase_page(unsigned vcpu)
{
	return 0x40 + 16 * vcpu;
}

static uint32_t table_page(unsigned vcpu, unsigned as_id)
{
	return 16 + 8 * vcpu + 16 * as_id;
}

struct code_control *guest_control(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	return (struct code_control *)(g->bytes + (size_t)guest_control_page(vcpu, as_id) * PAGE);
}

static struct code_entry *table_of(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	return (struct code_entry *)(g->bytes + (size_t)table_page(vcpu, as_id) * PAGE);
}

/* ---- making it ---- */

static void write_programs(struct guest *g)
{
	size_t size = (size_t)(code_smm_end - code_smm);

	memcpy(g->bytes + PAGE, code_flat, (size_t)(code_flat_end - code_flat));
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		unsigned char *handler = g->bytes + (size_t)(guest_smbase_page(v) + 8) * PAGE;
		uint32_t control = guest_control_page(v, 1) * PAGE;

		memcpy(handler, code_smm, size);
		memcpy(handler + CODE_SMM_CONTROL, &control, sizeof(control));
		for (unsigned as_id = 0; as_id < MAX_SPACES; as_id++)
			guest_control(g, v, as_id)->table = table_page(v, as_id) * PAGE;
	}
}

static int guest_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct guest *g = data;
	const struct kvm_userspace_memory_region *region = arg;
	int result;

	/* The second begins like the first. */
	if ((request == KVM_SET_USER_MEMORY_REGION || request == KVM_SET_USER_MEMORY_REGION2) &&
	    region->slot >> 16 < MAX_SPACES)
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

static void make_tie(struct guest *g, const struct guest_config *config)
{
	g->ring_size = config->log == KVMAS_KVM_LOG_RING ? RING_SIZE : 0;
	g->vm = ioctl(guest_system_fd, KVM_CREATE_VM, config->vm_type);
	assert_true(g->vm >= 0);
	must(kvmas_kvm_new(g->f->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = g->vm, .ioctl = guest_ioctl, .ioctl_data = g,
					.trace = guest_trace, .trace_data = g,
					.flags = config->flags, .log = config->log,
					.ring_size = g->ring_size),
			   &g->kvm));
	g->nspaces = kvmas_kvm_get_as_count(g->kvm);
	assert_in_range(g->nspaces, 1, MAX_SPACES);
}

static void make_map(struct guest *g, uint32_t npages, uint32_t max_npages)
{
	must(kvmas_ram_new(g->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "ram", .size = (uint64_t)npages * PAGE,
					.max_size = (uint64_t)max_npages * PAGE),
			   &g->ram));
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
	g->f = fixture_new(config.kvmas);
	g->meddle = config.meddle;
	g->data = config.data;
	pthread_mutex_init(&g->hold_lock, NULL);
	pthread_cond_init(&g->hold_changed, NULL);
	make_tie(g, &config);
	make_map(g, config.npages, config.max_npages);
	write_programs(g);
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		vcpu_make(g, v);
		if (!config.untied)
			vcpu_tie(&g->vcpus[v]);
	}
	return g;
}

static void free_guest(struct guest *g)
{
	guest_stop(g);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		vcpu_end(&g->vcpus[v]);
	kvmas_kvm_unref(g->kvm);
	kvmas_ram_unref(g->ram);
	fixture_free(g->f);
	pthread_cond_destroy(&g->hold_changed);
	pthread_mutex_destroy(&g->hold_lock);
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

int guest_sync(struct guest *g, unsigned as_id, uint64_t gpa, uint64_t size)
{
	int err;

	if (g->before_harvest)
		g->before_harvest(g);
	guest_is_syncing = true;
	err = kvmas_space_sync(g->space[as_id], gpa, size);
	guest_is_syncing = false;
	return err;
}

int guest_sync_memory(struct guest *g, uint64_t offset, uint64_t size)
{
	int err;

	if (g->before_harvest)
		g->before_harvest(g);
	guest_is_syncing = true;
	err = kvmas_region_sync(g->memory, offset, size);
	guest_is_syncing = false;
	return err;
}

int guest_sync_all(struct guest *g)
{
	int err = 0;

	for (unsigned i = 0; i < g->nspaces && !err; i++)
		err = guest_sync(g, i, 0, KVMAS_SIZE_MAX);
	return err;
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
	struct code_control *control = guest_control(g, vcpu, as_id);

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

void guest_add_target(struct guest *g, uint32_t page)
{
	uint32_t *targets = (uint32_t *)(g->bytes + (size_t)TARGETS_PAGE * PAGE);

	assert_true(g->ntargets < MAX_TARGETS);
	targets[g->ntargets++] = page * PAGE;
}

void guest_scatter(struct guest *g, unsigned vcpu, unsigned as_id, uint32_t writes)
{
	struct code_control *control = guest_control(g, vcpu, as_id);
	unsigned lane = vcpu * MAX_SPACES + as_id;

	assert_true(g->ntargets > 0);
	control->writes = writes;
	control->random = lane * UINT32_C(0x3c6ef372);
	control->ntargets = g->ntargets;
	control->targets = TARGETS_PAGE * PAGE;
	control->lane = SCATTER_OFFSET + lane * (unsigned)sizeof(uint32_t);
	control->number = lane << 30;
}

uint32_t guest_writes(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	uint32_t number = __atomic_load_n(&guest_control(g, vcpu, as_id)->number, __ATOMIC_RELAXED);

	return number & 0x3fffffff;
}

uint32_t guest_rounds(const struct guest *g, unsigned vcpu, unsigned as_id)
{
	return __atomic_load_n(&guest_control(g, vcpu, as_id)->rounds, __ATOMIC_RELAXED);
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
